//! Images: how they are called, where they come from.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::project::Ulimit;
use crate::time::Millis;

/// The longest name of an image, in bytes: what registries take, with a tag and a digest.
const LENGTH_MAX: usize = 255 + 128 + 142;

/// Why a text is no name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not an image: {why}")]
pub struct InvalidImage {
    shown: String,
    why: &'static str,
}

impl InvalidImage {
    /// The broken rule, without the name.
    pub fn why(&self) -> &'static str {
        self.why
    }
}

/// The name of an image: `[registry/]path[:tag][@algorithm:hex]`. Without a tag and a digest it is `latest`
/// (`spec/mahler.md 1.A.1`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// As it was written.
    text: String,
    /// How long the part before tag and digest is.
    name: usize,
    /// Where the tag is.
    tag: Option<(usize, usize)>,
    /// Where the digest begins.
    digest: Option<usize>,
}

impl ImageRef {
    /// The registry that is meant where none is said.
    pub const DOCKER_HUB: &'static str = "docker.io";

    /// Reads a name. Errors: the rule it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidImage> {
        let refuse = |why| {
            let shown = text.chars().take(80).flat_map(char::escape_debug).collect();
            Err(InvalidImage { shown, why })
        };
        if text.len() > LENGTH_MAX {
            return refuse("it is too long");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let path_at = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[path_at..].find(':').map(|at| at + path_at) {
            Some(colon) => (&rest[..colon], Some((colon + 1, rest.len()))),
            None => (rest, None),
        };
        if let Some(why) = wrong_name(name) {
            return refuse(why);
        }
        if let Some((from, to)) = tag
            && !is_tag(&rest[from..to])
        {
            return refuse("its tag must be letters, digits, `_`, `.` and `-`, at most 128 of them");
        }
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return refuse("its digest must be `sha256:` and at least 32 hexadecimal digits");
        }
        let digest = digest.map(|digest| text.len() - digest.len());
        Ok(Self { name: name.len(), tag, digest, text: text.to_owned() })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Without tag and digest.
    pub fn name(&self) -> &str {
        &self.text[..self.name]
    }

    /// The tag that is meant; `None` where a digest says all.
    pub fn tag(&self) -> Option<&str> {
        match (self.tag, self.digest) {
            (Some((from, to)), _) => Some(&self.text[from..to]),
            (None, Some(_)) => None,
            (None, None) => Some("latest"),
        }
    }

    /// `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.map(|from| &self.text[from..])
    }

    /// The host (and port) of its registry.
    pub fn registry(&self) -> &str {
        registry_of(self.name()).map_or(Self::DOCKER_HUB, |(registry, _)| registry)
    }

    /// With what is meant where nothing is said: `alpine` is `alpine:latest`.
    pub fn full(&self) -> String {
        match (self.digest, self.tag()) {
            (None, Some(tag)) => format!("{}:{tag}", self.name()),
            _ => self.text.clone(),
        }
    }
}

/// The first part of a name is a host where it could not be one of a path.
fn registry_of(name: &str) -> Option<(&str, &str)> {
    let (first, path) = name.split_once('/')?;
    let is_host = first.contains(['.', ':']) || first == "localhost" || first.starts_with('[');
    is_host.then_some((first, path))
}

fn wrong_name(name: &str) -> Option<&'static str> {
    let (registry, path) = registry_of(name).map_or((None, name), |(host, path)| (Some(host), path));
    if path.is_empty() {
        return Some("it has no name");
    }
    if registry.is_some_and(|registry| !is_host(registry)) {
        return Some("its registry must be a host, with a port or without one");
    }
    if name.len() > 255 {
        return Some("its name is longer than 255 characters");
    }
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Some("its name must be in lower case");
    }
    let is_good = path.split('/').all(is_path_part);
    (!is_good)
        .then_some("its name may have lower-case letters and digits, and `.`, `_`, `__`, `-` between them")
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<core::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("v6", port)
        }
        None => host.find(':').map_or((host, ""), |at| host.split_at(at)),
    };
    let port_is_good =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let part = |part: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        part.bytes().all(inner) && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    port_is_good && name.split('.').all(part)
}

/// Letters and digits, with single signs (or `__`, or any number of `-`) between them.
fn is_path_part(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (part.bytes().next(), part.bytes().next_back()) else { return false };
    let mut separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_separator = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    is_word(first) && is_word(last) && separators.all(is_separator)
}

fn is_tag(tag: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=128).contains(&tag.len()) && tag.bytes().all(inner) && !tag.starts_with(['.', '-'])
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let is_algorithm = algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
        && algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'_' | b'-'));
    is_algorithm && (32..=128).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

impl std::fmt::Display for ImageRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for ImageRef {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        Self::parse(text)
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ImageRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ImageRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "The name of an image: `[registry/]path[:tag][@algorithm:hex]`.",
            "type": "string",
        })
    }
}

/// When an image is asked for at its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Where it is not there.
    #[default]
    Missing,
    /// At each `up`.
    Always,
    /// Never: it has to be there.
    Never,
    /// Never: it is built at each `up`.
    Build,
    /// At an `up`, where it was asked for longer ago than this.
    Every(Millis),
}

impl PullPolicy {
    /// Nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How an image is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// An absolute directory of whoever asks, or an address the engine fetches from.
    pub context: String,
    /// The file of instructions, below that; `Dockerfile` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// The instructions themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile_inline: Option<String>,
    /// Variables of the instructions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// Images of which steps are taken over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache_from: Vec<String>,
    /// Names it knows by itself, each with its addresses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Words for people and tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Which network it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// No step is taken over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_cache: bool,
    /// For which platform; one at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Images it rests on are asked for at their registry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pull: bool,
    /// Bytes of `/dev/shm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<u64>,
    /// Further names it is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<ImageRef>,
    /// The stage that is built; the last where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Limits of the kernel for each process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
}

impl Build {
    /// The engine fetches the context by itself, from an address.
    pub fn is_fetched(&self) -> bool {
        Self::is_address(&self.context)
    }

    /// A context that is no directory of whoever asks.
    pub(crate) fn is_address(context: &str) -> bool {
        context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_registry_a_path_a_tag_and_a_digest() {
        let hex = "a".repeat(64);
        let both = format!("localhost:5000/team/web:v1@sha256:{hex}");
        let digest = format!("sha256:{hex}");
        let rows = [
            ("alpine", "docker.io", "alpine", Some("latest"), None, "alpine:latest"),
            ("alpine:3.13", "docker.io", "alpine", Some("3.13"), None, "alpine:3.13"),
            ("team/web", "docker.io", "team/web", Some("latest"), None, "team/web:latest"),
            (
                "127.0.0.1:5000/web",
                "127.0.0.1:5000",
                "127.0.0.1:5000/web",
                Some("latest"),
                None,
                "127.0.0.1:5000/web:latest",
            ),
            ("[::1]:5000/web:v1", "[::1]:5000", "[::1]:5000/web", Some("v1"), None, "[::1]:5000/web:v1"),
            (
                both.as_str(),
                "localhost:5000",
                "localhost:5000/team/web",
                Some("v1"),
                Some(digest.as_str()),
                both.as_str(),
            ),
        ];
        for (text, registry, name, tag, digest, full) in rows {
            let image = ImageRef::parse(text).unwrap();
            assert_eq!((image.registry(), image.name()), (registry, name), "{text}");
            assert_eq!((image.tag(), image.digest()), (tag, digest), "{text}");
            assert_eq!((image.full().as_str(), image.as_str()), (full, text));
        }
        let pinned = ImageRef::parse(&format!("web@sha256:{hex}")).unwrap();
        assert_eq!((pinned.tag(), pinned.full()), (None, format!("web@sha256:{hex}")));
    }

    #[test]
    fn what_is_no_name_says_which_rule_it_breaks() {
        for (text, why) in [
            ("", "no name"),
            ("Web", "lower case"),
            ("web:", "tag"),
            ("web:-x", "tag"),
            ("web:a b", "tag"),
            ("we b", "lower-case letters"),
            ("/web", "lower-case letters"),
            ("web/", "lower-case letters"),
            ("a..b", "lower-case letters"),
            ("a___b", "lower-case letters"),
            ("-a", "lower-case letters"),
            ("web@sha256:abc", "digest"),
            ("web@", "digest"),
            ("web@a@b", "digest"),
            ("localhost:99999/web", "registry"),
            ("a_b.c/web", "registry"),
            ("localhost/", "no name"),
            ("ünicode", "lower-case letters"),
        ] {
            let error = ImageRef::parse(text).unwrap_err();
            assert!(error.why().contains(why), "{text}: {error}");
        }
        assert!(ImageRef::parse(&"a/".repeat(5000)).unwrap_err().why().contains("too long"));
    }

    #[test]
    fn it_travels_as_a_text_and_a_wrong_one_is_refused() {
        let image: ImageRef = serde_json::from_str("\"web:v1\"").unwrap();
        assert_eq!(serde_json::to_string(&image).unwrap(), "\"web:v1\"");
        let error = serde_json::from_str::<ImageRef>("\"We b\"").unwrap_err().to_string();
        assert!(error.contains("`We b` is not an image"), "{error}");
    }
}

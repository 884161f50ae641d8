//! Reads where an image comes from.

use super::{bytes, flag, pairs, text, texts};
use crate::file::document;
use crate::file::place::Span;
use crate::file::process;
use crate::file::read::At;
use crate::file::report::{Problem, shown};
use crate::file::service::Reader;
use crate::file::tree::{Entry, Key, Node, Value};
use crate::project::container::{Build, ImageRef, PullPolicy};
use crate::time::Millis;

const DAY: u64 = 24 * 3600;

/// What was checked by the grammar already.
pub(super) fn pull_policy(text: &str) -> Option<PullPolicy> {
    Some(match text {
        "always" => PullPolicy::Always,
        "build" => PullPolicy::Build,
        "missing" | "if_not_present" => PullPolicy::Missing,
        "never" => PullPolicy::Never,
        "daily" => PullPolicy::Every(Millis::seconds(DAY)),
        "weekly" => PullPolicy::Every(Millis::seconds(7 * DAY)),
        every => {
            let (mut seconds, mut number) = (0_u64, 0_u64);
            for c in every.strip_prefix("every_")?.chars() {
                let unit = match c {
                    'w' => 7 * DAY,
                    'd' => DAY,
                    'h' => 3600,
                    'm' => 60,
                    's' => 1,
                    digit => {
                        number = number.saturating_mul(10).saturating_add(u64::from(digit.to_digit(10)?));
                        continue;
                    }
                };
                seconds = seconds.saturating_add(std::mem::take(&mut number).saturating_mul(unit));
            }
            PullPolicy::Every(Millis(seconds.saturating_mul(1000)))
        }
    })
}

impl<'a> Reader<'_, '_, 'a> {
    /// What the container is made of. One that is built and has no name is called after its service.
    pub(super) fn image(&mut self, service: &Node<'a>, key: &Key<'a>) -> Option<ImageRef> {
        if let Some(image) = service.get("image") {
            return ImageRef::parse(image.as_text()?).ok();
        }
        let name = format!("{}-{}", self.app, key.text).to_ascii_lowercase();
        match ImageRef::parse(&name) {
            Ok(image) => Some(image),
            Err(wrong) => {
                self.report.error(key.span, || {
                    let service = shown(key.text);
                    let name = shown(&name);
                    Problem::new(format!(
                        "Service `{service}` is built and has no `image`, and what it would be called is no \
                         name of one: `{name}`"
                    ))
                    .hint(format!("{}; give it an `image`", wrong.why()))
                });
                None
            }
        }
    }

    pub(super) fn build(&mut self, node: &Node<'a>, service: &Node<'a>, at: &At<'_>) -> Option<Build> {
        let Value::Map(_) = node.value else { return None };
        let platforms = texts(node.get("platforms"));
        if let Some(node) = node.get("platforms").filter(|_| platforms.len() > 1) {
            self.report.error(node.span, || {
                let what =
                    format!("`{at}.build.platforms` has {} platforms, and one is built", platforms.len());
                Problem::new(what).hint("keep the one this machine has".to_owned())
            });
        }
        let tags = texts(node.get("tags"));
        Some(Build {
            context: self.build_context(node),
            dockerfile: text(node, "dockerfile"),
            dockerfile_inline: text(node, "dockerfile_inline"),
            args: self.build_args(node.get("args")),
            cache_from: texts(node.get("cache_from")),
            extra_hosts: super::network::hosts(node.get("extra_hosts")),
            labels: pairs(node.get("labels")),
            network: text(node, "network"),
            no_cache: flag(node, "no_cache").unwrap_or(false),
            platform: platforms.into_iter().next().or_else(|| text(service, "platform")),
            pull: flag(node, "pull").unwrap_or(false),
            shm_size: bytes(node, "shm_size"),
            tags: tags.iter().filter_map(|tag| ImageRef::parse(tag).ok()).collect(),
            target: text(node, "target"),
            ulimits: node.get("ulimits").map(|node| process::ulimits(node)).unwrap_or_default(),
        })
    }

    /// A directory of whoever asks; without one, that of the file.
    fn build_context(&self, build: &Node<'a>) -> String {
        match build.get("context").and_then(|node| Some((node.span, node.as_text()?))) {
            Some((_, text)) if Build::is_address(text) => text.to_owned(),
            Some((span, text)) => self.absolute(span, text),
            None => self.absolute(build.span, "."),
        }
    }

    fn build_args(&self, node: Option<&Node<'a>>) -> std::collections::BTreeMap<String, String> {
        let entries = node.map(|node| node.entries()).unwrap_or_default();
        let value = |Entry { key, value }: &Entry<'a>| match value.as_text() {
            Some(text) => Some(text.to_owned()),
            None if !value.is_null() => Some(String::new()),
            None => Some(self.report.sources.file(key.span.file)?.variables.get(key.text)?.into_owned()),
        };
        entries.iter().filter_map(|entry| Some((entry.key.text.to_owned(), value(entry)?))).collect()
    }

    /// The absolute path of this machine that is meant by one.
    pub(super) fn absolute(&self, span: Span, path: &str) -> String {
        document::Light { report: &*self.report, interpolated: true }.absolute(span, path)
    }
}

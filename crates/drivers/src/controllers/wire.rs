//! What is said to a controller and by it, in JSON (`spec/nixmade.md` 2.E).
//!
//! Answers are read as the first such engine reads them: names of fields whatever their case, `null` for
//! nothing, what is not known passed over. No more is kept of one than is looked at; and as what is passed over
//! is read without recursion, and what is looked at has a fixed depth, none is too deep.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::Serialize;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use upbeat_model::rollout::{Report, TargetId, Version};

/// A target as it is told about.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClientState<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_error: bool,
}

impl<'a> From<&'a Report> for ClientState<'a> {
    fn from(report: &'a Report) -> Self {
        Self {
            name: &report.target.name,
            group: &report.target.group,
            tags: &report.labels,
            version: report.version.as_ref().map_or("", Version::as_str),
            message: &report.message,
            is_error: report.is_error,
        }
    }
}

#[derive(Serialize)]
struct Many<'a> {
    targets: Vec<ClientState<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
}

#[derive(Serialize)]
struct One<'a> {
    target: ClientState<'a>,
}

/// These targets, and how many of them are asked for, where that matters.
pub(super) fn about_many(targets: &[Report], count: Option<usize>) -> Result<Vec<u8>, String> {
    let many = Many { targets: targets.iter().map(ClientState::from).collect(), count };
    serde_json::to_vec(&many).map_err(|error| error.to_string())
}

/// This target.
pub(super) fn about_one(target: &Report) -> Result<Vec<u8>, String> {
    serde_json::to_vec(&One { target: target.into() }).map_err(|error| error.to_string())
}

/// What is in an object, field by field. A field that is there twice is what it was last.
trait Fields<'de>: Default {
    /// Takes the value of this field. `false`: it is none of these, and its value was not taken.
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// An object of these fields; nothing is one without any.
struct Object<T>(T);

impl<'de, T: Fields<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit<T>(T);
        impl<'de, T: Fields<'de>> Visitor<'de> for Visit<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Object(self.0))
            }

            fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
                while let Some(name) = map.next_key::<String>()? {
                    if !self.0.take(&name, &mut map)? {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Object(self.0))
            }
        }
        deserializer.deserialize_any(Visit(T::default()))
    }
}

fn into<'de, A: MapAccess<'de>, T: Deserialize<'de>>(field: &mut T, map: &mut A) -> Result<bool, A::Error> {
    // `null` leaves it as it is.
    if let Some(value) = map.next_value::<Option<T>>()? {
        *field = value;
    }
    Ok(true)
}

/// A target that an answer names.
#[derive(Default)]
struct Named {
    name: String,
    group: String,
    version: String,
    message: String,
    is_error: bool,
    tags: Option<BTreeMap<String, Option<String>>>,
}

impl<'de> Fields<'de> for Named {
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match () {
            () if is("name") => into(&mut self.name, map),
            () if is("group") => into(&mut self.group, map),
            () if is("version") => into(&mut self.version, map),
            () if is("message") => into(&mut self.message, map),
            () if is("isError") => into(&mut self.is_error, map),
            () if is("tags") => {
                self.tags = map.next_value()?;
                Ok(true)
            }
            () => Ok(false),
        }
    }
}

/// An answer that chooses.
#[derive(Default)]
struct Chosen(Vec<Named>);

/// Looked at one by one: a long list of nothing is refused at the first of it.
struct List<'a>(&'a mut Vec<Named>);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of targets")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.clear();
        while let Some(Object(named)) = list.next_element::<Object<Named>>()? {
            if named.name.is_empty() {
                return Err(de::Error::custom("a target without a name"));
            }
            self.0.push(named);
        }
        Ok(())
    }
}

impl<'de> Fields<'de> for Chosen {
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        if !name.eq_ignore_ascii_case("targets") {
            return Ok(false);
        }
        map.next_value_seed(List(&mut self.0))?;
        Ok(true)
    }
}

/// An answer that judges.
#[derive(Default)]
struct Judged {
    status: String,
    message: String,
}

impl<'de> Fields<'de> for Judged {
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match () {
            () if name.eq_ignore_ascii_case("status") => into(&mut self.status, map),
            () if name.eq_ignore_ascii_case("message") => into(&mut self.message, map),
            () => Ok(false),
        }
    }
}

fn read<'de, T: Fields<'de>>(answer: &'de [u8]) -> Result<T, String> {
    let read = serde_json::from_slice::<Object<T>>(answer);
    let Object(fields) = read.map_err(|error| match answer.is_empty() {
        true => "its answer is empty".to_owned(),
        false => format!("its answer is not the JSON that was asked for: {error}"),
    })?;
    Ok(fields)
}

/// Whether it is well.
///
/// Errors: it is not, as it says, or it says nothing that could be understood.
pub(super) fn verdict(answer: &[u8]) -> Result<(), String> {
    let Judged { status, message } = read(answer)?;
    match (status.as_str(), message.as_str()) {
        (status, _) if status.eq_ignore_ascii_case("ok") => Ok(()),
        ("", "") => Err("its answer has no `status`".into()),
        ("", message) => Err(format!("its answer has no `status`: {message}")),
        (status, "") => Err(status.to_owned()),
        (status, message) => Err(format!("{status} {message}")),
    }
}

/// What becomes of targets in an answer that were not offered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// They are new: who selects may want targets that are not there yet.
    Kept,
    /// They are passed over.
    PassedOver,
}

/// The targets that were chosen of these, each once, in the order of the answer. What it says of a target that
/// was offered is not believed, but for its labels, if it has any.
///
/// Errors, in words: it says nothing that could be understood.
pub(super) fn choice(answer: &[u8], offered: &[Report], unknown: Unknown) -> Result<Vec<Report>, String> {
    let Chosen(named) = read(answer)?;
    let offers = Offers::of(offered);
    let mut seen = HashSet::new();
    let mut chosen = Vec::new();
    for named in named {
        let report = match offers.meant(&named)? {
            Some(report) => {
                let mut report = report.clone();
                if let Some(tags) = named.tags {
                    report.labels = labels(tags);
                }
                report
            }
            None if unknown == Unknown::PassedOver => continue,
            None => new(named)?,
        };
        if seen.insert(report.target.clone()) {
            chosen.push(report);
        }
    }
    Ok(chosen)
}

fn labels(tags: BTreeMap<String, Option<String>>) -> BTreeMap<String, String> {
    tags.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect()
}

fn new(named: Named) -> Result<Report, String> {
    let target = TargetId::new(&named.group, &named.name);
    let target = target.map_err(|error| format!("its answer names a target whose {error}"))?;
    let version = match named.version.as_str() {
        "" => None,
        text => Some(Version::new(text).map_err(|error| format!("its answer: `{target}`: {error}"))?),
    };
    let labels = labels(named.tags.unwrap_or_default());
    Ok(Report { target, version, is_error: named.is_error, message: named.message, labels, failed: false })
}

/// The targets that were offered, as an answer may name them.
struct Offers<'a> {
    whole: HashMap<(&'a str, &'a str), &'a Report>,
    /// By their name alone; none: there are several.
    by_name: HashMap<&'a str, Option<&'a Report>>,
}

impl<'a> Offers<'a> {
    fn of(offered: &'a [Report]) -> Self {
        let whole = offered
            .iter()
            .map(|report| ((report.target.group.as_str(), report.target.name.as_str()), report));
        let mut by_name = HashMap::new();
        for report in offered {
            let one = by_name.entry(report.target.name.as_str()).or_insert(Some(report));
            if one.is_some_and(|one| one.target != report.target) {
                *one = None;
            }
        }
        Self { whole: whole.collect(), by_name }
    }

    /// Controllers of the first such engine name targets without their group, as it looked at names alone.
    fn meant(&self, named: &Named) -> Result<Option<&'a Report>, String> {
        if let Some(report) = self.whole.get(&(named.group.as_str(), named.name.as_str())) {
            return Ok(Some(report));
        }
        match self.by_name.get(named.name.as_str()) {
            Some(Some(report)) if named.group.is_empty() => Ok(Some(report)),
            Some(None) if named.group.is_empty() => Err(format!(
                "its answer does not say in which `group` it means `{}`: there are several",
                named.name
            )),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(group: &str, name: &str) -> Report {
        let target = TargetId::new(group, name).unwrap();
        let labels = [("zone".to_owned(), "a".to_owned())].into();
        let version = Some(Version::new("v1").unwrap());
        Report { target, version, is_error: false, message: String::new(), labels, failed: false }
    }

    fn names(chosen: Result<Vec<Report>, String>) -> Result<Vec<String>, String> {
        chosen.map(|chosen| chosen.iter().map(|report| report.target.to_string()).collect())
    }

    #[test]
    fn a_request_has_what_is_known_and_nothing_empty() {
        let plain = Report { version: None, labels: BTreeMap::new(), ..report("", "b") };
        let whole = Report { is_error: true, message: "bad \"x\"".into(), ..report("g", "a") };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(about_many(&[whole, plain.clone()], Some(0)).unwrap()),
            r#"{"targets":[{"name":"a","group":"g","tags":{"zone":"a"},"version":"v1","message":"bad \"x\"","isError":true},{"name":"b"}],"count":0}"#
        );
        assert_eq!(text(about_many(&[], None).unwrap()), r#"{"targets":[]}"#);
        assert_eq!(text(about_one(&plain).unwrap()), r#"{"target":{"name":"b"}}"#);
    }

    #[test]
    fn a_status_is_ok_in_any_case_or_what_it_says_is_wrong() {
        for (answer, expected) in [
            (r#"{"status":"ok","message":"x"}"#, Ok(())),
            (r#"{"STATUS":"Ok","other":[{"deep":[1,null]}]}"#, Ok(())),
            (r#" {"status":"bad","Status":"OK"} "#, Ok(())),
            (r#"{"status":"ok","Status":null}"#, Ok(())),
            (r#"{"status":"error","message":"too hot"}"#, Err("error too hot")),
            (r#"{"status":"error"}"#, Err("error")),
            (r#"{"status":" ok"}"#, Err(" ok")),
            (r#"{"message":"ok"}"#, Err("its answer has no `status`: ok")),
            ("{}", Err("its answer has no `status`")),
            ("null", Err("its answer has no `status`")),
            ("", Err("its answer is empty")),
        ] {
            assert_eq!(verdict(answer.as_bytes()), expected.map_err(ToOwned::to_owned), "{answer}");
        }
    }

    #[test]
    fn what_is_no_json_or_another_is_an_error_however_deep_it_is() {
        let deep =
            |count: usize| format!(r#"{{"x":{}{},"status":"ok"}}"#, "[".repeat(count), "]".repeat(count));
        assert_eq!(verdict(deep(1_000_000).as_bytes()), Ok(()), "nobody looks there");
        for bad in [
            "ok",
            "{",
            "[]",
            r#"{"status":1}"#,
            r#"{"status":"ok"}x"#,
            "\u{1f}",
            &deep(2)[..7],
            r#"{"status":[[[[]]]]}"#,
        ] {
            let error = verdict(bad.as_bytes()).unwrap_err();
            assert!(error.starts_with("its answer is not the JSON that was asked for: "), "{error}");
        }
        for bad in
            [r#"{"targets":{}}"#, r#"{"targets":["a"]}"#, r#"{"targets":[{}]}"#, r#"{"targets":[null]}"#]
        {
            let error = choice(bad.as_bytes(), &[], Unknown::Kept).unwrap_err();
            assert!(error.starts_with("its answer is not the JSON that was asked for: "), "{error}");
        }
        assert!(verdict(b"{\"status\":\"\xff\"}").is_err());
    }

    #[test]
    fn targets_are_those_of_their_group_and_name_each_once() {
        let offered =
            [report("g", "a"), report("h", "a"), report("g", "b"), report("", "c"), report("g", "c")];
        let of = |answer: &str| names(choice(answer.as_bytes(), &offered, Unknown::PassedOver));
        let is = |names: &[&str]| Ok(names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            of(r#"{"targets":[{"name":"a","group":"h"},{"NAME":"a","Group":"g"}]}"#),
            is(&["h/a", "g/a"])
        );
        assert_eq!(of(r#"{"targets":[{"name":"a","group":"h"},{"name":"a","group":"h"}]}"#), is(&["h/a"]));
        assert_eq!(of(r#"{"targets":[{"name":"b"}]}"#), is(&["g/b"]), "one has that name");
        assert_eq!(of(r#"{"targets":[{"name":"c"}]}"#), is(&["c"]), "it has no group");
        assert_eq!(of(r#"{"targets":[{"name":"b","group":"h"},{"name":"B"},{"name":"x"}]}"#), is(&[]));
        assert_eq!(of(r#"{"targets":null}"#), is(&[]));
        assert_eq!(of("{}"), is(&[]));
        assert!(of(r#"{"targets":[{"name":"a"}]}"#).unwrap_err().contains("which `group`"));
    }

    #[test]
    fn who_selects_may_want_targets_that_are_not_there() {
        let offered = [report("g", "a")];
        let of = |answer: &str| choice(answer.as_bytes(), &offered, Unknown::Kept);
        let answer = r#"{"targets":[
            {"name":"n","tags":{"zone":"b","x":null},"version":"v0","message":"m","isError":true},
            {"name":"a","version":"v9","message":"m","isError":true}]}"#;
        let labels = [("x".to_owned(), String::new()), ("zone".to_owned(), "b".to_owned())].into();
        let new = Report {
            version: Some(Version::new("v0").unwrap()),
            is_error: true,
            message: "m".into(),
            labels,
            ..report("", "n")
        };
        assert_eq!(of(answer), Ok(vec![new, report("g", "a")]), "of what is known only labels are taken");
        let relabelled = of(r#"{"targets":[{"name":"a","group":"g","tags":{"zone":"c"}}]}"#).unwrap();
        assert_eq!(relabelled[0].labels["zone"], "c");
        for (bad, words) in [
            (r#"{"targets":[{"name":"a\n"}]}"#, "whose `name` must have no control characters"),
            (r#"{"targets":[{"name":"x","version":"\u0000"}]}"#, "`x`: a version must not"),
        ] {
            assert!(of(bad).unwrap_err().contains(words), "{bad}");
        }
    }
}

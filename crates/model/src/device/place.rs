//! Where in a document something is, and what is wrong there.

use serde_json::Value;

use crate::diagnostic::printable;

/// So many mistakes are told at once: nobody reads more at a time.
const MISTAKES_MAX: usize = 20;

/// A place, as a JSON pointer (RFC 6901).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place(String);

impl Place {
    pub(super) fn key(&self, key: &str) -> Self {
        Self(format!("{}/{}", self.0, key.replace('~', "~0").replace('/', "~1")))
    }

    pub(super) fn wrong(&self, what: impl Into<String>) -> Mistake {
        Mistake { pointer: self.0.clone(), what: what.into(), remedy: None }
    }
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where: a JSON pointer. Empty: the document itself.
    pub pointer: String,
    /// What, in a sentence without a full stop.
    pub what: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Mistake {
    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if self.pointer.is_empty() { "the document" } else { &self.pointer };
        write!(f, "`{}`: {}", printable(place), self.what)
    }
}

/// All that is wrong with a document; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl Mistakes {
    /// What to do about the first of which that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.0.iter().find_map(|mistake| mistake.remedy.as_deref())
    }
}

impl std::fmt::Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, mistake) in self.0.iter().take(MISTAKES_MAX).enumerate() {
            let between = if i == 0 { "" } else { "; " };
            write!(f, "{between}{mistake}")?;
        }
        match self.0.len().saturating_sub(MISTAKES_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Mistakes {}

/// A value as text, and the place that stands on each line of it.
pub(super) fn with_places(value: &Value, at: &Place) -> (String, Vec<Place>) {
    let mut lines = Vec::new();
    write_places(value, at, &mut lines);
    (format!("{value:#}"), lines)
}

fn write_places(value: &Value, at: &Place, lines: &mut Vec<Place>) {
    lines.push(at.clone());
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| write_places(value, &at.key(key), lines));
            lines.push(at.clone());
        }
        Value::Array(items) if !items.is_empty() => {
            let each = items.iter().enumerate();
            each.for_each(|(i, item)| write_places(item, &at.key(&i.to_string()), lines));
            lines.push(at.clone());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_line_of_a_text_knows_its_place() {
        let value = json!({"a": [1, {"b/c": {}}], "d~": "x", "e": {"f": null}});
        let (text, lines) = with_places(&value, &Place::default().key("r"));
        let told: Vec<(&str, &str)> =
            text.lines().map(str::trim).zip(lines.iter().map(|place| place.0.as_str())).collect();
        assert_eq!(lines.len(), text.lines().count());
        for line in [
            ("{", "/r"),
            ("1,", "/r/a/0"),
            ("\"b/c\": {}", "/r/a/1/b~1c"),
            ("\"d~\": \"x\",", "/r/d~0"),
            ("\"f\": null", "/r/e/f"),
        ] {
            assert!(told.contains(&line), "{line:?} {told:?}");
        }
    }
}

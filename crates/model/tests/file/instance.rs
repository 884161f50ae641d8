//! A YAML text as an editor's validator sees it: as JSON, by the core schema of YAML 1.2.
//!
//! Made from the events of the parser alone, and not by our own reader: so it can be held against it.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

/// The only document of a text; nothing, where there is none or it is not YAML. What is tagged
/// `!reset` is not there.
pub(super) fn instance(text: &str) -> Option<Value> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text.trim_start_matches('\u{feff}')) {
        builder.take(event.ok()?.0)?;
    }
    builder.root?.0
}

/// A value, unless it is to be passed over.
#[derive(Clone)]
struct Built(Option<Value>);

enum Frame {
    List(Vec<Value>),
    Map { entries: Map<String, Value>, merged: Vec<Value>, key: Option<Key> },
}

enum Key {
    Name(String),
    Merge,
}

#[derive(Default)]
struct Builder {
    frames: Vec<(Frame, usize, bool)>,
    anchors: std::collections::BTreeMap<usize, Built>,
    root: Option<Built>,
}

impl Builder {
    /// Nothing: the document is not one an editor could judge.
    fn take(&mut self, event: Event<'_>) -> Option<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.wants_key() {
                    let is_merge = style == ScalarStyle::Plain && text == "<<";
                    return self.key(if is_merge { Key::Merge } else { Key::Name(text.into_owned()) });
                }
                let value = if style == ScalarStyle::Plain { plain(&text) } else { Value::from(&*text) };
                self.put(Built((!is_reset(tag.as_deref())).then_some(value)), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(Frame::List(Vec::new()), anchor, is_reset(tag.as_deref()))
            }
            Event::MappingStart(anchor, tag) => {
                let map = Frame::Map { entries: Map::new(), merged: Vec::new(), key: None };
                self.open(map, anchor, is_reset(tag.as_deref()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor)?.clone();
                self.put(known, 0)
            }
            Event::DocumentStart(_) if self.root.is_some() => None,
            _ => Some(()),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.frames.last(), Some((Frame::Map { key: None, .. }, ..)))
    }

    fn key(&mut self, name: Key) -> Option<()> {
        let Some((Frame::Map { key, .. }, ..)) = self.frames.last_mut() else { return None };
        *key = Some(name);
        Some(())
    }

    fn open(&mut self, frame: Frame, anchor: usize, is_reset: bool) -> Option<()> {
        if self.wants_key() {
            return None;
        }
        self.frames.push((frame, anchor, is_reset));
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        let (frame, anchor, is_reset) = self.frames.pop()?;
        let value = match frame {
            Frame::List(items) => Value::Array(items),
            Frame::Map { mut entries, merged, .. } => {
                for (name, value) in merged.into_iter().flat_map(mappings) {
                    entries.entry(name).or_insert(value);
                }
                Value::Object(entries)
            }
        };
        self.put(Built((!is_reset).then_some(value)), anchor)
    }

    fn put(&mut self, built: Built, anchor: usize) -> Option<()> {
        if anchor > 0 {
            self.anchors.insert(anchor, built.clone());
        }
        match self.frames.last_mut() {
            None => self.root = Some(built),
            Some((Frame::List(items), ..)) => items.extend(built.0),
            Some((Frame::Map { entries, merged, key }, ..)) => match (key.take()?, built.0) {
                (Key::Merge, value) => merged.extend(value),
                (Key::Name(name), Some(value)) => drop(entries.insert(name, value)),
                (Key::Name(_), None) => {}
            },
        }
        Some(())
    }
}

fn is_reset(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.handle == "!" && tag.suffix == "reset")
}

/// The entries of a mapping, or of a list of them.
fn mappings(value: Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(entries) => entries.into_iter().collect(),
        Value::Array(items) => items.into_iter().flat_map(mappings).collect(),
        _ => Vec::new(),
    }
}

/// A scalar without quotes.
fn plain(text: &str) -> Value {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let radix = |prefix: &str, radix| {
        text.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, radix).ok())
    };
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Some(number) = radix("0o", 8).or_else(|| radix("0x", 16)) {
        return Value::from(number);
    }
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        match (negative, digits.parse::<u64>(), text.trim_start_matches('+').parse::<i64>()) {
            (false, Ok(number), _) => return Value::from(number),
            (true, _, Ok(number)) => return Value::from(number),
            _ => {}
        }
    }
    let is_float = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.contains(|c: char| c.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || b"eE.+-".contains(&b));
    let float = text.parse::<f64>().ok().filter(|_| is_float).and_then(Number::from_f64);
    float.map_or_else(|| Value::from(text), Value::Number)
}

#[test]
fn scalars_are_what_the_core_schema_says() {
    let text = "[~, null, true, False, 0, -1, +2, 0x1F, 0o17, 0755, 1.5, -.5, 1e3, .inf, 1_000, 'no', \"1\", no, 1.2.3, '']";
    let expected = serde_json::json!([
        null, null, true, false, 0, -1, 2, 31, 15, 755, 1.5, -0.5, 1000.0, ".inf", "1_000", "no", "1", "no",
        "1.2.3", ""
    ]);
    assert_eq!(instance(text), Some(expected));
}

#[test]
fn anchors_merges_and_resets_are_followed() {
    let text = "a: &a { x: 1, y: 2 }\nb: { <<: *a, y: 3 }\nc: { <<: [{ z: 1 }, *a] }\nd: !reset 5\ne: !override [1, !reset 2]\n";
    let expected = serde_json::json!({
        "a": { "x": 1, "y": 2 }, "b": { "x": 1, "y": 3 }, "c": { "x": 1, "y": 2, "z": 1 }, "e": [1],
    });
    assert_eq!(instance(text), Some(expected));
    assert_eq!(instance("a: *b"), None);
    assert_eq!(instance("a: 1\n---\nb: 2\n"), None);
}

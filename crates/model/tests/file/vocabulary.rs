//! Our schema as a thing to walk through: the few words of JSON Schema it is made of.
//!
//! A place in the schema is named by its pointer, `$defs/service/properties/ports/items/anyOf/0`;
//! what is defined once is one place, wherever it is used.

use std::collections::BTreeSet;

use serde_json::Value;

/// Every word that this module knows.
const WORDS: [&str; 17] = [
    "$defs",
    "$ref",
    "$schema",
    "additionalProperties",
    "anyOf",
    "enum",
    "items",
    "maximum",
    "minItems",
    "minimum",
    "pattern",
    "patternProperties",
    "properties",
    "required",
    "title",
    "type",
    "uniqueItems",
];

/// A schema within our schema.
#[derive(Clone)]
pub(super) struct Place<'s> {
    root: &'s Value,
    pub(super) schema: &'s Value,
    pub(super) pointer: String,
}

impl<'s> Place<'s> {
    pub(super) fn root(root: &'s Value) -> Self {
        Place { root, schema: root, pointer: String::new() }
    }

    /// What stands behind a word.
    pub(super) fn word(&self, word: &str) -> Option<&'s Value> {
        self.schema.get(word)
    }

    fn at(&self, steps: &[&str]) -> Option<Self> {
        let schema = steps.iter().try_fold(self.schema, |schema, step| match schema {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            schema => schema.get(step),
        })?;
        let pointer = steps.iter().fold(self.pointer.clone(), |pointer, step| format!("{pointer}/{step}"));
        Some(Place { root: self.root, schema, pointer })
    }

    /// Where `$ref` leads, or this place.
    pub(super) fn followed(&self) -> Self {
        match self.word("$ref").and_then(Value::as_str) {
            None => self.clone(),
            Some(path) => {
                let steps: Vec<&str> = path.trim_start_matches("#/").split('/').collect();
                Place::root(self.root).at(&steps).expect("it leads somewhere")
            }
        }
    }

    /// The forms a value may have.
    pub(super) fn forms(&self) -> Vec<Self> {
        let forms = self.word("anyOf").and_then(Value::as_array).map_or(0, Vec::len);
        (0..forms).filter_map(|i| self.at(&["anyOf", &i.to_string()])).collect()
    }

    pub(super) fn items(&self) -> Option<Self> {
        self.at(&["items"])
    }

    /// The names of the keys that are known here.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'s str> {
        let properties = self.word("properties").and_then(Value::as_object);
        properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str))
    }

    /// The value of a key; nothing, where anything may stand.
    pub(super) fn key(&self, name: &str) -> Option<Self> {
        if let Some(known) = self.at(&["properties", name]) {
            return Some(known);
        }
        match self.word("patternProperties") {
            Some(patterns) if name.starts_with("x-") && patterns.get("^x-").is_some() => None,
            // The only other pattern there is.
            Some(patterns) if name.contains('@') && patterns.get("@").is_some() => {
                self.at(&["patternProperties", "@"])
            }
            _ => self.at(&["additionalProperties"]),
        }
    }

    /// What stands behind names that are free.
    pub(super) fn free_key(&self) -> Option<Self> {
        self.at(&["additionalProperties"]).filter(|place| place.schema.is_object())
    }

    /// A text that waits for its variable.
    pub(super) fn is_variable(&self) -> bool {
        self.word("pattern").and_then(Value::as_str) == Some("\\$")
    }

    /// Whether a value may stand here.
    pub(super) fn accepts(&self, value: &Value) -> bool {
        if let Value::Bool(anything) = self.schema {
            return *anything;
        }
        let here = self.followed();
        if here.pointer != self.pointer {
            return here.accepts(value);
        }
        let forms = self.forms();
        (forms.is_empty() || forms.iter().any(|form| form.accepts(value)))
            && self.accepts_alone(value)
            && self.accepts_inside(value)
    }

    fn accepts_alone(&self, value: &Value) -> bool {
        let is_of = |kind: &str| match kind {
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            kind => kind == kind_of(value),
        };
        let number = |word: &str| self.word(word).and_then(Value::as_f64);
        let within = value.as_f64().is_none_or(|value| {
            number("minimum").is_none_or(|least| value >= least)
                && number("maximum").is_none_or(|most| value <= most)
        });
        let pattern = self.word("pattern").and_then(Value::as_str).zip(value.as_str());
        within
            && self.word("type").is_none_or(|kinds| match kinds {
                Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is_of),
                kind => kind.as_str().is_some_and(is_of),
            })
            && self.word("enum").and_then(Value::as_array).is_none_or(|words| words.contains(value))
            && pattern.is_none_or(|(pattern, text)| matches(pattern, text))
    }

    fn accepts_inside(&self, value: &Value) -> bool {
        match value {
            Value::Array(items) => {
                let least = self.word("minItems").and_then(Value::as_u64).unwrap_or(0);
                items.len() as u64 >= least
                    && self.items().is_none_or(|each| items.iter().all(|item| each.accepts(item)))
            }
            Value::Object(entries) => {
                let needed = self.word("required").and_then(Value::as_array).into_iter().flatten();
                let mut needed = needed.filter_map(Value::as_str);
                needed.all(|name| entries.contains_key(name))
                    && entries
                        .iter()
                        .all(|(name, value)| self.key(name).is_none_or(|place| place.accepts(value)))
            }
            _ => true,
        }
    }

    /// Every place a value reaches that may stand here: itself, its form, its keys and items.
    pub(super) fn reached(&self, value: &Value, found: &mut BTreeSet<String>) {
        let here = self.followed();
        found.insert(self.pointer.clone());
        found.insert(here.pointer.clone());
        let words = here.word("enum").and_then(Value::as_array);
        if let Some(word) = words.and_then(|words| words.iter().position(|word| word == value)) {
            found.insert(format!("{}/enum/{word}", here.pointer));
        }
        for form in here.forms().iter().filter(|form| form.accepts(value)) {
            form.reached(value, found);
        }
        match value {
            Value::Array(items) => {
                items.iter().filter_map(|item| Some((here.items()?, item))).for_each(|(place, item)| {
                    place.reached(item, found);
                });
            }
            Value::Object(entries) => {
                entries.iter().filter_map(|(name, value)| Some((here.key(name)?, value))).for_each(
                    |(place, value)| {
                        place.reached(value, found);
                    },
                );
            }
            _ => {}
        }
    }

    /// Every place there is to reach, from here.
    pub(super) fn all(&self, found: &mut BTreeSet<String>) {
        if self.is_variable() || !found.insert(self.pointer.clone()) {
            return;
        }
        let here = self.followed();
        if here.pointer != self.pointer {
            return here.all(found);
        }
        let words = here.word("enum").and_then(Value::as_array).map_or(0, Vec::len);
        found.extend((0..words).map(|word| format!("{}/enum/{word}", here.pointer)));
        here.forms().iter().for_each(|form| form.all(found));
        here.items().iter().for_each(|items| items.all(found));
        here.free_key().iter().for_each(|each| each.all(found));
        here.keys().filter_map(|name| here.key(name)).for_each(|key| key.all(found));
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The patterns of our schema.
fn matches(pattern: &str, text: &str) -> bool {
    let regex = regex::Regex::new(pattern).expect("a pattern");
    regex.is_match(text)
}

#[test]
fn the_schema_has_no_word_that_is_not_known_here() {
    fn words(schema: &Value, found: &mut BTreeSet<String>) {
        let Some(schema) = schema.as_object() else { return };
        for (word, value) in schema {
            found.insert(word.clone());
            match (&**word, value) {
                ("properties" | "$defs" | "patternProperties", Value::Object(inner)) => {
                    inner.values().for_each(|schema| words(schema, found));
                }
                ("anyOf", Value::Array(forms)) => forms.iter().for_each(|schema| words(schema, found)),
                ("items" | "additionalProperties", schema) => words(schema, found),
                _ => {}
            }
        }
    }
    let mut found = BTreeSet::new();
    words(&upbeat_model::file::schema(), &mut found);
    let unknown: Vec<&String> = found.iter().filter(|word| !WORDS.contains(&word.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

//! What of a declared text is not shown, and how it is put back where it comes again as it was shown.

use serde_json::{Map, Value};

use super::place::{Mistake, Place};
use crate::withheld::{WITHHELD, secrets_of_url, url_to_look_at};

/// Keys below which each value may be secret, and its name is not, wherever they stand: variables of services and
/// hooks, arguments of builds, headers of probes, options of drivers of volumes, networks and logs.
const NAMED: [&str; 5] = ["environment", "args", "headers", "driver_opts", "options"];

/// Keys whose value may be secret as it is: configs and secrets, datagrams of probes.
const WHOLE: [&str; 2] = ["content", "send"];

/// What of a value is not shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hidden {
    /// What its place does not say. What stands below it are names, which are no keys, whatever they are.
    Names,
    /// What its place does not say.
    Nothing,
    /// What stands behind a name.
    Values,
    /// All of it.
    All,
}

impl Hidden {
    /// Below a key.
    fn below(self, key: &str) -> Self {
        match self {
            Self::Names => Self::Nothing,
            Self::Nothing if NAMED.contains(&key) => Self::Values,
            Self::Nothing if WHOLE.contains(&key) => Self::All,
            hidden => hidden,
        }
    }

    /// Its place says nothing of it.
    fn is_shown(self) -> bool {
        matches!(self, Self::Names | Self::Nothing)
    }
}

/// A text for whoever only looks.
pub(super) fn withheld(text: &Map<String, Value>) -> Map<String, Value> {
    text.iter().map(|(key, value)| (key.clone(), shown(value, Hidden::Names))).collect()
}

fn shown(value: &Value, hidden: Hidden) -> Value {
    match value {
        Value::Object(map) => {
            let each = |(key, value): (&String, &Value)| (key.clone(), shown(value, hidden.below(key)));
            Value::Object(map.iter().map(each).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| shown(item, hidden)).collect()),
        Value::Null => Value::Null,
        Value::String(text) if hidden.is_shown() && text.contains("://") => url_to_look_at(text).into(),
        other if hidden.is_shown() => other.clone(),
        Value::String(text) if hidden == Hidden::Values => match text.split_once('=') {
            // A variable of a list. What follows a name in it is its value; of anything else nothing is shown.
            Some((name, _)) if is_name(name) => format!("{name}={WITHHELD}").into(),
            _ => WITHHELD.into(),
        },
        _ => WITHHELD.into(),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Puts back what was withheld where it comes as it was shown. Errors: something is withheld that is not known.
pub(super) fn put_back(
    text: &mut Map<String, Value>,
    known: Option<&Map<String, Value>>,
    at: &Place,
) -> Result<(), Mistake> {
    for (key, value) in text {
        restore(value, known.and_then(|known| known.get(key)), Hidden::Names, &at.key(key))?;
    }
    Ok(())
}

/// An address of which something is not shown.
fn is_withheld_url(text: &str) -> bool {
    text.contains("://") && secrets_of_url(text).any(|value| value == WITHHELD)
}

fn restore(value: &mut Value, known: Option<&Value>, hidden: Hidden, at: &Place) -> Result<(), Mistake> {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let known = known.and_then(|known| known.get(key));
                restore(value, known, hidden.below(key), &at.key(key))?;
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                let known = known.and_then(|known| known.get(i));
                restore(item, known, hidden, &at.key(&i.to_string()))?;
            }
        }
        Value::String(text) if text.contains(WITHHELD) => {
            let is_unsaid = match hidden.is_shown() {
                true => is_withheld_url(text),
                false => text.ends_with(WITHHELD),
            };
            match known.filter(|known| shown(known, hidden) == *value) {
                Some(known) => *value = known.clone(),
                None if is_unsaid => {
                    let wrong =
                        format!("`{WITHHELD}` stands for what is not shown, and nothing is known there");
                    return Err(at.wrong(wrong).remedy("say the value itself"));
                }
                None => {}
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("{value}") };
        map
    }

    #[test]
    fn an_address_that_is_not_shown_whole_is_put_back_where_it_was_and_refused_elsewhere() {
        let test = |urls: Value| map(json!({ "services": { "a": { "healthcheck": { "test": urls } } } }));
        let known = test(json!(["CMD", "https://x/?a=1&token=canary"]));
        let with_password = test(json!(["https://ann:canary@x/"]));
        assert_eq!(withheld(&with_password), test(json!(["https://ann:***@x/"])));
        let put = |urls: Value| {
            let mut text = test(urls);
            put_back(&mut text, Some(&known), &Place::default()).map(|()| text).map_err(|wrong| wrong.pointer)
        };
        let shown = "https://x/?a=1&token=***";
        assert_eq!(put(json!(["CMD", shown])), Ok(known.clone()));
        let at = |place: &str| Err(format!("/services/a/healthcheck/test/{place}"));
        assert_eq!(put(json!([shown])), at("0"), "another index");
        assert_eq!(put(json!(["https://ann:***@x/"])), at("0"), "a password that is not known");
        assert_eq!(put(json!(["CMD", "-v", shown])), at("2"), "a new place");
        assert_eq!(put(json!(["CMD", "https://x/?a=2&token=***"])), at("1"), "not as it was shown");
        for literal in ["***", "a ***", "https://x/?a=***", "token=***"] {
            let said = json!(["CMD", literal]);
            assert_eq!(put(said.clone()), Ok(test(said)), "it stands for nothing that is not shown");
        }
    }

    #[test]
    fn options_of_drivers_are_not_shown_and_names_are_no_keys() {
        let known = map(json!({
            "services": {
                "options": { "image": "a", "logging": { "driver": "splunk", "options": { "splunk-token": "canary" } } },
                "b": { "image": "b", "networks": { "n": { "driver_opts": { "o": "canary" } } } },
            },
            "volumes": { "content": {
                "driver": "local", "driver_opts": { "type": "cifs", "o": "username=ann,password=canary" },
            } },
            "networks": { "n": { "driver_opts": ["o=canary"], "ipam": { "options": { "o": "canary" } } } },
        }));
        let mut shown = withheld(&known);
        let text = Value::Object(shown.clone()).to_string();
        assert!(!text.contains("canary") && !text.contains("ann"), "{text}");
        for seen in [
            r#""image":"a""#,
            r#""driver":"splunk""#,
            r#""splunk-token":"***""#,
            r#""driver":"local""#,
            r#""o=***""#,
        ] {
            assert!(text.contains(seen), "{seen} in {text}");
        }
        put_back(&mut shown, Some(&known), &Place::default()).unwrap();
        assert_eq!(shown, known);
    }
}

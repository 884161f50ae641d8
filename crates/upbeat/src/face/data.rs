//! Data for people and programs, as YAML and as JSON.
//!
//! Laws: nothing that is printed commands a terminal or reorders a line of it, whatever the data
//! says; what is printed, read again, is the data.

use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_saphyr::{DoubleQuoted, SerializeError};

use super::is_bidi_control;

/// As YAML.
pub fn yaml(value: &Value) -> Result<String, SerializeError> {
    Ok(escaped(serde_saphyr::to_string(&Quoted(value))?))
}

/// JSON as it was written, with escapes for what a terminal obeys. All of that stands in texts.
pub fn json(written: String) -> String {
    escaped(written)
}

/// Line ends stay: where they are data they were escaped before.
fn escaped(text: String) -> String {
    let is_odd = |c: char| (c.is_control() && c != '\n') || is_bidi_control(c);
    if !text.contains(is_odd) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        match is_odd(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

/// A value whose texts stand in double quotes where they need escapes: there alone they mean
/// something. Names need none: the rules for projects refuse such characters in them.
struct Quoted<'v>(&'v Value);

impl Serialize for Quoted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) if text.contains(is_bidi_control) => DoubleQuoted(text).serialize(serializer),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Quoted)),
            Value::Object(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (name, Quoted(value))))
            }
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_in_it_commands_a_terminal_and_it_stays_the_same() {
        let value = json!({
            "bidi": "a\u{202e}b",
            "lines": "a\n\u{2066}b \"q\" \\u202e\n",
            "control": ["\u{1b}[2J", "\u{9b}1m\u{7f}", "\u{61c}\t"],
            "plain": "größe",
            "number": 1,
        });
        let written = yaml(&value).unwrap();
        insta::assert_snapshot!(written, @r#"
        bidi: "a\u202eb"
        control:
        - "\e[2J"
        - "\x9B1m\x7F"
        - "\u061c\t"
        lines: "a\n\u2066b \"q\" \\u202e\n"
        number: 1
        plain: größe
        "#);
        let written = super::json(serde_json::to_string_pretty(&value).unwrap());
        assert!(!written.contains(|c: char| c.is_control() && c != '\n' || is_bidi_control(c)));
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
    }
}

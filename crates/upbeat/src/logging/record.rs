//! One thing the daemon says, as data.

use std::fmt::{self, Write};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// The text of one record, in bytes: its message and its values. The longest messages quote the last
/// lines of a command; a page of text is more than a person reads, and this is ten.
pub(super) const TEXT_MAX: usize = 32 << 10;

/// The fields of one record: those of our own messages have three at most.
const FIELDS_MAX: usize = 32;

/// What stands where text was cut off.
const CUT: &str = " [cut]";

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) at: Timestamp,
    pub(super) level: Level,
    /// Which part of the program.
    pub(super) target: String,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(serde_json::Number),
    Bool(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Bool(yes) => yes.fmt(f),
        }
    }
}

impl Record {
    /// What `tracing` says, as much of it as there is room for.
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut listener = Listener { message: String::new(), fields: Vec::new(), left: TEXT_MAX };
        event.record(&mut listener);
        let Listener { message, fields, .. } = listener;
        let (level, target) = (*event.metadata().level(), event.metadata().target().to_owned());
        Self { at: Timestamp::now(), level, target, message, fields }
    }

    /// Of the log itself.
    pub(super) fn own(level: Level, message: String) -> Self {
        let target = module_path!().to_owned();
        Self { at: Timestamp::now(), level, target, message, fields: Vec::new() }
    }

    /// With at most so many bytes of text; the message first, then fields as long as they have room.
    pub(super) fn shortened(&self, most: usize) -> Self {
        let mut left = most;
        let mut cut = |text: &str| {
            let mut room = Room { text: String::new(), left: &mut left };
            room.add(text);
            room.text
        };
        let message = cut(&self.message);
        let mut fields = Vec::new();
        for (name, value) in &self.fields {
            let text = cut(&value.to_string());
            if text.is_empty() || text == CUT {
                break;
            }
            let value = match value {
                Value::Text(_) => Value::Text(text),
                other => other.clone(),
            };
            fields.push((*name, value));
        }
        Self { message, fields, target: self.target.clone(), ..*self }
    }
}

/// Text that is cut when there is no more room, with a mark. The mark is not counted.
struct Room<'a> {
    text: String,
    left: &'a mut usize,
}

impl Room<'_> {
    fn add(&mut self, text: &str) {
        if *self.left == 0 {
            if !text.is_empty() && !self.text.ends_with(CUT) {
                self.text.push_str(CUT);
            }
        } else if text.len() <= *self.left {
            *self.left -= text.len();
            self.text.push_str(text);
        } else {
            let end = (0..=*self.left).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            self.text.push_str(&text[..end]);
            self.text.push_str(CUT);
            *self.left = 0;
        }
    }
}

impl Write for Room<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.add(text);
        Ok(())
    }
}

struct Listener {
    message: String,
    fields: Vec<(&'static str, Value)>,
    left: usize,
}

impl Listener {
    fn take(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        let mut room = Room { text: String::new(), left: &mut self.left };
        // Such a text never fails; a `Display` that does has said what it could.
        let _ = room.write_fmt(text);
        let text = room.text;
        match field.name() {
            "message" => self.message = text,
            name => self.push(name, Value::Text(text)),
        }
    }

    fn push(&mut self, name: &'static str, value: Value) {
        if self.fields.len() < FIELDS_MAX {
            self.fields.push((name, value));
        }
    }
}

impl Visit for Listener {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field.name(), Value::Number(value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), Value::Number(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.push(field.name(), Value::Number(number)),
            None => self.push(field.name(), Value::Text(value.to_string())),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), Value::Bool(value));
    }
}

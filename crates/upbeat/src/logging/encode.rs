//! A record as bytes, for each kind of reader.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::{Map, Value as Json, json};
use tracing::Level;

use super::record::{Record, Value};
use crate::face::{Paint, Tone};

/// By which a reader tells whose records these are.
const IDENTIFIER: &str = "upbeat";

/// `daemon`, in the numbers of syslog.
const FACILITY: u8 = 3;

/// The name of our fields in RFC 5424. The number is the one that is set aside for whoever has none.
const STRUCTURE: &str = "upbeat@32473";

/// What is shorter is not worth being cut further.
const SHORTEST: usize = 16;

/// How records travel.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) encoding: Encoding,
    pub(super) framing: Framing,
    /// The largest frame, in bytes.
    pub(super) limit: usize,
}

/// What a record looks like.
#[derive(Clone, Debug)]
pub(super) enum Encoding {
    /// One line for people.
    Text(Paint),
    /// One JSON object.
    Json,
    /// One JSON object, in the words of logstash.
    Logstash {
        /// This machine.
        host: String,
    },
    /// RFC 5424.
    Syslog {
        /// This machine.
        host: String,
        /// The daemon's process.
        pid: u32,
    },
    /// The journal's own protocol.
    Journald,
}

/// What tells one record from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Each is a datagram.
    Datagram,
    /// Each is a line.
    Line,
    /// Before each stands its length (RFC 6587).
    Counted,
}

impl Wire {
    /// A record as it is sent: no longer than the limit, whatever it says.
    pub(super) fn frame(&self, record: &Record) -> Vec<u8> {
        let mut frame = self.framed(record);
        let mut most = self.limit;
        while frame.len() > self.limit && most >= SHORTEST {
            most /= 2;
            frame = self.framed(&record.shortened(most));
        }
        // Too long without any text: a limit that has no room for a record at all.
        frame.truncate(self.limit);
        frame
    }

    fn framed(&self, record: &Record) -> Vec<u8> {
        let mut bytes = self.encoding.encode(record);
        match self.framing {
            Framing::Datagram => {}
            Framing::Line => bytes.push(b'\n'),
            Framing::Counted => {
                let mut counted = format!("{} ", bytes.len()).into_bytes();
                counted.append(&mut bytes);
                return counted;
            }
        }
        bytes
    }
}

impl Encoding {
    fn encode(&self, record: &Record) -> Vec<u8> {
        match self {
            Self::Text(paint) => text(record, *paint).into_bytes(),
            Self::Json => json(record).to_string().into_bytes(),
            Self::Logstash { host } => logstash(record, host).to_string().into_bytes(),
            Self::Syslog { host, pid } => syslog(record, host, *pid).into_bytes(),
            Self::Journald => journald(record),
        }
    }
}

/// Without anything that ends a line, moves a cursor or rings a bell.
fn calm(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut calm = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c.is_control() {
            true => calm.extend(c.escape_default()),
            false => calm.push(c),
        }
    }
    Cow::Owned(calm)
}

fn text(record: &Record, paint: Paint) -> String {
    let tone = match record.level {
        Level::ERROR => Tone::Bad,
        Level::WARN => Tone::Caution,
        Level::INFO => Tone::Good,
        _ => Tone::Quiet,
    };
    let mut line = format!(
        "{} {} {} {}",
        paint.tone(Tone::Quiet, format_args!("{:.6}", record.at)),
        paint.tone(tone, format_args!("{:>5}", record.level.as_str())),
        paint.tone(Tone::Quiet, format_args!("{}:", record.target)),
        calm(&record.message),
    );
    for (name, value) in &record.fields {
        let value = value.to_string();
        let value = calm(&value);
        let is_plain = !value.is_empty() && !value.contains([' ', '"', '=']);
        // Writing to a text cannot fail.
        let _ = match is_plain {
            true => write!(line, " {}={value}", paint.tone(Tone::Quiet, name)),
            false => write!(line, " {}=\"{}\"", paint.tone(Tone::Quiet, name), value.replace('"', "\\\"")),
        };
    }
    line
}

fn fields(record: &Record) -> Map<String, Json> {
    let value = |value: &Value| match value {
        Value::Text(text) => Json::String(text.clone()),
        Value::Number(number) => Json::Number(number.clone()),
        Value::Bool(yes) => Json::Bool(*yes),
    };
    record.fields.iter().map(|(name, held)| ((*name).to_owned(), value(held))).collect()
}

fn json(record: &Record) -> Json {
    json!({
        "timestamp": format!("{:.6}", record.at),
        "level": record.level.as_str(),
        "target": record.target,
        "message": record.message,
        "fields": fields(record),
    })
}

fn logstash(record: &Record, host: &str) -> Json {
    json!({
        "@timestamp": format!("{:.6}", record.at),
        "@version": "1",
        "message": record.message,
        "level": record.level.as_str(),
        "logger_name": record.target,
        "host": host,
        "fields": fields(record),
    })
}

/// As syslog numbers them: 3 is an error, 7 for whoever looks for one.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn syslog(record: &Record, host: &str, pid: u32) -> String {
    let priority = FACILITY * 8 + severity(record.level);
    let at = format_args!("{:.6}", record.at);
    let host = header(host, 255);
    let mut line = format!("<{priority}>1 {at} {host} {IDENTIFIER} {pid} {} ", header(&record.target, 32));
    match record.fields.is_empty() {
        true => line.push('-'),
        false => {
            line.push_str(&format!("[{STRUCTURE}"));
            for (name, value) in &record.fields {
                let value = value.to_string();
                let value = calm(&value).replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
                line.push_str(&format!(" {}=\"{value}\"", header(&name.replace(['=', ']', '"'], "_"), 32)));
            }
            line.push(']');
        }
    }
    line.push(' ');
    line.push_str(&calm(&record.message));
    line
}

/// A word of the head: visible ASCII, and not too long.
fn header(text: &str, most: usize) -> String {
    let visible = text.chars().filter(char::is_ascii_graphic).take(most).collect::<String>();
    if visible.is_empty() { "-".to_owned() } else { visible }
}

fn journald(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let mut put = |name: &str, value: &str| {
        bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // Its length says where it ends, so that nothing in it can.
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    };
    put("MESSAGE", &record.message);
    put("PRIORITY", &severity(record.level).to_string());
    put("SYSLOG_IDENTIFIER", IDENTIFIER);
    put("UPBEAT_TARGET", &record.target);
    for (name, value) in &record.fields {
        put(&field_name(name), &value.to_string());
    }
    bytes
}

/// As the journal wants them: capitals, digits and `_`, at most 64.
fn field_name(name: &str) -> String {
    let capital = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    "UPBEAT_".chars().chain(name.chars().map(capital)).take(64).collect()
}

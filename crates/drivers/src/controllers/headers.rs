//! Headers of what is measured, some of which are secrets in files.
//!
//! A file is read each time it is sent, as tokens are renewed; on a thread of its own, as it may be on a disk that
//! hangs. What is in it is kept nowhere, and comes up in no error: one that is too short to be looked for in what
//! others say is not sent.

use std::collections::BTreeMap;
use std::io::Read;

use rustix::fs::{FileType, Mode, OFlags};
use upbeat_model::rollout::{HEADER_BYTES_MAX, HeaderFile, HeaderValue, Headers, is_in_header};
use upbeat_model::withheld::{SECRET_MIN, Secrets};

use crate::looks::Looks;
use crate::probe::words;

/// Files with headers in them, by their paths.
pub(super) type HeaderFiles = Looks<String, Result<String, String>>;

/// Headers as they are sent.
pub(super) struct Ready {
    pub(super) all: BTreeMap<String, String>,
    /// What was in files.
    pub(super) secrets: Secrets,
}

/// Errors, in words: a file cannot be read, or holds what cannot be sent.
pub(super) async fn read(files: &HeaderFiles, headers: &Headers) -> Result<Ready, String> {
    let mut ready = Ready { all: BTreeMap::new(), secrets: Secrets::default() };
    for (name, value) in headers {
        let value = match value {
            HeaderValue::Text(text) => text.clone(),
            HeaderValue::File(HeaderFile { file }) => {
                let path = file.clone();
                let read = files.at(file.clone(), move || read_file(&path)).await;
                let value = read.unwrap_or_else(|| Err("the daemon ends".into()));
                let value = value.map_err(|why| format!("header `{name}`: `{file}` {why}"))?;
                // Said again, it may stand alone.
                let last = last_word(&value).to_owned();
                // What is found is shown as JSON, in which quotes have a sign before them.
                let in_json = |text: &str| {
                    let json = serde_json::Value::from(text).to_string();
                    json[1..json.len() - 1].to_owned()
                };
                let spelled = [
                    ("secret".to_owned(), value.clone()),
                    ("secret_in_json".to_owned(), in_json(&value)),
                    ("token_in_json".to_owned(), in_json(&last)),
                    ("token".to_owned(), last),
                ];
                ready.secrets = ready.secrets.and(Secrets::of_variables(&spelled.into()));
                value
            }
        };
        ready.all.insert(name.clone(), value);
    }
    Ok(ready)
}

/// Of `Bearer …`, what is secret.
fn last_word(value: &str) -> &str {
    value.rsplit([' ', '\t']).next().unwrap_or_default()
}

/// What a regular file says, without the line feed at its end. Anything else may never end, or never begin.
fn read_file(path: &str) -> Result<String, String> {
    let said = |error: std::io::Error| format!("cannot be read: {}", words::said(&error));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| said(error.into()))?;
    let kind = rustix::fs::fstat(&file).map_err(|error| said(error.into()))?;
    if FileType::from_raw_mode(kind.st_mode) != FileType::RegularFile {
        return Err("is no regular file".into());
    }
    let mut bytes = Vec::new();
    // One more than there may be, to see that.
    let most = HEADER_BYTES_MAX as u64 + 1;
    std::fs::File::from(file).take(most).read_to_end(&mut bytes).map_err(said)?;
    if bytes.len() > HEADER_BYTES_MAX {
        return Err(format!("has more than {HEADER_BYTES_MAX} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    match text.chars().all(is_in_header) && !text.is_empty() {
        true if last_word(text).chars().count() < SECRET_MIN => Err(format!(
            "ends with a word of fewer than {SECRET_MIN} characters, which could not be hidden where an answer \
             repeats it: use a longer secret, or write what is no secret as text"
        )),
        true => Ok(text.to_owned()),
        false if text.is_empty() => Err("is empty".into()),
        false => Err("has control characters in it, or more than one line".into()),
    }
}

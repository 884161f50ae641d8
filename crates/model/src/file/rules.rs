//! The rules a service must keep, whoever wrote it: a file's author or a client on the wire.
//!
//! Each rule is worded as a clause that follows the name of the field.

use super::report::shown;
use super::{LENGTH_MAX, SCALE_MAX};
use crate::time::Millis;

/// The longest text Linux lets a program be started with, as an argument or as `NAME=value`:
/// 32 pages of 4 KiB, less the NUL at the end.
const EXEC_TEXT_MAX: usize = 32 * 4096 - 1;

/// The longest path Linux takes, less the NUL at the end.
const PATH_TEXT_MAX: usize = 4095;

/// A rule that is not kept.
#[derive(Debug)]
pub(super) struct Broken {
    /// `must be an absolute path`.
    pub(super) what: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl Broken {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        self.hinted(Some(hint))
    }

    pub(super) fn hinted(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }
}

/// `must be an absolute path (start it with `/`)`.
impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

type Rule = Result<(), Broken>;

fn no_nul(text: &str) -> Rule {
    if text.contains('\0') {
        return Err(Broken::new("contains a NUL character").hint("take it out; no program can be given one"));
    }
    Ok(())
}

pub(super) fn argv(words: &[String]) -> Rule {
    match words.first() {
        None => return Err(Broken::new("is empty").hint("give a program and its arguments")),
        Some(program) if program.is_empty() => {
            return Err(Broken::new("names no program: its first word is empty"));
        }
        Some(_) => {}
    }
    for word in words {
        no_nul(word)?;
        if word.len() > EXEC_TEXT_MAX {
            return Err(Broken::new(format!("has an argument of more than {EXEC_TEXT_MAX} bytes"))
                .hint("Linux starts no program with it; pass a file instead"));
        }
    }
    Ok(())
}

pub(super) fn variable(name: &str, value: &str) -> Rule {
    no_nul(value)?;
    if name.is_empty() {
        return Err(Broken::new("has a variable without a name").hint("write `NAME=value`"));
    }
    if name.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control()) {
        return Err(Broken::new(format!("has a variable with a bad name: `{}`", shown(name)))
            .hint("a name has no space and no `=`"));
    }
    if name.len() + value.len() + 1 > EXEC_TEXT_MAX {
        return Err(Broken::new(format!(
            "has a variable of more than {EXEC_TEXT_MAX} bytes: `{}`",
            shown(name)
        ))
        .hint("Linux starts no program with it; pass a file instead"));
    }
    Ok(())
}

pub(super) fn label(name: &str, value: &str) -> Rule {
    no_nul(value)?;
    if name.is_empty() {
        return Err(Broken::new("has a label without a name"));
    }
    if name.contains(char::is_control) {
        return Err(Broken::new("has a label with a control character in its name"));
    }
    Ok(())
}

pub(super) fn working_dir(path: &str) -> Rule {
    no_nul(path)?;
    if !path.starts_with('/') {
        return Err(Broken::new("must be an absolute path").hint("start it with `/`"));
    }
    if path.len() > PATH_TEXT_MAX {
        return Err(Broken::new(format!("is a path of more than {PATH_TEXT_MAX} bytes")));
    }
    Ok(())
}

/// `name`, `uid`, each with or without `:group`.
pub(super) fn user(text: &str) -> Rule {
    let form = || {
        Broken::new(format!("is not a user: `{}`", shown(text))).hint("write `name`, `uid` or `user:group`")
    };
    let mut parts = text.split(':');
    for part in [parts.next(), parts.next()].into_iter().flatten() {
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        if part.is_empty() || part.starts_with('-') || part.contains(bad) {
            return Err(form());
        }
        // The last number means "leave as it is" to the kernel.
        if part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u32>().is_ok_and(|n| n < u32::MAX) {
            continue;
        }
        if part.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Broken::new(format!(
                "has a number that cannot be a user or group: `{}`",
                shown(part)
            )));
        }
    }
    if parts.next().is_some() { Err(form()) } else { Ok(()) }
}

pub(super) fn scale(copies: u64) -> Result<u32, Broken> {
    u32::try_from(copies)
        .ok()
        .filter(|n| *n <= SCALE_MAX)
        .ok_or_else(|| Broken::new(format!("must be from 0 to {SCALE_MAX}, not {copies}")))
}

pub(super) fn retries(count: u64) -> Result<u32, Broken> {
    match u32::try_from(count) {
        Ok(0) => Err(Broken::new("must be at least 1").hint("without the key it is 3")),
        Ok(n) => Ok(n),
        Err(_) => Err(Broken::new("is too large")),
    }
}

pub(super) fn signal(number: i32) -> Rule {
    if (1..=64).contains(&number) {
        return Ok(());
    }
    Err(Broken::new(format!("must be a signal from 1 to 64, not {number}")))
}

pub(super) fn length(length: Millis) -> Rule {
    if length > LENGTH_MAX { Err(Broken::new("is longer than a year")) } else { Ok(()) }
}

/// A rhythm of zero would ask without pause, a time-out of zero would never hear an answer.
pub(super) fn positive_length(time: Millis) -> Rule {
    if time == Millis(0) {
        return Err(Broken::new("must be longer than zero"));
    }
    length(time)
}

pub(super) fn http(url: &str) -> Rule {
    let Some(rest) = url.strip_prefix("http://") else {
        if url.starts_with("https://") {
            return Err(Broken::new("uses `https`, which is not supported yet")
                .hint("ask over `http://`, or use `tcp` or `exec`"));
        }
        return Err(Broken::new("must be a URL that starts with `http://`")
            .hint("such as `http://127.0.0.1:8080/health`"));
    };
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Broken::new("has a character that no URL has").hint("write it as `%xx`"));
    }
    if url.contains('#') {
        return Err(Broken::new("has a `#` part, which is never sent").hint("take it out"));
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Broken::new("has a user name, which is not supported yet"));
    }
    let (host, port) = host_and_port(authority);
    host_is_good(host)?;
    port.map_or(Ok(()), port_is_good)
}

pub(super) fn tcp(address: &str) -> Rule {
    const SHAPE: &str = "write `host:port`, such as `127.0.0.1:5432`";
    if address.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Broken::new("has no host").hint(format!("did you mean `127.0.0.1:{}`?", shown(address))));
    }
    if address.contains("//") {
        return Err(Broken::new("must be an address, not a URL").hint(SHAPE));
    }
    let (host, port) = host_and_port(address);
    let Some(port) = port else { return Err(Broken::new("has no port").hint(SHAPE)) };
    host_is_good(host)?;
    port_is_good(port)
}

/// At the last colon outside of brackets.
fn host_and_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

fn host_is_good(host: &str) -> Rule {
    if let Some(inside) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return match inside.parse::<core::net::Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(Broken::new("has no IPv6 address between its brackets")),
        };
    }
    if host.is_empty() {
        return Err(Broken::new("has no host").hint("name one, such as `127.0.0.1`"));
    }
    if host.contains(':') {
        return Err(Broken::new("has several `:`").hint("put an IPv6 address into brackets: `[::1]`"));
    }
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
        return Err(Broken::new(format!(
            "has a host that is neither a name nor an address: `{}`",
            shown(host)
        )));
    }
    Ok(())
}

fn port_is_good(port: &str) -> Rule {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(n) if n > 0 && digits => Ok(()),
        _ => Err(Broken::new(format!("must have a port from 1 to 65535, not `{}`", shown(port)))),
    }
}

//! The rules a service must keep, whoever wrote it: a file's author or a client on the wire.
//!
//! Each rule is worded as a clause that follows the name of the field.

use super::report::shown;
pub(super) use super::surroundings::{
    cpus, cpus_text, group, oom_score, parameter_name, private_files, private_name, resources, template_name,
    ulimit, ulimit_name,
};
use super::{LENGTH_MAX, SCALE_MAX, scalar, words};
use crate::project::{RestartPolicy, Signal};
use crate::time::Millis;
use crate::withheld::WITHHELD;

/// The longest text Linux lets a program be started with, as an argument or as `NAME=value`:
/// 32 pages of 4 KiB, less the NUL at the end.
const EXEC_TEXT_MAX: usize = 32 * 4096 - 1;

/// The longest path Linux takes, less the NUL at the end.
const PATH_TEXT_MAX: usize = 4095;

/// The longest URL, in bytes: what servers take without being told.
const URL_TEXT_MAX: usize = 8 << 10;

/// The longest name of a host, in bytes (RFC 1035).
const HOST_TEXT_MAX: usize = 253;

/// Characters nobody sees that change what stands around them: no name has one.
pub(super) fn is_hidden(c: char) -> bool {
    let turns =
        matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}');
    c.is_control() || turns
}

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

pub(super) type Rule = Result<(), Broken>;

fn no_nul(text: &str) -> Rule {
    if text.contains('\0') {
        return Err(Broken::new("contains a NUL character").hint("take it out; no program can be given one"));
    }
    Ok(())
}

pub(super) fn no_program() -> Broken {
    Broken::new("is empty").hint("give a program and its arguments")
}

pub(super) fn argv(words: &[String]) -> Rule {
    match words.first() {
        None => return Err(no_program()),
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

/// A project that was looked at is sent as it was shown.
pub(in crate::file) const NOT_SHOWN: &str =
    "that stands for a value which is not shown; write the value itself";

pub(super) fn variable(name: &str, value: &str) -> Rule {
    no_nul(value)?;
    if name.is_empty() {
        return Err(Broken::new("has a variable without a name").hint("write `NAME=value`"));
    }
    if name.contains(|c: char| c == '=' || c.is_whitespace() || is_hidden(c)) {
        return Err(Broken::new(format!("has a variable with a bad name: `{}`", shown(name)))
            .hint("a name has no space and no `=`"));
    }
    if value == WITHHELD {
        return Err(
            Broken::new(format!("has `{WITHHELD}` as the value of `{}`", shown(name))).hint(NOT_SHOWN)
        );
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
    seen_name(name)
}

pub(super) fn seen_name(name: &str) -> Rule {
    if name.contains(is_hidden) {
        return Err(Broken::new(format!("has a name with a character that nobody sees: `{}`", shown(name))));
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
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return Err(Broken::new("must be a URL that starts with `http://` or `https://`")
            .hint("such as `http://127.0.0.1:8080/health`"));
    };
    if url.len() > URL_TEXT_MAX {
        return Err(Broken::new(format!("is longer than {URL_TEXT_MAX} bytes")));
    }
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Broken::new("has a character that no URL has").hint("write it as `%xx`"));
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    if query.split('&').any(|part| part.split_once('=').is_some_and(|(_, value)| value == WITHHELD)) {
        return Err(Broken::new(format!("has `{WITHHELD}` as a parameter")).hint(NOT_SHOWN));
    }
    if url.contains('#') {
        return Err(Broken::new("has a `#` part, which is never sent").hint("take it out"));
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Broken::new("has a user name, which is not supported yet"));
    }
    let (host, port) = host_and_port(authority);
    self::host(host)?;
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
    self::host(host)?;
    port_is_good(port)
}

/// At the last colon outside of brackets.
fn host_and_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

/// The host of an address or of a URL.
pub(super) fn host(host: &str) -> Rule {
    if host.len() > HOST_TEXT_MAX {
        return Err(Broken::new(format!("has a host of more than {HOST_TEXT_MAX} bytes")));
    }
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

pub(super) fn port_is_good(port: &str) -> Rule {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(n) if n > 0 && digits => Ok(()),
        _ => Err(Broken::new(format!("must have a port from 1 to 65535, not `{}`", shown(port)))),
    }
}

pub(super) fn path(path: &str) -> Rule {
    no_nul(path)?;
    if path.is_empty() {
        return Err(Broken::new("is empty").hint("`.` is the project's directory"));
    }
    if path.len() > PATH_TEXT_MAX {
        return Err(Broken::new(format!("is a path of more than {PATH_TEXT_MAX} bytes")));
    }
    Ok(())
}

pub(super) fn not_empty(text: &str) -> Rule {
    if text.is_empty() { Err(Broken::new("is empty")) } else { Ok(()) }
}

/// Of a network, a volume, a config or a secret.
pub(super) fn resource_name(name: &str) -> Rule {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || !name.chars().all(good) {
        return Err(Broken::new(format!("has a bad name: `{}`", shown(name)))
            .hint("a name has letters, digits, `.`, `_` and `-`"));
    }
    Ok(())
}

/// Of a service: what is wrong with it is said with the service.
pub(super) fn service_name(_: &str) -> Rule {
    Ok(())
}

/// `replicated` is what a service is; the others are for a cluster or not there yet.
pub(super) fn deploy_mode(text: &str) -> Rule {
    const LATER: [&str; 3] = ["global", "global-job", "replicated-job"];
    if text == "replicated" {
        return Ok(());
    }
    if LATER.contains(&text) {
        return Err(Broken::new(format!("is not supported yet: `{text}`"))
            .hint("take it out: `replicated` is meant without it"));
    }
    let hint = words::did_you_mean(text, ["replicated", "global"])
        .unwrap_or_else(|| "write `replicated`".to_owned());
    Err(Broken::new(format!("is not a mode: `{}`", shown(text))).hint(hint))
}

/// What somebody wrote behind `restart`.
pub(super) fn restart(text: &str) -> Rule {
    restart_policy(text).map(drop)
}

pub(super) fn restart_policy(text: &str) -> Result<RestartPolicy, Broken> {
    const WORDS: [&str; 4] = ["no", "always", "on-failure", "unless-stopped"];
    let refuse = |what: String, hint: String| Err(Broken::new(what).hint(hint));
    match text {
        "no" => Ok(RestartPolicy::No),
        "always" => Ok(RestartPolicy::Always),
        "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
        "on-failure" => Ok(RestartPolicy::OnFailure { max: None }),
        "false" => refuse("is not a restart policy: `false`".to_owned(), "did you mean `no`?".to_owned()),
        "true" => refuse("is not a restart policy: `true`".to_owned(), "did you mean `always`?".to_owned()),
        other => match other.strip_prefix("on-failure:").map(str::parse::<u32>) {
            Some(Ok(max)) if max > 0 => Ok(RestartPolicy::OnFailure { max: Some(max) }),
            Some(Err(error)) if *error.kind() == core::num::IntErrorKind::PosOverflow => {
                Err(Broken::new("has a number behind the `:` that is too large"))
            }
            Some(_) => refuse(
                format!(
                    "must have a number of at least 1 behind the `:`, not `{}`",
                    shown(other.rsplit(':').next().unwrap_or_default())
                ),
                "write `on-failure:5`, or `on-failure` for no bound".to_owned(),
            ),
            None => refuse(
                format!("is not a restart policy: `{}`", shown(other)),
                words::did_you_mean(other, WORDS)
                    .unwrap_or_else(|| format!("write one of {}, `on-failure:5`", words::quoted(&WORDS))),
            ),
        },
    }
}

pub(super) fn scale_text(text: &str) -> Rule {
    scale(scalar::whole(text)?).map(drop)
}

pub(super) fn retries_text(text: &str) -> Rule {
    retries(scalar::whole(text)?).map(drop)
}

pub(super) fn signal_name(text: &str) -> Rule {
    if Signal::parse(text).is_some() {
        return Ok(());
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let hint = match words::nearest(bare, Signal::names()) {
        Some(name) => format!("did you mean `SIG{name}`?"),
        None => "write its name or its number, such as `SIGINT` or `2`".to_owned(),
    };
    Err(Broken::new(format!("is not a signal: `{}`", shown(text))).hint(hint))
}

/// A size, or -1 for no bound.
pub(super) fn swap(text: &str) -> Rule {
    if text == "-1" { Ok(()) } else { scalar::bytes(text).map(drop) }
}

pub(super) fn micros(text: &str) -> Rule {
    let bare = text.strip_prefix('-').unwrap_or(text);
    if !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit()) {
        return match bare.parse::<i64>() {
            Ok(_) => Ok(()),
            Err(_) => Err(Broken::new("is too large")),
        };
    }
    scalar::micros(text).map(drop)
}

pub(super) fn count_or_all(text: &str) -> Rule {
    if text == "all" { Ok(()) } else { scalar::whole(text).map(drop) }
}

pub(super) fn pull_policy(text: &str) -> Rule {
    const WORDS: [&str; 7] = ["always", "build", "daily", "if_not_present", "missing", "never", "weekly"];
    // Numbers, each with a unit.
    if let Some(every) = text.strip_prefix("every_") {
        let is_unit = |c: char| "wdhms".contains(c);
        let numbers = every.strip_suffix(is_unit).map(|numbers| numbers.split(is_unit));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if numbers.clone().is_some_and(|mut numbers| numbers.all(is_number)) {
            let fits = numbers.into_iter().flatten().all(|number| number.parse::<u32>().is_ok());
            return if fits { Ok(()) } else { Err(Broken::new("has a number that is too large")) };
        }
    }
    if WORDS.contains(&text) {
        return Ok(());
    }
    let hint = words::did_you_mean(text, WORDS)
        .unwrap_or_else(|| format!("write one of {}, `every_12h`", words::quoted(&WORDS)));
    Err(Broken::new(format!("is not a pull policy: `{}`", shown(text))).hint(hint))
}

pub(super) fn address(text: &str) -> Rule {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<core::net::IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Broken::new(format!("must be an IP address, not `{}`", shown(text)))),
    }
}

/// `80`, `80-90`; zero lets the engine choose.
pub(super) fn port_range(text: &str) -> Rule {
    ports(text).map(drop)
}

/// The first and the last of `80` or `80-90`.
pub(super) fn ports(text: &str) -> Result<(u16, u16), Broken> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u16>().ok().filter(|_| digits)
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        (Some(first), Some(last)) => {
            Err(Broken::new(format!("has a range that ends before it begins: `{first}-{last}`")))
        }
        _ => Err(Broken::new(format!("must have a port from 1 to 65535, not `{}`", shown(text)))),
    }
}

/// `80`, `80-90`, `53/udp`.
pub(super) fn exposed(text: &str) -> Rule {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(Broken::new(format!("has no such protocol: `{}`", shown(protocol)))
            .hint("write `tcp`, `udp` or `sctp`"));
    }
    ports(range).map(drop)
}

/// Of a host that is to be known inside of a container.
pub(super) fn host_name(name: &str) -> Rule {
    if name.is_empty() {
        return Err(Broken::new("has a host without a name").hint("write `host=address`"));
    }
    if name.contains(|c: char| c.is_whitespace() || is_hidden(c) || ":=,".contains(c)) {
        return Err(Broken::new(format!("has a bad name of a host: `{}`", shown(name))));
    }
    Ok(())
}

pub(super) fn host_address(text: &str) -> Rule {
    if text == "host-gateway" { Ok(()) } else { address(text) }
}

/// One line of a log must fit, and none may fill a disk.
pub(super) fn log_size(text: &str) -> Rule {
    log_bytes(scalar::bytes(text)?)
}

pub(super) fn log_bytes(size: u64) -> Rule {
    const LEAST: u64 = 64 << 10;
    const MOST: u64 = 1 << 40;
    match (LEAST..=MOST).contains(&size) {
        true => Ok(()),
        false => Err(Broken::new("must be from 64 KiB to 1 TiB")),
    }
}

/// Each is a file; nobody looks through more.
pub(super) fn log_files(files: u32) -> Rule {
    match (1..=LOG_FILES_MAX).contains(&files) {
        true => Ok(()),
        false => Err(Broken::new(format!("must be from 1 to {LOG_FILES_MAX}, not {files}"))),
    }
}

/// So many segments of a log may be kept.
pub(super) const LOG_FILES_MAX: u32 = 1000;

//! Reads a health check: our short keys, and Compose's `test`.

use super::keys;
use super::pattern::Patterns;
use super::read::{self, At};
use super::report::{Problem, Report, Span};
use super::rules::{self, Broken};
use super::tree::{Entry, Node, Value};
use crate::project::{Healthcheck, Probe};
use crate::time::Millis;

/// The keys that ask a question, of which there is one.
const PROBES: [&str; 5] = ["http", "tcp", "exec", "log", "test"];

/// What a key says about the question asked.
enum Asked {
    Probe(Probe),
    /// `test: ["NONE"]`.
    Nothing,
    /// It was refused, and that was said.
    Bad,
}

/// The health check; `None` where there is none, or it was refused.
pub(super) fn read(
    node: &Node<'_>,
    at: &At<'_>,
    patterns: &mut Patterns,
    report: &mut Report<'_>,
) -> Option<Healthcheck> {
    let entries = read::mapping(node, at, report)?;
    let mut asked: Option<(&str, Asked)> = None;
    let mut disabled = false;
    let mut found = Healthcheck {
        // Stands in until the question is known; without one nothing is returned.
        probe: Probe::Exec(Vec::new()),
        interval: Healthcheck::default_interval(),
        timeout: Healthcheck::default_timeout(),
        retries: Healthcheck::default_retries(),
        start_period: Millis(0),
        start_interval: Healthcheck::default_start_interval(),
    };
    for Entry { key, value } in entries {
        let inner = at.key(key);
        match &*key.text {
            word @ ("http" | "tcp" | "exec" | "log" | "test") => {
                let answer = question(word, value, &inner, patterns, report).unwrap_or(Asked::Bad);
                match &asked {
                    None => asked = Some((word, answer)),
                    Some((first, _)) => two(key.span, first, word, at, report),
                }
            }
            "disable" => disabled = read::flag(value, &inner, report).unwrap_or(false),
            "retries" => {
                let count = read::whole(value, &inner, report);
                let count = count.and_then(|n| read::check(value, &inner, rules::retries(n), report));
                found.retries = count.unwrap_or(found.retries);
            }
            "start_period" => {
                found.start_period = read::length(value, &inner, report).unwrap_or_default();
            }
            "interval" => rhythm(&mut found.interval, value, &inner, report),
            "timeout" => rhythm(&mut found.timeout, value, &inner, report),
            "start_interval" => rhythm(&mut found.start_interval, value, &inner, report),
            _ => read::unknown_key(key, at, &keys::HEALTHCHECK, report),
        }
    }
    match asked {
        _ if disabled => None,
        Some((_, Asked::Probe(probe))) => Some(Healthcheck { probe, ..found }),
        // Refused: as if it were there, so that nobody who waits for it is refused too.
        Some((_, Asked::Bad)) => Some(found),
        Some((_, Asked::Nothing)) => None,
        None => {
            // Said already where a misspelled one was refused.
            if !entries.iter().any(|e| keys::HEALTHCHECK.seems(&e.key.text, &PROBES)) {
                let hint = format!("give it one of {}", keys::quoted(&PROBES));
                read::broken(node, at, Broken::new("asks nothing").hint(hint), report);
            }
            Some(found)
        }
    }
}

fn two(span: Span, first: &str, second: &str, at: &At<'_>, report: &mut Report<'_>) {
    report.error(span, || {
        Problem::new(format!("`{at}` asks twice: `{first}` and `{second}`"))
            .label("the second one")
            .hint("keep one of the two".to_owned())
    });
}

fn rhythm(field: &mut Millis, node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) {
    let Some(length) = read::length(node, at, report) else { return };
    if read::check(node, at, rules::positive_length(length), report).is_some() {
        *field = length;
    }
}

fn question(
    word: &str,
    node: &Node<'_>,
    at: &At<'_>,
    patterns: &mut Patterns,
    report: &mut Report<'_>,
) -> Option<Asked> {
    let probe = match word {
        "exec" => Probe::Exec(read::argv(node, at, report)?),
        "http" => Probe::Http(checked(node, at, rules::http, report)?),
        "tcp" => Probe::Tcp(checked(node, at, rules::tcp, report)?),
        "log" => Probe::Log(pattern(node, at, patterns, report)?),
        _ => return test(node, at, report),
    };
    Some(Asked::Probe(probe))
}

fn checked(
    node: &Node<'_>,
    at: &At<'_>,
    rule: fn(&str) -> Result<(), Broken>,
    report: &mut Report<'_>,
) -> Option<String> {
    let text = read::text(node, at, report)?;
    read::check(node, at, rule(&text), report)?;
    Some(text.into_owned())
}

fn pattern(node: &Node<'_>, at: &At<'_>, patterns: &mut Patterns, report: &mut Report<'_>) -> Option<String> {
    let text = read::text(node, at, report)?;
    let Err((rule, inside)) = patterns.check(&text) else { return Some(text.into_owned()) };
    // The caret can stand inside of the pattern where the pattern stands in the file as it is.
    let place = report.text(node.span).find(&*text).zip(inside).map(|(offset, inside)| Span {
        start: node.span.start + offset + inside.start,
        end: node.span.start + offset + inside.end,
    });
    report
        .error(place.unwrap_or(node.span), || Problem::new(format!("`{at}` {}", rule.what)).hint(rule.hint));
    None
}

/// Compose's form: text is a shell's line; a list says by its first word what the rest is.
fn test(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<Asked> {
    let Value::List(items) = &node.value else {
        if node.is_null() || matches!(node.value, Value::Map(_)) {
            read::wrong_type(node, at, "a list, or text", report);
            return None;
        }
        let line = read::text(node, at, report)?.into_owned();
        return shell(line, node, at, report);
    };
    let mut words = read::texts(items, at, report)?;
    let rule = match words.first().map(String::as_str) {
        Some("NONE") if words.len() == 1 => return Some(Asked::Nothing),
        Some("CMD") => {
            words.remove(0);
            read::check(node, at, rules::argv(&words), report)?;
            return Some(Asked::Probe(Probe::Exec(words)));
        }
        Some("CMD-SHELL") if words.len() == 2 => return shell(words.remove(1), node, at, report),
        Some("CMD-SHELL") => {
            Broken::new("must have one text after `CMD-SHELL`").hint("for separate words write `CMD`")
        }
        Some("NONE") => Broken::new("has words after `NONE`, which means no check"),
        _ => Broken::new("must start with `CMD`, `CMD-SHELL` or `NONE`")
            .hint("`CMD` for a program and its arguments, `CMD-SHELL` for a shell's line"),
    };
    read::broken(node, at, rule, report);
    None
}

/// The person wrote a shell form, so a shell it is.
fn shell(line: String, node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<Asked> {
    if line.trim().is_empty() {
        read::broken(node, at, Broken::new("is empty").hint("give it a shell's line"), report);
        return None;
    }
    let argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), line];
    read::check(node, at, rules::argv(&argv), report)?;
    Some(Asked::Probe(Probe::Exec(argv)))
}

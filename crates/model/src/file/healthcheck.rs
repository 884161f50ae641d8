//! Reads a health check: our short keys, and Compose's `test`.

use super::read::{At, broken};
use super::report::{Problem, Report};
use super::rules::Broken;
use super::tree::{Entry, Node, Value};
use super::{scalar, words};
use crate::project::{Http, Probe, Question};

/// The keys that ask a question, of which there is one.
const PROBES: [&str; 5] = ["http", "tcp", "exec", "log", "test"];

/// What a key says about the question asked.
enum Asked {
    Question(Question),
    /// `test: ["NONE"]`.
    Nothing,
    /// It was refused, and that was said.
    Bad,
}

/// The health check; `None` where there is none. A container may have one of its image.
pub(super) fn read(
    node: &Node<'_>,
    at: &At<'_>,
    is_container: bool,
    report: &mut Report<'_>,
) -> Option<Probe> {
    let Value::Map(entries) = node.value else { return None };
    let mut asked: Option<(&str, Asked)> = None;
    let mut disabled = false;
    // Stands in until the question is known; without one nothing is returned.
    let mut found = Probe::new(Question::Exec(Vec::new()));
    for &Entry { key, value } in entries {
        let length = || value.as_text().and_then(|text| scalar::length(text).ok());
        match key.text {
            word if PROBES.contains(&word) => match &asked {
                None => asked = Some((word, question(word, value))),
                Some((first, _)) => report.error(key.span, || {
                    Problem::new(format!("`{at}` asks twice: `{first}` and `{word}`"))
                        .label("the second one")
                        .hint("keep one of the two".to_owned())
                }),
            },
            "disable" => disabled = value.as_text().is_some_and(|text| scalar::flag(text).unwrap_or(false)),
            "retries" => {
                let count = value.as_text().and_then(|text| text.parse().ok());
                found.failure_threshold = count.unwrap_or(found.failure_threshold);
            }
            "start_period" => found.start_period = length().unwrap_or_default(),
            "interval" => found.interval = length().unwrap_or(found.interval),
            "timeout" => found.timeout = length().unwrap_or(found.timeout),
            "start_interval" => found.start_interval = length().unwrap_or(found.start_interval),
            _ => {}
        }
    }
    match asked {
        _ if disabled => None,
        Some((_, Asked::Question(ask))) => Some(Probe { ask, ..found }),
        // Refused: as if it were there, so that nobody who waits for it is refused too.
        Some((_, Asked::Bad)) => Some(found),
        Some((_, Asked::Nothing)) => None,
        None if is_container => Some(found),
        None => {
            let hint = format!("give it one of {}", words::quoted(&PROBES));
            broken(node, at, Broken::new("asks nothing").hint(hint), report);
            Some(found)
        }
    }
}

fn question(word: &str, node: &Node<'_>) -> Asked {
    let text = || node.as_text().map(str::to_owned);
    let words = || super::service::words(node);
    let probe = match word {
        "exec" => words().map(Question::Exec),
        "http" => text().map(|url| Question::Http(Http::get(url))),
        "tcp" => text().map(Question::Tcp),
        "log" => text().map(Question::Log),
        _ => return words().map_or(Asked::Bad, test),
    };
    probe.map_or(Asked::Bad, Asked::Question)
}

/// Compose's form: the first word says what the rest is.
fn test(mut words: Vec<String>) -> Asked {
    let first = if words.is_empty() { String::new() } else { words.remove(0) };
    match (first.as_str(), words.pop()) {
        ("NONE", _) => Asked::Nothing,
        // The person wrote a shell form, so a shell it is.
        ("CMD-SHELL", Some(line)) => {
            Asked::Question(Question::Exec(vec!["/bin/sh".to_owned(), "-c".to_owned(), line]))
        }
        (_, Some(last)) => {
            words.push(last);
            Asked::Question(Question::Exec(words))
        }
        (_, None) => Asked::Bad,
    }
}

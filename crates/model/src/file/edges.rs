//! Reads what a service waits for, and makes probes of what it waits for that nobody asks yet.

use std::collections::HashMap;

use super::place::Span;
use super::read::{At, broken};
use super::report::{Problem, Report, shown};
use super::rules::Broken;
use super::service::Draft;
use super::tree::{Entry, Node, Value};
use super::{questions, scalar, words};
use crate::ids::ProbeName;
use crate::project::{Condition, Dependency, OnFailure, OnRestart, Probe, Question};

/// A dependency as it is written: its name may be nobody's.
pub(super) struct Edge {
    pub(super) target: String,
    pub(super) span: Span,
    pub(super) condition_span: Span,
    /// Where `on_restart` is given, or the name.
    pub(super) on_restart_span: Span,
    pub(super) dependency: Dependency,
    /// What its condition asks of the other service, as long as that has no probe for it.
    asks: Option<Asks>,
}

impl Edge {
    /// One that follows from another key.
    pub(super) fn implied(target: String, span: Span, dependency: Dependency) -> Self {
        Self { target, span, condition_span: span, on_restart_span: span, dependency, asks: None }
    }
}

/// What a condition asks that is no probe of anybody's yet.
enum Asks {
    /// That `host:port` accepts a connection.
    Port(String),
    /// A line of its log; without a pattern the one it is asked for itself.
    Log(Option<String>),
}

/// Keys that say more of one condition.
const OF_CONDITIONS: [(&str, &str); 2] = [("pattern", "log_ready"), ("port", "port_open")];

pub(super) fn read(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Vec<Edge> {
    let Value::Map(entries) = node.value else { return Vec::new() };
    entries.iter().map(|entry| edge(entry, &at.key(&entry.key), report)).collect()
}

fn edge(entry: &Entry<'_>, at: &At<'_>, report: &mut Report<'_>) -> Edge {
    let Entry { key, value } = entry;
    let text = |name: &str| value.get(name).and_then(|node| node.as_text());
    let flag =
        |name: &str, default: bool| text(name).and_then(|text| scalar::flag(text).ok()).unwrap_or(default);
    let dependency = Dependency {
        condition: text("condition").and_then(|word| word.parse().ok()).unwrap_or_default(),
        required: flag("required", true),
        restart: flag("restart", false),
        on_restart: match text("on_restart") {
            Some("restart") => OnRestart::Restart,
            Some("reload") => OnRestart::Reload,
            Some("stop") => OnRestart::Stop,
            _ => OnRestart::Ignore,
        },
        on_failure: match text("on_failure") {
            Some("wait") => OnFailure::Wait,
            Some("continue") => OnFailure::Continue,
            _ => OnFailure::Fail,
        },
        timeout: text("timeout").and_then(|text| scalar::length(text).ok()),
    };
    let place = |name: &str| value.get(name).map_or(key.span, |node| node.span);
    Edge {
        target: key.text.to_owned(),
        span: key.span,
        condition_span: place("condition"),
        on_restart_span: place("on_restart"),
        dependency,
        asks: asks(value, at, report),
    }
}

/// What its condition asks; what does not go with it is refused.
fn asks(value: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<Asks> {
    let condition = value.get("condition");
    let word = condition.and_then(|node| node.as_text());
    // Of one that was refused, or is not known yet, nothing is said.
    if condition.is_some() && word.is_none_or(|word| questions::condition(word).is_err()) {
        return None;
    }
    for (name, wanted) in OF_CONDITIONS {
        let entry = value.entries().iter().find(|entry| entry.key.text == name);
        if let Some(entry) = entry.filter(|_| word != Some(wanted)) {
            report.error(entry.key.span, || {
                Problem::new(format!("`{at}.{name}` is for `condition: {wanted}`"))
                    .hint("take it out, or wait for that".to_owned())
            });
        }
    }
    match word {
        Some("port_open") => {
            let Some(port) = value.get("port") else {
                let rule = Broken::new("waits for a port, and does not say for which");
                let node = condition.unwrap_or(value);
                broken(node, at, rule.hint("give it a `port`"), report);
                return None;
            };
            port.as_text().and_then(address).map(Asks::Port)
        }
        Some("log_ready") => match value.get("pattern") {
            None => Some(Asks::Log(None)),
            Some(pattern) => Some(Asks::Log(Some(pattern.as_text()?.to_owned()))),
        },
        _ => None,
    }
}

/// `host:port` of what may be a port alone.
fn address(text: &str) -> Option<String> {
    questions::port(text).ok()?;
    let (host, port) = text.rsplit_once(':').unwrap_or((Question::HERE, text));
    Some(format!("{host}:{}", port.parse::<u16>().ok()?))
}

/// Gives each service the probes that others wait for.
pub(super) fn settle(drafts: &mut [Draft], report: &mut Report<'_>) {
    let places: HashMap<String, usize> =
        drafts.iter().enumerate().map(|(place, draft)| (draft.name.clone(), place)).collect();
    // Only those that were written: others are made on the way.
    let is_log = |draft: &Draft| {
        let logs = draft.spec.probes.iter().filter(|(_, probe)| matches!(probe.ask, Question::Log(_)));
        logs.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let logs: Vec<Vec<ProbeName>> = drafts.iter().map(is_log).collect();
    ask_images(&places, drafts);
    for from in 0..drafts.len() {
        for number in 0..drafts[from].edges.len() {
            let Some(asks) = drafts[from].edges[number].asks.take() else { continue };
            let (name, edge) = (drafts[from].name.clone(), &drafts[from].edges[number]);
            let (target, span) = (edge.target.clone(), edge.condition_span);
            let place = places.get(&target).copied();
            let wait = Wait { name: &name, target: &target, span };
            let condition = match asks {
                Asks::Log(None) => {
                    place.and_then(|place| wait.only(&logs[place], report)).map(Condition::Probe)
                }
                Asks::Log(Some(pattern)) => wait
                    .made(Question::Log(pattern.clone()), place, drafts, report)
                    .then_some(Condition::Line(pattern)),
                Asks::Port(address) => wait
                    .made(Question::Tcp(address.clone()), place, drafts, report)
                    .then_some(Condition::Port(address)),
            };
            if let Some(condition) = condition {
                drafts[from].edges[number].dependency.condition = condition;
            }
        }
    }
}

/// A container that somebody waits for to be healthy, and whose file says nothing of that, has the health check
/// of its image.
fn ask_images(places: &HashMap<String, usize>, drafts: &mut [Draft]) {
    let edges = drafts.iter().flat_map(|draft| &draft.edges);
    let waits = edges.filter(|edge| edge.dependency.condition == Condition::Healthy);
    let waited_for: Vec<usize> = waits.filter_map(|edge| places.get(&edge.target).copied()).collect();
    for place in waited_for {
        let spec = &mut drafts[place].spec;
        let has_images = spec.container.as_ref().is_some_and(|container| container.image_check);
        if let (true, Ok(name)) = (has_images, ProbeName::new(ProbeName::READINESS)) {
            spec.probes.entry(name).or_insert_with(Probe::of_image);
        }
    }
}

/// Who waits, for whom, and where that is said.
struct Wait<'w> {
    name: &'w str,
    target: &'w str,
    span: Span,
}

impl Wait<'_> {
    fn refuse(&self, what: &str, hint: String, report: &mut Report<'_>) {
        report.error(self.span, || {
            let (name, target) = (shown(self.name), shown(self.target));
            Problem::new(format!("Service `{name}` waits for a line of `{target}`, {what}")).hint(hint)
        });
    }

    /// The one probe of the other's log.
    fn only(&self, logs: &[ProbeName], report: &mut Report<'_>) -> Option<ProbeName> {
        match logs {
            [only] => return Some(only.clone()),
            [] => self.refuse(
                "and does not say for which",
                "give it a `pattern`, or that service a probe with `log`".to_owned(),
                report,
            ),
            [first, ..] => {
                let names: Vec<&str> = logs.iter().map(ProbeName::as_str).collect();
                let what = format!("which has several probes with `log`: {}", words::quoted(&names));
                self.refuse(&what, format!("wait for one of them, such as `probe:{first}`"), report);
            }
        }
        None
    }

    /// Whether the other service has a probe that asks this: it is given one, where it has not.
    fn made(
        &self,
        ask: Question,
        place: Option<usize>,
        drafts: &mut [Draft],
        report: &mut Report<'_>,
    ) -> bool {
        let Some(name) = ask.own_name() else { return false };
        let Some(other) = place.map(|place| &mut drafts[place]) else { return true };
        let written = other.probe_spans.get(&name).copied();
        match other.spec.probes.get(&name) {
            Some(probe) if probe.ask == ask => return true,
            Some(_) => report.error(self.span, || {
                let target = shown(self.target);
                let problem = Problem::new(format!(
                    "Service `{}` waits for `{ask}` of `{target}`, whose probe `{name}` asks something else",
                    shown(self.name)
                ));
                let problem = problem.hint("call that probe something else".to_owned());
                written.into_iter().fold(problem, |problem, span| problem.also(span, "the probe"))
            }),
            None if other.spec.external && ask.is_of_processes() => {
                self.refuse(
                    "which is external, and whose log is not seen",
                    "wait for one of its probes".to_owned(),
                    report,
                );
            }
            None if other.spec.probes.len() >= Probe::COUNT_MAX => report.error(self.span, || {
                let rule = questions::too_many(other.spec.probes.len() + 1);
                Problem::new(format!("Service `{}` {}", shown(self.target), rule.what))
                    .label("this would be one more")
            }),
            None => {
                other.spec.probes.insert(name, Probe::asking(ask));
                return true;
            }
        }
        false
    }
}

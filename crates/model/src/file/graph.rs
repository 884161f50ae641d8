//! Judges what the services of a project say about each other, and makes one project of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::edges::{self, Edge};
use super::report::{Problem, Report, shown};
use super::service::Draft;
use super::tree::Node;
use super::{SLOTS_MAX, project, words};
use crate::dag::{Dag, DagError};
use crate::ids::{ProbeName, ServiceName};
use crate::project::{Condition, OnFailure, OnRestart, RestartPolicy, Service};

/// How many cycles are looked for, each through other services. Every one costs a walk over the
/// whole graph, and the first few say enough.
const CYCLES_MAX: usize = 10;

/// How many services of one cycle are named; longer ones are cut in the middle.
const CYCLE_NAMES_MAX: usize = 100;

/// Judges what services say of each other. What is wrong is in the report.
///
/// `services`: all there are, also those that no profile enables.
pub(super) fn judge(drafts: &mut [Draft], services: Option<&Node<'_>>, report: &mut Report<'_>) {
    edges::settle(drafts, report);
    let drafts = &*drafts;
    let known: HashMap<&str, &Draft> = drafts.iter().map(|d| (d.name.as_str(), d)).collect();
    let disabled = |name: &str| {
        let profiles = project::profiles_of(services?.get(name)?);
        (!profiles.is_empty()).then_some(profiles)
    };
    for draft in drafts {
        if let Err(error) = ServiceName::new(&draft.name) {
            report.error(draft.name_span, || Problem::new(error.to_string()));
        }
        for edge in &draft.edges {
            check(draft, edge, &known, &disabled, report);
        }
    }
    count_slots(drafts, report);
    cycles(drafts, &known, report);
}

/// The services by name, with their dependencies, of drafts that were judged good.
pub(super) fn join(drafts: Vec<Draft>) -> BTreeMap<ServiceName, Service> {
    let joined = drafts.into_iter().filter_map(|draft| {
        let edges = draft.edges.into_iter();
        let depends_on = edges.filter_map(|e| Some((ServiceName::new(&e.target).ok()?, e.dependency)));
        Some((
            ServiceName::new(&draft.name).ok()?,
            Service { depends_on: depends_on.collect(), ..draft.spec },
        ))
    });
    joined.collect()
}

/// Judges one dependency.
fn check(
    draft: &Draft,
    edge: &Edge,
    known: &HashMap<&str, &Draft>,
    disabled: &dyn Fn(&str) -> Option<Vec<String>>,
    report: &mut Report<'_>,
) {
    let (name, target) = (&draft.name, &edge.target);
    if name == target {
        report.error(edge.span, || {
            Problem::new(format!("Service `{}` depends on itself", shown(name)))
                .hint("take it out of its own `depends_on`".to_owned())
        });
        return;
    }
    let Some(other) = known.get(target.as_str()) else {
        if edge.dependency.required {
            report.error(edge.span, || match disabled(target) {
                Some(profiles) => in_profile(name, target, &profiles),
                None => unknown(name, target, known),
            });
        } else if let Err(error) = ServiceName::new(target) {
            report.error(edge.span, || Problem::new(error.to_string()));
        }
        return;
    };
    if edge.dependency.condition == Condition::Healthy && other.spec.readiness().is_none() {
        report.error(edge.condition_span, || {
            Problem::new(format!(
                "Service `{}` waits for `{}` to be healthy, but that one has no health check",
                shown(name),
                shown(target)
            ))
            .hint(match other.container {
                None => format!("give `{}` a `healthcheck`, or wait for `service_started`", shown(target)),
                Some(_) => format!(
                    "its `healthcheck` switches off that of its image, too: let `{}` have one, or wait for `service_started`",
                    shown(target)
                ),
            })
        });
    }
    check_probe(draft, edge, other, report);
    check_end(draft, edge, other, report);
    note_endless(draft, edge, other, report);
    note_vain(draft, edge, report);
    if edge.dependency.on_restart == OnRestart::Reload && draft.spec.reload.is_none() {
        report.error(edge.on_restart_span, || {
            Problem::new(format!(
                "Service `{}` is to be reloaded with `{}`, and does not say how",
                shown(name),
                shown(target)
            ))
            .hint(format!("give `{}` a `reload`, or use `on_restart: restart`", shown(name)))
        });
    }
}

/// Nobody waits for a probe that is not there.
fn check_probe(draft: &Draft, edge: &Edge, other: &Draft, report: &mut Report<'_>) {
    let Condition::Probe(probe) = &edge.dependency.condition else { return };
    if other.spec.probes.contains_key(probe) {
        return;
    }
    report.error(edge.condition_span, || {
        let (name, target) = (shown(&draft.name), shown(&edge.target));
        let names: Vec<&str> = other.spec.probes.keys().map(ProbeName::as_str).collect();
        let hint = match words::nearest(probe.as_str(), names.iter().copied()) {
            Some(near) => format!("did you mean `{}{near}`?", Condition::PROBE),
            None if names.is_empty() => format!("give it one, under `probes` of `{target}`"),
            None => format!("it has {}", words::quoted(&names)),
        };
        Problem::new(format!(
            "Service `{name}` waits for the probe `{probe}` of `{target}`, which has no such probe"
        ))
        .hint(hint)
    });
}

/// What runs elsewhere is not seen to end.
fn check_end(draft: &Draft, edge: &Edge, other: &Draft, report: &mut Report<'_>) {
    if other.spec.external && is_of_end(&edge.dependency.condition) {
        report.error(edge.condition_span, || {
            let (name, target) = (shown(&draft.name), shown(&edge.target));
            Problem::new(format!("Service `{name}` waits for `{target}` to end, which is external"))
                .hint("its end is not seen: wait for one of its probes".to_owned())
        });
    }
}

/// It holds when the other one has ended, however.
pub(super) fn is_of_end(condition: &Condition) -> bool {
    matches!(condition, Condition::Completed | Condition::CompletedSuccessfully)
}

/// Waiting for the end of something that is always started again is allowed, and seldom meant.
fn note_endless(draft: &Draft, edge: &Edge, other: &Draft, report: &mut Report<'_>) {
    let endless = matches!(other.spec.restart, RestartPolicy::Always | RestartPolicy::UnlessStopped);
    let waits = is_of_end(&edge.dependency.condition) || edge.dependency.condition == Condition::Failed;
    if endless && waits {
        report.note(edge.condition_span, || {
            let (name, target) = (shown(&draft.name), shown(&edge.target));
            Problem::new(format!(
                "Service `{name}` waits for `{target}` to end, which is always started again"
            ))
            .hint(format!("let `{target}` have `restart: on-failure`, or no `restart`"))
        });
    }
}

/// Who waits also for what has failed goes on waiting when the time is over.
fn note_vain(draft: &Draft, edge: &Edge, report: &mut Report<'_>) {
    if edge.dependency.on_failure == OnFailure::Wait && edge.dependency.timeout.is_some() {
        report.note(edge.span, || {
            let (name, target) = (shown(&draft.name), shown(&edge.target));
            Problem::new(format!(
                "Service `{name}` goes on waiting for `{target}` when its `timeout` is over: that is what \
                 `on_failure: wait` says"
            ))
            .hint("take out the `timeout`, or use `on_failure: fail` or `continue`".to_owned())
        });
    }
}

fn in_profile(name: &str, target: &str, profiles: &[String]) -> Problem {
    let profile = profiles.first().map_or("", String::as_str);
    Problem::new(format!(
        "Service `{}` depends on `{}`, which only runs in profile `{}`",
        shown(name),
        shown(target),
        shown(profile)
    ))
    .hint(format!("ask for it with `--profile {}`, or set `required: false`", shown(profile)))
}

fn unknown(name: &str, target: &str, known: &HashMap<&str, &Draft>) -> Problem {
    let others = known.keys().copied().filter(|other| *other != name);
    let hint = words::did_you_mean(target, others)
        .unwrap_or_else(|| "declare it under `services`, or set `required: false`".to_owned());
    Problem::new(format!("Service `{}` depends on `{}`, which is not declared", shown(name), shown(target)))
        .hint(hint)
}

/// At most one error: the sum belongs to nobody.
fn count_slots(drafts: &[Draft], report: &mut Report<'_>) {
    let mut sum = 0_u64;
    let over = drafts.iter().find(|draft| {
        sum += u64::from(draft.spec.scale);
        sum > SLOTS_MAX
    });
    if let Some(draft) = over {
        report.error(draft.scale_span, || {
            let all: u64 = drafts.iter().map(|d| u64::from(d.spec.scale)).sum();
            project::too_many_slots(&format!("{all} copies of services"))
        });
    }
}

/// Names a cycle, forgets its services, and looks again: every one named is a cycle of its own.
fn cycles(drafts: &[Draft], known: &HashMap<&str, &Draft>, report: &mut Report<'_>) {
    let mut named: HashSet<&str> = HashSet::new();
    for _ in 0..CYCLES_MAX {
        let is_left = |name: &str| known.contains_key(name) && !named.contains(name);
        let nodes = drafts.iter().filter(|d| is_left(&d.name)).map(|draft| {
            let targets = draft.edges.iter().map(|e| e.target.as_str());
            let targets: Vec<&str> = targets.filter(|t| is_left(t) && *t != draft.name).collect();
            (draft.name.as_str(), targets)
        });
        let Err(DagError::Cycle(path)) = Dag::new(nodes) else { return };
        let first = path.first().and_then(|name| known.get(name));
        let edge = first.and_then(|d| d.edges.iter().find(|e| Some(&e.target.as_str()) == path.get(1)));
        let Some(edge) = edge else { return };
        report.error(edge.span, || {
            Problem::new(format!("Circular dependency: {}", arrows(&path)))
                .label("the cycle starts here")
                .hint("take one of these dependencies out".to_owned())
        });
        named.extend(path);
    }
}

/// `a → c → b → a`.
fn arrows(path: &[&str]) -> String {
    let names: Vec<String> = path.iter().map(|name| shown(name)).collect();
    if names.len() <= CYCLE_NAMES_MAX {
        return names.join(" → ");
    }
    let (half, left_out) = (CYCLE_NAMES_MAX / 2, names.len() - CYCLE_NAMES_MAX);
    let (start, end) = (names[..half].join(" → "), names[names.len() - half..].join(" → "));
    format!("{start} → … {left_out} more … → {end}")
}

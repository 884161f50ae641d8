//! Judges what the services of a project say about each other, and makes one project of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::report::{Problem, Report, shown};
use super::service::{Draft, Edge};
use super::{SLOTS_MAX, keys, project};
use crate::dag::{Dag, DagError};
use crate::ids::ServiceName;
use crate::project::{Condition, RestartPolicy, Service};

/// How many cycles are looked for, each through other services. Every one costs a walk over the
/// whole graph, and the first few say enough.
const CYCLES_MAX: usize = 10;

/// How many services of one cycle are named; longer ones are cut in the middle.
const CYCLE_NAMES_MAX: usize = 100;

/// The services by name, with their dependencies. What is wrong is in the report.
pub(super) fn join(drafts: Vec<Draft>, report: &mut Report<'_>) -> BTreeMap<ServiceName, Service> {
    let known: HashMap<&str, &Draft> = drafts.iter().map(|d| (d.name.as_str(), d)).collect();
    let mut depends_on = Vec::with_capacity(drafts.len());
    for draft in &drafts {
        if let Err(error) = ServiceName::new(&draft.name) {
            report.error(draft.name_span, || Problem::new(error.to_string()));
        }
        let good = draft.edges.iter().filter(|edge| is_good(draft, edge, &known, report));
        depends_on.push(
            good.filter_map(|e| Some((ServiceName::new(&e.target).ok()?, e.dependency.clone()))).collect(),
        );
    }
    count_slots(&drafts, report);
    cycles(&drafts, &known, report);
    drafts
        .into_iter()
        .zip(depends_on)
        .filter_map(|(draft, depends_on)| {
            Some((ServiceName::new(&draft.name).ok()?, Service { depends_on, ..draft.spec }))
        })
        .collect()
}

/// Judges one dependency.
fn is_good(draft: &Draft, edge: &Edge, known: &HashMap<&str, &Draft>, report: &mut Report<'_>) -> bool {
    let (name, target) = (&draft.name, &edge.target);
    if name == target {
        report.error(edge.span, || {
            Problem::new(format!("Service `{}` depends on itself", shown(name)))
                .hint("take it out of its own `depends_on`".to_owned())
        });
        return false;
    }
    let Some(other) = known.get(target.as_str()) else {
        if edge.dependency.required {
            report.error(edge.span, || unknown(name, target, known));
        } else if let Err(error) = ServiceName::new(target) {
            report.error(edge.span, || Problem::new(error.to_string()));
        }
        return !edge.dependency.required;
    };
    if edge.dependency.condition == Condition::Healthy && other.spec.healthcheck.is_none() {
        report.error(edge.condition_span, || {
            Problem::new(format!(
                "Service `{}` waits for `{}` to be healthy, but that one has no health check",
                shown(name),
                shown(target)
            ))
            .hint(format!("give `{}` a `healthcheck`, or wait for `service_started`", shown(target)))
        });
    }
    note_endless(draft, edge, other, report);
    true
}

/// Waiting for the end of something that is always started again is allowed, and seldom meant.
fn note_endless(draft: &Draft, edge: &Edge, other: &Draft, report: &mut Report<'_>) {
    let endless = matches!(other.spec.restart, RestartPolicy::Always | RestartPolicy::UnlessStopped);
    if endless && edge.dependency.condition == Condition::CompletedSuccessfully {
        report.note(edge.condition_span, || {
            let (name, target) = (shown(&draft.name), shown(&edge.target));
            Problem::new(format!(
                "Service `{name}` waits for `{target}` to end, which is always started again"
            ))
            .hint(format!("let `{target}` have `restart: on-failure`, or no `restart`"))
        });
    }
}

fn unknown(name: &str, target: &str, known: &HashMap<&str, &Draft>) -> Problem {
    let others = known.keys().copied().filter(|other| *other != name);
    let hint = keys::did_you_mean(target, others)
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

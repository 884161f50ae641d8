//! Which of the edges that order stops hold.
//!
//! One file has no cycle. Those of two files together may: `web` was started when it rested on
//! `db`, and by now `db` rests on `web`. Were both kept, a stop of both would wait for itself for
//! ever. So an edge that lies on a cycle gives way where it is only remembered; the newest file's
//! stay. Should those too come from different files and go round, no edge of the cycle holds.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::ids::ServiceName;

/// One service rests on another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) dependent: ServiceName,
    pub(crate) dependency: ServiceName,
    /// A copy was started by it, and the newest file does not say so.
    pub(crate) remembered: bool,
}

impl Edge {
    fn pair(&self) -> (ServiceName, ServiceName) {
        (self.dependent.clone(), self.dependency.clone())
    }
}

/// The edges that do not hold, as dependent and dependency. Without them there is no cycle.
pub(crate) fn loose(edges: &BTreeSet<Edge>) -> BTreeSet<(ServiceName, ServiceName)> {
    let mut kept: Vec<&Edge> = edges.iter().collect();
    let mut loose = BTreeSet::new();
    for remembered_only in [true, false] {
        let goes = on_cycles(&kept, |edge| edge.remembered || !remembered_only);
        kept.retain(|edge| !goes.contains(edge));
        loose.extend(goes.iter().map(|edge| edge.pair()));
    }
    // What one copy only remembers the file may say of another.
    for edge in kept {
        loose.remove(&edge.pair());
    }
    loose
}

/// Those of the candidates that lie on a cycle.
fn on_cycles<'a>(edges: &[&'a Edge], is_candidate: impl Fn(&Edge) -> bool) -> BTreeSet<&'a Edge> {
    let core = core(edges);
    let mut needs: BTreeMap<&ServiceName, Vec<&ServiceName>> = BTreeMap::new();
    for edge in &core {
        needs.entry(&edge.dependent).or_default().push(&edge.dependency);
    }
    let mut reached: BTreeMap<&ServiceName, BTreeSet<&ServiceName>> = BTreeMap::new();
    core.into_iter()
        .filter(|edge| is_candidate(edge))
        .filter(|edge| {
            let from = &edge.dependency;
            reached.entry(from).or_insert_with(|| reach(from, &needs)).contains(&edge.dependent)
        })
        .collect()
}

/// What is left when everything that rests on nothing is taken away again and again: the cycles, and
/// what rests on them. Mostly nothing.
fn core<'a>(edges: &[&'a Edge]) -> Vec<&'a Edge> {
    let mut open: BTreeMap<&ServiceName, usize> = BTreeMap::new();
    let mut dependents: BTreeMap<&ServiceName, Vec<&ServiceName>> = BTreeMap::new();
    for edge in edges {
        *open.entry(&edge.dependent).or_default() += 1;
        open.entry(&edge.dependency).or_default();
        dependents.entry(&edge.dependency).or_default().push(&edge.dependent);
    }
    let mut free: Vec<&ServiceName> =
        open.iter().filter(|(_, count)| **count == 0).map(|(service, _)| *service).collect();
    while let Some(service) = free.pop() {
        for dependent in dependents.get(service).into_iter().flatten() {
            if let Some(count) = open.get_mut(dependent) {
                *count -= 1;
                if *count == 0 {
                    free.push(dependent);
                }
            }
        }
    }
    let is_open = |service: &ServiceName| open.get(service).is_some_and(|count| *count > 0);
    edges.iter().copied().filter(|edge| is_open(&edge.dependent) && is_open(&edge.dependency)).collect()
}

fn reach<'a>(
    from: &'a ServiceName,
    needs: &BTreeMap<&'a ServiceName, Vec<&'a ServiceName>>,
) -> BTreeSet<&'a ServiceName> {
    let mut reached = BTreeSet::from([from]);
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        for service in needs.get(next).into_iter().flatten() {
            if reached.insert(service) {
                open.push(service);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    /// `a>b` is of the file, `a~b` is remembered.
    fn read(text: &str) -> BTreeSet<Edge> {
        let edge = |text: &str| {
            let (dependent, dependency) = text.split_once(['>', '~']).unwrap();
            let remembered = text.contains('~');
            Edge { dependent: name(dependent), dependency: name(dependency), remembered }
        };
        text.split_whitespace().map(edge).collect()
    }

    fn loosened(text: &str) -> String {
        let pairs = loose(&read(text)).into_iter().map(|(a, b)| format!("{a}-{b}"));
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_remembered_gives_way_on_a_cycle_and_only_there() {
        for (edges, expected) in [
            ("a>b b>c a~c c~d", ""),
            ("a>b b~a", "b-a"),
            ("a>b b~c c~a x~a c~y", "b-c c-a"),
            ("a>b b~a m~b c>d d~c", "b-a d-c"),
            ("a>b b~a b~c c>d d~c", "b-a d-c"),
            ("a>b c>d b~c d~a", "b-c d-a"),
            ("a~b b~a", "a-b b-a"),
            ("a>b a~b b~a", "b-a"),
        ] {
            assert_eq!(loosened(edges), expected, "{edges}");
        }
    }

    #[test]
    fn a_cycle_of_wishes_from_two_files_holds_nothing_up() {
        assert_eq!(loosened("a>b b>c c>a d>a"), "a-b b-c c-a");
    }
}

//! A directed acyclic graph of names: which thing rests on which, and so in which order they go.
//!
//! Laws:
//! * A [`Dag`] that exists has no cycle, no missing name and no self-dependency: [`Dag::new`] is
//!   the only way to one.
//! * Everything is deterministic. Where the edges leave a choice, names decide, never the order in
//!   which nodes were given.
//! * Nothing is recursive and nothing is quadratic: ten thousand nodes in one chain are an
//!   ordinary graph.
//!
//! `spec/guide.md` demands the order *level by level, then by name*; the level of a node is the
//! length of the longest chain of dependencies below it.

mod cycle;
mod layout;
mod text;

#[cfg(test)]
mod tests;

use std::fmt;

pub use layout::{Layout, Place, Point, Wire};
pub use text::TextLine;

/// A graph without cycles. An edge goes from a dependency to its dependent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dag<K: Ord + Clone> {
    /// By name. Nodes are numbered by their place here.
    keys: Vec<K>,
    /// What each node needs, ascending.
    needs: Vec<Vec<usize>>,
    /// What needs each node, ascending.
    needed_by: Vec<Vec<usize>>,
    /// The longest chain of dependencies below each node.
    level: Vec<usize>,
    /// All nodes by (level, name).
    order: Vec<usize>,
}

/// Why some nodes and edges are no [`Dag`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DagError<K> {
    /// A node depends on names that are not there.
    Missing {
        /// The node; the first by name, where there are several.
        of: K,
        /// Every name it misses, in order.
        missing: Vec<K>,
    },
    /// A node depends on itself.
    SelfDependency(K),
    /// A concrete cycle, each node depending on the next. It starts at its smallest name and ends
    /// with the same name again. Through at least one of its nodes there is no shorter one.
    Cycle(Vec<K>),
    /// A question named nodes that are not in the graph: every such name, in order.
    Unknown(Vec<K>),
}

impl<K: fmt::Display> fmt::Display for DagError<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { of, missing } => {
                let what = if missing.len() == 1 { "dependency" } else { "dependencies" };
                write!(f, "Missing {what} of {of}: ")?;
                join(f, missing, ", ")?;
                f.write_str(" (declare what is missing, or take it out of `depends_on`)")
            }
            Self::SelfDependency(key) => {
                write!(f, "Circular dependency detected: {key} → {key} (nothing can depend on itself)")
            }
            Self::Cycle(path) => {
                f.write_str("Circular dependency detected: ")?;
                join(f, path, " → ")?;
                f.write_str(" (take one of these dependencies out)")
            }
            Self::Unknown(names) => {
                f.write_str("Not declared: ")?;
                join(f, names, ", ")
            }
        }
    }
}

impl<K: fmt::Debug + fmt::Display> std::error::Error for DagError<K> {}

fn join<K: fmt::Display>(f: &mut fmt::Formatter<'_>, names: &[K], between: &str) -> fmt::Result {
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        write!(f, "{name}")?;
    }
    Ok(())
}

impl<K: Ord + Clone> Dag<K> {
    /// Builds the graph from nodes and what each depends on. A node given twice has the
    /// dependencies of both; an edge given twice is one edge.
    ///
    /// Errors, in this order: a missing name, a self-dependency, a cycle.
    pub fn new<D>(nodes: impl IntoIterator<Item = (K, D)>) -> Result<Self, DagError<K>>
    where
        D: IntoIterator<Item = K>,
    {
        let declared = nodes.into_iter().map(|(key, dependencies)| (key, dependencies.into_iter().collect()));
        let mut declared: Vec<(K, Vec<K>)> = declared.collect();
        // Many give them in order, which this sort makes use of.
        declared.sort_by(|(one, _), (other, _)| one.cmp(other));
        declared.dedup_by(|again, first| {
            let is_same = again.0 == first.0;
            if is_same {
                first.1.append(&mut again.1);
            }
            is_same
        });
        let keys: Vec<K> = declared.iter().map(|(key, _)| key.clone()).collect();
        let mut needs = Vec::with_capacity(keys.len());
        for (of, dependencies) in declared {
            needs.push(indices(&keys, dependencies).map_err(|missing| DagError::Missing { of, missing })?);
        }
        if let Some(own) = (0..keys.len()).find(|&n| needs[n].binary_search(&n).is_ok()) {
            return Err(DagError::SelfDependency(keys[own].clone()));
        }
        let needed_by = reversed(&needs);
        let level = levels(&needs, &needed_by).map_err(|stuck| {
            let path = cycle::shortest(&needs, &stuck);
            DagError::Cycle(path.into_iter().map(|n| keys[n].clone()).collect())
        })?;
        Ok(Self::from_parts(keys, (needs, needed_by), level))
    }

    fn from_parts(
        keys: Vec<K>,
        (needs, needed_by): (Vec<Vec<usize>>, Vec<Vec<usize>>),
        level: Vec<usize>,
    ) -> Self {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|&n| (level[n], n));
        Self { keys, needs, needed_by, level, order }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True when there is no node.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// True when there is a node of this name.
    pub fn contains(&self, key: &K) -> bool {
        self.index(key).is_some()
    }

    /// All nodes by name.
    pub fn keys(&self) -> &[K] {
        &self.keys
    }

    /// The longest chain of dependencies below the node, counted in edges; `None` when it is not
    /// in the graph.
    pub fn level(&self, key: &K) -> Option<usize> {
        self.index(key).map(|n| self.level[n])
    }

    /// Level by level: nothing in a level depends on anything of the same level or a later one, so
    /// one level may start at once. By name within a level.
    pub fn levels(&self) -> Vec<Vec<K>> {
        self.order
            .chunk_by(|&a, &b| self.level[a] == self.level[b])
            .map(|nodes| nodes.iter().map(|&n| self.keys[n].clone()).collect())
            .collect()
    }

    /// Dependencies first: level by level, by name within a level.
    pub fn order(&self) -> Vec<K> {
        self.order.iter().map(|&n| self.keys[n].clone()).collect()
    }

    /// Dependents first: [`Dag::order`] read backwards. The order of stopping.
    pub fn reverse_order(&self) -> Vec<K> {
        self.order.iter().rev().map(|&n| self.keys[n].clone()).collect()
    }

    /// What the node needs directly, by name; nothing when it is not in the graph.
    pub fn dependencies(&self, key: &K) -> impl Iterator<Item = &K> {
        self.neighbours(key, &self.needs)
    }

    /// What needs the node directly, by name; nothing when it is not in the graph.
    pub fn dependents(&self, key: &K) -> impl Iterator<Item = &K> {
        self.neighbours(key, &self.needed_by)
    }

    fn neighbours<'a>(&'a self, key: &K, of: &'a [Vec<usize>]) -> impl Iterator<Item = &'a K> {
        self.index(key).into_iter().flat_map(move |n| of[n].iter().map(|&m| &self.keys[m]))
    }

    /// The graph of these nodes and all they need, directly or not. Errors: [`DagError::Unknown`].
    pub fn subset(&self, wanted: &[K]) -> Result<Self, DagError<K>> {
        let inside = self.reachable(wanted, &self.needs)?;
        let kept: Vec<usize> = (0..self.len()).filter(|&n| inside[n]).collect();
        let mut renumbered = vec![0; self.len()];
        for (new, &old) in kept.iter().enumerate() {
            renumbered[old] = new;
        }
        let needs: Vec<Vec<usize>> =
            kept.iter().map(|&n| self.needs[n].iter().map(|&m| renumbered[m]).collect()).collect();
        let needed_by = reversed(&needs);
        Ok(Self::from_parts(
            kept.iter().map(|&n| self.keys[n].clone()).collect(),
            (needs, needed_by),
            // Whatever is below a kept node is kept too, so its level stays what it was.
            kept.iter().map(|&n| self.level[n]).collect(),
        ))
    }

    /// These nodes and all that needs them, directly or not, in the order of [`Dag::order`].
    /// Errors: [`DagError::Unknown`].
    pub fn dependents_closure(&self, wanted: &[K]) -> Result<Vec<K>, DagError<K>> {
        let inside = self.reachable(wanted, &self.needed_by)?;
        Ok(self.order.iter().filter(|&&n| inside[n]).map(|&n| self.keys[n].clone()).collect())
    }

    /// The heaviest chain, dependencies first, and the sum of its weights: what bounds the time of
    /// a start from below, however much runs in parallel. Of equally heavy ones the first by name,
    /// seen from its end. Sums saturate.
    pub fn critical_path(&self, weight: impl Fn(&K) -> u64) -> (Vec<K>, u64) {
        let mut heaviest = vec![0_u64; self.len()];
        let mut before = vec![None; self.len()];
        for &n in &self.order {
            for &m in &self.needs[n] {
                if before[n].is_none_or(|best: usize| heaviest[m] > heaviest[best]) {
                    before[n] = Some(m);
                }
            }
            let below = before[n].map_or(0, |m| heaviest[m]);
            heaviest[n] = below.saturating_add(weight(&self.keys[n]));
        }
        let end = (0..self.len()).reduce(|best, n| if heaviest[n] > heaviest[best] { n } else { best });
        let mut path: Vec<K> =
            std::iter::successors(end, |&n| before[n]).map(|n| self.keys[n].clone()).collect();
        path.reverse();
        (path, end.map_or(0, |n| heaviest[n]))
    }

    fn index(&self, key: &K) -> Option<usize> {
        self.keys.binary_search(key).ok()
    }

    fn reachable(&self, from: &[K], along: &[Vec<usize>]) -> Result<Vec<bool>, DagError<K>> {
        let mut to_visit = indices(&self.keys, from.iter().cloned()).map_err(DagError::Unknown)?;
        let mut seen = vec![false; self.len()];
        while let Some(n) = to_visit.pop() {
            if !std::mem::replace(&mut seen[n], true) {
                to_visit.extend(along[n].iter().filter(|&&m| !seen[m]));
            }
        }
        Ok(seen)
    }
}

/// The numbers of these names, ascending, each once. Errors: the names that are not there.
fn indices<K: Ord>(keys: &[K], names: impl IntoIterator<Item = K>) -> Result<Vec<usize>, Vec<K>> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match keys.binary_search(&name) {
            Ok(n) => found.push(n),
            Err(_) => missing.push(name),
        }
    }
    missing.sort_unstable();
    missing.dedup();
    found.sort_unstable();
    found.dedup();
    if missing.is_empty() { Ok(found) } else { Err(missing) }
}

fn reversed(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut back = vec![Vec::new(); edges.len()];
    for (n, targets) in edges.iter().enumerate() {
        for &m in targets {
            back[m].push(n);
        }
    }
    back
}

/// Peels off, again and again, every node whose dependencies are all gone; the round in which a
/// node goes is its level. Errors: the nodes that never go, because a cycle is at or below each.
fn levels(needs: &[Vec<usize>], needed_by: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut level = vec![0; needs.len()];
    let mut gone = 0;
    let mut round: Vec<usize> = (0..needs.len()).filter(|&n| open[n] == 0).collect();
    let mut number = 0;
    while !round.is_empty() {
        let mut next = Vec::new();
        for n in round {
            level[n] = number;
            gone += 1;
            for &m in &needed_by[n] {
                open[m] -= 1;
                if open[m] == 0 {
                    next.push(m);
                }
            }
        }
        round = next;
        number += 1;
    }
    if gone == needs.len() {
        return Ok(level);
    }
    Err((0..needs.len()).filter(|&n| open[n] > 0).collect())
}

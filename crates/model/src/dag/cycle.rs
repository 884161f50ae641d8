//! Finds one short cycle to show to a person.

use std::collections::VecDeque;

/// A short cycle, from its smallest node back to the same node, each node needing the next.
///
/// `stuck` are the nodes left when everything without open dependencies was taken away, so each
/// needs at least one other of them. It must not be empty.
pub(super) fn shortest(needs: &[Vec<usize>], stuck: &[usize]) -> Vec<usize> {
    let mut on_cycle = vec![false; needs.len()];
    for &n in stuck {
        on_cycle[n] = true;
    }
    let Some(start) = some_node_on_a_cycle(needs, stuck, &on_cycle) else { return Vec::new() };
    let mut path = shortest_through(needs, start);
    let smallest = (0..path.len()).min_by_key(|&i| path[i]).unwrap_or(0);
    path.rotate_left(smallest);
    path.extend(path.first().copied());
    path
}

/// Walks from need to need; the first node met twice is on a cycle.
fn some_node_on_a_cycle(needs: &[Vec<usize>], stuck: &[usize], is_stuck: &[bool]) -> Option<usize> {
    let mut met = vec![false; needs.len()];
    let mut here = *stuck.first()?;
    while !std::mem::replace(&mut met[here], true) {
        here = *needs[here].iter().find(|&&n| is_stuck[n])?;
    }
    Some(here)
}

/// Breadth first from `start` until it is met again: the nodes of a shortest cycle through it.
fn shortest_through(needs: &[Vec<usize>], start: usize) -> Vec<usize> {
    let mut came_from = vec![None; needs.len()];
    let mut to_visit = VecDeque::from([start]);
    while let Some(here) = to_visit.pop_front() {
        for &next in &needs[here] {
            if next == start {
                let mut path: Vec<usize> = std::iter::successors(Some(here), |&n| came_from[n]).collect();
                path.reverse();
                return path;
            }
            if came_from[next].is_none() {
                came_from[next] = Some(here);
                to_visit.push_back(next);
            }
        }
    }
    Vec::new()
}

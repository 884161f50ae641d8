//! Places a graph in layers, for a picture: which layer, which place in it, and by which points an
//! edge goes round the nodes between.
//!
//! The layered method of Sugiyama: layers are levels, an edge over several layers gets a waypoint
//! in each between, and places are ordered by the mean place of the neighbours (barycentre), so
//! that few edges cross. No floating point: the same graph is the same picture everywhere.

use serde::{Deserialize, Serialize};

use super::Dag;

/// Once down and once up is one sweep. More rarely remove a crossing, and each costs a sort.
const SWEEPS: usize = 4;

/// Waypoints in one picture. A picture with more is a black square; without the bound, edges that
/// each jump over thousands of layers would need memory that grows with the square of the nodes.
const WAYPOINTS_MAX: usize = 50_000;

/// A picture of a graph, in layers and places; the painter chooses what a unit is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout<K> {
    /// How many places each layer has, waypoints included.
    pub widths: Vec<u32>,
    /// All nodes by (layer, place).
    pub places: Vec<Place<K>>,
    /// All edges by (from, to).
    pub wires: Vec<Wire<K>>,
}

/// Where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Point {
    /// From 0: what depends on nothing.
    pub layer: u32,
    /// From 0, within the layer.
    pub place: u32,
}

/// A node and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place<K> {
    /// The node.
    pub key: K,
    /// Where.
    pub at: Point,
}

/// An edge and how it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire<K> {
    /// The dependency.
    pub from: K,
    /// The dependent.
    pub to: K,
    /// One in each layer between, or none where the picture has too many.
    pub waypoints: Vec<Point>,
}

/// The graph with waypoints as nodes of their own, numbered after the real ones.
struct Layered {
    layer_of: Vec<usize>,
    /// The node or waypoint numbers of each layer, in their places.
    layers: Vec<Vec<usize>>,
    below: Vec<Vec<usize>>,
    above: Vec<Vec<usize>>,
    /// Of each edge: from, to, the waypoints.
    routes: Vec<(usize, usize, std::ops::Range<usize>)>,
}

impl<K: Ord + Clone> Dag<K> {
    /// Places the graph in layers, for a picture.
    pub fn layout(&self) -> Layout<K> {
        let mut layered = self.layered();
        layered.reduce_crossings();
        let mut at = vec![Point { layer: 0, place: 0 }; layered.layer_of.len()];
        for (layer, nodes) in layered.layers.iter().enumerate() {
            for (place, &n) in nodes.iter().enumerate() {
                at[n] = Point { layer: small(layer), place: small(place) };
            }
        }
        let mut places: Vec<Place<K>> =
            self.keys.iter().zip(&at).map(|(key, &at)| Place { key: key.clone(), at }).collect();
        places.sort_by_key(|p| p.at);
        let wires = layered.routes.iter().map(|(from, to, waypoints)| Wire {
            from: self.keys[*from].clone(),
            to: self.keys[*to].clone(),
            waypoints: waypoints.clone().map(|w| at[w]).collect(),
        });
        Layout {
            widths: layered.layers.iter().map(|l| small(l.len())).collect(),
            places,
            wires: wires.collect(),
        }
    }

    fn layered(&self) -> Layered {
        let mut all = Layered {
            layer_of: self.level.clone(),
            layers: vec![Vec::new(); self.level.iter().max().map_or(0, |deepest| deepest + 1)],
            below: vec![Vec::new(); self.len()],
            above: vec![Vec::new(); self.len()],
            routes: Vec::new(),
        };
        for &n in &self.order {
            all.layers[self.level[n]].push(n);
        }
        let mut left = WAYPOINTS_MAX;
        for (from, targets) in self.needed_by.iter().enumerate() {
            for &to in targets {
                let needed = self.level[to] - self.level[from] - 1;
                if let Some(rest) = left.checked_sub(needed) {
                    left = rest;
                    all.route(from, to);
                } else {
                    all.routes.push((from, to, 0..0));
                }
            }
        }
        all
    }
}

impl Layered {
    /// Adds an edge with a waypoint in each layer between.
    fn route(&mut self, from: usize, to: usize) {
        let first = self.layer_of.len();
        let mut here = from;
        for layer in self.layer_of[from] + 1..self.layer_of[to] {
            let waypoint = self.layer_of.len();
            self.layer_of.push(layer);
            self.layers[layer].push(waypoint);
            self.below.push(Vec::new());
            self.above.push(Vec::new());
            self.link(here, waypoint);
            here = waypoint;
        }
        self.link(here, to);
        self.routes.push((from, to, first..self.layer_of.len()));
    }

    fn link(&mut self, lower: usize, upper: usize) {
        self.above[lower].push(upper);
        self.below[upper].push(lower);
    }

    /// Orders every layer by the barycentre of its neighbours, downwards and upwards, and keeps
    /// the best picture seen.
    fn reduce_crossings(&mut self) {
        let mut place = vec![0; self.layer_of.len()];
        for layer in &self.layers {
            renumber(layer, &mut place);
        }
        let mut best = (self.crossings(&place), self.layers.clone());
        for sweep in 0..2 * SWEEPS {
            if best.0 == 0 {
                break;
            }
            if sweep % 2 == 0 {
                for layer in &mut self.layers {
                    sort_by_barycentre(layer, &self.below, &mut place);
                }
            } else {
                for layer in self.layers.iter_mut().rev() {
                    sort_by_barycentre(layer, &self.above, &mut place);
                }
            }
            let crossings = self.crossings(&place);
            if crossings < best.0 {
                best = (crossings, self.layers.clone());
            }
        }
        self.layers = best.1;
    }

    /// How many pairs of edges cross: between two layers, read the upper ends in the order of the
    /// lower ones; each inversion is a crossing. Counted with a Fenwick tree.
    fn crossings(&self, place: &[usize]) -> u64 {
        let mut total = 0;
        for (lower, upper) in self.layers.iter().zip(self.layers.iter().skip(1)) {
            let mut tree = vec![0_u64; upper.len() + 1];
            let mut seen = 0;
            for &n in lower {
                let mut ends: Vec<usize> = self.above[n].iter().map(|&m| place[m]).collect();
                ends.sort_unstable();
                for &end in &ends {
                    total += seen - prefix_sum(&tree, end + 1);
                }
                for &end in &ends {
                    add_one(&mut tree, end + 1);
                    seen += 1;
                }
            }
        }
        total
    }
}

fn prefix_sum(tree: &[u64], mut i: usize) -> u64 {
    let mut sum = 0;
    while i > 0 {
        sum += tree[i];
        i &= i - 1;
    }
    sum
}

fn add_one(tree: &mut [u64], mut i: usize) {
    while i < tree.len() {
        tree[i] += 1;
        i += i & i.wrapping_neg();
    }
}

/// What has no neighbours on that side keeps its place as its barycentre. Fractions are compared
/// crosswise.
fn sort_by_barycentre(layer: &mut [usize], neighbours: &[Vec<usize>], place: &mut [usize]) {
    let mut keyed: Vec<(u128, u128, usize)> = layer
        .iter()
        .map(|&n| match neighbours[n].len() {
            0 => (place[n] as u128, 1, n),
            count => (neighbours[n].iter().map(|&m| place[m] as u128).sum(), count as u128, n),
        })
        .collect();
    keyed.sort_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)));
    for (slot, (_, _, n)) in layer.iter_mut().zip(keyed) {
        *slot = n;
    }
    renumber(layer, place);
}

fn renumber(layer: &[usize], place: &mut [usize]) {
    for (i, &n) in layer.iter().enumerate() {
        place[n] = i;
    }
}

/// A file's size bounds how many nodes there are long before this saturates.
fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

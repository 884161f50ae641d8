//! Draws a graph as an indented tree for a terminal.
//!
//! Each node stands once, under the last of its dependencies in start order, so that it is usually
//! read after all it needs; its other dependencies are named beside it. One line a node.

use std::collections::VecDeque;
use std::fmt;

use super::Dag;

/// Deeper than this the tree goes on as a new block at the left: a line stays narrower than a
/// terminal, and a chain of ten thousand is drawn in linear space.
const DEPTH_MAX: usize = 20;

/// More further dependencies than this are counted, not named: the line stays readable.
const ALSO_MAX: usize = 4;

/// Annotations are aligned up to this column; a longer line pushes only its own to the right.
const COLUMN_MAX: usize = 56;

/// One line of the drawing, in parts, for those who colour them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextLine<K> {
    /// The branches before the name: `│  └─ `.
    pub branch: String,
    /// The node.
    pub key: K,
    /// What stands behind the name: ` (also after db, cache)`, or nothing.
    pub also: String,
}

/// A node that is still to be drawn.
struct Todo {
    node: usize,
    depth: usize,
    /// The branches of its ancestors.
    indent: String,
    is_last: bool,
}

impl<K: Ord + Clone + fmt::Display> Dag<K> {
    /// The graph as a tree, dependencies above dependents, one line a node. `annotate` gives what
    /// stands at the right of each, aligned in a column: a state, a colour.
    pub fn text(&self, annotate: impl Fn(&K) -> String) -> String {
        let lines = self.text_lines();
        let widths: Vec<usize> = lines
            .iter()
            .map(|l| l.branch.chars().count() + l.key.to_string().chars().count() + l.also.chars().count())
            .collect();
        let column = widths.iter().copied().filter(|&w| w <= COLUMN_MAX).max().unwrap_or(0);
        let mut out = String::new();
        for (line, width) in lines.iter().zip(widths) {
            let start = out.len();
            out.push_str(&format!("{}{}{}", line.branch, line.key, line.also));
            let note = annotate(&line.key);
            if !note.is_empty() {
                out.extend(std::iter::repeat_n(' ', column.saturating_sub(width) + 2));
                out.push_str(&note);
            }
            out.truncate(start + out[start..].trim_end().len());
            out.push('\n');
        }
        out
    }

    /// The drawing of [`Dag::text`], line by line and part by part.
    pub fn text_lines(&self) -> Vec<TextLine<K>> {
        let (roots, children) = self.spanning_tree();
        let mut lines = Vec::with_capacity(self.len());
        let mut blocks = VecDeque::from([roots]);
        while let Some(nodes) = blocks.pop_front() {
            self.draw_block(&nodes, &children, &mut lines, &mut blocks);
        }
        lines
    }

    /// Draws these nodes at the left and what hangs below each. What would stand too deep becomes
    /// a block of its own.
    fn draw_block(
        &self,
        nodes: &[usize],
        children: &[Vec<usize>],
        lines: &mut Vec<TextLine<K>>,
        blocks: &mut VecDeque<Vec<usize>>,
    ) {
        let mut stack = todos(nodes, 0, "");
        while let Some(Todo { node, depth, indent, is_last }) = stack.pop() {
            let branch = match (depth, is_last) {
                (0, _) if self.needs[node].is_empty() => String::new(),
                (0, _) => "… ".to_owned(),
                (_, true) => format!("{indent}└─ "),
                (_, false) => format!("{indent}├─ "),
            };
            let mut also = self.also(node, depth);
            if depth == DEPTH_MAX && !children[node].is_empty() {
                also.push_str(" …");
                blocks.push_back(children[node].clone());
            } else {
                let indent = match (depth, is_last) {
                    (0, _) => indent,
                    (_, true) => format!("{indent}   "),
                    (_, false) => format!("{indent}│  "),
                };
                stack.append(&mut todos(&children[node], depth + 1, &indent));
            }
            lines.push(TextLine { branch, key: self.keys[node].clone(), also });
        }
    }

    fn spanning_tree(&self) -> (Vec<usize>, Vec<Vec<usize>>) {
        let mut children = vec![Vec::new(); self.len()];
        let mut roots = Vec::new();
        for &n in &self.order {
            match self.main_dependency(n) {
                Some(parent) => children[parent].push(n),
                None => roots.push(n),
            }
        }
        (roots, children)
    }

    /// The dependency that comes last in start order.
    fn main_dependency(&self, node: usize) -> Option<usize> {
        self.needs[node].iter().copied().max_by_key(|&n| (self.level[n], n))
    }

    /// The dependencies the drawing does not show by itself.
    fn also(&self, node: usize, depth: usize) -> String {
        let above = self.main_dependency(node).filter(|_| depth > 0);
        let others: Vec<usize> = self.needs[node].iter().copied().filter(|&n| Some(n) != above).collect();
        if others.is_empty() {
            return String::new();
        }
        let word = if above.is_some() { "also after" } else { "after" };
        let named: Vec<String> = others.iter().take(ALSO_MAX).map(|&n| self.keys[n].to_string()).collect();
        match others.len() - named.len() {
            0 => format!(" ({word} {})", named.join(", ")),
            more => format!(" ({word} {} and {more} more)", named.join(", ")),
        }
    }
}

/// Siblings as a stack: the first is popped first.
fn todos(siblings: &[usize], depth: usize, indent: &str) -> Vec<Todo> {
    let last = siblings.last();
    let todo =
        |node: &usize| Todo { node: *node, depth, indent: indent.to_owned(), is_last: Some(node) == last };
    siblings.iter().rev().map(todo).collect()
}

//! Fills in the variables of a whole tree, before anybody looks at its values.

use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use super::EXPANDED_MAX;
use super::arena::Arena;
use super::interpolate::{self, Lone, Unfillable, Why};
use super::place::Span;
use super::read::{At, each_item};
use super::report::{Problem, Report, shown};
use super::tree::{Directive, Entry, Node, Scalar, Style, Value};
use super::variables::Variables;

/// Fills in a tree. What cannot be is reported, and stands as [`Value::Bad`].
///
/// Keys are never filled in, nor what stands below `x-…` at the top of the file.
pub(super) fn tree<'a>(node: &'a Node<'a>, at: &At<'_>, report: &mut Report<'a>) -> &'a Node<'a> {
    let Some(file) = report.sources.file(node.span.file) else { return node };
    let variables = Rc::clone(&file.variables);
    let (arena, left) = (report.arena(), EXPANDED_MAX);
    Filler { variables: &variables, arena, report, left, is_full: false, noted: HashSet::new() }
        .node(node, at)
}

struct Filler<'r, 'a> {
    variables: &'r Variables<'a>,
    arena: Arena<'a>,
    report: &'r mut Report<'a>,
    /// Bytes that may still be made.
    left: usize,
    /// It was said that there are too many.
    is_full: bool,
    /// Variables of which it was said that they are not set.
    noted: HashSet<String>,
}

impl<'a> Filler<'_, 'a> {
    fn node(&mut self, node: &'a Node<'a>, at: &At<'_>) -> &'a Node<'a> {
        if node.tag == Directive::Reset {
            return node;
        }
        match node.value {
            Value::Scalar(scalar) => self.scalar(node, scalar, at),
            Value::List(items) => {
                let mut filled = Vec::with_capacity(items.len());
                each_item(items, at, |item, at| filled.push(self.node(item, at)));
                self.arena.with_items(node, &filled)
            }
            Value::Map(entries) => {
                let filled: Vec<Entry<'a>> = entries.iter().map(|entry| self.entry(entry, at)).collect();
                self.arena.with_entries(node, &filled)
            }
            Value::Bad => node,
        }
    }

    fn entry(&mut self, entry: &Entry<'a>, at: &At<'_>) -> Entry<'a> {
        // Fragments: filled in where an alias names them.
        let is_nobodys = at.is_file() && entry.key.text.starts_with("x-") && entry.key.text != super::OURS;
        match is_nobodys {
            true => *entry,
            false => Entry { value: self.node(entry.value, &at.key(&entry.key)), ..*entry },
        }
    }

    fn scalar(&mut self, node: &'a Node<'a>, scalar: Scalar<'a>, at: &At<'_>) -> &'a Node<'a> {
        let variables = self.variables;
        let lookup = |name: &str| variables.get(name);
        match interpolate::fill(scalar.text, &lookup, self.left, Lone::Refused) {
            Ok(None) => node,
            Ok(Some(filled)) => {
                self.left = self.left.saturating_sub(filled.text.len());
                for form in filled.unset {
                    self.unset(node, scalar.text, form, at);
                }
                // Text, whatever it looks like: `${EMPTY}` is an empty text and not nothing.
                let text = self.arena.text(filled.text);
                self.arena.with(node, Value::Scalar(Scalar { text, style: Style::Quoted }))
            }
            Err(Unfillable { place, why }) => {
                // That there is too much is said once, and not of each value after.
                let is_known = self.is_full && why == Why::TooLong;
                self.is_full |= why == Why::TooLong;
                if !is_known {
                    let (form, place) = (&scalar.text[place.clone()], self.place(node, scalar.text, place));
                    self.report.error(place, || problem(&why, form, at, variables));
                }
                self.arena.with(node, Value::Bad)
            }
        }
    }

    /// Notes a variable that stands for nothing, once.
    fn unset(&mut self, node: &Node<'a>, text: &str, form: Range<usize>, at: &At<'_>) {
        let written = &text[form.clone()];
        let name = interpolate::name_of(written.trim_start_matches(['$', '{']));
        if !self.noted.insert(name.to_owned()) {
            return;
        }
        // To find its place takes time; nobody reads so many.
        if self.report.is_full_of_notes() {
            self.report.note(node.span, || Problem::new(String::new()));
            return;
        }
        let (place, variables) = (self.place(node, text, form), self.variables);
        self.report.note(place, || unset(written, at, variables));
    }

    /// Where a piece of a scalar's text stands in the file, if it stands there as it is. A text with
    /// escapes, or of several lines, is written otherwise; pieces of it come in the same order.
    fn place(&self, node: &Node<'a>, text: &str, piece: Range<usize>) -> Span {
        let written = self.report.text(node.span);
        if let Some(at) = written.find(text) {
            return node.span.part(at + piece.start..at + piece.end);
        }
        let form = &text[piece.clone()];
        let nth = text[..piece.start].matches(form).count();
        let is_each_there = written.matches(form).count() == text.matches(form).count();
        let found = written.match_indices(form).nth(nth).filter(|_| is_each_there);
        found.map_or(node.span, |(at, form)| node.span.part(at..at + form.len()))
    }
}

fn unset(form: &str, at: &At<'_>, variables: &Variables<'_>) -> Problem {
    let name = interpolate::name_of(form.trim_start_matches(['$', '{']));
    // What hooks and other commands are given is not known before they are run.
    let ours =
        name.starts_with("UPBEAT_").then(|| format!("write `$${name}` for the variable of the process"));
    let hint = ours
        .or_else(|| variables.did_you_mean(name))
        .unwrap_or_else(|| format!("set it, or write `${{{name}:-}}` if that is meant"));
    Problem::new(format!("`{at}` uses `{}`, which is not set: it stands for nothing", shown(form))).hint(hint)
}

fn problem(why: &Why, form: &str, at: &At<'_>, variables: &Variables<'_>) -> Problem {
    let dollar = "write `$$` for a literal `$`".to_owned();
    match why {
        Why::LoneDollar => Problem::new(format!("`{at}` has a single `$`")).hint(dollar),
        Why::NoName => Problem::new(format!("`{at}` has a `${{` that names no variable")).hint(dollar),
        Why::Unclosed => Problem::new(format!("`{at}` has a `${{` that is not closed")).hint(dollar),
        Why::UnknownOperator(sign) => Problem::new(format!(
            "`{at}` has `{}` with `{}` behind the name, which means nothing there",
            shown(form),
            shown(&sign.to_string())
        ))
        .hint("write `${NAME}`, or one of `:-`, `-`, `:?`, `?`, `:+`, `+` behind the name".to_owned()),
        Why::Required { name, message, or_empty } => {
            let state = if *or_empty { "is not set, or empty" } else { "is not set" };
            let said = if message.is_empty() { String::new() } else { format!(": {}", shown(message)) };
            Problem::new(format!("`{at}` needs the variable `{}`, which {state}{said}", shown(name))).hint(
                variables
                    .did_you_mean(name)
                    .unwrap_or_else(|| "set it in your session, or in `.env`".to_owned()),
            )
        }
        Why::TooDeep => Problem::new(format!("`{at}` has `${{…}}` nested too deep")),
        Why::TooLong => Problem::new(format!(
            "The file has more than {} MB of text, variables filled in",
            EXPANDED_MAX >> 20
        )),
    }
}

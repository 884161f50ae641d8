//! Makes a service of a template: its texts with the values of one service in them.

use std::collections::HashSet;

use super::arena::Arena;
use super::place::{FileId, Span};
use super::read::{At, each_item};
use super::render::{self, Fault, INDEX, Renderer, Values, is_template};
use super::report::{Problem, Report};
use super::tree::{Directive, Entry, Key, Node, Scalar, Style, Value};

/// Keys of a service that may differ from copy to copy: what is said when one is started, stopped or
/// looked at. All others are asked for before there is any copy.
pub(super) const EACH: [&str; 14] = [
    "command",
    "entrypoint",
    "environment",
    "healthcheck",
    "labels",
    "post_start",
    "post_stop",
    "pre_start",
    "pre_stop",
    "probes",
    "reload",
    "stop_command",
    "user",
    "working_dir",
];

/// Keys whose list of `name=value` is a mapping in the end.
const PAIRS: [&str; 2] = ["environment", "labels"];

/// Puts values into a tree.
pub(super) struct Maker<'r, 'a> {
    renderer: &'r mut Renderer<'a>,
    report: &'r mut Report<'a>,
    arena: Arena<'a>,
    values: Values,
    /// The same for the first copy, as the renderer takes them.
    context: render::Context,
    /// The file of the template, as whoever uses it led there.
    file: FileId,
    /// Something is wrong, and was said.
    is_bad: bool,
}

impl<'r, 'a> Maker<'r, 'a> {
    pub(super) fn new(
        renderer: &'r mut Renderer<'a>,
        report: &'r mut Report<'a>,
        values: Values,
        file: FileId,
    ) -> Self {
        let (arena, context) = (report.arena(), render::context(&values, 1));
        Self { renderer, report, arena, values, context, file, is_bad: false }
    }

    /// `None`: what is wrong was said.
    pub(super) fn service(mut self, node: &'a Node<'a>, at: &At<'_>) -> Option<&'a Node<'a>> {
        let made = self.fields(node, at);
        (!self.is_bad).then_some(made)
    }

    /// The keys of a service, also of those that stand under ours.
    fn fields(&mut self, node: &'a Node<'a>, at: &At<'_>) -> &'a Node<'a> {
        let entries = node.entries().iter().map(|&Entry { key, value }| {
            if key.text == super::OURS && matches!(value.value, Value::Map(_)) {
                let key = Key { span: self.used(key.span), ..key };
                return Entry { key, value: self.fields(value, &at.key(&key)) };
            }
            self.entry(Entry { key, value }, EACH.contains(&key.text), at)
        });
        let entries: Vec<Entry<'a>> = entries.collect();
        self.arena.node(Node { span: self.used(node.span), value: self.arena.map(&entries), tag: node.tag })
    }

    fn used(&self, span: Span) -> Span {
        span.again(self.file)
    }

    fn entry(&mut self, Entry { key, value }: Entry<'a>, may_differ: bool, at: &At<'_>) -> Entry<'a> {
        let key = Key { span: self.used(key.span), ..key };
        let at = at.key(&key);
        let value = match value.value {
            Value::List(items) if PAIRS.contains(&key.text) => self.pairs(value, items, may_differ, &at),
            _ => self.node(value, may_differ, &at),
        };
        Entry { key, value }
    }

    fn node(&mut self, node: &'a Node<'a>, may_differ: bool, at: &At<'_>) -> &'a Node<'a> {
        let span = self.used(node.span);
        let value = match node.value {
            _ if node.tag == Directive::Reset => node.value,
            Value::Scalar(scalar) if is_template(scalar.text) => {
                self.text(scalar.text, node, may_differ, at).map_or(Value::Bad, Value::Scalar)
            }
            Value::List(items) => {
                let mut made = Vec::with_capacity(items.len());
                each_item(items, at, |item, at| made.push(self.node(item, may_differ, at)));
                self.arena.list(&made)
            }
            Value::Map(entries) => {
                let made: Vec<Entry<'a>> =
                    entries.iter().map(|entry| self.entry(*entry, may_differ, at)).collect();
                self.arena.map(&made)
            }
            other => other,
        };
        self.arena.node(Node { span, value, tag: node.tag })
    }

    /// A list of `name=value` as a mapping: a name is one for all copies, a value need not be.
    fn pairs(
        &mut self,
        node: &'a Node<'a>,
        items: &[&'a Node<'a>],
        may_differ: bool,
        at: &At<'_>,
    ) -> &'a Node<'a> {
        let differs = |item: &&'a Node<'a>| {
            item.as_text().is_some_and(|text| text.contains(INDEX) && is_template(text))
        };
        if !items.iter().any(differs) {
            return self.node(node, may_differ, at);
        }
        let mut made = Vec::with_capacity(items.len());
        each_item(items, at, |item, at| {
            let Some(line) = item.as_text() else { return };
            let (name, value) =
                line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
            let name = match is_template(name) {
                true => self.text(name, item, false, at).map_or("", |scalar| scalar.text),
                false => name,
            };
            let span = self.used(item.span);
            let value = match value {
                Some(value) if is_template(value) => {
                    self.text(value, item, may_differ, at).map_or(Value::Bad, Value::Scalar)
                }
                Some(value) => super::canon::quoted(value),
                None => Value::Scalar(Scalar { text: "", style: Style::Plain }),
            };
            made.push(Entry { key: Key { text: name, span }, value: self.arena.at(span, value) });
        });
        self.arena.node(Node { span: self.used(node.span), value: self.arena.map(&made), tag: node.tag })
    }

    /// What a text comes to; `None`: what is wrong with it was said.
    fn text(
        &mut self,
        text: &'a str,
        node: &'a Node<'a>,
        may_differ: bool,
        at: &At<'_>,
    ) -> Option<Scalar<'a>> {
        let names: HashSet<String> = self.renderer.names(text).cloned().unwrap_or_default();
        let differs = names.contains(INDEX);
        if differs && !may_differ {
            let rule = format!("`{at}` uses `{INDEX}`, and is one for all copies");
            return self.refuse(node.span, rule);
        }
        match self.renderer.render(text, &self.context) {
            Ok(made) => {
                let style = match differs {
                    true => {
                        let closed = render::closed(text, &names, &self.values);
                        self.report.keep(self.arena.text(closed))
                    }
                    false => Style::Quoted,
                };
                Some(Scalar { text: self.arena.text(made), style })
            }
            Err(fault) => {
                let place = place(node, text, &fault, self.report);
                self.refuse(place, format!("`{at}` {}", fault.what))
            }
        }
    }

    fn refuse(&mut self, place: Span, what: String) -> Option<Scalar<'a>> {
        self.is_bad = true;
        let place = self.used(place);
        self.report.error(place, || Problem::new(what));
        None
    }
}

/// Where a fault is, if its text stands in the file as it is.
pub(super) fn place(node: &Node<'_>, text: &str, fault: &Fault, report: &Report<'_>) -> Span {
    let inside =
        fault.range.clone().filter(|range| text.get(range.clone()).is_some_and(|part| !part.is_empty()));
    let found = report.text(node.span).find(text).zip(inside);
    found.map_or(node.span, |(start, inside)| node.span.part(start + inside.start..start + inside.end))
}

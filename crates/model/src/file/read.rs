//! Where a value stands in words, and what is said when it is not what it should be.

use std::fmt;

use super::place::Span;
use super::report::{Problem, Report, shown};
use super::rules::Broken;
use super::tree::{Entry, Key, Node, Value};

/// Where a value stands: `services.web.command[2]`. Chained on the stack, worded only when needed.
#[derive(Clone, Copy)]
pub(super) struct At<'p> {
    parent: Option<&'p At<'p>>,
    step: Step<'p>,
    /// What to point at when the value itself has no text.
    span: Span,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    File,
    Key(&'p str),
    Item(usize),
}

impl<'p> At<'p> {
    /// The top of a file.
    pub(super) fn file(span: Span) -> At<'static> {
        At { parent: None, step: Step::File, span: span.front() }
    }

    /// The top of a file.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.step, Step::File)
    }

    /// How that is written for which people write a text alone.
    fn form(&self, text: &str) -> Option<String> {
        const HOOKS: [&str; 4] = ["pre_start", "post_start", "pre_stop", "post_stop"];
        let text = shown(text);
        let is = |at: &At<'_>, names: &[&str]| matches!(at.step, Step::Key(name) if names.contains(&name));
        let is_of_service = |at: &At<'_>| is(at.above().above(), &["services", "templates"]);
        let is_of_probe =
            |at: &At<'_>| is(at.above(), &["healthcheck"]) || is(at.above().above(), &["probes"]);
        match self.step {
            Step::Key("depends_on") if is_of_service(self) => Some(format!("write `depends_on: [{text}]`")),
            Step::Key(name) if is(self.above(), &["depends_on"]) && is_of_service(self.above()) => {
                Some(format!("write `{}: {{ condition: {text} }}`", shown(name)))
            }
            Step::Key(name) if HOOKS.contains(&name) && is_of_service(self) => {
                Some(format!("write `{name}: [{{ command: {text} }}]`"))
            }
            Step::Item(_) if is(self.above(), &HOOKS) && is_of_service(self.above()) => {
                Some(format!("write `{{ command: {text} }}`"))
            }
            Step::Key("udp") if is_of_probe(self) => Some(format!("write `udp: {{ address: \"{text}\" }}`")),
            _ => None,
        }
    }

    /// Where this stands in.
    pub(super) fn above(&self) -> &At<'p> {
        self.parent.unwrap_or(self)
    }

    pub(super) fn key<'q>(&'q self, key: &'q Key<'_>) -> At<'q>
    where
        'p: 'q,
    {
        At { parent: Some(self), step: Step::Key(key.text), span: key.span }
    }

    fn item<'q>(&'q self, index: usize) -> At<'q>
    where
        'p: 'q,
    {
        At { parent: Some(self), step: Step::Item(index), span: self.span }
    }

    pub(super) fn span_of_key(&self) -> Span {
        self.span
    }

    fn place(&self, node: &Node<'_>) -> Span {
        if node.span.is_empty() { self.span } else { node.span }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inside = self.parent.filter(|p| !matches!(p.step, Step::File));
        match (inside, self.step) {
            (_, Step::File) => f.write_str("the file"),
            (Some(parent), Step::Key(key)) => write!(f, "{parent}.{}", shown(key)),
            (None, Step::Key(key)) => f.write_str(&shown(key)),
            (Some(parent), Step::Item(index)) => write!(f, "{parent}[{}]", index + 1),
            (None, Step::Item(index)) => write!(f, "[{}]", index + 1),
        }
    }
}

/// `` `services.web.scale` must be a whole number, not a list ``.
pub(super) fn wrong_type(node: &Node<'_>, at: &At<'_>, wanted: &str, report: &mut Report<'_>) {
    report.error(at.place(node), || {
        if node.is_null() {
            let tilde = matches!(node.value, Value::Scalar(scalar) if scalar.text == "~");
            let tilde = if tilde { "; a bare `~` is nothing" } else { "" };
            return Problem::new(format!("`{at}` has no value"))
                .hint(format!("give it {wanted}, or take it out{tilde}"));
        }
        let subject = match at.step {
            Step::File => "A project file".to_owned(),
            _ => format!("`{at}`"),
        };
        let problem = Problem::new(format!("{subject} must be {wanted}, not {}", node.kind()));
        problem.hint(node.as_text().and_then(|text| at.form(text)))
    });
}

/// A broken rule, at the value that breaks it.
pub(super) fn broken(node: &Node<'_>, at: &At<'_>, rule: Broken, report: &mut Report<'_>) {
    report.error(at.place(node), || Problem::new(format!("`{at}` {}", rule.what)).hint(rule.hint));
}

pub(super) fn mapping<'a>(node: &Node<'a>, at: &At<'_>, report: &mut Report<'_>) -> Option<&'a [Entry<'a>]> {
    match node.value {
        Value::Map(entries) => Some(entries),
        _ => {
            wrong_type(node, at, "a mapping", report);
            None
        }
    }
}

/// The items of a list, each with its place.
pub(super) fn each_item<'a>(
    items: &[&'a Node<'a>],
    at: &At<'_>,
    mut read: impl FnMut(&'a Node<'a>, &At<'_>),
) {
    for (index, &item) in items.iter().enumerate() {
        let mut at = at.item(index);
        if !item.span.is_empty() {
            at.span = item.span;
        }
        read(item, &at);
    }
}

//! Typed readers: each takes a value and where it stands, and gives a noun or reports why not.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::keys::Keys;
use super::report::{Problem, Report, Span, shown};
use super::rules::Broken;
use super::scalar;
use super::tree::{Entry, Key, Node, Value};
use crate::time::Millis;

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
    pub(super) const FILE: At<'static> =
        At { parent: None, step: Step::File, span: Span { start: 0, end: 0 } };

    pub(super) fn key<'q>(&'q self, key: &'q Key<'_>) -> At<'q>
    where
        'p: 'q,
    {
        At { parent: Some(self), step: Step::Key(&key.text), span: key.span }
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
            return Problem::new(format!("`{at}` has no value"))
                .hint(format!("give it {wanted}, or take it out"));
        }
        let subject = match at.step {
            Step::File => "A project file".to_owned(),
            _ => format!("`{at}`"),
        };
        Problem::new(format!("{subject} must be {wanted}, not {}", node.kind()))
    });
}

/// A broken rule, at the value that breaks it.
pub(super) fn broken(node: &Node<'_>, at: &At<'_>, rule: Broken, report: &mut Report<'_>) {
    report.error(at.place(node), || Problem::new(format!("`{at}` {}", rule.what)).hint(rule.hint));
}

/// Refuses a key by name.
pub(super) fn unknown_key(key: &Key<'_>, at: &At<'_>, keys: &Keys, report: &mut Report<'_>) {
    report.error(key.span, || keys.refusal(&key.text, &at.key(key).to_string()));
}

pub(super) fn mapping<'n, 'a>(
    node: &'n Node<'a>,
    at: &At<'_>,
    report: &mut Report<'_>,
) -> Option<&'n [Entry<'a>]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        _ => {
            wrong_type(node, at, "a mapping", report);
            None
        }
    }
}

/// Any scalar as text: `8080` is the text `8080`. `$$` stands for `$`.
pub(super) fn text<'n>(node: &'n Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<Cow<'n, str>> {
    match &node.value {
        Value::Scalar(scalar) if !node.is_null() => {
            if scalar.text.contains('\0') {
                report.error(node.span, || {
                    Problem::new(format!("`{at}` contains a NUL character"))
                        .hint("take it out; no program can be given one".to_owned())
                });
                return None;
            }
            literal(&scalar.text, node, at, report)
        }
        _ => {
            wrong_type(node, at, "text", report);
            None
        }
    }
}

/// Refuses what Compose would replace by a variable: passing it on as it is would be a lie.
fn literal<'n>(
    raw: &'n str,
    node: &'n Node<'_>,
    at: &At<'_>,
    report: &mut Report<'_>,
) -> Option<Cow<'n, str>> {
    match scalar::unpaired_dollar(raw) {
        None if raw.contains('$') => Some(Cow::Owned(raw.replace("$$", "$"))),
        None => Some(Cow::Borrowed(raw)),
        Some(range) => {
            let written = report.text(node.span);
            let span = scalar::unpaired_dollar(written).map_or(node.span, |inside| Span {
                start: node.span.start + inside.start,
                end: node.span.start + inside.end,
            });
            report.error(span, || match &raw[range] {
                "$" => Problem::new(format!("`{at}` has a single `$`"))
                    .hint("write `$$` for a literal `$`".to_owned()),
                variable => Problem::new(format!(
                    "`{at}` uses `{}`, and variables are not filled in yet",
                    shown(variable)
                ))
                .hint("write the value itself, or `$$` for a literal `$`".to_owned()),
            });
            None
        }
    }
}

/// The items of a list, each with its place.
pub(super) fn each_item<'a>(
    items: &[std::rc::Rc<Node<'a>>],
    at: &At<'_>,
    report: &mut Report<'_>,
    mut read: impl FnMut(&Node<'a>, &At<'_>, &mut Report<'_>),
) {
    for (index, item) in items.iter().enumerate() {
        let mut at = at.item(index);
        if !item.span.is_empty() {
            at.span = item.span;
        }
        read(item, &at, report);
    }
}

/// A list of text. What cannot be read is reported and left out; then it is no result.
pub(super) fn texts(
    items: &[std::rc::Rc<Node<'_>>],
    at: &At<'_>,
    report: &mut Report<'_>,
) -> Option<Vec<String>> {
    let mut words = Vec::with_capacity(items.len());
    each_item(items, at, report, |item, at, report| {
        words.extend(text(item, at, report).map(Cow::into_owned));
    });
    (words.len() == items.len()).then_some(words)
}

/// A program and its arguments: a list, or text that is split into words as a shell would, without
/// one.
pub(super) fn argv(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<Vec<String>> {
    let words = match &node.value {
        Value::List(items) => texts(items, at, report)?,
        Value::Scalar(_) if !node.is_null() => {
            let line = text(node, at, report)?;
            let Ok(words) = shell_words::split(&line) else {
                report.error(node.span, || {
                    Problem::new(format!("`{at}` has a quote that is not closed"))
                        .hint("close it, or write the command as a list".to_owned())
                });
                return None;
            };
            note_operators(node, &words, at, report);
            note_comment(node, &line, words.len(), at, report);
            words
        }
        _ => {
            wrong_type(node, at, "a list of words, or text", report);
            return None;
        }
    };
    check(node, at, super::rules::argv(&words), report)?;
    Some(words)
}

/// `a && b` without a shell is one program with three arguments: right, and seldom meant.
fn note_operators(node: &Node<'_>, words: &[String], at: &At<'_>, report: &mut Report<'_>) {
    const OPERATORS: &[&str] = &["&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"];
    if let Some(word) = words.iter().find(|w| OPERATORS.contains(&w.as_str())) {
        report.note(node.span, || {
            Problem::new(format!(
                "`{at}` has the word `{word}`, which is passed on as it is: no shell reads it"
            ))
            .hint("for a shell write [\"/bin/sh\", \"-c\", \"…\"]".to_owned())
        });
    }
}

/// As a shell does, the splitter leaves out what follows a `#` that starts a word. With another
/// character in its place there would be more words, or a quote that is not closed.
fn note_comment(node: &Node<'_>, line: &str, words: usize, at: &At<'_>, report: &mut Report<'_>) {
    if line.contains('#') && shell_words::split(&line.replace('#', "x")).map_or(0, |w| w.len()) != words {
        report.note(node.span, || {
            Problem::new(format!("`{at}` has a comment: what follows its `#` is left out"))
                .hint("put a word that starts with `#` into quotes of its own".to_owned())
        });
    }
}

pub(super) fn flag(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<bool> {
    let Value::Scalar(_) = &node.value else {
        wrong_type(node, at, "`true` or `false`", report);
        return None;
    };
    if node.is_null() {
        wrong_type(node, at, "`true` or `false`", report);
        return None;
    }
    check(node, at, scalar::flag(&text(node, at, report)?), report)
}

pub(super) fn whole(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<u64> {
    if node.is_null() || !matches!(node.value, Value::Scalar(_)) {
        wrong_type(node, at, "a whole number", report);
        return None;
    }
    check(node, at, scalar::whole(&text(node, at, report)?), report)
}

pub(super) fn length(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<Millis> {
    if node.is_null() || !matches!(node.value, Value::Scalar(_)) {
        wrong_type(node, at, "a length of time such as `30s`", report);
        return None;
    }
    check(node, at, scalar::length(&text(node, at, report)?), report)
}

/// The value, or the broken rule reported.
pub(super) fn check<T>(
    node: &Node<'_>,
    at: &At<'_>,
    result: Result<T, Broken>,
    report: &mut Report<'_>,
) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(rule) => {
            broken(node, at, rule, report);
            None
        }
    }
}

/// What to do with names and values, whatever form they are written in.
pub(super) struct Pairs<'r> {
    /// Judges a name and its value.
    pub(super) rule: fn(&str, &str) -> Result<(), Broken>,
    /// Told a good name without a value; it may know one.
    pub(super) absent: &'r dyn Fn(&str, Span, &mut Report<'_>) -> Option<String>,
}

impl Pairs<'_> {
    /// A mapping of text to text, or a list of `name=value`.
    pub(super) fn read(
        &self,
        node: &Node<'_>,
        at: &At<'_>,
        report: &mut Report<'_>,
    ) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        match &node.value {
            Value::Map(entries) => {
                for Entry { key, value } in entries {
                    if value.is_null() {
                        self.keep(&mut found, key.span, &key.text, None, at, report);
                    } else if let Some(text) = text(value, &at.key(key), report) {
                        self.keep(&mut found, key.span, &key.text, Some(&text), at, report);
                    }
                }
            }
            Value::List(items) => each_item(items, at, report, |item, item_at, report| {
                let Some(line) = text(item, item_at, report) else { return };
                match line.split_once('=') {
                    Some((name, value)) => self.keep(&mut found, item.span, name, Some(value), at, report),
                    None => self.keep(&mut found, item.span, &line, None, at, report),
                }
            }),
            Value::Scalar(_) => wrong_type(node, at, "a mapping, or a list of `name=value`", report),
        }
        found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Adds one; also a name that stays without a value, so that it is not given twice.
    fn keep(
        &self,
        found: &mut BTreeMap<String, Option<String>>,
        span: Span,
        name: &str,
        value: Option<&str>,
        at: &At<'_>,
        report: &mut Report<'_>,
    ) {
        if let Err(rule) = (self.rule)(name, value.unwrap_or_default()) {
            report.error(span, || Problem::new(format!("`{at}` {}", rule.what)).hint(rule.hint));
        } else if found.contains_key(name) {
            report.error(span, || {
                Problem::new(format!("Duplicate name `{}` in `{at}`", shown(name)))
                    .label("the second one")
                    .hint("keep one of the two".to_owned())
            });
        } else {
            let value = value.map(str::to_owned).or_else(|| (self.absent)(name, span, report));
            found.insert(name.to_owned(), value);
        }
    }
}

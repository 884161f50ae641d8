//! From text to a tree of values that know their place in the text.
//!
//! Laws: depth, number of values and bytes of text are bounded *after* following aliases, before
//! anything is built from them; a mapping has each key once, those that `<<` brings included; no
//! value has a tag but `!reset` and `!override`.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use super::arena::Arena;
use super::index::Index;
use super::place::{FileId, Span};
use super::report::{Problem, Report, shown};
use super::tree::{Directive, Entry, Key, Node, Scalar, Style, Value, Weight};
use super::{DEPTH_MAX, EXPANDED_MAX, PROJECT_VALUES_MAX, SIGNS_MAX, TEXT_MAX, VALUES_MAX};
use crate::diagnostic::printable;

/// The tree of the only document in a file; `Some(None)` when there is no document; `None` when
/// an error made an end of it.
pub(super) fn load<'a>(file: FileId, report: &mut Report<'a>) -> Option<Option<&'a Node<'a>>> {
    let text = report.sources.file(file).map_or("", |file| file.text);
    if let Some((place, problem)) = unreadable(text) {
        report.error(Span::new(file, place.start, place.end), || problem);
        return None;
    }
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let places = Places::new(file, body, text.len() - body.len());
    let mut loader = Loader::new(report, places);
    let mut parser = Parser::new_from_str(body);
    let mut total = Weight::default();
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => {
                let span = loader.places.span(span);
                loader.take(event, span, &mut total)
            }
            Err(error) => loader.malformed(&error),
        };
        if step.is_break() {
            return None;
        }
    }
    Some(loader.root)
}

/// What can be told from the bytes alone, before anything is built from them.
fn unreadable(text: &str) -> Option<(Range<usize>, Problem)> {
    let bytes = text.as_bytes();
    if bytes.len() > TEXT_MAX {
        let problem = Problem::new(format!(
            "The file has {} bytes, and {TEXT_MAX} are the most that is read",
            bytes.len()
        ))
        .hint("generated data belongs in a file of its own that a service reads".to_owned());
        return Some((0..0, problem));
    }
    // DEL may stand in quotes: JSON has no need to escape it, and JSON is YAML.
    let is_control = |b: &u8| *b < b' ' && !b"\t\n\r".contains(b);
    if let Some(at) = bytes.iter().position(is_control) {
        let problem =
            Problem::new(format!("There is a control character (`\\x{:02x}`) in the file", bytes[at]))
                .hint("write it as an escape in double quotes, or take it out".to_owned());
        return Some((at..at + 1, problem));
    }
    let is_sign = |b: &u8| matches!(b, b',' | b':' | b'[' | b'{' | b'*' | b'&' | b'!' | b'?');
    let (at, _) = bytes.iter().enumerate().filter(|(_, b)| is_sign(b)).nth(SIGNS_MAX)?;
    let problem = Problem::new(format!("The file has more than {SIGNS_MAX} of the characters `,:[{{*&!?`"))
        .label("the limit is passed here")
        .hint("generated data belongs in a file of its own that a service reads".to_owned());
    Some((at..at + 1, problem))
}

/// A collection whose end has not come yet.
struct Frame<'a> {
    span: Span,
    anchor: usize,
    weight: Weight,
    tag: Directive,
    /// Where what it has so far starts, in the stack of its kind.
    start: usize,
    growing: Growing<'a>,
}

enum Growing<'a> {
    List,
    Map(Mapping<'a>),
}

/// A mapping as it grows.
#[derive(Default)]
struct Mapping<'a> {
    index: Index<'a>,
    key: Pending<'a>,
    /// Behind `<<`.
    merged: Option<&'a Node<'a>>,
}

/// Of the entry that is being read.
#[derive(Default)]
enum Pending<'a> {
    #[default]
    Key,
    Value(Key<'a>),
    /// The key was `<<`.
    Merged,
    /// The key was refused; its value is passed over.
    Nothing,
}

struct Loader<'r, 'a> {
    report: &'r mut Report<'a>,
    arena: Arena<'a>,
    places: Places<'a>,
    frames: Vec<Frame<'a>>,
    /// Of all open lists, the innermost last.
    items: Vec<&'a Node<'a>>,
    /// Of all open mappings, the innermost last.
    entries: Vec<Entry<'a>>,
    anchors: BTreeMap<usize, (&'a Node<'a>, Weight)>,
    root: Option<&'a Node<'a>>,
}

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

impl<'r, 'a> Loader<'r, 'a> {
    fn new(report: &'r mut Report<'a>, places: Places<'a>) -> Self {
        Self {
            arena: report.arena(),
            report,
            places,
            frames: Vec::new(),
            items: Vec::new(),
            entries: Vec::new(),
            anchors: BTreeMap::new(),
            root: None,
        }
    }

    fn take(&mut self, event: Event<'a>, span: Span, total: &mut Weight) -> ControlFlow<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = self.directive(tag.as_deref(), span);
                let weight = Weight { values: 1, bytes: text.len(), height: 0 };
                self.count(weight, span, total)?;
                let style = if style == ScalarStyle::Plain { Style::Plain } else { Style::Quoted };
                let text = self.arena.text(text);
                let node = Node { span, value: Value::Scalar(Scalar { text, style }), tag };
                self.complete(node, anchor, weight);
            }
            Event::SequenceStart(anchor, tag) => {
                let tag = self.directive(tag.as_deref(), span);
                self.open(Growing::List, tag, anchor, span, total)?;
            }
            Event::MappingStart(anchor, tag) => {
                let tag = self.directive(tag.as_deref(), span);
                self.open(Growing::Map(Mapping::default()), tag, anchor, span, total)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => self.follow(anchor, span, total)?,
            Event::DocumentStart(_) if self.root.is_some() => {
                self.report.error(span, || {
                    Problem::new("There is a second document in this file")
                        .label("it starts here")
                        .hint("keep one project in one file, without `---` between".to_owned())
                });
                return ControlFlow::Break(());
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        GO_ON
    }

    /// Keeps count of the whole file; the end of it all when it is too much.
    fn count(&mut self, weight: Weight, span: Span, total: &mut Weight) -> ControlFlow<()> {
        total.values = total.values.saturating_add(weight.values);
        total.bytes = total.bytes.saturating_add(weight.bytes);
        self.report.sources.values = self.report.sources.values.saturating_add(weight.values);
        let what = if total.values > VALUES_MAX {
            format!("The file has more than {VALUES_MAX} values, aliases followed")
        } else if self.report.sources.values > PROJECT_VALUES_MAX {
            format!("The files of the project have more than {PROJECT_VALUES_MAX} values, aliases followed")
        } else if total.bytes > EXPANDED_MAX {
            format!("The file has more than {} MB of text, aliases followed", EXPANDED_MAX >> 20)
        } else if self.frames.len() + weight.height > DEPTH_MAX {
            format!("Values are nested more than {DEPTH_MAX} deep")
        } else {
            return GO_ON;
        };
        self.report.error(span, || Problem::new(what).label("the limit is passed here"));
        ControlFlow::Break(())
    }

    fn open(
        &mut self,
        growing: Growing<'a>,
        tag: Directive,
        anchor: usize,
        span: Span,
        total: &mut Weight,
    ) -> ControlFlow<()> {
        let weight = Weight { values: 1, bytes: 0, height: 1 };
        self.count(weight, span, total)?;
        let start = match growing {
            Growing::List => self.items.len(),
            Growing::Map(_) => self.entries.len(),
        };
        self.frames.push(Frame { span, anchor, weight, tag, start, growing });
        GO_ON
    }

    fn close(&mut self, end: Span) {
        let Some(frame) = self.frames.pop() else { return };
        let value = match frame.growing {
            Growing::List => {
                let value = self.arena.list(&self.items[frame.start..]);
                self.items.truncate(frame.start);
                value
            }
            Growing::Map(mapping) => {
                mapping.merge(&mut self.entries, frame.start, self.report);
                let value = self.arena.map(&self.entries[frame.start..]);
                self.entries.truncate(frame.start);
                value
            }
        };
        let node = Node { span: frame.span.to(end), value, tag: frame.tag };
        self.complete(node, frame.anchor, frame.weight);
    }

    fn follow(&mut self, anchor: usize, span: Span, total: &mut Weight) -> ControlFlow<()> {
        let Some(&(node, weight)) = self.anchors.get(&anchor) else {
            self.report.error(span, || {
                Problem::new("An alias stands inside the value it names").label("this would never end")
            });
            return ControlFlow::Break(());
        };
        self.count(weight, span, total)?;
        self.put(Whole::Kept(node), weight, Some(span));
        GO_ON
    }

    fn complete(&mut self, node: Node<'a>, anchor: usize, weight: Weight) {
        if anchor == 0 {
            self.put(Whole::New(node), weight, None);
        } else {
            let node = self.arena.node(node);
            self.anchors.insert(anchor, (node, weight));
            self.put(Whole::Kept(node), weight, None);
        }
    }

    /// Hands a complete value to the collection it stands in.
    fn put(&mut self, whole: Whole<'a>, weight: Weight, alias: Option<Span>) {
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(whole.kept(self.arena));
            return;
        };
        frame.weight.add(weight);
        let Growing::Map(mapping) = &mut frame.growing else {
            self.items.push(whole.kept(self.arena));
            return;
        };
        mapping.key = match std::mem::take(&mut mapping.key) {
            Pending::Key => mapping.key_of(whole.node(), alias, &self.entries[frame.start..], self.report),
            Pending::Value(key) => {
                self.entries.push(Entry { key, value: whole.kept(self.arena) });
                Pending::Key
            }
            Pending::Merged => {
                mapping.merged = Some(whole.kept(self.arena));
                Pending::Key
            }
            Pending::Nothing => Pending::Key,
        };
    }

    /// Errors: any other tag.
    fn directive(&mut self, tag: Option<&Tag>, span: Span) -> Directive {
        let Some(tag) = tag else { return Directive::Merge };
        match (tag.handle.as_str(), tag.suffix.as_str()) {
            ("!", "reset") => return Directive::Reset,
            ("!", "override") => return Directive::Override,
            _ => {}
        }
        self.report.error(span, || {
            let core = tag.is_yaml_core_schema();
            let name =
                if core { format!("!!{}", tag.suffix) } else { format!("{}{}", tag.handle, tag.suffix) };
            Problem::new(format!("The tag `{}` is not supported", shown(&name)))
                .hint("take it out; quotes make a value text".to_owned())
        });
        Directive::Merge
    }

    fn malformed(&mut self, error: &ScanError) -> ControlFlow<()> {
        let at = self.places.byte(error.marker().index());
        let text = self.report.sources.file(self.places.file).map_or("", |file| file.text);
        let (before, after) = text.split_at(at.min(text.len()));
        let word = after.find(|c: char| c.is_whitespace() || ",]}".contains(c)).unwrap_or(after.len());
        let first = after.chars().next().map_or(0, char::len_utf8);
        let length = if after.starts_with(['*', '&', '!']) { word } else { first };
        self.report.error(Span::new(self.places.file, at, at + length), || {
            Problem::new(format!("This is not YAML: {}", printable(error.info())))
                .hint(remedy(error.info(), before, after).map(str::to_owned))
        });
        ControlFlow::Break(())
    }
}

/// A complete value. A new one is only kept when somebody wants it: of a key the text will do.
enum Whole<'a> {
    New(Node<'a>),
    Kept(&'a Node<'a>),
}

impl<'a> Whole<'a> {
    fn node(&self) -> &Node<'a> {
        match self {
            Whole::New(node) => node,
            Whole::Kept(node) => node,
        }
    }

    fn kept(self, arena: Arena<'a>) -> &'a Node<'a> {
        match self {
            Whole::New(node) => arena.node(node),
            Whole::Kept(node) => node,
        }
    }
}

impl<'a> Mapping<'a> {
    /// Adds what `<<` brings and it has not itself. Of several the first counts.
    fn merge(mut self, entries: &mut Vec<Entry<'a>>, start: usize, report: &mut Report<'a>) {
        let Some(merged) = self.merged else { return };
        let all = match merged.value {
            Value::List(list) => list,
            _ => std::slice::from_ref(&merged),
        };
        for node in all {
            let Value::Map(new) = node.value else {
                report.error(node.span, || {
                    Problem::new(format!("`<<` must name a mapping, or a list of them, not {}", node.kind()))
                });
                continue;
            };
            for entry in new {
                if !self.index.has(&entries[start..], entry.key.text) {
                    entries.push(*entry);
                }
            }
        }
    }

    /// Judges what stands where a key should.
    fn key_of(
        &mut self,
        node: &Node<'a>,
        alias: Option<Span>,
        before: &[Entry<'a>],
        report: &mut Report<'a>,
    ) -> Pending<'a> {
        let span = alias.unwrap_or(node.span);
        let (Value::Scalar(scalar), None) = (node.value, alias) else {
            let what = if alias.is_some() { "an alias" } else { node.kind() };
            report.error(span, || Problem::new(format!("A key must be text, not {what}")));
            return Pending::Nothing;
        };
        if scalar.style == Style::Plain && scalar.text == "<<" && self.merged.is_none() {
            return Pending::Merged;
        }
        if scalar.style == Style::Plain && scalar.text == "<<" {
            report.error(span, || {
                Problem::new("There are two merge keys `<<` in one mapping")
                    .label("the second one")
                    .hint("give one of them a list: `<<: [*first, *second]`".to_owned())
            });
            return Pending::Nothing;
        }
        if self.index.has(before, scalar.text) {
            report.error(span, || {
                Problem::new(format!("Duplicate key `{}`", shown(scalar.text)))
                    .label("the second one")
                    .hint("keep one of the two".to_owned())
            });
            return Pending::Nothing;
        }
        Pending::Value(Key { text: scalar.text, span })
    }
}

/// What a person most probably has to do about text that is not YAML.
fn remedy(info: &str, before: &str, after: &str) -> Option<&'static str> {
    if after.starts_with('\t') || info.contains("tabs ") || info.contains("tab ") {
        return Some("indent with spaces, not with tabs");
    }
    if before.ends_with('$') && after.starts_with('{') {
        return Some("put text with `${` in it into quotes");
    }
    for (part, hint) in [
        ("unknown anchor", "an alias `*name` needs an anchor `&name` before it"),
        ("mapping values are not allowed", "text with `: ` in it needs quotes, a key above needs its `:`"),
        ("illegal placement of ':'", "a `[` or a `{` before this is not closed"),
        ("did not find expected key", "keys of one mapping start in the same column"),
        ("simple key expect", "a key needs a `:` behind it"),
        ("unexpected end of stream", "a quote is not closed"),
        ("unexpected eof", "a quote or a bracket is not closed"),
        ("unexpected character", "put text that starts with this character into quotes"),
        ("unknown escape character", "use single quotes where a backslash is meant"),
        ("expected node content", "a value is missing, or a bracket is not closed"),
        ("',' or '}'", "a `{` is not closed, or a `,` is missing"),
        ("',' or ']'", "a `[` is not closed, or a `,` is missing"),
        ("recursion limit", "there are too many brackets in brackets"),
    ] {
        if info.contains(part) {
            return Some(hint);
        }
    }
    None
}

/// Turns the parser's positions, counted in characters, into bytes of the whole text.
struct Places<'a> {
    file: FileId,
    body: &'a str,
    /// Bytes before the body.
    offset: usize,
    /// Where every `STRIDE`th character starts; empty when all are one byte long.
    marks: Vec<usize>,
}

/// Few enough steps to walk from a mark, few enough marks to keep.
const STRIDE: usize = 32;

impl<'a> Places<'a> {
    fn new(file: FileId, body: &'a str, offset: usize) -> Self {
        let marks = if body.is_ascii() {
            Vec::new()
        } else {
            body.char_indices().step_by(STRIDE).map(|(byte, _)| byte).collect()
        };
        Self { file, body, offset, marks }
    }

    fn byte(&self, character: usize) -> usize {
        if self.marks.is_empty() {
            return self.offset + character.min(self.body.len());
        }
        let Some(&mark) = self.marks.get(character / STRIDE) else {
            return self.offset + self.body.len();
        };
        let rest = &self.body[mark..];
        let inside = rest.char_indices().nth(character % STRIDE).map_or(rest.len(), |(byte, _)| byte);
        self.offset + mark + inside
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        Span::new(self.file, self.byte(span.start.index()), self.byte(span.end.index()))
    }
}

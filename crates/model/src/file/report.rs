//! Collects what is wrong with a file, each with its place, and counts what is too much to show.

use std::collections::BTreeMap;
use std::ops::Range;

use super::arena::Arena;
use super::place::{FileId, Sources, Span};
use super::tree::Style;
use super::{ERRORS_MAX, Errors};
use crate::diagnostic::{Diagnostic, Trace, printable};

/// So many steps of what led to a place are shown.
const TRACE_MAX: usize = 8;

/// The longest piece of a file's text that is repeated in a message, in characters.
const SHOWN_MAX: usize = 60;

/// What is wrong and what to do, still without its place.
pub(super) struct Problem {
    message: String,
    label: Option<String>,
    hint: Option<String>,
    /// Another place that has to do with it, and what is there.
    also: Option<(Span, &'static str)>,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), label: None, hint: None, also: None }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    pub(super) fn also(mut self, span: Span, what: &'static str) -> Self {
        self.also = Some((span, what));
        self
    }
}

/// Everything found so far.
pub(super) struct Report<'a> {
    pub(super) sources: Sources<'a>,
    errors: Pile,
    notes: Pile,
    /// Templates of texts that are made anew for each copy of a service.
    each: Vec<&'a str>,
}

#[derive(Default)]
struct Pile {
    kept: Vec<(Span, Problem)>,
    more: usize,
}

impl Pile {
    /// The problem is only worded when it is going to be shown: a file may hold a million.
    fn add(&mut self, span: Span, problem: impl FnOnce() -> Problem, sources: &Sources<'_>) {
        if self.kept.len() >= ERRORS_MAX {
            self.more += 1;
            return;
        }
        let problem = problem();
        // An alias leads to the same text again, or a file is included and extended; it is wrong once.
        let is_same =
            |at: Span, other: &Problem| other.message == problem.message && sources.is_same(at, span);
        if !self.kept.iter().any(|(at, other)| is_same(*at, other)) {
            self.kept.push((span, problem));
        }
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(arena: Arena<'a>) -> Self {
        Self {
            sources: Sources::new(arena),
            errors: Pile::default(),
            notes: Pile::default(),
            each: Vec::new(),
        }
    }

    /// Where trees live.
    pub(super) fn arena(&self) -> Arena<'a> {
        self.sources.arena
    }

    /// Keeps a template for each copy.
    pub(super) fn keep(&mut self, template: &'a str) -> Style {
        self.each.push(template);
        Style::Each(u32::try_from(self.each.len() - 1).unwrap_or(u32::MAX))
    }

    /// The template of a text, if it has one.
    pub(super) fn template_of(&self, style: Style) -> Option<&'a str> {
        match style {
            Style::Each(number) => self.each.get(number as usize).copied(),
            _ => None,
        }
    }

    /// No text differs from copy to copy.
    pub(super) fn keeps_none(&self) -> bool {
        self.each.is_empty()
    }

    /// How much is wrong so far.
    pub(super) fn count(&self) -> usize {
        self.errors.kept.len() + self.errors.more
    }

    /// So far nothing is wrong.
    pub(super) fn is_clean(&self) -> bool {
        self.errors.kept.is_empty()
    }

    pub(super) fn error(&mut self, span: Span, problem: impl FnOnce() -> Problem) {
        self.errors.add(span, problem, &self.sources);
    }

    pub(super) fn note(&mut self, span: Span, problem: impl FnOnce() -> Problem) {
        self.notes.add(span, problem, &self.sources);
    }

    /// Further notes are only counted.
    pub(super) fn is_full_of_notes(&self) -> bool {
        self.notes.kept.len() >= ERRORS_MAX
    }

    /// The text of a span.
    pub(super) fn text(&self, span: Span) -> &'a str {
        self.sources.text(span)
    }

    /// What came of it and the notes, if nothing was wrong.
    pub(super) fn finish<T>(mut self, outcome: Option<T>) -> Result<(T, Vec<Diagnostic>), Errors> {
        let Some(outcome) = outcome.filter(|_| self.errors.kept.is_empty()) else {
            if self.errors.kept.is_empty() {
                self.error(Span::NOWHERE, || Problem::new("This is not a project file"));
            }
            let more = self.errors.more;
            let diagnostics = placed(&self.sources, self.errors.kept);
            let sources = self.sources.texts(diagnostics.iter().map(|diagnostic| diagnostic.file.as_str()));
            return Err(Errors { diagnostics, more, sources });
        };
        let more = self.notes.more;
        if more > 0 {
            self.notes.kept.push((Span::NOWHERE, Problem::new(format!("and {more} more notes"))));
        }
        Ok((outcome, placed(&self.sources, self.notes.kept)))
    }
}

/// With line and column, by file and place; at the end what stands in none.
fn placed(sources: &Sources<'_>, mut found: Vec<(Span, Problem)>) -> Vec<Diagnostic> {
    found.sort_by_key(|(span, _)| (sources.first_of(span.file), span.start()));
    let mut rulers = Rulers { sources, lines: BTreeMap::new() };
    let mut diagnostics = Vec::with_capacity(found.len());
    for (span, problem) in found {
        let (file, span_in_file, line, column) = rulers.place(span);
        let steps = sources.trace(span).take(TRACE_MAX).map(|step| (step.span, step.what.as_str()));
        let trace = problem.also.into_iter().chain(steps).map(|(span, what)| {
            let (file, _, line, column) = rulers.place(span);
            Trace { file, line, column, what: what.to_owned() }
        });
        diagnostics.push(Diagnostic {
            file,
            span: span_in_file,
            line,
            column,
            message: problem.message,
            label: problem.label,
            hint: problem.hint,
            trace: trace.collect(),
        });
    }
    diagnostics
}

/// Finds lines and columns.
struct Rulers<'s, 'a> {
    sources: &'s Sources<'a>,
    /// Where each line starts, of the files that were asked for.
    lines: BTreeMap<FileId, Vec<usize>>,
}

impl Rulers<'_, '_> {
    fn place(&mut self, span: Span) -> (String, Range<usize>, u32, u32) {
        let Some(file) = self.sources.file(span.file) else { return Default::default() };
        let inside = on_one_line(file.text, span.start()..span.end());
        let starts = self.lines.entry(span.file).or_insert_with(|| {
            let after = memchr::memchr_iter(b'\n', file.text.as_bytes()).map(|newline| newline + 1);
            std::iter::once(0).chain(after).collect()
        });
        let line = starts.partition_point(|start| *start <= inside.start);
        let line_start = starts.get(line.wrapping_sub(1)).copied().unwrap_or_default();
        let before = file.text[line_start..inside.start].trim_start_matches('\u{feff}');
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (file.name.clone(), inside, narrow(line), narrow(before.chars().count() + 1))
    }
}

/// A caret under many lines says nothing: only what is on the first of them. Always within the text
/// and between characters.
fn on_one_line(text: &str, range: Range<usize>) -> Range<usize> {
    let floor = |mut i: usize| {
        while !text.is_char_boundary(i) {
            i -= 1;
        }
        i
    };
    let start = floor(range.start.min(text.len()));
    let end = floor(range.end.clamp(start, text.len()));
    let first = text[start..end].split('\n').next().unwrap_or_default().trim_end();
    start..start + first.len()
}

/// A piece of somebody's text that is safe to print and not too long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => printable(&text[..end]) + "…",
        None => printable(text),
    }
}

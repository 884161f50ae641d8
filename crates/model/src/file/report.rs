//! Collects what is wrong with a file, each with its place, and counts what is too much to show.

use super::{ERRORS_MAX, Errors, Parsed, Source};
use crate::diagnostic::Diagnostic;
use crate::project::Project;

/// The longest piece of a file's text that is repeated in a message, in characters.
const SHOWN_MAX: usize = 60;

/// Bytes of the text, from `start` to before `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// What is wrong and what to do, still without its place.
pub(super) struct Problem {
    message: String,
    label: Option<String>,
    hint: Option<String>,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), label: None, hint: None }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// Everything found so far.
pub(super) struct Report<'a> {
    pub(super) source: Source<'a>,
    errors: Pile,
    notes: Pile,
}

#[derive(Default)]
struct Pile {
    kept: Vec<(Span, Problem)>,
    more: usize,
}

impl Pile {
    /// The problem is only worded when it is going to be shown: a file may hold a million.
    fn add(&mut self, span: Span, problem: impl FnOnce() -> Problem) {
        if self.kept.len() >= ERRORS_MAX {
            self.more += 1;
            return;
        }
        let problem = problem();
        // An alias leads to the same text again; it is wrong once.
        if !self.kept.iter().any(|(at, other)| *at == span && other.message == problem.message) {
            self.kept.push((span, problem));
        }
    }
}

impl<'a> Report<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        Self { source, errors: Pile::default(), notes: Pile::default() }
    }

    pub(super) fn error(&mut self, span: Span, problem: impl FnOnce() -> Problem) {
        self.errors.add(span, problem);
    }

    pub(super) fn note(&mut self, span: Span, problem: impl FnOnce() -> Problem) {
        self.notes.add(span, problem);
    }

    /// The text of a span.
    pub(super) fn text(&self, span: Span) -> &'a str {
        self.source.text.get(span.start..span.end).unwrap_or_default()
    }

    /// The project, if nothing was wrong.
    pub(super) fn finish(mut self, project: Option<Project>) -> Result<Parsed, Errors> {
        let Some(project) = project.filter(|_| self.errors.kept.is_empty()) else {
            if self.errors.kept.is_empty() {
                self.error(Span::default(), || Problem::new("This is not a project file"));
            }
            let more = self.errors.more;
            return Err(Errors { diagnostics: placed(self.source, self.errors.kept), more });
        };
        let more = self.notes.more;
        if more > 0 {
            self.notes.kept.push((Span::default(), Problem::new(format!("and {more} more notes"))));
        }
        Ok(Parsed { project, notes: placed(self.source, self.notes.kept) })
    }
}

/// Finds line and column of each, in one walk over the text.
fn placed(source: Source<'_>, mut found: Vec<(Span, Problem)>) -> Vec<Diagnostic> {
    found.sort_by_key(|(span, _)| span.start);
    let (mut line, mut line_start, mut here) = (1_u32, 0, 0);
    let mut diagnostics = Vec::with_capacity(found.len());
    for (span, problem) in found {
        let span = on_one_line(source.text, span);
        for (i, byte) in source.text.as_bytes()[here..span.start].iter().enumerate() {
            if *byte == b'\n' {
                line = line.saturating_add(1);
                line_start = here + i + 1;
            }
        }
        here = span.start;
        let before = source.text[line_start..span.start].trim_start_matches('\u{feff}');
        diagnostics.push(Diagnostic {
            file: source.name.to_owned(),
            span: span.start..span.end,
            line,
            column: u32::try_from(before.chars().count() + 1).unwrap_or(u32::MAX),
            message: problem.message,
            label: problem.label,
            hint: problem.hint,
        });
    }
    diagnostics
}

/// A caret under many lines says nothing: only what is on the first of them. Always within the text
/// and between characters.
fn on_one_line(text: &str, span: Span) -> Span {
    let floor = |mut i: usize| {
        while !text.is_char_boundary(i) {
            i -= 1;
        }
        i
    };
    let start = floor(span.start.min(text.len()));
    let end = floor(span.end.clamp(start, text.len()));
    let first = text[start..end].split('\n').next().unwrap_or_default().trim_end();
    Span { start, end: start + first.len() }
}

/// A piece of somebody's text that is safe to print and not too long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => printable(&text[..end]) + "…",
        None => printable(text),
    }
}

/// Text that does nothing to a terminal: control and direction characters are escaped.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

//! Output of services: each line behind the name of its slot.

use std::collections::{BTreeMap, BTreeSet};

use unicode_width::UnicodeWidthStr;
use upbeat_model::{LogLine, LogStream, ServiceName, SlotId};

use super::{Face, Paint, Tone, tamed, time::stamp, visible};

/// What stands before a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// `web-1  | `.
    Slot,
    /// Nothing.
    None,
}

/// Whether the moment a line was read is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamps {
    /// It is.
    Shown,
    /// It is not.
    Hidden,
}

/// Draws lines so that they stay aligned, and each service keeps its colour.
#[derive(Debug)]
pub struct LogView {
    paint: Paint,
    is_terminal: bool,
    prefix: Prefix,
    stamps: Stamps,
    width: usize,
    colours: BTreeMap<ServiceName, usize>,
    hidden: BTreeSet<ServiceName>,
}

impl LogView {
    /// `known`: the slots that exist already. A longer name that comes later widens the column
    /// from there on.
    pub fn new<'a>(
        face: &Face,
        prefix: Prefix,
        stamps: Stamps,
        known: impl IntoIterator<Item = &'a SlotId>,
    ) -> Self {
        let mut view = Self {
            paint: face.paint,
            is_terminal: face.is_terminal,
            prefix,
            stamps,
            width: 0,
            colours: BTreeMap::new(),
            hidden: BTreeSet::new(),
        };
        for slot in known {
            view.learn(slot);
        }
        view
    }

    /// Without what these print.
    pub fn without(self, hidden: BTreeSet<ServiceName>) -> Self {
        Self { hidden, ..self }
    }

    /// Whether a line is left out.
    pub fn hides(&self, line: &LogLine) -> bool {
        self.hidden.contains(&line.slot.service)
    }

    fn learn(&mut self, slot: &SlotId) -> usize {
        self.width = self.width.max(slot.short().width());
        let next = self.colours.len();
        *self.colours.entry(slot.service.clone()).or_insert(next)
    }

    /// One line, ended.
    pub fn line(&mut self, line: &LogLine) -> String {
        let colour = self.learn(&line.slot);
        let mut text = String::with_capacity(line.text.len() + self.width + 8);
        if self.prefix == Prefix::Slot {
            let prefix = format!("{:width$}  | ", line.slot.short(), width = self.width);
            text.push_str(&self.paint.tone(Tone::Series(colour), prefix));
        }
        if self.stamps == Stamps::Shown {
            text.push_str(&self.paint.tone(Tone::Quiet, stamp(line.at_ns)));
            text.push(' ');
        }
        match line.stream {
            LogStream::Upbeat => {
                text.push_str(&self.paint.tone(Tone::Quiet, format!("[upbeat: {}]", visible(&line.text))));
            }
            LogStream::Stdout | LogStream::Stderr if self.is_terminal => {
                text.push_str(&tamed(&line.text, self.paint));
            }
            LogStream::Stdout | LogStream::Stderr => text.push_str(&line.text),
        }
        // A service may colour its own lines; what it left switched on must not leak into the
        // next prefix.
        if self.paint == Paint::Coloured && line.text.contains('\u{1b}') {
            text.push_str("\u{1b}[0m");
        }
        text.push('\n');
        text
    }
}

/// The last lines of a slot, indented under what is said about it. Shown, not obeyed: they stand
/// inside a message of ours.
pub fn last_lines(lines: &[String], paint: Paint) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&paint.tone(Tone::Quiet, format!("    | {}", visible(line))));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{NOW, face, slot};

    fn line(short: &str, stream: LogStream, text: &str) -> LogLine {
        LogLine { slot: slot(short), sequence: 1, at_ns: NOW.0 * 1_000_000, stream, text: text.into() }
    }

    fn sample(view: &mut LogView) -> String {
        [
            line("db-1", LogStream::Stdout, "ready"),
            line("web-1", LogStream::Stderr, "\u{1b}[31mred, never reset"),
            line("worker-12", LogStream::Stdout, "longer than all before"),
            line("db-1", LogStream::Upbeat, "12 records dropped"),
        ]
        .iter()
        .map(|l| view.line(l))
        .collect()
    }

    #[test]
    fn lines_align_behind_their_slots() {
        let mut view = LogView::new(&face(), Prefix::Slot, Stamps::Hidden, [&slot("db-1"), &slot("web-1")]);
        insta::assert_snapshot!(sample(&mut view).replace('\u{1b}', "ESC"), @"
        db-1   | ready
        web-1  | ESC[31mred, never reset
        worker-12  | longer than all before
        db-1       | [upbeat: 12 records dropped]
        ");
    }

    #[test]
    fn each_service_has_a_colour_and_foreign_colours_end_with_their_line() {
        let mut view = LogView::new(
            &Face { paint: Paint::Coloured, ..face() },
            Prefix::Slot,
            Stamps::Shown,
            [&slot("db-1"), &slot("web-1")],
        );
        insta::assert_snapshot!(sample(&mut view).replace('\u{1b}', "ESC"), @"
        ESC[36mdb-1   | ESC[0mESC[2m2026-03-01T12:00:00.000ZESC[0m ready
        ESC[33mweb-1  | ESC[0mESC[2m2026-03-01T12:00:00.000ZESC[0m ESC[31mred, never resetESC[0m
        ESC[32mworker-12  | ESC[0mESC[2m2026-03-01T12:00:00.000ZESC[0m longer than all before
        ESC[36mdb-1       | ESC[0mESC[2m2026-03-01T12:00:00.000ZESC[0m ESC[2m[upbeat: 12 records dropped]ESC[0m
        ");
    }

    #[test]
    fn without_a_prefix_a_line_is_as_it_was_written() {
        let mut view = LogView::new(&face(), Prefix::None, Stamps::Hidden, []);
        assert_eq!(view.line(&line("db-1", LogStream::Stdout, " a\tb ")), " a\tb \n");
    }
}

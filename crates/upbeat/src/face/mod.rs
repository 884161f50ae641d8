//! How things look: every text a person reads is made here, as a string, from data.
//!
//! Laws: nothing here prints, waits, reads the environment or asks for the time; whether there are
//! colours, how wide the terminal is and what time it is come in with [`Face`]. So each text can be
//! pinned down by a test. Texts that come from services or files never reach a table raw: control
//! characters are shown, not obeyed.

pub mod access;
pub mod analyze;
pub mod apps;
pub(crate) mod build;
pub mod data;
pub mod diagnostics;
pub mod error;
pub mod events;
pub mod forecast;
pub mod graph;
pub mod logs;
pub mod outcome;
pub mod paint;
pub mod plan;
pub mod ps;
pub mod rollout;
pub mod stats;
pub mod table;
pub mod time;
pub mod unit;
pub mod webhook;
pub mod why;

pub use paint::{Paint, Tone};

use upbeat_model::Wall;

/// What a text depends on besides its data.
#[derive(Clone, Debug)]
pub struct Face {
    /// Colours or none.
    pub paint: Paint,
    /// What is printed is obeyed by a terminal.
    pub is_terminal: bool,
    /// Columns of the terminal; `None` where there is none, and then nothing is cut.
    pub width: Option<usize>,
    /// The moment ages are counted to.
    pub now: Wall,
    /// Whose clock times of day are told by.
    pub zone: jiff::tz::TimeZone,
}

/// `1 slot`, `2 slots`.
pub fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// With a capital letter: messages are written in sentence case wherever they come from.
pub fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Makes control characters visible, so that no name, health answer or output line shown inside a
/// table or an error can move the cursor, recolour the screen or break the line.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push(' '),
            c if c.is_control() || is_bidi_control(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// The output of a service for a terminal: it may have colours, where there are any, and nothing else
/// that a terminal obeys.
pub fn tamed(text: &str, paint: Paint) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.strip_suffix('\r').unwrap_or(text);
    while let Some(at) = rest.find(|c: char| (c.is_control() && c != '\t') || is_bidi_control(c)) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match sgr(rest) {
            Some(length) => {
                if paint == Paint::Coloured {
                    shown.push_str(&rest[..length]);
                }
                length
            }
            None => {
                let length = rest.chars().next().map_or(0, char::len_utf8);
                shown.push_str(&visible(&rest[..length]));
                length
            }
        };
        rest = &rest[length..];
    }
    shown.push_str(rest);
    shown
}

/// The length of the sequence at the beginning that sets colours, if it is one.
fn sgr(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("\u{1b}[")?;
    let length = inner.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    inner[length..].starts_with('m').then_some(length + 3)
}

/// Characters that reorder what stands around them.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

#[cfg(test)]
pub(crate) mod examples;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_cannot_command_the_terminal() {
        assert_eq!(visible("a\u{1b}[31mb\r\nc\u{202e}"), "a\\u{1b}[31mb\\r\\nc\\u{202e}");
        assert_eq!(visible("größe → 漢字"), "größe → 漢字");
    }

    #[test]
    fn of_what_a_service_prints_a_terminal_obeys_colours_only() {
        let text = "\u{1b}]0;title\u{7}a\tb\u{1b}[1;31mred\u{1b}[2J\u{9b}1m\r\u{202e}größe\u{1b}[0m\u{1b}\r";
        assert_eq!(
            tamed(text, Paint::Coloured),
            "\\u{1b}]0;title\\u{7}a\tb\u{1b}[1;31mred\\u{1b}[2J\\u{9b}1m\\r\\u{202e}größe\u{1b}[0m\\u{1b}"
        );
        assert_eq!(tamed("\u{1b}[31mred\u{1b}[m\r", Paint::Plain), "red");
    }
}

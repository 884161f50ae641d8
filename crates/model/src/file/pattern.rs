//! Whether a text is a regular expression that can be compiled, without ever paying much to know.

use std::collections::HashSet;
use std::ops::Range;

use regex_automata::nfa::thompson;

use super::rules::Broken;

/// The largest automaton of one pattern, in bytes: fifty words of any script in a row.
const PATTERN_MAX: usize = 1 << 20;

/// The largest automata of all patterns of a project, in bytes: ten thousand plain ones, and about
/// half a second of work.
const PATTERNS_MAX: usize = 64 << 20;

/// The longest pattern, in bytes: some screens full.
const PATTERN_TEXT_MAX: usize = 4096;

/// What looking at a pattern is counted as, besides its automaton, for each and for each byte of it.
const PATTERN_MIN: usize = 1 << 10;
const PATTERN_BYTE: usize = 16;

/// Judges patterns, and knows what it has spent.
#[derive(Default)]
pub(super) struct Patterns {
    good: HashSet<String>,
    spent: usize,
}

/// A broken rule, and where in the pattern.
pub(super) type BrokenAt = (Broken, Option<Range<usize>>);

impl Patterns {
    /// The syntax is that of the `regex` crate with its default options.
    pub(super) fn check(&mut self, pattern: &str) -> Result<(), BrokenAt> {
        if self.good.contains(pattern) {
            return Ok(());
        }
        if self.spent > PATTERNS_MAX {
            return Err((Broken::new("is one large pattern too many in this project"), None));
        }
        if pattern.is_empty() {
            return Err((Broken::new("is empty").hint("name a part of what is to be found"), None));
        }
        if pattern.len() > PATTERN_TEXT_MAX {
            let rule = Broken::new(format!("is a pattern of more than {PATTERN_TEXT_MAX} bytes"));
            return Err((rule.hint("look for less"), None));
        }
        self.spent += PATTERN_MIN + pattern.len() * PATTERN_BYTE;
        let parsed = regex_syntax::parse(pattern).map_err(|e| syntax(&e))?;
        let config = thompson::Config::new().nfa_size_limit(Some(PATTERN_MAX));
        match thompson::Compiler::new().configure(config).build_from_hir(&parsed) {
            Ok(nfa) => {
                self.spent += nfa.memory_usage();
                self.good.insert(pattern.to_owned());
                Ok(())
            }
            Err(_) => {
                self.spent += PATTERN_MAX;
                Err((Broken::new("is too large a pattern").hint("look for less, or repeat less"), None))
            }
        }
    }
}

fn syntax(error: &regex_syntax::Error) -> BrokenAt {
    let (why, span) = match error {
        regex_syntax::Error::Parse(e) => (e.kind().to_string(), Some(*e.span())),
        regex_syntax::Error::Translate(e) => (e.kind().to_string(), Some(*e.span())),
        other => (other.to_string(), None),
    };
    let what = format!("is not a regular expression: {}", crate::diagnostic::printable(&why));
    (Broken::new(what), span.map(|s| s.start.offset..s.end.offset))
}

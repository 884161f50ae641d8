//! What is wrong with a file: where, what, and what to do.

use serde::{Deserialize, Serialize};

/// One error in one file, or in none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Diagnostic {
    /// The file as the person named it. Empty where the error stands in none: then its place says
    /// nothing.
    pub file: String,
    /// Byte range in the file's text.
    pub span: std::ops::Range<usize>,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// What is wrong: sentence case, no full stop, `code` in backticks.
    pub message: String,
    /// A few words to stand under the caret.
    pub label: Option<String>,
    /// What to do: `did you mean …`.
    pub hint: Option<String>,
    /// What led there from the file the person named, the nearest step first.
    #[serde(default)]
    pub trace: Vec<Trace>,
}

/// One step of what led to a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Trace {
    /// The file as the person named it.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// `included here`.
    pub what: String,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:{}:{}: ", printable(&self.file), self.line, self.column)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        for step in &self.trace {
            write!(f, "; {} at {}:{}:{}", step.what, printable(&step.file), step.line, step.column)?;
        }
        Ok(())
    }
}

/// Text that does nothing to a terminal: control and direction characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

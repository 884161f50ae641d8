//! Regular expressions of probes, made once: to make one takes longer than most probes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use regex::Regex;

/// More than this are made anew all at once, which few will notice: a file has a handful.
const KEPT_MAX: usize = 256;

/// Expressions by their text.
#[derive(Default)]
pub(super) struct Patterns {
    made: Mutex<HashMap<String, Regex>>,
}

impl Patterns {
    /// The expression. Errors, in words: it is none. The file's reader refuses such a file, so this
    /// comes from another client.
    pub(super) fn get(&self, text: &str) -> Result<Regex, String> {
        // Every change is one call: nothing is half-done after a panic.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pattern) = made.get(text) {
            return Ok(pattern.clone());
        }
        let pattern = Regex::new(text).map_err(|_| "its pattern is not a regular expression".to_owned())?;
        if made.len() >= KEPT_MAX {
            made.clear();
        }
        made.insert(text.to_owned(), pattern.clone());
        Ok(pattern)
    }
}

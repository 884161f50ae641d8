//! Looks at a template before it is made: what it may say, and how long what it makes can get.
//!
//! Every value stands in a text as often as it is named, since nothing is repeated: no loop, no macro,
//! no variable but with a plain value, and no text or list that is multiplied.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::render::{Fault, Values};
use super::report::shown;

/// Statements that repeat nothing.
const STATEMENTS: [&str; 4] = ["elif", "else", "endif", "if"];

/// Words of an expression that are no names.
const WORDS: [&str; 9] = ["and", "else", "false", "if", "in", "is", "none", "not", "or"];

/// What was seen in a text.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// How often each name is there.
    names: HashMap<String, usize>,
    /// Names in expressions that multiply.
    factors: Vec<String>,
    /// Values that the text itself gives.
    set: Values,
}

impl Scan {
    /// Only numbers are multiplied.
    pub(super) fn judge(&self, values: &Values) -> Result<(), Fault> {
        let is_number = |name: &String| {
            let value = self.set.get(name).or_else(|| values.get(name));
            value.is_some_and(|value| value.is_number())
        };
        match self.factors.iter().all(is_number) {
            true => Ok(()),
            false => Err(multiplies()),
        }
    }

    /// The most bytes that can be made of it.
    pub(super) fn length(&self, text: &str, values: &Values) -> usize {
        let of = |(name, count): (&String, &usize)| {
            let value = self.set.get(name).or_else(|| values.get(name));
            // Longer than any text of it by less than the quotes and commas that are counted too.
            value.map_or(0, |value| size(value).saturating_mul(*count))
        };
        self.names.iter().map(of).fold(text.len(), usize::saturating_add)
    }
}

fn size(value: &Json) -> usize {
    match value {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(|item| size(item) + 4).sum(),
        _ => 32,
    }
}

fn multiplies() -> Fault {
    Fault { what: "multiplies, which only numbers are for".to_owned(), range: None }
}

/// Looks at a text. Errors: it says more than it may. What is no template at all is left to whoever
/// reads it.
pub(super) fn scan(text: &str) -> Result<Scan, Fault> {
    let mut found = Scan::default();
    let mut rest = text;
    while let Some(start) = ["{{", "{%", "{#"].iter().filter_map(|sign| rest.find(sign)).min() {
        let block = &rest[start..];
        let (inside, length) = match &block[..2] {
            "{#" => match block.find("#}") {
                Some(end) => ("", end + 2),
                None => break,
            },
            opened => {
                let Some(end) = end_of(block, if opened == "{{" { "}}" } else { "%}" }) else { break };
                (&block[2..end], end + 2)
            }
        };
        rest = &block[length..];
        let inside = inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        match block.starts_with("{%") {
            true if inside == "raw" => rest = after_raw(rest),
            true => found.statement(inside)?,
            false => found.expression(inside)?,
        }
    }
    Ok(found)
}

/// Where a block ends: not inside of its texts.
fn end_of(block: &str, sign: &str) -> Option<usize> {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in block.char_indices().skip(2) {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if c == '\\' => is_escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if block[at..].starts_with(sign) => return Some(at),
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None => {}
        }
    }
    None
}

/// What follows the end of text that is taken as it is.
fn after_raw(rest: &str) -> &str {
    let mut from = 0;
    while let Some(at) = rest[from..].find("{%") {
        let block = &rest[from + at..];
        let Some(end) = block.find("%}") else { break };
        let word = block[2..end].trim_matches(['-', '+', ' ', '\t', '\n', '\r']);
        if word == "endraw" {
            return &block[end + 2..];
        }
        from += at + 2;
    }
    ""
}

impl Scan {
    fn statement(&mut self, inside: &str) -> Result<(), Fault> {
        let (word, rest) = inside.split_once(char::is_whitespace).unwrap_or((inside, ""));
        if STATEMENTS.contains(&word) {
            return self.expression(rest);
        }
        if word != "set" {
            let what = format!(
                "has `{}`, which is not supported: only `if`, and `set` with a plain value",
                shown(word)
            );
            return Err(Fault { what, range: None });
        }
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        match serde_json::from_str::<Json>(value.trim()) {
            Ok(value) if !value.is_object() => drop(self.set.insert(name.trim().to_owned(), value)),
            _ => {
                let what = format!("gives `{}` a value that is no plain one", shown(name.trim()));
                return Err(Fault { what, range: None });
            }
        }
        Ok(())
    }

    fn expression(&mut self, inside: &str) -> Result<(), Fault> {
        let (code, has_text) = without_texts(inside);
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let names = code.split(|c: char| !is_part(c)).filter(|word| {
            word.starts_with(|c: char| c.is_alphabetic() || c == '_') && !WORDS.contains(word)
        });
        if code.contains('*') {
            if has_text || code.contains(['|', '~', '[', '{']) {
                return Err(multiplies());
            }
            self.factors.extend(names.clone().map(str::to_owned));
        }
        for name in names {
            *self.names.entry(name.to_owned()).or_default() += 1;
        }
        Ok(())
    }
}

/// An expression without its texts, and whether it has any.
fn without_texts(inside: &str) -> (String, bool) {
    let mut code = String::new();
    let (mut quote, mut is_escaped, mut has_text) = (None, false, false);
    for c in inside.chars() {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if c == '\\' => is_escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => (quote, has_text) = (Some(c), true),
            None => code.push(c),
        }
    }
    (code, has_text)
}

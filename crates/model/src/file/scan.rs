//! Looks at a template before it is made: what it may say, and how long what it makes can get.
//!
//! Every value stands in a text as often as it is named, since nothing is repeated: no loop, no macro,
//! no variable but with a plain value, and no text or list that is multiplied. A list that is made a
//! text of has its quotes and backslashes escaped, once more with each list around it.
//!
//! Law: where a block starts and ends here is where it does for whoever makes the text. What is seen
//! otherwise is refused, and so is what he would fall over.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::render::{Fault, Values};
use super::report::shown;

/// Statements that repeat nothing.
const STATEMENTS: [&str; 4] = ["elif", "else", "endif", "if"];

/// Words of an expression that are no names.
const WORDS: [&str; 13] =
    ["False", "None", "True", "and", "else", "false", "if", "in", "is", "none", "not", "or", "true"];

/// So many signs and words one expression may have, names and commas aside, and so many conditions may hang on
/// each other: whoever reads them recurses.
const STEPS_MAX: usize = 250;
const CONDITIONS_MAX: usize = 50;

/// Brackets may stand in brackets so deep.
const BRACKETS_MAX: usize = 16;

/// Bytes that may be made of one where a text is quoted: `\u{1f}`.
const QUOTED: usize = 6;

/// The longest number, as a text.
const NUMBER: usize = 330;

/// What was seen in a text.
#[derive(Debug, Default)]
pub(super) struct Scan {
    expressions: Vec<Expression>,
    /// Values that the text itself gives, by name: a name may have some.
    set: HashMap<String, Vec<Json>>,
    /// Not all of it could be read.
    pub(super) is_broken: bool,
    /// Bytes outside of expressions.
    plain: usize,
    /// For each condition that is open, how many hang on each other.
    conditions: Vec<usize>,
}

#[derive(Debug, Default)]
struct Expression {
    length: usize,
    /// How often each name is there.
    names: HashMap<String, usize>,
    multiplies: bool,
    /// How deep lists stand in lists.
    lists: usize,
}

impl Expression {
    /// Bytes that may be made of each of its own.
    fn weight(&self) -> usize {
        match self.lists {
            0 => 1,
            lists => QUOTED << (lists - 1),
        }
    }
}

impl Scan {
    /// Only numbers are multiplied.
    pub(super) fn judge(&self, values: &Values) -> Result<(), Fault> {
        let is_number = |name: &String| {
            let mut all = self.values(name, values).peekable();
            all.peek().is_some() && all.all(|value| value.is_number() || value.is_boolean())
        };
        let multiply = self.expressions.iter().filter(|expression| expression.multiplies);
        match multiply.flat_map(|expression| expression.names.keys()).all(is_number) {
            true => Ok(()),
            false => Err(multiplies()),
        }
    }

    /// All that a name may stand for.
    fn values<'v>(&'v self, name: &str, values: &'v Values) -> impl Iterator<Item = &'v Json> {
        self.set.get(name).into_iter().flatten().chain(values.get(name))
    }

    /// The most bytes that can be made of it, without what filters add.
    pub(super) fn length(&self, values: &Values) -> usize {
        let of = |(name, count): (&String, &usize)| {
            let longest = self.values(name, values).map(size).max();
            longest.unwrap_or_default().saturating_mul(*count)
        };
        let all = self.expressions.iter().map(|expression| {
            let named = expression.names.iter().map(of).fold(expression.length, usize::saturating_add);
            named.saturating_mul(expression.weight())
        });
        all.fold(self.plain, usize::saturating_add)
    }

    /// Bytes that may be made of each that a filter makes.
    pub(super) fn weight(&self) -> usize {
        self.expressions.iter().map(Expression::weight).max().unwrap_or(1)
    }
}

fn size(value: &Json) -> usize {
    match value {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(|item| size(item).saturating_mul(QUOTED) + 4).sum(),
        _ => NUMBER,
    }
}

fn multiplies() -> Fault {
    refused("multiplies, which only numbers are for")
}

fn refused(what: &str) -> Fault {
    Fault { what: what.to_owned(), range: None }
}

/// Looks at a text. Errors: it says more than it may. What is no template at all is left to whoever
/// reads it.
pub(super) fn scan(text: &str) -> Result<Scan, Fault> {
    let mut found = Scan::default();
    let mut rest = text;
    while let Some((before, block)) = next_block(rest) {
        found.plain += before;
        let end = match block.as_bytes()[1] {
            b'#' => after_comment(block),
            b'%' => match tag(&block[marker(block)..], "raw") {
                Some(length) => {
                    let start = marker(block) + length;
                    after_raw(&block[start..]).map(|(raw, end)| {
                        found.plain += raw;
                        start + end
                    })
                }
                None => found.block(block, "%}")?,
            },
            _ => found.block(block, "}}")?,
        };
        let Some(end) = end else {
            found.is_broken = true;
            return Ok(found);
        };
        rest = &block[end..];
    }
    found.plain += rest.len();
    Ok(found)
}

/// What is before the next block, in bytes, and all from there.
fn next_block(text: &str) -> Option<(usize, &str)> {
    let signs = text.as_bytes().windows(2);
    let at = signs.enumerate().find(|(_, sign)| matches!(**sign, [b'{', b'{' | b'%' | b'#']))?.0;
    Some((at, &text[at..]))
}

/// The length of the sign that opens a block.
fn marker(block: &str) -> usize {
    if block[2..].starts_with(['-', '+']) { 3 } else { 2 }
}

fn after_comment(block: &str) -> Option<usize> {
    let start = marker(block);
    Some(start + block[start..].find("#}")? + 2)
}

/// The length of the rest of a block that is nothing but a word.
fn tag(inside: &str, word: &str) -> Option<usize> {
    let rest = inside.trim_ascii_start().strip_prefix(word)?.trim_ascii_start();
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).strip_prefix("%}")?;
    Some(inside.len() - rest.len())
}

/// The length of text that is taken as it is, and where what follows it starts.
fn after_raw(rest: &str) -> Option<(usize, usize)> {
    let signs = rest.as_bytes().windows(2).enumerate();
    signs.filter(|(_, sign)| *sign == b"{%").find_map(|(at, _)| {
        let start = at + marker(&rest[at..]);
        Some((at, start + tag(&rest[start..], "endraw")?))
    })
}

impl Scan {
    /// Looks into a block that ends with a sign: outside of its texts and brackets. Says where; `None`:
    /// it does not end.
    fn block(&mut self, block: &str, sign: &str) -> Result<Option<usize>, Fault> {
        let start = marker(block);
        let mut tokens = Tokens { text: block, at: start };
        let (mut brackets, mut steps) = (0_usize, 0_usize);
        let end = loop {
            tokens.skip_space();
            if brackets == 0 && block[tokens.at..].starts_with(sign) {
                break tokens.at;
            }
            match tokens.next() {
                None | Some(Token::Broken) => return Ok(None),
                Some(Token::Word(word)) => steps += usize::from(WORDS.contains(&word)),
                Some(Token::Text | Token::Sign(b',')) => {}
                Some(Token::Sign(sign)) => {
                    steps += 1;
                    match sign {
                        b'(' | b'[' | b'{' => brackets += 1,
                        b')' | b']' | b'}' if brackets == 0 => return Ok(None),
                        b')' | b']' | b'}' => brackets -= 1,
                        _ => {}
                    }
                }
            }
            if steps > STEPS_MAX || brackets > BRACKETS_MAX {
                return Err(refused("has too much in one expression"));
            }
        };
        // A sign that takes away space after the block is none of it.
        let inside = &block[start..end];
        let inside = inside.strip_suffix(['-', '+']).unwrap_or(inside).trim_ascii();
        match sign {
            "%}" => self.statement(inside)?,
            _ => self.expression(inside)?,
        }
        Ok(Some(end + sign.len()))
    }

    fn statement(&mut self, inside: &str) -> Result<(), Fault> {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let (word, rest) = inside.split_at(inside.find(|c| !is_part(c)).unwrap_or(inside.len()));
        if STATEMENTS.contains(&word) {
            match (word, self.conditions.last_mut()) {
                ("if", _) => self.conditions.push(1),
                ("elif", Some(count)) => *count += 1,
                ("endif", _) => drop(self.conditions.pop()),
                _ => {}
            }
            if self.conditions.iter().sum::<usize>() > CONDITIONS_MAX {
                return Err(refused("has too many conditions that hang on each other"));
            }
            return self.expression(rest);
        }
        if word != "set" {
            let what = inside.split(char::is_whitespace).next().unwrap_or_default();
            let what = format!(
                "has `{}`, which is not supported: only `if`, and `set` with a plain value",
                shown(what)
            );
            return Err(Fault { what, range: None });
        }
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        let name = name.trim();
        match serde_json::from_str::<Json>(value.trim()) {
            Ok(value) if is_plain(&value) && name.chars().all(is_part) => {
                self.plain += inside.len();
                self.set.entry(name.to_owned()).or_default().push(value);
                Ok(())
            }
            _ => {
                let what = format!("gives `{}` a value that is no plain one", shown(name));
                Err(Fault { what, range: None })
            }
        }
    }

    fn expression(&mut self, inside: &str) -> Result<(), Fault> {
        let mut looked = Look::default();
        looked.found.length = inside.len();
        for token in (Tokens { text: inside, at: 0 }) {
            looked.token(token)?;
        }
        if looked.found.multiplies && looked.has_more {
            return Err(multiplies());
        }
        self.expressions.push(looked.found);
        Ok(())
    }
}

/// A look at an expression, token by token.
#[derive(Default)]
struct Look {
    found: Expression,
    /// Those that are open.
    brackets: Vec<Bracket>,
    lists: usize,
    /// What comes is the name of a condition, a filter or a part of a value.
    is_called: bool,
    /// A bracket would belong to what was.
    is_value: bool,
    /// There may be texts and lists besides those that are named.
    has_more: bool,
}

impl Look {
    fn token(&mut self, token: Token<'_>) -> Result<(), Fault> {
        let was_called = std::mem::take(&mut self.is_called);
        let was_value = std::mem::take(&mut self.is_value);
        match token {
            Token::Text => (self.has_more, self.is_value) = (true, true),
            Token::Word("not") => self.is_called = was_called,
            Token::Word("is") => self.is_called = true,
            Token::Word(word) if WORDS.contains(&word) || word.starts_with(|c: char| c.is_numeric()) => {}
            Token::Word(word) => {
                self.is_value = true;
                if !was_called {
                    *self.found.names.entry(word.to_owned()).or_default() += 1;
                }
            }
            Token::Sign(sign @ (b'(' | b'[' | b'{')) => {
                self.has_more |= sign != b'(';
                let (makes, is_index) = (!was_value, sign == b'[' && was_value);
                self.brackets.push(Bracket { makes, is_index, colons: 0 });
                self.lists += usize::from(makes);
                self.found.lists = self.found.lists.max(self.lists);
            }
            Token::Sign(b')' | b']' | b'}') => {
                self.is_value = true;
                self.lists -= usize::from(self.brackets.pop().is_some_and(|bracket| bracket.makes));
            }
            Token::Sign(b':') => {
                let Some(bracket) = self.brackets.last_mut() else { return Ok(()) };
                bracket.colons += 1;
                if bracket.is_index && bracket.colons > 1 {
                    return Err(refused("takes a part in steps, which is not supported"));
                }
            }
            Token::Sign(b'*') => self.found.multiplies = true,
            Token::Sign(sign) => {
                self.is_called = matches!(sign, b'|' | b'.');
                self.has_more |= matches!(sign, b'|' | b'~' | b',');
            }
            Token::Broken => {}
        }
        Ok(())
    }
}

/// A bracket that is open.
struct Bracket {
    /// It may make a list: it is no call, and takes nothing out of one.
    makes: bool,
    is_index: bool,
    colons: usize,
}

fn is_plain(value: &Json) -> bool {
    match value {
        Json::Array(items) => items.iter().all(is_plain),
        Json::Null | Json::Object(_) => false,
        Json::Bool(_) | Json::Number(_) | Json::String(_) => true,
    }
}

/// A piece of an expression.
enum Token<'t> {
    /// A text in quotes.
    Text,
    /// A name, a word or a number.
    Word(&'t str),
    Sign(u8),
    /// A text without an end, or a letter of no name.
    Broken,
}

struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl Tokens<'_> {
    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_ascii_start().len();
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = Token<'t>;

    fn next(&mut self) -> Option<Token<'t>> {
        self.skip_space();
        let rest = &self.text[self.at..];
        let first = *rest.as_bytes().first()?;
        let is_part = |c: &u8| c.is_ascii_alphanumeric() || *c == b'_';
        let (token, length) = match first {
            b'"' | b'\'' => {
                let mut is_escaped = false;
                let end = rest.bytes().skip(1).position(|c| {
                    let was_escaped = is_escaped;
                    is_escaped = !was_escaped && c == b'\\';
                    !was_escaped && c == first
                });
                end.map_or((Token::Broken, rest.len()), |end| (Token::Text, end + 2))
            }
            _ if is_part(&first) => {
                let length = rest.bytes().take_while(is_part).count();
                (Token::Word(&rest[..length]), length)
            }
            _ if first.is_ascii() => (Token::Sign(first), 1),
            _ => (Token::Broken, rest.len()),
        };
        self.at += length;
        Some(token)
    }
}

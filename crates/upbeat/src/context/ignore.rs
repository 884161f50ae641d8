//! What a `.dockerignore` leaves out, as Docker reads it.
//!
//! Its rules are not those of a `.gitignore`: a pattern begins at the context's root, `*` stops at a slash, the last
//! rule that matches counts, and one that matches a directory matches all below it. A rule is turned into a regular
//! expression, which takes linear time whatever a pattern looks like.

use regex::Regex;

/// The rules of one file, in order.
#[derive(Debug, Default)]
pub(super) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// What it matches is not left out.
    keeps: bool,
    /// Its parts between slashes.
    parts: Vec<String>,
    regex: Regex,
}

/// A line that is no rule: its number, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRule {
    pub(super) line: usize,
    pub(super) why: String,
}

impl Ignore {
    /// Reads the file. Errors: the first line that is none.
    pub(super) fn parse(text: &str) -> Result<Self, NoRule> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let refuse = |why: &str| NoRule { line: number + 1, why: why.to_owned() };
            let line = line.trim();
            let (keeps, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, line),
            };
            if pattern.is_empty() {
                if keeps {
                    return Err(refuse("`!` alone takes nothing back"));
                }
                continue;
            }
            let pattern = cleaned(pattern);
            // The context itself is never left out.
            if pattern.is_empty() {
                continue;
            }
            let expression = expression(&pattern).map_err(refuse)?;
            let regex = Regex::new(&expression).map_err(|_| refuse("it is no pattern, or too long a one"))?;
            rules.push(Rule { keeps, parts: pattern.split('/').map(str::to_owned).collect(), regex });
        }
        Ok(Self { rules })
    }

    /// Whether this path, relative to the context and with `/` between its parts, is left out.
    pub(super) fn leaves_out(&self, path: &str) -> bool {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        let all: Vec<&str> = parents.chain([path]).collect();
        let matches = |rule: &&Rule| all.iter().any(|path| rule.regex.is_match(path));
        self.rules.iter().rev().find(matches).is_some_and(|rule| !rule.keeps)
    }

    /// Whether something below a directory that is left out may be taken back. Where in doubt, yes.
    pub(super) fn may_keep_below(&self, directory: &str) -> bool {
        self.rules.iter().filter(|rule| rule.keeps).any(|rule| {
            let mut parts = rule.parts.iter();
            for name in directory.split('/') {
                match parts.next() {
                    None => return false,
                    Some(part) if part.contains("**") => return true,
                    Some(part) if part.contains(['*', '?', '[', '\\']) || part == name => {}
                    Some(_) => return false,
                }
            }
            parts.next().is_some()
        })
    }
}

/// Without what leads nowhere: `/a/./b//../c/` is `a/c`.
fn cleaned(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if pattern.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn expression(pattern: &str) -> Result<String, &'static str> {
    let mut expression = String::from("(?s)^");
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                // `**/` may be no directory at all.
                rest.next_if_eq(&'/');
                expression.push_str(if rest.peek().is_none() { ".*" } else { "(.*/)?" });
            }
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '[' => class(&mut rest, &mut expression)?,
            '\\' => literal(
                rest.next().ok_or("it ends in a `\\`, which stands before another letter")?,
                &mut expression,
            ),
            c => literal(c, &mut expression),
        }
    }
    expression.push('$');
    Ok(expression)
}

fn literal(c: char, expression: &mut String) {
    expression.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}

/// `[a-z]`, `[^0-9]`; its bracket was read.
fn class(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    expression: &mut String,
) -> Result<(), &'static str> {
    const OPEN: &str = "it has a `[` without its `]`";
    expression.push('[');
    if rest.next_if_eq(&'^').is_some() {
        expression.push('^');
    }
    let mut is_empty = true;
    loop {
        match rest.next().ok_or(OPEN)? {
            ']' if !is_empty => break,
            ']' => return Err("it has a `[]` with nothing in it"),
            '\\' => literal(rest.next().ok_or(OPEN)?, expression),
            '-' if is_empty => return Err("it has a range without its first letter"),
            // Between two letters.
            '-' => expression.push('-'),
            c => literal(c, expression),
        }
        is_empty = false;
    }
    expression.push(']');
    Ok(())
}

#[cfg(test)]
mod tests;

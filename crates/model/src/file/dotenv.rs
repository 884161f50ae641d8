//! `.env` and `env_file`: `NAME=value` lines with the quoting rules of the Compose Specification.
//!
//! * `#` starts a comment at the start of a line, and behind a space in a value without quotes.
//! * `export ` before a name is passed over; `NAME: value` is the same as `NAME=value`.
//! * In single quotes everything is as it is; in double quotes `\n`, `\r`, `\t`, `\\`, `\"` and `\$`
//!   mean what they do in a shell. Both may go on over lines.
//! * `${…}` is filled in without quotes and in double ones, from the session first and then from the
//!   lines before.
//! * A name alone is taken from the session.
//!
//! No crate was found that keeps these rules and knows the place of what it refuses.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use super::interpolate::{self, Lone, Lookup, Unfillable, Why};
use super::report::{Problem, shown};
use super::rules;

/// What is wrong in a file of variables, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) place: Range<usize>,
    pub(super) what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A line that is none.
    NoName,
    /// A name with something in it that no name has.
    BadName,
    /// Neither `=` nor `:` behind the name.
    NoSign,
    /// A quote that is never closed.
    Unclosed,
    /// Something behind the quote that closes the value.
    Behind,
    /// `${…}` that cannot be filled in.
    Unfillable(Why),
}

impl Mistake {
    /// In words.
    pub(super) fn problem(&self) -> Problem {
        let (message, hint) = match &self.what {
            What::NoName => ("This line names no variable", "write `NAME=value`, or `#` before a comment"),
            What::BadName => ("This is not the name of a variable", "a name has letters, digits and `_`"),
            What::NoSign => ("There is no `=` behind the name", "write `NAME=value`"),
            What::Unclosed => ("This quote is not closed", "close it, or put the value into the other kind"),
            What::Behind => ("Something stands behind the quote", "put all of the value into the quotes"),
            What::Unfillable(Why::Required { name, message, .. }) => {
                let message = format!("The variable `{}` is needed here: {}", shown(name), shown(message));
                return Problem::new(message).hint("set it in your session, or in a line before".to_owned());
            }
            What::Unfillable(Why::TooLong) => ("This value is too long, variables filled in", "write less"),
            What::Unfillable(_) => {
                ("This `${` cannot be filled in", "close it with `}`; single quotes keep a text as it is")
            }
        };
        Problem::new(message).hint(hint.to_owned())
    }
}

/// How values are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// With quotes, comments and variables.
    #[default]
    Compose,
    /// Everything behind the first `=` is the value.
    Raw,
}

/// Reads all of it; the later of two of the same name counts. `session` comes before the lines.
pub(super) fn read(
    text: &str,
    format: Format,
    session: Lookup<'_>,
    longest: usize,
) -> Result<BTreeMap<String, Option<String>>, Mistake> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Lines { text, at: 0, session, longest, found: BTreeMap::new() };
    while lines.at < text.len() {
        match format {
            Format::Compose => lines.line()?,
            Format::Raw => lines.raw_line()?,
        }
    }
    Ok(lines.found)
}

struct Lines<'t, 'l> {
    text: &'t str,
    at: usize,
    session: Lookup<'l>,
    longest: usize,
    found: BTreeMap<String, Option<String>>,
}

impl<'t> Lines<'t, '_> {
    fn rest_of_line(&self) -> &'t str {
        let rest = &self.text[self.at..];
        &rest[..rest.find('\n').unwrap_or(rest.len())]
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest_of_line();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r']).len();
    }

    fn next_line(&mut self) {
        self.at = (self.at + self.rest_of_line().len() + 1).min(self.text.len());
    }

    fn mistake(&self, length: usize, what: What) -> Mistake {
        Mistake { place: self.at..self.at + length, what }
    }

    fn line(&mut self) -> Result<(), Mistake> {
        self.skip_spaces();
        let rest = self.rest_of_line();
        if rest.is_empty() || rest.starts_with('#') {
            self.next_line();
            return Ok(());
        }
        if let Some(after) = rest.strip_prefix("export").filter(|after| after.starts_with([' ', '\t'])) {
            self.at += rest.len() - after.len();
            self.skip_spaces();
        }
        let name = self.name()?;
        self.skip_spaces();
        match self.rest_of_line().chars().next() {
            Some('=' | ':') => {
                self.at += 1;
                self.skip_spaces();
                let value = self.value()?;
                self.longest = self.longest.saturating_sub(value.len());
                self.found.insert(name, Some(value));
                self.next_line();
                Ok(())
            }
            None | Some('#') => {
                self.found.insert(name, None);
                self.next_line();
                Ok(())
            }
            Some(_) => Err(self.mistake(self.rest_of_line().trim_end().len(), What::NoSign)),
        }
    }

    fn name(&mut self) -> Result<String, Mistake> {
        let rest = self.rest_of_line();
        let end = rest.find(|c: char| "=:#".contains(c) || c.is_whitespace()).unwrap_or(rest.len());
        let name = &rest[..end];
        if name.is_empty() {
            return Err(self.mistake(rest.trim_end().len().max(1), What::NoName));
        }
        // What Compose takes; wider than what can be named by `${…}`.
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_.-[]".contains(c);
        if !name.chars().all(is_part) {
            return Err(self.mistake(name.len(), What::BadName));
        }
        self.at += end;
        Ok(name.to_owned())
    }

    fn value(&mut self) -> Result<String, Mistake> {
        match self.rest_of_line().chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote),
            _ => self.unquoted(),
        }
    }

    fn unquoted(&mut self) -> Result<String, Mistake> {
        let (rest, start) = (self.rest_of_line(), self.at);
        // `A=#fff` is a colour; what is behind a space is a comment.
        let is_behind_space = |at: usize| self.text[..start + at].ends_with([' ', '\t']);
        let comment = rest.match_indices('#').map(|(at, _)| at).find(|at| is_behind_space(*at));
        let value = rest[..comment.unwrap_or(rest.len())].trim_end();
        self.fill(value, start)
    }

    fn quoted(&mut self, quote: char) -> Result<String, Mistake> {
        let (start, body) = (self.at, &self.text[self.at + 1..]);
        let mut escaped = false;
        let end = body.char_indices().find(|(_, c)| {
            let closes = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            closes
        });
        let Some((end, _)) = end else {
            return Err(self.mistake(self.rest_of_line().trim_end().len(), What::Unclosed));
        };
        let inside = &body[..end];
        self.at = start + 1 + end + 1;
        let behind = self.rest_of_line().trim();
        if !behind.is_empty() && !behind.starts_with('#') {
            self.skip_spaces();
            return Err(self.mistake(behind.len(), What::Behind));
        }
        match quote {
            '\'' => Ok(inside.replace("\\'", "'")),
            _ => {
                // The escapes first: `\$` must not be filled in.
                let unescaped = unescape(inside);
                let place = start + 1;
                self.fill_from(&unescaped, place..place + inside.len())
            }
        }
    }

    fn fill(&self, value: &str, start: usize) -> Result<String, Mistake> {
        match interpolate::fill(value, &|name| self.lookup(name), self.longest, Lone::Kept) {
            Ok(filled) => Ok(filled.map_or_else(|| value.to_owned(), |filled| filled.text)),
            Err(Unfillable { place, why }) => {
                let place = start + place.start..start + place.end;
                Err(Mistake { place, what: What::Unfillable(why) })
            }
        }
    }

    fn fill_from(&self, value: &str, whole: Range<usize>) -> Result<String, Mistake> {
        self.fill(value, 0).map_err(|mistake| Mistake { place: whole, ..mistake })
    }

    fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        (self.session)(name).or_else(|| Some(Cow::from(self.found.get(name)?.as_deref()?)))
    }

    fn raw_line(&mut self) -> Result<(), Mistake> {
        let line = self.rest_of_line().trim_end_matches('\r');
        let trimmed = line.trim_start();
        if !trimmed.is_empty() && !trimmed.starts_with('#') {
            let (name, value) = match line.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.to_owned())),
                None => (line.trim(), None),
            };
            if name.is_empty() {
                return Err(self.mistake(line.len().max(1), What::NoName));
            }
            if name.contains(|c: char| c.is_whitespace() || rules::is_hidden(c)) {
                return Err(self.mistake(name.len(), What::BadName));
            }
            self.found.insert(name.to_owned(), value);
        }
        self.next_line();
        Ok(())
    }
}

/// `\n` and its kind; `\$` becomes `$$`, which stands for a `$` when variables are filled in.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('$') => out.push_str("$$"),
            Some(c @ ('\\' | '"')) => out.push(c),
            // Not an escape: both characters.
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str) -> Option<Cow<'static, str>> {
        (name == "HOME").then(|| "/home/ann".into())
    }

    fn one(line: &str) -> String {
        match read(line, Format::Compose, &session, 1000) {
            Ok(found) => match found.get("A") {
                Some(Some(value)) => value.clone(),
                Some(None) => "(from the session)".to_owned(),
                None => "(nothing)".to_owned(),
            },
            Err(Mistake { place, what }) => format!("`{}`: {what:?}", &line[place]),
        }
    }

    #[test]
    fn values_are_read_by_their_quotes() {
        for (line, value) in [
            ("A=b", "b"),
            ("A = b ", "b"),
            ("export A=b", "b"),
            ("A: b", "b"),
            ("A=", ""),
            ("A", "(from the session)"),
            ("# A=b", "(nothing)"),
            ("A=b#c", "b#c"),
            ("A=b # c", "b"),
            ("A=#c", "#c"),
            ("A= #c", ""),
            ("A='b # $HOME \\n'", "b # $HOME \\n"),
            ("A='it\\'s'", "it's"),
            ("A=\"b # c\" # d", "b # c"),
            ("A=\"a\\nb\\t\\\"c\\\" \\\\ \\x\"", "a\nb\t\"c\" \\ \\x"),
            ("A=\"one\ntwo\"", "one\ntwo"),
            ("A='one\ntwo'", "one\ntwo"),
            ("A=a=b", "a=b"),
            ("A=a\r\n", "a"),
            ("\u{feff}A=b", "b"),
            ("A=it's", "it's"),
        ] {
            assert_eq!(one(line), value, "{line:?}");
        }
    }

    #[test]
    fn variables_are_filled_in_but_for_single_quotes() {
        for (line, value) in [
            ("A=$HOME/x", "/home/ann/x"),
            ("A=\"${HOME}/x\"", "/home/ann/x"),
            ("A='$HOME'", "$HOME"),
            ("A=\"\\$HOME\"", "$HOME"),
            ("B=c\nA=${B}${C-d}", "cd"),
            ("HOME=/root\nA=$HOME", "/home/ann"),
            ("A=5$", "5$"),
            ("A=a\nA=b", "b"),
        ] {
            assert_eq!(one(line), value, "{line:?}");
        }
    }

    #[test]
    fn what_is_no_line_is_refused_at_its_place() {
        for (line, refused) in [
            ("=b", "`=b`: NoName"),
            ("A B", "`B`: NoSign"),
            ("A\u{202e}=b", "`A\u{202e}`: BadName"),
            ("A='b", "`'b`: Unclosed"),
            ("A=\"b\\\"", "`\"b\\\"`: Unclosed"),
            ("A='b' c", "`c`: Behind"),
            ("A=${B", "`${B`: Unfillable(Unclosed)"),
        ] {
            assert_eq!(one(line), refused, "{line:?}");
        }
    }

    #[test]
    fn a_raw_file_has_no_quotes_and_no_variables() {
        let text = "# c\nA='b' # $HOME \r\n\n B\n";
        let found = read(text, Format::Raw, &session, 1000).unwrap();
        assert_eq!(found["A"].as_deref(), Some("'b' # $HOME "));
        assert_eq!(found["B"], None);
        assert!(read("A\u{202e}=c", Format::Raw, &session, 1000).is_err());
        assert!(read("A B=c", Format::Raw, &session, 1000).is_err());
    }
}

//! `${…}`: what the Compose Specification calls interpolation. Pure, and never recursive in what it
//! fills in: the value of a variable is taken as it is.

use std::borrow::Cow;
use std::ops::Range;

use super::DEPTH_MAX;

/// What a text became.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) text: String,
    /// Variables that are not set and for which nothing else was given: they stand for nothing.
    pub(super) unset: Vec<Range<usize>>,
}

/// Why a text cannot be filled in, and which bytes of it are to blame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfillable {
    pub(super) place: Range<usize>,
    pub(super) why: Why,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A `$` with nothing behind it that could be a variable.
    LoneDollar,
    /// `${` and no name.
    NoName,
    /// `${A` and no `}`.
    Unclosed,
    /// `${A!b}`.
    UnknownOperator(char),
    /// `${A?message}`, and there is no `A`.
    Required {
        /// Of the variable.
        name: String,
        /// What its author says.
        message: String,
        /// It may not be empty either.
        or_empty: bool,
    },
    /// `${A-${B-${C-…`.
    TooDeep,
    /// It would be too long.
    TooLong,
}

/// What becomes of a `$` that names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lone {
    /// The text is refused.
    Refused,
    /// It is a `$`, as a shell would have it.
    Kept,
}

/// Knows the value of a variable.
pub(super) type Lookup<'l> = &'l dyn Fn(&str) -> Option<Cow<'l, str>>;

/// Fills in every `$NAME` and `${NAME…}`; `$$` stands for `$`. No more than `longest` bytes.
///
/// Source: the Compose Specification, "Interpolation".
pub(super) fn fill(
    text: &str,
    lookup: Lookup<'_>,
    longest: usize,
    lone: Lone,
) -> Result<Option<Filled>, Unfillable> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut reader = Reader { text, at: 0, lookup, longest, lone, unset: Vec::new() };
    let filled = reader.text(0, true)?;
    Ok(Some(Filled { text: filled.into_owned(), unset: reader.unset }))
}

struct Reader<'t, 'l> {
    text: &'t str,
    at: usize,
    lookup: Lookup<'l>,
    longest: usize,
    lone: Lone,
    unset: Vec<Range<usize>>,
}

/// What stands behind a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Default,
    Required,
    Replacement,
}

impl<'t> Reader<'t, '_> {
    /// Up to the end, or inside of braces up to the one that closes them. What is not `wanted` is
    /// only passed over: in `${A:-${B:?no B}}` nobody misses a `B` where there is an `A`.
    fn text(&mut self, depth: usize, wanted: bool) -> Result<Cow<'t, str>, Unfillable> {
        let mut out = String::new();
        while let Some(length) = self.text[self.at..].find(['$', '}']) {
            let here = self.at + length;
            out.push_str(&self.text[self.at..here]);
            self.at = here;
            if self.text[here..].starts_with('}') {
                if depth > 0 {
                    return Ok(Cow::Owned(out));
                }
                out.push('}');
                self.at += 1;
                continue;
            }
            self.dollar(&mut out, depth, wanted)?;
            if out.len() > self.longest {
                return Err(Unfillable { place: here..self.at, why: Why::TooLong });
            }
        }
        out.push_str(&self.text[self.at..]);
        self.at = self.text.len();
        Ok(Cow::Owned(out))
    }

    fn dollar(&mut self, out: &mut String, depth: usize, wanted: bool) -> Result<(), Unfillable> {
        let start = self.at;
        let rest = &self.text[start + 1..];
        if rest.starts_with('$') {
            out.push('$');
            self.at += 2;
            return Ok(());
        }
        if rest.starts_with('{') {
            return self.braced(out, depth, wanted);
        }
        let name = name_of(rest);
        if name.is_empty() && self.lone == Lone::Kept {
            out.push('$');
            self.at += 1;
            return Ok(());
        }
        if name.is_empty() {
            return Err(Unfillable { place: start..start + 1, why: Why::LoneDollar });
        }
        self.at = start + 1 + name.len();
        match (self.lookup)(name) {
            Some(value) => out.push_str(&value),
            None if wanted => self.unset.push(start..self.at),
            None => {}
        }
        Ok(())
    }

    fn braced(&mut self, out: &mut String, depth: usize, wanted: bool) -> Result<(), Unfillable> {
        let start = self.at;
        let name_at = start + "${".len();
        let name = name_of(&self.text[name_at..]);
        let refuse = |end: usize, why| Err(Unfillable { place: start..end, why });
        if depth >= DEPTH_MAX {
            return refuse(name_at, Why::TooDeep);
        }
        if name.is_empty() {
            return refuse(name_at, Why::NoName);
        }
        let mut rest = self.text[name_at + name.len()..].chars();
        let (colon, sign) = match rest.next() {
            Some(':') => (true, rest.next()),
            sign => (false, sign),
        };
        let operator = match sign {
            None => return refuse(self.text.len(), Why::Unclosed),
            Some('}') if !colon => None,
            Some('-') => Some(Operator::Default),
            Some('?') => Some(Operator::Required),
            Some('+') => Some(Operator::Replacement),
            Some(other) => return refuse(name_at + name.len(), Why::UnknownOperator(other)),
        };
        let value = (self.lookup)(name);
        let is_there = value.as_ref().is_some_and(|value| !colon || !value.is_empty());
        let Some(operator) = operator else {
            self.at = name_at + name.len() + 1;
            match value {
                Some(value) => out.push_str(&value),
                None if wanted => self.unset.push(start..self.at),
                None => {}
            }
            return Ok(());
        };
        self.at = name_at + name.len() + usize::from(colon) + 1;
        let is_used = wanted && is_there == (operator == Operator::Replacement);
        let word = self.text(depth + 1, is_used)?;
        if self.at >= self.text.len() {
            return refuse(self.text.len(), Why::Unclosed);
        }
        self.at += 1;
        match (operator, value) {
            (Operator::Replacement, _) if !is_there => {}
            (Operator::Replacement, _) => out.push_str(&word),
            (_, Some(value)) if is_there => out.push_str(&value),
            (Operator::Default, _) => out.push_str(&word),
            (Operator::Required, _) if !wanted => {}
            (Operator::Required, _) => {
                let (name, message) = (name.to_owned(), word.into_owned());
                return refuse(self.at, Why::Required { name, message, or_empty: colon });
            }
        }
        Ok(())
    }
}

/// The longest name of a variable at the front of a text.
pub(super) fn name_of(text: &str) -> &str {
    let end = text.bytes().position(|b| !b.is_ascii_alphanumeric() && b != b'_').unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..end] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<Cow<'static, str>> {
        match name {
            "SET" => Some("value".into()),
            "EMPTY" => Some("".into()),
            "DOLLAR" => Some("$SET ${SET} $$".into()),
            _ => None,
        }
    }

    fn filled(text: &str) -> String {
        match fill(text, &lookup, 1000, Lone::Refused) {
            Ok(None) => text.to_owned(),
            Ok(Some(filled)) => {
                let unset: Vec<&str> = filled.unset.iter().map(|r| &text[r.clone()]).collect();
                match unset[..] {
                    [] => filled.text,
                    _ => format!("{} (unset: {})", filled.text, unset.join(" ")),
                }
            }
            Err(Unfillable { place, why }) => format!("`{}`: {why:?}", &text[place]),
        }
    }

    /// Case by case, as the tables of the specification go: with a colon, empty is as unset.
    #[test]
    fn every_form_with_a_set_an_empty_and_an_unset_variable() {
        for (form, set, empty, unset) in [
            ("$V", "value", "", " (unset: $V)"),
            ("${V}", "value", "", " (unset: ${V})"),
            ("${V:-d}", "value", "d", "d"),
            ("${V-d}", "value", "", "d"),
            ("${V:+r}", "r", "", ""),
            ("${V+r}", "r", "r", ""),
            ("${V:-}", "value", "", ""),
            ("${V:-a b:c-d}", "value", "a b:c-d", "a b:c-d"),
        ] {
            for (name, expected) in [("SET", set), ("EMPTY", empty), ("UNSET", unset)] {
                let text = form.replace('V', name);
                assert_eq!(filled(&text), expected.replace('V', name), "{text}");
            }
        }
    }

    #[test]
    fn what_must_be_there_is_missed() {
        insta::assert_snapshot!(filled("${UNSET?}"), @r#"`${UNSET?}`: Required { name: "UNSET", message: "", or_empty: false }"#);
        insta::assert_snapshot!(filled("x${EMPTY:?give $SET}y"), @r#"`${EMPTY:?give $SET}`: Required { name: "EMPTY", message: "give value", or_empty: true }"#);
        assert_eq!(filled("${EMPTY?no}${SET:?no}"), "value");
    }

    #[test]
    fn forms_stand_in_each_other() {
        assert_eq!(filled("${UNSET:-${EMPTY:-${SET}}}"), "value");
        assert_eq!(filled("${UNSET:-a${SET}b}c"), "avaluebc");
        assert_eq!(filled("${SET:+${UNSET-x}}"), "x");
        assert_eq!(filled("${SET:-${UNSET:?never asked}}"), "value");
        assert_eq!(filled("${SET:-$UNSET}"), "value");
    }

    #[test]
    fn two_dollars_are_one_and_a_value_is_not_filled_in() {
        assert_eq!(filled("$$SET $${SET} $$$SET"), "$SET ${SET} $value");
        assert_eq!(filled("$DOLLAR"), "$SET ${SET} $$");
        assert_eq!(filled("}a}"), "}a}");
        assert_eq!(filled("${SET}}"), "value}");
    }

    #[test]
    fn what_is_no_form_is_refused_at_its_place() {
        for (text, refused) in [
            ("a $ b", "`$`: LoneDollar"),
            ("cost: $5", "`$`: LoneDollar"),
            ("$ä", "`$`: LoneDollar"),
            ("x ${} y", "`${`: NoName"),
            ("${1}", "`${`: NoName"),
            ("x ${SET", "`${SET`: Unclosed"),
            ("${UNSET:-x", "`${UNSET:-x`: Unclosed"),
            ("${SET", "`${SET`: Unclosed"),
            ("${SET!x}", "`${SET`: UnknownOperator('!')"),
            ("${SET:}", "`${SET`: UnknownOperator('}')"),
        ] {
            assert_eq!(filled(text), refused, "{text}");
        }
        let deep = "${UNSET-".repeat(DEPTH_MAX + 1);
        assert!(filled(&deep).ends_with("TooDeep"));
    }

    #[test]
    fn what_grows_too_long_is_refused() {
        let text = "$SET".repeat(300);
        assert!(filled(&text).ends_with("TooLong"));
    }
}

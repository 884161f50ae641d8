//! The shapes a value can have: one description from which the checker (`canon`), the merger
//! (`merge`), the JSON Schema (`schema`) and the page of verdicts (`verdicts`) are all made.

use super::report::shown;
use super::rules::{self, Broken};
use super::scalar;
use super::words;

/// What a value may be.
pub(super) enum Shape {
    /// One word or text.
    Leaf(&'static Leaf),
    /// A mapping with known keys.
    Map(&'static Keys),
    /// A mapping whose names are free.
    Named(&'static Named),
    /// A list.
    List(&'static Items),
    /// A list, or a single item of one.
    Items(&'static Items),
    /// A mapping of text to text, or a list of `name=value`; always a mapping in the end.
    Pairs(&'static Pairs),
    /// A program and its arguments: a list, or text that is split into words.
    Argv,
    /// The same; no word at all: nothing, whatever an image says. No value: what an image says.
    Command,
    /// What a health check of Compose asks.
    Test,
    /// A mapping for which a text may stand.
    Short(&'static Short),
    /// A mapping of names, or a list of names alone.
    Names(&'static Named),
    /// Hosts and their addresses: a mapping, or a list of `host=address` or `host:address`.
    Hosts(&'static Named),
    /// The same, or nothing at all.
    Optional(&'static Shape),
    /// True or false; in an old form a mapping with a name.
    External,
    /// Whatever a driver or an extension makes of it.
    Free,
    /// A mapping that is looked at later.
    Later,
}

/// How a leaf is written where it is written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Without quotes: a number, or true or false.
    Bare,
    /// A path, made absolute by the directory of the file it stands in.
    Path,
    /// The same, that may differ from copy to copy: then it is made absolute when it is read.
    Place,
    /// An absolute path of another machine, without what changes nothing: `/data/` is `/data`.
    Target,
    /// An address, without brackets.
    Address,
}

/// One word or text.
pub(super) struct Leaf {
    /// `a whole number`: what is wanted where something else stands.
    pub(super) wanted: &'static str,
    pub(super) kind: Kind,
    pub(super) check: Check,
}

/// How a text is judged.
pub(super) enum Check {
    /// Anything.
    Any,
    /// True or false.
    Flag,
    /// One of these words.
    Words(&'static [&'static str]),
    /// One of these words, or a name behind a sign.
    Signed(&'static Signed),
    /// A whole number between these.
    Whole(i64, i64),
    /// By a rule, in its own words.
    Rule(fn(&str) -> Result<(), Broken>),
    /// A regular expression, of which there may not be too many.
    Pattern,
}

/// Words, and a sign with a free name behind it: `probe:NAME`.
pub(super) struct Signed {
    pub(super) words: &'static [&'static str],
    /// So many of them, from the first on, are words of Compose.
    pub(super) of_compose: usize,
    /// It stands at the start, and has no character that means something in a pattern.
    pub(super) sign: &'static str,
    pub(super) rule: fn(&str) -> Result<(), Broken>,
}

impl Signed {
    /// Whether Compose has a word that is one of these.
    pub(super) fn is_of_compose(&self, text: &str) -> bool {
        self.words.iter().take(self.of_compose).any(|word| *word == text)
    }
}

/// A mapping whose names are free.
pub(super) struct Named {
    /// `a mapping of networks`.
    pub(super) wanted: &'static str,
    pub(super) each: Shape,
    pub(super) name: fn(&str) -> Result<(), Broken>,
    /// A name with this sign in it needs nothing behind it.
    pub(super) alone: Option<char>,
}

/// A list.
pub(super) struct Items {
    /// `a list of ports`.
    pub(super) wanted: &'static str,
    pub(super) each: Shape,
    /// What makes two items the same one; the later one counts.
    pub(super) same: Same,
}

/// What makes two items of a list the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Same {
    /// Nothing: each stands for itself.
    Never,
    /// All of it.
    Whole,
    /// These fields. The first that is there, where several names are given for one field.
    Fields(&'static [&'static [&'static str]]),
}

/// Names and values.
pub(super) struct Pairs {
    pub(super) rule: fn(&str, &str) -> Result<(), Broken>,
    /// What a name without a value means.
    pub(super) alone: Alone,
}

/// What a name without a value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alone {
    /// An empty text.
    Empty,
    /// Something that is found out later: a variable of the session.
    Asked,
}

/// A text that stands for one mapping or more.
pub(super) struct Short {
    /// `text or a mapping`.
    pub(super) wanted: &'static str,
    pub(super) read: fn(&str) -> Result<Vec<Fields>, Broken>,
    pub(super) long: &'static Keys,
}

/// Fields by their dotted names, and whether each is bare.
pub(super) type Fields = Vec<(&'static str, String)>;

/// The keys of one kind of mapping.
pub(super) struct Keys {
    /// `a service`.
    pub(super) owner: &'static str,
    pub(super) keys: &'static [Key],
}

/// A key: what may stand behind it, and what becomes of it.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) verdict: Verdict,
    pub(super) merge: Merge,
    /// No key of Compose.
    pub(super) ours: bool,
    /// What is meant where nothing is said.
    pub(super) default: Default,
}

/// What is meant by a key that is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Default {
    /// Whatever its readers make of it.
    None,
    /// Nothing: it has to be given.
    Needed,
    /// This; so it is written where it is missing.
    Text(&'static str),
    /// This where the mapping is but a name in a list. In a mapping nothing is said of it, and what a
    /// file before says of it stays.
    OfName(&'static str),
}

/// What two files make of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// Mappings become one, lists follow each other, of anything else the later one counts.
    Deep,
    /// The later one counts.
    Replace,
    /// As `Deep`, unless the two name different drivers: then the later one counts.
    SameDriver,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is obeyed.
    Honoured {
        /// By a process.
        processes: Support,
        /// By a container.
        containers: Support,
    },
    /// As the key it stands under.
    AsAbove,
    /// It is harmless and has no effect; why.
    Inert(&'static str),
    /// Never; what to do instead.
    Refused(&'static str),
}

/// Whether one kind of service obeys a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Support {
    Yes,
    /// From this version of the engine's API on.
    Api(&'static str),
    /// It makes no sense there; what to do instead.
    No(&'static str),
}

impl Keys {
    pub(super) fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names people should know.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys.iter().map(|key| key.name)
    }

    /// What a key that is unknown seems to stand for.
    pub(super) fn meant(&self, key: &str) -> Option<&'static str> {
        words::nearest(key, self.names())
    }
}

impl Key {
    /// One of ours, as its name is only known to us.
    pub(super) const fn ours(mut self) -> Self {
        self.ours = true;
        self
    }

    /// One that has to be given.
    pub(super) const fn needed(self) -> Self {
        self.default(Default::Needed)
    }

    pub(super) const fn default(mut self, default: Default) -> Self {
        self.default = default;
        self
    }

    pub(super) const fn merged(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }
}

impl Leaf {
    pub(super) const fn new(wanted: &'static str, kind: Kind, check: Check) -> Self {
        Self { wanted, kind, check }
    }

    /// One of some words.
    pub(super) const fn words(wanted: &'static str, words: &'static [&'static str]) -> Self {
        Self::new(wanted, Kind::Text, Check::Words(words))
    }

    /// A whole number between two.
    pub(super) const fn whole(least: i64, most: i64) -> Self {
        Self::new("a whole number", Kind::Bare, Check::Whole(least, most))
    }

    /// A text under a rule.
    pub(super) const fn rule(wanted: &'static str, rule: fn(&str) -> Result<(), Broken>) -> Self {
        Self::new(wanted, Kind::Text, Check::Rule(rule))
    }

    /// The same, of numbers.
    pub(super) const fn number(wanted: &'static str, rule: fn(&str) -> Result<(), Broken>) -> Self {
        Self::new(wanted, Kind::Bare, Check::Rule(rule))
    }

    /// Judges a text that is there.
    pub(super) fn judge(&self, text: &str) -> Result<(), Broken> {
        match &self.check {
            Check::Any | Check::Pattern => Ok(()),
            Check::Rule(rule) => rule(text),
            Check::Flag => scalar::flag(text).map(drop),
            Check::Words(words) => one_of(text, self.wanted, words),
            Check::Signed(signed) => (signed.rule)(text),
            Check::Whole(least, most) => whole(text, *least, *most),
        }
    }
}

pub(super) fn one_of(text: &str, wanted: &str, known: &[&str]) -> Result<(), Broken> {
    if known.contains(&text) {
        return Ok(());
    }
    let hint = words::did_you_mean(text, known.iter().copied())
        .unwrap_or_else(|| format!("write one of {}", words::quoted(known)));
    Err(Broken::new(format!("is not {wanted}: `{}`", shown(text))).hint(hint))
}

fn whole(text: &str, least: i64, most: i64) -> Result<(), Broken> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) if least < 0 => (-1, digits),
        _ => (1, text),
    };
    let number = sign * i128::from(scalar::whole(digits)?);
    if (i128::from(least)..=i128::from(most)).contains(&number) {
        return Ok(());
    }
    let wanted = match (least, most) {
        (_, i64::MAX) if number > i128::from(most) => return Err(Broken::new("is too large")),
        (i64::MIN, _) if number < i128::from(least) => return Err(Broken::new("is too small")),
        (least, i64::MAX) => format!("at least {least}"),
        (least, most) => format!("from {least} to {most}"),
    };
    Err(Broken::new(format!("must be {wanted}, not {}", shown(text))))
}

/// The leaves that are used all over the grammar.
pub(super) mod leaf {
    use super::*;

    pub(in super::super) static TEXT: Leaf = Leaf::new("text", Kind::Text, Check::Any);
    pub(in super::super) static PATH: Leaf = Leaf::new("a path", Kind::Path, Check::Rule(rules::path));
    pub(in super::super) static PLACE: Leaf = Leaf::new("a path", Kind::Place, Check::Rule(rules::path));
    pub(in super::super) static FLAG: Leaf = Leaf::new("`true` or `false`", Kind::Bare, Check::Flag);
    pub(in super::super) static WHOLE: Leaf = Leaf::whole(0, i64::MAX);
    pub(in super::super) static NUMBER: Leaf =
        Leaf::new("a number", Kind::Bare, Check::Rule(|text| scalar::number(text).map(drop)));
    pub(in super::super) static LENGTH: Leaf =
        Leaf::rule("a length of time such as `30s`", |text| scalar::length(text).map(drop));
    pub(in super::super) static RHYTHM: Leaf =
        Leaf::rule("a length of time such as `30s`", |text| rules::positive_length(scalar::length(text)?));
    pub(in super::super) static BYTES: Leaf =
        Leaf::rule("a size such as `64m`", |text| scalar::bytes(text).map(drop));
    pub(in super::super) static PATTERN: Leaf = Leaf::new("a regular expression", Kind::Text, Check::Pattern);
    pub(in super::super) static PORT: Leaf = Leaf::whole(1, 65535);
    pub(in super::super) static MODE: Leaf =
        Leaf::rule("a file mode such as `0440`", |text| scalar::mode(text).map(drop));
    pub(in super::super) static SIGNAL: Leaf = Leaf::rule("a signal such as `SIGINT`", rules::signal_name);
    pub(in super::super) static USER: Leaf = Leaf::rule("text", rules::user);
}

/// No rule for names but that they are there, to be seen.
pub(super) fn any_name(name: &str) -> Result<(), Broken> {
    if name.is_empty() { Err(Broken::new("has an empty name")) } else { rules::seen_name(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_reach_from_end_to_end() {
        let told = |text: &str, least, most| match whole(text, least, most) {
            Ok(()) => "good".to_owned(),
            Err(broken) => broken.what,
        };
        for (text, least, most, expected) in [
            ("-9223372036854775808", i64::MIN, i64::MAX, "good"),
            ("9223372036854775807", i64::MIN, i64::MAX, "good"),
            ("-9223372036854775809", i64::MIN, i64::MAX, "is too small"),
            ("9223372036854775808", i64::MIN, i64::MAX, "is too large"),
            ("9223372036854775808", 0, i64::MAX, "is too large"),
            ("-2", -1, i64::MAX, "must be at least -1, not -2"),
            ("101", 0, 100, "must be from 0 to 100, not 101"),
            ("-0", 0, 100, "must be a whole number, not `-0`"),
        ] {
            assert_eq!(told(text, least, most), expected, "{text}");
        }
    }
}

//! The page that says of every key what becomes of it, made of the same table that checks files.

use std::collections::HashSet;
use std::fmt::Write;

use super::grammar;
use super::shape::{Key, Keys, Shape, Support, Verdict};

/// `docs/compose.md`.
pub fn compose_page() -> String {
    let mut page = String::from(HEAD);
    let mut seen = HashSet::new();
    let mut sections: Vec<&'static Keys> = vec![&grammar::FILE];
    while !sections.is_empty() {
        let keys = sections.remove(0);
        if !seen.insert(keys.owner) {
            continue;
        }
        section(&mut page, keys);
        let is_read = |key: &&Key| !matches!(key.verdict, Verdict::Refused(_) | Verdict::Inert(_));
        let read = keys.keys.iter().filter(is_read);
        let mut inner: Vec<&'static Keys> = read.filter_map(|key| below(&key.shape)).collect();
        inner.append(&mut sections);
        sections = inner;
    }
    page
}

const HEAD: &str = "\
# Every key of a project file

Upbeat reads the [Compose Specification](https://compose-spec.io) and a few keys of its own. Of each
key it says what becomes of it: it is honoured, or it has no effect and Upbeat says so once, or it is
refused, with what to do instead. None is passed over in silence. `x-…` keys are yours.

A service with an `image` or a `build` is a container of a Docker Engine (API 1.41 or later), one with a
`command` alone is a process of this machine. Where a key says `engine API`, an older engine has no word
for it: such a service is refused there, by the name of the key. Keys marked with * are Upbeat's own: in a
`compose.yaml` they stand under `x-upbeat`.

This page is generated from the table by which files are read.
";

fn section(page: &mut String, keys: &'static Keys) {
    let owner = keys.owner;
    let mut letters = owner.chars();
    let title: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    let star = |key: &Key| if key.ours { " *" } else { "" };
    let (plain, judged): (Vec<&Key>, Vec<&Key>) =
        keys.keys.iter().partition(|key| key.verdict == Verdict::AsAbove);
    // INVARIANT: writing to a text does not fail.
    let _ = write!(page, "\n## {title}\n");
    if !plain.is_empty() {
        let names: Vec<String> = plain.iter().map(|key| format!("`{}`{}", key.name, star(key))).collect();
        let _ = write!(page, "\nObeyed where the key is that it stands under: {}.\n", names.join(", "));
    }
    if !judged.is_empty() {
        page.push_str("\n| key | processes | containers |\n|---|---|---|\n");
    }
    for key in judged {
        let (processes, containers) = columns(key);
        let _ = writeln!(page, "| `{}`{} | {processes} | {containers} |", key.name, star(key));
    }
}

fn columns(key: &Key) -> (String, String) {
    match key.verdict {
        Verdict::Honoured { processes, containers } => (column(processes), column(containers)),
        Verdict::AsAbove => ("as above".to_owned(), "as above".to_owned()),
        Verdict::Inert(why) => (format!("no effect: {why}"), "no effect".to_owned()),
        Verdict::Refused(hint) => (format!("refused: {hint}"), "refused".to_owned()),
    }
}

fn column(support: Support) -> String {
    match support {
        Support::Yes => "yes".to_owned(),
        Support::Api(version) => format!("engine API {version}"),
        Support::No("") => "no".to_owned(),
        Support::No(hint) => format!("no: {hint}"),
    }
}

/// The keys of the mapping that may stand behind a key.
fn below(shape: &'static Shape) -> Option<&'static Keys> {
    match shape {
        Shape::Map(keys) => Some(keys),
        Shape::Short(short) => Some(short.long),
        Shape::Named(named) | Shape::Names(named) | Shape::Hosts(named) => below(&named.each),
        Shape::List(items) | Shape::Items(items) => below(&items.each),
        Shape::Optional(inner) => below(inner),
        _ => None,
    }
}

//! The laws about what may stand in a source file.

use crate::Offence;
use crate::manifest::PRIVATE;
use crate::source::{Function, PathUse, Source};
use crate::workspace::Workspace;

/// What a person can keep in mind at once, on one screen.
const FUNCTION_LINES_MAX: usize = 70;

/// What can be read in one sitting; a longer file has two subjects.
const FILE_LINES_MAX: usize = 600;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc"];

/// Rooms without clock, files, sockets, threads and chance. What of `std` is pure data is in `core`
/// too (`core::net::IpAddr`, `core::time::Duration`) and may be named there.
const PURE: &[&str] = &["model", "decide"];

/// Rooms that touch the machine.
const UNSAFE_ROOMS: &[&str] = &["shim", "drivers"];

impl Source {
    fn offence(&self, line: usize, what: impl Into<String>) -> Offence {
        Offence { path: self.path.clone(), line, what: what.into() }
    }

    /// The paths in code that is compiled for more than tests.
    fn product_paths(&self) -> impl Iterator<Item = PathUse> {
        self.paths().into_iter().filter(|path| !self.is_test_at(path.line))
    }
}

fn in_each(workspace: &Workspace, law: impl Fn(&Source) -> Vec<Offence>) -> Vec<Offence> {
    workspace.sources.iter().flat_map(law).collect()
}

pub(crate) fn purity(workspace: &Workspace) -> Vec<Offence> {
    const MODULES: &[&str] = &["fs", "net", "env", "thread", "process", "io", "os"];
    in_each(workspace, |source| {
        if !PURE.contains(&source.room.as_str()) {
            return Vec::new();
        }
        let is_impure = |path: &PathUse| {
            let says = |word: &str| path.segments.iter().any(|segment| segment == word);
            let is_std = MODULES.iter().any(|module| path.starts_with(&["std", module]));
            let is_clock = says("Instant") || says("SystemTime") || path.starts_with(&["std", "time", "*"]);
            is_std || is_clock || ["tokio", "rand", "getrandom"].contains(&path.segments[0].as_str())
        };
        let paths = source.product_paths().filter(is_impure);
        paths
            .map(|path| {
                source.offence(
                    path.line,
                    format!("{} names {} (`core` has what is pure of it)", source.room, path.text()),
                )
            })
            .collect()
    })
}

pub(crate) fn private_names(workspace: &Workspace) -> Vec<Offence> {
    in_each(workspace, |source| {
        let mut found = Vec::new();
        for path in source.product_paths() {
            if let Some((library, owner)) = PRIVATE.iter().find(|(library, _)| path.starts_with(&[library]))
                && source.room != *owner
            {
                found.push(source.offence(path.line, format!("only {owner} may name {library}")));
            }
        }
        found
    })
}

pub(crate) fn printing(workspace: &Workspace) -> Vec<Offence> {
    in_each(workspace, |source| {
        if source.room == "upbeat" {
            return Vec::new();
        }
        macros(source, &["print", "println", "eprint", "eprintln"])
            .filter(|(line, _)| !source.is_test_at(*line))
            .map(|(line, name)| source.offence(line, format!("`{name}!` outside the binary")))
            .collect()
    })
}

/// The shim is a program of its own and so has arguments; its failpoints are set by a variable, in
/// a file of that name or where a comment directly above says so.
pub(crate) fn environment(workspace: &Workspace) -> Vec<Offence> {
    const HARMLESS: &[&str] = &["consts", "VarError", "join_paths", "split_paths"];
    in_each(workspace, |source| {
        if source.room == "upbeat" {
            return Vec::new();
        }
        let is_failpoint = source.path.ends_with("/failpoint.rs");
        let mut found = Vec::new();
        for path in source.product_paths() {
            let from = if path.starts_with(&["std", "env"]) { 2 } else { 1 };
            let Some(what) = path.segments.get(from) else { continue };
            if from == 1 && path.segments[0] != "env" || HARMLESS.contains(&what.as_str()) {
                continue;
            }
            let above = source.comment_above(path.line).join(" ").to_lowercase();
            let of_shim =
                ["args", "args_os"].contains(&what.as_str()) || above.contains("failpoint") || is_failpoint;
            if source.room != "shim" || !of_shim {
                found.push(source.offence(path.line, format!("`env::{what}` outside the binary")));
            }
        }
        found
    })
}

pub(crate) fn unsafety(workspace: &Workspace) -> Vec<Offence> {
    in_each(workspace, |source| {
        let mut found = Vec::new();
        for token in source.tokens.iter().filter(|token| token.text == "unsafe") {
            if !UNSAFE_ROOMS.contains(&source.room.as_str()) {
                found.push(source.offence(token.line, "`unsafe` outside shim and drivers"));
            } else if !argues_for_safety(source, token.line) {
                found.push(source.offence(token.line, "`unsafe` without a `SAFETY` comment above it"));
            }
        }
        found
    })
}

/// Attributes may stand between the comment and the code it argues for, and one comment may argue
/// for the rest of its statement.
fn argues_for_safety(source: &Source, line: usize) -> bool {
    const STATEMENT_LINES: usize = 6;
    let from = line.saturating_sub(STATEMENT_LINES + 1);
    source.raw[from..line].iter().any(|raw| raw.to_lowercase().contains("safety"))
        || source.comment_above(line).iter().any(|comment| comment.to_lowercase().contains("safety"))
}

pub(crate) fn unwrapping(workspace: &Workspace) -> Vec<Offence> {
    in_each(workspace, |source| {
        let mut found = Vec::new();
        for (i, token) in source.tokens.iter().enumerate().skip(1) {
            if source.is_test_at(token.line) {
                continue;
            }
            let is_method = [".", "::"].contains(&source.text(i - 1));
            let is_call = source.text(i + 1) == "(" && source.text(i - 1) == ".";
            // A parser's own `expect(Token)` is no panic; ours always says something.
            let says =
                ["\"", "r"].contains(&source.text(i + 2)) || source.matches(i + 2, &["&", "format", "!"]);
            match token.text.as_str() {
                "unwrap" | "unwrap_err" if is_method => {
                    found.push(source.offence(token.line, format!("`{}` outside tests", token.text)));
                }
                "expect" | "expect_err" if is_call && says && !states_invariant(source, token.line) => found
                    .push(source.offence(token.line, "`expect` without `// INVARIANT: …` on the line above")),
                _ => {}
            }
        }
        found
    })
}

fn states_invariant(source: &Source, line: usize) -> bool {
    source.comment_above(line).iter().any(|comment| comment.starts_with("// INVARIANT:"))
}

pub(crate) fn leftovers(workspace: &Workspace) -> Vec<Offence> {
    in_each(workspace, |source| {
        let mut found: Vec<Offence> = macros(source, &["todo", "unimplemented", "dbg"])
            .map(|(line, name)| source.offence(line, format!("`{name}!`")))
            .collect();
        for (i, token) in source.tokens.iter().enumerate() {
            if source.matches(i, &["#", "[", "ignore"]) {
                found.push(source.offence(token.line, "an ignored test"));
            }
        }
        found
    })
}

pub(crate) fn documentation(workspace: &Workspace) -> Vec<Offence> {
    in_each(workspace, |source| {
        let mut head = source.raw.iter().map(|raw| raw.trim()).filter(|raw| !raw.is_empty());
        let first = head.find(|raw| !raw.starts_with("#!["));
        let is_documented = first.is_some_and(|raw| raw.starts_with("//!"));
        if is_documented {
            Vec::new()
        } else {
            vec![source.offence(1, "no `//!` says what this file is for")]
        }
    })
}

pub(crate) fn length(workspace: &Workspace) -> Vec<Offence> {
    in_each(workspace, |source| {
        let mut found = Vec::new();
        let lines = source.raw.len();
        if lines > FILE_LINES_MAX {
            found.push(source.offence(lines, format!("{lines} lines; at most {FILE_LINES_MAX}")));
        }
        for Function { name, first, lines, .. } in source.functions() {
            if lines > FUNCTION_LINES_MAX {
                found.push(
                    source
                        .offence(first, format!("`{name}` has {lines} lines; at most {FUNCTION_LINES_MAX}")),
                );
            }
        }
        found
    })
}

pub(crate) fn names(workspace: &Workspace) -> Vec<Offence> {
    in_each(workspace, |source| {
        let mut found = Vec::new();
        for part in source.path.trim_end_matches(".rs").split('/') {
            if EMPTY_NAMES.contains(&part) {
                found.push(source.offence(1, format!("`{part}` names no subject")));
            }
        }
        for (i, token) in source.tokens.iter().enumerate() {
            let name = source.text(i + 1);
            if token.text == "mod" && EMPTY_NAMES.contains(&name) && source.text(i + 2) == "{" {
                found.push(source.offence(token.line, format!("`{name}` names no subject")));
            }
        }
        found
    })
}

pub(crate) fn sleeping(workspace: &Workspace) -> Vec<Offence> {
    in_each(workspace, |source| {
        let functions = source.functions();
        let mut found = Vec::new();
        for (i, token) in source.tokens.iter().enumerate().skip(1) {
            let is_call = token.text == "sleep" && source.text(i + 1) == "(" && source.text(i - 1) != "fn";
            if !is_call || !source.is_test_at(token.line) {
                continue;
            }
            let of_thread = source.text(i.saturating_sub(2)) == "thread";
            if of_thread || !has_virtual_time(source, &functions, token.line) {
                found.push(source.offence(token.line, "a test sleeps: wait for the event"));
            }
        }
        found
    })
}

/// On the paused clock of a runtime a sleep takes no time, and ends exactly when nothing else is
/// left to happen. That it is paused must be said directly above the function: by the attribute of
/// a test (`start_paused = true`), or by a comment.
fn has_virtual_time(source: &Source, functions: &[Function], line: usize) -> bool {
    let around = functions.iter().rev().find(|function| (function.first..=function.last).contains(&line));
    around.is_some_and(|function| {
        let above = source.above(function.first, |raw| raw.starts_with("//") || raw.starts_with("#["));
        above.iter().any(|raw| raw.contains("paused"))
    })
}

/// Line and name of each call of one of these macros.
fn macros<'a>(source: &'a Source, names: &'a [&'a str]) -> impl Iterator<Item = (usize, &'a str)> {
    source.tokens.iter().enumerate().filter_map(move |(i, token)| {
        let is_call = source.text(i + 1) == "!" && source.text(i + 2) != "=";
        (is_call && names.contains(&token.text.as_str())).then_some((token.line, token.text.as_str()))
    })
}

//! From the text of a project file to a [`Project`], or to every error in it.
//!
//! The way a text goes: `tree` makes a tree in which every value knows its place, the readers
//! (`project`, `service`, `healthcheck`) turn the tree into nouns, `graph` looks at what no
//! single service can know, and `report` collects what is wrong on the way.
//!
//! Laws:
//! * A key is honoured, or inert and said so in a note, or refused by name. None is ignored.
//! * An error never hides another one where that can be helped: readers go on after it.
//! * The same rules (`rules`) judge a file and, by `validate`, a project that came over the
//!   wire from who knows whom.
//! * Whatever the text is, the answer comes in time linear in its size, and nothing recurses deeper
//!   than [`DEPTH_MAX`].
//!
//! The grammar is that of the Compose Specification, as much of it as is honoured today.

mod graph;
mod healthcheck;
mod keys;
mod pattern;
mod project;
mod read;
mod report;
mod rules;
mod scalar;
mod service;
mod tree;
mod validate;

use crate::diagnostic::Diagnostic;
use crate::project::Project;

pub use project::name_from_directory;
pub use validate::validate;

/// The largest text that is looked at, in bytes: some times what 10,000 services take, and still
/// read within a second.
pub const TEXT_MAX: usize = 10 * 1024 * 1024;

/// How deep values may be nested. The grammar itself needs 6 levels; readers may recurse so deep.
pub const DEPTH_MAX: usize = 64;

/// How many values a file may hold after its aliases are followed: 10,000 services with eighty
/// values each. A few lines of aliases to aliases make billions; this ends them.
pub const VALUES_MAX: usize = 800_000;

/// How many of the characters `,:[{*&!?` a file may have. Nearly each of them makes a value, and
/// the parser may have to read all of a `[…]` before it can tell what the first one is: this keeps
/// its memory bounded before [`VALUES_MAX`] can.
pub const SIGNS_MAX: usize = VALUES_MAX;

/// How many bytes of text a file may hold after its aliases are followed: some times as much as
/// without any, since one long text can be named a million times.
pub const EXPANDED_MAX: usize = 4 * TEXT_MAX;

/// How many errors are shown; the rest is counted. Nobody reads more at a time.
pub const ERRORS_MAX: usize = 50;

/// How many copies one service may have.
pub const SCALE_MAX: u32 = 1000;

/// How many slots a project may have in all. Each takes two processes, its shim and its own, and a
/// Linux machine has 32,768 process numbers unless told otherwise.
pub const SLOTS_MAX: u64 = 16_384;

/// The longest length of time that means anything here: a year.
pub const LENGTH_MAX: crate::time::Millis = crate::time::Millis::seconds(365 * 24 * 3600);

/// A text and the name people know it by.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// As the person named it.
    pub name: &'a str,
    /// All of it.
    pub text: &'a str,
}

/// What a project file means depends on where it is and who reads it.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Absolute; relative directories are joined to it, `.` and `..` removed without a look at the
    /// disk.
    pub project_dir: &'a str,
    /// Taken through [`name_from_directory`] where the file has no `name`.
    pub default_name: &'a str,
    /// The variables of the person's session, for those named without a value.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// A file without errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What it declares. Its `base_environment` is empty: that is no part of a file.
    pub project: Project,
    /// What the person should know all the same; at most [`ERRORS_MAX`] and one.
    pub notes: Vec<Diagnostic>,
}

/// Everything that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// By place; at least one, at most [`ERRORS_MAX`].
    pub diagnostics: Vec<Diagnostic>,
    /// How many there are besides.
    pub more: usize,
}

impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Errors {}

/// Reads a project file. Errors: all there are, by place.
pub fn parse(source: Source<'_>, context: &Context<'_>) -> Result<Parsed, Errors> {
    let mut report = report::Report::new(source);
    let project = tree::load(source.text, &mut report)
        .and_then(|root| project::read(root.as_deref(), context, &mut report));
    report.finish(project)
}

//! From the texts of a project's files to a [`Project`], or to every error in them.
//!
//! The way a text goes: `yaml` makes a `tree` in which every value knows its place, `fill` puts the
//! variables in, `canon` checks it by the `grammar` and writes everything in its long form,
//! `compose` makes one tree of several files: it `merge`s and `include`s them, and lets services
//! `extend` others. Then the readers (`project`, `service`, `probes`, `edges`) turn the tree into nouns,
//! and `graph` looks at what no single service can know. `report` collects what is wrong on the way.
//! All trees live in one `arena`.
//!
//! Laws:
//! * A key is honoured, or inert and said so in a note, or refused by name. None is ignored.
//! * An error never hides another one where that can be helped: readers go on after it.
//! * The same rules (`rules`) judge a file and, by `validate`, a project that came over the
//!   wire from who knows whom.
//! * Whatever the text is, the answer comes in time linear in its size, and nothing recurses deeper
//!   than [`DEPTH_MAX`].
//! * No file is opened here: whoever asks brings a [`Resolver`].
//!
//! The grammar is that of the Compose Specification.

mod arena;
mod argv;
mod canon;
mod compose;
mod container;
mod copies;
mod document;
mod dotenv;
mod edges;
mod extend;
mod external;
mod fill;
mod forms;
mod grammar;
mod graph;
mod include;
mod index;
mod instance;
mod interpolate;
mod merge;
mod pattern;
mod place;
mod probes;
mod process;
mod procfile;
mod project;
mod questions;
mod read;
mod references;
mod render;
mod report;
mod rules;
mod scalar;
mod scan;
mod schema;
mod service;
mod shape;
mod short;
mod surroundings;
mod templates;
mod tree;
mod validate;
mod variables;
mod verdicts;
mod words;
mod yaml;

use std::collections::BTreeMap;

use bumpalo::Bump;

use crate::diagnostic::Diagnostic;
use crate::ids::AppName;
use crate::project::Project;

pub use project::name_from_directory;
pub use schema::schema;
pub use validate::validate;
pub use verdicts::compose_page;

/// The largest text that is looked at, in bytes: some times what 10,000 services take, and still
/// read within a second.
pub const TEXT_MAX: usize = 10 * 1024 * 1024;

/// How deep values may be nested. The grammar itself needs 8 levels; readers may recurse so deep.
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

/// How many files a project may be made of.
pub const FILES_MAX: usize = 500;

/// How much text the files of a project may have together, in bytes.
pub const TEXTS_MAX: usize = 4 * TEXT_MAX;

/// How many values the files of a project may hold together, after their aliases are followed: each
/// may hold as many as one may, but not each of hundreds.
pub const PROJECT_VALUES_MAX: usize = 2 * VALUES_MAX;

/// How many services may extend each other in a row.
pub const EXTENDS_MAX: usize = 50;

/// Under which our own keys stand in a file that other tools read too.
const OURS: &str = "x-upbeat";

/// A text and the name people know it by.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// As the person named it.
    pub name: &'a str,
    /// All of it.
    pub text: &'a str,
}

/// Why there is no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// There is no such file.
    Missing,
    /// There is, and it cannot be read: why.
    Unreadable(String),
}

/// What files refer to: other files, and variables of the person's session.
pub trait Resolver {
    /// The text of a file, by its absolute path; no larger than [`TEXT_MAX`].
    fn read(&self, path: &str) -> Result<String, Unread>;
    /// The bytes of a config or a secret; no more than [`PrivateFile::SIZE_MAX`] and one.
    ///
    /// [`PrivateFile::SIZE_MAX`]: crate::project::PrivateFile::SIZE_MAX
    fn read_bytes(&self, path: &str) -> Result<Vec<u8>, Unread> {
        self.read(path).map(String::into_bytes)
    }
    /// A variable of the session.
    fn variable(&self, name: &str) -> Option<String>;
    /// How people would name a file.
    fn shown(&self, path: &str) -> String {
        path.to_owned()
    }
    /// The names of the variables there are, for suggestions.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Only variables, and no files.
impl<F: Fn(&str) -> Option<String>> Resolver for F {
    fn read(&self, _: &str) -> Result<String, Unread> {
        Err(Unread::Missing)
    }

    fn variable(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// What a project file means depends on where it is and who reads it.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Absolute; relative directories are joined to it, `.` and `..` removed without a look at the
    /// disk.
    pub project_dir: &'a str,
    /// What the app is called whatever the file says: networks, volumes and images are called after it.
    pub name: Option<&'a AppName>,
    /// Taken through [`name_from_directory`] where the file has no `name`.
    pub default_name: &'a str,
    /// What it may refer to.
    pub resolver: &'a dyn Resolver,
    /// Files of variables, absolute, later ones first; none: `.env` in the project's directory, if
    /// it is there.
    pub env_files: &'a [String],
    /// Services of these profiles run besides those of none; `*`: all.
    pub profiles: &'a [String],
    /// False: `${…}` stays as it is. Such a project can be shown, and not be run.
    pub interpolate: bool,
}

impl<'a> Context<'a> {
    /// Nothing but a directory, a name and a resolver.
    pub fn new(project_dir: &'a str, default_name: &'a str, resolver: &'a dyn Resolver) -> Self {
        Self {
            project_dir,
            name: None,
            default_name,
            resolver,
            env_files: &[],
            profiles: &[],
            interpolate: true,
        }
    }
}

/// Files without errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// What they declare. Its `base_environment` is empty: that is no part of a file.
    pub project: Project,
    /// What the person should know all the same; at most [`ERRORS_MAX`] and one.
    pub notes: Vec<Diagnostic>,
}

/// Files without errors, as one file would say the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// In long forms, with every variable filled in; containers included.
    pub document: serde_json::Value,
    /// What the person should know all the same.
    pub notes: Vec<Diagnostic>,
}

/// Everything that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// By place; at least one, at most [`ERRORS_MAX`].
    pub diagnostics: Vec<Diagnostic>,
    /// How many there are besides.
    pub more: usize,
    /// The texts of the files they are in, by name.
    pub sources: BTreeMap<String, String>,
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

/// Reads a project, to run it. Errors: all there are, by place.
pub fn parse(sources: &[Source<'_>], context: &Context<'_>) -> Result<Parsed, Errors> {
    let read =
        |project: project::Reading<'_>, report: &mut report::Report<'_>| project.runnable(context, report);
    let (project, notes) = whole(sources, context, read)?;
    Ok(Parsed { project, notes })
}

/// Reads a project, to show what it comes to. Errors: all there are, by place.
pub fn resolve(sources: &[Source<'_>], context: &Context<'_>) -> Result<Resolved, Errors> {
    let (document, notes) =
        whole(sources, context, |project, report| Some(project.document(context.interpolate, report)))?;
    Ok(Resolved { document, notes })
}

/// All files, as something is made of them.
fn whole<T>(
    sources: &[Source<'_>],
    context: &Context<'_>,
    make: impl FnOnce(project::Reading<'_>, &mut report::Report<'_>) -> Option<T>,
) -> Result<(T, Vec<Diagnostic>), Errors> {
    let bump = Bump::new();
    let mut report = report::Report::new(arena::Arena::new(&bump));
    let mut patterns = pattern::Patterns::default();
    let mut composer = compose::Composer {
        resolver: context.resolver,
        report: &mut report,
        patterns: &mut patterns,
        inclusions: include::Inclusions::of(sources.iter().map(|source| source.name.to_owned())),
        extensions: Default::default(),
        templates: Default::default(),
        renderer: &mut Default::default(),
        interpolate: context.interpolate,
    };
    let tree = composer.project(sources, context);
    let outcome = tree.and_then(|tree| project::read(tree, context, &mut report));
    let outcome = outcome.and_then(|project| make(project, &mut report));
    report.finish(outcome)
}

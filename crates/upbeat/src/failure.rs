//! How a command fails: an exit code, words, and what to do about it.

use std::collections::BTreeMap;
use std::error::Error;

use upbeat_api::Problem;
use upbeat_model::Diagnostic;

use crate::exit::ExitCode;

/// Why a command ends without having done what was asked. Drawn by [`crate::face::error`] alone.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The number the process ends with.
    pub exit: ExitCode,
    /// What happened, as one sentence without a full stop; `None` when everything has been said
    /// already (outcomes of slots were shown), or nobody is there to read (a closed pipe).
    pub message: Option<String>,
    /// Because of what, outermost first.
    pub causes: Vec<String>,
    /// What somebody who knows more said last.
    pub last_lines: Vec<String>,
    /// What to do.
    pub hints: Vec<String>,
    /// Errors in files. Boxed, since few failures have any and every command returns one.
    pub files: Option<Box<FileErrors>>,
}

/// What is wrong in files, and their texts to quote from.
#[derive(Clone, Debug, Default)]
pub struct FileErrors {
    /// By place.
    pub diagnostics: Vec<Diagnostic>,
    /// By the name in the diagnostics.
    pub sources: BTreeMap<String, String>,
}

/// What every command returns.
pub type Outcome = Result<ExitCode, Failure>;

impl Failure {
    /// With an exit code and one sentence.
    pub fn new(exit: ExitCode, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::silent(exit) }
    }

    /// Without words.
    pub fn silent(exit: ExitCode) -> Self {
        Self {
            exit,
            message: None,
            causes: Vec::new(),
            last_lines: Vec::new(),
            hints: Vec::new(),
            files: None,
        }
    }

    /// Adds an error and what caused it.
    #[must_use]
    pub fn because(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let words = error.to_string();
            // Some libraries repeat the source in the outer text.
            if self.causes.last().is_none_or(|last| !last.contains(&words)) {
                self.causes.push(words);
            }
            next = error.source();
        }
        self
    }

    /// That of a change which was sent, and to which no answer came.
    #[must_use]
    pub fn of_unanswered_change(mut self) -> Self {
        let message = self.message.replace("it is not known whether the change was made".into());
        self.causes.splice(0..0, message);
        self.exit = ExitCode::Failed;
        self.hint("`upbeat ps` shows what is there, `upbeat events` what was changed")
    }

    /// Adds something to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let files = FileErrors { diagnostics: problem.diagnostics, sources: BTreeMap::new() };
        Self {
            hints: problem.hint.into_iter().collect(),
            files: (!files.diagnostics.is_empty()).then(|| Box::new(files)),
            ..Self::new(problem.kind.into(), problem.message)
        }
    }
}

/// Writing the answer failed. A reader that went away (`upbeat logs | head`) is no error: the
/// command ends, quietly and well.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::silent(ExitCode::Ok);
        }
        Self::new(ExitCode::Failed, "cannot write the output").because(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let gone = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((gone.exit, gone.message), (ExitCode::Ok, None));
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit, ExitCode::Failed);
        assert!(full.message.is_some());
    }
}

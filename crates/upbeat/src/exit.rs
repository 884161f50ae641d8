//! The one number a shell script sees: how a command ended.
//!
//! Every command ends with one of these and nothing else, so that a script can branch on the number
//! without reading words. They are a promise: a number never changes its meaning.

use upbeat_api::ProblemKind;

/// How a command ended. `upbeat` exits with the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything asked for is so.
    Ok = 0,
    /// Something asked for did not come about, for a reason that has no number of its own.
    Failed = 1,
    /// The command line or the project file is wrong. Nothing was changed.
    Usage = 2,
    /// No such app, service or operation, or no daemon that could know it.
    NotFound = 3,
    /// Somebody else changed the same thing first.
    Conflict = 4,
    /// The time given with `--timeout` or `--wait-timeout` is over.
    Timeout = 5,
    /// A service runs, but its health check fails.
    Unhealthy = 6,
    /// A service cannot start because something it depends on failed.
    DependencyFailed = 7,
    /// A new release did not prove itself and the last good one is back.
    RolledBack = 8,
    /// `plan --detailed-exitcode`: there is something to do.
    PlanHasChanges = 9,
    /// Ended by Ctrl-C.
    Interrupted = 130,
}

impl ExitCode {
    /// Every code with its number, in the order of the numbers: the table of the reference.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Ok, "everything asked for is so"),
        (Self::Failed, "something asked for did not come about"),
        (Self::Usage, "the command line or the project file is wrong; nothing was changed"),
        (Self::NotFound, "no such app, service or operation, or no daemon runs"),
        (Self::Conflict, "somebody else changed the same thing first"),
        (Self::Timeout, "the time given is over"),
        (Self::Unhealthy, "a service runs, but its health check fails"),
        (Self::DependencyFailed, "a service cannot start because something it depends on failed"),
        (Self::RolledBack, "a new release did not prove itself and the last good one is back"),
        (Self::PlanHasChanges, "`plan --detailed-exitcode`: there is something to do"),
        (Self::Interrupted, "ended by Ctrl-C"),
    ];

    /// The number.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl From<ProblemKind> for ExitCode {
    fn from(kind: ProblemKind) -> Self {
        match kind {
            ProblemKind::BadRequest => Self::Usage,
            ProblemKind::NotFound => Self::NotFound,
            ProblemKind::Conflict => Self::Conflict,
            ProblemKind::Unauthorized
            | ProblemKind::Forbidden
            | ProblemKind::Unavailable
            | ProblemKind::Internal => Self::Failed,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_promised_ones() {
        let numbers: Vec<u8> = ExitCode::ALL.iter().map(|(code, _)| code.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130]);
    }

    #[test]
    fn every_kind_of_problem_has_an_exit_code_of_its_own_or_the_general_one() {
        for (kind, number) in [
            (ProblemKind::BadRequest, 2),
            (ProblemKind::Unauthorized, 1),
            (ProblemKind::Forbidden, 1),
            (ProblemKind::NotFound, 3),
            (ProblemKind::Conflict, 4),
            (ProblemKind::Unavailable, 1),
            (ProblemKind::Internal, 1),
        ] {
            assert_eq!(ExitCode::from(kind).number(), number, "{kind:?}");
        }
    }
}

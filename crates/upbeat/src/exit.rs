//! The one number a shell script sees: how a command ended.
//!
//! Every command ends with one of these and nothing else, so that a script can branch on the number
//! without reading words. They are a promise: a number never changes its meaning. Only where a service
//! is what a command is about from its beginning to its end, the number is that of the service.

use upbeat_api::ProblemKind;
use upbeat_model::Exit;

/// How a command ended. `upbeat` exits with the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Everything asked for is so.
    Ok,
    /// Something asked for did not come about, for a reason that has no number of its own.
    Failed,
    /// The command line or the project file is wrong. Nothing was changed.
    Usage,
    /// No such app, service or operation, or no daemon that could know it.
    NotFound,
    /// Somebody else changed the same thing first, or (`serve`) is there already.
    Conflict,
    /// The time given with `--timeout` or `--wait-timeout` is over.
    Timeout,
    /// A service runs, but its health check fails.
    Unhealthy,
    /// A service cannot start because something it depends on failed.
    DependencyFailed,
    /// A new release did not prove itself and the last good one is back.
    RolledBack,
    /// `plan --detailed-exitcode`: there is something to do.
    PlanHasChanges,
    /// The daemon does not let whoever asks do this.
    Denied,
    /// A daemon is starting, and does not answer yet.
    Starting,
    /// Ended by Ctrl-C.
    Interrupted,
    /// As the service ended: see [`ExitCode::of`].
    Service(u8),
}

impl ExitCode {
    /// Every code with its number, in the order of the numbers: the table of the reference.
    pub const ALL: [(Self, &'static str); 13] = [
        (Self::Ok, "everything asked for is so"),
        (Self::Failed, "something asked for did not come about"),
        (Self::Usage, "the command line or the project file is wrong; nothing was changed"),
        (Self::NotFound, "no such app, service or operation, or no daemon runs there"),
        (
            Self::Conflict,
            "somebody else changed the same thing first; of `serve`: another daemon runs already",
        ),
        (Self::Timeout, "the time given is over"),
        (Self::Unhealthy, "a service runs, but its health check fails"),
        (Self::DependencyFailed, "a service cannot start because something it depends on failed"),
        (Self::RolledBack, "a new release did not prove itself and the last good one is back"),
        (Self::PlanHasChanges, "`plan --detailed-exitcode`: there is something to do"),
        (Self::Denied, "the daemon does not let whoever asks do this: no token, or its role is too low"),
        (Self::Starting, "the daemon is starting, and does not answer yet; ask again later"),
        (Self::Interrupted, "ended by Ctrl-C"),
    ];

    /// The number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Timeout => 5,
            Self::Unhealthy => 6,
            Self::DependencyFailed => 7,
            Self::RolledBack => 8,
            Self::PlanHasChanges => 9,
            Self::Denied => 10,
            Self::Starting => 11,
            Self::Interrupted => 130,
            Self::Service(number) => number,
        }
    }

    /// Of a command that ends as a service did: its status, or as a shell says it, 128 and the signal.
    pub fn of(exit: &Exit) -> Self {
        let number = match exit {
            Exit::Code(code) => u8::try_from(*code).ok(),
            Exit::Signal(signal) => signal.checked_add(128).and_then(|number| u8::try_from(number).ok()),
            Exit::NotStarted(_) | Exit::Stopped(_) | Exit::Unknown(_) => None,
        };
        number.map_or(Self::Failed, Self::Service)
    }
}

impl From<ProblemKind> for ExitCode {
    fn from(kind: ProblemKind) -> Self {
        match kind {
            ProblemKind::BadRequest => Self::Usage,
            ProblemKind::NotFound => Self::NotFound,
            ProblemKind::Conflict => Self::Conflict,
            ProblemKind::Unauthorized | ProblemKind::Forbidden => Self::Denied,
            ProblemKind::Unavailable | ProblemKind::Internal => Self::Failed,
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
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 130]);
    }

    #[test]
    fn a_command_that_ends_as_a_service_has_its_number_as_a_shell_would() {
        for (exit, number) in [
            (Exit::Code(0), 0),
            (Exit::Code(255), 255),
            (Exit::Signal(9), 137),
            (Exit::Unknown("its shim was killed".into()), 1),
            (Exit::NotStarted("no such file".into()), 1),
        ] {
            assert_eq!(ExitCode::of(&exit).number(), number, "{exit}");
        }
    }

    #[test]
    fn every_kind_of_problem_has_an_exit_code_of_its_own_or_the_general_one() {
        for (kind, number) in [
            (ProblemKind::BadRequest, 2),
            (ProblemKind::Unauthorized, 10),
            (ProblemKind::Forbidden, 10),
            (ProblemKind::NotFound, 3),
            (ProblemKind::Conflict, 4),
            (ProblemKind::Unavailable, 1),
            (ProblemKind::Internal, 1),
        ] {
            assert_eq!(ExitCode::from(kind).number(), number, "{kind:?}");
        }
    }
}

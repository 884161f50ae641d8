//! `serve`: the daemon, in the foreground; or the unit that starts it at boot.

use tracing_subscriber::EnvFilter;

use super::args::ServeArgs;
use super::session::Session;
use crate::daemon;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::logging::{LogSettings, LogSettingsError, Logging};

/// Which of the daemon's own messages are written, as `tracing` directives.
const LOG_VARIABLE: &str = "UPBEAT_LOG";

pub(super) async fn run(session: &Session, args: ServeArgs) -> Outcome {
    let log = LogSettings { format: args.log_format, target: args.log_target };
    if args.install {
        return install(session, &log);
    }
    let dirs = session.dirs()?;
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    // Whoever asks for an announcement has given it a log of its own.
    let _logging = Logging::start(&log, filter, session.face_of_errors().paint, args.announce)?;
    daemon::serve(&dirs, args.announce).await?;
    Ok(ExitCode::Ok)
}

fn install(session: &Session, log: &LogSettings) -> Outcome {
    log.check()?;
    let program = std::env::current_exe().map_err(|e| not_installed(&e))?;
    let installed = daemon::install(&program, &log.arguments())?;
    session.print(&told(&installed))?;
    Ok(ExitCode::Ok)
}

pub(super) fn told(installed: &daemon::Installed) -> String {
    format!("wrote `{}`\nstart it with `{}`\n", installed.path.display(), installed.next)
}

fn not_installed(error: &dyn std::error::Error) -> Failure {
    Failure::new(ExitCode::Failed, "the unit cannot be installed").because(error)
}

impl From<daemon::InstallError> for Failure {
    fn from(error: daemon::InstallError) -> Self {
        let failure = not_installed(&error);
        match error {
            daemon::InstallError::NoHome => failure.hint("set `HOME`, or `XDG_CONFIG_HOME`"),
            daemon::InstallError::Write { .. } => failure,
        }
    }
}

impl From<LogSettingsError> for Failure {
    fn from(error: LogSettingsError) -> Self {
        let exit = match error {
            LogSettingsError::Thread(_) | LogSettingsError::Taken(_) => ExitCode::Failed,
            _ => ExitCode::Usage,
        };
        let hint = error.hint();
        let failure = Self::new(exit, error.to_string()).hint(hint);
        match std::error::Error::source(&error) {
            Some(source) => failure.because(source),
            None => failure,
        }
    }
}

impl From<daemon::ServeError> for Failure {
    fn from(error: daemon::ServeError) -> Self {
        match error {
            daemon::ServeError::Running(_) => Self::new(ExitCode::Conflict, error.to_string())
                .hint("use that one, or end it first; services go on either way"),
            daemon::ServeError::Inside => Self::new(ExitCode::Failed, error.to_string())
                .hint("start it outside first: `upbeat serve`, or a unit by `upbeat serve --install`"),
            error => Self::new(ExitCode::Failed, "the daemon cannot run").because(&error),
        }
    }
}

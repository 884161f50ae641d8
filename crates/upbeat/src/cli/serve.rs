//! `serve`: the daemon, in the foreground; or the unit that starts it at boot.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use super::args::ServeArgs;
use super::session::Session;
use crate::daemon;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};

/// Which of the daemon's own messages are written, as `tracing` directives.
const LOG_VARIABLE: &str = "UPBEAT_LOG";

/// Standard error. Says that it has written, whatever became of it; a file of ours begins anew before
/// it gets too long.
struct Lossy {
    is_ours: bool,
}

impl Write for Lossy {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let mut errors = io::stderr();
        if self.is_ours && rustix::fs::fstat(&errors).is_ok_and(|file| file.st_size > daemon::LOG_MAX as i64)
        {
            let _ = rustix::fs::ftruncate(&errors, 0);
        }
        Ok(errors.write(buffer).unwrap_or(buffer.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) async fn run(session: &Session, args: ServeArgs) -> Outcome {
    if args.install {
        return install(session);
    }
    let dirs = session.dirs()?;
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    // Whoever asks for an announcement has given it a log of its own.
    let log = move || Lossy { is_ours: args.announce };
    let written = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log);
    // What cannot be written on a full disk is lost, and must be all that is lost.
    let written = written.log_internal_errors(false);
    written.with_ansi(session.face_of_errors().paint == crate::face::Paint::Coloured).init();
    daemon::serve(&dirs, args.announce).await?;
    Ok(ExitCode::Ok)
}

fn install(session: &Session) -> Outcome {
    let program = std::env::current_exe().map_err(|e| not_installed(&e))?;
    let installed = daemon::install(&program)?;
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

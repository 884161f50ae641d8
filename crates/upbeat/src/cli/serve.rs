//! `serve`: the daemon, in the foreground; or the unit that starts it at boot.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::args::ServeArgs;
use super::session::Session;
use crate::daemon;
use crate::exit::ExitCode;
use crate::face::table::{Cell, Table};
use crate::failure::{Failure, Outcome};
use crate::logging::{LogSettingsError, Logging};
use crate::settings::{self, Settings, Sources};

/// Which of the daemon's own messages are written, as `tracing` directives.
const LOG_VARIABLE: &str = "UPBEAT_LOG";

/// From silence to everything.
const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) async fn run(session: &Session, args: ServeArgs) -> Outcome {
    if args.install {
        return install(session);
    }
    if session.is_elsewhere() {
        let message = match args.stop {
            true => "`serve --stop` ends the daemon of this machine",
            false => "`serve` runs the daemon of this machine",
        };
        return Err(
            Failure::new(ExitCode::Usage, message).hint("leave out `--host`, and unset `UPBEAT_HOST`")
        );
    }
    if args.stop {
        return stop(session).await;
    }
    let settings = settings(&args)?;
    if args.print_settings {
        return show(session, &settings);
    }
    let dirs = session.dirs()?;
    let filter = filter(std::env::var_os(LOG_VARIABLE))?;
    // Whoever asks for an announcement has given it a log of its own.
    let _logging = Logging::start(&settings.log, filter, session.face_of_errors().paint, args.announce)?;
    daemon::serve(&dirs, &settings, args.announce).await?;
    Ok(ExitCode::Ok)
}

/// What the variable says. Errors: nothing that can be understood. A word that is no level would be taken
/// for a part of the program that never says anything, and the log would be silent.
fn filter(said: Option<OsString>) -> Result<EnvFilter, Failure> {
    let said = said.map(|said| said.to_string_lossy().trim().to_owned()).filter(|said| !said.is_empty());
    let Some(said) = said else { return Ok(EnvFilter::new("info")) };
    let is_part = |part: &str| {
        let part = part.trim();
        LOG_LEVELS.iter().any(|level| part.eq_ignore_ascii_case(level)) || part.contains(['=', '['])
    };
    let wrong = |why: Option<&dyn std::error::Error>| {
        let failure = Failure::new(
            ExitCode::Usage,
            format!("`{LOG_VARIABLE}` cannot be read: `{}`", said.escape_debug()),
        );
        let failure = match why {
            Some(why) => failure.because(why),
            None => failure,
        };
        failure.hint(format!(
            "it is one of `{}`, or such words for parts of it: `info,upbeat_agent=debug`",
            LOG_LEVELS.join("`, `")
        ))
    };
    if !said.split(',').all(is_part) {
        return Err(wrong(None));
    }
    EnvFilter::builder().parse(&said).map_err(|error| wrong(Some(&error)))
}

/// From all the places they can come from.
fn settings(args: &ServeArgs) -> Result<Settings, Failure> {
    let mut sources = Sources::default();
    let own = settings::user_file(|name| std::env::var_os(name));
    for path in std::iter::once(PathBuf::from(settings::SYSTEM_FILE)).chain(own) {
        let name = path.display().to_string();
        match settings::file_text(&path) {
            Ok(text) => sources.files.extend(text.map(|text| (name, text))),
            Err(error) => {
                let message = format!("the settings in `{name}` cannot be read");
                return Err(Failure::new(ExitCode::Usage, message).because(&error));
            }
        }
    }
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("UPBEAT_"))?;
        Some((name, value.to_string_lossy().into_owned()))
    });
    sources.variables = variables.collect();
    let format = args.log_format.and_then(|format| format.to_possible_value());
    let flags = [
        ("--listen", args.listen.clone()),
        ("--tls-cert", args.tls_cert.clone()),
        ("--tls-key", args.tls_key.clone()),
        ("--log-format", format.map(|format| format.get_name().to_owned())),
        ("--log-target", args.log_target.clone()),
    ];
    sources.flags = flags.into_iter().filter_map(|(flag, said)| Some((flag, said?))).collect();
    settings::read(sources).map_err(|files| Failure {
        files: Some(Box::new(files)),
        ..Failure::new(ExitCode::Usage, "the daemon's settings make no sense")
    })
}

async fn stop(session: &Session) -> Outcome {
    let pid = daemon::stop(&session.dirs()?).await?;
    session.print(&format!("the daemon (pid {pid}) has ended; what it runs goes on\n"))?;
    if daemon::is_installed() {
        session.warn(
            "if a unit of systemd runs it, that starts it again: `systemctl stop upbeat` ends it for good",
        );
    }
    Ok(ExitCode::Ok)
}

fn show(session: &Session, settings: &Settings) -> Outcome {
    if session.is_json() {
        session.print_json(&settings.all())?;
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(["SETTING", "VALUE", "FROM"]);
    for shown in settings.all() {
        table.row([Cell::from(&shown.name), Cell::from(&shown.value), Cell::from(&shown.source)]);
    }
    session.print(&table.render(&session.face()))?;
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

impl From<daemon::StopError> for Failure {
    fn from(error: daemon::StopError) -> Self {
        match &error {
            daemon::StopError::NotRunning(_) => Self::new(ExitCode::NotFound, error.to_string()),
            daemon::StopError::GoesOn { pid } => Self::new(ExitCode::Timeout, error.to_string())
                .hint(format!("`kill -9 {pid}` ends it at once; services go on either way")),
            daemon::StopError::System(source) => {
                let denied = source.kind() == std::io::ErrorKind::PermissionDenied;
                let exit = if denied { ExitCode::Denied } else { ExitCode::Failed };
                Self::new(exit, error.to_string()).because(source)
            }
        }
    }
}

impl From<daemon::ServeError> for Failure {
    fn from(error: daemon::ServeError) -> Self {
        match error {
            daemon::ServeError::Running(_) => Self::new(ExitCode::Conflict, error.to_string())
                .hint("use that one, or end it first with `upbeat serve --stop`; services go on either way"),
            daemon::ServeError::Inside => Self::new(ExitCode::Failed, error.to_string())
                .hint("start it outside first: `upbeat serve`, or a unit by `upbeat serve --install`"),
            error => {
                let mut failure = Self::new(ExitCode::Failed, "the daemon cannot run").because(&error);
                if let daemon::ServeError::Access(error) = &error {
                    failure.hints.extend(error.hint().map(str::to_owned));
                }
                failure
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::{Paint, error};

    #[test]
    fn a_filter_that_nobody_understands_is_refused_and_silences_nothing() {
        let read = |said: &str| filter(Some(said.into())).map(|filter| filter.to_string());
        assert_eq!(filter(None).unwrap().to_string(), "info");
        for (said, taken) in [("", "info"), ("warn", "warn"), ("WARN", "warn"), (" debug ", "debug")] {
            assert_eq!(read(said).unwrap(), taken, "{said}");
        }
        assert!(read("info,upbeat_agent=debug").unwrap().contains("upbeat_agent=debug"));
        for said in ["warm", "info,warm", "upbeat=loud", "1x", ","] {
            assert_eq!(read(said).unwrap_err().exit, ExitCode::Usage, "{said}");
        }
        insta::assert_snapshot!(error::text(&read("warm").unwrap_err(), Paint::Plain), @"
        error: `UPBEAT_LOG` cannot be read: `warm`
        hint: it is one of `off`, `error`, `warn`, `info`, `debug`, `trace`, or such words for parts of it: `info,upbeat_agent=debug`
        ");
    }
}

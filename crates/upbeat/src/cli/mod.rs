//! The command line: what can be typed, and the way from there to a command.
//!
//! One file a command. Each command gets a `Session` and its own arguments, and returns an exit
//! code or a [`Failure`]; nothing else in here ends the process. Help, completions and the
//! reference (`docs/cli.md`) come from the one table in [`args`].

pub mod access_args;
mod analyze;
mod apps;
pub mod args;
mod attach;
mod audit;
mod build;
mod careful;
mod change;
mod completion;
mod config;
pub mod config_args;
mod device;
pub mod device_args;
mod disk;
mod down;
mod events;
mod exec;
pub mod exec_args;
mod follow;
mod graph;
mod length;
mod load;
mod locate;
mod logs;
pub mod look_args;
mod moment;
mod names;
mod plan;
pub mod plan_args;
mod ps;
pub mod reference;
mod rollout;
pub mod rollout_args;
mod rollout_unit;
mod serve;
mod session;
mod simulate;
mod stats;
mod terminal;
#[cfg(test)]
mod tests;
mod token;
pub mod unit_args;
mod up;
pub mod up_args;
mod version;
mod wait;
mod watch;
mod webhook;
pub mod webhook_args;
mod why;

use std::ffi::OsString;

use clap::{ArgMatches, CommandFactory, FromArgMatches};

use crate::exit::ExitCode;
use crate::face::{Paint, error};
use crate::failure::{Failure, Outcome};
pub(crate) use build::Built;
pub(crate) use load::base_environment;

use args::{Cli, Command};
use session::Session;

/// Reads the command line, does what it says, and returns the number to end with. Prints errors.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let cli = match read(&args) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let session = Session::new(cli.global);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::new(ExitCode::Failed, "the runtime cannot be started").because(&error);
            return report(&session, &failure);
        }
    };
    let outcome = runtime.block_on(run(&session, cli.command));
    // A read of standard input or a name lookup that hangs must not keep the process.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(failure) => report(&session, &failure),
    }
}

fn read(args: &[OsString]) -> Result<Cli, ExitCode> {
    let colour = match session::wanted_colour(args) {
        Some(Paint::Coloured) => clap::ColorChoice::Always,
        Some(Paint::Plain) => clap::ColorChoice::Never,
        None => clap::ColorChoice::Auto,
    };
    let matches = Cli::command().color(colour).try_get_matches_from(args);
    let read = |matches: ArgMatches| Ok(Cli::from_arg_matches(&matches)?.without_empty_variables(&matches));
    matches.and_then(read).map_err(|error| {
        // Help that nobody reads, or an error that cannot be told: the exit code still says it.
        let _ = error.print();
        if error.use_stderr() { ExitCode::Usage } else { ExitCode::Ok }
    })
}

fn report(session: &Session, failure: &Failure) -> ExitCode {
    session.complain(&error::text(failure, session.face_of_errors().paint));
    failure.exit
}

/// Why there is nothing for programs to read, where there is nothing: who asked for it is told, and
/// does not wait for an answer that never comes.
fn has_no_json(command: &Command) -> Option<&'static str> {
    match command {
        Command::Wait(_) => Some("`wait` prints no answer; its exit status is the answer"),
        Command::Serve(args) if args.install => Some("`serve --install` has no answer in JSON"),
        Command::Serve(args) if args.stop => Some("`serve --stop` has no answer in JSON"),
        Command::Serve(args) if args.print_settings => None,
        Command::Serve(_) => Some("`serve` has no answer in JSON"),
        Command::Exec(_) => Some("`exec` prints what the command prints, not JSON"),
        Command::Attach(_) => Some("`attach` prints what the service prints, not JSON"),
        Command::Completion(_) => Some("`completion` prints a script for a shell, not JSON"),
        Command::Up(_)
        | Command::Build(_)
        | Command::Down(_)
        | Command::Ps(_)
        | Command::Logs(_)
        | Command::Start(_)
        | Command::Stop(_)
        | Command::Restart(_)
        | Command::Reload(_)
        | Command::Scale(_)
        | Command::Plan(_)
        | Command::Why(_)
        | Command::Graph(_)
        | Command::Config(_)
        | Command::Events(_)
        | Command::Stats(_)
        | Command::Analyze(_)
        | Command::Apps
        | Command::Device(_)
        | Command::Rollout(_)
        | Command::Webhook(_)
        | Command::Token(_)
        | Command::Audit(_)
        | Command::Version => None,
    }
}

async fn run(session: &Session, command: Command) -> Outcome {
    if session.is_json()
        && let Some(why) = has_no_json(&command)
    {
        return Err(Failure::new(ExitCode::Usage, why).hint("leave out `-o json`"));
    }
    match command {
        Command::Up(args) => up::run(session, args).await,
        Command::Build(args) => build::run(session, args).await,
        Command::Down(args) => down::run(session, args).await,
        Command::Ps(args) => ps::run(session, args).await,
        Command::Logs(args) => logs::run(session, args).await,
        Command::Start(args) => change::start(session, args).await,
        Command::Stop(args) => change::stop(session, args).await,
        Command::Restart(args) => change::restart(session, args).await,
        Command::Reload(args) => change::reload(session, args).await,
        Command::Scale(args) => change::scale(session, args).await,
        Command::Exec(args) => exec::run(session, args).await,
        Command::Attach(args) => attach::run(session, args).await,
        Command::Plan(args) => plan::run(session, args).await,
        Command::Why(args) => why::run(session, args).await,
        Command::Graph(args) => graph::run(session, args).await,
        Command::Config(args) => config::run(session, args),
        Command::Events(args) => events::run(session, args).await,
        Command::Stats(args) => stats::run(session, args).await,
        Command::Analyze(args) => analyze::run(session, args).await,
        Command::Wait(args) => wait::run(session, args).await,
        Command::Apps => apps::run(session).await,
        Command::Device(args) => device::run(session, args).await,
        Command::Rollout(args) => rollout::run(session, args).await,
        Command::Serve(args) => serve::run(session, args).await,
        Command::Webhook(args) => webhook::run(session, args).await,
        Command::Token(args) => token::run(session, args).await,
        Command::Audit(args) => audit::run(session, args).await,
        Command::Completion(args) => completion::run(session, args),
        Command::Version => version::run(session).await,
    }
}

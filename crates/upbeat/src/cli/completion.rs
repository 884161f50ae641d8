//! `completion`: a script for the person's shell.

use clap::CommandFactory;

use super::args::{Cli, CompletionArgs};
use super::session::Session;
use crate::exit::ExitCode;
use crate::failure::Outcome;

pub(super) fn run(session: &Session, args: CompletionArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "upbeat", &mut script);
    session.print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::Ok)
}

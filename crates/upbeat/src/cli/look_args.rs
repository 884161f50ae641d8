//! What can be typed to see what slots use, and what took so long.

use clap::{Args, Subcommand};

/// `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Which; all where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Once a second, until it is interrupted; so it is on a terminal
    #[arg(short, long)]
    pub watch: bool,
    /// Once, also on a terminal
    #[arg(long, conflicts_with = "watch")]
    pub no_stream: bool,
}

/// `analyze`.
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// What is asked
    #[command(subcommand)]
    pub what: AnalyzeCommand,
}

/// Below `analyze`.
#[derive(Debug, Subcommand)]
pub enum AnalyzeCommand {
    /// The chain of dependencies that decided how long the last start took
    CriticalChain {
        /// Until this one was ready; until everything was, where none is named
        #[arg(value_name = "SERVICE")]
        service: Option<String>,
    },
    /// What each slot took by itself, the longest first
    Blame,
}

//! What can be typed of plans.

use clap::{Args, ValueEnum};

/// `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Only these and what they need; all where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// In spite of update locks
    #[arg(long)]
    pub force: bool,
    /// Exit with 9 when there is something to do
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Hold the plan against every rule that plans have to keep
    #[arg(long)]
    pub lint: bool,
    /// For whom
    #[arg(long, value_enum, default_value_t)]
    pub format: PlanFormat,
}

/// For whom a plan is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For the terminal
    #[default]
    Table,
    /// One sentence a step, with the steps it waits for
    Text,
    /// For Graphviz
    Dot,
    /// For Mermaid
    Mermaid,
    /// For programs
    Json,
}

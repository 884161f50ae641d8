//! What can be typed of `config`.

use clap::{Args, Subcommand, ValueEnum};

/// `config`.
#[derive(Clone, Debug, Default, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConfigArgs {
    /// Print the JSON Schema of project files instead, for editors
    #[command(subcommand)]
    pub schema: Option<ConfigCommand>,
    /// How to write it
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: ConfigFormat,
    /// Print the names of services, one on each line
    #[arg(long, conflicts_with_all = ["hash", "no_interpolate"])]
    pub services: bool,
    /// Print the digest of what each service runs: it changes when the service has to be replaced
    #[arg(long, conflicts_with = "no_interpolate")]
    pub hash: bool,
    /// Leave `${…}` as it is
    #[arg(long)]
    pub no_interpolate: bool,
}

/// Below `config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Print the JSON Schema of project files, for editors
    Schema,
}

/// How `config` writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ConfigFormat {
    /// For people
    #[default]
    Yaml,
    /// For programs
    Json,
}

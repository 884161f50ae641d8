//! What can be typed of the device document.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use upbeat_model::AppName;

/// `device`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DeviceArgs {
    /// Only this app
    #[arg(long, value_name = "APP")]
    pub app: Option<AppName>,
    /// What to do [default: print the document, as JSON]
    #[command(subcommand)]
    pub command: Option<DeviceCommand>,
}

/// Below `device`.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Have the machine run what a file says; what it does not name is left alone, `null` deletes
    Apply(DeviceApplyArgs),
    /// Call off what is sought and was not reached: what is half done settles, and nothing further is begun
    Stop,
}

/// `device apply`.
#[derive(Debug, Args)]
pub struct DeviceApplyArgs {
    /// The document, or some of it, as JSON; `-` for standard input
    #[arg(value_name = "FILE")]
    pub from: PathBuf,
    /// The file says this app alone, as below `apps` of a document
    #[arg(long, value_name = "APP")]
    pub app: Option<AppName>,
    /// This is all there shall be: what the file does not name is stopped and removed
    #[arg(long)]
    pub whole: bool,
    /// Wait until what is under way is settled, and do not take its place; of what waits the newest counts
    #[arg(long)]
    pub queue: bool,
    /// Return once nothing is on its way any more
    #[arg(long)]
    pub wait: bool,
}

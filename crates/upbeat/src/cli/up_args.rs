//! What can be typed after `up`, `build` and `down`.

use std::time::Duration;

use clap::Args;

use super::length::patience;

/// `up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Only these and what they need; all where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Build images anew, also those that are there
    #[arg(long)]
    pub build: bool,
    /// Build none: an image that is not there is an error
    #[arg(long, conflicts_with = "build")]
    pub no_build: bool,
    /// In spite of update locks: what holds one is interrupted all the same
    #[arg(long)]
    pub force: bool,
    /// Return once everything was started
    #[arg(short, long)]
    pub detach: bool,
    /// Return once everything is ready: healthy, running where there is no health check, or completed.
    /// Nothing is waited for that waits for a failure of what runs
    #[arg(long)]
    pub wait: bool,
    /// Give up after this long: `90s`, `2m`, or a number of seconds
    #[arg(long, value_name = "TIME", value_parser = patience)]
    pub wait_timeout: Option<Duration>,
}

/// `build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Which; all that have a `build` where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Take over no step of an earlier build
    #[arg(long)]
    pub no_cache: bool,
    /// Ask registries for the images these rest on, also where they are there
    #[arg(long)]
    pub pull: bool,
}

/// `down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// Without the time services are given to stop by themselves
    #[arg(long)]
    pub kill: bool,
    /// Also the volumes that were made for it, and what is in them; those declared `external` stay
    #[arg(short, long)]
    pub volumes: bool,
}

//! What can be typed of rollouts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use upbeat_model::rollout::{Amount, EntityId, Version};

use super::length::length;
use super::unit_args::UnitArgs;

/// `rollout`.
#[derive(Debug, Args)]
pub struct RolloutArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RolloutCommand,
}

/// Below `rollout`.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// List rollouts, and where each is
    Ls(RolloutLsArgs),
    /// Show where a rollout is
    Show(ShowArgs),
    /// Have all targets run a version: in batches, and back if it is bad
    Start(StartArgs),
    /// Say how carefully targets are moved
    Options(OptionsArgs),
    /// One thing that is asked of it.
    #[command(flatten)]
    Change(ChangeCommand),
    /// Explain why a rollout is where it is
    Why(EntityArgs),
    /// List the rollouts that have ended, the latest first
    History(EntityArgs),
    /// List its targets: what each runs, and what it shall run
    Targets(TargetsArgs),
    /// Several entities that go to new versions as one
    Unit(UnitArgs),
    /// Say what targets run, and print what each shall run
    Report(ReportArgs),
    /// Tell beforehand how long a rollout takes and how bad it can become; no daemon is asked
    Simulate(SimulateArgs),
    /// Forget a rollout and all its targets; what they run goes on
    Forget(EntityArgs),
}

/// Below `rollout`: one thing that is asked of a rollout.
#[derive(Debug, Subcommand)]
pub enum ChangeCommand {
    /// Move no more targets for now; those on their way are judged all the same
    Pause(EntityArgs),
    /// Move targets again
    Resume(EntityArgs),
    /// Let a version go on that waits for approval after a stage, or for somebody to say what was measured
    Approve(EntityArgs),
    /// Go one step forward: beyond what it waits for, or the stage it is in; beyond the last it is good
    Promote(PromoteArgs),
    /// Go back to the version that was good before, at once
    Undo(EntityArgs),
    /// Say that the version on its way is bad, and go back to the last good one
    Abort(AbortArgs),
    /// Try the version again that was found to be bad, or measure again what is unclear
    Retry(EntityArgs),
    /// Hold a version to be bad no more
    Forgive(ForgiveArgs),
    /// Say that a target has failed, and is not to be waited for
    Fail(FailArgs),
}

/// Whatever takes a rollout alone.
#[derive(Debug, Args)]
pub struct EntityArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/ENTITY", value_parser = entity)]
    pub entity: EntityId,
}

/// `rollout ls`.
#[derive(Debug, Args)]
pub struct RolloutLsArgs {
    /// Only of this namespace
    #[arg(value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// `rollout show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/ENTITY", value_parser = entity)]
    pub entity: EntityId,
    /// Again whenever it changes
    #[arg(short, long)]
    pub watch: bool,
}

/// `rollout start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/ENTITY", value_parser = entity)]
    pub entity: EntityId,
    /// To which version
    #[arg(value_name = "VERSION", value_parser = version)]
    pub version: Version,
    /// At once, also where another is on its way, which is held to be bad then, and also where this one is
    /// known to be bad
    #[arg(long)]
    pub force: bool,
    /// How carefully.
    #[command(flatten)]
    pub options: SomeOptions,
}

/// `rollout options`.
#[derive(Debug, Args)]
pub struct OptionsArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/ENTITY", value_parser = entity)]
    pub entity: EntityId,
    /// How carefully.
    #[command(flatten)]
    pub options: SomeOptions,
    /// As without being asked, but for what is said besides
    #[arg(long)]
    pub reset: bool,
}

/// How carefully targets are moved; what is not said stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct SomeOptions {
    /// So many targets are on their way at once: `5%` of all, or a number [default: 5%]
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub batch: Option<Amount>,
    /// So many percent of all targets have to be well for the version to be good [default: 100]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub success: Option<u32>,
    /// So long a target has to be well [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = length)]
    pub success_timeout: Option<Duration>,
    /// So long a target has for that in all; then it has failed [default: 120s]
    #[arg(long, value_name = "TIME", value_parser = length)]
    pub duration_timeout: Option<Duration>,
    /// Stages, limits and hours, as JSON: a file, or `-` for standard input
    #[arg(long, value_name = "PATH", conflicts_with_all = ["canary", "stages"])]
    pub strategy: Option<PathBuf>,
    /// Move so many targets first, `1` or `5%`, and wait for approval before the others follow
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub canary: Option<Amount>,
    /// Move targets in waves by a label, in this order: `region=eu,us`; whoever has none of these follows
    #[arg(long, value_name = "LABEL=VALUES", conflicts_with = "canary")]
    pub stages: Option<String>,
    /// So many targets may be unwell at once before no more are moved
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub max_unavailable: Option<Amount>,
    /// So many targets may fail before the version is bad [default: what `--success` leaves]
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub failure_budget: Option<Amount>,
    /// The version is bad when no target more became well for so long
    #[arg(long, value_name = "TIME", value_parser = length)]
    pub progress_deadline: Option<Duration>,
}

/// `rollout abort`.
#[derive(Debug, Args)]
pub struct AbortArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/ENTITY", value_parser = entity)]
    pub entity: EntityId,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// `rollout promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/ENTITY", value_parser = entity)]
    pub entity: EntityId,
    /// Beyond all steps: it is good, whatever it waits for
    #[arg(long)]
    pub all: bool,
}

/// `rollout fail`.
#[derive(Debug, Args)]
pub struct FailArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/ENTITY", value_parser = entity)]
    pub entity: EntityId,
    /// Which target: its name, or `group/name`
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// `rollout forgive`.
#[derive(Debug, Args)]
pub struct ForgiveArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/ENTITY", value_parser = entity)]
    pub entity: EntityId,
    /// Which version
    #[arg(value_name = "VERSION", value_parser = version)]
    pub version: Version,
}

/// `rollout targets`.
#[derive(Debug, Args)]
pub struct TargetsArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/ENTITY", value_parser = entity)]
    pub entity: EntityId,
    /// Only of this group
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
}

/// `rollout report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/ENTITY", value_parser = entity)]
    pub entity: EntityId,
    /// What they run, as `name=version`; `group/name=version` in a group
    #[arg(value_name = "TARGET=VERSION", required_unless_present = "from", conflicts_with = "from")]
    pub targets: Vec<String>,
    /// Read it from a file, `-` for standard input: `{"targets": [{"name": …, "version": …}]}`
    #[arg(long, value_name = "PATH")]
    pub from: Option<PathBuf>,
}

/// `rollout simulate`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// How many targets there are
    #[arg(long, value_name = "N")]
    pub targets: usize,
    /// How likely a target is not well on the new version: `0.02`
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub failure_rate: f64,
    /// How long a target takes to switch: `10s`, or at least and at most so long: `5s..30s`
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span)]
    pub switch: (Duration, Duration),
    /// So often targets are reported
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = length)]
    pub every: Duration,
    /// So long it takes somebody to approve [default: nobody does]
    #[arg(long, value_name = "TIME", value_parser = length)]
    pub approve_after: Option<Duration>,
    /// So often it is tried
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub runs: usize,
    /// Where chance begins: the same seed tells the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How carefully.
    #[command(flatten)]
    pub options: SomeOptions,
}

/// `5s..30s`, or `10s`.
fn span(text: &str) -> Result<(Duration, Duration), String> {
    match text.split_once("..") {
        None => length(text).map(|time| (time, time)),
        Some((least, most)) => Ok((length(least)?, length(most)?)),
    }
}

/// `prod/web`; what follows the first `/` is the name of the entity.
pub(super) fn entity(text: &str) -> Result<EntityId, String> {
    let (namespace, entity) =
        text.split_once('/').ok_or("expected `NAMESPACE/ENTITY`, as `upbeat rollout ls` lists them")?;
    EntityId::new(namespace, entity).map_err(|error| error.to_string())
}

fn version(text: &str) -> Result<Version, String> {
    Version::new(text).map_err(|error| error.to_string())
}

fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    number.parse().ok().filter(|n| *n <= 100).ok_or_else(|| "expected a number from 0 to 100".to_owned())
}

/// `5%`, or `3`.
fn amount(text: &str) -> Result<Amount, String> {
    match text.strip_suffix('%') {
        Some(_) => percent(text).map(Amount::Percent),
        None => text
            .parse()
            .map(Amount::Count)
            .map_err(|_| "expected a percentage like `5%`, or a number of targets".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_amounts_are_read_as_people_write_them() {
        assert_eq!(entity("prod/web/eu").unwrap(), EntityId::new("prod", "web/eu").unwrap());
        assert!(entity("prod").unwrap_err().contains("NAMESPACE/ENTITY"));
        assert_eq!(entity("/web").unwrap_err(), "`namespace` must not be empty");
        assert_eq!(amount("5%"), Ok(Amount::Percent(5)));
        assert_eq!(amount("7"), Ok(Amount::Count(7)));
        for bad in ["", "%", "101%", "-1", "1.5", "5 %", "many"] {
            assert!(amount(bad).is_err(), "{bad}");
        }
        assert_eq!((percent("90"), percent("90%")), (Ok(90), Ok(90)));
    }
}

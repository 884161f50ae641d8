//! What can be typed of units of rollouts.

use clap::{Args, Subcommand};
use upbeat_model::rollout::{EntityId, Version};

/// `rollout unit`.
#[derive(Debug, Args)]
pub struct UnitArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: UnitCommand,
}

/// Below `rollout unit`.
#[derive(Debug, Subcommand)]
pub enum UnitCommand {
    /// Have several entities go to new versions as one: in the order of their needs, and back if one is bad
    Start(UnitStartArgs),
    /// List units, and where each is
    Ls(UnitLsArgs),
    /// Show where a unit and each of its members is
    Show(UnitShowArgs),
    /// Have all members that have begun go back, the last first
    Abort(UnitAbortArgs),
    /// Take each member for good as soon as it has begun, one after the other
    Promote(UnitNameArgs),
    /// Begin no member and move no target for now
    Pause(UnitNameArgs),
    /// Go on
    Resume(UnitNameArgs),
    /// Forget a unit, wherever it is; its members stay where they are, and each goes its own way
    Forget(UnitNameArgs),
}

/// Whatever takes a unit alone.
#[derive(Debug, Args)]
pub struct UnitNameArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/UNIT", value_parser = unit)]
    pub unit: EntityId,
}

/// `rollout unit show`.
#[derive(Debug, Args)]
pub struct UnitShowArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/UNIT", value_parser = unit)]
    pub unit: EntityId,
    /// Again whenever it or one of its members changes
    #[arg(short, long)]
    pub watch: bool,
}

/// `rollout unit ls`.
#[derive(Debug, Args)]
pub struct UnitLsArgs {
    /// Only of this namespace
    #[arg(value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// `rollout unit abort`.
#[derive(Debug, Args)]
pub struct UnitAbortArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/UNIT", value_parser = unit)]
    pub unit: EntityId,
    /// Why, for those who look later
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// `rollout unit start`.
#[derive(Debug, Args)]
pub struct UnitStartArgs {
    /// Which
    #[arg(value_name = "NAMESPACE/UNIT", value_parser = unit)]
    pub unit: EntityId,
    /// The entities of this namespace that are in it, and to which version each goes
    #[arg(value_name = "ENTITY=VERSION", required = true, value_parser = member)]
    pub members: Vec<(String, Version)>,
    /// The first begins when the second is good on its version: `b:a`; as often as there are needs
    #[arg(long, value_name = "ENTITY:ENTITY")]
    pub needs: Vec<String>,
}

/// `prod/release`; what follows the first `/` is the name of the unit.
fn unit(text: &str) -> Result<EntityId, String> {
    let (namespace, unit) =
        text.split_once('/').ok_or("expected `NAMESPACE/UNIT`, as `upbeat rollout unit ls` lists them")?;
    EntityId::new(namespace, unit).map_err(|error| error.to_string())
}

/// `a=v2`
fn member(text: &str) -> Result<(String, Version), String> {
    let (entity, version) = text.rsplit_once('=').ok_or("expected `ENTITY=VERSION`, such as `web=v2`")?;
    Ok((entity.to_owned(), Version::new(version).map_err(|error| error.to_string())?))
}

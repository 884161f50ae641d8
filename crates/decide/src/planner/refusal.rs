//! Why there is no plan: which slot, which condition, and which two wishes contradict each other.

use upbeat_model::plan::{HostPort, Lock};
use upbeat_model::project::Condition;
use upbeat_model::{AppName, ServiceName, SlotId};

/// Why there is no plan. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// A service holds its update lock.
    #[error(
        "`{service}` of `{app}` shall be interrupted, but it holds its update lock, {lock} (wait until it lets \
         go, or use `--force`)"
    )]
    Locked {
        /// Of which app.
        app: AppName,
        /// Which.
        service: ServiceName,
        /// Who, since when.
        lock: Lock,
    },
    /// What a slot needs can never hold.
    #[error(
        "`{}` shall run, for which `{on}` has to be {}; but {}",
        slot.short(), condition.word(), why
    )]
    NeverHolds {
        /// What shall run.
        slot: SlotId,
        /// What it rests on.
        on: ServiceName,
        /// What would have to hold of that.
        condition: Condition,
        /// The other wish, or what is there.
        why: &'static str,
    },
    /// Two slots want one port.
    #[error(
        "`{}` shall publish port {port}, but `{}` {}",
        slot.short(), other.short(), if *stays { "holds it and shall go on running" } else { "shall publish it too" }
    )]
    Port {
        /// Which.
        port: HostPort,
        /// One.
        slot: SlotId,
        /// The other.
        other: SlotId,
        /// That one runs and is not touched.
        stays: bool,
    },
    /// A container that is none of what is planned holds a port.
    #[error("`{}` shall publish port {port}, but container `{by}`, which is not this app's, holds it", slot.short())]
    PortHeld {
        /// Which.
        port: HostPort,
        /// Who needs it.
        slot: SlotId,
        /// Who has it.
        by: String,
    },
    /// Two slots want one name.
    #[error("`{}` and `{}` shall both be called `{name}`: give one of them another `container_name`", slot.short(), other.short())]
    Name {
        /// Which.
        name: String,
        /// One.
        slot: SlotId,
        /// The other.
        other: SlotId,
    },
    /// Two slots want different things under one name.
    #[error("`{}` and `{}` both want {what} `{name}`, but with different settings", slot.short(), other.short())]
    Different {
        /// `network` or `volume`.
        what: &'static str,
        /// Its name.
        name: String,
        /// One.
        slot: SlotId,
        /// The other.
        other: SlotId,
    },
    /// An image is not there and may not be got.
    #[error(
        "`{}` shall run image `{image}`, but that is not there and its `pull_policy` is `never` (pull it, or \
         use another policy)",
        slot.short()
    )]
    NoImage {
        /// Whose.
        slot: SlotId,
        /// Which.
        image: String,
    },
    /// Something of somebody else has the name.
    #[error("`{}` needs {what} `{name}`, but one of that name is there and is not this app's (use another name, or remove it)", slot.short())]
    NotOurs {
        /// `a container`, `a network`, `a volume`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Who needs it.
        slot: SlotId,
    },
    /// What is declared `external` is not there.
    #[error("`{}` needs {what} `{name}`, which is declared `external` and is not there (make it first)", slot.short())]
    NotThere {
        /// `network` or `volume`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Who needs it.
        slot: SlotId,
    },
    /// A network has other settings now, and others are in it.
    #[error(
        "`{}` needs network `{name}` with other settings than it was made with, so it has to be made anew; but \
         `{}` is in it and is not of this app (take that out: `docker network disconnect {name} {}`, or leave the \
         network as it was)",
        slot.short(),
        by.join("`, `"),
        by.first().map_or("", String::as_str)
    )]
    Shared {
        /// Its name.
        name: String,
        /// Who needs it.
        slot: SlotId,
        /// The containers of others.
        by: Vec<String>,
    },
    /// What has to be made anew is used by something that stays.
    #[error("network or volume `{name}` has to be made anew, but `{slot}` uses it and shall stay as it is")]
    InUse {
        /// Its name.
        name: String,
        /// Who uses it.
        slot: SlotId,
    },
    /// Planning was told to end.
    #[error("planning was interrupted")]
    Interrupted,
    /// It would take more work than it was given.
    #[error("the plan would be larger than planning is given room for ({0} steps and edges)")]
    TooLarge(usize),
}

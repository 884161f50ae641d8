//! Why an engine did not do something.

use std::io;
use std::path::PathBuf;

use upbeat_control::rollouts::RolloutError;
use upbeat_model::rollout::{BadName, BadVersion, EntityId};
use upbeat_store::StoreError;

/// Why an engine did not do something. But for what its text says, nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// It is no name of a namespace, an entity, a group or a target.
    #[error(transparent)]
    Name(#[from] BadName),
    /// It is no version.
    #[error(transparent)]
    Version(#[from] BadVersion),
    /// A target's tags cannot be kept.
    #[error("the tags of target `{target}` must {must}")]
    Tags {
        /// Of which.
        target: String,
        /// What they must be.
        must: String,
    },
    /// What is said is longer than is kept.
    #[error("`{field}` must have {} bytes at most", upbeat_model::rollout::MESSAGE_MAX)]
    Long {
        /// Which words: `by`, `why`.
        field: &'static str,
    },
    /// Two of the states are of one target.
    #[error("target `{target}` is reported twice: report each once")]
    Twice {
        /// Which.
        target: String,
    },
    /// Nobody has named it.
    #[error("there is no entity `{0}`: the first thing that is asked of one makes it")]
    Unknown(EntityId),
    /// It asks a controller of this program, which this run of it has not named yet.
    #[error(
        "entity `{id}` asks a {role} controller of this program, and none is registered: call `{call}` for it \
         before anything is decided about it, or name others with `set_web_controllers`"
    )]
    NotRegistered {
        /// Which entity.
        id: EntityId,
        /// Which controller: `target`, `monitoring`.
        role: &'static str,
        /// What registers it.
        call: &'static str,
    },
    /// It makes no sense where the entity is, nothing could be decided, or it could not be kept.
    #[error(transparent)]
    Rollout(RolloutError),
    /// The directory cannot be used.
    #[error("rollouts cannot be kept in {}", directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is kept cannot be read: another engine has it, or it is damaged.
    #[error("rollouts cannot be read from {}", place.display())]
    Open {
        /// Which file.
        place: PathBuf,
        /// Why not.
        source: StoreError,
    },
    /// All was decided and kept, but for the time: targets have to be well for somewhat longer.
    #[error("what the clock of rollouts shows could not be stored")]
    Clock(#[source] StoreError),
    /// The engine was shut down.
    #[error("this engine was shut down: open another one")]
    ShutDown,
    /// There is a bug in Upbeat, or the runtime has ended.
    #[error("a call about rollouts came to no end: {0}")]
    Failed(String),
}

impl From<RolloutError> for EngineError {
    fn from(error: RolloutError) -> Self {
        match error {
            RolloutError::NoSuchEntity(id) => Self::Unknown(id),
            other => Self::Rollout(other),
        }
    }
}

//! Why something about a rollout was not done.

use std::fmt;

use upbeat_decide::rollout::unit::UnitRefused;
use upbeat_decide::rollout::{Nothing, Refused};
use upbeat_model::rollout::{ControllerError, EntityId};
use upbeat_store::{StoreError, VALUE_MAX};

use super::Share;
use super::keep::NotKept;

/// Why something about a rollout was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RolloutError {
    /// Nobody has named it.
    #[error("there is no rollout `{0}`")]
    NoSuchEntity(EntityId),
    /// It makes no sense where the entity is.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nothing can be decided.
    #[error(transparent)]
    Nothing(#[from] Nothing),
    /// Nobody can be asked so.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// No more entities fit.
    #[error("there are {max} rollouts already, and no more fit")]
    TooManyEntities {
        /// So many do.
        max: usize,
    },
    /// Who comes without a token has a share of them.
    #[error("those who come without a token have {max} rollouts already, and no more of theirs fit")]
    TooManyOfListener {
        /// So many do.
        max: usize,
    },
    /// All of them together take as much memory as they may.
    #[error("there is no room for more of rollout `{id}`: {}", NoRoom { share: *share, held: *held, max: *max, most: most.as_deref() })]
    NoRoom {
        /// Of which.
        id: EntityId,
        /// Whose share is full.
        share: Share,
        /// About so many bytes are taken.
        held: u64,
        /// So many fit.
        max: u64,
        /// Who takes most of that, and how much.
        most: Option<Box<(EntityId, u64)>>,
    },
    /// There was no room for some of what was reported. All else of it is kept, and counts.
    #[error(
        "{new} new targets of rollout `{id}`, and new labels of {labels} that are known, were not taken, and all else is kept: {why}"
    )]
    NotTaken {
        /// Of which.
        id: EntityId,
        /// So many targets are as if nobody had reported them.
        new: usize,
        /// So many have the labels they had.
        labels: usize,
        /// Why there was none.
        why: Box<RolloutError>,
    },
    /// No more targets fit.
    #[error("rollout `{id}` would have {count} targets, and {max} fit")]
    TooManyTargets {
        /// Of which entity.
        id: EntityId,
        /// So many.
        count: usize,
        /// So many do.
        max: usize,
    },
    /// There is more to be kept of one entity than fits. Nothing has changed.
    #[error(
        "what is known of rollout `{id}` would not fit: it would have {size} bytes where {max} fit, and most of them are {what}"
    )]
    TooLarge {
        /// Of which.
        id: EntityId,
        /// What takes most of it.
        what: String,
        /// So many bytes.
        size: usize,
        /// So many fit.
        max: usize,
    },
    /// What is asked for is too much to be kept.
    #[error("`{field}` of rollout `{id}` would have {size} bytes where they are kept, and {max} fit")]
    Large {
        /// Of which.
        id: EntityId,
        /// What.
        field: &'static str,
        /// So many bytes.
        size: usize,
        /// So many fit.
        max: usize,
    },
    /// Too many wait for a decision about one entity.
    #[error("{waiting} calls about rollout `{id}` wait for its controllers already")]
    Busy {
        /// Which.
        id: EntityId,
        /// So many.
        waiting: usize,
    },
    /// Somebody had to be asked, and there was no answer. What was reported is kept.
    #[error("nothing was decided about rollout `{id}`: {why}")]
    Unanswered {
        /// Which.
        id: EntityId,
        /// Why there was none.
        why: String,
    },
    /// All of this ends, and controllers are not waited for. What was reported is kept.
    #[error(
        "nothing was decided about rollout `{0}`: whoever decides is being shut down, and what was reported is kept"
    )]
    Ends(EntityId),
    /// It could not be kept.
    #[error("what is known of rollout `{id}` could not be stored")]
    Store {
        /// Of which entity.
        id: EntityId,
        /// Why not.
        source: StoreError,
    },
    /// Nobody has named it.
    #[error("there is no unit `{0}`")]
    NoSuchUnit(EntityId),
    /// It makes no sense where the unit is.
    #[error(transparent)]
    Unit(#[from] UnitRefused),
    /// It has the version that its unit says, as long as that runs.
    #[error("`{id}` is in unit `{unit}`, which is on its way")]
    InUnit {
        /// Which.
        id: EntityId,
        /// In which.
        unit: EntityId,
    },
    /// Somebody else was about to begin it, and was refused.
    #[error("unit `{0}` was forgotten just now")]
    UnitBusy(EntityId),
    /// No more units fit.
    #[error("{max} units are on their way, and no more fit")]
    TooManyUnits {
        /// So many do.
        max: usize,
    },
    /// It could not be kept.
    #[error("what is known of unit `{id}` could not be stored")]
    UnitStore {
        /// Which.
        id: EntityId,
        /// Why not.
        source: StoreError,
    },
    /// There is a bug in Upbeat.
    #[error("a bug in Upbeat met a rollout: {0}")]
    Failed(String),
}

struct NoRoom<'a> {
    share: Share,
    held: u64,
    max: u64,
    most: Option<&'a (EntityId, u64)>,
}

impl fmt::Display for NoRoom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebi = |bytes: u64| bytes.div_ceil(1 << 20);
        let whose = match self.share {
            Share::Whole => "all rollouts together take",
            Share::Listener => "those of who comes without a token take",
        };
        write!(f, "{whose} about {} MiB, and {} fit", mebi(self.held), mebi(self.max))?;
        match self.most {
            Some((id, bytes)) => write!(f, "; `{id}` takes most of that, {} MiB", mebi(*bytes)),
            None => Ok(()),
        }
    }
}

/// What does not fit is the fault of whoever asked for it.
pub(super) fn not_kept(id: &EntityId, error: NotKept) -> RolloutError {
    let id = id.clone();
    match error {
        NotKept::TooLarge { what, size } => {
            RolloutError::TooLarge { id, what: what.to_owned(), size, max: VALUE_MAX }
        }
        NotKept::Store(StoreError::ValueTooLarge { key, size, max }) => {
            RolloutError::TooLarge { id, what: format!("`{key}`"), size, max }
        }
        NotKept::Store(StoreError::RequestTooLarge { size, max }) => {
            RolloutError::TooLarge { id, what: "what is to be written at once".to_owned(), size, max }
        }
        NotKept::Store(source) => RolloutError::Store { id, source },
        NotKept::Failed(error) => error,
    }
}

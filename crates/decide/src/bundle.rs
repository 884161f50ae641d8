//! What comes of a decision, and what is told of it.

use std::collections::BTreeMap;

use upbeat_model::project::Reaction;
use upbeat_model::{Attempt, Mono, Phase, ProbeName, SlotId, SlotStatus, Timeline};

use crate::effect::Effect;
use crate::instance::{Durable, Mark, Taken};

/// What to do with a decision, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// First: commit these; `None` forgets the slot.
    pub persist: BTreeMap<SlotId, Option<Durable>>,
    /// Then: perform these, in any order.
    pub effects: Vec<Effect>,
    /// Then: tell whoever wants to know. Only slots that look different than before.
    pub statuses: BTreeMap<SlotId, Change>,
    /// And what was done about failing probes.
    pub reacted: Vec<Reacted>,
    /// And what came of what was done before.
    pub outcomes: Vec<Outcome>,
}

/// What came of something that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A start failed, or its copy ended, or was no good, before it was ever ready. None that was stopped
    /// because somebody had asked for that, or for the sake of what it rests on.
    StartFailed {
        /// Of which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
    },
    /// A command was run about a failing probe, or a signal could not be sent.
    Remedied {
        /// Of which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// Which probe.
        probe: ProbeName,
        /// How it failed, if it did.
        failure: Option<String>,
    },
    /// Its container was stopped or removed by another hand than ours.
    Taken {
        /// Of which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// How.
        how: Taken,
    },
    /// Its container was not as it should be, and was put right.
    Mended {
        /// Of which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// What was wrong, in words.
        what: String,
        /// How that failed, if it did.
        failure: Option<String>,
    },
    /// It was asked to read its configuration anew.
    Reloaded {
        /// Of which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// How that failed, if it did.
        failure: Option<String>,
    },
}

/// Something was done about a failing probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reacted {
    /// Of which slot.
    pub slot: SlotId,
    /// Of which attempt.
    pub attempt: Attempt,
    /// Which probe.
    pub probe: ProbeName,
    /// What was done.
    pub action: Reaction,
    /// What the probe was answered.
    pub last: String,
    /// How often within its window, this time included.
    pub times: u32,
}

/// A slot that looks different than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its phase before.
    pub from: Phase,
    /// How it looks now.
    pub status: SlotStatus,
    /// Under which wish the copy there runs or ended.
    pub mark: Option<Mark>,
    /// How far its last start came, and when.
    pub timeline: Option<Timeline>,
    /// Since when the copy is up that is there, on the clock that never steps.
    pub up_since: Option<Mono>,
    /// The machine was looked at: it is known what runs there.
    pub is_looked_at: bool,
    /// This is what was seen, not what is remembered of before a restart: also how its probes stand.
    pub is_seen: bool,
}

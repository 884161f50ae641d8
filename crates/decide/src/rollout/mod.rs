//! The rollout machine: which version each target of an entity shall run. The only authority on versions.
//!
//! ```text
//!               rolling := target              required are well: good := rolling
//!   ┌────────┐ ──────────────────▶ ┌─────────┐ ──────────────────────────────────┐
//!   │ Steady │                     │ Forward │                                   │
//!   └────────┘ ◀───────────────────└─────────┘───────────────────────────────────┘
//!     ▲   ▲                          │ more failed than may, or somebody says so: bad := rolling
//!     │   │ rolling := target        ▼
//!     │   │ (another)        ┌──────────────┐ there is a good one: all go back to it
//!     │   └───────────────── │     Back     │
//!     │                      └──────────────┘
//!     │                      ┌──────────────┐ there is none: nobody is moved
//!     └───────────────────── │    Halted    │
//!                            └──────────────┘
//! ```
//!
//! A target is *available* until the version in force is assigned to it. Then it is *on its way* until it is
//! *well* (it has reported that version, and no error, for longer than the success timeout) or has *failed*
//! (it is not well, and the duration timeout is over). Only targets on their way take a place in the batch, so
//! that places become free one by one: a sliding window, without a barrier between batches.
//!
//! **Stages.** On its way forward, a version may go through [`Stage`]s, one after the other: a canary is one of
//! so many, a wave is one of labels, and the last is of whoever is left. Only targets of stages that have begun
//! are moved; when enough of its own are well a stage is done, its gate holds everything up, and the next
//! begins (drawn in `judge`). Going back knows no stages: all at once, as far as the batch allows.
//!
//! **Analyses.** What is measured of a version may speak against it: then it is bad, whatever its targets say. It
//! holds up what follows a stage, or that the version is good, until it speaks for it (drawn in `analysis`).
//!
//! **What holds targets back**, in this order: a person's pause, an analysis that is unclear, what is measured after
//! a stage and the gate of that, closed windows, a full batch, too many that are unwell, and whoever selects and approves. Each is said by a [`Reason`]. Nothing of
//! that but the batch and those that are unwell holds up who goes back.
//!
//! Laws: pure, so time is an argument; one call is one decision over all that is known, so what is reported
//! twice, late or in another order changes nothing that is not true; a decision that needs to ask somebody
//! says what, and is made anew, from the same state, with the answer.
//!
//! Where `spec/nixmade.md` 2.(c) calls the first such engine wrong, this one differs; `docs/rollouts.md` lists
//! each difference.

mod analysis;
mod change;
mod cycle;
mod history;
mod ingest;
mod judge;
mod measured;
mod progress;
pub mod simulate;
mod take_on;
mod targets;
#[cfg(test)]
mod tests;
mod told;
pub mod unit;
mod view;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use upbeat_model::Mono;
pub use upbeat_model::rollout::{Counts, Course, Pause};
use upbeat_model::rollout::{Happened, Held, Options, Past, Reason, Stage, Strategy, Version};

pub use analysis::{Analysis, Next, Verdict};
pub use change::{Change, Refused};
pub use cycle::{Decision, decide};
pub use history::GOOD_MAX;
pub use ingest::ZOMBIE_AFTER;
pub use judge::{Position, Progressed};
pub use measured::{Due, Measured};
pub use progress::Standings;
pub use take_on::HAPPENED_MAX;
pub use targets::Targets;
pub use told::{Answer, Asks, NewTarget, Nothing, Question, Step, Told};

/// So many versions are remembered as bad; of more, those that are known longest are forgotten.
pub const KNOWN_BAD_MAX: usize = 100;

/// A target of an entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What it was reported to run. Its note is the controller's, and its time is since when it is as well, or
    /// as unwell, as that says.
    pub current: Held,
    /// What it shall run. Its note is ours.
    pub assigned: Held,
    /// By which waves choose.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it was reported last. What is kept may be older than what was: it shows less then, and never more.
    pub seen: Mono,
    /// In which stage it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<u16>,
    /// Whoever selects has made it, in addition to those that were there when the rollout began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_extra: bool,
    /// It was said to have failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Box<Failure>>,
}

/// That a target has failed was said, and nobody waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// On which version. With another, it may do better.
    pub version: Version,
    /// Who said so, until the next rollout begins; none: its controller, until that reports otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    pub why: String,
}

/// Why a version is not to be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// What showed it.
    pub reason: Reason,
    /// When.
    pub at: Mono,
    /// Until when that is held against it; none: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Mono>,
}

/// What is being rolled out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// Which version.
    pub version: Version,
    /// Since when.
    pub since: Mono,
    /// It was found to be bad, and is until another takes its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_bad: bool,
    /// The how manieth rollout of the entity.
    #[serde(default)]
    pub number: u64,
    /// What was good when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Version>,
    /// Who asked for it, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// In which it goes forward, as they were when it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// In which of them it is; behind the last when all are done.
    #[serde(default)]
    pub stage: usize,
    /// Since when that is done, and waits at its gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_gate: Option<Mono>,
    /// How far it has come; looked at where there is a deadline for that.
    #[serde(default)]
    pub progressed: Progressed,
    /// So many targets that were there before it were removed.
    #[serde(default)]
    pub removed: usize,
    /// Somebody went back to it: it needs no window.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_undo: bool,
    /// It is bad, and all targets have gone back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_back: bool,
    /// What is measured of it, as that was when it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub analyses: Vec<Measured>,
}

/// All that is known of an entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// How carefully its targets are moved.
    pub options: Options,
    /// In which stages, and within which limits. Its stages are those of the next rollout, the rest holds at
    /// once.
    #[serde(default)]
    pub strategy: Strategy,
    /// The version that was asked for last.
    pub target: Option<Version>,
    /// The one that is being rolled out, or was last.
    pub rolling: Option<Rolling>,
    /// The last that was good.
    pub good: Option<Version>,
    /// The last that was found to be bad.
    pub bad: Option<Version>,
    /// All that are held to be bad.
    #[serde(default)]
    pub known_bad: BTreeMap<Version, Bad>,
    /// Nobody is to be moved for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Who asked for the version that was asked for last, where somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// Those that were good before the last, the latest at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub good_before: Vec<Version>,
    /// The rollouts that have ended, the latest at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Past>,
    /// The number of the last rollout.
    #[serde(default)]
    pub number: u64,
    /// Why the last decision was not otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// What happened since somebody took note of that: [`Rollout::take_happened`].
    #[serde(skip)]
    pub happened: Vec<Happened>,
    /// Since when somebody listens to reports.
    #[serde(skip)]
    pub woke: Mono,
    /// Whom it is about. Written down apart, as only few of many change at once.
    #[serde(skip)]
    pub targets: Targets,
}

impl Rollout {
    /// Where it is.
    pub fn course(&self) -> Course {
        match (&self.rolling, &self.target, &self.good) {
            (None, None, _) => Course::None,
            // It begins with the next decision.
            (None, Some(target), _) => Course::Forward(target.clone()),
            (Some(rolling), _, good) if !rolling.is_bad => match good.as_ref() == Some(&rolling.version) {
                true => Course::Steady(rolling.version.clone()),
                false => Course::Forward(rolling.version.clone()),
            },
            (Some(rolling), _, Some(good)) => {
                Course::Back { from: rolling.version.clone(), to: good.clone() }
            }
            (Some(rolling), _, None) => Course::Halted(rolling.version.clone()),
        }
    }

    /// The version that targets are moved to now.
    pub fn in_force(&self) -> Option<Version> {
        match self.course() {
            Course::None | Course::Halted(_) => None,
            Course::Steady(version) | Course::Forward(version) | Course::Back { to: version, .. } => {
                Some(version)
            }
        }
    }

    /// Why a version is not to be used, if that is known and still holds.
    pub fn is_known_bad(&self, version: &Version, now: Mono) -> Option<&Bad> {
        self.known_bad.get(version).filter(|bad| bad.until.is_none_or(|until| now < until))
    }

    /// So many targets that were there before this rollout were removed.
    fn removed(&self) -> usize {
        self.rolling.as_ref().map_or(0, |rolling| rolling.removed)
    }

    /// The version that was asked for last, where it is another than the one that is rolled out.
    fn queued(&self) -> Option<Version> {
        let rolls = &self.rolling.as_ref()?.version;
        self.target.clone().filter(|target| target != rolls)
    }
}

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
//! Laws: pure, so time is an argument; one call is one decision over all that is known, so what is reported
//! twice, late or in another order changes nothing that is not true; a decision that needs to ask somebody
//! says what, and is made anew, from the same state, with the answer.
//!
//! Where `spec/nixmade.md` 2.(c) calls the first such engine wrong, this one differs; `docs/rollouts.md` lists
//! each difference.

mod analysis;
mod change;
mod cycle;
mod ingest;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use upbeat_model::Mono;
use upbeat_model::rollout::{Held, Options, Reason, Version};

pub use analysis::{Analysis, Next, Verdict};
pub use change::{Change, Refused};
pub use cycle::{Answer, Asks, Counts, Decision, NewTarget, Nothing, Question, Step, Told, decide};
pub use ingest::ZOMBIE_AFTER;
pub use targets::Targets;

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
}

/// Nobody is to be moved for now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who says so.
    pub by: String,
    /// Since when.
    pub at: Mono,
}

/// All that is known of an entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// How carefully its targets are moved.
    pub options: Options,
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
    /// Since when somebody listens to reports.
    #[serde(skip)]
    pub woke: Mono,
    /// Whom it is about. Written down apart, as only few of many change at once.
    #[serde(skip)]
    pub targets: Targets,
}

/// Where an entity is between versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// No version was ever asked for.
    None,
    /// Its version is good.
    Steady(Version),
    /// A version is being rolled out that is neither good nor bad yet.
    Forward(Version),
    /// A version was bad: all go back to the one that was good before.
    Back {
        /// Which was bad.
        from: Version,
        /// Which was good.
        to: Version,
    },
    /// A version was bad, and none was ever good.
    Halted(Version),
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

    /// What is being rolled out is bad from now on.
    fn condemn(&mut self, reason: Reason, now: Mono) {
        let Some(rolling) = self.rolling.as_mut() else { return };
        rolling.is_bad = true;
        self.bad = Some(rolling.version.clone());
        self.known_bad.insert(rolling.version.clone(), Bad { reason, at: now, until: None });
        while self.known_bad.len() > KNOWN_BAD_MAX {
            let others = self.known_bad.iter().filter(|(version, _)| Some(*version) != self.bad.as_ref());
            let Some(oldest) = others.min_by_key(|(_, bad)| bad.at).map(|(version, _)| version.clone())
            else {
                return;
            };
            self.known_bad.remove(&oldest);
        }
    }

    /// It begins to be rolled out.
    fn roll(&mut self, version: Version, now: Mono) {
        // Whoever was given it before has its time from now on, or would be found to have failed at once.
        let has_it = |target: &Target| target.assigned.version.as_ref() == Some(&version);
        self.targets.change_each(has_it, |target| {
            (target.assigned.since, target.assigned.note.is_error) = (now, false);
        });
        self.rolling = Some(Rolling { version, since: now, is_bad: false });
        self.pause = None;
    }
}

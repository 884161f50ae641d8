//! Several entities that go to new versions in the order of their needs, and back as one.
//!
//! ```text
//!             all members are good
//!   ┌─────────┐ ───────────────────────────────▶ Good
//!   │ Forward │
//!   └─────────┘
//!        │ a member is bad, or was changed or refused, or somebody says so
//!        ▼                                  all that had begun are back
//!   ┌─────────┐ ───────────────────────────────▶ RolledBack
//!   │  Back   │    the same, and one had nothing to go back to
//!   └─────────┘ ───────────────────────────────▶ Halted
//!
//!   a member:   Waits ──▶ Forward ──▶ Good          Forward, Good ──▶ GoesBack ──▶ Back, Halted
//!                            └──▶ Bad                         Bad ──────────────▶ Back, Halted
//! ```
//!
//! Laws:
//! * A member begins when all that it needs are good on the unit's versions, and one that has not begun when the
//!   unit goes back never begins.
//! * Only when all are good the unit is; until then nothing is final: a member whose version is good goes back
//!   like any other. It goes back when all that need it are back: none of their targets is to be moved any
//!   more, or on its way.
//! * Each goes back to what was good when the unit began. Where nothing was, what is on its way is held to be
//!   bad, and what is good already stays; the unit is *halted* then, not rolled back.
//! * A decision is a function of what is kept of the unit and of what is so of its members. That a member begins
//!   is kept before it is asked of it, and each thing is asked until it is seen to be done: so it does no harm
//!   to ask twice, or to end in between.
//! * Whoever gives a member another version by hand while the unit runs is refused, as control does it; to pause,
//!   promote or abort a member alone is allowed, and an aborted member is a bad one. Should a member have a
//!   version all the same that the unit knows nothing of, the unit goes back, and leaves that member alone.

mod run;

use serde::{Deserialize, Serialize};
use upbeat_model::Mono;
use upbeat_model::rollout::{
    Counts, EntityId, MemberWord, Reason, UNIT_HISTORY_MAX, UnitError, UnitMember, UnitWhy, UnitWord,
    Version, in_order,
};

use super::{Change, Course, Rollout};

/// What is so of a member, as far as its unit looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it is.
    pub course: Course,
    /// The version that was asked for last.
    pub target: Option<Version>,
    /// The version that is rolled out, or was last.
    pub rolling: Option<Version>,
    /// The last that was good.
    pub good: Option<Version>,
    /// The how manieth rollout that is.
    pub number: u64,
    /// Who wants nobody to be moved.
    pub paused_by: Option<String>,
    /// Why the version that is rolled out is bad, if it is.
    pub bad: Option<Reason>,
    /// How its targets stand to the version in force.
    pub counts: Counts,
}

impl Seen {
    /// Of this one.
    pub fn of(rollout: &Rollout, now: Mono) -> Self {
        Self::by(rollout, rollout.counts(now))
    }

    /// The same, where it is known how its targets stand.
    pub fn by(rollout: &Rollout, counts: Counts) -> Self {
        let rolling = rollout.rolling.as_ref();
        let bad = rolling.filter(|rolling| rolling.is_bad);
        let bad = bad.and_then(|rolling| rollout.known_bad.get(&rolling.version));
        Self {
            course: rollout.course(),
            target: rollout.target.clone(),
            rolling: rolling.map(|rolling| rolling.version.clone()),
            good: rollout.good.clone(),
            number: rollout.number,
            paused_by: rollout.pause.as_ref().map(|pause| pause.by.clone()),
            bad: bad.map(|bad| bad.reason.clone()),
            counts,
        }
    }

    /// A version is on its way there, or was asked for and begins soon.
    fn is_under_way(&self) -> bool {
        matches!(self.course, Course::Forward(_)) || self.target != self.rolling
    }

    /// No target is to be moved any more, and none is on its way.
    fn is_settled(&self) -> bool {
        self.counts.available == 0 && self.counts.on_the_way == 0
    }
}

/// What was so of a member when its unit began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// What was good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Version>,
    /// What had been asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Version>,
    /// The how manieth rollout was its last.
    pub number: u64,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What is asked of it.
    pub asked: UnitMember,
    /// What was so of it.
    pub before: Before,
    /// It was asked to take its version, or is just about to be.
    #[serde(default)]
    pub has_begun: bool,
    /// Where it was when the unit was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<MemberWord>,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastUnit {
    /// The how manieth.
    pub number: u64,
    /// When it began.
    pub began: Mono,
    /// When it was over.
    pub ended: Mono,
    /// How.
    pub outcome: UnitWord,
    /// Why it went back, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<UnitWhy>,
}

/// All that is known of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Which. Its members are in its namespace.
    pub id: EntityId,
    /// Of this unit, the how manieth run.
    pub number: u64,
    /// Who asked for it.
    pub by: String,
    /// When it began.
    pub began: Mono,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Mono>,
    /// Where it is.
    pub course: UnitWord,
    /// Why it goes back, or went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<UnitWhy>,
    /// Who wants no member to be moved for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
    /// Who wants each member to be good, whatever it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_by: Option<String>,
    /// Each comes after all it needs.
    pub members: Vec<Member>,
    /// Its runs before, the latest at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastUnit>,
}

/// Something that is asked of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitChange {
    /// All that have begun go back.
    Abort {
        /// Who says so.
        by: String,
        /// Why.
        why: String,
    },
    /// Each member is good as soon as it has begun, whatever it waits for; they begin one after the other all the
    /// same.
    Promote {
        /// Who says so.
        by: String,
    },
    /// No member begins, and no target of those that have is moved. Does not hold up who goes back.
    Pause {
        /// Who says so.
        by: String,
    },
    /// They go on.
    Resume,
}

/// Why something is not done about a unit. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitRefused {
    /// Its members make none.
    #[error(transparent)]
    Members(#[from] UnitError),
    /// It runs, with other members or versions.
    #[error("unit `{0}` is on its way already")]
    Runs(EntityId),
    /// A version is on its way in a member.
    #[error("a version is on its way in `{0}` already")]
    Busy(String),
    /// The version of a member is known to be bad.
    #[error("version `{version}` of `{entity}` is known to be bad: {reason}")]
    KnownBad {
        /// Of which.
        entity: String,
        /// Which.
        version: Version,
        /// What showed it.
        reason: Reason,
    },
    /// It does not go forward.
    #[error("unit `{id}` does not go forward: {why}")]
    NotForward {
        /// Which.
        id: EntityId,
        /// What it does.
        why: &'static str,
    },
    /// It is not paused.
    #[error("unit `{0}` is not paused")]
    NotPaused(EntityId),
}

/// What is asked of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The how manieth.
    pub member: usize,
    /// What.
    pub change: Change,
}

/// What is decided: this is kept, and then that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextUnit {
    /// How the unit is from now on.
    pub unit: Unit,
    /// What is asked of its members, in this order.
    pub asks: Vec<Ask>,
}

impl Unit {
    /// One that begins. `seen` says what is so of each member, in any order; `last` is the run before.
    ///
    /// Errors: its members make no unit, or one of them cannot begin.
    pub fn begin(
        id: EntityId,
        members: Vec<UnitMember>,
        by: String,
        last: Option<&Self>,
        seen: impl Fn(&UnitMember) -> (Seen, Option<Reason>),
        now: Mono,
    ) -> Result<Self, UnitRefused> {
        let members = in_order(id.namespace(), members)?;
        let mut began = Vec::new();
        for asked in members {
            let (seen, known_bad) = seen(&asked);
            if seen.is_under_way() {
                return Err(UnitRefused::Busy(asked.entity));
            }
            if let Some(reason) = known_bad {
                return Err(UnitRefused::KnownBad { entity: asked.entity, version: asked.version, reason });
            }
            let before = Before { good: seen.good, target: seen.target, number: seen.number };
            began.push(Member { asked, before, has_begun: false, ended: None });
        }
        let mut history = last.map(|last| last.history.clone()).unwrap_or_default();
        history.extend(last.and_then(Self::past));
        let more = history.len().saturating_sub(UNIT_HISTORY_MAX);
        history.drain(..more);
        Ok(Self {
            id,
            number: last.map_or(0, |last| last.number) + 1,
            by,
            began: now,
            ended: None,
            course: UnitWord::Forward,
            why: None,
            paused_by: None,
            promoted_by: None,
            members: began,
            history,
        })
    }

    fn past(&self) -> Option<PastUnit> {
        let (number, began, outcome, why) = (self.number, self.began, self.course, self.why.clone());
        self.ended.map(|ended| PastUnit { number, began, ended, outcome, why })
    }

    /// Whether it is already what is asked for.
    pub fn is_of(&self, members: &[UnitMember]) -> bool {
        in_order(self.id.namespace(), members.to_vec())
            .is_ok_and(|members| members.iter().eq(self.members.iter().map(|member| &member.asked)))
    }

    /// Which entity a member is.
    ///
    /// Errors: none: [`in_order`] has looked at its name.
    pub fn entity(&self, member: &Member) -> Option<EntityId> {
        EntityId::new(self.id.namespace(), &member.asked.entity).ok()
    }

    /// What it calls itself where its members ask who wants something.
    pub fn name(&self) -> String {
        format!("unit {}", self.id)
    }

    /// Does what is asked. What follows from it is decided next.
    ///
    /// Errors: it is not done, and nothing has changed.
    pub fn change(&mut self, change: UnitChange) -> Result<(), UnitRefused> {
        let why = match self.course {
            UnitWord::Forward => None,
            UnitWord::Good => Some("all its members are good"),
            UnitWord::Back => Some("it goes back already"),
            UnitWord::RolledBack => Some("it has gone back"),
            UnitWord::Halted => Some("it is halted"),
        };
        if let Some(why) = why {
            return Err(UnitRefused::NotForward { id: self.id.clone(), why });
        }
        match change {
            UnitChange::Abort { by, why } => self.go_back(UnitWhy::Aborted { by, reason: why }),
            UnitChange::Promote { by } => (self.promoted_by, self.paused_by) = (Some(by), None),
            UnitChange::Pause { by } => self.paused_by = self.paused_by.take().or(Some(by)),
            UnitChange::Resume => {
                self.paused_by.take().ok_or_else(|| UnitRefused::NotPaused(self.id.clone()))?;
            }
        }
        Ok(())
    }

    /// A member did not take its version.
    pub fn refused(&mut self, member: usize, message: String) {
        if let Some(member) = self.members.get(member).filter(|_| self.course == UnitWord::Forward) {
            let entity = member.asked.entity.clone();
            self.go_back(UnitWhy::Refused { entity, message });
        }
    }

    fn go_back(&mut self, why: UnitWhy) {
        (self.course, self.why, self.paused_by) = (UnitWord::Back, Some(why), None);
    }
}

//! What stands in a slot, and what is kept of it across a restart of the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use upbeat_model::reason::StopCause;
use upbeat_model::state::Exit;
use upbeat_model::target::{TargetSlot, surroundings};
use upbeat_model::{Attempt, Millis, Mono, Phase, ProbeName, ServiceName, Timeline, Wall};

use super::hooks::are_too_large;
use super::react::Done;
use super::{Answer, Held, HookCommand, Preparation, StopRules, Stopping};
use crate::holds::Holds;
use crate::rules::{Bug, Rules};

/// Under which wish a copy was started: what tells whether it is still the wanted one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// [`TargetSlot::generation`].
    pub generation: u64,
    /// [`TargetSlot::digest`].
    pub digest: String,
    /// [`TargetSlot::release`].
    pub release: u64,
    /// The services it was told to rest on when it was started, and since: it stops before they do,
    /// whatever is wished by then.
    #[serde(default)]
    pub needs: BTreeSet<ServiceName>,
    /// Its process is not ours: it was started elsewhere by a command that has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// It was given an update lock.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub update_lock: bool,
    /// [`surroundings`] of what it was started in, which is no part of its digest. An older version kept
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surroundings: Option<String>,
    /// The container that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What nobody else of this machine can have while it runs.
    #[serde(default, skip_serializing_if = "Holds::is_empty")]
    pub holds: Holds,
}

impl Mark {
    pub(super) fn of(wish: &TargetSlot) -> Self {
        Self {
            generation: wish.generation,
            digest: wish.digest.clone(),
            release: wish.release,
            needs: wish.spec.depends_on.keys().cloned().collect(),
            external: wish.spec.external,
            update_lock: wish.spec.update_lock,
            surroundings: Some(surroundings(&wish.base_environment)),
            container: None,
            holds: Holds::of(&wish.spec),
        }
    }

    /// The same of a container that was made for it.
    pub(super) fn made_of(wish: &TargetSlot, made: Option<&Made>) -> Self {
        let container = made.filter(|_| wish.spec.container.is_some()).map(|made| made.container.clone());
        Self { container, ..Self::of(wish) }
    }

    /// It goes on under a newer wish. What it was started with it may still use, and what it was started in
    /// it still has.
    pub(super) fn pass_to(&mut self, wish: &TargetSlot, rules: Rules) {
        let (needs, started_in) = (std::mem::take(&mut self.needs), self.surroundings.take());
        *self = Self { surroundings: started_in, container: self.container.take(), ..Self::of(wish) };
        if !rules.has(Bug::ForgetNeeds) {
            self.needs.extend(needs);
        }
    }

    /// Of a copy we have no memory of: no wish's.
    fn unknown() -> Self {
        let (digest, needs) = (String::new(), BTreeSet::new());
        let (generation, release, external, update_lock) = (0, 0, false, false);
        let (surroundings, container, holds) = (None, None, Holds::default());
        Self { generation, digest, release, needs, external, update_lock, surroundings, container, holds }
    }

    /// Of a container that says itself by which spec it was made.
    fn labelled(held: Held) -> Self {
        let Held { container, digest, release } = held;
        Self { digest, release, container: Some(container), ..Self::unknown() }
    }

    /// It is some wish's.
    pub(super) fn is_known(&self) -> bool {
        !self.digest.is_empty()
    }
}

/// Of each dependency that it is to be told the end of: which attempts of which copies it rests on.
pub type RestsOn = BTreeMap<ServiceName, BTreeMap<u32, Attempt>>;

/// [`RestsOn`] is kept as pairs: inside of an enum that is told apart by a tag, numbers that are keys
/// are texts, and are not read back.
mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Attempt, BTreeMap, RestsOn, ServiceName};

    pub(super) fn serialize<S: Serializer>(rests_on: &RestsOn, to: S) -> Result<S::Ok, S::Error> {
        let pairs = rests_on.iter().map(|(service, copies)| (service, Vec::from_iter(copies)));
        pairs.collect::<BTreeMap<_, _>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<RestsOn, D::Error> {
        let pairs = BTreeMap::<ServiceName, Vec<(u32, Attempt)>>::deserialize(from)?;
        Ok(pairs.into_iter().map(|(service, copies)| (service, BTreeMap::from_iter(copies))).collect())
    }
}

/// What a copy is begun with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Under which wish.
    pub mark: Mark,
    /// When it was decided, in milliseconds since the epoch. With its attempt this is one of its kind,
    /// also when a slot of the same name was there before: the keys of its hooks are made of it.
    #[serde(default)]
    pub serial: u64,
    /// How it is stopped.
    #[serde(default, skip_serializing_if = "StopRules::is_not_kept")]
    pub stop: Option<StopRules>,
    /// What it rests on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "pairs")]
    pub rests_on: RestsOn,
    /// Somebody has asked it to reload since it was ordered: it may have read its configuration before.
    /// The serial of that reload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<u64>,
}

impl Begun {
    /// Of a copy we have no memory of.
    pub(super) fn unknown() -> Self {
        Self { mark: Mark::unknown(), serial: 0, stop: None, rests_on: RestsOn::new(), reload: None }
    }

    /// Of a copy we have no memory of: a container says by itself what it is.
    pub(super) fn found(held: Option<Held>) -> Self {
        let mark = held.map_or_else(Mark::unknown, Mark::labelled);
        Self { mark, ..Self::unknown() }
    }
}

/// What stands in a slot. What happens next is drawn above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// Nothing, and nothing is known to have ended here that still matters.
    #[default]
    Idle,
    /// A start was decided; whether it happened is not known yet.
    Starting {
        /// What is begun.
        #[serde(flatten)]
        begun: Begun,
        /// How far its `pre_start` hooks have come: nothing is started before.
        #[serde(default, skip_serializing_if = "Preparation::is_done")]
        before: Preparation,
    },
    /// A process.
    Up(Box<Up>),
    /// Nothing, until the back-off is over.
    Resting {
        /// The wish its last copy ran under.
        mark: Mark,
        /// Until when.
        until: Mono,
        /// The same for people.
        until_wall: Wall,
        /// How long in all.
        delay: Millis,
    },
    /// Nothing, and the restart policy leaves it so.
    Ended {
        /// The wish its last copy ran under.
        mark: Mark,
    },
    /// Its files are being deleted.
    Removing,
    /// Its files are deleted.
    Gone,
}

/// A process and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Up {
    /// Under which wish it was started.
    pub mark: Mark,
    /// Of which attempt.
    pub attempt: Attempt,
    /// [`Begun::serial`].
    #[serde(default)]
    pub serial: u64,
    /// The main process.
    pub pid: i32,
    /// When it was started (or adopted, when nothing better is known).
    pub started: Mono,
    /// The same for people.
    pub started_at: Wall,
    /// Where its output begins in the slot's log.
    pub log_start: u64,
    /// How it is stopped. `None` of a copy that another version started, or that nobody remembers:
    /// then as the newest file says.
    #[serde(default, skip_serializing_if = "StopRules::is_not_kept")]
    pub stop: Option<StopRules>,
    /// How far its `post_start` hooks have come.
    #[serde(default, skip_serializing_if = "Preparation::is_done")]
    pub preparation: Preparation,
    /// What its probes were answered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<ProbeName, Answer>,
    /// It is no good any more, and is to be stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condemned: Option<Condemned>,
    /// What it rests on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "pairs")]
    pub rests_on: RestsOn,
    /// It is to read its configuration anew, or could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reloading>,
    /// A command is run about a failing probe, or has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Healing>,
    /// It was asked to stop.
    pub stopping: Option<Stopping>,
    /// A daemon that died may have asked it to: nothing can be taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_asked: bool,
    /// It was not ready yet, as far as anybody has seen. Of a copy that another version started, or that
    /// nobody remembers, nobody knows: then it is not said to have failed to start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unready: bool,
}

/// Why a copy is no good any more, and what follows when it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    /// Why it is stopped.
    pub cause: StopCause,
    /// What is on record for its end; without it, how it ended.
    pub exit: Option<Exit>,
    /// What follows.
    pub follows: Follows,
}

impl Condemned {
    /// Nobody knows how far it was stopped: that is done to its end, and then it is begun anew.
    pub(super) fn half_stopped() -> Self {
        Self { cause: StopCause::HalfStopped, exit: None, follows: Follows::Start }
    }
}

/// What follows when a copy that was no good any more has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Follows {
    /// Its start has failed: as its restart policy says.
    Policy,
    /// It is started again, whatever the policy says, after a back-off.
    Restart,
    /// Nothing, until somebody starts it.
    Nothing,
    /// It is started again as soon as its conditions hold.
    Start,
}

/// A copy that is asked to read its configuration anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reloading {
    /// It has not been asked, or has not answered.
    Due {
        /// Which time this is.
        serial: u64,
    },
    /// It could not be: how.
    Failed(String),
}

/// A command that is run about a failing probe: one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Healing {
    /// It has not ended.
    Due {
        /// About which probe.
        probe: ProbeName,
        /// Which time this is: what it is told apart by.
        serial: u64,
    },
    /// It has failed, and the probe has not passed since.
    Failed {
        /// About which probe.
        probe: ProbeName,
        /// How.
        why: String,
    },
}

/// `post_stop` hooks that have not ended: nothing else is begun before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Farewell {
    /// Of which attempt.
    pub attempt: Attempt,
    /// [`Begun::serial`].
    #[serde(default)]
    pub serial: u64,
    /// How that ended.
    pub exit: Exit,
    /// What is run.
    #[serde(default, skip_serializing_if = "are_too_large")]
    pub commands: Vec<Arc<HookCommand>>,
    /// After which they are killed.
    pub timeout: Millis,
}

/// A start whose answer was lost, and of which nothing was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// Then it is looked for once more.
    pub until: Mono,
    /// What was ordered.
    #[serde(flatten)]
    pub begun: Begun,
}

/// The container that was made for a wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// [`TargetSlot::generation`]: whoever asks anew looks anew what the image is.
    pub generation: u64,
    /// [`TargetSlot::digest`].
    pub digest: String,
    /// Its id in the engine.
    pub container: String,
}

/// What is kept across a restart of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// The highest attempt ever decided here.
    pub attempt: Attempt,
    /// What stands in the slot.
    pub stage: Stage,
    /// How the last attempt that ended did so.
    pub exit: Option<Exit>,
    /// Quick ends in a row.
    pub failures: u32,
    /// Restarts since somebody last asked for a start.
    pub restarts: u32,
    /// The container that was made for the newest wish that asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Made>,
    /// Networks that were made for it since there was nothing of it, under this wish or an earlier one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub networks: BTreeSet<String>,
    /// A start that was ordered was not there when it was looked for, and may still come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
    /// What is to be run after the end of the last copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub farewell: Option<Farewell>,
    /// What was done about failing probes lately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<Done>,
    /// The phase and when it was entered.
    pub entered: Option<(Phase, Wall)>,
    /// How far its last start came, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
}

impl Durable {
    /// Something of it may run that has to be looked at: what is elsewhere cannot be, and before its
    /// `pre_start` hooks have ended nothing was started.
    pub(crate) fn may_run(&self) -> bool {
        let may_run = match &self.stage {
            Stage::Starting { begun, before } => !begun.mark.external && before.is_done(),
            Stage::Up(up) => !up.mark.external,
            _ => false,
        };
        may_run || self.late.is_some()
    }
}

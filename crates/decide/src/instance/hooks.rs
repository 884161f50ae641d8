//! Commands run beside a copy: after its start, and before its end.
//!
//! `post_start`: a copy counts as started when all of them have succeeded, one after the other. One
//! that fails is the failure of the start: the copy is stopped, and its restart policy says what
//! follows. They are run at least once: a daemon that dies while they run leaves them to the next.
//! Source: the Compose Specification, "post_start", "pre_stop"; what a failure means is ours, since
//! it says nothing of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use upbeat_model::project::{Hook, Ulimit};
use upbeat_model::target::TargetSlot;
use upbeat_model::{Millis, SlotId};

use super::{Around, RECHECK_AFTER, Slot, Stage};
use crate::effect::Effect;
use crate::rules::Bug;

/// A command and all it is run with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCommand {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The variables of the service, and its own.
    pub environment: BTreeMap<String, String>,
    /// Variables given before those.
    pub base_environment: Arc<BTreeMap<String, String>>,
    /// Where it is run.
    pub working_dir: String,
    /// As whom.
    pub user: Option<String>,
    /// Groups it is in besides: those of the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// The limits of the service's processes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// The service's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
}

impl HookCommand {
    /// A hook of the service.
    pub(super) fn of(hook: &Hook, wish: &TargetSlot) -> Self {
        let spec = &wish.spec;
        let mut environment = spec.environment.clone();
        environment.extend(hook.environment.clone());
        Self {
            command: hook.command.clone(),
            environment,
            base_environment: wish.base_environment.clone(),
            working_dir: hook.working_dir.clone().unwrap_or_else(|| spec.working_dir.clone()),
            user: hook.user.clone().or_else(|| spec.user.clone()),
            group_add: spec.group_add.clone(),
            ulimits: spec.ulimits.clone(),
            oom_score_adj: spec.oom_score_adj,
        }
    }

    /// How much room it takes where it is kept, in bytes: no less than its JSON.
    pub(super) fn size(&self) -> usize {
        let of_map = |map: &BTreeMap<String, String>| -> usize {
            map.iter().map(|(name, value)| written(name) + written(value)).sum()
        };
        let of_list = |list: &[String]| -> usize { list.iter().map(|text| written(text)).sum() };
        let limits: usize = self.ulimits.keys().map(|name| written(name) + LIMIT_ROOM).sum();
        KEYS_ROOM
            + of_list(&self.command)
            + of_list(&self.group_add)
            + of_map(&self.environment)
            + of_map(&self.base_environment)
            + limits
            + written(&self.working_dir)
            + self.user.as_deref().map_or(0, written)
    }
}

/// A text in JSON, with its quotes and what stands behind it: six characters for one that is written
/// as `\u0001`.
fn written(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() + 3
}

/// The keys of a [`HookCommand`] and its brackets, with some room to spare.
const KEYS_ROOM: usize = 200;

/// `{"soft":…,"hard":…},` of two numbers of twenty characters.
const LIMIT_ROOM: usize = 64;

/// When hooks are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The copy was started.
    PostStart,
    /// It is to stop.
    PreStop,
}

/// How far the `post_start` hooks of a copy have come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preparation {
    /// They have succeeded, or there are none.
    #[default]
    Done,
    /// They have not ended.
    Due,
    /// One has failed: how.
    Failed(String),
}

impl Preparation {
    pub(super) fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// Of a copy that was just started.
    pub(super) fn of(around: &Around<'_>) -> Self {
        match around.wish.spec.post_start.is_empty() || around.rules.has(Bug::SkipHooks) {
            true => Self::Done,
            false => Self::Due,
        }
    }
}

/// Has the hooks run that are due. Asked again now and then: whoever runs them takes it once.
pub(super) fn prepare(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let hooks = &around.wish.spec.post_start;
    if hooks.is_empty() {
        // The newest file has none any more.
        up.preparation = Preparation::Done;
        return;
    }
    if slot.recheck.is_none_or(|at| at <= around.now) {
        slot.recheck = Some(around.now + ASK_AGAIN);
        effects.push(Effect::RunHooks {
            slot: id.clone(),
            attempt: up.attempt,
            moment: Moment::PostStart,
            commands: hooks.iter().map(|hook| Arc::new(HookCommand::of(hook, around.wish))).collect(),
            timeout: PATIENCE,
        });
    }
}

/// They have ended, one way or another.
pub(super) fn prepared(slot: &mut Slot, outcome: Result<(), String>) {
    if let Stage::Up(up) = &mut slot.durable.stage
        && up.preparation == Preparation::Due
        && up.stopping.is_none()
    {
        up.preparation = match outcome {
            Ok(()) => Preparation::Done,
            Err(why) => Preparation::Failed(why),
        };
        slot.recheck = None;
    }
}

/// An order to run hooks that got lost is given again so soon.
const ASK_AGAIN: Millis = Millis(12 * RECHECK_AFTER.0);

/// How long all `post_start` hooks of a start may take: no bound that anybody meets. Whoever does not
/// want to wait stops the service, which ends them.
const PATIENCE: Millis = Millis::seconds(24 * 3600);

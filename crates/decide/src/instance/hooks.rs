//! Commands run beside a copy: before its start, after it, before its end and after that.
//!
//! `pre_start`: it is started when all of them have succeeded, one after the other. `post_start`: it
//! counts as started when all have succeeded. One that fails is the failure of the start, and the
//! restart policy says what follows. `post_stop`: nothing else is begun before they have ended,
//! however they did. All are run at least once: a daemon that dies while they run leaves them to the
//! next, under the same idempotency key, and those that Upbeat itself could not begin, for want of files
//! or processes, are ordered again. Source: the Compose Specification, "post_start", "pre_stop";
//! what a failure means is ours, since it says nothing of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use upbeat_model::project::{Hook, Ulimit};
use upbeat_model::reason::StopCause;
use upbeat_model::target::TargetSlot;
use upbeat_model::{Exit, Millis, SlotId};

use super::stop::{KEPT_MAX, StopRules};
use super::{Around, Condemned, Farewell, Follows, RECHECK_AFTER, Slot, Stage, Up};
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
    /// It is run in the container of the copy, with what that has: variables, directory and user are only
    /// what is said besides.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub container: bool,
    /// It has all rights of root there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// What it leaves behind when it ends well is the service itself, which runs elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves: bool,
    /// After which it is killed, where that is sooner than all have to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Millis>,
}

impl HookCommand {
    /// A hook of the service.
    pub(super) fn of(hook: &Hook, wish: &TargetSlot) -> Self {
        let spec = &wish.spec;
        if spec.container.is_some() {
            return Self::in_container(hook);
        }
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
            container: false,
            privileged: false,
            leaves: false,
            timeout: hook.timeout,
        }
    }

    /// A hook of a container.
    fn in_container(hook: &Hook) -> Self {
        Self {
            command: hook.command.clone(),
            environment: hook.environment.clone(),
            base_environment: Arc::default(),
            working_dir: hook.working_dir.clone().unwrap_or_default(),
            user: hook.user.clone(),
            group_add: Vec::new(),
            ulimits: BTreeMap::new(),
            oom_score_adj: None,
            container: true,
            privileged: hook.privileged,
            leaves: false,
            timeout: hook.timeout,
        }
    }

    /// A command with all that the service has; of one that runs elsewhere, by which it is changed
    /// there.
    pub(super) fn plain(command: Vec<String>, wish: &TargetSlot) -> Arc<Self> {
        let environment = BTreeMap::new();
        let hook =
            Hook { command, environment, working_dir: None, user: None, timeout: None, privileged: false };
        Arc::new(Self { leaves: wish.spec.external, ..Self::of(&hook, wish) })
    }

    /// All of these hooks.
    pub(super) fn all(hooks: &[Hook], wish: &TargetSlot) -> Vec<Arc<Self>> {
        hooks.iter().map(|hook| Arc::new(Self::of(hook, wish))).collect()
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
const KEYS_ROOM: usize = 240;

/// `{"soft":…,"hard":…},` of two numbers of twenty characters.
const LIMIT_ROOM: usize = 64;

/// When hooks are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The copy is to be started.
    PreStart,
    /// The copy was started.
    PostStart,
    /// It is to stop.
    PreStop,
    /// It has ended.
    PostStop,
    /// A probe of it has failed.
    Remedy,
}

impl Moment {
    /// The key of a file by which they are given.
    pub fn key(self) -> &'static str {
        match self {
            Self::PreStart => "pre_start",
            Self::PostStart => "post_start",
            Self::PreStop => "pre_stop",
            Self::PostStop => "post_stop",
            Self::Remedy => "on_failure",
        }
    }
}

/// How far the hooks around the start of a copy have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preparation {
    /// They have succeeded, or there are none.
    #[default]
    Done,
    /// They have not ended.
    Due,
}

impl Preparation {
    pub(super) fn is_done(&self) -> bool {
        *self == Self::Done
    }

    fn unless(is_done: bool, around: &Around<'_>) -> Self {
        if is_done || around.rules.has(Bug::SkipHooks) { Self::Done } else { Self::Due }
    }

    /// Of a copy that is to be started.
    pub(super) fn before(around: &Around<'_>) -> Self {
        Self::unless(around.wish.spec.pre_start.is_empty(), around)
    }

    /// Of a copy that was just started.
    pub(super) fn of(around: &Around<'_>) -> Self {
        Self::unless(around.wish.spec.post_start.is_empty(), around)
    }
}

/// Has the `pre_start` hooks run.
pub(super) fn precede(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Starting { begun, .. } = &slot.durable.stage else { return };
    let serial = begun.serial;
    if slot.recheck.is_none_or(|at| at <= around.now) {
        slot.recheck = Some(around.now + ASK_AGAIN);
        effects.push(Effect::RunHooks {
            slot: id.clone(),
            attempt: slot.durable.attempt,
            moment: Moment::PreStart,
            begun: serial,
            serial,
            commands: HookCommand::all(&around.wish.spec.pre_start, around.wish),
            timeout: PATIENCE,
            exit: None,
        });
    }
}

/// Has the `post_start` hooks run that are due. Asked again now and then: whoever runs them takes it
/// once.
pub(super) fn prepare(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Stage::Up(up) = &mut slot.durable.stage else { return };
    let hooks = &around.wish.spec.post_start;
    if hooks.is_empty() {
        // The newest file has none any more.
        up.preparation = Preparation::Done;
        slot.trouble = None;
        return;
    }
    if slot.recheck.is_none_or(|at| at <= around.now) {
        slot.recheck = Some(around.now + ASK_AGAIN);
        effects.push(Effect::RunHooks {
            slot: id.clone(),
            attempt: up.attempt,
            moment: Moment::PostStart,
            begun: up.serial,
            serial: up.serial,
            commands: HookCommand::all(hooks, around.wish),
            timeout: PATIENCE,
            exit: None,
        });
    }
}

/// What is said of hooks that could not be run.
pub(super) fn not_run(moment: Moment, why: &str) -> String {
    format!("its `{}` hooks could not be run, and are run again: {why}", moment.key())
}

/// Whether the end of its `post_start` hooks means anything.
pub(super) fn are_awaited(up: &Up) -> bool {
    up.preparation == Preparation::Due && up.stopping.is_none() && up.condemned.is_none()
}

/// The `post_start` hooks have ended, one way or another.
pub(super) fn prepared(slot: &mut Slot, outcome: Result<(), String>) {
    if let Stage::Up(up) = &mut slot.durable.stage
        && are_awaited(up)
    {
        match outcome {
            Ok(()) => up.preparation = Preparation::Done,
            Err(why) => {
                let exit = Some(Exit::NotStarted(format!("post_start: {why}")));
                up.condemned =
                    Some(Condemned { cause: StopCause::HookFailed, exit, follows: Follows::Policy });
            }
        }
        (slot.recheck, slot.trouble) = (None, None);
    }
}

/// What is to be run now that it has ended.
pub(super) fn farewell(
    slot: &Slot,
    (rules, serial): &(StopRules, u64),
    exit: &Exit,
    around: &Around<'_>,
) -> Option<Farewell> {
    if rules.after.is_empty() || around.wish.kill || around.rules.has(Bug::SkipHooks) {
        return None;
    }
    Some(Farewell {
        attempt: slot.durable.attempt,
        serial: *serial,
        exit: exit.clone(),
        commands: rules.after.clone(),
        timeout: rules.grace.max(FAREWELL_MIN),
    })
}

/// Has the `post_stop` hooks run. Whoever kills does not wait for them.
pub(super) fn part(id: &SlotId, slot: &mut Slot, around: &Around<'_>, effects: &mut Vec<Effect>) {
    let Some(farewell) = &slot.durable.farewell else { return };
    if around.wish.kill {
        return parted(slot);
    }
    if slot.recheck.is_none_or(|at| at <= around.now) {
        slot.recheck = Some(around.now + farewell.timeout + ASK_AGAIN);
        effects.push(Effect::RunHooks {
            slot: id.clone(),
            attempt: farewell.attempt,
            moment: Moment::PostStop,
            begun: farewell.serial,
            serial: farewell.serial,
            commands: match farewell.commands.is_empty() {
                // They were too large to be kept: as the newest file has them.
                true => HookCommand::all(&around.wish.spec.post_stop, around.wish),
                false => farewell.commands.clone(),
            },
            timeout: farewell.timeout,
            exit: Some(farewell.exit.clone()),
        });
    }
}

/// They have ended.
pub(super) fn parted(slot: &mut Slot) {
    slot.durable.farewell = None;
    (slot.recheck, slot.trouble) = (None, None);
}

/// Whether these are too large to be kept.
pub(super) fn are_too_large(commands: &[Arc<HookCommand>]) -> bool {
    commands.iter().map(|command| command.size()).sum::<usize>() > KEPT_MAX
}

/// An order to run hooks that got lost is given again so soon.
const ASK_AGAIN: Millis = Millis(12 * RECHECK_AFTER.0);

/// How long all hooks before or after a start may take: no bound that anybody meets. Whoever does not
/// want to wait stops the service, which ends them.
const PATIENCE: Millis = Millis::seconds(24 * 3600);

/// Hooks after the end have the grace period, and never less than this: a service that may be killed at
/// once is cleaned up all the same.
const FAREWELL_MIN: Millis = Millis::seconds(10);

//! Commands of services: how a copy is launched, and what is run beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use upbeat_decide::instance::{HookCommand, Moment};
use upbeat_drivers::process::{ExecRequest, Launch, Notify, ProcessDriver, Rights, Stdio, environment};
use upbeat_model::project::Service;
use upbeat_model::{Attempt, Exit, Millis, SlotId};

/// Given to hooks: the same for each time one and the same hook is run, and never to another.
const KEY: &str = "UPBEAT_IDEMPOTENCY_KEY";

/// Given to hooks: beside which copy they are run.
const SLOT: &str = "UPBEAT_SLOT";

/// Given to hooks after the end: how it ended, in words.
const EXIT: &str = "UPBEAT_EXIT";

/// Given to hooks after the end: the status, where it has one.
const EXIT_CODE: &str = "UPBEAT_EXIT_CODE";

/// Given to hooks after the end: the number of the signal, where one ended it.
const EXIT_SIGNAL: &str = "UPBEAT_EXIT_SIGNAL";

pub(crate) fn launch(spec: &Service, base: &BTreeMap<String, String>) -> Launch {
    Launch {
        command: spec.command.clone(),
        environment: environment(&spec.environment, base),
        working_dir: spec.working_dir.clone(),
        user: spec.user.clone(),
        rights: Rights::of(spec),
        stdio: match (spec.tty, spec.stdin_open) {
            (true, _) => Stdio::Terminal,
            (false, true) => Stdio::OpenInput,
            (false, false) => Stdio::Plain,
        },
        files: spec.files.clone(),
        resources: spec.resources,
        notify: spec.notifies().then(|| Notify { watchdog_ms: spec.watchdog().map(|every| every.0) }),
        log_max_size: spec.log.unwrap_or_default().max_size,
        log_max_files: spec.log.unwrap_or_default().max_files,
    }
}

pub(crate) fn exec_request(
    slot: &SlotId,
    command: Vec<String>,
    spec: &Service,
    base: &BTreeMap<String, String>,
    timeout: Millis,
) -> ExecRequest {
    ExecRequest {
        command,
        environment: environment(&spec.environment, base),
        working_dir: spec.working_dir.clone(),
        user: spec.user.clone(),
        rights: Rights::of(spec),
        beside: Some(slot.clone()),
        timeout,
    }
}

/// Commands that are run beside a copy.
pub(crate) struct Hooks {
    pub(crate) slot: SlotId,
    pub(crate) attempt: Attempt,
    /// What they are, as a file calls them: `post_start`.
    pub(crate) kind: &'static str,
    /// Which time.
    pub(crate) serial: u64,
    pub(crate) commands: Vec<Arc<HookCommand>>,
    /// For all of them.
    pub(crate) timeout: Millis,
    pub(crate) exit: Option<Exit>,
    /// Those that follow one that failed are run all the same.
    pub(crate) goes_on: bool,
}

impl Hooks {
    /// Runs them one after the other. Errors: the last that failed, and how.
    pub(crate) async fn run(&self, driver: &ProcessDriver) -> Result<(), String> {
        let begun = Instant::now();
        let mut failed = Ok(());
        for (n, hook) in self.commands.iter().enumerate() {
            let gone = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let why = match self.timeout.0.saturating_sub(gone) {
                // One that is begun to be killed at once would be half done at best.
                0 => "no time was left for it".to_owned(),
                left => match driver.exec(self.request(n, hook, Millis(left))).await {
                    outcome if outcome.is_success() => continue,
                    outcome => outcome.describe(),
                },
            };
            let program = hook.command.first().map_or("", String::as_str);
            let why = format!("`{program}`: {why}");
            if !self.goes_on {
                return Err(why);
            }
            tracing::warn!(slot = %self.slot, "{}: {why}", self.kind);
            failed = Err(why);
        }
        failed
    }

    fn request(&self, n: usize, hook: &HookCommand, timeout: Millis) -> ExecRequest {
        let Self { slot, attempt, kind, serial, exit, .. } = self;
        let mut environment = environment(&hook.environment, &hook.base_environment);
        environment.insert(KEY.to_owned(), format!("{slot}:{attempt}:{serial}:{kind}:{n}"));
        environment.insert(SLOT.to_owned(), slot.to_string());
        if let Some(exit) = exit {
            environment.insert(EXIT.to_owned(), exit.to_string());
            match exit {
                Exit::Code(code) => drop(environment.insert(EXIT_CODE.to_owned(), code.to_string())),
                Exit::Signal(n) => drop(environment.insert(EXIT_SIGNAL.to_owned(), n.to_string())),
                _ => {}
            }
        }
        ExecRequest {
            command: hook.command.clone(),
            environment,
            working_dir: hook.working_dir.clone(),
            user: hook.user.clone(),
            rights: Rights {
                groups: hook.group_add.clone(),
                ulimits: hook.ulimits.clone(),
                oom_score_adj: hook.oom_score_adj,
            },
            beside: Some(slot.clone()),
            timeout,
        }
    }
}

impl Hooks {
    /// Hooks of this moment.
    pub(crate) fn of(
        slot: SlotId,
        attempt: Attempt,
        moment: Moment,
        serial: u64,
        commands: Vec<Arc<HookCommand>>,
        timeout: Millis,
        exit: Option<Exit>,
    ) -> Self {
        let goes_on = matches!(moment, Moment::PreStop | Moment::PostStop);
        Self { slot, attempt, kind: moment.key(), serial, commands, timeout, exit, goes_on }
    }
}

//! Commands of services: how a copy is launched, and what is run beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use upbeat_decide::instance::{HookCommand, Moment};
use upbeat_drivers::docker::ContainerExec;
use upbeat_drivers::machine::Machine;
use upbeat_drivers::process::{
    ExecOutcome, ExecRequest, Launch, Leftovers, Notify, Rights, Stdio, environment,
};
use upbeat_model::project::{Question, Service};
use upbeat_model::withheld::{Rotating, Secrets, is_secret};
use upbeat_model::{Attempt, Exit, Millis, SlotId};

use crate::keep::Seal;

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
        notify: spec.notifies().then(|| notify(spec)),
        log_max_size: spec.log.unwrap_or_default().max_size,
        log_max_files: spec.log.unwrap_or_default().max_files,
    }
}

/// Nobody hears of a service that hangs before it says that it is ready, where nobody waits for that:
/// then it has to speak up from the start.
fn notify(spec: &Service) -> Notify {
    let is_awaited = spec.probes.values().any(|probe| probe.ask == Question::Notify);
    let first = spec.probes.values().filter_map(|probe| match probe.ask {
        Question::Watchdog(every) => Some(probe.initial_delay.0.saturating_add(every.0)),
        _ => None,
    });
    Notify {
        watchdog_ms: spec.watchdog().map(|every| every.0),
        first_ms: first.min().filter(|_| !is_awaited),
    }
}

/// The command that starts a service elsewhere.
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
        leftovers: Leftovers::Left,
    }
}

/// How commands did not end well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotWell {
    /// They have failed, as is said here.
    Failed(String),
    /// Upbeat could not run one of them. No word about the commands.
    Unable(String),
}

/// Commands that are run beside a copy.
pub(crate) struct Hooks {
    /// Of their keys.
    pub(crate) seal: Seal,
    pub(crate) slot: SlotId,
    pub(crate) attempt: Attempt,
    /// What they are, as a file calls them: `post_start`.
    pub(crate) kind: &'static str,
    /// When the copy was begun: one of its kind, as no serial is after a `down`.
    pub(crate) begun: u64,
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
    /// Runs them one after the other. Errors: what failed, and how; or why one could not be run, for want
    /// of something of ours. Then none that follows it is run either: all are, once more.
    pub(crate) async fn run(&self, machine: &Machine) -> Result<(), NotWell> {
        let begun = Instant::now();
        let mut failed = Vec::new();
        for (n, hook) in self.commands.iter().enumerate() {
            let gone = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let why = match self.timeout.0.saturating_sub(gone) {
                // One that is begun to be killed at once would be half done at best.
                0 => "no time was left for it".to_owned(),
                left => match self.exec(machine, hook, self.request(n, hook, within(left, hook))).await {
                    outcome if outcome.is_success() => continue,
                    ExecOutcome::Unable(why) => return Err(NotWell::Unable(told(hook, &why))),
                    outcome => outcome.describe(),
                },
            };
            let why = told(hook, &why);
            if !self.goes_on {
                return Err(NotWell::Failed(why));
            }
            failed.push(why);
        }
        if failed.is_empty() { Ok(()) } else { Err(NotWell::Failed(failed.join("; "))) }
    }

    async fn exec(&self, machine: &Machine, hook: &HookCommand, request: ExecRequest) -> ExecOutcome {
        match hook.container {
            true => machine.engine.exec(self.in_container(hook, request)).await,
            false => machine.processes.exec(request).await,
        }
    }

    /// With the variables, the directory and the user of the container, but for what is said.
    fn in_container(&self, hook: &HookCommand, request: ExecRequest) -> ContainerExec {
        let ExecRequest { command, environment, working_dir, user, timeout, .. } = request;
        ContainerExec {
            slot: self.slot.clone(),
            attempt: self.attempt,
            command,
            environment,
            working_dir: Some(working_dir).filter(|dir| !dir.is_empty()),
            user,
            privileged: hook.privileged,
            timeout,
        }
    }

    /// The key of the nth of them. One that the file has changed since is another, but for its secrets. Keys
    /// are given to others, who could try out what a hash is of: it is a keyed one.
    fn key(&self, n: usize, hook: &HookCommand) -> String {
        let Self { slot, attempt, kind, begun, serial, .. } = self;
        let HookCommand { command, environment, working_dir, user, .. } = hook;
        let is_plain = |(name, _): &(&String, &String)| !is_secret(name);
        // In each text by itself: within JSON some of them would be escaped.
        let secrets = Rotating::of(environment);
        let without = |text: &String| secrets.without(text);
        let command: Vec<_> = command.iter().map(without).collect();
        let plain: BTreeMap<_, _> =
            environment.iter().filter(is_plain).map(|(name, value)| (name, without(value))).collect();
        let (working_dir, user) = (without(working_dir), user.as_ref().map(without));
        let what = serde_json::json!([command, plain, working_dir, user]).to_string();
        let what = self.seal.hash(what.as_bytes()).to_hex();
        format!("{slot}:{attempt}:{begun}:{kind}:{serial}:{n}:{}", &what.as_str()[..16])
    }

    fn request(&self, n: usize, hook: &HookCommand, timeout: Millis) -> ExecRequest {
        let Self { slot, exit, .. } = self;
        let mut environment = environment(&hook.environment, &hook.base_environment);
        environment.insert(KEY.to_owned(), self.key(n, hook));
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
            leftovers: if hook.leaves { Leftovers::Left } else { Leftovers::Killed },
        }
    }
}

/// Of which of them this is said, without the secrets it was given: it may be of a copy whose file was
/// another one, before this daemon.
fn told(hook: &HookCommand, why: &str) -> String {
    let program = hook.command.first().map_or("", String::as_str);
    let own = [&*hook.base_environment, &hook.environment].map(Secrets::of_variables);
    // What was cut before stands at its beginning.
    let why = own.iter().fold(why.to_owned(), |why, own| own.hide(why));
    own.iter().fold(format!("`{program}`: {why}"), |why, own| own.hide(why))
}

/// How long one of them has, when so many milliseconds are left for all.
fn within(left: u64, hook: &HookCommand) -> Millis {
    hook.timeout.map_or(Millis(left), |own| own.min(Millis(left)))
}

impl Hooks {
    /// Hooks of this moment.
    pub(crate) fn of(
        seal: Seal,
        (slot, attempt): (SlotId, Attempt),
        moment: Moment,
        (begun, serial): (u64, u64),
        commands: Vec<Arc<HookCommand>>,
        timeout: Millis,
        exit: Option<Exit>,
    ) -> Self {
        let goes_on = matches!(moment, Moment::PreStop | Moment::PostStop);
        Self { seal, slot, attempt, kind: moment.key(), begun, serial, commands, timeout, exit, goes_on }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_runs_from_the_start_where_nobody_waits_for_the_service_to_be_ready() {
        let alive = r#""liveness":{"ask":{"watchdog":2000},"initial_delay":5000}"#;
        for (probes, expected) in [
            (alive.to_owned(), Some((Some(2_000), Some(7_000)))),
            (format!(r#"{alive},"readiness":{{"ask":"notify"}}"#), Some((Some(2_000), None))),
            (r#""readiness":{"ask":"notify"}"#.to_owned(), Some((None, None))),
            (r#""readiness":{"ask":{"tcp":"127.0.0.1:1"}}"#.to_owned(), None),
        ] {
            let spec = format!(r#"{{"command":["x"],"working_dir":"/","probes":{{{probes}}}}}"#);
            let spec: Service = serde_json::from_str(&spec).unwrap();
            let notify = launch(&spec, &BTreeMap::new()).notify;
            assert_eq!(
                notify.map(|Notify { watchdog_ms, first_ms }| (watchdog_ms, first_ms)),
                expected,
                "{probes}"
            );
        }
    }

    fn hook(command: &str, variable: &str) -> Arc<HookCommand> {
        let hook = format!(
            r#"{{"command":["{command}"],"environment":{{"A":"{variable}"}},"base_environment":{{}},"working_dir":"/","user":null}}"#
        );
        Arc::new(serde_json::from_str(&hook).unwrap())
    }

    #[test]
    fn the_key_of_a_hook_is_that_of_no_other() {
        let key = |begun, serial, kind, n, hook: Arc<HookCommand>| {
            let hooks = Hooks {
                seal: Seal::of([7; 32]),
                slot: "shop/web/1".parse().unwrap(),
                attempt: Attempt(1),
                kind,
                begun,
                serial,
                commands: Vec::new(),
                timeout: Millis(1),
                exit: None,
                goes_on: false,
            };
            hooks.key(n, &hook)
        };
        let keys = [
            key(5, 2, "reload", 0, hook("x", "a")),
            // Attempts and generations are counted anew after a `down`.
            key(6, 2, "reload", 0, hook("x", "a")),
            key(5, 3, "reload", 0, hook("x", "a")),
            key(5, 2, "on_failure", 0, hook("x", "a")),
            key(5, 2, "reload", 1, hook("x", "a")),
            // The file was changed while it ran.
            key(5, 2, "reload", 0, hook("y", "a")),
            key(5, 2, "reload", 0, hook("x", "b")),
        ];
        assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), keys.len(), "{keys:?}");
        assert_eq!(keys[0], key(5, 2, "reload", 0, hook("x", "a")));
    }

    fn key(seal: u8, hook: &HookCommand) -> String {
        let (slot, moment) = ("shop/web/1".parse().unwrap(), Moment::PreStart);
        let seal = Seal::of([seal; 32]);
        Hooks::of(seal, (slot, Attempt(1)), moment, (5, 2), Vec::new(), Millis(1), None).key(0, hook)
    }

    fn with_secret(secret: &str) -> HookCommand {
        let mut hook = (*hook("x", "a")).clone();
        hook.command.push(format!("--login=me:{secret}"));
        hook.environment.insert("API_TOKEN".into(), secret.into());
        hook.environment.insert("DB".into(), format!("postgres://me:{}@db/", secret.replace('"', "%22")));
        hook
    }

    #[test]
    fn a_secret_that_is_another_leaves_the_key_as_it_is() {
        let expected = key(7, &with_secret("canary-0"));
        for secret in ["canary-1", r#"with"quote"#, r"with\backslash", "1234", "7", "ünïcode"] {
            assert_eq!(key(7, &with_secret(secret)), expected, "{secret}");
        }
        let mut other = with_secret("canary-0");
        other.command.push("more".into());
        assert_ne!(key(7, &other), expected);
    }

    #[test]
    fn nobody_can_try_out_what_a_key_is_made_of() {
        let hook = hook("x", "a");
        assert_ne!(key(7, &hook), key(8, &hook), "it hangs on what this daemon alone has");
    }

    #[test]
    fn a_hook_has_its_own_time_and_no_more_than_is_left_for_all() {
        for (own, left, expected) in
            [(r#","timeout":500"#, 86_400_000, 500), (r#","timeout":500"#, 200, 200), ("", 200, 200)]
        {
            let hook = format!(
                r#"{{"command":["x"],"environment":{{}},"base_environment":{{}},"working_dir":"/","user":null{own}}}"#
            );
            let hook: HookCommand = serde_json::from_str(&hook).unwrap();
            assert_eq!(within(left, &hook), Millis(expected), "{own} of {left}");
        }
    }
}

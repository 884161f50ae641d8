//! What people write: random services, and changes of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use upbeat_model::project::{
    Condition, Dependency, Hook, OnFailure, OnRestart, Probe, Question, Reaction, Reload, Remedy,
    RestartPolicy, Signal,
};
use upbeat_model::{Millis, ProbeName, Service, ServiceName};

use crate::pace::Pace;
use crate::random::Random;

/// What is declared.
pub(crate) type Services = BTreeMap<ServiceName, Arc<Service>>;

/// A random service. One of eight is external: a command that starts something elsewhere.
pub(crate) fn service(random: &mut Random, index: u64, pace: Pace) -> Service {
    let external = random.percent(12);
    let stop_command = random.percent(15) || external;
    Service {
        probes: probes(random, external, pace),
        restart: policy(random),
        stop_grace_period: Millis(random.between(100, 5_000)),
        stop_command: stop_command.then(|| vec!["stop".into()]),
        pre_start: hooks(random),
        post_start: hooks(random),
        pre_stop: hooks(random),
        post_stop: hooks(random),
        reload: reload(random, external),
        success_exit_codes: if random.percent(20) { [1].into() } else { [].into() },
        scale: random.between(1, 2) as u32,
        external,
        ..Service::new(vec![format!("program-{index}")], "/")
    }
}

/// Another value for one key of a service, under whatever runs of it. Says which.
pub(crate) fn change(random: &mut Random, service: &mut Service, pace: Pace) -> &'static str {
    let number = random.below(1000).to_string();
    let external = service.external;
    match random.below(16) {
        0 | 1 => {
            service.command.push(number);
            "command"
        }
        2 => {
            service.environment.insert("PORT".into(), number);
            "environment"
        }
        3 => {
            service.probes = probes(random, external, pace);
            "probes"
        }
        4 => {
            for probe in service.probes.values_mut() {
                *probe = rhythm(random, probe.ask.clone(), external, pace);
            }
            "the rhythm of the probes"
        }
        5 => {
            service.stop_signal = *random.pick(&[Signal::TERM, Signal(2), Signal(3)]);
            "stop_signal"
        }
        6 => {
            service.stop_grace_period = Millis(*random.pick(&[0, 10, 500, 3_000, 20_000]));
            "stop_grace_period"
        }
        7 => {
            service.stop_command = (random.percent(50) || external).then(|| vec!["stop".into(), number]);
            "stop_command"
        }
        8 | 9 | 11 | 12 => change_hooks(random, service),
        10 => {
            service.success_exit_codes = if random.percent(50) { [1].into() } else { [].into() };
            "success_exit_codes"
        }
        13 => {
            if service.reload.is_some() {
                service.reload = Some(way_to_reload(random, external));
            }
            "reload"
        }
        14 if random.percent(20) => {
            service.external = !external;
            service.probes = probes(random, !external, pace);
            service.stop_command = Some(vec!["stop".into()]);
            service.reload = service.reload.as_ref().map(|_| Reload::Exec(vec!["reload".into()]));
            "external"
        }
        _ => {
            service.restart = policy(random);
            "restart"
        }
    }
}

fn change_hooks(random: &mut Random, service: &mut Service) -> &'static str {
    let hooks = hooks(random);
    match random.below(4) {
        0 => {
            service.pre_start = hooks;
            "pre_start"
        }
        1 => {
            service.post_start = hooks;
            "post_start"
        }
        2 => {
            service.pre_stop = hooks;
            "pre_stop"
        }
        _ => {
            service.post_stop = hooks;
            "post_stop"
        }
    }
}

/// Most services have none.
fn hooks(random: &mut Random) -> Vec<Hook> {
    let count = if random.percent(80) { 0 } else { random.between(1, 2) };
    let hook = |n: u64| Hook {
        command: vec![format!("hook-{n}")],
        environment: BTreeMap::new(),
        working_dir: None,
        user: None,
        privileged: false,
        timeout: None,
    };
    (0..count).map(hook).collect()
}

fn reload(random: &mut Random, external: bool) -> Option<Reload> {
    random.percent(60).then(|| way_to_reload(random, external))
}

/// What runs elsewhere can be sent no signal.
fn way_to_reload(random: &mut Random, external: bool) -> Reload {
    match random.percent(50) && !external {
        true => Reload::Signal(Signal(1)),
        false => Reload::Exec(vec!["reload".into()]),
    }
}

/// Edges to some of those before it.
pub(crate) fn edges(
    random: &mut Random,
    earlier: &[ServiceName],
    services: &Services,
    can_reload: bool,
    pace: Pace,
) -> BTreeMap<ServiceName, Dependency> {
    let mut edges = BTreeMap::new();
    for name in earlier {
        if random.percent(40) {
            let edge = Dependency {
                condition: condition(random, services.get(name).map(|service| &**service)),
                required: random.percent(85),
                restart: random.percent(25),
                on_restart: on_restart(random, can_reload),
                on_failure: *random.pick(&[
                    OnFailure::Fail,
                    OnFailure::Fail,
                    OnFailure::Wait,
                    OnFailure::Continue,
                ]),
                timeout: random
                    .percent(25)
                    .then(|| pace.stretch(*random.pick(&[500, 5_000, 30_000])))
                    .map(Millis),
            };
            edges.insert(name.clone(), edge);
        }
    }
    edges
}

fn condition(random: &mut Random, dependency: Option<&Service>) -> Condition {
    match random.below(13) {
        0..=3 => Condition::Started,
        12 => Condition::Ready,
        4..=6 => Condition::Healthy,
        7 | 8 => Condition::CompletedSuccessfully,
        9 => Condition::Completed,
        10 => Condition::Failed,
        _ => {
            let names: Vec<&ProbeName> =
                dependency.into_iter().flat_map(|service| service.probes.keys()).collect();
            match names.is_empty() {
                true => Condition::Started,
                false => Condition::Probe((*random.pick(&names)).clone()),
            }
        }
    }
}

fn on_restart(random: &mut Random, can_reload: bool) -> OnRestart {
    match random.below(8) {
        0 | 1 => OnRestart::Restart,
        2 | 3 if can_reload => OnRestart::Reload,
        4 => OnRestart::Stop,
        _ => OnRestart::Ignore,
    }
}

/// A question that is never answered well.
pub(crate) fn never_passes() -> Question {
    Question::Tcp("127.0.0.1:3".into())
}

/// Half of all services have a health check; some have more probes.
fn probes(random: &mut Random, external: bool, pace: Pace) -> BTreeMap<ProbeName, Probe> {
    let mut probes = BTreeMap::new();
    for (name, share) in
        [(ProbeName::STARTUP, 12), (ProbeName::READINESS, 50), (ProbeName::LIVENESS, 25), ("warm", 12)]
    {
        if random.percent(share)
            && let Ok(name) = ProbeName::new(name)
        {
            let ask = question(random, external, pace);
            probes.insert(name, rhythm(random, ask, external, pace));
        }
    }
    probes
}

fn question(random: &mut Random, external: bool, pace: Pace) -> Question {
    match random.below(14) {
        0 | 1 if !external => Question::Log(if random.percent(70) { "up" } else { "ready" }.into()),
        2 => never_passes(),
        3 | 4 => Question::Tcp("127.0.0.1:2".into()),
        5 | 6 if !external => Question::Notify,
        7 | 8 if !external => Question::Watchdog(Millis(pace.stretch(*random.pick(&[500, 2_000])))),
        _ => Question::Tcp("127.0.0.1:1".into()),
    }
}

fn rhythm(random: &mut Random, ask: Question, external: bool, pace: Pace) -> Probe {
    // What has to pass once only is asked every second until it has, which is no rhythm for weeks.
    let passes_once = random.percent(70) && (pace == Pace::Minutes || ask.is_told());
    Probe {
        initial_delay: Millis(if random.percent(70) { 0 } else { pace.stretch(random.below(3_000)) }),
        interval: Millis(pace.stretch(random.between(50, 5_000))),
        timeout: Millis(random.between(20, 2_000)),
        failure_threshold: random.between(1, 4) as u32,
        success_threshold: if passes_once { 1 } else { random.between(2, 3) as u32 },
        start_period: Millis(pace.stretch(random.below(3_000))),
        start_interval: Millis(pace.stretch(random.between(20, 500))),
        on_failure: random.percent(40).then(|| remedy(random, external, pace)),
        ..Probe::new(ask)
    }
}

fn remedy(random: &mut Random, external: bool, pace: Pace) -> Remedy {
    let action = match random.below(6) {
        0 => Reaction::Ignore,
        1 => Reaction::Stop,
        2 if !external => Reaction::Signal(Signal(10)),
        2 | 3 => Reaction::Exec(vec!["mend".into()]),
        _ => Reaction::Restart,
    };
    let window = Millis(pace.stretch(*random.pick(&[2_000, 20_000, 60_000, 600_000])));
    Remedy { action, max_attempts: random.between(1, 3) as u32, window }
}

fn policy(random: &mut Random) -> RestartPolicy {
    let policies = [
        RestartPolicy::No,
        RestartPolicy::Always,
        RestartPolicy::OnFailure { max: None },
        RestartPolicy::OnFailure { max: Some(random.below(3) as u32) },
        RestartPolicy::UnlessStopped,
    ];
    *random.pick(&policies)
}

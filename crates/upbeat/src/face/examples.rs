//! Data the tests of this room draw.

use std::collections::BTreeMap;

use upbeat_model::{
    AppName, Attempt, Exit, Goal, Millis, Mono, OperationId, Phase, ProbeName, Project, Reason, Service,
    ServiceName, SlotId, SlotStart, SlotStats, SlotStatus, SlotUsage, Starts, Stats, Timeline, Wall,
    project::{Condition, Dependency, Http, Question, Reaction},
};

use super::{Face, Paint};

/// 2026-03-01 12:00:00 UTC.
pub(crate) const NOW: Wall = Wall(1_772_366_400_000);

/// Piped, without colours, in UTC.
pub(crate) fn face() -> Face {
    Face { paint: Paint::Plain, is_terminal: false, width: None, now: NOW, zone: jiff::tz::TimeZone::UTC }
}

/// `seconds` before [`NOW`].
pub(crate) fn ago(seconds: i64) -> Wall {
    Wall(NOW.0 - seconds * 1_000)
}

/// `web-1` → app `shop`, service `web`, index 1.
pub(crate) fn slot(short: &str) -> SlotId {
    let (service, index) = short.rsplit_once('-').unwrap();
    SlotId {
        app: AppName::new("shop").unwrap(),
        service: ServiceName::new(service).unwrap(),
        index: index.parse().unwrap(),
    }
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

/// A slot in a phase, with what such a slot usually has.
pub(crate) fn status(short: &str, phase: Phase) -> SlotStatus {
    SlotStatus {
        slot: slot(short),
        goal: Goal::Running,
        phase,
        attempt: Attempt(1),
        pid: phase.is_alive().then_some(4711),
        container: None,
        exit: None,
        restarts: 0,
        since: ago(200),
        started_at: phase.is_alive().then(|| ago(202)),
        log_start: None,
        health: None,
        probes: BTreeMap::new(),
        says: None,
        reasons: Vec::new(),
        operation: OperationId(4),
        release: 1,
    }
}

pub(crate) fn waits_for_db() -> Reason {
    Reason::WaitsFor {
        service: service("db"),
        condition: Condition::Healthy,
        blocking: Some((slot("db-1"), Phase::BackingOff)),
    }
}

pub(crate) fn backs_off() -> Reason {
    Reason::BacksOff {
        exit: Exit::Code(1),
        failures: 3,
        delay: Millis::seconds(4),
        until: Wall(NOW.0 + 2_000),
    }
}

pub(crate) fn not_restarted() -> Reason {
    Reason::NotRestarted { exit: Exit::Code(1), policy: "no".into(), restarts: 0 }
}

pub(crate) fn probe_fails() -> Reason {
    Reason::ProbeFails {
        name: ProbeName::new(ProbeName::READINESS).unwrap(),
        probe: Question::Http(Http::get("http://127.0.0.1:8080/health")),
        last: "status 503".into(),
        failures: 3,
    }
}

pub(crate) fn needs_attention() -> Reason {
    Reason::NeedsAttention {
        name: ProbeName::new(ProbeName::LIVENESS).unwrap(),
        action: Reaction::Restart,
        times: 5,
        window: Millis::seconds(600),
    }
}

pub(crate) fn dependency_failed() -> Reason {
    Reason::DependencyFailed {
        service: service("db"),
        condition: Condition::Healthy,
        failed: Some((slot("db-1"), Phase::Failed, Some(Exit::Code(1)))),
    }
}

/// One slot in every phase a person can meet.
pub(crate) fn every_phase() -> Vec<SlotStatus> {
    let with = |short: &str, phase, reason: Option<Reason>| SlotStatus {
        reasons: reason.into_iter().collect(),
        ..status(short, phase)
    };
    vec![
        SlotStatus { health: Some("status 200".into()), ..status("api-1", Phase::Healthy) },
        SlotStatus {
            exit: Some(Exit::Code(1)),
            restarts: 3,
            ..with("cache-1", Phase::BackingOff, Some(backs_off()))
        },
        SlotStatus { exit: Some(Exit::Signal(9)), restarts: 41, ..status("crash-1", Phase::CrashLooping) },
        with("dep-1", Phase::DependencyFailed, Some(dependency_failed())),
        SlotStatus { exit: Some(Exit::Code(1)), ..with("fail-1", Phase::Failed, Some(not_restarted())) },
        SlotStatus { exit: Some(Exit::Code(0)), ..status("job-1", Phase::Completed) },
        with("needy-1", Phase::NeedsAttention, Some(needs_attention())),
        status("run-1", Phase::Running),
        with("start-1", Phase::Starting, Some(Reason::BeingStarted)),
        SlotStatus {
            goal: Goal::Stopped,
            ..with("stop-1", Phase::Stopped, Some(Reason::StoppedBy { operation: OperationId(3) }))
        },
        status("stopping-1", Phase::Stopping),
        with("unhealthy-1", Phase::Unhealthy, Some(probe_fails())),
        with("web-1", Phase::Waiting, Some(waits_for_db())),
        with("web-2", Phase::Waiting, Some(waits_for_db())),
    ]
}

/// One that works, one that starts, one that is done.
pub(crate) fn stats() -> Stats {
    let slot = |short: &str, phase, started, restarts, usage| SlotStats {
        slot: slot(short),
        phase,
        attempt: Attempt(1),
        pid: None,
        started_at: started,
        restarts,
        usage,
    };
    let usage = |cpu_percent, memory_bytes, descriptors, processes| {
        Some(SlotUsage { cpu_percent, cpu_ms: 900, memory_bytes, descriptors: Some(descriptors), processes })
    };
    let api = usage(Some(112.5), 118 << 20, 12, 3);
    let slots = vec![
        slot("api-1", Phase::Healthy, Some(ago(200)), 2, api),
        slot("db-1", Phase::Starting, Some(ago(1)), 0, usage(None, 1_000, 4, 1)),
        slot("job-1", Phase::Completed, None, 0, None),
    ];
    Stats { at: NOW, slots }
}

/// web waited for a migration, and that for db.
pub(crate) fn starts() -> Starts {
    let start =
        |short: &str, phase, [since, opened, executed, ready]: [u64; 4], needs: &[(&str, Condition)]| {
            let needs = needs.iter().map(|(name, condition)| (service(name), condition.clone()));
            let [opened, executed, ready] = [opened, executed, ready].map(|ms| Some(Mono(ms)));
            let times = Timeline { opened, executed, ready, attempts: 1, ..Timeline::since(Mono(since)) };
            SlotStart { slot: slot(short), phase, times, needs: needs.collect() }
        };
    let ended = Condition::CompletedSuccessfully;
    let mut slots = vec![
        start("db-1", Phase::Healthy, [1_000, 1_000, 1_012, 2_400], &[]),
        start("migrate-1", Phase::Completed, [1_000, 2_401, 2_410, 2_410], &[("db", Condition::Healthy)]),
        start("web-1", Phase::Healthy, [1_000, 4_900, 4_908, 5_200], &[("migrate", ended)]),
    ];
    slots[1].times.ended = Some(Mono(4_899));
    slots[0].times.attempts = 3;
    Starts { app: AppName::new("shop").unwrap(), now: Mono(9_000), slots }
}

/// cache ← db; web needs both.
pub(crate) fn project() -> Project {
    let edge = |condition| Dependency { condition, ..Dependency::default() };
    let with = |needs: Vec<(&str, Dependency)>| -> Service {
        let depends_on: BTreeMap<ServiceName, Dependency> =
            needs.into_iter().map(|(name, edge)| (service(name), edge)).collect();
        serde_json::from_value(serde_json::json!({
            "command": ["x"], "working_dir": "/", "depends_on": depends_on,
        }))
        .unwrap()
    };
    let services = BTreeMap::from([
        (service("cache"), with(vec![("db", edge(Condition::Started))])),
        (service("db"), with(vec![])),
        (
            service("web"),
            with(vec![
                ("cache", Dependency { required: false, ..edge(Condition::Started) }),
                ("db", edge(Condition::Healthy)),
            ]),
        ),
    ]);
    Project { name: AppName::new("shop").unwrap(), services, base_environment: BTreeMap::new() }
}

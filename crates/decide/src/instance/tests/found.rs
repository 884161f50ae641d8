//! Stories that the simulator has told first: each was a fault once.

use std::sync::Arc;

use upbeat_model::project::{Hook, OnRestart, Probe, Question, Reaction, Reload, Remedy, Service, Signal};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Millis, Mono, ProbeName, Wall};

use super::NONE;
use super::story::{Story, id};
use crate::instance::{Durable, Input, Moment, Observation, Said, Watchdog};

/// `upbeat up` of this file, in which `edit` has changed what its name is.
fn up(text: &str, edit: impl Fn(&str, &mut Service)) -> Story {
    let mut story = Story::new();
    story.declare(text);
    // Nothing of that has happened yet.
    let target = std::mem::take(&mut story.target);
    story = Story::new();
    story.target = target;
    for (slot, wish) in &mut story.target.slots {
        edit(slot.service.as_str(), Arc::make_mut(&mut wish.spec));
        wish.digest = wish.spec.digest();
    }
    story.aim();
    story
}

fn name(text: &str) -> ProbeName {
    ProbeName::new(text).unwrap()
}

fn hook() -> Vec<Hook> {
    vec![Hook {
        command: vec!["h".into()],
        environment: Default::default(),
        working_dir: None,
        user: None,
        privileged: false,
        timeout: None,
    }]
}

const PAIR: &str = "  db: { command: [db], restart: always }\n  web: { command: [web], depends_on: [db] }";

fn web_follows(on_restart: OnRestart) -> impl Fn(&str, &mut Service) {
    move |service, spec| {
        if service == "web" {
            spec.reload = Some(Reload::Signal(Signal(1)));
            spec.depends_on.values_mut().for_each(|edge| edge.on_restart = on_restart);
        }
    }
}

fn both_run(on_restart: OnRestart) -> Story {
    let mut story = up(PAIR, web_follows(on_restart));
    story.started("db");
    story.started("web");
    story.ordered();
    story
}

#[test]
fn what_a_copy_rests_on_is_read_back_as_it_was_kept() {
    let story = both_run(OnRestart::Restart);
    for kept in story.disk.values() {
        let text = serde_json::to_string(kept).unwrap();
        assert_eq!(serde_json::from_str::<Durable>(&text).unwrap(), *kept, "{text}");
    }
    assert!(format!("{:?}", story.disk[&id("web")]).contains("Attempt(1)"));
}

#[test]
fn a_reload_that_is_due_stays_so_when_somebody_asks_for_something_else() {
    let mut story = both_run(OnRestart::Ignore);
    story.command(Goal::Running, Ask::Reload, &["web"]);
    assert_eq!(story.ordered(), ["reload web SIGHUP (2)"]);
    story.command(Goal::Running, Ask::Ensure, &["web"]);
    story.pass(Millis::seconds(61));
    assert_eq!(story.ordered(), ["reload web SIGHUP (2)", "reload web SIGHUP (2)"], "nobody has answered");
}

#[test]
fn a_reload_waits_until_what_need_not_be_there_is_back() {
    let mut story = up(PAIR, |service, spec| {
        web_follows(OnRestart::Reload)(service, spec);
        spec.depends_on.values_mut().for_each(|edge| edge.required = false);
    });
    story.started("db");
    story.started("web");
    story.command(Goal::Stopped, Ask::Ensure, &["db"]);
    story.exits("db", Exit::Code(0));
    story.ordered();
    story.command(Goal::Running, Ask::Start, &["db"]);
    assert_eq!(story.ordered(), ["start db #2"]);
    story.started("db");
    assert_eq!(story.ordered().len(), 1, "it is reloaded");
}

#[test]
fn a_completed_copy_is_not_run_again_by_a_reload() {
    let mut story = Story::up("  job: { command: [job] }");
    story.started("job");
    story.exits("job", Exit::Code(0));
    story.ordered();
    story.command(Goal::Running, Ask::Reload, &["job"]);
    assert_eq!((story.ordered(), story.phase("job")), (vec![], "completed".to_owned()));
}

#[test]
fn whoever_asks_anew_gives_a_new_budget_of_remedies() {
    let liveness = |_: &str, spec: &mut Service| {
        let once = Remedy { max_attempts: 1, ..Remedy::of(Reaction::Restart) };
        let probe = Probe {
            failure_threshold: 1,
            interval: Millis::seconds(1),
            on_failure: Some(once),
            ..Probe::new(Question::Tcp("127.0.0.1:1".into()))
        };
        spec.probes.insert(name("liveness"), probe);
    };
    let mut story = up("  s: { command: [s] }", liveness);
    let fail = |story: &mut Story| {
        story.started("s");
        story.probed("s", true);
        story.pass(Millis::seconds(1));
        story.probed("s", false);
    };
    fail(&mut story);
    story.exits("s", Exit::Signal(15));
    fail(&mut story);
    assert_eq!(story.phase("s"), "needs attention");
    story.command(Goal::Running, Ask::Restart, &["s"]);
    story.exits("s", Exit::Signal(15));
    fail(&mut story);
    assert_eq!(story.phase("s"), "stopping", "once more");
}

#[test]
fn whoever_asks_anew_waits_anew() {
    let mut story = up(PAIR, |_, spec| {
        spec.depends_on.values_mut().for_each(|edge| edge.timeout = Some(Millis::seconds(5)));
    });
    story.pass(Millis::seconds(5));
    assert_eq!(story.phase("web"), "dependency failed");
    story.command(Goal::Stopped, Ask::Ensure, &["web"]);
    story.command(Goal::Running, Ask::Start, &["web"]);
    assert_eq!(story.phase("web"), "waiting");
    story.pass(Millis(4_999));
    assert_eq!(story.phase("web"), "waiting");
    story.pass(Millis(1));
    assert_eq!(story.phase("web"), "dependency failed");
    story.command(Goal::Running, Ask::Ensure, &["web"]);
    assert_eq!(story.phase("web"), "waiting");
}

#[test]
fn a_copy_rests_on_what_runs_when_it_is_started_and_not_when_its_hooks_were() {
    let mut story = up(PAIR, |service, spec| {
        web_follows(OnRestart::Stop)(service, spec);
        if service == "web" {
            spec.pre_start = hook();
        }
    });
    story.started("db");
    story.exits("db", Exit::Code(1));
    story.started("db");
    story.hooks_end("web", Moment::PreStart, Ok(()));
    story.started("web");
    assert_eq!(story.phase("web"), "running");
}

fn with_hooks(_: &str, spec: &mut Service) {
    spec.pre_start = hook();
}

#[test]
fn a_restart_while_its_first_hooks_run_begins_anew_at_once() {
    let mut story = up("  s: { command: [s] }", with_hooks);
    assert_eq!(story.ordered(), ["before its start s h"]);
    story.command(Goal::Running, Ask::Restart, &["s"]);
    assert_eq!((story.ordered(), story.phase("s")), (vec!["before its start s h".into()], "starting".into()));
    assert_eq!(story.attempt("s").0, 2);
}

#[test]
fn what_is_to_be_gone_while_its_first_hooks_run_is_removed_at_once() {
    let mut story = up("  s: { command: [s] }", with_hooks);
    story.ordered();
    story.command(Goal::Absent, Ask::Ensure, &["s"]);
    assert_eq!(story.ordered(), ["remove s"]);
}

fn told(ask: Question, success_threshold: u32) -> impl Fn(&str, &mut Service) {
    move |_, spec| {
        let probe = Probe { success_threshold, failure_threshold: 1, ..Probe::new(ask.clone()) };
        spec.probes.insert(name("readiness"), probe);
    }
}

fn says(story: &mut Story, said: Said) {
    let attempt = story.attempt("s");
    story.take("s", Input::Notified { attempt, said });
}

#[test]
fn what_is_said_once_is_enough_whatever_the_threshold() {
    let mut story = up("  s: { command: [s] }", told(Question::Notify, 3));
    story.started("s");
    assert_eq!(story.phase("s"), "starting");
    says(&mut story, Said { ready: true, ..Said::default() });
    assert_eq!(story.phase("s"), "healthy");
}

#[test]
fn a_watchdog_that_was_silent_is_believed_again_by_the_next_daemon() {
    let mut story = up("  s: { command: [s] }", told(Question::Watchdog(Millis::seconds(1)), 1));
    story.started("s");
    let watchdog = |watchdog, expiries| Said { watchdog, expiries, ..Said::default() };
    says(&mut story, watchdog(Watchdog::Alive, 0));
    says(&mut story, watchdog(Watchdog::Expired, 1));
    assert_eq!(story.phase("s"), "unhealthy");
    let attempt = story.attempt("s");
    story.daemon_dies();
    let started_at = Wall(0);
    story.seen("s", Observation::Running { attempt, pid: 7, started_at, log_start: 1, held: None });
    says(&mut story, watchdog(Watchdog::Alive, 1));
    assert_eq!(story.phase("s"), "healthy");
}

#[test]
fn of_three_yeses_the_second_comes_a_whole_interval_after_the_first() {
    let mut story = up("  s: { command: [s] }", |_, spec| {
        let probe = Probe { success_threshold: 3, ..Probe::new(Question::Tcp("127.0.0.1:1".into())) };
        spec.probes.insert(name("readiness"), probe);
    });
    story.started("s");
    for _ in 0..2 {
        assert_eq!(story.ordered().last().unwrap(), "probe s");
        story.probed("s", true);
        story.pass(Millis(29_999));
        assert_eq!(story.ordered(), NONE);
        story.pass(Millis(1));
    }
}

#[test]
fn what_runs_elsewhere_is_not_looked_for_when_its_command_could_not_be_run() {
    let mut story = up("  s: { command: [s] }", |_, spec| spec.external = true);
    assert_eq!(story.ordered(), ["start s #1"]);
    let attempt = story.attempt("s");
    story.take("s", Input::StartUnable { attempt, why: "out of files".into() });
    assert_eq!(story.ordered(), NONE);
    story.pass(Millis::seconds(2));
    assert_eq!(story.ordered(), ["start s #1"]);
}

#[test]
fn an_order_to_reload_that_is_due_spins_in_no_stop_that_has_to_wait() {
    let mut story = up(PAIR, |_, spec| spec.reload = Some(Reload::Signal(Signal(1))));
    story.started("db");
    story.started("web");
    story.command(Goal::Running, Ask::Reload, &["db"]);
    story.command(Goal::Stopped, Ask::Ensure, &["db", "web"]);
    assert_eq!(story.why("db"), "stops after web-1", "nobody asks it to reload any more");
    for _ in 0..120 {
        story.now += 1_000;
        let bundle = story.node.take([], Mono(story.now), Wall(0));
        story.keep(bundle);
        assert!(story.node.deadline().is_none_or(|at| at > Mono(story.now)));
    }
}

#[test]
fn a_start_that_comes_late_is_met_though_the_next_one_never_got_beyond_its_hooks() {
    let mut story = up("  s: { command: [s] }", with_hooks);
    story.hooks_end("s", Moment::PreStart, Ok(()));
    assert_eq!(story.ordered(), ["before its start s h", "start s #1"]);
    story.daemon_dies();
    story.seen("s", Observation::Never);
    story.hooks_end("s", Moment::PreStart, Err("exit 1"));
    assert_eq!(story.phase("s"), "failed");
    story.ordered();
    story.pass(Millis::seconds(60));
    assert_eq!(story.ordered(), ["observe s"]);
    let (attempt, started_at) = (upbeat_model::Attempt(1), Wall(0));
    story.seen("s", Observation::Running { attempt, pid: 7, started_at, log_start: 1, held: None });
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
}

#[test]
fn what_was_begun_elsewhere_is_not_started_here_when_the_file_changes() {
    let mut story = up("  s: { command: [s] }", |_, spec| {
        spec.external = true;
        spec.stop_command = Some(vec!["off".into()]);
    });
    assert_eq!(story.ordered(), ["start s #1"]);
    story.declare("  s: { command: [s] }");
    assert_eq!(story.ordered(), ["before its stop s off 10s"]);
    story.hooks_end("s", Moment::PreStop, Ok(()));
    assert_eq!(story.ordered(), ["start s #2"]);
}

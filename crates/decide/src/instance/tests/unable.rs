//! Stories of what Upbeat itself could not do: that is said, is nobody's failure, and is done later.

use upbeat_model::project::{
    Condition, Dependency, Probe, Question, Reaction, Reload, Remedy, Service, Signal,
};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Millis, ProbeName};

use super::NONE;
use super::story::{Story, id};
use crate::instance::{Input, Moment, Observation};

const HOOKED: &str = "  s: { command: [s], pre_start: [{ command: [migrate] }], post_start: [{ command: [warm] }], post_stop: [{ command: [clean] }], pre_stop: [{ command: [drain] }] }";

/// Twice, and each time the same is ordered a second later.
fn is_ordered_again(story: &mut Story, moment: Moment, order: &str) {
    for _ in 0..2 {
        let (phase, attempt) = (story.phase("s"), story.attempt("s"));
        story.hooks_unable("s", moment);
        assert_eq!(story.ordered(), NONE, "not before something may have changed");
        let said = format!("its `{}` hooks could not be run, and are run again: no processes", moment.key());
        assert!(story.why("s").contains(&said), "{}", story.why("s"));
        story.pass(Millis(999));
        assert_eq!(story.ordered(), NONE);
        story.pass(Millis(1));
        assert_eq!(story.ordered(), [order]);
        assert_eq!((story.phase("s"), story.attempt("s")), (phase, attempt));
    }
}

#[test]
fn hooks_that_could_not_be_run_are_run_until_they_are() {
    let mut story = Story::up(HOOKED);
    assert_eq!(story.ordered(), ["before its start s migrate"]);
    is_ordered_again(&mut story, Moment::PreStart, "before its start s migrate");
    story.hooks_end("s", Moment::PreStart, Ok(()));
    assert!(!story.why("s").contains("no processes"), "{}", story.why("s"));
    assert_eq!(story.ordered(), ["start s #1"]);
    story.started("s");
    assert_eq!(story.ordered(), ["after its start s warm"]);
    is_ordered_again(&mut story, Moment::PostStart, "after its start s warm");
    story.hooks_end("s", Moment::PostStart, Ok(()));
    assert_eq!((story.phase("s"), story.why("s")), ("running".into(), String::new()));
    story.command(Goal::Running, Ask::Restart, &["s"]);
    story.hooks_end("s", Moment::PreStop, Ok(()));
    story.exits("s", upbeat_model::Exit::Code(0));
    assert_eq!(story.ordered().last().unwrap(), "after its stop s clean 10s");
    is_ordered_again(&mut story, Moment::PostStop, "after its stop s clean 10s");
    story.hooks_end("s", Moment::PostStop, Err("exit 1"));
    assert_eq!(story.ordered(), ["before its start s migrate"], "not before they have ended");
    assert!(!story.why("s").contains("no processes"), "{}", story.why("s"));
}

#[test]
fn what_is_run_before_a_stop_is_tried_until_the_grace_is_over() {
    let mut story = Story::up("  s: { command: [s], pre_stop: [{ command: [drain] }] }");
    story.started("s");
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.ordered();
    for left in (1..=9).rev() {
        story.hooks_unable("s", Moment::PreStop);
        assert!(story.why("s").contains("no processes"), "{}", story.why("s"));
        story.pass(Millis::seconds(1));
        assert_eq!(story.ordered(), [format!("before its stop s drain {left}s")]);
    }
    story.pass(Millis::seconds(1));
    story.hooks_unable("s", Moment::PreStop);
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"], "it is not killed for what we could not");
    assert_eq!(story.why("s"), "is being stopped as asked (SIGTERM)");
}

#[test]
fn a_stop_command_that_could_not_be_run_is_given_up_when_its_time_is_over() {
    let mut story = Story::of(Service {
        external: true,
        stop_command: Some(vec!["stop".into()]),
        ..Service::new(vec!["go".into()], "/")
    });
    story.started("s");
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.ordered();
    story.hooks_unable("s", Moment::PreStop);
    assert_eq!(story.phase("s"), "stopping");
    story.pass(Millis::seconds(1));
    assert_eq!(story.ordered(), ["before its stop s stop 10s"]);
    story.pass(Millis::seconds(10));
    story.hooks_unable("s", Moment::PreStop);
    assert_eq!(story.phase("s"), "needs attention");
}

#[test]
fn who_kills_waits_for_no_hooks_that_cannot_be_run() {
    let mut story = Story::up(HOOKED);
    story.hooks_end("s", Moment::PreStart, Ok(()));
    story.started("s");
    story.hooks_end("s", Moment::PostStart, Ok(()));
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.hooks_unable("s", Moment::PreStop);
    story.ordered();
    for wish in story.target.slots.values_mut() {
        wish.kill = true;
    }
    story.aim();
    assert_eq!(story.ordered(), ["stop s SIGKILL 0ms"]);
    story.exits("s", upbeat_model::Exit::Signal(9));
    assert_eq!((story.phase("s"), story.ordered()), ("stopped".into(), vec![]));
}

fn hup() -> Signal {
    Signal::parse("SIGHUP").unwrap()
}

/// Asked each minute; one no is enough.
fn checked(probe: &str, remedy: Remedy) -> Service {
    let (interval, failure_threshold, on_failure) = (Millis::seconds(60), 1, Some(remedy));
    let asks = Probe::new(Question::Tcp("127.0.0.1:1".into()));
    let probes = Probe { interval, failure_threshold, on_failure, ..asks };
    let probes = [(ProbeName::new(probe).unwrap(), probes)].into();
    Service { probes, ..Service::new(vec!["s".into()], "/") }
}

/// It starts, passes, and then fails.
fn fails(story: &mut Story) {
    story.started("s");
    for healthy in [true, false] {
        story.pass(Millis::seconds(70));
        story.probed("s", healthy);
    }
}

#[test]
fn a_remedy_that_could_not_be_run_is_neither_spent_nor_failed() {
    let mends = Reaction::Exec(vec!["mend".into()]);
    let mut story = Story::of(checked("liveness", Remedy { max_attempts: 1, ..Remedy::of(mends) }));
    fails(&mut story);
    assert_eq!(story.ordered().last().unwrap(), "remedy s mend");
    for _ in 0..2 {
        story.hooks_unable("s", Moment::Remedy);
        assert!(
            story.why("s").contains("could not be, and is run again: no processes"),
            "{}",
            story.why("s")
        );
        story.pass(Millis::seconds(1));
        assert_eq!(story.ordered(), ["remedy s mend"]);
    }
    assert_eq!(story.came_to, NONE);
    story.hooks_end("s", Moment::Remedy, Ok(()));
    assert_eq!(story.came_to, ["liveness: well"]);
    assert!(!story.why("s").contains("no processes"), "{}", story.why("s"));
}

#[test]
fn a_reload_that_could_not_be_run_stays_due() {
    let mut story = Story::up("  s: { command: [s], reload: { command: [again] } }");
    story.started("s");
    story.command(Goal::Running, Ask::Reload, &["s"]);
    let attempt = story.attempt("s");
    for _ in 0..2 {
        assert_eq!(story.ordered().last().unwrap(), "reload s again (2)");
        story.take("s", Input::ReloadUnable { attempt, serial: 2, why: "no processes".into() });
        assert!(story.why("s").contains("is asked again: no processes"), "{}", story.why("s"));
        story.pass(Millis::seconds(1));
    }
    story.take("s", Input::Reloaded { attempt, serial: 2, outcome: Ok(()) });
    assert_eq!((story.why("s"), story.came_to.join("")), (String::new(), "reload: well".into()));
}

#[test]
fn after_the_machine_has_slept_through_its_grace_it_has_its_own_from_then() {
    for ends_first in [false, true] {
        let mut story = Story::up("  s: { command: [s], pre_stop: [{ command: [drain] }] }");
        story.started("s");
        story.command(Goal::Stopped, Ask::Ensure, &["s"]);
        story.ordered();
        // The boot clock goes on.
        story.now += 3_600_000;
        if ends_first {
            story.hooks_end("s", Moment::PreStop, Err("timed out after 10s"));
        }
        story.pass(Millis(0));
        assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
        story.pass(Millis::seconds(14));
        assert_eq!(story.ordered(), NONE);
        story.pass(Millis::seconds(1));
        assert_eq!(story.ordered(), ["stop s SIGTERM 0ms", "observe s"]);
    }
}

#[test]
fn a_signal_that_could_not_be_sent_is_told_and_not_sent_again() {
    let remedy = Remedy { max_attempts: 1, ..Remedy::of(Reaction::Signal(hup())) };
    let mut story = Story::of(checked("liveness", remedy));
    fails(&mut story);
    assert_eq!(story.ordered().last().unwrap(), "signal s SIGHUP");
    let (attempt, probe) = (story.attempt("s"), ProbeName::new("liveness").unwrap());
    for attempt in [upbeat_model::Attempt(9), attempt] {
        let (probe, why) = (probe.clone(), "SIGHUP could not be sent: no".into());
        story.take("s", Input::SignalFailed { attempt, probe, why });
    }
    assert_eq!(story.came_to, ["liveness: SIGHUP could not be sent: no"]);
}

/// A startup probe that has used up what is done about it is left to a person, who may well mend it by a
/// reload.
#[test]
fn what_needs_attention_before_it_was_ready_is_asked_to_reload_all_the_same() {
    let remedy = Remedy { max_attempts: 0, ..Remedy::of(Reaction::Signal(hup())) };
    let spec = checked("startup", remedy);
    let mut story = Story::of(Service { reload: Some(Reload::Signal(hup())), ..spec });
    story.started("s");
    story.ordered();
    story.command(Goal::Running, Ask::Reload, &["s"]);
    let outcome = |story: &Story| crate::outcome(story.node.status(&id("s")).unwrap());
    assert!(outcome(&story).is_none(), "{}", story.why("s"));
    story.pass(Millis::seconds(70));
    assert!(!story.ordered().iter().any(|order| order.starts_with("reload")), "it may be ready yet");
    story.probed("s", false);
    assert_eq!(story.phase("s"), "needs attention");
    let reloads = story.ordered();
    assert!(reloads.iter().any(|order| order.starts_with("reload s SIGHUP")), "{reloads:?}");
    let (attempt, serial) = (story.attempt("s"), story.target.slots[&id("s")].generation);
    story.take("s", Input::Reloaded { attempt, serial, outcome: Ok(()) });
    // It was asked, and is not well.
    assert!(matches!(outcome(&story), Some(upbeat_model::Wish::Failed { .. })), "{}", story.why("s"));
}

/// Both were started.
fn one_elsewhere_and_one_resting_on_it() -> Story {
    let needs = Dependency { condition: Condition::Started, ..Dependency::default() };
    let dependent =
        Service { depends_on: [("s".parse().unwrap(), needs)].into(), ..Service::new(vec!["t".into()], "/") };
    let elsewhere = Service {
        external: true,
        stop_command: Some(vec!["stop".into()]),
        ..Service::new(vec!["go".into()], "/")
    };
    let mut story = Story::new();
    story.declare_all([("s".parse().unwrap(), elsewhere), ("t".parse().unwrap(), dependent)].into());
    story.started("s");
    story.started("t");
    story
}

#[test]
fn nothing_is_begun_on_what_could_not_be_stopped() {
    let mut story = one_elsewhere_and_one_resting_on_it();
    story.command(Goal::Stopped, Ask::Ensure, &["t"]);
    story.exits("t", upbeat_model::Exit::Code(0));
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.pass(Millis::seconds(11));
    story.hooks_end("s", Moment::PreStop, Err("exit 1"));
    assert_eq!(story.phase("s"), "needs attention");
    story.ordered();
    story.command(Goal::Running, Ask::Start, &["t"]);
    assert_eq!((story.phase("t"), story.ordered()), ("waiting".into(), vec![]));
}

/// A migration is not run each second because a directory is full.
#[test]
fn what_could_not_be_started_for_a_lack_of_ours_is_not_prepared_again() {
    let mut story = Story::up("  s: { command: [s], restart: always, pre_start: [{ command: [migrate] }] }");
    assert_eq!(story.ordered(), ["before its start s migrate"]);
    story.hooks_end("s", Moment::PreStart, Ok(()));
    assert_eq!(story.ordered(), ["start s #1"]);
    for attempt in 1..4 {
        let why = "out of processes".to_owned();
        story.take("s", Input::StartUnable { attempt: upbeat_model::Attempt(attempt), why });
        story.pass(Millis::seconds(1));
        assert_eq!(story.ordered(), ["observe s"]);
        let asked = upbeat_model::Attempt(attempt);
        story.take("s", Input::Observed { asked, seen: Observation::Never });
        assert_eq!(story.ordered(), [format!("start s #{}", attempt + 1)]);
    }
    // Whoever ends is prepared anew.
    story.started("s");
    story.exits("s", upbeat_model::Exit::Code(1));
    assert_eq!(story.ordered(), ["before its start s migrate"]);
}

/// It was never seen to be up.
#[test]
fn what_was_called_off_elsewhere_is_stopped_to_its_end_before_it_is_begun_again() {
    let mut story = one_elsewhere_and_one_resting_on_it();
    story.command(Goal::Running, Ask::Restart, &["s"]);
    story.hooks_end("s", Moment::PreStop, Ok(()));
    assert_eq!(story.ordered().last().unwrap(), "start s #2");
    // Its command takes long; what rests on it takes long to end.
    story.command(Goal::Stopped, Ask::Ensure, &["s", "t"]);
    story.ordered();
    story.command(Goal::Running, Ask::Start, &["s"]);
    assert_ne!(story.phase("s"), "running");
    story.exits("t", upbeat_model::Exit::Code(0));
    assert_eq!(story.ordered(), ["before its stop s stop 10s"]);
    story.hooks_end("s", Moment::PreStop, Ok(()));
    assert_eq!(story.ordered(), ["start s #3"]);
}

/// Whether it was begun is not known; that its hooks had ended is.
#[test]
fn a_start_that_was_not_answered_is_not_prepared_again() {
    let mut story = Story::up("  s: { command: [s], restart: always, pre_start: [{ command: [migrate] }] }");
    story.hooks_end("s", Moment::PreStart, Ok(()));
    assert_eq!(story.ordered(), ["before its start s migrate", "start s #1"]);
    let attempt = story.attempt("s");
    story.take("s", Input::StartRefused { attempt, seen: attempt });
    story.seen("s", Observation::Never);
    assert_eq!(story.ordered(), ["observe s", "start s #2"]);
}

#[test]
fn a_trouble_that_is_over_is_not_told_any_more() {
    let mut story = Story::up("  s: { command: [s] }");
    let (attempt, why) = (story.attempt("s"), "out of processes".to_owned());
    story.take("s", Input::StartUnable { attempt, why: why.clone() });
    assert!(story.why("s").contains("out of processes"), "{}", story.why("s"));
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.seen("s", Observation::Never);
    assert_eq!(story.why("s"), "was stopped by operation 1");
    let mut story = Story::of(Service { external: true, ..Service::new(vec!["go".into()], "/") });
    story.take("s", Input::StartUnable { attempt: story.attempt("s"), why });
    assert!(story.why("s").contains("out of processes"), "{}", story.why("s"));
    story.pass(Millis::seconds(2));
    assert_eq!(story.why("s"), "its process is being started");
}

#[test]
fn whoever_is_asked_for_again_has_made_up_for_nothing_yet() {
    let mut story = Story::up("  s: { command: [s], restart: always }");
    for _ in 0..3 {
        story.started("s");
        story.exits("s", upbeat_model::Exit::Code(1));
        story.pass(Millis::seconds(60));
    }
    let restarts = |story: &Story| story.node.status(&id("s")).unwrap().restarts;
    assert!(restarts(&story) >= 2);
    story.started("s");
    story.exits("s", upbeat_model::Exit::Code(1));
    assert_eq!(story.phase("s"), "backing off");
    story.command(Goal::Running, Ask::Start, &["s"]);
    assert_eq!((story.phase("s"), restarts(&story)), ("starting".into(), 0));
}

//! Stories of starts that fail: each is told once, whatever its copy looks like by then.

use upbeat_model::project::{OnRestart, Probe, Question, Reaction, Remedy, Service};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Attempt, Exit, Millis, ProbeName, Wall};

use super::NONE;
use super::story::{Story, id, services};
use crate::instance::{Input, Moment, Observation};

/// It is there when its check has passed.
const CHECKED: &str = "  s: { command: [s], restart: always, healthcheck: { tcp: '127.0.0.1:1' } }";

/// What was told of starts since the last look.
fn failed(story: &mut Story) -> Vec<String> {
    std::mem::take(&mut story.came_to)
}

#[test]
fn one_that_never_ran_and_one_that_ends_before_it_is_ready_have_failed_to_start() {
    let mut story = Story::up(CHECKED);
    story.take("s", Input::StartFailed { attempt: Attempt(1), why: "no such file".into() });
    assert_eq!(failed(&mut story), ["start s #1 failed"]);
    // The first end is forgiven at once: what is shown is the next attempt alone.
    assert_eq!((story.attempt("s"), story.phase("s")), (Attempt(2), "starting".into()));
    // However long that takes, and however often.
    for attempt in 2..5 {
        story.started("s");
        story.pass(Millis::seconds(15));
        story.exits("s", Exit::Code(1));
        assert_eq!(failed(&mut story), [format!("start s #{attempt} failed")]);
        assert_eq!(story.phase("s"), "starting");
    }
}

#[test]
fn one_that_was_ready_has_not_failed_to_start_and_the_one_after_it_may() {
    let mut story = Story::up(CHECKED);
    story.started("s");
    story.probed("s", true);
    story.exits("s", Exit::Code(1));
    assert_eq!(failed(&mut story), NONE);
    story.started("s");
    story.exits("s", Exit::Code(1));
    assert_eq!(failed(&mut story), ["start s #2 failed"]);
}

#[test]
fn who_needs_nothing_but_to_run_has_been_ready_though_its_end_overtakes_its_start() {
    for (spec, told) in [("  s: { command: [s] }", vec![]), (CHECKED, vec!["start s #1 failed".to_owned()])] {
        let mut story = Story::up(spec);
        story.exits("s", Exit::Code(1));
        assert_eq!(failed(&mut story), told, "{spec}");
    }
}

#[test]
fn hooks_that_fail_are_a_failed_start() {
    let hooked =
        "  s: { command: [s], pre_start: [{ command: [migrate] }], post_start: [{ command: [warm] }] }";
    let mut story = Story::up(hooked);
    story.hooks_end("s", Moment::PreStart, Err("exit 1"));
    assert_eq!(failed(&mut story), ["start s #1 failed"]);

    let mut story = Story::up(hooked);
    story.hooks_end("s", Moment::PreStart, Ok(()));
    story.started("s");
    story.hooks_end("s", Moment::PostStart, Err("exit 1"));
    assert_eq!((story.phase("s"), failed(&mut story)), ("stopping".into(), vec![]));
    // Whoever wants it down by now has come after that.
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.exits("s", Exit::Signal(15));
    assert_eq!(failed(&mut story), ["start s #1 failed"]);
}

#[test]
fn what_is_restarted_as_its_startup_probe_fails_has_failed_to_start() {
    let ask = Probe::new(Question::Tcp("127.0.0.1:1".into()));
    let asks = Probe { failure_threshold: 1, on_failure: Some(Remedy::of(Reaction::Restart)), ..ask };
    let probes = [(ProbeName::new("startup").unwrap(), asks)].into();
    let mut story = Story::of(Service { probes, ..Service::new(vec!["s".into()], "/") });
    story.started("s");
    story.pass(Millis::seconds(70));
    story.probed("s", false);
    assert_eq!((story.phase("s"), failed(&mut story)), ("stopping".into(), vec![]));
    story.exits("s", Exit::Signal(15));
    assert_eq!(failed(&mut story), ["start s #1 failed"]);
    // It is told what it was, also by a daemon that comes later.
    story.started("s");
    story.daemon_dies();
    story.seen("s", Observation::Ended { attempt: Attempt(2), exit: Exit::Code(1) });
    assert_eq!(failed(&mut story), ["start s #2 failed"]);
}

#[test]
fn what_somebody_stops_or_replaces_has_not_failed_to_start() {
    for (goal, ask) in
        [(Goal::Stopped, Ask::Ensure), (Goal::Absent, Ask::Ensure), (Goal::Running, Ask::Restart)]
    {
        let mut story = Story::up(CHECKED);
        story.started("s");
        story.command(goal, ask, &["s"]);
        story.exits("s", Exit::Signal(15));
        assert_eq!(failed(&mut story), NONE, "{goal:?}");
    }
    let mut story = Story::up(CHECKED);
    story.started("s");
    story.declare("  s: { command: [other], healthcheck: { tcp: '127.0.0.1:1' } }");
    story.exits("s", Exit::Signal(15));
    assert_eq!(failed(&mut story), NONE);
}

#[test]
fn neither_has_what_goes_with_what_it_rests_on_nor_what_completes() {
    let text =
        format!("  db: {{ command: [db] }}\n{}", CHECKED.replace("restart: always", "depends_on: [db]"));
    let mut services = services(&text);
    let spec = services.get_mut("s").unwrap();
    spec.depends_on.values_mut().for_each(|edge| edge.on_restart = OnRestart::Restart);
    let mut story = Story::new();
    story.declare_all(services);
    story.started("db");
    story.started("s");
    story.exits("db", Exit::Code(1));
    assert_eq!(story.phase("s"), "stopping");
    story.exits("s", Exit::Signal(15));
    assert_eq!(failed(&mut story), NONE);

    let mut story = Story::up(&CHECKED.replace("always", "'no'"));
    story.started("s");
    story.exits("s", Exit::Code(0));
    assert_eq!((story.phase("s"), failed(&mut story)), ("completed".into(), vec![]));
}

#[test]
fn nobody_knows_of_a_stranger_whether_it_was_ready() {
    let mut story = Story::new();
    story.node.found(["s", "t"].map(id));
    story.declare(&format!("{CHECKED}\n  t: {{ command: [t], depends_on: [s] }}"));
    for slot in ["t", "s"] {
        let (pid, started_at, log_start) = (7, Wall(0), 1);
        story
            .seen(slot, Observation::Running { attempt: Attempt(4), pid, started_at, log_start, held: None });
    }
    assert_eq!(story.why("s"), "stops after t-1");
    story.exits("s", Exit::Code(1));
    assert_eq!(failed(&mut story), NONE);
}

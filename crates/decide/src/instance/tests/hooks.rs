//! Stories of hooks: what runs beside a copy after its start and before its end.

use upbeat_model::project::{Hook, Service};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Millis};

use super::NONE;
use super::story::{Story, id};
use crate::instance::{Input, Moment, Observation};

const HOOKED: &str = "  s: { command: [s], post_start: [{ command: [warm] }, { command: [tell] }] }\n";

#[test]
fn it_counts_as_started_when_its_hooks_have_succeeded() {
    let mut story = Story::up(&format!("{HOOKED}  t: {{ command: [t], depends_on: [s] }}"));
    story.started("s");
    assert_eq!(story.ordered(), ["start s #1", "after its start s warm, tell"]);
    assert_eq!(story.phase("s"), "starting");
    assert_eq!(story.why("s"), "its `post_start` hooks have not ended yet");
    assert_eq!(story.why("t"), "waits for s to be started (s-1 is starting)");
    story.hooks_end("s", Moment::PostStart, Ok(()));
    assert_eq!((story.phase("s"), story.ordered()), ("running".into(), vec!["start t #1".into()]));
}

#[test]
fn its_health_is_asked_for_when_its_hooks_have_succeeded() {
    let mut story = Story::up(
        "  s: { command: [s], post_start: [{ command: [warm] }], healthcheck: { tcp: '127.0.0.1:1' } }",
    );
    story.started("s");
    story.ordered();
    story.pass(Millis::seconds(30));
    assert_eq!(story.ordered(), NONE);
    story.hooks_end("s", Moment::PostStart, Ok(()));
    assert_eq!(story.ordered(), ["probe s"]);
}

#[test]
fn a_hook_that_fails_is_a_start_that_failed() {
    for (policy, phase, why) in [
        (
            "no",
            "failed",
            "ended (could not start: post_start: `warm`: exit 3) and `restart: no` leaves it so",
        ),
        ("always", "starting", "its process is being started"),
    ] {
        let mut story = Story::up(&format!(
            "  s: {{ command: [s], post_start: [{{ command: [warm] }}], restart: '{policy}' }}"
        ));
        story.started("s");
        story.ordered();
        story.hooks_end("s", Moment::PostStart, Err("`warm`: exit 3"));
        assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
        assert_eq!(story.why("s"), "is being stopped because a `post_start` hook of it has failed (SIGTERM)");
        // However well it ends then.
        story.exits("s", Exit::Code(0));
        assert_eq!((story.phase("s"), story.why("s")), (phase.into(), why.into()));
    }
}

#[test]
fn hooks_that_fail_again_and_again_back_off() {
    let mut story =
        Story::up("  s: { command: [s], post_start: [{ command: [warm] }], restart: 'on-failure:2' }");
    for _ in 1..=3 {
        story.pass(Millis::seconds(2));
        story.started("s");
        story.hooks_end("s", Moment::PostStart, Err("`warm`: exit 3"));
        story.exits("s", Exit::Signal(15));
    }
    assert_eq!(story.phase("s"), "failed");
}

#[test]
fn a_start_whose_hooks_took_long_to_fail_was_no_good_run() {
    let mut story =
        Story::up("  s: { command: [s], post_start: [{ command: [warm] }], restart: 'on-failure:2' }");
    for failures in 1..=3 {
        story.pass(Millis::seconds(2));
        assert_eq!(story.phase("s"), "starting", "{failures}");
        story.started("s");
        story.pass(Millis::seconds(30));
        story.hooks_end("s", Moment::PostStart, Err("`warm`: exit 3"));
        story.exits("s", Exit::Signal(15));
    }
    assert_eq!(story.phase("s"), "failed");
}

#[test]
fn a_daemon_that_dies_leaves_the_hooks_to_the_next() {
    let mut story = Story::up(HOOKED);
    story.started("s");
    story.daemon_dies();
    assert_eq!(story.ordered(), ["observe s"]);
    let attempt = story.attempt("s");
    let seen =
        Observation::Running { attempt, pid: 7, started_at: upbeat_model::Wall(0), log_start: 1, held: None };
    story.seen("s", seen.clone());
    assert_eq!(story.ordered(), ["after its start s warm, tell"]);
    story.hooks_end("s", Moment::PostStart, Ok(()));
    // Once they have succeeded, they are not run again.
    story.daemon_dies();
    story.ordered();
    story.seen("s", seen);
    assert_eq!((story.phase("s"), story.ordered()), ("running".into(), vec![]));
}

#[test]
fn an_order_that_got_lost_is_given_again_and_no_hook_is_asked_for_without_end() {
    let mut story = Story::up(HOOKED);
    story.started("s");
    story.ordered();
    story.pass(Millis::seconds(59));
    assert_eq!(story.ordered(), NONE);
    story.pass(Millis::seconds(2));
    assert_eq!(story.ordered(), ["after its start s warm, tell"]);
}

#[test]
fn a_stop_waits_for_no_hook_of_the_start() {
    let mut story = Story::up(HOOKED);
    story.started("s");
    story.ordered();
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
    story.hooks_end("s", Moment::PostStart, Err("killed"));
    story.exits("s", Exit::Signal(15));
    assert_eq!((story.phase("s"), story.ordered()), ("stopped".into(), vec![]));
}

#[test]
fn a_file_that_has_no_hooks_any_more_lets_it_be_started() {
    let mut story = Story::up(HOOKED);
    story.started("s");
    story.declare("  s: { command: [s] }");
    assert_eq!(story.phase("s"), "running");
}

#[test]
fn what_is_run_before_the_stop_comes_in_order_and_shares_the_grace() {
    let mut story = Story::up(
        "  s: { command: [s], pre_stop: [{ command: [drain], environment: { A: b } }], stop_command: [bye] }",
    );
    story.started("s");
    story.ordered();
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    assert_eq!(story.ordered(), ["before its stop s drain, bye 10s"]);
    story.pass(Millis::seconds(4));
    story.hooks_end("s", Moment::PreStop, Ok(()));
    assert_eq!(story.ordered(), ["stop s SIGTERM 6s"]);
}

#[test]
fn a_status_that_is_listed_completes_it_and_opens_the_gate() {
    let mut story = Story::up(
        "  s: { command: [s], success_exit_codes: [3] }
  t: { command: [t], depends_on: { s: { condition: service_completed_successfully } } }",
    );
    story.started("s");
    story.ordered();
    story.exits("s", Exit::Code(3));
    assert_eq!((story.phase("s"), story.ordered()), ("completed".into(), vec!["start t #1".into()]));
}

#[test]
fn the_rhythm_of_restarts_is_that_of_the_file() {
    let mut story = Story::up(
        "  s: { command: [s], deploy: { restart_policy: { delay: 3s, max_attempts: 2, window: 1m } } }",
    );
    for failures in 1..=2 {
        story.started("s");
        // Longer than what is a good run by our own measure.
        story.pass(Millis::seconds(20));
        story.ordered();
        story.exits("s", Exit::Code(0));
        assert_eq!(story.ordered(), NONE, "{failures}");
        story.pass(Millis::seconds(3));
        assert_eq!(story.ordered(), [format!("start s #{}", failures + 1)]);
    }
    story.started("s");
    story.exits("s", Exit::Code(0));
    assert_eq!(story.phase("s"), "completed");
}

#[test]
fn hooks_that_the_file_changes_while_they_run_are_ordered_anew_at_once() {
    let mut story = Story::up(HOOKED);
    story.started("s");
    story.ordered();
    story.declare("  s: { command: [s], post_start: [{ command: [mended] }] }");
    assert_eq!(story.ordered(), ["after its start s mended"]);
}

#[test]
fn what_has_run_before_the_stop_is_not_run_again_by_the_next_daemon() {
    let mut story = Story::up("  s: { command: [s], pre_stop: [{ command: [drain] }] }");
    story.started("s");
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.hooks_end("s", Moment::PreStop, Ok(()));
    let attempt = story.attempt("s");
    story.daemon_dies();
    story.ordered();
    story.seen(
        "s",
        Observation::Running { attempt, pid: 7, started_at: upbeat_model::Wall(0), log_start: 1, held: None },
    );
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
}

#[test]
fn many_small_hooks_are_not_kept_when_the_store_could_not_take_them() {
    for hook in ["{ command: [h] }", r#"{ command: [h, "\x01\x01\x01\x01\x01\x01\x01\x01"] }"#] {
        let hooks = vec![hook; 4_000].join(", ");
        let mut story = Story::up(&format!("  s: {{ command: [s], pre_stop: [{hooks}] }}"));
        story.started("s");
        let kept = serde_json::to_string(&story.disk[&super::story::id("s")]).unwrap();
        assert!(kept.len() < 300 * 1024, "{}", kept.len());
    }
}

fn around() -> Story {
    let hook = |command: &str| Hook {
        command: vec![command.to_owned()],
        environment: Default::default(),
        working_dir: None,
        user: None,
        privileged: false,
        timeout: None,
    };
    Story::of(Service {
        pre_start: vec![hook("migrate")],
        post_stop: vec![hook("clean")],
        ..Service::new(vec!["s".into()], "/")
    })
}

#[test]
fn nothing_is_started_before_its_hooks_have_succeeded() {
    let mut story = around();
    assert_eq!(story.ordered(), ["before its start s migrate"]);
    assert_eq!(story.why("s"), "its `pre_start` hooks have not ended yet");
    // Nothing was started, so there is nothing to look for: they are run again.
    story.daemon_dies();
    assert_eq!(story.ordered(), ["before its start s migrate"]);
    story.hooks_end("s", Moment::PreStart, Err("no"));
    assert_eq!(story.phase("s"), "failed");
    assert_eq!(story.why("s"), "ended (could not start: pre_start: no) and `restart: no` leaves it so");
    assert_eq!(story.ordered(), NONE, "what was not there is not cleaned up after");
    story.command(Goal::Running, Ask::Start, &["s"]);
    assert_eq!(story.ordered(), ["before its start s migrate"]);
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    assert_eq!(story.phase("s"), "stopped", "nobody waits for hooks of a start that is called off");
    story.command(Goal::Running, Ask::Start, &["s"]);
    story.hooks_end("s", Moment::PreStart, Ok(()));
    assert_eq!(story.ordered().last().unwrap(), "start s #3");
}

#[test]
fn what_is_run_after_the_end_comes_before_all_else() {
    let mut story = around();
    story.hooks_end("s", Moment::PreStart, Ok(()));
    story.started("s");
    story.ordered();
    story.command(Goal::Running, Ask::Restart, &["s"]);
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
    story.exits("s", Exit::Signal(15));
    assert_eq!(story.ordered(), ["after its stop s clean 10s"]);
    assert_eq!(story.why("s"), "its `post_stop` hooks have not ended yet");
    story.daemon_dies();
    assert_eq!(story.ordered(), ["after its stop s clean 10s"], "the next daemon runs them again");
    story.hooks_end("s", Moment::PostStop, Err("no"));
    assert_eq!(story.ordered(), ["before its start s migrate"], "whether they succeed or not");
    story.hooks_end("s", Moment::PreStart, Ok(()));
    story.started("s");
    story.command(Goal::Absent, Ask::Ensure, &["s"]);
    story.exits("s", Exit::Code(0));
    story.ordered();
    assert_eq!(story.phase("s"), "stopping");
    story.hooks_end("s", Moment::PostStop, Ok(()));
    assert_eq!(story.ordered(), ["remove s"]);
}

#[test]
fn what_runs_elsewhere_is_started_and_stopped_by_commands_and_never_looked_for() {
    let mut story = Story::of(Service {
        external: true,
        stop_command: Some(vec!["systemctl".into(), "stop".into()]),
        ..Service::new(vec!["systemctl".into(), "start".into()], "/")
    });
    assert_eq!(story.ordered(), ["start s #1"]);
    story.daemon_dies();
    assert_eq!(story.ordered(), ["start s #1"], "nobody knows whether it was: it is started again");
    story.started("s");
    assert_eq!(story.phase("s"), "running");
    assert_eq!(story.node.status(&id("s")).unwrap().pid, None);
    story.daemon_dies();
    assert_eq!(story.ordered(), NONE, "there is nothing to look at");
    assert_eq!(story.phase("s"), "running");
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    assert_eq!(story.ordered(), ["before its stop s systemctl stop 10s"]);
    story.hooks_end("s", Moment::PreStop, Err("busy"));
    assert_eq!(story.phase("s"), "stopping");
    assert!(story.why("s").contains("its stop command failed: busy"), "{}", story.why("s"));
    story.pass(Millis::seconds(2));
    assert_eq!(story.ordered(), ["before its stop s systemctl stop 10s"], "it is tried again");
    story.hooks_end("s", Moment::PreStop, Ok(()));
    assert_eq!(story.phase("s"), "stopped");
}

#[test]
fn what_is_being_started_elsewhere_is_stopped_at_once_whatever_becomes_of_its_start() {
    let spec = Service {
        external: true,
        stop_command: Some(vec!["stop".into()]),
        post_stop: vec![Hook {
            command: vec!["sweep".into()],
            environment: Default::default(),
            working_dir: None,
            user: None,
            privileged: false,
            timeout: None,
        }],
        ..Service::new(vec!["start".into()], "/")
    };
    for kill in [false, true] {
        let mut story = Story::of(spec.clone());
        assert_eq!(story.ordered(), ["start s #1"]);
        story.pass(Millis::seconds(3));
        story.target.slots.get_mut(&id("s")).unwrap().kill = kill;
        story.command(Goal::Stopped, Ask::Ensure, &["s"]);
        assert_eq!(story.ordered(), ["before its stop s stop 10s"]);
        assert_eq!(story.phase("s"), "stopping");
        assert_eq!(story.why("s"), "is being stopped as asked (stop command)");
        // Its start may have come to an end just before it was ended.
        story.started("s");
        let attempt = story.attempt("s");
        story.take("s", Input::StartFailed { attempt, why: "killed".into() });
        assert_eq!((story.phase("s").as_str(), story.ordered()), ("stopping", vec![]));
        story.hooks_end("s", Moment::PreStop, Ok(()));
        if !kill {
            assert_eq!(story.ordered(), ["after its stop s sweep 10s"]);
            story.hooks_end("s", Moment::PostStop, Ok(()));
        }
        assert_eq!((story.phase("s").as_str(), story.ordered()), ("stopped", vec![]));
    }
    // Neither does another file wait for the command of the one before.
    let mut story = Story::of(spec.clone());
    story.ordered();
    let other = Service { command: vec!["better".into()], ..spec };
    story.declare_all([(upbeat_model::ServiceName::new("s").unwrap(), other)].into());
    assert_eq!(story.ordered(), ["before its stop s stop 10s"]);
}

#[test]
fn a_stop_command_that_fails_for_all_its_time_is_given_up_and_that_is_said() {
    let mut story = Story::of(Service {
        external: true,
        stop_command: Some(vec!["stop".into()]),
        stop_grace_period: Millis::seconds(20),
        ..Service::new(vec!["start".into()], "/")
    });
    story.started("s");
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    let mut runs = 0;
    let begun = story.now;
    while story.phase("s") == "stopping" {
        let tried = story.ordered().iter().filter(|order| order.starts_with("before its stop")).count();
        runs += tried;
        assert!(runs < 100, "for ever");
        for _ in 0..tried {
            story.hooks_end("s", Moment::PreStop, Err("exit 1: busy"));
        }
        story.pass(Millis(100));
    }
    assert!((20_000..22_000).contains(&(story.now - begun)), "{}", story.now - begun);
    assert!(runs > 10, "{runs}");
    assert_eq!(story.phase("s"), "needs attention");
    assert!(story.why("s").starts_with("could not be stopped, and may run on"), "{}", story.why("s"));
    let failed = |story: &Story| {
        let outcome = crate::outcome(story.node.status(&id("s")).unwrap());
        matches!(outcome, Some(upbeat_model::Wish::Failed { .. }))
    };
    assert!(failed(&story), "nobody is told that it is stopped");
    story.pass(Millis::seconds(3600));
    story.daemon_dies();
    story.pass(Millis::seconds(3600));
    assert_eq!((story.phase("s").as_str(), story.ordered()), ("needs attention", vec![]));
    // Whoever wants it to run after all has it stopped to the end, and started.
    story.command(Goal::Running, Ask::Ensure, &["s"]);
    assert_eq!(story.ordered(), ["before its stop s stop 20s"]);
    assert!(story.why("s").contains("because an earlier stop of it was given up"), "{}", story.why("s"));
    story.hooks_end("s", Moment::PreStop, Ok(()));
    assert_eq!((story.phase("s").as_str(), story.ordered()), ("starting", vec!["start s #2".to_owned()]));
    story.started("s");
    assert_eq!(story.phase("s"), "running");
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.pass(Millis::seconds(21));
    story.hooks_end("s", Moment::PreStop, Err("exit 1: busy"));
    assert!(failed(&story), "{}", story.phase("s"));
    story.ordered();
    // Nothing is started over it, and it is not forgotten.
    story.command(Goal::Running, Ask::Restart, &["s"]);
    assert_eq!(story.ordered(), ["before its stop s stop 20s"]);
    story.command(Goal::Absent, Ask::Ensure, &["s"]);
    story.pass(Millis::seconds(21));
    story.hooks_end("s", Moment::PreStop, Err("exit 1: busy"));
    assert!(failed(&story) && story.phase("s") == "needs attention", "{}", story.phase("s"));
    story.ordered();
    story.command(Goal::Absent, Ask::Ensure, &["s"]);
    story.hooks_end("s", Moment::PreStop, Ok(()));
    assert_eq!(story.ordered(), ["before its stop s stop 20s", "remove s"]);
}

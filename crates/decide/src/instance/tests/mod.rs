//! Stories of slots in virtual time, told through a whole [`Node`]: what a person declares, what
//! happens, what is done about it.

mod believed;
mod claims;
mod containers;
mod edges;
mod edits;
mod found;
mod hooks;
mod leaving;
mod locks;
mod probes;
mod starts;
mod story;
mod successors;
mod timeline;
mod unable;
mod unkept;

use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Attempt, Exit, Millis, Mono, Wall};

use super::{Input, Moment, Observation, backoff};
use crate::node::Node;
use crate::rules::Rules;
use story::{Story, id};

/// So many nothings.
const NONE: [&str; 0] = [];

#[test]
fn a_dependent_starts_when_its_condition_holds_and_not_before() {
    let mut story = Story::up(
        "  db: { command: [db], healthcheck: { tcp: '127.0.0.1:1' } }
  web: { command: [web], depends_on: { db: { condition: service_healthy } } }",
    );
    assert_eq!(story.ordered(), ["start db #1"]);
    assert_eq!(story.why("web"), "waits for db to be healthy (db-1 is starting)");
    story.started("db");
    assert_eq!(story.ordered(), ["probe db"]);
    story.probed("db", false);
    assert_eq!(story.ordered(), NONE);
    story.pass(Millis(10));
    assert_eq!(story.ordered(), ["probe db"], "an eager one");
    story.probed("db", true);
    assert_eq!((story.ordered(), story.phase("db")), (vec!["start web #1".to_owned()], "healthy".into()));
}

#[test]
fn the_second_quick_end_waits_and_the_fifth_is_a_crash_loop_that_goes_on() {
    let mut story = Story::up("  s: { command: [s], restart: always }");
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert_eq!(story.ordered().len(), 1);
        story.started("s");
        story.exits("s", Exit::Code(1));
        let begun = story.now;
        while story.orders.is_empty() {
            story.pass(Millis(100));
        }
        waits.push((story.now - begun) / 1000);
    }
    assert_eq!(waits, [0, 1, 2, 4, 8, 16], "seconds, and a tenth of spread at most");
    story.started("s");
    story.exits("s", Exit::Code(1));
    assert_eq!(story.phase("s"), "crash-looping");
    assert!(story.why("s").contains("after its 7th exit (exit 1)"), "{}", story.why("s"));
}

#[test]
fn a_good_run_makes_the_next_end_the_first_again() {
    let mut story = Story::up("  s: { command: [s], restart: 'on-failure:2' }");
    for _ in 0..10 {
        assert!(story.ordered()[0].starts_with("start s"));
        story.started("s");
        story.pass(backoff::RESET_WINDOW);
        story.exits("s", Exit::Code(3));
    }
    assert_eq!(story.ordered(), ["start s #11"]);
}

#[test]
fn the_policy_gives_up_and_says_so_and_up_tries_again() {
    let mut story =
        Story::up("  s: { command: [s], restart: 'on-failure:1' }\n  t: { command: [t], depends_on: [s] }");
    for _ in 0..2 {
        story.started("s");
        if story.phase("t") == "starting" {
            story.started("t");
        }
        story.exits("s", Exit::Signal(11));
    }
    assert_eq!(story.phase("s"), "failed");
    assert!(
        story.why("s").ends_with("after 1 restart and `restart: on-failure:1` leaves it so"),
        "{}",
        story.why("s")
    );
    story.ordered();
    story.command(Goal::Running, Ask::Ensure, &["s"]);
    assert_eq!(story.ordered(), ["start s #3"]);
}

#[test]
fn a_dependency_that_failed_is_named_by_its_dependents_down_the_chain() {
    let mut story = Story::up(
        "  a: { command: [a] }
  b: { command: [b], depends_on: { a: { condition: service_completed_successfully } } }
  c: { command: [c], depends_on: [b] }
  d: { command: [d] }",
    );
    assert_eq!(story.ordered(), ["start a #1", "start d #1"]);
    story.started("a");
    story.exits("a", Exit::Code(2));
    assert_eq!(
        (story.phase("b"), story.phase("c")),
        ("dependency failed".into(), "dependency failed".into())
    );
    assert_eq!(story.why("b"), "needs a to complete successfully, but a-1 is failed (exit 2)");
    assert_eq!(story.why("c"), "needs b to be started, but b-1 is dependency failed");
    story.started("d");
    assert_eq!((story.phase("d"), story.ordered()), ("running".into(), vec![]));
}

#[test]
fn a_stop_waits_for_those_that_go_too_and_not_for_those_that_stay() {
    let text = "  db: { command: [db], stop_signal: SIGINT, stop_grace_period: 3s }\n  web: { command: [web], depends_on: [db] }";
    let mut story = Story::up(text);
    story.started("db");
    story.started("web");
    story.ordered();
    story.command(Goal::Stopped, Ask::Ensure, &["db", "web"]);
    assert_eq!(story.ordered(), ["stop web SIGTERM 10s"]);
    assert_eq!(story.why("db"), "stops after web-1");
    story.exits("web", Exit::Signal(15));
    assert_eq!(story.ordered(), ["stop db SIGINT 3s"]);
    story.exits("db", Exit::Code(0));
    assert_eq!((story.phase("db"), story.ordered()), ("stopped".into(), vec![]));

    let mut story = Story::up(text);
    story.started("db");
    story.started("web");
    story.ordered();
    story.command(Goal::Stopped, Ask::Ensure, &["db"]);
    assert_eq!(story.ordered(), ["stop db SIGINT 3s"]);
}

#[test]
fn the_stop_command_comes_first_and_the_signal_has_what_is_left_of_the_grace() {
    let mut story = Story::up("  s: { command: [s], stop_command: [bye], stop_grace_period: 8s }");
    story.started("s");
    story.ordered();
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    assert_eq!(story.ordered(), ["before its stop s bye 8s"]);
    story.pass(Millis::seconds(3));
    story.hooks_end("s", Moment::PreStop, Ok(()));
    assert_eq!(story.ordered(), ["stop s SIGTERM 5s"]);
}

#[test]
fn a_wish_that_changes_while_it_stops_lets_the_stop_end_and_starts_again() {
    let mut story = Story::up("  s: { command: [s] }");
    story.started("s");
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.ordered();
    story.command(Goal::Running, Ask::Start, &["s"]);
    assert_eq!((story.ordered(), story.phase("s")), (vec![], "stopping".into()));
    story.exits("s", Exit::Signal(15));
    assert_eq!(story.ordered(), ["start s #2"]);
}

#[test]
fn a_stop_wished_while_it_starts_is_made_when_the_start_is_known() {
    let mut story = Story::up("  s: { command: [s] }");
    story.ordered();
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    assert_eq!(story.ordered(), NONE);
    story.started("s");
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
}

#[test]
fn late_news_of_an_older_attempt_changes_nothing() {
    let mut story = Story::up("  s: { command: [s], restart: always }");
    story.started("s");
    story.exits("s", Exit::Code(0));
    story.started("s");
    story.ordered();
    story.take("s", Input::Exited { attempt: Attempt(1), exit: Exit::Code(9) });
    for moment in [Moment::PostStart, Moment::PreStop] {
        story.take(
            "s",
            Input::HooksEnded { attempt: Attempt(1), moment, serial: 1, outcome: Err("late".into()) },
        );
    }
    story.take("s", Input::Probed { attempt: Attempt(1), check: 1, healthy: false, message: String::new() });
    assert_eq!((story.phase("s"), story.ordered()), ("running".into(), vec![]));
}

#[test]
fn after_a_crash_it_looks_before_it_does_and_finds_what_happened_meanwhile() {
    let mut story = Story::up(
        "  ran: { command: [x] }\n  died: { command: [x], restart: always }\n  never: { command: [x] }",
    );
    story.started("ran");
    story.started("died");
    story.daemon_dies();
    assert_eq!(story.ordered(), ["observe died", "observe never", "observe ran"]);
    let there =
        Observation::Running { attempt: Attempt(1), pid: 7, started_at: Wall(0), log_start: 1, held: None };
    story.seen("ran", there);
    story.seen("died", Observation::Ended { attempt: Attempt(1), exit: Exit::Code(4) });
    story.seen("never", Observation::Never);
    assert_eq!(story.ordered(), ["start died #2", "start never #2"]);
    assert_eq!(story.phase("ran"), "running");
}

#[test]
fn an_unanswered_look_is_asked_again_and_nothing_else_is_done_before() {
    let mut story = Story::up("  s: { command: [s], healthcheck: { tcp: '127.0.0.1:1' } }");
    story.started("s");
    story.daemon_dies();
    story.pass(Millis::seconds(11));
    assert_eq!(story.ordered(), ["observe s", "observe s", "observe s"]);
}

#[test]
fn a_killed_shim_is_an_unknown_end_that_the_policy_judges() {
    let mut story = Story::up("  s: { command: [s], restart: on-failure }\n  t: { command: [t] }");
    story.started("s");
    story.started("t");
    story.ordered();
    for slot in ["s", "t"] {
        story.exits(slot, Exit::Unknown("killed by somebody".into()));
    }
    assert_eq!(story.ordered(), ["start s #2"]);
    assert_eq!(story.phase("t"), "failed");
    assert!(story.why("t").contains("its shim was killed: killed by somebody"), "{}", story.why("t"));
}

#[test]
fn a_changed_file_replaces_only_what_changed() {
    let mut story = Story::up("  a: { command: [a] }\n  b: { command: [b] }");
    story.started("a");
    story.started("b");
    story.ordered();
    story.declare("  a: { command: [a] }\n  b: { command: [b, more] }");
    assert_eq!(story.ordered(), ["stop b SIGTERM 10s"]);
    story.exits("b", Exit::Signal(15));
    assert_eq!(story.ordered(), ["start b #2"]);
}

#[test]
fn what_completed_stays_completed_for_up_and_runs_again_for_start() {
    let mut story = Story::up("  job: { command: [job] }");
    story.started("job");
    story.exits("job", Exit::Code(0));
    assert_eq!(story.phase("job"), "completed");
    story.ordered();
    story.command(Goal::Running, Ask::Ensure, &["job"]);
    assert_eq!(story.ordered(), NONE);
    story.command(Goal::Running, Ask::Start, &["job"]);
    assert_eq!(story.ordered(), ["start job #2"]);
}

#[test]
fn failures_count_only_by_interval_and_a_pass_makes_it_healthy_again() {
    let mut story = Story::up(
        "  s: { command: [s], healthcheck: { tcp: '127.0.0.1:1', interval: 10s, retries: 2, start_period: 15s, start_interval: 5s } }",
    );
    story.started("s");
    let fail_until = |story: &mut Story, at: u64| {
        while story.now < at {
            if story.ordered().iter().any(|order| order.starts_with("probe")) {
                story.probed("s", false);
            }
            story.pass(Millis(100));
        }
    };
    fail_until(&mut story, 15_500);
    assert_eq!(story.phase("s"), "starting", "within its start period nothing counts");
    fail_until(&mut story, 50_000);
    assert_eq!(story.phase("s"), "unhealthy");
    while story.ordered().is_empty() {
        story.pass(Millis(100));
    }
    story.probed("s", true);
    assert_eq!(story.phase("s"), "healthy");
    story.pass(Millis(4_900));
    assert_eq!(story.ordered(), NONE, "no more eager ones");
    // The first interval after the first yes is up to a half shorter, so that what was started
    // together is not asked together for ever.
    story.pass(Millis(5_100));
    assert_eq!(story.ordered(), ["probe s"]);
    story.probed("s", true);
    story.pass(Millis(9_900));
    assert_eq!(story.ordered(), NONE);
    story.pass(Millis(100));
    assert_eq!(story.ordered(), ["probe s"]);
}

#[test]
fn a_probe_that_nobody_answers_is_asked_again_and_never_counts() {
    let text =
        "  s: { command: [s], healthcheck: { tcp: '127.0.0.1:1', interval: 1s, timeout: 1s, retries: 1 } }";
    let mut story = Story::up(text);
    story.started("s");
    story.pass(Millis::seconds(30));
    assert_eq!(story.phase("s"), "starting", "its probe may wait for its turn all the time");
    assert_eq!(story.ordered()[1..], vec!["probe s"; 11], "one every timeout and two seconds");
    story.probed("s", true);
    story.pass(Millis::seconds(60));
    assert_eq!(story.phase("s"), "healthy");
    story.probed("s", false);
    assert_eq!(story.phase("s"), "unhealthy", "one that was answered, however late");
}

#[test]
fn a_removal_is_repeated_until_it_is_told_and_a_new_wish_waits_for_it() {
    let mut story = Story::up("  s: { command: [s] }");
    story.started("s");
    story.ordered();
    story.command(Goal::Absent, Ask::Ensure, &["s"]);
    story.exits("s", Exit::Signal(15));
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s", "remove s"]);
    story.take("s", Input::RemoveFailed { why: "the disk is read-only".into() });
    story.command(Goal::Running, Ask::Ensure, &["s"]);
    assert_eq!(story.ordered(), NONE);
    assert!(story.why("s").contains("the disk is read-only"), "{}", story.why("s"));
    story.pass(Millis::seconds(1));
    assert_eq!(story.ordered(), ["observe s"], "somebody may be there");
    assert!(story.why("s").contains("the disk is read-only"), "{}", story.why("s"));
    story.seen("s", Observation::Never);
    assert_eq!(story.ordered(), ["remove s"]);
    story.take("s", Input::Removed);
    assert_eq!(story.ordered(), ["start s #1"]);
}

#[test]
fn a_late_copy_that_keeps_a_slot_from_being_removed_is_stopped() {
    for goal in [Goal::Absent, Goal::Running] {
        let mut story = Story::up("  s: { command: [s] }");
        story.started("s");
        story.command(Goal::Absent, Ask::Ensure, &["s"]);
        story.exits("s", Exit::Signal(15));
        story.take("s", Input::RemoveFailed { why: "a shim still holds it".into() });
        story.command(goal, Ask::Ensure, &["s"]);
        story.pass(Millis::seconds(1));
        story.ordered();
        let late = Observation::Running {
            attempt: Attempt(2),
            pid: 9,
            started_at: Wall(0),
            log_start: 1,
            held: None,
        };
        story.seen("s", late);
        assert_eq!(story.ordered(), ["stop s SIGTERM 10s"], "nobody has asked for it: {goal:?}");
        story.exits("s", Exit::Signal(15));
        let next = if goal == Goal::Absent { "remove s" } else { "start s #3" };
        assert_eq!(story.ordered(), [next]);
    }
}

#[test]
fn a_second_ctrl_c_kills_what_does_not_go() {
    let mut story = Story::up("  s: { command: [s], stop_grace_period: 1h }");
    story.started("s");
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.ordered();
    story.target.slots.get_mut(&id("s")).unwrap().kill = true;
    story.aim();
    assert_eq!(story.ordered(), ["stop s SIGKILL 0ms"]);
    story.aim();
    assert_eq!(story.ordered(), NONE, "once");
}

#[test]
fn a_stop_that_was_decided_and_not_made_is_made_by_the_next_daemon_with_all_its_grace() {
    let mut story =
        Story::up("  s: { command: [s], stop_grace_period: 1m }\n  t: { command: [t], stop_command: [bye] }");
    story.started("s");
    story.started("t");
    story.command(Goal::Stopped, Ask::Ensure, &["s", "t"]);
    story.daemon_dies();
    assert_eq!(story.phase("s"), "stopping", "what is there is not known yet");
    for slot in ["s", "t"] {
        let there = Observation::Running {
            attempt: Attempt(1),
            pid: 7,
            started_at: Wall(0),
            log_start: 1,
            held: None,
        };
        story.seen(slot, there);
    }
    assert_eq!(story.ordered(), ["observe s", "observe t", "stop s SIGTERM 1m", "before its stop t bye 10s"]);
}

#[test]
fn a_look_from_before_the_last_start_is_older_than_it() {
    let there =
        Observation::Running { attempt: Attempt(1), pid: 7, started_at: Wall(0), log_start: 1, held: None };
    let gone = Observation::Ended { attempt: Attempt(1), exit: Exit::Code(1) };
    for stale in [there, gone, Observation::Never] {
        let mut story = Story::up("  s: { command: [s], restart: always }");
        story.started("s");
        story.daemon_dies();
        // The end overtakes the look, and is answered by a start.
        story.exits("s", Exit::Code(1));
        assert_eq!(story.ordered(), ["observe s", "start s #2"]);
        let stale = Input::Observed { asked: Attempt(1), seen: stale };
        story.take("s", stale.clone());
        story.started("s");
        story.take("s", stale);
        assert_eq!((story.phase("s"), story.ordered()), ("running".into(), vec![]));
    }
}

#[test]
fn what_is_only_remembered_is_not_shown_as_seen() {
    let mut story = Story::up("  s: { command: [s] }");
    story.started("s");
    story.target.slots.get_mut(&id("s")).unwrap().generation += 1;
    story.node = Node::recover(story.disk.clone(), Rules::default());
    let bundle = story.node.aim(&story.target, Mono(story.now), Wall(0));
    assert!(!bundle.statuses[&id("s")].is_seen);
    let there =
        Observation::Running { attempt: Attempt(1), pid: 7, started_at: Wall(0), log_start: 1, held: None };
    let bundle = story.node.take(
        [(id("s"), Input::Observed { asked: Attempt(1), seen: there })],
        Mono(story.now),
        Wall(0),
    );
    assert!(bundle.statuses[&id("s")].is_seen);
}

#[test]
fn a_running_copy_stops_before_what_it_rested_on_though_the_new_file_knows_no_edge() {
    let mut story = Story::up("  db: { command: [db] }\n  web: { command: [web], depends_on: [db] }");
    story.started("db");
    story.started("web");
    story.ordered();
    story.target.slots.get_mut(&id("db")).unwrap().goal = Goal::Absent;
    story.declare("  web: { command: [web, more] }");
    assert_eq!(story.ordered(), ["stop web SIGTERM 10s"]);
    story.exits("web", Exit::Signal(15));
    assert_eq!(story.ordered(), ["start web #2", "stop db SIGTERM 10s"]);
}

#[test]
fn a_mended_pattern_is_watched_for_and_a_log_that_could_not_be_watched_is_tried_again() {
    let mut story = Story::up("  s: { command: [s], healthcheck: { log: wrong } }");
    story.started("s");
    story.declare("  s: { command: [s], healthcheck: { log: right } }");
    assert_eq!(story.ordered(), ["start s #1", "watch s for wrong", "watch s for right"]);
    story.probed("s", false);
    assert!(story.why("s").ends_with("said false"), "{}", story.why("s"));
    story.pass(Millis::seconds(1));
    assert_eq!(story.ordered(), ["watch s for right"]);
    story.probed("s", true);
    assert_eq!(story.phase("s"), "healthy");
}

#[test]
fn another_question_makes_an_answer_worthless() {
    let mut story = Story::up("  s: { command: [s], healthcheck: { tcp: '127.0.0.1:1' } }");
    story.started("s");
    story.probed("s", true);
    assert_eq!(story.phase("s"), "healthy");
    story.declare("  s: { command: [s], healthcheck: { tcp: '127.0.0.1:1', interval: 1s } }");
    assert_eq!(story.phase("s"), "healthy", "only the rhythm is another");
    story.declare("  s: { command: [s], healthcheck: { tcp: '127.0.0.1:2' } }");
    assert_eq!(story.phase("s"), "starting");
}

#[test]
fn a_slot_that_nobody_names_any_more_goes_though_it_has_come_back() {
    let mut story = Story::up("  s: { command: [s] }");
    story.started("s");
    story.ordered();
    story.target.slots.clear();
    story.aim();
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
    story.exits("s", Exit::Signal(15));
    assert_eq!(story.ordered(), ["remove s"]);
    story.take("s", Input::Removed);
    assert!(story.node.status(&id("s")).is_none());
    assert!(story.disk.is_empty());
}

#[test]
fn what_upbeat_cannot_do_is_no_failure_of_the_service() {
    let mut story =
        Story::up("  s: { command: [s], restart: \"no\" }\n  t: { command: [t], depends_on: [s] }");
    assert_eq!(story.ordered(), ["start s #1"]);
    for attempt in 1..4 {
        let why = "too many open files".to_owned();
        story.take("s", Input::StartUnable { attempt: Attempt(attempt), why });
        assert_eq!((story.phase("s"), story.ordered()), ("starting".into(), vec![]));
        assert!(story.why("s").contains("too many open files"), "{}", story.why("s"));
        story.pass(Millis::seconds(1));
        assert_eq!(story.ordered(), ["observe s"]);
        story.seen("s", Observation::Never);
        assert_eq!(story.ordered(), [format!("start s #{}", attempt + 1)]);
    }
    assert_eq!(story.phase("t"), "waiting");
    story.started("s");
    assert_eq!((story.phase("s"), story.ordered()), ("running".into(), vec!["start t #1".into()]));
}

#[test]
fn a_start_that_comes_late_is_found_by_a_second_look() {
    let mut story = Story::up(
        "  db: { command: [db] }
  s: { command: [s], depends_on: [db] }",
    );
    story.started("db");
    story.ordered();
    story.exits("db", Exit::Code(1));
    story.daemon_dies();
    story.ordered();
    story.seen("s", Observation::Never);
    assert_eq!((story.phase("s"), story.ordered()), ("dependency failed".into(), vec![]));
    story.pass(Millis::seconds(60));
    assert_eq!(story.ordered(), ["observe s"]);
    let late = Observation::Running {
        attempt: story.attempt("s"),
        pid: 7,
        started_at: Wall(0),
        log_start: 1,
        held: None,
    };
    story.seen("s", late);
    // As it was ordered by the wish that still holds, it stays.
    assert_eq!((story.phase("s"), story.ordered()), ("running".into(), vec![]));
}

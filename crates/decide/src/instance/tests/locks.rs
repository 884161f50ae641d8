//! Stories of update locks.

use upbeat_model::plan::Lock;
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Millis};

use super::story::{Story, id};
use crate::instance::{Input, Observation, Unlocked};

/// A service with a lock, of this version.
fn locking(name: &str, version: u32) -> String {
    format!("  {name}: {{ command: [{name}, '{version}'], x-upbeat: {{ update_lock: true }} }}\n")
}

fn plain(name: &str, version: u32) -> String {
    format!("  {name}: {{ command: [{name}, '{version}'] }}\n")
}

fn held(slot: &str) -> Unlocked {
    Unlocked::Held {
        slot: id(slot),
        lock: Lock { holder: "backup (pid 7)".into(), since: Some("10:00".into()) },
    }
}

impl Story {
    fn locks(&mut self, slot: &str, serial: u64, outcome: Result<(), Unlocked>) {
        self.take(slot, Input::Locked { serial, outcome });
    }

    /// These run.
    fn all_run(text: &str, slots: &[&str]) -> Self {
        let mut story = Self::up(text);
        slots.iter().for_each(|slot| story.started(slot));
        story.ordered();
        story
    }
}

#[test]
fn what_is_locked_runs_on_until_its_lock_is_free_and_says_who_holds_it() {
    let mut story = Story::all_run(&locking("a", 1), &["a"]);
    story.update(&locking("a", 2));
    assert_eq!(story.ordered(), ["lock a-1"]);
    story.locks("a", 1, Err(held("a")));
    assert!(!story.ordered().iter().any(|order| order.starts_with("stop")));
    let why = story.why("a");
    assert!(why.contains("the update lock of a-1 is free, held by backup (pid 7) since 10:00"), "{why}");
    assert!(why.contains("--force"), "{why}");
    story.pass(Millis(1_000));
    assert_eq!(story.ordered(), ["lock a-1"], "it is tried again");
    story.locks("a", 2, Ok(()));
    assert_eq!(story.ordered(), ["stop a SIGTERM 10s"]);
    story.exits("a", Exit::Code(0));
    assert_eq!(story.ordered(), ["unlock a", "start a #2"], "what comes after it may take the lock");
}

#[test]
fn it_is_tried_again_more_and_more_slowly() {
    let mut story = Story::all_run(&locking("a", 1), &["a"]);
    story.update(&locking("a", 2));
    let mut waits = Vec::new();
    for serial in 1..=5 {
        story.ordered();
        story.locks("a", serial, Err(held("a")));
        story.ordered();
        let mut waited = 0;
        while story.ordered().is_empty() {
            story.pass(Millis(500));
            waited += 500;
        }
        waits.push(waited);
    }
    assert_eq!(waits, [1_000, 2_000, 4_000, 5_000, 5_000]);
}

#[test]
fn of_several_all_are_interrupted_or_none() {
    let text = |version| locking("a", version) + &locking("b", version) + &plain("c", version);
    let mut story = Story::all_run(&text(1), &["a", "b", "c"]);
    story.update(&text(2));
    assert_eq!(story.ordered(), ["lock a-1, b-1"]);
    story.locks("a", 1, Err(held("b")));
    let orders = story.ordered();
    assert!(orders.iter().all(|order| order.starts_with("unlock")), "{orders:?}");
    for slot in ["a", "b", "c"] {
        assert!(story.why(slot).contains("the update lock of b-1"), "{}", story.why(slot));
    }
    story.pass(Millis(1_000));
    story.ordered();
    story.locks("a", 2, Ok(()));
    assert_eq!(story.ordered(), ["stop a SIGTERM 10s", "stop b SIGTERM 10s", "stop c SIGTERM 10s"]);
}

#[test]
fn what_does_not_change_is_asked_for_nothing() {
    let text = |version| locking("a", 1) + &plain("b", version);
    let mut story = Story::all_run(&text(1), &["a", "b"]);
    story.update(&text(2));
    assert_eq!(story.ordered(), ["stop b SIGTERM 10s"]);
}

#[test]
fn what_is_dropped_is_locked_too() {
    let text = locking("a", 1) + &plain("b", 1);
    let mut story = Story::all_run(&text, &["a", "b"]);
    story.update(&plain("b", 1));
    assert_eq!(story.ordered(), ["lock a-1"]);
    story.locks("a", 1, Err(held("a")));
    story.ordered();
    assert!(story.why("a").contains("update lock"), "{}", story.why("a"));
}

#[test]
fn a_lock_that_the_new_file_does_not_give_counts_as_long_as_the_old_copy_runs() {
    let mut story = Story::all_run(&locking("a", 1), &["a"]);
    story.update(&plain("a", 2));
    assert_eq!(story.ordered(), ["lock a-1"]);
}

#[test]
fn what_follows_the_end_of_what_is_replaced_is_locked_with_it() {
    let text = |version: u32| {
        let edge = "{ condition: service_started, x-upbeat: { on_restart: restart } }";
        plain("db", version)
            + &format!(
                "  web: {{ command: [web], depends_on: {{ db: {edge} }}, x-upbeat: {{ update_lock: true }} }}\n"
            )
    };
    let mut story = Story::up(&text(1));
    story.started("db");
    story.started("web");
    story.ordered();
    story.update(&text(2));
    assert_eq!(story.ordered(), ["lock web-1"]);
    story.locks("web", 1, Ok(()));
    assert_eq!(story.ordered(), ["stop db SIGTERM 10s"]);
    story.exits("db", Exit::Code(0));
    let orders = story.ordered();
    assert!(!orders.contains(&"unlock web".to_owned()), "not before it has ended: {orders:?}");
    assert!(orders.contains(&"stop web SIGTERM 10s".to_owned()), "{orders:?}");
    story.exits("web", Exit::Code(0));
    assert!(story.ordered().contains(&"unlock web".to_owned()));
}

#[test]
fn who_insists_does_not_wait() {
    let mut story = Story::all_run(&locking("a", 1), &["a"]);
    story.update(&locking("a", 2));
    story.locks("a", 1, Err(held("a")));
    story.ordered();
    // `up --force`.
    story.declare(&locking("a", 2));
    assert!(story.ordered().contains(&"stop a SIGTERM 10s".to_owned()));
}

#[test]
fn what_a_person_asks_for_by_name_does_not_wait() {
    for (goal, ask) in
        [(Goal::Stopped, Ask::Ensure), (Goal::Running, Ask::Restart), (Goal::Absent, Ask::Ensure)]
    {
        let mut story = Story::all_run(&locking("a", 1), &["a"]);
        story.command(goal, ask, &["a"]);
        assert_eq!(story.ordered(), ["stop a SIGTERM 10s"]);
    }
}

#[test]
fn an_update_that_is_called_off_lets_go() {
    let text = |version| locking("a", version) + &locking("b", version);
    let mut story = Story::all_run(&text(1), &["a", "b"]);
    story.update(&text(2));
    story.update(&text(1));
    let orders = story.ordered();
    assert_eq!(orders, ["lock a-1, b-1", "unlock a", "unlock b"]);
    story.locks("a", 1, Ok(()));
    assert_eq!(story.ordered(), [] as [&str; 0], "that answer is late");
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again() {
    let mut story = Story::all_run(&locking("a", 1), &["a"]);
    story.update(&locking("a", 2));
    story.ordered();
    story.pass(Millis(5_000));
    assert_eq!(story.ordered(), ["lock a-1"]);
    story.locks("a", 1, Ok(()));
    assert_eq!(story.ordered(), [] as [&str; 0]);
    story.locks("a", 2, Ok(()));
    assert_eq!(story.ordered(), ["stop a SIGTERM 10s"]);
}

#[test]
fn the_next_daemon_asks_anew() {
    let mut story = Story::all_run(&locking("a", 1), &["a"]);
    story.update(&locking("a", 2));
    story.locks("a", 1, Err(held("a")));
    story.daemon_dies();
    story.ordered();
    story.aim();
    story.seen("a", running(story.attempt("a")));
    let orders = story.ordered();
    assert!(orders.contains(&"lock a-1".to_owned()), "{orders:?}");
    assert!(!orders.iter().any(|order| order.starts_with("stop")), "{orders:?}");
}

fn running(attempt: upbeat_model::Attempt) -> Observation {
    let started_at = upbeat_model::Wall(1_000);
    Observation::Running { attempt, pid: 7, started_at, log_start: 1, held: None }
}

#[test]
fn the_next_daemon_asks_for_none_before_all_that_go_are_seen() {
    let text = |version| locking("a", version) + &locking("z", version);
    let mut story = Story::all_run(&text(1), &["a", "z"]);
    story.update(&text(2));
    story.locks("a", 1, Err(held("z")));
    story.daemon_dies();
    story.aim();
    story.ordered();
    story.seen("a", running(story.attempt("a")));
    assert_eq!(story.ordered(), [] as [&str; 0], "that of z-1 may be somebody's");
    assert!(story.why("a").contains("lock"), "{}", story.why("a"));
    story.seen("z", running(story.attempt("z")));
    assert_eq!(story.ordered(), ["lock a-1, z-1"]);
    story.locks("a", 1, Ok(()));
    assert_eq!(story.ordered(), ["stop a SIGTERM 10s", "stop z SIGTERM 10s"]);
}

#[test]
fn who_is_looked_for_and_stays_keeps_nobody_waiting() {
    let text = |version| locking("a", version) + &locking("z", 1);
    let mut story = Story::all_run(&text(1), &["a", "z"]);
    story.update(&text(2));
    story.daemon_dies();
    story.aim();
    story.ordered();
    story.seen("a", running(story.attempt("a")));
    assert_eq!(story.ordered(), ["lock a-1"]);
}

#[test]
fn what_a_dead_daemon_had_not_said_yet_waits_for_the_locks_of_all() {
    let text = |version| locking("a", version) + &plain("c", version);
    let mut story = Story::all_run(&text(1), &["a", "c"]);
    story.update(&text(2));
    story.locks("a", 1, Ok(()));
    story.daemon_dies();
    story.aim();
    story.ordered();
    story.seen("c", running(story.attempt("c")));
    assert_eq!(story.ordered(), [] as [&str; 0], "it has no lock, and a-1 goes with it");
    story.seen("a", running(story.attempt("a")));
    assert_eq!(story.ordered(), ["lock a-1"]);
    story.locks("a", 1, Err(held("a")));
    assert!(!story.ordered().iter().any(|order| order.starts_with("stop")));
}

#[test]
fn what_cannot_be_tried_is_said_and_fails_the_operation() {
    let mut story = Story::all_run(&locking("a", 1), &["a"]);
    story.update(&locking("a", 2));
    story.locks("a", 1, Err(Unlocked::Failed { slot: id("a"), why: "no space".into() }));
    assert!(story.why("a").contains("cannot be tried: no space"), "{}", story.why("a"));
    let status = story.node.status(&id("a")).unwrap();
    assert!(matches!(crate::outcome(status), Some(upbeat_model::Wish::Failed { .. })));
}

#[test]
fn while_it_waits_the_operation_has_not_ended() {
    let mut story = Story::all_run(&locking("a", 1), &["a"]);
    story.update(&locking("a", 2));
    assert_eq!(crate::outcome(story.node.status(&id("a")).unwrap()), None);
    story.locks("a", 1, Err(held("a")));
    assert_eq!(crate::outcome(story.node.status(&id("a")).unwrap()), None);
}

/// The planted bug does what the stories above would see.
#[cfg(feature = "sabotage")]
#[test]
fn who_ignores_locks_interrupts() {
    let mut story = Story::new();
    story.node = crate::Node::recover([], crate::rules::Rules::with(crate::rules::Bug::IgnoreLocks));
    story.declare(&locking("a", 1));
    story.started("a");
    story.ordered();
    story.update(&locking("a", 2));
    assert!(story.ordered().contains(&"stop a SIGTERM 10s".to_owned()));
}

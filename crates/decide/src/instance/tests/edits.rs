//! Stories of files that are edited under running copies.

use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Millis, Wall};

use super::NONE;
use super::story::{Story, id};
use crate::instance::{Durable, Input, Moment, Observation, Stage};

/// Of a slot that was forgotten nothing is counted on.
#[test]
fn a_reload_after_a_down_is_another_than_the_same_one_before_it() {
    let file = "  s: { command: [s], reload: SIGHUP }";
    let mut story = Story::up(file);
    for _ in 0..2 {
        story.started("s");
        story.command(Goal::Running, Ask::Reload, &["s"]);
        story.command(Goal::Absent, Ask::Ensure, &["s"]);
        story.exits("s", Exit::Code(0));
        story.take("s", Input::Removed);
        story.target.slots.clear();
        story.aim();
        story.pass(Millis::seconds(1));
        story.declare(file);
    }
    let [before, after] = story.reloads[..] else { panic!("{:?}", story.reloads) };
    assert_eq!((before.0, before.2), (after.0, after.2), "attempts and generations are counted anew");
    assert_ne!(before.1, after.1);
}

#[test]
fn a_replaced_copy_is_stopped_by_its_own_rules() {
    let mut story = Story::up("  s: { command: [s], stop_signal: SIGINT, stop_grace_period: 20s }");
    story.started("s");
    story.ordered();
    story.declare("  s: { command: [s, more], stop_signal: SIGQUIT, stop_grace_period: 0s }");
    assert_eq!(story.ordered(), ["stop s SIGINT 20s"]);
    story.pass(Millis::seconds(26));
    assert_eq!(story.ordered(), ["stop s SIGINT 0ms", "observe s"], "pressed on by its own too");
    story.exits("s", Exit::Code(0));
    story.started("s");
    story.ordered();
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    assert_eq!(story.ordered(), ["stop s SIGQUIT 0ms"], "the new copy goes by the new rules");
}

#[test]
fn the_stop_command_of_a_replaced_copy_runs_with_what_that_copy_knows() {
    let file = |port: u16| {
        format!("  s: {{ command: [s], environment: {{ PORT: '{port}' }}, stop_command: [bye] }}")
    };
    let mut story = Story::up(&file(1));
    story.started("s");
    story.ordered();
    story.declare(&file(2));
    assert_eq!(story.ordered(), ["before its stop s bye 10s"]);
    assert_eq!(story.stop_command("s", "PORT"), ("bye".into(), Some("1".into())));
    story.hooks_end("s", Moment::PreStop, Ok(()));
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
}

#[test]
fn a_new_way_to_stop_takes_effect_at_once_and_is_kept_when_the_copy_is_replaced_later() {
    let mut story = Story::up("  s: { command: [s], stop_grace_period: 1s }");
    story.started("s");
    story.ordered();
    let gentle = "stop_signal: SIGINT, stop_grace_period: 1m, stop_command: [bye]";
    story.declare(&format!("  s: {{ command: [s], {gentle} }}"));
    assert_eq!(story.ordered(), NONE);
    story.declare("  s: { command: [s, more], stop_grace_period: 0s }");
    assert_eq!(story.ordered(), ["before its stop s bye 1m"]);
    story.hooks_end("s", Moment::PreStop, Ok(()));
    assert_eq!(story.ordered(), ["stop s SIGINT 1m"]);
}

#[test]
fn the_next_daemon_knows_how_to_stop_what_is_replaced() {
    let file = |rules: &str| format!("  s: {{ command: [s, '{rules}'], stop_command: [bye, '{rules}'] }}");
    let mut story = Story::up(&file("old"));
    story.started("s");
    story.declare(&file("new"));
    story.daemon_dies();
    let attempt = story.attempt("s");
    story.seen("s", Observation::Running { attempt, pid: 7, started_at: Wall(0), log_start: 1, held: None });
    assert_eq!(story.ordered(), ["observe s", "before its stop s bye old 10s"]);
    assert_eq!(story.stop_command("s", "PORT").0, "bye old");
}

#[test]
fn a_copy_that_is_replaced_while_it_starts_is_stopped_by_its_own_rules() {
    let mut story = Story::up("  s: { command: [s], stop_signal: SIGINT }");
    story.declare("  s: { command: [s, more] }");
    story.ordered();
    story.started("s");
    assert_eq!(story.ordered(), ["stop s SIGINT 10s"]);
}

/// As versions before this one wrote it.
fn without_rules(durable: &Durable) -> Durable {
    let mut value = serde_json::to_value(durable).unwrap();
    let stage = value["stage"].as_object_mut().unwrap();
    stage.remove("stop");
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_state_without_rules_is_read_and_given_those_of_the_file_while_it_is_the_same() {
    let file = "  s: { command: [s], stop_signal: SIGINT, healthcheck: { tcp: '127.0.0.1:1' } }";
    let mut story = Story::up(file);
    story.started("s");
    story.probed("s", true);
    let old = without_rules(&story.disk[&id("s")]);
    assert!(matches!(&old.stage, Stage::Up(up) if up.stop.is_none()));
    story.disk.insert(id("s"), old);
    story.daemon_dies();
    let attempt = story.attempt("s");
    story.seen("s", Observation::Running { attempt, pid: 7, started_at: Wall(0), log_start: 1, held: None });
    assert_eq!(story.phase("s"), "healthy", "what was ready is ready");
    story.ordered();
    story.declare("  s: { command: [s, more], healthcheck: { tcp: '127.0.0.1:1' } }");
    assert_eq!(story.ordered(), ["stop s SIGINT 10s"]);
}

#[test]
fn rules_too_large_for_the_store_are_not_kept_and_hold_nothing_up() {
    let long = "x".repeat(100 * 1024);
    let variables = ["A", "B", "LONG"].map(|name| format!("{name}: {long}")).join(", ");
    let mut story =
        Story::up(&format!("  s: {{ command: [s], environment: {{ {variables} }}, stop_command: [bye] }}"));
    story.started("s");
    let kept = serde_json::to_string(&story.disk[&id("s")]).unwrap();
    assert!(kept.len() < 2_000, "{}", kept.len());
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    assert_eq!(story.stop_command("s", "LONG").1, Some(long));
}

#[test]
fn the_answer_to_an_earlier_check_says_nothing_about_the_new_one() {
    let file = |check: &str| format!("  s: {{ command: [s], healthcheck: {{ {check} }} }}");
    for (before, after) in [
        ("tcp: '127.0.0.1:1'", "tcp: '127.0.0.1:2'"),
        ("log: up", "tcp: '127.0.0.1:2'"),
        ("tcp: '127.0.0.1:1'", "log: up"),
        ("log: up", "log: ready"),
        ("tcp: '127.0.0.1:1'", "tcp: '127.0.0.1:1', interval: 1s"),
    ] {
        let mut story = Story::up(&file(before));
        story.started("s");
        let earlier = story.check("s");
        story.declare(&file(after));
        assert_eq!(story.ordered().len(), 3, "start, and one question each: {after}");
        story.answered("s", earlier, true);
        assert_eq!(story.phase("s"), "starting", "{before}, then {after}");
        story.probed("s", true);
        assert_eq!(story.phase("s"), "healthy", "{before}, then {after}");
    }
}

#[test]
fn a_dependent_that_is_looked_at_first_does_not_start_on_the_old_answer() {
    let file = |port: u16| {
        format!(
            "  z: {{ command: [z], healthcheck: {{ tcp: '127.0.0.1:{port}' }} }}
  a: {{ command: [a, '{port}'], depends_on: {{ z: {{ condition: service_healthy }} }} }}"
        )
    };
    let mut story = Story::up(&file(1));
    story.started("z");
    story.probed("z", true);
    story.started("a");
    story.exits("a", Exit::Code(1));
    story.ordered();
    story.declare(&file(2));
    assert_eq!(story.ordered(), ["probe z"]);
    assert_eq!(story.phase("a"), "waiting");
    story.probed("z", true);
    assert_eq!(story.ordered(), ["start a #2"]);
}

#[test]
fn a_check_that_was_edited_while_no_daemon_was_there_is_asked_by_the_next() {
    let mut story = Story::up("  s: { command: [s], healthcheck: { tcp: '127.0.0.1:1' } }");
    story.started("s");
    story.probed("s", true);
    let disk = story.disk.clone();
    story.declare("  s: { command: [s], healthcheck: { tcp: '127.0.0.1:2' } }");
    story.disk = disk;
    story.daemon_dies();
    let attempt = story.attempt("s");
    story.seen("s", Observation::Running { attempt, pid: 7, started_at: Wall(0), log_start: 1, held: None });
    assert_eq!(
        (story.phase("s"), story.ordered()),
        ("starting".into(), vec!["observe s".into(), "probe s".into()])
    );
}

#[test]
fn a_check_that_is_taken_away_and_given_back_is_asked_again() {
    let with = "  s: { command: [s], healthcheck: { log: up } }";
    let mut story = Story::up(with);
    story.started("s");
    story.probed("s", true);
    story.declare("  s: { command: [s] }");
    assert_eq!(story.phase("s"), "running");
    story.ordered();
    story.declare(with);
    assert_eq!((story.phase("s"), story.ordered()), ("starting".into(), vec!["watch s for up".into()]));
    story.probed("s", true);
    assert_eq!(story.phase("s"), "healthy");
}

#[test]
fn a_running_copy_keeps_the_stop_order_it_was_started_by() {
    let mut story = Story::up("  db: { command: [db] }\n  web: { command: [web], depends_on: [db] }");
    story.started("db");
    story.started("web");
    story.declare("  db: { command: [db] }\n  web: { command: [web] }");
    story.ordered();
    story.command(Goal::Stopped, Ask::Ensure, &["db", "web"]);
    assert_eq!(story.ordered(), ["stop web SIGTERM 10s"]);
    story.exits("web", Exit::Signal(15));
    assert_eq!(story.ordered(), ["stop db SIGTERM 10s"]);
}

#[test]
fn an_edge_that_was_turned_round_under_running_copies_holds_no_stop_up_for_ever() {
    for more in ["", ", more"] {
        let mut story = Story::up("  db: { command: [db] }\n  web: { command: [web], depends_on: [db] }");
        story.started("db");
        story.started("web");
        story.ordered();
        story.declare(&format!(
            "  db: {{ command: [db{more}], depends_on: [web] }}\n  web: {{ command: [web{more}] }}"
        ));
        if more.is_empty() {
            story.command(Goal::Stopped, Ask::Ensure, &["db", "web"]);
        }
        assert_eq!(story.ordered(), ["stop db SIGTERM 10s"], "the newest file decides");
        story.exits("db", Exit::Signal(15));
        assert_eq!(story.ordered(), ["stop web SIGTERM 10s"]);
    }
}

#[test]
fn what_failed_only_by_the_old_file_is_not_passed_over_under_the_new_one() {
    let file = |condition: &str| {
        format!(
            "  m: {{ command: ['false'] }}
  x: {{ command: [x], depends_on: {{ m: {{ condition: {condition} }} }} }}
  y: {{ command: [y], depends_on: [x] }}
  a: {{ command: [a], depends_on: {{ y: {{ condition: service_completed_successfully, required: false }} }} }}"
        )
    };
    let mut story = Story::up(&file("service_completed_successfully"));
    story.started("m");
    story.exits("m", Exit::Code(1));
    assert_eq!(story.phase("y"), "dependency failed");
    story.started("a");
    story.exits("a", Exit::Code(0));
    story.ordered();
    // Not `y`: what is said of it follows from what is said of `x`.
    story.command(Goal::Running, Ask::Start, &["a", "m"]);
    assert_eq!(story.ordered(), ["start m #2"]);
    assert_eq!((story.phase("y"), story.phase("a")), ("waiting".into(), "waiting".into()));
}

#[test]
fn of_two_copies_only_the_one_that_rests_on_it_is_waited_for() {
    let mut story = Story::up(
        "  db: { command: [db] }\n  web: { command: [web], scale: 2, depends_on: [db], restart: always }",
    );
    for slot in ["db", "web-1", "web-2"] {
        story.started(slot);
    }
    story.declare("  db: { command: [db] }\n  web: { command: [web], scale: 2, restart: always }");
    story.exits("web-2", Exit::Code(1));
    story.started("web-2");
    story.ordered();
    story.command(Goal::Stopped, Ask::Ensure, &["db", "web-1", "web-2"]);
    assert_eq!(story.ordered(), ["stop web SIGTERM 10s", "stop web-2 SIGTERM 10s"]);
    story.exits("web-1", Exit::Signal(15));
    assert_eq!(story.ordered(), ["stop db SIGTERM 10s"]);
}

/// It is not replaced for another environment of whoever types `up`, and goes on in the one it was started in.
#[test]
fn a_copy_that_goes_on_is_known_by_what_it_was_started_in() {
    let mut story = Story::up("  s: { command: [s] }");
    let surround = |story: &mut Story, value: &str| {
        let wish = story.target.slots.get_mut(&id("s")).unwrap();
        wish.base_environment = std::sync::Arc::new([("A".to_owned(), value.to_owned())].into());
        story.command(Goal::Running, Ask::Ensure, &["s"]);
    };
    let started_in = |story: &Story| {
        let mark = crate::instance::mark(&story.disk[&id("s")]).unwrap().clone();
        (mark.generation, mark.surroundings.unwrap())
    };
    story.started("s");
    let (_, none) = started_in(&story);
    surround(&mut story, "1");
    assert_eq!(started_in(&story), (2, none.clone()), "under the new wish, and as it was started");
    story.command(Goal::Running, Ask::Restart, &["s"]);
    story.exits("s", Exit::Code(0));
    story.started("s");
    let (_, first) = started_in(&story);
    assert_ne!(first, none);
    surround(&mut story, "2");
    assert_eq!(started_in(&story).1, first);
}

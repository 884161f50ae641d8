//! What edges say beyond conditions: what happens when the other end ends, fails, or lets one wait.

use std::collections::BTreeMap;

use upbeat_model::project::{
    Condition, Dependency, Hook, OnFailure, OnRestart, Probe, Question, Reload, RestartPolicy, Service,
    Signal,
};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Millis, ProbeName, ServiceName};

use super::NONE;
use super::story::{Story, id};
use crate::instance::{Input, Moment};

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

/// `db`, and `web` that needs it so.
fn pair(db: Service, edge: Dependency) -> Story {
    let mut web = Service::new(vec!["web".into()], "/");
    web.depends_on = BTreeMap::from([(name("db"), edge)]);
    web.reload = Some(Reload::Signal(Signal::parse("HUP").unwrap()));
    let mut story = Story::new();
    story.declare_all([(name("db"), db), (name("web"), web)].into());
    story
}

fn plain() -> Service {
    Service::new(vec!["db".into()], "/")
}

fn restarts() -> Service {
    Service { restart: upbeat_model::project::RestartPolicy::Always, ..plain() }
}

fn hook(command: &str) -> Hook {
    Hook {
        command: vec![command.into()],
        environment: BTreeMap::new(),
        working_dir: None,
        user: None,
        privileged: false,
        timeout: None,
    }
}

fn on_restart(on_restart: OnRestart) -> Dependency {
    Dependency { on_restart, ..Dependency::default() }
}

fn both_run(story: &mut Story) {
    story.started("db");
    story.started("web");
    story.ordered();
}

#[test]
fn who_rests_on_what_crashed_restarts_with_it() {
    let mut story = pair(restarts(), on_restart(OnRestart::Restart));
    both_run(&mut story);
    story.exits("db", Exit::Signal(11));
    assert_eq!(story.ordered(), ["start db #2", "stop web SIGTERM 10s"]);
    assert_eq!(story.why("web"), "is being stopped because what it rests on has ended (SIGTERM)");
    story.exits("web", Exit::Signal(15));
    assert_eq!(story.ordered(), NONE, "not before its condition holds again");
    assert_eq!(story.phase("web"), "waiting");
    story.started("db");
    assert_eq!(story.ordered(), ["start web #2"]);
    story.started("web");
    story.pass(Millis::seconds(60));
    assert_eq!(story.ordered(), NONE);
}

#[test]
fn who_says_stop_stays_down_and_who_says_nothing_goes_on() {
    let mut story = pair(restarts(), on_restart(OnRestart::Stop));
    both_run(&mut story);
    story.exits("db", Exit::Code(1));
    story.exits("web", Exit::Code(0));
    assert_eq!(story.phase("web"), "failed");
    story.started("db");
    story.ordered();
    story.pass(Millis::seconds(60));
    assert_eq!(story.ordered(), NONE);
    assert_eq!(
        story.why("web"),
        "was stopped: db-1, which it rests on, has ended; it stays so until somebody starts it"
    );
    story.command(Goal::Running, Ask::Start, &["web"]);
    assert_eq!(story.ordered(), ["start web #2"]);

    let mut story = pair(restarts(), Dependency::default());
    both_run(&mut story);
    story.exits("db", Exit::Code(1));
    assert_eq!(story.ordered(), ["start db #2"]);
}

#[test]
fn who_says_reload_is_reloaded_once_it_is_there_again() {
    let mut story = pair(restarts(), on_restart(OnRestart::Reload));
    both_run(&mut story);
    story.exits("db", Exit::Code(1));
    assert_eq!(story.ordered(), ["start db #2"]);
    story.started("db");
    let orders = story.ordered();
    assert!(orders.len() == 1 && orders[0].starts_with("reload web SIGHUP"), "{orders:?}");
    assert_eq!(story.why("web"), "is being asked to read its configuration anew");
    // A daemon that dies before it knows has it asked again, under the same key.
    story.daemon_dies();
    for slot in ["db", "web"] {
        let attempt = story.attempt(slot);
        let seen = crate::instance::Observation::Running {
            attempt,
            pid: 7,
            started_at: upbeat_model::Wall(0),
            log_start: 1,
            held: None,
        };
        story.seen(slot, seen);
    }
    let again: Vec<String> =
        story.ordered().into_iter().filter(|order| order.starts_with("reload")).collect();
    assert_eq!(again, orders);
    let serial: u64 = orders[0].split(['(', ')']).nth(1).unwrap().parse().unwrap();
    let attempt = story.attempt("web");
    story.take("web", crate::instance::Input::Reloaded { attempt, serial, outcome: Ok(()) });
    assert_eq!(story.why("web"), "");
    story.pass(Millis::seconds(600));
    assert_eq!(story.ordered(), NONE);
}

#[test]
fn a_daemon_that_comes_back_takes_nothing_for_ended_before_it_has_looked() {
    let mut story = pair(restarts(), on_restart(OnRestart::Restart));
    both_run(&mut story);
    story.daemon_dies();
    let running = |story: &Story, slot: &str| crate::instance::Observation::Running {
        attempt: story.attempt(slot),
        pid: 7,
        started_at: upbeat_model::Wall(0),
        log_start: 1,
        held: None,
    };
    story.ordered();
    let seen = running(&story, "web");
    story.seen("web", seen);
    assert_eq!(story.ordered(), NONE);
    let seen = running(&story, "db");
    story.seen("db", seen);
    assert_eq!(story.ordered(), NONE);
    // And one that ended meanwhile is found out.
    story.daemon_dies();
    let seen = running(&story, "web");
    story.seen("web", seen);
    let attempt = story.attempt("db");
    story.ordered();
    story.seen("db", crate::instance::Observation::Ended { attempt, exit: Exit::Code(1) });
    assert_eq!(story.ordered(), ["start db #2", "stop web SIGTERM 10s"]);
}

#[test]
fn an_edge_waits_as_long_as_it_says() {
    let slow = |on_failure| Dependency {
        condition: Condition::Healthy,
        timeout: Some(Millis::seconds(5)),
        on_failure,
        ..Dependency::default()
    };
    let mut db = plain();
    let readiness = Probe::new(Question::Tcp("127.0.0.1:1".into()));
    db.probes = [(ProbeName::new("readiness").unwrap(), readiness)].into();
    for (on_failure, phase) in [
        (OnFailure::Fail, "dependency failed"),
        (OnFailure::Wait, "waiting"),
        (OnFailure::Continue, "starting"),
    ] {
        let mut story = pair(db.clone(), slow(on_failure));
        story.started("db");
        story.pass(Millis(4_900));
        assert_eq!(story.phase("web"), "waiting", "{on_failure:?}");
        story.pass(Millis(200));
        assert_eq!(story.phase("web"), phase, "{on_failure:?}");
        if phase == "dependency failed" {
            assert_eq!(story.why("web"), "waited 5s for db to be healthy, in vain");
        }
        if phase != "starting" {
            story.probed("db", true);
            assert_eq!(story.phase("web"), "starting", "{on_failure:?}: better late than never");
        }
    }
}

#[test]
fn what_failed_is_waited_for_or_passed_over_where_the_edge_says_so() {
    for (on_failure, phase) in [
        (OnFailure::Fail, "dependency failed"),
        (OnFailure::Wait, "waiting"),
        (OnFailure::Continue, "starting"),
    ] {
        let mut story = pair(plain(), Dependency { on_failure, ..Dependency::default() });
        let attempt = story.attempt("db");
        story.take("db", crate::instance::Input::StartFailed { attempt, why: "no".into() });
        assert_eq!(story.phase("web"), phase, "{on_failure:?}");
    }
}

#[test]
fn a_condition_may_be_an_end_or_a_probe() {
    let edge = |condition| Dependency { condition, ..Dependency::default() };
    for (condition, exit, phase) in [
        (Condition::Completed, Exit::Code(0), "starting"),
        (Condition::Completed, Exit::Code(1), "starting"),
        (Condition::Failed, Exit::Code(1), "starting"),
        (Condition::Failed, Exit::Code(0), "dependency failed"),
    ] {
        let mut story = pair(plain(), edge(condition.clone()));
        story.started("db");
        assert_eq!(story.phase("web"), "waiting", "{condition}");
        story.exits("db", exit);
        assert_eq!(story.phase("web"), phase, "{condition}");
    }
    let mut db = plain();
    let warm = ProbeName::new("warm").unwrap();
    db.probes = [(warm.clone(), Probe::new(Question::Log("warm".into())))].into();
    let mut story = pair(db, edge(Condition::Probe(warm)));
    story.started("db");
    assert_eq!(story.phase("db"), "running");
    assert_eq!(story.phase("web"), "waiting");
    assert_eq!(story.why("web"), "waits for db to pass its probe `warm` (db-1 is running)");
    story.said("db", "warm", true);
    assert_eq!(story.phase("web"), "starting");
}

#[test]
fn what_has_completed_is_no_loss_until_it_is_run_again() {
    let job = Service { post_stop: vec![hook("sweep")], ..plain() };
    let mut story = pair(job, on_restart(OnRestart::Restart));
    both_run(&mut story);
    story.exits("db", Exit::Code(0));
    assert_eq!(story.ordered(), ["after its stop db sweep 10s"]);
    story.hooks_end("db", Moment::PostStop, Ok(()));
    assert_eq!((story.phase("db").as_str(), story.ordered()), ("completed", vec![]));
    story.command(Goal::Running, Ask::Start, &["db"]);
    story.started("db");
    assert_eq!(story.ordered(), ["start db #2"], "its running is no loss either");
    story.exits("db", Exit::Code(1));
    story.hooks_end("db", Moment::PostStop, Ok(()));
    assert_eq!(
        story.ordered(),
        ["after its stop db sweep 10s", "stop web SIGTERM 10s"],
        "but its failure is"
    );
}

#[test]
fn a_restart_for_the_sake_of_an_edge_is_counted_like_others() {
    let mut story = pair(restarts(), on_restart(OnRestart::Restart));
    both_run(&mut story);
    for times in 1..=3 {
        story.exits("db", Exit::Signal(11));
        story.exits("web", Exit::Signal(15));
        story.pass(Millis::seconds(5));
        story.started("db");
        story.started("web");
        let status = story.node.status(&id("web")).unwrap();
        assert_eq!((status.restarts, status.phase.to_string().as_str()), (times, "running"));
        story.pass(Millis::seconds(600));
    }
}

#[test]
fn a_reload_waits_until_the_copy_is_ready_for_the_first_time() {
    let ready = Probe { start_period: Millis::seconds(5), ..Probe::new(Question::Tcp("127.0.0.1:1".into())) };
    let db = Service { probes: [(ProbeName::new("readiness").unwrap(), ready)].into(), ..plain() };
    let db = Service { reload: Some(Reload::Signal(Signal::parse("HUP").unwrap())), ..db };
    let mut story = pair(db, Dependency::default());
    story.ordered();
    let reloads = |story: &mut Story| -> Vec<String> {
        story.ordered().into_iter().filter(|order| order.starts_with("reload")).collect()
    };
    // It may have read its configuration before anybody hears that it was started.
    story.command(Goal::Running, Ask::Reload, &["db"]);
    story.command(Goal::Running, Ask::Ensure, &["db"]);
    story.started("db");
    story.pass(Millis(100));
    assert_eq!(reloads(&mut story), NONE, "it may not handle the signal yet");
    assert!(story.why("db").contains("configuration anew"), "{}", story.why("db"));
    story.probed("db", true);
    assert_eq!(reloads(&mut story), ["reload db SIGHUP (2)"]);
}

#[test]
fn what_is_waited_for_is_told_in_words_and_never_by_a_name_that_nobody_has_given() {
    let mut story = Story::up(
        "  db: { command: [db] }
  early: { command: [early], depends_on: { db: { condition: log_ready, pattern: 'rea.y', timeout: 1s } } }
  late: { command: [late], depends_on: { db: { condition: log_ready, pattern: 'rea.y' } } }
  web: { command: [web], depends_on: { db: { condition: port_open, port: 5432 } } }",
    );
    assert_eq!(story.why("late"), "waits for db to print a line that matches /rea.y/ (db-1 is starting)");
    assert_eq!(story.why("web"), "waits for db to accept connections at 127.0.0.1:5432 (db-1 is starting)");
    story.started("db");
    story.pass(Millis::seconds(40));
    assert_eq!(story.why("early"), "waited 1s for db to print a line that matches /rea.y/, in vain");
    let why = "what others wait for (log line /rea.y/) failed 4 times in a row: no line matched yet";
    assert_eq!(story.why("db"), why);
    let attempt = story.attempt("db");
    let check = story.check("db");
    story.take("db", Input::Unasked { attempt, check, why: "out of files".into() });
    let mute = "; what others wait for (tcp 127.0.0.1:5432) cannot be asked: out of files";
    assert_eq!(story.why("db"), format!("{why}{mute}"));
    story.exits("db", Exit::Code(0));
    let why = "needs db to accept connections at 127.0.0.1:5432, but db-1 is completed (exit 0)";
    assert_eq!(story.why("web"), why);
    let told = serde_json::to_string(&story.node.status(&id("late")).unwrap().reasons).unwrap();
    assert!(told.contains("log_ready:rea.y"), "{told}");
}

#[test]
fn a_crash_restarts_nobody_for_the_sake_of_what_compose_calls_restart() {
    let edge = Dependency { restart: true, ..Dependency::default() };
    let db = Service { restart: RestartPolicy::Always, ..Service::new(vec!["db".into()], "/") };
    let mut story = pair(db, edge);
    story.started("db");
    story.started("web");
    story.ordered();
    story.exits("db", Exit::Code(1));
    story.started("db");
    assert_eq!(story.ordered(), ["start db #2"]);
    assert_eq!((story.phase("web").as_str(), story.phase("db").as_str()), ("running", "running"));
    // Whoever restarts it on purpose asks those who say so, too: that is their wish, and no reaction.
    story.command(Goal::Running, Ask::Restart, &["db", "web"]);
    assert_eq!(story.ordered(), ["stop web SIGTERM 10s"]);
}

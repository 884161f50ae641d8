//! Commands that change something, and wait for how it ends.

use upbeat_api::{OperationId, Wish};
use upbeat_model::{Goal, Phase, Reason, SlotStatus};

use super::room::Room;
use super::script::{Script, Slots, both, db_fails};
use crate::face::examples::{dependency_failed, not_restarted, probe_fails, status, waits_for_db};

#[tokio::test]
async fn up_tells_why_something_did_not_come_up_and_what_it_said_last() {
    let room = Room::new();
    insta::assert_snapshot!(room.with(Script::new(db_fails), &["up", "-d"]).await, @"
    db-1   failed: ended (exit 1) and `restart: no` leaves it so
      its last lines:
        | panic: no disk
    web-1  running
    --- Failed
    error: Not everything came up
    hint: `upbeat why db` explains it
    ");
}

#[tokio::test]
async fn up_detached_returns_with_the_start_and_with_wait_only_when_all_is_ready() {
    let starting = |script: &Script, _: &str| script.tell(both(Phase::Starting, Wish::Pending));
    let room = Room::new();
    insta::assert_snapshot!(room.with(Script::new(starting), &["up", "-d"]).await, @"
    db-1   starting
    web-1  starting
    --- Ok
    ");
    let room = Room::new();
    let waited = room.with(Script::new(starting), &["up", "--wait", "--wait-timeout", "0"]).await;
    insta::assert_snapshot!(waited, @"
    db-1   not there yet, starting
    web-1  not there yet, starting
    --- Timeout
    error: The time is over before everything was there
    hint: `upbeat why db` explains it
    ");
}

#[tokio::test]
async fn every_change_tells_how_each_slot_ended() {
    let stopped = |script: &Script, _: &str| script.tell(both(Phase::Stopped, Wish::Reached));
    let script = Script::new(stopped);
    script.tell(both(Phase::Running, Wish::Reached));
    let asked = script.asked.clone();
    insta::assert_snapshot!(Room::new().with(script, &["stop", "web"]).await, @"
    db-1   stopped
    web-1  stopped
    --- Ok
    ");
    assert_eq!(*asked.lock().unwrap(), [r#"{"action":"stop","services":["web"],"kill":false}"#]);

    let other = |script: &Script, _: &str| {
        script.tell(both(Phase::Stopping, Wish::Superseded { by: OperationId(9) }));
    };
    let script = Script::new(other);
    script.tell(both(Phase::Running, Wish::Reached));
    insta::assert_snapshot!(Room::new().with(script, &["restart"]).await, @"
    db-1   superseded by operation 9
    web-1  superseded by operation 9
    --- Conflict
    error: Somebody else asked for something else in the meantime
    ");

    let gone = |script: &Script, _: &str| {
        let told = both(Phase::Absent, Wish::Reached);
        script.tell(told.into_iter().map(|(s, w)| (SlotStatus { goal: Goal::Absent, ..s }, w)).collect());
    };
    let script = Script::new(gone);
    script.tell(both(Phase::Running, Wish::Reached));
    insta::assert_snapshot!(Room::new().with(script, &["down"]).await, @"
    db-1   removed
    web-1  removed
    --- Ok
    ");

    // What may have been in networks is a container.
    let script = Script::new(gone).with(|facts| {
        facts.networks.networks = vec!["shop_back".into()];
        facts.networks.in_use = [("shop_default".into(), "debug".into())].into();
    });
    let container = |(status, wish)| (SlotStatus { container: Some("4c0f".into()), ..status }, wish);
    script.tell(both(Phase::Running, Wish::Reached).into_iter().map(container).collect());
    insta::assert_snapshot!(Room::new().with(script, &["down"]).await, @"
    db-1   removed
    web-1  removed
    --- Ok
    upbeat: network shop_back is removed
    upbeat: network shop_default stays, as container `debug` is in it; remove that one, then `upbeat down` takes the network, too
    ");
}

#[tokio::test]
async fn a_misspelled_service_changes_nothing() {
    let script = Script::new(|_, _| {});
    script.tell(both(Phase::Running, Wish::Reached));
    let asked = script.asked.clone();
    insta::assert_snapshot!(Room::new().with(script.clone(), &["stop", "wbe"]).await, @"
    --- NotFound
    error: There is no service `wbe` in `shop`
    hint: did you mean `web`?
    ");
    insta::assert_snapshot!(Room::new().with(script, &["up", "-d", "web-1"]).await, @"
    --- Usage
    error: `web-1` is one copy; commands take whole services
    hint: `web` means all its copies
    ");
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn start_brings_up_what_was_stopped_and_says_what_cannot() {
    let running = |script: &Script, _: &str| script.tell(both(Phase::Running, Wish::Reached));
    let script = Script::new(running);
    script.tell(both(Phase::Stopped, Wish::Reached));
    let asked = script.asked.clone();
    insta::assert_snapshot!(Room::new().with(script, &["start", "web", "db", "web"]).await, @"
    db-1   running
    web-1  running
    --- Ok
    ");
    assert_eq!(*asked.lock().unwrap(), [r#"{"action":"start","services":["web","db"]}"#]);

    let script = Script::new(db_fails);
    script.tell(both(Phase::Stopped, Wish::Reached));
    insta::assert_snapshot!(Room::new().with(script, &["start"]).await, @"
    db-1   failed: ended (exit 1) and `restart: no` leaves it so
      its last lines:
        | panic: no disk
    web-1  running
    --- Failed
    error: Not everything came up
    hint: `upbeat why db` explains it
    ");
}

#[tokio::test]
async fn scale_names_the_copies_that_came_and_those_that_went() {
    let scaled = |script: &Script, _: &str| {
        let gone = SlotStatus { goal: Goal::Absent, ..status("db-1", Phase::Absent) };
        let come = status("web-2", Phase::Running);
        script.tell(vec![(gone, Wish::Reached), (come, Wish::Reached)]);
    };
    let script = Script::new(scaled);
    script.tell(both(Phase::Running, Wish::Reached));
    let asked = script.asked.clone();
    insta::assert_snapshot!(Room::new().with(script, &["scale", "web=2", "db=0", "web=2"]).await, @"
    db-1   removed
    web-2  running
    --- Ok
    ");
    assert_eq!(*asked.lock().unwrap(), [r#"{"action":"scale","services":{"db":0,"web":2}}"#]);
}

#[tokio::test]
async fn each_way_a_change_can_end_has_a_status_and_a_sentence() {
    let ended = async |phase, reasons: Vec<Reason>, wish: fn(Vec<Reason>) -> Wish| {
        let then = move |script: &Script, _: &str| {
            let status = SlotStatus { reasons: reasons.clone(), ..status("web-1", phase) };
            script.tell(vec![(status, wish(reasons.clone()))]);
        };
        Room::new().with(Script::new(then), &["up", "--wait", "--wait-timeout", "0"]).await
    };
    let failed = |reasons| Wish::Failed { reasons };
    let reached = |_| Wish::Reached;
    insta::assert_snapshot!(ended(Phase::Healthy, vec![], reached).await, @"
    web-1  healthy
    --- Ok
    ");
    insta::assert_snapshot!(ended(Phase::Failed, vec![not_restarted()], failed).await, @"
    web-1  failed: ended (exit 1) and `restart: no` leaves it so
    --- Failed
    error: Not everything came up
    hint: `upbeat why web` explains it
    ");
    insta::assert_snapshot!(ended(Phase::Unhealthy, vec![probe_fails()], reached).await, @"
    web-1  unhealthy: its health check (http http://127.0.0.1:8080/health) failed 3 times in a row: status 503
    --- Unhealthy
    error: Not everything is healthy
    hint: `upbeat why web` explains it
    ");
    insta::assert_snapshot!(ended(Phase::DependencyFailed, vec![dependency_failed()], failed).await, @"
    web-1  dependency failed: needs db to be healthy, but db-1 is failed (exit 1)
    --- DependencyFailed
    error: Something cannot start because what it needs failed
    hint: `upbeat why web` explains it
    ");
    insta::assert_snapshot!(ended(Phase::Waiting, vec![waits_for_db()], |_| Wish::Pending).await, @"
    web-1  not there yet, waiting: waits for db to be healthy (db-1 is backing off)
    --- Timeout
    error: The time is over before everything was there
    hint: `upbeat why web` explains it
    ");
    let other = |_| Wish::Superseded { by: OperationId(9) };
    insta::assert_snapshot!(ended(Phase::Stopping, vec![], other).await, @"
    web-1  superseded by operation 9
    --- Conflict
    error: Somebody else asked for something else in the meantime
    ");
}

#[tokio::test]
async fn quiet_says_only_what_went_wrong() {
    let stopped = |script: &Script, _: &str| script.tell(both(Phase::Stopped, Wish::Reached));
    let script = Script::new(stopped);
    script.tell(both(Phase::Running, Wish::Reached));
    assert_eq!(Room::new().with(script, &["-q", "stop"]).await, "--- Ok\n");
    let ran = Room::new().with(Script::new(db_fails), &["-q", "up", "-d"]).await;
    insta::assert_snapshot!(ran, @"
    db-1   failed: ended (exit 1) and `restart: no` leaves it so
      its last lines:
        | panic: no disk
    web-1  running
    --- Failed
    error: Not everything came up
    hint: `upbeat why db` explains it
    ");
}

#[tokio::test]
async fn who_looks_sees_the_way_and_a_pipe_only_the_end() {
    let starting = |script: &Script, _: &str| script.tell(both(Phase::Starting, Wish::Pending));
    let args = ["up", "-d", "--color=never"];
    insta::assert_snapshot!(Room::on_terminal().with(Script::new(starting), &args).await, @"
    db-1   starting
    web-1  starting
    --- Ok
    upbeat: db-1 is starting
    upbeat: web-1 is starting
    ");
}

/// It was started, and at the last look somebody else stops it: that is no end of anybody's patience.
#[tokio::test]
async fn who_is_overtaken_at_the_last_look_is_told_by_whom() {
    let started = |script: &Script, _: &str| script.tell(both(Phase::Unhealthy, Wish::Pending));
    let script = Script::new(started);
    let stops = |wish: Wish| -> Slots {
        let of_another = |(s, w)| (SlotStatus { operation: OperationId(9), goal: Goal::Stopped, ..s }, w);
        both(Phase::Stopping, wish).into_iter().map(of_another).collect()
    };
    let moment = [stops(Wish::Pending), stops(Wish::Superseded { by: OperationId(9) })];
    *script.at_a_look.lock().unwrap() = Some(moment);
    insta::assert_snapshot!(Room::new().with(script, &["up", "-d"]).await, @"
    db-1   superseded by operation 9
    web-1  superseded by operation 9
    --- Conflict
    error: Somebody else asked for something else in the meantime
    ");
}

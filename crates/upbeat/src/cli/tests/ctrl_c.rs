//! `up` in front, and a person who presses Ctrl-C.

use std::sync::atomic::Ordering;

use upbeat_api::Wish;
use upbeat_model::Phase;

use super::room::Room;
use super::script::{Script, both};

#[tokio::test]
async fn up_in_front_shows_every_line_until_all_has_ended_or_ctrl_c() {
    let ended = |script: &Script, _: &str| {
        script.say("db-1", "one");
        script.say("db-1", "two");
        script.tell(both(Phase::Completed, Wish::Reached));
    };
    let room = Room::new();
    let ran = room.with(Script::new(ended), &["up"]).await;
    let (out, rest) = ran.split_once("---").unwrap();
    assert_eq!(out, "db-1   | one\ndb-1   | two\n");
    insta::assert_snapshot!(rest, @"
     Ok
    upbeat: db-1 completed
    upbeat: web-1 completed
    ");
    ctrl_c_stops_in_order_and_a_second_one_at_once().await;
    ctrl_c_before_anything_was_asked_ends_it().await;
    ctrl_c_is_heard_while_up_is_not_answered().await;
    ctrl_c_is_heard_while_a_stop_is_not_answered().await;
}

/// As a person at the terminal does. One test alone: every foreground `up` of this process hears it.
fn press_ctrl_c() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT).unwrap();
}

async fn ctrl_c_stops_in_order_and_a_second_one_at_once() {
    let stubborn = |script: &Script, asked: &str| {
        let (phase, wish) = match asked {
            "up shop []" => (Phase::Running, Wish::Reached),
            asked if asked.contains("false") => (Phase::Stopping, Wish::Pending),
            _ => (Phase::Stopped, Wish::Reached),
        };
        script.tell(both(phase, wish));
        if phase != Phase::Stopped {
            press_ctrl_c();
        }
    };
    let script = Script::new(stubborn);
    let asked = script.asked.clone();
    let ran = Room::new().with(script, &["up"]).await;
    assert!(ran.contains("--- Interrupted\n"), "{ran}");
    assert!(ran.contains("upbeat: stopping `shop`; Ctrl-C again kills it at once\n"), "{ran}");
    assert!(ran.contains("upbeat: killing `shop`"), "{ran}");
    let stop = |kill: bool| format!(r#"{{"action":"stop","services":[],"kill":{kill}}}"#);
    assert_eq!(*asked.lock().unwrap(), ["up shop []".to_owned(), stop(false), stop(true)]);
}

/// Whoever waits for an answer that does not come, and presses it once more whenever it was heard.
async fn impatient(script: Script) -> String {
    let room = Room::new();
    let listener = upbeat_server::bind(&room.dirs.socket()).unwrap();
    let (is_waited_for, errors) = (script.is_waited_for.clone(), room.errors.clone());
    let pressing = async move {
        let mut presses = 0;
        loop {
            // Two at once would be heard as one.
            let heard = errors.text().matches("Ctrl-C again").count();
            if is_waited_for.load(Ordering::Relaxed) && heard == presses {
                press_ctrl_c();
                presses += 1;
            }
            tokio::task::yield_now().await;
        }
    };
    let daemon = upbeat_server::serve(listener, script, std::future::pending());
    let both = async {
        tokio::select! { _ = daemon => {}, () = pressing => {} }
    };
    room.beside(both, &["up"]).await
}

async fn ctrl_c_before_anything_was_asked_ends_it() {
    let script = Script::new(|_, _| {});
    script.unanswered.lock().unwrap().push("look");
    let asked = script.asked.clone();
    insta::assert_snapshot!(impatient(script).await, @"
    --- Interrupted
    upbeat: nothing was asked of the daemon; `shop` is as it was
    ");
    assert!(asked.lock().unwrap().is_empty());
}

async fn ctrl_c_is_heard_while_up_is_not_answered() {
    let script = Script::new(|_, _| {});
    script.unanswered.lock().unwrap().push("up");
    let asked = script.asked.clone();
    insta::assert_snapshot!(impatient(script).await, @"
    --- Interrupted
    upbeat: stopping `shop`; Ctrl-C again kills it at once
    upbeat: killing `shop`; Ctrl-C again leaves it to the daemon
    upbeat: it is not known whether `shop` was started; `upbeat ps` shows it
    ");
    assert_eq!(*asked.lock().unwrap(), ["up shop []"], "nothing may overtake what has no answer yet");
}

async fn ctrl_c_is_heard_while_a_stop_is_not_answered() {
    let pressed = |script: &Script, asked: &str| {
        if asked.starts_with("up") {
            script.tell(both(Phase::Running, Wish::Reached));
        }
        press_ctrl_c();
    };
    let script = Script::new(pressed);
    script.unanswered.lock().unwrap().push(r#"{"action":"stop""#);
    let asked = script.asked.clone();
    let ran = Room::new().with(script, &["up"]).await;
    assert!(ran.contains("--- Interrupted\n"), "{ran}");
    assert!(
        ran.contains("upbeat: it is not known whether `shop` is killed; `upbeat ps` shows it\n"),
        "{ran}"
    );
    let stop = |kill: bool| format!(r#"{{"action":"stop","services":[],"kill":{kill}}}"#);
    assert_eq!(*asked.lock().unwrap(), ["up shop []".to_owned(), stop(false), stop(true)]);
}

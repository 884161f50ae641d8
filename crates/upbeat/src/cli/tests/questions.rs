//! Commands that ask something.

use clap::ValueEnum;
use upbeat_api::Wish;
use upbeat_model::Phase;

use super::room::{Gone, Room};
use super::script::{Script, both, db_fails, every_phase};
use crate::daemon::Installed;
use crate::exit::ExitCode;
use crate::face::examples::status;

#[tokio::test]
async fn who_waits_does_not_notice_that_the_daemon_was_replaced() {
    let room = Room::new();
    let script = Script::new(|_, _| {});
    script.tell(both(Phase::Starting, Wish::Pending));
    let watched = script.watched.clone();
    let first = upbeat_server::bind(&room.dirs.socket()).unwrap();
    let daemons = async {
        upbeat_server::serve(first, script.clone(), async move { watched.notified().await }).await;
        script.tell(both(Phase::Healthy, Wish::Reached));
        let second = upbeat_server::bind(&room.dirs.socket()).unwrap();
        upbeat_server::serve(second, script, std::future::pending()).await;
    };
    let ran = tokio::select! {
        () = daemons => panic!("the daemons ended"),
        ran = room.run(&["wait", "--for=healthy"]) => ran,
    };
    assert!(ran.starts_with("--- Ok\n"), "{ran}");
}

#[tokio::test]
async fn who_waits_for_an_app_that_is_taken_down_is_told() {
    let wait = async |state: &str| {
        let script = Script::new(|_, _| {});
        script.tell(both(Phase::Starting, Wish::Pending));
        let taken_down = async {
            script.watched.notified().await;
            script.forget();
            std::future::pending::<()>().await;
        };
        let (room, args) = (Room::new(), ["wait", "--for", state]);
        tokio::select! {
            () = taken_down => String::new(),
            ran = room.with(script.clone(), &args) => ran,
        }
    };
    insta::assert_snapshot!(wait("healthy").await, @"
    --- NotFound
    error: `shop` was taken down
    ");
    assert_eq!(wait("stopped").await, "--- Ok\n");
}

#[tokio::test]
async fn without_a_daemon_every_command_says_so() {
    let room = Room::new();
    insta::assert_snapshot!(room.run(&["ps"]).await, @"
    Nothing of `shop` is there; `upbeat up` starts it.
    --- Ok
    ");
    assert_eq!(room.run(&["ps", "-o", "json"]).await, "null\n--- Ok\n");
    insta::assert_snapshot!(room.run(&["down"]).await, @"
    --- Ok
    upbeat: nothing of `shop` is there
    ");
    for args in [&["logs"][..], &["stop"], &["why", "web"], &["scale", "web=2"], &["events"], &["wait"]] {
        let ran = room.run(args).await;
        assert!(ran.starts_with("--- NotFound\nerror: No daemon is listening on `"), "{args:?}: {ran}");
        assert!(ran.contains("hint: "), "{args:?}: {ran}");
    }
    insta::assert_snapshot!(room.run(&["graph"]).await, @"
    db
    └─ web
    --- Ok
    ");
}

#[tokio::test]
async fn waiting_ends_with_the_state_or_with_the_reason_it_never_comes() {
    let script = Script::new(|_, _| {});
    db_fails(&script, "");
    insta::assert_snapshot!(Room::new().with(script.clone(), &["wait", "--for=healthy", "db"]).await, @"
    --- Failed
    error: `db` does not get healthy: db-1 failed: ended (exit 1) and `restart: no` leaves it so
    hint: `upbeat why db` explains it
    ");
    assert_eq!(Room::new().with(script.clone(), &["wait", "--for=running", "web"]).await, "--- Ok\n");
    let late = Room::new().with(script, &["wait", "--for=completed", "--timeout=0", "web"]).await;
    assert!(late.starts_with("--- Timeout\n"), "{late}");
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_command_quietly() {
    let room = Room::new();
    let (code, err) = room.command(Box::new(Gone(std::io::ErrorKind::BrokenPipe)), &["ps"]).await;
    assert_eq!((code, err.as_str()), (ExitCode::Ok, ""));
}

#[tokio::test]
async fn a_plan_without_steps_has_no_changes() {
    let script = Script::new(|_, _| {});
    let ran = Room::new().with(script, &["plan", "--detailed-exitcode"]).await;
    assert_eq!(ran, "Plan for `shop`: nothing to do; 3 slots stay as they are\n--- Ok\n");
}

#[tokio::test]
async fn ps_shows_what_is_there_as_much_of_it_as_asked() {
    let room = Room::new();
    insta::assert_snapshot!(room.with(every_phase(), &["ps"]).await, @"
    SLOT         STATE              FOR  RESTARTS  WHY
    api-1        healthy            3m   0
    cache-1      backing off        3m   3         backs off 4s after its 3rd exit (exit 1)
    crash-1      crash-looping      3m   41        killed by SIGKILL
    dep-1        dependency failed  3m   0         needs db to be healthy, but db-1 is failed (exit 1)
    fail-1       failed             3m   0         ended (exit 1) and `restart: no` leaves it so
    needy-1      needs attention    3m   0         its probe `liveness` still fails after restart 5 times within 10m: a person has to look; `upbeat restart` begins anew
    run-1        running            3m   0
    start-1      starting           3m   0         its process is being started
    stopping-1   stopping           3m   0
    unhealthy-1  unhealthy          3m   0         its health check (http http://127.0.0.1:8080/health) failed 3 times in a row: status 503
    web-1        waiting            3m   0         waits for db to be healthy (db-1 is backing off)
    web-2        waiting            3m   0         waits for db to be healthy (db-1 is backing off)
    --- Ok
    upbeat: 2 more slots are stopped or completed; `upbeat ps -a` shows them
    ");
    let wide = Room::new().with(every_phase(), &["ps", "--all", "-o", "wide"]).await;
    insta::assert_snapshot!(wide, @"
    SLOT         STATE              FOR  RESTARTS  PID   ATTEMPT  RELEASE  GOAL     OPERATION  WHY
    api-1        healthy            3m   0         4711  1        1        running  4
    cache-1      backing off        3m   3               1        1        running  4          backs off 4s after its 3rd exit (exit 1)
    crash-1      crash-looping      3m   41              1        1        running  4          killed by SIGKILL
    dep-1        dependency failed  3m   0               1        1        running  4          needs db to be healthy, but db-1 is failed (exit 1)
    fail-1       failed             3m   0               1        1        running  4          ended (exit 1) and `restart: no` leaves it so
    job-1        completed          3m   0               1        1        running  4          exit 0
    needy-1      needs attention    3m   0         4711  1        1        running  4          its probe `liveness` still fails after restart 5 times within 10m: a person has to look; `upbeat restart` begins anew
    run-1        running            3m   0         4711  1        1        running  4
    start-1      starting           3m   0         4711  1        1        running  4          its process is being started
    stop-1       stopped            3m   0               1        1        stopped  4          was stopped by operation 3
    stopping-1   stopping           3m   0         4711  1        1        running  4
    unhealthy-1  unhealthy          3m   0         4711  1        1        running  4          its health check (http http://127.0.0.1:8080/health) failed 3 times in a row: status 503
    web-1        waiting            3m   0               1        1        running  4          waits for db to be healthy (db-1 is backing off)
    web-2        waiting            3m   0               1        1        running  4          waits for db to be healthy (db-1 is backing off)
    --- Ok
    ");
    let script = Script::of(both(Phase::Running, Wish::Reached).into_iter().map(|(s, _)| s).collect());
    assert_eq!(Room::new().with(script, &["ps", "-q"]).await, "db-1\nweb-1\n--- Ok\n");
}

fn talkative() -> Script {
    let script = Script::of(vec![status("db-1", Phase::Running), status("web-12", Phase::Running)]);
    script.say("db-1", "ready");
    script.say("web-12", "\u{1b}[31mred\u{1b}[0m");
    script.say("db-1", "bye");
    script
}

#[tokio::test]
async fn logs_stand_behind_their_slots_or_as_they_were_written() {
    let logs = async |args: &[&str]| {
        let ran = Room::new().with(talkative(), &[&["logs"], args].concat()).await;
        ran.replace('\u{1b}', "ESC")
    };
    insta::assert_snapshot!(logs(&[]).await, @"
    db-1    | ready
    web-12  | ESC[31mredESC[0m
    db-1    | bye
    --- Ok
    ");
    insta::assert_snapshot!(logs(&["--no-prefix"]).await, @"
    ready
    ESC[31mredESC[0m
    bye
    --- Ok
    ");
    insta::assert_snapshot!(logs(&["-t", "web", "db", "web"]).await, @"
    db-1    | 1970-01-01T00:00:00.000Z ready
    web-12  | 1970-01-01T00:00:00.000Z ESC[31mredESC[0m
    db-1    | 1970-01-01T00:00:00.000Z bye
    --- Ok
    ");
    insta::assert_snapshot!(logs(&["db"]).await, @"
    db-1  | ready
    db-1  | bye
    --- Ok
    ");
    insta::assert_snapshot!(logs(&["wbe"]).await, @"
    --- NotFound
    error: There is no service `wbe` in `shop`
    hint: did you mean `web`?
    ");
}

#[tokio::test]
async fn why_tells_the_chain() {
    insta::assert_snapshot!(Room::new().with(every_phase(), &["why", "web"]).await, @"
    web-1 waits for db to be healthy (db-1 is backing off)
      └ db-1 backs off 4s after its 3rd exit (exit 1); it starts again in 2s
        its last lines:
          | no disk
    --- Ok
    ");
    let none = Script::of(vec![]);
    insta::assert_snapshot!(Room::new().with(none, &["why", "web"]).await, @"
    web has no copies; `upbeat scale web=1` starts one
    --- Ok
    ");
    insta::assert_snapshot!(Room::new().with(every_phase(), &["why", "wbe"]).await, @"
    --- NotFound
    error: There is no service `wbe` in `shop`
    hint: did you mean `web`?
    ");
}

#[tokio::test]
async fn events_are_told_one_a_line_of_this_app_or_of_all() {
    let events = async |args: &[&str]| Room::new().with(every_phase(), &[&["events"], args].concat()).await;
    insta::assert_snapshot!(events(&[]).await, @"
    1  12:00:00  shop  operation 4  `up` by uid 1000
    2  12:00:00  shop  db-1         running → failed: ended (exit 1) and `restart: no` leaves it so
    4  12:00:00  shop  operation 4  ended: failed: db-1
    --- Ok
    ");
    insta::assert_snapshot!(events(&["--all", "--since-sequence", "2"]).await, @"
    3  12:00:00  blog  web-1        found again after a restart of the daemon (pid 4711, attempt 2)
    4  12:00:00  shop  operation 4  ended: failed: db-1
    --- Ok
    ");
    assert_eq!(events(&["--since-sequence", "4"]).await, "--- Ok\n");
    assert_eq!(events(&["-f"]).await, events(&[]).await, "a source that is done ends who follows it");
}

#[tokio::test]
async fn apps_are_listed() {
    insta::assert_snapshot!(Room::new().with(every_phase(), &["apps"]).await, @"
    APP   READY  RELEASE
    blog  1/2    2
    shop  3/3    2
    --- Ok
    ");
    assert_eq!(Room::new().with(every_phase(), &["apps", "-q"]).await, "blog\nshop\n--- Ok\n");
    insta::assert_snapshot!(Room::new().run(&["apps"]).await, @"
    No app is there; `upbeat up` starts the project of this directory.
    --- Ok
    ");
}

/// The version of the day is no part of what is tested.
fn undated(text: &str) -> String {
    text.replace(env!("CARGO_PKG_VERSION"), "[own]")
}

#[tokio::test]
async fn version_tells_both_and_where_they_differ() {
    let version = async |script| undated(&Room::new().with(script, &["version"]).await);
    insta::assert_snapshot!(version(every_phase()).await, @"
    upbeat [own]
    socket /room/run/upbeat.sock
    daemon [own] (pid 42, for 2h)
    --- Ok
    ");
    let other = every_phase().with(|facts| facts.version = "0.0.9".into());
    insta::assert_snapshot!(version(other).await, @"
    upbeat [own]
    socket /room/run/upbeat.sock
    daemon 0.0.9 (pid 42, for 2h)
    the daemon is of another version: `upbeat serve --stop`, then `upbeat up`; services stay up
    --- Ok
    ");
    insta::assert_snapshot!(undated(&Room::new().run(&["version"]).await), @"
    upbeat [own]
    socket /room/run/upbeat.sock
    no daemon runs
    --- Ok
    ");
}

#[tokio::test]
async fn a_plan_has_its_steps_and_a_status_if_asked() {
    insta::assert_snapshot!(Room::new().with(every_phase(), &["plan"]).await, @"
    Plan for `shop`: 3 steps; 1 slot stays as it is

    STEP  DO       SLOT   WHY                          AFTER
    1     start    db-1   it is new
    2     replace  web-1  `command` changed            1 (db-1 healthy)
    3     remove   old-1  it is not declared any more
    --- Ok
    ");
    let ran = Room::new().with(every_phase(), &["plan", "--detailed-exitcode"]).await;
    assert!(ran.ends_with("--- PlanHasChanges\n"), "{ran}");
}

#[tokio::test]
async fn graphs_are_drawn_for_people_and_for_programs() {
    let db = || Script::of(vec![status("db-1", Phase::Healthy)]);
    let graph = async |format| Room::new().with(db(), &["graph", "--format", format]).await;
    insta::assert_snapshot!(graph("text").await, @"
    db      healthy
    └─ web
    --- Ok
    ");
    insta::assert_snapshot!(graph("dot").await, @r#"
    digraph upbeat {
      rankdir=LR;
      node [shape=box, style=rounded];
      "db" [label="db\nhealthy"];
      "web" [label="web"];
      "db" -> "web" [label="started"];
    }
    --- Ok
    "#);
    insta::assert_snapshot!(graph("mermaid").await, @r#"
    flowchart LR
      s0["db<br/>healthy"]
      s1["web"]
      s0 -->|started| s1
    --- Ok
    "#);
}

#[tokio::test]
async fn every_shell_gets_a_script_that_knows_the_commands() {
    let completion = async |shell: &str| Room::new().run(&["completion", shell]).await;
    for shell in clap_complete::Shell::value_variants() {
        let script = completion(&shell.to_string()).await;
        assert!(script.ends_with("--- Ok\n"), "{shell}");
        for word in ["restart", "wait-timeout"] {
            assert!(script.contains(word), "{shell} does not complete `{word}`");
        }
    }
    let first = async |shell| completion(shell).await.lines().take(2).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(first("bash").await, @"
    _upbeat() {
        local i cur prev opts cmd
    ");
    insta::assert_snapshot!(first("zsh").await, @"#compdef upbeat");
    insta::assert_snapshot!(first("fish").await, @"
    # Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
    function __fish_upbeat_global_optspecs
    ");
    insta::assert_snapshot!(first("elvish").await, @"

    use builtin;
    ");
    insta::assert_snapshot!(first("powershell").await, @"

    using namespace System.Management.Automation
    ");
}

#[test]
fn who_installs_is_told_where_and_what_comes_next() {
    let installed = Installed {
        path: "/home/ann/.config/systemd/user/upbeat.service".into(),
        next: "systemctl --user enable --now upbeat".into(),
    };
    insta::assert_snapshot!(super::super::serve::told(&installed), @"
    wrote `/home/ann/.config/systemd/user/upbeat.service`
    start it with `systemctl --user enable --now upbeat`
    ");
}

//! Colours: where a person looks or asked for them, nowhere else, and never more than colours.

use upbeat_api::Wish;
use upbeat_model::Phase;

use super::room::Room;
use super::script::{Script, both, db_fails, every_phase};
use crate::face::examples::status;

fn talkative() -> Script {
    let script = every_phase();
    script.say("db-1", "ready");
    script.say("web-1", "\u{1b}[31mred, never reset");
    script
}

/// Every command that answers, and one that fails.
const QUESTIONS: [&[&str]; 10] = [
    &["ps", "-a"],
    &["plan"],
    &["why", "web"],
    &["events"],
    &["apps"],
    &["version"],
    &["logs", "-t"],
    &["graph"],
    &["why", "wbe"],
    &["wait", "--for=healthy"],
];

fn other_version() -> Script {
    talkative().with(|facts| facts.version = "0.0.9".into())
}

/// Without what sets colours. A service's own are not ours to count.
fn uncoloured(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain + rest
}

#[tokio::test]
async fn colours_are_for_terminals_and_for_who_wants_them_and_change_no_word() {
    for args in QUESTIONS {
        let piped = Room::new().with(other_version(), args).await;
        let asked = Room::new().with(other_version(), &[args, &["--color", "always"]].concat()).await;
        let seen = Room::on_terminal().with(other_version(), args).await;
        let refused =
            Room::on_terminal().with(other_version(), &[args, &["--color", "never"]].concat()).await;
        let no_color = Room::on_terminal().without_colours().with(other_version(), args).await;
        let both_said = &[args, &["--color", "always"]].concat();
        let insisted = Room::on_terminal().without_colours().with(other_version(), both_said).await;
        for coloured in [&asked, &seen, &insisted] {
            assert!(coloured.contains('\u{1b}'), "{args:?} without colours: {coloured}");
            assert_eq!(uncoloured(coloured), uncoloured(&piped), "{args:?}");
        }
        for plain in [&refused, &no_color] {
            assert!(!plain.contains('\u{1b}'), "{args:?} with colours: {plain}");
            assert_eq!(*plain, uncoloured(&piped), "{args:?}");
        }
        // A pipe gets what a service wrote as it is.
        assert!(args[0] == "logs" || !piped.contains('\u{1b}'), "{args:?} into a pipe: {piped}");
    }
}

/// As it would be on a terminal, with `ESC` for what cannot be read.
async fn coloured(script: Script, args: &[&str]) -> String {
    Room::new().with(script, &[args, &["--color", "always"]].concat()).await.replace('\u{1b}', "ESC")
}

#[tokio::test]
async fn changes_are_told_in_colours() {
    insta::assert_snapshot!(coloured(Script::new(db_fails), &["up", "-d"]).await, @"
    db-1   ESC[31mfailedESC[0m: ended (exit 1) and `restart: no` leaves it so
      its last lines:
    ESC[2m    | panic: no diskESC[0m
    web-1  ESC[32mrunningESC[0m
    --- Failed
    ESC[31merror:ESC[0m Not everything came up
    ESC[32mhint:ESC[0m `upbeat why db` explains it
    ");
    for args in [&["start"][..], &["restart"], &["scale", "web=1"]] {
        let script = Script::new(|script, _| script.tell(both(Phase::Healthy, Wish::Reached)));
        script.tell(both(Phase::Running, Wish::Reached));
        let told = coloured(script, args).await;
        assert!(told.contains("healthyESC[0m\n") && told.ends_with("--- Ok\n"), "{args:?}: {told}");
    }
    for args in ["stop", "down"] {
        let script = Script::new(|script, _| script.tell(both(Phase::Stopped, Wish::Reached)));
        script.tell(both(Phase::Running, Wish::Reached));
        let told = coloured(script, &[args]).await;
        assert!(told.starts_with("db-1   ESC[2m"), "{args:?}: {told}");
    }
}

#[tokio::test]
async fn answers_are_told_in_colours() {
    insta::assert_snapshot!(coloured(talkative(), &["ps"]).await, @"
    ESC[2mSLOTESC[0m         ESC[2mSTATEESC[0m              ESC[2mFORESC[0m  ESC[2mRESTARTSESC[0m  ESC[2mWHYESC[0m
    api-1        ESC[32mhealthyESC[0m            3m   0
    cache-1      ESC[33mbacking offESC[0m        3m   3         backs off 4s after its 3rd exit (exit 1)
    crash-1      ESC[31mcrash-loopingESC[0m      3m   41        killed by SIGKILL
    dep-1        ESC[31mdependency failedESC[0m  3m   0         needs db to be healthy, but db-1 is failed (exit 1)
    fail-1       ESC[31mfailedESC[0m             3m   0         ended (exit 1) and `restart: no` leaves it so
    needy-1      ESC[31mneeds attentionESC[0m    3m   0         its probe `liveness` still fails after restart 5 times within 10m: a person has to look; `upbeat restart` begins anew
    run-1        ESC[32mrunningESC[0m            3m   0
    start-1      ESC[33mstartingESC[0m           3m   0         its process is being started
    stopping-1   ESC[33mstoppingESC[0m           3m   0
    unhealthy-1  ESC[33munhealthyESC[0m          3m   0         its health check (http http://127.0.0.1:8080/health) failed 3 times in a row: status 503
    web-1        ESC[2mwaitingESC[0m            3m   0         waits for db to be healthy (db-1 is backing off)
    web-2        ESC[2mwaitingESC[0m            3m   0         waits for db to be healthy (db-1 is backing off)
    --- Ok
    ESC[2mupbeat:ESC[0m 2 more slots are stopped or completed; `upbeat ps -a` shows them
    ");
    insta::assert_snapshot!(coloured(talkative(), &["plan"]).await, @"
    Plan for `shop`: 3 steps; 1 slot stays as it is

    ESC[2mSTEPESC[0m  ESC[2mDOESC[0m       ESC[2mSLOTESC[0m   ESC[2mWHYESC[0m                          ESC[2mAFTERESC[0m
    1     ESC[32mstartESC[0m    db-1   it is new
    2     ESC[33mreplaceESC[0m  web-1  `command` changed            1 (db-1 healthy)
    3     ESC[31mremoveESC[0m   old-1  it is not declared any more
    --- Ok
    ");
    insta::assert_snapshot!(coloured(talkative(), &["why", "web"]).await, @"
    ESC[1mweb-1ESC[0m waits for db to be healthy (db-1 is backing off)
      └ ESC[1mdb-1ESC[0m backs off 4s after its 3rd exit (exit 1); it starts again in 2s
        its last lines:
      ESC[2m    | no diskESC[0m
    --- Ok
    ");
    insta::assert_snapshot!(coloured(talkative(), &["events"]).await, @"
    ESC[2m1  12:00:00ESC[0m  shop  ESC[1moperation 4ESC[0m  `up` by uid 1000
    ESC[2m2  12:00:00ESC[0m  shop  ESC[1mdb-1ESC[0m         running → ESC[31mfailedESC[0m: ended (exit 1) and `restart: no` leaves it so
    ESC[2m4  12:00:00ESC[0m  shop  ESC[1moperation 4ESC[0m  ended: failed: db-1
    --- Ok
    ");
    insta::assert_snapshot!(coloured(talkative(), &["apps"]).await, @"
    ESC[2mAPPESC[0m   ESC[2mREADYESC[0m  ESC[2mRELEASEESC[0m
    blog  ESC[33m1/2ESC[0m    2
    shop  ESC[32m3/3ESC[0m    2
    --- Ok
    ");
    let version = coloured(other_version(), &["version"]).await;
    insta::assert_snapshot!(version.replace(env!("CARGO_PKG_VERSION"), "[own]"), @"
    upbeat [own]
    socket /room/run/upbeat.sock
    daemon 0.0.9 (pid 42, for 2h)
    ESC[33mthe daemon is of another version: `upbeat serve --stop`, then `upbeat up`; services stay upESC[0m
    --- Ok
    ");
    insta::assert_snapshot!(coloured(talkative(), &["logs", "db", "web"]).await, @"
    ESC[33mdb-1   | ESC[0mready
    ESC[36mweb-1  | ESC[0mESC[31mred, never resetESC[0m
    --- Ok
    ");
    let db = || Script::of(vec![status("db-1", Phase::Healthy)]);
    insta::assert_snapshot!(coloured(db(), &["graph"]).await, @"
    ESC[1mdbESC[0m      ESC[32mhealthyESC[0m
    ESC[2m└─ ESC[0mESC[1mwebESC[0m
    --- Ok
    ");
    insta::assert_snapshot!(coloured(talkative(), &["why", "wbe"]).await, @"
    --- NotFound
    ESC[31merror:ESC[0m There is no service `wbe` in `shop`
    ESC[32mhint:ESC[0m did you mean `web`?
    ");
}

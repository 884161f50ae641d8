//! Commands that are asked something, below shims: controllers of rollouts, and what is measured.

use std::collections::BTreeMap;
use std::pin::pin;

use rustix::process::Signal;
use upbeat_drivers::controllers::{Caller, Choice, Means};
use upbeat_model::rollout::{Controller, Report, TargetId};

use crate::Case;
use crate::rig::{Place, Rig, eventually, is_alive, kill, number, parent, signal};

pub(crate) const CASES: &[Case] = &[
    Case::new("a command that is asked answers over its input and its output", answered),
    Case::new("a command that is asked and fails says how, with its last line", failed),
    Case::new("nothing of a command stays that has answered, whatever session it made", leftovers),
    Case::new("nothing of a command stays for whose answer nobody waits", abandoned),
    Case::new("what was asked is killed when its shim was, and that is no answer", killed_shim),
    Case::new("what dead daemons asked is killed by the next", of_dead_daemons),
    Case::new("what is asked of a process that makes shims, and was stopped, is asked of the next", stopped),
];

/// A tree of two sessions that gives its pids away, in a directory of its own, and answers when all are there.
const TREE: &str = r#"
    cd "$PLACE"
    echo $$ > main
    "$SELF" in-a-session-of-its-own sh -c 'trap "" TERM; echo $$ >> pids; sleep 600; :' &
    (sleep 600 & echo $! >> pids)
    echo $$ >> pids
    while [ $(wc -l < pids) -lt 3 ]; do :; done
    echo '{"status":"ok"}'
"#;

fn sh(script: &str) -> Controller {
    Controller::Exec(["sh", "-c", script].map(Into::into).into())
}

fn caller(rig: &Rig<'_>) -> Caller {
    let mut environment = rig.script("").environment;
    environment.insert("PLACE".to_owned(), rig.place.path().display().to_string());
    Caller::new(Means { environment, commands: Some(rig.driver.clone()), ..Means::default() })
}

fn pids(place: &Place) -> Vec<i32> {
    let text = std::fs::read_to_string(place.file("pids")).unwrap_or_default();
    text.lines().map(number).collect()
}

/// More than a pipe holds.
fn many() -> Vec<Report> {
    let report = |n| Report {
        target: TargetId::new("g", &format!("target {n}")).unwrap(),
        version: None,
        is_error: false,
        message: String::new(),
        labels: BTreeMap::new(),
        failed: false,
    };
    (0..20_000).map(report).collect()
}

fn answered() {
    Place::new().daemon(async |rig| {
        let (caller, many) = (caller(&rig), many());
        let chosen = caller.choose(&sh("cat"), Choice::Selection, &many, many.len()).await;
        assert!(chosen.as_ref() == Ok(&many), "{:?}", chosen.map(|chosen| chosen.len()));
        let unread = caller.is_well(&sh(r#"echo '{"status":"ok"}'"#), &many).await;
        assert_eq!(unread, Ok(()), "it reads nothing");
        let alone = r#"test "$(pwd)" = / && test ! -t 0 && echo complaint >&2 && echo '{"status":"ok"}'"#;
        assert_eq!(caller.is_well(&sh(alone), &[]).await, Ok(()));
    });
}

fn failed() {
    Place::new().daemon(async |rig| {
        let caller = caller(&rig);
        let of = async |script: &str| caller.is_well(&sh(script), &[]).await.unwrap_err();
        assert_eq!(
            of(r#"echo '{"status":"ok"}'; echo 'too  hot' >&2; echo >&2; exit 3"#).await,
            "exit 3: too  hot"
        );
        assert_eq!(of("kill -9 $$").await, "killed by SIGKILL");
        assert_eq!(of("true").await, "its answer is empty");
        assert_eq!(of("yes").await, "its answer is longer than 4 MiB");
        assert_eq!(of("yes complaint | head -c 1000000 >&2; echo last >&2; exit 1").await, "exit 1: last");
        let nobody = Controller::Exec(vec!["no-such-program".into()]);
        let why = caller.is_well(&nobody, &[]).await.unwrap_err();
        assert_eq!(why, "cannot run `no-such-program`: no such file in PATH");
    });
}

fn leftovers() {
    let place = Place::new();
    place.daemon(async |rig| {
        assert_eq!(caller(&rig).is_well(&sh(TREE), &[]).await, Ok(()));
        assert_eq!(pids(&place).len(), 3);
        assert!(pids(&place).into_iter().all(|pid| !is_alive(pid)));
    });
}

fn abandoned() {
    let place = Place::new();
    place.daemon(async |rig| {
        let (caller, script) = (caller(&rig), sh(&format!("{TREE}\nwait; sleep 600")));
        tokio::select! {
            said = caller.is_well(&script, &[]) => panic!("{said:?}"),
            () = eventually("all three are there", || pids(&place).len() == 3) => {}
        }
        eventually("all three are gone", || pids(&place).into_iter().all(|pid| !is_alive(pid))).await;
    });
}

fn killed_shim() {
    let place = Place::new();
    place.daemon(async |rig| {
        let (caller, script) = (caller(&rig), sh(&format!("{TREE}\nwait; sleep 600")));
        let mut asked = pin!(caller.is_well(&script, &[]));
        tokio::select! {
            said = &mut asked => panic!("{said:?}"),
            () = eventually("all three are there", || pids(&place).len() == 3) => {}
        }
        let main = std::fs::read_to_string(place.file("main")).unwrap();
        kill(parent(number(&main)));
        assert_eq!(asked.await, Err("its shim was killed".into()));
        assert!(pids(&place).into_iter().all(|pid| !is_alive(pid)));
    });
}

/// Where shim and daemon die at once, nobody is left to kill what has made a session of its own.
fn of_dead_daemons() {
    let place = Place::new();
    place.daemon(async |rig| {
        let slots = rig.driver.slot_dir(&crate::rig::id("app/web/1"));
        let mark = format!("{}#exec-1-7", slots.ancestors().nth(3).unwrap().display());
        let mut dead = std::process::Command::new("sleep");
        let mut dead = dead.arg("600").env("UPBEAT_INSTANCE", mark).spawn().unwrap();
        assert_eq!(caller(&rig).is_well(&sh(r#"echo '{"status":"ok"}'"#), &[]).await, Ok(()));
        assert!(dead.try_wait().unwrap().is_some(), "before anything is asked");
    });
}

/// What the one that makes shims answered is how it is, and not that it could not be asked.
fn stopped() {
    let place = Place::new();
    place.daemon(async |rig| {
        let caller = caller(&rig);
        let who = sh(r#"cut -d" " -f4 /proc/$PPID/stat > "$PLACE/zygote"; echo '{"status":"ok"}'"#);
        assert_eq!(caller.is_well(&who, &[]).await, Ok(()));
        let zygote = || number(std::fs::read_to_string(place.file("zygote")).unwrap().trim());
        let first = zygote();
        signal(first, Signal::STOP);
        assert_eq!(caller.is_well(&who, &[]).await, Ok(()));
        assert_ne!(zygote(), first);
        assert!(!is_alive(first));
    });
}

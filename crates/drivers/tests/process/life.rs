//! Starts, ends, stops: one process and its tree.

use upbeat_drivers::process::{Observation, StartError};
use upbeat_model::{Attempt, Exit, Millis};

use crate::Case;
use crate::rig::{FOREVER, Place, id, is_alive, number};

pub(crate) const CASES: &[Case] = &[
    Case::new("an end is told with its status or its signal", ends),
    Case::new("whoever hears of an end can start the next attempt at once", at_once),
    Case::new("what cannot be run says why, and leaves the slot free", failures),
    Case::new("a stop reaches the whole group", stop_group),
    Case::new("what ignores its signal is killed when its grace is over", stubborn),
    Case::new("of many stops the earliest deadline holds", earliest),
    Case::new("a stopped process hears that it shall stop", paused),
    Case::new("orphans are asked once, and killed at the deadline", orphans),
    Case::new("who is born while its group is asked is asked when the leader has ended", born_late),
    Case::new("who hears its signal as a copy of its parent is asked again as itself", swallowed),
    Case::new("what a process leaves behind is killed with its end", leftovers),
    Case::new("a slot runs one process at a time", busy),
    Case::new("an attempt is never started twice nor late", fenced),
    Case::new("removing a slot leaves nothing", remove),
];

const SLOT: &str = "app/web/1";

fn ends() {
    Place::new().daemon(async |mut rig| {
        assert_eq!(rig.observe(SLOT).await, Observation::Never);
        rig.start(SLOT, 1, "exit 7").await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(7));
        rig.start(SLOT, 2, "kill -USR1 $$").await;
        assert_eq!(rig.exit(SLOT, 2).await, Exit::Signal(10));
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Ended { attempt: Attempt(2), exit: Exit::Signal(10), .. }));
    });
}

fn at_once() {
    Place::new().daemon(async |mut rig| {
        for attempt in 1..=50 {
            rig.start(SLOT, attempt, "exit 1").await;
            assert_eq!(rig.exit(SLOT, attempt).await, Exit::Code(1));
        }
    });
}

fn failures() {
    let place = Place::new();
    let here = place.path().display().to_string();
    std::fs::write(place.file("plain"), "").unwrap();
    place.daemon(async |mut rig| {
        let command = |program: &str| {
            let mut launch = rig.script("");
            launch.command = vec![program.to_owned(), "--port".to_owned()];
            launch
        };
        let mut elsewhere = command("true");
        elsewhere.working_dir = "/nonexistent".to_owned();
        let mut somebody = command("true");
        somebody.user = Some("nobody-of-that-name".to_owned());
        let wrong = [
            (command("./bin/web"), format!("cannot run `./bin/web`: no such file or directory (in {here})")),
            (command("./plain"), format!("cannot run `./plain`: permission denied (in {here})")),
            (command("no-such-program"), "cannot run `no-such-program`: no such file in PATH".to_owned()),
            (
                elsewhere,
                "cannot enter the working directory `/nonexistent`: no such file or directory".to_owned(),
            ),
            (
                somebody,
                "there is no user or group `nobody-of-that-name` in /etc/passwd or /etc/group".to_owned(),
            ),
        ];
        for (attempt, (launch, expected)) in (1..).zip(wrong) {
            match rig.try_start(SLOT, attempt, &launch).await {
                Err(StartError::NotExecuted(why)) => assert_eq!(why, expected),
                other => panic!("{expected}: {other:?}"),
            }
            let seen = rig.observe(SLOT).await;
            let Observation::Ended { attempt: which, exit: Exit::NotStarted(_), .. } = seen else {
                panic!("{seen:?}")
            };
            assert_eq!(which, Attempt(attempt));
        }
        rig.start(SLOT, 99, "exit 0").await;
        assert_eq!(rig.exit(SLOT, 99).await, Exit::Code(0));
    });
}

fn stop_group() {
    Place::new().daemon(async |mut rig| {
        rig.start(SLOT, 1, "sleep 600 & echo $!; wait").await;
        let child = number(&rig.says(SLOT, "^[0-9]+$").await);
        rig.stop(SLOT, 1, 15, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(15));
        assert!(!is_alive(child));
    });
}

fn stubborn() {
    Place::new().daemon(async |mut rig| {
        rig.start(SLOT, 1, "trap '' TERM; echo ready; while :; do sleep 600; done").await;
        rig.says(SLOT, "ready").await;
        rig.stop(SLOT, 1, 15, Millis(50)).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(9));
    });
}

fn earliest() {
    Place::new().daemon(async |mut rig| {
        rig.start(SLOT, 1, "trap '' TERM; echo ready; while :; do sleep 600; done").await;
        rig.says(SLOT, "ready").await;
        for grace in [FOREVER, Millis(50), FOREVER] {
            rig.stop(SLOT, 1, 15, grace).await;
        }
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(9));
    });
}

fn paused() {
    Place::new().daemon(async |mut rig| {
        let started = rig.start(SLOT, 1, "trap 'exit 5' TERM; echo ready; kill -STOP $$; sleep 600").await;
        rig.says(SLOT, "ready").await;
        let stat = format!("/proc/{}/stat", started.pid);
        crate::rig::eventually("it is stopped", || std::fs::read_to_string(&stat).unwrap().contains(") T "))
            .await;
        rig.stop(SLOT, 1, 15, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(5));
    });
}

fn orphans() {
    Place::new().daemon(async |mut rig| {
        let script = r#"
            trap 'exit 3' TERM
            sh -c 'trap "echo asked in the group" TERM; echo one; while :; do sleep 600 & wait; done' &
            "$SELF" in-a-session-of-its-own \
                sh -c 'trap "echo asked outside; exit" TERM; echo two; while :; do sleep 600 & wait; done' &
            while :; do sleep 600 & wait; done
        "#;
        rig.start(SLOT, 1, script).await;
        rig.says(SLOT, "one").await;
        rig.says(SLOT, "two").await;
        rig.stop(SLOT, 1, 15, Millis(3_000)).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(3));
        let mut asked: Vec<String> = rig.lines(SLOT).into_iter().filter(|l| l.starts_with("asked")).collect();
        asked.sort();
        assert_eq!(asked, ["asked in the group", "asked outside"]);
    });
}

fn born_late() {
    Place::new().daemon(async |mut rig| {
        let script = "trap 'sleep 600 & exit 3' TERM; echo ready; while :; do sleep 600 & wait; done";
        rig.start(SLOT, 1, script).await;
        rig.says(SLOT, "ready").await;
        rig.stop(SLOT, 1, 15, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(3));
    });
}

/// The child still catches the signal when the leader has ended, and then becomes a program that knows
/// nothing of it: as every child of a shell does, for a moment.
fn swallowed() {
    Place::new().daemon(async |mut rig| {
        let script = r#"
            born() { trap : TERM; : > caught; read go < go; exec sleep 600; }
            trap 'born & while [ ! -e caught ]; do :; done; exit 3' TERM
            echo ready
            while :; do sleep 600 & wait; done
        "#;
        let go = rig.place.fifo("go");
        let started = rig.start(SLOT, 1, script).await;
        rig.says(SLOT, "ready").await;
        rig.stop(SLOT, 1, 15, FOREVER).await;
        crate::rig::eventually("the leader has ended", || !is_alive(started.pid)).await;
        std::fs::write(go, "\n").unwrap();
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(3));
    });
}

fn leftovers() {
    Place::new().daemon(async |mut rig| {
        let script = r#"
            (sleep 600 & echo $!)
            (trap '' TERM HUP; "$SELF" in-a-session-of-its-own sh -c 'echo $$; sleep 600; :' &)
            (env -i "$SELF" in-a-session-of-its-own /bin/sh -c 'echo $$; exec >&- 2>&- <&-; sleep 600; :' &)
            read go < go
            exit 4
        "#;
        let go = rig.place.fifo("go");
        rig.start(SLOT, 1, script).await;
        crate::rig::eventually("all three are there", || rig.lines(SLOT).len() == 3).await;
        let left: Vec<i32> = rig.lines(SLOT).iter().map(|line| number(line)).collect();
        assert!(left.iter().all(|pid| is_alive(*pid)));
        std::fs::write(go, "\n").unwrap();
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(4));
        assert!(left.iter().all(|pid| !is_alive(*pid)), "{left:?}");
    });
}

fn busy() {
    Place::new().daemon(async |mut rig| {
        let started = rig.start(SLOT, 1, "exec sleep 600").await;
        for attempt in [1, 2] {
            let second = rig.try_start(SLOT, attempt, &rig.script("exit 0")).await;
            assert!(matches!(second, Err(StartError::Busy)), "{second:?}");
        }
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Running { attempt: Attempt(1), pid, .. } if pid == started.pid));
        rig.stop(SLOT, 1, 9, Millis(0)).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(9));
    });
}

fn fenced() {
    Place::new().daemon(async |mut rig| {
        rig.start(SLOT, 5, "exit 0").await;
        assert_eq!(rig.exit(SLOT, 5).await, Exit::Code(0));
        for attempt in [4, 5] {
            let late = rig.try_start(SLOT, attempt, &rig.script("touch ran")).await;
            assert!(matches!(late, Err(StartError::Superseded { seen: Attempt(5) })), "{late:?}");
        }
        rig.start(SLOT, 6, "exit 1").await;
        assert_eq!(rig.exit(SLOT, 6).await, Exit::Code(1));
        assert!(!rig.place.file("ran").exists());
    });
}

fn remove() {
    Place::new().daemon(async |mut rig| {
        for slot in ["app/web/1", "app/web/2"] {
            rig.start(slot, 1, "echo x").await;
            rig.exit(slot, 1).await;
        }
        let mut slots = rig.driver.slots();
        slots.sort();
        assert_eq!(slots, [id("app/web/1"), id("app/web/2")]);
        let (dir, app) = (rig.driver.slot_dir(&slots[0]), rig.driver.slot_dir(&slots[0]).join("../.."));
        let app = app.canonicalize().unwrap();
        rig.driver.remove(&slots[0]).await.unwrap();
        assert!(!dir.exists() && app.exists());
        assert_eq!(rig.observe(SLOT).await, Observation::Never);
        rig.driver.remove(&slots[1]).await.unwrap();
        rig.driver.remove(&slots[1]).await.unwrap();
        assert!(!app.exists() && app.parent().unwrap().exists());
    });
}

//! Commands that run to their end: health checks and stop commands.

use std::pin::pin;

use upbeat_drivers::process::{ExecOutcome, ExecRequest, Rights};
use upbeat_model::{Exit, Millis};

use crate::Case;
use crate::rig::{FOREVER, Place, Rig, eventually, id, is_alive, kill, number, parent};

pub(crate) const CASES: &[Case] = &[
    Case::new("a command says how it ended and the end of what it printed", ended),
    Case::new("a command that cannot be run says why", failed),
    Case::new("at its time-out the whole tree of a command is killed", timed_out),
    Case::new("what a command leaves behind is killed with its end", leftovers),
    Case::new("what a command leaves behind is killed when its shim was", killed_shim),
    Case::new("what dead daemons ran is killed by the next, and nothing else", of_dead_daemons),
    Case::new("who no longer waits for a command has it killed", abandoned),
];

fn request(rig: &Rig<'_>, script: &str, timeout: Millis) -> ExecRequest {
    let launch = rig.script(script);
    ExecRequest {
        command: launch.command,
        environment: launch.environment,
        working_dir: launch.working_dir,
        user: None,
        rights: Rights::default(),
        beside: None,
        timeout,
    }
}

fn ended() {
    Place::new().daemon(async |rig| {
        let outcome = rig.driver.exec(request(&rig, "seq 1 100000; echo last >&2; exit 3", FOREVER)).await;
        let ExecOutcome::Ended { exit, output } = outcome else { panic!("{outcome:?}") };
        assert_eq!(exit, Exit::Code(3));
        assert!(output.len() <= 4096 && output.ends_with("\nlast\n"), "{output}");
    });
}

fn failed() {
    Place::new().daemon(async |rig| {
        let mut request = request(&rig, "", FOREVER);
        request.command = vec!["no-such-program".into()];
        let why = "cannot run `no-such-program`: no such file in PATH";
        assert_eq!(rig.driver.exec(request).await, ExecOutcome::Failed(why.into()));
    });
}

/// A tree that gives its pids away in a file, and holds on to its output.
const TREE: &str = r#"
    "$SELF" in-a-session-of-its-own sh -c 'trap "" TERM; echo $$ >> pids; sleep 600; :' &
    (sleep 600 & echo $! >> pids)
    echo hello
    echo $$ >> pids
"#;

fn pids(place: &Place) -> Vec<i32> {
    let text = std::fs::read_to_string(place.file("pids")).unwrap_or_default();
    text.lines().map(number).collect()
}

fn timed_out() {
    let place = Place::new();
    place.daemon(async |rig| {
        let timeout = Millis(1000);
        let outcome = rig.driver.exec(request(&rig, &format!("{TREE}\nwait; sleep 600"), timeout)).await;
        assert_eq!(outcome, ExecOutcome::TimedOut { after: timeout, output: "hello\n".into() });
        assert_eq!(pids(&place).len(), 3);
        assert!(pids(&place).into_iter().all(|pid| !is_alive(pid)));
    });
}

fn leftovers() {
    let place = Place::new();
    place.daemon(async |rig| {
        let script = format!("{TREE}\nwhile [ $(wc -l < pids) -lt 3 ]; do :; done; exit 0");
        let outcome = rig.driver.exec(request(&rig, &script, FOREVER)).await;
        assert_eq!(outcome, ExecOutcome::Ended { exit: Exit::Code(0), output: "hello\n".into() });
        assert!(pids(&place).into_iter().all(|pid| !is_alive(pid)));
    });
}

fn killed_shim() {
    let place = Place::new();
    place.daemon(async |rig| {
        let mut run = pin!(rig.driver.exec(request(&rig, &format!("{TREE}\nwait"), FOREVER)));
        let mut there = pin!(eventually("all three are there", || pids(&place).len() == 3));
        std::future::poll_fn(|context| {
            assert!(run.as_mut().poll(context).is_pending());
            there.as_mut().poll(context)
        })
        .await;
        let main = *pids(&place).iter().find(|pid| is_marked_main(**pid)).expect("the main process");
        kill(parent(main));
        assert_eq!(run.await, ExecOutcome::Failed("its shim was killed".into()));
        assert!(pids(&place).into_iter().all(|pid| !is_alive(pid)));
    });
}

/// Its parent is a shim.
fn is_marked_main(pid: i32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{}/cmdline", parent(pid))).unwrap_or_default();
    name.contains("zygote")
}

fn of_dead_daemons() {
    Place::new().daemon(async |rig| {
        let own = rig.driver.exec(request(&rig, "echo $$ > own; exec sleep 600", FOREVER));
        let mut own = pin!(own);
        let mut dead = std::process::Command::new("sleep");
        let slot = rig.driver.slot_dir(&id("app/web/1"));
        let mark = format!("{}#exec-1-7", slot.ancestors().nth(3).unwrap().display());
        let mut dead = dead.arg("600").env("UPBEAT_INSTANCE", mark).spawn().unwrap();
        let own_pid = || std::fs::read_to_string(rig.place.file("own")).unwrap_or_default();
        tokio::select! {
            _ = &mut own => panic!("it goes on"),
            () = eventually("it runs", || own_pid().ends_with('\n')) => {}
        }
        rig.driver.clear_execs().await.unwrap();
        eventually("it is dead", || dead.try_wait().unwrap().is_some()).await;
        assert!(is_alive(number(own_pid().trim())));
    });
}

fn abandoned() {
    let place = Place::new();
    place.daemon(async |rig| {
        {
            let mut run = pin!(rig.driver.exec(request(&rig, &format!("{TREE}\nwait"), FOREVER)));
            let mut there = pin!(eventually("all three are there", || pids(&place).len() == 3));
            std::future::poll_fn(|context| {
                assert!(run.as_mut().poll(context).is_pending());
                there.as_mut().poll(context)
            })
            .await;
            assert!(pids(&place).into_iter().all(is_alive));
        }
        eventually("all three are dead", || !pids(&place).into_iter().any(is_alive)).await;
    });
}

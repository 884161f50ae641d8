//! Commands that run to their end: health checks and stop commands.

use std::os::unix::process::CommandExt;
use std::pin::pin;

use upbeat_drivers::process::{ExecOutcome, ExecRequest, Launch, Leftovers, Observation, Rights, StartError};
use upbeat_model::{Attempt, Exit, Millis};

use crate::rig::{
    FOREVER, Place, Rig, eventually, id, is_alive, is_stopped, is_there, kill, number, parent, zygote_by,
};
use crate::{Case, Need};

pub(crate) const CASES: &[Case] = &[
    Case::new("a command says how it ended and the end of what it printed", ended),
    Case::new("a command that cannot be run says why", failed),
    Case::new("at its time-out the whole tree of a command is killed", timed_out),
    Case::new("what a command leaves behind is killed with its end", leftovers),
    Case::new(KILLED_SHIM, killed_shim),
    Case::needing(
        &[Need::ROOT],
        "it is where the session was begun outside of the PID namespace",
        killed_shim_in_a_namespace,
    ),
    Case::new("a command that kills its own shim is not said to have failed", kills_its_shim),
    Case::new("a shim that a command has stopped is killed, and is no word about it", stopped_shim),
    Case::new(
        "who no longer waits for a command has its shim killed that was stopped",
        stopped_and_abandoned,
    ),
    Case::needing(
        &[Need::ROOT],
        "what no process can be made for is told as such, and nothing was begun",
        no_process,
    ),
    Case::needing(
        &[Need::ROOT],
        "a user that has all the processes it may have is no word about a command",
        no_place_for_a_user,
    ),
    Case::new("what dead daemons ran is killed by the next, and nothing else", of_dead_daemons),
    Case::new("what a command may leave behind lives on, whatever it prints and whoever dies", left),
    Case::new(LEFT_AND_ENDED, left_and_ended),
    Case::needing(&[Need::ROOT], "it is also where the daemon is the first process", left_and_ended_below_us),
    Case::new("what a command has left behind may print when its shim was killed", left_alone),
    Case::new("of a command that may leave something behind and fails, nothing is left", left_by_failure),
    Case::new("what a command may leave behind is killed when its shim was before its end", left_unended),
    Case::new("what dead daemons had not ended is gone before a command is run", unended),
    Case::new("who no longer waits for a command has it killed", abandoned),
];

const KILLED_SHIM: &str = "what a command leaves behind is killed when its shim was";

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
        leftovers: Leftovers::Killed,
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
        let outcome = with_shim_killed(&rig, request(&rig, &format!("{TREE}\nwait"), FOREVER)).await;
        assert_eq!(outcome, ExecOutcome::Unable("its shim was killed".into()));
        assert!(pids(&place).into_iter().all(|pid| !is_alive(pid)));
    });
}

/// As in a container that somebody else's session has entered: it has no number there.
fn killed_shim_in_a_namespace() {
    in_a_namespace(KILLED_SHIM);
}

/// This case, by this very program as the first process of a PID namespace.
fn in_a_namespace(case: &str) {
    let mut namespace = std::process::Command::new("unshare");
    namespace.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    namespace.arg(std::env::current_exe().unwrap()).args(["--exact", case]);
    let ran = namespace.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

async fn with_shim_killed(rig: &Rig<'_>, request: ExecRequest) -> ExecOutcome {
    let mut run = pin!(rig.driver.exec(request));
    let mut there = pin!(eventually("all three are there", || pids(rig.place).len() == 3));
    std::future::poll_fn(|context| {
        assert!(run.as_mut().poll(context).is_pending());
        there.as_mut().poll(context)
    })
    .await;
    let main = *pids(rig.place).iter().find(|pid| is_marked_main(**pid)).expect("the main process");
    kill(parent(main));
    run.await
}

/// Its parent is a shim.
fn is_marked_main(pid: i32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{}/cmdline", parent(pid))).unwrap_or_default();
    name.contains("zygote")
}

fn kills_its_shim() {
    let place = Place::new();
    place.daemon(async |rig| {
        let script = "echo $$ >> pids; kill -9 $PPID; sleep 600";
        for _ in 0..2 {
            let outcome = rig.driver.exec(request(&rig, script, FOREVER)).await;
            assert_eq!(outcome, ExecOutcome::Unable("its shim was killed".into()));
        }
        assert_eq!(pids(&place).len(), 2);
        assert!(pids(&place).into_iter().all(|pid| !is_alive(pid)));
    });
}

/// Tells its shim and itself, and stops the one.
const STOPS_ITS_SHIM: &str = "echo $PPID >> pids; echo $$ >> pids; kill -STOP $PPID; exec sleep 600";

fn stopped_shim() {
    let place = Place::new();
    place.daemon(async |rig| {
        let outcome = rig.driver.exec(request(&rig, STOPS_ITS_SHIM, Millis(50))).await;
        assert_eq!(outcome, ExecOutcome::Unable("its shim was stopped, and is killed".into()));
        assert_eq!(pids(&place).len(), 2);
        assert!(!pids(&place).into_iter().any(is_alive));
        eventually("not even as zombies", || !pids(&place).into_iter().any(is_there)).await;
        // The zygote has not: the next command is run by the same.
        let outcome = rig.driver.exec(request(&rig, "exit 4", FOREVER)).await;
        assert_eq!(outcome, ExecOutcome::Ended { exit: Exit::Code(4), output: String::new() });
    });
}

fn stopped_and_abandoned() {
    let place = Place::new();
    place.daemon(async |rig| {
        {
            let mut run = pin!(rig.driver.exec(request(&rig, STOPS_ITS_SHIM, FOREVER)));
            let stopped = || pids(&place).len() == 2 && is_stopped(pids(&place)[0]);
            let mut there = pin!(eventually("its shim is stopped", stopped));
            std::future::poll_fn(|context| {
                assert!(run.as_mut().poll(context).is_pending());
                there.as_mut().poll(context)
            })
            .await;
        }
        eventually("both are gone", || !pids(&place).into_iter().any(is_there)).await;
    });
}

/// A user nobody else here is, who may have four processes: the zygote, two that only take their places,
/// and a shim. Root would be let beyond the limit; what it needs of root's rights it is given.
/// Root may make it one process more than it may have, and the kernel refuses what that executes.
fn no_place_for_a_user() {
    let zygote = zygote_by(r#"exec prlimit --nproc=0 "$@""#);
    Place::new().daemon_with(&zygote, async |rig| {
        let uid = 5_000_000 + std::process::id();
        let mut other = std::process::Command::new("sleep").arg("600").uid(uid).gid(uid).spawn().unwrap();
        let mut request = request(&rig, "exit 0", FOREVER);
        (request.user, request.working_dir) = (Some(uid.to_string()), "/".into());
        let why = "no process can be made: resource temporarily unavailable".to_owned();
        assert_eq!(rig.driver.exec(request).await, ExecOutcome::Unable(why.clone()));
        let mut launch = rig.script("exit 0");
        (launch.user, launch.working_dir) = (Some(uid.to_string()), "/".to_owned());
        let started = rig.try_start("app/web/1", 1, &launch).await;
        assert!(
            matches!(&started, Err(StartError::Driver(error)) if error.to_string() == why),
            "{started:?}"
        );
        assert_eq!(rig.observe("app/web/1").await, Observation::Never);
        other.kill().unwrap();
        other.wait().unwrap();
    });
}

fn no_process() {
    const WHY: &str = "no process can be made: resource temporarily unavailable";
    let place = Place::new();
    let go = place.fifo("go");
    // Of this run: the kernel counts all of a user together.
    let uid = 100_000 + std::process::id();
    let user = format!("--reuid {uid} --regid {uid} --clear-groups");
    let mark = place.mark();
    // The driver gives it back its limits, which it may not do to another user's.
    let given = format!("while [ $(ulimit -Sn) != {} ]; do :; done", crate::OPEN_FILES);
    let rights = "--inh-caps +dac_override --ambient-caps +dac_override";
    let others = r#"sh -c 'for n in 1 2; do UPBEAT_INSTANCE=$MARK sleep 600 >&- 2>&- & echo $! >> pids; done; exec "$@"' sh"#;
    let dir = place.path().display();
    let script = format!(
        r#"cd {dir}; export MARK={mark}; {given}; exec setpriv {user} {rights} prlimit --nproc=4 {others} "$@""#
    );
    place.daemon_with(&zygote_by(&script), async |mut rig| {
        let outcome = rig.driver.exec(request(&rig, "exit 0", FOREVER)).await;
        assert_eq!(outcome, ExecOutcome::Unable(WHY.into()));
        // A shim says how it went just before it is gone.
        let but = async |count| eventually("the shim is gone", || processes_of(uid) == count).await;
        but(3).await;
        let launch = Launch { working_dir: dir.to_string(), ..rig.script("read x < go; exit 7") };
        let no_place = async |rig: &Rig<'_>, attempt| {
            let started = rig.try_start("app/web/1", attempt, &launch).await;
            let Err(StartError::Driver(error)) = started else { panic!("{started:?}") };
            assert_eq!(error.to_string(), WHY);
        };
        no_place(&rig, 1).await;
        but(3).await;
        assert_eq!(rig.observe("app/web/1").await, Observation::Never);
        let free = async |pid| {
            kill(pid);
            eventually("its place is free", || !is_there(pid)).await;
        };
        free(pids(&place)[0]).await;
        // The very same attempt.
        let started = rig.try_start("app/web/1", 1, &launch).await.unwrap();
        let shim = parent(started.pid);
        std::fs::write(&go, "\n").unwrap();
        assert_eq!(rig.exit("app/web/1", 1).await, Exit::Code(7));
        eventually("its shim is gone", || !is_there(shim)).await;
        rig.start("app/web/2", 1, "exec sleep 600").await;
        free(pids(&place)[1]).await;
        no_place(&rig, 2).await;
        let seen = rig.observe("app/web/1").await;
        assert!(
            matches!(seen, Observation::Ended { attempt: Attempt(1), exit: Exit::Code(7), .. }),
            "{seen:?}"
        );
    });
}

/// How many are this user's.
fn processes_of(uid: u32) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let status = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("status")).ok();
    let is_theirs = |status: &String| status.lines().any(|line| line.starts_with(&format!("Uid:\t{uid}\t")));
    all.filter_map(status).filter(is_theirs).count()
}

fn of_dead_daemons() {
    Place::new().daemon(async |rig| {
        rig.driver.clear_execs_once().await;
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
        // It was done, and is not for each who asks.
        rig.driver.clear_execs_once().await;
        assert!(dead.try_wait().unwrap().is_none());
        rig.driver.clear_execs().await.unwrap();
        eventually("it is dead", || dead.try_wait().unwrap().is_some()).await;
        assert!(is_alive(number(own_pid().trim())));
    });
}

/// The same, of a command that may leave something behind.
fn leaving(rig: &Rig<'_>, script: &str, timeout: Millis) -> ExecRequest {
    ExecRequest { leftovers: Leftovers::Left, ..request(rig, script, timeout) }
}

/// Which such commands have not ended.
fn unended_dir(rig: &Rig<'_>) -> std::path::PathBuf {
    rig.driver.slot_dir(&id("app/web/1")).ancestors().nth(3).unwrap().join(".unended")
}

fn notes(rig: &Rig<'_>) -> usize {
    std::fs::read_dir(unended_dir(rig)).map_or(0, Iterator::count)
}

fn left() {
    let place = Place::new();
    // It prints more than a pipe holds, when nobody wants to know any more.
    let daemon =
        "echo $$ > pids; while [ ! -e go ]; do :; done; seq 1 100000 && echo > spoke; exec sleep 600";
    let script = format!(
        "\"$SELF\" in-a-session-of-its-own sh -c '{daemon}' &\nwhile [ ! -s pids ]; do :; done; echo started"
    );
    let pid = place.daemon(async |rig| {
        let outcome = rig.driver.exec(leaving(&rig, &script, FOREVER)).await;
        assert_eq!(outcome, ExecOutcome::Ended { exit: Exit::Code(0), output: "started\n".into() });
        assert_eq!(notes(&rig), 0);
        pids(&place)[0]
    });
    let shim = parent(pid);
    place.daemon(async |rig| {
        rig.driver.clear_execs().await.unwrap();
        assert!(is_alive(pid));
        std::fs::write(place.file("go"), "").unwrap();
        eventually("it has said all", || place.file("spoke").exists()).await;
        assert!(is_alive(pid));
        kill(pid);
        eventually("nobody listens any more", || !is_alive(shim)).await;
    });
}

const LEFT_AND_ENDED: &str = "what a command has left behind is reaped when it ends";

/// It has closed its output, so that its shim is gone.
fn left_and_ended() {
    let place = Place::new();
    let script = "sleep 600 >&- 2>&- & echo $! > pids";
    place.daemon(async |rig| {
        let outcome = rig.driver.exec(leaving(&rig, script, FOREVER)).await;
        assert_eq!(outcome, ExecOutcome::Ended { exit: Exit::Code(0), output: String::new() });
        let pid = pids(&place)[0];
        assert!(is_alive(pid));
        kill(pid);
        eventually("it is gone, and no zombie", || !is_there(pid)).await;
    });
}

/// Of a container: whoever loses its parent would be its child.
fn left_and_ended_below_us() {
    in_a_namespace(LEFT_AND_ENDED);
}

/// What nobody reads any more ends nobody who prints it.
fn left_alone() {
    let place = Place::new();
    let daemon = "echo $$ > pids; while [ ! -e go ]; do :; done; seq 1 1000 && echo > spoke; exec sleep 600";
    let script = format!(
        "\"$SELF\" in-a-session-of-its-own sh -c '{daemon}' &\nwhile [ ! -s pids ]; do :; done; echo started"
    );
    place.daemon(async |rig| {
        let outcome = rig.driver.exec(leaving(&rig, &script, FOREVER)).await;
        assert_eq!(outcome, ExecOutcome::Ended { exit: Exit::Code(0), output: "started\n".into() });
        let pid = pids(&place)[0];
        let shim = parent(pid);
        kill(shim);
        eventually("its shim is gone", || !is_alive(shim)).await;
        std::fs::write(place.file("go"), "").unwrap();
        eventually("it has said all", || place.file("spoke").exists()).await;
        assert!(is_alive(pid));
        kill(pid);
        eventually("it is gone", || !is_alive(pid)).await;
    });
}

fn left_by_failure() {
    let place = Place::new();
    place.daemon(async |rig| {
        let all = "while [ $(wc -l < pids) -lt 3 ]; do :; done";
        let outcome = rig.driver.exec(leaving(&rig, &format!("{TREE}\n{all}; exit 3"), FOREVER)).await;
        assert_eq!(outcome, ExecOutcome::Ended { exit: Exit::Code(3), output: "hello\n".into() });
        let timeout = Millis(1000);
        let outcome = rig.driver.exec(leaving(&rig, &format!("{TREE}\nwait"), timeout)).await;
        assert_eq!(outcome, ExecOutcome::TimedOut { after: timeout, output: "hello\n".into() });
        assert_eq!(pids(&place).len(), 6);
        assert!(pids(&place).into_iter().all(|pid| !is_alive(pid)));
        assert_eq!(notes(&rig), 0);
    });
}

fn left_unended() {
    let place = Place::new();
    place.daemon(async |rig| {
        let outcome = with_shim_killed(&rig, leaving(&rig, &format!("{TREE}\nwait"), FOREVER)).await;
        assert_eq!(outcome, ExecOutcome::Unable("its shim was killed".into()));
        assert!(pids(&place).into_iter().all(|pid| !is_alive(pid)));
        assert_eq!(notes(&rig), 0);
    });
}

/// One of them had not ended; another one had, and what it left behind is somebody else's.
fn unended() {
    Place::new().daemon(async |rig| {
        let dir = unended_dir(&rig);
        let slots = dir.parent().unwrap().display();
        std::fs::create_dir_all(&dir).unwrap();
        let marked = |number: &str| {
            let mark = format!("{slots}#start-{number}");
            std::process::Command::new("sleep").arg("600").env("UPBEAT_INSTANCE", mark).spawn().unwrap()
        };
        let (mut unended, mut ended) = (marked("1.7-3"), marked("1.7-4"));
        std::fs::write(dir.join("1.7-3"), "").unwrap();
        let script = format!("kill -0 {} 2>&- && grep -v Z /proc/{0}/stat", unended.id());
        let ExecOutcome::Ended { exit, .. } = rig.driver.exec(request(&rig, &script, FOREVER)).await else {
            panic!("it was run");
        };
        assert_ne!(exit, Exit::Code(0), "it was gone, or a zombie");
        assert!(unended.wait().unwrap().code().is_none());
        assert!(ended.try_wait().unwrap().is_none());
        assert_eq!(notes(&rig), 0);
        ended.kill().unwrap();
        ended.wait().unwrap();
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

//! What surrounds a process: its limits, its groups, its terminal.

use upbeat_drivers::process::{
    ExecOutcome, ExecRequest, Launch, Leftovers, Observation, ProcessEvent, Rights, StartError, Stdio,
};
use upbeat_model::project::Ulimit;
use upbeat_model::{Attempt, Exit};

use crate::rig::{FOREVER, Place, Rig, eventually, id, is_alive, kill, number, parent, zygote_by};
use crate::{Case, Need, SYS_RESOURCE};

pub(crate) const CASES: &[Case] = &[
    Case::new("a process and the commands beside it have the limits it was given", limits),
    Case::new("a limit that may not be set says which, to what, and why", limit_refused),
    Case::new("a process says how soon it is killed when memory is out", oom_score),
    Case::needing(&[SYS_RESOURCE], "what protects the daemon does not protect its services", unprotected),
    Case::needing(
        &[Need::ROOT],
        "without rights no score is lowered, no limit raised, no group joined",
        no_rights,
    ),
    Case::needing(&[Need::ROOT], "groups are added to those of the user, or of the daemon", groups),
    Case::new("a group that does not exist is named", unknown_group),
    Case::new("an open input has neither anything nor an end", open_input),
    Case::new("a terminal is the process' own, for all that it reads and prints", terminal),
    Case::new("what is printed into a terminal is kept to the last line", terminal_output),
    Case::new("a service that lets go of its terminal runs on", terminal_closed),
    Case::needing(&[Need::ROOT], "a terminal is its user's", terminal_of_user),
    Case::new("what a killed shim leaves in a terminal is killed, and no other terminal", lost_terminal),
    Case::new("who has the number of a terminal that is gone is left alone", reused_terminal),
];

const SLOT: &str = "app/web/1";

/// Runs an attempt to its good end; what it printed.
async fn said(rig: &mut Rig<'_>, attempt: u64, launch: &Launch) -> Vec<String> {
    let started = rig.try_start(SLOT, attempt, launch).await.unwrap();
    assert_eq!(rig.exit(SLOT, attempt).await, Exit::Code(0), "{:?}", rig.lines(SLOT));
    let mut lines = rig.lines(SLOT);
    lines.split_off(usize::try_from(started.log_start - 1).unwrap())
}

/// What an attempt says that is not started.
async fn refused(rig: &Rig<'_>, attempt: u64, launch: &Launch) -> String {
    match rig.try_start(SLOT, attempt, launch).await {
        Err(StartError::NotExecuted(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn ulimit(name: &str, soft: i64, hard: i64) -> (String, Ulimit) {
    (name.to_owned(), Ulimit { soft, hard })
}

/// What becomes another user, as `nobody` and in no group.
const AS_NOBODY: &str = "65534:65534";

fn limits() {
    Place::new().daemon(async |mut rig| {
        let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hs";
        let mut launch = rig.script(script);
        let ulimits = [ulimit("nofile", 100, 200), ulimit("core", 0, 0), ulimit("stack", 1 << 20, -1)];
        launch.rights.ulimits = ulimits.into();
        assert_eq!(said(&mut rig, 1, &launch).await, ["100", "200", "0", "unlimited"]);
        let request = ExecRequest {
            command: launch.command,
            environment: launch.environment,
            working_dir: launch.working_dir,
            user: None,
            rights: launch.rights,
            beside: None,
            timeout: FOREVER,
            leftovers: Leftovers::Killed,
        };
        let output = "100\n200\n0\nunlimited\n".to_owned();
        let ended = ExecOutcome::Ended { exit: Exit::Code(0), output };
        assert_eq!(rig.driver.exec(request).await, ended);
    });
}

/// More files than the kernel lets anybody open, root included.
fn limit_refused() {
    Place::new().daemon(async |rig| {
        let mut launch = rig.script("exit 0");
        let why = "operation not permitted (it is more than the daemon may give)";
        launch.rights.ulimits = [ulimit("core", 0, 0), ulimit("nofile", 1 << 40, 1 << 40)].into();
        let text = format!("cannot set the limit `nofile` to 1099511627776: {why}");
        assert_eq!(refused(&rig, 1, &launch).await, text);
        launch.rights.ulimits = [ulimit("nofile", 100, -1)].into();
        let text = format!("cannot set the limit `nofile` to 100 (hard: unlimited): {why}");
        assert_eq!(refused(&rig, 2, &launch).await, text);
    });
}

fn oom_score() {
    Place::new().daemon(async |mut rig| {
        let mut launch = rig.script("cat /proc/self/oom_score_adj");
        for (attempt, score) in [(1, 1000), (2, 700)] {
            launch.rights.oom_score_adj = Some(score);
            assert_eq!(said(&mut rig, attempt, &launch).await, [score.to_string()]);
        }
    });
}

fn unprotected() {
    // As under a systemd that protects the daemon.
    let protected = zygote_by(r#"echo -900 > /proc/self/oom_score_adj && exec "$@""#);
    Place::new().daemon_with(&protected, async |mut rig| {
        let mut launch = rig.script("cat /proc/self/oom_score_adj /proc/$PPID/oom_score_adj");
        assert_eq!(said(&mut rig, 1, &launch).await, ["0", "-900"]);
        launch.rights.oom_score_adj = Some(-500);
        assert_eq!(said(&mut rig, 2, &launch).await, ["-500", "-900"]);
    });
}

fn no_rights() {
    let without = "-sys_resource,-setgid";
    let script = format!(r#"exec setpriv --bounding-set {without} --inh-caps {without} "$@""#);
    let without = zygote_by(&script);
    Place::new().daemon_with(&without, async |mut rig| {
        let script = |rights| Launch { rights, ..rig.script("id -G; cat /proc/self/oom_score_adj") };
        let launch = script(Rights { oom_score_adj: Some(-5), ..Rights::default() });
        let refused_score =
            "cannot set `oom_score_adj` to -5: permission denied (it is more than the daemon may give)";
        assert_eq!(refused(&rig, 1, &launch).await, refused_score);
        let hard = i64::try_from(rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap());
        let hard = hard.unwrap() + 1;
        let launch = script(Rights { ulimits: [ulimit("nofile", 9, hard)].into(), ..Rights::default() });
        let refused_limit = format!(
            "cannot set the limit `nofile` to 9 (hard: {hard}): operation not permitted (it is more than the daemon may give)"
        );
        assert_eq!(refused(&rig, 2, &launch).await, refused_limit);
        let launch = script(Rights { groups: vec!["1".into(), "7".into()], ..Rights::default() });
        let refused_group =
            "cannot join the group `7`: operation not permitted (it is more than the daemon may give)";
        assert_eq!(refused(&rig, 3, &launch).await, refused_group);
        // In these it is already; and whoever runs lower may go up.
        let groups = vec!["1".into(), "2".into()];
        let launch = script(Rights { groups, oom_score_adj: Some(5), ..Rights::default() });
        assert_eq!(said(&mut rig, 4, &launch).await, ["0 1 2", "5"]);
    });
}

fn groups() {
    Place::new().daemon(async |mut rig| {
        let mut launch = rig.script("id -G");
        launch.working_dir = "/".into();
        for (attempt, user, added, expected) in [
            (1, None, &["12345", "sys"][..], "0 1 2 3 12345"),
            (2, Some(AS_NOBODY), &["audio", "54321"], "65534 29 54321"),
            (3, Some(AS_NOBODY), &["65534"], "65534"),
        ] {
            launch.user = user.map(str::to_owned);
            launch.rights.groups = added.iter().map(|group| (*group).to_owned()).collect();
            let said = said(&mut rig, attempt, &launch).await;
            let mut found: Vec<&str> = said[0].split(' ').collect();
            let mut expected: Vec<&str> = expected.split(' ').collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{added:?}");
        }
    });
}

fn unknown_group() {
    Place::new().daemon(async |rig| {
        let mut launch = rig.script("exit 0");
        launch.rights.groups = vec!["0".into(), "no-such-group".into()];
        assert_eq!(refused(&rig, 1, &launch).await, "there is no group `no-such-group` in /etc/group");
        let mut many = vec!["0".to_owned(); 300];
        many.push("no-such-group".into());
        launch.rights.groups = many;
        assert_eq!(refused(&rig, 2, &launch).await, "there is no group in /etc/group");
    });
}

/// The reader comes to wait: asked of the kernel, as there is nothing else to be seen of it.
async fn waits_in_read(pid: i32) {
    let at = format!("/proc/{pid}/syscall");
    let read_of_input = if cfg!(target_arch = "aarch64") { "63 0x0 " } else { "0 0x0 " };
    let reads = || std::fs::read_to_string(&at).is_ok_and(|call| call.starts_with(read_of_input));
    eventually("it waits for what it reads", reads).await;
}

fn open_input() {
    Place::new().daemon(async |mut rig| {
        let mut launch = rig.script("read line; echo $?");
        assert_eq!(said(&mut rig, 1, &launch).await, ["1"], "an end at once");
        launch.stdio = Stdio::OpenInput;
        let started = rig.try_start(SLOT, 2, &launch).await.unwrap();
        waits_in_read(started.pid).await;
        assert_eq!(rig.lines(SLOT), ["1"]);
        // The shim is the only one to hold the other end.
        kill(parent(started.pid));
        assert!(matches!(rig.event().await, ProcessEvent::Lost { attempt: Attempt(2), .. }));
        let mut launch = rig.script("test -t 0 || readlink /proc/self/fd/0; cat < /dev/stdin");
        launch.stdio = Stdio::OpenInput;
        rig.try_start(SLOT, 3, &launch).await.unwrap();
        rig.says(SLOT, "^pipe:").await;
        rig.stop(SLOT, 3, 15, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 3).await, Exit::Signal(15));
    });
}

fn terminal() {
    Place::new().daemon(async |mut rig| {
        let script = r#"
            tty; test -t 0 && test -t 1 && test -t 2 && echo all; stty size; echo "$TERM"; echo error >&2
            test "$(tty)" = "$(readlink /proc/self/fd/2)" && echo same
            : > /dev/tty && echo controls
            ps -o pid=,sid=,tpgid= $$ | tr -s ' '; exec "$SELF" list-descriptors
        "#;
        let mut launch = rig.script(script);
        launch.stdio = Stdio::Terminal;
        let started = rig.try_start(SLOT, 1, &launch).await.unwrap();
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(0));
        let lines = rig.lines(SLOT);
        let tty = lines[0].clone();
        let number = tty.strip_prefix("/dev/pts/").unwrap();
        assert!(number.parse::<u32>().is_ok(), "{tty}");
        let said = ["all", "24 80", "xterm", "error", "same", "controls"];
        assert_eq!(lines[1..7], said, "{lines:?}");
        let ids: Vec<&str> = lines[7].split_whitespace().collect();
        assert_eq!(ids, vec![started.pid.to_string(); 3], "{lines:?}");
        assert_eq!(lines[8..], [0, 1, 2].map(|fd| format!("{fd} {tty}")), "{lines:?}");
        let mut launch = rig.script("echo \"$TERM\"; read line");
        launch.stdio = Stdio::Terminal;
        launch.environment.insert("TERM".into(), "vt100".into());
        let started = rig.try_start(SLOT, 2, &launch).await.unwrap();
        rig.says(SLOT, "^vt100$").await;
        waits_in_read(started.pid).await;
        rig.stop(SLOT, 2, 15, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 2).await, Exit::Signal(15));
    });
}

fn terminal_output() {
    Place::new().daemon(async |mut rig| {
        for attempt in 1..=5 {
            let mut launch =
                rig.script("seq 1 5000; stty raw; seq 5001 5002; stty sane; printf 'a\\rb\\nlast'");
            launch.stdio = Stdio::Terminal;
            let lines = said(&mut rig, attempt, &launch).await;
            let mut expected: Vec<String> = (1..=5002).map(|n: u32| n.to_string()).collect();
            expected.extend(["a\rb".to_owned(), "last".to_owned()]);
            assert_eq!(lines, expected);
        }
    });
}

fn terminal_closed() {
    Place::new().daemon(async |mut rig| {
        let (closed, go) = (rig.place.fifo("closed"), rig.place.fifo("go"));
        // More than a terminal holds: somebody must read it.
        let script = r#"
            tty=$(tty); echo hello; exec <&- >&- 2>&-; echo x > closed; read go < go
            exec > $tty; seq 1 5000; exit 6
        "#;
        let mut launch = rig.script(script);
        launch.stdio = Stdio::Terminal;
        let started = rig.try_start(SLOT, 1, &launch).await.unwrap();
        tokio::task::spawn_blocking(move || std::fs::read(closed).unwrap()).await.unwrap();
        let shim = parent(started.pid);
        eventually("the shim has seen its end, and holds it open", || {
            let listed = std::fs::read_dir(format!("/proc/{shim}/fd")).unwrap().flatten();
            let mut targets = listed.filter_map(|fd| std::fs::read_link(fd.path()).ok());
            targets.any(|target| target.starts_with("/dev/pts"))
        })
        .await;
        // It waits for what comes, and does not ask again and again.
        let at = format!("/proc/{shim}/stat");
        eventually("the shim sleeps", || std::fs::read_to_string(&at).unwrap().contains(") S ")).await;
        tokio::task::spawn_blocking(move || std::fs::write(go, "\n").unwrap()).await.unwrap();
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(6));
        let lines = rig.lines(SLOT);
        assert_eq!((&lines[0][..], lines.len()), ("hello", 5001));
        assert_eq!(lines[5000], "5000");
    });
}

fn terminal_of_user() {
    Place::new().daemon(async |mut rig| {
        let mut launch = rig.script("stat -c %u $(tty); echo again > $(tty); echo more > /dev/stdout");
        (launch.stdio, launch.working_dir) = (Stdio::Terminal, "/".into());
        launch.user = Some(AS_NOBODY.into());
        assert_eq!(said(&mut rig, 1, &launch).await, ["65534", "again", "more"]);
    });
}

/// Two that nothing but their terminal gives away: one has nothing of its variables left, the other
/// neither that nor its session. And one with a terminal of its own, which is none of ours.
fn lost_terminal() {
    Place::new().daemon(async |mut rig| {
        let script = r#"
            trap '' HUP
            (env -i "$SELF" in-a-session-of-its-own /bin/sh -c 'echo $$; sleep 600; :' &)
            (env -i /bin/sh -c 'echo $$; sleep 600; :' &)
            exec sleep 600
        "#;
        let mut launch = rig.script(script);
        launch.stdio = Stdio::Terminal;
        let mut bystander = rig.script("trap '' HUP; echo $$; while :; do sleep 600; done");
        bystander.stdio = Stdio::Terminal;
        let bystander = rig.try_start("app/other/1", 1, &bystander).await.unwrap();
        let started = rig.try_start(SLOT, 1, &launch).await.unwrap();
        eventually("both are there", || rig.lines(SLOT).len() == 2).await;
        kill(parent(started.pid));
        match rig.event().await {
            ProcessEvent::Lost { slot, attempt: Attempt(1), .. } => assert_eq!(slot, id(SLOT)),
            other => panic!("{other:?}"),
        }
        for line in rig.lines(SLOT) {
            assert!(!is_alive(number(&line)), "{line}");
        }
        assert!(is_alive(bystander.pid));
        rig.stop("app/other/1", 1, 9, FOREVER).await;
        assert_eq!(rig.exit("app/other/1", 1).await, Exit::Signal(9));
    });
}

fn terminal_number(pid: i32) -> i32 {
    let target = std::fs::read_link(format!("/proc/{pid}/fd/1")).unwrap();
    number(target.to_str().unwrap().strip_prefix("/dev/pts/").unwrap())
}

fn reused_terminal() {
    let place = Place::new();
    let with_terminal = |rig: &Rig<'_>| Launch { stdio: Stdio::Terminal, ..rig.script("exec sleep 600") };
    let (pid, wanted) = place.daemon(async |rig| {
        let started = rig.try_start(SLOT, 1, &with_terminal(&rig)).await.unwrap();
        (started.pid, terminal_number(started.pid))
    });
    kill(parent(pid));
    place.daemon(async |mut rig| {
        eventually("it died with its shim", || !is_alive(pid)).await;
        // The lowest that is free is given: those below are kept, and those above given back, as long as
        // a test beside this one has it.
        let mut kept = Vec::new();
        for index in 1.. {
            let slot = format!("app/other/{index}");
            let other = rig.try_start(&slot, 1, &with_terminal(&rig)).await.unwrap().pid;
            let found = terminal_number(other);
            if found > wanted {
                rig.stop(&slot, 1, 9, FOREVER).await;
                rig.exit(&slot, 1).await;
                continue;
            }
            kept.push((slot, other));
            if found == wanted {
                break;
            }
        }
        assert!(matches!(rig.observe(SLOT).await, Observation::Lost { .. }));
        assert!(kept.iter().all(|(_, other)| is_alive(*other)));
        for (slot, _) in kept {
            rig.stop(&slot, 1, 9, FOREVER).await;
            assert_eq!(rig.exit(&slot, 1).await, Exit::Signal(9));
        }
    });
}

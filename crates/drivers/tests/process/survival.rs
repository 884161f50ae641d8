//! Daemons, shims and zygotes die. Nobody notices, or somebody says so.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use upbeat_drivers::process::{
    ExecOutcome, ExecRequest, Leftovers, Observation, ProcessEvent, Rights, StartError,
};
use upbeat_model::{Attempt, Exit, Millis};

use crate::rig::{FOREVER, Place, eventually, id, is_alive, kill, number, parent, signal};
use crate::{Case, Need};

pub(crate) const CASES: &[Case] = &[
    Case::new("the next daemon adopts what runs, and hears its end", adoption),
    Case::new("an end that no daemon saw is known to the next", unseen_end),
    Case::new("a stop goes on when the daemon that asked for it is gone", stop_outlives_daemon),
    Case::new("who makes sure that a process was asked to stop does not ask it twice", asked_again),
    Case::new("a killed shim is told as lost, when its tree is dead", lost),
    Case::needing(&[Need::ROOT], LOST_BY_ANOTHER_USER, lost_by_another_user),
    Case::needing(&[Need::ROOT], "nor where a daemon may not look at processes of others", lost_and_hidden),
    Case::new("a killed shim's tree that lives on by making others is ended too", lost_comet),
    Case::new("a shim that was killed while no daemon lived is found out", lost_unseen),
    Case::new("what ran before the machine was restarted is lost", restarted_machine),
    Case::new("a killed zygote takes nothing with it, and is replaced", killed_zygote),
    Case::new("a zygote that somebody has stopped is replaced", stopped_zygote),
    Case::new("a shim that somebody has stopped hears that it shall stop", stopped_shim),
    Case::new("an order whose daemon is gone is not carried out", void),
    Case::new("a shim that dies at any point leaves one run at most, and a slot that can go on", any_point),
    Case::new("a directory that was deleted under its process does not hide it", deleted),
    Case::new("a shim of a later version is heard and stopped", later_version),
    Case::new("a shim bears with whatever is sent to it", hostile),
];

const SLOT: &str = "app/web/1";

fn adoption() {
    let place = Place::new();
    let before = place.daemon(async |rig| rig.start(SLOT, 1, "echo up; exec sleep 600").await);
    place.daemon(async |mut rig| {
        let seen = rig.observe(SLOT).await;
        let Observation::Running { attempt, pid, started_at, log_start } = seen else { panic!("{seen:?}") };
        assert_eq!(
            (attempt, pid, started_at, log_start),
            (Attempt(1), before.pid, before.at, before.log_start)
        );
        assert_eq!(rig.observe(SLOT).await, seen, "looking twice is not adopting twice");
        rig.stop(SLOT, 1, 15, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(15));
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Ended { exit: Exit::Signal(15), .. }), "{seen:?}");
    });
}

fn unseen_end() {
    let place = Place::new();
    let go = place.fifo("go");
    place.daemon(async |rig| rig.start(SLOT, 3, "echo before; read go < go; echo after; exit 9").await);
    std::fs::write(go, "\n").unwrap();
    place.wait_until_free(SLOT);
    place.daemon(async |rig| {
        let seen = rig.observe(SLOT).await;
        assert!(
            matches!(seen, Observation::Ended { attempt: Attempt(3), exit: Exit::Code(9), .. }),
            "{seen:?}"
        );
        assert_eq!(rig.lines(SLOT), ["before", "after"]);
    });
}

fn stop_outlives_daemon() {
    let place = Place::new();
    let pid = place.daemon(async |rig| {
        let started = rig.start(SLOT, 1, "trap '' TERM; echo ready; while :; do sleep 600; done").await;
        rig.says(SLOT, "ready").await;
        rig.stop(SLOT, 1, 15, Millis(50)).await;
        started.pid
    });
    place.wait_until_free(SLOT);
    assert!(!is_alive(pid));
    place.daemon(async |rig| {
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Ended { exit: Exit::Signal(9), .. }), "{seen:?}");
    });
}

fn asked_again() {
    Place::new().daemon(async |mut rig| {
        let script = "trap 'echo asked' TERM; trap 'exit 4' INT; echo ready; while :; do sleep 0.01; done";
        rig.start(SLOT, 1, script).await;
        rig.says(SLOT, "ready").await;
        rig.stop(SLOT, 1, 15, FOREVER).await;
        rig.says(SLOT, "asked").await;
        for grace in [Millis(0), FOREVER] {
            rig.stop(SLOT, 1, 15, grace).await;
        }
        // Orders are taken one after the other; this one ends it.
        rig.stop(SLOT, 1, 2, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(4));
        // The shell tells how what it waited for ended, too.
        let asked = rig.lines(SLOT).iter().filter(|line| *line == "asked").count();
        assert_eq!(asked, 1);
    });
}

/// Three leftovers that only their pipe, their mark, or their parent gives away.
const TREE: &str = r#"
    (env -i "$SELF" in-a-session-of-its-own /bin/sh -c 'echo $$; sleep 600; :' &)
    ("$SELF" in-a-session-of-its-own sh -c 'echo $$; exec >&- 2>&-; sleep 600; :' &)
    echo $$
    exec sleep 600
"#;

fn lost() {
    Place::new().daemon(async |mut rig| {
        let started = rig.start(SLOT, 1, TREE).await;
        eventually("all three are there", || rig.lines(SLOT).len() == 3).await;
        kill(parent(started.pid));
        match rig.event().await {
            ProcessEvent::Lost { slot, attempt: Attempt(1), detail } => {
                assert_eq!((slot, &detail[..]), (id(SLOT), "its shim was killed, and its processes with it"));
            }
            other => panic!("{other:?}"),
        }
        for line in rig.lines(SLOT) {
            assert!(!is_alive(number(&line)), "{line}");
        }
        rig.start(SLOT, 2, "exit 0").await;
        assert_eq!(rig.exit(SLOT, 2).await, Exit::Code(0));
    });
}

/// As root in a container, which may kill but not look: its environment and its files are hidden.
fn lost_and_hidden() {
    let without = "-sys_ptrace,-perfmon,-sys_admin";
    let mut command = std::process::Command::new("setpriv");
    command.args(["--bounding-set", without, "--inh-caps", without]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", LOST_BY_ANOTHER_USER]);
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

const LOST_BY_ANOTHER_USER: &str = "of another user's tree nothing lives on when its shim is killed";

fn lost_by_another_user() {
    Place::new().daemon(async |mut rig| {
        let mut launch =
            rig.script("sleep 600 & echo $!; env -i sleep 600 >/dev/null 2>&1 & echo $!; exec sleep 600");
        (launch.user, launch.working_dir) = (Some("12345".to_owned()), "/".to_owned());
        let started = rig.try_start(SLOT, 1, &launch).await.unwrap();
        eventually("both are there", || rig.lines(SLOT).len() == 2).await;
        kill(parent(started.pid));
        let event = rig.event().await;
        assert!(matches!(event, ProcessEvent::Lost { .. }), "{event:?}");
        for line in rig.lines(SLOT) {
            assert!(!is_alive(number(&line)), "{line}");
        }
    });
}

/// In one process group, and in a new one with each process.
fn lost_comet() {
    for hops in ["", "hops"] {
        let place = Place::new();
        let alive = place.fifo("alive");
        place.daemon(async |mut rig| {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
            let alive = rustix::fs::open(&alive, flags, rustix::fs::Mode::empty()).unwrap();
            let is_held = || rustix::io::read(&alive, &mut [0; 1]) != Ok(0);
            let script = format!("exec 9> alive; \"$SELF\" comet {hops} & exec sleep 600");
            let started = rig.start(SLOT, 1, &script).await;
            rig.says(SLOT, "flies").await;
            assert!(is_held());
            kill(parent(started.pid));
            match rig.event().await {
                ProcessEvent::Lost { detail, .. } => {
                    assert_eq!(detail, "its shim was killed, and its processes with it");
                    assert!(!is_held(), "{hops}: one is there");
                }
                other => panic!("{other:?}"),
            }
        });
    }
}

fn lost_unseen() {
    let place = Place::new();
    let started = place.daemon(async |rig| {
        let started = rig.start(SLOT, 1, TREE).await;
        eventually("all three are there", || rig.lines(SLOT).len() == 3).await;
        started
    });
    kill(parent(started.pid));
    place.daemon(async |rig| {
        // Before anybody looks: no service goes on without its shim.
        eventually("the main process died with its shim", || !is_alive(started.pid)).await;
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Lost { attempt: Attempt(1), .. }), "{seen:?}");
        for line in rig.lines(SLOT) {
            assert!(!is_alive(number(&line)), "{line}");
        }
    });
}

fn restarted_machine() {
    use upbeat_shim::record::{FILE, Record};
    let place = Place::new();
    place.daemon(async |mut rig| {
        rig.start(SLOT, 4, "exit 0").await;
        rig.exit(SLOT, 4).await;
        place.wait_until_free(SLOT);
        let path = rig.driver.slot_dir(&id(SLOT)).join(FILE);
        let mut record = Record::parse(&std::fs::read(&path).unwrap()).unwrap();
        (record.boot_id, record.end) = ("another-boot".into(), None);
        record.write(&std::fs::File::options().write(true).open(&path).unwrap()).unwrap();
        let detail = "the machine was restarted while it ran".to_owned();
        assert_eq!(rig.observe(SLOT).await, Observation::Lost { attempt: Attempt(4), detail });
    });
}

fn killed_zygote() {
    Place::new().daemon(async |mut rig| {
        let first = rig.start(SLOT, 1, "exec sleep 600").await;
        let zygote = parent(parent(first.pid));
        kill(zygote);
        eventually("the zygote is gone", || !is_alive(zygote)).await;
        rig.start("app/web/2", 1, "exit 0").await;
        assert_eq!(rig.exit("app/web/2", 1).await, Exit::Code(0));
        assert!(is_alive(first.pid));
        rig.stop(SLOT, 1, 9, Millis(0)).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(9));
    });
}

/// The order waits in the zygote's socket, and whoever gave it goes away.
fn stopped_zygote() {
    Place::new().daemon(async |mut rig| {
        let first = rig.start(SLOT, 1, "exec sleep 600").await;
        let zygote = parent(parent(first.pid));
        signal(zygote, Signal::STOP);
        let request = ExecRequest {
            command: vec!["true".into()],
            environment: BTreeMap::new(),
            working_dir: "/".into(),
            user: None,
            rights: Rights::default(),
            beside: None,
            timeout: Millis(50),
            leftovers: Leftovers::Killed,
        };
        let why = "the process that makes shims was stopped".to_owned();
        assert_eq!(rig.driver.exec(request).await, ExecOutcome::Unable(why));
        let second = rig.start("app/web/2", 1, "exec sleep 600").await;
        assert_ne!(parent(parent(second.pid)), zygote);
        assert!(!is_alive(zygote) && is_alive(first.pid));
        rig.stop(SLOT, 1, 9, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(9));
    });
}

/// Stops a process, and waits until the kernel has.
async fn pause(pid: i32) {
    signal(pid, Signal::STOP);
    let stat = format!("/proc/{pid}/stat");
    let is_stopped = || std::fs::read_to_string(&stat).unwrap().contains(") T ");
    crate::rig::eventually("it is stopped", is_stopped).await;
}

fn stopped_shim() {
    let place = Place::new();
    let pid = place.daemon(async |mut rig| {
        let started = rig.start(SLOT, 1, "exec sleep 600").await;
        pause(parent(started.pid)).await;
        rig.stop(SLOT, 1, 15, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(15));
        let again = rig.start(SLOT, 2, "exec sleep 600").await;
        pause(parent(again.pid)).await;
        again.pid
    });
    place.daemon(async |rig| {
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Running { pid: seen, .. } if seen == pid), "{seen:?}");
    });
}

fn void() {
    let place = Place::new();
    place.daemon(async |mut rig| {
        let first = rig.start(SLOT, 1, "exec sleep 600").await;
        let zygote = parent(parent(first.pid));
        signal(zygote, Signal::STOP);
        let launch = rig.script("touch ran");
        {
            let mut given = pin!(rig.try_start("app/void/1", 1, &launch));
            std::future::poll_fn(|context| {
                assert!(given.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        signal(zygote, Signal::CONT);
        let lock = rig.driver.slot_dir(&id("app/void/1")).join("lock");
        eventually("a shim was made for the order", || lock.exists()).await;
        assert_eq!(rig.observe("app/void/1").await, Observation::Never);
        assert!(!place.file("ran").exists());
        rig.start("app/void/1", 1, "exit 0").await;
        assert_eq!(rig.exit("app/void/1", 1).await, Exit::Code(0));
        rig.stop(SLOT, 1, 9, Millis(0)).await;
        rig.exit(SLOT, 1).await;
    });
}

fn any_point() {
    for point in
        ["after_lock", "before_fork", "after_fork", "after_exec", "before_exit_record", "after_exit_record"]
    {
        let place = Place::new();
        let marker = place.file("marker");
        let variable = format!("UPBEAT_SHIM_FAILPOINT=self:{point}:{}", marker.display());
        place.daemon_with(&[variable], async |mut rig| {
            let first = rig.try_start(SLOT, 1, &rig.script("echo run >> runs")).await;
            match (point, first) {
                ("before_exit_record", Ok(_)) => {
                    let event = rig.event().await;
                    assert!(matches!(event, ProcessEvent::Lost { .. }), "{point}: {event:?}");
                }
                ("after_exit_record", Ok(_)) => {
                    assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(0), "{point}");
                }
                (_, Err(StartError::Unanswered)) => {
                    let seen = rig.observe(SLOT).await;
                    let as_expected = match point {
                        "after_lock" => seen == Observation::Never,
                        _ => matches!(seen, Observation::Lost { attempt: Attempt(1), .. }),
                    };
                    assert!(as_expected, "{point}: {seen:?}");
                }
                (_, other) => panic!("{point}: {other:?}"),
            }
            assert!(marker.exists(), "{point} was never reached");
            let runs = std::fs::read_to_string(place.file("runs")).unwrap_or_default().lines().count();
            assert!(runs <= 1, "{point}: it ran {runs} times");
            rig.start(SLOT, 2, "exit 3").await;
            assert_eq!(rig.exit(SLOT, 2).await, Exit::Code(3), "{point}");
        });
    }
}

fn deleted() {
    let place = Place::new();
    let pid = place.daemon(async |rig| {
        let started = rig.start(SLOT, 3, "exec sleep 600").await;
        std::fs::remove_dir_all(rig.driver.slot_dir(&id(SLOT))).unwrap();
        started.pid
    });
    place.daemon(async |rig| {
        assert_eq!(rig.driver.observe(&id(SLOT), Attempt(2)).await.unwrap(), Observation::Never);
        assert!(is_alive(pid), "an attempt nobody has told it of may be starting");
        assert_eq!(rig.driver.observe(&id(SLOT), Attempt(3)).await.unwrap(), Observation::Never);
        assert!(!is_alive(pid));
    });
}

/// Speaks as a shim of version 7 would: with more fields, and messages nobody knows today.
fn later_version() {
    use rustix::fs::{FlockOperation, flock};
    use upbeat_shim::wire::{End, FromShim, ToShim};
    let place = Place::new();
    place.daemon(async |mut rig| {
        rig.start(SLOT, 1, "exit 0").await;
        rig.exit(SLOT, 1).await;
        let dir = rig.driver.slot_dir(&id(SLOT));
        let lock = std::fs::File::open(dir.join("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let path = dir.join(upbeat_shim::record::FILE);
        let mut record = upbeat_shim::record::Record::parse(&std::fs::read(&path).unwrap()).unwrap();
        (record.attempt, record.end) = (2, None);
        record.write(&std::fs::File::options().write(true).open(&path).unwrap()).unwrap();
        let address = std::fs::File::open(&dir).unwrap();
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/sock", address.as_raw_fd())).unwrap();
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let listener = listener.unwrap();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let shim = std::thread::spawn(move || {
            let daemon = rustix::net::accept(&listener).unwrap();
            let say = |packet: &[u8]| rustix::net::send(&daemon, packet, SendFlags::NOSIGNAL).unwrap();
            let hello = FromShim::Hello { version: 7, attempt: 2, pid: 77, at_ns: 0, log_start: 1 };
            say(&[&hello.encode()[..], b"more"].concat());
            say(b"\xc8something new");
            let mut packet = [0; 64];
            let (length, _) =
                rustix::net::recv(&daemon, &mut packet[..], rustix::net::RecvFlags::empty()).unwrap();
            let order = ToShim::decode(&packet[..length]).unwrap().unwrap();
            say(&[&FromShim::Exited { end: End::Signal(15), at_ns: 0 }.encode()[..], b"more"].concat());
            order
        });
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Running { attempt: Attempt(2), pid: 77, .. }), "{seen:?}");
        rig.stop(SLOT, 2, 15, Millis(5)).await;
        assert_eq!(rig.exit(SLOT, 2).await, Exit::Signal(15));
        assert_eq!(shim.join().unwrap(), ToShim::Stop { signal: 15, grace_ms: 5 });
        drop(lock);
    });
}

pub(crate) fn connect(dir: &Path) -> rustix::fd::OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let dir = std::fs::File::open(dir).unwrap();
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/sock", dir.as_raw_fd())).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    socket
}

fn hostile() {
    let place = Place::new();
    place.daemon(async |mut rig| {
        let started = rig.start(SLOT, 1, "exec sleep 600").await;
        let dir = rig.driver.slot_dir(&id(SLOT));
        let long = vec![1; 60_000];
        for packet in [&b"\x01"[..], b"\x02", b"\x02\xff\xff\xff\xff\xff\xff\xff\xff", &long] {
            let socket = connect(&dir);
            // What a later version may mean by it, it passes over.
            rustix::net::send(&socket, b"\xffsomething new", SendFlags::NOSIGNAL).unwrap();
            rustix::net::send(&socket, packet, SendFlags::NOSIGNAL).unwrap();
            let mut hello = [0; 256];
            rustix::net::recv(&socket, &mut hello[..], rustix::net::RecvFlags::empty()).unwrap();
            // It answers nonsense by hanging up.
            let end = rustix::net::recv(&socket, &mut hello[..], rustix::net::RecvFlags::empty());
            assert!(matches!(end, Ok((0, _)) | Err(rustix::io::Errno::CONNRESET)), "{end:?}");
        }
        // More than it listens to at once, who say nothing.
        let crowd: Vec<_> = (0..8).map(|_| connect(&dir)).collect();
        assert!(is_alive(started.pid));
        rig.stop(SLOT, 1, 15, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(15));
        drop(crowd);
    });
}

//! What a process says of itself: who is believed, what is told and when, and what follows for the shim.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendFlags};
use upbeat_drivers::clock;
use upbeat_drivers::process::{
    DriverError, Launch, Notify, NotifyState, Observation, ProcessEvent, WatchdogState,
};
use upbeat_model::project::Signal;
use upbeat_model::{Attempt, Exit, Millis};
use upbeat_shim::wire::{FromShim, MESSAGE_MAX, ToShim};

use crate::notify_sender::send_to;
use crate::rig::{FOREVER, Place, Rig, eventually, id, is_alive, kill, parent};
use crate::survival::connect;
use crate::{Case, Need};

pub(crate) const CASES: &[Case] = &[
    Case::new("what a process says of itself is told when it changes", told),
    Case::new("what was said while no daemon lived is told to the next", unseen),
    Case::new("the last words of a process come before its end", last_words),
    Case::new("only processes of the tree are believed", foreign),
    Case::new("a barrier is passed when all before it was heard", barrier),
    Case::new("a silent process is told as such once, and heard again", watchdog),
    Case::new("the process that says it is the main one is waited for and stopped", main_pid),
    Case::new("a main process that is another's child has its end known", child_of_another),
    Case::new("a main process that its parent reaps has no end made up", reaped_by_another),
    Case::new("a main process in a session of its own is asked to stop", daemonised),
    Case::new("who asks for time while it stops is given it", extended),
    Case::new("who shall be killed at once is given no time", condemned),
    Case::new("a signal reaches the main process and nobody else", signal),
    Case::new("100,000 pings wake nobody", pings),
    Case::new("an endless flood holds up neither output nor orders", flood),
    Case::new("hostile messages do no harm", hostile),
    Case::new("nothing of the socket is left, however the shim goes", nothing_left),
    Case::new("nobody is given the variables of others", variables),
    Case::needing(&[Need::ROOT], "another user's process is believed, and one that becomes another", users),
];

const SLOT: &str = "app/web/1";

/// What runs a script that can say something of itself.
fn notifying(rig: &Rig<'_>, script: &str) -> Launch {
    Launch { notify: Some(Notify::default()), ..rig.script(script) }
}

/// Returns when a process has said what is waited for. All that was told of it until then.
async fn until(rig: &mut Rig<'_>, is_it: impl Fn(&NotifyState) -> bool) -> Vec<NotifyState> {
    let mut states = Vec::new();
    loop {
        match rig.event().await {
            ProcessEvent::Notified { slot, attempt: Attempt(1), state } if slot == id(SLOT) => {
                states.push(state.clone());
                if is_it(&state) {
                    return states;
                }
            }
            other => panic!("{other:?} after {states:?}"),
        }
    }
}

/// The same; only the last.
async fn last(rig: &mut Rig<'_>, is_it: impl Fn(&NotifyState) -> bool) -> NotifyState {
    until(rig, is_it).await.pop().unwrap()
}

fn has_status(text: &str) -> impl Fn(&NotifyState) -> bool {
    move |state| state.status.as_deref() == Some(text)
}

async fn start(rig: &Rig<'_>, script: &str) -> i32 {
    rig.try_start(SLOT, 1, &notifying(rig, script)).await.unwrap().pid
}

async fn kill_it(rig: &mut Rig<'_>) {
    rig.stop(SLOT, 1, 9, Millis(0)).await;
    assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(9));
}

fn told() {
    Place::new().daemon(async |mut rig| {
        // One for each time: a writer that is slow to close the one before would end the next reading.
        let go = ["go1", "go2", "go3"].map(|name| rig.place.fifo(name));
        let script = r#"
            "$SELF" notify say 'STATUS=starting' barrier
            read go < go1
            "$SELF" notify say 'READY=1\nSTATUS=up' say 'ERRNO=5' barrier
            read go < go2
            "$SELF" notify say 'RELOADING=1\nMONOTONIC_USEC=77' say 'READY=1\nERRNO=0' barrier
            read go < go3
            exec "$SELF" notify say 'STATUS=' say STOPPING=1 forever
        "#;
        start(&rig, script).await;
        let expected = NotifyState { status: Some("starting".into()), ..NotifyState::default() };
        assert_eq!(last(&mut rig, |_| true).await, expected);
        std::fs::write(&go[0], "\n").unwrap();
        let state = last(&mut rig, |state| state.errno.is_some()).await;
        let expected =
            NotifyState { ready: true, status: Some("up".into()), errno: Some(5), ..NotifyState::default() };
        assert_eq!(state, expected);
        std::fs::write(&go[1], "\n").unwrap();
        // However little of it was told, that it has been is seen.
        let state = last(&mut rig, |state| state.reloads == 1 && !state.reloading && state.errno.is_none());
        let expected = NotifyState { reloads: 1, reload_usec: Some(77), errno: None, ..expected };
        assert_eq!(state.await, expected);
        std::fs::write(&go[2], "\n").unwrap();
        let expected = NotifyState { stopping: true, status: None, ..expected };
        assert_eq!(last(&mut rig, |state| state.stopping).await, expected);
        kill_it(&mut rig).await;
    });
}

fn unseen() {
    let place = Place::new();
    let go = place.fifo("go");
    place.daemon(async |rig| {
        let script = r#"
            read go < go
            "$SELF" notify say 'READY=1\nSTATUS=up' barrier
            : > said
            exec sleep 600
        "#;
        start(&rig, script).await;
    });
    std::fs::write(&go, "\n").unwrap();
    let said = place.file("said");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(eventually("it has said so", || said.exists()));
    place.daemon(async |mut rig| {
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Running { attempt: Attempt(1), .. }), "{seen:?}");
        let expected = NotifyState { ready: true, status: Some("up".into()), ..NotifyState::default() };
        assert_eq!(last(&mut rig, |_| true).await, expected);
        kill_it(&mut rig).await;
    });
}

fn last_words() {
    Place::new().daemon(async |mut rig| {
        start(&rig, r#"exec "$SELF" notify say 'STATUS=out of luck\nERRNO=28'"#).await;
        let state = last(&mut rig, |_| true).await;
        assert_eq!((state.status.as_deref(), state.errno), (Some("out of luck"), Some(28)));
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(0));
    });
}

fn foreign() {
    Place::new().daemon(async |mut rig| {
        let go = rig.place.fifo("go");
        let script = r#"
            echo "$NOTIFY_SOCKET"
            read foreigner < go
            "$SELF" notify say "MAINPID=$foreigner\nSTATUS=mine" barrier
            exec sleep 600
        "#;
        start(&rig, script).await;
        let address = rig.says(SLOT, "^@").await;
        send_to(&address, "READY=1\nSTATUS=foreign\nWATCHDOG=trigger", &[]);
        let (reader, writer) = std::io::pipe().unwrap();
        send_to(&address, "BARRIER=1", &[writer.as_fd()]);
        drop(writer);
        std::fs::write(go, format!("{}\n", std::process::id())).unwrap();
        let expected = NotifyState { status: Some("mine".into()), ..NotifyState::default() };
        assert_eq!(last(&mut rig, |_| true).await, expected);
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0));
        kill_it(&mut rig).await;
    });
}

fn barrier() {
    Place::new().daemon(async |mut rig| {
        let script = r#"
            "$SELF" notify say STATUS=a say STATUS=b say READY=1 say STATUS=c barrier
            echo passed
            exec sleep 600
        "#;
        start(&rig, script).await;
        rig.says(SLOT, "passed").await;
        let socket = connect(&rig.driver.slot_dir(&id(SLOT)));
        let mut heard = Vec::new();
        for _ in 0..2 {
            let mut packet = [0; MESSAGE_MAX];
            let (length, _) = rustix::net::recv(&socket, &mut packet[..], RecvFlags::empty()).unwrap();
            heard.push(FromShim::decode(&packet[..length]).unwrap().unwrap());
        }
        let state = NotifyState { ready: true, status: Some("c".into()), ..NotifyState::default() };
        assert!(matches!(heard[0], FromShim::Hello { .. }), "{heard:?}");
        assert_eq!(heard[1], FromShim::Notified(state));
        // What a later daemon may say is passed over.
        rustix::net::send(&socket, b"\xffsomething new", SendFlags::NOSIGNAL).unwrap();
        rustix::net::send(&socket, &ToShim::Signal { signal: 15 }.encode(), SendFlags::NOSIGNAL).unwrap();
        until(&mut rig, has_status("c")).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(15));
    });
}

fn watchdog() {
    Place::new().daemon(async |mut rig| {
        // One for each time: a writer that is slow to close the one before would end the next reading.
        let go = ["go1", "go2"].map(|name| rig.place.fifo(name));
        let script = r#"
            echo "$WATCHDOG_USEC $WATCHDOG_PID"
            "$SELF" notify say READY=1 barrier
            read go < go1
            "$SELF" notify say WATCHDOG=1 barrier
            read go < go2
            "$SELF" notify say WATCHDOG=trigger barrier
            exec sleep 600
        "#;
        let mut launch = notifying(&rig, script);
        launch.notify = Some(Notify { watchdog_ms: Some(20), first_ms: None });
        let started = rig.try_start(SLOT, 1, &launch).await.unwrap();
        assert_eq!(rig.says(SLOT, "").await, format!("20000 {}", started.pid));
        let states = until(&mut rig, |state| state.watchdog.expired).await;
        let silent =
            WatchdogState { interval_ms: Some(20), expired: true, expiries: 1, ..Default::default() };
        assert!(states.iter().all(|state| state.ready));
        assert_eq!(states.last().unwrap().watchdog, silent);
        std::fs::write(&go[0], "\n").unwrap();
        // It can only expire again because it was wound up by the ping; once for each silence.
        let states = until(&mut rig, |state| state.watchdog.expiries > 1 && state.watchdog.expired).await;
        let pinged = states.last().unwrap().watchdog;
        assert!(pinged.last_ping_ms.is_some());
        assert_eq!(pinged, WatchdogState { expiries: 2, last_ping_ms: pinged.last_ping_ms, ..silent });
        std::fs::write(&go[1], "\n").unwrap();
        let state = last(&mut rig, |_| true).await;
        assert_eq!(state.watchdog, WatchdogState { triggered: true, expiries: 3, ..pinged });
        kill_it(&mut rig).await;
    });
}

fn main_pid() {
    let place = Place::new();
    let go = place.fifo("go");
    let main = place.daemon(async |mut rig| {
        let script = r#"
            (read go < go; trap 'exit 7' TERM; echo trapped; while :; do sleep 600 & wait; done) &
            exec "$SELF" notify say "MAINPID=$!" barrier
        "#;
        let first = start(&rig, script).await;
        let main = last(&mut rig, |_| true).await.main_pid.unwrap();
        assert_ne!(main, first);
        eventually("the first one has ended", || !is_alive(first)).await;
        std::fs::write(&go, "\n").unwrap();
        rig.says(SLOT, "trapped").await;
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Running { pid, .. } if pid == main), "{seen:?}");
        main
    });
    place.daemon(async |mut rig| {
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Running { pid, .. } if pid == main), "{seen:?}");
        assert_eq!(last(&mut rig, |_| true).await.main_pid, Some(main));
        rig.stop(SLOT, 1, 15, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(7));
    });
}

fn child_of_another() {
    Place::new().daemon(async |mut rig| {
        let go = rig.place.fifo("go");
        // Its parent never looks after its children.
        let script = r#"
            (read go < go; exit 7) &
            exec "$SELF" notify say "MAINPID=$!" forever
        "#;
        let first = start(&rig, script).await;
        let main = last(&mut rig, |_| true).await.main_pid.unwrap();
        assert_eq!(parent(main), first);
        std::fs::write(&go, "\n").unwrap();
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(7));
        assert!(!is_alive(first));
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Ended { exit: Exit::Code(7), .. }), "{seen:?}");
    });
}

fn reaped_by_another() {
    Place::new().daemon(async |mut rig| {
        let go = rig.place.fifo("go");
        let script = r#"
            (read go < go; exit 7) &
            main=$!
            "$SELF" notify say "MAINPID=$main" barrier
            wait $main
            sleep 600
        "#;
        start(&rig, script).await;
        last(&mut rig, |_| true).await;
        std::fs::write(&go, "\n").unwrap();
        // Kernels before 6.15 may not know any more.
        let exit = rig.exit(SLOT, 1).await;
        assert!(matches!(exit, Exit::Code(7) | Exit::Unknown(_)), "{exit:?}");
        let seen = rig.observe(SLOT).await;
        assert!(matches!(&seen, Observation::Ended { exit: again, .. } if *again == exit), "{seen:?}");
    });
}

fn daemonised() {
    Place::new().daemon(async |mut rig| {
        let said = rig.place.fifo("said");
        let script = r#"
            "$SELF" in-a-session-of-its-own sh -c '
                trap "echo asked; exit 5" TERM
                "$SELF" notify say "MAINPID=$$\nREADY=1" barrier
                echo x > said
                while :; do sleep 600 & wait; done
            ' &
            read said < said
            exit 0
        "#;
        let first = start(&rig, script).await;
        let main = last(&mut rig, |_| true).await.main_pid.unwrap();
        eventually("the first one has ended", || !is_alive(first)).await;
        rig.stop(SLOT, 1, 15, FOREVER).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(5));
        assert!(!is_alive(main));
        assert_eq!(rig.lines(SLOT), ["asked"]);
        drop(said);
    });
}

/// Asks for time when it is asked to stop.
const ASKS_FOR_TIME: &str = r#"
    trap 'trap "" TERM
          "$SELF" notify say EXTEND_TIMEOUT_USEC=600000000 say EXTEND_TIMEOUT_USEC=1 barrier
          echo extended; read go < go; exit 6' TERM
    echo ready
    while :; do sleep 600 & wait; done
"#;

fn extended() {
    Place::new().daemon(async |mut rig| {
        let (go, grace) = (rig.place.fifo("go"), Millis(3000));
        let pid = start(&rig, ASKS_FOR_TIME).await;
        rig.says(SLOT, "ready").await;
        rig.stop(SLOT, 1, 15, grace).await;
        let over = clock::mono().0 + grace.0;
        rig.says(SLOT, "extended").await;
        let granted = last(&mut rig, |_| true).await.extended_until_ms.unwrap();
        assert!(granted > over);
        // Its grace is over, and a stop that came after that has been heard too.
        eventually("its grace is over", || clock::mono().0 > over).await;
        rig.stop(SLOT, 1, 15, Millis(1)).await;
        eventually("that is over too", || clock::mono().0 > over + 100).await;
        assert!(is_alive(pid));
        std::fs::write(&go, "\n").unwrap();
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(6));
    });
}

fn condemned() {
    Place::new().daemon(async |mut rig| {
        let go = rig.place.fifo("go");
        for attempt in [1, 2] {
            rig.try_start(SLOT, attempt, &notifying(&rig, ASKS_FOR_TIME)).await.unwrap();
            eventually("it is ready", || {
                rig.lines(SLOT).iter().filter(|line| *line == "ready").count() as u64 == attempt
            })
            .await;
            rig.stop(SLOT, attempt, 15, FOREVER).await;
            match rig.event().await {
                ProcessEvent::Notified { state, .. } => assert!(state.extended_until_ms.is_some()),
                other => panic!("{other:?}"),
            }
            let (signal, grace) = if attempt == 1 { (9, FOREVER) } else { (18, Millis(0)) };
            rig.stop(SLOT, attempt, signal, grace).await;
            assert_eq!(rig.exit(SLOT, attempt).await, Exit::Signal(9));
        }
        drop(go);
    });
}

fn signal() {
    Place::new().daemon(async |mut rig| {
        let script = r#"
            sh -c 'trap "echo child" USR1; echo born; while :; do sleep 600 & wait; done' &
            trap 'echo main' USR1
            trap 'echo hup; exit 4' HUP
            while :; do wait; done
        "#;
        let started = rig.start(SLOT, 1, script).await;
        let signal = |signal| rig.driver.signal(&id(SLOT), Attempt(1), Signal(signal));
        rig.says(SLOT, "born").await;
        signal(10).unwrap();
        rig.says(SLOT, "main").await;
        assert!(is_alive(started.pid));
        let wrong = rig.driver.signal(&id(SLOT), Attempt(2), Signal(1));
        assert!(matches!(wrong, Err(DriverError::NotThere { .. })), "{wrong:?}");
        signal(1).unwrap();
        // It has no deadline, and is no stop: what is left behind is killed as after any end.
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(4));
        assert_eq!(rig.lines(SLOT), ["born", "main", "hup"]);
    });
}

fn pings() {
    Place::new().daemon(async |mut rig| {
        let script = r#"
            "$SELF" notify say READY=1 barrier
            seq 1 20000 &
            "$SELF" notify flood 100000 WATCHDOG=1 barrier
            wait
            "$SELF" notify say STATUS=done barrier
        "#;
        let mut launch = notifying(&rig, script);
        launch.notify = Some(Notify { watchdog_ms: Some(FOREVER.0), first_ms: None });
        rig.try_start(SLOT, 1, &launch).await.unwrap();
        let states = until(&mut rig, has_status("done")).await;
        // That it is ready, that it was heard of at all, and its status: some of it at once, maybe.
        assert!(states.len() <= 3, "{states:?}");
        assert!(states.last().unwrap().watchdog.last_ping_ms.is_some());
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(0));
        let expected: Vec<String> = (1..=20_000).map(|n: u32| n.to_string()).collect();
        assert_eq!(rig.lines(SLOT), expected);
    });
}

fn flood() {
    Place::new().daemon(async |mut rig| {
        let script = r#"
            "$SELF" notify flood 4000000000 WATCHDOG=1 &
            "$SELF" notify flood 4000000000 STATUS=x &
            "$SELF" notify flood 4000000000 'STATUS=y\nEXTEND_TIMEOUT_USEC=1000' &
            seq 1 100000
            trap 'exit 3' TERM
            echo all
            while :; do sleep 600 & wait; done
        "#;
        let begun = clock::mono();
        start(&rig, script).await;
        rig.says(SLOT, "all").await;
        assert_eq!(rig.lines(SLOT).len(), 100_001);
        rig.stop(SLOT, 1, 15, FOREVER).await;
        let mut told = 0;
        loop {
            match rig.event().await {
                ProcessEvent::Notified { .. } => told += 1,
                ProcessEvent::Exited { exit, .. } => break assert_eq!(exit, Exit::Code(3)),
                other => panic!("{other:?}"),
            }
        }
        // The first, one for each 50 ms, and the last.
        let most = 2 + (clock::mono().0 - begun.0) / 50;
        assert!(told <= most, "{told} of {most}");
    });
}

fn hostile() {
    Place::new().daemon(async |mut rig| {
        let script = r#"
            exec "$SELF" notify huge descriptors 253 FDSTORE=1 descriptors 253 BARRIER=1 say '' say '\n=\n==' \
                linger FDSTORE=1 linger X=1 say "STATUS=a$(printf '\033')[31m" barrier print heard forever
        "#;
        let pid = start(&rig, script).await;
        rig.says(SLOT, "heard").await;
        let shim = parent(pid);
        let descriptors = std::fs::read_dir(format!("/proc/{shim}/fd")).unwrap().map(|fd| fd.unwrap().path());
        let kept = descriptors.filter_map(|fd| std::fs::read_link(fd).ok());
        let kept: Vec<_> = kept.filter(|target| target.starts_with("/dev/null")).collect();
        assert_eq!(kept.len(), 3, "its own three: {kept:?}");
        let expected = NotifyState { status: Some("a\u{fffd}[31m".into()), ..NotifyState::default() };
        assert_eq!(last(&mut rig, |_| true).await, expected);
        kill_it(&mut rig).await;
    });
}

/// Whether a socket of this name is there: a line for each socket ends with its name.
fn is_bound(address: &str) -> bool {
    let all = std::fs::read_to_string("/proc/net/unix").unwrap();
    all.lines().any(|line| line.ends_with(&format!(" {address}")))
}

fn nothing_left() {
    Place::new().daemon(async |mut rig| {
        for attempt in [1, 2] {
            let script = r#"echo "$NOTIFY_SOCKET"; exec sleep 600"#;
            let started = rig.try_start(SLOT, attempt, &notifying(&rig, script)).await.unwrap();
            let has_said = || rig.lines(SLOT).len() as u64 == attempt;
            eventually("it has said its address", has_said).await;
            let address = rig.lines(SLOT).pop().unwrap();
            assert!(address.starts_with('@') && is_bound(&address), "{address}");
            match attempt {
                1 => {
                    rig.stop(SLOT, 1, 15, FOREVER).await;
                    assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(15));
                }
                _ => {
                    kill(parent(started.pid));
                    let event = rig.event().await;
                    assert!(matches!(event, ProcessEvent::Lost { .. }), "{event:?}");
                }
            }
            assert!(!is_bound(&address));
        }
        // Neither a file: the lock, the record and the log are those of any slot.
        let dir = std::fs::read_dir(rig.driver.slot_dir(&id(SLOT))).unwrap();
        let mut names: Vec<_> = dir.map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| name != "sock");
        names.sort();
        assert_eq!(names, ["lock", "log", "record"]);
    });
}

fn variables() {
    let foreign = ["NOTIFY_SOCKET=/daemons", "WATCHDOG_PID=1", "WATCHDOG_USEC=1"].map(str::to_owned);
    Place::new().daemon_with(&foreign, async |mut rig| {
        let own: BTreeMap<_, _> = foreign.iter().map(|entry| entry.split_once('=').unwrap()).collect();
        let script = "env | grep -E '^(NOTIFY|WATCHDOG)' | sort; exit 0";
        let mut seen = 0;
        for (attempt, has_own, notify) in
            [(1, false, None), (2, true, None), (3, true, Some(None)), (4, true, Some(Some(7)))]
        {
            let mut launch = rig.script(script);
            if has_own {
                let own = own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                launch.environment.extend(own);
            }
            launch.notify = notify.map(|watchdog_ms| Notify { watchdog_ms, first_ms: None });
            let pid = rig.try_start(SLOT, attempt, &launch).await.unwrap().pid;
            assert_eq!(rig.exit(SLOT, attempt).await, Exit::Code(0));
            let lines = rig.lines(SLOT).split_off(seen);
            seen += lines.len();
            match attempt {
                1 => assert!(lines.is_empty(), "{lines:?}"),
                2 => assert_eq!(lines, foreign),
                _ => {
                    assert!(lines[0].starts_with("NOTIFY_SOCKET=@upbeat/"), "{lines:?}");
                    let (usec, pid) = ("WATCHDOG_USEC=7000".to_owned(), format!("WATCHDOG_PID={pid}"));
                    let rest = if attempt == 4 { vec![pid, usec] } else { vec![] };
                    assert_eq!(lines[1..], rest);
                }
            }
        }
    });
}

fn users() {
    let place = Place::new();
    place.let_through(true);
    // Where it can be reached by everybody.
    std::fs::copy(std::env::current_exe().unwrap(), place.file("self")).unwrap();
    place.daemon(async |mut rig| {
        let by_name = "exec ./self notify say READY=1 barrier say STATUS=bye";
        let by_itself = "exec ./self notify become 65534 say READY=1 barrier say STATUS=lost";
        for (attempt, user, script) in [(1, Some("65534:65534"), by_name), (2, None, by_itself)] {
            let launch = Launch { user: user.map(str::to_owned), ..notifying(&rig, script) };
            rig.try_start(SLOT, attempt, &launch).await.unwrap();
            let mut heard = Vec::new();
            let exit = loop {
                match rig.event().await {
                    ProcessEvent::Notified { state, .. } => heard.push(state),
                    ProcessEvent::Exited { exit, .. } => break exit,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(exit, Exit::Code(0), "{:?}", rig.lines(SLOT));
            assert!(heard[0].ready, "{heard:?}");
            // As whom it ended that became another by itself is not known.
            let status = heard.last().and_then(|state| state.status.as_deref());
            assert!(status == Some("bye") || attempt == 2, "{heard:?}");
        }
    });
}

//! What limits all processes of a copy together.

use std::path::PathBuf;

use upbeat_drivers::process::{Launch, Observation, ProcessEvent, StartError};
use upbeat_model::project::Resources;
use upbeat_model::{Attempt, Exit, Millis};

use crate::rig::{Place, Rig, eventually, id, is_alive, kill, number, parent};
use crate::{CONTROLLERS, Case};

pub(crate) const CASES: &[Case] = &[
    Case::new("a limit that the machine cannot keep is refused with the reason", refused),
    Case::new("a cgroup that cannot be made is Upbeat's trouble, and nothing is left", unusable),
    Case::needing(&[CONTROLLERS], "a copy and its descendants are limited together", limited),
    Case::needing(&[CONTROLLERS], "more memory than its limit is the end of a copy", out_of_memory),
    Case::needing(&[CONTROLLERS], "whatever a killed shim leaves in its cgroup is killed", leftovers),
];

const SLOT: &str = "app/web/1";

fn limited_to(rig: &Rig<'_>, resources: Resources, script: &str) -> Launch {
    Launch { resources, ..rig.script(script) }
}

/// A kernel with cgroups of version 2 and these controllers, as far as files can tell.
fn kernel(place: &Place, controllers: &str) -> PathBuf {
    let (process, cgroup) = (place.file("process"), place.file("cgroup"));
    for dir in [&process, &cgroup] {
        std::fs::create_dir(dir).unwrap();
    }
    let mounts = format!("30 23 0:26 / {} rw - cgroup2 cgroup2 rw\n", cgroup.display());
    std::fs::write(process.join("mountinfo"), mounts).unwrap();
    std::fs::write(process.join("cgroup"), "0::/\n").unwrap();
    std::fs::write(cgroup.join("cgroup.controllers"), controllers).unwrap();
    for file in ["cgroup.procs", "cgroup.subtree_control"] {
        std::fs::write(cgroup.join(file), "").unwrap();
    }
    process
}

fn refused() {
    let place = Place::new();
    let process = kernel(&place, "cpu pids");
    place.with_process(process).daemon(async |mut rig| {
        let resources = Resources { pids: Some(9), memory: Some(1 << 20), ..Resources::default() };
        let launch = limited_to(&rig, resources, "exit 0");
        match rig.try_start(SLOT, 1, &launch).await {
            Err(StartError::NotExecuted(why)) => assert_eq!(
                why,
                "`mem_limit` cannot be kept: the kernel of this machine has no controller `memory`"
            ),
            other => panic!("{other:?}"),
        }
        rig.start(SLOT, 2, "exit 0").await;
        assert_eq!(rig.exit(SLOT, 2).await, Exit::Code(0));
    });
}

/// What the kernel puts into a new cgroup is not there.
fn unusable() {
    let place = Place::new();
    let process = kernel(&place, "cpu memory pids");
    place.with_process(process).daemon(async |mut rig| {
        let launch = limited_to(&rig, Resources { pids: Some(9), ..Resources::default() }, "exit 0");
        let started = rig.try_start(SLOT, 1, &launch).await;
        let Err(StartError::Driver(error)) = started else { panic!("{started:?}") };
        let said = error.to_string();
        let expected = "cgroup.subtree_control: No such file or directory (os error 2)";
        assert!(said.starts_with("the service's cgroup: ") && said.ends_with(expected), "{said}");
        assert_eq!(rig.observe(SLOT).await, Observation::Never);
        let made = std::fs::read_dir(rig.place.file("cgroup")).unwrap();
        let made = made.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_dir());
        assert_eq!(made.count(), 0);
        rig.start(SLOT, 1, "exit 0").await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(0));
    });
}

/// Where a process is, as it says itself.
fn dir_of(rig: &Rig<'_>) -> PathBuf {
    std::fs::read_link(rig.driver.slot_dir(&id(SLOT)).join("cgroup")).unwrap()
}

fn limited() {
    Place::new().daemon(async |mut rig| {
        let resources = Resources {
            cpus: Some(1500),
            memory: Some(64 << 20),
            memory_reservation: Some(32 << 20),
            pids: Some(4),
        };
        let go = rig.place.fifo("go");
        // It is one of four; `cat` would be the fifth.
        let script = r#"
            sleep 600 & sleep 600 & sleep 600 &
            (echo forked | cat) 2>&- || echo refused
            echo ready; read go < go
        "#;
        let started = rig.try_start(SLOT, 1, &limited_to(&rig, resources, script)).await.unwrap();
        rig.says(SLOT, "ready").await;
        let dir = dir_of(&rig);
        assert!(dir.ends_with("app/web-1"), "{dir:?}");
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap().trim().to_owned();
        let limits = ["cpu.max", "memory.max", "memory.low", "pids.max"].map(read);
        assert_eq!(limits, ["150000 100000", "67108864", "33554432", "4"]);
        let inside = read("cgroup.procs");
        assert!(inside.lines().any(|pid| number(pid) == started.pid) && inside.lines().count() == 4);
        assert!(!rig.lines(SLOT).contains(&"forked".to_owned()), "{:?}", rig.lines(SLOT));
        tokio::task::spawn_blocking(move || std::fs::write(go, "\n").unwrap()).await.unwrap();
        rig.exit(SLOT, 1).await;
        // With it go those above: of the app, and of this daemon.
        assert!(!dir.exists() && !dir.ancestors().nth(2).unwrap().exists());
        assert!(!rig.driver.slot_dir(&id(SLOT)).join("cgroup").exists());
    });
}

fn out_of_memory() {
    Place::new().daemon(async |mut rig| {
        let resources = Resources { memory: Some(16 << 20), ..Resources::default() };
        let launch = limited_to(&rig, resources, "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo $?");
        rig.try_start(SLOT, 1, &launch).await.unwrap();
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(9));
    });
}

/// It has given up its variables, its session and its output: only the cgroup knows it.
fn leftovers() {
    let place = Place::new();
    let resources = Resources { pids: Some(100), ..Resources::default() };
    let script = r#"
        (env -i "$SELF" in-a-session-of-its-own /bin/sh -c 'echo $$; exec <&- >&- 2>&-; sleep 600; :' &)
        exec sleep 600
    "#;
    let start = async |rig: &Rig<'_>, attempt: u64| {
        let launch = limited_to(rig, resources, script);
        let started = rig.try_start(SLOT, attempt, &launch).await.unwrap();
        let before = usize::try_from(attempt).unwrap();
        eventually("it is there", || rig.lines(SLOT).len() == before).await;
        (started, number(rig.lines(SLOT).last().unwrap()))
    };
    place.daemon(async |mut rig| {
        let (started, hidden) = start(&rig, 1).await;
        kill(parent(started.pid));
        let event = rig.event().await;
        assert!(matches!(event, ProcessEvent::Lost { attempt: Attempt(1), .. }), "{event:?}");
        assert!(!is_alive(hidden));
        let (started, _) = start(&rig, 2).await;
        kill(parent(started.pid));
    });
    place.daemon(async |mut rig| {
        let left = rig.lines(SLOT);
        let dir = dir_of(&rig);
        assert!(matches!(rig.observe(SLOT).await, Observation::Lost { .. }));
        assert!(!is_alive(number(left.last().unwrap())) && !dir.exists());
        let (started, _) = start(&rig, 3).await;
        assert!(is_alive(started.pid));
        rig.stop(SLOT, 3, 9, Millis(0)).await;
        assert_eq!(rig.exit(SLOT, 3).await, Exit::Signal(9));
    });
}

//! What a process is given of the machine, and what many of them take.

use std::collections::HashSet;

use upbeat_drivers::process::{ProcessDriver, ProcessEvent};
use upbeat_model::{Attempt, Exit};

use crate::rig::{Place, id};
use crate::{Case, Need};

pub(crate) const CASES: &[Case] = &[
    Case::new("a process is given three descriptors, and none of its makers'", descriptors),
    Case::new("a process is given its own environment, a mark, and nothing else", environment),
    Case::new("a process is given clean signals, its own session, and the usual limits", signals),
    Case::new("what a service prints is nobody else's to read", private),
    Case::needing(&[Need::ROOT], "a process becomes its user, with that user's groups only", user),
    Case::new("200 starts at once are 200 processes and 200 ends", many),
];

const SLOT: &str = "app/web/1";

fn descriptors() {
    // One that whoever started the daemon forgot to close.
    let forgotten = rustix::io::dup(std::fs::File::open("/dev/zero").unwrap()).unwrap();
    Place::new().daemon(async |mut rig| {
        rig.start(SLOT, 1, "exec \"$SELF\" list-descriptors").await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(0));
        let lines = rig.lines(SLOT);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines.contains(&"0 /dev/null".to_owned()), "{lines:?}");
        assert!(lines.iter().filter(|line| line.contains(" pipe:[")).count() == 2, "{lines:?}");
    });
    drop(forgotten);
}

fn environment() {
    Place::new().daemon(async |mut rig| {
        let mut launch = rig.script("");
        launch.command = vec!["env".into()];
        launch.environment = [("A", "b c"), ("PATH", "/usr/bin:/bin"), ("UPBEAT_INSTANCE", "not mine")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        rig.try_start(SLOT, 7, &launch).await.unwrap();
        assert_eq!(rig.exit(SLOT, 7).await, Exit::Code(0));
        let mark = format!("UPBEAT_INSTANCE={}#7", rig.driver.slot_dir(&id(SLOT)).display());
        assert_eq!(rig.lines(SLOT), ["A=b c", "PATH=/usr/bin:/bin", &mark]);
    });
}

fn signals() {
    Place::new().daemon(async |mut rig| {
        let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(before.current, before.maximum, "the driver has raised it");
        // It looks at itself: a shell blocks signals while it makes other processes.
        let script =
            "ulimit -Sn; cut -d' ' -f1,5,6 /proc/$$/stat; exec grep -E '^Sig(Blk|Ign)' /proc/self/status";
        let started = rig.start(SLOT, 1, script).await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(0));
        let (none, pid) = ("0000000000000000", started.pid);
        let (limit, ids) = (crate::OPEN_FILES.to_string(), format!("{pid} {pid} {pid}"));
        let masks = [format!("SigBlk:\t{none}"), format!("SigIgn:\t{none}")];
        assert_eq!(rig.lines(SLOT), [&[limit, ids][..], &masks[..]].concat());
    });
}

fn private() {
    use std::os::unix::fs::PermissionsExt;
    Place::new().daemon(async |mut rig| {
        rig.start(SLOT, 1, "echo secret; umask").await;
        rig.exit(SLOT, 1).await;
        assert_eq!(rig.lines(SLOT), ["secret", "0022"]);
        let mut waiting = vec![rig.driver.slot_dir(&id(SLOT))];
        let mut seen = 0;
        while let Some(dir) = waiting.pop() {
            assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700, "{dir:?}");
            for entry in std::fs::read_dir(&dir).unwrap().map(Result::unwrap) {
                seen += 1;
                match entry.file_type().unwrap().is_dir() {
                    true => waiting.push(entry.path()),
                    false => {
                        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                        assert_eq!(mode, 0o600, "{entry:?}");
                    }
                }
            }
        }
        assert!(seen >= 4, "log, segment, lock and record");
    });
}

fn user() {
    let place = Place::new();
    place.daemon(async |mut rig| {
        for (attempt, user, expected) in [
            (1, "nobody", "65534 65534 65534"),
            (2, "65534:0", "65534 0 0"),
            (3, "12345", "12345 12345 12345"),
        ] {
            let mut launch = rig.script("echo $(id -u) $(id -g) $(id -G) > /dev/stdout");
            (launch.user, launch.working_dir) = (Some(user.to_owned()), "/".to_owned());
            let started = rig.try_start(SLOT, attempt, &launch).await.unwrap();
            assert_eq!(rig.exit(SLOT, attempt).await, Exit::Code(0));
            let lines = rig.lines(SLOT);
            assert_eq!(lines[usize::try_from(started.log_start - 1).unwrap()..], [expected], "{user}");
        }
    });
}

fn many() {
    const COUNT: u32 = 200;
    Place::new().daemon(async |mut rig| {
        let launch = rig.script("read line < /dev/null; exit 5");
        let start = |index| {
            let (driver, launch): (ProcessDriver, _) = (rig.driver.clone(), launch.clone());
            tokio::spawn(async move {
                driver.start(&id(&format!("app/web/{index}")), Attempt(1), &launch).await.unwrap().pid
            })
        };
        let starts: Vec<_> = (1..=COUNT).map(start).collect();
        let mut pids = HashSet::new();
        for start in starts {
            pids.insert(start.await.unwrap());
        }
        let mut ended = HashSet::new();
        for _ in 0..COUNT {
            match rig.event().await {
                ProcessEvent::Exited { slot, exit: Exit::Code(5), .. } => ended.insert(slot),
                other => panic!("{other:?}"),
            };
        }
        assert_eq!((pids.len(), ended.len()), (COUNT as usize, COUNT as usize));
    });
}

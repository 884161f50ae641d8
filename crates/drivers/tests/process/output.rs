//! What a process prints, from its pipe to the reader.

use std::io::Read;

use upbeat_drivers::process::Observation;
use upbeat_model::Exit;
use upbeat_shim::log::{PART_MAX, parse, segment_name, segments};

use crate::rig::{Disk, Place, id};
use crate::{Case, Need};

pub(crate) const CASES: &[Case] = &[
    Case::new("every line is there once and in order", every_line),
    Case::new("what stands without a newline at the end is a line", last_line),
    Case::new("5 MB without a newline are kept in parts, and read whole", endless_line),
    Case::new("numbers go on over rotations and attempts, within bounds", numbers),
    Case::new("a process that closes its output runs on", closed),
    Case::needing(&[Need::ROOT], "on a full disk whole records are dropped and counted", full_disk),
];

const SLOT: &str = "app/web/1";

fn every_line() {
    Place::new().daemon(async |mut rig| {
        rig.start(SLOT, 1, "seq 1 20000; seq 20001 20100 >&2").await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(0));
        let lines = rig.lines(SLOT);
        let numbers = |from: u32, to| (from..=to).map(|n| n.to_string()).collect::<Vec<_>>();
        let (out, err): (Vec<String>, Vec<String>) =
            lines.into_iter().partition(|line| line.parse::<u32>().unwrap() <= 20_000);
        assert_eq!((out, err), (numbers(1, 20_000), numbers(20_001, 20_100)));
    });
}

fn last_line() {
    Place::new().daemon(async |mut rig| {
        rig.start(SLOT, 1, "printf 'one\\n\\ntwo'; printf three >&2; kill -KILL $$").await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(9));
        let mut lines = rig.lines(SLOT);
        lines.sort();
        assert_eq!(lines, ["", "one", "three", "two"]);
    });
}

fn endless_line() {
    Place::new().daemon(async |mut rig| {
        rig.start(SLOT, 1, "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo end").await;
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(0));
        let mut lines = rig.lines(SLOT);
        assert_eq!(lines.pop().unwrap(), "end");
        assert_eq!(lines.concat(), "x".repeat(5_000_000));
        let log = rig.driver.log_dir(&id(SLOT));
        for first in segments(&log).unwrap() {
            let segment = std::fs::read(log.join(segment_name(first))).unwrap();
            let longest = segment.split(|byte| *byte == b'\n').filter_map(parse).map(|r| r.text.len()).max();
            assert!(longest.is_some_and(|longest| longest <= PART_MAX), "{longest:?}");
        }
    });
}

fn numbers() {
    Place::new().daemon(async |mut rig| {
        // However it comes together, it is several times what three segments hold: a segment begins
        // with what was read at once, 64 KiB at most, and takes more while it is below its size.
        for (attempt, from, to) in [(1, 1, 100_000), (2, 100_001, 200_000)] {
            let mut launch = rig.script(&format!("seq {from} {to}"));
            (launch.log_max_size, launch.log_max_files) = (100_000, 3);
            let started = rig.try_start(SLOT, attempt, &launch).await.unwrap();
            assert_eq!(started.log_start, from);
            assert_eq!(rig.exit(SLOT, attempt).await, Exit::Code(0));
            let records = rig.records(SLOT);
            let (missed, kept) = records.split_first().unwrap();
            assert!(missed.1.ends_with("records dropped: they are not on the disk any more"), "{missed:?}");
            assert!(kept.iter().all(|(sequence, text)| sequence.to_string() == *text));
            assert_eq!(kept.last().unwrap().0, to);
            assert!(segments(&rig.driver.log_dir(&id(SLOT))).unwrap().len() <= 3);
        }
    });
}

fn closed() {
    Place::new().daemon(async |mut rig| {
        let (closed, go) = (rig.place.fifo("closed"), rig.place.fifo("go"));
        let started = rig.start(SLOT, 1, "exec >&- 2>&-; echo x > closed; read go < go; exit 6").await;
        tokio::task::spawn_blocking(move || std::fs::read(closed).unwrap()).await.unwrap();
        let seen = rig.observe(SLOT).await;
        assert!(matches!(seen, Observation::Running { pid, .. } if pid == started.pid), "{seen:?}");
        tokio::task::spawn_blocking(move || std::fs::write(go, "\n").unwrap()).await.unwrap();
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(6));
    });
}

fn full_disk() {
    let place = Place::new();
    let disk = Disk::mount(&place, 812);
    // More than two pipes hold: what is still on its way when there is room again finds room.
    std::fs::write(disk.0.join("ballast"), vec![0; 400_000]).unwrap();
    let place = place.with_slots_in(disk.0.join("slots"));
    let (full, go) = (place.fifo("full"), place.fifo("go"));
    place.daemon(async |mut rig| {
        let line = "x".repeat(100);
        let script =
            format!("seq 1 10000 | sed 's/$/ {line}/'; echo x > full; read go < go; echo after; exit 3");
        rig.start(SLOT, 1, &script).await;
        // It is not held up by a disk that takes nothing.
        let read = move || std::fs::File::open(full).unwrap().read_to_string(&mut String::new()).unwrap();
        tokio::task::spawn_blocking(read).await.unwrap();
        std::fs::remove_file(disk.0.join("ballast")).unwrap();
        tokio::task::spawn_blocking(move || std::fs::write(go, "\n").unwrap()).await.unwrap();
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(3));
        let mut expected = 1;
        let mut lines = rig.lines(SLOT).into_iter();
        for line in lines.by_ref() {
            if let Some(count) = line.strip_suffix(" records dropped") {
                expected += count.parse::<usize>().unwrap();
            } else if line == "after" {
                break;
            } else {
                assert_eq!(line.split(' ').next().unwrap(), expected.to_string());
                expected += 1;
            }
        }
        assert_eq!((expected, lines.next()), (10_001, None));
    });
}

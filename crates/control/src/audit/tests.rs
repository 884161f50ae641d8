//! What the log shows of every way to change it behind its back.

mod heads;

use std::fs;
use std::path::{Path, PathBuf};

use upbeat_store::{Store, open_memory};

use super::*;

fn asked(n: u64) -> Asked {
    Asked {
        who: "uid 1000".into(),
        from: None,
        method: "POST".into(),
        route: "/api/v1/apps/{app}/actions".into(),
        app: None,
        what: format!("stop web {n}"),
    }
}

fn refused(who: &str) -> Refused {
    Refused {
        who: who.into(),
        from: Some("192.0.2.1:7".into()),
        method: "GET".into(),
        path: "/".into(),
        status: 401,
        why: "there is no token".into(),
        not_written: 0,
    }
}

/// A log of its own, and its daemon, which can be replaced.
struct Room {
    dir: tempfile::TempDir,
    store: Store,
    limits: Limits,
    key: Key,
}

impl Room {
    fn new() -> Self {
        let (store, _) = open_memory().unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { dir, store, limits: Limits::default(), key: Key([7; 32]) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("audit")
    }

    fn settings(&self) -> AuditSettings {
        AuditSettings {
            dir: self.path(),
            key: self.key.clone(),
            key_is_new: false,
            limits: self.limits,
            wall: || Wall(5),
        }
    }

    async fn open(&self) -> Audit {
        Audit::open(self.store.clone(), self.settings()).await.unwrap()
    }

    /// So many changes, each asked and answered.
    async fn changes(&self, count: u64) -> Audit {
        let audit = self.open().await;
        for n in 0..count {
            let ticket = audit.asked(asked(n), Need::Recorded).await.unwrap();
            audit.answered(ticket, 200, Some(OperationId(n))).await;
        }
        // Whoever looks comes after all that was written, and after its head.
        audit.read(0, Wall(0), 0).await.unwrap();
        audit
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(self.path()).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files
    }

    /// What somebody sees who has the files, the key and the anchor.
    async fn verdict(&self) -> AuditVerdict {
        let anchor = anchor(&self.store).await.unwrap();
        verify(open_segments(&self.path()).unwrap(), Some(&self.key), anchor.as_ref()).unwrap()
    }

    async fn bad(&self) -> String {
        let bad = self.verdict().await.bad.expect("something is wrong, and is seen");
        format!("{} at {}: {}", bad.sequence, bad.place, bad.why)
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.files()[0]).unwrap().lines().map(str::to_owned).collect()
    }

    fn write(&self, lines: &[String]) {
        fs::write(&self.files()[0], lines.iter().map(|line| format!("{line}\n")).collect::<String>())
            .unwrap();
    }
}

#[tokio::test]
async fn what_is_done_is_written_before_and_after_and_goes_on_with_the_next_daemon() {
    let room = Room::new();
    room.changes(2).await;
    let audit = room.changes(1).await;
    let records = audit.read(0, Wall(0), 100).await.unwrap();
    assert_eq!(records.iter().map(|r| r.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(records[0].entry, AuditEntry::Asked(asked(0)));
    let answered = AuditEntry::Answered { asked: 1, status: 200, operation: Some(OperationId(0)) };
    assert_eq!(records[1].entry, answered);
    let verdict = audit.verify().await.unwrap();
    assert_eq!((verdict.good, verdict.bad.clone(), verdict.unanswered.len()), (6, None, 0));
    assert_eq!(verdict.notes, [""; 0]);
    assert_eq!(verdict, room.verdict().await, "offline it is the same");
    assert_eq!(audit.read(4, Wall(0), 1).await.unwrap()[0].sequence, 5);
    assert!(audit.read(0, Wall(6), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_change_that_was_never_answered_is_named() {
    let room = Room::new();
    let audit = room.changes(1).await;
    drop(audit.asked(asked(9), Need::Recorded).await.unwrap());
    let verdict = audit.verify().await.unwrap();
    assert_eq!((verdict.bad, verdict.unanswered), (None, vec![3]));
}

#[tokio::test]
async fn every_changed_byte_shows_and_so_does_its_place() {
    let room = Room::new();
    room.changes(3).await;
    let file = room.files()[0].clone();
    let good = fs::read(&file).unwrap();
    let lines_before = |at: usize| good[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
    for at in 0..good.len() {
        let mut other = good.clone();
        other[at] ^= 1;
        fs::write(&file, &other).unwrap();
        let bad = room.verdict().await.bad.unwrap_or_else(|| panic!("byte {at} is another"));
        assert_eq!(bad.sequence, lines_before(at) + 1, "byte {at}: {bad:?}");
    }
}

#[tokio::test]
async fn records_that_are_gone_or_elsewhere_or_twice_show() {
    let room = Room::new();
    room.changes(3).await;
    let good = room.lines();
    for at in 0..good.len() {
        let mut lines = good.clone();
        lines.remove(at);
        room.write(&lines);
        let bad = room.verdict().await.bad.unwrap_or_else(|| panic!("record {} is gone", at + 1));
        assert_eq!(bad.sequence, at as u64 + 1, "{bad:?}");
        for other in 0..at {
            let mut lines = good.clone();
            lines.swap(at, other);
            room.write(&lines);
            assert_eq!(room.verdict().await.bad.unwrap().sequence, other as u64 + 1);
        }
        let mut lines = good.clone();
        lines.insert(at, good[at].clone());
        room.write(&lines);
        assert!(room.verdict().await.bad.is_some());
    }
    for kept in 0..good.len() {
        room.write(&good[..kept]);
        assert_eq!(room.verdict().await.bad.unwrap().sequence, kept as u64 + 1, "cut after {kept}");
    }
    room.write(&good);
    assert_eq!(room.verdict().await.bad, None);
}

#[tokio::test]
async fn every_length_the_file_is_cut_to_shows() {
    let room = Room::new();
    room.changes(2).await;
    let file = room.files()[0].clone();
    let good = fs::read(&file).unwrap();
    for length in 0..good.len() {
        fs::write(&file, &good[..length]).unwrap();
        assert!(room.verdict().await.bad.is_some(), "cut to {length} of {}", good.len());
    }
}

#[tokio::test]
async fn an_older_copy_shows_and_the_next_daemon_hides_nothing() {
    let room = Room::new();
    room.changes(2).await;
    let older = room.lines();
    room.changes(2).await;
    room.write(&older);
    let told = room.bad().await;
    assert_eq!(
        told,
        "5 at the end of 00000000000000000001.jsonl: the log ends with record 4, but 8 were written; \
         the rest is missing"
    );
    let audit = room.changes(1).await;
    let told = room.bad().await;
    assert_eq!(told, "5 at 00000000000000000001.jsonl:5: record 5 should be here, and record 9 is");
    let found = &audit.read(8, Wall(0), 1).await.unwrap()[0].entry;
    assert_eq!(*found, AuditEntry::Found { what: "the log ended with record 4, but 8 were written".into() });
}

#[tokio::test]
async fn a_log_that_is_removed_is_missed() {
    let room = Room::new();
    room.changes(2).await;
    fs::remove_file(&room.files()[0]).unwrap();
    assert!(room.bad().await.contains("the log ends with record 0, but 4 were written"));
    room.changes(1).await;
    assert_eq!(room.bad().await, "1 at the beginning of the log: the records from 1 to 4 are missing");
}

#[tokio::test]
async fn whoever_has_no_key_cannot_write_a_chain_of_their_own() {
    let room = Room::new();
    room.changes(2).await;
    let foreign = Key([8; 32]);
    let mut head = AuditHead::none();
    let mut forged = Vec::new();
    for n in 1..=4 {
        let (line, hash) =
            chain::write(&foreign, n, Wall(5), &head.hash, &AuditEntry::Asked(asked(n))).unwrap();
        forged.push(line.trim_end().to_owned());
        head = AuditHead { count: n, hash };
    }
    room.write(&forged);
    assert_eq!(room.bad().await, "1 at 00000000000000000001.jsonl:1: its code was not made with this key");
    // Whoever does have it is seen by what is kept elsewhere.
    let (files, kept) = (open_segments(&room.path()).unwrap(), anchor(&room.store).await.unwrap());
    let bad = verify(files, Some(&foreign), kept.as_ref()).unwrap().bad.unwrap();
    assert_eq!(
        (bad.sequence, bad.why.as_str()),
        (4, "it is another than the one whose hash is kept elsewhere")
    );
}

#[tokio::test]
async fn half_a_record_is_cut_off_and_said() {
    let room = Room::new();
    room.changes(1).await;
    let file = room.files()[0].clone();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, [&whole[..], b"{\"sequence\":3,"].concat()).unwrap();
    let verdict = room.verdict().await;
    assert_eq!(verdict.bad, None, "it was never acknowledged");
    assert!(verdict.notes[0].contains("incomplete"), "{:?}", verdict.notes);
    let audit = room.changes(1).await;
    let verdict = audit.verify().await.unwrap();
    assert_eq!((verdict.good, verdict.bad), (5, None));
    assert_eq!(verdict.notes, ["record 3: a record was not written whole; its 14 bytes were cut off"]);
}

#[tokio::test]
async fn records_after_the_anchor_are_taken_over() {
    let room = Room::new();
    room.changes(1).await;
    let kept = anchor(&room.store).await.unwrap().unwrap();
    room.changes(1).await;
    // A daemon that was killed between the file and the store.
    room.store.write(vec![Op::put(ANCHOR, said(&kept).unwrap())]).await.unwrap();
    let audit = room.changes(1).await;
    let verdict = audit.verify().await.unwrap();
    assert_eq!((verdict.good, verdict.bad, verdict.notes.len()), (6, None, 0));
}

#[tokio::test]
async fn the_oldest_are_dropped_which_is_no_tampering_and_more_is() {
    let mut room = Room::new();
    room.limits = Limits { segment: 2_000, segments: 3 };
    room.changes(60).await;
    assert_eq!(room.files().len(), 3);
    let verdict = room.verdict().await;
    assert_eq!(verdict.bad, None);
    assert!(verdict.first > 60 && verdict.head.count > 120, "{verdict:?}");
    // Also with nothing but the files.
    let alone = verify(open_segments(&room.path()).unwrap(), None, None).unwrap();
    assert_eq!((alone.bad, alone.good), (None, verdict.good));
    let size: u64 = room.files().iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(size < 3 * 3_000, "{size}");
    let audit = room.changes(1).await;
    assert_eq!(audit.read(0, Wall(0), 1).await.unwrap()[0].sequence, room.verdict().await.first);
    let oldest = room.files()[0].clone();
    fs::remove_file(oldest).unwrap();
    let told = room.bad().await;
    assert!(told.contains("are missing") && told.contains("the beginning of the log"), "{told}");
}

#[tokio::test]
async fn a_disk_that_refuses_stops_changes_but_for_those_that_stop() {
    let room = Room::new();
    let audit = room.changes(1).await;
    let away = room.dir.path().join("away");
    // The head is at the store's; there is no way to write: a directory of that name stands there.
    let blocked = Room { limits: Limits { segment: 0, segments: 10 }, ..room };
    drop(audit);
    let audit = blocked.open().await;
    let next = blocked.path().join(format!("{:020}.jsonl", 3));
    fs::create_dir(&next).unwrap();
    assert!(matches!(audit.asked(asked(1), Need::Recorded).await, Err(AuditError::Files(_))));
    let ticket = audit.asked(asked(2), Need::Anyway).await.unwrap();
    audit.answered(ticket, 200, None).await;
    fs::rename(&next, &away).unwrap();
    let ticket = audit.asked(asked(3), Need::Recorded).await.unwrap();
    audit.answered(ticket, 200, None).await;
    let records = audit.read(2, Wall(0), 9).await.unwrap();
    let AuditEntry::Gap { missed, what, .. } = &records[0].entry else { panic!("{records:?}") };
    assert_eq!(*missed, 3);
    assert_eq!(what[2], "uid 1000: stop web 2: 200");
    assert!(matches!(records[1].entry, AuditEntry::Asked(_)));
    let verdict = audit.verify().await.unwrap();
    assert_eq!((verdict.bad, verdict.notes.len()), (None, 1));
}

#[tokio::test]
async fn many_at_once_are_one_chain() {
    let room = Room::new();
    let audit = room.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let audit = audit.clone();
        tasks.spawn(async move {
            let ticket = audit.asked(asked(n), Need::Recorded).await.unwrap();
            audit.refused(refused("nobody known"), Whom::Stranger);
            audit.answered(ticket, 200, None).await;
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let verdict = audit.verify().await.unwrap();
    assert_eq!((verdict.good, verdict.bad, verdict.unanswered.len()), (220, None, 0));
}

#[tokio::test]
async fn a_lost_anchor_and_a_lost_key_are_said() {
    let room = Room::new();
    room.changes(1).await;
    room.store.write(vec![Op::delete(ANCHOR)]).await.unwrap();
    let audit = room.open().await;
    let verdict = audit.verify().await.unwrap();
    assert_eq!(verdict.bad, None);
    assert_eq!(verdict.notes, ["record 3: the hash kept elsewhere was gone; the log had 2 records"]);
    let settings = AuditSettings { key: Key([9; 32]), key_is_new: true, ..room.settings() };
    let audit = Audit::open(room.store.clone(), settings).await.unwrap();
    assert_eq!(audit.verify().await.unwrap().bad.unwrap().sequence, 1);
    let found = audit.read(3, Wall(0), 9).await.unwrap();
    assert!(matches!(&found.last().unwrap().entry, AuditEntry::Found { what } if what.contains("key")));
}

#[tokio::test]
async fn nobody_else_moves_the_head() {
    let room = Room::new();
    let audit = room.changes(1).await;
    room.store.write(vec![Op::put(ANCHOR, "{}")]).await.unwrap();
    // One is on disk before that is found out, and then none.
    drop(audit.asked(asked(1), Need::Recorded).await.unwrap());
    for n in 2..4 {
        assert!(matches!(audit.asked(asked(n), Need::Recorded).await, Err(AuditError::Conflict)));
    }
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path: &Path = &dir.path().join("a/audit");
    let (mut book, _) = Book::open(path.to_owned(), Key([1; 32]), Limits::default(), None).unwrap();
    book.append(Wall(0), &[AuditEntry::Asked(asked(1))]).unwrap();
    for path in [path.to_owned(), path.join("00000000000000000001.jsonl")] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0);
    }
}

#[tokio::test]
async fn strangers_silence_nobody_who_is_known() {
    let room = Room::new();
    let audit = room.changes(1).await;
    for _ in 0..1_000 {
        audit.refused(refused("nobody known"), Whom::Stranger);
        // Room for it in the queue, which is bounded.
        audit.read(0, Wall(0), 0).await.unwrap();
    }
    audit.refused(refused("token ci"), Whom::Known);
    let records = audit.read(2, Wall(0), 100).await.unwrap();
    let who: Vec<&str> = records
        .iter()
        .map(|record| match &record.entry {
            AuditEntry::Refused(refused) => refused.who.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(who.len() > 2 && who.len() < 30, "{}", who.len());
    assert_eq!(who.last(), Some(&"token ci"));
}

/// The clock of a daemon with a bug.
fn broken() -> Wall {
    panic!("a bug of the test")
}

#[tokio::test]
async fn a_writer_that_panicked_lets_no_change_pass() {
    let room = Room::new();
    room.changes(1).await;
    let settings = AuditSettings { wall: broken, ..room.settings() };
    let audit = Audit::open(room.store.clone(), settings).await.unwrap();
    for need in [Need::Recorded, Need::Anyway, Need::Recorded] {
        let error = audit.asked(asked(1), need).await.unwrap_err();
        assert!(matches!(error, AuditError::Stopped), "{error}");
        assert!(error.to_string().contains("cannot be written any more"), "{error}");
    }
    assert!(matches!(audit.verify().await, Err(AuditError::Stopped)));
    assert!(matches!(audit.read(0, Wall(0), 1).await, Err(AuditError::Stopped)));
    // It hangs on nothing, and the next daemon goes on.
    audit.answered(Ticket { asked: Some(1), words: String::new() }, 200, None).await;
    audit.answered(Ticket { asked: None, words: String::new() }, 200, None).await;
    audit.refused(refused("token ci"), Whom::Known);
    let verdict = room.changes(1).await.verify().await.unwrap();
    assert_eq!((verdict.good, verdict.bad), (4, None));
}

/// One change, by a daemon that has run for long.
async fn change(audit: &Audit, n: u64) {
    let ticket = audit.asked(asked(n), Need::Recorded).await.unwrap();
    audit.answered(ticket, 200, None).await;
    audit.read(0, Wall(0), 0).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_removed_under_the_daemon_is_missed_at_once() {
    let room = Room::new();
    let audit = room.changes(2).await;
    fs::remove_file(&room.files()[0]).unwrap();
    // Before anything is written: the head is kept elsewhere.
    let bad = audit.verify().await.unwrap().bad.unwrap();
    assert_eq!(bad.why, "the log ends with record 0, but 4 were written; the rest is missing");
    change(&audit, 3).await;
    assert_eq!(room.bad().await, "1 at the beginning of the log: the records from 1 to 4 are missing");
    let records = audit.read(0, Wall(0), 9).await.unwrap();
    assert_eq!(records.iter().map(|r| r.sequence).collect::<Vec<_>>(), [5, 6, 7], "what came later is there");
    let what = "`00000000000000000001.jsonl` was removed while it was in use; it had the records from 1 to 4";
    assert_eq!(records[0].entry, AuditEntry::Found { what: what.into() });
    // With the directory, too.
    fs::remove_dir_all(room.path()).unwrap();
    change(&audit, 4).await;
    assert_eq!(room.bad().await, "1 at the beginning of the log: the records from 1 to 7 are missing");
    assert_eq!(audit.read(0, Wall(0), 9).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_file_that_is_replaced_or_cut_under_the_daemon_is_left_and_said() {
    /// What is done to the file.
    type Harm = fn(&Path);
    let copy: Harm = |file| {
        let beside = file.with_extension("copy");
        fs::copy(file, &beside).unwrap();
        fs::rename(&beside, file).unwrap();
    };
    let older: Harm = |file| {
        let text = fs::read_to_string(file).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').take(2).collect();
        let beside = file.with_extension("copy");
        fs::write(&beside, lines.concat()).unwrap();
        fs::rename(&beside, file).unwrap();
    };
    let cut: Harm = |file| fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap();
    let more: Harm = |file| {
        let text = fs::read(file).unwrap();
        fs::write(file, [&text[..], b"more\n"].concat()).unwrap();
    };
    for (harm, said, bad) in [
        (copy, "was replaced", None),
        (older, "was replaced", Some(3)),
        (cut, "was written by somebody else", Some(1)),
        (more, "was written by somebody else", Some(5)),
    ] {
        let room = Room::new();
        let audit = room.changes(2).await;
        harm(&room.files()[0]);
        change(&audit, 3).await;
        let verdict = audit.verify().await.unwrap();
        assert_eq!(verdict.bad.clone().map(|bad| bad.sequence), bad, "{verdict:?}");
        assert_eq!(room.verdict().await.bad.map(|bad| bad.sequence), bad);
        let found = &audit.read(4, Wall(0), 9).await.unwrap()[0].entry;
        assert!(matches!(found, AuditEntry::Found { what } if what.contains(said)), "{found:?}");
        if bad.is_none() {
            assert!(verdict.notes[0].contains(said), "{:?}", verdict.notes);
        }
        // The next daemon finds nothing new.
        let next = room.changes(1).await.read(7, Wall(0), 9).await.unwrap();
        assert!(next.iter().all(|r| !matches!(r.entry, AuditEntry::Found { .. })), "{next:?}");
    }
}

#[tokio::test]
async fn an_older_file_that_is_removed_under_the_daemon_shows_and_stops_nothing() {
    let mut room = Room::new();
    room.limits = Limits { segment: 1_000, segments: 4 };
    let audit = room.changes(20).await;
    fs::remove_file(&room.files()[1]).unwrap();
    assert!(audit.verify().await.unwrap().bad.is_some());
    // Also when it is its turn to go.
    for n in 0..20 {
        change(&audit, n).await;
    }
    assert_eq!(room.verdict().await.bad, None, "all that was missing is no longer kept");
}

#[tokio::test]
async fn a_segment_that_was_begun_and_not_written_is_no_alarm() {
    let room = Room::new();
    room.changes(2).await;
    // Killed between making the file and writing its first record.
    let next = room.path().join("00000000000000000005.jsonl");
    fs::write(&next, "").unwrap();
    assert_eq!(room.verdict().await.bad, None);
    let audit = room.changes(1).await;
    let verdict = audit.verify().await.unwrap();
    assert_eq!((verdict.good, verdict.bad, verdict.notes), (6, None, vec![]));
    // But an end that was cut off is one, however it was done.
    fs::write(&room.files()[0], "").unwrap();
    room.changes(1).await;
    assert!(room.verdict().await.bad.is_some());
}

#[tokio::test]
async fn only_files_by_their_own_names_are_segments() {
    let room = Room::new();
    room.changes(2).await;
    let file = room.files()[0].clone();
    let text = fs::read(&file).unwrap();
    for other in [
        "1.jsonl",
        "+0000000000000000001.jsonl",
        "00000000000000000001.jsonl ",
        "000000000000000000001.jsonl",
    ] {
        fs::write(room.path().join(other), &text).unwrap();
    }
    assert_eq!(room.verdict().await.good, 4);
    // A link is none, even to the very file.
    let elsewhere = room.dir.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    assert!(room.bad().await.contains("the log ends with record 0"));
    // And no daemon writes through it.
    let audit = room.open().await;
    drop(audit.asked(asked(1), Need::Recorded).await.unwrap());
    assert_eq!(fs::read(&elsewhere).unwrap(), text);
}

//! One contract for every backend, against a model that is written apart; and what a disk can do.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use crate::faults::{Faults, open_faulty};
use crate::*;

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Opens what is under test, again and again on the same ground.
type Open<'a> = &'a dyn Fn() -> (Store, Journal);

fn on_each_backend(test: impl Fn(Open<'_>, bool)) {
    let memory = open_memory().unwrap();
    test(&|| memory.clone(), false);
    for durability in [Durability::Machine, Durability::Process] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        test(&|| open_redb(&path, durability).unwrap(), true);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    DeletePrefix(u8),
    PutIfAbsent(u8, u8),
    PutIfRevision(u8, u64, u8),
    PutIfVersion(u8, u64, u8),
    PutIfValue(u8, u8, u8),
    Append(u8),
    Truncate(u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..12u8;
    let step = prop_oneof![
        4 => (key.clone(), any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)),
        2 => key.clone().prop_map(Step::Delete),
        1 => (0..3u8).prop_map(Step::DeletePrefix),
        2 => (key.clone(), any::<u8>()).prop_map(|(k, v)| Step::PutIfAbsent(k, v)),
        2 => (key.clone(), 0..20u64, any::<u8>()).prop_map(|(k, r, v)| Step::PutIfRevision(k, r, v)),
        2 => (key.clone(), 0..4u64, any::<u8>()).prop_map(|(k, n, v)| Step::PutIfVersion(k, n, v)),
        2 => (key, 0..4u8, any::<u8>()).prop_map(|(k, o, v)| Step::PutIfValue(k, o, v)),
        3 => any::<u8>().prop_map(Step::Append),
        1 => (0..20u64).prop_map(Step::Truncate),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Keys 0, 1, 10, 11: so that one is the beginning of another.
fn name(key: u8) -> String {
    format!("k/{}", ["0", "1", "10", "11", "a", "a/b", "a0", "b", "~", "~~", "é", "z"][key as usize])
}

/// What a store should be, as simply as it can be said.
#[derive(Default)]
struct Model {
    keys: BTreeMap<String, (u8, u64, u64, u64)>,
    revision: u64,
    journal: BTreeMap<u64, Vec<u8>>,
    last: u64,
}

impl Model {
    fn put(&mut self, key: &str, value: u8) {
        self.revision += 1;
        let (created, version) = self.keys.get(key).map_or((self.revision, 0), |old| (old.1, old.3));
        self.keys.insert(key.to_owned(), (value, created, self.revision, version + 1));
    }

    fn remove(&mut self, keys: &[String]) {
        let before = self.keys.len();
        self.keys.retain(|key, _| !keys.contains(key));
        self.revision += u64::from(self.keys.len() != before);
    }
}

fn put(compare: Vec<Compare>, key: &str, value: u8) -> Txn {
    Txn { compare, success: vec![Op::put(key, [value])], failure: Vec::new() }
}

fn check_step(step: &Step, store: &Store, journal: &Journal, model: &mut Model) {
    let conditional = |key: u8, compare: Compare, holds: bool, value: u8, model: &mut Model| {
        let outcome = wait(store.txn(put(vec![compare], &name(key), value))).unwrap();
        assert_eq!(outcome.succeeded, holds);
        if holds {
            model.put(&name(key), value);
        }
    };
    let known = |key: u8, model: &Model| model.keys.get(&name(key)).copied();
    match *step {
        Step::Put(key, value) => {
            wait(store.txn(put(vec![], &name(key), value))).unwrap();
            model.put(&name(key), value);
        }
        Step::Delete(key) => {
            wait(store.write(vec![Op::delete(name(key))])).unwrap();
            model.remove(&[name(key)]);
        }
        Step::DeletePrefix(which) => {
            let prefix = ["k/1", "k/a", "none"][which as usize];
            wait(store.write(vec![Op::DeletePrefix { prefix: prefix.into() }])).unwrap();
            let found: Vec<String> =
                model.keys.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
            model.remove(&found);
        }
        Step::PutIfAbsent(key, value) => {
            let holds = known(key, model).is_none();
            conditional(key, Compare::Absent(name(key)), holds, value, model);
        }
        Step::PutIfRevision(key, revision, value) => {
            let holds = known(key, model).is_some_and(|old| old.2 == revision);
            conditional(key, Compare::ModRevision(name(key), revision), holds, value, model);
        }
        Step::PutIfVersion(key, version, value) => {
            let holds = known(key, model).is_some_and(|old| old.3 == version);
            conditional(key, Compare::Version(name(key), version), holds, value, model);
        }
        Step::PutIfValue(key, old, value) => {
            let holds = known(key, model).is_some_and(|before| before.0 == old);
            conditional(key, Compare::Value(name(key), vec![old]), holds, value, model);
        }
        Step::Append(value) => {
            let last = wait(journal.append(vec![vec![value], vec![value, value]])).unwrap();
            model.journal.insert(model.last + 1, vec![value]);
            model.journal.insert(model.last + 2, vec![value, value]);
            model.last += 2;
            assert_eq!(last, model.last);
        }
        Step::Truncate(first) => {
            wait(journal.truncate_before(first)).unwrap();
            let last = model.last;
            model.journal.retain(|number, _| *number >= first || *number == last);
        }
        Step::Reopen => {}
    }
}

fn check_all(store: &Store, journal: &Journal, model: &Model) {
    let all = wait(store.all("k/")).unwrap();
    let seen: BTreeMap<String, (u8, u64, u64, u64)> = (all.iter())
        .map(|kv| (kv.key.clone(), (kv.value[0], kv.create_revision, kv.mod_revision, kv.version)))
        .collect();
    assert_eq!(seen, model.keys);
    assert_eq!(store.revision(), model.revision);
    let prefixed: Vec<String> = wait(store.all("k/1")).unwrap().into_iter().map(|kv| kv.key).collect();
    let expected: Vec<&String> = model.keys.keys().filter(|key| key.starts_with("k/1")).collect();
    assert_eq!(prefixed.iter().collect::<Vec<_>>(), expected);
    let records = wait(journal.read(0, 1000)).unwrap();
    assert_eq!(records.into_iter().collect::<BTreeMap<_, _>>(), model.journal);
    assert_eq!(journal.last(), model.last);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_what_its_model_is(steps in steps()) {
        on_each_backend(|open, reopens| {
            let (mut store, mut journal) = open();
            // Memory is one store for all cases of this closure: it is only opened once each.
            let mut model = Model::default();
            for step in &steps {
                if reopens && matches!(step, Step::Reopen) {
                    drop((store, journal));
                    (store, journal) = open();
                }
                check_step(step, &store, &journal, &mut model);
            }
            check_all(&store, &journal, &model);
        });
    }
}

#[test]
fn limits_are_kept_and_what_breaks_them_changes_nothing() {
    on_each_backend(|open, _| {
        let (store, journal) = open();
        let many: Vec<Op> = (0..=OPS_MAX).map(|n| Op::put(format!("n{n}"), "x")).collect();
        let refused = |ops: Vec<Op>| wait(store.write(ops)).unwrap_err();
        assert!(matches!(refused(many), StoreError::TooManyOps { count: 129, max: 128 }));
        let large = vec![Op::put("large", vec![0; VALUE_MAX + 1])];
        assert!(matches!(refused(large), StoreError::ValueTooLarge { .. }));
        assert!(matches!(refused(vec![Op::put("", "x")]), StoreError::BadKey { size: 0, .. }));
        assert!(matches!(refused(vec![Op::put("k".repeat(KEY_MAX + 1), "x")]), StoreError::BadKey { .. }));
        let twice = vec![Op::put("twice", "x"), Op::put("twice", "y")];
        assert_eq!(refused(twice), StoreError::DuplicateKey("twice".into()));
        for prefix in ["t", "twice"] {
            let both = vec![Op::put("twice", "x"), Op::DeletePrefix { prefix: prefix.into() }];
            assert_eq!(refused(both), StoreError::DuplicateKey("twice".into()));
        }
        let halves = ["a", "b"].map(|key| Op::put(key, vec![0; REQUEST_MAX / 2])).to_vec();
        assert!(matches!(refused(halves), StoreError::RequestTooLarge { max: REQUEST_MAX, .. }));
        let unnamed = Txn { compare: vec![Compare::Absent(String::new())], ..Txn::default() };
        assert!(matches!(wait(store.txn(unnamed)), Err(StoreError::BadKey { size: 0, .. })));
        let pages = vec![vec![0; VALUE_MAX]; APPEND_MAX / VALUE_MAX + 1];
        assert!(matches!(wait(journal.append(pages)), Err(StoreError::RequestTooLarge { .. })));
        assert_eq!((store.revision(), wait(store.all("")).unwrap().len(), journal.last()), (0, 0, 0));
        wait(store.write(vec![Op::put("exact", vec![0; VALUE_MAX])])).unwrap();
    });
}

#[test]
fn large_values_are_whole_or_not_there_and_leave_no_chunks() {
    on_each_backend(|open, _| {
        let (store, _) = open();
        let value =
            |size: usize, seed: u8| (0..size).map(|n| (n as u8).wrapping_add(seed)).collect::<Vec<u8>>();
        for (seed, size) in [0, 1, CHUNK_MAX, CHUNK_MAX + 1, 3 * CHUNK_MAX, 10].into_iter().enumerate() {
            let value = value(size, seed as u8);
            wait(store.put_chunked("big", &value, vec![Op::put("also", [seed as u8])])).unwrap();
            assert_eq!(wait(store.get_chunked("big")).unwrap().unwrap(), value);
            let keys = wait(store.all("big")).unwrap().len();
            let chunks = if size > CHUNK_MAX { size.div_ceil(CHUNK_MAX) } else { 0 };
            assert_eq!(keys, 1 + chunks, "only the chunks of the head are there");
        }
        // A crash between the chunks and the head.
        wait(store.write(vec![Op::put("big/~00000000000000000099/000000", "torn")])).unwrap();
        assert_eq!(wait(store.heads("big")).unwrap(), ["big"]);
        assert_eq!(wait(store.sweep("big")).unwrap(), 1);
        wait(store.put_chunked("big", &value(2 * CHUNK_MAX, 1), Vec::new())).unwrap();
        assert_eq!(wait(store.sweep("big")).unwrap(), 0, "chunks in use stay");
        wait(store.delete_chunked("big", Vec::new())).unwrap();
        assert!(wait(store.all("big")).unwrap().is_empty());
    });
}

#[test]
fn of_two_that_write_one_large_value_none_is_torn() {
    on_each_backend(|open, _| {
        let (store, _) = open();
        let (a, b) = (vec![1; 2 * CHUNK_MAX], vec![2; 2 * CHUNK_MAX]);
        for _ in 0..5 {
            let results = wait(async {
                let one = store.put_chunked("k", &a, Vec::new());
                let other = store.put_chunked("k", &b, Vec::new());
                tokio::join!(one, other)
            });
            let value = wait(store.get_chunked("k")).unwrap();
            match results {
                (Err(StoreError::Conflict(_)), Err(StoreError::Conflict(_))) => {}
                (Ok(()), Err(StoreError::Conflict(_))) => assert_eq!(value.as_ref(), Some(&a)),
                (Err(StoreError::Conflict(_)), Ok(())) => assert_eq!(value.as_ref(), Some(&b)),
                (Ok(()), Ok(())) => assert!(value == Some(a.clone()) || value == Some(b.clone())),
                other => panic!("{other:?}"),
            }
            wait(store.sweep("k")).unwrap();
        }
    });
}

#[test]
fn who_reads_while_another_writes_gets_one_of_the_values() {
    on_each_backend(|open, _| {
        let (store, _) = open();
        let (a, b) = (vec![1; 2 * CHUNK_MAX], vec![2; 2 * CHUNK_MAX]);
        wait(store.put_chunked("k", &a, Vec::new())).unwrap();
        wait(async {
            for n in 0..5 {
                let (before, after) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
                let (written, read) =
                    tokio::join!(store.put_chunked("k", after, Vec::new()), store.get_chunked("k"));
                written.unwrap();
                let read = read.unwrap().unwrap();
                assert!(read == *before || read == *after);
            }
        });
        // One that is really missing is not waited for.
        let chunk = wait(store.all("k/~")).unwrap().pop().unwrap();
        wait(store.write(vec![Op::delete(chunk.key)])).unwrap();
        assert!(matches!(wait(store.get_chunked("k")), Err(StoreError::Unreadable { .. })));
    });
}

#[test]
fn a_journal_keeps_its_bounds_and_goes_on_counting() {
    on_each_backend(|open, reopens| {
        let (store, journal) = open();
        let part = JOURNAL_BYTES_MAX / 40;
        for _ in 0..50 {
            wait(journal.append(vec![vec![7; part.min(VALUE_MAX)]])).unwrap();
        }
        let records = wait(journal.read(0, 1000)).unwrap();
        assert!(records.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= JOURNAL_BYTES_MAX);
        assert_eq!(records.last().unwrap().0, 50);
        wait(journal.truncate_before(1000)).unwrap();
        assert_eq!(wait(journal.read(0, 1000)).unwrap().len(), 1, "the last one stays");
        drop((store, journal));
        let (_store, journal) = open();
        assert_eq!(wait(journal.append(vec![vec![1]])).unwrap(), 51);
        assert!(!reopens || journal.last() == 51);
    });
}

#[test]
fn what_could_not_be_kept_is_not_there_and_later_writes_are() {
    let faults = Faults::default();
    let (store, _journal) = open_faulty(&faults).unwrap();
    wait(store.write(vec![Op::put("a", "1")])).unwrap();
    faults.full.store(true, Ordering::SeqCst);
    for n in 0..3 {
        let refused = wait(store.write(vec![Op::put("a", "2")])).unwrap_err();
        match n {
            // Neither could it be read again.
            0 => assert!(matches!(refused, StoreError::Unknown(_)), "{refused}"),
            // So nothing was tried.
            _ => assert_eq!(refused, StoreError::Io("full".into())),
        }
        assert_eq!(&wait(store.get("a")).unwrap().unwrap().value[..], b"1");
    }
    faults.full.store(false, Ordering::SeqCst);
    let outcome = wait(store.txn(Txn {
        compare: vec![Compare::Value("a".into(), b"1".to_vec())],
        success: vec![Op::put("a", "3")],
        failure: Vec::new(),
    }));
    assert!(outcome.unwrap().succeeded);
    assert_eq!(&wait(store.get("a")).unwrap().unwrap().value[..], b"3");
}

#[test]
fn what_was_kept_though_the_disk_said_no_is_there_and_known() {
    let faults = Faults::default();
    let (store, _journal) = open_faulty(&faults).unwrap();
    wait(store.write(vec![Op::put("a", "1")])).unwrap();
    faults.deny_after(0);
    wait(store.write(vec![Op::put("a", "2")])).unwrap();
    assert_eq!(&wait(store.get("a")).unwrap().unwrap().value[..], b"2");
    let outcome = wait(store.txn(Txn {
        compare: vec![Compare::Value("a".into(), b"2".to_vec())],
        success: vec![Op::put("a", "3")],
        failure: Vec::new(),
    }));
    assert!(outcome.unwrap().succeeded);
}

#[test]
fn a_file_is_private_and_has_one_owner() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let held = open_redb(&path, Durability::Process).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(open_redb(&path, Durability::Process).err(), Some(StoreError::Locked(path.clone())));
    drop(held);
    open_redb(&path, Durability::Process).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_damaged_file_is_an_error_and_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    {
        let (store, _journal) = open_redb(&path, Durability::Machine).unwrap();
        for n in 0..50 {
            wait(store.write(vec![Op::put(format!("k{n}"), vec![n; 500])])).unwrap();
        }
    }
    let whole = std::fs::read(&path).unwrap();
    let open_with = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        match open_redb(&path, Durability::Machine) {
            Ok(_) | Err(StoreError::Corrupt { .. } | StoreError::Io(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    };
    for cut in [1, 8, 100, 511, 4096, whole.len() / 2, whole.len() - 1] {
        open_with(&whole[..cut]);
    }
    for at in (0..whole.len()).step_by(whole.len() / 60) {
        let mut damaged = whole.clone();
        let end = (at + 64).min(damaged.len());
        damaged[at..end].fill(0xff);
        open_with(&damaged);
    }
    open_with(&[0x5a; 10_000]);
    assert!(matches!(open_redb(dir.path(), Durability::Machine), Err(StoreError::Io(_))));
}

const CHILD: &str = "UPBEAT_STORE_CHILD";

/// Not a test of its own: what the next one starts as a process to kill.
#[test]
fn writer_that_will_be_killed() {
    let Ok(value) = std::env::var(CHILD) else { return };
    let (durability, path) = value.split_once(':').unwrap();
    let durability = if durability == "machine" { Durability::Machine } else { Durability::Process };
    let (store, journal) = open_redb(Path::new(path), durability).unwrap();
    let first = wait(store.get("n"))
        .unwrap()
        .map_or(0, |kv| std::str::from_utf8(&kv.value).unwrap().parse().unwrap());
    for n in first + 1.. {
        let big = vec![n as u8; 2000];
        wait(store.write(vec![Op::put("n", n.to_string()), Op::put(format!("v{}", n % 50), big)])).unwrap();
        wait(journal.append(vec![n.to_string().into_bytes()])).unwrap();
        println!("acknowledged {n}");
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    for durability in ["machine", "process"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        for round in 0..6u64 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "tests::writer_that_will_be_killed", "--nocapture"])
                .env(CHILD, format!("{durability}:{}", path.display()))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let acknowledged = lines
                .map_while(Result::ok)
                .filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok());
            // After so many writes, and wherever it is by the time the signal arrives.
            let mut last = 0;
            for (count, n) in acknowledged.enumerate() {
                last = n;
                if count as u64 == 5 + round * 7 {
                    child.kill().unwrap();
                }
            }
            child.wait().unwrap();
            let durability = if durability == "machine" { Durability::Machine } else { Durability::Process };
            let (store, journal) = open_redb(&path, durability).unwrap();
            let n: u64 =
                std::str::from_utf8(&wait(store.get("n")).unwrap().unwrap().value).unwrap().parse().unwrap();
            assert!(n == last || n == last + 1, "acknowledged {last}, found {n}");
            let value = wait(store.get(&format!("v{}", n % 50))).unwrap().unwrap().value;
            assert!(value.len() == 2000 && value.iter().all(|byte| *byte == n as u8), "a torn value");
            let records = wait(journal.read(0, 1000)).unwrap();
            let numbers: Vec<u64> = records.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
            // Each kill so far may have come between the two.
            assert!(journal.last() + round + 1 >= last);
        }
    }
}

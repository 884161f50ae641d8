//! The audit log of a daemon that runs out of files: alone in its process, whose limit it sets.

use std::fs::File;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use upbeat_control::audit::{Audit, AuditSettings, Key, Limits};
use upbeat_model::{Asked, Need, Wall};

/// Far more than the test needs.
const FEW_FILES: u64 = 64;

fn asked(what: &str) -> Asked {
    let (method, route) = ("POST".to_owned(), "/api/v1/apps/{app}/actions".to_owned());
    Asked { who: "uid 1000".into(), from: None, method, route, app: None, what: what.into() }
}

/// As many files as there may be.
fn all_there_are() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

async fn log() -> (Audit, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, _journal) = upbeat_store::open_memory().expect("a store");
    let (key, wall, limits) = (Key::of_hex(&"07".repeat(32)).expect("a key"), || Wall(5), Limits::default());
    let path = dir.path().join("audit");
    let settings = AuditSettings { dir: path, key, key_is_new: false, limits, wall };
    (Audit::open(store, settings).await.expect("a log"), dir)
}

#[tokio::test]
async fn a_segment_for_which_there_are_not_files_enough_is_not_half_begun() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(FEW_FILES), ..limit }).unwrap();
    // Whichever of the files it needs is the one it does not get.
    // Logs that are gone would give files back meanwhile.
    let (mut refused, mut logs) = (0, Vec::new());
    for spare in 0..4 {
        let (audit, dir) = log().await;
        let mut taken = all_there_are();
        taken.truncate(taken.len() - spare);
        let outcome = audit.asked(asked("with few"), Need::Recorded).await;
        drop(taken);
        refused += usize::from(outcome.is_err());
        drop(audit.asked(asked("with many"), Need::Recorded).await.unwrap());
        let records = audit.read(0, Wall(0), 100).await.unwrap();
        let (good, bad) = (records.len() as u64, audit.verify().await.unwrap().bad);
        assert_eq!((records.last().map(|r| r.sequence), bad), (Some(good), None), "with {spare} to spare");
        assert!(good >= 2, "with {spare} to spare: all that was acknowledged, or missed, is there");
        logs.push((audit, dir));
    }
    assert!(refused >= 2, "a segment takes two files");
}

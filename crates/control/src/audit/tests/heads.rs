//! Heads that the store could not keep, or could not say that it has.

use super::*;

/// The store has kept a head, and could not say so: it is found out before anything goes on.
#[tokio::test]
async fn a_head_whose_fate_is_not_known_is_found_out() {
    let faults = upbeat_store::faults::Faults::default();
    let (store, _journal) = upbeat_store::faults::open_faulty(&faults).unwrap();
    let room = Room { store, ..Room::new() };
    let audit = room.open().await;
    audit.asked(asked(1), Need::Recorded).await.unwrap();
    audit.read(0, Wall(0), 0).await.unwrap();
    faults.deny_after(0);
    faults.then_full.store(true, std::sync::atomic::Ordering::SeqCst);
    audit.asked(asked(2), Need::Recorded).await.unwrap();
    for n in 3..5 {
        let refused = audit.asked(asked(n), Need::Recorded).await;
        assert!(matches!(refused, Err(AuditError::Store(_))), "{refused:?}");
    }
    faults.full.store(false, std::sync::atomic::Ordering::SeqCst);
    for n in 5..8 {
        audit.asked(asked(n), Need::Recorded).await.unwrap();
    }
    audit.read(0, Wall(0), 0).await.unwrap();
    drop(audit);
    assert_eq!(room.verdict().await.bad, None);
}

/// A head the store could not keep is kept once it can, though nobody asks for anything more.
#[tokio::test(start_paused = true)]
async fn a_head_that_was_left_behind_is_kept_without_being_asked() {
    let faults = upbeat_store::faults::Faults::default();
    let (store, _journal) = upbeat_store::faults::open_faulty(&faults).unwrap();
    let room = Room { store, ..Room::new() };
    let audit = room.open().await;
    let full = |is| faults.full.store(is, std::sync::atomic::Ordering::SeqCst);
    full(true);
    drop(audit.asked(asked(1), Need::Recorded).await.unwrap());
    audit.read(0, Wall(0), 0).await.unwrap();
    full(false);
    for _ in 0..100 {
        if anchor(&room.store).await.unwrap().is_some_and(|head| head.count == 1) {
            return;
        }
        tokio::time::sleep(AGAIN).await;
        // The store's thread has no part in the time of this test: what it was asked before is done by then.
        room.store.settle().await.unwrap();
    }
    panic!("it was left behind");
}

#[tokio::test]
async fn a_head_that_was_left_behind_is_kept_at_the_end() {
    let room = Room::new();
    let (mut book, _) = Book::open(room.path(), room.key.clone(), room.limits, None).unwrap();
    book.append(Wall(5), &[AuditEntry::Asked(asked(1))]).unwrap();
    let head = book.head().clone();
    let store = room.store.clone();
    let wall = || Wall(5);
    let (book, gap) = (Some(book), None);
    let writer = Writer { book, store, anchor: None, wall, unsure: None, is_behind: true, gap, told: 0 };
    let (_, nobody) = mpsc::channel(1);
    writer.run(nobody).await;
    assert_eq!(anchor(&room.store).await.unwrap(), Some(head));
}

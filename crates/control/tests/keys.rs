//! A change that is asked for again under its key is made once, also by the next daemon.

use std::sync::atomic::Ordering;

use upbeat_control::{Control, ControlError, Settings};
use upbeat_model::device::{Change, Seek};
use upbeat_model::file::{Context, Source, parse};
use upbeat_model::{Action, AppName, IdempotencyKey, OperationId, Origin, Project, Wall};
use upbeat_store::faults::{Faults, open_faulty};
use upbeat_store::{Journal, Store, StoreError};

fn project() -> Project {
    let services: String = (1..=9).map(|n| format!("  s{n}: {{ command: [sleep, '1'] }}\n")).collect();
    let text = format!("services:\n{services}");
    let source = Source { name: "upbeat.yaml", text: &text };
    let nothing = |_: &str| None;
    let context = Context::new("/shop", "shop", &nothing);
    parse(&[source], &context).expect("a good file").project
}

fn by(who: &str, key: &str) -> Origin {
    Origin { who: who.to_owned(), key: IdempotencyKey::new(key).ok() }
}

async fn open((store, journal): &(Store, Journal)) -> Control {
    let settings = Settings { boot_id: "boot".to_owned(), wall: || Wall(7), failpoint: |_| {} };
    Control::open(store.clone(), journal.clone(), settings).await.expect("an empty store")
}

/// Of the first service there are so many.
fn scale(count: u32) -> Action {
    Action::Scale { services: [("s1".parse().expect("a name"), count)].into() }
}

fn generation(control: &Control) -> u64 {
    control.target().borrow().slots.values().map(|slot| slot.generation).sum()
}

#[tokio::test]
async fn a_request_that_comes_again_is_made_once() {
    let files = upbeat_store::open_memory().unwrap();
    let shop = AppName::new("shop").unwrap();
    let restart = Action::Restart { services: Vec::new() };
    let control = open(&files).await;
    let up = control.up(project(), &[], by("ann", "a")).await.unwrap();
    assert_eq!(control.up(project(), &[], by("ann", "a")).await.unwrap(), up);
    let first = control.act(&shop, &restart, by("ann", "b")).await.unwrap();
    let restarted = generation(&control);
    drop(control);
    // The answer was lost with the daemon.
    let control = open(&files).await;
    let again = control.act(&shop, &restart, by("ann", "b")).await.unwrap();
    assert_eq!((again.id, again.what), (first.id, first.what));
    assert_eq!(generation(&control), restarted);
    let other = control.act(&shop, &restart, by("ann", "c")).await.unwrap();
    assert_eq!(other.id, OperationId(3));
    assert!(generation(&control) > restarted, "another one is another change");
}

#[tokio::test]
async fn what_a_bunch_of_commands_wants_is_shown_once_also_where_one_of_them_fails() {
    let files = upbeat_store::open_memory().unwrap();
    let control = open(&files).await;
    let seen = || (control.target().borrow().revision, control.target().borrow().slots.len());
    let (before, _) = seen();
    let declared = |name: &str| {
        let app = AppName::new(name).unwrap();
        let seek = Seek::Declared {
            project: Project { name: app.clone(), ..project() },
            release: "r1".parse().unwrap(),
            name: None,
            text: Default::default(),
            stopped: Vec::new(),
        };
        Change { app, stamp: None, seek }
    };
    let bunch = control.bunch();
    for name in ["a", "b"] {
        bunch.seek(declared(name), by("ann", name)).await.unwrap();
    }
    bunch.seek(declared("a"), by("ann", "d")).await.unwrap_err();
    assert_eq!(seen(), (before, 0), "and each of them is on record");
    drop(bunch);
    assert_eq!(seen(), (before + 1, 18));
    let bunch = control.bunch();
    bunch.seek(declared("c"), by("ann", "c")).await.unwrap();
    control.act(&AppName::new("a").unwrap(), &scale(2), by("ann", "e")).await.unwrap();
    assert_eq!(seen(), (before + 2, 28), "what others ask for meanwhile is shown at once");
    drop(bunch);
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let files = upbeat_store::open_memory().unwrap();
    let control = open(&files).await;
    control.up(project(), &[], by("ann", "a")).await.unwrap();
    let shop = AppName::new("shop").unwrap();
    let refused = control.down(&shop, false, by("ann", "a")).await.unwrap_err();
    assert!(matches!(refused, ControlError::OtherRequest { id: OperationId(1), .. }), "{refused}");
    assert_eq!(refused.to_string(), "the idempotency key belongs to operation 1, `up` of `shop`");
    // However alike the words are.
    let many: Vec<_> = (1..=9).map(|n| upbeat_model::ServiceName::new(format!("s{n}")).unwrap()).collect();
    let stop = |services: &[_]| Action::Stop { services: services.to_vec(), kill: false };
    control.up(project(), &[], by("ann", "c")).await.unwrap();
    let (some, others) = (stop(&many[..6]), stop(&[&many[..5], &many[8..]].concat()));
    assert!(control.act(&shop, &some, by("ann", "d")).await.is_ok());
    let refused = control.act(&shop, &others, by("ann", "d")).await.unwrap_err();
    assert!(matches!(refused, ControlError::OtherRequest { .. }), "{refused}");
    // Nor is it another person's.
    let refused = control.up(project(), &[], by("bob", "a")).await.unwrap_err();
    assert!(matches!(refused, ControlError::OtherRequest { .. }), "{refused}");
    assert_eq!(control.target().borrow().slots.len(), 9, "it has changed nothing");
}

/// A commit that failed may be on the disk all the same: then it is in force, and known to be.
#[tokio::test]
async fn a_command_whose_fate_is_not_known_is_found_out_before_the_next() {
    let faults = Faults::default();
    let files = open_faulty(&faults).unwrap();
    let shop = AppName::new("shop").unwrap();
    let control = open(&files).await;
    control.up(project(), &[], by("ann", "a")).await.unwrap();
    // The disk takes the operation, then the command; of the command it says that it has not.
    control.act(&shop, &scale(2), by("ann", "b")).await.unwrap();
    faults.deny_after(1);
    let kept = control.act(&shop, &scale(3), by("ann", "c")).await;
    assert!(kept.is_ok(), "{kept:?}");
    assert_eq!(control.target().borrow().slots.len(), 11);
}

#[tokio::test]
async fn nothing_is_decided_before_that_is_known() {
    let faults = Faults::default();
    let files = open_faulty(&faults).unwrap();
    let shop = AppName::new("shop").unwrap();
    let control = open(&files).await;
    control.up(project(), &[], by("ann", "a")).await.unwrap();
    faults.deny_after(1);
    faults.then_full.store(true, Ordering::SeqCst);
    let unknown = control.act(&shop, &scale(3), by("ann", "b")).await.unwrap_err();
    assert!(matches!(unknown, ControlError::Unsure(StoreError::Unknown(_))), "{unknown}");
    let refused = control.act(&shop, &scale(5), by("ann", "c")).await.unwrap_err();
    assert!(matches!(refused, ControlError::Store(StoreError::Io(_))), "{refused}");
    assert_eq!(control.target().borrow().slots.len(), 9);
    faults.full.store(false, Ordering::SeqCst);
    // The same request, sent again, is the one that was kept.
    let again = control.act(&shop, &scale(3), by("ann", "b")).await.unwrap();
    assert_eq!(again.id, OperationId(2));
    assert_eq!(control.target().borrow().slots.len(), 11);
    assert_eq!(control.act(&shop, &scale(5), by("ann", "c")).await.unwrap().id, OperationId(3));
}

//! A change that is asked for again under its key is made once, also by the next daemon.

use upbeat_control::{Control, ControlError, Settings};
use upbeat_model::file::{Context, Source, parse};
use upbeat_model::{Action, AppName, IdempotencyKey, OperationId, Origin, Project, Wall};
use upbeat_store::{Journal, Store};

fn project() -> Project {
    let source = Source { name: "upbeat.yaml", text: "services: { web: { command: [sleep, '1'] } }" };
    let context = Context { project_dir: "/shop", default_name: "shop", environment: &|_| None };
    parse(source, &context).expect("a good file").project
}

fn by(who: &str, key: &str) -> Origin {
    Origin { who: who.to_owned(), key: IdempotencyKey::new(key).ok() }
}

async fn open((store, journal): &(Store, Journal)) -> Control {
    let settings = Settings { boot_id: "boot".to_owned(), wall: || Wall(7), failpoint: |_| {} };
    Control::open(store.clone(), journal.clone(), settings).await.expect("an empty store")
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
async fn a_key_belongs_to_one_request() {
    let files = upbeat_store::open_memory().unwrap();
    let control = open(&files).await;
    control.up(project(), &[], by("ann", "a")).await.unwrap();
    let shop = AppName::new("shop").unwrap();
    let refused = control.down(&shop, false, by("ann", "a")).await.unwrap_err();
    assert!(matches!(refused, ControlError::OtherRequest { id: OperationId(1), .. }), "{refused}");
    assert_eq!(refused.to_string(), "the idempotency key belongs to operation 1, `up` of `shop`");
    // Nor is it another person's.
    let refused = control.up(project(), &[], by("bob", "a")).await.unwrap_err();
    assert!(matches!(refused, ControlError::OtherRequest { .. }), "{refused}");
    assert_eq!(control.target().borrow().slots.len(), 1, "it has changed nothing");
}

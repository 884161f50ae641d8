//! An app that is to stop with one of its services is stopped, also when the disk is full at that moment.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use upbeat_control::{Control, Settings};
use upbeat_decide::Change;
use upbeat_model::file::{Context, Source, parse};
use upbeat_model::target::Goal;
use upbeat_model::{AppName, Attempt, Exit, OperationId, Origin, Phase, Project, SlotId, SlotStatus, Wall};
use upbeat_store::faults::{Faults, open_faulty};

fn project() -> Project {
    let text = "services:\n  web: { command: [x] }\n  job: { command: [x], exit_on_end: true }\n";
    let source = Source { name: "upbeat.yaml", text };
    let nothing = |_: &str| None;
    parse(&[source], &Context::new("/shop", "shop", &nothing)).expect("a good file").project
}

/// The job has ended, under this operation.
fn ended(operation: u64) -> Vec<Change> {
    let slot: SlotId = "shop/job/1".parse().expect("a slot");
    let status = SlotStatus {
        slot,
        goal: Goal::Running,
        phase: Phase::Completed,
        attempt: Attempt(1),
        pid: None,
        container: None,
        exit: Some(Exit::Code(0)),
        restarts: 0,
        since: Wall(0),
        started_at: None,
        log_start: None,
        health: None,
        probes: BTreeMap::new(),
        says: None,
        reasons: Vec::new(),
        operation: OperationId(operation),
        release: 1,
    };
    vec![Change {
        from: Phase::Running,
        status,
        mark: None,
        timeline: None,
        up_since: None,
        is_looked_at: true,
        is_seen: true,
    }]
}

fn goals(control: &Control) -> Vec<Goal> {
    control.target().borrow().slots.values().map(|slot| slot.goal).collect()
}

#[tokio::test]
async fn an_end_that_could_not_be_kept_is_tried_again_and_one_that_is_over_is_not() {
    let faults = Faults::default();
    let files = open_faulty(&faults).expect("a store");
    let settings = Settings { boot_id: "boot".to_owned(), wall: || Wall(7), failpoint: |_| {} };
    let control = Control::open(files.0, files.1, settings).await.expect("an empty store");
    let ann = || Origin { who: "ann".to_owned(), key: None };
    control.up(project(), &[], ann()).await.expect("room");
    let mut target = control.target();
    faults.full.store(true, Ordering::SeqCst);
    control.report(ended(1)).await;
    control.report(ended(1)).await;
    assert_eq!(goals(&control), [Goal::Running; 2], "there is no room");
    faults.full.store(false, Ordering::SeqCst);
    target.mark_unchanged();
    target.changed().await.expect("control is there");
    assert_eq!(goals(&control), [Goal::Stopped; 2]);
    let stop = control.operation(OperationId(2)).expect("it was kept");
    let (slot, how) = stop.is_end_of().expect("it follows from an end");
    assert_eq!((slot.to_string().as_str(), how), ("shop/job/1", "exit 0"));
    // It is told again, and before and after somebody wants it to run again.
    control.report(ended(1)).await;
    control.up(project(), &[], ann()).await.expect("room");
    control.report(ended(1)).await;
    assert_eq!(goals(&control), [Goal::Running; 2]);
    control.report(ended(3)).await;
    assert_eq!(goals(&control), [Goal::Stopped; 2]);
    let shop = AppName::new("shop").expect("a name");
    assert_eq!(control.app(&shop).expect("it is there").slots.len(), 2);
}

//! Lists of rollouts on the command line.

use upbeat_api::{Event, EventKind};
use upbeat_model::rollout::{
    Counts, CourseWord, EntityId, Happened, RolloutState, RolloutsPage, UnitsPage, Unreadable, Version,
};

use super::room::Room;
use super::script::Script;
use crate::face::examples::NOW;

fn state(entity: &str) -> RolloutState {
    let version = Version::new("v2").ok();
    RolloutState {
        course: CourseWord::Forward,
        target: version.clone(),
        rolling: version,
        counts: Counts { total: 3, well: 1, on_the_way: 2, ..Counts::default() },
        ..RolloutState::unknown(&EntityId::new("a/b", entity).unwrap())
    }
}

fn lost(name: &str) -> Unreadable {
    Unreadable { namespace: "a/b".into(), name: name.into(), why: "the disk is full".into() }
}

fn script() -> Script {
    let script = Script::of(Vec::new());
    let page = |entities: &[&str], unreadable, next: Option<&str>| RolloutsPage {
        rollouts: entities.iter().map(|entity| state(entity)).collect(),
        unreadable,
        next: next.map(str::to_owned),
    };
    let pages = [
        page(&["a", "b"], vec![lost("old")], Some("a%2Fb/b")),
        page(&[], Vec::new(), Some("a%2Fb/x")),
        page(&["y"], Vec::new(), None),
    ];
    script.rollouts.pages.lock().unwrap().extend(pages);
    script
}

#[tokio::test]
async fn all_pages_are_one_list_and_who_cannot_be_read_is_named() {
    let room = Room::new();
    let listing = script();
    let listed = room.with(listing.clone(), &["rollout", "ls", "a/b"]).await;
    insta::assert_snapshot!(listed, @r"
    ROLLOUT  STATE           VERSION  WELL  FAILED  SINCE
    a/b/a    rolling out     v2       1/3   0       –
    a/b/b    rolling out     v2       1/3   0       –
    a/b/y    rolling out     v2       1/3   0       –
    a/b/old  cannot be read  ?        ?     ?       ?
    --- Failed
    note: `a/b/old` cannot be read: the disk is full
    ");
    let wanted = listing.rollouts.wanted.lock().unwrap().clone();
    let after = wanted.iter().map(|wanted| wanted.after.as_ref().map(ToString::to_string));
    assert_eq!(after.collect::<Vec<_>>(), [None, Some("a/b/b".to_owned()), Some("a/b/x".to_owned())]);
    assert!(wanted.iter().all(|wanted| wanted.namespace.as_deref() == Some("a/b")));
    insta::assert_snapshot!(room.with(script(), &["rollout", "ls", "--quiet"]).await, @r"
    a/b/a
    a/b/b
    a/b/y
    --- Failed
    ");
    let json = room.with(script(), &["rollout", "ls", "-o", "json"]).await;
    assert_eq!(json.matches("\"entity\":").count(), 3, "{json}");
}

#[tokio::test]
async fn units_are_listed_in_the_same_way() {
    let script = Script::of(Vec::new());
    let pages = [
        UnitsPage { next: Some("prod/a".into()), ..UnitsPage::default() },
        UnitsPage { unreadable: vec![lost("release")], ..UnitsPage::default() },
    ];
    script.rollouts.units.lock().unwrap().extend(pages);
    insta::assert_snapshot!(Room::new().with(script, &["rollout", "unit", "ls"]).await, @r"
    UNIT         STATE           GOOD  SINCE
    a/b/release  cannot be read  ?     ?
    --- Failed
    note: `a/b/release` cannot be read: the disk is full
    ");
}

#[tokio::test]
async fn events_of_a_rollout_are_those_of_no_app() {
    let event = |sequence, namespace: &str, entity: &str| Event {
        sequence,
        at: NOW,
        app: None,
        kind: EventKind::Rollout {
            namespace: namespace.into(),
            entity: entity.into(),
            number: sequence,
            what: Happened::Paused { by: "ann".into() },
        },
    };
    let script = Script::of(Vec::new()).with(|facts| {
        facts.events =
            vec![event(1, "a", "b"), event(2, "a", "b/c"), event(3, "a/b", "c"), event(4, "a", "b/c")];
    });
    for more in [&[][..], &["-f"]] {
        let (room, typed) = (Room::new(), [&["events", "--json", "--rollout", "a/b/c"], more].concat());
        let told = room.with(script.clone(), &typed).await;
        let numbers: Vec<&str> =
            told.lines().filter_map(|line| line.split("\"sequence\":").nth(1)?.get(..1)).collect();
        assert_eq!(numbers, ["2", "4"], "{told}");
    }
}

//! Stories of what rests on something that is about to be another.

use std::collections::BTreeMap;

use upbeat_model::project::{Condition, Dependency, RestartPolicy, Service};
use upbeat_model::{Exit, Millis, ServiceName};

use super::containers::of;
use super::story::Story;
use crate::instance::{Observation, Unprepared};

/// `web` needs `once` to complete; both are of this image.
fn migrated(image: &str) -> BTreeMap<ServiceName, Service> {
    let mut services = of(&[("once", image), ("web", image)]);
    let web = services.get_mut("web").unwrap();
    let edge = Dependency { condition: Condition::CompletedSuccessfully, ..Dependency::default() };
    web.depends_on.insert(ServiceName::new("once").unwrap(), edge);
    services
}

#[test]
fn what_is_new_does_not_start_on_what_an_older_file_has_completed() {
    let mut story = Story::new();
    story.up_of(migrated("x:1"));
    story.prepared("once", "o1");
    story.prepared("web", "w1");
    story.started("once");
    story.exits("once", Exit::Code(0));
    story.started("web");
    story.ordered();
    story.up_of(migrated("x:2"));
    assert_eq!(story.ordered(), ["prepare once x:2", "prepare web x:2"]);
    // It can only be made when `web` has stopped: by then `web` is made, and `once` is not.
    story.prepare_fails("once", Unprepared::HeldUp("a network is in use".into()));
    assert_eq!(story.ordered(), ["observe container once"], "it may be its own");
    let attempt = story.attempt("once");
    story.seen("once", Observation::Ended { attempt, exit: Exit::Code(0) });
    story.prepared("web", "w2");
    assert_eq!(story.ordered(), ["stop web SIGTERM 10s"]);
    story.exits("web", Exit::Code(0));
    assert_eq!((story.ordered(), story.phase("once")), (vec![], "completed".into()));
    assert_eq!(story.why("web"), "waits for once-1, which is about to be another");
    story.prepared("once", "o2");
    assert_eq!(story.ordered(), ["start once #2 as o2"]);
    story.started("once");
    story.exits("once", Exit::Code(0));
    assert_eq!(story.ordered(), ["start web #2 as w2"]);
}

#[test]
fn what_falls_while_something_else_is_made_goes_on_with_what_there_is() {
    let mut story = Story::new();
    let services = |image: &str| {
        let mut services = of(&[("db", image), ("web", "web:1")]);
        let web = services.get_mut("web").unwrap();
        web.restart = RestartPolicy::Always;
        web.depends_on.insert(ServiceName::new("db").unwrap(), Dependency::default());
        services
    };
    story.up_of(services("db:1"));
    story.prepared("db", "d1");
    story.prepared("web", "w1");
    story.started("db");
    story.started("web");
    story.ordered();
    story.up_of(services("db:2"));
    story.prepared("web", "w1");
    story.exits("web", Exit::Code(1));
    assert_eq!(story.ordered(), ["prepare db db:2", "prepare web web:1", "start web #2 as w1"]);
    // What comes new meanwhile waits for the new one, and no longer when that cannot be made.
    let mut more = services("db:2");
    more.insert(ServiceName::new("new").unwrap(), more[&ServiceName::new("web").unwrap()].clone());
    story.up_of(more);
    story.prepared("web", "w1");
    story.prepared("new", "n1");
    assert_eq!(story.why("new"), "waits for db-1, which is about to be another");
    story.ordered();
    story.prepare_fails("db", Unprepared::Failed("there is no such image".into()));
    assert_eq!(story.ordered(), ["start new #1 as n1"]);
}

#[test]
fn what_waits_for_something_that_cannot_be_made_has_failed_until_it_can() {
    let mut story = Story::new();
    let mut services = of(&[("db", "db:1"), ("web", "web:1"), ("front", "!front")]);
    for (service, needs) in [("web", "db"), ("front", "web")] {
        let service = services.get_mut(service).unwrap();
        service.depends_on.insert(ServiceName::new(needs).unwrap(), Dependency::default());
    }
    story.up_of(services);
    story.prepared("web", "w");
    assert_eq!([story.wish("web"), story.wish("front")], ["None", "None"]);
    story.prepare_fails("db", Unprepared::Failed("there is no such image".into()));
    assert_eq!(story.why("web"), "waits for db to be started, but db-1 cannot be started");
    assert_eq!(story.why("front"), "waits for web to be started, but web-1 cannot be started");
    for slot in ["db", "web", "front"] {
        assert!(story.wish(slot).starts_with("Some(Failed"), "{slot}: {}", story.wish(slot));
    }
    story.ordered();
    story.pass(Millis::seconds(2));
    story.prepared("db", "d");
    assert!(story.ordered().contains(&"start db #1 as d".to_owned()));
    assert_eq!(story.why("web"), "waits for db to be started (db-1 is starting)");
    story.started("db");
    story.started("web");
    assert_eq!(story.ordered(), ["start web #1 as w", "start front #1"]);
}

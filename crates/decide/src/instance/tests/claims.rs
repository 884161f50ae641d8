//! Stories of what only one container can have at a time.

use std::collections::BTreeMap;

use upbeat_model::project::Service;
use upbeat_model::project::container::{Port, Protocol};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Millis, ServiceName};

use super::containers::of;
use super::story::Story;
use crate::instance::{Input, Unprepared};

/// These, of which the named ones publish a port or have a name of their own.
fn having(named: &[(&str, &str)], port: &[&str], name: &[&str]) -> BTreeMap<ServiceName, Service> {
    let mut services = of(named);
    for (service, spec) in &mut services {
        let Some(container) = spec.container.as_mut() else { continue };
        if port.contains(&service.as_str()) {
            let published = Some("8080".to_owned());
            container.ports.push(Port { target: 80, published, host_ip: None, protocol: Protocol::Tcp });
        }
        if name.contains(&service.as_str()) {
            container.name = Some("front".to_owned());
        }
    }
    services
}

#[test]
fn a_port_that_goes_to_another_is_waited_for() {
    let mut story = Story::new();
    story.up_of(having(&[("old", "x"), ("other", "x")], &["old"], &[]));
    story.prepared("old", "o");
    story.prepared("other", "p");
    story.started("old");
    story.started("other");
    story.ordered();
    story.up_of(having(&[("new", "x"), ("other", "y")], &["new"], &[]));
    story.prepared("new", "n");
    assert_eq!(story.why("new"), "waits for old-1 to stop, which has port 8080/tcp");
    assert_eq!(story.why("old"), "runs on until other-1 can be started");
    assert_eq!(story.wish("new"), "None");
    story.prepared("other", "p2");
    story.ordered();
    assert_eq!(story.why("new"), "waits for old-1 to stop, which has port 8080/tcp");
    story.exits("old", Exit::Code(0));
    assert_eq!(story.ordered(), ["remove container old", "start new #1 as n"]);
}

#[test]
fn a_port_of_one_that_stays_is_not_waited_for() {
    let mut story = Story::new();
    story.up_of(having(&[("a", "x")], &["a"], &[]));
    story.prepared("a", "a");
    story.started("a");
    story.ordered();
    story.up_of(having(&[("a", "x"), ("b", "x")], &["a", "b"], &[]));
    story.prepared("a", "a");
    story.prepared("b", "b");
    assert_eq!(
        story.ordered(),
        ["prepare a x", "prepare b x", "start b #1 as b"],
        "the engine says who has it"
    );
    // It is when that one goes after all.
    let attempt = story.attempt("b");
    story.take("b", Input::StartFailed { attempt, why: "taken".into() });
    story.command(Goal::Stopped, Ask::Ensure, &["a"]);
    story.command(Goal::Running, Ask::Start, &["b"]);
    story.prepared("b", "b");
    assert_eq!(story.why("b"), "waits for a-1 to stop, which has port 8080/tcp");
    story.exits("a", Exit::Code(0));
    assert_eq!(story.ordered().last().unwrap(), "start b #2 as b");
}

#[test]
fn a_name_is_free_when_the_container_that_has_it_is_gone() {
    let mut story = Story::new();
    story.up_of(having(&[("old", "x")], &[], &["old"]));
    story.prepared("old", "o");
    story.started("old");
    story.ordered();
    story.up_of(having(&[("new", "x")], &[], &["new"]));
    story.prepared("new", "n");
    story.exits("old", Exit::Code(0));
    assert_eq!(story.why("new"), "waits for old-1 to stop, which has the name `front`");
    story.ordered();
    story.take("old", Input::Removed);
    assert_eq!(story.ordered(), ["start new #1 as n"]);
}

#[test]
fn a_port_that_is_not_given_up_after_all_is_not_waited_for() {
    let mut story = Story::new();
    story.up_of(having(&[("old", "x"), ("other", "x")], &["old"], &[]));
    story.prepared("old", "o");
    story.prepared("other", "p");
    story.started("old");
    story.started("other");
    // `old` gives its port up as soon as `other` is made, and `new` wants it.
    story.up_of(having(&[("old", "x"), ("other", "y"), ("new", "x")], &["new"], &[]));
    story.prepared("old", "o2");
    story.prepared("new", "n");
    assert_eq!(story.why("new"), "waits for old-1 to stop, which has port 8080/tcp");
    story.ordered();
    // It keeps it: the engine says who has it.
    story.up_of(having(&[("old", "x"), ("other", "y"), ("new", "x")], &["old", "new"], &[]));
    story.prepared("old", "o");
    story.prepared("new", "n");
    assert!(story.ordered().contains(&"start new #1 as n".to_owned()));
}

#[test]
fn a_port_that_is_not_given_up_as_something_cannot_be_made_is_a_failure_that_is_said() {
    let mut story = Story::new();
    story.up_of(having(&[("old", "x"), ("other", "x")], &["old"], &[]));
    story.prepared("old", "o");
    story.prepared("other", "p");
    story.started("old");
    story.started("other");
    story.up_of(having(&[("old", "x"), ("other", "y"), ("new", "x")], &["new"], &[]));
    story.prepared("old", "o2");
    story.prepared("new", "n");
    assert_eq!(story.wish("new"), "None");
    story.prepare_fails("other", Unprepared::Failed("there is no such image".into()));
    assert!(story.wish("new").starts_with("Some(Failed"), "{}", story.wish("new"));
    let why =
        "waits for old-1 to stop, which has port 8080/tcp and runs on, as not all that is new can be made";
    assert_eq!(story.why("new"), why);
    assert!(story.wish("old").starts_with("Some(Failed"), "{}", story.wish("old"));
    story.ordered();
    story.pass(Millis::seconds(2));
    story.prepared("other", "p2");
    story.exits("old", Exit::Code(0));
    assert!(story.ordered().contains(&"start new #1 as n".to_owned()));
}

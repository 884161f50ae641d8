//! Stories of containers: made before anything is touched, replaced, taken away, put right.

use std::collections::BTreeMap;

use upbeat_model::project::container::{Attachment, ImageRef, Network, NetworkMode};
use upbeat_model::project::{Dependency, Service};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Millis, OperationId, ServiceName, Wall};

use super::NONE;
use super::story::{Story, id, services};
use crate::instance::{Held, Input, Observation, Taken, Unprepared};
use crate::outcome::outcome;

/// Services by name and image; `!`: a process.
pub(super) fn of(named: &[(&str, &str)]) -> BTreeMap<ServiceName, Service> {
    let service = |(name, image): &(&str, &str)| {
        let name = ServiceName::new(name).unwrap();
        let spec = match image.strip_prefix('!') {
            Some(command) => Service::new(vec![command.to_owned()], "/"),
            None => Service::of_image(ImageRef::parse(image).unwrap()),
        };
        (name, spec)
    };
    named.iter().map(service).collect()
}

impl Story {
    /// `up` of these, as another command than the last; what is not named any more is dropped.
    pub(super) fn up_of(&mut self, services: BTreeMap<ServiceName, Service>) {
        self.operation += 1;
        for (slot, wish) in &mut self.target.slots {
            if !services.contains_key(&slot.service) {
                (wish.goal, wish.operation) = (Goal::Absent, OperationId(self.operation));
            }
        }
        self.declare_all(services);
    }

    pub(super) fn prepared(&mut self, slot: &str, container: &str) {
        let wish = &self.target.slots[&id(slot)];
        let (generation, digest, container) = (wish.generation, wish.digest.clone(), container.to_owned());
        self.take(slot, Input::Prepared { generation, digest, container });
    }

    pub(super) fn prepare_fails(&mut self, slot: &str, why: Unprepared) {
        let wish = &self.target.slots[&id(slot)];
        let (generation, digest) = (wish.generation, wish.digest.clone());
        self.take(slot, Input::PrepareFailed { generation, digest, why });
    }

    pub(super) fn wish(&self, slot: &str) -> String {
        format!("{:?}", outcome(self.node.status(&id(slot)).unwrap()))
    }

    fn running(&self, slot: &str, held: Option<Held>) -> Observation {
        let attempt = self.attempt(slot).max(upbeat_model::Attempt(1));
        Observation::Running { attempt, pid: 7, started_at: Wall(0), log_start: 1, held }
    }
}

/// They run, as containers `a`, `b`, … in the order of their names.
fn up(named: &[(&str, &str)]) -> Story {
    let mut story = Story::new();
    story.up_of(of(named));
    let mut sorted: Vec<_> = named.iter().collect();
    sorted.sort();
    for ((name, image), letter) in sorted.into_iter().zip('a'..) {
        if !image.starts_with('!') {
            story.prepared(name, &letter.to_string());
        }
        story.started(name);
    }
    story.ordered();
    story
}

#[test]
fn a_container_is_made_and_then_started() {
    let mut story = Story::new();
    story.up_of(of(&[("web", "web:1")]));
    assert_eq!(story.ordered(), ["prepare web web:1"]);
    assert_eq!((story.phase("web"), story.why("web")), ("waiting".into(), "is being made ready".into()));
    let step = "pulling web:1 (3 of 40 MB)".to_owned();
    story.take("web", Input::Preparing { generation: 1, step });
    assert_eq!(story.why("web"), "pulling web:1 (3 of 40 MB)");
    assert_eq!(story.wish("web"), "None");
    story.prepared("web", "a");
    assert_eq!(story.ordered(), ["start web #1 as a"]);
    story.started("web");
    assert_eq!((story.phase("web"), story.wish("web")), ("running".into(), "Some(Reached)".into()));
    // It is started again as the same container.
    story.exits("web", Exit::Code(1));
    story.command(Goal::Running, Ask::Start, &["web"]);
    story.prepared("web", "a");
    assert_eq!(story.ordered(), ["prepare web web:1", "start web #2 as a"]);
}

#[test]
fn how_it_ended_before_is_no_reason_where_what_is_new_cannot_be_made() {
    let mut story = up(&[("a", "a:1")]);
    story.exits("a", Exit::Code(1));
    assert_eq!(story.phase("a"), "failed");
    story.up_of(of(&[("a", "a:2")]));
    story.prepare_fails("a", Unprepared::Failed("there is no a:2".into()));
    let reasons: Vec<String> =
        story.node.status(&id("a")).unwrap().reasons.iter().map(ToString::to_string).collect();
    assert_eq!(reasons, ["cannot be made ready: there is no a:2"]);
}

#[test]
fn what_it_needs_is_waited_for_when_it_is_made_and_others_do_not_wait_for_it_to_be_made() {
    let mut story = Story::new();
    let mut services = of(&[("db", "db:1"), ("web", "web:1"), ("tool", "!tool")]);
    let web = services.get_mut("web").unwrap();
    web.depends_on.insert(ServiceName::new("db").unwrap(), Dependency::default());
    story.up_of(services);
    assert_eq!(story.ordered(), ["prepare db db:1", "start tool #1", "prepare web web:1"]);
    story.prepared("web", "w");
    assert!(story.why("web").starts_with("waits for db to be started"), "{}", story.why("web"));
    assert_eq!(story.ordered(), NONE);
    story.prepared("db", "d");
    assert_eq!(story.ordered(), ["start db #1 as d"]);
    story.started("db");
    assert_eq!(story.ordered(), ["start web #1 as w"]);
}

#[test]
fn what_runs_is_touched_when_everything_new_is_there() {
    let mut story = up(&[("a", "a:1"), ("b", "b:1"), ("c", "!c"), ("old", "old:1")]);
    // `a` changes, `b` does not, `c` changes, `old` is dropped, `new` comes.
    story.up_of(of(&[("a", "a:2"), ("b", "b:1"), ("c", "!c2"), ("new", "new:1")]));
    assert_eq!(story.ordered(), ["prepare a a:2", "prepare b b:1", "prepare new new:1"]);
    for (slot, phase) in [("a", "running"), ("b", "running"), ("c", "running"), ("old", "running")] {
        assert_eq!(story.phase(slot), phase, "{slot}");
    }
    assert_eq!(story.why("c"), "runs on until a-1, b-1, new-1 can be started");
    assert_eq!(story.why("old"), story.why("c"));
    assert_eq!(story.wish("c"), "None");
    story.prepared("new", "n");
    assert_eq!(story.ordered(), ["start new #1 as n"], "what is new touches nothing");
    story.prepared("b", "b");
    assert_eq!((story.ordered(), story.wish("b")), (Vec::new(), "Some(Reached)".into()), "it is the same");
    story.prepared("a", "a2");
    let stops = ["stop a SIGTERM 10s", "stop c SIGTERM 10s", "stop old SIGTERM 10s"];
    assert_eq!(story.ordered(), stops);
    story.exits("a", Exit::Code(0));
    assert_eq!(story.ordered(), ["start a #2 as a2"]);
    story.exits("old", Exit::Code(0));
    assert_eq!(story.ordered(), ["remove container old"]);
}

#[test]
fn what_cannot_be_made_touches_nothing_and_is_tried_again_more_and_more_slowly() {
    let mut story = up(&[("a", "a:1"), ("b", "b:1"), ("old", "!old")]);
    story.up_of(of(&[("a", "a:2"), ("b", "b:2")]));
    story.prepared("b", "b2");
    story.prepare_fails("a", Unprepared::Failed("there is no a:2".into()));
    assert_eq!(story.ordered(), ["prepare a a:2", "prepare b b:2"]);
    assert_eq!(story.why("a"), "cannot be made ready: there is no a:2");
    let runs_on = "runs on until a-1 can be started; what has failed there is tried again";
    assert_eq!((story.why("b"), story.why("old")), (runs_on.into(), runs_on.into()));
    for slot in ["a", "b", "old"] {
        assert_eq!(story.phase(slot), "running");
        assert!(story.wish(slot).starts_with("Some(Failed"), "{slot}: {}", story.wish(slot));
    }
    let mut waits = Vec::new();
    for _ in 0..12 {
        let from = story.now;
        while story.orders.is_empty() {
            story.pass(Millis(100));
        }
        waits.push((story.now - from) / 1000);
        assert_eq!(story.ordered(), ["prepare a a:2"]);
        assert_eq!(story.why("b"), runs_on, "it is not said to be on its way before it is");
        story.prepare_fails("a", Unprepared::Failed("there is no a:2".into()));
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    story.prepared("a", "a2");
    let stops = ["stop a SIGTERM 10s", "stop b SIGTERM 10s", "stop old SIGTERM 10s"];
    assert_eq!(story.ordered(), stops);
}

#[test]
fn whoever_takes_a_wish_back_finds_what_ran_untouched() {
    let mut story = up(&[("a", "a:1"), ("b", "b:1")]);
    story.up_of(of(&[("a", "a:2"), ("b", "b:2")]));
    story.prepare_fails("a", Unprepared::Failed("no".into()));
    story.up_of(of(&[("a", "a:1"), ("b", "b:1")]));
    story.ordered();
    story.prepared("a", "a");
    story.prepared("b", "b");
    assert_eq!(story.ordered(), NONE);
    assert_eq!((story.wish("a"), story.wish("b")), ("Some(Reached)".into(), "Some(Reached)".into()));
}

#[test]
fn another_command_does_not_wait_for_what_an_earlier_one_cannot_make() {
    let mut story = up(&[("a", "a:1"), ("b", "!b")]);
    story.up_of(of(&[("a", "a:2"), ("b", "!b")]));
    story.ordered();
    story.operation += 1;
    story.target.slots.get_mut(&id("b")).unwrap().operation = OperationId(story.operation);
    story.command(Goal::Absent, Ask::Ensure, &["b"]);
    assert_eq!(story.ordered(), ["stop b SIGTERM 10s"]);
}

#[test]
fn an_answer_to_an_older_wish_is_none() {
    let mut story = up(&[("a", "a:1")]);
    story.up_of(of(&[("a", "a:2")]));
    let wish = story.target.slots[&id("a")].clone();
    story.up_of(of(&[("a", "a:3")]));
    story.ordered();
    let (generation, digest) = (wish.generation, wish.digest);
    story.take("a", Input::Prepared { generation, digest: digest.clone(), container: "a2".into() });
    story.take("a", Input::PrepareFailed { generation, digest, why: Unprepared::Failed("no".into()) });
    story.take("a", Input::Preparing { generation, step: "of the past".into() });
    assert_eq!((story.ordered(), story.why("a")), (Vec::new(), "is being made ready".into()));
    story.prepared("a", "a3");
    assert_eq!(story.ordered(), ["stop a SIGTERM 10s"]);
}

#[test]
fn a_lost_order_is_given_again() {
    let mut story = Story::new();
    story.up_of(of(&[("a", "a:1")]));
    assert_eq!(story.ordered(), ["prepare a a:1"]);
    story.pass(Millis::seconds(59));
    assert_eq!(story.ordered(), NONE);
    story.pass(Millis::seconds(1));
    assert_eq!(story.ordered(), ["prepare a a:1"]);
    story.daemon_dies();
    assert_eq!(story.ordered(), ["prepare a a:1"]);
}

#[test]
fn what_can_only_be_made_when_what_runs_has_stopped_is_stopped_first() {
    let mut story = up(&[("a", "a:1"), ("b", "b:1")]);
    story.up_of(of(&[("a", "a:2"), ("b", "b:2")]));
    story.ordered();
    story.prepare_fails("a", Unprepared::HeldUp("network front is in use".into()));
    assert_eq!(story.ordered(), NONE, "b is not there yet");
    story.prepared("b", "b2");
    assert_eq!(story.ordered(), ["stop b SIGTERM 10s", "stop a SIGTERM 10s"]);
    story.exits("a", Exit::Code(0));
    story.pass(Millis::seconds(1));
    assert_eq!(story.ordered(), ["prepare a a:2"]);
    assert_eq!(story.why("a"), "network front is in use");
    story.prepared("a", "a2");
    assert_eq!(story.ordered(), ["start a #2 as a2"]);
}

#[test]
fn what_is_not_there_any_more_is_made_anew() {
    let mut story = Story::new();
    story.up_of(of(&[("a", "a:1")]));
    story.prepared("a", "a");
    assert_eq!(story.ordered(), ["prepare a a:1", "start a #1 as a"]);
    let attempt = story.attempt("a");
    story.take("a", Input::StartGone { attempt });
    assert_eq!(story.ordered(), ["prepare a a:1"]);
    story.prepared("a", "b");
    assert_eq!(story.ordered(), ["start a #2 as b"]);
}

#[test]
fn what_another_hand_takes_comes_back_whatever_its_policy_says() {
    for (how, orders) in [
        (Taken::Stopped, vec!["start a #2 as a"]),
        (Taken::Restarted, vec!["start a #2 as a"]),
        (Taken::Removed, vec!["prepare a a:1"]),
    ] {
        let mut story = up(&[("a", "a:1")]);
        let attempt = story.attempt("a");
        story.take("a", Input::Taken { attempt, how });
        assert_eq!(story.ordered(), orders, "{how:?}");
        assert_eq!(story.came_to, [how.to_string()]);
        if how == Taken::Removed {
            story.prepared("a", "b");
            assert_eq!(story.ordered(), ["start a #2 as b"]);
        }
        // Told once more, it is old news.
        story.take("a", Input::Taken { attempt, how });
        assert_eq!(story.ordered(), NONE);
        story.started("a");
        assert_eq!(story.phase("a"), "running");
    }
    let mut story = up(&[("a", "a:1")]);
    story.command(Goal::Stopped, Ask::Ensure, &["a"]);
    let attempt = story.attempt("a");
    story.take("a", Input::Taken { attempt, how: Taken::Stopped });
    assert_eq!((story.ordered(), story.phase("a")), (vec!["stop a SIGTERM 10s".into()], "stopped".into()));
    assert_eq!(story.came_to, NONE, "we wanted that too");
}

#[test]
fn what_completed_and_was_removed_is_not_run_again() {
    let mut story = up(&[("a", "a:1")]);
    story.exits("a", Exit::Code(0));
    let attempt = story.attempt("a");
    story.take("a", Input::Taken { attempt, how: Taken::Removed });
    assert_eq!((story.ordered(), story.phase("a")), (Vec::new(), "completed".into()));
    // Another `up` makes it anew, and as it is another container it is run.
    story.up_of(of(&[("a", "a:1")]));
    story.prepared("a", "b");
    assert_eq!(story.ordered(), ["prepare a a:1", "start a #2 as b"]);
}

#[test]
fn a_container_that_is_not_as_it_should_be_is_put_right_while_it_runs() {
    let mut story = up(&[("a", "a:1")]);
    let attempt = story.attempt("a");
    story.take("a", Input::Drifted { attempt, what: "it was paused".into() });
    assert_eq!(story.ordered(), ["mend a"]);
    story.take("a", Input::Drifted { attempt, what: "it was paused".into() });
    assert_eq!(story.ordered(), NONE, "it is ordered");
    story.take("a", Input::Mended { attempt, outcome: Ok(()) });
    assert_eq!(story.came_to, ["it was paused: put right"]);
    story.pass(Millis::seconds(60));
    assert_eq!(story.ordered(), NONE);
    story.take("a", Input::Drifted { attempt, what: "it was renamed".into() });
    story.take("a", Input::Mended { attempt, outcome: Err("the name is taken".into()) });
    assert_eq!(story.ordered(), ["mend a"]);
    story.pass(Millis::seconds(5));
    assert_eq!(story.ordered(), ["mend a", "observe container a"], "perhaps nothing is there any more");
    let older = upbeat_model::Attempt(attempt.0 + 1);
    story.take("a", Input::Drifted { attempt: older, what: "of another".into() });
    story.exits("a", Exit::Code(0));
    story.pass(Millis::seconds(60));
    assert_eq!(story.ordered(), NONE);
}

#[test]
fn what_nobody_remembers_says_by_its_labels_whether_it_is_the_wished_one() {
    let digest = of(&[("a", "a:1")])[&ServiceName::new("a").unwrap()].digest();
    for (label, orders) in [(digest.as_str(), vec![]), ("another", vec!["stop a SIGTERM 10s"])] {
        let mut story = Story::new();
        let bundle = story.node.appeared([id("a")], upbeat_model::Mono(1), Wall(1));
        story.keep(bundle);
        story.up_of(of(&[("a", "a:1")]));
        assert_eq!(story.ordered(), ["observe container a"]);
        let held = Held { container: "old".into(), digest: label.to_owned(), release: 1 };
        let seen = story.running("a", Some(held));
        story.seen("a", seen);
        assert_eq!(story.ordered(), ["prepare a a:1"]);
        // Of the same spec the engine gives the container that is there.
        story.prepared("a", if label == digest { "old" } else { "new" });
        assert_eq!(story.ordered(), orders);
    }
    // One that appears under a wish is looked at, too.
    let mut story = up(&[("a", "a:1")]);
    let bundle = story.node.appeared([id("a")], upbeat_model::Mono(story.now), Wall(1));
    story.keep(bundle);
    assert_eq!(story.ordered(), ["observe container a"]);
}

#[test]
fn a_service_becomes_a_container_and_a_process_again() {
    let mut story = up(&[("a", "!a")]);
    story.up_of(of(&[("a", "a:1")]));
    assert_eq!(story.ordered(), ["prepare a a:1"]);
    story.prepared("a", "c");
    assert_eq!(story.ordered(), ["stop a SIGTERM 10s"]);
    story.exits("a", Exit::Code(0));
    assert_eq!(story.ordered(), ["start a #2 as c"]);
    story.started("a");
    story.up_of(of(&[("a", "!a")]));
    assert_eq!(story.ordered(), ["stop a SIGTERM 10s"]);
    story.exits("a", Exit::Code(0));
    assert_eq!(story.ordered(), ["start a #3"]);
}

#[test]
fn networks_go_with_the_last_that_is_in_them() {
    let mut services = of(&[("a", "a:1"), ("b", "b:1"), ("c", "c:1")]);
    let attach = |services: &mut BTreeMap<ServiceName, Service>, name: &str, networks: &[(&str, bool)]| {
        let at = |(network, external): &(&str, bool)| {
            Attachment::to(Network {
                external: *external,
                ..Network::new(*network, format!("app_{network}"))
            })
        };
        let container = services.get_mut(name).unwrap().container.as_mut().unwrap();
        container.network = NetworkMode::Networks(networks.iter().map(at).collect());
    };
    attach(&mut services, "a", &[("front", false), ("world", true)]);
    attach(&mut services, "b", &[("front", false), ("back", false)]);
    attach(&mut services, "c", &[("back", false)]);
    let mut story = Story::new();
    story.up_of(services.clone());
    for slot in ["a", "b", "c"] {
        story.prepared(slot, slot);
        story.started(slot);
    }
    services.retain(|name, _| name.as_str() == "b");
    story.up_of(services);
    story.prepared("b", "b");
    story.ordered();
    story.exits("a", Exit::Code(0));
    story.exits("c", Exit::Code(0));
    assert_eq!(story.ordered(), ["remove container a", "remove container c"], "b is in both");
    story.up_of(BTreeMap::new());
    story.ordered();
    story.exits("b", Exit::Code(0));
    assert_eq!(story.ordered(), ["remove b and app_back, app_front"]);
}

#[test]
fn what_was_never_made_goes_without_an_engine_and_what_may_have_been_with_it() {
    for (answer, order) in [
        (None, "remove container a"),
        (Some(Unprepared::Failed("no".into())), "remove container a"),
        (Some(Unprepared::Unreachable("no engine".into())), "remove a"),
        (Some(Unprepared::BrokenOff("no engine any more".into())), "remove container a"),
    ] {
        let mut story = Story::new();
        story.up_of(of(&[("a", "a:1")]));
        if let Some(why) = answer {
            story.prepare_fails("a", why);
        }
        story.ordered();
        story.up_of(BTreeMap::new());
        assert_eq!(story.ordered(), [order]);
    }
}

#[test]
fn a_stopped_container_that_another_hand_starts_is_stopped_again() {
    let mut story = up(&[("a", "a:1")]);
    story.command(Goal::Stopped, Ask::Ensure, &["a"]);
    story.exits("a", Exit::Code(0));
    story.ordered();
    let bundle = story.node.appeared([id("a")], upbeat_model::Mono(story.now), Wall(1));
    story.keep(bundle);
    assert_eq!(story.ordered(), ["observe container a"]);
    let held = Held { container: "a".into(), digest: "x".into(), release: 1 };
    let seen = story.running("a", Some(held));
    story.seen("a", seen);
    assert_eq!(story.ordered(), ["stop a SIGTERM 10s"]);
}

#[test]
fn processes_know_nothing_of_all_this() {
    let mut story = Story::new();
    story.declare_all(services("  s: { command: [s] }"));
    assert_eq!(story.ordered(), ["start s #1"]);
    let kept = serde_json::to_string(&story.disk[&id("s")]).unwrap();
    assert!(!kept.contains("made") && !kept.contains("container"), "{kept}");
}

#[test]
fn one_that_is_being_started_for_an_older_wish_is_waited_for_like_one_that_is_made() {
    let mut story = up(&[("a", "a:1"), ("b", "b:1")]);
    story.exits("b", Exit::Code(1));
    story.command(Goal::Running, Ask::Start, &["b"]);
    story.prepared("b", "b");
    story.ordered();
    story.up_of(of(&[("a", "a:2"), ("b", "b:2")]));
    story.prepared("a", "a2");
    assert_eq!(story.ordered(), ["prepare a a:2"], "b is being started as b:1");
    story.started("b");
    story.prepared("b", "b2");
    assert_eq!(story.ordered(), ["prepare b b:2", "stop b SIGTERM 10s", "stop a SIGTERM 10s"]);
}

#[test]
fn an_answer_that_nobody_waits_for_is_none() {
    let mut story = up(&[("a", "a:1")]);
    let attempt = story.attempt("a");
    story.take("a", Input::Taken { attempt, how: Taken::Removed });
    story.prepared("a", "b");
    story.started("a");
    story.ordered();
    // The order before that was answered late, and twice.
    story.prepared("a", "a");
    assert_eq!((story.ordered(), story.phase("a")), (Vec::new(), "running".into()));
}

#[test]
fn what_rests_on_another_and_goes_too_is_stopped_first_also_when_both_have_waited() {
    let mut services = of(&[("a", "a:1"), ("b", "b:1")]);
    services.get_mut("b").unwrap().depends_on.insert(ServiceName::new("a").unwrap(), Dependency::default());
    let mut story = Story::new();
    story.up_of(services);
    story.prepared("a", "a");
    story.started("a");
    story.prepared("b", "b");
    story.started("b");
    story.ordered();
    // `b` is dropped, and `a` the last that is made.
    story.up_of(of(&[("a", "a:2")]));
    story.prepared("a", "a2");
    assert_eq!(story.ordered(), ["prepare a a:2", "stop b SIGTERM 10s"]);
    story.exits("b", Exit::Code(0));
    assert_eq!(story.ordered(), ["remove container b", "stop a SIGTERM 10s"]);
}

#[test]
fn one_that_another_hand_starts_is_stopped_again() {
    let mut story = up(&[("a", "a:1")]);
    story.command(Goal::Stopped, Ask::Ensure, &["a"]);
    story.exits("a", Exit::Code(0));
    story.ordered();
    story.take("a", Input::Appeared);
    assert_eq!(story.ordered(), ["observe container a"]);
    let held = Held { container: "a".into(), digest: "any".into(), release: 1 };
    let seen = story.running("a", Some(held.clone()));
    story.seen("a", seen.clone());
    assert_eq!(story.ordered(), ["stop a SIGTERM 10s"]);
    story.exits("a", Exit::Code(0));
    // An answer that nobody asked for says nothing: the engine is asked.
    story.seen("a", seen);
    assert_eq!((story.ordered(), story.phase("a")), (vec!["observe container a".into()], "stopping".into()));
}

#[test]
fn another_container_than_the_one_to_be_started_is_not_taken_for_it() {
    let mut story = Story::new();
    story.up_of(of(&[("a", "a:2")]));
    story.prepared("a", "new");
    let attempt = story.attempt("a");
    story.take("a", Input::StartRefused { attempt, seen: attempt });
    story.ordered();
    let held = Held { container: "old".into(), digest: "of a:1".into(), release: 1 };
    let seen = story.running("a", Some(held));
    story.seen("a", seen);
    assert_eq!(story.ordered(), ["stop a SIGTERM 10s"]);
}

#[test]
fn what_waits_for_its_stop_is_put_right_meanwhile() {
    let mut services = of(&[("a", "a:1"), ("b", "b:1")]);
    services.get_mut("b").unwrap().depends_on.insert(ServiceName::new("a").unwrap(), Dependency::default());
    let mut story = Story::new();
    story.up_of(services);
    for slot in ["a", "b"] {
        story.prepared(slot, slot);
        story.started(slot);
    }
    story.command(Goal::Stopped, Ask::Ensure, &["a", "b"]);
    story.ordered();
    let attempt = story.attempt("a");
    story.take("a", Input::Drifted { attempt, what: "it was paused".into() });
    assert_eq!(story.ordered(), ["mend a"]);
    story.exits("b", Exit::Code(0));
    assert_eq!(story.ordered(), ["stop a SIGTERM 10s"]);
    story.pass(Millis::seconds(9));
    assert_eq!(story.ordered(), NONE);
}

#[test]
fn networks_of_an_earlier_file_go_too() {
    let with = |network: &str| {
        let mut services = of(&[("a", "a:1")]);
        let at = Attachment::to(Network::new(network, format!("app_{network}")));
        let container = services.values_mut().next().unwrap().container.as_mut().unwrap();
        container.network = NetworkMode::Networks(vec![at]);
        services
    };
    let mut story = Story::new();
    story.up_of(with("front"));
    story.prepared("a", "a");
    story.up_of(with("back"));
    story.daemon_dies();
    story.up_of(BTreeMap::new());
    story.ordered();
    story.seen("a", Observation::Never);
    story.pass(Millis::seconds(70));
    let removed = story.ordered();
    assert!(removed.contains(&"remove a and app_back, app_front".to_owned()), "{removed:?}");
}

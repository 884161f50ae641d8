//! How far a start came, and when.

use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Attempt, Exit, Millis, Mono, SlotStart, Starts, Timeline, Wall};

use super::story::{Story, id};
use crate::instance::Input;

fn times(story: &Story, slot: &str) -> Timeline {
    story.node.durable(&id(slot)).unwrap().timeline.clone().unwrap()
}

/// `since opened executed ready ended`, since the story began.
fn told(times: &Timeline) -> String {
    let at = |moment: Option<Mono>| moment.map_or("-".to_owned(), |at| (at.0 - 1_000).to_string());
    let Timeline { since, opened, executed, ready, ended, attempts } = times;
    let moments = [Some(*since), *opened, *executed, *ready, *ended].map(at);
    format!("{} #{attempts}", moments.join(" "))
}

/// What control would know of the slots.
fn starts(story: &Story) -> Starts {
    let slot = |(slot, wish): (&upbeat_model::SlotId, &upbeat_model::TargetSlot)| SlotStart {
        slot: slot.clone(),
        phase: story.node.status(slot).unwrap().phase,
        times: times(story, &slot.short()),
        needs: wish
            .spec
            .depends_on
            .iter()
            .map(|(name, edge)| (name.clone(), edge.condition.clone()))
            .collect(),
    };
    let slots = story.target.slots.iter().map(slot).collect();
    Starts { app: "app".parse().unwrap(), now: Mono(story.now), slots }
}

const SHOP: &str = "  db: { command: [db], healthcheck: { tcp: '127.0.0.1:1' } }
  migrate: { command: [m], depends_on: { db: { condition: service_healthy } } }
  other: { command: [o] }
  web: { command: [w], depends_on: { migrate: { condition: service_completed_successfully }, other: { condition: service_started } } }";

#[test]
fn the_moments_of_a_start_are_kept_and_lead_to_what_it_waited_for() {
    let mut story = Story::up(SHOP);
    story.pass(Millis(5));
    story.started("other");
    story.pass(Millis(5));
    story.started("db");
    story.pass(Millis(3));
    story.probed("db", true);
    story.pass(Millis(7));
    story.started("migrate");
    story.pass(Millis(80));
    story.exits("migrate", Exit::Code(0));
    story.started("web");
    assert_eq!(told(&times(&story, "other")), "0 0 5 5 - #1");
    assert_eq!(told(&times(&story, "db")), "0 0 10 13 - #1");
    assert_eq!(told(&times(&story, "migrate")), "0 13 20 20 100 #1");
    assert_eq!(told(&times(&story, "web")), "0 100 100 100 - #1");
    let chain = starts(&story).critical_chain(None);
    let links: Vec<String> =
        chain.links.iter().map(|link| format!("{} +{}", link.time.slot.short(), link.time.own.0)).collect();
    assert_eq!(
        (chain.total, links),
        (Millis(100), vec!["web-1 +0".into(), "migrate-1 +87".into(), "db-1 +13".into()])
    );
}

#[test]
fn one_that_was_never_ready_is_on_its_way_through_all_its_attempts() {
    let mut story = Story::up("  s: { command: [s], restart: always, healthcheck: { tcp: '127.0.0.1:1' } }");
    story.started("s");
    story.pass(Millis(10));
    story.exits("s", Exit::Code(1));
    // The first end is forgiven at once.
    story.pass(Millis(10));
    story.started("s");
    story.pass(Millis(3));
    story.probed("s", true);
    let so_far = told(&times(&story, "s"));
    assert!(so_far.starts_with("0 0 2") && so_far.ends_with(" - #2"), "{so_far}");
    // It was there: that it is started again by itself is another story,
    story.exits("s", Exit::Code(1));
    story.pass(Millis::seconds(60));
    story.started("s");
    assert_eq!(told(&times(&story, "s")), so_far);
    // also for the daemon after this one; but not when somebody asks for it.
    story.daemon_dies();
    assert_eq!(told(&times(&story, "s")), so_far);
}

#[test]
fn a_start_that_somebody_asked_for_begins_anew() {
    let mut story = Story::up("  s: { command: [s] }");
    story.started("s");
    story.pass(Millis::seconds(9));
    story.command(Goal::Running, Ask::Restart, &["s"]);
    story.pass(Millis(4));
    story.exits("s", Exit::Signal(15));
    story.pass(Millis(4));
    story.started("s");
    assert_eq!(told(&times(&story, "s")), "9004 9004 9008 9008 - #1");
}

/// So that whoever joins it can tell its lines from those of a run before, whatever the clock does.
#[test]
fn a_copy_that_runs_tells_with_which_line_it_began() {
    let mut story = Story::up("  s: { command: [s] }");
    let told = |story: &Story| story.node.status(&id("s")).unwrap().log_start;
    assert_eq!(told(&story), None);
    story.take("s", Input::Started { attempt: Attempt(1), pid: 7, at: Wall(1), log_start: 12 });
    assert_eq!(told(&story), Some(12));
    story.exits("s", Exit::Code(0));
    assert_eq!(told(&story), None);
}

//! What the next daemon may believe of what the one before it knew.

use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Millis, Mono, Wall};

use super::NONE;
use super::story::{Story, id};
use crate::instance::{Input, Observation, Said, Watchdog};

const PAIR: &str = "  web: { command: [w], probes: { readiness: { tcp: '127.0.0.1:1', interval: 10s } } }
  app: { command: [a], depends_on: { web: { condition: service_healthy } } }";

fn comes_back(story: &mut Story, slot: &str) {
    let attempt = story.attempt(slot);
    story.seen(slot, Observation::Running { attempt, pid: 7, started_at: Wall(0), log_start: 1, held: None });
}

#[test]
fn a_yes_of_before_the_daemon_died_opens_no_gate_until_it_is_answered_again() {
    let mut story = Story::up(PAIR);
    story.started("web");
    story.probed("web", true);
    assert_eq!(story.phase("web"), "healthy");
    story.started("app");
    story.daemon_dies();
    comes_back(&mut story, "web");
    let attempt = story.attempt("app");
    story.seen("app", Observation::Ended { attempt, exit: Exit::Code(1) });
    story.command(Goal::Running, Ask::Ensure, &["app"]);
    assert_eq!(story.phase("web"), "healthy", "as it is remembered");
    assert!(!story.ordered().iter().any(|order| order.starts_with("start")), "but nobody builds on it");
    assert_eq!(story.phase("app"), "waiting");
    story.probed("web", true);
    assert_eq!(story.ordered(), ["start app #2"]);
}

#[test]
fn what_is_remembered_is_not_said_to_be_seen() {
    let mut story = Story::up(PAIR);
    story.started("web");
    story.probed("web", true);
    story.daemon_dies();
    let attempt = story.attempt("web");
    let running = Observation::Running { attempt, pid: 7, started_at: Wall(0), log_start: 1, held: None };
    let seen = |story: &mut Story, input| {
        let now = story.now;
        let bundle = story.node.take([(id("web"), input)], Mono(now), Wall(now as i64));
        let seen = bundle.statuses.get(&id("web")).map(|change| (change.is_looked_at, change.is_seen));
        story.keep(bundle);
        seen
    };
    let looked = seen(&mut story, Input::Observed { asked: attempt, seen: running });
    assert_eq!(looked, Some((true, false)), "nobody who waits for a look waits for its probes");
    let (check, healthy, message) = (story.check("web"), true, "yes".to_owned());
    let probed = Input::Probed { attempt, check, healthy, message };
    assert_eq!(seen(&mut story, probed), Some((true, true)));
}

#[test]
fn those_that_the_next_daemon_asks_together_are_not_asked_together_for_ever() {
    let mut story =
        Story::up("  web: { command: [w], scale: 20, healthcheck: { test: 'true', interval: 10s } }");
    let copies: Vec<String> = (1..=20).map(|index| format!("web-{index}")).collect();
    for copy in &copies {
        story.started(copy);
        story.probed(copy, true);
    }
    story.daemon_dies();
    for copy in &copies {
        comes_back(&mut story, copy);
    }
    assert_eq!(story.ordered().len(), 40, "looked at, then asked, each of them at once");
    for copy in &copies {
        story.probed(copy, true);
    }
    let mut together = 0;
    for _ in 0..100 {
        story.pass(Millis(100));
        together = together.max(story.ordered().len());
    }
    assert!((1..8).contains(&together), "{together}");
}

#[test]
fn a_watchdog_that_expired_and_lives_again_before_anybody_hears_of_it_has_expired() {
    let mut story =
        Story::up("  s: { command: [s], probes: { liveness: { watchdog: 2s, failure_threshold: 1 } } }");
    story.started("s");
    let said = |expiries| Said { watchdog: Watchdog::Alive, expiries, ..Said::default() };
    story.notified("s", said(0));
    assert_eq!(story.phase("s"), "running");
    story.daemon_dies();
    comes_back(&mut story, "s");
    story.ordered();
    let every = Some(Millis::seconds(5));
    story.notified("s", Said { watchdog_every: every, ..said(1) });
    assert_eq!(story.reacted, ["liveness restart 1: it has not said WATCHDOG=1 for 5s"]);
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
    story.notified("s", said(1));
    assert_eq!(story.ordered(), NONE);
}

#[test]
fn who_is_not_ready_after_a_minute_is_asked_at_its_interval() {
    let mut story =
        Story::up("  s: { command: [s], healthcheck: { test: 'true', interval: 20s, start_period: 30s } }");
    story.started("s");
    let asked = |story: &mut Story, length: u64| {
        let end = story.now + length;
        let mut times = 0;
        while story.now < end {
            for _ in story.ordered() {
                times += 1;
                story.probed("s", false);
            }
            story.pass(Millis(100));
        }
        times
    };
    assert!(asked(&mut story, 90_000) > 80);
    let later = asked(&mut story, 100_000);
    assert!((4..=6).contains(&later), "{later}");
}

#[test]
fn another_rhythm_makes_no_memory_true() {
    let mut story = Story::up(PAIR);
    story.started("web");
    story.probed("web", true);
    story.started("app");
    story.daemon_dies();
    comes_back(&mut story, "web");
    let attempt = story.attempt("app");
    story.seen("app", Observation::Ended { attempt, exit: Exit::Code(1) });
    story.ordered();
    story.declare(&PAIR.replace("interval: 10s", "interval: 20s"));
    assert_eq!(story.phase("web"), "healthy");
    assert!(!story.ordered().iter().any(|order| order.starts_with("start")), "nobody has asked since");
    story.probed("web", true);
    assert_eq!(story.ordered(), ["start app #2"]);
}

#[test]
fn a_watchdog_of_another_name_is_not_held_to_what_expired_before() {
    let dog = |name: &str| {
        format!("  s: {{ command: [s], probes: {{ {name}: {{ watchdog: 2s, failure_threshold: 1 }} }} }}")
    };
    let mut story = Story::up(&dog("alive"));
    story.started("s");
    story.notified("s", Said { watchdog: Watchdog::Alive, expiries: 1, ..Said::default() });
    assert_eq!(story.phase("s"), "running");
    story.declare(&dog("liveness"));
    story.pass(Millis::seconds(5));
    assert_eq!((story.phase("s").as_str(), story.reacted.len()), ("running", 0));
}

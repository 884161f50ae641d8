//! What is about to end, and what waits for that.

use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Millis};

use super::story::Story;
use crate::instance::{Moment, Said};

const PAIR: &str = "  db: { command: [db] }
  web: { command: [web], depends_on: [db], post_start: [{ command: [warm] }] }";

fn stopping() -> Said {
    Said { stopping: true, ..Said::default() }
}

/// Its `post_start` hook waits until it answers, and would for a day.
#[test]
fn who_says_so_while_its_hooks_run_is_made_to_end_all_the_same() {
    let mut story = Story::up(PAIR);
    story.started("db");
    story.started("web");
    story.notified("web", stopping());
    story.command(Goal::Stopped, Ask::Ensure, &["db"]);
    assert_eq!(story.why("db"), "stops after web-1");
    story.ordered();
    story.pass(Millis::seconds(10));
    let orders = story.ordered();
    assert_eq!(orders, ["stop web SIGTERM 10s"], "its grace is over");
    story.exits("web", Exit::Code(0));
    assert!(story.ordered().contains(&"stop db SIGTERM 10s".to_owned()));
}

/// They have used up the grace.
#[test]
fn who_is_asked_after_its_hooks_has_a_little_time_in_any_case() {
    let mut story = Story::up("  s: { command: [s], pre_stop: [{ command: [drain] }] }");
    story.started("s");
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.ordered();
    story.pass(Millis::seconds(10));
    story.hooks_end("s", Moment::PreStop, Err("timed out"));
    assert_eq!(story.ordered(), ["stop s SIGTERM 2s"]);
    assert_eq!(story.why("s"), "is being stopped as asked (SIGTERM)");
    let mut story =
        Story::up("  s: { command: [s], pre_stop: [{ command: [drain] }], stop_grace_period: 1s }");
    story.started("s");
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    story.ordered();
    story.pass(Millis::seconds(1));
    story.hooks_end("s", Moment::PreStop, Ok(()));
    assert_eq!(story.ordered(), ["stop s SIGTERM 1s"], "but no more than it was given");
}

/// What would make room on a full disk.
#[test]
fn nobody_waits_for_the_end_of_what_is_not_stopped_as_long_as_nothing_can_be_kept() {
    for asked_first in [true, false] {
        let mut story = Story::up(PAIR);
        story.started("db");
        story.started("web");
        story.hooks_end("web", Moment::PostStart, Ok(()));
        let ask = |story: &mut Story| story.command(Goal::Stopped, Ask::Ensure, &["db"]);
        story.notified("web", stopping());
        story.ordered();
        if asked_first {
            ask(&mut story);
            assert_eq!((story.why("db"), story.ordered()), ("stops after web-1".into(), vec![]));
        }
        story.node.cannot_keep();
        story.pass(Millis::seconds(11));
        if !asked_first {
            ask(&mut story);
        }
        assert_eq!(story.ordered(), ["stop db SIGTERM 10s"]);
        story.exits("db", Exit::Code(0));
        assert_eq!(story.phase("db"), "stopped");
    }
}

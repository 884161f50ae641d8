//! Stories of a full disk: what is decided cannot be kept, so that nothing is started, and nothing is
//! stopped that would be started again. The test withholds orders as whoever performs them does.

use upbeat_model::project::{Probe, Question, Reaction, Remedy, RestartPolicy, Service};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Attempt, Exit, Millis, Mono, Phase, ProbeName, Wall};

use super::NONE;
use super::story::{Story, id, services};
use crate::instance::{Input, Moment, Observation, Stage};

/// It is up, and its probe fails: that is what is done about it.
fn failing(action: Reaction, text: &str) -> Story {
    let mut services = services(text);
    let ask = Probe::new(Question::Tcp("127.0.0.1:1".into()));
    let asks = Probe { failure_threshold: 1, on_failure: Some(Remedy::of(action)), ..ask };
    let spec = services.get_mut("s").unwrap();
    spec.probes = [(ProbeName::new("liveness").unwrap(), asks)].into();
    let mut story = Story::new();
    story.declare_all(services);
    story.started("s");
    story.pass(Millis::seconds(70));
    story.ordered();
    story.probed("s", false);
    story
}

const PLAIN: &str = "  s: { command: [s] }";
const HOOKED: &str = "  s: { command: [s], pre_stop: [{ command: [drain] }] }";

/// The commit has failed of what was decided just now: its order is not carried out, and that is told.
fn withheld(story: &mut Story, order: &str) {
    story.node.cannot_keep();
    assert_eq!(story.ordered(), [order]);
    assert!(story.node.comes_back(&id("s")), "it may be withheld");
    let attempt = story.attempt("s");
    story.take("s", Input::StopWithheld { attempt });
}

fn keeps_again(story: &mut Story) {
    let bundle = story.node.keeps_again(Mono(story.now), Wall(story.now as i64));
    story.keep(bundle);
}

/// What was ordered since, but for questions.
fn deeds(story: &mut Story) -> Vec<String> {
    let mut orders = story.ordered();
    orders.retain(|order| !order.starts_with("probe"));
    orders
}

fn is_being_stopped(story: &Story) -> bool {
    matches!(&story.node.durable(&id("s")).unwrap().stage, Stage::Up(up) if up.stopping.is_some())
}

#[test]
fn the_first_order_to_stop_is_withheld_and_given_when_it_can_be_kept() {
    for (text, order) in [(PLAIN, "stop s SIGTERM 10s"), (HOOKED, "before its stop s drain 10s")] {
        let mut story = failing(Reaction::Restart, text);
        withheld(&mut story, order);
        assert_eq!(story.node.status(&id("s")).unwrap().phase, Phase::Stopping);
        // It is looked after meanwhile, and nothing is tried that would have to be withheld.
        for _ in 0..3 {
            story.pass(Millis::seconds(100));
            assert!(story.why("s").contains("before it could be started again"), "{}", story.why("s"));
            assert!(!is_being_stopped(&story) && !story.node.comes_back(&id("s")));
            assert_eq!(deeds(&mut story), NONE);
            story.probed("s", false);
        }
        keeps_again(&mut story);
        assert_eq!(deeds(&mut story), [order]);
        assert!(!story.why("s").contains("could be started"), "{}", story.why("s"));
        keeps_again(&mut story);
        assert_eq!(deeds(&mut story), NONE, "once");
    }
}

#[test]
fn what_is_decided_on_a_full_disk_is_not_even_tried() {
    let mut story = Story::up(PLAIN);
    story.started("s");
    story.ordered();
    story.node.cannot_keep();
    story.command(Goal::Running, Ask::Restart, &["s"]);
    assert_eq!((story.ordered(), is_being_stopped(&story)), (vec![], false));
    // It has ended by itself: then it is begun, and whoever performs waits with that.
    story.exits("s", Exit::Code(0));
    assert_eq!(story.ordered(), ["start s #2"]);
}

#[test]
fn nothing_is_withheld_after_an_order_was_carried_out() {
    let mut story = failing(Reaction::Restart, PLAIN);
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
    story.node.cannot_keep();
    story.pass(Millis::seconds(15));
    assert_eq!(story.ordered(), ["stop s SIGTERM 0ms", "observe s"], "it is pressed on");
    stays_stopping(&mut story);
    // The signal follows hooks that have ended, and hooks that could not be run are run again.
    for outcome in [Some(Ok(())), Some(Err("exit 1")), None] {
        let mut story = failing(Reaction::Restart, HOOKED);
        assert_eq!(story.ordered(), ["before its stop s drain 10s"]);
        story.node.cannot_keep();
        let order = match outcome {
            Some(outcome) => {
                story.hooks_end("s", Moment::PreStop, outcome);
                "stop s SIGTERM 10s"
            }
            None => {
                story.hooks_unable("s", Moment::PreStop);
                story.pass(Millis::seconds(1));
                "before its stop s drain 9s"
            }
        };
        assert_eq!(story.ordered(), [order]);
        stays_stopping(&mut story);
    }
    // It is heard late that they could not be run: then the signal takes their place.
    let mut story = failing(Reaction::Restart, HOOKED);
    story.ordered();
    story.node.cannot_keep();
    story.pass(Millis::seconds(10));
    story.hooks_unable("s", Moment::PreStop);
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
    stays_stopping(&mut story);
}

/// Nobody may withhold its order; should somebody say so all the same, nothing is taken back.
#[track_caller]
fn stays_stopping(story: &mut Story) {
    assert!(is_being_stopped(story) && !story.node.comes_back(&id("s")));
    let attempt = story.attempt("s");
    story.take("s", Input::StopWithheld { attempt });
    assert!(is_being_stopped(story));
}

#[test]
fn what_a_daemon_before_this_one_may_have_ordered_is_not_withheld() {
    let mut story = failing(Reaction::Restart, PLAIN);
    story.daemon_dies();
    story.node.cannot_keep();
    let (attempt, started_at) = (story.attempt("s"), Wall(0));
    let seen = Observation::Running { attempt, pid: 7, started_at, log_start: 1, held: None };
    story.seen("s", seen);
    assert_eq!(story.ordered(), ["observe s", "stop s SIGTERM 10s"]);
    stays_stopping(&mut story);
}

#[test]
fn what_somebody_wants_to_be_down_is_stopped_whatever_can_be_kept() {
    for (goal, kill, order) in [
        (Goal::Stopped, false, "stop s SIGTERM 10s"),
        (Goal::Absent, false, "stop s SIGTERM 10s"),
        (Goal::Stopped, true, "stop s SIGKILL 0ms"),
    ] {
        for was_held_back in [true, false] {
            let mut story = match was_held_back {
                true => failing(Reaction::Restart, PLAIN),
                false => Story::up(PLAIN),
            };
            match was_held_back {
                true => withheld(&mut story, "stop s SIGTERM 10s"),
                false => story.started("s"),
            }
            story.node.cannot_keep();
            story.ordered();
            story.target.slots.values_mut().for_each(|wish| wish.kill = kill);
            story.command(goal, Ask::Ensure, &["s"]);
            assert_eq!(deeds(&mut story), [order]);
            assert!(!story.node.comes_back(&id("s")), "nobody withholds that");
            story.exits("s", Exit::Signal(15));
            assert_eq!(story.phase("s"), "stopped");
        }
    }
}

#[test]
fn neither_is_what_stays_down_for_good() {
    let mut story = failing(Reaction::Stop, PLAIN);
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
    assert!(!story.node.comes_back(&id("s")));
    let mut story = failing(Reaction::Restart, PLAIN);
    assert!(story.node.comes_back(&id("s")));
    // By what somebody has asked for since.
    story.command(Goal::Stopped, Ask::Ensure, &["s"]);
    assert!(!story.node.comes_back(&id("s")));
}

#[test]
fn a_start_that_is_not_wanted_any_more_and_was_never_ordered_is_not_waited_for() {
    for (goal, phase) in [(Goal::Stopped, "stopped"), (Goal::Absent, "stopped"), (Goal::Running, "starting")]
    {
        let mut story =
            Story::of(Service { restart: RestartPolicy::Always, ..Service::new(vec!["s".into()], "/") });
        assert!(!story.node.is_called_off(&id("s")), "it is wanted");
        story.command(goal, Ask::Restart, &["s"]);
        assert!(story.node.is_called_off(&id("s")));
        // Of another attempt it says nothing.
        story.take("s", Input::StartWithheld { attempt: Attempt(9) });
        assert_eq!(story.phase("s"), "starting");
        story.ordered();
        story.take("s", Input::StartWithheld { attempt: Attempt(1) });
        assert_eq!(story.phase("s"), phase);
        let next: &[&str] = match goal {
            Goal::Stopped => &[],
            Goal::Absent => &["remove s"],
            Goal::Running => &["start s #2"],
        };
        assert_eq!(story.ordered(), next);
        assert!(!story.node.is_called_off(&id("s")));
        assert_eq!(story.came_to, NONE, "nothing has failed");
    }
}

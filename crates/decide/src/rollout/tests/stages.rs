//! Stages, their gates, and what people say of them.

use upbeat_model::rollout::{Gate, Happened, Outcome, Override, StageState, Who};

use super::*;

fn by() -> String {
    "ann".to_owned()
}

fn wave(name: &str, ring: &str) -> Stage {
    Stage::wave(name, [("ring".to_owned(), ring.to_owned())])
}

/// Ten targets on `v1`: 0 to 2 of the first ring, 3 to 9 of the second; `v2` was asked for, in these stages.
fn staged(stages: Vec<Stage>) -> Story {
    let mut story = Story::established(10);
    story.ask(Change::SetVersion(v("v1")));
    story.ask(Change::Abort { by: by(), why: String::new() });
    for (n, device) in story.devices.values_mut().enumerate() {
        let ring = if n < 3 { "1" } else { "2" };
        device.labels = BTreeMap::from([("ring".to_owned(), ring.to_owned())]);
    }
    story.call();
    assert_eq!(story.rollout.course(), Course::Steady(v("v1")));
    story.options(options(100, 100, 0, 20));
    story.ask(Change::SetStrategy(Some(Box::new(Strategy { stages, ..Strategy::default() }))));
    story.ask(Change::SetVersion(v("v3")));
    story.call();
    story.rollout.take_happened();
    story
}

/// Everybody does what they shall, and is well on it.
fn turn(story: &mut Story) -> BTreeMap<String, usize> {
    story.call();
    story.obey();
    story.call();
    story.pass(1);
    story.call()
}

fn on_v3(story: &Story) -> Vec<String> {
    let is_on = |target: &Target| target.assigned.version == Some(v("v3"));
    story.rollout.targets.iter().filter(|(_, target)| is_on(target)).map(|(id, _)| id.to_string()).collect()
}

fn told(story: &mut Story) -> Vec<String> {
    story.rollout.take_happened().iter().map(ToString::to_string).collect()
}

#[test]
fn a_canary_goes_before_the_waves_and_the_waves_one_after_the_other() {
    let mut story =
        staged(vec![Stage::canary(Amount::Count(1), Gate::None), wave("second", "2"), wave("first", "1")]);
    story.call();
    assert_eq!(on_v3(&story), ["target0"], "one is not more than one, though all would fit the batch");
    story.call();
    assert_eq!(on_v3(&story).len(), 1);
    assert_eq!(story.why(), "in stage `canary`: 0 are well, and 1 have to be");
    turn(&mut story);
    assert_eq!(on_v3(&story).len(), 8, "and all of the second ring");
    assert!(!on_v3(&story).contains(&"target1".to_owned()));
    turn(&mut story);
    turn(&mut story);
    assert_eq!(story.rollout.course(), Course::Steady(v("v3")));
    let stages: Vec<String> = told(&mut story).into_iter().filter(|text| text.contains("stage")).collect();
    assert_eq!(
        stages,
        [
            "stage `canary` of `v3` is done",
            "stage `second` of `v3` is done",
            "stage `first` of `v3` is done",
            "stage `rest` of `v3` is done"
        ]
    );
}

#[test]
fn nobody_is_moved_before_somebody_approves() {
    let mut story = staged(vec![Stage::canary(Amount::Percent(20), Gate::Approval)]);
    let approve = |story: &mut Story| story.rollout.change(Change::Approve { by: by() }, story.now);
    assert_eq!(
        approve(&mut story).unwrap_err().to_string(),
        "there is nothing to approve: it waits at no gate"
    );
    turn(&mut story);
    for _ in 0..3 {
        assert_eq!(turn(&mut story), count_of(&[("v1", 8), ("v3", 2)]));
        assert_eq!(story.why(), "waits for approval after stage `canary`");
    }
    assert!(told(&mut story).contains(&"`v3` waits for approval after stage `canary`".to_owned()));
    approve(&mut story).unwrap();
    assert_eq!(told(&mut story), ["`v3` was approved by ann after stage `canary`"]);
    assert!(approve(&mut story).is_err());
    assert_eq!(story.call(), count_of(&[("v3", 10)]));
}

#[test]
fn a_pause_between_stages_ends_by_itself_also_after_a_restart() {
    let mut story = staged(vec![Stage::canary(Amount::Count(1), Gate::Pause(Millis::seconds(60)))]);
    turn(&mut story);
    let refused = story.rollout.change(Change::Approve { by: by() }, story.now).unwrap_err().to_string();
    assert_eq!(refused, "there is nothing to approve: it waits for a pause of 1m after stage `canary`");
    story.pass(59);
    assert_eq!(story.call(), count_of(&[("v1", 9), ("v3", 1)]));
    let gate = story.rollout.progress(story.now).gate.unwrap();
    assert_eq!(gate.until, Some(gate.since + Millis::seconds(60)));
    story.restart();
    story.pass(1);
    assert_eq!(story.call(), count_of(&[("v3", 10)]));
}

#[test]
fn a_version_is_good_only_beyond_the_gate_of_the_last_stage() {
    let mut story = staged(vec![Stage { gate: Gate::Approval, ..Stage::rest() }]);
    turn(&mut story);
    assert_eq!(story.rollout.good, Some(v("v1")));
    story.ask(Change::Approve { by: by() });
    story.call();
    assert_eq!(story.rollout.good, Some(v("v3")));
}

#[test]
fn to_promote_is_one_step_and_to_promote_all_is_the_rest() {
    let mut story = staged(vec![
        Stage::canary(Amount::Count(1), Gate::Approval),
        Stage { gate: Gate::Pause(Millis::seconds(60)), ..wave("first", "1") },
    ]);
    let states = |story: &Story| {
        let stages = story.rollout.progress(story.now).stages;
        stages.iter().map(|stage| stage.state).collect::<Vec<_>>()
    };
    use StageState::{AtGate, Done, OnItsWay, Waits};
    let promote = |story: &mut Story| story.ask(Change::Promote { by: by() });
    assert_eq!(states(&story), [OnItsWay, Waits, Waits]);
    promote(&mut story);
    assert_eq!(states(&story), [AtGate, Waits, Waits], "its gate still holds");
    promote(&mut story);
    assert_eq!(states(&story), [Done, OnItsWay, Waits]);
    promote(&mut story);
    assert_eq!(states(&story), [Done, AtGate, Waits]);
    assert_eq!(story.call(), count_of(&[("v1", 10)]));
    promote(&mut story);
    assert_eq!(states(&story), [Done, Done, OnItsWay]);
    assert_eq!(story.call(), count_of(&[("v3", 10)]));
    promote(&mut story);
    assert_eq!(story.rollout.course(), Course::Steady(v("v3")));
    let mut story = staged(vec![Stage::canary(Amount::Count(1), Gate::Approval)]);
    story.ask(Change::PromoteAll { by: by() });
    assert_eq!(story.rollout.course(), Course::Steady(v("v3")));
    let last = story.rollout.history.last().unwrap();
    assert_eq!((last.outcome, last.reason.to_string()), (Outcome::Good, "promoted by ann".to_owned()));
}

#[test]
fn a_stage_has_its_own_options() {
    let quick = Override {
        batch: Some(Amount::Percent(50)),
        success_timeout: Some(Millis::seconds(5)),
        ..Override::default()
    };
    let mut story = staged(vec![Stage { options: quick, ..wave("second", "2") }]);
    assert_eq!(story.call(), count_of(&[("v1", 7), ("v3", 3)]), "half of its seven");
    story.obey();
    story.call();
    story.pass(5);
    assert_eq!(story.call(), count_of(&[("v1", 7), ("v3", 3)]), "5 s are not more than 5 s");
    story.pass(1);
    assert_eq!(story.call(), count_of(&[("v1", 4), ("v3", 6)]));
    story.ask(Change::Abort { by: by(), why: String::new() });
    let long = Override { duration_timeout: Some(Millis::seconds(90)), ..Override::default() };
    let mut story = staged(vec![Stage { options: long, ..wave("second", "2") }]);
    story.call();
    story.pass(90);
    story.call();
    assert_eq!(story.rollout.bad, Some(v("v2")), "only that of before");
    story.pass(1);
    story.call();
    assert_eq!(story.rollout.bad, Some(v("v3")));
}

#[test]
fn a_stage_and_the_whole_have_budgets_of_their_own() {
    let mut story = staged(vec![Stage { failure_budget: Some(Amount::Count(1)), ..wave("second", "2") }]);
    story.options(options(100, 50, 0, 20));
    story.call();
    let fail = |story: &mut Story, n: usize| {
        story.devices.get_mut(&id(&format!("target{n}"))).unwrap().failed = true;
        story.call();
    };
    fail(&mut story, 4);
    assert_eq!(story.rollout.bad, Some(v("v2")), "one may");
    fail(&mut story, 7);
    let reason = story.rollout.known_bad[&v("v3")].reason.to_string();
    assert_eq!(reason, "2 of 7 targets of stage `second` failed, and 1 may: target4, target7");
    let mut story = staged(vec![wave("second", "2")]);
    story.options(options(100, 50, 0, 20));
    let strategy = Strategy { failure_budget: Some(Amount::Percent(10)), ..Strategy::default() };
    story.ask(Change::SetStrategy(Some(Box::new(strategy))));
    story.call();
    fail(&mut story, 4);
    assert_eq!(story.rollout.bad, Some(v("v2")));
    fail(&mut story, 7);
    let reason = story.rollout.known_bad[&v("v3")].reason.to_string();
    assert_eq!(reason, "2 of 10 targets failed, and 1 may: target4, target7");
}

/// It would hold up everybody for ever, and nothing is shown by it either way: its gate is.
#[test]
fn a_stage_that_nobody_is_in_is_passed_by_and_its_gate_is_not() {
    let mut story = staged(vec![Stage { gate: Gate::Approval, ..wave("third", "3") }]);
    story.call();
    assert_eq!(story.call(), count_of(&[("v1", 10)]));
    assert!(told(&mut story).contains(&"stage `third` of `v3` is done".to_owned()));
    story.ask(Change::Approve { by: by() });
    assert_eq!(story.call(), count_of(&[("v3", 10)]));
}

#[test]
fn what_goes_back_knows_no_stages_and_tells_that_it_is_back_once() {
    let mut story = staged(vec![wave("second", "2"), wave("first", "1")]);
    turn(&mut story);
    assert!(on_v3(&story).len() > 7);
    story.ask(Change::Abort { by: by(), why: "it smells".into() });
    assert_eq!(story.call(), count_of(&[("v1", 10)]), "all at once, as the batch is all");
    story.rollout.take_happened();
    story.obey();
    let mut happened = Vec::new();
    for _ in 0..4 {
        story.call();
        story.pass(1);
        happened.extend(story.rollout.take_happened());
    }
    let back = Happened::RolledBack { from: v("v3"), to: v("v1"), failed: 0 };
    assert_eq!(happened, [back]);
}

/// Whoever has the version from the attempt before is in a stage again, and holds up none of the later.
#[test]
fn what_is_tried_again_goes_through_its_stages_again() {
    let mut story = staged(vec![Stage::canary(Amount::Count(2), Gate::Approval)]);
    turn(&mut story);
    story.ask(Change::Approve { by: by() });
    assert_eq!(story.call(), count_of(&[("v3", 10)]));
    story.ask(Change::Abort { by: by(), why: String::new() });
    story.ask(Change::Retry);
    let stages = story.rollout.progress(story.now).stages;
    let counts: Vec<usize> = stages.iter().map(|stage| stage.counts.total).collect();
    assert_eq!(counts, [2, 8]);
    turn(&mut story);
    assert_eq!(story.rollout.progress(story.now).stages[0].state, StageState::AtGate);
    story.ask(Change::Approve { by: by() });
    story.call();
    assert_eq!(story.rollout.course(), Course::Steady(v("v3")));
}

#[test]
fn what_was_begun_keeps_its_stages() {
    let mut story = staged(vec![Stage::canary(Amount::Count(1), Gate::Approval)]);
    story.ask(Change::SetStrategy(None));
    turn(&mut story);
    assert_eq!(turn(&mut story), count_of(&[("v1", 9), ("v3", 1)]));
    let bad = Stage { who: Who::Amount(Amount::Count(0)), ..wave("none", "1") };
    let strategy = Strategy { stages: vec![bad], ..Strategy::default() };
    let before = story.rollout.clone();
    let refused = story.rollout.change(Change::SetStrategy(Some(Box::new(strategy))), story.now);
    assert_eq!(refused.unwrap_err().to_string(), "`stages[0].who.amount` must be more than none");
    assert_eq!(story.rollout, before);
}

#[test]
fn progress_says_all_in_one_value_that_travels() {
    let mut story = staged(vec![Stage::canary(Amount::Count(2), Gate::Approval), wave("second", "2")]);
    let strategy = Strategy { progress_deadline: Some(Millis::seconds(300)), ..Strategy::default() };
    story.ask(Change::SetStrategy(Some(Box::new(strategy))));
    turn(&mut story);
    story.ask(Change::Pause { by: by() });
    story.call();
    let progress = story.rollout.progress(story.now);
    let text = serde_json::to_string(&progress).unwrap();
    assert_eq!(serde_json::from_str::<upbeat_model::rollout::Progress>(&text).unwrap(), progress);
    assert_eq!(progress.course, Course::Forward(v("v3")));
    let counts = |total, available, well| Counts { total, available, well, ..Counts::default() };
    assert_eq!(progress.counts, counts(10, 8, 2));
    let stages: Vec<_> =
        progress.stages.iter().map(|stage| (&*stage.name, stage.counts, stage.required)).collect();
    let expected =
        [("canary", counts(2, 0, 2), 2), ("second", counts(7, 7, 0), 7), ("rest", counts(1, 1, 0), 1)];
    assert_eq!(stages, expected);
    assert_eq!(progress.gate.unwrap().stage, "canary");
    assert_eq!(progress.pause.unwrap().by, "ann");
    assert_eq!(progress.no_progress.unwrap().1, Millis::seconds(300));
    assert_eq!(progress.reasons.len(), 1, "{:?}", progress.reasons);
    let current = progress.current.unwrap();
    assert_eq!((current.version, current.from, current.bad), (v("v3"), Some(v("v1")), None));
}

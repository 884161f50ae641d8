//! Limits, windows, what waits for what, the way back, and what is remembered.

use upbeat_model::Wall;
use upbeat_model::rollout::{Concurrency, Happened, Outcome, Windows};

use super::*;

fn by() -> String {
    "ann".to_owned()
}

fn limited(count: usize, strategy: Strategy) -> Story {
    let mut story = Story::established(count);
    story.options(options(100, 100, 0, 20));
    story.ask(Change::SetStrategy(Some(Box::new(strategy))));
    story
}

fn device_of(story: &mut Story, n: usize) -> &mut Device {
    story.devices.get_mut(&id(&format!("target{n}"))).unwrap()
}

fn count(n: u32) -> Option<Amount> {
    Some(Amount::Count(n))
}

#[test]
fn whoever_is_unwell_counts_whatever_the_reason_and_may_be_moved() {
    let mut story = limited(10, Strategy { max_unavailable: count(3), ..Strategy::default() });
    device_of(&mut story, 8).is_error = true;
    device_of(&mut story, 9).is_error = true;
    story.call();
    assert_eq!(
        story.assigned(),
        count_of(&[("v1", 7), ("v2", 3)]),
        "one that is well, and the two that are not"
    );
    assert_eq!(story.why(), "2 targets are unwell, and 3 may be");
    assert_eq!(story.rollout.progress(story.now).unwell.unwrap().used, 3);
    story.obey();
    story.devices.values_mut().for_each(|device| device.is_error = false);
    story.call();
    story.pass(1);
    assert_eq!(story.call(), count_of(&[("v1", 4), ("v2", 6)]));
    assert_eq!(Amount::Percent(10).of(9), 0);
    let few = Strategy { max_unavailable: Some(Amount::Percent(10)), ..Strategy::default() };
    assert_eq!(limited(9, few).call(), count_of(&[("v1", 8), ("v2", 1)]), "one at least");
}

/// Nobody could take it back, and it would hold up the others for good.
#[test]
fn what_a_person_said_of_a_target_is_over_when_the_next_rollout_begins() {
    let strategy = Strategy {
        max_unavailable: count(1),
        stages: vec![Stage::wave("none", [("ring".into(), "0".into())])],
        ..Strategy::default()
    };
    let mut story = limited(2, strategy);
    established_on(&mut story, "v2");
    story.ask(Change::Fail { target: id("target1"), by: by(), why: String::new() });
    assert_eq!(story.rollout.progress(story.now).counts.failed, 1);
    story.ask(Change::SetVersion(v("v3")));
    story.call();
    assert_eq!(story.call(), count_of(&[("v2", 1), ("v3", 1)]));
    assert_eq!(story.rollout.targets[&id("target0")].assigned.version, Some(v("v3")));
}

/// What goes back is limited all the same, and what is broken goes back at once.
#[test]
fn the_way_back_keeps_the_limit_too() {
    let mut story = limited(10, Strategy { max_unavailable: count(2), ..Strategy::default() });
    for _ in 0..3 {
        story.call();
        story.obey();
        story.call();
        story.pass(1);
    }
    assert!(story.assigned()["v2"] >= 6);
    story.call();
    story.obey();
    story.ask(Change::Abort { by: by(), why: String::new() });
    let mut calls = 0;
    while story.assigned().contains_key("v2") {
        story.call();
        assert!(story.rollout.progress(story.now).unwell.unwrap().used <= 2);
        story.obey();
        story.call();
        story.pass(1);
        calls += 1;
        assert!(calls < 20, "{}", story.why());
    }
    assert!(calls > 2);
}

#[test]
fn no_more_new_targets_than_may_be_there_in_addition() {
    let strategy = Strategy { max_unavailable: count(0), max_surge: count(2), ..Strategy::default() };
    let mut story = limited(4, strategy);
    story.asks.selection = true;
    story.asks.removal = true;
    let mut next = 0;
    story.answers = Box::new(move |question| match question {
        Question::Selection(_, places) => {
            let ids = (0..*places).map(|n| id(&format!("new{}", next + n)));
            let new = ids.map(|id| NewTarget { id, labels: BTreeMap::new() }).collect();
            next += places;
            Answer::Selection(Ok(new))
        }
        Question::Removal(old, most) => Answer::Removal(Ok(old.iter().take(*most).cloned().collect())),
        other => panic!("{other:?}"),
    });
    assert_eq!(story.call(), count_of(&[("v1", 4), ("v2", 2)]));
    assert_eq!(story.why(), "2 new targets were not taken: 2 may be there in addition");
    for _ in 0..12 {
        let served = story.rollout.progress(story.now).unwell.unwrap();
        assert_eq!(served.used, 0, "as many serve as did before");
        assert!(story.rollout.targets.len() <= 6, "{:?}", story.assigned());
        story.obey();
        story.call();
        story.pass(1);
        story.call();
    }
    assert_eq!(story.assigned(), count_of(&[("v2", story.rollout.targets.len())]));
    assert_eq!(story.rollout.course(), Course::Steady(v("v2")));
}

#[test]
fn a_version_on_which_nobody_more_becomes_well_is_bad() {
    let strategy = Strategy { progress_deadline: Some(Millis::seconds(30)), ..Strategy::default() };
    let mut story = limited(3, strategy);
    story.options(options(34, 100, 0, 1000));
    story.call();
    story.obey();
    story.call();
    story.pass(1);
    story.call();
    story.pass(30);
    story.call();
    assert_eq!(story.rollout.bad, None, "not longer than 30 s");
    story.ask(Change::Pause { by: by() });
    story.pass(300);
    story.call();
    assert_eq!(story.rollout.bad, None, "who is paused cannot come further");
    story.ask(Change::Resume);
    story.restart();
    story.pass(30);
    story.call();
    assert_eq!(story.rollout.bad, None);
    story.opening = Some(Opening::Open { lasts: Some(Millis::seconds(1)), until: None });
    story.pass(1);
    story.call();
    assert_eq!(story.rollout.bad, None, "it was closed until now");
    story.opening = None;
    story.call();
    let reason = story.rollout.known_bad[&v("v2")].reason.to_string();
    assert_eq!(reason, "no target more became well within 30s: 1 of 3 are");
}

#[test]
fn outside_of_the_windows_nobody_is_moved_forward_and_all_is_judged() {
    let mut story = limited(4, Strategy::default());
    story.options(options(50, 100, 0, 20));
    story.call();
    story.obey();
    story.opening = Some(Opening::Closed { until: Some(Wall(5)), why: "frozen: the holidays".to_owned() });
    story.call();
    story.pass(1);
    assert_eq!(story.call(), count_of(&[("v1", 2), ("v2", 2)]));
    assert_eq!(story.why(), "frozen: the holidays");
    story.breaks("v2");
    story.call();
    story.pass(21);
    story.call();
    assert_eq!(story.rollout.bad, Some(v("v2")), "judging goes on");
    assert_eq!(story.call(), count_of(&[("v1", 4)]), "and so does going back");
}

/// Whoever was asked has removed them: were that not taken on, others would be removed for them, too.
#[test]
fn what_was_removed_is_gone_though_a_window_closed_meanwhile() {
    let mut story = limited(4, Strategy::default());
    story.options(options(50, 100, 0, 20));
    story.call();
    story.obey();
    story.call();
    story.pass(1);
    let reports: Vec<_> = story.devices.iter().map(|(id, device)| device.report(id, "said")).collect();
    story.rollout.report(reports, story.now);
    let asks = Asks { removal: true, ..Asks::default() };
    let open = || Told::default().opening(Opening::Open { lasts: None, until: None });
    let mut told = open();
    let step = decide(&story.rollout, asks, &told, story.now).unwrap();
    let Step::Ask(Question::Removal(old, 1..)) = step else { panic!("{step:?}") };
    told.take(Answer::Removal(Ok(vec![old[0].clone()])));
    let night = || Opening::Closed { until: None, why: "night".to_owned() };
    let Ok(Step::Settle(decision)) = decide(&story.rollout, asks, &told.opening(night()), story.now) else {
        panic!("it was answered")
    };
    assert_eq!(decision.removed.iter().collect::<Vec<_>>(), [&old[0]]);
    assert_eq!(decision.assigned, []);
    // Nobody is asked, and nobody could not say.
    for told in [Told::default(), {
        let mut failed = open();
        failed.take(Answer::Removal(Err("out".to_owned())));
        failed
    }] {
        let step = decide(&story.rollout, asks, &told.opening(night()), story.now).unwrap();
        let Step::Settle(decision) = step else { panic!("{step:?}") };
        assert!(decision.removed.is_empty());
    }
}

/// And though the version changed meanwhile, or nothing was decided: who was asked about another is not asked for more.
#[test]
fn what_was_removed_for_another_question_counts_as_removed_in_the_rollout_that_is_there() {
    let mut story = limited(4, Strategy::default());
    story.call();
    let all: Vec<TargetId> = story.rollout.targets.keys().cloned().collect();
    let removed = |story: &Story| story.rollout.rolling.as_ref().unwrap().removed;
    assert_eq!(removed(&story), 0);
    let mut told = Told::default();
    let stranger = TargetId::new("", "stranger").unwrap();
    told.take(Answer::Removal(Ok([&all[2..], &[stranger], &all[..2]].concat())));
    let gone = told.gone(&all[1..], 2);
    assert_eq!(gone, all[2..], "not who is unknown, nor more than were asked for");
    story.rollout.take_happened();
    story.rollout.take_gone(&gone);
    assert_eq!((story.rollout.targets.len(), removed(&story)), (2, 2));
    assert_eq!(story.rollout.take_happened().len(), 1);
    // Once.
    story.rollout.take_gone(&gone);
    assert_eq!((story.rollout.targets.len(), removed(&story)), (2, 2));
    assert_eq!(story.rollout.take_happened(), []);
}

#[test]
fn who_forgets_to_say_what_time_it_is_moves_nobody() {
    let windows: Windows = serde_json::from_str(r#"{"open":[{"from":"09:00","to":"10:00"}]}"#).unwrap();
    let mut story = limited(2, Strategy { windows, ..Strategy::default() });
    assert_eq!(story.call(), count_of(&[("v1", 2)]));
    assert_eq!(story.why(), "closed: there are windows, and nobody said what time it is");
    story.opening = Some(story.rollout.strategy.windows.at(Wall(9 * 3_600_000)));
    assert_eq!(story.call(), count_of(&[("v2", 2)]));
}

#[test]
fn a_second_version_waits_or_takes_the_place_or_is_refused() {
    let of = |concurrency| {
        let mut story = limited(2, Strategy { concurrency, ..Strategy::default() });
        story.options(options(50, 100, 0, 20));
        story.call();
        let answer = story.rollout.change(Change::SetVersion(v("v3")), story.now);
        (story, answer)
    };
    let (story, answer) = of(Concurrency::Queue);
    assert_eq!((answer, story.rollout.course()), (Ok(vec![]), Course::Forward(v("v2"))));
    let (mut story, answer) = of(Concurrency::Refuse);
    let text = "version `v2` is on its way: wait for it, abort it, or force `v3`";
    assert_eq!((answer.unwrap_err().to_string(), story.rollout.target.clone()), (text.into(), Some(v("v2"))));
    story.ask(Change::ForceVersion(v("v3")));
    assert_eq!(story.rollout.bad, Some(v("v2")), "what was forced in its place is no second");
    let (mut story, answer) = of(Concurrency::Replace);
    assert_eq!((answer, story.rollout.course()), (Ok(vec![]), Course::Forward(v("v3"))));
    assert_eq!(story.rollout.bad, None, "it is neither good nor bad");
    assert_eq!(story.rollout.history.last().unwrap().outcome, Outcome::Superseded);
    let superseded = Happened::Superseded { version: v("v2"), by: v("v3") };
    assert!(story.rollout.take_happened().contains(&superseded));
    story.options(options(100, 100, 0, 20));
    assert_eq!(story.call(), count_of(&[("v3", 2)]));
    story.obey();
    story.breaks("v3");
    story.call();
    story.pass(21);
    story.call();
    assert_eq!(story.call(), count_of(&[("v1", 2)]), "the one before was not shown to be good");
}

/// All are well on it.
fn established_on(story: &mut Story, version: &str) {
    story.ask(Change::SetVersion(v(version)));
    for _ in 0..8 {
        story.call();
        story.obey();
        story.pass(1);
    }
    story.call();
    assert_eq!(story.rollout.course(), Course::Steady(v(version)), "{}", story.why());
}

#[test]
fn the_way_back_leads_from_good_to_good() {
    let mut story = limited(4, Strategy::default());
    for version in ["v2", "v3", "v4"] {
        established_on(&mut story, version);
    }
    story.opening = Some(Opening::Closed { until: None, why: "night".to_owned() });
    story.ask(Change::Undo { by: by() });
    assert_eq!(story.call(), count_of(&[("v3", 4)]), "at once, and also at night");
    assert_eq!(
        (story.rollout.course(), story.rollout.target.clone()),
        (Course::Steady(v("v3")), Some(v("v3")))
    );
    story.rollout.take_happened();
    story.ask(Change::Undo { by: by() });
    assert_eq!(story.rollout.good, Some(v("v2")), "and not to what was undone");
    let undone = Happened::Undone { version: v("v3"), to: v("v2"), by: by() };
    assert_eq!(story.rollout.take_happened()[0], undone);
    story.opening = None;
    story.obey();
    story.ask(Change::SetVersion(v("v5")));
    story.call();
    assert_eq!(story.rollout.course(), Course::Forward(v("v5")));
    story.ask(Change::Undo { by: by() });
    assert_eq!(story.rollout.course(), Course::Steady(v("v2")), "what was on its way is not taken for good");
    assert_eq!(story.rollout.history.iter().rev().nth(1).unwrap().outcome, Outcome::Undone);
    story.ask(Change::Undo { by: by() });
    assert_eq!(story.rollout.good, Some(v("v1")));
    let before = story.rollout.clone();
    let refused = story.rollout.change(Change::Undo { by: by() }, story.now).unwrap_err().to_string();
    assert_eq!(refused, "there is no version to go back to: none that is known and not bad was good before");
    assert_eq!(story.rollout, before);
}

/// It was good once, and is not any more.
#[test]
fn the_way_back_leads_past_what_is_known_to_be_bad() {
    let mut story = limited(2, Strategy::default());
    for version in ["v2", "v3"] {
        established_on(&mut story, version);
    }
    story.ask(Change::SetVersion(v("v2")));
    story.call();
    story.ask(Change::Abort { by: by(), why: String::new() });
    assert_eq!(story.rollout.course(), Course::Back { from: v("v2"), to: v("v3") });
    story.ask(Change::Undo { by: by() });
    assert_eq!(story.rollout.course(), Course::Steady(v("v1")));
}

#[test]
fn what_is_said_to_have_failed_is_not_waited_for() {
    let mut story = limited(2, Strategy::default());
    story.options(options(50, 100, 0, 1000));
    story.call();
    story.obey();
    device_of(&mut story, 0).failed = true;
    story.call();
    assert_eq!(story.rollout.bad, Some(v("v2")));
    let note = &story.rollout.targets[&id("target0")].assigned.note;
    assert_eq!(note.text, "it was reported to have failed: said");
    // By a person, and whatever is reported.
    let mut story = limited(2, Strategy::default());
    story.options(options(50, 100, 0, 1000));
    story.call();
    story.obey();
    let fail = |story: &mut Story, name: &str| {
        let change = Change::Fail { target: id(name), by: by(), why: "it smells".into() };
        story.rollout.change(change, story.now).map_err(|error| error.to_string())
    };
    assert_eq!(fail(&mut story, "nobody").unwrap_err(), "there is no target `nobody`");
    assert_eq!(
        fail(&mut story, "target1").unwrap_err(),
        "target `target1` cannot have failed: the version in force was not assigned to it"
    );
    fail(&mut story, "target0").unwrap();
    story.restart();
    story.call();
    assert_eq!(story.rollout.bad, Some(v("v2")));
    let note = &story.rollout.targets[&id("target0")].assigned.note;
    assert_eq!(note.text, "ann said that it failed: it smells");
    story.call();
    story.obey();
    story.call();
    story.pass(1);
    story.call();
    assert_eq!(story.rollout.progress(story.now).counts.well, 2, "of what it runs now, nothing was said");
}

#[test]
fn what_is_bad_is_so_for_as_long_as_was_asked() {
    let strategy = Strategy { known_bad_for: Some(Millis::seconds(60)), ..Strategy::default() };
    let mut story = limited(2, strategy);
    story.ask(Change::Abort { by: by(), why: String::new() });
    story.ask(Change::SetVersion(v("v3")));
    story.pass(59);
    assert!(story.rollout.change(Change::SetVersion(v("v2")), story.now).is_err());
    story.pass(1);
    story.ask(Change::SetVersion(v("v2")));
}

#[test]
fn what_ended_is_remembered_by_numbers_that_never_come_again() {
    let mut story = limited(1, Strategy::default());
    for n in 0..60 {
        let change = Change::SetVersion(v(&format!("w{n}")));
        story.rollout.change_by(change, Some("bob"), story.now).unwrap();
        story.call();
        if matches!(story.rollout.course(), Course::Forward(_)) {
            story.ask(Change::Abort { by: by(), why: "no".into() });
        }
        story.call();
        story.restart();
    }
    let history = &story.rollout.history;
    assert_eq!(history.len(), upbeat_model::rollout::HISTORY_MAX);
    assert!(history.windows(2).all(|two| two[0].number < two[1].number));
    let last = history.last().unwrap();
    assert_eq!((last.outcome, last.by.as_deref()), (Outcome::Aborted, Some("bob")));
    assert_eq!((last.reason.to_string(), last.from.clone()), ("aborted by ann: no".into(), Some(v("v1"))));
    assert!(last.number > 60, "{}", last.number);
    assert!(story.rollout.number >= last.number);
}

#[test]
fn what_happened_is_named_by_the_first_few_and_bounded() {
    let mut story = limited(300, Strategy::default());
    story.rollout.take_happened();
    story.call();
    let happened = story.rollout.take_happened();
    let [Happened::Assigned { targets, .. }] = happened.as_slice() else { panic!("{happened:?}") };
    assert_eq!((targets.count, targets.first.len()), (300, upbeat_model::rollout::NAMED));
    assert_eq!(targets.to_string(), "target0, target1, target10, target100, target101 and 295 more");
    for n in 0..HAPPENED_MAX + 10 {
        story.ask(if n % 2 == 0 { Change::Pause { by: by() } } else { Change::Resume });
    }
    let happened = story.rollout.take_happened();
    assert_eq!(happened.len(), HAPPENED_MAX);
    assert_eq!(happened[0], Happened::Dropped { count: 11 });
}

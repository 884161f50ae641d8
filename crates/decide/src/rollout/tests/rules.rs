//! Each rule by itself: the unit rows of `spec/nixmade.md` 2.(b), its suggested cases, and what it calls wrong.

use upbeat_model::rollout::{BadVersion, Caution};

use super::*;

/// The only target has failed on `v2`, and nobody was moved since.
fn gone_bad() -> Story {
    let mut story = Story::established(1);
    story.options(options(100, 100, 0, 2));
    story.call();
    story.obey();
    story.breaks("v2");
    story.call();
    story.pass(3);
    story.call();
    story
}

#[test]
fn a_failure_that_may_be_is_no_rollback() {
    for (failing, is_bad) in [(1, false), (2, true)] {
        let mut story = Story::established(10);
        story.options(options(100, 90, 0, 2));
        story.call();
        story.obey();
        for device in story.devices.values_mut().take(failing) {
            device.is_error = true;
        }
        story.call();
        story.pass(3);
        story.call();
        assert_eq!(story.rollout.bad.is_some(), is_bad, "{failing} of 10, of which 9 have to succeed");
        assert_eq!(story.rollout.good, Some(v(if is_bad { "v1" } else { "v2" })));
    }
}

#[test]
fn nothing_is_shown_by_nobody() {
    let mut story = Story::new();
    assert_eq!(story.try_decide(), Err(Nothing::NoVersion));
    for percent in [0, 1, 100] {
        story.options(options(100, percent, 0, 0));
        story.rollout.target = Some(v("v1"));
        story.try_decide().unwrap();
        assert_eq!((story.rollout.good.clone(), story.why()), (None, "no target has been reported".into()));
    }
}

#[test]
fn where_nothing_has_to_succeed_a_version_is_declared_good() {
    let mut story = Story::new();
    let cautions = story.rollout.change(Change::SetOptions(Some(options(100, 0, 0, 0))), story.now).unwrap();
    assert_eq!(cautions, [Caution::NothingHasToSucceed]);
    story.ask(Change::SetVersion(v("v1")));
    story.devices.insert(id("a"), Device { version: None, is_error: true, ..device("v1") });
    assert_eq!(story.call(), count_of(&[("v1", 1)]));
    assert_eq!(story.rollout.good, Some(v("v1")));
}

#[test]
fn options_that_cannot_be_change_nothing() {
    let mut story = Story::established(3);
    let before = story.rollout.clone();
    let refused = story.rollout.change(Change::SetOptions(Some(options(5, 101, 0, 0))), story.now);
    assert_eq!(refused.unwrap_err().to_string(), "`success_percent` must be between 0 and 100");
    assert_eq!(story.rollout, before);
}

#[test]
fn versions_are_compared_to_the_letter() {
    let mut story = Story::established(1);
    story.call();
    story.devices.insert(id("target0"), device("V2"));
    for _ in 0..3 {
        story.pass(30);
        story.call();
    }
    assert_eq!(story.rollout.good, Some(v("v1")), "V2 is not v2");
    assert_eq!(Version::new(""), Err(BadVersion::Empty));
}

/// The two places of 2.(c): a force, and what comes after the version that rolls.
#[test]
fn another_case_is_another_version_wherever_one_is_asked_for() {
    let mut story = Story::established(2);
    story.call();
    story.ask(Change::ForceVersion(v("V2")));
    assert_eq!(story.rollout.bad, Some(v("v2")), "it is forced over another");
    story.call();
    assert_eq!(story.rollout.course(), Course::Forward(v("V2")));
    let refused = story.rollout.change(Change::SetVersion(v("v2")), story.now);
    assert!(matches!(refused, Err(Refused::KnownBad { .. })), "{refused:?}");
    story.ask(Change::Promote { by: "ann".into() });
    story.call();
    assert_eq!(story.rollout.course(), Course::Steady(v("V2")));
    story.ask(Change::Forgive { version: v("v2"), until: None });
    story.ask(Change::SetVersion(v("v2")));
    story.call();
    assert_eq!(story.rollout.course(), Course::Forward(v("v2")), "V2 is good, and v2 is another");
    story.ask(Change::Abort { by: "ann".into(), why: String::new() });
    assert_eq!(story.rollout.course(), Course::Back { from: v("v2"), to: v("V2") });
}

/// Row *determineCurrentState*: who has the version in force is in the rollout, and only the others are available.
#[test]
fn all_are_available_for_what_rolls_and_nobody_when_that_is_bad() {
    let mut story = Story::established(20);
    let counts = |story: &Story| {
        let Counts { total, available, on_the_way, well, failed } = story.rollout.progress(story.now).counts;
        assert_eq!(total, 20);
        (available, on_the_way + well + failed)
    };
    assert_eq!(counts(&story), (20, 0));
    story.ask(Change::Abort { by: "ann".into(), why: String::new() });
    assert_eq!((story.rollout.bad.clone(), counts(&story)), (Some(v("v2")), (0, 20)));
}

/// Row *monitorTargets*: there is no time to become well in, and a second later all have failed.
#[test]
fn who_is_not_well_has_failed_when_no_time_is_left() {
    let mut story = Story::established(10);
    story.options(options(100, 100, 900, 0));
    story.call();
    story.obey();
    story.breaks("v2");
    story.call();
    let counts = story.rollout.progress(story.now).counts;
    assert_eq!((counts.on_the_way, counts.failed, counts.well), (10, 0, 0));
    story.pass(1);
    story.call();
    let reason = story.rollout.known_bad[&v("v2")].reason.to_string();
    assert!(reason.starts_with("10 of 10 targets failed, and 0 may: "), "{reason}");
}

/// Options by which nobody can ever become well are allowed, and said to be so.
#[test]
fn who_has_to_be_well_for_longer_than_there_is_time_makes_the_version_bad() {
    let mut story = Story::established(3);
    let cautions = story.rollout.change(Change::SetOptions(Some(options(100, 100, 30, 10))), story.now);
    assert!(!cautions.unwrap().is_empty());
    story.call();
    story.obey();
    for _ in 0..11 {
        assert_eq!(story.rollout.bad, None);
        story.call();
        story.pass(1);
    }
    story.call();
    assert_eq!((story.rollout.bad.clone(), story.rollout.good.clone()), (Some(v("v2")), Some(v("v1"))));
}

#[test]
fn the_first_rollout_that_fails_halts_and_keeps_what_runs() {
    let mut story = Story::new();
    story.options(options(50, 100, 0, 2));
    story.devices.extend((0..4).map(|n| (id(&format!("t{n}")), device("old"))));
    story.ask(Change::SetVersion(v("v1")));
    assert_eq!(story.call(), count_of(&[("", 2), ("v1", 2)]));
    story.obey();
    story.devices.insert(id("t2"), device("old"));
    story.devices.insert(id("t3"), device("old"));
    story.breaks("v1");
    story.call();
    story.pass(3);
    story.call();
    assert_eq!(story.rollout.course(), Course::Halted(v("v1")));
    for _ in 0..3 {
        story.pass(10);
        assert_eq!(story.call(), count_of(&[("", 2), ("v1", 2)]), "nobody is moved, and nobody to nothing");
        assert_eq!(story.why(), "halted: no version was ever good, so targets stay as they are");
    }
    story.ask(Change::SetVersion(v("v2")));
    assert_eq!(story.call(), count_of(&[("", 2), ("v1", 2)]));
    assert_eq!(story.call(), count_of(&[("", 2), ("v2", 2)]));
}

#[test]
fn a_version_that_comes_meanwhile_waits_for_the_verdict_and_the_newest_wins() {
    let mut story = Story::established(2);
    story.options(options(100, 100, 0, 10));
    story.call();
    story.obey();
    story.ask(Change::SetVersion(v("v3")));
    story.ask(Change::SetVersion(v("v4")));
    story.call();
    assert_eq!(story.why(), "`v4` follows");
    story.pass(1);
    story.call();
    assert_eq!(story.rollout.good, Some(v("v2")));
    assert_eq!(story.rollout.rolling.as_ref().unwrap().version, v("v4"));
}

#[test]
fn a_version_that_comes_during_a_rollback_takes_the_place_of_the_bad_one_at_once() {
    let mut story = gone_bad();
    assert_eq!(story.rollout.bad, Some(v("v2")));
    story.ask(Change::SetVersion(v("v3")));
    story.call();
    assert_eq!(story.rollout.course(), Course::Forward(v("v3")));
}

#[test]
fn what_is_known_to_be_bad_is_refused_unless_forced_or_forgiven() {
    let mut story = gone_bad();
    story.ask(Change::SetVersion(v("v2")));
    assert!(matches!(story.rollout.course(), Course::Back { .. }), "to say it again changes nothing");
    story.ask(Change::SetVersion(v("v3")));
    story.call();
    let again = |story: &mut Story| story.rollout.change(Change::SetVersion(v("v2")), story.now);
    let refused = again(&mut story).unwrap_err().to_string();
    assert_eq!(refused, "version `v2` is known to be bad: 1 of 1 targets failed, and 0 may: target0");
    assert_eq!(story.rollout.target, Some(v("v3")));
    let until = Some(story.now + Millis::seconds(60));
    story.ask(Change::Forgive { version: v("v2"), until });
    assert!(again(&mut story).is_err());
    story.pass(60);
    assert_eq!(again(&mut story), Ok(vec![]));
    story.rollout.target = Some(v("v3"));
    story.ask(Change::ForceVersion(v("v2")));
    assert!(story.rollout.known_bad.contains_key(&v("v3")), "what was under way is bad from now on");
    assert!(!story.rollout.known_bad.contains_key(&v("v2")));
    story.call();
    assert_eq!(story.rollout.course(), Course::Forward(v("v2")));
}

#[test]
fn a_force_marks_what_rolls_as_bad() {
    let mut story = Story::established(3);
    story.call();
    story.ask(Change::ForceVersion(v("v9")));
    assert_eq!(story.rollout.bad, Some(v("v2")));
    story.call();
    assert_eq!(story.rollout.rolling.as_ref().unwrap().version, v("v9"));
}

#[test]
fn people_pause_resume_abort_promote_and_retry() {
    let mut story = Story::established(10);
    story.options(options(10, 100, 0, 100));
    story.call();
    story.ask(Change::Pause { by: "ann".into() });
    story.obey();
    story.call();
    story.pass(1);
    assert_eq!(story.call(), count_of(&[("v1", 9), ("v2", 1)]));
    assert_eq!(story.why(), "paused by ann");
    story.ask(Change::Resume);
    assert_eq!(story.rollout.change(Change::Resume, story.now), Err(Refused::NotPaused));
    assert_eq!(story.call(), count_of(&[("v1", 8), ("v2", 2)]));
    story.ask(Change::Abort { by: "ann".into(), why: "it smells".into() });
    assert_eq!(story.rollout.known_bad[&v("v2")].reason.to_string(), "aborted by ann: it smells");
    story.call();
    assert_eq!(story.rollout.in_force(), Some(v("v1")));
    story.ask(Change::Retry);
    assert_eq!(story.rollout.course(), Course::Forward(v("v2")));
    assert_eq!(story.rollout.change(Change::Retry, story.now), Err(Refused::NothingToRetry));
    story.ask(Change::Promote { by: "ann".into() });
    assert_eq!(story.rollout.course(), Course::Steady(v("v2")));
    assert!(matches!(
        story.rollout.change(Change::Abort { by: "ann".into(), why: String::new() }, story.now),
        Err(Refused::NothingRolls(_))
    ));
}

#[test]
fn who_was_not_reported_for_longer_than_a_quarter_of_an_hour_is_forgotten() {
    let mut story = Story::established(2);
    let other = [id("target1")];
    story.pass(900);
    story.call_of(&other);
    assert_eq!(story.rollout.targets.len(), 2, "exactly as long");
    story.pass(900);
    story.rollout.recovered(story.now);
    story.call_of(&other);
    assert_eq!(story.rollout.targets.len(), 2, "after a restart everybody was just seen");
    story.pass(901);
    story.call_of(&other);
    assert_eq!(story.rollout.targets.len(), 1);
}

#[test]
fn times_change_with_what_they_are_of() {
    let mut story = Story::established(1);
    let target = |story: &Story| story.rollout.targets[&id("target0")].current.clone();
    let begun = target(&story);
    story.pass(5);
    story.call();
    assert_eq!((target(&story).since, target(&story).note.at), (begun.since, begun.note.at), "the same");
    story.devices.get_mut(&id("target0")).unwrap().is_error = true;
    story.call();
    assert_eq!((target(&story).since, target(&story).note.at), (begun.since, story.now), "an error");
    story.pass(5);
    story.devices.insert(id("target0"), Device { is_error: true, ..device("v2") });
    story.call();
    assert_eq!((target(&story).since, target(&story).note.at), (story.now, story.now), "another version");
}

/// It was reported once, and the time goes on.
#[test]
fn silence_shows_nothing() {
    let mut story = Story::established(2);
    story.options(options(50, 100, 10, 100));
    story.call();
    story.obey();
    story.call();
    story.pass(50);
    let other = [id("target1")];
    story.call_of(&other);
    assert_eq!(story.assigned(), count_of(&[("v1", 1), ("v2", 1)]), "target0 may be dead");
    story.rollout.recovered(story.now);
    story.call_of(&other);
    assert_eq!(story.assigned(), count_of(&[("v1", 1), ("v2", 1)]), "nor does a restart show anything");
    story.call();
    assert_eq!(story.assigned(), count_of(&[("v2", 2)]));
}

#[test]
fn who_monitors_fails_a_target_at_once_and_the_whole_stops_the_call() {
    let mut story = Story::established(3);
    story.asks.monitoring = true;
    story.answers = Box::new(|question| match question {
        Question::Monitoring(asked) => {
            Answer::Monitoring(asked.iter().map(|id| (id.clone(), "disk full".to_owned())).collect())
        }
        other => panic!("{other:?}"),
    });
    story.call();
    story.obey();
    story.call();
    assert_eq!(story.rollout.bad, Some(v("v2")));
    let note = &story.rollout.targets[&id("target0")].assigned.note;
    assert_eq!((&*note.text, note.is_error), ("target monitoring failed: disk full", true));
    let mut story = Story::established(3);
    story.asks.external = true;
    story.answers = Box::new(|_| Answer::External(Err("error rate".into())));
    let before = story.rollout.clone();
    assert_eq!(story.try_decide(), Err(Nothing::External("error rate".into())));
    assert_eq!(story.rollout, before);
}

#[test]
fn who_approves_lets_some_go_and_an_error_lets_nobody() {
    for (answer, moved, why) in [
        (Ok(vec![id("target1")]), 1, "not approved: target0, target2, target3, target4"),
        (Err("no answer".to_owned()), 0, "approval could not be asked: no answer"),
        (Ok(vec![id("Group2/target1")]), 0, "not approved: target0, target1, target2, target3, target4"),
    ] {
        let mut story = Story::established(10);
        story.options(options(50, 100, 0, 10));
        story.asks.approval = true;
        story.answers = Box::new(move |question| match question {
            Question::Approval(asked) if asked.len() == 5 => Answer::Approval(answer.clone()),
            other => panic!("{other:?}"),
        });
        story.call();
        assert_eq!(story.assigned().get("v2").copied().unwrap_or(0), moved);
        assert_eq!(story.why(), why);
    }
}

/// Step 5: as many old ones go as new ones have been decided about, less those on their way, and a batch at most.
#[test]
fn no_more_old_targets_go_than_new_ones_were_decided_about() {
    let mut story = Story::established(10);
    story.options(options(30, 60, 0, 5));
    story.asks.removal = true;
    let asked = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let noted = asked.clone();
    story.answers = Box::new(move |question| match question {
        Question::Removal(old, most) => {
            noted.borrow_mut().push((old.len(), *most));
            Answer::Removal(Ok(Vec::new()))
        }
        other => panic!("{other:?}"),
    });
    story.call();
    story.obey();
    story.call();
    assert_eq!(*asked.borrow(), [], "three are on their way, and nobody is well");
    // Two of them are well, and one is not: two less one may go.
    story.devices.get_mut(&id("target2")).unwrap().is_error = true;
    story.pass(1);
    story.call();
    assert_eq!(asked.take(), [(7, 1)]);
    // Its time is over, and the two that took the free places are on their way.
    story.obey();
    story.pass(5);
    story.call();
    assert_eq!(asked.take(), [(5, 1)], "two that are well and one that has failed, less two");
    story.obey();
    story.pass(1);
    story.call();
    assert_eq!(asked.take(), [(4, 3)], "four and one, less one, and a batch at most");
}

/// Row of step 7: the words of the first such engine.
#[test]
fn who_is_given_what_is_good_already_is_told_so() {
    let mut story = Story::established(2);
    story.ask(Change::Promote { by: "ann".into() });
    assert_eq!(story.call(), count_of(&[("v1", 1), ("v2", 1)]));
    let note =
        |story: &Story, n| story.rollout.targets[&id(&format!("target{n}"))].assigned.note.text.clone();
    assert_eq!(note(&story, 0), "Setting LKG to version v2");
    story.devices.insert(id("target9"), device("v1"));
    story.call();
    assert_eq!(note(&story, 9), "new target, setting lkg");
    let new = &story.rollout.targets[&id("target9")];
    assert_eq!((new.assigned.since, new.current.since), (story.now, story.now), "its time begins now");
    assert_eq!(story.rollout.targets[&id("target9")].assigned.version, Some(v("v2")));
}

#[test]
fn whoever_selects_too_many_or_others_gets_no_more_than_there_are_places() {
    let mut story = Story::established(4);
    story.options(options(50, 100, 0, 10));
    story.asks.selection = true;
    story.answers = Box::new(|question| match question {
        Question::Selection(all, 2) => {
            let new = |id: &TargetId| NewTarget { id: id.clone(), labels: BTreeMap::new() };
            let twice = all.iter().chain(all).map(new);
            Answer::Selection(Ok(twice.chain((0..9).map(|n| new(&id(&format!("new{n}"))))).collect()))
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(story.call(), count_of(&[("v1", 2), ("v2", 2)]));
}

/// A person has mended what it was.
#[test]
fn what_is_tried_again_has_its_whole_time_again() {
    for again in [Change::Retry, Change::ForceVersion(v("v2"))] {
        let mut story = gone_bad();
        story.devices.values_mut().for_each(|device| device.is_error = false);
        story.ask(again);
        story.call();
        assert_eq!(story.rollout.bad, None, "not by what it was before");
        story.pass(1);
        story.call();
        assert_eq!(story.rollout.good, Some(v("v2")));
    }
}

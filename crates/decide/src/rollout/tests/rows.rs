//! The rows of `spec/nixmade.md` 2.(b), and the worked trace, in virtual time.

use super::*;

#[test]
fn three_targets_are_moved_one_after_the_other() {
    let mut story = Story::established(3);
    story.options(options(5, 100, 0, 10));
    for moved in 1..=3 {
        let old = 3 - moved;
        let expected =
            if old == 0 { count_of(&[("v2", 3)]) } else { count_of(&[("v1", old), ("v2", moved)]) };
        assert_eq!(story.call(), expected);
        story.obey();
        story.pass(1);
        story.call();
        story.pass(1);
    }
    story.call();
    assert_eq!(story.rollout.good, Some(v("v2")));
    assert_eq!(story.rollout.course(), Course::Steady(v("v2")));
}

#[test]
fn an_error_of_the_first_rolls_all_back() {
    let mut story = Story::established(3);
    story.options(options(5, 100, 0, 2));
    assert_eq!(story.call(), count_of(&[("v1", 2), ("v2", 1)]));
    story.obey();
    story.breaks("v2");
    story.call();
    story.pass(3);
    assert_eq!(story.call(), count_of(&[("v1", 2), ("v2", 1)]), "it is only found to be bad");
    assert_eq!((story.rollout.bad.clone(), story.rollout.good.clone()), (Some(v("v2")), Some(v("v1"))));
    assert_eq!(story.call(), count_of(&[("v1", 3)]));
    assert_eq!(story.rollout.good, Some(v("v1")));
    let back = Course::Back { from: v("v2"), to: v("v1") };
    assert_eq!(story.rollout.course(), back, "as long as nobody asks for another");
    story.obey();
    story.pass(60);
    assert_eq!(story.call(), count_of(&[("v1", 3)]));
}

/// Makes new targets, and removes old ones.
fn blue_green() -> Box<dyn FnMut(&Question) -> Answer> {
    let mut next = 3;
    Box::new(move |question| match question {
        Question::Selection(_, count) => {
            let new = (next..next + count)
                .map(|n| NewTarget { id: id(&format!("target{n}")), labels: BTreeMap::new() });
            next += count;
            Answer::Selection(Ok(new.collect()))
        }
        Question::Removal(old, _) => Answer::Removal(Ok(old[..1].to_vec())),
        other => panic!("{other:?}"),
    })
}

#[test]
fn new_targets_take_the_place_of_old_ones() {
    let mut story = Story::established(3);
    story.options(options(5, 100, 0, 10));
    (story.asks.selection, story.asks.removal) = (true, true);
    story.answers = blue_green();
    story.call();
    for moved in 1..=3 {
        assert_eq!(story.assigned().get("v2"), Some(&moved), "{:?}", story.assigned());
        story.obey();
        for _ in 0..2 {
            story.pass(1);
            story.call();
            story.obey();
        }
    }
    story.pass(1);
    story.call();
    assert_eq!(
        story.rollout.targets.keys().map(ToString::to_string).collect::<Vec<_>>(),
        ["target3", "target4", "target5"]
    );
    assert_eq!(story.rollout.good, Some(v("v2")));
}

#[test]
fn entities_do_not_know_of_each_other() {
    let mut stories: Vec<Story> = (0..6).map(|_| Story::established(3)).collect();
    for (n, story) in stories.iter_mut().enumerate() {
        story.options(options(5, 100, 0, 2));
        story.call();
        story.obey();
        if n % 2 == 0 {
            story.breaks("v2");
        }
    }
    for _ in 0..12 {
        for story in &mut stories {
            story.pass(1);
            story.call();
            story.obey();
        }
    }
    for (n, story) in stories.iter().enumerate() {
        let expected = if n % 2 == 0 { "v1" } else { "v2" };
        assert_eq!(story.assigned(), count_of(&[(expected, 3)]), "{n}");
        assert_eq!(story.rollout.good, Some(v(expected)));
    }
}

#[test]
fn what_was_kept_goes_on() {
    let mut story = Story::established(3);
    story.options(options(5, 100, 0, 10));
    for _ in 0..12 {
        story.restart();
        story.call();
        story.obey();
        story.pass(1);
    }
    assert_eq!(story.rollout.good, Some(v("v2")));
}

#[test]
fn ten_targets_of_one_group_and_ten_of_another() {
    let mut story = Story::established(10);
    assert_eq!(story.call(), count_of(&[("v1", 9), ("v2", 1)]));
    story.devices.extend((0..10).map(|n| (id(&format!("Group2/target{n}")), device("v1"))));
    assert_eq!(story.call(), count_of(&[("v1", 19), ("v2", 1)]));
    let moved = story.rollout.targets.iter().filter(|(_, target)| target.assigned.version == Some(v("v2")));
    assert!(moved.into_iter().all(|(id, _)| id.group.is_empty()));
}

#[test]
fn whoever_selects_decides_who_is_next() {
    let mut story = Story::established(10);
    story.asks.selection = true;
    story.answers = Box::new(|question| match question {
        Question::Selection(all, 1) => {
            Answer::Selection(Ok(vec![NewTarget { id: all[7].clone(), labels: BTreeMap::new() }]))
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(story.call(), count_of(&[("v1", 9), ("v2", 1)]));
    assert_eq!(story.rollout.targets[&id("target7")].assigned.version, Some(v("v2")));
}

/// 10 targets, options 10/100/2/3: the trace of `spec/nixmade.md` 2.F.
#[test]
fn the_worked_trace() {
    let mut story = Story::established(10);
    story.options(options(10, 100, 2, 3));
    for moved in 1..=10 {
        // A call that begins the move, and one 3 s after the switch was reported that frees its place and takes
        // the next.
        let expected = match 10 - moved {
            0 => count_of(&[("v2", 10)]),
            old => count_of(&[("v1", old), ("v2", moved)]),
        };
        assert_eq!(story.call(), expected);
        story.obey();
        assert_eq!(story.call(), expected, "it has just switched");
        story.pass(2);
        assert_eq!(story.call(), expected, "2 s are not more than 2 s");
        story.pass(1);
    }
    story.call();
    assert_eq!(story.rollout.good, Some(v("v2")));

    story.ask(Change::SetVersion(v("v3")));
    story.call();
    assert_eq!(story.call(), count_of(&[("v2", 9), ("v3", 1)]));
    story.obey();
    story.breaks("v3");
    story.call();
    story.pass(3);
    story.call();
    assert_eq!(story.rollout.bad, None, "3 s are not more than 3 s");
    story.pass(1);
    assert_eq!(story.call(), count_of(&[("v2", 9), ("v3", 1)]));
    assert_eq!(story.rollout.bad, Some(v("v3")));
    assert_eq!(story.call(), count_of(&[("v2", 10)]));
    let moved = &story.rollout.targets[&id("target0")].assigned;
    assert_eq!(moved.note.text, "Rolling back to lkg version v2");
    assert_eq!(story.rollout.rolling.as_ref().unwrap().version, v("v3"), "still asked for, and still bad");
}

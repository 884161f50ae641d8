//! What the planners before this one did wrong, each by a test (`spec/mahler.md` 1.A.2 and 1.(c),
//! `spec/traps.md` 6.2.4).

use core::sync::atomic::AtomicBool;

use upbeat_model::plan::{ContainerState, Task};

use super::scene::{Scene, of};
use super::*;

fn tasks(plan: &Plan, which: impl Fn(&Task) -> bool) -> Vec<String> {
    plan.steps.iter().filter(|step| which(&step.task)).map(|step| step.task.to_string()).collect()
}

/// Three are kept and one is dropped: the first planner had not finished after nine minutes.
#[test]
fn a_dropped_service_goes_last_and_takes_nothing_with_it() {
    let mut scene = Scene::tracked(&[0], Some(1));
    for name in ["a", "b", "c", "old"] {
        scene = scene.runs(name, of("run"), 0);
    }
    for name in ["a", "b", "c"] {
        scene = scene.wants(name, of("run"), 1);
    }
    let plan = scene.plan();
    assert_eq!(tasks(&plan, |task| matches!(task, Task::Stop { .. })).len(), 1);
    assert_eq!(tasks(&plan, |task| matches!(task, Task::Migrate { .. })).len(), 3);
    assert_eq!(tasks(&plan, Task::prepares), Vec::<String>::new());
    assert_eq!(plan.interruptions(), "Interrupted: old-1 from step 2, for good.");
}

/// Interrupted in the midst of an update the first one had no plan, for good.
#[test]
fn a_dropped_service_goes_also_when_the_new_release_is_there_already() {
    let scene = Scene::tracked(&[0, 1], Some(1))
        .image("a0_main:r1")
        .runs("main", of("old"), 0)
        .runs("old", of("run"), 0)
        .wants("main", of("new"), 1);
    assert_eq!(
        scene.lines(),
        [
            "1. create container for service 'main' of app 'a0' and release 'r1'",
            "2. stop container for service 'main' of app 'a0' and release 'r0' [after 1]",
            "3. remove container for service 'main' of app 'a0' and release 'r0' [after 2]",
            "4. start container for service 'main' of app 'a0' and release 'r1' [after 3]",
            "5. stop container for service 'old' of app 'a0' and release 'r0' [after 4]",
            "6. remove container for service 'old' of app 'a0' and release 'r0' [after 5]",
            "7. remove release 'r0' [after 6]",
            "Interrupted: main-1 from step 2 to step 4; old-1 from step 5, for good.",
        ]
    );
}

#[test]
fn what_is_migrated_is_not_pulled() {
    let scene = Scene::tracked(&[0], Some(1)).runs("main", of("run"), 0).wants("main", of("run"), 1);
    assert_eq!(
        scene.lines(),
        [
            "1. initialize release 'r1' for app 'a0'",
            "2. migrate unchanged service 'main' of app 'a0' to release 'r1' [after 1]",
            "3. remove release 'r0' [after 2]",
            "Nothing that runs is interrupted.",
        ]
    );
}

/// `/a/1` was taken for a part of `/a/10`, and one waited for the other.
#[test]
fn names_that_begin_alike_do_not_wait_for_each_other() {
    let mut scene = Scene::tracked(&[0], Some(0)).image("a0_1:r0").image("a0_10:r0");
    scene = scene.wants("1", of("run"), 0).wants("10", of("run"), 0).wants("1-10", of("run"), 0);
    let plan = scene.plan();
    assert!(
        plan.steps.iter().all(|step| step.after.len() == usize::from(step.level == 1)),
        "{}",
        plan.text()
    );
    assert_eq!(plan.steps.len(), 6);
}

/// Of a strict target deletions were lost on the way to the planner.
#[test]
fn what_is_missing_from_the_target_is_removed_as_what_shall_be_absent() {
    let there = Scene::tracked(&[0], Some(0)).runs("gone", of("run"), 0);
    let mut absent = there.clone();
    absent.wanted.insert(scene::at("gone"), wish(Goal::Absent, of("run")));
    assert_eq!(there.lines(), absent.lines());
    assert_eq!(there.plan().steps.len(), 2);
    let mut app = there;
    app.how.releases.values_mut().for_each(|wanted| *wanted = None);
    assert_eq!(
        app.lines(),
        [
            "1. stop container for service 'gone' of app 'a0' and release 'r0'",
            "2. remove container for service 'gone' of app 'a0' and release 'r0' [after 1]",
            "3. remove release 'r0' [after 2]",
            "4. remove app 'a0' [after 3]",
            "Interrupted: gone-1 from step 1, for good.",
        ]
    );
}

/// A search could not be interrupted by its own time-out.
#[test]
fn planning_ends_when_it_is_told_to_or_has_no_room() {
    let scene = Scene::default().wants("main", of("run"), 1).wants("other", of("run"), 1);
    let stop = AtomicBool::new(true);
    let limits = Limits { stop: Some(&stop), ..Limits::default() };
    assert_eq!(super::super::plan(&Input { limits, ..scene.input() }), Err(NoPlan::Interrupted));
    let limits = Limits { work: 5, ..Limits::default() };
    assert_eq!(super::super::plan(&Input { limits, ..scene.input() }), Err(NoPlan::TooLarge(5)));
}

/// Commands were compared as joined by spaces.
#[test]
fn words_of_a_command_are_not_joined() {
    let split = of("a b");
    let mut joined = of("a");
    joined.container.as_mut().unwrap().command = Some(vec!["a b".to_owned()]);
    let scene = Scene::default().image("alpine:latest").runs("main", split, 1).wants("main", joined, 1);
    let plan = scene.plan();
    assert_eq!(plan.steps.len(), 4);
    assert_eq!(plan.steps[0].reason, StepReason::Changed { fields: vec!["command".to_owned()] });
}

/// Of several other releases only the first was looked at.
#[test]
fn every_other_release_is_looked_at() {
    let mut scene = Scene::tracked(&[0, 1, 2], Some(3)).has("main", of("oldest"), 0, ContainerState::Stopped);
    scene = scene.has("main", of("run"), 1, ContainerState::Stopped).runs("main", of("older"), 2);
    scene = scene.wants("main", of("run"), 3);
    assert_eq!(
        scene.lines(),
        [
            "1. initialize release 'r3' for app 'a0'",
            "2. stop container for service 'main' of app 'a0' and release 'r2'",
            "3. remove container for service 'main' of app 'a0' and release 'r0'",
            "4. migrate unchanged service 'main' of app 'a0' to release 'r3' [after 1]",
            "5. remove container for service 'main' of app 'a0' and release 'r2' [after 2]",
            "6. start container for service 'main' of app 'a0' and release 'r3' [after 3, 4, 5]",
            "7. remove release 'r0' [after 6]",
            "8. remove release 'r1' [after 4, 6]",
            "9. remove release 'r2' [after 6]",
            "Interrupted: main-1 from step 2 to step 6.",
        ]
    );
}

/// What shall be stopped was started first.
#[test]
fn what_shall_be_stopped_is_not_started() {
    let fresh = Scene::tracked(&[0], Some(0)).wants_stopped("main", of("run"), 0);
    let running =
        Scene::tracked(&[0], Some(0)).runs("main", of("run"), 0).wants_stopped("main", of("run"), 0);
    let changed =
        Scene::tracked(&[0], Some(0)).runs("main", of("old"), 0).wants_stopped("main", of("run"), 0);
    for scene in [&fresh, &running, &changed] {
        assert_eq!(tasks(&scene.plan(), |task| matches!(task, Task::Start { .. })), Vec::<String>::new());
    }
    assert_eq!(running.plan().steps.len(), 1);
}

/// The order of keys decided whether a state had been seen before.
#[test]
fn the_order_in_which_things_are_said_changes_nothing() {
    let names = ["a", "b", "c", "d"];
    let say = |order: &[&str]| {
        order.iter().fold(Scene::tracked(&[0], Some(1)), |scene, name| {
            scene.runs(name, of("old"), 0).wants(name, of("new"), 1)
        })
    };
    let backwards: Vec<&str> = names.iter().rev().copied().collect();
    assert_eq!(say(&names).plan(), say(&backwards).plan());
}

//! The plans of `docs/plans.md`, held against what the planner says, and the first three of them against what
//! the first planner of this kind said.

use upbeat_model::plan::{ContainerState, Task};

use super::scene::{Scene, of};

/// The first block of text below a heading.
fn on_page(heading: &str) -> String {
    let page = include_str!("../../../../../docs/plans.md");
    let start = page.find(&format!("### {heading}\n")).unwrap_or_else(|| panic!("no heading `{heading}`"));
    let block = page[start..].split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("no plan below `{heading}`")).to_owned()
}

/// What the seven begin with, and what is wanted, each with its heading.
fn scenes() -> Vec<(&'static str, Scene)> {
    let same = || of("sleep infinity");
    let other = || of("sleep 60");
    let running = |release| Scene::tracked(&[0], Some(release)).image("a0_main:r0").runs("main", same(), 0);
    vec![
        ("M1: from nothing", Scene::tracked(&[], Some(0)).image("a0_main:r0").wants("main", same(), 0)),
        ("M2: without an image", Scene::tracked(&[0], Some(0)).wants("main", same(), 0)),
        (
            "M3: made, not started",
            Scene::tracked(&[0], Some(0))
                .image("a0_main:r0")
                .has("main", same(), 0, ContainerState::Created)
                .wants("main", same(), 0),
        ),
        ("M4: stopped, from nothing", Scene::tracked(&[0], Some(0)).wants_stopped("main", same(), 0)),
        ("M5: another command", running(0).wants("main", other(), 0)),
        ("M6: another release", running(1).wants("main", other(), 1).wants("other", same(), 1)),
        (
            "M7: another release, one service unchanged",
            running(1).wants("main", same(), 1).wants("other", same(), 1),
        ),
        (
            "A service is dropped",
            running(1).image("a0_old:r0").runs("old", same(), 0).wants("main", other(), 1),
        ),
    ]
}

#[test]
fn the_planner_says_what_the_page_says() {
    for (heading, scene) in scenes() {
        assert_eq!(scene.plan().text(), on_page(heading), "{heading}");
    }
}

/// A step of the first planner: its task, what of the state that is about, and its description.
type Seed = (&'static str, &'static str, &'static str);

/// `spec/mahler.md` 1.(b), with the names and the descriptions of its tasks from 1.A.2.
const SEED: [(&str, &[Seed]); 3] = [
    (
        "M1: from nothing",
        &[
            ("createApp", "/apps/a0", "create /apps/a0"),
            ("createRelease", "/apps/a0/releases/r0", "initialize release 'r0' for app 'a0'"),
            INSTALL,
            START,
        ],
    ),
    (
        "M2: without an image",
        &[
            ("fetch", "/images/a0_main:r0", "pull image 'alpine:latest' with tag 'a0_main:r0'"),
            INSTALL,
            START,
        ],
    ),
    ("M3: made, not started", &[START]),
];
const INSTALL: Seed = (
    "installService",
    "/apps/a0/releases/r0/services/main",
    "create container for service 'main' of app 'a0' and release 'r0'",
);
const START: Seed = (
    "startService",
    "/apps/a0/releases/r0/services/main",
    "start container for service 'main' of app 'a0' and release 'r0'",
);

/// A task of ours by the name it had there, and what it is about.
fn in_seed(task: &Task) -> (&'static str, String) {
    let of_service = |slot: &upbeat_model::SlotId, release: &Option<upbeat_model::plan::Release>| {
        let release = release.as_ref().map_or("-", |release| release.name.as_str());
        format!("/apps/{}/releases/{release}/services/{}", slot.app, slot.service)
    };
    match task {
        Task::CreateApp { app } => ("createApp", format!("/apps/{app}")),
        Task::CreateRelease { app, release } => {
            ("createRelease", format!("/apps/{app}/releases/{}", release.name))
        }
        Task::Pull { tag, .. } => ("fetch", format!("/images/{}", tag.as_deref().unwrap_or("-"))),
        Task::Create { slot, release, .. } => ("installService", of_service(slot, release)),
        Task::Start { slot, release, .. } => ("startService", of_service(slot, release)),
        other => ("none of its first three plans", other.to_string()),
    }
}

/// Task, place and words, step by step. What the page has besides is three things: each step's number, what
/// it waits for, and the last line, that nothing is interrupted.
#[test]
fn the_first_three_are_those_of_the_first_planner() {
    let scenes = scenes();
    for (heading, seed) in SEED {
        let (_, scene) = scenes.iter().find(|(of, _)| *of == heading).expect("it is one of the seven");
        let ours: Vec<_> = scene.plan().steps.iter().map(|step| in_seed(&step.task)).collect();
        let theirs: Vec<_> = seed.iter().map(|(task, of, _)| (*task, (*of).to_owned())).collect();
        assert_eq!(ours, theirs, "{heading}");
        let page = on_page(heading);
        let lines: Vec<&str> = page.lines().collect();
        let (last, steps) = lines.split_last().expect("a plan has lines");
        assert_eq!(*last, "Nothing that runs is interrupted.");
        let words: Vec<&str> = steps
            .iter()
            .enumerate()
            .map(|(place, line)| {
                let said = line.strip_prefix(&format!("{}. ", place + 1)).expect("its number");
                // One after the other: each waits for the one before it.
                let after = if place == 0 { String::new() } else { format!(" [after {place}]") };
                said.strip_suffix(after.as_str()).expect("what it waits for")
            })
            .collect();
        let described: Vec<&str> = seed.iter().map(|(_, _, words)| *words).collect();
        assert_eq!(words, described, "{heading}");
    }
}

//! The plans of `docs/plans.md`, held against what the planner says.

use upbeat_model::plan::ContainerState;

use super::scene::{Scene, of};

/// The first block of text below a heading.
fn on_page(heading: &str) -> String {
    let page = include_str!("../../../../../docs/plans.md");
    let start = page.find(&format!("### {heading}\n")).unwrap_or_else(|| panic!("no heading `{heading}`"));
    let block = page[start..].split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("no plan below `{heading}`")).to_owned()
}

#[test]
fn the_planner_says_what_the_page_says() {
    let same = || of("sleep infinity");
    let other = || of("sleep 60");
    let running = |release| Scene::tracked(&[0], Some(release)).image("a0_main:r0").runs("main", same(), 0);
    for (heading, scene) in [
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
    ] {
        assert_eq!(scene.plan().text(), on_page(heading), "{heading}");
    }
}

//! Broken plans: each rule of a plan is broken by hand once, and the linter finds it.

use upbeat_model::plan::{After, Step, Strategy, Task};

use super::super::tasks::Unmet;
use super::scene::{Scene, at, needing, of, probed};
use super::*;

/// Steps whose numbers are no more than names, put in order and numbered by their places.
fn renumbered(mut steps: Vec<Step>) -> Plan {
    let names: Vec<u32> = steps.iter().map(|step| step.number).collect();
    steps.iter_mut().for_each(|step| step.after.retain(|after| names.contains(&after.step)));
    let mut levels: BTreeMap<u32, u32> = BTreeMap::new();
    while levels.len() < steps.len() {
        let known = levels.len();
        for step in &steps {
            let below: Option<Vec<u32>> =
                step.after.iter().map(|after| levels.get(&after.step).map(|level| level + 1)).collect();
            if let Some(below) = below {
                levels.insert(step.number, below.into_iter().max().unwrap_or(0));
            }
        }
        assert!(levels.len() > known, "a circle");
    }
    steps.iter_mut().for_each(|step| step.level = levels[&step.number]);
    steps.sort_by_key(|step| (step.level, step.slot().cloned(), step.task.rank(), step.number));
    let places: BTreeMap<u32, u32> = steps.iter().map(|step| step.number).zip(1..).collect();
    for step in &mut steps {
        step.number = places[&step.number];
        step.after.iter_mut().for_each(|after| after.step = places[&after.step]);
        step.after.sort_by_key(|after| after.step);
    }
    Plan { steps, ..Plan::default() }
}

/// Without a step; who waited for it waits for what it waited for.
fn without(plan: &Plan, number: u32) -> Plan {
    let mut steps = plan.steps.clone();
    let gone = steps.remove(number as usize - 1);
    for step in steps.iter_mut().filter(|step| step.after.iter().any(|after| after.step == number)) {
        let others = gone.after.iter().filter(|own| step.after.iter().all(|after| after.step != own.step));
        let others: Vec<After> = others.cloned().collect();
        step.after.extend(others);
    }
    renumbered(steps)
}

/// With a step more, that these wait for.
fn with(plan: &Plan, task: Task, reason: StepReason, (after, before): (&[u32], &[u32])) -> Plan {
    let mut steps = plan.steps.clone();
    let number = counted(steps.len() + 1);
    let wait = |step: u32| After { step, condition: None };
    for waiting in before {
        steps[*waiting as usize - 1].after.push(wait(number));
    }
    let (goal, undo) = (task.goal(), task.undo());
    let after = after.iter().copied().map(wait).collect();
    steps.push(Step { number, level: 0, task, goal, reason, after, undo, interrupts: false });
    renumbered(steps)
}

/// A step does not wait for another one any more.
fn loosened(plan: &Plan, number: u32, on: u32) -> Plan {
    let mut steps = plan.steps.clone();
    let after = &mut steps[number as usize - 1].after;
    let edges = after.len();
    after.retain(|after| after.step != on);
    assert_eq!(after.len() + 1, edges, "step {number} waits for step {on}:\n{}", plan.text());
    renumbered(steps)
}

fn updated(names: &[&str], make: impl Fn(&str, &str) -> Service) -> Scene {
    names.iter().fold(Scene::default().image("alpine:latest"), |scene, name| {
        scene.runs(name, make(name, "old"), 1).wants(name, make(name, "new"), 2)
    })
}

/// The number of the first step whose words begin so.
fn step(plan: &Plan, words: &str) -> u32 {
    let found = plan.steps.iter().find(|step| step.task.to_string().starts_with(words));
    found.unwrap_or_else(|| panic!("no step `{words}` in\n{}", plan.text())).number
}

/// What the linter says of a broken plan; of the plan as it was made it says nothing.
fn found(scene: &Scene, made: &Plan, broken: &Plan) -> Vec<Violation> {
    assert_eq!(lint(made, &scene.input()), []);
    lint(broken, &scene.input())
}

#[track_caller]
fn assert_finds(found: &[Violation], is_meant: impl Fn(&Violation) -> bool) {
    assert!(found.iter().any(is_meant), "{found:?}");
}

#[test]
fn steps_out_of_order_are_found() {
    let scene = updated(&["a", "b"], |_, command| of(command));
    let plan = scene.plan();
    let mut swapped = plan.clone();
    swapped.steps.swap(0, 1);
    assert_finds(&found(&scene, &plan, &swapped), |v| *v == Violation::Number(2));
    let mut too_deep = plan.clone();
    too_deep.steps.last_mut().unwrap().level += 1;
    let last = counted(plan.steps.len());
    assert_eq!(found(&scene, &plan, &too_deep), [Violation::Number(last)]);
    // Numbered by place and level, and not by slot.
    let mut by_name = plan.clone();
    let (a, b) = (by_name.steps[0].task.clone(), by_name.steps[1].task.clone());
    (by_name.steps[0].task, by_name.steps[1].task) = (b, a);
    assert_eq!(found(&scene, &plan, &by_name), [Violation::Number(2)]);
}

#[test]
fn an_edge_that_leads_nowhere_or_back_is_found() {
    let scene = updated(&["a"], |_, command| of(command));
    let plan = scene.plan();
    for on in [0, 2, 4, 9] {
        let mut broken = plan.clone();
        broken.steps[1].after = vec![After { step: on, condition: None }];
        assert_finds(&found(&scene, &plan, &broken), |v| *v == Violation::Edge { step: 2, on });
    }
}

#[test]
fn two_in_one_slot_are_found() {
    let scene = updated(&["a"], |_, command| of(command));
    let plan = scene.plan();
    let (made, starts) = (step(&plan, "create container"), step(&plan, "start container"));
    let removes = step(&plan, "remove container");
    let hasty = with(
        &loosened(&plan, starts, removes),
        Task::Prepared { app: AppName::new("a0").unwrap() },
        StepReason::Order,
        (&[made], &[starts]),
    );
    assert_finds(&found(&scene, &plan, &hasty), |v| {
        matches!(v, Violation::Condition { unmet: Unmet::Runs(_), .. })
    });
    // Beside the old one only once, too.
    let scene = updated(&["a"], |_, command| of(command)).by("a", Strategy::StartFirst);
    let plan = scene.plan();
    let mut in_its_place = plan.clone();
    let starts = step(&plan, "start container beside");
    if let Task::Start { temporary, .. } = &mut in_its_place.steps[starts as usize - 1].task {
        *temporary = false;
    }
    assert_finds(&found(&scene, &plan, &in_its_place), |v| {
        *v == Violation::Condition { step: starts, unmet: Unmet::Runs("container a0-a-1.of-1".into()) }
    });
}

#[test]
fn what_may_happen_before_what_it_needs_is_found() {
    let scene = Scene::default().wants("a", of("run"), 1);
    let plan = scene.plan();
    let (pulls, makes) = (step(&plan, "pull"), step(&plan, "create container"));
    let hasty = loosened(&plan, makes, pulls);
    assert_finds(
        &found(&scene, &plan, &hasty),
        |v| matches!(v, Violation::Condition { unmet: Unmet::NotThere(what), .. } if what == "image alpine:latest"),
    );
    // A condition that is not waited for.
    let ready = probed(of("run"));
    let scene = Scene::default().image("alpine:latest").wants("db", ready, 1);
    let scene = scene.wants("web", needing(of("run"), &["db:healthy"]), 1);
    let plan = scene.plan();
    let hasty = without(&plan, step(&plan, "wait until"));
    assert_finds(&found(&scene, &plan, &hasty), |v| {
        matches!(v, Violation::Condition { unmet: Unmet::DoesNotHold(_), .. })
    });
}

#[test]
fn what_runs_and_is_touched_before_everything_new_is_there_is_found() {
    let scene = updated(&["a", "b"], |_, command| of(command));
    let plan = scene.plan();
    // It waits for its own successor, and not for that of the other.
    let (stops, other) =
        (step(&plan, "stop container for service 'a'"), step(&plan, "create container for service 'b'"));
    let hasty = loosened(&plan, stops, other);
    let (stops, other) =
        (step(&hasty, "stop container for service 'a'"), step(&hasty, "create container for service 'b'"));
    assert_finds(&found(&scene, &plan, &hasty), |v| {
        *v == Violation::Unprepared { step: stops, missing: other }
    });
    // Made only when the other has stopped, though nothing asks for that.
    let late = with(
        &plan,
        Task::Ready { app: AppName::new("a0").unwrap() },
        StepReason::Order,
        (&[step(&plan, "stop container for service 'b'")], &[]),
    );
    let mut steps = late.steps.clone();
    let joined = step(&late, "have all services");
    let (makes, stops) =
        (step(&late, "create container for service 'a'"), step(&late, "stop container for service 'b'"));
    steps[stops as usize - 1].after.retain(|after| after.step != makes);
    steps[makes as usize - 1].after.push(After { step: joined, condition: None });
    let late = renumbered(steps);
    let makes = step(&late, "create container for service 'a'");
    assert_finds(&found(&scene, &plan, &late), |v| {
        *v == Violation::Unprepared { step: makes, missing: makes }
    });
}

#[test]
fn the_wrong_order_of_services_is_found() {
    let make = |name: &str, command: &str| match name {
        "web" => needing(of(command), &["db"]),
        _ => of(command),
    };
    let scene = updated(&["db", "web"], make);
    let plan = scene.plan();
    let order = |word: &str, first: &str, then: &str| {
        let words = |service: &str| format!("{word} container for service '{service}'");
        let loose = loosened(&plan, step(&plan, &words(then)), step(&plan, &words(first)));
        let (before, step) = (step(&loose, &words(first)), step(&loose, &words(then)));
        assert_finds(&found(&scene, &plan, &loose), |v| *v == Violation::Order { step, before });
    };
    order("start", "db", "web");
    order("stop", "web", "db");
}

#[test]
fn a_goal_that_is_not_reached_is_found() {
    let scene = updated(&["a"], |_, command| of(command));
    let plan = scene.plan();
    let broken = without(&plan, step(&plan, "start container"));
    let goal = Violation::Goal("start container for service 'a' of app 'a0'".into());
    assert_finds(&found(&scene, &plan, &broken), |v| *v == goal);
    // Something nobody needs any more is left.
    let scene = Scene::default().runs("old", of("run"), 1);
    let plan = scene.plan();
    let broken = without(&plan, step(&plan, "remove container"));
    let goal = Violation::Goal("remove container for service 'old' of app 'a0'".into());
    assert_eq!(found(&scene, &plan, &broken), [goal]);
}

/// Whatever kind of step it is: one that could be missing is found, and nothing else.
#[test]
fn a_needless_step_is_found() {
    let needless = |scene: &Scene, task: Task, reason: StepReason, edges: (&[u32], &[u32])| {
        let plan = scene.plan();
        let words = task.to_string();
        let broken = with(&plan, task, reason, edges);
        let number = step(&broken, &words);
        assert_eq!(found(scene, &plan, &broken), [Violation::Needless(number)], "{}", broken.text());
    };
    let app = || AppName::new("a0").unwrap();
    let scene = updated(&["a", "b", "c"], |_, command| of(command));
    // Something done.
    let (image, tag) = ("alpine:latest".to_owned(), "mine:1".to_owned());
    needless(&scene, Task::Tag { image, tag }, StepReason::Order, (&[], &[]));
    // A join nobody waits for, and one for what is waited for anyway: 4 has all there is to have.
    needless(&scene, Task::Ready { app: app() }, StepReason::Order, (&[1, 2, 3], &[]));
    needless(&scene, Task::Ready { app: app() }, StepReason::Order, (&[1, 2], &[5, 6, 7]));
    // A wait that nobody is declared to need, and one that nobody waits for.
    let wait = |service: &str, condition| Task::Await { slot: at(service), condition };
    let started = |needs: &[&str]| {
        let scene = Scene::default().image("alpine:latest").wants("db", probed(of("run")), 1);
        scene.wants("web", needing(of("run"), needs), 1)
    };
    let reason = || StepReason::NeededBy { slot: at("web") };
    // Steps: create db, create web, start db, start web.
    needless(&started(&["db"]), wait("db", Condition::Healthy), reason(), (&[3], &[4]));
    needless(&started(&[]), wait("db", Condition::Healthy), reason(), (&[3], &[]));
    // A wait for what holds already.
    let state = upbeat_model::plan::ContainerState::Healthy;
    let held = Scene::default().image("alpine:latest").has("db", probed(of("run")), 1, state);
    let held = held.wants("db", probed(of("run")), 1);
    let held = held.wants("web", needing(of("run"), &["db:healthy"]), 1);
    needless(&held, wait("db", Condition::Healthy), reason(), (&[], &[2]));
    // A restart that follows from nothing: what it rests on is not run again, or does not ask for that.
    for (needs, changes) in [("db!", false), ("db", true)] {
        let current = target(&format!("db\nweb: {needs}\nzoo"), "run");
        let mut wanted = current.clone();
        let changed = if changes { "db" } else { "zoo" };
        wanted.insert(slot(changed), wish(Goal::Running, service("other", &[])));
        let world = World { observed: running(&current), ..World::default() };
        let scene = Scene { world, current, wanted, how: How::default() };
        let reason = StepReason::DependencyRestarts { slot: slot("db") };
        let edges: (&[u32], &[u32]) = if changes { (&[1], &[]) } else { (&[], &[]) };
        needless(&scene, Task::Replace { slot: slot("web") }, reason, edges);
    }
}

/// And what the planner puts in is not taken for needless: waits, restarts and joins all have a use.
#[test]
fn waits_restarts_and_joins_that_are_needed_are_left_in_peace() {
    let scene = updated(&["a", "b", "c"], |_, command| of(command));
    let plan = scene.plan();
    assert_eq!(lint(&plan, &scene.input()), []);
    step(&plan, "have everything new");
    let current = target("db\nweb: db!", "run");
    let mut wanted = current.clone();
    wanted.insert(slot("db"), wish(Goal::Running, service("other", &[])));
    let world = World { observed: running(&current), ..World::default() };
    let scene = Scene { world, current, wanted, how: How::default() };
    let plan = scene.plan();
    assert!(matches!(plan.steps[1].reason, StepReason::DependencyRestarts { .. }), "{}", plan.text());
    assert_eq!(lint(&plan, &scene.input()), []);
    // It may go on without: it waits all the same.
    let mut web = needing(of("run"), &["db:healthy"]);
    web.depends_on.values_mut().for_each(|edge| edge.required = false);
    let scene =
        Scene::default().image("alpine:latest").wants("db", probed(of("run")), 1).wants("web", web, 1);
    let plan = scene.plan();
    step(&plan, "wait until");
    assert_eq!(lint(&plan, &scene.input()), []);
}

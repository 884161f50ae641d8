//! Small random worlds: every order that the edges of a plan allow is carried out, whatever is left after an
//! interruption is planned again, and a search that knows only the table of tasks says what is impossible.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use upbeat_model::plan::{ContainerState, Lock, Strategy as Way, Task};
use upbeat_model::project::container::{Network, PullPolicy};

use super::super::tasks::{condition, effect, is_prepared, is_so};
use super::scene::{Scene, at, in_network, needing, of, probed, publishing, release};
use super::*;

/// So many states of one plan are looked at. A plan with more is counted as cut, and of those there may be
/// few ([`CUT_MAX`]): of four services that have nothing to do with each other there are thousands.
const STATES_MAX: usize = 2000;

/// Of a hundred plans of four services at most so many may have more states than are looked at.
const CUT_MAX: usize = 10;

/// A service, before and after.
#[derive(Clone, Debug)]
struct Draft {
    before: Option<(bool, ContainerState)>,
    beside: Option<bool>,
    after: Option<(bool, Goal)>,
    way: Way,
    network: bool,
    needs: Vec<Option<u8>>,
    probed: bool,
    port: bool,
    /// No container: a process of the machine.
    process: bool,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Of a hundred services so many are processes in a mixed world.
const PROCESSES: f64 = 0.35;

fn drafts(services: usize, processes: f64) -> impl Strategy<Value = Vec<Draft>> {
    let state = prop_oneof![
        6 => Just(ContainerState::Running), 1 => Just(ContainerState::Healthy),
        1 => Just(ContainerState::Created), 1 => Just(ContainerState::Stopped),
        1 => Just(ContainerState::Completed)
    ];
    let before = prop::option::weighted(0.7, (any::<bool>(), state));
    let goal = prop_oneof![5 => Just(Goal::Running), 1 => Just(Goal::Stopped)];
    let after = prop::option::weighted(0.8, (any::<bool>(), goal));
    let way = prop_oneof![3 => Just(Way::StopFirst), 2 => Just(Way::StartFirst), 1 => Just(Way::Recreate)];
    let needs = proptest::collection::vec(prop::option::weighted(0.4, 0_u8..2), services);
    let one = (
        before,
        prop::option::weighted(0.15, any::<bool>()),
        after,
        way,
        prop::bool::weighted(0.4),
        needs,
        any::<bool>(),
        prop::bool::weighted(0.15),
        prop::bool::weighted(processes),
    );
    let one = one.prop_map(|(before, beside, after, way, network, needs, probed, port, process)| Draft {
        before,
        beside,
        after,
        way,
        network,
        needs,
        probed,
        port,
        process,
    });
    proptest::collection::vec(one, services)
}

/// How the whole is: releases are kept track of, the network has other settings, the new release is there.
type Around = (bool, bool, bool);

fn spec(draft: &Draft, drafts: &[Draft], n: usize, command: bool, net: &Network, is_after: bool) -> Service {
    let command = if command { "new" } else { "old" };
    let mut service = if draft.process { Service::new(vec![command.to_owned()], "/") } else { of(command) };
    if draft.network && !draft.process {
        service = in_network(service, net);
    }
    if draft.probed {
        service = probed(service);
    }
    if draft.port && !draft.process {
        service = publishing(service, 80);
    }
    let there = |m: &usize| match is_after {
        true => drafts[*m].after.is_some_and(|(_, goal)| goal == Goal::Running),
        false => drafts[*m].before.is_some(),
    };
    // The first is a job, the others stay.
    let conditions = |m: usize| if m == 0 { ["started", "completed"] } else { ["started", "healthy"] };
    let needs = (0..n).filter(there).filter_map(|m| draft.needs[m].map(|c| (m, conditions(m)[c as usize])));
    let needs: Vec<String> = needs.map(|(m, condition)| format!("{}:{condition}", NAMES[m])).collect();
    needing(service, &needs.iter().map(String::as_str).collect::<Vec<_>>())
}

fn scene(drafts: &[Draft], (is_tracked, is_other, is_begun): Around) -> Scene {
    let before = Network::new("net", "a0_net");
    let after = Network { internal: is_other, ..before.clone() };
    let known: &[u64] = if is_begun { &[0, 1] } else { &[0] };
    let mut scene = if is_tracked { Scene::tracked(known, Some(1)) } else { Scene::default() };
    scene = scene.network(&before);
    if is_begun {
        scene = scene.image("alpine:latest");
    }
    for (n, draft) in drafts.iter().enumerate() {
        let net = if is_begun { &after } else { &before };
        // Something may have been made already for what is wanted now, or for something else.
        let may_be_beside = draft.before.is_some() && !is_other && !draft.process;
        if let Some(command) = draft.beside.filter(|_| may_be_beside) {
            let service = spec(draft, drafts, n, command, net, true);
            scene = scene.has(NAMES[n], service, 1, ContainerState::Created);
        }
        if let Some((command, state)) = draft.before {
            let service = spec(draft, drafts, n, command, &before, false);
            scene = match draft.process {
                true => scene.has_process(NAMES[n], service, state),
                false => scene.has(NAMES[n], service, 0, state),
            };
        }
        if let Some((command, goal)) = draft.after {
            let service = spec(draft, drafts, n, command, &after, true);
            scene = match goal {
                Goal::Running => scene.wants(NAMES[n], service, 1),
                _ => scene.wants_stopped(NAMES[n], service, 1),
            };
        }
        scene = scene.by(NAMES[n], draft.way);
    }
    scene
}

/// Judged by itself, not by the planner: each slot holds what is wanted, and nothing else is left.
fn is_at_goal(world: &World, scene: &Scene) -> Result<(), String> {
    let is_tracked = !scene.how.releases.is_empty();
    for (slot, wish) in scene.wanted.iter().filter(|(_, wish)| wish.spec.container.is_none()) {
        let seen = world.observed.get(slot);
        let is_right = |seen: &Observed| seen.running_digest.as_ref() == Some(&wish.digest);
        let runs = seen.is_some_and(|seen| seen.phase.is_alive());
        let ended = seen.is_some_and(|seen| seen.phase == Phase::Completed);
        let is_good = match wish.goal {
            Goal::Running => (runs || ended) && seen.is_some_and(is_right),
            _ => !runs,
        };
        if !is_good {
            return Err(format!("{slot}: {seen:?}"));
        }
    }
    for (slot, wish) in scene.wanted.iter().filter(|(_, wish)| wish.spec.container.is_some()) {
        let there: Vec<_> = world.containers.values().filter(|c| c.slot == *slot).collect();
        let runs = there.iter().filter(|c| c.state.is_running()).count();
        let ended = there.iter().any(|c| c.state == ContainerState::Completed);
        let is_right = there.iter().all(|c| {
            c.digest == wish.digest && (!is_tracked || c.release == Some(wish.release)) && !c.temporary
        });
        let is_good = match wish.goal {
            Goal::Running => there.len() == 1 && is_right && (runs == 1 || ended),
            _ if is_tracked => there.len() == 1 && is_right && runs == 0,
            _ => runs == 0,
        };
        if !is_good {
            return Err(format!("{slot}: {there:?}"));
        }
    }
    if let Some(left) = world.containers.values().find(|c| !scene.wanted.contains_key(&c.slot)) {
        return Err(format!("{left:?} is left"));
    }
    if let Some(left) = world.observed.keys().find(|slot| !scene.wanted.contains_key(slot)) {
        return Err(format!("{left} is left"));
    }
    let releases = world.apps.values().flatten().map(|(number, _)| *number).collect::<Vec<_>>();
    if is_tracked && releases != [1] {
        return Err(format!("releases {releases:?}"));
    }
    Ok(())
}

/// What may never be, whatever was done so far.
fn check(world: &World, scene: &Scene) -> Result<(), String> {
    for name in NAMES {
        let slot = at(name);
        let running = world.containers.values().filter(|c| c.slot == slot && c.state.is_running());
        let places: Vec<bool> = running.map(|c| c.temporary).collect();
        if places.len() > 2 || places.len() == 2 && places[0] == places[1] {
            return Err(format!("two run in {slot}"));
        }
    }
    let was = |name: &String| scene.world.containers[name].state.is_running();
    let before = scene.world.containers.keys().filter(|name| was(name));
    for name in before.filter(|name| !world.containers.get(*name).is_some_and(|c| c.state.is_running())) {
        let slot = &scene.world.containers[name].slot;
        // That one ended by itself.
        let ended = world.containers.get(name).is_some_and(|c| c.state == ContainerState::Completed);
        if !ended && !is_prepared(slot, world, &scene.input()) {
            return Err(format!("{name} was touched before everything new was there"));
        }
    }
    let processes = scene.current.iter().filter(|(_, wish)| wish.spec.container.is_none());
    for (slot, before) in processes.filter_map(|(slot, _)| Some((slot, scene.world.observed.get(slot)?))) {
        // Who ended did so by itself.
        let is_there = |now: &Observed| now.phase.is_alive() || now.phase == Phase::Completed;
        let is_as_before = |now: &Observed| is_there(now) && now.running_digest == before.running_digest;
        let is_touched = before.phase.is_alive() && !world.observed.get(slot).is_some_and(is_as_before);
        if is_touched && !is_prepared(slot, world, &scene.input()) {
            return Err(format!("{slot} was touched before everything new was there"));
        }
    }
    Ok(())
}

/// The table leaves it to their machines when processes start: what they need of containers is so by then, but for
/// what never comes, as it has ended and is left so.
fn has_its_containers(task: &Task, plan: &Plan, world: &World, scene: &Scene) -> Result<(), String> {
    let (Task::Start { slot, container: None, .. } | Task::Replace { slot }) = task else { return Ok(()) };
    let wish = &scene.wanted[slot];
    for (service, edge) in &wish.spec.depends_on {
        let on = at(service.as_str());
        let is_container = scene.wanted.get(&on).is_some_and(|wish| wish.spec.container.is_some());
        let is_to_come =
            |task: &Task| matches!(task, Task::Start { slot, .. } | Task::Await { slot, .. } if *slot == on);
        let comes = is_container && plan.steps.iter().any(|step| is_to_come(&step.task));
        if comes && !is_so(&on, &edge.condition, world, &scene.input()) {
            return Err(format!("{slot} starts before {} of {on}", edge.condition));
        }
    }
    Ok(())
}

/// Carries a plan out in every order. Says whether these were all.
fn every_order(plan: &Plan, scene: &Scene) -> Result<bool, TestCaseError> {
    let mut is_whole = true;
    prop_assert!(plan.steps.len() <= 64);
    let mut seen: BTreeSet<u64> = BTreeSet::from([0]);
    let mut todo = VecDeque::from([(0_u64, scene.world.clone())]);
    let whole = (1_u64 << plan.steps.len()).wrapping_sub(1);
    while let Some((done, world)) = todo.pop_front() {
        let context = |why: String| TestCaseError::fail(format!("{why}\nafter {done:b} of\n{}", plan.text()));
        check(&world, scene).map_err(context)?;
        if done == whole {
            is_at_goal(&world, scene).map_err(context)?;
        }
        continued(&world, scene).map_err(context)?;
        for (place, step) in plan.steps.iter().enumerate().filter(|(place, _)| done & 1 << place == 0) {
            if step.after.iter().any(|after| done & 1 << (after.step - 1) == 0) {
                continue;
            }
            condition(&step.task, &world, &scene.input())
                .map_err(|unmet| context(format!("step {} when {unmet}", step.number)))?;
            has_its_containers(&step.task, plan, &world, scene).map_err(context)?;
            let next = done | 1 << place;
            if seen.contains(&next) {
                continue;
            }
            is_whole &= seen.len() < STATES_MAX;
            if is_whole && seen.insert(next) {
                let mut world = world.clone();
                effect(&step.task, &mut world, &scene.input());
                todo.push_back((next, world));
            }
        }
    }
    Ok(is_whole)
}

/// Of so many random worlds: how many had a plan, and of how many of those not every order was looked at.
fn in_every_order(services: usize, processes: f64, cases: u32) -> (usize, usize) {
    let (plans, cut) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let worlds = (drafts(services, processes), any::<Around>());
    let outcome = TestRunner::new(config).run(&worlds, |(drafts, around)| {
        let scene = scene(&drafts, around);
        match super::super::plan(&scene.input()) {
            Ok(plan) => {
                plans.set(plans.get() + 1);
                cut.set(cut.get() + usize::from(!every_order(&plan, &scene)?));
            }
            Err(refusal) => prop_assert!(is_contradiction(&refusal), "{refusal}"),
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    (plans.get(), cut.get())
}

#[test]
fn every_order_of_two_services_reaches_the_goal_and_breaks_nothing_on_the_way() {
    let (plans, cut) = in_every_order(2, 0.0, 128);
    assert!(plans > 64, "{plans} plans");
    assert_eq!(cut, 0, "of {plans}");
}

#[test]
fn every_order_of_nearly_every_plan_of_four_services_does_so_too() {
    let (plans, cut) = in_every_order(4, 0.0, 64);
    assert!(plans > 32 && cut * 100 <= plans * CUT_MAX, "{cut} of {plans} plans");
}

#[test]
fn every_order_of_processes_and_containers_does_so_too() {
    let (plans, cut) = in_every_order(3, PROCESSES, 128);
    assert!(plans > 64 && cut * 100 <= plans * CUT_MAX, "{cut} of {plans} plans");
}

/// Interrupted here, a new plan leads to the goal.
fn continued(world: &World, scene: &Scene) -> Result<(), String> {
    let scene = Scene { world: world.clone(), ..scene.clone() };
    let plan = planned(&scene.input()).map_err(|refusal| format!("interrupted: {refusal}"))?;
    let mut world = world.clone();
    for step in &plan.steps {
        condition(&step.task, &world, &scene.input())
            .map_err(|unmet| format!("interrupted, step {} when {unmet}:\n{}", step.number, plan.text()))?;
        effect(&step.task, &mut world, &scene.input());
    }
    is_at_goal(&world, &scene).map_err(|why| format!("interrupted: {why}\n{}", plan.text()))
}

/// All tasks there could be in a world.
fn all_tasks(world: &World, scene: &Scene) -> Vec<Task> {
    let app = AppName::new("a0").unwrap();
    let is_tracked = !scene.how.releases.is_empty();
    let of = |number: u64| is_tracked.then(|| release(number));
    let image = "alpine:latest".to_owned();
    let mut tasks = vec![
        Task::CreateRelease { app: app.clone(), release: release(1) },
        Task::RemoveRelease { app: app.clone(), release: release(0) },
        Task::CreateNetwork { network: "a0_net".into() },
        Task::RemoveNetwork { network: "a0_net".into() },
    ];
    for slot in scene.wanted.keys() {
        let tag = is_tracked.then(|| format!("a0_{}:r1", slot.service));
        tasks.push(Task::Pull { image: image.clone(), tag: tag.clone() });
        tasks.extend(tag.map(|tag| Task::Tag { image: image.clone(), tag }));
        tasks.push(Task::Create { slot: slot.clone(), container: format!("made {slot}"), release: of(1) });
        // Nobody waits for what nobody needs.
        let needs = scene.wanted.values().filter_map(|wish| wish.spec.depends_on.get(&slot.service));
        let asked = needs.map(|edge| edge.condition.clone()).filter(|asked| *asked != Condition::Started);
        tasks.extend(asked.map(|condition| Task::Await { slot: slot.clone(), condition }));
    }
    for (name, container) in &world.containers {
        let (slot, container) = (container.slot.clone(), name.clone());
        let some = Some(container.clone());
        if Case::new(scene.input()).strategy(&slot) == Way::StartFirst {
            let container = some.clone();
            tasks.push(Task::Start { slot: slot.clone(), container, release: None, temporary: true });
        }
        tasks.push(Task::Migrate { slot: slot.clone(), container: container.clone(), release: release(1) });
        tasks.push(Task::Start {
            slot: slot.clone(),
            container: some.clone(),
            release: None,
            temporary: false,
        });
        tasks.push(Task::Stop { slot: slot.clone(), container: some, release: None });
        tasks.push(Task::RemoveContainer { slot, container, release: None });
    }
    tasks
}

/// What the table of tasks does not know, as it is about wishes and not about what may be done: nobody is
/// started on what runs and shall not, and what has ended well and is as wanted is left so.
fn is_meant(task: &Task, world: &World, scene: &Scene) -> bool {
    let (Task::Start { slot, .. } | Task::Create { slot, .. }) = task else { return true };
    let Some(wish) = scene.wanted.get(slot) else { return true };
    let ended = |c: &upbeat_model::plan::Container| {
        c.slot == *slot && c.digest == wish.digest && c.state == ContainerState::Completed
    };
    let shall_not = |on: &SlotId| scene.wanted.get(on).is_some_and(|wish| wish.goal != Goal::Running);
    let mut running = world.containers.values().filter(|c| c.state.is_running());
    let rests_on_it = |on: &SlotId| wish.spec.depends_on.contains_key(&on.service);
    let is_start = matches!(task, Task::Start { .. });
    let before = &scene.world.containers;
    let runs = before.values().any(|c| c.slot == *slot && c.state.is_running());
    let is_left = !runs && before.values().any(ended) && wish.goal == Goal::Running;
    !(is_left || is_start && running.any(|c| shall_not(&c.slot) && rests_on_it(&c.slot)))
}

/// All that shall run may do so at once: also what has ended by now would hold its port when run again.
fn may_run_together(world: &World, scene: &Scene) -> bool {
    let shall = |slot: &SlotId| scene.wanted.get(slot).is_some_and(|wish| wish.goal == Goal::Running);
    let all: Vec<_> = world.containers.values().filter(|c| shall(&c.slot)).collect();
    let clash = |a: &upbeat_model::plan::Container, b: &upbeat_model::plan::Container| {
        a.slot < b.slot && a.ports.iter().any(|port| b.ports.iter().any(|other| port.clashes(other)))
    };
    !all.iter().any(|a| all.iter().any(|b| clash(a, b)))
}

/// Whether a search through all that could be done finds the goal; `None` where it gave up.
fn search(scene: &Scene) -> Option<bool> {
    const WORLDS_MAX: usize = 3000;
    let input = scene.input();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut todo = VecDeque::from([scene.world.clone()]);
    while let Some(world) = todo.pop_front() {
        if is_at_goal(&world, scene).is_ok() && may_run_together(&world, scene) {
            return Some(true);
        }
        for task in all_tasks(&world, scene) {
            let may = condition(&task, &world, &input).is_ok() && is_meant(&task, &world, scene);
            let touches = matches!(task, Task::Stop { .. });
            if !may || touches && !task.slot().is_some_and(|slot| is_prepared(slot, &world, &input)) {
                continue;
            }
            let mut next = world.clone();
            effect(&task, &mut next, &input);
            if seen.insert(format!("{next:?}")) {
                todo.push_back(next);
            }
        }
        if seen.len() > WORLDS_MAX {
            return None;
        }
    }
    Some(false)
}

/// Something that may stand in the way of a plan.
#[derive(Clone, Copy, Debug)]
enum Obstacle {
    None,
    Locked,
    Foreign,
    NeverPulled,
    StoppedNeed,
}

fn hinder(scene: &mut Scene, obstacle: Obstacle) {
    let key = |name: &str| (AppName::new("a0").unwrap(), ServiceName::new(name).unwrap());
    let edit = |scene: &mut Scene, name: &str, edit: &dyn Fn(&mut Service)| {
        if let Some(wish) = scene.wanted.get_mut(&at(name)) {
            edit(Arc::make_mut(&mut wish.spec));
            wish.digest = wish.spec.digest();
        }
    };
    match obstacle {
        Obstacle::None => {}
        Obstacle::Locked => {
            scene.world.locks.insert(key("b"), Lock { holder: "x".into(), since: None });
        }
        Obstacle::Foreign => drop(scene.world.foreign.insert("a0-a-1".into(), Vec::new())),
        Obstacle::NeverPulled => edit(scene, "a", &|service| {
            service.container.as_mut().unwrap().pull_policy = PullPolicy::Never;
        }),
        Obstacle::StoppedNeed => {
            edit(scene, "b", &|service| *service = needing(service.clone(), &["a:healthy"]));
            if let Some(wish) = scene.wanted.get_mut(&at("a")) {
                wish.goal = Goal::Stopped;
            }
        }
    }
}

/// What may be refused of random drafts is what two of them contradict each other in.
fn is_contradiction(refusal: &NoPlan) -> bool {
    matches!(refusal, NoPlan::Port { .. } | NoPlan::NeverHolds { .. } | NoPlan::InUse { .. })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn from_what_is_wanted_to_the_same_there_is_nothing_to_do(drafts in drafts(4, PROCESSES), around in any::<Around>()) {
        let scene = scene(&drafts, around);
        if let Ok(plan) = super::super::plan(&scene.input()) {
            let mut world = scene.world.clone();
            plan.steps.iter().for_each(|step| effect(&step.task, &mut world, &scene.input()));
            let there = Scene { world, current: scene.wanted.clone(), ..scene };
            prop_assert_eq!(there.plan().steps, vec![]);
        }
    }

}

/// No refusal is left out: neither ports nor what never holds, under whichever strategy.
#[test]
fn a_search_through_all_that_could_be_done_agrees_on_what_is_impossible() {
    let (found, impossible, given_up) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let obstacle = prop_oneof![
        Just(Obstacle::None),
        Just(Obstacle::Locked),
        Just(Obstacle::Foreign),
        Just(Obstacle::NeverPulled),
        Just(Obstacle::StoppedNeed)
    ];
    let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
    let worlds = (drafts(2, 0.0), any::<bool>(), obstacle);
    let outcome = TestRunner::new(config).run(&worlds, |(drafts, is_tracked, obstacle)| {
        let mut scene = scene(&drafts, (is_tracked, false, false));
        hinder(&mut scene, obstacle);
        let plan = super::super::plan(&scene.input()).map(|plan| plan.text());
        let counter = match search(&scene) {
            Some(is_found) => {
                prop_assert_eq!(plan.is_ok(), is_found, "{:?}: {:?}", obstacle, plan);
                if is_found { &found } else { &impossible }
            }
            None => &given_up,
        };
        counter.set(counter.get() + 1);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let (found, impossible, given_up) = (found.get(), impossible.get(), given_up.get());
    assert!(found > 20 && impossible > 5, "{found} found, {impossible} impossible");
    assert!(given_up * 10 <= found + impossible, "{given_up} given up of {found} and {impossible}");
}

//! Plans of processes by hand, and random worlds in which a small simulation carries plans out in any order
//! the edges allow, and an oracle that judges slots one by one says what had to be in them.

use std::collections::BTreeSet;

use proptest::prelude::*;
use upbeat_model::plan::{Step, Task};
use upbeat_model::project::Condition;
use upbeat_model::target::Ask;

use super::*;

/// With no more in the world than these.
fn plan(observed: &BTreeMap<SlotId, Observed>, current: &Slots, wanted: &Slots) -> Plan {
    let world = World { observed: observed.clone(), ..World::default() };
    let (how, limits) = (How::default(), Limits::default());
    super::super::plan(&Input { world: &world, current, wanted, how: &how, limits }).unwrap()
}

/// `1 L0 start db-1 (new)`, then ` < 2 service_healthy` for each edge.
fn show(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(show_step).collect()
}

fn show_step(step: &Step) -> String {
    let reason = match &step.reason {
        StepReason::New => "new".to_owned(),
        StepReason::NotRunning => "not running".to_owned(),
        StepReason::Changed { fields } => format!("changed {}", fields.join(" ")),
        StepReason::Asked => "asked".to_owned(),
        StepReason::NotDeclared => "not declared".to_owned(),
        StepReason::DependencyRestarts { slot } => format!("follows {}", slot.short()),
        other => format!("{other:?}"),
    };
    let (action, slot) = (step.task.key(), step.slot().unwrap().short());
    let mut line = format!("{} L{} {action} {slot} ({reason})", step.number, step.level);
    for after in &step.after {
        let condition = after.condition.as_ref().map_or("stopped".to_owned(), |c| c.to_string());
        line.push_str(&format!(" < {} {condition}", after.step));
    }
    line
}

#[test]
fn a_fresh_start_follows_the_edges_with_their_conditions() {
    let mut wanted = target("db\ncache: db\nweb-1: cache db\nweb-2: cache db", "run");
    let web = service("run", &[("cache", Condition::Started, false), ("db", Condition::Healthy, false)]);
    wanted.insert(slot("web-1"), wish(Goal::Running, web));
    assert_eq!(
        show(&plan(&BTreeMap::new(), &Slots::new(), &wanted)),
        [
            "1 L0 start db-1 (new)",
            "2 L1 start cache-1 (new) < 1 service_healthy",
            "3 L2 start web-1 (new) < 1 service_healthy < 2 service_started",
            "4 L2 start web-2 (new) < 1 service_healthy < 2 service_healthy",
        ]
    );
}

#[test]
fn nothing_is_done_about_what_is_as_wanted() {
    let wanted = target("db\nweb: db", "run");
    let mut observed = running(&wanted);
    observed.insert(slot("web"), seen(Phase::Completed, &wanted[&slot("web")]));
    assert_eq!(plan(&observed, &wanted, &wanted), Plan { unchanged: 2, ..Plan::default() });
}

#[test]
fn going_down_is_the_reverse_of_going_up() {
    let current = target("db\ncache: db\nweb: cache db", "run");
    let plan = plan(&running(&current), &current, &Slots::new());
    assert_eq!(
        show(&plan),
        [
            "1 L0 remove web-1 (not declared)",
            "2 L1 remove cache-1 (not declared) < 1 stopped",
            "3 L2 remove db-1 (not declared) < 1 stopped < 2 stopped",
        ]
    );
}

#[test]
fn a_change_names_its_fields_and_only_those_who_asked_for_it_follow() {
    let current = target("db\napi: db!\nweb: api!\nlog: db", "run");
    let mut wanted = current.clone();
    let changed = Service { user: Some("db".into()), ..service("other", &[]) };
    wanted.insert(slot("db"), wish(Goal::Running, changed));
    let plan = plan(&running(&current), &current, &wanted);
    assert_eq!(
        show(&plan),
        [
            "1 L0 replace db-1 (changed command user)",
            "2 L1 replace api-1 (follows db-1) < 1 service_healthy",
            "3 L2 replace web-1 (follows api-1) < 2 service_healthy",
        ]
    );
    assert_eq!(plan.unchanged, 1);
}

/// Control has marked them by then; a person still wants to read the cause, not the mark.
#[test]
fn a_copy_that_is_restarted_because_of_a_change_names_it() {
    let current = target("db\nzoo: db!\napi: zoo!\nlog", "run");
    let mut wanted = current.clone();
    wanted.insert(slot("db"), wish(Goal::Running, service("other", &[])));
    for name in ["zoo", "api", "log"] {
        wanted.entry(slot(name)).and_modify(|wish| {
            wish.generation += 1;
            wish.ask = Ask::Restart;
        });
    }
    let seen = Observed { phase: Phase::Healthy, running_digest: None, running_generation: None };
    let observed = current.keys().map(|slot| (slot.clone(), seen.clone())).collect();
    assert_eq!(
        show(&plan(&observed, &current, &wanted)),
        [
            "1 L0 replace db-1 (changed command)",
            "2 L0 replace log-1 (asked)",
            "3 L1 replace zoo-1 (follows db-1) < 1 service_healthy",
            "4 L2 replace api-1 (follows zoo-1) < 3 service_healthy",
        ]
    );
}

/// The example of the module's proof: the edge from the removal of `cache` to the replacement of
/// `web` is the one that must not be there.
#[test]
fn a_dependency_that_goes_between_two_that_are_replaced_closes_no_circle() {
    let current = target("db\ncache: db\nweb: cache db", "old");
    let wanted = target("db\nweb: db", "new");
    assert_eq!(
        show(&plan(&running(&current), &current, &wanted)),
        [
            "1 L0 remove cache-1 (not declared)",
            "2 L1 replace db-1 (changed command) < 1 stopped",
            "3 L2 replace web-1 (changed command) < 2 service_healthy",
        ]
    );
}

/// What a wish of a later command means for what it finds.
#[test]
fn what_is_there_is_judged_by_what_was_asked() {
    let before = wish(Goal::Running, service("run", &[]));
    let judge = |phase, goal, ask| {
        let wanted = TargetSlot { generation: 2, ask, goal, ..before.clone() };
        let one = |wish: &TargetSlot| BTreeMap::from([(slot("a"), wish.clone())]);
        let observed = BTreeMap::from([(slot("a"), seen(phase, &before))]);
        let plan = plan(&observed, &one(&before), &one(&wanted));
        plan.steps.first().map_or("nothing".to_owned(), |step| show_step(step)[5..].replace("a-1 ", ""))
    };
    use Goal::{Absent, Running, Stopped};
    for (phase, goal, ask, expected) in [
        (Phase::Healthy, Running, Ask::Ensure, "nothing"),
        (Phase::Unhealthy, Running, Ask::Start, "nothing"),
        (Phase::Running, Running, Ask::Restart, "replace (asked)"),
        (Phase::Stopping, Running, Ask::Ensure, "replace (not running)"),
        (Phase::Completed, Running, Ask::Ensure, "nothing"),
        (Phase::Completed, Running, Ask::Start, "start (asked)"),
        (Phase::Failed, Running, Ask::Ensure, "start (not running)"),
        (Phase::CrashLooping, Running, Ask::Restart, "start (asked)"),
        (Phase::DependencyFailed, Running, Ask::Ensure, "start (not running)"),
        (Phase::Stopped, Running, Ask::Ensure, "start (not running)"),
        (Phase::Absent, Running, Ask::Ensure, "start (new)"),
        (Phase::Absent, Stopped, Ask::Ensure, "nothing"),
        (Phase::BackingOff, Stopped, Ask::Ensure, "stop (asked)"),
        (Phase::Stopped, Absent, Ask::Ensure, "remove (not declared)"),
    ] {
        assert_eq!(judge(phase, goal, ask), expected, "{phase} {goal:?} {ask:?}");
    }
}

/// Nobody can declare this; a leftover beside its successor could.
#[test]
fn specs_that_do_not_fit_together_cost_an_order_but_no_step() {
    let wanted = target("a: b\nb: a\nc: c", "run");
    let plan = plan(&BTreeMap::new(), &Slots::new(), &wanted);
    assert_eq!(plan.steps.len(), 3);
    assert_eq!(plan.steps.iter().map(|step| step.after.len()).sum::<usize>(), 1);
}

#[test]
fn a_chain_of_ten_thousand_is_planned_like_any_other() {
    const N: usize = 10_000;
    let chain: Vec<String> = (0..N)
        .map(|n| format!("s{n:05}: {}", if n == 0 { String::new() } else { format!("s{:05}", n - 1) }))
        .collect();
    let wanted = target(&chain.join("\n"), "run");
    let up = plan(&BTreeMap::new(), &Slots::new(), &wanted);
    assert_eq!(up.steps.last().map(|step| (step.level as usize, step.number as usize)), Some((N - 1, N)));
    let down = plan(&running(&wanted), &wanted, &Slots::new());
    assert_eq!(down.steps.last().and_then(Step::slot).map(SlotId::short), Some("s00000-1".into()));
}

/// What was so far, what is seen of it, and what shall be.
#[derive(Clone, Debug)]
struct Story {
    observed: BTreeMap<SlotId, Observed>,
    current: Slots,
    wanted: Slots,
    /// Where the edges leave a choice, which step is next.
    choices: Vec<usize>,
}

const SERVICES: usize = 7;

/// Of one service in one of the two maps: declared, command, goal, ask, dependencies.
type Draft = (u8, bool, Goal, Ask, Vec<(bool, Condition, bool)>);

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let goal = prop_oneof![5 => Just(Goal::Running), 1 => Just(Goal::Stopped), 1 => Just(Goal::Absent)];
    let ask = prop_oneof![3 => Just(Ask::Ensure), 1 => Just(Ask::Start), 1 => Just(Ask::Restart)];
    let condition = prop_oneof![
        Just(Condition::Started),
        Just(Condition::Healthy),
        Just(Condition::CompletedSuccessfully)
    ];
    let edges = proptest::collection::vec((prop::bool::weighted(0.4), condition, any::<bool>()), SERVICES);
    proptest::collection::vec((0_u8..3, any::<bool>(), goal, ask, edges), SERVICES)
}

/// `rank` makes the graph acyclic: a service depends on services of lower rank only. The two maps
/// have ranks of their own, so that an edge may be turned round between them.
fn slots(drafts: &[Draft], rank: &[usize], generation: u64) -> Slots {
    let mut slots = Slots::new();
    for (n, (copies, command, goal, ask, edges)) in drafts.iter().enumerate() {
        let names: Vec<String> = (0..SERVICES).map(|m| format!("s{m}")).collect();
        let needs: Vec<_> = (edges.iter().enumerate())
            .filter(|(m, (there, ..))| *there && rank[*m] < rank[n] && drafts[*m].0 > 0)
            .map(|(m, (_, condition, restart))| (names[m].as_str(), condition.clone(), *restart))
            .collect();
        for index in 1..=*copies {
            let spec = service(if *command { "a" } else { "b" }, &needs);
            let wish = TargetSlot { generation, ask: *ask, ..wish(*goal, spec) };
            slots.insert(slot(&format!("s{n}-{index}")), wish);
        }
    }
    slots
}

fn worlds() -> impl Strategy<Value = Story> {
    let rank = || Just((0..SERVICES).collect::<Vec<_>>()).prop_shuffle();
    let phase = prop_oneof![
        4 => Just(Phase::Healthy), 1 => Just(Phase::Running), 1 => Just(Phase::Starting), 1 => Just(Phase::Stopping),
        1 => Just(Phase::Completed), 1 => Just(Phase::Failed), 1 => Just(Phase::BackingOff),
        1 => Just(Phase::Waiting), 1 => Just(Phase::Stopped), 1 => Just(Phase::Absent)
    ];
    let phases = proptest::collection::vec(phase, SERVICES * 2);
    let choices = proptest::collection::vec(0..usize::MAX, SERVICES * 2);
    (drafts(), rank(), drafts(), rank(), phases, 1_u64..3, choices).prop_map(
        |(before, before_rank, after, after_rank, phases, generation, choices)| {
            let current = slots(&before, &before_rank, 1);
            let wanted = slots(&after, &after_rank, generation);
            let observed =
                (current.iter().zip(phases)).map(|((slot, wish), phase)| (slot.clone(), seen(phase, wish)));
            Story { observed: observed.collect(), current, wanted, choices }
        },
    )
}

/// Whether nothing has to happen to a slot for its own sake.
fn is_at_goal(seen: Option<&Observed>, wanted: Option<&TargetSlot>) -> bool {
    let phase = seen.map_or(Phase::Absent, |seen| seen.phase);
    let Some(wish) = wanted else { return phase == Phase::Absent };
    let runs_it = seen.is_some_and(|seen| seen.running_digest.as_ref() == Some(&wish.digest));
    let is_newer = seen.is_some_and(|seen| seen.running_generation < Some(wish.generation));
    match (wish.goal, phase) {
        (Goal::Absent, phase) => phase == Phase::Absent,
        (Goal::Stopped, phase) => [Phase::Stopped, Phase::Absent].contains(&phase),
        (_, Phase::Starting | Phase::Running | Phase::Healthy | Phase::Unhealthy) => {
            runs_it && !(is_newer && wish.ask == Ask::Restart)
        }
        (_, Phase::Completed) => runs_it && !(is_newer && wish.ask != Ask::Ensure),
        (_, Phase::Failed) => runs_it && !is_newer,
        _ => false,
    }
}

/// The slots something has to happen to: for their own sake, or because a dependency with
/// `restart: true` is renewed. Looked at again and again until nothing is added.
fn must_change(world: &Story) -> BTreeSet<SlotId> {
    let all: BTreeSet<&SlotId> = world.observed.keys().chain(world.wanted.keys()).collect();
    let mut needed: BTreeSet<SlotId> = all
        .into_iter()
        .filter(|slot| !is_at_goal(world.observed.get(*slot), world.wanted.get(*slot)))
        .cloned()
        .collect();
    let is_renewed = |slot: &SlotId, needed: &BTreeSet<SlotId>| {
        let (Some(seen), Some(wish)) = (world.observed.get(slot), world.wanted.get(slot)) else {
            return false;
        };
        let ended_as_another = [Phase::Completed, Phase::Failed].contains(&seen.phase)
            && seen.running_digest.as_ref() != Some(&wish.digest);
        needed.contains(slot) && wish.goal == Goal::Running && (seen.phase.is_alive() || ended_as_another)
    };
    loop {
        let follows = |slot: &SlotId, wish: &TargetSlot| {
            let is_alive = world.observed.get(slot).is_some_and(|seen| seen.phase.is_alive());
            is_alive
                && wish.goal == Goal::Running
                && wish.spec.depends_on.iter().any(|(service, edge)| {
                    edge.restart
                        && world.wanted.keys().any(|d| d.service == *service && is_renewed(d, &needed))
                })
        };
        let added: Vec<SlotId> = (world.wanted.iter())
            .filter(|(slot, wish)| !needed.contains(*slot) && follows(slot, wish))
            .map(|(slot, _)| slot.clone())
            .collect();
        if added.is_empty() {
            return needed;
        }
        needed.extend(added);
    }
}

proptest! {
    #[test]
    fn every_wanted_change_has_one_step_and_nothing_else_has(world in worlds()) {
        let plan = plan(&world.observed, &world.current, &world.wanted);
        let steps: Vec<SlotId> = plan.steps.iter().filter_map(Step::slot).cloned().collect();
        let distinct: BTreeSet<SlotId> = steps.iter().cloned().collect();
        prop_assert_eq!(steps.len(), distinct.len());
        prop_assert_eq!(distinct, must_change(&world));
        let kept = world.wanted.iter().filter(|(slot, wish)| wish.goal != Goal::Absent && !steps.contains(slot));
        prop_assert_eq!(plan.unchanged as usize, kept.count());
        for (i, step) in plan.steps.iter().enumerate() {
            prop_assert_eq!(step.number as usize, i + 1);
            prop_assert!(step.after.iter().all(|after| after.step < step.number), "{:?}", show(&plan));
        }
        prop_assert!(plan.steps.is_sorted_by_key(|step| (step.level, step.slot().cloned())));
    }

    #[test]
    fn any_order_the_edges_allow_reaches_the_goal_and_breaks_no_rule_on_the_way(world in worlds()) {
        let plan_again = plan;
        let plan = plan(&world.observed, &world.current, &world.wanted);
        let mut now = world.observed.clone();
        let mut left: Vec<&Step> = plan.steps.iter().collect();
        let mut done: BTreeSet<u32> = BTreeSet::new();
        for choice in world.choices.iter().cycle() {
            let ready: Vec<usize> = (0..left.len())
                .filter(|&i| left[i].after.iter().all(|after| done.contains(&after.step))).collect();
            if ready.is_empty() {
                break;
            }
            let step = left.remove(ready[choice % ready.len()]);
            check_step(step, &plan, &done, &now, &world)?;
            let slot = step.slot().unwrap().clone();
            let ended = match step.goal.unwrap() {
                Goal::Running => seen(Phase::Healthy, &world.wanted[&slot]),
                Goal::Stopped => Observed { phase: Phase::Stopped, running_digest: None, running_generation: None },
                Goal::Absent => Observed { phase: Phase::Absent, running_digest: None, running_generation: None },
            };
            now.insert(slot, ended);
            done.insert(step.number);
        }
        prop_assert!(left.is_empty(), "stuck: {:?}", show(&plan));
        for (slot, wish) in &world.wanted {
            prop_assert!(is_at_goal(now.get(slot), Some(wish)), "{slot} is not at its goal");
        }
        prop_assert_eq!(plan_again(&now, &world.wanted, &world.wanted).steps, vec![]);
    }
}

/// Before a start: every copy it depends on that shall run is as wanted. Before a stop: whatever
/// rested on it and goes down too is down.
fn check_step(
    step: &Step,
    plan: &Plan,
    done: &BTreeSet<u32>,
    now: &BTreeMap<SlotId, Observed>,
    world: &Story,
) -> Result<(), TestCaseError> {
    let rests_on = |map: &Slots, dependent: &SlotId, on: &SlotId| {
        map.get(dependent).is_some_and(|wish| wish.spec.depends_on.contains_key(&on.service))
    };
    let place = step.slot().unwrap();
    if step.goal == Some(Goal::Running) {
        for (slot, wish) in world.wanted.iter().filter(|(_, wish)| wish.goal == Goal::Running) {
            let is_changed =
                plan.steps.iter().any(|other| other.slot() == Some(slot) && !done.contains(&other.number));
            let is_as_wanted = is_at_goal(now.get(slot), Some(wish)) && !is_changed;
            let needed = rests_on(&world.wanted, place, slot);
            prop_assert!(!needed || is_as_wanted, "{place} starts before {slot}: {:?}", show(plan));
        }
    }
    if !matches!(step.task, Task::Start { .. }) {
        for other in plan.steps.iter().filter(|other| other.goal != Some(Goal::Running)) {
            let of = other.slot().unwrap();
            let is_late = rests_on(&world.current, of, place) && !done.contains(&other.number);
            prop_assert!(!is_late, "{place} stops before {of}: {:?}", show(plan));
        }
    }
    Ok(())
}

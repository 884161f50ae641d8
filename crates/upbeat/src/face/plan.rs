//! `plan`: numbered steps, each with what it does, why, and after what.

use upbeat_model::{
    Plan, SlotId,
    plan::{After, Step, StepReason, Task},
    project::Condition,
};

use super::{
    Face, Tone, count,
    table::{Cell, Table},
};

/// The plan in words.
pub fn text(app: &str, plan: &Plan, face: &Face) -> String {
    if plan.steps.is_empty() {
        return format!("Plan for `{app}`: nothing to do; {}\n", unchanged(plan.unchanged));
    }
    let mut text = format!("Plan for `{app}`: {}", count(plan.steps.len(), "step"));
    if plan.unchanged > 0 {
        text.push_str(&format!("; {}", unchanged(plan.unchanged)));
    }
    text.push_str("\n\n");
    match plan.is_of_processes() {
        true => text.push_str(&of_processes(plan, face)),
        false => text.push_str(&of_all(plan, face)),
    }
    text
}

/// Slot by slot: a process has one step.
fn of_processes(plan: &Plan, face: &Face) -> String {
    let mut table = Table::new(["STEP", "DO", "SLOT", "WHY", "AFTER"]);
    for step in &plan.steps {
        table.row([
            step.number.into(),
            Cell::toned(tone(step), step.task.key()),
            step.slot().map(SlotId::short).unwrap_or_default().into(),
            reason(&step.reason).into(),
            after(step, plan).into(),
        ]);
    }
    table.render(face)
}

/// Step by step, then what is interrupted, and what should be known besides.
fn of_all(plan: &Plan, face: &Face) -> String {
    let mut table = Table::new(["STEP", "DO", "WHY", "AFTER"]);
    for step in &plan.steps {
        let after: Vec<String> = step.after.iter().map(After::to_string).collect();
        table.row([
            step.number.into(),
            Cell::toned(tone(step), &step.task),
            reason(&step.reason).into(),
            after.join(", ").into(),
        ]);
    }
    let mut text = format!("{}\n{}\n", table.render(face), plan.interruptions());
    for note in &plan.notes {
        text.push_str(&format!("Note: {note}.\n"));
    }
    text
}

fn unchanged(n: u32) -> String {
    match n {
        0 => "no slot is there or wanted".into(),
        1 => "1 slot stays as it is".into(),
        n => format!("{n} slots stay as they are"),
    }
}

fn tone(step: &Step) -> Tone {
    match &step.task {
        Task::Replace { .. } => Tone::Caution,
        Task::Stop { .. }
        | Task::Remove { .. }
        | Task::RemoveContainer { .. }
        | Task::RemoveNetwork { .. }
        | Task::RemoveVolume { .. }
        | Task::RemoveRelease { .. }
        | Task::RemoveApp { .. } => Tone::Bad,
        Task::Prepared { .. } | Task::Ready { .. } | Task::Await { .. } => Tone::Quiet,
        _ => Tone::Good,
    }
}

fn reason(reason: &StepReason) -> String {
    match reason {
        StepReason::New => "it is new".into(),
        StepReason::NotRunning => "it does not run".into(),
        StepReason::Changed { fields } => {
            let fields: Vec<String> = fields.iter().map(|f| format!("`{f}`")).collect();
            format!("{} changed", fields.join(", "))
        }
        StepReason::Asked => "as asked".into(),
        StepReason::NotDeclared => "it is not declared any more".into(),
        StepReason::NotNeeded => "nothing needs it any more".into(),
        StepReason::DependencyRestarts { slot } => format!("{} restarts", slot.short()),
        StepReason::NetworkRenewed { network } => format!("network `{network}` is made anew"),
        StepReason::VolumeRenewed { volume } => format!("volume `{volume}` is made anew"),
        StepReason::Superseded => "another took its place".into(),
        StepReason::Unchanged => "nothing of it changed".into(),
        StepReason::NeededBy { slot } => format!("{} needs it", slot.short()),
        StepReason::NewRelease => "the release is new".into(),
        StepReason::Order => "for all that follow".into(),
    }
}

/// `1 (db-1 healthy), 2 (cache-1 started)`.
fn after(step: &Step, plan: &Plan) -> String {
    let one = |after: &After| {
        let slot = plan.step(after.step).and_then(Step::slot).map(SlotId::short);
        let condition = after.condition.as_ref().map_or("stopped".into(), Condition::word);
        format!("{} ({} {condition})", after.step, slot.unwrap_or_default())
    };
    let all: Vec<String> = step.after.iter().map(one).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::{
        Paint,
        examples::{face, slot},
    };

    fn step(number: u32, task: Task, reason: StepReason, after: Vec<After>) -> Step {
        let (goal, undo) = (task.goal(), task.undo());
        Step { number, level: 0, task, goal, reason, after, undo, interrupts: false }
    }

    fn start(short: &str) -> Task {
        Task::Start { slot: slot(short), container: None, release: None, temporary: false }
    }

    fn replace(short: &str) -> Task {
        Task::Replace { slot: slot(short) }
    }

    fn sample() -> Plan {
        let on = |step, condition| After { step, condition };
        Plan {
            steps: vec![
                step(1, Task::Remove { slot: slot("old-1") }, StepReason::NotDeclared, vec![]),
                step(2, start("db-1"), StepReason::New, vec![]),
                step(
                    3,
                    replace("cache-1"),
                    StepReason::Changed { fields: vec!["command".into(), "environment".into()] },
                    vec![on(2, Some(Condition::Started)), on(1, None)],
                ),
                step(
                    4,
                    replace("web-1"),
                    StepReason::DependencyRestarts { slot: slot("cache-1") },
                    vec![on(2, Some(Condition::Healthy)), on(3, Some(Condition::Started))],
                ),
                step(5, start("job-1"), StepReason::NotRunning, vec![]),
            ],
            unchanged: 1,
            ..Plan::default()
        }
    }

    #[test]
    fn steps_say_what_why_and_after_what() {
        insta::assert_snapshot!(text("shop", &sample(), &face()), @"
        Plan for `shop`: 5 steps; 1 slot stays as it is

        STEP  DO       SLOT     WHY                               AFTER
        1     remove   old-1    it is not declared any more
        2     start    db-1     it is new
        3     replace  cache-1  `command`, `environment` changed  2 (db-1 started), 1 (old-1 stopped)
        4     replace  web-1    cache-1 restarts                  2 (db-1 healthy), 3 (cache-1 started)
        5     start    job-1    it does not run
        ");
    }

    #[test]
    fn of_containers_each_step_is_a_sentence_and_the_last_line_says_what_is_interrupted() {
        let (web, name) = (slot("web-1"), "shop-web-1".to_owned());
        let container = Some(name.clone());
        let changed = || StepReason::Changed { fields: vec!["image".into()] };
        let needed = StepReason::NeededBy { slot: web.clone() };
        let after = |step| vec![After { step, condition: None }];
        let stop = Task::Stop { slot: web.clone(), container: container.clone(), release: None };
        let steps = vec![
            step(1, Task::Pull { image: "nginx:2".into(), tag: None }, needed, vec![]),
            step(2, Task::Create { slot: web.clone(), container: name, release: None }, changed(), after(1)),
            Step { interrupts: true, ..step(3, stop, changed(), after(2)) },
            step(
                4,
                Task::Start { slot: web, container, release: None, temporary: false },
                changed(),
                after(3),
            ),
        ];
        insta::assert_snapshot!(text("shop", &Plan { steps, unchanged: 2, notes: vec![] }, &face()), @"
        Plan for `shop`: 4 steps; 2 slots stay as they are

        STEP  DO                                                WHY              AFTER
        1     pull image 'nginx:2'                              web-1 needs it
        2     create container for service 'web' of app 'shop'  `image` changed  1
        3     stop container for service 'web' of app 'shop'    `image` changed  2
        4     start container for service 'web' of app 'shop'   `image` changed  3

        Interrupted: web-1 from step 3 to step 4.
        ");
    }

    #[test]
    fn actions_are_coloured_on_a_terminal() {
        let coloured = text("shop", &sample(), &Face { paint: Paint::Coloured, ..face() });
        assert!(coloured.contains("\u{1b}[33mreplace\u{1b}[0m"), "{coloured:?}");
        assert!(coloured.contains("\u{1b}[31mremove\u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn an_empty_plan_says_so() {
        let empty = Plan { unchanged: 3, ..Plan::default() };
        assert_eq!(
            text("shop", &empty, &face()),
            "Plan for `shop`: nothing to do; 3 slots stay as they are\n"
        );
    }
}

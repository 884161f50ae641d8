//! `plan`: numbered steps, each with what it does, why, and after what.

use upbeat_model::{
    Plan,
    plan::{Action, After, Step, StepReason},
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
    let mut table = Table::new(["STEP", "DO", "SLOT", "WHY", "AFTER"]);
    for step in &plan.steps {
        table.row([
            step.number.into(),
            Cell::toned(tone(step.action), word(step.action)),
            step.slot.short().into(),
            reason(&step.reason).into(),
            after(step, plan).into(),
        ]);
    }
    text.push_str(&table.render(face));
    text
}

fn unchanged(n: u32) -> String {
    match n {
        0 => "no slot is there or wanted".into(),
        1 => "1 slot stays as it is".into(),
        n => format!("{n} slots stay as they are"),
    }
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Start => "start",
        Action::Replace => "replace",
        Action::Stop => "stop",
        Action::Remove => "remove",
    }
}

fn tone(action: Action) -> Tone {
    match action {
        Action::Start => Tone::Good,
        Action::Replace => Tone::Caution,
        Action::Stop | Action::Remove => Tone::Bad,
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
        StepReason::DependencyRestarts { slot } => format!("{} restarts", slot.short()),
    }
}

/// `1 (db-1 healthy), 2 (cache-1 started)`.
fn after(step: &Step, plan: &Plan) -> String {
    let one = |after: &After| {
        let slot = plan.steps.iter().find(|s| s.number == after.step).map(|s| s.slot.short());
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
    use upbeat_model::Goal;

    fn step(number: u32, short: &str, action: Action, reason: StepReason, after: Vec<After>) -> Step {
        Step { number, level: 0, slot: slot(short), action, goal: Goal::Running, reason, after }
    }

    fn sample() -> Plan {
        let on = |step, condition| After { step, condition };
        Plan {
            steps: vec![
                step(1, "old-1", Action::Remove, StepReason::NotDeclared, vec![]),
                step(2, "db-1", Action::Start, StepReason::New, vec![]),
                step(
                    3,
                    "cache-1",
                    Action::Replace,
                    StepReason::Changed { fields: vec!["command".into(), "environment".into()] },
                    vec![on(2, Some(Condition::Started)), on(1, None)],
                ),
                step(
                    4,
                    "web-1",
                    Action::Replace,
                    StepReason::DependencyRestarts { slot: slot("cache-1") },
                    vec![on(2, Some(Condition::Healthy)), on(3, Some(Condition::Started))],
                ),
                step(5, "job-1", Action::Start, StepReason::NotRunning, vec![]),
            ],
            unchanged: 1,
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
    fn actions_are_coloured_on_a_terminal() {
        let coloured = text("shop", &sample(), &Face { paint: Paint::Coloured, ..face() });
        assert!(coloured.contains("\u{1b}[33mreplace\u{1b}[0m"), "{coloured:?}");
        assert!(coloured.contains("\u{1b}[31mremove\u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn an_empty_plan_says_so() {
        let empty = Plan { steps: vec![], unchanged: 3 };
        assert_eq!(
            text("shop", &empty, &face()),
            "Plan for `shop`: nothing to do; 3 slots stay as they are\n"
        );
    }
}

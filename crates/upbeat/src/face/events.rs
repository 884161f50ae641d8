//! `events`: what happened, one line each; and the short notes shown between log lines.

use upbeat_model::{Event, EventKind, Phase, SlotStatus};

use super::{Face, Tone, outcome::clauses, ps, time::clock, visible};

/// One event as one line, ended: `12  14:03:05  web-1  starting → healthy`.
pub fn line(event: &Event, face: &Face) -> String {
    let (subject, what) = match &event.kind {
        EventKind::Phase { slot, from, to, attempt, pid, exit, reasons } => {
            let mut what = format!("{from} → {}", face.paint.phase(*to));
            if let (Some(pid), Phase::Starting | Phase::Running) = (pid, to) {
                what.push_str(&format!(" (pid {pid}, attempt {attempt})"));
            }
            if let Some(exit) = exit {
                what.push_str(&format!(" ({})", visible(&exit.to_string())));
            }
            if let Some(why) = clauses(reasons) {
                what.push_str(&format!(": {why}"));
            }
            (slot.short(), what)
        }
        EventKind::Reacted { slot, probe, action, last, times, .. } => {
            let times = if *times > 1 { format!(" ({times} times lately)") } else { String::new() };
            let action = face.paint.tone(Tone::Caution, visible(&action.to_string()));
            (slot.short(), format!("probe `{probe}` failed → {action}{times}: {}", visible(last)))
        }
        EventKind::Adopted { slot, attempt, pid } => (
            slot.short(),
            format!("found again after a restart of the daemon (pid {pid}, attempt {attempt})"),
        ),
        EventKind::OperationStarted { operation, what, who } => {
            (format!("operation {operation}"), format!("`{}` by {}", visible(what), visible(who)))
        }
        EventKind::OperationEnded { operation, outcome } => {
            (format!("operation {operation}"), format!("ended: {}", visible(outcome)))
        }
    };
    let at = face.paint.tone(Tone::Quiet, format!("{:>6}  {}", event.sequence, clock(event.at, face)));
    format!("{at}  {}  {}  {what}\n", event.app, face.paint.tone(Tone::Strong, subject))
}

/// The quiet note between log lines when a slot entered another phase.
pub fn note(status: &SlotStatus, face: &Face) -> String {
    let mut note = format!("{} {}", status.slot.short(), face.paint.verb(status.phase));
    let why = match status.phase {
        Phase::Running | Phase::Healthy | Phase::Starting | Phase::Stopping | Phase::Stopped => String::new(),
        _ => visible(&ps::why(status)),
    };
    if !why.is_empty() {
        note.push_str(&face.paint.tone(Tone::Quiet, format!(": {why}")));
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{ago, backs_off, every_phase, face, slot};
    use upbeat_model::{AppName, Attempt, Exit, OperationId};

    #[test]
    fn each_event_is_one_line() {
        let phase = |from, to, pid, exit, reasons| EventKind::Phase {
            slot: slot("web-1"),
            from,
            to,
            attempt: Attempt(3),
            pid,
            exit,
            reasons,
        };
        let kinds = [
            EventKind::OperationStarted {
                operation: OperationId(4),
                what: "up".into(),
                who: "uid 1000".into(),
            },
            phase(Phase::Waiting, Phase::Starting, Some(4711), None, vec![]),
            phase(Phase::Starting, Phase::Healthy, Some(4711), None, vec![]),
            phase(Phase::Healthy, Phase::BackingOff, None, Some(Exit::Code(1)), vec![backs_off()]),
            EventKind::Adopted { slot: slot("web-1"), attempt: Attempt(3), pid: 4711 },
            EventKind::OperationEnded { operation: OperationId(4), outcome: "reached".into() },
        ];
        let text: String = kinds
            .into_iter()
            .zip(98..)
            .map(|(kind, sequence)| {
                let app = AppName::new("shop").unwrap();
                line(&Event { sequence, at: ago(100_000 - 50_000), app, kind }, &face())
            })
            .collect();
        insta::assert_snapshot!(text, @"
         98  2026-02-28 22:06:40  shop  operation 4  `up` by uid 1000
         99  2026-02-28 22:06:40  shop  web-1  waiting → starting (pid 4711, attempt 3)
        100  2026-02-28 22:06:40  shop  web-1  starting → healthy
        101  2026-02-28 22:06:40  shop  web-1  healthy → backing off (exit 1): backs off 4s after its 3rd exit (exit 1)
        102  2026-02-28 22:06:40  shop  web-1  found again after a restart of the daemon (pid 4711, attempt 3)
        103  2026-02-28 22:06:40  shop  operation 4  ended: reached
        ");
    }

    #[test]
    fn a_note_says_why_only_where_something_is_wrong() {
        let notes: Vec<String> = every_phase().iter().map(|s| note(s, &face())).collect();
        insta::assert_snapshot!(notes.join("\n"), @"
        api-1 is healthy
        cache-1 is backing off: backs off 4s after its 3rd exit (exit 1)
        crash-1 is crash-looping: killed by SIGKILL
        dep-1 cannot start: needs db to be healthy, but db-1 is failed (exit 1)
        fail-1 failed: ended (exit 1) and `restart: no` leaves it so
        job-1 completed: exit 0
        needy-1 needs attention: its probe `liveness` still fails after restart 5 times within 10m: a person has to look; `upbeat restart` begins anew
        run-1 is running
        start-1 is starting
        stop-1 is stopped
        stopping-1 is stopping
        unhealthy-1 is unhealthy: its health check (http http://127.0.0.1:8080/health) failed 3 times in a row: status 503
        web-1 is waiting: waits for db to be healthy (db-1 is backing off)
        web-2 is waiting: waits for db to be healthy (db-1 is backing off)
        ");
    }
}

//! `events`: what happened, one line each; and the short notes shown between log lines.

use upbeat_model::{Event, EventKind, Phase, SlotStatus};

use super::{Face, Tone, outcome::clauses, ps, time::clock, visible};

/// How wide the columns are: as wide as what was seen so far needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Columns {
    sequence: usize,
    at: usize,
    app: usize,
    subject: usize,
}

impl Columns {
    /// Makes room for this one.
    pub fn see(&mut self, event: &Event, face: &Face) {
        let Columns { sequence, at, app, subject } = self;
        *sequence = event.sequence.to_string().len().max(*sequence);
        *at = clock(event.at, face).len().max(*at);
        *app = app_of(event).len().max(*app);
        *subject = self::subject(event).len().max(*subject);
    }
}

/// The slot, or the operation.
fn subject(event: &Event) -> String {
    match &event.kind {
        EventKind::Phase { slot, .. }
        | EventKind::Reacted { slot, .. }
        | EventKind::Remedied { slot, .. }
        | EventKind::Reloaded { slot, .. }
        | EventKind::Drifted { slot, .. }
        | EventKind::Adopted { slot, .. } => slot.short(),
        EventKind::Built { service, .. } | EventKind::BuildFailed { service, .. } => service.to_string(),
        EventKind::OperationStarted { operation, .. } | EventKind::OperationEnded { operation, .. } => {
            format!("operation {operation}")
        }
        EventKind::Rollout { namespace, entity, .. } => visible(&format!("{namespace}/{entity}")),
    }
}

/// Nothing, where it is about no app.
fn app_of(event: &Event) -> &str {
    event.app.as_ref().map_or("", upbeat_model::AppName::as_str)
}

/// One event as one line, ended: `12  14:03:05  web-1  starting → healthy`.
pub fn line(event: &Event, columns: &mut Columns, face: &Face) -> String {
    columns.see(event, face);
    let Columns { sequence, at, app, subject } = *columns;
    let head = format!("{:>sequence$}  {:>at$}", event.sequence, clock(event.at, face));
    let head = face.paint.tone(Tone::Quiet, head);
    let of = self::subject(event);
    let gap = " ".repeat(subject - of.len());
    let of = face.paint.tone(Tone::Strong, of);
    format!("{head}  {:app$}  {of}{gap}  {}\n", app_of(event), what(event, face))
}

fn what(event: &Event, face: &Face) -> String {
    match &event.kind {
        EventKind::Phase { from, to, attempt, pid, exit, reasons, .. } => {
            let mut what = format!("{from} → {}", face.paint.phase(*to));
            if let (Some(pid), Phase::Starting | Phase::Running) = (pid, to) {
                what.push_str(&format!(" (pid {pid}, attempt {attempt})"));
            }
            let why = clauses(reasons).unwrap_or_default();
            let exit = exit.as_ref().map(|exit| visible(&exit.to_string()));
            // Most reasons of an end say it, too.
            if let Some(exit) = exit.filter(|exit| !why.contains(exit.as_str())) {
                what.push_str(&format!(" ({exit})"));
            }
            if !why.is_empty() {
                what.push_str(&format!(": {why}"));
            }
            what
        }
        EventKind::Reacted { probe, action, last, times, .. } => {
            let times = if *times > 1 { format!(" ({times} times lately)") } else { String::new() };
            let action = face.paint.tone(Tone::Caution, visible(&action.to_string()));
            format!("probe `{probe}` failed → {action}{times}: {}", visible(last))
        }
        EventKind::Remedied { probe, failure, .. } => {
            let what = format!("what was run about probe `{probe}`");
            came_to(&what, "has ended well", failure.as_deref(), face)
        }
        EventKind::Reloaded { failure, .. } => came_to("its reload", "was ordered", failure.as_deref(), face),
        EventKind::Drifted { what, remedy, failure, .. } => {
            let what = visible(what);
            match failure {
                None => format!("{what} → {}", face.paint.tone(Tone::Caution, visible(remedy))),
                Some(_) => came_to(&format!("{what} → that"), "", failure.as_deref(), face),
            }
        }
        EventKind::Adopted { attempt, pid, .. } => {
            format!("found again after a restart of the daemon (pid {pid}, attempt {attempt})")
        }
        EventKind::Built { image, seconds, .. } => format!("{} was built in {seconds} s", visible(image)),
        EventKind::BuildFailed { image, why, .. } => {
            came_to(&format!("the build of {}", visible(image)), "", Some(why), face)
        }
        EventKind::OperationStarted { what, who, .. } => format!("`{}` by {}", visible(what), visible(who)),
        EventKind::Rollout { what, .. } => visible(&what.to_string()),
        EventKind::OperationEnded { outcome, .. } => format!("ended: {}", visible(outcome)),
    }
}

fn came_to(what: &str, well: &str, failure: Option<&str>, face: &Face) -> String {
    match failure {
        None => format!("{what} {well}"),
        Some(why) => {
            let failed = face.paint.tone(Tone::Caution, "failed".to_owned());
            format!("{what} {failed}: {}", visible(why))
        }
    }
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
            EventKind::Built { service: slot("web-1").service, image: "shop-web".into(), seconds: 3 },
            EventKind::BuildFailed {
                service: slot("web-1").service,
                image: "shop-web".into(),
                seconds: 3,
                why: "step 2 of 4, `RUN`, failed".into(),
            },
        ];
        let event = |(kind, sequence): (EventKind, u64)| {
            let at = if sequence < 100 { ago(50_000) } else { ago(60) };
            Event { sequence, at, app: AppName::new("shop").ok(), kind }
        };
        let events: Vec<Event> = kinds.into_iter().zip(98..).map(event).collect();
        let mut columns = Columns::default();
        events.iter().for_each(|event| columns.see(event, &face()));
        let text: String = events.iter().map(|event| line(event, &mut columns, &face())).collect();
        insta::assert_snapshot!(text, @"
         98  2026-02-28 22:06:40  shop  operation 4  `up` by uid 1000
         99  2026-02-28 22:06:40  shop  web-1        waiting → starting (pid 4711, attempt 3)
        100             11:59:00  shop  web-1        starting → healthy
        101             11:59:00  shop  web-1        healthy → backing off: backs off 4s after its 3rd exit (exit 1)
        102             11:59:00  shop  web-1        found again after a restart of the daemon (pid 4711, attempt 3)
        103             11:59:00  shop  operation 4  ended: reached
        104             11:59:00  shop  web          shop-web was built in 3 s
        105             11:59:00  shop  web          the build of shop-web failed: step 2 of 4, `RUN`, failed
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

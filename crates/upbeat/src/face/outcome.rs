//! How an operation ended, slot by slot, and for those that failed what they said last.

use std::collections::BTreeMap;

use upbeat_model::{Phase, Reason, SlotId, SlotStatus};

use super::{Face, Tone, logs::last_lines, ps, visible};
use crate::progress::{Progress, Standing, Trouble, Until};

/// What was asked for, so that the answer can use its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `up`, `start`, `scale`: told by the state that was reached.
    Run,
    /// `restart`.
    Restart,
    /// `reload`.
    Reload,
    /// `stop`.
    Stop,
    /// `down`.
    Down,
}

/// One line a slot; under those in trouble, their last lines of output.
pub fn text(
    progress: &Progress,
    until: Until,
    asked: Asked,
    last: &BTreeMap<SlotId, Vec<String>>,
    face: &Face,
) -> String {
    let mut text = String::new();
    let names = progress.operation().slots.keys().map(|slot| slot.short().len()).max().unwrap_or(0);
    for (slot, standing) in progress.standings(until) {
        let words = words(&standing, asked, progress.status(slot), face);
        text.push_str(&format!("{:names$}  {words}\n", slot.short()));
        if let Some(lines) = last.get(slot).filter(|lines| !lines.is_empty()) {
            text.push_str("  its last lines:\n");
            text.push_str(&last_lines(lines, face.paint));
        }
    }
    text
}

fn words(standing: &Standing, asked: Asked, status: Option<&SlotStatus>, face: &Face) -> String {
    let phase = status.map(|s| s.phase);
    match standing {
        Standing::Good => {
            let (tone, word) = reached(asked, phase);
            face.paint.tone(tone, word)
        }
        Standing::Waits(reasons) => clauses(reasons).unwrap_or_else(|| Phase::Waiting.to_string()),
        Standing::Superseded(by) => face.paint.tone(Tone::Caution, format!("superseded by operation {by}")),
        Standing::Bad(trouble, reasons) => {
            let (tone, word) = match (trouble, phase) {
                (Trouble::Unhealthy, Some(Phase::Unhealthy)) => (Tone::Bad, "unhealthy"),
                (_, Some(Phase::NeedsAttention)) => (Tone::Bad, "needs attention"),
                (_, Some(Phase::Waiting)) => (Tone::Bad, "cannot start"),
                (Trouble::DependencyFailed, _) => (Tone::Bad, "dependency failed"),
                (Trouble::Failed, Some(Phase::CrashLooping)) => (Tone::Bad, "crash-looping"),
                (Trouble::Failed | Trouble::Unhealthy, _) => (Tone::Bad, "failed"),
            };
            with_reasons(face.paint.tone(tone, word), clauses(reasons), status)
        }
        Standing::Pending => {
            let phase = phase.unwrap_or(Phase::Waiting);
            let why = status.and_then(|s| clauses(&s.reasons));
            with_reasons(format!("not there yet, {}", face.paint.phase(phase)), why, None)
        }
    }
}

fn with_reasons(words: String, clauses: Option<String>, status: Option<&SlotStatus>) -> String {
    let why = clauses.or_else(|| status.map(|s| visible(&ps::why(s)))).filter(|w| !w.is_empty());
    match why {
        Some(why) => format!("{words}: {why}"),
        None => words,
    }
}

fn reached(asked: Asked, phase: Option<Phase>) -> (Tone, String) {
    match (asked, phase) {
        (Asked::Down, _) | (Asked::Run, None | Some(Phase::Absent)) => (Tone::Quiet, "removed".into()),
        (Asked::Stop, _) => (Tone::Quiet, "stopped".into()),
        (Asked::Restart, Some(phase)) => (Tone::of(phase), format!("restarted, {phase}")),
        (Asked::Restart, None) => (Tone::Good, "restarted".into()),
        (Asked::Reload, Some(phase)) => (Tone::of(phase), format!("reloaded, {phase}")),
        (Asked::Reload, None) => (Tone::Good, "reloaded".into()),
        (Asked::Run, Some(phase)) => (Tone::of(phase), phase.to_string()),
    }
}

/// All reasons as one clause.
pub fn clauses(reasons: &[Reason]) -> Option<String> {
    let all: Vec<String> = reasons.iter().map(|r| visible(&r.to_string())).collect();
    (!all.is_empty()).then(|| all.join(", and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::{
        Paint,
        examples::{
            NOW, backs_off, dependency_failed, face, not_restarted, probe_fails, project, service, slot,
            status, waits_for_db,
        },
    };
    use upbeat_model::project::Condition;
    use upbeat_model::{App, AppName, Operation, OperationId, Wish};

    fn progress(slots: Vec<(SlotStatus, Wish)>) -> Progress {
        let mut progress = Progress::new(Operation {
            id: OperationId(4),
            app: AppName::new("shop").unwrap(),
            what: "up".into(),
            who: "uid 1000".into(),
            at: NOW,
            slots: slots.iter().map(|(s, w)| (s.slot.clone(), w.clone())).collect(),
            ended: false,
        });
        let slots = slots.into_iter().map(|(s, _)| s).filter(|s| s.phase != Phase::Absent).collect();
        progress.see_app(App { name: AppName::new("shop").unwrap(), release: 1, project: project(), slots });
        progress
    }

    fn because(short: &str, phase: Phase, reason: Reason) -> SlotStatus {
        SlotStatus { reasons: vec![reason], ..status(short, phase) }
    }

    fn every_outcome() -> Progress {
        let failed = |reason: Reason| Wish::Failed { reasons: vec![reason] };
        progress(vec![
            (status("api-1", Phase::Healthy), Wish::Reached),
            (because("backing-1", Phase::BackingOff, backs_off()), Wish::Pending),
            (because("db-1", Phase::Failed, not_restarted()), failed(not_restarted())),
            (because("dep-1", Phase::DependencyFailed, dependency_failed()), failed(dependency_failed())),
            (status("gone-1", Phase::Absent), Wish::Reached),
            (status("other-1", Phase::Stopping), Wish::Superseded { by: OperationId(7) }),
            (because("sick-1", Phase::Unhealthy, probe_fails()), Wish::Pending),
            (status("starting-1", Phase::Starting), Wish::Pending),
            (because("web-1", Phase::Waiting, waits_for_db()), Wish::Pending),
        ])
    }

    #[test]
    fn each_slot_tells_how_its_part_ended() {
        let last = BTreeMap::from([(slot("db-1"), vec!["opening /data".into(), "panic: no disk".into()])]);
        let shown = text(&every_outcome(), Until::Ready, Asked::Run, &last, &face());
        insta::assert_snapshot!(shown, @"
        api-1       healthy
        backing-1   not there yet, backing off: backs off 4s after its 3rd exit (exit 1)
        db-1        failed: ended (exit 1) and `restart: no` leaves it so
          its last lines:
            | opening /data
            | panic: no disk
        dep-1       dependency failed: needs db to be healthy, but db-1 is failed (exit 1)
        gone-1      removed
        other-1     superseded by operation 7
        sick-1      unhealthy: its health check (http http://127.0.0.1:8080/health) failed 3 times in a row: status 503
        starting-1  not there yet, starting
        web-1       cannot start: waits for db to be healthy (db-1 is backing off)
        ");
    }

    #[test]
    fn each_command_answers_with_its_own_word() {
        let done = progress(vec![
            (status("db-1", Phase::Running), Wish::Reached),
            (status("web-1", Phase::Healthy), Wish::Reached),
        ]);
        let mut shown = String::new();
        for asked in [Asked::Run, Asked::Restart, Asked::Stop, Asked::Down] {
            shown.push_str(&text(&done, Until::Ended, asked, &BTreeMap::new(), &face()));
        }
        insta::assert_snapshot!(shown, @"
        db-1   running
        web-1  healthy
        db-1   restarted, running
        web-1  restarted, healthy
        db-1   stopped
        web-1  stopped
        db-1   removed
        web-1  removed
        ");
    }

    #[test]
    fn who_waits_for_what_nobody_expects_says_for_what() {
        let reason = Reason::WaitsFor {
            service: service("db"),
            condition: Condition::Failed,
            blocking: Some((slot("db-1"), Phase::Running)),
        };
        let done = progress(vec![
            (status("db-1", Phase::Running), Wish::Reached),
            (because("tell-1", Phase::Waiting, reason), Wish::Pending),
        ]);
        insta::assert_snapshot!(text(&done, Until::Ready, Asked::Run, &BTreeMap::new(), &face()), @"
        db-1    running
        tell-1  waits for db to fail (db-1 is running)
        ");
    }

    #[test]
    fn outcomes_are_coloured_on_a_terminal() {
        let face = Face { paint: Paint::Coloured, ..face() };
        let shown = text(&every_outcome(), Until::Ready, Asked::Run, &BTreeMap::new(), &face);
        assert!(shown.contains("\u{1b}[32mhealthy\u{1b}[0m"), "{shown}");
        assert!(shown.contains("\u{1b}[31mfailed\u{1b}[0m"), "{shown}");
        assert!(shown.contains("\u{1b}[33msuperseded by operation 7\u{1b}[0m"), "{shown}");
    }
}

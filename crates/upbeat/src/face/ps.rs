//! `ps`: one line a slot.

use upbeat_model::{Phase, SlotStatus};

use super::{
    Face, Tone,
    table::{Cell, Table},
    time::age,
};

/// How much of a slot is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What most people want to know.
    Usual,
    /// Also ids and counters.
    Wide,
}

/// The table of slots.
pub fn table(slots: &[SlotStatus], detail: Detail, face: &Face) -> String {
    let mut table = match detail {
        Detail::Usual => Table::new(["SLOT", "STATE", "FOR", "RESTARTS", "WHY"]),
        Detail::Wide => Table::new([
            "SLOT",
            "STATE",
            "FOR",
            "RESTARTS",
            "PID",
            "ATTEMPT",
            "RELEASE",
            "GOAL",
            "OPERATION",
            "WHY",
        ]),
    };
    for status in slots {
        let mut row: Vec<Cell> = vec![
            status.slot.short().into(),
            Cell::toned(Tone::of(status.phase), status.phase),
            age(status.since, face.now).into(),
            status.restarts.into(),
        ];
        if detail == Detail::Wide {
            row.push(status.pid.map(Cell::from).unwrap_or_default());
            row.push(status.attempt.into());
            row.push(status.release.into());
            row.push(goal(status).into());
            row.push(status.operation.into());
        }
        row.push(why(status).into());
        table.row(row);
    }
    table.render(face)
}

fn goal(status: &SlotStatus) -> &'static str {
    match status.goal {
        upbeat_model::Goal::Absent => "absent",
        upbeat_model::Goal::Stopped => "stopped",
        upbeat_model::Goal::Running => "running",
    }
}

/// In one clause why the slot is where it is: its first reason, or what is known of its end or of
/// its health. Empty when all is as wished.
pub fn why(status: &SlotStatus) -> String {
    if let Some(reason) = status.reasons.first() {
        return reason.to_string();
    }
    match status.phase {
        Phase::Completed | Phase::Failed | Phase::CrashLooping | Phase::BackingOff => {
            status.exit.as_ref().map(ToString::to_string).unwrap_or_default()
        }
        Phase::Starting | Phase::Unhealthy | Phase::NeedsAttention => {
            status.health.clone().unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// Whether `ps` without `-a` leaves it out: it rests, and rightly so.
pub fn is_at_rest(status: &SlotStatus) -> bool {
    matches!(status.phase, Phase::Stopped | Phase::Completed | Phase::Absent)
}

/// What stands under the table when slots were left out.
pub fn left_out(n: usize) -> Option<String> {
    match n {
        0 => None,
        1 => Some("1 more slot is stopped or completed; `upbeat ps -a` shows it".into()),
        n => Some(format!("{n} more slots are stopped or completed; `upbeat ps -a` shows them")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::{
        Paint,
        examples::{every_phase, face, status},
    };

    #[test]
    fn every_phase_has_its_line_and_its_reason() {
        insta::assert_snapshot!(table(&every_phase(), Detail::Usual, &face()), @"
        SLOT         STATE              FOR  RESTARTS  WHY
        api-1        healthy            3m   0
        cache-1      backing off        3m   3         backs off 4s after its 3rd exit (exit 1)
        crash-1      crash-looping      3m   41        killed by SIGKILL
        dep-1        dependency failed  3m   0         needs db to be healthy, but db-1 is failed (exit 1)
        fail-1       failed             3m   0         ended (exit 1) and `restart: no` leaves it so
        job-1        completed          3m   0         exit 0
        needy-1      needs attention    3m   0         its probe `liveness` still fails after restart 5 times within 10m: a person has to look; `upbeat restart` begins anew
        run-1        running            3m   0
        start-1      starting           3m   0         its process is being started
        stop-1       stopped            3m   0         was stopped by operation 3
        stopping-1   stopping           3m   0
        unhealthy-1  unhealthy          3m   0         its health check (http http://127.0.0.1:8080/health) failed 3 times in a row: status 503
        web-1        waiting            3m   0         waits for db to be healthy (db-1 is backing off)
        web-2        waiting            3m   0         waits for db to be healthy (db-1 is backing off)
        ");
    }

    #[test]
    fn wide_adds_ids_and_counters() {
        insta::assert_snapshot!(table(&every_phase()[..2], Detail::Wide, &face()), @"
        SLOT     STATE        FOR  RESTARTS  PID   ATTEMPT  RELEASE  GOAL     OPERATION  WHY
        api-1    healthy      3m   0         4711  1        1        running  4
        cache-1  backing off  3m   3               1        1        running  4          backs off 4s after its 3rd exit (exit 1)
        ");
    }

    #[test]
    fn on_a_terminal_states_are_coloured_and_the_last_column_is_cut() {
        let face = Face { paint: Paint::Coloured, width: Some(60), ..face() };
        insta::assert_debug_snapshot!(table(&every_phase()[..4], Detail::Usual, &face), @r#""\u{1b}[2mSLOT\u{1b}[0m     \u{1b}[2mSTATE\u{1b}[0m              \u{1b}[2mFOR\u{1b}[0m  \u{1b}[2mRESTARTS\u{1b}[0m  \u{1b}[2mWHY\u{1b}[0m\napi-1    \u{1b}[32mhealthy\u{1b}[0m            3m   0\ncache-1  \u{1b}[33mbacking off\u{1b}[0m        3m   3         backs off 4s aft…\ncrash-1  \u{1b}[31mcrash-looping\u{1b}[0m      3m   41        killed by SIGKILL\ndep-1    \u{1b}[31mdependency failed\u{1b}[0m  3m   0         needs db to be h…\n""#);
    }

    #[test]
    fn a_slot_at_rest_is_left_out_but_never_a_failed_one() {
        let shown: Vec<_> =
            every_phase().into_iter().filter(|s| !is_at_rest(s)).map(|s| s.slot.short()).collect();
        assert!(!shown.contains(&"job-1".to_owned()) && !shown.contains(&"stop-1".to_owned()));
        assert!(shown.contains(&"fail-1".to_owned()) && shown.contains(&"dep-1".to_owned()));
        assert_eq!(left_out(0), None);
        assert!(is_at_rest(&status("x-1", Phase::Completed)));
    }
}

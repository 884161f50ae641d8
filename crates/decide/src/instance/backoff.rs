//! Back-off: how long to wait before the next start, and when to give up.

use upbeat_model::project::{RestartPolicy, Service};
use upbeat_model::{Attempt, Exit, Millis, SlotId};

/// A run of this length was a good one: what ends after it starts counting anew. Ten seconds, as
/// Docker has it, so that `on-failure:n` means the same in both.
pub const RESET_WINDOW: Millis = Millis::seconds(10);

/// The second quick end in a row waits so long, and each further one twice as long as the one
/// before. The first waits not at all: one crash is an accident, and users should not notice it.
pub const BASE: Millis = Millis::seconds(1);

/// No wait is longer: a person who mends the cause should see the effect within a minute.
pub const CEILING: Millis = Millis::seconds(60);

/// From the second quick end in a row, no wait is shorter, whatever the file says: what ends at once
/// would be started hundreds of times a second, each time with a commit. As systemd's `RestartSec`.
pub const FLOOR: Millis = Millis(100);

/// So many quick ends in a row are no accident: the slot says `crash-looping` so that a person
/// looks. It goes on trying.
pub const CRASH_LOOP: u32 = 5;

/// How long to wait after the `failures`-th quick end in a row (from 1). Up to a tenth is added,
/// by slot and attempt, so that a hundred copies that died together do not come back together.
/// `fixed`: what the file says instead.
pub fn delay(slot: &SlotId, attempt: Attempt, failures: u32, fixed: Option<Millis>) -> Millis {
    match fixed {
        Some(fixed) if failures <= 1 => return fixed,
        Some(fixed) => return fixed.max(FLOOR),
        None if failures <= 1 => return Millis(0),
        None => {}
    }
    let doublings = (failures - 2).min(16);
    let base = BASE.0.saturating_mul(1 << doublings).min(CEILING.0);
    Millis(base + spread(slot, attempt) % (base / 10))
}

/// FNV-1a over the slot and the attempt: any even spread will do, but it must be the same in a
/// replay.
pub(super) fn spread(slot: &SlotId, attempt: Attempt) -> u64 {
    let text = slot.to_string();
    text.bytes()
        .chain(attempt.0.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What the policy says of a process that ended by itself, for the `failures`-th time in a row.
pub fn restarts(spec: &Service, exit: &Exit, failures: u32) -> bool {
    let within = |max: Option<u32>| max.is_none_or(|max| failures <= max);
    let again = match spec.restart {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max } => !spec.succeeds_with(exit) && within(max),
    };
    again && within(spec.restart_rhythm.max_attempts)
}

/// The policy as a file has it.
pub fn policy_text(spec: &Service) -> String {
    let word = match spec.restart {
        RestartPolicy::No => "no",
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure { .. } => "on-failure",
        RestartPolicy::UnlessStopped => "unless-stopped",
    };
    let own = match spec.restart {
        RestartPolicy::OnFailure { max } => max,
        _ => None,
    };
    match own.into_iter().chain(spec.restart_rhythm.max_attempts).min() {
        Some(max) => format!("{word}:{max}"),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_spread_by_a_tenth() {
        let slot: SlotId = "app/web/1".parse().unwrap();
        for (failures, base) in
            [(1, 0), (2, 1_000), (3, 2_000), (4, 4_000), (8, 60_000), (4_000_000_000, 60_000)]
        {
            let d = delay(&slot, Attempt(7), failures, None).0;
            assert!((base..=base + base / 10).contains(&d), "{failures}: {d}");
        }
        let spread: std::collections::BTreeSet<u64> =
            (0..50).map(|n| delay(&slot, Attempt(n), 4, None).0).collect();
        assert!(spread.len() > 25);
    }

    fn service(file: &str) -> Service {
        serde_json::from_str(&format!(r#"{{"command":["x"],"working_dir":"/",{file}}}"#)).unwrap()
    }

    #[test]
    fn on_failure_counts_ends_in_a_row() {
        let twice = service(r#""restart":{"on-failure":{"max":2}}"#);
        assert!(restarts(&twice, &Exit::Code(1), 2));
        assert!(!restarts(&twice, &Exit::Code(1), 3));
        assert!(!restarts(&twice, &Exit::Code(0), 1));
        assert!(restarts(&service(r#""restart":{"on-failure":{"max":null}}"#), &Exit::Signal(9), 1_000));
    }

    #[test]
    fn a_status_that_is_listed_is_a_good_end() {
        let listed = service(r#""restart":{"on-failure":{"max":null}},"success_exit_codes":[3,255]"#);
        for (exit, again) in
            [(Exit::Code(3), false), (Exit::Code(255), false), (Exit::Code(4), true), (Exit::Signal(3), true)]
        {
            assert_eq!(restarts(&listed, &exit, 1), again, "{exit}");
        }
    }

    #[test]
    fn the_rhythm_of_the_file_comes_before_ours() {
        let slot: SlotId = "app/web/1".parse().unwrap();
        assert_eq!(delay(&slot, Attempt(1), 9, Some(Millis(700))), Millis(700));
        assert_eq!(delay(&slot, Attempt(1), 1, Some(Millis(0))), Millis(0));
        assert_eq!(delay(&slot, Attempt(1), 2, Some(Millis(0))), FLOOR, "it does not spin");
        let always = service(r#""restart":"always","restart_rhythm":{"max_attempts":2}"#);
        assert!(restarts(&always, &Exit::Code(0), 2));
        assert!(!restarts(&always, &Exit::Code(0), 3));
        assert_eq!(policy_text(&always), "always:2");
    }
}

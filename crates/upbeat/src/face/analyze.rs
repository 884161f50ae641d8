//! `analyze`: what the time of a start went into.

use upbeat_model::Millis;
use upbeat_model::analyze::{CriticalChain, OwnTime};

use super::table::{Cell, Table};
use super::{Face, Tone};

/// Nothing to tell of.
const NEVER: &str = "Nothing of it was started since the machine was; `upbeat up` starts it.\n";

/// The chain, the last one first, each below the one it kept waiting.
pub fn chain(subject: &str, chain: &CriticalChain, face: &Face) -> String {
    let Some(first) = chain.links.first() else { return NEVER.into() };
    let mut text = match first.time.is_under_way {
        true => format!("`{subject}` is not there yet, after {}:\n\n", chain.total),
        false => format!("`{subject}` was there after {}:\n\n", chain.total),
    };
    let mut table = Table::new(["SLOT", "AT", "TOOK", "WHAT"]);
    for (depth, link) in chain.links.iter().enumerate() {
        let branch = if depth == 0 { String::new() } else { format!("{}└─ ", "   ".repeat(depth - 1)) };
        table.row([
            Cell::from(format!("{branch}{}", link.time.slot.short())),
            Cell::from(if link.time.is_under_way { "-".to_owned() } else { format!("@{}", link.at) }),
            Cell::toned(Tone::Strong, format!("+{}", link.time.own)),
            Cell::from(steps(&link.time)),
        ]);
    }
    text.push_str(&table.render(face));
    text
}

/// Each slot's own time, the longest first.
pub fn blame(times: &[OwnTime], face: &Face) -> String {
    if times.is_empty() {
        return NEVER.into();
    }
    let mut table = Table::new(["TOOK", "SLOT", "WAITED", "WHAT"]);
    for time in times {
        table.row([
            Cell::toned(Tone::Strong, time.own),
            Cell::from(time.slot.short()),
            Cell::from(time.waited),
            Cell::from(steps(time)),
        ]);
    }
    table.render(face)
}

/// `12ms to be executed, 300ms to be ready; 3 attempts`.
fn steps(time: &OwnTime) -> String {
    let OwnTime { to_execute, to_arrive, attempts, phase, is_under_way, .. } = time;
    if *is_under_way {
        return format!("is {phase}{}", tried(*attempts));
    }
    let arrive = match (to_arrive, phase) {
        (Millis(0), _) => String::new(),
        (time, upbeat_model::Phase::Completed) => format!(", {time} to its end"),
        (time, _) => format!(", {time} to be ready"),
    };
    format!("{to_execute} to be executed{arrive}{}", tried(*attempts))
}

fn tried(attempts: u32) -> String {
    if attempts > 1 { format!("; {attempts} attempts") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{face, starts};

    #[test]
    fn the_chain_goes_from_what_was_last_to_what_it_all_waited_for() {
        insta::assert_snapshot!(chain("shop", &starts().critical_chain(None), &face()), @"
        `shop` was there after 4.2s:

        SLOT          AT     TOOK    WHAT
        web-1         @4.2s  +300ms  8ms to be executed, 292ms to be ready
        └─ migrate-1  @3.8s  +2.4s   9ms to be executed, 2.4s to its end
           └─ db-1    @1.4s  +1.4s   12ms to be executed, 1.3s to be ready; 3 attempts
        ");
        let none = CriticalChain::default();
        assert_eq!(chain("shop", &none, &face()), NEVER);
        assert_eq!(blame(&[], &face()), NEVER);
    }

    #[test]
    fn blame_goes_to_the_longest_first() {
        insta::assert_snapshot!(blame(&starts().blame(), &face()), @"
        TOOK   SLOT       WAITED  WHAT
        2.4s   migrate-1  1.4s    9ms to be executed, 2.4s to its end
        1.4s   db-1       0ms     12ms to be executed, 1.3s to be ready; 3 attempts
        300ms  web-1      3.9s    8ms to be executed, 292ms to be ready
        ");
    }

    #[test]
    fn what_is_under_way_is_told_as_it_is() {
        let mut starts = starts();
        starts.slots[2].times.ready = None;
        starts.slots[2].phase = upbeat_model::Phase::Starting;
        insta::assert_snapshot!(chain("web", &starts.critical_chain(None), &face()), @"
        `web` is not there yet, after 8s:

        SLOT          AT     TOOK   WHAT
        web-1         -      +4.1s  is starting
        └─ migrate-1  @3.8s  +2.4s  9ms to be executed, 2.4s to its end
           └─ db-1    @1.4s  +1.4s  12ms to be executed, 1.3s to be ready; 3 attempts
        ");
    }
}

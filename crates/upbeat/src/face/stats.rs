//! `stats`: what slots use, as a table.

use upbeat_model::Stats;

use super::table::{Cell, Table};
use super::time::age;
use super::{Face, Tone, count};

/// At most `rows` slots, and then how many there are besides.
pub fn table(stats: &Stats, rows: Option<usize>, face: &Face) -> String {
    if stats.slots.is_empty() {
        return "No slot is there.\n".into();
    }
    let shown = rows.unwrap_or(usize::MAX).min(stats.slots.len());
    let mut table =
        Table::new(["NAME", "CPU", "MEMORY", "FILES", "PROCESSES", "UPTIME", "RESTARTS", "STATE"]);
    for slot in &stats.slots[..shown] {
        let number = |n: Option<String>| n.map_or_else(|| Cell::toned(Tone::Quiet, "-"), Cell::from);
        let usage = slot.usage.as_ref();
        let restarts = match slot.restarts {
            0 => Cell::from("0"),
            n => Cell::toned(Tone::Caution, n),
        };
        table.row([
            Cell::from(slot.slot.short()),
            number(usage.and_then(|usage| usage.cpu_percent).map(|percent| format!("{percent:.1}%"))),
            number(usage.map(|usage| bytes(usage.memory_bytes))),
            number(usage.and_then(|usage| usage.descriptors).map(|files| files.to_string())),
            number(usage.map(|usage| usage.processes.to_string())),
            number(slot.started_at.map(|at| age(at, face.now))),
            restarts,
            Cell::toned(Tone::of(slot.phase), slot.phase),
        ]);
    }
    let mut text = table.render(face);
    if shown < stats.slots.len() {
        let more = count(stats.slots.len() - shown, "slot");
        text.push_str(
            &face.paint.tone(Tone::Quiet, format!("and {more} more; a taller terminal shows them")),
        );
        text.push('\n');
    }
    text
}

/// Over what was drawn before, line by line, so that nothing flickers.
pub fn redrawn(text: &str, is_first: bool) -> String {
    let begin = if is_first { "\u{1b}[2J\u{1b}[H" } else { "\u{1b}[H" };
    format!("{begin}{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n"))
}

/// `512 B`, `3.4 KiB`, `118 MiB`: three digits.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut amount = n as f64;
    let mut unit = 0;
    while amount >= 999.5 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n} B"),
        _ if amount < 9.95 => format!("{amount:.1} {}", UNITS[unit]),
        _ => format!("{amount:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{face, stats};

    #[test]
    fn sizes_have_three_digits() {
        for (n, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 KiB"),
            (10_189, "10 KiB"),
            (5 << 20, "5.0 MiB"),
            (1_023 << 20, "1.0 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn a_slot_that_does_not_run_uses_nothing_and_what_does_not_fit_is_counted() {
        insta::assert_snapshot!(table(&stats(), None, &face()), @"
        NAME   CPU     MEMORY   FILES  PROCESSES  UPTIME  RESTARTS  STATE
        api-1  112.5%  118 MiB  12     3          3m      2         healthy
        db-1   -       1.0 KiB  4      1          1s      0         starting
        job-1  -       -        -      -          -       0         completed
        ");
        insta::assert_snapshot!(table(&stats(), Some(1), &face()), @"
        NAME   CPU     MEMORY   FILES  PROCESSES  UPTIME  RESTARTS  STATE
        api-1  112.5%  118 MiB  12     3          3m      2         healthy
        and 2 slots more; a taller terminal shows them
        ");
        assert_eq!(redrawn("a\nb\n", false), "\u{1b}[Ha\u{1b}[K\nb\u{1b}[K\n\u{1b}[J");
    }
}

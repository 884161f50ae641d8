//! `rollout simulate`: how long it takes, and how bad it can become.

use upbeat_decide::rollout::simulate::{End, Forecast, Moment, Scenario, Spread};

use super::table::{Cell, Table};
use super::{Face, Tone, count, visible};

/// So many moments of the example are shown, the first and the last of them.
const MOMENTS: usize = 12;

/// What is to be expected, and one run as an example.
pub fn text(scenario: &Scenario, told: &Forecast, face: &Face) -> String {
    let targets: usize = scenario.crowds.iter().map(|crowd| crowd.targets).sum();
    let share = |tone, word, part: usize| {
        let percent = (part * 100).checked_div(told.runs).unwrap_or(0);
        face.paint.tone(if part == 0 { Tone::Quiet } else { tone }, format!("{word} in {percent}%"))
    };
    let mut text = format!(
        "{} in {}: {}, {}",
        count(targets, "target"),
        count(told.runs, "run"),
        share(Tone::Good, "good", told.good),
        share(Tone::Bad, "rolled back", told.rolled_back),
    );
    if told.undecided > 0 {
        text.push_str(&format!(", {}", share(Tone::Caution, "undecided", told.undecided)));
    }
    text.push_str("\n\n");
    let mut table = Table::new(["OF ALL RUNS", "MEDIAN", "95%", "WORST"]);
    spread(&mut table, "it takes", &told.lasted);
    spread(&mut table, "targets on a bad version", &told.on_bad);
    spread(&mut table, "targets that are not well", &told.hurt);
    text.push_str(&table.render(face));
    if !told.taken_for_successful.is_empty() {
        let names: Vec<String> = told.taken_for_successful.iter().map(|name| visible(name)).collect();
        text.push_str(&format!("\nTaken to be successful, in their time: {}\n", names.join(", ")));
    }
    text.push_str(&format!("\nOne of them, {}:\n", end(told.example.end)));
    text.push_str(&example(&told.example.timeline, face));
    for reason in &told.example.reasons {
        text.push_str(&format!("  {}\n", face.paint.tone(Tone::Quiet, visible(&reason.to_string()))));
    }
    text
}

fn spread<T: std::fmt::Display>(table: &mut Table, what: &str, spread: &Spread<T>) {
    table.row([Cell::from(what), Cell::from(&spread.p50), Cell::from(&spread.p95), Cell::from(&spread.max)]);
}

fn example(timeline: &[Moment], face: &Face) -> String {
    let moments: Vec<&Moment> = timeline.iter().filter(|moment| !moment.happened.is_empty()).collect();
    let cut = moments.len().saturating_sub(MOMENTS);
    let mut text = String::new();
    for (n, moment) in moments.iter().enumerate() {
        match n.checked_sub(MOMENTS / 2) {
            Some(0) if cut > 0 => {
                let left_out = face.paint.tone(Tone::Quiet, format!("… {} …", count(cut, "moment")));
                text.push_str(&format!("          {left_out}\n"));
                continue;
            }
            Some(within) if within < cut => continue,
            _ => {}
        }
        for (n, happened) in moment.happened.iter().enumerate() {
            let after = if n == 0 { moment.after.to_string() } else { String::new() };
            let after = face.paint.tone(Tone::Quiet, format!("{after:>8}"));
            text.push_str(&format!("{after}  {}\n", visible(&happened.to_string())));
        }
    }
    text
}

fn end(end: End) -> &'static str {
    match end {
        End::Good => "which ends well",
        End::RolledBack => "which goes back",
        End::Undecided => "which comes to no end",
    }
}

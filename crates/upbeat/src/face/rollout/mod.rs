//! `rollout`: where an entity is between versions.

use upbeat_model::rollout::{
    AnalysisState, AnalysisWord, Counts, CourseWord, Gate, Outcome, PastState, RolloutState, StageProgress,
    StageState, TargetState, Unreadable, Version,
};

use super::table::{Cell, Table};
use super::time::age;
use super::{Face, Tone, count, visible};

/// The bar, in columns, where the terminal has room for it.
const BAR: usize = 40;

/// That of a stage.
const STAGE_BAR: usize = 20;

/// So many versions that are bad are told about.
const NAMED: usize = 5;

fn version(version: Option<&Version>) -> String {
    version.map_or_else(|| "–".to_owned(), |version| visible(version.as_str()))
}

fn tone(state: &RolloutState) -> Tone {
    match state.course {
        CourseWord::None => Tone::Quiet,
        CourseWord::Steady if state.counts.failed > 0 => Tone::Caution,
        CourseWord::Steady => Tone::Good,
        CourseWord::Forward => Tone::Caution,
        CourseWord::Back | CourseWord::Halted => Tone::Bad,
    }
}

fn course(state: &RolloutState) -> &'static str {
    match state.course {
        CourseWord::None => "no version",
        CourseWord::Steady => "steady",
        CourseWord::Forward if state.paused_by.is_some() => "paused",
        CourseWord::Forward => "rolling out",
        CourseWord::Back if state.counts.available + state.counts.on_the_way > 0 => "rolling back",
        CourseWord::Back => "rolled back",
        CourseWord::Halted => "halted",
    }
}

/// The version all shall be on.
fn in_force(state: &RolloutState) -> Option<&Version> {
    match state.course {
        CourseWord::None | CourseWord::Halted => None,
        CourseWord::Back => state.good.as_ref(),
        CourseWord::Steady | CourseWord::Forward => state.rolling.as_ref().or(state.target.as_ref()),
    }
}

/// Of which nothing is known but its name, in a table of so many columns.
pub(super) fn unreadable(lost: &Unreadable, columns: usize) -> Vec<Cell> {
    let name = Cell::from(visible(&format!("{}/{}", lost.namespace, lost.name)));
    let unknown = std::iter::repeat_with(|| Cell::from("?"));
    [name, Cell::toned(Tone::Bad, "cannot be read")].into_iter().chain(unknown).take(columns).collect()
}

/// One line a rollout; those that cannot be read follow.
pub fn list(states: &[RolloutState], lost: &[Unreadable], face: &Face) -> String {
    if states.is_empty() && lost.is_empty() {
        return "No rollout is there; `upbeat rollout start NAMESPACE/ENTITY VERSION` makes one.\n".into();
    }
    let mut table = Table::new(["ROLLOUT", "STATE", "VERSION", "WELL", "FAILED", "SINCE"]);
    for state in states {
        let Counts { total, well, failed, .. } = state.counts;
        let failed = if failed > 0 { Cell::toned(Tone::Bad, failed) } else { Cell::from(failed) };
        table.row([
            Cell::from(visible(&format!("{}/{}", state.namespace, state.entity))),
            Cell::toned(tone(state), course(state)),
            Cell::from(version(in_force(state))),
            Cell::from(format!("{well}/{total}")),
            failed,
            Cell::from(state.since.map_or_else(|| "–".to_owned(), |since| age(since, face.now))),
        ]);
    }
    lost.iter().for_each(|lost| table.row(unreadable(lost, 6)));
    table.render(face)
}

/// Where a rollout is, at a glance.
pub fn show(state: &RolloutState, face: &Face) -> String {
    let mut text = headline(state, face);
    if state.course == CourseWord::Halted {
        let stay = if state.counts.total == 1 { "stays as it is" } else { "stay as they are" };
        text.push_str(&format!("\n  {} {stay}\n", count(state.counts.total, "target")));
    } else if state.counts.total > 0 {
        text.push('\n');
        text.push_str(&format!("  {}\n", bar(&state.counts, room(face), face)));
        text.push_str(&numbers(&state.counts, face));
    }
    if !state.stages.is_empty() {
        text.push('\n');
        text.push_str(&stages(state, face));
    }
    if !state.analyses.is_empty() {
        text.push('\n');
        state.analyses.iter().for_each(|one| text.push_str(&analysis(one, face)));
    }
    text.push('\n');
    for (name, value) in facts(state, face) {
        let name = face.paint.tone(Tone::Quiet, format!("{name:<9}"));
        text.push_str(&format!("  {name} {value}\n"));
    }
    for (n, reason) in state.reasons.iter().enumerate() {
        let name = face.paint.tone(Tone::Quiet, if n == 0 { "because  " } else { "         " });
        text.push_str(&format!("  {name} {}\n", visible(&reason.to_string())));
    }
    text
}

fn room(face: &Face) -> usize {
    face.width.map_or(BAR, |width| BAR.min(width.saturating_sub(4)).max(4))
}

/// One line a stage: what it is about, how far it is, and what comes after it.
fn stages(state: &RolloutState, face: &Face) -> String {
    let name_width = state.stages.iter().map(|stage| visible(&stage.name).chars().count()).max().unwrap_or(0);
    let line = |stage: &StageProgress| {
        let (mark, tone) = match stage.state {
            StageState::Done => ("✓", Tone::Good),
            StageState::OnItsWay => ("▸", Tone::Caution),
            StageState::AtGate => ("‖", Tone::Caution),
            StageState::Waits => ("·", Tone::Quiet),
        };
        let name = visible(&stage.name);
        let gap = " ".repeat(name_width - name.chars().count());
        let Counts { total, well, failed, .. } = stage.counts;
        let failed = match failed {
            0 => String::new(),
            failed => {
                format!("  {}", face.paint.tone(Tone::Bad, format!("{failed} failed of {}", stage.budget.of)))
            }
        };
        let gate = match (stage.gate, stage.state, &state.gate) {
            (_, StageState::AtGate, _) if is_measured(state, &stage.name) => {
                format!("  {}", face.paint.tone(Tone::Caution, "is measured"))
            }
            (Gate::None, ..) | (_, StageState::Done, _) => String::new(),
            (gate, StageState::AtGate, Some(at)) => {
                let left = at.until.map_or_else(String::new, |until| left(until, face));
                format!("  {}", face.paint.tone(Tone::Caution, format!("waits for {gate}{left}")))
            }
            (gate, ..) => format!("  {}", face.paint.tone(Tone::Quiet, format!("then {gate}"))),
        };
        let (mark, drawn) = (face.paint.tone(tone, mark), bar(&stage.counts, STAGE_BAR, face));
        format!("  {mark} {name}{gap}  {drawn}  {well}/{total}{failed}{gate}\n")
    };
    state.stages.iter().map(line).collect()
}

/// What is measured after a stage is not decided.
fn is_measured(state: &RolloutState, stage: &str) -> bool {
    let mut after = state.analyses.iter().filter(|analysis| analysis.after.as_deref() == Some(stage));
    after.any(|analysis| analysis.verdict == AnalysisWord::Running)
}

/// `▸ load  running, 2 of 5 samples, 1 failed, next in 4s, last: 0.02`
fn analysis(analysis: &AnalysisState, face: &Face) -> String {
    let (mark, tone) = match analysis.verdict {
        AnalysisWord::Waits | AnalysisWord::Ended => ("·", Tone::Quiet),
        AnalysisWord::Running => ("▸", Tone::Caution),
        AnalysisWord::Successful => ("✓", Tone::Good),
        AnalysisWord::Failed => ("✗", Tone::Bad),
        AnalysisWord::Inconclusive | AnalysisWord::Error => ("?", Tone::Bad),
        AnalysisWord::PassedOver => ("»", Tone::Quiet),
    };
    let AnalysisState { successes, failures, inconclusive, errors, .. } = *analysis;
    let taken = successes.saturating_add(failures).saturating_add(inconclusive);
    let mut told = vec![match (analysis.verdict, &analysis.after) {
        (AnalysisWord::Waits, Some(stage)) => format!("after {}", visible(stage)),
        (AnalysisWord::PassedOver, _) => format!("passed over by {}", visible(&analysis.why)),
        (word, _) => word.to_string(),
    }];
    if analysis.verdict != AnalysisWord::Waits {
        told.push(match analysis.of {
            Some(of) => format!("{taken} of {}", count(of as usize, "sample")),
            None => count(taken as usize, "sample"),
        });
    }
    for (times, word) in [(failures, "failed"), (inconclusive, "inconclusive"), (errors, "not measured")] {
        if times > 0 {
            told.push(format!("{times} {word}"));
        }
    }
    if let Some(next) = analysis.next.filter(|next| *next > face.now) {
        let wait = next.0.saturating_sub(face.now.0).unsigned_abs();
        told.push(format!("next in {}", upbeat_model::Millis(wait)));
    }
    if !analysis.value.is_empty() {
        told.push(format!("last: {}", visible(&analysis.value)));
    }
    let (mark, told) = (face.paint.tone(tone, mark), told.join(", "));
    format!("  {mark} analysis {}  {told}\n", visible(&analysis.name))
}

/// `, 42s left`
fn left(until: upbeat_model::Wall, face: &Face) -> String {
    let left = until.0.saturating_sub(face.now.0).max(0);
    format!(", {} left", upbeat_model::Millis(left.unsigned_abs()))
}

/// `prod/web  v1 → v2  rolling out, for 42s`
fn headline(state: &RolloutState, face: &Face) -> String {
    let name = visible(&format!("{}/{}", state.namespace, state.entity));
    let versions = match state.course {
        CourseWord::None => String::new(),
        CourseWord::Forward => {
            format!("  {} → {}", version(state.good.as_ref()), version(in_force(state)))
        }
        CourseWord::Back => {
            format!("  {} ← {}", version(state.good.as_ref()), version(state.rolling.as_ref()))
        }
        CourseWord::Steady | CourseWord::Halted => format!("  {}", version(state.rolling.as_ref())),
    };
    let since = state.since.map(|since| format!(", for {}", age(since, face.now))).unwrap_or_default();
    let by = state.paused_by.as_ref().map(|by| format!(" by {}", visible(by))).unwrap_or_default();
    let (paint, word) = (face.paint, course(state));
    format!("{}{versions}  {}{by}{since}\n", paint.tone(Tone::Strong, name), paint.tone(tone(state), word))
}

/// Well, on their way, failed, to come: in whole columns, so that what there is of something is seen.
fn bar(counts: &Counts, room: usize, face: &Face) -> String {
    let parts = [
        (counts.well, '█', Tone::Good),
        (counts.on_the_way, '▒', Tone::Caution),
        (counts.failed, '▚', Tone::Bad),
        (counts.available, '░', Tone::Quiet),
    ];
    let columns = shares(&parts.map(|(count, ..)| count), room);
    let drawn: String = parts
        .iter()
        .zip(columns)
        .filter(|(_, columns)| *columns > 0)
        .map(|((_, glyph, tone), columns)| face.paint.tone(*tone, glyph.to_string().repeat(columns)))
        .collect();
    // Whoever is in no stage yet leaves it empty.
    if counts.total == 0 { " ".repeat(room) } else { drawn }
}

/// So many columns for each: one at least for what is there at all, and all of them together.
fn shares(counts: &[usize; 4], room: usize) -> [usize; 4] {
    let total: usize = counts.iter().sum::<usize>().max(1);
    let mut shares = counts.map(|count| (count * room / total).max(usize::from(count > 0)));
    let sum = |shares: &[usize; 4]| shares.iter().sum::<usize>();
    while sum(&shares) > room {
        // The widest has most to give.
        let Some(widest) = shares.iter_mut().max() else { break };
        *widest -= 1;
    }
    while sum(&shares) < room && counts.iter().any(|count| *count > 0) {
        let Some(largest) = (0..4).max_by_key(|n| (counts[*n] * room) % total) else { break };
        shares[largest] += 1;
    }
    shares
}

fn numbers(counts: &Counts, face: &Face) -> String {
    let parts = [
        (counts.well, "well", Tone::Good),
        (counts.on_the_way, "on the way", Tone::Caution),
        (counts.failed, "failed", Tone::Bad),
        (counts.available, "to come", Tone::Quiet),
    ];
    let told = parts.iter().filter(|(count, ..)| *count > 0);
    let told: Vec<String> = told
        .map(|(count, word, tone)| format!("{} {word}", face.paint.tone(*tone, count.to_string())))
        .collect();
    format!("  {}   of {}\n", told.join("   "), count(counts.total, "target"))
}

fn facts(state: &RolloutState, face: &Face) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if state.target != state.rolling
        && let (Some(next), true) = (&state.target, state.rolling.is_some())
    {
        facts.push(("next", visible(next.as_str())));
    }
    if let Some(good) = &state.good {
        facts.push(("good", visible(good.as_str())));
    }
    for bad in state.known_bad.iter().take(NAMED) {
        let at = age(bad.at, face.now);
        let why = visible(&bad.reason.to_string());
        facts.push(("bad", format!("{}, {at} ago: {why}", visible(bad.version.as_str()))));
    }
    let more = state.known_bad.len().saturating_sub(NAMED);
    if more > 0 {
        facts.push(("", format!("and {more} more")));
    }
    facts.push(("limits", limits(state)));
    if let Some(by) = &state.by {
        facts.push(("asked by", visible(by)));
    }
    facts
}

/// `batch 5%, 100% have to be well for 60s within 120s, 0 of 3 may fail`
fn limits(state: &RolloutState) -> String {
    let (options, strategy) = (&state.options, &state.strategy);
    let mut limits = vec![
        format!("batch {}", options.batch),
        format!(
            "{}% have to be well for {} within {}",
            options.success_percent, options.success_timeout, options.duration_timeout
        ),
    ];
    if state.course == CourseWord::Forward {
        limits.push(format!("{} may fail", state.budget.of));
    }
    if let Some(amount) = strategy.max_unavailable {
        limits.push(format!("{amount} may be unwell"));
    }
    if let Some(deadline) = strategy.progress_deadline {
        limits.push(format!("one more is well each {deadline}"));
    }
    limits.join(", ")
}

/// The rollouts that have ended.
pub fn history(history: &[PastState], face: &Face) -> String {
    if history.is_empty() {
        return "No rollout has ended yet.\n".into();
    }
    let mut table = Table::new(["NUMBER", "VERSION", "FROM", "OUTCOME", "TOOK", "ENDED", "BY", "WHY"]);
    for past in history {
        let (word, tone) = match past.outcome {
            Outcome::Good => ("good", Tone::Good),
            Outcome::Bad => ("bad", Tone::Bad),
            Outcome::Aborted => ("aborted", Tone::Bad),
            Outcome::Superseded => ("superseded", Tone::Quiet),
            Outcome::Undone => ("undone", Tone::Caution),
        };
        table.row([
            Cell::from(past.number),
            Cell::from(visible(past.version.as_str())),
            Cell::from(version(past.from.as_ref())),
            Cell::toned(tone, word),
            Cell::from(age(past.began, past.ended)),
            Cell::from(age(past.ended, face.now)),
            Cell::from(past.by.as_deref().map_or_else(|| "–".to_owned(), visible)),
            Cell::from(visible(&past.reason.to_string())),
        ]);
    }
    table.render(face)
}

/// Why it is where it is, in sentences.
pub fn why(state: &RolloutState, face: &Face) -> String {
    let mut text = headline(state, face);
    if state.reasons.is_empty() {
        let all = match state.course {
            CourseWord::None => "no version was asked for",
            CourseWord::Steady => "all is as it shall be",
            _ => "it goes on with the next report",
        };
        text.push_str(&format!("  {all}\n"));
    }
    for reason in &state.reasons {
        text.push_str(&format!("  {}\n", visible(&reason.to_string())));
    }
    for bad in &state.known_bad {
        let (version, why) = (visible(bad.version.as_str()), visible(&bad.reason.to_string()));
        text.push_str(&format!("  `{version}` is held to be bad: {why}\n"));
    }
    text
}

/// What each target runs, and what it shall run.
pub fn targets(targets: &[TargetState], face: &Face) -> String {
    if targets.is_empty() {
        return "No target was reported.\n".into();
    }
    let mut table = Table::new(["TARGET", "RUNS", "SHALL RUN", "SEEN", "MESSAGE"]);
    for target in targets {
        let (current, assigned) = (&target.current, &target.assigned);
        let tone = match (current.is_error || assigned.is_error, current.version == assigned.version) {
            (true, _) => Tone::Bad,
            (false, true) => Tone::Good,
            (false, false) => Tone::Caution,
        };
        let message = if current.message.is_empty() { &assigned.message } else { &current.message };
        table.row([
            Cell::from(visible(&target.id.to_string())),
            Cell::toned(tone, version(current.version.as_ref())),
            Cell::from(version(assigned.version.as_ref())),
            Cell::from(age(target.seen, face.now)),
            Cell::from(visible(message)),
        ]);
    }
    table.render(face)
}

/// What each target shall run: for whoever does it.
pub fn assignments(targets: &[TargetState], face: &Face) -> String {
    if targets.is_empty() {
        return "No target was reported.\n".into();
    }
    let mut table = Table::new(["TARGET", "SHALL RUN"]);
    for target in targets {
        let tone = if target.current.version == target.assigned.version { Tone::Good } else { Tone::Caution };
        table.row([
            Cell::from(visible(&target.id.to_string())),
            Cell::toned(tone, version(target.assigned.version.as_ref())),
        ]);
    }
    table.render(face)
}

#[cfg(test)]
mod tests;

//! `why`: the chain from a slot to the cause of its state, in sentences.

use upbeat_model::{Phase, Reason, SlotId, SlotStatus, Why, WhyLink};

use super::{Face, Tone, count, logs::last_lines, time::age, visible};

/// The whole answer: one paragraph for each chain. Copies of which the same is to be said are named
/// below the first of them.
pub fn text(why: &Why, face: &Face) -> String {
    let mut text = String::new();
    for chain in &why.chains {
        let Some(first) = chain.first() else { continue };
        if !text.is_empty() {
            text.push('\n');
        }
        for (depth, next) in chain.iter().enumerate() {
            text.push_str(&link(next, depth, face));
            if depth == 0 {
                text.push_str(&alike(first, face));
            }
        }
        let under = "  ".repeat(chain.len());
        match goes_on(chain) {
            Some(next) if chain.last().is_some_and(|last| last.told) => {
                let told = face.paint.tone(Tone::Quiet, "as told above");
                text.push_str(&format!("{under}└ {}, {told}\n", face.paint.tone(Tone::Strong, next.short())));
            }
            Some(next) => {
                text.push_str(&format!("{under}… and more: `upbeat why {}` goes on\n", next.service));
            }
            None => {}
        }
    }
    if why.more > 0 {
        let copies = if why.more == 1 { "copy" } else { "copies" };
        text.push_str(&format!("\n… and {} more {copies}; `upbeat ps` lists all\n", why.more));
    }
    text
}

/// The other copies of which the same is to be said.
fn alike(head: &WhyLink, face: &Face) -> String {
    if head.alike.is_empty() {
        return String::new();
    }
    let names: Vec<String> = head.alike.iter().map(SlotId::short).collect();
    let mut names = names.join(", ");
    if head.alike_more > 0 {
        names.push_str(&format!(" and {} more", head.alike_more));
    }
    // How long it is so is each copy's own.
    let so = match head.status.reasons.is_empty() {
        true => format!("also {}", head.status.phase),
        false => "the same holds for".to_owned(),
    };
    let colon = if head.status.reasons.is_empty() { ":" } else { "" };
    format!("  {}\n", face.paint.tone(Tone::Quiet, format!("{so}{colon} {names}")))
}

/// The slot whose turn it would be, where a chain was cut because it is long, or was told before.
fn goes_on(chain: &[WhyLink]) -> Option<&SlotId> {
    let next = chain.last()?.status.reasons.iter().find_map(Reason::cause)?;
    chain.iter().all(|link| link.status.slot != *next).then_some(next)
}

fn link(link: &WhyLink, depth: usize, face: &Face) -> String {
    let lead = if depth == 0 { String::new() } else { format!("{}└ ", "  ".repeat(depth)) };
    let under = "  ".repeat(depth + 1);
    let mut text = String::new();
    for (n, sentence) in sentences(&link.status, face).iter().enumerate() {
        text.push_str(if n == 0 { &lead } else { &under });
        text.push_str(sentence);
        text.push('\n');
    }
    // What each of those that are alike says is its own.
    if let Some(says) = link.status.says.as_ref().filter(|_| link.alike.is_empty()) {
        text.push_str(&format!("{under}it says: {}\n", visible(says)));
    }
    if !link.last_lines.is_empty() {
        text.push_str(&format!("{under}its last lines:\n"));
        for line in last_lines(&link.last_lines, face.paint).lines() {
            text.push_str(&format!("{}{line}\n", "  ".repeat(depth)));
        }
    }
    text
}

/// What is to be said about one slot: a sentence a reason, or that all is well.
pub fn sentences(status: &SlotStatus, face: &Face) -> Vec<String> {
    let name = face.paint.tone(Tone::Strong, status.slot.short());
    if status.reasons.is_empty() {
        return vec![without_reason(&name, status, face)];
    }
    let mut sentences = Vec::new();
    for (n, reason) in status.reasons.iter().enumerate() {
        let clause = clause(reason, face);
        sentences.push(match (n, clause.starts_with("its ")) {
            (0, true) => format!("{name} {}: {clause}", face.paint.verb(status.phase)),
            (0, false) => format!("{name} {clause}"),
            _ => format!("and {clause}"),
        });
    }
    sentences
}

fn clause(reason: &Reason, face: &Face) -> String {
    let mut clause = visible(&reason.to_string());
    match reason {
        Reason::BacksOff { until, .. } if until.0 > face.now.0 => {
            let left = upbeat_model::Millis((until.0 - face.now.0).unsigned_abs());
            clause.push_str(&format!("; it starts again in {left}"));
        }
        Reason::BeingStopped { kill_at: Some(kill_at), .. } if kill_at.0 > face.now.0 => {
            let left = upbeat_model::Millis((kill_at.0 - face.now.0).unsigned_abs());
            clause.push_str(&format!("; it is killed in {left}"));
        }
        _ => {}
    }
    clause
}

fn without_reason(name: &str, status: &SlotStatus, face: &Face) -> String {
    let phase = face.paint.phase(status.phase);
    let age = age(status.since, face.now);
    let exit = || status.exit.as_ref().map(|e| format!(" ({})", visible(&e.to_string()))).unwrap_or_default();
    match status.phase {
        Phase::Healthy | Phase::Running if status.restarts > 0 => {
            let restarts = count(status.restarts as usize, "restart");
            format!("{name} is {phase} for {age}, after {restarts}{}; all is as wished", exit())
        }
        Phase::Healthy | Phase::Running => format!("{name} is {phase} for {age}; all is as wished"),
        Phase::Completed => format!("{name} {phase} {age} ago{}; all is as wished", exit()),
        Phase::Failed | Phase::DependencyFailed => {
            format!("{name} {} {age} ago{}", face.paint.verb(status.phase), exit())
        }
        _ => format!("{name} is {phase} for {age}{}", exit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{
        NOW, backs_off, dependency_failed, face, not_restarted, probe_fails, slot, status, waits_for_db,
    };
    use upbeat_model::{Exit, OperationId, Wall, reason::StopCause};

    fn linked(short: &str, phase: Phase, reasons: Vec<Reason>, last: &[&str]) -> WhyLink {
        WhyLink {
            last_lines: last.iter().map(|l| (*l).to_owned()).collect(),
            ..WhyLink::from(SlotStatus { reasons, ..status(short, phase) })
        }
    }

    fn check(chains: Vec<Vec<WhyLink>>) -> String {
        text(&Why { chains, more: 0 }, &face())
    }

    #[test]
    fn a_chain_leads_to_the_cause_and_its_last_lines() {
        let db =
            linked("db-1", Phase::BackingOff, vec![backs_off()], &["opening /data", "no\u{1b}[2J space"]);
        let mut web = linked("web-1", Phase::Waiting, vec![waits_for_db()], &[]);
        (web.alike, web.alike_more) = (vec![slot("web-2"), slot("web-3")], 7);
        let mut other = linked("web-4", Phase::Stopped, vec![waits_for_db()], &[]);
        other.told = true;
        let chains = vec![vec![web, db], vec![other]];
        insta::assert_snapshot!(check(chains), @r"
        web-1 waits for db to be healthy (db-1 is backing off)
          the same holds for web-2, web-3 and 7 more
          └ db-1 backs off 4s after its 3rd exit (exit 1); it starts again in 2s
            its last lines:
              | opening /data
              | no\u{1b}[2J space

        web-4 waits for db to be healthy (db-1 is backing off)
          └ db-1, as told above
        ");
    }

    #[test]
    fn a_failure_passes_down_the_chain() {
        let chains = vec![vec![
            linked("web-1", Phase::DependencyFailed, vec![dependency_failed()], &[]),
            linked("db-1", Phase::Failed, vec![not_restarted()], &["panic: no disk"]),
        ]];
        insta::assert_snapshot!(check(chains), @"
        web-1 needs db to be healthy, but db-1 is failed (exit 1)
          └ db-1 ended (exit 1) and `restart: no` leaves it so
            its last lines:
              | panic: no disk
        ");
    }

    #[test]
    fn a_chain_that_was_cut_says_where_it_goes_on() {
        let web = linked("web-1", Phase::Waiting, vec![waits_for_db()], &[]);
        insta::assert_snapshot!(check(vec![vec![web.clone()]]), @"
        web-1 waits for db to be healthy (db-1 is backing off)
          … and more: `upbeat why db` goes on
        ");
        let whole = linked("db-1", Phase::BackingOff, vec![backs_off()], &[]);
        let circle = linked("db-1", Phase::Waiting, vec![waits_for_db()], &[]);
        for last in [whole, circle] {
            let told = check(vec![vec![web.clone(), last]]);
            assert!(!told.contains("and more"), "{told}");
        }
    }

    #[test]
    fn every_state_makes_a_sentence() {
        let stopping = Reason::BeingStopped {
            how: "SIGTERM".into(),
            kill_at: Some(Wall(NOW.0 + 8_000)),
            why: StopCause::Restart,
        };
        let lost = Reason::ShimLost { detail: "killed by SIGKILL".into() };
        let chains = vec![
            vec![WhyLink::from(SlotStatus {
                says: Some("12 requests\u{1b}[2J in flight".into()),
                ..status("api-1", Phase::Healthy)
            })],
            vec![WhyLink::from(SlotStatus {
                exit: Some(Exit::Code(0)),
                ..status("job-1", Phase::Completed)
            })],
            vec![linked("start-1", Phase::Starting, vec![Reason::BeingStarted], &[])],
            vec![linked("sick-1", Phase::Unhealthy, vec![probe_fails()], &[])],
            vec![linked(
                "gone-1",
                Phase::Stopped,
                vec![Reason::StoppedBy { operation: OperationId(3) }],
                &[],
            )],
            vec![linked("stop-1", Phase::Stopping, vec![stopping], &[])],
            vec![linked("lost-1", Phase::BackingOff, vec![lost, backs_off()], &[])],
        ];
        insta::assert_snapshot!(check(chains), @r"
        api-1 is healthy for 3m; all is as wished
          it says: 12 requests\u{1b}[2J in flight

        job-1 completed 3m ago (exit 0); all is as wished

        start-1 is starting: its process is being started

        sick-1 is unhealthy: its health check (http http://127.0.0.1:8080/health) failed 3 times in a row: status 503

        gone-1 was stopped by operation 3

        stop-1 is being stopped to be restarted (SIGTERM); it is killed in 8s

        lost-1 is backing off: its shim was killed: killed by SIGKILL
          and backs off 4s after its 3rd exit (exit 1); it starts again in 2s
        ");
    }
}

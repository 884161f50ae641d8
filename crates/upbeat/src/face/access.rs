//! Tokens, and who changed what, as lines.

use upbeat_api::{AuditHead, AuditRecord, AuditVerdict, TokenInfo};
use upbeat_model::{AuditEntry, BadRecord};

use super::table::{Cell, Table};
use super::time::{age, clock};
use super::{Face, Tone, count, visible};

/// One line a token.
pub fn tokens(tokens: &[TokenInfo], face: &Face) -> String {
    if tokens.is_empty() {
        return "No token is there; `upbeat token create` makes one.\n".into();
    }
    let mut table = Table::new(["TOKEN", "ROLE", "EXPIRES", "AGE", "MADE BY"]);
    for token in tokens {
        let expires = match token.expires_at {
            None => Cell::from("never"),
            Some(_) if token.expired => Cell::toned(Tone::Bad, "expired"),
            Some(at) => Cell::from(clock(at, face)),
        };
        let age = age(token.created_at, face.now);
        table.row([
            Cell::from(&token.name),
            token.role.into(),
            expires,
            age.into(),
            Cell::from(&token.created_by),
        ]);
    }
    table.render(face)
}

/// What is said of a token that was just made.
pub fn issued(token: &TokenInfo, face: &Face) -> String {
    let until = match token.expires_at {
        Some(at) => format!("until {}", clock(at, face)),
        None => "until it is revoked".to_owned(),
    };
    format!("`{}` is {} {until}; it is shown only now:", token.name, token.role)
}

/// One line a record.
pub fn record(record: &AuditRecord, face: &Face) -> String {
    let from = |from: &Option<String>| from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    let words = match &record.entry {
        AuditEntry::Asked(asked) => {
            let app = asked.app.as_ref().map(|app| format!(" of {app}")).unwrap_or_default();
            format!(
                "{}{}: {}{app} ({} {})",
                asked.who,
                from(&asked.from),
                asked.what,
                asked.method,
                asked.route
            )
        }
        AuditEntry::Answered { asked, status, operation } => {
            let operation = operation.map(|id| format!(", operation {id}")).unwrap_or_default();
            format!("outcome of {asked}: {status}{operation}")
        }
        AuditEntry::Refused(refused) => {
            let more = match refused.not_written {
                0 => String::new(),
                more => {
                    format!("; {} before it came too fast to be written", count(more as usize, "refusal"))
                }
            };
            let asked = format!("{} {}", refused.method, refused.path);
            let asked = asked.trim();
            let gap = if asked.is_empty() { "" } else { ": " };
            format!(
                "refused {}{}{gap}{asked}: {} ({}){more}",
                refused.who,
                from(&refused.from),
                refused.why,
                refused.status
            )
        }
        AuditEntry::Gap { missed, since, what } => {
            format!("{missed} could not be written since {}: {}", clock(*since, face), what.join("; "))
        }
        AuditEntry::Dropped { before, .. } => format!("records before {before} are no longer kept"),
        AuditEntry::Found { what } => format!("not as it was left: {what}"),
    };
    let at = face.paint.tone(Tone::Quiet, clock(record.at, face));
    format!("{at} {} {}\n", record.sequence, visible(&words))
}

/// What came of looking at every record.
pub fn verdict(verdict: &AuditVerdict, face: &Face) -> String {
    let mut text = String::new();
    match &verdict.bad {
        None if verdict.good == 0 => text.push_str("there is no record yet\n"),
        None => {
            let good = face.paint.tone(Tone::Good, "whole");
            text.push_str(&format!("{good}: records {} to {}\n", verdict.first, verdict.head.count));
            text.push_str(&format!("head: {}\n", visible(&verdict.head.to_string())));
        }
        Some(BadRecord { sequence, place, why }) => {
            let bad = face.paint.tone(Tone::Bad, "not whole");
            text.push_str(&format!("{bad}: record {sequence} at {}: {}\n", visible(place), visible(why)));
            let last = verdict.head.count;
            text.push_str(&format!("{} good, up to record {last}\n", count(verdict.good as usize, "record")));
        }
    }
    if verdict.anchor.is_none() && verdict.good > 0 {
        text.push_str("note: without `--anchor`, records that are missing at the end cannot be seen\n");
    }
    if !verdict.keyed && verdict.good > 0 {
        text.push_str("note: without the key, a log that was written anew cannot be told from this one\n");
    }
    if !verdict.unanswered.is_empty() {
        let numbers: Vec<String> = verdict.unanswered.iter().map(u64::to_string).collect();
        text.push_str(&format!(
            "note: no outcome is recorded of {}: under way, or the daemon was killed meanwhile\n",
            numbers.join(", ")
        ));
    }
    for note in &verdict.notes {
        text.push_str(&format!("note: {}\n", visible(note)));
    }
    text
}

/// A verdict that is held against one more record: the one of that number, as it is.
pub fn held_against(
    mut verdict: AuditVerdict,
    found: Option<&AuditRecord>,
    anchor: &AuditHead,
) -> AuditVerdict {
    let why = match found {
        Some(found) if found.sequence != anchor.count => {
            verdict.notes.push(format!("record {} is no longer kept, and cannot be compared", anchor.count));
            return verdict;
        }
        Some(found) if found.hash == anchor.hash => return verdict,
        Some(_) => "it is another than the one whose hash was given",
        None => "it is missing; there are fewer records",
    };
    let place = "the log of the daemon".to_owned();
    AuditVerdict { bad: Some(BadRecord { sequence: anchor.count, place, why: why.to_owned() }), ..verdict }
}

//! Looks at every record of an audit log and says which is the first that is not as it was written.
//!
//! What it can see: each record against its own hash and code, each against the one before, the first
//! against what is said to have been dropped before it, the whole against an anchor that is kept
//! elsewhere. What it cannot: records after the anchor that are missing at the end, and a log, an
//! anchor and a key that were all replaced together.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};

use upbeat_model::{AuditEntry, AuditHead, AuditRecord, AuditVerdict, BadRecord};

use super::chain::{self, Key, LINE_MAX};

/// Changes that are under way at once are fewer; what is more is not told apart.
const OPEN_MAX: usize = 100_000;

/// One file of the log.
pub struct Segment<R> {
    /// What it is called.
    pub name: String,
    /// The number of its first record, by its name.
    pub first: u64,
    /// What is in it.
    pub content: R,
}

/// How far it is.
struct Looking<'a> {
    key: Option<&'a Key>,
    anchor: Option<&'a AuditHead>,
    verdict: AuditVerdict,
    /// The number of the first record, and the hash it says is before it.
    first: Option<AuditHead>,
    dropped: Option<AuditHead>,
    open: BTreeSet<u64>,
}

/// Looks at all of it, the oldest segment first. Errors: a segment cannot be read.
pub fn verify<R: BufRead>(
    segments: impl IntoIterator<Item = Segment<R>>,
    key: Option<&Key>,
    anchor: Option<&AuditHead>,
) -> io::Result<AuditVerdict> {
    let verdict = AuditVerdict {
        good: 0,
        first: 0,
        head: AuditHead::none(),
        anchor: anchor.cloned(),
        keyed: key.is_some(),
        bad: None,
        unanswered: Vec::new(),
        notes: Vec::new(),
    };
    let mut looking = Looking { key, anchor, verdict, first: None, dropped: None, open: BTreeSet::new() };
    let mut last = "the log".to_owned();
    for Segment { name, first, content } in segments {
        last.clone_from(&name);
        looking.segment(&name, first, content)?;
        if looking.verdict.bad.is_some() {
            return Ok(looking.verdict);
        }
    }
    looking.whole(&last);
    looking.verdict.unanswered = looking.open.into_iter().take(AuditVerdict::UNANSWERED_MAX).collect();
    Ok(looking.verdict)
}

impl Looking<'_> {
    fn bad(&mut self, sequence: u64, place: String, why: impl Into<String>) {
        self.verdict.bad = Some(BadRecord { sequence, place, why: why.into() });
    }

    fn note(&mut self, note: String) {
        if self.verdict.notes.len() < AuditVerdict::NOTES_MAX {
            self.verdict.notes.push(note);
        }
    }

    fn segment(&mut self, name: &str, first: u64, mut content: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            (&mut content).take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Ok(());
            }
            let place = format!("{name}:{number}");
            match line.strip_suffix(b"\n") {
                Some(line) => self.line(line, (number == 1).then_some(first), place),
                None if line.len() > LINE_MAX => {
                    self.bad(self.expected(), place, "it is longer than any record");
                }
                // Whether something is missing, the anchor knows.
                None => {
                    self.note(format!("{place}: the last record is incomplete: its writer was interrupted"))
                }
            }
            if self.verdict.bad.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The number of the next record.
    fn expected(&self) -> u64 {
        self.verdict.head.count + 1
    }

    fn line(&mut self, line: &[u8], named: Option<u64>, place: String) {
        let record = match chain::read(line, self.key) {
            Ok(record) => record,
            Err(why) => return self.bad(named.unwrap_or(self.expected()), place, why),
        };
        if let Some(named) = named.filter(|named| *named != record.sequence) {
            let why = format!("record {named} should be here, and record {} is", record.sequence);
            return self.bad(named, place, why);
        }
        if self.first.is_none() {
            let previous = record.previous.clone();
            if record.sequence == 0 || record.sequence == 1 && previous != AuditHead::none().hash {
                return self.bad(1, place, "it is not the first that was ever written");
            }
            self.verdict.first = record.sequence;
            self.verdict.head = AuditHead { count: record.sequence - 1, hash: previous.clone() };
            self.first = Some(AuditHead { count: record.sequence, hash: previous });
        }
        let expected = self.expected();
        if record.sequence != expected {
            let why = format!("record {expected} should be here, and record {} is", record.sequence);
            return self.bad(expected, place, why);
        }
        if record.previous != self.verdict.head.hash {
            return self.bad(expected, place, "it does not follow the record before it");
        }
        if let Some(anchor) = self.anchor
            && anchor.count == record.sequence
            && anchor.hash != record.hash
        {
            return self.bad(expected, place, "it is another than the one whose hash is kept elsewhere");
        }
        self.good(record);
    }

    fn good(&mut self, record: AuditRecord) {
        self.verdict.good += 1;
        match record.entry {
            AuditEntry::Asked(_) if self.open.len() < OPEN_MAX => drop(self.open.insert(record.sequence)),
            AuditEntry::Answered { asked, .. } => drop(self.open.remove(&asked)),
            AuditEntry::Dropped { before, last } => {
                self.dropped = Some(AuditHead { count: before, hash: last });
            }
            AuditEntry::Gap { missed, .. } => {
                self.note(format!("record {}: {missed} could not be written at their time", record.sequence));
            }
            AuditEntry::Found { what } => self.note(format!("record {}: {what}", record.sequence)),
            AuditEntry::Asked(_) | AuditEntry::Refused(_) => {}
        }
        self.verdict.head = AuditHead { count: record.sequence, hash: record.hash };
    }

    /// What can be said only once all was seen.
    fn whole(&mut self, last: &str) {
        if let Some(first) = self.first.take().filter(|first| first.count > 1) {
            let is_known =
                self.dropped.as_ref().is_some_and(|dropped| first.count < dropped.count || first == *dropped);
            if !is_known {
                let from = self.dropped.as_ref().map_or(1, |dropped| dropped.count);
                let why = format!("the records from {from} to {} are missing", first.count - 1);
                return self.bad(from, "the beginning of the log".into(), why);
            }
        }
        let head = self.verdict.head.count;
        let Some(anchor) = self.anchor else { return };
        if anchor.count > 0 && anchor.count < self.verdict.first {
            self.note(format!("record {} is no longer kept, and cannot be compared", anchor.count));
        }
        if head < anchor.count {
            let why = format!(
                "the log ends with record {head}, but {} were written; the rest is missing",
                anchor.count
            );
            self.bad(head + 1, format!("the end of {last}"), why);
        }
    }
}

//! What controllers say of their targets (`spec/nixmade.md` 2.F step 0).

use upbeat_model::rollout::{Happened, Held, MESSAGE_MAX, Note, Report, Several, TargetId};
use upbeat_model::{Millis, Mono};

use super::{Failure, Rollout, Target};

/// Whoever was not reported for longer than this is not there any more.
pub const ZOMBIE_AFTER: Millis = Millis::seconds(900);

/// What our notes say, as the first such engine does.
pub(super) const NEW: &str = "new target, setting lkg";

impl Rollout {
    /// Takes note of what is reported. Of two reports of one target the later in the list counts. Targets that
    /// are not among them are as they were, until they are forgotten: those are returned.
    pub fn report(&mut self, reports: impl IntoIterator<Item = Report>, now: Mono) -> Vec<TargetId> {
        for report in reports {
            let Some(known) = self.targets.get_quietly(&report.target) else {
                let (id, newcomer) = (report.target.clone(), self.newcomer(report, now));
                self.targets.insert(id, newcomer);
                continue;
            };
            let Report { target, version, is_error, message, labels, failed } = report;
            known.seen = now;
            let message = cut(message);
            let (note, is_other) = (&known.current.note, known.current.version != version);
            let is_known = !is_other && note.is_error == is_error && note.text == message;
            if is_known && known.labels == labels && known.is_heard(failed) {
                continue;
            }
            let Some(known) = self.targets.get_mut(&target) else { continue };
            known.hear_whether_failed(failed, &message);
            if is_other || known.current.note.is_error != is_error {
                known.current.note.at = now;
            }
            if is_other {
                (known.current.version, known.current.since) = (version, now);
            }
            (known.current.note.is_error, known.current.note.text) = (is_error, message);
            known.labels = labels;
        }
        let is_there = |target: &Target| now.since(target.seen.max(self.woke)) <= ZOMBIE_AFTER;
        let gone = self.targets.iter().filter(|(_, target)| !is_there(target)).map(|(id, _)| id.clone());
        let gone: Vec<TargetId> = gone.collect();
        gone.iter().for_each(|id| self.targets.remove(id));
        if !gone.is_empty() {
            self.note(Happened::Forgotten { targets: Several::of(&gone) });
        }
        gone
    }

    /// One that nobody knew runs what it runs, and shall run what is known to be good.
    fn newcomer(&self, report: Report, now: Mono) -> Target {
        let Report { version, is_error, message, labels, failed, .. } = report;
        let note = Note { text: NEW.to_owned(), at: now, is_error: false };
        let assigned = Held { version: self.good.clone(), since: now, note };
        let text = cut(message);
        let current = Held { version, since: now, note: Note { text: text.clone(), at: now, is_error } };
        let mut target = Target { current, assigned, labels, seen: now, ..Target::default() };
        target.hear_whether_failed(failed, &text);
        target
    }

    /// After a restart everybody was just seen, as far as being there goes: how anybody is shows only what is
    /// reported from then on.
    pub fn recovered(&mut self, now: Mono) {
        self.woke = now;
    }
}

impl Target {
    /// A person has said that it has failed on what it shall run.
    pub(super) fn is_given_up(&self) -> bool {
        self.has_failed() && self.failed.as_ref().is_some_and(|failure| failure.by.is_some())
    }

    /// What its controller says of that is no news.
    fn is_heard(&self, failed: bool) -> bool {
        self.is_given_up() || self.has_failed() == (failed && self.assigned.version.is_some())
    }

    /// What a person has said of it stays until it is given a version anew; what its controller says is how it
    /// is now.
    fn hear_whether_failed(&mut self, failed: bool, why: &str) {
        if self.is_given_up() {
            return;
        }
        let version = self.assigned.version.clone().filter(|_| failed);
        let failure = |version| Box::new(Failure { version, by: None, why: why.to_owned() });
        self.failed = version.map(failure);
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let mut end = MESSAGE_MAX - '…'.len_utf8();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

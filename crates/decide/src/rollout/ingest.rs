//! What controllers say of their targets (`spec/nixmade.md` 2.F step 0).

use std::collections::BTreeMap;

use upbeat_model::rollout::{Held, MESSAGE_MAX, Note, Report, TargetId, Version};
use upbeat_model::{Millis, Mono};

use super::{Rollout, Target};

/// Whoever was not reported for longer than this is not there any more.
pub const ZOMBIE_AFTER: Millis = Millis::seconds(900);

/// What our notes say, as the first such engine does.
pub(super) const NEW: &str = "new target, setting lkg";

impl Rollout {
    /// Takes note of what is reported. Of two reports of one target the later in the list counts. Targets that
    /// are not among them are as they were, until they are forgotten: those are returned.
    pub fn report(&mut self, reports: impl IntoIterator<Item = Report>, now: Mono) -> Vec<TargetId> {
        for report in reports {
            let Report { target, version, is_error, message, labels } = report;
            let Some(known) = self.targets.get_quietly(&target) else {
                self.targets.insert(target, self.newcomer(version, is_error, message, labels, now));
                continue;
            };
            known.seen = now;
            let message = cut(message);
            let (note, is_other) = (&known.current.note, known.current.version != version);
            if !is_other && note.is_error == is_error && note.text == message && known.labels == labels {
                continue;
            }
            let Some(known) = self.targets.get_mut(&target) else { continue };
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
        gone
    }

    /// One that nobody knew runs what it runs, and shall run what is known to be good.
    fn newcomer(
        &self,
        version: Option<Version>,
        is_error: bool,
        message: String,
        labels: BTreeMap<String, String>,
        now: Mono,
    ) -> Target {
        let note = Note { text: NEW.to_owned(), at: now, is_error: false };
        let assigned = Held { version: self.good.clone(), since: now, note };
        let current = Held { version, since: now, note: Note { text: cut(message), at: now, is_error } };
        Target { current, assigned, labels, seen: now }
    }

    /// After a restart everybody was just seen, as far as being there goes: how anybody is shows only what is
    /// reported from then on.
    pub fn recovered(&mut self, now: Mono) {
        self.woke = now;
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

//! What controllers say of their targets (`spec/nixmade.md` 2.F step 0).

use upbeat_model::rollout::{Held, MESSAGE_MAX, Note, Report, TargetId};
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
            let good = &self.good;
            let known = self.targets.entry(target).or_insert_with(|| {
                let note = Note { text: NEW.to_owned(), at: now, is_error: false };
                let assigned = Held { version: good.clone(), since: now, note };
                let note = Note { at: now, is_error, ..Note::default() };
                let current = Held { version: version.clone(), since: now, note };
                Target { current, assigned, labels: labels.clone(), seen: now }
            });
            let is_other = known.current.version != version;
            if is_other || known.current.note.is_error != is_error {
                known.current.note.at = now;
            }
            if is_other {
                (known.current.version, known.current.since) = (version, now);
            }
            known.current.note.is_error = is_error;
            known.current.note.text = cut(message);
            known.labels = labels;
            known.seen = now;
        }
        let mut gone = Vec::new();
        self.targets.retain(|id, target| {
            let is_there = now.since(target.seen.max(self.woke)) <= ZOMBIE_AFTER;
            if !is_there {
                gone.push(id.clone());
            }
            is_there
        });
        gone
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

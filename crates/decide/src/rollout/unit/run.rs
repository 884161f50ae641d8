//! How a unit goes forward and back.

use upbeat_model::Mono;
use upbeat_model::rollout::{MemberWord, UnitWhy, UnitWord};

use super::{Ask, Change, Course, Member, NextUnit, Seen, Unit};

impl Member {
    /// Whether one of its rollouts, this or another, has begun since the unit did.
    fn has_rolled(&self, seen: &Seen) -> bool {
        seen.number > self.before.number
    }

    /// It has the version that it shall have, and that is good.
    fn is_good(&self, seen: &Seen) -> bool {
        let version = &self.asked.version;
        seen.target.as_ref() == Some(version) && seen.course == Course::Steady(version.clone())
    }

    /// Its version was found to be bad while the unit ran.
    fn is_bad(&self, seen: &Seen) -> bool {
        let is_of_it = match &seen.course {
            Course::Back { from, .. } | Course::Halted(from) => *from == self.asked.version,
            Course::None | Course::Steady(_) | Course::Forward(_) => false,
        };
        is_of_it && self.has_rolled(seen)
    }

    /// Somebody gave it a version that is neither the unit's nor one from before.
    fn is_changed(&self, seen: &Seen) -> bool {
        let target = seen.target.as_ref();
        target != Some(&self.asked.version)
            && target != self.before.target.as_ref()
            && (target.is_none() || target != self.before.good.as_ref())
    }

    /// Where it is while the unit goes forward.
    fn forward(&self, seen: &Seen) -> MemberWord {
        match () {
            () if self.is_changed(seen) => MemberWord::Changed,
            () if !self.has_begun => MemberWord::Waits,
            () if self.is_good(seen) => MemberWord::Good,
            () if self.is_bad(seen) => MemberWord::Bad,
            () => MemberWord::Forward,
        }
    }

    /// Where it is while the unit goes back.
    fn back(&self, seen: &Seen) -> MemberWord {
        let settled = if seen.is_settled() { MemberWord::Back } else { MemberWord::GoesBack };
        let is_asked_for = seen.target.as_ref() == Some(&self.asked.version);
        let (was_good, was_asked_for) = (&self.before.good, &self.before.target);
        match &seen.course {
            _ if !self.has_begun => MemberWord::Waits,
            _ if self.is_changed(seen) => MemberWord::Changed,
            // It was never moved.
            _ if !self.has_rolled(seen) && seen.target == *was_asked_for => MemberWord::Back,
            Course::Back { .. } if self.is_bad(seen) => settled,
            Course::Halted(_) if self.is_bad(seen) => MemberWord::Halted,
            Course::Steady(version) if Some(version) == was_good.as_ref() && seen.target == *was_good => {
                settled
            }
            Course::Steady(_) if is_asked_for && was_good.is_none() && self.is_good(seen) => {
                MemberWord::Halted
            }
            _ => MemberWord::GoesBack,
        }
    }
}

/// It has nothing to do any more where the unit goes back.
fn is_back(word: MemberWord) -> bool {
    !matches!(word, MemberWord::GoesBack | MemberWord::Forward | MemberWord::Bad | MemberWord::Good)
}

impl Unit {
    /// Where each member is. `seen`: what is so of each, in their order.
    pub fn words(&self, seen: &[Seen]) -> Vec<MemberWord> {
        let word = |(member, seen): (&Member, &Seen)| match (member.ended, self.course) {
            (Some(ended), _) => ended,
            (None, UnitWord::Forward) => member.forward(seen),
            (None, _) => member.back(seen),
        };
        self.members.iter().zip(seen).map(word).collect()
    }

    /// What comes next. Made from the same state it is the same; where nothing is to be done it is the unit as it
    /// is, and nothing is asked. `seen`: what is so of each member, in their order.
    pub fn decide(&self, seen: &[Seen], now: Mono) -> NextUnit {
        let mut next = NextUnit { unit: self.clone(), asks: Vec::new() };
        if self.course == UnitWord::Forward {
            next.forward(seen, now);
        }
        // Who is found to be bad just now lets all go back at once.
        if next.unit.course == UnitWord::Back {
            next.back(seen, now);
        }
        next
    }
}

impl NextUnit {
    fn forward(&mut self, seen: &[Seen], now: Mono) {
        let words = self.unit.words(seen);
        for (n, word) in words.iter().enumerate() {
            let asked = &self.unit.members[n].asked;
            let entity = asked.entity.clone();
            let why = match word {
                MemberWord::Bad => {
                    UnitWhy::Bad { entity, version: asked.version.clone(), reason: seen[n].bad.clone() }
                }
                MemberWord::Changed => UnitWhy::Changed { entity },
                _ => continue,
            };
            return self.unit.go_back(why);
        }
        if words.iter().all(|word| *word == MemberWord::Good) {
            return self.end(UnitWord::Good, &words, now);
        }
        for (n, word) in words.iter().enumerate() {
            match word {
                MemberWord::Waits if self.unit.paused_by.is_none() && self.has_all(n, &words) => {
                    self.unit.members[n].has_begun = true;
                    self.move_on(n, &seen[n]);
                }
                MemberWord::Forward => self.move_on(n, &seen[n]),
                _ => {}
            }
        }
    }

    /// All that this member needs are good.
    fn has_all(&self, n: usize, words: &[MemberWord]) -> bool {
        let members = &self.unit.members;
        let is_good = |needs: &String| {
            members
                .iter()
                .zip(words)
                .any(|(other, word)| other.asked.entity == *needs && *word == MemberWord::Good)
        };
        members[n].asked.needs.iter().all(is_good)
    }

    /// What a member that has begun, and is neither good nor bad, is asked for.
    fn move_on(&mut self, n: usize, seen: &Seen) {
        let unit = &self.unit;
        let Member { asked, before, .. } = &unit.members[n];
        let version = &asked.version;
        let is_ours = seen.paused_by.as_ref() == Some(&unit.name());
        let change = match &seen.course {
            _ if seen.target.as_ref() != Some(version) => Change::SetVersion(version.clone()),
            // It was bad before, and is not held to be so any more.
            Course::Back { from, .. } | Course::Halted(from) if from == version => Change::Retry,
            Course::Forward(rolls) if rolls == version && seen.rolling.as_ref() == Some(version) => {
                debug_assert!(seen.number > before.number, "it was not under way when the unit began");
                match (&unit.promoted_by, &unit.paused_by) {
                    (Some(by), _) => Change::PromoteAll { by: by.clone() },
                    (None, Some(_)) if seen.paused_by.is_none() => Change::Pause { by: unit.name() },
                    (None, None) if is_ours => Change::Resume,
                    _ => return,
                }
            }
            // It begins with the next report.
            _ => return,
        };
        self.asks.push(Ask { member: n, change });
    }

    fn back(&mut self, seen: &[Seen], now: Mono) {
        let words = self.unit.words(seen);
        if words.iter().all(|word| is_back(*word)) {
            let is_halted = words.contains(&MemberWord::Halted);
            let course = if is_halted { UnitWord::Halted } else { UnitWord::RolledBack };
            return self.end(course, &words, now);
        }
        let (name, why) = (self.unit.name(), self.unit.why.as_ref().map(ToString::to_string));
        for (n, word) in words.iter().enumerate().rev() {
            let member = &self.unit.members[n];
            let is_asked_for = seen[n].target.as_ref() == Some(&member.asked.version);
            // Who is bad goes back by itself.
            if *word != MemberWord::GoesBack || !is_asked_for || member.is_bad(&seen[n]) {
                continue;
            }
            let mut needed_by = self.unit.members.iter().zip(&words);
            if needed_by
                .any(|(other, word)| other.asked.needs.contains(&member.asked.entity) && !is_back(*word))
            {
                continue;
            }
            let change = Change::Withdraw {
                version: member.asked.version.clone(),
                good: member.before.good.clone(),
                target: member.before.target.clone(),
                by: name.clone(),
                why: why.clone().unwrap_or_default(),
            };
            self.asks.push(Ask { member: n, change });
        }
    }

    fn end(&mut self, course: UnitWord, words: &[MemberWord], now: Mono) {
        (self.unit.course, self.unit.ended) = (course, Some(now));
        for (member, word) in self.unit.members.iter_mut().zip(words) {
            member.ended = Some(*word);
        }
    }
}

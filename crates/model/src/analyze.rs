//! What the time of a start went into: which chain of dependencies decided how long it took until
//! everything was ready, and which service took how long by itself.
//!
//! A slot's last start has at most five moments. It *waits* from the moment it is wanted until its
//! conditions hold; what follows is its own time: it is executed, becomes ready, and, if others wait
//! for that, ends. The chain goes from the slot that was last to the one that kept it waiting longest,
//! and so on, until one had nothing to wait for.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, ServiceName, SlotId};
use crate::project::Condition;
use crate::state::Phase;
use crate::time::{Millis, Mono};

/// How far the last start of a slot came, and when, on the boot clock.
///
/// It is the start that somebody asked for: a copy that ended before it was ever ready is still on its
/// way, through all its attempts; one that was ready and is started again by itself has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Timeline {
    /// It was wanted, and had to wait for what it needs.
    pub since: Mono,
    /// What it needs was there: the start was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Mono>,
    /// Its program was executed: the last one, if there were several attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed: Option<Mono>,
    /// It was ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Mono>,
    /// It has ended, and is left so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Mono>,
    /// How often it was tried until it was ready.
    pub attempts: u32,
}

impl Timeline {
    /// Of a slot that waits.
    pub fn since(since: Mono) -> Self {
        Self { since, opened: None, executed: None, ready: None, ended: None, attempts: 0 }
    }

    /// When a condition came to hold of it.
    fn held(&self, condition: &Condition) -> Option<Mono> {
        match condition {
            Condition::Started => self.executed,
            Condition::Healthy | Condition::Probe(_) | Condition::Port(_) | Condition::Line(_) => self.ready,
            Condition::Ready => self.ready.or(self.ended),
            Condition::CompletedSuccessfully | Condition::Completed | Condition::Failed => self.ended,
        }
    }
}

/// The last start of one slot, and what it needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlotStart {
    /// Which slot.
    pub slot: SlotId,
    /// Where it is now.
    pub phase: Phase,
    /// Its moments.
    pub times: Timeline,
    /// What had to hold of which service before it could start.
    pub needs: BTreeMap<ServiceName, Condition>,
}

/// `GET /api/v1/apps/{app}/starts`: the last start of each slot, in the order of names. A slot that was
/// never started has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Starts {
    /// Of which app.
    pub app: AppName,
    /// Now, on the boot clock.
    pub now: Mono,
    /// Slot by slot.
    pub slots: Vec<SlotStart>,
}

/// What a slot's own time went into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OwnTime {
    /// Which slot.
    pub slot: SlotId,
    /// Where it is now.
    pub phase: Phase,
    /// How long it waited for what it needs.
    pub waited: Millis,
    /// From there until its program was executed: its `pre_start` hooks, and every attempt but the last.
    pub to_execute: Millis,
    /// From there until it was what others wait for: ready, or at its end.
    pub to_arrive: Millis,
    /// Both together.
    pub own: Millis,
    /// How often it was tried.
    pub attempts: u32,
    /// It has not arrived: what is told is so far.
    pub is_under_way: bool,
}

/// One link of the chain that decided how long a start took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChainLink {
    /// What had to hold of it, for the link before this one; the first is looked at for itself.
    pub condition: Option<Condition>,
    /// When that was so, counted from the begin of the chain.
    pub at: Millis,
    /// What it took.
    #[serde(flatten)]
    pub time: OwnTime,
}

/// The chain that decided how long a start took: the last one first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CriticalChain {
    /// From the moment its last link was wanted until its first had arrived.
    pub total: Millis,
    /// Link by link, each kept waiting by the one that follows it.
    pub links: Vec<ChainLink>,
}

impl Starts {
    fn copies(&self, service: &ServiceName) -> impl Iterator<Item = &SlotStart> {
        self.slots.iter().filter(move |start| start.slot.service == *service)
    }

    /// Services whose end others wait for.
    fn awaited_ends(&self) -> BTreeSet<&ServiceName> {
        let is_end = |condition: &Condition| {
            matches!(condition, Condition::CompletedSuccessfully | Condition::Completed | Condition::Failed)
        };
        let needs = self.slots.iter().flat_map(|start| &start.needs);
        needs.filter(|(_, condition)| is_end(condition)).map(|(service, _)| service).collect()
    }

    /// When it had arrived: where somebody waits for its end, then; else when it was ready. `None`: it
    /// is under way.
    fn arrived(&self, start: &SlotStart, ends: &BTreeSet<&ServiceName>) -> Option<Mono> {
        let times = &start.times;
        match ends.contains(&start.slot.service) {
            true => times.ended,
            false => times.ready.or(times.ended),
        }
    }

    fn own_time(&self, start: &SlotStart, arrived: Option<Mono>) -> OwnTime {
        let times = &start.times;
        let until = arrived.unwrap_or(self.now);
        let opened = times.opened.unwrap_or(until);
        let executed = times.executed.unwrap_or(until).min(until);
        OwnTime {
            slot: start.slot.clone(),
            phase: start.phase,
            waited: opened.since(times.since),
            to_execute: executed.since(opened),
            to_arrive: until.since(executed),
            own: until.since(opened),
            attempts: times.attempts,
            is_under_way: arrived.is_none(),
        }
    }

    /// What each slot took by itself, the longest first.
    pub fn blame(&self) -> Vec<OwnTime> {
        let ends = self.awaited_ends();
        let own = |start: &SlotStart| self.own_time(start, self.arrived(start, &ends));
        let mut times: Vec<OwnTime> = self.slots.iter().map(own).collect();
        times.sort_by(|a, b| b.own.cmp(&a.own).then_with(|| a.slot.cmp(&b.slot)));
        times
    }

    /// The chain that decided when this service had arrived, or when everything had: `None`. It is empty
    /// where nothing was ever started.
    pub fn critical_chain(&self, of: Option<&ServiceName>) -> CriticalChain {
        let ends = self.awaited_ends();
        // What is under way comes after all that has arrived.
        let when = |start: &&SlotStart| self.arrived(start, &ends).unwrap_or(Mono(u64::MAX));
        let wanted = self.slots.iter().filter(|start| of.is_none_or(|of| start.slot.service == *of));
        // Of several that arrived at once the one that was begun last, as it may have waited for the others;
        // then the first by name, so that the same is told each time.
        let Some(last) = wanted.min_by_key(|start| std::cmp::Reverse((when(start), start.times.opened)))
        else {
            return CriticalChain::default();
        };
        let mut chain = vec![(last, None, self.arrived(last, &ends))];
        let mut seen = BTreeSet::from([&last.slot]);
        let mut at = last;
        while let Some((next, condition, held)) = self.kept_waiting_by(at) {
            // An edited file may have turned an edge around since.
            if !seen.insert(&next.slot) {
                break;
            }
            chain.push((next, Some(condition), held));
            at = next;
        }
        let begun = at.times.since;
        let until = |held: Option<Mono>| held.unwrap_or(self.now).since(begun);
        let total = until(chain[0].2);
        let link = |(start, condition, held): (&SlotStart, Option<&Condition>, Option<Mono>)| ChainLink {
            condition: condition.cloned(),
            at: until(held),
            time: self.own_time(start, held),
        };
        CriticalChain { total, links: chain.into_iter().map(link).collect() }
    }

    /// Which slot kept this one waiting longest; what had to hold of it, and when it did. `None`: all it
    /// needs was there when it was wanted.
    fn kept_waiting_by<'a>(
        &'a self,
        start: &'a SlotStart,
    ) -> Option<(&'a SlotStart, &'a Condition, Option<Mono>)> {
        let SlotStart { times, needs, .. } = start;
        let (mut longest, mut latest) = (None, times.since);
        for (service, condition) in needs {
            for copy in self.copies(service) {
                let held = copy.times.held(condition);
                let moment = match held {
                    // It held by the time this one could start, if it was this that it waited for.
                    Some(held) if times.opened.is_none_or(|opened| held <= opened) => held,
                    // This one went on without it: it was not required, or held earlier, by another start.
                    Some(_) => continue,
                    None if times.opened.is_none() => Mono(u64::MAX),
                    None => continue,
                };
                if moment > latest {
                    (longest, latest) = (Some((copy, condition, held)), moment);
                }
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name since opened executed ready ended`, with `-` for what has not come, and what it needs.
    fn starts(now: u64, slots: &[(&str, &[(&str, Condition)])]) -> Starts {
        let slot = |(line, needs): &(&str, &[(&str, Condition)])| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = |n: usize| words.get(n).and_then(|word| word.parse().ok()).map(Mono);
            let needs = needs.iter().map(|(name, condition)| (name.parse().unwrap(), condition.clone()));
            SlotStart {
                slot: format!("shop/{}", words[0]).parse().unwrap(),
                phase: Phase::Running,
                times: Timeline {
                    since: at(1).unwrap(),
                    opened: at(2),
                    executed: at(3),
                    ready: at(4),
                    ended: at(5),
                    attempts: 1,
                },
                needs: needs.collect(),
            }
        };
        Starts { app: "shop".parse().unwrap(), now: Mono(now), slots: slots.iter().map(slot).collect() }
    }

    /// `slot @at +own`, link by link.
    fn chain(starts: &Starts, of: Option<&str>) -> String {
        let of = of.map(|name| name.parse().unwrap());
        let CriticalChain { total, links } = starts.critical_chain(of.as_ref());
        let link = |ChainLink { at, time, .. }: &ChainLink| {
            format!("{} @{} +{}", time.slot.short(), at.0, time.own.0)
        };
        let links: Vec<String> = links.iter().map(link).collect();
        format!("{}: {}", total.0, links.join(" <- "))
    }

    #[test]
    fn the_chain_follows_what_kept_each_one_waiting_longest() {
        let shop = starts(
            9_000,
            &[
                ("cache/1 1000 1000 1010 1200", &[]),
                ("db/1 1000 1000 1020 1500", &[]),
                ("migrate/1 1000 1500 1510 1510 1800", &[("db", Condition::Healthy)]),
                ("quick/1 1000 1020 1030 1030", &[("db", Condition::Started)]),
                (
                    "web/1 1000 1801 1810 2000",
                    &[("cache", Condition::Healthy), ("migrate", Condition::CompletedSuccessfully)],
                ),
            ],
        );
        assert_eq!(chain(&shop, None), "1000: web-1 @1000 +199 <- migrate-1 @800 +300 <- db-1 @500 +500");
        assert_eq!(chain(&shop, Some("quick")), "30: quick-1 @30 +10 <- db-1 @20 +20");
        assert_eq!(chain(&shop, Some("cache")), "200: cache-1 @200 +200");
        assert_eq!(chain(&shop, Some("none")), "0: ");
        let blame: Vec<_> = shop.blame().iter().map(|own| (own.slot.short(), own.own.0)).collect();
        let blamed = [("db-1", 500), ("migrate-1", 300), ("cache-1", 200), ("web-1", 199), ("quick-1", 10)];
        assert_eq!(blame, blamed.map(|(slot, own)| (slot.to_owned(), own)));
    }

    #[test]
    fn of_several_copies_the_last_one_counts() {
        let shop = starts(
            9_000,
            &[
                ("db/1 0 0 10 100", &[]),
                ("db/2 0 0 10 300", &[]),
                ("web/1 0 300 310 400", &[("db", Condition::Healthy)]),
            ],
        );
        assert_eq!(chain(&shop, None), "400: web-1 @400 +100 <- db-2 @300 +300");
    }

    #[test]
    fn who_was_there_before_kept_nobody_waiting() {
        // `web` was restarted long after `db` was ready; `db` again while `web` ran.
        let before = starts(
            9_000,
            &[("db/1 0 0 10 300", &[]), ("web/1 5000 5000 5010 5200", &[("db", Condition::Healthy)])],
        );
        assert_eq!(chain(&before, None), "200: web-1 @200 +200");
        let after = starts(
            9_000,
            &[
                ("db/1 7000 7000 7010 7300", &[]),
                ("web/1 5000 5000 5010 5200", &[("db", Condition::Healthy)]),
            ],
        );
        assert_eq!(chain(&after, Some("web")), "200: web-1 @200 +200");
    }

    #[test]
    fn what_is_under_way_comes_last_and_is_told_so_far() {
        let shop = starts(
            5_000,
            &[
                ("cache/1 1000 1000 1010 1200", &[]),
                ("db/1 1000 1000 1020 -", &[]),
                ("web/1 1000 - - -", &[("cache", Condition::Healthy), ("db", Condition::Healthy)]),
            ],
        );
        assert_eq!(chain(&shop, Some("web")), "4000: web-1 @4000 +0 <- db-1 @4000 +4000");
        let links = shop.critical_chain(None).links;
        assert!(links[0].time.is_under_way);
        assert_eq!(shop.blame()[0].slot.short(), "db-1");
    }

    #[test]
    fn a_circle_of_edges_from_two_files_ends_all_the_same() {
        let shop = starts(
            9_000,
            &[
                ("a/1 0 200 210 220", &[("b", Condition::Healthy)]),
                ("b/1 0 220 230 240", &[("a", Condition::Healthy)]),
            ],
        );
        assert_eq!(chain(&shop, Some("b")), "240: b-1 @240 +20 <- a-1 @220 +20");
        assert_eq!(chain(&starts(0, &[]), None), "0: ");
    }
}

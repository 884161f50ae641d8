//! Who is next: of the apps that wait for a place the one that holds the fewest.
//!
//! Laws: a place that is free is nobody's while somebody waits; it goes to no app while another that waits
//! holds fewer, so one whose probes are slow delays another by no more than one of them takes; within an
//! app, and among apps that hold as many, first come first served. Pure: it knows no time, and wakes nobody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use upbeat_model::AppName;

/// One that waits.
pub(super) type Ticket = u64;

/// Places, and who holds and awaits how many of them.
#[derive(Debug, Default)]
pub(super) struct Shares {
    apps: BTreeMap<AppName, Share>,
    /// The apps that wait, the next one first: by how many they hold, then by who came first.
    line: BTreeSet<(u64, Ticket, AppName)>,
    held: u64,
    tickets: Ticket,
}

#[derive(Debug, Default)]
struct Share {
    held: u64,
    waiting: VecDeque<Ticket>,
}

impl Shares {
    /// A probe of this app waits from now on.
    pub(super) fn wait(&mut self, app: &AppName) -> Ticket {
        self.tickets += 1;
        let ticket = self.tickets;
        self.change(app, |share| share.waiting.push_back(ticket));
        ticket
    }

    /// It does not any more, and was given none.
    pub(super) fn leave(&mut self, app: &AppName, ticket: Ticket) {
        self.change(app, |share| share.waiting.retain(|waiting| *waiting != ticket));
    }

    /// A place of this app is free.
    pub(super) fn free(&mut self, app: &AppName) {
        self.held -= 1;
        self.change(app, |share| share.held -= 1);
    }

    /// Gives a place, where one of so many is free, to whoever is next.
    pub(super) fn give(&mut self, places: u64) -> Option<Ticket> {
        if self.held >= places {
            return None;
        }
        let (_, ticket, app) = self.line.first()?.clone();
        self.held += 1;
        self.change(&app, |share| {
            share.waiting.pop_front();
            share.held += 1;
        });
        Some(ticket)
    }

    /// Changes what is known of an app, and its place in the line with it. One that holds nothing and wants
    /// nothing is forgotten.
    fn change(&mut self, app: &AppName, change: impl FnOnce(&mut Share)) {
        let mut share = self.apps.remove(app).unwrap_or_default();
        if let Some(first) = share.waiting.front() {
            self.line.remove(&(share.held, *first, app.clone()));
        }
        change(&mut share);
        if let Some(first) = share.waiting.front() {
            self.line.insert((share.held, *first, app.clone()));
        }
        if share.held > 0 || !share.waiting.is_empty() {
            self.apps.insert(app.clone(), share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        AppName::new(name).unwrap()
    }

    /// Apps in virtual time: each of their probes takes as long as the app says.
    struct World {
        shares: Shares,
        places: u64,
        now: u64,
        takes: BTreeMap<AppName, u64>,
        waiting: BTreeMap<Ticket, (AppName, u64)>,
        /// When it ends, and whose it is.
        out: BTreeSet<(u64, Ticket, AppName)>,
        /// How long each waited, in the order in which they were asked.
        waited: Vec<(AppName, u64)>,
    }

    impl World {
        fn new(places: u64, takes: &[(&str, u64)]) -> Self {
            let takes = takes.iter().map(|(name, takes)| (app(name), *takes)).collect();
            let (shares, waiting, out, waited) = Default::default();
            Self { shares, places, now: 0, takes, waiting, out, waited }
        }

        fn ask(&mut self, name: &str, count: usize) {
            for _ in 0..count {
                let ticket = self.shares.wait(&app(name));
                self.waiting.insert(ticket, (app(name), self.now));
            }
            self.give();
        }

        fn give(&mut self) {
            while let Some(ticket) = self.shares.give(self.places) {
                let (app, since) = self.waiting.remove(&ticket).unwrap();
                let held = |app: &AppName| self.out.iter().filter(|(_, _, of)| of == app).count();
                let fewest = self.waiting.values().map(|(of, _)| held(of)).min();
                assert!(fewest.is_none_or(|fewest| held(&app) <= fewest), "another has fewer");
                self.out.insert((self.now + self.takes[&app], ticket, app.clone()));
                self.waited.push((app, self.now - since));
            }
            let free = self.places.saturating_sub(self.out.len() as u64);
            assert!(free == 0 || self.waiting.is_empty(), "a place is free and somebody waits");
        }

        /// Until so much time has gone by, probe after probe.
        fn until(&mut self, end: u64) {
            while let Some((at, ..)) = self.out.first()
                && *at <= end
                && let Some((at, _, app)) = self.out.pop_first()
            {
                self.now = at;
                self.shares.free(&app);
                self.give();
            }
            self.now = end;
        }

        fn longest(&self, name: &str) -> u64 {
            self.waited.iter().filter(|(of, _)| *of == app(name)).map(|(_, waited)| *waited).max().unwrap()
        }
    }

    #[test]
    fn an_app_that_hangs_delays_another_by_no_more_than_one_turn() {
        for crowd in [8, 9, 100, 1_000] {
            let mut world = World::new(8, &[("hangs", 10_000), ("quick", 1)]);
            world.ask("hangs", crowd);
            // Again and again, each time at the worst moment.
            for round in 0..20 {
                world.until(round * 10_000 + 1);
                world.ask("quick", 4);
            }
            world.until(100_000_000);
            assert!(world.longest("quick") <= 10_000, "{crowd}: {}", world.longest("quick"));
            assert_eq!(world.waited.len(), crowd + 80);
        }
    }

    #[test]
    fn apps_that_all_want_more_hold_as_many() {
        let mut world = World::new(12, &[("a", 100), ("b", 100), ("c", 100)]);
        world.ask("a", 500);
        world.until(50);
        world.ask("b", 500);
        world.ask("c", 500);
        assert_eq!(world.out.len(), 12, "all of the first one: nobody else was there");
        for until in [150, 1_000, 3_000] {
            world.until(until);
            for name in ["a", "b", "c"] {
                let held = world.out.iter().filter(|(_, _, of)| *of == app(name)).count();
                assert_eq!(held, 4, "{name} at {until}");
            }
        }
    }

    #[test]
    fn who_waits_no_more_is_passed_over_and_who_wants_nothing_is_forgotten() {
        let mut shares = Shares::default();
        let (a, b) = (app("a"), app("b"));
        let [first, gone, second] = [&a, &a, &a].map(|app| shares.wait(app));
        let other = shares.wait(&b);
        assert_eq!(shares.give(1), Some(first));
        assert_eq!(shares.give(1), None);
        shares.leave(&a, gone);
        assert_eq!(shares.give(2), Some(other));
        assert_eq!(shares.give(3), Some(second));
        assert_eq!(shares.give(4), None);
        // There are fewer places by now.
        let late = shares.wait(&b);
        shares.free(&a);
        assert_eq!(shares.give(2), None);
        shares.free(&a);
        assert_eq!(shares.give(2), Some(late));
        shares.free(&b);
        shares.free(&b);
        assert!(shares.apps.is_empty() && shares.line.is_empty() && shares.held == 0);
    }
}

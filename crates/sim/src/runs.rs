//! By what each copy was started: as somebody would note it who
//! reads every file and every order to start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use upbeat_model::target::Target;
use upbeat_model::{Attempt, Service, ServiceName, SlotId};

use crate::kernel::Process;

/// One attempt.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    attempt: Attempt,
    /// The wish it was ordered for.
    pub(crate) ordered_for: u64,
    /// The file it was started by, or a newer one under which it went on: it says how it is stopped.
    pub(crate) held: Arc<Service>,
    /// What it was started to rest on.
    pub(crate) needs: BTreeSet<ServiceName>,
    /// What any file since then lets it rest on.
    ever: BTreeSet<ServiceName>,
    /// That file, or any since then, has no `post_start` hooks.
    is_free: bool,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    runs: BTreeMap<SlotId, Run>,
    /// Edges that go round in a circle, of one file and those before it: they order nothing.
    loose: BTreeSet<(ServiceName, ServiceName)>,
    /// As it was before the last file: a daemon that dies before its commit has never read that.
    before: Option<Box<Runs>>,
}

impl Runs {
    /// The daemon reads the newest wishes.
    pub(crate) fn aim(&mut self, target: &Target) {
        self.before = None;
        self.before = Some(Box::new(self.clone()));
        self.runs.retain(|slot, _| target.slots.contains_key(slot));
        for (slot, wish) in &target.slots {
            if let Some(run) = self.runs.get_mut(slot) {
                if run.held.digest() == wish.digest {
                    run.held = wish.spec.clone();
                }
                run.ever.extend(wish.spec.depends_on.keys().cloned());
                run.is_free |= wish.spec.post_start.is_empty();
            }
        }
        self.loose = self.circles(target);
    }

    /// What was read is remembered from now on; what was removed is not: attempts are counted anew.
    pub(crate) fn committed(&mut self, removed: &[SlotId]) {
        self.before = None;
        removed.iter().for_each(|slot| drop(self.runs.remove(slot)));
    }

    pub(crate) fn died_before_commit(&mut self) {
        if let Some(before) = self.before.take() {
            *self = *before;
        }
    }

    /// A start is ordered.
    pub(crate) fn started(&mut self, slot: &SlotId, attempt: Attempt, ordered_for: u64, spec: &Arc<Service>) {
        if self.of_attempt(slot, attempt).is_some() {
            return;
        }
        let needs: BTreeSet<ServiceName> = spec.depends_on.keys().cloned().collect();
        let is_free = spec.post_start.is_empty();
        let run = Run { attempt, ordered_for, held: spec.clone(), ever: needs.clone(), needs, is_free };
        self.runs.insert(slot.clone(), run);
    }

    /// Of the process that is there; `None` of one that came so late that nobody knows what it is.
    pub(crate) fn of(&self, process: &Process, slot: &SlotId) -> Option<&Run> {
        self.perhaps_of(process, slot).filter(|_| process.ordered_for != 0)
    }

    /// The same, where it may be that or unknown.
    pub(crate) fn perhaps_of(&self, process: &Process, slot: &SlotId) -> Option<&Run> {
        self.runs.get(slot).filter(|run| run.attempt == process.attempt)
    }

    /// Whether it may be used: its hooks have succeeded, or it has none, or nobody can tell.
    pub(crate) fn is_prepared(&self, process: &Process, slot: &SlotId) -> bool {
        process.hooks_succeeded || self.perhaps_of(process, slot).is_none_or(|run| run.is_free)
    }

    /// Of this attempt.
    pub(crate) fn of_attempt(&self, slot: &SlotId, attempt: Attempt) -> Option<&Run> {
        self.runs.get(slot).filter(|run| run.attempt == attempt)
    }

    /// The file that an attempt is held by.
    pub(crate) fn held(&self, slot: &SlotId, attempt: Attempt) -> Option<&Arc<Service>> {
        self.of_attempt(slot, attempt).map(|run| &run.held)
    }

    pub(crate) fn is_loose(&self, dependent: &SlotId, dependency: &SlotId) -> bool {
        self.loose.contains(&(dependent.service.clone(), dependency.service.clone()))
    }

    fn circles(&self, target: &Target) -> BTreeSet<(ServiceName, ServiceName)> {
        let wished = target.slots.iter().flat_map(|(slot, wish)| {
            wish.spec.depends_on.keys().map(|need| (slot.service.clone(), need.clone()))
        });
        let remembered = self
            .runs
            .iter()
            .flat_map(|(slot, run)| run.ever.iter().map(|need| (slot.service.clone(), need.clone())));
        let edges: BTreeSet<(ServiceName, ServiceName)> = wished.chain(remembered).collect();
        let comes_back = |(from, to): &&(ServiceName, ServiceName)| {
            let mut reached = BTreeSet::from([to.clone()]);
            loop {
                let more: BTreeSet<ServiceName> = (edges.iter())
                    .filter(|(from, to)| reached.contains(from) && !reached.contains(to))
                    .map(|(_, to)| to.clone())
                    .collect();
                if more.is_empty() {
                    return reached.contains(from);
                }
                reached.extend(more);
            }
        };
        edges.iter().filter(comes_back).cloned().collect()
    }
}

//! The targets of an entity, and which of them are to be written down.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use upbeat_model::rollout::TargetId;

use super::Target;

/// All targets, by who they are; and which of them look otherwise than when that was taken down last.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    all: BTreeMap<TargetId, Target>,
    touched: BTreeSet<TargetId>,
}

impl Targets {
    /// Those that have come, gone or changed since this was asked last. That somebody was only seen again is no
    /// change: after a restart everybody was just seen.
    pub fn take_touched(&mut self) -> BTreeSet<TargetId> {
        std::mem::take(&mut self.touched)
    }

    /// To be changed: is taken for changed.
    pub(super) fn get_mut(&mut self, id: &TargetId) -> Option<&mut Target> {
        let target = self.all.get_mut(id)?;
        self.touched.insert(id.clone());
        Some(target)
    }

    /// To be looked at, and changed only in when it was seen.
    pub(super) fn get_quietly(&mut self, id: &TargetId) -> Option<&mut Target> {
        self.all.get_mut(id)
    }

    pub(super) fn insert(&mut self, id: TargetId, target: Target) {
        self.touched.insert(id.clone());
        self.all.insert(id, target);
    }

    pub(super) fn remove(&mut self, id: &TargetId) {
        if self.all.remove(id).is_some() {
            self.touched.insert(id.clone());
        }
    }

    /// Those that are to be otherwise are made so.
    pub(super) fn change_each(
        &mut self,
        is_one: impl Fn(&Target) -> bool,
        mut change: impl FnMut(&mut Target),
    ) {
        for (id, target) in &mut self.all {
            if is_one(target) {
                change(target);
                self.touched.insert(id.clone());
            }
        }
    }
}

impl Deref for Targets {
    type Target = BTreeMap<TargetId, Target>;

    fn deref(&self) -> &BTreeMap<TargetId, Target> {
        &self.all
    }
}

impl PartialEq for Targets {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Targets {}

/// As they were taken down.
impl FromIterator<(TargetId, Target)> for Targets {
    fn from_iter<I: IntoIterator<Item = (TargetId, Target)>>(targets: I) -> Self {
        Self { all: targets.into_iter().collect(), touched: BTreeSet::new() }
    }
}

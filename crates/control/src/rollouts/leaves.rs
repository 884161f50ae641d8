//! How the targets of an entity are cut into the values that hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use upbeat_decide::rollout::{Target, Targets};
use upbeat_model::rollout::{Held, MESSAGE_MAX, Report, TargetId};

/// A leaf with more targets is cut, so that a change of one costs little: it is written with the others of its leaf.
const LEAF_MAX: usize = 64;

/// And so is one with more bytes, where it has more targets than one. A single target is a third of this at most,
/// with all it may carry in letters that JSON writes as several; so a leaf stays far below what a value may have,
/// and of fleets that say much, a change of one target still costs little.
pub(super) const LEAF_BYTES_MAX: usize = upbeat_store::VALUE_MAX / 8;

/// Leaves are made anew, all of them, when they hold less than this part of what they could.
const SPARSE: usize = 4;

/// What a target costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// So many bytes at most where it is kept.
    pub(super) kept: usize,
    /// About so many in memory.
    pub(super) held: u64,
}

/// Targets that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Its first target when it was made. Whoever comes between its last one and the next leaf's first belongs here,
    /// too; and to the first leaf, whoever comes before.
    pub(super) from: TargetId,
    pub(super) id: u64,
    /// Of all its targets.
    pub(super) weight: Weight,
}

impl std::ops::AddAssign for Weight {
    fn add_assign(&mut self, other: Self) {
        self.kept += other.kept;
        self.held += other.held;
    }
}

/// Braces, names of fields and numbers of one target where it is kept: 370 at most.
const FRAME: usize = 400;

/// What an allocation takes beyond what is asked for.
const ALLOCATION: u64 = 32;

/// What is said of a target with what it shall run, without the version.
const ASSIGNMENT: usize = 32;

/// A node of a map of texts has places for eleven, of which six are taken at least where there are more nodes.
const NODE: (u64, usize) = (560, 6);

/// What a target costs, from all that can differ between two.
pub(super) fn weight(id: &TargetId, target: &Target) -> Weight {
    let mut weight = Weight {
        kept: FRAME,
        // Nodes of the map that all targets are in are two thirds full, on the average.
        held: (size_of::<(TargetId, Target)>() * 3 / 2) as u64,
    };
    let mut text = |text: &str| {
        weight.kept += in_json(text);
        weight.held += text.len() as u64 + ALLOCATION;
    };
    text(&id.group);
    text(&id.name);
    for Held { version, note, .. } in [&target.current, &target.assigned] {
        text(version.as_ref().map_or("", |version| version.as_str()));
        text(&note.text);
    }
    for label in target.labels.iter().flat_map(|(key, value)| [key, value]) {
        text(label);
    }
    if let Some(failed) = target.failed.as_deref() {
        text(failed.version.as_str());
        text(failed.by.as_deref().unwrap_or_default());
        text(&failed.why);
        weight.held += size_of_val(failed) as u64;
    }
    // `"":"",`
    weight.kept += 6 * target.labels.len();
    if !target.labels.is_empty() {
        weight.held += NODE.0 * target.labels.len().div_ceil(NODE.1) as u64;
    }
    weight
}

fn labels_held(labels: &BTreeMap<String, String>) -> u64 {
    let texts: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    let nodes = NODE.0 * labels.len().div_ceil(NODE.1) as u64;
    texts as u64 + 2 * ALLOCATION * labels.len() as u64 + nodes
}

/// About how many bytes more are in memory when this is known of a target: of one that is not, all of it. Of one that
/// is, only what its labels take. What it runs and says is heard in any case, and has a bound for each target.
pub(super) fn growth(report: &Report, known: Option<&Target>) -> u64 {
    if let Some(known) = known {
        return labels_held(&report.labels).saturating_sub(labels_held(&known.labels));
    }
    let new = report.message.len().min(MESSAGE_MAX) as u64 + labels_held(&report.labels);
    let version = report.version.as_ref().map_or(0, |version| version.as_str().len());
    let names = report.target.group.len() + report.target.name.len();
    // The version is said again as the one it shall run, and so is something of what it shall do.
    let said = names + 2 * version + ASSIGNMENT;
    (size_of::<(TargetId, Target)>() * 3 / 2) as u64 + said as u64 + 6 * ALLOCATION + new
}

/// How many bytes JSON makes of a text, at most, without the quotes.
pub(super) fn in_json(text: &str) -> usize {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(byte).sum()
}

/// The leaves that hold these targets from now on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Regrown {
    pub(super) leaves: Vec<Leaf>,
    /// These are to be written: from which target on, up to which, as which leaf.
    pub(super) new: Vec<(TargetId, Option<TargetId>, u64)>,
    /// These are not named any more.
    pub(super) gone: Vec<u64>,
}

/// Each leaf one of whose targets was touched is made anew: cut where it has too many, dropped where it has
/// none. Where they hold little then, all are.
pub(super) fn regrown(
    leaves: &[Leaf],
    targets: &Targets,
    touched: &BTreeSet<TargetId>,
    next: &mut u64,
) -> Regrown {
    let first = *next;
    let some = grown(leaves, targets, touched, next);
    if !is_sparse(&some.leaves, targets) {
        return some;
    }
    *next = first;
    let gone = leaves.iter().map(|leaf| leaf.id).collect();
    Regrown { gone, ..grown(&[], targets, touched, next) }
}

fn grown(leaves: &[Leaf], targets: &Targets, touched: &BTreeSet<TargetId>, next: &mut u64) -> Regrown {
    let mut regrown = Regrown { leaves: Vec::new(), new: Vec::new(), gone: Vec::new() };
    // What comes before the first leaf belongs to it.
    let first = TargetId { group: String::new(), name: String::new() };
    let all: Vec<(&TargetId, Option<&Leaf>)> = match leaves {
        [] => vec![(&first, None)],
        [one, others @ ..] => std::iter::once((&first, Some(one)))
            .chain(others.iter().map(|leaf| (&leaf.from, Some(leaf))))
            .collect(),
    };
    for (n, (from, leaf)) in all.iter().enumerate() {
        let until = all.get(n + 1).map(|(from, _)| *from);
        let range = || (Bound::Included(*from), until.map_or(Bound::Unbounded, Bound::Excluded));
        if let Some(leaf) = leaf
            && touched.range::<TargetId, _>(range()).next().is_none()
        {
            regrown.leaves.push((*leaf).clone());
            continue;
        }
        regrown.gone.extend(leaf.map(|leaf| leaf.id));
        let cuts = cut(targets.range::<TargetId, _>(range()));
        for (n, (from, weight)) in cuts.iter().enumerate() {
            let end = cuts.get(n + 1).map(|(from, _)| *from).or(until);
            regrown.leaves.push(Leaf { from: (*from).clone(), id: *next, weight: *weight });
            regrown.new.push(((*from).clone(), end.cloned(), *next));
            *next += 1;
        }
    }
    regrown
}

fn is_sparse(leaves: &[Leaf], targets: &Targets) -> bool {
    let bytes: usize = leaves.iter().map(|leaf| leaf.weight.kept).sum();
    let needed = targets.len().div_ceil(LEAF_MAX).max(bytes.div_ceil(LEAF_BYTES_MAX)).max(1);
    leaves.len() > needed * SPARSE
}

/// Where leaves of these targets begin, and what each weighs. As many targets in each as in the others, where they
/// say as much.
fn cut<'a>(some: impl Iterator<Item = (&'a TargetId, &'a Target)>) -> Vec<(&'a TargetId, Weight)> {
    let some: Vec<(&TargetId, Weight)> = some.map(|(id, target)| (id, weight(id, target))).collect();
    let most = some.len().div_ceil(some.len().div_ceil(LEAF_MAX).max(1));
    let mut cuts: Vec<(&TargetId, Weight)> = Vec::new();
    let mut count = 0;
    for (id, weight) in some {
        match cuts.last_mut() {
            Some((_, leaf)) if count < most && leaf.kept + weight.kept <= LEAF_BYTES_MAX => {
                *leaf += weight;
                count += 1;
            }
            _ => {
                cuts.push((id, weight));
                count = 1;
            }
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use upbeat_decide::rollout::Failure;
    use upbeat_model::Mono;
    use upbeat_model::rollout::{Note, Version};

    use super::*;

    fn target(texts: [String; 3], labels: BTreeMap<String, String>) -> Target {
        let [version, text, why] = texts;
        let version = Version::new(&version).ok();
        let failed =
            version.clone().map(|version| Box::new(Failure { version, by: Some(text.clone()), why }));
        let since = Mono(u64::MAX);
        let note = Note { text, at: since, is_error: true };
        let held = Held { version, since, note };
        let (stage, is_extra) = (Some(u16::MAX), true);
        Target { current: held.clone(), assigned: held, labels, seen: since, stage, is_extra, failed }
    }

    proptest! {
        /// Else a leaf would be larger than it was cut for.
        #[test]
        fn a_target_is_never_larger_than_it_was_taken_for(
            group in ".{0,20}",
            name in "[\\x00-\\x7f]{1,20}",
            texts in prop::array::uniform3("[\\x00-\\x7f]{0,40}"),
            labels in prop::collection::btree_map(".{0,9}", "[\\x00-\\x7f]{0,9}", 0..4),
        ) {
            let (id, target) = (TargetId { group, name }, target(texts, labels));
            let kept = serde_json::to_vec(&(&id, &target)).unwrap();
            prop_assert!(kept.len() <= weight(&id, &target).kept, "{}", String::from_utf8_lossy(&kept));
        }
    }
}

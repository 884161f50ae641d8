//! Whom a decision asks, and what was said.

use std::collections::BTreeMap;

use upbeat_model::rollout::{Opening, TargetId};

use super::Decision;

/// Whom to ask. What nobody answers for is as if it were said: all may go, all are well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Whether the whole is well.
    pub external: bool,
    /// Whether a target is well.
    pub monitoring: bool,
    /// Which old targets go.
    pub removal: bool,
    /// Which targets are next.
    pub selection: bool,
    /// Which of these may go.
    pub approval: bool,
}

/// What has to be known before it can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Is the whole well, while these are on their way, or are well, or have failed?
    External(Vec<TargetId>),
    /// Is each of these well, which report the version in force?
    Monitoring(Vec<TargetId>),
    /// Which of these go, that run another version? So many at most.
    Removal(Vec<TargetId>, usize),
    /// Which of these are next? So many at most.
    Selection(Vec<TargetId>, usize),
    /// Which of these may go now?
    Approval(Vec<TargetId>),
}

/// A target that whoever selects wants to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTarget {
    /// Which; it may be there already.
    pub id: TargetId,
    /// By which waves choose.
    pub labels: BTreeMap<String, String>,
}

/// What was said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The whole is well; or it is not, and why: nothing is decided then.
    External(Result<(), String>),
    /// Those that are not well, and why.
    Monitoring(BTreeMap<TargetId, String>),
    /// Those that go; or whoever was asked could not say: nothing is decided then.
    Removal(Result<Vec<TargetId>, String>),
    /// Those that are next; or nobody is, and why.
    Selection(Result<Vec<NewTarget>, String>),
    /// Those that may go; or nobody may, and why.
    Approval(Result<Vec<TargetId>, String>),
}

/// What was said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub(super) external: Option<Result<(), String>>,
    pub(super) monitoring: Option<BTreeMap<TargetId, String>>,
    pub(super) removal: Option<Result<Vec<TargetId>, String>>,
    pub(super) selection: Option<Result<Vec<NewTarget>, String>>,
    pub(super) approval: Option<Result<Vec<TargetId>, String>>,
    pub(super) opening: Option<Opening>,
}

impl Told {
    /// Whether it is the time to move targets forward: what the windows of the strategy say of the calendar now.
    pub fn opening(mut self, opening: Opening) -> Self {
        self.opening = Some(opening);
        self
    }

    /// Those that are gone, as far as they were asked for: of these, and no more than so many.
    pub fn gone(&self, offered: &[TargetId], count: usize) -> Vec<TargetId> {
        let said = self.removal.iter().flatten().flatten();
        said.filter(|id| offered.binary_search(id).is_ok()).take(count).cloned().collect()
    }

    /// And this.
    pub fn take(&mut self, answer: Answer) {
        match answer {
            Answer::External(said) => self.external = Some(said),
            Answer::Monitoring(said) => self.monitoring = Some(said),
            Answer::Removal(said) => self.removal = Some(said),
            Answer::Selection(said) => self.selection = Some(said),
            Answer::Approval(said) => self.approval = Some(said),
        }
    }
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this, and decide anew with the answer.
    Ask(Question),
    /// It is decided.
    Settle(Box<Decision>),
}

/// Nothing can be decided. What was reported stays known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nothing {
    /// Nobody has said which version there shall be.
    #[error("empty target version, please set target version before calling orchestrate")]
    NoVersion,
    /// The whole is not well.
    #[error("external monitoring failed: {0}")]
    External(String),
    /// Who goes is not known.
    #[error("target removal failed: {0}")]
    Removal(String),
}

//! How much planning may do, and whether it shall go on.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};

use super::NoPlan;

/// So many steps and edges a plan may have, and slots be looked at for it. Ten thousand slots come to a
/// hundred thousand; beyond ten million lies only a file in which everything depends on everything, and
/// each takes some tens of bytes.
pub const WORK_MAX: usize = 10_000_000;

/// Bounds of one planning.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// At most so many steps, edges and slots together.
    pub work: usize,
    /// Planning ends soon after this was set.
    pub stop: Option<&'a AtomicBool>,
}

impl Default for Limits<'_> {
    fn default() -> Self {
        Self { work: WORK_MAX, stop: None }
    }
}

/// What is left of it.
pub(super) struct Budget<'a> {
    limits: Limits<'a>,
    spent: Cell<usize>,
}

impl<'a> Budget<'a> {
    pub(super) fn new(limits: Limits<'a>) -> Self {
        Self { limits, spent: Cell::new(0) }
    }

    /// One more of what is counted.
    pub(super) fn spend(&self) -> Result<(), NoPlan> {
        let spent = self.spent.get() + 1;
        self.spent.set(spent);
        if spent > self.limits.work {
            return Err(NoPlan::TooLarge(self.limits.work));
        }
        match self.limits.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            true => Err(NoPlan::Interrupted),
            false => Ok(()),
        }
    }
}

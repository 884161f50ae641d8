//! What the onlooker knows of an analysis: it counts samples in its own way.

use upbeat_model::Mono;
use upbeat_model::rollout::{AnalysisSpec, Cadence, SampleOutcome};

/// What is measured of a version, and what was heard of that.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) spec: AnalysisSpec,
    pub(super) begun: Option<Mono>,
    pub(super) last: Option<Mono>,
    pub(super) samples: Vec<SampleOutcome>,
    pub(super) is_passed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Nothing,
    Yes,
    No,
    Unclear,
}

impl Measured {
    pub(super) fn says(&self) -> Says {
        let Cadence { count, failure_limit, inconclusive_limit, consecutive_error_limit, .. } =
            self.spec.measure.cadence;
        let of = |is_one: fn(&SampleOutcome) -> bool| self.samples.iter().filter(|one| is_one(one)).count();
        let is_error = |one: &SampleOutcome| matches!(one, SampleOutcome::Error(_));
        let errors = self.samples.iter().rev().take_while(|one| is_error(one)).count();
        if of(|one| *one == SampleOutcome::Failure) > failure_limit as usize {
            return Says::No;
        }
        if of(|one| *one == SampleOutcome::Inconclusive) > inconclusive_limit as usize
            || errors > consecutive_error_limit as usize
        {
            return Says::Unclear;
        }
        let taken = self.samples.iter().filter(|one| !is_error(one)).count();
        if count.is_some_and(|count| taken >= count as usize) { Says::Yes } else { Says::Nothing }
    }

    pub(super) fn is_unclear(&self) -> bool {
        !self.is_passed && self.says() == Says::Unclear
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_passed || self.says() == Says::Yes
    }
}

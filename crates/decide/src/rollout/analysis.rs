//! The machine of an analysis: when to measure next, and what the samples say so far.
//!
//! ```text
//!            samples, in their order
//!            ┌──┐
//!            │  ▼                 more failures than may be             ┌────────┐
//!         ┌─────────┐ ────────────────────────────────────────────────▶ │ Failed │
//!  ─────▶ │ Running │ ── more inconclusive than may be ──▶ Inconclusive └────────┘
//!         └─────────┘ ── more errors in a row than may be ──▶ Error
//!            │
//!            └── enough in a row, or all that were asked for ──▶ Successful
//! ```
//!
//! Laws: a verdict stands, whatever comes later; a sample that could not be taken counts for nothing but for
//! errors in a row; nothing is measured before its time, nor when there is a verdict. What is kept has a fixed
//! size, however many samples there were.

use serde::{Deserialize, Serialize};
use upbeat_model::Mono;
use upbeat_model::rollout::{Cadence, SampleOutcome as Outcome};

/// What an analysis says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "reason", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing yet: it is measured on.
    #[default]
    Running,
    /// It is as it should be.
    Successful,
    /// It is not, and why.
    Failed(String),
    /// Nobody can say, and why.
    Inconclusive(String),
    /// It could not be measured, and why.
    Error(String),
}

/// What is known of an analysis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    /// When it began.
    pub begun: Mono,
    /// Samples that were successes.
    pub successes: u32,
    /// That were failures.
    pub failures: u32,
    /// That were neither.
    pub inconclusive: u32,
    /// That could not be taken.
    pub errors: u32,
    /// The last so many were successes.
    pub successes_in_a_row: u32,
    /// The last so many could not be taken.
    pub errors_in_a_row: u32,
    /// When the last one was taken.
    pub last: Option<Mono>,
    /// What they say.
    pub verdict: Verdict,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is measured now.
    Measure,
    /// It is measured then.
    Wait(Mono),
    /// There is a verdict.
    Over,
}

impl Analysis {
    /// One that begins now.
    pub fn new(now: Mono) -> Self {
        Self { begun: now, ..Self::default() }
    }

    /// The same, after these samples, in the order they were taken.
    pub fn of<'a>(
        begun: Mono,
        cadence: &Cadence,
        samples: impl IntoIterator<Item = (Mono, &'a Outcome)>,
    ) -> Self {
        let mut analysis = Self::new(begun);
        for (at, outcome) in samples {
            analysis.take(cadence, outcome, at);
        }
        analysis
    }

    /// So many samples were taken; those that could not be are none.
    pub fn taken(&self) -> u32 {
        self.successes.saturating_add(self.failures).saturating_add(self.inconclusive)
    }

    /// What comes next.
    pub fn next(&self, cadence: &Cadence, now: Mono) -> Next {
        if self.verdict != Verdict::Running {
            return Next::Over;
        }
        let due = match self.last {
            None => self.begun + cadence.initial_delay,
            Some(last) => last + cadence.effective_interval(),
        };
        if now < due { Next::Wait(due) } else { Next::Measure }
    }

    /// A sample was taken at that time. Where there is a verdict it comes too late, and changes nothing.
    pub fn take(&mut self, cadence: &Cadence, outcome: &Outcome, at: Mono) {
        if self.verdict != Verdict::Running {
            return;
        }
        self.last = Some(at);
        let (successes_in_a_row, errors_in_a_row) = (self.successes_in_a_row, self.errors_in_a_row);
        (self.successes_in_a_row, self.errors_in_a_row) = (0, 0);
        match outcome {
            Outcome::Success => {
                self.successes = self.successes.saturating_add(1);
                self.successes_in_a_row = successes_in_a_row.saturating_add(1);
            }
            Outcome::Failure => self.failures = self.failures.saturating_add(1),
            Outcome::Inconclusive => self.inconclusive = self.inconclusive.saturating_add(1),
            Outcome::Error(_) => {
                self.errors = self.errors.saturating_add(1);
                self.errors_in_a_row = errors_in_a_row.saturating_add(1);
            }
        }
        self.verdict = self.judge(cadence, outcome);
    }

    fn judge(&self, cadence: &Cadence, outcome: &Outcome) -> Verdict {
        let Self { successes, failures, inconclusive, errors_in_a_row, successes_in_a_row, .. } = *self;
        if failures > cadence.failure_limit {
            return Verdict::Failed(format!("{failures} failed, and {} may", cadence.failure_limit));
        }
        if inconclusive > cadence.inconclusive_limit {
            let limit = cadence.inconclusive_limit;
            return Verdict::Inconclusive(format!("{inconclusive} inconclusive, and {limit} may be"));
        }
        if let Outcome::Error(why) = outcome
            && errors_in_a_row > cadence.consecutive_error_limit
        {
            let limit = cadence.consecutive_error_limit;
            return Verdict::Error(format!("{errors_in_a_row} errors in a row, and {limit} may be: {why}"));
        }
        let enough = cadence.consecutive_success_limit;
        if enough > 0 && successes_in_a_row >= enough {
            return Verdict::Successful;
        }
        let taken = u64::from(successes) + u64::from(failures) + u64::from(inconclusive);
        match cadence.effective_count() {
            Some(count) if taken >= u64::from(count) && enough > 0 => {
                Verdict::Inconclusive(format!("never {enough} successes in a row within {count} samples"))
            }
            Some(count) if taken >= u64::from(count) => Verdict::Successful,
            _ => Verdict::Running,
        }
    }
}

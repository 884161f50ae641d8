//! What is measured of the version on its way, and what follows from it.
//!
//! An analysis begins with the first target that runs the version, as what is measured before shows nothing of it; or
//! when the stage is done that it comes after. While it runs, it holds up
//! what comes after that stage; one of the whole rollout holds up nobody, but the version is not good before. One
//! that fails makes the version bad at once, with the sample that showed it. One that is unclear holds up everybody
//! until somebody says what it is: that nobody could measure is no evidence against a version.
//!
//! Laws: a sample counts for the analysis that asked for it, once it was due, and for no other; going back measures
//! nothing.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use upbeat_model::Mono;
use upbeat_model::rollout::{
    AnalysisProgress, AnalysisSpec, AnalysisWord, Course, Happened, Measure, Reason, Sample, SampleOutcome,
    Strategy, VALUE_MAX,
};

use super::judge::Position;
use super::{Analysis, Next, Rolling, Rollout, Verdict};

/// An analysis of a rollout, as it was when that began, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// What is measured, and when.
    pub spec: AnalysisSpec,
    /// What the samples say; none: it has not begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// What was found last, or why nothing was: one line of [`VALUE_MAX`] characters at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Who wanted it to go on without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_by: Option<String>,
}

/// What is to be measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Of which rollout.
    pub number: u64,
    /// Now: for which analysis, and what. That which has been due for longest comes first.
    pub now: Vec<(String, Measure)>,
    /// When there is something again that is not due now.
    pub next: Option<Mono>,
}

impl Measured {
    /// Those of a rollout that begins.
    pub(super) fn of(strategy: &Strategy) -> Vec<Self> {
        let new = |spec: &AnalysisSpec| Self {
            spec: spec.clone(),
            analysis: None,
            value: String::new(),
            passed_by: None,
        };
        strategy.analyses.iter().map(new).collect()
    }

    /// It runs, and nobody wants to go on without it.
    fn running(&self) -> Option<&Analysis> {
        let is_one = |analysis: &&Analysis| self.passed_by.is_none() && analysis.verdict == Verdict::Running;
        self.analysis.as_ref().filter(is_one)
    }

    fn is_settled(&self) -> bool {
        let is_successful =
            |analysis: &Analysis| matches!(analysis.verdict, Verdict::Successful | Verdict::Failed(_));
        self.passed_by.is_some() || self.analysis.as_ref().is_some_and(is_successful)
    }

    /// Nobody can say, and why.
    fn unclear(&self) -> Option<&str> {
        match &self.analysis.as_ref().filter(|_| self.passed_by.is_none())?.verdict {
            Verdict::Inconclusive(why) | Verdict::Error(why) => Some(why),
            Verdict::Running | Verdict::Successful | Verdict::Failed(_) => None,
        }
    }

    fn is_after(&self, stage: &str) -> bool {
        self.spec.after.as_deref() == Some(stage)
    }

    fn begin(&mut self, now: Mono) {
        self.analysis.get_or_insert_with(|| Analysis::new(now));
    }

    /// When it is measured next; of one that has not begun, nobody knows.
    fn due(&self) -> Option<Mono> {
        // Asked before all time, every moment is yet to come.
        match self.running()?.next(&self.spec.measure.cadence, Mono(0)) {
            Next::Wait(due) => Some(due),
            Next::Measure => Some(Mono(0)),
            Next::Over => None,
        }
    }

    fn reason(&self) -> Reason {
        let name = self.spec.name.clone();
        if let Some(why) = self.unclear() {
            return Reason::AnalysisUnclear { name, why: why.to_owned() };
        }
        let taken = self.analysis.as_ref().map_or(0, Analysis::taken);
        Reason::Analysing { name, taken, of: self.spec.measure.cadence.effective_count(), next: self.due() }
    }

    fn progress(&self, course: &Course) -> AnalysisProgress {
        let none = Analysis::default();
        let analysis = self.analysis.as_ref().unwrap_or(&none);
        let is_forward = matches!(course, Course::Forward(_));
        let (verdict, why) = match (&self.passed_by, &self.analysis, &analysis.verdict) {
            (Some(by), ..) => (AnalysisWord::PassedOver, by.clone()),
            (None, None, _) if is_forward => (AnalysisWord::Waits, String::new()),
            (None, _, Verdict::Running) if is_forward => (AnalysisWord::Running, String::new()),
            (None, None, _) | (None, _, Verdict::Running) => (AnalysisWord::Ended, String::new()),
            (None, _, Verdict::Successful) => (AnalysisWord::Successful, String::new()),
            (None, _, Verdict::Failed(why)) => (AnalysisWord::Failed, why.clone()),
            (None, _, Verdict::Inconclusive(why)) => (AnalysisWord::Inconclusive, why.clone()),
            (None, _, Verdict::Error(why)) => (AnalysisWord::Error, why.clone()),
        };
        AnalysisProgress {
            name: self.spec.name.clone(),
            after: self.spec.after.clone(),
            verdict,
            why,
            successes: analysis.successes,
            failures: analysis.failures,
            inconclusive: analysis.inconclusive,
            errors: analysis.errors,
            of: self.spec.measure.cadence.effective_count(),
            value: self.value.clone(),
            next: self.due().filter(|_| is_forward),
        }
    }
}

/// What is measured of the version that goes forward.
pub(super) fn analyses(rollout: &Rollout) -> Cow<'_, [Measured]> {
    match (rollout.course(), &rollout.rolling) {
        (Course::Forward(_), Some(rolling)) => Cow::Borrowed(&rolling.analyses),
        // It begins with this decision.
        (Course::Forward(_), None) => Cow::Owned(Measured::of(&rollout.strategy)),
        _ => Cow::Borrowed(&[]),
    }
}

/// Why nobody is moved, and nothing is good: nobody can say what was measured.
pub(super) fn unclear(rollout: &Rollout) -> Option<Reason> {
    analyses(rollout).iter().find(|measured| measured.unclear().is_some()).map(Measured::reason)
}

/// Why nothing follows this stage: something is measured after it.
pub(super) fn holds_stage(rollout: &Rollout, stage: &str) -> Option<Reason> {
    let analyses = analyses(rollout);
    let mut after = analyses.iter().filter(|measured| measured.is_after(stage));
    after.find(|measured| !measured.is_settled()).map(Measured::reason)
}

/// Why the version is not good yet, though enough targets are well on it.
pub(super) fn holds_good(rollout: &Rollout) -> Option<Reason> {
    let analyses = analyses(rollout);
    let mut whole = analyses.iter().filter(|measured| measured.spec.after.is_none());
    let holds = |measured: &&Measured| {
        let can_succeed = measured.spec.measure.cadence.can_succeed();
        !measured.is_settled() && (can_succeed || measured.unclear().is_some())
    };
    whole.find(holds).map(Measured::reason)
}

impl Rolling {
    /// What comes after the stage that is done now, if it waits at its gate.
    pub(super) fn measure_from(&mut self, now: Mono) {
        let Some(stage) = self.stages.get(self.stage).filter(|_| self.at_gate.is_some()) else { return };
        let after = self.analyses.iter_mut().filter(|measured| measured.is_after(&stage.name));
        after.for_each(|measured| measured.begin(now));
    }

    /// A target runs the version: what is measured of it from the beginning on.
    pub(super) fn measure_throughout(&mut self, now: Mono) {
        let whole = self.analyses.iter_mut().filter(|measured| measured.spec.after.is_none());
        whole.for_each(|measured| measured.begin(now));
    }

    fn stage_name(&self) -> Option<&str> {
        self.stages.get(self.stage).map(|stage| stage.name.as_str())
    }

    /// What is measured after the stage it is in, before anything follows that.
    pub(super) fn has_analyses_after(&self) -> bool {
        let stage = self.stage_name();
        stage.is_some_and(|stage| self.analyses.iter().any(|measured| measured.is_after(stage)))
    }
}

impl Rollout {
    /// What is to be measured. The same until something changes, or time passes.
    pub fn due(&self, now: Mono) -> Due {
        let mut due = Due { number: self.number, ..Due::default() };
        let (Course::Forward(_), Some(rolling)) = (self.course(), &self.rolling) else { return due };
        let mut in_order: Vec<(Mono, &AnalysisSpec)> = Vec::new();
        for measured in &rolling.analyses {
            match measured.due() {
                Some(at) if at <= now => in_order.push((at, &measured.spec)),
                Some(at) => due.next = Some(due.next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        in_order.sort_by_key(|(at, _)| *at);
        due.now = in_order.into_iter().map(|(_, spec)| (spec.name.clone(), spec.measure.clone())).collect();
        due
    }

    /// When something is to be measured next; it may have been to be before.
    pub fn next_measure(&self) -> Option<Mono> {
        let (Course::Forward(_), Some(rolling)) = (self.course(), &self.rolling) else { return None };
        rolling.analyses.iter().filter_map(Measured::due).min()
    }

    /// Something was measured for an analysis of this rollout. Returns whether that counts: where the rollout is
    /// another or decided, or the analysis is not due, it comes too late, or twice, and changes nothing.
    pub fn take_sample(&mut self, number: u64, name: &str, sample: Sample, now: Mono) -> bool {
        let course = self.course();
        let Some(rolling) = self.rolling.as_mut().filter(|_| matches!(course, Course::Forward(_))) else {
            return false;
        };
        let is_one = |measured: &&mut Measured| measured.spec.name == name;
        let measured = rolling.analyses.iter_mut().find(is_one).filter(|_| rolling.number == number);
        let Some(measured) = measured.filter(|measured| measured.due().is_some_and(|due| due <= now)) else {
            return false;
        };
        let Some(analysis) = &mut measured.analysis else { return false };
        let outcome = match sample.outcome {
            SampleOutcome::Error(why) => SampleOutcome::Error(line(&why)),
            outcome => outcome,
        };
        measured.value = match &outcome {
            SampleOutcome::Error(why) => why.clone(),
            _ => line(&sample.value),
        };
        analysis.take(&measured.spec.measure.cadence, &outcome, now);
        let (verdict, failed) = match &analysis.verdict {
            Verdict::Running => return true,
            Verdict::Successful => (AnalysisWord::Successful, None),
            Verdict::Failed(why) => (AnalysisWord::Failed, Some(why.clone())),
            Verdict::Inconclusive(_) => (AnalysisWord::Inconclusive, None),
            Verdict::Error(_) => (AnalysisWord::Error, None),
        };
        let (version, value) = (rolling.version.clone(), measured.value.clone());
        self.note(Happened::AnalysisDone { version, name: name.to_owned(), verdict });
        if let Some(why) = failed {
            let reason = Reason::AnalysisFailed { name: name.to_owned(), why, value: value.into() };
            self.condemn(reason, self.counts(now), now);
        }
        true
    }

    /// Somebody wants to go on without those that are unclear; and, where `running` says so, without those that
    /// are measured after the stage that is done. Returns whether there was one.
    pub(super) fn pass_over(&mut self, running: bool, by: &str, now: Mono) -> bool {
        let Some(rolling) = &mut self.rolling else { return false };
        let version = rolling.version.clone();
        let stage = rolling.stages.get(rolling.stage).filter(|_| running && rolling.at_gate.is_some());
        let mut passed = Vec::new();
        for measured in &mut rolling.analyses {
            let waited_for = stage.is_some_and(|stage| measured.is_after(&stage.name));
            if measured.unclear().is_some() || waited_for && !measured.is_settled() {
                measured.passed_by = Some(by.to_owned());
                passed.push(measured.spec.name.clone());
            }
        }
        if !passed.is_empty() {
            // Until now nobody could become well.
            rolling.progressed.at = now;
        }
        let any = !passed.is_empty();
        for name in passed {
            self.note(Happened::AnalysisPassedOver { version: version.clone(), name, by: by.to_owned() });
        }
        any
    }

    /// What is unclear is measured anew. Returns whether there was something.
    pub(super) fn measure_again(&mut self, now: Mono) -> bool {
        let Some(rolling) = &mut self.rolling else { return false };
        let mut any = false;
        for measured in rolling.analyses.iter_mut().filter(|measured| measured.unclear().is_some()) {
            (measured.analysis, measured.value) = (Some(Analysis::new(now)), String::new());
            any = true;
        }
        if any {
            rolling.progressed.at = now;
        }
        any
    }

    /// What is measured after the stage that waits at its gate, and is not successful.
    pub(super) fn measured_at_gate(&self) -> Option<Reason> {
        let position = Position::of(self);
        let stage = self.rolling.as_ref()?.stage_name().filter(|_| position.at_gate.is_some())?;
        holds_stage(self, stage)
    }

    /// How far each analysis is; none where the version is good, or nothing is rolled out.
    pub(super) fn analyses_progress(&self) -> Vec<AnalysisProgress> {
        let course = self.course();
        let rolling = self.rolling.as_ref().filter(|_| !matches!(course, Course::Steady(_) | Course::None));
        let analyses = rolling.map_or(&[][..], |rolling| &rolling.analyses);
        analyses.iter().map(|measured| measured.progress(&course)).collect()
    }
}

/// On one line, and no longer than is kept.
fn line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = plain.take(VALUE_MAX).collect();
    if text.chars().nth(VALUE_MAX).is_some() {
        line.pop();
        line.push('…');
    }
    line
}

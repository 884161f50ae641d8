//! An onlooker that hears what is reported and asked, and sees what is assigned and told; of the machine it
//! knows nothing. It counts anew, in its own way, and says where a promise is broken.

use std::collections::BTreeSet;

use upbeat_model::rollout::{
    AnalysisSpec, Cadence, Gate, Happened, Reason, SampleOutcome, Stage, Strategy, Who,
};

use super::samples::{Measured, Says};
use super::*;

/// What was heard of a target.
#[derive(Clone, Debug)]
struct Heard {
    said: Report,
    /// Since when it is said to be as well, or as unwell, on the same version.
    since: Mono,
    /// When anything was said last.
    last: Mono,
    shall: Option<Version>,
    shall_since: Mono,
    /// Somebody has said that it failed on this.
    given_up: Option<Version>,
    stage: usize,
}

/// A version, on its way or decided.
#[derive(Clone, Debug)]
struct Attempt {
    version: Version,
    /// Whether it turned out to be good.
    verdict: Option<bool>,
    stages: Vec<Stage>,
    stage: usize,
    done: Option<Mono>,
    is_undo: bool,
    measured: Vec<Measured>,
}

impl Attempt {
    fn after(&self, stage: usize) -> impl Iterator<Item = &Measured> {
        let name = self.stages.get(stage).map(|stage| stage.name.as_str());
        self.measured.iter().filter(move |measured| name.is_some() && measured.spec.after.as_deref() == name)
    }

    /// The stage it is in is done, and what is measured after it begins.
    fn done(&mut self, now: Mono) {
        self.done = Some(now);
        let name = Some(self.stages[self.stage].name.clone());
        let after = self.measured.iter_mut().filter(|measured| measured.spec.after == name);
        after.for_each(|measured| measured.begun = measured.begun.or(Some(now)));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Open,
    Well,
    Failed,
}

#[derive(Debug)]
pub(super) struct Checker {
    options: Options,
    strategy: Strategy,
    heard: BTreeMap<TargetId, Heard>,
    attempt: Option<Attempt>,
    good: Option<Version>,
    proven: BTreeSet<Version>,
    /// Until when a version is held to be bad.
    bad: BTreeMap<Version, Option<Mono>>,
    is_paused: bool,
    numbers: BTreeSet<u64>,
    /// When the daemon began that listens now: everybody was seen then.
    woke: Mono,
    /// How often it saw what it watches over: a check that never has anything to look at shows nothing.
    pub seen: BTreeMap<&'static str, usize>,
}

fn whole_seconds(from: Mono, to: Mono) -> u64 {
    (to.0.saturating_sub(from.0)) / 1000
}

fn fits(stage: &Stage, labels: &BTreeMap<String, String>) -> bool {
    let Who::Labels(asked) = &stage.who else { return false };
    asked.iter().all(|(name, value)| labels.get(name) == Some(value))
}

impl Checker {
    pub(super) fn new(options: Options, strategy: Strategy) -> Self {
        Self {
            options,
            strategy,
            heard: BTreeMap::new(),
            attempt: None,
            good: None,
            proven: BTreeSet::new(),
            bad: BTreeMap::new(),
            is_paused: false,
            numbers: BTreeSet::new(),
            woke: Mono(0),
            seen: BTreeMap::new(),
        }
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Something was reported, and all these were there afterwards.
    pub(super) fn hear(&mut self, reports: &[Report], there: &BTreeSet<TargetId>, now: Mono) {
        for said in reports {
            let good = self.good.clone();
            let heard = self.heard.entry(said.target.clone()).or_insert_with(|| Heard {
                said: said.clone(),
                since: now,
                last: now,
                shall: good,
                shall_since: now,
                given_up: None,
                stage: 0,
            });
            if (&heard.said.version, heard.said.is_error) != (&said.version, said.is_error) {
                heard.since = now;
            }
            (heard.said, heard.last) = (said.clone(), now);
        }
        self.forget(there, now);
    }

    pub(super) fn give_up(&mut self, target: &TargetId) {
        if let Some(heard) = self.heard.get_mut(target) {
            heard.given_up = heard.shall.clone();
        }
    }

    /// What was kept of when anybody was heard may be older than what was.
    pub(super) fn restart(&mut self, kept: &Rollout, now: Mono) {
        self.woke = now;
        for (id, heard) in &mut self.heard {
            heard.last = kept.targets[id].seen;
        }
    }

    /// The options that hold for whoever is moved in that stage.
    fn options(&self, stage: usize) -> Options {
        let open = self.attempt.as_ref().filter(|attempt| attempt.verdict.is_none());
        let stage = open.and_then(|attempt| attempt.stages.get(stage));
        let own = stage.map(|stage| stage.options).unwrap_or_default();
        Options {
            batch: own.batch.unwrap_or(self.options.batch),
            success_percent: own.success_percent.unwrap_or(self.options.success_percent),
            success_timeout: own.success_timeout.unwrap_or(self.options.success_timeout),
            duration_timeout: own.duration_timeout.unwrap_or(self.options.duration_timeout),
        }
    }

    fn has_failed_by_word(heard: &Heard) -> bool {
        heard.shall.is_some() && (heard.said.failed || heard.given_up == heard.shall)
    }

    fn how(&self, heard: &Heard, now: Mono) -> How {
        let options = self.options(heard.stage);
        if Self::has_failed_by_word(heard) {
            return How::Failed;
        }
        let is_well = heard.said.version == heard.shall
            && !heard.said.is_error
            && whole_seconds(heard.since, heard.last) > options.success_timeout.0 / 1000;
        match whole_seconds(heard.shall_since, now) > options.duration_timeout.0 / 1000 {
            _ if is_well => How::Well,
            true => How::Failed,
            false => How::Open,
        }
    }

    fn count(&self, version: &Version, how: How, now: Mono, is_one: impl Fn(&Heard) -> bool) -> usize {
        let on_it =
            self.heard.values().filter(|heard| heard.shall.as_ref() == Some(version) && is_one(heard));
        on_it.filter(|heard| self.how(heard, now) == how).count()
    }

    fn serves(&self, heard: &Heard, version: &Version, now: Mono) -> bool {
        match heard.shall.as_ref() == Some(version) {
            true => self.how(heard, now) == How::Well,
            false => heard.said.version.is_some() && !heard.said.is_error && !Self::has_failed_by_word(heard),
        }
    }

    /// How many a stage that has begun is for: those moved in it, and those that could be.
    fn members(&self, attempt: &Attempt, n: usize) -> usize {
        let has_it = |heard: &&Heard| heard.shall.as_ref() == Some(&attempt.version);
        let moved = self.heard.values().filter(has_it).filter(|heard| heard.stage == n).count();
        let others = self.heard.values().filter(|heard| !has_it(heard));
        let first = |heard: &Heard| attempt.stages.iter().position(|stage| fits(stage, &heard.said.labels));
        let unclaimed = others.clone().filter(|heard| first(heard).is_none_or(|first| first > n)).count();
        match attempt.stages[n].who {
            Who::Labels(_) => moved + others.filter(|heard| first(heard) == Some(n)).count(),
            Who::Amount(amount) if n == attempt.stage => {
                let quota = amount.of(self.heard.len()).max(1);
                moved + unclaimed.min(quota.saturating_sub(moved))
            }
            Who::Amount(_) => moved,
            Who::Rest => moved + unclaimed,
        }
    }

    fn is_over_budget(&self, now: Mono) -> bool {
        let Some(attempt) = self.attempt.as_ref().filter(|attempt| attempt.verdict.is_none()) else {
            return false;
        };
        let total = self.heard.len();
        let may = |budget: Option<Amount>, total: usize, percent: u32| match budget {
            Some(budget) => budget.of(total),
            None => total - (total * percent as usize / 100).max(usize::from(percent > 0)).min(total),
        };
        let whole = may(self.strategy.failure_budget, total, self.options.success_percent);
        let stages = (0..attempt.stages.len()).take(attempt.stage + 1).any(|n| {
            let budget = attempt.stages[n].failure_budget;
            let may = may(budget, self.members(attempt, n), self.options(n).success_percent);
            self.count(&attempt.version, How::Failed, now, |heard| heard.stage == n) > may
        });
        total > 0 && (self.count(&attempt.version, How::Failed, now, |_| true) > whole || stages)
    }

    /// As far as what was heard lets it go on.
    fn advance(&mut self, now: Mono) {
        let Some(mut attempt) = self.attempt.clone().filter(|attempt| attempt.verdict.is_none()) else {
            return;
        };
        while attempt.stage < attempt.stages.len() && !self.heard.is_empty() {
            let (n, gate) = (attempt.stage, attempt.stages[attempt.stage].gate);
            if attempt.done.is_none() {
                let members = self.members(&attempt, n);
                let percent = self.options(n).success_percent as usize;
                let required = (members * percent / 100).max(1);
                let well = self.count(&attempt.version, How::Well, now, |heard| heard.stage == n);
                if members > 0 && well < required {
                    break;
                }
                attempt.done(now);
            }
            let since = attempt.done.unwrap();
            let is_open = match gate {
                Gate::None => true,
                Gate::Approval => false,
                Gate::Pause(time) => now.0 - since.0 >= time.0,
            };
            if !is_open || !attempt.after(n).all(Measured::is_settled) {
                break;
            }
            (attempt.stage, attempt.done) = (n + 1, None);
        }
        self.attempt = Some(attempt);
    }

    /// A decision was taken on.
    pub(super) fn see(
        &mut self,
        after: &BTreeMap<TargetId, Option<Version>>,
        happened: &[Happened],
        is_open: bool,
        now: Mono,
    ) {
        let is_of_targets = |happened: &&Happened| matches!(happened, Happened::Forgotten { .. });
        let mut happened = happened.iter().filter(|happened| !is_of_targets(happened)).peekable();
        if self.attempt.is_none()
            && let Some(began @ Happened::Began { .. }) = happened.peek()
        {
            self.tell(began, now);
            happened.next();
        }
        self.run_first(now);
        let is_over = self.is_over_budget(now);
        if !is_over {
            self.advance(now);
        }
        self.moved(after, is_over, is_open, now);
        let rest: Vec<&Happened> = happened.collect();
        let is_bad = rest.iter().any(|happened| matches!(happened, Happened::Bad { .. }));
        assert!(is_bad || !is_over, "too many failed, and nobody says so");
        let by_failures = |happened: &&Happened| match happened {
            Happened::Bad { why, .. } => {
                matches!(why, Reason::TooManyFailed { .. } | Reason::StageFailed { .. })
            }
            _ => false,
        };
        assert!(is_over || !rest.iter().any(by_failures), "it is said to be bad before too many failed");
        if is_over {
            self.saw("over budget");
        }
        let says_halted = rest.iter().any(|happened| matches!(happened, Happened::Halted { .. }));
        assert_eq!(
            says_halted,
            is_bad && self.good.is_none(),
            "where nothing was good it halts, and says so"
        );
        rest.into_iter().for_each(|happened| self.tell(happened, now));
    }

    /// Whoever was not heard of for a quarter of an hour, and nobody else.
    fn forget(&mut self, there: &BTreeSet<TargetId>, now: Mono) {
        let mut gone = 0;
        for (id, heard) in &self.heard {
            let silent = now.0 - heard.last.max(self.woke).0;
            assert_eq!(there.contains(id), silent <= 900_000, "{id} was silent for {silent} ms");
            gone += usize::from(!there.contains(id));
        }
        *self.seen.entry("forgotten").or_default() += gone;
        self.heard.retain(|id, _| there.contains(id));
    }

    /// What is measured throughout begins with the first target that runs what it shall.
    fn run_first(&mut self, now: Mono) {
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.verdict.is_none()) else { return };
        let version = Some(&attempt.version);
        let runs_it =
            |heard: &Heard| heard.shall.as_ref() == version && heard.said.version.as_ref() == version;
        if self.heard.values().any(runs_it) {
            let whole = attempt.measured.iter_mut().filter(|measured| measured.spec.after.is_none());
            whole.for_each(|measured| _ = measured.begun.get_or_insert(now));
        }
    }

    fn moved(
        &mut self,
        after: &BTreeMap<TargetId, Option<Version>>,
        is_over: bool,
        is_open: bool,
        now: Mono,
    ) {
        let moved: Vec<TargetId> = after
            .iter()
            .filter(|(id, shall)| self.heard[id].shall != **shall)
            .map(|(id, _)| id.clone())
            .collect();
        let Some(first) = moved.first() else { return };
        let to = after[first].clone().expect("nobody is moved to nothing");
        assert!(moved.iter().all(|id| after[id].as_ref() == Some(&to)), "one version at a time");
        let attempt = self.attempt.clone().expect("somebody is moved before anything began");
        let goes_back = attempt.verdict == Some(false) || attempt.is_undo;
        match attempt.verdict {
            Some(false) => {
                assert_ne!(to, attempt.version, "it has failed");
                assert!(self.proven.contains(&to), "{to} was never shown to be good");
                assert_eq!(Some(&to), self.good.as_ref());
                self.saw("back");
            }
            _ => assert_eq!(to, attempt.version),
        }
        assert!(!is_over, "too many have failed, and {moved:?} are moved all the same");
        assert!(is_open || goes_back, "it is closed");
        assert!(!self.is_paused || attempt.verdict.is_some(), "it is paused");
        if attempt.verdict.is_none() {
            assert!(!attempt.measured.iter().any(Measured::is_unclear), "nobody knows how it is");
            self.saw(if attempt.measured.is_empty() { "moved" } else { "moved and measured" });
        }
        let serving = |id: &&TargetId| self.serves(&self.heard[*id], &to, now);
        let stop_serving = moved.iter().filter(serving).count();
        if let Some(may) = self.strategy.max_unavailable
            && stop_serving > 0
        {
            let serve = self.heard.values().filter(|heard| self.serves(heard, &to, now)).count();
            let unwell = self.heard.len() - serve + stop_serving;
            let may = may.of(self.heard.len()).max(1);
            assert!(unwell <= may, "{unwell} are unwell, and {may} may be");
            self.saw("unavailable");
        }
        let mut slots = self.options.batch.of(self.heard.len()).max(1);
        if attempt.verdict.is_none() && !attempt.stages.is_empty() {
            slots = self.in_stage(&attempt, &moved, slots);
        }
        let there = self.count(&to, How::Open, now, |_| true);
        assert!(there + moved.len() <= slots, "{there} were on their way, {} more, of {slots}", moved.len());
        for id in moved {
            let stage = self.stage_of(&attempt, &id);
            let heard = self.heard.get_mut(&id).unwrap();
            (heard.shall, heard.shall_since, heard.stage) = (Some(to.clone()), now, stage);
            (heard.given_up, heard.said.failed) = (None, false);
        }
    }

    /// In which it is moved now; behind all where its turn has not come.
    fn stage_of(&self, attempt: &Attempt, id: &TargetId) -> usize {
        let labels = &self.heard[id].said.labels;
        let labelled = attempt.stages.iter().position(|stage| fits(stage, labels));
        let is_for_labels = |n: usize| matches!(attempt.stages[n].who, Who::Labels(_));
        match (labelled, attempt.stage.min(attempt.stages.len().saturating_sub(1))) {
            (Some(labelled), current) if labelled <= current => labelled,
            (_, current) if attempt.stages.is_empty() || !is_for_labels(current) => current,
            _ => usize::MAX,
        }
    }

    /// Nobody before their turn. Returns how many may be on their way in it.
    fn in_stage(&mut self, attempt: &Attempt, moved: &[TargetId], slots: usize) -> usize {
        assert!(attempt.done.is_none(), "it waits for {:?}", attempt.stages[attempt.stage].gate);
        for id in moved {
            let stage = self.stage_of(attempt, id);
            assert!(stage <= attempt.stage, "{id} is moved before its turn, in stage {}", attempt.stage);
        }
        let Some(stage) = attempt.stages.get(attempt.stage) else { return slots };
        if let Who::Amount(amount) = stage.who {
            let has_it = |heard: &&Heard| heard.shall.as_ref() == Some(&attempt.version);
            let there =
                self.heard.values().filter(has_it).filter(|heard| heard.stage == attempt.stage).count();
            let more = moved.iter().filter(|id| self.stage_of(attempt, id) == attempt.stage).count();
            let quota = amount.of(self.heard.len()).max(1);
            assert!(there + more <= quota, "a stage of {quota} has {}", there + more);
            self.saw("amount");
        }
        self.saw(if attempt.stage == 0 { "first stage" } else { "later stage" });
        stage.options.batch.map_or(slots, |batch| batch.of(self.members(attempt, attempt.stage)).max(1))
    }

    fn decided(&mut self, version: &Version, verdict: bool) {
        let attempt = self.attempt.as_mut().expect("a verdict on nothing");
        assert_eq!((&attempt.version, attempt.verdict), (version, None), "a verdict on what is on its way");
        (attempt.verdict, self.is_paused) = (Some(verdict), false);
    }

    /// What is told, also of what people asked.
    pub(super) fn tell(&mut self, happened: &Happened, now: Mono) {
        let at =
            |attempt: &Attempt, name: &String| attempt.stages.iter().position(|stage| stage.name == *name);
        match happened {
            Happened::Began { number, version, .. } => self.began(*number, version, now),
            Happened::Good { version, why } => {
                if !matches!(why, Reason::Promoted { .. }) {
                    let total = self.heard.len();
                    let required = (total * self.options.success_percent as usize / 100).max(1);
                    let well = self.count(version, How::Well, now, |_| true);
                    assert!(well >= required, "{well} of {total} are well on {version}");
                    let attempt = self.attempt.as_ref().unwrap();
                    assert_eq!(attempt.stage, attempt.stages.len(), "stages are left");
                    for measured in &attempt.measured {
                        let never = measured.spec.measure.cadence.count.is_none() && !measured.is_unclear();
                        assert!(measured.is_settled() || never, "{measured:?} is not successful");
                    }
                }
                self.decided(version, true);
                self.saw("good");
                (self.good, _) = (Some(version.clone()), self.proven.insert(version.clone()));
            }
            Happened::Bad { version, .. } => {
                self.decided(version, false);
                let until = self.strategy.known_bad_for.map(|time| now + time);
                self.bad.insert(version.clone(), until);
                self.saw("bad");
            }
            Happened::RollingBack { to, .. } => assert!(self.proven.contains(to)),
            Happened::Halted { .. } => {
                assert_eq!(self.good, None, "there is a good one");
                self.saw("halted");
            }
            Happened::RolledBack { to, .. } => {
                assert!(
                    self.heard.values().all(|heard| heard.shall.as_ref() == Some(to)),
                    "not all are back"
                );
                self.saw("rolled back");
            }
            Happened::Approved { stage, .. } => {
                let attempt = self.attempt.as_mut().unwrap();
                assert!(attempt.done.is_some() && at(attempt, stage) == Some(attempt.stage));
                assert!(attempt.after(attempt.stage).all(Measured::is_settled), "it is measured");
                (attempt.stage, attempt.done) = (attempt.stage + 1, None);
                self.saw("approved");
            }
            Happened::Promoted { stage: Some(name), .. } => {
                let attempt = self.attempt.as_mut().unwrap();
                assert_eq!(at(attempt, name), Some(attempt.stage));
                let gate = attempt.stages[attempt.stage].gate;
                let is_measured = attempt.after(attempt.stage).next().is_some();
                match attempt.done {
                    None if gate != Gate::None || is_measured => attempt.done(now),
                    _ => (attempt.stage, attempt.done) = (attempt.stage + 1, None),
                }
            }
            Happened::Undone { to, .. } => {
                assert!(self.proven.contains(to), "{to} was never good");
                let is_bad = self.bad.get(to).is_some_and(|until| until.is_none_or(|until| now < until));
                assert!(!is_bad, "{to} is held to be bad");
                self.good = Some(to.clone());
                self.saw("undone");
            }
            Happened::Paused { .. } => self.is_paused = true,
            Happened::Resumed { .. } => self.is_paused = false,
            Happened::AnalysisPassedOver { name, .. } => self.passed_over(name),
            _ => {}
        }
    }

    fn passed_over(&mut self, name: &str) {
        let attempt = self.attempt.as_mut().unwrap();
        let at_gate = attempt.stages.get(attempt.stage).filter(|_| attempt.done.is_some());
        let at_gate = at_gate.map(|stage| stage.name.clone());
        let measured = attempt.measured.iter_mut().find(|measured| measured.spec.name == name).unwrap();
        assert!(!measured.is_settled());
        assert!(measured.is_unclear() || at_gate.is_some() && measured.spec.after == at_gate);
        measured.is_passed = true;
        self.saw("passed over");
    }

    /// Something was measured, and whether it was taken down. Returns whether the version is bad by it.
    pub(super) fn measured(&mut self, name: &str, outcome: &SampleOutcome, taken: bool, now: Mono) -> bool {
        let open = self.attempt.as_mut().filter(|attempt| attempt.verdict.is_none());
        let measured =
            open.and_then(|attempt| attempt.measured.iter_mut().find(|measured| measured.spec.name == name));
        let is_due = |measured: &Measured| {
            let Cadence { initial_delay, interval, .. } = measured.spec.measure.cadence;
            let (Some(begun), wait) = (measured.begun, interval.unwrap_or(Cadence::RETRY)) else {
                return false;
            };
            let due = measured.last.map_or(begun + initial_delay, |last| last + wait);
            now >= due && !measured.is_passed && measured.says() == Says::Nothing
        };
        let due = measured.filter(|measured| is_due(measured));
        assert_eq!(taken, due.is_some(), "`{name}` is taken down when it is due, and only then");
        let Some(measured) = due else { return false };
        measured.samples.push(outcome.clone());
        measured.last = Some(now);
        let says = measured.says();
        match says {
            Says::Nothing => {}
            Says::Yes => self.saw("successful"),
            Says::No => self.saw("failed analysis"),
            Says::Unclear => self.saw("unclear"),
        }
        says == Says::No
    }

    /// What is unclear is measured anew.
    pub(super) fn again(&mut self, now: Mono) {
        let open = self.attempt.as_mut().filter(|attempt| attempt.verdict.is_none());
        let unclear = open.into_iter().flat_map(|attempt| &mut attempt.measured);
        for measured in unclear.filter(|measured| measured.is_unclear()) {
            (measured.begun, measured.last) = (Some(now), None);
            measured.samples.clear();
        }
    }

    fn began(&mut self, number: u64, version: &Version, now: Mono) {
        assert!(self.numbers.last().is_none_or(|last| *last < number), "a number comes again");
        self.numbers.insert(number);
        let is_good = self.good.as_ref() == Some(version);
        let stages = if is_good { Vec::new() } else { self.strategy.whole() };
        let mut room: Vec<usize> = stages
            .iter()
            .map(|stage| match stage.who {
                Who::Amount(amount) => amount.of(self.heard.len()).max(1),
                Who::Labels(_) | Who::Rest => usize::MAX,
            })
            .collect();
        self.heard.values_mut().for_each(|heard| heard.given_up = None);
        for heard in self.heard.values_mut().filter(|heard| heard.shall.as_ref() == Some(version)) {
            let labels = &heard.said.labels;
            let is_one = |n: &usize| match stages[*n].who {
                Who::Labels(_) => fits(&stages[*n], labels),
                Who::Amount(_) | Who::Rest => room[*n] > 0,
            };
            heard.stage = (0..stages.len()).find(is_one).unwrap_or(0);
            if let Some(room) = room.get_mut(heard.stage) {
                *room = room.saturating_sub(1);
            }
            (heard.shall_since, heard.said.failed) = (now, false);
        }
        let verdict = is_good.then_some(true);
        let new = |spec: &AnalysisSpec| {
            let samples = Vec::new();
            Measured { spec: spec.clone(), begun: None, last: None, samples, is_passed: false }
        };
        let analyses = if is_good { &[][..] } else { &self.strategy.analyses };
        let (version, measured) = (version.clone(), analyses.iter().map(new).collect());
        let attempt = Attempt { version, verdict, stages, stage: 0, done: None, is_undo: false, measured };
        (self.attempt, self.is_paused) = (Some(attempt), false);
    }

    /// Somebody wants it all the same.
    pub(super) fn forgive(&mut self, version: &Version) {
        self.bad.remove(version);
    }

    /// What somebody wanted undone goes back also when it is closed.
    pub(super) fn undone(&mut self) {
        self.attempt.as_mut().unwrap().is_undo = true;
    }
}

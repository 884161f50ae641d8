//! What people and controllers ask of an entity.

use upbeat_model::Mono;
use upbeat_model::rollout::{
    Caution, Concurrency, Gate, Happened, Options, OptionsError, Reason, Strategy, StrategyError, TargetId,
    Version,
};

use super::judge::Position;
use super::{Bad, Course, Failure, Pause, Rolling, Rollout};

/// Something that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All targets shall run this version: when the one that is rolled out now is good or bad, unless the
    /// strategy says otherwise ([`Concurrency`]).
    SetVersion(Version),
    /// The same, at once: what is rolled out now is held to be bad, and what is known of this one is not held
    /// against it any more.
    ForceVersion(Version),
    /// How carefully; none: as without being asked.
    SetOptions(Option<Options>),
    /// In which stages, and within which limits; none: as without being asked. What is on its way keeps the
    /// stages it began with.
    SetStrategy(Option<Box<Strategy>>),
    /// No target is moved for now. Those on their way are judged all the same.
    Pause {
        /// Who says so.
        by: String,
    },
    /// Targets are moved again.
    Resume,
    /// What is rolled out now is bad.
    Abort {
        /// Who says so.
        by: String,
        /// Why.
        why: String,
    },
    /// What waits at the gate of a stage goes on; and what waits for somebody to say what was measured, too.
    Approve {
        /// Who says so.
        by: String,
    },
    /// One step forward: beyond the gate it waits at and what is measured there, or else the stage it is in is
    /// taken for done. Beyond the last, or where there are no stages, what is rolled out now is good.
    Promote {
        /// Who says so.
        by: String,
    },
    /// What is rolled out now is good, whatever it waits for.
    PromoteAll {
        /// Who says so.
        by: String,
    },
    /// Back to the version that was good before the one in force, at once and without stages, gates or windows.
    Undo {
        /// Who says so.
        by: String,
    },
    /// A version is as if it had not been asked for: whoever was moved to it goes back to what was good before it,
    /// at once and without stages, gates or windows. Where nothing was, and it is not good yet, it is bad. Done
    /// twice, it is as if done once.
    Withdraw {
        /// Which; of another, nothing is withdrawn.
        version: Version,
        /// What was good before it.
        good: Option<Version>,
        /// What had been asked for before it.
        target: Option<Version>,
        /// Who says so.
        by: String,
        /// Why.
        why: String,
    },
    /// A target has failed on the version in force, and is not to be waited for. That holds until it is given a
    /// version anew, or another rollout begins.
    Fail {
        /// Which.
        target: TargetId,
        /// Who says so.
        by: String,
        /// Why.
        why: String,
    },
    /// The version that is held to be bad is tried again; or, of one that is on its way, what is unclear is measured
    /// anew.
    Retry,
    /// A version is not held to be bad any more, or until then only.
    Forgive {
        /// Which.
        version: Version,
        /// Until when it still is; none: not from now on.
        until: Option<Mono>,
    },
}

/// Why something is not done. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is known to be bad.
    #[error("version `{version}` is known to be bad: {}", bad.reason)]
    KnownBad {
        /// Which.
        version: Version,
        /// Why, and since when.
        bad: Bad,
    },
    /// A field cannot be.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// No version is on its way.
    #[error("nothing is being rolled out: {0}")]
    NothingRolls(&'static str),
    /// It is not paused.
    #[error("it is not paused")]
    NotPaused,
    /// No version is held to be bad.
    #[error("there is nothing to retry: the version that was asked for last is not held to be bad")]
    NothingToRetry,
    /// It is not known to be bad.
    #[error("version `{0}` is not known to be bad")]
    NotBad(Version),
    /// A field of the strategy cannot be.
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    /// Another version is on its way, and no second is taken.
    #[error("version `{running}` is on its way: wait for it, abort it, or force `{version}`")]
    Busy {
        /// Which is on its way.
        running: Version,
        /// Which was asked for.
        version: Version,
    },
    /// No approval is waited for.
    #[error("there is nothing to approve: {0}")]
    NothingToApprove(String),
    /// There is nothing to go back to.
    #[error("there is no version to go back to: {0}")]
    NothingBefore(&'static str),
    /// Nobody has reported it.
    #[error("there is no target `{0}`")]
    NoSuchTarget(TargetId),
    /// It has nothing to fail on.
    #[error("target `{0}` cannot have failed: the version in force was not assigned to it")]
    NotAssigned(TargetId),
}

impl Rollout {
    /// Does what is asked. Returns what will most likely not be what was meant.
    ///
    /// Errors: it is not done, and nothing has changed.
    pub fn change(&mut self, change: Change, now: Mono) -> Result<Vec<Caution>, Refused> {
        self.change_by(change, None, now)
    }

    /// The same, and who asks for it, where the change itself does not say: for the history.
    pub fn change_by(
        &mut self,
        change: Change,
        by: Option<&str>,
        now: Mono,
    ) -> Result<Vec<Caution>, Refused> {
        let asked_by = by.map(str::to_owned);
        match change {
            Change::SetVersion(version) => self.set_version(version, asked_by, now)?,
            Change::ForceVersion(version) => self.force_version(version, asked_by, now),
            Change::SetOptions(options) => {
                let options = options.unwrap_or_default();
                let cautions = options.check()?;
                self.options = options;
                return Ok(cautions);
            }
            Change::SetStrategy(strategy) => {
                return self.set_strategy(strategy.map_or_else(Strategy::default, |strategy| *strategy), now);
            }
            Change::Pause { by } => {
                self.under_way()?;
                if self.pause.is_none() {
                    self.note(Happened::Paused { by: by.clone() });
                    self.pause = Some(Pause { by, at: now });
                }
            }
            Change::Resume => {
                self.pause.take().ok_or(Refused::NotPaused)?;
                self.goes_on(now);
                self.note(Happened::Resumed { by: asked_by });
            }
            Change::Abort { by, why } => {
                self.under_way()?;
                self.condemn(Reason::Aborted { by, why }, self.counts(now), now);
            }
            Change::Approve { by } => self.approve(by, now)?,
            Change::Promote { by } => self.promote(by, now)?,
            Change::PromoteAll { by } => {
                let version = self.under_way()?;
                self.note(Happened::Promoted { version, stage: None, by: by.clone() });
                self.prove(Reason::Promoted { by }, self.counts(now), now);
            }
            Change::Undo { by } => self.undo(by, now)?,
            Change::Withdraw { version, good, target, by, why } => {
                if self.target.as_ref() == Some(&version) {
                    self.withdraw(&version, good, target, (by, why), now);
                }
            }
            Change::Fail { target, by, why } => self.fail(target, by, why)?,
            Change::Retry => self.retry(asked_by, now)?,
            Change::Forgive { version, until } => self.forgive(version, until)?,
        }
        Ok(Vec::new())
    }

    /// Several, one after the other: all are done, or none. What comes before one that is refused may be options
    /// and strategy alone.
    ///
    /// Errors: none is done.
    pub fn change_all(
        &mut self,
        changes: Vec<Change>,
        by: Option<&str>,
        now: Mono,
    ) -> Result<Vec<Caution>, Refused> {
        let (options, strategy, rolling) = (self.options, self.strategy.clone(), self.rolling.clone());
        let mut cautions = Vec::new();
        for change in changes {
            match self.change_by(change, by, now) {
                Ok(more) => cautions.extend(more),
                Err(refused) => {
                    (self.options, self.strategy, self.rolling) = (options, strategy, rolling);
                    return Err(refused);
                }
            }
        }
        Ok(cautions)
    }

    fn set_strategy(&mut self, strategy: Strategy, now: Mono) -> Result<Vec<Caution>, Refused> {
        let cautions = strategy.check(&self.options)?;
        self.strategy = strategy;
        self.goes_on(now);
        Ok(cautions)
    }

    /// Until now nobody could become well; the deadline for that begins anew.
    fn goes_on(&mut self, now: Mono) {
        if let Some(rolling) = &mut self.rolling {
            rolling.progressed.at = now;
        }
    }

    fn set_version(&mut self, version: Version, by: Option<String>, now: Mono) -> Result<(), Refused> {
        // To say again what was said is no news: a bad version stays bad, and is not refused for that.
        if self.target.as_ref() == Some(&version) {
            return Ok(());
        }
        if let Some(bad) = self.is_known_bad(&version, now) {
            return Err(Refused::KnownBad { bad: bad.clone(), version });
        }
        let running = self.rolling.as_ref().filter(|_| matches!(self.course(), Course::Forward(_)));
        let running = running.map(|rolling| rolling.version.clone()).filter(|running| *running != version);
        match (running, self.strategy.concurrency) {
            (Some(running), Concurrency::Refuse) => return Err(Refused::Busy { running, version }),
            (Some(_), Concurrency::Replace) => {
                self.supersede(version.clone(), now);
                (self.target, self.asked_by) = (Some(version.clone()), by);
                self.roll(version, now);
            }
            _ => (self.target, self.asked_by) = (Some(version), by),
        }
        Ok(())
    }

    fn force_version(&mut self, version: Version, by: Option<String>, now: Mono) {
        self.known_bad.remove(&version);
        self.bad.take_if(|bad| *bad == version);
        let is_under_way = matches!(self.course(), Course::Forward(_));
        self.asked_by = by;
        match self.rolling.as_ref().filter(|rolling| rolling.version == version) {
            Some(_) => {
                if is_under_way {
                    self.supersede(version.clone(), now);
                }
                self.roll(version.clone(), now);
            }
            None if is_under_way => {
                self.condemn(Reason::Forced { by: version.clone() }, self.counts(now), now);
            }
            None => {}
        }
        self.target = Some(version);
        self.pause = None;
    }

    /// The version that is on its way forward.
    fn under_way(&mut self) -> Result<Version, Refused> {
        match self.course() {
            Course::Forward(version) if self.rolling.is_some() => Ok(version),
            Course::Forward(_) => Err(Refused::NothingRolls("its rollout begins with the next report")),
            Course::None => Err(Refused::NothingRolls("no version was asked for")),
            Course::Steady(_) => Err(Refused::NothingRolls("its version is good")),
            Course::Back { .. } => {
                Err(Refused::NothingRolls("it goes back to the last good version already"))
            }
            Course::Halted(_) => Err(Refused::NothingRolls("its version is held to be bad already")),
        }
    }

    fn approve(&mut self, by: String, now: Mono) -> Result<(), Refused> {
        let nothing = |text: String| Refused::NothingToApprove(text);
        let version = self.under_way().map_err(|error| nothing(error.to_string()))?;
        let has_passed = self.pass_over(false, &by, now);
        let gate = self.rolling.as_ref().and_then(Rolling::gate);
        let stage = match (self.measured_at_gate(), gate) {
            (None, Some((stage, Gate::Approval))) => stage.to_owned(),
            _ if has_passed => return Ok(()),
            (Some(measured), _) => return Err(nothing(format!("{measured}; `promote` goes on without it"))),
            (None, Some((stage, gate))) => {
                return Err(nothing(format!("it waits for {gate} after stage `{stage}`")));
            }
            (None, None) => return Err(nothing("it waits at no gate".to_owned())),
        };
        self.note(Happened::Approved { version, stage, by });
        self.next_stage(now);
        Ok(())
    }

    fn promote(&mut self, by: String, now: Mono) -> Result<(), Refused> {
        let version = self.under_way()?;
        self.pass_over(true, &by, now);
        let Some(rolling) = self.rolling.as_mut() else { return Ok(()) };
        let stage = rolling.stages.get(rolling.stage).cloned();
        let waits = rolling.gate().is_some();
        let is_last = rolling.stage + 1 >= rolling.stages.len();
        let is_measured = rolling.has_analyses_after();
        let name = stage.as_ref().map(|stage| stage.name.clone());
        self.note(Happened::Promoted { version, stage: name, by: by.clone() });
        match stage {
            Some(_) if waits => self.next_stage(now),
            Some(stage) if stage.gate != Gate::None || is_measured => self.stand_at_gate(now),
            Some(_) if !is_last => self.next_stage(now),
            _ => self.prove(Reason::Promoted { by }, self.counts(now), now),
        }
        Ok(())
    }

    fn next_stage(&mut self, now: Mono) {
        let counts = self.counts(now);
        if let Some(rolling) = &mut self.rolling {
            let position = Position { stage: rolling.stage + 1, at_gate: None };
            rolling.begin_stage(position, counts, now);
        }
    }

    fn stand_at_gate(&mut self, now: Mono) {
        if let Some(rolling) = &mut self.rolling {
            rolling.at_gate = Some(now);
            rolling.measure_from(now);
        }
    }

    fn fail(&mut self, id: TargetId, by: String, why: String) -> Result<(), Refused> {
        let version = self.in_force();
        let Some(target) = self.targets.get(&id) else { return Err(Refused::NoSuchTarget(id)) };
        let version = version.filter(|version| target.assigned.version.as_ref() == Some(version));
        let Some(version) = version else { return Err(Refused::NotAssigned(id)) };
        if let Some(target) = self.targets.get_mut(&id) {
            target.failed = Some(Box::new(Failure { version, by: Some(by), why }));
        }
        Ok(())
    }

    fn retry(&mut self, by: Option<String>, now: Mono) -> Result<(), Refused> {
        if matches!(self.course(), Course::Forward(_)) && self.measure_again(now) {
            return Ok(());
        }
        let bad =
            self.rolling.as_ref().filter(|rolling| rolling.is_bad).map(|rolling| rolling.version.clone());
        let version = bad.filter(|bad| self.target.as_ref() == Some(bad)).ok_or(Refused::NothingToRetry)?;
        self.force_version(version, by, now);
        Ok(())
    }

    fn forgive(&mut self, version: Version, until: Option<Mono>) -> Result<(), Refused> {
        let Some(bad) = self.known_bad.get_mut(&version) else { return Err(Refused::NotBad(version)) };
        match until {
            Some(_) => bad.until = until,
            None => drop(self.known_bad.remove(&version)),
        }
        Ok(())
    }
}

impl Rolling {
    /// The stage that is done and the gate it waits at after that, if it does.
    fn gate(&self) -> Option<(&str, Gate)> {
        let stage = self.stages.get(self.stage).filter(|_| self.at_gate.is_some())?;
        Some((&stage.name, stage.gate))
    }
}

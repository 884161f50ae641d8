//! What people and controllers ask of an entity.

use upbeat_model::Mono;
use upbeat_model::rollout::{Caution, Options, OptionsError, Reason, Version};

use super::{Bad, Course, Pause, Rollout};

/// Something that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All targets shall run this version: when the one that is rolled out now is good or bad.
    SetVersion(Version),
    /// The same, at once: what is rolled out now is held to be bad, and what is known of this one is not held
    /// against it any more.
    ForceVersion(Version),
    /// How carefully; none: as without being asked.
    SetOptions(Option<Options>),
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
    /// What is rolled out now is good.
    Promote,
    /// The version that is held to be bad is tried again.
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
}

impl Rollout {
    /// Does what is asked. Returns what will most likely not be what was meant.
    ///
    /// Errors: it is not done, and nothing has changed.
    pub fn change(&mut self, change: Change, now: Mono) -> Result<Vec<Caution>, Refused> {
        match change {
            Change::SetVersion(version) => self.set_version(version, now)?,
            Change::ForceVersion(version) => self.force_version(version, now),
            Change::SetOptions(options) => {
                let options = options.unwrap_or_default();
                let cautions = options.check()?;
                self.options = options;
                return Ok(cautions);
            }
            Change::Pause { by } => {
                self.under_way()?;
                self.pause.get_or_insert(Pause { by, at: now });
            }
            Change::Resume => drop(self.pause.take().ok_or(Refused::NotPaused)?),
            Change::Abort { by, why } => {
                self.under_way()?;
                self.condemn(Reason::Aborted { by, why }, now);
            }
            Change::Promote => self.good = Some(self.under_way()?),
            Change::Retry => self.retry(now)?,
            Change::Forgive { version, until } => self.forgive(version, until)?,
        }
        Ok(Vec::new())
    }

    fn set_version(&mut self, version: Version, now: Mono) -> Result<(), Refused> {
        // To say again what was said is no news: a bad version stays bad, and is not refused for that.
        if self.target.as_ref() == Some(&version) {
            return Ok(());
        }
        if let Some(bad) = self.is_known_bad(&version, now) {
            return Err(Refused::KnownBad { bad: bad.clone(), version });
        }
        self.target = Some(version);
        Ok(())
    }

    fn force_version(&mut self, version: Version, now: Mono) {
        self.known_bad.remove(&version);
        self.bad.take_if(|bad| *bad == version);
        let is_under_way = matches!(self.course(), Course::Forward(_));
        match self.rolling.as_ref().filter(|rolling| rolling.version == version) {
            Some(_) => self.roll(version.clone(), now),
            None if is_under_way => self.condemn(Reason::Forced { by: version.clone() }, now),
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

    fn retry(&mut self, now: Mono) -> Result<(), Refused> {
        let bad =
            self.rolling.as_ref().filter(|rolling| rolling.is_bad).map(|rolling| rolling.version.clone());
        let version = bad.filter(|bad| self.target.as_ref() == Some(bad)).ok_or(Refused::NothingToRetry)?;
        self.force_version(version, now);
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

//! What a program says of its targets, and is told about them.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::rollout::{Report, TargetId, TargetState, Version, check_labels};

use super::EngineError;

/// A target, as a program reports it, and as it is told what that shall run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientState {
    /// Its name, up to 256 bytes on one line.
    pub name: String,
    /// Targets of different groups may have the same name; may be empty.
    pub group: String,
    /// By which waves choose; 64 at most.
    pub tags: BTreeMap<String, String>,
    /// Reported: what it runs. Told: what it shall run. Empty: nothing, or nobody knows. Up to 512 bytes.
    pub version: String,
    /// Reported: in the program's own words; what is longer than 1024 bytes is cut. Told: in the engine's.
    pub message: String,
    /// The message is bad news. A target of which that is reported does not become well.
    pub is_error: bool,
    /// Reported: it has failed on the version it shall run, and is not to be waited for. Never told.
    pub failed: bool,
}

impl ClientState {
    /// A target of this name that runs that version, and of which there is no bad news.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into(), ..Self::default() }
    }

    /// The same, of this group.
    #[must_use]
    pub fn in_group(self, group: impl Into<String>) -> Self {
        Self { group: group.into(), ..self }
    }

    /// The same, with this tag besides.
    #[must_use]
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(key.into(), value.into());
        self
    }

    /// The same, with bad news. It fails when its time to become well is over.
    #[must_use]
    pub fn with_error(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), is_error: true, ..self }
    }

    /// The same, which has failed, and is not waited for.
    #[must_use]
    pub fn with_failure(self, message: impl Into<String>) -> Self {
        Self { failed: true, ..self.with_error(message) }
    }

    /// In the words of the engine. An empty version is none.
    pub(super) fn report(self) -> Result<Report, EngineError> {
        let Self { name, group, tags: labels, version, message, is_error, failed } = self;
        let target = TargetId::new(&group, &name)?;
        let version = (!version.is_empty()).then(|| Version::new(&version)).transpose()?;
        check_labels(&labels).map_err(|must| EngineError::Tags { target: target.to_string(), must })?;
        Ok(Report { target, version, is_error, message, labels, failed })
    }

    /// What it was reported to be.
    pub(super) fn reported(report: Report) -> Self {
        let Report { target, version, is_error, message, labels: tags, failed } = report;
        let TargetId { group, name } = target;
        Self { name, group, tags, version: text(version), message, is_error, failed }
    }

    /// What it shall be.
    pub(super) fn told(target: TargetState) -> Self {
        let TargetState { id: TargetId { group, name }, labels: tags, assigned, .. } = target;
        let (message, is_error) = (assigned.message, assigned.is_error);
        Self { name, group, tags, version: text(assigned.version), message, is_error, failed: false }
    }
}

fn text(version: Option<Version>) -> String {
    version.map(String::from).unwrap_or_default()
}

/// What these say, of each target once.
///
/// Errors: something in one of them cannot be; or two are of one target.
pub(super) fn reports(states: Vec<ClientState>) -> Result<Vec<Report>, EngineError> {
    let reports = states.into_iter().map(ClientState::report).collect::<Result<Vec<_>, _>>()?;
    let mut seen = BTreeSet::new();
    match reports.iter().find(|report| !seen.insert(&report.target)) {
        Some(again) => Err(EngineError::Twice { target: again.target.to_string() }),
        None => Ok(reports),
    }
}

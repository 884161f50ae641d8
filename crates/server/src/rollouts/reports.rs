//! What is said of targets, checked before anybody is asked: all of it is taken, or nothing.

use std::collections::HashMap;

use upbeat_api::rollouts::TargetReport;
use upbeat_model::rollout::{
    BadName, BadVersion, MESSAGE_MAX, Report, TargetId, VERSION_MAX, Version, check_labels,
};

use crate::refusal::Refusal;

/// How whoever asks calls what a report is made of.
pub(crate) struct Fields {
    /// The list they are in; nothing where it is the body.
    pub(crate) list: &'static str,
    /// By which waves choose.
    pub(crate) labels: &'static str,
}

/// What is said, and can be.
pub(crate) struct Checked {
    pub(crate) reports: Vec<Report>,
    /// About so many bytes an answer about these targets has.
    pub(crate) answer_bytes: u64,
}

/// What an answer says of a target besides what was reported of it: names of fields, times, and a sentence.
const ANSWER_FRAME: usize = 400;

/// What is said of it comes back, its version also as the one it shall run.
fn answer_bytes(report: &TargetReport) -> usize {
    let TargetReport { group, name, version, message, labels, .. } = report;
    let labels: usize = labels.iter().map(|(key, value)| key.len() + value.len() + 6).sum();
    let version = version.as_ref().map_or(0, String::len);
    ANSWER_FRAME + group.len() + name.len() + 2 * version + message.len().min(MESSAGE_MAX) + labels
}

/// What these say, of each target once. An empty version is none.
///
/// Errors: something in one of them cannot be; it is named as `list[3].name`, and its value is not repeated.
pub(crate) fn checked(said: Vec<TargetReport>, fields: &Fields) -> Result<Checked, Refusal> {
    let bytes: usize = said.iter().map(answer_bytes).sum();
    let place = |n: usize| format!("{}[{n}]", fields.list);
    let mut seen = HashMap::with_capacity(said.len());
    for (n, report) in said.iter().enumerate() {
        if let Some(first) = seen.insert((&report.group, &report.name), n) {
            let message = format!("in the body: `{}` is the same target as `{}`", place(n), place(first));
            return Err(Refusal::bad_request(message).with_hint("report each once"));
        }
    }
    let refuse = |n: usize, field: &str, must: String| {
        Refusal::bad_request(format!("in the body: `{}.{field}` must {must}", place(n)))
    };
    let read = |(n, report): (usize, TargetReport)| {
        let TargetReport { group, name, version, is_error, failed, message, labels } = report;
        let target = TargetId::new(&group, &name)
            .map_err(|BadName { field, must }| refuse(n, field, must.to_owned()))?;
        let version = match version.as_deref() {
            None | Some("") => None,
            Some(version) => Some(Version::new(version).map_err(|bad| refuse(n, "version", must(bad)))?),
        };
        check_labels(&labels).map_err(|must| refuse(n, fields.labels, must))?;
        Ok(Report { target, version, is_error, message, labels, failed })
    };
    let reports = said.into_iter().enumerate().map(read).collect::<Result<_, Refusal>>()?;
    Ok(Checked { reports, answer_bytes: bytes as u64 })
}

/// What a version has to be that is none.
pub(crate) fn must(bad: BadVersion) -> String {
    match bad {
        BadVersion::Empty => "not be empty".to_owned(),
        BadVersion::Long(_) => format!("have {VERSION_MAX} bytes at most"),
        BadVersion::Control => "have no control characters".to_owned(),
    }
}

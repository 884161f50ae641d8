//! Analyses of a rollout: what is measured of its version, and when that has a say.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::strategy::check_name;
use super::{Measure, Stage, StrategyError};
use crate::{Mono, Wall};

/// So many analyses at most: each is measured by itself, and nobody reads more.
pub const ANALYSES_MAX: usize = 8;

/// All of them together, as JSON, in bytes. They are kept twice, in the strategy and in the rollout that goes by
/// it, in one value of the store that has to have room for the list of a large entity's targets.
pub const ANALYSES_BYTES_MAX: usize = 32 * 1024;

/// Something that is measured of a version on its way. When it fails, the version is bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AnalysisSpec {
    /// What people call it.
    pub name: String,
    /// What is measured, how often, and what it must be like.
    pub measure: Measure,
    /// The stage after which it is measured: it begins when that is done, and until it is successful nobody else
    /// is moved. None: it is measured throughout the rollout, from its beginning on, and while it is not
    /// successful the version is not good. One that never ends, with an `interval` and neither a `count` nor a
    /// `consecutive_success_limit`, only ever speaks against the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What an analysis says, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AnalysisWord {
    /// Its stage is not done yet.
    #[default]
    Waits,
    /// It is measured.
    Running,
    /// It is as it should be.
    Successful,
    /// It is not.
    Failed,
    /// Nobody can say.
    Inconclusive,
    /// It could not be measured.
    Error,
    /// Somebody wanted it to go on without it.
    PassedOver,
    /// The rollout was decided before it was.
    Ended,
}

impl fmt::Display for AnalysisWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waits => "waits",
            Self::Running => "running",
            Self::Successful => "successful",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::Error => "not measured",
            Self::PassedOver => "passed over",
            Self::Ended => "ended",
        })
    }
}

/// How far an analysis is, as it is shown.
pub type AnalysisState = AnalysisProgress<Wall>;

/// How far an analysis is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "AnalysisState"))]
pub struct AnalysisProgress<At = Mono> {
    /// Its name.
    pub name: String,
    /// After which stage it is measured; none: throughout the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What it says.
    pub verdict: AnalysisWord,
    /// Why; or who wanted it to go on without it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Samples that were successes.
    pub successes: u32,
    /// That were failures.
    pub failures: u32,
    /// That were neither.
    pub inconclusive: u32,
    /// That could not be taken.
    pub errors: u32,
    /// So many samples there are, those that could not be taken not counted; none: it does not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// What was found last, in short; or why nothing was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// When it is measured next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<At>,
}

impl<At> AnalysisProgress<At> {
    /// The same by another clock.
    pub fn by<Other>(self, clock: impl FnOnce(At) -> Other) -> AnalysisProgress<Other> {
        let Self { name, after, verdict, why, successes, failures, inconclusive, errors, of, value, next } =
            self;
        let next = next.map(clock);
        AnalysisProgress {
            name,
            after,
            verdict,
            why,
            successes,
            failures,
            inconclusive,
            errors,
            of,
            value,
            next,
        }
    }
}

/// Errors: the first field that cannot be, by its place. `stages`: all there are.
pub(super) fn check(analyses: &[AnalysisSpec], stages: &[Stage]) -> Result<(), StrategyError> {
    if analyses.len() > ANALYSES_MAX {
        return Err(StrategyError::must("analyses", "have 8 analyses at most"));
    }
    let mut names = BTreeSet::new();
    for (n, analysis) in analyses.iter().enumerate() {
        let fail = |field: &str, must: &str| Err(StrategyError::must(format!("analyses[{n}].{field}"), must));
        check_name(&analysis.name).or_else(|must| fail("name", must))?;
        if !names.insert(&analysis.name) {
            return fail("name", "be the name of no other analysis");
        }
        analysis.measure.check().map_err(|error| StrategyError {
            field: format!("analyses[{n}].measure.{}", error.field),
            problem: error.problem,
        })?;
        let Some(after) = &analysis.after else { continue };
        if !stages.iter().any(|stage| stage.name == *after) {
            return fail("after", "be the name of a stage");
        }
        if !analysis.measure.cadence.can_succeed() {
            return fail(
                "measure.cadence.count",
                "be given where it is measured after a stage: what never ends would hold it up for good",
            );
        }
    }
    // What was read as JSON can be written as JSON.
    let bytes = serde_json::to_vec(analyses).map_or(usize::MAX, |json| json.len());
    if bytes > ANALYSES_BYTES_MAX {
        return Err(StrategyError::must("analyses", "have 32768 bytes at most, all of them together"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Strategy};

    fn refused(analyses: &str) -> String {
        let stages = r#"[{"name":"canary","who":{"amount":{"count":1}}}]"#;
        let strategy = format!(r#"{{"stages":{stages},"analyses":{analyses}}}"#);
        let strategy: Strategy = serde_json::from_str(&strategy).unwrap();
        let checked = strategy.check(&Options::default());
        checked.err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn one(name: &str, after: &str, cadence: &str) -> String {
        let measure =
            format!(r#"{{"source":{{"exec":["true"]}},"success":"result < 1","cadence":{cadence}}}"#);
        format!(r#"{{"name":"{name}","after":{after},"measure":{measure}}}"#)
    }

    #[test]
    fn what_cannot_be_measured_is_refused_by_its_place() {
        let endless = r#"{"interval":1000}"#;
        for good in [one("a", "null", "{}"), one("a", r#""canary""#, "{}"), one("a", r#""rest""#, "{}")] {
            assert_eq!(refused(&format!("[{good}]")), "");
        }
        assert_eq!(refused(&format!("[{}]", one("a", "null", endless))), "", "it speaks against it alone");
        for (analyses, text) in [
            (vec![one("", "null", "{}")], "`analyses[0].name` must not be empty"),
            (vec![one("a\\u001b", "null", "{}")], "`analyses[0].name` must have no control characters"),
            (
                vec![one("a", "null", "{}"), one("a", "null", "{}")],
                "`analyses[1].name` must be the name of no other analysis",
            ),
            (vec![one("a", r#""eu""#, "{}")], "`analyses[0].after` must be the name of a stage"),
            (
                vec![one("a", r#""canary""#, endless)],
                "`analyses[0].measure.cadence.count` must be given where it is measured after a stage: \
                 what never ends would hold it up for good",
            ),
            (
                vec![one("a", "null", r#"{"count":0}"#)],
                "`analyses[0].measure.cadence.count` must be 1 at least",
            ),
            (
                (0..9).map(|n| one(&n.to_string(), "null", "{}")).collect(),
                "`analyses` must have 8 analyses at most",
            ),
        ] {
            assert_eq!(refused(&format!("[{}]", analyses.join(","))), text);
        }
        let long = one("a", "null", "{}").replace("true", &"x".repeat(20_000));
        let long = format!("[{long},{}]", long.replace(r#""a""#, r#""b""#));
        assert_eq!(refused(&long), "`analyses` must have 32768 bytes at most, all of them together");
    }

    #[test]
    fn a_header_is_a_text_or_a_file() {
        let of = |header: &str| {
            let source = format!(r#"{{"http":{{"url":"http://a/","headers":{{"X":{header}}}}}}}"#);
            serde_json::from_str::<super::super::Source>(&source).map_err(|error| error.to_string())
        };
        assert!(of(r#""text""#).is_ok() && of(r#"{"file":"/run/token"}"#).is_ok());
        for bad in ["1", r#"{"file":"/a","mode":1}"#, r#"{"env":"A"}"#] {
            assert!(of(bad).unwrap_err().contains("a header is a text, or"), "{bad}");
        }
    }
}

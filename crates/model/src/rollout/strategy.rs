//! In which stages a version is rolled out, what holds it up between them, and within which limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Amount, AnalysisSpec, Caution, LABELS_MAX, NAME_MAX, Options, Windows, analysis};
use crate::Millis;

/// So many stages at most: each is looked at in every decision, and nobody reads more.
pub const STAGES_MAX: usize = 32;
/// The longest name of a stage, in bytes.
pub const STAGE_NAME_MAX: usize = 64;
/// The labels of all stages have so many bytes at most: they are kept twice, with the strategy and with what is on
/// its way in its stages, and all of that is one value of a store.
pub const STAGES_LABELS_MAX: usize = 32 << 10;
/// The stage of whoever no stage names.
pub const REST: &str = "rest";

/// How a version goes from the first target to the last. Without a word said, it is what [`Options`] say
/// alone: one stage of all targets, with a sliding batch.
///
/// How long a target has to be well before it counts, which others call the minimum healthy or minimum ready
/// time, is `success_timeout` of the options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Strategy {
    /// One after the other. Whoever is in none of them follows in a last one, [`REST`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// So many targets may be unwell at the same time, whatever the reason, before none that is well is moved;
    /// one at least, where no new ones can be made first. Of all targets, without those that were made in
    /// addition. Who is unwell anyway may be moved: nothing is lost by that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Amount>,
    /// So many targets may whoever selects make in addition to those there are. More are not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<Amount>,
    /// A version is bad when no target more became well on it for longer than this, while targets could move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_deadline: Option<Millis>,
    /// A version is bad when more of all targets have failed; none: more than may by `success_percent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_budget: Option<Amount>,
    /// For how long it is held against a version that it was bad; none: for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_bad_for: Option<Millis>,
    /// What becomes of a version that is asked for while another is on its way.
    pub concurrency: Concurrency,
    /// When targets may be moved forward.
    pub windows: Windows,
    /// What is measured of a version, and decides about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub analyses: Vec<AnalysisSpec>,
}

/// A part of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// What people call it.
    pub name: String,
    /// Whose turn it is.
    pub who: Who,
    /// What is otherwise in it than everywhere.
    #[serde(default, skip_serializing_if = "Override::is_nothing")]
    pub options: Override,
    /// The version is bad when more of its targets have failed; none: more than may by its `success_percent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_budget: Option<Amount>,
    /// What has to happen when it is done before the next begins, or the version is good.
    #[serde(default)]
    pub gate: Gate,
}

/// Whose turn it is. A target is in the first stage it fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Those that have all of these labels.
    Labels(BTreeMap<String, String>),
    /// So many of all targets, and one at least: whoever is chosen.
    Amount(Amount),
    /// All that are left.
    Rest,
}

/// What is otherwise in a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    /// Of its own targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Amount>,
    /// Of its own targets, so many have to be well for it to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_percent: Option<u32>,
    /// How long its targets have to be well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_timeout: Option<Millis>,
    /// How long they have for that in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_timeout: Option<Millis>,
}

/// What has to happen when a stage is done. Nobody is moved before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Nothing.
    #[default]
    None,
    /// Somebody has to approve.
    Approval,
    /// So much time has to pass.
    Pause(Millis),
}

/// What becomes of a version that is asked for while another is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Concurrency {
    /// It follows when that one is good or bad. Of several, the last that was asked for.
    #[default]
    Queue,
    /// It takes the place of that one, which is neither good nor bad.
    Replace,
    /// It is refused.
    Refuse,
}

/// A field that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct StrategyError {
    /// Which, by its name in the file and in requests: `stages[1].options.batch`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl StrategyError {
    /// What it must be or have.
    pub(super) fn must(field: impl Into<String>, must: &str) -> Self {
        Self { field: field.into(), problem: format!("must {must}") }
    }
}

impl Override {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The options that hold in its stage.
    pub fn over(self, base: Options) -> Options {
        Options {
            batch: self.batch.unwrap_or(base.batch),
            success_percent: self.success_percent.unwrap_or(base.success_percent),
            success_timeout: self.success_timeout.unwrap_or(base.success_timeout),
            duration_timeout: self.duration_timeout.unwrap_or(base.duration_timeout),
        }
    }
}

impl Stage {
    /// The first few, and what has to happen before others follow.
    pub fn canary(who: Amount, gate: Gate) -> Self {
        Self { gate, ..Self::of("canary", Who::Amount(who)) }
    }

    /// Those that have all of these labels.
    pub fn wave(name: &str, labels: impl IntoIterator<Item = (String, String)>) -> Self {
        Self::of(name, Who::Labels(labels.into_iter().collect()))
    }

    /// All that are left.
    pub fn rest() -> Self {
        Self::of(REST, Who::Rest)
    }

    fn of(name: &str, who: Who) -> Self {
        let (options, failure_budget, gate) = (Override::default(), None, Gate::None);
        Self { name: name.to_owned(), who, options, failure_budget, gate }
    }

    /// How many of so many of its targets may fail, where so many have to be well.
    pub fn tolerated(&self, targets: usize, required: usize) -> usize {
        self.failure_budget.map_or(targets.saturating_sub(required), |budget| budget.of(targets))
    }
}

impl Strategy {
    /// All stages, with the one of whoever is left. None: it is not rolled out in stages.
    pub fn whole(&self) -> Vec<Stage> {
        let mut stages = self.stages.clone();
        if stages.last().is_some_and(|last| last.who != Who::Rest) {
            stages.push(Stage::rest());
        }
        stages
    }

    /// What is allowed, and will most likely not be what was meant, together with these options.
    ///
    /// Errors: a field that cannot be, by its name.
    pub fn check(&self, options: &Options) -> Result<Vec<Caution>, StrategyError> {
        for (field, amount) in [
            ("max_unavailable", self.max_unavailable),
            ("max_surge", self.max_surge),
            ("failure_budget", self.failure_budget),
        ] {
            check_amount(|| field.to_owned(), amount)?;
        }
        let is_none = |amount| matches!(amount, Amount::Count(0) | Amount::Percent(0));
        if self.max_unavailable.is_some_and(is_none) && self.max_surge.is_none_or(is_none) {
            let must = "be 1 at least, or `max_surge` must be: nobody could ever be moved";
            return Err(StrategyError::must("max_unavailable", must));
        }
        if self.progress_deadline == Some(Millis(0)) {
            let must = "be longer than nothing: any version would be bad at once";
            return Err(StrategyError::must("progress_deadline", must));
        }
        self.windows.check()?;
        let mut cautions = Vec::new();
        self.check_stages(options, &mut cautions)?;
        analysis::check(&self.analyses, &self.whole())?;
        if let Some(deadline) = self.progress_deadline
            && deadline <= options.success_timeout
        {
            cautions.push(Caution::NoTimeForProgress { success: options.success_timeout, deadline });
        }
        if let (Some(Amount::Percent(budget)), None) = (self.failure_budget, self.progress_deadline)
            && budget + options.success_percent > 100
        {
            cautions.push(Caution::MayWaitForEver { budget, success_percent: options.success_percent });
        }
        Ok(cautions)
    }

    fn check_stages(&self, options: &Options, cautions: &mut Vec<Caution>) -> Result<(), StrategyError> {
        if self.stages.len() > STAGES_MAX {
            return Err(StrategyError::must("stages", "have 32 stages at most"));
        }
        let mut names = BTreeSet::new();
        check_labels_of(&self.stages)?;
        for (n, stage) in self.stages.iter().enumerate() {
            let fail = |field: &str, must| Err(StrategyError::must(format!("stages[{n}].{field}"), must));
            check_name(&stage.name).or_else(|must| fail("name", must))?;
            match &*stage.name {
                name if !names.insert(name) => return fail("name", "be the name of no other stage"),
                name if name == REST && stage.who != Who::Rest => {
                    return fail("name", "not be `rest`: so is called who is in no other stage");
                }
                _ => {}
            }
            match &stage.who {
                Who::Labels(labels) if labels.is_empty() => {
                    return fail("who.labels", "have one label at least; for all that are left say `rest`");
                }
                Who::Amount(Amount::Count(0) | Amount::Percent(0)) => {
                    return fail("who.amount", "be more than none");
                }
                Who::Amount(amount) => check_amount(|| format!("stages[{n}].who.amount"), Some(*amount))?,
                Who::Rest if n + 1 < self.stages.len() => {
                    return fail("who", "not be `rest` but in the last stage: nobody is left for the others");
                }
                Who::Rest | Who::Labels(_) => {}
            }
            check_amount(|| format!("stages[{n}].options.batch"), stage.options.batch)?;
            check_amount(|| format!("stages[{n}].failure_budget"), stage.failure_budget)?;
            if stage.options.success_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
                return fail("options.success_percent", "be between 1 and 100");
            }
            let Options { success_timeout: success, duration_timeout: duration, .. } =
                stage.options.over(*options);
            if !stage.options.is_nothing() && success >= duration {
                cautions.push(Caution::NoTimeToSucceed { success, duration });
            }
        }
        Ok(())
    }
}

/// Errors: what a name on a line must be or have.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("not be empty"),
        name if name.len() > STAGE_NAME_MAX => Err("have 64 bytes at most"),
        name if name.contains(char::is_control) => Err("have no control characters"),
        _ => Ok(()),
    }
}

fn check_labels_of(stages: &[Stage]) -> Result<(), StrategyError> {
    let mut all = 0;
    for (n, stage) in stages.iter().enumerate() {
        let Who::Labels(labels) = &stage.who else { continue };
        let texts = || labels.iter().flat_map(|(key, value)| [key, value]);
        let must = match labels {
            labels if labels.len() > LABELS_MAX => "have 64 labels at most, as targets do",
            _ if texts().any(|text| text.len() > NAME_MAX) => "have keys and values of 256 bytes at most",
            _ if texts().any(|text| text.contains(char::is_control)) => "have no control characters",
            _ => {
                all += texts().map(String::len).sum::<usize>();
                continue;
            }
        };
        return Err(StrategyError::must(format!("stages[{n}].who.labels"), must));
    }
    match all > STAGES_LABELS_MAX {
        true => {
            let must = "have 32768 bytes of labels at most, all together";
            Err(StrategyError::must("stages", must))
        }
        false => Ok(()),
    }
}

fn check_amount(field: impl Fn() -> String, amount: Option<Amount>) -> Result<(), StrategyError> {
    match amount {
        Some(Amount::Percent(101..)) => Err(StrategyError::must(field(), "be between 0 and 100%")),
        _ => Ok(()),
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::Approval => f.write_str("approval"),
            Self::Pause(time) => write!(f, "a pause of {time}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(strategy: &str) -> String {
        let strategy: Strategy = serde_json::from_str(strategy).unwrap();
        strategy.check(&Options::default()).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_place() {
        for (strategy, text) in [
            (r#"{"max_unavailable":{"percent":101}}"#, "`max_unavailable` must be between 0 and 100%"),
            (
                r#"{"max_unavailable":{"count":0}}"#,
                "`max_unavailable` must be 1 at least, or `max_surge` must be: nobody could ever be moved",
            ),
            (
                r#"{"progress_deadline":0}"#,
                "`progress_deadline` must be longer than nothing: any version would be bad at once",
            ),
            (r#"{"stages":[{"name":"","who":"rest"}]}"#, "`stages[0].name` must not be empty"),
            (
                r#"{"stages":[{"name":"a","who":{"amount":{"count":1}}},{"name":"a","who":"rest"}]}"#,
                "`stages[1].name` must be the name of no other stage",
            ),
            (
                r#"{"stages":[{"name":"a","who":{"amount":{"count":0}}}]}"#,
                "`stages[0].who.amount` must be more than none",
            ),
            (
                r#"{"stages":[{"name":"a","who":"rest"},{"name":"b","who":{"amount":{"count":1}}}]}"#,
                "`stages[0].who` must not be `rest` but in the last stage: nobody is left for the others",
            ),
            (
                r#"{"stages":[{"name":"a","who":{"labels":{}}}]}"#,
                "`stages[0].who.labels` must have one label at least; for all that are left say `rest`",
            ),
            (
                r#"{"stages":[{"name":"a","who":"rest","options":{"success_percent":0}}]}"#,
                "`stages[0].options.success_percent` must be between 1 and 100",
            ),
        ] {
            assert_eq!(refused(strategy), text);
        }
        for (labels, must) in [
            (
                (0..=LABELS_MAX).map(|n| (n.to_string(), String::new())).collect(),
                "have 64 labels at most, as targets do",
            ),
            ([("a".to_owned(), "x".repeat(257))].into(), "have keys and values of 256 bytes at most"),
            ([("a\n".to_owned(), String::new())].into(), "have no control characters"),
        ] as [(BTreeMap<_, _>, _); 3]
        {
            let strategy = Strategy { stages: vec![Stage::wave("a", labels)], ..Strategy::default() };
            let error = strategy.check(&Options::default()).unwrap_err().to_string();
            assert_eq!(error, format!("`stages[0].who.labels` must {must}"));
        }
        let unknown = serde_json::from_str::<Strategy>(r#"{"max_unavailible":{"count":1}}"#).unwrap_err();
        assert!(unknown.to_string().starts_with("unknown field `max_unavailible`"), "{unknown}");
        let many = Strategy {
            stages: (0..=STAGES_MAX).map(|n| Stage::wave(&n.to_string(), [])).collect(),
            ..Strategy::default()
        };
        let error = many.check(&Options::default()).unwrap_err();
        assert_eq!(error.to_string(), "`stages` must have 32 stages at most");
    }

    #[test]
    fn what_cannot_go_well_is_said() {
        let options = Options::default();
        let strategy = Strategy {
            progress_deadline: Some(Millis::seconds(60)),
            failure_budget: Some(Amount::Percent(5)),
            ..Strategy::default()
        };
        let (success, deadline) = (Millis::seconds(60), Millis::seconds(60));
        assert_eq!(strategy.check(&options), Ok(vec![Caution::NoTimeForProgress { success, deadline }]));
        let strategy = Strategy { progress_deadline: None, ..strategy };
        let caution = Caution::MayWaitForEver { budget: 5, success_percent: 100 };
        assert_eq!(strategy.check(&options), Ok(vec![caution]));
        assert_eq!(strategy.check(&Options { success_percent: 95, ..options }), Ok(vec![]));
    }

    #[test]
    fn whoever_is_in_no_stage_follows_in_a_last_one() {
        let names = |stages: Vec<Stage>| {
            let strategy = Strategy { stages, ..Strategy::default() };
            strategy.whole().into_iter().map(|stage| stage.name).collect::<Vec<_>>()
        };
        let canary = Stage::canary(Amount::Count(1), Gate::Approval);
        assert_eq!(names(vec![]), [""; 0]);
        assert_eq!(names(vec![canary.clone()]), ["canary", "rest"]);
        let all = Stage { name: "all".into(), ..Stage::rest() };
        assert_eq!(names(vec![canary, all]), ["canary", "all"]);
    }
}

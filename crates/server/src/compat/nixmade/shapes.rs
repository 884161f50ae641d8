//! What travels (`spec/nixmade.md` 2.B), and what it is in our words.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use upbeat_api::rollouts::{TargetReport, reports};
use upbeat_model::rollout::{
    Amount, Controller, Controllers, Counts, Options, RolloutState, TargetState, Version,
};
use upbeat_model::{Millis, Wall};

use super::go::{Tags, UpTo, object};
use super::http::{MONITORING_CONTROLLER, TARGET_CONTROLLER};

/// A hundred years, in seconds: longer than anybody waits, and far from the end of every clock.
const SECONDS_MAX: u64 = 100 * 366 * 24 * 60 * 60;

object! {
    /// What is said of a target.
    ClientState {
        name: String = "name",
        group: String = "group",
        tags: Tags = "tags",
        version: String = "version",
        message: String = "message",
        is_error: bool = "isError",
    }
}

impl From<ClientState> for TargetReport {
    fn from(said: ClientState) -> Self {
        let ClientState { name, group, tags: Tags(labels), version, message, is_error } = said;
        Self { group, name, version: Some(version), is_error, failed: false, message, labels }
    }
}

/// A list of them.
#[derive(Default)]
pub(super) struct ClientStates(pub(super) Vec<ClientState>);

impl<'de> Deserialize<'de> for ClientStates {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        reports(from).map(Self)
    }
}

object! {
    /// What all targets shall run.
    TargetVersion {
        version: String = "version",
    }
}

object! {
    /// How carefully. Those clients leave out a number that is zero, so what is not said is zero.
    RolloutOptions {
        batch_percent: UpTo<100> = "batchpercent",
        success_percent: UpTo<100> = "successpercent",
        success_timeout_secs: UpTo<SECONDS_MAX> = "successtimeoutsecs",
        duration_timeout_secs: UpTo<SECONDS_MAX> = "durationtimeoutsecs",
    }
}

impl From<RolloutOptions> for Options {
    fn from(sent: RolloutOptions) -> Self {
        // They are a hundred at most.
        let percent = |UpTo(percent): UpTo<100>| u32::try_from(percent).unwrap_or(100);
        let shares = Self {
            batch: Amount::Percent(percent(sent.batch_percent)),
            success_percent: percent(sent.success_percent),
            ..Self::default()
        };
        let success_timeout = Millis::seconds(sent.success_timeout_secs.0);
        let duration_timeout = Millis::seconds(sent.duration_timeout_secs.0);
        Self { success_timeout, duration_timeout, ..shares }
    }
}

object! {
    /// Who is asked about targets: addresses; an empty one is nobody.
    TargetController {
        selection: String = "selection",
        approval: String = "approval",
        removal: String = "removal",
        monitoring: String = "monitoring",
    }
}

object! {
    /// Who is asked about the whole.
    MonitoringController {
        external_monitoring: String = "externalmonitoring",
    }
}

/// Some of an entity's controllers.
pub(super) trait Sent: Default {
    /// Where they are sent to.
    const ROUTE: &str;
    /// What they are, for the record.
    const WHAT: &str;

    /// They, and no others.
    fn alone(self) -> Controllers;

    /// Puts them in the place of those there are, and leaves the others as they are.
    fn put(alone: Controllers, kept: &mut Controllers);
}

fn web(address: String) -> Option<Controller> {
    (!address.is_empty()).then_some(Controller::Web(address))
}

impl Sent for TargetController {
    const ROUTE: &str = TARGET_CONTROLLER;
    const WHAT: &str = "target controllers";

    fn alone(self) -> Controllers {
        Controllers {
            selection: web(self.selection),
            approval: web(self.approval),
            removal: web(self.removal),
            monitoring: web(self.monitoring),
            external_monitoring: None,
        }
    }

    fn put(alone: Controllers, kept: &mut Controllers) {
        let external_monitoring = kept.external_monitoring.take();
        *kept = Controllers { external_monitoring, ..alone };
    }
}

impl Sent for MonitoringController {
    const ROUTE: &str = MONITORING_CONTROLLER;
    const WHAT: &str = "monitoring controller";

    fn alone(self) -> Controllers {
        Controllers { external_monitoring: web(self.external_monitoring), ..Controllers::default() }
    }

    fn put(alone: Controllers, kept: &mut Controllers) {
        kept.external_monitoring = alone.external_monitoring;
    }
}

/// What a target shall run.
#[derive(Serialize)]
pub(super) struct Expected {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    message: String,
    #[serde(rename = "isError", skip_serializing_if = "std::ops::Not::not")]
    is_error: bool,
}

impl From<TargetState> for Expected {
    fn from(target: TargetState) -> Self {
        let TargetState { id, assigned, .. } = target;
        let message = format!("{} at {}", assigned.message, at(assigned.message_at));
        Self {
            name: id.name,
            group: id.group,
            version: assigned.version,
            message,
            is_error: assigned.is_error,
        }
    }
}

/// `2023-11-14T22:13:20.123Z`
fn at(Wall(ms): Wall) -> Timestamp {
    let end = if ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(ms).unwrap_or(end)
}

/// Where an entity is.
#[derive(Serialize)]
pub(super) struct Rollout {
    #[serde(rename = "targetversion", skip_serializing_if = "Option::is_none")]
    target: Option<Version>,
    #[serde(rename = "rollingversion", skip_serializing_if = "Option::is_none")]
    rolling: Option<Version>,
    #[serde(rename = "lastknowngoodversion", skip_serializing_if = "Option::is_none")]
    good: Option<Version>,
    #[serde(rename = "lastknownbadversion", skip_serializing_if = "Option::is_none")]
    bad: Option<Version>,
    options: Carefully,
}

/// How carefully, where only whole percents and seconds can be said.
#[derive(Serialize)]
struct Carefully {
    #[serde(rename = "batchpercent", skip_serializing_if = "is_zero")]
    batch: u64,
    #[serde(rename = "successpercent", skip_serializing_if = "is_zero")]
    success: u64,
    #[serde(rename = "successtimeoutsecs", skip_serializing_if = "is_zero")]
    success_timeout: u64,
    #[serde(rename = "durationtimeoutsecs", skip_serializing_if = "is_zero")]
    duration_timeout: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Carefully {
    /// A number of targets is told as its share of those there are; what is less than one is one.
    fn of(options: &Options, counts: &Counts) -> Self {
        let batch = match options.batch {
            Amount::Percent(percent) => percent.into(),
            Amount::Count(count) => match (u64::from(count) * 100).checked_div(counts.total as u64) {
                Some(percent) => percent.clamp(1, 100),
                None => 100,
            },
        };
        let seconds = |time: Millis| time.0.div_ceil(1_000);
        Self {
            batch,
            success: options.success_percent.into(),
            success_timeout: seconds(options.success_timeout),
            duration_timeout: seconds(options.duration_timeout),
        }
    }

    /// Of an entity that nobody has named yet.
    fn usual() -> Self {
        Self::of(&Options::default(), &Counts::default())
    }
}

impl From<Option<RolloutState>> for Rollout {
    fn from(state: Option<RolloutState>) -> Self {
        let Some(state) = state else {
            return Self { target: None, rolling: None, good: None, bad: None, options: Carefully::usual() };
        };
        let options = Carefully::of(&state.options, &state.counts);
        let RolloutState { target, rolling, good, bad, .. } = state;
        Self { target, rolling, good, bad, options }
    }
}

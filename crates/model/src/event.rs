//! What happened, for people and tools, in order.

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, Attempt, OperationId, ProbeName, ServiceName, SlotId};
use crate::project::Reaction;
use crate::reason::Reason;
use crate::rollout::Happened;
use crate::state::{Exit, Phase};
use crate::time::Wall;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Its place in the order; grows over the life of the store.
    pub sequence: u64,
    /// When.
    pub at: Wall,
    /// In which app; none: it is about no app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// Which events are asked for: those of which everything that is said here is so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// In this app.
    pub app: Option<AppName>,
    /// Of rollouts in this namespace.
    pub namespace: Option<String>,
    /// Of the rollouts of entities of this name.
    pub entity: Option<String>,
    /// Of these services; empty: of all, and of none in particular.
    pub services: Vec<ServiceName>,
    /// Of these kinds; empty: of all.
    pub kinds: Vec<EventWord>,
    /// Not before.
    pub since: Option<Wall>,
    /// Not after.
    pub until: Option<Wall>,
}

impl EventFilter {
    /// Whether it is one of those.
    pub fn takes(&self, event: &Event) -> bool {
        let of_service = |service: &ServiceName| self.services.contains(service);
        let is = |asked: &Option<String>, name: Option<&str>| {
            asked.as_deref().is_none_or(|asked| Some(asked) == name)
        };
        let (namespace, entity) = event.kind.rollout().unzip();
        self.app.as_ref().is_none_or(|app| Some(app) == event.app.as_ref())
            && is(&self.namespace, namespace)
            && is(&self.entity, entity)
            && self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at <= until)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind.word()))
            && (self.services.is_empty() || event.kind.service().is_some_and(of_service))
    }
}

/// The word for a kind of events, as in `event` of its JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EventWord {
    /// [`EventKind::Phase`].
    Phase,
    /// [`EventKind::Reacted`].
    Reacted,
    /// [`EventKind::Remedied`].
    Remedied,
    /// [`EventKind::Reloaded`].
    Reloaded,
    /// [`EventKind::Drifted`].
    Drifted,
    /// [`EventKind::Adopted`].
    Adopted,
    /// [`EventKind::Built`].
    Built,
    /// [`EventKind::BuildFailed`].
    BuildFailed,
    /// [`EventKind::OperationStarted`].
    OperationStarted,
    /// [`EventKind::OperationEnded`].
    OperationEnded,
    /// [`EventKind::Rollout`].
    Rollout,
}

impl EventWord {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Phase,
        Self::Reacted,
        Self::Remedied,
        Self::Reloaded,
        Self::Drifted,
        Self::Adopted,
        Self::Built,
        Self::BuildFailed,
        Self::OperationStarted,
        Self::OperationEnded,
        Self::Rollout,
    ];
}

impl EventWord {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Phase => "phase",
            Self::Reacted => "reacted",
            Self::Remedied => "remedied",
            Self::Reloaded => "reloaded",
            Self::Drifted => "drifted",
            Self::Adopted => "adopted",
            Self::Built => "built",
            Self::BuildFailed => "build_failed",
            Self::OperationStarted => "operation_started",
            Self::OperationEnded => "operation_ended",
            Self::Rollout => "rollout",
        }
    }
}

impl std::fmt::Display for EventWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for EventWord {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|word| word.to_string() == text);
        let all = || Self::ALL.map(|word| format!("`{word}`")).join(", ");
        known.ok_or_else(|| format!("`{}` is no kind of events; they are {}", text.escape_debug(), all()))
    }
}

impl EventKind {
    /// Its word.
    pub fn word(&self) -> EventWord {
        match self {
            Self::Phase { .. } => EventWord::Phase,
            Self::Reacted { .. } => EventWord::Reacted,
            Self::Remedied { .. } => EventWord::Remedied,
            Self::Reloaded { .. } => EventWord::Reloaded,
            Self::Drifted { .. } => EventWord::Drifted,
            Self::Adopted { .. } => EventWord::Adopted,
            Self::Built { .. } => EventWord::Built,
            Self::BuildFailed { .. } => EventWord::BuildFailed,
            Self::OperationStarted { .. } => EventWord::OperationStarted,
            Self::OperationEnded { .. } => EventWord::OperationEnded,
            Self::Rollout { .. } => EventWord::Rollout,
        }
    }

    /// The namespace and the name of the entity it is about, if it is about a rollout.
    pub fn rollout(&self) -> Option<(&str, &str)> {
        match self {
            Self::Rollout { namespace, entity, .. } => Some((namespace, entity)),
            _ => None,
        }
    }

    /// The slot it is about, if it is about one.
    pub fn slot(&self) -> Option<&SlotId> {
        match self {
            Self::Phase { slot, .. }
            | Self::Reacted { slot, .. }
            | Self::Remedied { slot, .. }
            | Self::Reloaded { slot, .. }
            | Self::Drifted { slot, .. }
            | Self::Adopted { slot, .. } => Some(slot),
            Self::Built { .. }
            | Self::BuildFailed { .. }
            | Self::OperationStarted { .. }
            | Self::OperationEnded { .. }
            | Self::Rollout { .. } => None,
        }
    }

    /// The service it is about, if it is about one.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Built { service, .. } | Self::BuildFailed { service, .. } => Some(service),
            _ => self.slot().map(|slot| &slot.service),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A slot entered another phase.
    Phase {
        /// Which slot.
        slot: SlotId,
        /// Before.
        from: Phase,
        /// After.
        to: Phase,
        /// Of which attempt.
        attempt: Attempt,
        /// The main process, if there is one.
        pid: Option<i32>,
        /// How the process ended, if it just did.
        exit: Option<Exit>,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// Something was done about a failing probe.
    Reacted {
        /// Which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// Which probe.
        probe: ProbeName,
        /// What was done.
        action: Reaction,
        /// What the probe was answered.
        last: String,
        /// How often within its window, this time included.
        times: u32,
    },
    /// A command that was run about a failing probe has ended.
    Remedied {
        /// Which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// Which probe.
        probe: ProbeName,
        /// How it failed, if it did.
        failure: Option<String>,
    },
    /// Another hand than Upbeat's has stopped, removed or changed its container.
    Drifted {
        /// Which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// How, in words: `its container was paused`.
        what: String,
        /// What is done about it: `it is begun anew`, `it was put right`.
        remedy: String,
        /// How that failed, if it did.
        failure: Option<String>,
    },
    /// A running copy was asked to read its configuration anew: by somebody, or for the sake of what it
    /// rests on.
    Reloaded {
        /// Which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// How that failed, if it did.
        failure: Option<String>,
    },
    /// A running slot was found again after a restart of the daemon.
    Adopted {
        /// Which slot.
        slot: SlotId,
        /// Of which attempt.
        attempt: Attempt,
        /// Its main process.
        pid: i32,
    },
    /// The image of a service was built.
    Built {
        /// Of which.
        service: ServiceName,
        /// What it is called.
        image: String,
        /// How long it took, in whole seconds.
        seconds: u64,
    },
    /// The image of a service was not built.
    BuildFailed {
        /// Of which.
        service: ServiceName,
        /// What it was to be called.
        image: String,
        /// How long it took, in whole seconds.
        seconds: u64,
        /// Why.
        why: String,
    },
    /// Somebody asked for a change.
    OperationStarted {
        /// Its number.
        operation: OperationId,
        /// What was asked, in words: `stop web`.
        what: String,
        /// Who asked: `uid 1000`.
        who: String,
    },
    /// A change came to its end.
    OperationEnded {
        /// Its number.
        operation: OperationId,
        /// `reached`, `superseded by operation 7`, `failed: …`.
        outcome: String,
    },
    /// Something happened to a rollout.
    Rollout {
        /// In which namespace.
        namespace: String,
        /// To which entity there.
        entity: String,
        /// Of that entity, the how manieth thing that happened. What a daemon was killed in the midst of telling may
        /// be told twice, with the same number and time.
        #[serde(default)]
        number: u64,
        /// What.
        what: Happened,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: i64, kind: EventKind) -> Event {
        Event { sequence: 1, at: Wall(at), app: Some("shop".parse().unwrap()), kind }
    }

    #[test]
    fn a_filter_takes_what_all_of_it_is_true_of() {
        let adopted = EventKind::Adopted { slot: "shop/web/1".parse().unwrap(), attempt: Attempt(1), pid: 7 };
        let ended = EventKind::OperationEnded { operation: OperationId(1), outcome: "reached".into() };
        let (adopted, ended) = (event(10, adopted), event(20, ended));
        let takes = |filter: EventFilter| (filter.takes(&adopted), filter.takes(&ended));
        let all = EventFilter::default;
        assert_eq!(takes(all()), (true, true));
        assert_eq!(takes(EventFilter { app: Some("blog".parse().unwrap()), ..all() }), (false, false));
        assert_eq!(takes(EventFilter { services: vec!["web".parse().unwrap()], ..all() }), (true, false));
        assert_eq!(takes(EventFilter { services: vec!["db".parse().unwrap()], ..all() }), (false, false));
        assert_eq!(takes(EventFilter { kinds: vec![EventWord::OperationEnded], ..all() }), (false, true));
        assert_eq!(takes(EventFilter { since: Some(Wall(11)), ..all() }), (false, true));
        assert_eq!(takes(EventFilter { until: Some(Wall(10)), ..all() }), (true, false));
        let of = |namespace: &str, entity: &str| {
            let what = Happened::Paused { by: "ann".into() };
            let (namespace, entity) = (namespace.to_owned(), entity.to_owned());
            event(30, EventKind::Rollout { namespace, entity, number: 1, what })
        };
        let web = EventFilter { namespace: Some("prod".into()), entity: Some("web".into()), ..all() };
        assert!(web.takes(&of("prod", "web")));
        assert!(!web.takes(&of("prod", "web2")) && !web.takes(&of("test", "web")) && !web.takes(&ended));
        let prod = EventFilter { entity: None, ..web };
        assert!(prod.takes(&of("prod", "web2")) && !prod.takes(&of("test", "web")) && !prod.takes(&ended));
    }

    #[test]
    fn the_word_of_a_kind_is_the_one_in_its_json() {
        for word in EventWord::ALL {
            assert_eq!(word.to_string().parse(), Ok(word));
            assert_eq!(serde_json::to_value(word).unwrap(), word.to_string());
        }
        let ended = EventKind::OperationEnded { operation: OperationId(1), outcome: "reached".into() };
        assert_eq!(serde_json::to_value(&ended).unwrap()["event"], ended.word().to_string());
        assert!("phases".parse::<EventWord>().is_err());
    }
}

//! Webhooks: who is told of events by requests of ours, of which, and how that goes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind, EventWord};
use crate::ids::{AppName, WebhookName};
use crate::time::Wall;

/// Kinds of events that go by one word where a webhook says which it wants.
pub const FAMILIES: [(&str, &[EventWord]); 3] = [
    (
        "service",
        &[
            EventWord::Phase,
            EventWord::Reacted,
            EventWord::Remedied,
            EventWord::Reloaded,
            EventWord::Drifted,
            EventWord::Adopted,
        ],
    ),
    ("build", &[EventWord::Built, EventWord::BuildFailed]),
    ("operation", &[EventWord::OperationStarted, EventWord::OperationEnded]),
];

/// Which events a webhook is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What was written, as [`Wanted::words`] has it. It stays the same where a later version knows of more kinds.
    pub words: BTreeSet<String>,
    /// Of these kinds.
    pub kinds: Vec<EventWord>,
    /// Of those that are about an app, only of these; empty: of all.
    pub apps: Vec<AppName>,
    /// Of those that are about rollouts, only in these namespaces; empty: in all.
    pub namespaces: Vec<String>,
}

impl Wanted {
    /// By words: kinds of events, and [`FAMILIES`].
    ///
    /// Errors: a word that is neither, with all there are.
    pub fn kinds(words: &[String]) -> Result<Vec<EventWord>, String> {
        let mut kinds = Vec::new();
        for word in words {
            let family = FAMILIES.iter().find(|(name, _)| name == word).map(|(_, kinds)| kinds.to_vec());
            let found = match family {
                Some(found) => found,
                None => vec![word.parse().map_err(|_| unknown(word))?],
            };
            let new: Vec<EventWord> = found.into_iter().filter(|kind| !kinds.contains(kind)).collect();
            kinds.extend(new);
        }
        Ok(kinds)
    }

    /// What was written, each word once, and no kind beside its family.
    pub fn words(written: &[String]) -> BTreeSet<String> {
        let families = FAMILIES.iter().filter(|(name, _)| written.iter().any(|word| word == name));
        let covered: Vec<&str> =
            families.flat_map(|(_, kinds)| kinds.iter().map(|kind| kind.as_str())).collect();
        written.iter().filter(|word| !covered.contains(&word.as_str())).cloned().collect()
    }

    /// Whether it is one of those.
    pub fn takes(&self, event: &Event) -> bool {
        self.kinds.contains(&event.kind.word())
            && match (&event.app, &event.kind) {
                (_, EventKind::Rollout { namespace, .. }) => {
                    self.namespaces.is_empty() || self.namespaces.contains(namespace)
                }
                (Some(app), _) => self.apps.is_empty() || self.apps.contains(app),
                (None, _) => true,
            }
    }
}

fn unknown(word: &str) -> String {
    let families = FAMILIES.iter().map(|(name, _)| format!("`{name}`"));
    let all: Vec<String> =
        families.chain(EventWord::ALL.into_iter().map(|kind| format!("`{kind}`"))).collect();
    format!("`{}` is no kind of events; they are {}", word.escape_debug(), all.join(", "))
}

/// What a webhook is told besides events: in the same shape, under words of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Notice {
    /// The number of the last event that was lost; 0 for a test, which is no event.
    pub sequence: u64,
    /// When it was sent first.
    pub at: Wall,
    /// What.
    #[serde(flatten)]
    pub kind: NoticeKind,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum NoticeKind {
    /// The daemon no longer has these events, whatever their kinds: the webhook was behind for too long.
    EventsLost {
        /// The number of the first.
        first: u64,
        /// The number of the last.
        last: u64,
    },
    /// Somebody wanted to know whether the webhook gets there.
    WebhookTest {
        /// Which.
        webhook: WebhookName,
    },
}

/// Where a webhook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WebhookWord {
    /// All was told.
    Idle,
    /// Something is being told.
    Delivering,
    /// It was not taken, and is told again later.
    Retrying,
    /// Its receiver said that it is gone for good (410): nothing is told until the daemon is started anew.
    Off,
}

impl WebhookWord {
    /// As people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Delivering => "delivering",
            Self::Retrying => "retrying",
            Self::Off => "off",
        }
    }
}

/// Why something was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookError {
    /// In one line.
    pub why: String,
    /// When.
    pub at: Wall,
}

/// Events that were gone before they were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookLost {
    /// How many, since the webhook is there.
    pub count: u64,
    /// The number of the first of the last time.
    pub first: u64,
    /// The number of the last of the last time.
    pub last: u64,
}

/// `GET /api/v1/webhooks`: one webhook, and how it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookState {
    /// Its name.
    pub name: WebhookName,
    /// Whom it tells: without what may be a secret, such as the path.
    pub address: String,
    /// Events of which kinds.
    pub events: Vec<EventWord>,
    /// Of which apps; empty: of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<AppName>,
    /// In which namespaces of rollouts; empty: in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Where it is.
    pub state: WebhookWord,
    /// The number of the last event that was taken.
    pub last_delivered: Option<u64>,
    /// When that was.
    pub last_delivered_at: Option<Wall>,
    /// So many events wait to be told.
    pub pending: u64,
    /// There may be more than those: nobody counted on.
    pub pending_more: bool,
    /// So many times in a row something was not taken.
    pub failures: u32,
    /// Why something was not taken the last time.
    pub last_error: Option<WebhookError>,
    /// When it is tried again.
    pub next_try: Option<Wall>,
    /// What was gone before it was told.
    pub lost: Option<WebhookLost>,
}

/// `POST /api/v1/webhooks/{webhook}/test`: what came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebhookTested {
    /// Which webhook.
    pub name: WebhookName,
    /// Whether it was taken.
    pub delivered: bool,
    /// The status of the answer; none: there was no answer.
    pub status: Option<u16>,
    /// Why it was not taken.
    pub error: Option<String>,
    /// The `webhook-id` it was sent under.
    pub id: String,
    /// How long that took.
    pub took_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Attempt, OperationId};
    use crate::rollout::Happened;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_kind_is_wanted_by_its_word_or_its_family_and_once() {
        let all =
            Wanted::kinds(&words(&["rollout", "service", "build", "operation", "phase", "rollout"])).unwrap();
        assert_eq!(all.len(), EventWord::ALL.len());
        assert!(EventWord::ALL.iter().all(|kind| all.contains(kind)), "no kind is in no family");
        assert_eq!(Wanted::kinds(&words(&["adopted"])), Ok(vec![EventWord::Adopted]));
        let problem = Wanted::kinds(&words(&["rollout", "rol\nlout"])).unwrap_err();
        assert!(problem.starts_with("`rol\\nlout` is no kind of events; they are `service`, "), "{problem}");
    }

    #[test]
    fn what_was_written_is_the_same_in_any_order_and_beside_its_family() {
        let written = |kinds: &[&str]| Wanted::words(&words(kinds)).into_iter().collect::<Vec<_>>();
        assert_eq!(written(&["rollout", "phase", "service", "rollout"]), ["rollout", "service"]);
        assert_eq!(written(&["service", "rollout"]), ["rollout", "service"]);
        assert_eq!(written(&["phase", "adopted", "phase"]), ["adopted", "phase"]);
    }

    #[test]
    fn apps_and_namespaces_part_what_is_about_one() {
        let event = |app: Option<&str>, kind| Event {
            sequence: 1,
            at: Wall(1),
            app: app.map(|app| app.parse().unwrap()),
            kind,
        };
        let adopted = EventKind::Adopted { slot: "shop/web/1".parse().unwrap(), attempt: Attempt(1), pid: 7 };
        let rollout = EventKind::Rollout {
            namespace: "prod".into(),
            entity: "web".into(),
            number: 1,
            what: Happened::Paused { by: "ann".into() },
        };
        let ended = EventKind::OperationEnded { operation: OperationId(1), outcome: "reached".into() };
        let events = [event(Some("shop"), adopted), event(None, rollout), event(None, ended)];
        let takes = |kinds: &[&str], apps: &[&str], namespaces: &[&str]| {
            let wanted = Wanted {
                words: Wanted::words(&words(kinds)),
                kinds: Wanted::kinds(&words(kinds)).unwrap(),
                apps: apps.iter().map(|app| app.parse().unwrap()).collect(),
                namespaces: words(namespaces),
            };
            events.each_ref().map(|event| wanted.takes(event))
        };
        let all = &["rollout", "service", "operation"];
        assert_eq!(takes(all, &[], &[]), [true; 3]);
        assert_eq!(takes(&["rollout"], &[], &[]), [false, true, false]);
        assert_eq!(takes(all, &["shop"], &["prod"]), [true; 3]);
        assert_eq!(takes(all, &["blog"], &[]), [false, true, true]);
        assert_eq!(takes(all, &[], &["test"]), [true, false, true]);
    }

    #[test]
    fn a_notice_looks_like_an_event() {
        let kind = NoticeKind::EventsLost { first: 3, last: 9 };
        let notice = Notice { sequence: 9, at: Wall(5), kind };
        let text = r#"{"sequence":9,"at":5,"event":"events_lost","first":3,"last":9}"#;
        assert_eq!(serde_json::to_string(&notice).unwrap(), text);
        let test = NoticeKind::WebhookTest { webhook: "ci".parse().unwrap() };
        assert_eq!(serde_json::to_string(&test).unwrap(), r#"{"event":"webhook_test","webhook":"ci"}"#);
    }
}

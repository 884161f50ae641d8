//! What travels about rollouts.

use std::collections::BTreeMap;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use upbeat_model::Wall;
use upbeat_model::rollout::{
    Caution, Controllers, EntityId, Options, PAGE_MAX, PastState, RolloutState, RolloutsPage, Strategy,
    TargetState, Version,
};

use crate::client::{Answer, Client, Updates};
use crate::decode::Decoder;
use crate::endpoint::Endpoint;

/// `POST /api/v1/rollouts/{namespace}/{entity}/actions`: something that is asked of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum RolloutAction {
    /// All targets shall run this version.
    SetVersion {
        /// Which.
        version: Version,
        /// At once, and whatever is known of it.
        #[serde(default)]
        force: bool,
        /// How carefully, from now on; none: as it is. Where the version is refused, this is not done either.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        options: Option<Options>,
        /// In which stages, and within which limits, from now on; none: as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strategy: Option<Box<Strategy>>,
    },
    /// How carefully; none: as without being asked.
    SetOptions {
        /// How.
        options: Option<Options>,
    },
    /// In which stages, and within which limits; none: as without being asked. What is on its way keeps the
    /// stages it began with.
    SetStrategy {
        /// Which.
        strategy: Option<Box<Strategy>>,
    },
    /// No target is moved for now.
    Pause,
    /// Targets are moved again.
    Resume,
    /// What is rolled out now is bad.
    Abort {
        /// Why.
        #[serde(default)]
        why: String,
    },
    /// What waits at the gate of a stage goes on.
    Approve,
    /// One step forward: beyond the gate it waits at, or else the stage it is in is taken for done. Beyond the
    /// last, or where there are no stages, what is rolled out now is good.
    Promote {
        /// Beyond all stages: it is good, whatever it waits for.
        #[serde(default)]
        all: bool,
    },
    /// Back to the version that was good before the one in force.
    Undo,
    /// A target has failed on the version in force, and is not to be waited for.
    Fail {
        /// Its group.
        #[serde(default)]
        group: String,
        /// Its name.
        name: String,
        /// Why.
        #[serde(default)]
        why: String,
    },
    /// The version that is held to be bad is tried again.
    Retry,
    /// A version is not held to be bad any more, or until then only.
    Forgive {
        /// Which.
        version: Version,
        /// Until when it still is; none: not from now on.
        #[serde(default)]
        until: Option<Wall>,
    },
}

impl RolloutAction {
    /// All targets shall run this version, as carefully as they are moved anyway.
    pub fn set_version(version: Version, force: bool) -> Self {
        Self::SetVersion { version, force, options: None, strategy: None }
    }
}

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct RolloutChanged {
    /// How it is now.
    pub rollout: RolloutState,
    /// What will most likely not be what was meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cautions: Vec<Caution>,
}

/// `POST /api/v1/rollouts/{namespace}/{entity}/reports`: what a controller says of its targets. Those that are
/// not among them stay as they are, until they have not been reported for a quarter of an hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Reports {
    /// Of some targets, or of all.
    #[serde(deserialize_with = "at_most")]
    pub targets: Vec<TargetReport>,
}

impl Reports {
    /// The most in one request: with names of twenty letters, about as many as [`crate::Up::MAX_BYTES`] holds.
    /// A body of that size could name millions that say nothing, which would take a hundred times its room.
    pub const MAX: usize = 250_000;
}

fn at_most<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<TargetReport>, D::Error> {
    reports(from)
}

/// A list of [`Reports::MAX`] reports, or of what becomes one. Errors: it has more; it is none.
pub fn reports<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct List<T>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of targets")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == Reports::MAX {
                    let what = format!("more than {} targets; report some of them at a time", Reports::MAX);
                    return Err(A::Error::custom(what));
                }
                list.push(item);
            }
            Ok(list)
        }
    }

    from.deserialize_seq(List(std::marker::PhantomData))
}

/// What a controller says of one of its targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TargetReport {
    /// Targets of different groups may have the same name.
    pub group: String,
    /// Its name.
    pub name: String,
    /// What it runs; none, or empty: nothing, or nobody knows.
    pub version: Option<String>,
    /// It is not well.
    pub is_error: bool,
    /// It has failed on the version it shall run, and is not to be waited for. Said again as long as it is so.
    pub failed: bool,
    /// In its own words.
    pub message: String,
    /// By which waves choose.
    pub labels: BTreeMap<String, String>,
}

/// So much a client takes of an answer about all targets of an entity, which has no pages. There are a quarter of a
/// million of them at most; with names of forty letters, digests as versions, and a sentence of the controller's and
/// one of ours, each takes under a kilobyte.
pub const TARGETS_BYTES_MAX: usize = 256 << 20;

/// What each target shall run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Assignments {
    /// Where the entity is.
    pub rollout: RolloutState,
    /// All its targets.
    pub targets: Vec<TargetState>,
}

/// The query of `GET /api/v1/rollouts` and `GET /api/v1/rollout-units`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RolloutsQuery {
    /// Only of this namespace.
    pub namespace: Option<String>,
    /// Only what comes behind this: `next` of the page before.
    pub after: Option<String>,
    /// At most so many; [`RolloutsQuery::MAX_LIMIT`] at most, and where absent. A page that is large ends sooner.
    pub limit: Option<usize>,
}

impl RolloutsQuery {
    /// The longest page.
    pub const MAX_LIMIT: usize = PAGE_MAX;

    pub(crate) fn said(&self) -> Vec<(&'static str, String)> {
        let Self { namespace, after, limit } = self.clone();
        let limit = limit.map(|limit| limit.to_string());
        let said = [("namespace", namespace), ("after", after), ("limit", limit)];
        said.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// The query of `GET /api/v1/rollouts/{namespace}/{entity}/targets`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TargetsQuery {
    /// Only of the group of this name; an empty one is a group, too.
    pub group: Option<String>,
}

/// What can be asked about rollouts. Entities and groups may be called anything.
impl Client {
    /// The entities of a namespace, or all, and where each is: a page of them. Where it says what is next, there are
    /// more.
    pub async fn rollouts(&self, query: &RolloutsQuery) -> Answer<RolloutsPage> {
        self.answer(self.request(Endpoint::Rollouts, &[], &query.said())).await
    }

    /// Where an entity is.
    pub async fn rollout(&self, id: &EntityId) -> Answer<RolloutState> {
        self.answer(self.request(Endpoint::Rollout, &path(id), &[])).await
    }

    /// Where an entity is now, and again whenever that changes. A reader that is slow misses what lies between,
    /// never the last. Ends when it is forgotten.
    pub async fn watch_rollout(&self, id: &EntityId) -> Answer<Updates<RolloutState>> {
        self.updates(self.request(Endpoint::WatchRollout, &path(id), &[]), Decoder::events()).await
    }

    /// Its rollouts that have ended, the latest first.
    pub async fn rollout_history(&self, id: &EntityId) -> Answer<Vec<PastState>> {
        self.answer(self.request(Endpoint::RolloutHistory, &path(id), &[])).await
    }

    /// Its targets, of one group or of all, in the order of their groups and names. Errors: they have more than
    /// [`TARGETS_BYTES_MAX`]; groups are smaller.
    pub async fn rollout_targets(&self, id: &EntityId, group: Option<&str>) -> Answer<Vec<TargetState>> {
        let query: Vec<_> = group.map(|name| ("group", name.to_owned())).into_iter().collect();
        self.answer(self.request(Endpoint::RolloutTargets, &path(id), &query).at_most(TARGETS_BYTES_MAX))
            .await
    }

    /// Says what targets run; what each shall run. Kept when this answers. Errors: all targets have more than
    /// [`TARGETS_BYTES_MAX`]; what was reported is kept all the same.
    pub async fn report_targets(&self, id: &EntityId, reports: &Reports) -> Answer<Assignments> {
        let request = self.request(Endpoint::ReportTargets, &path(id), &[]).at_most(TARGETS_BYTES_MAX);
        self.answer(self.with_body(request, reports)?).await
    }

    /// Asks something of an entity. Where the answer was lost, [`Client::rollout`] tells whether it was done.
    pub async fn act_on_rollout(&self, id: &EntityId, action: &RolloutAction) -> Answer<RolloutChanged> {
        let request = self.request(Endpoint::ActOnRollout, &path(id), &[]);
        self.answer(self.with_body(request, action)?).await
    }

    /// Says whom an entity asks, in the place of all it asked so far.
    pub async fn set_controllers(&self, id: &EntityId, controllers: &Controllers) -> Answer<RolloutState> {
        let request = self.request(Endpoint::SetControllers, &path(id), &[]);
        self.answer(self.with_body(request, controllers)?).await
    }

    /// Forgets an entity and all that is known of it.
    pub async fn forget_rollout(&self, id: &EntityId) -> Answer<()> {
        self.answer(self.request(Endpoint::ForgetRollout, &path(id), &[])).await
    }
}

fn path(id: &EntityId) -> [&str; 2] {
    [id.namespace(), id.entity()]
}

#[cfg(test)]
mod tests {
    use upbeat_model::rollout::{HeldState, TargetId};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::ClientError;
    use crate::decode::MAX_RECORD;

    #[test]
    fn all_targets_there_may_be_fit_into_an_answer_with_a_sentence_each() {
        let now = Wall(1_800_000_000_000);
        let held = |digit: &str| HeldState {
            version: Version::new(&format!("sha256:{}", digit.repeat(64))).ok(),
            since: now,
            message: "x".repeat(120),
            message_at: now,
            is_error: true,
        };
        let target = TargetState {
            id: TargetId::new(&"g".repeat(40), &"n".repeat(40)).unwrap(),
            labels: [("region".to_owned(), "eu-central-1".to_owned())].into(),
            current: held("0"),
            assigned: held("1"),
            seen: now,
        };
        let rollout = RolloutState::unknown(&EntityId::new("prod", "web").unwrap());
        let of =
            |targets| serde_json::to_vec(&Assignments { rollout: rollout.clone(), targets }).unwrap().len();
        let (none, one, two) = (of(vec![]), of(vec![target.clone()]), of(vec![target.clone(), target]));
        let all = none + (one - none) + (two - one) * (Reports::MAX - 1);
        assert!((MAX_RECORD..=TARGETS_BYTES_MAX).contains(&all), "{} MiB", all >> 20);
    }

    /// An empty list in so many bytes, to whoever asks.
    async fn tells(listener: &tokio::net::UnixListener, bytes: usize) {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n[");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut list = vec![b' '; bytes - 1];
        list[bytes - 2] = b']';
        // Whoever has heard enough is gone.
        let _ = stream.write_all(&list).await;
    }

    #[tokio::test]
    async fn of_an_answer_about_all_targets_more_is_taken_than_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let client = Client::new(&socket);
        let id = EntityId::new("prod", "web").unwrap();
        let (targets, ()) = tokio::join!(client.rollout_targets(&id, None), tells(&listener, MAX_RECORD + 1));
        assert_eq!(targets.unwrap(), []);
        for (bytes, is_taken) in [(MAX_RECORD, true), (MAX_RECORD + 1, false)] {
            let (past, ()) = tokio::join!(client.rollout_history(&id), tells(&listener, bytes));
            match past {
                Ok(past) => assert!(is_taken && past.is_empty()),
                Err(ClientError::Protocol { detail, .. }) if !is_taken => {
                    assert_eq!(detail, "more than 64 MiB");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

//! Services with an endpoint whose start command has ended well, and that was not known to start them
//! elsewhere: what it has started may be there. Nobody but the endpoint knows.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use upbeat_model::target::Goal;
use upbeat_model::{App, Phase};

use super::conduct::{CHECKS_AT_ONCE, Conductor};
use super::error::ServicesError;
use super::registry::Registry;
use super::seen::by_name;
use super::service::Service;
use super::translate::is_external;
use crate::backend::Backend;

/// What an endpoint says of a service that may be elsewhere.
enum Found {
    /// It answers: it is there. Whether there is a word by now for how it is stopped.
    There { has_stop_command: bool },
    /// It does not.
    Silent,
    /// It could not be asked, which says nothing.
    Unknown(ServicesError),
}

/// Those of an app, as they were when they were asked.
#[derive(Default)]
pub(super) struct Elsewhere {
    found: BTreeMap<String, Found>,
}

impl Elsewhere {
    /// Asks those of these names that may be elsewhere, many at a time. Whoever is not named is not waited
    /// for.
    pub(super) async fn look<B: Backend>(
        conductor: &Conductor<B>,
        registry: &Registry,
        app: Option<&App>,
        names: impl IntoIterator<Item = &String>,
    ) -> Self {
        let seen = by_name(app);
        // One that was started as it is declared now, with an endpoint and a stop command, has not ended as
        // long as it is to run: whoever has was started by an earlier word, whatever is declared by now.
        let has_ended = |service: &Service| {
            let status = seen.get(service.name.as_str()).filter(|_| service.health_check_endpoint.is_some());
            status.is_some_and(|status| status.goal == Goal::Running && status.phase == Phase::Completed)
        };
        let ended = names.into_iter().filter_map(|name| registry.get(name).ok().cloned());
        let ended: Vec<_> = ended.filter(|service| has_ended(service)).collect();
        let asked = stream::iter(ended).map(|service| async move {
            let found = match conductor.answer(registry, &service).await {
                Ok(Some(answer)) if answer.unasked => {
                    Found::Unknown(ServicesError::Unasked { name: service.name.clone(), why: answer.message })
                }
                Ok(Some(answer)) if answer.healthy => {
                    Found::There { has_stop_command: is_external(&service) }
                }
                Ok(_) => Found::Silent,
                Err(error) => Found::Unknown(error),
            };
            (service.name.clone(), found)
        });
        Self { found: asked.buffered(CHECKS_AT_ONCE).collect().await }
    }

    /// It is there.
    pub(super) fn answers(&self, name: &str) -> bool {
        matches!(self.found.get(name), Some(Found::There { .. }))
    }

    /// It is there, and to start it once more would change nothing: without a stop command it would be as
    /// little ours as before.
    pub(super) fn is_left_alone(&self, name: &str) -> bool {
        matches!(self.found.get(name), Some(Found::There { has_stop_command: false }))
    }

    /// It was to be there, and is not.
    pub(super) fn is_silent(&self, name: &str) -> bool {
        matches!(self.found.get(name), Some(Found::Silent))
    }

    /// Why nobody can say whether it is there, if nobody can.
    pub(super) fn unknown(&self, name: &str) -> Option<&ServicesError> {
        match self.found.get(name)? {
            Found::Unknown(error) => Some(error),
            Found::There { .. } | Found::Silent => None,
        }
    }

    /// Why this one cannot be stopped, if it cannot.
    pub(super) fn refusal(&self, name: &str) -> Option<ServicesError> {
        let remedy = match self.found.get(name)? {
            Found::There { has_stop_command: false } => {
                "say in its `stop_command` how it is stopped there, and start it again"
            }
            Found::There { has_stop_command: true } => {
                "its `stop_command` was not known when it was started: start it again first"
            }
            Found::Unknown(error) => return Some(error.clone()),
            Found::Silent => return None,
        };
        let why = format!(
            "its start command has ended and its `health_check_endpoint` answers, so it runs elsewhere; {remedy}"
        );
        Some(ServicesError::StopFailed { name: name.to_owned(), why })
    }
}

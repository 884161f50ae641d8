//! Services with an endpoint and nothing that stops them, whose start command has ended well: what it has
//! started may be there, elsewhere. Nobody but the endpoint knows.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use upbeat_model::target::Goal;
use upbeat_model::{App, Phase};

use super::conduct::{CHECKS_AT_ONCE, Conductor};
use super::error::ServicesError;
use super::registry::Registry;
use super::seen::by_name;
use super::service::Service;
use super::translate::may_be_elsewhere;
use crate::backend::Backend;

/// What an endpoint says of a service that may be elsewhere.
enum Found {
    /// It answers: it is there.
    There,
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
        let has_ended = |service: &Service| {
            let status = seen.get(service.name.as_str()).filter(|_| may_be_elsewhere(service));
            status.is_some_and(|status| status.goal == Goal::Running && status.phase == Phase::Completed)
        };
        let ended = names.into_iter().filter_map(|name| registry.get(name).ok().cloned());
        let ended: Vec<_> = ended.filter(|service| has_ended(service)).collect();
        let asked = stream::iter(ended).map(|service| async move {
            let found = match conductor.answer(registry, &service).await {
                Ok(Some(answer)) if answer.unasked => {
                    Found::Unknown(ServicesError::Unasked { name: service.name.clone(), why: answer.message })
                }
                Ok(Some(answer)) if answer.healthy => Found::There,
                Ok(_) => Found::Silent,
                Err(error) => Found::Unknown(error),
            };
            (service.name.clone(), found)
        });
        Self { found: asked.buffered(CHECKS_AT_ONCE).collect().await }
    }

    /// It is there.
    pub(super) fn answers(&self, name: &str) -> bool {
        matches!(self.found.get(name), Some(Found::There))
    }

    /// It was to be there, and is not.
    pub(super) fn is_silent(&self, name: &str) -> bool {
        matches!(self.found.get(name), Some(Found::Silent))
    }

    /// Why nobody can say whether it is there, if nobody can.
    pub(super) fn unknown(&self, name: &str) -> Option<&ServicesError> {
        match self.found.get(name)? {
            Found::Unknown(error) => Some(error),
            Found::There | Found::Silent => None,
        }
    }

    /// Why this one cannot be stopped, if it cannot.
    pub(super) fn refusal(&self, name: &str) -> Option<ServicesError> {
        match self.found.get(name)? {
            Found::There => {
                let why = "its start command has ended and its `health_check_endpoint` answers, so it runs \
                           elsewhere; say in its `stop_command` how it is stopped there, and start it again";
                Some(ServicesError::StopFailed { name: name.to_owned(), why: why.to_owned() })
            }
            Found::Unknown(error) => Some(error.clone()),
            Found::Silent => None,
        }
    }
}

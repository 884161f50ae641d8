//! Services with an endpoint and nothing that stops them, whose start command has ended well: what it has
//! started may be there, elsewhere. Nobody but the endpoint knows.

use std::collections::BTreeSet;

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

/// Those of an app, as they were when they were asked.
#[derive(Default)]
pub(super) struct Elsewhere {
    /// Their endpoint answers: they are there.
    answering: BTreeSet<String>,
    /// It does not.
    silent: BTreeSet<String>,
}

impl Elsewhere {
    /// Asks them, many at a time.
    pub(super) async fn look<B: Backend>(
        conductor: &Conductor<B>,
        registry: &Registry,
        app: Option<&App>,
    ) -> Result<Self, ServicesError> {
        let seen = by_name(app);
        let has_ended = |service: &Service| {
            let status = seen.get(service.name.as_str()).filter(|_| may_be_elsewhere(service));
            status.is_some_and(|status| status.goal == Goal::Running && status.phase == Phase::Completed)
        };
        let names: Vec<String> = (registry.iter())
            .filter(|service| has_ended(service))
            .map(|service| service.name.clone())
            .collect();
        let seen = &seen;
        let asked = stream::iter(names).map(|name| async move {
            let health = conductor.health_among(registry, &name, seen).await;
            (name, health)
        });
        let answers: Vec<_> = asked.buffered(CHECKS_AT_ONCE).collect().await;
        let mut elsewhere = Self::default();
        for (name, health) in answers {
            match health?.healthy {
                true => elsewhere.answering.insert(name),
                false => elsewhere.silent.insert(name),
            };
        }
        Ok(elsewhere)
    }

    /// It is there.
    pub(super) fn answers(&self, name: &str) -> bool {
        self.answering.contains(name)
    }

    /// It was to be there, and is not.
    pub(super) fn is_silent(&self, name: &str) -> bool {
        self.silent.contains(name)
    }

    /// Why this one cannot be stopped, if it cannot.
    pub(super) fn refusal(&self, name: &str) -> Option<ServicesError> {
        let why = "its start command has ended and its `health_check_endpoint` answers, so it runs elsewhere; \
                   say in its `stop_command` how it is stopped there, and start it again";
        self.answers(name).then(|| ServicesError::StopFailed { name: name.to_owned(), why: why.to_owned() })
    }
}

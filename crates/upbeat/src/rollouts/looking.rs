//! What there is to be looked at.

use std::collections::BTreeSet;

use upbeat_model::rollout::EntityId;

use super::{EngineError, PastState, RolloutEngine, RolloutState};

impl RolloutEngine {
    /// Where an entity is, and why it goes no further.
    ///
    /// Errors: nobody has named it.
    pub async fn get_rollout_info(&self, namespace: &str, entity: &str) -> Result<RolloutState, EngineError> {
        let id = EntityId::new(namespace, entity)?;
        self.run(
            |kept, _| async move { kept.rollout(&id).await?.ok_or_else(|| EngineError::Unknown(id.clone())) },
        )
        .await
    }

    /// The rollouts of an entity that have ended, the latest first.
    ///
    /// Errors: nobody has named it.
    pub async fn get_history(&self, namespace: &str, entity: &str) -> Result<Vec<PastState>, EngineError> {
        let id = EntityId::new(namespace, entity)?;
        self.run(
            |kept, _| async move { kept.history(&id).await?.ok_or_else(|| EngineError::Unknown(id.clone())) },
        )
        .await
    }

    /// All namespaces, in order.
    pub async fn get_namespaces(&self) -> Result<Vec<String>, EngineError> {
        let entities = self.entities(None).await?;
        let namespaces: BTreeSet<String> = entities.into_iter().map(|(namespace, _)| namespace).collect();
        Ok(namespaces.into_iter().collect())
    }

    /// The entities of a namespace, in order. Of one that nobody has named there are none.
    pub async fn get_entities(&self, namespace: &str) -> Result<Vec<String>, EngineError> {
        let entities = self.entities(Some(namespace.to_owned())).await?;
        Ok(entities.into_iter().map(|(_, entity)| entity).collect())
    }

    async fn entities(&self, namespace: Option<String>) -> Result<Vec<(String, String)>, EngineError> {
        self.run(|kept, _| async move {
            let ids = kept.entities(namespace.as_deref()).into_iter();
            Ok(ids.map(|id| (id.namespace().to_owned(), id.entity().to_owned())).collect())
        })
        .await
    }
}

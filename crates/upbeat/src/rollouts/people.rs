//! What people ask of an entity. `by` says who did, for those who look later.

use upbeat_control::rollouts::Change;
use upbeat_model::rollout::{EntityId, MESSAGE_MAX, TargetId};

use super::{EngineError, RolloutEngine, Version, Wall};

impl RolloutEngine {
    /// Moves no target forward for now. Those on their way are judged all the same.
    pub async fn pause(&self, namespace: &str, entity: &str, by: &str) -> Result<(), EngineError> {
        self.ask(namespace, entity, Change::Pause { by: by.to_owned() }, by).await
    }

    /// Moves targets again. Errors: it is not paused.
    pub async fn resume(&self, namespace: &str, entity: &str, by: &str) -> Result<(), EngineError> {
        self.ask(namespace, entity, Change::Resume, by).await
    }

    /// Lets what waits at the gate of a stage go on. Errors: it waits for no approval.
    pub async fn approve(&self, namespace: &str, entity: &str, by: &str) -> Result<(), EngineError> {
        self.ask(namespace, entity, Change::Approve { by: by.to_owned() }, by).await
    }

    /// One step forward: beyond the gate it waits at, or the stage it is in is taken for done. Beyond the last, or
    /// where there are no stages, what is rolled out now is good. Errors: nothing is rolled out.
    pub async fn promote(&self, namespace: &str, entity: &str, by: &str) -> Result<(), EngineError> {
        self.ask(namespace, entity, Change::Promote { by: by.to_owned() }, by).await
    }

    /// What is rolled out now is good, whatever it waits for. Errors: nothing is rolled out.
    pub async fn promote_all(&self, namespace: &str, entity: &str, by: &str) -> Result<(), EngineError> {
        self.ask(namespace, entity, Change::PromoteAll { by: by.to_owned() }, by).await
    }

    /// What is rolled out now is bad, and all go back. Errors: nothing is rolled out.
    pub async fn abort(&self, namespace: &str, entity: &str, by: &str, why: &str) -> Result<(), EngineError> {
        check("why", why)?;
        let change = Change::Abort { by: by.to_owned(), why: why.to_owned() };
        self.ask(namespace, entity, change, by).await
    }

    /// Tries the version again that is held to be bad. Errors: none is that was asked for last.
    pub async fn retry(&self, namespace: &str, entity: &str, by: &str) -> Result<(), EngineError> {
        self.ask(namespace, entity, Change::Retry, by).await
    }

    /// Back to the version that was good before, at once and without stages. Errors: none was.
    pub async fn undo(&self, namespace: &str, entity: &str, by: &str) -> Result<(), EngineError> {
        self.ask(namespace, entity, Change::Undo { by: by.to_owned() }, by).await
    }

    /// A target has failed on the version it shall run, and is not waited for; its group may be empty.
    ///
    /// Errors: there is no such target, or it has another version.
    pub async fn fail_target(
        &self,
        (namespace, entity): (&str, &str),
        (group, name): (&str, &str),
        by: &str,
        why: &str,
    ) -> Result<(), EngineError> {
        check("why", why)?;
        let (target, why) = (TargetId::new(group, name)?, why.to_owned());
        self.ask(namespace, entity, Change::Fail { target, by: by.to_owned(), why }, by).await
    }

    /// Holds nothing against this version from then on; `None`: from now on. Errors: nothing is.
    pub async fn forgive(
        &self,
        namespace: &str,
        entity: &str,
        version: &str,
        until: Option<Wall>,
    ) -> Result<(), EngineError> {
        let (id, version) = (EntityId::new(namespace, entity)?, Version::new(version)?);
        self.run(|kept, _| async move {
            let until = until.map(|until| kept.at(until));
            kept.change(id, Change::Forgive { version, until }, None).await?;
            Ok(())
        })
        .await
    }

    /// Forgets all about an entity, and whom it asks. Errors: nobody has named it.
    pub async fn forget(&self, namespace: &str, entity: &str) -> Result<(), EngineError> {
        let id = EntityId::new(namespace, entity)?;
        self.run(|kept, own| async move {
            kept.forget(id.clone()).await?;
            own.register(&id, |registered| *registered = super::controllers::Registered::default());
            Ok(())
        })
        .await
    }

    async fn ask(&self, namespace: &str, entity: &str, change: Change, by: &str) -> Result<(), EngineError> {
        check("by", by)?;
        self.change(namespace, entity, change, Some(by)).await.map(drop)
    }
}

/// What is kept and shown with the entity must fit there.
fn check(field: &'static str, words: &str) -> Result<(), EngineError> {
    match words.len() <= MESSAGE_MAX {
        true => Ok(()),
        false => Err(EngineError::Long { field }),
    }
}

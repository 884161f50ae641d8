//! What control remembers of an app: what is declared, and the wish for each slot.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use upbeat_model::device::Declared;
use upbeat_model::target::{Ask, Goal, TargetSlot};
use upbeat_model::{AppName, IdempotencyKey, OperationId, Project, Service, ServiceName, SlotId, Wall, Wish};

/// One app, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRecord {
    /// Its name.
    pub name: AppName,
    /// Grows with every `up` that changes what is declared.
    pub release: u64,
    /// What is declared now.
    pub project: Project,
    /// Somebody asked for it to be forgotten.
    pub leaving: bool,
    /// The wish for each slot; specs that are declared now are not repeated here.
    pub slots: BTreeMap<SlotId, SlotRecord>,
    /// What the device document said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Declared>,
    /// What it was before what is sought now: what is called off goes back to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<AppRecord>>,
}

/// The wish for one slot, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// Where to.
    pub goal: Goal,
    /// See [`TargetSlot::generation`].
    pub generation: u64,
    /// See [`TargetSlot::ask`].
    pub ask: Ask,
    /// See [`TargetSlot::kill`].
    pub kill: bool,
    /// See [`TargetSlot::heeds_locks`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub heeds_locks: bool,
    /// The operation that set this.
    pub operation: OperationId,
    /// The release its spec comes from.
    pub release: u64,
    /// Its spec, where it is not the one declared now: the service was dropped, or this `up` left
    /// it out.
    pub spec: Option<Arc<Service>>,
}

/// An operation, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// In which app.
    pub app: AppName,
    /// What was asked.
    pub what: String,
    /// Who asked.
    pub who: String,
    /// Under which the same request may come again.
    #[serde(default)]
    pub key: Option<IdempotencyKey>,
    /// Of all that was asked, where there is a key: two requests under one key are told apart by it.
    #[serde(default)]
    pub digest: String,
    /// What it says of slots was forgotten, as there was too much of it.
    #[serde(default)]
    pub is_outline: bool,
    /// When.
    pub at: Wall,
    /// Slot by slot.
    pub slots: BTreeMap<SlotId, Wish>,
}

impl OperationRecord {
    /// No slot is pending any more.
    pub fn ended(&self) -> bool {
        !self.slots.values().any(|wish| *wish == Wish::Pending)
    }

    /// As clients see it.
    pub fn shown(&self, id: OperationId) -> upbeat_model::Operation {
        upbeat_model::Operation {
            id,
            app: self.app.clone(),
            what: self.what.clone(),
            who: self.who.clone(),
            at: self.at,
            slots: self.slots.clone(),
            ended: self.ended(),
        }
    }
}

impl AppRecord {
    /// The wishes of this app as an agent receives them.
    pub fn target(&self) -> impl Iterator<Item = (SlotId, TargetSlot)> + '_ {
        let declared: BTreeMap<&ServiceName, (Arc<Service>, String)> = (self.project.services.iter())
            .map(|(name, service)| (name, (Arc::new(service.clone()), service.digest())))
            .collect();
        let base_environment = Arc::new(self.project.base_environment.clone());
        self.slots.iter().filter_map(move |(id, slot)| {
            let (spec, digest) = match &slot.spec {
                Some(spec) => (spec.clone(), spec.digest()),
                None => declared.get(&id.service)?.clone(),
            };
            let (spec, digest) = match spec.for_copy(id.service.as_str(), id.index) {
                Ok(Cow::Owned(copy)) => {
                    let digest = copy.digest();
                    (Arc::new(copy), digest)
                }
                // Each copy was tried before it was wished for.
                Ok(Cow::Borrowed(_)) | Err(_) => (spec, digest),
            };
            let wish = TargetSlot {
                goal: slot.goal,
                spec,
                digest,
                release: slot.release,
                generation: slot.generation,
                ask: slot.ask,
                kill: slot.kill,
                heeds_locks: slot.heeds_locks,
                operation: slot.operation,
                base_environment: base_environment.clone(),
            };
            Some((id.clone(), wish))
        })
    }

    /// Slots of one service that shall exist.
    pub fn copies(&self, service: &ServiceName) -> impl Iterator<Item = &SlotId> + '_ {
        let service = service.clone();
        (self.slots.iter())
            .filter(move |(id, slot)| id.service == service && slot.goal != Goal::Absent)
            .map(|(id, _)| id)
    }
}

//! A change somebody asked for, and how far it is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, IdempotencyKey, OperationId, ServiceName, SlotId};
use crate::project::Service;
use crate::reason::Reason;
use crate::target::Ask;
use crate::time::Wall;

/// `POST /api/v1/apps/{app}/actions`: change what runs of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Start services (empty: all) and what they need.
    Start {
        /// Which.
        #[serde(default)]
        services: Vec<ServiceName>,
    },
    /// Stop services (empty: all), dependents of each first.
    Stop {
        /// Which.
        #[serde(default)]
        services: Vec<ServiceName>,
        /// Without the grace period.
        #[serde(default)]
        kill: bool,
    },
    /// Stop and start services (empty: all), and dependents with `restart: true`.
    Restart {
        /// Which.
        #[serde(default)]
        services: Vec<ServiceName>,
    },
    /// Have running copies of services read their configuration anew (empty: of all that can).
    Reload {
        /// Which.
        #[serde(default)]
        services: Vec<ServiceName>,
    },
    /// Set the number of copies, until the next `up` says otherwise.
    Scale {
        /// Copies by service.
        services: BTreeMap<ServiceName, u32>,
    },
}

/// A change of some services of an app, by somebody who declares them one by one. All of it is made,
/// or none; what is not named stays as it is.
///
/// A copy that runs goes on by what it was started with, until it is run anew. Of a service that is new
/// nothing runs until that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// See [`crate::Project::base_environment`]; takes the place of the one before.
    pub base_environment: BTreeMap<String, String>,
    /// Declared so from now on. Dependencies on what is not declared are left out.
    pub put: BTreeMap<ServiceName, Service>,
    /// Declared no more: stopped, and forgotten.
    pub take: BTreeSet<ServiceName>,
    /// To be run, by what is declared now; not what they need.
    pub run: BTreeMap<ServiceName, Ask>,
}

/// Where a change comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who asks: `uid 1000`.
    pub who: String,
    /// Under which the same request may come again.
    pub key: Option<IdempotencyKey>,
}

/// What stands before the copy whose end a change follows from.
const END_OF: &str = "`exit_on_end` of ";

impl Origin {
    /// Of a stop that nobody asks for: this copy has ended so, and its app ends with it.
    pub fn end_of(slot: &SlotId, how: &str) -> Self {
        Self { who: format!("{END_OF}{}: {how}", slot.short()), key: None }
    }

    /// The copy of this app whose end a change by this one follows from, and how that ended: what
    /// [`Origin::end_of`] was told.
    pub fn is_end_of<'a>(app: &AppName, who: &'a str) -> Option<(SlotId, &'a str)> {
        let (slot, how) = who.strip_prefix(END_OF)?.split_once(": ")?;
        let (service, index) = slot.rsplit_once('-')?;
        let (service, index) = (ServiceName::new(service).ok()?, index.parse().ok()?);
        Some((SlotId { app: app.clone(), service, index }, how))
    }
}

impl Operation {
    /// The copy whose end it follows from, where nobody asked for it, and how that ended:
    /// [`Origin::end_of`].
    pub fn is_end_of(&self) -> Option<(SlotId, &str)> {
        Origin::is_end_of(&self.app, &self.who)
    }
}

/// The answer to every change: an operation to wait on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Operation {
    /// Its number.
    pub id: OperationId,
    /// In which app.
    pub app: AppName,
    /// What was asked, in words.
    pub what: String,
    /// Who asked: `uid 1000`.
    pub who: String,
    /// When.
    pub at: Wall,
    /// Which slots it set a goal for, and how far each is.
    pub slots: BTreeMap<SlotId, Wish>,
    /// True when no slot is pending any more.
    pub ended: bool,
}

/// How one slot's part of an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Wish {
    /// Not there yet.
    Pending,
    /// The goal is reached: ready, completed, stopped or absent.
    Reached,
    /// A later operation set another goal.
    Superseded {
        /// Which.
        by: OperationId,
    },
    /// It can not be reached.
    Failed {
        /// Why.
        reasons: Vec<Reason>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_knows_whose_end_it_follows_from() {
        let slot: SlotId = "shop/web-api/2".parse().unwrap();
        let of = |who: String| Operation {
            id: OperationId(1),
            app: AppName::new("shop").unwrap(),
            what: "stop".into(),
            who,
            at: Wall(0),
            slots: BTreeMap::new(),
            ended: false,
        };
        let how = "could not start: `a: b`";
        assert_eq!(of(Origin::end_of(&slot, how).who).is_end_of(), Some((slot, how)));
        assert_eq!(of("uid 1000".into()).is_end_of(), None);
    }
}

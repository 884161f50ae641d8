//! What there is to be seen of slots, for numbers and for those who ask what took so long.

use std::collections::BTreeMap;

use upbeat_model::{AppName, Mono, SlotId, SlotStatus, Starts};

use crate::control::Control;
use crate::error::ControlError;

impl Control {
    /// How all slots look that an agent has told of.
    pub fn statuses(&self) -> Vec<SlotStatus> {
        self.state().statuses()
    }

    /// How a slot looks, once an agent has looked at it.
    pub fn status(&self, slot: &SlotId) -> Option<SlotStatus> {
        self.state().seen(slot).cloned()
    }

    /// The digest of the spec that a slot was last started by, as its agent has told.
    pub fn running_digest(&self, slot: &SlotId) -> Option<String> {
        self.state().running_digest(slot)
    }

    /// Since when the copies are up that are, on the boot clock: what they are shown as started at is of
    /// the clock on the wall, which steps.
    pub fn up_since(&self) -> BTreeMap<SlotId, Mono> {
        self.state().up_since()
    }

    /// Whether there is such an app.
    pub fn has(&self, app: &AppName) -> bool {
        self.state().app(app).is_some()
    }

    /// The last start of each slot of an app. Errors: there is no such app.
    pub fn starts(&self, app: &AppName, now: Mono) -> Result<Starts, ControlError> {
        self.state().starts(app, now).ok_or_else(|| ControlError::NoSuchApp(app.clone()))
    }
}

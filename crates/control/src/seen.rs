//! What there is to be seen of slots, for numbers and for those who ask what took so long.

use upbeat_model::{AppName, Mono, SlotStatus, Starts};

use crate::control::Control;
use crate::error::ControlError;

impl Control {
    /// How all slots look that an agent has told of.
    pub fn statuses(&self) -> Vec<SlotStatus> {
        self.state().statuses()
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

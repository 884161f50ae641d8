//! Whom an entity asks: what has a say in which targets are moved, and in how well they are.

use serde::{Deserialize, Serialize};

/// The longest address, in bytes.
pub const URL_MAX: usize = 2048;

/// Whom an entity asks, for each question (`spec/nixmade.md` 2.E). Who is not named is not asked: all may go,
/// none is removed, all are well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Controllers {
    /// Which targets are next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selection: Option<Controller>,
    /// Which of those may go now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Controller>,
    /// Which old targets go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removal: Option<Controller>,
    /// Whether a target is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Controller>,
    /// Whether the whole is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_monitoring: Option<Controller>,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// `POST` to this address, in the first such engine's protocol.
    Web(String),
    /// A command: the same request on its standard input, the same answer on its standard output.
    Exec(Vec<String>),
}

/// Nobody can be asked so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct ControllerError {
    /// Which controller: `selection`, `approval`, `removal`, `monitoring`, `external_monitoring`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Controllers {
    /// Each that is asked, by the name of its field.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Controller)> {
        let all = [
            ("selection", &self.selection),
            ("approval", &self.approval),
            ("removal", &self.removal),
            ("monitoring", &self.monitoring),
            ("external_monitoring", &self.external_monitoring),
        ];
        all.into_iter().filter_map(|(field, controller)| Some((field, controller.as_ref()?)))
    }
}

//! The health check of an image: the engine asks it, and is asked what it has come to.
//!
//! Of a service whose file has a check of its own the engine asks nothing.

use serde::Deserialize;
use upbeat_model::project::{Question, Service};
use upbeat_model::{Attempt, SlotId};

use super::wire::{Ask, part};
use super::{Engine, EngineError, PrepareError, words};

/// How a container is, as the engine has it by the health check of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageHealth {
    /// It has not come to anything yet.
    Starting,
    /// It passes; what it said last.
    Healthy(String),
    /// It has failed as often as the image says; what it said last.
    Unhealthy(String),
    /// There is none.
    None,
}

/// Of a container or of an image.
#[derive(Deserialize)]
struct Checked {
    #[serde(rename = "Config")]
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "Healthcheck")]
    check: Option<Check>,
}

#[derive(Deserialize)]
struct Check {
    #[serde(rename = "Test")]
    test: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stands {
    state: Option<State>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    health: Option<Health>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    #[serde(default)]
    status: String,
    #[serde(default)]
    log: Option<Vec<Run>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Run {
    #[serde(default)]
    exit_code: i64,
    #[serde(default)]
    output: String,
}

impl Engine {
    /// What the engine has come to.
    ///
    /// Errors: the attempt has ended, or the engine does not answer.
    pub async fn image_health(&self, slot: &SlotId, attempt: Attempt) -> Result<ImageHealth, EngineError> {
        let container = self.container_of(slot, attempt)?;
        let ask = Ask::get(format!("/containers/{}/json", part(&container)));
        let stands: Stands = self.wire().answer(ask).await?;
        Ok(stands.state.and_then(|state| state.health).map_or(ImageHealth::None, Health::come_to))
    }

    /// Whoever waits for the check of an image waits for one that is there. Errors: there is none.
    pub(super) async fn must_be_checked(
        &self,
        slot: &SlotId,
        spec: &Service,
        image: &str,
    ) -> Result<(), PrepareError> {
        if !spec.readiness().is_some_and(|probe| probe.ask == Question::Image) {
            return Ok(());
        }
        let checked: Checked = self.wire().answer(Ask::get(format!("/images/{}/json", part(image)))).await?;
        let test = checked.config.and_then(|config| config.check).and_then(|check| check.test);
        match test.as_deref().and_then(<[String]>::first).map(String::as_str) {
            None | Some("NONE") => Err(PrepareError::Refused(words::no_check(&slot.service))),
            Some(_) => Ok(()),
        }
    }
}

impl Health {
    fn come_to(self) -> ImageHealth {
        let last = self.log.unwrap_or_default().pop();
        let said = last.map_or_else(String::new, |run| match run.output.trim() {
            "" => format!("it ended with {}", run.exit_code),
            said => said.to_owned(),
        });
        match self.status.as_str() {
            "healthy" => ImageHealth::Healthy(said),
            "unhealthy" => ImageHealth::Unhealthy(said),
            "none" | "" => ImageHealth::None,
            _ => ImageHealth::Starting,
        }
    }
}

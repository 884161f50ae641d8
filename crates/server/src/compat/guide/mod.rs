//! The service orchestration guide (`spec/guide.md`): services with a start command, a stop command
//! and a health endpoint, by its words, over HTTP and for programs that embed Upbeat.
//!
//! Laws:
//! * Nothing is started, probed or put into order here. A service of the guide becomes one of
//!   [`upbeat_model::Service`] in the app [`APP`], and the machines do the rest.
//! * What was registered is kept with the app, word by word, as a label of its service.
//! * A command is split without a shell. What would need one is refused, with the remedy.
//! * Whatever waits for something ends with it, or with a reason why it will not come.

mod command;
mod conduct;
mod elsewhere;
mod error;
mod http;
mod registry;
mod seen;
mod service;
mod translate;

pub use command::split;
pub use conduct::{Conductor, LOG_LINES_MAX, check_usable};
pub use error::ServicesError;
#[cfg(test)]
pub(crate) use http::routes;
pub(crate) use http::{is_its, onto, refused};
pub use registry::{Registry, Resolutions, Resolver};
pub use service::{Service, ServiceHealth, ServiceStatus};
pub(crate) use translate::to_look_at;

use std::collections::BTreeMap;
use std::sync::Arc;

use upbeat_model::Millis;

/// The app the guide's services are in.
pub const APP: &str = "services";

/// The guide's two switches: `[orchestrator.services]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServicesSettings {
    /// Whether services may be asked for at all.
    pub manager_enabled: bool,
    /// Whether starting a service starts what it needs. If not, what it needs must run.
    pub auto_start_dependencies: bool,
}

impl Default for ServicesSettings {
    fn default() -> Self {
        Self { manager_enabled: true, auto_start_dependencies: true }
    }
}

/// Where and with what the guide's commands are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The two switches.
    pub settings: ServicesSettings,
    /// What runs a command whose program ends in `.nu`.
    pub nu_path: String,
    /// What commands are told as `PROVISIONING`; nothing where it is empty.
    pub provisioning_path: String,
    /// Absolute: where commands start.
    pub working_dir: String,
    /// Their variables.
    pub base_environment: BTreeMap<String, String>,
    /// After which a health check that was not answered is a no.
    pub health_timeout: Millis,
}

impl Surroundings {
    /// 5 s: longer than a busy service takes, shorter than a person waits.
    pub const HEALTH_TIMEOUT: Millis = Millis::seconds(5);
}

/// What all who speak the guide's words to one daemon share.
#[derive(Clone)]
pub struct Guide {
    surroundings: Arc<Surroundings>,
    resolver: Arc<Resolver>,
}

impl Guide {
    /// With nothing resolved yet.
    pub fn new(surroundings: Surroundings) -> Self {
        Self { surroundings: Arc::new(surroundings), resolver: Arc::default() }
    }

    /// Where and with what commands are run.
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// What puts services into order.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }
}

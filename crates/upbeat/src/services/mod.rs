//! Starts services in the order of their dependencies and says how they are, inside your own program.
//!
//! The same machines as everything of Upbeat do it, in a thread of their own: what was started runs on
//! when your program ends, also when it is killed, and is found again by the next run of it. The page
//! `docs/guide.md` says what becomes of a service, and where this differs from the guide it follows.
//!
//! ```standalone_crate
//! use upbeat::services::{Service, ServiceOrchestrator, ServiceStatus};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let orchestrator = ServiceOrchestrator::new(
//!     "/usr/local/bin/nu".to_string(),
//!     "/usr/local/bin/provisioning".to_string(),
//!     true, // auto_start_dependencies
//! );
//! # let orchestrator = orchestrator.in_directory(dir.path());
//!
//! orchestrator.register_service(Service {
//!     name: "database".to_string(),
//!     description: "Where the orders are".to_string(),
//!     dependencies: vec![],
//!     start_command: "sleep 1000".to_string(),
//!     stop_command: String::new(),
//!     health_check_endpoint: None,
//! }).await;
//! orchestrator.register_service(Service {
//!     name: "web-app".to_string(),
//!     description: "The shop".to_string(),
//!     dependencies: vec!["database".to_string()],
//!     start_command: "sleep 1000".to_string(),
//!     stop_command: String::new(),
//!     health_check_endpoint: None,
//! }).await;
//!
//! let order = orchestrator.resolve_startup_order(&["web-app".to_string()]).await?;
//! assert_eq!(order, ["database", "web-app"]);
//!
//! orchestrator.start_service("web-app").await?;
//! assert_eq!(orchestrator.get_service_status("database").await?, ServiceStatus::Running);
//! assert!(orchestrator.check_service_health("web-app").await?.healthy);
//!
//! orchestrator.stop_service("database").await?; // `web-app` first
//! assert_eq!(orchestrator.get_service_status("web-app").await?, ServiceStatus::Stopped);
//! # Ok(())
//! # }
//!
//! fn main() {
//!     upbeat::services::shim_main(); // First of all: see below.
//!     run().unwrap();
//! }
//! ```
//!
//! # The guide's examples
//!
//! An order has all that is needed, and a circle is an error:
//!
//! ```
//! use upbeat::services::{Service, ServiceOrchestrator};
//!
//! # fn service(name: &str, dependencies: &[&str]) -> Service {
//! #     Service {
//! #         name: name.to_string(),
//! #         description: String::new(),
//! #         dependencies: dependencies.iter().map(|name| name.to_string()).collect(),
//! #         start_command: "sleep 1000".to_string(),
//! #         stop_command: String::new(),
//! #         health_check_endpoint: None,
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let orchestrator = ServiceOrchestrator::new("nu".to_string(), String::new(), true);
//! orchestrator.register_service(service("service-a", &[])).await;
//! orchestrator.register_service(service("service-b", &["service-a"])).await;
//! orchestrator.register_service(service("service-c", &["service-b"])).await;
//!
//! let order = orchestrator.resolve_startup_order(&["service-c".to_string()]).await?;
//! assert_eq!(order, ["service-a", "service-b", "service-c"]);
//!
//! orchestrator.register_service(service("a", &["c"])).await;
//! orchestrator.register_service(service("b", &["a"])).await;
//! orchestrator.register_service(service("c", &["b"])).await;
//!
//! let result = orchestrator.resolve_startup_order(&["a".to_string()]).await;
//! assert!(result.is_err());
//! assert!(result.unwrap_err().to_string().contains("Circular dependency detected"));
//! # Ok(())
//! # }
//! ```
//!
//! All are started as their dependencies allow, then asked how they are:
//!
//! ```standalone_crate
//! use upbeat::services::{Service, ServiceOrchestrator, ServiceStatus};
//!
//! # fn service(name: &str, dependencies: &[&str]) -> Service {
//! #     Service {
//! #         name: name.to_string(),
//! #         description: String::new(),
//! #         dependencies: dependencies.iter().map(|name| name.to_string()).collect(),
//! #         start_command: "sleep 1000".to_string(),
//! #         stop_command: String::new(),
//! #         health_check_endpoint: None,
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let orchestrator = ServiceOrchestrator::new("nu".to_string(), String::new(), true);
//! # let orchestrator = orchestrator.in_directory(dir.path());
//! for (name, dependencies) in [("database", &[][..]), ("cache", &["database"]), ("web-app", &["database", "cache"])] {
//!     orchestrator.register_service(service(name, dependencies)).await;
//! }
//!
//! let started = orchestrator.start_all_services().await?;
//! for service in &started {
//!     println!("Started: {}", service);
//! }
//! assert_eq!(started, ["database", "cache", "web-app"]);
//!
//! for service in &started {
//!     let health = orchestrator.check_service_health(service).await?;
//!     if health.healthy {
//!         println!("✓ {} is healthy", service);
//!     } else {
//!         println!("✗ {} is unhealthy: {}", service, health.message);
//!     }
//!     println!("Last check: {}", health.last_check);
//!     assert!(health.healthy);
//! }
//!
//! let status = orchestrator.get_service_status("web-app").await?;
//! match status {
//!     ServiceStatus::Running => println!("Service is running"),
//!     ServiceStatus::Stopped => println!("Service is stopped"),
//!     ServiceStatus::Failed => println!("Service has failed"),
//!     ServiceStatus::Unknown => println!("Service status unknown"),
//! }
//! # assert_eq!(status, ServiceStatus::Running);
//! # orchestrator.stop_all_services().await?;
//! # Ok(())
//! # }
//! #
//! # fn main() {
//! #     upbeat::services::shim_main();
//! #     run().unwrap();
//! # }
//! ```
//!
//! # Where the shim comes from
//!
//! Every process has a *shim*, a small program that owns it and outlives yours. It is, in this order:
//!
//! 1. what `UPBEAT_SHIM` or [`ServiceOrchestrator::with_shim`] names: the program `upbeat-shim`;
//! 2. your own program, where the first thing in its `main` is [`shim_main`];
//! 3. `upbeat-shim` beside your program, or in the directory above it;
//! 4. `upbeat-shim` in `PATH`.
//!
//! Where there is none, the first operation that needs it says so.

mod embedded;
mod shim;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use upbeat_model::{Millis, Origin};
use upbeat_server::compat::guide::{Conductor, Guide, Registry, ServicesSettings, Surroundings};

pub use shim::shim_main;
pub use upbeat_server::compat::guide::{
    LOG_LINES_MAX, Resolutions, Service, ServiceHealth, ServiceStatus, ServicesError,
};

use crate::daemon::LocalBackend;
use embedded::Embedded;

/// Registers services, starts them with what they need, and says how they are.
///
/// Clones share one orchestrator. When the last one is dropped, services run on as they are, as with a
/// daemon that ends; [`ServiceOrchestrator::stop_all_services`] stops them. Two programs, or two
/// orchestrators, cannot have one directory at a time: the second is told so.
#[derive(Clone)]
pub struct ServiceOrchestrator {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Mutex<Registry>,
    guide: Guide,
    place: Place,
    /// Made when it is first needed: registering and ordering take no directory and no shim.
    embedded: OnceCell<Embedded>,
}

/// Where an orchestrator keeps its things, and what owns its processes.
#[derive(Clone, Debug, Default)]
struct Place {
    directory: Option<PathBuf>,
    shim: Option<PathBuf>,
}

impl ServiceOrchestrator {
    /// With no service yet.
    ///
    /// `nu_path`: what runs a start or stop command whose program ends in `.nu`.
    /// `provisioning_path`: what all commands are told as `PROVISIONING`.
    /// `auto_start_dependencies`: whether starting a service starts what it needs; if not, starting one
    /// whose dependencies do not run is an error that names them.
    ///
    /// Commands have this program's `PATH`, `HOME` and the like, and start in its current directory as
    /// it is now. What is kept of them lies below the user's state directory, under the name of this
    /// program; see [`ServiceOrchestrator::in_directory`].
    pub fn new(nu_path: String, provisioning_path: String, auto_start_dependencies: bool) -> Self {
        let (base_environment, _) = crate::cli::base_environment(|name| std::env::var_os(name));
        let here = std::env::current_dir().ok().and_then(|dir| dir.into_os_string().into_string().ok());
        let settings = ServicesSettings { manager_enabled: true, auto_start_dependencies };
        let guide = Guide::new(Surroundings {
            settings,
            nu_path,
            provisioning_path,
            // A directory that is gone, or no text: then no relative path means anything.
            working_dir: here.unwrap_or_else(|| "/".to_owned()),
            base_environment,
            health_timeout: Surroundings::HEALTH_TIMEOUT,
        });
        Self::with(guide, Place::default(), Registry::default())
    }

    fn with(guide: Guide, place: Place, registry: Registry) -> Self {
        let inner = Inner { registry: Mutex::new(registry), guide, place, embedded: OnceCell::new() };
        Self { inner: Arc::new(inner) }
    }

    /// The same services, by other rules; nothing of it was begun yet.
    fn anew(&self, change: impl FnOnce(&mut Surroundings, &mut Place)) -> Self {
        let (mut around, mut place) = (self.inner.guide.surroundings().clone(), self.inner.place.clone());
        change(&mut around, &mut place);
        Self::with(Guide::new(around), place, self.registry().clone())
    }

    /// Keeps its things in this directory, which is made where it is missing, and belongs to it alone.
    #[must_use]
    pub fn in_directory(&self, directory: impl AsRef<Path>) -> Self {
        self.anew(|_, place| place.directory = Some(directory.as_ref().to_owned()))
    }

    /// Has processes owned by this program, which is `upbeat-shim`.
    #[must_use]
    pub fn with_shim(&self, program: impl AsRef<Path>) -> Self {
        self.anew(|_, place| place.shim = Some(program.as_ref().to_owned()))
    }

    /// A health check that was not answered within so long is a no; 5 s where nothing is said.
    #[must_use]
    pub fn with_health_timeout(&self, timeout: Duration) -> Self {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.anew(|around, _| around.health_timeout = Millis(millis))
    }

    /// Gives all commands this variable besides.
    #[must_use]
    pub fn with_variable(&self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.anew(|around, _| drop(around.base_environment.insert(name.into(), value.into())))
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // A panic while it was held was in a read: every change is one assignment.
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a service in, in the place of one of the same name. What runs goes on as it was started,
    /// until it is restarted.
    ///
    /// Nothing is judged here: a service may come before what it needs. What is wrong with one is said
    /// by whatever is asked of it; [`ServiceOrchestrator::try_register_service`] says it at once.
    pub async fn register_service(&self, service: Service) {
        self.registry().insert(service);
    }

    /// As [`ServiceOrchestrator::register_service`]. Errors: a service that cannot be run, or that would
    /// close a circle; it is not taken in.
    pub async fn try_register_service(&self, service: Service) -> Result<(), ServicesError> {
        upbeat_server::compat::guide::check_usable(&service, self.inner.guide.surroundings())?;
        let mut registry = self.registry();
        let mut with_it = registry.clone();
        let name = [service.name.clone()];
        with_it.insert(service);
        if let Err(error @ ServicesError::Circular(_)) = self.inner.guide.resolver().resolve(&with_it, &name)
        {
            return Err(error);
        }
        *registry = with_it;
        Ok(())
    }

    /// Stops a service and forgets it. Errors: others depend on it.
    pub async fn unregister_service(&self, name: &str) -> Result<(), ServicesError> {
        let name = name.to_owned();
        let gone = name.clone();
        self.ask(move |conductor, registry, origin| async move {
            conductor.unregister(&registry, &name, origin).await
        })
        .await?;
        self.registry().remove(&gone);
        Ok(())
    }

    /// These services and all they need, in the order in which they start: level by level, by name
    /// within a level.
    pub async fn resolve_startup_order(&self, services: &[String]) -> Result<Vec<String>, ServicesError> {
        let registry = self.registry();
        Ok(self.inner.guide.resolver().resolve(&registry, services)?.to_vec())
    }

    /// How often an order was remembered, and how often it was worked out. It is remembered until a
    /// service comes or goes, or depends on others.
    pub fn resolutions(&self) -> Resolutions {
        self.inner.guide.resolver().counts()
    }

    /// Starts a service, what it needs first. Returns when its start command has ended well (where it
    /// runs elsewhere), or its process was still there half a second later. One that runs is left alone.
    pub async fn start_service(&self, name: &str) -> Result<(), ServicesError> {
        let name = name.to_owned();
        self.ask(
            move |conductor, registry, origin| async move { conductor.start(&registry, &name, origin).await },
        )
        .await
    }

    /// Starts all services, as many at a time as their dependencies allow. Returns those that run then,
    /// or have ended well, in the order in which they start. Others go on when one fails, but for those
    /// that need it.
    pub async fn start_all_services(&self) -> Result<Vec<String>, ServicesError> {
        self.ask(|conductor, registry, origin| async move { conductor.start_all(&registry, origin).await })
            .await
    }

    /// Stops a service, what depends on it first. Returns when it has ended.
    pub async fn stop_service(&self, name: &str) -> Result<(), ServicesError> {
        let names = [name.to_owned()];
        self.ask(
            move |conductor, registry, origin| async move { conductor.stop(&registry, &names, origin).await },
        )
        .await
    }

    /// Stops all services, dependents first.
    pub async fn stop_all_services(&self) -> Result<(), ServicesError> {
        self.ask(|conductor, registry, origin| async move {
            let names = registry.names();
            conductor.stop(&registry, &names, origin).await
        })
        .await
    }

    /// Stops a service and starts it as it is registered now. What depends on it goes on.
    pub async fn restart_service(&self, name: &str) -> Result<(), ServicesError> {
        let name = name.to_owned();
        self.ask(move |conductor, registry, origin| async move {
            conductor.restart(&registry, &name, origin).await
        })
        .await
    }

    /// Asks a service's endpoint how it is, now. Without an endpoint: whether its process is there.
    pub async fn check_service_health(&self, name: &str) -> Result<ServiceHealth, ServicesError> {
        let name = name.to_owned();
        self.ask(move |conductor, registry, _| async move { conductor.health(&registry, &name).await }).await
    }

    /// The same of all services, many at a time.
    pub async fn check_all_services_health(&self) -> Result<BTreeMap<String, ServiceHealth>, ServicesError> {
        self.ask(|conductor, registry, _| async move {
            Ok(conductor.healths(&registry).await?.into_iter().collect())
        })
        .await
    }

    /// How a service is, as far as is known without asking it.
    pub async fn get_service_status(&self, name: &str) -> Result<ServiceStatus, ServicesError> {
        let name = name.to_owned();
        self.ask(move |conductor, registry, _| async move { conductor.status(&registry, &name).await }).await
    }

    /// The last lines a service has printed, at most [`LOG_LINES_MAX`]. What is no UTF-8 is shown as
    /// `\u{fffd}`.
    ///
    /// Errors: it runs elsewhere, where its log is, too; and nothing of it was ever printed here.
    pub async fn get_service_logs(&self, name: &str, tail: u64) -> Result<Vec<String>, ServicesError> {
        let name = name.to_owned();
        self.ask(move |conductor, registry, _| async move { conductor.logs(&registry, &name, tail).await })
            .await
    }

    /// Asks in the thread of the machines, whatever runtime the caller has.
    async fn ask<T, F>(
        &self,
        question: impl FnOnce(Conductor<LocalBackend>, Registry, Origin) -> F,
    ) -> Result<T, ServicesError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ServicesError>> + Send + 'static,
    {
        let embedded = self.inner.embedded.get_or_try_init(|| self.begin()).await?;
        let registry = self.registry().clone();
        embedded.run(question(embedded.conductor(), registry, embedded.origin())).await
    }

    async fn begin(&self) -> Result<Embedded, ServicesError> {
        let Place { directory, shim } = &self.inner.place;
        let embedded =
            Embedded::begin(directory.as_deref(), shim.as_deref(), self.inner.guide.clone()).await?;
        let conductor = embedded.conductor();
        let kept = embedded.run(async move { conductor.registry().await }).await?;
        let mut registry = self.registry();
        for service in kept.iter() {
            // What this run has registered counts.
            if !registry.contains(&service.name) {
                registry.insert(Service::clone(service));
            }
        }
        for (name, why) in kept.unreadable() {
            if !registry.contains(name) {
                registry.insert_unreadable(name.clone(), why.clone());
            }
        }
        drop(registry);
        Ok(embedded)
    }
}

/// The page's example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/guide.md")]
struct Page;

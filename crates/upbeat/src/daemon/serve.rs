//! Joins the rooms to one process and runs it until it is told to end.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use upbeat_agent::{Keep, Report};
use upbeat_control::documents::DocumentFile;
use upbeat_control::webhooks::{Webhook, Webhooks};
use upbeat_control::{Control, Settings};
use upbeat_drivers::clock;
use upbeat_drivers::controllers::Means;
use upbeat_drivers::process::{MARK, ShimProgram, belongs_to};
use upbeat_server::compat::guide::{Guide, ServicesSettings, Surroundings};
use upbeat_store::{Durability, Journal, Store, StoreError};

use super::access::{self, Access, AccessError};
use super::engine::Engine;
use super::rollouts::LocalRollouts;
use super::starting::Starting;
use super::{Dirs, SHIM_ARGUMENT, ensure, failpoint, notify, webhooks};
use crate::cli::base_environment;
use crate::settings;

/// A daemon that was killed, or ends, lets go of its files within milliseconds of its lock.
const PREDECESSOR_ENDS: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// All slots are looked at within milliseconds. One that does not answer must not keep the others
/// from being asked about.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Reports the agent may have ahead of control before it waits.
pub(super) const REPORTS: usize = 256;

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another one has these directories.
    #[error("another daemon runs already, on `{}`", .0.display())]
    Running(PathBuf),
    /// It was called by something that it would look after, and be killed with.
    #[error("the daemon cannot be started by a service that it looks after: it would be stopped with it")]
    Inside,
    /// A directory, file or clock of the system cannot be used.
    #[error("the daemon cannot use {what}")]
    System {
        /// Which.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A store cannot be opened.
    #[error("the daemon cannot open `{}`", path.display())]
    Store {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: upbeat_store::StoreError,
    },
    /// What was kept cannot be read.
    #[error("the daemon cannot read what it kept")]
    Control(#[from] StoreError),
    /// What the agent kept cannot be read.
    #[error("the daemon cannot read what it kept of its slots")]
    Keep(#[from] upbeat_agent::KeepError),
    /// Processes cannot be handled.
    #[error("the daemon cannot handle processes")]
    Driver(#[from] upbeat_drivers::process::DriverError),
    /// Nobody could be let in, or what they do could not be recorded.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// There is a bug in the agent.
    #[error("the agent has ended; what runs goes on, and the next daemon finds it again")]
    AgentEnded,
    /// The socket cannot be used.
    #[error(transparent)]
    Listen(#[from] upbeat_server::BindError),
}

pub(super) fn system(what: &str) -> impl FnOnce(std::io::Error) -> ServeError + '_ {
    move |source| ServeError::System { what: what.to_owned(), source }
}

/// Runs the daemon until SIGTERM or SIGINT. Every service stays as it is.
///
/// `announce`: write `ready` to standard output when it answers, then close it.
pub async fn serve(dirs: &Dirs, settings: &settings::Settings, announce: bool) -> Result<(), ServeError> {
    // Fails only for the leader of a process group: then a terminal's or systemd's own.
    let _ = rustix::process::setsid();
    let guide = Guide::new(surroundings(settings.orchestrator.into()));
    prepare(dirs)?;
    let starting = Starting::say(dirs).map_err(system(&dirs.starting().display().to_string()))?;
    failpoint::reach("daemon_starting");
    let mut engine =
        Engine::begin(dirs, shim_program()?, guide, docker(settings), means(settings), settings.webhooks())
            .await?;
    failpoint::reach("daemon_begun");
    let doors = access::doors(dirs, settings).await?;
    let mut terminate = signal(SignalKind::terminate()).map_err(system("signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("signals"))?;
    let (ended, mut agent_ended) = oneshot::channel();
    let (agent, rollouts) = (engine.take_agent(), engine.rollouts());
    let ending = async move {
        let Some(mut agent) = agent else { return };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = agent.ended() => drop(ended.send(())),
        }
        // Nobody waits for a controller of rollouts that is silent.
        rollouts.give_up();
        // Dropped here, and by that told to end, while answers under way are still given.
        drop(agent);
    };
    // Who connects meanwhile waits.
    engine.looked().await;
    drop(starting);
    if let Err(error) = tell_ready(announce) {
        tracing::warn!(%error, "nobody could be told that the daemon is ready");
    }
    if let Some(missing) = engine.missing_rights() {
        tracing::info!("the daemon may not {missing}: a project that asks for it is refused");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %dirs.socket().display(), "the daemon is ready");
    upbeat_server::serve(doors, engine.backend(), ending).await;
    engine.rollouts().close().await;
    tracing::info!("the daemon ends; what runs goes on");
    match agent_ended.try_recv() {
        Ok(()) => Err(ServeError::AgentEnded),
        Err(_) => Ok(()),
    }
}

/// What was read from disk.
pub(super) struct Opened {
    pub(super) control: Control,
    pub(super) keep: Keep,
    pub(super) access: Access,
    pub(super) rollouts: LocalRollouts,
    pub(super) webhooks: Webhooks,
}

pub(super) async fn open(dirs: &Dirs, means: Means, webhooks: Vec<Webhook>) -> Result<Opened, ServeError> {
    let (store, _) = open_store(dirs.control(), Durability::Machine).await?;
    // Of use only while this machine is up: damaged by a power cut, they begin anew.
    let (_, journal) = open_or_begin_anew(dirs.state.join("events.redb")).await?;
    let (node_store, _) = open_or_begin_anew(dirs.state.join("node.redb")).await?;
    let boot_id = clock::boot_id().map_err(system("/proc"))?;
    let keep = Keep::new(node_store, boot_id.clone(), access::random().map_err(system("random bits"))?);
    let settings = Settings { boot_id, wall: clock::wall, failpoint: failpoint::reach };
    let access = Access::open(dirs, &store).await?;
    let control = Control::open(store.clone(), journal, settings).await?;
    let events = control.events();
    let webhooks = webhooks::open(store.clone(), events.clone(), webhooks, means.clone()).await?;
    let rollouts = LocalRollouts::open(store, events.clone(), means).await?;
    Ok(Opened { control, keep, access, rollouts, webhooks })
}

pub(super) async fn pass_on(mut reports: mpsc::Receiver<Report>, control: Control) {
    while let Some(report) = reports.recv().await {
        match report {
            Report::Changed(changes) => control.report(changes).await,
            Report::Reacted(reacted) => control.reacted(reacted),
            Report::CameTo(outcome) => control.came_to(outcome),
            Report::Adopted { slot, attempt, pid } => control.adopted(slot, attempt, pid),
        }
    }
}

/// The daemon's lock is held, so whoever uses the file is a daemon on its way out: of what it holds,
/// the kernel may let go of that lock first.
async fn open_store(path: PathBuf, durability: Durability) -> Result<(Store, Journal), ServeError> {
    let until = Instant::now() + PREDECESSOR_ENDS;
    loop {
        match upbeat_store::open_redb(&path, durability) {
            Err(StoreError::Locked(_)) if Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
            opened => return opened.map_err(|source| ServeError::Store { path, source }),
        }
    }
}

/// One that is damaged is put aside: services go on without the keys in it, and it is said.
pub(super) fn open_documents(dirs: &Dirs) -> Result<DocumentFile, ServeError> {
    let path = dirs.documents();
    let system = |source| ServeError::System { what: path.display().to_string(), source };
    match DocumentFile::open(path.clone()) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            let aside = path.with_extension("damaged");
            tracing::error!(%error, aside = %aside.display(), "a damaged file is put aside: keys of registries have to be sent again");
            std::fs::rename(&path, aside).map_err(system)?;
            DocumentFile::open(path.clone()).map_err(system)
        }
        opened => opened.map_err(system),
    }
}

/// What runs is found again from the slots themselves when `node.redb` is lost.
async fn open_or_begin_anew(path: PathBuf) -> Result<(Store, Journal), ServeError> {
    match open_store(path, Durability::Process).await {
        Err(ServeError::Store { path, source: source @ StoreError::Corrupt { .. } }) => {
            let aside = path.with_extension("damaged");
            tracing::error!(error = %source, aside = %aside.display(), "a damaged file is put aside");
            std::fs::rename(&path, &aside)
                .map_err(|source| ServeError::System { what: path.display().to_string(), source })?;
            open_store(path, Durability::Process).await
        }
        opened => opened,
    }
}

/// Of the guide's services that are registered with this daemon. Where the person's `PROVISIONING` is a
/// directory, commands start there; else at the root, where no relative path means anything by chance.
fn surroundings(settings: ServicesSettings) -> Surroundings {
    let (base_environment, _) = base_environment(|name| std::env::var_os(name));
    let provisioning_path = std::env::var("PROVISIONING").unwrap_or_default();
    let is_directory = provisioning_path.starts_with('/') && Path::new(&provisioning_path).is_dir();
    let working_dir = if is_directory { provisioning_path.clone() } else { "/".to_owned() };
    Surroundings {
        settings,
        nu_path: "nu".to_owned(),
        provisioning_path,
        working_dir,
        base_environment,
        health_timeout: Surroundings::HEALTH_TIMEOUT,
    }
}

/// Controllers of rollouts are asked with what this daemon was started with.
fn docker(settings: &settings::Settings) -> settings::Docker {
    settings.docker.clone().or_of_environment(|name| std::env::var_os(name))
}

fn means(settings: &settings::Settings) -> Means {
    let (environment, _) = base_environment(|name| std::env::var_os(name));
    Means { policy: settings.callbacks(), environment, ..Means::default() }
}

impl From<settings::Orchestrator> for ServicesSettings {
    fn from(said: settings::Orchestrator) -> Self {
        let settings::Orchestrator { manager_enabled, auto_start_dependencies } = said;
        Self { manager_enabled, auto_start_dependencies }
    }
}

/// `upbeat-shim` beside this program, or this program itself.
fn shim_program() -> Result<ShimProgram, ServeError> {
    let own = std::env::current_exe().map_err(system("its own file"))?;
    let beside = own.with_file_name("upbeat-shim");
    Ok(match beside.is_file() {
        true => ShimProgram { path: beside, args: Vec::new() },
        false => ShimProgram { path: own, args: vec![OsString::from(SHIM_ARGUMENT)] },
    })
}

/// The directories are there. Errors: this process may not be their daemon; they cannot be made.
pub(super) fn prepare(dirs: &Dirs) -> Result<(), ServeError> {
    if std::env::var(MARK).is_ok_and(|mark| belongs_to(&dirs.slots(), &mark)) {
        return Err(ServeError::Inside);
    }
    dirs.create().map_err(system("its directories"))
}

pub(super) fn take_lock(dirs: &Dirs) -> Result<File, ServeError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dirs.lock();
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| ServeError::System { what: path.display().to_string(), source })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(ServeError::Running(dirs.socket())),
    }
}

/// The lock, once a daemon that has just ended has let go of it; the kernel takes a moment. Blocks.
pub(super) fn wait_for_lock(dirs: &Dirs) -> Result<File, ServeError> {
    let until = Instant::now() + PREDECESSOR_ENDS;
    loop {
        match take_lock(dirs) {
            Err(ServeError::Running(_)) if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
            taken => return taken,
        }
    }
}

fn tell_ready(announce: bool) -> std::io::Result<()> {
    if announce {
        let mut out = std::io::stdout();
        out.write_all(ensure::READY.as_bytes())?;
        out.flush()?;
        // Whoever waits must not keep this pipe for its end; later prints go nowhere.
        let null = File::options().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
    }
    notify::notify(std::env::var_os("NOTIFY_SOCKET").as_deref(), "READY=1")
}

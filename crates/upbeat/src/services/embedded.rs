//! Control and an agent in a thread of a program that is not ours.

use std::path::Path;
use std::thread::{Builder, JoinHandle};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use upbeat_api::{Problem, ProblemKind};
use upbeat_drivers::controllers::Means;
use upbeat_drivers::process::chain;
use upbeat_model::Origin;
use upbeat_server::compat::guide::{Conductor, Guide, ServicesError};

use super::shim;
use crate::daemon::{Dirs, Engine, LocalBackend};
use crate::settings::Docker;

/// A running engine. Dropped: it has ended, and every service is as it was.
pub(super) struct Embedded {
    conductor: Conductor<LocalBackend>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    who: String,
}

/// What cannot be done for now, and what to do about it.
fn unable(what: impl std::fmt::Display, hint: &str) -> ServicesError {
    ServicesError::Upbeat(Problem::new(ProblemKind::Unavailable, what.to_string()).with_hint(hint))
}

impl Embedded {
    /// Begins with what this directory keeps. Errors: another program has it; it cannot be used; there
    /// is no shim.
    pub(super) async fn begin(
        directory: Option<&Path>,
        shim: Option<&Path>,
        guide: Guide,
    ) -> Result<Self, ServicesError> {
        let own = std::env::current_exe().map_err(|error| {
            unable(format_args!("this program's own file is not to be found: {error}"), "try again")
        })?;
        let name = own.file_name().unwrap_or_default().to_owned();
        let state = match directory {
            Some(directory) => std::path::absolute(directory).map_err(|error| {
                unable(format_args!("`{}` is no directory: {error}", directory.display()), "name another")
            })?,
            None => {
                let dirs = Dirs::of_process()
                    .map_err(|error| unable(error, "set one, or name one with `in_directory`"))?;
                dirs.state.join("embedded").join(&name)
            }
        };
        let dirs = Dirs { runtime: state.join("run"), state };
        let shim = shim::find(shim, &own).map_err(|why| unable(why, shim::REMEDY))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (answer, answered) = oneshot::channel();
        let hint = "let one program use it at a time, or give each its own with `in_directory`";
        let docker = Docker::default().or_of_environment(|name| std::env::var_os(name));
        let run = async move {
            let mut engine = match Engine::begin(&dirs, shim, guide, docker, Means::default(), Vec::new())
                .await
            {
                Ok(engine) => engine,
                Err(error) => {
                    let what =
                        format!("services cannot be run from `{}`: {}", dirs.state.display(), chain(&error));
                    return drop(answer.send(Err(unable(what, hint))));
                }
            };
            engine.looked().await;
            let _ = answer.send(Ok((engine.backend(), Handle::current())));
            tokio::select! {
                _ = stopped => {}
                () = engine.ended() => tracing::error!("the agent has ended; what runs goes on"),
            }
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                unable(format_args!("there is no runtime for services: {error}"), "try again")
            })?;
        let thread =
            Builder::new().name("upbeat-services".to_owned()).spawn(move || runtime.block_on(run)).map_err(
                |error| unable(format_args!("there is no thread for services: {error}"), "try again"),
            )?;
        let (backend, runtime) = answered.await.map_err(|_| ended())??;
        let who = format!("program {} (pid {})", name.to_string_lossy(), std::process::id());
        let conductor = Conductor::new(backend);
        Ok(Self { conductor, runtime, stop: Some(stop), thread: Some(thread), who })
    }

    pub(super) fn conductor(&self) -> Conductor<LocalBackend> {
        self.conductor.clone()
    }

    /// Who asks for changes.
    pub(super) fn origin(&self) -> Origin {
        Origin { who: self.who.clone(), key: None }
    }

    /// Runs this in the engine's thread. It goes on when the caller does not wait for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        what: impl Future<Output = Result<T, ServicesError>> + Send + 'static,
    ) -> Result<T, ServicesError> {
        match self.runtime.spawn(what).await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(ended()),
        }
    }
}

fn ended() -> ServicesError {
    unable("what runs services in this program has ended", "services go on; begin a new orchestrator")
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic was printed when it happened.
            let _ = thread.join();
        }
    }
}

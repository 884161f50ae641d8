//! `up`: makes the project run, and follows it or returns.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::future::LocalBoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use upbeat_api::{Action, App, Client, ClientError, LogQuery, Operation, ServiceName, Up};
use upbeat_model::project::{RestartPolicy, Service};
use upbeat_model::{AppName, Phase, Project, SlotStatus};

use super::args::UpArgs;
use super::change::{conclude, settle, watch_app, watch_operation};
use super::follow::LogFollow;
use super::session::{Session, is_absent};
use super::watch::Steady;
use super::{build, load, names};
use crate::daemon;
use crate::exit::ExitCode;
use crate::face::events::note;
use crate::face::logs::{LogView, Prefix, Stamps};
use crate::face::outcome::Asked;
use crate::face::visible;
use crate::failure::{Failure, Outcome};
use crate::progress::{Progress, Until};

/// Who joins a running app sees so many lines of each slot: enough to know where it stands.
const JOIN_TAIL: u64 = 10;

pub(super) async fn run(session: &Session, args: UpArgs) -> Outcome {
    if !args.detach && !args.wait && args.wait_timeout.is_some() {
        return Err(Failure::new(ExitCode::Usage, "`--wait-timeout` needs `--wait` or `--detach`"));
    }
    let project = load::project(session, load::Notes::Told)?;
    let services = names::services(&args.services, project.name.as_str(), project.services.keys())?;
    let images = match (args.build, args.no_build) {
        (true, _) => build::Images::Anew,
        (false, true) => build::Images::AsTheyAre,
        (false, false) => build::Images::WhereMissing,
    };
    build::for_up(session, &project, &services, images).await?;
    let force = args.force;
    if !args.detach && !args.wait {
        return foreground(session, project, services, force).await;
    }
    let client = session.ensured().await?;
    let app = project.name.clone();
    let forgotten = forgotten_at_boot(session, &project);
    let wish = Up { project, services: services.clone(), force };
    let operation = session.change(async |key| client.up(&app, &wish, key).await).await??;
    forgotten.inspect(|note| session.note(note));
    let until = if args.wait { Until::Ready } else { Until::Started };
    let progress = settle(session, &client, operation, until, args.wait_timeout).await?;
    conclude(session, &client, &progress, until, Asked::Run, &services).await
}

/// Whoever is used to an engine that restarts containers expects them after a boot: here the daemon does that, if
/// anything starts it.
fn forgotten_at_boot(session: &Session, project: &Project) -> Option<String> {
    let always = |spec: &Service| {
        let policy = matches!(spec.restart, RestartPolicy::Always | RestartPolicy::UnlessStopped);
        spec.container.is_some() && policy
    };
    let (name, _) = project.services.iter().find(|(_, spec)| always(spec))?;
    let is_told = !session.is_elsewhere() && !daemon::is_installed();
    is_told.then(|| {
        format!("after a boot nothing starts the daemon, and so not `{name}`: `upbeat serve --install` sees to that")
    })
}

/// Starts, and follows until everything has ended or the person has had enough.
async fn foreground(session: &Session, project: Project, services: Vec<ServiceName>, force: bool) -> Outcome {
    // From here on Ctrl-C is a wish for the app, not the end of this program.
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|e| Failure::new(ExitCode::Failed, "signals cannot be received").because(&e))?;
    let app = project.name.clone();
    let silent: BTreeSet<ServiceName> =
        project.services.iter().filter(|(_, spec)| !spec.attach).map(|(name, _)| name.clone()).collect();
    let enders: BTreeSet<ServiceName> =
        project.services.iter().filter(|(_, spec)| spec.exit_on_end).map(|(name, _)| name.clone()).collect();
    let is_asked = Cell::new(false);
    let mut begun = pin!(begin(session, project, services, (force, &is_asked)));
    let mut stopping = Stopping::No;
    let begun = loop {
        tokio::select! {
            biased;
            _ = interrupts.recv() => {}
            begun = &mut begun => break begun?,
        }
        if !is_asked.get() {
            session.note(&format!("nothing was asked of the daemon; `{app}` is as it was"));
            return Ok(ExitCode::Interrupted);
        }
        // What is asked is asked first, or it might be done last.
        let Some(next) = stopping.next() else {
            session.note(&format!("it is not known whether `{app}` was started; `upbeat ps` shows it"));
            return Ok(ExitCode::Interrupted);
        };
        session.note(&next.words(&app));
        stopping = next;
    };
    let mut foreground = Foreground::new(session, begun, silent, enders);
    if stopping != Stopping::No {
        foreground.stop(stopping);
    }
    foreground.follow(&mut interrupts).await
}

/// A project that was asked to run.
struct Begun<'a> {
    client: Client,
    operation: Operation,
    /// Those that were named; none where all are meant.
    services: Vec<ServiceName>,
    logs: LogFollow<'a>,
}

/// Asks for it. `is_asked` is set when the daemon may have heard of it.
async fn begin<'a>(
    session: &'a Session,
    project: Project,
    services: Vec<ServiceName>,
    (force, is_asked): (bool, &Cell<bool>),
) -> Result<Begun<'a>, Failure> {
    let client = session.ensured().await?;
    let app = project.name.clone();
    let query = |tail| LogQuery { services: services.clone(), tail, follow: true };
    // Of what runs already the last lines are shown for context, and what comes from before the change on;
    // of what does not, what earlier runs of it have printed is no part of this one.
    let logs = match session.insist(|| client.app(&app)).await? {
        Ok(there) => LogFollow::of_runs(session, &client, &there, query(Some(JOIN_TAIL))).await?,
        Err(error) if is_absent(&error) => LogFollow::of_new(session, &client, &app, query(None)),
        Err(error) => return Err(error.into()),
    };
    let wish = Up { project, services: services.clone(), force };
    is_asked.set(true);
    let operation = session.change(async |key| client.up(&app, &wish, key).await).await??;
    Ok(Begun { client, operation, services, logs })
}

/// How the person wants it to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    InOrder,
    AtOnce,
}

impl Stopping {
    /// With one more Ctrl-C: the first stops in order, the second at once, and after that there is
    /// nothing left to ask for.
    fn next(self) -> Option<Self> {
        match self {
            Self::No => Some(Self::InOrder),
            Self::InOrder => Some(Self::AtOnce),
            Self::AtOnce => None,
        }
    }

    fn words(self, app: &AppName) -> String {
        match self {
            Self::No => format!("`{app}` goes on"),
            Self::InOrder => format!("stopping `{app}`; Ctrl-C again kills it at once"),
            Self::AtOnce => format!("killing `{app}`; Ctrl-C again leaves it to the daemon"),
        }
    }
}

type Request<'a> = LocalBoxFuture<'a, Result<Result<Operation, ClientError>, Failure>>;

struct Foreground<'a> {
    session: &'a Session,
    client: Client,
    /// The services this command started, dependencies included.
    followed: BTreeSet<ServiceName>,
    /// What Ctrl-C stops: those; empty where it is the whole app.
    stops: Vec<ServiceName>,
    /// With whose end the app ends.
    enders: BTreeSet<ServiceName>,
    progress: Progress,
    apps: Steady<'a, App>,
    operations: Steady<'a, Operation>,
    logs: LogFollow<'a>,
    view: LogView,
    stopping: Stopping,
    /// A stop that was asked for and is not answered yet. Ctrl-C is heard meanwhile.
    request: Option<Request<'a>>,
}

/// What came next.
enum Next {
    Interrupt,
    Answer(Result<Operation, ClientError>),
    App(Option<App>),
    Operation(Option<Operation>),
    Text(Option<String>),
}

impl<'a> Foreground<'a> {
    fn new(
        session: &'a Session,
        begun: Begun<'a>,
        silent: BTreeSet<ServiceName>,
        enders: BTreeSet<ServiceName>,
    ) -> Self {
        let Begun { client, operation, services, logs } = begun;
        let mut followed: BTreeSet<ServiceName> = operation.slots.keys().map(|s| s.service.clone()).collect();
        followed.extend(services.iter().cloned());
        let view = LogView::new(&session.face(), Prefix::Slot, Stamps::Hidden, operation.slots.keys());
        let view = view.without(silent);
        Self {
            apps: watch_app(session, &client, &operation.app),
            operations: watch_operation(session, &client, &operation),
            progress: Progress::new(operation),
            stops: if services.is_empty() { Vec::new() } else { followed.iter().cloned().collect() },
            enders,
            session,
            client,
            followed,
            logs,
            view,
            stopping: Stopping::No,
            request: None,
        }
    }

    async fn follow(mut self, interrupts: &mut Signal) -> Outcome {
        let (mut operation_told, mut logs_told) = (false, false);
        loop {
            let next = tokio::select! {
                biased;
                _ = interrupts.recv() => Next::Interrupt,
                answer = answer(&mut self.request) => Next::Answer(answer?),
                app = self.apps.next() => Next::App(app?),
                operation = self.operations.next(), if !operation_told => {
                    Next::Operation(operation?)
                }
                text = self.logs.next_text(&mut self.view), if !logs_told => Next::Text(text?),
            };
            match next {
                Next::Interrupt => match self.stopping.next() {
                    Some(stopping) => {
                        self.session.note(&stopping.words(&self.progress.operation().app));
                        self.stop(stopping);
                    }
                    None => return Ok(self.left_alone()),
                },
                Next::Answer(Ok(operation)) => {
                    self.request = None;
                    self.operations = watch_operation(self.session, &self.client, &operation);
                    self.progress.see_operation(operation);
                    operation_told = false;
                }
                Next::Answer(Err(error)) if is_absent(&error) => return self.gone(),
                Next::Answer(Err(error)) => return Err(error.into()),
                Next::App(Some(app)) => self.show(app),
                Next::App(None) => return self.gone(),
                Next::Operation(Some(operation)) => self.progress.see_operation(operation),
                Next::Operation(None) => operation_told = true,
                Next::Text(Some(text)) => self.session.print(&text)?,
                Next::Text(None) => logs_told = true,
            }
            if let Some(code) = self.ended() {
                let end = self.end_of_app().await?;
                tokio::select! {
                    biased;
                    // Whoever has had enough does not want the last lines either.
                    _ = interrupts.recv() => {}
                    finished = self.logs.finish(&mut self.view) => finished?,
                }
                return Ok(end.unwrap_or(code));
            }
        }
    }

    /// Asks for it. A request before that has no answer yet is let go: this one goes further. Should
    /// the daemon come to that one last, things stop in order, and are told as somebody else's.
    fn stop(&mut self, stopping: Stopping) {
        self.stopping = stopping;
        let (session, client) = (self.session, self.client.clone());
        let app = self.progress.operation().app.clone();
        let action = Action::Stop { services: self.stops.clone(), kill: stopping == Stopping::AtOnce };
        self.request =
            Some(Box::pin(
                async move { session.change(async |key| client.act(&app, &action, key).await).await },
            ));
    }

    /// The person does not wait for the end.
    fn left_alone(&self) -> ExitCode {
        if self.request.is_some() {
            let app = &self.progress.operation().app;
            self.session.note(&format!("it is not known whether `{app}` is killed; `upbeat ps` shows it"));
        }
        ExitCode::Interrupted
    }

    fn show(&mut self, app: App) {
        for status in self.progress.see_app(app) {
            if self.followed.contains(&status.slot.service) {
                self.session.note(&note(&status, &self.session.face_of_errors()));
            }
        }
    }

    /// Somebody has taken it down. Its output is gone with it.
    fn gone(&self) -> Outcome {
        self.session.note(&format!("`{}` was taken down", self.progress.operation().app));
        Ok(match self.stopping {
            Stopping::No => ExitCode::Ok,
            Stopping::InOrder | Stopping::AtOnce => ExitCode::Interrupted,
        })
    }

    /// How the service ended whose end was that of the app, where that is what has happened. It is said:
    /// its state may have been told as stopped only.
    async fn end_of_app(&self) -> Result<Option<ExitCode>, Failure> {
        if self.enders.is_empty() || self.stopping != Stopping::No {
            return Ok(None);
        }
        let app = &self.progress.operation().app;
        let code = |status: &SlotStatus| {
            let exit = status.exit.as_ref()?;
            let how = visible(&exit.to_string());
            self.session.note(&format!("`{app}` ended with {}: {how}", status.slot.short()));
            Some(ExitCode::of(exit))
        };
        let has_ended = |status: &&SlotStatus| {
            self.enders.contains(&status.slot.service)
                && matches!(status.phase, Phase::Completed | Phase::Failed)
        };
        if let Some(status) = self.progress.statuses().find(has_ended) {
            return Ok(code(status));
        }
        // Stopped with the others by now, and so may be others whose end would have been one too.
        let Some(last) = self.progress.statuses().map(|status| status.operation).max() else {
            return Ok(None);
        };
        let slot = match self.session.insist(|| self.client.operation(last)).await? {
            Ok(operation) => operation.is_end_of().map(|(slot, _)| slot),
            Err(error) if is_absent(&error) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(slot.and_then(|slot| self.progress.status(&slot).and_then(code)))
    }

    fn ended(&self) -> Option<ExitCode> {
        if self.request.is_some() {
            return None;
        }
        if self.stopping != Stopping::No {
            return self.progress.is_settled(Until::Ended).then_some(ExitCode::Interrupted);
        }
        if !self.progress.is_at_rest(&self.followed) {
            return None;
        }
        let failed = self.progress.statuses().any(|s| {
            self.followed.contains(&s.slot.service)
                && matches!(s.phase, Phase::Failed | Phase::DependencyFailed)
        });
        Some(if failed { ExitCode::Failed } else { ExitCode::Ok })
    }
}

/// What the request is answered, where there is one.
async fn answer(request: &mut Option<Request<'_>>) -> Result<Result<Operation, ClientError>, Failure> {
    match request {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

//! `up`: makes the project run, and follows it or returns.

use std::collections::BTreeSet;

use tokio::signal::unix::{Signal, SignalKind, signal};
use upbeat_api::{Action, App, Client, LogQuery, Operation, ServiceName, Up};
use upbeat_model::{Phase, Project};

use super::args::UpArgs;
use super::change::{conclude, settle, watch_app, watch_operation};
use super::follow::LogFollow;
use super::session::{Session, is_absent};
use super::watch::Steady;
use super::{load, names};
use crate::exit::ExitCode;
use crate::face::events::note;
use crate::face::logs::{LogView, Prefix, Stamps};
use crate::face::outcome::Asked;
use crate::failure::{Failure, Outcome};
use crate::progress::{Progress, Until};

/// Who joins a running app sees so many lines of each slot: enough to know where it stands.
const JOIN_TAIL: u64 = 10;

pub(super) async fn run(session: &Session, args: UpArgs) -> Outcome {
    if !args.detach && !args.wait && args.wait_timeout.is_some() {
        return Err(Failure::new(ExitCode::Usage, "`--wait-timeout` needs `--wait` or `--detach`"));
    }
    let project = load::project(session)?;
    let services = names::services(&args.services, project.name.as_str(), project.services.keys())?;
    let client = session.ensured().await?;
    if !args.detach && !args.wait {
        return foreground(session, client, project, services).await;
    }
    let app = project.name.clone();
    let wish = Up { project, services: services.clone() };
    let operation = session.change(async |key| client.up(&app, &wish, key).await).await??;
    let until = if args.wait { Until::Ready } else { Until::Started };
    let progress = settle(session, &client, operation, until, args.wait_timeout).await?;
    conclude(session, &client, &progress, until, Asked::Run, &services).await
}

/// Starts, and follows until everything has ended or the person has had enough.
async fn foreground(
    session: &Session,
    client: Client,
    project: Project,
    services: Vec<ServiceName>,
) -> Outcome {
    // From here on Ctrl-C is a wish for the app, not the end of this program.
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|e| Failure::new(ExitCode::Failed, "signals cannot be received").because(&e))?;
    let app = project.name.clone();
    let query = |tail| LogQuery { services: services.clone(), tail, follow: true };
    // Of an app that runs already the last lines are shown for context, and what comes from before
    // the change on; of a new one everything is new.
    let before = match session.insist(|| client.app(&app)).await? {
        Ok(_) => Some(LogFollow::open(session, &client, &app, query(Some(JOIN_TAIL))).await?),
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(error.into()),
    };
    let names_all = services.is_empty();
    let wish = Up { project, services: services.clone() };
    let operation = session.change(async |key| client.up(&app, &wish, key).await).await??;
    let logs = match before {
        Some(logs) => logs,
        None => LogFollow::open(session, &client, &app, query(None)).await?,
    };
    let mut followed: BTreeSet<ServiceName> = operation.slots.keys().map(|s| s.service.clone()).collect();
    followed.extend(services.iter().cloned());
    let view = LogView::new(&session.face(), Prefix::Slot, Stamps::Hidden, operation.slots.keys());
    let foreground = Foreground {
        apps: watch_app(session, &client, &app),
        operations: watch_operation(session, &client, &operation),
        progress: Progress::new(operation),
        stops: if names_all { Vec::new() } else { followed.iter().cloned().collect() },
        session,
        client,
        followed,
        logs,
        view,
        stopping: Stopping::No,
    };
    foreground.follow(&mut interrupts).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    InOrder,
    AtOnce,
}

struct Foreground<'a> {
    session: &'a Session,
    client: Client,
    /// The services this command started, dependencies included.
    followed: BTreeSet<ServiceName>,
    /// What Ctrl-C stops: those; empty where it is the whole app.
    stops: Vec<ServiceName>,
    progress: Progress,
    apps: Steady<'a, App>,
    operations: Steady<'a, Operation>,
    logs: LogFollow<'a>,
    view: LogView,
    stopping: Stopping,
}

/// What came next.
enum Next {
    Interrupt,
    App(Option<App>),
    Operation(Option<Operation>),
    Text(Option<String>),
}

impl Foreground<'_> {
    async fn follow(mut self, interrupts: &mut Signal) -> Outcome {
        let (mut operation_told, mut logs_told) = (false, false);
        loop {
            let next = tokio::select! {
                biased;
                _ = interrupts.recv() => Next::Interrupt,
                app = self.apps.next() => Next::App(app?),
                operation = self.operations.next(), if !operation_told => {
                    Next::Operation(operation?)
                }
                text = self.logs.next_text(&mut self.view), if !logs_told => Next::Text(text?),
            };
            match next {
                Next::Interrupt if self.stopping == Stopping::AtOnce => return Ok(ExitCode::Interrupted),
                Next::Interrupt => {
                    self.stop().await?;
                    operation_told = false;
                }
                Next::App(Some(app)) => self.show(app),
                Next::App(None) => return self.gone(),
                Next::Operation(Some(operation)) => self.progress.see_operation(operation),
                Next::Operation(None) => operation_told = true,
                Next::Text(Some(text)) => self.session.print(&text)?,
                Next::Text(None) => logs_told = true,
            }
            if let Some(code) = self.ended() {
                self.logs.finish(&mut self.view).await?;
                return Ok(code);
            }
        }
    }

    /// The first Ctrl-C stops in order, the second one at once.
    async fn stop(&mut self) -> Result<(), Failure> {
        let kill = self.stopping == Stopping::InOrder;
        self.stopping = if kill { Stopping::AtOnce } else { Stopping::InOrder };
        let app = self.progress.operation().app.clone();
        self.session.note(&match kill {
            false => format!("stopping `{app}`; Ctrl-C again kills it at once"),
            true => format!("killing `{app}`; Ctrl-C again leaves it to the daemon"),
        });
        let action = Action::Stop { services: self.stops.clone(), kill };
        let operation = self.session.change(async |key| self.client.act(&app, &action, key).await).await??;
        self.operations = watch_operation(self.session, &self.client, &operation);
        self.progress.see_operation(operation);
        Ok(())
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

    fn ended(&self) -> Option<ExitCode> {
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

//! `start`, `stop`, `restart`, `scale`: asks for a change and waits until it is known how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use upbeat_api::{Action, App, Client, ClientError, LogQuery, Operation, ServiceName, SlotId};
use upbeat_model::{AppName, Phase, SlotStatus};

use super::args::{ScaleArgs, ServicesArgs, StopArgs};
use super::session::{Session, is_absent};
use super::watch::Steady;
use super::{load, names};
use crate::exit::ExitCode;
use crate::face::events::note;
use crate::face::outcome::{self, Asked};
use crate::failure::{Failure, Outcome};
use crate::progress::{Progress, Standing, Trouble, Until};

/// As many last lines as people read when something failed.
const LAST_LINES: u64 = 10;

/// No more slots than this show their last lines; with all of them down the first few say it.
const LAST_LINES_SLOTS: usize = 5;

pub(super) async fn start(session: &Session, args: ServicesArgs) -> Outcome {
    let (client, app, services) = named(session, For::Change, &args.services).await?;
    let action = Action::Start { services: services.clone() };
    let operation = session.change(async |key| client.act(&app.name, &action, key).await).await??;
    await_end(session, &client, operation, Until::Ready, Asked::Run, &services).await
}

pub(super) async fn stop(session: &Session, args: StopArgs) -> Outcome {
    let (client, app, services) = named(session, For::Change, &args.services).await?;
    let action = Action::Stop { services: services.clone(), kill: args.kill };
    let operation = session.change(async |key| client.act(&app.name, &action, key).await).await??;
    await_end(session, &client, operation, Until::Ended, Asked::Stop, &services).await
}

pub(super) async fn restart(session: &Session, args: ServicesArgs) -> Outcome {
    let (client, app, services) = named(session, For::Change, &args.services).await?;
    let action = Action::Restart { services: services.clone() };
    let operation = session.change(async |key| client.act(&app.name, &action, key).await).await??;
    await_end(session, &client, operation, Until::Ready, Asked::Restart, &services).await
}

pub(super) async fn reload(session: &Session, args: ServicesArgs) -> Outcome {
    let (client, app, services) = named(session, For::Change, &args.services).await?;
    let action = Action::Reload { services: services.clone() };
    let operation = session.change(async |key| client.act(&app.name, &action, key).await).await??;
    await_end(session, &client, operation, Until::Ready, Asked::Reload, &services).await
}

pub(super) async fn scale(session: &Session, args: ScaleArgs) -> Outcome {
    let typed: Vec<String> = args.copies.iter().map(|(service, _)| service.clone()).collect();
    let (client, app, services) = named(session, For::Change, &typed).await?;
    let mut copies: BTreeMap<ServiceName, u32> = BTreeMap::new();
    for (name, n) in args.copies {
        let service = services.iter().find(|s| s.as_str() == name).cloned();
        if let Some(before) = service.and_then(|service| copies.insert(service, n))
            && before != n
        {
            let message = format!("`{name}` is to have both {before} and {n} copies");
            return Err(Failure::new(ExitCode::Usage, message).hint("name each service once"));
        }
    }
    let action = Action::Scale { services: copies };
    let operation = session.change(async |key| client.act(&app.name, &action, key).await).await??;
    await_end(session, &client, operation, Until::Ready, Asked::Run, &services).await
}

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// To change something.
    Change,
    /// To know something.
    Answer,
}

/// The running app and the services that were named. Errors: there is no daemon, app or service.
pub(super) async fn named(
    session: &Session,
    what: For,
    typed: &[String],
) -> Result<(Client, App, Vec<ServiceName>), Failure> {
    let name = load::app_name(session)?;
    let (client, app) = match what {
        For::Change => {
            let client = session.to_change().await?;
            let app = session.insist(|| client.app(&name)).await??;
            (client, app)
        }
        For::Answer => {
            let client = session.to_ask().await?;
            let app = session.ask(|| client.app(&name)).await??;
            (client, app)
        }
    };
    // What is not declared any more and has not gone yet can be asked about, and is changed by `up` alone.
    let left = app.slots.iter().map(|slot| &slot.slot.service).filter(|_| matches!(what, For::Answer));
    let services = names::services(typed, name.as_str(), app.project.services.keys().chain(left))?;
    Ok((client, app, services))
}

/// Follows an operation to its end and tells how each slot's part ended.
pub(super) async fn await_end(
    session: &Session,
    client: &Client,
    operation: Operation,
    until: Until,
    asked: Asked,
    named: &[ServiceName],
) -> Outcome {
    let progress = settle(session, client, operation, until, None).await?;
    conclude(session, client, &progress, until, asked, named).await
}

/// Follows an operation until nothing more is to be waited for, or the time is over. Shows
/// progress to somebody who is looking.
pub(super) async fn settle(
    session: &Session,
    client: &Client,
    operation: Operation,
    until: Until,
    timeout: Option<Duration>,
) -> Result<Progress, Failure> {
    let app = operation.app.clone();
    let mut apps = watch_app(session, client, &app);
    let mut operations = watch_operation(session, client, &operation);
    let mut progress = Progress::new(operation);
    let time_is_over = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(time_is_over);
    let (mut apps_gone, mut is_over) = (false, false);
    loop {
        while !is_over && !progress.is_settled(until) {
            tokio::select! {
                next = apps.next(), if !apps_gone => match next? {
                    Some(app) => show(session, &mut progress, app),
                    None => apps_gone = true,
                },
                next = operations.next() => match next? {
                    Some(operation) => progress.see_operation(operation),
                    None => is_over = true,
                },
                () = &mut time_is_over => is_over = true,
            }
        }
        // The operation may have told its end before the app did.
        match session.insist(|| client.app(&app)).await? {
            Ok(app) => show(session, &mut progress, app),
            Err(error) if is_absent(&error) => progress.see_gone(),
            Err(error) => return Err(error.into()),
        }
        // In this look a slot may belong to somebody else by now: to whom, the operation is about to
        // tell.
        if is_over || progress.is_settled(until) {
            return Ok(progress);
        }
    }
}

pub(super) fn watch_app<'a>(session: &'a Session, client: &Client, app: &AppName) -> Steady<'a, App> {
    let (opening, app) = (client.clone(), app.clone());
    let open = move || {
        let (client, app) = (opening.clone(), app.clone());
        async move { client.watch(&app).await }
    };
    Steady::new(session, client, open).expected()
}

pub(super) fn watch_operation<'a>(
    session: &'a Session,
    client: &Client,
    operation: &Operation,
) -> Steady<'a, Operation> {
    let (opening, id) = (client.clone(), operation.id);
    let open = move || {
        let client = opening.clone();
        async move { client.watch_operation(id).await }
    };
    Steady::new(session, client, open).expected()
}

fn show(session: &Session, progress: &mut Progress, app: App) {
    let first = !progress.is_seen();
    let moved = progress.see_app(app);
    let ours = |s: &&SlotStatus| progress.operation().slots.contains_key(&s.slot);
    // At the first look it is no news that a slot is somewhere and not on its way.
    let on_its_way = |s: &&SlotStatus| matches!(s.phase, Phase::Waiting | Phase::Starting | Phase::Stopping);
    for status in moved.iter().filter(ours).filter(|s| !first || on_its_way(s)) {
        session.progress(&note(status, &session.face_of_errors()));
    }
}

/// Tells how it ended. Errors: not as asked.
pub(super) async fn conclude(
    session: &Session,
    client: &Client,
    progress: &Progress,
    until: Until,
    asked: Asked,
    named: &[ServiceName],
) -> Outcome {
    let code = progress.exit(until, named);
    if session.is_json() {
        session.print_json(progress.operation())?;
    } else if !session.global.quiet || code != ExitCode::Ok {
        let lines = || last_lines(client, progress, until);
        let last = session.insist(lines).await??;
        session.print(&outcome::text(progress, until, asked, &last, &session.face()))?;
    }
    if code == ExitCode::Ok {
        return Ok(code);
    }
    let failure = Failure::new(code, unfinished(code, asked));
    Err(match progress.to_blame(until, code, named) {
        Some(service) => failure.hint(format!("`upbeat why {service}` explains it")),
        None => failure,
    })
}

fn unfinished(code: ExitCode, asked: Asked) -> &'static str {
    match (code, asked) {
        (ExitCode::Unhealthy, _) => "not everything is healthy",
        (ExitCode::DependencyFailed, _) => "something cannot start because what it needs failed",
        (ExitCode::Timeout, _) => "the time is over before everything was there",
        (ExitCode::Conflict, _) => "somebody else asked for something else in the meantime",
        (_, Asked::Reload) => "not everything was reloaded",
        (_, Asked::Stop | Asked::Down) => "not everything was stopped",
        (_, Asked::Run | Asked::Restart) => "not everything came up",
    }
}

/// What the slots that failed by themselves said last.
async fn last_lines(
    client: &Client,
    progress: &Progress,
    until: Until,
) -> Result<BTreeMap<SlotId, Vec<String>>, ClientError> {
    let failed: Vec<&SlotId> = (progress.standings(until))
        .filter(|(slot, standing)| {
            let waits = progress.status(slot).is_some_and(|s| s.phase == Phase::Waiting || s.ran_nothing());
            matches!(standing, Standing::Bad(Trouble::Failed | Trouble::Unhealthy, _)) && !waits
        })
        .map(|(slot, _)| slot)
        .take(LAST_LINES_SLOTS)
        .collect();
    let mut last: BTreeMap<SlotId, Vec<String>> = BTreeMap::new();
    if failed.is_empty() {
        return Ok(last);
    }
    let mut services: Vec<ServiceName> = failed.iter().map(|slot| slot.service.clone()).collect();
    services.dedup();
    let query = LogQuery { services, tail: Some(LAST_LINES), follow: false };
    let mut lines = client.logs(&progress.operation().app, &query).await?;
    while let Some(line) = lines.next().await {
        let line = line?;
        if failed.contains(&&line.slot) {
            last.entry(line.slot).or_default().push(line.text);
        }
    }
    Ok(last)
}

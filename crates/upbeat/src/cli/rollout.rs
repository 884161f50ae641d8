//! `rollout`: targets of anything, from one version to the next.

use std::path::Path;

use upbeat_api::rollouts::{Assignments, Reports, RolloutAction, RolloutsQuery, TargetReport};
use upbeat_api::{Client, ClientError};
use upbeat_model::rollout::{EntityId, RolloutState, RolloutsPage, Unreadable};

use super::args::{
    ChangeCommand, Format, OptionsArgs, ReportArgs, RolloutArgs, RolloutCommand, ShowArgs, StartArgs,
};
use super::careful;
use super::rollout_unit;
use super::session::{Session, is_absent};
use super::simulate;
use super::watch::Steady;
use crate::exit::ExitCode;
use crate::face::{Face, rollout as face, stats::redrawn, visible};
use crate::failure::{Failure, Outcome};

pub(super) async fn run(session: &Session, args: RolloutArgs) -> Outcome {
    match args.command {
        RolloutCommand::Ls(args) => list(session, args.namespace.as_deref()).await,
        RolloutCommand::Show(args) => show(session, args).await,
        RolloutCommand::Why(args) => {
            let state = asked(session, &args.entity).await?;
            answer(session, &state, face::why)
        }
        RolloutCommand::History(args) => {
            let client = session.to_ask().await?;
            let history = session.ask(|| client.rollout_history(&args.entity)).await??;
            answer(session, &history, |history, face| face::history(history, face))
        }
        RolloutCommand::Targets(args) => {
            let client = session.to_ask().await?;
            let ask = || client.rollout_targets(&args.entity, args.group.as_deref());
            let targets = session.ask(ask).await??;
            answer(session, &targets, |targets, face| face::targets(targets, face))
        }
        RolloutCommand::Unit(args) => rollout_unit::run(session, args.command).await,
        RolloutCommand::Simulate(args) => simulate::run(session, &args),
        RolloutCommand::Start(args) => start(session, args).await,
        RolloutCommand::Options(args) => options(session, args).await,
        RolloutCommand::Report(args) => report(session, args).await,
        RolloutCommand::Forget(args) => forget(session, &args.entity).await,
        RolloutCommand::Change(change) => {
            let (id, action, said) = one(change);
            let client = session.to_change().await?;
            act(session, &client, &id, action, said).await
        }
    }
}

/// What is asked, and what is said of the rollout when it is done.
fn one(change: ChangeCommand) -> (EntityId, RolloutAction, &'static str) {
    match change {
        ChangeCommand::Pause(args) => {
            (args.entity, RolloutAction::Pause, "is paused: no more targets are moved")
        }
        ChangeCommand::Resume(args) => (args.entity, RolloutAction::Resume, "goes on with the next report"),
        ChangeCommand::Approve(args) => (args.entity, RolloutAction::Approve, "goes on with the next report"),
        ChangeCommand::Promote(args) => {
            let said = if args.all { "has a version that is good now" } else { "goes one step forward" };
            (args.entity, RolloutAction::Promote { all: args.all }, said)
        }
        ChangeCommand::Undo(args) => (args.entity, RolloutAction::Undo, "goes back to the version before"),
        ChangeCommand::Fail(args) => {
            let (group, name) = args.target.split_once('/').unwrap_or(("", &args.target));
            let action = RolloutAction::Fail { group: group.into(), name: name.into(), why: args.reason };
            (args.entity, action, "waits for that target no longer")
        }
        ChangeCommand::Abort(args) => {
            (args.entity, RolloutAction::Abort { why: args.reason }, "goes back with the next report")
        }
        ChangeCommand::Retry(args) => (args.entity, RolloutAction::Retry, "tries the version again"),
        ChangeCommand::Forgive(args) => {
            let action = RolloutAction::Forgive { version: args.version, until: None };
            (args.entity, action, "holds it to be bad no more")
        }
    }
}

async fn forget(session: &Session, id: &EntityId) -> Outcome {
    session.to_change().await?.forget_rollout(id).await?;
    match session.is_json() {
        true => session.print_json(&None::<()>)?,
        false => session.note(&format!("`{}` is forgotten; its targets run on", visible(&id.to_string()))),
    }
    Ok(ExitCode::Ok)
}

async fn list(session: &Session, namespace: Option<&str>) -> Outcome {
    let client = session.to_ask().await?;
    let (states, unreadable) = all_pages(session, namespace, async |query| {
        let page = session.ask(|| client.rollouts(query)).await?;
        Ok(page.map(|RolloutsPage { rollouts, unreadable, next }| (rollouts, unreadable, next)))
    })
    .await?;
    if session.is_json() {
        session.print_json(&states)?;
    } else if session.global.quiet {
        let names = states.iter().map(|state| format!("{}/{}\n", state.namespace, state.entity));
        session.print(&names.collect::<String>())?;
    } else {
        session.print(&face::list(&states, &unreadable, &session.face()))?;
    }
    Ok(not_read(session, &unreadable))
}

/// A page: what is on it, what of it cannot be read, and where the next one begins.
type Page<T> = (Vec<T>, Vec<Unreadable>, Option<String>);

/// All pages of a list, one after the other; none, where there never was a daemon. One that does not run now may have
/// some: that is no empty list.
pub(super) async fn all_pages<T>(
    session: &Session,
    namespace: Option<&str>,
    ask: impl AsyncFn(&RolloutsQuery) -> Result<Result<Page<T>, ClientError>, Failure>,
) -> Result<(Vec<T>, Vec<Unreadable>), Failure> {
    let mut query = RolloutsQuery { namespace: namespace.map(str::to_owned), ..RolloutsQuery::default() };
    let (mut all, mut lost) = (Vec::new(), Vec::new());
    loop {
        match ask(&query).await? {
            Ok((items, unreadable, next)) => {
                all.extend(items);
                lost.extend(unreadable);
                let Some(next) = next else { return Ok((all, lost)) };
                session.progress(&format!("{} so far", all.len()));
                query.after = Some(next);
            }
            Err(error) if is_absent(&error) && !session.was_used()? => return Ok((all, lost)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Says of each that is not on a list why. Then not all that was asked for came about.
pub(super) fn not_read(session: &Session, unreadable: &[Unreadable]) -> ExitCode {
    for Unreadable { namespace, name, why } in unreadable {
        let name = visible(&format!("{namespace}/{name}"));
        session.warn(&format!("`{name}` cannot be read: {}", visible(why)));
    }
    if unreadable.is_empty() { ExitCode::Ok } else { ExitCode::Failed }
}

async fn asked(session: &Session, id: &EntityId) -> Result<RolloutState, Failure> {
    let client = session.to_ask().await?;
    Ok(session.ask(|| client.rollout(id)).await??)
}

pub(super) fn answer<T: serde::Serialize>(
    session: &Session,
    said: &T,
    text: fn(&T, &Face) -> String,
) -> Outcome {
    match session.is_json() {
        true => session.print_json(said)?,
        false => session.print(&text(said, &session.face()))?,
    }
    Ok(ExitCode::Ok)
}

async fn show(session: &Session, args: ShowArgs) -> Outcome {
    if !args.watch {
        let state = asked(session, &args.entity).await?;
        return answer(session, &state, face::show);
    }
    let client = session.to_ask().await?;
    let (opening, id) = (client.clone(), args.entity);
    let states = Steady::new(session, &client, move || {
        let (client, id) = (opening.clone(), id.clone());
        async move { client.watch_rollout(&id).await }
    });
    watch(session, states, face::show).await
}

/// Shows it again whenever it changes, until it is forgotten.
pub(super) async fn watch<T: serde::Serialize>(
    session: &Session,
    states: Steady<'_, T>,
    show: fn(&T, &Face) -> String,
) -> Outcome {
    let mut states = states.opened().await?;
    let mut is_first = true;
    while let Some(state) = states.next().await? {
        if session.global.output == Format::Json {
            session.print_json_line(&state)?;
        } else {
            let face = session.face();
            let text = show(&state, &face);
            match face.is_terminal {
                true => session.print(&redrawn(&text, is_first))?,
                false if is_first => session.print(&text)?,
                false => session.print(&format!("\n{text}"))?,
            }
        }
        is_first = false;
    }
    session.note("it is forgotten");
    Ok(ExitCode::Ok)
}

async fn start(session: &Session, args: StartArgs) -> Outcome {
    let client = session.ensured().await?;
    let said = careful::said(session, &client, &args.entity, &args.options, false).await?;
    let (options, strategy) = said.map(|(options, strategy)| (options, Box::new(strategy))).unzip();
    let version = args.version.clone();
    let action = RolloutAction::SetVersion { version: args.version, force: args.force, options, strategy };
    let changed = client.act_on_rollout(&args.entity, &action).await?;
    caution(session, &changed.cautions);
    let bad = changed.rollout.known_bad.iter().find(|bad| bad.version == version);
    if session.is_json() {
        session.print_json(&changed)?;
    } else if bad.is_none() {
        let (id, version) = (visible(&args.entity.to_string()), visible(version.as_str()));
        session.note(&format!("`{id}` is to run `{version}`; its targets are moved as they are reported"));
    }
    // To ask again for what was asked for last is no error to a controller that does so each time; here
    // somebody wants to know.
    match bad {
        None => Ok(ExitCode::Ok),
        Some(bad) => {
            let (version, why) = (visible(version.as_str()), visible(&bad.reason.to_string()));
            Err(Failure::new(ExitCode::Conflict, format!("version `{version}` is known to be bad: {why}"))
                .hint(format!("`upbeat rollout retry {}` tries it again", visible(&args.entity.to_string()))))
        }
    }
}

async fn options(session: &Session, args: OptionsArgs) -> Outcome {
    let client = session.ensured().await?;
    let said = careful::said(session, &client, &args.entity, &args.options, args.reset).await?;
    let Some((options, strategy)) = said else {
        return Err(Failure::new(ExitCode::Usage, "nothing was said about how carefully")
            .hint("name an option such as `--batch 10%`, or `--reset`"));
    };
    let options = RolloutAction::SetOptions { options: Some(options) };
    let first = client.act_on_rollout(&args.entity, &options).await?;
    let strategy = RolloutAction::SetStrategy { strategy: Some(Box::new(strategy)) };
    let mut changed = client.act_on_rollout(&args.entity, &strategy).await?;
    changed.cautions.splice(0..0, first.cautions);
    match session.is_json() {
        true => session.print_json(&changed)?,
        false => {
            caution(session, &changed.cautions);
            let id = visible(&args.entity.to_string());
            session.note(&format!("`{id}` is moved so from now on; stages hold from the next version on"));
        }
    }
    Ok(ExitCode::Ok)
}

async fn act(
    session: &Session,
    client: &Client,
    id: &EntityId,
    action: RolloutAction,
    said: &str,
) -> Outcome {
    let changed = client.act_on_rollout(id, &action).await?;
    if session.is_json() {
        session.print_json(&changed)?;
    } else {
        caution(session, &changed.cautions);
        session.note(&format!("`{}` {said}", visible(&id.to_string())));
    }
    Ok(ExitCode::Ok)
}

fn caution(session: &Session, cautions: &[upbeat_model::rollout::Caution]) {
    for caution in cautions {
        session.warn(&caution.to_string());
    }
}

async fn report(session: &Session, args: ReportArgs) -> Outcome {
    let reports = match &args.from {
        Some(path) => read(path)?,
        None => Reports { targets: args.targets.iter().map(|text| said(text)).collect::<Result<_, _>>()? },
    };
    let client = session.to_change().await?;
    let Assignments { rollout, targets } = client.report_targets(&args.entity, &reports).await?;
    if session.is_json() {
        session.print_json(&Assignments { rollout, targets })?;
    } else {
        session.print(&face::assignments(&targets, &session.face()))?;
    }
    Ok(ExitCode::Ok)
}

/// `group/name=version`
fn said(text: &str) -> Result<TargetReport, Failure> {
    let bad = || {
        Failure::new(ExitCode::Usage, format!("`{}` says of no target what it runs", visible(text)))
            .hint("write `name=version`, or `name=` where nobody knows")
    };
    let (target, version) = text.rsplit_once('=').ok_or_else(bad)?;
    let (group, name) = target.split_once('/').unwrap_or(("", target));
    if name.is_empty() {
        return Err(bad());
    }
    let version = Some(version.to_owned()).filter(|version| !version.is_empty());
    Ok(TargetReport { group: group.to_owned(), name: name.to_owned(), version, ..TargetReport::default() })
}

fn read(path: &Path) -> Result<Reports, Failure> {
    let (shown, text) = careful::text(path)?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(ExitCode::Usage, format!("`{shown}` holds no reports: {error}"))
            .hint("write `{\"targets\": [{\"name\": \"a\", \"version\": \"v1\"}]}`")
    })
}

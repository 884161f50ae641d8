//! `rollout`: targets of anything, from one version to the next.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use upbeat_api::rollouts::{Assignments, Reports, RolloutAction, TargetReport};
use upbeat_api::{Client, ClientError};
use upbeat_model::Millis;
use upbeat_model::rollout::{EntityId, Options, RolloutState};

use super::args::{Format, ReportArgs, RolloutArgs, RolloutCommand, ShowArgs, SomeOptions, StartArgs};
use super::session::{Session, is_absent};
use super::watch::Steady;
use crate::exit::ExitCode;
use crate::face::{rollout as face, stats::redrawn, visible};
use crate::failure::{Failure, Outcome};

/// A file of reports that is larger is none that a daemon takes.
const REPORTS_BYTES_MAX: u64 = upbeat_api::Up::MAX_BYTES as u64;

pub(super) async fn run(session: &Session, args: RolloutArgs) -> Outcome {
    match args.command {
        RolloutCommand::Ls(args) => list(session, args.namespace.as_deref()).await,
        RolloutCommand::Show(args) => show(session, args).await,
        RolloutCommand::Start(args) => start(session, args).await,
        RolloutCommand::Options(args) => {
            let client = session.ensured().await?;
            let before = if args.reset {
                Options::default()
            } else {
                options_of(session, &client, &args.entity).await?
            };
            let action = RolloutAction::SetOptions { options: Some(with(before, &args.options)) };
            act(session, &client, &args.entity, action, "is moved by these options from now on").await
        }
        RolloutCommand::Pause(args) => {
            change(session, &args.entity, RolloutAction::Pause, "is paused: no more targets are moved").await
        }
        RolloutCommand::Resume(args) => {
            change(session, &args.entity, RolloutAction::Resume, "goes on with the next report").await
        }
        RolloutCommand::Promote(args) => {
            change(session, &args.entity, RolloutAction::Promote, "has a version that is good now").await
        }
        RolloutCommand::Abort(args) => {
            let action = RolloutAction::Abort { why: args.reason };
            change(session, &args.entity, action, "goes back with the next report").await
        }
        RolloutCommand::Retry(args) => {
            change(session, &args.entity, RolloutAction::Retry, "tries the version again").await
        }
        RolloutCommand::Forgive(args) => {
            let action = RolloutAction::Forgive { version: args.version, until: None };
            change(session, &args.entity, action, "holds it to be bad no more").await
        }
        RolloutCommand::Why(args) => {
            let state = asked(session, &args.entity).await?;
            answer(session, &state, face::why)
        }
        RolloutCommand::Targets(args) => {
            let client = session.to_ask().await?;
            let ask = || client.rollout_targets(&args.entity, args.group.as_deref());
            let targets = session.ask(ask).await??;
            match session.is_json() {
                true => session.print_json(&targets)?,
                false => session.print(&face::targets(&targets, &session.face()))?,
            }
            Ok(ExitCode::Ok)
        }
        RolloutCommand::Report(args) => report(session, args).await,
        RolloutCommand::Forget(args) => {
            session.to_change().await?.forget_rollout(&args.entity).await?;
            match session.is_json() {
                true => session.print_json(&None::<()>)?,
                false => session.note(&format!("`{}` is forgotten; its targets run on", args.entity)),
            }
            Ok(ExitCode::Ok)
        }
    }
}

async fn list(session: &Session, namespace: Option<&str>) -> Outcome {
    let client = session.to_ask().await?;
    let states = match session.ask(|| client.rollouts(namespace)).await? {
        Ok(states) => states,
        Err(error) if is_absent(&error) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    if session.is_json() {
        session.print_json(&states)?;
    } else if session.global.quiet {
        let names = states.iter().map(|state| format!("{}/{}\n", state.namespace, state.entity));
        session.print(&names.collect::<String>())?;
    } else {
        session.print(&face::list(&states, &session.face()))?;
    }
    Ok(ExitCode::Ok)
}

async fn asked(session: &Session, id: &EntityId) -> Result<RolloutState, Failure> {
    let client = session.to_ask().await?;
    Ok(session.ask(|| client.rollout(id)).await??)
}

fn answer(
    session: &Session,
    state: &RolloutState,
    text: fn(&RolloutState, &crate::face::Face) -> String,
) -> Outcome {
    match session.is_json() {
        true => session.print_json(state)?,
        false => session.print(&text(state, &session.face()))?,
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
    let mut states = Steady::new(session, &client, move || {
        let (client, id) = (opening.clone(), id.clone());
        async move { client.watch_rollout(&id).await }
    })
    .opened()
    .await?;
    let mut is_first = true;
    while let Some(state) = states.next().await? {
        if session.global.output == Format::Json {
            session.print_json_line(&state)?;
        } else {
            let face = session.face();
            let text = face::show(&state, &face);
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
    if args.options != SomeOptions::default() {
        let options = with(options_of(session, &client, &args.entity).await?, &args.options);
        let set = RolloutAction::SetOptions { options: Some(options) };
        caution(session, &client.act_on_rollout(&args.entity, &set).await?.cautions);
    }
    let said =
        format!("is to run `{}`; its targets are moved as they are reported", visible(args.version.as_str()));
    let action = RolloutAction::SetVersion { version: args.version, force: args.force };
    act(session, &client, &args.entity, action, &said).await
}

/// As it is now; what nobody has named yet is as without being asked.
async fn options_of(session: &Session, client: &Client, id: &EntityId) -> Result<Options, Failure> {
    match session.ask(|| client.rollout(id)).await? {
        Ok(state) => Ok(state.options),
        Err(error) if is_not_found(&error) => Ok(Options::default()),
        Err(error) => Err(error.into()),
    }
}

fn is_not_found(error: &ClientError) -> bool {
    matches!(error, ClientError::Problem(problem) if problem.kind == upbeat_api::ProblemKind::NotFound)
}

fn with(before: Options, some: &SomeOptions) -> Options {
    let length = |length: Duration| Millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
    Options {
        batch: some.batch.unwrap_or(before.batch),
        success_percent: some.success.unwrap_or(before.success_percent),
        success_timeout: some.success_timeout.map_or(before.success_timeout, length),
        duration_timeout: some.duration_timeout.map_or(before.duration_timeout, length),
    }
}

async fn change(session: &Session, id: &EntityId, action: RolloutAction, said: &str) -> Outcome {
    let client = session.to_change().await?;
    act(session, &client, id, action, said).await
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
    let shown = visible(&path.display().to_string());
    let failed = |error: &std::io::Error| {
        Failure::new(ExitCode::Usage, format!("`{shown}` cannot be read")).because(error)
    };
    let mut text = String::new();
    let (stdin, file);
    let from: &mut dyn Read = if path == Path::new("-") {
        stdin = std::io::stdin();
        &mut stdin.lock()
    } else {
        file = std::fs::File::open(path).map_err(|error| failed(&error))?;
        &mut &file
    };
    from.take(REPORTS_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
    if text.len() as u64 > REPORTS_BYTES_MAX {
        let most = REPORTS_BYTES_MAX >> 20;
        return Err(Failure::new(ExitCode::Usage, format!("`{shown}` has more than {most} MiB"))
            .hint("report some of the targets at a time"));
    }
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(ExitCode::Usage, format!("`{shown}` holds no reports: {error}"))
            .hint("write `{\"targets\": [{\"name\": \"a\", \"version\": \"v1\"}]}`")
    })
}

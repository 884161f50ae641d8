//! How carefully the targets of a rollout are moved, from what was typed.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use upbeat_api::{Client, ClientError, ProblemKind};
use upbeat_model::Millis;
use upbeat_model::rollout::{EntityId, Gate, Options, Stage, Strategy};

use super::args::SomeOptions;
use super::session::Session;
use crate::exit::ExitCode;
use crate::face::visible;
use crate::failure::Failure;

/// A file that is larger is none that a daemon takes.
const FILE_MAX: u64 = upbeat_api::Up::MAX_BYTES as u64;

/// How an entity is to be moved from now on, where something was said about that: what is not said stays as it is,
/// or as nobody ever said anything.
pub(super) async fn said(
    session: &Session,
    client: &Client,
    id: &EntityId,
    some: &SomeOptions,
    reset: bool,
) -> Result<Option<(Options, Strategy)>, Failure> {
    if *some == SomeOptions::default() && !reset {
        return Ok(None);
    }
    let (options, strategy) = match reset {
        true => Default::default(),
        false => as_it_is(session, client, id).await?,
    };
    upon(options, strategy, some).map(Some)
}

/// As it is said, upon how it is.
pub(super) fn upon(
    options: Options,
    strategy: Strategy,
    some: &SomeOptions,
) -> Result<(Options, Strategy), Failure> {
    Ok((with(options, some), strategic(strategy, some)?))
}

/// What nobody has named yet is as without being asked.
async fn as_it_is(session: &Session, client: &Client, id: &EntityId) -> Result<(Options, Strategy), Failure> {
    match session.ask(|| client.rollout(id)).await? {
        Ok(state) => Ok((state.options, state.strategy)),
        Err(ClientError::Problem(problem)) if problem.kind == ProblemKind::NotFound => Ok(Default::default()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn millis(length: Duration) -> Millis {
    Millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

fn with(before: Options, some: &SomeOptions) -> Options {
    Options {
        batch: some.batch.unwrap_or(before.batch),
        success_percent: some.success.unwrap_or(before.success_percent),
        success_timeout: some.success_timeout.map_or(before.success_timeout, millis),
        duration_timeout: some.duration_timeout.map_or(before.duration_timeout, millis),
    }
}

fn strategic(before: Strategy, some: &SomeOptions) -> Result<Strategy, Failure> {
    let mut strategy = match &some.strategy {
        None => before,
        Some(path) => {
            let (shown, text) = text(path)?;
            serde_json::from_str(&text).map_err(|error| {
                Failure::new(ExitCode::Usage, format!("`{shown}` holds no strategy: {error}"))
                    .hint("write for example `{\"stages\": [{\"name\": \"canary\", \"who\": {\"amount\": {\"count\": 1}}, \"gate\": \"approval\"}]}`")
            })?
        }
    };
    if let Some(amount) = some.canary {
        strategy.stages = vec![Stage::canary(amount, Gate::Approval)];
    }
    if let Some(stages) = &some.stages {
        strategy.stages = waves(stages)?;
    }
    strategy.max_unavailable = some.max_unavailable.or(strategy.max_unavailable);
    strategy.failure_budget = some.failure_budget.or(strategy.failure_budget);
    strategy.progress_deadline = some.progress_deadline.map(millis).or(strategy.progress_deadline);
    Ok(strategy)
}

/// `region=eu,us`
fn waves(text: &str) -> Result<Vec<Stage>, Failure> {
    let bad = || {
        Failure::new(ExitCode::Usage, format!("`{}` names no waves", visible(text)))
            .hint("write a label and its values in order: `region=eu,us`")
    };
    let (label, values) = text.split_once('=').ok_or_else(bad)?;
    let wave = |value: &str| match label.is_empty() || value.is_empty() {
        true => Err(bad()),
        false => Ok(Stage::wave(value, [(label.to_owned(), value.to_owned())])),
    };
    values.split(',').map(|value| wave(value.trim())).collect()
}

/// A file, or standard input: how it is called, and what it holds.
pub(super) fn text(path: &Path) -> Result<(String, String), Failure> {
    let shown = visible(&path.display().to_string());
    let failed = |error: &std::io::Error| {
        Failure::new(ExitCode::Usage, format!("`{shown}` cannot be read")).because(error)
    };
    let (mut text, mut stdin, file);
    let from: &mut dyn Read = if path == Path::new("-") {
        stdin = std::io::stdin().lock();
        &mut stdin
    } else {
        file = std::fs::File::open(path).map_err(|error| failed(&error))?;
        &mut &file
    };
    text = String::new();
    from.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
    if text.len() as u64 > FILE_MAX {
        let most = FILE_MAX >> 20;
        return Err(Failure::new(ExitCode::Usage, format!("`{shown}` has more than {most} MiB"))
            .hint("report some of the targets at a time"));
    }
    Ok((shown, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use upbeat_model::rollout::{Amount, Who};

    #[test]
    fn what_is_not_said_stays_as_it_is() {
        let before = Options { success_percent: 90, ..Options::default() };
        let some = SomeOptions { batch: Some(Amount::Count(3)), ..SomeOptions::default() };
        assert_eq!(with(before, &some), Options { batch: Amount::Count(3), ..before });
        let strategy = Strategy { max_unavailable: Some(Amount::Count(1)), ..Strategy::default() };
        let some = SomeOptions { stages: Some("region=eu, us".into()), ..SomeOptions::default() };
        let made = strategic(strategy, &some).unwrap();
        assert_eq!(made.max_unavailable, Some(Amount::Count(1)));
        let names: Vec<&str> = made.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(names, ["eu", "us"]);
        assert_eq!(made.stages[1].who, Who::Labels([("region".to_owned(), "us".to_owned())].into()));
        for bad in ["region", "region=", "=eu", "region=eu,,us"] {
            assert!(waves(bad).is_err(), "{bad}");
        }
    }
}

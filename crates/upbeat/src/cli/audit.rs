//! `audit`: who changed what, and whether that record is whole.

use std::path::Path;

use upbeat_api::{AuditHead, AuditVerdict, ClientError, EventsQuery};
use upbeat_control::audit::{Key, open_segments, verify};

use super::args::{AuditArgs, AuditCommand, AuditLsArgs, AuditVerifyArgs};
use super::moment::moment_of;
use super::session::Session;
use crate::daemon;
use crate::exit::ExitCode;
use crate::face::access;
use crate::failure::{Failure, Outcome};

pub(super) async fn run(session: &Session, args: AuditArgs) -> Outcome {
    match args.command {
        AuditCommand::Ls(args) => list(session, args).await,
        AuditCommand::Verify(args) => look(session, args).await,
    }
}

async fn list(session: &Session, args: AuditLsArgs) -> Outcome {
    let since = moment_of("--since", args.since.as_deref(), &session.face())?;
    let client = session.to_ask().await?;
    let mut after = 0;
    loop {
        let page = session.ask(|| client.audit(after, since, EventsQuery::MAX_LIMIT)).await??;
        let Some(last) = page.last() else { return Ok(ExitCode::Ok) };
        after = last.sequence;
        for record in &page {
            match session.is_json() {
                true => session.print_json_line(record)?,
                false => session.print(&access::record(record, &session.face()))?,
            }
        }
    }
}

async fn look(session: &Session, args: AuditVerifyArgs) -> Outcome {
    let verdict = match &args.dir {
        Some(dir) => {
            let beside = dir.parent().map(|parent| parent.join("audit.key")).filter(|key| key.exists());
            offline(dir, args.key.or(beside).as_deref(), args.anchor.as_ref())?
        }
        None => match session.client()?.verify_audit().await {
            Ok(verdict) => against(verdict, args.anchor.as_ref(), session).await?,
            // What is on disk can be looked at without it; and nothing is started to be looked at.
            Err(ClientError::NotRunning { .. }) => without_daemon(session, args.anchor.as_ref()).await?,
            Err(error) => return Err(error.into()),
        },
    };
    match session.is_json() {
        true => session.print_json(&verdict)?,
        false => session.print(&access::verdict(&verdict, &session.face()))?,
    }
    match verdict.bad {
        None => Ok(ExitCode::Ok),
        Some(_) => Err(Failure::new(ExitCode::Failed, "the audit log is not as it was written")),
    }
}

/// Also against a record that somebody remembers: the daemon is asked for that one.
async fn against(
    verdict: AuditVerdict,
    anchor: Option<&AuditHead>,
    session: &Session,
) -> Result<AuditVerdict, Failure> {
    let Some(anchor) = anchor.filter(|anchor| anchor.count > 0 && verdict.bad.is_none()) else {
        return Ok(verdict);
    };
    let found = session.client()?.audit(anchor.count - 1, None, 1).await?;
    Ok(access::held_against(verdict, found.first(), anchor))
}

async fn without_daemon(session: &Session, anchor: Option<&AuditHead>) -> Result<AuditVerdict, Failure> {
    let dirs = session.dirs()?;
    if !dirs.audit().exists() {
        let message = format!("there is no audit log in `{}`", dirs.state.display());
        return Err(
            Failure::new(ExitCode::NotFound, message).hint("`upbeat up` or `upbeat serve` begins one")
        );
    }
    let kept = daemon::anchor_on_disk(&dirs).await.map_err(|error| {
        Failure::new(ExitCode::Failed, "what the daemon kept besides the audit log cannot be read")
            .because(&error)
    })?;
    let key = Some(dirs.audit_key()).filter(|key| key.exists());
    let verdict = offline(&dirs.audit(), key.as_deref(), kept.as_ref())?;
    match anchor {
        Some(_) if verdict.bad.is_none() => offline(&dirs.audit(), key.as_deref(), anchor),
        _ => Ok(verdict),
    }
}

fn offline(dir: &Path, key: Option<&Path>, anchor: Option<&AuditHead>) -> Result<AuditVerdict, Failure> {
    let failed = |what: &Path, error: &dyn std::error::Error| {
        Failure::new(ExitCode::Failed, format!("`{}` cannot be read", what.display())).because(error)
    };
    let key = match key {
        None => None,
        Some(path) => Some(Key::read(path).map_err(|error| failed(path, &error))?),
    };
    let segments = open_segments(dir).map_err(|error| failed(dir, &error))?;
    verify(segments, key.as_ref(), anchor).map_err(|error| failed(dir, &error))
}

//! `rollout unit`: several entities that go to new versions as one.

use upbeat_api::rollout_units::{StartUnit, UnitAction};
use upbeat_model::rollout::{EntityId, UnitMember, UnitsPage};

use super::args::{UnitCommand, UnitShowArgs, UnitStartArgs};
use super::rollout::{all_pages, answer, not_read, watch};
use super::session::Session;
use super::watch::Steady;
use crate::exit::ExitCode;
use crate::face::{unit as face, visible};
use crate::failure::{Failure, Outcome};

pub(super) async fn run(session: &Session, command: UnitCommand) -> Outcome {
    match command {
        UnitCommand::Start(args) => start(session, args).await,
        UnitCommand::Ls(args) => list(session, args.namespace.as_deref()).await,
        UnitCommand::Show(args) => show(session, args).await,
        UnitCommand::Abort(args) => {
            let said = "goes back with the next reports, the last member first";
            act(session, &args.unit, UnitAction::Abort { why: args.reason }, said).await
        }
        UnitCommand::Promote(args) => {
            let said = "takes each member for good as soon as it has begun";
            act(session, &args.unit, UnitAction::Promote, said).await
        }
        UnitCommand::Pause(args) => {
            let said = "is paused: no member begins, and no more targets are moved";
            act(session, &args.unit, UnitAction::Pause, said).await
        }
        UnitCommand::Resume(args) => {
            act(session, &args.unit, UnitAction::Resume, "goes on with the next reports").await
        }
        UnitCommand::Forget(args) => forget(session, &args.unit).await,
    }
}

async fn list(session: &Session, namespace: Option<&str>) -> Outcome {
    let client = session.to_ask().await?;
    let (states, unreadable) = all_pages(session, namespace, async |query| {
        let page = session.ask(|| client.rollout_units(query)).await?;
        Ok(page.map(|UnitsPage { units, unreadable, next }| (units, unreadable, next)))
    })
    .await?;
    if session.is_json() {
        session.print_json(&states)?;
    } else if session.global.quiet {
        session.print(&states.iter().map(|state| format!("{}\n", state.name())).collect::<String>())?;
    } else {
        session.print(&face::list(&states, &unreadable, &session.face()))?;
    }
    Ok(not_read(session, &unreadable))
}

async fn show(session: &Session, args: UnitShowArgs) -> Outcome {
    let client = session.to_ask().await?;
    if !args.watch {
        let state = session.ask(|| client.rollout_unit(&args.unit)).await??;
        return answer(session, &state, face::show);
    }
    let (opening, id) = (client.clone(), args.unit);
    let states = Steady::new(session, &client, move || {
        let (client, id) = (opening.clone(), id.clone());
        async move { client.watch_rollout_unit(&id).await }
    });
    watch(session, states, face::show).await
}

async fn start(session: &Session, args: UnitStartArgs) -> Outcome {
    let id = args.unit.clone();
    let members = members_of(args)?;
    let client = session.ensured().await?;
    let state = client.start_rollout_unit(&id, &StartUnit { members }).await?;
    match session.is_json() {
        true => session.print_json(&state)?,
        false => session.print(&face::show(&state, &session.face()))?,
    }
    Ok(ExitCode::Ok)
}

/// Names may hold a `:`, so who needs whom is told by who is there.
fn members_of(args: UnitStartArgs) -> Result<Vec<UnitMember>, Failure> {
    let member = |(entity, version)| UnitMember { entity, version, needs: Vec::new() };
    let mut members: Vec<UnitMember> = args.members.into_iter().map(member).collect();
    for text in &args.needs {
        let pair = members.iter().enumerate().find_map(|(n, member)| {
            let needs = text.strip_prefix(&member.entity)?.strip_prefix(':')?;
            members.iter().any(|other| other.entity == needs).then(|| (n, needs.to_owned()))
        });
        let Some((n, needs)) = pair else {
            let what = format!("`--needs {}` does not name two members", visible(text));
            return Err(Failure::new(ExitCode::Usage, what)
                .hint("write `--needs b:a` where `a=…` and `b=…` are in the unit, and `b` needs `a`"));
        };
        members[n].needs.push(needs);
    }
    Ok(members)
}

async fn act(session: &Session, id: &EntityId, action: UnitAction, said: &str) -> Outcome {
    let state = session.to_change().await?.act_on_rollout_unit(id, &action).await?;
    match session.is_json() {
        true => session.print_json(&state)?,
        false => session.note(&format!("`{}` {said}", visible(&id.to_string()))),
    }
    Ok(ExitCode::Ok)
}

async fn forget(session: &Session, id: &EntityId) -> Outcome {
    session.to_change().await?.forget_rollout_unit(id).await?;
    match session.is_json() {
        true => session.print_json(&None::<()>)?,
        false => {
            let id = visible(&id.to_string());
            session.note(&format!("`{id}` is forgotten; its members stay where they are, each by itself"));
        }
    }
    Ok(ExitCode::Ok)
}

#[cfg(test)]
mod tests {
    use upbeat_model::rollout::Version;

    use super::*;

    fn of(entities: &[&str], needs: &[&str]) -> Result<Vec<(String, Vec<String>)>, String> {
        let members = entities.iter().map(|entity| ((*entity).to_owned(), Version::new("v2").unwrap()));
        let args = UnitStartArgs {
            unit: EntityId::new("shop", "release").unwrap(),
            members: members.collect(),
            needs: needs.iter().map(|text| (*text).to_owned()).collect(),
        };
        let made = members_of(args).map_err(|failure| failure.message.unwrap_or_default())?;
        Ok(made.into_iter().map(|member| (member.entity, member.needs)).collect())
    }

    #[test]
    fn who_needs_whom_is_told_by_who_is_there() {
        let needs = |entity: &str, needs: &[&str]| {
            (entity.to_owned(), needs.iter().map(|need| (*need).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            of(&["db", "api", "web"], &["api:db", "web:api", "web:db"]),
            Ok(vec![needs("db", &[]), needs("api", &["db"]), needs("web", &["api", "db"])])
        );
        // Names may hold what stands between them.
        assert_eq!(
            of(&["a", "a:b", "b"], &["a:b:b"]),
            Ok(vec![needs("a", &[]), needs("a:b", &["b"]), needs("b", &[]),])
        );
        for text in ["api", "api:", ":db", "api:none", "none:db", "api: db", "api=db", ""] {
            let refused = of(&["db", "api"], &[text]).unwrap_err();
            assert!(refused.contains(&format!("`--needs {text}` does not name two members")), "{refused}");
        }
    }
}

//! Why this daemon does not do what it was asked, in words for people, each with its remedy.

use upbeat_api::{Problem, ProblemKind};
use upbeat_control::{ControlError, Drafted};
use upbeat_drivers::cgroups::{Capabilities, Lack};
use upbeat_drivers::docker::EngineError;
use upbeat_drivers::process::chain;
use upbeat_model::file::validate;
use upbeat_model::rights::{Accounts, DaemonRights};
use upbeat_model::{AppName, Project, Service, ServiceName};
use upbeat_server::Answer;
use upbeat_store::StoreError;

/// Control's words, with the status code and the remedy that belong to them.
pub(super) fn problem(error: &ControlError) -> Problem {
    let text = chain(error);
    match error {
        ControlError::NoSuchApp(_) => {
            Problem::new(ProblemKind::NotFound, text).with_hint("`upbeat apps` lists what there is")
        }
        ControlError::NoSuchService { known, .. } => {
            let names: Vec<&str> = known.iter().take(20).map(ServiceName::as_str).collect();
            Problem::new(ProblemKind::NotFound, text).with_hint(format!("it has {}", names.join(", ")))
        }
        ControlError::NoSuchOperation(_) => Problem::new(ProblemKind::NotFound, text)
            .with_hint("the last few hundred are remembered; `upbeat events` tells how older ones ended"),
        ControlError::OtherRequest { .. } => Problem::new(ProblemKind::Conflict, text)
            .with_hint("give each change a key of its own, and the same one only when it is sent again"),
        ControlError::Meanwhile(_) => Problem::new(ProblemKind::Conflict, text)
            .with_hint("nothing was changed; ask again, and it is worked out from how it is by then"),
        ControlError::Refused(_) => Problem::new(ProblemKind::BadRequest, text),
        ControlError::Unsure(_) => Problem::new(ProblemKind::Unavailable, text)
            .with_hint("once the daemon can read its state again, `upbeat ps` shows what is in force"),
        ControlError::Store(
            StoreError::ValueTooLarge { .. }
            | StoreError::RequestTooLarge { .. }
            | StoreError::TooManyOps { .. },
        ) => Problem::new(ProblemKind::BadRequest, text)
            .with_hint("nothing was changed; a project with less in it can be stored"),
        ControlError::Store(StoreError::Io(_)) => Problem::new(ProblemKind::Unavailable, text)
            .with_hint("nothing was changed; make room on the disk that holds the daemon's state"),
        ControlError::Store(_) => {
            Problem::new(ProblemKind::Unavailable, text).with_hint("nothing was changed")
        }
    }
}

pub(super) fn unreadable(what: &str, error: &dyn std::error::Error) -> Problem {
    Problem::new(ProblemKind::Internal, format!("{what} cannot be read: {error}"))
}

/// Its slots may need its volumes.
pub(super) fn still_there(app: &AppName, with: &str, down: &str) -> Problem {
    Problem::new(ProblemKind::Conflict, format!("`{app}` is still there, and its {with} with it"))
        .with_hint(format!("`{down}` takes it down first"))
}

/// Not all of them are gone.
pub(super) fn volumes_stay(app: &AppName, error: &EngineError) -> Problem {
    let kind = if error.is_unreachable() { ProblemKind::Unavailable } else { ProblemKind::Conflict };
    Problem::new(kind, format!("not all volumes of `{app}` could be removed: {}", chain(error)))
        .with_hint("its services are gone; `upbeat down --volumes` tries again")
}

/// What there is of them is not known, or they could not be removed.
pub(super) fn networks_stay(app: &AppName, error: &EngineError) -> Problem {
    let kind = if error.is_unreachable() { ProblemKind::Unavailable } else { ProblemKind::Internal };
    Problem::new(kind, format!("networks of `{app}` may be left: {}", chain(error)))
        .with_hint("its services are gone; `upbeat down` looks again")
}

/// What containers there are is not known.
pub(super) fn unplanned(error: &EngineError) -> Problem {
    Problem::new(
        ProblemKind::Unavailable,
        format!("what containers there are is not known: {}", chain(error)),
    )
    .with_hint("a plan is made of what is there; `up` starts what needs no engine, and waits with the rest")
}

/// A plan that breaks a rule is none to go by.
pub(super) fn refuse_broken(drafted: &Drafted) -> Answer<()> {
    if drafted.violations.is_empty() {
        return Ok(());
    }
    let broken: Vec<String> = drafted.violations.iter().map(ToString::to_string).collect();
    let text = format!("the plan breaks rules of its own: {}\n{}", broken.join("; "), drafted.plan.text());
    Err(Problem::new(ProblemKind::Internal, text).with_hint("this is an error of Upbeat's: please report it"))
}

pub(super) fn refuse_bad(project: &Project) -> Answer<()> {
    validate(project).map_err(|mistakes| {
        Problem::new(ProblemKind::BadRequest, format!("the project makes no sense: {}", mistakes.join("; ")))
    })
}

/// So many things that cannot be had are named of a project: they have few reasons.
const LACKS_SHOWN: usize = 10;

/// What is lacking, in one line.
fn listed(mut lacks: Vec<String>) -> String {
    let more = lacks.len().saturating_sub(LACKS_SHOWN);
    lacks.truncate(LACKS_SHOWN);
    if more > 0 {
        lacks.push(format!("and {more} more"));
    }
    lacks.join("; ")
}

/// What the machine cannot limit is refused beforehand, and not found out by every start.
pub(super) fn refuse_unlimited(project: &Project, look: impl FnOnce() -> Capabilities) -> Answer<()> {
    // What a container is limited to, its engine keeps, or refuses.
    let is_limited = |service: &Service| service.container.is_none() && !service.resources.is_unlimited();
    let limited: Vec<_> = project.services.iter().filter(|(_, service)| is_limited(service)).collect();
    if limited.is_empty() {
        return Ok(());
    }
    let capabilities = look();
    let lacks = limited.into_iter().flat_map(|(name, service)| {
        let lacks = capabilities.lacks(&service.resources).into_iter();
        lacks.map(move |Lack { key, why }| format!("`services.{name}.{key}`: {why}"))
    });
    let lacks: Vec<String> = lacks.collect();
    if lacks.is_empty() {
        return Ok(());
    }
    let message = format!("limits of the project cannot be kept: {}", listed(lacks));
    Err(Problem::new(ProblemKind::BadRequest, message)
        .with_hint("nothing was changed; take them out, or run the project where they can be kept"))
}

/// The same of what this daemon has no right to give.
pub(super) fn refuse_beyond_rights<'a>(
    services: impl IntoIterator<Item = (&'a ServiceName, &'a Service)>,
    rights: &DaemonRights,
    accounts: &impl Accounts,
) -> Answer<()> {
    let lacks = rights.lacks(services, accounts);
    if lacks.is_empty() {
        return Ok(());
    }
    let lacks = lacks.into_iter().map(|lack| format!("`services.{}`: {}", lack.key, lack.why)).collect();
    let message = format!("the daemon has no right to what the project asks for: {}", listed(lacks));
    Err(Problem::new(ProblemKind::BadRequest, message)
        .with_hint("nothing was changed; run the daemon as root, or take it out"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::{Paint, error};
    use crate::failure::Failure;
    use upbeat_model::OperationId;

    fn shown(problem: Problem) -> String {
        let failure = Failure::from(problem);
        format!("{:?}\n{}", failure.exit, error::text(&failure, Paint::Plain))
    }

    #[test]
    fn what_control_refuses_is_told_with_a_remedy() {
        let (app, service) = (AppName::new("shop").unwrap(), ServiceName::new("wbe").unwrap());
        let known = vec![ServiceName::new("db").unwrap(), ServiceName::new("web").unwrap()];
        let full = StoreError::Io("No space left on device (os error 28)".into());
        let large = [
            StoreError::RequestTooLarge { size: 2_000, max: 1_000 },
            StoreError::ValueTooLarge { key: "app/shop".into(), size: 2_000, max: 1_000 },
            StoreError::TooManyOps { count: 20, max: 10 },
        ];
        let errors = [
            ControlError::NoSuchApp(app.clone()),
            ControlError::OtherRequest { id: OperationId(7), what: "up".into(), app: app.clone() },
            ControlError::NoSuchService { app, service, known },
            ControlError::NoSuchOperation(OperationId(7)),
            ControlError::Meanwhile(AppName::new("shop").unwrap()),
            ControlError::Refused("`web=9999` is too many: a service has at most 1000 copies".into()),
            ControlError::Unsure(StoreError::Unknown("Input/output error (os error 5)".into())),
            ControlError::Store(full),
            ControlError::Store(StoreError::Stopped),
        ];
        for refused in errors {
            let told = shown(problem(&refused));
            match refused {
                ControlError::NoSuchApp(_) => insta::assert_snapshot!(told, @"
                NotFound
                error: There is no app `shop`
                hint: `upbeat apps` lists what there is
                "),
                ControlError::NoSuchService { .. } => insta::assert_snapshot!(told, @"
                NotFound
                error: App `shop` has no service `wbe`
                hint: it has db, web
                "),
                ControlError::NoSuchOperation(_) => insta::assert_snapshot!(told, @"
                NotFound
                error: Operation 7 is not remembered
                hint: the last few hundred are remembered; `upbeat events` tells how older ones ended
                "),
                ControlError::OtherRequest { .. } => insta::assert_snapshot!(told, @"
                Conflict
                error: The idempotency key belongs to operation 7, `up` of `shop`
                hint: give each change a key of its own, and the same one only when it is sent again
                "),
                ControlError::Meanwhile(_) => insta::assert_snapshot!(told, @"
                Conflict
                error: App `shop` was changed meanwhile
                hint: nothing was changed; ask again, and it is worked out from how it is by then
                "),
                ControlError::Refused(_) => insta::assert_snapshot!(told, @"
                Usage
                error: `web=9999` is too many: a service has at most 1000 copies
                "),
                ControlError::Unsure(_) => insta::assert_snapshot!(told, @"
                Failed
                error: It is not known whether the change was stored: the store cannot tell what it has kept: Input/output error (os error 5)
                hint: once the daemon can read its state again, `upbeat ps` shows what is in force
                "),
                ControlError::Store(StoreError::Io(_)) => insta::assert_snapshot!(told, @"
                Failed
                error: The change could not be stored: the store cannot use its file: No space left on device (os error 28)
                hint: nothing was changed; make room on the disk that holds the daemon's state
                "),
                ControlError::Store(_) => insta::assert_snapshot!(told, @"
                Failed
                error: The change could not be stored: the store has stopped
                hint: nothing was changed
                "),
            }
        }
        let told = large.map(|error| shown(problem(&ControlError::Store(error)))).concat();
        insta::assert_snapshot!(told, @"
        Usage
        error: The change could not be stored: a request of 2000 bytes is larger than the limit of 1000
        hint: nothing was changed; a project with less in it can be stored
        Usage
        error: The change could not be stored: the value of `app/shop` has 2000 bytes, more than the limit of 1000
        hint: nothing was changed; a project with less in it can be stored
        Usage
        error: The change could not be stored: a transaction of 20 operations is larger than the limit of 10
        hint: nothing was changed; a project with less in it can be stored
        ");
    }

    #[test]
    fn what_cannot_be_read_was_not_to_be_changed() {
        insta::assert_snapshot!(shown(unreadable("the events", &StoreError::Stopped)), @"
        Failed
        error: The events cannot be read: the store has stopped
        ");
    }

    fn shop(services: &serde_json::Value) -> Project {
        let project = serde_json::json!({ "name": "shop", "services": services, "base_environment": {} });
        serde_json::from_value(project).unwrap()
    }

    #[test]
    fn a_project_that_no_file_could_have_declared_is_refused() {
        let nothing = shop(&serde_json::json!({}));
        insta::assert_snapshot!(shown(refuse_bad(&nothing).unwrap_err()), @"
        Usage
        error: The project makes no sense: the project has no service
        ");
    }

    #[test]
    fn limits_that_the_machine_cannot_keep_are_refused_by_their_keys() {
        let nowhere = || Capabilities::look(std::path::Path::new("/nonexistent"));
        let service =
            |resources| serde_json::json!({ "command": ["x"], "working_dir": "/", "resources": resources });
        let refused = |services: &serde_json::Value| refuse_unlimited(&shop(services), nowhere);
        let services = serde_json::json!({
            "db": service(serde_json::json!({})),
            "web": service(serde_json::json!({ "memory": 1 << 20, "pids": 9 })),
        });
        insta::assert_snapshot!(shown(refused(&services).unwrap_err()), @"
        Usage
        error: Limits of the project cannot be kept: `services.web.mem_limit`: this machine has no cgroups of version 2; `services.web.pids_limit`: this machine has no cgroups of version 2
        hint: nothing was changed; take them out, or run the project where they can be kept
        ");
        assert!(refused(&serde_json::json!({ "db": service(serde_json::json!({})) })).is_ok());
        let many: serde_json::Map<_, _> = (1..=9)
            .map(|n| (format!("s{n}"), service(serde_json::json!({ "cpus": 1, "memory": 1 }))))
            .collect();
        let told = shown(refused(&many.into()).unwrap_err());
        assert!(told.contains("`services.s5.mem_limit`") && told.contains("; and 8 more"), "{told}");
        assert!(!told.contains("`services.s6"), "{told}");
    }

    #[test]
    fn what_the_daemon_has_no_right_to_is_refused_by_its_key() {
        struct Nobody;
        impl Accounts for Nobody {
            fn user(&self, _: &str) -> Option<(u32, u32)> {
                Some((7, 7))
            }
            fn group(&self, _: &str) -> Option<u32> {
                None
            }
        }
        let rights = DaemonRights {
            uid: 1000,
            gid: 1000,
            groups: [].into(),
            becomes_others: false,
            joins_groups: false,
            score: Some(0),
            ulimits: [].into(),
        };
        let project = |web: serde_json::Value| shop(&serde_json::json!({ "web": web }));
        let asked = project(serde_json::json!({ "command": ["x"], "working_dir": "/", "user": "db" }));
        let refused = refuse_beyond_rights(&asked.services, &rights, &Nobody).unwrap_err();
        insta::assert_snapshot!(shown(refused), @"
        Usage
        error: The daemon has no right to what the project asks for: `services.web.user`: `db` is user 7, and the daemon runs as user 1000
        hint: nothing was changed; run the daemon as root, or take it out
        ");
        let fine = project(serde_json::json!({ "command": ["x"], "working_dir": "/" }));
        assert!(refuse_beyond_rights(&fine.services, &rights, &Nobody).is_ok());
    }
}

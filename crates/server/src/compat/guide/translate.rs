//! From a service of the guide to one the machines run, and back.
//!
//! Who has a health endpoint and a stop command runs *elsewhere*: its start command starts it and ends.
//! Anybody else is a process of ours: it is there for as long as its start command runs. Of one with an
//! endpoint and no stop command nobody knows beforehand: it is a process of ours, and when its command has
//! ended well it is elsewhere for as long as its endpoint answers.

use upbeat_model::file::validate;
use upbeat_model::project::{Condition, Dependency, Http, Probe, Question, Reaction, Remedy};
use upbeat_model::withheld::WITHHELD;
use upbeat_model::{App, AppName, Millis, ProbeName, Project, Service as Declared, ServiceName};

use super::error::ServicesError;
use super::registry::Registry;
use super::service::Service;
use super::{APP, Surroundings, command};

/// The label with the service as it was registered, as JSON.
const LABEL: &str = "upbeat.services.registered";

/// What commands are told of the provisioning path.
const PROVISIONING: &str = "PROVISIONING";

/// A process that has been there for so long was started: one with a wrong argument ends sooner.
const STARTED_AFTER: Millis = Millis(500);

/// Until it first answers it is asked every second, for half a minute; after that it is unhealthy.
const START_PERIOD: Millis = Millis::seconds(30);
const START_INTERVAL: Millis = Millis::seconds(1);

/// That a process is still there is seen without being asked; the probe only says that it was not over
/// at once.
const STILL_THERE_INTERVAL: Millis = Millis::seconds(3_600);

/// Its start command starts it elsewhere, and ends.
pub(super) fn is_external(service: &Service) -> bool {
    service.health_check_endpoint.is_some() && !service.stop_command.trim().is_empty()
}

/// Its start command may start it elsewhere and end, or not; only when that has ended well, it is known.
pub(super) fn may_be_elsewhere(service: &Service) -> bool {
    service.health_check_endpoint.is_some() && !is_external(service)
}

/// What the machines run for it. Dependencies that are not registered are left out.
///
/// Errors: what is wrong with its name, its commands or its endpoint.
pub(super) fn declared(
    service: &Service,
    registry: &Registry,
    around: &Surroundings,
) -> Result<(ServiceName, Declared), ServicesError> {
    let unusable = |why: String| ServicesError::Unusable { name: service.name.clone(), why };
    let name = ServiceName::new(&service.name).map_err(|error| unusable(error.why().to_owned()))?;
    let argv =
        |key: &str, line: &str| words(line, around).map_err(|why| unusable(format!("in its `{key}`: {why}")));
    let mut declared = Declared::new(argv("start_command", &service.start_command)?, &around.working_dir);
    if !service.stop_command.trim().is_empty() {
        declared.stop_command = Some(argv("stop_command", &service.stop_command)?);
    }
    if !around.provisioning_path.is_empty() {
        declared.environment.insert(PROVISIONING.to_owned(), around.provisioning_path.clone());
    }
    declared.external = is_external(service);
    declared.probes = probes(service, around).map_err(unusable)?;
    let project = Project {
        name: AppName::new(APP).map_err(|error| unusable(error.to_string()))?,
        services: [(name.clone(), declared.clone())].into(),
        base_environment: Default::default(),
    };
    validate(&project).map_err(|mistakes| unusable(mistakes.join("; ")))?;
    declared.depends_on = (service.dependencies.iter())
        .filter_map(|need| Some((ServiceName::new(need).ok()?, edge(registry.get(need).ok()?))))
        .collect();
    let registered = serde_json::to_string(service).map_err(|error| unusable(error.to_string()))?;
    declared.labels.insert(LABEL.to_owned(), registered);
    Ok((name, declared))
}

/// A program that ends in `.nu` is run by `nu`.
fn words(line: &str, around: &Surroundings) -> Result<Vec<String>, String> {
    let mut words = command::split(line)?;
    if words.first().is_some_and(|program| program.ends_with(".nu")) {
        words.insert(0, around.nu_path.clone());
    }
    Ok(words)
}

fn probes(
    service: &Service,
    around: &Surroundings,
) -> Result<std::collections::BTreeMap<ProbeName, Probe>, String> {
    let name = |text: &str| ProbeName::new(text).map_err(|error| error.to_string());
    let is_there = Probe {
        initial_delay: STARTED_AFTER,
        interval: STILL_THERE_INTERVAL,
        start_period: START_PERIOD,
        start_interval: START_INTERVAL,
        // Any amount: it is answered by a process that is there, and by no other.
        ..Probe::asking(Question::Memory(u64::MAX))
    };
    let Some(url) = &service.health_check_endpoint else {
        return Ok([(name(ProbeName::READINESS)?, is_there)].into());
    };
    let answers = Probe {
        timeout: around.health_timeout,
        start_period: START_PERIOD,
        start_interval: START_INTERVAL,
        ..Probe::asking(Question::Http(Http::get(url.clone())))
    };
    let readiness = name(ProbeName::READINESS)?;
    Ok(match is_external(service) {
        true => [(readiness, answers)].into(),
        // Nobody waits for its endpoint, and nobody restarts it for that: when that fails it is unhealthy.
        false => {
            let answers = Probe { on_failure: Some(Remedy::of(Reaction::Ignore)), ..answers };
            [(readiness, is_there), (name(ProbeName::LIVENESS)?, answers)].into()
        }
    })
}

/// The same with its endpoint as the one question of its health.
pub(super) fn by_endpoint(mut declared: Declared) -> Declared {
    let endpoint = declared.probes.values().find(|probe| matches!(probe.ask, Question::Http(_))).cloned();
    if let (Some(endpoint), Ok(name)) = (endpoint, ProbeName::new(ProbeName::READINESS)) {
        declared.probes = [(name, endpoint)].into();
    }
    declared
}

/// What is needed must have been started. That it answers is not waited for: an endpoint may be wrong,
/// as it is in the guide's own first example.
fn edge(needed: &Service) -> Dependency {
    let condition = if is_external(needed) { Condition::Started } else { Condition::Ready };
    Dependency { condition, ..Dependency::default() }
}

/// An app for whoever only looks: what was registered is as [`Service::to_look_at`] shows it; and what
/// cannot be read is not shown, as it may hold anything.
pub(crate) fn to_look_at(mut app: App) -> App {
    for service in app.project.services.values_mut() {
        if let Some(text) = service.labels.get_mut(LABEL) {
            let shown = serde_json::from_str::<Service>(text)
                .and_then(|service| serde_json::to_string(&service.to_look_at()));
            *text = shown.unwrap_or_else(|_| WITHHELD.to_owned());
        }
    }
    app
}

/// What was registered and is kept with the app. What cannot be read is known by its name and told to whoever
/// asks for it: it holds up nobody else.
pub(super) fn registered(app: &App) -> Registry {
    let mut registry = Registry::default();
    for (name, service) in &app.project.services {
        let Some(text) = service.labels.get(LABEL) else { continue };
        match serde_json::from_str::<Service>(text) {
            Ok(service) => registry.insert(service),
            Err(error) => {
                tracing::warn!(service = %name, %error, "the registration of a service cannot be read");
                registry.insert_unreadable(name.to_string(), error.to_string());
            }
        }
    }
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Surroundings {
        Surroundings {
            settings: Default::default(),
            nu_path: "/opt/nu".into(),
            provisioning_path: "/opt/provisioning".into(),
            working_dir: "/srv".into(),
            base_environment: Default::default(),
            health_timeout: Surroundings::HEALTH_TIMEOUT,
        }
    }

    fn service(start: &str, stop: &str, endpoint: Option<&str>) -> Service {
        Service {
            name: "web".into(),
            description: String::new(),
            dependencies: vec!["db".into(), "gone".into()],
            start_command: start.into(),
            stop_command: stop.into(),
            health_check_endpoint: endpoint.map(str::to_owned),
        }
    }

    fn check(service: &Service) -> Result<Declared, String> {
        let db = Service { name: "db".into(), dependencies: vec![], ..service.clone() };
        let registry: Registry = [service.clone(), db].into_iter().collect();
        declared(service, &registry, &around()).map(|(_, made)| made).map_err(|error| error.to_string())
    }

    #[test]
    fn with_an_endpoint_and_a_stop_command_it_runs_elsewhere() {
        let made = check(&service("systemctl start web", "systemctl stop web", Some("http://h/x"))).unwrap();
        assert!(made.external);
        assert_eq!(made.command, ["systemctl", "start", "web"]);
        assert_eq!(made.stop_command.unwrap(), ["systemctl", "stop", "web"]);
        assert_eq!(made.environment["PROVISIONING"], "/opt/provisioning");
        assert_eq!(made.probes["readiness"].ask.to_string(), "http http://h/x");
        let edges: Vec<String> =
            made.depends_on.iter().map(|(n, e)| format!("{n} {}", e.condition)).collect();
        assert_eq!(edges, ["db service_started"], "what is not registered is left out");
    }

    #[test]
    fn without_one_of_them_it_is_a_process_of_ours() {
        for (stop, endpoint, edge) in [
            ("", None, "db service_ready"),
            ("kill it", None, "db service_ready"),
            (" ", Some("http://h/"), "db service_ready"),
        ] {
            let made = check(&service("web --port 1", stop, endpoint)).unwrap();
            assert!(!made.external && made.stop_command.is_some() == (stop == "kill it"));
            let edges: Vec<String> =
                made.depends_on.iter().map(|(n, e)| format!("{n} {}", e.condition)).collect();
            assert_eq!(edges, [edge]);
        }
    }

    #[test]
    fn scripts_of_nu_are_run_by_it() {
        let made = check(&service("./s/start.nu --background", "/s/stop.nu 'a b'", None)).unwrap();
        assert_eq!(made.command, ["/opt/nu", "./s/start.nu", "--background"]);
        assert_eq!(made.stop_command.unwrap(), ["/opt/nu", "/s/stop.nu", "a b"]);
    }

    #[test]
    fn what_was_registered_is_kept_word_by_word() {
        let before = service("a 'b'  c", "d", Some("http://h/"));
        let made = check(&before).unwrap();
        let name = ServiceName::new("web").unwrap();
        let project = Project {
            name: AppName::new(APP).unwrap(),
            services: [(name, made)].into(),
            base_environment: Default::default(),
        };
        let app = App { name: AppName::new(APP).unwrap(), release: 1, project, slots: vec![] };
        assert_eq!(**registered(&app).get("web").unwrap(), before);
    }

    #[test]
    fn what_cannot_be_read_is_told_of_its_service_and_of_no_other() {
        let good = check(&service("web", "", None)).unwrap();
        let mut bad = good.clone();
        bad.labels.insert(LABEL.to_owned(), "{\"name\":\"db\",\"colour\":1}".into());
        let name = |text| ServiceName::new(text).unwrap();
        let project = Project {
            name: AppName::new(APP).unwrap(),
            services: [(name("web"), good), (name("db"), bad)].into(),
            base_environment: Default::default(),
        };
        let app = App { name: AppName::new(APP).unwrap(), release: 1, project, slots: vec![] };
        let mut kept = registered(&app);
        assert!(kept.get("web").is_ok() && kept.known("db").is_ok() && kept.known("cache").is_err());
        let said = kept.get("db").unwrap_err().to_string();
        assert!(said.starts_with("the registration of service `db` cannot be read (unknown field"), "{said}");
        kept.insert(Service { name: "db".into(), ..service("db", "", None) });
        assert!(kept.get("db").is_ok() && kept.unreadable().next().is_none());
    }

    #[test]
    fn what_cannot_be_run_is_said_with_its_place() {
        let bad = |service: Service, why: &str| {
            let said = check(&service).unwrap_err();
            assert!(said.starts_with("service `") && said.contains(why), "{said}");
        };
        bad(service("a; b", "", None), "in its `start_command`: `;` would need a shell");
        bad(service("a", "b | c", None), "in its `stop_command`: `|` would need a shell");
        bad(service("a", "b", Some("ftp://x")), "probes.readiness");
        bad(service("a", "", Some("ftp://x")), "probes.liveness");
        bad(service("a", "", Some("")), "probes.liveness");
        for name in ["", "..", "a/b", "a b", "-x", "ä", "a\0b", "\u{202e}x", &"x".repeat(64)] {
            let said = check(&Service { name: name.into(), ..service("a", "", None) }).unwrap_err();
            assert!(said.contains("cannot be run") && !said.contains(['\0', '\u{202e}']), "{said}");
        }
    }
}

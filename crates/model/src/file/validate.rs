//! Judges a project that came from somewhere else than a file: from a client on the wire, who may
//! have written anything.

use super::pattern::Patterns;
use super::rules::{self, Broken};
use super::{ERRORS_MAX, SLOTS_MAX, container, copies, external, graph, process, questions};
use crate::dag::{Dag, DagError};
use crate::diagnostic::printable;
use crate::ids::ServiceName;
use crate::project::{Condition, OnRestart, Project, Reload, Service};

/// Checks all that the types of a [`Project`] do not keep already: what [`super::parse`] promises
/// of its result. Errors: every broken rule, one line each, at most [`ERRORS_MAX`] and one.
pub fn validate(project: &Project) -> Result<(), Vec<String>> {
    let mut errors = Complaints::default();
    let mut patterns = Patterns::default();
    for (name, value) in &project.base_environment {
        errors.rule(&format_args!("base_environment"), rules::variable(name, value));
    }
    if project.services.is_empty() {
        errors.add(|| "the project has no service".to_owned());
    }
    let slots: u64 = project.services.values().map(|s| u64::from(s.scale)).sum();
    if slots > SLOTS_MAX || project.services.len() as u64 > SLOTS_MAX {
        errors.add(|| format!("the project has {slots} copies of services, and {SLOTS_MAX} are the most"));
        return Err(errors.lines);
    }
    let work = project.services.values().map(copies::work).fold(0, usize::saturating_add);
    if work > copies::WORK_MAX {
        errors.add(copies::too_much_work);
        return Err(errors.lines);
    }
    for (name, service) in &project.services {
        check_service(name, service, &mut patterns, &mut errors);
        check_copies(name, service, &mut patterns, &mut errors);
    }
    check_graph(project, &mut errors);
    for (name, service) in &project.services {
        for (key, other) in service.container.iter().flat_map(|container| container::rules::others(container))
        {
            if !project.services.contains_key(&other) {
                errors.add(|| {
                    format!("`services.{name}.{key}` uses the service `{other}`, which is not declared")
                });
            }
        }
    }
    let services = project.services.iter().map(|(name, service)| (name.as_str(), service));
    let names: Vec<&ServiceName> = project.services.keys().collect();
    for clash in container::together::broken(&project.name, services) {
        let name = names[clash.service];
        errors.rule(&format_args!("services.{name}.{}", clash.place), Err::<(), _>(clash.rule));
    }
    errors.result()
}

#[derive(Default)]
struct Complaints {
    lines: Vec<String>,
    more: usize,
}

impl Complaints {
    fn add(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < ERRORS_MAX {
            self.lines.push(line());
        } else {
            self.more += 1;
        }
    }

    fn count(&self) -> usize {
        self.lines.len() + self.more
    }

    fn rule<T>(&mut self, at: &dyn std::fmt::Display, result: Result<T, Broken>) {
        if let Err(broken) = result {
            self.add(|| format!("`{at}` {broken}"));
        }
    }

    fn result(mut self) -> Result<(), Vec<String>> {
        if self.more > 0 {
            self.lines.push(format!("and {} more", self.more));
        }
        if self.lines.is_empty() { Ok(()) } else { Err(self.lines) }
    }
}

fn check_service(name: &ServiceName, service: &Service, patterns: &mut Patterns, errors: &mut Complaints) {
    let mut rule = |key: &str, result: Result<(), Broken>| {
        errors.rule(&format_args!("services.{name}.{key}"), result);
    };
    match service.container {
        None => rule("command", rules::argv(&service.command)),
        Some(_) => {
            for (place, broken) in
                container::rules::broken(service).into_iter().chain(container::rules::of_wire(service))
            {
                rule(&place.to_string(), Err(broken));
            }
        }
    }
    for (variable, value) in &service.environment {
        rule("environment", rules::variable(variable, value));
    }
    rule("working_dir", rules::working_dir(&service.working_dir));
    if let Some(user) = &service.user {
        rule("user", rules::user(user));
    }
    if let Some(command) = &service.stop_command {
        rule("stop_command", rules::argv(command));
    }
    check_surroundings(service, &mut rule);
    rule("stop_signal", rules::signal(service.stop_signal.0));
    rule("stop_grace_period", rules::length(service.stop_grace_period));
    rule("scale", rules::scale(u64::from(service.scale)).map(drop));
    if let Some(log) = &service.log {
        rule("log.max_size", rules::log_bytes(log.max_size));
        rule("log.max_files", rules::log_files(log.max_files));
    }
    for (label, value) in &service.labels {
        rule("labels", rules::label(label, value));
    }
    for (name, probe) in &service.probes {
        let mut rule = |key: &str, result| rule(&format!("probes.{name}.{key}"), result);
        questions::probe(probe, patterns, &mut rule);
    }
    if let Some(reload) = &service.reload {
        rule("reload", questions::reload(reload));
        if let Reload::Signal(signal) = reload {
            rule("reload", process::reloading_signal(*signal));
        }
    }
    check_together(name, service, errors);
}

/// What is made for each copy was read by the rules of a file.
fn check_copies(name: &ServiceName, service: &Service, patterns: &mut Patterns, errors: &mut Complaints) {
    if service.per_copy.is_none() {
        return;
    }
    for index in 1..=service.scale {
        match service.copy(name.as_str(), index, patterns) {
            Ok(copy) => {
                let before = errors.count();
                check_together(name, &copy, errors);
                // The others say the same.
                if errors.count() > before {
                    return;
                }
            }
            Err(wrong) => {
                let wrong = wrong.join("; ");
                errors.add(|| format!("copy {index} of `{name}` cannot be made: {}", printable(&wrong)));
                return;
            }
        }
    }
}

fn check_surroundings(service: &Service, rule: &mut dyn FnMut(&str, Result<(), Broken>)) {
    for group in &service.group_add {
        rule("group_add", rules::group(group));
    }
    for (name, limit) in &service.ulimits {
        rule("ulimits", rules::ulimit_name(name).and_then(|()| rules::ulimit(*limit)));
    }
    rule("resources", rules::resources(&service.resources));
    if let Some(score) = service.oom_score_adj {
        rule("oom_score_adj", rules::oom_score(score));
    }
    for (n, file) in service.files.iter().enumerate() {
        rule("files", rules::private_name(&file.name));
        if file.content.is_withheld() {
            rule("files", Err(Broken::new(format!("does not say what is in `{}`", printable(&file.name)))));
        }
        if service.files[..n].iter().any(|other| other.name == file.name) {
            rule("files", Err(Broken::new(format!("has two called `{}`", printable(&file.name)))));
        }
    }
    rule("files", rules::private_files(&service.files));
    for length in [service.restart_rhythm.delay, service.restart_rhythm.window].into_iter().flatten() {
        rule("restart_rhythm", rules::length(length));
    }
    let hooks = [
        ("pre_start", &service.pre_start),
        ("post_start", &service.post_start),
        ("pre_stop", &service.pre_stop),
        ("post_stop", &service.post_stop),
    ];
    for (key, hooks) in hooks {
        for hook in hooks {
            rule(key, rules::argv(&hook.command));
            for (variable, value) in &hook.environment {
                rule(key, rules::variable(variable, value));
            }
            if hook.privileged && service.container.is_none() {
                rule(key, Err(Broken::new("has a hook with all rights of root, which is for containers")));
            }
            // Of a container it was judged with that.
            if let Some(dir) = hook.working_dir.as_ref().filter(|_| service.container.is_none()) {
                rule(key, rules::working_dir(dir));
            }
            if let Some(user) = &hook.user {
                rule(key, rules::user(user));
            }
            if let Some(timeout) = hook.timeout {
                rule(key, rules::positive_length(timeout));
            }
        }
    }
}

/// What probes and an external service say together, also those of a copy.
fn check_together(name: &ServiceName, service: &Service, errors: &mut Complaints) {
    for (place, rule) in questions::of_service(service) {
        let at = questions::path(place.as_ref());
        errors.rule(&format_args!("services.{name}.{at}"), Err::<(), _>(rule));
    }
    if service.external {
        for (path, rule) in external::broken(service) {
            errors.rule(&format_args!("services.{name}{path}"), Err::<(), _>(rule));
        }
    }
}

/// One edge, to a service that is there.
fn check_edge(
    name: &ServiceName,
    service: &Service,
    (target, other): (&ServiceName, &Service),
    errors: &mut Complaints,
) {
    let Some(edge) = service.depends_on.get(target) else { return };
    let condition = &edge.condition;
    match condition {
        Condition::Probe(probe) if !other.probes.contains_key(probe) => {
            errors.add(|| {
                format!(
                    "Service `{name}` waits for the probe `{probe}` of `{target}`, which has no such probe"
                )
            });
        }
        ended if other.external && graph::is_of_end(ended) => {
            errors.add(|| format!("Service `{name}` waits for `{target}` to end, which is external"));
        }
        Condition::Port(_) | Condition::Line(_) => {
            let name_of = condition.probe();
            let probe = name_of.as_deref().and_then(|probe| other.probes.get(probe));
            if probe.is_none_or(|probe| probe.ask.own_name().as_ref() != name_of.as_deref()) {
                errors.add(|| {
                    let condition = printable(&condition.to_string());
                    format!(
                        "Service `{name}` waits for `{condition}` of `{target}`, which no probe of it asks"
                    )
                });
            }
        }
        _ => {}
    }
}

fn check_graph(project: &Project, errors: &mut Complaints) {
    for (name, service) in &project.services {
        for (target, dependency) in &service.depends_on {
            let other = project.services.get(target);
            if dependency.required && other.is_none() {
                errors.add(|| format!("Service `{name}` depends on `{target}`, which is not declared"));
            }
            if let Some(other) = other {
                check_edge(name, service, (target, other), errors);
            }
            if dependency.on_restart == OnRestart::Reload && service.reload.is_none() {
                errors.add(|| {
                    format!("Service `{name}` is to be reloaded with `{target}`, and does not say how")
                });
            }
            let at = format_args!("services.{name}.depends_on.{target}.timeout");
            errors.rule(&at, dependency.timeout.map_or(Ok(()), rules::positive_length));
        }
    }
    let nodes = project.services.iter().map(|(name, service)| {
        let declared = service.depends_on.keys().filter(|t| project.services.contains_key(*t));
        (name.clone(), declared.cloned())
    });
    match Dag::new(nodes) {
        Ok(_) => {}
        Err(DagError::SelfDependency(name)) => errors.add(|| format!("Service `{name}` depends on itself")),
        Err(error) => errors.add(|| printable(&error.to_string())),
    }
}

//! Reads what surrounds a process or a container: its limits, its hooks, the files that only it can read.

use std::collections::{BTreeMap, HashSet};

use super::place::Span;
use super::read::{At, broken};
use super::report::{Problem, Report, shown};
use super::rules::{self, Broken, Rule};
use super::service::{is_set, words};
use super::tree::{Entry, Node, Value};
use super::{Context, Unread, project, scalar, words};
use crate::project::{
    Hook, PrivateFile, Reload, Resources, RestartPolicy, RestartRhythm, Secret, Service, Signal, Ulimit,
};

/// Limits of the kernel, by name.
pub(super) fn ulimits(node: &Node<'_>) -> BTreeMap<String, Ulimit> {
    let limit = |Entry { key, value }: &Entry<'_>| {
        let number = |name: &str| value.get(name).and_then(|node| node.as_text()?.parse::<i64>().ok());
        // Where only one is given, it is meant for both.
        let (soft, hard) = (number("soft"), number("hard"));
        let limit = Ulimit { soft: soft.or(hard)?, hard: hard.or(soft)? };
        Some((key.text.to_string(), limit))
    };
    node.entries().iter().filter_map(limit).collect()
}

/// Judges limits that are known each by itself.
pub(super) fn judge_ulimits(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) {
    let limits = ulimits(node);
    for Entry { key, value } in node.entries() {
        if let Some(limit) = limits.get(key.text)
            && let Err(rule) = rules::ulimit(*limit)
        {
            broken(value, &at.key(key), rule, report);
        }
    }
}

/// One key of Compose for a limit of a cgroup, and where else it may stand.
const LIMITS: [(&str, &[&str]); 4] = [
    ("cpus", &["limits", "cpus"]),
    ("mem_limit", &["limits", "memory"]),
    ("mem_reservation", &["reservations", "memory"]),
    ("pids_limit", &["limits", "pids"]),
];

/// Limits for all processes of a copy together, whichever of its two words each is given by.
pub(super) fn resources(service: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Resources {
    let mut found = Resources::default();
    for (key, path) in LIMITS {
        let own = service.get(key).and_then(|node| limit(key, node));
        let deploy = service.get("deploy").and_then(|node| node.get("resources"));
        let node =
            path.iter().try_fold(deploy, |node, step| Some(node.and_then(|node| node.get(step)))).flatten();
        let deployed = node.and_then(|node| limit(key, node));
        if let (Some(one), Some(other), Some(node)) = (own, deployed, node)
            && one != other
        {
            let path = format!("deploy.resources.{}", path.join("."));
            report.error(node.span, || {
                Problem::new(format!("`{at}` has two values for one limit: by `{key}`, and by `{path}`"))
                    .label("the second one")
                    .hint("keep one of the two".to_owned())
            });
        }
        let value = own.or(deployed).flatten();
        match key {
            "cpus" => found.cpus = value,
            "mem_limit" => found.memory = value,
            "mem_reservation" => found.memory_reservation = value,
            _ => found.pids = value,
        }
    }
    found
}

/// What is written for a limit; `Some(None)`: that there is none.
fn limit(key: &str, node: &Node<'_>) -> Option<Option<u64>> {
    let text = node.as_text()?;
    let number = match key {
        "cpus" => rules::cpus(text).ok()?,
        "pids_limit" if text == "-1" => 0,
        "pids_limit" => text.parse().ok()?,
        _ => scalar::bytes(text).ok()?,
    };
    // As with the engine, 0 means that nothing is limited.
    Some((number > 0).then_some(number))
}

/// `deploy.restart_policy`, which comes before `restart`.
pub(super) fn restart_policy(node: &Node<'_>, spec: &mut Service) {
    let text = |name: &str| node.get(name).and_then(|node| node.as_text());
    let length = |name: &str| text(name).and_then(|text| scalar::length(text).ok());
    spec.restart = match text("condition") {
        Some("none") => RestartPolicy::No,
        Some("on-failure") => RestartPolicy::OnFailure { max: None },
        _ => RestartPolicy::Always,
    };
    spec.restart_rhythm = RestartRhythm {
        delay: length("delay"),
        max_attempts: text("max_attempts").and_then(|text| text.parse().ok()).filter(|n| *n > 0),
        window: length("window").filter(|window| window.0 > 0),
    };
}

/// How it is asked to read its configuration anew: by a signal, or by a command.
pub(super) fn reload(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<Reload> {
    // What was refused, or is not known yet, is as if it were there.
    let unknown = Some(Reload::Signal(Signal::default()));
    match (node.get("signal"), node.get("command")) {
        (Some(signal), None) => {
            let sent = signal.as_text().and_then(Signal::parse);
            if let Some(Err(wrong)) = sent.map(reloading_signal) {
                broken(signal, at, wrong, report);
            }
            sent.map(Reload::Signal).or(unknown)
        }
        (None, Some(command)) => words(command).map(Reload::Exec).or(unknown),
        (None, None) if !matches!(node.value, Value::Map(_)) => unknown,
        (signal, _) => {
            let what = if signal.is_some() { "has a `signal` and a `command`" } else { "says nothing" };
            broken(node, at, Broken::new(what).hint("give it one of `signal` and `command`"), report);
            unknown
        }
    }
}

/// What is sent so that something reads its configuration anew must reach it: these two the kernel takes
/// for itself.
pub(super) fn reloading_signal(signal: Signal) -> Rule {
    let what = match signal {
        Signal::KILL => "it would be ended",
        Signal::STOP => "it would be stopped, and nobody would let it go on",
        _ => return Ok(()),
    };
    Err(Broken::new(format!("cannot be `{signal}`: by that {what}"))
        .hint("name the signal on which it reads its configuration, such as `SIGHUP`"))
}

/// Where a hook's directory and variables come from.
pub(super) trait Surroundings<'a> {
    /// An absolute directory.
    fn directory(&mut self, node: &Node<'a>, at: &At<'_>) -> Option<String>;
    /// Variables with their values, those of the session included.
    fn variables(&mut self, node: &Node<'a>, at: &At<'_>) -> BTreeMap<String, String>;
}

/// Commands that are run beside the process.
pub(super) fn hooks<'a>(
    node: &Node<'a>,
    is_container: bool,
    at: &At<'_>,
    around: &mut impl Surroundings<'a>,
) -> Vec<Hook> {
    let Value::List(items) = node.value else { return Vec::new() };
    let mut found = Vec::with_capacity(items.len());
    for item in items.iter().filter(|item| !matches!(item.value, Value::Bad)) {
        let Some(command) = item.get("command").map(|node| words(node)) else { continue };
        let working_dir = item.get("working_dir");
        found.extend(command.map(|command| Hook {
            command,
            environment: around.variables(item, at),
            // Of a container it is inside of that.
            working_dir: working_dir.and_then(|node| match is_container {
                true => node.as_text().map(str::to_owned),
                false => around.directory(node, at),
            }),
            privileged: item.get("privileged").is_some_and(|node| is_set(node)),
            user: item.get("user").and_then(|node| node.as_text()).map(str::to_owned),
            timeout: item.get("timeout").and_then(|node| scalar::length(node.as_text()?).ok()),
        }));
    }
    found
}

/// A config or a secret that a service uses, before anybody looks for what is in it.
pub(super) struct Grant {
    pub(super) name: String,
    /// Where a container finds it.
    target: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: u32,
    from: From,
    /// Where the service asks for it.
    span: Span,
}

/// Where its content is.
enum From {
    /// In the file itself.
    Text(String),
    /// In a variable, by its value.
    Variable(String),
    /// In another file: its path, and where that is written.
    File(String, Span),
}

/// What a service uses of one kind: `configs` or `secrets`.
pub(super) fn grants(
    kind: &'static str,
    node: &Node<'_>,
    root: &Node<'_>,
    is_container: bool,
    at: &At<'_>,
    report: &mut Report<'_>,
) -> Vec<Grant> {
    let Value::List(items) = node.value else { return Vec::new() };
    let declared = root.get(kind);
    let mut found = Vec::new();
    for item in items {
        let Some(source) = item.get("source").and_then(|node| node.as_text()) else { continue };
        let Some(declaration) = declared.and_then(|declared| declared.get(source)) else {
            undeclared(kind, source, item.span, declared, at, report);
            continue;
        };
        if matches!(declaration.value, Value::Bad) {
            continue;
        }
        let place = match is_container {
            true => in_container(kind, source, item, at, report),
            false => of_process(source, item, at, report),
        };
        let Some((name, target)) = place else { continue };
        let text = |name: &str| item.get(name).and_then(|node| node.as_text());
        let mode = text("mode").and_then(|mode| scalar::mode(mode).ok());
        let default = match is_container {
            true => PrivateFile::default_container_mode(),
            false => PrivateFile::default_mode(),
        };
        let number = |name: &str| text(name).and_then(|text| text.parse().ok());
        found.extend(content(kind, source, declaration, report).map(|from| Grant {
            name,
            target,
            uid: number("uid"),
            gid: number("gid"),
            mode: mode.unwrap_or(default),
            from,
            span: item.span,
        }));
    }
    found
}

/// What a process finds it by.
fn of_process(
    source: &str,
    item: &Node<'_>,
    at: &At<'_>,
    report: &mut Report<'_>,
) -> Option<(String, Option<String>)> {
    for key in ["uid", "gid"] {
        if let Some(node) = item.get(key) {
            let rule = Broken::new(format!("has a `{key}`, and is for a process: it belongs to its `user`"));
            broken(node, at, rule.hint("take it out"), report);
        }
    }
    let target = item.get("target").and_then(|node| node.as_text()).unwrap_or(source);
    match rules::private_name(target) {
        Ok(()) => Some((target.to_owned(), None)),
        Err(rule) => {
            broken(item.get("target").unwrap_or(item), at, rule, report);
            None
        }
    }
}

/// What a container finds it by, and what it is called where it is kept.
fn in_container(
    kind: &str,
    source: &str,
    item: &Node<'_>,
    at: &At<'_>,
    report: &mut Report<'_>,
) -> Option<(String, Option<String>)> {
    for key in ["uid", "gid"] {
        if let Some(node) = item.get(key)
            && node.as_text().is_some_and(|text| text.parse::<u32>().is_err())
        {
            let text = shown(node.as_text().unwrap_or_default());
            let rule = Broken::new(format!("has a number that cannot be a user or group: `{text}`"));
            broken(node, at, rule.hint("write its number: names are inside of the image"), report);
        }
    }
    let (directory, name) = match kind {
        "configs" => ("/", format!("config.{source}")),
        _ => ("/run/secrets", format!("secret.{source}")),
    };
    let target = item.get("target").and_then(|node| node.as_text()).unwrap_or(source);
    let target = project::joined(directory, target);
    let rule = rules::private_name(&name).and_then(|()| rules::working_dir(&target));
    match rule {
        Ok(()) => Some((name, Some(target))),
        Err(rule) => {
            broken(item.get("target").unwrap_or(item), at, rule, report);
            None
        }
    }
}

/// Says that what is used is not declared.
pub(super) fn undeclared(
    kind: &str,
    name: &str,
    span: Span,
    declared: Option<&Node<'_>>,
    at: &At<'_>,
    report: &mut Report<'_>,
) {
    report.error(span, || {
        let names =
            declared.map(|node| node.entries()).unwrap_or_default().iter().map(|entry| entry.key.text);
        let hint = words::did_you_mean(name, names)
            .unwrap_or_else(|| format!("declare it under `{kind}` at the top of the file"));
        Problem::new(format!("`{at}` uses `{}`, which is not declared", shown(name))).hint(hint)
    });
}

/// Where the content of a declaration is: in one place of three.
fn content(kind: &str, name: &str, declaration: &Node<'_>, report: &mut Report<'_>) -> Option<From> {
    let text =
        |key: &str| declaration.get(key).and_then(|node| Some((node.as_text()?.to_owned(), node.span)));
    let places = [
        text("content").map(|(text, _)| From::Text(text)),
        text("environment").map(|(name, _)| From::Variable(name)),
        text("file").map(|(path, span)| From::File(path, span)),
    ];
    let mut places = places.into_iter().flatten();
    match (places.next(), places.next()) {
        (Some(place), None) => Some(place),
        (place, _) => {
            report.error(declaration.span, || {
                let what = if place.is_some() { "more than one content" } else { "no content" };
                Problem::new(format!("`{kind}.{}` has {what}", shown(name)))
                    .hint("give it one `file`, `environment` or `content`".to_owned())
            });
            None
        }
    }
}

impl Grant {
    /// What is in it. Errors: where, and why not.
    fn content(&self, context: &Context<'_>, report: &Report<'_>) -> Result<Vec<u8>, (Span, String)> {
        match &self.from {
            From::Text(text) => Ok(text.clone().into_bytes()),
            From::Variable(name) => {
                let value = report.sources.file(self.span.file).and_then(|file| file.variables.get(name));
                value.map(|value| value.into_owned().into_bytes()).ok_or_else(|| {
                    let name = shown(name);
                    (self.span, format!("needs the variable `{name}`, which is not set"))
                })
            }
            From::File(path, span) => context.resolver.read_bytes(path).map_err(|unread| {
                let why = match unread {
                    Unread::Missing => "which is not there".to_owned(),
                    Unread::Unreadable(why) => format!("which cannot be read: {}", shown(&why)),
                };
                (*span, format!("needs the file `{}`, {why}", shown(&context.resolver.shown(path))))
            }),
        }
    }
}

/// What a file of a container is called where it is kept: one that is used twice has two names.
fn own_name(name: &str, names: &mut HashSet<String>) -> String {
    let (mut own, mut number) = (name.to_owned(), 1);
    while !names.insert(own.clone()) {
        number += 1;
        own = format!("{name}.{number}");
    }
    own
}

/// What the configs, secrets and certificates of all services may have together, in bytes: each service has its own
/// copy of what many use.
pub(super) const FILES_BYTES_MAX: usize = 64 << 20;

/// The files of a service, with what is in them. `taken`: where a container has something already.
pub(super) fn files(
    service: &str,
    grants: &[Grant],
    taken: HashSet<String>,
    context: &Context<'_>,
    report: &mut Report<'_>,
) -> Vec<PrivateFile> {
    let mut found: Vec<PrivateFile> = Vec::new();
    let (mut names, mut targets, mut sum) = (HashSet::new(), taken, 0);
    for grant in grants {
        // What would be too much is not read as well.
        if sum > PrivateFile::SUM_MAX {
            break;
        }
        let is_new = match &grant.target {
            Some(target) => targets.insert(target.clone()),
            None => names.insert(grant.name.clone()),
        };
        if !is_new {
            report.error(grant.span, || {
                let (service, target) = (shown(service), grant.target.as_ref());
                let what = match target {
                    Some(target) => format!("mounts twice at `{}`", shown(target)),
                    None => format!("has two configs or secrets called `{}`", shown(&grant.name)),
                };
                Problem::new(format!("Service `{service}` {what}"))
                    .label("the second one")
                    .hint("give one of the two another `target`".to_owned())
            });
            continue;
        }
        let name =
            if grant.target.is_some() { own_name(&grant.name, &mut names) } else { grant.name.clone() };
        match grant.content(context, report) {
            Ok(content) => {
                sum += content.len();
                let content = Secret::new(content);
                let (target, (uid, gid), mode) = (grant.target.clone(), (grant.uid, grant.gid), grant.mode);
                found.push(PrivateFile { name, target, uid, gid, mode, content });
            }
            Err((span, why)) => {
                report.error(span, || Problem::new(format!("Service `{}` {why}", shown(service))))
            }
        }
    }
    if let (Err(rule), Some(first)) = (rules::private_files(&found), grants.first()) {
        report.error(first.span, || Problem::new(format!("Service `{}` {}", shown(service), rule.what)));
    }
    found
}

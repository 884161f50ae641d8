//! Reads one service. What it says about other services is judged later, in [`super::graph`].

use std::collections::{BTreeMap, HashSet};

use super::pattern::Patterns;
use super::read::{self, At, Pairs};
use super::report::{Problem, Report, Span, shown};
use super::rules::{self, Broken};
use super::tree::{Entry, Key, Node, Value};
use super::{Context, healthcheck, keys, project};
use crate::project::{Condition, Dependency, RestartPolicy, Service, Signal};

/// A service as far as it can be read alone.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) name_span: Span,
    /// Without its `depends_on`.
    pub(super) spec: Service,
    pub(super) edges: Vec<Edge>,
    /// Where scale is given, or the name.
    pub(super) scale_span: Span,
}

/// A dependency as it is written: its name may be nobody's.
pub(super) struct Edge {
    pub(super) target: String,
    pub(super) span: Span,
    pub(super) condition_span: Span,
    pub(super) dependency: Dependency,
}

/// Reads a service in the light of the project it stands in.
pub(super) struct Reader<'c> {
    pub(super) context: &'c Context<'c>,
    pub(super) patterns: Patterns,
}

impl Reader<'_> {
    pub(super) fn read(
        &mut self,
        key: &Key<'_>,
        node: &Node<'_>,
        at: &At<'_>,
        report: &mut Report<'_>,
    ) -> Draft {
        let mut draft = Draft {
            name: key.text.clone().into_owned(),
            name_span: key.span,
            spec: blank(self.context),
            edges: Vec::new(),
            scale_span: key.span,
        };
        let Some(entries) = read::mapping(node, at, report) else { return draft };
        for entry in entries {
            self.field(entry, &at.key(&entry.key), at, &mut draft, report);
        }
        // Said already where `image` or a misspelled `command` was refused.
        let said = |key: &str| matches!(key, "image" | "build") || keys::SERVICE.seems(key, &["command"]);
        if !entries.iter().any(|e| e.key.text == "command" || said(&e.key.text)) {
            report.error(key.span, || {
                Problem::new(format!("Service `{}` has no `command`", shown(&key.text))).hint(
                    "say what it runs, such as `command: [\"./bin/web\", \"--port\", \"8080\"]`".to_owned(),
                )
            });
        }
        draft
    }

    fn field(
        &mut self,
        entry: &Entry<'_>,
        at: &At<'_>,
        owner: &At<'_>,
        draft: &mut Draft,
        report: &mut Report<'_>,
    ) {
        let Entry { key, value } = entry;
        let spec = &mut draft.spec;
        match &*key.text {
            "command" => set(&mut spec.command, read::argv(value, at, report)),
            "depends_on" => draft.edges = dependencies(value, at, report),
            "environment" => spec.environment = self.environment(value, at, owner, report),
            "healthcheck" => spec.healthcheck = healthcheck::read(value, at, &mut self.patterns, report),
            "labels" => {
                let empty = |_: &str, _: Span, _: &mut Report<'_>| Some(String::new());
                spec.labels = Pairs { rule: rules::label, absent: &empty }.read(value, at, report);
            }
            "restart" => set(&mut spec.restart, restart(value, at, report)),
            "scale" => {
                draft.scale_span = value.span;
                let copies = read::whole(value, at, report)
                    .and_then(|n| read::check(value, at, rules::scale(n), report));
                set(&mut spec.scale, copies);
            }
            "stop_command" => spec.stop_command = read::argv(value, at, report),
            "stop_grace_period" => set(&mut spec.stop_grace_period, read::length(value, at, report)),
            "stop_signal" => set(&mut spec.stop_signal, signal(value, at, report)),
            "user" => {
                spec.user = read::text(value, at, report)
                    .filter(|text| read::check(value, at, rules::user(text), report).is_some())
                    .map(Into::into);
            }
            "working_dir" => set(&mut spec.working_dir, self.working_dir(value, at, report)),
            _ => read::unknown_key(key, owner, &keys::SERVICE, report),
        }
    }

    /// A variable without a value is taken from the person's session, where it is set.
    fn environment(
        &self,
        node: &Node<'_>,
        at: &At<'_>,
        owner: &At<'_>,
        report: &mut Report<'_>,
    ) -> BTreeMap<String, String> {
        let session = |name: &str, span: Span, report: &mut Report<'_>| {
            let value = (self.context.environment)(name);
            if value.is_none() {
                report.note(span, || {
                    let name = shown(name);
                    Problem::new(format!(
                        "`{name}` is not set in your session, so `{owner}` starts without it"
                    ))
                    .hint(format!("set it there, or give it a value here; `{name}=` is an empty one"))
                });
            }
            value
        };
        Pairs { rule: rules::variable, absent: &session }.read(node, at, report)
    }

    fn working_dir(&self, node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<String> {
        if matches!(&node.value, Value::Scalar(s) if s.plain && s.text == "~") {
            read::broken(node, at, no_tilde(), report);
            return None;
        }
        let text = read::text(node, at, report)?;
        if text.starts_with('~') {
            read::broken(node, at, no_tilde(), report);
            return None;
        }
        if text.is_empty() {
            let rule = Broken::new("is empty").hint("`.` is the project's directory");
            read::broken(node, at, rule, report);
            return None;
        }
        let path = project::joined(self.context.project_dir, &text);
        read::check(node, at, rules::working_dir(&path), report)?;
        Some(path)
    }
}

fn no_tilde() -> Broken {
    Broken::new("starts with `~`, which only a shell knows").hint("write the directory out")
}

fn blank(context: &Context<'_>) -> Service {
    Service {
        command: Vec::new(),
        environment: BTreeMap::new(),
        working_dir: project::joined(context.project_dir, "."),
        user: None,
        depends_on: BTreeMap::new(),
        healthcheck: None,
        restart: RestartPolicy::default(),
        stop_signal: Signal::default(),
        stop_grace_period: Service::default_grace(),
        stop_command: None,
        scale: Service::default_scale(),
        labels: BTreeMap::new(),
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn dependencies(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Vec<Edge> {
    let mut edges = Vec::new();
    match &node.value {
        Value::List(items) => {
            let mut seen = HashSet::new();
            read::each_item(items, at, report, |item, at, report| {
                let Some(target) = read::text(item, at, report) else { return };
                if !seen.insert(target.clone().into_owned()) {
                    report.error(item.span, || {
                        Problem::new(format!("Duplicate dependency `{}`", shown(&target)))
                            .label("the second one")
                            .hint("keep one of the two".to_owned())
                    });
                    return;
                }
                edges.push(Edge {
                    target: target.into_owned(),
                    span: item.span,
                    condition_span: item.span,
                    dependency: Dependency::default(),
                });
            });
        }
        Value::Map(entries) => {
            edges.extend(entries.iter().map(|entry| dependency(entry, &at.key(&entry.key), report)));
        }
        Value::Scalar(_) => read::wrong_type(node, at, "a list of services, or a mapping", report),
    }
    edges
}

fn dependency(entry: &Entry<'_>, at: &At<'_>, report: &mut Report<'_>) -> Edge {
    let span = entry.key.span;
    let target = entry.key.text.clone().into_owned();
    let mut edge = Edge { target, span, condition_span: span, dependency: Dependency::default() };
    let Some(entries) = read::mapping(&entry.value, at, report) else { return edge };
    for Entry { key, value } in entries {
        let inner = at.key(key);
        let dependency = &mut edge.dependency;
        match &*key.text {
            "condition" => {
                edge.condition_span = value.span;
                set(&mut dependency.condition, condition(value, &inner, report));
            }
            "required" => set(&mut dependency.required, read::flag(value, &inner, report)),
            "restart" => set(&mut dependency.restart, read::flag(value, &inner, report)),
            _ => read::unknown_key(key, at, &keys::DEPENDENCY, report),
        }
    }
    edge
}

fn condition(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<Condition> {
    const ALL: [Condition; 3] = [Condition::Started, Condition::Healthy, Condition::CompletedSuccessfully];
    let text = read::text(node, at, report)?;
    let known = ALL.map(|c| c.to_string());
    if let Some(found) = ALL.into_iter().zip(&known).find(|(_, word)| **word == *text) {
        return Some(found.0);
    }
    let words = [&*known[0], &*known[1], &*known[2]];
    let hint =
        keys::did_you_mean(&text, words).unwrap_or_else(|| format!("write one of {}", keys::quoted(&words)));
    let rule = Broken::new(format!("is not a condition: `{}`", shown(&text))).hint(hint);
    read::broken(node, at, rule, report);
    None
}

fn restart(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<RestartPolicy> {
    const WORDS: [&str; 4] = ["no", "always", "on-failure", "unless-stopped"];
    let text = read::text(node, at, report)?;
    let refuse = |what: String, hint: String| Err(Broken::new(what).hint(hint));
    let policy = match &*text {
        "no" => Ok(RestartPolicy::No),
        "always" => Ok(RestartPolicy::Always),
        "unless-stopped" => Ok(RestartPolicy::UnlessStopped),
        "on-failure" => Ok(RestartPolicy::OnFailure { max: None }),
        "false" => refuse("is not a restart policy: `false`".to_owned(), "did you mean `no`?".to_owned()),
        "true" => refuse("is not a restart policy: `true`".to_owned(), "did you mean `always`?".to_owned()),
        other => match other.strip_prefix("on-failure:").map(str::parse::<u32>) {
            Some(Ok(max)) if max > 0 => Ok(RestartPolicy::OnFailure { max: Some(max) }),
            Some(_) => refuse(
                format!(
                    "must have a number of at least 1 behind the `:`, not `{}`",
                    shown(other.rsplit(':').next().unwrap_or_default())
                ),
                "write `on-failure:5`, or `on-failure` for no bound".to_owned(),
            ),
            None => refuse(
                format!("is not a restart policy: `{}`", shown(other)),
                keys::did_you_mean(other, WORDS)
                    .unwrap_or_else(|| format!("write one of {}, `on-failure:5`", keys::quoted(&WORDS))),
            ),
        },
    };
    read::check(node, at, policy, report)
}

fn signal(node: &Node<'_>, at: &At<'_>, report: &mut Report<'_>) -> Option<Signal> {
    let text = read::text(node, at, report)?;
    let found = Signal::parse(&text).ok_or_else(|| {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let hint = match keys::nearest(bare, Signal::names()) {
            Some(name) => format!("did you mean `SIG{name}`?"),
            None => "write its name or its number, such as `SIGINT` or `2`".to_owned(),
        };
        Broken::new(format!("is not a signal: `{}`", shown(&text))).hint(hint)
    });
    read::check(node, at, found, report)
}

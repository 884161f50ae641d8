//! Reads one service. What it says about other services is judged later, in [`super::graph`].

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::rc::Rc;

use super::dotenv::Format;
use super::edges::{self, Edge};
use super::place::{File, Span};
use super::probes::Authority;
use super::process::{self, Grant};
use super::read::{At, broken, each_item};
use super::report::{Problem, Report, shown};
use super::rules::{self, Broken};
use super::shape::{Keys, Shape, Support, Verdict};
use super::tree::{Entry, Key, Node, Value};
use super::variables::Variables;
use super::{Context, Unread, compose, container, external, grammar, project, scalar};
use crate::ids::{AppName, ProbeName};
use crate::project::{LogRotation, RestartPolicy, Service, Signal};

/// A service as far as it can be read alone.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) name_span: Span,
    /// Where it says that it is a container, if it does.
    pub(super) container: Option<Span>,
    /// Without its `depends_on` and its files.
    pub(super) spec: Service,
    pub(super) edges: Vec<Edge>,
    /// Its configs and secrets.
    pub(super) grants: Vec<Grant>,
    /// Where its probes are written.
    pub(super) probe_spans: BTreeMap<ProbeName, Span>,
    /// Certificates that its probes believe, before anybody has read them.
    pub(super) authorities: Vec<Authority>,
    /// Where scale is given, or the name.
    pub(super) scale_span: Span,
}

/// Reads services in the light of the project they stand in.
pub(super) struct Reader<'c, 'r, 'a> {
    pub(super) context: &'c Context<'c>,
    pub(super) report: &'r mut Report<'a>,
    /// The whole tree, for what services use of it.
    pub(super) root: &'c Node<'a>,
    /// Files of variables that were read: many services may name one.
    pub(super) files: HashMap<EnvFile<'a>, Option<Rc<BTreeMap<String, String>>>>,
    /// What services have so far.
    pub(super) sum: Sum,
    /// The app they become.
    pub(super) app: &'c AppName,
}

/// The variables of services together.
#[derive(Default)]
pub(super) struct Sum {
    variables: usize,
    bytes: usize,
}

/// A file of variables: where it is, how it is read, and what fills it in.
type EnvFile<'a> = (String, Format, *const Variables<'a>);

/// How many variables all services may have together: some times what 10,000 services of a hundred
/// each have.
const VARIABLES_MAX: usize = 2_000_000;

/// How many bytes these may have with their names: some times 10 KB for each of 10,000 services.
const VARIABLES_BYTES_MAX: usize = 256 << 20;

impl<'a> Reader<'_, '_, 'a> {
    /// `None`: what is wrong with it was said.
    pub(super) fn read(&mut self, key: &Key<'a>, node: &Node<'a>, at: &At<'_>) -> Option<Draft> {
        let Value::Map(entries) = node.value else { return None };
        let find = |name: &str| entries.iter().find(|entry| entry.key.text == name);
        let container = find("image").or_else(|| find("build")).map(|entry| entry.key.span);
        let dir = if container.is_some() { self.context.project_dir } else { self.dir_of(key.span) };
        let dir = project::joined(dir, ".");
        let mut draft = Draft {
            name: key.text.to_owned(),
            name_span: key.span,
            container,
            spec: Service::new(Vec::new(), dir),
            grants: Vec::new(),
            probe_spans: BTreeMap::new(),
            authorities: Vec::new(),
            edges: Vec::new(),
            scale_span: key.span,
        };
        self.judge(entries, &grammar::SERVICE, container.is_some(), at);
        for entry in entries {
            self.field(entry, node, &at.key(&entry.key), at, &mut draft);
        }
        draft.spec.environment = self.environment(node, at);
        draft.spec.labels = self.labels(node, at);
        if self.count(&draft.spec.environment, key.span).is_break() {
            draft.spec.environment.clear();
        }
        draft.spec.resources = process::resources(node, at, self.report);
        if container.is_none() {
            self.command(node, at, &mut draft);
            self.judge_command(node, key, at, &draft);
        } else {
            let (services, active) = (self.root.get("services"), self.context.profiles);
            let runs = |name: &str| {
                let service = services.and_then(|services| services.get(name));
                service.is_some_and(|service| project::is_enabled(&project::profiles_of(service), active))
            };
            container::edges(node, runs, at, &mut draft, self.report);
            // What is not known yet cannot be judged.
            if self.context.interpolate {
                self.container(node, key, at, &mut draft);
            }
        }
        self.judge_probes(node, at, &draft);
        self.judge_end(node, at, &draft);
        Some(draft)
    }

    /// What is too much is not kept. At most one error: the sum belongs to nobody.
    fn count(&mut self, variables: &BTreeMap<String, String>, span: Span) -> ControlFlow<()> {
        let is_over = |sum: &Sum| sum.variables > VARIABLES_MAX || sum.bytes > VARIABLES_BYTES_MAX;
        let was_over = is_over(&self.sum);
        self.sum.variables += variables.len();
        self.sum.bytes += variables.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if !is_over(&self.sum) {
            return ControlFlow::Continue(());
        }
        if !was_over {
            self.report.error(span, || {
                let bytes = VARIABLES_BYTES_MAX >> 20;
                let what = format!("{VARIABLES_MAX} variables, or {bytes} MB of them");
                Problem::new(format!("All services together have more than {what}"))
                    .label("the limit is passed here")
            });
        }
        ControlFlow::Break(())
    }

    /// Refuses what this kind of service does not obey.
    fn judge(&mut self, entries: &[Entry<'a>], keys: &'static Keys, is_container: bool, at: &At<'_>) {
        for Entry { key, value } in entries {
            let Some(known) = keys.find(key.text) else { continue };
            let at = at.key(key);
            let (support, others, this) = match (known.verdict, is_container) {
                (Verdict::Honoured { containers, .. }, true) => {
                    (Some(containers), "processes", "a container")
                }
                (Verdict::Honoured { processes, .. }, false) => (Some(processes), "containers", "a process"),
                _ => (None, "", ""),
            };
            match support {
                Some(Support::No(hint)) => {
                    self.report.error(key.span, || {
                        Problem::new(format!("`{at}` is for {others}, and this service is {this}"))
                            .hint(hint.to_owned())
                    });
                }
                _ => self.judge_below(value, &known.shape, is_container, &at),
            }
        }
    }

    /// The same of the keys that stand below a value, in lists and mappings.
    fn judge_below(&mut self, node: &Node<'a>, shape: &'static Shape, is_container: bool, at: &At<'_>) {
        match (shape, node.value) {
            (Shape::Optional(shape), _) => self.judge_below(node, shape, is_container, at),
            (Shape::Map(keys), Value::Map(entries)) => self.judge(entries, keys, is_container, at),
            (Shape::Short(short), Value::Map(entries)) => self.judge(entries, short.long, is_container, at),
            (Shape::List(items) | Shape::Items(items), Value::List(list)) => {
                each_item(list, at, |item, at| self.judge_below(item, &items.each, is_container, at));
            }
            (Shape::Named(named) | Shape::Names(named), Value::Map(entries)) => {
                for Entry { key, value } in entries {
                    self.judge_below(value, &named.each, is_container, &at.key(key));
                }
            }
            _ => {}
        }
    }

    fn field(
        &mut self,
        entry: &Entry<'a>,
        service: &Node<'a>,
        at: &At<'_>,
        owner: &At<'_>,
        draft: &mut Draft,
    ) {
        let Entry { key, value } = entry;
        let spec = &mut draft.spec;
        let text = value.as_text();
        match key.text {
            "log" => spec.log = log(value),
            "depends_on" => draft.edges = edges::read(value, at, self.report),
            "deploy" => self.deploy(value, owner, draft),
            "healthcheck" => self.healthcheck(value, at, draft),
            "probes" => self.probes(value, at, draft),
            "attach" => spec.attach = is_set(value),
            "exit_on_end" => spec.exit_on_end = is_set(value),
            "update_lock" => spec.update_lock = is_set(value),
            "external" => spec.external = is_set(value),
            "group_add" => spec.group_add = words(value).unwrap_or_default(),
            "init" | "labels" | "label_file" => {}
            "oom_score_adj" => spec.oom_score_adj = text.and_then(|text| text.parse().ok()),
            "pre_start" => spec.pre_start = process::hooks(value, draft.container.is_some(), at, self),
            "post_start" => spec.post_start = process::hooks(value, draft.container.is_some(), at, self),
            "pre_stop" => spec.pre_stop = process::hooks(value, draft.container.is_some(), at, self),
            "post_stop" => spec.post_stop = process::hooks(value, draft.container.is_some(), at, self),
            "reload" => spec.reload = process::reload(value, at, self.report),
            kind @ ("configs" | "secrets") => {
                let kind = if kind == "configs" { "configs" } else { "secrets" };
                let is_container = draft.container.is_some();
                draft.grants.extend(process::grants(kind, value, self.root, is_container, at, self.report));
            }
            "stdin_open" => spec.stdin_open = is_set(value),
            "success_exit_codes" => {
                let codes = words(value).unwrap_or_default();
                spec.success_exit_codes = codes.iter().filter_map(|code| code.parse().ok()).collect();
            }
            "tty" => spec.tty = is_set(value),
            "ulimits" => {
                process::judge_ulimits(value, at, self.report);
                spec.ulimits = process::ulimits(value);
            }
            "restart" => {
                let policy = service.get("deploy").and_then(|node| node.get("restart_policy"));
                self.restart(value, policy, at, draft);
            }
            "scale" => self.scale(value, owner, draft),
            "stop_command" => spec.stop_command = words(value),
            "stop_grace_period" => {
                set(&mut spec.stop_grace_period, text.and_then(|text| scalar::length(text).ok()));
            }
            "stop_signal" => set(&mut spec.stop_signal, text.and_then(Signal::parse)),
            "user" => spec.user = text.map(str::to_owned),
            "working_dir" if draft.container.is_none() => {
                set(&mut spec.working_dir, self.working_dir(value, at));
            }
            _ => {}
        }
    }

    /// What is run: the words of `entrypoint` and then those of `command`, or a shell with its line.
    fn command(&mut self, service: &Node<'a>, at: &At<'_>, draft: &mut Draft) {
        let shell = service.get("shell").filter(|node| node.as_text() != Some("false"));
        let (entrypoint, command) = (service.get("entrypoint"), service.get("command"));
        let of = |node: Option<&Node<'a>>| node.and_then(words).unwrap_or_default();
        let Some(shell) = shell else {
            draft.spec.command = [of(entrypoint), of(command)].concat();
            return;
        };
        let line = command.and_then(|node| node.as_text());
        let program = match shell.as_text() {
            Some("true") => Some(vec!["/bin/sh".to_owned(), "-c".to_owned()]),
            text => text.and_then(|text| shell_words::split(text).ok()),
        };
        match (program, line) {
            (Some(program), Some(line)) if entrypoint.is_none() => {
                draft.spec.command = [program, vec![line.to_owned()]].concat();
            }
            // Said already.
            _ if matches!(shell.value, Value::Bad) => {}
            _ if command.is_some_and(|node| matches!(node.value, Value::Bad)) => {}
            _ => self.report.error(shell.span, || {
                Problem::new(format!("`{at}.shell` needs a `command` that is text, and no `entrypoint`"))
                    .hint("write the command as one line, or take `shell` out".to_owned())
            }),
        }
    }

    /// A process has no image that could say what it runs.
    fn judge_command(&mut self, service: &Node<'a>, key: &Key<'a>, at: &At<'_>, draft: &Draft) {
        let find = |name: &str| service.entries().iter().find(|entry| entry.key.text == name);
        let runs = |name: &str| find(name).filter(|entry| !entry.value.is_null());
        let Some(written) = runs("command").or_else(|| runs("entrypoint")) else {
            self.report.error(key.span, || {
                Problem::new(format!("Service `{}` has no `command`", shown(key.text))).hint(
                    "say what it runs, such as `command: [\"./bin/web\", \"--port\", \"8080\"]`".to_owned(),
                )
            });
            return;
        };
        let is_empty = match written.value.value {
            Value::List(items) => items.is_empty(),
            Value::Scalar(scalar) => scalar.text.is_empty(),
            Value::Map(_) | Value::Bad => false,
        };
        if let Some(line) = written.value.as_text()
            && draft.spec.command.is_empty()
            && shell_words::split(line).is_err()
        {
            // It was a line for a shell, and a file that goes over it says that there is none.
            broken(
                written.value,
                &at.key(&written.key),
                Broken::new("has a quote that is not closed"),
                self.report,
            );
        }
        let has_shell = service.get("shell").is_some_and(|node| node.as_text() != Some("false"));
        if is_empty && (draft.spec.command.is_empty() || has_shell) {
            broken(written.value, &at.key(&written.key), rules::no_program(), self.report);
        }
    }

    fn deploy(&mut self, node: &Node<'a>, owner: &At<'_>, draft: &mut Draft) {
        if let Some(replicas) = node.get("replicas") {
            self.scale(replicas, owner, draft);
        }
        if let Some(policy) = node.get("restart_policy").filter(|node| matches!(node.value, Value::Map(_))) {
            process::restart_policy(policy, &mut draft.spec);
        }
    }

    /// What is said of an end that is not here, or never comes.
    fn judge_end(&mut self, service: &Node<'a>, at: &At<'_>, draft: &Draft) {
        if draft.spec.external && draft.container.is_none() && self.context.interpolate {
            external::judge(service, at, draft, self.report);
        }
        let is_endless = matches!(draft.spec.restart, RestartPolicy::Always | RestartPolicy::UnlessStopped);
        let exits = service.entries().iter().find(|entry| entry.key.text == "exit_on_end");
        if let Some(entry) = exits.filter(|_| draft.spec.exit_on_end && is_endless) {
            self.report.note(entry.key.span, || {
                Problem::new(format!(
                    "`{at}.exit_on_end` waits for an end that is always followed by a start"
                ))
                .hint("use `restart: on-failure`, or no `restart`".to_owned())
            });
        }
    }

    /// `deploy.restart_policy` says more than `restart`, so it counts where both are given.
    fn restart(&mut self, node: &Node<'a>, policy: Option<&Node<'a>>, at: &At<'_>, draft: &mut Draft) {
        if policy.is_some() {
            self.report.note(node.span, || {
                Problem::new(format!("`{at}` has no effect beside `deploy.restart_policy`"))
                    .hint("keep one of the two".to_owned())
            });
            return;
        }
        set(&mut draft.spec.restart, node.as_text().and_then(|text| rules::restart_policy(text).ok()));
    }

    /// Of files first, then of `labels`.
    fn labels(&mut self, service: &Node<'a>, at: &At<'_>) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let files = service.get("label_file").filter(|_| self.context.interpolate);
        if let Some(Value::List(files)) = files.map(|node| node.value) {
            for file in files {
                if let Some(path) = file.as_text() {
                    let missed = Some("write it, or take it out");
                    self.variable_file(path, file.span, Format::Compose, missed, &mut found);
                }
            }
        }
        for (name, value) in &found {
            if let Err(rule) = rules::label(name, value) {
                let span = service.get("label_file").map_or(service.span, |node| node.span);
                self.report.error(span, || Problem::new(format!("`{at}.label_file` {}", rule.what)));
            }
        }
        let own = service.get("labels").map(|node| pairs(node));
        found.extend(own.into_iter().flatten().filter_map(|(name, text)| Some((name, text?))));
        found
    }

    /// `scale` and `deploy.replicas` are two words for one thing.
    fn scale(&mut self, node: &Node<'a>, owner: &At<'_>, draft: &mut Draft) {
        let Some(copies) = node.as_text().and_then(|text| text.parse::<u32>().ok()) else { return };
        let is_said = draft.scale_span != draft.name_span;
        if is_said && draft.spec.scale != copies {
            let before = draft.spec.scale;
            self.report.error(node.span, || {
                Problem::new(format!("`{owner}` is to have {before} and {copies} copies"))
                    .label("the second number")
                    .hint("keep one of `scale` and `deploy.replicas`".to_owned())
            });
        }
        draft.scale_span = node.span;
        draft.spec.scale = copies;
    }

    /// Of files first, then of `environment`. A variable without a value is taken from the person's
    /// session, where it is set.
    fn environment(&mut self, service: &Node<'a>, at: &At<'_>) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        // Where variables are not filled in, paths are not known.
        let files = service.get("env_file").filter(|_| self.context.interpolate);
        if let Some(Value::List(files)) = files.map(|node| node.value) {
            for file in files {
                self.env_file(file, &mut found);
            }
        }
        self.own_environment(service, at, &mut found);
        found
    }

    /// Of `environment` alone.
    fn own_environment(&mut self, owner: &Node<'a>, at: &At<'_>, found: &mut BTreeMap<String, String>) {
        let Some(node) = owner.get("environment") else { return };
        for Entry { key, value } in node.entries() {
            let name = key.text.to_owned();
            match value.value {
                Value::Scalar(scalar) if !value.is_null() => drop(found.insert(name, scalar.text.to_owned())),
                Value::Scalar(_) => self.asked(name, key.span, at, found),
                _ => {}
            }
        }
    }

    fn asked(&mut self, name: String, span: Span, at: &At<'_>, found: &mut BTreeMap<String, String>) {
        let value = self
            .report
            .sources
            .file(span.file)
            .and_then(|file| file.variables.get(&name))
            .map(Cow::into_owned);
        match value {
            Some(value) => drop(found.insert(name, value)),
            None if found.contains_key(&name) => {}
            None => self.report.note(span, || {
                let name = shown(&name);
                Problem::new(format!("`{name}` is not set in your session, so `{at}` starts without it"))
                    .hint(format!("set it there, or give it a value here; `{name}=` is an empty one"))
            }),
        }
    }

    fn env_file(&mut self, node: &Node<'a>, found: &mut BTreeMap<String, String>) {
        let Some((path, span)) = node.get("path").and_then(|n| Some((n.as_text()?, n.span))) else { return };
        let is_required = node.get("required").is_none_or(|node| is_set(node));
        let format = match node.get("format") {
            Some(_) => Format::Raw,
            None => Format::Compose,
        };
        let missed = is_required.then_some("write it, or give it `required: false`");
        self.variable_file(path, span, format, missed, found);
    }

    /// Takes what a file of names and values says. `missed`: what to do where there is no such file;
    /// nothing, where it may be so.
    fn variable_file(
        &mut self,
        path: &str,
        span: Span,
        format: Format,
        missed: Option<&'static str>,
        found: &mut BTreeMap<String, String>,
    ) {
        let Some(variables) = self.report.sources.file(span.file).map(|file| Rc::clone(&file.variables))
        else {
            return;
        };
        let file: EnvFile<'a> = (path.to_owned(), format, Rc::as_ptr(&variables));
        if self.report.sources.refusal().is_some() {
            return;
        }
        if !self.files.contains_key(&file) {
            let read = match self.context.resolver.read(path) {
                Ok(text) => self.variables_of(path, text, span, format).map(Rc::new),
                // Whoever needs it says so.
                Err(Unread::Missing) => None,
                Err(Unread::Unreadable(why)) => {
                    let name = self.context.resolver.shown(path);
                    self.report.error(span, || {
                        Problem::new(format!("The file `{}` cannot be read: {}", shown(&name), shown(&why)))
                    });
                    Some(Rc::default())
                }
            };
            self.files.insert(file.clone(), read);
        }
        match self.files.get(&file).cloned().flatten() {
            Some(read) => found.extend(read.iter().map(|(name, value)| (name.clone(), value.clone()))),
            None => {
                let Some(hint) = missed else { return };
                let name = self.context.resolver.shown(path);
                self.report.error(span, || {
                    Problem::new(format!("There is no file `{}`", shown(&name))).hint(hint.to_owned())
                });
            }
        }
    }

    /// Reads a file of variables. What is wrong with it is said there; then it has none.
    fn variables_of(
        &mut self,
        path: &str,
        text: String,
        span: Span,
        format: Format,
    ) -> Option<BTreeMap<String, String>> {
        let from = self.report.sources.file(span.file)?;
        let (name, variables) = (self.context.resolver.shown(path), Rc::clone(&from.variables));
        let via = self.report.sources.add_step(span, "read".to_owned());
        let text = self.report.arena().text(text);
        let file = File { name, text, dir: project::parent(path), variables: variables.clone(), via };
        let Some(file) = self.report.sources.add(file) else {
            let refusal = self.report.sources.refusal().unwrap_or_default().to_owned();
            self.report.error(span, || Problem::new(refusal));
            return Some(BTreeMap::new());
        };
        let found = compose::variables_in(file, format, &variables, self.report).unwrap_or_default();
        let known = found.into_iter().filter_map(|(name, value)| {
            let value = value.or_else(|| Some(variables.get(&name)?.into_owned()))?;
            Some((name, value))
        });
        Some(known.collect())
    }

    /// What relative paths start from there.
    pub(super) fn dir_of(&self, span: Span) -> &str {
        self.report.sources.file(span.file).map_or("/", |file| &file.dir)
    }

    fn working_dir(&mut self, node: &Node<'a>, at: &At<'_>) -> Option<String> {
        let text = node.as_text()?;
        let rule = if text.starts_with('~') {
            Err(Broken::new("starts with `~`, which only a shell knows").hint("write the directory out"))
        } else if !self.context.interpolate && text.contains('$') {
            return Some(text.to_owned());
        } else if text.is_empty() {
            Err(Broken::new("is empty").hint("`.` is the project's directory"))
        } else {
            let path = project::joined(self.dir_of(node.span), text);
            rules::working_dir(&path).map(|()| path)
        };
        match rule {
            Ok(path) => Some(path),
            Err(rule) => {
                broken(node, at, rule, self.report);
                None
            }
        }
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

impl<'a> process::Surroundings<'a> for Reader<'_, '_, 'a> {
    fn directory(&mut self, node: &Node<'a>, at: &At<'_>) -> Option<String> {
        self.working_dir(node, at)
    }

    fn variables(&mut self, node: &Node<'a>, at: &At<'_>) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        self.own_environment(node, at, &mut found);
        found
    }
}

/// A flag that is there and true.
pub(super) fn is_set(node: &Node<'_>) -> bool {
    node.as_text().is_some_and(|text| scalar::flag(text).unwrap_or(false))
}

/// When a process' log is rotated.
fn log(node: &Node<'_>) -> Option<LogRotation> {
    let text = |name: &str| node.get(name).and_then(|node| node.as_text());
    let default = LogRotation::default();
    Some(LogRotation {
        max_size: text("max_size").and_then(|t| scalar::bytes(t).ok()).unwrap_or(default.max_size),
        max_files: text("max_files").and_then(|t| t.parse().ok()).unwrap_or(default.max_files),
    })
}

/// The words of a list, or of a line without a shell; `None` when it was refused.
pub(super) fn words(node: &Node<'_>) -> Option<Vec<String>> {
    match node.value {
        Value::Scalar(scalar) if !node.is_null() => shell_words::split(scalar.text).ok(),
        Value::List(items) => items.iter().map(|item| item.as_text().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Names, and the texts of those that have one.
fn pairs<'a>(node: &Node<'a>) -> impl Iterator<Item = (String, Option<String>)> + use<'a> {
    let pair = |entry: &Entry<'a>| (entry.key.text.to_owned(), entry.value.as_text().map(str::to_owned));
    node.entries().iter().map(pair)
}

//! Services that run elsewhere: what it takes to know of them, and what has no sense for them.

use super::read::At;
use super::report::{Problem, Report};
use super::rules::Broken;
use super::service::Draft;
use super::tree::Node;
use crate::ids::ProbeName;
use crate::project::{Reaction, Reload, Service, Signal};

/// Keys that say nothing of what runs elsewhere, and why.
const SENSELESS: [(&str, &str); 14] = [
    ("configs", "its files are gone when the command that starts it has ended"),
    ("cpus", "its limits are those of where it runs"),
    ("exit_on_end", "its end is not seen, only what its probes say"),
    ("update_lock", "what runs elsewhere is interrupted by its `stop_command`, which can ask it"),
    ("mem_limit", "its limits are those of where it runs"),
    ("mem_reservation", "its limits are those of where it runs"),
    ("oom_score_adj", "its limits are those of where it runs"),
    ("pids_limit", "its limits are those of where it runs"),
    ("secrets", "its files are gone when the command that starts it has ended"),
    ("stdin_open", "nothing is read from here where it runs"),
    ("stop_signal", "there is no process here to be sent one: `stop_command` stops it"),
    ("tty", "nothing is printed here where it runs"),
    ("ulimits", "its limits are those of where it runs"),
    ("deploy.resources", "its limits are those of where it runs"),
];

/// What a rule is about.
enum Of {
    Service,
    Probe(ProbeName),
    Remedy(ProbeName),
    Reload,
}

impl Of {
    /// Where that is, below the service.
    fn path(&self) -> String {
        match self {
            Self::Service => String::new(),
            Self::Probe(name) => format!(".probes.{name}"),
            Self::Remedy(name) => format!(".probes.{name}.on_failure"),
            Self::Reload => ".reload".to_owned(),
        }
    }
}

/// What an external service has to have, and what nothing can be sent to or asked of.
fn rules(service: &Service) -> Vec<(Of, Broken)> {
    const OUTSIDE: &str = "`http`, `tcp`, `udp`, `grpc`, `unix`, `exec` or `file`";
    const NO_PROCESS: &str = "sends a signal, and of an external service no process is known";
    let mut found = Vec::new();
    if service.stop_command.is_none() {
        let rule = Broken::new("is external and has no `stop_command`");
        found.push((
            Of::Service,
            rule.hint("say how it is stopped, such as `stop_command: systemctl stop web`"),
        ));
    }
    if service.probes.values().all(|probe| probe.ask.is_of_processes()) {
        let rule = Broken::new("is external and has no probe that could say whether it is there");
        found.push((Of::Service, rule.hint(format!("give it one with {OUTSIDE}"))));
    }
    for (name, probe) in &service.probes {
        if probe.ask.is_of_processes() {
            let rule = Broken::new(format!(
                "asks `{}`, and of an external service no process is known",
                probe.ask.key()
            ));
            found.push((Of::Probe(name.clone()), rule.hint(format!("ask {OUTSIDE}"))));
        }
        if let Some(Reaction::Signal(_)) = probe.on_failure.as_ref().map(|remedy| &remedy.action) {
            found.push((Of::Remedy(name.clone()), Broken::new(NO_PROCESS).hint("use `action: exec`")));
        }
    }
    if let Some(Reload::Signal(_)) = service.reload {
        found.push((Of::Reload, Broken::new(NO_PROCESS).hint("give it a `command`")));
    }
    found
}

/// Judges a service of a file that says that it is external.
pub(super) fn judge(node: &Node<'_>, at: &At<'_>, draft: &Draft, report: &mut Report<'_>) {
    let entry = |name: &str| node.entries().iter().find(|entry| entry.key.text == name);
    let key = |name: &str| entry(name).map_or(draft.name_span, |entry| entry.key.span);
    for (path, why) in SENSELESS {
        let (name, below) = path.split_once('.').unwrap_or((path, ""));
        let given = entry(name).filter(|entry| entry.value.as_text() != Some("false"));
        let given = given.filter(|entry| below.is_empty() || entry.value.get(below).is_some());
        if let Some(entry) = given {
            report.error(entry.key.span, || {
                Problem::new(format!("`{at}.{path}` means nothing for an external service"))
                    .hint(format!("take it out: {why}"))
            });
        }
    }
    for (of, rule) in rules(&draft.spec) {
        let span = |name: &ProbeName| draft.probe_spans.get(name).copied().unwrap_or(draft.name_span);
        let span = match &of {
            Of::Service => key("external"),
            Of::Probe(name) | Of::Remedy(name) => span(name),
            Of::Reload => key("reload"),
        };
        report.error(span, || Problem::new(format!("`{at}{}` {}", of.path(), rule.what)).hint(rule.hint));
    }
}

/// The same of a service from the wire: where below it, and what is wrong.
pub(super) fn broken(service: &Service) -> Vec<(String, Broken)> {
    let says = |path: &str| match path {
        "configs" => !service.files.is_empty(),
        "cpus" => !service.resources.is_unlimited(),
        "exit_on_end" => service.exit_on_end,
        "update_lock" => service.update_lock,
        "oom_score_adj" => service.oom_score_adj.is_some(),
        "stdin_open" => service.stdin_open,
        "stop_signal" => service.stop_signal != Signal::default(),
        "tty" => service.tty,
        "ulimits" => !service.ulimits.is_empty(),
        // Said by another of them.
        _ => false,
    };
    let senseless = SENSELESS.into_iter().filter(|(path, _)| says(path)).map(|(path, why)| {
        let rule = Broken::new("means nothing for an external service");
        (format!(".{path}"), rule.hint(format!("take it out: {why}")))
    });
    let others = rules(service).into_iter().map(|(of, rule)| (of.path(), rule));
    senseless.chain(others).collect()
}

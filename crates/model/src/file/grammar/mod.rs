//! Every key there is, with its shape and its verdict. The one table: what is checked, merged,
//! documented and offered to editors all comes from here.
//!
//! Source: the Compose Specification and its JSON Schema; what is ours besides is marked so.

mod build;
mod deploy;
mod probe;
mod resources;
mod service;
mod template;

pub(super) use probe::{ACTIONS, CONDITION};
pub(super) use service::SERVICE;

use super::shape::{Alone, any_name};
use super::shape::{Default, Items, Key, Keys, Merge, Named, Pairs, Same, Shape, Support, Verdict, leaf};
use super::{rules, templates, words};

/// A key of Compose.
const fn key(name: &'static str, shape: Shape, verdict: Verdict) -> Key {
    Key { name, shape, verdict, merge: Merge::Deep, ours: false, default: Default::None }
}

/// A key within a mapping that is judged as a whole.
const fn sub(name: &'static str, shape: Shape) -> Key {
    key(name, shape, Verdict::AsAbove)
}

/// Obeyed by processes and containers.
const BOTH: Verdict = Verdict::Honoured { processes: Support::Yes, containers: Support::Yes };

/// Obeyed by processes; a container has no use for it.
const fn process(hint: &'static str) -> Verdict {
    Verdict::Honoured { processes: Support::Yes, containers: Support::No(hint) }
}

/// Obeyed by containers; what a process' author does instead.
const fn container(hint: &'static str) -> Verdict {
    Verdict::Honoured { processes: Support::No(hint), containers: Support::Yes }
}

/// Obeyed by containers of an engine that is new enough.
const fn engine(api: &'static str, hint: &'static str) -> Verdict {
    Verdict::Honoured { processes: Support::No(hint), containers: Support::Api(api) }
}

const TEXT: Shape = Shape::Leaf(&leaf::TEXT);
const PATH: Shape = Shape::Leaf(&leaf::PATH);
const FLAG: Shape = Shape::Leaf(&leaf::FLAG);
const WHOLE: Shape = Shape::Leaf(&leaf::WHOLE);
const NUMBER: Shape = Shape::Leaf(&leaf::NUMBER);
const LENGTH: Shape = Shape::Leaf(&leaf::LENGTH);
const BYTES: Shape = Shape::Leaf(&leaf::BYTES);

static TEXT_ITEMS: Items = Items { wanted: "a list of texts", each: TEXT, same: Same::Whole };
static PATH_ITEMS: Items = Items { wanted: "a list of paths", each: PATH, same: Same::Whole };
static TEXT_PAIRS: Pairs = Pairs { rule: rules::label, alone: Alone::Empty };
static LABEL_PAIRS: Pairs = Pairs { rule: rules::label, alone: Alone::Empty };
static VARIABLE_PAIRS: Pairs = Pairs { rule: rules::variable, alone: Alone::Asked };
static OPTIONS_MAP: Named = Named { wanted: "a mapping of texts", each: TEXT, name: any_name, alone: None };

/// A list of texts.
const TEXTS: Shape = Shape::List(&TEXT_ITEMS);
/// A text, or a list of them.
const TEXT_OR_TEXTS: Shape = Shape::Items(&TEXT_ITEMS);
const LABELS: Shape = Shape::Pairs(&LABEL_PAIRS);
const PAIRS: Shape = Shape::Pairs(&TEXT_PAIRS);
const VARIABLES: Shape = Shape::Pairs(&VARIABLE_PAIRS);
/// Options of a driver.
const OPTIONS: Shape = Shape::Named(&OPTIONS_MAP);

static SERVICES: Named = Named {
    wanted: "a mapping of services",
    each: Shape::Map(&SERVICE),
    name: rules::service_name,
    alone: Some(templates::AT),
};
static TEMPLATES: Named = Named {
    wanted: "a mapping of templates",
    each: Shape::Map(&template::TEMPLATE),
    name: rules::template_name,
    alone: None,
};
static NETWORKS: Named = Named {
    wanted: "a mapping of networks",
    each: Shape::Optional(&Shape::Map(&resources::NETWORK)),
    name: rules::resource_name,
    alone: None,
};
static VOLUMES: Named = Named {
    wanted: "a mapping of volumes",
    each: Shape::Optional(&Shape::Map(&resources::VOLUME)),
    name: rules::resource_name,
    alone: None,
};
static CONFIGS: Named = Named {
    wanted: "a mapping of configs",
    each: Shape::Map(&resources::CONFIG),
    name: rules::resource_name,
    alone: None,
};
static SECRETS: Named = Named {
    wanted: "a mapping of secrets",
    each: Shape::Map(&resources::SECRET),
    name: rules::resource_name,
    alone: None,
};
static INCLUDES: Items =
    Items { wanted: "a list of files", each: Shape::Short(&resources::INCLUDE_SHORT), same: Same::Never };

/// The top of a file.
pub(super) static FILE: Keys = Keys {
    owner: "a project file",
    keys: &[
        key("configs", Shape::Named(&CONFIGS), BOTH),
        key("include", Shape::List(&INCLUDES), BOTH).merged(Merge::Replace),
        key("models", Shape::Free, Verdict::Refused("run the model as a service of its own")),
        key("name", TEXT, BOTH),
        key("networks", Shape::Named(&NETWORKS), container("processes share this machine's network")),
        key("secrets", Shape::Named(&SECRETS), BOTH),
        key("services", Shape::Named(&SERVICES), BOTH),
        key("templates", Shape::Named(&TEMPLATES), BOTH).ours(),
        key("version", Shape::Free, Verdict::Inert("Compose gave it up too")),
        key("volumes", Shape::Named(&VOLUMES), container("processes see this machine's files")),
    ],
};

/// Keys people write in the wrong mapping: where a key of `owner` that it has not would belong.
pub(super) fn misplaced(owner: &Keys, key: &str) -> Option<&'static str> {
    if owner.owner == FILE.owner && SERVICE.find(key).is_some() {
        return Some("it belongs in a service, under `services`");
    }
    if let Some((.., hint)) = ELSEWHERE.iter().find(|(of, word, _)| *of == owner.owner && *word == key) {
        return Some(hint);
    }
    if owner.owner == SERVICE.owner && probe::HEALTHCHECK.find(key).is_some() {
        return Some("it belongs under `healthcheck`");
    }
    if owner.owner == SERVICE.owner && probe::PROBE.find(key).is_some() {
        return Some("it belongs to a probe, under `probes`");
    }
    if owner.owner == probe::HEALTHCHECK.owner && probe::PROBE.find(key).is_some() {
        return Some("a probe under `probes` has it: a health check is the one called `readiness`");
    }
    None
}

/// Words of other tools for keys of ours.
const ALIASES: [(&str, &str); 27] = [
    ("cmd", "command"),
    ("cwd", "working_dir"),
    ("dir", "working_dir"),
    ("env", "environment"),
    ("failureThreshold", "failure_threshold"),
    ("failure_threshold", "retries"),
    ("grpc_probe", "grpc"),
    ("httpGet", "http"),
    ("http_get", "http"),
    ("initialDelaySeconds", "initial_delay"),
    ("initial_delay_seconds", "initial_delay"),
    ("is_tty", "tty"),
    ("periodSeconds", "interval"),
    ("period_seconds", "interval"),
    ("retries", "failure_threshold"),
    ("status_code", "status"),
    ("successThreshold", "success_threshold"),
    ("tcpSocket", "tcp"),
    ("tcp_socket", "tcp"),
    ("timeoutSeconds", "timeout"),
    ("timeout_seconds", "timeout"),
    ("working_directory", "working_dir"),
    ("health_check", "healthcheck"),
    ("instances", "scale"),
    ("needs", "depends_on"),
    ("replicas", "scale"),
    ("requires", "depends_on"),
];

/// Words of other tools for what is said in another way here: the mapping, the word, what to do.
const ELSEWHERE: [(&str, &str, &str); 16] = [
    ("a service", "readiness_probe", "write it as `probes: { readiness: { … } }`"),
    ("a service", "readinessProbe", "write it as `probes: { readiness: { … } }`"),
    ("a service", "liveness_probe", "write it as `probes: { liveness: { … } }`"),
    ("a service", "livenessProbe", "write it as `probes: { liveness: { … } }`"),
    ("a service", "startup_probe", "write it as `probes: { startup: { … } }`"),
    ("a service", "startupProbe", "write it as `probes: { startup: { … } }`"),
    ("a service", "ready_log_line", "write it as `probes: { readiness: { log: … } }`"),
    ("a service", "is_daemon", "write `external: true`, with a `stop_command` and a probe"),
    ("a service", "availability", "use `restart`, `deploy.restart_policy` or `exit_on_end`"),
    ("a service", "shutdown", "use `stop_command`, `stop_signal` and `stop_grace_period`"),
    ("a probe", "start_period", "use `initial_delay`, or a probe called `startup`"),
    ("a probe", "start_interval", "give it to a probe called `startup`, as its `interval`"),
    ("a probe", "test", "use `exec`"),
    ("a request over HTTP", "host", "it is part of the `url`"),
    ("a request over HTTP", "path", "it is part of the `url`"),
    ("a request over HTTP", "port", "it is part of the `url`"),
];

/// What to do about a key that is not there.
pub(super) fn hint(owner: &'static Keys, key: &str) -> String {
    if let Some((_, name)) = alias(owner, key) {
        return format!("did you mean `{name}`?");
    }
    match misplaced(owner, key) {
        Some(hint) => hint.to_owned(),
        None => words::did_you_mean(key, owner.names()).unwrap_or_else(|| match owner.keys.len() {
            0..=LISTED_MAX => {
                let names: Vec<&str> = owner.names().collect();
                format!("{} has {}", owner.owner, words::quoted(&names))
            }
            _ => "`docs/compose.md` lists every key".to_owned(),
        }),
    }
}

fn alias(owner: &Keys, key: &str) -> Option<&'static (&'static str, &'static str)> {
    ALIASES.iter().find(|(word, name)| *word == key && owner.find(name).is_some())
}

/// More keys than these are not listed in a hint.
const LISTED_MAX: usize = 15;

//! What is asked of a service, what follows from a no, and what others wait for.

use super::super::shape::{
    Check, Default, Items, Keys, Kind, Leaf, Merge, Named, Same, Shape, Short, Signed, leaf,
};
use super::super::{questions, rules, short};
use super::{FLAG, LENGTH, key, process, sub};
use crate::project::{Probe, Remedy};

/// A rhythm: any length of time but none.
pub(super) const RHYTHM: Shape = Shape::Leaf(&leaf::RHYTHM);
const PATTERN: Shape = Shape::Leaf(&leaf::PATTERN);
/// A path that may differ from copy to copy.
const PLACE: Shape = Shape::Leaf(&leaf::PLACE);
const COUNT: Shape = Shape::Leaf(&Leaf::whole(1, i64::MAX));
const THRESHOLD: Shape = Shape::Leaf(&Leaf::whole(1, Probe::THRESHOLD_MAX as i64));
const ADDRESS: Shape = Shape::Leaf(&Leaf::rule("text", rules::tcp));

/// What a container shares with nobody.
const INSIDE: &str = "what a container has there is inside of it: use `exec`";

/// The questions a probe and a health check may ask, and then the keys of its own.
macro_rules! asking {
    ($($own:expr),* $(,)?) => {
        &[
            sub("cpu", Shape::Leaf(&Leaf::whole(1, questions::CPU_MAX as i64))).ours(),
            key("descriptors", COUNT, process("use `ulimits`")).ours(),
            sub("exec", Shape::Argv).merged(Merge::Replace).ours(),
            key("file", Shape::Short(&FILE_SHORT), process(INSIDE)).ours(),
            sub("grpc", Shape::Short(&GRPC_SHORT)).ours(),
            sub("http", Shape::Short(&HTTP_SHORT)).ours(),
            sub("log", PATTERN).ours(),
            sub("memory", Shape::Leaf(&Leaf::rule("a size such as `64m`", questions::memory_text))).ours(),
            key("notify", FLAG, process("a container is given no socket to say so: use `log` or `exec`")).ours(),
            sub("on_failure", Shape::Short(&REMEDY_SHORT)).merged(Merge::Replace).ours(),
            sub("prints_within", RHYTHM).ours(),
            sub("tcp", ADDRESS).ours(),
            sub("udp", Shape::Map(&UDP)).ours(),
            key("unix", PLACE, process(INSIDE)).ours(),
            key("watchdog", RHYTHM, process("a container is given no socket to say so: use `exec`")).ours(),
            $($own,)*
        ]
    };
}

/// Compose's: its own keys, and our questions.
pub(in super::super) static HEALTHCHECK: Keys = Keys {
    owner: "a health check",
    keys: asking![
        sub("disable", FLAG),
        sub("interval", RHYTHM),
        sub("retries", Shape::Leaf(&Leaf::number("a whole number", rules::retries_text))),
        sub("start_interval", RHYTHM),
        sub("start_period", LENGTH),
        sub("test", Shape::Test).merged(Merge::Replace),
        sub("timeout", RHYTHM),
    ],
};

pub(in super::super) static PROBE: Keys = Keys {
    owner: "a probe",
    keys: asking![
        sub("failure_threshold", THRESHOLD).ours(),
        sub("initial_delay", LENGTH).ours(),
        sub("interval", RHYTHM).ours(),
        sub("success_threshold", THRESHOLD).ours(),
        sub("timeout", RHYTHM).ours(),
    ],
};
pub(super) static PROBES: Named = Named {
    wanted: "a mapping of probes",
    each: Shape::Map(&PROBE),
    name: questions::probe_name,
    alone: None,
};

static HTTP: Keys = Keys {
    owner: "a request over HTTP",
    keys: &[
        sub("body", PATTERN).ours(),
        sub("headers", Shape::Named(&HEADERS)).ours(),
        sub("method", Shape::Leaf(&Leaf::rule("text", questions::method))).ours(),
        sub("status", Shape::Items(&STATUSES)).merged(Merge::Replace).ours(),
        sub("tls", Shape::Map(&TLS)).ours(),
        sub("url", Shape::Leaf(&Leaf::rule("text", rules::http))).needed().ours(),
    ],
};
static HTTP_SHORT: Short = Short { wanted: "a URL or a mapping", read: short::http, long: &HTTP };
static HEADERS: Named = Named {
    wanted: "a mapping of headers",
    each: Shape::Leaf(&Leaf::rule("text", questions::header_value)),
    name: questions::header_name,
    alone: None,
};
static STATUSES: Items = Items {
    wanted: "a status, or a list of them",
    each: Shape::Leaf(&Leaf::rule("a status such as `200` or `200-299`", questions::status_text)),
    same: Same::Whole,
};

static TLS: Keys = Keys {
    owner: "what is asked of TLS",
    keys: &[
        sub("ca_file", Shape::Leaf(&leaf::PATH)).ours(),
        sub("insecure", FLAG).ours(),
        sub("server_name", Shape::Leaf(&Leaf::rule("text", questions::server_name))).ours(),
    ],
};

static UDP: Keys = Keys {
    owner: "a datagram",
    keys: &[
        sub("address", ADDRESS).needed().ours(),
        sub("expect", PATTERN).ours(),
        sub("send", Shape::Leaf(&Leaf::rule("text", questions::datagram))).ours(),
    ],
};

static GRPC: Keys = Keys {
    owner: "a question of gRPC",
    keys: &[
        sub("address", ADDRESS).needed().ours(),
        sub("service", Shape::Leaf(&Leaf::rule("text", questions::grpc_service))).ours(),
        sub("tls", Shape::Map(&TLS)).ours(),
    ],
};
static GRPC_SHORT: Short = Short { wanted: "an address or a mapping", read: short::grpc, long: &GRPC };

static FILE: Keys = Keys {
    owner: "a file that is looked for",
    keys: &[sub("max_age", RHYTHM).ours(), sub("path", PLACE).needed().ours()],
};
static FILE_SHORT: Short = Short { wanted: "a path or a mapping", read: short::path, long: &FILE };

pub(in super::super) const ACTIONS: &[&str] = &["exec", "ignore", "restart", "signal", "stop"];

static REMEDY: Keys = Keys {
    owner: "what follows from a no",
    keys: &[
        sub("action", Shape::Leaf(&Leaf::words("an action", ACTIONS))).needed().ours(),
        sub("command", Shape::Argv).ours(),
        sub("max_attempts", Shape::Leaf(&Leaf::whole(1, Remedy::ATTEMPTS_MAX as i64))).ours(),
        sub("signal", Shape::Leaf(&leaf::SIGNAL)).ours(),
        sub("window", RHYTHM).ours(),
    ],
};
static REMEDY_SHORT: Short = Short { wanted: "an action or a mapping", read: short::action, long: &REMEDY };

static RELOAD: Keys = Keys {
    owner: "a reload",
    keys: &[sub("command", Shape::Argv).ours(), sub("signal", Shape::Leaf(&leaf::SIGNAL)).ours()],
};
pub(super) static RELOAD_SHORT: Short =
    Short { wanted: "a signal or a mapping", read: short::reload, long: &RELOAD };

pub(in super::super) static CONDITION: Signed = Signed {
    words: &[
        "service_started",
        "service_healthy",
        "service_completed_successfully",
        "service_completed",
        "service_failed",
        "service_ready",
        "port_open",
        "log_ready",
    ],
    of_compose: 3,
    sign: crate::project::Condition::PROBE,
    rule: questions::condition,
};

pub(in super::super) static DEPENDENCY: Keys = Keys {
    owner: "a dependency",
    keys: &[
        sub("condition", Shape::Leaf(&Leaf::new("a condition", Kind::Text, Check::Signed(&CONDITION))))
            .default(Default::OfName("service_started")),
        sub("on_failure", Shape::Leaf(&Leaf::words("a reaction", &["continue", "fail", "wait"]))).ours(),
        sub("on_restart", Shape::Leaf(&Leaf::words("a reaction", &["ignore", "reload", "restart", "stop"])))
            .ours(),
        sub("pattern", PATTERN).ours(),
        sub("port", Shape::Leaf(&Leaf::rule("a port, or `host:port`", questions::port))).ours(),
        sub("required", FLAG).default(Default::OfName("true")),
        sub("restart", FLAG),
        sub("timeout", RHYTHM).ours(),
    ],
};

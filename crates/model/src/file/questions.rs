//! The rules of probes: of what they ask, of what follows from a no, and of who can be asked at all.
//! They hold for a file as for a project from the wire.

use std::collections::{BTreeMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::grammar;
use super::pattern::Patterns;
use super::report::shown;
use super::rules::{self, Broken, Rule};
use super::shape::one_of;
use super::{scalar, words};
use crate::ids::ProbeName;
use crate::project::{Condition, Http, Probe, Question, Reaction, Reload, Remedy, Service, Tls, Udp};
use crate::time::Millis;
use crate::withheld::WITHHELD;

/// The most that all CPUs of a machine can be used, in hundredths of one: Linux knows 8192 of them.
pub(super) const CPU_MAX: u32 = 8192 * 100;

/// The longest header and the longest name of a service, in bytes: what servers take without being told.
const HEADER_MAX: usize = 8 << 10;
const SERVICE_MAX: usize = 255;

/// The longest method, in bytes: longer than any there is.
const METHOD_MAX: usize = 32;

/// The longest path of a socket Linux takes, in bytes, less the NUL at the end.
const SOCKET_MAX: usize = 107;

/// What all certificates of a service may have together, in bytes.
pub(super) const AUTHORITIES_MAX: usize = 4 * Tls::CA_MAX;

/// Headers that are not a probe's to choose, and why.
const HEADERS_TAKEN: [(&str, &str); 8] = [
    ("connection", "connections are kept and closed by whoever asks"),
    ("content-length", "a probe sends no body"),
    ("expect", "a probe sends no body"),
    ("host", "it is the host of the URL"),
    ("te", "connections are kept and closed by whoever asks"),
    ("trailer", "a probe sends no body"),
    ("transfer-encoding", "a probe sends no body"),
    ("upgrade", "connections are kept and closed by whoever asks"),
];

pub(super) fn probe_name(name: &str) -> Rule {
    let bad = |why: &'static str| Broken::new(format!("has a bad name: `{}`", shown(name))).hint(why);
    ProbeName::new(name).map(drop).map_err(|error| bad(error.why()))
}

/// What is made of letters, digits and some signs: RFC 9110, `token`.
fn is_token(text: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_part)
}

pub(super) fn method(text: &str) -> Rule {
    if !is_token(text) || text.len() > METHOD_MAX {
        return Err(Broken::new(format!("is not a method: `{}`", shown(text)))
            .hint("write one such as `GET`, `HEAD` or `POST`"));
    }
    if text.bytes().any(|b| b.is_ascii_lowercase()) {
        let upper = text.to_ascii_uppercase();
        return Err(
            Broken::new(format!("is not a method: `{text}`")).hint(format!("did you mean `{upper}`?"))
        );
    }
    if text == "CONNECT" {
        return Err(Broken::new("is `CONNECT`, which asks for no answer but a tunnel").hint("write `GET`"));
    }
    Ok(())
}

pub(super) fn header_name(name: &str) -> Rule {
    if !is_token(name) || name.len() > HEADER_MAX {
        return Err(Broken::new(format!("has a header with a bad name: `{}`", shown(name)))
            .hint("a name has letters, digits and `-`"));
    }
    let lower = name.to_ascii_lowercase();
    match HEADERS_TAKEN.iter().find(|(taken, _)| *taken == lower) {
        Some((_, why)) => Err(Broken::new(format!("has the header `{name}`, which is not to be chosen"))
            .hint(format!("take it out: {why}"))),
        None => Ok(()),
    }
}

pub(super) fn header_value(text: &str) -> Rule {
    if !text.bytes().all(|b| b == b'\t' || b == b' ' || b.is_ascii_graphic()) {
        return Err(Broken::new("has a character that no header has").hint("write visible ASCII"));
    }
    if text == WITHHELD {
        return Err(Broken::new(format!("has a header whose value is `{WITHHELD}`")).hint(rules::NOT_SHOWN));
    }
    if text.len() > HEADER_MAX {
        return Err(Broken::new(format!("is longer than {HEADER_MAX} bytes")));
    }
    Ok(())
}

fn headers(headers: &BTreeMap<String, String>) -> Rule {
    if headers.len() > Http::LIST_MAX {
        return Err(Broken::new(format!(
            "has {} headers, and {} are the most",
            headers.len(),
            Http::LIST_MAX
        )));
    }
    let mut seen = HashSet::new();
    match headers.keys().find(|name| !seen.insert(name.to_ascii_lowercase())) {
        Some(name) => Err(Broken::new(format!("has the header `{}` twice", shown(name)))
            .hint("keep one of the two: small and large letters are one")),
        None => Ok(()),
    }
}

/// `200`, `200-299`: the first and the last.
pub(super) fn status(text: &str) -> Result<(u16, u16), Broken> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| {
        let is_three = part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u16>().ok().filter(|_| is_three)
    };
    let (Some(first), Some(last)) = (number(first), number(last)) else {
        return Err(Broken::new(format!("is not a status: `{}`", shown(text)))
            .hint("write one such as `200`, or a range such as `200-299`"));
    };
    statuses(&[(first, last)]).map(|()| (first, last))
}

pub(super) fn status_text(text: &str) -> Rule {
    status(text).map(drop)
}

fn statuses(statuses: &[(u16, u16)]) -> Rule {
    if statuses.len() > Http::LIST_MAX {
        let (count, most) = (statuses.len(), Http::LIST_MAX);
        return Err(Broken::new(format!("has {count} statuses and ranges, and {most} are the most")));
    }
    let is_good = |(first, last): &(u16, u16)| (100..=599).contains(first) && (*first..=599).contains(last);
    match statuses.iter().find(|range| !is_good(range)) {
        Some((first, last)) if first > last => {
            Err(Broken::new(format!("has a range that ends before it begins: `{first}-{last}`")))
        }
        Some((first, last)) => {
            let status = if (100..=599).contains(first) { last } else { first };
            Err(Broken::new(format!("must have a status from 100 to 599, not {status}")))
        }
        None => Ok(()),
    }
}

pub(super) fn server_name(text: &str) -> Rule {
    match text.contains(':') && rules::address(text).is_ok() {
        true => Ok(()),
        false => rules::host(text),
    }
}

pub(super) fn grpc_service(text: &str) -> Rule {
    if text.len() > SERVICE_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Broken::new(format!("is not a service of gRPC: `{}`", shown(text)))
            .hint("write its full name, such as `shop.Orders`"));
    }
    Ok(())
}

pub(super) fn datagram(text: &str) -> Rule {
    if text == WITHHELD {
        return Err(Broken::new(format!("is `{WITHHELD}`")).hint(rules::NOT_SHOWN));
    }
    match text.len() > Udp::SEND_MAX {
        true => Err(Broken::new(format!("is longer than {} bytes", Udp::SEND_MAX))
            .hint("every network takes so much in one piece")),
        false => Ok(()),
    }
}

pub(super) fn memory_text(text: &str) -> Rule {
    at_least_one(scalar::bytes(text)?)
}

fn at_least_one(number: u64) -> Rule {
    if number == 0 { Err(Broken::new("must be at least 1, not 0")) } else { Ok(()) }
}

/// A socket: an absolute path, and not too long for the kernel.
pub(super) fn socket(path: &str) -> Rule {
    rules::working_dir(path)?;
    match path.len() > SOCKET_MAX {
        true => Err(Broken::new(format!("is a path of more than {SOCKET_MAX} bytes"))
            .hint("Linux knows no socket with a longer one")),
        false => Ok(()),
    }
}

/// `6379`, or `10.0.0.1:6379`.
pub(super) fn port(text: &str) -> Rule {
    match text.contains(':') {
        true => rules::tcp(text),
        false => rules::port_is_good(text),
    }
}

/// What must hold of a dependency.
pub(super) fn condition(text: &str) -> Rule {
    let known = grammar::CONDITION.words;
    if let Some(name) = text.strip_prefix(Condition::PROBE) {
        return probe_name(name);
    }
    // As process-compose has them.
    let ours = text.strip_prefix("process_").map(|rest| [format!("service_{rest}"), rest.to_owned()]);
    if let Some(ours) = ours.into_iter().flatten().find(|word| known.contains(&word.as_str())) {
        return Err(
            Broken::new(format!("is not a condition: `{text}`")).hint(format!("did you mean `{ours}`?"))
        );
    }
    one_of(text, "a condition", known).map_err(|rule| match words::nearest(text, known.iter().copied()) {
        Some(_) => rule,
        None => Broken::new(rule.what).hint(format!(
            "write one of {}, `{}NAME`",
            words::quoted(known),
            Condition::PROBE
        )),
    })
}

/// Certificates, as text.
pub(super) fn certificates(text: &str) -> Rule {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    if text.len() > Tls::CA_MAX {
        return Err(Broken::new(format!("is larger than {} MiB", Tls::CA_MAX >> 20)));
    }
    // It is shown to whoever looks at the project.
    if text.contains("PRIVATE KEY-----") {
        return Err(Broken::new("has a private key").hint("name a file with certificates alone"));
    }
    let none = || Broken::new("has no certificate").hint("certificates are wanted as PEM");
    let mut rest = text;
    let mut count = 0;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let Some((body, after)) = after.split_once(END) else { return Err(none()) };
        let body: String = body.split_ascii_whitespace().collect();
        // Each is a sequence, in DER.
        let is_one = STANDARD.decode(body).is_ok_and(|bytes| bytes.first() == Some(&0x30));
        if !is_one {
            return Err(Broken::new("has a certificate that is damaged").hint("get it anew"));
        }
        (rest, count) = (after, count + 1);
    }
    if count == 0 { Err(none()) } else { Ok(()) }
}

/// What the fields of a question say together. Errors: the field, below the key of the question.
pub(super) fn together(ask: &Question) -> Result<(), (&'static str, Broken)> {
    let tls = |tls: &Tls| match tls.insecure && tls.ca.is_some() {
        true => Err(("tls.ca_file", believes_all())),
        false => Ok(()),
    };
    match ask {
        Question::Http(http) => {
            headers(&http.headers).map_err(|rule| ("headers", rule))?;
            statuses(&http.status).map_err(|rule| ("status", rule))?;
            if http.method == "HEAD" && http.body.is_some() {
                let rule = Broken::new("is looked for in the answer to `HEAD`, which has none");
                return Err(("body", rule.hint("write `method: GET`")));
            }
            if !http.tls.is_default() && http.url.starts_with("http://") {
                return Err(("tls", is_plain()));
            }
            tls(&http.tls)
        }
        Question::Grpc(grpc) => grpc.tls.as_ref().map_or(Ok(()), tls),
        _ => Ok(()),
    }
}

pub(super) fn believes_all() -> Broken {
    Broken::new("has no effect beside `insecure: true`").hint("keep one of the two")
}

pub(super) fn is_plain() -> Broken {
    Broken::new("is for `https://`, and the URL starts with `http://`")
        .hint("take it out, or ask over `https://`")
}

/// Judges a probe from the wire. `rule` takes a key and whether it is kept.
pub(super) fn probe(probe: &Probe, patterns: &mut Patterns, rule: &mut dyn FnMut(&str, Rule)) {
    let mut pattern = |text: &str| patterns.check(text).map_err(|(broken, _)| broken);
    match &probe.ask {
        Question::Http(http) => {
            rule("http", rules::http(&http.url));
            rule("http.method", method(&http.method));
            for (name, value) in &http.headers {
                rule("http.headers", header_name(name).and_then(|()| header_value(value)));
            }
            http.body.iter().for_each(|body| rule("http.body", pattern(body)));
        }
        Question::Tcp(address) => rule("tcp", rules::tcp(address)),
        Question::Udp(udp) => {
            rule("udp.address", rules::tcp(&udp.address));
            rule("udp.send", datagram(&udp.send));
            udp.expect.iter().for_each(|expect| rule("udp.expect", pattern(expect)));
        }
        Question::Grpc(grpc) => {
            rule("grpc.address", rules::tcp(&grpc.address));
            rule("grpc.service", grpc_service(&grpc.service));
        }
        Question::Unix(path) => rule("unix", socket(path)),
        Question::Exec(command) => rule("exec", rules::argv(command)),
        Question::File(file) => {
            rule("file.path", rules::working_dir(&file.path));
            file.max_age.iter().for_each(|age| rule("file.max_age", rules::positive_length(*age)));
        }
        Question::Log(text) => rule("log", pattern(text)),
        Question::Notify | Question::Image => {}
        Question::Watchdog(every) => rule("watchdog", rules::positive_length(*every)),
        Question::Prints(within) => rule("prints_within", rules::positive_length(*within)),
        Question::Memory(bytes) => rule("memory", at_least_one(*bytes)),
        Question::Descriptors(count) => rule("descriptors", at_least_one(*count)),
        Question::Cpu(percent) => rule("cpu", cpu(*percent)),
    }
    if let Some(tls) = probe.ask.tls() {
        let mut rule = |field: &str, kept| rule(&format!("{}.tls.{field}", probe.ask.key()), kept);
        tls.server_name.iter().for_each(|name| rule("server_name", server_name(name)));
        tls.ca.iter().for_each(|ca| rule("ca", certificates(ca)));
    }
    if let Err((field, broken)) = together(&probe.ask) {
        rule(&format!("{}.{field}", probe.ask.key()), Err(broken));
    }
    rhythm(probe, rule);
    if let Some(remedy) = &probe.on_failure {
        rule("on_failure", self::remedy(remedy));
    }
}

fn cpu(percent: u32) -> Rule {
    match (1..=CPU_MAX).contains(&percent) {
        true => Ok(()),
        false => Err(Broken::new(format!("must be from 1 to {CPU_MAX}, not {percent}"))),
    }
}

/// What nobody who is told would obey: keys of a probe, and why each of them has no effect.
pub(super) const OF_WHO_ASKS: [(&str, &str); 2] =
    [("timeout", "no answer is waited for"), ("success_threshold", "what is said once is a yes")];

/// A key of a probe that is told, and not asked.
pub(super) fn is_told(ask: &Question, why: &str) -> Broken {
    Broken::new(format!("has no effect beside `{}`: that is not asked but told, and {why}", ask.key()))
        .hint("take it out")
}

fn rhythm(probe: &Probe, rule: &mut dyn FnMut(&str, Rule)) {
    rule("initial_delay", rules::length(probe.initial_delay));
    rule("interval", rules::positive_length(probe.interval));
    rule("timeout", rules::positive_length(probe.timeout));
    rule("start_interval", rules::positive_length(probe.start_interval));
    rule("start_period", rules::length(probe.start_period));
    // Compose's `retries` may be any number.
    rule("failure_threshold", rules::retries(u64::from(probe.failure_threshold)).map(drop));
    rule(
        "success_threshold",
        match (1..=Probe::THRESHOLD_MAX).contains(&probe.success_threshold) {
            // A time-out is there always: whether somebody has written it, only a file tells.
            true if probe.success_threshold > 1 && probe.ask.is_told() => {
                Err(is_told(&probe.ask, OF_WHO_ASKS[1].1))
            }
            true => Ok(()),
            false => {
                let (most, given) = (Probe::THRESHOLD_MAX, probe.success_threshold);
                Err(Broken::new(format!("must be from 1 to {most}, not {given}")))
            }
        },
    );
}

fn remedy(remedy: &Remedy) -> Rule {
    match &remedy.action {
        Reaction::Signal(signal) => rules::signal(signal.0)?,
        Reaction::Exec(command) => rules::argv(command)?,
        Reaction::Ignore | Reaction::Restart | Reaction::Stop => {}
    }
    if !(1..=Remedy::ATTEMPTS_MAX).contains(&remedy.max_attempts) {
        let (most, given) = (Remedy::ATTEMPTS_MAX, remedy.max_attempts);
        return Err(Broken::new(format!("has `max_attempts` that must be from 1 to {most}, not {given}")));
    }
    rules::positive_length(remedy.window)
}

pub(super) fn reload(reload: &Reload) -> Rule {
    match reload {
        Reload::Signal(signal) => rules::signal(signal.0),
        Reload::Exec(command) => rules::argv(command),
    }
}

/// A probe, and a key of it.
pub(super) type Place = (ProbeName, Option<&'static str>);

/// As in a file, below the service; of no probe: of all.
pub(super) fn path(place: Option<&Place>) -> String {
    match place {
        None => "probes".to_owned(),
        Some((probe, None)) => format!("probes.{probe}"),
        Some((probe, Some(key))) => format!("probes.{probe}.{key}"),
    }
}

/// What the probes of a service say together. Errors: the probe, where it is one's, with a key of it, where
/// it is that; and what is wrong.
pub(super) fn of_service(service: &Service) -> Vec<(Option<Place>, Broken)> {
    let mut found = Vec::new();
    if service.probes.len() > Probe::COUNT_MAX {
        found.push((None, too_many(service.probes.len())));
    }
    for (is_it, key) in [
        (is_notify as fn(&Question) -> bool, "notify"),
        (|ask| matches!(ask, Question::Watchdog(_)), "watchdog"),
    ] {
        let mut asking = service.probes.iter().filter(|(_, probe)| is_it(&probe.ask));
        if let (Some((first, _)), Some((second, _))) = (asking.next(), asking.next()) {
            let what = format!("asks for `{key}`, and so does `{first}`: a service says it for all");
            found.push((Some((second.clone(), None)), Broken::new(what).hint("keep one of the two")));
        }
    }
    if let Some((name, _)) = service.probes.iter().find(|(_, probe)| is_notify(&probe.ask)) {
        let is_idle =
            |probe: &Probe| matches!(probe.ask, Question::Watchdog(_)) && probe.initial_delay > Millis(0);
        for (watchdog, _) in service.probes.iter().filter(|(_, probe)| is_idle(probe)) {
            let what = format!("has no effect: the watchdog begins with `READY=1`, for which `{name}` waits");
            let place = (watchdog.clone(), Some("initial_delay"));
            found.push((Some(place), Broken::new(what).hint("take it out")));
        }
    }
    let has_images = service.container.as_ref().is_some_and(|container| container.image_check);
    if let Some((name, _)) =
        service.probes.iter().find(|(_, probe)| probe.ask == Question::Image && !has_images)
    {
        let what = "asks for the health check of an image, and this has none, or another";
        found.push((Some((name.clone(), None)), Broken::new(what)));
    }
    let sizes = service.probes.values().filter_map(|probe| Some(probe.ask.tls()?.ca.as_ref()?.len()));
    if sizes.sum::<usize>() > AUTHORITIES_MAX {
        let most = AUTHORITIES_MAX >> 20;
        found.push((None, Broken::new(format!("have certificates of more than {most} MiB together"))));
    }
    found
}

fn is_notify(ask: &Question) -> bool {
    matches!(ask, Question::Notify)
}

pub(super) fn too_many(count: usize) -> Broken {
    Broken::new(format!("has {count} probes, and {} are the most", Probe::COUNT_MAX))
}

//! Short forms: one text that stands for a mapping.

use super::report::shown;
use super::rules::{self, Broken};
use super::shape::{self, Fields};

/// As many ports as one line may stand for.
const PORTS_MAX: usize = 1000;

/// `[[address:]published:]target[/protocol]`, each port perhaps a range.
pub(super) fn port(text: &str) -> Result<Vec<Fields>, Broken> {
    let shape = |why: String| Broken::new(why).hint("write `[address:][published:]target[/protocol]`");
    let (rest, protocol) = match text.rsplit_once('/') {
        Some((rest, protocol)) => (rest, Some(protocol)),
        None => (text, None),
    };
    let (rest, target) = match rest.rsplit_once(':') {
        Some((rest, target)) => (Some(rest), target),
        None => (None, rest),
    };
    let (host, published) = match rest.map(|rest| rest.rsplit_once(':')) {
        None => (None, None),
        Some(None) => (None, rest),
        Some(Some((host, published))) => (Some(host), Some(published)),
    };
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let host = host.filter(|host| !host.is_empty()).map(bare);
    if let Some(host) = &host {
        rules::address(host)?;
    }
    let published = published.filter(|published| !published.is_empty());
    let (first, last) = rules::ports(target)?;
    if first == 0 {
        return Err(shape("has no target port: `0`".to_owned()));
    }
    let count = usize::from(last - first) + 1;
    let spread = match published.map(rules::ports).transpose()? {
        // One target for a range of ports: the engine takes a free one of them.
        Some((from, to)) if count == 1 && from != to => Spread::Choice(format!("{from}-{to}")),
        Some((from, to)) if usize::from(to - from) + 1 == count => Spread::From(from),
        Some(_) => return Err(shape(format!("has ranges of different lengths: `{}`", shown(text)))),
        None => Spread::None,
    };
    if count > PORTS_MAX {
        return Err(Broken::new(format!("stands for {count} ports, and {PORTS_MAX} are the most")));
    }
    Ok((0..count)
        .map(|i| {
            let mut fields = Vec::new();
            fields.extend(host.clone().map(|host| ("host_ip", host)));
            fields.push(("target", (usize::from(first) + i).to_string()));
            match &spread {
                Spread::None => {}
                Spread::Choice(range) => fields.push(("published", range.clone())),
                Spread::From(from) => fields.push(("published", (usize::from(*from) + i).to_string())),
            }
            fields.extend(protocol.map(|protocol| ("protocol", protocol.to_owned())));
            fields
        })
        .collect())
}

/// Which ports are published.
enum Spread {
    None,
    Choice(String),
    From(u16),
}

/// `[source:]target[:options]`.
pub(super) fn volume(text: &str) -> Result<Vec<Fields>, Broken> {
    let shape = |why: String| Broken::new(why).hint("write `[source:]target[:options]`");
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(shape(format!("has too many `:`: `{}`", shown(text)))),
    };
    if target.is_empty() || source.is_some_and(str::is_empty) {
        return Err(shape(format!("has an empty part: `{}`", shown(text))));
    }
    if !target.starts_with('/') {
        return Err(shape(format!("must have an absolute target, not `{}`", shown(target))));
    }
    let is_path = source.is_some_and(|source| source.starts_with(['/', '.', '~']));
    let mut fields = vec![("type", if is_path { "bind" } else { "volume" }.to_owned())];
    fields.extend(source.map(|source| ("source", source.to_owned())));
    fields.push(("target", target.to_owned()));
    if is_path {
        fields.push(("bind.create_host_path", "true".to_owned()));
    }
    for option in options.split(',').filter(|option| !option.is_empty()) {
        fields.extend(mount_option(option, is_path)?);
    }
    Ok(vec![fields])
}

fn mount_option(option: &str, is_path: bool) -> Result<Option<(&'static str, String)>, Broken> {
    Ok(match option {
        "rw" => None,
        "ro" => Some(("read_only", "true".to_owned())),
        "nocopy" if !is_path => Some(("volume.nocopy", "true".to_owned())),
        // Of a volume as well, as the engine's own short form has it.
        "z" | "Z" => Some(("bind.selinux", option.to_owned())),
        "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" if is_path => {
            Some(("bind.propagation", option.to_owned()))
        }
        "cached" | "consistent" | "delegated" => Some(("consistency", option.to_owned())),
        _ => {
            let known = if is_path {
                "`ro`, `rw`, `z`, `Z`, `rshared` and its kin"
            } else {
                "`ro`, `rw`, `z`, `Z`, `nocopy`"
            };
            return Err(Broken::new(format!("has an unknown option: `{}`", shown(option)))
                .hint(format!("this mount knows {known}")));
        }
    })
}

/// `source[:target[:permissions]]`.
pub(super) fn device(text: &str) -> Result<Vec<Fields>, Broken> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, permissions] if is_permissions(permissions) => (source, source, permissions),
        [source, target] => (source, target, "rwm"),
        [source, target, permissions] => (source, target, permissions),
        _ => return Err(Broken::new(format!("has too many `:`: `{}`", shown(text)))),
    };
    if source.is_empty() || target.is_empty() || !is_permissions(permissions) {
        return Err(Broken::new(format!("is not a device: `{}`", shown(text)))
            .hint("write `source[:target[:permissions]]`, such as `/dev/fuse:/dev/fuse:rwm`"));
    }
    let field = |name, value: &str| (name, value.to_owned());
    Ok(vec![vec![field("source", source), field("target", target), field("permissions", permissions)]])
}

fn is_permissions(text: &str) -> bool {
    !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b"rwm".contains(&b))
}

/// The name of a config or a secret.
pub(super) fn grant(text: &str) -> Result<Vec<Fields>, Broken> {
    one("source", text)
}

pub(super) fn path(text: &str) -> Result<Vec<Fields>, Broken> {
    one("path", text)
}

pub(super) fn http(text: &str) -> Result<Vec<Fields>, Broken> {
    // As long as it is but a text, what is wrong with it is wrong with the key it stands behind.
    rules::http(text)?;
    one("url", text)
}

pub(super) fn grpc(text: &str) -> Result<Vec<Fields>, Broken> {
    rules::tcp(text)?;
    one("address", text)
}

/// What follows from a no.
pub(super) fn action(text: &str) -> Result<Vec<Fields>, Broken> {
    shape::one_of(text, "an action", super::grammar::ACTIONS)?;
    one("action", text)
}

/// A signal.
pub(super) fn reload(text: &str) -> Result<Vec<Fields>, Broken> {
    rules::signal_name(text)?;
    one("signal", text)
}

pub(super) fn build(text: &str) -> Result<Vec<Fields>, Broken> {
    one("context", text)
}

pub(super) fn template(text: &str) -> Result<Vec<Fields>, Broken> {
    one("use", text)
}

pub(super) fn extends(text: &str) -> Result<Vec<Fields>, Broken> {
    one("service", text)
}

/// The one word there is for GPUs.
pub(super) fn gpus(text: &str) -> Result<Vec<Fields>, Broken> {
    match text {
        "all" => one("count", text),
        _ => Err(Broken::new(format!(
            "must be `all`, or a list of requests for devices, not `{}`",
            shown(text)
        ))),
    }
}

fn one(name: &'static str, text: &str) -> Result<Vec<Fields>, Broken> {
    rules::not_empty(text)?;
    Ok(vec![vec![(name, text.to_owned())]])
}

/// One number for both limits.
pub(super) fn ulimit(text: &str) -> Result<Vec<Fields>, Broken> {
    Ok(vec![vec![("hard", text.to_owned()), ("soft", text.to_owned())]])
}

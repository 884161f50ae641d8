//! The rules of one container, whoever wrote it: of its texts, and of what its keys say together.

use core::net::IpAddr;
use std::collections::HashSet;

use super::network::{CONTAINER, SERVICE};
use super::{Complaint, Place};
use crate::file::report::shown;
use crate::file::rules::{self, Broken, Rule, is_hidden};
use crate::file::words;
use crate::ids::ServiceName;
use crate::project::container::{
    Attachment, Container, ImageRef, MountKind, NetworkMode, PullPolicy, Subnet, VolumesFrom,
};
use crate::project::{Question, Service};
use crate::withheld::WITHHELD;

/// The longest name of a host Linux takes, in bytes.
const HOST_NAME_MAX: usize = 64;

/// So many ports one container may listen at for others: each is told the engine.
const EXPOSED_MAX: usize = 1000;

pub(in crate::file) fn image(text: &str) -> Rule {
    ImageRef::parse(text).map(drop).map_err(|wrong| {
        let broken = Broken::new(format!("is not an image: `{}`", shown(text)));
        match text.strip_suffix(':') {
            Some(name) if ImageRef::parse(name).is_ok() => broken.hint(format!(
                "its tag is empty: set the variable it is made of, or write `{}`",
                shown(name)
            )),
            _ => broken.hint(format!("{}; write one such as `nginx:1.27`", wrong.why())),
        }
    })
}

/// What an engine takes as the name of a container, and of a volume.
pub(in crate::file) fn engine_name(name: &str) -> Rule {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let is_good = name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(inner)
        && name.len() <= 255;
    match is_good {
        true => Ok(()),
        false => Err(Broken::new(format!("has a bad name: `{}`", shown(name))).hint(
            "an engine wants at least two letters, digits, `.`, `_` and `-`, the first a letter or a digit",
        )),
    }
}

pub(in crate::file) fn own_host_name(name: &str) -> Rule {
    let bad = |c: char| c.is_whitespace() || is_hidden(c) || "/:,;\"'".contains(c);
    match name.is_empty() || name.len() > HOST_NAME_MAX || name.contains(bad) {
        true => Err(Broken::new(format!("has a bad name of a host: `{}`", shown(name)))
            .hint(format!("letters, digits, `.` and `-`, at most {HOST_NAME_MAX} of them"))),
        false => Ok(()),
    }
}

/// `os[/arch[/variant]]`.
pub(in crate::file) fn platform(text: &str) -> Rule {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    let parts = text.split('/').count();
    match (1..=3).contains(&parts) && text.split('/').all(part) {
        true => Ok(()),
        false => Err(Broken::new(format!("must have the form of a platform, not `{}`", shown(text)))
            .hint("write `os/arch`, such as `linux/arm64`")),
    }
}

/// Processors: `0-3,7`.
pub(in crate::file) fn cpuset(text: &str) -> Rule {
    let number = |part: &str| {
        let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| is_number)
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last)
    };
    match text.split(',').all(range) {
        true => Ok(()),
        false => Err(Broken::new(format!("must have numbers of processors, not `{}`", shown(text)))
            .hint("such as `0-3,7`")),
    }
}

/// Of six bytes.
pub(in crate::file) fn mac_address(text: &str) -> Rule {
    let byte = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let is_good = [':', '-'].iter().any(|sign| text.split(*sign).count() == 6 && text.split(*sign).all(byte));
    match is_good {
        true => Ok(()),
        false => Err(Broken::new(format!("must have six bytes, not `{}`", shown(text)))
            .hint("such as `02:42:ac:11:00:02`")),
    }
}

/// `10.0.0.0/24`: the address and how many bits of it are the network's.
fn network_of(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((address, bits))
}

pub(in crate::file) fn subnet(text: &str) -> Rule {
    match network_of(text) {
        Some(_) => Ok(()),
        None => Err(Broken::new(format!("must have the form of a subnet, not `{}`", shown(text)))
            .hint("write an address and its bits, such as `172.28.0.0/16`")),
    }
}

/// As many leading bits as two addresses have to have in common.
fn is_in(address: IpAddr, (network, bits): (IpAddr, u8)) -> bool {
    let wide = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, true),
        IpAddr::V6(v6) => (u128::from(v6), false),
    };
    let ((one, of_four), (other, is_four)) = (wide(address), wide(network));
    let left_out = 128 - u32::from(bits);
    of_four == is_four && (left_out >= 128 || one >> left_out == other >> left_out)
}

/// Keys whose value is one of some words, or names a service or a container.
pub(in crate::file) fn ipc(text: &str) -> Rule {
    namespace(text, &["none", "private", "shareable", "host"], true)
}

pub(in crate::file) fn pid(text: &str) -> Rule {
    namespace(text, &["host"], true)
}

pub(in crate::file) fn only_host(text: &str) -> Rule {
    namespace(text, &["host"], false)
}

fn namespace(text: &str, known: &[&str], may_be_shared: bool) -> Rule {
    let named = [SERVICE, CONTAINER].iter().find_map(|sign| text.strip_prefix(sign));
    if text.is_empty() || known.contains(&text) || may_be_shared && named.is_some_and(|name| !name.is_empty())
    {
        return Ok(());
    }
    let known = words::quoted(known);
    Err(Broken::new(format!("must have a namespace, not `{}`", shown(text))).hint(match may_be_shared {
        true => format!("write one of {known}, `service:NAME`, `container:NAME`"),
        false => format!("write {known}, or take it out"),
    }))
}

/// `[container:]NAME[:ro]`.
pub(in crate::file) fn volumes_from(text: &str) -> Rule {
    match super::storage::from(text) {
        Some(VolumesFrom::Container { name, .. }) if name.is_empty() || name.contains(':') => {}
        Some(_) => return Ok(()),
        None => {}
    }
    Err(Broken::new(format!("has a bad name: `{}`", shown(text)))
        .hint("write `SERVICE`, `SERVICE:ro`, `container:NAME` or `container:NAME:ro`"))
}

/// Absolute, and not all there is.
fn inside(path: &str) -> Rule {
    rules::working_dir(path)?;
    match path.trim_end_matches('/').is_empty() {
        true => {
            Err(Broken::new("has a target that is the container itself: `/`")
                .hint("name a directory below it"))
        }
        false => Ok(()),
    }
}

/// Everything that is wrong with a container.
pub(in crate::file) fn broken(service: &Service) -> Vec<Complaint> {
    let Some(container) = service.container.as_deref() else { return Vec::new() };
    let mut found = Found { complaints: Vec::new() };
    found.image(service, container);
    found.words(container);
    found.options(container);
    found.networks(service, container);
    found.reached(container);
    found.mounts(service, container);
    found.limits(service, container);
    found.namespaces(container);
    for (key, hooks) in [("post_start", &service.post_start), ("pre_stop", &service.pre_stop)] {
        for (item, hook) in hooks.iter().enumerate() {
            if let Some(dir) = &hook.working_dir {
                found.rule(Place::item(key, item), rules::working_dir(dir));
            }
        }
    }
    found.complaints
}

/// What a file would have said at the key of a process alone.
pub(in crate::file) fn of_wire(service: &Service) -> Vec<Complaint> {
    let of_processes = [
        ("command", !service.command.is_empty()),
        ("external", service.external),
        ("log", service.log.is_some()),
        ("pre_start", !service.pre_start.is_empty()),
        ("post_stop", !service.post_stop.is_empty()),
        ("stop_command", service.stop_command.is_some()),
        (
            "probes",
            service.probes.values().any(|probe| {
                matches!(
                    probe.ask,
                    Question::Descriptors(_)
                        | Question::File(_)
                        | Question::Notify
                        | Question::Unix(_)
                        | Question::Watchdog(_)
                )
            }),
        ),
    ];
    let said = of_processes.into_iter().filter(|(_, is_said)| *is_said);
    let mut found: Vec<Complaint> = said
        .map(|(key, _)| (Place::key(key), Broken::new("is for processes, and this is a container")))
        .collect();
    for file in &service.files {
        if file.target.is_none() {
            found.push((Place::key("files"), Broken::new("has a file without a target")));
        }
    }
    found
}

struct Found {
    complaints: Vec<Complaint>,
}

impl Found {
    fn rule(&mut self, place: Place, rule: Rule) {
        self.complaints.extend(rule.err().map(|broken| (place, broken)));
    }

    fn say(&mut self, key: &'static str, what: impl Into<String>, hint: impl Into<String>) {
        self.complaints.push((Place::key(key), Broken::new(what).hint(hint)));
    }

    fn image(&mut self, service: &Service, container: &Container) {
        if let Some(name) = &container.name {
            self.rule(Place::key("container_name"), engine_name(name));
            if service.scale > 1 {
                let copies = service.scale;
                self.say(
                    "container_name",
                    format!("is one name, and there are {copies} copies"),
                    "take it out, or have one copy",
                );
            }
        }
        if container.build.is_some() && container.image.digest().is_some() {
            self.say(
                "image",
                "is built, and has a digest",
                "take the digest out: it is known when it is built",
            );
        }
        if container.build.is_none() && container.pull_policy == PullPolicy::Build {
            self.say(
                "pull_policy",
                "is `build`, and nothing says how",
                "give it a `build`, or take this out",
            );
        }
        let Some(build) = &container.build else { return };
        if !build.is_fetched() {
            self.rule(Place::key("build"), rules::working_dir(&build.context));
        }
        if build.dockerfile.is_some() && build.dockerfile_inline.is_some() {
            self.say("build", "has a `dockerfile` and a `dockerfile_inline`", "keep one of the two");
        }
        if let (Some(one), Some(other)) = (&container.platform, &build.platform)
            && one != other
        {
            let (one, other) = (shown(one), shown(other));
            self.say("platform", format!("is `{one}`, and it is built for `{other}`"), "let them be one");
        }
    }

    /// An app that was looked at is sent as it was shown.
    fn options(&mut self, container: &Container) {
        let of_logs = container.logging.iter().map(|logging| ("logging", &logging.options));
        let of_volumes = container.volumes().map(|volume| ("volumes", &volume.driver_opts));
        let of_networks = container.networks().iter().flat_map(|one| {
            let network = &one.network;
            [&one.driver_opts, &network.driver_opts, &network.ipam_options].map(|all| ("networks", all))
        });
        for (key, options) in of_logs.chain(of_volumes).chain(of_networks) {
            if let Some((name, _)) = options.iter().find(|(_, value)| *value == WITHHELD) {
                let what = format!("has `{WITHHELD}` as the value of `{}`", shown(name));
                self.say(key, what, rules::NOT_SHOWN);
            }
        }
    }

    fn words(&mut self, container: &Container) {
        for (key, words) in [("entrypoint", &container.entrypoint), ("command", &container.command)] {
            // It may be arguments alone.
            let whole = words.iter().flatten().cloned();
            let words: Vec<String> = std::iter::once("entrypoint".to_owned()).chain(whole).collect();
            self.rule(Place::key(key), rules::argv(&words));
        }
        let has_command = container.command.as_ref().is_some_and(|words| !words.is_empty());
        if container.entrypoint.as_ref().is_some_and(Vec::is_empty) && !has_command {
            self.say(
                "entrypoint",
                "is empty, and there is no `command`, so there is nothing to run",
                "give it a `command`: without the image's entrypoint its command does not count",
            );
        }
        if let Some(dir) = &container.working_dir {
            self.rule(Place::key("working_dir"), rules::working_dir(dir));
        }
        if let Some(text) = &container.platform {
            self.rule(Place::key("platform"), platform(text));
        }
        for name in container.hostname.iter() {
            self.rule(Place::key("hostname"), own_host_name(name));
        }
        for name in container.domainname.iter() {
            self.rule(Place::key("domainname"), own_host_name(name));
        }
    }

    /// What goes with networks, and where there are none of its own.
    fn networks(&mut self, service: &Service, container: &Container) {
        if let NetworkMode::Networks(attachments) = &container.network {
            let mut seen = HashSet::new();
            for attachment in attachments {
                if !seen.insert(&attachment.network.name) {
                    let name = shown(&attachment.network.name);
                    self.say("networks", format!("has one network twice: `{name}`"), "keep one of the two");
                }
                self.attachment(service, attachment);
            }
            return;
        }
        let mode = match &container.network {
            NetworkMode::Host => "host".to_owned(),
            NetworkMode::None => "none".to_owned(),
            NetworkMode::Service(name) => format!("{SERVICE}{name}"),
            NetworkMode::Container(name) => format!("{CONTAINER}{name}"),
            NetworkMode::Networks(_) | NetworkMode::Named(_) => return,
        };
        let is_shared = matches!(container.network, NetworkMode::Service(_) | NetworkMode::Container(_));
        let is_host = container.network == NetworkMode::Host;
        let said = [
            ("ports", !container.ports.is_empty(), true),
            ("links", !container.links.is_empty(), is_host || is_shared),
            ("external_links", !container.external_links.is_empty(), is_host || is_shared),
            ("mac_address", container.mac_address.is_some(), true),
            ("expose", !container.expose.is_empty(), is_shared),
            ("hostname", container.hostname.is_some(), is_shared),
            ("domainname", container.domainname.is_some(), is_shared),
            ("dns", !container.dns.is_empty(), is_shared),
            ("dns_search", !container.dns_search.is_empty(), is_shared),
            ("dns_opt", !container.dns_options.is_empty(), is_shared),
            ("extra_hosts", !container.extra_hosts.is_empty(), is_shared),
        ];
        for (key, _, _) in said.into_iter().filter(|(_, is_said, is_wrong)| *is_said && *is_wrong) {
            let mode = shown(&mode);
            self.say(
                key,
                format!("has no meaning beside `network_mode: {mode}`"),
                "take one of the two out: its network is not its own",
            );
        }
    }

    fn attachment(&mut self, service: &Service, attachment: &Attachment) {
        let network = &attachment.network;
        let key = shown(&network.key);
        for Subnet { subnet: text, ip_range, gateway, aux_addresses } in &network.subnets {
            for text in text.iter().chain(ip_range) {
                self.rule(Place::key("networks"), subnet(text));
            }
            for address in gateway.iter().chain(aux_addresses.values()) {
                self.rule(Place::key("networks"), rules::address(address));
            }
        }
        let given = [&attachment.ipv4_address, &attachment.ipv6_address].into_iter().flatten();
        for text in given {
            let Ok(address) = text.parse::<IpAddr>() else {
                self.rule(Place::key("networks"), rules::address(text));
                continue;
            };
            if service.scale > 1 {
                let copies = service.scale;
                self.say(
                    "networks",
                    format!("has one address, `{address}`, and there are {copies} copies"),
                    "take it out, or have one copy",
                );
            }
            // Of what is not ours it is not known.
            let subnets = network.subnets.iter().filter_map(|subnet| network_of(subnet.subnet.as_deref()?));
            if !network.external && !subnets.clone().any(|subnet| is_in(address, subnet)) {
                let why = if subnets.clone().count() == 0 { "has no subnet" } else { "is elsewhere" };
                self.say(
                    "networks",
                    format!("has the address `{address}` in the network `{key}`, which {why}"),
                    format!("give that a `subnet` with it, under `networks.{key}.ipam.config`"),
                );
            }
        }
        if let Some(address) = &attachment.mac_address {
            self.rule(Place::key("networks"), mac_address(address));
        }
    }

    fn reached(&mut self, container: &Container) {
        for (item, port) in container.ports.iter().enumerate() {
            let place = Place::item("ports", item);
            if port.target == 0 {
                self.rule(place, Err(Broken::new("has no target port: `0`")));
            }
            if let Some(published) = &port.published {
                self.rule(place, rules::port_range(published));
            }
            if let Some(address) = &port.host_ip {
                self.rule(place, rules::address(address));
            }
        }
        if container.expose.len() > EXPOSED_MAX {
            let count = container.expose.len();
            self.say(
                "expose",
                format!("stands for {count} ports, and {EXPOSED_MAX} are the most"),
                "take it out: in one network every port is reached",
            );
        }
        for port in &container.expose {
            self.rule(Place::key("expose"), rules::exposed(port));
        }
        for (item, address) in container.dns.iter().enumerate() {
            self.rule(Place::item("dns", item), rules::address(address));
        }
        if let Some(address) = &container.mac_address {
            self.rule(Place::key("mac_address"), mac_address(address));
        }
        for (host, addresses) in &container.extra_hosts {
            self.rule(Place::key("extra_hosts"), rules::host_name(host));
            for address in addresses {
                self.rule(Place::key("extra_hosts"), rules::host_address(address));
            }
        }
    }

    fn mounts(&mut self, service: &Service, container: &Container) {
        let mut taken = HashSet::new();
        let mut take = |found: &mut Self, place: Place, target: &str| {
            found.rule(place, inside(target));
            if !taken.insert(crate::file::project::joined("/", target)) {
                let broken = Broken::new(format!("mounts twice at `{}`", shown(target)));
                found.complaints.push((place, broken.hint("keep one of the two")));
            }
        };
        for (item, mount) in container.mounts.iter().enumerate() {
            take(self, Place::item("volumes", item), &mount.target);
        }
        for target in container.tmpfs.keys() {
            take(self, Place::key("tmpfs"), target);
        }
        for file in &service.files {
            if let Some(target) = &file.target {
                take(self, Place::key("configs"), target);
            }
        }
        for (item, mount) in container.mounts.iter().enumerate() {
            let place = Place::item("volumes", item);
            match &mount.kind {
                MountKind::Bind { source, .. } => self.rule(place, rules::working_dir(source)),
                MountKind::Volume { volume: Some(volume), .. } => self.rule(place, engine_name(&volume.name)),
                MountKind::Image { source, .. } => self.rule(place, image(source)),
                MountKind::Volume { volume: None, .. } | MountKind::Tmpfs { .. } => {}
            }
        }
        for (item, device) in container.devices.iter().enumerate() {
            for path in [&device.source, &device.target] {
                self.rule(Place::item("devices", item), rules::working_dir(path));
            }
        }
    }

    fn limits(&mut self, service: &Service, container: &Container) {
        let (limits, all) = (&container.limits, &service.resources);
        if all.cpus.is_some() && (limits.cpu_period.is_some() || limits.cpu_quota.is_some()) {
            self.say("cpus", "says what `cpu_period` and `cpu_quota` say", "keep `cpus` alone");
        }
        if let Some(text) = &limits.cpuset {
            self.rule(Place::key("cpuset"), cpuset(text));
        }
        let over = |one: Option<u64>, other: Option<u64>| matches!((one, other), (Some(a), Some(b)) if a > b);
        if over(all.memory_reservation, all.memory) {
            self.say("mem_reservation", "is above `mem_limit`", "lower it");
        }
        let swap = limits.memory_swap.and_then(|swap| u64::try_from(swap).ok()).filter(|swap| *swap > 0);
        if swap.is_some() && all.memory.is_none() {
            self.say("memswap_limit", "needs a `mem_limit`", "give it one: this is memory and swap together");
        }
        if over(all.memory, swap) {
            self.say("mem_limit", "is above `memswap_limit`", "raise that: it is memory and swap together");
        }
        for request in &container.device_requests {
            if request.count.is_some_and(|count| count >= 0) && !request.device_ids.is_empty() {
                self.say("gpus", "has a `count` and `device_ids`", "keep one of the two");
            }
        }
    }

    fn namespaces(&mut self, container: &Container) {
        let namespaces = &container.namespaces;
        let mut judge = |key, word: &Option<String>, rule: fn(&str) -> Rule| {
            if let Some(word) = word {
                self.rule(Place::key(key), rule(word));
            }
        };
        judge("ipc", &namespaces.ipc, ipc);
        judge("pid", &namespaces.pid, pid);
        judge("uts", &namespaces.uts, only_host);
        judge("userns_mode", &namespaces.user, only_host);
        for (name, alias) in &container.links {
            if alias.is_empty() {
                self.say(
                    "links",
                    format!("has an empty name for `{name}`"),
                    "write `SERVICE` or `SERVICE:NAME`",
                );
            }
        }
        if namespaces.uts.is_some() && container.hostname.is_some() {
            self.say("hostname", "has no meaning beside `uts: host`", "take one of the two out");
        }
    }
}

/// Services of the same app whose containers this one cannot be made without, each with the key that says so.
pub(in crate::file) fn others(container: &Container) -> Vec<(&'static str, ServiceName)> {
    let mut found = Vec::new();
    if let NetworkMode::Service(name) = &container.network {
        found.push(("network_mode", name.clone()));
    }
    for (key, word) in [("ipc", &container.namespaces.ipc), ("pid", &container.namespaces.pid)] {
        let name = word.as_deref().and_then(|word| word.strip_prefix(SERVICE));
        found.extend(name.and_then(|name| Some((key, ServiceName::new(name).ok()?))));
    }
    found.extend(container.links.iter().map(|(name, _)| ("links", name.clone())));
    for from in &container.volumes_from {
        if let VolumesFrom::Service { name, .. } = from {
            found.push(("volumes_from", name.clone()));
        }
    }
    found
}

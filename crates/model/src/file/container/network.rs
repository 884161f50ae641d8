//! Reads which networks a container is in, how it is reached and what it knows by name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::{flag, number, pairs, text, texts};
use crate::file::rules as texts_rules;
use crate::file::tree::{Entry, Node, Value};
use crate::ids::{AppName, ServiceName};
use crate::project::container::{Attachment, Container, Network, NetworkMode, Port, Protocol, Subnet};

/// The network every container is in that does not say where.
pub(super) const DEFAULT: &str = "default";

/// What stands behind `network_mode`, `ipc` and `pid` for a service, and for another container.
pub(super) const SERVICE: &str = "service:";
pub(super) const CONTAINER: &str = "container:";

pub(super) fn mode(app: &AppName, root: &Node<'_>, service: &Node<'_>) -> NetworkMode {
    let mode = text(service, "network_mode").filter(|mode| !mode.is_empty());
    let Some(mode) = mode else { return NetworkMode::Networks(attachments(app, root, service)) };
    let of_service = mode.strip_prefix(SERVICE).and_then(|name| ServiceName::new(name).ok());
    match (mode.as_str(), of_service, mode.strip_prefix(CONTAINER)) {
        ("host", ..) => NetworkMode::Host,
        ("none", ..) => NetworkMode::None,
        (_, Some(name), _) => NetworkMode::Service(name),
        (_, _, Some(name)) => NetworkMode::Container(name.to_owned()),
        _ => NetworkMode::Named(mode),
    }
}

/// The networks of a service, those of highest priority first.
fn attachments(app: &AppName, root: &Node<'_>, service: &Node<'_>) -> Vec<Attachment> {
    let entries = service.get("networks").map(|node| node.entries()).unwrap_or_default();
    if entries.is_empty() {
        return vec![Attachment::to(network(app, root, DEFAULT))];
    }
    let priority = |value: &Node<'_>| number(value, "priority").unwrap_or(0);
    let mut found: Vec<(i64, Attachment)> = (entries.iter())
        .map(|Entry { key, value }| (priority(value), attachment(network(app, root, key.text), value)))
        .collect();
    found.sort_by(|(one, a), (other, b)| {
        (Reverse(one), &a.network.key).cmp(&(Reverse(other), &b.network.key))
    });
    found.into_iter().map(|(_, attachment)| attachment).collect()
}

fn attachment(network: Network, node: &Node<'_>) -> Attachment {
    let address = |name: &str| text(node, name).map(|text| bare(&text));
    Attachment {
        aliases: texts(node.get("aliases")),
        ipv4_address: address("ipv4_address"),
        ipv6_address: address("ipv6_address"),
        link_local_ips: texts(node.get("link_local_ips")),
        mac_address: text(node, "mac_address"),
        driver_opts: pairs(node.get("driver_opts")),
        gw_priority: number(node, "gw_priority"),
        interface_name: text(node, "interface_name"),
        ..Attachment::to(network)
    }
}

/// An address without its brackets.
fn bare(address: &str) -> String {
    address.trim_start_matches('[').trim_end_matches(']').to_owned()
}

/// A network as the engine knows it. One that only its name is known of is one of the engine's usual kind.
fn network(app: &AppName, root: &Node<'_>, key: &str) -> Network {
    let own = || format!("{app}_{key}");
    let Some(node) = root.get("networks").and_then(|networks| networks.get(key)) else {
        return Network::new(key, own());
    };
    let external = flag(node, "external").unwrap_or(false);
    let name = text(node, "name").unwrap_or_else(|| if external { key.to_owned() } else { own() });
    let mut found = Network { external, ..Network::new(key, name) };
    // What is not ours is as it is, whatever is said of it.
    if external {
        return found;
    }
    found.driver = text(node, "driver");
    found.driver_opts = pairs(node.get("driver_opts"));
    found.internal = flag(node, "internal").unwrap_or(false);
    found.attachable = flag(node, "attachable").unwrap_or(false);
    (found.enable_ipv4, found.enable_ipv6) = (flag(node, "enable_ipv4"), flag(node, "enable_ipv6"));
    found.labels = pairs(node.get("labels"));
    if let Some(ipam) = node.get("ipam") {
        found.ipam_driver = text(ipam, "driver");
        found.ipam_options = pairs(ipam.get("options"));
        let subnets = match ipam.get("config").map(|node| node.value) {
            Some(Value::List(items)) => items,
            _ => &[],
        };
        found.subnets = (subnets.iter())
            .map(|node| Subnet {
                subnet: text(node, "subnet"),
                ip_range: text(node, "ip_range"),
                gateway: text(node, "gateway"),
                aux_addresses: pairs(node.get("aux_addresses")),
            })
            .collect();
    }
    found
}

/// How it is called, what it calls others, and how it is reached.
pub(super) fn names(service: &Node<'_>, found: &mut Container) {
    found.hostname = text(service, "hostname");
    found.domainname = text(service, "domainname");
    found.mac_address = text(service, "mac_address");
    found.dns = texts(service.get("dns"));
    found.dns_search = texts(service.get("dns_search"));
    found.dns_options = texts(service.get("dns_opt"));
    found.extra_hosts = hosts(service.get("extra_hosts"));
    found.ports = ports(service.get("ports"));
    found.expose = exposed(service.get("expose"));
    let linked = |link: &String| {
        let (name, alias) = link.split_once(':').unwrap_or((link, link));
        (name.to_owned(), alias.to_owned())
    };
    let links = texts(service.get("links"));
    found.links = (links.iter().map(linked))
        .filter_map(|(name, alias)| Some((ServiceName::new(&name).ok()?, alias)))
        .collect();
    found.external_links = texts(service.get("external_links")).iter().map(linked).collect();
}

pub(super) fn hosts(node: Option<&Node<'_>>) -> BTreeMap<String, Vec<String>> {
    let entries = node.map(|node| node.entries()).unwrap_or_default();
    entries.iter().map(|entry| (entry.key.text.to_owned(), texts(Some(entry.value)))).collect()
}

fn ports(node: Option<&Node<'_>>) -> Vec<Port> {
    let Some(Value::List(items)) = node.map(|node| node.value) else { return Vec::new() };
    let port = |item: &&Node<'_>| {
        // With nothing, or 0, the engine chooses.
        let published = text(item, "published").and_then(|text| match texts_rules::ports(&text) {
            Ok((0, 0)) | Err(_) => None,
            Ok((first, last)) if first == last => Some(first.to_string()),
            Ok((first, last)) => Some(format!("{first}-{last}")),
        });
        Some(Port {
            target: text(item, "target")?.parse().ok()?,
            published,
            host_ip: text(item, "host_ip").map(|text| bare(&text)),
            protocol: match text(item, "protocol").as_deref() {
                Some("udp") => Protocol::Udp,
                Some("sctp") => Protocol::Sctp,
                _ => Protocol::Tcp,
            },
        })
    };
    items.iter().filter_map(port).collect()
}

/// One by one: an engine knows no ranges of them.
fn exposed(node: Option<&Node<'_>>) -> BTreeSet<String> {
    let each = |text: &String| {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = texts_rules::ports(range).unwrap_or((1, 0));
        let protocol = protocol.to_owned();
        (first..=last).map(move |port| format!("{port}/{protocol}"))
    };
    texts(node).iter().flat_map(each).collect()
}

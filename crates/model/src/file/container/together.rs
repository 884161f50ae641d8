//! What containers of one project say of each other: of ports, names and addresses there is one of each,
//! and what is shared has to be somebody's.
//!
//! Each is looked up, so that it takes no longer than there are of them.

use core::net::IpAddr;
use std::collections::{BTreeMap, HashMap};

use super::Place;
use super::rules::others;
use crate::file::report::shown;
use crate::file::rules::{self, Broken};
use crate::ids::AppName;
use crate::project::Service;
use crate::project::container::{Container, NetworkMode, Port, Protocol};

/// A rule that is broken by one of the services.
pub(in crate::file) struct Clash {
    /// Which, by its place in the row.
    pub(in crate::file) service: usize,
    pub(in crate::file) place: Place,
    pub(in crate::file) rule: Broken,
}

/// Everything that is wrong, in the order of services.
pub(in crate::file) fn broken<'s>(
    app: &AppName,
    services: impl Iterator<Item = (&'s str, &'s Service)>,
) -> Vec<Clash> {
    let services: Vec<(&str, &Service)> = services.collect();
    let kinds: HashMap<&str, bool> =
        services.iter().map(|(name, service)| (*name, service.container.is_some())).collect();
    let mut all =
        All { services: &services, ports: HashMap::new(), addresses: HashMap::new(), found: Vec::new() };
    for (number, (_, service)) in services.iter().enumerate() {
        let Some(container) = service.container.as_deref() else { continue };
        all.ports(number, service, container);
        all.addresses(number, container);
        all.shares(number, container, &kinds);
    }
    all.names(app);
    let mut found = all.found;
    found.sort_by_key(|clash| clash.service);
    found
}

/// Who has a port, at which addresses.
#[derive(Default)]
struct Taken {
    /// At all addresses.
    all: Option<usize>,
    /// At all of IPv4, and at all of IPv6.
    wide: [Option<usize>; 2],
    /// At one address at least, of IPv4, and of IPv6.
    narrow: [Option<usize>; 2],
    exact: HashMap<IpAddr, usize>,
}

impl Taken {
    /// Whom it is in the way of, and keeps it.
    fn take(&mut self, address: Option<IpAddr>, owner: usize) -> Option<usize> {
        let Some(address) = address else {
            let other = self.all.or(self.wide[0]).or(self.wide[1]).or(self.narrow[0]).or(self.narrow[1]);
            self.all.get_or_insert(owner);
            return other;
        };
        let family = usize::from(address.is_ipv6());
        let other = self.all.or(self.wide[family]);
        if address.is_unspecified() {
            let other = other.or(self.narrow[family]);
            self.wide[family].get_or_insert(owner);
            return other;
        }
        let other = other.or_else(|| self.exact.get(&address).copied());
        self.narrow[family].get_or_insert(owner);
        self.exact.entry(address).or_insert(owner);
        other
    }
}

struct All<'a, 's> {
    services: &'a [(&'s str, &'s Service)],
    ports: HashMap<(Protocol, u16), Taken>,
    addresses: HashMap<(&'a str, IpAddr), usize>,
    found: Vec<Clash>,
}

impl<'a> All<'a, '_> {
    fn say(&mut self, service: usize, place: Place, what: String, hint: impl Into<String>) {
        self.found.push(Clash { service, place, rule: Broken::new(what).hint(hint) });
    }

    fn name_of(&self, service: usize) -> String {
        shown(self.services[service].0)
    }

    fn ports(&mut self, number: usize, service: &Service, container: &Container) {
        for (item, port) in container.ports.iter().enumerate() {
            let place = Place::item("ports", item);
            let Some((first, last)) = port.published.as_deref().and_then(|text| rules::ports(text).ok())
            else {
                continue;
            };
            let room = u32::from(last - first) + 1;
            if service.scale > room {
                let copies = service.scale;
                let what = match room {
                    1 => format!("publishes port {first} of this machine, and there are {copies} copies"),
                    _ => format!("publishes {room} ports of this machine, and there are {copies} copies"),
                };
                let target = port.target;
                let most = first.saturating_add(u16::try_from(copies - 1).unwrap_or(u16::MAX));
                let hint = format!(
                    "give each its own, `{first}-{most}:{target}`, or let the engine choose: `{target}`"
                );
                self.say(number, place, what, hint);
            }
            // Of a range a free one is taken.
            if room == 1
                && service.scale > 0
                && let Some(other) = self.take(number, port, first)
            {
                let whose = match other == number {
                    true => "twice".to_owned(),
                    false => format!("as `{}` does", self.name_of(other)),
                };
                let what = format!("publishes port {first}/{} of this machine {whose}", port.protocol.key());
                self.say(number, place, what, "give one of the two another port");
            }
        }
    }

    fn take(&mut self, number: usize, port: &Port, published: u16) -> Option<usize> {
        let address = port.host_ip.as_deref().and_then(|text| text.parse().ok());
        self.ports.entry((port.protocol, published)).or_default().take(address, number)
    }

    fn addresses(&mut self, number: usize, container: &'a Container) {
        let NetworkMode::Networks(attachments) = &container.network else { return };
        for attachment in attachments {
            for text in [&attachment.ipv4_address, &attachment.ipv6_address].into_iter().flatten() {
                let Ok(address) = text.parse::<IpAddr>() else { continue };
                let owner = *self.addresses.entry((&attachment.network.name, address)).or_insert(number);
                if owner != number {
                    let (other, key) = (self.name_of(owner), shown(&attachment.network.key));
                    let what = format!("has the address `{address}` of `{other}` in the network `{key}`");
                    self.say(number, Place::key("networks"), what, "give one of the two another address");
                }
            }
        }
    }

    fn shares(&mut self, number: usize, container: &Container, kinds: &HashMap<&str, bool>) {
        for (key, name) in others(container) {
            // One that is not declared is said where it stands.
            if kinds.get(name.as_str()) != Some(&false) {
                continue;
            }
            let what = format!("uses `{name}`, which is a process, and has no container to share");
            self.say(number, Place::key(key), what, "name a service that is a container");
        }
    }

    /// Names that are given, against each other and against those that are made.
    fn names(&mut self, app: &AppName) {
        let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
        let named =
            |service: &'a Service| service.container.as_ref().map(|container| container.name.as_deref());
        for (number, (_, service)) in self.services.iter().enumerate() {
            let Some(Some(name)) = named(service) else { continue };
            if let Some(owner) = owners.get(name).copied() {
                let what = format!("is the name of `{}` too: `{}`", self.name_of(owner), shown(name));
                self.say(number, Place::key("container_name"), what, "give one of the two another name");
            } else {
                owners.insert(name, number);
            }
        }
        if owners.is_empty() {
            return;
        }
        for (service_name, service) in self.services {
            if named(service) != Some(None) {
                continue;
            }
            for index in 1..=service.scale {
                if let Some(owner) = owners.get(format!("{app}-{service_name}-{index}").as_str()).copied() {
                    let what = format!("is what copy {index} of `{}` is called", shown(service_name));
                    self.say(owner, Place::key("container_name"), what, "give it another name");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_addresses_are_in_each_others_way_where_one_is_part_of_the_other() {
        let rows = [
            ("", "", true),
            ("", "127.0.0.1", true),
            ("", "::1", true),
            ("", "0.0.0.0", true),
            ("0.0.0.0", "127.0.0.1", true),
            ("0.0.0.0", "0.0.0.0", true),
            ("0.0.0.0", "::", false),
            ("0.0.0.0", "::1", false),
            ("::", "::1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("::1", "127.0.0.1", false),
        ];
        for (one, other, clash) in rows {
            for (first, second) in [(one, other), (other, one)] {
                let mut taken = Taken::default();
                assert_eq!(taken.take(first.parse().ok(), 1), None, "{first}");
                assert_eq!(taken.take(second.parse().ok(), 2), clash.then_some(1), "{first} {second}");
            }
        }
    }
}

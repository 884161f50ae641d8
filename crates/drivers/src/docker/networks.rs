//! Networks and volumes: made where they are missing, and removed where they are ours and nobody uses them.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, VolumeCreateRequest,
};
use serde::Deserialize;
use upbeat_model::project::container::{Attachment, Network, Volume};
use upbeat_model::{AppName, ServiceName};

use super::labels::{self, Labels, Marks};
use super::look::{self, Found, Listed, is_id};
use super::wire::{Ask, Version, part};
use super::{Engine, EngineError, PrepareError, words};

/// From this version on a network can be without IPv4.
const WITHOUT_IPV4: Version = Version { major: 1, minor: 48 };

/// The option by which an engine is told what a device is called in the container.
const IFNAME: &str = "com.docker.network.endpoint.ifname";

/// Of a network what is used.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkThere {
    id: String,
    name: String,
    labels: Option<Labels>,
}

/// Of a volume.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeThere {
    name: String,
    labels: Option<Labels>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volumes {
    volumes: Option<Vec<VolumeThere>>,
}

/// Whose a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Of this app, by our hand.
    Ours,
    /// By our hand, but of another app.
    OfAnotherApp,
    /// By another hand.
    Another,
}

fn whose(owner: &str, app: &AppName, labels: Option<&Labels>) -> Whose {
    let text = |name: &str| labels.and_then(|labels| labels.get(name)).map(String::as_str);
    match (text(labels::OWNER) == Some(owner), text(labels::APP) == Some(app.as_str())) {
        (true, true) => Whose::Ours,
        (true, false) => Whose::OfAnotherApp,
        (false, _) => Whose::Another,
    }
}

/// A container was not started, as two networks have a name of one it is in.
pub(super) fn is_of_doubles(message: &str) -> bool {
    message.contains("network") && message.contains("is ambiguous")
}

impl Engine {
    /// A network that is there as it is wanted; its id.
    ///
    /// Errors: it is to be there and is not; it is another's; it has to be made anew, and is used.
    pub(super) async fn network(&self, app: &AppName, wanted: &Network) -> Result<String, PrepareError> {
        let _turn = self.turn(&format!("network {}", wanted.name)).await;
        if !wanted.external {
            self.without_doubles(app, &wanted.name).await?;
        }
        let there = self.network_there(&wanted.name).await?;
        if wanted.external {
            return match there {
                Some(there) => Ok(there.id),
                None => Err(PrepareError::Refused(words::no_external("network", &wanted.key, &wanted.name))),
            };
        }
        let Some(there) = there else { return self.make_network(app, wanted).await };
        match whose(self.owner(), app, there.labels.as_ref()) {
            Whose::Ours => {}
            _ => return Err(PrepareError::Refused(words::network_of_another(&wanted.key, &wanted.name))),
        }
        let digest = there.labels.as_ref().and_then(|labels| labels.get(labels::DIGEST));
        if digest == Some(&wanted.digest()) {
            return Ok(there.id);
        }
        let users = self.listed_in(&there).await?;
        let named = |users: &mut dyn Iterator<Item = &Listed>| -> Vec<String> {
            let mut names: Vec<_> = users.map(Listed::name).collect();
            names.sort();
            names
        };
        // Ours stop for it. Nothing is stopped for what a stranger keeps from happening.
        let is_strange = |user: &&Listed| whose(self.owner(), app, user.labels.as_ref()) != Whose::Ours;
        let strangers = named(&mut users.iter().filter(is_strange));
        if !strangers.is_empty() {
            return Err(PrepareError::Refused(words::network_in_use(&wanted.key, &wanted.name, &strangers)));
        }
        let mut stay = Vec::new();
        for user in users {
            if !self.discard_if_ended(&user).await? {
                stay.push(user);
            }
        }
        if !stay.is_empty() {
            let by = named(&mut stay.iter());
            return Err(PrepareError::HeldUp { network: wanted.name.clone(), by });
        }
        self.wire().done(Ask::delete(format!("/networks/{}", part(&there.id)))).await?;
        self.make_network(app, wanted).await
    }

    /// Removes a container of ours that does not run: it was made for a network that is to be another, and it may rest
    /// in it for ever. Says whether it has gone: not where something else is done to its slot just now.
    async fn discard_if_ended(&self, user: &Listed) -> Result<bool, EngineError> {
        let marks = user.labels.as_ref().and_then(|labels| Marks::read(self.owner(), labels));
        let Some(slot) = marks.map(|marks| marks.slot) else { return Ok(false) };
        // Whoever has its turn may wait for this network.
        let Some(_turn) = self.turn_now(&slot) else { return Ok(false) };
        match look::container(self.wire(), self.owner(), &user.id).await? {
            Some(found) if found.state.is_alive() => Ok(false),
            Some(found) => {
                self.anonymous(&slot, std::slice::from_ref(&found))?;
                self.discard(&slot, &found).await.map(|()| true)
            }
            None => Ok(true),
        }
    }

    /// By its whole name: the engine takes the beginning of an id for a name too.
    async fn network_there(&self, name: &str) -> Result<Option<NetworkThere>, EngineError> {
        Ok(self.networks_there(name).await?.into_iter().next())
    }

    async fn networks_there(&self, name: &str) -> Result<Vec<NetworkThere>, EngineError> {
        let ask = Ask::get("/networks").filters(&[("name", &[name])]);
        let mut found: Vec<NetworkThere> = self.wire().answer(ask).await?;
        found.retain(|network| network.name == name && is_id(&network.id));
        Ok(found)
    }

    /// Of several of our networks with one name one stays: that which is used, if one is.
    ///
    /// A daemon may have died while it asked for one. The engine makes it all the same, beside that which the next
    /// daemon asks for: it looks for others of the name only when it begins. Then it starts nothing in either.
    pub(super) async fn without_doubles(&self, app: &AppName, name: &str) -> Result<(), EngineError> {
        let mut all = self.networks_there(name).await?;
        all.retain(|network| whose(self.owner(), app, network.labels.as_ref()) == Whose::Ours);
        let mut stay = all.len();
        for network in all {
            if stay < 2 {
                break;
            }
            tracing::warn!(
                network = name,
                id = network.id,
                "there are two of this name; one that nobody uses goes"
            );
            match self.wire().done(Ask::delete(format!("/networks/{}", part(&network.id)))).await {
                // Somebody is in it.
                Err(EngineError::Said { status: 403, .. }) => {}
                Err(error) if !error.is_absent() => return Err(error),
                _ => stay -= 1,
            }
        }
        Ok(())
    }

    async fn make_network(&self, app: &AppName, wanted: &Network) -> Result<String, PrepareError> {
        #[derive(Deserialize)]
        struct Made {
            #[serde(rename = "Id")]
            id: String,
        }
        let version = self.wire().version().await?;
        if wanted.enable_ipv4.is_some() && version < WITHOUT_IPV4 {
            let why = format!(
                "network `{}`: `enable_ipv4` needs engine API {WITHOUT_IPV4}, and this engine speaks {version}; leave it out",
                wanted.key
            );
            return Err(PrepareError::Refused(why));
        }
        let mut labels: Labels = wanted.labels.clone().into_iter().collect();
        labels.extend(labels::of_thing(self.owner(), app, wanted.digest()));
        // The engine would make a second one of the same name.
        let mut body = serde_json::to_value(network_body(wanted, labels)).unwrap_or_default();
        body["CheckDuplicate"] = true.into();
        let made = self.wire().answer::<Made>(Ask::post("/networks/create").json(&body)?).await;
        self.failpoint("network_made");
        match made {
            Ok(made) if is_id(&made.id) => {
                self.without_doubles(app, &wanted.name).await?;
                Ok(self.network_there(&wanted.name).await?.map_or(made.id, |there| there.id))
            }
            Ok(_) => Err(EngineError::Nonsense("it made a network without an id".to_owned()).into()),
            Err(EngineError::Said { status: 400..=500, message }) => {
                Err(PrepareError::Refused(words::network_not_made(&wanted.key, &wanted.name, &message)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The containers that use a network, whether they run or not: those that have not run yet know it by its name
    /// alone.
    async fn listed_in(&self, network: &NetworkThere) -> Result<Vec<Listed>, EngineError> {
        let ask = Ask::get("/containers/json")
            .query("all", "1")
            .filters(&[("network", &[&network.id, &network.name])]);
        self.wire().answer(ask).await
    }

    /// A container is in these networks, and in none that only has the name of one of them.
    ///
    /// Errors: a network is not there; the engine.
    pub(super) async fn join(
        &self,
        found: &Found,
        wanted: &[Attachment],
        service: &ServiceName,
    ) -> Result<(), PrepareError> {
        for attachment in wanted {
            let name = &attachment.network.name;
            let Some(network) = self.network_there(name).await? else {
                let why = words::no_external("network", &attachment.network.key, name);
                return Err(PrepareError::Refused(why));
            };
            let joined = found.networks.iter().find(|(joined, _)| joined == name);
            match joined {
                // One that has never run says no id.
                Some((_, id)) if *id == network.id || id.is_empty() => continue,
                Some(_) => {
                    let body = NetworkDisconnectRequest { container: found.id.clone(), force: Some(true) };
                    // It is gone with the network, or was never there.
                    match self
                        .wire()
                        .done(Ask::post(format!("/networks/{}/disconnect", part(name))).json(&body)?)
                        .await
                    {
                        Err(EngineError::Said { .. }) | Ok(()) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                None => {}
            }
            self.connect(&network.id, &found.id, attachment, service).await?;
        }
        Ok(())
    }

    /// Puts a container into a network.
    pub(super) async fn connect(
        &self,
        network: &str,
        container: &str,
        attachment: &Attachment,
        service: &ServiceName,
    ) -> Result<(), PrepareError> {
        let endpoint = Some(endpoint(attachment, service));
        let body = NetworkConnectRequest { container: container.to_owned(), endpoint_config: endpoint };
        match self.wire().done(Ask::post(format!("/networks/{}/connect", part(network))).json(&body)?).await {
            Err(EngineError::Said { message, .. }) => {
                let name = &attachment.network.name;
                Err(PrepareError::Refused(format!(
                    "network `{name}` cannot be joined: {}",
                    words::tidy(&message)
                )))
            }
            done => Ok(done?),
        }
    }

    /// A volume that is there. `Some`: something about it that a person should know.
    ///
    /// Errors: it is to be there and is not; the engine cannot make it.
    pub(super) async fn volume(
        &self,
        app: &AppName,
        wanted: &Volume,
    ) -> Result<Option<String>, PrepareError> {
        let _turn = self.turn(&format!("volume {}", wanted.name)).await;
        let there =
            self.wire().answer::<VolumeThere>(Ask::get(format!("/volumes/{}", part(&wanted.name)))).await;
        match there {
            Ok(_) if wanted.external => return Ok(None),
            Ok(there) => {
                let labels = there.labels.as_ref();
                let digest = labels.and_then(|labels| labels.get(labels::DIGEST));
                return Ok(match whose(self.owner(), app, labels) {
                    Whose::Ours if digest == Some(&wanted.digest()) => None,
                    Whose::Ours => Some(words::volume_of_another_digest(&wanted.key, &wanted.name)),
                    _ => Some(words::volume_of_another(&wanted.key, &wanted.name)),
                });
            }
            Err(error) if !error.is_absent() => return Err(error.into()),
            Err(_) if wanted.external => {
                return Err(PrepareError::Refused(words::no_external("volume", &wanted.key, &wanted.name)));
            }
            Err(_) => {}
        }
        let mut labels: Labels = wanted.labels.clone().into_iter().collect();
        labels.extend(labels::of_thing(self.owner(), app, wanted.digest()));
        let body = VolumeCreateRequest {
            name: Some(wanted.name.clone()),
            driver: wanted.driver.clone(),
            driver_opts: Some(wanted.driver_opts.clone().into_iter().collect()),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        };
        match self.wire().done(Ask::post("/volumes/create").json(&body)?).await {
            Err(EngineError::Said { message, .. }) => Err(PrepareError::Refused(format!(
                "volume `{}` (`{}` in the engine) cannot be made: {}",
                wanted.key,
                wanted.name,
                words::tidy(&message)
            ))),
            done => Ok(done.map(|()| None)?),
        }
    }

    /// Removes a network of this app that no container uses. Errors: one of the app does still; the engine.
    pub(super) async fn remove_network(&self, app: &AppName, name: &str) -> Result<(), EngineError> {
        let _turn = self.turn(&format!("network {name}")).await;
        self.without_doubles(app, name).await?;
        let Some(there) = self.network_there(name).await? else { return Ok(()) };
        if whose(self.owner(), app, there.labels.as_ref()) != Whose::Ours {
            return Ok(());
        }
        let users = self.listed_in(&there).await?;
        let is_ours = |one: &&Listed| whose(self.owner(), app, one.labels.as_ref()) == Whose::Ours;
        // They are about to go, too: whoever asks again takes it. What others put there stays where it is.
        if let Some(user) = users.iter().find(is_ours) {
            return Err(EngineError::InUse { thing: format!("network `{name}`"), by: user.name() });
        }
        if let Some(user) = users.first() {
            tracing::warn!(network = name, by = user.name(), "a network stays, as another uses it");
            return Ok(());
        }
        self.take_network(&there).await.map(drop)
    }

    /// Says whether it went: another hand may have joined it at this moment.
    async fn take_network(&self, there: &NetworkThere) -> Result<bool, EngineError> {
        let removed = self.wire().done(Ask::delete(format!("/networks/{}", part(&there.id)))).await;
        self.failpoint("network_removed");
        match removed {
            Err(EngineError::Said { status: 403 | 409, .. }) => Ok(false),
            Err(error) if error.is_absent() => Ok(true),
            done => done.map(|()| true),
        }
    }

    /// Removes the networks that were made for an app and nobody is in. Those that are gone, and those that stay, each
    /// with a container that is in it. Errors: the engine.
    pub async fn remove_networks(
        &self,
        app: &AppName,
    ) -> Result<(Vec<String>, BTreeMap<String, String>), EngineError> {
        let (owner, of_app) =
            (labels::is(labels::OWNER, self.owner()), labels::is(labels::APP, app.as_str()));
        let ask = Ask::get("/networks").filters(&[("label", &[&owner, &of_app])]);
        let found: Vec<NetworkThere> = self.wire().answer(ask).await?;
        let is_ours =
            |network: &NetworkThere| whose(self.owner(), app, network.labels.as_ref()) == Whose::Ours;
        let (mut gone, mut stays) = (Vec::new(), BTreeMap::new());
        for network in found.into_iter().filter(is_ours) {
            let _turn = self.turn(&format!("network {}", network.name)).await;
            // An engine takes one away in which are only containers that do not run.
            if let Some(user) = self.listed_in(&network).await?.first() {
                stays.insert(network.name, user.name());
            } else if self.take_network(&network).await? {
                gone.push(network.name);
            }
        }
        Ok((gone, stays))
    }

    /// By whom a volume is used, if it still is.
    async fn who_has(&self, volume: &str) -> Result<Option<EngineError>, EngineError> {
        let ask = Ask::get("/containers/json").query("all", "1").filters(&[("volume", &[volume])]);
        let users: Vec<Listed> = self.wire().answer(ask).await?;
        let thing = format!("volume `{volume}`");
        Ok(users.first().map(|user| EngineError::InUse { thing, by: user.name() }))
    }

    /// Removes the volumes that were made for an app, with what is in them. Those that are gone.
    ///
    /// Errors: one is used by a container, of whomever; the engine. The others are gone then.
    pub async fn remove_volumes(&self, app: &AppName) -> Result<Vec<String>, EngineError> {
        let (owner, of_app) =
            (labels::is(labels::OWNER, self.owner()), labels::is(labels::APP, app.as_str()));
        let ask = Ask::get("/volumes").filters(&[("label", &[&owner, &of_app])]);
        let found: Volumes = self.wire().answer(ask).await?;
        let is_ours = |volume: &VolumeThere| whose(self.owner(), app, volume.labels.as_ref()) == Whose::Ours;
        let (mut gone, mut stays) = (Vec::new(), Ok(()));
        for volume in found.volumes.into_iter().flatten().filter(is_ours) {
            let _turn = self.turn(&format!("volume {}", volume.name)).await;
            match self.wire().done(Ask::delete(format!("/volumes/{}", part(&volume.name)))).await {
                Err(error) if error.is_absent() => {}
                Err(error) if error.is_conflict() => {
                    let used = self.who_has(&volume.name).await?.unwrap_or(error);
                    stays = stays.and(Err(used));
                }
                Err(error) => stays = stays.and(Err(error)),
                Ok(()) => gone.push(volume.name),
            }
        }
        stays.map(|()| gone)
    }
}

fn network_body(wanted: &Network, labels: Labels) -> NetworkCreateRequest {
    let subnets = wanted.subnets.iter().map(|subnet| IpamConfig {
        subnet: subnet.subnet.clone(),
        ip_range: subnet.ip_range.clone(),
        gateway: subnet.gateway.clone(),
        auxiliary_addresses: (!subnet.aux_addresses.is_empty())
            .then(|| subnet.aux_addresses.clone().into_iter().collect::<HashMap<_, _>>()),
    });
    let subnets: Vec<_> = subnets.collect();
    let options = &wanted.ipam_options;
    let says_ipam = wanted.ipam_driver.is_some() || !options.is_empty() || !subnets.is_empty();
    let ipam = says_ipam.then(|| Ipam {
        driver: Some(wanted.ipam_driver.clone().unwrap_or_else(|| "default".to_owned())),
        config: (!subnets.is_empty()).then_some(subnets),
        options: (!options.is_empty()).then(|| options.clone().into_iter().collect()),
    });
    NetworkCreateRequest {
        name: wanted.name.clone(),
        driver: Some(wanted.driver.clone().unwrap_or_else(|| "bridge".to_owned())),
        internal: Some(wanted.internal),
        attachable: Some(wanted.attachable),
        enable_ipv4: wanted.enable_ipv4,
        enable_ipv6: wanted.enable_ipv6,
        options: Some(wanted.driver_opts.clone().into_iter().collect()),
        labels: Some(labels),
        ipam,
        ..NetworkCreateRequest::default()
    }
}

/// How a container is in a network: its service's name is one of its names there.
pub(super) fn endpoint(attachment: &Attachment, service: &ServiceName) -> EndpointSettings {
    let mut aliases = vec![service.to_string()];
    aliases.extend(attachment.aliases.iter().filter(|alias| **alias != service.as_str()).cloned());
    let Attachment { ipv4_address, ipv6_address, link_local_ips, .. } = attachment;
    let says_address = ipv4_address.is_some() || ipv6_address.is_some() || !link_local_ips.is_empty();
    let mut driver_opts: HashMap<_, _> = attachment.driver_opts.clone().into_iter().collect();
    driver_opts.extend(attachment.interface_name.clone().map(|name| (IFNAME.to_owned(), name)));
    EndpointSettings {
        aliases: Some(aliases),
        links: (!attachment.links.is_empty()).then(|| attachment.links.clone()),
        ipam_config: says_address.then(|| EndpointIpamConfig {
            ipv4_address: ipv4_address.clone(),
            ipv6_address: ipv6_address.clone(),
            link_local_ips: (!link_local_ips.is_empty()).then(|| link_local_ips.clone()),
        }),
        mac_address: attachment.mac_address.clone(),
        driver_opts: (!driver_opts.is_empty()).then_some(driver_opts),
        gw_priority: attachment.gw_priority,
        ..EndpointSettings::default()
    }
}

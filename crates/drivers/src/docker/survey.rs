//! What there is for an app, as far as a plan looks at it: asked in a few lists, whatever the app has.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Deserialize;
use upbeat_model::AppName;
use upbeat_model::plan::{Container, ContainerState, HostPort, Kept, World};
use upbeat_model::project;
use upbeat_model::project::container::{ImageRef, Protocol};

use super::labels::{self, Labels, Marks};
use super::look::{is_id, name_of};
use super::wire::Ask;
use super::{Engine, EngineError};

/// A container, as a list has it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default, rename = "ImageID")]
    image: String,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    state: String,
    /// `Exited (3) 5 minutes ago`.
    #[serde(default)]
    status: String,
    #[serde(default)]
    ports: Option<Vec<Published>>,
    #[serde(default)]
    network_settings: Option<Joined>,
    #[serde(default)]
    mounts: Option<Vec<Mounted>>,
}

#[derive(Deserialize)]
struct Published {
    #[serde(default, rename = "IP")]
    ip: String,
    #[serde(default, rename = "PublicPort")]
    port: u16,
    #[serde(default, rename = "Type")]
    protocol: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Joined {
    #[serde(default)]
    networks: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mounted {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    name: String,
}

/// A network or a volume.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Thing {
    name: String,
    #[serde(default)]
    labels: Option<Labels>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volumes {
    #[serde(default)]
    volumes: Option<Vec<Thing>>,
}

impl Engine {
    /// What there is: the containers of an app, who else holds names and ports, all networks and volumes, and
    /// of these images the ids of those that are there. Nothing of slots, which only their machines know.
    ///
    /// Errors: the engine does not say.
    pub async fn survey(
        &self,
        app: &AppName,
        images: impl IntoIterator<Item = &ImageRef>,
    ) -> Result<World, EngineError> {
        let mut world = World::default();
        let containers: Vec<Listed> =
            self.wire().answer(Ask::get("/containers/json").query("all", "1")).await?;
        sort_in(&mut world, &containers, self.owner(), app);
        let networks: Vec<Thing> = self.wire().answer(Ask::get("/networks")).await?;
        let volumes: Volumes = self.wire().answer(Ask::get("/volumes")).await?;
        let kept = |things: Vec<Thing>| things.into_iter().map(|thing| thing.kept(self.owner())).collect();
        world.networks = kept(networks);
        world.volumes = kept(volumes.volumes.unwrap_or_default());
        let mut names = BTreeMap::new();
        for image in images {
            if let Entry::Vacant(new) = names.entry(image.full()) {
                new.insert(self.image_id(image).await?);
            }
        }
        world.images = names.into_iter().filter_map(|(name, id)| Some((name, id?))).collect();
        Ok(world)
    }
}

/// Whose each container is: the app's, or a stranger's, which may be in a network of the app.
fn sort_in(world: &mut World, containers: &[Listed], owner: &str, app: &AppName) {
    for listed in containers.iter().filter(|listed| is_id(&listed.id) && !listed.is_going()) {
        let marks = listed.labels.as_ref().and_then(|labels| Marks::read(owner, labels));
        match marks.filter(|marks| marks.slot.app == *app) {
            Some(marks) => drop(world.containers.insert(listed.name(), listed.container(marks))),
            None => {
                for network in listed.networks() {
                    world.strangers.entry(network.clone()).or_default().insert(listed.name());
                }
                world.foreign.insert(listed.name(), listed.held());
            }
        }
    }
}

impl Engine {
    /// A port of this machine that a container shall publish, and that one publishes which is none of this
    /// daemon's: who goes for another of ours is waited for, and nobody else goes for us.
    ///
    /// Errors: the engine does not say.
    pub(super) async fn held_by_a_stranger(
        &self,
        container: &project::Container,
    ) -> Result<Option<(HostPort, String)>, EngineError> {
        let wanted: Vec<HostPort> = container.ports.iter().filter_map(HostPort::of).collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let running: Vec<Listed> = self.wire().answer(Ask::get("/containers/json")).await?;
        let is_ours = |listed: &&Listed| {
            listed.labels.as_ref().is_some_and(|labels| Marks::read(self.owner(), labels).is_some())
        };
        Ok(running.iter().filter(|listed| !is_ours(listed)).find_map(|listed| {
            let held = listed.held();
            let port = wanted.iter().find(|port| held.iter().any(|held| held.clashes(port)))?;
            Some((port.clone(), listed.name()))
        }))
    }
}

impl Listed {
    fn name(&self) -> String {
        name_of(self.names.as_deref(), &self.id)
    }

    fn is_going(&self) -> bool {
        ["removing", "dead"].contains(&self.state.as_str())
    }

    fn state(&self) -> ContainerState {
        match self.state.as_str() {
            "created" => ContainerState::Created,
            "exited" if self.status.starts_with("Exited (0)") => ContainerState::Completed,
            "exited" => ContainerState::Failed,
            _ => ContainerState::Running,
        }
    }

    fn held(&self) -> Vec<HostPort> {
        let ports = self.ports.iter().flatten().filter(|port| port.port != 0);
        let mut held: Vec<HostPort> = ports.filter_map(Published::held).collect();
        held.sort();
        held.dedup();
        held
    }

    /// Which networks it is in, or joins when it runs.
    fn networks(&self) -> impl Iterator<Item = &String> {
        let joined = self.network_settings.as_ref().and_then(|joined| joined.networks.as_ref());
        joined.into_iter().flat_map(BTreeMap::keys)
    }

    fn container(&self, marks: Marks) -> Container {
        let volumes = self.mounts.iter().flatten().filter(|mount| mount.r#type == "volume");
        let image = [&marks.image, &self.image].into_iter().find(|image| !image.is_empty());
        Container {
            image: image.cloned(),
            slot: marks.slot,
            digest: marks.digest,
            state: self.state(),
            release: marks.release.parse().ok(),
            networks: self.networks().cloned().collect(),
            volumes: volumes.map(|mount| mount.name.clone()).collect(),
            ports: self.held(),
            temporary: false,
        }
    }
}

impl Published {
    fn held(&self) -> Option<HostPort> {
        let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.key() == self.protocol)?;
        Some(HostPort::new(self.port, protocol, Some(&self.ip)))
    }
}

impl Thing {
    fn kept(self, owner: &str) -> (String, Kept) {
        let label = |name: &str| self.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
        let is_ours = label(labels::OWNER).is_some_and(|of| of == owner);
        let app = label(labels::APP).filter(|_| is_ours).and_then(|app| AppName::new(app).ok());
        let digest = label(labels::DIGEST).filter(|_| app.is_some());
        (self.name, Kept { app, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Listed {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_list_is_read_for_what_a_plan_looks_at() {
        let one = listed(
            r#"{"Id": "1", "Names": ["/web"], "ImageID": "sha256:1", "State": "running", "Status": "Up 3 minutes",
                "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                          {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                          {"IP": "10.0.0.1", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
                          {"PrivatePort": 443, "Type": "tcp"}],
                "NetworkSettings": {"Networks": {"net": {"NetworkID": "x"}}},
                "Mounts": [{"Type": "bind", "Name": ""}, {"Type": "volume", "Name": "data"}]}"#,
        );
        let held: Vec<String> = one.held().iter().map(ToString::to_string).collect();
        assert_eq!(
            (one.name().as_str(), held),
            ("web", vec!["10.0.0.1:53/udp".to_owned(), "8080/tcp".into()])
        );
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let of = [("io.upbeat.owner", "me"), ("io.upbeat.app", "a"), ("io.upbeat.service", "web")];
        let mut all = labels(&of);
        all.insert(labels::SLOT.to_owned(), "1".to_owned());
        let container = one.container(Marks::read("me", &all).unwrap());
        assert_eq!((container.image.as_deref(), container.release), (Some("sha256:1"), None));
        assert!(container.networks.contains("net") && container.volumes.contains("data"));
        assert_eq!(container.volumes.len(), 1);
        let state = |state: &str, status: &str| {
            listed(&format!(r#"{{"Id": "1", "State": "{state}", "Status": "{status}"}}"#)).state()
        };
        assert_eq!(state("exited", "Exited (0) 2 hours ago"), ContainerState::Completed);
        assert_eq!(state("exited", "Exited (10) 2 hours ago"), ContainerState::Failed);
        assert_eq!(state("paused", "Up 2 hours (Paused)"), ContainerState::Running);
        assert_eq!(state("created", "Created"), ContainerState::Created);
    }

    #[test]
    fn strangers_in_a_network_are_all_that_are_not_the_apps() {
        let one = |name: &str, labels: &str, state: &str| {
            let id = "0123456789abcdef".repeat(4);
            listed(&format!(
                r#"{{"Id": "{id}", "Names": ["/{name}"], "State": "{state}", "Labels": {labels},
                    "NetworkSettings": {{"Networks": {{"net": {{}}, "own": {{}}}}}}}}"#
            ))
        };
        let of = |app: &str| {
            format!(
                r#"{{"io.upbeat.owner": "me", "io.upbeat.app": "{app}", "io.upbeat.service": "w", "io.upbeat.slot": "1"}}"#
            )
        };
        let all = [
            one("ours", &of("a"), "running"),
            one("neighbour", &of("b"), "running"),
            one("guest", "null", "exited"),
            one("leaving", "null", "removing"),
        ];
        let mut world = World::default();
        sort_in(&mut world, &all, "me", &AppName::new("a").unwrap());
        let strangers: Vec<&String> = world.strangers["net"].iter().collect();
        assert_eq!(strangers, ["guest", "neighbour"]);
        assert_eq!(world.containers.keys().collect::<Vec<_>>(), ["ours"]);
    }

    #[test]
    fn whose_a_thing_is_its_labels_say() {
        let thing = |labels: &str| -> Kept {
            let text = format!(r#"{{"Name": "n", "Labels": {labels}}}"#);
            serde_json::from_str::<Thing>(&text).unwrap().kept("me").1
        };
        let ours = thing(r#"{"io.upbeat.owner": "me", "io.upbeat.app": "a", "io.upbeat.digest": "d"}"#);
        assert_eq!((ours.app.unwrap().as_str(), ours.digest.as_deref()), ("a", Some("d")));
        assert_eq!(thing("null"), Kept::default());
        assert_eq!(thing(r#"{"io.upbeat.owner": "you", "io.upbeat.app": "a"}"#), Kept::default());
    }
}

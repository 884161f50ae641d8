//! Whose a thing of the engine is, said on the thing itself: so a daemon that has lost everything finds
//! what is its own again, and touches nothing else.

use std::collections::HashMap;

use upbeat_model::project::container::Attachment;
use upbeat_model::project::{LogRotation, Service};
use upbeat_model::{AppName, ServiceName, SlotId};

use super::peers::Peers;

/// Which daemon made it. What lacks it, or has another's, is not ours.
pub const OWNER: &str = "io.upbeat.owner";
/// Of which app.
pub const APP: &str = "io.upbeat.app";
/// Of which of its services.
pub const SERVICE: &str = "io.upbeat.service";
/// Of which of its copies.
pub const SLOT: &str = "io.upbeat.slot";
/// Of which release.
pub const RELEASE: &str = "io.upbeat.release";
/// What makes it what it is, of the service, the network or the volume.
pub const DIGEST: &str = "io.upbeat.digest";
/// The id of the image that it was made of.
pub const IMAGE: &str = "io.upbeat.image";
/// What it is called once it is the one that runs.
pub const NAME: &str = "io.upbeat.name";
/// Its networks, as far as they are the file's: so that they can be mended.
pub const NETWORKS: &str = "io.upbeat.networks";
/// The containers of other services that it was made for, where it has something of them.
pub const PEERS: &str = "io.upbeat.peers";
/// How its log is rotated, where the file says that: `bytes/files`.
pub const LOG: &str = "io.upbeat.log";

/// `name=value`: how things that have it are asked for.
pub(super) fn is(name: &str, value: &str) -> String {
    format!("{name}={value}")
}

/// Labels of a thing.
pub type Labels = HashMap<String, String>;

/// What a container's labels say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) slot: SlotId,
    pub(super) digest: String,
    pub(super) release: String,
    pub(super) image: String,
    pub(super) name: Option<String>,
    pub(super) networks: Vec<Attachment>,
    pub(super) log: LogRotation,
    pub(super) peers: Peers,
}

impl Marks {
    /// `None`: it is not this owner's, or its labels are none that this driver wrote.
    pub(super) fn read(owner: &str, labels: &Labels) -> Option<Self> {
        let text = |name: &str| labels.get(name).map(String::as_str);
        if text(OWNER) != Some(owner) {
            return None;
        }
        let slot = SlotId {
            app: AppName::new(text(APP)?).ok()?,
            service: ServiceName::new(text(SERVICE)?).ok()?,
            index: text(SLOT)?.parse().ok()?,
        };
        let said = |name| text(name).unwrap_or_default().to_owned();
        Some(Self {
            slot,
            digest: said(DIGEST),
            release: said(RELEASE),
            image: said(IMAGE),
            name: text(NAME).map(str::to_owned),
            networks: text(NETWORKS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            log: text(LOG).and_then(rotation).unwrap_or_default(),
            peers: text(PEERS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        })
    }
}

fn rotation(text: &str) -> Option<LogRotation> {
    let (size, files) = text.split_once('/')?;
    Some(LogRotation { max_size: size.parse().ok()?, max_files: files.parse().ok()? })
}

/// Those of a container besides what its file says.
pub(super) fn of_container(
    owner: &str,
    slot: &SlotId,
    spec: &Service,
    [digest, release, image, name]: [&str; 4],
) -> Labels {
    let mut labels = Labels::new();
    let mut say = |label: &str, text: String| drop(labels.insert(label.to_owned(), text));
    say(OWNER, owner.to_owned());
    say(APP, slot.app.to_string());
    say(SERVICE, slot.service.to_string());
    say(SLOT, slot.index.to_string());
    say(RELEASE, release.to_owned());
    say(DIGEST, digest.to_owned());
    say(IMAGE, image.to_owned());
    say(NAME, name.to_owned());
    let networks = spec.container.iter().flat_map(|container| container.networks()).collect::<Vec<_>>();
    if !networks.is_empty() {
        say(NETWORKS, serde_json::to_string(&networks).unwrap_or_default());
    }
    if let Some(LogRotation { max_size, max_files }) = &spec.log {
        say(LOG, format!("{max_size}/{max_files}"));
    }
    labels
}

/// That of what it was made for.
pub(super) fn of_peers(peers: &Peers) -> Option<(String, String)> {
    let text = serde_json::to_string(peers).ok().filter(|_| !peers.is_empty())?;
    Some((PEERS.to_owned(), text))
}

/// Those of a network or a volume, besides what its file says.
pub(super) fn of_thing(owner: &str, app: &AppName, digest: String) -> Labels {
    Labels::from([
        (OWNER.to_owned(), owner.to_owned()),
        (APP.to_owned(), app.to_string()),
        (DIGEST.to_owned(), digest),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use upbeat_model::project::container::{ImageRef, Network};

    #[test]
    fn what_was_said_is_read_again_and_only_by_its_owner() {
        let slot: SlotId = "shop/web/2".parse().unwrap();
        let mut spec = Service::of_image(ImageRef::parse("web:v1").unwrap());
        spec.log = Some(LogRotation { max_size: 100, max_files: 3 });
        let networks = vec![Attachment::to(Network::new("front", "shop_front"))];
        let container = spec.container.as_mut().unwrap();
        container.network = upbeat_model::project::container::NetworkMode::Networks(networks.clone());
        let mut labels = of_container("me", &slot, &spec, ["d", "3", "sha256:1", "shop-web-2"]);
        labels.insert("colour".to_owned(), "red".to_owned());
        let marks = Marks::read("me", &labels).unwrap();
        assert_eq!((marks.slot, marks.networks, marks.log), (slot, networks, spec.log.unwrap()));
        assert_eq!((marks.digest.as_str(), marks.release.as_str()), ("d", "3"));
        assert_eq!((marks.image.as_str(), marks.name.as_deref()), ("sha256:1", Some("shop-web-2")));
        assert_eq!(Marks::read("you", &labels), None);
        labels.insert(SLOT.to_owned(), "two".to_owned());
        assert_eq!(Marks::read("me", &labels), None);
        assert_eq!(Marks::read("me", &Labels::new()), None);
    }
}

//! The request that makes a container of a service: every key of it, in the words of an engine.
//!
//! Nothing is left out in silence: what an engine of this version has no word for is refused, by the name
//! of the key and the version it takes.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use upbeat_model::project::container::{Attachment, Container, NetworkMode, VolumesFrom};
use upbeat_model::project::{Service, Signal};
use upbeat_model::{ServiceName, SlotId};

use super::networks::endpoint;
use super::{Version, limits, mounts};

/// From this version on a container can be put into several networks when it is made, with an address on the
/// link in each.
const SEVERAL_NETWORKS: Version = Version { major: 1, minor: 44 };

/// What else it is made of.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The id of its image.
    pub image: String,
    /// What its image runs its command by.
    pub entrypoint: Vec<String>,
    /// The ids of the containers that it has something of, by their services.
    pub peers: BTreeMap<ServiceName, String>,
    /// Where its configs and secrets are, by their names, on the machine of the engine.
    pub files: PathBuf,
    /// Volumes without a name that it is given of the container whose place it takes.
    pub anonymous: BTreeMap<String, String>,
    /// Where its update lock is, on the machine of the engine.
    pub update_lock: Option<PathBuf>,
}

/// A request, and what has to follow it before the start.
#[derive(Clone, Debug)]
pub struct Made {
    /// The request.
    pub create: ContainerCreateBody,
    /// Its address on the link, which is no field of that since API 1.44.
    pub mac_address: Option<String>,
    /// Networks it has to be put into besides.
    pub connect: Vec<Attachment>,
}

impl Made {
    /// The request as it is sent.
    pub fn body(&self) -> serde_json::Value {
        let mut body = serde_json::to_value(&self.create).unwrap_or_default();
        if let Some(address) = &self.mac_address {
            body["MacAddress"] = address.as_str().into();
        }
        body
    }
}

/// The request. Errors: what cannot be asked for of an engine of this version.
pub fn create_body(
    spec: &Service,
    slot: &SlotId,
    identity: &Identity,
    version: Version,
) -> Result<Made, String> {
    let Some(container) = spec.container.as_deref() else { return Err("it is no container".to_owned()) };
    judge(container, version)?;
    let networks = container.networks();
    let split = if version >= SEVERAL_NETWORKS { networks.len() } else { networks.len().min(1) };
    let (at_once, later) = networks.split_at(split);
    let mut endpoints: HashMap<_, _> = (at_once.iter())
        .map(|attachment| (attachment.network.name.clone(), endpoint(attachment, &slot.service)))
        .collect();
    let mut mac_address = container.mac_address.clone();
    if version >= SEVERAL_NETWORKS
        && let Some(first) = networks.first().and_then(|first| endpoints.get_mut(&first.network.name))
    {
        first.mac_address = first.mac_address.take().or_else(|| mac_address.take());
    }
    let (entrypoint, cmd) = command(container, &identity.entrypoint);
    let create = ContainerCreateBody {
        image: Some(identity.image.clone()),
        entrypoint,
        cmd,
        hostname: container.hostname.clone(),
        domainname: container.domainname.clone(),
        user: spec.user.clone(),
        working_dir: container.working_dir.clone(),
        tty: Some(spec.tty),
        open_stdin: Some(spec.stdin_open),
        env: Some(variables(spec)),
        labels: Some(spec.labels.clone().into_iter().collect()),
        stop_signal: container.stop_signal.map(signal),
        // Of use to other hands alone: what stops it says how long it may take.
        stop_timeout: i64::try_from(spec.stop_grace_period.0.div_ceil(1000)).ok(),
        healthcheck: (!container.image_check)
            .then(|| HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        exposed_ports: Some(exposed(container)),
        host_config: Some(host(spec, container, slot, identity, version)?),
        networking_config: (!endpoints.is_empty())
            .then_some(NetworkingConfig { endpoints_config: Some(endpoints) }),
        ..ContainerCreateBody::default()
    };
    Ok(Made { create, mac_address, connect: later.to_vec() })
}

/// Its variables. Where its update lock is, nothing else can say.
fn variables(spec: &Service) -> Vec<String> {
    let lock = spec.update_lock.then_some((Service::UPDATE_LOCK, Service::UPDATE_LOCK_INSIDE));
    let own = spec.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let own = own.filter(|(name, _)| lock.is_none_or(|(lock, _)| lock != *name));
    own.chain(lock).map(|(name, value)| format!("{name}={value}")).collect()
}

/// What takes a newer engine.
fn judge(container: &Container, version: Version) -> Result<(), String> {
    let any = |says: fn(&Attachment) -> bool| container.networks().iter().any(says);
    let keys = [
        ("annotations", 43, !container.annotations.is_empty()),
        ("networks.….mac_address", 44, any(|attachment| attachment.mac_address.is_some())),
        ("networks.….gw_priority", 48, any(|attachment| attachment.gw_priority.is_some())),
        ("networks.….interface_name", 49, any(|attachment| attachment.interface_name.is_some())),
    ];
    keys.into_iter().try_for_each(|(key, minor, is_said)| match is_said {
        true => needs(key, minor, version),
        false => Ok(()),
    })
}

/// Errors: the engine is older than that.
pub(super) fn needs(key: &str, minor: u32, version: Version) -> Result<(), String> {
    let wanted = Version { major: 1, minor };
    match version >= wanted {
        true => Ok(()),
        false => {
            Err(format!("`{key}` needs engine API {wanted}, and this engine speaks {version}; leave it out"))
        }
    }
}

/// As an engine reads a signal.
fn signal(signal: Signal) -> String {
    let name = signal.to_string();
    if name.starts_with("SIG") { name } else { signal.0.to_string() }
}

/// What is run. To an engine an entrypoint of one empty word is none at all; an empty command without an
/// entrypoint would be the image's, so that is said anew.
fn command(container: &Container, of_image: &[String]) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let cmd = container.command.clone();
    let entrypoint = match &container.entrypoint {
        Some(words) if words.is_empty() => Some(vec![String::new()]),
        Some(words) => Some(words.clone()),
        None if cmd.as_ref().is_some_and(Vec::is_empty) => Some(of_image.to_vec()),
        None => None,
    };
    (entrypoint, cmd)
}

fn exposed(container: &Container) -> Vec<String> {
    let published = container.ports.iter().map(|port| format!("{}/{}", port.target, port.protocol.key()));
    let mut all: Vec<String> = container.expose.iter().cloned().chain(published).collect();
    all.sort();
    all.dedup();
    all
}

fn host(
    spec: &Service,
    container: &Container,
    slot: &SlotId,
    identity: &Identity,
    version: Version,
) -> Result<HostConfig, String> {
    let mut host = HostConfig {
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: container.logging.as_ref().map(|logging| HostConfigLogConfig {
            typ: logging.driver.clone(),
            config: said_map(&logging.options),
        }),
        group_add: said(&spec.group_add),
        oom_score_adj: spec.oom_score_adj.map(i64::from),
        cap_add: said(&container.cap_add),
        cap_drop: said(&container.cap_drop),
        privileged: container.privileged.then_some(true),
        readonly_rootfs: container.read_only.then_some(true),
        security_opt: said(&container.security_opt),
        sysctls: said_map(&container.sysctls),
        init: container.init,
        runtime: container.runtime.clone(),
        shm_size: container.shm_size.and_then(|size| i64::try_from(size).ok()),
        storage_opt: said_map(&container.storage_opt),
        tmpfs: said_map(&container.tmpfs),
        annotations: said_map(&container.annotations),
        ..HostConfig::default()
    };
    let peer = |name: &ServiceName| {
        identity.peers.get(name).cloned().unwrap_or_else(|| container.peer(&slot.app, name))
    };
    reached(&mut host, container, &peer);
    namespaces(&mut host, container, &peer);
    limits::put(&mut host, spec, container);
    mounts::put(&mut host, spec, container, identity, version)?;
    let from = container.volumes_from.iter().map(|from| match from {
        VolumesFrom::Service { name, read_only } => mode(peer(name), *read_only),
        VolumesFrom::Container { name, read_only } => mode(name.clone(), *read_only),
    });
    host.volumes_from = said(&from.collect::<Vec<_>>());
    Ok(host)
}

fn mode(name: String, read_only: bool) -> String {
    if read_only { format!("{name}:ro") } else { name }
}

/// Its network, its ports and what it knows by name.
fn reached(host: &mut HostConfig, container: &Container, peer: &dyn Fn(&ServiceName) -> String) {
    host.network_mode = Some(match &container.network {
        NetworkMode::Networks(all) => {
            all.first().map_or_else(|| "none".to_owned(), |first| first.network.name.clone())
        }
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Service(name) => format!("container:{}", peer(name)),
        NetworkMode::Container(name) => format!("container:{name}"),
        NetworkMode::Named(name) => name.clone(),
    });
    // Only the engine's own network has links of the container itself.
    if let NetworkMode::Named(_) = &container.network {
        let own = container.links.iter();
        let own = own.map(|(name, alias)| format!("{}:{alias}", peer(name)));
        let others = container.external_links.iter().map(|(name, alias)| format!("{name}:{alias}"));
        host.links = said(&own.chain(others).collect::<Vec<_>>());
    }
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &container.ports {
        let binding = PortBinding {
            host_ip: port.host_ip.clone(),
            host_port: Some(port.published.clone().unwrap_or_default()),
        };
        let key = format!("{}/{}", port.target, port.protocol.key());
        bindings.entry(key).or_default().get_or_insert_default().push(binding);
    }
    host.port_bindings = (!bindings.is_empty()).then_some(bindings);
    host.dns = said(&container.dns);
    host.dns_search = said(&container.dns_search);
    host.dns_options = said(&container.dns_options);
    let hosts = container.extra_hosts.iter();
    let hosts = hosts.flat_map(|(name, all)| all.iter().map(move |address| format!("{name}:{address}")));
    host.extra_hosts = said(&hosts.collect::<Vec<_>>());
}

fn namespaces(host: &mut HostConfig, container: &Container, peer: &dyn Fn(&ServiceName) -> String) {
    let known = &container.namespaces;
    // In an engine's words a service is its container.
    let shared = |word: &Option<String>| {
        let word = word.as_ref()?;
        let service = word.strip_prefix("service:").and_then(|name| name.parse().ok());
        Some(match service {
            Some(service) => format!("container:{}", peer(&service)),
            None => word.clone(),
        })
    };
    host.ipc_mode = shared(&known.ipc);
    host.pid_mode = shared(&known.pid);
    host.uts_mode.clone_from(&known.uts);
    host.userns_mode.clone_from(&known.user);
    host.cgroup_parent.clone_from(&known.cgroup_parent);
    host.cgroupns_mode = known.cgroup.as_deref().map(|word| match word {
        "host" => HostConfigCgroupnsModeEnum::HOST,
        _ => HostConfigCgroupnsModeEnum::PRIVATE,
    });
}

/// Without anything in it, nothing is said.
pub(super) fn said<T: Clone>(all: &[T]) -> Option<Vec<T>> {
    (!all.is_empty()).then(|| all.to_vec())
}

pub(super) fn said_map(all: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!all.is_empty()).then(|| all.clone().into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use upbeat_model::project::container::{ImageRef, Mount, MountKind, Network};

    const OLD: Version = Version { major: 1, minor: 41 };
    const NEW: Version = Version { major: 1, minor: 51 };

    fn service(says: impl FnOnce(&mut Container)) -> Service {
        let mut spec = Service::of_image(ImageRef::parse("web").unwrap());
        says(spec.container.as_mut().unwrap());
        spec
    }

    fn joined(names: &[&str]) -> NetworkMode {
        let attachment = |name: &&str| Attachment::to(Network::new(*name, format!("shop_{name}")));
        NetworkMode::Networks(names.iter().map(attachment).collect())
    }

    fn made(spec: &Service, identity: &Identity, version: Version) -> Result<Made, String> {
        create_body(spec, &"shop/web/1".parse().unwrap(), identity, version)
    }

    fn endpoints(made: &Made) -> Vec<String> {
        let networks = made.create.networking_config.as_ref().and_then(|all| all.endpoints_config.as_ref());
        let mut names: Vec<String> = networks.into_iter().flatten().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_old_engine_is_given_one_network_and_the_others_follow() {
        let spec = service(|container| {
            container.network = joined(&["a", "b"]);
            container.mac_address = Some("02:42:ac:11:65:43".to_owned());
        });
        let old = made(&spec, &Identity::default(), OLD).unwrap();
        assert_eq!((endpoints(&old), old.connect.len()), (vec!["shop_a".to_owned()], 1));
        assert_eq!(old.body()["MacAddress"], "02:42:ac:11:65:43");
        let new = made(&spec, &Identity::default(), NEW).unwrap();
        assert_eq!(endpoints(&new), ["shop_a", "shop_b"]);
        assert!(new.connect.is_empty() && new.body().get("MacAddress").is_none());
        let first = &new.body()["NetworkingConfig"]["EndpointsConfig"]["shop_a"];
        assert_eq!(first["MacAddress"], "02:42:ac:11:65:43");
    }

    type Says = fn(&mut Container);
    fn attached(container: &mut Container, says: fn(&mut Attachment)) {
        let mut attachment = Attachment::to(Network::new("a", "shop_a"));
        says(&mut attachment);
        container.network = NetworkMode::Networks(vec![attachment]);
    }
    fn mounted(container: &mut Container, kind: MountKind) {
        container.mounts = vec![Mount { target: "/data".to_owned(), read_only: true, kind }];
    }

    /// The key, the version it takes, what says it, and a part of the request.
    fn of_newer_engines() -> [(&'static str, &'static str, Says, &'static str); 7] {
        [
            (
                "annotations",
                "1.43",
                |c| c.annotations = [("a".into(), "b".into())].into(),
                "\"Annotations\":{\"a\":\"b\"}",
            ),
            (
                "networks.….mac_address",
                "1.44",
                |c| attached(c, |a| a.mac_address = Some("m".into())),
                "\"MacAddress\":\"m\"",
            ),
            (
                "networks.….gw_priority",
                "1.48",
                |c| attached(c, |a| a.gw_priority = Some(7)),
                "\"GwPriority\":7",
            ),
            (
                "networks.….interface_name",
                "1.49",
                |c| attached(c, |a| a.interface_name = Some("eth7".into())),
                "\"com.docker.network.endpoint.ifname\":\"eth7\"",
            ),
            (
                "volume.subpath",
                "1.45",
                |c| {
                    let (labels, volume) = (BTreeMap::new(), None);
                    let subpath = Some("a".to_owned());
                    mounted(c, MountKind::Volume { volume, labels, selinux: None, nocopy: false, subpath });
                },
                "\"Subpath\":\"a\"",
            ),
            (
                "type: image",
                "1.48",
                |c| mounted(c, MountKind::Image { source: "other".into(), subpath: None }),
                "\"Type\":\"image\"",
            ),
            (
                "bind.recursive",
                "1.44",
                |c| {
                    mounted(
                        c,
                        MountKind::Bind {
                            source: "/x".into(),
                            create_host_path: true,
                            propagation: None,
                            recursive: Some("readonly".into()),
                            selinux: None,
                        },
                    );
                },
                "\"CreateMountpoint\":true",
            ),
        ]
    }

    #[test]
    fn what_an_engine_has_no_word_for_is_refused_by_name_and_goes_to_a_newer_one() {
        for (key, version, says, told) in of_newer_engines() {
            let spec = service(says);
            let wanted = Version { major: 1, minor: version[2..].parse().unwrap() };
            let before = Version { major: 1, minor: wanted.minor - 1 };
            let refused = made(&spec, &Identity::default(), before).unwrap_err();
            assert_eq!(
                refused,
                format!("`{key}` needs engine API {version}, and this engine speaks {before}; leave it out")
            );
            let body = made(&spec, &Identity::default(), wanted).unwrap().body().to_string();
            assert!(body.contains(told), "{key}: {body}");
        }
    }

    #[test]
    fn what_is_run_is_what_the_file_says_and_else_what_the_image_does() {
        let identity = Identity { entrypoint: vec!["/entry".to_owned()], ..Identity::default() };
        let words = |text: &str| Some(text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let rows = [
            (None, None, (None, None)),
            (None, words("a b"), (None, words("a b"))),
            (words("x"), None, (words("x"), None)),
            // Without a word an engine would take the image's command.
            (words(""), words("a"), (Some(vec![String::new()]), words("a"))),
            (None, words(""), (words("/entry"), words(""))),
        ];
        for (entrypoint, command, told) in rows {
            let spec = service(|container| {
                (container.entrypoint, container.command) = (entrypoint, command);
            });
            let made = made(&spec, &identity, OLD).unwrap().create;
            assert_eq!((made.entrypoint, made.cmd), told);
        }
    }

    #[test]
    fn what_is_shared_is_that_of_the_container_that_is_there() {
        let spec = service(|container| {
            container.network = NetworkMode::Service("db".parse().unwrap());
            container.namespaces.pid = Some("service:db".to_owned());
            container.namespaces.ipc = Some("container:other".to_owned());
        });
        let peers = [("db".parse().unwrap(), "id".to_owned())].into();
        let host =
            made(&spec, &Identity { peers, ..Identity::default() }, OLD).unwrap().create.host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("container:id"));
        assert_eq!(
            (host.pid_mode.as_deref(), host.ipc_mode.as_deref()),
            (Some("container:id"), Some("container:other"))
        );
    }
}

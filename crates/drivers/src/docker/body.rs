//! The request that makes a container of a service.

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, RestartPolicy, RestartPolicyNameEnum};
use upbeat_model::SlotId;
use upbeat_model::project::Service;
use upbeat_model::project::container::Attachment;

use super::Version;
use super::networks::endpoint;

/// What it is made of.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The id of its image.
    pub image: String,
}

/// A request, and what has to follow it before the start.
#[derive(Clone, Debug)]
pub struct Made {
    /// The request.
    pub create: ContainerCreateBody,
    /// Networks it has to be put into besides.
    pub connect: Vec<Attachment>,
}

/// The request. Errors: what cannot be asked for of an engine of this version.
pub fn create_body(
    spec: &Service,
    slot: &SlotId,
    identity: &Identity,
    _version: Version,
) -> Result<Made, String> {
    let Some(container) = spec.container.as_deref() else { return Err("it is no container".to_owned()) };
    let (first, rest) = match container.networks() {
        [first, rest @ ..] => (Some(first), rest),
        [] => (None, &[][..]),
    };
    let binds = container.mounts.iter().filter_map(|mount| {
        use upbeat_model::project::container::MountKind;
        match &mount.kind {
            MountKind::Volume { volume: Some(volume), .. } => {
                Some(format!("{}:{}", volume.name, mount.target))
            }
            MountKind::Bind { source, .. } => Some(format!("{source}:{}", mount.target)),
            _ => None,
        }
    });
    let ports = container.ports.iter().map(|port| {
        let binding =
            bollard::models::PortBinding { host_ip: port.host_ip.clone(), host_port: port.published.clone() };
        (format!("{}/{}", port.target, port.protocol.key()), Some(vec![binding]))
    });
    let endpoints = first.map(|first| {
        let config = std::iter::once((first.network.name.clone(), endpoint(first, &slot.service))).collect();
        bollard::models::NetworkingConfig { endpoints_config: Some(config) }
    });
    let create = ContainerCreateBody {
        image: Some(identity.image.clone()),
        cmd: container.command.clone(),
        entrypoint: container.entrypoint.clone(),
        tty: Some(spec.tty),
        env: Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        stop_signal: container.stop_signal.map(|signal| signal.0.to_string()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        exposed_ports: Some(
            container.ports.iter().map(|port| format!("{}/{}", port.target, port.protocol.key())).collect(),
        ),
        host_config: Some(HostConfig {
            network_mode: Some(first.map_or_else(|| "none".to_owned(), |first| first.network.name.clone())),
            log_config: container.logging.as_ref().map(|logging| bollard::models::HostConfigLogConfig {
                typ: logging.driver.clone(),
                config: None,
            }),
            binds: Some(binds.collect()),
            port_bindings: Some(ports.collect()),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            ..HostConfig::default()
        }),
        networking_config: endpoints,
        ..ContainerCreateBody::default()
    };
    Ok(Made { create, connect: rest.to_vec() })
}

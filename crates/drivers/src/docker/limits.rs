//! Limits and devices of a container, in the words of an engine.

use bollard::models::{
    DeviceMapping, DeviceRequest, HostConfig, ResourcesBlkioWeightDevice, ResourcesUlimits, ThrottleDevice,
};
use upbeat_model::project::Service;
use upbeat_model::project::container::{BlockRate, Container};

use super::body::{said, said_map};

/// Of a processor: the engine counts in billionths, we in thousandths.
const NANOS: u64 = 1_000_000;

pub(super) fn put(host: &mut HostConfig, spec: &Service, container: &Container) {
    let number = |number: Option<u64>| number.and_then(|number| i64::try_from(number).ok());
    let (all, own) = (&spec.resources, &container.limits);
    host.nano_cpus = number(all.cpus.map(|cpus| cpus.saturating_mul(NANOS)));
    host.memory = number(all.memory);
    host.memory_reservation = number(all.memory_reservation);
    host.pids_limit = number(all.pids);
    host.cpu_shares = own.cpu_shares;
    host.cpu_period = own.cpu_period;
    host.cpu_quota = own.cpu_quota;
    host.cpu_realtime_period = own.cpu_rt_period;
    host.cpu_realtime_runtime = own.cpu_rt_runtime;
    host.cpuset_cpus.clone_from(&own.cpuset);
    host.memory_swap = own.memory_swap;
    host.memory_swappiness = own.swappiness;
    host.oom_kill_disable = own.oom_kill_disable;
    let ulimits = spec.ulimits.iter().map(|(name, limit)| ResourcesUlimits {
        name: Some(name.clone()),
        soft: Some(limit.soft),
        hard: Some(limit.hard),
    });
    host.ulimits = said(&ulimits.collect::<Vec<_>>());
    block_io(host, container);
    devices(host, container);
}

fn block_io(host: &mut HostConfig, container: &Container) {
    let Some(block) = &container.limits.block_io else { return };
    let rates = |rates: &[BlockRate]| {
        let rate = |rate: &BlockRate| ThrottleDevice {
            path: Some(rate.path.clone()),
            rate: Some(i64::try_from(rate.rate).unwrap_or(i64::MAX)),
        };
        said(&rates.iter().map(rate).collect::<Vec<_>>())
    };
    host.blkio_weight = block.weight;
    let weights = block.weight_device.iter().map(|weight| ResourcesBlkioWeightDevice {
        path: Some(weight.path.clone()),
        weight: Some(usize::from(weight.weight)),
    });
    host.blkio_weight_device = said(&weights.collect::<Vec<_>>());
    host.blkio_device_read_bps = rates(&block.device_read_bps);
    host.blkio_device_read_iops = rates(&block.device_read_iops);
    host.blkio_device_write_bps = rates(&block.device_write_bps);
    host.blkio_device_write_iops = rates(&block.device_write_iops);
}

fn devices(host: &mut HostConfig, container: &Container) {
    let devices = container.devices.iter().map(|device| DeviceMapping {
        path_on_host: Some(device.source.clone()),
        path_in_container: Some(device.target.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    });
    host.devices = said(&devices.collect::<Vec<_>>());
    host.device_cgroup_rules = said(&container.device_cgroup_rules);
    let requests = container.device_requests.iter().map(|request| DeviceRequest {
        driver: request.driver.clone(),
        count: request.count,
        device_ids: said(&request.device_ids),
        // The engine takes several lists, of which one has to hold; all words of ours have to.
        capabilities: said(&request.capabilities).map(|all| vec![all]),
        options: said_map(&request.options),
    });
    host.device_requests = said(&requests.collect::<Vec<_>>());
}

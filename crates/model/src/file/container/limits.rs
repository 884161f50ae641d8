//! Reads limits and devices that only containers have.

use super::{flag, number, pairs, text, texts};
use crate::file::scalar;
use crate::file::tree::{Node, Value};
use crate::project::container::{
    BlockIo, BlockRate, BlockWeight, Container, Device, DeviceRequest, HostLimits,
};

/// What a driver of the engine gives out by a name of its own (Container Device Interface).
const CDI: &str = "cdi";

pub(super) fn read(service: &Node<'_>, found: &mut Container) {
    let micros = |name: &str| micros(&text(service, name)?);
    found.limits = HostLimits {
        cpu_shares: number(service, "cpu_shares"),
        cpu_period: micros("cpu_period"),
        cpu_quota: micros("cpu_quota"),
        cpu_rt_period: micros("cpu_rt_period"),
        cpu_rt_runtime: micros("cpu_rt_runtime"),
        cpuset: text(service, "cpuset"),
        memory_swap: text(service, "memswap_limit").and_then(|text| match text.as_str() {
            "-1" => Some(-1),
            text => i64::try_from(scalar::bytes(text).ok()?).ok(),
        }),
        swappiness: number(service, "mem_swappiness"),
        oom_kill_disable: flag(service, "oom_kill_disable"),
        block_io: service.get("blkio_config").map(|node| block_io(node)),
    };
    found.device_cgroup_rules = texts(service.get("device_cgroup_rules"));
    devices(service.get("devices"), found);
    let reserved = ["resources", "reservations", "devices"];
    let reserved = reserved.into_iter().try_fold(service.get("deploy"), |node, name| Some(node?.get(name)));
    found.device_requests.extend(items(reserved.flatten()).iter().map(|item| request(item)));
    let gpus = items(service.get("gpus")).iter().map(|item| {
        let mut request = request(item);
        if !request.capabilities.iter().any(|capability| capability == "gpu") {
            request.capabilities.push("gpu".to_owned());
        }
        request
    });
    found.device_requests.extend(gpus);
}

/// A number is of microseconds.
fn micros(text: &str) -> Option<i64> {
    match text.parse::<i64>() {
        Ok(number) => Some(number),
        Err(_) => i64::try_from(scalar::micros(text).ok()?).ok(),
    }
}

fn items<'a>(node: Option<&Node<'a>>) -> &'a [&'a Node<'a>] {
    match node.map(|node| node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

/// Files of this machine, and what drivers of the engine give out by name.
fn devices(node: Option<&Node<'_>>, found: &mut Container) {
    let mut named = Vec::new();
    for item in items(node) {
        let Some(source) = text(item, "source") else { continue };
        if !source.starts_with('/') && source.contains('=') {
            named.push(source);
            continue;
        }
        found.devices.push(Device {
            target: text(item, "target").unwrap_or_else(|| source.clone()),
            permissions: text(item, "permissions").unwrap_or_else(|| "rwm".to_owned()),
            source,
        });
    }
    if !named.is_empty() {
        let driver = Some(CDI.to_owned());
        found.device_requests.push(DeviceRequest { driver, device_ids: named, ..Default::default() });
    }
}

fn request(node: &Node<'_>) -> DeviceRequest {
    let device_ids = texts(node.get("device_ids"));
    let count = match text(node, "count").as_deref() {
        Some("all") => Some(-1),
        Some(count) => count.parse().ok(),
        // All, where nothing says which.
        None => device_ids.is_empty().then_some(-1),
    };
    DeviceRequest {
        driver: text(node, "driver"),
        count,
        device_ids,
        capabilities: texts(node.get("capabilities")),
        options: pairs(node.get("options")),
    }
}

fn block_io(node: &Node<'_>) -> BlockIo {
    let rates = |name: &str| {
        let rate = |item: &&Node<'_>| {
            Some(BlockRate { path: text(item, "path")?, rate: scalar::bytes(&text(item, "rate")?).ok()? })
        };
        items(node.get(name)).iter().filter_map(rate).collect()
    };
    let weight = |node: &Node<'_>| text(node, "weight")?.parse::<u16>().ok();
    let weights = items(node.get("weight_device")).iter();
    BlockIo {
        weight: weight(node),
        weight_device: weights
            .filter_map(|item| Some(BlockWeight { path: text(item, "path")?, weight: weight(item)? }))
            .collect(),
        device_read_bps: rates("device_read_bps"),
        device_read_iops: rates("device_read_iops"),
        device_write_bps: rates("device_write_bps"),
        device_write_iops: rates("device_write_iops"),
    }
}

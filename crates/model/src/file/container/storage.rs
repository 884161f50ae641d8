//! Reads what is mounted into a container.

use super::{bytes, flag, pairs, text, texts};
use crate::file::place::Span;
use crate::file::read::At;
use crate::file::report::Problem;
use crate::file::scalar;
use crate::file::service::Reader;
use crate::file::tree::{Node, Value};
use crate::ids::{AppName, ServiceName};
use crate::project::container::{Container, Mount, MountKind, Volume, VolumesFrom};

pub(super) fn read<'a>(
    service: &Node<'a>,
    at: &At<'_>,
    reader: &mut Reader<'_, '_, 'a>,
    found: &mut Container,
) {
    if let Some(Value::List(items)) = service.get("volumes").map(|node| node.value) {
        let mut is_good = true;
        for (number, item) in items.iter().enumerate() {
            if let Some((span, what, hint)) = wrong(item) {
                is_good = false;
                reader.report.error(span, || {
                    Problem::new(format!("`{at}.volumes[{}]` {what}", number + 1)).hint(hint.to_owned())
                });
            }
        }
        // Their numbers are their places in the file.
        if is_good {
            found.mounts = items.iter().filter_map(|item| mount(item, reader)).collect();
        }
    }
    let tmpfs = texts(service.get("tmpfs"));
    found.tmpfs = (tmpfs.iter())
        .map(|text| text.split_once(':').unwrap_or((text, "")))
        .map(|(target, options)| (target.to_owned(), options.to_owned()))
        .collect();
    found.volumes_from = texts(service.get("volumes_from")).iter().filter_map(|text| from(text)).collect();
    found.shm_size = bytes(service, "shm_size");
    found.storage_opt = pairs(service.get("storage_opt"));
}

/// What only the form of a mount shows: where, what, and what to do.
fn wrong(node: &Node<'_>) -> Option<(Span, String, &'static str)> {
    let kind = node.get("type")?.as_text()?;
    let has_source = node.get("source").is_some_and(|source| !source.is_null());
    match (kind, has_source) {
        ("bind" | "image", false) => {
            return Some((
                node.span,
                format!("has no `source`, and is of `type: {kind}`"),
                "say what is mounted",
            ));
        }
        ("tmpfs", true) => {
            return Some((node.span, "has a `source`, and is of `type: tmpfs`".to_owned(), "take it out"));
        }
        _ => {}
    }
    let entries = node.entries().iter().filter(|entry| !entry.value.is_null());
    for entry in entries.filter(|entry| matches!(entry.key.text, "bind" | "volume" | "tmpfs" | "image")) {
        // A volume may have a label of SELinux, which the engine gives through `bind`.
        let is_label = kind == "volume"
            && entry.key.text == "bind"
            && entry.value.entries().iter().all(|entry| entry.key.text == "selinux");
        if entry.key.text != kind && !is_label {
            let what = format!("has `{}`, and is of `type: {kind}`", entry.key.text);
            return Some((entry.key.span, what, "take one of the two out"));
        }
    }
    None
}

fn mount<'a>(node: &Node<'a>, reader: &Reader<'_, '_, 'a>) -> Option<Mount> {
    let below = |key: &str, name: &str| node.get(key).and_then(|node| text(node, name));
    let source = node.get("source").filter(|source| source.as_text().is_some());
    let selinux = below("bind", "selinux");
    let kind = match text(node, "type")?.as_str() {
        "bind" => MountKind::Bind {
            source: source.and_then(|node| Some(reader.absolute(node.span, node.as_text()?)))?,
            create_host_path: node
                .get("bind")
                .and_then(|bind| flag(bind, "create_host_path"))
                .unwrap_or(false),
            propagation: below("bind", "propagation"),
            recursive: below("bind", "recursive"),
            selinux,
        },
        "volume" => MountKind::Volume {
            volume: text(node, "source").map(|key| volume(reader.app, reader.root, &key)),
            labels: pairs(node.get("volume").and_then(|volume| volume.get("labels"))),
            nocopy: node.get("volume").and_then(|volume| flag(volume, "nocopy")).unwrap_or(false),
            subpath: below("volume", "subpath"),
            selinux,
        },
        "tmpfs" => MountKind::Tmpfs {
            size: node.get("tmpfs").and_then(|tmpfs| bytes(tmpfs, "size")),
            mode: below("tmpfs", "mode").and_then(|mode| scalar::mode(&mode).ok()),
        },
        "image" => MountKind::Image { source: text(node, "source")?, subpath: below("image", "subpath") },
        _ => return None,
    };
    Some(Mount { target: text(node, "target")?, read_only: flag(node, "read_only").unwrap_or(false), kind })
}

/// A volume as the engine knows it.
fn volume(app: &AppName, root: &Node<'_>, key: &str) -> Volume {
    let own = || format!("{app}_{key}");
    let Some(node) = root.get("volumes").and_then(|volumes| volumes.get(key)) else {
        return Volume::new(key, own());
    };
    let external = flag(node, "external").unwrap_or(false);
    let name = text(node, "name").unwrap_or_else(|| if external { key.to_owned() } else { own() });
    let found = Volume { external, ..Volume::new(key, name) };
    if external {
        return found;
    }
    let (driver, driver_opts) = (text(node, "driver"), pairs(node.get("driver_opts")));
    Volume { driver, driver_opts, labels: pairs(node.get("labels")), ..found }
}

/// `[container:]name[:ro]`.
pub(super) fn from(text: &str) -> Option<VolumesFrom> {
    let (rest, read_only) = match text.rsplit_once(':') {
        Some((rest, "ro")) => (rest, true),
        Some((rest, "rw")) => (rest, false),
        _ => (text, false),
    };
    Some(match rest.strip_prefix(super::network::CONTAINER) {
        Some(name) => VolumesFrom::Container { name: name.to_owned(), read_only },
        None => VolumesFrom::Service { name: ServiceName::new(rest).ok()?, read_only },
    })
}

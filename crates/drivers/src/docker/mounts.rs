//! What is mounted into a container, in the words of an engine.
//!
//! An engine has two of them. The old one, `source:target:options`, makes a directory that is not there and
//! labels for SELinux; the new one does all else.

use bollard::models::{
    HostConfig, Mount as Body, MountBindOptions, MountBindOptionsPropagationEnum as Propagation,
    MountImageOptions, MountTmpfsOptions, MountType, MountVolumeOptions,
};
use upbeat_model::project::Service;
use upbeat_model::project::container::{Container, Mount, MountKind};

use super::Version;
use super::body::{Identity, needs, said};

/// One of the two.
enum Told {
    Old(String),
    New(Box<Body>),
}

pub(super) fn put(
    host: &mut HostConfig,
    spec: &Service,
    container: &Container,
    identity: &Identity,
    version: Version,
) -> Result<(), String> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for mount in &container.mounts {
        match told(mount, version)? {
            Told::Old(text) => old.push(text),
            Told::New(body) => new.push(*body),
        }
    }
    for (target, name) in &identity.anonymous {
        let is_it = |body: &&mut Body| body.target.as_deref().map(bare) == Some(bare(target));
        match new.iter_mut().find(is_it) {
            Some(body) => body.source = Some(name.clone()),
            None => new.push(Body {
                typ: Some(MountType::VOLUME),
                source: Some(name.clone()),
                target: Some(target.clone()),
                ..Body::default()
            }),
        }
    }
    for file in &spec.files {
        let Some(target) = &file.target else { continue };
        new.push(Body {
            typ: Some(MountType::BIND),
            source: Some(identity.files.join(&file.name).to_string_lossy().into_owned()),
            target: Some(target.clone()),
            read_only: Some(true),
            ..Body::default()
        });
    }
    if let Some(lock) = &identity.update_lock {
        new.push(Body {
            typ: Some(MountType::BIND),
            source: Some(lock.to_string_lossy().into_owned()),
            target: Some(Service::UPDATE_LOCK_INSIDE.to_owned()),
            read_only: Some(true),
            ..Body::default()
        });
    }
    (host.binds, host.mounts) = (said(&old), said(&new));
    Ok(())
}

fn bare(target: &str) -> &str {
    target.trim_end_matches('/')
}

fn told(mount: &Mount, version: Version) -> Result<Told, String> {
    let mut body = Body {
        target: Some(mount.target.clone()),
        read_only: mount.read_only.then_some(true),
        ..Body::default()
    };
    match &mount.kind {
        MountKind::Bind { .. } => return bind(mount, body, version),
        MountKind::Volume { volume, labels, nocopy, subpath, selinux } => {
            if subpath.is_some() {
                needs("volume.subpath", 45, version)?;
            }
            let name = volume.as_ref().map(|volume| volume.name.clone());
            if let Some(label) = selinux {
                let Some(name) = name.filter(|_| subpath.is_none()) else {
                    return Err(format!(
                        "the mount at `{}` has a label of SELinux, which goes with a named volume and no \
                         `subpath`; take one of the two out",
                        mount.target
                    ));
                };
                let nocopy = nocopy.then_some("nocopy");
                return Ok(Told::Old(line(&name, mount, [Some(label.as_str()), nocopy])));
            }
            (body.typ, body.source) = (Some(MountType::VOLUME), name);
            let options = MountVolumeOptions {
                no_copy: nocopy.then_some(true),
                labels: super::body::said_map(labels),
                subpath: subpath.clone(),
                driver_config: None,
            };
            body.volume_options = (options != MountVolumeOptions::default()).then_some(options);
        }
        MountKind::Tmpfs { size, mode } => {
            body.typ = Some(MountType::TMPFS);
            body.tmpfs_options = (size.is_some() || mode.is_some()).then(|| MountTmpfsOptions {
                size_bytes: size.and_then(|size| i64::try_from(size).ok()),
                mode: mode.map(i64::from),
                options: None,
            });
        }
        MountKind::Image { source, subpath } => {
            needs("type: image", 48, version)?;
            (body.typ, body.source) = (Some(MountType::IMAGE), Some(source.clone()));
            body.image_options =
                subpath.as_ref().map(|subpath| MountImageOptions { subpath: Some(subpath.clone()) });
        }
    }
    Ok(Told::New(Box::new(body)))
}

fn bind(mount: &Mount, mut body: Body, version: Version) -> Result<Told, String> {
    let MountKind::Bind { source, create_host_path, propagation, recursive, selinux } = &mount.kind else {
        return Ok(Told::New(Box::new(body)));
    };
    let has_colon = source.contains(':') || mount.target.contains(':');
    if let Some(label) = selinux {
        if recursive.is_some() || has_colon {
            return Err(format!(
                "the mount at `{}` has a label of SELinux, with which an engine takes no `recursive` and no \
                 `:` in a path; take one of the two out",
                mount.target
            ));
        }
        return Ok(Told::Old(line(source, mount, [Some(label.as_str()), propagation.as_deref()])));
    }
    let is_plain = recursive.is_none() && !has_colon;
    if *create_host_path && is_plain {
        return Ok(Told::Old(line(source, mount, [propagation.as_deref(), None])));
    }
    if *create_host_path {
        needs("bind.create_host_path beside `recursive` or a `:`", 42, version)?;
    }
    if matches!(recursive.as_deref(), Some("writable" | "readonly")) {
        needs("bind.recursive", 44, version)?;
    }
    let options = MountBindOptions {
        propagation: propagation.as_deref().map(propagation_of),
        non_recursive: (recursive.as_deref() == Some("disabled")).then_some(true),
        create_mountpoint: create_host_path.then_some(true),
        read_only_non_recursive: (recursive.as_deref() == Some("writable")).then_some(true),
        read_only_force_recursive: (recursive.as_deref() == Some("readonly")).then_some(true),
    };
    (body.typ, body.source) = (Some(MountType::BIND), Some(source.clone()));
    body.bind_options = (options != MountBindOptions::default()).then_some(options);
    Ok(Told::New(Box::new(body)))
}

/// `source:target:options`.
fn line(source: &str, mount: &Mount, options: [Option<&str>; 2]) -> String {
    let options: Vec<&str> =
        mount.read_only.then_some("ro").into_iter().chain(options.into_iter().flatten()).collect();
    let sign = if options.is_empty() { "" } else { ":" };
    format!("{source}:{}{sign}{}", mount.target, options.join(","))
}

fn propagation_of(word: &str) -> Propagation {
    match word {
        "private" => Propagation::PRIVATE,
        "shared" => Propagation::SHARED,
        "rshared" => Propagation::RSHARED,
        "slave" => Propagation::SLAVE,
        "rslave" => Propagation::RSLAVE,
        _ => Propagation::RPRIVATE,
    }
}

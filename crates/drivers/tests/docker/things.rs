//! Networks and volumes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use upbeat_drivers::docker::{PrepareError, Progress, labels};
use upbeat_model::Millis;
use upbeat_model::project::Signal;
use upbeat_model::project::container::{ImageRef, Mount, MountKind, Volume};
use upbeat_model::{Attempt, project::Service};
use upbeat_needs::{Need, Test};

use crate::rig::{Rig, dies_at, of, run, wish};

pub(crate) const CASES: &[Test] = &[
    Test::needing(&[Need::DOCKER], "networks_are_made_joined_and_go_when_nobody_uses_them", networks),
    Test::needing(&[Need::DOCKER], "a_network_goes_with_the_last_that_leaves_it", left),
    Test::needing(
        &[Need::DOCKER],
        "a_network_is_left_also_when_the_daemon_dies_in_between",
        left_by_the_dead,
    ),
    Test::needing(
        &[Need::DOCKER],
        "a_network_that_a_stranger_is_in_stays_and_is_taken_when_that_is_asked_for",
        with_a_stranger,
    ),
    Test::needing(&[Need::DOCKER], "of_two_networks_of_a_name_one_stays", doubled),
    Test::needing(&[Need::DOCKER], "a_network_that_differs_is_made_anew_when_it_is_free", anew),
    Test::needing(&[Need::DOCKER], "networks_and_volumes_of_others_are_found_and_never_taken", external),
    Test::needing(
        &[Need::DOCKER],
        "volumes_without_a_name_are_kept_from_one_container_to_the_next",
        without_a_name,
    ),
    Test::needing(&[Need::DOCKER], "volumes_are_made_kept_and_go_when_that_is_asked_for", volumes),
];

fn with_volume(spec: &mut Service, volume: &Volume) {
    let kind = MountKind::of_volume(volume.clone());
    of(spec).mounts = vec![Mount { target: "/data".to_owned(), read_only: false, kind }];
}

fn is_there(rig: &Rig, what: &str, name: &str) -> bool {
    rig.docker.call("GET", &format!("/{what}/{name}"), &serde_json::Value::Null).0 == 200
}

fn networks() {
    run(async |rig| {
        let (front, back) = (rig.network("front"), rig.network("back"));
        let mut both = rig.lasting();
        rig.in_networks(&mut both, &[&front, &back]);
        let mut one = rig.lasting();
        rig.in_networks(&mut one, &[&front]);
        let (a, b) = (rig.slot("a"), rig.slot("b"));
        let id = rig.up(&a, 1, &both).await;
        rig.prepare(&b, &one).await.unwrap();
        let there = rig.docker.inspect(&id).unwrap();
        for network in [&front, &back] {
            let joined = &there["NetworkSettings"]["Networks"][&network.name];
            assert!(joined["IPAddress"].as_str().is_some_and(|address| !address.is_empty()), "{joined}");
            let made = rig.docker.get(&format!("/networks/{}", network.name));
            assert_eq!(made["Labels"][labels::DIGEST], network.digest());
        }
        rig.engine.stop(&a, Attempt(1), Signal::KILL, Millis(0)).await.unwrap();
        let names = [front.name.clone(), back.name.clone(), "no-such-network".to_owned()];
        let stays = rig.engine.remove(&a, &names).await.unwrap_err().to_string();
        assert!(stays.contains(&front.name) && stays.contains("is still used by"), "{stays}");
        assert!(is_there(rig, "networks", &front.name), "another slot is in it, though it does not run");
        assert!(!is_there(rig, "networks", &back.name));
        rig.engine.remove(&b, &names).await.unwrap();
        assert!(!is_there(rig, "networks", &front.name));
    });
}

fn left() {
    run(async |rig| {
        let (old, new) = (rig.network("old"), rig.network("new"));
        let (a, b) = (rig.slot("a"), rig.slot("b"));
        let (mut before, mut after) = (rig.lasting(), rig.lasting());
        rig.in_networks(&mut before, &[&old]);
        rig.in_networks(&mut after, &[&new]);
        rig.up(&a, 1, &before).await;
        rig.up(&b, 1, &before).await;
        let moved = rig.prepare(&a, &after).await.unwrap().container;
        rig.engine.stop(&a, Attempt(1), Signal::KILL, Millis(0)).await.unwrap();
        rig.engine.start(&a, Attempt(2), &moved).await.unwrap();
        assert!(is_there(rig, "networks", &old.name), "another runs in it");
        rig.engine.stop(&b, Attempt(1), Signal::KILL, Millis(0)).await.unwrap();
        // That has ended, and is replaced as soon as there is another wish.
        rig.prepare(&b, &after).await.unwrap();
        assert!(!is_there(rig, "networks", &old.name));
        assert!(is_there(rig, "networks", &new.name));
        // As one that is started.
        let back = rig.prepare(&a, &before).await.unwrap().container;
        rig.engine.remove(&b, &[]).await.unwrap();
        rig.engine.stop(&a, Attempt(2), Signal::KILL, Millis(0)).await.unwrap();
        rig.engine.start(&a, Attempt(3), &back).await.unwrap();
        assert!(is_there(rig, "networks", &old.name) && !is_there(rig, "networks", &new.name));
    });
}

fn anew() {
    run(async |rig| {
        let slot = rig.slot("web");
        let mut network = rig.network("front");
        let mut spec = rig.lasting();
        rig.in_networks(&mut spec, &[&network]);
        rig.up(&slot, 1, &spec).await;
        let before = rig.docker.get(&format!("/networks/{}", network.name))["Id"].clone();
        network.internal = true;
        let mut other = spec.clone();
        rig.in_networks(&mut other, &[&network]);
        let held = rig.prepare(&slot, &other).await;
        let by = vec![format!("{}-web-1", rig.name)];
        assert_eq!(held, Err(PrepareError::HeldUp { network: network.name.clone(), by }));
        rig.engine.stop(&slot, Attempt(1), Signal::KILL, Millis(0)).await.unwrap();
        rig.engine.remove(&slot, &[]).await.unwrap();
        rig.up(&slot, 2, &other).await;
        let after = rig.docker.get(&format!("/networks/{}", network.name));
        assert_eq!(after["Internal"], true);
        assert_ne!(after["Id"], before);
    });
}

fn external() {
    run(async |rig| {
        let slot = rig.slot("web");
        let mut network = rig.network("front");
        network.external = true;
        let mut volume = Volume::new("data", format!("{}_data", rig.name));
        volume.external = true;
        let mut spec = rig.lasting();
        rig.in_networks(&mut spec, &[&network]);
        with_volume(&mut spec, &volume);
        let refused = |said: Result<_, PrepareError>, what: &str| match said {
            Err(PrepareError::Refused(why)) => {
                assert!(why.contains(&format!("docker {what} create")), "{why}")
            }
            said => panic!("{said:?}"),
        };
        refused(rig.prepare(&slot, &spec).await, "network");
        let labels = serde_json::json!({ "test": rig.name });
        rig.docker.post("/networks/create", &serde_json::json!({ "Name": network.name, "Labels": labels }));
        refused(rig.prepare(&slot, &spec).await, "volume");
        rig.docker.post("/volumes/create", &serde_json::json!({ "Name": volume.name, "Labels": labels }));
        rig.prepare(&slot, &spec).await.unwrap();
        // Without the word they are another's: a volume is used and said, a network refused.
        volume.external = false;
        with_volume(&mut spec, &volume);
        let notes = std::sync::Mutex::new(Vec::new());
        rig.engine
            .prepare(wish(&slot, &spec), |progress| notes.lock().unwrap().push(progress))
            .await
            .unwrap();
        let notes = notes.into_inner().unwrap();
        assert!(
            matches!(&notes[..], [Progress::Note(note)] if note.contains("not of this app")),
            "{notes:?}"
        );
        network.external = false;
        let mut ours = spec.clone();
        rig.in_networks(&mut ours, &[&network]);
        let Err(PrepareError::Refused(why)) = rig.prepare(&slot, &ours).await else { panic!() };
        assert!(why.contains("external: true"), "{why}");
        rig.engine.remove(&slot, std::slice::from_ref(&network.name)).await.unwrap();
        assert_eq!(rig.engine.remove_volumes(&slot.app).await.unwrap(), Vec::<String>::new());
        assert!(is_there(rig, "networks", &network.name) && is_there(rig, "volumes", &volume.name));
    });
}

fn with_a_stranger() {
    run(async |rig| {
        let (network, slot) = (rig.network("front"), rig.slot("web"));
        let mut spec = rig.lasting();
        rig.in_networks(&mut spec, &[&network]);
        rig.prepare(&slot, &spec).await.unwrap();
        // It does not even run.
        let stranger = format!("{}-stranger", rig.name);
        let body = serde_json::json!({
            "Image": spec.container.as_ref().unwrap().image.full(), "Cmd": ["true"],
            "Labels": { "test": rig.name }, "HostConfig": { "NetworkMode": network.name },
        });
        let made = rig.docker.post(&format!("/containers/create?name={stranger}"), &body);
        rig.engine.remove(&slot, std::slice::from_ref(&network.name)).await.unwrap();
        let stays = BTreeMap::from([(network.name.clone(), stranger)]);
        assert_eq!(rig.engine.remove_networks(&slot.app).await.unwrap(), (Vec::new(), stays));
        assert!(is_there(rig, "networks", &network.name));
        rig.docker.call("DELETE", &format!("/containers/{}", made["Id"].as_str().unwrap()), &Value::Null);
        let gone = vec![network.name.clone()];
        assert_eq!(rig.engine.remove_networks(&slot.app).await.unwrap(), (gone, BTreeMap::new()));
        assert!(!is_there(rig, "networks", &network.name));
        assert_eq!(rig.engine.remove_networks(&slot.app).await.unwrap(), Default::default());
    });
}

fn volumes() {
    run(async |rig| {
        let slot = rig.slot("web");
        let volume = Volume::new("data", format!("{}_data", rig.name));
        let mut spec = rig.shell("echo kept >>/data/file; test $(wc -l </data/file) = $N");
        with_volume(&mut spec, &volume);
        for n in 1..=2 {
            spec.environment.insert("N".to_owned(), n.to_string());
            rig.up(&slot, n, &spec).await;
            let event = rig.event().await;
            assert!(format!("{event:?}").contains("Code(0)"), "{event:?}");
        }
        rig.engine.remove(&slot, &[]).await.unwrap();
        assert!(is_there(rig, "volumes", &volume.name));
        let removed = rig.engine.remove_volumes(&slot.app).await.unwrap();
        assert_eq!(removed, [volume.name.as_str()]);
        assert!(!is_there(rig, "volumes", &volume.name));
    });
}

/// What an image, or a mount without a source, asks for: a database whose file names no volume.
fn without_a_name() {
    run(async |rig| {
        let slot = rig.slot("web");
        let mut spec = rig.shell(
            "echo kept >>/data/file; echo kept >>/own/file; wc -l </data/file >&2; exit $(wc -l </own/file)",
        );
        let plain = rig.up(&slot, 1, &spec).await;
        rig.event().await;
        let path = format!("/commit?container={plain}&repo={}&changes=VOLUME%20%2Fdata%2F", rig.name);
        rig.docker.post(&path, &serde_json::json!({}));
        let image = rig.docker.named(&rig.name);
        of(&mut spec).image = ImageRef::parse(&rig.name).unwrap();
        let kind = MountKind::Volume {
            volume: None,
            labels: BTreeMap::new(),
            nocopy: false,
            subpath: None,
            selinux: None,
        };
        of(&mut spec).mounts = vec![Mount { target: "/own".to_owned(), read_only: false, kind }];
        let mut last = BTreeSet::new();
        for n in 1..=3 {
            spec.environment.insert("N".to_owned(), n.to_string());
            let id = rig.up(&slot, n + 1, &spec).await;
            let event = rig.event().await;
            assert!(
                format!("{event:?}").contains(&format!("Code({n})")),
                "what was there before is there: {event:?}"
            );
            let mounts = rig.docker.inspect(&id).unwrap()["Mounts"].clone();
            let names: BTreeSet<String> = mounts
                .as_array()
                .unwrap()
                .iter()
                .map(|mount| mount["Name"].as_str().unwrap().to_owned())
                .collect();
            assert!(names.len() == 2 && (n == 1 || names == last), "{mounts}");
            last = names;
        }
        rig.engine.remove(&slot, &[]).await.unwrap();
        assert!(!last.iter().any(|name| is_there(rig, "volumes", name)), "they go with the slot");
        drop(image);
    });
}

/// The container that was in it has gone, and with it what said so.
fn left_by_the_dead() {
    run(async |rig| {
        let (old, new) = (rig.network("old"), rig.network("new"));
        let slot = rig.slot("web");
        let mut spec = rig.lasting();
        rig.in_networks(&mut spec, &[&old]);
        rig.up(&slot, 1, &spec).await;
        rig.in_networks(&mut spec, &[&new]);
        let prepared = rig.prepare(&slot, &spec).await.unwrap();
        rig.engine.stop(&slot, Attempt(1), Signal::KILL, Millis(0)).await.unwrap();
        dies_at(Some("container_removed"));
        let (engine, of) = (rig.engine.clone(), slot.clone());
        let task = tokio::spawn(async move { engine.start(&of, Attempt(2), &prepared.container).await });
        assert!(task.await.unwrap_err().is_panic());
        assert!(is_there(rig, "networks", &old.name));
        rig.be_another();
        rig.up(&slot, 2, &spec).await;
        assert!(!is_there(rig, "networks", &old.name) && is_there(rig, "networks", &new.name));
    });
}

/// A daemon died while it asked for one.
fn doubled() {
    run(async |rig| {
        let network = rig.network("twice");
        let slot = rig.slot("web");
        let mut spec = rig.lasting();
        rig.in_networks(&mut spec, &[&network]);
        let prepared = rig.prepare(&slot, &spec).await.unwrap();
        let labels = rig.docker.get(&format!("/networks/{}", network.name))["Labels"].clone();
        let same = serde_json::json!({ "Name": network.name, "Labels": labels });
        let count = |rig: &Rig| {
            let all = rig.docker.get("/networks");
            all.as_array().unwrap().iter().filter(|one| one["Name"] == network.name).count()
        };
        rig.docker.post("/networks/create", &same);
        assert_eq!(count(rig), 2);
        // The engine itself starts nothing in one of them.
        rig.engine.start(&slot, Attempt(1), &prepared.container).await.unwrap();
        assert_eq!(count(rig), 1);
        // That which is used stays.
        rig.docker.post("/networks/create", &same);
        assert_eq!(rig.prepare(&slot, &spec).await.unwrap(), prepared);
        assert_eq!(count(rig), 1);
        let joined = rig.docker.inspect(&prepared.container).unwrap();
        let there = rig.docker.get(&format!("/networks/{}", network.name));
        assert_eq!(joined["NetworkSettings"]["Networks"][&network.name]["NetworkID"], there["Id"]);
        rig.engine.stop(&slot, Attempt(1), Signal::KILL, Millis(0)).await.unwrap();
        rig.docker.post("/networks/create", &same);
        rig.engine.remove(&slot, std::slice::from_ref(&network.name)).await.unwrap();
        assert_eq!(count(rig), 0);
    });
}

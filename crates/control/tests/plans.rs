//! The order in which a file says things changes nothing of a plan: files are read, brought up and planned,
//! each with its keys in another order.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};
use upbeat_control::{Control, Locks, Settings};
use upbeat_model::file::{Context, Source, parse};
use upbeat_model::plan::{Container, ContainerState, HostPort, World};
use upbeat_model::{Origin, Project, Wall};

/// What runs, and with `is_new` what is wanted instead: something of it is unchanged, something has
/// another variable, one goes and one comes, and a network has other settings.
fn file(is_new: bool) -> Value {
    let mut file = json!({
        "name": "shop",
        "services": {
            "web": {
                "image": "shop/web:1",
                "environment": { "ZONE": "a", "LEVEL": if is_new { "2" } else { "1" }, "BASE": "/" },
                "labels": { "team": "front", "area": "shop" },
                "ports": ["8080:80", "8443:443"],
                "depends_on": {
                    "db": { "condition": "service_healthy", "restart": true },
                    "cache": { "condition": "service_started" },
                },
                "networks": { "front": { "aliases": ["www", "shop"] }, "back": {} },
                "volumes": ["data:/data:ro", "logs:/var/log"],
                "deploy": { "replicas": 2, "resources": { "limits": { "cpus": "0.5", "memory": "64M" } } },
            },
            "db": {
                "image": "postgres:16",
                "healthcheck": { "test": ["CMD", "true"], "interval": "2s", "retries": 3 },
                "networks": { "back": {} },
                "volumes": ["data:/var/lib/data"],
                "sysctls": { "net.core.somaxconn": "1024", "net.ipv4.tcp_syncookies": "0" },
                "ulimits": { "nofile": { "soft": 1000, "hard": 2000 }, "nproc": 100 },
            },
            "cache": { "image": "redis:7", "networks": { "back": {} }, "command": ["redis-server", "--save", ""] },
            "process": { "command": ["/bin/run", "it"], "environment": { "B": "1", "A": "2" } },
        },
        "networks": {
            "front": { "driver_opts": { "b": "2", "a": "1" }, "internal": is_new },
            "back": { "labels": { "y": "1", "x": "2" } },
        },
        "volumes": { "logs": {}, "data": { "labels": { "b": "1", "a": "2" } } },
    });
    // Two copies do not publish one port.
    file["services"]["web"]["deploy"]["replicas"] = json!(1);
    let services = file["services"].as_object_mut().expect("services");
    let (goes, comes) = (json!({ "image": "old:1" }), json!({ "image": "new:1", "scale": 2 }));
    services.insert(if is_new { "comes" } else { "goes" }.to_owned(), if is_new { comes } else { goes });
    file
}

/// As YAML, the keys of every mapping in an order of their own. What a list has stays in order.
fn written(value: &Value, seed: u64) -> String {
    match value {
        Value::Object(map) => {
            let place = |key: &str| {
                let mut hasher = DefaultHasher::new();
                (seed, key, map.len()).hash(&mut hasher);
                hasher.finish()
            };
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_by_key(|key| place(key));
            let all: Vec<String> =
                keys.into_iter().map(|key| format!("{}: {}", json!(key), written(&map[key], seed))).collect();
            format!("{{ {} }}", all.join(", "))
        }
        Value::Array(all) => {
            let all: Vec<String> = all.iter().map(|value| written(value, seed)).collect();
            format!("[{}]", all.join(", "))
        }
        other => other.to_string(),
    }
}

fn read(text: &str) -> Project {
    let source = Source { name: "compose.yaml", text };
    let nothing = |_: &str| None;
    let parsed = parse(&[source], &Context::new("/shop", "shop", &nothing));
    parsed.unwrap_or_else(|errors| panic!("{errors}\n{text}")).project
}

/// All that is wanted so far runs.
fn world(control: &Control) -> World {
    let mut world = World::default();
    for (slot, wish) in &control.target().borrow().slots {
        let Some(of) = wish.spec.container.as_deref() else { continue };
        let container = Container {
            slot: slot.clone(),
            digest: wish.digest.clone(),
            image: Some(format!("id of {}", of.image.full())),
            state: ContainerState::Running,
            release: None,
            networks: of.networks().iter().map(|a| a.network.name.clone()).collect(),
            volumes: of.volumes().map(|volume| volume.name.clone()).collect(),
            ports: of.ports.iter().filter_map(HostPort::of).collect(),
            temporary: false,
        };
        for attachment in of.networks() {
            let (app, digest) = (Some(slot.app.clone()), Some(attachment.network.digest()));
            let kept = upbeat_model::plan::Kept { app, digest };
            world.networks.insert(attachment.network.name.clone(), kept);
        }
        for volume in of.volumes() {
            let (app, digest) = (Some(slot.app.clone()), Some(volume.digest()));
            world.volumes.insert(volume.name.clone(), upbeat_model::plan::Kept { app, digest });
        }
        world.containers.insert(format!("{}-{}-{}", slot.app, slot.service, slot.index), container);
    }
    world
}

/// A plan from one file to the other, as people and as programs read it.
async fn drawn(before: &str, after: &str) -> (String, String) {
    let files = upbeat_store::open_memory().expect("a store");
    let settings = Settings { boot_id: "boot".to_owned(), wall: || Wall(7), failpoint: |_| {} };
    let control = Control::open(files.0, files.1, settings).await.expect("an empty store");
    control.up(read(before), &[], Origin { who: "ann".to_owned(), key: None }).await.expect("room");
    let outlook = control.outlook(read(after), &[]).expect("it can be wanted");
    let drafted = outlook.plan(world(&control), Locks::Respected, true).expect("there is a plan");
    assert_eq!(drafted.violations, []);
    (drafted.plan.text(), serde_json::to_string(&drafted.plan).expect("it is data"))
}

#[tokio::test]
async fn the_order_of_keys_in_files_changes_nothing_of_a_plan() {
    const SEEDS: u64 = 24;
    let first = drawn(&written(&file(false), 0), &written(&file(true), 0)).await;
    // Of everything there is something in it.
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for words in
        ["pull image", "create network", "create container", "stop container", "wait until", "Interrupted:"]
    {
        seen.insert(words, first.0.matches(words).count());
    }
    assert!(seen.values().all(|times| *times > 0), "{seen:?}\n{}", first.0);
    let mut texts: Vec<String> = vec![written(&file(true), 0)];
    for seed in 1..SEEDS {
        let (before, after) = (written(&file(false), seed), written(&file(true), seed + SEEDS));
        assert_eq!(drawn(&before, &after).await, first, "{before}\n{after}");
        texts.push(after);
    }
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len() as u64, SEEDS, "each is another text");
}

/// It is the order of keys alone: that of a list means something, and the plan shows it.
#[tokio::test]
async fn the_order_of_a_list_is_no_order_of_keys() {
    let (before, mut after) = (file(false), file(false));
    after["services"]["cache"]["command"] = json!(["redis-server", "", "--save"]);
    let same = drawn(&written(&before, 1), &written(&before, 2)).await;
    assert!(!same.0.contains(" container"), "{}", same.0);
    let other = drawn(&written(&before, 1), &written(&after, 2)).await;
    assert!(other.0.contains("stop container for service 'cache'"), "{}", other.0);
}

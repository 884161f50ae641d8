//! What a project file says of containers, as it becomes nouns in the words of an engine.

use insta::assert_snapshot;
use serde_json::{Value, json};
use upbeat_model::file::validate;
use upbeat_model::project::container::{MountKind, NetworkMode, PullPolicy};
use upbeat_model::project::{OnRestart, Project, Service};
use upbeat_model::time::Millis;

use super::{errors_in, read};

fn project(text: &str) -> Project {
    let parsed = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(validate(&parsed.project), Ok(()), "{text}");
    // As it goes over the wire.
    let json = serde_json::to_string(&parsed.project).expect("JSON");
    assert_eq!(serde_json::from_str::<Project>(&json).expect("a project"), parsed.project, "{json}");
    parsed.project
}

/// What a service says besides what one says that says nothing.
fn said(text: &str) -> Value {
    let (one, plain) = (project(text), project("services: { web: { image: web } }"));
    let value = |project: &Project| serde_json::to_value(&project.services["web"].container).expect("JSON");
    let (one, plain) = (value(&one), value(&plain));
    let fields =
        one.as_object().expect("an object").iter().filter(|(key, value)| plain.get(key) != Some(value));
    fields.map(|(key, value)| (key.clone(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn a_network_is_called_after_its_app_and_the_first_is_that_of_the_highest_priority() {
    let project = project(
        "name: shop
services:
  web: { image: web }
  api:
    image: api
    networks: { a: , b: { priority: 10, aliases: [x] }, out: , named: }
networks: { a: { internal: true }, b: , out: { external: true, driver: lost }, named: { name: own } }
",
    );
    let names = |service: &str| {
        let container = project.services[service].container.as_ref().unwrap();
        let names = container.networks().iter().map(|attachment| {
            let network = &attachment.network;
            format!("{}{}", network.name, if network.external { " (external)" } else { "" })
        });
        names.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(names("web"), "shop_default");
    assert_eq!(names("api"), "shop_b, shop_a, own, out (external)");
    let api = project.services["api"].container.as_ref().unwrap();
    assert!(api.networks()[1].network.internal && api.networks()[3].network.driver.is_none());
}

#[test]
fn an_image_that_is_built_is_called_after_its_service_in_small_letters() {
    let project = project("name: Shop\nservices: { Web: { build: ./web, pull_policy: every_1w2d } }");
    let container = project.services["Web"].container.as_ref().unwrap();
    assert_eq!(container.image.as_str(), "shop-web");
    assert_eq!(container.build.as_ref().unwrap().context, "/srv/shop/web");
    assert_eq!(container.pull_policy, PullPolicy::Every(Millis::seconds(9 * 24 * 3600)));
}

#[test]
fn limits_ports_and_devices_are_in_the_units_of_an_engine() {
    assert_snapshot!(said(
        "services: { web: { image: web, cpu_period: 20ms, cpu_quota: '-1', memswap_limit: '-1', shm_size: 64k,
            ports: ['0:80', '[::1]:8000-8001:90/udp'], expose: ['80-81'], devices: [/dev/null, 'a.b/c=d'], gpus: all } }"
    ), @r#"{"device_requests":[{"device_ids":["a.b/c=d"],"driver":"cdi"},{"capabilities":["gpu"],"count":-1}],"devices":[{"permissions":"rwm","source":"/dev/null","target":"/dev/null"}],"expose":["80/tcp","81/tcp"],"limits":{"cpu_period":20000,"cpu_quota":-1,"memory_swap":-1},"ports":[{"protocol":"tcp","target":80},{"host_ip":"::1","protocol":"udp","published":"8000-8001","target":90}],"shm_size":65536}"#);
}

#[test]
fn mounts_say_whole_what_they_mount() {
    let project = project(
        "services: { web: { image: web, volumes: ['data:/data:ro', './x:/x:Z', /own, { type: tmpfs, target: /t, tmpfs: { size: 1m } }] } }
volumes: { data: { labels: [a=b] } }",
    );
    let mounts = &project.services["web"].container.as_ref().unwrap().mounts;
    let MountKind::Volume { volume: Some(volume), .. } = &mounts[0].kind else { panic!("{mounts:?}") };
    assert_eq!((volume.name.as_str(), volume.labels["a"].as_str()), ("shop_data", "b"));
    let kinds: Vec<String> =
        mounts[1..].iter().map(|mount| serde_json::to_string(&mount.kind).unwrap()).collect();
    assert_snapshot!(kinds.join("\n"), @r#"
    {"type":"bind","source":"/srv/shop/x","selinux":"Z"}
    {"type":"volume"}
    {"type":"tmpfs","size":1048576}
    "#);
}

#[test]
fn what_is_shared_implies_an_edge_and_is_restarted_with_its_owner() {
    let project = project(
        "name: shop
services:
  db: { image: db, container_name: data }
  net: { image: web, network_mode: 'service:db' }
  link: { image: web, links: ['db:database'], external_links: ['old:legacy'] }
  mounts: { image: web, volumes_from: ['db:ro'] }
  written: { image: web, pid: 'service:db', depends_on: { db: { restart: false } } }
",
    );
    let edge = |name: &str| {
        let edge = &project.services[name].depends_on["db"];
        (edge.restart, edge.on_restart)
    };
    assert_eq!(edge("net"), (true, OnRestart::Restart));
    assert_eq!(edge("link"), (true, OnRestart::Ignore));
    assert_eq!(edge("mounts"), (true, OnRestart::Ignore));
    assert_eq!(edge("written"), (false, OnRestart::Ignore));
    let link = project.services["link"].container.as_ref().unwrap();
    assert_eq!(link.networks()[0].links, ["data:database", "old:legacy"]);
    let net = project.services["net"].container.as_ref().unwrap();
    assert_eq!(net.network, NetworkMode::Service("db".parse().unwrap()));
    assert_eq!(net.peer(&project.name, &"db".parse().unwrap()), "data");
}

#[test]
fn a_config_has_a_place_in_the_container_and_a_name_of_its_own() {
    let project = project(
        "services:
  web: { image: web, configs: [a, { source: a, target: b/c, uid: '1', mode: 0400 }], secrets: [s] }
  own: { command: [x], configs: [a] }
configs: { a: { content: x } }
secrets: { s: { environment: HOME } }
",
    );
    let files = |name: &str| {
        let files = project.services[name].files.iter();
        files
            .map(|file| format!("{} {:?} {:?} {:o}", file.name, file.target, file.uid, file.mode))
            .collect::<Vec<_>>()
    };
    assert_eq!(files("own"), ["a None None 400"]);
    assert_snapshot!(files("web").join("\n"), @r#"
    config.a Some("/a") None 444
    config.a.2 Some("/b/c") Some(1) 400
    secret.s Some("/run/secrets/s") None 444
    "#);
}

#[test]
fn a_health_check_of_the_file_takes_the_place_of_the_images() {
    let check = |body: &str| {
        let project = project(&format!("services: {{ web: {{ image: web{body} }} }}"));
        let web = &project.services["web"];
        (web.container.as_ref().unwrap().image_check, web.readiness().is_some())
    };
    assert_eq!(check(""), (true, false));
    assert_eq!(check(", healthcheck: { test: x }"), (false, true));
    assert_eq!(check(", healthcheck: { disable: true }"), (false, false));
    assert_eq!(check(", probes: { readiness: { tcp: 'a:1' } }"), (false, true));
    assert_eq!(check(", probes: { liveness: { tcp: 'a:1' } }"), (true, false));
}

#[test]
fn who_waits_for_a_container_to_be_healthy_waits_for_the_health_check_of_its_image() {
    let asked = |condition: &str, body: &str| {
        let project = project(&format!(
            "services: {{ db: {{ image: db{body} }}, web: {{ image: web, depends_on: {{ db: {{ condition: {condition} }} }} }} }}"
        ));
        let db = &project.services["db"];
        // It is no other container for that.
        let alone = Service { probes: Default::default(), ..db.clone() };
        assert_eq!(db.digest(), alone.digest());
        db.readiness().map(|probe| probe.ask.to_string())
    };
    assert_eq!(asked("service_healthy", "").as_deref(), Some("that of its image"));
    assert_eq!(asked("service_started", ""), None);
    assert_eq!(asked("service_healthy", ", healthcheck: { test: [CMD, x] }").as_deref(), Some("exec x"));
}

#[test]
fn copies_of_a_container_differ_as_those_of_a_process_do() {
    let project = project(
        "templates: { worker: { service: { image: worker, command: 'run {{ index }}', working_dir: '/data/{{ index }}', environment: { N: '{{ index }}' } } } }
services: { web: { template: worker, scale: 3 } }",
    );
    let web = &project.services["web"];
    let copy = web.for_copy("web", 3).unwrap();
    let container = copy.container.as_ref().unwrap();
    assert_eq!(container.command.as_deref(), Some(&["run".to_owned(), "3".to_owned()][..]));
    assert_eq!(container.working_dir.as_deref(), Some("/data/3"));
    assert_eq!((copy.environment["N"].as_str(), copy.working_dir.as_str()), ("3", "/srv/shop"));
    assert!(copy.command.is_empty());
    let first = web.for_copy("web", 1).unwrap();
    assert_eq!((first.container.as_ref().unwrap().image.as_str(), web.digest()), ("worker", web.digest()));
    assert_ne!(first.digest(), copy.digest());
    // What is asked for before there is any copy is one for all.
    let all = errors_in(
        "templates: { t: { service: { image: 'web:{{ index }}' } } }\nservices: { web: { template: t } }",
    );
    assert!(all.contains("uses `index`, and is one for all copies"), "{all}");
}

#[test]
fn a_container_from_the_wire_keeps_the_rules_of_a_file() {
    let service = |fields: Value| {
        let mut service = serde_json::to_value(Service::of_image("web".parse().unwrap())).unwrap();
        let container = service["container"].as_object_mut().unwrap();
        container.extend(fields["container"].as_object().cloned().unwrap_or_default());
        let others = fields.as_object().unwrap().iter().filter(|(key, _)| *key != "container");
        others.for_each(|(key, value)| service[key] = value.clone());
        service
    };
    let port = json!({ "target": 80, "published": "80", "protocol": "tcp" });
    let project = json!({ "name": "shop", "services": {
        "one": service(json!({ "command": ["x"], "stop_command": ["x"], "container": {
            "name": "a b", "working_dir": "x", "ports": [port, { "target": 0, "published": "9-8" }],
            "mounts": [{ "target": "x", "kind": { "type": "bind", "source": "x" } }],
        } })),
        "two": service(json!({ "scale": 2, "container": { "ports": [port], "network": { "service": "nobody" } } })),
        "three": service(json!({ "files": [{ "name": "a", "content": "" }], "container": { "namespaces": { "ipc": "mine" } } })),
    } });
    let project: Project = serde_json::from_value(project).unwrap();
    assert_snapshot!(validate(&project).unwrap_err().join("\n"), @"
    `services.one.container_name` has a bad name: `a b` (an engine wants at least two letters, digits, `.`, `_` and `-`, the first a letter or a digit)
    `services.one.working_dir` must be an absolute path (start it with `/`)
    `services.one.ports[2]` has no target port: `0`
    `services.one.ports[2]` has a range that ends before it begins: `9-8`
    `services.one.volumes[1]` must be an absolute path (start it with `/`)
    `services.one.volumes[1]` must be an absolute path (start it with `/`)
    `services.one.command` is for processes, and this is a container
    `services.one.stop_command` is for processes, and this is a container
    `services.three.ipc` must have a namespace, not `mine` (write one of `none`, `private`, `shareable`, `host`, `service:NAME`, `container:NAME`)
    `services.three.files` has a file without a target
    `services.two.ports` has no meaning beside `network_mode: service:nobody` (take one of the two out: its network is not its own)
    `services.two.network_mode` uses the service `nobody`, which is not declared
    `services.two.ports[1]` publishes port 80 of this machine, and there are 2 copies (give each its own, `80-81:80`, or let the engine choose: `80`)
    `services.two.ports[1]` publishes port 80/tcp of this machine as `one` does (give one of the two another port)
    ");
}

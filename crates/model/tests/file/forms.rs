//! Values that can be written in more than one form come to the same.

use insta::assert_snapshot;

use super::machine::Machine;

/// What files come to, one over the other; of the service `web` alone, in one line per key.
fn web(files: &[&'static str]) -> String {
    const NAMES: [&str; 2] = ["a.yaml", "b.yaml"];
    let paths: [&str; 2] = ["/srv/shop/a.yaml", "/srv/shop/b.yaml"];
    let machine = Machine::with(&paths.into_iter().zip(files.iter().copied()).collect::<Vec<_>>());
    let told = machine.tell(&NAMES[..files.len()]);
    let Some(start) = told.find('{').filter(|start| *start == 0 || told[..*start].starts_with("note: "))
    else {
        return told;
    };
    let (notes, text) = told.split_at(start);
    let document: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let mut lines = notes.to_owned();
    let fields = document["services"]["web"].as_object().expect("a service");
    for (name, value) in fields.iter().filter(|(name, _)| *name != "image") {
        lines.push_str(&format!("{name}: {value}\n"));
    }
    for kind in ["networks", "volumes"] {
        if let Some(found) = document.get(kind) {
            lines.push_str(&format!("/{kind}: {found}\n"));
        }
    }
    lines
}

#[test]
fn every_gpu_is_one_word() {
    assert_snapshot!(web(&["services: { web: { image: x, gpus: all } }"]), @r#"gpus: [{"count":"all"}]"#);
    assert_snapshot!(web(&["services: { web: { image: x, gpus: [{ driver: nvidia, count: 2 }] } }"]), @r#"gpus: [{"count":"2","driver":"nvidia"}]"#);
    assert_snapshot!(web(&["services: { web: { image: x, gpus: some } }"]), @"a.yaml:1:36: `services.web.gpus` must be `all`, or a list of requests for devices, not `some`");
}

#[test]
fn hosts_have_addresses_in_any_form() {
    assert_snapshot!(web(&["
services:
  web:
    image: x
    extra_hosts: ['a=1.1.1.1', 'b:2.2.2.2', 'c:[::1]', 'd=[::2]', 'e:::3', 'a=1.1.1.2,1.1.1.3', 'h:host-gateway']
"]), @r#"extra_hosts: {"a":["1.1.1.1","1.1.1.2","1.1.1.3"],"b":["2.2.2.2"],"c":["::1"],"d":["::2"],"e":["::3"],"h":["host-gateway"]}"#);
    assert_snapshot!(web(&["services: { web: { image: x, extra_hosts: { a: 1.1.1.1, b: [2.2.2.2, '[::2]'] } } }",
        "services: { web: { image: x, extra_hosts: ['a:1.1.1.2', !reset 'b=2.2.2.2', 'c=3.3.3.3'] } }"]), @r#"extra_hosts: {"a":["1.1.1.1","1.1.1.2"],"b":["::2"],"c":["3.3.3.3"]}"#);
    assert_snapshot!(web(&["services: { web: { image: x, extra_hosts: ['a', 'b=x', '=1.1.1.1', 'd:', 'e=1.1.1.1', 'e:1.1.1.1'] } }"]), @"
    a.yaml:1:44: `services.web.extra_hosts[1]` has no address: `a` (write `host=address`)
    a.yaml:1:49: `services.web.extra_hosts.b[1]` must be an IP address, not `x`
    a.yaml:1:56: `services.web.extra_hosts` has a host without a name (write `host=address`)
    a.yaml:1:68: `services.web.extra_hosts.d[1]` must be an IP address, not ``
    a.yaml:1:87: Duplicate `1.1.1.1` in `services.web.extra_hosts.e` (keep one of the two)
    ");
}

#[test]
fn the_old_form_of_what_is_external_is_taken_and_noted() {
    assert_snapshot!(web(&["
services: { web: { image: x } }
networks: { net: { external: { name: shared } }, other: { external: {}, name: o }, same: { name: s, external: { name: s } } }
volumes: { data: { external: { name: disk } } }
"]), @r#"
    note: a.yaml:3:30: `networks.net.external` is written in an old form (write `external: true`, and `name` beside it)
    note: a.yaml:3:69: `networks.other.external` is written in an old form (write `external: true`, and `name` beside it)
    note: a.yaml:3:111: `networks.same.external` is written in an old form (write `external: true`, and `name` beside it)
    note: a.yaml:4:30: `volumes.data.external` is written in an old form (write `external: true`, and `name` beside it)
    /networks: {"net":{"external":true,"name":"shared"},"other":{"external":true,"name":"o"},"same":{"external":true,"name":"s"}}
    /volumes: {"data":{"external":true,"name":"disk"}}
    "#);
    assert_snapshot!(web(&["services: { web: { image: x } }\nnetworks: { a: { external: { name: x }, name: y }, b: { external: { nmae: x } } }"]), @"
    a.yaml:2:28: `networks.a` is given two names (keep `name`)
    a.yaml:2:69: Unknown key `networks.b.external.nmae` (write `external: true`)
    ");
}

#[test]
fn the_target_of_a_volume_is_written_in_one_way() {
    assert_snapshot!(web(&[
        "services: { web: { image: x, volumes: ['data:/x:z', './c:/c/', '/d/./e//'] } }\nvolumes: { data: }",
        "services: { web: { image: x, volumes: [{ type: tmpfs, target: /x/ }, 'data:/c', { type: volume, target: /d/e, source: data }] } }",
    ]), @r#"
    volumes: [{"target":"/x","type":"tmpfs"},{"source":"data","target":"/c","type":"volume"},{"source":"data","target":"/d/e","type":"volume"}]
    /volumes: {"data":null}
    "#);
}

#[test]
fn a_volume_that_is_named_can_have_a_label_too() {
    assert_snapshot!(web(&["services: { web: { image: x, volumes: ['data:/x:ro,z', '/y:/y:Z'] } }"]), @"a.yaml:1:40: `services.web.volumes` uses `data`, which is not declared (declare it under `volumes` at the top of the file)");
    assert_snapshot!(web(&["services: { web: { image: x, volumes: ['/a:/x/', 'b:/x'] } }"]), @"a.yaml:1:50: Duplicate `/x` in `services.web.volumes` (keep one of the two)");
}

#[test]
fn a_port_in_its_long_form_is_that_of_the_short_one() {
    assert_snapshot!(web(&[
        "services: { web: { image: x, ports: ['80:80', '81:81/udp'] } }",
        "services: { web: { image: x, ports: [{ target: 80, published: 80, mode: host }, { target: 81, published: '81' }] } }",
    ]), @r#"ports: [{"mode":"host","protocol":"tcp","published":"80","target":80},{"mode":"ingress","protocol":"udp","published":"81","target":81},{"mode":"ingress","protocol":"tcp","published":"81","target":81}]"#);
    assert_snapshot!(web(&["services: { web: { image: x, ports: [{ target: 80, protcol: udp }] } }"]), @"a.yaml:1:52: Unknown key `services.web.ports[1].protcol` (did you mean `protocol`?)");
}

#[test]
fn a_name_alone_says_that_a_service_is_only_started() {
    assert_snapshot!(web(&[
        "services: { web: { image: x, depends_on: { db: { condition: service_healthy, restart: true }, c: { condition: service_healthy } } }, db: { image: y }, c: { image: z, healthcheck: { test: a } } }",
        "services: { web: { depends_on: [db] } }",
    ]), @r#"depends_on: {"c":{"condition":"service_healthy"},"db":{"condition":"service_started","required":true,"restart":true}}"#);
    assert_snapshot!(web(&[
        "services: { web: { image: x, depends_on: { db: { condition: service_healthy } } }, db: { image: y, healthcheck: { test: a } } }",
        "services: { web: { depends_on: { db: { required: false } } } }",
    ]), @r#"depends_on: {"db":{"condition":"service_healthy","required":false}}"#);
}

#[test]
fn a_container_may_run_nothing_but_what_it_is_told() {
    assert_snapshot!(web(&["services: { web: { image: x, command: [], entrypoint: '' } }"]), @"a.yaml:1:55: `services.web.entrypoint` is empty, and there is no `command`, so there is nothing to run (give it a `command`: without the image's entrypoint its command does not count)");
    assert_snapshot!(web(&["services: { web: { image: x, command: [] } }"]), @"command: []");
    assert_snapshot!(web(&["services: { web: { image: x, entrypoint: [a] } }", "services: { web: { entrypoint: [], command: b } }"]), @r#"
    command: "b"
    entrypoint: []
    "#);
    assert_snapshot!(web(&["services: { web: { entrypoint: [], command: b } }"]), @r#"
    command: ["b"]
    working_dir: "/srv/shop"
    "#);
    assert_snapshot!(web(&["services: { web: { command: [], entrypoint: [b] } }"]), @r#"
    command: ["b"]
    working_dir: "/srv/shop"
    "#);
    assert_snapshot!(web(&["services: { web: { entrypoint: '' } }"]), @"a.yaml:1:32: `services.web.entrypoint` is empty (give a program and its arguments)");
    assert_snapshot!(web(&["services: { web: { command: '', shell: true } }"]), @"a.yaml:1:29: `services.web.command` is empty (give a program and its arguments)");
    assert_snapshot!(web(&["services: { web: { command: [''] } }"]), @"a.yaml:1:29: `services.web.command` names no program: its first word is empty");
}

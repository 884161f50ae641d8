//! What two files make together, rule by rule: the page "Merge" of the Compose Specification, and
//! what it leaves to be understood.

use serde_json::Value;

use super::machine::Machine;

/// The rule; the first file; the one that goes over it; one file that says what both come to.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// Of services: each text is the body of one.
const SERVICES: &[Row] = &[
    // Mapping.
    ("missing entries are added", "user: ann", "init: true", "{ user: ann, init: true }"),
    ("of one value the later counts", "user: ann", "user: bob", "user: bob"),
    (
        "mappings within mappings become one",
        "deploy: { replicas: 2, resources: { limits: { cpus: 1, memory: 1m } } }",
        "deploy: { resources: { limits: { memory: 2m }, reservations: { memory: 1m } } }",
        "deploy: { replicas: 2, resources: { limits: { cpus: 1, memory: 2m }, reservations: { memory: 1m } } }",
    ),
    (
        "variables",
        "environment: { A: a, B: b }",
        "environment: { B: c, C: c }",
        "environment: { A: a, B: c, C: c }",
    ),
    (
        "a list of variables over a mapping",
        "environment: { A: a, B: b }",
        "environment: [B=c]",
        "environment: { A: a, B: c }",
    ),
    (
        "a mapping of variables over a list",
        "environment: [A=a, B=b]",
        "environment: { B: c }",
        "environment: { A: a, B: c }",
    ),
    (
        "lists of variables",
        "environment: [A=a, B=b]",
        "environment: [B=c, C=c]",
        "environment: [A=a, B=c, C=c]",
    ),
    ("labels of both forms", "labels: [a=1, b=1]", "labels: { b: '2' }", "labels: { a: '1', b: '2' }"),
    (
        "annotations of both forms",
        "annotations: { a: '1' }",
        "annotations: [a=2, b=2]",
        "annotations: [a=2, b=2]",
    ),
    (
        "settings of the kernel of both forms",
        "sysctls: { a.b: 1 }",
        "sysctls: [a.b=2, c.d=2]",
        "sysctls: { a.b: 2, c.d: 2 }",
    ),
    (
        "hosts of both forms",
        "extra_hosts: [a=1.1.1.1]",
        "extra_hosts: { a: 2.2.2.2, b: '::1' }",
        "extra_hosts: { a: [1.1.1.1, 2.2.2.2], b: ['::1'] }",
    ),
    (
        "arguments of a build of both forms",
        "build: { args: [A=a] }",
        "build: { args: { B: b } }",
        "build: { args: { A: a, B: b } }",
    ),
    (
        "a short build over a long one",
        "build: { context: a, target: t }",
        "build: b",
        "build: { context: b, target: t }",
    ),
    ("a long build over a short one", "build: a", "build: { target: t }", "build: { context: a, target: t }"),
    (
        "networks of both forms",
        "networks: [one]",
        "networks: { one: { aliases: [a] }, two: }",
        "networks: { one: { aliases: [a] }, two: }",
    ),
    (
        "a network with nothing behind it takes nothing away",
        "networks: { one: { aliases: [a] } }",
        "networks: [one, two]",
        "networks: { one: { aliases: [a] }, two: }",
    ),
    (
        "dependencies of both forms",
        "depends_on: [one]",
        "depends_on: { one: { restart: true }, two: { required: false } }",
        "depends_on: { one: { condition: service_started, required: true, restart: true }, two: { required: false } }",
    ),
    (
        "limits of the kernel",
        "ulimits: { nofile: { soft: 1, hard: 2 }, core: 0 }",
        "ulimits: { nofile: 3, cpu: 1 }",
        "ulimits: { nofile: 3, core: 0, cpu: 1 }",
    ),
    (
        "options of the same driver",
        "logging: { driver: a, options: { x: '1' } }",
        "logging: { options: { y: '2' } }",
        "logging: { driver: a, options: { x: '1', y: '2' } }",
    ),
    (
        "options of another driver",
        "logging: { driver: a, options: { x: '1' } }",
        "logging: { driver: b, options: { y: '2' } }",
        "logging: { driver: b, options: { y: '2' } }",
    ),
    // Sequence.
    ("lists follow each other", "dns: [1.1.1.1]", "dns: [8.8.8.8]", "dns: [1.1.1.1, 8.8.8.8]"),
    ("one text is a list of one", "dns: 1.1.1.1", "dns: 8.8.8.8", "dns: [1.1.1.1, 8.8.8.8]"),
    ("what is in both lists is there once", "cap_add: [A, B]", "cap_add: [B, C]", "cap_add: [A, B, C]"),
    ("ports that are exposed", "expose: [80]", "expose: ['80', 81]", "expose: [80, 81]"),
    ("directories in memory", "tmpfs: /a", "tmpfs: [/b, /c]", "tmpfs: [/a, /b, /c]"),
    (
        "hooks",
        "post_start: [{ command: a }]",
        "post_start: [{ command: a }, { command: b }]",
        "post_start: [{ command: a }, { command: a }, { command: b }]",
    ),
    (
        "devices that are asked for",
        "deploy: { resources: { reservations: { devices: [{ capabilities: [a] }] } } }",
        "deploy: { resources: { reservations: { devices: [{ capabilities: [b] }] } } }",
        "deploy: { resources: { reservations: { devices: [{ capabilities: [a] }, { capabilities: [b] }] } } }",
    ),
    (
        "files of variables, the later after the earlier",
        "env_file: a.env",
        "env_file: [b.env]",
        "env_file: [a.env, b.env]",
    ),
    ("profiles", "profiles: [one]", "profiles: [two]", "profiles: [one, two]"),
    // Exceptions: shell commands.
    ("a command", "command: [echo, a]", "command: [echo, b]", "command: [echo, b]"),
    ("a command of another form", "command: [echo, a]", "command: echo b", "command: echo b"),
    ("a command of nothing", "command: [echo, a]", "command: null", "command: null"),
    ("an entrypoint", "entrypoint: [a, b]", "entrypoint: [c]", "entrypoint: [c]"),
    (
        "a test",
        "healthcheck: { test: [CMD, a], retries: 1, interval: 1s }",
        "healthcheck: { test: b, retries: 2 }",
        "healthcheck: { test: b, retries: 2, interval: 1s }",
    ),
    // Exceptions: unique resources.
    (
        "ports by all of address, target, published and protocol",
        "ports: ['80:80', '81:81']",
        "ports: ['80:80', '82:81', '81:81/udp', '127.0.0.1:83:81']",
        "ports: ['80:80', '81:81', '82:81', '81:81/udp', '127.0.0.1:83:81']",
    ),
    (
        "a port of the long form over the same of the short one",
        "ports: ['80:80']",
        "ports: [{ target: 80, published: 80, protocol: tcp, name: web }]",
        "ports: [{ target: 80, published: 80, protocol: tcp, name: web }]",
    ),
    (
        "volumes by target",
        "volumes: ['data:/work', 'data:/a']",
        "volumes: ['more:/work']",
        "volumes: ['more:/work', 'data:/a']",
    ),
    (
        "a volume of the long form over one of the short",
        "volumes: ['data:/work:ro']",
        "volumes: [{ type: tmpfs, target: /work }]",
        "volumes: [{ type: tmpfs, target: /work }]",
    ),
    (
        "secrets by target",
        "secrets: [{ source: one, target: key }, two]",
        "secrets: [{ source: two, target: key }, { source: two, mode: 0400 }]",
        "secrets: [{ source: two, target: key }, { source: two, mode: 0400 }]",
    ),
    (
        "configs by target",
        "configs: [one]",
        "configs: [{ source: two, target: one }, two]",
        "configs: [{ source: two, target: one }, two]",
    ),
    (
        "devices by target",
        "devices: ['/dev/a:/dev/x']",
        "devices: ['/dev/b:/dev/x', /dev/c]",
        "devices: ['/dev/b:/dev/x', /dev/c]",
    ),
    // Reset value.
    ("a value is taken away", "{ user: ann, init: true }", "user: !reset null", "init: true"),
    ("what the tag stands at is not looked at", "ports: ['80:80']", "ports: !reset { any: [thing] }", "{}"),
    ("a list is taken away", "ports: ['80:80']", "ports: !reset []", "{}"),
    (
        "an entry is taken away",
        "environment: { A: a, B: b }",
        "environment: { A: !reset null }",
        "environment: { B: b }",
    ),
    (
        "an entry of a list of variables is taken away",
        "environment: [A=a, B=b]",
        "environment: { A: !reset }",
        "environment: [B=b]",
    ),
    (
        "a part of a part is taken away",
        "deploy: { resources: { limits: { cpus: 1, memory: 1m } } }",
        "deploy: { resources: { limits: { cpus: !reset 0 } } }",
        "deploy: { resources: { limits: { memory: 1m } } }",
    ),
    (
        "what was not there is taken away",
        "init: true",
        "{ user: !reset null, labels: { a: !reset '' } }",
        "{ init: true, labels: {} }",
    ),
    // Replace value.
    ("a list is replaced", "ports: ['80:80']", "ports: !override ['81:81']", "ports: ['81:81']"),
    (
        "a mapping is replaced",
        "labels: { a: '1', b: '1' }",
        "labels: !override { b: '2' }",
        "labels: { b: '2' }",
    ),
    (
        "a mapping is replaced by a list of the same",
        "environment: { A: a }",
        "environment: !override [B=b]",
        "environment: { B: b }",
    ),
    (
        "a part of a part is replaced",
        "healthcheck: { test: a, retries: 2 }",
        "healthcheck: !override { test: b }",
        "healthcheck: { test: b }",
    ),
    ("a value is replaced", "user: ann", "user: !override bob", "user: bob"),
    // Our own.
    (
        "probes by their names",
        "probes: { a: { tcp: 'a:1', interval: 5s }, b: { tcp: 'b:1' } }",
        "probes: { a: { interval: 1s }, c: { log: x } }",
        "probes: { a: { tcp: 'a:1', interval: 1s }, b: { tcp: 'b:1' }, c: { log: x } }",
    ),
    (
        "a URL over a request",
        "probes: { a: { http: { url: 'http://a/', method: HEAD, headers: { A: a, B: b } } } }",
        "probes: { a: { http: 'http://b/' } }",
        "probes: { a: { http: { url: 'http://b/', method: HEAD, headers: { A: a, B: b } } } }",
    ),
    (
        "headers, and statuses that are a yes",
        "probes: { a: { http: { url: 'http://a/', headers: { A: a, B: b }, status: [200, 201] } } }",
        "probes: { a: { http: { url: 'http://a/', headers: { B: c }, status: 204 } } }",
        "probes: { a: { http: { url: 'http://a/', headers: { A: a, B: c }, status: [204] } } }",
    ),
    (
        "another question",
        "probes: { a: { tcp: 'a:1', interval: 5s } }",
        "probes: { a: { tcp: !reset '', log: x } }",
        "probes: { a: { log: x, interval: 5s } }",
    ),
    (
        "what follows from a no",
        "probes: { a: { tcp: 'a:1', on_failure: { action: exec, command: x, window: 1m } } }",
        "probes: { a: { on_failure: restart } }",
        "probes: { a: { tcp: 'a:1', on_failure: restart } }",
    ),
    (
        "a probe is taken away",
        "probes: { a: { tcp: 'a:1' }, b: { tcp: 'b:1' } }",
        "probes: { a: !reset {} }",
        "probes: { b: { tcp: 'b:1' } }",
    ),
    ("a reload", "reload: SIGHUP", "reload: { command: x }", "reload: { command: x }"),
    (
        "what follows for who depends on it",
        "depends_on: { one: { on_restart: restart, timeout: 1m } }",
        "depends_on: { one: { on_restart: stop, on_failure: continue } }",
        "depends_on: { one: { on_restart: stop, on_failure: continue, timeout: 1m } }",
    ),
    (
        "keys of ours below `x-upbeat` and beside it",
        "success_exit_codes: [1]",
        "x-upbeat: { success_exit_codes: [2] }",
        "success_exit_codes: [1, 2]",
    ),
];

/// Of whole files.
const FILES: &[Row] = &[
    (
        "the later name counts",
        "{ name: one, services: { web: { image: web } } }",
        "name: two",
        "{ name: two, services: { web: { image: web } } }",
    ),
    (
        "services are added",
        "services: { web: { image: web } }",
        "services: { db: { image: db } }",
        "services: { web: { image: web }, db: { image: db } }",
    ),
    (
        "a service is taken away",
        "services: { web: { image: web }, db: { image: db } }",
        "services: { db: !reset null }",
        "services: { web: { image: web } }",
    ),
    (
        "a service is replaced",
        "services: { web: { image: web, user: ann } }",
        "services: { web: !override { image: other } }",
        "services: { web: { image: other } }",
    ),
    (
        "all services are replaced",
        "services: { web: { image: web } }",
        "services: !override { db: { image: db } }",
        "services: { db: { image: db } }",
    ),
    (
        "what is declared becomes one",
        "{ services: { web: { image: web } }, volumes: { a: { driver: x, labels: [l=1] }, b: } }",
        "{ volumes: { a: { labels: { m: '2' } }, b: { driver: y }, c: } }",
        "{ services: { web: { image: web } }, volumes: { a: { driver: x, labels: { l: '1', m: '2' } }, b: { driver: y }, c: } }",
    ),
    (
        "a declaration of nothing takes nothing away",
        "{ services: { web: { image: web } }, networks: { a: { driver: x } } }",
        "networks: { a: }",
        "{ services: { web: { image: web } }, networks: { a: { driver: x } } }",
    ),
    (
        "a declaration is taken away",
        "{ services: { web: { image: web } }, networks: { a: }, secrets: { s: { file: s } } }",
        "{ networks: !reset {}, secrets: { s: !reset {} } }",
        "{ services: { web: { image: web } }, secrets: {} }",
    ),
    (
        "a service is extended before files are merged",
        "services: { base: { image: base, labels: [a=1] }, web: { extends: base } }",
        "services: { base: { labels: [a=2] }, web: { labels: [b=2] } }",
        "services: { base: { image: base, labels: [a=2] }, web: { image: base, labels: [a=1, b=2] } }",
    ),
];

/// What files come to: the document, and what was declared for the sake of the row is the same.
fn document(files: &[(&str, &str)]) -> Value {
    let mut machine = Machine::with(&[("/srv/shop/a.env", "A=a\n"), ("/srv/shop/b.env", "A=b\n")]);
    machine.files.extend(files.iter().map(|(name, text)| (format!("/srv/shop/{name}"), (*text).to_owned())));
    machine.profiles.push("*".to_owned());
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let told = machine.tell(&names);
    serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}\n{files:?}"))
}

/// A file with a service, and beside it all that one may use.
fn with_body(body: &str) -> String {
    format!(
        "x-body: &body\n  {body}\nservices:\n  one: {{ image: x }}\n  two: {{ image: x }}\n  web: {{ <<: *body, image: web }}\n\
         networks: {{ one: , two: }}\nvolumes: {{ data: , more: }}\n\
         secrets: {{ one: {{ file: a }}, two: {{ file: a }} }}\nconfigs: {{ one: {{ file: a }}, two: {{ file: a }} }}\n"
    )
}

#[test]
fn two_files_make_one_by_the_rules() {
    let bodies = SERVICES.iter().map(|(rule, base, over, result)| {
        (
            *rule,
            with_body(base),
            format!("services: {{ web: {{ {} }} }}\n", unbraced(over)),
            with_body(result),
        )
    });
    let files = FILES.iter().map(|(rule, base, over, result)| {
        (*rule, (*base).to_owned(), (*over).to_owned(), (*result).to_owned())
    });
    for (rule, base, over, result) in bodies.chain(files) {
        let merged = document(&[("upbeat.yaml", &base), ("over.yaml", &over)]);
        let said = document(&[("upbeat.yaml", &result)]);
        assert_eq!(merged, said, "{rule}");
    }
}

/// A body that stands among others in braces.
fn unbraced(body: &str) -> &str {
    body.strip_prefix("{ ").and_then(|body| body.strip_suffix(" }")).unwrap_or(body)
}

#[test]
fn a_service_over_the_one_it_extends_is_a_file_over_another() {
    // Both run, and a port of this machine is published once.
    let alone = |base: &str| base.contains("profiles") || base.contains("80:80");
    for (rule, base, over, result) in SERVICES.iter().filter(|(_, base, ..)| !alone(base)) {
        let text = with_body(base).replace("  web: {", "  base: {");
        let text = text
            .replace("\nnetworks:", &format!("\n  web: {{ extends: base, {} }}\nnetworks:", unbraced(over)));
        let merged = document(&[("upbeat.yaml", &text)]);
        let said = document(&[("upbeat.yaml", &with_body(result))]);
        assert_eq!(merged["services"]["web"], said["services"]["web"], "{rule}");
    }
}

#[test]
fn each_of_three_files_goes_over_those_before() {
    let files = [
        ("a.yaml", "services: { web: { image: a, labels: [a=1, b=1, c=1], command: [a] } }"),
        ("b.yaml", "services: { web: { labels: [b=2, c=2], command: !reset null, user: b } }"),
        ("c.yaml", "services: { web: { labels: !override [c=3], command: [c], user: !reset null } }"),
    ];
    let said = "services: { web: { image: a, labels: [c=3], command: [c] } }";
    assert_eq!(document(&files), document(&[("said.yaml", said)]));
}

//! Services that cannot be joined to one graph.

use super::{check_error, service};

#[test]
fn an_unknown_dependency_is_refused_with_a_suggestion() {
    check_error!("services:
  cache: { command: x }
  web: { command: x, depends_on: [cahce, queue] }
", @"
    upbeat.yaml:3:35: Service `web` depends on `cahce`, which is not declared (did you mean `cache`?)
      ^ `cahce`
    upbeat.yaml:3:42: Service `web` depends on `queue`, which is not declared (declare it under `services`, or set `required: false`)
      ^ `queue`
    ");
    check_error!("services:
  web: { command: x, depends_on: { db: { condition: service_started } } }
", @"
    upbeat.yaml:2:36: Service `web` depends on `db`, which is not declared (declare it under `services`, or set `required: false`)
      ^ `db`
    ");
    check_error!("services:
  web: { command: x, depends_on: { d/b: { required: false } } }
", @"
    upbeat.yaml:2:36: `d/b` is not a valid service name: only letters, digits, `.`, `_` and `-` are allowed
      ^ `d/b`
    ");
}

#[test]
fn a_cycle_is_named_in_full() {
    check_error!("services:
  a: { command: x, depends_on: [c] }
  b: { command: x, depends_on: [a] }
  c: { command: x, depends_on: [b, d] }
  d: { command: x }
", @"
    upbeat.yaml:2:33: Circular dependency: a → c → b → a (take one of these dependencies out)
      ^ `c` the cycle starts here
    ");
    check_error!("services:
  a: { command: x, depends_on: [b, c] }
  b: { command: x, depends_on: { a: { required: false } } }
  c: { command: x, depends_on: [d] }
  d: { command: x, depends_on: [c] }
", @"
    upbeat.yaml:2:33: Circular dependency: a → b → a (take one of these dependencies out)
      ^ `b` the cycle starts here
    upbeat.yaml:4:33: Circular dependency: c → d → c (take one of these dependencies out)
      ^ `d` the cycle starts here
    ");
}

#[test]
fn nothing_depends_on_itself() {
    check_error!("services:
  web: { command: x, depends_on: [web] }
", @"
    upbeat.yaml:2:35: Service `web` depends on itself (take it out of its own `depends_on`)
      ^ `web`
    ");
}

#[test]
fn nobody_waits_for_health_that_nobody_checks() {
    check_error!("services:
  db: { command: x }
  off: { command: x, healthcheck: { tcp: a:1, disable: true } }
  none: { command: x, healthcheck: { test: [NONE] } }
  web:
    command: x
    depends_on:
      db: { condition: service_healthy }
      off: { condition: service_healthy }
      none: { condition: service_healthy }
", @"
    upbeat.yaml:8:24: Service `web` waits for `db` to be healthy, but that one has no health check (give `db` a `healthcheck`, or wait for `service_started`)
      ^ `service_healthy`
    upbeat.yaml:9:25: Service `web` waits for `off` to be healthy, but that one has no health check (give `off` a `healthcheck`, or wait for `service_started`)
      ^ `service_healthy`
    upbeat.yaml:10:26: Service `web` waits for `none` to be healthy, but that one has no health check (give `none` a `healthcheck`, or wait for `service_started`)
      ^ `service_healthy`
    ");
}

#[test]
fn dependencies_are_names_or_a_mapping() {
    check_error!(service("command: x
depends_on: db"), @"
    upbeat.yaml:4:17: `services.web.depends_on` must be a list of services, or a mapping, not text (write `depends_on: [db]`)
      ^ `db`
    ");
    check_error!(service("command: x
depends_on: [[a], ~, b, b]"), @"
    upbeat.yaml:4:18: `services.web.depends_on[1]` must be text, not a list
      ^ `[a]`
    upbeat.yaml:4:23: `services.web.depends_on[2]` has no value (give it text, or take it out; a bare `~` is nothing)
      ^ `~`
    upbeat.yaml:4:26: Service `web` depends on `b`, which is not declared (declare it under `services`, or set `required: false`)
      ^ `b`
    upbeat.yaml:4:29: Duplicate `b` in `services.web.depends_on` (keep one of the two)
      ^ `b` the second one
    ");
    check_error!(service("command: x
depends_on: { db: }"), @"
    upbeat.yaml:4:19: `services.web.depends_on.db` has no value (give it a mapping, or take it out)
      ^ `db`
    upbeat.yaml:4:19: Service `web` depends on `db`, which is not declared (declare it under `services`, or set `required: false`)
      ^ `db`
    ");
    check_error!(service("command: x
depends_on: { db: { condition: healthy, required: no, restart: 'maybe' } }"), @"
    upbeat.yaml:4:19: Service `web` depends on `db`, which is not declared (declare it under `services`, or set `required: false`)
      ^ `db`
    upbeat.yaml:4:36: `services.web.depends_on.db.condition` is not a condition: `healthy` (did you mean `service_healthy`?)
      ^ `healthy`
    upbeat.yaml:4:55: `services.web.depends_on.db.required` must be `true` or `false` (write `false`)
      ^ `no`
    upbeat.yaml:4:68: `services.web.depends_on.db.restart` must be `true` or `false`
      ^ `'maybe'`
    ");
    check_error!(service("command: x
depends_on: { db: { condition: whenever } }"), @"
    upbeat.yaml:4:19: Service `web` depends on `db`, which is not declared (declare it under `services`, or set `required: false`)
      ^ `db`
    upbeat.yaml:4:36: `services.web.depends_on.db.condition` is not a condition: `whenever` (write one of `service_started`, `service_healthy`, `service_completed_successfully`, `service_completed`, `service_failed`, `service_ready`, `port_open`, `log_ready`, `probe:NAME`)
      ^ `whenever`
    ");
}

#[test]
fn all_slots_together_are_bounded() {
    check_error!("services:
  s0: { command: x, scale: 1000 }
  s1: { command: x, scale: 1000 }
  s2: { command: x, scale: 1000 }
  s3: { command: x, scale: 1000 }
  s4: { command: x, scale: 1000 }
  s5: { command: x, scale: 1000 }
  s6: { command: x, scale: 1000 }
  s7: { command: x, scale: 1000 }
  s8: { command: x, scale: 1000 }
  s9: { command: x, scale: 1000 }
  s10: { command: x, scale: 1000 }
  s11: { command: x, scale: 1000 }
  s12: { command: x, scale: 1000 }
  s13: { command: x, scale: 1000 }
  s14: { command: x, scale: 1000 }
  s15: { command: x, scale: 1000 }
  s16: { command: x, scale: 1000 }
", @"
    upbeat.yaml:18:29: The project has 17000 copies of services, and 16384 copies are the most on one machine (lower `scale`, or split the project)
      ^ `1000`
    ");
}

#[test]
fn one_error_does_not_hide_another() {
    check_error!("name: '-'
services:
  web: { comand: x, scale: lots, depends_on: [bd] }
  db: { command: y, depends_on: [web], healthcheck: { tcp: x } }
  web: {}
", @"
    upbeat.yaml:1:7: `-` is not a valid project name: it must start with a letter or a digit
      ^ `'-'`
    upbeat.yaml:3:10: Unknown key `services.web.comand` (did you mean `command`?)
      ^ `comand` not a key of a service
    upbeat.yaml:3:28: `services.web.scale` must be a whole number, not `lots`
      ^ `lots`
    upbeat.yaml:3:47: Service `web` depends on `bd`, which is not declared (did you mean `db`?)
      ^ `bd`
    upbeat.yaml:4:60: `services.db.healthcheck.tcp` has no port (write `host:port`, such as `127.0.0.1:5432`)
      ^ `x`
    upbeat.yaml:5:3: Duplicate key `web` (keep one of the two)
      ^ `web` the second one
    ");
}

/// What each service waits for and asks, in lines.
fn edges(text: &str) -> String {
    let parsed = crate::read(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(upbeat_model::file::validate(&parsed.project), Ok(()));
    let mut out = String::new();
    for (name, service) in &parsed.project.services {
        for (target, edge) in &service.depends_on {
            let json = serde_json::to_string(edge).expect("an edge serialises");
            out.push_str(&format!("{name} → {target}: {json}\n"));
        }
        for (probe, asked) in &service.probes {
            out.push_str(&format!("{name}.{probe}: {} every {}\n", asked.ask, asked.interval));
        }
    }
    out
}

#[test]
fn what_others_wait_for_is_asked_once() {
    let text = include_str!("fixtures/service/depends_on_conditions.yaml");
    insta::assert_snapshot!(edges(text), @r#"
    again → cache: {"condition":"port_open:127.0.0.1:6379","required":true,"restart":false}
    again → job: {"condition":"service_ready","required":true,"restart":false}
    again → log: {"condition":"log_ready:ready","required":true,"restart":false}
    cache.port-6379: tcp 127.0.0.1:6379 every 1s
    db.readiness: tcp 127.0.0.1:5432 every 10s
    far.port-10.0.0.1-6379: tcp 10.0.0.1:6379 every 10s
    log.log-4b65ad37: log line /ready/ every 10s
    only.line: log line /up/ every 10s
    six.port-0755e06b-80: tcp [::1]:80 every 10s
    warm.warm: exec ./warm every 10s
    web → cache: {"condition":"port_open:127.0.0.1:6379","required":true,"restart":false}
    web → db: {"condition":"service_healthy","required":true,"restart":false,"on_restart":"restart","on_failure":"wait","timeout":120000}
    web → fails: {"condition":"service_failed","required":true,"restart":false}
    web → far: {"condition":"port_open:10.0.0.1:6379","required":true,"restart":false}
    web → job: {"condition":"service_completed","required":true,"restart":false}
    web → log: {"condition":"log_ready:ready","required":true,"restart":false,"on_restart":"stop"}
    web → nobody: {"condition":"port_open:127.0.0.1:1","required":false,"restart":false}
    web → nothing: {"condition":"service_started","required":false,"restart":false}
    web → only: {"condition":"probe:line","required":true,"restart":false}
    web → six: {"condition":"port_open:[::1]:80","required":true,"restart":false}
    web → warm: {"condition":"probe:warm","required":true,"restart":false,"on_restart":"reload","on_failure":"continue"}
    "#);
}

#[test]
fn the_name_of_a_probe_that_is_made_is_always_the_same() {
    let host = "h".repeat(60);
    let text = format!(
        "services:
  a: {{ command: x, depends_on: {{ b: {{ condition: port_open, port: '{host}:0080' }} }} }}
  b: {{ command: x }}
  c: {{ command: x, depends_on: {{ b: {{ condition: log_ready, pattern: 'ready (on|at) [0-9]+' }} }} }}
  d: {{ command: x, depends_on: {{ b: {{ condition: port_open, port: '127.0.0.1:080' }} }} }}
"
    );
    insta::assert_snapshot!(edges(&text).replace(&host, "…"), @r#"
    a → b: {"condition":"port_open:…:80","required":true,"restart":false}
    b.log-9766233e: log line /ready (on|at) [0-9]+/ every 10s
    b.port-598bfe14-80: tcp …:80 every 10s
    b.port-80: tcp 127.0.0.1:80 every 10s
    c → b: {"condition":"log_ready:ready (on|at) [0-9]+","required":true,"restart":false}
    d → b: {"condition":"port_open:127.0.0.1:80","required":true,"restart":false}
    "#);
}

//! A project that did not come from a file is judged by the same rules.

use insta::assert_snapshot;
use upbeat_model::file::validate;
use upbeat_model::project::{Project, Question};

fn complaints(json: serde_json::Value) -> String {
    let project: Project = serde_json::from_value(json).expect("the shape is right");
    validate(&project).expect_err("the project is refused").join("\n")
}

#[test]
fn a_hostile_project_is_refused_rule_by_rule() {
    let project = serde_json::json!({
        "name": "shop",
        "base_environment": { "A=B": "" },
        "services": {
            "web": {
                "command": [],
                "environment": { "": "x", "N": "a\0b" },
                "working_dir": "bin",
                "user": "root:",
                "depends_on": { "nobody": {}, "maybe": { "required": false }, "db": {} },
                "probes": { "readiness": {
                    "ask": { "http": { "url": "ftp://a" } },
                    "interval": 0, "timeout": 0, "failure_threshold": 0,
                    "start_period": u64::MAX, "start_interval": 0,
                } },
                "stop_signal": 0,
                "stop_grace_period": u64::MAX,
                "stop_command": [""],
                "scale": 1001,
                "labels": { "": "a" },
            },
            "db": {
                "command": ["x\0"],
                "working_dir": "/",
                "depends_on": { "web": {} },
                "probes": { "readiness": { "ask": { "log": "(" } } },
            },
        },
    });
    assert_snapshot!(complaints(project), @"
    `base_environment` has a variable with a bad name: `A=B` (a name has no space and no `=`)
    `services.db.command` contains a NUL character (take it out; no program can be given one)
    `services.db.probes.readiness.log` is not a regular expression: unclosed group
    `services.web.command` is empty (give a program and its arguments)
    `services.web.environment` has a variable without a name (write `NAME=value`)
    `services.web.environment` contains a NUL character (take it out; no program can be given one)
    `services.web.working_dir` must be an absolute path (start it with `/`)
    `services.web.user` is not a user: `root:` (write `name`, `uid` or `user:group`)
    `services.web.stop_command` names no program: its first word is empty
    `services.web.stop_signal` must be a signal from 1 to 64, not 0
    `services.web.stop_grace_period` is longer than a year
    `services.web.scale` must be from 0 to 1000, not 1001
    `services.web.labels` has a label without a name
    `services.web.probes.readiness.http` must be a URL that starts with `http://` or `https://` (such as `http://127.0.0.1:8080/health`)
    `services.web.probes.readiness.interval` must be longer than zero
    `services.web.probes.readiness.timeout` must be longer than zero
    `services.web.probes.readiness.start_interval` must be longer than zero
    `services.web.probes.readiness.start_period` is longer than a year
    `services.web.probes.readiness.failure_threshold` must be at least 1 (without the key it is 3)
    Service `web` depends on `nobody`, which is not declared
    Circular dependency detected: db → web → db (take one of these dependencies out)
    ");
}

#[test]
fn every_rule_of_probes_and_edges_holds_on_the_wire() {
    let probe = |ask: serde_json::Value| serde_json::json!({ "ask": ask });
    let tls =
        |tls: serde_json::Value| probe(serde_json::json!({ "http": { "url": "https://a", "tls": tls } }));
    let project = serde_json::json!({
        "name": "shop",
        "services": {
            "asks": {
                "command": ["x"], "working_dir": "/",
                "probes": {
                    "a": probe(serde_json::json!({ "http": {
                        "url": "http://a", "method": "get", "headers": { "Host": "x", "X": "\n" },
                        "status": [[200, 100]], "body": "(", "tls": { "insecure": true },
                    } })),
                    "b": probe(serde_json::json!({ "tcp": "a" })),
                    "c": probe(serde_json::json!({ "udp": { "address": "a", "send": "x".repeat(1201), "expect": "" } })),
                    "d": probe(serde_json::json!({ "grpc": { "address": "a", "service": "a b", "tls": { "insecure": true, "ca": "x" } } })),
                    "e": probe(serde_json::json!({ "unix": "run/x" })),
                    "f": probe(serde_json::json!({ "exec": [] })),
                    "g": probe(serde_json::json!({ "file": { "path": "x", "max_age": 0 } })),
                    "h": probe(serde_json::json!({ "watchdog": 0 })),
                    "i": probe(serde_json::json!({ "prints": u64::MAX })),
                    "j": probe(serde_json::json!({ "memory": 0 })),
                    "k": probe(serde_json::json!({ "descriptors": 0 })),
                    "l": probe(serde_json::json!({ "cpu": 0 })),
                    "m": tls(serde_json::json!({ "ca": "-----BEGIN RSA PRIVATE KEY-----" })),
                    "n": tls(serde_json::json!({ "server_name": "a b" })),
                    "o": probe(serde_json::json!("notify")),
                    "p": probe(serde_json::json!("notify")),
                    "q": { "ask": "notify", "initial_delay": u64::MAX, "success_threshold": 1001,
                           "on_failure": { "action": { "signal": 65 } } },
                    "r": { "ask": { "tcp": "a:1" }, "success_threshold": 0,
                           "on_failure": { "action": "stop", "max_attempts": 101 } },
                    "s": { "ask": { "tcp": "a:1" }, "on_failure": { "action": { "exec": [] } } },
                    "t": { "ask": { "tcp": "a:1" }, "on_failure": { "action": "stop", "window": 0 } },
                    "u": { "ask": { "log": "x" }, "success_threshold": 2, "timeout": 9 },
                    "v": { "ask": { "watchdog": 1 }, "initial_delay": 1 },
                },
                "pre_start": [{ "command": [], "timeout": 0 }],
                "post_stop": [{ "command": ["x"], "working_dir": "x" }],
                "reload": { "signal": 0 },
            },
            "outside": {
                "command": ["x"], "working_dir": "/", "external": true,
                "probes": { "a": probe(serde_json::json!({ "log": "x" })) },
                "reload": { "signal": 1 }, "tty": true, "exit_on_end": true, "stop_signal": 2,
            },
            "waits": {
                "command": ["x"], "working_dir": "/",
                "depends_on": {
                    "asks": { "condition": "probe:zzz", "on_restart": "reload", "timeout": 0 },
                    "outside": { "condition": "service_completed" },
                },
            },
        },
    });
    assert_snapshot!(complaints(project), @"
    `services.asks.pre_start` is empty (give a program and its arguments)
    `services.asks.pre_start` must be longer than zero
    `services.asks.post_stop` must be an absolute path (start it with `/`)
    `services.asks.probes.a.http.method` is not a method: `get` (did you mean `GET`?)
    `services.asks.probes.a.http.headers` has the header `Host`, which is not to be chosen (take it out: it is the host of the URL)
    `services.asks.probes.a.http.headers` has a character that no header has (write visible ASCII)
    `services.asks.probes.a.http.body` is not a regular expression: unclosed group
    `services.asks.probes.a.http.status` has a range that ends before it begins: `200-100`
    `services.asks.probes.b.tcp` has no port (write `host:port`, such as `127.0.0.1:5432`)
    `services.asks.probes.c.udp.address` has no port (write `host:port`, such as `127.0.0.1:5432`)
    `services.asks.probes.c.udp.send` is longer than 1200 bytes (every network takes so much in one piece)
    `services.asks.probes.c.udp.expect` is empty (name a part of what is to be found)
    `services.asks.probes.d.grpc.address` has no port (write `host:port`, such as `127.0.0.1:5432`)
    `services.asks.probes.d.grpc.service` is not a service of gRPC: `a b` (write its full name, such as `shop.Orders`)
    `services.asks.probes.d.grpc.tls.ca` has no certificate (certificates are wanted as PEM)
    `services.asks.probes.d.grpc.tls.ca_file` has no effect beside `insecure: true` (keep one of the two)
    `services.asks.probes.e.unix` must be an absolute path (start it with `/`)
    `services.asks.probes.f.exec` is empty (give a program and its arguments)
    `services.asks.probes.g.file.path` must be an absolute path (start it with `/`)
    `services.asks.probes.g.file.max_age` must be longer than zero
    `services.asks.probes.h.watchdog` must be longer than zero
    `services.asks.probes.i.prints_within` is longer than a year
    `services.asks.probes.j.memory` must be at least 1, not 0
    `services.asks.probes.k.descriptors` must be at least 1, not 0
    `services.asks.probes.l.cpu` must be from 1 to 819200, not 0
    `services.asks.probes.m.http.tls.ca` has a private key (name a file with certificates alone)
    `services.asks.probes.n.http.tls.server_name` has a host that is neither a name nor an address: `a b`
    `services.asks.probes.q.initial_delay` is longer than a year
    `services.asks.probes.q.success_threshold` must be from 1 to 1000, not 1001
    `services.asks.probes.q.on_failure` must be a signal from 1 to 64, not 65
    `services.asks.probes.r.success_threshold` must be from 1 to 1000, not 0
    `services.asks.probes.r.on_failure` has `max_attempts` that must be from 1 to 100, not 101
    `services.asks.probes.s.on_failure` is empty (give a program and its arguments)
    `services.asks.probes.t.on_failure` must be longer than zero
    `services.asks.probes.u.success_threshold` has no effect beside `log`: that is not asked but told, and what is said once is a yes (take it out)
    `services.asks.reload` must be a signal from 1 to 64, not 0
    `services.asks.probes.p` asks for `notify`, and so does `o`: a service says it for all (keep one of the two)
    `services.asks.probes.v` asks for `watchdog`, and so does `h`: a service says it for all (keep one of the two)
    `services.asks.probes.v.initial_delay` has no effect: the watchdog begins with `READY=1`, for which `o` waits (take it out)
    `services.outside.exit_on_end` means nothing for an external service (take it out: its end is not seen, only what its probes say)
    `services.outside.stop_signal` means nothing for an external service (take it out: there is no process here to be sent one: `stop_command` stops it)
    `services.outside.tty` means nothing for an external service (take it out: nothing is printed here where it runs)
    `services.outside` is external and has no `stop_command` (say how it is stopped, such as `stop_command: systemctl stop web`)
    `services.outside` is external and has no probe that could say whether it is there (give it one with `http`, `tcp`, `udp`, `grpc`, `unix`, `exec` or `file`)
    `services.outside.probes.a` asks `log`, and of an external service no process is known (ask `http`, `tcp`, `udp`, `grpc`, `unix`, `exec` or `file`)
    `services.outside.reload` sends a signal, and of an external service no process is known (give it a `command`)
    Service `waits` waits for the probe `zzz` of `asks`, which has no such probe
    Service `waits` is to be reloaded with `asks`, and does not say how
    `services.waits.depends_on.asks.timeout` must be longer than zero
    Service `waits` waits for `outside` to end, which is external
    ");
}

#[test]
fn what_is_waited_for_on_the_wire_is_asked_by_a_probe_that_is_there() {
    let up = Question::Log("up".into());
    let name = up.own_name().unwrap();
    let waits = |condition: &str| serde_json::json!({ "command": ["x"], "working_dir": "/", "depends_on": { "log": { "condition": condition } } });
    let project = serde_json::json!({
        "name": "app",
        "services": {
            "log": { "command": ["x"], "working_dir": "/", "probes": { name.as_str(): { "ask": { "log": "up" } } } },
            "good": waits("log_ready:up"),
            "line": waits("log_ready:down\u{7}"),
            "port": waits("port_open:127.0.0.1:80"),
        },
    });
    assert_snapshot!(complaints(project), @r"
    Service `line` waits for `log_ready:down\u{7}` of `log`, which no probe of it asks
    Service `port` waits for `port_open:127.0.0.1:80` of `log`, which no probe of it asks
    ");
}

#[test]
fn a_service_has_not_too_many_probes_on_the_wire() {
    let probes: serde_json::Map<_, _> =
        (0..33).map(|i| (format!("p{i}"), serde_json::json!({ "ask": { "tcp": "a:1" } }))).collect();
    let service = serde_json::json!({ "command": ["x"], "working_dir": "/", "probes": probes });
    assert_snapshot!(complaints(serde_json::json!({ "name": "shop", "services": { "a": service } })), @"`services.a.probes` has 33 probes, and 32 are the most");
}

/// What is made for a copy is judged as what stands beside it.
#[test]
fn a_copy_asks_nothing_that_its_service_could_not() {
    let service = serde_json::json!({
        "command": ["x"], "working_dir": "/", "external": true, "stop_command": ["x"],
        "probes": { "a": { "ask": { "tcp": "a:1" } } },
        "per_copy": { "command": ["x"], "stop_command": ["x"], "probes": { "a": { "log": { "{{": "{{ index }}" } } } },
    });
    assert_snapshot!(complaints(serde_json::json!({ "name": "shop", "services": { "a": service } })), @"
    `services.a` is external and has no probe that could say whether it is there (give it one with `http`, `tcp`, `udp`, `grpc`, `unix`, `exec` or `file`)
    `services.a.probes.a` asks `log`, and of an external service no process is known (ask `http`, `tcp`, `udp`, `grpc`, `unix`, `exec` or `file`)
    ");
}

#[test]
fn a_project_has_services_and_not_too_many_slots() {
    assert_snapshot!(complaints(serde_json::json!({ "name": "shop", "services": {} })), @"the project has no service");
    let service = serde_json::json!({ "command": ["x"], "working_dir": "/", "scale": u32::MAX });
    let project = serde_json::json!({ "name": "shop", "services": { "a": service, "b": service } });
    assert_snapshot!(complaints(project), @"the project has 8589934590 copies of services, and 16384 are the most");
}

#[test]
fn nothing_depends_on_itself_on_the_wire() {
    let own = serde_json::json!({ "command": ["x"], "working_dir": "/", "depends_on": { "a": {} } });
    assert_snapshot!(complaints(serde_json::json!({ "name": "shop", "services": { "a": own } })), @"Service `a` depends on itself");
}

#[test]
fn complaints_are_bounded() {
    let bad = serde_json::json!({ "command": [], "working_dir": "x" });
    let services: serde_json::Map<_, _> = (0..100).map(|i| (format!("s{i}"), bad.clone())).collect();
    let project = serde_json::json!({ "name": "shop", "services": services });
    let project: Project = serde_json::from_value(project).unwrap();
    let complaints = validate(&project).expect_err("the project is refused");
    assert_eq!(complaints.len(), 51);
    assert_eq!(complaints[50], "and 150 more");
}

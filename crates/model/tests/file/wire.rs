//! A project that did not come from a file is judged by the same rules.

use insta::assert_snapshot;
use upbeat_model::file::validate;
use upbeat_model::project::Project;

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

//! The schema for editors accepts what the reader accepts.

use serde_json::{Value, json};
use upbeat_model::file::{Context, Source, resolve, schema};

/// Whether the schema accepts a document. Only what is used of JSON Schema is known here; anything
/// else is an error of its own.
pub(super) fn accepts(document: &Value) -> bool {
    let schema = schema();
    is_valid(document, &schema, &schema)
}

fn is_valid(value: &Value, schema: &Value, root: &Value) -> bool {
    let Value::Object(rules) = schema else { return schema == &Value::Bool(true) };
    rules.iter().all(|(rule, told)| match rule.as_str() {
        "$schema" | "title" | "$defs" | "patternProperties" => true,
        "$ref" => {
            let name = told.as_str().and_then(|path| path.strip_prefix("#/$defs/")).expect("a definition");
            is_valid(value, &root["$defs"][name], root)
        }
        "anyOf" => told.as_array().expect("schemas").iter().any(|schema| is_valid(value, schema, root)),
        "enum" => told.as_array().expect("values").contains(value),
        "type" => match told {
            Value::Array(types) => types.iter().any(|one| is_of(value, one)),
            one => is_of(value, one),
        },
        "pattern" => value.as_str().is_none_or(|text| matches(text, told.as_str().expect("a pattern"))),
        "minimum" => value.as_i64().is_none_or(|number| Some(number) >= told.as_i64()),
        "maximum" => value.as_i64().is_none_or(|number| Some(number) <= told.as_i64()),
        "minItems" => value.as_array().is_none_or(|items| Some(items.len() as u64) >= told.as_u64()),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| is_valid(item, told, root))),
        "properties" => value.as_object().is_none_or(|fields| {
            let known = told.as_object().expect("properties");
            fields.iter().all(|(name, value)| known.get(name).is_none_or(|one| is_valid(value, one, root)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|fields| {
            let is_known =
                |name: &str| rules.get("properties").is_some_and(|known| known.get(name).is_some());
            let mut others = fields.iter().filter(|(name, _)| !name.starts_with("x-") && !is_known(name));
            others.all(|(_, value)| is_valid(value, told, root))
        }),
        other => panic!("the schema uses `{other}`"),
    })
}

fn is_of(value: &Value, kind: &Value) -> bool {
    match kind.as_str().expect("a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the schema uses the type `{other}`"),
    }
}

fn matches(text: &str, pattern: &str) -> bool {
    match pattern {
        "\\$" => text.contains('$'),
        "^-?[0-9]+$|\\$" => text.contains('$') || text.parse::<i128>().is_ok(),
        other => panic!("the schema uses the pattern `{other}`"),
    }
}

/// What the reader says of a service with these fields, in a file that other tools read too.
fn is_read(document: &Value) -> Result<(), String> {
    let session = |name: &str| (name == "V").then(|| "5".to_owned());
    let context = Context::new("/srv/shop", "shop", &session);
    let text = document.to_string();
    let read = resolve(&[Source { name: "upbeat.json", text: &text }], &context);
    read.map(drop).map_err(|errors| errors.to_string())
}

#[test]
fn what_is_read_is_accepted() {
    for fields in [
        json!({ "command": "x", "environment": ["A=b", "C"], "labels": { "a": 1, "b": null } }),
        json!({ "command": ["x", 5, true], "scale": "2", "restart": "on-failure:3", "x-mine": [1] }),
        json!({ "command": ["x"], "scale": "${V}", "stop_signal": 15, "healthcheck": { "tcp": "a:1", "retries": "${V}" } }),
        json!({ "image": "x", "command": [], "entrypoint": null, "gpus": "all", "ports": [80, "81:81", { "target": 82 }] }),
        json!({ "image": "x", "extra_hosts": { "a": "1.1.1.1", "b": ["::1"] }, "networks": { "n": null }, "dns": "1.1.1.1" }),
        json!({ "image": "x", "extra_hosts": ["a:1.1.1.1"], "networks": ["n"], "dns": ["1.1.1.1"], "build": "." }),
        json!({ "image": "x", "depends_on": [], "deploy": null, "ulimits": { "nofile": 5, "core": { "hard": 1, "soft": "1" } } }),
        json!({ "image": "x", "volumes": ["a:/b", { "type": "tmpfs", "target": "/t" }], "env_file": { "path": "${V}", "required": false }, "oom_score_adj": -5 }),
    ] {
        let document = json!({
            "services": { "web": fields },
            "networks": { "n": null, "old": { "external": { "name": "x" } }, "new": { "external": true } },
            "volumes": { "a": {} },
        });
        assert_eq!(is_read(&document), Ok(()));
        assert!(accepts(&document), "{document}");
    }
}

#[test]
fn null_is_accepted_where_a_tag_may_stand_and_nowhere_else() {
    let text = "
include: !reset null
services:
  web:
    image: x
    command: !reset null
    ports: !reset null
    environment: { A: !reset null }
    depends_on: { db: !reset null }
    healthcheck: { test: x, interval: !reset null }
    extra_hosts: { a: !reset null }
  gone: !reset null
volumes: { v: !reset null }
";
    let nowhere = |_: &str| None;
    let read = resolve(&[Source { name: "upbeat.yaml", text }], &Context::new("/srv/shop", "shop", &nowhere));
    assert!(read.is_ok());
    let document = json!({
        "include": null,
        "services": {
            "web": {
                "image": "x",
                "command": null,
                "ports": null,
                "environment": { "A": null },
                "depends_on": { "db": null },
                "healthcheck": { "test": "x", "interval": null },
                "extra_hosts": { "a": null },
            },
            "gone": null,
        },
        "volumes": { "v": null },
    });
    assert!(accepts(&document));
    for wrong in [
        json!({ "services": { "web": { "ports": [null] } } }),
        json!({ "services": { "web": { "dns": [null] } } }),
        json!({ "services": { "web": { "comand": "x" } } }),
        json!({ "services": { "web": { "command": "x", "oom_score_adj": 5000 } } }),
        json!({ "services": [] }),
        Value::Null,
    ] {
        assert!(is_read(&wrong).is_err(), "{wrong}");
        assert!(!accepts(&wrong), "{wrong}");
    }
}

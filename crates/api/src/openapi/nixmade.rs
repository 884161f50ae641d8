//! The paths of the first engine for rollouts, in the same document. They are no
//! [`Endpoint`](crate::Endpoint): the client asks the native ones, and these answers have that engine's shapes.

use serde_json::{Value, json};

/// What is sent, or answered.
#[derive(Clone, Copy)]
enum Shape {
    /// Nothing.
    None,
    /// `{"status":"success","message":"ok"}`.
    Done,
    Names,
    Targets,
    Version,
    Options,
    TargetController,
    MonitoringController,
    Rollout,
}

/// A path, and one method it is asked with.
pub struct Described {
    /// With `{namespace}` and so on.
    pub path: &'static str,
    /// `get` or `post`.
    pub method: &'static str,
    summary: &'static str,
    sent: Shape,
    answer: Shape,
}

const fn get(path: &'static str, answer: Shape, summary: &'static str) -> Described {
    Described { path, method: "get", summary, sent: Shape::None, answer }
}

const fn post(path: &'static str, sent: Shape, answer: Shape, summary: &'static str) -> Described {
    Described { path, method: "post", summary, sent, answer }
}

/// All of them, by path.
pub const PATHS: &[Described] = &[
    get("/v1/orchestrate/namespaces", Shape::Names, "The namespaces in which there are entities."),
    get("/v1/orchestrate/{namespace}/entities", Shape::Names, "The entities of a namespace."),
    post(
        "/v1/orchestrate/{namespace}/entities",
        Shape::Targets,
        Shape::Targets,
        "Of an entity that is called so: what every other is posted.",
    ),
    post(
        "/v1/orchestrate/{namespace}/{entity}",
        Shape::Targets,
        Shape::Targets,
        "Say what targets of an entity run, and hear what each shall run.",
    ),
    get("/v1/orchestrate/{namespace}/{entity}/status", Shape::Targets, "What each target shall run."),
    post(
        "/v1/orchestrate/{namespace}/{entity}/status",
        Shape::Targets,
        Shape::Done,
        "Say what targets of an entity run; answered before anything is decided.",
    ),
    get("/v1/orchestrate/{namespace}/{entity}/targets", Shape::Targets, "What each target shall run."),
    get(
        "/v1/orchestrate/{namespace}/{entity}/{group}/status",
        Shape::Targets,
        "What each target of a group shall run.",
    ),
    get("/v1/orchestrate/{namespace}/{entity}/rollout", Shape::Rollout, "Where an entity is."),
    post(
        "/v1/orchestrate/{namespace}/{entity}/version",
        Shape::Version,
        Shape::Done,
        "Ask for a version that all targets shall run.",
    ),
    post(
        "/v1/orchestrate/{namespace}/{entity}/options",
        Shape::Options,
        Shape::Done,
        "Say how carefully targets are moved; `null`, or nothing, for the usual way.",
    ),
    post(
        "/v1/orchestrate/{namespace}/{entity}/target/controller",
        Shape::TargetController,
        Shape::Done,
        "Say who is asked about targets.",
    ),
    post(
        "/v1/orchestrate/{namespace}/{entity}/monitoring/controller",
        Shape::MonitoringController,
        Shape::Done,
        "Say who is asked about the whole.",
    ),
];

fn schema(shape: Shape) -> Value {
    let text = json!({ "type": "string" });
    let seconds = json!({ "type": "integer", "minimum": 0 });
    let percent = json!({ "type": "integer", "minimum": 0, "maximum": 100 });
    let options = json!({ "type": "object", "properties": {
        "batchpercent": percent, "successpercent": percent,
        "successtimeoutsecs": seconds, "durationtimeoutsecs": seconds } });
    match shape {
        Shape::None => Value::Null,
        Shape::Done => json!({ "type": "object", "required": ["status", "message"],
            "properties": { "status": { "const": "success" }, "message": text } }),
        Shape::Names => json!({ "type": "array", "items": text }),
        Shape::Targets => json!({ "type": "array", "items": { "type": "object", "required": ["name"],
            "properties": { "name": text, "group": text, "version": text, "message": text,
                "tags": { "type": "object", "additionalProperties": text },
                "isError": { "type": "boolean" } } } }),
        Shape::Version => {
            json!({ "type": "object", "required": ["version"], "properties": { "version": text } })
        }
        Shape::Options => options,
        Shape::TargetController => json!({ "type": "object", "properties": {
            "selection": text, "approval": text, "removal": text, "monitoring": text } }),
        Shape::MonitoringController => {
            json!({ "type": "object", "properties": { "externalmonitoring": text } })
        }
        Shape::Rollout => json!({ "type": "object", "required": ["options"], "properties": {
            "targetversion": text, "rollingversion": text, "lastknowngoodversion": text,
            "lastknownbadversion": text, "options": options } }),
    }
}

/// What stands under the method of the path.
pub(super) fn operation(described: &Described) -> Value {
    let Described { path, method, summary, sent, answer } = described;
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter =
        |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
    let role = if *method == "get" { "viewer" } else { "operator" };
    let body = |schema: Value| json!({ "application/json": { "schema": schema } });
    let error = json!({ "type": "object", "required": ["status", "message"],
        "properties": { "status": { "const": "error" }, "message": { "type": "string" } } });
    let mut operation = json!({
        "operationId": operation_id(path, method),
        "summary": summary,
        "description": format!("For those who are {role} or more."),
        "parameters": names.map(parameter).collect::<Vec<_>>(),
        "responses": {
            "200": { "description": "Done.", "content": body(schema(*answer)) },
            "default": { "description": "Not done; `message` says why.", "content": body(error) },
        },
    });
    if !matches!(sent, Shape::None) {
        let required = !matches!(sent, Shape::Options);
        operation["requestBody"] = json!({ "required": required, "content": body(schema(*sent)) });
    }
    operation
}

/// `get_orchestrate_namespace_entities`.
fn operation_id(path: &str, method: &str) -> String {
    let words = path.trim_start_matches("/v1/").replace(['{', '}'], "").replace('/', "_");
    format!("{method}_{words}")
}

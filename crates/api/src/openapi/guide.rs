//! The paths of the guide's services, in the same document. They are no [`Endpoint`](crate::Endpoint): the
//! client does not ask them, and their answers have the guide's shape.

use serde_json::{Value, json};

/// One path and the one method it is asked with.
pub struct Described {
    /// With `{name}` where a service is named.
    pub path: &'static str,
    /// `get` or `post`.
    pub method: &'static str,
    summary: &'static str,
    /// Of a query: the name, what it says, and its type.
    query: Option<(&'static str, &'static str, &'static str)>,
    takes_services: bool,
}

const fn get(path: &'static str, summary: &'static str) -> Described {
    Described { path, method: "get", summary, query: None, takes_services: false }
}

const fn post(path: &'static str, summary: &'static str) -> Described {
    Described { method: "post", ..get(path, summary) }
}

/// All of them.
pub const PATHS: &[Described] = &[
    get("/api/v1/services/list", "Every registered service, by name."),
    get("/api/v1/services/status", "The status of every service, as known."),
    get("/api/v1/services/health", "The health of every service, asked now."),
    Described {
        query: Some(("services", "Which, by commas; all where nothing is said.", "string")),
        ..get("/api/v1/services/order", "The order in which services and all they need are started.")
    },
    Described {
        takes_services: true,
        ..post("/api/v1/services/register", "Registers a service, or a list of them: all or none.")
    },
    post("/api/v1/services/start", "Starts all services."),
    post("/api/v1/services/stop", "Stops all services."),
    get("/api/v1/services/{name}/health", "The health of a service, asked now."),
    Described {
        query: Some(("tail", "So many lines before the end; 100 where nothing is said.", "integer")),
        ..get("/api/v1/services/{name}/logs", "The last lines of a service.")
    },
    post("/api/v1/services/{name}/start", "Starts a service and what it needs."),
    post("/api/v1/services/{name}/stop", "Stops a service."),
    post("/api/v1/services/{name}/restart", "Stops a service and starts it again."),
    post("/api/v1/services/{name}/unregister", "Forgets a service."),
];

/// What stands at the path.
pub(super) fn item(described: &Described) -> Value {
    let Described { path, method, summary, query, takes_services } = described;
    let mut parameters = Vec::new();
    if path.contains("{name}") {
        let schema = json!({ "type": "string" });
        parameters.push(json!({ "name": "name", "in": "path", "required": true, "schema": schema }));
    }
    if let Some((name, description, kind)) = query {
        let schema = json!({ "type": kind });
        parameters.push(json!({ "name": name, "in": "query", "description": description, "schema": schema }));
    }
    let role = if *method == "get" { "viewer" } else { "operator" };
    let envelope = |fields: Value, required: &[&str]| {
        json!({ "application/json": { "schema":
            { "type": "object", "properties": fields, "required": required } } })
    };
    let done = envelope(json!({ "success": { "const": true }, "data": {} }), &["success", "data"]);
    let error = json!({ "success": { "const": false }, "error": { "type": "string" } });
    let mut operation = json!({
        "operationId": operation_id(path, method),
        "summary": summary,
        "description": format!("For those who are {role} or more."),
        "parameters": parameters,
        "responses": {
            "200": { "description": "Done.", "content": done },
            "default": {
                "description": "Not done; `error` says why.",
                "content": envelope(error, &["success", "error"]),
            },
        },
    });
    if *takes_services {
        let text = json!({ "type": "string" });
        let service = json!({ "type": "object", "additionalProperties": false,
            "required": ["name", "start_command"],
            "properties": { "name": text, "description": text, "start_command": text, "stop_command": text,
                "dependencies": { "type": "array", "items": text },
                "health_check_endpoint": { "type": ["string", "null"] } } });
        let either = json!({ "anyOf": [service, { "type": "array", "items": service, "minItems": 1 }] });
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": either } } });
    }
    json!({ *method: operation })
}

/// `services_name_start`.
fn operation_id(path: &str, method: &str) -> String {
    let words = path.trim_start_matches("/api/v1/").replace(['{', '}'], "").replace('/', "_");
    format!("{method}_{words}")
}

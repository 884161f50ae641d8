//! The description of the native API (OpenAPI 3.1), made of the [`Endpoint`] table and the types
//! themselves, so that it can say nothing that is not so.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};
use upbeat_model::device::{Device, DeviceApp, DeviceChanged};
use upbeat_model::rollout::{
    Controllers, NAME_MAX, PastState, RolloutState, RolloutsPage, TargetState, UnitState, UnitsPage,
};
use upbeat_model::{
    Action, App, AppName, AppSummary, AuditRecord, AuditVerdict, Event, IdempotencyKey, ImageBuild,
    ImageState, Operation, OperationId, Plan, ServiceName, Starts, Stats, TokenInfo, TokenName, WebhookName,
    WebhookState, WebhookTested, Why,
};

use crate::endpoint::{Endpoint, Method};
use crate::exec::{Attach, EXEC_PROTOCOL, Exec, ExecEnd};
use crate::rollout_units::{StartUnit, UnitAction};
use crate::rollouts::{Assignments, Reports, RolloutAction, RolloutChanged, RolloutsQuery, TargetsQuery};
use crate::types::{
    AuditQuery, BUILD_TYPE, BuildRecord, DeviceQuery, DownQuery, End, EventsQuery, ImageQuery, IssuedToken,
    LogQuery, LogRecord, NewToken, PlanQuery, Problem, ProblemKind, RemovedNetworks, RemovedVolumes,
    SeekQuery, Up, Version, WatchEventsQuery,
};

pub mod guide;
pub mod nixmade;

/// What an endpoint takes and gives.
struct Shape {
    query: Option<Schema>,
    body: Option<Schema>,
    answer: Answer,
}

enum Answer {
    /// One JSON value.
    Json(Schema),
    /// Server-sent events of this name, each with one JSON value.
    Events(&'static str, Schema),
    /// Newline-delimited JSON values.
    Lines(Schema),
    /// Prometheus' text format.
    Metrics,
    /// Another protocol, at the end of which stands this.
    Upgrade(Schema),
}

/// The whole document.
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .into_generator();
    let mut paths = Map::new();
    for &endpoint in Endpoint::ALL {
        let shape = shape(endpoint, &mut generator);
        let operation = operation(endpoint, shape, &mut generator);
        let path = paths.entry(endpoint.path()).or_insert_with(|| json!({}));
        path[endpoint.method().as_str().to_ascii_lowercase()] = operation;
    }
    for described in guide::PATHS {
        paths.insert(described.path.to_owned(), guide::item(described));
    }
    for described in nixmade::PATHS {
        let path = paths.entry(described.path).or_insert_with(|| json!({}));
        path[described.method] = nixmade::operation(described);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Upbeat",
            "version": "1",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "The native API, spoken through the daemon's unix socket, where the kernel \
                says who asks; or over TCP, where a token says it. A query key or a field that is not \
                listed is refused. Every answer that is not a success is a \
                `Problem`, but for requests that are no HTTP, and below `/api/v1/services` and \
                `/v1/orchestrate`, whose answers have shapes of their own.",
        },
        "servers": [{ "url": "http://localhost", "description": "Through the daemon's unix socket." }],
        "paths": paths,
        "security": [{}, { "token": [] }],
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "Needed over TCP; `upbeat token create` makes one.",
            } },
        },
    })
}

fn shape(endpoint: Endpoint, g: &mut SchemaGenerator) -> Shape {
    let plain = |answer| Shape { query: None, body: None, answer };
    let takes = |body, answer| Shape { body: Some(body), ..plain(Answer::Json(answer)) };
    let asks = |query, answer| Shape { query: Some(query), ..plain(answer) };
    match endpoint {
        Endpoint::Version => plain(Answer::Json(g.subschema_for::<Version>())),
        Endpoint::OpenApi => plain(Answer::Json(schemars::json_schema!({ "type": "object" }))),
        Endpoint::Apps => plain(Answer::Json(g.subschema_for::<Vec<AppSummary>>())),
        Endpoint::App => plain(Answer::Json(g.subschema_for::<App>())),
        Endpoint::WatchApp => plain(Answer::Events("app", g.subschema_for::<App>())),
        Endpoint::Up => takes(g.subschema_for::<Up>(), g.subschema_for::<Operation>()),
        Endpoint::Plan => Shape {
            query: Some(PlanQuery::json_schema(g)),
            ..takes(g.subschema_for::<Up>(), g.subschema_for::<Plan>())
        },
        Endpoint::Act => takes(g.subschema_for::<Action>(), g.subschema_for::<Operation>()),
        Endpoint::Exec => Shape {
            body: Some(g.subschema_for::<Exec>()),
            ..plain(Answer::Upgrade(g.subschema_for::<ExecEnd>()))
        },
        Endpoint::Attach => Shape {
            body: Some(g.subschema_for::<Attach>()),
            ..plain(Answer::Upgrade(g.subschema_for::<ExecEnd>()))
        },
        Endpoint::Down => asks(DownQuery::json_schema(g), Answer::Json(g.subschema_for::<Operation>())),
        Endpoint::RemoveNetworks => plain(Answer::Json(g.subschema_for::<RemovedNetworks>())),
        Endpoint::RemoveVolumes => plain(Answer::Json(g.subschema_for::<RemovedVolumes>())),
        Endpoint::Operation => plain(Answer::Json(g.subschema_for::<Operation>())),
        Endpoint::WatchOperation => plain(Answer::Events("operation", g.subschema_for::<Operation>())),
        Endpoint::Why => plain(Answer::Json(g.subschema_for::<Why>())),
        Endpoint::Events => asks(EventsQuery::json_schema(g), Answer::Json(g.subschema_for::<Vec<Event>>())),
        Endpoint::WatchEvents => {
            asks(WatchEventsQuery::json_schema(g), Answer::Events("event", g.subschema_for::<Event>()))
        }
        Endpoint::Stats => plain(Answer::Json(g.subschema_for::<Stats>())),
        Endpoint::WatchStats => plain(Answer::Events("stats", g.subschema_for::<Stats>())),
        Endpoint::Starts => plain(Answer::Json(g.subschema_for::<Starts>())),
        Endpoint::Metrics => plain(Answer::Metrics),
        Endpoint::Logs => asks(LogQuery::json_schema(g), Answer::Lines(g.subschema_for::<LogRecord>())),
        Endpoint::Rollouts => {
            asks(RolloutsQuery::json_schema(g), Answer::Json(g.subschema_for::<RolloutsPage>()))
        }
        Endpoint::Rollout => plain(Answer::Json(g.subschema_for::<RolloutState>())),
        Endpoint::WatchRollout => plain(Answer::Events("rollout", g.subschema_for::<RolloutState>())),
        Endpoint::RolloutHistory => plain(Answer::Json(g.subschema_for::<Vec<PastState>>())),
        Endpoint::RolloutTargets => {
            asks(TargetsQuery::json_schema(g), Answer::Json(g.subschema_for::<Vec<TargetState>>()))
        }
        Endpoint::ReportTargets => takes(g.subschema_for::<Reports>(), g.subschema_for::<Assignments>()),
        Endpoint::ActOnRollout => {
            takes(g.subschema_for::<RolloutAction>(), g.subschema_for::<RolloutChanged>())
        }
        Endpoint::SetControllers => {
            takes(g.subschema_for::<Controllers>(), g.subschema_for::<RolloutState>())
        }
        Endpoint::ForgetRollout | Endpoint::ForgetRolloutUnit => {
            plain(Answer::Json(schemars::json_schema!({ "type": "null" })))
        }
        Endpoint::RolloutUnits => {
            asks(RolloutsQuery::json_schema(g), Answer::Json(g.subschema_for::<UnitsPage>()))
        }
        Endpoint::RolloutUnit => plain(Answer::Json(g.subschema_for::<UnitState>())),
        Endpoint::WatchRolloutUnit => plain(Answer::Events("unit", g.subschema_for::<UnitState>())),
        Endpoint::StartRolloutUnit => takes(g.subschema_for::<StartUnit>(), g.subschema_for::<UnitState>()),
        Endpoint::ActOnRolloutUnit => takes(g.subschema_for::<UnitAction>(), g.subschema_for::<UnitState>()),
        Endpoint::Image => asks(ImageQuery::json_schema(g), Answer::Json(g.subschema_for::<ImageState>())),
        Endpoint::BuildImage => plain(Answer::Lines(g.subschema_for::<BuildRecord>())),
        other => of_access(other, g),
    }
}

/// Who is told, who may, and who did.
fn of_access(endpoint: Endpoint, g: &mut SchemaGenerator) -> Shape {
    let plain = |answer| Shape { query: None, body: None, answer };
    match endpoint {
        Endpoint::Webhooks => plain(Answer::Json(g.subschema_for::<Vec<WebhookState>>())),
        Endpoint::TestWebhook => plain(Answer::Json(g.subschema_for::<WebhookTested>())),
        Endpoint::Tokens => plain(Answer::Json(g.subschema_for::<Vec<TokenInfo>>())),
        Endpoint::CreateToken => Shape {
            body: Some(g.subschema_for::<NewToken>()),
            ..plain(Answer::Json(g.subschema_for::<IssuedToken>()))
        },
        Endpoint::RevokeToken => plain(Answer::Json(schemars::json_schema!({ "type": "null" }))),
        Endpoint::Audit => Shape {
            query: Some(AuditQuery::json_schema(g)),
            ..plain(Answer::Json(g.subschema_for::<Vec<AuditRecord>>()))
        },
        Endpoint::VerifyAudit => plain(Answer::Json(g.subschema_for::<AuditVerdict>())),
        other => of_device(other, g),
    }
}

fn of_device(endpoint: Endpoint, g: &mut SchemaGenerator) -> Shape {
    let plain = |query, answer| Shape { query, body: None, answer };
    let document = || schemars::json_schema!({ "type": "object" });
    match endpoint {
        Endpoint::Device => {
            plain(Some(DeviceQuery::json_schema(g)), Answer::Json(g.subschema_for::<Device>()))
        }
        Endpoint::DeviceApp => {
            plain(Some(DeviceQuery::json_schema(g)), Answer::Json(g.subschema_for::<DeviceApp>()))
        }
        Endpoint::WatchDevice => plain(None, Answer::Events("device", g.subschema_for::<Device>())),
        Endpoint::StopSeeking => plain(None, Answer::Json(g.subschema_for::<DeviceChanged>())),
        Endpoint::SetDevice
        | Endpoint::MergeDevice
        | Endpoint::SetDeviceApp
        | Endpoint::MergeDeviceApp
        | Endpoint::RemoveDeviceApp => Shape {
            query: Some(SeekQuery::json_schema(g)),
            body: (endpoint != Endpoint::RemoveDeviceApp).then(document),
            answer: Answer::Json(g.subschema_for::<DeviceChanged>()),
        },
        other => unreachable!("no shape is given for `{}`", other.name()),
    }
}

fn operation(endpoint: Endpoint, shape: Shape, g: &mut SchemaGenerator) -> Value {
    let mut parameters: Vec<Value> = endpoint.parameters().map(|name| path_parameter(name, g)).collect();
    parameters.extend(shape.query.iter().flat_map(query_parameters));
    if endpoint == Endpoint::WatchEvents {
        parameters.push(json!({
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The last sequence number that was seen; comes before `after`.",
            "schema": { "type": "integer", "minimum": 0 },
        }));
    }
    if matches!(endpoint, Endpoint::Up | Endpoint::Act | Endpoint::Down) {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Made up by the client for one change. The same request under the same key, \
                sent again because an answer was lost, is answered with the operation the first one \
                began, for as long as that is remembered. A key that belongs to another request is \
                refused.",
            "schema": g.subschema_for::<IdempotencyKey>(),
        }));
    }
    if endpoint == Endpoint::Exec {
        parameters.push(json!({
            "name": "Upgrade",
            "in": "header",
            "required": true,
            "description": "What is spoken once it is answered.",
            "schema": { "type": "string", "const": EXEC_PROTOCOL },
        }));
    }
    let status = if matches!(shape.answer, Answer::Upgrade(_)) { "101" } else { "200" };
    let mut operation = json!({
        "operationId": snake_case(endpoint.name()),
        "summary": endpoint.summary().trim(),
        "description": format!("For those who are {} or more.", endpoint.role()),
        "parameters": parameters,
        "responses": {
            (status): success(shape.answer, g),
            "default": {
                "description": problems(),
                "content": { "application/json": { "schema": g.subschema_for::<Problem>() } },
            },
        },
    });
    if endpoint.path().starts_with("/api/v1/device") && endpoint.method() != Method::Get {
        let mut begun = operation["responses"]["200"].clone();
        begun["description"] = json!("Begun: the operations can be waited for.");
        operation["responses"]["202"] = begun;
        operation["responses"]["200"]["description"] = json!("All was wanted already.");
    }
    if let Some(body) = shape.body {
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": body } } });
    }
    if endpoint == Endpoint::BuildImage {
        operation["requestBody"] = json!({
            "required": true,
            "description": "One line of JSON, which says what is to be built, and behind it the context: a \
                tar. Where the engine fetches the context from an address, nothing is behind it.",
            "content": { BUILD_TYPE: {
                "schema": { "type": "string" },
                "x-first-line": g.subschema_for::<ImageBuild>(),
            } },
        });
    }
    operation
}

fn success(answer: Answer, g: &mut SchemaGenerator) -> Value {
    match answer {
        Answer::Json(schema) => {
            json!({ "description": "Done.", "content": { "application/json": { "schema": schema } } })
        }
        Answer::Events(name, item) => json!({
            "description": format!(
                "Events named `{name}`, each with one JSON value as data. The last event is named \
                 `end`; without it, the stream is broken."
            ),
            "content": { "text/event-stream": {
                "schema": { "type": "string" },
                "x-event-data": { name: item, "end": g.subschema_for::<End>() },
            } },
        }),
        Answer::Metrics => json!({
            "description": "Prometheus' text format, version 0.0.4.",
            "content": { "text/plain": { "schema": { "type": "string" } } },
        }),
        Answer::Upgrade(end) => json!({
            "description": "It runs. From here on both sides send frames: a byte that says what it is, four that \
                say how long it is (the first the most significant, at most 65536), and so many bytes. From the \
                client: 1, bytes of input; 2, there are no more; 3, columns and lines of the terminal, two bytes \
                each. From the daemon: 4, so many more bytes of input may be sent (four bytes; 262144 to begin \
                with); 5, bytes of its standard output; 6, of its standard error; 7, how it ended, as JSON, which is \
                the last. A client that goes away ends the command.",
            "x-end": end,
        }),
        Answer::Lines(line) => json!({
            "description": "One JSON value a line. The last one says that the stream ends; without \
                it, the stream is broken. Empty lines mean nothing.",
            "content": { "application/x-ndjson": { "schema": { "type": "string" }, "x-line": line } },
        }),
    }
}

fn path_parameter(name: &str, g: &mut SchemaGenerator) -> Value {
    let schema = match name {
        "app" => g.subschema_for::<AppName>(),
        "name" => g.subschema_for::<TokenName>(),
        "webhook" => g.subschema_for::<WebhookName>(),
        "service" => g.subschema_for::<ServiceName>(),
        "id" => g.subschema_for::<OperationId>(),
        // Bytes, in fact: a name of other letters than these of ASCII is shorter.
        "namespace" | "entity" | "unit" => {
            schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": NAME_MAX })
        }
        other => unreachable!("no type is given for the path parameter `{other}`"),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

/// One parameter for each field of a query's type.
fn query_parameters(query: &Schema) -> Vec<Value> {
    let fields = query.get("properties").and_then(Value::as_object);
    fields
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let mut schema = without_null(schema);
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            json!({ "name": name, "in": "query", "description": description, "schema": schema })
        })
        .collect()
}

/// A query cannot say `null`: what is optional is left out.
fn without_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let Some(fields) = schema.as_object_mut() else { return schema };
    if fields.get("default").is_some_and(|default| default.is_null() || *default == json!("")) {
        fields.remove("default");
    }
    if let Some([only, Value::String(null)]) = fields.get("type").and_then(Value::as_array).map(Vec::as_slice)
        && null == "null"
    {
        fields.insert("type".to_owned(), only.clone());
    }
    if let Some([only, null]) = fields.get("anyOf").and_then(Value::as_array).map(Vec::as_slice)
        && *null == json!({ "type": "null" })
        && let Value::Object(only) = only.clone()
    {
        fields.remove("anyOf");
        fields.extend(only);
    }
    schema
}

fn problems() -> String {
    let kinds = [
        ProblemKind::BadRequest,
        ProblemKind::Unauthorized,
        ProblemKind::Forbidden,
        ProblemKind::NotFound,
        ProblemKind::Conflict,
        ProblemKind::Internal,
        ProblemKind::Unavailable,
    ];
    let codes: Vec<String> = kinds.iter().map(|kind| kind.status().to_string()).collect();
    format!("Not done; the body says why. By kind: {}.", codes.join(", "))
}

/// `WatchApp` → `watch_app`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

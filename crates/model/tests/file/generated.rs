//! Documents that nobody wrote: made from our schema and a row of bytes, each byte a choice.
//!
//! The same bytes make the same document, so that a fuzzer can learn which bytes lead where. Texts
//! are mostly those that a fixture has at the same place: they are good ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use upbeat_model::file::{compose_page, schema};

use super::fixtures;
use super::instance::instance;
use super::vocabulary::Place;

/// A document is not made larger than that.
const VALUES_MAX: usize = 400;

/// Texts for any place: what is a number to one and a name to another, and what nobody wants.
const TEXTS: [&str; 30] = [
    "",
    "a",
    "b",
    "web",
    "0",
    "1",
    "80",
    "-1",
    "1.5",
    "true",
    "no",
    "./x",
    "/x",
    "~/x",
    "a:b",
    "a=b",
    "a b",
    "1s",
    "64m",
    "0440",
    "$SET",
    "${UNSET}",
    "${UNSET:-1}",
    "$",
    "$$",
    "null",
    "\u{0}",
    "\u{1b}[0m",
    "\u{202e}",
    "99999999999999999999",
];

const NUMBERS: [f64; 12] =
    [0.0, 1.0, -1.0, 2.0, 80.0, 0.5, 1000.0, 1001.0, 65536.0, 9007199254740993.0, 1e300, -1e-7];

/// Choices, as long as there are bytes; then always the first one.
pub(super) struct Choices<'b> {
    bytes: std::slice::Iter<'b, u8>,
    left: usize,
    /// Now and then something stands where it should not. Otherwise few documents with many values
    /// would be good ones.
    is_odd: bool,
}

impl<'b> Choices<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        let mut choices = Self { bytes: bytes.iter(), left: VALUES_MAX, is_odd: false };
        choices.is_odd = choices.below(2) == 1;
        choices
    }

    /// A number below another.
    pub(super) fn below(&mut self, most: usize) -> usize {
        let byte = usize::from(self.bytes.next().copied().unwrap_or(0));
        // Two bytes where one has too few faces.
        let number = match most > 256 {
            true => byte << 8 | usize::from(self.bytes.next().copied().unwrap_or(0)),
            false => byte,
        };
        number % most.max(1)
    }

    pub(super) fn one<'v, T>(&mut self, of: &'v [T]) -> &'v T {
        &of[self.below(of.len())]
    }

    /// Something odd, once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.is_odd && self.below(times) == times - 1
    }
}

/// Values of fixtures, and names of free keys, by their place in the schema.
struct Harvest {
    schema: Value,
    values: BTreeMap<String, Vec<Value>>,
    names: BTreeMap<String, Vec<String>>,
    /// Keys of services that only processes obey, and only containers.
    of_processes: BTreeSet<String>,
    of_containers: BTreeSet<String>,
}

fn harvest() -> &'static Harvest {
    static HARVEST: OnceLock<Harvest> = OnceLock::new();
    HARVEST.get_or_init(|| {
        let mut harvest = Harvest {
            schema: schema(),
            values: BTreeMap::new(),
            names: BTreeMap::new(),
            of_processes: obeyed_by_others(3),
            of_containers: obeyed_by_others(2),
        };
        let schema = harvest.schema.clone();
        for fixture in fixtures::all().iter().filter(|fixture| fixture.outcome().is_ok()) {
            for instance in fixture.texts().filter_map(instance) {
                harvest.take(&Place::root(&schema), &instance);
            }
        }
        harvest
    })
}

/// Keys of a service of which a column of the page of verdicts says that they are not for it.
fn obeyed_by_others(column: usize) -> BTreeSet<String> {
    let page = compose_page();
    let table = page.split("\n## A service\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = table.unwrap_or_default().lines().filter(|line| line.starts_with("| `"));
    let columns = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let others = columns.filter(|columns| columns[column].starts_with("no"));
    others.map(|columns| columns[1].trim_end_matches(" *").trim_matches('`').to_owned()).collect()
}

impl Harvest {
    fn take(&mut self, place: &Place<'_>, value: &Value) {
        let place = place.followed();
        for form in place.forms().iter().filter(|form| form.accepts(value)) {
            self.take(form, value);
        }
        match value {
            Value::Array(items) => {
                let each = place.items();
                each.iter().for_each(|each| items.iter().for_each(|item| self.take(each, item)));
            }
            Value::Object(entries) => {
                for (name, value) in entries {
                    if place.free_key().is_some() {
                        keep(&mut self.names, &place.pointer, name.clone());
                    }
                    if let Some(inner) = place.key(name) {
                        self.take(&inner, value);
                    }
                }
            }
            value => keep(&mut self.values, &place.pointer, value.clone()),
        }
    }
}

fn keep<T: PartialEq>(kept: &mut BTreeMap<String, Vec<T>>, pointer: &str, new: T) {
    let kept = kept.entry(pointer.to_owned()).or_default();
    if !kept.contains(&new) {
        kept.push(new);
    }
}

/// A document that has, mostly, the shape of a project file.
pub(super) fn document(choices: &mut Choices<'_>) -> Value {
    let harvest = harvest();
    let root = Place::root(&harvest.schema);
    let mut document = value(&root, harvest, choices);
    if !document.is_object() {
        return document;
    }
    if document["services"].as_object().is_none_or(Map::is_empty) && !choices.once_in(16) {
        let services = root.key("services").expect("a file has services");
        document["services"] = value(&services, harvest, choices);
    }
    if !choices.once_in(4) {
        settle(&mut document, harvest, choices);
    }
    document
}

/// Makes a good document of one that has the shape of one, as far as that can be told.
fn settle(document: &mut Value, harvest: &Harvest, choices: &mut Choices<'_>) {
    let Some(file) = document.as_object_mut() else { return };
    // What other files say is for other tests.
    file.remove("include");
    if file.contains_key("templates") {
        file.insert("templates".to_owned(), templates());
    }
    let Some(services) = document["services"].as_object_mut() else { return };
    if services.is_empty() {
        services.insert("web".to_owned(), json!({}));
    }
    for service in services.values_mut().filter_map(Value::as_object_mut) {
        let is_container = choices.below(4) > 0;
        let (key, text) = if is_container { ("image", "web") } else { ("command", "./web") };
        service.entry(key).or_insert_with(|| text.into());
        let others = if is_container { &harvest.of_processes } else { &harvest.of_containers };
        service.retain(|key, _| key != "extends" && key != "template" && !others.contains(key));
        settle_probes(service, is_container, choices);
    }
    declare(document);
}

/// One question each, and what goes with it.
fn settle_probes(service: &mut Map<String, Value>, is_container: bool, choices: &mut Choices<'_>) {
    if service.get("external").is_some_and(|external| external != &Value::Bool(false)) {
        service.remove("external");
    }
    if service.get("probes").is_some_and(|probes| probes.get("readiness").is_some()) {
        service.remove("healthcheck");
    }
    let probes = service.get_mut("probes").and_then(Value::as_object_mut).into_iter();
    for probe in probes.flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        settle_probe(probe, is_container, choices);
    }
    if let Some(Value::Object(check)) = service.get_mut("healthcheck") {
        settle_probe(check, is_container, choices);
    }
    let edges = service.get_mut("depends_on").and_then(Value::as_object_mut).into_iter();
    for edge in edges.flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        let condition = edge.get("condition").and_then(Value::as_str).unwrap_or_default().to_owned();
        edge.retain(|key, _| match key.as_str() {
            "port" => condition == "port_open",
            "pattern" => condition == "log_ready",
            _ => true,
        });
        match &*condition {
            "port_open" => drop(edge.entry("port").or_insert_with(|| 80.into())),
            "log_ready" => drop(edge.entry("pattern").or_insert_with(|| "up".into())),
            condition if condition.starts_with("probe:") => drop(edge.remove("condition")),
            _ => {}
        }
    }
}

fn settle_probe(probe: &mut Map<String, Value>, is_container: bool, choices: &mut Choices<'_>) {
    const ASKED: [&str; 10] =
        ["http", "tcp", "udp", "grpc", "exec", "log", "prints_within", "memory", "cpu", "test"];
    // Not of containers, or once for each service.
    const SELDOM: [&str; 5] = ["unix", "file", "descriptors", "notify", "watchdog"];
    let known =
        |key: &&String| ASKED.contains(&key.as_str()) || !is_container && SELDOM.contains(&key.as_str());
    let questions: Vec<String> = probe.keys().filter(known).cloned().collect();
    let kept = if questions.is_empty() { None } else { Some(choices.one(&questions).clone()) };
    probe.retain(|key, _| {
        kept.as_deref() == Some(key) || !(ASKED.contains(&key.as_str()) || SELDOM.contains(&key.as_str()))
    });
    if kept.is_none() {
        probe.insert("tcp".to_owned(), "127.0.0.1:80".into());
    }
    if let Some(Value::Object(remedy)) = probe.get_mut("on_failure") {
        let action = remedy.get("action").and_then(Value::as_str).unwrap_or("stop").to_owned();
        remedy.retain(|key, _| match key.as_str() {
            "command" => action == "exec",
            "signal" => action == "signal",
            _ => true,
        });
        match &*action {
            "exec" => drop(remedy.entry("command").or_insert_with(|| "./heal".into())),
            "signal" => drop(remedy.entry("signal").or_insert_with(|| "SIGHUP".into())),
            _ => {}
        }
        remedy.insert("action".to_owned(), action.into());
    } else if matches!(probe.get("on_failure").and_then(Value::as_str), Some("exec" | "signal")) {
        probe.insert("on_failure".to_owned(), "restart".into());
    }
    let filled = [
        ("http", "url", "https://a/"),
        ("udp", "address", "a:1"),
        ("grpc", "address", "a:1"),
        ("file", "path", "x"),
    ];
    for (question, key, text) in filled {
        if let Some(Value::Object(fields)) = probe.get_mut(question) {
            fields.entry(key).or_insert_with(|| text.into());
            if fields.get("tls").is_some() && key == "url" {
                fields.insert(key.to_owned(), text.into());
            }
        }
    }
}

/// Of those that nobody wrote hardly one means anything: the texts of one ask for the names of another.
fn templates() -> Value {
    json!({
        "plain": { "service": {} },
        "worker": {
            "description": "Takes jobs",
            "parameters": {
                "hosts": { "type": "list", "default": ["a"] },
                "jobs": { "type": "integer", "default": 4, "enum": [4, 8], "description": "At once" },
                "queue": null,
            },
            "service": { "command": "./work {{ queue }} {{ index }}" },
        },
    })
}

/// Declares what services use, as far as that can be told from their short forms.
fn declare(document: &mut Value) {
    let mut used: Vec<(&str, String)> = Vec::new();
    for service in document["services"].as_object().into_iter().flat_map(Map::values) {
        for kind in ["networks", "configs", "secrets", "volumes", "depends_on", "links", "volumes_from"] {
            let items = service[kind].as_array().map_or(&[][..], Vec::as_slice);
            let sources = items.iter().filter_map(|item| item.as_str().or_else(|| item["source"].as_str()));
            used.extend(
                sources.map(|source| (kind, source.split(':').next().unwrap_or_default().to_owned())),
            );
            let names = service[kind].as_object().into_iter().flat_map(Map::keys);
            used.extend(names.map(|name| (kind, name.clone())));
        }
        for key in ["ipc", "network_mode", "pid"] {
            let name = service[key].as_str().and_then(|text| text.strip_prefix("service:"));
            used.extend(name.map(|name| ("links", name.to_owned())));
        }
    }
    for (kind, name) in used {
        let (kind, declared) = match kind {
            "networks" | "volumes" => (kind, Value::Null),
            "configs" | "secrets" => (kind, json!({ "environment": "SET" })),
            _ => ("services", json!({ "image": "web", "healthcheck": { "test": "exit 0" } })),
        };
        if document[kind].is_null() {
            document[kind] = json!({});
        }
        if let Some(all) = document[kind].as_object_mut() {
            all.entry(name).or_insert(declared);
        }
    }
}

fn value(place: &Place<'_>, harvest: &Harvest, choices: &mut Choices<'_>) -> Value {
    let place = place.followed();
    choices.left = choices.left.saturating_sub(1);
    if choices.once_in(64) {
        return anything(choices);
    }
    // Nothing may stand behind every key, for `!reset`; where it means something is in the fixtures.
    let is_nothing = |form: &Place<'_>| form.word("type").and_then(Value::as_str) == Some("null");
    let shuns_nothing = !choices.once_in(16);
    let is_choice = |form: &Place<'_>| !(form.is_variable() || shuns_nothing && is_nothing(form));
    let forms: Vec<Place<'_>> = place.forms().into_iter().filter(is_choice).collect();
    if !forms.is_empty() {
        return value(choices.one(&forms), harvest, choices);
    }
    if let Some(words) = place.word("enum").and_then(Value::as_array) {
        return choices.one(words).clone();
    }
    if let Some(known) = harvest.values.get(&place.pointer)
        && !choices.once_in(12)
    {
        return choices.one(known).clone();
    }
    match kind(&place, choices) {
        "object" => mapping(&place, harvest, choices),
        "array" => {
            let least = if place.word("minItems").is_some() { 1 } else { 0 };
            let most = if choices.left == 0 { least } else { least + choices.below(3) };
            place.items().map_or_else(|| Value::Array(Vec::new()), |each| list(&each, most, harvest, choices))
        }
        "boolean" => Value::Bool(choices.below(2) == 0),
        "number" | "integer" => json!(choices.one(&NUMBERS)),
        "null" => Value::Null,
        _ => Value::from(*choices.one(&TEXTS)),
    }
}

/// Some items; of those that say the same of the same name only the first, or something is odd.
fn list(each: &Place<'_>, most: usize, harvest: &Harvest, choices: &mut Choices<'_>) -> Value {
    let mut found: Vec<Value> = Vec::new();
    for _ in 0..most {
        let item = value(each, harvest, choices);
        let name = |item: &Value| item.as_str().map(|text| text.split('=').next().unwrap_or(text).to_owned());
        let is_known =
            found.iter().any(|other| *other == item || name(other).is_some() && name(other) == name(&item));
        if !is_known || choices.once_in(4) {
            found.push(item);
        }
    }
    Value::Array(found)
}

/// One of the kinds a value may be of.
fn kind<'s>(place: &Place<'s>, choices: &mut Choices<'_>) -> &'s str {
    match place.word("type") {
        Some(Value::Array(kinds)) => {
            let kinds: Vec<&str> =
                kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect();
            if choices.once_in(16) { "null" } else { choices.one::<&str>(&kinds) }
        }
        Some(kind) => kind.as_str().unwrap_or_default(),
        None => "string",
    }
}

fn mapping(place: &Place<'_>, harvest: &Harvest, choices: &mut Choices<'_>) -> Value {
    let mut entries = Map::new();
    // A key that may not be there is seldom there.
    let may = |name: &str, choices: &mut Choices<'_>| {
        let refused = place.key(name).is_some_and(|key| key.schema == &Value::Bool(false));
        !refused || choices.once_in(32)
    };
    let keys: Vec<&str> = place.keys().collect();
    let number = if choices.left == 0 { 0 } else { choices.below(9) };
    for _ in 0..number {
        let name = match (keys.is_empty(), choices.once_in(32)) {
            (_, true) => {
                (*choices.one(&["x-a", "x-upbeat", "unknown", "<<", "", "imgae", "$SET"])).to_owned()
            }
            (false, _) => (*choices.one(&keys)).to_owned(),
            (true, _) => match harvest.names.get(&place.pointer) {
                Some(names) => choices.one(names).clone(),
                None => (*choices.one(&TEXTS)).to_owned(),
            },
        };
        if !may(&name, choices) {
            continue;
        }
        let value = match place.key(&name) {
            Some(key) if key.schema.is_object() => value(&key, harvest, choices),
            _ => anything(choices),
        };
        entries.insert(name, value);
    }
    Value::Object(entries)
}

/// A value of any kind.
fn anything(choices: &mut Choices<'_>) -> Value {
    match choices.below(8) {
        0 => Value::Null,
        1 => Value::Bool(true),
        2 => json!(choices.one(&NUMBERS)),
        3 => json!([]),
        4 => json!({}),
        5 => json!([choices.one(&TEXTS)]),
        6 => json!({ *choices.one(&TEXTS): choices.one(&TEXTS) }),
        _ => Value::from(*choices.one(&TEXTS)),
    }
}

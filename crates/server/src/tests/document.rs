//! The description of the API, against the types and against the server itself.

use std::collections::BTreeSet;

use serde_json::Value;
use upbeat_api::{Endpoint, Role, openapi};

use upbeat_model::rollout::EntityId;

use super::House;
use super::fake::Fake;
use crate::compat::guide::routes;
use crate::compat::nixmade;

/// Where it is kept, for people and for the server.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

#[test]
fn the_document_is_what_the_types_say() {
    let generated = format!("{:#}\n", openapi::document());
    if std::env::var_os("UPDATE_DOCS").is_some_and(|set| set == "1") {
        std::fs::write(PATH, &generated).unwrap();
    }
    let kept = std::fs::read_to_string(PATH).unwrap();
    assert!(kept == generated, "`docs/openapi.json` is stale; `UPDATE_DOCS=1 cargo test` rewrites it");
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = openapi::document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn what_is_described_is_served_and_what_is_served_is_described() {
    let house = House::open();
    let answer = house.ask("GET /api/v1/openapi.json", &[], "").await;
    let document: Value = serde_json::from_str(answer.strip_prefix("200 ").unwrap()).unwrap();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let asked = path
            .replace("{id}", "7")
            .replace("{name}", "ci")
            .replace("{app}", "shop")
            .replace("{service}", "web")
            .replace("{namespace}", "prod")
            .replace("{entity}", "web")
            .replace("{unit}", "release")
            .replace("{group}", "g");
        for method in ["get", "put", "post", "delete", "patch"] {
            house.fake.rollouts.is_there(&EntityId::new("prod", "web").unwrap());
            let answer = house.ask(&format!("{} {asked}", method.to_uppercase()), &[], "").await;
            // The guide has a path for each name, and of a name that is not there says so.
            let is_unknown_service = answer.contains("is not registered");
            let is_served =
                (!answer.starts_with("404 ") || is_unknown_service) && !answer.starts_with("405 ");
            assert_eq!(is_served, methods.get(method).is_some(), "{method} {path}: {answer}");
            if is_served {
                described.insert((method.to_uppercase(), path.as_str()));
            }
        }
    }
    let mut served: BTreeSet<_> =
        Endpoint::ALL.iter().map(|e| (e.method().as_str().to_owned(), e.path())).collect();
    let of_others = |(path, least, _): (&'static str, Role, _)| {
        (if least == Role::Viewer { "GET" } else { "POST" }.to_owned(), path)
    };
    served.extend(routes::<Fake>().into_iter().map(of_others));
    served.extend(nixmade::routes::<Fake>().into_iter().map(of_others));
    assert_eq!(described, served);
}

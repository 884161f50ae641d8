//! A number that is too large for anything, in the place of every number of every fixture: it is
//! refused where it stands, or it is a text and stays what it is. It is never cut off.

use std::collections::BTreeSet;

use serde_json::Value;
use upbeat_model::file::schema;

use super::fixtures::{self, Fixture};
use super::instance::instance;
use super::vocabulary::Place;

const HUGE: &str = "999999999999999999999999999999";

/// Those that would be 80, or 1, where somebody kept only the last bits of them.
const WRAPPING: [&str; 2] = ["4294967376", "18446744073709551617"];

/// Stands in for it until the document is a text: JSON can say it, and `Value` cannot hold it.
const STAND_IN: &str = "\u{1}";

/// Every scalar with a digit in it, by its place in the document and in the schema.
fn numbers(place: &Place<'_>, value: &Value, at: &str, found: &mut Vec<(String, String)>) {
    let place = place.followed();
    // What has no effect is not looked at.
    if place.schema.is_boolean() {
        return;
    }
    for form in place.forms().iter().filter(|form| form.accepts(value)) {
        numbers(form, value, at, found);
    }
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let inner = place.items();
                inner.iter().for_each(|inner| numbers(inner, item, &format!("{at}/{i}"), found));
            }
        }
        Value::Object(entries) => {
            for (name, value) in entries {
                let name_at = name.replace('~', "~0").replace('/', "~1");
                let inner = place.key(name);
                inner.iter().for_each(|inner| numbers(inner, value, &format!("{at}/{name_at}"), found));
            }
        }
        Value::Number(_) => found.push((at.to_owned(), place.pointer.clone())),
        Value::String(text) if text.contains(|c: char| c.is_ascii_digit()) && place.forms().is_empty() => {
            found.push((at.to_owned(), place.pointer.clone()));
        }
        _ => {}
    }
}

/// The document with the first number of one of its scalars made huge.
fn with_huge(document: &Value, at: &str, huge: &str) -> String {
    let mut document = document.clone();
    let value = document.pointer_mut(at).expect("it is there");
    *value = match &*value {
        Value::String(text) => {
            let start = text.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
            let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
            Value::from(format!("{}{huge}{}", &text[..start], &text[start + digits..]))
        }
        _ => Value::from(STAND_IN),
    };
    document.to_string().replace(&Value::from(STAND_IN).to_string(), huge)
}

/// The fixture with another text.
fn with(fixture: &Fixture, text: &str) -> Fixture {
    let mut fixture = fixture.clone();
    fixture.machine.files.insert(format!("/srv/shop/{}", fixture.files[0]), text.to_owned());
    fixture
}

/// What the reader makes of a text, in a word.
fn judged(fixture: &Fixture, text: String, huge: &str) -> &'static str {
    match with(fixture, &text).answered() {
        Ok(resolved) => {
            let document = resolved.document.to_string();
            assert!(document.contains(huge), "{}: a number is lost\n{text}\n{document}", fixture.name);
            "a text"
        }
        Err(errors) => {
            let is_named = errors.diagnostics.iter().any(|error| {
                text[error.span.clone()].contains(huge) || error.message.contains(&huge[..huge.len().min(20)])
            });
            assert!(is_named, "{}: {errors}\n{text}", fixture.name);
            "refused"
        }
    }
}

#[test]
fn a_number_that_is_too_large_is_refused_or_is_a_text() {
    let schema = schema();
    let (mut seen, mut texts) = (BTreeSet::new(), BTreeSet::new());
    for fixture in fixtures::all().iter().filter(|fixture| fixture.files.len() == 1 && !fixture.machine.raw) {
        let Some(document) = fixture.texts().find_map(instance) else { continue };
        // What JSON has no word for, such as `0o440`, is lost on the way.
        if with(fixture, &document.to_string()).outcome().is_err() {
            continue;
        }
        let mut found = Vec::new();
        numbers(&Place::root(&schema), &document, "", &mut found);
        for (at, place) in found {
            if !seen.insert(place.clone()) {
                continue;
            }
            for huge in WRAPPING {
                judged(fixture, with_huge(&document, &at, huge), huge);
            }
            if judged(fixture, with_huge(&document, &at, HUGE), HUGE) == "a text" {
                texts.insert(place);
            }
        }
    }
    assert!(seen.len() > 150, "{} places", seen.len());
    insta::assert_snapshot!(texts.into_iter().collect::<Vec<_>>().join("\n"), @"
    /$defs/build/properties/args/anyOf/0/additionalProperties
    /$defs/build/properties/args/anyOf/1/items
    /$defs/build/properties/platforms/items
    /$defs/config/properties/content
    /$defs/datagram/properties/address
    /$defs/dependency/properties/port
    /$defs/health_check/properties/grpc/anyOf/0
    /$defs/health_check/properties/http/anyOf/0
    /$defs/health_check/properties/test/anyOf/0
    /$defs/health_check/properties/test/anyOf/1/items
    /$defs/hook/properties/environment/anyOf/0/additionalProperties
    /$defs/hook/properties/environment/anyOf/1/items
    /$defs/log/properties/options/additionalProperties
    /$defs/network/properties/driver_opts/additionalProperties
    /$defs/probe/properties/grpc/anyOf/0
    /$defs/probe/properties/http/anyOf/0
    /$defs/probe/properties/tcp
    /$defs/question_of_gRPC/properties/address
    /$defs/request_for_devices/properties/device_ids/items
    /$defs/request_for_devices/properties/driver
    /$defs/request_over_HTTP/properties/url
    /$defs/service/properties/annotations/anyOf/0/additionalProperties
    /$defs/service/properties/command/anyOf/1/items
    /$defs/service/properties/container_name
    /$defs/service/properties/device_cgroup_rules/items
    /$defs/service/properties/devices/items/anyOf/0
    /$defs/service/properties/dns_search/anyOf/1/items
    /$defs/service/properties/environment/anyOf/0/additionalProperties
    /$defs/service/properties/environment/anyOf/1/items
    /$defs/service/properties/labels/anyOf/0/additionalProperties
    /$defs/service/properties/platform
    /$defs/service/properties/storage_opt/additionalProperties
    /$defs/service/properties/sysctls/anyOf/0/additionalProperties
    /$defs/service/properties/sysctls/anyOf/1/items
    /$defs/service/properties/tmpfs/anyOf/1/items
    /$defs/service_s_network/properties/aliases/items
    /$defs/service_s_network/properties/driver_opts/additionalProperties
    /$defs/service_s_network/properties/interface_name
    /$defs/service_s_network/properties/link_local_ips/items
    /$defs/subnet/properties/aux_addresses/anyOf/1/items
    /$defs/volume/properties/driver_opts/additionalProperties
    /properties/name
    ");
}

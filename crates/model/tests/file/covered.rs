//! Every key of the grammar, every form of its value and every word it knows stands in a fixture.

use std::collections::BTreeSet;

use serde_json::Value;
use upbeat_model::file::{compose_page, schema};

use super::fixtures::{self, Fixture};
use super::instance::instance;
use super::vocabulary::Place;

/// The files of a fixture, as an editor sees them.
fn instances(fixture: &Fixture) -> Vec<Value> {
    fixture.texts().filter_map(instance).collect()
}

#[test]
fn every_key_form_and_word_is_accepted_in_a_fixture() {
    let schema = schema();
    let root = Place::root(&schema);
    let mut all = BTreeSet::new();
    root.all(&mut all);
    let refused = |pointer: &String| schema.pointer(pointer) == Some(&Value::Bool(false));
    let mut reached = BTreeSet::new();
    for fixture in fixtures::all().iter().filter(|fixture| fixture.outcome().is_ok()) {
        instances(fixture).iter().for_each(|instance| root.reached(instance, &mut reached));
    }
    // Nothing may stand behind every key, for `!reset`.
    let is_nothing =
        |pointer: &String| schema.pointer(pointer) == Some(&serde_json::json!({ "type": "null" }));
    let is_missing = |at: &&String| !reached.contains(*at) && !refused(at) && !is_nothing(at);
    let missing: Vec<&String> = all.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "no fixture has\n{missing:#?}");
}

#[test]
fn every_key_that_is_refused_is_refused_in_a_fixture() {
    let schema = schema();
    let root = Place::root(&schema);
    let mut all = BTreeSet::new();
    root.all(&mut all);
    all.retain(|pointer| schema.pointer(pointer) == Some(&Value::Bool(false)));
    for fixture in fixtures::all() {
        let Err(errors) = fixture.outcome() else { continue };
        let said = errors.to_string();
        all.retain(|pointer| {
            let key = pointer.rsplit('/').next().unwrap_or_default();
            !said.contains(&format!(".{key}` is not supported ("))
                && !said.contains(&format!(" `{key}` is not supported ("))
        });
    }
    assert!(all.is_empty(), "no fixture has\n{all:#?}");
}

/// What the page of verdicts says of processes and of containers, a fixture says too.
#[test]
fn every_key_that_is_not_for_all_services_is_refused_in_a_fixture() {
    let said: String =
        fixtures::all().iter().filter_map(|fixture| Some(fixture.outcome().err()?.to_string())).collect();
    let mut missing = Vec::new();
    for line in compose_page().lines().filter(|line| line.starts_with("| `")) {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let key = columns[1].trim_end_matches(" *").trim_matches('`');
        let wanted = [
            (columns[2].starts_with("no:"), format!(".{key}` is for containers, and")),
            (columns[2].starts_with("not yet:"), format!(".{key}` is not supported yet")),
            (columns[3].starts_with("no:"), format!(".{key}` is for processes, and")),
            (columns[3].starts_with("not yet:"), format!(".{key}` is not supported yet")),
        ];
        missing.extend(
            wanted.into_iter().filter(|(is, text)| *is && !said.contains(text)).map(|(_, text)| text),
        );
    }
    // What is built is no process, and below a key that is refused nothing is judged.
    const UNSAYABLE: [&str; 3] = [".build`", ".gw_priority`", ".interface_name`"];
    missing.retain(|text| !UNSAYABLE.iter().any(|key| text.starts_with(key)));
    assert!(missing.is_empty(), "no fixture says\n{missing:#?}");
}

/// What an engine is told besides a container: tests of the driver make them, and look at them.
const BESIDES_CONTAINERS: [&str; 5] = ["A network", "An address plan", "A subnet", "A volume", "A build"];

/// Every key that a container obeys stands in a fixture of the driver, with what the engine was told of it.
#[test]
fn every_key_that_a_container_obeys_is_in_a_fixture_of_the_driver() {
    let schema = schema();
    let root = Place::root(&schema);
    let mut reached = BTreeSet::new();
    for text in fixtures::of_the_driver() {
        root.reached(&instance(&text).expect("a project file"), &mut reached);
    }
    let mut missing = Vec::new();
    let page = compose_page();
    for section in page.split("\n## ").skip(1) {
        let (title, below) = section.split_once('\n').expect("a title and what is below it");
        if BESIDES_CONTAINERS.contains(&title) {
            continue;
        }
        let name = title.strip_prefix("A ").or_else(|| title.strip_prefix("An ")).unwrap_or(title);
        let (first, rest) = name.split_at(1);
        let name = format!("{}{rest}", first.to_lowercase()).replace([' ', '`', '\''], "_");
        for key in obeyed(below) {
            let place = match title {
                "A project file" => format!("/properties/{key}"),
                _ => format!("/$defs/{name}/properties/{key}"),
            };
            assert!(schema.pointer(&place).is_some(), "{place} is nowhere in the schema");
            missing.extend((!reached.contains(&place)).then_some(place));
        }
    }
    assert!(missing.is_empty(), "no fixture has\n{missing:#?}");
}

/// Of a section the keys that are Compose's, and that hold for containers.
fn obeyed(section: &str) -> Vec<&str> {
    let plain = section
        .lines()
        .filter_map(|line| line.strip_prefix("Obeyed where the key is that it stands under: "));
    let plain = plain.flat_map(|keys| keys.trim_end_matches('.').split(", "));
    let rows = section.lines().filter(|line| line.starts_with("| `")).filter_map(|line| {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        (columns[3] == "yes" || columns[3].starts_with("engine API")).then_some(columns[1])
    });
    plain.chain(rows).filter(|key| !key.ends_with(" *")).map(|key| key.trim_matches('`')).collect()
}

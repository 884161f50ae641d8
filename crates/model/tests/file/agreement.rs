//! The JSON Schema and the reader agree: what is read is a file by the schema, and what the schema
//! lets pass is refused only for what no schema can see.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use boon::{Compiler, SchemaIndex, Schemas};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};
use upbeat_model::Diagnostic;
use upbeat_model::file::{Source, resolve, schema};

use super::fixtures::{self, Fixture};
use super::generated;
use super::instance::instance;
use super::machine::Machine;
use super::vocabulary::Place;

/// Our schema, as any validator reads it.
struct Validator {
    schemas: Schemas,
    index: SchemaIndex,
}

fn validator() -> &'static Validator {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    VALIDATOR.get_or_init(|| {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        let location = "http://localhost/project.schema.json";
        compiler.add_resource(location, schema()).expect("a location");
        let index = compiler.compile(location, &mut schemas).expect("a schema");
        Validator { schemas, index }
    })
}

/// What the schema says against a file, if anything. Two judges are asked, and are of one opinion.
pub(super) fn objection(instance: &Value) -> Option<String> {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    let validator = validator();
    let objection = validator.schemas.validate(instance, validator.index).err();
    let ours = Place::root(SCHEMA.get_or_init(schema)).accepts(instance);
    assert_eq!(objection.is_none(), ours, "{instance:#}\n{objection:?}");
    objection.map(|objection| objection.to_string())
}

/// What an error is about, and how it says so. Any other error is one of shape: of keys and of kinds
/// of values, which the schema sees as well.
const UNSEEN: &[(&str, &[&str])] = &[
    (
        "what services say of each other, and of what is declared beside them",
        &[
            "Circular dependency",
            "Service `",
            "Services extend each other",
            "There is no service",
            "which is not declared",
            "which only runs in profile",
            "has `networks`, and `network_mode",
            "publishes ",
            "is the name of",
            "is what copy",
            "has no container to share",
            "names its own service",
            "has the address `",
            "has one network twice",
            "has no content",
            "has more than one content",
            "The project has",
            "The file has no `services`",
            "There is no service under",
        ],
    ),
    (
        "which kind of service a key is for",
        &[
            "is for containers, and",
            "is for processes, and",
            "is not supported yet: `",
            "and is for a process:",
        ],
    ),
    (
        "keys that say one thing twice, or need each other",
        &[
            "Duplicate",
            "asks twice",
            "asks nothing",
            "is given beside `x-upbeat`",
            "is given two names",
            "has no address: `",
            "x-upbeat",
            "is to have",
            "has two values for one limit",
            "is one name, and there are",
            "has one address, ",
            "is built, and has a digest",
            "is `build`, and nothing says how",
            "has a `dockerfile` and",
            "and it is built for",
            "platforms, and one is built",
            "is empty, and there is no `command`",
            "has no meaning beside",
            "says what `cpu_period`",
            "is above `mem_limit`",
            "needs a `mem_limit`",
            "is above `memswap_limit`",
            "has a `count` and `device_ids`",
            "mounts twice at",
            ", and is of `type: ",
            "asks for `",
            "asks `",
            "has `healthcheck` and `probes.readiness`",
            "has a `signal` and a `command`",
            "` says nothing",
            "` cannot be `SIG",
            "and does not say which",
            "waits for a port, and does not say",
            "` is for `action: ",
            "` is for `condition: ",
            "` is for `https://`",
            "has no effect",
            "is looked for in the answer to `HEAD`",
            "` is external and has no",
            "means nothing for an external service",
            "sends a signal, and of an external service",
            "needs a `command` that is text",
            "is no key of Compose",
            "no word of Compose",
        ],
    ),
    (
        "the rules of a text: what a name, a path, a port or a length of time looks like",
        &[
            "` has a bad name",
            "` is not an image",
            "` must be an absolute path",
            "` has no such",
            "` is not a device",
            "` is not a group",
            "` is not a protocol",
            "` is not a mode",
            "` is not a method",
            "` is not an action",
            "` is not a service of gRPC",
            "` is not a status",
            "` is `CONNECT`",
            "` has the header",
            "` has 33 ",
            "` is a path of more than",
            "` is not a pull policy",
            "` is not a regular expression",
            "` is not a restart policy",
            "` is not a signal",
            "` is not a user",
            "is not a valid",
            "` must be a length of time",
            "` must be a number",
            "` must be a size",
            "` must be a file mode",
            "` must be a URL",
            "` must be an IP address",
            "` must be `all`",
            "` must have",
            "` must start with",
            "` must be longer",
            "` must be at least",
            "` must be from",
            "` must be a whole number, not `",
            "` has no unit",
            "` is longer than",
            "` is finer than",
            "` is less than",
            "` is too large",
            "` is too small",
            "` has a number",
            "` has no host",
            "` has no port",
            "` must be an address",
            "` has no IPv6 address",
            "` has several `:`",
            "` has a host",
            "` has a user name",
            "` has a `#`",
            "` has a character",
            "` has too many `:`",
            "` has an empty",
            "` has an unknown option",
            "` has a range",
            "` has ranges",
            "` has no target port",
            "` stands for",
            "` has a quote",
            "` has words after",
            "` names no program",
            "` is empty",
            "` contains a NUL",
            "` has a name with a character",
            "` has a variable",
            "` has a label",
            "` has a `soft` limit",
            "` has a target that is",
            "` starts with `~`",
            "` is too large a pattern",
        ],
    ),
    (
        "variables and other files",
        &[
            "has a single `$`",
            "has a `${`",
            "behind the name, which means nothing",
            "needs the variable",
            "There is no file",
            "names the file",
            "cannot be read",
            "includes itself",
            "has no services to extend",
            "is declared twice, and not alike",
        ],
    ),
    (
        "what templates and those that use them say of each other",
        &[
            "cannot use another one",
            "may not be `",
            "names none",
            "uses `",
            "gives the template",
            // What one holds is a service only when it is made.
            "`templates.",
            "has no parameter",
            "has a name that means something else",
            "has no `service`",
            " of the parameter `",
            ".template.with.",
            "is no template: ",
        ],
    ),
    // Nothing may stand behind a tag.
    ("what YAML has and JSON has not", &["has no value", "cannot be reset or overridden", "The tag `"]),
];

/// Judges one error: nothing, where the schema has to see it too.
fn unseen(message: &str) -> Option<&'static str> {
    let kind = UNSEEN.iter().find(|(_, said)| said.iter().any(|words| message.contains(words)));
    kind.map(|(kind, _)| *kind)
}

/// The name documents are read by.
const NAME: &str = "upbeat.yaml";

/// A document that the two do not agree about, in words.
pub(super) fn disagreement(document: &Value, machine: &Machine) -> Option<String> {
    let text = document.to_string();
    let read = resolve(&[Source { name: NAME, text: &text }], &machine.context());
    match (read, objection(document)) {
        (Ok(_), None) => None,
        (Ok(_), Some(objection)) => {
            Some(format!("it is read, and the schema says:\n{objection}\n{document:#}"))
        }
        (Err(_), Some(_)) => None,
        (Err(errors), None) => {
            // Of a text with a variable in it the schema cannot know what it will be.
            let is_filled = |error: &Diagnostic| text[error.span.clone()].contains('$');
            let is_shape = |error: &&Diagnostic| {
                error.file == NAME && unseen(&error.message).is_none() && !is_filled(error)
            };
            let shape = errors.diagnostics.iter().find(is_shape)?;
            Some(format!("it has the shape of a file, and the reader says:\n{shape}\n{document:#}"))
        }
    }
}

/// Whether all of a fixture is in its files: what is tagged, or read from others, is not.
fn stands_alone(fixture: &Fixture) -> bool {
    fixture.machine.files.len() == 1 && !fixture.texts().any(|text| text.contains("!reset"))
}

#[test]
fn what_is_accepted_is_a_file_by_the_schema_and_so_is_what_it_comes_to() {
    for fixture in fixtures::all() {
        let Ok(resolved) = fixture.outcome() else { continue };
        for text in fixture.texts().filter(|_| !fixture.name.starts_with("files/procfile")) {
            let instance = instance(text).unwrap_or_else(|| panic!("{}", fixture.name));
            assert_eq!(objection(&instance), None, "{}", fixture.name);
        }
        assert_eq!(objection(&resolved.document), None, "what {} comes to", fixture.name);
    }
}

/// Each service alone, as one error must not hide another.
#[test]
fn what_is_refused_for_its_shape_is_no_file_by_the_schema() {
    for fixture in fixtures::all().iter().filter(|fixture| stands_alone(fixture)) {
        let Some(instance) = fixture.texts().find_map(instance) else { continue };
        let disagreed = disagreement(&instance, &fixture.machine);
        assert_eq!(disagreed, None, "{}", fixture.name);
        let Some(services) = instance.get("services").and_then(Value::as_object) else { continue };
        for (name, service) in services {
            let mut alone = instance.clone();
            alone["services"] = json!({ name: service });
            if let Some(disagreed) = disagreement(&alone, &fixture.machine) {
                panic!("{}: {disagreed}", fixture.name);
            }
        }
    }
}

#[test]
fn every_error_no_schema_sees_is_one_of_a_fixture() {
    let errors = fixtures::all().into_iter().filter_map(|fixture| fixture.outcome().err());
    let said: Vec<String> =
        errors.flat_map(|errors| errors.diagnostics.into_iter().map(|error| error.message)).collect();
    let words = UNSEEN.iter().flat_map(|(_, words)| *words);
    let unused: Vec<_> = words.filter(|words| !said.iter().any(|said| said.contains(**words))).collect();
    assert!(unused.is_empty(), "no fixture is refused so: {unused:#?}");
}

fn machine() -> Machine {
    let session = Machine::default().session(&[("SET", "value"), ("HOME", "/home/ann")]);
    Machine { others: Some("A=1\n".to_owned()), ..session }
}

/// The same documents each time: a row that the table still lacks is missed by whoever adds the error,
/// and not by chance by somebody else. With more cases, and another seed, it looks further.
fn cases() -> ProptestConfig {
    let thousand = ProptestConfig::with_cases(1_000);
    ProptestConfig { failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..thousand }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn the_two_agree_about_what_nobody_wrote(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let document = generated::document(&mut generated::Choices::new(&bytes));
        if let Some(disagreed) = disagreement(&document, &machine()) {
            panic!("{disagreed}");
        }
    }
}

/// Without that the property above would say little.
#[test]
fn of_what_nobody_wrote_much_is_read() {
    let mut state: u32 = 1;
    let mut next = || {
        // Random enough, and the same each time.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let (machine, schema) = (machine(), schema());
    let (mut all, mut reached) = (BTreeSet::new(), BTreeSet::new());
    Place::root(&schema).all(&mut all);
    let mut read = 0;
    for _ in 0..1_000 {
        let bytes: Vec<u8> = (0..200).map(|_| next()).collect();
        let document = generated::document(&mut generated::Choices::new(&bytes));
        let text = document.to_string();
        if resolve(&[Source { name: NAME, text: &text }], &machine.context()).is_ok() {
            read += 1;
            Place::root(&schema).reached(&document, &mut reached);
        }
    }
    let reached = all.intersection(&reached).count();
    assert!((200..800).contains(&read), "{read} of 1,000 documents are read");
    assert!(reached * 2 > all.len(), "only {reached} of {} places are reached", all.len());
}

//! Whatever the bytes are, an answer comes and keeps to the laws of answers.
//!
//! Each test tries what is kept of its name in `__fuzz__`, and then a bounded number of new inputs;
//! `scripts/fuzz NAME` makes the same test look for inputs for as long as it is let, and learn from
//! what they reach. Inputs are small: what a large one costs is said by `hostile`.

use upbeat_model::file::{Context, Source};

use super::answer::answer;
use super::generated::{Choices, document};
use super::machine::Machine;

/// The largest input, in bytes: some screens full.
const INPUT_MAX: usize = 4096;

/// Names a file is read by; each makes another kind of file of it.
const NAMES: [&str; 3] = ["upbeat.yaml", "compose.yaml", "Procfile"];

/// What other files there are, and a session.
fn machine() -> Machine {
    let files = [
        ("/srv/shop/web.env", "A=1\nB='b' # c\nC=${A}\n"),
        (
            "/srv/shop/base.yaml",
            "services: { base: { command: [x], environment: { A: base } }, web: { image: w } }",
        ),
        ("/srv/shop/circle.yaml", "include: [circle.yaml]\nservices: { c: { extends: c } }"),
        ("/srv/shop/dir", "(a directory)"),
    ];
    Machine::with(&files).session(&[("SET", "value"), ("EMPTY", ""), ("HOME", "/home/ann")])
}

#[test]
fn text() {
    let machine = machine();
    bolero::check!().with_iterations(1_500).with_max_len(INPUT_MAX).for_each(|input: &[u8]| {
        let (first, rest) = input.split_first().unwrap_or((&0, &[]));
        let text = String::from_utf8_lossy(rest);
        let name = NAMES[usize::from(*first) % NAMES.len()];
        let raw = first & 0x80 != 0;
        let context = Context { interpolate: !raw, ..machine.context() };
        let _ = answer(&[Source { name, text: &text }], &context);
    });
}

/// A file of variables, with a file that asks for them.
#[test]
fn variables() {
    const FILE: &str = "services: { web: { image: 'web:$V', labels: ['l=${V:-d}'], env_file: [.env, { path: .env, format: raw }], environment: [V] } }";
    bolero::check!().with_iterations(1_500).with_max_len(INPUT_MAX).for_each(|input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let machine = Machine::with(&[("/srv/shop/upbeat.yaml", FILE), ("/srv/shop/.env", &text)]);
        let _ = answer(&machine.sources(&["upbeat.yaml"]), &machine.context());
    });
}

/// A text with variables in it, wherever it is used.
#[test]
fn interpolation() {
    bolero::check!().with_iterations(1_500).with_max_len(INPUT_MAX).for_each(|input: &[u8]| {
        let text = serde_json::to_string(&String::from_utf8_lossy(input)).expect("a text");
        let file = format!(
            "{{ \"services\": {{ \"web\": {{ \"image\": {text}, \"command\": {text}, \"environment\": [{text}], \
             \"labels\": {{ \"l\": {text} }}, \"working_dir\": {text}, \"ports\": [{text}], \"volumes\": [{text}] }} }} }}"
        );
        let _ = answer(&[Source { name: "upbeat.yaml", text: &file }], &machine().context());
    });
}

/// Documents that have the shape of project files, mostly.
#[test]
fn documents() {
    let machine = Machine { others: Some("A=1\n".to_owned()), ..machine() };
    bolero::check!().with_iterations(500).with_max_len(INPUT_MAX).for_each(|input: &[u8]| {
        let text = document(&mut Choices::new(input)).to_string();
        let _ = answer(&[Source { name: "upbeat.yaml", text: &text }], &machine.context());
    });
}

/// Several of them: one over another, one that is included, one that is extended.
#[test]
fn files() {
    bolero::check!().with_iterations(300).with_max_len(INPUT_MAX).for_each(|input: &[u8]| {
        let parts: Vec<&[u8]> = input.chunks(input.len().div_ceil(4).max(1)).collect();
        let text = |part: usize| {
            let bytes = parts.get(part).copied().unwrap_or_default();
            document(&mut Choices::new(bytes)).to_string()
        };
        let mut machine = machine();
        for (part, name) in ["upbeat.yaml", "over.yaml", "other.yaml", "base.yaml"].into_iter().enumerate() {
            machine.files.insert(format!("/srv/shop/{name}"), text(part));
        }
        let inclusion = "{ \"include\": [\"other.yaml\"], \"services\": { \"own\": { \"extends\": { \"file\": \"base.yaml\", \"service\": \"web\" } } } }";
        machine.files.insert("/srv/shop/first.yaml".to_owned(), inclusion.to_owned());
        let _ = answer(&machine.sources(&["first.yaml", "upbeat.yaml", "over.yaml"]), &machine.context());
    });
}

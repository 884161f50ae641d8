//! What a project file may say, and what is said about one that it may not.

mod agreement;
mod answer;
mod attacks;
mod commands;
mod compose;
mod containers;
mod covered;
mod docs;
mod extends;
mod filling;
mod fixtures;
mod forms;
mod fuzz;
mod generated;
mod graph;
mod hostile;
mod include;
mod instance;
mod keys;
mod machine;
mod merging;
mod overflow;
mod probes;
mod questions;
mod templates;
mod valid;
mod values;
mod vocabulary;
mod wire;
mod yaml;

use upbeat_model::file::{Context, Errors, Parsed, Source, parse};

/// Reads a text as `upbeat.yaml` in `/srv/shop`, in a session with one variable.
fn read(text: &str) -> Result<Parsed, Errors> {
    let environment = |name: &str| (name == "HOME").then(|| "/home/ann".to_owned());
    let context = Context::new("/srv/shop", "shop", &environment);
    parse(&[Source { name: "upbeat.yaml", text }], &context)
}

/// Every error as a person reads it, and below it what the caret underlines and its label.
fn errors_in(text: &str) -> String {
    let errors = read(text).expect_err("the file is refused");
    let mut out = String::new();
    for d in &errors.diagnostics {
        let underlined = text[d.span.clone()].replace(|c: char| c.is_control() || c == '\u{202e}', "?");
        out.push_str(&format!("{d}\n  ^ `{underlined}`"));
        if let Some(label) = &d.label {
            out.push_str(&format!(" {label}"));
        }
        out.push('\n');
    }
    if errors.more > 0 {
        out.push_str(&format!("and {} more\n", errors.more));
    }
    out
}

/// One service whose body is given; each line of it is indented as it has to be.
fn service(body: &str) -> String {
    let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
    format!("services:\n  web:\n{body}")
}

/// A file and everything that is wrong with it.
macro_rules! check_error {
    ($text:expr, @$errors:literal) => {
        insta::assert_snapshot!(crate::errors_in(&$text), @$errors)
    };
}
use check_error;

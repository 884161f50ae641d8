//! The pages that are made of the grammar.

use std::path::Path;

use upbeat_model::file::{compose_page, schema};

/// Compares a file of the documentation, or writes it with `UPDATE_DOCS=1`.
fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).expect("the docs can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "`docs/{name}` is not what the grammar says; `UPDATE_DOCS=1 cargo test` writes it");
}

#[test]
fn the_page_of_verdicts_is_that_of_the_grammar() {
    check("compose.md", &compose_page());
}

#[test]
fn the_schema_is_that_of_the_grammar() {
    check("project.schema.json", &format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap()));
}

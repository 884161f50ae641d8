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

/// What stands between fences of one language.
fn examples(page: &str) -> Vec<String> {
    let blocks = page.split("```yaml\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_example_of_the_page_about_files_is_read_without_a_note() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/files.md");
    let examples = examples(&std::fs::read_to_string(path).expect("the page is there"));
    assert!(examples.len() >= 8, "{}", examples.len());
    for example in examples {
        let parsed = crate::read(&example).unwrap_or_else(|errors| panic!("{errors}\n{example}"));
        assert_eq!(parsed.notes, [], "{example}");
        assert_eq!(upbeat_model::file::validate(&parsed.project), Ok(()), "{example}");
    }
}

/// Each key that is ours is on a page that people read.
#[test]
fn every_key_of_ours_is_explained() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
        std::fs::read_to_string(path).expect("the page is there")
    };
    let pages = read("files.md") + &read("services.md");
    let page = compose_page();
    let keys = page.split('`').zip(page.split('`').skip(1)).filter(|(_, after)| after.starts_with(" *"));
    let is_told = |key: &str| pages.contains(&format!("`{key}`")) || pages.contains(&format!("{key}:"));
    let missing: Vec<&str> = keys.map(|(key, _)| key).filter(|key| !is_told(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_page_of_verdicts_is_that_of_the_grammar() {
    check("compose.md", &compose_page());
}

#[test]
fn the_schema_is_that_of_the_grammar() {
    check("project.schema.json", &format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap()));
}

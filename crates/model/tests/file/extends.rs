//! Services that extend others: many, in long rows, and large ones.

use std::fmt::Write;

use insta::assert_snapshot;
use upbeat_model::file::{Context, Source, resolve};

fn told(text: &str) -> Result<serde_json::Value, String> {
    let nowhere = |_: &str| None;
    let resolved =
        resolve(&[Source { name: "upbeat.yaml", text }], &Context::new("/srv/shop", "shop", &nowhere));
    resolved.map(|resolved| resolved.document).map_err(|errors| errors.to_string())
}

/// `s0`, and services that extend each other in a row, in this order.
fn row(order: impl Iterator<Item = usize>) -> String {
    let mut text = "services:\n".to_owned();
    for i in order {
        match i.checked_sub(1) {
            None => writeln!(text, "  s0: {{ command: [x] }}").expect("a text"),
            Some(before) => writeln!(text, "  s{i}: {{ extends: s{before}, environment: {{ A{i}: '' }} }}")
                .expect("a text"),
        }
    }
    text
}

#[test]
fn a_row_that_is_too_long_is_refused_once_wherever_it_starts() {
    for good in [row(0..50), row((0..50).rev())] {
        assert_eq!(told(&good).unwrap()["services"]["s49"]["environment"].as_object().unwrap().len(), 49);
    }
    assert_snapshot!(told(&row(0..60)).unwrap_err(), @"upbeat.yaml:52:19: More than 50 services extend each other in a row");
    assert_snapshot!(told(&row((0..60).rev())).unwrap_err(), @"upbeat.yaml:11:19: More than 50 services extend each other in a row");
}

#[test]
fn ten_thousand_services_extend_the_last_of_a_row() {
    let mut text = row(0..49);
    for i in 0..10_000 {
        writeln!(text, "  a{i}: {{ extends: s48, scale: 0 }}").unwrap();
    }
    assert_eq!(told(&text).unwrap()["services"].as_object().unwrap().len(), 10_049);
}

#[test]
fn what_thousands_extend_does_not_become_gigabytes() {
    let mut text =
        format!("services:\n  base: {{ command: [x], labels: {{ a: {} }} }}\n", "x".repeat(1 << 20));
    for i in 0..10_000 {
        writeln!(text, "  a{i}: {{ extends: base }}").unwrap();
    }
    assert_snapshot!(told(&text).unwrap_err(), @"upbeat.yaml:42:19: All services that extend others or use templates hold more than 800000 values, or 40 MB of text");
}

#[test]
fn what_is_wrong_with_a_service_is_said_once_however_many_extend_it() {
    let text = "
services:
  a: { extends: none }
  b: { extends: a }
  c: { extends: a }
  d: { extends: e }
  e: { extends: f }
  f: { extends: e }
  g: { extends: f }
";
    assert_snapshot!(told(text).unwrap_err(), @"
    upbeat.yaml:3:17: There is no service `none` to extend
    upbeat.yaml:8:17: Services extend each other in a circle: e → f → e (take one of these extensions out)
    ");
}

//! Texts made to hurt: too large, too deep, too many, or noise. Each gets an answer, and soon:
//! anything that is not linear would keep these tests from ever ending.

use std::fmt::Write;

use proptest::prelude::*;
use upbeat_model::file::{ERRORS_MAX, SIGNS_MAX, TEXT_MAX, VALUES_MAX};

use super::{check_error, errors_in, read, service};

/// Repeats a piece up to a size, wide enough that the text is not refused for too many signs.
fn filled(start: &str, piece: &str, size: usize) -> String {
    let signs = piece.chars().filter(|c| ",:[{*&!?".contains(*c)).count();
    let width = signs * TEXT_MAX.div_ceil(SIGNS_MAX);
    let (bare, end) = piece.strip_suffix('\n').map_or((piece, ""), |bare| (bare, "\n"));
    let piece = format!("{bare:width$}{end}");
    let mut text = start.to_owned();
    text.extend(std::iter::repeat_n(piece.as_str(), (size - start.len()) / piece.len()));
    text
}

#[test]
fn a_text_that_is_too_large_is_refused_unread() {
    check_error!(" ".repeat(TEXT_MAX + 1), @"
    upbeat.yaml:1:1: The file has 10485761 bytes, and 10485760 are the most that is read (generated data belongs in a file of its own that a service reads)
      ^ ``
    ");
    check_error!(",".repeat(SIGNS_MAX + 1), @"
    upbeat.yaml:1:800001: The file has more than 800000 of the characters `,:[{*&!?` (generated data belongs in a file of its own that a service reads)
      ^ `,` the limit is passed here
    ");
}

#[test]
fn aliases_of_aliases_do_not_explode() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..10 {
        let list = vec![format!("*a{}", i - 1); 10].join(", ");
        writeln!(bomb, "a{i}: &a{i} [{list}]").unwrap();
    }
    check_error!(bomb, @"
    upbeat.yaml:6:40: The file has more than 800000 values, aliases followed
      ^ `*a4` the limit is passed here
    ");
}

#[test]
fn one_long_text_named_often_does_not_explode() {
    let long = "x".repeat(1 << 20);
    let uses = "*a, ".repeat(1000);
    check_error!(format!("services: {{ web: {{ command: [&a {long}, {uses} y] }} }}\n"), @"
    upbeat.yaml:1:1048763: The file has more than 40 MB of text, aliases followed
      ^ `*a` the limit is passed here
    ");
}

#[test]
fn nesting_is_bounded_also_through_aliases() {
    check_error!("[".repeat(10_000), @"
    upbeat.yaml:1:256: This is not YAML: recursion limit exceeded (there are too many brackets in brackets)
      ^ `[`
    ");
    check_error!("- ".repeat(10_000), @"
    upbeat.yaml:1:129: Values are nested more than 64 deep
      ^ `` the limit is passed here
    ");
    let mut deep = format!("a0: &a0 {}x{}\n", "[".repeat(30), "]".repeat(30));
    for i in 1..5 {
        writeln!(deep, "a{i}: &a{i} [[[[[[[[[[*a{}]]]]]]]]]]", i - 1).unwrap();
    }
    check_error!(deep, @"
    upbeat.yaml:5:19: Values are nested more than 64 deep
      ^ `*a3` the limit is passed here
    ");
}

#[test]
fn ten_thousand_services_in_one_chain_are_a_project() {
    let mut text = "services:\n  s0: { command: x }\n".to_owned();
    for i in 1..10_000 {
        writeln!(text, "  s{i}: {{ command: [./s, '{i}'], depends_on: [s{}] }}", i - 1).unwrap();
    }
    assert_eq!(read(&text).unwrap().project.services.len(), 10_000);

    let ring = text.replace("s0: { command: x }", "s0: { command: x, depends_on: [s9999] }");
    let errors = errors_in(&ring);
    assert!(errors.contains("Circular dependency: s0 → s9999 → "), "{errors}");
    assert!(errors.contains(" → … 9901 more … → "), "{errors}");
    assert!(errors.len() < 4_000, "{}", errors.len());
}

#[test]
fn more_services_than_slots_are_refused() {
    let text: String = (0..20_000).map(|i| format!("  s{i}: {{ }}\n")).collect();
    check_error!(format!("services:\n{text}"), @"
    upbeat.yaml:1:1: The project has 20000 services, and 16384 copies are the most on one machine (lower `scale`, or split the project)
      ^ `services`
    ");
}

#[test]
fn of_many_errors_the_first_are_shown_and_the_rest_counted() {
    let text: String = (0..10_000).map(|i| format!("  s{i}: {{ depends_on: [t{i}], scale: x }}\n")).collect();
    let errors = read(&format!("services:\n{text}")).unwrap_err();
    assert_eq!((errors.diagnostics.len(), errors.more), (ERRORS_MAX, 29_950));
    assert!(errors.diagnostics.is_sorted_by_key(|d| d.span.start));
    assert!(errors.to_string().ends_with("\nand 29950 more"));
}

#[test]
fn ten_megabytes_are_answered() {
    for (start, piece) in [("", "ä: [ö]\n"), ("[", "a, "), ("services:\n", "  a: { command: x }\n")] {
        errors_in(&filled(start, piece, TEXT_MAX));
    }
}

/// A tenth of the largest text tells linear from quadratic as well.
#[test]
fn a_megabyte_of_anything_is_answered() {
    for (start, piece) in [
        ("", "a"),
        ("", " "),
        ("", "#"),
        ("", "a\n"),
        ("", "ä: [ö]\n"),
        ("", "- "),
        ("", "? "),
        ("", ": "),
        ("", "{"),
        ("", "[{"),
        ("[", "a, "),
        ("[", "[]"),
        ("[", "*a "),
        ("[\n", "\"a\"\n"),
        ("[\n", "'a'\n"),
        ("[\n", "a: b\n"),
        ("[", "%a\n"),
        ("[", "- "),
        ("[", "|\n"),
        ("[", "]"),
        ("", "'' "),
        ("{", "a, "),
        ("", "\"a"),
        ("x: \"", "\\x41"),
        ("x: |\n", "  a\n"),
        ("x: ", "a b "),
        ("", "&a "),
        ("", "!a "),
        ("", "---\n"),
        ("%YAML 1.2\n", "# \n"),
        ("services:\n", "  a: { command: x }\n"),
        ("services: { web: { command: [", "$$, "),
        ("services: { web: { command: \"", "a' "),
        ("services: { web: { healthcheck: { log: \"", "(a"),
        ("services: { web: { stop_grace_period: \"", "1h"),
    ] {
        errors_in(&filled(start, piece, TEXT_MAX / 10));
    }
}

#[test]
fn many_costly_patterns_cost_little_together() {
    let mut text = "services:\n".to_owned();
    for i in 0..5_000 {
        writeln!(text, "  s{i}: {{ command: x, healthcheck: {{ log: '(\\pL{{9}}){{{i}}}' }} }}").unwrap();
    }
    let errors = errors_in(&text);
    assert!(errors.contains("is too large a pattern"), "{errors}");
}

#[test]
fn the_bound_on_values_leaves_room_for_real_files() {
    // Ten thousand services with twelve keys, their values, and fifty texts in these.
    const { assert!(10_000 * 80 <= VALUES_MAX) };
}

/// A file with everything in it, to be spoiled.
const GOOD: &str = r#"name: shop
services:
  db: &db
    command: ["./db", 'a b', "\x41\u00e4"]
    environment: { A: b, C: $$d }
    healthcheck: { log: "ready (on|at) \\w+", interval: 1m30s, retries: 3 }
  web:
    command: ./web --name 'a b'
    depends_on: { db: { condition: service_healthy, required: false } }
    restart: on-failure:5
    labels: [a=b, c]
    stop_signal: SIGINT # ö
  old: *db
"#;

/// One change of a text: some characters from a place on become others.
fn change() -> impl Strategy<Value = (usize, usize, String)> {
    let piece = prop_oneof![
        Just(String::new()),
        "[\\[\\]{}:,&*!|>'\"%@`#?\\- \n\t$]{1,3}",
        "\\PC{1,4}",
        Just("\u{feff}".to_owned()),
        Just("\r\n".to_owned()),
        Just("*db".to_owned()),
        Just("<<: *db".to_owned()),
        Just("9999999999999999999999".to_owned()),
        Just("...\n".to_owned()),
    ];
    (0..GOOD.len(), 0..12_usize, piece)
}

fn changed(changes: &[(usize, usize, String)]) -> String {
    let mut chars: Vec<char> = GOOD.chars().collect();
    for (from, length, piece) in changes {
        let from = (*from).min(chars.len());
        let to = (from + length).min(chars.len());
        chars.splice(from..to, piece.chars());
    }
    chars.into_iter().collect()
}

/// Whatever the text: an answer, and places that are in the text.
fn has_an_answer(text: &str) {
    match read(text) {
        Ok(parsed) => assert_eq!(upbeat_model::file::validate(&parsed.project), Ok(())),
        Err(errors) => {
            assert!(!errors.diagnostics.is_empty());
            for d in errors.diagnostics {
                assert!(text.get(d.span.clone()).is_some(), "{d:?}");
                assert!(!d.message.contains(char::is_control), "{d:?}");
                let line = text.split('\n').nth(d.line as usize - 1).expect("the line is there");
                assert!(d.column as usize <= line.chars().count() + 1, "{d:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn noise_has_an_answer(text in "\\PC{0,60}|[\\[\\]{}:,&*!|>'\"%@#?\\-ab \n\t\r]{0,60}") {
        has_an_answer(&text);
        has_an_answer(&service(&text));
    }

    #[test]
    fn a_spoiled_file_has_an_answer(changes in prop::collection::vec(change(), 0..6)) {
        has_an_answer(&changed(&changes));
    }
}

/// Every text that goes to the kernel has a length it takes no more of.
#[test]
fn a_text_that_is_too_long_is_refused_where_it_stands() {
    let (path, word) = ("a/".repeat(2048), "w".repeat(131_072));
    for (body, said) in [
        (format!("command: [x, {word}]"), "`services.web.command` has an argument of more than 131071 bytes"),
        (format!("command: x {word}"), "`services.web.command` has an argument of more than 131071 bytes"),
        (format!("command: [x]\nentrypoint: [{word}]"), "`services.web.entrypoint` has an argument of more"),
        (
            format!("command: [x]\nstop_command: [{word}]"),
            "`services.web.stop_command` has an argument of more",
        ),
        (
            format!("command: [x]\nenvironment: {{ A: {word} }}"),
            "has a variable of more than 131071 bytes: `A`",
        ),
        (format!("command: [x]\nenvironment: [A={word}]"), "has a variable of more than 131071 bytes: `A`"),
        (
            format!("command: [x]\nhealthcheck: {{ test: '{word}' }}"),
            "has an argument of more than 131071 bytes",
        ),
        (format!("command: [x]\nhealthcheck: {{ log: '{word}' }}"), "is a pattern of more than 4096 bytes"),
        (
            format!("command: [x]\nworking_dir: {path}"),
            "`services.web.working_dir` is a path of more than 4095",
        ),
        (
            format!("command: [x]\nenv_file: {path}"),
            "`services.web.env_file.path` is a path of more than 4095",
        ),
        (format!("command: [x]\nlabel_file: {path}"), "is a path of more than 4095 bytes"),
    ] {
        let errors = errors_in(&service(&body));
        assert!(errors.contains(said), "{} …: {errors:.300}", &body[..40]);
        assert_eq!(errors.matches("upbeat.yaml:").count(), 1, "{errors:.300}");
    }
    let file = format!("include: [{path}]\nservices: {{ web: {{ command: [x] }} }}\n");
    assert!(errors_in(&file).contains("is a path of more than 4095 bytes"));
}

/// In every place where somebody may name something.
#[test]
fn a_name_cannot_hide_what_it_is() {
    const NAME: &str = r#""a\u202E\0\e[2J""#;
    for text in [
        "name: NAME\nservices: { web: { command: [x] } }",
        "services: { NAME: { command: [x] } }",
        "services: { web: { NAME: x, command: [x] } }",
        "services: { web: { command: [x], environment: { NAME: x } } }",
        "services: { web: { command: [x], labels: { NAME: x } } }",
        "services: { web: { command: [x], depends_on: [NAME] } }",
        "services: { web: { command: [x], depends_on: { NAME: { required: false } } } }",
        "services: { web: { command: [x], profiles: [NAME] } }",
        "services: { web: { command: [x], extends: NAME } }",
        "services: { web: { command: [x], extends: { file: NAME, service: x } } }",
        "services: { web: { command: [x], env_file: NAME } }",
        "services: { web: { command: [x], configs: [NAME] } }",
        "services: { web: { command: [x], user: NAME } }",
        "services: { web: { command: [x], ulimits: { NAME: 1 } } }",
        "services: { web: { image: x, networks: [NAME] } }",
        "services: { web: { image: x, volumes: [{ type: volume, source: NAME, target: /x }] } }",
        "services: { web: { image: x, sysctls: { NAME: 1 } } }",
        "services: { web: { image: x, extra_hosts: { NAME: 1.1.1.1 } } }",
        "include: [NAME]\nservices: { web: { command: [x] } }",
        "services: { web: { command: [x] } }\nnetworks: { NAME: }",
        "services: { web: { command: [x] } }\nvolumes: { NAME: }",
        "services: { web: { command: [x] } }\nconfigs: { NAME: { content: a } }",
        "services: { web: { command: [x] } }\nsecrets: { NAME: { environment: A } }",
        "services: { web: { command: &NAME [x] } }",
        "services: { web: { command: *NAME } }",
        "services: { web: { command: !NAME [x] } }",
        "NAME: x\nservices: { web: { command: [x] } }",
    ] {
        let text = text.replace("NAME", NAME);
        let errors = read(&text).expect_err(&text);
        super::answer::errors_are_sound(&errors);
        let shown = errors.to_string();
        assert!(!shown.contains(['\u{202e}', '\u{1b}', '\0']), "{shown:?}");
    }
}

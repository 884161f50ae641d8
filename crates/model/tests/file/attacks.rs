//! What once went wrong when somebody tried: silence, and time that is not linear.

use std::fmt::Write;

use upbeat_model::file::{Context, Resolver, Source, Unread, parse, resolve};

/// Files by their paths, and one variable of the session.
struct Shelf(Vec<(&'static str, String)>);

impl Resolver for Shelf {
    fn read(&self, path: &str) -> Result<String, Unread> {
        let found = self.0.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| text.clone()).ok_or(Unread::Missing)
    }

    fn variable(&self, name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/ann".to_owned())
    }
}

/// What one file comes to, or what is wrong with it.
fn told(name: &str, text: &str, files: Vec<(&'static str, String)>) -> Result<serde_json::Value, String> {
    told_raw(name, text, files, true)
}

fn told_raw(
    name: &str,
    text: &str,
    files: Vec<(&'static str, String)>,
    interpolate: bool,
) -> Result<serde_json::Value, String> {
    let shelf = Shelf(files);
    let context = Context { interpolate, ..Context::new("/srv/shop", "shop", &shelf) };
    let resolved = resolve(&[Source { name, text }], &context);
    resolved.map(|resolved| resolved.document).map_err(|errors| errors.to_string())
}

#[test]
fn variables_of_a_file_reach_every_service_or_an_error_says_so() {
    let mut text = "services:\n".to_owned();
    for i in 0..1000 {
        writeln!(text, "  s{i}: {{ command: [x], env_file: v.env }}").unwrap();
    }
    let shelf = Shelf(vec![("/srv/shop/v.env", "A=1\n".to_owned())]);
    let context = Context::new("/srv/shop", "shop", &shelf);
    let parsed = parse(&[Source { name: "upbeat.yaml", text: &text }], &context);
    // Refusing it would be an answer too; silence is none.
    let services = parsed.map(|parsed| parsed.project.services).unwrap_or_default();
    let without = services.values().filter(|service| !service.environment.contains_key("A")).count();
    assert_eq!(without, 0);
}

#[test]
fn keys_under_x_upbeat_are_never_swallowed() {
    let text = "x-upbeat: { services: { b: { command: [y] } } }\nservices: { a: { command: [x] } }\n";
    let error = told("upbeat.yaml", text, Vec::new()).unwrap_err();
    assert!(error.contains("is given beside"), "{error}");
    let text = "services: { a: { x-upbeat: { stop_command: [q] }, command: [x], stop_command: [z] } }\n";
    let error = told("upbeat.yaml", text, Vec::new()).unwrap_err();
    assert!(error.contains("is given beside"), "{error}");
}

#[test]
fn our_keys_with_keys_of_their_own_stand_in_a_file_of_compose() {
    let text = "services: { a: { command: [x], x-upbeat: { log: { max_size: 1m } } } }\n";
    let document = told("compose.yaml", text, Vec::new()).unwrap();
    assert_eq!(document["services"]["a"]["log"]["max_size"], "1m");
}

#[test]
fn a_name_that_starts_with_x_is_a_name_where_names_are_free() {
    let text = "
services:
  x-web: { command: [x] }
  a: { command: [x], labels: { x-a: $$5 }, depends_on: { x-web: { condition: service_started } } }
";
    let document = told("upbeat.yaml", text, Vec::new()).unwrap();
    assert!(document["services"]["x-web"].is_object(), "{document}");
    assert!(document["services"]["a"]["depends_on"]["x-web"].is_object(), "{document}");
    assert_eq!(document["services"]["a"]["labels"]["x-a"], "$$5");
}

#[test]
fn what_is_not_filled_in_is_not_judged() {
    let text = "
name: ${APP:-shop}
services: { a: { image: x, ports: ['${A}:80', '${B}:81'], env_file: '${E:-dev}.env' } }
";
    let document = told_raw("upbeat.yaml", text, Vec::new(), false).unwrap();
    assert_eq!(document["services"]["a"]["ports"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_short_file_of_variables_does_not_become_gigabytes() {
    let mut lines = "A0=xxxxxxxxxx\n".to_owned();
    for i in 1..22 {
        writeln!(lines, "A{i}=$A{0}$A{0}", i - 1).unwrap();
    }
    for i in 0..3 {
        writeln!(lines, "B{i}=$A21").unwrap();
    }
    let files = vec![("/srv/shop/.env", lines)];
    let error = told("upbeat.yaml", "services: { a: { command: [x] } }\n", files).unwrap_err();
    assert!(error.contains("too long"), "{error}");
}

#[test]
fn a_dollar_alone_does_not_stop_the_others_from_being_filled_in() {
    let files = vec![("/srv/shop/v.env", "A=\"\\$5 $\"\nB=5$ ${HOME}\n".to_owned())];
    let document =
        told("upbeat.yaml", "services: { a: { command: [x], env_file: v.env } }\n", files).unwrap();
    assert_eq!(document["services"]["a"]["environment"]["A"], "$$5 $$");
    assert_eq!(document["services"]["a"]["environment"]["B"], "5$$ /home/ann");
}

#[test]
fn a_file_that_is_extended_is_filled_in_for_whoever_extends_it() {
    let files = vec![
        ("/srv/shop/sub/.env", "V=sub\n".to_owned()),
        (
            "/srv/shop/common.yaml",
            "services: { c: { command: [x], environment: { V: '${V:-none}' } } }\n".to_owned(),
        ),
        (
            "/srv/shop/sub/upbeat.yaml",
            "services: { b: { extends: { file: ../common.yaml, service: c } } }\n".to_owned(),
        ),
    ];
    let text = "
include: [sub/upbeat.yaml]
services: { a: { extends: { file: common.yaml, service: c } } }
";
    let document = told("upbeat.yaml", text, files).unwrap();
    assert_eq!(document["services"]["a"]["environment"]["V"], "none");
    assert_eq!(document["services"]["b"]["environment"]["V"], "sub");
}

#[test]
fn time_is_linear_in_names_and_in_variables() {
    let procfile: String = (0..300_000).map(|i| format!("p{i}: b\n")).collect();
    assert!(told("Procfile", &procfile, Vec::new()).is_err());
    let unset: String = (0..300_000).map(|i| format!("$X{i} ")).collect();
    let text = format!("services: {{ a: {{ command: [x], labels: {{ a: \"{unset}\" }} }} }}\n");
    assert!(told("upbeat.yaml", &text, Vec::new()).is_ok());
}

#[test]
fn a_long_value_that_is_only_asked_for_is_not_copied() {
    let files = vec![("/srv/shop/.env", format!("A={}\n", "x".repeat(8 << 20)))];
    let asked = "${A:+x}".repeat(100_000);
    let text = format!("services: {{ a: {{ command: [x], labels: {{ a: '{asked}' }} }} }}\n");
    let document = told("upbeat.yaml", &text, files).unwrap();
    assert_eq!(document["services"]["a"]["labels"]["a"].as_str().map(str::len), Some(100_000));
}

#[test]
fn that_there_is_too_much_text_is_said_once() {
    let files = vec![("/srv/shop/.env", format!("A={}\n", "x".repeat(8 << 20)))];
    let words: String = (0..20).map(|_| "$A, ").collect();
    let error =
        told("upbeat.yaml", &format!("services: {{ a: {{ command: [{words}] }} }}\n"), files).unwrap_err();
    assert_eq!(error.matches("more than 40 MB").count(), 1, "{error}");
}

#[test]
fn projects_in_projects_do_not_copy_the_variables_of_those_around_them() {
    let mut files = vec![("/srv/shop/.env", format!("A={}\n", "x".repeat(8 << 20)))];
    let name = |i: usize| -> &'static str { Box::leak(format!("/srv/shop/{i}/u.yaml").into_boxed_str()) };
    for i in 0..200 {
        let rest = if i < 199 { format!("include: [../{}/u.yaml]\n", i + 1) } else { String::new() };
        files.push((name(i), format!("{rest}services: {{ s{i}: {{ command: ['$B${{A:+a}}'] }} }}\n")));
        files.push((Box::leak(format!("/srv/shop/{i}/.env").into_boxed_str()), format!("B={i}\n")));
    }
    let document = told("upbeat.yaml", "include: [0/u.yaml]\nservices: {}\n", files).unwrap();
    // Those of the outer project come first.
    assert_eq!(document["services"]["s199"]["command"][0], "0a");
}

#[test]
fn projects_may_stand_in_each_other_as_deep_as_there_may_be_files() {
    let row = |depth: usize| {
        let name = |i: usize| -> &'static str { Box::leak(format!("/srv/shop/{i}.yaml").into_boxed_str()) };
        let text = |i: usize| {
            let rest = if i < depth { format!("include: [{}.yaml]\n", i + 1) } else { String::new() };
            format!("{rest}services: {{ s{i}: {{ command: [x] }} }}\n")
        };
        let files = (1..=depth).map(|i| (name(i), text(i))).collect();
        told("upbeat.yaml", &text(0), files)
    };
    assert_eq!(row(499).unwrap()["services"].as_object().unwrap().len(), 500);
    assert!(row(500).unwrap_err().contains("more than 500 files"));
}

#[test]
fn a_file_of_variables_that_thousands_name_does_not_become_gigabytes() {
    let mut text = "services:\n".to_owned();
    for i in 0..10_000 {
        writeln!(text, "  s{i}: {{ command: [x], env_file: v.env }}").unwrap();
    }
    let files = vec![("/srv/shop/v.env", format!("A={}\n", "x".repeat(1 << 20)))];
    let error = told("upbeat.yaml", &text, files).unwrap_err();
    assert!(error.contains("or 256 MB of them") && !error.contains('\n'), "{error}");
}

#[test]
fn a_file_whose_name_moves_the_cursor_is_named_without_doing_so() {
    let files = vec![("/srv/shop/a\u{202e}\u{1b}[31m.yaml", "services: { a: { comand: x } }\n".to_owned())];
    let text = "include: [\"a\\u202E\\e[31m.yaml\"]\nservices: { b: { command: [x] } }\n";
    let error = told("upbeat.yaml", text, files).unwrap_err();
    assert!(error.starts_with("/srv/shop/a\\u{202e}\\u{1b}[31m.yaml:1:18: Unknown key"), "{error}");
}

#[test]
fn nothing_is_taken_away_from_where_there_was_nothing() {
    let text = "include: !reset null\nservices: { a: { command: [x], extends: !reset null } }\n";
    assert!(told("upbeat.yaml", text, Vec::new()).is_ok());
}

/// Each file may be as large as one may be; all of them together are a project.
#[test]
fn many_files_at_their_limits_do_not_become_gigabytes() {
    let labels: Vec<String> = (0..150).map(|i| format!("l{i}: ''")).collect();
    let names: Vec<String> = (1..2_300).map(|i| format!("sNAME_{i}: *s")).collect();
    let file = format!(
        "services: {{ sNAME_0: &s {{ command: [x], labels: {{ {} }} }}, {} }}\n",
        labels.join(", "),
        names.join(", ")
    );
    let files = (0..6).map(|i| -> (&'static str, String) {
        let name = Box::leak(format!("/srv/shop/{i}.yaml").into_boxed_str());
        (name, file.replace("NAME", &i.to_string()))
    });
    let includes: Vec<String> = (0..6).map(|i| format!("{i}.yaml")).collect();
    let text = format!("include: [{}]\nservices: {{ a: {{ command: [x] }} }}\n", includes.join(", "));
    let error = told("upbeat.yaml", &text, files.collect()).unwrap_err();
    let first = error.lines().next().unwrap_or_default();
    assert!(first.contains("The files of the project have more than 1600000 values"), "{first}");
}

/// What is not taken is not read either.
#[test]
fn no_file_is_read_that_would_not_be_taken() {
    struct Endless(std::cell::Cell<usize>);
    impl Resolver for Endless {
        fn read(&self, path: &str) -> Result<String, Unread> {
            match path.ends_with("/.env") {
                true => Err(Unread::Missing),
                false => {
                    self.0.set(self.0.get() + 1);
                    Ok(format!("#{}\nA=1\n", "x".repeat(1 << 20)))
                }
            }
        }

        fn variable(&self, _: &str) -> Option<String> {
            None
        }
    }
    let files: Vec<String> = (0..1_000).map(|i| format!("{i}.env")).collect();
    let text = format!("services: {{ a: {{ command: [x], env_file: [{}] }} }}\n", files.join(", "));
    let endless = Endless(Default::default());
    let context = Context::new("/srv/shop", "shop", &endless);
    let errors = resolve(&[Source { name: "upbeat.yaml", text: &text }], &context).unwrap_err().to_string();
    assert!(errors.contains("The files of the project have more than 40 MB of text"), "{errors}");
    assert!(endless.0.get() < 50, "{} files were read", endless.0.get());
}

/// A file that thousands use is in the project thousands of times.
#[test]
fn secrets_that_many_use_do_not_become_gigabytes() {
    let parsed = |text: &str| {
        let shelf = Shelf(vec![("/srv/shop/k", "x".repeat(1 << 20))]);
        let context = Context::new("/srv/shop", "shop", &shelf);
        parse(&[Source { name: "upbeat.yaml", text }], &context)
            .map(drop)
            .map_err(|errors| errors.to_string())
    };
    let mut text = "secrets: { k: { file: k } }\nservices:\n".to_owned();
    for i in 0..5_000 {
        writeln!(text, "  s{i}: {{ command: [x], secrets: [k] }}").unwrap();
    }
    let error = parsed(&text).unwrap_err();
    assert!(
        error.contains("All services together have more than 64 MiB") && !error.contains('\n'),
        "{error}"
    );
    let grants: Vec<String> = (0..50_000).map(|i| format!("{{ source: k, target: k{i} }}")).collect();
    let text = format!(
        "secrets: {{ k: {{ file: k }} }}\nservices: {{ s: {{ command: [x], secrets: [{}] }} }}\n",
        grants.join(", ")
    );
    let error = parsed(&text).unwrap_err();
    assert!(error.contains("has configs and secrets of more than 4 MiB together"), "{error}");
    let text = text.replace("file: k }", "environment: HOME }");
    assert_eq!(parsed(&text), Ok(()));
}

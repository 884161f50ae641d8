//! Each offence planted in a string and found, each innocent look-alike passed over.

use crate::Offence;
use crate::laws;
use crate::manifest::{self, Manifest};
use crate::native;
use crate::source::{Source, blank};
use crate::workspace::{Workspace, mark_test_modules};

type Law = fn(&Workspace) -> Vec<Offence>;

/// The lines a law finds offences in, in a file of this room.
fn lines(law: Law, path: &str, text: &str) -> Vec<usize> {
    let room = path.split('/').nth(1).unwrap();
    let mut sources = vec![Source::new(room, path, text)];
    mark_test_modules(&mut sources);
    let mut lines: Vec<usize> =
        law(&Workspace { sources, ..Workspace::default() }).iter().map(|offence| offence.line).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

fn dependencies(law: Law, room: &str, text: &str) -> Vec<String> {
    let manifests = vec![Manifest::new(room, text)];
    law(&Workspace { manifests, ..Workspace::default() }).iter().map(Offence::to_string).collect()
}

const MODEL: &str = "crates/model/src/x.rs";
const AGENT: &str = "crates/agent/src/x.rs";
const SHIM: &str = "crates/shim/src/x.rs";

#[test]
fn comments_and_strings_are_no_code() {
    for (text, expected) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("\"a // b\" c", "\"      \" c"),
        ("\"a \\\" b\" c", "\"      \" c"),
        ("r#\"a \" b\"# c", "r        # c"),
        ("br\"\\\" c", "br  \" c"),
        ("'\"' 'a '\\'' b", "' ' 'a '  ' b"),
        ("for r in x", "for r in x"),
        ("\"a\nb\" c", "\" \n \" c"),
    ] {
        assert_eq!(blank(text), expected, "{text}");
    }
}

#[test]
fn an_arrow_against_the_law_is_found() {
    let text = "[package]\nname = \"x\"\n[dependencies]\nupbeat-model.workspace = true\n\
                upbeat-store = { path = \"../store\" }\n[dev-dependencies]\nupbeat-sim.workspace = true\n\
                [target.'cfg(unix)'.dependencies]\nupbeat-agent = \"1\"\n[dependencies.upbeat-api]\n";
    assert_eq!(
        dependencies(manifest::arrows, "decide", text),
        [
            "crates/decide/Cargo.toml:5: decide may not see store",
            "crates/decide/Cargo.toml:9: decide may not see agent",
            "crates/decide/Cargo.toml:10: decide may not see api",
        ]
    );
    assert_eq!(dependencies(manifest::arrows, "server", "[dependencies]\nupbeat = \"1\"\n").len(), 1);
    assert_eq!(dependencies(manifest::arrows, "attic", "[dependencies]\nupbeat-model = \"1\"\n").len(), 1);
}

#[test]
fn a_private_library_is_found() {
    let text = "[dependencies]\nredb.workspace = true\naxum = \"1\"\nserde = \"1\"\n";
    assert_eq!(dependencies(manifest::private_dependencies, "store", text).len(), 1);
    assert_eq!(dependencies(manifest::private_dependencies, "agent", text).len(), 2);
    assert_eq!(dependencies(manifest::private_dependencies, "shim", text).len(), 5);
    let named = "use redb::Database;\nfn f() { axum::serve(); }\nlet redb = 1;";
    assert_eq!(lines(laws::private_names, AGENT, named), [1, 2]);
    assert_eq!(lines(laws::private_names, "crates/store/src/x.rs", named), [2]);
}

#[test]
fn a_crate_that_needs_more_than_a_c_compiler_is_found() {
    let lock = "[[package]]\nname = \"pkg-config\"\nversion = \"0.3.32\"\n[[package]]\nname = \"openssl-sys\"\n\
                dependencies = [\n \"cc\",\n \"cmake\",\n]\n[[package]]\nname = \"cc\"\n[[package]]\n\
                name = \"linux-raw-sys\"\n[[package]]\nname = \"cmake\"\n";
    let found: Vec<String> = native::more_than_a_compiler(lock).iter().map(Offence::to_string).collect();
    let expected = [
        "Cargo.lock:2: pkg-config: it looks for libraries of the system",
        "Cargo.lock:5: openssl-sys: it binds a library that is not Rust; say in `ONLY_DECLARES` if it does not",
        "Cargo.lock:15: cmake: it runs cmake",
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_impure_noun_is_found_however_it_is_imported() {
    let text = "\
use std::{collections::BTreeMap, fs, time::{Duration, Instant}};
use std::time::Duration;
fn f() -> u64 { tokio::spawn(x) }
fn g() { let a = ::std::env::var(\"A\"); }
fn h() { let fs = operand::net; }
use std::time::{
    Duration,
    SystemTime as Clock,
};
use self::{self, fs};
// std::fs
let x = \"std::net\";
use std::time::*;
rand::random();
std::thread::spawn(f); std::process::exit(1);
#[cfg(test)]
mod tests {
    use std::fs;
}
";
    assert_eq!(lines(laws::purity, MODEL, text), [1, 3, 4, 8, 13, 14, 15]);
    assert_eq!(lines(laws::purity, AGENT, text), []);
}

#[test]
fn printing_and_reading_the_environment_are_found_outside_the_binary() {
    let text = "println!(\"x\");\neprint!();\nprintln(1);\n#[cfg(test)]\nmod t { fn f() { println!(); } }\n";
    assert_eq!(lines(laws::printing, AGENT, text), [1, 2]);
    assert_eq!(lines(laws::printing, "crates/upbeat/src/x.rs", text), []);
    let text = "\
let a = std::env::var(\"A\");
use std::env;
let b = env::args_os();
let c = env!(\"CARGO_PKG_VERSION\");
let d = std::env::consts::OS;
// Failpoints of debug builds are set here.
let e = env::var_os(\"UPBEAT_FAIL\");
use std::env::{self, temp_dir};
";
    assert_eq!(lines(laws::environment, AGENT, text), [1, 3, 7, 8]);
    assert_eq!(lines(laws::environment, SHIM, text), [1, 8]);
    assert_eq!(lines(laws::environment, "crates/shim/src/failpoint.rs", text), []);
    assert_eq!(lines(laws::environment, "crates/agent/src/failpoint.rs", text), [1, 3, 7, 8]);
    assert_eq!(lines(laws::environment, "crates/upbeat/src/x.rs", text), []);
}

#[test]
fn unsafe_is_found_where_it_does_not_belong_or_does_not_argue() {
    let text =
        "#![deny(unsafe_code)]\nlet s = \"unsafe\";\n// SAFETY: the descriptor is ours.\nunsafe { f() }\n";
    assert_eq!(lines(laws::unsafety, AGENT, text), [4]);
    assert_eq!(lines(laws::unsafety, SHIM, text), []);
    assert_eq!(lines(laws::unsafety, SHIM, "fn f() {\n    unsafe { g() }\n}\n"), [2]);
}

#[test]
fn unwrapping_is_found_outside_tests() {
    let text = "\
let a = b.unwrap();
let c = d.unwrap_or(1).unwrap_or_default();
let e = f.expect(\"g\");
// INVARIANT: it was checked above,
// in the same function.
let h = i.expect(\"checked\");
parser.expect(Token::Comma);
list.map(Option::unwrap);
let j = k
    .expect(
        r#\"l\"#,
    );
fn unwrap() {}
// m.unwrap()
#[cfg(test)]
use x::y;
let n = o.unwrap();
#[cfg(test)]
mod tests {
    fn f() { if a { b.unwrap(); } }
    fn g() { b.unwrap(); }
}
let p = q.unwrap();
struct S { a: u8, #[cfg(test)] b: u8 }
#[cfg(not(test))]
fn r() { s.unwrap(); }
";
    assert_eq!(lines(laws::unwrapping, AGENT, text), [1, 3, 8, 10, 17, 23, 26]);
    assert_eq!(lines(laws::unwrapping, "crates/agent/src/x/tests.rs", text), []);
    assert_eq!(lines(laws::unwrapping, "crates/agent/tests/x.rs", text), []);
}

#[test]
fn a_module_declared_for_tests_is_test_code_wholly() {
    let mut sources = vec![
        Source::new("agent", "crates/agent/src/lib.rs", "#[cfg(test)]\npub(crate) mod fake;\nmod real;"),
        Source::new("agent", "crates/agent/src/fake.rs", "a.unwrap();"),
        Source::new("agent", "crates/agent/src/fake/deep.rs", "a.unwrap();"),
        Source::new("agent", "crates/agent/src/real.rs", "a.unwrap();\n#[cfg(test)]\nmod oracle;"),
        Source::new("agent", "crates/agent/src/real/oracle.rs", "a.unwrap();"),
    ];
    mark_test_modules(&mut sources);
    let found = laws::unwrapping(&Workspace { sources, ..Workspace::default() });
    assert_eq!(found.iter().map(|o| o.path.as_str()).collect::<Vec<_>>(), ["crates/agent/src/real.rs"]);
}

#[test]
fn what_is_undone_or_ignored_is_found_even_in_tests() {
    let text = "todo!();\nlet todo = 1; // todo!\n#[cfg(test)]\nmod t {\n#[ignore = \"slow\"]\nfn f() { dbg!(1); }\n}\n";
    assert_eq!(lines(laws::leftovers, AGENT, text), [1, 5, 6]);
}

#[test]
fn a_file_without_a_word_about_itself_is_found() {
    assert_eq!(lines(laws::documentation, AGENT, "#![allow(x)]\n\n//! About.\nuse a;"), []);
    assert_eq!(lines(laws::documentation, AGENT, "use a;\n//! Late."), [1]);
    assert_eq!(lines(laws::documentation, AGENT, ""), [1]);
}

#[test]
fn length_is_counted_in_lines() {
    let body =
        |n: usize| format!("fn f(x: [u8; 4]) -> fn(u8) {{\n{}}}\ntrait T {{ fn g(); }}\n", "x;\n".repeat(n));
    assert_eq!(lines(laws::length, AGENT, &body(68)), []);
    assert_eq!(lines(laws::length, AGENT, &body(69)), [1]);
    let data = format!("fn f() {{\n    check(\"\n{}\");\n}}\n", "fn g() {\n".repeat(100));
    assert_eq!(lines(laws::length, AGENT, &data), [], "a text is data");
    assert_eq!(lines(laws::length, AGENT, &"x;\n".repeat(600)), []);
    assert_eq!(lines(laws::length, AGENT, &"x;\n".repeat(601)), [601]);
}

#[test]
fn an_empty_name_is_found() {
    assert_eq!(lines(laws::names, "crates/agent/src/utils.rs", ""), [1]);
    assert_eq!(lines(laws::names, "crates/agent/tests/common/mod.rs", ""), [1]);
    assert_eq!(lines(laws::names, AGENT, "let common = 1;\nmod helpers { }\n"), [2]);
}

#[test]
fn a_sleeping_test_is_found() {
    let text = "\
fn product() { std::thread::sleep(d); }
#[cfg(test)]
mod tests {
    use tokio::time::{sleep, Duration};
    fn f() { sleep(d); }
    fn g() { run(\"thread::sleep(d)\"); tokio::time::timeout(d, x); }
    // Only called where the clock is paused.
    fn h() { sleep(d); }
    #[tokio::test(start_paused = true)]
    async fn i() {
        tokio::time::sleep(d).await;
        std::thread::sleep(d);
    }
    #[tokio::test]
    async fn j() { tokio::time::sleep(d).await; }
}
";
    assert_eq!(lines(laws::sleeping, AGENT, text), [5, 12, 15]);
}

//! Rust and a C compiler are all it takes to build: what the lock file may not name.
//!
//! A name tells what a build needs only by custom: a crate whose build script calls a program of its
//! own accord is not seen here.

use crate::Offence;

/// What each of these needs a fresh machine may lack.
const NEEDS_MORE: &[(&str, &str)] = &[
    ("autotools", "it runs autoconf and make"),
    ("aws-lc-rs", "it needs cmake"),
    ("bindgen", "it needs libclang"),
    ("cmake", "it runs cmake"),
    ("cxx-build", "it needs a C++ compiler"),
    ("meson-next", "it runs meson"),
    ("nasm-rs", "it runs nasm"),
    ("native-tls", "it needs OpenSSL and its headers"),
    ("openssl", "it needs OpenSSL and its headers"),
    ("openssl-src", "it runs perl and make"),
    ("pkg-config", "it looks for libraries of the system"),
    ("prost-build", "it runs protoc"),
    ("protobuf-codegen", "it runs protoc"),
    ("protobuf-src", "it needs cmake and a C++ compiler"),
    ("system-deps", "it looks for libraries of the system"),
    ("tonic-build", "it runs protoc"),
    ("vcpkg", "it looks for libraries of the system"),
];

/// By custom a name in `-sys` is a library that is not Rust. These are not, or not where Upbeat runs.
const ONLY_DECLARES: &[(&str, &str)] = &[
    ("core-foundation-sys", "of macOS only"),
    ("js-sys", "of browsers only"),
    ("linux-raw-sys", "constants of the kernel"),
    ("security-framework-sys", "of macOS only"),
    ("web-sys", "of browsers only"),
    ("windows-sys", "of Windows only"),
];

/// What a `Cargo.lock` names that needs more than Rust and a C compiler.
pub(crate) fn more_than_a_compiler(lock: &str) -> Vec<Offence> {
    let mut found = Vec::new();
    for (line, text) in lock.lines().enumerate() {
        let Some(name) = text.strip_prefix("name = \"").and_then(|rest| rest.strip_suffix('"')) else {
            continue;
        };
        let why = match NEEDS_MORE.iter().find(|(other, _)| *other == name) {
            Some((_, why)) => *why,
            None if !name.ends_with("-sys") || ONLY_DECLARES.iter().any(|(other, _)| *other == name) => {
                continue;
            }
            None => "it binds a library that is not Rust; say in `ONLY_DECLARES` if it does not",
        };
        found.push(Offence { path: "Cargo.lock".into(), line: line + 1, what: format!("{name}: {why}") });
    }
    found
}

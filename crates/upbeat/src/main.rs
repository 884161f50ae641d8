//! The `upbeat` binary.
fn main() {}

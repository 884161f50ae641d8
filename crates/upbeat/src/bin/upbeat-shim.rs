//! The shim as a program of its own: small, and spared by `killall upbeat`.

fn main() -> std::process::ExitCode {
    upbeat_shim::main()
}

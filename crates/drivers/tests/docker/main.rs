//! The driver of containers with a real engine, and with engines that are none.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod builds;
mod execs;
mod gone;
mod hands;
mod life;
mod output;
mod pulls;
mod reasons;
mod rig;
mod things;
mod turns;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [adopt, host, owner, dir, slot] = &arguments[..]
        && adopt == "adopt"
    {
        output::adopt(host, owner, dir, slot);
    }
    let cases = [
        builds::CASES,
        life::CASES,
        hands::CASES,
        execs::CASES,
        gone::CASES,
        output::CASES,
        pulls::CASES,
        reasons::CASES,
        things::CASES,
        turns::CASES,
    ]
    .concat();
    let code = upbeat_needs::run(cases);
    rig::clean_up();
    code
}

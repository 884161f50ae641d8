//! `rollout simulate`: what would happen, before it does.

use std::collections::BTreeMap;

use upbeat_decide::rollout::simulate::{Crowd, Scenario, forecast};
use upbeat_model::rollout::{Options, Strategy};

use super::args::SimulateArgs;
use super::careful;
use super::session::Session;
use crate::exit::ExitCode;
use crate::face::forecast as face;
use crate::failure::{Failure, Outcome};

pub(super) fn run(session: &Session, args: &SimulateArgs) -> Outcome {
    let (options, strategy) = careful::upon(Options::default(), Strategy::default(), &args.options)?;
    let crowd = Crowd { targets: args.targets, labels: BTreeMap::new(), failure_rate: args.failure_rate };
    let (least, most) = args.switch;
    let scenario = Scenario {
        crowds: vec![crowd],
        options,
        strategy,
        switch: (careful::millis(least), careful::millis(most)),
        every: careful::millis(args.every),
        approves_after: args.approve_after.map(careful::millis),
        begins: session.face().now,
    };
    let told = forecast(&scenario, args.seed, args.runs).map_err(|bad| {
        Failure::new(ExitCode::Usage, bad.to_string())
            .hint("`upbeat rollout simulate --help` lists what can be said")
    })?;
    match session.is_json() {
        true => session.print_json(&told)?,
        false => session.print(&face::text(&scenario, &told, &session.face()))?,
    }
    Ok(ExitCode::Ok)
}

//! `wait`: returns when services are in a state, or cannot get there.

use upbeat_model::{Phase, ServiceName, SlotStatus};

use super::args::{WaitArgs, WaitFor};
use super::change::{For, named, watch_app};
use super::session::Session;
use crate::exit::ExitCode;
use crate::face::{Face, Paint, events::note, visible};
use crate::failure::{Failure, Outcome};

pub(super) async fn run(session: &Session, args: WaitArgs) -> Outcome {
    let (client, app, services) = named(session, For::Answer, &args.services).await?;
    let mut apps = watch_app(session, &client, &app.name);
    let mut last = Verdict::Pending(None);
    // Colours are for the words around it.
    let face = Face { paint: Paint::Plain, ..session.face_of_errors() };
    let watched = async {
        while let Some(app) = apps.next().await? {
            last = verdict(args.state, &services, &app.slots);
            match &last {
                Verdict::Met => return Ok(ExitCode::Ok),
                Verdict::Never(code, status) => return Err(never(&face, args.state, *code, status)),
                Verdict::Pending(_) => {}
            }
        }
        match args.state {
            WaitFor::Stopped => Ok(ExitCode::Ok),
            _ => Err(Failure::new(ExitCode::NotFound, format!("`{}` was taken down", app.name))),
        }
    };
    let Some(timeout) = args.timeout else { return watched.await };
    match tokio::time::timeout(timeout, watched).await {
        Ok(outcome) => outcome,
        Err(_) => Err(in_time(&face, args.state, &last)),
    }
}

fn never(face: &Face, state: WaitFor, code: ExitCode, status: &SlotStatus) -> Failure {
    let words = note(status, face);
    Failure::new(code, format!("`{}` does not get {state}: {words}", status.slot.service))
        .hint(format!("`upbeat why {}` explains it", status.slot.service))
}

fn in_time(face: &Face, state: WaitFor, last: &Verdict) -> Failure {
    let failure = Failure::new(ExitCode::Timeout, format!("not everything was {state} in time"));
    match last {
        Verdict::Pending(Some(status)) => {
            let mut failure = failure.hint(format!("`upbeat why {}` explains it", status.slot.service));
            failure.causes.push(visible(&note(status, face)));
            failure
        }
        _ => failure,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Met,
    /// Not yet; one of those that are not there, if there is one.
    Pending(Option<Box<SlotStatus>>),
    /// Not unless a person does something.
    Never(ExitCode, Box<SlotStatus>),
}

/// `services` is empty where all are meant; then what has completed has done all it should.
fn verdict(state: WaitFor, services: &[ServiceName], slots: &[SlotStatus]) -> Verdict {
    let all = services.is_empty();
    let wanted: Vec<&SlotStatus> =
        slots.iter().filter(|s| all || services.contains(&s.slot.service)).collect();
    let mut pending = None;
    for status in &wanted {
        match one(state, all, status) {
            One::Met => {}
            One::Pending => pending = pending.or(Some(Box::new((*status).clone()))),
            One::Never(code) => return Verdict::Never(code, Box::new((*status).clone())),
        }
    }
    // A service without copies is stopped, and nothing else.
    let missing = services.iter().any(|service| !wanted.iter().any(|s| s.slot.service == *service));
    if pending.is_some() || (missing && state != WaitFor::Stopped) {
        return Verdict::Pending(pending);
    }
    Verdict::Met
}

enum One {
    Met,
    Pending,
    Never(ExitCode),
}

fn one(state: WaitFor, all: bool, status: &SlotStatus) -> One {
    match (state, status.phase) {
        (WaitFor::Stopped, Phase::Stopped | Phase::Completed | Phase::Failed) => One::Met,
        (WaitFor::Stopped, Phase::DependencyFailed | Phase::Absent) => One::Met,
        (WaitFor::Stopped, _) => One::Pending,
        (_, Phase::Failed | Phase::CrashLooping) => One::Never(ExitCode::Failed),
        (_, Phase::DependencyFailed) => One::Never(ExitCode::DependencyFailed),
        (WaitFor::Completed, Phase::Completed) => One::Met,
        (WaitFor::Healthy | WaitFor::Running, Phase::Completed) if all => One::Met,
        (WaitFor::Healthy | WaitFor::Running, Phase::Completed) => One::Never(ExitCode::Failed),
        (WaitFor::Healthy | WaitFor::Running, Phase::Healthy | Phase::Running) => One::Met,
        (WaitFor::Running, Phase::Unhealthy | Phase::NeedsAttention) => One::Met,
        // Until somebody looks.
        (WaitFor::Healthy, Phase::NeedsAttention) => One::Never(ExitCode::Unhealthy),
        (WaitFor::Running, Phase::Starting) if status.started_at.is_some() => One::Met,
        _ => One::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::error;
    use crate::face::examples::{face, not_restarted, service, status, waits_for_db};
    use upbeat_model::Reason;

    fn check(state: WaitFor, phase: Phase) -> char {
        match verdict(state, &[service("web")], &[status("db-1", Phase::Failed), status("web-1", phase)]) {
            Verdict::Met => '+',
            Verdict::Pending(_) => '.',
            Verdict::Never(code, _) => char::from(b'0' + code.number()),
        }
    }

    #[test]
    fn each_phase_is_there_or_may_come_or_never_will() {
        use Phase::*;
        let phases = [
            Stopped,
            Waiting,
            DependencyFailed,
            Starting,
            Running,
            Healthy,
            Unhealthy,
            BackingOff,
            CrashLooping,
            Stopping,
            Completed,
            Failed,
        ];
        let row = |state| phases.iter().map(|p| check(state, *p)).collect::<String>();
        assert_eq!(row(WaitFor::Healthy), "..7.++..1.11");
        assert_eq!(row(WaitFor::Running), "..7++++.1.11");
        assert_eq!(row(WaitFor::Completed), "..7.....1.+1");
        assert_eq!(row(WaitFor::Stopped), "+.+.......++");
    }

    #[test]
    fn who_waited_in_vain_is_told_for_what() {
        let with =
            |phase, reason: Reason| Box::new(SlotStatus { reasons: vec![reason], ..status("web-1", phase) });
        let told = |failure| error::text(&failure, Paint::Plain);
        let waits = Verdict::Pending(Some(with(Phase::Waiting, waits_for_db())));
        insta::assert_snapshot!(told(in_time(&face(), WaitFor::Healthy, &waits)), @"
        error: Not everything was healthy in time
          caused by: web-1 is waiting: waits for db to be healthy (db-1 is backing off)
        hint: `upbeat why web` explains it
        ");
        insta::assert_snapshot!(told(in_time(&face(), WaitFor::Stopped, &Verdict::Pending(None))), @"error: Not everything was stopped in time");
        let failed = with(Phase::Failed, not_restarted());
        insta::assert_snapshot!(told(never(&face(), WaitFor::Completed, ExitCode::Failed, &failed)), @"
        error: `web` does not get completed: web-1 failed: ended (exit 1) and `restart: no` leaves it so
        hint: `upbeat why web` explains it
        ");
    }

    #[test]
    fn a_service_without_copies_is_stopped_and_nothing_else() {
        assert_eq!(verdict(WaitFor::Stopped, &[service("web")], &[]), Verdict::Met);
        assert_eq!(verdict(WaitFor::Healthy, &[service("web")], &[]), Verdict::Pending(None));
    }

    #[test]
    fn who_waits_for_everything_does_not_wait_for_what_has_completed() {
        let slots = [status("job-1", Phase::Completed), status("web-1", Phase::Healthy)];
        assert_eq!(verdict(WaitFor::Healthy, &[], &slots), Verdict::Met);
    }
}

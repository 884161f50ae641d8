//! Commands beside copies of services: which copy, in which surroundings, and until when.

use std::path::Path;

use futures_util::StreamExt;
use tokio::sync::watch;
use upbeat_api::{Attach, Exec, ExecEnd, Problem, ProblemKind};
use upbeat_control::Control;
use upbeat_drivers::docker::{Attach as Join, ContainerExec};
use upbeat_drivers::machine::Machine;
use upbeat_drivers::process::{ExecRequest, Leftovers, Rights, environment};
use upbeat_drivers::session::{Ended, Piece, Session, Window};
use upbeat_model::{App, Exit, Millis, Phase, Reason, Service, ServiceName, SlotStatus, TargetSlot};
use upbeat_server::{Answer, Printed, Running};

/// Where a command finds no program, and where it finds one that cannot be run: as shells have it.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// Begins it. Errors: there is no such copy, it does not run, or the command cannot be begun.
pub(super) async fn begin(
    machine: &Machine,
    control: Control,
    app: &App,
    service: &ServiceName,
    exec: Exec,
) -> Answer<Running> {
    let copy = copy(app, service, exec.index)?;
    // What an app shows of itself withholds values. The wish for the copy is what it is started by.
    let wish = control.target().borrow().slots.get(&copy.slot).cloned();
    let unable = |why: String| Problem::new(ProblemKind::Unavailable, format!("it cannot be run: {why}"));
    let at = exec.terminal.map(|window| Window { columns: window.columns, rows: window.rows });
    let session = match machine.engine.holds(&copy.slot, copy.attempt) {
        true => machine.engine.converse(in_container(copy, exec), at).await,
        false => {
            // What runs is what its surroundings are of: the file may say others by now.
            let runs = |wish: &TargetSlot| control.running_digest(&copy.slot).as_ref() == Some(&wish.digest);
            let of_process =
                |wish: &&TargetSlot| wish.spec.container.is_none() && !wish.spec.external && runs(wish);
            let Some(wish) = wish.as_ref().filter(of_process) else {
                return Err(not_here(copy, wish.as_ref().map(|wish| &*wish.spec)));
            };
            machine.processes.converse(beside(copy, wish, exec), at).await
        }
    };
    Ok(running(session.map_err(unable)?, control, copy.clone(), Of::Command))
}

/// Joins one that runs. Errors: there is no such copy, it does not run, or it has no streams that could be had.
pub(super) async fn attach(
    machine: &Machine,
    control: Control,
    app: &App,
    service: &ServiceName,
    asked: Attach,
) -> Answer<Running> {
    let copy = copy(app, service, asked.index)?;
    if !machine.engine.holds(&copy.slot, copy.attempt) {
        let wish = control.target().borrow().slots.get(&copy.slot).cloned();
        let is_process = |wish: &TargetSlot| wish.spec.container.is_none() && !wish.spec.external;
        return Err(match wish.as_ref().is_some_and(is_process) {
            true => of_process(copy, service),
            false => not_here(copy, wish.as_ref().map(|wish| &*wish.spec)),
        });
    }
    let at = asked.terminal.map(|window| Window { columns: window.columns, rows: window.rows });
    let to = Join { slot: copy.slot.clone(), attempt: copy.attempt, input: asked.input, at };
    let session = machine.engine.attach(to).await.map_err(|why| {
        Problem::new(
            ProblemKind::Unavailable,
            format!("`{}` cannot be attached to: {why}", copy.slot.short()),
        )
    })?;
    Ok(running(session, control, copy.clone(), Of::Service))
}

/// What a process prints goes into its log, and its input is nobody's.
fn of_process(copy: &SlotStatus, service: &ServiceName) -> Problem {
    let message = format!("`{}` is a process, and only containers are attached to", copy.slot.short());
    Problem::new(ProblemKind::BadRequest, message).with_hint(format!(
        "`upbeat logs -f {service}` shows what it prints, `upbeat exec {service} …` runs a command beside it"
    ))
}

/// The copy that is meant: the one that was named, or the first that runs.
fn copy<'a>(app: &'a App, service: &ServiceName, index: Option<u32>) -> Answer<&'a SlotStatus> {
    let copies = || app.slots.iter().filter(|copy| copy.slot.service == *service);
    let found = match index {
        Some(index) => copies().find(|copy| copy.slot.index == index),
        None => copies().find(|copy| is_up(copy)).or_else(|| copies().next()),
    };
    let Some(found) = found else { return Err(no_copy(service, index, &mut copies())) };
    if is_up(found) {
        return Ok(found);
    }
    let message = format!("`{}` does not run: {}", found.slot.short(), so(found));
    let hint = match found.phase {
        Phase::Stopped | Phase::Completed | Phase::Failed => format!("`upbeat start {service}` starts it"),
        _ => format!("`upbeat why {service}` says more"),
    };
    Err(Problem::new(ProblemKind::Conflict, message).with_hint(hint))
}

/// `it is backing off, as it …`; `it is starting (its process …)`, where the reason is no clause about the copy.
fn so(copy: &SlotStatus) -> String {
    let Some(reason) = copy.reasons.first() else { return format!("it is {}", copy.phase) };
    let clause = reason.to_string();
    let has_subject = ["its ", "what others "].iter().any(|subject| clause.starts_with(subject));
    match has_subject || matches!(reason, Reason::Prepares { step: Some(_) }) {
        true => format!("it is {} ({clause})", copy.phase),
        false => format!("it is {}, as it {clause}", copy.phase),
    }
}

fn is_up(copy: &SlotStatus) -> bool {
    copy.phase.is_alive() && copy.pid.is_some()
}

fn no_copy(
    service: &ServiceName,
    index: Option<u32>,
    copies: &mut dyn Iterator<Item = &SlotStatus>,
) -> Problem {
    let known: Vec<_> = copies.take(20).map(|copy| copy.slot.index.to_string()).collect();
    match (index, known.is_empty()) {
        (Some(index), false) => {
            Problem::new(ProblemKind::NotFound, format!("`{service}` has no copy {index}"))
                .with_hint(format!("there is {}", known.join(", ")))
        }
        _ => Problem::new(ProblemKind::NotFound, format!("`{service}` has no copies"))
            .with_hint(format!("`upbeat scale {service}=1` starts one")),
    }
}

/// It runs, and no command can be run beside it.
fn not_here(copy: &SlotStatus, spec: Option<&Service>) -> Problem {
    let name = copy.slot.short();
    match spec {
        Some(spec) if spec.external => Problem::new(
            ProblemKind::BadRequest,
            format!("{name} runs elsewhere: nothing is known of its surroundings"),
        )
        .with_hint("run the command where the service is"),
        _ => Problem::new(
            ProblemKind::Conflict,
            format!("{name} is about to be replaced: what runs is not what the file says"),
        )
        .with_hint("ask again when `upbeat ps` shows it running"),
    }
}

fn in_container(copy: &SlotStatus, exec: Exec) -> ContainerExec {
    ContainerExec {
        slot: copy.slot.clone(),
        attempt: copy.attempt,
        command: exec.command,
        environment: exec.environment,
        working_dir: exec.working_dir,
        user: exec.user,
        privileged: false,
        timeout: Millis(u64::MAX),
    }
}

fn beside(copy: &SlotStatus, wish: &TargetSlot, exec: Exec) -> ExecRequest {
    let spec = &wish.spec;
    let mut variables = environment(&spec.environment, &wish.base_environment);
    variables.extend(exec.environment);
    let home = Path::new(&spec.working_dir);
    let dir = exec.working_dir.map(|dir| home.join(dir).to_string_lossy().into_owned());
    ExecRequest {
        command: exec.command,
        environment: variables,
        working_dir: dir.unwrap_or_else(|| spec.working_dir.clone()),
        user: exec.user.or_else(|| spec.user.clone()),
        rights: Rights::of(spec),
        beside: Some(copy.slot.clone()),
        timeout: Millis(u64::MAX),
        leftovers: Leftovers::Killed,
    }
}

/// Whose streams they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Of a command beside a copy, which ends with that.
    Command,
    /// Of the copy itself.
    Service,
}

fn running(session: Session, control: Control, copy: SlotStatus, of: Of) -> Running {
    let Session { input, output, window, end } = session;
    let output = output.map(|piece| {
        piece.map(|piece| match piece {
            Piece::Output(bytes) => Printed::Output(bytes),
            Piece::Errors(bytes) => Printed::Errors(bytes),
        })
    });
    let (windows, follows) = match window {
        None => (None, None),
        Some(window) => {
            let size = *window.borrow();
            let (windows, sizes) =
                watch::channel(upbeat_api::Window { columns: size.columns, rows: size.rows });
            (Some(windows), Some((sizes, window)))
        }
    };
    let end = Box::pin(async move {
        tokio::select! {
            // How it ended by itself is told before that its copy has ended.
            biased;
            ended = end => match of {
                Of::Command => told(ended, &control, &copy),
                Of::Service => left(ended, &copy),
            },
            () = pass_on(follows) => unknown("its terminal is gone".to_owned()),
            () = gone(&control, &copy), if of == Of::Command => unknown(format!("`{}` has ended, and the command with it", copy.slot.short())),
        }
    });
    Running { input, output: Box::pin(output), windows, end }
}

/// Passes the sizes of a terminal on. Never ends.
async fn pass_on(sizes: Option<(watch::Receiver<upbeat_api::Window>, watch::Sender<Window>)>) {
    if let Some((mut sizes, window)) = sizes {
        while sizes.changed().await.is_ok() {
            let size = *sizes.borrow_and_update();
            window.send_replace(Window { columns: size.columns, rows: size.rows });
        }
        // Dropped, it would be taken for the end of the terminal.
        let _window = window;
        return std::future::pending().await;
    }
    std::future::pending().await
}

fn unknown(message: String) -> ExecEnd {
    let problem = Problem::new(ProblemKind::Conflict, message);
    ExecEnd { code: None, problem: Some(problem) }
}

fn told(ended: Ended, control: &Control, copy: &SlotStatus) -> ExecEnd {
    let not_run =
        |code, why| ExecEnd { code: Some(code), problem: Some(Problem::new(ProblemKind::BadRequest, why)) };
    match ended {
        Ended::Exit(Exit::Code(code)) => ExecEnd { code: u8::try_from(code).ok(), problem: None },
        Ended::Exit(Exit::Signal(signal)) => {
            ExecEnd { code: u8::try_from(signal.saturating_add(128)).ok(), problem: None }
        }
        Ended::Exit(exit) => unknown(exit.to_string()),
        Ended::NotFound(why) => not_run(NOT_FOUND, why),
        Ended::NotRun(why) => not_run(NOT_RUN, why),
        Ended::Unable(_) if !stays(control, copy) => {
            unknown(format!("{} has ended, and the command with it", copy.slot.short()))
        }
        Ended::Unable(why) => unknown(why),
    }
}

/// How a copy has ended that somebody was attached to.
fn left(ended: Ended, copy: &SlotStatus) -> ExecEnd {
    match ended {
        Ended::Exit(Exit::Code(code)) => ExecEnd { code: u8::try_from(code).ok(), problem: None },
        Ended::Exit(exit) => unknown(format!("{}: {exit}", copy.slot.short())),
        Ended::NotFound(why) | Ended::NotRun(why) | Ended::Unable(why) => {
            unknown(format!("`{}` is not attached to any more: {why}", copy.slot.short()))
        }
    }
}

/// Until the copy has ended beside which it runs.
async fn gone(control: &Control, copy: &SlotStatus) {
    let mut changes = control.changes();
    while stays(control, copy) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// That attempt still runs.
fn stays(control: &Control, copy: &SlotStatus) -> bool {
    let now = control.status(&copy.slot);
    now.is_some_and(|now| now.attempt == copy.attempt && is_up(&now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{backs_off, status};

    #[test]
    fn why_a_copy_does_not_run_is_a_sentence_and_its_name_stays_as_it_is() {
        let because = |phase, reason: Option<Reason>| {
            let copy = SlotStatus { reasons: reason.into_iter().collect(), ..status("c-1", phase) };
            format!("`{}` does not run: {}", copy.slot.short(), so(&copy))
        };
        let hooks = Reason::RunsHooks { hooks: "pre_start".to_owned() };
        let pulls = Reason::Prepares { step: Some("pulling nginx:1.27".to_owned()) };
        for (phase, reason, told) in [
            (Phase::Starting, Some(Reason::BeingStarted), "it is starting (its process is being started)"),
            (Phase::Starting, Some(hooks), "it is starting (its `pre_start` hooks have not ended yet)"),
            (Phase::Waiting, Some(pulls), "it is waiting (pulling nginx:1.27)"),
            (
                Phase::BackingOff,
                Some(backs_off()),
                "it is backing off, as it backs off 4s after its 3rd exit (exit 1)",
            ),
            (Phase::Stopped, None, "it is stopped"),
        ] {
            let told = format!("`c-1` does not run: {told}");
            assert_eq!(because(phase, reason), told);
            assert_eq!(crate::face::sentence(&told), told);
        }
    }
}

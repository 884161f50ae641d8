//! `exec`: a command beside a service, spoken with from here.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot};
use upbeat_api::{ClientError, Exec, ExecEnd, Frame, Hearing, INPUT_ROOM, Saying};

use super::args::ExecArgs;
use super::change::{For, named};
use super::session::Session;
use super::terminal::{self, Printer, Raw, To};
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};

/// What would leave the terminal as the command wanted it.
const ENDS: [SignalKind; 4] =
    [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];

pub(super) async fn run(session: &Session, args: ExecArgs) -> Outcome {
    let on_terminal = is_on_terminal(&args)?;
    let (client, app, services) = named(session, For::Change, std::slice::from_ref(&args.service)).await?;
    let Some(service) = services.first() else { return Err(Failure::silent(ExitCode::Failed)) };
    let exec = Exec {
        command: args.command,
        environment: variables(args.env),
        user: args.user,
        working_dir: args.workdir,
        index: args.index,
        terminal: on_terminal.then(terminal::window),
    };
    let (saying, hearing) = client.exec(&app.name, service, &exec).await?;
    let typed = Typed::new(Some(terminal::input()));
    let end = match on_terminal {
        true => at_terminal(saying, hearing, typed).await,
        false => talk(saying, hearing, typed).await,
    };
    match end? {
        Over::Gone(error) => Err(gone(&error, service.as_str())),
        over => over.outcome(),
    }
}

/// What comes from here.
pub(super) struct Typed {
    /// What is typed or piped in; until it ends.
    input: Option<mpsc::Receiver<Bytes>>,
    /// Somebody has typed that they leave.
    left: Option<oneshot::Receiver<()>>,
    /// The sizes of the terminal.
    sizes: Option<Signal>,
}

impl Typed {
    pub(super) fn new(input: Option<mpsc::Receiver<Bytes>>) -> Self {
        Self { input, left: None, sizes: None }
    }

    /// The same, until then.
    pub(super) fn until(self, left: oneshot::Receiver<()>) -> Self {
        Self { left: Some(left), ..self }
    }
}

const SIGINT: i32 = 2;
const SIGPIPE: i32 = 13;

/// Errors: what was typed cannot be had here.
fn is_on_terminal(args: &ExecArgs) -> Result<bool, Failure> {
    if args.detach {
        let message = "a command is not left alone: it ends with whoever asked for it";
        return Err(Failure::new(ExitCode::Usage, message)
            .hint("leave out `-d`; what shall go on is a service of its own"));
    }
    if args.terminal && !terminal::is_typed() {
        return Err(Failure::new(ExitCode::Usage, "standard input is no terminal").hint("leave out `-t`"));
    }
    Ok(!args.no_terminal && (args.terminal || terminal::is_there()))
}

/// A name alone has the value it has here, if it has one.
fn variables(typed: Vec<(String, Option<String>)>) -> BTreeMap<String, String> {
    let valued = typed.into_iter().filter_map(|(name, value)| {
        let value = value.or_else(|| std::env::var(&name).ok())?;
        Some((name, value))
    });
    valued.collect()
}

/// How a talk is over.
pub(super) enum Over {
    /// As the daemon says.
    Ended(ExecEnd),
    /// The daemon is.
    Gone(ClientError),
    /// By a signal to this process.
    Killed(i32),
    /// By whoever is at the terminal.
    Left,
}

impl Over {
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Ended(end) => concluded(end),
            Self::Gone(error) => Err(Failure::new(ExitCode::Failed, "the daemon is gone").because(&error)),
            Self::Killed(SIGINT) => Ok(ExitCode::Interrupted),
            Self::Killed(signal) => Ok(ExitCode::of(&upbeat_model::Exit::Signal(signal))),
            Self::Left => Ok(ExitCode::Ok),
        }
    }
}

fn concluded(end: ExecEnd) -> Outcome {
    let code = end.code.map(ExitCode::Service);
    match (end.problem, code) {
        (Some(problem), code) => {
            Err(Failure { exit: code.unwrap_or(ExitCode::Failed), ..Failure::from(problem) })
        }
        (None, code) => Ok(code.unwrap_or(ExitCode::Failed)),
    }
}

fn gone(error: &ClientError, service: &str) -> Failure {
    Failure::new(ExitCode::Failed, format!("the command beside `{service}` is ended, as its daemon is gone"))
        .because(error)
        .hint("services go on; run it again once `upbeat ps` shows them")
}

/// With the terminal as the command wants it, and as it was afterwards.
pub(super) async fn at_terminal(saying: Saying, hearing: Hearing, typed: Typed) -> Result<Over, Failure> {
    let cannot =
        |error: std::io::Error| Failure::new(ExitCode::Failed, "the terminal cannot be used").because(&error);
    let sizes = signal(SignalKind::window_change()).map_err(cannot)?;
    let ends = ENDS.map(|kind| signal(kind).map(|signal| (kind.as_raw_value(), signal)));
    let mut ends = ends.into_iter().collect::<Result<Vec<_>, _>>().map_err(cannot)?;
    let _raw = Raw::begin().map_err(cannot)?;
    let ended = futures_util::future::select_all(ends.iter_mut().map(|(number, signal)| {
        let number = *number;
        Box::pin(async move {
            signal.recv().await;
            number
        })
    }));
    tokio::select! {
        over = talk(saying, hearing, Typed { sizes: Some(sizes), ..typed }) => over,
        (number, ..) = ended => Ok(Over::Killed(number)),
    }
}

/// Until it is over, and all is printed.
pub(super) async fn talk(saying: Saying, mut hearing: Hearing, typed: Typed) -> Result<Over, Failure> {
    let printer = Printer::begin();
    let room = Semaphore::new(INPUT_ROOM);
    let Typed { input, left, sizes } = typed;
    let left = async {
        let has_left = match left {
            Some(left) => left.await.is_ok(),
            None => false,
        };
        if !has_left {
            std::future::pending::<()>().await;
        }
    };
    let over = tokio::select! {
        over = listen(&mut hearing, &printer, &room) => over,
        () = speak(saying, &room, (input, sizes)) => None,
        () = left => Some(Over::Left),
    };
    match printer.end().await {
        // Whoever reads it has gone; that is what it ends by, as any command.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Over::Killed(SIGPIPE)),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(over.unwrap_or(Over::Killed(SIGPIPE))),
    }
}

/// Prints what it prints. `None`: nobody reads that any more.
async fn listen(hearing: &mut Hearing, printer: &Printer, room: &Semaphore) -> Option<Over> {
    loop {
        let (to, bytes) = match hearing.hear().await {
            Ok(Frame::Output(bytes)) => (To::Output, bytes),
            Ok(Frame::Errors(bytes)) => (To::Errors, bytes),
            Ok(Frame::Room(bytes)) => {
                // Never more than there was at the beginning.
                let bytes = (bytes as usize).min(INPUT_ROOM.saturating_sub(room.available_permits()));
                room.add_permits(bytes);
                continue;
            }
            Ok(Frame::End(end)) => return Some(Over::Ended(end)),
            // What a client says, a daemon does not.
            Ok(Frame::Input(_) | Frame::InputEnd | Frame::Resize(_)) => continue,
            Err(error) => return Some(Over::Gone(error)),
        };
        if !printer.print(to, bytes).await {
            return None;
        }
    }
}

/// Sends what comes in, as far as there is room. Never ends: how the daemon goes, whoever listens hears.
async fn speak(mut saying: Saying, room: &Semaphore, typed: (Option<mpsc::Receiver<Bytes>>, Option<Signal>)) {
    let (mut input, mut sizes) = typed;
    let mut held = None;
    loop {
        let frame = tokio::select! {
            () = resized(&mut sizes) => Frame::Resize(terminal::window()),
            piece = next(&mut input, &mut held, room) => match piece {
                Some(bytes) => Frame::Input(bytes),
                None => {
                    input = None;
                    Frame::InputEnd
                }
            },
        };
        if saying.say(&frame).await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// The next piece, once there is room for it: no more is sent than there is room for altogether. May be given up and
/// asked again; what waits is held then.
async fn next(
    input: &mut Option<mpsc::Receiver<Bytes>>,
    held: &mut Option<Bytes>,
    room: &Semaphore,
) -> Option<Bytes> {
    if held.is_none() {
        match input {
            Some(input) => *held = Some(input.recv().await?),
            None => std::future::pending().await,
        }
    }
    let wanted = held.as_ref().map_or(0, Bytes::len);
    if let Ok(taken) = room.acquire_many(u32::try_from(wanted).unwrap_or(u32::MAX)).await {
        taken.forget();
    }
    held.take()
}

async fn resized(sizes: &mut Option<Signal>) {
    match sizes {
        Some(sizes) => drop(sizes.recv().await),
        None => std::future::pending().await,
    }
}

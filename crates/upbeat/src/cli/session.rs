//! Everything a command needs besides its own arguments: where to print, how, and the way to the
//! daemon. The one place of the command line that touches standard streams.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use upbeat_api::{Client, ClientError, IdempotencyKey, Remote};
use upbeat_drivers::process::something_runs;
use upbeat_model::Wall;

use super::args::{Format, Global, When};
use crate::daemon::{self, Dirs};
use crate::exit::ExitCode;
use crate::face::{Face, Paint, Tone, data};
use crate::failure::Failure;

/// Whatever is asked is asked so often before it is given up: daemons that die in a row are no
/// accident.
const TRIES: u32 = 10;

/// What says who asks a daemon elsewhere. No flag does: every user of a machine can read flags.
const TOKEN_VARIABLE: &str = "UPBEAT_TOKEN";

/// Between two looks at a daemon that is starting.
const LOOK: Duration = Duration::from_millis(50);

/// One run of the command line.
pub(super) struct Session {
    pub(super) global: Global,
    around: Around,
    streams: Streams,
    dirs: Option<Dirs>,
    /// That the daemon is gone was told, and none has answered since. Whoever follows several streams
    /// loses them all with one daemon.
    gone_was_told: Cell<bool>,
}

/// What texts depend on besides their data and the command line.
#[derive(Clone)]
pub(super) struct Around {
    /// `NO_COLOR` is set, or the terminal has none.
    pub(super) colourless: bool,
    pub(super) answers_on_terminal: bool,
    pub(super) errors_on_terminal: bool,
    /// Columns of the terminal that shows the answer.
    pub(super) width: Option<usize>,
    pub(super) zone: jiff::tz::TimeZone,
    pub(super) clock: fn() -> Wall,
}

impl Around {
    fn of_process() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let (out, err) = (io::stdout(), io::stderr());
        Self {
            colourless: no_color || dumb,
            answers_on_terminal: out.is_terminal(),
            errors_on_terminal: err.is_terminal(),
            width: out.is_terminal().then(|| columns(&out)).flatten(),
            zone: jiff::tz::TimeZone::system(),
            clock: now,
        }
    }
}

/// Where the answer goes, and where everything else goes.
struct Streams {
    out: RefCell<Box<dyn Write>>,
    err: RefCell<Box<dyn Write>>,
}

impl Session {
    pub(super) fn new(global: Global) -> Self {
        let streams =
            Streams { out: RefCell::new(Box::new(io::stdout())), err: RefCell::new(Box::new(io::stderr())) };
        Self { around: Around::of_process(), streams, dirs: None, global, gone_was_told: Cell::new(false) }
    }

    /// With surroundings, streams and directories of its own.
    #[cfg(test)]
    pub(super) fn of_test(
        global: Global,
        around: Around,
        dirs: Dirs,
        out: Box<dyn Write>,
        err: Box<dyn Write>,
    ) -> Self {
        let streams = Streams { out: RefCell::new(out), err: RefCell::new(err) };
        Self { global, around, streams, dirs: Some(dirs), gone_was_told: Cell::new(false) }
    }

    /// How the answer looks, at this moment.
    pub(super) fn face(&self) -> Face {
        self.face_on(self.around.answers_on_terminal, self.around.width)
    }

    /// Lines of the terminal that shows the answer, at this moment.
    pub(super) fn rows(&self) -> Option<usize> {
        let size =
            rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|_| self.around.answers_on_terminal);
        size.map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0)
    }

    /// How notes and errors look.
    pub(super) fn face_of_errors(&self) -> Face {
        self.face_on(self.around.errors_on_terminal, None)
    }

    fn face_on(&self, is_terminal: bool, width: Option<usize>) -> Face {
        let paint = match self.global.color {
            When::Always => Paint::Coloured,
            When::Auto if is_terminal && !self.around.colourless => Paint::Coloured,
            When::Auto | When::Never => Paint::Plain,
        };
        Face { paint, is_terminal, width, now: (self.around.clock)(), zone: self.around.zone.clone() }
    }

    pub(super) fn is_json(&self) -> bool {
        self.global.output == Format::Json
    }

    /// Writes part of the answer, at once: who follows sees each line as it comes.
    pub(super) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = self.streams.out.borrow_mut();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// The answer for programs, readable for people too.
    pub(super) fn print_json(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.print(&format!("{}\n", json(serde_json::to_string_pretty(value))?))
    }

    /// One of many answers for programs: one line each.
    pub(super) fn print_json_line(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.print(&format!("{}\n", json(serde_json::to_string(value))?))
    }

    /// Something the person should know, whatever becomes of the answer.
    pub(super) fn warn(&self, text: &str) {
        if !self.global.quiet {
            self.complain(&format!("{} {text}\n", self.face_of_errors().paint.tone(Tone::Caution, "note:")));
        }
    }

    /// Progress: only for somebody who is looking.
    pub(super) fn progress(&self, text: &str) {
        if !self.global.quiet && self.around.errors_on_terminal {
            self.note(text);
        }
    }

    /// A quiet word between log lines.
    pub(super) fn note(&self, text: &str) {
        if !self.global.quiet {
            self.complain(&format!("{} {text}\n", self.face_of_errors().paint.tone(Tone::Quiet, "upbeat:")));
        }
    }

    /// Writes to standard error. Where nobody can be told, the exit code has to say it all.
    pub(super) fn complain(&self, text: &str) {
        let _ = self.streams.err.borrow_mut().write_all(text.as_bytes());
    }

    pub(super) fn dirs(&self) -> Result<Dirs, Failure> {
        if let Some(dirs) = &self.dirs {
            return Ok(dirs.clone());
        }
        Ok(Dirs::of_process()?)
    }

    /// The daemon that is asked is not the one of this machine: it is not started from here.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.global.host.is_some()
    }

    /// The daemon, if it runs: the first request will tell.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let Some(url) = self.global.host.clone() else {
            if self.global.ca.is_some() {
                let message = "a certificate is of use only for a daemon elsewhere";
                return Err(
                    Failure::new(ExitCode::Usage, message).hint("name it with `--host https://HOST:PORT`")
                );
            }
            return Ok(Client::new(self.dirs()?.socket()));
        };
        let token = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
        Ok(Client::remote(&Remote { url, token, ca: self.global.ca.clone() })?)
    }

    /// The daemon, to ask it something. One that died while what it ran goes on is started again: it
    /// finds all that, and changes nothing. One that has nothing running is not started for a
    /// question, as it would start what shall run.
    pub(super) async fn to_ask(&self) -> Result<Client, Failure> {
        let client = self.client()?;
        if self.is_elsewhere() {
            return Ok(client);
        }
        let dirs = self.dirs()?;
        if daemon::is_gone(&client).await {
            if self.is_about_to_answer(&client).await? {
                return Ok(client);
            }
            if something_runs(&dirs.slots()) {
                self.tell_gone("it is started again");
                return self.ensured().await;
            }
            if dirs.are_in_use() {
                self.note("the daemon does not run, and nothing of it; `upbeat serve` starts what shall run");
            }
        }
        Ok(client)
    }

    /// Whether a daemon that is starting answers now: it is waited for. That it does not answer yet is no answer.
    async fn is_about_to_answer(&self, client: &Client) -> Result<bool, Failure> {
        let dirs = self.dirs()?;
        let until = Instant::now() + daemon::READY_PATIENCE;
        let mut has_waited = false;
        while daemon::is_starting(&dirs) {
            if !std::mem::replace(&mut has_waited, true) {
                self.note("the daemon is starting; waiting for it");
            }
            if Instant::now() >= until {
                return Err(daemon::EnsureError::Starting { log: dirs.log() }.into());
            }
            if !daemon::is_gone(client).await {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
        // It may have become ready since it was looked.
        Ok(!daemon::is_gone(client).await)
    }

    /// The daemon, to change something it may know of. It is started if it ever ran.
    pub(super) async fn to_change(&self) -> Result<Client, Failure> {
        match self.is_elsewhere() || self.dirs()?.are_in_use() {
            true => self.ensured().await,
            false => self.client(),
        }
    }

    /// Whether a daemon of this machine has kept something here, be it that none runs now.
    pub(super) fn was_used(&self) -> Result<bool, Failure> {
        Ok(self.dirs()?.are_in_use())
    }

    /// Asks a question, and the next daemon once more where this one went away with it. That none
    /// is there and nothing runs is an answer.
    pub(super) async fn ask<T, F>(&self, ask: impl Fn() -> F) -> Result<Result<T, ClientError>, Failure>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let nothing_runs = || Ok::<_, Failure>(!something_runs(&self.dirs()?.slots()));
        for _ in 0..TRIES {
            match ask().await {
                Err(error @ ClientError::NotRunning { .. }) if nothing_runs()? => {
                    if self.is_elsewhere() || !self.is_about_to_answer(&self.client()?).await? {
                        return Ok(Err(error));
                    }
                    continue;
                }
                Err(error) if is_lost(&error) => {}
                answer => return Ok(answer),
            }
            self.successor().await?;
        }
        Ok(ask().await)
    }

    /// Asks for a change. It is made once, however many daemons have to be asked for it.
    pub(super) async fn change<T>(
        &self,
        ask: impl AsyncFn(&IdempotencyKey) -> Result<T, ClientError>,
    ) -> Result<Result<T, ClientError>, Failure> {
        let key = fresh_key()?;
        let is_sent = Cell::new(false);
        let asked = || async {
            let answer = ask(&key).await;
            is_sent.set(is_sent.get() || answer.as_ref().is_err_and(may_have_arrived));
            answer
        };
        match self.insist(asked).await {
            Err(failure) if is_sent.get() => Err(failure.of_unanswered_change()),
            Ok(Err(error)) if is_sent.get() && !matches!(error, ClientError::Problem(_)) => {
                Err(Failure::from(error).of_unanswered_change())
            }
            answer => answer,
        }
    }

    /// Asks after a change, and the next daemon once more where this one went away with it.
    pub(super) async fn insist<T, F>(&self, ask: impl Fn() -> F) -> Result<Result<T, ClientError>, Failure>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        for _ in 0..TRIES {
            match ask().await {
                Err(error @ ClientError::NotRunning { .. }) if !self.dirs()?.are_in_use() => {
                    return Ok(Err(error));
                }
                Err(error) if is_lost(&error) => {}
                answer => return Ok(answer),
            }
            self.successor().await?;
        }
        Ok(ask().await)
    }

    /// Another daemon, after one went away with a request.
    async fn successor(&self) -> Result<(), Failure> {
        if self.is_elsewhere() {
            // It is asked again as it is, and if it does not answer, that is told.
            return Ok(());
        }
        if daemon::is_gone(&self.client()?).await {
            self.tell_gone("it is started again");
        }
        self.ensured().await.map(drop)
    }

    /// The daemon, started if it does not run and is one of this machine.
    pub(super) async fn ensured(&self) -> Result<Client, Failure> {
        if self.is_elsewhere() {
            return self.client();
        }
        let client = daemon::ensure(&self.dirs()?).await?;
        self.is_back();
        Ok(client)
    }

    /// Says that the daemon is gone and what is done about it; once for each that goes.
    pub(super) fn tell_gone(&self, then: &str) {
        if !self.gone_was_told.replace(true) {
            self.note(&format!("the daemon is gone; what it runs goes on; {then}"));
        }
    }

    /// A daemon answers. That it is gone is news from here on.
    pub(super) fn is_back(&self) {
        self.gone_was_told.set(false);
    }
}

fn fresh_key() -> Result<IdempotencyKey, Failure> {
    let failed = |why: &dyn std::error::Error| {
        Failure::new(ExitCode::Failed, "no key for the change can be made").because(why)
    };
    let bits = getrandom::u64().map_err(|error| failed(&error))?;
    IdempotencyKey::new(format!("{bits:016x}")).map_err(|error| failed(&error))
}

fn json(text: serde_json::Result<String>) -> Result<String, Failure> {
    text.map(data::json)
        .map_err(|e| Failure::new(ExitCode::Failed, "the answer cannot be written as JSON").because(&e))
}

impl From<daemon::NoHome> for Failure {
    fn from(error: daemon::NoHome) -> Self {
        Self::new(ExitCode::Failed, error.to_string()).hint("set `HOME`, or `UPBEAT_STATE_DIR`")
    }
}

impl From<daemon::EnsureError> for Failure {
    fn from(error: daemon::EnsureError) -> Self {
        let failure = Self::new(ExitCode::Failed, "there is no daemon to talk to").because(&error);
        match error {
            daemon::EnsureError::Client(error) => error.into(),
            daemon::EnsureError::Starting { ref log } => Self::new(ExitCode::Starting, error.to_string())
                .hint("ask again later")
                .hint(format!("its log is `{}`", log.display())),
            daemon::EnsureError::Ended { last, .. } => Self { last_lines: last, ..failure },
            daemon::EnsureError::Executable(_) | daemon::EnsureError::Create(_) => failure,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let hint = error.hint().map(str::to_owned);
        let mut failure = match error {
            ClientError::Problem(problem) => return problem.into(),
            ClientError::NotRunning { .. } => Failure::new(ExitCode::NotFound, error.to_string()),
            ClientError::BadAddress { .. } => Failure::new(ExitCode::Usage, error.to_string()),
            _ => {
                let exit = match &error {
                    // Nobody listens there: no daemon runs.
                    ClientError::Connect { source, .. }
                        if source.kind() == io::ErrorKind::ConnectionRefused =>
                    {
                        ExitCode::NotFound
                    }
                    ClientError::PermissionDenied { .. } => ExitCode::Denied,
                    _ => ExitCode::Failed,
                };
                let failure = Failure::new(exit, error.to_string());
                match std::error::Error::source(&error) {
                    Some(source) => failure.because(source),
                    None => failure,
                }
            }
        };
        failure.hints.extend(hint);
        failure
    }
}

/// The daemon went away; the next one can be asked.
fn is_lost(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::NotRunning { .. } | ClientError::Interrupted { .. } | ClientError::ShuttingDown { .. }
    )
}

/// The daemon may have had the request when this became of it.
fn may_have_arrived(error: &ClientError) -> bool {
    !matches!(
        error,
        ClientError::NotRunning { .. }
            | ClientError::PermissionDenied { .. }
            | ClientError::Connect { .. }
            | ClientError::BadAddress { .. }
            | ClientError::Problem(_)
    )
}

/// Whether this answer to [`Session::ask`] or [`Session::insist`] means that there is no such app,
/// because there is no daemon at all or because it does not know it.
pub(super) fn is_absent(error: &ClientError) -> bool {
    match error {
        ClientError::NotRunning { .. } => true,
        ClientError::Problem(problem) => problem.kind == upbeat_api::ProblemKind::NotFound,
        _ => false,
    }
}

fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn columns(out: &io::Stdout) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(out).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// What `--color` says, for the help and the errors of the command line itself, which come before
/// it is read. `None`: nothing, or `auto`.
pub(super) fn wanted_colour(args: &[OsString]) -> Option<Paint> {
    let mut args = args.iter().skip(1).take_while(|arg| *arg != "--").map(|arg| arg.to_string_lossy());
    let mut wanted = None;
    while let Some(arg) = args.next() {
        let value = match arg.strip_prefix("--color") {
            Some("") => args.next().unwrap_or_default().into_owned(),
            Some(value) => value.trim_start_matches('=').to_owned(),
            None => continue,
        };
        wanted = match value.as_str() {
            "always" => Some(Paint::Coloured),
            "never" => Some(Paint::Plain),
            _ => None,
        };
    }
    wanted
}

/// The directory commands are typed in.
pub(super) fn current_dir() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        Failure::new(ExitCode::Failed, "the current directory cannot be read").because(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use upbeat_api::{Problem, ProblemKind};

    #[test]
    fn help_is_coloured_as_asked_wherever_the_option_stands() {
        let wanted = |args: &[&str]| {
            let args: Vec<OsString> = ["upbeat"].iter().chain(args).map(OsString::from).collect();
            wanted_colour(&args)
        };
        assert_eq!(wanted(&["--color", "never", "ps"]), Some(Paint::Plain));
        assert_eq!(wanted(&["ps", "--color=always"]), Some(Paint::Coloured));
        assert_eq!(wanted(&["ps", "--", "--color=always"]), None);
        assert_eq!(wanted(&["ps", "--color"]), None);
    }

    #[test]
    fn no_daemon_and_no_such_app_are_told_from_real_trouble() {
        let socket = PathBuf::from("/run/upbeat.sock");
        let absent = ClientError::NotRunning { socket: socket.clone() };
        assert!(is_absent(&absent));
        assert_eq!(Failure::from(absent).exit, ExitCode::NotFound);
        assert!(is_absent(&ClientError::Problem(Problem::new(ProblemKind::NotFound, "no app `shop`"))));
        let denied = ClientError::PermissionDenied { socket };
        assert!(!is_absent(&denied));
        assert_eq!(Failure::from(denied).exit, ExitCode::Denied);
    }
}

//! Where a command runs: a directory with a project, and what is around a person who types.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use clap::Parser;

use super::super::args::Cli;
use super::super::session::{Around, Session};
use super::script::Script;
use crate::daemon::Dirs;
use crate::exit::ExitCode;
use crate::face::error;
use crate::face::examples::NOW;

/// What a command wrote.
#[derive(Clone, Default)]
pub(super) struct Pipe(Rc<RefCell<Vec<u8>>>);

impl Pipe {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const FILE: &str =
    "name: shop\nservices:\n  db: { command: [x] }\n  web: { command: [x], depends_on: [db] }\n";

/// Nobody takes what is written, for this reason.
pub(super) struct Gone(pub(super) io::ErrorKind);

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct Room {
    pub(super) dir: tempfile::TempDir,
    pub(super) dirs: Dirs,
    around: Around,
    /// What the last command wrote to standard error so far.
    pub(super) errors: Pipe,
}

impl Room {
    /// Everything is piped.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("upbeat.yaml"), FILE).unwrap();
        let dirs = Dirs { state: dir.path().join("state"), runtime: dir.path().join("run") };
        dirs.create().unwrap();
        let around = Around {
            colourless: false,
            answers_on_terminal: false,
            errors_on_terminal: false,
            width: None,
            zone: jiff::tz::TimeZone::UTC,
            clock: || NOW,
        };
        Self { dir, dirs, around, errors: Pipe::default() }
    }

    /// A person looks at both streams.
    pub(super) fn on_terminal() -> Self {
        let mut room = Self::new();
        room.around = Around { answers_on_terminal: true, errors_on_terminal: true, ..room.around };
        room
    }

    /// `NO_COLOR` is set.
    pub(super) fn without_colours(mut self) -> Self {
        self.around.colourless = true;
        self
    }

    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    pub(super) async fn command(&self, out: Box<dyn Write>, args: &[&str]) -> (ExitCode, String) {
        let file = self.dir.path().join("upbeat.yaml");
        self.typed(out, &[&["--file", file.to_str().unwrap()], args].concat()).await
    }

    async fn typed(&self, out: Box<dyn Write>, args: &[&str]) -> (ExitCode, String) {
        let cli = Cli::try_parse_from([&["upbeat"], args].concat()).unwrap();
        let err = self.errors.clone();
        err.0.borrow_mut().clear();
        let (around, dirs) = (self.around.clone(), self.dirs.clone());
        let session = Session::of_test(cli.global, around, dirs, out, Box::new(err.clone()));
        let code = match super::super::run(&session, cli.command).await {
            Ok(code) => code,
            Err(failure) => {
                session.complain(&error::text(&failure, session.face_of_errors().paint));
                failure.exit
            }
        };
        (code, err.text())
    }

    /// Exit code, standard output and standard error, as one text.
    pub(super) async fn run(&self, args: &[&str]) -> String {
        let out = Pipe::default();
        let (code, err) = self.command(Box::new(out.clone()), args).await;
        self.told(&out, code, &err)
    }

    /// Without `--file`, but looked for from the room's directory on.
    pub(super) async fn search(&self, args: &[&str]) -> String {
        let out = Pipe::default();
        let here = self.dir.path().to_str().unwrap();
        let args = [args, &["--project-directory", here]].concat();
        let (code, err) = self.typed(Box::new(out.clone()), &args).await;
        self.told(&out, code, &err)
    }

    fn told(&self, out: &Pipe, code: ExitCode, err: &str) -> String {
        let here = self.dir.path().to_str().unwrap();
        format!("{}--- {code:?}\n{err}", out.text()).replace(here, "/room")
    }

    /// With a daemon that tells this.
    pub(super) async fn with(&self, script: Script, args: &[&str]) -> String {
        let listener = upbeat_server::bind(&self.dirs.socket()).unwrap();
        self.beside(upbeat_server::serve(listener, script, std::future::pending()), args).await
    }

    /// While something else goes on.
    pub(super) async fn beside(&self, other: impl Future<Output = ()>, args: &[&str]) -> String {
        tokio::select! {
            // It is there first.
            biased;
            () = other => panic!("what goes on beside has ended"),
            ran = self.run(args) => ran,
        }
    }
}

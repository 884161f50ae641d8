//! A command that somebody speaks with while it runs, of whichever kind: what goes in, what comes out, how it ends.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use upbeat_model::Exit;

/// Read at once.
pub(crate) const PIECE: usize = 16 << 10;

/// A command that runs. Dropping its end kills all of its tree.
pub struct Session {
    /// Its standard input; ends when it is shut down or dropped, unless it is a terminal.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it prints, as fast as that is taken.
    pub output: Pin<Box<dyn Stream<Item = io::Result<Piece>> + Send>>,
    /// The size of its terminal, if it has one.
    pub window: Option<watch::Sender<Window>>,
    /// Until it has ended, and nothing of it is left.
    pub end: Pin<Box<dyn Future<Output = Ended> + Send>>,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Letters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// Something that was printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// To standard output, or a terminal.
    Output(Bytes),
    /// To standard error.
    Errors(Bytes),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, or by a signal.
    Exit(Exit),
    /// There is no such program: why.
    NotFound(String),
    /// It cannot be run: why.
    NotRun(String),
    /// Nobody knows how it would have ended: why.
    Unable(String),
}

//! The streams of this process while a command elsewhere has them: what is typed or piped in, what is printed, and the
//! terminal as that command wants it.
//!
//! Threads read and write, as either may block for as long as somebody likes: a person, or the other end of a pipe. They
//! hold a piece each, and end with this process.

use std::io::{self, IsTerminal};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::{mpsc, oneshot};
use upbeat_api::Window;

/// Read at once.
const PIECE: usize = 16 << 10;

/// Pieces that wait to be written: one while another is being written.
const PIECES: usize = 1;

/// What a terminal is taken for that does not say how large it is.
const USUAL: Window = Window { columns: 80, rows: 24 };

/// The terminal gives each letter as it is typed, and shows none by itself. Dropped, it is as it was.
pub(super) struct Raw(Termios);

impl Raw {
    pub(super) fn begin() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone has nothing to be put right.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Both what is typed and what is shown are of a terminal.
pub(super) fn is_there() -> bool {
    is_typed() && io::stdout().is_terminal()
}

/// What is printed is shown at one.
pub(super) fn is_shown() -> bool {
    io::stdout().is_terminal()
}

/// What comes in is typed.
pub(super) fn is_typed() -> bool {
    io::stdin().is_terminal()
}

/// How large it is now.
pub(super) fn window() -> Window {
    let size = tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stdin())).ok();
    let size = size.map(|size| Window { columns: size.ws_col, rows: size.ws_row });
    size.filter(|size| size.columns > 0 && size.rows > 0).unwrap_or(USUAL)
}

/// What comes in on standard input, as it comes; ends with it.
pub(super) fn input() -> mpsc::Receiver<Bytes> {
    let (give, pieces) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        loop {
            match rustix::io::read(stdin(), &mut piece) {
                Ok(0) => return,
                Ok(read) if give.blocking_send(Bytes::copy_from_slice(&piece[..read])).is_err() => return,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if wait(stdin(), PollFlags::IN) => {}
                // A terminal that was closed, or is another's now: nothing more comes.
                Err(_) => return,
            }
        }
    });
    pieces
}

/// Where something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Output,
    Errors,
}

/// What is printed.
pub(super) struct Printer {
    pieces: mpsc::Sender<(To, Bytes)>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Printer {
    pub(super) fn begin() -> Self {
        let (pieces, mut to_print) = mpsc::channel::<(To, Bytes)>(PIECES);
        let (end, done) = oneshot::channel();
        std::thread::spawn(move || {
            let mut print = || {
                while let Some((to, bytes)) = to_print.blocking_recv() {
                    write_all(to, &bytes)?;
                }
                Ok(())
            };
            // Where nobody waits for it, nobody minds.
            let _ = end.send(print());
        });
        Self { pieces, done }
    }

    /// Waits until there is room. `false`: it can print no more, and [`Self::end`] says why.
    pub(super) async fn print(&self, to: To, bytes: Bytes) -> bool {
        self.pieces.send((to, bytes)).await.is_ok()
    }

    /// When all is printed. Errors: it is not.
    pub(super) async fn end(self) -> io::Result<()> {
        drop(self.pieces);
        self.done.await.unwrap_or(Ok(()))
    }
}

fn write_all(to: To, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let fd = if to == To::Output { stdout() } else { stderr() };
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // Somebody else who has it has made it one that does not wait.
            Err(Errno::AGAIN) if wait(fd, PollFlags::OUT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Until it is ready. `false`: that cannot be waited for.
fn wait(fd: std::os::fd::BorrowedFd<'_>, what: PollFlags) -> bool {
    matches!(poll(&mut [PollFd::from_borrowed_fd(fd, what)], None), Ok(_) | Err(Errno::INTR))
}

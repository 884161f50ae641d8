//! Commands beside a process that somebody speaks with: by pipes, or at a terminal.
//!
//! They run below a shim, as health checks do, so that nothing of them outlives whoever asks, nor the daemon.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use rustix::pipe::PipeFlags;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;
use upbeat_model::Millis;
use upbeat_shim::wire::{End, FromShim, Stage};

use super::exec::ExecRequest;
use super::launch::Asked;
use super::out::Out;
use super::{ProcessDriver, error};
use crate::readiness;
use crate::session::{Ended, PIECE, Piece, Session, Window};

/// A person may sit before a command for as long as they like, and it ends with whoever asked for it. What a shim is
/// told all the same is beyond the life of a machine.
const TIME: Millis = Millis(100 * 365 * 24 * 3_600 * 1_000);

/// What kind of terminal it is, where the variables do not say.
const TERMINAL: (&str, &str) = ("TERM", "xterm");

/// Our ends of what it reads from and prints into.
struct Ends {
    input: Box<dyn AsyncWrite + Send + Unpin>,
    output: Pin<Box<dyn futures_util::Stream<Item = io::Result<Piece>> + Send>>,
    window: Option<watch::Sender<Window>>,
    /// Follows the size of the terminal. Never ends.
    follows: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl ProcessDriver {
    /// Runs a command that is spoken with, at a terminal of this size or by pipes. All else is as by [`Self::exec`], but
    /// that it has as long as it likes.
    ///
    /// Errors: it was not begun, in words; a program that is not there is told as its end.
    pub async fn converse(&self, request: ExecRequest, at: Option<Window>) -> Result<Session, String> {
        self.clear_execs_once().await;
        let mut request = request;
        if at.is_some() {
            let (name, kind) = TERMINAL;
            request.environment.entry(name.to_owned()).or_insert_with(|| kind.to_owned());
        }
        let (ends, theirs) = match at {
            Some(window) => terminal(window),
            None => pipes(),
        }
        .map_err(|error| format!("there is nothing to speak with it by: {error}"))?;
        let driver = self.clone();
        let private = request.beside.as_ref().map(|slot| self.private_dir(slot)).filter(|dir| dir.exists());
        let out = driver.begin(&asked(&request, private.as_deref()), theirs, TIME).await?;
        let Ends { input, output, window, follows } = ends;
        let end = async move {
            tokio::select! {
                ended = ended(out) => ended.words(&asked(&request, private.as_deref())),
                () = follows => Ended::Unable("its terminal is gone".to_owned()),
            }
        };
        Ok(Session { input, output, window, end: Box::pin(end) })
    }
}

fn asked<'a>(request: &'a ExecRequest, private: Option<&'a std::path::Path>) -> Asked<'a> {
    let ExecRequest { command, environment, working_dir, user, rights, .. } = request;
    Asked { command, environment, working_dir, user: user.as_deref(), rights, private }
}

/// As its shim says it; or it does not.
enum Said {
    End(End),
    Killed(&'static str),
    Unable(String),
}

async fn ended(mut out: Out) -> Said {
    match out.heard().await {
        Some(FromShim::Done { end, .. }) => {
            out.ended();
            end.map_or(Said::Killed("it was ended from outside"), Said::End)
        }
        Some(FromShim::Unable { why }) => {
            out.ended();
            Said::Unable(why)
        }
        _ => {
            // What there is of it is cleared, and looked for by the next daemon if that does not succeed.
            let _ = out.kill().await;
            Said::Killed("its shim was killed")
        }
    }
}

impl Said {
    fn words(self, asked: &Asked<'_>) -> Ended {
        match self {
            Self::End(End::NotExecuted(stage, errno)) if stage.is_want(errno) => {
                Ended::Unable(error::words(stage, errno))
            }
            Self::End(End::NotExecuted(stage, errno)) => {
                let why = error::not_executed(stage, errno, asked).to_string();
                let is_absent = stage == Stage::Execute && errno == rustix::io::Errno::NOENT.raw_os_error();
                if is_absent { Ended::NotFound(why) } else { Ended::NotRun(why) }
            }
            Self::End(end) => Ended::Exit(super::exit(end)),
            Self::Killed(why) => Ended::Unable(why.to_owned()),
            Self::Unable(why) => Ended::Unable(why),
        }
    }
}

fn pipes() -> io::Result<(Ends, [OwnedFd; 3])> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
    let ((input, asks), (answers, output), (complains, errors)) = (pipe()?, pipe()?, pipe()?);
    let of = |pipe, made| io::Result::Ok(pieces(Receiver::from_owned_fd(pipe)?, made));
    let printed = stream::select(of(answers, Piece::Output)?, of(complains, Piece::Errors)?);
    let ends = Ends {
        input: Box::new(Sender::from_owned_fd(asks)?),
        output: Box::pin(printed),
        window: None,
        follows: Box::pin(std::future::pending()),
    };
    Ok((ends, [input, output, errors]))
}

fn terminal(size: Window) -> io::Result<(Ends, [OwnedFd; 3])> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    // By the master and not by its name, which in another mount of `devpts` is somebody else's.
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    resize(master.as_fd(), size)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    let again = || rustix::io::fcntl_dupfd_cloexec(&slave, 0);
    let theirs = [again()?, again()?, slave];
    let master = Arc::new(readiness::register(master, Interest::READABLE | Interest::WRITABLE)?);
    let (window, mut sizes) = watch::channel(size);
    let of_sizes = master.clone();
    let follows = async move {
        while sizes.changed().await.is_ok() {
            let size = *sizes.borrow_and_update();
            // A terminal that nobody has any more has no size.
            let _ = resize(of_sizes.get_ref().as_fd(), size);
        }
        std::future::pending().await
    };
    let ends = Ends {
        input: Box::new(Master(master.clone())),
        output: Box::pin(pieces(Master(master), Piece::Output)),
        window: Some(window),
        follows: Box::pin(follows),
    };
    Ok((ends, theirs))
}

fn resize(master: std::os::fd::BorrowedFd<'_>, Window { columns, rows }: Window) -> rustix::io::Result<()> {
    tcsetwinsize(master, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 })
}

/// What comes out of it, until nobody can print into it any more.
fn pieces<R>(from: R, made: fn(Bytes) -> Piece) -> stream::BoxStream<'static, io::Result<Piece>>
where
    R: AsyncRead + Send + Unpin + 'static,
{
    stream::unfold(Some(from), move |from| async move {
        let mut from = from?;
        let mut piece = BytesMut::with_capacity(PIECE);
        match from.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(made(piece.freeze())), Some(from))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// Our end of a terminal. One reads from it, one writes to it.
struct Master(Arc<AsyncFd<OwnedFd>>);

impl AsyncRead for Master {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let room = to.initialize_unfilled();
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), room)?)) {
                Ok(Ok(read)) => {
                    to.advance(read);
                    return Poll::Ready(Ok(()));
                }
                // Nobody has the terminal open any more.
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Master {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A terminal has no end of input but the letter for it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

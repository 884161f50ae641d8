//! A connection that is counted, and may be over TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::tls::Trust;
use super::words::{self, No};

/// What is read for one question of a probe at most, with all that protects it on the way. A chain of
/// certificates takes some kilobytes; a body that is looked at comes in up to eight times its size.
pub(crate) const READ_MAX: usize = 1024 * 1024;

/// Counts what is read. Whoever is asked can send for ever what no answer needs: tickets, pings,
/// settings.
pub(crate) struct Metered<S> {
    stream: S,
    most: usize,
    left: usize,
}

impl<S> Metered<S> {
    /// So many bytes at most for one question.
    pub(crate) fn new(stream: S, most: usize) -> Self {
        Self { stream, most, left: most }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("it sends more than an answer")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A connection to whoever is asked.
pub(crate) enum Stream {
    Plain(Metered<TcpStream>),
    /// Boxed: it has a kilobyte of its own.
    Tls(Box<TlsStream<Metered<TcpStream>>>),
}

impl Stream {
    /// Over this connection, of which at most so many bytes are read; over TLS, where it is said who is
    /// believed, and under which name.
    ///
    /// Errors, in words: there is no TLS with the other end.
    pub(crate) async fn over(
        socket: TcpStream,
        most: usize,
        tls: Option<(&Trust, Arc<ClientConfig>, &str)>,
    ) -> Result<Self, No> {
        // A request is one segment, and nothing is to be waited for.
        socket.set_nodelay(true).map_err(|error| words::error(&error))?;
        let socket = Metered::new(socket, most);
        Ok(match tls {
            None => Self::Plain(socket),
            Some((trust, config, name)) => Self::Tls(Box::new(trust.connect(config, name, socket).await?)),
        })
    }

    /// Ready for the next question. `false`: the other end has hung up, or says what nobody asked.
    pub(crate) fn renew(&mut self) -> bool {
        match self {
            Self::Plain(stream) => stream.left = stream.most,
            Self::Tls(stream) => {
                let stream = stream.get_mut().0;
                stream.left = stream.most;
            }
        }
        let mut one = [0];
        let read =
            Pin::new(self).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut one));
        read.is_pending()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

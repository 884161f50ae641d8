//! A command that runs beside a service, at the client's end.

use std::sync::Arc;

use bytes::BytesMut;
use hyper::header::{CONNECTION, HeaderName, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use upbeat_model::{AppName, ServiceName};

use crate::client::{Answer, Asking, Client};
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::exec::{Attach, EXEC_PROTOCOL, Exec, Frame, Frames};

/// Read at once: what a pipe holds.
const READ: usize = 64 << 10;

/// What is sent to a command. Dropped together with [`Hearing`], it ends the command.
pub struct Saying {
    client: Arc<Client>,
    to: WriteHalf<TokioIo<Upgraded>>,
    written: BytesMut,
}

/// What comes of a command.
pub struct Hearing {
    client: Arc<Client>,
    from: ReadHalf<TokioIo<Upgraded>>,
    frames: Frames,
    read: BytesMut,
}

impl Client {
    /// Runs a command beside a copy of a service. When this is answered it runs, and ends when both halves are dropped
    /// or with the last frame, whichever comes first. It is asked for once: nobody knows how far one came to which no
    /// answer arrived.
    pub async fn exec(&self, app: &AppName, service: &ServiceName, exec: &Exec) -> Answer<(Saying, Hearing)> {
        self.begin(
            self.with_body(self.request(Endpoint::Exec, &[app.as_str(), service.as_str()], &[]), exec)?,
        )
        .await
    }

    /// Is given the streams of a copy of a service that runs, until it ends or both halves are dropped.
    pub async fn attach(
        &self,
        app: &AppName,
        service: &ServiceName,
        attach: &Attach,
    ) -> Answer<(Saying, Hearing)> {
        let path = [app.as_str(), service.as_str()];
        self.begin(self.with_body(self.request(Endpoint::Attach, &path, &[]), attach)?).await
    }

    async fn begin(&self, request: Asking) -> Answer<(Saying, Hearing)> {
        let headers: [(HeaderName, &str); 2] = [(CONNECTION, "upgrade"), (UPGRADE, EXEC_PROTOCOL)];
        let response = self.in_time(self.send(request.with_headers(&headers))).await?;
        self.check_protocol(&response)?;
        let stream = hyper::upgrade::on(response).await.map_err(|error| self.interrupted(Some(error)))?;
        let (from, to) = split(TokioIo::new(stream));
        let client = Arc::new(self.clone());
        let saying = Saying { client: client.clone(), to, written: BytesMut::new() };
        Ok((saying, Hearing { client, from, frames: Frames::default(), read: BytesMut::new() }))
    }

    fn check_protocol(&self, response: &Response<Incoming>) -> Answer<()> {
        let told = response.headers().get(UPGRADE).map(|told| told.as_bytes());
        match response.status() == StatusCode::SWITCHING_PROTOCOLS && told == Some(EXEC_PROTOCOL.as_bytes()) {
            true => Ok(()),
            false => {
                Err(self.protocol(format!("status {} in place of `{EXEC_PROTOCOL}`", response.status())))
            }
        }
    }
}

impl Saying {
    /// Sends it. Waits as long as the daemon does not take it. Errors: the daemon is gone.
    pub async fn say(&mut self, frame: &Frame) -> Result<(), ClientError> {
        self.written.clear();
        frame.write(&mut self.written);
        let gone = |_| self.client.interrupted(None);
        self.to.write_all(&self.written).await.map_err(gone)?;
        self.to.flush().await.map_err(gone)
    }
}

impl Hearing {
    /// The next frame; safe to be given up and asked again. Errors: the daemon is gone, or makes no sense.
    pub async fn hear(&mut self) -> Result<Frame, ClientError> {
        loop {
            if let Some(frame) =
                self.frames.next_frame().map_err(|no| self.client.protocol(no.to_string()))?
            {
                return Ok(frame);
            }
            self.read.clear();
            self.read.reserve(READ);
            match self.from.read_buf(&mut self.read).await {
                Ok(read @ 1..) => self.frames.take(&self.read[..read]),
                // It says that it ends before it does.
                Ok(0) | Err(_) => return Err(self.client.interrupted(None)),
            }
        }
    }
}

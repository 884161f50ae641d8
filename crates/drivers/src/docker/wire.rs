//! Talks to an engine: one connection a question, all answers bounded in time and size.
//!
//! An engine may be slow, full, or not an engine at all. So nothing it sends is kept that is larger than
//! a bound, nothing is waited for without end, and of its answers only the fields that are used are read:
//! what else is in them may be as it likes.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::error::EngineError;

/// The socket where nobody says another.
pub(super) const USUAL_SOCKET: &str = "/var/run/docker.sock";

/// An engine on this machine accepts at once; one beyond a network within some round trips.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// What is no work for an engine, but may wait behind the work of others.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Of an answer. A list of ten thousand containers is some 20 MB.
const ANSWER_MAX: usize = 64 << 20;

/// Of the text of an error: what is longer is cut.
const ERROR_MAX: usize = 16 << 10;

/// Of the head of an answer.
const HEAD_MAX: usize = 64 << 10;

/// Of one event, or one message about a pull.
const LINE_MAX: usize = 1 << 20;

/// The versions of the engine's API that are spoken: engines 20.10 to those of today.
const OLDEST: Version = Version { major: 1, minor: 41 };
const NEWEST: Version = Version { major: 1, minor: 51 };

/// A version of the engine's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Of `1.41` the 1.
    pub major: u32,
    /// Of `1.41` the 41.
    pub minor: u32,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Where an engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Unix(PathBuf),
    Tcp(String),
}

impl Host {
    fn parse(text: Option<&str>) -> Result<Self, EngineError> {
        let text = text.map(str::trim).filter(|text| !text.is_empty());
        let Some(text) = text else { return Ok(Self::Unix(USUAL_SOCKET.into())) };
        let refused = |why| EngineError::Host { host: text.to_owned(), why };
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => {
                Err(refused("the path of its socket must be absolute, as in `unix:///run/docker.sock`"))
            }
            Some(("tcp" | "http", address)) => {
                let address = address.trim_end_matches('/');
                let has_port = address.rsplit_once(':').is_some_and(|(host, port)| {
                    !host.is_empty()
                        && port.parse::<u16>().is_ok()
                        && (!host.contains(':') || host.ends_with(']'))
                });
                match has_port {
                    true => Ok(Self::Tcp(address.to_owned())),
                    false => {
                        Err(refused("its address must be a host and a port, as in `tcp://10.0.0.5:2375`"))
                    }
                }
            }
            Some(("ssh" | "npipe" | "https" | "fd", _)) => Err(refused(
                "only `unix://` and `tcp://` are spoken; forward its socket to this machine and name that",
            )),
            _ => Err(refused("it must begin with `unix://` or `tcp://`")),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// A way to an engine.
pub(super) struct Wire {
    host: Result<Host, EngineError>,
    version: Mutex<Option<Version>>,
}

/// What a question is sent with.
pub(super) trait Sent:
    Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static
{
}

impl<B> Sent for B where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static
{
}

/// A question.
pub(super) struct Ask {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Vec<u8>,
    patience: Duration,
}

/// What may stand unescaped in a path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// A name as a part of a path. No name is one that leads elsewhere.
pub(super) fn part(name: &str) -> String {
    match name {
        "." | ".." => name.replace('.', "%2E"),
        _ => utf8_percent_encode(name, IN_PATH).to_string(),
    }
}

impl Ask {
    fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            query: String::new(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            patience: PATIENCE,
        }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into())
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path.into())
    }

    pub(super) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path.into())
    }

    pub(super) fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let sign = if self.query.is_empty() { '?' } else { '&' };
        self.query.push(sign);
        self.query.push_str(name);
        self.query.push('=');
        self.query.extend(utf8_percent_encode(value.as_ref(), NON_ALPHANUMERIC));
        self
    }

    /// With filters, as the engine reads them.
    pub(super) fn filters(self, filters: &[(&str, &[&str])]) -> Self {
        let map: std::collections::BTreeMap<_, _> = filters.iter().copied().collect();
        let text = serde_json::to_string(&map).unwrap_or_default();
        self.query("filters", text)
    }

    pub(super) fn json(mut self, body: &impl serde::Serialize) -> Result<Self, EngineError> {
        self.body = serde_json::to_vec(body).map_err(|error| EngineError::Nonsense(error.to_string()))?;
        self.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(self)
    }

    /// With a header that is in no log.
    pub(super) fn secret(mut self, name: &'static str, value: &str) -> Result<Self, EngineError> {
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| EngineError::Nonsense("credentials that cannot be sent".to_owned()))?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// With a body of this type, which is sent with it.
    pub(super) fn of_type(mut self, kind: &'static str) -> Self {
        self.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
        self
    }

    /// Of its address, in bytes.
    pub(super) fn length(&self) -> usize {
        self.path.len() + self.query.len()
    }

    /// What is asked, as it stands in a request.
    #[cfg(test)]
    pub(super) fn asked(&self) -> String {
        format!("{}{}", self.path, self.query)
    }

    fn with_upgrade(mut self) -> Self {
        self.headers.insert(http::header::UPGRADE, HeaderValue::from_static("tcp"));
        self
    }

    pub(super) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

#[derive(Deserialize)]
struct Versions {
    #[serde(rename = "ApiVersion")]
    newest: String,
    #[serde(rename = "MinAPIVersion", default)]
    oldest: String,
}

#[derive(Deserialize)]
struct Said {
    message: String,
}

impl Wire {
    /// No I/O. A host that is none is told to whoever asks.
    pub(super) fn new(host: Option<&str>) -> Self {
        Self { host: Host::parse(host), version: Mutex::new(None) }
    }

    /// In words.
    pub(super) fn host(&self) -> String {
        self.host.as_ref().map_or_else(|error| error.to_string(), ToString::to_string)
    }

    /// It is on this machine.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.host, Ok(Host::Unix(_)))
    }

    /// Of whom nothing is known any more: it may come back as another.
    pub(super) fn forget(&self) {
        *self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }

    /// The version that both speak, the newest one.
    pub(super) async fn version(&self) -> Result<Version, EngineError> {
        let known = *self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(version) = known {
            return Ok(version);
        }
        let said: Versions = self.answer_of("", Ask::get("/version")).await?;
        let nonsense = || EngineError::Nonsense(format!("it speaks version `{:.20}`", said.newest));
        let newest = Version::parse(&said.newest).ok_or_else(nonsense)?;
        let oldest = Version::parse(&said.oldest).unwrap_or(OLDEST);
        if newest < OLDEST {
            return Err(EngineError::TooOld { version: newest, oldest: OLDEST });
        }
        if oldest > NEWEST {
            return Err(EngineError::TooNew { version: oldest, newest: NEWEST });
        }
        let version = newest.min(NEWEST);
        *self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(version);
        Ok(version)
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn answer<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, EngineError> {
        let version = self.version().await?;
        self.answer_of(&format!("/v{version}"), ask).await
    }

    async fn answer_of<T: DeserializeOwned>(&self, version: &str, ask: Ask) -> Result<T, EngineError> {
        let path = ask.path.clone();
        let bytes = self.bytes_of(version, ask).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            // Where, but not what: it may be anything.
            EngineError::Nonsense(format!("its answer to {path}: {error}"))
        })
    }

    /// Asks, and whether it said well done.
    pub(super) async fn done(&self, ask: Ask) -> Result<(), EngineError> {
        let version = self.version().await?;
        self.bytes_of(&format!("/v{version}"), ask).await.map(drop)
    }

    /// The connection broke off in the middle of an answer.
    fn broken_off(&self, error: &hyper::Error) -> EngineError {
        EngineError::broken_off(&self.host(), error)
    }

    async fn bytes_of(&self, version: &str, ask: Ask) -> Result<Bytes, EngineError> {
        let patience = ask.patience;
        let path = ask.path.clone();
        let exchange = async {
            let response = self.exchange(version, ask).await?;
            self.whole(response, ANSWER_MAX).await
        };
        timeout(patience, exchange).await.map_err(|_| EngineError::Slow { path, patience })?
    }

    /// Asks, and gives what comes piece by piece. That it begins is waited for as long as the question says.
    pub(super) async fn stream(&self, ask: Ask) -> Result<Stream, EngineError> {
        let version = format!("/v{}", self.version().await?);
        let (patience, path) = (ask.patience, ask.path.clone());
        let begun = timeout(patience, self.exchange(&version, ask)).await;
        let response = begun.map_err(|_| EngineError::Slow { path, patience })??;
        Ok(Stream { host: self.host(), body: response.into_body(), left: BytesMut::new() })
    }

    /// Asks for a connection that is no HTTP any more.
    pub(super) async fn upgrade(&self, ask: Ask) -> Result<Upgraded, EngineError> {
        let version = format!("/v{}", self.version().await?);
        let (patience, path) = (ask.patience, ask.path.clone());
        let asking = async {
            let response = self.exchange(&version, ask.with_upgrade()).await?;
            let status = response.status();
            if status != StatusCode::SWITCHING_PROTOCOLS {
                return Err(EngineError::Nonsense(format!("status {status} in place of another protocol")));
            }
            hyper::upgrade::on(response).await.map_err(|error| self.broken_off(&error))
        };
        timeout(patience, asking).await.map_err(|_| EngineError::Slow { path, patience })?
    }

    /// The same, with a body that is sent as it comes, and as fast as it is taken. That the answer begins is
    /// waited for as long as anybody waits: with what is sent the engine may have work for hours. Where the body
    /// breaks off, so does the connection.
    pub(super) async fn stream_of<B: Sent>(&self, ask: Ask, body: B) -> Result<Stream, EngineError> {
        let version = format!("/v{}", self.version().await?);
        let response = self.exchange_of(&version, ask, body).await?;
        Ok(Stream { host: self.host(), body: response.into_body(), left: BytesMut::new() })
    }

    async fn exchange(&self, version: &str, mut ask: Ask) -> Result<Response<Incoming>, EngineError> {
        let body = Full::new(Bytes::from(std::mem::take(&mut ask.body)));
        self.exchange_of(version, ask, body).await
    }

    async fn exchange_of<B: Sent>(
        &self,
        version: &str,
        ask: Ask,
        body: B,
    ) -> Result<Response<Incoming>, EngineError> {
        let Ask { method, path, query, headers, .. } = ask;
        let mut request = Request::builder().method(method).uri(format!("{version}{path}{query}"));
        if let Some(all) = request.headers_mut() {
            *all = headers;
            all.insert(http::header::HOST, HeaderValue::from_static("docker"));
            let wish = if all.contains_key(http::header::UPGRADE) { "Upgrade" } else { "close" };
            all.insert(http::header::CONNECTION, HeaderValue::from_static(wish));
        }
        let request = request.body(body).map_err(|error| EngineError::Nonsense(error.to_string()))?;
        let response = self.send(request).await?;
        let status = response.status();
        let is_fine = [StatusCode::NOT_MODIFIED, StatusCode::SWITCHING_PROTOCOLS].contains(&status);
        if status.is_success() || is_fine {
            return Ok(response);
        }
        let text = self.beginning(response, ERROR_MAX).await?;
        let message =
            serde_json::from_slice::<Said>(&text).map_or_else(|_| unread(&text), |said| said.message);
        Err(EngineError::Said { status: status.as_u16(), message })
    }

    async fn whole(&self, response: Response<Incoming>, most: usize) -> Result<Bytes, EngineError> {
        let mut body = response.into_body();
        let mut all = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken_off(&error))?;
            if let Ok(data) = frame.into_data() {
                if all.len() + data.len() > most {
                    return Err(EngineError::Nonsense(format!("an answer of more than {most} bytes")));
                }
                all.extend_from_slice(&data);
            }
        }
        Ok(all.freeze())
    }

    /// What is longer is cut.
    async fn beginning(&self, response: Response<Incoming>, most: usize) -> Result<Bytes, EngineError> {
        let mut body = response.into_body();
        let mut all = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken_off(&error))?;
            if let Ok(data) = frame.into_data() {
                all.extend_from_slice(&data[..data.len().min(most - all.len())]);
            }
            if all.len() == most {
                break;
            }
        }
        Ok(all.freeze())
    }

    async fn send<B: Sent>(&self, request: Request<B>) -> Result<Response<Incoming>, EngineError> {
        let host = self.host.as_ref().map_err(Clone::clone)?;
        let unreachable = |source: std::io::Error| EngineError::unreachable(&host.to_string(), &source);
        let late = |_| unreachable(std::io::ErrorKind::TimedOut.into());
        match host {
            Host::Unix(path) => {
                let stream = timeout(CONNECT_PATIENCE, UnixStream::connect(path)).await.map_err(late)?;
                converse(stream.map_err(unreachable)?, request).await
            }
            Host::Tcp(address) => {
                let stream = timeout(CONNECT_PATIENCE, TcpStream::connect(address)).await.map_err(late)?;
                converse(stream.map_err(unreachable)?, request).await
            }
        }
        .map_err(|error| EngineError::broken_off(&host.to_string(), &error))
    }
}

async fn converse<S, B>(stream: S, request: Request<B>) -> hyper::Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    B: Sent,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, or with whoever no longer reads that.
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    sender.send_request(request).await
}

/// What an engine sends for as long as it likes.
pub(super) struct Stream {
    host: String,
    body: Incoming,
    left: BytesMut,
}

impl Stream {
    /// The next piece. `None`: that was all.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, EngineError> {
        if !self.left.is_empty() {
            return Ok(Some(self.left.split().freeze()));
        }
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| EngineError::broken_off(&self.host, &error))?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The next line. `None`: that was all. Safe to be given up and asked again.
    pub(super) async fn line(&mut self) -> Result<Option<Bytes>, EngineError> {
        let mut looked = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.left[looked..]) {
                let line = self.left.split_to(looked + at + 1);
                if line.trim_ascii().is_empty() {
                    looked = 0;
                    continue;
                }
                return Ok(Some(line.freeze()));
            }
            looked = self.left.len();
            if looked > LINE_MAX {
                return Err(EngineError::Nonsense(format!("a line of more than {LINE_MAX} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.left.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(EngineError::broken_off(&self.host, &error)),
                None if self.left.trim_ascii().is_empty() => return Ok(None),
                None => return Ok(Some(self.left.split().freeze())),
            }
        }
    }
}

/// What an engine says that is no JSON, or the beginning of it.
fn unread(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.trim_start().strip_prefix("{\"message\":\"") {
        Some(cut) => format!("{}…", cut.trim_end_matches('\u{fffd}')),
        None => text.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_socket_or_an_address_and_all_else_says_what_to_do() {
        assert_eq!(Host::parse(None), Ok(Host::Unix(USUAL_SOCKET.into())));
        assert_eq!(Host::parse(Some(" ")), Ok(Host::Unix(USUAL_SOCKET.into())));
        assert_eq!(Host::parse(Some("unix:///x/y.sock")), Ok(Host::Unix("/x/y.sock".into())));
        assert_eq!(Host::parse(Some("tcp://[::1]:2375/")), Ok(Host::Tcp("[::1]:2375".to_owned())));
        for (text, words) in [
            ("unix://y.sock", "must be absolute"),
            ("tcp://host", "a host and a port"),
            ("tcp://:2375", "a host and a port"),
            ("tcp://::1:2375", "a host and a port"),
            ("ssh://me@there", "forward its socket"),
            ("/var/run/docker.sock", "must begin with"),
        ] {
            let error = Host::parse(Some(text)).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(words), "{error}");
        }
    }

    #[test]
    fn no_name_leads_to_another_path() {
        assert_eq!(part("a/../b?c#d"), "a%2F..%2Fb%3Fc%23d");
        assert_eq!(part(".."), "%2E%2E");
        assert_eq!(part("web-1.x_y"), "web-1.x_y");
    }
}

//! The typed client: one method for each thing that can be asked of the daemon.
//!
//! Laws: what goes wrong is a [`ClientError`] a caller can match. A stream that ends without one
//! ended because there is nothing more to say. Nothing is retried here: whether to ask again is
//! for the caller to decide; a change that is asked for again under its key is made once. Dropping a stream closes its connection.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use reqwest::{RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use upbeat_model::{
    Action, App, AppName, AppSummary, Event, EventFilter, IdempotencyKey, LogLine, Operation, OperationId,
    Plan, ServiceName, Starts, Stats, Why,
};

use crate::decode::{Decoder, MAX_RECORD, Told};
use crate::endpoint::{Endpoint, Method};
use crate::error::ClientError;
use crate::types::{EndReason, EventsQuery, LogQuery, Problem, ProblemKind, Up, Version, joined};

/// The daemon answers at once or not at all; this is for a machine under heavy load, and so that
/// no command hangs for ever on a daemon that is stopped or wedged.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Of a request for a change: under which it is known when it is sent again.
pub const KEY_HEADER: &str = "idempotency-key";

/// Items as they come. After an error there is nothing more.
pub type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, ClientError>> + Send>>;

type Answer<T> = Result<T, ClientError>;

/// Speaks to the daemon behind one socket. Cheap to clone; connects anew for each request, so that
/// it neither holds a connection open nor trips over a daemon that was replaced.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    socket: Arc<Path>,
}

impl Client {
    /// A client for the daemon that listens on this socket, now or later.
    pub fn new(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket: Arc<Path> = socket.into().into();
        let http = reqwest::Client::builder()
            .unix_socket(&*socket)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|e| ClientError::Protocol {
                socket: socket.to_path_buf(),
                detail: format!("no HTTP client can be made: {}", chain(&e)),
            })?;
        Ok(Self { http, socket })
    }

    /// Where it connects to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who answers.
    pub async fn version(&self) -> Answer<Version> {
        self.answer(self.request(Endpoint::Version, &[], &[])).await
    }

    /// Every app, one line each.
    pub async fn apps(&self) -> Answer<Vec<AppSummary>> {
        self.answer(self.request(Endpoint::Apps, &[], &[])).await
    }

    /// One app, whole.
    pub async fn app(&self, app: &AppName) -> Answer<App> {
        self.answer(self.request(Endpoint::App, &[app.as_str()], &[])).await
    }

    /// The app now, and again whenever it changes. A reader that is slow misses what lies between,
    /// never the last. Ends when the app is gone.
    pub async fn watch(&self, app: &AppName) -> Answer<Updates<App>> {
        self.updates(self.request(Endpoint::WatchApp, &[app.as_str()], &[]), Decoder::events()).await
    }

    /// Makes a project run. The operation that comes back can be watched.
    pub async fn up(&self, app: &AppName, up: &Up, key: &IdempotencyKey) -> Answer<Operation> {
        let request = self.request(Endpoint::Up, &[app.as_str()], &[]);
        self.answer(self.with_body(request, up)?.header(KEY_HEADER, key.as_str())).await
    }

    /// What [`Client::up`] would do.
    pub async fn plan(&self, app: &AppName, up: &Up) -> Answer<Plan> {
        self.answer(self.with_body(self.request(Endpoint::Plan, &[app.as_str()], &[]), up)?).await
    }

    /// Changes what runs.
    pub async fn act(&self, app: &AppName, action: &Action, key: &IdempotencyKey) -> Answer<Operation> {
        let request = self.request(Endpoint::Act, &[app.as_str()], &[]);
        self.answer(self.with_body(request, action)?.header(KEY_HEADER, key.as_str())).await
    }

    /// Stops everything of an app and forgets it; with `kill`, without the grace periods.
    pub async fn down(&self, app: &AppName, kill: bool, key: &IdempotencyKey) -> Answer<Operation> {
        let query = [("kill", kill.to_string())];
        let request = self.request(Endpoint::Down, &[app.as_str()], &query);
        self.answer(request.header(KEY_HEADER, key.as_str())).await
    }

    /// An operation, as it is.
    pub async fn operation(&self, id: OperationId) -> Answer<Operation> {
        self.answer(self.request(Endpoint::Operation, &[&id.to_string()], &[])).await
    }

    /// An operation now, and again whenever it changes; the last item is how it ended.
    pub async fn watch_operation(&self, id: OperationId) -> Answer<Updates<Operation>> {
        self.updates(self.request(Endpoint::WatchOperation, &[&id.to_string()], &[]), Decoder::events()).await
    }

    /// Why a service is as it is.
    pub async fn why(&self, app: &AppName, service: &ServiceName) -> Answer<Why> {
        self.answer(self.request(Endpoint::Why, &[app.as_str(), service.as_str()], &[])).await
    }

    /// Events with a greater sequence number than `after`, oldest first, at most `limit` (and
    /// [`EventsQuery::MAX_LIMIT`]).
    pub async fn events(&self, wanted: &EventFilter, after: u64, limit: usize) -> Answer<Vec<Event>> {
        let mut query = events_query(wanted, after);
        query.extend(wanted.until.map(|until| ("until", until.0.to_string())));
        query.push(("limit", limit.min(EventsQuery::MAX_LIMIT).to_string()));
        self.answer(self.request(Endpoint::Events, &[], &query)).await
    }

    /// Events with a greater sequence number than `after`, and then as they come: each, in order. `until`
    /// means nothing here.
    pub async fn watch_events(&self, wanted: &EventFilter, after: u64) -> Answer<Updates<Event>> {
        let query = events_query(wanted, after);
        self.updates(self.request(Endpoint::WatchEvents, &[], &query), Decoder::events()).await
    }

    /// What each slot of an app uses. Takes about a second: how much of a processor that is can only be
    /// told over some time.
    pub async fn stats(&self, app: &AppName) -> Answer<Stats> {
        self.answer(self.request(Endpoint::Stats, &[app.as_str()], &[])).await
    }

    /// What each slot of an app uses, once a second. Ends when the app is gone.
    pub async fn watch_stats(&self, app: &AppName) -> Answer<Updates<Stats>> {
        self.updates(self.request(Endpoint::WatchStats, &[app.as_str()], &[]), Decoder::events()).await
    }

    /// How far the last start of each slot of an app came, and when.
    pub async fn starts(&self, app: &AppName) -> Answer<Starts> {
        self.answer(self.request(Endpoint::Starts, &[app.as_str()], &[])).await
    }

    /// Lines of output, by time. Without `follow` it ends after the last line there is.
    pub async fn logs(&self, app: &AppName, wanted: &LogQuery) -> Answer<Updates<LogLine>> {
        let mut query = vec![("follow", wanted.follow.to_string())];
        if !wanted.services.is_empty() {
            query.push(("service", joined(&wanted.services)));
        }
        query.extend(wanted.tail.map(|tail| ("tail", tail.to_string())));
        self.updates(self.request(Endpoint::Logs, &[app.as_str()], &query), Decoder::lines()).await
    }

    fn request(&self, to: Endpoint, path: &[&str], query: &[(&str, String)]) -> RequestBuilder {
        // The host is never resolved: there is one socket. The server knows itself by this name.
        let mut url = format!("http://upbeat{}", to.path_with(path));
        for (i, (key, value)) in query.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(key);
            url.push('=');
            // Numbers, booleans, names and commas: nothing that would have to be escaped.
            url.push_str(value);
        }
        self.http.request(
            match to.method() {
                Method::Delete => reqwest::Method::DELETE,
                Method::Get => reqwest::Method::GET,
                Method::Post => reqwest::Method::POST,
                Method::Put => reqwest::Method::PUT,
            },
            url,
        )
    }

    fn with_body(&self, request: RequestBuilder, body: &impl Serialize) -> Answer<RequestBuilder> {
        let body = serde_json::to_vec(body).map_err(|e| self.protocol(format!("cannot be said: {e}")))?;
        if body.len() > Up::MAX_BYTES {
            let message = format!("the project is larger than {} MiB", Up::MAX_BYTES >> 20);
            return Err(Problem::new(ProblemKind::BadRequest, message).with_hint("split it").into());
        }
        Ok(request.header("content-type", "application/json").body(body))
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Answer<T> {
        self.in_time(async {
            let response = self.send(request).await?;
            let body = self.whole(response).await?;
            serde_json::from_slice(&body).map_err(|e| self.protocol(e.to_string()))
        })
        .await
    }

    async fn updates<T>(&self, request: RequestBuilder, decoder: Decoder) -> Answer<Updates<T>>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let response = self.in_time(self.send(request)).await?;
        let told = Telling { client: self.clone(), body: response.bytes_stream().boxed(), decoder };
        Ok(stream::unfold(Some(told), |told| async {
            let mut told = told?;
            match told.next().await {
                Ok(Told::Item(item)) => Some((Ok(item), Some(told))),
                Ok(Told::End(EndReason::Complete)) => None,
                Ok(Told::End(EndReason::ShuttingDown)) => {
                    let socket = told.client.socket.to_path_buf();
                    Some((Err(ClientError::ShuttingDown { socket }), None))
                }
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed())
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Answer<T>>) -> Answer<T> {
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { socket: self.socket.to_path_buf(), after: ANSWER_TIMEOUT }),
        }
    }

    /// The head of a success; the rest is an error.
    async fn send(&self, request: RequestBuilder) -> Answer<Response> {
        let response = request.send().await.map_err(|e| self.unsent(e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.whole(response).await?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ClientError::Problem(problem)),
            Err(_) => Err(self.protocol(format!("status {status} without a reason"))),
        }
    }

    async fn whole(&self, response: Response) -> Answer<Vec<u8>> {
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| self.interrupted(Some(e)))?;
            if body.len() + chunk.len() > MAX_RECORD {
                return Err(self.protocol(format!("more than {} MiB", MAX_RECORD >> 20)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unsent(&self, error: reqwest::Error) -> ClientError {
        let socket = self.socket.to_path_buf();
        if !error.is_connect() {
            return self.interrupted(Some(error));
        }
        match io_kind(&error) {
            // Reset: it ended before it took the connection.
            Some(
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset,
            ) => ClientError::NotRunning { socket },
            Some(io::ErrorKind::PermissionDenied) => ClientError::PermissionDenied { socket },
            kind => {
                let source = io::Error::new(kind.unwrap_or(io::ErrorKind::Other), chain(&error));
                ClientError::Connect { socket, source }
            }
        }
    }

    fn interrupted(&self, source: Option<reqwest::Error>) -> ClientError {
        let source = source.map(|e| Box::from(e.without_url()));
        ClientError::Interrupted { socket: self.socket.to_path_buf(), source }
    }

    fn protocol(&self, detail: String) -> ClientError {
        ClientError::Protocol { socket: self.socket.to_path_buf(), detail }
    }
}

/// A stream while it is read.
struct Telling<B> {
    client: Client,
    body: B,
    decoder: Decoder,
}

impl<B, C> Telling<B>
where
    B: Stream<Item = Result<C, reqwest::Error>> + Unpin,
    C: AsRef<[u8]>,
{
    async fn next<T: DeserializeOwned>(&mut self) -> Answer<Told<T>> {
        loop {
            if let Some(told) = self.decoder.next().map_err(|e| self.client.protocol(e))? {
                return Ok(told);
            }
            match self.body.next().await {
                Some(Ok(chunk)) => {
                    self.decoder.push(chunk.as_ref()).map_err(|e| self.client.protocol(e))?;
                }
                Some(Err(error)) => return Err(self.client.interrupted(Some(error))),
                // It must say that it ends, before it does.
                None => return Err(self.client.interrupted(None)),
            }
        }
    }
}

fn events_query(wanted: &EventFilter, after: u64) -> Vec<(&'static str, String)> {
    let EventFilter { app, services, kinds, since, until: _ } = wanted;
    let mut query = vec![("after", after.to_string())];
    query.extend(app.as_ref().map(|app| ("app", app.to_string())));
    query.extend((!services.is_empty()).then(|| ("service", joined(services))));
    query.extend((!kinds.is_empty()).then(|| ("kind", joined(kinds))));
    query.extend(since.map(|since| ("since", since.0.to_string())));
    query
}

/// What the system said at the bottom of the chain.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    std::iter::successors(Some(error), |e| e.source())
        .filter_map(|e| e.downcast_ref::<io::Error>())
        .map(io::Error::kind)
        .find(|kind| *kind != io::ErrorKind::Other)
}

/// The whole chain in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let links = std::iter::successors(Some(error), |e| e.source());
    links.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

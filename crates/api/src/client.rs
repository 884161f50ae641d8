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

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use http_body_util::{BodyDataStream, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use upbeat_model::project::container::ImageRef;
use upbeat_model::{
    Action, App, AppName, AppSummary, AuditRecord, AuditVerdict, BuildWord, Event, EventFilter,
    IdempotencyKey, ImageBuild, ImageState, LogLine, Operation, OperationId, Plan, ServiceName, Starts,
    Stats, TokenInfo, TokenName, Wall, Why,
};

use crate::connection::{Remote, Sent, Way};
use crate::decode::{Decoder, MAX_RECORD, Told};
use crate::endpoint::{Endpoint, Method, escaped};
use crate::error::{ClientError, TlsError};
use crate::types::{
    BUILD_LINE_MAX, BUILD_TYPE, End, EndReason, EventsQuery, IssuedToken, LogQuery, NewToken, Problem,
    ProblemKind, RemovedNetworks, RemovedVolumes, Up, Version, joined,
};

/// The daemon answers at once or not at all; this is for a machine under heavy load, and so that
/// no command hangs for ever on a daemon that is stopped or wedged.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What a client without a token is told to do where one is asked for.
const NO_TOKEN: &str =
    "say who asks: set `UPBEAT_TOKEN` to a token; `upbeat token create` makes one where the daemon runs";

/// Of a request for a change: under which it is known when it is sent again.
pub const KEY_HEADER: &str = "idempotency-key";

/// Items as they come. After an error there is nothing more.
pub type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, ClientError>> + Send>>;

pub(crate) type Answer<T> = Result<T, ClientError>;

/// Speaks to one daemon. Cheap to clone; connects anew for each request, so that it neither holds a
/// connection open nor trips over a daemon that was replaced.
#[derive(Clone)]
pub struct Client {
    way: Arc<Way>,
    /// Marked as sensitive, so that nothing shows it.
    authorization: Option<HeaderValue>,
    socket: Arc<Path>,
}

/// Without what says who asks.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for the daemon that listens on this socket, now or later.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        let socket = socket.into();
        Self { way: Arc::new(Way::Unix(socket.clone())), authorization: None, socket: socket.into() }
    }

    /// A client for a daemon elsewhere. Errors: its address or a certificate cannot be used.
    pub fn remote(remote: &Remote) -> Answer<Self> {
        let way = Way::to(remote)?;
        let bad_token = || ClientError::BadAddress {
            what: "the token".to_owned(),
            why: "it holds what no token holds".to_owned(),
        };
        let authorization = match &remote.token {
            Some(token) => {
                let mut value =
                    HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(|_| bad_token())?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self { way: Arc::new(way), authorization, socket: PathBuf::from(&remote.url).into() })
    }

    /// Where it connects to: a socket, or for a daemon elsewhere its URL.
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
        self.answer(self.with_body(request, up)?.under(key)).await
    }

    /// What [`Client::up`] would do; with `lint`, held against every rule of plans.
    pub async fn plan(&self, app: &AppName, up: &Up, lint: bool) -> Answer<Plan> {
        let query = [("lint", lint.to_string())];
        self.answer(self.with_body(self.request(Endpoint::Plan, &[app.as_str()], &query), up)?).await
    }

    /// Changes what runs.
    pub async fn act(&self, app: &AppName, action: &Action, key: &IdempotencyKey) -> Answer<Operation> {
        let request = self.request(Endpoint::Act, &[app.as_str()], &[]);
        self.answer(self.with_body(request, action)?.under(key)).await
    }

    /// Removes the volumes that were made for an app, which is down.
    pub async fn remove_volumes(&self, app: &AppName) -> Answer<RemovedVolumes> {
        self.answer(self.request(Endpoint::RemoveVolumes, &[app.as_str()], &[])).await
    }

    /// Removes the networks that were made for an app, which is down.
    pub async fn remove_networks(&self, app: &AppName) -> Answer<RemovedNetworks> {
        self.answer(self.request(Endpoint::RemoveNetworks, &[app.as_str()], &[])).await
    }

    /// Stops everything of an app and forgets it; with `kill`, without the grace periods.
    pub async fn down(&self, app: &AppName, kill: bool, key: &IdempotencyKey) -> Answer<Operation> {
        let query = [("kill", kill.to_string())];
        let request = self.request(Endpoint::Down, &[app.as_str()], &query);
        self.answer(request.under(key)).await
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

    /// Whether an image is there.
    pub async fn image(&self, name: &ImageRef) -> Answer<ImageState> {
        self.answer(self.request(Endpoint::Image, &[], &[("name", name.to_string())])).await
    }

    /// Has an image built of a context: the parts of a tar, which are asked for as fast as they are taken. What is
    /// told begins when all of it was taken, however long that is. It is called off when what is told is dropped,
    /// or the context breaks off.
    pub async fn build<C>(&self, wanted: &ImageBuild, context: C) -> Answer<Updates<BuildWord>>
    where
        C: Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    {
        let mut line =
            serde_json::to_vec(wanted).map_err(|e| self.protocol(format!("cannot be said: {e}")))?;
        line.push(b'\n');
        if line.len() > BUILD_LINE_MAX {
            let message = format!("what is said of a build is longer than {} MiB", BUILD_LINE_MAX >> 20);
            return Err(Problem::new(ProblemKind::BadRequest, message)
                .with_hint("put what its arguments hold into files of the context")
                .into());
        }
        let mut request = self.request(Endpoint::BuildImage, &[], &[]);
        request.headers.push((CONTENT_TYPE, BUILD_TYPE.to_owned()));
        let parts =
            stream::once(std::future::ready(Ok(Bytes::from(line)))).chain(context).map_ok(Frame::data);
        let response = self.send_with(request, StreamBody::new(parts)).await?;
        Ok(self.told(response, Decoder::lines()))
    }

    /// Every token, but for the tokens themselves.
    pub async fn tokens(&self) -> Answer<Vec<TokenInfo>> {
        self.answer(self.request(Endpoint::Tokens, &[], &[])).await
    }

    /// Makes a token. No other answer holds it, so it has no key: where this one is lost, the token
    /// is to be revoked.
    pub async fn create_token(&self, new: &NewToken) -> Answer<IssuedToken> {
        self.answer(self.with_body(self.request(Endpoint::CreateToken, &[], &[]), new)?).await
    }

    /// From now on this token lets nobody in.
    pub async fn revoke_token(&self, name: &TokenName) -> Answer<()> {
        self.answer(self.request(Endpoint::RevokeToken, &[name.as_str()], &[])).await
    }

    /// Records of who changed what with a greater sequence number than `after` and not before
    /// `since`, oldest first, at most `limit` (and [`EventsQuery::MAX_LIMIT`]).
    pub async fn audit(&self, after: u64, since: Option<Wall>, limit: usize) -> Answer<Vec<AuditRecord>> {
        let mut query = vec![("after", after.to_string())];
        query.push(("limit", limit.min(EventsQuery::MAX_LIMIT).to_string()));
        query.extend(since.map(|since| ("since", since.0.to_string())));
        self.answer(self.request(Endpoint::Audit, &[], &query)).await
    }

    /// Looks at every record.
    pub async fn verify_audit(&self) -> Answer<AuditVerdict> {
        self.answer(self.request(Endpoint::VerifyAudit, &[], &[])).await
    }

    pub(crate) fn request(&self, to: Endpoint, path: &[&str], query: &[(&str, String)]) -> Asking {
        let mut target = to.path_with(path);
        for (i, (key, value)) in query.iter().enumerate() {
            target.push(if i == 0 { '?' } else { '&' });
            target.push_str(key);
            target.push('=');
            target.push_str(&escaped(value));
        }
        let method = match to.method() {
            Method::Delete => hyper::Method::DELETE,
            Method::Get => hyper::Method::GET,
            Method::Patch => hyper::Method::PATCH,
            Method::Post => hyper::Method::POST,
            Method::Put => hyper::Method::PUT,
        };
        Asking { method, target, headers: Vec::new(), body: Bytes::new(), most: MAX_RECORD }
    }

    pub(crate) fn with_body(&self, mut request: Asking, body: &impl Serialize) -> Answer<Asking> {
        let body = serde_json::to_vec(body).map_err(|e| self.protocol(format!("cannot be said: {e}")))?;
        if body.len() > Up::MAX_BYTES {
            let message = format!("the request is larger than {} MiB", Up::MAX_BYTES >> 20);
            let hint = "split what it holds: a project into apps, reports by their targets";
            return Err(Problem::new(ProblemKind::BadRequest, message).with_hint(hint).into());
        }
        request.headers.push((CONTENT_TYPE, "application/json".to_owned()));
        request.body = body.into();
        Ok(request)
    }

    pub(crate) async fn answer<T: DeserializeOwned>(&self, request: Asking) -> Answer<T> {
        let most = request.most;
        self.in_time(async {
            let response = self.send(request).await?;
            let body = self.whole(response, most).await?;
            serde_json::from_slice(&body).map_err(|e| self.protocol(e.to_string()))
        })
        .await
    }

    pub(crate) async fn updates<T>(&self, request: Asking, decoder: Decoder) -> Answer<Updates<T>>
    where
        T: DeserializeOwned + Send + 'static,
    {
        Ok(self.told(self.in_time(self.send(request)).await?, decoder))
    }

    fn told<T>(&self, response: Response<Incoming>, decoder: Decoder) -> Updates<T>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let told = Telling { client: self.clone(), body: BodyDataStream::new(response.into_body()), decoder };
        stream::unfold(Some(told), |told| async {
            let mut told = told?;
            match told.next().await {
                Ok(Told::Item(item)) => Some((Ok(item), Some(told))),
                Ok(Told::End(End { end: EndReason::Complete, .. })) => None,
                Ok(Told::End(End { end: EndReason::ShuttingDown, .. })) => {
                    let socket = told.client.socket.to_path_buf();
                    Some((Err(ClientError::ShuttingDown { socket }), None))
                }
                Ok(Told::End(End { end: EndReason::Failed, problem })) => {
                    let unsaid = || Problem::new(ProblemKind::Internal, "the daemon could not go on with it");
                    Some((Err(ClientError::Problem(problem.unwrap_or_else(unsaid))), None))
                }
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    pub(crate) async fn in_time<T>(&self, answer: impl Future<Output = Answer<T>>) -> Answer<T> {
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { socket: self.socket.to_path_buf(), after: ANSWER_TIMEOUT }),
        }
    }

    /// The head of a success; the rest is an error.
    pub(crate) async fn send(&self, mut request: Asking) -> Answer<Response<Incoming>> {
        let body = Full::new(std::mem::take(&mut request.body));
        self.send_with(request, body).await
    }

    async fn send_with<B: Sent>(&self, request: Asking, body: B) -> Answer<Response<Incoming>> {
        let mut sender = self.way.open().await.map_err(|error| self.unconnected(error))?;
        let mut asked = Request::builder().method(request.method).uri(request.target);
        asked = asked.header(HOST, self.way.host());
        for (name, value) in request.headers {
            asked = asked.header(name, value);
        }
        if let Some(authorization) = &self.authorization {
            asked = asked.header(AUTHORIZATION, authorization);
        }
        let asked = asked.body(body).map_err(|e| self.protocol(format!("cannot be said: {e}")))?;
        let response = sender.send_request(asked).await.map_err(|error| match *self.way {
            // What is no HTTP at all is, from a daemon, the alert of TLS.
            Way::Tcp { tls: None, .. } if error.is_parse() => self.unconnected(TlsError::Only.into()),
            _ => self.interrupted(Some(error)),
        })?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let body = self.whole(response, MAX_RECORD).await?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(mut problem) => {
                let is_elsewhere = matches!(*self.way, Way::Tcp { .. });
                let has_none = is_elsewhere && self.authorization.is_none();
                if has_none && problem.kind == ProblemKind::Unauthorized {
                    // The daemon says it in the words of HTTP.
                    problem.hint = Some(NO_TOKEN.to_owned());
                }
                Err(ClientError::Problem(problem))
            }
            Err(_) => Err(self.protocol(format!("status {status} without a reason"))),
        }
    }

    /// Errors: it has more bytes than `most`.
    async fn whole(&self, response: Response<Incoming>, most: usize) -> Answer<Vec<u8>> {
        let mut body = Vec::new();
        let mut chunks = BodyDataStream::new(response.into_body());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| self.interrupted(Some(e)))?;
            if body.len() + chunk.len() > most {
                return Err(self.protocol(format!("more than {} MiB", most >> 20)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unconnected(&self, source: io::Error) -> ClientError {
        let socket = self.socket.to_path_buf();
        match source.kind() {
            // Elsewhere nothing can be said of it but that it was not reached.
            _ if matches!(*self.way, Way::Tcp { .. }) => ClientError::Connect { socket, source },
            // Reset: it ended before it took the connection.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                ClientError::NotRunning { socket }
            }
            io::ErrorKind::PermissionDenied => ClientError::PermissionDenied { socket },
            _ => ClientError::Connect { socket, source },
        }
    }

    pub(crate) fn interrupted(&self, source: Option<hyper::Error>) -> ClientError {
        let source = source.map(Box::from);
        ClientError::Interrupted { socket: self.socket.to_path_buf(), source }
    }

    pub(crate) fn protocol(&self, detail: String) -> ClientError {
        ClientError::Protocol { socket: self.socket.to_path_buf(), detail }
    }
}

/// A request that is being made up.
pub(crate) struct Asking {
    method: hyper::Method,
    target: String,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
    /// So many bytes are taken of the answer.
    most: usize,
}

impl Asking {
    pub(crate) fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    pub(crate) fn with_headers(mut self, headers: &[(HeaderName, &str)]) -> Self {
        self.headers.extend(headers.iter().map(|(name, value)| (name.clone(), (*value).to_owned())));
        self
    }

    fn under(mut self, key: &IdempotencyKey) -> Self {
        self.headers.push((HeaderName::from_static(KEY_HEADER), key.as_str().to_owned()));
        self
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
    B: Stream<Item = Result<C, hyper::Error>> + Unpin,
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
    let EventFilter { app, namespace, entity, services, kinds, since, until: _ } = wanted;
    let mut query = vec![("after", after.to_string())];
    query.extend(app.as_ref().map(|app| ("app", app.to_string())));
    query.extend(namespace.as_ref().map(|name| ("namespace", name.clone())));
    query.extend(entity.as_ref().map(|name| ("entity", name.clone())));
    query.extend((!services.is_empty()).then(|| ("service", joined(services))));
    query.extend((!kinds.is_empty()).then(|| ("kind", joined(kinds))));
    query.extend(since.map(|since| ("since", since.0.to_string())));
    query
}

//! Accepts connections, lets in who may come in, and ends in order.
//!
//! Laws: on the unix socket the kernel says who is at the other end; the daemon's own user, root and
//! the members of one group are let in, others hear that they are not. Over TCP whoever comes may
//! ask, and has to show a token with each request; where rollouts are open to this machine, nobody has to, and
//! nothing else can be asked. Each door has its own places, so that one that is
//! crowded closes no other; who gets them, [`crate::admission`] decides. Whoever is turned away, or
//! slow, or gone, holds nothing for longer than [`crate::bounds`] says. When the end comes, nobody new is accepted, answers under way are
//! finished, streams say that they end.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use upbeat_api::{Problem, ProblemKind, Whom};

use crate::access::{Caller, Peer};
use crate::afterwards::Afterwards;
use crate::backend::Backend;
use crate::bounds::{
    ACCEPT_PAUSE, DRAIN_TIMEOUT, HANDSHAKE_TIMEOUT, HEAD_MAX, HEAD_TIMEOUT, HEADERS_MAX, REFUSAL_TIMEOUT,
    REFUSALS_MAX,
};
use crate::connections::Open;
use crate::door::{Door, Entered, Knock, OpenRollouts, Tcp, Unix};
use crate::handlers::Shared;
use crate::linger::Lingering;
use crate::place::{Answering, Leaving, Seat};
use crate::refusal::Refusal;
use crate::rollouts::rooms::{IsLarge, Rooms};
use crate::router::refused;
use crate::streams::{self, Closing, Holding, OpenStreams};

/// Where the server listens: always on a socket of this machine, on demand over TCP.
pub struct Doors {
    /// The socket.
    pub unix: Unix,
    /// TCP.
    pub tcp: Option<Tcp>,
    /// TCP without tokens, for rollouts alone.
    pub rollouts: Option<OpenRollouts>,
}

impl From<UnixListener> for Doors {
    fn from(listener: UnixListener) -> Self {
        Self { unix: Unix { listener, group: None }, tcp: None, rollouts: None }
    }
}

/// Serves until `shutdown`, then ends in order and removes the socket. Returns when the last
/// connection is closed, at most [`DRAIN_TIMEOUT`] after `shutdown`.
pub async fn serve<B: Backend>(
    doors: impl Into<Doors>,
    backend: B,
    shutdown: impl Future<Output = ()> + Send,
) {
    let Doors { unix, tcp, rollouts } = doors.into();
    let (end, is_end) = watch::channel(false);
    let hosts = tcp.as_ref().map(Tcp::names).unwrap_or_default();
    let unix = attend(Door::unix(unix), backend.clone(), Arc::default(), is_end.clone());
    let tcp = async {
        if let Some(tcp) = tcp {
            attend(Door::tcp(tcp), backend.clone(), hosts, is_end.clone()).await;
        }
    };
    let rollouts = async {
        if let Some(rollouts) = rollouts {
            attend(Door::rollouts(rollouts), backend.clone(), Arc::default(), is_end.clone()).await;
        }
    };
    let ending = async {
        shutdown.await;
        end.send_replace(true);
    };
    tokio::join!(unix, tcp, rollouts, ending);
}

/// One door, until the end.
async fn attend<B: Backend>(door: Door, backend: B, hosts: Arc<[String]>, mut is_end: watch::Receiver<bool>) {
    let (close, _) = watch::channel(false);
    let closing = Closing::told_by(&close);
    let (told, streams) = (closing.clone(), OpenStreams::default());
    let here = Shared { backend: backend.clone(), closing: told, hosts, streams, rooms: Rooms::default() };
    let routes = TowerToHyperService::new(door.routes(here));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let mut tasks = JoinSet::new();
    loop {
        let knock = tokio::select! {
            biased;
            _ = is_end.wait_for(|end| *end) => break,
            // Takes up what connections end with, so that they do not pile up.
            Some(ended) = tasks.join_next() => { note(ended); continue }
            accepted = accept(&door) => accepted,
        };
        match door.enter(&knock) {
            Ok(entered) => {
                tasks.spawn(admitted(knock, entered, door.tls(), routes.clone(), closing.clone()));
            }
            Err(refused) => {
                if let Some(record) = refused.record {
                    backend.refused(*record, Whom::Stranger);
                }
                // Else there are too many to be told so, and it is closed.
                if let Ok(permit) = refusals.clone().try_acquire_owned() {
                    tracing::warn!(problem = %refused.problem.message, "a connection is turned away");
                    tasks.spawn(turned_away(knock, door.tls(), refused.problem, permit));
                }
            }
        }
    }
    door.close();
    close.send_replace(true);
    let ended = timeout(DRAIN_TIMEOUT, async {
        while let Some(ended) = tasks.join_next().await {
            note(ended);
        }
    });
    if ended.await.is_err() {
        tracing::warn!(connections = tasks.len(), "connections are cut: their clients do not read");
        tasks.shutdown().await;
    }
}

/// The next connection.
async fn accept(door: &Door) -> Knock {
    loop {
        match door.accept().await {
            Ok(knock) => return knock,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX);
    http
}

type Routes = TowerToHyperService<axum::Router>;

/// What is known of whoever is at the other end, before they ask.
#[derive(Clone)]
struct Known {
    /// Who it is, where they need not prove it.
    caller: Option<Caller>,
    /// Where they are, over TCP.
    peer: Option<Peer>,
}

/// For people.
impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { peer: Some(peer), .. } => write!(f, "{}", peer.from),
            Self { caller: Some(caller), .. } => f.write_str(&caller.who()),
            Self { .. } => f.write_str("nobody known"),
        }
    }
}

async fn admitted(
    knock: Knock,
    entered: Entered,
    tls: Option<TlsAcceptor>,
    routes: Routes,
    closing: Closing,
) {
    let Entered { caller, mut place } = entered;
    let seat = place.seat.clone();
    let served = async {
        match (knock, caller) {
            (Knock::Unix(stream), Some(caller)) => {
                let known = Known { caller: Some(caller), peer: None };
                conversation(stream, known, seat, routes, closing).await;
            }
            // Never: nobody comes in there unknown.
            (Knock::Unix(_), None) => {}
            (Knock::Tcp(stream, from), caller) => {
                let to = stream.local_addr().ok().map(|to| to.ip());
                let known = Known { caller, peer: Some(Peer { from, to }) };
                from_afar(stream, known, tls, seat, routes, closing).await;
            }
        }
    };
    tokio::select! {
        () = served => {}
        () = place.lost() => tracing::debug!("a connection is closed to make place for another"),
    }
}

async fn from_afar(
    stream: TcpStream,
    known: Known,
    tls: Option<TlsAcceptor>,
    seat: Seat,
    routes: Routes,
    mut closing: Closing,
) {
    let Some(tls) = tls else { return conversation(stream, known, seat, routes, closing).await };
    let agreed = tokio::select! {
        agreed = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => agreed,
        () = closing.closing() => return,
    };
    match agreed {
        Ok(Ok(stream)) => conversation(stream, known, seat, routes, closing).await,
        Ok(Err(error)) => tracing::debug!(%error, from = %known, "no TLS was agreed on"),
        Err(_) => tracing::debug!(from = %known, "no TLS was agreed on in time"),
    }
}

async fn conversation(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    known: Known,
    seat: Seat,
    routes: Routes,
    mut closing: Closing,
) {
    let told = known.clone();
    let _open = Open::one();
    let stream = Leaving::new(stream, seat.clone());
    let afterwards = Afterwards::default();
    let then = afterwards.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        answer(request, told.clone(), seat.clone(), routes.clone(), then.clone())
    });
    let mut connection = pin!(http().serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = closing.closing() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, who = %known, "a connection ended early");
    }
    if let Some(what) = afterwards.take() {
        what.await;
    }
}

/// Whoever is known has their place for as long as they are answered, until the last of it has left; who
/// has to prove it, from then on.
async fn answer(
    mut request: Request<Incoming>,
    known: Known,
    seat: Seat,
    routes: Routes,
    afterwards: Afterwards,
) -> Result<Response<Holding<Answering>>, Infallible> {
    let answering = seat.answering();
    request.extensions_mut().insert(afterwards.clone());
    if let Some(peer) = known.peer {
        request.extensions_mut().insert(peer);
    }
    match known.caller {
        Some(caller) => {
            seat.is_busy().await;
            request.extensions_mut().insert(caller);
        }
        None => drop(request.extensions_mut().insert(seat.clone())),
    }
    let uri = request.uri().clone();
    let mut answer = routes.call(request.map(Lingering::new)).await?;
    if answer.extensions().get::<IsLarge>().is_some() {
        answering.is_large();
    }
    let is_upgraded = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    if is_upgraded {
        // What it says has no end until it is over.
        afterwards.holding(seat.answering());
    }
    if (is_upgraded || streams::is_stream(&answer))
        && let Err(full) = seat.streams()
    {
        drop(afterwards.take());
        let problem = Problem::new(ProblemKind::Unavailable, full.to_string());
        answer = refused(&uri, Refusal::from(problem.with_hint("end some, such as `logs -f`")));
    }
    Ok(answer.map(|body| Holding::new(body, answering)))
}

async fn turned_away(knock: Knock, tls: Option<TlsAcceptor>, problem: Problem, permit: OwnedSemaphorePermit) {
    let telling = async {
        match (knock, tls) {
            (Knock::Unix(stream), _) => tell_no(stream, problem).await,
            (Knock::Tcp(stream, _), None) => tell_no(stream, problem).await,
            (Knock::Tcp(stream, from), Some(tls)) => tell_no_in_secret(stream, from, &tls, problem).await,
        }
    };
    if timeout(REFUSAL_TIMEOUT, telling).await.is_err() {
        tracing::debug!("a connection that was turned away did not listen");
    }
    drop(permit);
}

async fn tell_no_in_secret(stream: TcpStream, from: SocketAddr, tls: &TlsAcceptor, problem: Problem) {
    match tls.accept(stream).await {
        Ok(stream) => tell_no(stream, problem).await,
        Err(error) => tracing::debug!(%error, %from, "no TLS was agreed on"),
    }
}

async fn tell_no(stream: impl AsyncRead + AsyncWrite + Unpin, problem: Problem) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut answer: Response<Body> = refused(request.uri(), problem.clone().into());
        // Whoever says all of it first comes to hear the answer.
        drop(Lingering::new(request.into_body()));
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        ready(Ok::<_, Infallible>(answer))
    });
    let connection = http().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection that was turned away ended early");
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection panicked");
    }
}

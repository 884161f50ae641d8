//! Accepts connections, lets in who may come in, and ends in order.
//!
//! Laws: the kernel says who is at the other end; the daemon's own user and root are let in, others
//! hear that they are not. Whoever is turned away, or slow, or gone, holds nothing for longer than
//! [`crate::bounds`] says. When the end comes, nobody new is accepted, answers under way are
//! finished, streams say that they end.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io;
use std::pin::pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use upbeat_api::{Problem, ProblemKind};

use crate::backend::Backend;
use crate::bounds::{
    ACCEPT_PAUSE, CONNECTIONS_MAX, DRAIN_TIMEOUT, HEAD_MAX, HEAD_TIMEOUT, HEADERS_MAX, REFUSAL_TIMEOUT,
    REFUSALS_MAX,
};
use crate::connections::Open;
use crate::extract::Caller;
use crate::refusal::Refusal;
use crate::router::router_until;
use crate::socket::Name;
use crate::streams::Closing;

/// Serves until `shutdown`, then ends in order and removes the socket. Returns when the last
/// connection is closed, at most [`DRAIN_TIMEOUT`] after `shutdown`.
pub async fn serve<B: Backend>(
    listener: UnixListener,
    backend: B,
    shutdown: impl Future<Output = ()> + Send,
) {
    let name = Name::of(&listener);
    let (close, _) = watch::channel(false);
    let closing = Closing::told_by(&close);
    let routes = TowerToHyperService::new(router_until(backend, closing.clone()));
    let own_uid = rustix::process::geteuid().as_raw();
    let (connections, refusals) =
        (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Arc::new(Semaphore::new(REFUSALS_MAX)));
    let mut tasks = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            // Takes up what connections end with, so that they do not pile up.
            Some(ended) = tasks.join_next() => { note(ended); continue }
            accepted = accept(&listener, &refusals) => accepted,
        };
        let (stream, refusal_permit) = accepted;
        match entry(&stream, own_uid, &connections) {
            Ok((caller, permit)) => {
                drop(refusal_permit);
                tasks.spawn(admitted(stream, caller, routes.clone(), closing.clone(), permit));
            }
            Err(problem) => {
                tracing::warn!(problem = %problem.message, "a connection is turned away");
                tasks.spawn(turned_away(stream, problem, refusal_permit));
            }
        }
    }
    if let Some(name) = name {
        name.remove();
    }
    drop(listener);
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

/// The next connection, once there is room to turn it away if need be.
async fn accept(listener: &UnixListener, refusals: &Arc<Semaphore>) -> (UnixStream, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = refusals.clone().acquire_owned().await else {
            // Never closed; but if it were, nobody would be accepted.
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether there is a place for whoever it is.
fn entry(
    stream: &UnixStream,
    own_uid: u32,
    connections: &Arc<Semaphore>,
) -> Result<(Caller, OwnedSemaphorePermit), Problem> {
    let uid = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => return Err(unknown_peer(&error)),
    };
    if !is_admitted(uid, own_uid) {
        let message = format!("uid {uid} may not speak to this daemon, which runs as uid {own_uid}");
        return Err(Problem::new(ProblemKind::Forbidden, message)
            .with_hint("only its own user and root may; start a daemon of your own with `upbeat serve`"));
    }
    let permit = connections.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{CONNECTIONS_MAX} connections are open, which is as many as there may be");
        Problem::new(ProblemKind::Unavailable, message).with_hint("close some, and ask again")
    })?;
    Ok((Caller { uid }, permit))
}

fn unknown_peer(error: &io::Error) -> Problem {
    Problem::new(ProblemKind::Forbidden, format!("it cannot be known who asks: {error}"))
}

/// The rule of the door.
fn is_admitted(peer_uid: u32, own_uid: u32) -> bool {
    peer_uid == own_uid || peer_uid == 0
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX);
    http
}

async fn admitted(
    stream: UnixStream,
    caller: Caller,
    routes: TowerToHyperService<axum::Router>,
    mut closing: Closing,
    permit: OwnedSemaphorePermit,
) {
    let _open = Open::one();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller);
        routes.call(request)
    });
    let mut connection = pin!(http().serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = closing.closing() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, uid = caller.uid, "a connection ended early");
    }
    drop(permit);
}

async fn turned_away(stream: UnixStream, problem: Problem, permit: OwnedSemaphorePermit) {
    let service = service_fn(move |_: Request<Incoming>| {
        let mut answer: Response<Body> = Refusal::from(problem.clone()).into_response();
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        ready(Ok::<_, Infallible>(answer))
    });
    let connection = http().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(REFUSAL_TIMEOUT, connection).await {
        tracing::debug!(%error, "a connection that was turned away ended early");
    }
    drop(permit);
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::is_admitted;

    #[test]
    fn only_the_daemons_own_user_and_root_are_let_in() {
        assert!(is_admitted(1000, 1000));
        assert!(is_admitted(0, 1000));
        assert!(is_admitted(0, 0));
        assert!(!is_admitted(1001, 1000));
        assert!(!is_admitted(1000, 0));
    }
}

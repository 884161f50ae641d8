//! From the table of endpoints to a router, and what holds for every request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use upbeat_api::{Endpoint, Problem, ProblemKind};

use crate::access::{self, Peer};
use crate::backend::Backend;
use crate::handlers::{Shared, handler};
use crate::refusal::Refusal;
use crate::streams::Closing;

/// The names every door answers to. A browser that was led here by somebody else's name is not
/// answered.
const HOSTS: &[&str] = &["", "localhost", "upbeat"];

/// All routes of the native API. Who asks must be put into the request by whoever accepts it, as
/// [`crate::serve`] does; without that, nothing can be changed.
pub fn router<B: Backend>(backend: B) -> Router {
    router_until(Shared { backend, closing: Closing::never(), hosts: Arc::default() })
}

/// As [`router`], with streams that end when the server does, and with the names of a door.
pub(crate) fn router_until<B: Backend>(here: Shared<B>) -> Router {
    let mut router = Router::new();
    for &endpoint in Endpoint::ALL {
        let may = middleware::from_fn_with_state((here.clone(), endpoint), access::authorize::<B>);
        router = router.route(endpoint.path(), handler::<B>(endpoint).route_layer(may));
    }
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(here.clone())
        .layer(middleware::from_fn_with_state(here.clone(), access::authenticate::<B>))
        .layer(middleware::from_fn_with_state(here, check_host::<B>))
        .layer(middleware::from_fn(survive_panics))
}

async fn unknown_route(uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(200).collect();
    let problem = Problem::new(ProblemKind::NotFound, format!("there is no `{path}` here"));
    problem.with_hint("`GET /api/v1/openapi.json` lists what there is").into()
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::bad_request(format!("`{}` cannot be asked with {method}", uri.path()))
        .with_hint("`GET /api/v1/openapi.json` says how")
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
}

async fn check_host<B: Backend>(State(here): State<Shared<B>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    // An address is no name that leads somebody here who meant another; and it may listen on all.
    let to = request.extensions().get::<Peer>().and_then(|peer| peer.to);
    let to = to.map(|to| to.to_canonical().to_string());
    let host = headers.get(header::HOST).map_or(Ok(""), |host| host.to_str()).map(without_port);
    let is_ours = |host: &str| {
        let mut names = HOSTS.iter().copied().chain(here.hosts.iter().map(String::as_str));
        names.any(|ours| host.eq_ignore_ascii_case(ours)) || Some(host) == to.as_deref()
    };
    let (message, hint) = if !host.is_ok_and(is_ours) {
        (
            "the `Host` of the request is not this server",
            "use `Host: localhost`, or one of `api.allowed_hosts`",
        )
    } else if headers.contains_key(header::ORIGIN) {
        ("web pages may not ask this server", "leave out the `Origin` header")
    } else {
        return next.run(request).await;
    };
    access::turned_away(&here.backend, &request, ProblemKind::Forbidden.status(), message);
    Refusal::from(Problem::new(ProblemKind::Forbidden, message).with_hint(hint)).into_response()
}

/// `localhost:80` → `localhost`, `[::1]:80` → `::1`.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _port)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
    }
}

/// A bug in a handler is the problem of one request, not of the daemon.
async fn survive_panics(request: Request, next: Next) -> Response {
    let asked = format!("{} {}", request.method(), request.uri().path());
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().copied();
            let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            tracing::error!(asked, said, "a handler panicked");
            let problem = Problem::new(ProblemKind::Internal, format!("a bug in Upbeat met `{asked}`"));
            Refusal::from(problem.with_hint("the daemon's log says more; please report it")).into_response()
        }
    }
}

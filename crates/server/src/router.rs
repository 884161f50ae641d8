//! From the table of endpoints to a router, and what holds for every request.

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use upbeat_api::{Endpoint, Problem, ProblemKind};

use crate::backend::Backend;
use crate::compat::guide;
use crate::handlers::{Shared, handler};
use crate::refusal::Refusal;
use crate::streams::Closing;

/// The names this server answers to. A browser that was led here by somebody else's name is not
/// answered.
const HOSTS: &[&str] = &["", "localhost", "upbeat"];

/// All routes of the native API. Who asks must be put into the request by whoever accepts it, as
/// [`crate::serve`] does; without that, nothing can be changed.
pub fn router<B: Backend>(backend: B) -> Router {
    router_until(backend, Closing::never())
}

/// As [`router`], with streams that end when the server does.
pub(crate) fn router_until<B: Backend>(backend: B, closing: Closing) -> Router {
    let mut router = Router::new();
    for &endpoint in Endpoint::ALL {
        router = router.route(endpoint.path(), handler::<B>(endpoint));
    }
    guide::onto(router)
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Shared { backend, closing })
        .layer(middleware::from_fn(check_host))
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

async fn check_host(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).map_or(Ok(""), |host| host.to_str());
    let name = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _port)| name));
    if !name.is_ok_and(|name| HOSTS.iter().any(|ours| name.eq_ignore_ascii_case(ours))) {
        let problem = Problem::new(ProblemKind::Forbidden, "the `Host` of the request is not this server");
        return Refusal::from(problem.with_hint("use `Host: localhost`")).into_response();
    }
    if headers.contains_key(header::ORIGIN) {
        let problem = Problem::new(ProblemKind::Forbidden, "web pages may not ask this server");
        return Refusal::from(problem.with_hint("leave out the `Origin` header")).into_response();
    }
    next.run(request).await
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

//! From the table of endpoints to a router, and what holds for every request.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use futures_util::FutureExt;
use upbeat_api::{Endpoint, Problem, ProblemKind, Role};

use crate::access::{self, Peer};
use crate::backend::Backend;
use crate::bounds::PATH_SHOWN;
use crate::compat::{guide, nixmade};
use crate::handlers::{Shared, handler};
use crate::host;
use crate::refusal::Refusal;
use crate::rollouts::rooms::Rooms;
use crate::streams::{Closing, OpenStreams};

/// All routes of the native API. Who asks must be put into the request by whoever accepts it, as
/// [`crate::serve`] does; without that, nothing can be changed.
pub fn router<B: Backend>(backend: B) -> Router {
    let (closing, hosts, streams) = (Closing::never(), Arc::default(), OpenStreams::default());
    router_until(Shared { backend, closing, hosts, streams, rooms: Rooms::default() })
}

/// As [`router`], with streams that end when the server does, and with the names of a door.
pub(crate) fn router_until<B: Backend>(here: Shared<B>) -> Router {
    let mut router = Router::new();
    for &endpoint in Endpoint::ALL {
        router = guarded(router, &here, endpoint.path(), endpoint.role(), handler::<B>(endpoint));
    }
    finished(nixmade::onto(guide::onto(router, &here), &here), here, unknown_route)
}

/// Of the door at which there is nothing but the first engine's paths.
pub(crate) fn rollouts_until<B: Backend>(here: Shared<B>) -> Router {
    finished(nixmade::onto(Router::new(), &here), here, nothing_else)
}

/// What holds for every request, whatever is asked.
fn finished<B: Backend, T: 'static>(
    router: Router<Shared<B>>,
    here: Shared<B>,
    unknown: impl Handler<T, Shared<B>>,
) -> Router {
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(here.clone())
        .layer(axum::Extension(here.rooms.clone()))
        .layer(middleware::from_fn_with_state(here.clone(), access::authenticate::<B>))
        .layer(middleware::from_fn_with_state(here, check_host::<B>))
        .layer(middleware::from_fn(survive_panics))
}

/// The one way for a route onto the router: with the least role that may ask it. A test sees to it that
/// there is no other.
pub(crate) fn guarded<B: Backend>(
    router: Router<Shared<B>>,
    here: &Shared<B>,
    path: &str,
    least: Role,
    handler: MethodRouter<Shared<B>>,
) -> Router<Shared<B>> {
    let may = middleware::from_fn_with_state((here.clone(), least), access::authorize::<B>);
    router.route(path, handler.route_layer(may))
}

async fn nothing_else(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(PATH_SHOWN).collect();
    let problem =
        Problem::new(ProblemKind::NotFound, format!("there is no `{path}` here, but rollouts alone"));
    nixmade::refused(problem.with_hint(nixmade::HINT).into())
}

async fn unknown_route(uri: Uri) -> Response {
    let path: String = uri.path().chars().take(PATH_SHOWN).collect();
    let problem = Problem::new(ProblemKind::NotFound, format!("there is no `{path}` here"));
    let hint = match nixmade::is_its(uri.path()) {
        true => nixmade::HINT,
        false => "`GET /api/v1/openapi.json` lists what there is",
    };
    refused(&uri, problem.with_hint(hint).into())
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let hint = match nixmade::is_its(uri.path()) {
        true => nixmade::HINT,
        false => "`GET /api/v1/openapi.json` says how",
    };
    let refusal = Refusal::bad_request(format!("`{}` cannot be asked with {method}", uri.path()))
        .with_hint(hint)
        .with_status(StatusCode::METHOD_NOT_ALLOWED);
    refused(&uri, refusal)
}

/// In the shape of all answers below that path: whoever refuses a request, wherever, says so by this.
pub(crate) fn refused(uri: &Uri, refusal: Refusal) -> Response {
    match uri.path() {
        path if guide::is_its(path) => guide::refused(refusal),
        path if nixmade::is_its(path) => nixmade::refused(refusal),
        _ => refusal.into_response(),
    }
}

async fn check_host<B: Backend>(State(here): State<Shared<B>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let to = request.extensions().get::<Peer>().and_then(|peer| peer.to);
    let (message, hint) = if !host::is_ours(request.uri(), headers, &here.hosts, to) {
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
    refused(request.uri(), Problem::new(ProblemKind::Forbidden, message).with_hint(hint).into())
}

/// A bug in a handler is the problem of one request, not of the daemon.
async fn survive_panics(request: Request, next: Next) -> Response {
    let asked = format!("{} {}", request.method(), request.uri().path());
    let uri = request.uri().clone();
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().copied();
            let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            tracing::error!(asked, said, "a handler panicked");
            let problem = Problem::new(ProblemKind::Internal, format!("a bug in Upbeat met `{asked}`"));
            refused(&uri, problem.with_hint("the daemon's log says more; please report it").into())
        }
    }
}

//! Who asks, whether they may, and the record of what they did.
//!
//! Laws: over TCP nobody is answered without a token, whatever they ask; but for rollouts, where somebody has
//! opened a loopback address for them ([`crate::OpenRollouts`]), and nothing else is there. Each endpoint has a least
//! role, in its table, and none is reached past [`authorize`]. A change is recorded before it is made
//! and after it ([`changed`]). Whoever is turned away is told why, and that is recorded, too. A token
//! is shown by nothing.

use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use tokio::time::Instant;
use upbeat_api::{
    AppName, Asked, Endpoint, Need, Operation, OperationId, Problem, ProblemKind, Refused, Role, TokenName,
    Whom,
};

use upbeat_api::rollouts::RolloutChanged;
use upbeat_model::rollout::RolloutState;

use crate::afterwards::Afterwards;
use crate::backend::{Answer, Backend};
use crate::bounds::{MISSED_MAX, PATH_SHOWN, STREAM_LOOK};
use crate::handlers::{Reply, Shared};
use crate::place::Seat;
use crate::refusal::Refusal;
use crate::router::refused;
use crate::streams::{self, Holding, OpenStream};

/// Who is known to ask, and what they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: Name,
    pub(crate) role: Role,
    /// The address at the other end, where there is one.
    pub(crate) from: Option<SocketAddr>,
}

/// By what somebody is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The kernel says so.
    Uid(u32),
    /// They have this token.
    Token(TokenName),
    /// They came to where rollouts are open to this machine, and nobody knows more.
    RolloutsListener,
}

impl Caller {
    /// As records and operations have it.
    pub(crate) fn who(&self) -> String {
        match &self.name {
            Name::Uid(uid) => format!("uid {uid}"),
            Name::Token(name) => format!("token {name}"),
            Name::RolloutsListener => crate::ROLLOUTS_LISTENER.to_owned(),
        }
    }
}

/// The other end of a connection over TCP, of whom nothing else is known yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) from: SocketAddr,
    /// The address of ours that it came to.
    pub(crate) to: Option<IpAddr>,
}

/// The answer to nobody.
pub(crate) fn nobody() -> Refusal {
    Problem::new(ProblemKind::Forbidden, "it is not known who asks").into()
}

/// Who is behind a request over TCP: the token says. On a unix socket the kernel has said it already, and who
/// came to where rollouts are open is not asked.
pub(crate) async fn authenticate<B: Backend>(
    State(here): State<Shared<B>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let Some(Peer { from, .. }) = peer.filter(|_| request.extensions().get::<Caller>().is_none()) else {
        return next.run(request).await;
    };
    let token = token(request.headers()).map(str::to_owned);
    let known = match &token {
        Ok(token) => here.backend.authenticate(token).await,
        Err(problem) => Err(problem.clone()),
    };
    match known {
        Ok((name, role)) => {
            if let Some(seat) = request.extensions().get::<Seat>().cloned() {
                seat.is_busy().await;
            }
            let caller = Caller { name: Name::Token(name.clone()), role, from: Some(from) };
            request.extensions_mut().insert(caller);
            let uri = request.uri().clone();
            let afterwards = request.extensions().get::<Afterwards>().cloned();
            let answer = next.run(request).await;
            match token {
                Ok(token) if streams::is_stream(&answer) => match here.streams.open(&name) {
                    Ok(open) => while_it_holds(here.backend, token, answer, open),
                    Err(problem) => refused(&uri, problem.into()),
                },
                Ok(token) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    let Some(afterwards) = afterwards else { return answer };
                    match here.streams.open(&name) {
                        Ok(open) => {
                            afterwards.holding(open);
                            afterwards.unless(holds_no_more(here.backend, token));
                            answer
                        }
                        Err(problem) => {
                            drop(afterwards.take());
                            refused(&uri, problem.into())
                        }
                    }
                }
                _ => answer,
            }
        }
        Err(problem) => {
            turned_away(&here.backend, &request, problem.kind.status(), &problem.message);
            let mut answer = refused(request.uri(), problem.into());
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            // What follows on the connection is read by nobody.
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            answer
        }
    }
}

/// A stream that breaks off when its token does not hold any more, and is counted until it ends.
fn while_it_holds<B: Backend>(backend: B, token: String, answer: Response, open: OpenStream) -> Response {
    answer.map(|body| {
        let body = Body::new(Holding::new(body, open));
        let begun = (body.into_data_stream(), Box::pin(holds_no_more(backend, token)));
        Body::from_stream(stream::unfold(begun, async |(mut body, mut over)| {
            tokio::select! {
                biased;
                // Without a word of an end: whoever reads it asks again, and is told why not.
                () = &mut over => None,
                chunk = body.next() => Some((chunk?, (body, over))),
            }
        }))
    })
}

/// Until a token does not hold any more, or cannot be looked up for too long.
async fn holds_no_more<B: Backend>(backend: B, token: String) {
    let mut looks = tokio::time::interval_at(Instant::now() + STREAM_LOOK, STREAM_LOOK);
    let mut missed = 0;
    loop {
        looks.tick().await;
        missed = match backend.authenticate(&token).await {
            Ok(_) => 0,
            Err(Problem { kind: ProblemKind::Unauthorized, .. }) => return,
            // That it cannot be looked up says nothing of it: it held, and is looked up soon.
            Err(_) if missed < MISSED_MAX => missed + 1,
            Err(_) => return,
        };
    }
}

fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    let refuse = |message: &str| {
        Problem::new(ProblemKind::Unauthorized, message).with_hint(
            "send `Authorization: Bearer TOKEN`; `upbeat token create` makes one where the daemon runs",
        )
    };
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    match (given.next(), given.next()) {
        (None, _) => Err(refuse("there is no token")),
        (Some(_), Some(_)) => Err(refuse("there is more than one `Authorization`")),
        (Some(given), None) => {
            let (scheme, token) =
                given.to_str().ok().and_then(|given| given.split_once(' ')).unwrap_or_default();
            match scheme.eq_ignore_ascii_case("bearer") {
                true => Ok(token.trim()),
                false => Err(refuse("what `Authorization` holds is no token")),
            }
        }
    }
}

/// Whether whoever asks may ask what is for these.
pub(crate) async fn authorize<B: Backend>(
    State((here, least)): State<(Shared<B>, Role)>,
    request: Request,
    next: Next,
) -> Response {
    let Some(caller) = request.extensions().get::<Caller>() else {
        return refused(request.uri(), nobody());
    };
    let role = caller.role;
    if role >= least {
        return next.run(request).await;
    }
    let message = format!("{} is {role}, and this is for {least}s", caller.who());
    turned_away(&here.backend, &request, ProblemKind::Forbidden.status(), &message);
    let hint = match caller.name {
        Name::Uid(_) => "the daemon's own user and root are admins".to_owned(),
        Name::Token(_) | Name::RolloutsListener => {
            format!("`upbeat token create --role {least}` makes a token that may")
        }
    };
    refused(request.uri(), Problem::new(ProblemKind::Forbidden, message).with_hint(hint).into())
}

/// Records that a request was turned away.
pub(crate) fn turned_away<B: Backend>(backend: &B, request: &Request, status: u16, why: &str) {
    let caller = request.extensions().get::<Caller>();
    let peer = request.extensions().get::<Peer>().map(|peer| peer.from);
    let is_known = caller.is_some_and(|caller| caller.name != Name::RolloutsListener);
    let whom = if is_known { Whom::Known } else { Whom::Stranger };
    let refused = Refused {
        who: caller.map_or_else(|| "nobody known".to_owned(), Caller::who),
        from: caller.and_then(|caller| caller.from).or(peer).map(|from| from.to_string()),
        method: request.method().as_str().chars().take(PATH_SHOWN).collect(),
        path: request.uri().path().chars().take(PATH_SHOWN).collect(),
        status,
        why: why.to_owned(),
        not_written: 0,
    };
    backend.refused(refused, whom);
}

/// What is about to be changed, for the record.
pub(crate) struct Change {
    pub(crate) endpoint: Endpoint,
    pub(crate) app: Option<AppName>,
    pub(crate) what: String,
    pub(crate) need: Need,
}

/// What a change answers with.
pub(crate) trait Outcome: Send + 'static {
    /// The operation it began, if it is one.
    fn operation(&self) -> Option<OperationId> {
        None
    }
}

impl Outcome for Operation {
    fn operation(&self) -> Option<OperationId> {
        Some(self.id)
    }
}

impl Outcome for upbeat_api::IssuedToken {}

impl Outcome for RolloutChanged {}

impl Outcome for RolloutState {}

impl Outcome for upbeat_model::rollout::UnitState {}

impl Outcome for upbeat_model::WebhookTested {}

impl Outcome for () {}

impl Outcome for upbeat_api::RemovedVolumes {}

impl Outcome for upbeat_api::RemovedNetworks {}

/// A change is recorded, made whole and recorded again, also when the one who asked for it does not
/// wait for the answer.
pub(crate) async fn changed<B: Backend, T: Outcome>(
    here: Shared<B>,
    caller: Caller,
    change: Change,
    making: impl Future<Output = Answer<T>> + Send + 'static,
) -> Reply<T> {
    let Change { endpoint, app, what, need } = change;
    let asked = Asked {
        who: caller.who(),
        from: caller.from.map(|from| from.to_string()),
        method: endpoint.method().as_str().to_owned(),
        route: endpoint.path().to_owned(),
        app,
        what,
    };
    let came_of = |answer: &Answer<T>| match answer {
        Ok(answer) => (200, answer.operation()),
        Err(problem) => (problem.kind.status(), None),
    };
    Ok(axum::Json(recorded(here, asked, need, making, came_of).await?))
}

/// The same of what is no [`Endpoint`], or has errors of its own: `came_of` says with which status it is
/// answered, and the operation it began.
pub(crate) async fn recorded<B: Backend, T, E>(
    here: Shared<B>,
    asked: Asked,
    need: Need,
    making: impl Future<Output = Result<T, E>> + Send + 'static,
    came_of: impl FnOnce(&Result<T, E>) -> (u16, Option<OperationId>) + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Problem> + Send + 'static,
{
    whole(async move {
        let ticket = here.backend.asked(asked, need).await?;
        let answer = making.await;
        let (status, operation) = came_of(&answer);
        here.backend.answered(ticket, status, operation).await;
        answer
    })
    .await
}

/// Done to its end, also when the one who asked for it does not wait for the answer.
pub(crate) async fn whole<T, E>(doing: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Problem> + Send + 'static,
{
    match tokio::spawn(doing).await {
        Ok(answer) => answer,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Problem::new(ProblemKind::Unavailable, "the daemon is shutting down").into()),
    }
}

//! Images: whether one is there, and building one of a context that is handed on as it comes.
//!
//! Laws: of a context nothing is kept but the part that is on its way; it is read as fast as the engine takes it. A
//! build goes on only as long as somebody hears what is told of it, and what came of it is recorded whoever goes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::BoxError;
use axum::body::BodyDataStream;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, timeout};
use upbeat_api::{
    Asked, BUILD_LINE_MAX, BUILD_TYPE, BuildWord, Endpoint, ImageBuild, ImageQuery, ImageState, Need,
    Problem, ProblemKind,
};

use crate::access;
use crate::backend::Backend;
use crate::bounds::{BODY_TIMEOUT, CONTEXT_STALL, LEAST_RATE};
use crate::extract::{By, Query, json};
use crate::handlers::{Here, NoQuery, Reply, Shared, Streamed};
use crate::refusal::Refusal;
use crate::streams;

/// What is recorded of a build that nobody wanted any more before it came to its end: HTTP has no status for who
/// goes, and this is the usual one.
const CALLED_OFF: u16 = 499;

pub(crate) async fn image<B: Backend>(
    State(here): Here<B>,
    Query(query): Query<ImageQuery>,
) -> Reply<ImageState> {
    Ok(axum::Json(here.backend.image(query.name).await?))
}

pub(crate) async fn build<B: Backend>(
    State(here): Here<B>,
    by: By,
    _: Query<NoQuery>,
    request: Request,
) -> Streamed {
    by.refuse_key("/api/v1/images", "send it again without one: what is there already is not built anew")?;
    check_type(request.headers())?;
    let mut body = request.into_body().into_data_stream();
    let (wanted, rest) = first_line(&mut body).await?;
    let asked = Asked {
        who: by.caller.who(),
        from: by.caller.from.map(|from| from.to_string()),
        method: Endpoint::BuildImage.method().as_str().to_owned(),
        route: Endpoint::BuildImage.path().to_owned(),
        app: Some(wanted.app.clone()),
        what: format!("build {} for {}", wanted.image, wanted.service),
    };
    let mut recording = begun(&here, asked).await?;
    let why = Broken::default();
    let context = stream::once(std::future::ready(Ok(rest))).chain(paced(body, why.clone())).boxed();
    let words = match here.backend.build(wanted, context).await {
        Ok(words) => words,
        Err(problem) => {
            // What an engine says of a context that broke off is only that it did.
            let problem = why.said().unwrap_or(problem);
            recording.ended(problem.kind.status());
            return Err(problem.into());
        }
    };
    let told = words.inspect(move |word| match word {
        Ok(BuildWord::Built { .. }) => recording.ended(200),
        Ok(BuildWord::Step { .. } | BuildWord::Output { .. }) => {}
        Err(problem) => recording.ended(problem.kind.status()),
    });
    Ok(streams::lines(told.boxed(), here.closing))
}

fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(header::CONTENT_TYPE).is_some_and(|given| given.as_bytes() == BUILD_TYPE.as_bytes()) {
        true => Ok(()),
        false => {
            let hint = format!(
                "send a line of JSON that says what is built and behind it the tar, with `Content-Type: {BUILD_TYPE}`"
            );
            Err(Refusal::bad_request("the body is not declared as a build").with_hint(hint))
        }
    }
}

/// What is to be built, and what came of the context with it.
async fn first_line(body: &mut BodyDataStream) -> Result<(ImageBuild, Bytes), Refusal> {
    let read = async {
        let mut all = BytesMut::new();
        loop {
            if let Some(end) = all.iter().position(|byte| *byte == b'\n') {
                let line = all.split_to(end + 1);
                return Ok((json(&line)?, all.freeze()));
            }
            if all.len() > BUILD_LINE_MAX {
                let why = format!("the first line of the body is longer than {} MiB", BUILD_LINE_MAX >> 20);
                return Err(Refusal::bad_request(why).with_hint("put what arguments hold into the context"));
            }
            match body.next().await {
                Some(Ok(part)) => all.extend_from_slice(&part),
                Some(Err(_)) => return Err(Refusal::bad_request("the body broke off")),
                None => return Err(Refusal::bad_request("the body ended before its first line did")),
            }
        }
    };
    let late = || Refusal::bad_request(format!("the body did not begin within {} s", BODY_TIMEOUT.as_secs()));
    timeout(BODY_TIMEOUT, read).await.unwrap_or_else(|_| Err(late()))
}

/// Why a context broke off.
#[derive(Clone, Debug, Default)]
struct Broken(Arc<Mutex<Option<String>>>);

impl Broken {
    fn say(&self, why: String) -> BoxError {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
        why.into()
    }

    fn said(&self) -> Option<Problem> {
        let why = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(Problem::new(ProblemKind::BadRequest, format!("the context of the build broke off: {why}")))
    }
}

/// A context that has to come at a pace: who has a turn at the engine holds up others. Only the time counts for which
/// the sender is waited for, as the engine may be slow, too.
fn paced(
    body: BodyDataStream,
    why: Broken,
) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + 'static {
    let begun = Some((body, why, Duration::ZERO, 0_u64));
    Box::pin(stream::unfold(begun, async |going| {
        let (mut body, why, waited, moved) = going?;
        let allowed = CONTEXT_STALL + Duration::from_millis(moved.saturating_mul(1_000) / LEAST_RATE);
        let since = Instant::now();
        match timeout(allowed.saturating_sub(waited), body.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(part))) => {
                let moved = moved + part.len() as u64;
                Some((Ok(part), Some((body, why, waited + since.elapsed(), moved))))
            }
            Ok(Some(Err(error))) => Some((Err(why.say(error.to_string())), None)),
            Err(_) => Some((Err(why.say("it came too slowly".to_owned())), None)),
        }
    }))
}

/// A build on record, of which it is not known yet what comes of it.
struct Recording<B: Backend> {
    backend: B,
    ticket: Option<B::Ticket>,
}

async fn begun<B: Backend>(here: &Shared<B>, asked: Asked) -> Result<Recording<B>, Refusal> {
    let backend = here.backend.clone();
    // Whole: on record twice, also where nobody waits for this answer any more.
    let recording = access::whole(async move {
        let ticket = Some(backend.asked(asked, Need::Recorded).await?);
        Ok::<_, Problem>(Recording { backend, ticket })
    });
    Ok(recording.await?)
}

impl<B: Backend> Recording<B> {
    fn ended(&mut self, status: u16) {
        let Some(ticket) = self.ticket.take() else { return };
        let backend = self.backend.clone();
        // Where there is no runtime any more, the daemon is gone, and its successor finds that nothing was answered.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { backend.answered(ticket, status, None).await });
        }
    }
}

impl<B: Backend> Drop for Recording<B> {
    fn drop(&mut self) {
        self.ended(CALLED_OFF);
    }
}

//! What a request carries, read strictly: who asks, the path's names, the query, the body.

use axum::BoxError;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;
use serde::de::DeserializeOwned;
use upbeat_api::{IdempotencyKey, KEY_HEADER, Origin, Up};

use crate::access::{self, Caller};
use crate::bounds::{BODY_TIMEOUT, REPORTS_BYTES_MAX};
use crate::pace::{Paced, Stalled};
use crate::refusal::Refusal;
use crate::rollouts::rooms::{Rooms, Taken};

/// Who asks for a change, and under which key.
pub(crate) struct By {
    /// For the change.
    pub(crate) origin: Origin,
    /// For its record.
    pub(crate) caller: Caller,
}

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Caller>().cloned().ok_or_else(access::nobody)?;
        let refuse = |why: String| Refusal::bad_request(format!("in `{KEY_HEADER}`: {why}"));
        let mut keys = parts.headers.get_all(KEY_HEADER).iter();
        let key = match (keys.next(), keys.next()) {
            (None, _) => None,
            (Some(key), None) => {
                let key = IdempotencyKey::new(String::from_utf8_lossy(key.as_bytes()));
                Some(key.map_err(|error| refuse(error.to_string()))?)
            }
            (Some(_), Some(_)) => return Err(refuse("there is more than one".to_owned())),
        };
        Ok(Self { origin: Origin { who: caller.who(), key }, caller })
    }
}

impl By {
    /// Where a change that is sent again would be another one, or the same without a key. Who counts on a key
    /// is not to find that out by an answer that was lost.
    pub(crate) fn refuse_key(&self, below: &str, hint: &str) -> Result<(), Refusal> {
        match self.origin.key {
            None => Ok(()),
            Some(_) => {
                Err(Refusal::bad_request(format!("in `{KEY_HEADER}`: no key is kept below `{below}`"))
                    .with_hint(hint))
            }
        }
    }
}

/// The parameters of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(error) => {
                let text = error.body_text();
                let text = text.strip_prefix("Invalid URL: ").unwrap_or(&text);
                Err(Refusal::bad_request(format!("in the path: {text}")))
            }
        }
    }
}

/// The query. Every key must be known.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(error) => {
                let text = error.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                Err(Refusal::bad_request(format!("in the query: {}", in_words(text))))
            }
        }
    }
}

/// A JSON body. Every field must be known.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        check_content_type(request.headers(), request.method())?;
        let hint = "split what it holds: a project into apps, reports by their targets";
        json(&whole(request.into_body(), Up::MAX_BYTES, hint).await?).map(Self)
    }
}

/// A JSON body that may be large, and its place among those that are.
pub(crate) struct Large<T>(pub(crate) T, pub(crate) Taken);

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequest<S> for Large<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        check_content_type(request.headers(), request.method())?;
        let (body, taken) = large(request, REPORTS_BYTES_MAX).await?;
        let said = taken.aside(move || json(&body)).await??;
        Ok(Self(said, taken))
    }
}

/// All of a body that may be large, and its place among those that are.
pub(crate) async fn large(request: Request, most: usize) -> Result<(Bytes, Taken), Refusal> {
    let hint = "report some of the targets at a time: the others stay as they are";
    fits(request.body(), most, hint)?;
    let taken = Rooms::for_body(&request, most).await?;
    let body = request.into_body();
    let read = match taken.is_held() {
        true => whole(Paced::new(body), most, hint).await?,
        false => whole(body, most, hint).await?,
    };
    let taken = taken.came_to(read.len() as u64);
    Ok((read, taken))
}

/// A body that is there. Errors: it is not JSON, or not such; with the place.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        // `.` is the body itself, `?` is where nothing had begun yet.
        let place = if matches!(path.as_str(), "." | "?") { String::new() } else { format!(" at `{path}`") };
        let why = in_words(&without_value(&error.into_inner().to_string()));
        Refusal::bad_request(format!("in the body{place}: {why}"))
    })?;
    json.end().map_err(|error| Refusal::bad_request(format!("in the body: {error}")))?;
    Ok(value)
}

/// Why something cannot be read, without what it says: it may be a secret in the wrong place.
pub(crate) fn without_value(error: &str) -> String {
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = error.strip_prefix(kind)
            && let Some((given, expected)) = rest.rsplit_once(", expected ")
        {
            // string "…", integer `…`
            let sort = given.split(['"', '`']).next().unwrap_or_default().trim_end();
            return format!("{kind}{sort}, expected {expected}");
        }
    }
    error.to_owned()
}

/// What the readers of numbers and fields say to programmers, to people.
pub(crate) fn in_words(error: &str) -> String {
    let error = error.replace("invalid digit found in string", "must be a whole number");
    let error = error.replace("cannot parse integer from empty string", "must be a whole number");
    let error = error.replace("number too large to fit in target type", "is too large a number");
    match error.split_once("missing field `") {
        Some((before, rest)) if rest.contains('`') => {
            let (field, after) = rest.split_once('`').unwrap_or((rest, ""));
            format!("{before}`{field}` is missing{after}")
        }
        _ => error,
    }
}

fn check_content_type(headers: &HeaderMap, method: &Method) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let essence = given.as_deref().map(|given| given.split(';').next().unwrap_or_default().trim());
    let is_json = |essence: &str| {
        essence.eq_ignore_ascii_case("application/json")
            || *method == Method::PATCH && essence.eq_ignore_ascii_case("application/merge-patch+json")
    };
    if essence.is_some_and(is_json) {
        return Ok(());
    }
    let message = match given {
        Some(given) => format!("the body is declared as `{}`", given.escape_debug()),
        None => "the body has no `Content-Type`".to_owned(),
    };
    Err(Refusal::bad_request(message).with_hint("send JSON, with `Content-Type: application/json`"))
}

fn too_large(most: usize, hint: &str) -> Refusal {
    Refusal::bad_request(format!("the body is larger than {} MiB", most >> 20))
        .with_hint(hint)
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// Errors: it is said beforehand that it has more bytes than `most`, and what to do then.
fn fits(body: &impl HttpBody, most: usize, hint: &str) -> Result<(), Refusal> {
    match body.size_hint().lower() > most as u64 {
        true => Err(too_large(most, hint)),
        false => Ok(()),
    }
}

/// All of a body. Errors: it has more bytes than `most`, and what to do then; it is not there in time.
pub(crate) async fn whole<B>(body: B, most: usize, hint: &str) -> Result<Bytes, Refusal>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    fits(&body, most, hint)?;
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(most, hint)),
        Ok(Err(error)) if error.is::<Stalled>() => Err(Refusal::bad_request(error.to_string())
            .with_hint(hint)
            .with_status(StatusCode::REQUEST_TIMEOUT)),
        Ok(Err(error)) => Err(Refusal::bad_request(format!("the body cannot be read: {error}"))),
        Err(_) => {
            Err(Refusal::bad_request(format!("the body was not there within {} s", BODY_TIMEOUT.as_secs()))
                .with_status(StatusCode::REQUEST_TIMEOUT))
        }
    }
}

//! A [`Problem`] as an HTTP answer.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use upbeat_api::{Problem, ProblemKind};

use crate::bounds::AGAIN_AFTER;

/// The answer to a request that is not done.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    problem: Problem,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Problem::new(ProblemKind::BadRequest, message).into()
    }

    /// With another status than that of the problem's kind, where HTTP has a more exact one.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = Some(hint.into());
        self
    }
}

impl Refusal {
    /// For an answer in another shape, which has no headers of its own.
    pub(crate) fn into_parts(self) -> (StatusCode, Problem) {
        (self.status, self.problem)
    }

    /// An answer in another shape, which is made of this.
    pub(crate) fn in_shape(self, shape: impl FnOnce(StatusCode, Problem) -> Response) -> Response {
        let mut response = shape(self.status, self.problem);
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        response
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // What cannot be had now may be had soon.
        let retry_after = (problem.kind == ProblemKind::Unavailable).then_some(AGAIN_AFTER);
        Self { status, problem, retry_after }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.in_shape(|status, problem| (status, Json(problem)).into_response())
    }
}

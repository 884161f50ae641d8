//! A [`Problem`] as an HTTP answer.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use upbeat_api::{Problem, ProblemKind};

/// The answer to a request that is not done.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    problem: Problem,
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
    /// For an answer in another shape.
    pub(crate) fn into_parts(self) -> (StatusCode, Problem) {
        (self.status, self.problem)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, problem }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}

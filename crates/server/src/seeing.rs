//! Handlers of what is only looked at: numbers, usage, times.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use upbeat_api::{AppName, Starts, Stats};

use crate::backend::Backend;
use crate::extract::{Path, Query};
use crate::handlers::{Here, NoQuery, Reply, Streamed};
use crate::streams;

/// What Prometheus is told that it gets.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn stats<B: Backend>(
    State(here): Here<B>,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
) -> Reply<Stats> {
    Ok(axum::Json(here.backend.stats(app).await?))
}

pub(crate) async fn watch_stats<B: Backend>(
    State(here): Here<B>,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
) -> Streamed {
    Ok(streams::states("stats", here.backend.watch_stats(app).await?, here.closing))
}

pub(crate) async fn starts<B: Backend>(
    State(here): Here<B>,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
) -> Reply<Starts> {
    Ok(axum::Json(here.backend.starts(app).await?))
}

pub(crate) async fn metrics<B: Backend>(State(here): Here<B>, _: Query<NoQuery>) -> Streamed {
    let page = here.backend.metrics().await?;
    let response: Response = ([(header::CONTENT_TYPE, TEXT_FORMAT)], page).into_response();
    Ok(response)
}

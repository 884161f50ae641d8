//! The streams of a service that runs: from a request to a connection that speaks the frames of commands beside it.
//!
//! Laws: as of commands, but that the service was there before and stays: a client that goes away ends nothing.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use hyper_util::rt::TokioIo;
use upbeat_api::{AppName, Asked, Attach, Endpoint, Need, ServiceName};

use crate::access;
use crate::backend::{Answer, Backend};
use crate::exec::{Running, converse, switched, upgradable};
use crate::extract::{By, Json, Path, Query};
use crate::handlers::{Here, NoQuery, Streamed};
use crate::refusal::Refusal;

/// Who takes nothing of what a service prints for so long is not attached any more: the engine keeps that much back, and
/// then the service itself would wait for whoever pressed Ctrl-S.
const PATIENCE: Duration = Duration::from_secs(5);

/// The handler.
pub(crate) async fn attach<B: Backend>(
    State(here): Here<B>,
    by: By,
    Path((app, service)): Path<(AppName, ServiceName)>,
    _: Query<NoQuery>,
    mut request: Request,
) -> Streamed {
    let (upgrade, afterwards) = upgradable(&mut request)?;
    let Json(attach) = <Json<Attach> as axum::extract::FromRequest<()>>::from_request(request, &()).await?;
    if attach.index == Some(0) {
        return Err(Refusal::bad_request("in the body at `index`: copies are counted from 1".to_owned()));
    }
    by.refuse_key(Endpoint::Attach.path(), "leave it out: nothing is made twice by it")?;
    let copy = attach.index.map(|index| format!("-{index}")).unwrap_or_default();
    let asked = Asked {
        who: by.caller.who(),
        from: by.caller.from.map(|from| from.to_string()),
        method: Endpoint::Attach.method().as_str().to_owned(),
        route: Endpoint::Attach.path().to_owned(),
        app: Some(app.clone()),
        what: format!("attach {service}{copy}{}", if attach.input { "" } else { " to listen" }),
    };
    let (backend, closing) = (here.backend.clone(), here.closing.clone());
    let starting = async move { backend.attach(app, service, attach).await };
    let came_of = |running: &Answer<Running>| match running {
        Ok(_) => (StatusCode::SWITCHING_PROTOCOLS.as_u16(), None),
        Err(problem) => (problem.kind.status(), None),
    };
    let running = access::recorded(here, asked, Need::Recorded, starting, came_of).await?;
    afterwards.then(async move {
        // An error: the client is gone before it was answered.
        if let Ok(stream) = upgrade.await {
            converse(TokioIo::new(stream), running, (closing, "and the service goes on"), Some(PATIENCE))
                .await;
        }
    });
    Ok(switched())
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use upbeat_api::ExecEnd;

    use super::*;
    use crate::exec::Printed;
    use crate::streams::Closing;

    /// A service that prints without end, and a client that takes nothing of it.
    async fn frozen(patience: Option<Duration>) -> bool {
        let (_client, stream) = tokio::io::duplex(64);
        let print = || Ok(Printed::Output(bytes::Bytes::from_static(&[b'x'; 32])));
        let running = Running {
            input: Box::new(tokio::io::sink()),
            output: futures_util::stream::repeat_with(print).boxed(),
            windows: None,
            end: Box::pin(std::future::pending::<ExecEnd>()),
        };
        let talk = converse(stream, running, (Closing::never(), ""), patience);
        tokio::time::timeout(Duration::from_secs(3600), talk).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_a_service_is_not_waited_for() {
        assert!(!frozen(Some(PATIENCE)).await);
        assert!(frozen(None).await, "of a command it is his own affair");
    }
}

//! Handlers of what is asked about webhooks.

use axum::extract::State;
use upbeat_api::{Endpoint, Need, WebhookName, WebhookState, WebhookTested};

use crate::access::{self, Change};
use crate::backend::Backend;
use crate::extract::{By, Path, Query};
use crate::handlers::{Here, NoQuery, Reply};

/// Below here no key is kept: a test that is asked for twice is sent twice, and moves nothing.
const BELOW: &str = "/api/v1/webhooks";

pub(crate) async fn webhooks<B: Backend>(
    State(here): Here<B>,
    _: Query<NoQuery>,
) -> Reply<Vec<WebhookState>> {
    Ok(axum::Json(here.backend.webhooks().await?))
}

/// Recorded, as it makes the daemon say something to others.
pub(crate) async fn test<B: Backend>(
    State(here): Here<B>,
    by: By,
    Path(name): Path<WebhookName>,
    _: Query<NoQuery>,
) -> Reply<WebhookTested> {
    by.refuse_key(BELOW, "leave it out, and ask again if the answer is lost")?;
    let what = format!("test webhook {name}");
    let change = Change { endpoint: Endpoint::TestWebhook, app: None, what, need: Need::Recorded };
    let backend = here.backend.clone();
    access::changed(here, by.caller, change, async move { backend.test_webhook(name).await }).await
}

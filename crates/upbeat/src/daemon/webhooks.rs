//! Webhooks of this daemon: who sends what they tell, and what requests ask about them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use upbeat_api::{Problem, ProblemKind};
use upbeat_control::EventLog;
use upbeat_control::webhooks::{Courier, Pending, Settings, TestError, Webhook, Webhooks};
use upbeat_drivers::clock;
use upbeat_drivers::controllers::Means;
use upbeat_drivers::webhooks::Sender;
use upbeat_model::{WebhookName, WebhookState, WebhookTested};
use upbeat_server::Answer;
use upbeat_store::{Store, StoreError};

use super::failpoint;
use super::refusals::unreadable;

/// Sends over the network what is told.
struct OverNetwork(Sender);

impl Courier for OverNetwork {
    fn secrets<'a>(&'a self, file: &'a Path) -> Pending<'a, Result<String, String>> {
        Box::pin(self.0.secrets(file))
    }

    fn post<'a>(
        &'a self,
        url: &'a str,
        headers: BTreeMap<String, String>,
        body: Vec<u8>,
    ) -> Pending<'a, Result<u16, String>> {
        Box::pin(async move { self.0.post(url, &headers, &body).await })
    }
}

/// Any number. Where the kernel gives none, there is the time: it parts what shall not come together, and names
/// what must not be mistaken for another; nothing is kept secret by it.
fn chance() -> u64 {
    getrandom::u64().unwrap_or_else(|_| clock::wall().0.unsigned_abs() ^ clock::mono().0.rotate_left(32))
}

/// Goes on where each came to.
///
/// Errors: what was kept cannot be read.
pub(super) async fn open(
    store: Store,
    events: EventLog,
    webhooks: Vec<Webhook>,
    means: Means,
) -> Result<Webhooks, StoreError> {
    let courier = Arc::new(OverNetwork(Sender::new(means)));
    let settings = Settings { wall: clock::wall, chance, courier, failpoint: failpoint::reach };
    Webhooks::open(store, events, webhooks, settings).await
}

pub(super) async fn list(webhooks: &Webhooks) -> Answer<Vec<WebhookState>> {
    webhooks.list().await.map_err(|error| unreadable("the events", &error))
}

pub(super) async fn test(webhooks: &Webhooks, name: &WebhookName) -> Answer<WebhookTested> {
    webhooks.test(name).await.map_err(|error| {
        let text = error.to_string();
        match error {
            TestError::NoSuchWebhook { known, .. } if known.is_empty() => Problem::new(
                ProblemKind::NotFound,
                text,
            )
            .with_hint(
                "none is set; they are tables `[webhooks.NAME]` of the settings, which are read at the start",
            ),
            TestError::NoSuchWebhook { known, .. } => {
                let known: Vec<&str> = known.iter().map(WebhookName::as_str).collect();
                Problem::new(ProblemKind::NotFound, text).with_hint(format!("there are {}", known.join(", ")))
            }
            TestError::UnderWay(_) => {
                Problem::new(ProblemKind::Conflict, text).with_hint("it is over within some seconds")
            }
            TestError::Unwritable(_) => Problem::new(ProblemKind::Internal, text),
        }
    })
}

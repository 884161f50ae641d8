//! What can be asked about webhooks: who is told of events, and how that goes.

use upbeat_model::{WebhookName, WebhookState, WebhookTested};

use crate::client::{Answer, Client};
use crate::endpoint::Endpoint;

impl Client {
    /// Every webhook, and how it goes, by name.
    pub async fn webhooks(&self) -> Answer<Vec<WebhookState>> {
        self.answer(self.request(Endpoint::Webhooks, &[], &[])).await
    }

    /// Sends a webhook's receiver a test, now. That it was not taken is an answer.
    pub async fn test_webhook(&self, name: &WebhookName) -> Answer<WebhookTested> {
        self.answer(self.request(Endpoint::TestWebhook, &[name.as_str()], &[])).await
    }
}

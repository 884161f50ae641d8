//! `webhook`, typed.

use upbeat_api::{EventWord, WebhookState};
use upbeat_model::{Wall, WebhookError, WebhookLost, WebhookWord};

use super::room::Room;
use super::script::Script;
use crate::face::examples::{NOW, ago};

fn webhook(name: &str, state: WebhookWord) -> WebhookState {
    WebhookState {
        name: name.parse().unwrap(),
        address: "https://hooks.example/…".into(),
        events: vec![EventWord::Rollout],
        apps: Vec::new(),
        namespaces: Vec::new(),
        state,
        last_delivered: Some(41),
        last_delivered_at: Some(ago(65)),
        pending: 0,
        pending_more: false,
        failures: 0,
        last_error: None,
        next_try: None,
        lost: None,
    }
}

fn webhooks() -> Script {
    Script::of(Vec::new()).with(|facts| {
        let error = |why: &str| Some(WebhookError { why: why.into(), at: ago(30) });
        let idle = WebhookState { last_error: error("HTTP 500"), ..webhook("audit", WebhookWord::Idle) };
        let retrying = WebhookState {
            pending: 2_003,
            pending_more: true,
            failures: 3,
            last_error: error("timed out\u{1b}[2J after 10s"),
            next_try: Some(Wall(NOW.0 + 8_000)),
            lost: Some(WebhookLost { count: 7, first: 12, last: 15 }),
            ..webhook("ci", WebhookWord::Retrying)
        };
        let off = WebhookState {
            last_delivered: None,
            last_delivered_at: None,
            pending: 1,
            last_error: error("HTTP 410"),
            ..webhook("old", WebhookWord::Off)
        };
        facts.webhooks = vec![idle, retrying, off];
    })
}

#[tokio::test]
async fn webhooks_are_listed_with_what_is_wrong_below() {
    insta::assert_snapshot!(Room::new().with(webhooks(), &["webhook", "ls"]).await, @r"
    WEBHOOK  STATE     DELIVERED  AGE  PENDING  TO
    audit    idle      41         1m   0        https://hooks.example/…
    ci       retrying  41         1m   2003+    https://hooks.example/…
    old      off       –          –    1        https://hooks.example/…
    ci: not taken 3 times, tried again at 12:00:08: timed out\u{1b}[2J after 10s
    ci: 7 events, of whatever kind, were gone before they were told, the last time 12 to 15
    old: off since 11:59:30, as its receiver is gone for good (HTTP 410); a new start of the daemon tries again
    --- Ok
    ");
    insta::assert_snapshot!(Room::new().with(webhooks(), &["-q", "webhook", "ls"]).await, @"
    audit
    ci
    old
    --- Ok
    ");
    insta::assert_snapshot!(Room::new().with(Script::of(Vec::new()), &["webhook", "ls"]).await, @"
    No webhook is set; each is a table `[webhooks.NAME]` of the daemon's settings.
    --- Ok
    ");
    let json = Room::new().with(webhooks(), &["webhook", "ls", "-o", "json"]).await;
    assert!(json.contains(r#""state": "retrying""#), "{json}");
}

#[tokio::test]
async fn a_test_says_what_came_back_and_fails_where_it_was_not_taken() {
    insta::assert_snapshot!(Room::new().with(webhooks(), &["webhook", "test", "ci"]).await, @"
    ci: taken within 12ms: HTTP 204 (`webhook-id: 0123456789abcdef_test_0000000000000001`)
    --- Ok
    ");
    insta::assert_snapshot!(Room::new().with(webhooks(), &["webhook", "test", "old"]).await, @"
    old: not taken within 12ms: timed out after 10s (`webhook-id: 0123456789abcdef_test_0000000000000001`)
    --- Failed
    ");
    insta::assert_snapshot!(Room::new().with(webhooks(), &["webhook", "test", "ci", "-o", "json"]).await, @r#"
    {
      "name": "ci",
      "delivered": true,
      "status": 204,
      "error": null,
      "id": "0123456789abcdef_test_0000000000000001",
      "took_ms": 12
    }
    --- Ok
    "#);
}

//! `webhook`: who is told of events, as lines.

use upbeat_model::{WebhookState, WebhookTested, WebhookWord};

use super::table::{Cell, Table};
use super::time::{age, clock};
use super::{Face, Tone, visible};

/// One line a webhook, and below them what is wrong.
pub fn list(webhooks: &[WebhookState], face: &Face) -> String {
    if webhooks.is_empty() {
        return "No webhook is set; each is a table `[webhooks.NAME]` of the daemon's settings.\n".into();
    }
    let mut table = Table::new(["WEBHOOK", "STATE", "DELIVERED", "AGE", "PENDING", "TO"]);
    for webhook in webhooks {
        let tone = match webhook.state {
            WebhookWord::Idle => Tone::Good,
            WebhookWord::Delivering | WebhookWord::Retrying => Tone::Caution,
            WebhookWord::Off => Tone::Bad,
        };
        let more = if webhook.pending_more { "+" } else { "" };
        table.row([
            Cell::from(&webhook.name),
            Cell::toned(tone, webhook.state.as_str()),
            Cell::from(webhook.last_delivered.map_or("–".to_owned(), |number| number.to_string())),
            Cell::from(webhook.last_delivered_at.map_or("–".to_owned(), |at| age(at, face.now))),
            Cell::from(format!("{}{more}", webhook.pending)),
            Cell::from(visible(&webhook.address)),
        ]);
    }
    let mut text = table.render(face);
    for webhook in webhooks {
        for line in troubles(webhook, face) {
            text.push_str(&format!("{}: {}\n", webhook.name, visible(&line)));
        }
    }
    text
}

fn troubles(webhook: &WebhookState, face: &Face) -> Vec<String> {
    let mut lines = Vec::new();
    let error = webhook.last_error.as_ref();
    if let (WebhookWord::Off, Some(error)) = (webhook.state, error) {
        lines.push(format!(
            "off since {}, as its receiver is gone for good ({}); a new start of the daemon tries again",
            clock(error.at, face),
            error.why
        ));
    } else if let (1.., Some(error)) = (webhook.failures, error) {
        let times = if webhook.failures == 1 { "once" } else { &format!("{} times", webhook.failures) };
        let next = webhook.next_try.map(|at| format!(", tried again at {}", clock(at, face)));
        lines.push(format!("not taken {times}{}: {}", next.unwrap_or_default(), error.why));
    }
    if let Some(lost) = webhook.lost {
        lines.push(format!(
            "{}, of whatever kind, were gone before they were told, the last time {} to {}",
            super::count(usize::try_from(lost.count).unwrap_or(usize::MAX), "event"),
            lost.first,
            lost.last
        ));
    }
    lines
}

/// What came back of a test.
pub fn tested(tested: &WebhookTested, face: &Face) -> String {
    let (tone, word) = if tested.delivered { (Tone::Good, "taken") } else { (Tone::Bad, "not taken") };
    let said = match (&tested.error, tested.status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => format!("HTTP {status}"),
        (None, None) => "no answer".to_owned(),
    };
    let word = face.paint.tone(tone, word);
    let (took, id) = (upbeat_model::Millis(tested.took_ms), visible(&tested.id));
    format!("{}: {word} within {took}: {} (`webhook-id: {id}`)\n", tested.name, visible(&said))
}

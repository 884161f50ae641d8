//! What of a webhook makes no sense, or would not be honoured.
//!
//! No line of a file is shown with it: in the address may be a secret.

use upbeat_control::webhooks::WEBHOOKS_MAX;
use upbeat_model::rollout::{EntityId, check_address};
use upbeat_model::{AppName, Diagnostic, EventWord};

use super::check::nowhere;
use super::{Settings, Source, Value, WebhookSaid};
use crate::face::visible;

/// Everything of that kind.
pub(super) fn all(settings: &Settings) -> Vec<Diagnostic> {
    let all = &settings.webhooks;
    let mut found: Vec<Diagnostic> = all.iter().flat_map(|said| one(settings, said)).collect();
    if let Some(surplus) = all.get(WEBHOOKS_MAX) {
        let message = format!(
            "`webhooks` has {} tables, and {WEBHOOKS_MAX} at most are told ({})",
            all.len(),
            surplus.source
        );
        let hint = "let one receiver pass on to others what it is told";
        found.push(nowhere(message, Some(hint.to_owned())));
    }
    found
}

fn one(settings: &Settings, said: &WebhookSaid) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let name = |key: &str| format!("`webhooks.{}.{key}`", said.name);
    let source = |key: &str| said.shown(key).map_or(&Source::Default, |shown| &shown.source);
    for key in ["url", "secret_file"] {
        if said.shown(key).is_none_or(|shown| shown.value == Value::Nothing) {
            let message = format!("{} is not set, and the webhook is ({})", name(key), said.source);
            found.push(nowhere(message, Some(MISSING.to_owned())));
        }
    }
    let url = said.text("url");
    if let Err(problem) = if url.is_empty() { Ok(()) } else { check_address(url) } {
        found.push(nowhere(format!("{} ({}) {problem}", name("url"), source("url")), None));
    } else if let Err(why) = settings.callbacks().judge_url(url) {
        let message = format!("{} ({}) cannot be reached: {why}", name("url"), source("url"));
        let hint = "the allow-list is `rollouts.callbacks`: name the host there, if it is right";
        found.push(nowhere(message, Some(hint.to_owned())));
    }
    found.extend(filters(said, &name, &source));
    found
}

const MISSING: &str =
    "a webhook needs an address and a secret: `url = \"https://…\"`, `secret_file = \"/…\"`";

fn filters<'a>(
    said: &'a WebhookSaid,
    name: &dyn Fn(&str) -> String,
    source: &dyn Fn(&str) -> &'a Source,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut wrong = |key: &str, problem: String, hint: Option<&str>| {
        let message = format!("{} ({}) {problem}", name(key), source(key));
        found.push(nowhere(message, hint.map(str::to_owned)));
    };
    for app in said.list("apps") {
        if let Err(bad) = AppName::new(app) {
            wrong("apps", format!("holds `{}`, which names no app: {}", visible(app), bad.why()), None);
        }
    }
    for namespace in said.list("namespaces") {
        if let Err(bad) = EntityId::new(namespace, "any") {
            let problem =
                format!("holds `{}`, which names no namespace: it must {}", visible(namespace), bad.must);
            wrong("namespaces", problem, None);
        }
    }
    let kinds = match said.wanted() {
        Ok(wanted) => wanted.kinds,
        Err(problem) => {
            wrong("events", format!("holds what it cannot: {problem}"), None);
            return found;
        }
    };
    if kinds.is_empty() {
        wrong(
            "events",
            "is empty: nothing would ever be told".into(),
            Some("leave the webhook out, or say of what"),
        );
        return found;
    }
    // What would say nothing is not what was meant.
    let tells_rollouts = kinds.contains(&EventWord::Rollout);
    let tells_apps = kinds.iter().any(|kind| *kind != EventWord::Rollout);
    if !said.list("apps").is_empty() && !tells_apps {
        let problem = "names apps, and of apps nothing is told: rollouts are of no app".to_owned();
        wrong("apps", problem, Some("add `service` or `operation` to `events`, or leave it out"));
    }
    if !said.list("namespaces").is_empty() && !tells_rollouts {
        let problem = "names namespaces, and of rollouts nothing is told".to_owned();
        wrong("namespaces", problem, Some("add `rollout` to `events`, or leave it out"));
    }
    found
}

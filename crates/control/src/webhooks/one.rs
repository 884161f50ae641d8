//! One webhook: the loop that joins its decisions, the journal and the receiver.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use upbeat_decide::webhook::{Hook, Outcome, Parcel, Stands, Step};
use upbeat_model::withheld::receiver_to_look_at;
use upbeat_model::{
    Event, EventKind, Mono, Notice, NoticeKind, Wall, WebhookError, WebhookLost, WebhookName, WebhookState,
    WebhookTested, WebhookWord,
};
use upbeat_store::{Store, StoreError};

use super::keep::{self, Found, Kept};
use super::sign::Secrets;
use super::{Settings, TestError, Webhook};
use crate::events::{EventLog, Next};

/// How far it came is kept each time something was taken, and when so many events that nobody wanted were passed
/// over: after a restart they are looked at again, which takes milliseconds, and a busy machine with a quiet
/// webhook writes next to nothing.
const PASSED_MAX: u64 = 1_000;

/// What came of a request.
struct Said {
    status: Option<u16>,
    /// None: it was taken.
    why: Option<String>,
}

impl Said {
    fn outcome(&self) -> Outcome {
        match (self.status, &self.why) {
            (_, None) => Outcome::Taken,
            (Some(410), _) => Outcome::Gone,
            _ => Outcome::Failed,
        }
    }
}

/// What is to be told, and the event itself.
type Told = (Parcel, Option<Box<Event>>);

/// What changes, and is shown.
struct Progress {
    hook: Hook,
    kept: Kept,
    /// Nothing of `kept` that matters is newer than what is in the store.
    is_kept: bool,
    is_telling: bool,
    next_try: Option<Wall>,
    error: Option<WebhookError>,
}

pub(super) struct One {
    webhook: Webhook,
    settings: Settings,
    store: Store,
    events: EventLog,
    begun: Instant,
    progress: Mutex<Progress>,
    testing: tokio::sync::Mutex<()>,
}

impl One {
    pub(super) async fn open(
        store: Store,
        events: EventLog,
        webhook: Webhook,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let last = events.last();
        let new = || {
            let origin = format!("{:016x}", (settings.chance)());
            Kept { origin, after: 0, aim: None, delivered: None, lost: None }
        };
        let (kept, told) = match keep::read(&store, &webhook.name).await? {
            Found::Kept(kept) => {
                let after = kept.after;
                (kept, Some(after))
            }
            Found::Nothing => (new(), None),
            Found::Unreadable(error) => {
                // Twice is better than never.
                tracing::error!(webhook = %webhook.name, %error, "how far a webhook came cannot be understood: it tells all events there are");
                (new(), Some(0))
            }
        };
        let (mut kept, told, is_aimed) = aimed(kept, told, last, &webhook);
        let hook = Hook::new(told, last);
        let is_kept = is_aimed && told == Some(hook.after());
        kept.after = hook.after();
        let progress = Progress { hook, kept, is_kept, is_telling: false, next_try: None, error: None };
        let (begun, progress) = (Instant::now(), Mutex::new(progress));
        let one = Self { webhook, settings, store, events, begun, progress, testing: Default::default() };
        // From when on a new one tells is known to the next daemon, too.
        one.keep().await;
        Ok(one)
    }

    pub(super) fn name(&self) -> &WebhookName {
        &self.webhook.name
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Mono {
        Mono(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Until its receiver is gone for good.
    pub(super) async fn tell(self: std::sync::Arc<Self>) {
        let mut changes = self.events.changes();
        loop {
            let step = self.progress().hook.step(self.now());
            match step {
                Step::Off => return,
                Step::WaitUntil(until) => {
                    tokio::time::sleep_until(self.begun + Duration::from_millis(until.0)).await;
                }
                Step::Look(after) => {
                    // Before it is looked, so that what comes meanwhile is looked for.
                    changes.mark_unchanged();
                    match self.look(after).await {
                        Ok(Some(told)) => self.one(told).await,
                        Ok(None) => {
                            self.pass_over();
                            self.keep().await;
                            // Never: the events end with this task.
                            if changes.changed().await.is_err() {
                                return;
                            }
                        }
                        Err(error) => self.failed(format!("the events cannot be read: {error}")),
                    }
                }
            }
        }
    }

    async fn look(&self, after: u64) -> Result<Option<Told>, StoreError> {
        let next = self.events.next(after, |event| self.webhook.wanted.takes(event)).await?;
        let (stands, event) = match next {
            Next::Nothing(up_to) => (Stands::Nothing(up_to), None),
            Next::Event(event) => (Stands::Event(event.sequence), Some(event)),
            Next::Lost(first, last) => (Stands::Lost(first, last), None),
        };
        let mut progress = self.progress();
        let parcel = progress.hook.found(stands);
        progress.is_telling = parcel.is_some();
        Ok(parcel.map(|parcel| (parcel, event)))
    }

    /// Tells it, and takes down what came of it.
    async fn one(&self, (parcel, event): Told) {
        let at = (self.settings.wall)();
        let origin = self.progress().kept.origin.clone();
        let (id, body) = match (parcel, &event) {
            (Parcel::Lost(first, last), _) => {
                let notice = Notice { sequence: last, at, kind: NoticeKind::EventsLost { first, last } };
                (format!("{origin}_lost_{first}_{last}"), json(&notice))
            }
            (Parcel::Event(_), Some(event)) => (id(&origin, event), json(event)),
            (Parcel::Event(number), None) => (format!("{origin}_{number}"), Err("it is not there".into())),
        };
        let said = match body {
            Ok(body) => self.send(&id, body).await,
            Err(why) => Said { status: None, why: Some(why) },
        };
        (self.settings.failpoint)("webhook_told");
        match said.outcome() {
            Outcome::Taken => self.taken(parcel),
            outcome => {
                let why = said.why.unwrap_or_default();
                self.not_taken(parcel, outcome, why);
            }
        }
        self.keep().await;
    }

    /// One request.
    async fn send(&self, id: &str, body: Vec<u8>) -> Said {
        let file = &self.webhook.secret_file;
        let courier = &self.settings.courier;
        let secrets = courier.secrets(file).await.and_then(|text| Secrets::read(&text));
        let secrets = match secrets {
            Ok(secrets) => secrets,
            Err(why) => {
                let why = format!("the secret cannot be used: `{}`: {why}", file.display());
                return Said { status: None, why: Some(why) };
            }
        };
        let headers = secrets.headers(id, (self.settings.wall)(), &body);
        match courier.post(&self.webhook.url, headers, body).await {
            Ok(status @ 200..=299) => Said { status: Some(status), why: None },
            Ok(status @ 300..=399) => {
                let why = format!("HTTP {status}: it redirects, which is not followed");
                Said { status: Some(status), why: Some(why) }
            }
            Ok(status) => Said { status: Some(status), why: Some(format!("HTTP {status}")) },
            Err(why) => Said { status: None, why: Some(why) },
        }
    }

    fn taken(&self, parcel: Parcel) {
        let at = (self.settings.wall)();
        let mut progress = self.progress();
        let failures = progress.hook.failures();
        progress.hook.came_of(parcel, Outcome::Taken, self.now(), 0);
        progress.kept.after = progress.hook.after();
        (progress.is_telling, progress.is_kept, progress.next_try) = (false, false, None);
        let name = &self.webhook.name;
        match parcel {
            Parcel::Event(number) => progress.kept.delivered = Some((number, at)),
            Parcel::Lost(first, last) => {
                let before = progress.kept.lost.map_or(0, |lost| lost.count);
                let count = before.saturating_add(last - first + 1);
                progress.kept.lost = Some(WebhookLost { count, first, last });
                tracing::warn!(webhook = %name, first, last, "a webhook was behind for too long: events are lost, and it was told so");
            }
        }
        if failures > 0 {
            tracing::info!(webhook = %name, failures, "a webhook is taken again");
        }
    }

    fn not_taken(&self, parcel: Parcel, outcome: Outcome, why: String) {
        if outcome != Outcome::Gone {
            return self.failed(why);
        }
        let at = (self.settings.wall)();
        let mut progress = self.progress();
        progress.hook.came_of(parcel, Outcome::Gone, self.now(), 0);
        (progress.is_telling, progress.next_try) = (false, None);
        tracing::error!(webhook = %self.webhook.name, "a webhook is off until the daemon is started anew: its receiver is gone for good, it says (410)");
        progress.error = Some(WebhookError { why, at });
    }

    /// Nothing could be told.
    fn failed(&self, why: String) {
        let (at, now) = ((self.settings.wall)(), self.now());
        let chance = (self.settings.chance)();
        let mut progress = self.progress();
        progress.hook.failed(now, chance);
        progress.is_telling = false;
        if let Step::WaitUntil(until) = progress.hook.step(now) {
            let wait = i64::try_from(until.since(now).0).unwrap_or(i64::MAX);
            progress.next_try = Some(Wall(at.0.saturating_add(wait)));
        }
        // Once, until it is taken again: it may go on for days.
        if progress.hook.failures() == 1 {
            tracing::warn!(webhook = %self.webhook.name, why, "a webhook was not taken, and is tried again");
        }
        progress.error = Some(WebhookError { why, at });
    }

    fn pass_over(&self) {
        let mut progress = self.progress();
        let after = progress.hook.after();
        if after - progress.kept.after >= PASSED_MAX {
            (progress.kept.after, progress.is_kept) = (after, false);
        }
    }

    /// Keeps how far it came, where that is not kept yet. What cannot be kept now is kept with the next: until
    /// then, a daemon that takes over tells it again.
    async fn keep(&self) {
        let kept = {
            let progress = self.progress();
            (!progress.is_kept).then(|| progress.kept.clone())
        };
        let Some(kept) = kept else { return };
        match keep::write(&self.store, &self.webhook.name, &kept).await {
            Ok(()) => self.progress().is_kept = true,
            Err(error) => {
                tracing::warn!(webhook = %self.webhook.name, %error, "how far a webhook came could not be kept");
            }
        }
    }

    /// Nothing is left to be kept.
    #[cfg(test)]
    pub(super) fn is_kept(&self) -> bool {
        self.progress().is_kept
    }

    /// How it goes.
    pub(super) async fn state(&self) -> Result<WebhookState, StoreError> {
        let Webhook { name, url, wanted, .. } = &self.webhook;
        let after = self.progress().hook.after();
        let (pending, pending_more) = self.events.waiting(after, |event| wanted.takes(event)).await?;
        let progress = self.progress();
        let state = match progress.hook.step(self.now()) {
            Step::Off => WebhookWord::Off,
            _ if progress.is_telling => WebhookWord::Delivering,
            _ if progress.hook.failures() > 0 => WebhookWord::Retrying,
            _ => WebhookWord::Idle,
        };
        Ok(WebhookState {
            name: name.clone(),
            address: receiver_to_look_at(url),
            events: wanted.kinds.clone(),
            apps: wanted.apps.clone(),
            namespaces: wanted.namespaces.clone(),
            state,
            last_delivered: progress.kept.delivered.map(|(number, _)| number),
            last_delivered_at: progress.kept.delivered.map(|(_, at)| at),
            pending,
            pending_more,
            failures: progress.hook.failures(),
            last_error: progress.error.clone(),
            next_try: progress.next_try.filter(|_| !progress.is_telling),
            lost: progress.kept.lost,
        })
    }

    /// Sends a test, also where the webhook is off or waits.
    pub(super) async fn test(&self) -> Result<WebhookTested, TestError> {
        let name = self.webhook.name.clone();
        let Ok(_alone) = self.testing.try_lock() else { return Err(TestError::UnderWay(name)) };
        let at = (self.settings.wall)();
        let id = format!("{}_test_{:016x}", self.progress().kept.origin, (self.settings.chance)());
        let notice = Notice { sequence: 0, at, kind: NoticeKind::WebhookTest { webhook: name.clone() } };
        let body = json(&notice).map_err(TestError::Unwritable)?;
        let begun = Instant::now();
        let said = self.send(&id, body).await;
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let delivered = said.outcome() == Outcome::Taken;
        Ok(WebhookTested { name, delivered, status: said.status, error: said.why, id, took_ms })
    }
}

/// What was kept, for the webhook as it is set now, with what of it is told, and whether that was kept so. How far it
/// came is said of one receiver and of what that wanted: where either is another, it begins as a new one does.
fn aimed(kept: Kept, told: Option<u64>, last: u64, webhook: &Webhook) -> (Kept, Option<u64>, bool) {
    let aim = keep::aim(&kept.origin, webhook);
    match &kept.aim {
        Some(before) if *before == aim => (kept, told, true),
        Some(_) => {
            let after = kept.after;
            tracing::warn!(webhook = %webhook.name, after, last, "a webhook has another receiver, or wants other events, than before: it tells what happens from now on, and nothing of what waited");
            // Its ids stay: a receiver may be the same, and has seen them.
            (Kept { aim: Some(aim), delivered: None, lost: None, ..kept }, None, false)
        }
        // New, or from before there were aims: that is taken as it is.
        None => (Kept { aim: Some(aim), ..kept }, told, false),
    }
}

/// Under which it is told, each time. When it happened tells it from another of the same number: of a journal, or of
/// a store, that was set back.
fn id(origin: &str, event: &Event) -> String {
    let (sequence, at) = (event.sequence, event.at.0);
    match &event.kind {
        // It may be in the journal twice, and is one event: what it has of its entity tells it.
        EventKind::Rollout { namespace, entity, number, .. } if *number > 0 => {
            let hash = blake3::hash(format!("{namespace}\0{entity}").as_bytes()).to_hex();
            format!("{origin}_{:.16}_{number}_{at}", hash.as_str())
        }
        // Also of a rollout, as it was told before those had numbers.
        _ => format!("{origin}_{sequence}_{at}"),
    }
}

fn json(what: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(what).map_err(|error| format!("it cannot be written as JSON: {error}"))
}

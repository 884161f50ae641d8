//! Watching an engine: its events wake, a list says how things are.

use std::sync::Weak;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};
use upbeat_model::project::Signal;

use super::labels::Marks;
use super::look::is_id;
use super::wire::{Ask, Stream};
use super::{Engine, EngineError, EngineEvent, Inner};

/// An engine that is gone is looked for again so soon, and then at twice the time each.
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);

/// An engine that comes back is found within this.
const BACK_OFF_MOST: Duration = Duration::from_secs(5);

/// What runs is looked at even if no event comes, as an engine may lose one: rarely, as it costs.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);

/// What could not be found out is asked again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// An engine remembers some hundred events.
const PAST_MAX: usize = 4096;

/// It has them at hand.
const PAST_PATIENCE: Duration = Duration::from_secs(5);

/// What changes how a container stands to us.
const ACTIONS: &[&str] =
    &["die", "destroy", "kill", "start", "pause", "unpause", "rename", "disconnect", "connect", "oom"];

/// Of an event what is used.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: Actor,
    #[serde(rename = "timeNano", default)]
    time_ns: i64,
}

#[derive(Default, Deserialize)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: Option<std::collections::HashMap<String, String>>,
}

impl Event {
    /// The container it speaks of. `None`: of all that are in some network, or nobody can tell.
    fn container(&self) -> Option<&str> {
        let id = match self.kind.as_str() {
            "container" => Some(self.actor.id.as_str()),
            _ => self.attribute("container"),
        };
        id.filter(|id| is_id(id))
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.actor.attributes.as_ref()?.get(name).map(String::as_str)
    }
}

/// A number, or a name.
fn signal(text: &str) -> Option<i32> {
    text.parse().ok().or_else(|| Signal::parse(text).map(|signal| signal.0))
}

impl Engine {
    /// Watches from now on, as long as somebody holds a handle. What is done to a slot begins it, too.
    pub fn watch(&self) {
        self.inner.watching.get_or_init(|| {
            tokio::spawn(watch(std::sync::Arc::downgrade(&self.inner)));
        });
    }

    /// What is listened to is looked at again within a second.
    pub(super) fn look_soon(&self) {
        self.inner.look_soon.notify_one();
    }

    async fn tell(&self, event: EngineEvent) {
        // The agent is gone only when the daemon ends.
        let _ = self.inner.events.send(event).await;
    }

    /// One connection: from its beginning to its end.
    async fn hear(&self, since: &mut i64, told: &mut Option<bool>) -> Result<(), EngineError> {
        let mut stream = self.events(*since).await?;
        match *since {
            0 => *since = crate::clock::wall().0.saturating_mul(1_000_000),
            since => self.hear_what_was(since).await?,
        }
        // What happened before the connection was made is in the list.
        let slots = self.find().await?;
        if *told != Some(true) {
            *told = Some(true);
            self.tell(EngineEvent::Engine { reachable: true, why: None }).await;
        }
        self.tell(EngineEvent::Found(slots)).await;
        let mut again = self.check_all(None).await;
        let mut anyway = Instant::now() + LOOK_ANYWAY;
        loop {
            let soon = Instant::now() + LOOK_AGAIN;
            let next = if again { anyway.min(soon) } else { anyway };
            tokio::select! {
                line = stream.line() => {
                    let Some(line) = line? else { return Ok(()) };
                    again |= self.heard(&line, since).await;
                }
                () = tokio::time::sleep_until(next) => {
                    anyway = Instant::now() + LOOK_ANYWAY;
                    again = self.check_all(None).await;
                }
                () = self.inner.look_soon.notified() => again = true,
            }
        }
    }

    async fn events(&self, since: i64) -> Result<Stream, EngineError> {
        let mut ask = Ask::get("/events").filters(&[("type", &["container", "network"]), ("event", ACTIONS)]);
        if since > 0 {
            ask = ask.query("since", moment(since + 1));
        }
        self.wire().stream(ask).await
    }

    /// Which containers were asked to end while nobody listened: by another hand, or by an engine that was
    /// started again and ends what it finds. A list only shows that they have ended.
    async fn hear_what_was(&self, since: i64) -> Result<(), EngineError> {
        let until = crate::clock::wall().0.saturating_mul(1_000_000);
        let ask = Ask::get("/events").filters(&[("type", &["container"]), ("event", &["kill"])]);
        let ask = ask.query("since", moment(since + 1)).query("until", moment(until));
        let mut past = self.wire().stream(ask).await?;
        for _ in 0..PAST_MAX {
            let Ok(line) = timeout(PAST_PATIENCE, past.line()).await else { break };
            let Some(line) = line? else { break };
            let Ok(event) = serde_json::from_slice::<Event>(&line) else { continue };
            if let (Some(container), Some(signal)) =
                (event.container(), event.attribute("signal").and_then(signal))
            {
                self.was_signalled(container, signal);
            }
        }
        Ok(())
    }

    /// What an event leads to. Whether something has to be asked again.
    async fn heard(&self, line: &[u8], since: &mut i64) -> bool {
        let Ok(event) = serde_json::from_slice::<Event>(line) else {
            tracing::debug!("the container engine told something that is no event");
            return false;
        };
        *since = event.time_ns.max(*since);
        let container = event.container();
        if event.kind == "container" && container.is_none() {
            return false;
        }
        if event.action == "kill"
            && let (Some(container), Some(signal)) = (container, event.attribute("signal").and_then(signal))
        {
            self.was_signalled(container, signal);
            return false;
        }
        if event.kind == "container" && event.action == "start" {
            self.may_be_begun(&event).await;
        }
        self.check_all(container).await
    }

    /// A container of ours was started. Not by us, where it is not listened to when we are through with its
    /// slot.
    async fn may_be_begun(&self, event: &Event) {
        let labels = event.actor.attributes.as_ref();
        let Some(marks) = labels.and_then(|labels| Marks::read(self.owner(), labels)) else { return };
        let engine = self.clone();
        let container = event.actor.id.clone();
        // Whoever starts it holds the slot for longer than an event may wait.
        tokio::spawn(async move {
            let is_listened_to = {
                let _turn = engine.turn_of(&marks.slot).await;
                engine.slots_of(Some(&container)).contains(&marks.slot)
            };
            if !is_listened_to {
                engine.tell(EngineEvent::Found(vec![marks.slot])).await;
            }
        });
    }

    /// Looks at what is listened to, or at this container alone. Whether it has to be asked again.
    async fn check_all(&self, container: Option<&str>) -> bool {
        let mut again = false;
        for slot in self.slots_of(container) {
            if let Err(error) = self.check(&slot).await {
                tracing::debug!(%slot, %error, "how its container is could not be found out");
                again = true;
            }
        }
        again
    }
}

/// A time, as the engine reads it: seconds and nanoseconds.
fn moment(ns: i64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

async fn watch(inner: Weak<Inner>) {
    let (mut since, mut told, mut wait) = (0, None, BACK_OFF_FIRST);
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let engine = Engine { inner };
        let begun = Instant::now();
        let ended = engine.hear(&mut since, &mut told).await;
        if begun.elapsed() > BACK_OFF_MOST {
            wait = BACK_OFF_FIRST;
        }
        engine.wire().forget();
        if let Err(error) = ended
            && told != Some(false)
        {
            told = Some(false);
            engine.tell(EngineEvent::Engine { reachable: false, why: Some(error.to_string()) }).await;
        }
        drop(engine);
        sleep(wait).await;
        wait = (wait * 2).min(BACK_OFF_MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_speaks_of_a_container_or_of_none_that_is_known() {
        let id = "a".repeat(64);
        let of = |text: String| serde_json::from_str::<Event>(&text).unwrap();
        let die =
            of(format!(r#"{{"Type":"container","Action":"die","Actor":{{"ID":"{id}","Attributes":null}}}}"#));
        assert_eq!(die.container(), Some(id.as_str()));
        let left = of(format!(
            r#"{{"Type":"network","Action":"disconnect","Actor":{{"ID":"n","Attributes":{{"container":"{id}"}}}}}}"#
        ));
        assert_eq!(left.container(), Some(id.as_str()));
        assert_eq!(of(r#"{"Type":"container","Actor":{"ID":"../x"}}"#.to_owned()).container(), None);
        assert_eq!(of("{}".to_owned()).container(), None);
    }

    #[test]
    fn a_signal_is_a_number_or_a_name() {
        assert_eq!((signal("15"), signal("SIGKILL"), signal("often")), (Some(15), Some(9), None));
    }
}

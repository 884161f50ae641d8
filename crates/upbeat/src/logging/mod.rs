//! What the daemon says of itself, and to whom: text or JSON on standard error, journald, syslog,
//! logstash.
//!
//! Laws: whoever has something to say never waits. A record is encoded where it is made, put into a
//! bounded queue, and taken to its reader by a thread of its own; what finds no room is dropped,
//! counted, and told of once something can be told again. A record has a bounded size. What stands in
//! it cannot end its line or begin another one.
//!
//! The kept crates for this write where the message is made, so that a journal, a terminal or a server
//! that does not read holds up whoever speaks: here that could be the agent. What is left of such a
//! crate without its writing is a page for each format.

mod encode;
mod line;
mod queue;
mod record;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use crate::face::Paint;
use encode::Wire;
use line::{Line, Patience};
use queue::Queue;
use record::Record;
pub use settings::{LogFormat, LogSettings, LogSettingsError};

/// How long the end of the daemon waits for the last records: one that is read is empty within
/// milliseconds, and nobody waits longer for one that is not.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Records of this process that were dropped, whatever the reason.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Log records of this process that nobody got: there was no room for them, or no way to write them.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

fn count_dropped(records: u64) {
    DROPPED.fetch_add(records, Ordering::Relaxed);
}

/// Takes records to where they are read, until it is dropped. Then it waits a moment for the last ones.
#[must_use]
pub struct Logging {
    queue: Arc<Queue>,
}

impl Logging {
    /// Every record of this process goes there from now on, as far as `filter` lets it.
    ///
    /// `paint`: of text on standard error. `is_ours`: standard error is a file of the daemon's own, which
    /// begins anew before it gets too long.
    ///
    /// Errors: the settings make no sense, or somebody else takes the records already.
    pub fn start(
        settings: &LogSettings,
        filter: EnvFilter,
        paint: Paint,
        is_ours: bool,
    ) -> Result<Self, LogSettingsError> {
        let (wire, line) = settings.open(paint, is_ours)?;
        let logging = Self::to(wire.clone(), line, Patience::USUAL).map_err(LogSettingsError::Thread)?;
        let layer = Sayer { wire, queue: logging.queue.clone() };
        let installed = tracing_subscriber::registry().with(filter).with(layer).try_init();
        installed.map_err(|error: TryInitError| LogSettingsError::Taken(error.to_string()))?;
        Ok(logging)
    }

    fn to(wire: Arc<Wire>, line: Line, patience: Patience) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new());
        let waiting = queue.clone();
        let carry = move || line::carry(&waiting, line, &wire, patience);
        std::thread::Builder::new().name("log".into()).spawn(carry)?;
        Ok(Self { queue })
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.queue.close(LAST_WORDS);
    }
}

/// Where `tracing` brings its events.
struct Sayer {
    wire: Arc<Wire>,
    queue: Arc<Queue>,
}

impl<S: Subscriber> Layer<S> for Sayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.queue.put(self.wire.frame(&Record::of(event)));
    }
}

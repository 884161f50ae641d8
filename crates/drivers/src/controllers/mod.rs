//! Controllers of a rollout, asked: which targets are next, which may go, which are removed, and how well
//! they are (`spec/nixmade.md` 2.E).
//!
//! Whom an entity asks was said by whoever may change it, and answers whatever it likes. So every question has
//! a time in which there is an answer or an error, and bounds on what is read; and whom it may reach at all is
//! decided about the address it is sent to ([`Policy`]).
//!
//! Redirects: at most three, each judged like the first. 307 and 308 keep the question. 301, 302 and 303 are
//! an error: the first such engine's client made a `GET` of it there, which asks nothing. None leads from
//! `https` to `http`.

mod command;
mod headers;
mod measure;
mod policy;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod web;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use upbeat_model::Millis;
use upbeat_model::rollout::{Controller, Report, TargetId};

use self::web::{Asked, Web};
use crate::probe::address::Names;
use crate::probe::tls::Trust;
use crate::probe::words;
use crate::process::ProcessDriver;

pub use policy::{Allowed, NotAllowed, Policy};

/// A question has so long for all of it: names, connections, redirects, and the answer. As long as the first
/// such engine's own clients wait for it, so that who asks us for more learns why there is none.
pub const QUESTION_TIME: Duration = Duration::from_secs(10);

/// The longest answer: that names ten thousand targets with all their labels.
pub const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// All questions about single targets of one call have so long together; who was not asked by then was not
/// found to be well. Three rounds of those that hang.
pub const MONITORING_TIME: Duration = Duration::from_secs(30);

/// Questions about single targets at once in one call: a fleet of thousands is asked in seconds where each
/// answer takes some milliseconds, and whoever answers is not flooded.
const MONITORED_AT_ONCE: usize = 32;

/// Calls that ask about single targets at once; those that come later wait, before their time begins. So
/// controllers that hang delay others, and never make their targets fail.
const MONITORS_AT_ONCE: usize = 8;

/// What is needed to ask.
#[derive(Clone, Debug, Default)]
pub struct Means {
    /// Whom callbacks may reach.
    pub policy: Policy,
    /// Whose certificates are believed, as PEM; none: whom this machine believes.
    pub ca: Option<String>,
    /// All variables of commands that are asked; `PATH` is where they are looked for.
    pub environment: BTreeMap<String, String>,
    /// Who runs commands, so that nothing of them outlives this process, be it killed, nor their answer. None:
    /// they are run below this process itself, where that is so only as far as they stay in their process group,
    /// and not when this process is killed.
    pub commands: Option<ProcessDriver>,
}

/// A question to which the answer is targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Which are next?
    Selection,
    /// Which may go now?
    Approval,
    /// Which old ones go?
    Removal,
}

/// Asks controllers. Clones are the same; all are used in one runtime.
#[derive(Clone)]
pub struct Caller {
    inner: Arc<Inner>,
}

struct Inner {
    web: Web,
    headers: headers::HeaderFiles,
    commands: command::Runner,
    monitors: Semaphore,
    judging: Semaphore,
}

/// An error for people: one line of at most 200 characters.
fn shown(why: &str) -> String {
    words::shown(why)
}

impl Caller {
    /// With these means.
    pub fn new(means: Means) -> Self {
        Self::over(means, Arc::new(Names::new()))
    }

    fn over(means: Means, network: Arc<dyn web::Network>) -> Self {
        let Means { policy, ca, environment, commands } = means;
        let commands = command::Runner { environment, driver: commands };
        let web = Web { policy, ca, trust: Trust::new(None), network };
        let (headers, monitors) = (headers::HeaderFiles::new(), Semaphore::new(MONITORS_AT_ONCE));
        let judging = Semaphore::new(1);
        Self { inner: Arc::new(Inner { web, headers, commands, monitors, judging }) }
    }

    /// The targets that are chosen of those offered, each once, as they were offered but for labels it was
    /// given; who selects may name new ones besides. `count`: how many are asked for, which an answer may
    /// exceed. Ends within [`QUESTION_TIME`].
    ///
    /// Errors: why there is no answer, or none that could be understood, in one short line.
    pub async fn choose(
        &self,
        controller: &Controller,
        choice: Choice,
        offered: &[Report],
        count: usize,
    ) -> Result<Vec<Report>, String> {
        let (count, unknown) = match choice {
            Choice::Selection => (Some(count), wire::Unknown::Kept),
            Choice::Approval => (None, wire::Unknown::PassedOver),
            Choice::Removal => (Some(count), wire::Unknown::PassedOver),
        };
        let answer = async {
            let request = wire::about_many(offered, count)?;
            let answer = self.inner.ask(controller, request, QUESTION_TIME).await?;
            wire::choice(&answer, offered, unknown)
        };
        answer.await.map_err(|why| shown(&why))
    }

    /// Whether the whole is well, of which these are a part. Ends within [`QUESTION_TIME`].
    ///
    /// Errors: it is not, in its own words, or nobody knows, in one short line.
    pub async fn is_well(&self, controller: &Controller, whole: &[Report]) -> Result<(), String> {
        let answer = async {
            let request = wire::about_many(whole, None)?;
            wire::verdict(&self.inner.ask(controller, request, QUESTION_TIME).await?)
        };
        answer.await.map_err(|why| shown(&why))
    }

    /// Those of these that are not well, or of which nobody knows, each with one short line that says why.
    /// Ends within [`MONITORING_TIME`] after it has begun, for which it may wait behind other calls.
    pub async fn unwell(&self, controller: &Controller, each: &[Report]) -> BTreeMap<TargetId, String> {
        if each.is_empty() {
            return BTreeMap::new();
        }
        // Never closed; and if it were, there is nothing to wait for.
        let _turn = self.inner.monitors.acquire().await;
        let end = Instant::now() + MONITORING_TIME;
        let asked = (0..each.len()).map(|index| async move {
            let report = &each[index];
            let why = self.inner.monitor(controller, report, end).await.err()?;
            Some((report.target.clone(), shown(&why)))
        });
        let mut answers = stream::iter(asked).buffer_unordered(MONITORED_AT_ONCE);
        let mut unwell = BTreeMap::new();
        while let Some(answer) = answers.next().await {
            unwell.extend(answer);
        }
        unwell
    }
}

impl Inner {
    async fn monitor(&self, controller: &Controller, report: &Report, end: Instant) -> Result<(), String> {
        let now = Instant::now();
        if now >= end {
            return Err("not asked in time".into());
        }
        let answer = self.ask(controller, wire::about_one(report)?, QUESTION_TIME.min(end - now)).await?;
        wire::verdict(&answer)
    }

    /// The answer, in that time.
    async fn ask(
        &self,
        controller: &Controller,
        request: Vec<u8>,
        patience: Duration,
    ) -> Result<Vec<u8>, String> {
        let answer = async {
            match controller {
                Controller::Web(address) => {
                    let headers = BTreeMap::new();
                    let asked = Asked { method: "POST", headers: &headers, body: &request };
                    self.web.ask(address, &asked).await
                }
                Controller::Exec(words) => self.commands.ask(words, request.clone()).await,
                Controller::Program => Err("only the program that it belongs to can ask it".into()),
            }
        };
        tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| {
            Err(format!(
                "timed out after {}",
                Millis(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX))
            ))
        })
    }
}

//! Commands that run to their end: health checks and stop commands.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use upbeat_model::{Exit, Millis, SlotId};
use upbeat_shim::spec::Order;
use upbeat_shim::wire::{End, FromShim};

use super::launch::Asked;
use super::{ProcessDriver, Rights, chain, error};
use crate::tree::{self, StillThere, Tree};

/// A shim that answers later than this after the command's time is over was killed.
const ANSWER_SLACK: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// All of its variables.
    pub environment: BTreeMap<String, String>,
    /// Absolute.
    pub working_dir: String,
    /// `name`, `uid`, either with `:group`.
    pub user: Option<String>,
    /// What it may besides.
    pub rights: Rights,
    /// Beside the process of which slot: it is told where the private files of that one are, if there
    /// are any.
    pub beside: Option<SlotId>,
    /// After which its tree is killed.
    pub timeout: Millis,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutcome {
    /// In time.
    Ended {
        /// How.
        exit: Exit,
        /// The end of what it printed.
        output: String,
    },
    /// Not in time: its tree was killed.
    TimedOut {
        /// How long it had.
        after: Millis,
        /// The end of what it printed.
        output: String,
    },
    /// It could not be run.
    Failed(String),
}

impl ExecOutcome {
    /// It ended with status 0.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Ended { exit, .. } if exit.is_success())
    }

    /// In words: how it ended, and its last line.
    pub fn describe(&self) -> String {
        let (how, output) = match self {
            Self::Ended { exit, output } => (exit.to_string(), output),
            Self::TimedOut { after, output } => (format!("timed out after {after}"), output),
            Self::Failed(why) => return why.clone(),
        };
        match output.lines().map(str::trim).rfind(|line| !line.is_empty()) {
            Some(last) => format!("{how}: {last}"),
            None => how,
        }
    }
}

impl ProcessDriver {
    /// Runs a command to its end or its time-out; nothing of its tree stays. Dropping the future
    /// kills it.
    pub async fn exec(&self, request: ExecRequest) -> ExecOutcome {
        let ExecRequest { command, environment, working_dir, user, rights, beside, timeout } = &request;
        let private = beside.as_ref().map(|slot| self.private_dir(slot)).filter(|dir| dir.exists());
        let private = private.as_deref();
        let asked = Asked { command, environment, working_dir, user: user.as_deref(), rights, private };
        let number = self.inner.execs.fetch_add(1, Ordering::Relaxed);
        let mark = tree::mark_of_exec(&self.inner.places.slots, number);
        let order = Order::Exec { timeout_ms: timeout.0 };
        let spec = asked.spec(order, mark.clone());
        let channel = match self.inner.zygote.order(&spec, None).await {
            Ok(channel) => channel,
            Err(error) => return ExecOutcome::Failed(chain(&error)),
        };
        let patience = timeout.as_duration() + ANSWER_SLACK;
        match tokio::time::timeout(patience, channel.receive()).await {
            Ok(Ok(Some(FromShim::Done { end, output }))) => {
                let output = String::from_utf8_lossy(&output).into_owned();
                match end {
                    Some(End::NotExecuted(stage, errno)) => {
                        let error = error::not_executed(stage, errno, &asked);
                        ExecOutcome::Failed(error.to_string())
                    }
                    Some(end) => ExecOutcome::Ended { exit: super::exit(end), output },
                    None => ExecOutcome::TimedOut { after: *timeout, output },
                }
            }
            Ok(Ok(Some(FromShim::Unable { why }))) => ExecOutcome::Failed(why),
            Ok(_) => ExecOutcome::Failed(match tree::clear(Tree::of_exec(mark)).await {
                Ok(()) => "its shim was killed".to_owned(),
                Err(StillThere(count)) => {
                    format!("its shim was killed, and {count} of its processes live on")
                }
            }),
            // Its shim should have ended it by now: that, or the zygote, is stopped.
            Err(_) => {
                self.inner.zygote.replace().await;
                let _ = tree::clear(Tree::of_exec(mark)).await;
                ExecOutcome::TimedOut { after: *timeout, output: String::new() }
            }
        }
    }
}

//! Commands that run to their end: health checks, stop commands, what starts something elsewhere, and
//! controllers of rollouts that are asked.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::Ordering;

use upbeat_model::{Exit, Millis, SlotId};
use upbeat_shim::spec::Order;
use upbeat_shim::wire::{End, FromShim};

use super::launch::Asked;
use super::out::{ANSWER_SLACK, BEGIN_PATIENCE, Begins, Out};
use super::{DriverError, ProcessDriver, Rights, chain, error};
use crate::tree::{self, StillThere, Tree};

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
    /// What becomes of the rest of its tree when it ends.
    pub leftovers: Leftovers,
}

/// What becomes of what a command leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leftovers {
    /// It is killed.
    #[default]
    Killed,
    /// When the command ends with status 0, it is left alone, by later daemons too; whatever it prints
    /// is read, and nobody's. When the command ends otherwise it is killed.
    Left,
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
    /// No word about the command: Upbeat itself could not run it, for want of files or processes; or it
    /// was killed with its shim, or because its shim was stopped, so that nobody knows how it would have
    /// ended. Whoever has to know asks again.
    Unable(String),
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
            Self::Failed(why) | Self::Unable(why) => return why.clone(),
        };
        match output.lines().map(str::trim).rfind(|line| !line.is_empty()) {
            Some(last) => format!("{how}: {last}"),
            None => how,
        }
    }
}

/// Where it is said which commands that may leave something behind have not ended. Beside the
/// directories of apps; no app has such a name.
const UNENDED: &str = ".unended";

/// Notes on disk that such a command has not ended: then what there is of it when its daemon and its
/// shim are dead is killed, and what it has left behind when it had ended is not. Its shim takes the
/// note back.
fn note_unended(slots_dir: &Path, number: u64) -> PathBuf {
    let dir = slots_dir.join(UNENDED);
    let path = dir.join(tree::number_of_start(number));
    if let Err(error) = super::private_dir(&dir).and_then(|()| fs::write(&path, "")) {
        // It takes two deaths to be missed; and what stops a service must work on a full disk.
        tracing::warn!(%error, path = %path.display(), "it cannot be noted that a command is run");
    }
    path
}

/// Such commands of daemons before this one, and where they are noted.
fn unended_of_others(slots_dir: &Path) -> Vec<(PathBuf, Tree)> {
    let entries = fs::read_dir(slots_dir.join(UNENDED)).into_iter().flatten().flatten();
    let noted = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((entry.path(), Tree::of_start_of_other(slots_dir, &name)?))
    });
    noted.collect()
}

impl ProcessDriver {
    /// Kills what was run for slots of this directory by daemons that are dead: probes, hooks and stop
    /// commands whose shims were killed too. What commands have left behind that ended as they should
    /// is spared.
    ///
    /// Errors: something does not die.
    pub async fn clear_execs(&self) -> Result<(), DriverError> {
        let slots = &self.inner.places.slots;
        let mut count = 0;
        for (note, tree) in unended_of_others(slots) {
            match tree::clear(tree).await {
                // One that stays is looked at by the next daemon, which finds nobody.
                Ok(()) => drop(fs::remove_file(note)),
                Err(StillThere(more)) => count += more,
            }
        }
        if let Err(StillThere(more)) = tree::clear(Tree::of_execs_of_others(slots)).await {
            count += more;
        }
        match count {
            0 => Ok(()),
            _ => Err(DriverError::Shim(format!("{count} processes of a daemon before this one do not die"))),
        }
    }

    /// The same, once in the life of this driver: whoever comes later waits for the first. What does not
    /// die is told to the log, and left.
    pub async fn clear_execs_once(&self) {
        let clear = async || {
            if let Err(error) = self.clear_execs().await {
                tracing::warn!(%error, "what was run for services is not all gone");
            }
        };
        self.inner.cleared.get_or_init(clear).await;
    }

    /// Runs a command to its end or its time-out; nothing of its tree stays, unless that is asked for.
    /// Dropping the future kills it. What daemons before this one ran is gone before it begins, but
    /// for what does not die.
    pub async fn exec(&self, request: ExecRequest) -> ExecOutcome {
        self.exec_until(request, std::future::pending()).await
    }

    /// The same, for whoever has to know that it is over: when it is called off its time is over, and it
    /// has ended when nothing of its tree is there any more, as far as that dies.
    pub async fn exec_until(
        &self,
        request: ExecRequest,
        called_off: impl Future<Output = ()>,
    ) -> ExecOutcome {
        self.clear_execs_once().await;
        let ExecRequest { command, environment, working_dir, user, rights, beside, timeout, leftovers } =
            &request;
        let private = beside.as_ref().map(|slot| self.private_dir(slot)).filter(|dir| dir.exists());
        let private = private.as_deref();
        let asked = Asked { command, environment, working_dir, user: user.as_deref(), rights, private };
        let number = self.inner.execs.fetch_add(1, Ordering::Relaxed);
        let slots = &self.inner.places.slots;
        let (mark, note) = match leftovers {
            Leftovers::Killed => (tree::mark_of_exec(slots, number), None),
            Leftovers::Left => (tree::mark_of_start(slots, number), Some(note_unended(slots, number))),
        };
        let leaves = note.as_ref().map(|note| note.as_os_str().as_bytes().to_vec());
        let order = Order::Exec { timeout_ms: timeout.0, leaves };
        let spec = asked.spec(order, mark.clone());
        match self.inner.zygote.order(&spec, &[]).await {
            Ok(channel) => self.answer(Out::new(channel, mark, note), &asked, (*timeout, called_off)).await,
            Err(error) => {
                note.iter().for_each(|note| drop(fs::remove_file(note)));
                ExecOutcome::Unable(chain(&error))
            }
        }
    }

    /// Runs a command that reads from and prints into these: its input, its output, its errors. All else is as by
    /// [`Self::exec`], and what it prints is no part of the outcome.
    pub(crate) async fn ask(
        &self,
        command: &[String],
        environment: &BTreeMap<String, String>,
        streams: [OwnedFd; 3],
        timeout: Millis,
    ) -> ExecOutcome {
        self.clear_execs_once().await;
        let rights = &Rights::default();
        let asked = Asked { command, environment, working_dir: "/", user: None, rights, private: None };
        match self.begin(&asked, streams, timeout).await {
            Ok(out) => self.answer(out, &asked, (timeout, std::future::pending())).await,
            Err(why) => ExecOutcome::Unable(why),
        }
    }

    /// Has a command begun that reads from and prints into these. Errors, in words: it was not.
    pub(super) async fn begin(
        &self,
        asked: &Asked<'_>,
        streams: [OwnedFd; 3],
        timeout: Millis,
    ) -> Result<Out, String> {
        let mut why = "";
        // An order that was not taken is given once more: nothing was run, and whoever asks takes no answer for a bad
        // one.
        for _ in 0..2 {
            let number = self.inner.execs.fetch_add(1, Ordering::Relaxed);
            let mark = tree::mark_of_exec(&self.inner.places.slots, number);
            let spec = asked.spec(Order::Ask { timeout_ms: timeout.0 }, mark.clone());
            let ordered = self.inner.zygote.order(&spec, &streams.each_ref().map(AsFd::as_fd)).await;
            let channel = ordered.map_err(|error| chain(&error))?;
            let mut out = Out::new(channel, mark, None);
            why = match tokio::time::timeout(BEGIN_PATIENCE, out.begins()).await {
                // Whoever reads what it prints comes to an end only when nobody else could print it.
                Ok(Begins::Begun) => return Ok(out),
                Ok(Begins::Unable(why)) => {
                    out.ended();
                    return Err(why);
                }
                Ok(Begins::Killed) => "its shim was killed before it ran anything",
                Err(_) => {
                    self.inner.zygote.replace().await;
                    "the process that makes shims was stopped"
                }
            };
        }
        Err(why.to_owned())
    }

    /// What has come of a command. That its shim was killed, or is stopped, is no word about it, be it by
    /// the command itself: one that does so is never told to have failed, nor to have gone well.
    async fn answer(
        &self,
        mut out: Out,
        asked: &Asked<'_>,
        (timeout, called_off): (Millis, impl Future<Output = ()>),
    ) -> ExecOutcome {
        let patience = timeout.as_duration() + ANSWER_SLACK;
        let called_off = pin!(called_off);
        let answer = tokio::select! {
            answer = tokio::time::timeout(patience, out.heard()) => answer,
            () = called_off => {
                out.call_off();
                tokio::time::timeout(ANSWER_SLACK, out.heard()).await
            }
        };
        let what = match answer {
            Ok(Some(FromShim::Done { end, output })) => {
                out.ended();
                return ended(end, output, asked, timeout);
            }
            Ok(Some(FromShim::Unable { why })) => {
                out.ended();
                return ExecOutcome::Unable(why);
            }
            Ok(_) => "its shim was killed",
            Err(_) if out.has_begun() => "its shim was stopped, and is killed",
            // The order was not taken.
            Err(_) => {
                self.inner.zygote.replace().await;
                "the process that makes shims was stopped"
            }
        };
        ExecOutcome::Unable(match out.kill().await {
            Ok(()) => what.to_owned(),
            Err(StillThere(count)) => format!("{what}; {count} of its processes live on"),
        })
    }
}

/// As its shim says it.
fn ended(end: Option<End>, output: Vec<u8>, asked: &Asked<'_>, timeout: Millis) -> ExecOutcome {
    let output = String::from_utf8_lossy(&output).into_owned();
    match end {
        Some(End::NotExecuted(stage, errno)) if stage.is_want(errno) => {
            ExecOutcome::Unable(error::words(stage, errno))
        }
        Some(End::NotExecuted(stage, errno)) => {
            ExecOutcome::Failed(error::not_executed(stage, errno, asked).to_string())
        }
        Some(end) => ExecOutcome::Ended { exit: super::exit(end), output },
        None => ExecOutcome::TimedOut { after: timeout, output },
    }
}

//! Commands that run inside of a container to their end: health checks, hooks.
//!
//! An engine cannot end what it has begun so. Each of its processes carries a mark, as those of commands
//! beside processes do, by which they are found on this machine and killed: when their time is over, when
//! nobody waits any more, and by the next daemon if this one is killed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bollard::models::ExecConfig;
use bytes::{Buf, BytesMut};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use upbeat_model::{Attempt, Exit, Millis, SlotId};

use super::look::is_id;
use super::wire::{Ask, part};
use super::{Engine, EngineError, words};
use crate::process::ExecOutcome;
use crate::tree::{self, StillThere, Tree};

/// Of what it prints, the end is kept; as of commands beside processes.
const OUTPUT_MAX: usize = 4 * 1024;

/// What the engine says of one that was killed.
const KILLED: i32 = 137;

/// When the first process of a container ends, the kernel kills all others, and the engine may tell their ends
/// before: it is asked so often, at these distances, whether that was it.
const SETTLE_STEPS: u32 = 10;
const SETTLE_STEP: std::time::Duration = std::time::Duration::from_millis(50);

/// Numbers of commands beside processes begin below.
const FIRST: u64 = 1 << 63;

static NUMBER: AtomicU64 = AtomicU64::new(FIRST);

/// What to run.
#[derive(Clone, Debug)]
pub struct ContainerExec {
    /// In the container of which slot.
    pub slot: SlotId,
    /// Of which attempt.
    pub attempt: Attempt,
    /// Program and arguments, as the image has them.
    pub command: Vec<String>,
    /// Its variables besides those of the container.
    pub environment: BTreeMap<String, String>,
    /// Absolute, in the container; the container's where absent.
    pub working_dir: Option<String>,
    /// `name`, `uid`, either with `:group`; the container's where absent.
    pub user: Option<String>,
    /// It has all rights of root there.
    pub privileged: bool,
    /// After which it is killed.
    pub timeout: Millis,
}

#[derive(Deserialize)]
struct Made {
    #[serde(rename = "Id")]
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stands {
    #[serde(default)]
    running: bool,
    #[serde(default)]
    exit_code: Option<i64>,
}

/// What it runs is ended, unless that has happened.
struct Out {
    mark: Option<String>,
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some(mark) = self.mark.take() {
            tokio::spawn(tree::clear(Tree::of_exec(mark)));
        }
    }
}

impl Out {
    async fn kill(&mut self) -> Result<(), StillThere> {
        match self.mark.take() {
            Some(mark) => tree::clear(Tree::of_exec(mark)).await,
            None => Ok(()),
        }
    }
}

impl Engine {
    /// Runs a command to its end or its time-out. Dropping the future kills it.
    ///
    /// That the container ends while it runs, or the engine is gone, is no word about the command.
    pub async fn exec(&self, asked: ContainerExec) -> ExecOutcome {
        let deadline = Instant::now() + asked.timeout.as_duration();
        let mark = tree::mark_of_exec(&self.inner.settings.slots, NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut out = Out { mark: None };
        let mut output = Output::default();
        let run = self.run_in_container(&asked, &mark, &mut out, &mut output);
        match timeout_at(deadline, run).await {
            Ok(outcome) => outcome,
            Err(_) => match out.kill().await {
                Ok(()) => ExecOutcome::TimedOut { after: asked.timeout, output: output.text() },
                Err(StillThere(count)) => {
                    let more = format!("{}\n{count} of its processes could not be killed", output.text());
                    ExecOutcome::TimedOut { after: asked.timeout, output: more }
                }
            },
        }
    }

    async fn run_in_container(
        &self,
        asked: &ContainerExec,
        mark: &str,
        out: &mut Out,
        output: &mut Output,
    ) -> ExecOutcome {
        let unable = |error: EngineError| ExecOutcome::Unable(error.to_string());
        let id = match self.make_exec(asked, mark).await {
            Ok(id) => id,
            Err(EngineError::Said { message, .. }) => return not_run(asked, &message),
            Err(error) => return unable(error),
        };
        out.mark = Some(mark.to_owned());
        let run = async {
            let body = serde_json::json!({ "Detach": false, "Tty": false });
            let ask = Ask::post(format!("/exec/{}/start", part(&id))).json(&body)?;
            let mut stream = self.wire().stream(ask).await?;
            while let Some(piece) = stream.piece().await? {
                output.take(&piece);
            }
            self.wire().answer::<Stands>(Ask::get(format!("/exec/{}/json", part(&id)))).await
        };
        let stands = match run.await {
            Ok(stands) => stands,
            Err(EngineError::Said { message, .. }) => {
                out.mark = None;
                return not_run(asked, &message);
            }
            Err(error) => return unable(error),
        };
        let text = output.text();
        let code = match stands.exit_code.map(i32::try_from) {
            Some(Ok(code @ 0..=255)) if !stands.running => code,
            // It gave its output away, and runs on: nothing is known of it until it ends.
            _ if stands.running => {
                let what = "it closed its output and runs on";
                return ExecOutcome::Failed(what.to_owned());
            }
            _ => return ExecOutcome::Unable("the container engine did not say how it ended".to_owned()),
        };
        if matches!(code, 126 | 127) && has_failed(&text) {
            out.mark = None;
            return not_run(asked, &text);
        }
        if code == KILLED && self.is_ending(asked).await {
            return ExecOutcome::Unable("the container ended while it ran".to_owned());
        }
        // What it has left behind in the container is ended too.
        let _ = out.kill().await;
        ExecOutcome::Ended { exit: Exit::Code(code), output: text }
    }

    /// Whether it was killed with its container.
    async fn is_ending(&self, asked: &ContainerExec) -> bool {
        for _ in 0..SETTLE_STEPS {
            if self.check(&asked.slot).await.is_err()
                || self.container_of(&asked.slot, asked.attempt).is_err()
            {
                return true;
            }
            tokio::time::sleep(SETTLE_STEP).await;
        }
        false
    }

    async fn make_exec(&self, asked: &ContainerExec, mark: &str) -> Result<String, EngineError> {
        let container = self.container_of(&asked.slot, asked.attempt)?;
        let mut environment: Vec<_> =
            asked.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        environment.push(mark.to_owned());
        let body = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(asked.command.clone()),
            env: Some(environment),
            user: asked.user.clone(),
            working_dir: asked.working_dir.clone(),
            privileged: Some(asked.privileged),
            ..ExecConfig::default()
        };
        let made: Made = self
            .wire()
            .answer(Ask::post(format!("/containers/{}/exec", part(&container))).json(&body)?)
            .await?;
        match is_id(&made.id) {
            true => Ok(made.id),
            false => Err(EngineError::Nonsense("a command without an id".to_owned())),
        }
    }
}

/// The engine says in its output that nothing was run.
fn has_failed(output: &str) -> bool {
    output.contains("OCI runtime exec failed") || output.starts_with("unable to find user")
}

fn not_run(asked: &ContainerExec, message: &str) -> ExecOutcome {
    if ["is not running", "is paused", "No such container"].iter().any(|part| message.contains(part)) {
        return ExecOutcome::Unable(words::tidy(message));
    }
    let program = asked.command.first().map_or("", String::as_str);
    ExecOutcome::Failed(
        words::not_executed(message)
            .unwrap_or_else(|| format!("cannot run `{program}` in the container: {}", words::tidy(message))),
    )
}

/// The end of what was printed, out of the frames that it comes in.
#[derive(Default)]
struct Output {
    head: BytesMut,
    /// Bytes of the frame that are still to come.
    rest: usize,
    kept: Vec<u8>,
}

impl Output {
    fn take(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.rest > 0 {
                let (now, later) = piece.split_at(self.rest.min(piece.len()));
                self.rest -= now.len();
                self.keep(now);
                piece = later;
                continue;
            }
            let (now, later) = piece.split_at((8 - self.head.len()).min(piece.len()));
            self.head.extend_from_slice(now);
            piece = later;
            if self.head.len() == 8 {
                self.head.advance(4);
                self.rest = self.head.get_u32() as usize;
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(&bytes[bytes.len().saturating_sub(OUTPUT_MAX)..]);
        let excess = self.kept.len().saturating_sub(OUTPUT_MAX);
        self.kept.drain(..excess);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_output_in_any_pieces_the_end_is_kept() {
        let mut sent = Vec::new();
        for text in ["one\n".to_owned(), "x".repeat(OUTPUT_MAX), "end".to_owned()] {
            sent.extend_from_slice(&[1, 0, 0, 0]);
            sent.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
            sent.extend_from_slice(text.as_bytes());
        }
        for size in [1, 5, 100_000] {
            let mut output = Output::default();
            sent.chunks(size).for_each(|piece| output.take(piece));
            let text = output.text();
            assert!(text.len() == OUTPUT_MAX && text.ends_with("xend") && !text.contains("one"));
        }
    }
}

//! Commands that run inside of a container to their end: health checks, hooks.
//!
//! An engine cannot end what it has begun so. Each of its processes carries a mark, as those of commands
//! beside processes do, by which they are found on this machine and killed: when their time is over, when
//! nobody waits any more, and by the next daemon if this one is killed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::models::ExecConfig;
use bytes::{Buf, BytesMut};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use upbeat_model::{Attempt, Exit, Millis, SlotId};

use super::look::{self, is_id};
use super::wire::{Ask, part};
use super::{Engine, EngineError, words};
use crate::process::ExecOutcome;
use crate::tree::{self, StillThere, Tree};

/// Of what it prints, the end is kept; as of commands beside processes.
const OUTPUT_MAX: usize = 4 * 1024;

/// What the engine says of one that was killed.
pub(super) const KILLED: i32 = 137;

/// When the first process of a container ends, the kernel kills all others, and the engine may tell their ends
/// before: so long it is waited for, to see whether that was it.
const SETTLE_PATIENCE: Duration = Duration::from_millis(500);

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

/// How a command stands, as the engine says it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Stands {
    #[serde(default)]
    pub(super) running: bool,
    /// `None`: it was not begun yet.
    #[serde(default)]
    pub(super) exit_code: Option<i64>,
    /// On the machine of the engine.
    #[serde(default)]
    pid: i32,
    #[serde(default, rename = "ContainerID")]
    container: String,
}

/// An engine that has much to do begins a command long after it was asked to. So long it is waited for, when nobody
/// wants it any more.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);

/// What nobody waits for is looked at again after so long, and more and more slowly.
const LOOK_FIRST: Duration = Duration::from_millis(10);
const LOOK_LAST: Duration = Duration::from_secs(1);

/// What it runs is ended, unless that has happened.
pub(super) struct Out(Option<Ordered>);

/// A command that the engine was told to begin.
struct Ordered {
    engine: Engine,
    id: String,
    mark: String,
}

impl Drop for Out {
    fn drop(&mut self) {
        if let Some(ordered) = self.0.take() {
            tokio::spawn(ordered.call_off());
        }
    }
}

impl Out {
    pub(super) fn of(engine: &Engine, id: &str, mark: String) -> Self {
        Self(Some(Ordered { engine: engine.clone(), id: id.to_owned(), mark }))
    }

    /// It never ran.
    pub(super) fn is_over(&mut self) {
        self.0 = None;
    }

    /// Ends it, whether it was begun yet or not.
    async fn call_off(&mut self) -> Result<(), StillThere> {
        match self.0.take() {
            Some(ordered) => ordered.call_off().await,
            None => Ok(()),
        }
    }

    /// Ends what it has left behind: it has ended itself.
    pub(super) async fn clear(&mut self) -> Result<(), StillThere> {
        match self.0.take() {
            Some(ordered) => tree::clear(Tree::of_exec(ordered.mark)).await,
            None => Ok(()),
        }
    }
}

impl Ordered {
    /// Kills all of it until the engine says that it has ended. One that was told to begin it does so, be it late.
    async fn call_off(self) -> Result<(), StillThere> {
        let (until, mut pause) = (Instant::now() + BEGINS_WITHIN, LOOK_FIRST);
        loop {
            let cleared = tree::clear(Tree::of_exec(self.mark.clone())).await;
            let ask = Ask::get(format!("/exec/{}/json", part(&self.id)));
            let left = match self.engine.wire().answer::<Stands>(ask).await {
                Ok(Stands { running: true, pid, container, .. }) => {
                    // Its environment may be another by now, so that it carries no mark.
                    tree::kill_under(pid, container).await;
                    1
                }
                Ok(Stands { exit_code: Some(_), .. }) => {
                    return tree::clear(Tree::of_exec(self.mark)).await;
                }
                Err(error) if error.is_absent() => return cleared,
                // Not begun; or the engine does not say.
                Ok(_) | Err(_) => 0,
            };
            if Instant::now() >= until {
                return cleared.and(if left == 0 { Ok(()) } else { Err(StillThere(left)) });
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LOOK_LAST);
        }
    }
}

impl Engine {
    /// Runs a command to its end or its time-out. Dropping the future kills it.
    ///
    /// That the container ends while it runs, or the engine is gone, is no word about the command.
    pub async fn exec(&self, asked: ContainerExec) -> ExecOutcome {
        let deadline = Instant::now() + asked.timeout.as_duration();
        let mark = self.fresh_mark();
        let mut out = Out(None);
        let mut output = Output::default();
        let run = self.run_in_container(&asked, &mark, &mut out, &mut output);
        match timeout_at(deadline, run).await {
            Ok(outcome) => outcome,
            Err(_) => match out.call_off().await {
                Ok(()) => ExecOutcome::TimedOut { after: asked.timeout, output: output.text() },
                Err(StillThere(count)) => {
                    let more = format!("{}\n{count} of its processes could not be killed", output.text());
                    ExecOutcome::TimedOut { after: asked.timeout, output: more }
                }
            },
        }
    }

    /// By which the processes of one command are known.
    pub(super) fn fresh_mark(&self) -> String {
        tree::mark_of_exec(&self.inner.settings.slots, NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    async fn run_in_container(
        &self,
        asked: &ContainerExec,
        mark: &str,
        out: &mut Out,
        output: &mut Output,
    ) -> ExecOutcome {
        let unable = |error: EngineError| ExecOutcome::Unable(error.to_string());
        let id = match self.make_exec(asked, mark, ExecConfig::default()).await {
            Ok(id) => id,
            Err(EngineError::Said { message, .. }) => return not_run(asked, &message),
            Err(error) => return unable(error),
        };
        *out = Out::of(self, &id, mark.to_owned());
        let start = async {
            let body = serde_json::json!({ "Detach": false, "Tty": false });
            self.wire().stream(Ask::post(format!("/exec/{}/start", part(&id))).json(&body)?).await
        };
        let mut stream = match start.await {
            Ok(stream) => stream,
            Err(EngineError::Said { message, .. }) => {
                out.is_over();
                return not_run(asked, &message);
            }
            Err(error) => return unable(error),
        };
        let run = async {
            while let Some(piece) = stream.piece().await? {
                output.take(&piece);
            }
            self.wire().answer::<Stands>(Ask::get(format!("/exec/{}/json", part(&id)))).await
        };
        let stands = match run.await {
            Ok(stands) => stands,
            // It was run, and nobody says how it has ended.
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
            out.is_over();
            return not_run(asked, &text);
        }
        if code == KILLED && self.is_ending(&asked.slot, asked.attempt).await {
            return ExecOutcome::Unable("the container ended while it ran".to_owned());
        }
        // What it has left behind in the container is ended too.
        let _ = out.clear().await;
        ExecOutcome::Ended { exit: Exit::Code(code), output: text }
    }

    /// Whether it was killed with its container.
    pub(super) async fn is_ending(&self, slot: &SlotId, attempt: Attempt) -> bool {
        let Ok(container) = self.container_of(slot, attempt) else { return true };
        match look::wait(self.wire(), &container, "not-running", SETTLE_PATIENCE).await {
            Err(EngineError::Slow { .. }) => false,
            // It has ended, or is gone, or nobody knows.
            _ => true,
        }
    }

    /// Has the engine make one, with what is said besides; gives its id.
    pub(super) async fn make_exec(
        &self,
        asked: &ContainerExec,
        mark: &str,
        besides: ExecConfig,
    ) -> Result<String, EngineError> {
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
            ..besides
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

/// The engine says that nothing was run.
pub(super) fn has_failed(output: &str) -> bool {
    // Where it could not get into the container, that has ended or is about to.
    (output.contains("OCI runtime exec failed") && !output.contains("setns"))
        || output.starts_with("unable to find user")
}

/// What came of a command that the engine did not run. It has failed where the engine names the command's own fault;
/// all else says something of the engine, or of a container that has ended, and nothing of the service.
pub(super) fn not_run(asked: &ContainerExec, message: &str) -> ExecOutcome {
    let is_ending =
        || ["is not running", "is paused", "No such container"].iter().any(|part| message.contains(part));
    if words::is_of_the_engine(message) || is_ending() {
        return ExecOutcome::Unable(words::tidy(message));
    }
    if let Some(words) = words::not_executed(message) {
        return ExecOutcome::Failed(words);
    }
    let program = asked.command.first().map_or("", String::as_str);
    let words = format!("cannot run `{program}` in the container: {}", words::tidy(message));
    match has_failed(message) {
        true => ExecOutcome::Failed(words),
        false => ExecOutcome::Unable(words),
    }
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
    fn what_the_engine_says_of_itself_is_no_answer_of_the_service() {
        let asked = ContainerExec {
            slot: "app/web/1".parse().unwrap(),
            attempt: Attempt(1),
            command: vec!["check".to_owned()],
            environment: std::collections::BTreeMap::new(),
            working_dir: None,
            user: None,
            privileged: false,
            timeout: upbeat_model::Millis::seconds(1),
        };
        let no = |message: &str| matches!(not_run(&asked, message), ExecOutcome::Failed(_));
        for engines in [
            "connection error: desc = \"transport: error while dialing: dial unix /run/containerd/containerd.sock\"",
            "context deadline exceeded",
            "Container 12 is not running",
            "Container 12 is paused, unpause the container before exec",
            "something nobody has heard of",
            "OCI runtime exec failed: exec failed: process_linux.go:101: executing setns process caused: exit status 1",
        ] {
            assert!(!no(engines), "{engines}");
        }
        for own in [
            "OCI runtime exec failed: exec failed: exec: \"check\": executable file not found in $PATH: unknown",
            "unable to find user nobody2: no matching entries in passwd file",
            "OCI runtime exec failed: exec failed: chdir to cwd (\"/x\") set in config.json failed: unknown",
        ] {
            assert!(no(own), "{own}");
        }
    }

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

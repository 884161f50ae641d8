//! A command that is asked: the question on its standard input, the answer on its standard output.
//!
//! It is no service: nobody takes it up again after a crash, and what it answers is of use to whoever asks
//! now. So a daemon has it run as it has commands of health checks run, below a shim that kills all of its tree when
//! it has answered, when nobody waits any more, and when the daemon is dead. Where there is nobody to make shims, as
//! in a program that embeds rollouts alone, it runs below that program, in a process group of its own, and that
//! group is killed when it has answered and when nobody waits any more.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe::{Receiver, Sender};
use upbeat_model::{Exit, Millis};

use super::{ANSWER_MAX, QUESTION_TIME};
use crate::probe::words;
use crate::process::{ExecOutcome, ProcessDriver, limits};
use crate::readiness;

/// A command has as long as a question.
const TIME: Millis = Millis(QUESTION_TIME.as_millis() as u64);

/// The end of what it says about itself that is kept: its last line is in there.
const COMPLAINT_MAX: usize = 4 * 1024;

/// A pipe holds so many bytes at most, unless somebody with all rights says otherwise; as usual a sixteenth.
const PIPE_MAX: usize = 1024 * 1024;

/// Read at once.
const READ: usize = 16 * 1024;

/// A process and those it has started, as far as they stay in its group. They are killed with this.
struct Group {
    /// None: it was reaped, and its number may be another's.
    child: Option<Child>,
    /// Readable when it has ended. None: it was handed on.
    ended: Option<AsyncFd<OwnedFd>>,
}

impl Group {
    /// Blocks until the program is loaded, which takes long where that is on a disk that hangs.
    fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let watch = || {
            limits::restore(&child)?;
            let process = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
            readiness::register(process, Interest::READABLE)
        };
        match watch() {
            Ok(ended) => Ok(Self { child: Some(child), ended: Some(ended) }),
            Err(error) => {
                kill(&child);
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Until it has ended; it is not reaped by that, so its number stays its own.
    async fn ended(&self) -> io::Result<()> {
        match &self.ended {
            Some(ended) => ended.readable().await.map(drop),
            None => Ok(()),
        }
    }

    /// Of one that has ended: how. Whatever it left of its group is killed before.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        let Some(mut child) = self.child.take() else { return Err(io::ErrorKind::NotFound.into()) };
        kill(&child);
        child.wait()
    }
}

/// Its whole group, whose number is its own as long as it is not reaped.
fn kill(child: &Child) {
    // Nobody is there: then nobody is to be killed.
    let _ = rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL);
}

impl Drop for Group {
    fn drop(&mut self) {
        let (Some(mut child), Some(ended)) = (self.child.take(), self.ended.take()) else { return };
        kill(&child);
        // Where the runtime ends, so does the daemon, and whoever comes after it reaps.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if ended.readable().await.is_ok() {
                    // It has ended: this does not block, and how it ended is nobody's business any more.
                    let _ = child.wait();
                }
            });
        }
    }
}

/// What is read of a pipe.
struct Reading {
    /// None: it is over.
    pipe: Option<Receiver>,
    bytes: Vec<u8>,
}

impl Reading {
    fn of(pipe: impl Into<OwnedFd>) -> io::Result<Self> {
        Ok(Self { pipe: Some(Receiver::from_owned_fd(pipe.into())?), bytes: Vec::new() })
    }

    /// Some more; never where it is over.
    async fn more(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return std::future::pending().await };
        self.bytes.reserve(READ);
        if pipe.read_buf(&mut self.bytes).await? == 0 {
            self.pipe = None;
        }
        Ok(())
    }

    /// What is there by now, whoever else may hold the other end. Up to one more than so many bytes in all.
    fn rest(&mut self, most: usize) -> io::Result<()> {
        let Some(pipe) = self.pipe.take() else { return Ok(()) };
        let mut piece = [0; READ];
        while self.bytes.len() <= most {
            match rustix::io::retry_on_intr(|| rustix::io::read(pipe.as_fd(), &mut piece)) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
                Ok(count) => self.bytes.extend_from_slice(&piece[..count]),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn keep_end(&mut self, most: usize) {
        let over = self.bytes.len().saturating_sub(most);
        self.bytes.drain(..over);
    }
}

/// Who runs commands.
pub(super) struct Runner {
    /// All their variables.
    pub(super) environment: BTreeMap<String, String>,
    /// Below shims. None: below this process.
    pub(super) driver: Option<ProcessDriver>,
}

impl Runner {
    /// What it prints, if it ends with status 0. Dropping the future kills it.
    ///
    /// Errors, in words: it cannot be run, or ended otherwise: then how, and what it said last.
    pub(super) async fn ask(&self, command: &[String], request: Vec<u8>) -> Result<Vec<u8>, String> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
        let pipes = || -> io::Result<_> {
            let ((input, asks), (answers, output), (complains, errors)) = (pipe()?, pipe()?, pipe()?);
            let talk = Talk {
                input: Sender::from_owned_fd(asks)?,
                answer: Reading::of(answers)?,
                complaint: Reading::of(complains)?,
            };
            Ok((talk, [input, output, errors]))
        };
        let (talk, streams) = pipes().map_err(|error| words::said(&error))?;
        let (exit, answer, complaint) = match &self.driver {
            Some(driver) => {
                let ended = below_shim(driver.ask(command, &self.environment, streams, TIME));
                talk.until(ended, request).await?
            }
            None => talk.until(below_us(command, &self.environment, streams), request).await?,
        };
        if exit.is_success() {
            return Ok(answer);
        }
        let complaint = String::from_utf8_lossy(&complaint);
        Err(match complaint.lines().map(str::trim).rfind(|line| !line.is_empty()) {
            Some(last) => format!("{exit}: {last}"),
            None => exit.to_string(),
        })
    }
}

/// How it ended. Errors, in words: it did not, or not by itself.
async fn below_shim(outcome: impl Future<Output = ExecOutcome>) -> Result<Exit, String> {
    match outcome.await {
        ExecOutcome::Ended { exit, .. } => Ok(exit),
        ExecOutcome::TimedOut { after, .. } => Err(format!("timed out after {after}")),
        ExecOutcome::Failed(why) | ExecOutcome::Unable(why) => Err(why),
    }
}

/// The same.
async fn below_us(
    command: &[String],
    environment: &BTreeMap<String, String>,
    streams: [OwnedFd; 3],
) -> Result<Exit, String> {
    let Some((program, arguments)) = command.split_first() else { return Err("it names no program".into()) };
    let mut prepared = Command::new(program);
    prepared.args(arguments).env_clear().envs(environment).current_dir("/").process_group(0);
    let [input, output, errors] = streams.map(Stdio::from);
    prepared.stdin(input).stdout(output).stderr(errors);
    // Should nobody wait any more when it is there, it is dropped, and so killed.
    let started = tokio::task::spawn_blocking(move || Group::start(&mut prepared)).await;
    let started = started.map_err(|_| "the daemon ends".to_owned())?;
    let mut group = started.map_err(|error| format!("cannot run `{program}`: {}", words::said(&error)))?;
    group.ended().await.map_err(|error| words::said(&error))?;
    let status = group.reap().map_err(|error| words::said(&error))?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown("neither by itself nor by a signal".into()),
    })
}

/// Our ends of its input, its output and its errors.
struct Talk {
    input: Sender,
    answer: Reading,
    complaint: Reading,
}

impl Talk {
    /// How it ended, what it answered, and the end of what it said besides. One that answers too much is not
    /// waited for.
    async fn until(
        self,
        ended: impl Future<Output = Result<Exit, String>>,
        request: Vec<u8>,
    ) -> Result<(Exit, Vec<u8>, Vec<u8>), String> {
        let Self { mut input, mut answer, mut complaint } = self;
        let feeding = async move {
            // Whoever does not listen to all of it may have an answer all the same.
            let _ = input.write_all(&request).await;
        };
        let (mut feeding, mut ended) = (std::pin::pin!(feeding), std::pin::pin!(ended));
        let mut is_fed = false;
        let said = |error: io::Error| words::said(&error);
        let exit = loop {
            tokio::select! {
                () = &mut feeding, if !is_fed => is_fed = true,
                more = answer.more() => more.map_err(said)?,
                more = complaint.more() => more.map_err(said)?,
                exit = &mut ended => break exit?,
            }
            complaint.keep_end(COMPLAINT_MAX);
            within(&answer.bytes)?;
        };
        answer.rest(ANSWER_MAX).map_err(said)?;
        within(&answer.bytes)?;
        complaint.rest(PIPE_MAX).map_err(said)?;
        complaint.keep_end(COMPLAINT_MAX);
        Ok((exit, answer.bytes, complaint.bytes))
    }
}

fn within(answer: &[u8]) -> Result<(), String> {
    match answer.len() <= ANSWER_MAX {
        true => Ok(()),
        false => Err(format!("its answer is longer than {}", words::bytes(ANSWER_MAX as u64))),
    }
}

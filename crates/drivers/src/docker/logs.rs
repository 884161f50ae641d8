//! What containers print, kept as the output of processes is: in the log of the slot, so that all who read
//! that read this too.
//!
//! The engine keeps it, each message with its time. What was written last says where to go on, so that a
//! daemon that comes later misses no line and writes none twice: as many messages of the very last time as
//! are in the log are passed over.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use upbeat_model::SlotId;
use upbeat_model::project::LogRotation;
use upbeat_shim::log::{self, Stream, Writer, segment_name, segments};

use super::frames::{Frames, Message};
use super::look::Found;
use super::wire::{Ask, part};
use super::{Engine, EngineError, EngineEvent};

/// The engine has all lines when it tells an end; should it not give them within this, the end is told.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// An engine that is gone is asked again so soon, and then at twice the time each.
const BACK_OFF_FIRST: Duration = Duration::from_millis(100);
/// What waits there comes all the same.
const BACK_OFF_MOST: Duration = Duration::from_secs(5);

/// Of the end of a log, what is looked at to find out how far it came.
const TAIL: u64 = 256 << 10;

/// The last message that was written: its time, and how many of that time were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    at_ns: i64,
    count: u64,
}

/// The log of a slot, open: one at a time.
pub(super) struct Log {
    /// While it writes, it is at the thread that does.
    writer: Option<Writer>,
    cursor: Option<Cursor>,
    _turn: OwnedMutexGuard<()>,
}

/// Somebody who writes down what a container prints.
pub(super) struct Follower {
    ended: watch::Sender<bool>,
    task: JoinHandle<Log>,
}

impl Engine {
    /// Waits until whoever wrote it before has ended.
    pub(super) async fn log_turn(&self, slot: &SlotId) -> OwnedMutexGuard<()> {
        self.turn(&format!("log {slot}")).await
    }

    /// Opens the log of a slot to write down what a container prints.
    pub(super) async fn open_log(&self, slot: &SlotId, found: &Found) -> Log {
        let turn = self.log_turn(slot).await;
        let (dir, rotation, is_terminal) = (self.log_dir(slot), found.marks.log, found.tty);
        let ran = found.state.ever_ran();
        let opened = spawn_blocking(move || open(dir, rotation, is_terminal, ran)).await;
        let (writer, cursor) = opened.map_or((None, None), |(writer, cursor)| (Some(writer), cursor));
        Log { writer, cursor, _turn: turn }
    }

    /// Writes down what it prints, until it has ended.
    pub(super) fn follow(&self, found: &Found, log: Log) -> Follower {
        let (ended, told) = watch::channel(false);
        let (engine, id, is_terminal) = (self.clone(), found.id.clone(), found.tty);
        let task = tokio::spawn(async move { engine.follow_to_end(&id, is_terminal, log, told).await });
        Follower { ended, task }
    }

    /// Writes down what one that has ended has printed, as far as nobody has.
    pub(super) async fn catch_up(&self, slot: &SlotId, found: &Found) {
        let log = self.open_log(slot, found).await;
        self.follow(found, log).end().await;
    }

    /// Tells an event that is the end of an attempt, once all that was printed is written down.
    pub(super) fn tell_end(&self, follower: Option<Follower>, found: Option<&Found>, event: EngineEvent) {
        let was_out_of_memory = found.is_some_and(|found| found.state.oom_killed);
        let engine = self.clone();
        tokio::spawn(async move {
            if let Some(follower) = follower
                && let Some(mut log) = follower.end().await
                && was_out_of_memory
            {
                log.note(
                    "the kernel ended a process of it: the memory it may have (`mem_limit`) was used up",
                )
                .await;
            }
            // The agent is gone only when the daemon ends.
            let _ = engine.inner.events.send(event).await;
        });
    }

    async fn follow_to_end(
        &self,
        id: &str,
        is_terminal: bool,
        mut log: Log,
        mut ended: watch::Receiver<bool>,
    ) -> Log {
        let mut wait = BACK_OFF_FIRST;
        loop {
            let is_last = *ended.borrow_and_update();
            let before = log.cursor;
            match self.read(id, is_terminal, &mut log, (!is_last).then_some(&mut ended)).await {
                Ok(()) if is_last => return log,
                Err(EngineError::Said { status: 404 | 409, .. }) => return log,
                Err(EngineError::Said { message, .. }) => {
                    let why = super::words::tidy(&message);
                    log.note(&format!("what it prints cannot be read: {why}; `logging` says where it goes"))
                        .await;
                    return log;
                }
                Err(EngineError::Nonsense(why)) => {
                    log.note(&format!("what it prints cannot be read: {why}")).await;
                    return log;
                }
                Ok(()) | Err(_) => {}
            }
            if log.cursor != before {
                wait = BACK_OFF_FIRST;
            }
            tokio::select! {
                _ = ended.wait_for(|ended| *ended) => {}
                () = sleep(wait) => wait = (wait * 2).min(BACK_OFF_MOST),
            }
        }
    }

    /// Reads what there is and, if it goes on, what comes, until it ends.
    async fn read(
        &self,
        id: &str,
        is_terminal: bool,
        log: &mut Log,
        mut goes_on: Option<&mut watch::Receiver<bool>>,
    ) -> Result<(), EngineError> {
        let mut ask = Ask::get(format!("/containers/{}/logs", part(id)));
        for name in ["stdout", "stderr", "timestamps"] {
            ask = ask.query(name, "1");
        }
        if goes_on.is_some() {
            ask = ask.query("follow", "1");
        }
        let mut skip = log.cursor;
        if let Some(Cursor { at_ns, .. }) = skip {
            let (seconds, nanos) = (at_ns.div_euclid(1_000_000_000), at_ns.rem_euclid(1_000_000_000));
            ask = ask.query("since", format!("{seconds}.{nanos:09}"));
        }
        let mut stream = self.wire().stream(ask).await?;
        let mut frames = Frames::new(is_terminal);
        let garbled = |_| EngineError::Nonsense("it is no output of a container".to_owned());
        loop {
            let piece = match &mut goes_on {
                None => stream.piece().await?,
                Some(ended) => tokio::select! {
                    biased;
                    piece = stream.piece() => piece?,
                    // The rest is read by whoever asks without waiting for more.
                    _ = ended.wait_for(|ended| *ended) => return Ok(()),
                },
            };
            let mut messages = Vec::new();
            let is_end = piece.is_none();
            if let Some(piece) = piece {
                frames.take(&piece);
            }
            while let Some(message) = frames.next().map_err(garbled)? {
                messages.push(message);
            }
            if is_end {
                messages.extend(frames.last());
            }
            messages.retain(|message| !is_known(message, &mut skip));
            log.write(messages).await;
            if is_end {
                return Ok(());
            }
        }
    }
}

/// Whether a message is in the log: those of the last time, as many as are there.
fn is_known(message: &Message, skip: &mut Option<Cursor>) -> bool {
    match skip {
        Some(cursor) if message.at_ns < cursor.at_ns => true,
        Some(cursor) if message.at_ns == cursor.at_ns && cursor.count > 0 => {
            cursor.count -= 1;
            true
        }
        _ => {
            *skip = None;
            false
        }
    }
}

impl Follower {
    /// The container has ended: what there is still is written down. `None`: it could not be had in time.
    async fn end(mut self) -> Option<Log> {
        self.ended.send_replace(true);
        match timeout(END_PATIENCE, &mut self.task).await {
            Ok(log) => log.ok(),
            Err(_) => {
                self.task.abort();
                None
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Whoever lets go of it without its end wants no more of it.
        if !*self.ended.borrow() {
            self.task.abort();
        }
    }
}

impl Log {
    /// The number that its next record will have.
    pub(super) fn next(&self) -> u64 {
        self.writer.as_ref().map_or(1, Writer::next_sequence)
    }

    async fn write(&mut self, messages: Vec<Message>) {
        for message in &messages {
            let count = match self.cursor {
                Some(cursor) if cursor.at_ns == message.at_ns => cursor.count + 1,
                _ => 1,
            };
            self.cursor = Some(Cursor { at_ns: message.at_ns, count });
        }
        if messages.is_empty() {
            return;
        }
        self.with_writer(move |writer| {
            for Message { stream, at_ns, is_final, text } in &messages {
                writer.take_record(*stream, *at_ns, text, *is_final);
            }
            writer.flush();
        })
        .await;
    }

    /// Something that Upbeat itself has to say.
    async fn note(&mut self, text: &str) {
        let text = text.to_owned();
        self.with_writer(move |writer| writer.take(Stream::Upbeat, format!("{text}\n").as_bytes())).await;
    }

    /// A disk may hang: not here.
    async fn with_writer(&mut self, act: impl FnOnce(&mut Writer) + Send + 'static) {
        let Some(mut writer) = self.writer.take() else { return };
        let acted = spawn_blocking(move || {
            act(&mut writer);
            writer
        });
        self.writer = acted.await.ok();
    }
}

fn open(dir: PathBuf, rotation: LogRotation, is_terminal: bool, ran: bool) -> (Writer, Option<Cursor>) {
    if let Err(error) = crate::process::private_dir(&dir) {
        tracing::warn!(dir = %dir.display(), %error, "what a container prints cannot be written down");
    }
    // Before it is opened, which may add to it.
    let cursor = if ran { cursor_of(&dir) } else { None };
    let mut writer = Writer::open(&dir, rotation.max_size, rotation.max_files, || {});
    if is_terminal {
        writer.expect_terminal();
    }
    (writer, cursor)
}

/// How far a log came.
fn cursor_of(dir: &Path) -> Option<Cursor> {
    let firsts = segments(dir).ok()?;
    // The last one may have just been begun.
    let recent = firsts.iter().rev().take(2);
    recent.filter_map(|first| cursor_in(&tail(&dir.join(segment_name(*first))).ok()?)).next()
}

fn tail(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text)?;
    // What stands before the first newline, or behind the last, is no whole record.
    let begin =
        if from == 0 { 0 } else { text.iter().position(|b| *b == b'\n').map_or(text.len(), |at| at + 1) };
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(begin, |at| at + 1);
    Ok(text[begin..end.max(begin)].to_vec())
}

fn cursor_in(text: &[u8]) -> Option<Cursor> {
    let records: Vec<_> = text.split(|byte| *byte == b'\n').filter_map(log::parse).collect();
    let mut printed = Vec::new();
    for (at, record) in records.iter().enumerate() {
        // What a writer adds to end the line of one that was killed was not printed.
        let is_mere_end = record.is_final
            && record.text.is_empty()
            && at > 0
            && records[..at]
                .iter()
                .rfind(|before| before.stream == record.stream)
                .is_some_and(|before| !before.is_final);
        if record.stream != Stream::Upbeat && !is_mere_end {
            printed.push(record.at_ns);
        }
    }
    let at_ns = *printed.last()?;
    let count = printed.iter().rev().take_while(|time| **time == at_ns).count() as u64;
    Some(Cursor { at_ns, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_log_came_is_its_last_time_and_how_many_have_it() {
        let row = |text: &str, wanted: Option<(i64, u64)>| {
            let wanted = wanted.map(|(at_ns, count)| Cursor { at_ns, count });
            assert_eq!(cursor_in(text.as_bytes()), wanted, "{text}");
        };
        row("", None);
        row("1.000000001 u F note\n", None);
        row("1.000000001 o F a\n1.000000002 o F b\n1.000000002 e F c\n", Some((1_000_000_002, 2)));
        row("1.000000001 o F a\n9.000000000 u F note\n", Some((1_000_000_001, 1)));
        row("1.000000001 o P a\n9.000000000 o F \n", Some((1_000_000_001, 1)));
        row("1.000000001 o F a\n9.000000000 o F \n", Some((9_000_000_000, 1)));
        row("torn\n1.000000001 o F a\n", Some((1_000_000_001, 1)));
    }

    #[test]
    fn of_messages_that_come_again_those_that_are_there_are_passed_over() {
        let mut skip = Some(Cursor { at_ns: 5, count: 2 });
        let message = |at_ns| Message { stream: Stream::Stdout, at_ns, is_final: true, text: Vec::new() };
        let known: Vec<_> =
            [4, 5, 5, 5, 6, 5].into_iter().map(|at| is_known(&message(at), &mut skip)).collect();
        assert_eq!(known, [true, true, true, false, false, false]);
    }
}

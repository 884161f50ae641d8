//! What a service leaves behind: a file, a line in its log.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use upbeat_model::project::FileCheck;
use upbeat_model::{Attempt, Millis, ProbeName, SlotId};
use upbeat_shim::log::{segment_name, segments};

use super::words::{self, No};
use super::{Answered, Asked, Inner};

/// What is remembered between two questions of so many probes. Of more the older half is forgotten,
/// and asked as if for the first time. A service that is gone is not asked, and so among them.
const REMEMBERED_MAX: usize = 32 * 1024;

/// Of which attempt, when, and what.
type Seen<T> = (Attempt, Instant, T);

/// What was seen when a probe was asked last, by probe.
pub(super) struct Memory<T> {
    seen: Mutex<HashMap<(SlotId, ProbeName), Seen<T>>>,
}

impl<T: Copy> Memory<T> {
    pub(super) fn new() -> Self {
        Self { seen: Mutex::default() }
    }

    /// What was seen the last time of this attempt, and how long ago; in its place comes `now`.
    pub(super) fn replace(&self, asked: &Asked<'_>, now: impl FnOnce(Option<(Duration, T)>) -> T) -> T {
        // Every change is one call: nothing is half-done after a panic.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (asked.slot.clone(), asked.probe.clone());
        let last = seen.get(&key).filter(|(attempt, ..)| *attempt == asked.attempt);
        let value = now(last.map(|(_, at, value)| (at.elapsed(), *value)));
        if seen.len() >= REMEMBERED_MAX && !seen.contains_key(&key) {
            let mut times: Vec<Instant> = seen.values().map(|(_, at, _)| *at).collect();
            let (_, middle, _) = times.select_nth_unstable(REMEMBERED_MAX / 2);
            let middle = *middle;
            seen.retain(|_, (_, at, _)| *at > middle);
        }
        seen.insert(key, (asked.attempt, Instant::now(), value));
        value
    }
}

/// The end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    segment: u64,
    size: u64,
    changed: Option<SystemTime>,
}

/// A log when it was looked at last.
#[derive(Clone, Copy)]
pub(super) struct Printed {
    end: End,
    /// How long nothing had come by then.
    silence: Duration,
}

impl Inner {
    /// By the wall clock, as files have it; one of the future is new.
    pub(super) async fn file(&self, file: &FileCheck) -> Answered {
        let path = PathBuf::from(&file.path);
        let at = path.clone();
        let seen = self.files.at(at, move || changed(&path)).await;
        let changed = seen.unwrap_or_else(|| Err("the daemon ends".into()))?;
        let Some(max_age) = file.max_age else { return Ok("it is there".into()) };
        let age = age(changed);
        match age <= max_age.as_duration() {
            true => Ok(format!("changed within {max_age}")),
            false => Err(format!("not changed within {max_age}").into()),
        }
    }

    /// Silence begins with the start. What follows from there is measured by a clock that does not
    /// step: only how old the last line is when it is asked for the first time is told by the files.
    pub(super) async fn prints(&self, asked: &Asked<'_>, within: Millis) -> Answered {
        let Some(started) = self.driver.started_at(asked.slot, asked.attempt) else {
            return Err("it does not run".into());
        };
        let dir = self.driver.log_dir(asked.slot);
        let at = dir.clone();
        let seen = self.logs.at(at, move || end(&dir)).await;
        let end = seen.unwrap_or_else(|| Err("the daemon ends".into()))?;
        let of_start = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(started.0).unwrap_or(0));
        let of_files = end.changed.map_or(age(of_start), |changed| age(changed).min(age(of_start)));
        let printed = self.printed.replace(asked, |last| {
            let silence = match last {
                None => of_files,
                Some((since, Printed { end: before, silence })) if before == end => silence + since,
                Some((since, _)) => of_files.min(since),
            };
            Printed { end, silence }
        });
        match printed.silence <= within.as_duration() {
            true => Ok(format!("output within {within}")),
            false => Err(format!("no output within {within}").into()),
        }
    }
}

fn age(of: SystemTime) -> Duration {
    of.elapsed().unwrap_or_default()
}

fn changed(path: &Path) -> Result<SystemTime, No> {
    let seen = std::fs::metadata(path).and_then(|there| there.modified());
    seen.map_err(|error| words::error(&error))
}

/// The newest segment of a log; none is fine.
fn end(dir: &Path) -> Result<End, No> {
    /// Segments deleted between the listing and the look, in a row.
    const LISTINGS: u32 = 8;
    for _ in 0..LISTINGS {
        let listed = segments(dir).map_err(|error| words::error(&error).of("its log cannot be read"))?;
        let Some(segment) = listed.last().copied() else {
            return Ok(End { segment: 0, size: 0, changed: None });
        };
        match std::fs::metadata(dir.join(segment_name(segment))) {
            Ok(there) => return Ok(End { segment, size: there.len(), changed: there.modified().ok() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(words::error(&error).of("its log cannot be read")),
        }
    }
    Err("its log is deleted faster than it is read".into())
}

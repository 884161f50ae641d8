//! The files of the audit log: segments, each named by the number of its first record.
//!
//! Laws: what was said to be written is on disk, also after a power cut. What could not be written
//! whole is not there at all. A segment that is dropped was said to be dropped by a record on disk
//! before. What is found and was not left so is said by a record, and never mended silently; also
//! when somebody removes or replaces the file that is being written.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use upbeat_model::{AuditEntry, AuditHead, AuditRecord, Wall};

use super::chain::{self, Key, LINE_MAX};
use super::verify::Segment;

/// What is looked at of the end of the last segment: several batches more than can be ahead of the
/// anchor.
const LOOK_BACK: u64 = 8 << 20;

const SUFFIX: &str = "jsonl";

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A segment is not made longer, in bytes.
    pub segment: u64,
    /// More segments are not kept.
    pub segments: usize,
}

impl Default for Limits {
    /// 100 MB: some 300,000 changes; each takes two records of about 300 bytes.
    fn default() -> Self {
        Self { segment: 10 << 20, segments: 10 }
    }
}

/// Records are written so often where they do not stay: whoever takes the file away again in the
/// microseconds of each time takes it away on purpose, and the change is not made.
const TRIES: usize = 3;

/// What became of the log's files is told so often, if it cannot be written for long.
const HARMS_MAX: usize = 16;

/// The end of the last segment.
struct Open {
    first: u64,
    file: File,
    length: u64,
    /// A write failed: what is behind `length` has to go first.
    is_torn: bool,
}

impl Open {
    /// What became of the file behind our back, if anything did.
    fn harm(&self, dir: &Path) -> io::Result<Option<&'static str>> {
        let ours = self.file.metadata()?;
        let there = match fs::symlink_metadata(dir.join(name(self.first))) {
            Ok(there) => there,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Some("was removed"));
            }
            Err(error) => return Err(error),
        };
        Ok(match () {
            () if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) => Some("was replaced"),
            () if ours.len() != self.length && !self.is_torn => Some("was written by somebody else"),
            () => None,
        })
    }

    /// All of it, and on disk; or nothing, and its numbers are given again.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.length)?;
            self.is_torn = false;
        }
        let written = self.file.write_all_at(text, self.length).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.length += text.len() as u64,
            Err(_) => self.is_torn = self.file.set_len(self.length).is_err(),
        }
        written
    }
}

/// The log on disk.
pub(crate) struct Book {
    dir: PathBuf,
    key: Key,
    limits: Limits,
    head: AuditHead,
    /// By the number of the first record, the oldest first.
    segments: VecDeque<u64>,
    open: Option<Open>,
    /// What was found and has no record yet.
    harms: Vec<AuditEntry>,
}

/// A segment as far as it is written.
pub(crate) type Opened = Segment<io::Take<BufReader<File>>>;

/// What was written, and counts once it is known to stay.
struct Written {
    /// The number of the first of those that were given.
    first: u64,
    head: AuditHead,
    /// The oldest segment goes for it.
    goes: bool,
}

/// The files of a log, in their order, and the number of the first record of each. Files, and no links
/// to any, by the very names they were given.
fn segments(dir: &Path) -> io::Result<VecDeque<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let called = entry.file_name();
        if let Some(first) = called.to_str().and_then(|called| called.split('.').next()?.parse().ok())
            && *called == *name(first)
            && entry.file_type()?.is_file()
        {
            found.push(first);
        }
    }
    found.sort_unstable();
    Ok(found.into())
}

fn name(first: u64) -> String {
    format!("{first:020}.{SUFFIX}")
}

/// Opens a file, and nothing that only has its name: no link is followed, no pipe waited for.
fn open_file(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = how.custom_flags(flags.cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is no file", path.display()))),
    }
}

fn open_to_read(path: &Path) -> io::Result<File> {
    open_file(path, OpenOptions::new().read(true))
}

/// The segments of a log, opened to be read, the oldest first. Errors: there is none, or it may not
/// be read.
pub fn open_segments(dir: &Path) -> io::Result<Vec<Segment<BufReader<File>>>> {
    let opened = segments(dir)?.into_iter().map(|first| {
        let name = name(first);
        Ok(Segment { content: BufReader::new(open_to_read(&dir.join(&name))?), first, name })
    });
    opened.collect()
}

impl Book {
    /// Goes on where the anchor says, or after that, as far as there are good records. Says what was
    /// not as it was left.
    pub(crate) fn open(
        dir: PathBuf,
        key: Key,
        limits: Limits,
        anchor: Option<AuditHead>,
    ) -> io::Result<(Self, Vec<String>)> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let mut segments = segments(&dir)?;
        // Begun by a daemon that was killed before it wrote the first record: nothing is missing.
        while let Some(last) = segments.back()
            && fs::symlink_metadata(dir.join(name(*last)))?.len() == 0
        {
            segments.pop_back();
        }
        let head = anchor.clone().unwrap_or_else(AuditHead::none);
        let mut book = Self { dir, key, limits, head, segments, open: None, harms: Vec::new() };
        let mut found = Vec::new();
        let Some(last) = book.segments.back().copied() else {
            if book.head.count > 0 {
                found.push(format!("the log was gone, with all its {} records", book.head.count));
            }
            return Ok((book, found));
        };
        let mut open = book.open_at_end(last)?;
        let seen = book.tail(&mut open, anchor.is_none(), &mut found)?;
        if seen != book.head.count {
            let head = book.head.count;
            found.push(format!("the log ended with record {seen}, but {head} were written"));
        }
        if anchor.is_none() && book.head.count > 0 {
            found.push(format!("the hash kept elsewhere was gone; the log had {} records", book.head.count));
        }
        book.open = Some(open);
        Ok((book, found))
    }

    fn open_at_end(&self, first: u64) -> io::Result<Open> {
        let path = self.dir.join(name(first));
        let mut how = OpenOptions::new();
        let file = open_file(&path, how.read(true).write(true).create(true).truncate(false).mode(0o600))?;
        let length = file.metadata()?.len();
        Ok(Open { first, file, length, is_torn: false })
    }

    /// Reads the end of the last segment: cuts off a record that was not written whole, and takes
    /// those that follow the anchor (with none, all). Returns the number of the last that is there.
    fn tail(&mut self, open: &mut Open, take_all: bool, found: &mut Vec<String>) -> io::Result<u64> {
        let from = open.length.saturating_sub(LOOK_BACK);
        open.file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        (&open.file).take(LOOK_BACK).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            found.push(format!(
                "a record was not written whole; its {} bytes were cut off",
                bytes.len() - whole
            ));
            open.length = from + whole as u64;
            open.is_torn = true;
        }
        let mut last = 0;
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Ok(record) = chain::read(line, Some(&self.key)) else { continue };
            last = record.sequence;
            let follows = record.sequence == self.head.count + 1 && record.previous == self.head.hash;
            if take_all || follows {
                self.head = AuditHead { count: record.sequence, hash: record.hash };
            }
        }
        Ok(last)
    }

    pub(crate) fn head(&self) -> &AuditHead {
        &self.head
    }

    /// Writes records, all or none; on disk, and in the log, when it returns. Returns the number of the
    /// first of those that were given.
    pub(crate) fn append(&mut self, at: Wall, entries: &[AuditEntry]) -> io::Result<u64> {
        for _ in 0..TRIES {
            self.notice_harm()?;
            let written = self.write(at, entries)?;
            // What was written to a file that was taken away meanwhile is in no log. Where nobody can
            // look it is on disk all the same, and looked for before the next.
            let is_harmed = self.notice_harm().unwrap_or_else(|error| {
                tracing::warn!(%error, "nobody can look whether the audit log is as it was left");
                false
            });
            if !is_harmed {
                self.head = written.head;
                self.harms.clear();
                if written.goes {
                    self.remove_oldest();
                }
                return Ok(written.first);
            }
        }
        Err(io::Error::other("its file is taken away while it is written"))
    }

    /// Looks whether the file is still the one that was written. If not, it is left as it is, and the
    /// next record begins another.
    fn notice_harm(&mut self) -> io::Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        let Some(harm) = open.harm(&self.dir)? else { return Ok(false) };
        let (segment, head) = (name(open.first), self.head.count);
        tracing::error!(segment, harm, head = %self.head, "the audit log is not as it was left");
        let what = match open.first {
            first if first > head => format!("`{segment}` {harm} while it was in use"),
            first => {
                format!("`{segment}` {harm} while it was in use; it had the records from {first} to {head}")
            }
        };
        self.open = None;
        if self.harms.len() < HARMS_MAX {
            self.harms.push(AuditEntry::Found { what });
        }
        Ok(true)
    }

    /// All at the end of the last segment, or of a new one.
    fn write(&mut self, at: Wall, entries: &[AuditEntry]) -> io::Result<Written> {
        let is_full = self.open.as_ref().is_none_or(|open| open.length >= self.limits.segment);
        let goes = if is_full { self.oldest_to_go()? } else { None };
        let mut head = self.head.clone();
        let mut text = String::new();
        let dropped =
            goes.as_ref().map(|head| AuditEntry::Dropped { before: head.count, last: head.hash.clone() });
        let before = self.harms.iter().chain(dropped.iter());
        let first = head.count + 1 + before.clone().count() as u64;
        for entry in before.chain(entries) {
            let (line, hash) = chain::write(&self.key, head.count + 1, at, &head.hash, entry)?;
            if line.len() > LINE_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record is too long"));
            }
            text.push_str(&line);
            head = AuditHead { count: head.count + 1, hash };
        }
        self.put(text.as_bytes(), is_full)?;
        Ok(Written { first, head, goes: goes.is_some() })
    }

    fn remove_oldest(&mut self) {
        if let Some(oldest) = self.segments.pop_front()
            && let Err(error) = fs::remove_file(self.dir.join(name(oldest)))
        {
            tracing::warn!(%error, segment = oldest, "an old segment of the audit log cannot be removed");
        }
    }

    fn put(&mut self, text: &[u8], anew: bool) -> io::Result<()> {
        if anew {
            return self.begin(text);
        }
        let Some(open) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        open.append(text)
    }

    /// A new segment with its first records. It is the log's from when it is whole, and its name with it,
    /// on disk: until then what was written before is where the log ends.
    fn begin(&mut self, text: &[u8]) -> io::Result<()> {
        let first = self.head.count + 1;
        // Somebody may have removed it with all that was in it.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        // Before the file is made: without it nobody could say that the file stays.
        let dir = File::open(&self.dir)?;
        let mut open = self.open_at_end(first)?;
        if let Err(error) = open.append(text).and_then(|()| dir.sync_all()) {
            // It is made anew with the next record: its numbers are given again.
            let _ = open.file.set_len(0);
            let _ = fs::remove_file(self.dir.join(name(first)));
            return Err(error);
        }
        self.open = Some(open);
        self.segments.retain(|known| *known != first);
        self.segments.push_back(first);
        Ok(())
    }

    /// If a segment has to go when another begins: the number of the first record that stays, and the
    /// hash of the one before it.
    fn oldest_to_go(&self) -> io::Result<Option<AuditHead>> {
        if self.segments.len() < self.limits.segments.max(2) {
            return Ok(None);
        }
        let mut line = Vec::new();
        match open_to_read(&self.dir.join(name(self.segments[1]))) {
            Ok(file) => drop(BufReader::new(file).take(LINE_MAX as u64).read_until(b'\n', &mut line)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let record = chain::read(line.strip_suffix(b"\n").unwrap_or(&line), None);
        // What is no record any more goes all the same, and that it is none will be seen.
        Ok(Some(match record {
            Ok(record) => AuditHead { count: record.sequence, hash: record.previous },
            Err(_) => AuditHead { count: self.segments[1], hash: String::new() },
        }))
    }

    /// All of it, to be read as it is now, whatever becomes of it meanwhile. What is gone is not there:
    /// whoever looks sees which records are missing.
    pub(crate) fn snapshot(&self) -> io::Result<Vec<Opened>> {
        let mut opened = Vec::new();
        for first in &self.segments {
            let name = name(*first);
            let file = match open_to_read(&self.dir.join(&name)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let length = match &self.open {
                Some(open) if open.first == *first => open.length,
                _ => u64::MAX,
            };
            opened.push(Segment { name, first: *first, content: BufReader::new(file).take(length) });
        }
        Ok(opened)
    }

    /// The segments a reader of records after a number has to look at.
    pub(crate) fn snapshot_after(&self, after: u64) -> io::Result<Vec<Opened>> {
        let opened = self.snapshot()?;
        let before = opened.iter().take_while(|segment| segment.first <= after.saturating_add(1)).count();
        Ok(opened.into_iter().skip(before.saturating_sub(1)).collect())
    }
}

/// Records after a number and not before a moment, the oldest first, at most so many. A line that is
/// no record is passed over: `verify` speaks of it.
pub(crate) fn read(
    segments: Vec<Segment<impl BufRead>>,
    after: u64,
    since: Wall,
    limit: usize,
) -> io::Result<Vec<AuditRecord>> {
    let mut found = Vec::new();
    for Segment { mut content, .. } in segments {
        let mut line = Vec::new();
        loop {
            line.clear();
            (&mut content).take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            let Ok(record) = chain::read(line.strip_suffix(b"\n").unwrap_or(&line), None) else { continue };
            if record.sequence > after && record.at >= since {
                found.push(record);
            }
            if found.len() >= limit {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

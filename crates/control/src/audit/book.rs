//! The files of the audit log: segments, each named by the number of its first record.
//!
//! Laws: what was said to be written is on disk, also after a power cut. What could not be written
//! whole is not there at all. A segment that is dropped was said to be dropped by a record on disk
//! before. What is found and was not left so is said by a record, and never mended silently.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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

/// The end of the last segment.
struct Open {
    file: File,
    length: u64,
    /// A write failed: what is behind `length` has to go first.
    is_torn: bool,
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
}

/// The files of a log, in their order, and the number of the first record of each.
fn segments(dir: &Path) -> io::Result<VecDeque<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|suffix| suffix == SUFFIX)
            && let Some(first) = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok())
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

/// The segments of a log, opened to be read, the oldest first. Errors: there is none, or it may not
/// be read.
pub fn open_segments(dir: &Path) -> io::Result<Vec<Segment<BufReader<File>>>> {
    let opened = segments(dir)?.into_iter().map(|first| {
        let name = name(first);
        Ok(Segment { content: BufReader::new(File::open(dir.join(&name))?), first, name })
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
        let segments = segments(&dir)?;
        let head = anchor.clone().unwrap_or_else(AuditHead::none);
        let mut book = Self { dir, key, limits, head, segments, open: None };
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
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        Ok(Open { file, length, is_torn: false })
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

    /// Writes records, all or none; on disk when it returns. Returns the number of the first of those
    /// that were given.
    pub(crate) fn append(&mut self, at: Wall, entries: &[AuditEntry]) -> io::Result<u64> {
        let is_full = self.open.as_ref().is_none_or(|open| open.length >= self.limits.segment);
        let goes = if is_full { self.oldest_to_go()? } else { None };
        let mut head = self.head.clone();
        let mut text = String::new();
        let dropped =
            goes.as_ref().map(|head| AuditEntry::Dropped { before: head.count, last: head.hash.clone() });
        for entry in dropped.iter().chain(entries) {
            let (line, hash) = chain::write(&self.key, head.count + 1, at, &head.hash, entry)?;
            if line.len() > LINE_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record is too long"));
            }
            text.push_str(&line);
            head = AuditHead { count: head.count + 1, hash };
        }
        self.put(text.as_bytes(), is_full)?;
        let first = self.head.count + 1 + u64::from(goes.is_some());
        self.head = head;
        if goes.is_some()
            && let Some(oldest) = self.segments.pop_front()
            && let Err(error) = fs::remove_file(self.dir.join(name(oldest)))
        {
            tracing::warn!(%error, segment = oldest, "an old segment of the audit log cannot be removed");
        }
        Ok(first)
    }

    fn put(&mut self, text: &[u8], anew: bool) -> io::Result<()> {
        let mut fresh = None;
        if anew {
            let first = self.head.count + 1;
            fresh = Some(first);
            self.open = Some(self.open_at_end(first)?);
        }
        let Some(open) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        if open.is_torn {
            open.file.set_len(open.length)?;
            open.is_torn = false;
        }
        let written = open.file.write_all_at(text, open.length).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            open.is_torn = open.file.set_len(open.length).is_err();
            if let Some(first) = fresh {
                // It is made anew with the next record.
                self.open = None;
                let _ = fs::remove_file(self.dir.join(name(first)));
                self.reopen_last();
            }
            return Err(error);
        }
        open.length += text.len() as u64;
        if let Some(first) = fresh {
            self.segments.retain(|known| *known != first);
            self.segments.push_back(first);
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    /// After a segment that could not be begun: the one before is full, and the next try begins again.
    fn reopen_last(&mut self) {
        if let Some(last) = self.segments.back() {
            self.open = self.open_at_end(*last).ok();
        }
    }

    /// If a segment has to go when another begins: the number of the first record that stays, and the
    /// hash of the one before it.
    fn oldest_to_go(&self) -> io::Result<Option<AuditHead>> {
        if self.segments.len() < self.limits.segments.max(2) {
            return Ok(None);
        }
        let file = File::open(self.dir.join(name(self.segments[1])))?;
        let mut line = Vec::new();
        BufReader::new(file).take(LINE_MAX as u64).read_until(b'\n', &mut line)?;
        let record = chain::read(line.strip_suffix(b"\n").unwrap_or(&line), None);
        // What is no record any more goes all the same, and that it is none will be seen.
        Ok(Some(match record {
            Ok(record) => AuditHead { count: record.sequence, hash: record.previous },
            Err(_) => AuditHead { count: self.segments[1], hash: String::new() },
        }))
    }

    /// All of it, to be read as it is now, whatever becomes of it meanwhile.
    pub(crate) fn snapshot(&self) -> io::Result<Vec<Segment<io::Take<BufReader<File>>>>> {
        let opened = self.segments.iter().map(|first| {
            let name = name(*first);
            let file = File::open(self.dir.join(&name))?;
            let is_last = self.segments.back() == Some(first);
            let length = match &self.open {
                Some(open) if is_last => open.length,
                _ => u64::MAX,
            };
            Ok(Segment { name, first: *first, content: BufReader::new(file).take(length) })
        });
        opened.collect()
    }

    /// The segments a reader of records after a number has to look at.
    pub(crate) fn snapshot_after(&self, after: u64) -> io::Result<Vec<Segment<io::Take<BufReader<File>>>>> {
        let skipped = self
            .segments
            .iter()
            .take_while(|first| **first <= after.saturating_add(1))
            .count()
            .saturating_sub(1);
        Ok(self.snapshot()?.into_iter().skip(skipped).collect())
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

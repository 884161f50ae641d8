//! Reads what the processes of a slot printed, from the first line kept, from the last few, or as
//! it comes.
//!
//! Exact across rotation and across attempts: records are numbered, so a reader knows its place by
//! a number, and where the segment it was in is gone, how many records it missed. It never shows a
//! record that is not whole. Following is told by the kernel (inotify) and polls nothing.

use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use upbeat_model::{LogLine, LogStream, SlotId};
use upbeat_shim::log::{Stream, parse, segment_name, segments};

use crate::watch::Watches;

/// A longer line is handed on in pieces of this size, so that endless output without a newline
/// needs no endless memory.
const LINE_MAX: usize = 1024 * 1024;

/// Read from a file at once.
const READ: usize = 64 * 1024;

/// A line of a slot's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The number of its (last) record: lines of a slot come by this number.
    pub sequence: u64,
    /// When it was read, in nanoseconds since the epoch.
    pub at_ns: i64,
    /// Where it came from.
    pub stream: Stream,
    /// The line without its end.
    pub text: Vec<u8>,
}

impl Line {
    /// As it travels.
    pub fn shown(self, slot: &SlotId) -> LogLine {
        LogLine {
            slot: slot.clone(),
            sequence: self.sequence,
            at_ns: self.at_ns,
            stream: match self.stream {
                Stream::Stdout => LogStream::Stdout,
                Stream::Stderr => LogStream::Stderr,
                Stream::Upbeat => LogStream::Upbeat,
            },
            text: String::from_utf8_lossy(&self.text).into_owned(),
        }
    }
}

/// Reads one slot's log. Synchronous and stupid: it returns what is there.
pub struct Reader {
    dir: PathBuf,
    /// The next record to read.
    next: u64,
    open: Option<(File, u64)>,
    /// Bytes of a record whose end was not there yet.
    torn: Vec<u8>,
    /// Parts of lines whose end was not read yet: output, error.
    parts: [Option<Line>; 2],
}

impl Reader {
    /// From this record on; 0 or 1 for all there is.
    pub fn from(dir: &Path, sequence: u64) -> Self {
        Self { dir: dir.to_owned(), next: sequence.max(1), open: None, torn: Vec::new(), parts: [None, None] }
    }

    /// So that about the last `count` lines are read. Reads only as many segments as hold them.
    pub fn tail(dir: &Path, count: u64) -> io::Result<Self> {
        let firsts = segments(dir);
        let mut wanted = count;
        for first in firsts.iter().rev() {
            let ends = final_records(&dir.join(segment_name(*first)))?;
            if ends.len() as u64 >= wanted {
                let before = ends.len() - usize::try_from(wanted).unwrap_or(usize::MAX);
                // Just behind the final record of the line before.
                let skip = before.checked_sub(1).map_or(0, |index| ends[index] + 1);
                return Ok(Self::from(dir, first + skip));
            }
            wanted -= ends.len() as u64;
        }
        Ok(Self::from(dir, 1))
    }

    /// The next lines there are, at most about `READ` bytes of them; none when there are no more
    /// now.
    pub fn read(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        while lines.is_empty() {
            if self.open.is_none() && !self.enter(&mut lines)? {
                break;
            }
            let Some((file, _)) = &mut self.open else { break };
            let mut bytes = std::mem::take(&mut self.torn);
            let read = file.take(READ as u64).read_to_end(&mut bytes)?;
            if read == 0 {
                self.torn = bytes;
                if !self.leave() {
                    break;
                }
                continue;
            }
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            self.torn = bytes.split_off(whole);
            for record in bytes.split(|byte| *byte == b'\n') {
                if !record.is_empty() {
                    self.take(record, &mut lines);
                }
            }
        }
        Ok(lines)
    }

    /// Opens the segment that holds the next record. False: there is none yet.
    fn enter(&mut self, lines: &mut Vec<Line>) -> io::Result<bool> {
        let firsts = segments(&self.dir);
        let Some(first) = firsts.iter().rev().find(|first| **first <= self.next).or(firsts.first()).copied()
        else {
            return Ok(false);
        };
        let mut file = match File::open(self.dir.join(segment_name(first))) {
            Ok(file) => file,
            // It was deleted between the listing and now: list again at the next wake-up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if first > self.next {
            let missing = first - self.next;
            let text = format!("{missing} records dropped: they were rotated away");
            lines.push(Line {
                sequence: first - 1,
                at_ns: 0,
                stream: Stream::Upbeat,
                text: text.into_bytes(),
            });
            self.next = first;
            self.parts = [None, None];
        }
        let skip = self.next - first;
        let offset = offset_of(&mut file, skip)?;
        file.seek(SeekFrom::Start(offset))?;
        self.open = Some((file, first));
        self.torn.clear();
        Ok(true)
    }

    /// At the end of a segment: true when a later one goes on.
    fn leave(&mut self) -> bool {
        let Some((_, first)) = &self.open else { return false };
        let later = segments(&self.dir).into_iter().any(|other| other > *first);
        if later {
            // Nothing is ever added to a segment once there is a later one; but something may have
            // been added between our last read and that.
            let (file, _) = match &mut self.open {
                Some(open) => open,
                None => return false,
            };
            let at = file.stream_position().unwrap_or(0);
            let end = file.metadata().map_or(0, |metadata| metadata.len());
            if end <= at {
                self.open = None;
            }
        }
        later
    }

    fn take(&mut self, record: &[u8], lines: &mut Vec<Line>) {
        let sequence = self.next;
        self.next += 1;
        let Some(parsed) = parse(record) else { return };
        let part = match parsed.stream {
            Stream::Stdout => Some(0),
            Stream::Stderr => Some(1),
            Stream::Upbeat => None,
        };
        let before = part.and_then(|part| self.parts[part].take());
        let mut line =
            before.unwrap_or(Line { sequence, at_ns: parsed.at_ns, stream: parsed.stream, text: Vec::new() });
        line.sequence = sequence;
        line.text.extend_from_slice(parsed.text);
        match part {
            Some(part) if !parsed.is_final && line.text.len() < LINE_MAX => self.parts[part] = Some(line),
            _ => lines.push(line),
        }
    }
}

/// Where a record begins in its segment.
fn offset_of(file: &mut File, skip: u64) -> io::Result<u64> {
    let mut buffer = vec![0; READ];
    let (mut seen, mut offset) = (0, 0);
    while seen < skip {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        for (index, byte) in buffer[..read].iter().enumerate() {
            if *byte == b'\n' {
                seen += 1;
                if seen == skip {
                    return Ok(offset + index as u64 + 1);
                }
            }
        }
        offset += read as u64;
    }
    Ok(offset)
}

/// The places, counted in records, of those that end a line.
fn final_records(path: &Path) -> io::Result<Vec<u64>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let records = bytes[..whole].split(|byte| *byte == b'\n').filter(|record| !record.is_empty());
    let ends = records.enumerate().filter(|(_, record)| parse(record).is_some_and(|parsed| parsed.is_final));
    Ok(ends.map(|(place, _)| place as u64).collect())
}

/// Why no line matched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The expression is none. The file's reader refuses such a file, so this is a bug of a client.
    #[error("the pattern cannot be used")]
    Pattern(#[from] regex::Error),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Io(#[from] io::Error),
}

/// Waits for a line of output that matches, from a record on; returns it.
pub async fn watch_for(
    watches: &Watches,
    dir: &Path,
    from: u64,
    pattern: &str,
) -> Result<String, WatchError> {
    let pattern = regex::Regex::new(pattern)?;
    let mut watcher = watches.watcher();
    watcher.add(dir)?;
    let mut reader = Reader::from(dir, from);
    loop {
        let lines = reader.read()?;
        let nothing_new = lines.is_empty();
        for line in lines.into_iter().filter(|line| line.stream != Stream::Upbeat) {
            let text = String::from_utf8_lossy(&line.text);
            if pattern.is_match(&text) {
                /// Shown in statuses, where a long line helps nobody.
                const SHOWN: usize = 200;
                return Ok(text.chars().take(SHOWN).collect());
            }
        }
        if nothing_new {
            watcher.changed().await;
        }
    }
}

/// Several slots' logs as one, by time.
pub struct Merge {
    sources: Vec<Source>,
    heap: BinaryHeap<std::cmp::Reverse<(i64, usize)>>,
}

struct Source {
    slot: SlotId,
    /// Nothing will be added any more: it is let go when it was read to its end.
    retired: bool,
    reader: Reader,
    lines: VecDeque<Line>,
    /// What has no time of its own (a note of the reader) is shown where it was found.
    last_ns: i64,
}

impl Merge {
    /// Of these.
    pub fn of(readers: impl IntoIterator<Item = (SlotId, Reader)>) -> Self {
        let mut merge = Self { sources: Vec::new(), heap: BinaryHeap::new() };
        readers.into_iter().for_each(|(slot, reader)| merge.add(slot, reader));
        merge
    }

    /// One more.
    pub fn add(&mut self, slot: SlotId, reader: Reader) {
        self.sources.push(Source { slot, retired: false, reader, lines: VecDeque::new(), last_ns: 0 });
    }

    /// The slot is gone: what it has printed is read to its end, and it may be added anew.
    pub fn retire(&mut self, slot: &SlotId) {
        for source in self.sources.iter_mut().filter(|source| source.slot == *slot) {
            source.retired = true;
        }
    }

    /// The next lines there are, oldest first, at most about `max`; none when there are no more
    /// now.
    pub fn read(&mut self, max: usize) -> io::Result<Vec<LogLine>> {
        for index in 0..self.sources.len() {
            if self.sources[index].lines.is_empty() {
                self.fill(index)?;
            }
        }
        if self.heap.is_empty() {
            // Nobody's place is remembered by a number now.
            self.sources.retain(|source| !source.retired);
        }
        let mut merged = Vec::new();
        while merged.len() < max
            && let Some(std::cmp::Reverse((_, index))) = self.heap.pop()
        {
            let source = &mut self.sources[index];
            if let Some(line) = source.lines.pop_front() {
                merged.push(line.shown(&source.slot));
            }
            match source.lines.front() {
                Some(next) => self.heap.push(std::cmp::Reverse((next.at_ns, index))),
                None => self.fill(index)?,
            }
        }
        Ok(merged)
    }

    fn fill(&mut self, index: usize) -> io::Result<()> {
        let source = &mut self.sources[index];
        for mut line in source.reader.read()? {
            if line.at_ns == 0 {
                line.at_ns = source.last_ns;
            }
            source.last_ns = line.at_ns;
            source.lines.push_back(line);
        }
        if let Some(next) = source.lines.front() {
            self.heap.push(std::cmp::Reverse((next.at_ns, index)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upbeat_shim::log::Writer;

    fn writer(dir: &Path, max_size: u64, max_files: u32) -> Writer {
        Writer::open(dir, max_size, max_files, || {})
    }

    fn all(reader: &mut Reader) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let lines = reader.read().unwrap();
            if lines.is_empty() {
                return texts;
            }
            texts.extend(lines.into_iter().map(|line| String::from_utf8(line.text).unwrap()));
        }
    }

    #[test]
    fn lines_are_read_once_in_order_over_rotation_as_they_come() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 200, 100);
        let mut reader = Reader::from(dir.path(), 0);
        let mut seen = Vec::new();
        for n in 0..100 {
            log.take(Stream::Stdout, format!("{n}\n").as_bytes());
            if n % 7 == 0 {
                seen.extend(all(&mut reader));
            }
        }
        seen.extend(all(&mut reader));
        assert_eq!(seen, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn parts_are_joined_and_a_reader_that_fell_behind_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 1 << 20, 2);
        let long = "y".repeat(100_000);
        log.take(Stream::Stdout, format!("{long}\n").as_bytes());
        assert_eq!(all(&mut Reader::from(dir.path(), 1)), [long]);
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 1, 2);
        for n in 1..=10 {
            log.take(Stream::Stdout, format!("{n}\n").as_bytes());
        }
        let seen = all(&mut Reader::from(dir.path(), 3));
        assert_eq!(seen, ["6 records dropped: they were rotated away", "9", "10"]);
    }

    #[test]
    fn the_last_lines_are_found_across_segments() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 100, 50);
        for n in 1..=40 {
            log.take(Stream::Stdout, format!("{n}\n").as_bytes());
        }
        for count in [0, 1, 3, 17, 40, 99] {
            let seen = all(&mut Reader::tail(dir.path(), count).unwrap());
            let expected: Vec<String> = (41 - count.min(40)..=40).map(|n| n.to_string()).collect();
            assert_eq!(seen, expected, "tail {count}");
        }
    }

    #[test]
    fn half_a_record_is_not_shown() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        writer(dir.path(), 1 << 20, 2).take(Stream::Stdout, b"whole\n");
        let mut file = File::options().append(true).open(dir.path().join(segment_name(1))).unwrap();
        file.write_all(b"12.000000000 o F hal").unwrap();
        let mut reader = Reader::from(dir.path(), 1);
        assert_eq!(all(&mut reader), ["whole"]);
        file.write_all(b"f\n").unwrap();
        assert_eq!(all(&mut reader), ["half"]);
    }

    #[tokio::test]
    async fn a_matching_line_ends_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 1 << 20, 2);
        log.take(Stream::Stdout, b"ready (an older attempt)\n");
        let from = log.next_sequence();
        let path = dir.path().to_owned();
        let watches = Watches::new().unwrap();
        let found = tokio::spawn(async move { watch_for(&watches, &path, from, "^ready$").await });
        tokio::task::yield_now().await;
        log.take(Stream::Stderr, b"not yet\nready\n");
        assert_eq!(found.await.unwrap().unwrap(), "ready");
    }

    #[test]
    fn slots_are_merged_by_time() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut logs = [writer(one.path(), 1 << 20, 2), writer(two.path(), 1 << 20, 2)];
        for n in 0..20 {
            logs[n % 2].take(Stream::Stdout, format!("{n}\n").as_bytes());
        }
        let reader = |dir: &Path, index| (format!("app/web/{index}").parse().unwrap(), Reader::from(dir, 1));
        let mut merge = Merge::of([reader(one.path(), 1), reader(two.path(), 2)]);
        let mut texts = Vec::new();
        loop {
            let lines = merge.read(3).unwrap();
            if lines.is_empty() {
                break;
            }
            texts.extend(lines.into_iter().map(|line| line.text));
        }
        assert_eq!(texts, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

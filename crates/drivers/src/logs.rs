//! Reads what the processes of a slot printed, from the first line kept, from the last few, or as
//! it comes.
//!
//! Exact across rotation and across attempts: records are numbered, so a reader knows its place by
//! a number, and where the segment it was in is gone, how many records it missed. It never shows a
//! record that is not whole. Following is told by the kernel (inotify) and polls nothing.

use std::collections::{BinaryHeap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use upbeat_model::{LogLine, LogStream, SlotId};
use upbeat_shim::log::{Stream, parse, segment_name, segments};

use crate::watch::Watches;

/// A longer line is handed on in pieces of this size, so that endless output without a newline
/// needs no endless memory.
const LINE_MAX: usize = 8 * 1024 * 1024;

/// Lines are merged up to about so many bytes at once: with short ones hundreds, of long ones one.
const PAGE: usize = 256 * 1024;

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
    open: Option<Segment>,
    /// Parts of lines whose end was not read yet: output, error.
    parts: [Option<Line>; 2],
    /// Where it ends whatever is added: a segment, and so many bytes of it.
    end: Option<(u64, u64)>,
}

/// A file, and how far it was read: always to the end of a whole record.
struct Segment {
    file: File,
    first: u64,
    offset: u64,
}

impl Reader {
    /// From this record on; 0 or 1 for all there is.
    pub fn from(dir: &Path, sequence: u64) -> Self {
        Self { dir: dir.to_owned(), next: sequence.max(1), open: None, parts: [None, None], end: None }
    }

    /// So that about the last `count` lines are read. Reads only as many segments as hold them.
    pub fn tail(dir: &Path, count: u64) -> io::Result<Self> {
        let mut wanted = count;
        for first in segments(dir)?.iter().rev() {
            let bytes = match std::fs::read(dir.join(segment_name(*first))) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            match before_last_lines(&bytes, wanted) {
                Ok(skip) => return Ok(Self::from(dir, first + skip)),
                Err(lines) => wanted -= lines,
            }
        }
        Ok(Self::from(dir, 1))
    }

    /// The same, but it ends with what is there now, so that it ends although more is printed.
    pub fn until_now(mut self) -> io::Result<Self> {
        let last = segments(&self.dir)?.last().copied().unwrap_or(0);
        let size = match std::fs::metadata(self.dir.join(segment_name(last))) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        self.end = Some((last, size));
        Ok(self)
    }

    /// The next lines there are, at most about `READ` bytes of them; none when there are no more
    /// now.
    pub fn read(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        while lines.is_empty() {
            let more = match self.open {
                None => self.enter(&mut lines)?,
                Some(_) => self.page(&mut lines)? || self.leave(&mut lines)?,
            };
            if !more {
                break;
            }
        }
        Ok(lines)
    }

    /// Opens the segment that holds the next record. False: there is none yet.
    fn enter(&mut self, lines: &mut Vec<Line>) -> io::Result<bool> {
        /// Segments deleted between the listing and the opening, in a row.
        const LISTINGS: u32 = 8;
        for _ in 0..LISTINGS {
            let firsts = segments(&self.dir)?;
            let found = firsts.iter().rev().find(|first| **first <= self.next).or(firsts.first());
            let Some(first) = found.copied() else { return Ok(false) };
            let file = match File::open(self.dir.join(segment_name(first))) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if first > self.next {
                self.pass_over(first, lines);
            }
            let offset = offset_of(&file, self.next - first)?;
            self.open = Some(Segment { file, first, offset });
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes whole records of the open segment. False: there are no more in it now.
    fn page(&mut self, lines: &mut Vec<Line>) -> io::Result<bool> {
        let Some(segment) = &mut self.open else { return Ok(false) };
        let room = match self.end {
            Some((last, _)) if segment.first > last => 0,
            Some((last, size)) if segment.first == last => size.saturating_sub(segment.offset),
            _ => READ as u64,
        };
        let mut bytes = Vec::with_capacity(READ.min(usize::try_from(room).unwrap_or(READ)));
        if bytes.capacity() == 0 {
            return Ok(false);
        }
        rustix::io::pread(&segment.file, rustix::buffer::spare_capacity(&mut bytes), segment.offset)?;
        let whole = match memchr::memrchr(b'\n', &bytes) {
            Some(end) => end + 1,
            // No record is so long: somebody else has written here.
            None if bytes.len() == READ => READ,
            None => return Ok(false),
        };
        segment.offset += whole as u64;
        for record in bytes[..whole].split_inclusive(|byte| *byte == b'\n') {
            self.take(record.strip_suffix(b"\n").unwrap_or(record), lines);
        }
        Ok(true)
    }

    /// At the end of a segment: true when something else goes on.
    fn leave(&mut self, lines: &mut Vec<Line>) -> io::Result<bool> {
        let Some(segment) = &mut self.open else { return Ok(false) };
        let first = segment.first;
        if segment.file.metadata()?.len() < segment.offset {
            // A whole record is never taken back by who writes it.
            segment.offset = 0;
            self.note("the log was cut by somebody else".to_owned(), self.next, lines);
            return Ok(true);
        }
        if self.end.is_some_and(|(last, _)| first >= last) {
            return Ok(false);
        }
        let Some(later) = segments(&self.dir)?.into_iter().find(|other| *other > first) else {
            return Ok(false);
        };
        // Nothing is ever added to a segment once there is a later one; but something may have been
        // between our last read and that.
        if !self.page(lines)? {
            self.open = None;
            if later > self.next {
                self.pass_over(later, lines);
            }
            self.next = later;
        }
        Ok(true)
    }

    /// Says that what comes before this record is missing, and goes on with it.
    fn pass_over(&mut self, first: u64, lines: &mut Vec<Line>) {
        let missing = first - self.next;
        self.note(format!("{missing} records dropped: they are not on the disk any more"), first - 1, lines);
        self.next = first;
    }

    fn note(&mut self, text: String, sequence: u64, lines: &mut Vec<Line>) {
        self.end_parts(lines);
        lines.push(Line { sequence, at_ns: 0, stream: Stream::Upbeat, text: text.into_bytes() });
    }

    /// What continues them is missing: they are all there is of their lines.
    fn end_parts(&mut self, lines: &mut Vec<Line>) {
        lines.extend(self.parts.iter_mut().filter_map(Option::take));
    }

    fn take(&mut self, record: &[u8], lines: &mut Vec<Line>) {
        let sequence = self.next;
        self.next += 1;
        let Some(parsed) = parse(record) else { return };
        let part = match parsed.stream {
            Stream::Stdout => Some(0),
            Stream::Stderr => Some(1),
            // Records were dropped here.
            Stream::Upbeat => {
                self.end_parts(lines);
                None
            }
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

/// Where a record begins in its segment; its end when it has fewer.
fn offset_of(file: &File, skip: u64) -> io::Result<u64> {
    let (mut seen, mut offset) = (0, 0);
    let mut buffer = Vec::with_capacity(if skip == 0 { 0 } else { READ });
    while seen < skip {
        buffer.clear();
        rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buffer), offset)?;
        if buffer.is_empty() {
            break;
        }
        for end in memchr::memchr_iter(b'\n', &buffer) {
            seen += 1;
            if seen == skip {
                return Ok(offset + end as u64 + 1);
            }
        }
        offset += buffer.len() as u64;
    }
    Ok(offset)
}

/// How many records come before the last `wanted` lines of a segment. `Err`: it has fewer lines, so
/// many.
fn before_last_lines(bytes: &[u8], wanted: u64) -> Result<u64, u64> {
    let mut end = memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1);
    let mut lines = 0;
    while end > 0 {
        let begin = memchr::memrchr(b'\n', &bytes[..end - 1]).map_or(0, |before| before + 1);
        if parse(&bytes[begin..end - 1]).is_some_and(|record| record.is_final) {
            if lines == wanted {
                return Ok(memchr::memchr_iter(b'\n', &bytes[..end]).count() as u64);
            }
            lines += 1;
        }
        end = begin;
    }
    if lines == wanted { Ok(0) } else { Err(lines) }
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
        // What prints faster than it is read must not keep everything else waiting.
        tokio::task::yield_now().await;
        for line in lines.into_iter().filter(|line| line.stream != Stream::Upbeat) {
            let text = String::from_utf8_lossy(&line.text);
            if pattern.is_match(&text) {
                /// Shown in statuses, where a long line helps nobody.
                const SHOWN: usize = 200;
                // Whoever looks for secrets has to see where it is cut.
                return Ok(match text.char_indices().nth(SHOWN) {
                    Some((end, _)) => format!("{}…", &text[..end]),
                    None => text.into_owned(),
                });
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

    /// The next lines there are, oldest first, a page of them; none when there are no more now.
    pub fn read(&mut self) -> io::Result<Vec<LogLine>> {
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
        let mut size = 0;
        while size < PAGE
            && let Some(std::cmp::Reverse((_, index))) = self.heap.pop()
        {
            let source = &mut self.sources[index];
            if let Some(line) = source.lines.pop_front() {
                size += line.text.len() + size_of::<LogLine>();
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
        assert_eq!(seen, ["6 records dropped: they are not on the disk any more", "9", "10"]);
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
    fn a_segment_that_was_cut_short_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 1, 100);
        for n in 1..=6 {
            log.take(Stream::Stdout, format!("{n}\n").as_bytes());
        }
        for first in [2, 3] {
            File::options()
                .write(true)
                .open(dir.path().join(segment_name(first)))
                .unwrap()
                .set_len(0)
                .unwrap();
        }
        let missing = "1 records dropped: they are not on the disk any more";
        assert_eq!(all(&mut Reader::from(dir.path(), 1)), ["1", missing, missing, "4", "5", "6"]);
    }

    #[test]
    fn a_follower_goes_on_in_a_file_that_somebody_cut() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 1 << 20, 2);
        let mut reader = Reader::from(dir.path(), 1);
        log.take(Stream::Stdout, b"one\ntwo\n");
        assert_eq!(all(&mut reader), ["one", "two"]);
        File::options().write(true).open(dir.path().join(segment_name(1))).unwrap().set_len(0).unwrap();
        log.take(Stream::Stdout, b"three\n");
        assert_eq!(all(&mut reader), ["the log was cut by somebody else", "three"]);
    }

    #[test]
    fn parts_that_lost_their_end_are_lines_of_their_own() {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create(dir.path().join(segment_name(1))).unwrap();
        let records =
            ["1.0 o P AAAA", "1.0 e P BBBB", "2.0 u F 2 records dropped", "3.0 o F CCCC", "3.0 e F DD"];
        for record in records {
            writeln!(file, "{record}").unwrap();
        }
        let seen = all(&mut Reader::from(dir.path(), 1));
        assert_eq!(seen, ["AAAA", "BBBB", "2 records dropped", "CCCC", "DD"]);
    }

    #[test]
    fn a_look_ends_although_more_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 100, 50);
        let mut more = |n: u32| log.take(Stream::Stdout, format!("{n}\n").as_bytes());
        (1..=10).for_each(&mut more);
        let mut reader = Reader::from(dir.path(), 1).until_now().unwrap();
        (11..=20).for_each(&mut more);
        let ten: Vec<String> = (1..=10).map(|n| n.to_string()).collect();
        assert_eq!(all(&mut reader), ten);
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
        // The next writer cuts it off.
        let mut log = writer(dir.path(), 1 << 20, 2);
        log.take(Stream::Stdout, b"n\n");
        log.take(Stream::Stdout, b"next\n");
        assert_eq!(all(&mut reader), ["n", "next"]);
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
            let lines = merge.read().unwrap();
            if lines.is_empty() {
                break;
            }
            texts.extend(lines.into_iter().map(|line| line.text));
        }
        assert_eq!(texts, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

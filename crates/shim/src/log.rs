//! The log of a slot: what its processes printed, as timestamped records in bounded files.
//!
//! A record is one line, `<seconds>.<nanoseconds> <o|e|u> <F|P> <bytes>\n`: from standard output,
//! standard error, or Upbeat itself; a full line or its end (`F`), or a part that the next record
//! of the same stream continues (`P`). Records are numbered from 1 over the life of the slot. A
//! segment is a file named by the number of its first record, in 20 digits; so nothing is ever
//! renamed, and a reader that finds a gap knows how many records it missed.
//!
//! The writer never fails: what cannot be written is dropped in whole records, and `n records
//! dropped` stands in their place as soon as there is room. A whole record is never taken back. It
//! waits only where the file system itself does: a frozen or hanging one stops what prints, as it
//! would without Upbeat.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::system::wall_ns;

/// The name of the directory in the slot's.
pub const DIR: &str = "log";

/// A longer line is kept in parts of this size.
pub const PART_MAX: usize = 16 * 1024;

/// Digits of a segment's name, so that names sort like numbers.
const DIGITS: usize = 20;

/// Where a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Upbeat itself.
    Upbeat,
}

impl Stream {
    fn letter(self) -> u8 {
        match self {
            Self::Stdout => b'o',
            Self::Stderr => b'e',
            Self::Upbeat => b'u',
        }
    }
}

/// One record, as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// In nanoseconds since the epoch.
    pub at_ns: i64,
    /// Where it came from.
    pub stream: Stream,
    /// Nothing of its line follows.
    pub is_final: bool,
    /// What was printed, without the newline.
    pub text: &'a [u8],
}

/// Reads a record, without its newline. `None`: it is none.
pub fn parse(line: &[u8]) -> Option<Parsed<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let (seconds, nanos) = time.split_once('.')?;
    let at_ns = seconds.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos.parse().ok()?)?;
    let stream = match fields.next()? {
        b"o" => Stream::Stdout,
        b"e" => Stream::Stderr,
        b"u" => Stream::Upbeat,
        _ => return None,
    };
    let is_final = match fields.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Parsed { at_ns, stream, is_final, text: fields.next()? })
}

/// The name of the segment that begins with this record.
pub fn segment_name(first: u64) -> String {
    format!("{first:0DIGITS$}.log")
}

/// The number of the first record of a segment, from its name.
pub fn segment_first(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == DIGITS).then(|| digits.parse().ok()).flatten()
}

/// The segments in a directory, by their first record, in order. No directory: none. Errors: it cannot be
/// listed, which does not say that there are none.
pub fn segments(dir: &Path) -> std::io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(firsts),
        entries => entries?,
    };
    for entry in entries {
        firsts.extend(entry?.file_name().to_str().and_then(segment_first));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Writes the log of one slot. One at a time: the slot's lock sees to that.
pub struct Writer {
    dir: PathBuf,
    max_size: u64,
    max_files: usize,
    segments: VecDeque<u64>,
    current: Option<(File, u64)>,
    next: u64,
    dropped: u64,
    trouble: Option<std::io::Error>,
    partial: [Vec<u8>; 2],
    is_terminal: bool,
    batch: Vec<u8>,
    batched: u64,
    on_rotation: fn(),
}

impl Writer {
    /// Goes on where the last writer ended; half a record at the end is cut off.
    ///
    /// Never fails: with no room on the disk it begins by dropping, and where it cannot tell how
    /// far the last writer came ([`Writer::trouble`]) it drops everything, rather than write over
    /// what is there.
    pub fn open(dir: &Path, max_size: u64, max_files: u32, on_rotation: fn()) -> Self {
        let (segments, listed) = match segments(dir) {
            Ok(segments) => (VecDeque::from(segments), Ok(())),
            // What cannot be listed must not be taken for empty.
            Err(error) => (VecDeque::new(), Err(error)),
        };
        let mut writer = Self {
            dir: dir.to_owned(),
            max_size: max_size.max(1),
            max_files: max_files.max(1) as usize,
            next: segments.back().copied().unwrap_or(1),
            segments,
            current: None,
            dropped: 0,
            trouble: None,
            partial: [Vec::new(), Vec::new()],
            is_terminal: false,
            batch: Vec::new(),
            batched: 0,
            on_rotation,
        };
        match listed.and_then(|()| writer.resume()) {
            Ok(unended) => {
                // Its writer was killed: what comes next is not the rest of that line.
                unended.into_iter().for_each(|stream| writer.add(stream, wall_ns(), true, b""));
                writer.flush();
            }
            // No directory is no trouble: it may come with the next record.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => writer.trouble = Some(error),
        }
        writer
    }

    /// The streams whose last line has no end.
    fn resume(&mut self) -> std::io::Result<Vec<Stream>> {
        let Some(last) = self.segments.back().copied() else { return Ok(Vec::new()) };
        let (file, size, records) = resume(&self.dir.join(segment_name(last)))?;
        let unended = unended(&file, size)?;
        self.next = last + records;
        self.current = Some((file, size));
        Ok(unended)
    }

    /// Why the log that is there cannot be gone on with.
    pub fn trouble(&self) -> Option<&std::io::Error> {
        self.trouble.as_ref()
    }

    /// Records that were dropped and that the log does not speak of yet.
    pub fn owed(&self) -> u64 {
        self.dropped
    }

    /// Records that an earlier writer dropped without being able to say so.
    pub fn owe(&mut self, records: u64) {
        self.dropped += records;
    }

    /// What comes is printed into a terminal, which ends a line with two characters.
    pub fn expect_terminal(&mut self) {
        self.is_terminal = true;
    }

    /// The number the next record will have.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Takes what a stream printed.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let at = wall_ns();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line(stream, at, &rest[..end], true);
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            self.line(stream, at, rest, false);
        }
        self.flush();
    }

    /// Takes a record whose time another knows, without its newline. It is written by the next
    /// [`Self::flush`].
    pub fn take_record(&mut self, stream: Stream, at_ns: i64, text: &[u8], is_final: bool) {
        // A record is one line, whatever is said to be one.
        let text = if is_final { self.ended(text) } else { text };
        let text: Vec<u8> = text.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
        let last = text.len().saturating_sub(1) / PART_MAX;
        for n in 0..=last {
            let part = &text[n * PART_MAX..text.len().min((n + 1) * PART_MAX)];
            self.add(stream, at_ns, is_final && n == last, part);
        }
    }

    /// The stream ended: what stands without a newline is a line too.
    pub fn end(&mut self, stream: Stream) {
        let partial = std::mem::take(self.partial_of(stream));
        if !partial.is_empty() {
            self.add(stream, wall_ns(), true, &partial);
        }
        self.flush();
    }

    fn partial_of(&mut self, stream: Stream) -> &mut Vec<u8> {
        &mut self.partial[usize::from(stream == Stream::Stderr)]
    }

    fn line(&mut self, stream: Stream, at: i64, piece: &[u8], complete: bool) {
        let mut partial = std::mem::take(self.partial_of(stream));
        if partial.is_empty() && complete && piece.len() <= PART_MAX {
            return self.add(stream, at, true, self.ended(piece));
        }
        partial.extend_from_slice(piece);
        if complete {
            partial.truncate(self.ended(&partial).len());
        }
        let mut rest = &partial[..];
        while rest.len() > PART_MAX {
            let (part, after) = rest.split_at(PART_MAX);
            self.add(stream, at, false, part);
            rest = after;
        }
        if complete {
            self.add(stream, at, true, rest);
        } else {
            *self.partial_of(stream) = rest.to_vec();
        }
    }

    /// A line without what its end has besides the newline.
    fn ended<'a>(&self, line: &'a [u8]) -> &'a [u8] {
        line.strip_suffix(b"\r").filter(|_| self.is_terminal).unwrap_or(line)
    }

    fn add(&mut self, stream: Stream, at: i64, is_final: bool, text: &[u8]) {
        let (seconds, nanos) = (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000));
        let mark = if is_final { 'F' } else { 'P' };
        // Writing to memory does not fail.
        let _ = write!(self.batch, "{seconds}.{nanos:09} {} {mark} ", stream.letter() as char);
        self.batch.extend_from_slice(text);
        self.batch.push(b'\n');
        self.batched += 1;
    }

    /// Writes what has come together, or drops it whole; and says what was dropped before.
    pub fn flush(&mut self) {
        if self.batched == 0 && self.dropped == 0 {
            return;
        }
        let (mut batch, mut count) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.batched));
        let missing = self.dropped;
        if missing > 0 {
            self.add(Stream::Upbeat, wall_ns(), true, format!("{missing} records dropped").as_bytes());
            let note = std::mem::take(&mut self.batch);
            self.batched = 0;
            batch.splice(0..0, note);
            count += 1;
        }
        let kept = self.write(&batch);
        let records = batch[..kept].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.next += records;
        match (missing, records) {
            // The note comes first: without it the debt stands.
            (1.., 0) => self.dropped = missing + count - 1,
            _ => self.dropped = count - records,
        }
        batch.clear();
        /// A buffer that a burst made larger than this is given back.
        const KEEP: usize = 32 * 1024;
        if batch.capacity() <= KEEP {
            self.batch = batch;
        }
    }

    /// Writes as many whole records as there is room for; how many bytes these are.
    fn write(&mut self, batch: &[u8]) -> usize {
        if self.trouble.is_some() {
            return 0;
        }
        let full = self
            .current
            .as_ref()
            .is_none_or(|(_, size)| *size > 0 && size + batch.len() as u64 > self.max_size);
        if full && self.rotate().is_err() {
            return 0;
        }
        let Some((file, size)) = &mut self.current else { return 0 };
        let written = write_some(file, batch);
        let whole = batch[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        *size += whole as u64;
        if whole < written {
            // Half a record is worse than none. Should even this fail, the next writer cuts it off.
            let cut = file
                .metadata()
                .and_then(|now| file.set_len(now.len().saturating_sub((written - whole) as u64)));
            self.trouble = cut.err();
        }
        whole
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        // Never one that is there: it may hold records. An empty one that was left by a writer that
        // died here was resumed by this one.
        let file = File::options()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(self.dir.join(segment_name(self.next)))?;
        self.segments.push_back(self.next);
        self.current = Some((file, 0));
        (self.on_rotation)();
        while self.segments.len() > self.max_files {
            let Some(oldest) = self.segments.pop_front() else { break };
            // One that cannot be deleted now is found and deleted by the next writer.
            let _ = std::fs::remove_file(self.dir.join(segment_name(oldest)));
        }
        Ok(())
    }
}

/// Writes until all is written or nothing more can be; how much that was.
fn write_some(file: &mut File, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    written
}

/// The streams whose last record is a part. Looks back as far as a few parts: where a stream was
/// silent for longer, what it left is taken for whole.
fn unended(file: &File, size: u64) -> std::io::Result<Vec<Stream>> {
    const BACK: u64 = 4 * PART_MAX as u64;
    let mut tail = vec![0; size.min(BACK) as usize];
    file.read_exact_at(&mut tail, size.saturating_sub(BACK))?;
    // The first one may be cut.
    let skip = usize::from(size > BACK);
    let records: Vec<Parsed<'_>> = tail.split(|byte| *byte == b'\n').skip(skip).filter_map(parse).collect();
    let is_unended =
        |stream: &Stream| records.iter().rfind(|r| r.stream == *stream).is_some_and(|r| !r.is_final);
    Ok([Stream::Stdout, Stream::Stderr].into_iter().filter(is_unended).collect())
}

/// Opens the last segment for more: its size without half a record, and how many records it has.
fn resume(path: &Path) -> std::io::Result<(File, u64, u64)> {
    let mut file = File::options().read(true).append(true).open(path)?;
    let mut buffer = vec![0; 64 * 1024];
    let (mut size, mut whole, mut records) = (0, 0, 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        for (index, _) in buffer[..read].iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            records += 1;
            whole = size + index as u64 + 1;
        }
        size += read as u64;
    }
    if whole < size {
        file.set_len(whole)?;
    }
    Ok((file, whole, records))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dir: &Path) -> Vec<(u64, String, bool)> {
        let mut found = Vec::new();
        for first in segments(dir).unwrap() {
            let text = std::fs::read(dir.join(segment_name(first))).unwrap();
            for (offset, line) in text.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).enumerate() {
                let parsed = parse(line).unwrap();
                let text = String::from_utf8_lossy(parsed.text).into_owned();
                found.push((first + offset as u64, text, parsed.is_final));
            }
        }
        found
    }

    fn texts(dir: &Path) -> Vec<String> {
        read(dir).into_iter().map(|(_, text, _)| text).collect()
    }

    fn writer(dir: &Path, max_size: u64, max_files: u32) -> Writer {
        Writer::open(dir, max_size, max_files, || {})
    }

    #[test]
    fn lines_are_records_however_they_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 1 << 20, 3);
        for piece in ["one\ntw", "o", "\n\nthree"] {
            log.take(Stream::Stdout, piece.as_bytes());
        }
        log.end(Stream::Stdout);
        assert_eq!(texts(dir.path()), ["one", "two", "", "three"]);
    }

    #[test]
    fn the_second_character_at_the_end_of_a_terminals_line_is_left_out() {
        let (pipe, terminal) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [pipe.path(), terminal.path()] {
            let mut log = writer(dir, 1 << 20, 3);
            if dir == terminal.path() {
                log.expect_terminal();
            }
            for piece in ["on", "e\r", "\ntw\ro\r\r\n\r\nlast\r"] {
                log.take(Stream::Stdout, piece.as_bytes());
            }
            log.end(Stream::Stdout);
        }
        assert_eq!(texts(pipe.path()), ["one\r", "tw\ro\r\r", "\r", "last\r"]);
        assert_eq!(texts(terminal.path()), ["one", "tw\ro\r", "", "last\r"]);
    }

    #[test]
    fn a_long_line_is_kept_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 1 << 20, 3);
        let long = "x".repeat(PART_MAX * 2 + 5);
        log.take(Stream::Stderr, long.as_bytes());
        log.take(Stream::Stderr, b"end\nnext\n");
        let found = read(dir.path());
        let finals: Vec<bool> = found.iter().map(|(_, _, is_final)| *is_final).collect();
        assert_eq!(finals, [false, false, true, true]);
        assert_eq!(found[..3].iter().map(|(_, text, _)| text.as_str()).collect::<String>(), long + "end");
    }

    #[test]
    fn numbers_go_on_over_rotation_and_writers() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..3 {
            let mut log = writer(dir.path(), 100, 2);
            assert_eq!(log.next_sequence(), round * 20 + 1);
            for n in 1..=20 {
                log.take(Stream::Stdout, format!("{}\n", round * 20 + n).as_bytes());
            }
        }
        let found = read(dir.path());
        assert!(segments(dir.path()).unwrap().len() <= 2);
        assert!(found.len() < 60);
        assert!(found.iter().all(|(number, text, _)| number.to_string() == *text));
        assert_eq!(found.last().unwrap().0, 60);
    }

    #[test]
    fn a_record_keeps_the_time_it_was_given_and_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 1 << 20, 3);
        log.take_record(Stream::Stdout, 1_500_000_000, b"one\r", true);
        log.take_record(Stream::Stderr, 2_000_000_001, b"two\nlines", true);
        log.take_record(Stream::Stdout, 3_000_000_000, &[b'x'; PART_MAX + 1], false);
        log.take_record(Stream::Stdout, 3_000_000_000, b"", true);
        log.flush();
        let text = std::fs::read(dir.path().join(segment_name(1))).unwrap();
        // Each ends with a newline alone.
        let records = text.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n');
        let records: Vec<_> = records.map(|line| parse(line).unwrap()).collect();
        assert_eq!(records[0].text, b"one\r");
        assert_eq!((records[1].at_ns, records[1].text), (2_000_000_001, &b"two lines"[..]));
        let finals: Vec<_> = records.iter().map(|record| (record.is_final, record.text.len())).collect();
        assert_eq!(finals[2..], [(false, PART_MAX), (false, 1), (true, 0)]);
        assert_eq!(log.next_sequence(), 6);
    }

    #[test]
    fn half_a_record_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        writer(dir.path(), 1 << 20, 2).take(Stream::Stdout, b"whole\n");
        let path = dir.path().join(segment_name(1));
        let mut file = File::options().append(true).open(path).unwrap();
        file.write_all(b"12.000000000 o F hal").unwrap();
        writer(dir.path(), 1 << 20, 2).take(Stream::Stdout, b"next\n");
        assert_eq!(texts(dir.path()), ["whole", "next"]);
    }

    #[test]
    fn what_cannot_be_written_is_dropped_whole_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("log");
        let mut log = writer(&missing, 1 << 20, 2);
        log.take(Stream::Stdout, b"a\nb\n");
        log.take(Stream::Stdout, b"c\n");
        std::fs::create_dir(&missing).unwrap();
        log.take(Stream::Stdout, b"d\n");
        assert_eq!(texts(&missing), ["3 records dropped", "d"]);
        assert_eq!((log.next_sequence(), log.owed()), (3, 0));
    }

    #[test]
    fn what_was_dropped_is_said_even_if_nothing_more_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("log");
        let mut log = writer(&missing, 1 << 20, 2);
        log.take(Stream::Stdout, b"a\n");
        assert_eq!(log.owed(), 1);
        std::fs::create_dir(&missing).unwrap();
        let mut log = writer(&missing, 1 << 20, 2);
        log.owe(1);
        log.end(Stream::Stdout);
        assert_eq!(texts(&missing), ["1 records dropped"]);
        assert_eq!(log.owed(), 0);
    }

    #[test]
    fn of_a_batch_that_does_not_fit_whole_records_are_kept_and_the_rest_is_counted() {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        // A file that is full in the middle of a batch, as on a full disk.
        const ROOM: usize = 8192;
        let file = File::from(memfd_create("log", MemfdFlags::ALLOW_SEALING).unwrap());
        file.set_len(ROOM as u64).unwrap();
        fcntl_add_seals(&file, SealFlags::GROW).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 1 << 20, 2);
        log.current = Some((file.try_clone().unwrap(), 0));
        log.take(Stream::Stdout, "kept\n".repeat(100).as_bytes());
        log.take(Stream::Stdout, "more\n".repeat(1000).as_bytes());
        let mut text = vec![0; ROOM];
        let length = file.read_at(&mut text, 0).unwrap();
        let records: Vec<&[u8]> = text[..length].split_inclusive(|byte| *byte == b'\n').collect();
        let more = records.len() as u64 - 100;
        assert!((1..1000).contains(&more));
        assert_eq!((log.next_sequence(), log.owed()), (101 + more, 1000 - more));
        assert!(records[..100].iter().all(|record| record.ends_with(b" o F kept\n")));
        assert!(records[100..].iter().all(|record| record.ends_with(b" o F more\n")));
    }

    #[test]
    fn a_line_whose_writer_was_killed_is_ended_before_another_begins() {
        let dir = tempfile::tempdir().unwrap();
        let long = "y".repeat(PART_MAX + 1);
        let mut killed = writer(dir.path(), 1 << 20, 2);
        killed.take(Stream::Stderr, long.as_bytes());
        killed.take(Stream::Stdout, b"whole\n");
        drop(killed);
        let mut log = writer(dir.path(), 1 << 20, 2);
        assert_eq!(log.next_sequence(), 4, "the end is no record of the new attempt");
        log.take(Stream::Stderr, b"another\n");
        let ends: Vec<(u64, bool)> = read(dir.path()).into_iter().map(|(n, _, end)| (n, end)).collect();
        assert_eq!(ends, [(1, false), (2, true), (3, true), (4, true)]);
    }

    #[test]
    fn a_segment_that_cannot_be_gone_on_with_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        // A directory where a segment should be: nobody can open it to write, not even root.
        std::fs::create_dir(dir.path().join(segment_name(7))).unwrap();
        let mut log = writer(dir.path(), 1 << 20, 2);
        assert!(log.trouble().is_some());
        log.take(Stream::Stdout, b"a\n");
        assert_eq!((segments(dir.path()).unwrap(), log.owed()), (vec![7], 1));
    }
}

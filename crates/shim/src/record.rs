//! The record of a slot: the attempt it has seen last, and how that ended.
//!
//! One block of fixed size, written over in place by a single write. So the exit of a process can be
//! put on record on a full disk, where a new file cannot be made. It ends with a checksum: a reader
//! that comes in the middle of that write sees no record, rather than half of two.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::wire::{End, Stage};

/// The name of the file in the slot's directory.
pub const FILE: &str = "record";

/// Its size. One page at most, so that one write is one store to one page.
pub const SIZE: usize = 512;

/// What is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The highest attempt that was begun.
    pub attempt: u64,
    /// In which boot of the machine.
    pub boot_id: String,
    /// The sequence number of the first log record of that attempt.
    pub log_start: u64,
    /// When it was begun, in nanoseconds since the epoch.
    pub begun_ns: i64,
    /// What it prints into. What still holds one when the shim was killed belongs to its tree,
    /// whatever it made of its environment.
    pub outlets: Outlets,
    /// Log records that could not be written, and that the log does not speak of yet.
    pub dropped: u64,
    /// Its main process, which leads a session of its own: by its number, and when it was forked, in ticks
    /// since boot. Whoever is of that session belongs to the tree, also where nothing else of a process may
    /// be looked at. `None`: it is not known, or not yet.
    pub main: Option<(i32, u64)>,
    /// How it ended and when; none while it runs, and for ever if its shim was killed.
    pub end: Option<(End, i64)>,
}

/// What the processes of an attempt print into, and nobody else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlets {
    /// The numbers of two pipes, which no other pipe has; 0 for one that is not known.
    Pipes([u64; 2]),
    /// A terminal. Its number is given to another when it is gone; that one was made at another time,
    /// and of its times only that of its last change cannot be set to what one likes. A process that
    /// changes the mode or the owner of its terminal is not recognised by it any more.
    Terminal {
        /// Its number.
        inode: u64,
        /// When it was changed last, in nanoseconds since the epoch.
        changed_ns: i64,
    },
}

/// The last line of a block: `sum`, 16 digits, a newline.
const SUM_LINE: usize = 4 + 16 + 1;

/// FNV-1a: tells a torn block from a whole one, and needs no library in the shim.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

impl Outlets {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["pipes", stdout, stderr] => Some(Self::Pipes([stdout.parse().ok()?, stderr.parse().ok()?])),
            ["terminal", inode, changed] => {
                Some(Self::Terminal { inode: inode.parse().ok()?, changed_ns: changed.parse().ok()? })
            }
            _ => None,
        }
    }
}

impl Record {
    fn text(&self) -> String {
        let end = match self.end {
            None => "running".to_owned(),
            Some((End::Code(code), at)) => format!("code {code} {at}"),
            Some((End::Signal(signal), at)) => format!("signal {signal} {at}"),
            Some((End::Unknown, at)) => format!("unknown {at}"),
            Some((End::NotExecuted(stage, errno), at)) => {
                format!("not-executed {} {errno} {at}", stage.number())
            }
        };
        let outlets = match self.outlets {
            Outlets::Pipes([stdout, stderr]) => format!("pipes {stdout} {stderr}"),
            Outlets::Terminal { inode, changed_ns } => format!("terminal {inode} {changed_ns}"),
        };
        let main = self.main.map(|(pid, begun)| format!("main {pid} {begun}\n")).unwrap_or_default();
        let Self { attempt, boot_id, log_start, begun_ns, dropped, .. } = self;
        format!(
            "upbeat-slot 1\nattempt {attempt}\nboot {boot_id}\nlog {log_start}\nbegun {begun_ns}\n\
             {outlets}\ndropped {dropped}\nend {end}\n{main}"
        )
    }

    /// Writes it. Errors: what the system said.
    pub fn write(&self, file: &File) -> std::io::Result<()> {
        let mut block = self.text().into_bytes();
        block.resize(SIZE - SUM_LINE, b' ');
        let sum = sum(&block);
        block.extend(format!("sum {sum:016x}\n").as_bytes());
        file.write_all_at(&block, 0)
    }

    /// Reads one. `None`: there is none, or none that is whole.
    pub fn parse(block: &[u8]) -> Option<Self> {
        let (text, last) = block.split_at_checked(SIZE - SUM_LINE)?;
        if last != format!("sum {:016x}\n", sum(text)).as_bytes() {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let mut lines = text.lines();
        if lines.next()? != "upbeat-slot 1" {
            return None;
        }
        fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
            line.strip_prefix(name)?.strip_prefix(' ')
        }
        let mut field = |name: &str| value(lines.next()?, name);
        let attempt = field("attempt")?.parse().ok()?;
        let boot_id = field("boot")?.to_owned();
        let log_start = field("log")?.parse().ok()?;
        let begun_ns = field("begun")?.parse().ok()?;
        let outlets = Outlets::parse(lines.next()?)?;
        let mut field = |name: &str| value(lines.next()?, name);
        let dropped = field("dropped")?.parse().ok()?;
        let words: Vec<&str> = field("end")?.split_whitespace().collect();
        let end = match words[..] {
            ["running"] => None,
            ["code", code, at] => Some((End::Code(code.parse().ok()?), at.parse().ok()?)),
            ["signal", signal, at] => Some((End::Signal(signal.parse().ok()?), at.parse().ok()?)),
            ["unknown", at] => Some((End::Unknown, at.parse().ok()?)),
            ["not-executed", stage, errno, at] => {
                let stage = Stage::from_number(stage.parse().ok()?)?;
                Some((End::NotExecuted(stage, errno.parse().ok()?), at.parse().ok()?))
            }
            _ => return None,
        };
        // Shims of earlier versions do not tell.
        let main = lines.next().and_then(|line| {
            let (pid, begun) = value(line, "main")?.split_once(' ')?;
            Some((pid.parse().ok()?, begun.parse().ok()?))
        });
        Some(Self { attempt, boot_id, log_start, begun_ns, outlets, dropped, main, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(end: Option<(End, i64)>) -> Record {
        Record {
            attempt: 12,
            boot_id: "a-b".into(),
            log_start: 4,
            begun_ns: 1,
            outlets: Outlets::Pipes([u64::MAX, 7]),
            dropped: 2,
            main: end.map(|_| (i32::MAX, u64::MAX)),
            end,
        }
    }

    fn block(record: &Record) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        record.write(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), SIZE as u64);
        let mut block = vec![0; SIZE];
        file.read_exact_at(&mut block, 0).unwrap();
        block
    }

    #[test]
    fn a_record_reads_back_and_half_of_one_is_none() {
        for end in [
            None,
            Some((End::Code(3), 9)),
            Some((End::Signal(15), 9)),
            Some((End::Unknown, 9)),
            Some((End::NotExecuted(Stage::Execute, 2), 9)),
        ] {
            let mut record = record(end);
            if end.is_some() {
                record.outlets = Outlets::Terminal { inode: 3, changed_ns: i64::MAX };
            }
            let block = block(&record);
            assert_eq!(Record::parse(&block), Some(record));
            for cut in 0..SIZE {
                assert_eq!(Record::parse(&block[..cut]), None);
            }
        }
    }

    #[test]
    fn a_mixture_of_two_records_is_none() {
        let (before, after) = (block(&record(None)), block(&record(Some((End::Code(1), 12_345)))));
        for cut in 0..SIZE {
            let torn = [&after[..cut], &before[cut..]].concat();
            if torn != before && torn != after {
                assert_eq!(Record::parse(&torn), None, "torn at {cut}");
            }
        }
    }
}

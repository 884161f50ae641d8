//! The record of a slot: the attempt it has seen last, and how that ended.
//!
//! One block of fixed size, written over in place by a single write. So the exit of a process can be
//! put on record on a full disk, and no reader sees half of one: a block without its last line, or
//! with another length, is none.

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
    /// How it ended and when; none while it runs, and for ever if its shim was killed.
    pub end: Option<(End, i64)>,
}

impl Record {
    fn text(&self) -> String {
        let end = match self.end {
            None => "running".to_owned(),
            Some((End::Code(code), at)) => format!("code {code} {at}"),
            Some((End::Signal(signal), at)) => format!("signal {signal} {at}"),
            Some((End::NotExecuted(stage, errno), at)) => {
                format!("not-executed {} {errno} {at}", stage.number())
            }
        };
        let Self { attempt, boot_id, log_start, begun_ns, .. } = self;
        format!(
            "upbeat-slot 1\nattempt {attempt}\nboot {boot_id}\nlog {log_start}\nbegun {begun_ns}\nend {end}\n"
        )
    }

    /// Writes it. Errors: what the system said.
    pub fn write(&self, file: &File) -> std::io::Result<()> {
        let mut block = self.text().into_bytes();
        block.resize(SIZE - 4, b' ');
        block.extend(b"end\n");
        file.write_all_at(&block, 0)
    }

    /// Reads one. `None`: there is none, or none that is whole.
    pub fn parse(block: &[u8]) -> Option<Self> {
        if block.len() != SIZE || !block.ends_with(b"end\n") {
            return None;
        }
        let text = std::str::from_utf8(block).ok()?;
        let mut lines = text.lines();
        if lines.next()? != "upbeat-slot 1" {
            return None;
        }
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let attempt = field("attempt")?.parse().ok()?;
        let boot_id = field("boot")?.to_owned();
        let log_start = field("log")?.parse().ok()?;
        let begun_ns = field("begun")?.parse().ok()?;
        let words: Vec<&str> = field("end")?.split_whitespace().collect();
        let end = match words[..] {
            ["running"] => None,
            ["code", code, at] => Some((End::Code(code.parse().ok()?), at.parse().ok()?)),
            ["signal", signal, at] => Some((End::Signal(signal.parse().ok()?), at.parse().ok()?)),
            ["not-executed", stage, errno, at] => {
                let stage = Stage::from_number(stage.parse().ok()?)?;
                Some((End::NotExecuted(stage, errno.parse().ok()?), at.parse().ok()?))
            }
            _ => return None,
        };
        Some(Self { attempt, boot_id, log_start, begun_ns, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_half_of_one_is_none() {
        let file = tempfile::tempfile().unwrap();
        for end in [
            None,
            Some((End::Code(3), 9)),
            Some((End::Signal(15), 9)),
            Some((End::NotExecuted(Stage::Execute, 2), 9)),
        ] {
            let record = Record { attempt: 12, boot_id: "a-b".into(), log_start: 4, begun_ns: 1, end };
            record.write(&file).unwrap();
            let mut block = vec![0; SIZE];
            file.read_exact_at(&mut block, 0).unwrap();
            assert_eq!(Record::parse(&block), Some(record));
            assert_eq!(file.metadata().unwrap().len(), SIZE as u64);
            for cut in 0..SIZE {
                assert_eq!(Record::parse(&block[..cut]), None);
            }
        }
    }
}

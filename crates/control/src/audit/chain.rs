//! One line of the audit log, and how it holds on to the one before it.
//!
//! A line is a JSON object whose last two fields are `hash` and `mac`. The hash is BLAKE3 over the
//! bytes before them, to the letter; among these is the hash of the line before. The code (`mac`) is
//! BLAKE3 under the daemon's own key over the hash, so that nobody without the key makes a line.

use serde::{Deserialize, Serialize};
use upbeat_model::{AuditEntry, AuditRecord, Wall};

/// The longest line: names and words of a record are bounded far below it.
pub(crate) const LINE_MAX: usize = 64 << 10;

const BEFORE_HASH: &str = ",\"hash\":\"";
const BEFORE_MAC: &str = "\",\"mac\":\"";
const END: &str = "\"}";
const HEX: usize = 64;
const TAIL: usize = BEFORE_HASH.len() + HEX + BEFORE_MAC.len() + HEX + END.len();

/// The daemon's own key. Shown by nothing.
#[derive(Clone)]
pub struct Key(pub(crate) [u8; 32]);

impl Key {
    /// Of its 64 hexadecimal digits.
    pub fn of_hex(text: &str) -> Option<Self> {
        let hash = blake3::Hash::from_hex(text.trim()).ok()?;
        Some(Self(*hash.as_bytes()))
    }

    pub(crate) fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    fn code(&self, hash: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.0, hash.as_bytes())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

#[derive(Serialize)]
struct Body<'a> {
    sequence: u64,
    at: Wall,
    previous: &'a str,
    #[serde(flatten)]
    entry: &'a AuditEntry,
}

/// A line, with its end, and its hash.
pub(crate) fn write(
    key: &Key,
    sequence: u64,
    at: Wall,
    previous: &str,
    entry: &AuditEntry,
) -> serde_json::Result<(String, String)> {
    let mut line = serde_json::to_string(&Body { sequence, at, previous, entry })?;
    line.pop();
    let hash = blake3::hash(line.as_bytes()).to_hex().to_string();
    let mac = key.code(&hash).to_hex();
    line.push_str(&format!("{BEFORE_HASH}{hash}{BEFORE_MAC}{mac}{END}\n"));
    Ok((line, hash))
}

#[derive(Deserialize)]
struct Line {
    #[serde(flatten)]
    record: AuditRecord,
}

/// A line, without its end, read and held against its own hash and, with a key, its code. Whether
/// it follows the one before is for the caller to see. Errors: what is wrong with it.
pub(crate) fn read(line: &[u8], key: Option<&Key>) -> Result<AuditRecord, &'static str> {
    const NO_RECORD: &str = "it is not a record";
    let text = std::str::from_utf8(line).map_err(|_| NO_RECORD)?;
    let (body, tail) =
        text.len().checked_sub(TAIL).and_then(|at| text.split_at_checked(at)).ok_or(NO_RECORD)?;
    let (hash, mac) = tail
        .strip_prefix(BEFORE_HASH)
        .and_then(|tail| tail.strip_suffix(END))
        .and_then(|tail| tail.split_once(BEFORE_MAC))
        .ok_or(NO_RECORD)?;
    if blake3::hash(body.as_bytes()).to_hex().as_str() != hash {
        return Err("its content is not what its hash says");
    }
    if let Some(key) = key
        // Compared in constant time by its type; and written as it was, not in capitals.
        && !blake3::Hash::from_hex(mac).is_ok_and(|code| code == key.code(hash) && code.to_hex().as_str() == mac)
    {
        return Err("its code was not made with this key");
    }
    let Line { record } = serde_json::from_str(text).map_err(|_| NO_RECORD)?;
    // Said twice, the first in the content: what was hashed is not what is read.
    if record.hash != hash {
        return Err(NO_RECORD);
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_and_no_byte_of_it_can_be_another() {
        let key = Key([3; 32]);
        let entry = AuditEntry::Answered { asked: 1, status: 200, operation: None };
        let (line, hash) = write(&key, 2, Wall(5), &"0".repeat(64), &entry).unwrap();
        let line = line.trim_end().as_bytes();
        let record = read(line, Some(&key)).unwrap();
        assert_eq!((record.sequence, record.entry, record.hash), (2, entry, hash));
        assert!(read(line, None).is_ok());
        assert!(read(line, Some(&Key([4; 32]))).is_err());
        for at in 0..line.len() {
            for bit in 0..8 {
                let mut other = line.to_vec();
                other[at] ^= 1 << bit;
                assert!(read(&other, Some(&key)).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_key_is_shown_by_nothing() {
        let key = Key::of_hex(&"ab".repeat(32)).unwrap();
        assert_eq!(format!("{key:?}"), "Key(…)");
        assert!(Key::of_hex("ab").is_none() && Key::of_hex(&"zz".repeat(32)).is_none());
    }
}

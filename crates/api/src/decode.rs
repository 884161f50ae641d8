//! From the bytes of a stream to what it tells, record by record.
//!
//! Laws: bytes may be cut anywhere; nothing is buffered beyond [`MAX_RECORD`]; nothing is told
//! twice or left out; what comes after the [`End`] does not count. The crates for server-sent
//! events put no bound on an event, which is why there is a decoder here.

use serde::de::DeserializeOwned;

use crate::types::End;

/// The longest record a client takes: four times the largest project the server takes, since an
/// app comes with the status of its slots. Beyond it the other side is not the daemon.
pub(crate) const MAX_RECORD: usize = 64 << 20;

/// The buffer that is kept between records; the rest of what one large record needed is given back.
const KEPT_CAPACITY: usize = 64 << 10;

/// What a stream tells next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told<T> {
    /// An item.
    Item(T),
    /// That there is no more.
    End(End),
}

/// A format of streams.
pub(crate) enum Decoder {
    /// `text/event-stream`: an event per item, and one named `end`.
    Events(Events),
    /// `application/x-ndjson`: a line per item, and one that is an [`End`].
    Lines(Lines),
}

impl Decoder {
    pub(crate) fn events() -> Self {
        Self::Events(Events { lines: Lines::new(MAX_RECORD), name: String::new(), data: None })
    }

    pub(crate) fn lines() -> Self {
        Self::Lines(Lines::new(MAX_RECORD))
    }

    /// Takes what the connection brought. Everything [`Decoder::next`] has must be taken before.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Events(events) => events.lines.push(bytes),
            Self::Lines(lines) => lines.push(bytes),
        }
    }

    /// The next record that is complete; `None` until more bytes have come.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Told<T>>, String> {
        match self {
            Self::Events(events) => {
                let Some((name, data)) = events.next()? else { return Ok(None) };
                if name == "end" {
                    return Ok(Some(Told::End(json::<End>(&data)?)));
                }
                Ok(Some(Told::Item(json(&data)?)))
            }
            Self::Lines(lines) => {
                while let Some(line) = lines.next() {
                    if line.is_empty() {
                        continue;
                    }
                    // Items first: there are many of them and one end.
                    return match json(line) {
                        Ok(item) => Ok(Some(Told::Item(item))),
                        Err(no_item) => match json::<End>(line) {
                            Ok(end) => Ok(Some(Told::End(end))),
                            Err(_) => Err(no_item),
                        },
                    };
                }
                Ok(None)
            }
        }
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

/// Server-sent events (the HTML standard, section 9.2), of which `event` and `data` matter here:
/// an item carries its own sequence number, and a broken stream is told to the caller, not retried.
pub(crate) struct Events {
    lines: Lines,
    name: String,
    data: Option<Vec<u8>>,
}

impl Events {
    /// Name and data of the next complete event.
    fn next(&mut self) -> Result<Option<(String, Vec<u8>)>, String> {
        while let Some(line) = self.lines.next() {
            if line.is_empty() {
                let name = std::mem::take(&mut self.name);
                // An event without data is none, says the standard.
                let Some(data) = self.data.take() else { continue };
                return Ok(Some((name, data)));
            }
            let colon = line.iter().position(|&b| b == b':').unwrap_or(line.len());
            let (field, value) = line.split_at(colon);
            let value = value.strip_prefix(b":").unwrap_or(value);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
                b"data" => match &mut self.data {
                    None => self.data = Some(value.to_vec()),
                    Some(data) if data.len() + value.len() >= MAX_RECORD => return Err(too_long(MAX_RECORD)),
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                },
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Lines, ended by `\n` or `\r\n`.
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Up to here lines were taken.
    taken: usize,
    /// Up to here there is no further line end.
    searched: usize,
    max: usize,
}

impl Lines {
    pub(crate) fn new(max: usize) -> Self {
        Self { buffer: Vec::new(), taken: 0, searched: 0, max }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.buffer.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_CAPACITY {
            self.buffer.shrink_to(KEPT_CAPACITY);
        }
        if self.buffer.len() + bytes.len() > self.max {
            return Err(too_long(self.max));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn next(&mut self) -> Option<&[u8]> {
        let Some(end) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + end;
        let line = &self.buffer[self.taken..end];
        self.taken = end + 1;
        self.searched = self.taken;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

fn too_long(max: usize) -> String {
    format!("a record is longer than {} MiB", max >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::EndReason;

    /// All that is told, with the bytes cut into pieces of this size.
    fn told(mut decoder: Decoder, bytes: &[u8], cut: usize) -> Result<Vec<Told<u32>>, String> {
        let mut all = Vec::new();
        for piece in bytes.chunks(cut) {
            decoder.push(piece)?;
            while let Some(next) = decoder.next()? {
                all.push(next);
            }
        }
        Ok(all)
    }

    fn check(decoder: fn() -> Decoder, bytes: &str, expected: &[Told<u32>]) {
        for cut in 1..=bytes.len() {
            assert_eq!(told(decoder(), bytes.as_bytes(), cut).as_deref(), Ok(expected), "cut at {cut}");
        }
    }

    #[test]
    fn events_are_told_wherever_their_bytes_are_cut() {
        let bytes = ": a comment\n\nevent: app\nid: 9\ndata: 12\n\ndata:\r\ndata: 3\r\n\r\nevent: end\n\n\
                     retry\nevent: end\ndata: {\"end\":\"shutting_down\"}\n\ndata: 4";
        let expected = [Told::Item(12), Told::Item(3), Told::End(EndReason::ShuttingDown.into())];
        check(Decoder::events, bytes, &expected);
    }

    #[test]
    fn lines_are_told_wherever_their_bytes_are_cut() {
        let bytes = "1\n\n22\r\n333\n{\"end\":\"complete\"}\n4";
        let expected =
            [Told::Item(1), Told::Item(22), Told::Item(333), Told::End(EndReason::Complete.into())];
        check(Decoder::lines, bytes, &expected);
    }

    #[test]
    fn what_is_no_record_is_an_error_and_not_an_end() {
        for bytes in ["{\"end\":\"perhaps\"}\n", "x\n", "{}\n"] {
            assert!(told(Decoder::lines(), bytes.as_bytes(), 1).is_err(), "{bytes}");
        }
        assert!(told(Decoder::events(), b"data: x\n\n", 1).is_err());
        assert!(told(Decoder::events(), b"event: end\ndata: 1\n\n", 1).is_err());
    }

    #[test]
    fn a_record_without_an_end_is_not_gathered_for_ever() {
        let mut lines = Lines::new(16);
        for _ in 0..100 {
            lines.push(b"0123456\n").unwrap();
            assert_eq!(lines.next(), Some(&b"0123456"[..]));
            assert_eq!(lines.next(), None);
        }
        lines.push(&[b'x'; 16]).unwrap();
        assert_eq!(lines.next(), None);
        assert_eq!(lines.push(b"x"), Err(too_long(16)));
    }
}

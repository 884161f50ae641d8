//! What an engine sends of a container's output, taken apart: each message with its time and its stream.
//!
//! Without a terminal each message is a frame: the stream, three zeros, its length in four bytes. With one
//! there is only text. In both a message begins with its time, and one that is not the end of its line is no
//! longer than [`PART`].

use bytes::{Buf, BytesMut};
use upbeat_shim::log::Stream;

/// The engine's part of a long line.
const PART: usize = 16 * 1024;

/// The longest time: `2026-11-22T15:55:06.453621282Z`, with an offset in place of the letter.
const TIME_MAX: usize = 35;

/// No engine sends a longer message; who does is none.
const MESSAGE_MAX: usize = 1 << 20;

/// Something that was printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) stream: Stream,
    pub(super) at_ns: i64,
    /// It is the end of its line, which is left out.
    pub(super) is_final: bool,
    pub(super) text: Vec<u8>,
}

/// Takes pieces, gives messages.
pub(super) struct Frames {
    is_terminal: bool,
    left: BytesMut,
}

/// It is no output of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled;

impl Frames {
    pub(super) fn new(is_terminal: bool) -> Self {
        Self { is_terminal, left: BytesMut::new() }
    }

    pub(super) fn take(&mut self, piece: &[u8]) {
        self.left.extend_from_slice(piece);
    }

    /// The next whole message. `None`: more has to come.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Garbled> {
        if self.is_terminal { self.of_terminal(false) } else { self.framed() }
    }

    /// Nothing more comes: what there is without an end.
    pub(super) fn last(&mut self) -> Option<Message> {
        if self.is_terminal { self.of_terminal(true).ok().flatten() } else { None }
    }

    fn framed(&mut self) -> Result<Option<Message>, Garbled> {
        let Some(head) = self.left.first_chunk::<8>() else { return Ok(None) };
        let stream = match head[0] {
            // Input that is echoed counts as output.
            0 | 1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return Err(Garbled),
        };
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if length > MESSAGE_MAX {
            return Err(Garbled);
        }
        if self.left.len() < 8 + length {
            return Ok(None);
        }
        self.left.advance(8);
        let message = self.left.split_to(length);
        let (at_ns, text) = timed(&message).ok_or(Garbled)?;
        let (text, is_final) = ended(text);
        Ok(Some(Message { stream, at_ns, is_final, text: text.to_vec() }))
    }

    fn of_terminal(&mut self, is_last: bool) -> Result<Option<Message>, Garbled> {
        let Some((at_ns, text)) = timed(&self.left) else {
            // A time has to come, or there is none.
            return if self.left.len() > TIME_MAX { Err(Garbled) } else { Ok(None) };
        };
        let before = self.left.len() - text.len();
        let end = memchr::memchr(b'\n', text);
        let length = match end {
            Some(end) if end < PART => end + 1,
            // A part, if a time follows it.
            _ if text.len() > PART + TIME_MAX && timed(&text[PART..]).is_some() => PART,
            Some(end) => end + 1,
            None if text.len() > MESSAGE_MAX => return Err(Garbled),
            None if is_last => text.len(),
            None => return Ok(None),
        };
        let message = self.left.split_to(before + length);
        let (text, is_final) = ended(&message[before..]);
        Ok(Some(Message { stream: Stream::Stdout, at_ns, is_final, text: text.to_vec() }))
    }
}

fn ended(text: &[u8]) -> (&[u8], bool) {
    text.strip_suffix(b"\n").map_or((text, false), |text| (text, true))
}

/// The time before a text, in nanoseconds since the epoch, and the text.
fn timed(message: &[u8]) -> Option<(i64, &[u8])> {
    let space = memchr::memchr(b' ', &message[..message.len().min(TIME_MAX + 1)])?;
    let time: jiff::Timestamp = std::str::from_utf8(&message[..space]).ok()?.parse().ok()?;
    Some((i64::try_from(time.as_nanosecond()).ok()?, &message[space + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIME: &str = "2026-11-22T15:55:06.000000007Z";
    const AT: i64 = 1_795_362_906_000_000_007;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(text.as_bytes());
        frame
    }

    /// In pieces of each size, all comes out.
    fn check(is_terminal: bool, sent: &[u8], wanted: &[(Stream, bool, &str)]) {
        for size in [1, 7, 100_000] {
            let mut frames = Frames::new(is_terminal);
            let mut got = Vec::new();
            for piece in sent.chunks(size) {
                frames.take(piece);
                while let Some(message) = frames.next().unwrap() {
                    got.push(message);
                }
            }
            got.extend(frames.last());
            assert!(got.iter().all(|message| message.at_ns == AT));
            let got: Vec<_> = got
                .iter()
                .map(|message| (message.stream, message.is_final, str::from_utf8(&message.text).unwrap()))
                .collect();
            assert!(got == wanted, "by {size}: {} messages", got.len());
        }
    }

    #[test]
    fn frames_are_messages_of_their_stream() {
        let mut sent = frame(1, &format!("{TIME} one\n"));
        sent.extend(frame(2, &format!("{TIME} \n")));
        sent.extend(frame(1, &format!("{TIME} a part")));
        check(
            false,
            &sent,
            &[(Stream::Stdout, true, "one"), (Stream::Stderr, true, ""), (Stream::Stdout, false, "a part")],
        );
    }

    #[test]
    fn of_a_terminal_lines_are_messages_and_so_are_parts_of_long_ones() {
        let part = "x".repeat(PART);
        let sent =
            format!("{TIME} one\r\n{TIME} {part}{TIME} rest {TIME} of it\n{TIME} {part}y\n{TIME} open");
        let whole = format!("{part}y");
        let wanted = [
            (Stream::Stdout, true, "one\r"),
            (Stream::Stdout, false, part.as_str()),
            (Stream::Stdout, true, &format!("rest {TIME} of it")),
            (Stream::Stdout, true, whole.as_str()),
            (Stream::Stdout, false, "open"),
        ];
        check(true, sent.as_bytes(), &wanted);
    }

    #[test]
    fn what_is_no_output_is_garbled() {
        for sent in [frame(3, "x"), frame(1, "no time\n"), vec![1, 0, 0, 0, 255, 255, 255, 255]] {
            let mut frames = Frames::new(false);
            frames.take(&sent);
            assert_eq!(frames.next(), Err(Garbled));
        }
        let mut frames = Frames::new(true);
        frames.take("no time at all, but a long text that has none".as_bytes());
        assert_eq!(frames.next(), Err(Garbled));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_keep_more_than_a_message(
            is_terminal: bool,
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..64),
        ) {
            let mut frames = Frames::new(is_terminal);
            for piece in pieces {
                frames.take(&piece);
                while let Ok(Some(_)) = frames.next() {}
            }
            frames.last();
        }
    }
}

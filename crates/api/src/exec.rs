//! A command beside a service, and what goes back and forth while it runs.
//!
//! `POST /api/v1/apps/{app}/services/{service}/exec` with `Upgrade: upbeat-exec/1` is answered with 101, and from
//! there on both sides send frames: one byte that says what it is, four that say how long it is (the first the most
//! significant), and so many bytes.
//!
//! | | from | what |
//! |---|---|---|
//! | 1 | client | bytes for its standard input |
//! | 2 | client | there are no more |
//! | 3 | client | the terminal has so many columns and lines: two bytes each |
//! | 4 | daemon | so many more bytes of input may be sent: four bytes; [`INPUT_ROOM`] to begin with |
//! | 5 | daemon | bytes of its standard output, or of its terminal |
//! | 6 | daemon | bytes of its standard error |
//! | 7 | daemon | an [`ExecEnd`], as JSON: the last frame |
//!
//! Laws: neither side keeps more than a frame of output and [`INPUT_ROOM`] of input. Who sends more than there is room
//! for, a longer frame than [`FRAME_MAX`], or one that is not in this table, is cut off: what is new is a new number
//! behind the slash. A client that goes away without a word ends the command.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::types::Problem;

/// The protocol and its version, as `Upgrade` says it.
pub const EXEC_PROTOCOL: &str = "upbeat-exec/1";

/// Bytes of a frame behind its head: what a pipe holds.
pub const FRAME_MAX: usize = 64 << 10;

/// Bytes of input that are under way and not taken yet: a few frames, so that neither side waits for the other as long
/// as the command reads.
pub const INPUT_ROOM: usize = 256 << 10;

/// Of a frame: what it is, how long it is.
const HEAD: usize = 5;

/// `POST /api/v1/apps/{app}/services/{service}/exec`: what to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Exec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its variables besides those of the service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// `name`, `uid`, either with `:group`; the service's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it runs; the service's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Beside which copy, from 1; the first that runs where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// It is given a terminal of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Window>,
}

/// `POST /api/v1/apps/{app}/services/{service}/attach`: which streams of what runs already. It is spoken as a command
/// beside it is, and goes on when whoever is attached goes away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Attach {
    /// To which copy, from 1; the first that runs where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// What is sent goes to its standard input, if it takes any (`stdin_open`).
    #[serde(default)]
    pub input: bool,
    /// The size of the terminal that is here, for a service that has one (`tty`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Window>,
}

/// The size of a terminal, in letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Window {
    /// In a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ExecEnd {
    /// The number for whoever asked, as a shell has it: its status; 128 and the signal that killed it; 127 where there
    /// is no such program, 126 where it cannot be run. Absent: nobody knows how it would have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Why it did not run to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What is said while a command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// For its standard input.
    Input(Bytes),
    /// There is no more input.
    InputEnd,
    /// The terminal is so large now.
    Resize(Window),
    /// So many more bytes of input may be sent.
    Room(u32),
    /// Of its standard output.
    Output(Bytes),
    /// Of its standard error.
    Errors(Bytes),
    /// It has ended; nothing follows.
    End(ExecEnd),
}

/// What is no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than one may be.
    #[error("a frame of {0} bytes, where {FRAME_MAX} are the most")]
    TooLong(usize),
    /// Of a kind that is not in the table.
    #[error("a frame of kind {0}, which is none")]
    Unknown(u8),
    /// Its bytes are none of its kind.
    #[error("a frame of kind {0} that makes no sense")]
    Senseless(u8),
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Input(_) => 1,
            Self::InputEnd => 2,
            Self::Resize(_) => 3,
            Self::Room(_) => 4,
            Self::Output(_) => 5,
            Self::Errors(_) => 6,
            Self::End(_) => 7,
        }
    }

    /// Writes it down. Bytes beyond [`FRAME_MAX`] make more frames of it; no frame for no bytes.
    pub fn write(&self, to: &mut BytesMut) {
        match self {
            Self::Input(bytes) | Self::Output(bytes) | Self::Errors(bytes) => {
                bytes.chunks(FRAME_MAX).for_each(|part| self.put(part, to));
            }
            Self::InputEnd => self.put(&[], to),
            Self::Resize(Window { columns, rows }) => {
                let ([a, b], [c, d]) = (columns.to_be_bytes(), rows.to_be_bytes());
                self.put(&[a, b, c, d], to);
            }
            Self::Room(bytes) => self.put(&bytes.to_be_bytes(), to),
            Self::End(end) => self.put(&end.json(), to),
        }
    }

    fn put(&self, bytes: &[u8], to: &mut BytesMut) {
        to.put_u8(self.kind());
        // Never longer: it was cut above.
        to.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        to.put_slice(bytes);
    }

    fn read(kind: u8, bytes: Bytes) -> Result<Self, Malformed> {
        let four = || <[u8; 4]>::try_from(&bytes[..]).map_err(|_| Malformed::Senseless(kind));
        Ok(match kind {
            1 => Self::Input(bytes),
            2 if bytes.is_empty() => Self::InputEnd,
            2 => return Err(Malformed::Senseless(kind)),
            3 => {
                let [a, b, c, d] = four()?;
                Self::Resize(Window { columns: u16::from_be_bytes([a, b]), rows: u16::from_be_bytes([c, d]) })
            }
            4 => Self::Room(u32::from_be_bytes(four()?)),
            5 => Self::Output(bytes),
            6 => Self::Errors(bytes),
            7 => Self::End(serde_json::from_slice(&bytes).map_err(|_| Malformed::Senseless(kind))?),
            _ => return Err(Malformed::Unknown(kind)),
        })
    }
}

/// Of what a problem says, so much is told: it fits into a frame, whatever becomes of it as JSON.
const WORDS_MAX: usize = 4 << 10;

impl ExecEnd {
    fn json(&self) -> Vec<u8> {
        let mut end = self.clone();
        if let Some(problem) = &mut end.problem {
            // Of a project, which is not spoken of here.
            problem.diagnostics.clear();
            let texts = [Some(&mut problem.message), problem.hint.as_mut()];
            for text in texts.into_iter().flatten() {
                let end = (0..=WORDS_MAX.min(text.len())).rfind(|at| text.is_char_boundary(*at));
                text.truncate(end.unwrap_or_default());
            }
        }
        // Numbers and texts alone: nothing of it cannot be written.
        serde_json::to_vec(&end).unwrap_or_else(|_| b"{}".to_vec())
    }
}

/// Takes bytes as they come, gives frames. Holds no more than one that is not whole, and what was taken last.
#[derive(Debug, Default)]
pub struct Frames(BytesMut);

impl Frames {
    /// These have come.
    pub fn take(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole one. `None`: more has to come. Errors: there is nothing to be made of it, nor of what follows.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let Some([kind, length @ ..]) = self.0.first_chunk::<HEAD>() else { return Ok(None) };
        let (kind, length) = (*kind, u32::from_be_bytes(*length) as usize);
        if length > FRAME_MAX {
            return Err(Malformed::TooLong(length));
        }
        if !(1..=7).contains(&kind) {
            return Err(Malformed::Unknown(kind));
        }
        if self.0.len() < HEAD + length {
            self.0.reserve(HEAD + length - self.0.len());
            return Ok(None);
        }
        self.0.advance(HEAD);
        Frame::read(kind, self.0.split_to(length).freeze()).map(Some)
    }

    /// What came last is a part of a frame.
    pub fn is_amid(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::ProblemKind;

    fn all(frames: &mut Frames) -> Result<Vec<Frame>, Malformed> {
        std::iter::from_fn(|| frames.next_frame().transpose()).collect()
    }

    fn written(frames: &[Frame]) -> BytesMut {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.write(&mut bytes));
        bytes
    }

    fn any_frame() -> impl Strategy<Value = Frame> {
        let bytes = || proptest::collection::vec(any::<u8>(), 1..300).prop_map(Bytes::from);
        let end = (any::<Option<u8>>(), any::<Option<String>>()).prop_map(|(code, why)| ExecEnd {
            code,
            problem: why.map(|why| Problem::new(ProblemKind::Conflict, why).with_hint("try again")),
        });
        prop_oneof![
            bytes().prop_map(Frame::Input),
            Just(Frame::InputEnd),
            (any::<u16>(), any::<u16>()).prop_map(|(columns, rows)| Frame::Resize(Window { columns, rows })),
            any::<u32>().prop_map(Frame::Room),
            bytes().prop_map(Frame::Output),
            bytes().prop_map(Frame::Errors),
            end.prop_map(Frame::End),
        ]
    }

    #[test]
    fn the_first_version_is_this_and_stays_so() {
        let end = Frame::End(ExecEnd { code: Some(137), problem: None });
        let window = Frame::Resize(Window { columns: 258, rows: 3 });
        let bytes = written(&[Frame::Input("hi".into()), Frame::InputEnd, window, Frame::Room(1 << 16), end]);
        let wanted: &[u8] =
            b"\x01\0\0\0\x02hi\x02\0\0\0\0\x03\0\0\0\x04\x01\x02\0\x03\x04\0\0\0\x04\0\x01\0\0\
            \x07\0\0\0\x0c{\"code\":137}";
        assert_eq!(bytes, wanted);
        assert_eq!(
            written(&[Frame::Output("a".into()), Frame::Errors("b".into())]),
            "\x05\0\0\0\x01a\x06\0\0\0\x01b"
        );
    }

    #[test]
    fn what_is_too_long_unknown_or_senseless_is_no_frame() {
        let long = u32::try_from(FRAME_MAX + 1).unwrap().to_be_bytes();
        for (bytes, wanted) in [
            ([&[5], &long[..]].concat(), Malformed::TooLong(FRAME_MAX + 1)),
            (vec![1, 255, 255, 255, 255], Malformed::TooLong(u32::MAX as usize)),
            // Before its bytes are waited for.
            (vec![0, 0, 0, 0, 9], Malformed::Unknown(0)),
            (vec![8, 0, 0, 0, 0], Malformed::Unknown(8)),
            (vec![2, 0, 0, 0, 1, 7], Malformed::Senseless(2)),
            (vec![3, 0, 0, 0, 3, 1, 2, 3], Malformed::Senseless(3)),
            (vec![4, 0, 0, 0, 5, 1, 2, 3, 4, 5], Malformed::Senseless(4)),
            (vec![7, 0, 0, 0, 2, b'{', b'['], Malformed::Senseless(7)),
        ] {
            let mut frames = Frames::default();
            frames.take(&bytes);
            assert_eq!(frames.next_frame(), Err(wanted), "{bytes:?}");
        }
    }

    #[test]
    fn a_frame_that_is_cut_off_is_none_and_known_to_be_cut_off() {
        let bytes = written(&[Frame::Output("hello".into())]);
        for length in 0..bytes.len() {
            let mut frames = Frames::default();
            frames.take(&bytes[..length]);
            assert_eq!(frames.next_frame(), Ok(None));
            assert_eq!(frames.is_amid(), length > 0);
        }
    }

    #[test]
    fn much_is_cut_into_frames_and_long_words_into_one() {
        let mut frames = Frames::default();
        frames.take(&written(&[Frame::Output(Bytes::from(vec![7; 2 * FRAME_MAX + 1]))]));
        let lengths: Vec<_> = all(&mut frames)
            .unwrap()
            .iter()
            .map(|frame| written(std::slice::from_ref(frame)).len() - HEAD)
            .collect();
        assert_eq!(lengths, [FRAME_MAX, FRAME_MAX, 1]);
        assert!(written(&[Frame::Output(Bytes::new())]).is_empty());
        let problem =
            Problem::new(ProblemKind::Internal, "\u{1}ä".repeat(FRAME_MAX)).with_hint("ä".repeat(FRAME_MAX));
        frames.take(&written(&[Frame::End(ExecEnd { code: None, problem: Some(problem) })]));
        let Some(Frame::End(ExecEnd { problem: Some(told), .. })) = frames.next_frame().unwrap() else {
            panic!()
        };
        assert!(told.message.starts_with("\u{1}ä") && told.message.len() <= WORDS_MAX);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_in_whatever_pieces(
            said in proptest::collection::vec(any_frame(), 0..8),
            size in 1_usize..40,
        ) {
            let mut frames = Frames::default();
            let mut heard = Vec::new();
            for piece in written(&said).chunks(size) {
                frames.take(piece);
                heard.extend(all(&mut frames).unwrap());
            }
            prop_assert!(!frames.is_amid());
            prop_assert_eq!(heard, said);
        }

        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::default();
            for byte in bytes {
                frames.take(&[byte]);
                while let Ok(Some(_)) = frames.next_frame() {}
            }
        }
    }
}

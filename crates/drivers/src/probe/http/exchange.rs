//! One request and its answer over a connection, in HTTP/1.1, whatever the other end sends.
//!
//! The parsing of heads and of the sizes of chunks is `httparse`'s; here is what bounds it. Nothing is
//! kept between two exchanges, so that a connection that waits for the next one costs no buffer.

use httparse::{ParserConfig, Status};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::super::words;

/// The status line and all headers of an answer, and of the interim ones before it, have at most so
/// many bytes: four times what servers allow each other.
pub(crate) const HEAD_MAX: usize = 32 * 1024;

/// And so many headers, as `hyper` has it.
const HEADERS_MAX: usize = 100;

/// A line of a chunked body, which is a number, may have so many bytes with all its extensions.
const CHUNK_LINE_MAX: usize = 256;

/// A chunked body takes at most so many times its size: with chunks of one byte it takes six.
const CHUNKED_FACTOR: usize = 8;

/// Read at once where nothing more is known.
const READ: usize = 1024;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection ended before the first byte: it may have been over before it was asked.
    Unanswered(String),
    /// What came is no answer; in words.
    Bad(String),
}

impl Failure {
    fn bad<T>(why: impl Into<String>) -> Result<T, Self> {
        Err(Self::Bad(why.into()))
    }

    pub(crate) fn words(self) -> String {
        match self {
            Self::Unanswered(why) | Self::Bad(why) => why,
        }
    }
}

/// What an answer says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// How its body is packed, where that was not asked for: `gzip`.
    pub(crate) coding: Option<String>,
    /// Where else to ask, as a redirect says.
    pub(crate) location: Option<String>,
    /// The connection may be used again when the body is over.
    stays: bool,
    framing: Framing,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClosed,
}

/// A body, or its beginning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    /// It was read to its end, and nothing follows.
    pub(crate) is_over: bool,
}

/// An answer whose body was not read yet.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    /// What came of the body already.
    rest: Vec<u8>,
}

/// Sends a request and reads the head of its answer.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &[u8],
    method: &str,
) -> Result<Answer, Failure> {
    let sent = async {
        stream.write_all(request).await?;
        stream.flush().await
    };
    // Who hangs up while it is asked may have answered all the same: that it is too large.
    let sent = sent.await;
    let mut heads = Heads::new(method);
    loop {
        if let Some(answer) = heads.next()? {
            return Ok(answer);
        }
        let room = HEAD_MAX.saturating_sub(heads.buffer.len());
        if room == 0 {
            return Failure::bad(format!(
                "the head of its answer is longer than {}",
                words::bytes(HEAD_MAX as u64)
            ));
        }
        let read = read_some(stream, &mut heads.buffer, room).await;
        let why = match (&sent, &read) {
            (_, Ok(1..)) => continue,
            (Err(error), _) | (Ok(()), Err(error)) => words::said(error),
            _ if heads.buffer.is_empty() => "it closed the connection without an answer".to_owned(),
            _ => "it closed the connection in the middle of its answer".to_owned(),
        };
        return Err(match heads.buffer.is_empty() {
            true => Failure::Unanswered(why),
            false => Failure::Bad(why),
        });
    }
}

/// At most so many bytes more; 0 at the end.
async fn read_some<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    room: usize,
) -> std::io::Result<usize> {
    if buffer.capacity() - buffer.len() < READ {
        buffer.reserve(READ);
    }
    stream.take(room as u64).read_buf(buffer).await
}

/// Finds heads in what comes.
struct Heads {
    buffer: Vec<u8>,
    /// Where the head that is read begins: after the interim ones.
    begin: usize,
    /// Up to where its end was looked for, so that each byte is looked at once.
    looked: usize,
    of_head: bool,
}

impl Heads {
    fn new(method: &str) -> Self {
        Self { buffer: Vec::new(), begin: 0, looked: 0, of_head: method == "HEAD" }
    }

    /// The answer, when its head is whole.
    fn next(&mut self) -> Result<Option<Answer>, Failure> {
        while let Some(end) = self.end() {
            let head = parse(&self.buffer[self.begin..end], self.of_head)?;
            if !(100..200).contains(&head.status) || head.status == 101 {
                let rest = self.buffer.split_off(end);
                return Ok(Some(Answer { head, rest }));
            }
            // More is to come: `100 Continue`, `103 Early Hints`.
            (self.begin, self.looked) = (end, end);
        }
        is_http(&self.buffer[self.begin..])?;
        Ok(None)
    }

    /// Behind the first empty line.
    fn end(&mut self) -> Option<usize> {
        while let Some(found) = memchr::memchr(b'\n', &self.buffer[self.looked..]) {
            let line_end = self.looked + found + 1;
            match self.buffer[line_end..] {
                [b'\n', ..] => return Some(line_end + 1),
                [b'\r', b'\n', ..] => return Some(line_end + 2),
                // What decides has not come yet: this one is looked at again.
                [] | [b'\r'] => {
                    self.looked += found;
                    return None;
                }
                _ => self.looked = line_end,
            }
        }
        self.looked = self.buffer.len();
        None
    }
}

/// So that what speaks first, or something else, is not waited for.
fn is_http(begin: &[u8]) -> Result<(), Failure> {
    const VERSION: &[u8] = b"HTTP/1.";
    let known = begin.len().min(VERSION.len());
    if begin[..known] == VERSION[..known] {
        return Ok(());
    }
    match begin[0] {
        // An alert.
        0x15 => Failure::bad("it speaks TLS: ask it with `https://`"),
        _ => Failure::bad("its answer is not HTTP"),
    }
}

fn parse(bytes: &[u8], of_head: bool) -> Result<Head, Failure> {
    is_http(bytes)?;
    let mut headers = [const { std::mem::MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    // The status is what is asked for; a header that is odd does not take it back.
    let mut config = ParserConfig::default();
    config
        .ignore_invalid_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true);
    let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    let (Ok(Status::Complete(_)), Some(status)) = (&parsed, response.code) else {
        return Failure::bad(match parsed {
            Err(httparse::Error::TooManyHeaders) => {
                format!("its answer has more than {HEADERS_MAX} headers")
            }
            _ => "its answer is not HTTP".to_owned(),
        });
    };
    let stays = response.version == Some(1);
    let mut head = Head { status, coding: None, location: None, stays, framing: Framing::UntilClosed };
    let mut lengths = None;
    let mut is_encoded = false;
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = value.parse::<u64>().ok().filter(|_| value.bytes().all(|b| b.is_ascii_digit()));
            match (lengths, length) {
                (None, Some(length)) => lengths = Some(length),
                (Some(before), Some(length)) if before == length => {}
                _ => is_encoded = true,
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            let is_first = !is_encoded;
            is_encoded = true;
            head.framing = match value.eq_ignore_ascii_case("chunked") && is_first {
                true => Framing::Chunked,
                false => Framing::UntilClosed,
            };
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.stays &= !value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close"));
        } else if header.name.eq_ignore_ascii_case("location") {
            head.location.get_or_insert_with(|| value.to_owned());
        } else if header.name.eq_ignore_ascii_case("content-encoding")
            && !value.is_empty()
            && !value.eq_ignore_ascii_case("identity")
        {
            head.coding = Some(value.to_owned());
        }
    }
    if of_head || matches!(status, 101 | 204 | 304) {
        head.framing = Framing::Length(0);
        head.stays &= status != 101;
    } else if let (Some(length), false) = (lengths, is_encoded) {
        head.framing = Framing::Length(length);
    }
    Ok(head)
}

impl Answer {
    /// The body can be read to its end within so many bytes, and the connection is of use afterwards.
    pub(crate) fn may_stay(&self, most: usize) -> bool {
        self.head.stays
            && match self.head.framing {
                Framing::Length(length) => length <= most as u64,
                Framing::Chunked => true,
                Framing::UntilClosed => false,
            }
    }

    /// It says of itself that its body is longer than this.
    pub(crate) fn is_longer_than(&self, most: usize) -> bool {
        matches!(self.head.framing, Framing::Length(length) if length > most as u64)
    }

    /// All of it is there, and nothing else: the connection can be used again.
    pub(crate) fn is_over(&self) -> bool {
        self.head.stays && self.head.framing == Framing::Length(self.rest.len() as u64)
    }

    /// Reads the body, or its first bytes.
    pub(crate) async fn body<S: AsyncRead + Unpin>(
        self,
        stream: &mut S,
        most: usize,
    ) -> Result<Body, Failure> {
        let Self { head, mut rest } = self;
        let wanted = match head.framing {
            Framing::Chunked => return chunked(stream, rest, most, head.stays).await,
            Framing::Length(length) => usize::try_from(length).unwrap_or(most).min(most),
            Framing::UntilClosed => most,
        };
        while rest.len() < wanted {
            let room = wanted - rest.len();
            match read_some(stream, &mut rest, room).await {
                Ok(1..) => {}
                Ok(0) if head.framing == Framing::UntilClosed => break,
                Ok(0) => return Failure::bad("it closed the connection in the middle of its body"),
                Err(error) => return Failure::bad(words::said(&error)),
            }
        }
        let is_over = head.stays && head.framing == Framing::Length(rest.len() as u64);
        rest.truncate(wanted);
        Ok(Body { bytes: rest, is_over })
    }
}

async fn chunked<S: AsyncRead + Unpin>(
    stream: &mut S,
    mut raw: Vec<u8>,
    most: usize,
    stays: bool,
) -> Result<Body, Failure> {
    let garbled = || Failure::Bad("its body is not chunked as it says".to_owned());
    let mut chunks = Chunks { most, state: State::Size, bytes: Vec::new() };
    let mut room = most.saturating_mul(CHUNKED_FACTOR).max(READ);
    loop {
        let used = chunks.feed(&raw).ok_or_else(garbled)?;
        raw.drain(..used);
        let is_last = chunks.state == State::Over;
        if is_last || chunks.bytes.len() >= most {
            return Ok(Body { bytes: chunks.bytes, is_over: stays && is_last && raw.is_empty() });
        }
        match read_some(stream, &mut raw, room.min(READ)).await {
            Ok(0) => return Failure::bad("it closed the connection in the middle of its body"),
            Ok(count) => room = room.saturating_sub(count),
            Err(error) => return Failure::bad(words::said(&error)),
        }
        if room == 0 {
            return Err(garbled());
        }
    }
}

/// Takes a chunked body apart.
struct Chunks {
    most: usize,
    state: State,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A line with a number.
    Size,
    /// So many bytes.
    Data(u64),
    /// The end of a line.
    DataEnd,
    /// Lines up to an empty one.
    Trailer,
    Over,
}

impl Chunks {
    /// Takes what it can of these bytes; how many. `None`: they are no chunks.
    fn feed(&mut self, raw: &[u8]) -> Option<usize> {
        let mut used = 0;
        loop {
            let rest = &raw[used..];
            match self.state {
                State::Size => match httparse::parse_chunk_size(rest) {
                    Ok(Status::Complete((line, size))) => {
                        used += line;
                        self.state = if size == 0 { State::Trailer } else { State::Data(size) };
                    }
                    Ok(Status::Partial) => return (rest.len() <= CHUNK_LINE_MAX).then_some(used),
                    Err(_) => return None,
                },
                State::Data(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let kept = taken.min(self.most - self.bytes.len());
                    self.bytes.extend_from_slice(&rest[..kept]);
                    used += taken;
                    match left - taken as u64 {
                        0 => self.state = State::DataEnd,
                        left => {
                            self.state = State::Data(left);
                            return Some(used);
                        }
                    }
                }
                State::DataEnd => match rest {
                    [] | [b'\r'] => return Some(used),
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.state = State::Size;
                    }
                    _ => return None,
                },
                State::Trailer => {
                    let Some(end) = memchr::memchr(b'\n', rest) else {
                        return (rest.len() <= CHUNK_LINE_MAX).then_some(used);
                    };
                    used += end + 1;
                    if matches!(rest[..end], [] | [b'\r']) {
                        self.state = State::Over;
                    }
                }
                State::Over => return Some(used),
            }
        }
    }
}

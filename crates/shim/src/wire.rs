//! What daemon and shim say to each other: one message, one packet.
//!
//! Integers are little-endian; texts are a length of 4 bytes and so many bytes. Every message is
//! versioned by the `Hello` a shim sends first on each connection that finds it running.
//!
//! What is fixed for ever, because shims outlive the daemon that started them: the kinds of `Hello`,
//! `Exited` and `Stop`, and their fields as they are now; a later version may add fields behind
//! them, and kinds.

use std::os::fd::{AsFd, BorrowedFd};

use crate::notify::{NotifyState, WatchdogState};

/// The version of these messages. A daemon hears and stops a shim of any.
pub const VERSION: u32 = 2;

/// Shims from this version on understand [`ToShim::Signal`]. Those before hang up at it.
pub const SIGNALS_SINCE: u32 = 2;

/// No message is longer: the largest is the captured output of an `exec`.
pub const MESSAGE_MAX: usize = 8 * 1024;

/// How a process ended, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was not executed: see [`Stage`] and `errno`.
    NotExecuted(Stage, i32),
    /// Its parent is another process of its tree, and has not said how.
    Unknown,
}

/// [`End::Unknown`] as a number: that of the stage 8, which shall never be one.
const END_UNKNOWN: u8 = 2 + 8;

/// What failed on the way to `exec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Making the process itself.
    Fork,
    /// Becoming the user.
    User,
    /// Entering the working directory.
    Directory,
    /// Executing the program.
    Execute,
    /// Saying how soon the kernel kills it when memory is out.
    OomScore,
    /// Making its terminal, or having it control it.
    Terminal,
    /// Reaching its private files, as its user.
    Private,
    /// Joining its cgroup.
    Cgroup,
    /// Giving up what its user has no right to.
    Privileges,
    /// Setting the limit of this number, 0 to 15.
    Limit(u8),
    /// Joining the group that stands at this place in the order, counted from 0.
    Group(u8),
}

impl Stage {
    /// The number of the first limit, and of the first group.
    const LIMITS: u8 = 16;
    const GROUPS: u8 = 32;

    /// Groups beyond this place are told as this one: as an end, a stage's number is 2 more.
    pub const GROUP_MAX: u8 = u8::MAX - 2 - Self::GROUPS;

    /// As a number, at most 253.
    pub fn number(self) -> u8 {
        match self {
            Self::Fork => 0,
            Self::User => 1,
            Self::Directory => 2,
            Self::Execute => 3,
            Self::OomScore => 4,
            Self::Terminal => 5,
            Self::Private => 6,
            Self::Cgroup => 7,
            // 8 is [`END_UNKNOWN`].
            Self::Privileges => 9,
            Self::Limit(number) => Self::LIMITS + number.min(Self::GROUPS - Self::LIMITS - 1),
            Self::Group(place) => Self::GROUPS + place.min(Self::GROUP_MAX),
        }
    }

    /// From a number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Fork),
            1 => Some(Self::User),
            2 => Some(Self::Directory),
            3 => Some(Self::Execute),
            4 => Some(Self::OomScore),
            5 => Some(Self::Terminal),
            6 => Some(Self::Private),
            7 => Some(Self::Cgroup),
            9 => Some(Self::Privileges),
            Self::LIMITS..Self::GROUPS => Some(Self::Limit(number - Self::LIMITS)),
            Self::GROUPS.. => Some(Self::Group(number - Self::GROUPS)),
            _ => None,
        }
    }

    /// What failed here with this number is a want of processes or files of ours, and nothing was begun:
    /// no word about the command, which can be begun as soon as there are some. A limit that is asked for
    /// the command itself is only met by what comes after the fork, and never with these numbers.
    pub fn is_want(self, errno: i32) -> bool {
        self == Self::Fork || matches!(errno, libc::EMFILE | libc::ENFILE)
    }
}

/// Shim to daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromShim {
    /// The program was executed.
    Started {
        /// The main process.
        pid: i32,
        /// When, in nanoseconds since the epoch.
        at_ns: i64,
        /// The sequence number its first record has in the log.
        log_start: u64,
    },
    /// The program was not executed; the shim is gone. Where that is for a want of ours
    /// ([`Stage::is_want`]), the slot has seen no attempt.
    StartFailed {
        /// How far it came.
        stage: Stage,
        /// What the system said.
        errno: i32,
    },
    /// The shim itself could not do its work; it is gone, nothing was started.
    Unable {
        /// Why, for people.
        why: String,
    },
    /// Another shim holds the slot.
    Busy,
    /// The slot has seen this attempt already.
    Superseded {
        /// The highest it has seen.
        attempt: u64,
    },
    /// To whoever connects later: this runs here.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Which attempt.
        attempt: u64,
        /// The main process.
        pid: i32,
        /// When it was started.
        at_ns: i64,
        /// As in `Started`.
        log_start: u64,
    },
    /// The main process ended, its tree is gone, and its record is written.
    Exited {
        /// How.
        end: End,
        /// When.
        at_ns: i64,
    },
    /// A process of the tree may not be killed: it became another user. Told again as long as that
    /// is so.
    Refused {
        /// Which.
        pid: i32,
        /// What the system said.
        errno: i32,
    },
    /// What the process says of itself, where it was given a socket to do so: to whoever connects, and
    /// when it has changed.
    Notified(NotifyState),
    /// The shim of an `exec` is there, and is this process. Told before the command is run: one that is
    /// stopped later can be ended.
    Here {
        /// Which.
        pid: i32,
        /// When it was begun, in ticks since boot; 0: it cannot tell.
        begun: u64,
    },
    /// An `exec` ended.
    Done {
        /// How; `None` when it was killed because its time was over.
        end: Option<End>,
        /// The end of what it printed.
        output: Vec<u8>,
    },
}

/// Daemon to shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToShim {
    /// Ask the main process' group by a signal; kill the tree after the grace period.
    Stop {
        /// The signal.
        signal: i32,
        /// In milliseconds.
        grace_ms: u64,
    },
    /// Send the main process a signal, and nobody else; that is all.
    Signal {
        /// The signal.
        signal: i32,
    },
}

/// A message that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbled;

impl std::fmt::Display for Garbled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a message that makes no sense")
    }
}

impl std::error::Error for Garbled {}

/// Writes the fields of a message.
#[derive(Default)]
pub struct Encoder(pub Vec<u8>);

impl Encoder {
    /// One byte.
    pub fn u8(&mut self, n: u8) -> &mut Self {
        self.0.push(n);
        self
    }
    /// Four bytes.
    pub fn i32(&mut self, n: i32) -> &mut Self {
        self.0.extend(n.to_le_bytes());
        self
    }
    /// Eight bytes.
    pub fn u64(&mut self, n: u64) -> &mut Self {
        self.0.extend(n.to_le_bytes());
        self
    }
    /// A length and so many bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend(length.to_le_bytes());
        self.0.extend(&bytes[..length as usize]);
        self
    }
    /// How something ended.
    pub fn end(&mut self, end: End) -> &mut Self {
        match end {
            End::Code(code) => self.u8(0).i32(code),
            End::Signal(signal) => self.u8(1).i32(signal),
            End::NotExecuted(stage, errno) => self.u8(2 + stage.number()).i32(errno),
            End::Unknown => self.u8(END_UNKNOWN).i32(0),
        }
    }
    /// Whether there is one, and eight bytes.
    fn maybe(&mut self, n: Option<u64>) -> &mut Self {
        self.u8(u8::from(n.is_some())).u64(n.unwrap_or_default())
    }
}

/// Reads the fields of a message.
pub struct Decoder<'a>(pub &'a [u8]);

impl<'a> Decoder<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Garbled> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Garbled)?;
        self.0 = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        self.take(N)?.try_into().map_err(|_| Garbled)
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Garbled> {
        Ok(self.array::<1>()?[0])
    }
    /// Four bytes.
    pub fn i32(&mut self) -> Result<i32, Garbled> {
        Ok(i32::from_le_bytes(self.array()?))
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Garbled> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    /// A length and so many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Garbled> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(length as usize)
    }
    /// How something ended.
    pub fn end(&mut self) -> Result<End, Garbled> {
        let kind = self.u8()?;
        let value = self.i32()?;
        match kind {
            0 => Ok(End::Code(value)),
            1 => Ok(End::Signal(value)),
            END_UNKNOWN => Ok(End::Unknown),
            stage => Ok(End::NotExecuted(Stage::from_number(stage - 2).ok_or(Garbled)?, value)),
        }
    }
    /// Yes or no.
    fn bool(&mut self) -> Result<bool, Garbled> {
        Ok(self.u8()? != 0)
    }
    /// Eight bytes, if there are any.
    fn maybe(&mut self) -> Result<Option<u64>, Garbled> {
        let (is_there, n) = (self.bool()?, self.u64()?);
        Ok(is_there.then_some(n))
    }
    /// The same of a smaller number.
    fn maybe_i32(&mut self) -> Result<Option<i32>, Garbled> {
        self.maybe()?.map(|n| i32::try_from(n).map_err(|_| Garbled)).transpose()
    }
    /// Nothing may be left.
    pub fn finish(self) -> Result<(), Garbled> {
        if self.0.is_empty() { Ok(()) } else { Err(Garbled) }
    }
}

impl FromShim {
    /// As a packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Encoder::default();
        match self {
            Self::Started { pid, at_ns, log_start } => {
                to.u8(1).i32(*pid).u64(*at_ns as u64).u64(*log_start);
            }
            Self::StartFailed { stage, errno } => {
                to.u8(2).u8(stage.number()).i32(*errno);
            }
            Self::Unable { why } => {
                to.u8(3).bytes(&why.as_bytes()[..why.len().min(MESSAGE_MAX / 2)]);
            }
            Self::Busy => {
                to.u8(4);
            }
            Self::Superseded { attempt } => {
                to.u8(5).u64(*attempt);
            }
            Self::Hello { version, attempt, pid, at_ns, log_start } => {
                to.u8(6).u64(u64::from(*version)).u64(*attempt).i32(*pid).u64(*at_ns as u64).u64(*log_start);
            }
            Self::Exited { end, at_ns } => {
                to.u8(7).end(*end).u64(*at_ns as u64);
            }
            Self::Refused { pid, errno } => {
                to.u8(9).i32(*pid).i32(*errno);
            }
            Self::Notified(state) => {
                to.u8(10);
                put_state(&mut to, state);
            }
            Self::Here { pid, begun } => {
                to.u8(11).i32(*pid).u64(*begun);
            }
            Self::Done { end, output } => {
                to.u8(8).u8(u8::from(end.is_some())).end(end.unwrap_or(End::Code(0))).bytes(output);
            }
        }
        to.0
    }

    /// From a packet; what stands behind the fields known here is of a later version. `None`: so is
    /// the whole message. Errors: it is cut off, or makes no sense.
    pub fn decode(packet: &[u8]) -> Result<Option<Self>, Garbled> {
        let mut from = Decoder(packet);
        Ok(Some(match from.u8()? {
            1 => Self::Started { pid: from.i32()?, at_ns: from.u64()? as i64, log_start: from.u64()? },
            2 => Self::StartFailed {
                stage: Stage::from_number(from.u8()?).ok_or(Garbled)?,
                errno: from.i32()?,
            },
            3 => Self::Unable { why: String::from_utf8_lossy(from.bytes()?).into_owned() },
            4 => Self::Busy,
            5 => Self::Superseded { attempt: from.u64()? },
            6 => Self::Hello {
                version: u32::try_from(from.u64()?).map_err(|_| Garbled)?,
                attempt: from.u64()?,
                pid: from.i32()?,
                at_ns: from.u64()? as i64,
                log_start: from.u64()?,
            },
            7 => Self::Exited { end: from.end()?, at_ns: from.u64()? as i64 },
            8 => {
                let in_time = from.u8()? == 1;
                let end = from.end()?;
                Self::Done { end: in_time.then_some(end), output: from.bytes()?.to_vec() }
            }
            9 => Self::Refused { pid: from.i32()?, errno: from.i32()? },
            10 => Self::Notified(take_state(&mut from)?),
            11 => Self::Here { pid: from.i32()?, begun: from.u64()? },
            _ => return Ok(None),
        }))
    }
}

fn put_state(to: &mut Encoder, state: &NotifyState) {
    let NotifyState { ready, reloading, reloads, reload_usec, stopping, .. } = state;
    let NotifyState { status, errno, main_pid, extended_until_ms, watchdog, .. } = state;
    for flag in [ready, reloading, stopping] {
        to.u8(u8::from(*flag));
    }
    to.u64(u64::from(*reloads)).maybe(*reload_usec);
    to.u8(u8::from(status.is_some())).bytes(status.as_deref().unwrap_or_default().as_bytes());
    // Both are above 0.
    to.maybe(errno.map(|errno| errno as u64)).maybe(main_pid.map(|pid| pid as u64)).maybe(*extended_until_ms);
    let WatchdogState { interval_ms, last_ping_ms, expired, triggered, expiries } = watchdog;
    to.maybe(*interval_ms).maybe(*last_ping_ms);
    to.u8(u8::from(*expired)).u8(u8::from(*triggered)).u64(u64::from(*expiries));
}

fn take_state(from: &mut Decoder<'_>) -> Result<NotifyState, Garbled> {
    let count = |from: &mut Decoder<'_>| u32::try_from(from.u64()?).map_err(|_| Garbled);
    let [ready, reloading, stopping] = [from.bool()?, from.bool()?, from.bool()?];
    let (reloads, reload_usec) = (count(from)?, from.maybe()?);
    let (has_status, status) = (from.bool()?, String::from_utf8_lossy(from.bytes()?).into_owned());
    Ok(NotifyState {
        ready,
        reloading,
        reloads,
        reload_usec,
        stopping,
        status: has_status.then_some(status),
        errno: from.maybe_i32()?,
        main_pid: from.maybe_i32()?,
        extended_until_ms: from.maybe()?,
        watchdog: WatchdogState {
            interval_ms: from.maybe()?,
            last_ping_ms: from.maybe()?,
            expired: from.bool()?,
            triggered: from.bool()?,
            expiries: count(from)?,
        },
    })
}

impl ToShim {
    /// As a packet.
    pub fn encode(self) -> Vec<u8> {
        let mut to = Encoder::default();
        match self {
            Self::Stop { signal, grace_ms } => to.u8(1).i32(signal).u64(grace_ms),
            Self::Signal { signal } => to.u8(2).i32(signal),
        };
        to.0
    }

    /// From a packet, as above. Errors: it is cut off, or asks for a signal there is not.
    pub fn decode(packet: &[u8]) -> Result<Option<Self>, Garbled> {
        let mut from = Decoder(packet);
        let kind = from.u8()?;
        if !(1..=2).contains(&kind) {
            return Ok(None);
        }
        let signal = from.i32()?;
        if !(1..=64).contains(&signal) {
            return Err(Garbled);
        }
        Ok(Some(match kind {
            1 => Self::Stop { signal, grace_ms: from.u64()? },
            _ => Self::Signal { signal },
        }))
    }
}

/// Sends one packet without waiting. Errors: nobody is there, or they do not listen.
pub fn send(socket: BorrowedFd<'_>, packet: &[u8]) -> rustix::io::Result<()> {
    let flags = rustix::net::SendFlags::NOSIGNAL | rustix::net::SendFlags::DONTWAIT;
    rustix::net::send(socket.as_fd(), packet, flags).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_a_number_of_its_own() {
        for number in 0..=u8::MAX - 2 {
            if let Some(stage) = Stage::from_number(number) {
                assert_eq!(stage.number(), number, "{stage:?}");
            }
        }
        assert_eq!(Stage::from_number(END_UNKNOWN - 2), None);
        assert_eq!(Stage::Group(u8::MAX).number(), u8::MAX - 2);
        assert_eq!(Stage::from_number(Stage::Limit(u8::MAX).number()), Some(Stage::Limit(15)));
    }

    #[test]
    fn every_message_reads_back_and_no_prefix_of_one_does() {
        let state = NotifyState {
            ready: true,
            reloading: true,
            reloads: 3,
            reload_usec: Some(u64::MAX),
            stopping: true,
            status: Some("\u{e4}".repeat(crate::notify::STATUS_MAX / 2)),
            errno: Some(2),
            main_pid: Some(i32::MAX),
            extended_until_ms: Some(7),
            watchdog: WatchdogState {
                interval_ms: Some(8),
                last_ping_ms: Some(9),
                expired: true,
                triggered: true,
                expiries: u32::MAX,
            },
        };
        assert!(FromShim::Notified(state.clone()).encode().len() <= MESSAGE_MAX);
        let messages = [
            FromShim::Notified(NotifyState::default()),
            FromShim::Notified(state),
            FromShim::Exited { end: End::Unknown, at_ns: 5 },
            FromShim::Started { pid: 7, at_ns: -3, log_start: u64::MAX },
            FromShim::StartFailed { stage: Stage::Directory, errno: 2 },
            FromShim::StartFailed { stage: Stage::Group(Stage::GROUP_MAX), errno: 2 },
            FromShim::Exited { end: End::NotExecuted(Stage::Group(Stage::GROUP_MAX), 2), at_ns: 5 },
            FromShim::Unable { why: "no".into() },
            FromShim::Busy,
            FromShim::Superseded { attempt: 9 },
            FromShim::Hello { version: VERSION, attempt: 1, pid: 2, at_ns: 3, log_start: 4 },
            FromShim::Exited { end: End::Signal(9), at_ns: 5 },
            FromShim::Exited { end: End::NotExecuted(Stage::Execute, 2), at_ns: 5 },
            FromShim::Refused { pid: 9, errno: 1 },
            FromShim::Here { pid: 7, begun: u64::MAX },
            FromShim::Done { end: None, output: b"x".to_vec() },
            FromShim::Done { end: Some(End::Code(3)), output: vec![] },
        ];
        for message in messages {
            let packet = message.encode();
            assert_eq!(FromShim::decode(&packet), Ok(Some(message)));
            for end in 0..packet.len() {
                assert_eq!(FromShim::decode(&packet[..end]), Err(Garbled));
            }
            let later = [&packet[..], b"!"].concat();
            assert_eq!(
                FromShim::decode(&later).map(|message| message.map(|message| message.encode())),
                Ok(Some(packet)),
                "a field of a later version"
            );
        }
        assert_eq!(FromShim::decode(b"\xc8something new"), Ok(None));
        for order in [ToShim::Stop { signal: 15, grace_ms: 10_000 }, ToShim::Signal { signal: 64 }] {
            let packet = order.encode();
            assert_eq!(ToShim::decode(&packet), Ok(Some(order)));
            for end in 0..packet.len() {
                assert_eq!(ToShim::decode(&packet[..end]), Err(Garbled));
            }
            assert_eq!(ToShim::decode(&[&packet[..], b"!"].concat()), Ok(Some(order)));
        }
        for signal in [0, 65] {
            assert_eq!(ToShim::decode(&ToShim::Stop { signal, grace_ms: 0 }.encode()), Err(Garbled));
            assert_eq!(ToShim::decode(&ToShim::Signal { signal }.encode()), Err(Garbled));
        }
        assert_eq!(ToShim::decode(b"\xc8something new"), Ok(None));
    }
}

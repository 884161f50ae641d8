//! Every bound of this room, with its reason.

use std::time::Duration;

/// The head of a request. Ours have under 1 KiB; a browser's, with its cookies, a few. It is also
/// the most that is buffered of a request that is being read, and of an answer being written.
pub const HEAD_MAX: usize = 16 << 10;

/// Headers of a request: ours have five, a browser's twenty.
pub const HEADERS_MAX: usize = 64;

/// Until the head of a request is there, counted from the connection's start or from the previous
/// answer; so also how long an idle connection is kept. A client on the same machine needs
/// milliseconds, unless it is stopped.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Until the body of a request is there: 16 MiB take a client on the same machine well under a
/// second; the rest is for a machine under heavy load.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What controllers say in one request: a hundred thousand targets, each with its group, its version and a
/// sentence, take 13 MiB. All of it is read before anything is done.
pub const REPORTS_BYTES_MAX: usize = 16 << 20;

/// Bytes of large reports that are read at once, at one door, as they are held meanwhile: two or three of the largest,
/// or a hundred of ten thousand targets.
pub const BODIES_BYTES_MAX: u64 = 128 << 20;

/// Bytes of large answers to controllers that are made and sent at once, at one door. One that is larger, such as one
/// about a quarter of a million targets, is made alone.
pub const ANSWERS_BYTES_MAX: u64 = 128 << 20;

/// The same for whoever only looks: half as much, as nothing waits for it but a person.
pub const LOOKS_BYTES_MAX: u64 = 64 << 20;

/// What is no larger waits for nobody: on all places of a door together, these are a few MiB.
pub const SMALL_BYTES: u64 = 64 << 10;

/// What is no larger is read, checked and written where requests are answered, on one thread: that takes a millisecond.
/// Above, sending it to another thread and back costs less than everybody else's waiting.
pub const ASIDE_BYTES: u64 = 64 << 10;

/// So many threads read and write what is large at once, at one door: the largest takes half a second, and does not
/// keep the others waiting for that; and all doors together leave most of a machine to what it runs.
pub const ASIDE_AT_ONCE: usize = 2;

/// How long a large report or answer waits for its turn: longer than somebody who stands still keeps a place
/// ([`STALL_TIMEOUT`]), so that who waits outlasts them; and no longer than clients wait for an answer, ours for 30 s.
pub const ROOM_WAIT: Duration = Duration::from_secs(15);

/// For so long whoever sends a large body, or takes a large answer, may stand still, and be behind [`LEAST_RATE`]. A
/// program that collects its garbage, or a network that has lost a packet twice, goes on after less.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The same of the context of a build: whoever packs it may have to look at very many files that are left out before
/// the next one that is not.
pub const CONTEXT_STALL: Duration = Duration::from_secs(60);

/// So many bytes a second a large body has to come with, and a large answer has to be taken with, on the whole: what
/// the largest body needs to be there within [`BODY_TIMEOUT`], and a network of four megabits carries.
pub const LEAST_RATE: u64 = 512 << 10;

/// When somebody may try again who was refused for a lack of something that is free again soon.
pub const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// So many bytes are thrown away of a body that was refused, so that its sender comes to hear why: twice the largest
/// report. Who sends more finds the connection closed.
pub const LINGER_BYTES_MAX: usize = 2 * REPORTS_BYTES_MAX;

/// And for so long: the largest report takes a fraction of a second on this machine.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(10);

/// Unless nothing comes for so long: who is about to send does not wait, and who listens has heard by then.
pub const LINGER_IDLE: Duration = Duration::from_secs(2);

/// A large answer is handed over in parts of so many bytes: its place is free when the last is on its way.
pub const ROOM_FRAME: usize = 64 << 10;

pub use upbeat_model::rollout::LABELS_MAX;

/// Connections at once. Each is a file descriptor of the daemon, which has 1,024 where nobody
/// raised that; a person with some tools uses ten.
pub const CONNECTIONS_MAX: usize = 256;

/// Of these, no member of the socket's group gets the last: the daemon's own user and root come in
/// whatever guests do.
pub const RESERVED_CONNECTIONS: usize = 32;

/// Of these for one member of the socket's group.
pub const CONNECTIONS_OF_ONE_MAX: usize = 64;

/// Connections over TCP at once. They are counted apart, so that whoever fills them does not keep out
/// those on the socket of this machine.
pub const TCP_CONNECTIONS_MAX: usize = 128;

/// Of these from one address: one machine alone does not fill them. Of IPv6 the first half of an
/// address counts: the other half is its owner's to choose.
pub const TCP_CONNECTIONS_OF_ONE_MAX: usize = 64;

/// Of these from this machine: several users, or a proxy that speaks for many.
pub const TCP_CONNECTIONS_OF_HERE_MAX: usize = 96;

/// Connections at once where rollouts are asked about without a token. They are counted apart: a controller that
/// goes wild keeps nobody else out.
pub const ROLLOUTS_CONNECTIONS_MAX: usize = 128;

/// So long a request may wait until the device document is settled: an update of a machine takes minutes, and whoever
/// waits longer follows its stream.
pub const DEVICE_WAIT_MAX: Duration = Duration::from_secs(600);

/// Streams over TCP that one token keeps open: a person with ten terminals, or a page with some
/// tabs. They are answers that do not end, so no newcomer gets their places; all together they are on
/// half of the places at most, of one address and of all: see [`crate::serve`].
pub const STREAMS_OF_TOKEN_MAX: usize = 32;

/// How long nobody loses the place for a newcomer to whom an answer is being sent, once all of it stands
/// ready: 16 MiB over two megabits in a second. A stream has more to say, and is bounded by its number.
pub const TAKEN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long agreeing on TLS may take: two journeys around the world, on a machine under heavy load.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// After so long without a word the other end is asked whether it is still there. Nothing else tells
/// of a machine that was switched off while it watched.
pub const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);

/// And again after so long,
pub const KEEP_ALIVE_AGAIN: Duration = Duration::from_secs(15);

/// so often, before it is taken for gone.
pub const KEEP_ALIVE_TIMES: u32 = 4;

/// What was sent and is not taken for so long belongs to nobody. In milliseconds.
pub const UNTAKEN_MAX_MS: u32 = 60_000;

/// How often it is looked whether the token still holds with which a stream over TCP was opened: so long
/// somebody whose token was revoked hears more, at most. A look costs microseconds.
pub const STREAM_LOOK: Duration = Duration::from_secs(5);

/// So many looks in a row may come to nothing before a stream breaks off: a store that is busy has answered
/// by then, and whoever was revoked meanwhile reads no longer than this.
pub const MISSED_MAX: u32 = 12;

/// A path is written down only so far, in characters.
pub const PATH_SHOWN: usize = 200;

/// Connections that are being told no, at once, each for at most [`REFUSAL_TIMEOUT`]. When there are
/// so many, the next is closed without a word: whoever may come in does not wait for them.
pub const REFUSALS_MAX: usize = 16;

/// How long somebody who is not let in may take to ask and to hear why.
pub const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the daemon's end waits for answers and streams that are under way. Streams are told at
/// once; what is left after this has a reader that does not read.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after a connection could not be accepted: the process is out of file descriptors, and
/// asking again at once would only burn the CPU.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a command and its variables together: what a kernel gives a program is some two MiB at most, in which those
/// of the service have to fit, too.
pub const EXEC_ARGUMENTS_MAX: usize = 1 << 20;

/// Of a command so much is in the record of it, in characters.
pub const EXEC_WORDS_SHOWN: usize = 200;

/// Log lines are written together up to about so many bytes: large enough that the cost of a write
/// is shared by hundreds of lines, small enough to be no latency and no memory.
pub const LOG_BATCH: usize = 32 << 10;

/// So many states that are ready at once are skipped in favour of the last one before the reader
/// gets one: a source that is always ahead must not starve it.
pub const COALESCED_MAX: usize = 1_024;

/// One part in so many of the time goes into telling one client states: an app of thousands of slots
/// takes tens of milliseconds to be written down, and the daemon has other work.
pub const STATES_SHARE: u32 = 10;

/// However long a state takes to be written down, the next one does not wait longer for it.
pub const STATES_PAUSE_MAX: Duration = Duration::from_secs(1);

//! A slot's process, from lock to record.
//!
//! ```text
//! lock ─▶ void? ─▶ fence ─▶ files ─▶ record: begun ─▶ fork, exec ─▶ loop { output, orders, ends } ─▶ tree empty
//!   │busy   │void    │superseded                         │failed                                        │
//!   ▼       ▼        ▼                                   ▼                 files gone, record: ended, unlock, tell, go
//!                                    for want of ours: record: as before, else: ended
//! ```
//!
//! An order is **void** when whoever gave it is gone by the time the lock is held. So a daemon that
//! takes over finds the lock taken for every order of its predecessor that will still be carried
//! out, and a slot that it saw empty stays empty until it says otherwise.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FlockOperation, flock};
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::cgroup::Group;
use crate::child::{self, Child, Image};
use crate::grace::Grace;
use crate::leader::Leader;
use crate::log::{self, Stream, Writer};
use crate::notify::Notices;
use crate::private::Private;
use crate::record::{self, Record};
use crate::spec::{Order, Spec, Stdio, Supervise};
use crate::stdio::Streams;
use crate::system::{awake_ms, boot_ms, create_private, wall_ns};
use crate::wire::{End, FromShim, ToShim, VERSION, send};
use crate::zygote::wait_for;
use crate::{failpoint, stdio, tree};

/// The socket in the slot's directory by which a later daemon finds the shim.
pub const SOCKET: &str = "sock";

/// The lock in the slot's directory.
pub const LOCK: &str = "lock";

/// Daemons connected at once: one, and a few that are about to notice that they are not the one.
const DAEMONS_MAX: usize = 8;

/// While a tree is being killed, look so often whether it has grown new leaves.
pub(crate) const KILL_AGAIN_MS: u64 = 20;

/// Where the system does not let us kill, ask it again so often.
pub(crate) const KILL_REFUSED_AGAIN_MS: u64 = 1000;

/// When a process that was asked to stop has ended, look so soon for children that were just being
/// born and have missed it; then after twice as long, and so on.
const NEWBORN_AGAIN_MS: u64 = 20;

/// No machine is so busy that it takes a child longer to get from `fork` to the program it shall be.
const BIRTH_MS: u64 = 1000;

/// Where records were dropped, look so often whether there is room to say so.
const SAY_DROPPED_MS: u64 = 1000;

/// What is left in a pipe when all who could write to it are dead is at most 1 MiB, the largest a
/// pipe can be made. Whoever was given it from outside the tree does not hold up the end.
const LAST_READS_MAX: usize = 64;

/// A shim that is told to end by the system, by `SIGTERM`, stops its child as if it were asked to,
/// and gives it so long: the default of the Compose Specification.
const TERMINATED_GRACE_MS: u64 = 10_000;

/// Nobody is in it.
const NO_GROUP: i32 = 0;

/// Output read at once. The buffer is only resident as far as it was used.
const READ_MAX: usize = 64 * 1024;

/// Runs one slot's process to its end.
pub(crate) fn run(spec: Spec, dir: Option<OwnedFd>, channel: OwnedFd) -> ExitCode {
    match begin(spec, dir, &channel) {
        Ok(begun) => {
            let Begun { slot, child } = begun;
            slot.serve(child, channel);
            ExitCode::SUCCESS
        }
        Err(message) => {
            // Nobody there to hear it: then it is of no use.
            let _ = send(channel.as_fd(), &message.encode());
            ExitCode::FAILURE
        }
    }
}

struct Begun {
    slot: Slot,
    child: Child,
}

/// A slot this shim owns.
struct Slot {
    record: Record,
    record_file: File,
    log: Writer,
    listener: Option<OwnedFd>,
    private: Option<Private>,
    cgroup: Option<Group>,
    notices: Option<Box<Notices>>,
    lock: File,
}

fn unable(what: &str) -> impl FnOnce(std::io::Error) -> FromShim + '_ {
    move |error| FromShim::Unable { why: format!("{what}: {error}") }
}

/// Takes the slot. Errors: another shim holds it; whoever gave the order is gone.
fn take(dir: Option<OwnedFd>, channel: &OwnedFd) -> Result<File, FromShim> {
    let dir = dir.ok_or_else(|| FromShim::Unable { why: "the order names no directory".into() })?;
    rustix::process::fchdir(&dir).map_err(|errno| unable("the slot's directory")(errno.into()))?;
    let lock = create_private(Path::new(LOCK)).map_err(unable("the slot's lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        rustix::io::Errno::WOULDBLOCK => FromShim::Busy,
        errno => unable("the slot's lock")(errno.into()),
    })?;
    if is_void(channel) {
        return Err(FromShim::Unable { why: "whoever gave the order is gone".into() });
    }
    failpoint::reach("after_lock");
    Ok(lock)
}

/// The record and the log of the slot, for an attempt that it has not seen; and what is on record.
fn open(order: &Supervise) -> Result<(File, Writer, Option<Record>), FromShim> {
    let mut record = create_private(Path::new(record::FILE)).map_err(unable("the slot's record"))?;
    let mut block = Vec::new();
    record.read_to_end(&mut block).map_err(unable("the slot's record"))?;
    let before = Record::parse(&block);
    if let Some(seen) = &before
        && seen.attempt >= order.attempt
    {
        return Err(FromShim::Superseded { attempt: seen.attempt });
    }
    let rotated = || failpoint::reach("log_rotation");
    let mut log = Writer::open(Path::new(log::DIR), order.log_max_size, order.log_max_files, rotated);
    if let Some(trouble) = log.trouble() {
        return Err(FromShim::Unable { why: format!("the slot's log: {trouble}") });
    }
    log.owe(before.as_ref().map_or(0, |record| record.dropped));
    if order.stdio == Stdio::Terminal {
        log.expect_terminal();
    }
    Ok((record, log, before))
}

/// Puts on record that an attempt was not begun: where that was for a want of ours, by what was there
/// before, as if it had not been ordered. Should this be killed before, it is lost, as any other.
fn take_back(
    file: &File,
    (record, before): (Record, Option<Record>),
    (stage, errno): child::Failure,
) -> FromShim {
    let done = match before {
        Some(before) if stage.is_want(errno) => before.write(file),
        None if stage.is_want(errno) => file.set_len(0),
        _ => Record { end: Some((End::NotExecuted(stage, errno), wall_ns())), ..record }.write(file),
    };
    if let Err(error) = done {
        return unable("the slot's record")(error);
    }
    let _ = std::fs::remove_file(SOCKET);
    FromShim::StartFailed { stage, errno }
}

/// From the lock to the process. What the order holds of secrets is forgotten with it.
fn begin(mut spec: Spec, dir: Option<OwnedFd>, channel: &OwnedFd) -> Result<Begun, FromShim> {
    let Order::Supervise(order) = &spec.order else {
        return Err(FromShim::Unable { why: "not an order to supervise".into() });
    };
    failpoint::set_daemon(order.daemon);
    let lock = take(dir, channel)?;
    let (record_file, log, before) = open(order)?;
    let mut notices = order.notify.map(Notices::open).transpose().map_err(unable("the notify socket"))?;
    notices.iter().for_each(|notices| notices.invite(&mut spec.environment));
    let image = child::prepare(&spec);
    let user = image.as_ref().ok().and_then(Image::user);
    notices.iter_mut().for_each(|notices| notices.expect(user));
    let private = order.private.as_ref().map(|private| Private::make(private, user)).transpose();
    let private = private.map_err(|why| FromShim::Unable { why })?;
    let cgroup = order.cgroup.as_ref().map(Group::make).transpose();
    let cgroup = cgroup.map_err(|why| FromShim::Unable { why })?;
    let door = cgroup.as_ref().map(Group::door).transpose().map_err(|why| FromShim::Unable { why })?;
    let streams =
        Streams::new(order.stdio, user).map_err(|(stage, errno)| FromShim::StartFailed { stage, errno })?;
    let mut record = Record {
        attempt: order.attempt,
        boot_id: order.boot_id.clone(),
        log_start: log.next_sequence(),
        begun_ns: wall_ns(),
        outlets: streams.outlets,
        // Until it is said, it is owed by this one; and should this one be killed, by the next.
        dropped: log.owed(),
        main: None,
        end: None,
    };
    let listener = listen().map_err(unable("the slot's socket"))?;
    // From here on this attempt was there: nothing may fail any more without an end on record.
    if let Err(error) = record.write(&record_file) {
        let _ = std::fs::remove_file(SOCKET);
        return Err(unable("the slot's record")(error));
    }
    failpoint::reach("before_fork");
    match image.and_then(|image| child::spawn(&image, streams, door)) {
        Ok(child) => {
            failpoint::reach("after_exec");
            let started =
                FromShim::Started { pid: child.pid, at_ns: record.begun_ns, log_start: record.log_start };
            // Nobody there to hear it: then a later daemon will ask.
            let _ = send(channel.as_fd(), &started.encode());
            record.main = tree::begun(child.pid).map(|begun| (child.pid, begun));
            // Only a killed shim needs it, of a tree that may not be looked at.
            let _ = record.write(&record_file);
            notices.iter_mut().for_each(Notices::begin);
            let (listener, notices) = (Some(listener), notices.map(Box::new));
            let slot = Slot { record, record_file, log, listener, private, cgroup, notices, lock };
            Ok(Begun { slot, child })
        }
        Err(failure) => Err(take_back(&record_file, (record, before), failure)),
    }
}

/// Whether whoever gave the order is gone. Nothing else makes the channel readable: who gives an
/// order says nothing more before it is answered.
pub(crate) fn is_void(channel: &OwnedFd) -> bool {
    let mut byte = [0];
    matches!(rustix::net::recv(channel, &mut byte, RecvFlags::DONTWAIT | RecvFlags::PEEK), Ok((0, _)))
}

/// In the current directory, so that its path may be as long as it likes.
fn listen() -> std::io::Result<OwnedFd> {
    let _ = std::fs::remove_file(SOCKET);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(SOCKET)?)?;
    rustix::net::listen(&socket, DAEMONS_MAX as i32)?;
    Ok(socket)
}

/// What a process is doing while it is served.
struct Life {
    leader: Leader,
    /// The process group that was asked to stop last; before, that of the one that was started.
    group: i32,
    /// Standard output and error, until they end.
    outputs: [Option<OwnedFd>; 2],
    /// An end that is held open, and neither written to nor read from: of its input; of its terminal,
    /// when nobody else has it open.
    held: Option<OwnedFd>,
    daemons: Vec<OwnedFd>,
    end: Option<End>,
    /// How long it may take to stop, since it was asked to.
    grace: Grace,
    /// When it was first asked, on the boot clock.
    asked_at_ms: u64,
    /// When to look for newborn children again, and how long after the look before.
    newborn: Option<(u64, u64)>,
    /// Something of the tree may not be killed.
    refused: bool,
}

impl Slot {
    fn serve(mut self, child: Child, channel: OwnedFd) {
        let mut life = Life {
            leader: Leader::child(child.pid),
            group: child.pid,
            outputs: child.outputs,
            held: child.input,
            daemons: vec![channel],
            end: None,
            grace: Grace::default(),
            asked_at_ms: 0,
            newborn: None,
            refused: false,
        };
        let mut buffer = Vec::with_capacity(READ_MAX);
        while !self.look_after(&mut life) {
            self.wait(&mut life, &mut buffer);
        }
        self.finish(life, &mut buffer);
    }

    /// Sees who ended and who must; true when the whole tree is gone.
    fn look_after(&mut self, life: &mut Life) -> bool {
        if crate::zygote::take_terminate() {
            life.stop(libc::SIGTERM, TERMINATED_GRACE_MS);
        }
        let reaped = tree::reap();
        // Before it is seen who has ended: one of them may have said whose end it is that counts.
        self.hear_process(life, &reaped.ended);
        life.take_ends(&reaped.ended);
        life.ask_newborn();
        if reaped.empty {
            return true;
        }
        let over = life.is_over();
        let ended_by_itself = life.end.is_some() && life.grace.asked_by().is_none();
        if over || ended_by_itself {
            let refused = tree::kill_children();
            life.refused = refused.is_some();
            if let Some((pid, errno)) = refused {
                let _ = life.tell(&FromShim::Refused { pid, errno });
            }
        }
        false
    }

    /// Sleeps until something happens, and takes what has come.
    fn wait(&mut self, life: &mut Life, buffer: &mut Vec<u8>) {
        let killing = life.end.is_some() && life.grace.asked_by().is_none() || life.is_over();
        let timeout = match killing {
            true if life.refused => Some(KILL_REFUSED_AGAIN_MS),
            true => Some(KILL_AGAIN_MS),
            false => {
                let over = life.grace.deadline().map(|at| at.saturating_sub(awake_ms()));
                let newborn = life.newborn.map(|(at, _)| at.saturating_sub(boot_ms()));
                over.into_iter().chain(newborn).min().map(|pause| pause.max(1))
            }
        };
        let owes = self.log.owed() > 0;
        let notices = self.notices.as_deref();
        let others = [owes.then_some(SAY_DROPPED_MS), notices.and_then(Notices::pause_ms)];
        let timeout = timeout.into_iter().chain(others.into_iter().flatten()).min();
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(5 + life.daemons.len());
        let outputs = life.outputs.iter().flatten().count();
        fds.extend(life.outputs.iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.listener.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let listeners = fds.len() - outputs;
        fds.extend(life.daemons.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // Both are looked at in every turn anyway.
        fds.extend(notices.map(|notices| PollFd::new(notices.fd(), PollFlags::IN)));
        let leader = life.leader.handle().filter(|_| life.end.is_none());
        fds.extend(leader.map(|leader| PollFd::new(leader, PollFlags::IN)));
        wait_for(&mut fds, timeout);
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if owes && !ready.contains(&true) {
            self.log.flush();
        }
        let (output_ready, rest) = ready.split_at(outputs);
        let (listener_ready, daemon_ready) = rest.split_at(listeners);
        let mut output_ready = output_ready.iter();
        for index in 0..life.outputs.len() {
            if life.outputs[index].is_some() && output_ready.next() == Some(&true) {
                self.read(life, index, buffer);
            }
        }
        // Before a newcomer is added, or the numbers no longer fit.
        life.hear(daemon_ready);
        if listener_ready.first() == Some(&true) {
            self.welcome(life);
        }
    }

    /// Reads once; true when there may be more.
    fn read(&mut self, life: &mut Life, index: usize, buffer: &mut Vec<u8>) -> bool {
        let stream = if index == 0 { Stream::Stdout } else { Stream::Stderr };
        let Some(fd) = &life.outputs[index] else { return false };
        buffer.clear();
        match rustix::io::read(fd, rustix::buffer::spare_capacity(buffer)) {
            // Nobody has the terminal open any more. To close it would hang up on the process; and it may
            // be opened again.
            Err(rustix::io::Errno::IO) => {
                life.held = stdio::reopen(fd);
                if life.held.is_none() {
                    life.outputs[index] = None;
                }
                self.log.end(stream);
                false
            }
            Ok(0) => {
                life.outputs[index] = None;
                self.log.end(stream);
                false
            }
            Ok(_) => {
                self.log.take(stream, buffer);
                true
            }
            Err(rustix::io::Errno::INTR) => true,
            Err(_) => false,
        }
    }

    fn welcome(&mut self, life: &mut Life) {
        let Some(listener) = &self.listener else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(daemon) = rustix::net::accept_with(listener, flags) else { return };
        let own = rustix::process::geteuid();
        let known = crate::system::peer_user(daemon.as_fd())
            .is_ok_and(|peer| peer == own.as_raw() || rustix::process::Uid::from_raw(peer).is_root());
        if !known || life.daemons.len() >= DAEMONS_MAX {
            return;
        }
        let hello = FromShim::Hello {
            version: VERSION,
            attempt: self.record.attempt,
            pid: life.leader.pid(),
            at_ns: self.record.begun_ns,
            log_start: self.record.log_start,
        };
        let state = self.notices.as_ref().map(|notices| FromShim::Notified(notices.state().clone()));
        let hello = [Some(hello), state].into_iter().flatten();
        if hello.map(|message| send(daemon.as_fd(), &message.encode())).all(|sent| sent.is_ok()) {
            life.daemons.push(daemon);
        }
    }

    /// Takes what the process says of itself, and tells daemons what they should know.
    fn hear_process(&mut self, life: &mut Life, ended: &[(i32, End)]) {
        let Some(notices) = &mut self.notices else { return };
        if life.grace.asked_by().is_some() {
            notices.ask_to_stop();
        }
        let extended = notices.read(ended, |pid| life.follow(pid, ended));
        if let (Some(_), Some(until)) = (life.grace.asked_by(), extended) {
            life.grace.extend(awake_ms().saturating_add(until.saturating_sub(boot_ms())));
        }
        if let Some(state) = notices.news()
            && !life.tell(&FromShim::Notified(state))
        {
            notices.tell_again();
        }
    }

    /// The tree is gone: what it still had to say, its record, and the news.
    fn finish(mut self, mut life: Life, buffer: &mut Vec<u8>) {
        life.held = None;
        // Nobody is left to read them; and whoever hears of the end finds them gone.
        self.private = None;
        self.cgroup = None;
        for index in 0..life.outputs.len() {
            for _ in 0..LAST_READS_MAX {
                if !self.read(&mut life, index, buffer) {
                    break;
                }
            }
        }
        self.log.end(Stream::Stdout);
        self.log.end(Stream::Stderr);
        if let Some(state) = self.notices.as_mut().and_then(|notices| notices.last_news()) {
            life.tell(&FromShim::Notified(state));
        }
        // Nobody can say anything to it any more.
        self.notices = None;
        // Without it nothing is on record, and nothing said: whoever asks finds an unknown end.
        let Some(end) = life.last_end() else { return };
        let at_ns = wall_ns();
        failpoint::reach("before_exit_record");
        self.record.end = Some((end, at_ns));
        self.record.dropped = self.log.owed();
        // The block was written once already, so this needs no room on the disk. Where it fails all
        // the same, those who listen are told, and whoever comes later finds an unknown end.
        let _ = self.record.write(&self.record_file);
        failpoint::reach("after_exit_record");
        self.listener = None;
        let _ = std::fs::remove_file(SOCKET);
        // Nothing here touches the slot any more. Before the news, so that whoever hears it may start
        // the next attempt at once.
        drop(self.lock);
        life.tell(&FromShim::Exited { end, at_ns });
    }
}

impl Life {
    /// What daemons have to say; those that went are let go.
    fn hear(&mut self, ready: &[bool]) {
        let mut orders = Vec::new();
        let mut index = 0;
        self.daemons.retain(|daemon| {
            let is_ready = ready.get(index).copied().unwrap_or(false);
            index += 1;
            !is_ready || hear_one(daemon, &mut orders)
        });
        for order in orders {
            match order {
                ToShim::Stop { signal, grace_ms } => self.stop(signal, grace_ms),
                ToShim::Signal { signal } if self.end.is_none() => self.leader.signal(signal),
                ToShim::Signal { .. } => {}
            }
        }
    }

    /// Tells every daemon. One that does not listen now will look: false, if there is one.
    fn tell(&self, message: &FromShim) -> bool {
        let packet = message.encode();
        let told = |daemon: &OwnedFd| send(daemon.as_fd(), &packet) != Err(rustix::io::Errno::AGAIN);
        // Each of them, whoever else was not.
        self.daemons.iter().map(told).fold(true, |all, told| all & told)
    }

    /// Takes on another main process; whether it may be that.
    fn follow(&mut self, pid: i32, ended: &[(i32, End)]) -> bool {
        let Some(leader) = Leader::other(pid, ended).filter(|_| self.end.is_none()) else { return false };
        self.leader = leader;
        if let Some(signal) = self.grace.asked_by()
            && self.leader.group() != Some(self.group)
        {
            self.ask(signal);
        }
        true
    }

    /// Takes note of the end of the main process.
    fn take_ends(&mut self, ended: &[(i32, End)]) {
        let of_leader = ended.iter().find(|(pid, _)| *pid == self.leader.pid()).map(|(_, end)| *end);
        match (self.end, of_leader) {
            // Its parent has left it to this process after all.
            (Some(End::Unknown), Some(end)) => self.end = Some(end),
            (Some(_), _) => {}
            (None, _) => {
                self.end = of_leader.or_else(|| self.leader.end_elsewhere());
                if let (Some(_), Some(signal)) = (self.end, self.grace.asked_by()) {
                    // Its group was asked with it; who is outside, or was born since, is asked now.
                    tree::signal_unasked(self.group, signal);
                    self.newborn = Some((boot_ms() + NEWBORN_AGAIN_MS, NEWBORN_AGAIN_MS));
                }
            }
        }
    }

    /// How it ended, as far as it can be known now that the tree is gone.
    fn last_end(&self) -> Option<End> {
        match self.end {
            None | Some(End::Unknown) => self.leader.last_known().or(self.end),
            known => known,
        }
    }

    fn is_over(&self) -> bool {
        self.grace.is_over(awake_ms())
    }

    /// Sends the group of the main process a signal. One that is gone has no end only until it is looked
    /// for, in the next turn: then all are asked, as none was with it.
    fn ask(&mut self, signal: i32) {
        self.group = self.leader.group().unwrap_or(NO_GROUP);
        if self.group != NO_GROUP {
            tree::signal_group(self.group, signal);
        }
    }

    /// A child between `fork` and `exec` still has its parent's handlers: it looks as if it could hear,
    /// and what it hears is lost with them. So it is looked at again, when it is what it shall be.
    fn ask_newborn(&mut self) {
        let (Some(signal), Some((at, pause))) = (self.grace.asked_by(), self.newborn) else { return };
        let now = boot_ms();
        if at <= now {
            tree::signal_newborn(self.group, signal, self.asked_at_ms.saturating_sub(BIRTH_MS));
            self.newborn = Some((now + 2 * pause, 2 * pause));
        }
    }

    /// Asks it to stop.
    fn stop(&mut self, signal: i32, grace_ms: u64) {
        if self.end.is_some() && self.grace.asked_by().is_none() {
            // It ended by itself; what it left behind is being killed and gets no grace.
            return;
        }
        if self.grace.asked_by().is_none() {
            self.asked_at_ms = boot_ms();
        }
        // To be asked twice means to hurry to many programs: a daemon that only makes sure is not passed on.
        let is_news = self.grace.asked_by() != Some(signal) || signal == libc::SIGKILL;
        self.grace.ask(signal, grace_ms, awake_ms());
        if self.end.is_none() && is_news {
            self.ask(signal);
        }
    }
}

/// True while the other end is there.
fn hear_one(daemon: &OwnedFd, orders: &mut Vec<ToShim>) -> bool {
    let mut packet = [0; 64];
    match rustix::net::recv(daemon, &mut packet, RecvFlags::DONTWAIT) {
        Ok((0, _)) => false,
        Ok((length, _)) => match ToShim::decode(&packet[..length.min(packet.len())]) {
            // A later version says more than is known here.
            Ok(order) => {
                orders.extend(order);
                true
            }
            Err(_) => false,
        },
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => true,
        Err(_) => false,
    }
}

//! From an order to a process: fork, become, execute.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CString, c_char};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::failpoint;
use crate::notify::WATCHDOG_PID;
use crate::privileges;
use crate::spec::{Limit, Notify, Order, Spec, Supervise};
use crate::stdio::Streams;
use crate::user::{Identity, User, own_groups};
use crate::wire::Stage;

/// Without a `PATH` of its own, a program is looked for here.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// Who is allowed everything.
const ROOT: libc::uid_t = 0;

/// The kernel's last signal, on x86-64 and arm64.
const SIGNAL_MAX: libc::c_int = 64;

/// A process that runs, and what it prints.
pub(crate) struct Child {
    pub(crate) pid: i32,
    /// To be read without waiting.
    pub(crate) outputs: [Option<OwnedFd>; 2],
    /// To be held as long as it runs.
    pub(crate) input: Option<OwnedFd>,
}

/// How far it came, and what the system said.
pub(crate) type Failure = (Stage, i32);

/// Everything `exec` needs, allocated before the fork.
pub(crate) struct Image {
    programs: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
    identity: Identity,
    /// The groups this process is in by itself.
    own_groups: Vec<libc::gid_t>,
    limits: Vec<Limit>,
    /// As text, and whether it may not fail.
    oom_score: Option<(Vec<u8>, bool)>,
    /// A directory it must be able to read.
    private: Option<CString>,
    /// A variable with its own number, for it to fill in.
    watchdog_pid: Option<PidVariable>,
}

/// `WATCHDOG_PID=` and room for a number, filled up with zeros.
type PidVariable = Cell<[u8; WATCHDOG_PID.len() + 1 + PID_DIGITS + 1]>;

/// The digits of the highest number a process can have, and more.
const PID_DIGITS: usize = 10;

impl Image {
    /// The user it becomes, if another.
    pub(crate) fn user(&self) -> Option<User> {
        self.identity.user
    }
}

/// What the child makes of its descriptors.
struct Io {
    fds: [RawFd; 3],
    /// See [`Streams::own`].
    own: &'static [RawFd],
    is_terminal: bool,
    door: Option<RawFd>,
}

/// Starts a program. Ends when it is executed, or was not.
///
/// `door`: the file of a cgroup that it joins first.
pub(crate) fn spawn(image: &Image, streams: Streams, door: Option<File>) -> Result<Child, Failure> {
    let failed = |error: std::io::Error| (Stage::Fork, error.raw_os_error().unwrap_or(libc::EIO));
    let Streams { theirs, outputs, input, is_terminal, own, .. } = streams;
    let (report_read, report_write) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let fds = theirs.each_ref().map(AsRawFd::as_raw_fd);
    let io = Io { fds, own, is_terminal, door: door.as_ref().map(AsRawFd::as_raw_fd) };
    let arguments = pointers(&image.arguments);
    let mut environment = pointers(&image.environment);
    if let Some(variable) = &image.watchdog_pid {
        environment.insert(0, variable.as_ptr().cast());
    }
    let parent = std::process::id() as i32;
    // SAFETY: this process has one thread, so the child may do what it likes.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(failed(std::io::Error::last_os_error()));
    }
    if pid == 0 {
        // SAFETY: in the child, which does nothing else and never returns.
        let (stage, errno) = unsafe { become_program(image, &arguments, &environment, &io, parent) };
        let mut report = [stage.number(), 0, 0, 0, 0];
        report[1..].copy_from_slice(&errno.to_le_bytes());
        let _ = rustix::io::write(&report_write, &report);
        // SAFETY: ends the child without touching what it shares with its parent.
        unsafe { libc::_exit(127) };
    }
    drop((theirs, report_write, door));
    failpoint::reach("after_fork");
    // The pipe closes by itself when the program is executed. Into room that is there already, as from
    // here on nothing may fail: the program may run. What is written at once is read at once.
    let mut report = [0; 5];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(&report_read, &mut report));
    let [stage, errno @ ..] = report;
    if let (Ok(5), Some(stage)) = (read, Stage::from_number(stage)) {
        // SAFETY: reaps the child that was just made.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        return Err((stage, i32::from_le_bytes(errno)));
    }
    Ok(Child { pid, outputs, input })
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Everything that can be found out before the fork. Errors: a text no program can be given; a user
/// or group that is not there.
pub(crate) fn prepare(spec: &Spec) -> Result<Image, Failure> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| (Stage::Execute, libc::EINVAL));
    let list = |items: &[Vec<u8>]| items.iter().map(|item| text(item)).collect::<Result<Vec<_>, _>>();
    let program = &spec.command[0];
    let programs = match program.contains(&b'/') {
        true => vec![text(program)?],
        false => {
            let path = spec.environment.iter().find_map(|entry| entry.strip_prefix(b"PATH="));
            let dirs = path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':');
            let at = |dir: &[u8]| match dir.is_empty() {
                true => [b"./", &program[..]].concat(),
                false => [dir, b"/", program].concat(),
            };
            dirs.map(|dir| text(&at(dir))).collect::<Result<_, _>>()?
        }
    };
    Ok(Image {
        programs,
        arguments: list(&spec.command)?,
        environment: list(&spec.environment)?,
        directory: text(&spec.working_dir)?,
        identity: Identity::find(&spec.user, &spec.groups)?,
        own_groups: own_groups(),
        limits: spec.limits.clone(),
        oom_score: oom_score(spec),
        private: match &spec.order {
            Order::Supervise(Supervise { private: Some(private), .. }) => Some(text(&private.dir)?),
            _ => None,
        },
        watchdog_pid: match &spec.order {
            Order::Supervise(Supervise { notify: Some(Notify { watchdog_ms: Some(_), .. }), .. }) => {
                let mut variable = [0; _];
                let name = [WATCHDOG_PID.as_bytes(), b"="].concat();
                variable[..name.len()].copy_from_slice(&name);
                Some(Cell::new(variable))
            }
            _ => None,
        },
    })
}

/// In the child: writes its own number into what is to become a variable of its own. Allocates nothing.
fn fill_in(variable: &PidVariable) {
    let mut text = variable.get();
    let mut number = std::process::id();
    let mut digits = [0; PID_DIGITS];
    let mut count = 0;
    while number > 0 && count < PID_DIGITS {
        digits[count] = b'0' + (number % 10) as u8;
        number /= 10;
        count += 1;
    }
    let place = WATCHDOG_PID.len() + 1;
    for (to, digit) in text[place..].iter_mut().zip(digits[..count].iter().rev()) {
        *to = *digit;
    }
    variable.set(text);
}

fn oom_score(spec: &Spec) -> Option<(Vec<u8>, bool)> {
    if let Some(score) = spec.oom_score_adj {
        return Some((score.to_string().into_bytes(), true));
    }
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    let is_protected = own.trim().parse::<i32>().is_ok_and(|score| score < 0);
    is_protected.then(|| (b"0".to_vec(), false))
}

pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// In the child: says how soon the kernel kills it when memory is out.
///
/// # Safety
/// Only between `fork` and `_exit`.
unsafe fn set_oom_score(image: &Image) -> Result<(), Failure> {
    let Some((text, is_required)) = &image.oom_score else { return Ok(()) };
    // SAFETY: plain system calls on memory that was prepared before the fork.
    unsafe {
        let flags = libc::O_WRONLY | libc::O_CLOEXEC;
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), flags);
        let done = file >= 0 && libc::write(file, text.as_ptr().cast(), text.len()) >= 0;
        let failure = (Stage::OomScore, errno());
        if file >= 0 {
            libc::close(file);
        }
        if done || !is_required { Ok(()) } else { Err(failure) }
    }
}

/// In the child: takes on its limits.
///
/// # Safety
/// Only between `fork` and `_exit`.
unsafe fn set_limits(image: &Image) -> Result<(), Failure> {
    // -1 is `RLIM_INFINITY`, as it is in the project file.
    for Limit { number, soft, hard } in &image.limits {
        let limit = libc::rlimit { rlim_cur: *soft as libc::rlim_t, rlim_max: *hard as libc::rlim_t };
        // SAFETY: reads one structure, which is ours. The kernel refuses a number it does not know.
        if unsafe { libc::setrlimit(libc::__rlimit_resource_t::from(*number), &limit) } < 0 {
            return Err((Stage::Limit(*number), errno()));
        }
    }
    Ok(())
}

/// In the child: becomes its user, in its groups; and for good, with no more rights than that one, where
/// that is not root.
///
/// # Safety
/// Only between `fork` and `_exit`.
unsafe fn become_user(image: &Image, own: &[RawFd]) -> Result<(), Failure> {
    let Identity { user, groups: Some(groups), added } = &image.identity else { return Ok(()) };
    // SAFETY: plain system calls on memory that was prepared before the fork.
    unsafe {
        if let Some(user) = user {
            // So that it can open `/dev/stdout` and `/dev/stderr`. Where it may not, it lives without.
            for fd in own {
                libc::fchown(*fd, user.uid, user.gid);
            }
        }
        let mut done = libc::setgroups(groups.len(), groups.as_ptr()) == 0;
        let mut refused = errno();
        // Who may not choose groups has the daemon's, which may be all that is asked for.
        let missing = added.iter().position(|gid| !image.own_groups.contains(gid) && *gid != libc::getegid());
        if let (false, Some(place)) = (done, missing) {
            return Err((Stage::Group(u8::try_from(place).unwrap_or(u8::MAX)), refused));
        }
        let Some(user) = user else { return Ok(()) };
        let remains = |errno| (Stage::Privileges, errno);
        let is_ordinary = user.uid != ROOT;
        if is_ordinary {
            // Before the user, who has no say in this any more.
            privileges::empty_bounding_set().map_err(remains)?;
        }
        if done {
            done = libc::setgid(user.gid) == 0 && libc::setuid(user.uid) == 0;
            refused = errno();
        }
        if !done && !is_user(*user) {
            return Err((Stage::User, refused));
        }
        if is_ordinary {
            privileges::give_up().map_err(remains)?;
        }
        if is_user(*user) { Ok(()) } else { Err(remains(libc::EPERM)) }
    }
}

/// In the child: it is this user in every respect, and has no way back.
///
/// # Safety
/// Only between `fork` and `_exit`.
unsafe fn is_user(user: User) -> bool {
    let (mut uids, mut gids) = ([0; 3], [0; 3]);
    // SAFETY: the kernel writes three numbers each, which are ours.
    unsafe {
        let [real, effective, saved] = &mut uids;
        let by_user = libc::getresuid(real, effective, saved) == 0;
        let [real, effective, saved] = &mut gids;
        let by_group = libc::getresgid(real, effective, saved) == 0;
        by_user && by_group && uids == [user.uid; 3] && gids == [user.gid; 3]
    }
}

/// In the child: becomes the program, or says how far it came.
///
/// # Safety
/// Only between `fork` and `_exit`. The pointers end with a null pointer and point into `image`.
unsafe fn become_program(
    image: &Image,
    arguments: &[*const c_char],
    environment: &[*const c_char],
    io: &Io,
    parent: i32,
) -> Failure {
    // SAFETY: plain system calls on memory that was prepared before the fork.
    unsafe {
        libc::setsid();
        // First of all, so that what follows counts there too. 0 is who writes it.
        if io.door.is_some_and(|door| libc::write(door, c"0".as_ptr().cast(), 1) < 0) {
            return (Stage::Cgroup, errno());
        }
        for (to, from) in io.fds.iter().enumerate() {
            if libc::dup2(*from, to as i32) < 0 {
                return (Stage::Fork, errno());
            }
        }
        if io.is_terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
            return (Stage::Terminal, errno());
        }
        // Before the change of user: it may be that only the daemon has the right to. The score first,
        // as it takes a descriptor, of which there may be none any more by the limits.
        if let Err(failure) =
            set_oom_score(image).and_then(|()| set_limits(image)).and_then(|()| become_user(image, io.own))
        {
            return failure;
        }
        // After the change of user, which clears it. Should the shim be dead by now, so are we.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != parent {
            libc::_exit(127);
        }
        // Should a directory above not let it through, it is told, rather than left to find out.
        if let Some(private) = &image.private
            && libc::access(private.as_ptr(), libc::R_OK | libc::X_OK) < 0
        {
            return (Stage::Private, errno());
        }
        if libc::chdir(image.directory.as_ptr()) < 0 {
            return (Stage::Directory, errno());
        }
        // By the system call itself: the C library refuses to touch the two signals it uses between
        // threads, and a program that is given those ignored hangs when it changes its user.
        let default = [0u64; 4];
        for signal in 1..=SIGNAL_MAX {
            let none = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, size_of::<u64>());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::umask(0o022);
        image.watchdog_pid.iter().for_each(fill_in);
        execute(image, arguments, environment)
    }
}

/// In the child: becomes the program, or says why not.
///
/// # Safety
/// As [`become_program`].
unsafe fn execute(image: &Image, arguments: &[*const c_char], environment: &[*const c_char]) -> Failure {
    let mut found = libc::ENOENT;
    for program in &image.programs {
        // SAFETY: what was prepared before the fork; each list ends with a null pointer.
        unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            other => found = other,
        }
        if !matches!(found, libc::ENOENT | libc::EACCES) {
            break;
        }
    }
    // The kernel lets a user have one process too many, and refuses what that executes. Where it has its
    // own limits, the lack may be its own.
    let is_ours = matches!(found, libc::EAGAIN | libc::ENOMEM) && image.limits.is_empty();
    (if is_ours { Stage::Fork } else { Stage::Execute }, found)
}

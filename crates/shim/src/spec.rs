//! An order: what to run, where, for whom. It travels in a memory file, so its secrets touch no
//! disk.
//!
//! Whoever writes an order and whoever reads it are mostly one program. Where they are not, because
//! the program was replaced under a running daemon, an order of another layout is refused as such:
//! one that was half understood could run a service without its limits.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::wire::{Decoder, Encoder, Garbled};

/// No order is larger: the kernel's own bound on arguments and environment together is less.
pub const SPEC_MAX: u64 = 8 * 1024 * 1024;

/// The layout of an order: its first byte. To be counted up with each change.
const LAYOUT: u8 = 0x83;

/// What kind of order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Own a slot's process for its life.
    Supervise(Supervise),
    /// Run one command to its end.
    Exec {
        /// After which it is killed.
        timeout_ms: u64,
        /// What it leaves behind when it ends with status 0 is left alone. None: nothing is left.
        ///
        /// A file, by its absolute path, that says of whoever carries the mark of this command that it
        /// is to be killed with it. Removed when that is not so any more, before the end is told.
        leaves: Option<Vec<u8>>,
    },
    /// The same, of which nothing is left, and which reads from and prints into what came with the order:
    /// input, output, errors.
    Ask {
        /// After which it is killed.
        timeout_ms: u64,
    },
}

/// How to own a slot's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supervise {
    /// Which attempt.
    pub attempt: u64,
    /// Which boot of the machine.
    pub boot_id: String,
    /// A log segment is closed when it exceeds this.
    pub log_max_size: u64,
    /// So many segments are kept.
    pub log_max_files: u32,
    /// The daemon, for failpoints of tests.
    pub daemon: i32,
    /// What it reads from and prints into.
    pub stdio: Stdio,
    /// The files only it can read.
    pub private: Option<Private>,
    /// What limits it and its descendants together.
    pub cgroup: Option<Cgroup>,
    /// It can say of itself how it is.
    pub notify: Option<Notify>,
}

/// A socket by which a process can say how it is, as `sd_notify(3)` describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// It shall be heard of at least so often; at least 1.
    pub watchdog_ms: Option<u64>,
    /// For the first time it shall be heard of so long after it was executed, at least 1: where nobody
    /// waits for it to say that it is ready, that may never come. None: the watchdog begins with that.
    /// Of no use without the other.
    pub first_ms: Option<u64>,
}

/// A cgroup to be made and joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// The one it is made in. Absolute; there already.
    pub top: Vec<u8>,
    /// The names of those below it, down to the one that is joined.
    pub path: Vec<Vec<u8>>,
    /// What all of them lend, by the kernel's names.
    pub controllers: Vec<Vec<u8>>,
    /// What is written into which of its files.
    pub settings: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Files only one process can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    /// The directory they are made in, and that is removed at its end. Absolute.
    pub dir: Vec<u8>,
    /// What is in it.
    pub files: Vec<PrivateFile>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateFile {
    /// No path.
    pub name: Vec<u8>,
    /// Its rights, such as `0o400`.
    pub mode: u32,
    /// What is in it.
    pub content: Hidden,
}

/// Bytes that are not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub Vec<u8>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hidden({} bytes)", self.0.len())
    }
}

/// What a process reads from and prints into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdio {
    /// Nothing, and a pipe each for output and errors.
    #[default]
    Plain,
    /// The same, but its input never ends.
    OpenInput,
    /// A terminal of its own for all three.
    Terminal,
}

impl Supervise {
    fn encode(&self, to: &mut Encoder) {
        let Self { attempt, boot_id, log_max_size, log_max_files, daemon, stdio, private, cgroup, notify } =
            self;
        to.u64(*attempt).bytes(boot_id.as_bytes());
        to.u64(*log_max_size).u64(u64::from(*log_max_files)).i32(*daemon).u8(*stdio as u8);
        to.u8(u8::from(private.is_some()));
        if let Some(Private { dir, files }) = private {
            to.bytes(dir).u64(files.len() as u64);
            for PrivateFile { name, mode, content } in files {
                to.bytes(name).u64(u64::from(*mode)).bytes(&content.0);
            }
        }
        to.u8(u8::from(cgroup.is_some()));
        if let Some(Cgroup { top, path, controllers, settings }) = cgroup {
            to.bytes(top);
            for list in [path, controllers] {
                put_list(to, list);
            }
            put_list(to, settings.iter().flat_map(|(file, value)| [file, value]));
        }
        to.u8(u8::from(notify.is_some()));
        if let Some(Notify { watchdog_ms, first_ms }) = notify {
            to.u64(watchdog_ms.unwrap_or_default()).u64(first_ms.unwrap_or_default());
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Garbled> {
        Ok(Self {
            attempt: from.u64()?,
            boot_id: String::from_utf8_lossy(from.bytes()?).into_owned(),
            log_max_size: from.u64()?,
            log_max_files: u32::try_from(from.u64()?).map_err(|_| Garbled)?,
            daemon: from.i32()?,
            stdio: match from.u8()? {
                0 => Stdio::Plain,
                1 => Stdio::OpenInput,
                2 => Stdio::Terminal,
                _ => return Err(Garbled),
            },
            private: match from.u8()? {
                0 => None,
                _ => Some(Private::decode(from)?),
            },
            cgroup: match from.u8()? {
                0 => None,
                _ => Some(Cgroup::decode(from)?),
            },
            notify: match from.u8()? {
                0 => None,
                _ => {
                    let [watchdog_ms, first_ms] =
                        [from.u64()?, from.u64()?].map(|ms| Some(ms).filter(|ms| *ms > 0));
                    Some(Notify { watchdog_ms, first_ms })
                }
            },
        })
    }
}

impl Cgroup {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, Garbled> {
        let (top, path, controllers) = (from.bytes()?.to_vec(), take_list(from)?, take_list(from)?);
        let settings = take_list(from)?;
        let (pairs, rest) = settings.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Garbled);
        }
        let settings = pairs.iter().map(|[file, value]| (file.clone(), value.clone())).collect();
        Ok(Self { top, path, controllers, settings })
    }
}

fn put_list<'a>(to: &mut Encoder, list: impl IntoIterator<Item = &'a Vec<u8>>) {
    let list: Vec<_> = list.into_iter().collect();
    to.u64(list.len() as u64);
    for item in list {
        to.bytes(item);
    }
}

fn take_list(from: &mut Decoder<'_>) -> Result<Vec<Vec<u8>>, Garbled> {
    let count = from.u64()?;
    (0..count).map(|_| Ok(from.bytes()?.to_vec())).collect()
}

impl Private {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, Garbled> {
        let (dir, count) = (from.bytes()?.to_vec(), from.u64()?);
        let mut file = || {
            Ok(PrivateFile {
                name: from.bytes()?.to_vec(),
                mode: u32::try_from(from.u64()?).map_err(|_| Garbled)?,
                content: Hidden(from.bytes()?.to_vec()),
            })
        };
        Ok(Self { dir, files: (0..count).map(|_| file()).collect::<Result<_, _>>()? })
    }
}

/// A limit of the kernel for each process; -1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The kernel's number of it, 0 to 15.
    pub number: u8,
    /// In force.
    pub soft: i64,
    /// How far the process may raise it by itself.
    pub hard: i64,
}

/// An order and the program it is about.
#[derive(Clone, PartialEq, Eq)]
pub struct Spec {
    /// What to do.
    pub order: Order,
    /// Program and arguments.
    pub command: Vec<Vec<u8>>,
    /// `NAME=value`.
    pub environment: Vec<Vec<u8>>,
    /// Absolute.
    pub working_dir: Vec<u8>,
    /// `name`, `uid`, either with `:group`; empty: as the daemon.
    pub user: Vec<u8>,
    /// Names or numbers of groups it is in besides.
    pub groups: Vec<Vec<u8>>,
    /// Each at most once.
    pub limits: Vec<Limit>,
    /// From -1000 (never) to 1000 (first): whom the kernel kills when memory is out. Without it as
    /// the daemon, but not below 0: what protects the daemon is not for all that it runs.
    pub oom_score_adj: Option<i32>,
}

/// Variables and arguments may be secrets.
impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let program = self.command.first().map(|program| String::from_utf8_lossy(program));
        f.debug_struct("Spec").field("program", &program.unwrap_or_default()).finish_non_exhaustive()
    }
}

impl Spec {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Encoder::default();
        to.u8(LAYOUT);
        match &self.order {
            Order::Supervise(supervise) => {
                to.u8(1);
                supervise.encode(&mut to);
            }
            Order::Exec { timeout_ms, leaves } => {
                to.u8(2).u64(*timeout_ms).bytes(leaves.as_deref().unwrap_or_default());
            }
            // Came later, and leaves the others as they are: they are of the same layout.
            Order::Ask { timeout_ms } => {
                to.u8(3).u64(*timeout_ms);
            }
        }
        for list in [&self.command, &self.environment, &self.groups] {
            put_list(&mut to, list);
        }
        to.bytes(&self.working_dir).bytes(&self.user);
        to.u64(self.limits.len() as u64);
        for Limit { number, soft, hard } in &self.limits {
            to.u8(*number).u64(*soft as u64).u64(*hard as u64);
        }
        to.u8(u8::from(self.oom_score_adj.is_some())).i32(self.oom_score_adj.unwrap_or_default());
        to.0
    }

    /// From bytes. Errors: it is none, or of another layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Garbled> {
        let mut from = Decoder(bytes);
        if from.u8()? != LAYOUT {
            return Err(Garbled);
        }
        let order = match from.u8()? {
            1 => Order::Supervise(Supervise::decode(&mut from)?),
            2 => Order::Exec {
                timeout_ms: from.u64()?,
                leaves: Some(from.bytes()?.to_vec()).filter(|path| !path.is_empty()),
            },
            3 => Order::Ask { timeout_ms: from.u64()? },
            _ => return Err(Garbled),
        };
        let [command, environment, groups] =
            [take_list(&mut from)?, take_list(&mut from)?, take_list(&mut from)?];
        let (working_dir, user) = (from.bytes()?.to_vec(), from.bytes()?.to_vec());
        let count = from.u64()?;
        let mut limit =
            || Ok(Limit { number: from.u8()?, soft: from.u64()? as i64, hard: from.u64()? as i64 });
        let limits = (0..count).map(|_| limit()).collect::<Result<_, _>>()?;
        let has_score = from.u8()? == 1;
        let oom_score_adj = Some(from.i32()?).filter(|_| has_score);
        from.finish()?;
        if command.is_empty() {
            return Err(Garbled);
        }
        Ok(Self { order, command, environment, working_dir, user, groups, limits, oom_score_adj })
    }

    /// From the memory file the daemon sent. Errors: it cannot be read, or makes no sense.
    pub fn read(mut file: File) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.take(SPEC_MAX).read_to_end(&mut bytes)?;
        Self::decode(&bytes).map_err(|garbled| match bytes.first() {
            Some(&LAYOUT) | None => std::io::Error::other(garbled),
            Some(_) => std::io::Error::other(
                "the order is of another version of Upbeat than the program on the disk; restart its daemon",
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_back_and_a_torn_one_is_refused() {
        let hidden = Hidden(b"hush".to_vec());
        assert!(!format!("{hidden:?}").contains("hush"));
        let spec = Spec {
            order: Order::Supervise(Supervise {
                attempt: 3,
                boot_id: "b".into(),
                log_max_size: 1,
                log_max_files: 2,
                daemon: 7,
                stdio: Stdio::Terminal,
                private: Some(Private {
                    dir: b"/run/x".to_vec(),
                    files: vec![PrivateFile { name: b"k".to_vec(), mode: 0o400, content: hidden }],
                }),
                cgroup: Some(Cgroup {
                    top: b"/sys/fs/cgroup".to_vec(),
                    path: vec![b"upbeat".to_vec(), b"a".to_vec()],
                    controllers: vec![],
                    settings: vec![(b"pids.max".to_vec(), b"7".to_vec())],
                }),
                notify: Some(Notify { watchdog_ms: Some(30_000), first_ms: Some(90_000) }),
            }),
            command: vec![b"sh".to_vec(), b"".to_vec()],
            environment: vec![b"A=hush".to_vec()],
            working_dir: b"/".to_vec(),
            user: vec![],
            groups: vec![b"audio".to_vec()],
            limits: vec![Limit { number: 7, soft: 1024, hard: -1 }],
            oom_score_adj: Some(-500),
        };
        assert!(!format!("{spec:?}").contains("hush"), "{spec:?}");
        let bytes = spec.encode();
        assert_eq!(Spec::decode(&bytes), Ok(spec.clone()));
        for order in [Order::Exec { timeout_ms: 7, leaves: None }, Order::Ask { timeout_ms: 7 }] {
            let spec = Spec { order, ..spec.clone() };
            assert_eq!(Spec::decode(&spec.encode()), Ok(spec));
        }
        for end in 0..bytes.len() {
            assert_eq!(Spec::decode(&bytes[..end]), Err(Garbled));
        }
        let other = [&[LAYOUT + 1], &bytes[1..]].concat();
        assert_eq!(Spec::decode(&other), Err(Garbled));
        let file = File::from(rustix::fs::memfd_create("order", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        std::io::Write::write_all(&mut &file, &other).unwrap();
        assert!(Spec::read(file).unwrap_err().to_string().contains("another version"));
    }
}

//! An order: what to run, where, for whom. It travels in a memory file, so its secrets touch no
//! disk.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::wire::{Decoder, Encoder, Garbled};

/// No order is larger: the kernel's own bound on arguments and environment together is less.
pub const SPEC_MAX: u64 = 8 * 1024 * 1024;

/// What kind of order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Own a slot's process for its life.
    Supervise {
        /// Which attempt.
        attempt: u64,
        /// Which boot of the machine.
        boot_id: String,
        /// A log segment is closed when it exceeds this.
        log_max_size: u64,
        /// So many segments are kept.
        log_max_files: u32,
        /// The daemon, for failpoints of tests.
        daemon: i32,
    },
    /// Run one command to its end.
    Exec {
        /// After which it is killed.
        timeout_ms: u64,
    },
}

/// An order and the program it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

impl Spec {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Encoder::default();
        match &self.order {
            Order::Supervise { attempt, boot_id, log_max_size, log_max_files, daemon } => {
                to.u8(1).u64(*attempt).bytes(boot_id.as_bytes());
                to.u64(*log_max_size).u64(u64::from(*log_max_files)).i32(*daemon);
            }
            Order::Exec { timeout_ms } => {
                to.u8(2).u64(*timeout_ms);
            }
        }
        for list in [&self.command, &self.environment] {
            to.u64(list.len() as u64);
            for item in list {
                to.bytes(item);
            }
        }
        to.bytes(&self.working_dir).bytes(&self.user);
        to.0
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Garbled> {
        let mut from = Decoder(bytes);
        let order = match from.u8()? {
            1 => Order::Supervise {
                attempt: from.u64()?,
                boot_id: String::from_utf8_lossy(from.bytes()?).into_owned(),
                log_max_size: from.u64()?,
                log_max_files: u32::try_from(from.u64()?).map_err(|_| Garbled)?,
                daemon: from.i32()?,
            },
            2 => Order::Exec { timeout_ms: from.u64()? },
            _ => return Err(Garbled),
        };
        let mut list = || -> Result<Vec<Vec<u8>>, Garbled> {
            let count = from.u64()?;
            (0..count).map(|_| Ok(from.bytes()?.to_vec())).collect()
        };
        let (command, environment) = (list()?, list()?);
        let (working_dir, user) = (from.bytes()?.to_vec(), from.bytes()?.to_vec());
        from.finish()?;
        if command.is_empty() {
            return Err(Garbled);
        }
        Ok(Self { order, command, environment, working_dir, user })
    }

    /// From the memory file the daemon sent.
    pub fn read(mut file: File) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.take(SPEC_MAX).read_to_end(&mut bytes)?;
        Self::decode(&bytes).map_err(std::io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_back_and_a_torn_one_is_refused() {
        let spec = Spec {
            order: Order::Supervise {
                attempt: 3,
                boot_id: "b".into(),
                log_max_size: 1,
                log_max_files: 2,
                daemon: 7,
            },
            command: vec![b"sh".to_vec(), b"".to_vec()],
            environment: vec![b"A=b".to_vec()],
            working_dir: b"/".to_vec(),
            user: vec![],
        };
        let bytes = spec.encode();
        assert_eq!(Spec::decode(&bytes), Ok(spec));
        for end in 0..bytes.len() {
            assert_eq!(Spec::decode(&bytes[..end]), Err(Garbled));
        }
    }
}

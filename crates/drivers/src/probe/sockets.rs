//! Sockets that take a connection or answer a datagram.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use upbeat_model::project::Udp;

use super::{Answered, Asked, Inner, address, words};

/// The largest datagram there is.
const DATAGRAM_MAX: usize = 64 * 1024;

/// A socket in the file system whose queue is full cannot be waited for: it is tried again so often.
const TRY_AGAIN: Duration = Duration::from_millis(20);

impl Inner {
    pub(super) async fn tcp(&self, asked: &Asked<'_>, at: &str) -> Answered {
        let (host, port) = address::parsed(at)?;
        let addresses = self.names.addresses(host, port).await?;
        address::connect(&addresses, asked.timeout.as_duration()).await?;
        Ok("connection accepted".into())
    }

    pub(super) async fn udp(&self, udp: &Udp) -> Answered {
        let (host, port) = address::parsed(&udp.address)?;
        let expected = udp.expect.as_deref().map(|expect| self.patterns.get(expect)).transpose()?;
        let mut first = None;
        for at in self.names.addresses(host, port).await? {
            let answer = match say(at, udp.send.as_bytes()).await {
                Ok(answer) => answer,
                // That nobody takes it is told by the other machine, if at all.
                Err(error) => {
                    first.get_or_insert(error);
                    continue;
                }
            };
            return match expected {
                None => Ok("it answers".into()),
                Some(expected) if expected.is_match(&String::from_utf8_lossy(&answer)) => {
                    Ok("its answer matches".into())
                }
                Some(_) => Err("its answer does not match".into()),
            };
        }
        Err(match first {
            Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "nobody takes datagrams there".into()
            }
            Some(error) => words::error(&error),
            None => "no address".into(),
        })
    }

    pub(super) async fn unix(&self, path: &str) -> Answered {
        loop {
            let at = PathBuf::from(path);
            let path = path.to_owned();
            let seen = self.sockets.at(at, move || knock(&path)).await;
            match seen.unwrap_or(Err(Errno::CANCELED)) {
                Ok(()) => return Ok("connection accepted".into()),
                Err(Errno::AGAIN) => tokio::time::sleep(TRY_AGAIN).await,
                Err(Errno::NOTSOCK) => return Err("it is no socket".into()),
                Err(Errno::NAMETOOLONG) => {
                    return Err("its path is longer than that of a socket can be".into());
                }
                Err(errno) => return Err(words::error(&errno.into())),
            }
        }
    }
}

/// The first answer to a datagram.
async fn say(at: std::net::SocketAddr, what: &[u8]) -> io::Result<Vec<u8>> {
    let socket = address::datagrams(at).await?;
    socket.send(what).await?;
    let mut answer = Vec::with_capacity(DATAGRAM_MAX);
    socket.recv_buf(&mut answer).await?;
    Ok(answer)
}

/// Connects to a socket of whatever kind. Never waits for whoever listens, but may for the disk.
fn knock(path: &str) -> Result<(), Errno> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut last = Err(Errno::PROTOTYPE);
    for kind in [SocketType::STREAM, SocketType::SEQPACKET, SocketType::DGRAM] {
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
        last = connect(&socket, &address);
        if last != Err(Errno::PROTOTYPE) {
            break;
        }
    }
    // The system says of a file that is no socket that nobody listens there.
    match last {
        Err(Errno::CONNREFUSED) if !is_socket(path) => Err(Errno::NOTSOCK),
        last => last,
    }
}

fn is_socket(path: &str) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|there| there.file_type().is_socket())
}

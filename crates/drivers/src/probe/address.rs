//! Where an address leads: names are looked up each time, and each address is tried in turn.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};

use super::words::{self, No};
use crate::looks::Looks;

/// Of the addresses of a name so many are tried: a probe is no search.
const ADDRESSES_MAX: usize = 8;

/// Looks up names.
pub(crate) struct Names {
    looks: Looks<String, Result<Vec<IpAddr>, No>>,
}

/// `host:port` as a person writes it, an IPv6 address in brackets.
pub(crate) fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port))
}

/// The same, or why it is none.
pub(crate) fn parsed(address: &str) -> Result<(&str, u16), String> {
    split(address).ok_or_else(|| format!("`{address}` is not `host:port`"))
}

impl Names {
    pub(crate) fn new() -> Self {
        Self { looks: Looks::new() }
    }

    /// What a host and port stand for now; at least one, and at most [`ADDRESSES_MAX`].
    ///
    /// `localhost` is this machine whatever a name server says, as RFC 6761 asks.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, No> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Ok(loopback.map(|address| SocketAddr::new(address, port)).into());
        }
        let name = host.to_owned();
        let seen = self.looks.at(name.clone(), move || look_up(&name)).await;
        let seen = seen.unwrap_or_else(|| Err("the daemon ends".into()))?;
        Ok(seen.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }
}

fn look_up(name: &str) -> Result<Vec<IpAddr>, No> {
    let found = (name, 0).to_socket_addrs();
    let found: Vec<IpAddr> = match found {
        Ok(found) => found.map(|address| address.ip()).take(ADDRESSES_MAX).collect(),
        Err(error) if words::is_out_of_files(&error) => return Err(words::error(&error)),
        // Of all that the resolver says, only this is of use to a person.
        Err(_) => Vec::new(),
    };
    if found.is_empty() { Err(format!("there is no address for `{name}`").into()) } else { Ok(found) }
}

/// A connection to the first of these that accepts one. Each but the last has its share of `patience`,
/// so that one that does not answer leaves time for the next.
///
/// Errors, in words: what the first one said.
pub(crate) async fn connect(addresses: &[SocketAddr], patience: Duration) -> Result<TcpStream, No> {
    let share = patience / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut first = None;
    for (index, address) in addresses.iter().enumerate() {
        let opened = match index + 1 < addresses.len() {
            true => tokio::time::timeout(share, open(*address)).await,
            // Whoever asks has the rest, and says when it is over.
            false => Ok(open(*address).await),
        };
        match opened {
            Ok(Ok(stream)) => return Ok(stream),
            // It may be the one that would have answered.
            Ok(Err(error)) if words::is_out_of_files(&error) => return Err(words::error(&error)),
            Ok(Err(error)) => first.get_or_insert(error),
            Err(_) => first.get_or_insert(io::ErrorKind::TimedOut.into()),
        };
    }
    Err(first.map_or_else(|| "no address".into(), |error| words::error(&error)))
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    to_another(TcpStream::connect(address).await?)
}

/// A port that nobody listens on can be given to the very socket that asks for it, which then speaks
/// to itself.
fn to_another(stream: TcpStream) -> io::Result<TcpStream> {
    match stream.local_addr()? == stream.peer_addr()? {
        true => Err(io::ErrorKind::ConnectionRefused.into()),
        false => Ok(stream),
    }
}

/// A socket that sends to this address, and hears only from there.
pub(crate) async fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    connected(UdpSocket::bind((any, 0)).await?, address).await
}

async fn connected(socket: UdpSocket, address: SocketAddr) -> io::Result<UdpSocket> {
    socket.connect(address).await?;
    match socket.local_addr()? == address {
        true => Err(io::ErrorKind::ConnectionRefused.into()),
        false => Ok(socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, expected) in [
            ("a:1", Some(("a", 1))),
            ("[::1]:65535", Some(("::1", 65535))),
            ("a:0", None),
            (":1", None),
            ("a", None),
            ("a:x", None),
            ("[]:1", None),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn names_are_looked_up_and_a_name_of_nobody_is_said() {
        let names = Names::new();
        let of = async |host| names.addresses(host, 9).await;
        assert_eq!(of("127.0.0.9").await, Ok(vec!["127.0.0.9:9".parse().unwrap()]));
        assert_eq!(of("LocalHost").await.unwrap().len(), 2);
        // By RFC 6761 there never is one.
        let nobody = No::from("there is no address for `nobody.invalid`");
        assert_eq!(of("nobody.invalid").await, Err(nobody));
    }

    #[tokio::test]
    async fn a_socket_that_speaks_to_itself_has_reached_nobody() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let error = to_another(socket.connect(own).await.unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let own = socket.local_addr().unwrap();
        assert_eq!(connected(socket, own).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn the_second_address_is_tried_and_the_first_ones_words_are_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let nobody = SocketAddr::new("127.0.0.2".parse().unwrap(), there.port());
        assert!(connect(&[nobody, there], Duration::from_secs(60)).await.is_ok());
        let refused = connect(&[nobody], Duration::from_secs(60)).await;
        assert_eq!(refused.unwrap_err(), No::from("connection refused"));
    }
}

//! The doors: who may come in at each. How many at once, [`crate::admission`] decides.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

use axum::Router;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use upbeat_api::{Problem, ProblemKind, Refused, Role};

use crate::access::{Caller, Name};
use crate::admission::{Crowd, Peer, Rules, Standing};
use crate::backend::Backend;
use crate::bounds::{
    CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX, KEEP_ALIVE_AGAIN, KEEP_ALIVE_IDLE, KEEP_ALIVE_TIMES,
    RESERVED_CONNECTIONS, ROLLOUTS_CONNECTIONS_MAX, TCP_CONNECTIONS_MAX, TCP_CONNECTIONS_OF_HERE_MAX,
    TCP_CONNECTIONS_OF_ONE_MAX, UNTAKEN_MAX_MS,
};
use crate::handlers::Shared;
use crate::place::{Place, Places};
use crate::router::{rollouts_until, router_until};
use crate::socket::Name as SocketName;
use crate::tls::Tls;

/// Which groups the process at the other end was in when it connected, as the kernel says.
pub type GroupsOf = fn(BorrowedFd<'_>) -> io::Result<Vec<u32>>;

/// Whose members are operators.
#[derive(Clone, Copy)]
pub struct Group {
    /// Its id.
    pub gid: u32,
    /// How to find out.
    pub groups_of: GroupsOf,
}

/// The socket of this machine.
pub struct Unix {
    /// As [`crate::bind`] makes it.
    pub listener: UnixListener,
    /// Who besides the daemon's own user and root is let in.
    pub group: Option<Group>,
}

/// TCP.
pub struct Tcp {
    /// Bound.
    pub listener: TcpListener,
    /// With what connections are kept secret, and what proves who this is.
    pub tls: Option<Tls>,
    /// The names it is called by, besides its addresses and `localhost`.
    pub hosts: Vec<String>,
}

impl Tcp {
    /// These.
    pub(crate) fn names(&self) -> Arc<[String]> {
        self.hosts.iter().cloned().collect()
    }
}

/// TCP for programs that know of no token, as the first engine's do: rollouts alone, and for whoever runs on this
/// machine, each of whom is an operator there. Pages in their browsers are kept out as at every door.
pub struct OpenRollouts {
    listener: TcpListener,
}

/// Why rollouts are not open there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Others than this machine's users could come in, and nobody would be asked who they are.
    #[error(
        "rollouts are not served without tokens on `{0}`, which is no loopback address: use `127.0.0.1` or `::1`; \
         from elsewhere they can be asked with a token, where the API listens"
    )]
    NotLoopback(SocketAddr),
    /// The system refused.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl OpenRollouts {
    /// Listens there. Errors: it is no loopback address, and nothing was begun; it is in use, or not ours.
    pub async fn bind(address: SocketAddr) -> Result<Self, OpenError> {
        if !is_here(address.ip()) {
            return Err(OpenError::NotLoopback(address));
        }
        let bound = TcpListener::bind(address).await;
        Ok(Self { listener: bound.map_err(|source| OpenError::Listen { address, source })? })
    }

    /// Where, with the port that was given for port 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn is_here(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// One who has knocked.
pub(crate) enum Knock {
    Unix(UnixStream),
    Tcp(TcpStream, SocketAddr),
}

/// One who is in.
pub(crate) struct Entered {
    /// Where that is known already.
    pub(crate) caller: Option<Caller>,
    pub(crate) place: Place,
}

/// One who is not.
pub(crate) struct Turned {
    pub(crate) problem: Problem,
    /// Where it is worth one: that it is full, is not. Boxed, since few have one.
    pub(crate) record: Option<Box<Refused>>,
}

enum Kind {
    Unix { listener: UnixListener, name: Option<SocketName>, own_uid: u32, group: Option<Group> },
    Tcp { listener: TcpListener, tls: Option<TlsAcceptor> },
    Rollouts { listener: TcpListener },
}

/// One door.
pub(crate) struct Door {
    kind: Kind,
    places: Places,
}

const UNIX_RULES: Rules = Rules {
    size: CONNECTIONS_MAX,
    reserved: RESERVED_CONNECTIONS,
    share: CONNECTIONS_OF_ONE_MAX,
    loopback_share: 0,
};

/// Nobody who comes over TCP is of the house.
const TCP_RULES: Rules = Rules {
    size: TCP_CONNECTIONS_MAX,
    reserved: 0,
    share: TCP_CONNECTIONS_OF_ONE_MAX,
    loopback_share: TCP_CONNECTIONS_OF_HERE_MAX,
};

/// All who come are of this machine.
const ROLLOUTS_RULES: Rules =
    Rules { size: ROLLOUTS_CONNECTIONS_MAX, reserved: 0, share: 0, loopback_share: ROLLOUTS_CONNECTIONS_MAX };

impl Door {
    pub(crate) fn unix(Unix { listener, group }: Unix) -> Self {
        let name = SocketName::of(&listener);
        let own_uid = rustix::process::geteuid().as_raw();
        Self::new(Kind::Unix { listener, name, own_uid, group }, UNIX_RULES)
    }

    pub(crate) fn tcp(Tcp { listener, tls, .. }: Tcp) -> Self {
        let tls = tls.map(|tls| TlsAcceptor::from(tls.0));
        Self::new(Kind::Tcp { listener, tls }, TCP_RULES)
    }

    pub(crate) fn rollouts(OpenRollouts { listener }: OpenRollouts) -> Self {
        Self::new(Kind::Rollouts { listener }, ROLLOUTS_RULES)
    }

    /// What can be asked at it.
    pub(crate) fn routes<B: Backend>(&self, here: Shared<B>) -> Router {
        match &self.kind {
            Kind::Unix { .. } | Kind::Tcp { .. } => router_until(here),
            Kind::Rollouts { .. } => rollouts_until(here),
        }
    }

    fn new(kind: Kind, rules: Rules) -> Self {
        Self { kind, places: Arc::new(Mutex::new(Crowd::new(rules))) }
    }

    pub(crate) fn tls(&self) -> Option<TlsAcceptor> {
        match &self.kind {
            Kind::Unix { .. } | Kind::Rollouts { .. } => None,
            Kind::Tcp { tls, .. } => tls.clone(),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Knock> {
        match &self.kind {
            Kind::Unix { listener, .. } => Ok(Knock::Unix(listener.accept().await?.0)),
            Kind::Tcp { listener, .. } | Kind::Rollouts { listener } => {
                let (stream, from) = listener.accept().await?;
                if let Err(error) = prepare(&stream) {
                    // The other end is gone already: reading will tell.
                    tracing::debug!(%error, %from, "a connection cannot be prepared");
                }
                Ok(Knock::Tcp(stream, from))
            }
        }
    }

    /// Whether there is a place for whoever it is. Another may lose theirs for it.
    pub(crate) fn enter(&self, knock: &Knock) -> Result<Entered, Turned> {
        let (caller, peer, standing) = match (&self.kind, knock) {
            (Kind::Unix { own_uid, group, .. }, Knock::Unix(stream)) => {
                let (caller, peer) = known(stream, *own_uid, group.as_ref())?;
                (Some(caller), peer, Standing::Idle)
            }
            (Kind::Rollouts { .. }, Knock::Tcp(_, from)) => {
                (Some(from_here(*from)?), Peer::Loopback, Standing::Idle)
            }
            (_, Knock::Tcp(_, from)) => (None, Peer::at(from.ip()), Standing::Unproven),
            // Never: who knocks at one door does not come in by the other.
            (Kind::Tcp { .. } | Kind::Rollouts { .. }, Knock::Unix(_)) => {
                let problem = Problem::new(ProblemKind::Forbidden, "it is not known who asks");
                return Err(Turned { problem, record: None });
            }
        };
        let place = Place::among(&self.places, peer, standing).map_err(|full| Turned {
            problem: Problem::new(ProblemKind::Unavailable, full.to_string())
                .with_hint("close some, and ask again"),
            record: None,
        })?;
        Ok(Entered { caller, place })
    }

    /// Nobody new comes in.
    pub(crate) fn close(self) {
        if let Kind::Unix { listener, name, .. } = self.kind {
            // While it still listens: so nobody can take its place meanwhile.
            if let Some(name) = name {
                name.remove();
            }
            drop(listener);
        }
    }
}

/// So that what was switched off, or does not read, is found out by the kernel.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE_AGAIN)?;
    sockopt::set_tcp_keepcnt(stream, KEEP_ALIVE_TIMES)?;
    sockopt::set_tcp_user_timeout(stream, UNTAKEN_MAX_MS)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

/// Who it is, where they may come in.
fn known(stream: &UnixStream, own_uid: u32, group: Option<&Group>) -> Result<(Caller, Peer), Turned> {
    let unknown = |error: io::Error| Turned {
        problem: Problem::new(ProblemKind::Forbidden, format!("it cannot be known who asks: {error}")),
        record: None,
    };
    let peer = stream.peer_cred().map_err(unknown)?;
    let uid = peer.uid();
    if is_admitted(uid, own_uid) {
        let caller = Caller { name: Name::Uid(uid), role: Role::Admin, from: None };
        return Ok((caller, Peer::House(uid)));
    }
    if let Some(Group { gid, groups_of }) = group
        && (peer.gid() == *gid || groups_of(stream.as_fd()).map_err(unknown)?.contains(gid))
    {
        let caller = Caller { name: Name::Uid(uid), role: Role::Operator, from: None };
        return Ok((caller, Peer::Guest(uid)));
    }
    let message = format!("uid {uid} may not speak to this daemon, which runs as uid {own_uid}");
    let hint = match group {
        None => "only its own user and root may; start a daemon of your own with `upbeat serve`",
        Some(_) => "only its own user, root and the members of `api.socket_group` may",
    };
    let record = Refused {
        who: format!("uid {uid}"),
        from: None,
        method: String::new(),
        path: String::new(),
        status: ProblemKind::Forbidden.status(),
        why: message.clone(),
        not_written: 0,
    };
    Err(Turned {
        problem: Problem::new(ProblemKind::Forbidden, message).with_hint(hint),
        record: Some(Box::new(record)),
    })
}

/// Whoever comes to the open listener. Packets from elsewhere get to a loopback address only where the machine
/// was told to route them there (`route_localnet`), which some container networks do.
fn from_here(from: SocketAddr) -> Result<Caller, Turned> {
    if is_here(from.ip()) {
        return Ok(Caller { name: Name::RolloutsListener, role: Role::Operator, from: Some(from) });
    }
    let message = "only programs of this machine may ask here";
    let record = Refused {
        who: "nobody known".to_owned(),
        from: Some(from.to_string()),
        method: String::new(),
        path: String::new(),
        status: ProblemKind::Forbidden.status(),
        why: message.to_owned(),
        not_written: 0,
    };
    Err(Turned { problem: Problem::new(ProblemKind::Forbidden, message), record: Some(Box::new(record)) })
}

/// The rule of the socket.
fn is_admitted(peer_uid: u32, own_uid: u32) -> bool {
    peer_uid == own_uid || peer_uid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_of_this_machine() {
        for (address, expected) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
            ("[::ffff:192.0.2.1]:1", false),
            ("[fe80::1]:1", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(is_here(address.ip()), expected, "{address}");
            assert_eq!(from_here(address).is_ok(), expected, "{address}");
        }
    }

    #[test]
    fn only_the_daemons_own_user_and_root_are_let_in() {
        assert!(is_admitted(1000, 1000));
        assert!(is_admitted(0, 1000));
        assert!(is_admitted(0, 0));
        assert!(!is_admitted(1001, 1000));
        assert!(!is_admitted(1000, 0));
    }
}

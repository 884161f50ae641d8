//! Who may speak to this daemon, over which doors, and the record of what they changed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use upbeat_api::{
    Asked, AuditHead, AuditQuery, AuditRecord, AuditVerdict, IssuedToken, Need, NewToken, Problem,
    ProblemKind, Role, TokenInfo, TokenName,
};
use upbeat_control::audit::{self, Audit, AuditError, AuditSettings, Key, Limits, Ticket};
use upbeat_control::tokens::{NoEntry, TokenError, Tokens, Wanted};
use upbeat_drivers::process::chain;
use upbeat_drivers::{clock, peer};
use upbeat_model::Wall;
use upbeat_server::{Answer, Doors, Group, OpenError, OpenRollouts, Tcp, Tls, TlsError, Unix};
use upbeat_store::{Durability, Store, StoreError};

use super::{Dirs, ServeError};
use crate::settings::{Api, Settings};

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The audit log cannot be used.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Its key cannot be used.
    #[error("the key of the audit log, `{}`, cannot be used", path.display())]
    Key {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be used.
    #[error("the daemon cannot listen on `{address}`")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Rollouts cannot be served without tokens.
    #[error(transparent)]
    Rollouts(OpenError),
    /// No such group.
    #[error("`api.socket_group` is `{0}`, and there is no group of that name in /etc/group")]
    NoSuchGroup(String),
    /// Its members would not get to the socket.
    #[error(
        "`api.socket_group` is `{group}`, but its members cannot get to the socket: `{}` does not let them \
         through", directory.display()
    )]
    OutOfReach {
        /// The group.
        group: String,
        /// What is in the way.
        directory: PathBuf,
    },
}

impl AccessError {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::OutOfReach { .. } => Some(
                "set `UPBEAT_RUNTIME_DIR` to a directory that the group can reach, such as one below /run",
            ),
            Self::NoSuchGroup(_) => Some("make it with `groupadd`, or name one that is there"),
            Self::Key { .. } => {
                Some("put the key back; or move it away: a new one is made, and `audit verify` says so")
            }
            Self::Rollouts(_) => Some("`rollouts.listen` names the address"),
            Self::Listen { .. } => Some("another program may listen there; `api.listen` names the address"),
            _ => None,
        }
    }
}

/// What says who may, and who did. A cheap handle; clones share it.
#[derive(Clone)]
pub(super) struct Access {
    tokens: Tokens,
    pub(super) audit: Audit,
}

fn unavailable(error: &dyn std::error::Error) -> Problem {
    Problem::new(ProblemKind::Unavailable, chain(error))
}

fn token_problem(error: &TokenError) -> Problem {
    let text = chain(error);
    match error {
        TokenError::Taken(_) => Problem::new(ProblemKind::Conflict, text)
            .with_hint("revoke it first, or choose another name: what a token is cannot be told again"),
        TokenError::NoSuchToken(_) => {
            Problem::new(ProblemKind::NotFound, text).with_hint("`upbeat token ls` lists what there is")
        }
        TokenError::TooMany => Problem::new(ProblemKind::Conflict, text)
            .with_hint("revoke some: those that have expired count, too"),
        TokenError::BadLife => Problem::new(ProblemKind::BadRequest, text),
        TokenError::Store(StoreError::Unknown(_)) => Problem::new(ProblemKind::Unavailable, text)
            .with_hint("`upbeat token ls` shows what became of it, once the daemon can read its state again"),
        TokenError::Store(_) => Problem::new(ProblemKind::Unavailable, text)
            .with_hint("nothing was changed; make room on the disk that holds the daemon's state"),
    }
}

impl Access {
    pub(super) async fn open(dirs: &Dirs, store: &Store) -> Result<Self, AccessError> {
        let path = dirs.audit_key();
        let made = Key::read_or_make(&path, random);
        let (key, key_is_new) = made.map_err(|source| AccessError::Key { path, source })?;
        let (dir, limits) = (dirs.audit(), Limits::default());
        let settings = AuditSettings { dir, key, key_is_new, limits, wall: clock::wall };
        let audit = Audit::open(store.clone(), settings).await?;
        Ok(Self { tokens: Tokens::new(store.clone()), audit })
    }

    pub(super) async fn authenticate(&self, token: &str) -> Answer<(TokenName, Role)> {
        self.tokens.check(token, clock::wall()).await.map_err(|error| match error {
            NoEntry::Store(_) => unavailable(&error),
            NoEntry::Unknown => Problem::new(ProblemKind::Unauthorized, error.to_string())
                .with_hint("it may have been revoked; `upbeat token create` makes one where the daemon runs"),
            NoEntry::Expired(_) => Problem::new(ProblemKind::Unauthorized, error.to_string()).with_hint(
                "`upbeat token revoke` and `upbeat token create` replace it where the daemon runs",
            ),
        })
    }

    pub(super) async fn asked(&self, asked: Asked, need: Need) -> Answer<Ticket> {
        self.audit.asked(asked, need).await.map_err(|error| {
            let message = format!("the change cannot be recorded, so it is not made: {}", chain(&error));
            Problem::new(ProblemKind::Unavailable, message).with_hint(match error {
                AuditError::Files(_) | AuditError::Store(_) => {
                    "make room on the disk that holds the daemon's state; `stop` and `down` work all the same"
                }
                AuditError::Conflict | AuditError::Stopped => {
                    "end the daemon and start it again: what runs goes on meanwhile; its log says what happened"
                }
            })
        })
    }

    pub(super) async fn tokens(&self) -> Answer<Vec<TokenInfo>> {
        self.tokens.list(clock::wall()).await.map_err(|error| unavailable(&error))
    }

    pub(super) async fn create(&self, new: NewToken, by: String) -> Answer<IssuedToken> {
        let NewToken { name, role, expires_in_s } = new;
        let bits = random().map_err(|error| unavailable(&error))?;
        let made = self.tokens.create(Wanted { name, role, expires_in_s, by }, bits, clock::wall()).await;
        let (info, token) = made.map_err(|error| token_problem(&error))?;
        Ok(IssuedToken { token, info })
    }

    pub(super) async fn revoke(&self, name: &TokenName) -> Answer<()> {
        self.tokens.revoke(name).await.map_err(|error| token_problem(&error))
    }

    pub(super) async fn records(&self, query: &AuditQuery, limit: usize) -> Answer<Vec<AuditRecord>> {
        let since = query.since.unwrap_or(Wall(i64::MIN));
        self.audit.read(query.after, since, limit).await.map_err(|error| unavailable(&error))
    }

    pub(super) async fn verify(&self) -> Answer<AuditVerdict> {
        self.audit.verify().await.map_err(|error| unavailable(&error))
    }
}

/// 256 random bits.
pub(super) fn random() -> std::io::Result<[u8; 32]> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).map_err(std::io::Error::other)?;
    Ok(bits)
}

/// What a daemon that is not running has kept of its audit log besides the log. Errors: it runs, or
/// what it kept cannot be read.
pub async fn anchor_on_disk(dirs: &Dirs) -> Result<Option<AuditHead>, StoreError> {
    let (store, _) = upbeat_store::open_redb(&dirs.control(), Durability::Machine)?;
    audit::anchor(&store).await
}

/// Where this daemon listens.
pub(super) async fn doors(dirs: &Dirs, settings: &Settings) -> Result<Doors, ServeError> {
    let api = &settings.api;
    let group = match &api.socket_group {
        None => None,
        Some(name) => {
            let gid = peer::group_id(name).ok_or_else(|| AccessError::NoSuchGroup(name.clone()))?;
            if let Some(directory) = in_the_way(&dirs.runtime, gid) {
                return Err(AccessError::OutOfReach { group: name.clone(), directory }.into());
            }
            Some(Group { gid, groups_of: peer::groups_of })
        }
    };
    let tcp = match api.listen {
        None => None,
        Some(address) => Some(tcp(address, api).await?),
    };
    let rollouts = match settings.rollouts.listen {
        None => None,
        Some(address) => {
            let open = OpenRollouts::bind(address).await.map_err(AccessError::Rollouts)?;
            let address = open.address().unwrap_or(address);
            tracing::info!(%address, "rollouts are served without tokens to this machine");
            Some(open)
        }
    };
    let listener = upbeat_server::bind_for(&dirs.socket(), group.map(|group| group.gid))?;
    Ok(Doors { unix: Unix { listener, group }, tcp, rollouts })
}

async fn tcp(address: SocketAddr, api: &Api) -> Result<Tcp, AccessError> {
    let tls = match (&api.tls_cert, &api.tls_key) {
        (Some(cert), Some(key)) => Some(Tls::read(cert, key)?),
        _ => None,
    };
    let bound = tokio::net::TcpListener::bind(address).await;
    let listener = bound.map_err(|source| AccessError::Listen { address, source })?;
    // Asked for port 0, it got another.
    let address = listener.local_addr().map_err(|source| AccessError::Listen { address, source })?;
    tracing::info!(%address, tls = tls.is_some(), "the API is served over TCP");
    Ok(Tcp { listener, tls, hosts: api.allowed_hosts.clone() })
}

/// The first directory above that the members of a group cannot pass through. The directory itself is
/// given to them.
fn in_the_way(directory: &Path, gid: u32) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    let lets_through = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|found| {
            let mode = found.mode();
            if found.gid() == gid { mode & 0o010 != 0 } else { mode & 0o001 != 0 }
        })
    };
    directory.ancestors().skip(1).find(|path| !lets_through(path)).map(Path::to_path_buf)
}

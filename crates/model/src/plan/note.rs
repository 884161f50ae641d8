//! What a person should know of a plan besides its steps.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::world::Lock;
use crate::ids::{AppName, ServiceName};

/// What a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// The old copy stops before the new one starts, though it was asked otherwise.
    StopFirst {
        /// Of which app.
        app: AppName,
        /// Of which service.
        service: ServiceName,
        /// Why.
        because: SideBySide,
    },
    /// A service that holds its update lock is interrupted all the same, as was asked.
    Forced {
        /// Of which app.
        app: AppName,
        /// Which.
        service: ServiceName,
        /// Who holds it.
        lock: Lock,
    },
}

/// Why two copies cannot run side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum SideBySide {
    /// Both publish this port of this machine.
    Port {
        /// `8080/tcp`.
        port: String,
    },
    /// Both write to it, and there is one copy.
    Shared {
        /// The volume's name, or the directory.
        what: String,
    },
    /// Both have the same fixed address.
    Address {
        /// Which.
        address: String,
    },
    /// What the old one rests on stops too.
    DependencyStops {
        /// The service.
        service: ServiceName,
    },
    /// Its network is made anew, and nobody may be in it then.
    NetworkRenewed {
        /// The network's name in the engine.
        network: String,
    },
    /// Another service takes what the old one holds (a port).
    TakenOver {
        /// By which.
        service: ServiceName,
    },
    /// It is a process, and these have one slot each.
    Process,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StopFirst { service, because, .. } => {
                write!(f, "`{service}` is replaced stop-first, not start-first: {because}")
            }
            Self::Forced { service, lock, .. } => {
                write!(f, "`{service}` is interrupted though it holds its update lock ({lock})")
            }
        }
    }
}

impl fmt::Display for SideBySide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { port } => write!(f, "both copies would publish port {port}"),
            Self::Shared { what } => write!(f, "both copies would write to `{what}`"),
            Self::Address { address } => write!(f, "both copies would have the address {address}"),
            Self::DependencyStops { service } => write!(f, "`{service}`, which it rests on, stops too"),
            Self::NetworkRenewed { network } => write!(f, "its network `{network}` is made anew"),
            Self::TakenOver { service } => write!(f, "`{service}` takes over a port it holds"),
            Self::Process => f.write_str("it is a process"),
        }
    }
}

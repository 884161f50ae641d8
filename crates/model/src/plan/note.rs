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
    /// An image is asked for again though it is there, and whoever runs another one then is replaced.
    Refreshed {
        /// Of which app.
        app: AppName,
        /// Which.
        service: ServiceName,
        /// Its image.
        image: String,
    },
    /// A volume of that name is there and was made by somebody else.
    UsedAsItIs {
        /// Of which app.
        app: AppName,
        /// Who needs it.
        service: ServiceName,
        /// Its name in the engine.
        volume: String,
    },
    /// A volume was made otherwise than the file says now, and is used as it is: it may hold data.
    MadeOtherwise {
        /// Of which app.
        app: AppName,
        /// Who needs it.
        service: ServiceName,
        /// Its name in the engine.
        volume: String,
    },
    /// A network nobody of the app needs any more stays: containers of others are in it.
    NetworkStays {
        /// Of which app.
        app: AppName,
        /// Its name in the engine.
        network: String,
        /// Who is in it, by name.
        by: Vec<String>,
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
            Self::Refreshed { service, image, .. } => {
                write!(
                    f,
                    "`{service}` is replaced too, if its `pull_policy` finds another image under `{image}`"
                )
            }
            Self::UsedAsItIs { service, volume, .. } => write!(
                f,
                "`{service}` uses the volume `{volume}` as it is: it was there, and is not of this app (`external: true` says that this is meant)"
            ),
            Self::MadeOtherwise { service, volume, .. } => write!(
                f,
                "`{service}` uses the volume `{volume}` as it is, though it was made otherwise than the file says now: it may hold data (remove it to have it made anew)"
            ),
            Self::NetworkStays { network, by, .. } => write!(
                f,
                "the network `{network}` is needed no more and stays, as `{}` is in it, which is not of this app",
                by.join("`, `")
            ),
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

//! What can be typed of who may, and of who did.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use upbeat_model::{AuditHead, Role, TokenName};

use super::length::length;

/// `token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// Below `token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once
    Create(CreateTokenArgs),
    /// List tokens, but for the tokens themselves
    Ls,
    /// Let a token in no more, from now on
    Revoke(RevokeTokenArgs),
}

/// `token create`.
#[derive(Debug, Args)]
pub struct CreateTokenArgs {
    /// By what it is known: who has it, or what for
    #[arg(value_name = "NAME")]
    pub name: TokenName,
    /// What it allows: `viewer` looks, `operator` also changes what runs, `admin` also makes tokens and
    /// reads the audit log
    #[arg(long, value_name = "ROLE")]
    pub role: Role,
    /// How long it lives: `30d`, `12h` [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    pub expires: Option<Duration>,
}

/// `token revoke`.
#[derive(Debug, Args)]
pub struct RevokeTokenArgs {
    /// Which
    #[arg(value_name = "NAME")]
    pub name: TokenName,
}

/// `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// Below `audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List who changed what
    Ls(AuditLsArgs),
    /// Look at every record, and fail if one is not as it was written
    Verify(AuditVerifyArgs),
}

/// `audit ls`.
#[derive(Debug, Args)]
pub struct AuditLsArgs {
    /// Not before: `10m` or `7d` ago, or a moment such as `2026-03-01 14:00`, `14:00` or `2026-03-01T14:00:00Z`
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
}

/// `audit verify`.
#[derive(Debug, Args)]
pub struct AuditVerifyArgs {
    /// Look at the log in this directory, without a daemon
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// With the key in this file [default: `audit.key` beside the directory, if it is there]
    #[arg(long, value_name = "PATH", requires = "dir")]
    pub key: Option<PathBuf>,
    /// It has to hold this record, as the daemon's log or an earlier `verify` told it
    #[arg(long, value_name = "NUMBER:HASH")]
    pub anchor: Option<AuditHead>,
}

/// How long a token lives.
fn lifetime(text: &str) -> Result<Duration, String> {
    let length = length(text)?;
    match length.as_secs() {
        0 => Err("that is no time at all".to_owned()),
        _ => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_of_tokens_are_read_as_people_say_them() {
        assert_eq!(lifetime("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(lifetime("12h"), Ok(Duration::from_secs(12 * 3_600)));
        for text in ["", "0", "30", "0d", "-1d", "d", "1y", "soon", "300ms"] {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }
}

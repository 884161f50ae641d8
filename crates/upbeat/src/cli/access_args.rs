//! What can be typed of who may, and of who did.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use upbeat_model::{AuditHead, Role, TokenName, Wall};

use super::args::duration;

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
    /// Only from then on: a time as in `2026-03-01T12:00:00Z`, or so long ago: `2h`, `7d`
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub since: Option<Moment>,
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

/// A moment, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// That one.
    At(Wall),
    /// So long before now.
    Ago(Duration),
}

/// As [`duration`], and days.
fn lifetime(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    let length = match days {
        Some(days) => Duration::from_secs(days.saturating_mul(86_400)),
        None => duration(text).map_err(|_| "expected a length of time, such as `30d` or `12h`".to_owned())?,
    };
    match length.as_secs() {
        0 => Err("that is no time at all".to_owned()),
        _ => Ok(length),
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(Moment::At(Wall(at.as_millisecond())));
    }
    let expected = "expected a time such as `2026-03-01T12:00:00Z`, or a length such as `2h` or `7d`";
    lifetime(text).map(Moment::Ago).map_err(|_| expected.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_of_tokens_and_moments_are_read_as_people_say_them() {
        assert_eq!(lifetime("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(lifetime("12h"), Ok(Duration::from_secs(12 * 3_600)));
        for text in ["", "0", "0d", "-1d", "d", "1y", "soon"] {
            assert!(lifetime(text).is_err(), "{text}");
        }
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(Moment::At(Wall(1_000))));
        assert_eq!(moment("2h"), Ok(Moment::Ago(Duration::from_secs(7_200))));
        assert!(moment("yesterday").is_err());
    }
}

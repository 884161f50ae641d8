//! Who may do what, and the record of who did.

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, OperationId, TokenName};
use crate::time::Wall;

/// What somebody may do. Each may all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks at everything that runs.
    Viewer,
    /// Changes what runs.
    Operator,
    /// Says who may, and reads who did.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As it is typed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or_else(|| "expected `viewer`, `operator` or `admin`".to_owned())
    }
}

/// What is known of a token; never the token itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TokenInfo {
    /// Its name.
    pub name: TokenName,
    /// What it allows.
    pub role: Role,
    /// When it was made.
    pub created_at: Wall,
    /// Who made it: `uid 1000`.
    pub created_by: String,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Wall>,
    /// It is refused already.
    pub expired: bool,
}

/// A change that somebody is about to make: recorded before it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Asked {
    /// Who: `uid 1000`, `token ci`.
    pub who: String,
    /// The address at the other end, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `PUT`.
    pub method: String,
    /// `/api/v1/apps/{app}`.
    pub route: String,
    /// Of which app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// In words: `stop web`. Names and numbers only.
    pub what: String,
}

/// Whether a change may be made without its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// No.
    Recorded,
    /// It stops something: that must go on a full disk too, and be it to make room there.
    Anyway,
}

/// Who was turned away. What strangers do is not to push out what is recorded of those who are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The holder of a token that holds, or a user who is let in.
    Known,
    /// Anybody.
    Stranger,
}

/// A request that was turned away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refused {
    /// Who, as far as that is known.
    pub who: String,
    /// The address at the other end, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `PUT`; empty where nothing could be asked.
    pub method: String,
    /// The path that was asked for, without its query.
    pub path: String,
    /// The status code it was answered with.
    pub status: u16,
    /// Why.
    pub why: String,
    /// So many before it were not written, since they came too fast.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_written: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What is written of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum AuditEntry {
    /// Somebody is about to make a change.
    Asked(Asked),
    /// What came of it.
    Answered {
        /// The number of the record that it was asked with.
        asked: u64,
        /// The status code of the answer.
        status: u16,
        /// The operation that began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<OperationId>,
    },
    /// Somebody was turned away.
    Refused(Refused),
    /// Records that could not be written at their time.
    Gap {
        /// How many.
        missed: u64,
        /// When the first was due.
        since: Wall,
        /// What the first of them would have said.
        what: Vec<String>,
    },
    /// The oldest records are no longer kept.
    Dropped {
        /// All before this number.
        before: u64,
        /// The hash of the last of them.
        last: String,
    },
    /// What a daemon found that it had not left so.
    Found {
        /// In words.
        what: String,
    },
}

/// One record, numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditRecord {
    /// Its number.
    pub sequence: u64,
    /// When.
    pub at: Wall,
    /// The hash of the record before it, in hexadecimal.
    pub previous: String,
    /// What.
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// Its own hash.
    pub hash: String,
}

/// How many records there are, and the hash of the last: it stands for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// The number of the last record; 0 before the first.
    pub count: u64,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

impl AuditHead {
    /// Before the first record.
    pub fn none() -> Self {
        Self { count: 0, hash: "0".repeat(64) }
    }
}

/// `12:5f0c…`
impl std::fmt::Display for AuditHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.count, self.hash)
    }
}

impl std::str::FromStr for AuditHead {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a number, `:` and 64 hexadecimal digits, as the log has it".to_owned();
        let (count, hash) = text.split_once(':').ok_or_else(expected)?;
        if hash.len() != 64 || !hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(expected());
        }
        Ok(Self { count: count.parse().map_err(|_| expected())?, hash: hash.to_owned() })
    }
}

/// The first record that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BadRecord {
    /// Its number, or that of the one that should be there.
    pub sequence: u64,
    /// Where: file and line.
    pub place: String,
    /// What is wrong with it.
    pub why: String,
}

/// What came of looking at every record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditVerdict {
    /// How many were looked at and found good.
    pub good: u64,
    /// The number of the first that is kept.
    pub first: u64,
    /// The last that is good.
    pub head: AuditHead,
    /// The head it was compared with, from where it is kept besides.
    pub anchor: Option<AuditHead>,
    /// The keyed code of each record was checked, too.
    pub keyed: bool,
    /// The first that is not good.
    pub bad: Option<BadRecord>,
    /// Changes whose outcome is not recorded, at most [`AuditVerdict::UNANSWERED_MAX`]: under way, or
    /// the daemon died meanwhile.
    pub unanswered: Vec<u64>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

impl AuditVerdict {
    /// So many unanswered are named: a daemon that is killed leaves a handful.
    pub const UNANSWERED_MAX: usize = 20;

    /// So many notes are kept, for as many reasons.
    pub const NOTES_MAX: usize = 20;
}

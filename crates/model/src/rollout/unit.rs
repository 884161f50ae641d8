//! Units: several entities of a namespace that go to new versions in the order of their needs, and back as one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Counts, EntityId, Reason, Version};
use crate::Wall;

/// So many entities are in a unit at most. All of them are looked at with each decision about one.
pub const MEMBERS_MAX: usize = 100;

/// So many of the runs of a unit that have ended are remembered.
pub const UNIT_HISTORY_MAX: usize = 20;

/// What is asked of an entity in a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UnitMember {
    /// Its name; it is in the namespace of the unit.
    pub entity: String,
    /// The version that it shall have.
    pub version: Version,
    /// The members that have to be good on theirs before it begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
}

/// Where a unit is, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UnitWord {
    /// Its members go to their versions, one after the other as they need each other.
    #[default]
    Forward,
    /// All members are good on theirs: it is over.
    Good,
    /// One was bad, or somebody said so: those that had begun go back, in the reverse order.
    Back,
    /// All that had begun are back on what they had before: it is over.
    RolledBack,
    /// The same, but some had nothing to go back to, and stay as they are: it is over.
    Halted,
}

impl UnitWord {
    /// Nothing more happens to it.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Good | Self::RolledBack | Self::Halted)
    }
}

/// Where a member of a unit is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MemberWord {
    /// It has not begun: what it needs is not good yet, or never was.
    Waits,
    /// It is on its way to its version.
    Forward,
    /// It is good on its version.
    Good,
    /// Its version is bad.
    Bad,
    /// It is on its way back, or will be when those that need it are back.
    GoesBack,
    /// It is back on what it had before.
    Back,
    /// It shall go back, and never had a good version: it stays as it is.
    Halted,
    /// It has another version than the unit, or those before it, know of: it is left alone.
    Changed,
}

/// Why a unit goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum UnitWhy {
    /// The version of a member is bad.
    Bad {
        /// Of which.
        entity: String,
        /// Which.
        version: Version,
        /// What showed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    /// Somebody said so.
    Aborted {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A member did not take its version.
    Refused {
        /// Which.
        entity: String,
        /// In its words.
        message: String,
    },
    /// A member has a version that the unit knows nothing of.
    Changed {
        /// Which.
        entity: String,
    },
}

impl fmt::Display for UnitWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad { entity, version, reason: None } => write!(f, "`{version}` of `{entity}` is bad"),
            Self::Bad { entity, version, reason: Some(reason) } => {
                write!(f, "`{version}` of `{entity}` is bad: {reason}")
            }
            Self::Aborted { by, reason } if reason.is_empty() => write!(f, "aborted by {by}"),
            Self::Aborted { by, reason } => write!(f, "aborted by {by}: {reason}"),
            Self::Refused { entity, message } => write!(f, "`{entity}` did not take its version: {message}"),
            Self::Changed { entity } => write!(f, "`{entity}` was given another version meanwhile"),
        }
    }
}

/// A member of a unit, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberState {
    /// What was asked of it.
    #[serde(flatten)]
    pub member: UnitMember,
    /// Its good version when the unit began, to which it goes back; none: none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Version>,
    /// Where it is; of a unit that is over: where it was at the end.
    pub state: MemberWord,
    /// How its targets stand to the version in force now.
    pub counts: Counts,
}

/// A run of a unit that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PastUnitState {
    /// Of this unit, the how manieth.
    pub number: u64,
    /// When it began.
    pub began: Wall,
    /// When it was over.
    pub ended: Wall,
    /// How.
    pub outcome: UnitWord,
    /// Why it went back, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<UnitWhy>,
}

/// A unit, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnitState {
    /// In which namespace it is, and its members are.
    pub namespace: String,
    /// Its name.
    pub unit: String,
    /// Of this unit, the how manieth run.
    pub number: u64,
    /// Where it is.
    pub course: UnitWord,
    /// Who asked for it.
    pub by: String,
    /// When it began.
    pub began: Wall,
    /// When it was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Wall>,
    /// Why it goes back, or went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<UnitWhy>,
    /// Who wants no member to be moved for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
    /// Who wants each member to be good whatever it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_by: Option<String>,
    /// In an order in which each comes after all it needs.
    pub members: Vec<MemberState>,
    /// Its runs before, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastUnitState>,
}

impl UnitState {
    /// `namespace/name`, as it is asked for.
    pub fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.unit)
    }
}

/// Members that make no unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// There is nobody in it.
    #[error("`members` must not be empty")]
    Empty,
    /// More than are looked at at once.
    #[error("`members` must be {MEMBERS_MAX} at most")]
    TooMany,
    /// No entity can be called so.
    #[error("`members[{index}].entity` must {must}")]
    BadName {
        /// The how manieth.
        index: usize,
        /// What it must be like.
        must: &'static str,
    },
    /// It is in it twice.
    #[error("`members` names `{0}` twice")]
    Twice(String),
    /// It needs somebody who is not in it.
    #[error("`needs` of `{entity}` names `{needs}`, which is no member")]
    Unknown {
        /// Who does.
        entity: String,
        /// Whom.
        needs: String,
    },
    /// They need each other in a circle.
    #[error("`needs` goes in a circle: {}", .0.join(" needs "))]
    Circle(Vec<String>),
}

/// Puts members in an order in which each comes after all it needs; otherwise as they were.
///
/// Errors: they make no unit; each says which field and which name.
pub fn in_order(namespace: &str, members: Vec<UnitMember>) -> Result<Vec<UnitMember>, UnitError> {
    match members.len() {
        0 => return Err(UnitError::Empty),
        count if count > MEMBERS_MAX => return Err(UnitError::TooMany),
        _ => {}
    }
    for (index, member) in members.iter().enumerate() {
        EntityId::new(namespace, &member.entity)
            .map_err(|bad| UnitError::BadName { index, must: bad.must })?;
        if members[..index].iter().any(|other| other.entity == member.entity) {
            return Err(UnitError::Twice(member.entity.clone()));
        }
        let is_unknown = |needs: &&String| !members.iter().any(|other| other.entity == **needs);
        if let Some(needs) = member.needs.iter().find(is_unknown) {
            return Err(UnitError::Unknown { entity: member.entity.clone(), needs: needs.clone() });
        }
    }
    let (mut rest, mut ordered) = (members, Vec::<UnitMember>::new());
    while !rest.is_empty() {
        let is_free = |member: &UnitMember| {
            member.needs.iter().all(|needs| ordered.iter().any(|other| other.entity == *needs))
        };
        let Some(next) = rest.iter().position(is_free) else {
            return Err(UnitError::Circle(circle(&rest)));
        };
        ordered.push(rest.remove(next));
    }
    Ok(ordered)
}

/// Each of these needs another of them: who follows that comes to one for the second time.
fn circle(members: &[UnitMember]) -> Vec<String> {
    let mut way: Vec<String> = Vec::new();
    let mut at = members.first();
    while let Some(member) = at {
        if let Some(begin) = way.iter().position(|name| *name == member.entity) {
            way.drain(..begin);
            way.push(member.entity.clone());
            return way;
        }
        way.push(member.entity.clone());
        at = members.iter().find(|other| member.needs.contains(&other.entity));
    }
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(members: &[(&str, &[&str])]) -> Result<String, String> {
        let members = members.iter().map(|(entity, needs)| UnitMember {
            entity: (*entity).to_owned(),
            version: Version::new("v1").unwrap(),
            needs: needs.iter().map(|name| (*name).to_owned()).collect(),
        });
        let names = |members: Vec<UnitMember>| {
            members.into_iter().map(|member| member.entity).collect::<Vec<_>>().join(" ")
        };
        in_order("prod", members.collect()).map(names).map_err(|error| error.to_string())
    }

    #[test]
    fn each_comes_after_all_it_needs_and_what_cannot_be_is_refused_by_name() {
        assert_eq!(ordered(&[("c", &["b"]), ("b", &["a"]), ("a", &[]), ("x", &[])]).unwrap(), "a b c x");
        assert_eq!(
            ordered(&[("d", &["b", "c"]), ("b", &["a"]), ("c", &["a"]), ("a", &[])]).unwrap(),
            "a b c d"
        );
        for (members, expected) in [
            (&[][..], "`members` must not be empty"),
            (&[("a", &[][..]), ("a", &[])], "`members` names `a` twice"),
            (&[("", &[])], "`members[0].entity` must not be empty"),
            (&[("a", &["z"])], "`needs` of `a` names `z`, which is no member"),
            (&[("a", &["a"])], "`needs` goes in a circle: a needs a"),
            (
                &[("x", &["a"]), ("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("ok", &[])],
                "`needs` goes in a circle: a needs b needs c needs a",
            ),
        ] {
            assert_eq!(ordered(members).unwrap_err(), expected);
        }
        let names: Vec<String> = (0..=MEMBERS_MAX).map(|n| n.to_string()).collect();
        let many: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), &[][..])).collect();
        assert_eq!(ordered(&many).unwrap_err(), "`members` must be 100 at most");
    }
}

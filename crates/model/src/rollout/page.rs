//! Lists of rollouts and of units, a page at a time.

use serde::{Deserialize, Serialize};

use super::{BadName, EntityId, RolloutState, UnitState};

/// The longest page: what a person looks through, or a moment's work for a program.
pub const PAGE_MAX: usize = 1_000;

/// And it ends with the first that makes it as large as this, in bytes of JSON: where strategies are long, a thousand
/// would be 100 MB, on their way at once for each who looks.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// One of a list that is there, and cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unreadable {
    /// In which namespace.
    pub namespace: String,
    /// The name of the entity, or of the unit.
    pub name: String,
    /// Why it cannot be read, in words.
    pub why: String,
}

/// Entities in the order of their namespaces and names, and where each is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RolloutsPage {
    /// Those that can be read.
    pub rollouts: Vec<RolloutState>,
    /// Those that cannot; the others are there all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
    /// There is more: ask again, with this as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Units in the order of their namespaces and names, and where each is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnitsPage {
    /// Those that can be read.
    pub units: Vec<UnitState>,
    /// Those that cannot; the others are there all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
    /// There is more: ask again, with this as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A place in a list, as a text. Both names may hold a `/`, so one of the namespace is written as `%2F`.
impl EntityId {
    /// The place behind this one.
    pub fn to_cursor(&self) -> String {
        let namespace = self.namespace().replace('%', "%25").replace('/', "%2F");
        format!("{namespace}/{}", self.entity())
    }

    /// Errors: no list tells such a place.
    pub fn of_cursor(text: &str) -> Result<Self, BadName> {
        let none = BadName { field: "after", must: "be what `next` of the page before says" };
        let (namespace, entity) = text.split_once('/').ok_or(none)?;
        Self::new(&namespace.replace("%2F", "/").replace("%25", "%"), entity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_whatever_the_names() {
        for (namespace, entity, cursor) in [
            ("prod", "web", "prod/web"),
            ("a/b", "c/d", "a%2Fb/c/d"),
            ("%2F", "%25", "%252F/%25"),
            ("a%2Fb/", "/", "a%252Fb%2F//"),
        ] {
            let id = EntityId::new(namespace, entity).unwrap();
            assert_eq!(id.to_cursor(), cursor);
            assert_eq!(EntityId::of_cursor(cursor), Ok(id));
        }
        let refused = |text| EntityId::of_cursor(text).unwrap_err().to_string();
        assert_eq!(refused("web"), "`after` must be what `next` of the page before says");
        assert_eq!(refused("/web"), "`namespace` must not be empty");
    }
}

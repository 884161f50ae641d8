//! Whom a rollout is about, and who is in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The longest name of a namespace, an entity, a group or a target, in bytes.
pub const NAME_MAX: usize = 256;

/// Labels of a target: some to choose by, such as region, ring and model, and a few more.
pub const LABELS_MAX: usize = 64;

/// And so many bytes in all of them: each is kept and told with its target, of which there are many.
pub const LABELS_BYTES_MAX: usize = 8 << 10;

/// Something that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` must {must}")]
pub struct BadName {
    /// Which name: `namespace`, `entity`, `group`, `name`.
    pub field: &'static str,
    /// What it must be like.
    pub must: &'static str,
}

fn checked(field: &'static str, text: &str, may_be_empty: bool) -> Result<String, BadName> {
    let must = match text {
        "" if !may_be_empty => "not be empty",
        text if text.len() > NAME_MAX => "have 256 bytes at most",
        text if text.contains(char::is_control) => "have no control characters",
        text => return Ok(text.to_owned()),
    };
    Err(BadName { field, must })
}

/// A group of targets that have their version together: an app, a configuration, an operation. Namespaces
/// know nothing of each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityId {
    namespace: String,
    entity: String,
}

impl EntityId {
    /// The entity of this name in that namespace. Any text is a name that can be shown on a line.
    pub fn new(namespace: &str, entity: &str) -> Result<Self, BadName> {
        Ok(Self {
            namespace: checked("namespace", namespace, false)?,
            entity: checked("entity", entity, false)?,
        })
    }

    /// Where it is.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name there.
    pub fn entity(&self) -> &str {
        &self.entity
    }
}

/// `namespace/entity`.
impl std::fmt::Display for EntityId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.entity)
    }
}

/// Who has a version: a device, a copy, a region. Its group may be empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TargetId {
    /// Targets of different groups may have the same name.
    pub group: String,
    /// Its name.
    pub name: String,
}

impl TargetId {
    /// The target of this name in that group, which may be empty.
    pub fn new(group: &str, name: &str) -> Result<Self, BadName> {
        Ok(Self { group: checked("group", group, true)?, name: checked("name", name, false)? })
    }
}

/// `group/name`, or the name alone.
impl std::fmt::Display for TargetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.group.is_empty() {
            true => f.write_str(&self.name),
            false => write!(f, "{}/{}", self.group, self.name),
        }
    }
}

/// Labels of a target: so many that can be kept with it, of texts that can be shown on a line.
///
/// Errors: what they must, to follow their name.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > LABELS_MAX {
        return Err(format!("be {LABELS_MAX} at most"));
    }
    let texts = || labels.iter().flat_map(|(key, value)| [key, value]);
    if labels.contains_key("") {
        return Err("have no empty key".to_owned());
    }
    if texts().any(|text| text.len() > NAME_MAX) {
        return Err(format!("have keys and values of {NAME_MAX} bytes at most"));
    }
    if texts().any(|text| text.contains(char::is_control)) {
        return Err("have no control characters".to_owned());
    }
    if texts().map(|text| text.len()).sum::<usize>() > LABELS_BYTES_MAX {
        return Err(format!("have {LABELS_BYTES_MAX} bytes at most, all together"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_on_a_line_is_a_name_and_only_a_group_may_be_empty() {
        assert_eq!(EntityId::new("prod", "web shop é").unwrap().to_string(), "prod/web shop é");
        assert_eq!(TargetId::new("", "a").unwrap().to_string(), "a");
        let refused = |made: Result<TargetId, BadName>| made.unwrap_err().to_string();
        assert_eq!(refused(TargetId::new("g", "")), "`name` must not be empty");
        assert_eq!(refused(TargetId::new("a\u{1b}", "a")), "`group` must have no control characters");
        let long = "x".repeat(NAME_MAX + 1);
        assert_eq!(
            EntityId::new(&long, "a").unwrap_err().to_string(),
            "`namespace` must have 256 bytes at most"
        );
        assert!(EntityId::new(&long[1..], "a").is_ok());
        assert_eq!(EntityId::new("a", "").unwrap_err().field, "entity");
    }
}

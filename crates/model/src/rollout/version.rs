//! Versions: whatever a controller calls one.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest, in bytes: a digest, a tag, a path of an image fit in with ease.
pub const VERSION_MAX: usize = 512;

/// A version of anything. Compared byte by byte: `v1` is not `V1`. Nothing is read into it; of two versions
/// none is the later one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "RolloutVersion", extend("minLength" = 1, "maxLength" = VERSION_MAX)))]
#[serde(try_from = "String", into = "String")]
pub struct Version(Arc<str>);

/// It is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadVersion {
    /// There is nothing.
    #[error("a version must not be empty")]
    Empty,
    /// It is too long.
    #[error("a version may have {VERSION_MAX} bytes, and this one has {0}")]
    Long(usize),
    /// It has a control character, which a terminal would obey.
    #[error("a version must not have control characters")]
    Control,
}

impl Version {
    /// A version of this text.
    pub fn new(text: &str) -> Result<Self, BadVersion> {
        match text {
            "" => Err(BadVersion::Empty),
            text if text.len() > VERSION_MAX => Err(BadVersion::Long(text.len())),
            text if text.contains(char::is_control) => Err(BadVersion::Control),
            text => Ok(Self(text.into())),
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Version {
    type Error = BadVersion;

    fn try_from(text: String) -> Result<Self, BadVersion> {
        Self::new(&text)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.as_str().to_owned()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_that_can_be_shown_is_a_version_and_none_is_another() {
        for text in ["v1", "V1", "1", "sha256:00", "ein Name", "é", &"x".repeat(VERSION_MAX)] {
            assert_eq!(Version::new(text).unwrap().as_str(), text);
        }
        assert_ne!(Version::new("v1"), Version::new("V1"));
        assert_eq!(Version::new(""), Err(BadVersion::Empty));
        assert_eq!(Version::new(&"x".repeat(VERSION_MAX + 1)), Err(BadVersion::Long(VERSION_MAX + 1)));
        assert_eq!(Version::new("a\nb"), Err(BadVersion::Control));
    }
}

//! Names and numbers, each a type of its own, so that none is mistaken for another.

use serde::{Deserialize, Serialize};

/// The longest name of an app or a service, in bytes: with an index it still fits a DNS label.
pub const NAME_MAX: usize = 63;

/// The longest idempotency key, in bytes.
pub const KEY_MAX: usize = 255;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a valid {kind}: {why}")]
pub struct InvalidName {
    kind: &'static str,
    shown: String,
    why: &'static str,
}

impl InvalidName {
    /// The broken rule, without the name.
    pub fn why(&self) -> &'static str {
        self.why
    }
}

fn check_name(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let refuse = |why| {
        let shown = text.chars().take(NAME_MAX).flat_map(char::escape_debug).collect();
        Err(InvalidName { kind, shown, why })
    };
    if text.is_empty() {
        return refuse("it is empty");
    }
    if text.len() > NAME_MAX {
        return refuse("it is longer than 63 characters");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return refuse("it must start with a letter or a digit");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return refuse("only letters, digits, `.`, `_` and `-` are allowed");
    }
    Ok(())
}

/// As other names, or two of them with an `@` between: `worker@mail` is made of the template
/// `worker`.
fn check_service_name(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let Some((template, instance)) = text.split_once('@') else { return check_name(kind, text) };
    let refuse = |why| {
        let shown = text.chars().take(NAME_MAX).flat_map(char::escape_debug).collect();
        Err(InvalidName { kind, shown, why })
    };
    if text.len() > NAME_MAX {
        return refuse("it is longer than 63 characters");
    }
    for part in [template, instance] {
        if let Err(error) = check_name(kind, part) {
            return refuse(error.why);
        }
    }
    Ok(())
}

fn check_key(kind: &'static str, text: &str) -> Result<(), InvalidName> {
    let refuse = |why| {
        let shown = text.chars().take(NAME_MAX).flat_map(char::escape_debug).collect();
        Err(InvalidName { kind, shown, why })
    };
    if text.is_empty() {
        return refuse("it is empty");
    }
    if text.len() > KEY_MAX {
        return refuse("it is longer than 255 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return refuse("only visible ASCII characters are allowed, and no space");
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:ident, $pattern:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[cfg_attr(feature = "schema", schemars(extend("pattern" = $pattern, "maxLength" = $max)))]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(std::sync::Arc<str>);

        impl $type {
            /// Checks and takes a name. Errors: the broken rule.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                $check($kind, text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        // Most names that are compared are clones of one: those of an app's slots have its name before theirs.
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                std::sync::Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }

        impl Ord for $type {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                match std::sync::Arc::ptr_eq(&self.0, &other.0) {
                    true => std::cmp::Ordering::Equal,
                    false => self.0.cmp(&other.0),
                }
            }
        }

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl std::hash::Hash for $type {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The name of an app: the running counterpart of a project.
    ///
    /// Letters, digits, `.`, `_`, `-`; starts with a letter or digit; at most 63 bytes. So it
    /// is safe as one component of a path, of a URL and of a store key.
    AppName,
    "project name",
    check_name,
    "^[A-Za-z0-9][A-Za-z0-9._-]*$",
    NAME_MAX
);
name!(
    /// The name of a service, unique in its project. Made as an [`AppName`] is, or of two of them with
    /// an `@` between.
    ServiceName,
    "service name",
    check_service_name,
    "^[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9][A-Za-z0-9._-]*)?$",
    NAME_MAX
);
name!(
    /// What a release is called by whoever declares it: often a UUID. Made as an [`AppName`] is.
    ReleaseName,
    "name of a release",
    check_name,
    "^[A-Za-z0-9][A-Za-z0-9._-]*$",
    NAME_MAX
);
name!(
    /// The name of a webhook, unique among the settings. Made as an [`AppName`] is.
    WebhookName,
    "name of a webhook",
    check_name,
    "^[A-Za-z0-9][A-Za-z0-9._-]*$",
    NAME_MAX
);
name!(
    /// The name of a probe, unique in its service. Made as an [`AppName`] is.
    ProbeName,
    "name of a probe",
    check_name,
    "^[A-Za-z0-9][A-Za-z0-9._-]*$",
    NAME_MAX
);
name!(
    /// Under which a request for a change is known when it is sent again: the answer is then the
    /// operation the first one began. As HTTP has it: `Idempotency-Key`. Visible ASCII; at most 255
    /// bytes.
    IdempotencyKey,
    "idempotency key",
    check_key,
    "^[!-~]+$",
    KEY_MAX
);

name!(
    /// The name of an access token. Made as an [`AppName`] is.
    TokenName,
    "token name",
    check_name,
    "^[A-Za-z0-9][A-Za-z0-9._-]*$",
    NAME_MAX
);

/// A place for one running copy of a service. Indexes count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("pattern" = "^[^/]+/[^/]+/[0-9]+$")))]
#[serde(try_from = "String", into = "String")]
pub struct SlotId {
    /// The app it belongs to.
    pub app: AppName,
    /// The service it runs.
    pub service: ServiceName,
    /// Which copy, from 1.
    pub index: u32,
}

impl SlotId {
    /// `web-2`: what people see where the app is known.
    pub fn short(&self) -> String {
        format!("{}-{}", self.service, self.index)
    }
}

/// `app/service/2`: as a store key and on the wire.
impl std::fmt::Display for SlotId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.app, self.service, self.index)
    }
}

impl std::str::FromStr for SlotId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let [app, service, index] = parts[..] else {
            return Err(format!("`{text}` is not a slot: expected app/service/index"));
        };
        let index = index.parse().map_err(|_| format!("`{text}` is not a slot: bad index"))?;
        Ok(Self {
            app: AppName::new(app).map_err(|e| e.to_string())?,
            service: ServiceName::new(service).map_err(|e| e.to_string())?,
            index,
        })
    }
}

impl TryFrom<String> for SlotId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SlotId> for String {
    fn from(slot: SlotId) -> String {
        slot.to_string()
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(transparent)]
        pub struct $type(pub u64);

        impl $type {
            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// How many times a slot was started, this start included. Only ever grows, so it fences: a
    /// shim asked to start attempt 3 refuses once attempt 4 has been there.
    Attempt
);
number!(
    /// An audited change somebody asked for. Grows over the life of control's store.
    OperationId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_in_a_path() {
        for good in ["a", "web", "Web_2.x-y", "0"] {
            assert!(ServiceName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "ä", "a\0", "\u{202e}x", &"x".repeat(64)] {
            assert!(ServiceName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_slot_reads_back_as_it_was_written() {
        let slot: SlotId = "shop/web/2".parse().unwrap();
        assert_eq!(slot.to_string(), "shop/web/2");
        assert_eq!(slot.short(), "web-2");
        assert!("shop/web".parse::<SlotId>().is_err());
        assert!("shop/web/x".parse::<SlotId>().is_err());
    }
}

//! Building an image: what is asked for, and what is told of it.

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, ServiceName};
use crate::project::container::{Build, ImageRef};

/// What is to be built. Its context follows as a tar, but for one that the engine fetches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ImageBuild {
    /// For this app.
    pub app: AppName,
    /// For this service of it.
    pub service: ServiceName,
    /// What it is called when it was built.
    pub image: ImageRef,
    /// How. `context` counts only where it is an address, `dockerfile` is a file of the tar, and what
    /// `dockerfile_inline` says is a file of the tar, too.
    pub build: Build,
}

/// What is told of a build, in this order: the steps with what each says, and at the end what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum BuildWord {
    /// A step begins.
    Step {
        /// Which, counted from one.
        number: u32,
        /// Of how many.
        of: u32,
        /// The instruction.
        text: String,
    },
    /// A line of what it says.
    Output {
        /// Without its end.
        text: String,
    },
    /// It was built, and has its name. Nothing follows.
    Built {
        /// Its id.
        id: String,
    },
}

/// Whether an image is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ImageState {
    /// Its id; absent where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

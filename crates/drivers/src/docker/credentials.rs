//! What a registry wants to be told, from the person's settings of Docker.

use upbeat_model::project::container::ImageRef;

use super::Engine;

impl Engine {
    /// The header for this registry, where there are credentials for it.
    ///
    /// Errors: they cannot be had, in words that hold none of them.
    pub(super) async fn credentials(&self, _image: &ImageRef) -> Result<Option<String>, String> {
        Ok(None)
    }
}

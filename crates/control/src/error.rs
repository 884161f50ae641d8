//! Why control could not do what it was asked.

use upbeat_model::{AppName, OperationId, ServiceName};

/// Why control could not do what it was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No app of that name.
    #[error("there is no app `{0}`")]
    NoSuchApp(AppName),
    /// No service of that name.
    #[error("app `{app}` has no service `{service}`")]
    NoSuchService {
        /// The app.
        app: AppName,
        /// What was named.
        service: ServiceName,
        /// What there is.
        known: Vec<ServiceName>,
    },
    /// No operation of that number is remembered.
    #[error("operation {0} is not remembered")]
    NoSuchOperation(OperationId),
    /// The request makes no sense.
    #[error("{0}")]
    Refused(String),
    /// The app is on its way out.
    #[error("app `{0}` is being taken down; try again when it is gone")]
    Leaving(AppName),
    /// The change could not be kept, so it was not made.
    #[error("the change could not be stored")]
    Store(#[from] upbeat_store::StoreError),
}

//! Why control could not do what it was asked.

use upbeat_model::{AppName, OperationId, ServiceName};

/// Why control could not do what it was asked. Nothing has changed by it, but for
/// [`ControlError::Unsure`].
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
    /// The key belongs to another request.
    #[error("the idempotency key belongs to operation {id}, `{what}` of `{app}`")]
    OtherRequest {
        /// Of that request.
        id: OperationId,
        /// What was asked.
        what: String,
        /// In which app.
        app: AppName,
    },
    /// It was worked out from how an app was before somebody else changed it.
    #[error("app `{0}` was changed meanwhile")]
    Meanwhile(AppName),
    /// The request makes no sense.
    #[error("{0}")]
    Refused(String),
    /// The change could not be kept, and is not in force.
    #[error("the change could not be stored")]
    Store(#[from] upbeat_store::StoreError),
    /// The change may have been kept, and be in force once the store can be read again. A request
    /// that is sent again under its key is answered then.
    #[error("it is not known whether the change was stored")]
    Unsure(#[source] upbeat_store::StoreError),
}

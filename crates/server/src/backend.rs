//! What the HTTP room needs of the rest of the house.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::BoxError;
use bytes::Bytes;
use futures_util::Stream;
use upbeat_api::{
    Action, App, AppName, AppSummary, Asked, Attach, AuditQuery, AuditRecord, AuditVerdict, BuildWord, Event,
    EventFilter, Exec, ImageBuild, ImageState, IssuedToken, LogLine, Need, NewToken, Operation, OperationId,
    Origin, Plan, PlanQuery, Problem, Refused, RemovedNetworks, RemovedVolumes, Role, ServiceName, Starts,
    Stats, TokenInfo, TokenName, Up, Version, WebhookName, WebhookState, WebhookTested, Whom, Why,
};

pub use upbeat_api::LogQuery;
use upbeat_model::project::container::ImageRef;
use upbeat_model::{Edit, Service, SlotId, device};

use crate::compat::guide::Guide;
use crate::exec::Running;
use crate::rollouts::Rollouts;

/// A stream that ends when its source does, or when the client goes.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// An answer, or a problem with its status code.
pub type Answer<T> = Result<T, Problem>;

/// What a probe said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Yes.
    pub healthy: bool,
    /// What was answered, in one line.
    pub message: String,
    /// It could not be asked, for a lack of something here: no word about the service, and no yes.
    pub unasked: bool,
}

/// Everything a request can ask of the daemon. One implementation in the binary, one in tests.
pub trait Backend: Clone + Send + Sync + 'static {
    /// A change that was recorded and is not answered yet.
    type Ticket: Send + 'static;
    /// Who keeps rollouts.
    type Rollouts: Rollouts;

    /// Whose token this is, and what it allows. Errors: `unauthorized`, without the token.
    fn authenticate(&self, token: &str) -> impl Future<Output = Answer<(TokenName, Role)>> + Send;
    /// A change is about to be made; its record is kept when this answers. Errors: it is not, and the
    /// change may not be made; with [`Need::Anyway`] only where the log itself is broken, and not the disk.
    fn asked(&self, asked: Asked, need: Need) -> impl Future<Output = Answer<Self::Ticket>> + Send;
    /// What came of it.
    fn answered(
        &self,
        ticket: Self::Ticket,
        status: u16,
        operation: Option<OperationId>,
    ) -> impl Future<Output = ()> + Send;
    /// Somebody was turned away. Never waits.
    fn refused(&self, refused: Refused, whom: Whom);
    /// Who answers.
    fn version(&self) -> Version;
    /// One line an app.
    fn apps(&self) -> impl Future<Output = Answer<Vec<AppSummary>>> + Send;
    /// One app, whole.
    fn app(&self, app: AppName) -> impl Future<Output = Answer<App>> + Send;
    /// The app now, and again whenever it changes (coalesced); ends when the app is gone.
    fn watch(&self, app: AppName) -> impl Future<Output = Answer<BoxStream<App>>> + Send;
    /// Make a project run.
    fn up(&self, app: AppName, up: Up, origin: Origin) -> impl Future<Output = Answer<Operation>> + Send;
    /// Removes the volumes that were made for an app. Errors: it is there; one of them is used.
    fn remove_volumes(&self, app: AppName) -> impl Future<Output = Answer<RemovedVolumes>> + Send;
    /// Removes the networks that were made for an app. Errors: it is there.
    fn remove_networks(&self, app: AppName) -> impl Future<Output = Answer<RemovedNetworks>> + Send;
    /// What [`Backend::up`] would do.
    fn plan(&self, app: AppName, up: Up, query: PlanQuery) -> impl Future<Output = Answer<Plan>> + Send;
    /// Change what runs.
    fn act(
        &self,
        app: AppName,
        action: Action,
        origin: Origin,
    ) -> impl Future<Output = Answer<Operation>> + Send;
    /// Run a command beside a copy of a service.
    fn exec(
        &self,
        app: AppName,
        service: ServiceName,
        exec: Exec,
    ) -> impl Future<Output = Answer<Running>> + Send;
    /// The streams of a copy of a service that runs.
    fn attach(
        &self,
        app: AppName,
        service: ServiceName,
        attach: Attach,
    ) -> impl Future<Output = Answer<Running>> + Send;
    /// Declare services of an app one by one, and run some.
    fn edit(
        &self,
        app: AppName,
        edit: Edit,
        origin: Origin,
    ) -> impl Future<Output = Answer<Operation>> + Send;
    /// Ask a service's readiness probe, now and once, whether it runs or not.
    fn check(&self, slot: SlotId, service: Arc<Service>) -> impl Future<Output = Answer<Checked>> + Send;
    /// Where and how the services of the guide are run.
    fn guide(&self) -> &Guide;
    /// Rollouts of anything that has a version.
    fn rollouts(&self) -> &Self::Rollouts;
    /// Stop everything of an app and forget it.
    fn down(
        &self,
        app: AppName,
        kill: bool,
        origin: Origin,
    ) -> impl Future<Output = Answer<Operation>> + Send;
    /// How every app is held, for the device document.
    fn device(&self) -> impl Future<Output = Answer<device::State>> + Send;
    /// The same now, and again whenever it changes (coalesced).
    fn watch_device(&self) -> impl Future<Output = Answer<BoxStream<device::State>>> + Send;
    /// Begins these changes, keys of registries first, then one app after the other, and an operation for each of
    /// these. What was queued is called off. Errors: none of them is begun, as one cannot be; or, where that is found
    /// out by the doing, it says which were.
    fn seek(
        &self,
        changes: device::Changes,
        origin: Origin,
    ) -> impl Future<Output = Answer<Vec<Operation>>> + Send;
    /// Calls off what is sought of all apps and was not reached, and what is queued: an operation for each app of which
    /// something can be, and the others that go on. Errors: as of [`Backend::seek`].
    fn stop_seeking(
        &self,
        origin: Origin,
    ) -> impl Future<Output = Answer<(Vec<Operation>, Vec<AppName>)>> + Send;
    /// Has this wait until nothing is on its way any more, in the place of what was queued; `changes` is what would
    /// come of it now. Errors: as that could not be.
    fn queue(
        &self,
        request: device::Request,
        changes: device::Changes,
        origin: Origin,
    ) -> impl Future<Output = Answer<()>> + Send;
    /// An operation, at once.
    fn operation(&self, id: OperationId) -> impl Future<Output = Answer<Operation>> + Send;
    /// An operation, now and whenever it changes; ends when it has ended.
    fn watch_operation(&self, id: OperationId) -> impl Future<Output = Answer<BoxStream<Operation>>> + Send;
    /// Why a service is as it is.
    fn why(&self, app: AppName, service: ServiceName) -> impl Future<Output = Answer<Why>> + Send;
    /// Events after a sequence number, oldest first, at most `limit`.
    fn events(
        &self,
        wanted: EventFilter,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Answer<Vec<Event>>> + Send;
    /// Events after a sequence number and then as they come. After a problem there are no more.
    fn watch_events(
        &self,
        wanted: EventFilter,
        after: u64,
    ) -> impl Future<Output = Answer<BoxStream<Answer<Event>>>> + Send;
    /// What each slot of an app uses.
    fn stats(&self, app: AppName) -> impl Future<Output = Answer<Stats>> + Send;
    /// What each slot of an app uses, again and again; ends when the app is gone.
    fn watch_stats(&self, app: AppName) -> impl Future<Output = Answer<BoxStream<Stats>>> + Send;
    /// How far the last start of each slot of an app came.
    fn starts(&self, app: AppName) -> impl Future<Output = Answer<Starts>> + Send;
    /// All numbers, in Prometheus' text format.
    fn metrics(&self) -> impl Future<Output = Answer<Bytes>> + Send;
    /// Lines of output, by time. After a problem there are no more.
    fn logs(
        &self,
        app: AppName,
        query: LogQuery,
    ) -> impl Future<Output = Answer<BoxStream<Answer<LogLine>>>> + Send;
    /// Whether an image is there.
    fn image(&self, name: ImageRef) -> impl Future<Output = Answer<ImageState>> + Send;
    /// Build an image of a context: the parts of a tar, taken as fast as they are used. Answers when all of them were
    /// taken; the build ends with the stream of what is told of it. After a problem there is no more.
    fn build(
        &self,
        wanted: ImageBuild,
        context: BoxStream<Result<Bytes, BoxError>>,
    ) -> impl Future<Output = Answer<BoxStream<Answer<BuildWord>>>> + Send;
    /// Every webhook, and how it goes.
    fn webhooks(&self) -> impl Future<Output = Answer<Vec<WebhookState>>> + Send;
    /// Sends a webhook's receiver a test, and says what came back.
    fn test_webhook(&self, name: WebhookName) -> impl Future<Output = Answer<WebhookTested>> + Send;
    /// Every token, but for the tokens themselves.
    fn tokens(&self) -> impl Future<Output = Answer<Vec<TokenInfo>>> + Send;
    /// Makes a token, for whom it says.
    fn create_token(&self, new: NewToken, by: String) -> impl Future<Output = Answer<IssuedToken>> + Send;
    /// Lets a token in no more.
    fn revoke_token(&self, name: TokenName) -> impl Future<Output = Answer<()>> + Send;
    /// Records of who changed what, oldest first, at most `limit`.
    fn audit(&self, query: AuditQuery, limit: usize)
    -> impl Future<Output = Answer<Vec<AuditRecord>>> + Send;
    /// Looks at every record.
    fn verify_audit(&self) -> impl Future<Output = Answer<AuditVerdict>> + Send;
}

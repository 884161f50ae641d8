//! What an engine keeps of an app that is down: its volumes, and networks that others are in.

use axum::extract::State;
use upbeat_api::{AppName, Endpoint, Need, RemovedNetworks, RemovedVolumes};

use crate::access::{self, Change};
use crate::backend::Backend;
use crate::extract::{By, Path, Query};
use crate::handlers::{Here, NoQuery, Reply};

pub(crate) async fn remove_volumes<B: Backend>(
    State(here): Here<B>,
    by: By,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
) -> Reply<RemovedVolumes> {
    let what = "remove its volumes".to_owned();
    let change =
        Change { endpoint: Endpoint::RemoveVolumes, app: Some(app.clone()), what, need: Need::Recorded };
    let backend = here.backend.clone();
    access::changed(here, by.caller, change, async move { backend.remove_volumes(app).await }).await
}

pub(crate) async fn remove_networks<B: Backend>(
    State(here): Here<B>,
    by: By,
    Path(app): Path<AppName>,
    _: Query<NoQuery>,
) -> Reply<RemovedNetworks> {
    let what = "remove its networks".to_owned();
    let change =
        Change { endpoint: Endpoint::RemoveNetworks, app: Some(app.clone()), what, need: Need::Recorded };
    let backend = here.backend.clone();
    access::changed(here, by.caller, change, async move { backend.remove_networks(app).await }).await
}

//! The client's part that asks for the device document.

use serde_json::Value;
use upbeat_model::AppName;
use upbeat_model::device::{Device, DeviceApp, DeviceChanged};

use crate::client::{Answer, Client, Updates};
use crate::decode::Decoder;
use crate::endpoint::Endpoint;
use crate::types::SeekQuery;

impl Client {
    /// The device document.
    pub async fn device(&self) -> Answer<Device> {
        self.answer(self.request(Endpoint::Device, &[], &[])).await
    }

    /// One app of it.
    pub async fn device_app(&self, app: &AppName) -> Answer<DeviceApp> {
        self.answer(self.request(Endpoint::DeviceApp, &[app.as_str()], &[])).await
    }

    /// The document now, and again whenever it changes.
    pub async fn watch_device(&self) -> Answer<Updates<Device>> {
        self.updates(self.request(Endpoint::WatchDevice, &[], &[]), Decoder::events()).await
    }

    /// Says all of it, or of an app: what is not named goes.
    pub async fn set_device(
        &self,
        app: Option<&AppName>,
        document: &Value,
        how: &SeekQuery,
    ) -> Answer<DeviceChanged> {
        self.seek(app, [Endpoint::SetDevice, Endpoint::SetDeviceApp], document, how).await
    }

    /// Says some of it, or of an app, as a merge patch: what is not named stays.
    pub async fn merge_device(
        &self,
        app: Option<&AppName>,
        document: &Value,
        how: &SeekQuery,
    ) -> Answer<DeviceChanged> {
        self.seek(app, [Endpoint::MergeDevice, Endpoint::MergeDeviceApp], document, how).await
    }

    /// Calls off what is sought and was not reached.
    pub async fn stop_seeking(&self) -> Answer<DeviceChanged> {
        self.answer(self.request(Endpoint::StopSeeking, &[], &[])).await
    }

    async fn seek(
        &self,
        app: Option<&AppName>,
        [of_all, of_app]: [Endpoint; 2],
        document: &Value,
        SeekQuery { cancel, force }: &SeekQuery,
    ) -> Answer<DeviceChanged> {
        let said = [("cancel", cancel), ("force", force)];
        let query: Vec<_> =
            said.into_iter().filter_map(|(key, value)| Some((key, (*value)?.to_string()))).collect();
        let request = match app {
            Some(app) => self.request(of_app, &[app.as_str()], &query),
            None => self.request(of_all, &[], &query),
        };
        self.answer(self.with_body(request, document)?).await
    }
}

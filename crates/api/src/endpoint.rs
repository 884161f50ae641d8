//! The table of the native API: what can be asked, how, and where.
//!
//! The client, the server's router, its doorkeeper and the OpenAPI document all read this one table,
//! so none of them can know a route the others do not, and there is none without a least role.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use upbeat_model::Role;

/// The HTTP method of an [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `DELETE`
    Delete,
    /// `GET`
    Get,
    /// `PATCH`
    Patch,
    /// `POST`
    Post,
    /// `PUT`
    Put,
}

impl Method {
    /// As it stands in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

macro_rules! endpoints {
    ($(#[doc = $summary:literal] $name:ident: $role:ident $method:ident $path:literal,)*) => {
        /// One thing that can be asked of the daemon.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Endpoint {
            $(#[doc = $summary] $name,)*
        }

        impl Endpoint {
            /// All of them, in the order of the document.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The method it is asked with.
            pub const fn method(self) -> Method {
                match self { $(Self::$name => Method::$method,)* }
            }

            /// The least somebody has to be to ask it.
            pub const fn role(self) -> Role {
                match self { $(Self::$name => Role::$role,)* }
            }

            /// Its path, with `{name}` for each parameter.
            pub const fn path(self) -> &'static str {
                match self { $(Self::$name => $path,)* }
            }

            /// What it does, in one sentence.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }

            /// Its name: the identity of the operation in the document.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

endpoints! {
    /// Who answers.
    Version: Viewer Get "/api/v1/version",
    /// This description.
    OpenApi: Viewer Get "/api/v1/openapi.json",
    /// Every app, one line each.
    Apps: Viewer Get "/api/v1/apps",
    /// One app, whole.
    App: Viewer Get "/api/v1/apps/{app}",
    /// One app now, and again whenever it changes; ends when the app is gone.
    WatchApp: Viewer Get "/api/v1/apps/{app}/watch",
    /// Make a project run.
    Up: Operator Put "/api/v1/apps/{app}",
    /// What making a project run would do.
    Plan: Operator Post "/api/v1/apps/{app}/plan",
    /// Change what runs of an app.
    Act: Operator Post "/api/v1/apps/{app}/actions",
    /// Run a command beside a copy of a service, and speak with it: `Upgrade: upbeat-exec/1`.
    Exec: Operator Post "/api/v1/apps/{app}/services/{service}/exec",
    /// Speak with the main process of a copy of a service: `Upgrade: upbeat-exec/1`.
    Attach: Operator Post "/api/v1/apps/{app}/services/{service}/attach",
    /// Stop everything of an app and forget it.
    Down: Operator Delete "/api/v1/apps/{app}",
    /// Remove the volumes that were made for an app, which is down, and what is in them.
    RemoveVolumes: Operator Delete "/api/v1/apps/{app}/volumes",
    /// Remove the networks that were made for an app, which is down.
    RemoveNetworks: Operator Delete "/api/v1/apps/{app}/networks",
    /// The device document: every app, its release, and its services; `wait`: once nothing is on its way any more.
    Device: Viewer Get "/api/v1/device",
    /// The device document now, and again whenever it changes.
    WatchDevice: Viewer Get "/api/v1/device/watch",
    /// Say all of the device document: what it does not name goes.
    SetDevice: Operator Put "/api/v1/device",
    /// Say some of the device document, as a JSON merge patch: what it does not name stays, `null` goes.
    MergeDevice: Operator Patch "/api/v1/device",
    /// Call off what is sought and was not reached: nothing further is begun for it.
    StopSeeking: Operator Post "/api/v1/device/stop",
    /// One app of the device document.
    DeviceApp: Viewer Get "/api/v1/device/apps/{app}",
    /// Say all of an app of the device document.
    SetDeviceApp: Operator Put "/api/v1/device/apps/{app}",
    /// Say some of an app of the device document, as a JSON merge patch.
    MergeDeviceApp: Operator Patch "/api/v1/device/apps/{app}",
    /// Take an app out of the device document: all of it goes.
    RemoveDeviceApp: Operator Delete "/api/v1/device/apps/{app}",
    /// One operation, as it is.
    Operation: Viewer Get "/api/v1/operations/{id}",
    /// One operation now, and again whenever it changes; ends when the operation has ended.
    WatchOperation: Viewer Get "/api/v1/operations/{id}/watch",
    /// Why a service is as it is.
    Why: Viewer Get "/api/v1/apps/{app}/services/{service}/why",
    /// Events after a sequence number, oldest first.
    Events: Viewer Get "/api/v1/events",
    /// Events after a sequence number, and then as they come.
    WatchEvents: Viewer Get "/api/v1/events/watch",
    /// What each slot of an app uses; takes about a second.
    Stats: Viewer Get "/api/v1/apps/{app}/stats",
    /// What each slot of an app uses, once a second; ends when the app is gone.
    WatchStats: Viewer Get "/api/v1/apps/{app}/stats/watch",
    /// How far the last start of each slot of an app came, and when.
    Starts: Viewer Get "/api/v1/apps/{app}/starts",
    /// Numbers about slots and the daemon, for Prometheus.
    Metrics: Viewer Get "/metrics",
    /// Lines of output, by time.
    Logs: Viewer Get "/api/v1/apps/{app}/logs",
    /// The rollouts of a namespace, or all, a page at a time: each entity, and where it is.
    Rollouts: Viewer Get "/api/v1/rollouts",
    /// One entity, and where it is.
    Rollout: Viewer Get "/api/v1/rollouts/{namespace}/{entity}",
    /// One entity now, and again whenever it changes; ends when it is forgotten.
    WatchRollout: Viewer Get "/api/v1/rollouts/{namespace}/{entity}/watch",
    /// The rollouts of an entity that have ended, the latest first.
    RolloutHistory: Viewer Get "/api/v1/rollouts/{namespace}/{entity}/history",
    /// The targets of an entity: what each runs, and what each shall run.
    RolloutTargets: Viewer Get "/api/v1/rollouts/{namespace}/{entity}/targets",
    /// Say what targets of an entity run, and hear what each shall run.
    ReportTargets: Operator Post "/api/v1/rollouts/{namespace}/{entity}/reports",
    /// Ask something of an entity: another version, other options, a pause.
    ActOnRollout: Operator Post "/api/v1/rollouts/{namespace}/{entity}/actions",
    /// Say whom an entity asks, in the place of all it asked so far.
    SetControllers: Operator Put "/api/v1/rollouts/{namespace}/{entity}/controllers",
    /// Forget an entity and all that is known of it.
    ForgetRollout: Operator Delete "/api/v1/rollouts/{namespace}/{entity}",
    /// The units of a namespace, or all, a page at a time: entities that go to new versions as one.
    RolloutUnits: Viewer Get "/api/v1/rollout-units",
    /// One unit, and where it is.
    RolloutUnit: Viewer Get "/api/v1/rollout-units/{namespace}/{unit}",
    /// One unit now, and again whenever it or one of its members changes; ends when it is forgotten.
    WatchRolloutUnit: Viewer Get "/api/v1/rollout-units/{namespace}/{unit}/watch",
    /// Have several entities go to new versions as one. Asked for twice, it is the same unit.
    StartRolloutUnit: Operator Put "/api/v1/rollout-units/{namespace}/{unit}",
    /// Ask something of a unit: to go back, to be good, a pause.
    ActOnRolloutUnit: Operator Post "/api/v1/rollout-units/{namespace}/{unit}/actions",
    /// Forget a unit, wherever it is. Its members stay where they are, and each goes its own way.
    ForgetRolloutUnit: Operator Delete "/api/v1/rollout-units/{namespace}/{unit}",
    /// Whether an image is there.
    Image: Viewer Get "/api/v1/images",
    /// Build an image of a context, and hear how that goes; called off when nobody hears it any more.
    BuildImage: Operator Post "/api/v1/images/build",
    /// Every webhook, and how it goes.
    Webhooks: Viewer Get "/api/v1/webhooks",
    /// Send a webhook's receiver a test, now, and hear what came back.
    TestWebhook: Operator Post "/api/v1/webhooks/{webhook}/test",
    /// Every token, but for the tokens themselves.
    Tokens: Admin Get "/api/v1/tokens",
    /// Make a token. The answer is the only one that holds it.
    CreateToken: Admin Post "/api/v1/tokens",
    /// Let a token in no more.
    RevokeToken: Admin Delete "/api/v1/tokens/{name}",
    /// Records of who changed what, after a sequence number, oldest first.
    Audit: Admin Get "/api/v1/audit",
    /// Look at every record and say whether all are as they were written.
    VerifyAudit: Admin Get "/api/v1/audit/verify",
}

impl Endpoint {
    /// The names of its path's parameters, in order.
    pub fn parameters(self) -> impl Iterator<Item = &'static str> {
        self.path().split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Its path with these values for the parameters, in order. A value may be any text.
    pub(crate) fn path_with(self, values: &[&str]) -> String {
        debug_assert_eq!(self.parameters().count(), values.len(), "{self:?}");
        let mut values = values.iter();
        let parts: Vec<String> = self
            .path()
            .split('/')
            .map(|part| match part.starts_with('{') {
                true => escaped(values.next().copied().unwrap_or_default()),
                false => part.to_owned(),
            })
            .collect();
        parts.join("/")
    }
}

/// What a URL says as it stands, wherever in it. The comma parts the names of a list in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b',');

/// A text as it stands in a path or a query: whatever would end it there is written as `%2F`.
pub(crate) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_one_segment_of_a_path() {
        for (values, path) in [
            (["prod", "web-1.2_x~"], "/api/v1/rollouts/prod/web-1.2_x~"),
            (["a/b", "c?d#e%2F"], "/api/v1/rollouts/a%2Fb/c%3Fd%23e%252F"),
            (["größe", "x y&z=1"], "/api/v1/rollouts/gr%C3%B6%C3%9Fe/x%20y%26z%3D1"),
        ] {
            assert_eq!(Endpoint::Rollout.path_with(&values), path);
        }
    }
}

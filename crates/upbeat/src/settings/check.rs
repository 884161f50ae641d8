//! What makes no sense together, or is not offered yet.

use clap::ValueEnum;
use upbeat_drivers::controllers::{Allowed, NotAllowed};
use upbeat_model::Diagnostic;

use super::{Settings, Source, webhooks};
use crate::face::visible;
use crate::logging::LogFormat;

/// An error that stands in no file; its message says where it came from.
pub(super) fn nowhere(message: String, hint: Option<String>) -> Diagnostic {
    let file = String::new();
    Diagnostic { file, span: 0..0, line: 1, column: 1, message, label: None, hint, trace: Vec::new() }
}

/// Everything of that kind.
pub(super) fn all(settings: &Settings) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let api = &settings.api;
    if let Some(missing) = match (&api.tls_cert, &api.tls_key) {
        (Some(_), None) => Some(("tls_cert", "tls_key")),
        (None, Some(_)) => Some(("tls_key", "tls_cert")),
        _ => None,
    } {
        let (given, missing) = missing;
        let message =
            format!("`api.{given}` is set ({}), and `api.{missing}` is not", settings.source(given));
        found.push(nowhere(message, Some("a certificate and its key are of use only together".to_owned())));
    }
    if let Some(listen) = api.listen
        && !listen.ip().is_loopback()
        && api.tls_cert.is_none()
        && api.tls_key.is_none()
    {
        let source = settings.source("listen");
        let message = format!(
            "`api.listen` ({source}) is `{listen}`, which others can reach, and there is no certificate: tokens \
             would be sent in the clear"
        );
        let hint = "set `api.tls_cert` and `api.tls_key`, or listen on 127.0.0.1 and let a proxy speak TLS";
        found.push(nowhere(message, Some(hint.to_owned())));
    }
    found.extend(api.allowed_hosts.iter().filter_map(|host| not_a_host(host, settings)));
    found.extend(log(settings));
    found.extend(rollouts(settings));
    found.extend(webhooks::all(settings));
    found
}

/// Whom nobody could come in by, and whom nobody could ask.
fn rollouts(settings: &Settings) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let source = |name: &str| settings.shown(name).map_or(&Source::Default, |shown| &shown.source);
    if let Some(listen) = settings.rollouts.listen.filter(|listen| !listen.ip().is_loopback()) {
        let source = source("rollouts.listen");
        let message = format!(
            "`rollouts.listen` ({source}) is `{listen}`, which others can reach, and nobody is asked for a token \
             there"
        );
        let hint =
            "listen on 127.0.0.1 or [::1]; from elsewhere, rollouts are asked with a token at `api.listen`";
        found.push(nowhere(message, Some(hint.to_owned())));
    }
    for entry in &settings.rollouts.callbacks {
        if let Err(NotAllowed { entry, problem }) = entry.parse::<Allowed>() {
            let source = source("rollouts.callbacks");
            let message =
                format!("`rollouts.callbacks` ({source}) holds `{}`, which {problem}", visible(&entry));
            let hint = "write names, `*.example.com`, addresses or networks such as `10.0.0.0/8`";
            found.push(nowhere(message, Some(hint.to_owned())));
        }
    }
    found
}

/// One that no request would ever be addressed to.
fn not_a_host(host: &str, settings: &Settings) -> Option<Diagnostic> {
    if upbeat_server::is_host(host) {
        return None;
    }
    let source = settings.source("allowed_hosts");
    let message = format!("`api.allowed_hosts` ({source}) holds `{}`, which names no host", visible(host));
    let hint = "write names such as `upbeat.example`, or addresses, without a port: each port is meant";
    Some(nowhere(message, Some(hint.to_owned())))
}

/// What is wrong with where the daemon's own messages are to go, and how.
fn log(settings: &Settings) -> Option<Diagnostic> {
    let format = settings.shown("log.format")?;
    let known = format.value.text().is_none_or(|text| LogFormat::from_str(text, false).is_ok());
    if !known {
        let formats: Vec<String> = LogFormat::value_variants()
            .iter()
            .filter_map(|format| Some(format!("`{}`", format.to_possible_value()?.get_name())))
            .collect();
        let message = format!("`log.format = {}` ({}) is no format of a log", format.value, format.source);
        return Some(nowhere(message, Some(format!("it can be {}", formats.join(", ")))));
    }
    let error = settings.log.check().err()?;
    let target = settings.shown("log.target").filter(|shown| shown.value.text().is_some());
    let source = &target.unwrap_or(format).source;
    Some(nowhere(format!("{error} ({source})"), Some(error.hint())))
}

//! What webhooks need of the machine: their secrets, and requests to their receivers.
//!
//! Receivers are reached as controllers of rollouts are: by the same allow-list, which judges the address that is
//! connected to, and within the same time. No redirect is followed, as what was signed is for whom the settings
//! name.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use upbeat_model::Millis;

use crate::controllers::web::{Asked, Network, Web};
use crate::controllers::{Means, QUESTION_TIME};
use crate::probe::address::Names;
use crate::probe::tls::Trust;
use crate::probe::words;

/// Two secrets are some hundred bytes; what is longer is another file.
const SECRET_FILE_MAX: u64 = 4096;

/// Reads secrets and sends requests. All is used in one runtime.
pub struct Sender {
    web: Web,
}

impl Sender {
    /// With these means, of which it needs no environment.
    pub fn new(means: Means) -> Self {
        Self::over(means, Arc::new(Names::new()))
    }

    fn over(means: Means, network: Arc<dyn Network>) -> Self {
        let Means { policy, ca, .. } = means;
        Self { web: Web { policy, ca, trust: Trust::new(None), network } }
    }

    /// Posts JSON, with these headers besides; the status of the answer. Ends within [`QUESTION_TIME`].
    ///
    /// Errors: why there is no answer, in one short line without the address.
    pub async fn post(
        &self,
        url: &str,
        headers: &BTreeMap<String, String>,
        body: &[u8],
    ) -> Result<u16, String> {
        let asked = Asked { method: "POST", headers, body };
        let answer = tokio::time::timeout(QUESTION_TIME, self.web.status(url, &asked)).await;
        let patience = Millis(u64::try_from(QUESTION_TIME.as_millis()).unwrap_or(u64::MAX));
        let answer = answer.unwrap_or_else(|_| Err(format!("timed out after {patience}")));
        answer.map_err(|why| words::shown(&why))
    }
}

/// The text of a file of secrets, as it is now. Never waits.
///
/// Errors, in words, without a word of it: it cannot be read, is no such file, or others than its owner could
/// read or change it.
pub fn secrets(file: &Path) -> Result<String, String> {
    let said = |error: std::io::Error| words::said(&error);
    let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(file).map_err(said)?;
    // Of what was opened, whatever the name stands for by now.
    let found = opened.metadata().map_err(said)?;
    if !found.is_file() {
        return Err("it is not a regular file".into());
    }
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("others than its owner may use it (mode {mode:04o}): `chmod 600` it"));
    }
    let mut bytes = Vec::new();
    opened.take(SECRET_FILE_MAX + 1).read_to_end(&mut bytes).map_err(said)?;
    if bytes.len() as u64 > SECRET_FILE_MAX {
        return Err(format!("it is longer than {}", words::bytes(SECRET_FILE_MAX)));
    }
    String::from_utf8(bytes).map_err(|_| "it is not text".into())
}

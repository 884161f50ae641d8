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
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::OFlags;
use upbeat_model::Millis;

use crate::controllers::web::{Asked, Network, Web};
use crate::controllers::{Means, QUESTION_TIME};
use crate::looks::Looks;
use crate::probe::address::Names;
use crate::probe::tls::Trust;
use crate::probe::words;

/// Two secrets are some hundred bytes; what is longer is another file.
const SECRET_FILE_MAX: u64 = 4096;

/// A file of secrets is read within this. It may be on a disk that has to wake up, or on another machine; with a
/// request after it, it is over before a client of ours gives up that waits for a test.
pub const SECRET_TIME: Duration = QUESTION_TIME;

/// Reads secrets and sends requests. All is used in one runtime.
pub struct Sender {
    web: Web,
    /// Files of secrets, by their paths.
    files: Looks<PathBuf, Result<String, String>>,
}

impl Sender {
    /// With these means, of which it needs no environment.
    pub fn new(means: Means) -> Self {
        Self::over(means, Arc::new(Names::new()))
    }

    fn over(means: Means, network: Arc<dyn Network>) -> Self {
        let Means { policy, ca, .. } = means;
        let web = Web { policy, ca, trust: Trust::new(None), network };
        Self { web, files: Looks::new() }
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
        let answer = answer.unwrap_or_else(|_| Err(too_late(QUESTION_TIME)));
        answer.map_err(|why| words::shown(&why))
    }

    /// The text of a file of secrets, as it is now. It may be on a disk that hangs: it is read on a thread of its
    /// own, and this ends within [`SECRET_TIME`].
    ///
    /// Errors, in words, without a word of it: it cannot be read in time, is no such file, or others than its owner
    /// could read or change it.
    pub async fn secrets(&self, file: &Path) -> Result<String, String> {
        self.secrets_by(file, read_secrets).await
    }

    async fn secrets_by(
        &self,
        file: &Path,
        read: impl FnOnce(&Path) -> Result<String, String> + Send + 'static,
    ) -> Result<String, String> {
        let path = file.to_owned();
        let seen = self.files.at(file.to_owned(), move || read(&path));
        match tokio::time::timeout(SECRET_TIME, seen).await {
            Ok(seen) => seen.unwrap_or_else(|| Err("the daemon ends".into())),
            Err(_) => Err(too_late(SECRET_TIME)),
        }
    }
}

fn too_late(patience: Duration) -> String {
    format!("timed out after {}", Millis(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)))
}

/// As long as the disk likes.
fn read_secrets(file: &Path) -> Result<String, String> {
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

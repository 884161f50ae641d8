//! What proves who this server is, and keeps what is said secret.
//!
//! rustls with *ring*: no OpenSSL, and nothing but a C compiler to build it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate and its key, ready for use.
#[derive(Clone)]
pub struct Tls(pub(crate) Arc<ServerConfig>);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read as what it should be.
    #[error("`{}` cannot be used: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// They do not belong together.
    #[error("`{}` and `{}` cannot be used together: {why}", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why not.
        why: String,
    },
}

impl Tls {
    /// Reads a chain of certificates and its key, both PEM. Errors: which file is why of no use.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let refused = |path: &Path| {
            let path = path.to_path_buf();
            move |why: String| TlsError::File { path, why }
        };
        let read = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = read.map_err(|error| refused(cert)(error.to_string()))?;
        if chain.is_empty() {
            return Err(refused(cert)("there is no certificate in it".to_owned()));
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| refused(key)(error.to_string()))?;
        let together = |error: rustls::Error| TlsError::Pair {
            cert: cert.to_path_buf(),
            key: key.to_path_buf(),
            why: error.to_string(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(together)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(together)?;
        Ok(Self(Arc::new(config)))
    }
}

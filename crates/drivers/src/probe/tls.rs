//! TLS: who is believed, and what is wrong with a certificate, in words.
//!
//! Believed are the certificates this machine believes, as operators expect of a program that runs on
//! it, or those a probe names. No session is taken up again: that would skip the certificate, and an
//! expired one is among the things a probe is for.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_native_certs::ErrorKind;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use upbeat_model::project::Tls;

use super::words::{self, No};
use crate::looks::Looks;

/// Settings are made anew after so long, so that a certificate that is installed while the daemon runs
/// is believed.
const SETTINGS_AGE: Duration = Duration::from_secs(600);

/// Different settings of one file are a handful; of more than so many all are made anew.
const SETTINGS_MAX: usize = 256;

/// What settings are made of.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Of {
    ca: Option<String>,
    insecure: bool,
    protocol: Option<&'static [u8]>,
}

/// Who is believed.
pub(crate) struct Trust {
    /// Where a person names whom else to believe, for words to them: `tls: { ca_file: … }`.
    named_in: Option<&'static str>,
    made: Mutex<HashMap<Of, (Instant, Arc<ClientConfig>)>>,
    machine: Looks<(), Result<Arc<RootCertStore>, No>>,
}

impl Trust {
    /// Where whom to believe is named, if anywhere.
    pub(crate) fn new(named_in: Option<&'static str>) -> Self {
        Self { named_in, made: Mutex::default(), machine: Looks::new() }
    }

    /// The settings for a connection, the same ones as long as they are not too old. `protocol`: what
    /// is to be spoken over it, where the other end has to be told.
    ///
    /// Errors, in words: there is nobody to believe.
    pub(crate) async fn config(
        &self,
        tls: &Tls,
        protocol: Option<&'static [u8]>,
    ) -> Result<Arc<ClientConfig>, No> {
        let of = Of { ca: tls.ca.clone(), insecure: tls.insecure, protocol };
        // Every change is one call: nothing is half-done after a panic.
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, config)) = made().get(&of)
            && at.elapsed() < SETTINGS_AGE
        {
            return Ok(config.clone());
        }
        let roots = match &tls.ca {
            _ if tls.insecure => None,
            Some(ca) => Some(Arc::new(named(ca)?)),
            None => {
                let named_in = self.named_in;
                let seen = self.machine.at((), move || of_machine(named_in)).await;
                Some(seen.unwrap_or_else(|| Err("the daemon ends".into()))?)
            }
        };
        let config = Arc::new(config(roots, protocol)?);
        let mut made = made();
        if made.len() >= SETTINGS_MAX {
            made.clear();
        }
        made.insert(of, (Instant::now(), config.clone()));
        Ok(config)
    }

    /// Over a connection. `name`: what the other end's certificate must be for.
    ///
    /// Errors, in words: what is wrong with it.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        config: Arc<ClientConfig>,
        name: &str,
        stream: S,
    ) -> Result<TlsStream<S>, String> {
        let server = ServerName::try_from(name.to_owned());
        let server = server.map_err(|_| format!("`{name}` is no name a certificate could have"))?;
        let connected = TlsConnector::from(config).connect(server, stream).await;
        connected.map_err(|error| failed(&error, name, self.named_in))
    }
}

fn named(ca: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|_| "its `ca_file` is not PEM".to_owned())?;
        roots.add(certificate).map_err(|_| "its `ca_file` holds what is no certificate".to_owned())?;
    }
    if roots.is_empty() { Err("its `ca_file` holds no certificate".into()) } else { Ok(roots) }
}

/// Reads files: some hundred certificates.
fn of_machine(named_in: Option<&str>) -> Result<Arc<RootCertStore>, No> {
    let loaded = rustls_native_certs::load_native_certs();
    // Those that were read are not all there are.
    let wanting = loaded.errors.iter().find_map(|error| match &error.kind {
        ErrorKind::Io { inner, .. } if words::is_out_of_files(inner) => Some(words::error(inner)),
        _ => None,
    });
    if let Some(unasked) = wanting {
        return Err(unasked);
    }
    let mut roots = RootCertStore::empty();
    // One that nobody can read is no reason to believe none.
    roots.add_parsable_certificates(loaded.certs);
    match roots.is_empty() {
        true => {
            let named = named_in.map(|place| format!("name one in `{place}`, or ")).unwrap_or_default();
            let none = "this machine has no certificates to believe";
            Err(format!("{none}: {named}install `ca-certificates`").into())
        }
        false => Ok(Arc::new(roots)),
    }
}

fn config(
    roots: Option<Arc<RootCertStore>>,
    protocol: Option<&'static [u8]>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(roots),
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
    };
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocol.into_iter().map(<[u8]>::to_vec).collect();
    Ok(config)
}

/// Believes whoever answers, as `insecure` says. What they sign must still be signed by them.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn failed(error: &io::Error, name: &str, named_in: Option<&str>) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed the connection while TLS was agreed upon".into(),
            _ => words::said(error),
        };
    };
    match inner {
        rustls::Error::InvalidCertificate(wrong) => certificate(wrong, name, named_in),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".into(),
        rustls::Error::AlertReceived(alert) => format!("it refused TLS: {alert:?}"),
        other => format!("TLS failed: {other}"),
    }
}

fn certificate(wrong: &CertificateError, name: &str, named_in: Option<&str>) -> String {
    match wrong {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".into()
        }
        // Somebody else of the same name signed it.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            let named = named_in.map(|place| format!(": name it in `{place}`")).unwrap_or_default();
            format!("its certificate is from an issuer that is not believed{named}")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is not for `{name}`")
        }
        CertificateError::Revoked => "its certificate was revoked".into(),
        other => format!("its certificate is not accepted: {other}"),
    }
}

//! The way to a daemon: its socket on this machine, or TCP, with TLS beyond it.
//!
//! A token is sent only to who is on this machine or has proved by a certificate who it is.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::error::{ClientError, TlsError};

/// A daemon elsewhere, and who asks it.
#[derive(Clone)]
pub struct Remote {
    /// `https://host:port`, or `http://` where it is this machine.
    pub url: String,
    /// What says who asks.
    pub token: Option<String>,
    /// Certificates (PEM) to trust instead of those the machine does.
    pub ca: Option<PathBuf>,
}

/// Without the token.
impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).field("ca", &self.ca).finish_non_exhaustive()
    }
}

/// How a daemon is reached.
pub(crate) enum Way {
    Unix(PathBuf),
    Tcp { host: String, port: u16, tls: Option<(TlsConnector, ServerName<'static>)> },
}

/// What a request is sent with.
pub(crate) trait Sent:
    Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static
{
}

impl<B> Sent for B where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static
{
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Way {
    /// To a daemon elsewhere. Errors: the address or a certificate cannot be used.
    pub(crate) fn to(remote: &Remote) -> Result<Self, ClientError> {
        let refuse = |why: &str| ClientError::BadAddress { what: remote.url.clone(), why: why.to_owned() };
        let (is_secure, authority) = match remote.url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(refuse("it has to begin with `https://`, or on this machine with `http://`")),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let authority: hyper::http::uri::Authority =
            authority.parse().map_err(|_| refuse("expected `https://HOST:PORT`"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("it may hold no user; the token is taken from `UPBEAT_TOKEN`"));
        }
        let port = authority.port_u16().ok_or_else(|| refuse("it names no port"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if !is_secure {
            if remote.ca.is_some() {
                return Err(refuse("a certificate is of use only with `https://`"));
            }
            if !is_this_machine(&host) {
                return Err(refuse("a token is not sent in the clear beyond this machine; use `https://`"));
            }
            return Ok(Self::Tcp { host, port, tls: None });
        }
        let name =
            ServerName::try_from(host.clone()).map_err(|_| refuse("its host is no name and no address"))?;
        let connector = TlsConnector::from(Arc::new(config(remote.ca.as_deref())?));
        Ok(Self::Tcp { host, port, tls: Some((connector, name)) })
    }

    /// What it calls itself at the other end.
    pub(crate) fn host(&self) -> String {
        match self {
            // Never resolved: there is one socket. The server knows itself by this name.
            Self::Unix(_) => "upbeat".to_owned(),
            Self::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }

    /// A connection for one request.
    pub(crate) async fn open<B: Sent>(&self) -> io::Result<SendRequest<B>> {
        let stream: Box<dyn Stream> = match self {
            Self::Unix(socket) => Box::new(UnixStream::connect(socket).await?),
            Self::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                match tls {
                    None => Box::new(stream),
                    Some((connector, name)) => {
                        let connected = connector.connect(name.clone(), stream).await;
                        Box::new(connected.map_err(|error| TlsError::said_of(error, name))?)
                    }
                }
            }
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the answer, or when nobody waits for it any more; what goes wrong, the answer tells.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(sender)
    }
}

/// Whether a host, as a URL names it, is this machine.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn config(ca: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    let what = ca.map_or_else(|| "the machine's certificates".to_owned(), |ca| ca.display().to_string());
    let refuse = |why: String| ClientError::BadAddress { what: what.clone(), why };
    match ca {
        Some(path) => {
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| refuse(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
                roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
            }
        }
        // One that cannot be read is one that is not trusted.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        let why = match ca {
            Some(_) => "it holds no certificate (`-----BEGIN CERTIFICATE-----`)",
            None => "there are none; `--ca FILE` names one to trust",
        };
        return Err(refuse(why.to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| refuse(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        let remote = Remote { url: url.into(), token: Some("upb_secret".into()), ca: None };
        assert!(!format!("{remote:?}").contains("secret"));
        Way::to(&remote).err().unwrap_or_else(|| panic!("{url}")).to_string()
    }

    #[test]
    fn a_token_goes_to_nobody_unknown() {
        for url in ["http://192.0.2.1:7000", "http://example.org:7000", "http://127.0.0.1.example.org:1"] {
            assert!(refused(url).contains("in the clear"), "{url}");
        }
        for url in ["http://127.0.0.1:7000", "http://localhost:7000/", "http://[::1]:7000"] {
            let way = Way::to(&Remote { url: url.into(), token: None, ca: None }).unwrap();
            assert_eq!(way.host(), url[7..].trim_end_matches('/'));
        }
    }

    #[test]
    fn a_file_without_a_certificate_is_named_with_what_it_lacks() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key.pem");
        std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        let error = config(Some(&key)).err().unwrap().to_string();
        let expected = "cannot be used: it holds no certificate (`-----BEGIN CERTIFICATE-----`)";
        assert_eq!(error, format!("`{}` {expected}", key.display()));
    }

    #[test]
    fn an_address_that_is_none_says_what_is_missing() {
        for (url, why) in [
            ("127.0.0.1:7000", "has to begin with"),
            ("ftp://x:1", "has to begin with"),
            ("http://localhost", "names no port"),
            ("https://a b:1", "expected `https://HOST:PORT`"),
            ("https://x:1/api", "expected `https://HOST:PORT`"),
            ("http://me:pw@localhost:1", "no user"),
        ] {
            assert!(refused(url).contains(why), "{url}: {}", refused(url));
        }
    }
}

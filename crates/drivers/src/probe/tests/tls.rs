//! Certificates, right and wrong.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;
use upbeat_model::project::{Http, Tls};

use super::*;

/// An authority of its own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// What a certificate is to be like.
pub(crate) enum Like {
    Good,
    Expired,
    NotYet,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// What a server needs to be this name.
    pub(crate) fn server(&self, name: &str, like: Like, protocols: &[&[u8]]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        match like {
            Like::Good => {}
            Like::Expired => params.not_after = date_time_ymd(2001, 1, 1),
            Like::NotYet => params.not_before = date_time_ymd(4000, 1, 1),
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A server of HTTP over TLS.
async fn server(acceptor: TlsAcceptor) -> Server {
    Server::new(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            while request(&mut stream).await.is_some() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await
}

fn question(server: &Server, tls: Tls) -> Question {
    let url = format!("https://{}/", server.address);
    Question::Http(Http { body: Some("^ok$".into()), tls, ..Http::get(url) })
}

const GOOD: &str = "HTTP 200, and its body matches";

#[tokio::test]
async fn whoever_answers_must_be_who_was_asked() {
    let (ours, other, same) = (Authority::new("ours"), Authority::new("other"), Authority::new("ours"));
    let ca = || Tls { ca: Some(ours.pem.clone()), ..Tls::default() };
    let prober = prober();
    let of = async |acceptor, tls| {
        let server = server(acceptor).await;
        prober.verdict(&question(&server, tls), PATIENT).await
    };
    let good = ours.server("127.0.0.1", Like::Good, &[]);
    assert_eq!(of(good.clone(), ca()).await, yes(GOOD));
    let unknown =
        no("its certificate is from an issuer that is not believed: name it in `tls: { ca_file: … }`");
    assert_eq!(of(other.server("127.0.0.1", Like::Good, &[]), ca()).await, unknown);
    assert_eq!(of(same.server("127.0.0.1", Like::Good, &[]), ca()).await, unknown);
    let expired = no("its certificate has expired");
    assert_eq!(of(ours.server("127.0.0.1", Like::Expired, &[]), ca()).await, expired);
    let not_yet = no("its certificate is not valid yet");
    assert_eq!(of(ours.server("127.0.0.1", Like::NotYet, &[]), ca()).await, not_yet);
    let named = ours.server("web.example", Like::Good, &[]);
    assert_eq!(of(named.clone(), ca()).await, no("its certificate is not for `127.0.0.1`"));
    let by_name = |name: &str| Tls { server_name: Some(name.into()), ..ca() };
    assert_eq!(of(named.clone(), by_name("web.example")).await, yes(GOOD));
    assert_eq!(of(named.clone(), by_name("x.example")).await, no("its certificate is not for `x.example`"));
    assert_eq!(of(named, by_name("a b")).await, no("`a b` is no name a certificate could have"));
    let insecure = Tls { insecure: true, ..Tls::default() };
    assert_eq!(of(other.server("x.example", Like::Expired, &[]), insecure).await, yes(GOOD));
    for (ca, words) in [
        ("", "its `ca_file` holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", "its `ca_file` is not PEM"),
    ] {
        let tls = Tls { ca: Some(ca.into()), ..Tls::default() };
        assert_eq!(of(good.clone(), tls).await, no(words));
    }
}

#[tokio::test]
async fn a_machine_s_own_certificates_do_not_cover_strangers() {
    let ours = Authority::new("ours");
    let server = server(ours.server("127.0.0.1", Like::Good, &[])).await;
    let (healthy, words) = prober().verdict(&question(&server, Tls::default()), PATIENT).await;
    // Some machines believe nobody.
    assert!(!healthy && (words.contains("is not believed") || words.contains("no certificates")), "{words}");
}

#[tokio::test]
async fn what_speaks_no_tls_is_told_apart() {
    let prober = prober();
    let insecure = Tls { insecure: true, ..Tls::default() };
    let plain = Server::new(|_, mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_eq!(
        prober.verdict(&question(&plain, insecure.clone()), PATIENT).await,
        no("it does not speak TLS")
    );
    let silent = Server::new(|_, mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_eq!(
        prober.verdict(&question(&silent, insecure.clone()), SHORT).await,
        no("timed out after 300ms")
    );
    let gone = Server::new(|_, mut stream| async move { drop(stream.read_u8().await) }).await;
    let (healthy, words) = prober.verdict(&question(&gone, insecure), PATIENT).await;
    assert!(!healthy && words.contains("connection"), "{words}");
    let secret = server(Authority::new("ours").server("127.0.0.1", Like::Good, &[])).await;
    let asked = Question::Http(Http::get(secret.url()));
    assert_eq!(prober.verdict(&asked, PATIENT).await, no("it speaks TLS: ask it with `https://`"));
}

#[tokio::test]
async fn a_connection_over_tls_is_used_again_and_not_by_whom_it_was_not_made_for() {
    let ours = Authority::new("ours");
    let server = server(ours.server("127.0.0.1", Like::Good, &[])).await;
    let prober = prober();
    let believing = question(&server, Tls { ca: Some(ours.pem.clone()), ..Tls::default() });
    for _ in 0..5 {
        assert_eq!(prober.verdict(&believing, PATIENT).await, yes(GOOD));
    }
    assert_eq!(server.connections(), 1);
    let stranger = question(&server, Tls { ca: Some(Authority::new("ours").pem), ..Tls::default() });
    assert!(!prober.verdict(&stranger, PATIENT).await.0);
    assert_eq!(server.connections(), 2);
}

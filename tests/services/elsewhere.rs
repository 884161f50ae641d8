//! What runs elsewhere, as far as is known of it: by a start command that ends, and an endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use upbeat::services::{Service, ServiceStatus};

use crate::home::{Endpoint, Home, endpoint, process, unit};

/// An endpoint that answers well for as long as this is set.
async fn endpoint_while(is_well: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/health", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let status = if is_well.load(Ordering::SeqCst) { 200 } else { 503 };
            let mut asked = [0; 4096];
            let answer = format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if stream.read(&mut asked).await.is_ok() {
                drop(stream.write_all(answer.as_bytes()).await);
            }
        }
    });
    url
}

pub(crate) async fn independent_services_start_at_the_same_time() {
    let home = Home::new();
    let url = endpoint(Endpoint::Answers(200)).await;
    // Each of the two ends when the other has begun: one after the other they never would.
    home.program(
        "systemctl",
        ": > \"$CALLS.$2\"
         case $2 in b) other=c;; c) other=b;; *) exit 0;; esac
         until [ -e \"$CALLS.$other\" ]; do sleep 0.02; done",
    );
    home.register([
        unit("a", &[], &url),
        unit("b", &["a"], &url),
        unit("c", &["a"], &url),
        unit("d", &["b", "c"], &url),
    ])
    .await;
    assert_eq!(home.services.start_all_services().await.unwrap(), ["a", "b", "c", "d"]);
}

pub(crate) async fn with_an_endpoint_alone_a_command_may_have_started_it_elsewhere() {
    let home = Home::new();
    let is_well = Arc::new(AtomicBool::new(true));
    let url = endpoint_while(is_well.clone()).await;
    let dns = Service { stop_command: String::new(), ..unit("dns", &[], &url) };
    home.register([dns.clone(), process("web", &["dns"], "sleep 600"), process("other", &[], "sleep 600")])
        .await;
    home.services.start_service("web").await.unwrap();
    home.services.start_service("other").await.unwrap();
    assert_eq!(home.status("dns").await, ServiceStatus::Running);
    assert_eq!(home.status("web").await, ServiceStatus::Running);
    home.services.start_service("dns").await.unwrap();
    assert_eq!(home.calls(), ["systemctl start dns"], "it is there");
    // Nobody knows how it is stopped.
    for refused in [
        home.services.stop_service("dns").await,
        home.services.restart_service("dns").await,
        home.services.stop_all_services().await,
    ] {
        let said = refused.unwrap_err().to_string();
        assert!(
            said.starts_with("service `dns` could not be stopped: ") && said.contains("`stop_command`"),
            "{said}"
        );
    }
    assert_eq!(home.status("dns").await, ServiceStatus::Running);
    assert_eq!(home.status("other").await, ServiceStatus::Stopped, "what can be stopped was");
    is_well.store(false, Ordering::SeqCst);
    assert_eq!(home.status("dns").await, ServiceStatus::Failed);
    home.services.start_service("dns").await.unwrap();
    assert_eq!(home.calls().len(), 2, "it is begun anew");
    home.services.start_service("web").await.unwrap();
    assert_eq!(home.calls().len(), 3, "for whoever needs it, too");
    assert_eq!(home.services.start_all_services().await.unwrap(), ["dns", "other", "web"]);
    assert_eq!(home.calls().len(), 4, "and with all");
    home.services.stop_service("web").await.unwrap();
    is_well.store(true, Ordering::SeqCst);
    // With a word for it, it is stopped; but not before it was started by it.
    home.register([Service { stop_command: "systemctl stop dns".to_owned(), ..dns }]).await;
    for refused in [home.services.stop_service("dns").await, home.services.restart_service("dns").await] {
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("start it again first"), "{said}");
    }
    assert_eq!(home.status("dns").await, ServiceStatus::Running);
    home.services.start_service("dns").await.unwrap();
    home.services.stop_service("dns").await.unwrap();
    assert_eq!(home.calls()[4..], ["systemctl start dns", "systemctl stop dns"]);
    assert_eq!(home.status("dns").await, ServiceStatus::Stopped);
}

pub(crate) async fn a_service_elsewhere_fails_with_its_endpoint() {
    let home = Home::new();
    let is_well = Arc::new(AtomicBool::new(true));
    home.register([unit("web", &[], &endpoint_while(is_well.clone()).await)]).await;
    home.services.start_service("web").await.unwrap();
    home.until("web", ServiceStatus::Running).await;
    is_well.store(false, Ordering::SeqCst);
    home.until("web", ServiceStatus::Failed).await;
    let health = home.services.check_service_health("web").await.unwrap();
    assert!(!health.healthy && health.message.ends_with("HTTP 503"), "{health:?}");
    is_well.store(true, Ordering::SeqCst);
    home.until("web", ServiceStatus::Running).await;
}

pub(crate) async fn what_is_wrong_with_an_endpoint_is_said() {
    let home = Home::new();
    let gone = endpoint(Endpoint::Answers(404)).await;
    let plain = endpoint(Endpoint::Answers(200)).await.replace("http://", "https://");
    let nobody = "http://no-such-host.invalid/health".to_owned();
    for (name, url, words) in [
        ("gone", gone, &["HTTP 404"][..]),
        ("host", nobody, &["no-such-host.invalid"]),
        ("tls", plain, &["TLS"]),
    ] {
        home.register([unit(name, &[], &url)]).await;
        let health = home.services.check_service_health(name).await.unwrap();
        let said = health.message.strip_prefix(&format!("{url}: ")).unwrap_or_default();
        assert!(!health.healthy && words.iter().all(|word| said.contains(word)), "{}", health.message);
    }
    let all = home.services.check_all_services_health().await.unwrap();
    assert_eq!(all.len(), 3, "each is told");
}

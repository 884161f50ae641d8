//! Receivers on real sockets, and files of secrets as people leave them.

use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::controllers::Policy;
use crate::controllers::tests::{Staged, whole_request};
use crate::probe::tests::tls::{Authority, Like};
use crate::probe::tests::{Server, nobody};

fn sender(loopback: bool, allow: &[&str]) -> Sender {
    let policy = Policy::new(loopback, allow.iter().copied()).unwrap();
    Sender::new(Means { policy, ..Means::default() })
}

fn headers() -> BTreeMap<String, String> {
    BTreeMap::from([("webhook-id".to_owned(), "7".to_owned())])
}

async fn post(sender: &Sender, url: &str) -> Result<u16, String> {
    sender.post(url, &headers(), b"{\"a\":1}").await
}

#[tokio::test]
async fn a_request_has_its_headers_and_its_body_and_any_status_is_an_answer() {
    let server = Server::new(|number, mut stream| async move {
        let (head, body) = whole_request(&mut stream).await.unwrap();
        assert!(head.starts_with("POST /health?x=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{head}");
        assert!(head.contains("\r\nwebhook-id: 7\r\n"), "{head}");
        assert_eq!(body, "{\"a\":1}");
        let status = [200, 204, 410, 500][number];
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 1000000000\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    let sender = sender(true, &[]);
    for status in [200, 204, 410, 500] {
        assert_eq!(post(&sender, &server.url()).await, Ok(status));
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let end = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    for status in [301, 302, 303, 307, 308] {
        let answer = format!("HTTP/1.1 {status} x\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", end.url());
        let start = Server::answering(answer).await;
        assert_eq!(post(&sender(true, &[]), &start.url()).await, Ok(status));
    }
    assert_eq!(end.connections(), 0);
}

#[tokio::test]
async fn only_whom_the_list_names_is_sent_anything_as_the_address_says_that_is_connected_to() {
    for (host, address) in
        [("hooks.example", "169.254.169.254"), ("hooks.example", "127.0.0.1"), ("hooks.example", "fe80::1")]
    {
        let network = Staged::new(&[(host, &[address])], None);
        let policy = Policy::new(false, ["*.example"]).unwrap();
        let sender = Sender::over(Means { policy, ..Means::default() }, network.clone());
        let error = post(&sender, "http://hooks.example/hush").await.unwrap_err();
        assert!(error.contains("may not be asked") && !error.contains("hush"), "{error}");
        assert_eq!(network.connected(), [""; 0]);
    }
    for (loopback, url, words) in [
        (true, "http://169.254.169.254/latest", "it is a link-local address"),
        (true, "http://192.0.2.1/", "no entry of the allow-list"),
        (false, "http://127.0.0.1:1/", "it is a loopback address"),
        (true, "http://ann:hush@127.0.0.1/", "login"),
    ] {
        let error = post(&sender(loopback, &[]), url).await.unwrap_err();
        assert!(error.contains(words) && !error.contains("hush"), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_of_nobody_we_know_is_an_error() {
    let ours = Authority::new("ours");
    for (ca, expected) in [(Some(ours.pem.clone()), Ok(200)), (None, Err(()))] {
        let acceptor = ours.server("127.0.0.1", Like::Good, &[]);
        let server = Server::new(move |_, stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                whole_request(&mut stream).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        })
        .await;
        let policy = Policy { loopback: true, allow: Vec::new() };
        let sender = Sender::new(Means { policy, ca, ..Means::default() });
        let said = post(&sender, &format!("https://{}/", server.address)).await;
        assert_eq!(said.clone().map_err(drop), expected, "{said:?}");
    }
}

#[tokio::test]
async fn who_is_not_there_or_says_nothing_is_an_error_in_time() {
    let error = post(&sender(true, &[]), &format!("http://{}/", nobody().await)).await.unwrap_err();
    assert!(error.contains("refused"), "{error}");
    let silent = Server::new(|_, mut stream| async move {
        whole_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    // From here on time goes as soon as nothing else does.
    tokio::time::pause();
    assert_eq!(post(&sender(true, &[]), &silent.url()).await, Err("timed out after 10s".into()));
}

#[tokio::test(start_paused = true)]
async fn a_file_on_a_disk_that_hangs_holds_one_thread_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "hush").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let sender = sender(true, &[]);
    let (go, wait) = mpsc::channel::<()>();
    let hangs = move |_: &Path| {
        // Not for ever: whoever reads on the thread of this test fails it.
        let went = wait.recv_timeout(Duration::from_secs(60));
        went.map(|()| "late".to_owned()).map_err(|_| "nobody let it go".to_owned())
    };
    // The thread of this test is free meanwhile, or the time would not go on.
    let time = async || tokio::time::advance(SECRET_TIME).await;
    let (said, ()) = tokio::join!(sender.secrets_by(&path, hangs), time());
    assert_eq!(said, Err("timed out after 10s".into()));
    // It hangs still. Who asks again begins no second thread, and waits no longer.
    let (said, ()) = tokio::join!(sender.secrets_by(&path, |_| panic!("a second thread")), time());
    assert_eq!(said, Err("timed out after 10s".into()));
    let other = sender.secrets_by(&dir.path().join("other"), |_| Ok("hush".into())).await;
    assert_eq!(other, Ok("hush".into()), "another file is read meanwhile");
    let (third, ()) = tokio::join!(sender.secrets(&path), async { go.send(()).unwrap() });
    assert_eq!(third, Ok("late".into()));
    assert_eq!(sender.secrets(&path).await, Ok("hush".into()), "then it is read anew");
}

#[test]
fn a_file_that_others_may_use_is_refused_and_its_words_are_in_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    let write = |bytes: &[u8], mode| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read_secrets(&path)
    };
    for mode in [0o600, 0o400, 0o700] {
        assert_eq!(write(b"hush\n", mode), Ok("hush\n".into()), "{mode:o}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    for mode in [0o644, 0o640, 0o604, 0o620, 0o606] {
        let error = write(b"hush\n", mode).unwrap_err();
        assert_eq!(error, format!("others than its owner may use it (mode {mode:04o}): `chmod 600` it"));
    }
    assert_eq!(write(&[0xff; 30], 0o600).unwrap_err(), "it is not text");
    assert_eq!(write(&[b'h'; 5_000], 0o600).unwrap_err(), "it is longer than 4 KiB");
    assert!(read_secrets(dir.path()).unwrap_err().contains("regular file"));
    let none = read_secrets(&dir.path().join("none")).unwrap_err();
    assert!(!none.is_empty() && !none.contains("os error"), "{none}");
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(read_secrets(&pipe).unwrap_err(), "it is not a regular file");
}

//! What a controller may do to whoever asks it.

use upbeat_model::project::Tls;

use super::*;
use crate::probe::tests::tls::{Authority, Like};

/// On the paused clock: it moves when nothing else happens.
#[tokio::test(start_paused = true)]
async fn one_that_is_silent_is_waited_for_ten_seconds() {
    let accepts = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let begun = Instant::now();
    let silent = Server::new(|_, stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    });
    let silent = silent.await;
    // One that accepts, and one whose connections are only taken by the kernel.
    for url in [silent.url(), format!("http://{}/", accepts.local_addr().unwrap())] {
        let asked = Instant::now();
        let said = caller().is_well(&web(url), &[]).await;
        assert_eq!(said, Err("timed out after 10s".into()));
        assert_eq!(asked.elapsed(), QUESTION_TIME);
    }
    assert_eq!(begun.elapsed(), 2 * QUESTION_TIME);
}

/// On the paused clock.
#[tokio::test(start_paused = true)]
async fn one_that_drips_has_no_more_time_than_another() {
    for (what, head) in [
        ("head", "HTTP/1.1 200 OK\r\nX: "),
        ("body", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
        ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;"),
        ("interim", "HTTP/1.1 100 Continue\r\nX: "),
    ] {
        let drips = Server::new(move |_, mut stream| async move {
            whole_request(&mut stream).await;
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let url = drips.await.url();
        let begun = Instant::now();
        assert_eq!(caller().is_well(&web(url), &[]).await, Err("timed out after 10s".into()), "{what}");
        assert_eq!(begun.elapsed(), QUESTION_TIME);
    }
}

#[tokio::test]
async fn headers_without_end_are_read_to_their_bound() {
    let endless = Server::new(|_, mut stream| async move {
        whole_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"X-More: and more\r\n").await.is_ok() {}
    });
    let said = caller().is_well(&web(endless.await.url()), &[]).await;
    assert_eq!(said, Err("the head of its answer is longer than 32 KiB".into()));
}

/// A server that sends this head, and after it as many bytes as it gets rid of; and how many those were.
async fn flood(head: &'static str, piece: &'static [u8], most: usize) -> (Server, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let server = Server::new(move |_, mut stream| {
        let count = count.clone();
        async move {
            whole_request(&mut stream).await;
            let _ = stream.write_all(head.as_bytes()).await;
            while count.load(Ordering::SeqCst) < most && stream.write_all(piece).await.is_ok() {
                count.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
    });
    (server.await, sent)
}

const PIECE: [u8; 10_000] = [b' '; 10_000];

#[tokio::test]
async fn of_ten_megabytes_no_more_is_read_than_an_answer_may_have() {
    let too_long = Err("its answer is longer than 4 MiB".to_owned());
    let (declared, sent) =
        flood("HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n", &PIECE, 10_000_000).await;
    assert_eq!(caller().is_well(&web(declared.url()), &[]).await, too_long);
    let (undeclared, _) = flood("HTTP/1.1 200 OK\r\n\r\n", &PIECE, usize::MAX).await;
    assert_eq!(caller().is_well(&web(undeclared.url()), &[]).await, too_long, "it never ends");
    let chunk = b"2710\r\n".iter().chain(&PIECE).chain(b"\r\n").copied().collect::<Vec<u8>>().leak();
    let (chunked, _) =
        flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk, usize::MAX).await;
    assert_eq!(caller().is_well(&web(chunked.url()), &[]).await, too_long);
    // What is under way is in buffers of the kernel: some hundred kilobytes on this machine, and no megabytes.
    assert!(sent.load(Ordering::SeqCst) < 10_000_000, "it was read to its end");
}

#[tokio::test]
async fn an_answer_of_the_longest_is_read() {
    let body = format!(r#"{{"status":"ok","x":"{}"}}"#, "y".repeat(ANSWER_MAX - 22));
    assert_eq!(body.len(), ANSWER_MAX);
    assert_eq!(said(json(&body)).await, Ok(()));
    assert_eq!(said(json(&format!("{body} "))).await, Err("its answer is longer than 4 MiB".into()));
    let chunks: String = body
        .as_bytes()
        .chunks(1000)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()))
        .collect();
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    assert_eq!(said(chunked).await, Ok(()));
}

#[tokio::test]
async fn only_200_is_an_answer() {
    for status in [201, 204, 301, 304, 400, 401, 404, 500, 503] {
        let body = r#"{"status":"ok"}"#;
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(said(answer).await, Err(format!("HTTP {status}")));
    }
}

#[tokio::test]
async fn what_is_no_json_or_cut_off_is_said() {
    let error = said(json("<html>\x1b[31m\n")).await.unwrap_err();
    assert_eq!(error, "its answer is not the JSON that was asked for: expected value at line 1 column 1");
    assert_eq!(said(json("")).await, Err("its answer is empty".into()));
    let hung_up = Server::new(|_, mut stream| async move {
        whole_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"status\":\"ok\"}").await;
    });
    assert_eq!(
        caller().is_well(&web(hung_up.await.url()), &[]).await,
        Err("it closed the connection in the middle of its body".into())
    );
    let packed = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(said(packed).await, Err("its answer is packed as `gzip`, which was not asked for".into()));
    assert_eq!(said("SSH-2.0-x\r\n").await, Err("its answer is not HTTP".into()));
    let long = json(&format!(r#"{{"status":"bad","message":"{}\u001b\n"}}"#, "x".repeat(9_000)));
    assert!(said(long).await.unwrap_err().ends_with('…'));
}

#[tokio::test]
async fn names_that_nobody_offered_are_not_chosen() {
    let offered = [report("g", "a"), report("h", "a")];
    let of = async |body: &str, choice| {
        let (server, _seen) = recording(json(body)).await;
        caller().choose(&web(server.url()), choice, &offered, 2).await
    };
    let others = r#"{"targets":[{"name":"A","group":"g"},{"name":"a","group":"G"},{"name":"x"}]}"#;
    for choice in [Choice::Approval, Choice::Removal] {
        assert_eq!(of(others, choice).await, Ok(vec![]));
        let unclear = of(r#"{"targets":[{"name":"a"}]}"#, choice).await.unwrap_err();
        assert_eq!(unclear, "its answer does not say in which `group` it means `a`: there are several");
    }
}

#[tokio::test]
async fn whoever_answers_over_tls_must_be_who_was_asked() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let of = async |acceptor: tokio_rustls::TlsAcceptor| {
        let server = Server::new(move |_, stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                if whole_request(&mut stream).await.is_some() {
                    let _ = stream.write_all(json(r#"{"status":"ok"}"#).as_bytes()).await;
                }
            }
        })
        .await;
        let policy = Policy { loopback: true, allow: vec![] };
        let caller = Caller::new(Means { policy, ca: Some(ours.pem.clone()), ..Means::default() });
        caller.is_well(&web(format!("https://{}/", server.address)), &[]).await
    };
    assert_eq!(of(ours.server("127.0.0.1", Like::Good, &[])).await, Ok(()));
    let no = |words: &str| Err(words.to_owned());
    assert_eq!(
        of(other.server("127.0.0.1", Like::Good, &[])).await,
        no("its certificate is from an issuer that is not believed")
    );
    assert_eq!(of(ours.server("127.0.0.1", Like::Expired, &[])).await, no("its certificate has expired"));
    assert_eq!(
        of(ours.server("web.example", Like::Good, &[])).await,
        no("its certificate is not for `127.0.0.1`")
    );
    // Nobody turns that off.
    assert!(!Tls::default().insecure);
}

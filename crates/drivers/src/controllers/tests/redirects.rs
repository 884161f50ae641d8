//! Where a question goes, and where it does not.

use super::*;

fn to(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn a_redirect_that_keeps_the_question_is_followed() {
    let (end, seen) = recording(json(r#"{"status":"ok"}"#)).await;
    for status in [307, 308] {
        let (start, _) = recording(to(status, &format!("http://{}/there?a=b#c", end.address))).await;
        assert_eq!(caller().is_well(&web(start.url()), &[report("", "a")]).await, Ok(()));
        let (head, body) = seen.lock().unwrap().pop().unwrap();
        assert!(head.starts_with("POST /there?a=b HTTP/1.1\r\n"), "{head}");
        assert_eq!(body, r#"{"targets":[{"name":"a","version":"v1"}]}"#);
    }
    let rest = "/there";
    let own = Server::new(move |number, mut stream| async move {
        let (head, _) = whole_request(&mut stream).await.unwrap();
        assert_eq!(head.starts_with("POST /there "), number == 1);
        let answer = if number == 0 { to(307, rest) } else { json(r#"{"status":"ok"}"#) };
        let _ = stream.write_all(answer.as_bytes()).await;
    });
    assert_eq!(caller().is_well(&web(own.await.url()), &[]).await, Ok(()));
}

#[tokio::test]
async fn what_would_lose_the_question_or_never_end_is_an_error() {
    let (end, asked) = recording(json(r#"{"status":"ok"}"#)).await;
    for status in [301, 302, 303] {
        assert_eq!(
            said(to(status, &end.url())).await,
            Err(format!(
                "HTTP {status}: it redirects so that the question would be lost; 307 and 308 keep it"
            ))
        );
    }
    for (location, words) in [
        ("there", "it redirects neither to an address nor to a path that begins with `/`"),
        ("ftp://a/", "it redirects neither to an address nor to a path that begins with `/`"),
        ("file:///etc/passwd", "it redirects neither to an address nor to a path that begins with `/`"),
        ("http://u:p@a/", "it redirects to an address that must have no login before `@`"),
        ("http:///", "it redirects to an address that must name a host: `https://example.com/path`"),
    ] {
        assert_eq!(said(to(307, location)).await, Err(format!("HTTP 307: {words}")));
    }
    assert_eq!(said("HTTP/1.1 307 x\r\nContent-Length: 0\r\n\r\n").await, Err("HTTP 307".into()));
    assert_eq!(asked.lock().unwrap().len(), 0);
    let (around, asked) = recording(to(307, "/")).await;
    let said = caller().is_well(&web(around.url()), &[]).await;
    assert_eq!(said, Err("HTTP 307: it redirects more than 3 times".into()));
    assert_eq!(asked.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_redirect_to_where_keys_are_given_out_is_not_followed() {
    for location in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "//169.254.169.254/",
    ] {
        let error = said(to(307, location)).await.unwrap_err();
        assert!(error.contains("it is a link-local address"), "{location}: {error}");
    }
    let error = said(to(308, "http://10.0.0.1/")).await.unwrap_err();
    assert_eq!(error, "`10.0.0.1` may not be asked: no entry of the allow-list is for it and port 80");
}

/// Names other than dotted numbers are taken by resolvers for the same.
#[tokio::test]
async fn numbers_in_disguise_are_judged_as_what_they_stand_for() {
    for host in ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"] {
        let network = Staged::new(&[(host, &["169.254.169.254"])], None);
        let caller = staged(&network, true, &["*.example"]);
        let error = caller.is_well(&web(format!("http://{host}/")), &[]).await.unwrap_err();
        assert!(error.contains("it is a link-local address"), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_what_was_judged_is_connected_to() {
    let (server, seen) = recording(json(r#"{"status":"ok"}"#)).await;
    // A second look-up would find another address.
    let found: [(_, &[_]); 2] = [("a.example", &["192.0.2.1"]), ("a.example", &["169.254.169.254"])];
    let network = Staged::new(&found, Some(&server));
    let caller = staged(&network, false, &["a.example"]);
    assert_eq!(caller.is_well(&web("http://a.example:8080/x"), &[]).await, Ok(()));
    assert_eq!((network.left(), network.connected()), (1, vec!["192.0.2.1:8080".to_owned()]));
    assert!(seen.lock().unwrap()[0].0.contains("\r\nHost: a.example:8080\r\n"));
    // The next question looks anew, and is not sent.
    let error = caller.is_well(&web("http://a.example:8080/x"), &[]).await.unwrap_err();
    assert!(error.contains("`a.example (169.254.169.254)` may not be asked"), "{error}");
    assert_eq!((network.left(), network.connected().len(), server.connections()), (0, 1, 1));
}

#[tokio::test]
async fn a_redirect_to_the_same_name_is_looked_up_and_judged_anew() {
    for elsewhere in ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "0.0.0.0", "::1"] {
        let (server, seen) = recording(to(307, "/again")).await;
        let found: [(_, &[_]); 2] = [("a.example", &["192.0.2.1"]), ("a.example", &[elsewhere])];
        let network = Staged::new(&found, Some(&server));
        let caller = staged(&network, false, &["a.example"]);
        let error = caller.is_well(&web("http://a.example/x"), &[]).await.unwrap_err();
        assert!(error.contains("may not be asked"), "{elsewhere}: {error}");
        assert_eq!((network.left(), network.connected()), (0, vec!["192.0.2.1:80".to_owned()]));
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn of_several_addresses_only_those_that_may_be_asked_are_tried() {
    let (server, _) = recording(json(r#"{"status":"ok"}"#)).await;
    let all: &[_] = &["169.254.169.254", "192.0.2.1", "127.0.0.1", "2001:db8::1"];
    let network = Staged::new(&[("a.example", all)], Some(&server));
    assert_eq!(staged(&network, false, &["a.example"]).is_well(&web("http://a.example/"), &[]).await, Ok(()));
    assert_eq!(network.connected(), ["192.0.2.1:80", "[2001:db8::1]:80"]);
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_not_sent_the_question() {
    let (server, seen) = recording(to(307, "http://b.example/")).await;
    let found: [(_, &[_]); 2] = [("a.example", &["192.0.2.1"]), ("b.example", &["192.0.2.2"])];
    let network = Staged::new(&found, Some(&server));
    let caller = staged(&network, false, &["a.example:80"]);
    let error = caller.is_well(&web("http://a.example/"), &[]).await.unwrap_err();
    assert_eq!(
        error,
        "`b.example (192.0.2.2)` may not be asked: no entry of the allow-list is for it and port 80"
    );
    assert_eq!((network.connected().len(), seen.lock().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn what_was_asked_in_secret_is_not_repeated_in_the_open() {
    use crate::probe::tests::tls::{Authority, Like};
    let ours = Authority::new("ours");
    let (open, seen) = recording(json(r#"{"status":"ok"}"#)).await;
    let (acceptor, answer) = (ours.server("127.0.0.1", Like::Good, &[]), to(307, &open.url()));
    let server = Server::new(move |_, stream| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            whole_request(&mut stream).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let policy = Policy { loopback: true, allow: vec![] };
    let caller = Caller::new(Means { policy, ca: Some(ours.pem.clone()), ..Means::default() });
    let error = caller.is_well(&web(format!("https://{}/", server.address)), &[]).await.unwrap_err();
    assert_eq!(error, "HTTP 307: it redirects from `https` to `http`, which is not followed");
    assert_eq!((open.connections(), seen.lock().unwrap().len()), (0, 0));
}

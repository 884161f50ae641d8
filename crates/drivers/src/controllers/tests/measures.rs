//! Measurements.

use upbeat_model::rollout::{
    Cadence, HEADER_BYTES_MAX, HeaderFile, HeaderValue, Headers, Measure, Sample, SampleOutcome as Outcome,
    Source,
};

use super::*;

fn measure(source: Source, success: &str) -> Measure {
    let measure = Measure { source, success: success.into(), failure: None, cadence: Cadence::default() };
    assert_eq!(measure.check(), Ok(()));
    measure
}

fn http(url: String) -> Source {
    let headers = [("X-Tenant".to_owned(), HeaderValue::Text("s3cret".to_owned()))].into();
    Source::Http { url, headers }
}

/// With a header that a file says.
fn with_file(url: String, file: &std::path::Path) -> Source {
    let file = HeaderFile { file: file.to_str().unwrap().to_owned() };
    Source::Http { url, headers: [("Authorization".to_owned(), HeaderValue::File(file))].into() }
}

fn sample(outcome: Outcome, value: &str) -> Sample {
    Sample { outcome, value: value.into() }
}

#[tokio::test]
async fn json_over_http_is_judged() {
    let (server, seen) = recording(json(r#"{"rate":0.04}"#)).await;
    let caller = caller();
    let of = async |success| caller.measure(&measure(http(server.url()), success)).await;
    assert_eq!(of("result.rate < 0.05").await, sample(Outcome::Success, r#"{"rate":0.04}"#));
    assert_eq!(of("result.rate < 0.01").await.outcome, Outcome::Failure);
    assert_eq!(of("result.other < 1").await.outcome, Outcome::Error("`success`: No such key: other".into()));
    let (head, body) = seen.lock().unwrap()[0].clone();
    assert!(
        head.starts_with("GET /health?x=1 HTTP/1.1\r\n") && head.contains("\r\nX-Tenant: s3cret\r\n"),
        "{head}"
    );
    assert_eq!(body, "");
}

#[tokio::test]
async fn what_could_not_be_measured_is_an_error() {
    let of = async |answer: String| {
        let (server, _) = recording(answer).await;
        caller().measure(&measure(http(server.url()), "true")).await
    };
    let error = |why: &str| sample(Outcome::Error(why.into()), "");
    assert_eq!(of("HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n".into()).await, error("HTTP 503"));
    assert_eq!(of(json("x")).await, error("its answer is not JSON: expected value at line 1 column 1"));
    let deep = of(json(&"[".repeat(60_000))).await;
    assert_eq!(deep, error("its answer is not JSON: recursion limit exceeded at line 1 column 128"));
}

/// A `GET` is followed however it is redirected; what only the first server may know is not told to another.
#[tokio::test]
async fn a_secret_is_told_to_the_server_it_is_for() {
    let (end, seen) = recording(json("1")).await;
    for (status, location) in [(302, end.url()), (307, end.url())] {
        let (start, first) =
            recording(format!("HTTP/1.1 {status} x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))
                .await;
        let sampled = caller().measure(&measure(http(start.url()), "result == 1")).await;
        assert_eq!(sampled, sample(Outcome::Success, "1"));
        assert!(first.lock().unwrap()[0].0.contains("s3cret"));
        assert!(!seen.lock().unwrap().pop().unwrap().0.contains("s3cret"));
    }
}

#[tokio::test]
async fn numbers_of_prometheus_are_judged() {
    let of = async |answer: &str, success: &str| {
        let (server, seen) = recording(json(answer)).await;
        let source = Source::Prometheus {
            address: format!("http://{}/base/", server.address),
            query: r#"sum(rate(x{a="b"}[5m])) > 0"#.into(),
            headers: Headers::new(),
        };
        let sampled = caller().measure(&measure(source, success)).await;
        let head = seen.lock().unwrap()[0].0.clone();
        let path = "/base/api/v1/query?query=sum%28rate%28x%7Ba%3D%22b%22%7D%5B5m%5D%29%29%20%3E%200";
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{head}");
        sampled
    };
    let vector = |value: &str| {
        format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{{"metric":{{}},"value":[1.5,"{value}"]}}]}}}}"#
        )
    };
    assert_eq!(of(&vector("0.5"), "result[0] < 1").await, sample(Outcome::Success, "[0.5]"));
    assert_eq!(of(&vector("7"), "result.all(x, x < 5)").await, sample(Outcome::Failure, "[7.0]"));
    let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"3"]}}"#;
    assert_eq!(of(scalar, "result == 3").await, sample(Outcome::Success, "3.0"));
    let none = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    assert_eq!(of(none, "size(result) == 0 || result[0] < 1").await.outcome, Outcome::Success);
    for (answer, why) in [
        (vector("NaN"), "a sample has the value `NaN`, which is no number to compare"),
        (vector("x"), "a sample has the value `x`"),
        (r#"{"status":"error","error":"bad query"}"#.into(), "the query failed: bad query"),
        (
            r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#.into(),
            "the query gives a `matrix`, and must give a scalar or a vector",
        ),
        ("[]".into(), "the query failed: it does not say why"),
    ] {
        assert_eq!(of(&answer, "true").await.outcome, Outcome::Error(why.into()));
    }
}

#[tokio::test]
async fn what_a_command_prints_is_judged() {
    let environment = [("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())].into();
    let caller = Caller::new(Means { environment, ..Means::default() });
    let of = async |script: &str| {
        let source = Source::Exec(["sh", "-c", script].map(Into::into).into());
        caller.measure(&measure(source, "result.count < 3")).await
    };
    assert_eq!(of(r#"echo '{"count":2}'"#).await, sample(Outcome::Success, r#"{"count":2}"#));
    assert_eq!(of(r#"echo '{"count":3}'"#).await.outcome, Outcome::Failure);
    assert_eq!(of("echo no >&2; exit 2").await.outcome, Outcome::Error("exit 2: no".into()));
}

/// On the paused clock.
#[tokio::test(start_paused = true)]
async fn what_is_silent_is_an_error_after_ten_seconds() {
    let server = Server::new(|_, stream| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    });
    let source = http(server.await.url());
    let begun = Instant::now();
    assert_eq!(
        caller().measure(&measure(source, "true")).await,
        sample(Outcome::Error("timed out after 10s".into()), "")
    );
    assert_eq!(begun.elapsed(), QUESTION_TIME);
}

#[tokio::test]
async fn a_secret_is_read_from_its_file_each_time_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "Bearer 0123456789\n").unwrap();
    // It says again what it was told.
    let (server, seen) = recording(json(r#""you are 0123456789""#)).await;
    let (caller, of) = (caller(), measure(with_file(server.url(), &token), "result == 1"));
    let sampled = caller.measure(&of).await;
    assert_eq!(sampled, sample(Outcome::Failure, r#""you are ***""#));
    let told = |value: &str| {
        let head = seen.lock().unwrap().pop().unwrap().0;
        assert!(head.contains(&format!("\r\nAuthorization: {value}\r\n")), "{head}");
    };
    told("Bearer 0123456789");
    std::fs::write(&token, "Bearer 9876543210").unwrap();
    caller.measure(&of).await;
    told("Bearer 9876543210");
}

#[tokio::test]
async fn a_secret_is_not_shown_either_in_the_spelling_of_json() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, r#"Bearer 0123"45\6789""#).unwrap();
    let (server, _seen) = recording(json(r#""you are 0123\"45\\6789\"""#)).await;
    let sampled = caller().measure(&measure(with_file(server.url(), &token), "result == 1")).await;
    assert_eq!(sampled, sample(Outcome::Failure, r#""you are ***""#));
}

/// What is parsed takes a hundred times what is sent.
#[tokio::test]
async fn an_answer_that_is_no_number_but_a_book_is_not_read() {
    let book = format!("[{}0]", r#"{"":0},"#.repeat(20_000));
    let (server, _seen) = recording(json(&book)).await;
    let source = Source::Http { url: server.url().to_owned(), headers: Default::default() };
    let sampled = caller().measure(&measure(source, "true")).await;
    assert_eq!(sampled.outcome, Outcome::Error("its answer is longer than 64 KiB".into()));
}

#[tokio::test]
async fn a_file_that_holds_no_header_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let (server, seen) = recording(json("1")).await;
    let of = async |file: &std::path::Path, why: &str| {
        let sampled = caller().measure(&measure(with_file(server.url(), file), "true")).await;
        let Outcome::Error(said) = &sampled.outcome else { panic!("{sampled:?}") };
        assert!(said.starts_with("header `Authorization`: `/") && said.contains(why), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    };
    let file = directory.path().join("t");
    of(&file, "cannot be read: ").await;
    of(directory.path(), "is no regular file").await;
    of(std::path::Path::new("/dev/zero"), "is no regular file").await;
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    of(&file, "is no regular file").await;
    std::fs::remove_file(&file).unwrap();
    for (content, why) in [
        (b"s3cret\r\nHost: b".to_vec(), "more than one line"),
        (b"s3cret\x1b".to_vec(), "control characters"),
        (b"\n".to_vec(), "is empty"),
        (b"s3cret\xff".to_vec(), "is not UTF-8"),
        (vec![b'x'; HEADER_BYTES_MAX + 1], "has more than 8192 bytes"),
        (b"s3cret\n".to_vec(), "a word of fewer than 8 characters, which could not be hidden"),
        (b"Bearer s3cret7".to_vec(), "use a longer secret, or write what is no secret as text"),
        (b"Bearer 01234567 ".to_vec(), "ends with a word of fewer than 8"),
    ] {
        std::fs::write(&file, content).unwrap();
        of(&file, why).await;
    }
    assert!(seen.lock().unwrap().is_empty(), "nobody was asked");
}

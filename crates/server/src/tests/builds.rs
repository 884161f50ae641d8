//! Builds: the context on its way, what is told, what is recorded.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use upbeat_api::{BUILD_LINE_MAX, BUILD_TYPE, BuildWord, ClientError, ImageBuild, ImageState};

use super::{House, in_time, status_and_body};
use crate::bounds::CONTEXT_STALL;

fn wanted(service: &str) -> ImageBuild {
    let json =
        format!(r#"{{"app":"shop","service":"{service}","image":"shop-web","build":{{"context":""}}}}"#);
    serde_json::from_str(&json).unwrap()
}

fn context(parts: Vec<io::Result<Bytes>>) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Unpin {
    stream::iter(parts)
}

/// What is recorded, once it is so much.
async fn recorded(house: &House, count: usize) -> Vec<String> {
    in_time(async {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(house.fake.recorded());
            tokio::task::yield_now().await;
        }
        all
    })
    .await
}

#[tokio::test]
async fn a_context_is_handed_on_and_what_is_told_comes_back() {
    let house = House::open();
    let client = house.client();
    let parts = vec![Ok(Bytes::from(vec![b'x'; 100_000])), Ok(Bytes::new()), Ok(Bytes::from_static(b"yz"))];
    let words = client.build(&wanted("web"), context(parts)).await.unwrap();
    let words: Vec<BuildWord> = in_time(words.try_collect()).await.unwrap();
    let step = BuildWord::Step { number: 1, of: 2, text: "FROM a".into() };
    assert_eq!(words, [step, BuildWord::Built { id: "sha256:1".into() }]);
    assert_eq!(house.fake.asked(), ["build shop-web of 100002 bytes"]);
    let recorded = recorded(&house, 2).await;
    assert!(
        recorded[0].ends_with("POST /api/v1/images/build: build shop-web for web of shop"),
        "{recorded:?}"
    );
    assert!(recorded[1].ends_with("-> 200, operation None"), "{recorded:?}");
    let image = client.image(&"web".parse().unwrap()).await.unwrap();
    assert_eq!(image, ImageState { id: Some("sha256:1".into()) });
    assert_eq!(client.image(&"other:2".parse().unwrap()).await.unwrap(), ImageState { id: None });
}

#[tokio::test]
async fn what_goes_wrong_is_the_end_of_it_and_recorded() {
    let house = House::open();
    let words = house.client().build(&wanted("bad"), context(vec![])).await.unwrap();
    let words: Vec<_> = in_time(words.collect()).await;
    assert_eq!(words.len(), 2);
    let Some(Err(ClientError::Problem(problem))) = words.last() else { panic!("{words:?}") };
    assert_eq!(problem.message, "step 2 of 2, `RUN b`, failed");
    assert!(recorded(&house, 2).await[1].ends_with("-> 400, operation None"));
}

#[tokio::test]
async fn who_does_not_listen_any_more_has_it_called_off() {
    let house = House::open();
    let mut words = house.client().build(&wanted("endless"), context(vec![])).await.unwrap();
    assert!(in_time(words.next()).await.unwrap().is_ok());
    drop(words);
    assert!(recorded(&house, 2).await[1].ends_with("-> 499, operation None"));
}

#[tokio::test]
async fn a_context_that_breaks_off_is_no_context() {
    let house = House::open();
    let fake = house.fake.clone();
    // It breaks off when what came before it is there.
    let breaks = stream::once(Box::pin(async move {
        while fake.recorded().is_empty() {
            tokio::task::yield_now().await;
        }
        Err(io::Error::other("it changed"))
    }));
    let half = context(vec![Ok(Bytes::from_static(b"half"))]).chain(breaks);
    let error = in_time(house.client().build(&wanted("web"), half)).await.err().unwrap();
    assert!(matches!(error, ClientError::Interrupted { .. }), "{error:?}");
    let recorded = recorded(&house, 1).await;
    assert!(recorded[0].contains("-> 4"), "{recorded:?}");
    assert_eq!(house.fake.asked(), [""; 0], "nothing was built of it");
}

/// On a paused clock.
#[tokio::test(start_paused = true)]
async fn a_context_that_stands_still_or_trickles_loses_its_turn() {
    let asks = format!(
        "POST /api/v1/images/build HTTP/1.1\r\nHost: localhost\r\nContent-Type: {BUILD_TYPE}\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let line = format!("{}\n", serde_json::to_string(&wanted("web")).unwrap());
    let begin = format!("{asks}{:x}\r\n{line}\r\n", line.len());
    for pause in [CONTEXT_STALL * 2, Duration::from_secs(1)] {
        let house = House::open();
        let mut stream = house.connect().await;
        stream.write_all(begin.as_bytes()).await.unwrap();
        let begun = Instant::now();
        let (mut reader, mut writer) = stream.into_split();
        let trickle = async {
            loop {
                tokio::time::sleep(pause).await;
                if writer.write_all(b"1\r\nx\r\n").await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            read = reader.read_to_end(&mut answer) => if let Err(error) = read {
                // It was sent more than it read.
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            },
            () = trickle => unreachable!(),
        }
        let told = status_and_body(&String::from_utf8(answer).unwrap());
        assert!(told.starts_with("400 ") && told.contains("it came too slowly"), "{told}");
        let late = CONTEXT_STALL * 3 / 2;
        assert!(begun.elapsed() >= CONTEXT_STALL && begun.elapsed() < late, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn what_is_no_build_is_refused_with_what_to_do() {
    let house = House::open();
    let line = "POST /api/v1/images/build";
    let kind = format!("Content-Type: {BUILD_TYPE}");
    let told = house.ask(line, &["Content-Type: application/json"], "{}\n").await;
    assert!(told.starts_with("400 ") && told.contains(BUILD_TYPE), "{told}");
    for (body, words) in [
        ("{}\n", "`app` is missing"),
        (r#"{"app":"shop"}"#, "ended before its first line did"),
        ("{\"app\":\"shop\",\"colour\":1}\n", "colour"),
    ] {
        let told = house.ask(line, &[&kind], body).await;
        assert!(told.starts_with("400 ") && told.contains(words), "{told}");
    }
    let told = house.ask(line, &[&kind], &"x".repeat(BUILD_LINE_MAX + 2)).await;
    assert!(told.starts_with("400 ") && told.contains("longer than 1 MiB"), "{told}");
    let told = house.ask(line, &[&kind, "Idempotency-Key: k"], "{}\n").await;
    assert!(told.starts_with("400 ") && told.contains("no key is kept"), "{told}");
    assert_eq!(house.fake.recorded(), [""; 0]);
}

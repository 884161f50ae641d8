//! What the engine is asked, and what its messages come to.

use std::collections::BTreeMap;

use upbeat_model::project::Ulimit;
use upbeat_model::project::container::{Build, ImageRef};

use super::*;

fn told(messages: &[&str]) -> (Vec<BuildWord>, Option<BuildError>) {
    let mut telling = Telling::default();
    let heard = messages.iter().try_for_each(|text| telling.hear(serde_json::from_str(text).unwrap()));
    let ended = heard.and_then(|()| telling.end());
    (telling.words.into(), ended.err())
}

fn output(text: &str) -> BuildWord {
    BuildWord::Output { text: text.to_owned() }
}

#[test]
fn steps_and_lines_are_told_however_they_are_cut_and_the_last_image_counts() {
    let (words, error) = told(&[
        r#"{"stream":"Step 1/2 : FROM busybox"}"#,
        r#"{"stream":"\n"}"#,
        r#"{"status":"Pulling from library/busybox","id":"latest"}"#,
        r#"{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"abc"}"#,
        r#"{"status":"Pull complete","progressDetail":{},"id":"abc"}"#,
        r#"{"aux":{"ID":"sha256:1"}}"#,
        r#"{"stream":"Step 2/2 : RUN make\n"}"#,
        r#"{"stream":" ---> Running in 0123456789ab\n"}"#,
        r#"{"stream":"one\r\ntw"}"#,
        r#"{"stream":"o\n\n"}"#,
        r#"{"stream":"\u001b[91mred\n\u001b[0m"}"#,
        r#"{"aux":{"ID":"sha256:2"}}"#,
        r#"{"stream":"no end"}"#,
    ]);
    assert_eq!(error, None);
    let step = |number, text: &str| BuildWord::Step { number, of: 2, text: text.to_owned() };
    assert_eq!(
        words,
        [
            step(1, "FROM busybox"),
            output("latest: Pulling from library/busybox"),
            output("abc: Pull complete"),
            step(2, "RUN make"),
            output("one"),
            output("two"),
            output("red"),
            output("no end"),
            BuildWord::Built { id: "sha256:2".to_owned() },
        ]
    );
}

#[test]
fn steps_are_those_of_the_file() {
    let mut telling = Telling { marks: 2, ..Telling::default() };
    for text in
        ["Step 1/3 : FROM a\n", "Step 2/3 : LABEL a=b\n", " ---> Using cache\n", "Step 3/3 : LABEL b=c\n"]
    {
        telling.hear(serde_json::from_value(serde_json::json!({ "stream": text })).unwrap()).unwrap();
    }
    assert_eq!(telling.words, [BuildWord::Step { number: 1, of: 1, text: "FROM a".to_owned() }]);
}

#[test]
fn output_without_an_end_is_not_glued_to_the_engines_own_words() {
    let (words, error) = told(&[
        r#"{"stream":"Step 1/2 : RUN printf a"}"#,
        r#"{"stream":"\n"}"#,
        r#"{"stream":" ---> Running in 0123456789ab\n"}"#,
        r#"{"stream":"one"}"#,
        r#"{"stream":"\u001b[91m and two\u001b[0m"}"#,
        r#"{"stream":"Removing intermediate container 0123456789ab\n"}"#,
        r#"{"stream":" ---> 0123456789ab\n"}"#,
        r#"{"stream":"three"}"#,
        r#"{"stream":"Step 2/2 : RUN printf b"}"#,
        r#"{"aux":{"ID":"sha256:2"}}"#,
    ]);
    assert_eq!(error, None);
    let step = |number, text: &str| BuildWord::Step { number, of: 2, text: text.to_owned() };
    let built = BuildWord::Built { id: "sha256:2".to_owned() };
    let told =
        [step(1, "RUN printf a"), output("one and two"), output("three"), step(2, "RUN printf b"), built];
    assert_eq!(words, told);
}

#[test]
fn flags_that_the_classic_builder_does_not_know_are_said_to_be_buildkits() {
    for (said, named) in [
        ("dockerfile parse error line 2: Unknown flag: link", Some("`--link` needs BuildKit")),
        ("Unknown flag: --checksum", Some("`--checksum` needs BuildKit")),
        ("dockerfile parse error line 2: Unknown flag: lonk", None),
    ] {
        let (_, error) = told(&[&serde_json::json!({ "error": said }).to_string()]);
        let error = error.unwrap().to_string();
        assert_eq!(error.contains("under `image`"), named.is_some(), "{error}");
        assert!(error.contains(named.unwrap_or(said)), "{error}");
    }
}

#[test]
fn a_line_without_an_end_is_told_in_parts() {
    let long = "x".repeat(LINE_MAX);
    let messages: Vec<String> = (0..3).map(|_| serde_json::json!({ "stream": long }).to_string()).collect();
    let mut telling = Telling::default();
    for message in &messages {
        telling.hear(serde_json::from_str(message).unwrap()).unwrap();
        assert!(telling.left.len() <= LINE_MAX);
    }
    assert_eq!(telling.words.len(), 1);
}

#[test]
fn what_fails_says_its_step_and_what_ends_without_an_image_is_none() {
    let failed = r#"{"errorDetail":{"code":1,"message":"x"},"error":"The command '/bin/sh -c false' returned a non-zero code: 1"}"#;
    let (_, error) = told(&[r#"{"stream":"Step 3/5 : RUN false\n"}"#, failed]);
    assert_eq!(
        error.unwrap().to_string(),
        "step 3 of 5, `RUN false`, failed: The command '/bin/sh -c false' returned a non-zero code: 1"
    );
    let (_, error) = told(&[r#"{"error":"dockerfile parse error line 1: unknown instruction: FORM"}"#]);
    assert!(matches!(error, Some(BuildError::Refused(why)) if why.contains("line 1")));
    let (words, error) = told(&[r#"{"stream":"Step 1/1 : FROM a\n"}"#]);
    assert_eq!(words.len(), 1);
    assert!(error.unwrap().to_string().contains("without an image"));
}

#[test]
fn what_needs_buildkit_is_said_with_what_to_do() {
    let said = "the --mount option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn";
    let (_, error) = told(&[
        r#"{"stream":"Step 2/2 : RUN --mount=type=cache,target=/x true\n"}"#,
        &format!(r#"{{"error":"{said}"}}"#),
    ]);
    let error = error.unwrap().to_string();
    assert!(error.starts_with("step 2 of 2, `RUN --mount"), "{error}");
    assert!(error.contains("`--mount` needs BuildKit") && error.contains("under `image`"), "{error}");
}

fn wanted() -> ImageBuild {
    ImageBuild {
        app: "shop".parse().unwrap(),
        service: "web".parse().unwrap(),
        image: ImageRef::parse("shop-web").unwrap(),
        build: Build::default(),
    }
}

#[test]
fn all_that_a_file_says_of_a_build_is_asked_of_the_engine() {
    let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let build = Build {
        context: "/not/told".to_owned(),
        dockerfile: Some("docker/Dockerfile".to_owned()),
        dockerfile_inline: None,
        args: pair("V", "a&b=\"1\""),
        cache_from: vec!["old:1".to_owned()],
        extra_hosts: BTreeMap::from([("db".to_owned(), vec!["10.0.0.1".to_owned(), "::1".to_owned()])]),
        labels: pair("colour", "red"),
        network: Some("host".to_owned()),
        no_cache: true,
        platform: Some("linux/amd64".to_owned()),
        pull: true,
        shm_size: Some(1 << 20),
        tags: vec![ImageRef::parse("other:2").unwrap()],
        target: Some("run".to_owned()),
        ulimits: BTreeMap::from([("nofile".to_owned(), Ulimit { soft: 1, hard: -1 })]),
    };
    let text = ask_of(&ImageBuild { build, ..wanted() }).asked();
    let text = percent_encoding::percent_decode_str(&text).decode_utf8().unwrap().into_owned();
    for said in [
        "/build?version=1&rm=1&forcerm=1&t=shop-web:latest&",
        "&t=other:2&",
        "&dockerfile=docker/Dockerfile&",
        r#"&buildargs={"V":"a&b=\"1\""}&"#,
        r#"&cachefrom=["old:1"]&"#,
        "&extrahosts=db:10.0.0.1&extrahosts=db:::1&",
        r#"&labels={"colour":"red","io.upbeat.app":"shop","io.upbeat.service":"web"}&"#,
        "&networkmode=host&nocache=1&platform=linux/amd64&pull=1&shmsize=1048576&target=run&",
        r#"&ulimits=[{"Hard":-1,"Name":"nofile","Soft":1}]"#,
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert!(!text.contains("/not/told") && !text.contains("remote="), "{text}");
    let fetched = Build { context: "https://x.example/a.git#main".to_owned(), ..Build::default() };
    let text = ask_of(&ImageBuild { build: fetched, ..wanted() }).asked();
    assert!(text.contains("&remote=https%3A%2F%2Fx%2Eexample"), "{text}");
}

#[test]
fn what_no_engine_can_do_is_refused_before_it_is_asked() {
    let inline = Build { dockerfile_inline: Some("FROM a".to_owned()), ..Build::default() };
    assert!(check(&ImageBuild { build: inline, ..wanted() }).is_err());
    let image = ImageRef::parse(&format!("a@sha256:{}", "0".repeat(64))).unwrap();
    assert!(check(&ImageBuild { image, ..wanted() }).is_err());
    assert_eq!(check(&wanted()), Ok(()));
}

#[tokio::test]
async fn builds_take_turns_and_only_so_many_wait() {
    let builds = Builds::default();
    let held = [builds.turn().await.unwrap(), builds.turn().await.unwrap()];
    let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(builds.turn())).collect();
    for one in &mut waiting {
        assert!(futures_util::poll!(one).is_pending());
    }
    assert_eq!(builds.turn().await.unwrap_err(), BuildError::Busy);
    // Who does not wait any more is not counted.
    drop(waiting.pop());
    let mut next = Box::pin(builds.turn());
    assert!(futures_util::poll!(&mut next).is_pending());
    drop((held, waiting));
    drop(next.await.unwrap());
}

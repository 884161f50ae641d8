//! Every way to be told no, word by word.

use insta::assert_snapshot;

use super::House;

const JSON: &str = "Content-Type: application/json";

#[tokio::test]
async fn what_is_not_there_is_said() {
    let house = House::open();
    assert_snapshot!(house.ask("GET /api/v2/apps", &[], "").await, @r#"404 {"kind":"not_found","message":"there is no `/api/v2/apps` here","hint":"`GET /api/v1/openapi.json` lists what there is"}"#);
    assert_snapshot!(house.ask("GET /api/v1/apps/shed", &[], "").await, @r#"404 {"kind":"not_found","message":"there is no app `shed`","hint":"`upbeat ps` lists them"}"#);
    assert_snapshot!(house.ask("GET /api/v1/operations/8", &[], "").await, @r#"404 {"kind":"not_found","message":"there is no operation 8"}"#);
    assert_snapshot!(house.ask("PATCH /api/v1/apps/shop", &[], "").await, @r#"405 {"kind":"bad_request","message":"`/api/v1/apps/shop` cannot be asked with PATCH","hint":"`GET /api/v1/openapi.json` says how"}"#);
    let raw = house.raw("POST /api/v1/apps HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(raw.to_ascii_lowercase().contains("\r\nallow: get,head\r\n"), "{raw}");
}

#[tokio::test]
async fn a_name_or_a_number_that_is_none_is_refused() {
    let house = House::open();
    assert_snapshot!(house.ask("GET /api/v1/apps/..%2Fetc", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the path: `../etc` is not a valid project name: it must start with a letter or a digit"}"#);
    assert_snapshot!(house.ask("GET /api/v1/apps/%ff", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the path: Invalid UTF-8 in `app`"}"#);
    assert_snapshot!(house.ask("GET /api/v1/apps/shop/services/-x/why", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the path: `-x` is not a valid service name: it must start with a letter or a digit"}"#);
    assert_snapshot!(house.ask("GET /api/v1/operations/seven", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the path: Cannot parse `seven` to a `u64`"}"#);
}

#[tokio::test]
async fn a_key_is_one_name() {
    let house = House::open();
    assert_snapshot!(house.ask("DELETE /api/v1/apps/shop", &["Idempotency-Key: a b"], "").await, @r#"400 {"kind":"bad_request","message":"in `idempotency-key`: `a b` is not a valid idempotency key: only visible ASCII characters are allowed, and no space"}"#);
    assert_snapshot!(house.ask("DELETE /api/v1/apps/shop", &["Idempotency-Key:"], "").await, @r#"400 {"kind":"bad_request","message":"in `idempotency-key`: `` is not a valid idempotency key: it is empty"}"#);
    assert_snapshot!(house.ask("DELETE /api/v1/apps/shop", &["Idempotency-Key: a", "Idempotency-Key: b"], "").await, @r#"400 {"kind":"bad_request","message":"in `idempotency-key`: there is more than one"}"#);
    assert!(house.fake.asked().is_empty());
}

#[tokio::test]
async fn a_query_is_read_strictly() {
    let house = House::open();
    assert_snapshot!(house.ask("GET /api/v1/apps?x=1", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the query: x: unknown field `x`, there are no fields"}"#);
    assert_snapshot!(house.ask("DELETE /api/v1/apps/shop?force=true", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the query: force: unknown field `force`, expected `kill`"}"#);
    assert_snapshot!(house.ask("DELETE /api/v1/apps/shop?kill=1", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the query: kill: provided string was not `true` or `false`"}"#);
    assert_snapshot!(house.ask("GET /api/v1/apps/shop/logs?service=web,,db", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the query: service: `` is not a valid service name: it is empty"}"#);
    assert_snapshot!(house.ask("GET /api/v1/apps/shop/logs?tail=-1", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the query: tail: must be a whole number"}"#);
    assert_snapshot!(house.ask("GET /api/v1/apps/shop/logs?tail=1&tail=2", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the query: duplicate field `tail`"}"#);
    assert_snapshot!(house.ask("GET /api/v1/events?limit=1001", &[], "").await, @r#"400 {"kind":"bad_request","message":"in the query: limit: 1001 is more than 1000","hint":"ask again, `after` the last one you have"}"#);
    assert_snapshot!(house.ask("GET /api/v1/events/watch", &["Last-Event-ID: x"], "").await, @r#"400 {"kind":"bad_request","message":"`Last-Event-ID` is not the sequence number of an event"}"#);
    assert!(house.fake.asked().is_empty());
}

#[tokio::test]
async fn a_body_is_read_strictly() {
    let house = House::open();
    let put = "PUT /api/v1/apps/shop";
    let act = "POST /api/v1/apps/shop/actions";
    assert_snapshot!(house.ask(put, &[], "{}").await, @r#"400 {"kind":"bad_request","message":"the body has no `Content-Type`","hint":"send JSON, with `Content-Type: application/json`"}"#);
    assert_snapshot!(house.ask(put, &["Content-Type: text/yaml"], "a: 1").await, @r#"400 {"kind":"bad_request","message":"the body is declared as `text/yaml`","hint":"send JSON, with `Content-Type: application/json`"}"#);
    assert_snapshot!(house.ask(put, &[JSON], "{").await, @r#"400 {"kind":"bad_request","message":"in the body: EOF while parsing an object at line 1 column 1"}"#);
    assert_snapshot!(house.ask(put, &[JSON], "{}").await, @r#"400 {"kind":"bad_request","message":"in the body: `project` is missing at line 1 column 2"}"#);
    let unknown =
        r#"{"project":{"name":"shop","services":{"web":{"command":["a"],"working_dir":"/","colour":1}}}}"#;
    assert_snapshot!(house.ask(put, &[JSON], unknown).await, @r#"400 {"kind":"bad_request","message":"in the body at `project.services.web.colour`: unknown field `colour`, expected one of `container`, `command`, `environment`, `working_dir`, `user`, `group_add`, `ulimits`, `resources`, `oom_score_adj`, `tty`, `stdin_open`, `files`, `depends_on`, `probes`, `external`, `restart`, `restart_rhythm`, `success_exit_codes`, `pre_start`, `post_start`, `pre_stop`, `post_stop`, `reload`, `exit_on_end`, `update_lock`, `stop_signal`, `stop_grace_period`, `stop_command`, `scale`, `log`, `per_copy`, `attach`, `labels` at line 1 column 87"}"#);
    let other = r#"{"project":{"name":"shed","services":{}}}"#;
    assert_snapshot!(house.ask(put, &[JSON], other).await, @r#"400 {"kind":"bad_request","message":"the path says app `shop`, but the project is called `shed`","hint":"use one name in both"}"#);
    let twice = format!("{other}{other}");
    assert_snapshot!(house.ask(put, &[JSON], &twice).await, @r#"400 {"kind":"bad_request","message":"in the body: trailing characters at line 1 column 42"}"#);
    assert_snapshot!(house.ask(act, &[JSON], r#"{"action":"dance"}"#).await, @r#"400 {"kind":"bad_request","message":"in the body at `action`: unknown variant `dance`, expected one of `start`, `stop`, `restart`, `reload`, `scale` at line 1 column 17"}"#);
    assert_snapshot!(house.ask(act, &[JSON], r#"{"action":"stop","force":true}"#).await, @r#"400 {"kind":"bad_request","message":"in the body: unknown field `force`, expected `services` or `kill`"}"#);
    assert!(house.fake.asked().is_empty());
}

#[tokio::test]
async fn what_a_body_says_in_the_wrong_place_is_not_repeated() {
    let house = House::open();
    let service = |key: &str, value: &str| {
        let spec = format!(r#"{{"command":["a"],"working_dir":"/","{key}":{value}}}"#);
        format!(r#"{{"project":{{"name":"shop","services":{{"web":{spec}}}}}}}"#)
    };
    for (key, value) in [
        ("environment", r#""TOKEN=canary, expected a \"canary""#),
        ("environment", r#"["TOKEN=canary"]"#),
        ("environment", r#"{"TOKEN":77778888}"#),
        ("environment", r#"{"TOKEN":["canary"]}"#),
        ("files", r#"[{"name":"key","content":"canary!"}]"#),
        ("files", r#"[{"name":"key","content":77778888}]"#),
        ("pre_start", r#"[{"command":["a"],"environment":"canary"}]"#),
        ("probes", r#"{"readiness":{"ask":{"http":{"url":"http://h","headers":"canary"}}}}"#),
    ] {
        let answer = house.ask("PUT /api/v1/apps/shop", &[JSON], &service(key, value)).await;
        assert!(answer.starts_with("400 ") && answer.contains(key), "{answer}");
        assert!(!answer.contains("canary") && !answer.contains("77778888"), "{answer}");
    }
    let put = service("environment", r#"{"PIN":77778888}"#);
    assert_snapshot!(house.ask("PUT /api/v1/apps/shop", &[JSON], &put).await, @r#"400 {"kind":"bad_request","message":"in the body at `project.services.web.environment.PIN`: invalid type: integer, expected a string at line 1 column 108"}"#);
    let named = r#"[{"name":"a","start_command":["canary"]}]"#;
    let answer = house.ask("POST /api/v1/services/register", &[JSON], named).await;
    assert!(answer.starts_with("400 ") && !answer.contains("canary"), "{answer}");
    assert!(house.fake.asked().is_empty());
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_unread() {
    let house = House::open();
    let put = "PUT /api/v1/apps/shop";
    let announced = house.ask(put, &[JSON, "Content-Length: 16777217"], "").await;
    assert_snapshot!(announced, @r#"413 {"kind":"bad_request","message":"the body is larger than 16 MiB","hint":"split what it holds: a project into apps, reports by their targets"}"#);
    // One that does not say how large it is, until it is too large.
    let mut request =
        format!("{put} HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n")
            .into_bytes();
    request.extend_from_slice(b"1000001\r\n");
    request.resize(request.len() + 0x100_0001, b' ');
    let answer = house.raw(&request).await;
    assert_eq!(super::status_and_body(&answer), announced);
    assert!(house.fake.asked().is_empty());
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let house = House::open();
    let long = format!("X: {}", "x".repeat(crate::bounds::HEAD_MAX));
    assert_snapshot!(house.ask("GET /api/v1/apps", &[&long], "").await, @"431");
    let many = vec!["X: x"; crate::bounds::HEADERS_MAX + 1];
    assert_snapshot!(house.ask("GET /api/v1/apps", &many, "").await, @"431");
    assert_snapshot!(super::status_and_body(&house.raw("nonsense\r\n\r\n").await), @"400");
    house.client().version().await.unwrap();
}

#[tokio::test]
async fn pages_of_others_cannot_ask() {
    let house = House::open();
    assert_snapshot!(house.ask("GET /api/v1/apps", &["Host: evil.example"], "").await, @r#"403 {"kind":"forbidden","message":"the `Host` of the request is not this server","hint":"use `Host: localhost`, or one of `api.allowed_hosts`"}"#);
    assert_snapshot!(house.ask("GET /api/v1/apps", &["Origin: http://evil.example"], "").await, @r#"403 {"kind":"forbidden","message":"web pages may not ask this server","hint":"leave out the `Origin` header"}"#);
    for host in ["Host:", "Host: upbeat", "Host: LOCALHOST:80"] {
        let answer = house.ask("GET /api/v1/apps", &[host], "").await;
        assert!(answer.starts_with("200 "), "{host}: {answer}");
    }
}

#[tokio::test]
async fn a_bug_is_the_problem_of_one_request() {
    let house = House::open();
    assert_snapshot!(house.ask("GET /api/v1/apps/bug", &[], "").await, @r#"500 {"kind":"internal","message":"a bug in Upbeat met `GET /api/v1/apps/bug`","hint":"the daemon's log says more; please report it"}"#);
    house.client().app(&super::fake::name("shop")).await.unwrap();
}

#[tokio::test]
async fn who_is_not_known_changes_nothing() {
    use hyper::service::Service;
    let routes = hyper_util::service::TowerToHyperService::new(crate::router(super::Fake::default()));
    let request = axum::http::Request::delete("/api/v1/apps/shop").body(axum::body::Body::empty()).unwrap();
    assert_eq!(routes.call(request).await.unwrap().status(), 403);
}

//! The device document over HTTP.

use std::sync::atomic::Ordering;

use insta::assert_snapshot;
use serde_json::{Value, json};
use upbeat_model::device::Standing;

use super::House;
use super::fake_device::meanwhile;

const JSON: &str = "Content-Type: application/json";
const MERGE: &str = "Content-Type: application/merge-patch+json";

async fn json_of(house: &House, line: &str) -> Value {
    let told = house.ask(line, &[], "").await;
    serde_json::from_str(told.strip_prefix("200 ").unwrap_or_else(|| panic!("{told}"))).unwrap()
}

fn r0(app: &str) -> Value {
    json!({ "apps": { app: { "releases": { "r0": { "services": { "main": { "image": "a" } } } } } } })
}

#[tokio::test]
async fn a_whole_takes_away_and_a_merge_leaves_alone() {
    let house = House::open();
    let told = house.ask("PATCH /api/v1/device", &[MERGE], &r0("a0").to_string()).await;
    assert!(told.starts_with("202 {\"operations\":[{\"id\":7,\"app\":\"a0\""), "{told}");
    let shown = json_of(&house, "GET /api/v1/device").await;
    assert_eq!(shown["apps"].as_object().unwrap().keys().collect::<Vec<_>>(), ["a0", "shop"]);
    let told = house.ask("PUT /api/v1/device", &[JSON], &shown.to_string()).await;
    assert_eq!(told, "200 {\"operations\":[]}", "what is shown is wanted already");
    let told = house.ask("PUT /api/v1/device", &[JSON], &r0("a0").to_string()).await;
    assert!(told.starts_with("202 "), "{told}");
    assert_eq!(json_of(&house, "GET /api/v1/device").await["apps"].as_object().unwrap().len(), 1);
    let own = format!("uid {}", rustix::process::geteuid().as_raw());
    let asked = [format!("{own}: a0 is r0, stopped []"), format!("{own}: shop goes")];
    assert_eq!(house.fake.asked(), asked);
}

#[tokio::test]
async fn an_app_is_asked_for_by_itself() {
    let house = House::open();
    let app = &r0("a0")["apps"]["a0"].to_string();
    let told = house.ask("PUT /api/v1/device/apps/a0", &[JSON], app).await;
    assert!(told.starts_with("202 "), "{told}");
    let stop = json!({ "releases": { "r0": { "services": { "main": { "status": "stopped" } } } } });
    let told = house.ask("PATCH /api/v1/device/apps/a0", &[JSON], &stop.to_string()).await;
    assert!(told.starts_with("202 "), "{told}");
    let shown = json_of(&house, "GET /api/v1/device/apps/a0").await;
    assert_eq!(shown["releases"]["r0"]["services"]["main"], json!({ "image": "a", "status": "created" }));
    assert!(house.ask("DELETE /api/v1/device/apps/a0", &[], "").await.starts_with("202 "));
    let gone = r#"404 {"kind":"not_found","message":"there is no app `a0`","hint":"`GET /api/v1/device` shows what there is"}"#;
    assert_eq!(house.ask("GET /api/v1/device/apps/a0", &[], "").await, gone);
    assert_eq!(house.ask("DELETE /api/v1/device/apps/a0", &[], "").await, gone);
    let record = house.fake.recorded();
    assert!(
        record.iter().any(|record| record.contains("PATCH /api/v1/device/apps/{app}: some of the app of a0")),
        "{record:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_by_name_and_changes_nothing() {
    let house = House::open();
    let body = r0("a0").to_string();
    let told = house.ask("PATCH /api/v1/device?force=true", &[JSON], &body).await;
    assert_snapshot!(told, @r#"400 {"kind":"bad_request","message":"in the query: force: a document does not overrule update locks","hint":"leave it out, and restart what holds one by its name, which does not wait for it"}"#);
    let told = house.ask("PATCH /api/v1/device", &[JSON, "Idempotency-Key: k"], &body).await;
    assert!(told.starts_with("400 ") && told.contains("no key is kept below `/api/v1/device`"), "{told}");
    let told = house.ask("PUT /api/v1/device", &[MERGE], &body).await;
    assert!(told.starts_with("400 ") && told.contains("application/merge-patch+json"), "{told}");
    let told = house.ask("PUT /api/v1/device", &[JSON], "{\"apps\":{\"a0\":{},\"b 0\":{}}}").await;
    assert_snapshot!(told, @r#"400 {"kind":"bad_request","message":"nothing was changed: `/apps/b 0`: the name of an app: only letters, digits, `.`, `_` and `-` are allowed"}"#);
    let twice = r#"{"apps":{"a0":{"releases":{"r0":{}},"releases":{}}}}"#;
    let told = house.ask("PUT /api/v1/device", &[JSON], twice).await;
    assert_snapshot!(told, @r#"400 {"kind":"bad_request","message":"in the body at `apps.a0`: the key `releases` is there twice at line 1 column 50"}"#);
    let told = house.ask("GET /api/v1/device?wait=601s", &[], "").await;
    assert!(told.starts_with("400 ") && told.contains("up to 600"), "{told}");
    assert_eq!(house.fake.asked(), [""; 0]);
    *house.fake.device.refuses.lock().unwrap() = Some(meanwhile());
    let told = house.ask("PATCH /api/v1/device?cancel=true&force=false", &[JSON], &body).await;
    assert_eq!(told, r#"409 {"kind":"conflict","message":"app `a0` was changed meanwhile"}"#);
}

#[tokio::test]
async fn who_waits_is_answered_when_it_is_settled_or_the_time_is_over() {
    let house = House::open();
    house.fake.device.goes_on.store(true, Ordering::Relaxed);
    house.fake.device.stands(Standing::Applying);
    let told = json_of(&house, "GET /api/v1/device?wait=0s").await;
    assert_eq!(told["status"], "applying changes");
    let settling = house.fake.device.clone();
    let (told, ()) = tokio::join!(json_of(&house, "GET /api/v1/device?wait=600s"), async {
        settling.stands(Standing::Aborted);
    });
    assert_eq!(told["status"], "aborted");
    let mut watched = house.client().watch_device().await.unwrap();
    use futures_util::StreamExt;
    assert_eq!(watched.next().await.unwrap().unwrap().status, Standing::Aborted);
    settling.stands(Standing::Done);
    assert_eq!(watched.next().await.unwrap().unwrap().status, Standing::Done);
}

#[tokio::test]
async fn a_document_is_queued_behind_what_is_under_way_and_called_off_by_a_newer_one() {
    let house = House::open();
    let own = format!("uid {}", rustix::process::geteuid().as_raw());
    let queue =
        async |app: &str| house.ask("PATCH /api/v1/device?cancel=false", &[JSON], &r0(app).to_string()).await;
    let told = queue("a0").await;
    assert!(told.starts_with("202 {\"operations\":[{"), "nothing is under way: {told}");
    house.fake.device.stands(Standing::Applying);
    assert_eq!(queue("a1").await, r#"202 {"operations":[],"queued":true}"#);
    let shown = json_of(&house, "GET /api/v1/device").await;
    assert_eq!(shown["queued"]["what"], "some of the device document");
    assert_eq!((&shown["queued"]["who"], &shown["apps"]["a1"]), (&json!(own), &Value::Null));
    // It is judged as if it were its turn.
    let told = house.ask("PATCH /api/v1/device?cancel=false", &[JSON], "{\"apps\":{\"b 0\":{}}}").await;
    assert!(told.starts_with("400 "), "{told}");
    // What waits for it to end waits for this, too.
    house.fake.device.stands(Standing::Done);
    assert_eq!(json_of(&house, "GET /api/v1/device").await["status"], "applying changes");
    let newer = format!(
        r#"202 {{"operations":[],"queued":true,"notes":["a document that was queued by {own} is called off: some of the device document"]}}"#
    );
    assert_eq!(queue("a2").await, newer);
    // Bad input changes nothing of it; the newest word does.
    let told = house.ask("PATCH /api/v1/device", &[JSON], "{\"apps\":{\"b 0\":{}}}").await;
    assert!(told.starts_with("400 "), "{told}");
    assert_ne!(json_of(&house, "GET /api/v1/device").await["queued"], Value::Null);
    let told = house.ask("PATCH /api/v1/device", &[JSON], "{}").await;
    assert!(told.starts_with(r#"200 {"operations":[],"notes":["a document that was queued by"#), "{told}");
    assert_eq!(json_of(&house, "GET /api/v1/device").await["queued"], Value::Null);
    let queued = format!("{own}: queues some of the device document");
    assert_eq!(house.fake.asked(), [format!("{own}: a0 is r0, stopped []"), queued.clone(), queued]);
}

#[tokio::test]
async fn keys_are_taken_and_come_back_only_as_a_mark() {
    let house = House::open();
    let body = json!({ "keys": { "r.example": "open sesame" } }).to_string();
    let told = house.ask("PATCH /api/v1/device", &[MERGE], &body).await;
    assert_eq!(told, r#"200 {"operations":[],"keys":["r.example"]}"#);
    let shown = json_of(&house, "GET /api/v1/device").await;
    assert_eq!(shown["keys"], json!({ "r.example": "***" }));
    let told = house.ask("PUT /api/v1/device", &[JSON], &shown.to_string()).await;
    assert_eq!(told, r#"200 {"operations":[]}"#);
    let record = house.fake.recorded();
    assert!(!format!("{record:?}{:?}", house.fake.asked()).contains("sesame"), "{record:?}");
    let told = house.ask("PATCH /api/v1/device", &[JSON], "{\"keys\":{\"r.example\":[\"sesame\"]}}").await;
    assert!(told.starts_with("400 ") && !told.contains("sesame"), "{told}");
}

#[tokio::test]
async fn what_is_sought_is_called_off_and_what_goes_on_is_named() {
    let house = House::open();
    let stop = async || house.ask("POST /api/v1/device/stop", &[], "").await;
    assert_eq!(stop().await, r#"200 {"operations":[]}"#, "nothing is sought");
    let body = r0("a0").to_string();
    house.ask("PATCH /api/v1/device", &[JSON], &body).await;
    house.fake.device.stands(Standing::Applying);
    house.ask("PATCH /api/v1/device?cancel=false", &[JSON], &body).await;
    let told = stop().await;
    assert!(told.starts_with(r#"202 {"operations":[{"id":7,"app":"shop""#), "{told}");
    let own = format!("uid {}", rustix::process::geteuid().as_raw());
    let notes = format!(
        r#""notes":["a document that was queued by {own} is called off: some of the device document","goes on to its end, as all of it has begun: a0"]}}"#
    );
    assert!(told.ends_with(&notes), "{told}");
    assert_eq!(json_of(&house, "GET /api/v1/device").await["queued"], Value::Null);
    let told = house.ask("POST /api/v1/device/stop", &["Idempotency-Key: k"], "").await;
    assert!(told.starts_with("400 "), "{told}");
    let words = "POST /api/v1/device/stop: what is sought is called off";
    let record = house.fake.recorded();
    assert!(record.iter().any(|record| record.contains(words)), "{record:?}");
}

//! What is asked about webhooks.

use insta::assert_snapshot;
use upbeat_api::{ClientError, ProblemKind};

use super::House;
use super::fake::{name, webhook};

#[tokio::test]
async fn webhooks_are_listed_and_tested() {
    let house = House::open();
    let client = house.client();
    assert_eq!(client.webhooks().await.unwrap(), [webhook()]);
    let tested = client.test_webhook(&name("ci")).await.unwrap();
    assert_eq!((tested.delivered, tested.status), (false, Some(500)), "that it was not taken is an answer");
    let Err(ClientError::Problem(problem)) = client.test_webhook(&name("cd")).await else {
        panic!("there is none")
    };
    assert_eq!(problem.kind, ProblemKind::NotFound);
    assert_eq!(house.fake.asked(), ["test ci", "test cd"]);
}

#[tokio::test]
async fn what_is_no_name_or_has_a_key_is_refused_before_anything_is_sent() {
    let house = House::open();
    let told = house.ask("POST /api/v1/webhooks/a%2Fb/test", &[], "").await;
    assert_snapshot!(told, @r#"400 {"kind":"bad_request","message":"in the path: `a/b` is not a valid name of a webhook: only letters, digits, `.`, `_` and `-` are allowed"}"#);
    let told = house.ask("POST /api/v1/webhooks/ci/test?now=1", &[], "").await;
    assert!(told.starts_with("400 "), "{told}");
    let told = house.ask("POST /api/v1/webhooks/ci/test", &["Idempotency-Key: k"], "").await;
    assert_snapshot!(told, @r#"400 {"kind":"bad_request","message":"in `idempotency-key`: no key is kept below `/api/v1/webhooks`","hint":"leave it out, and ask again if the answer is lost"}"#);
    assert_eq!(house.fake.asked(), [""; 0]);
}

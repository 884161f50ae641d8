//! Services whose start command has ended and may have started them elsewhere: what is asked of their
//! endpoints, and what follows from the answers.

use super::House;
use super::fake::{Endpoint, Fake};
use crate::compat::guide::ServicesSettings;

/// A word for how it is stopped there.
const STOP: &str = "systemctl stop dns";

fn dns(stop: &str) -> String {
    format!(
        r#"{{"name":"dns","start_command":"systemctl start dns","stop_command":"{stop}","health_check_endpoint":"http://h/dns"}}"#
    )
}

async fn post(house: &House, path: &str, body: &str) -> String {
    let headers: &[&str] = if body.is_empty() { &[] } else { &["Content-Type: application/json"] };
    house.ask(&format!("POST /api/v1/services/{path}"), headers, body).await
}

/// With `web`, which needs `dns`, and two that need nothing, of which nothing is declared but their processes
/// and an endpoint; all were started, and the commands of these have ended.
async fn house(auto_start_dependencies: bool, elsewhere: &[(&str, Endpoint)]) -> House {
    let settings = ServicesSettings { auto_start_dependencies, ..ServicesSettings::default() };
    let house = House::with(Fake::with(settings));
    let process = |name: &str, needs: &str| {
        format!(
            r#"{{"name":"{name}","dependencies":[{needs}],"start_command":"{name}","health_check_endpoint":"http://h/{name}"}}"#
        )
    };
    let services = [dns(""), process("web", "\"dns\""), process("one", ""), process("two", "")].join(",");
    assert!(post(&house, "register", &format!("[{services}]")).await.starts_with("200 "));
    assert!(post(&house, "start", "").await.starts_with("200 "));
    hold(&house, elsewhere);
    house.fake.asked();
    house
}

fn hold(house: &House, elsewhere: &[(&str, Endpoint)]) {
    let elsewhere = elsewhere.iter().map(|(name, endpoint)| ((*name).to_owned(), *endpoint));
    *house.fake.elsewhere.lock().unwrap() = elsewhere.collect();
}

async fn status(house: &House, name: &str) -> String {
    let all = house.ask("GET /api/v1/services/status", &[], "").await;
    let of = format!(r#"{{"name":"{name}","status":""#);
    let (_, rest) = all.split_once(&of).unwrap_or_else(|| panic!("{all}"));
    rest.split('"').next().unwrap().to_owned()
}

/// What was changed, without what was asked of endpoints.
fn changed(house: &House) -> Vec<String> {
    house.fake.asked().into_iter().filter(|asked| asked.starts_with("uid ")).collect()
}

#[tokio::test]
async fn a_stop_command_that_comes_late_stops_nothing_before_the_next_start() {
    let house = house(true, &[("dns", Endpoint::Answers)]).await;
    let said = post(&house, "dns/stop", "").await;
    assert!(said.starts_with("409 ") && said.contains("say in its `stop_command`"), "{said}");
    house.fake.asked();
    assert!(post(&house, "register", &dns(STOP)).await.starts_with("200 "));
    assert_eq!(changed(&house).len(), 1);
    assert_eq!(status(&house, "dns").await, "Running");
    post(&house, "register", r#"{"name":"web","start_command":"web"}"#).await;
    house.fake.asked();
    for verb in ["stop", "restart", "unregister"] {
        let said = post(&house, &format!("dns/{verb}"), "").await;
        assert!(
            said.starts_with(r#"409 {"success":false,"error":"service `dns` could not be stopped: "#)
                && said.contains("start it again first"),
            "{verb}: {said}"
        );
        assert!(changed(&house).is_empty(), "{verb}");
    }
    let said = post(&house, "stop", "").await;
    assert!(said.starts_with("409 ") && said.contains("start it again first"), "{said}");
    house.fake.asked();
    assert_eq!(post(&house, "dns/start", "").await, r#"200 {"success":true,"data":"dns"}"#);
    let started = changed(&house);
    assert!(started.iter().any(|asked| asked.ends_with("run [dns]")), "{started:?}");
}

#[tokio::test]
async fn one_that_is_there_without_a_stop_command_is_left_alone() {
    let house = house(true, &[("dns", Endpoint::Answers)]).await;
    for path in ["dns/start", "web/start", "start"] {
        assert!(post(&house, path, "").await.starts_with("200 "), "{path}");
        assert!(changed(&house).is_empty(), "{path}");
    }
}

#[tokio::test]
async fn nothing_is_done_about_one_that_cannot_be_asked() {
    let house = house(true, &[("dns", Endpoint::Unaskable)]).await;
    let paths = ["dns/start", "dns/restart", "web/start", "web/restart", "one/start", "one/restart"];
    for path in paths {
        let said = post(&house, path, "").await;
        match path.starts_with("one/") {
            true => assert!(said.starts_with("200 "), "{path}: {said}"),
            false => {
                let why = "it is not known whether service `dns` runs elsewhere: http://h/dns: could not be \
                           asked: no files; ";
                assert!(
                    said.starts_with(&format!(r#"503 {{"success":false,"error":"{why}"#)),
                    "{path}: {said}"
                );
                assert!(changed(&house).is_empty(), "{path}");
            }
        }
        house.fake.asked();
    }
    assert_eq!(status(&house, "dns").await, "Unknown");
    assert_eq!(status(&house, "one").await, "Running", "the others are told");
    // The others go on, but for those that need it.
    assert_eq!(post(&house, "start", "").await, r#"200 {"success":true,"data":["one","two"]}"#);
    let said = post(&house, "stop", "").await;
    assert!(said.starts_with("503 "), "{said}");
    let stopped = changed(&house);
    assert!(
        stopped.len() == 1 && stopped[0].contains("\"web\"") && !stopped[0].contains("\"dns\""),
        "{stopped:?}"
    );
    post(&house, "register", r#"{"name":"web","start_command":"web"}"#).await;
    house.fake.asked();
    for verb in ["stop", "unregister"] {
        let said = post(&house, &format!("dns/{verb}"), "").await;
        assert!(said.starts_with("503 "), "{verb}: {said}");
        assert!(changed(&house).is_empty(), "{verb}");
    }
}

#[tokio::test]
async fn one_that_is_gone_elsewhere_is_begun_anew_by_whoever_needs_it() {
    let house = house(true, &[("dns", Endpoint::Silent)]).await;
    assert_eq!(status(&house, "dns").await, "Failed");
    assert_eq!(post(&house, "web/start", "").await, r#"200 {"success":true,"data":"web"}"#);
    assert!(changed(&house).iter().any(|asked| asked.ends_with("run [dns]")), "`web` runs");
    let all = r#"200 {"success":true,"data":["dns","one","two","web"]}"#;
    assert_eq!(post(&house, "start", "").await, all);
    assert!(changed(&house).iter().any(|asked| asked.ends_with("run [dns]")), "the others run");
    let alone = self::house(false, &[]).await;
    hold(&alone, &[("dns", Endpoint::Silent)]);
    let said = post(&alone, "web/start", "").await;
    assert!(said.starts_with("409 ") && said.contains("does not run: `dns`; start that first"), "{said}");
    assert!(changed(&alone).is_empty());
}

/// One that hangs is waited for for seconds: by whoever asks for it, and by nobody else.
#[tokio::test]
async fn a_change_asks_the_endpoints_of_those_it_is_about() {
    let house = house(true, &["dns", "one", "two"].map(|name| (name, Endpoint::Answers))).await;
    let of_web = ["services/dns/1"].as_slice();
    for (path, expected) in [
        ("one/start", ["services/one/1"].as_slice()),
        ("one/restart", &["services/one/1"]),
        ("one/stop", &["services/one/1"]),
        ("one/unregister", &["services/one/1"]),
        ("web/start", of_web),
        ("web/restart", of_web),
        ("web/stop", &[]),
        ("web/unregister", &[]),
    ] {
        house.fake.asked();
        post(&house, path, "").await;
        let asked = house.fake.asked();
        let endpoints: Vec<&str> =
            asked.iter().filter_map(|asked| Some(asked.split_once(": http ")?.0)).collect();
        assert_eq!(endpoints, expected, "{path}");
    }
}

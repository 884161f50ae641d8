//! What somebody may do who means no good, or whose machine fails.

use std::process::{Command, Stdio};

use upbeat::services::{Service, ServiceOrchestrator, ServiceStatus};

use crate::home::{Home, process};

pub(crate) async fn hostile_names_reach_nothing() {
    let home = Home::new();
    let hostile = [
        "",
        ".",
        "..",
        "../../x",
        "a/b",
        "a b",
        "-rf",
        "a\0b",
        "a\nb",
        "\u{202e}x",
        "ä",
        "a,b",
        &"x".repeat(1000),
    ];
    for name in hostile {
        let refused = home.services.try_register_service(process(name, &[], "sleep 600")).await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("cannot be run: ") && said.len() < 300, "{said}");
        assert!(!said.contains(['\0', '\n', '\u{202e}']), "{said:?}");
        home.register([process(name, &[], "sleep 600")]).await;
        let said = home.services.start_service(name).await.unwrap_err().to_string();
        assert!(said.contains("cannot be run"), "{said}");
        assert_eq!(home.status(name).await, ServiceStatus::Failed);
        assert!(home.services.get_service_logs(name, 1).await.unwrap().is_empty());
    }
    home.register([process("well", &[], "sleep 600")]).await;
    assert_eq!(home.services.start_all_services().await.unwrap(), ["well"]);
    for name in hostile {
        home.services.unregister_service(name).await.unwrap();
    }
    let slots = home.path().join("state/slots/services");
    let made: Vec<_> = std::fs::read_dir(slots).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made, ["well"]);
}

pub(crate) async fn two_orchestrators_have_no_directory_in_common() {
    let home = Home::new();
    home.register([process("web", &[], "sleep 600")]).await;
    home.services.start_service("web").await.unwrap();
    let other = home.another();
    other.register_service(process("web", &[], "sleep 600")).await;
    let said = other.start_service("web").await.unwrap_err().to_string();
    assert!(said.contains("another daemon runs already") && said.contains("in_directory"), "{said}");
    assert_eq!(other.resolve_startup_order(&["web".to_string()]).await.unwrap(), ["web"]);
}

pub(crate) async fn services_outlive_their_orchestrator_and_are_found_again() {
    let home = Home::new();
    let first = home.another();
    first.register_service(process("web", &["db"], "sleep 600")).await;
    first.register_service(process("db", &[], "sleep 600")).await;
    first.start_service("web").await.unwrap();
    let before = first.check_service_health("web").await.unwrap().message;
    drop(first);
    // Nothing is registered here but what was kept.
    assert_eq!(home.status("web").await, ServiceStatus::Running);
    assert_eq!(home.services.check_service_health("web").await.unwrap().message, before, "the same process");
    home.services.start_service("web").await.unwrap();
    assert_eq!(home.services.check_service_health("web").await.unwrap().message, before);
    home.services.stop_service("db").await.unwrap();
    assert_eq!(home.status("web").await, ServiceStatus::Stopped);
}

/// The program that is killed: this one, with another name to it.
const KILLED: &str = "UPBEAT_TEST_KILLED_IN";

/// Starts services in a place until it is killed.
async fn to_be_killed(place: &str) {
    let services = ServiceOrchestrator::new("nu".into(), String::new(), true)
        .in_directory(place)
        .with_shim(env!("CARGO_BIN_EXE_upbeat-shim"));
    services.register_service(process("db", &[], "sleep 600")).await;
    services.register_service(process("web", &["db"], "sleep 600")).await;
    services.start_service("db").await.unwrap();
    let web = services.clone();
    tokio::spawn(async move { web.start_service("web").await });
    tokio::task::yield_now().await;
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
}

pub(crate) async fn a_program_that_is_killed_half_way_is_begun_anew() {
    if let Ok(place) = std::env::var(KILLED) {
        return to_be_killed(&place).await;
    }
    let home = Home::new();
    let name = "test_service_orchestration::a_program_that_is_killed_half_way_is_begun_anew";
    let killed = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(KILLED, home.path().join("state"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(killed.code(), None, "it was killed");
    let services = home.another();
    for service in [process("db", &[], "sleep 600"), process("web", &["db"], "sleep 600")] {
        services.register_service(service).await;
    }
    let db = services.check_service_health("db").await.unwrap();
    assert!(db.healthy, "it runs on: {}", db.message);
    services.start_service("web").await.unwrap();
    assert_eq!(services.check_service_health("db").await.unwrap().message, db.message, "the same process");
    drop(services);
    assert_eq!(home.status("web").await, ServiceStatus::Running);
}

pub(crate) async fn services_come_while_others_start() {
    let home = Home::new();
    home.register((0..10).map(|n| process(&format!("s{n}"), &[], "sleep 600"))).await;
    let starting = home.services.clone();
    let started = tokio::spawn(async move { starting.start_all_services().await });
    for n in 10..20 {
        home.register([process(&format!("s{n}"), &["s0"], "sleep 600")]).await;
        home.services.start_service(&format!("s{n}")).await.unwrap();
    }
    assert!(started.await.unwrap().unwrap().len() >= 10);
    assert_eq!(home.services.start_all_services().await.unwrap().len(), 20);
}

pub(crate) async fn output_that_is_no_text_is_shown() {
    let home = Home::new();
    home.register([process("raw", &[], "sh -c 'printf \"\\377\\376 x\\n\"; exec sleep 600'")]).await;
    home.services.start_service("raw").await.unwrap();
    assert_eq!(home.services.get_service_logs("raw", 10).await.unwrap(), ["\u{fffd}\u{fffd} x"]);
    assert!(home.services.get_service_logs("raw", 0).await.unwrap().is_empty());
}

pub(crate) async fn without_a_shim_it_is_said_how_to_get_one() {
    let home = Home::new();
    let services = home.another().with_shim(home.path().join("none"));
    services.register_service(process("web", &[], "sleep 600")).await;
    let said = services.start_service("web").await.unwrap_err().to_string();
    assert!(said.contains("is no program") && said.contains("shim_main()"), "{said}");
    home.register([process("web", &[], "sleep 600")]).await;
    home.services.start_service("web").await.unwrap();
}

pub(crate) async fn a_restart_and_an_end_of_registration() {
    let home = Home::new();
    let web = |name: &str| Service { start_command: format!("sleep {name}"), ..process("web", &["db"], "") };
    home.register([process("db", &[], "sleep 600"), web("600")]).await;
    home.services.start_service("web").await.unwrap();
    let [db, first] = [pid(&home, "db").await, pid(&home, "web").await];
    home.register([web("601")]).await;
    home.services.start_service("web").await.unwrap();
    assert_eq!(pid(&home, "web").await, first, "what runs goes on as it was started");
    home.services.restart_service("web").await.unwrap();
    assert_ne!(pid(&home, "web").await, first);
    assert_eq!(pid(&home, "db").await, db);
    let said = home.services.unregister_service("db").await.unwrap_err().to_string();
    assert!(said.contains("is needed by `web`"), "{said}");
    home.services.unregister_service("web").await.unwrap();
    assert!(home.services.get_service_status("web").await.is_err());
    home.services.unregister_service("db").await.unwrap();
    assert_eq!(home.services.start_all_services().await.unwrap(), [""; 0]);
    home.register([process("web", &[], "sleep 600")]).await;
    home.services.start_service("web").await.unwrap();
}

async fn pid(home: &Home, name: &str) -> String {
    let health = home.services.check_service_health(name).await.unwrap();
    assert!(health.healthy, "{name}: {}", health.message);
    health.message
}

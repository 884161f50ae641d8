//! The guide's list of troubles: each says what its reader needs.

use upbeat::services::ServiceStatus;

use crate::home::{Endpoint, Home, endpoint, names, nowhere, process, unit};

pub(crate) async fn a_service_that_fails_to_start_says_why() {
    let home = Home::new();
    let url = endpoint(Endpoint::Answers(200)).await;
    let denied = home.path().join("bin/denied");
    std::fs::write(&denied, "#!/bin/sh\n").unwrap();
    home.register([
        unit("broken", &[], &url),
        unit("web", &["broken"], &url),
        process("ends", &[], "sh -c 'echo no config in /etc/ends >&2; exit 3'"),
        process("typo", &[], "slep 600"),
        process("denied", &[], denied.to_str().unwrap()),
    ])
    .await;
    for (name, parts) in [
        ("broken", &["service `broken` failed to start", "exit 5", "Unit broken.service not found."][..]),
        ("web", &["service `web` was not started: it needs `broken`, which failed", "exit 5"]),
        ("ends", &["failed to start: exit 3; it printed last: no config in /etc/ends"]),
        ("typo", &["slep", "not"]),
        ("denied", &["denied", "permission"]),
        ("wbe", &["service `wbe` is not registered; register it first"]),
    ] {
        let said = home.services.start_service(name).await.unwrap_err().to_string();
        for part in parts {
            assert!(said.to_lowercase().contains(&part.to_lowercase()), "{name}: {said}");
        }
    }
    assert_eq!(home.services.get_service_logs("ends", 10).await.unwrap(), ["no config in /etc/ends"]);
}

pub(crate) async fn what_does_not_answer_says_where_and_how() {
    let home = Home::new();
    let url = nowhere().await;
    home.register([unit("web", &[], &url)]).await;
    // The command has started it; that it does not answer is another question.
    home.services.start_service("web").await.unwrap();
    assert_eq!(home.status("web").await, ServiceStatus::Unknown);
    let health = home.services.check_service_health("web").await.unwrap();
    assert_eq!((health.healthy, health.message), (false, format!("{url}: connection refused")));
    let said = home.services.get_service_logs("web", 5).await.unwrap_err().to_string();
    for words in
        ["service `web` runs elsewhere, and so does its log", "`systemctl start web`", "journalctl -u"]
    {
        assert!(said.contains(words), "{said}");
    }
}

pub(crate) async fn a_corrected_command_is_used_by_the_next_start() {
    let home = Home::new();
    home.register([process("db", &[], "slep 600"), process("web", &["db"], "sleep 600")]).await;
    assert!(home.services.start_service("web").await.is_err());
    home.register([process("db", &[], "sleep 600")]).await;
    home.services.start_service("web").await.unwrap();
    assert_eq!(home.status("db").await, ServiceStatus::Running);
}

pub(crate) async fn a_start_command_that_ends_without_an_endpoint_is_explained() {
    let home = Home::new();
    home.register([process("daemon", &[], "systemctl start daemon")]).await;
    home.services.start_service("daemon").await.unwrap();
    let health = home.services.check_service_health("daemon").await.unwrap();
    assert!(!health.healthy && health.message.contains("give the service a `health_check_endpoint`"));
    assert_eq!(home.status("daemon").await, ServiceStatus::Stopped);
}

pub(crate) async fn a_stop_command_that_fails_is_told() {
    let home = Home::new();
    let url = endpoint(Endpoint::Answers(200)).await;
    let mut service = unit("web", &[], &url);
    service.stop_command = "systemctl stop broken".to_owned();
    home.register([service, process("own", &[], "sleep 600")]).await;
    home.services.start_all_services().await.unwrap();
    let said = home.services.stop_service("web").await.unwrap_err().to_string();
    assert!(said.starts_with("service `web` could not be stopped: ") && said.contains("not found"), "{said}");
    home.program("systemctl", "true");
    // It is tried again, and that is waited for.
    home.services.stop_all_services().await.unwrap();
    assert_eq!(home.services.resolve_startup_order(&names(&["own"])).await.unwrap(), ["own"]);
}

//! What the guide says, in its order.

use std::time::Duration;

use upbeat::services::{ServiceStatus, ServicesError};

use crate::home::{Endpoint, Home, endpoint, names, nowhere, process, unit};

pub(crate) async fn a_chain_a_diamond_and_a_complex_graph_are_ordered() {
    type Graph = &'static [(&'static str, &'static [&'static str])];
    let graphs: [(Graph, &str, &[&str]); 4] = [
        (
            &[("service-c", &["service-b"]), ("service-b", &["service-a"]), ("service-a", &[])],
            "service-c",
            &["service-a", "service-b", "service-c"],
        ),
        (&[("a", &[]), ("b", &["a"]), ("c", &["b"])], "c", &["a", "b", "c"]),
        (&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])], "d", &["a", "b", "c", "d"]),
        (
            &[
                ("a", &[]),
                ("b", &["a"]),
                ("c", &["b"]),
                ("d", &["b"]),
                ("e", &["c"]),
                ("f", &["d"]),
                ("g", &["e", "f"]),
            ],
            "g",
            &["a", "b", "c", "d", "e", "f", "g"],
        ),
    ];
    for (graph, wanted, order) in graphs {
        let home = Home::new();
        home.register(graph.iter().rev().map(|(name, needs)| process(name, needs, "sleep 600"))).await;
        assert_eq!(home.services.resolve_startup_order(&names(&[wanted])).await.unwrap(), order);
    }
}

pub(crate) async fn a_subset_is_ordered_with_what_it_needs() {
    let home = Home::new();
    home.register([
        process("web-app", &["database"], "x"),
        process("api-server", &["cache"], "x"),
        process("cache", &["database"], "x"),
        process("database", &[], "x"),
        process("other", &["nobody"], "x"),
    ])
    .await;
    let services = vec!["web-app".to_string(), "api-server".to_string()];
    let order = home.services.resolve_startup_order(&services).await.unwrap();
    assert_eq!(order, ["database", "cache", "web-app", "api-server"]);
    assert_eq!(home.services.resolutions().misses, 1);
    home.services.resolve_startup_order(&services).await.unwrap();
    assert_eq!(home.services.resolutions().hits, 1);
    home.register([process("web-app", &[], "x")]).await;
    let order = home.services.resolve_startup_order(&services).await.unwrap();
    assert_eq!(order, ["database", "web-app", "cache", "api-server"], "a change makes it anew");
    assert_eq!((home.services.resolutions().hits, home.services.resolutions().misses), (1, 2));
}

pub(crate) async fn missing_and_circular_dependencies_are_named() {
    let home = Home::new();
    home.register([
        process("a", &["c"], "sleep 600"),
        process("b", &["a"], "sleep 600"),
        process("c", &["b"], "sleep 600"),
        process("self", &["self"], "sleep 600"),
        process("web", &["db"], "sleep 600"),
        process("well", &[], "sleep 600"),
    ])
    .await;
    let result = home.services.resolve_startup_order(&["a".to_string()]).await;
    assert!(result.is_err());
    let said = result.unwrap_err().to_string();
    assert!(said.starts_with("Circular dependency detected: a -> c -> b -> a"), "{said}");
    for (name, why) in [
        ("b", "Circular dependency detected"),
        ("self", "Circular dependency detected: self -> self"),
        ("web", "Missing dependencies of `web`: `db`; register them first"),
        ("nobody", "service `nobody` is not registered"),
    ] {
        let said = home.services.start_service(name).await.unwrap_err().to_string();
        assert!(said.contains(why), "{name}: {said}");
    }
    let said = home.services.start_all_services().await.unwrap_err().to_string();
    assert!(said.contains("Missing") || said.contains("Circular"), "{said}");
    assert_eq!(home.status("well").await, ServiceStatus::Stopped, "nothing was started");
    home.services.start_service("well").await.unwrap();
    let refused = home.services.try_register_service(process("well", &["a", "well"], "x")).await;
    assert!(matches!(refused, Err(ServicesError::Circular(_))), "{refused:?}");
}

pub(crate) async fn the_three_platform_services_start_in_order_and_stop_in_reverse() {
    let home = Home::new();
    let url = endpoint(Endpoint::Answers(200)).await;
    home.program("nu", "shift; echo \"nu $*\" >> \"$CALLS\"");
    let script = home.path().join("start-orchestrator.nu").display().to_string();
    home.register([
        upbeat::services::Service {
            start_command: format!("{script} --background"),
            stop_command: format!("{script} --stop"),
            ..unit("orchestrator", &["coredns", "oci-registry"], &url)
        },
        // Nobody speaks HTTP on the port of the DNS, as in the guide.
        unit("coredns", &[], &nowhere().await),
        unit("oci-registry", &["coredns"], &url),
    ])
    .await;
    let started = home.services.start_all_services().await.unwrap();
    assert_eq!(started, ["coredns", "oci-registry", "orchestrator"]);
    assert_eq!(home.calls(), ["systemctl start coredns", "systemctl start oci-registry", "nu --background"]);
    assert_eq!(home.status("oci-registry").await, ServiceStatus::Running);
    assert_eq!(home.status("coredns").await, ServiceStatus::Unknown, "it has not answered yet");
    home.services.stop_service("coredns").await.unwrap();
    assert_eq!(home.calls()[3..], ["nu --stop", "systemctl stop oci-registry", "systemctl stop coredns"]);
    assert_eq!(home.status("orchestrator").await, ServiceStatus::Stopped);
}

pub(crate) async fn a_service_is_started_with_what_it_needs_once() {
    let home = Home::new();
    let url = endpoint(Endpoint::Answers(204)).await;
    home.register([
        unit("web-app", &["cache"], &url),
        unit("cache", &["database"], &url),
        unit("database", &[], &url),
    ])
    .await;
    assert_eq!(home.status("web-app").await, ServiceStatus::Stopped);
    home.services.start_service("web-app").await.unwrap();
    let starts = ["systemctl start database", "systemctl start cache", "systemctl start web-app"];
    assert_eq!(home.calls(), starts);
    home.services.start_service("web-app").await.unwrap();
    home.services.start_service("cache").await.unwrap();
    assert_eq!(home.services.start_all_services().await.unwrap(), ["database", "cache", "web-app"]);
    assert_eq!(home.calls(), starts, "one that runs is left alone");
    assert_eq!(home.status("cache").await, ServiceStatus::Running);
}

pub(crate) async fn all_are_started_but_those_that_fail_and_those_that_need_them() {
    let home = Home::new();
    let url = endpoint(Endpoint::Answers(200)).await;
    home.register([
        unit("broken", &[], &url),
        unit("needs-broken", &["broken"], &url),
        process("ends", &[], "sh -c 'exit 3'"),
        process("needs-ends", &["ends"], "sleep 600"),
        process("one-shot", &[], "true"),
        process("needs-one-shot", &["one-shot"], "sleep 600"),
        process("typo", &[], "slep 600"),
        process("shell", &[], "sleep 600; sleep 600"),
        process("needs-shell", &["shell"], "sleep 600"),
        unit("well", &[], &url),
    ])
    .await;
    let started = home.services.start_all_services().await.unwrap();
    assert_eq!(started, ["one-shot", "well", "needs-one-shot"]);
    for (name, status) in [
        ("broken", ServiceStatus::Failed),
        ("needs-broken", ServiceStatus::Failed),
        ("ends", ServiceStatus::Failed),
        ("needs-ends", ServiceStatus::Failed),
        ("one-shot", ServiceStatus::Stopped),
        ("needs-one-shot", ServiceStatus::Running),
        ("typo", ServiceStatus::Failed),
        ("shell", ServiceStatus::Failed),
        ("needs-shell", ServiceStatus::Stopped),
        ("well", ServiceStatus::Running),
    ] {
        assert_eq!(home.status(name).await, status, "{name}");
    }
    assert!(!home.calls().contains(&"systemctl start needs-broken".to_owned()));
}

pub(crate) async fn what_is_needed_must_run_where_it_is_not_started_along() {
    let home = Home::with(false);
    let url = endpoint(Endpoint::Answers(200)).await;
    home.register([unit("web", &["cache"], &url), unit("cache", &["db"], &url), unit("db", &[], &url)]).await;
    let said = home.services.start_service("web").await.unwrap_err().to_string();
    assert!(
        said.starts_with("service `web` was not started: what it needs does not run: `db`, `cache`;"),
        "{said}"
    );
    assert!(home.calls().is_empty());
    for name in ["db", "cache", "web"] {
        home.services.start_service(name).await.unwrap();
    }
    assert_eq!(home.calls().len(), 3);
}

pub(crate) async fn health_is_what_the_endpoint_answers() {
    let home = Home::new();
    let services = home.services.with_health_timeout(Duration::from_millis(300));
    let cases = [
        ("well", endpoint(Endpoint::Answers(200)).await, true, "200"),
        ("ill", endpoint(Endpoint::Answers(500)).await, false, "500"),
        ("gone", nowhere().await, false, "connection refused"),
        ("silent", endpoint(Endpoint::Silent).await, false, "timed out after 300ms"),
    ];
    for (name, url, ..) in &cases {
        services.register_service(unit(name, &[], url)).await;
    }
    for (name, url, healthy, says) in &cases {
        let before = std::time::SystemTime::now();
        let health = services.check_service_health(name).await.unwrap();
        assert_eq!(health.healthy, *healthy, "{name}");
        assert!(health.message.starts_with(url) && health.message.contains(says), "{}", health.message);
        assert!(std::time::SystemTime::from(health.last_check) >= before - Duration::from_millis(1));
        assert!(format!("  Last check: {}", health.last_check).contains('T'));
    }
    let all = services.check_all_services_health().await.unwrap();
    assert_eq!(all.values().filter(|health| health.healthy).count(), 1);
    assert!(
        services.check_service_health("wel").await.unwrap_err().to_string().contains("did you mean `well`?")
    );
}

pub(crate) async fn without_an_endpoint_health_is_that_of_the_process() {
    let home = Home::new();
    home.register([process("web", &[], "sleep 600")]).await;
    let health = home.services.check_service_health("web").await.unwrap();
    assert!(!health.healthy && health.message.contains("was not started"), "{}", health.message);
    home.services.start_service("web").await.unwrap();
    let health = home.services.check_service_health("web").await.unwrap();
    assert!(health.healthy && health.message.starts_with("process "), "{}", health.message);
    let pid: i32 = health.message.split(' ').nth(1).unwrap().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    home.until("web", ServiceStatus::Failed).await;
    let health = home.services.check_service_health("web").await.unwrap();
    assert!(!health.healthy && health.message.contains("killed by SIGKILL"), "{}", health.message);
}

pub(crate) async fn commands_that_need_a_shell_are_refused() {
    let home = Home::new();
    let marker = home.path().join("marker");
    for command in [
        format!("systemctl start x; touch {}", marker.display()),
        format!("systemctl start $(touch {})", marker.display()),
        format!("systemctl start `touch {}`", marker.display()),
        format!("true && touch {}", marker.display()),
        format!("echo x > {}", marker.display()),
    ] {
        let service = process("x", &[], &command);
        let refused = home.services.try_register_service(service.clone()).await.unwrap_err().to_string();
        home.register([service]).await;
        let said = home.services.start_service("x").await.unwrap_err().to_string();
        assert_eq!(said, refused);
        assert!(said.contains("would need a shell") && said.contains("write a script"), "{said}");
        assert_eq!(home.status("x").await, ServiceStatus::Failed);
        let health = home.services.check_service_health("x").await.unwrap();
        assert!(!health.healthy && health.message == said);
    }
    assert!(!marker.exists());
}

pub(crate) async fn scripts_of_nu_are_run_by_it() {
    let home = Home::new();
    home.program("nu", "echo \"nu $* for $PROVISIONING\" >> \"$CALLS\"; exec sleep 600");
    home.register([process("orchestrator", &[], "./scripts/start-orchestrator.nu --background 'a b'")]).await;
    home.services.start_service("orchestrator").await.unwrap();
    let provisioning = home.path().join("provisioning").display().to_string();
    assert_eq!(
        home.calls(),
        [format!("nu ./scripts/start-orchestrator.nu --background a b for {provisioning}")]
    );
}

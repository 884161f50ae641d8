//! Every question, asked by the typed client.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use upbeat_api::{
    Action, Client, ClientError, EventFilter, EventWord, EventsQuery, IdempotencyKey, LogQuery, OperationId,
    Plan, Problem, ProblemKind, Up, Why,
};

use super::House;
use super::fake::{app, event, line, name, operation, stats};
use upbeat_model::{Mono, Wall};

fn up() -> Up {
    Up { project: app(3).project, services: Vec::new(), force: false }
}

#[tokio::test]
async fn what_is_asked_is_answered() {
    let house = House::open();
    let client = house.client();
    let shop = name("shop");
    assert_eq!(client.version().await.unwrap().pid, 42);
    assert_eq!(client.apps().await.unwrap()[0].ready, 1);
    assert_eq!(client.app(&shop).await.unwrap(), app(3));
    assert_eq!(client.operation(OperationId(7)).await.unwrap(), operation(true));
    assert_eq!(client.plan(&shop, &up(), true).await.unwrap(), Plan { unchanged: 4, ..Plan::default() });
    assert_eq!(client.why(&shop, &name("web")).await.unwrap(), Why { chains: vec![Vec::new()], more: 0 });
    let of_shop = EventFilter { app: Some(shop.clone()), ..EventFilter::default() };
    assert_eq!(client.events(&of_shop, 8, 20).await.unwrap(), [event(9)]);
    assert_eq!(client.events(&EventFilter::default(), 0, usize::MAX).await.unwrap(), [event(1)]);
    let all = EventsQuery::MAX_LIMIT;
    assert_eq!(
        house.fake.asked(),
        [
            "plan shop".to_owned(),
            "why shop web".to_owned(),
            format!("events of {:?} after 8, at most 20", Some(&shop)),
            format!("events of None after 0, at most {all}"),
        ]
    );
}

#[tokio::test]
async fn a_change_says_who_asked_for_it_and_under_which_key() {
    let house = House::open();
    let key = IdempotencyKey::new("k-1").unwrap();
    let client = house.client();
    let shop = name("shop");
    assert_eq!(client.up(&shop, &up(), &key).await.unwrap(), operation(false));
    let scale = Action::Scale { services: BTreeMap::from([(name("web"), 3)]) };
    assert_eq!(client.act(&shop, &scale, &key).await.unwrap(), operation(false));
    assert_eq!(client.down(&shop, true, &key).await.unwrap(), operation(true));
    let who = format!("uid {}", rustix::process::geteuid().as_raw());
    assert_eq!(
        house.fake.asked(),
        [
            format!("{who} as k-1: up shop with 0 services"),
            format!("{who} as k-1: shop {scale:?}"),
            format!("{who} as k-1: down shop, kill true"),
        ]
    );
}

#[tokio::test]
async fn streams_are_told_to_their_end() {
    let house = House::open();
    let client = house.client();
    let shop = name("shop");
    let watched: Vec<_> = client.watch(&shop).await.unwrap().try_collect().await.unwrap();
    assert_eq!(watched, [app(3)]);
    let watched: Vec<_> = client.watch_operation(OperationId(7)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(watched, [operation(true)]);
    let watched: Vec<_> =
        client.watch_events(&EventFilter::default(), 4).await.unwrap().try_collect().await.unwrap();
    assert_eq!(watched, [event(5), event(6)]);
    let wanted = LogQuery { services: vec![name("web"), name("db")], tail: Some(5), follow: true };
    let lines: Vec<_> = client.logs(&shop, &wanted).await.unwrap().try_collect().await.unwrap();
    assert_eq!(lines, [line(1)]);
    assert_eq!(
        house.fake.asked(),
        ["watch events of None after 4".to_owned(), format!("logs of shop: {wanted:?}")]
    );
}

#[tokio::test]
async fn a_problem_comes_back_as_it_was_told() {
    let house = House::open();
    let expected =
        Problem::new(ProblemKind::NotFound, "there is no app `shed`").with_hint("`upbeat ps` lists them");
    for error in [
        house.client().app(&name("shed")).await.unwrap_err(),
        house.client().watch(&name("shed")).await.err().unwrap(),
    ] {
        assert_eq!(error.hint(), Some("`upbeat ps` lists them"));
        assert!(matches!(error, ClientError::Problem(problem) if problem == expected));
    }
}

#[tokio::test]
async fn a_project_that_is_too_large_is_not_even_sent() {
    let house = House::open();
    let mut up = up();
    up.project.base_environment = BTreeMap::from([("A".into(), "x".repeat(Up::MAX_BYTES))]);
    let error = house.client().up(&name("shop"), &up, &IdempotencyKey::new("k").unwrap()).await.unwrap_err();
    insta::assert_snapshot!(error, @"the request is larger than 16 MiB");
    assert!(house.fake.asked().is_empty());
}

#[tokio::test]
async fn where_nobody_listens_the_client_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let client = Client::new(&socket);
    assert!(matches!(client.version().await, Err(ClientError::NotRunning { socket: s }) if s == socket));
    // A socket that its daemon left behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(matches!(client.version().await, Err(ClientError::NotRunning { socket: s }) if s == socket));
}

#[tokio::test]
async fn a_client_outlives_its_daemon() {
    let mut house = House::open();
    let client = house.client();
    client.version().await.unwrap();
    house.stop();
    (&mut house.server).await.unwrap();
    assert!(!house.socket.exists(), "the socket is removed");
    assert!(matches!(client.version().await, Err(ClientError::NotRunning { .. })));
    let successor = crate::bind(&house.socket).unwrap();
    let successor = tokio::spawn(crate::serve(successor, house.fake.clone(), std::future::pending()));
    client.version().await.unwrap();
    successor.abort();
}

#[tokio::test]
async fn what_is_asked_of_events_arrives_whole() {
    let house = House::open();
    let wanted = EventFilter {
        app: Some(name("shop")),
        namespace: Some("a/b&c".into()),
        entity: Some("web ?".into()),
        services: vec![name("web"), name("db")],
        kinds: vec![EventWord::Phase, EventWord::Adopted],
        since: Some(Wall(-5)),
        until: Some(Wall(7)),
    };
    house.client().events(&wanted, 3, 10).await.unwrap();
    let endless = EventFilter { until: None, ..wanted.clone() };
    let _ = house.client().watch_events(&wanted, 3).await.unwrap();
    assert_eq!(
        house.fake.asked(),
        [format!("events of {wanted:?} after 3, at most 10"), format!("watch events of {endless:?} after 3"),]
    );
    let refused = house.ask("GET /api/v1/events?kind=phases", &[], "").await;
    assert!(refused.starts_with("400"), "{refused}");
}

#[tokio::test]
async fn usage_times_and_numbers_are_answered() {
    let house = House::open();
    let (client, shop) = (house.client(), name("shop"));
    assert_eq!(client.stats(&shop).await.unwrap(), stats(2));
    let watched: Vec<_> = client.watch_stats(&shop).await.unwrap().try_collect().await.unwrap();
    assert_eq!(watched, [stats(1)]);
    assert_eq!(client.starts(&shop).await.unwrap().now, Mono(9));
    let page = house.raw("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(page.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{page}");
    assert!(page.ends_with("\r\n\r\n# HELP up Is it.\n"), "{page}");
    assert!(house.ask("GET /metrics?x=1", &[], "").await.starts_with("400 "));
    assert!(crate::open_connections() < 1_000);
}

//! What slots use, what a start took, and which events are asked for.

use super::room::Room;
use super::script::every_phase;

async fn ran(args: &[&str]) -> String {
    Room::new().with(every_phase(), args).await
}

#[tokio::test]
async fn usage_is_a_table_and_on_a_terminal_it_is_redrawn() {
    let once = ran(&["stats"]).await;
    insta::assert_snapshot!(once, @"
    NAME   CPU     MEMORY   FILES  PROCESSES  UPTIME  RESTARTS  STATE
    api-1  112.5%  118 MiB  12     3          3m      2         healthy
    db-1   -       1.0 KiB  4      1          1s      0         starting
    job-1  -       -        -      -          -       0         completed
    --- Ok
    ");
    // States that come at once are told as the last of them.
    assert_eq!(ran(&["stats", "--watch"]).await, once);
    let live = Room::on_terminal().without_colours().with(every_phase(), &["stats"]).await;
    assert!(live.starts_with("\u{1b}[2J\u{1b}[HNAME ") && live.contains("\u{1b}[K\napi-1 "), "{live:?}");
    let piped = Room::on_terminal().without_colours().with(every_phase(), &["stats", "--no-stream"]).await;
    assert_eq!(piped, once);
    let one = ran(&["stats", "db"]).await;
    assert!(one.contains("db-1") && !one.contains("api-1"), "{one}");
}

#[tokio::test]
async fn usage_for_programs_is_what_the_api_says() {
    let once = ran(&["stats", "-o", "json"]).await;
    let once: serde_json::Value = serde_json::from_str(once.strip_suffix("--- Ok\n").unwrap()).unwrap();
    assert_eq!(once["slots"][0]["usage"]["cpu_percent"], 112.5);
    let watched = ran(&["stats", "--watch", "-o", "json"]).await;
    let line = watched.lines().next().unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap(), once);
}

#[tokio::test]
async fn a_start_is_told_as_a_chain_and_by_who_took_longest() {
    insta::assert_snapshot!(ran(&["analyze", "critical-chain"]).await, @"
    `shop` was there after 4.2s:

    SLOT          AT     TOOK    WHAT
    web-1         @4.2s  +300ms  8ms to be executed, 292ms to be ready
    └─ migrate-1  @3.8s  +2.4s   9ms to be executed, 2.4s to its end
       └─ db-1    @1.4s  +1.4s   12ms to be executed, 1.3s to be ready; 3 attempts
    --- Ok
    ");
    insta::assert_snapshot!(ran(&["analyze", "blame"]).await, @"
    TOOK   SLOT       WAITED  WHAT
    2.4s   migrate-1  1.4s    9ms to be executed, 2.4s to its end
    1.4s   db-1       0ms     12ms to be executed, 1.3s to be ready; 3 attempts
    300ms  web-1      3.9s    8ms to be executed, 292ms to be ready
    --- Ok
    ");
    let told = ran(&["analyze", "critical-chain", "db", "-o", "json"]).await;
    let told: serde_json::Value = serde_json::from_str(told.strip_suffix("--- Ok\n").unwrap()).unwrap();
    assert_eq!((&told["total"], &told["links"][0]["slot"]), (&1_400.into(), &"shop/db/1".into()));
    let wrong = ran(&["analyze", "critical-chain", "wbe"]).await;
    assert!(wrong.contains("--- NotFound") && wrong.contains("`web`"), "{wrong}");
}

#[tokio::test]
async fn events_are_asked_for_by_kind_service_and_time() {
    let all = ran(&["events", "--all"]).await;
    let count = async |args: &[&str]| ran(&[&["events", "--all"], args].concat()).await.lines().count() - 1;
    assert_eq!(count(&["--since", "0s"]).await, all.lines().count() - 1);
    assert_eq!(count(&["--since", "2026-03-01T12:00:01Z"]).await, 0);
    assert_eq!(count(&["--until", "1s"]).await, 0);
    assert_eq!(count(&["--kind", "phase", "--kind", "adopted"]).await, 2);
    assert_eq!(count(&["web"]).await, 1);
    let unknown = ran(&["events", "wbe"]).await;
    assert!(unknown.contains("--- NotFound") && unknown.contains("did you mean `web`?"), "{unknown}");
    assert_eq!(ran(&["events", "--json"]).await, ran(&["events", "-o", "json"]).await);
    insta::assert_snapshot!(ran(&["events", "--since", "soon"]).await, @"
    --- Usage
    error: `--since`: `soon` is no moment
    hint: say how long ago, such as `10m`, `2h30m` or `7d`, or when: `14:00`, `2026-03-01 14:00`, `2026-03-01T14:00:00Z`
    ");
    insta::assert_snapshot!(ran(&["events", "--since", "1m", "--until", "2m"]).await, @"
    --- Usage
    error: `--until` is before `--since`: nothing is between
    ");
}

//! `-o json`: the types of the API, whole, and nothing else on standard output.

use serde_json::Value;
use upbeat_api::{AppSummary, Event, LogLine, Operation, Plan, Why, Wish};
use upbeat_model::{App, Phase};

use super::room::Room;
use super::script::{Script, both, db_fails, every_phase};
use crate::face::examples::status;

/// What stands before the status line.
fn answer(ran: &str) -> &str {
    ran.split_once("---").unwrap().0
}

async fn json(script: Script, args: &[&str]) -> String {
    Room::new().with(script, &[&["-o", "json"], args].concat()).await
}

#[tokio::test]
async fn a_change_gives_its_operation_and_errors_stay_words() {
    let stopped = |script: &Script, _: &str| script.tell(both(Phase::Stopped, Wish::Reached));
    let script = Script::new(stopped);
    script.tell(both(Phase::Running, Wish::Reached));
    insta::assert_snapshot!(json(script, &["stop"]).await, @r#"
    {
      "id": 4,
      "app": "shop",
      "what": "up",
      "who": "uid 1000",
      "at": 1772366400000,
      "slots": {
        "shop/db/1": {
          "outcome": "reached"
        },
        "shop/web/1": {
          "outcome": "reached"
        }
      },
      "ended": true
    }
    --- Ok
    "#);
    insta::assert_snapshot!(json(Script::new(db_fails), &["up", "-d"]).await, @r#"
    {
      "id": 4,
      "app": "shop",
      "what": "up",
      "who": "uid 1000",
      "at": 1772366400000,
      "slots": {
        "shop/db/1": {
          "outcome": "failed",
          "reasons": [
            {
              "reason": "not_restarted",
              "exit": {
                "code": 1
              },
              "policy": "no",
              "restarts": 0
            }
          ]
        },
        "shop/web/1": {
          "outcome": "reached"
        }
      },
      "ended": true
    }
    --- Failed
    error: Not everything came up
    hint: `upbeat why db` explains it
    "#);
    for args in [&["start"][..], &["restart"], &["scale", "web=1"], &["down"], &["up", "--wait"]] {
        let script = Script::new(|script, _| script.tell(both(Phase::Healthy, Wish::Reached)));
        script.tell(both(Phase::Running, Wish::Reached));
        let ran = json(script, args).await;
        let operation: Operation = serde_json::from_str(answer(&ran)).unwrap();
        assert!(operation.ended && ran.ends_with("--- Ok\n"), "{args:?}: {ran}");
    }
}

#[tokio::test]
async fn ps_gives_the_app() {
    let script = || Script::of(vec![status("db-1", Phase::Healthy)]);
    let ran = json(script(), &["ps"]).await;
    let app: App = serde_json::from_str(answer(&ran)).unwrap();
    assert_eq!(app.slots, [status("db-1", Phase::Healthy)]);
    assert_eq!(app.project.services.len(), 3);
    let mut value: Value = serde_json::from_str(answer(&ran)).unwrap();
    // What the file declares is pinned where files are read.
    value["project"] = "…".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&value).unwrap(), @r#"
    {
      "name": "shop",
      "project": "…",
      "release": 1,
      "slots": [
        {
          "attempt": 1,
          "exit": null,
          "goal": "running",
          "health": null,
          "operation": 4,
          "phase": "healthy",
          "pid": 4711,
          "reasons": [],
          "release": 1,
          "restarts": 0,
          "since": 1772366200000,
          "slot": "shop/db/1",
          "started_at": 1772366198000
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn a_plan_is_its_steps() {
    let ran = json(every_phase(), &["plan"]).await;
    assert_eq!(serde_json::from_str::<Plan>(answer(&ran)).unwrap().steps.len(), 3);
    insta::assert_snapshot!(ran, @r#"
    {
      "steps": [
        {
          "number": 1,
          "level": 0,
          "action": "start",
          "slot": "shop/db/1",
          "goal": "running",
          "reason": {
            "because": "new"
          },
          "after": [],
          "undo": "stop",
          "interrupts": false
        },
        {
          "number": 2,
          "level": 1,
          "action": "replace",
          "slot": "shop/web/1",
          "goal": "running",
          "reason": {
            "because": "changed",
            "fields": [
              "command"
            ]
          },
          "after": [
            {
              "step": 1,
              "condition": "service_healthy"
            }
          ],
          "undo": "by_release",
          "interrupts": true
        },
        {
          "number": 3,
          "level": 2,
          "action": "remove",
          "slot": "shop/old/1",
          "goal": "absent",
          "reason": {
            "because": "not_declared"
          },
          "after": [],
          "undo": "by_release",
          "interrupts": true
        }
      ],
      "unchanged": 1
    }
    --- Ok
    "#);
    insta::assert_snapshot!(json(Script::of(vec![]), &["plan", "--detailed-exitcode"]).await, @r#"
    {
      "steps": [],
      "unchanged": 3
    }
    --- Ok
    "#);
}

#[tokio::test]
async fn why_gives_its_chains() {
    let ran = json(every_phase(), &["why", "web"]).await;
    assert_eq!(serde_json::from_str::<Why>(answer(&ran)).unwrap().chains[0].len(), 2);
    insta::assert_snapshot!(ran, @r#"
    {
      "chains": [
        [
          {
            "status": {
              "slot": "shop/web/1",
              "goal": "running",
              "phase": "waiting",
              "attempt": 1,
              "pid": null,
              "exit": null,
              "restarts": 0,
              "since": 1772366200000,
              "started_at": null,
              "health": null,
              "reasons": [
                {
                  "reason": "waits_for",
                  "service": "db",
                  "condition": "service_healthy",
                  "blocking": [
                    "shop/db/1",
                    "backing_off"
                  ]
                }
              ],
              "operation": 4,
              "release": 1
            },
            "last_lines": [],
            "alike": [],
            "alike_more": 0,
            "told": false
          },
          {
            "status": {
              "slot": "shop/db/1",
              "goal": "running",
              "phase": "backing_off",
              "attempt": 1,
              "pid": null,
              "exit": null,
              "restarts": 0,
              "since": 1772366200000,
              "started_at": null,
              "health": null,
              "reasons": [
                {
                  "reason": "backs_off",
                  "exit": {
                    "code": 1
                  },
                  "failures": 3,
                  "delay": 4000,
                  "until": 1772366402000
                }
              ],
              "operation": 4,
              "release": 1
            },
            "last_lines": [
              "no disk"
            ],
            "alike": [],
            "alike_more": 0,
            "told": false
          }
        ]
      ],
      "more": 0
    }
    --- Ok
    "#);
    insta::assert_snapshot!(json(Script::of(vec![]), &["why", "web"]).await, @r#"
    {
      "chains": [],
      "more": 0
    }
    --- Ok
    "#);
}

#[tokio::test]
async fn events_and_lines_of_output_stand_one_on_each_line() {
    let ran = json(every_phase(), &["events", "--all"]).await;
    for line in answer(&ran).lines() {
        serde_json::from_str::<Event>(line).unwrap();
    }
    insta::assert_snapshot!(ran, @r#"
    {"sequence":1,"at":1772366400000,"app":"shop","event":"operation_started","operation":4,"what":"up","who":"uid 1000"}
    {"sequence":2,"at":1772366400000,"app":"shop","event":"phase","slot":"shop/db/1","from":"running","to":"failed","attempt":1,"pid":null,"exit":{"code":1},"reasons":[{"reason":"not_restarted","exit":{"code":1},"policy":"no","restarts":0}]}
    {"sequence":3,"at":1772366400000,"app":"blog","event":"adopted","slot":"shop/web/1","attempt":2,"pid":4711}
    {"sequence":4,"at":1772366400000,"app":"shop","event":"operation_ended","operation":4,"outcome":"failed: db-1"}
    --- Ok
    "#);
    let script = Script::of(vec![status("db-1", Phase::Running)]);
    script.say("db-1", "größe \u{1b}[31m\"");
    let ran = json(script, &["logs", "--no-prefix"]).await;
    serde_json::from_str::<LogLine>(answer(&ran)).unwrap();
    insta::assert_snapshot!(ran, @r#"
    {"slot":"shop/db/1","sequence":1,"at_ns":1,"stream":"stdout","text":"größe \u001b[31m\""}
    --- Ok
    "#);
}

#[tokio::test]
async fn apps_and_versions_are_given() {
    let ran = json(every_phase(), &["apps"]).await;
    assert_eq!(serde_json::from_str::<Vec<AppSummary>>(answer(&ran)).unwrap().len(), 2);
    insta::assert_snapshot!(ran, @r#"
    [
      {
        "name": "blog",
        "release": 2,
        "wanted": 2,
        "ready": 1
      },
      {
        "name": "shop",
        "release": 2,
        "wanted": 3,
        "ready": 3
      }
    ]
    --- Ok
    "#);
    assert_eq!(json(Script::of(vec![]), &["apps"]).await, "[]\n--- Ok\n");
    let ran = json(every_phase(), &["version"]).await.replace(env!("CARGO_PKG_VERSION"), "[own]");
    insta::assert_snapshot!(ran, @r#"
    {
      "client": "[own]",
      "daemon": {
        "version": "[own]",
        "pid": 42,
        "started_at": 1772359200000
      },
      "socket": "/room/run/upbeat.sock"
    }
    --- Ok
    "#);
    let alone = Room::new().run(&["-o", "json", "version"]).await.replace(env!("CARGO_PKG_VERSION"), "[own]");
    insta::assert_snapshot!(alone, @r#"
    {
      "client": "[own]",
      "daemon": null,
      "socket": "/room/run/upbeat.sock"
    }
    --- Ok
    "#);
}

#[tokio::test]
async fn a_graph_is_nodes_and_edges_however_it_is_asked_for() {
    let ran = json(Script::of(vec![status("db-1", Phase::Healthy)]), &["graph"]).await;
    insta::assert_snapshot!(ran, @r#"
    {
      "edges": [
        {
          "condition": "service_started",
          "from": "db",
          "required": true,
          "to": "web"
        }
      ],
      "nodes": [
        {
          "level": 0,
          "phases": [
            "healthy"
          ],
          "service": "db"
        },
        {
          "level": 1,
          "phases": [],
          "service": "web"
        }
      ]
    }
    --- Ok
    "#);
    let script = Script::of(vec![status("db-1", Phase::Healthy)]);
    assert_eq!(Room::new().with(script, &["graph", "--format", "json"]).await, ran);
}

#[tokio::test]
async fn a_command_without_an_answer_for_programs_says_so_and_does_nothing() {
    let script = || Script::of(vec![status("web-1", Phase::Healthy)]);
    let mut told = String::new();
    for args in [&["wait", "web"][..], &["completion", "bash"], &["serve", "--install"], &["serve"]] {
        told.push_str(&json(script(), args).await);
    }
    insta::assert_snapshot!(told, @"
    --- Usage
    error: `wait` prints no answer; its exit status is the answer
    hint: leave out `-o json`
    --- Usage
    error: `completion` prints a script for a shell, not JSON
    hint: leave out `-o json`
    --- Usage
    error: `serve --install` has no answer in JSON
    hint: leave out `-o json`
    --- Usage
    error: `serve` has no answer in JSON
    hint: leave out `-o json`
    ");
}

#[tokio::test]
async fn colours_never_reach_a_program() {
    for args in [&["ps"][..], &["plan"], &["why", "web"], &["events"], &["apps"], &["version"], &["graph"]] {
        let ran = json(every_phase(), &[&["--color", "always"], args].concat()).await;
        assert!(!ran.contains('\u{1b}'), "{args:?}: {ran}");
    }
}

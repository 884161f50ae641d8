//! Files that are right, and the project each declares.

use insta::assert_snapshot;
use upbeat_model::file::validate;
use upbeat_model::project::{Http, Project, Question};

use super::{read, service};

/// The project, which must hold for one from the wire as well.
fn project(text: &str) -> Project {
    let parsed = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(validate(&parsed.project), Ok(()));
    parsed.project
}

fn json(text: &str) -> String {
    serde_json::to_string_pretty(&project(text)).expect("a project serialises")
}

fn notes(text: &str) -> String {
    let parsed = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    parsed.notes.iter().map(|note| format!("{note}\n")).collect()
}

/// The probe of a service with this health check.
fn probe(check: &str) -> Option<Question> {
    let web = project(&service(&format!("command: x\nhealthcheck: {check}"))).services.remove("web");
    web.expect("it was declared").readiness().map(|probe| probe.ask.clone())
}

fn exec(words: &[&str]) -> Option<Question> {
    Some(Question::Exec(words.iter().map(|&w| w.to_owned()).collect()))
}

#[test]
fn the_file_of_the_documentation_is_read() {
    let text = r#"
services:
  db:
    command: ["./bin/db", "--port", "5432"]
    healthcheck: { tcp: "127.0.0.1:5432", interval: 500ms }
  cache:
    command: ["./bin/cache"]
    depends_on: [db]
  web:
    command: ["./bin/web"]
    depends_on: { cache: { condition: service_started }, db: { condition: service_healthy } }
    healthcheck: { http: "http://127.0.0.1:8080/health" }
    environment: { DATABASE_URL: "postgres://localhost/app" }
    restart: on-failure:5
"#;
    assert_snapshot!(json(text), @r#"
    {
      "name": "shop",
      "services": {
        "cache": {
          "command": [
            "./bin/cache"
          ],
          "environment": {},
          "working_dir": "/srv/shop",
          "user": null,
          "depends_on": {
            "db": {
              "condition": "service_started",
              "required": true,
              "restart": false
            }
          },
          "restart": "no",
          "stop_signal": 15,
          "stop_grace_period": 10000,
          "stop_command": null,
          "scale": 1,
          "labels": {}
        },
        "db": {
          "command": [
            "./bin/db",
            "--port",
            "5432"
          ],
          "environment": {},
          "working_dir": "/srv/shop",
          "user": null,
          "depends_on": {},
          "probes": {
            "readiness": {
              "ask": {
                "tcp": "127.0.0.1:5432"
              },
              "interval": 500,
              "timeout": 30000,
              "failure_threshold": 3,
              "success_threshold": 1,
              "start_interval": 5000
            }
          },
          "restart": "no",
          "stop_signal": 15,
          "stop_grace_period": 10000,
          "stop_command": null,
          "scale": 1,
          "labels": {}
        },
        "web": {
          "command": [
            "./bin/web"
          ],
          "environment": {
            "DATABASE_URL": "postgres://localhost/app"
          },
          "working_dir": "/srv/shop",
          "user": null,
          "depends_on": {
            "cache": {
              "condition": "service_started",
              "required": true,
              "restart": false
            },
            "db": {
              "condition": "service_healthy",
              "required": true,
              "restart": false
            }
          },
          "probes": {
            "readiness": {
              "ask": {
                "http": {
                  "url": "http://127.0.0.1:8080/health"
                }
              },
              "interval": 30000,
              "timeout": 30000,
              "failure_threshold": 3,
              "success_threshold": 1,
              "start_interval": 5000
            }
          },
          "restart": {
            "on-failure": {
              "max": 5
            }
          },
          "stop_signal": 15,
          "stop_grace_period": 10000,
          "stop_command": null,
          "scale": 1,
          "labels": {}
        }
      },
      "base_environment": {}
    }
    "#);
}

#[test]
fn every_key_has_its_meaning() {
    let text = r#"
name: store
version: "3.9"
services:
  web:
    command: ./bin/web --title 'Our shop' "a \"b\""
    environment: [HOME, A=b=c, EMPTY=, PRICE=5$$]
    working_dir: ../web/./src
    user: "1000:www"
    depends_on:
      db: { condition: service_completed_successfully, required: false, restart: true }
      later: { required: false }
    healthcheck:
      exec: [./check, ready$$]
      interval: 1m30s
      timeout: 1.5s
      retries: 7
      start_period: 0s
      start_interval: 20ms
    restart: unless-stopped
    stop_signal: SIGINT
    stop_grace_period: 1h
    stop_command: [./bin/stop, --now]
    scale: 3
    labels: { team: shop, tier: 1, empty: }
  db:
    command: [./bin/db, 5432, 1.50, true, no, 0x1F]
    environment: { HOME: , PORT: 8080, DEBUG: true, ON: yes, VERSION: 1.10, NOTHING: "" }
    restart: no
    stop_signal: 10
    scale: 0
    labels: [a, b=c]
"#;
    assert_snapshot!(json(text), @r#"
    {
      "name": "store",
      "services": {
        "db": {
          "command": [
            "./bin/db",
            "5432",
            "1.50",
            "true",
            "no",
            "0x1F"
          ],
          "environment": {
            "DEBUG": "true",
            "HOME": "/home/ann",
            "NOTHING": "",
            "ON": "yes",
            "PORT": "8080",
            "VERSION": "1.10"
          },
          "working_dir": "/srv/shop",
          "user": null,
          "depends_on": {},
          "restart": "no",
          "stop_signal": 10,
          "stop_grace_period": 10000,
          "stop_command": null,
          "scale": 0,
          "labels": {
            "a": "",
            "b": "c"
          }
        },
        "web": {
          "command": [
            "./bin/web",
            "--title",
            "Our shop",
            "a \"b\""
          ],
          "environment": {
            "A": "b=c",
            "EMPTY": "",
            "HOME": "/home/ann",
            "PRICE": "5$"
          },
          "working_dir": "/srv/web/src",
          "user": "1000:www",
          "depends_on": {
            "db": {
              "condition": "service_completed_successfully",
              "required": false,
              "restart": true
            },
            "later": {
              "condition": "service_started",
              "required": false,
              "restart": false
            }
          },
          "probes": {
            "readiness": {
              "ask": {
                "exec": [
                  "./check",
                  "ready$"
                ]
              },
              "interval": 90000,
              "timeout": 1500,
              "failure_threshold": 7,
              "success_threshold": 1,
              "start_interval": 20
            }
          },
          "restart": "unless-stopped",
          "stop_signal": 2,
          "stop_grace_period": 3600000,
          "stop_command": [
            "./bin/stop",
            "--now"
          ],
          "scale": 3,
          "labels": {
            "empty": "",
            "team": "shop",
            "tier": "1"
          }
        }
      },
      "base_environment": {}
    }
    "#);
}

#[test]
fn an_alias_means_what_it_names() {
    let text = "
services:
  a: &a { command: [./a], environment: &env { A: b } }
  b: *a
  c: { command: [./c], environment: *env }
";
    let services = project(text).services;
    assert_eq!(services["a"], services["b"]);
    assert_eq!(services["a"].environment, services["c"].environment);
}

#[test]
fn each_health_check_asks_its_question() {
    assert_eq!(
        probe("{ http: 'http://[::1]:80/a?b' }"),
        Some(Question::Http(Http::get("http://[::1]:80/a?b")))
    );
    assert_eq!(probe("{ tcp: 'db.local:5432' }"), Some(Question::Tcp("db.local:5432".into())));
    assert_eq!(probe("{ exec: ./check --fast }"), exec(&["./check", "--fast"]));
    assert_eq!(probe(r"{ log: '^\w+ ready' }"), Some(Question::Log(r"^\w+ ready".into())));
    assert_eq!(probe("{ test: [CMD, curl, -f, 'http://a'] }"), exec(&["curl", "-f", "http://a"]));
    let shell = exec(&["/bin/sh", "-c", "curl -f http://a || exit 1"]);
    assert_eq!(probe("{ test: [CMD-SHELL, 'curl -f http://a || exit 1'] }"), shell);
    assert_eq!(probe("{ test: 'curl -f http://a || exit 1' }"), shell);
    assert_eq!(probe("{ test: [NONE] }"), None);
    assert_eq!(probe("{ disable: true }"), None);
    assert_eq!(probe("{ disable: true, tcp: 'a:1', interval: 1s }"), None);
    assert_eq!(probe("{ disable: false, tcp: 'a:1' }"), Some(Question::Tcp("a:1".into())));
}

#[test]
fn what_is_right_but_may_surprise_is_noted() {
    let text = "version: '3'\nservices: { web: { command: a && b, environment: [TOKEN] } }\n";
    assert_snapshot!(notes(text), @r#"
    upbeat.yaml:1:1: `version` has no effect: Compose gave it up too (take it out)
    upbeat.yaml:2:29: `services.web.command` has the word `&&`, which is passed on as it is: no shell reads it (for a shell write ["/bin/sh", "-c", "…"])
    upbeat.yaml:2:51: `TOKEN` is not set in your session, so `services.web` starts without it (set it there, or give it a value here; `TOKEN=` is an empty one)
    "#);
    assert_snapshot!(notes("services: { web: { command: './web --color #fff' } }"), @"upbeat.yaml:1:29: `services.web.command` has a comment: what follows its `#` is left out (put a word that starts with `#` into quotes of its own)");
    let text = "services:\n  once: { command: x, restart: always }\n  web:\n    command: y\n    \
                depends_on: { once: { condition: service_completed_successfully } }\n";
    assert_snapshot!(notes(text), @"upbeat.yaml:5:38: Service `web` waits for `once` to end, which is always started again (let `once` have `restart: on-failure`, or no `restart`)");
    assert_eq!(notes("services: { web: { command: [a, '&&', '#b'] } }"), "");
    assert_eq!(notes(r#"services: { web: { command: "./a 'b #c' d#e" } }"#), "");
}

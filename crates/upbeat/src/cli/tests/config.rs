//! `config`: what the project's files come to, and what is said of them.

use super::room::Room;

const FILE: &str = "name: shop
services:
  db: { command: './db ${DB_PORT_OF_SHOP:-5432}', profiles: [data] }
  web: { command: [./web], environment: { PRICE: 5$$ }, stop_grace_period: 5s, scale: 2 }
";

fn room() -> Room {
    let room = Room::new();
    room.write("upbeat.yaml", FILE);
    room
}

#[tokio::test]
async fn the_files_are_shown_as_one() {
    insta::assert_snapshot!(room().run(&["config"]).await, @"
    name: shop
    services:
      web:
        command:
        - ./web
        environment:
          PRICE: 5$$
        scale: 2
        stop_grace_period: 5s
        working_dir: /room
    --- Ok
    ");
    insta::assert_snapshot!(room().run(&["config", "--format", "json", "--profile", "data"]).await, @r#"
    {
      "name": "shop",
      "services": {
        "db": {
          "command": [
            "./db",
            "5432"
          ],
          "working_dir": "/room"
        },
        "web": {
          "command": [
            "./web"
          ],
          "environment": {
            "PRICE": "5$$"
          },
          "scale": 2,
          "stop_grace_period": "5s",
          "working_dir": "/room"
        }
      }
    }
    --- Ok
    "#);
    insta::assert_snapshot!(room().run(&["config", "--services", "--profile", "*"]).await, @"
    db
    web
    --- Ok
    ");
    insta::assert_snapshot!(room().run(&["config", "--no-interpolate", "--profile", "data"]).await, @"
    name: shop
    services:
      db:
        command:
        - ./db
        - ${DB_PORT_OF_SHOP:-5432}
        working_dir: /room
      web:
        command:
        - ./web
        environment:
          PRICE: 5$$
        scale: 2
        stop_grace_period: 5s
        working_dir: /room
    --- Ok
    ");
}

#[tokio::test]
async fn the_digest_is_that_of_what_has_to_be_replaced() {
    let room = room();
    let before = room.run(&["config", "--hash"]).await;
    insta::assert_snapshot!(before.split_once(' ').unwrap().0, @"web");
    room.write("upbeat.yaml", FILE.replace("scale: 2", "scale: 3"));
    assert_eq!(room.run(&["config", "--hash"]).await, before);
    room.write("upbeat.yaml", FILE.replace("./web", "./web2"));
    assert_ne!(room.run(&["config", "--hash"]).await, before);
}

#[tokio::test]
async fn programs_are_told_in_json() {
    let room = room();
    insta::assert_snapshot!(room.run(&["config", "--services", "--profile", "*", "-o", "json"]).await, @r#"
    [
      "db",
      "web"
    ]
    --- Ok
    "#);
    let hashes = room.run(&["config", "--hash", "-o", "json"]).await;
    let hashes: serde_json::Value = serde_json::from_str(hashes.split("---").next().unwrap()).unwrap();
    assert_eq!(hashes["web"].as_str().unwrap().len(), 16);
}

#[tokio::test]
async fn what_goes_over_a_file_is_found_beside_it() {
    let room = room();
    room.write("upbeat.override.yaml", "services: { web: { scale: 7 } }");
    room.write(".env", "DB_PORT_OF_SHOP=1\n");
    insta::assert_snapshot!(room.search(&["config", "--profile", "data"]).await, @r#"
    name: shop
    services:
      db:
        command:
        - ./db
        - "1"
        working_dir: /room
      web:
        command:
        - ./web
        environment:
          PRICE: 5$$
        scale: 7
        stop_grace_period: 5s
        working_dir: /room
    --- Ok
    "#);
    room.write("upbeat.override.yaml", "services: { web: { scael: 7 } }");
    insta::assert_snapshot!(room.search(&["config"]).await, @"
    --- Usage
    error: Unknown key `services.web.scael`
     --> /room/upbeat.override.yaml:1:20
      |
    1 | services: { web: { scael: 7 } }
      |                    ^^^^^ not a key of a service
      |
      = hint: did you mean `scale`?

    error: `/room/upbeat.override.yaml` has 1 error; nothing was changed
    ");
}

#[tokio::test]
async fn an_error_says_what_led_there() {
    let room = Room::new();
    room.write("upbeat.yaml", "include: [db.yaml]\nservices: { web: { command: x, env_file: web.env } }\n");
    room.write("db.yaml", "services: { db: { comand: x } }\n");
    room.write("web.env", "A='1\n");
    insta::assert_snapshot!(room.run(&["config"]).await, @"
    --- Usage
    error: Unknown key `services.db.comand`
     --> /room/db.yaml:1:19
      |
    1 | services: { db: { comand: x } }
      |                   ^^^^^^ not a key of a service
      |
      = hint: did you mean `command`?
      = note: included at /room/upbeat.yaml:1:11

    error: This quote is not closed
     --> /room/web.env:1:3
      |
    1 | A='1
      |   ^^
      |
      = hint: close it, or put the value into the other kind
      = note: read at /room/upbeat.yaml:2:42

    error: The project has 2 errors; nothing was changed
    ");
}

#[tokio::test]
async fn editors_are_told_the_grammar() {
    let schema = room().run(&["config", "schema"]).await;
    let (schema, told) = schema.split_once("--- ").unwrap();
    assert_eq!(told, "Ok\n");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    assert_eq!(schema, upbeat_model::file::schema());
}

#[tokio::test]
async fn what_is_shown_commands_no_terminal_and_reads_back_the_same() {
    let room = Room::new();
    room.write(
        "upbeat.yaml",
        "name: shop\nservices: { web: { command: [x, \"a\\u202eb\\e[2J\"], labels: { a: \"\\u2066\\nb\\x9b\" } } }",
    );
    let shown = room.run(&["config"]).await;
    insta::assert_snapshot!(shown, @r#"
    name: shop
    services:
      web:
        command:
        - x
        - "a\u202eb\e[2J"
        labels:
          a: "\u2066\nb\x9B"
        working_dir: /room
    --- Ok
    "#);
    let text = shown.strip_suffix("--- Ok\n").unwrap();
    room.write("upbeat.yaml", text);
    assert_eq!(room.run(&["config"]).await, shown);
    let json = room.run(&["config", "--format", "json"]).await;
    assert!(
        !json.contains(|c: char| c.is_control() && c != '\n' || "\u{202e}\u{2066}".contains(c)),
        "{json}"
    );
}

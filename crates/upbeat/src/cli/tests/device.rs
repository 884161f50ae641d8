//! `device`: what is printed, and what comes of a file.

use super::room::Room;
use super::script::Script;

fn script() -> Script {
    Script::of(Vec::new())
}

/// A file with this in it.
fn file(room: &Room, text: &str) -> String {
    room.write("device.json", text);
    room.dir.path().join("device.json").to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_document_is_printed_as_it_is() {
    insta::assert_snapshot!(Room::new().with(script(), &["device"]).await, @r#"
    {
      "name": "d0",
      "uuid": "u0",
      "apps": {
        "shop": {
          "releases": {
            "1": {
              "services": {
                "cache": {
                  "command": [
                    "x"
                  ],
                  "status": "created"
                },
                "db": {
                  "command": [
                    "x"
                  ],
                  "status": "created"
                },
                "web": {
                  "command": [
                    "x"
                  ],
                  "status": "created"
                }
              },
              "partial": true
            }
          }
        }
      },
      "status": "aborted"
    }
    --- Ok
    "#);
    let told = Room::new().with(script(), &["device", "--app", "shop"]).await;
    insta::assert_snapshot!(told, @r#"
    {
      "releases": {
        "1": {
          "services": {
            "cache": {
              "command": [
                "x"
              ],
              "status": "created"
            },
            "db": {
              "command": [
                "x"
              ],
              "status": "created"
            },
            "web": {
              "command": [
                "x"
              ],
              "status": "created"
            }
          },
          "partial": true
        }
      }
    }
    --- Ok
    "#);
}

#[tokio::test]
async fn a_file_is_applied_and_what_changes_is_said() {
    let room = Room::new();
    let app = r#"{"apps":{"a0":{"releases":{"r0":{"services":{"main":{"image":"a"}}}}}}}"#;
    let from = file(&room, app);
    let script_of = script();
    let asked = script_of.asked.clone();
    insta::assert_snapshot!(room.with(script_of, &["device", "apply", &from]).await, @"
    a0: release r0 (operation 9)
    --- Ok
    ");
    assert_eq!(*asked.lock().unwrap(), ["seek a0"]);
    let script_of = script();
    let asked = script_of.asked.clone();
    insta::assert_snapshot!(room.with(script_of, &["device", "apply", "--whole", "--wait", &from]).await, @"
    shop: release r0 (operation 9)
    a0: release r0 (operation 9)
    --- Failed
    Something cannot be reached: `upbeat ps` shows what, `upbeat why` says why.
    ");
    assert_eq!(*asked.lock().unwrap(), ["seek shop", "seek a0"]);
    let from = file(&room, "{}");
    insta::assert_snapshot!(room.with(script(), &["device", "apply", &from]).await, @"
    Nothing changes: all of it is wanted already.
    --- Ok
    ");
    insta::assert_snapshot!(room.with(script(), &["device", "apply", "--whole", &from]).await, @r#"
    --- Usage
    error: Nothing was changed: `/apps`: it is missing, and what is not said here goes
    hint: say `"apps": {}` where nothing shall be left; `PATCH` leaves alone what it does not name
    "#);
    let from = file(&room, r#"{"apps": {"a0": null, "a0": {}}}"#);
    insta::assert_snapshot!(room.with(script(), &["device", "apply", &from]).await, @"
    --- Usage
    error: `/room/device.json`: the key `a0` is there twice at line 1 column 31
    hint: `upbeat device` prints a document; see `docs/device.md`
    ");
    let from = file(&room, "apps:");
    insta::assert_snapshot!(room.with(script(), &["device", "apply", &from]).await, @"
    --- Usage
    error: `/room/device.json` is no JSON: expected value at line 1 column 1
    hint: `upbeat device` prints a document; see `docs/device.md`
    ");
}

#[tokio::test]
async fn keys_and_what_is_called_off_are_said() {
    let room = Room::new();
    let from = file(&room, r#"{"keys":{"r.example":"open sesame"}}"#);
    insta::assert_snapshot!(room.with(script(), &["device", "apply", "--queue", &from]).await, @"
    r.example: its key is changed
    --- Ok
    ");
    let script_of = script();
    let asked = script_of.asked.clone();
    insta::assert_snapshot!(room.with(script_of, &["device", "stop"]).await, @"
    Nothing is called off.
    --- Ok
    ");
    assert_eq!(*asked.lock().unwrap(), ["stop seeking"]);
}

//! Project files that refer to what nobody should read: each is told what it is, and nothing hangs.

use std::fs::File;
use std::os::unix::fs::symlink;

use upbeat_model::file::TEXT_MAX;

use super::room::Room;

/// What is said of a project of one file.
async fn told(room: &Room, text: &str) -> String {
    room.write("upbeat.yaml", text);
    room.run(&["config"]).await
}

/// A directory with one of each kind of thing that is no file of text.
fn room() -> Room {
    let room = Room::new();
    let path = |name: &str| room.dir.path().join(name);
    std::fs::create_dir(path("directory")).unwrap();
    std::fs::write(path("latin"), b"A=\xf6\n").unwrap();
    File::create(path("huge")).unwrap().set_len(TEXT_MAX as u64 + 1).unwrap();
    symlink("loop", path("loop")).unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), mode).unwrap();
    room
}

/// Each of them, in the place of each kind of file a project may refer to.
#[tokio::test]
async fn what_is_no_file_of_text_is_told_what_it_is() {
    const THINGS: [(&str, &str); 9] = [
        ("directory", "it is a directory"),
        ("/dev/zero", "it is no regular file"),
        ("/dev/stdin", "it is no regular file"),
        ("pipe", "it is no regular file"),
        ("huge", "it is larger than 10 MiB"),
        ("latin", "it is not UTF-8, from byte 3 on"),
        ("loop", "too many levels of symbolic links"),
        // A file of the kernel that nobody reads at its start, whoever asks.
        ("/proc/self/mem", "input/output error"),
        ("upbeat.yaml/inside", "not a directory"),
    ];
    const PLACES: [&str; 5] = [
        "include: [THING]\nservices: { web: { command: [x] } }\n",
        "include: [{ path: other.yaml, env_file: THING }]\nservices: { web: { command: [x] } }\n",
        "services: { web: { command: [x], extends: { file: THING, service: web } } }\n",
        "services: { web: { command: [x], env_file: THING } }\n",
        "services: { web: { command: [x], label_file: THING } }\n",
    ];
    let room = room();
    room.write("other.yaml", "services: { other: { command: [x] } }\n");
    for (thing, why) in THINGS {
        for place in PLACES {
            let told = told(&room, &place.replace("THING", thing)).await;
            // What a person has for standard input is another thing each time.
            let is_told = told.contains("cannot be read: ") && (thing == "/dev/stdin" || told.contains(why));
            assert!(is_told, "{thing} in {place}{told}");
            assert!(told.starts_with("--- Usage\n"), "{told}");
        }
    }
}

/// What a config or a secret holds may be any bytes, but not without end.
#[tokio::test]
async fn a_secret_is_no_device() {
    let room = room();
    for (thing, why) in [
        ("directory", "it is a directory"),
        ("/dev/zero", "it is no regular file"),
        ("pipe", "it is no regular file"),
        ("huge", "it is larger than 1 MiB"),
        ("loop", "too many levels of symbolic links"),
        ("/proc/self/mem", "input/output error"),
        ("dangling", "which is not there"),
    ] {
        let text = "services: { web: { command: [x], secrets: [key] } }\nsecrets: { key: { file: THING } }\n";
        room.write("upbeat.yaml", text.replace("THING", thing));
        let told = room.run(&["config", "--hash"]).await;
        assert!(told.starts_with("--- Usage\n") && told.contains(why), "{thing}: {told}");
    }
    room.write(
        "upbeat.yaml",
        "services: { web: { command: [x], secrets: [key] } }\nsecrets: { key: { file: latin } }\n",
    );
    assert!(room.run(&["config", "--hash"]).await.ends_with("--- Ok\n"));
}

#[tokio::test]
async fn what_is_not_there_is_missed_where_it_is_named() {
    let room = room();
    insta::assert_snapshot!(told(&room, "include: [dangling, ../../../../../../../../none.yaml]\nservices: { web: { command: [x], env_file: /none/.env } }\n").await, @"
    --- Usage
    error: There is no file `/room/dangling`
     --> /room/upbeat.yaml:1:11
      |
    1 | include: [dangling, ../../../../../../../../none.yaml]
      |           ^^^^^^^^
      |
      = hint: it is looked for at `/room/dangling`

    error: There is no file `/none.yaml`
     --> /room/upbeat.yaml:1:21
      |
    1 | include: [dangling, ../../../../../../../../none.yaml]
      |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: it is looked for at `/none.yaml`

    error: `/room/upbeat.yaml` has 2 errors; nothing was changed
    ");
}

/// A way through a link to a directory itself has no end but that of the kernel.
#[tokio::test]
async fn links_that_go_in_circles_come_to_an_end() {
    let room = Room::new();
    symlink(".", room.dir.path().join("self")).unwrap();
    let text = "include: [self/upbeat.yaml]\nservices: { web: { command: [x] } }\n";
    let told = told(&room, text).await;
    let (_, last) = told.split_once("error: ").unwrap();
    insta::assert_snapshot!(last.lines().next().unwrap(), @"The file of variables `/room/self/self/self/self/self/self/self/self/self…` cannot be read: too many levels of symbolic links");
    symlink("upbeat.yaml", room.dir.path().join("link.yaml")).unwrap();
    let text = "include: [link.yaml]\nservices: { web: { command: [x] } }\n";
    insta::assert_snapshot!(self::told(&room, text).await, @"
    --- Usage
    error: `/room/link.yaml` includes itself
     --> /room/link.yaml:1:11
      |
    1 | include: [link.yaml]
      |           ^^^^^^^^^
      |
      = hint: take one of these inclusions out
      = note: included at /room/upbeat.yaml:1:11

    error: `/room/link.yaml` has 1 error; nothing was changed
    ");
}

#[tokio::test]
async fn a_name_cannot_play_tricks_on_a_terminal() {
    let room = Room::new();
    room.write("a\u{1b}[31mb\u{202e}c.yaml", "services: { web: { comand: x } }\n");
    let text =
        "include: [\"a\\e[31mb\\u202Ec.yaml\", \"no\\u202Ewhere\\e\"]\nservices: { web: { command: [x] } }\n";
    let shown = told(&room, text).await;
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    insta::assert_snapshot!(shown, @r#"
    --- Usage
    error: There is no file `/room/no\u{202e}where\u{1b}`
     --> /room/upbeat.yaml:1:35
      |
    1 | include: ["a\e[31mb\u202Ec.yaml", "no\u202Ewhere\e"]
      |                                   ^^^^^^^^^^^^^^^^^
      |
      = hint: it is looked for at `/room/no\u{202e}where\u{1b}`

    error: Unknown key `services.web.comand`
     --> /room/a\u{1b}[31mb\u{202e}c.yaml:1:20
      |
    1 | services: { web: { comand: x } }
      |                    ^^^^^^ not a key of a service
      |
      = hint: did you mean `command`?
      = note: included at /room/upbeat.yaml:1:11

    error: The project has 2 errors; nothing was changed
    "#);
}

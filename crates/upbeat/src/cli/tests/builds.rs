//! `build`, and what `up` builds, typed.

use super::room::Room;
use super::script::Script;
use upbeat_api::{Problem, ProblemKind};

const FILE: &str = "name: shop
services:
  bad: { build: bad }
  db: { image: db }
  web: { build: { context: web, args: { V: one } }, depends_on: [db] }
";

fn room() -> Room {
    let room = Room::new();
    for name in ["bad", "web"] {
        std::fs::create_dir(room.dir.path().join(name)).unwrap();
        room.write(&format!("{name}/Dockerfile"), "FROM busybox\nRUN make\n");
    }
    room.write("upbeat.yaml", FILE);
    room
}

fn asked(script: &Script) -> Vec<String> {
    std::mem::take(&mut script.asked.lock().unwrap())
}

#[tokio::test]
async fn a_build_tells_its_steps_and_what_came_of_it() {
    let (room, script) = (room(), Script::of(Vec::new()));
    insta::assert_snapshot!(room.with(script.clone(), &["build", "web"]).await, @r"
    web  built shop-web (0123456789ab)
    --- Ok
    upbeat: web: building shop-web
    upbeat: web: step 1 of 2: FROM busybox
    upbeat: web: step 2 of 2: RUN make \u{1b}[2J
    upbeat: web | line 1 \u{1b}[2J
    upbeat: web | line 2 \u{1b}[2J
    upbeat: web | line 3 \u{1b}[2J
    upbeat: web | line 4 \u{1b}[2J
    upbeat: web | line 5 \u{1b}[2J
    upbeat: web | line 6 \u{1b}[2J
    upbeat: web | line 7 \u{1b}[2J
    upbeat: web | line 8 \u{1b}[2J
    upbeat: web | line 9 \u{1b}[2J
    upbeat: web | line 10 \u{1b}[2J
    upbeat: web | line 11 \u{1b}[2J
    upbeat: web | line 12 \u{1b}[2J
    upbeat: web: built shop-web
    ");
    let [build] = &asked(&script)[..] else { panic!() };
    // The daemon is not told where the directory is.
    assert_eq!(
        build,
        r#"build shop-web of 4 blocks: {"context":"","dockerfile":"Dockerfile","args":{"V":"one"}}"#
    );
    let told = room.with(script.clone(), &["build", "web", "--no-cache", "--pull", "-q"]).await;
    insta::assert_snapshot!(told, @"
    web  built shop-web (0123456789ab)
    --- Ok
    ");
    let [build] = &asked(&script)[..] else { panic!() };
    assert!(build.contains(r#""no_cache":true,"pull":true"#), "{build}");
    insta::assert_snapshot!(room.with(script, &["-q", "-o", "json", "build", "web"]).await, @r#"
    [
      {
        "service": "web",
        "image": "shop-web",
        "id": "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      }
    ]
    --- Ok
    "#);
}

#[tokio::test]
async fn a_build_that_fails_says_where_and_its_last_lines_and_nothing_is_asked_after_it() {
    let (room, script) = (room(), Script::of(Vec::new()));
    insta::assert_snapshot!(room.with(script.clone(), &["-q", "up", "-d"]).await, @r"
    --- Failed
    error: `services.bad.build`: step 2 of 2, `RUN make`, failed: it said 2
      its last lines:
        | line 3 \u{1b}[2J
        | line 4 \u{1b}[2J
        | line 5 \u{1b}[2J
        | line 6 \u{1b}[2J
        | line 7 \u{1b}[2J
        | line 8 \u{1b}[2J
        | line 9 \u{1b}[2J
        | line 10 \u{1b}[2J
        | line 11 \u{1b}[2J
        | line 12 \u{1b}[2J
    hint: nothing that runs was touched
    ");
    let all = asked(&script);
    assert!(all.iter().all(|asked| !asked.starts_with("up ")), "{all:?}");
}

#[tokio::test]
async fn what_is_not_meant_is_not_built() {
    let (room, script) = (room(), Script::of(Vec::new()));
    room.with(script.clone(), &["up", "-d", "db", "--build"]).await;
    assert_eq!(asked(&script), ["up shop [db]"]);
    room.with(script.clone(), &["up", "-d", "web"]).await;
    let all = asked(&script);
    assert!(all[0] == "image shop-web" && all[1].starts_with("build shop-web"), "{all:?}");
    assert_eq!(all[2..], ["up shop [web]"]);
    room.with(script.clone(), &["up", "-d", "web", "--build"]).await;
    assert!(asked(&script)[0].starts_with("build shop-web"));
}

#[tokio::test]
async fn what_is_not_to_be_built_is_there_or_nothing_is_asked_for() {
    let (room, script) = (room(), Script::of(Vec::new()));
    insta::assert_snapshot!(room.with(script.clone(), &["up", "-d", "web", "--no-build"]).await, @r"
    --- Failed
    error: `services.web.build`: image `shop-web:latest` is not there, and nothing is to be built
    hint: leave `--no-build` out, or build it: `upbeat build web`
    ");
    assert_eq!(asked(&script), ["image shop-web"]);
    room.with(script.clone(), &["up", "-d", "db", "--no-build"]).await;
    assert_eq!(asked(&script), ["up shop [db]"]);
}

#[tokio::test]
async fn what_cannot_be_built_is_refused_before_anything_is_sent() {
    let (room, script) = (room(), Script::of(Vec::new()));
    insta::assert_snapshot!(room.with(script.clone(), &["build", "db"]).await, @"
    --- Usage
    error: `services.db` has no `build`, so there is nothing to build
    ");
    std::fs::remove_file(room.dir.path().join("web/Dockerfile")).unwrap();
    let told = room.with(script.clone(), &["-q", "build", "web"]).await;
    assert!(
        told.contains("`services.web.build`: `") && told.contains("web/Dockerfile` is not there"),
        "{told}"
    );
    room.write("upbeat.yaml", "name: shop\nservices:\n  db: { image: db }\n");
    insta::assert_snapshot!(room.with(script.clone(), &["build"]).await, @"
    --- Ok
    upbeat: no service of `shop` has a `build`
    ");
    assert_eq!(asked(&script), [""; 0]);
    // Without an engine.
    room.write("upbeat.yaml", "name: shop\nservices:\n  bad: { build: bad }\n");
    let refusal = Problem::new(ProblemKind::Unavailable, "the container engine at x cannot be reached: no");
    let script = script.with(|facts| facts.refusal = Some(refusal));
    insta::assert_snapshot!(room.with(script, &["build"]).await, @"
    --- Failed
    upbeat: bad: building shop-bad
    error: The container engine at x cannot be reached: no
    hint: nothing that runs was touched
    ");
}

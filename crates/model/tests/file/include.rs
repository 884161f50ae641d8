//! Projects of files that include others, and what stands in no file.

use insta::assert_snapshot;

use super::machine::Machine;

#[test]
fn an_included_project_has_its_own_directory_and_variables() {
    let machine = Machine::with(&[
        ("/srv/shop/.env", "TAG=shop\n"),
        (
            "/srv/shop/upbeat.yaml",
            "
include:
  - db/compose.yaml
  - { path: [cache.yaml, cache.override.yaml], project_directory: /srv/cache }
services:
  web: { command: './web-${TAG}', depends_on: [db, cache] }
",
        ),
        ("/srv/shop/db/.env", "TAG=db\nPORT=5432\n"),
        ("/srv/shop/db/compose.yaml", "services: { db: { command: ['./db-${TAG}', '${PORT}'] } }"),
        ("/srv/shop/cache.yaml", "services: { cache: { command: ./cache } }"),
        ("/srv/shop/cache.override.yaml", "services: { cache: { scale: 2 } }"),
    ]);
    assert_snapshot!(machine.tell(&["upbeat.yaml"]), @r#"
    {
      "name": "shop",
      "services": {
        "cache": {
          "command": [
            "./cache"
          ],
          "scale": 2,
          "working_dir": "/srv/cache"
        },
        "db": {
          "command": [
            "./db-shop",
            "5432"
          ],
          "working_dir": "/srv/shop/db"
        },
        "web": {
          "command": [
            "./web-shop"
          ],
          "depends_on": {
            "cache": {
              "condition": "service_started",
              "required": true
            },
            "db": {
              "condition": "service_started",
              "required": true
            }
          },
          "working_dir": "/srv/shop"
        }
      }
    }
    "#);
    let broken = Machine::with(&[
        (
            "/srv/shop/upbeat.yaml",
            "include: [one.yaml, none.yaml, dir.yaml, upbeat2.yaml]\nservices: { web: { command: x } }\n",
        ),
        ("/srv/shop/dir.yaml", "(a directory)"),
        ("/srv/shop/one.yaml", "services: { web: { command: y }, x: { comand: z } }"),
        ("/srv/shop/upbeat2.yaml", "include: [upbeat2.yaml]\nservices: { }\n"),
    ]);
    assert_snapshot!(broken.tell(&["upbeat.yaml"]), @"
    upbeat.yaml:1:21: There is no file `none.yaml` (it is looked for at `/srv/shop/none.yaml`)
    upbeat.yaml:1:32: The file `dir.yaml` cannot be read: it is a directory
    one.yaml:1:13: `services.web` is declared twice, and not alike (give one of the two another name); declared first at upbeat.yaml:2:13; included at upbeat.yaml:1:11
    one.yaml:1:39: Unknown key `services.x.comand` (did you mean `command`?); included at upbeat.yaml:1:11
    upbeat2.yaml:1:11: `upbeat2.yaml` includes itself (take one of these inclusions out); included at upbeat.yaml:1:42
    ");
}

#[test]
fn two_files_may_say_the_same_of_a_name_and_nothing_else() {
    const NETWORK: &str =
        "services: { NAME: { image: x, networks: [net] } }\nnetworks: { net: { labels: { a: b, c: d } } }\n";
    let name = |name: &str| -> &'static str { Box::leak(NETWORK.replace("NAME", name).into_boxed_str()) };
    let third = "services: { base: { command: x, environment: [A] } }";
    let machine = Machine::with(&[
        (
            "/srv/shop/upbeat.yaml",
            "include: [a/u.yaml, b/u.yaml, c.yaml, d.yaml, e.yaml]\nservices: { web: { command: x } }\n",
        ),
        ("/srv/shop/a/u.yaml", "include: [../base.yaml]\nservices: { a: { command: x } }\n"),
        ("/srv/shop/b/u.yaml", "include: [../base.yaml]\nservices: { b: { command: x } }\n"),
        ("/srv/shop/b/.env", "B=1"),
        ("/srv/shop/base.yaml", third),
        ("/srv/shop/c.yaml", name("c")),
        ("/srv/shop/d.yaml", name("d")),
        ("/srv/shop/e.yaml", "services: {}\nnetworks: { net: { labels: [c=d, a=b] } }\n"),
    ]);
    let told = machine.tell(&["upbeat.yaml"]);
    assert!(told.contains("\"base\""), "{told}");
    let different = Machine::with(&[
        ("/srv/shop/upbeat.yaml", "include: [c.yaml, e.yaml, a/u.yaml, b/u.yaml]\nservices: {}\n"),
        ("/srv/shop/c.yaml", name("c")),
        ("/srv/shop/e.yaml", "services: {}\nnetworks: { net: { labels: [c=d, a=c] } }\n"),
        // Each starts in a directory of its own, or is given other variables.
        ("/srv/shop/a/u.yaml", "include: [../base.yaml]\nservices: { one: { command: x } }\n"),
        ("/srv/shop/a/.env", "A=1"),
        ("/srv/shop/b/u.yaml", "include: [../base.yaml]\nservices: { one: { command: x } }\n"),
        ("/srv/shop/b/.env", "A=2"),
        ("/srv/shop/base.yaml", third),
    ]);
    assert_snapshot!(different.tell(&["upbeat.yaml"]), @"
    e.yaml:2:13: `networks.net` is declared twice, and not alike (give one of the two another name); declared first at c.yaml:2:13; included at upbeat.yaml:1:19
    base.yaml:1:13: `services.base` is declared twice, alike, but with other variables or in another directory (give one of the two another name); declared first at base.yaml:1:13; included at b/u.yaml:1:11; included at upbeat.yaml:1:37
    b/u.yaml:2:13: `services.one` is declared twice, alike, but with other variables or in another directory (give one of the two another name); declared first at a/u.yaml:2:13; included at upbeat.yaml:1:37
    ");
}

#[test]
fn a_file_that_is_read_twice_is_wrong_once() {
    let machine = Machine::with(&[
        (
            "/srv/shop/upbeat.yaml",
            "include: [base.yaml]\nservices: { web: { extends: { file: base.yaml, service: base } } }\n",
        ),
        ("/srv/shop/base.yaml", "services: { base: { command: x, scael: 1, user: '$U' } }\n"),
        // So that the two are filled in with different variables.
        ("/srv/shop/sub/.env", "A=1"),
        ("/srv/shop/sub/u.yaml", "include: [../base.yaml]\nservices: {}\n"),
    ]);
    assert_snapshot!(machine.tell(&["upbeat.yaml"]), @"
    base.yaml:1:33: Unknown key `services.base.scael` (did you mean `scale`?); extended at upbeat.yaml:2:37
    base.yaml:1:49: `services.base.user` is not a user: `` (write `name`, `uid` or `user:group`); extended at upbeat.yaml:2:37
    ");
}

#[test]
fn what_stands_in_no_file_is_said_of_none() {
    let file = ("/srv/shop/upbeat.yaml", "include: [sub/u.yaml]\nservices: { web: { command: x } }\n");
    let sub = ("/srv/shop/sub/u.yaml", "services: {}\n");
    let named = Machine::with(&[file, sub]).env_files(&["/srv/shop/none.env"]);
    assert_snapshot!(named.tell(&["upbeat.yaml"]), @"The file of variables `none.env` cannot be read: it is not there");
    let there = Machine::with(&[file, sub, ("/srv/shop/.env", "(a directory)")]);
    assert_snapshot!(there.tell(&["upbeat.yaml"]), @"The file of variables `.env` cannot be read: it is a directory");
    let included = Machine::with(&[file, sub, ("/srv/shop/sub/.env", "(a directory)")]);
    assert_snapshot!(included.tell(&["upbeat.yaml"]), @"upbeat.yaml:1:11: The file of variables `sub/.env` cannot be read: it is a directory");
    let broken = Machine::with(&[file, sub, ("/srv/shop/sub/.env", "A='")]);
    assert_snapshot!(broken.tell(&["upbeat.yaml"]), @"sub/.env:1:3: This quote is not closed (close it, or put the value into the other kind); included at upbeat.yaml:1:11");
}

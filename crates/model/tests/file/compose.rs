//! Projects of several files: merged, included, extended, filled in.

use insta::assert_snapshot;

use super::machine::Machine;

#[test]
fn a_later_file_goes_over_an_earlier_one() {
    let machine = Machine::with(&[
        (
            "/srv/shop/compose.yaml",
            "
name: shop
services:
  web:
    image: web:1
    command: [./web, --slow]
    environment: { A: base, B: base }
    ports: ['80:80', '443:443']
    volumes: ['data:/data', './conf:/conf:ro']
    labels: [one=1]
    dns: 1.1.1.1
    logging: { driver: json-file, options: { max-size: 1m } }
    healthcheck: { test: [CMD, a], interval: 5s }
volumes: { data: {} }
",
        ),
        (
            "/srv/shop/override.yaml",
            "
services:
  web:
    command: ./web --fast
    environment: [B=over, C=over]
    ports: ['80:80', '81:80']
    volumes: ['other:/data']
    labels: { two: '2' }
    dns: [8.8.8.8]
    logging: { driver: local, options: { max-file: '2' } }
    healthcheck: { test: exit 1 }
volumes: { other: }
",
        ),
    ]);
    assert_snapshot!(machine.tell(&["compose.yaml", "override.yaml"]), @r#"
    {
      "name": "shop",
      "services": {
        "web": {
          "command": "./web --fast",
          "dns": [
            "1.1.1.1",
            "8.8.8.8"
          ],
          "environment": {
            "A": "base",
            "B": "over",
            "C": "over"
          },
          "healthcheck": {
            "interval": "5s",
            "test": [
              "CMD-SHELL",
              "exit 1"
            ]
          },
          "image": "web:1",
          "labels": {
            "one": "1",
            "two": "2"
          },
          "logging": {
            "driver": "local",
            "options": {
              "max-file": "2"
            }
          },
          "ports": [
            {
              "mode": "ingress",
              "protocol": "tcp",
              "published": "80",
              "target": 80
            },
            {
              "mode": "ingress",
              "protocol": "tcp",
              "published": "443",
              "target": 443
            },
            {
              "mode": "ingress",
              "protocol": "tcp",
              "published": "81",
              "target": 80
            }
          ],
          "volumes": [
            {
              "source": "other",
              "target": "/data",
              "type": "volume"
            },
            {
              "bind": {
                "create_host_path": true
              },
              "read_only": true,
              "source": "/srv/shop/conf",
              "target": "/conf",
              "type": "bind"
            }
          ]
        }
      },
      "volumes": {
        "data": {},
        "other": null
      }
    }
    "#);
}

#[test]
fn what_a_later_file_resets_is_gone_and_what_it_overrides_is_replaced() {
    let machine = Machine::with(&[
        (
            "/srv/shop/compose.yaml",
            "services: { web: { command: x, environment: { A: a, B: b }, labels: { l: '1' }, user: ann }, old: { command: y } }",
        ),
        (
            "/srv/shop/override.yaml",
            "services: { web: { environment: !override { C: c }, labels: { l: !reset null }, user: !reset '' }, old: !reset }",
        ),
    ]);
    assert_snapshot!(machine.tell(&["compose.yaml", "override.yaml"]), @r#"
    {
      "name": "shop",
      "services": {
        "web": {
          "command": [
            "x"
          ],
          "environment": {
            "C": "c"
          },
          "working_dir": "/srv/shop"
        }
      }
    }
    "#);
}

#[test]
fn an_item_of_any_list_can_be_reset() {
    let machine = Machine::with(&[
        (
            "/srv/shop/a.yaml",
            "
include: [other.yaml]
services:
  base: { command: y }
  web:
    extends: base
    image: x
    environment: [A=1, B=2, C]
    labels: { l: '1', m: '2' }
    depends_on: [base, other]
    dns: [1.1.1.1, 8.8.8.8]
    ports: ['80:80', '81:81']
",
        ),
        (
            "/srv/shop/b.yaml",
            "
include: !reset
services:
  web:
    extends: !reset []
    environment: [!reset A, !reset C=, D=4]
    labels: [!reset l]
    depends_on: [!reset base]
    dns: [!reset 1.1.1.1]
    ports: [!reset '80:80']
",
        ),
        ("/srv/shop/other.yaml", "services: { other: { command: x } }"),
    ]);
    assert_snapshot!(machine.tell(&["a.yaml", "b.yaml"]), @r#"
    {
      "name": "shop",
      "services": {
        "base": {
          "command": [
            "y"
          ],
          "working_dir": "/srv/shop"
        },
        "other": {
          "command": [
            "x"
          ],
          "working_dir": "/srv/shop"
        },
        "web": {
          "command": "y",
          "depends_on": {
            "other": {
              "condition": "service_started",
              "required": true
            }
          },
          "dns": [
            "8.8.8.8"
          ],
          "environment": {
            "B": "2",
            "D": "4"
          },
          "image": "x",
          "labels": {
            "m": "2"
          },
          "ports": [
            {
              "mode": "ingress",
              "protocol": "tcp",
              "published": "81",
              "target": 81
            }
          ]
        }
      }
    }
    "#);
    let alone = Machine::with(&[(
        "/srv/shop/a.yaml",
        "include: !reset []\nservices: { web: { command: x, extends: !reset, environment: [!reset A, B=1], x-upbeat: { user: !reset } } }\n",
    )]);
    assert_snapshot!(alone.tell(&["a.yaml"]), @r#"
    {
      "name": "shop",
      "services": {
        "web": {
          "command": [
            "x"
          ],
          "environment": {
            "B": "1"
          },
          "working_dir": "/srv/shop"
        }
      }
    }
    "#);
    let twice = Machine::with(&[(
        "/srv/shop/a.yaml",
        "services: { web: { image: x, environment: [!reset A, A=1], dns: [1.1.1.1, !reset 1.1.1.1] } }",
    )]);
    assert_snapshot!(twice.tell(&["a.yaml"]), @"
    a.yaml:1:54: Duplicate name `A` in `services.web.environment` (keep one of the two)
    a.yaml:1:75: Duplicate `1.1.1.1` in `services.web.dns` (keep one of the two)
    ");
}

#[test]
fn variables_come_from_the_session_and_then_from_the_env_file() {
    let machine = Machine::with(&[
        ("/srv/shop/.env", "TAG=file\nPORT=8080\nNAME='a b'\n"),
        (
            "/srv/shop/upbeat.yaml",
            "services: { web: { command: ['./web-${TAG}', '--port=${PORT}', '${NONE-}', '$$PORT'], environment: { NAME, TAG: '${TAG:+set}' }, scale: '${COPIES:-2}' } }",
        ),
    ])
    .session(&[("TAG", "session")]);
    assert_snapshot!(machine.tell(&["upbeat.yaml"]), @r#"
    {
      "name": "shop",
      "services": {
        "web": {
          "command": [
            "./web-session",
            "--port=8080",
            "",
            "$$PORT"
          ],
          "environment": {
            "NAME": "a b",
            "TAG": "set"
          },
          "scale": 2,
          "working_dir": "/srv/shop"
        }
      }
    }
    "#);
    let missing = Machine::with(&[(
        "/srv/shop/upbeat.yaml",
        "services: { web: { command: 'x ${DATABSE_URL:?where}', user: '$NOBODY_' } }",
    )])
    .session(&[("DATABASE_URL", "x"), ("NOBODY", "x")]);
    assert_snapshot!(missing.tell(&["upbeat.yaml"]), @"
    upbeat.yaml:1:32: `services.web.command` needs the variable `DATABSE_URL`, which is not set, or empty: where (did you mean `DATABASE_URL`?)
    upbeat.yaml:1:62: `services.web.user` is not a user: `` (write `name`, `uid` or `user:group`)
    ");
}

#[test]
fn an_env_file_gives_a_service_its_variables() {
    let machine = Machine::with(&[
        ("/srv/shop/a.env", "A=1\nB=1\nHOST=$HOSTNAME\n# comment\n"),
        ("/srv/shop/raw.env", "B='2'\nC=$B\n"),
        (
            "/srv/shop/upbeat.yaml",
            "
services:
  web:
    command: x
    env_file: [a.env, { path: raw.env, format: raw }, { path: none.env, required: false }]
    environment: { C: 3 }
  other: { command: y, env_file: ./a.env }
",
        ),
    ])
    .session(&[("HOSTNAME", "box")]);
    let project = machine.parse(&["upbeat.yaml"]).unwrap().project;
    assert_snapshot!(format!("{:?}", project.services["web"].environment), @r#"{"A": "1", "B": "'2'", "C": "3", "HOST": "box"}"#);
    assert_snapshot!(format!("{:?}", project.services["other"].environment), @r#"{"A": "1", "B": "1", "HOST": "box"}"#);
    let broken = Machine::with(&[
        ("/srv/shop/bad.env", "A=1\nB='2\n"),
        ("/srv/shop/dir.env", "(a directory)"),
        (
            "/srv/shop/upbeat.yaml",
            "services: { web: { command: x, env_file: [bad.env, gone.env, dir.env] } }",
        ),
    ]);
    assert_snapshot!(broken.tell(&["upbeat.yaml"]), @"
    upbeat.yaml:1:52: There is no file `gone.env` (write it, or give it `required: false`)
    upbeat.yaml:1:62: The file `dir.env` cannot be read: it is a directory
    bad.env:2:3: This quote is not closed (close it, or put the value into the other kind); read at upbeat.yaml:1:43
    ");
}

#[test]
fn a_service_extends_another_here_or_elsewhere() {
    let machine = Machine::with(&[
        (
            "/srv/shop/base/compose.yaml",
            "
services:
  base: { command: [./base], working_dir: sub, environment: { A: base, B: base }, env_file: base.env }
  middle: { extends: base, environment: { B: middle } }
",
        ),
        ("/srv/shop/base/base.env", "FROM=base\n"),
        (
            "/srv/shop/upbeat.yaml",
            "
services:
  web:
    extends: { file: base/compose.yaml, service: middle }
    environment: { C: web }
  api: { extends: web, command: ./api, scale: 2 }
",
        ),
    ]);
    assert_snapshot!(machine.tell(&["upbeat.yaml"]), @r#"
    {
      "name": "shop",
      "services": {
        "api": {
          "command": [
            "./api"
          ],
          "environment": {
            "A": "base",
            "B": "middle",
            "C": "web",
            "FROM": "base"
          },
          "scale": 2,
          "working_dir": "/srv/shop/base/sub"
        },
        "web": {
          "command": [
            "./base"
          ],
          "environment": {
            "A": "base",
            "B": "middle",
            "C": "web",
            "FROM": "base"
          },
          "working_dir": "/srv/shop/base/sub"
        }
      }
    }
    "#);
    let broken = Machine::with(&[
        ("/srv/shop/base.yaml", "services: { base: { command: x, scael: 2 } }"),
        (
            "/srv/shop/upbeat.yaml",
            "
services:
  a: { extends: b }
  b: { extends: c }
  c: { extends: a }
  d: { extends: wbe, command: x }
  e: { extends: { file: none.yaml, service: x } }
  f: { extends: { file: base.yaml, service: base } }
  g: { extends: { file: base.yaml } }
  web: { command: x }
",
        ),
    ]);
    assert_snapshot!(broken.tell(&["upbeat.yaml"]), @"
    upbeat.yaml:5:17: Services extend each other in a circle: a → b → c → a (take one of these extensions out)
    upbeat.yaml:6:17: There is no service `wbe` to extend (did you mean `web`?)
    upbeat.yaml:7:25: There is no file `none.yaml` (it is looked for at `/srv/shop/none.yaml`)
    upbeat.yaml:9:17: `services.g.extends` has no `service` (an extension needs one)
    base.yaml:1:33: Unknown key `services.base.scael` (did you mean `scale`?); extended at upbeat.yaml:8:25
    ");
}

#[test]
fn profiles_choose_services() {
    let files: &[(&str, &str)] = &[(
        "/srv/shop/upbeat.yaml",
        "
services:
  web: { command: x }
  debug: { command: y, profiles: [debug, test], depends_on: [web] }
",
    )];
    let names = |profiles: &[&str]| {
        let project = Machine::with(files).profiles(profiles).parse(&["upbeat.yaml"]).unwrap().project;
        project.services.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&[]), "web");
    assert_eq!(names(&["other"]), "web");
    assert_eq!(names(&["test"]), "debug web");
    assert_eq!(names(&["*"]), "debug web");
    let needs = Machine::with(&[(
        "/srv/shop/upbeat.yaml",
        "services: { web: { command: x, depends_on: [db] }, db: { command: y, profiles: [data] } }",
    )]);
    assert_snapshot!(needs.tell(&["upbeat.yaml"]), @"upbeat.yaml:1:45: Service `web` depends on `db`, which only runs in profile `data` (ask for it with `--profile data`, or set `required: false`)");
}

#[test]
fn our_own_keys_stand_under_one_key_in_a_file_of_compose() {
    let machine = Machine::with(&[(
        "/srv/shop/compose.yaml",
        "services: { web: { command: x, healthcheck: { x-upbeat: { tcp: 'a:1' }, retries: 1 }, x-upbeat: { stop_command: y } } }",
    )]);
    assert_snapshot!(machine.tell(&["compose.yaml"]), @r#"
    {
      "name": "shop",
      "services": {
        "web": {
          "command": [
            "x"
          ],
          "healthcheck": {
            "retries": 1,
            "tcp": "a:1"
          },
          "stop_command": "y",
          "working_dir": "/srv/shop"
        }
      }
    }
    "#);
    let plain = Machine::with(&[(
        "/srv/shop/compose.yaml",
        "services: { web: { command: x, stop_command: y, x-upbeat: { stop_comand: y, command: z } } }",
    )]);
    assert_snapshot!(plain.tell(&["compose.yaml"]), @"
    compose.yaml:1:32: `services.web.stop_command` is no key of Compose, whose file this is (put it under `x-upbeat`, which Compose passes over, or name the file `upbeat.yaml`)
    compose.yaml:1:61: Unknown key `services.web.x-upbeat.stop_comand` (did you mean `stop_command`?)
    compose.yaml:1:77: `services.web.x-upbeat.command` is given beside `x-upbeat` and below it (keep one of the two)
    ");
}

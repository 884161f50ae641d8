//! Keys that are refused by name.

use super::{check_error, service};

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() {
    check_error!("service:
  web: { command: x }
", @"
    upbeat.yaml:1:1: Unknown key `service` (did you mean `services`?)
      ^ `service` not a key of a project file
    ");
    check_error!(service("comand: x
health_check: { tcp: a:1 }
env: { A: b }
qqq: 1"), @"
    upbeat.yaml:3:5: Unknown key `services.web.comand` (did you mean `command`?)
      ^ `comand` not a key of a service
    upbeat.yaml:4:5: Unknown key `services.web.health_check` (did you mean `healthcheck`?)
      ^ `health_check` not a key of a service
    upbeat.yaml:5:5: Unknown key `services.web.env` (did you mean `environment`?)
      ^ `env` not a key of a service
    upbeat.yaml:6:5: Unknown key `services.web.qqq` (`docs/compose.md` lists every key)
      ^ `qqq` not a key of a service
    ");
    check_error!(service("command: x
depends_on: { db: { conditon: service_started } }
healthcheck: { htpp: x, retry: 2 }"), @"
    upbeat.yaml:4:19: Service `web` depends on `db`, which is not declared (declare it under `services`, or set `required: false`)
      ^ `db`
    upbeat.yaml:4:25: Unknown key `services.web.depends_on.db.conditon` (did you mean `condition`?)
      ^ `conditon` not a key of a dependency
    upbeat.yaml:5:20: Unknown key `services.web.healthcheck.htpp` (did you mean `http`?)
      ^ `htpp` not a key of a health check
    upbeat.yaml:5:29: Unknown key `services.web.healthcheck.retry` (did you mean `retries`?)
      ^ `retry` not a key of a health check
    ");
}

#[test]
fn a_key_in_the_wrong_place_is_sent_to_the_right_one() {
    check_error!("services: { web: { command: x } }
healthcheck: { tcp: a:1 }
", @"
    upbeat.yaml:2:1: Unknown key `healthcheck` (it belongs in a service, under `services`)
      ^ `healthcheck` not a key of a project file
    ");
    check_error!(service("command: x
interval: 5s"), @"
    upbeat.yaml:4:5: Unknown key `services.web.interval` (it belongs under `healthcheck`)
      ^ `interval` not a key of a service
    ");
}

#[test]
fn a_key_that_a_process_cannot_obey_says_so() {
    check_error!(service("command: x
ports: [80:80]
env_file: .env
x-mine: 1
isolation: default
cpus: 2
privileged: true"), @"
    upbeat.yaml:4:5: `services.web.ports` is for containers, and this service is a process (a process listens on this machine itself; take it out)
      ^ `ports`
    upbeat.yaml:5:15: There is no file `/srv/shop/.env` (write it, or give it `required: false`)
      ^ `.env`
    upbeat.yaml:7:5: `services.web.isolation` is not supported (it is for Windows; take it out)
      ^ `isolation`
    upbeat.yaml:9:5: `services.web.privileged` is for containers, and this service is a process (a process has the rights of its `user`; take it out)
      ^ `privileged`
    ");
}

#[test]
fn a_key_cannot_play_tricks_on_a_terminal() {
    check_error!(service(r#"command: x
"\e[31mred": 1
"a\0b": 1"#), @r#"
    upbeat.yaml:4:5: Unknown key `services.web.\u{1b}[31mred` (`docs/compose.md` lists every key)
      ^ `"\e[31mred"` not a key of a service
    upbeat.yaml:5:5: Unknown key `services.web.a\0b` (`docs/compose.md` lists every key)
      ^ `"a\0b"` not a key of a service
    "#);
    check_error!("services: { \"we\u{202e}b\": { command: x } }\n", @r#"
    upbeat.yaml:1:13: `we\u{202e}b` is not a valid service name: only letters, digits, `.`, `_` and `-` are allowed
      ^ `"we?b"`
    "#);
    check_error!(service("command: x
kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk: 1"), @"
    upbeat.yaml:4:5: Unknown key `services.web.kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…` (`docs/compose.md` lists every key)
      ^ `kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk` not a key of a service
    ");
}

#[test]
fn no_name_has_a_character_that_nobody_sees() {
    check_error!(service("command: x
labels: { \"a\\u202eb\": x }
environment: { \"A\\u2066\": x }
depends_on: [\"c\\u200e\"]"), @r#"
    upbeat.yaml:4:15: `services.web.labels` has a name with a character that nobody sees: `a\u{202e}b`
      ^ `"a\u202eb"`
    upbeat.yaml:5:20: `services.web.environment` has a variable with a bad name: `A\u{2066}` (a name has no space and no `=`)
      ^ `"A\u2066"`
    upbeat.yaml:6:18: `services.web.depends_on[1]` has a name with a character that nobody sees: `c\u{200e}`
      ^ `"c\u200e"`
    "#);
}

#[test]
fn names_keep_the_rules_of_names() {
    check_error!("name: My Shop
services:
  web/1: { command: x }
  -db: { command: x }
  nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn: { command: x }
", @"
    upbeat.yaml:1:7: `My Shop` is not a valid project name: only letters, digits, `.`, `_` and `-` are allowed
      ^ `My Shop`
    upbeat.yaml:3:3: `web/1` is not a valid service name: only letters, digits, `.`, `_` and `-` are allowed
      ^ `web/1`
    upbeat.yaml:4:3: `-db` is not a valid service name: it must start with a letter or a digit
      ^ `-db`
    upbeat.yaml:5:3: `nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn` is not a valid service name: it is longer than 63 characters
      ^ `nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn`
    ");
    check_error!("name: [a]
services: { '': { command: x } }
", @"
    upbeat.yaml:1:7: `name` must be text, not a list
      ^ `[a]`
    upbeat.yaml:2:13: `` is not a valid service name: it is empty
      ^ `''`
    ");
    check_error!("name:
services: { ~: { command: x } }
", @"
    upbeat.yaml:1:1: `name` has no value (give it text, or take it out)
      ^ `name`
    upbeat.yaml:2:13: `~` is not a valid service name: it must start with a letter or a digit
      ^ `~`
    ");
}

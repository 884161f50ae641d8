//! Values that no service can have.

use super::{check_error, service};

#[test]
fn a_service_has_a_command() {
    check_error!(service("scale: 2"), @r#"
    upbeat.yaml:2:3: Service `web` has no `command` (say what it runs, such as `command: ["./bin/web", "--port", "8080"]`)
      ^ `web`
    "#);
    check_error!(service("command: []"), @"
    upbeat.yaml:3:14: `services.web.command` is empty (give a program and its arguments)
      ^ `[]`
    ");
    check_error!(service(r#"command: """#), @r#"
    upbeat.yaml:3:14: `services.web.command` is empty (give a program and its arguments)
      ^ `""`
    "#);
    check_error!(service(r#"command: ["", a]"#), @r#"
    upbeat.yaml:3:14: `services.web.command` names no program: its first word is empty
      ^ `["", a]`
    "#);
    check_error!(service("command:"), @r#"
    upbeat.yaml:2:3: Service `web` has no `command` (say what it runs, such as `command: ["./bin/web", "--port", "8080"]`)
      ^ `web`
    "#);
    check_error!(service("command: { a: b }"), @"
    upbeat.yaml:3:14: `services.web.command` must be a list of words, or text, not a mapping
      ^ `{ a: b }`
    ");
    check_error!(service("command: [a, [b], { c: d }, ~]"), @"
    upbeat.yaml:3:18: `services.web.command[2]` must be text, not a list
      ^ `[b]`
    upbeat.yaml:3:23: `services.web.command[3]` must be text, not a mapping
      ^ `{ c: d }`
    upbeat.yaml:3:33: `services.web.command[4]` has no value (give it text, or take it out; a bare `~` is nothing)
      ^ `~`
    ");
    check_error!(service(r#"command: "a 'b""#), @r#"
    upbeat.yaml:3:14: `services.web.command` has a quote that is not closed (close it, or write the command as a list)
      ^ `"a 'b"`
    "#);
}

#[test]
fn a_variable_that_cannot_be_filled_in_is_refused() {
    check_error!(service(r#"command: [./web, "${PORT:-80}", $HOME, cost 5$]
environment: { A: "${B:?say which}", C: $$D, D: "${HOEM?}", E: "${", F: "${}", G: "${A!b}", H: "${A:-${B}" }
working_dir: ${DIR}"#), @"
    upbeat.yaml:3:50: `services.web.command[4]` has a single `$` (write `$$` for a literal `$`)
      ^ `$`
    upbeat.yaml:4:24: `services.web.environment.A` needs the variable `B`, which is not set, or empty: say which (set it in your session, or in `.env`)
      ^ `${B:?say which}`
    upbeat.yaml:4:54: `services.web.environment.D` needs the variable `HOEM`, which is not set (set it in your session, or in `.env`)
      ^ `${HOEM?}`
    upbeat.yaml:4:69: `services.web.environment.E` has a `${` that names no variable (write `$$` for a literal `$`)
      ^ `${`
    upbeat.yaml:4:78: `services.web.environment.F` has a `${` that names no variable (write `$$` for a literal `$`)
      ^ `${`
    upbeat.yaml:4:88: `services.web.environment.G` has `${A` with `!` behind the name, which means nothing there (write `${NAME}`, or one of `:-`, `-`, `:?`, `?`, `:+`, `+` behind the name)
      ^ `${A`
    upbeat.yaml:4:101: `services.web.environment.H` has a `${` that is not closed (write `$$` for a literal `$`)
      ^ `${A:-${B}`
    upbeat.yaml:5:18: `services.web.working_dir` is empty (`.` is the project's directory)
      ^ `${DIR}`
    ");
    check_error!(service(r#"command: "./web\x24{X?}""#), @r#"
    upbeat.yaml:3:14: `services.web.command` needs the variable `X`, which is not set (set it in your session, or in `.env`)
      ^ `"./web\x24{X?}"`
    "#);
}

#[test]
fn no_text_holds_a_nul() {
    check_error!(service(r#"command: ["a\0b"]
environment: { A: "b\0" }"#), @r#"
    upbeat.yaml:3:15: `services.web.command[1]` contains a NUL character (take it out; no program can be given one)
      ^ `"a\0b"`
    upbeat.yaml:4:23: `services.web.environment.A` contains a NUL character (take it out; no program can be given one)
      ^ `"b\0"`
    "#);
}

#[test]
fn an_environment_is_names_and_text() {
    check_error!(service("command: x
environment: { A: [1], B: { c: d }, 'C D': x, '': y }"), @"
    upbeat.yaml:4:23: `services.web.environment.A` must be text, not a list
      ^ `[1]`
    upbeat.yaml:4:31: `services.web.environment.B` must be text, not a mapping
      ^ `{ c: d }`
    upbeat.yaml:4:41: `services.web.environment` has a variable with a bad name: `C D` (a name has no space and no `=`)
      ^ `'C D'`
    upbeat.yaml:4:51: `services.web.environment` has a variable without a name (write `NAME=value`)
      ^ `''`
    ");
    check_error!(service("command: x
environment: [A=1, A=2, =3, 'B C=4', { D: 5 }, ~]"), @"
    upbeat.yaml:4:24: Duplicate name `A` in `services.web.environment` (keep one of the two)
      ^ `A=2` the second one
    upbeat.yaml:4:29: `services.web.environment` has a variable without a name (write `NAME=value`)
      ^ `=3`
    upbeat.yaml:4:33: `services.web.environment` has a variable with a bad name: `B C` (a name has no space and no `=`)
      ^ `'B C=4'`
    upbeat.yaml:4:42: `services.web.environment[5]` must be text, not a mapping
      ^ `{ D: 5 }`
    upbeat.yaml:4:52: `services.web.environment[6]` has no value (give it text, or take it out; a bare `~` is nothing)
      ^ `~`
    ");
    check_error!(service("command: x
environment: ['A B', '', A, A]"), @"
    upbeat.yaml:4:19: `services.web.environment` has a variable with a bad name: `A B` (a name has no space and no `=`)
      ^ `'A B'`
    upbeat.yaml:4:26: `services.web.environment` has a variable without a name (write `NAME=value`)
      ^ `''`
    upbeat.yaml:4:33: Duplicate name `A` in `services.web.environment` (keep one of the two)
      ^ `A` the second one
    ");
    check_error!(service("command: x
environment: { A B: , '': }"), @"
    upbeat.yaml:4:20: `services.web.environment` has a variable with a bad name: `A B` (a name has no space and no `=`)
      ^ `A B`
    upbeat.yaml:4:27: `services.web.environment` has a variable without a name (write `NAME=value`)
      ^ `''`
    ");
    check_error!(service("command: x
environment: A=1"), @"
    upbeat.yaml:4:18: `services.web.environment` must be a mapping, or a list of `name=value`, not text
      ^ `A=1`
    ");
    check_error!(service("command: x
environment:"), @"
    upbeat.yaml:4:5: `services.web.environment` has no value (give it a mapping, or a list of `name=value`, or take it out)
      ^ `environment`
    ");
}

#[test]
fn directories_and_users_are_what_they_seem() {
    check_error!(service("command: x
working_dir: ~/web
user: a b"), @"
    upbeat.yaml:4:18: `services.web.working_dir` starts with `~`, which only a shell knows (write the directory out)
      ^ `~/web`
    upbeat.yaml:5:11: `services.web.user` is not a user: `a b` (write `name`, `uid` or `user:group`)
      ^ `a b`
    ");
    check_error!(service("command: x
working_dir: ~
user: 'ann:'"), @"
    upbeat.yaml:4:18: `services.web.working_dir` has no value (give it text, or take it out; a bare `~` is nothing)
      ^ `~`
    upbeat.yaml:5:11: `services.web.user` is not a user: `ann:` (write `name`, `uid` or `user:group`)
      ^ `'ann:'`
    ");
    check_error!(service("command: x
working_dir: ''
user: 4294967295"), @"
    upbeat.yaml:4:18: `services.web.working_dir` is empty (`.` is the project's directory)
      ^ `''`
    upbeat.yaml:5:11: `services.web.user` has a number that cannot be a user or group: `4294967295`
      ^ `4294967295`
    ");
    check_error!(service("command: x
working_dir: [a]
user: a:b:c"), @"
    upbeat.yaml:4:18: `services.web.working_dir` must be text, not a list
      ^ `[a]`
    upbeat.yaml:5:11: `services.web.user` is not a user: `a:b:c` (write `name`, `uid` or `user:group`)
      ^ `a:b:c`
    ");
}

#[test]
fn a_restart_policy_is_one_of_five() {
    check_error!(service("command: x
restart: on-failure:0"), @"
    upbeat.yaml:4:14: `services.web.restart` must have a number of at least 1 behind the `:`, not `0` (write `on-failure:5`, or `on-failure` for no bound)
      ^ `on-failure:0`
    ");
    check_error!(service("command: x
restart: on-failure:99999999999"), @"
    upbeat.yaml:4:14: `services.web.restart` has a number behind the `:` that is too large
      ^ `on-failure:99999999999`
    ");
    check_error!(service("command: x
restart: false"), @"
    upbeat.yaml:4:14: `services.web.restart` is not a restart policy: `false` (did you mean `no`?)
      ^ `false`
    ");
    check_error!(service("command: x
restart: true"), @"
    upbeat.yaml:4:14: `services.web.restart` is not a restart policy: `true` (did you mean `always`?)
      ^ `true`
    ");
    check_error!(service("command: x
restart: on-fail"), @"
    upbeat.yaml:4:14: `services.web.restart` is not a restart policy: `on-fail` (did you mean `on-failure`?)
      ^ `on-fail`
    ");
    check_error!(service("command: x
restart: sometimes"), @"
    upbeat.yaml:4:14: `services.web.restart` is not a restart policy: `sometimes` (write one of `no`, `always`, `on-failure`, `unless-stopped`, `on-failure:5`)
      ^ `sometimes`
    ");
    check_error!(service("command: x
restart: [always]"), @"
    upbeat.yaml:4:14: `services.web.restart` must be text, not a list
      ^ `[always]`
    ");
}

#[test]
fn a_signal_has_a_name_that_exists() {
    check_error!(service("command: x
stop_signal: SIGTREM"), @"
    upbeat.yaml:4:18: `services.web.stop_signal` is not a signal: `SIGTREM` (did you mean `SIGTERM`?)
      ^ `SIGTREM`
    ");
    check_error!(service("command: x
stop_signal: 65"), @"
    upbeat.yaml:4:18: `services.web.stop_signal` is not a signal: `65` (write its name or its number, such as `SIGINT` or `2`)
      ^ `65`
    ");
    check_error!(service("command: x
stop_signal: banana"), @"
    upbeat.yaml:4:18: `services.web.stop_signal` is not a signal: `banana` (write its name or its number, such as `SIGINT` or `2`)
      ^ `banana`
    ");
    check_error!(service("command: x
stop_command: ''
stop_signal:"), @"
    upbeat.yaml:4:19: `services.web.stop_command` is empty (give a program and its arguments)
      ^ `''`
    upbeat.yaml:5:5: `services.web.stop_signal` has no value (give it a signal such as `SIGINT`, or take it out)
      ^ `stop_signal`
    ");
}

#[test]
fn a_length_of_time_has_a_unit() {
    check_error!(service("command: x
stop_grace_period: 10"), @"
    upbeat.yaml:4:24: `services.web.stop_grace_period` has no unit: `10` (did you mean `10s`?)
      ^ `10`
    ");
    check_error!(service("command: x
stop_grace_period: ten seconds"), @"
    upbeat.yaml:4:24: `services.web.stop_grace_period` must be a length of time, not `ten seconds` (such as `1h5m30s20ms`: `h`, `m`, `s`, `ms`, `us`)
      ^ `ten seconds`
    ");
    check_error!(service("command: x
stop_grace_period: 5us"), @"
    upbeat.yaml:4:24: `services.web.stop_grace_period` is finer than a millisecond (round it to whole milliseconds)
      ^ `5us`
    ");
    check_error!(service("command: x
stop_grace_period: 9000h"), @"
    upbeat.yaml:4:24: `services.web.stop_grace_period` is longer than a year
      ^ `9000h`
    ");
    check_error!(service("command: x
stop_grace_period: 99999999999999999999s"), @"
    upbeat.yaml:4:24: `services.web.stop_grace_period` is longer than a year
      ^ `99999999999999999999s`
    ");
    check_error!(service("command: x
stop_grace_period: [5s]"), @"
    upbeat.yaml:4:24: `services.web.stop_grace_period` must be a length of time such as `30s`, not a list
      ^ `[5s]`
    ");
    check_error!(service("command: x
stop_grace_period:"), @"
    upbeat.yaml:4:5: `services.web.stop_grace_period` has no value (give it a length of time such as `30s`, or take it out)
      ^ `stop_grace_period`
    ");
}

#[test]
fn a_scale_is_a_small_whole_number() {
    check_error!(service("command: x
scale: 1001"), @"
    upbeat.yaml:4:12: `services.web.scale` must be from 0 to 1000, not 1001
      ^ `1001`
    ");
    check_error!(service("command: x
scale: -1"), @"
    upbeat.yaml:4:12: `services.web.scale` must be a whole number, not `-1`
      ^ `-1`
    ");
    check_error!(service("command: x
scale: 1.5"), @"
    upbeat.yaml:4:12: `services.web.scale` must be a whole number, not `1.5`
      ^ `1.5`
    ");
    check_error!(service("command: x
scale: 0x10"), @"
    upbeat.yaml:4:12: `services.web.scale` must be a whole number, not `0x10`
      ^ `0x10`
    ");
    check_error!(service("command: x
scale: 99999999999999999999"), @"
    upbeat.yaml:4:12: `services.web.scale` is too large
      ^ `99999999999999999999`
    ");
    check_error!(service("command: x
scale: many"), @"
    upbeat.yaml:4:12: `services.web.scale` must be a whole number, not `many`
      ^ `many`
    ");
    check_error!(service("command: x
scale: {}"), @"
    upbeat.yaml:4:12: `services.web.scale` must be a whole number, not a mapping
      ^ `{}`
    ");
}

#[test]
fn labels_are_names_and_text() {
    check_error!(service("command: x
labels: { a: [b], '': c }"), @"
    upbeat.yaml:4:18: `services.web.labels.a` must be text, not a list
      ^ `[b]`
    upbeat.yaml:4:23: `services.web.labels` has a label without a name
      ^ `''`
    ");
    check_error!(service("command: x
labels: [a=b, a=c, =d]"), @"
    upbeat.yaml:4:19: Duplicate name `a` in `services.web.labels` (keep one of the two)
      ^ `a=c` the second one
    upbeat.yaml:4:24: `services.web.labels` has a label without a name
      ^ `=d`
    ");
}

#[test]
fn the_caret_stands_under_the_variable_that_is_meant() {
    check_error!(service(r#"command: [x, "$$A $A?", "${A:?}$$ ${B?}", $$$$ $, 'it''s $$A $']
environment:
  A: "\t$$B ${B?} ${B?}"
  B: |
    $$C
    ${C?}
"#), @"
    upbeat.yaml:3:30: `services.web.command[3]` needs the variable `A`, which is not set, or empty (set it in your session, or in `.env`)
      ^ `${A:?}`
    upbeat.yaml:3:52: `services.web.command[4]` has a single `$` (write `$$` for a literal `$`)
      ^ `$`
    upbeat.yaml:3:66: `services.web.command[5]` has a single `$` (write `$$` for a literal `$`)
      ^ `$`
    upbeat.yaml:5:17: `services.web.environment.A` needs the variable `B`, which is not set (set it in your session, or in `.env`)
      ^ `${B?}`
    upbeat.yaml:8:9: `services.web.environment.B` needs the variable `C`, which is not set (set it in your session, or in `.env`)
      ^ `${C?}`
    ");
    let notes = crate::read(&service(r#"command: [x, "$$A $A?"]"#)).unwrap().notes;
    assert_eq!((notes[0].line, notes[0].column), (3, 23));
}

//! What is refused before, or by, the daemon: nothing was changed.

use clap::Parser;
use upbeat_api::{Problem, ProblemKind, Wish};
use upbeat_model::file::TEXT_MAX;
use upbeat_model::{Diagnostic, Phase};

use super::super::args::Cli;
use super::room::{Gone, Room};
use super::script::{Script, both};
use crate::exit::ExitCode;

fn running() -> Script {
    let script = Script::new(|_, _| {});
    script.tell(both(Phase::Running, Wish::Reached));
    script
}

#[tokio::test]
async fn what_contradicts_itself_is_refused() {
    let script = running();
    let asked = script.asked.clone();
    insta::assert_snapshot!(Room::new().with(script, &["scale", "web=1", "web=2"]).await, @"
    --- Usage
    error: `web` is to have both 1 and 2 copies
    hint: name each service once
    ");
    assert!(asked.lock().unwrap().is_empty());
    let room = Room::new();
    insta::assert_snapshot!(room.run(&["up", "--wait-timeout", "5"]).await, @"
    --- Usage
    error: `--wait-timeout` needs `--wait` or `--detach`
    ");
    assert!(!room.dirs.are_in_use() && !room.dirs.log().exists(), "no daemon was started for it");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named_in_every_command() {
    let commands = ["start", "stop", "restart", "logs", "why", "wait", "up", "plan"];
    for command in commands {
        let ran = Room::new().with(running(), &[command, "wbe"]).await;
        assert_eq!(
            ran, "--- NotFound\nerror: There is no service `wbe` in `shop`\nhint: did you mean `web`?\n",
            "{command}"
        );
    }
    insta::assert_snapshot!(Room::new().with(running(), &["scale", "kafka=2"]).await, @"
    --- NotFound
    error: There is no service `kafka` in `shop`
    hint: it has `cache`, `db`, `web`
    ");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let room = Room::new();
    std::fs::remove_file(room.dir.path().join("upbeat.yaml")).unwrap();
    insta::assert_snapshot!(room.search(&["ps"]).await, @"
    --- Usage
    error: There is no project file here or in a directory above
    hint: write an `upbeat.yaml`, or name a file with `--file`
    hint: `upbeat apps` lists what runs, and `-p NAME` names an app without its file
    ");
    insta::assert_snapshot!(room.run(&["ps"]).await, @"
    --- Usage
    error: Cannot read `/room/upbeat.yaml`
      caused by: No such file or directory (os error 2)
    hint: `-p NAME` names an app without its file
    ");
    room.write("process-compose.yaml", "web: x\n");
    insta::assert_snapshot!(room.search(&["up"]).await, @"
    --- Usage
    error: `/room/process-compose.yaml` is not supported yet
    hint: write its services into an `upbeat.yaml` beside it
    ");
    room.write("upbeat.yaml", "services:\n  web: { comand: [x] }\n");
    insta::assert_snapshot!(room.run(&["plan"]).await, @"
    --- Usage
    error: Unknown key `services.web.comand`
     --> /room/upbeat.yaml:2:10
      |
    2 |   web: { comand: [x] }
      |          ^^^^^^ not a key of a service
      |
      = hint: did you mean `command`?

    error: `/room/upbeat.yaml` has 1 error; nothing was changed
    ");
    room.write("upbeat.yaml", " ".repeat(TEXT_MAX + 1));
    insta::assert_snapshot!(room.run(&["plan"]).await, @"
    --- Usage
    error: `/room/upbeat.yaml` is larger than 10 MiB
    hint: a project file is a page or a few; is this the right file?
    ");
    room.write("upbeat.yaml", b"name: \xff\n");
    insta::assert_snapshot!(room.run(&["plan"]).await, @"
    --- Usage
    error: This is not UTF-8
     --> /room/upbeat.yaml:1:7
      |
    1 | name: �
      |       ^ byte 0xff
      |
      = hint: save the file as UTF-8

    error: `/room/upbeat.yaml` has 1 error; nothing was changed
    ");
}

#[tokio::test]
async fn a_second_file_is_passed_over_with_a_word() {
    let room = Room::new();
    room.write("compose.yaml", "");
    insta::assert_snapshot!(room.search(&["config", "--services"]).await, @"
    db
    web
    --- Ok
    note: `compose.yaml` is passed over: `/room/upbeat.yaml` comes first
    ");
    assert!(!room.search(&["-q", "config", "--services"]).await.contains("note:"));
    // Who does not use what is in the file has been told.
    insta::assert_snapshot!(room.search(&["graph"]).await, @"
    db
    └─ web
    --- Ok
    ");
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    insta::assert_snapshot!(Room::new().run(&["-p", "../x", "ps"]).await, @"
    --- Usage
    error: `../x` is not a valid project name: it must start with a letter or a digit
    ");
    insta::assert_snapshot!(Room::new().run(&["-p", "", "down"]).await, @"
    --- Usage
    error: `` is not a valid project name: it is empty
    ");
}

#[tokio::test]
async fn each_kind_of_problem_reads_like_one_of_ours() {
    let refused = async |kind, hint: Option<&str>| {
        let problem = Problem::new(kind, format!("the daemon says no: {kind:?}"));
        let problem = Problem { hint: hint.map(str::to_owned), ..problem };
        Room::new().with(running().with(|facts| facts.refusal = Some(problem)), &["stop"]).await
    };
    const KINDS: [ProblemKind; 7] = [
        ProblemKind::BadRequest,
        ProblemKind::Unauthorized,
        ProblemKind::Forbidden,
        ProblemKind::NotFound,
        ProblemKind::Conflict,
        ProblemKind::Unavailable,
        ProblemKind::Internal,
    ];
    for kind in KINDS {
        let ran = refused(kind, Some("do this")).await;
        match kind {
            ProblemKind::BadRequest => insta::assert_snapshot!(ran, @"
            --- Usage
            error: The daemon says no: BadRequest
            hint: do this
            "),
            ProblemKind::Unauthorized => insta::assert_snapshot!(ran, @"
            --- Denied
            error: The daemon says no: Unauthorized
            hint: do this
            "),
            ProblemKind::Forbidden => insta::assert_snapshot!(ran, @"
            --- Denied
            error: The daemon says no: Forbidden
            hint: do this
            "),
            ProblemKind::NotFound => insta::assert_snapshot!(ran, @"
            --- NotFound
            error: The daemon says no: NotFound
            hint: do this
            "),
            ProblemKind::Conflict => insta::assert_snapshot!(ran, @"
            --- Conflict
            error: The daemon says no: Conflict
            hint: do this
            "),
            ProblemKind::Unavailable => insta::assert_snapshot!(ran, @"
            --- Failed
            error: The daemon says no: Unavailable
            hint: do this
            "),
            ProblemKind::Internal => insta::assert_snapshot!(ran, @"
            --- Failed
            error: The daemon says no: Internal
            hint: do this
            "),
        }
    }
    insta::assert_snapshot!(refused(ProblemKind::Conflict, None).await, @"
    --- Conflict
    error: The daemon says no: Conflict
    ");
}

#[tokio::test]
async fn mistakes_the_daemon_finds_are_shown_at_their_place() {
    let diagnostic = Diagnostic {
        file: "upbeat.yaml".into(),
        span: 0..1,
        line: 3,
        column: 5,
        message: "unknown key `comand`".into(),
        label: None,
        hint: Some("did you mean `command`?".into()),
        trace: Vec::new(),
    };
    let problem = Problem {
        diagnostics: vec![diagnostic],
        ..Problem::new(ProblemKind::BadRequest, "the project makes no sense")
    };
    let script = running().with(|facts| facts.refusal = Some(problem));
    insta::assert_snapshot!(Room::new().with(script, &["plan"]).await, @"
    --- Usage
    error: Unknown key `comand`
    --> upbeat.yaml:3:5
     = hint: did you mean `command`?

    error: The project makes no sense
    ");
}

#[tokio::test]
async fn an_app_that_is_not_there_is_an_answer_or_an_error_as_the_question_is() {
    let nothing = || Script::new(|_, _| {});
    for command in ["start", "stop", "restart", "logs", "wait"] {
        let ran = Room::new().with(nothing(), &[command]).await;
        assert_eq!(ran, "--- NotFound\nerror: There is no app `shop`\n", "{command}");
    }
    let missing = Problem::new(ProblemKind::NotFound, "there is no app `shop`");
    let script = nothing().with(|facts| facts.refusal = Some(missing));
    insta::assert_snapshot!(Room::new().with(script, &["down"]).await, @"
    --- Ok
    upbeat: nothing of `shop` is there
    ");
    insta::assert_snapshot!(Room::new().run(&["logs"]).await, @"
    --- NotFound
    error: No daemon is listening on `/room/run/upbeat.sock`
    hint: start it with `upbeat serve`, or let `upbeat up` start it
    ");
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_is_an_error() {
    let room = Room::new();
    let (code, err) = room.command(Box::new(Gone(std::io::ErrorKind::StorageFull)), &["ps"]).await;
    assert_eq!(code, ExitCode::Failed);
    insta::assert_snapshot!(err, @"
    error: Cannot write the output
      caused by: no storage space
    ");
}

#[test]
fn what_cannot_be_typed_is_refused_with_words() {
    let read = |args: &[&str]| Cli::try_parse_from([&["upbeat"], args].concat()).unwrap_err().to_string();
    insta::assert_snapshot!(read(&["scale"]), @"
    error: the following required arguments were not provided:
      <SERVICE=N>...

    Usage: upbeat scale <SERVICE=N>...

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(read(&["scale", "../x=1"]), @"
    error: invalid value '../x=1' for '<SERVICE=N>...': `../x` is not a valid service name: it must start with a letter or a digit

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(read(&["scale", "web=4294967296"]), @"
    error: invalid value 'web=4294967296' for '<SERVICE=N>...': expected a service and a number, such as `web=3`

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(read(&["why"]), @"
    error: the following required arguments were not provided:
      <SERVICE>

    Usage: upbeat why <SERVICE>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(read(&["why", "a", "b"]), @"
    error: unexpected argument 'b' found

    Usage: upbeat why [OPTIONS] <SERVICE>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(read(&["logs", "-n", "-1"]), @"
    error: unexpected argument '-1' found

      tip: to pass '-1' as a value, use '-- -1'

    Usage: upbeat logs [OPTIONS] [SERVICE]...

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(read(&["events", "--since-sequence", "x"]), @"
    error: invalid value 'x' for '--since-sequence <N>': invalid digit found in string

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(read(&["completion", "tcsh"]), @"
    error: invalid value 'tcsh' for '<SHELL>'
      [possible values: bash, elvish, fish, powershell, zsh]

      tip: a similar value exists: 'zsh'

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(read(&["serve", "--install", "--announce"]), @"
    error: the argument '--install' cannot be used with '--announce'

    Usage: upbeat serve --install

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(read(&["-f", "a", "--file", "b", "ps"]), @"
    error: the argument '-f <PATH>' cannot be used with '--file <PATH>'

    Usage: upbeat -f <PATH> <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(read(&["--color", "blue", "ps"]), @"
    error: invalid value 'blue' for '--color <WHEN>'
      [possible values: auto, always, never]

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(read(&["up", "--detatch"]), @"
    error: unexpected argument '--detatch' found

      tip: a similar argument exists: '--detach'

    Usage: upbeat up --detach [SERVICE]...

    For more information, try '--help'.
    ");
}

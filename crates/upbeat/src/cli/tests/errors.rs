//! Every error a command can end with, as it is shown. Where one is added, a match below does not
//! compile; where one is not shown, its test fails.

use std::io;
use std::time::Duration;

use upbeat_agent::KeepError;
use upbeat_api::{ClientError, Problem, ProblemKind};
use upbeat_control::audit::AuditError;
use upbeat_drivers::process::DriverError;
use upbeat_model::Attempt;
use upbeat_server::{BindError, TlsError};
use upbeat_store::StoreError;

use crate::daemon::{AccessError, EnsureError, InstallError, NoHome, ServeError, StopError};
use crate::face::examples::slot;
use crate::face::{Paint, error};
use crate::failure::Failure;

/// That there is one of each.
macro_rules! one_of_each {
    ($errors:expr, $($variant:pat),+ $(,)?) => {{
        let errors = $errors;
        let variants = [$(stringify!($variant)),+];
        for variant in variants {
            let is_it = |error: &&_| match error { $($variant => stringify!($variant) == variant),+ };
            assert!(errors.iter().any(|error| is_it(&error)), "no {variant}");
        }
        errors
    }};
}

/// How each ends a command.
fn shown(errors: impl IntoIterator<Item: Into<Failure>>) -> String {
    let one = |error: Failure| format!("{:?}\n{}", error.exit, error::text(&error, Paint::Plain));
    errors.into_iter().map(|error| one(error.into())).collect::<Vec<_>>().join("\n")
}

fn denied() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

#[test]
fn there_is_no_daemon_to_talk_to() {
    let errors = one_of_each!(
        vec![
            EnsureError::Executable(io::ErrorKind::NotFound.into()),
            EnsureError::Create(io::Error::new(denied().kind(), format!("/state: {}", denied()))),
            EnsureError::Ended {
                log: "/state/daemon.log".into(),
                last: vec!["WARN one".into(), "ERROR \u{1b}[2Jtwo".into()],
            },
            EnsureError::Ended { log: "/state/daemon.log".into(), last: vec![] },
            EnsureError::Starting { log: "/state/daemon.log".into() },
            EnsureError::Client(ClientError::PermissionDenied { socket: "/run/upbeat.sock".into() }),
        ],
        EnsureError::Executable(_),
        EnsureError::Create(_),
        EnsureError::Ended { .. },
        EnsureError::Starting { .. },
        EnsureError::Client(_),
    );
    insta::assert_snapshot!(shown(errors), @r"
    Failed
    error: There is no daemon to talk to
      caused by: the daemon cannot be started: this program's own file is not to be found
      caused by: entity not found

    Failed
    error: There is no daemon to talk to
      caused by: the daemon cannot be started
      caused by: /state: permission denied

    Failed
    error: There is no daemon to talk to
      caused by: the daemon did not get ready; its log is `/state/daemon.log`
      its last lines:
        | WARN one
        | ERROR \u{1b}[2Jtwo

    Failed
    error: There is no daemon to talk to
      caused by: the daemon did not get ready; its log is `/state/daemon.log`

    Starting
    error: The daemon is starting, and does not answer yet
    hint: ask again later
    hint: its log is `/state/daemon.log`

    Denied
    error: This user may not connect to the daemon at `/run/upbeat.sock`
    hint: only the user who started the daemon, and root, may
    ");
    let ended = EnsureError::Ended { log: "/state/daemon.log".into(), last: vec!["ERROR two".into()] };
    insta::assert_snapshot!(error::text(&ended.into(), Paint::Coloured).replace('\u{1b}', "ESC"), @"
    ESC[31merror:ESC[0m There is no daemon to talk to
      caused by: the daemon did not get ready; its log is `/state/daemon.log`
      its last lines:
    ESC[2m    | ERROR twoESC[0m
    ");
}

#[test]
fn there_is_no_place_for_it() {
    insta::assert_snapshot!(shown([NoHome]), @"
    Failed
    error: There is no place for the daemon's state: neither `HOME` nor `XDG_STATE_HOME` is set
    hint: set `HOME`, or `UPBEAT_STATE_DIR`
    ");
    let errors = one_of_each!(
        vec![
            InstallError::NoHome,
            InstallError::Write { path: "/etc/systemd/system/upbeat.service".into(), source: denied() },
        ],
        InstallError::NoHome,
        InstallError::Write { .. },
    );
    insta::assert_snapshot!(shown(errors), @"
    Failed
    error: The unit cannot be installed
      caused by: there is no place for a unit: neither `HOME` nor `XDG_CONFIG_HOME` is set
    hint: set `HOME`, or `XDG_CONFIG_HOME`

    Failed
    error: The unit cannot be installed
      caused by: cannot write `/etc/systemd/system/upbeat.service`
      caused by: permission denied
    ");
}

#[test]
fn the_daemon_cannot_run() {
    let store = || StoreError::Corrupt { path: "/state/control.redb".into(), detail: "bad magic".into() };
    let errors = one_of_each!(
        vec![
            ServeError::Running("/run/upbeat.sock".into()),
            ServeError::Inside,
            ServeError::System { what: "its directories".into(), source: denied() },
            ServeError::Store { path: "/state/control.redb".into(), source: store() },
            ServeError::Control(store()),
            ServeError::Keep(KeepError::Store(StoreError::Stopped)),
            ServeError::Driver(DriverError::Shim("it is of another machine".into())),
            ServeError::AgentEnded,
            ServeError::Listen(BindError::NotASocket { socket: "/run/upbeat.sock".into() }),
            ServeError::Access(AccessError::NoSuchGroup("staf".into())),
        ],
        ServeError::Running(_),
        ServeError::Inside,
        ServeError::System { .. },
        ServeError::Store { .. },
        ServeError::Control(_),
        ServeError::Keep(_),
        ServeError::Driver(_),
        ServeError::AgentEnded,
        ServeError::Listen(_),
        ServeError::Access(_),
    );
    insta::assert_snapshot!(shown(errors), @"
    Conflict
    error: Another daemon runs already, on `/run/upbeat.sock`
    hint: use that one, or end it first with `upbeat serve --stop`; services go on either way

    Failed
    error: The daemon cannot be started by a service that it looks after: it would be stopped with it
    hint: start it outside first: `upbeat serve`, or a unit by `upbeat serve --install`

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot use its directories
      caused by: permission denied

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: /state/control.redb is damaged: bad magic

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot read what it kept
      caused by: /state/control.redb is damaged: bad magic

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot read what it kept of its slots
      caused by: the store has stopped

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot handle processes
      caused by: it is of another machine

    Failed
    error: The daemon cannot run
      caused by: the agent has ended; what runs goes on, and the next daemon finds it again

    Failed
    error: The daemon cannot run
      caused by: `/run/upbeat.sock` is there and is not a socket; move it away, or serve elsewhere

    Failed
    error: The daemon cannot run
      caused by: `api.socket_group` is `staf`, and there is no group of that name in /etc/group
    hint: make it with `groupadd`, or name one that is there
    ");
}

#[test]
fn the_daemon_does_not_end() {
    let errors = one_of_each!(
        vec![
            StopError::NotRunning("/run/upbeat.sock".into()),
            StopError::System(denied()),
            StopError::GoesOn { pid: 7 },
        ],
        StopError::NotRunning(_),
        StopError::System(_),
        StopError::GoesOn { .. },
    );
    insta::assert_snapshot!(shown(errors), @"
    NotFound
    error: No daemon is listening on `/run/upbeat.sock`

    Denied
    error: The daemon cannot be ended
      caused by: permission denied

    Timeout
    error: The daemon (pid 7) was asked to end, and has not within 15 s
    hint: `kill -9 7` ends it at once; services go on either way
    ");
}

#[test]
fn nobody_can_be_let_in() {
    let path = || "/state/audit.key".into();
    let address = "192.0.2.1:7000".parse().unwrap();
    let errors = one_of_each!(
        vec![
            AccessError::Audit(AuditError::Files(denied())),
            AccessError::Key { path: path(), source: io::Error::other("it holds no key") },
            AccessError::Tls(TlsError::File { path: "/c.pem".into(), why: "no items found".into() }),
            AccessError::Listen { address, source: denied() },
            AccessError::NoSuchGroup("staf".into()),
            AccessError::OutOfReach { group: "staff".into(), directory: "/run/user/7".into() },
            AccessError::Rollouts(upbeat_server::OpenError::NotLoopback("192.0.2.1:8080".parse().unwrap())),
        ],
        AccessError::Audit(_),
        AccessError::Key { .. },
        AccessError::Tls(_),
        AccessError::Listen { .. },
        AccessError::NoSuchGroup(_),
        AccessError::OutOfReach { .. },
        AccessError::Rollouts(_),
    );
    insta::assert_snapshot!(shown(errors.into_iter().map(ServeError::Access)), @"
    Failed
    error: The daemon cannot run
      caused by: the audit log cannot be used
      caused by: permission denied

    Failed
    error: The daemon cannot run
      caused by: the key of the audit log, `/state/audit.key`, cannot be used
      caused by: it holds no key
    hint: put the key back; or move it away: a new one is made, and `audit verify` says so

    Failed
    error: The daemon cannot run
      caused by: `/c.pem` cannot be used: no items found

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot listen on `192.0.2.1:7000`
      caused by: permission denied
    hint: another program may listen there; `api.listen` names the address

    Failed
    error: The daemon cannot run
      caused by: `api.socket_group` is `staf`, and there is no group of that name in /etc/group
    hint: make it with `groupadd`, or name one that is there

    Failed
    error: The daemon cannot run
      caused by: `api.socket_group` is `staff`, but its members cannot get to the socket: `/run/user/7` does not let them through
    hint: set `UPBEAT_RUNTIME_DIR` to a directory that the group can reach, such as one below /run

    Failed
    error: The daemon cannot run
      caused by: rollouts are not served without tokens on `192.0.2.1:8080`, which is no loopback address: use `127.0.0.1` or `::1`; from elsewhere they can be asked with a token, where the API listens
    hint: `rollouts.listen` names the address
    ");
}

#[test]
fn the_socket_cannot_be_served_on() {
    let socket = || "/run/upbeat.sock".into();
    let (directory, owner, found, mode) = ("/run".into(), 1000, 0, 0o755);
    // No `one_of_each`: that room may add to these without us.
    let errors = [
        BindError::AlreadyServing { socket: socket() },
        BindError::NotPrivate { directory, owner, found, mode },
        BindError::NotASocket { socket: socket() },
        BindError::Io { doing: "listen on", path: socket(), source: denied() },
    ];
    insta::assert_snapshot!(shown(errors.map(ServeError::Listen)), @"
    Failed
    error: The daemon cannot run
      caused by: a daemon is already serving on `/run/upbeat.sock`

    Failed
    error: The daemon cannot run
      caused by: the directory `/run` must belong to uid 1000 with mode 0700 (it belongs to uid 0 with mode 0755)

    Failed
    error: The daemon cannot run
      caused by: `/run/upbeat.sock` is there and is not a socket; move it away, or serve elsewhere

    Failed
    error: The daemon cannot run
      caused by: cannot listen on `/run/upbeat.sock`
      caused by: permission denied
    ");
}

#[test]
fn a_store_cannot_be_opened() {
    let (size, max, count) = (2_000, 1_000, 129);
    let errors = one_of_each!(
        vec![
            StoreError::TooManyOps { count, max },
            StoreError::ValueTooLarge { key: "apps/shop".into(), size, max },
            StoreError::RequestTooLarge { size, max },
            StoreError::BadKey { size, max },
            StoreError::DuplicateKey("apps/shop".into()),
            StoreError::Locked("/state/control.redb".into()),
            StoreError::Corrupt { path: "/state/control.redb".into(), detail: "bad magic".into() },
            StoreError::Io("No space left on device (os error 28)".into()),
            StoreError::Unknown("Input/output error (os error 5)".into()),
            StoreError::Unreadable { key: "apps/shop".into(), detail: "expected a map".into() },
            StoreError::Conflict("apps/shop".into()),
            StoreError::Stopped,
        ],
        StoreError::TooManyOps { .. },
        StoreError::ValueTooLarge { .. },
        StoreError::RequestTooLarge { .. },
        StoreError::BadKey { .. },
        StoreError::DuplicateKey(_),
        StoreError::Locked(_),
        StoreError::Corrupt { .. },
        StoreError::Io(_),
        StoreError::Unknown(_),
        StoreError::Unreadable { .. },
        StoreError::Conflict(_),
        StoreError::Stopped,
    );
    let path = || "/state/control.redb".into();
    let errors = errors.into_iter().map(|source| ServeError::Store { path: path(), source });
    insta::assert_snapshot!(shown(errors), @"
    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: a transaction of 129 operations is larger than the limit of 1000

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: the value of `apps/shop` has 2000 bytes, more than the limit of 1000

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: a request of 2000 bytes is larger than the limit of 1000

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: a key of 2000 bytes is not allowed: from 1 to 1000

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: `apps/shop` is written twice in one transaction

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: /state/control.redb is in use by another process

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: /state/control.redb is damaged: bad magic

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: the store cannot use its file: No space left on device (os error 28)

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: the store cannot tell what it has kept: Input/output error (os error 5)

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: `apps/shop` holds something else than expected: expected a map

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: `apps/shop` was written by somebody else at the same time

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot open `/state/control.redb`
      caused by: the store has stopped
    ");
}

#[test]
fn what_runs_cannot_be_handled() {
    let bad = || serde_json::from_str::<u8>("{").unwrap_err();
    let keep = one_of_each!(
        vec![
            KeepError::Store(StoreError::Io("Input/output error (os error 5)".into())),
            KeepError::Slot { key: "slots/shop/web/1".into(), source: bad() },
        ],
        KeepError::Store(_),
        KeepError::Slot { .. },
    );
    insta::assert_snapshot!(shown(keep.into_iter().map(ServeError::Keep)), @"
    Failed
    error: The daemon cannot run
      caused by: the daemon cannot read what it kept of its slots
      caused by: the store cannot use its file: Input/output error (os error 5)

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot read what it kept of its slots
      caused by: the state of `slots/shop/web/1` cannot be read
      caused by: invalid type: map, expected u8 at line 1 column 0
    ");
    let driver = one_of_each!(
        vec![
            DriverError::Io { what: "/proc".into(), source: denied() },
            DriverError::Shim("it is of another machine".into()),
            DriverError::NotThere { slot: slot("web-1"), attempt: Attempt(3) },
            DriverError::StillThere { slot: slot("web-1"), count: 2 },
        ],
        DriverError::Io { .. },
        DriverError::Shim(_),
        DriverError::NotThere { .. },
        DriverError::StillThere { .. },
    );
    insta::assert_snapshot!(shown(driver.into_iter().map(ServeError::Driver)), @"
    Failed
    error: The daemon cannot run
      caused by: the daemon cannot handle processes
      caused by: cannot use /proc
      caused by: permission denied

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot handle processes
      caused by: it is of another machine

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot handle processes
      caused by: attempt 3 of shop/web/1 is not there

    Failed
    error: The daemon cannot run
      caused by: the daemon cannot handle processes
      caused by: 2 processes of shop/web/1 do not die, or make others as fast as they are killed
    ");
}

#[test]
fn the_daemon_does_not_answer_as_it_should() {
    let socket = || "/run/upbeat.sock".into();
    let url = || "https://upbeat.example:7000".into();
    let source = || Some("error reading a body from connection".into());
    // No `one_of_each`: that room may add to these without us.
    let errors = [
        ClientError::NotRunning { socket: socket() },
        ClientError::PermissionDenied { socket: socket() },
        ClientError::Connect { socket: socket(), source: io::Error::other("too many links") },
        ClientError::Connect { socket: url(), source: io::ErrorKind::ConnectionRefused.into() },
        ClientError::Connect { socket: url(), source: io::ErrorKind::InvalidData.into() },
        ClientError::BadAddress { what: "ftp://x".into(), why: "it has to begin with `https://`".into() },
        ClientError::Problem(Problem::new(ProblemKind::Internal, "a bug").with_hint("tell us")),
        ClientError::Interrupted { socket: socket(), source: source() },
        ClientError::Interrupted { socket: socket(), source: None },
        ClientError::ShuttingDown { socket: socket() },
        ClientError::TimedOut { socket: socket(), after: Duration::from_secs(30) },
        ClientError::Protocol { socket: socket(), detail: "status 418 without a reason".into() },
    ];
    insta::assert_snapshot!(shown(errors), @"
    NotFound
    error: No daemon is listening on `/run/upbeat.sock`
    hint: start it with `upbeat serve`, or let `upbeat up` start it

    Denied
    error: This user may not connect to the daemon at `/run/upbeat.sock`
    hint: only the user who started the daemon, and root, may

    Failed
    error: Cannot connect to the daemon at `/run/upbeat.sock`
      caused by: too many links

    NotFound
    error: Cannot connect to the daemon at `https://upbeat.example:7000`
      caused by: connection refused
    hint: start it there, with `upbeat serve --listen ADDRESS`

    Failed
    error: Cannot connect to the daemon at `https://upbeat.example:7000`
      caused by: invalid data
    hint: `--ca FILE` names a certificate to trust instead

    Usage
    error: `ftp://x` cannot be used: it has to begin with `https://`

    Failed
    error: A bug
    hint: tell us

    Failed
    error: The daemon at `/run/upbeat.sock` went away in the middle of its answer
      caused by: error reading a body from connection
    hint: what it runs goes on; ask again once it is back

    Failed
    error: The daemon at `/run/upbeat.sock` went away in the middle of its answer
    hint: what it runs goes on; ask again once it is back

    Failed
    error: The daemon at `/run/upbeat.sock` is shutting down
    hint: what it runs goes on; ask again once its successor is up

    Failed
    error: The daemon at `/run/upbeat.sock` has not answered within 30 s
    hint: its log says what it is busy with

    Failed
    error: The daemon at `/run/upbeat.sock` answered something unexpected: status 418 without a reason
    hint: compare `upbeat version` with the version of the daemon
    ");
}

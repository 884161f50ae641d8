//! Commands against a daemon that tells what the test wants, over a real socket.

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use clap::Parser;
use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, watch};
use upbeat_api::{
    Action, App, AppName, AppSummary, Event, LogLine, LogStream, Operation, OperationId, Plan, Problem,
    ProblemKind, ServiceName, SlotId, Up, Version, Why, Wish,
};
use upbeat_model::{Goal, Phase, SlotStatus, Wall};
use upbeat_server::{Answer, Backend, BoxStream, LogQuery};

use super::args::Cli;
use super::session::Session;
use crate::daemon::Dirs;
use crate::exit::ExitCode;
use crate::face::examples::{NOW, not_restarted, project, slot, status};
use crate::face::{Paint, error};

/// What the daemon would tell at one moment.
#[derive(Clone)]
struct Told {
    app: Option<App>,
    operation: Operation,
}

type Slots = Vec<(SlotStatus, Wish)>;
type Then = dyn Fn(&Script, &str) + Send + Sync;

#[derive(Clone)]
struct Script {
    now: Arc<watch::Sender<Told>>,
    lines: Arc<Mutex<Vec<LogLine>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Somebody began to watch the app.
    watched: Arc<Notify>,
    /// At the next look at the app this is seen, and the moment after it the other.
    at_a_look: Arc<Mutex<Option<[Slots; 2]>>>,
    /// What becomes of the app when something is asked.
    then: Arc<Then>,
}

fn app(slots: Vec<SlotStatus>) -> App {
    App { name: AppName::new("shop").unwrap(), release: 1, project: project(), slots }
}

fn operation(slots: &[(SlotId, Wish)]) -> Operation {
    Operation {
        id: OperationId(4),
        app: AppName::new("shop").unwrap(),
        what: "up".into(),
        who: "uid 1000".into(),
        at: NOW,
        slots: slots.iter().cloned().collect(),
        ended: slots.iter().all(|(_, wish)| *wish != Wish::Pending),
    }
}

impl Script {
    fn new(then: impl Fn(&Script, &str) + Send + Sync + 'static) -> Self {
        let told = Told { app: None, operation: operation(&[]) };
        let now = Arc::new(watch::Sender::new(told));
        Self {
            now,
            lines: Arc::default(),
            asked: Arc::default(),
            watched: Arc::default(),
            at_a_look: Arc::default(),
            then: Arc::new(then),
        }
    }

    fn tell(&self, slots: Slots) {
        let wishes: Vec<(SlotId, Wish)> = slots.iter().map(|(s, w)| (s.slot.clone(), w.clone())).collect();
        let slots = slots.into_iter().map(|(s, _)| s).collect();
        self.now.send_replace(Told { app: Some(app(slots)), operation: operation(&wishes) });
    }

    fn say(&self, short: &str, text: &str) {
        let mut lines = self.lines.lock().unwrap();
        let (slot, sequence) = (slot(short), lines.len() as u64 + 1);
        lines.push(LogLine { slot, sequence, at_ns: 1, stream: LogStream::Stdout, text: text.into() });
    }

    fn ask(&self, what: String) -> Answer<Operation> {
        self.asked.lock().unwrap().push(what.clone());
        (self.then)(self, &what);
        Ok(self.now.borrow().operation.clone())
    }

    fn changes<T: Send + 'static>(&self, pick: fn(&Told) -> Option<T>) -> BoxStream<T> {
        let receiver = self.now.subscribe();
        stream::unfold((receiver, true), move |(mut receiver, first)| async move {
            if !first {
                receiver.changed().await.ok()?;
            }
            let picked = pick(&receiver.borrow_and_update())?;
            Some((picked, (receiver, false)))
        })
        .boxed()
    }
}

fn absent() -> Problem {
    Problem::new(ProblemKind::NotFound, "there is no app `shop`")
}

impl Backend for Script {
    fn version(&self) -> Version {
        Version { version: "0.1.0".into(), pid: 42, started_at: Wall(5) }
    }
    async fn apps(&self) -> Answer<Vec<AppSummary>> {
        Ok(Vec::new())
    }
    async fn app(&self, _: AppName) -> Answer<App> {
        let moment = self.at_a_look.lock().unwrap().take();
        if let Some([seen, after]) = moment {
            self.tell(seen);
            let app = self.now.borrow().app.clone();
            self.tell(after);
            return app.ok_or_else(absent);
        }
        self.now.borrow().app.clone().ok_or_else(absent)
    }
    async fn watch(&self, _: AppName) -> Answer<BoxStream<App>> {
        self.watched.notify_one();
        Ok(self.changes(|told| told.app.clone()))
    }
    async fn up(&self, app: AppName, up: Up, _: String) -> Answer<Operation> {
        let services: Vec<&str> = up.services.iter().map(ServiceName::as_str).collect();
        self.ask(format!("up {app} [{}]", services.join(" ")))
    }
    async fn plan(&self, _: AppName, _: Up) -> Answer<Plan> {
        Ok(Plan { steps: Vec::new(), unchanged: 3 })
    }
    async fn act(&self, _: AppName, action: Action, _: String) -> Answer<Operation> {
        self.ask(serde_json::to_string(&action).unwrap())
    }
    async fn down(&self, _: AppName, kill: bool, _: String) -> Answer<Operation> {
        self.ask(format!("down {kill}"))
    }
    async fn operation(&self, _: OperationId) -> Answer<Operation> {
        Ok(self.now.borrow().operation.clone())
    }
    async fn watch_operation(&self, _: OperationId) -> Answer<BoxStream<Operation>> {
        let told = self.changes(|told| Some(told.operation.clone()));
        Ok(told
            .scan(false, |ended, o| {
                let item = (!*ended).then_some(o);
                *ended = item.as_ref().is_some_and(|o| o.ended);
                std::future::ready(item)
            })
            .boxed())
    }
    async fn why(&self, _: AppName, _: ServiceName) -> Answer<Why> {
        Ok(Why { chains: Vec::new() })
    }
    async fn events(&self, _: Option<AppName>, _: u64, _: usize) -> Answer<Vec<Event>> {
        Ok(Vec::new())
    }
    async fn watch_events(&self, _: Option<AppName>, _: u64) -> Answer<BoxStream<Event>> {
        Ok(stream::empty().boxed())
    }
    async fn logs(&self, _: AppName, query: LogQuery) -> Answer<BoxStream<LogLine>> {
        let lines = self.lines.lock().unwrap().clone();
        let wanted = move |l: &LogLine| query.services.is_empty() || query.services.contains(&l.slot.service);
        let lines = stream::iter(lines.into_iter().filter(wanted).collect::<Vec<_>>());
        Ok(if query.follow { lines.chain(stream::pending()).boxed() } else { lines.boxed() })
    }
}

/// What a command wrote.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<Vec<u8>>>);

impl Pipe {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const FILE: &str =
    "name: shop\nservices:\n  db: { command: [x] }\n  web: { command: [x], depends_on: [db] }\n";

/// A reader that has gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Room {
    dir: tempfile::TempDir,
    dirs: Dirs,
}

impl Room {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("upbeat.yaml"), FILE).unwrap();
        let dirs = Dirs { state: dir.path().join("state"), runtime: dir.path().join("run") };
        dirs.create().unwrap();
        Self { dir, dirs }
    }

    async fn command(&self, out: Box<dyn Write>, args: &[&str]) -> (ExitCode, String) {
        let file = self.dir.path().join("upbeat.yaml");
        let typed = [&["upbeat", "--file", file.to_str().unwrap()], args].concat();
        let cli = Cli::try_parse_from(typed).unwrap();
        let err = Pipe::default();
        let session = Session::of_test(cli.global, self.dirs.clone(), out, Box::new(err.clone()));
        let code = match super::run(&session, cli.command).await {
            Ok(code) => code,
            Err(failure) => {
                session.complain(&error::text(&failure, Paint::Plain));
                failure.exit
            }
        };
        (code, err.text())
    }

    /// Exit code, standard output and standard error, as one text.
    async fn run(&self, args: &[&str]) -> String {
        let out = Pipe::default();
        let (code, err) = self.command(Box::new(out.clone()), args).await;
        format!("{}--- {code:?}\n{err}", out.text())
    }

    /// With a daemon that tells this.
    async fn with(&self, script: Script, args: &[&str]) -> String {
        let listener = upbeat_server::bind(&self.dirs.socket()).unwrap();
        let daemon = upbeat_server::serve(listener, script, std::future::pending());
        tokio::select! {
            ended = daemon => panic!("the daemon ended: {ended:?}"),
            ran = self.run(args) => ran,
        }
    }
}

/// db fails, and web with it.
fn db_fails(script: &Script, _: &str) {
    let failed = Wish::Failed { reasons: vec![not_restarted()] };
    script.say("db-1", "panic: no disk");
    script.tell(vec![
        (SlotStatus { reasons: vec![not_restarted()], ..status("db-1", Phase::Failed) }, failed),
        (status("web-1", Phase::Running), Wish::Reached),
    ]);
}

fn both(phase: Phase, wish: Wish) -> Slots {
    ["db-1", "web-1"].map(|short| (status(short, phase), wish.clone())).to_vec()
}

#[tokio::test]
async fn up_tells_why_something_did_not_come_up_and_what_it_said_last() {
    let room = Room::new();
    insta::assert_snapshot!(room.with(Script::new(db_fails), &["up", "-d"]).await, @"
    db-1   failed: ended (exit 1) and `restart: no` leaves it so
      its last lines:
        | panic: no disk
    web-1  running
    --- Failed
    error: Not everything came up
    hint: `upbeat why db` explains it
    ");
}

#[tokio::test]
async fn up_detached_returns_with_the_start_and_with_wait_only_when_all_is_ready() {
    let starting = |script: &Script, _: &str| script.tell(both(Phase::Starting, Wish::Pending));
    let room = Room::new();
    insta::assert_snapshot!(room.with(Script::new(starting), &["up", "-d"]).await, @"
    db-1   starting
    web-1  starting
    --- Ok
    ");
    let room = Room::new();
    let waited = room.with(Script::new(starting), &["up", "--wait", "--wait-timeout", "0"]).await;
    insta::assert_snapshot!(waited, @"
    db-1   not there yet, starting
    web-1  not there yet, starting
    --- Timeout
    error: The time is over before everything was there
    hint: `upbeat why db` explains it
    ");
}

#[tokio::test]
async fn up_in_front_shows_every_line_until_all_has_ended_or_ctrl_c() {
    let ended = |script: &Script, _: &str| {
        script.say("db-1", "one");
        script.say("db-1", "two");
        script.tell(both(Phase::Completed, Wish::Reached));
    };
    let room = Room::new();
    let ran = room.with(Script::new(ended), &["up"]).await;
    let (out, rest) = ran.split_once("---").unwrap();
    assert_eq!(out, "db-1   | one\ndb-1   | two\n");
    insta::assert_snapshot!(rest, @"
     Ok
    upbeat: db-1 completed
    upbeat: web-1 completed
    ");
    ctrl_c_stops_in_order_and_a_second_one_at_once().await;
}

/// As a person at the terminal does. One test alone: every foreground `up` of this process hears it.
fn press_ctrl_c() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT).unwrap();
}

async fn ctrl_c_stops_in_order_and_a_second_one_at_once() {
    let stubborn = |script: &Script, asked: &str| {
        let (phase, wish) = match asked {
            "up shop []" => (Phase::Running, Wish::Reached),
            asked if asked.contains("false") => (Phase::Stopping, Wish::Pending),
            _ => (Phase::Stopped, Wish::Reached),
        };
        script.tell(both(phase, wish));
        if phase != Phase::Stopped {
            press_ctrl_c();
        }
    };
    let script = Script::new(stubborn);
    let asked = script.asked.clone();
    let ran = Room::new().with(script, &["up"]).await;
    assert!(ran.contains("--- Interrupted\n"), "{ran}");
    assert!(ran.contains("upbeat: stopping `shop`; Ctrl-C again kills it at once\n"), "{ran}");
    assert!(ran.contains("upbeat: killing `shop`"), "{ran}");
    let stop = |kill: bool| format!(r#"{{"action":"stop","services":[],"kill":{kill}}}"#);
    assert_eq!(*asked.lock().unwrap(), ["up shop []".to_owned(), stop(false), stop(true)]);
}

#[tokio::test]
async fn who_waits_does_not_notice_that_the_daemon_was_replaced() {
    let room = Room::new();
    let script = Script::new(|_, _| {});
    script.tell(both(Phase::Starting, Wish::Pending));
    let watched = script.watched.clone();
    let first = upbeat_server::bind(&room.dirs.socket()).unwrap();
    let daemons = async {
        upbeat_server::serve(first, script.clone(), async move { watched.notified().await }).await;
        script.tell(both(Phase::Healthy, Wish::Reached));
        let second = upbeat_server::bind(&room.dirs.socket()).unwrap();
        upbeat_server::serve(second, script, std::future::pending()).await;
    };
    let ran = tokio::select! {
        () = daemons => panic!("the daemons ended"),
        ran = room.run(&["wait", "--for=healthy"]) => ran,
    };
    assert!(ran.starts_with("--- Ok\n"), "{ran}");
}

#[tokio::test]
async fn every_change_tells_how_each_slot_ended() {
    let stopped = |script: &Script, _: &str| script.tell(both(Phase::Stopped, Wish::Reached));
    let script = Script::new(stopped);
    script.tell(both(Phase::Running, Wish::Reached));
    let asked = script.asked.clone();
    insta::assert_snapshot!(Room::new().with(script, &["stop", "web"]).await, @"
    db-1   stopped
    web-1  stopped
    --- Ok
    ");
    assert_eq!(*asked.lock().unwrap(), [r#"{"action":"stop","services":["web"],"kill":false}"#]);

    let other = |script: &Script, _: &str| {
        script.tell(both(Phase::Stopping, Wish::Superseded { by: OperationId(9) }));
    };
    let script = Script::new(other);
    script.tell(both(Phase::Running, Wish::Reached));
    insta::assert_snapshot!(Room::new().with(script, &["restart"]).await, @"
    db-1   superseded by operation 9
    web-1  superseded by operation 9
    --- Conflict
    error: Somebody else asked for something else in the meantime
    ");

    let gone = |script: &Script, _: &str| {
        let told = both(Phase::Absent, Wish::Reached);
        script.tell(told.into_iter().map(|(s, w)| (SlotStatus { goal: Goal::Absent, ..s }, w)).collect());
    };
    let script = Script::new(gone);
    script.tell(both(Phase::Running, Wish::Reached));
    insta::assert_snapshot!(Room::new().with(script, &["down"]).await, @"
    db-1   removed
    web-1  removed
    --- Ok
    ");
}

/// It was started, and at the last look somebody else stops it: that is no end of anybody's patience.
#[tokio::test]
async fn who_is_overtaken_at_the_last_look_is_told_by_whom() {
    let started = |script: &Script, _: &str| script.tell(both(Phase::Unhealthy, Wish::Pending));
    let script = Script::new(started);
    let stops = |wish: Wish| -> Slots {
        let of_another = |(s, w)| (SlotStatus { operation: OperationId(9), goal: Goal::Stopped, ..s }, w);
        both(Phase::Stopping, wish).into_iter().map(of_another).collect()
    };
    let moment = [stops(Wish::Pending), stops(Wish::Superseded { by: OperationId(9) })];
    *script.at_a_look.lock().unwrap() = Some(moment);
    insta::assert_snapshot!(Room::new().with(script, &["up", "-d"]).await, @"
    db-1   superseded by operation 9
    web-1  superseded by operation 9
    --- Conflict
    error: Somebody else asked for something else in the meantime
    ");
}

#[tokio::test]
async fn without_a_daemon_every_command_says_so() {
    let room = Room::new();
    insta::assert_snapshot!(room.run(&["ps"]).await, @"
    Nothing of `shop` is there; `upbeat up` starts it.
    --- Ok
    ");
    assert_eq!(room.run(&["ps", "-o", "json"]).await, "null\n--- Ok\n");
    insta::assert_snapshot!(room.run(&["down"]).await, @"
    --- Ok
    upbeat: nothing of `shop` is there
    ");
    for args in [&["logs"][..], &["stop"], &["why", "web"], &["scale", "web=2"], &["events"], &["wait"]] {
        let ran = room.run(args).await;
        assert!(ran.starts_with("--- NotFound\nerror: No daemon is listening on `"), "{args:?}: {ran}");
        assert!(ran.contains("hint: "), "{args:?}: {ran}");
    }
    insta::assert_snapshot!(room.run(&["graph"]).await, @"
    db
    └─ web
    --- Ok
    ");
}

#[tokio::test]
async fn a_misspelled_service_changes_nothing() {
    let script = Script::new(|_, _| {});
    script.tell(both(Phase::Running, Wish::Reached));
    let asked = script.asked.clone();
    insta::assert_snapshot!(Room::new().with(script.clone(), &["stop", "wbe"]).await, @"
    --- NotFound
    error: There is no service `wbe` in `shop`
    hint: did you mean `web`?
    ");
    insta::assert_snapshot!(Room::new().with(script, &["up", "-d", "web-1"]).await, @"
    --- Usage
    error: `web-1` is one copy; commands take whole services
    hint: `web` means all its copies
    ");
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn waiting_ends_with_the_state_or_with_the_reason_it_never_comes() {
    let script = Script::new(|_, _| {});
    db_fails(&script, "");
    insta::assert_snapshot!(Room::new().with(script.clone(), &["wait", "--for=healthy", "db"]).await, @"
    --- Failed
    error: `db` does not get healthy: db-1 failed: ended (exit 1) and `restart: no` leaves it so
    hint: `upbeat why db` explains it
    ");
    assert_eq!(Room::new().with(script.clone(), &["wait", "--for=running", "web"]).await, "--- Ok\n");
    let late = Room::new().with(script, &["wait", "--for=completed", "--timeout=0", "web"]).await;
    assert!(late.starts_with("--- Timeout\n"), "{late}");
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_command_quietly() {
    let room = Room::new();
    let (code, err) = room.command(Box::new(Gone), &["ps"]).await;
    assert_eq!((code, err.as_str()), (ExitCode::Ok, ""));
}

#[tokio::test]
async fn a_plan_without_steps_has_no_changes() {
    let script = Script::new(|_, _| {});
    let ran = Room::new().with(script, &["plan", "--detailed-exitcode"]).await;
    assert_eq!(ran, "Plan for `shop`: nothing to do; 3 slots stay as they are\n--- Ok\n");
}

//! Questions to processes: what they use, what they print, what a command says of them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;

use upbeat_drivers::probe::{Asked, Prober, Verdict};
use upbeat_drivers::usage::{Sharing, Usages};
use upbeat_model::project::{FileCheck, Http, Question, Service};
use upbeat_model::{Attempt, Millis, ProbeName};

use crate::rig::{Place, Rig, id, is_alive, kill, number};
use crate::{CONTROLLERS, Case};

pub(crate) const CASES: &[Case] = &[
    Case::new("memory is counted over the whole tree", memory),
    Case::needing(&[CONTROLLERS], "memory and time are the cgroup's where there is one", cgroup),
    Case::new("open files are counted for each process", descriptors),
    Case::new("processor time is counted since the last question, of this attempt", cpu),
    Case::new("time of processes that have ended is not lost", time_of_the_dead),
    Case::new("a process that has left its parent and its session is counted", daemonised),
    Case::new("a daemon that comes later counts the same processes", adopted),
    Case::new("silence begins with the start and ends with a line", prints),
    Case::new("connections of probes are nobody else's, and are closed", connections),
    Case::new(
        "where open files are few, probes wait for each other, and none that was not asked counts",
        files,
    ),
    Case::new("a command is asked as the service is run, and ends in time", exec),
    Case::new("a look that is not back in time, and a command that does not end, are a no", timed_out),
];

const SLOT: &str = "app/web/1";

const MIB: u64 = 1 << 20;

async fn ask(rig: &Rig<'_>, prober: &Prober, attempt: u64, question: Question) -> (bool, String) {
    let verdict = verdict(rig, prober, attempt, question).await;
    assert!(!verdict.unasked, "{verdict:?}");
    (verdict.healthy, verdict.message)
}

async fn verdict(rig: &Rig<'_>, prober: &Prober, attempt: u64, question: Question) -> Verdict {
    verdict_within(rig, prober, attempt, question, Millis::seconds(20)).await
}

async fn verdict_within(
    rig: &Rig<'_>,
    prober: &Prober,
    attempt: u64,
    question: Question,
    timeout: Millis,
) -> Verdict {
    let place = rig.place.path().display().to_string();
    let spec = format!(r#"{{"command":["x"],"working_dir":"{place}","environment":{{"A":"own"}}}}"#);
    let spec: Service = serde_json::from_str(&spec).unwrap();
    let given = [("A", "given"), ("PATH", "/usr/bin:/bin")];
    let base_environment: BTreeMap<String, String> =
        given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    prober
        .ask(&Asked {
            slot: &id(SLOT),
            attempt: Attempt(attempt),
            probe: &ProbeName::new("probe").unwrap(),
            question: &question,
            spec: &spec,
            base_environment: &base_environment,
            timeout,
        })
        .await
}

/// Asks until this is the answer.
async fn becomes(rig: &Rig<'_>, prober: &Prober, attempt: u64, question: Question, healthy: bool) -> String {
    loop {
        let (answer, message) = ask(rig, prober, attempt, question.clone()).await;
        if answer == healthy {
            return message;
        }
    }
}

/// A process below another holds 60 MiB.
const LARGE: &str = "{ head -c 62914560 /dev/zero; echo ready >&2; read x; } | tail -c 62914560 > /dev/null";

fn memory() {
    Place::new().daemon(async |rig| {
        let prober = Prober::new(rig.driver.clone());
        let mut launch = rig.script(LARGE);
        launch.stdio = upbeat_drivers::process::Stdio::OpenInput;
        rig.try_start(SLOT, 1, &launch).await.unwrap();
        rig.says(SLOT, "ready").await;
        let below = becomes(&rig, &prober, 1, Question::Memory(32 * MIB), false).await;
        assert!(
            below.starts_with("about 6") && below.ends_with(" MiB in memory, more than 32 MiB"),
            "{below}"
        );
        let enough = (true, "at most 256 MiB in memory".to_owned());
        assert_eq!(ask(&rig, &prober, 1, Question::Memory(256 * MIB)).await, enough);
        let gone = (false, "it does not run".to_owned());
        assert_eq!(ask(&rig, &prober, 2, Question::Memory(256 * MIB)).await, gone);
        let usages = Usages::new(rig.driver.clone());
        let of =
            async |sharing| usages.of(&id(SLOT), Attempt(1), sharing).await.unwrap().unwrap().memory_bytes;
        let (repeated, divided) = (of(Sharing::Repeated).await, of(Sharing::DividedAbove(0)).await);
        assert!(60 * MIB < divided && divided < repeated, "{divided} {repeated}");
    });
}

fn cgroup() {
    Place::new().daemon(async |rig| {
        let mut launch = rig.script("while :; do :; done");
        launch.resources.memory = Some(64 * MIB);
        rig.try_start(SLOT, 1, &launch).await.unwrap();
        let group = std::fs::read_link(rig.driver.slot_dir(&id(SLOT)).join("cgroup")).unwrap();
        let prober = Prober::new(rig.driver.clone());
        becomes(&rig, &prober, 1, Question::Cpu(20), false).await;
        let usage = prober.usages().of(&id(SLOT), Attempt(1), Sharing::Repeated).await.unwrap().unwrap();
        let read = |file: &str| std::fs::read_to_string(group.join(file)).unwrap();
        assert!(usage.cpu_ms > 0 && read("cpu.stat").contains("usage_usec"));
        let current: u64 = read("memory.current").trim().parse().unwrap();
        // A shell alone, to a page or a thousand.
        assert!(usage.memory_bytes.abs_diff(current) < 4 * MIB, "{} {current}", usage.memory_bytes);
    });
}

fn descriptors() {
    Place::new().daemon(async |rig| {
        let prober = Prober::new(rig.driver.clone());
        let files: String = (3..9).map(|n| format!("exec {n}</dev/null; ")).collect();
        rig.start(SLOT, 1, &format!("({files} echo ready; exec sleep 600)")).await;
        rig.says(SLOT, "ready").await;
        let usage = prober.usages().of(&id(SLOT), Attempt(1), Sharing::Repeated).await.unwrap().unwrap();
        // The one below has 3 to 8 besides its three.
        assert_eq!((usage.descriptors_most, usage.descriptors_hidden), (9, 0), "{usage:?}");
        assert!(usage.descriptors >= Some(12) && usage.processes == 2, "{usage:?}");
        let (healthy, words) = ask(&rig, &prober, 1, Question::Descriptors(8)).await;
        assert_eq!((healthy, &words[..]), (false, "a process has about 9 open files, more than 8"));
        let enough = (true, "at most 9 open files".to_owned());
        assert_eq!(ask(&rig, &prober, 1, Question::Descriptors(9)).await, enough);
    });
}

fn cpu() {
    Place::new().daemon(async |mut rig| {
        let prober = Prober::new(rig.driver.clone());
        rig.start(SLOT, 1, "(while :; do :; done)").await;
        let first = (true, "at most 20 % of a CPU".to_owned());
        assert_eq!(ask(&rig, &prober, 1, Question::Cpu(20)).await, first);
        let busy = becomes(&rig, &prober, 1, Question::Cpu(20), false).await;
        assert!(busy.starts_with("about ") && busy.ends_with(" % of a CPU, more than 20 %"), "{busy}");
        rig.stop(SLOT, 1, 9, Millis(0)).await;
        rig.exit(SLOT, 1).await;
        let mut launch = rig.script("echo ready; read x");
        launch.stdio = upbeat_drivers::process::Stdio::OpenInput;
        rig.try_start(SLOT, 2, &launch).await.unwrap();
        rig.says(SLOT, "ready").await;
        // Nothing is known of this attempt, and it does nothing.
        for _ in 0..3 {
            assert!(ask(&rig, &prober, 2, Question::Cpu(20)).await.0);
        }
    });
}

fn time_of_the_dead() {
    Place::new().daemon(async |rig| {
        // One ends below its parent, and one whose parent is gone, so that the shim waits for it.
        let work = "i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done";
        let script = format!("({work}); (({work}; echo alone) &); exec sleep 600");
        rig.start(SLOT, 1, &script).await;
        rig.says(SLOT, "alone").await;
        let usages = Usages::new(rig.driver.clone());
        let usage = async || usages.of(&id(SLOT), Attempt(1), Sharing::Repeated).await.unwrap().unwrap();
        let mut last = usage().await;
        while last.processes > 1 {
            last = usage().await;
        }
        assert!(last.cpu_ms >= 20, "both have worked: {last:?}");
    });
}

fn daemonised() {
    Place::new().daemon(async |rig| {
        rig.start(SLOT, 1, "(setsid env -i sh -c 'echo $$; exec sleep 600' &); exec sleep 600").await;
        let pid = number(&rig.says(SLOT, "^[0-9]+$").await);
        assert!(is_alive(pid));
        let usages = Usages::new(rig.driver.clone());
        let usage = usages.of(&id(SLOT), Attempt(1), Sharing::Repeated).await.unwrap().unwrap();
        assert_eq!(usage.processes, 2, "{usage:?}");
        kill(pid);
    });
}

fn adopted() {
    let place = Place::new();
    place.daemon(async |rig| {
        rig.start(SLOT, 1, "sleep 600 & echo ready; wait").await;
        rig.says(SLOT, "ready").await;
    });
    place.daemon(async |rig| {
        let usages = Usages::new(rig.driver.clone());
        let of = async |attempt| usages.of(&id(SLOT), Attempt(attempt), Sharing::Repeated).await.unwrap();
        assert_eq!(of(1).await, None, "nobody has looked");
        rig.observe(SLOT).await;
        assert_eq!(of(1).await.unwrap().processes, 2);
        assert_eq!(of(2).await, None);
    });
}

fn prints() {
    Place::new().daemon(async |rig| {
        let prober = Prober::new(rig.driver.clone());
        let fifo = rig.place.file("go");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        rig.start(SLOT, 1, &format!("read x < {}; echo said; exec sleep 600", fifo.display())).await;
        let hour = Question::Prints(Millis::seconds(3600));
        // It has said nothing, but it was started just now.
        assert_eq!(ask(&rig, &prober, 1, hour.clone()).await, (true, "output within 1h".to_owned()));
        let silent = becomes(&rig, &prober, 1, Question::Prints(Millis(20)), false).await;
        assert_eq!(silent, "no output within 20ms");
        std::fs::write(&fifo, "go\n").unwrap();
        rig.says(SLOT, "said").await;
        assert!(ask(&rig, &prober, 1, hour.clone()).await.0);
        // What the files say of the time does not matter once it is watched.
        let segment = rig.driver.log_dir(&id(SLOT)).join(upbeat_shim::log::segment_name(1));
        let file = std::fs::File::options().append(true).open(segment).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert!(ask(&rig, &prober, 1, hour).await.0, "the clock was set, and nothing was missed");
    });
}

/// A server that answers one request on each connection, and holds it until the other end hangs up;
/// what it then says is told.
fn server() -> (String, std::sync::mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (over, ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, over) = (stream.unwrap(), over.clone());
            std::thread::spawn(move || {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                while stream.read(&mut request).is_ok_and(|count| count > 0) {}
                let _ = over.send(());
            });
        }
    });
    (address, ends)
}

fn connections() {
    let (address, ends) = server();
    Place::new().daemon(async |mut rig| {
        let prober = Prober::new(rig.driver.clone());
        let question = Question::Http(Http::get(format!("http://{address}/")));
        let asked = ask(&rig, &prober, 1, question).await;
        assert_eq!(asked, (true, "HTTP 200".to_owned()));
        // The zygote is made only now, and the connection is kept.
        rig.start(SLOT, 1, "exec \"$SELF\" list-descriptors").await;
        rig.exit(SLOT, 1).await;
        let lines = rig.lines(SLOT);
        assert!(lines.len() == 3 && !lines.iter().any(|line| line.contains("socket")), "{lines:?}");
        assert!(ends.try_recv().is_err(), "it is kept");
        drop(prober);
    });
    ends.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
}

/// In a process of its own: how many files it may open is for all of it.
fn files() {
    let own = std::env::current_exe().unwrap();
    let ran = std::process::Command::new(own).arg("ask-with-few-files").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// Far less than there is for probes.
const FEW_FILES: u64 = 64;

/// That many are asked at the least.
const LEAST: usize = 8;

pub(crate) fn ask_with_few_files() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let few = Some(FEW_FILES);
    setrlimit(Resource::Nofile, Rlimit { current: few, maximum: few }).unwrap();
    Place::new().daemon(async |rig| {
        let prober = Prober::new(rig.driver.clone());
        assert_eq!(prober.places(), LEAST);
        rig.start(SLOT, 1, "exec sleep 600").await;
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let hang = || {
            let (prober, url) = (&prober, url.clone());
            async { ask(&rig, prober, 1, Question::Http(Http::get(url))).await }
        };
        let mut hanging: Vec<_> = (0..LEAST).map(|_| Box::pin(hang())).collect();
        let there = Question::Tcp(silent.local_addr().unwrap().to_string());
        let mut waits = std::pin::pin!(ask(&rig, &prober, 1, there.clone()));
        let mut held = Vec::new();
        while held.len() < LEAST {
            let mut accepted = std::pin::pin!(silent.accept());
            held.push(
                std::future::poll_fn(|context| {
                    assert!(hanging.iter_mut().all(|hangs| hangs.as_mut().poll(context).is_pending()));
                    assert!(waits.as_mut().poll(context).is_pending(), "there is no place for it");
                    accepted.as_mut().poll(context)
                })
                .await
                .unwrap(),
            );
        }
        hanging.pop();
        assert!(waits.await.0);
        let mut files = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            files.push(file);
        }
        drop(hanging.pop());
        files.extend(std::fs::File::open("/dev/null"));
        let secure = Question::Http(Http::get(url.replace("http:", "https:")));
        for question in [
            there.clone(),
            Question::Http(Http::get(url)),
            secure,
            Question::Exec(vec!["true".into()]),
            Question::Memory(u64::MAX),
            Question::Descriptors(u64::MAX),
            Question::Cpu(u32::MAX),
            Question::Prints(Millis::seconds(3600)),
        ] {
            let verdict = verdict(&rig, &prober, 1, question.clone()).await;
            assert!(verdict.unasked && !verdict.healthy, "{question:?}: {verdict:?}");
        }
        drop(files);
        assert!(ask(&rig, &prober, 1, there.clone()).await.0);
        assert!(ask(&rig, &prober, 1, Question::Memory(u64::MAX)).await.0);
    });
}

fn exec() {
    Place::new().daemon(async |rig| {
        let prober = Prober::new(rig.driver.clone());
        rig.start(SLOT, 1, "exec sleep 600").await;
        let of = async |script: &str| {
            let command = ["sh", "-c", script].map(str::to_owned).to_vec();
            ask(&rig, &prober, 1, Question::Exec(command)).await
        };
        let (healthy, words) = of("echo $A; printf 'a\\033[31mb\\n'").await;
        assert!(healthy && words.ends_with("a\\u{1b}[31mb"), "{words}");
        let (healthy, words) = of("echo $A; exit 3").await;
        assert!(!healthy && words.contains('3') && words.ends_with("own"), "{words}");
        let missing = ask(&rig, &prober, 1, Question::Exec(vec!["/nonexistent".into()])).await;
        assert!(!missing.0 && missing.1.contains("/nonexistent"), "{missing:?}");
        let (healthy, words) = of("yes x | head -c 100000 | tr -d '\\n'; exit 1").await;
        assert!(!healthy && words.chars().count() == 200, "{words}");
    });
}

/// All threads that look, for tokio by default.
const LOOKING: usize = 512;

/// As many things of the machine hang as it takes for no look to be begun any more.
fn timed_out() {
    Place::new().daemon(async |rig| {
        let prober = Prober::new(rig.driver.clone());
        rig.start(SLOT, 1, "exec sleep 600").await;
        let file = rig.place.path().display().to_string();
        let questions = [
            Question::Memory(1 << 40),
            Question::Descriptors(1 << 20),
            Question::Cpu(800_000),
            Question::Prints(Millis::seconds(3600)),
            Question::File(FileCheck { path: file, max_age: None }),
        ];
        let (go_on, hang) = std::sync::mpsc::channel::<()>();
        let hang = std::sync::Arc::new(std::sync::Mutex::new(hang));
        for _ in 0..LOOKING {
            let hang = hang.clone();
            // One waits for the word that never comes, and the others for that one.
            drop(tokio::task::spawn_blocking(move || hang.lock().unwrap().recv().is_err()));
        }
        let short = Millis(300);
        for question in &questions {
            let Verdict { healthy, message, unasked, took } =
                verdict_within(&rig, &prober, 1, question.clone(), short).await;
            assert_eq!(
                (healthy, &message[..], unasked),
                (false, "timed out after 300ms", false),
                "{question}"
            );
            assert!(took >= short, "{question}: {took}");
        }
        drop(go_on);
        for question in questions {
            assert!(ask(&rig, &prober, 1, question.clone()).await.0, "{question}");
        }
        let command = ["sh", "-c", "echo before; exec sleep 600"].map(str::to_owned).to_vec();
        let Verdict { healthy, message, took, unasked } =
            verdict_within(&rig, &prober, 1, Question::Exec(command), short).await;
        assert!(!healthy && !unasked && message.starts_with("timed out after 300ms"), "{message}");
        assert!(took >= short, "{took}");
    });
}

//! Questions to processes: what they use, what they print, what a command says of them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;

use upbeat_drivers::probe::{Asked, Prober};
use upbeat_drivers::usage::{Sharing, Usages};
use upbeat_model::project::{Http, Question, Service};
use upbeat_model::{Attempt, Millis, ProbeName};

use crate::rig::{Place, Rig, id, is_alive, kill, number};
use crate::{Case, Need};

pub(crate) const CASES: &[Case] = &[
    Case::new("memory is counted over the whole tree", memory),
    Case::needing(Need::Controllers, "memory and time are the cgroup's where there is one", cgroup),
    Case::new("open files are counted for each process", descriptors),
    Case::new("processor time is counted since the last question, of this attempt", cpu),
    Case::new("time of processes that have ended is not lost", time_of_the_dead),
    Case::new("a process that has left its parent and its session is counted", daemonised),
    Case::new("a daemon that comes later counts the same processes", adopted),
    Case::new("silence begins with the start and ends with a line", prints),
    Case::new("connections of probes are nobody else's, and are closed", connections),
    Case::new("a command is asked as the service is run, and ends in time", exec),
];

const SLOT: &str = "app/web/1";

const MIB: u64 = 1 << 20;

async fn ask(rig: &Rig<'_>, prober: &Prober, attempt: u64, question: Question) -> (bool, String) {
    let place = rig.place.path().display().to_string();
    let spec = format!(r#"{{"command":["x"],"working_dir":"{place}","environment":{{"A":"own"}}}}"#);
    let spec: Service = serde_json::from_str(&spec).unwrap();
    let given = [("A", "given"), ("PATH", "/usr/bin:/bin")];
    let base_environment: BTreeMap<String, String> =
        given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let verdict = prober
        .ask(&Asked {
            slot: &id(SLOT),
            attempt: Attempt(attempt),
            probe: &ProbeName::new("probe").unwrap(),
            question: &question,
            spec: &spec,
            base_environment: &base_environment,
            timeout: Millis::seconds(20),
        })
        .await;
    (verdict.healthy, verdict.message)
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
        let of = async |sharing| usages.of(&id(SLOT), Attempt(1), sharing).await.unwrap().memory_bytes;
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
        let usage = prober.usages().of(&id(SLOT), Attempt(1), Sharing::Repeated).await.unwrap();
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
        let usage = prober.usages().of(&id(SLOT), Attempt(1), Sharing::Repeated).await.unwrap();
        // The one below has 3 to 8 besides its three.
        assert_eq!((usage.descriptors_most, usage.descriptors_hidden), (9, 0), "{usage:?}");
        assert!(usage.descriptors >= 12 && usage.processes == 2, "{usage:?}");
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
        let usage = async || usages.of(&id(SLOT), Attempt(1), Sharing::Repeated).await.unwrap();
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
        let usage = usages.of(&id(SLOT), Attempt(1), Sharing::Repeated).await.unwrap();
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
        let of = async |attempt| usages.of(&id(SLOT), Attempt(attempt), Sharing::Repeated).await;
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

//! Probes of every kind, asked of real things, and what is done about a no.

use serde_json::Value;

use crate::Journey;
use crate::crash::nothing_is_left;
use crate::home::{Home, eventually, is_alive, lines};
use crate::stand_in::{Outside, command};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "http, https, tcp, udp, grpc and a socket are asked, and say yes and no",
            needs: &[],
            run: asked_over_sockets,
        },
        Journey {
            name: "a command, a file, what is said and what is used say yes and no",
            needs: &[],
            run: seen_of_processes,
        },
        Journey {
            name: "a copy that is no good is restarted while its budget lasts, whoever is killed",
            needs: &[],
            run: budget,
        },
        Journey { name: "what is done about a no is what the file says", needs: &[], run: remedies },
        Journey { name: "a startup probe holds the others back", needs: &[], run: startup },
        Journey { name: "three yeses in a row are a yes where that is said", needs: &[], run: threshold },
    ]
}

/// As often as it makes sense, patient with a busy machine, and with one no that is enough.
const FAST: &str = "interval: 50ms, timeout: 1m, failure_threshold: 1";

/// How each probe called `readiness` stands.
fn standing(home: &Home) -> Vec<(String, Value, String)> {
    let probe = |(slot, status): (String, Value)| {
        let probe = &status["probes"]["readiness"];
        (slot, probe["passing"].clone(), probe["last"].as_str().unwrap_or_default().to_owned())
    };
    home.slots().into_iter().map(probe).collect()
}

fn all_pass(home: &Home) -> bool {
    standing(home).iter().all(|(_, passing, _)| *passing == true)
}

fn asked_over_sockets() {
    let home = Home::new();
    let socket = home.outside("it.sock");
    let outside = Outside::new(&socket);
    home.write("ca.pem", &outside.ca);
    let Outside { http, https, tcp, udp, grpc, .. } = &outside;
    let asked = [
        ("http", format!("http: 'http://{http}/'"), "HTTP 500"),
        ("https", format!("http: {{ url: 'https://{https}/', tls: {{ ca_file: ca.pem }} }}"), "HTTP 500"),
        ("tcp", format!("tcp: '{tcp}'"), "connection refused"),
        ("udp", format!("udp: {{ address: '{udp}', send: ping, expect: '^pong$$' }}"), "match"),
        ("grpc", format!("grpc: '{grpc}'"), "NOT_SERVING"),
        ("unix", format!("unix: '{}'", socket.display()), "connection refused"),
    ];
    let service = |(name, ask, _): &(&str, String, &str)| {
        format!("  {name}: {{ command: [sleep, '600'], probes: {{ readiness: {{ {ask}, {FAST} }} }} }}\n")
    };
    home.write("upbeat.yaml", &format!("services:\n{}", asked.iter().map(service).collect::<String>()));
    home.run(&["up", "-d", "--wait"]).ok();
    assert!(home.slots().values().all(|slot| slot["phase"] == "healthy"), "{:?}", home.slots());
    assert!(all_pass(&home), "{:?}", standing(&home));
    outside.fail();
    for (name, _, words) in &asked {
        eventually(&format!("{name} is unhealthy"), || home.phase(&format!("{name}-1")) == "unhealthy");
        let probe = &home.slots()[&format!("{name}-1")]["probes"]["readiness"];
        assert_eq!(probe["passing"], false, "{name}");
        assert!(probe["last"].as_str().unwrap().contains(words), "{name}: {probe}");
    }
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}

fn seen_of_processes() {
    let waits = command(&["await", "go", "print", "listening on 80", "forever"]);
    let says = command(&["await", "go", "say", "STATUS=warm\nREADY=1", "forever"]);
    let beats = command(&["say", "READY=1", "beat", "go", "forever"]);
    let chatters = command(&["chatter", "go", "forever"]);
    let takes = command(&["await", "go", "take", "200", "forever"]);
    let opens = command(&["await", "go", "open", "100", "forever"]);
    let spins = command(&["await", "go", "spin"]);
    let sleeps = "[sleep, '600']".to_owned();
    // Each says no when there is a file `go`; the first two only then say yes.
    let asked = [
        ("log", &waits, "log: 'listening on [0-9]+'", "line matched: listening on 80"),
        ("notify", &says, "notify: true", "it said READY=1"),
        ("exec", &sleeps, "exec: [test, '!', -e, go]", "exit 1"),
        ("file", &sleeps, "file: { path: fresh, max_age: 1h }", "not changed within 1h"),
        ("watchdog", &beats, "watchdog: 2s", "it has not said WATCHDOG=1 for 2s"),
        ("prints", &chatters, "prints_within: 2s", ""),
        ("memory", &takes, "memory: 100m", ""),
        ("descriptors", &opens, "descriptors: 50", ""),
        ("cpu", &spins, "cpu: 5", ""),
    ];
    let service = |(name, command, ask, _): &(&str, &String, &str, &str)| {
        // What is told is not asked: no answer is waited for.
        let is_told = matches!(*name, "log" | "notify" | "watchdog");
        let rhythm = if is_told { "interval: 50ms, failure_threshold: 1" } else { FAST };
        format!("  {name}: {{ command: {command}, probes: {{ readiness: {{ {ask}, {rhythm} }} }} }}\n")
    };
    let home = Home::with(&format!("services:\n{}", asked.iter().map(service).collect::<String>()));
    home.write("fresh", "");
    home.run(&["up", "-d"]).ok();
    let is = |name: &str, phase: &str| home.phase(&format!("{name}-1")) == phase;
    for (name, ..) in &asked {
        let before = if matches!(*name, "log" | "notify") { "unhealthy" } else { "healthy" };
        eventually(&format!("{name} is {before}"), || is(name, before));
    }
    home.write("go", "");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    let fresh = std::fs::File::options().write(true).open(home.project().join("fresh")).unwrap();
    fresh.set_modified(long_ago).unwrap();
    for (name, _, _, words) in &asked {
        let after = if matches!(*name, "log" | "notify") { "healthy" } else { "unhealthy" };
        eventually(&format!("{name} is {after}"), || is(name, after));
        let (_, passing, last) =
            standing(&home).into_iter().find(|(slot, ..)| *slot == format!("{name}-1")).unwrap();
        assert_eq!(passing, after == "healthy", "{name}");
        assert!(last.contains(words) && !last.is_empty(), "{name}: {last}");
    }
    assert_eq!(home.slots()["notify-1"]["says"], "warm");
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}

fn budget() {
    let home = Home::with(&format!(
        "services:\n  web:\n    command: [sh, -c, 'echo x >> starts; exec sleep 600']\n    probes:\n      \
         liveness: {{ exec: [test, '!', -e, sick], {FAST}, on_failure: {{ action: restart, max_attempts: 2, window: 1h }} }}\n"
    ));
    let starts = || lines(&home.project().join("starts")).len();
    home.run(&["up", "-d", "--wait"]).ok();
    eventually("it is seen to live", || home.slots()["web-1"]["probes"]["liveness"]["passing"] == true);
    home.write("sick", "");
    eventually("it was restarted", || starts() > 1);
    home.kill_daemon();
    // Between two copies nothing runs that a question would wake a daemon for.
    home.run(&["plan"]).ok();
    eventually("a person has to look", || home.phase("web-1") == "needs_attention");
    assert_eq!(starts(), 3, "two restarts, by two daemons");
    let why = home.run(&["why", "web"]).ok().stdout;
    assert!(why.contains("2 times within 1h") && why.contains("a person has to look"), "{why}");
    let events = home.run(&["events"]).ok().stdout;
    assert!(events.contains("liveness"), "{events}");
    let pid = home.pid("web-1");
    home.kill_daemon();
    home.run(&["ps"]).ok();
    eventually("it still does", || home.phase("web-1") == "needs_attention");
    assert_eq!((home.pid("web-1"), starts()), (pid, 3), "the next daemon counts on");
    // Each of these looks after it: the budget begins anew.
    for (again, least) in [(&["up", "-d"][..], 5), (&["restart", "web"], 8)] {
        home.run(again);
        eventually("a person has to look again", || {
            starts() >= least && home.phase("web-1") == "needs_attention"
        });
        assert_eq!(starts(), least, "{again:?}");
    }
    std::fs::remove_file(home.project().join("sick")).unwrap();
    eventually("it is as it should be", || home.phase("web-1") == "running");
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}

fn remedies() {
    let probe = |action: &str| {
        format!("probes: {{ liveness: {{ exec: [test, '!', -e, sick], {FAST}, on_failure: {action} }} }}")
    };
    let sleeps = "command: [sleep, '600']";
    let hears = "command: [sh, -c, \"trap 'echo usr1 >> heard' USR1; while :; do sleep 0.05; done\"]";
    let mend = "{ action: exec, command: [sh, -c, 'echo $$UPBEAT_SLOT >> mended; rm -f sick'] }";
    let home = Home::with(&format!(
        "name: shop\nservices:\n  stops: {{ {sleeps}, restart: always, {} }}\n  signalled: {{ {hears}, {} }}\n",
        probe("stop"),
        probe("{ action: signal, signal: SIGUSR1 }"),
    ));
    home.run(&["up", "-d", "--wait"]).ok();
    let (stopped, signalled) = (home.pid("stops-1"), home.pid("signalled-1"));
    home.write("sick", "");
    eventually("it was stopped", || home.phase("stops-1") == "failed");
    assert!(!is_alive(stopped));
    let why = home.run(&["why", "stops"]).ok().stdout;
    assert!(why.contains("its probe `liveness` failed") && why.contains("until somebody starts it"), "{why}");
    eventually("it was told", || home.read("heard").contains("usr1"));
    assert_eq!(home.pid("signalled-1"), signalled);
    std::fs::remove_file(home.project().join("sick")).unwrap();
    home.run(&["start", "stops"]).ok();
    home.write("upbeat.yaml", &format!("name: shop\nservices:\n  mended: {{ {sleeps}, {} }}\n", probe(mend)));
    home.run(&["up", "-d", "--wait"]).ok();
    let pid = home.pid("mended-1");
    home.write("sick", "");
    eventually("it was mended", || home.read("mended").contains("shop/mended/1"));
    eventually("it is well", || home.slots()["mended-1"]["probes"]["liveness"]["passing"] == true);
    assert_eq!(home.pid("mended-1"), pid);
    home.run(&["down"]).ok();
    nothing_is_left(&home);
}

fn startup() {
    let home = Home::with(
        "services:\n  web:\n    command: [sleep, '600']\n    probes:\n      \
         startup: { exec: [sh, -c, 'echo x >> startups; test -e warm'], interval: 50ms, timeout: 1m, failure_threshold: 1000 }\n      \
         readiness: { exec: [sh, -c, 'echo x >> asked'], interval: 50ms, timeout: 1m }\n",
    );
    home.run(&["up", "-d"]).ok();
    let count = |name: &str| lines(&home.project().join(name)).len();
    eventually("it was asked some times", || count("startups") > 3);
    assert_eq!((home.phase("web-1").as_str(), count("asked")), ("starting", 0));
    home.write("warm", "");
    home.run(&["wait", "web"]).ok();
    let startups = count("startups");
    eventually("only the other is asked", || count("asked") > 5);
    assert_eq!(count("startups"), startups);
}

fn threshold() {
    // Yes, yes, no, and from then on yes.
    let home = Home::with(
        "services:\n  web:\n    command: [sleep, '600']\n    probes:\n      \
         readiness: { exec: [sh, -c, 'echo x >> asks; test $$(wc -l < asks) -ne 3'], interval: 50ms, timeout: 1m, success_threshold: 3 }\n",
    );
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(home.phase("web-1"), "healthy");
    assert!(lines(&home.project().join("asks")).len() >= 6);
}

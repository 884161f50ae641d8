//! Services by the guide's words, over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

use crate::Journey;
use crate::home::{Home, eventually, lines};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "the guide's three services live over HTTP, and through a daemon that is killed",
            needs: &[],
            run: three_services,
        },
        Journey { name: "the guide's two settings are honoured", needs: &[], run: settings },
        Journey {
            name: "the guide's services say over HTTP what they print and why they fail",
            needs: &[],
            run: troubles,
        },
        Journey {
            name: "the guide's service that cannot be stopped stays registered",
            needs: &[],
            run: stays,
        },
        Journey {
            name: "the guide's service whose endpoint cannot be asked is left as it is",
            needs: &[],
            run: unaskable,
        },
        Journey {
            name: "each line of the guide's list of troubles is answered over HTTP by what to do",
            needs: &[],
            run: list_of_troubles,
        },
    ]
}

/// A home with stand-ins for `systemctl` and `nu`, and a daemon.
fn home(settings: &str) -> Home {
    let mut home = Home::new();
    let calls = home.outside("calls").display().to_string();
    let script = |name: &str, words: &str| {
        let path = home.outside("bin").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{words}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    script("systemctl", &format!("echo \"systemctl $*\" >> '{calls}'"));
    script("nu", &format!("echo \"nu $* in $PWD\" >> '{calls}'; test -e \"$1\""));
    let bin = home.outside("bin").display().to_string();
    let provisioning = home.outside("provisioning");
    std::fs::create_dir_all(provisioning.join("scripts")).unwrap();
    std::fs::write(provisioning.join("scripts/start-orchestrator.nu"), "").unwrap();
    let config = home.outside("config/upbeat");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), settings).unwrap();
    home.set("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()));
    home.set("PROVISIONING", provisioning.display().to_string());
    let config = home.outside("config").display().to_string();
    home.set("XDG_CONFIG_HOME", config);
    wake(&home);
    home
}

/// Has a daemon run.
fn wake(home: &Home) {
    home.write("upbeat.yaml", "name: other\nservices:\n  other: { command: [sleep, \"600\"] }\n");
    home.run(&["up", "-d", "--wait"]).ok();
}

/// Asks the daemon: the status, and what it answers.
pub(crate) fn ask(home: &Home, line: &str, body: &Value) -> (u16, Value) {
    ask_on(connect(home), line, body)
}

pub(crate) fn connect(home: &Home) -> UnixStream {
    UnixStream::connect(home.outside("run").join("upbeat.sock")).unwrap()
}

fn ask_on(mut stream: UnixStream, line: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

fn get(home: &Home, path: &str) -> (u16, Value) {
    ask(home, &format!("GET /api/v1/services/{path}"), &Value::Null)
}

fn post(home: &Home, path: &str, body: &Value) -> (u16, Value) {
    ask(home, &format!("POST /api/v1/services/{path}"), body)
}

fn done(data: Value) -> (u16, Value) {
    (200, json!({ "success": true, "data": data }))
}

/// An endpoint that is always well.
fn endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/health", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut asked = [0; 4096];
            if stream.read(&mut asked).is_ok() {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                drop(stream.write_all(answer));
            }
        }
    });
    url
}

fn services() -> Value {
    let url = endpoint();
    let unit = |name: &str, needs: &[&str]| {
        json!({
            "name": name,
            "description": "",
            "dependencies": needs,
            "start_command": format!("systemctl start {name}"),
            "stop_command": format!("systemctl stop {name}"),
            "health_check_endpoint": url,
        })
    };
    let mut orchestrator = unit("orchestrator", &["coredns", "oci-registry"]);
    orchestrator["start_command"] = json!("./scripts/start-orchestrator.nu --background");
    orchestrator["stop_command"] = json!("./scripts/start-orchestrator.nu --stop");
    json!([unit("coredns", &[]), unit("oci-registry", &["coredns"]), orchestrator])
}

fn statuses(all: &str) -> (u16, Value) {
    let of = |name| json!({ "name": name, "status": all });
    done(json!([of("coredns"), of("oci-registry"), of("orchestrator")]))
}

fn three_services() {
    let home = home("");
    let services = services();
    assert_eq!(get(&home, "list"), done(json!([])));
    let all = json!(["coredns", "oci-registry", "orchestrator"]);
    assert_eq!(post(&home, "register", &services), done(all.clone()));
    assert_eq!(get(&home, "list"), done(services.clone()));
    assert_eq!(get(&home, "status"), statuses("Stopped"));
    assert_eq!(post(&home, "orchestrator/start", &Value::Null), done(json!("orchestrator")));
    let provisioning = home.outside("provisioning").canonicalize().unwrap().display().to_string();
    let nu = |what: &str| format!("nu ./scripts/start-orchestrator.nu {what} in {provisioning}");
    let starts =
        ["systemctl start coredns".to_owned(), "systemctl start oci-registry".to_owned(), nu("--background")];
    let calls = || lines(&home.outside("calls"));
    assert_eq!(calls(), starts);
    assert_eq!(get(&home, "status"), statuses("Running"));
    assert_eq!(post(&home, "start", &Value::Null), done(all.clone()));
    assert_eq!(calls().len(), 3, "what runs is left alone");
    let (_, health) = get(&home, "coredns/health");
    assert_eq!(health["data"]["healthy"], json!(true), "{health}");

    home.kill_daemon();
    wake(&home);
    assert_eq!(get(&home, "list"), done(services));
    eventually("the next daemon has asked them", || get(&home, "status") == statuses("Running"));
    assert_eq!(calls().len(), 3, "nothing is started again");
    assert!(home.run(&["ps", "-p", "services"]).ok().stdout.contains("orchestrator"));

    assert_eq!(post(&home, "orchestrator/restart", &Value::Null), done(json!("orchestrator")));
    assert_eq!(calls()[3..], [nu("--stop"), nu("--background")]);
    eventually("it is asked again", || get(&home, "status") == statuses("Running"));

    assert_eq!(post(&home, "coredns/stop", &Value::Null), done(json!("coredns")));
    let stops = [nu("--stop"), "systemctl stop oci-registry".to_owned(), "systemctl stop coredns".to_owned()];
    assert_eq!(calls()[5..], stops);
    assert_eq!(get(&home, "status"), statuses("Stopped"));
    let (status, refused) = post(&home, "coredns/unregister", &Value::Null);
    assert_eq!((status, &refused["success"]), (409, &json!(false)), "{refused}");
    for name in ["orchestrator", "oci-registry", "coredns"] {
        assert_eq!(post(&home, &format!("{name}/unregister"), &Value::Null), done(json!(name)));
    }
    assert_eq!(get(&home, "list"), done(json!([])));
}

fn settings() {
    let off = home("[orchestrator.services]\nmanager_enabled = false\n");
    let (status, said) = get(&off, "list");
    assert_eq!(status, 503);
    assert!(said["error"].as_str().unwrap().contains("disabled"), "{said}");
    let alone = home("[orchestrator.services]\nauto_start_dependencies = false\n");
    post(&alone, "register", &services());
    let (status, said) = post(&alone, "orchestrator/start", &Value::Null);
    assert_eq!(status, 409);
    assert!(said["error"].as_str().unwrap().contains("`coredns`, `oci-registry`"), "{said}");
    assert_eq!(post(&alone, "coredns/start", &Value::Null), done(json!("coredns")));
}

fn troubles() {
    let home = home("");
    let service = |name: &str, start: &str| json!({ "name": name, "start_command": start });
    let services = json!([
        service("talks", "sh -c 'echo one; echo two; exec sleep 600'"),
        service("ends", "sh -c 'echo no config in /etc/ends >&2; exit 3'"),
        service("typo", "slep 600"),
    ]);
    assert_eq!(post(&home, "register", &services), done(json!(["talks", "ends", "typo"])));
    assert_eq!(post(&home, "talks/start", &Value::Null), done(json!("talks")));
    eventually("it has talked", || get(&home, "talks/logs") == done(json!(["one", "two"])));
    assert_eq!(get(&home, "talks/logs?tail=1"), done(json!(["two"])));
    for (name, words) in [("ends", "exit 3; it printed last: no config in /etc/ends"), ("typo", "slep")] {
        let (status, said) = post(&home, &format!("{name}/start"), &Value::Null);
        assert_eq!((status, &said["success"]), (409, &json!(false)), "{said}");
        let error = said["error"].as_str().unwrap();
        assert!(
            error.starts_with(&format!("service `{name}` failed to start: ")) && error.contains(words),
            "{said}"
        );
    }
    let of = |name: &str, status: &str| json!({ "name": name, "status": status });
    let known = [of("ends", "Failed"), of("talks", "Running"), of("typo", "Failed")];
    assert_eq!(get(&home, "status"), done(json!(known)));
    let (_, health) = get(&home, "ends/health");
    assert_eq!(health["data"]["healthy"], json!(false), "{health}");
}

/// Nobody could reach it any more where it was forgotten.
fn stays() {
    let home = home("");
    let lets = home.outside("lets-itself-be-stopped");
    let stuck = json!({
        "name": "stuck",
        "start_command": "true",
        "stop_command": format!("test -e '{}'", lets.display()),
        "health_check_endpoint": endpoint(),
    });
    assert_eq!(post(&home, "register", &stuck), done(json!(["stuck"])));
    assert_eq!(post(&home, "stuck/start", &Value::Null), done(json!("stuck")));
    let (status, said) = post(&home, "stuck/unregister", &Value::Null);
    assert_eq!(status, 409, "{said}");
    let error = said["error"].as_str().unwrap();
    assert!(error.starts_with("service `stuck` could not be stopped: "), "{error}");
    let (_, services) = get(&home, "list");
    assert_eq!(services["data"][0]["name"], "stuck", "{services}");
    std::fs::write(&lets, "").unwrap();
    let gone = || post(&home, "stuck/unregister", &Value::Null) == done(json!("stuck"));
    eventually("it lets itself be stopped", gone);
    assert_eq!(get(&home, "list"), done(json!([])));
}

/// Somebody who takes connections and answers none.
fn silence() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/health", listener.local_addr().unwrap());
    std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
    url
}

/// Somebody who knows no such path.
fn nothing_there() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/helth", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if stream.read(&mut [0; 4096]).is_ok() {
                let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                drop(stream.write_all(answer));
            }
        }
    });
    url
}

/// The list is that of the guide, line by line; each is asked of a daemon as its reader would.
fn list_of_troubles() {
    let home = home("");
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}/health", free.local_addr().unwrap());
    drop(free);
    std::fs::write(home.outside("bin/denied"), "#!/bin/sh\n").unwrap();
    let process = |name: &str, needs: &[&str], start: &str| json!({ "name": name, "dependencies": needs, "start_command": start });
    let unit = |name: &str, url: &str| {
        json!({
            "name": name,
            "start_command": format!("systemctl start {name}"),
            "stop_command": format!("systemctl stop {name}"),
            "health_check_endpoint": url,
        })
    };
    let denied = home.outside("bin/denied").display().to_string();
    let well = endpoint();
    let services = json!([
        process("down", &[], "sh -c 'echo disk full >&2; exit 3'"),
        process("needs", &["down"], "sleep 600"),
        process("typo", &[], "slep 600"),
        process("denied", &[], &denied),
        process("lacks", &["nobody"], "sleep 600"),
        unit("elsewhere", &well),
        unit("missed", &nothing_there()),
        unit("unnamed", "http://no-such-host.invalid/health"),
        unit("closed", &closed),
        unit("silent", &silence()),
        unit("plain", &well.replace("http://", "https://")),
        process("ended", &[], "true"),
    ]);
    assert_eq!(post(&home, "register", &services).0, 200);
    let refused = |(status, said): (u16, Value), expected: u16, words: &[&str]| {
        let error = said["error"].as_str().unwrap_or_default();
        assert_eq!((status, &said["success"]), (expected, &json!(false)), "{said}");
        assert!(words.iter().all(|words| error.contains(words)), "{words:?} in {error}");
    };
    // "Service fails to start": is it registered, do its dependencies run, its command, its log, permissions.
    let start = |name: &str| post(&home, &format!("{name}/start"), &Value::Null);
    refused(start("neds"), 404, &["service `neds` is not registered", "`needs`"]);
    refused(start("needs"), 409, &["it needs `down`, which failed", "exit 3", "disk full"]);
    refused(start("typo"), 409, &["failed to start", "slep"]);
    refused(start("down"), 409, &["exit 3; it printed last: disk full"]);
    assert_eq!(get(&home, "down/logs?tail=1"), done(json!(["disk full"])));
    assert_eq!(start("elsewhere"), done(json!("elsewhere")));
    let logs = ["service `elsewhere` runs elsewhere", "`systemctl start elsewhere`", "journalctl -u"];
    refused(get(&home, "elsewhere/logs"), 409, &logs);
    refused(start("denied"), 409, &["failed to start", "denied", "ermission denied"]);
    // "Dependency resolution fails": circles, what is not registered, how dependencies are declared.
    let circle = json!([process("a", &["b"], "sleep 600"), process("b", &["a"], "sleep 600")]);
    refused(post(&home, "register", &circle), 400, &["Circular dependency detected: ", "a -> b"]);
    let own = process("own", &["own"], "sleep 600");
    refused(post(&home, "register", &own), 400, &["Circular dependency detected: own -> own"]);
    refused(start("lacks"), 400, &["Missing dependencies of `lacks`: `nobody`", "register"]);
    refused(get(&home, "order?services=lacks"), 400, &["Missing dependencies of `lacks`: `nobody`"]);
    let bad = json!({ "name": "bad", "dependencies": "down", "start_command": "sleep 600" });
    refused(post(&home, "register", &bad), 400, &["`dependencies`: invalid type: string, expected"]);
    // "Health check fails": its endpoint, whether it runs, the way to it, the time.
    let unwell = |name: &str, words: &[&str]| {
        let (status, health) = get(&home, &format!("{name}/health"));
        assert_eq!((status, &health["data"]["healthy"]), (200, &json!(false)), "{health}");
        let message = health["data"]["message"].as_str().unwrap();
        assert!(words.iter().all(|words| message.contains(words)), "{words:?} in {message}");
    };
    unwell("missed", &["/helth: HTTP 404"]);
    unwell("plain", &["https://", "TLS"]);
    unwell("ended", &["no process runs"]);
    unwell("closed", &[&closed, "connection refused"]);
    unwell("unnamed", &["no-such-host.invalid"]);
    unwell("silent", &["timed out after 5s"]);
}

/// One whose command has ended, and which answers, if only there is a file left to ask it by.
fn unaskable() {
    let home = home("");
    let dns =
        json!({ "name": "dns", "start_command": "systemctl start dns", "health_check_endpoint": endpoint() });
    assert_eq!(post(&home, "register", &dns), done(json!(["dns"])));
    assert_eq!(post(&home, "dns/start", &Value::Null), done(json!("dns")));
    let running = done(json!([{ "name": "dns", "status": "Running" }]));
    let daemon = rustix::process::Pid::from_raw(home.daemon().unwrap()).unwrap();
    let mut stream = connect(&home);
    // So this connection has its file.
    assert_eq!(ask_again(&mut stream, "GET /api/v1/services/status"), running);
    // The daemon's limit is this process' own, raised as far as it goes.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = |current| prlimit(Some(daemon), Resource::Nofile, Rlimit { current, maximum }).unwrap();
    let mut ask_without_files = |line: &str| {
        let before = limit(Some(0)).current;
        let answer = ask_again(&mut stream, line);
        limit(before);
        answer
    };
    let unknown = done(json!([{ "name": "dns", "status": "Unknown" }]));
    assert_eq!(ask_without_files("GET /api/v1/services/status"), unknown);
    for verb in ["start", "restart", "stop", "unregister"] {
        let (status, said) = ask_without_files(&format!("POST /api/v1/services/dns/{verb}"));
        let error = said["error"].as_str().unwrap();
        assert_eq!((status, &said["success"]), (503, &json!(false)), "{said}");
        assert!(error.starts_with("it is not known whether service `dns` runs elsewhere: "), "{error}");
        assert!(error.contains("the daemon has no open files left"), "{error}");
    }
    assert_eq!(ask_again(&mut stream, "GET /api/v1/services/status"), running);
    assert_eq!(lines(&home.outside("calls")), ["systemctl start dns"]);
}

/// Asks on a connection that stays open.
fn ask_again(stream: &mut UnixStream, line: &str) -> (u16, Value) {
    write!(stream, "{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = BufReader::new(stream);
    let mut head = |wanted: &str| {
        let mut line = String::new();
        answer.read_line(&mut line).unwrap();
        line.to_ascii_lowercase().strip_prefix(wanted).map(|rest| rest.trim().to_owned()).ok_or(line)
    };
    let status = head("http/1.1 ").unwrap().split(' ').next().unwrap().parse().unwrap();
    let mut length = 0;
    loop {
        match head("content-length:") {
            Ok(given) => length = given.parse().unwrap(),
            Err(line) if line.trim().is_empty() => break,
            Err(_) => {}
        }
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body).unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

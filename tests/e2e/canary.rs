//! A canary stands wherever a project may hold a secret, and is looked for wherever anybody can look.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use upbeat_api::Endpoint;

use crate::Journey;
use crate::access::{Served, afar, new_token};
use crate::home::{Home, PATIENCE, Ran, eventually};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "no secret of a project is in any answer, page, event, log or error",
            needs: &[],
            run: nowhere,
        },
        Journey {
            name: "no secret is in the daemon's log, whatever its format, nor the key of its certificate",
            needs: &[],
            run: in_no_log,
        },
    ]
}

/// What must be found nowhere. Each is told from the others, so that whoever finds one knows the leak.
const CANARIES: [&str; 13] = [
    "canary-of-the-environment-4kQ9",
    "canary-of-an-env-file-7Tz2",
    "canary-of-a-plain-variable-3Lp8",
    "canary-of-an-address-8Vn1",
    "canary-of-a-secret-5Rw6",
    "canary-of-a-header-2Jd4",
    "canary-of-a-query-9Xb3",
    "canary-of-a-pre-start-6Fy7",
    "canary-of-a-pre-stop-1Hc5",
    "canary-of-a-post-start-8Pm6",
    "canary-of-a-post-stop-4Zt1",
    "canary-of-a-datagram-7Mw4",
    PRINTED,
];

/// What a command is given, or an answer is to match, is shown with the project, and nowhere else.
const GIVEN: [&str; 9] = [
    "canary-to-a-probe-2Wd8",
    "canary-to-a-remedy-5Bv3",
    "canary-to-a-pre-start-9Ek2",
    "canary-to-a-post-start-1Qn7",
    "canary-to-a-pre-stop-6Gf4",
    "canary-to-a-post-stop-3Yx9",
    "canary-to-a-reload-8Cj5",
    "canary-in-a-body-4Ul6",
    "canary-in-an-answer-7Ha1",
];

/// The service prints it: so it is in its log, and where lines of that are shown; nowhere else.
const PRINTED: &str = "canary-that-is-printed-0Gs8";

/// Whoever is told something wrong says it in the wrong place.
const WRONG: &str = "canary-in-the-wrong-place-5Ku2";

fn shop(port: u16) -> Home {
    let udp = echo();
    let home = Home::with(&format!(
        r#"
name: shop
secrets: {{ key: {{ file: ./key.txt }} }}
services:
  web:
    command: [sh, -c, 'echo "ready $$PRINTED_TOKEN"; exec sleep 600']
    env_file: web.env
    environment:
      DB_PASSWORD: canary-of-the-environment-4kQ9
      GREETING: canary-of-a-plain-variable-3Lp8
      DATABASE_URL: postgres://me:canary-of-an-address-8Vn1@db/shop
      PRINTED_TOKEN: {PRINTED}
    secrets: [key]
    reload: {{ command: [sh, -c, 'echo "no use for $$DB_PASSWORD"; exit 1', canary-to-a-reload-8Cj5] }}
    pre_stop:
      - command: [sh, -c, 'echo "gone with $$HOOK_SECRET, $$DB_PASSWORD and $$PRINTED_TOKEN"; exit 3', canary-to-a-pre-stop-6Gf4]
        environment: {{ HOOK_SECRET: canary-of-a-pre-stop-1Hc5 }}
    post_stop:
      - command: [sh, -c, 'echo "left with $$HOOK_SECRET, $$DB_PASSWORD and $$PRINTED_TOKEN"; exit 3', canary-to-a-post-stop-3Yx9]
        environment: {{ HOOK_SECRET: canary-of-a-post-stop-4Zt1 }}
    probes:
      readiness: {{ log: 'ready .*' }}
      asked:
        http:
          url: http://127.0.0.1:{port}/?token=canary-of-a-query-9Xb3
          headers: {{ Authorization: Bearer canary-of-a-header-2Jd4, Accept: text/plain }}
        interval: 100ms
        failure_threshold: 1
      matched:
        http: {{ url: 'http://127.0.0.1:{port}/', status: 500, body: canary-in-a-body-4Ul6 }}
        interval: 100ms
        failure_threshold: 1
      spoken:
        udp: {{ address: '127.0.0.1:{udp}', send: canary-of-a-datagram-7Mw4, expect: canary-in-an-answer-7Ha1 }}
        interval: 100ms
        failure_threshold: 1
        on_failure:
          action: exec
          command: [sh, -c, 'echo "no remedy for $$DB_PASSWORD"; exit 1', canary-to-a-remedy-5Bv3]
          max_attempts: 1
          window: 1h
      told:
        exec:
          - sh
          - -c
          - 'echo "it has $$DB_PASSWORD, $$API_KEY, $$DATABASE_URL, $$(cat $$CREDENTIALS_DIRECTORY/key)"; exit 1'
          - canary-to-a-probe-2Wd8
        interval: 100ms
        failure_threshold: 1
  fails:
    command: [sleep, '600']
    pre_start:
      - command: [sh, -c, 'echo "cannot begin with $$HOOK_SECRET"; exit 3', canary-to-a-pre-start-9Ek2]
        environment: {{ HOOK_SECRET: canary-of-a-pre-start-6Fy7 }}
  late:
    command: [sleep, '600']
    post_start:
      - command: [sh, -c, 'echo "cannot go on with $$HOOK_SECRET"; exit 3', canary-to-a-post-start-1Qn7]
        environment: {{ HOOK_SECRET: canary-of-a-post-start-8Pm6 }}
"#
    ));
    home.write("key.txt", "canary-of-a-secret-5Rw6\n");
    home.write("web.env", "API_KEY=canary-of-an-env-file-7Tz2\n");
    home
}

/// Whoever is asked there says no, and repeats all that he was sent.
fn parrot() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = [0; 4096];
            let length = stream.read(&mut asked).unwrap_or(0);
            let said = String::from_utf8_lossy(&asked[..length]).replace("\r\n", " ");
            let head = format!("HTTP/1.1 500 {said}\r\nContent-Length: {}\r\n\r\n", said.len());
            // Who does not listen any more has heard enough.
            let _ = stream.write_all(format!("{head}{said}").as_bytes());
        }
    });
    port
}

/// The same with datagrams.
fn echo() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut asked = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut asked) {
            let _ = socket.send_to(&asked[..length], from);
        }
    });
    port
}

#[track_caller]
fn shows_none(what: &str, shown: &[u8], but: &[&str]) {
    let all = CANARIES.iter().chain(&GIVEN).chain([&WRONG]).filter(|canary| !but.contains(canary));
    for canary in all {
        if let Some(at) = shown.windows(canary.len()).position(|part| part == canary.as_bytes()) {
            let around = &shown[at.saturating_sub(200)..(at + 100).min(shown.len())];
            panic!("{what} shows {canary}: …{}…", String::from_utf8_lossy(around));
        }
    }
}

/// Where something has failed, the last lines that a service printed are shown; and a project with its
/// commands.
#[track_caller]
fn said_none(what: &str, ran: &Ran) {
    let is_one = |verbs: &[&str]| verbs.iter().any(|verb| what.starts_with(verb));
    let but: &[&str] = match what {
        _ if is_one(&["why", "`up`", "`reload`", "`restart`"]) => &[PRINTED],
        _ if is_one(&["ps -a -o json"]) => &GIVEN,
        _ => &[],
    };
    shows_none(what, ran.stdout.as_bytes(), but);
    shows_none(what, ran.stderr.as_bytes(), but);
}

/// Everything has failed that can, and was told.
fn begun(home: &Home) {
    said_none("`up`", &home.run(&["up", "-d", "--wait"]).code(1));
    eventually("its probes have failed, and say so", || {
        let why = home.run(&["why", "web"]).ok().stdout;
        // The address of the database is one in all: what is in it is not told, what is around it is.
        why.contains("it has ***, ***, postgres://me:***@db/shop, ***") && why.contains("token=***")
    });
    assert!(home.run(&["why", "fails"]).stdout.contains("cannot begin with ***"));
    eventually("a remedy has failed, and says so", || {
        home.run(&["why", "web"]).ok().stdout.contains("no remedy for ***")
    });
    eventually("a copy was not begun to the end, and says so", || {
        home.run(&["why", "late"]).stdout.contains("cannot go on with ***")
    });
    let ran = home.run(&["reload", "web"]).code(1);
    assert!(format!("{ran:?}").contains("no use for ***"), "{ran:?}");
    said_none("`reload`", &ran);
    said_none("`restart`", &home.run(&["restart", "web"]));
}

fn nowhere() {
    let mut home = shop(parrot());
    home.set("UPBEAT_LOG", "trace");
    let served = Served::start(&home, &["--listen", "127.0.0.1:0"]);
    begun(&home);
    let tokens: BTreeMap<&str, String> = ["viewer", "operator", "admin"]
        .map(|role| (role, new_token(&home, role, &["--role", role])))
        .into_iter()
        .collect();
    commands(&home, &served, &tokens);
    pages(&served, &tokens);
    errors(&home, &served, &tokens);
    replaced(&home);
    let ps = home.shell("ps -eo args").output().unwrap();
    shows_none("the system's `ps`", &ps.stdout, &GIVEN);
    let log = served.log().to_owned();
    drop(served);
    shows_none("the daemon's log", &fs::read(&log).unwrap(), &[]);
    kept(&home, &log, &tokens);
}

/// A copy that is replaced says what it was given, when the file is another one by then.
fn replaced(home: &Home) {
    let given = home.read("upbeat.yaml");
    let other = CANARIES.iter().fold(given.clone(), |text, canary| text.replace(canary, "something-else"));
    home.write("upbeat.yaml", &other);
    home.run(&["up", "-d"]);
    let attempt = home.slots()["web-1"]["attempt"].as_u64();
    home.write("upbeat.yaml", &given);
    home.run(&["up", "-d"]);
    eventually("it was replaced again", || home.slots()["web-1"]["attempt"].as_u64() > attempt);
    for asked in [&["ps", "-a", "-o", "json"][..], &["events", "-o", "json"]] {
        said_none(&asked.join(" "), &home.run(asked).ok());
    }
}

/// What the commands say, here and from elsewhere.
fn commands(home: &Home, served: &Served, tokens: &BTreeMap<&str, String>) {
    let host = format!("http://{}", served.address());
    for asked in [
        &["ps", "-a"][..],
        &["ps", "-a", "-o", "wide"],
        &["ps", "-a", "-o", "json"],
        &["apps", "-o", "json"],
        &["why", "web"],
        &["why", "web", "-o", "json"],
        &["why", "fails", "-o", "json"],
        &["events"],
        &["events", "--json"],
        &["plan"],
        &["plan", "-o", "json"],
        &["graph"],
        &["stats", "--no-stream", "-o", "json"],
        &["analyze", "critical-chain"],
        &["analyze", "blame", "-o", "json"],
        &["audit", "ls"],
        &["audit", "ls", "-o", "json"],
        &["audit", "verify"],
        &["token", "ls", "-o", "json"],
        &["version", "-o", "json"],
        &["logs", "fails"],
        &["serve", "--print-settings"],
    ] {
        let what = asked.join(" ");
        let here = home.run(asked);
        assert!([0, 1].contains(&here.code), "{what}: {here:?}");
        assert!(!here.stdout.is_empty() || asked[0] == "logs", "{what}: {here:?}");
        said_none(&what, &here);
        for (role, token) in tokens.iter().filter(|_| asked[0] != "serve") {
            said_none(&format!("{what} of a {role}"), &afar(home, &host, token, asked));
        }
    }
    let logs = home.run(&["logs", "web"]).ok().stdout;
    assert!(logs.contains(PRINTED), "it is the service's own business what it prints: {logs}");
    shows_none("logs", logs.as_bytes(), &[PRINTED]);
}

/// What a request is answered; of a stream the first that it tells.
fn ask(served: &Served, token: &str, line: &str, body: Option<&str>) -> String {
    let mut stream = TcpStream::connect(served.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (length, body) = (body.map_or(0, str::len), body.unwrap_or_default());
    let head = format!(
        "{line} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}",
        served.address()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 65536]);
    let is_stream = line.ends_with("/watch");
    loop {
        let length = stream.read(&mut part).unwrap();
        answer.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&answer);
        let is_told = is_stream && text.split_once("\r\n\r\n").is_some_and(|(_, told)| told.contains("\n\n"));
        if length == 0 || is_told {
            return text.into_owned();
        }
    }
}

/// Everything that can be looked at over the API, by everybody who may look at something.
fn pages(served: &Served, tokens: &BTreeMap<&str, String>) {
    let own = Endpoint::ALL.iter().filter(|endpoint| endpoint.method().as_str() == "GET");
    let own = own.map(|endpoint| {
        let path = endpoint.path().replace("{app}", "shop").replace("{service}", "web");
        path.replace("{id}", "1").replace("{name}", "viewer")
    });
    let services = ["list", "status", "health", "order?services=web", "web/health", "web/logs"];
    let others = services.map(|what| format!("/api/v1/services/{what}"));
    for path in own.chain(others).chain(["/nothing".to_owned()]) {
        // Why something is so is told with the last lines that the culprit printed.
        let is_log = ["/logs", "/why"].iter().any(|end| path.ends_with(end));
        let is_project = ["/apps/shop", "/watch"].iter().any(|end| path.ends_with(end));
        let but: &[&str] = match path.as_str() {
            _ if is_log => &[PRINTED],
            _ if is_project && path.starts_with("/api/v1/apps/") => &GIVEN,
            _ => &[],
        };
        for (role, token) in tokens {
            let answer = ask(served, token, &format!("GET {path}"), None);
            assert!(answer.starts_with("HTTP/1.1 "), "{path}: {answer}");
            let is_of_app = path.starts_with("/api/v1/apps") || path.starts_with("/api/v1/events");
            assert!(!is_of_app || answer.starts_with("HTTP/1.1 200 "), "{path} of a {role}: {answer}");
            shows_none(&format!("{path} of a {role}"), answer.as_bytes(), but);
        }
    }
    let app = ask(served, &tokens["viewer"], "GET /api/v1/apps/shop", None);
    for shown in [r#""DB_PASSWORD":"***""#, r#""Authorization":"***""#, r#""Accept":"text/plain""#] {
        assert!(app.contains(shown), "{shown} in {app}");
    }
}

/// What is refused is not repeated, to nobody and nowhere.
fn errors(home: &Home, served: &Served, tokens: &BTreeMap<&str, String>) {
    let put = "PUT /api/v1/apps/shop";
    let project = |service: &str| {
        format!(
            r#"{{"project":{{"name":"shop","services":{{"web":{{"command":["x"],"working_dir":"/",{service}}}}}}}}}"#
        )
    };
    let asks = |ask: &str| project(&format!(r#""probes":{{"readiness":{{"ask":{ask}}}}}"#));
    let http = |http: &str| asks(&format!(r#"{{"http":{http}}}"#));
    let hook = |hook: &str| project(&format!(r#""post_stop":[{hook}]"#));
    for body in [
        format!("\"{WRONG}\""),
        format!("{{\"project\": {WRONG}"),
        project(&format!(r#""environment":"{WRONG}""#)),
        project(&format!(r#""environment":["{WRONG}"]"#)),
        project(&format!(r#""environment":{{"A":"***","B":"{WRONG}"}}"#)),
        project(&format!(r#""environment":{{"A":"\u0000{WRONG}"}}"#)),
        project(&format!(r#""files":[{{"name":"key","content":"{WRONG}!"}}]"#)),
        http(&format!(r#"{{"url":"http://me:{WRONG}@h/"}}"#)),
        http(&format!(r#"{{"url":"http://h/","headers":{{"Authorization":"{WRONG}\u0001"}}}}"#)),
        http(&format!(r#"{{"url":"http://h/?token={WRONG}#x"}}"#)),
        asks(&format!(r#"{{"udp":{{"address":"h:1","send":"{}"}}}}"#, WRONG.repeat(50))),
        asks(&format!(r#"{{"exec":["sh","-c","\u0000{WRONG}"]}}"#)),
        hook(&format!(r#"{{"command":["sh","\u0000{WRONG}"]}}"#)),
        hook(&format!(r#"{{"command":["sh"],"environment":{{"A":"\u0000{WRONG}"}}}}"#)),
    ] {
        for (role, token) in tokens {
            let answer = ask(served, token, put, Some(&body));
            let status = if *role == "viewer" { "HTTP/1.1 403 " } else { "HTTP/1.1 4" };
            assert!(answer.starts_with(status), "{body} of a {role}: {answer}");
            shows_none(&format!("the answer to a {role}"), answer.as_bytes(), &[]);
        }
    }
    for token in [WRONG.to_owned(), format!("upb_{WRONG}")] {
        let answer = ask(served, &token, "GET /api/v1/apps", None);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        shows_none("the answer to nobody", answer.as_bytes(), &[]);
    }
    said_none("audit", &home.run(&["audit", "ls", "-o", "json"]).ok());
    said_none("events", &home.run(&["events", "-o", "json"]).ok());
}

/// Every file below a directory, and the directories.
fn all(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(all(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// What is kept can be read by nobody else, and holds no more than it must.
fn kept(home: &Home, log: &Path, tokens: &BTreeMap<&str, String>) {
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode();
    for path in all(&home.state()) {
        let is_link = mode(&path) & 0o170_000 == 0o120_000;
        assert!(is_link || mode(&path) & 0o077 == 0, "{}: {:o}", path.display(), mode(&path));
    }
    assert_eq!(mode(&home.state()) & 0o777, 0o700);
    for store in ["control.redb", "node.redb"] {
        assert_eq!(mode(&home.state().join(store)) & 0o777, 0o600, "{store}");
    }
    let files = all(&home.state()).into_iter().chain([log.to_owned()]).filter(|path| path.is_file());
    for path in files {
        let (bytes, name) = (fs::read(&path).unwrap(), path.display().to_string());
        let is_log = path.starts_with(home.state().join("slots"));
        if !["control.redb", "node.redb"].iter().any(|store| name.ends_with(store)) {
            shows_none(&name, &bytes, if is_log { &[PRINTED] } else { &[] });
        }
        for token in tokens.values().map(|token| &token.as_bytes()[4..]) {
            assert!(!bytes.windows(token.len()).any(|part| part == token), "a token is in {name}");
        }
    }
}

/// What a daemon with each format says, until it has told of the hooks that failed.
fn in_no_log() {
    let mut home = shop(parrot());
    home.set("UPBEAT_LOG", "debug");
    home.run(&["up", "-d"]).code(1);
    home.kill_daemon();
    let (cert, key) = (home.outside("cert.pem"), home.outside("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = made.signing_key.serialize_pem();
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, &pem).unwrap();
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = format!("udp://{}", socket.local_addr().unwrap());
    let journal = home.outside("journal.sock");
    let journal = (UnixDatagram::bind(&journal).unwrap(), journal.display().to_string());
    journal.0.set_read_timeout(Some(PATIENCE)).unwrap();
    for format in ["text", "json", "logstash", "syslog", "journald"] {
        let target = if format == "journald" { &journal.1 } else { &target };
        let afar = !["text", "json"].contains(&format);
        let mut arguments = vec!["--log-format", format, "--listen", "127.0.0.1:0", "--tls-cert", &cert];
        arguments.extend(["--tls-key", &key]);
        if afar {
            arguments.extend(["--log-target", target]);
        }
        let served = Served::start(&home, &arguments);
        home.run(&["restart", "web"]);
        let is_told = |text: &str| {
            ["gone with ***, *** and ***", "left with ***, *** and ***"]
                .iter()
                .all(|told| text.contains(told))
        };
        let mut told = String::new();
        eventually(&format!("it is told in {format}"), || {
            match afar {
                true => {
                    let mut datagram = vec![0; 1 << 16];
                    let length = match format {
                        "journald" => journal.0.recv(&mut datagram).unwrap(),
                        _ => socket.recv(&mut datagram).unwrap(),
                    };
                    told.push_str(&String::from_utf8_lossy(&datagram[..length]));
                    told.push('\n');
                }
                false => told = fs::read_to_string(served.log()).unwrap(),
            }
            is_told(&told)
        });
        let settings = home.run(&[&["serve", "--print-settings"], &arguments[..]].concat());
        shows_none(format, told.as_bytes(), &[]);
        let errors = fs::read_to_string(served.log()).unwrap();
        shows_none(format, errors.as_bytes(), &[]);
        for line in pem.lines().filter(|line| !line.starts_with("-----")) {
            let said = [&told, &errors, &settings.stdout, &settings.stderr];
            assert!(!said.iter().any(|text| text.contains(line)), "the key of the certificate in {format}");
        }
        drop(served);
    }
    for path in all(&home.state()).into_iter().filter(|path| path.is_file()) {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let mut lines = pem.lines().filter(|line| !line.starts_with("-----"));
        assert!(!lines.any(|line| text.contains(line)), "the key of the certificate in {}", path.display());
    }
}

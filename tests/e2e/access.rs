//! Who may speak to the daemon, from here and from elsewhere, and the record of what they did.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::home::{Home, Ran, eventually, kill};
use crate::readme::{ROOT, blocks};
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "a token opens the daemon until it ends, and is found nowhere",
            needs: &[],
            run: token,
        },
        Journey {
            name: "beyond loopback all is secret, or the daemon does not start",
            needs: &[],
            run: secret,
        },
        Journey {
            name: "what was done is on record, also of a daemon that was killed",
            needs: &[],
            run: record,
        },
        Journey { name: "no change to the record goes unseen", needs: &[], run: tampered },
        Journey {
            name: "a full disk stops changes but not `stop`, and the gap is told",
            needs: &[Need::Root],
            run: full,
        },
        Journey {
            name: "members of a group are operators, and others are nobody",
            needs: &[Need::Root],
            run: group,
        },
        Journey {
            name: "settings say where they come from, and wrong ones start nothing",
            needs: &[],
            run: settings,
        },
        Journey { name: "the page about access, typed", needs: &[], run: page },
    ]
}

const WEB: &str = "name: shop\nservices:\n  web: { command: [sleep, \"600\"] }\n";

/// A daemon that was started by hand. It is ended with this.
struct Served {
    child: Child,
    log: std::path::PathBuf,
}

impl Served {
    /// With these arguments of `serve`.
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let log = home.outside("serve.log");
        let file = fs::File::create(&log).unwrap();
        let mut command = home.command(&[&["serve", "--color", "never"], arguments].concat());
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let served = Self { child, log };
        eventually("the daemon answers", || home.run(&["version", "-o", "json"]).stdout.contains("\"pid\""));
        served
    }

    /// The address it got.
    fn address(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap();
        let said = log.split("served over TCP address=").nth(1).unwrap_or_else(|| panic!("{log}"));
        said.split_whitespace().next().unwrap().to_owned()
    }

    fn port(&self) -> String {
        self.address().rsplit(':').next().unwrap().to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        kill(self.child.id() as i32, 9);
        let _ = self.child.wait();
    }
}

/// A command that asks from afar.
fn afar(home: &Home, host: &str, token: &str, arguments: &[&str]) -> Ran {
    let output =
        home.command(&[&["--host", host], arguments].concat()).env("UPBEAT_TOKEN", token).output().unwrap();
    Ran {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

fn new_token(home: &Home, name: &str, more: &[&str]) -> String {
    let ran = home.run(&[&["token", "create", name], more].concat()).ok();
    let token = ran.stdout.trim_end().to_owned();
    assert!(token.starts_with("upb_") && token.len() == 68 && !ran.stderr.contains(&token), "{ran:?}");
    token
}

fn token() {
    let home = Home::with(WEB);
    let served = Served::start(&home, &["--listen", "127.0.0.1:0"]);
    let host = format!("http://{}", served.address());
    let [viewer, operator, admin] =
        ["viewer", "operator", "admin"].map(|role| new_token(&home, role, &["--role", role]));
    for nobody in ["", "upb_", &"0".repeat(68), &format!("upb_{}", "0".repeat(64))] {
        let ran = afar(&home, &host, nobody, &["ps"]).code(1);
        assert!(ran.stderr.contains("token"), "{ran:?}");
    }
    afar(&home, &host, &operator, &["up", "-d", "--wait"]).ok();
    assert!(afar(&home, &host, &viewer, &["ps"]).ok().stdout.contains("running"));
    let refused = afar(&home, &host, &viewer, &["stop"]).code(1);
    assert!(refused.stderr.contains("viewer") && refused.stderr.contains("operator"), "{refused:?}");
    assert_eq!(home.phase("web-1"), "running");
    afar(&home, &host, &operator, &["token", "ls"]).code(1);
    afar(&home, &host, &operator, &["audit", "ls"]).code(1);
    assert!(afar(&home, &host, &admin, &["token", "ls"]).ok().stdout.contains("viewer"));
    home.run(&["token", "create", "admin", "--role", "viewer"]).code(4);
    // It runs out, and lets nobody in from then on.
    let short = new_token(&home, "short", &["--role", "viewer", "--expires", "1s"]);
    eventually("the token has expired", || {
        afar(&home, &host, &short, &["ps"]).stderr.contains("oken `short` has expired")
    });
    assert!(home.run(&["token", "ls"]).ok().stdout.contains("expired"));
    home.run(&["token", "revoke", "operator"]).ok();
    let refused = afar(&home, &host, &operator, &["down"]).code(1);
    assert!(refused.stderr.contains("not known"), "{refused:?}");
    home.run(&["token", "revoke", "operator"]).code(3);
    // The next daemon knows them, too.
    drop(served);
    let served = Served::start(&home, &["--listen", "127.0.0.1:0"]);
    let host = format!("http://{}", served.address());
    afar(&home, &host, &operator, &["down"]).code(1);
    assert_eq!(home.phase("web-1"), "running");
    let records = home.run(&["audit", "ls", "-o", "json"]).ok().stdout;
    afar(&home, &host, &admin, &["down"]).ok();
    let everything = [home.state(), served.log.clone()];
    for token in [&viewer, &operator, &admin, &short] {
        assert!(!records.contains(token.as_str()));
        everything.iter().for_each(|path| is_nowhere(token, path));
    }
}

/// No file below holds it, whole or without its beginning.
fn is_nowhere(token: &str, path: &Path) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            is_nowhere(token, &entry.path());
        }
    } else if path.is_file() {
        let bytes = fs::read(path).unwrap_or_default();
        let secret = &token.as_bytes()[4..];
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", path.display());
    }
}

fn secret() {
    let home = Home::with(WEB);
    let refused = home.run(&["serve", "--listen", "0.0.0.0:0"]).code(2);
    assert!(refused.stderr.contains("`api.tls_cert`") && refused.stderr.contains("--listen"), "{refused:?}");
    let (cert, key) = (home.outside("cert.pem"), home.outside("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let refused = home.run(&["serve", "--listen", "0.0.0.0:0", "--tls-cert", &cert]).code(2);
    assert!(refused.stderr.contains("`api.tls_key`"), "{refused:?}");
    let refused =
        home.run(&["serve", "--listen", "0.0.0.0:0", "--tls-cert", &key, "--tls-key", &cert]).code(1);
    assert!(refused.stderr.contains("key.pem"), "{refused:?}");
    assert_eq!(home.daemon(), None);
    let served = Served::start(&home, &["--listen", "0.0.0.0:0", "--tls-cert", &cert, "--tls-key", &key]);
    let token = new_token(&home, "far", &["--role", "operator"]);
    for name in ["localhost", "127.0.0.1"] {
        let host = format!("https://{name}:{}", served.port());
        afar(&home, &host, &token, &["--ca", &cert, "up", "-d", "--wait"]).ok();
        // Nobody vouches for it: the machine does not know this certificate.
        let refused = afar(&home, &host, &token, &["ps"]).code(1);
        assert!(refused.stderr.contains("--ca"), "{refused:?}");
    }
    // Follows to the end over TLS, too.
    let host = format!("https://localhost:{}", served.port());
    afar(&home, &host, &token, &["--ca", &cert, "logs"]).ok();
    let plain = format!("http://127.0.0.1:{}", served.port());
    afar(&home, &plain, &token, &["ps"]).code(1);
    let refused = afar(&home, "http://192.0.2.1:7000", &token, &["ps"]).code(2);
    assert!(refused.stderr.contains("in the clear"), "{refused:?}");
    let refused = home.command(&["serve"]).env("UPBEAT_HOST", &host).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    home.run(&["down"]).ok();
}

/// All records, as JSON has them.
fn records(home: &Home) -> Vec<Value> {
    let ran = home.run(&["audit", "ls", "-o", "json"]).ok();
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn record() {
    let mut home = Home::with(WEB);
    home.run(&["up", "-d", "--wait"]).ok();
    home.run(&["stop", "web"]).ok();
    home.run(&["stop", "nothing"]).code(3);
    let told: Vec<String> = records(&home)
        .iter()
        .map(|record| match record["entry"].as_str().unwrap() {
            "asked" => format!("{} {} {}", record["method"], record["app"], record["what"]).replace('"', ""),
            _ => format!("{} of {}, operation {}", record["status"], record["asked"], record["operation"]),
        })
        .collect();
    assert_eq!(told, ["PUT shop up", "200 of 1, operation 1", "POST shop stop web", "200 of 3, operation 2"]);
    let who = format!("uid {}", rustix::process::geteuid().as_raw());
    assert!(records(&home).iter().filter(|r| r["entry"] == "asked").all(|r| r["who"] == who));
    assert!(home.run(&["audit", "ls", "--since", "2000-01-01T00:00:00Z"]).ok().stdout.lines().count() == 4);
    assert_eq!(home.run(&["audit", "ls", "--since", "2999-01-01T00:00:00Z"]).ok().stdout, "");
    // A daemon that dies after a change was kept and before its outcome was recorded.
    home.kill_daemon();
    home.set("UPBEAT_FAILPOINT", format!("command_kept:{}", home.outside("marker").display()));
    home.run(&["start", "web"]).ok();
    home.unset("UPBEAT_FAILPOINT");
    let verdict = home.run(&["audit", "verify"]).ok().stdout;
    assert!(verdict.contains("no outcome is recorded of 5:"), "{verdict}");
    // What was asked again is on record again, and that one has its outcome.
    let asked = records(&home);
    let starts: Vec<_> = asked.iter().filter(|r| r["what"] == "start web").collect();
    assert_eq!(starts.len(), 2, "{asked:?}");
    home.run(&["down"]).ok();
}

fn tampered() {
    let home = Home::with(WEB);
    home.run(&["audit", "verify"]).code(3);
    for command in [&["up", "-d", "--wait"][..], &["restart"], &["stop"], &["down"]] {
        home.run(command).ok();
    }
    let verify = || home.run(&["audit", "verify"]);
    let head = |ran: &Ran| ran.stdout.lines().find_map(|l| l.strip_prefix("head: ")).unwrap().to_owned();
    let noted = head(&verify().ok());
    home.run(&["audit", "verify", "--anchor", &noted]).ok();
    home.run(&["audit", "verify", "--anchor", &format!("9{noted}")]).code(1);
    home.kill_daemon();
    assert_eq!(head(&verify().ok()), noted, "without a daemon it is the same");
    let file = fs::read_dir(home.state().join("audit")).unwrap().next().unwrap().unwrap().path();
    let good = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    assert_eq!(lines.len(), 8);
    let without = |gone: usize| {
        let left = lines.iter().enumerate().filter(|(n, _)| *n != gone);
        left.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    let swapped = format!("{}{}\n{}\n{}", without_from(&lines, 2), lines[3], lines[2], rest(&lines, 4));
    for (text, first) in [
        (good.replacen("restart", "restarT", 1), 3),
        (without(4), 5),
        (without(0), 1),
        (without(7), 8),
        (swapped, 3),
        (good[..good.len() - 10].to_owned(), 8),
        (without_from(&lines, 4), 5),
        (String::new(), 1),
    ] {
        fs::write(&file, &text).unwrap();
        let ran = verify().code(1);
        assert!(ran.stdout.contains(&format!("not whole: record {first} at")), "{first}: {}", ran.stdout);
        let dir = home.state().join("audit").display().to_string();
        home.run(&["audit", "verify", "--dir", &dir, "--anchor", &noted]).code(1);
    }
    // The next daemon goes on, and mends nothing.
    fs::write(&file, without_from(&lines, 4)).unwrap();
    home.run(&["up", "-d", "--wait"]).ok();
    let ran = verify().code(1);
    assert!(ran.stdout.contains("not whole: record 5 at"), "{}", ran.stdout);
    let log = fs::read_to_string(home.state().join("daemon.log")).unwrap();
    assert!(log.contains("the audit log is not as it was left"), "{log}");
    home.run(&["down"]).ok();
}

fn without_from(lines: &[&str], from: usize) -> String {
    lines[..from].iter().map(|line| format!("{line}\n")).collect()
}

fn rest(lines: &[&str], from: usize) -> String {
    lines[from..].iter().map(|line| format!("{line}\n")).collect()
}

fn full() {
    let mut home = Home::with(WEB);
    let disk = home.outside("disk");
    fs::create_dir(&disk).unwrap();
    let mount = crate::extremes::Mount::tmpfs(&disk, "24m");
    home.set("UPBEAT_STATE_DIR", disk.join("state").display().to_string());
    home.run(&["up", "-d", "--wait"]).ok();
    let ballast = disk.join("ballast");
    fs::create_dir(&ballast).unwrap();
    // What is left of the last page takes some records, and a restart makes some room.
    let refused = (0..50).map(|n| {
        crate::extremes::fill(&ballast.join(n.to_string()));
        home.run(&["restart"])
    });
    let refused = refused.into_iter().find(|ran| ran.code != 0).unwrap();
    assert!(refused.stderr.contains("make room"), "{refused:?}");
    home.run(&["stop"]).ok();
    assert_eq!(home.phase("web-1"), "stopped");
    fs::remove_dir_all(&ballast).unwrap();
    home.run(&["start"]).ok();
    let verdict = home.run(&["audit", "verify"]).ok().stdout;
    assert!(verdict.contains("could not be written at their time"), "{verdict}");
    let gap = records(&home).into_iter().find(|record| record["entry"] == "gap").unwrap();
    assert!(gap["what"].to_string().contains("stop of shop"), "{gap}");
    home.run(&["down"]).ok();
    home.kill_daemon();
    drop(mount);
}

/// What the daemon tells this user with these groups.
fn asked_by(socket: &Path, uid: u32, groups: &[u32], line: &str) -> String {
    let (socket, groups, line) = (socket.to_owned(), groups.to_owned(), line.to_owned());
    let asking = std::thread::spawn(move || {
        // Of this thread alone, which ends with it.
        let gids: Vec<_> = groups.iter().map(|gid| rustix::fs::Gid::from_raw(*gid)).collect();
        rustix::thread::set_thread_groups(&gids).unwrap();
        rustix::thread::set_thread_gid(rustix::fs::Gid::from_raw(uid)).unwrap();
        rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(uid)).unwrap();
        let mut stream = match UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(error) => return error.kind().to_string(),
        };
        let json = "Content-Type: application/json\r\nContent-Length: 18\r\nConnection: close";
        write!(stream, "{line} HTTP/1.1\r\nHost: localhost\r\n{json}\r\n\r\n{{\"action\":\"start\"}}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap_or("no answer").to_owned()
    });
    asking.join().unwrap()
}

fn group() {
    const MEMBERS: u32 = 54_321;
    const SOMEBODY: u32 = 54_322;
    let home = Home::with(WEB);
    let config = home.outside(".config/upbeat/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, format!("[api]\nsocket_group = \"{MEMBERS}\"\n")).unwrap();
    fs::set_permissions(home.outside("."), fs::Permissions::from_mode(0o700)).unwrap();
    let refused = home.run(&["serve"]).code(1);
    assert!(refused.stderr.contains("cannot get to the socket"), "{refused:?}");
    fs::set_permissions(home.outside("."), fs::Permissions::from_mode(0o755)).unwrap();
    home.run(&["up", "-d", "--wait"]).ok();
    let socket = home.outside("run/upbeat.sock");
    let (act, tokens) = ("POST /api/v1/apps/shop/actions", "GET /api/v1/tokens");
    assert_eq!(asked_by(&socket, SOMEBODY, &[MEMBERS], "GET /api/v1/apps"), "200");
    assert_eq!(asked_by(&socket, SOMEBODY, &[MEMBERS], act), "200");
    assert_eq!(asked_by(&socket, SOMEBODY, &[MEMBERS], tokens), "403");
    assert_eq!(asked_by(&socket, 0, &[], tokens), "200");
    // Neither through the directory, nor where that is open.
    assert_eq!(asked_by(&socket, SOMEBODY, &[SOMEBODY], act), "permission denied");
    fs::set_permissions(home.outside("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(asked_by(&socket, SOMEBODY, &[SOMEBODY], act), "403");
    eventually("it is on record", || {
        let stranger = format!("uid {SOMEBODY}");
        records(&home).iter().any(|r| r["entry"] == "refused" && r["who"] == stranger.as_str())
    });
    home.run(&["down"]).ok();
    home.kill_daemon();
    // Without the group the socket is private again.
    fs::remove_file(&config).unwrap();
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(asked_by(&socket, SOMEBODY, &[MEMBERS], act), "permission denied");
    home.run(&["down"]).ok();
}

fn settings() {
    let home = Home::new();
    let config = home.outside(".config/upbeat/config.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "[api]\nlisten = \"127.0.0.1:0\"\nallowed_hosts = [\"a.example\"]\n").unwrap();
    let shown = home.run(&["serve", "--print-settings", "-o", "json"]).ok().stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let listen = &shown.as_array().unwrap()[0];
    assert_eq!(
        (listen["name"].as_str(), listen["value"].as_str()),
        (Some("api.listen"), Some("127.0.0.1:0"))
    );
    assert!(listen["source"].as_str().unwrap().ends_with("config.toml:2:10"), "{listen}");
    let shown = home.run(&["serve", "--print-settings", "--listen", "127.0.0.1:1"]).ok().stdout;
    assert!(shown.contains("--listen") && shown.contains("\"127.0.0.1:1\""), "{shown}");
    assert_eq!(home.daemon(), None);
    fs::write(&config, "[api]\nlisten = \"127.0.0.1:0\"\nsocketgroup = \"staff\"\n").unwrap();
    let refused = home.run(&["serve"]).code(2);
    for words in ["config.toml:3:1", "did you mean `socket_group`?"] {
        assert!(refused.stderr.contains(words), "{words} in {}", refused.stderr);
    }
    // Also where the daemon is started by another command.
    home.write("upbeat.yaml", WEB);
    let refused = home.run(&["up", "-d"]).code(1);
    assert!(refused.stderr.contains("socketgroup"), "{}", refused.stderr);
}

/// All that is typed there, in one shell. The address is one that is free.
fn page() {
    let home = Home::with(WEB);
    let typed = blocks("docs/access.md", "sh").concat();
    let serve = "upbeat serve --listen 127.0.0.1:7000 &\n";
    assert_eq!(typed.matches(serve).count(), 1, "{typed}");
    let begun = "upbeat serve --listen 127.0.0.1:0 --color never 2> serve.log &\n\
                 until upbeat version -o json | grep -q pid; do :; done\n\
                 address=$(sed -n 's/.*served over TCP address=\\([^ ]*\\).*/\\1/p' serve.log)\n";
    let typed = typed.replace(serve, begun).replace("127.0.0.1:7000", "$address");
    let dir = Path::new(env!("CARGO_BIN_EXE_upbeat")).parent().unwrap().display().to_string();
    let script = format!("set -euo pipefail; PATH=\"{dir}:$PATH\"\n{typed}\nupbeat down\nkill %1");
    let ran = home.shell(&script).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}\n{errors}");
    for words in
        ["token laptop from 127.0.0.1:", "up of shop", "create token laptop (operator)", "whole: records"]
    {
        assert!(said.contains(words), "{words} in\n{said}\n{errors}");
    }
    // What it says of bounds is so.
    let page = fs::read_to_string(format!("{ROOT}/docs/access.md")).unwrap();
    let bounds =
        (upbeat_server::bounds::TCP_CONNECTIONS_MAX, upbeat_server::bounds::TCP_CONNECTIONS_OF_ONE_MAX);
    assert!(page.contains(&format!("{} connections over TCP, {} from one address", bounds.0, bounds.1)));
}

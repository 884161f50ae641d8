//! Who may speak to the daemon, from here and from elsewhere.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::home::{Home, PATIENCE, Ran, eventually, kill};
use crate::readme::{ROOT, blocks};
use crate::record::records;
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
            name: "members of a group are operators, and others are nobody",
            needs: &[Need::ROOT],
            run: group,
        },
        Journey {
            name: "settings say where they come from, and wrong ones start nothing",
            needs: &[],
            run: settings,
        },
        Journey {
            name: "every wrong way in over TCP is refused, bounded and on record",
            needs: &[],
            run: wrong_ways,
        },
        Journey {
            name: "who does not take what was asked for over TCP is let go, and holds up nobody",
            needs: &[],
            run: untaken,
        },
        Journey {
            name: "a certificate that is made as the page says is trusted",
            needs: &[Need::OPENSSL],
            run: made_certificate,
        },
        Journey {
            name: "the daemon is ended by hand, and what it runs goes on",
            needs: &[],
            run: ended_by_hand,
        },
        Journey { name: "the page about access, typed", needs: &[], run: page },
    ]
}

/// One that does nothing.
pub(crate) const WEB: &str = "name: shop\nservices:\n  web: { command: [sleep, \"600\"] }\n";

/// A daemon that was started by hand. It is ended with this.
pub(crate) struct Served {
    child: Child,
    log: std::path::PathBuf,
}

impl Served {
    /// With these arguments of `serve`.
    pub(crate) fn start(home: &Home, arguments: &[&str]) -> Self {
        let log = home.outside("serve.log");
        let file = fs::File::create(&log).unwrap();
        let mut command = home.command(&[&["serve", "--color", "never"], arguments].concat());
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let served = Self { child, log };
        eventually("the daemon answers", || home.run(&["version", "-o", "json"]).stdout.contains("\"pid\""));
        served
    }

    /// The address it got.
    pub(crate) fn address(&self) -> String {
        self.address_behind("served over TCP")
    }

    /// The address that its log names behind these words.
    pub(crate) fn address_behind(&self, words: &str) -> String {
        let log = fs::read_to_string(&self.log).unwrap();
        let said = log.split(&format!("{words} address=")).nth(1).unwrap_or_else(|| panic!("{log}"));
        said.split_whitespace().next().unwrap().to_owned()
    }

    /// What it says.
    pub(crate) fn log(&self) -> &Path {
        &self.log
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
pub(crate) fn afar(home: &Home, host: &str, token: &str, arguments: &[&str]) -> Ran {
    let output =
        home.command(&[&["--host", host], arguments].concat()).env("UPBEAT_TOKEN", token).output().unwrap();
    Ran {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

pub(crate) fn new_token(home: &Home, name: &str, more: &[&str]) -> String {
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
        let ran = afar(&home, &host, nobody, &["ps"]).code(10);
        assert!(ran.stderr.contains("token"), "{ran:?}");
    }
    afar(&home, &host, &operator, &["up", "-d", "--wait"]).ok();
    assert!(afar(&home, &host, &viewer, &["ps"]).ok().stdout.contains("running"));
    let refused = afar(&home, &host, &viewer, &["stop"]).code(10);
    assert!(refused.stderr.contains("viewer") && refused.stderr.contains("operator"), "{refused:?}");
    assert_eq!(home.phase("web-1"), "running");
    afar(&home, &host, &operator, &["token", "ls"]).code(10);
    afar(&home, &host, &operator, &["audit", "ls"]).code(10);
    assert!(afar(&home, &host, &admin, &["token", "ls"]).ok().stdout.contains("viewer"));
    home.run(&["token", "create", "admin", "--role", "viewer"]).code(4);
    // It runs out, and lets nobody in from then on.
    let short = new_token(&home, "short", &["--role", "viewer", "--expires", "1s"]);
    eventually("the token has expired", || {
        afar(&home, &host, &short, &["ps"]).stderr.contains("oken `short` has expired")
    });
    assert!(home.run(&["token", "ls"]).ok().stdout.contains("expired"));
    home.run(&["token", "revoke", "operator"]).ok();
    let refused = afar(&home, &host, &operator, &["down"]).code(10);
    assert!(refused.stderr.contains("not known"), "{refused:?}");
    home.run(&["token", "revoke", "operator"]).code(3);
    // The next daemon knows them, too.
    drop(served);
    let served = Served::start(&home, &["--listen", "127.0.0.1:0"]);
    let host = format!("http://{}", served.address());
    afar(&home, &host, &operator, &["down"]).code(10);
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
    let refused = home.command(&["serve", "--stop"]).env("UPBEAT_HOST", &host).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let refused = home.command(&["serve"]).env("UPBEAT_HOST", &host).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let unset = home.command(&["ps"]).env("UPBEAT_HOST", "").env("UPBEAT_CA", "").output().unwrap();
    assert_eq!(unset.status.code(), Some(0), "an empty variable says nothing: {unset:?}");
    home.run(&["down"]).ok();
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

/// What a daemon answers with over TCP: the status, or nothing.
fn status(address: &str, line: &str, headers: &[&str]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    // Who does not read all it is sent answers, and resets the connection: then neither need get through.
    let _ = write!(stream, "{line} HTTP/1.1\r\nConnection: close\r\n{head}\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
}

fn wrong_ways() {
    let home = Home::with(WEB);
    let served = Served::start(&home, &["--listen", "127.0.0.1:0"]);
    let address = served.address();
    let token = new_token(&home, "viewer", &["--role", "viewer"]);
    let own = format!("Authorization: Bearer {token}");
    let (own, here, get) = (own.as_str(), "Host: localhost", "GET /api/v1/apps");
    let huge = format!("X: {}", "x".repeat(upbeat_server::bounds::HEAD_MAX));
    assert_eq!(status(&address, get, &[here, own]), "200");
    for (line, headers, expected) in [
        (get, &["Host: evil.example", own][..], "403"),
        (get, &["Host: localhost:evil.example", own], "403"),
        (get, &[here, "Host: evil.example", own], "403"),
        (get, &[here, own, "Origin: http://localhost"], "403"),
        (get, &[here], "401"),
        (get, &[here, "Authorization: Bearer upb_nonsense"], "401"),
        (get, &[here, own, own], "401"),
        ("DELETE /api/v1/apps/shop", &[here, own], "403"),
        ("GET /api/v1/audit", &[here, own], "403"),
        ("GET /nowhere", &[here], "401"),
    ] {
        assert_eq!(status(&address, line, headers), expected, "{line} {headers:?}");
    }
    // Not even read as a request; so it is on nobody's record.
    let refused = status(&address, get, &[here, own, &huge]);
    assert!(matches!(&*refused, "431" | ""), "{refused}");
    let refused = || -> Vec<String> {
        let refused = records(&home).into_iter().filter(|record| record["entry"] == "refused");
        refused.map(|r| format!("{} {} {} {}", r["who"], r["status"], r["path"], r["why"])).collect()
    };
    eventually("all of them are on record", || refused().len() >= 10);
    let told = refused();
    assert_eq!(told.len(), 10, "{told:?}");
    for words in
        ["`Host`", "web pages", "there is no token", "not known", "token viewer is viewer", "/nowhere"]
    {
        assert!(told.iter().any(|told| told.contains(words)), "{words} in {told:?}");
    }
    assert!(told.iter().all(|told| !told.contains(&token[4..]) && !told.contains("nonsense")), "{told:?}");
    // A crowd that is silent or slow keeps nobody out, here or there.
    let mut crowd = Vec::new();
    for n in 0..upbeat_server::bounds::TCP_CONNECTIONS_MAX * 2 {
        let mut stream = TcpStream::connect(&address).unwrap();
        if n % 2 == 0 {
            // Those that were dropped already do not take it.
            let _ = write!(stream, "{get} HTTP/1.1\r\nHo");
        }
        crowd.push(stream);
    }
    afar(&home, &format!("http://{address}"), &token, &["apps"]).ok();
    home.run(&["apps"]).ok();
    drop(crowd);
    let short = new_token(&home, "short", &["--role", "viewer", "--expires", "1s"]);
    let short = format!("Authorization: Bearer {short}");
    eventually("it has expired", || status(&address, get, &[here, &short]) == "401");
    eventually("that is on record", || refused().iter().any(|told| told.contains("`short` has expired")));
    home.run(&["audit", "verify"]).ok();
}

/// The other end of this connection, as the kernel has it: there is one for as long as it is open.
fn is_held(client: SocketAddr, server: SocketAddr) -> bool {
    let hex = |at: SocketAddr| match at.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), at.port()),
        IpAddr::V6(_) => panic!("{at}"),
    };
    let (local, remote) = (hex(server), hex(client));
    fs::read_to_string("/proc/net/tcp").unwrap().lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1..3] == [local.as_str(), remote.as_str()]
    })
}

/// A connection that asks so often for this, and reads nothing of what it is answered.
fn reads_nothing(address: &str, asked: &str, times: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(asked.repeat(times).as_bytes()).unwrap();
    stream
}

/// It takes as long as nothing may be taken for: a minute, in which it waits for the kernel to say so.
fn untaken() {
    let home = Home::with(
        "name: shop\nservices:\n  web:\n    command: [sh, -c, 'yes 0123456789012345678901234567890123456789 | head -c 30m; exec sleep 600']\n    \
         log: { max_size: 64m, max_files: 3 }\n",
    );
    let served = Served::start(&home, &["--listen", "127.0.0.1:0"]);
    let address = served.address();
    let server: SocketAddr = address.parse().unwrap();
    home.run(&["up", "-d", "--wait"]).ok();
    let token = new_token(&home, "viewer", &["--role", "viewer"]);
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    // Answers upon answers, and one without an end.
    let readers = [
        reads_nothing(&address, &get("/api/v1/openapi.json"), 500),
        reads_nothing(&address, &get("/api/v1/apps/shop/logs?follow=true"), 1),
    ];
    let clients = readers.each_ref().map(|reader| reader.local_addr().unwrap());
    assert!(clients.iter().all(|client| is_held(*client, server)));
    // Meanwhile everybody else is answered, here and there, and may change what they may.
    afar(&home, &format!("http://{address}"), &token, &["logs", "-n", "1"]).ok();
    home.run(&["restart"]).ok();
    assert!(clients.iter().all(|client| is_held(*client, server)), "a moment is no minute");
    eventually("they are let go", || !clients.iter().any(|client| is_held(*client, server)));
    for mut reader in readers {
        // What was on its way is there; the rest, and the end of it, never comes.
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    home.run(&["down"]).ok();
}

/// How the block of the page begins that makes a certificate.
const OPENSSL: &str = "openssl req";

fn made_certificate() {
    let home = Home::with(WEB);
    let typed = blocks("docs/access.md", "sh").into_iter().find(|block| block.starts_with(OPENSSL)).unwrap();
    let ran = home.shell(&typed).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let file = |name: &str| home.project().join(name).display().to_string();
    let token = {
        let (cert, key) = (file("cert.pem"), file("key.pem"));
        let served = Served::start(&home, &["--listen", "0.0.0.0:0", "--tls-cert", &cert, "--tls-key", &key]);
        let token = new_token(&home, "far", &["--role", "viewer"]);
        let host = format!("https://localhost:{}", served.port());
        afar(&home, &host, &token, &["--ca", &cert, "apps"]).ok();
        token
    };
    // Left to itself it makes one that clients refuse, who then say what to do.
    let careless = typed.replace(" -addext basicConstraints=critical,CA:FALSE", "").replace(".pem", "-2.pem");
    assert_ne!(careless, typed);
    assert!(home.shell(&careless).output().unwrap().status.success());
    let (cert, key) = (file("cert-2.pem"), file("key-2.pem"));
    let served = Served::start(&home, &["--listen", "0.0.0.0:0", "--tls-cert", &cert, "--tls-key", &key]);
    let host = format!("https://localhost:{}", served.port());
    let refused = afar(&home, &host, &token, &["--ca", &cert, "apps"]).code(1);
    assert!(refused.stderr.contains("CA:FALSE"), "{refused:?}");
}

/// It ends, what it runs goes on, and its place is free at once.
fn ended_by_hand() {
    let home = Home::with(WEB);
    let nobody = home.run(&["serve", "--stop"]).code(3);
    assert!(nobody.stderr.contains("o daemon is listening"), "{nobody:?}");
    home.run(&["up", "-d", "--wait"]).ok();
    let (daemon, before) = (home.daemon().unwrap(), home.run(&["ps", "-o", "json"]).ok().stdout);
    let taken = home.run(&["serve"]).code(4);
    assert!(taken.stderr.contains("upbeat serve --stop"), "{taken:?}");
    let ended = home.run(&["serve", "--stop"]).ok();
    assert!(ended.stdout.contains(&format!("(pid {daemon}) has ended; what it runs goes on")), "{ended:?}");
    home.run(&["serve", "--stop"]).code(3);
    let served = Served::start(&home, &["--listen", "127.0.0.1:0"]);
    let pid = |listed: &str| serde_json::from_str::<Value>(listed).unwrap()[0]["pid"].clone();
    assert_eq!(pid(&home.run(&["ps", "-o", "json"]).ok().stdout), pid(&before));
    home.run(&["down"]).ok();
    drop(served);
}

/// All that is typed there, in one shell. The address is one that is free.
fn page() {
    let home = Home::with(WEB);
    let typed = blocks("docs/access.md", "sh");
    let typed = typed.into_iter().filter(|block| !block.starts_with(OPENSSL)).collect::<String>();
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
    use upbeat_server::bounds as b;
    let page = fs::read_to_string(format!("{ROOT}/docs/access.md")).unwrap();
    for words in [
        format!(
            "{} connections over TCP, {} from one address",
            b::TCP_CONNECTIONS_MAX,
            b::TCP_CONNECTIONS_OF_ONE_MAX
        ),
        format!(
            "{} from this machine; they are counted apart from the {}",
            b::TCP_CONNECTIONS_OF_HERE_MAX,
            b::CONNECTIONS_MAX
        ),
        format!(
            "at most {}, and all members together leave {}",
            b::CONNECTIONS_OF_ONE_MAX,
            b::RESERVED_CONNECTIONS
        ),
        format!("One token has at most {} streams", b::STREAMS_OF_TOKEN_MAX),
    ] {
        assert!(page.contains(&words), "{words}");
    }
}

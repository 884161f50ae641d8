//! What surrounds a process, from the file to the process: configs, secrets, limits, a terminal.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use upbeat_drivers::cgroups::{Capabilities, Lack, OF_THIS_PROCESS};
use upbeat_model::project::{Resources, Secret};

use crate::Journey;
use crate::home::{Home, eventually, is_alive, kill};
use crate::readme::ROOT;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "configs and secrets reach their process, and nothing else shows them",
            needs: &[],
            run: secrets,
        },
        Journey {
            name: "a changed secret replaces the copies that have it",
            needs: &[],
            run: changed_secret,
        },
        Journey { name: "what surrounds a process is as its file says", needs: &[], run: surroundings },
        Journey {
            name: "a daemon of an ordinary user refuses what it has no right to before it changes anything",
            needs: &[],
            run: no_rights,
        },
        Journey {
            name: "a limit for all processes of a copy holds, or is refused by its key with the reason",
            needs: &[],
            run: limits,
        },
    ]
}

/// No line of these is printed by anybody. Each is long enough to be found.
const KEY: &str = "kX7-from-a-file-9Qm";
const TOKEN: &str = "tB4-from-the-environment-2Vz";
const SITE: &str = "sN8-written-into-the-file-6Ht";

/// Beside a process it finds the same files; and nobody prints what is in them.
const SHOP: &str = r#"
name: shop
secrets:
  key: { file: ./key.txt }
  token: { environment: TOKEN }
configs:
  site: { content: "port=${PORT:-80}\nmark=sN8-written-into-the-file-6Ht\n" }
services:
  web:
    command:
      - sh
      - -c
      - |
        cd "$$CREDENTIALS_DIRECTORY" && cksum key api site > "$$OLDPWD/sums"
        stat -c '%a %n' . key api site > "$$OLDPWD/modes"; echo ready; exec sleep 600
    secrets: [key, { source: token, target: api, mode: 0440 }]
    configs: [site]
    healthcheck: { exec: [sh, -c, 'cksum < "$$CREDENTIALS_DIRECTORY/key" > probed'], interval: 100ms }
    post_start: [{ command: [sh, -c, 'cksum < "$$CREDENTIALS_DIRECTORY/api" > begun'] }]
    pre_stop: [{ command: [sh, -c, 'cksum < "$$CREDENTIALS_DIRECTORY/site" > ending'] }]
    stop_command: [sh, -c, 'cksum < "$$CREDENTIALS_DIRECTORY/key" > ended']
  other: { command: [sh, -c, 'echo "$${CREDENTIALS_DIRECTORY-none}" > other; exec sleep 600'] }
"#;

fn shop() -> Home {
    let mut home = Home::with(SHOP);
    home.write("key.txt", KEY);
    home.set("TOKEN", TOKEN);
    home
}

/// As `cksum` prints it of standard input.
fn sum(home: &Home, text: &str) -> String {
    home.write("of", text);
    let ran = home.shell("cksum < of").output().unwrap();
    std::fs::remove_file(home.project().join("of")).unwrap();
    String::from_utf8(ran.stdout).unwrap()
}

/// The directories of private files there are.
fn private(home: &Home) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(home.outside("run-credentials")).into_iter().flatten();
    listed.map(|entry| entry.unwrap().path()).collect()
}

/// What is in the config, by the defaults of its variables.
fn site() -> String {
    format!("port=80\nmark={SITE}\n")
}

/// As it travels, without the quotes.
fn encoded(secret: &str) -> String {
    let secret = serde_json::to_value(Secret::new(secret.as_bytes())).unwrap();
    secret.as_str().unwrap().to_owned()
}

fn shows_none(what: &str, shown: &[u8]) {
    let plain = [KEY, TOKEN, SITE].map(str::to_owned);
    let encoded = [KEY, TOKEN, &site()].map(encoded);
    for form in plain.into_iter().chain(encoded) {
        let found = shown.windows(form.len()).any(|window| window == form.as_bytes());
        assert!(!found, "{what} shows {form}");
    }
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn secrets() {
    let home = shop();
    let up = home.run(&["up", "-d", "--wait"]).ok();
    shows_none("`up`", up.stderr.as_bytes());
    let (key, token, site) = (sum(&home, KEY), sum(&home, TOKEN), sum(&home, &site()));
    let named = |sum: &str, name: &str| format!("{} {name}\n", sum.trim_end());
    eventually("it has looked", || home.read("sums").lines().count() == 3 && !home.read("probed").is_empty());
    assert_eq!(home.read("sums"), [named(&key, "key"), named(&token, "api"), named(&site, "site")].concat());
    assert_eq!(home.read("modes"), "500 .\n400 key\n440 api\n400 site\n");
    assert_eq!((home.read("probed"), home.read("begun")), (key.clone(), token));
    eventually("the other has looked", || !home.read("other").is_empty());
    assert_eq!(home.read("other"), "none\n");
    let dirs = private(&home);
    assert_eq!(dirs, [home.outside("run-credentials").join("shop@web@1")]);
    assert_eq!(std::fs::metadata(&dirs[0]).unwrap().mode() & 0o777, 0o500);
    for asked in [
        &["config"][..],
        &["config", "--format", "json"],
        &["ps", "-a", "-o", "json"],
        &["why", "web", "-o", "json"],
        &["events", "-o", "json"],
        &["plan", "-o", "json"],
        &["logs"],
        &["apps", "-o", "json"],
    ] {
        let ran = home.run(asked).ok();
        // The file itself says what its config holds, and `config` shows the file.
        let said = if asked[0] == "config" { ran.stdout.replace(SITE, "") } else { ran.stdout };
        shows_none(&asked.join(" "), said.as_bytes());
    }
    let ps = home.shell("ps -eo args").output().unwrap();
    shows_none("`ps`", &ps.stdout);
    home.run(&["restart", "web"]).ok();
    home.run(&["stop", "web"]).ok();
    assert_eq!((home.read("ending"), home.read("ended")), (site, key));
    assert!(private(&home).is_empty(), "gone with the process");
    home.run(&["start", "web"]).ok();
    home.run(&["down"]).ok();
    assert!(private(&home).is_empty());
    // What is kept of them is kept in one place.
    let state = home.state();
    let store = state.join("control.redb");
    for file in files(&state) {
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o077, 0, "{file:?}");
        if file != store {
            shows_none(&file.display().to_string(), &std::fs::read(&file).unwrap());
        }
    }
    for (path, mode) in [(&state, 0o700), (&store, 0o600)] {
        assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o777, mode, "{path:?}");
    }
}

fn changed_secret() {
    let home = shop();
    home.run(&["up", "-d", "--wait"]).ok();
    let (web, other) = (home.pid("web-1"), home.pid("other-1"));
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(home.pid("web-1"), web, "nothing has changed");
    home.write("key.txt", "another");
    let plan = home.run(&["plan", "--detailed-exitcode"]).code(9).stdout;
    assert!(plan.contains("web-1") && plan.contains("configs or secrets"), "{plan}");
    assert!(!plan.contains("other-1") && !plan.contains("another"), "{plan}");
    home.run(&["up", "-d", "--wait"]).ok();
    assert_ne!(home.pid("web-1"), web);
    assert_eq!(home.pid("other-1"), other);
    let key = sum(&home, "another");
    eventually("it has the new one", || home.read("probed") == key);
    // A killed shim and a killed daemon leave none; and whoever comes next gives it again.
    let pid = home.pid("web-1");
    home.kill_daemon();
    kill(parent(pid), 9);
    eventually("the process died with its shim", || !is_alive(pid));
    home.run(&["start", "web"]).ok();
    assert_eq!(private(&home).len(), 1);
    assert_eq!(home.read("probed"), key);
    home.run(&["down"]).ok();
    assert!(private(&home).is_empty());
}

fn surroundings() {
    let home = Home::with(
        r#"
name: shop
services:
  term:
    command: [sh, -c, 'tty; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; echo "$$TERM"; read line; echo never']
    tty: true
    ulimits: { nofile: { soft: 100, hard: 200 }, core: 0 }
    oom_score_adj: 500
    healthcheck: { exec: [sh, -c, 'ulimit -Sn > probed'] }
  waits:
    command: [sh, -c, 'echo up; read line; echo never']
    stdin_open: true
    healthcheck: { log: up }
  ends: { command: [sh, -c, 'read line; echo "end of input"; exit 3'] }
"#,
    );
    home.run(&["up", "-d"]);
    eventually("all is as it will be", || {
        home.phase("ends-1") == "failed"
            && home.phase("waits-1") == "healthy"
            && home.phase("term-1") == "healthy"
    });
    let printed = home.run(&["logs", "--no-prefix", "term"]).ok().stdout;
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].starts_with("/dev/pts/"), "{printed}");
    assert_eq!(lines[1..], ["100", "200", "500", "xterm"]);
    assert_eq!(home.read("probed"), "100\n");
    assert_eq!(home.run(&["logs", "--no-prefix", "ends"]).ok().stdout, "end of input\n");
    home.run(&["stop"]).ok();
    assert!(!home.run(&["logs"]).ok().stdout.contains("never"));
    // What there is not is a failure of the start that says what.
    home.write(
        "upbeat.yaml",
        "name: shop\nservices:\n  job: { command: [sleep, \"600\"], group_add: [no-such-group] }\n",
    );
    home.run(&["up", "-d"]);
    eventually("it has failed", || home.phase("job-1") == "failed");
    let why = home.run(&["why", "job"]).ok().stdout;
    assert!(why.contains("there is no group `no-such-group` in /etc/group"), "{why}");
    // And what the kernel gives nobody is refused, of root too.
    home.write(
        "upbeat.yaml",
        "name: shop\nservices:\n  job: { command: [sleep, \"600\"], ulimits: { nofile: 1099511627776 } }\n",
    );
    let refused = home.run(&["up", "-d"]).code(2).stderr;
    let why = "`services.job.ulimits.nofile`: 1099511627776 is more than the daemon may give, which is ";
    assert!(refused.contains(why), "{refused}");
}

/// `nobody`, as numbers go.
const NOBODY: u32 = 65534;

fn no_rights() {
    let mut home = Home::with("name: shop\nservices:\n  web: { command: [sleep, \"600\"] }\n");
    let own = rustix::process::geteuid();
    if own.is_root() {
        home.give_to(NOBODY);
    }
    let uid = if own.is_root() { NOBODY } else { own.as_raw() };
    home.run(&["up", "-d", "--wait"]).ok();
    let before = home.pid("web-1");
    let log = std::fs::read_to_string(home.state().join("daemon.log")).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("the daemon may not ")).collect();
    assert_eq!(told.len(), 1, "{log}");
    for key in ["`user`", "`group_add`", "`oom_score_adj`", "`ulimits`"] {
        assert!(told[0].contains(key), "{told:?}");
    }
    home.write(
        "upbeat.yaml",
        r#"
name: shop
services:
  web:
    command: [sleep, "600"]
    user: root
    group_add: ["0"]
    oom_score_adj: -999
    ulimits: { nofile: 1099511627776 }
    pre_start: [{ command: ["true"], user: "0:0" }]
  job: { command: [sleep, "600"] }
"#,
    );
    let is_root = format!("is user 0, and the daemon runs as user {uid}");
    let events = home.run(&["events"]).ok().stdout;
    for command in [&["up", "-d"][..], &["plan"]] {
        let refused = home.run(command).code(2).stderr;
        for expected in [
            &format!("`services.web.user`: `root` {is_root}"),
            "`services.web.group_add`: the daemon is not in group `0`",
            "`services.web.oom_score_adj`: -999 is lower than the daemon's own score, which is ",
            "`services.web.ulimits.nofile`: 1099511627776 is more than the daemon may give, which is ",
            &format!("`services.web.pre_start[0].user`: `0:0` {is_root}"),
            "\nhint: nothing was changed; run the daemon as root, or take it out\n",
        ] {
            assert!(refused.contains(expected), "{expected}\nis not in\n{refused}");
        }
    }
    assert_eq!(home.pid("web-1"), before, "nothing was changed");
    assert_eq!(home.run(&["events"]).ok().stdout, events);
    // The user it is already it may be told to be.
    let gid = if own.is_root() { NOBODY } else { rustix::process::getegid().as_raw() };
    home.write(
        "upbeat.yaml",
        &format!(
            "name: shop\nservices:\n  web: {{ command: [sh, -c, 'id -u; exec sleep 600'], user: \"{uid}:{gid}\", oom_score_adj: 900 }}\n"
        ),
    );
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(home.run(&["logs", "--no-prefix", "web"]).ok().stdout, format!("{uid}\n"));
}

fn limits() {
    let free = "name: shop\nservices:\n  web: { command: [sleep, \"600\"] }\n";
    let home = Home::with(free);
    home.run(&["up", "-d", "--wait"]).ok();
    let before = home.pid("web-1");
    let limited = free.replace("] }", "], mem_limit: 64m, pids_limit: 20, cpus: 1.5 }");
    home.write("upbeat.yaml", &limited);
    let resources =
        Resources { cpus: Some(1500), memory: Some(64 << 20), memory_reservation: None, pids: Some(20) };
    let lacks = Capabilities::look(Path::new(OF_THIS_PROCESS)).lacks(&resources);
    if lacks.is_empty() {
        home.run(&["up", "-d", "--wait"]).ok();
        let link = home.state().join("slots/shop/web/1/cgroup");
        let read = |file: &str| std::fs::read_to_string(link.join(file)).unwrap().trim().to_owned();
        assert_eq!(["memory.max", "pids.max", "cpu.max"].map(read), ["67108864", "20", "150000 100000"]);
        let group = std::fs::read_link(&link).unwrap();
        home.run(&["down"]).ok();
        assert!(!group.exists());
        return;
    }
    let told: Vec<String> =
        lacks.into_iter().map(|Lack { key, why }| format!("`services.web.{key}`: {why}")).collect();
    let expected = format!(
        "error: Limits of the project cannot be kept: {}\nhint: nothing was changed; take them out, or run the project where they can be kept\n",
        told.join("; ")
    );
    for command in [&["up", "-d"][..], &["plan"]] {
        let ran = home.run(command).code(2);
        assert!(ran.stderr.ends_with(&expected), "{}\nis not\n{expected}", ran.stderr);
    }
    assert_eq!(home.pid("web-1"), before, "nothing was changed");
    let events = home.run(&["events"]).ok().stdout;
    home.run(&["up", "-d"]).code(2);
    assert_eq!(home.run(&["events"]).ok().stdout, events);
    // The documentation names each of the keys that may be refused.
    let page = std::fs::read_to_string(format!("{ROOT}/docs/services.md")).unwrap();
    for key in ["cpus", "mem_limit", "mem_reservation", "pids_limit"] {
        assert!(page.contains(&format!("`{key}`")), "{key}");
    }
}

fn parent(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
}

//! What project files say besides a service: templates, and what `config` makes of them.

use crate::Journey;
use crate::home::{Home, eventually, lines};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "several files, standard input and files of variables make one project",
            needs: &[],
            run: sources,
        },
        Journey { name: "a procfile is a project that runs", needs: &[], run: procfile },
        Journey { name: "what the file says of a process is so of the process", needs: &[], run: processes },
        Journey { name: "who has lost a secret can still stop what has it", needs: &[], run: lost_secret },
        Journey { name: "a template makes services, and copies with numbers", needs: &[], run: templates },
        Journey { name: "what config shows runs as the same project", needs: &[], run: config },
        Journey {
            name: "a copy that cannot be made is refused before it is wished for",
            needs: &[],
            run: refused,
        },
    ]
}

const WORKERS: &str = r#"
templates:
  worker:
    parameters:
      queue:
      base: { type: integer, default: 9000 }
    service:
      command: [sh, -c, "echo {{ service }} {{ index }} $$PORT {{ queue }} >> told; exec sleep 600"]
      environment: { PORT: "{{ base + index }}" }
      healthcheck: { exec: [grep, -q, "^{{ service }} {{ index }} ", told] }
services:
  worker@mail: { scale: 2 }
  clips:
    template: { use: worker, with: { queue: video, base: 7000 } }
    depends_on: { worker@mail: { condition: service_healthy } }
"#;

fn told(home: &Home) -> Vec<String> {
    let mut told = lines(&home.project().join("told"));
    told.sort();
    told
}

fn templates() {
    let home = Home::with(WORKERS);
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(told(&home), ["clips 1 7001 video", "worker@mail 1 9001 mail", "worker@mail 2 9002 mail"]);
    home.run(&["scale", "worker@mail=3"]).ok();
    eventually("the third has said so", || told(&home).contains(&"worker@mail 3 9003 mail".to_owned()));
    // What is as wished is left alone, also by a daemon that makes the copies anew.
    let pids = ["worker@mail-1", "worker@mail-3", "clips-1"].map(|slot| home.pid(slot));
    home.kill_daemon();
    home.write("upbeat.yaml", &WORKERS.replace("scale: 2", "scale: 3"));
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(["worker@mail-1", "worker@mail-3", "clips-1"].map(|slot| home.pid(slot)), pids);
    home.write("upbeat.yaml", &WORKERS.replace("scale: 2", "scale: 3").replace("7000", "7100"));
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(home.pid("worker@mail-1"), pids[0]);
    assert!(told(&home).contains(&"clips 1 7101 video".to_owned()));
    assert!(home.run(&["why", "worker@mail"]).ok().stdout.contains("worker@mail-1"));
    home.run(&["down"]).ok();
}

fn config() {
    let home = Home::with(WORKERS);
    home.run(&["up", "-d", "--wait"]).ok();
    let pids = ["worker@mail-2", "clips-1"].map(|slot| home.pid(slot));
    let shown = home.run(&["config"]).ok().stdout;
    home.write("upbeat.yaml", &shown);
    home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(["worker@mail-2", "clips-1"].map(|slot| home.pid(slot)), pids, "{shown}");
}

fn refused() {
    let home = Home::with(
        "templates: { w: { service: { command: [sleep, '600'], healthcheck: { tcp: '127.0.0.1:{{ 65533 + index }}' } } } }\nservices: { a: { template: w, scale: 2 } }\n",
    );
    home.run(&["up", "-d"]).ok();
    let scale = home.run(&["scale", "a=9"]);
    assert_eq!(scale.code, 2, "{}", scale.stderr);
    let said = "opy 3 of `a` cannot be made: `healthcheck.tcp` must have a port from 1 to 65535, not `65536`";
    assert!(scale.stderr.contains(said), "{}", scale.stderr);
    assert_eq!(home.slots().len(), 2);
}

fn lost_secret() {
    let home = Home::with(
        "secrets: { key: { file: key } }\nservices: { web: { command: [sleep, '600'], secrets: [key] } }\n",
    );
    home.write("key", "hush");
    home.run(&["up", "-d", "--wait"]).ok();
    std::fs::remove_file(home.project().join("key")).expect("it was there");
    assert!(home.run(&["up", "-d"]).stderr.contains("needs the file `key`, which is not there"));
    assert!(home.run(&["ps"]).ok().stdout.contains("running"));
    home.run(&["down"]).ok();
}

/// What each says is said by a process.
fn sources() {
    let mut home = Home::new();
    home.write("base.yaml", "services: { web: { command: [sh, -c, 'echo $$SAYS ${WORD:-none} >> told'], environment: { SAYS: base } } }\n");
    home.write("over.yaml", "services: { web: { environment: { SAYS: over } }, extra: { command: [sh, -c, 'echo extra >> told'], profiles: [more] } }\n");
    home.write("words.env", "WORD=word\n");
    let said = |home: &Home, wanted: &[&str]| {
        eventually("all have said it", || told(home).len() >= wanted.len());
        assert_eq!(told(home), wanted);
        home.run(&["-p", "project", "down"]).ok();
        std::fs::remove_file(home.project().join("told")).expect("it was there");
    };
    home.run(&[
        "-f",
        "base.yaml",
        "-f",
        "over.yaml",
        "--env-file",
        "words.env",
        "--profile",
        "more",
        "up",
        "-d",
    ])
    .ok();
    said(&home, &["extra", "over word"]);
    let stdin = std::fs::File::open(home.project().join("base.yaml")).expect("it is there");
    let piped = home.command(&["-f", "-", "up", "-d"]).stdin(stdin).output().expect("it runs");
    assert!(piped.status.success(), "{}", String::from_utf8_lossy(&piped.stderr));
    said(&home, &["base none"]);
    home.set("COMPOSE_FILE", "base.yaml:over.yaml");
    home.set("COMPOSE_PROFILES", "more");
    home.set("COMPOSE_ENV_FILES", "words.env");
    home.run(&["up", "-d"]).ok();
    said(&home, &["extra", "over word"]);
    for name in ["COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_ENV_FILES"] {
        home.unset(name);
    }
    // From elsewhere: relative paths start from the directory that is named.
    let elsewhere = home.outside("elsewhere.yaml");
    std::fs::copy(home.project().join("base.yaml"), &elsewhere).expect("it is copied");
    let file = elsewhere.display().to_string();
    let dir = home.project().display().to_string();
    home.run(&["-f", &file, "--project-directory", &dir, "up", "-d"]).ok();
    said(&home, &["base none"]);
}

fn procfile() {
    let home = Home::new();
    home.write(
        "Procfile",
        "web: echo web $WORD >> told; exec sleep 600\n# and\njob: echo job | tee -a told\n",
    );
    home.write(".env", "WORD=hello\n");
    home.run(&["-f", "Procfile", "up", "-d"]).ok();
    eventually("both have said it", || told(&home) == ["job", "web hello"]);
    assert_eq!(home.phase("web-1"), "running");
    home.run(&["-f", "Procfile", "down"]).ok();
}

fn processes() {
    let home = Home::with(
        "services:\n  a:\n    entrypoint: [sh, -c]\n    command: ['pwd >> ../told; id -u >> ../told']\n    working_dir: sub\n    deploy: { replicas: 2, restart_policy: { condition: none } }\n    log: { max_size: 64k, max_files: 2 }\n    init: true\n  b: { command: 'id -u >> told; exit 3', shell: true, env_file: words.env, restart: 'no' }\n",
    );
    std::fs::create_dir(home.project().join("sub")).expect("a directory");
    home.write("words.env", "WORD=word\n");
    home.run(&["up", "-d"]);
    eventually("all have ended", || {
        ["a-1", "a-2"].iter().all(|slot| home.phase(slot) == "completed") && home.phase("b-1") == "failed"
    });
    let user = rustix::process::geteuid().as_raw().to_string();
    let sub = std::fs::canonicalize(home.project().join("sub")).expect("it is there").display().to_string();
    let mut wanted = vec![sub.clone(), sub, user.clone(), user.clone(), user];
    wanted.sort();
    assert_eq!(told(&home), wanted);
}

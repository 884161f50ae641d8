//! What project files say besides a service: templates, and what `config` makes of them.

use crate::Journey;
use crate::home::{Home, eventually, lines};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
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

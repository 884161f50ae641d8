//! The guide's graphs on real processes: order, failure, and what goes on regardless.

use crate::Journey;
use crate::home::{Home, eventually, lines};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey { name: "the guide's complex graph starts along its edges", needs: &[], run: complex },
        Journey { name: "e starts while d is still unhealthy", needs: &[], run: edges_not_levels },
        Journey { name: "a chain starts in order and stops in reverse", needs: &[], run: chain },
        Journey {
            name: "dependents of a failed start report it and the rest goes on",
            needs: &[],
            run: continue_after_failure,
        },
        Journey {
            name: "copies that wait for the same are told once",
            needs: &[],
            run: the_same_is_told_once,
        },
        Journey { name: "a cycle starts nothing", needs: &[], run: cycle },
        Journey { name: "a missing dependency starts nothing", needs: &[], run: missing },
    ]
}

/// Notes its start and its stop in a file of the project, in order.
const NOTE: &str = "trap 'echo \"-$1\" >> order; exit 0' TERM\necho \"+$1\" >> order\necho up\nwhile :; do sleep 60 & wait $!; done\n";

fn healthy(edges: &[(&str, &[&str])]) -> String {
    let mut file = String::from("services:\n");
    for (name, needs) in edges {
        file.push_str(&format!(
            "  {name}:\n    command: [sh, note.sh, {name}]\n    healthcheck: {{ log: up }}\n"
        ));
        if !needs.is_empty() {
            file.push_str("    depends_on:\n");
            for need in *needs {
                file.push_str(&format!("      {need}: {{ condition: service_healthy }}\n"));
            }
        }
    }
    file
}

const COMPLEX: &[(&str, &[&str])] = &[
    ("a", &[]),
    ("b", &["a"]),
    ("c", &["b"]),
    ("d", &["b"]),
    ("e", &["c"]),
    ("f", &["d"]),
    ("g", &["e", "f"]),
];

fn position(order: &[String], mark: &str) -> usize {
    order.iter().position(|seen| seen == mark).unwrap_or_else(|| panic!("no {mark} in {order:?}"))
}

fn complex() {
    let home = Home::with(&healthy(COMPLEX));
    home.write("note.sh", NOTE);
    home.run(&["up", "-d", "--wait"]).ok();
    let order = lines(&home.project().join("order"));
    assert_eq!(order.len(), 7, "{order:?}");
    for (name, needs) in COMPLEX {
        for need in *needs {
            let (first, then) =
                (position(&order, &format!("+{need}")), position(&order, &format!("+{name}")));
            assert!(first < then, "{need} before {name}: {order:?}");
        }
    }
    home.run(&["down"]).ok();
    let order = lines(&home.project().join("order"));
    assert_eq!(order.len(), 14, "{order:?}");
    for (name, needs) in COMPLEX {
        for need in *needs {
            let (first, then) =
                (position(&order, &format!("-{name}")), position(&order, &format!("-{need}")));
            assert!(first < then, "{name} stops before {need}: {order:?}");
        }
    }
}

/// D never becomes healthy: F and G wait for ever, but E runs.
fn edges_not_levels() {
    let mut file = healthy(COMPLEX);
    file = file.replace(
        "[sh, note.sh, d]\n    healthcheck: { log: up }",
        "[sh, note.sh, d]\n    healthcheck: { log: never, interval: 100ms }",
    );
    let home = Home::with(&file);
    home.write("note.sh", NOTE);
    home.run(&["up", "-d"]);
    home.run(&["wait", "--for=healthy", "e"]).ok();
    assert_ne!(home.phase("d-1"), "healthy");
    assert_eq!(home.phase("f-1"), "waiting");
    assert_eq!(home.phase("g-1"), "waiting");
}

fn chain() {
    let home = Home::with(&healthy(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]));
    home.write("note.sh", NOTE);
    home.run(&["up", "-d", "--wait"]).ok();
    home.run(&["stop"]).ok();
    assert_eq!(lines(&home.project().join("order")), ["+a", "+b", "+c", "-c", "-b", "-a"]);
    assert!(home.slots().values().all(|slot| slot["phase"] == "stopped"));
}

fn continue_after_failure() {
    let mut file = healthy(&[("a", &[]), ("d", &["c"]), ("e", &["d"])]);
    file.push_str(
        "  c:\n    command: [sh, -c, \"echo no disk >&2; exit 3\"]\n    healthcheck: { log: never }\n",
    );
    let home = Home::with(&file);
    home.write("note.sh", NOTE);
    let ran = home.run(&["up", "-d", "--wait"]).code(7);
    assert!(ran.stderr.contains("no disk") || ran.stdout.contains("no disk"), "{ran:?}");
    assert_eq!(home.phase("a-1"), "healthy");
    assert_eq!(home.phase("c-1"), "failed");
    assert_eq!(home.phase("d-1"), "dependency_failed");
    assert_eq!(home.phase("e-1"), "dependency_failed");
    let why = home.run(&["why", "e"]).ok().stdout;
    for part in ["d", "c", "exit 3", "no disk"] {
        assert!(why.contains(part), "{part} in:\n{why}");
    }
    // Mended, the chain goes on by itself once what failed is started again.
    home.write("upbeat.yaml", &file.replace("echo no disk >&2; exit 3", "echo never mind never; sleep 600"));
    home.run(&["up", "-d", "--wait"]).ok();
    eventually("e is healthy", || home.phase("e-1") == "healthy");
}

fn cycle() {
    let home = Home::with(&healthy(&[("a", &["c"]), ("b", &["a"]), ("c", &["b"])]));
    let ran = home.run(&["up", "-d"]).code(2);
    assert!(ran.stderr.contains("a → c → b → a"), "{}", ran.stderr);
    assert!(ran.stderr.contains("upbeat.yaml:"), "{}", ran.stderr);
    assert_eq!(home.daemon(), None, "nothing is started by a bad file");
}

fn missing() {
    let home = Home::with(&healthy(&[("database", &[]), ("web", &["databse"])]));
    let ran = home.run(&["up", "-d"]).code(2);
    assert!(ran.stderr.contains("databse") && ran.stderr.contains("`database`"), "{}", ran.stderr);
    assert_eq!(home.daemon(), None);
}

fn the_same_is_told_once() {
    let home = Home::with(
        "services:\n  db: { command: [sleep, \"600\"], healthcheck: { log: never } }\n  cache:\n    command: [x]\n    depends_on: { db: { condition: service_healthy } }\n  web:\n    command: [x]\n    scale: 30\n    depends_on: { cache: { condition: service_started } }\n",
    );
    // It cannot come up, and is not waited for.
    let mut up = home.spawn(&["up"]);
    eventually("all wait", || home.slots().values().filter(|slot| slot["phase"] == "waiting").count() == 31);
    let why = home.run(&["why", "web"]).ok().stdout;
    assert!(why.contains("the same holds for web-2, web-3, ") && why.contains(" and 19 more\n"), "{why}");
    assert_eq!((why.matches("web-1 waits").count(), why.matches("db-1 ").count()), (1, 2), "{why}");
    up.child.kill().unwrap();
    up.end();
}

//! What a person types wrong, or at the wrong time.

use crate::Journey;
use crate::home::Home;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey { name: "without a daemon every command says so and none hangs", needs: &[], run: no_daemon },
        Journey {
            name: "an unknown service gets a suggestion and changes nothing",
            needs: &[],
            run: unknown_service,
        },
        Journey {
            name: "a bad file is refused with its place, and nothing is started",
            needs: &[],
            run: bad_file,
        },
        Journey { name: "state and sockets are private", needs: &[], run: private },
        Journey { name: "a program that is not there fails with its name", needs: &[], run: no_program },
    ]
}

const WEB: &str = "services:\n  web: { command: [sleep, \"600\"] }\n";

fn no_daemon() {
    let home = Home::with(WEB);
    home.run(&["ps"]).code(0);
    for arguments in [&["logs"][..], &["stop"], &["why", "web"], &["down"]] {
        let ran = home.run(arguments);
        assert!([0, 3].contains(&ran.code), "{arguments:?}: {ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
    }
    assert_eq!(home.daemon(), None, "asking starts no daemon");
}

fn unknown_service() {
    let home = Home::with(WEB);
    home.run(&["up", "-d", "--wait"]).ok();
    for verb in ["stop", "start", "restart", "why", "logs"] {
        let ran = home.run(&[verb, "wbe"]).code(3);
        assert!(ran.stderr.contains("`web`"), "{verb}: {}", ran.stderr);
    }
    assert_eq!(home.phase("web-1"), "running");
}

fn bad_file() {
    for (file, place, words) in [
        ("services:\n  web: { comand: [x] }\n", "upbeat.yaml:2:10", "`command`"),
        ("services:\n  web: { command: 7.5.x, scale: many }\n", "upbeat.yaml:2:", "scale"),
        ("services: [a, b]\n", "upbeat.yaml:1:", "services"),
        ("services:\n\tweb: {}\n", "upbeat.yaml:2:", ""),
        ("services:\n  web: { image: Nginx }\n", "upbeat.yaml:2:", "lower case"),
    ] {
        let home = Home::with(file);
        let ran = home.run(&["up", "-d"]).code(2);
        assert!(ran.stderr.contains(place), "{place} in:\n{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{words} in:\n{}", ran.stderr);
        assert_eq!(home.daemon(), None);
    }
}

fn private() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::with(WEB);
    home.run(&["up", "-d", "--wait"]).ok();
    let mut next = vec![home.state(), home.outside("run")];
    while let Some(path) = next.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let mode = metadata.permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{} is open to others", path.display());
        if metadata.is_dir() {
            next.extend(std::fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
    }
}

fn no_program() {
    let home = Home::with("services:\n  web: { command: [bin/wbe, --port, \"1\"] }\n");
    let ran = home.run(&["up", "-d", "--wait"]).code(1);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("bin/wbe") && said.contains("o such file"), "{said}");
}

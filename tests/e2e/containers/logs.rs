//! What containers print, by the same command as what processes print.

use super::{Harbour, journey};
use crate::Journey;
use crate::home::{Ran, eventually};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        journey("what a container prints is followed through the daemon's death, each line once", followed),
        journey("what containers have printed is shown by slot, by its last lines, and by its times", shown),
    ]
}

/// Prints what is written to the file `more`, line by line.
const SAYS: &str =
    r#"["sh", "-c", "exec 3<> /here/more; echo first; while read line <&3; do echo $$line; done"]"#;

fn followed() {
    let harbour = Harbour::new();
    let more = harbour.home.project().join("more");
    assert!(std::process::Command::new("mkfifo").arg(&more).status().unwrap().success());
    harbour.file(&format!(
        "  web: {{ image: IMAGE, command: {SAYS}, volumes: [\".:/here\"], stop_signal: KILL, healthcheck: {{ log: first }} }}\n"
    ));
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let mut logs = harbour.home.spawn(&["logs", "-f", "--no-prefix", "web"]);
    assert_eq!(logs.line().as_deref(), Some("first"));
    std::fs::write(&more, "second\n").unwrap();
    assert_eq!(logs.line().as_deref(), Some("second"));
    let before = harbour.run_of("web-1");
    harbour.home.kill_daemon();
    std::fs::write(&more, "third\n").unwrap();
    assert_eq!(logs.line().as_deref(), Some("third"), "each line once, through the daemon's death");
    assert_eq!(harbour.run_of("web-1"), before);
    let all = harbour.home.run(&["logs", "--no-prefix", "web"]).ok().stdout;
    assert_eq!(all.lines().collect::<Vec<_>>(), ["first", "second", "third"]);
    harbour.home.run(&["down"]).ok();
    assert_eq!(logs.end().code, 0, "it ends with the app");
}

fn shown() {
    let harbour = Harbour::new();
    let prints =
        |words: &str| format!("[sh, -c, \"for n in 1 2 3; do echo {words} $$n; done; echo oh >&2\"]");
    harbour.file(&format!(
        "  job: {{ image: IMAGE, command: {} }}\n  tool: {{ command: {} }}\n",
        prints("of the job"),
        prints("of the tool")
    ));
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let logs = |more: &[&str]| -> Vec<String> {
        let Ran { stdout, .. } = harbour.home.run(&[&["logs"], more].concat()).ok();
        stdout.lines().map(str::to_owned).collect()
    };
    // What comes by two pipes comes in some order.
    let has_ended = |service: &str| logs(&["--no-prefix", service]).len() == 4;
    eventually("all was printed", || has_ended("job") && has_ended("tool"));
    for service in ["job", "tool"] {
        let mut lines = logs(&["--no-prefix", service]);
        lines.retain(|line| line != "oh");
        assert_eq!(lines, (1..=3).map(|n| format!("of the {service} {n}")).collect::<Vec<_>>());
        assert_eq!(logs(&["--no-prefix", "--tail", "2", service]), logs(&["--no-prefix", service])[2..]);
        let timed = logs(&["--no-prefix", "--timestamps", service]);
        let mut times: Vec<&str> = timed.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert!(times.iter().all(|time| time.ends_with('Z') && time.contains('T')), "{timed:?}");
        let told = times.clone();
        times.sort_unstable();
        assert_eq!(times, told, "{timed:?}");
        // Each says whose it is, where it is not said that nobody wants to know.
        assert!(logs(&[service]).iter().all(|line| line.starts_with(&format!("{service}-1"))));
    }
    assert_eq!(logs(&[]).len(), 8);
    assert_eq!(logs(&["--tail", "1"]).len(), 2, "of each slot");
}

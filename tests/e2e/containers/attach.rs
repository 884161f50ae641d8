//! The streams of a container, for whoever comes and goes: nothing of that ends it.

use std::io::Write;
use std::process::Stdio;

use rustix::termios::{Winsize, tcgetattr};

use super::{Harbour, journey};
use crate::Journey;
use crate::home::{Running, eventually, kill};
use crate::terminal::OnTerminal;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        journey("who attaches to a container by pipes speaks with it, and leaves it as it is", pipes),
        journey(
            "who attaches to a container at a terminal has its terminal, and leaves it as it is",
            terminal,
        ),
    ]
}

/// `talks` answers lines and ends with 4 when it is told to; `plain` is a process.
const SERVICES: &str = r#"  talks:
    image: IMAGE
    command: ["sh", "-c", "while read line; do echo \"got $$line\"; [ \"$$line\" = end ] && exit 4; done; echo closed; STAYS"]
    stdin_open: true
  shell: { image: IMAGE, command: [sh], tty: true, stdin_open: true }
  plain: { command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"] }
"#;

fn up() -> Harbour {
    let harbour = Harbour::new();
    harbour.file(&SERVICES.replace("STAYS", "while :; do sleep 0.1; done"));
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    harbour
}

/// With what is to be typed.
fn attached(harbour: &Harbour, arguments: &[&str]) -> (Running, std::process::ChildStdin) {
    let mut command = harbour.home.command(&[&["attach"], arguments].concat());
    let mut client = Running::of(command.stdin(Stdio::piped()).stderr(Stdio::piped()));
    let input = client.child.stdin.take().unwrap();
    (client, input)
}

fn pipes() {
    let harbour = up();
    let before = harbour.run_of("talks-1");
    let (mut first, mut input) = attached(&harbour, &["talks"]);
    input.write_all(b"one\n").unwrap();
    first.until(|line| line == "got one");
    // Its input stays open when this has no more.
    drop(input);
    let (mut second, mut input) = attached(&harbour, &["talks"]);
    input.write_all(b"two\n").unwrap();
    second.until(|line| line == "got two");
    first.until(|line| line == "got two");
    first.signal(15);
    assert_eq!(first.end().code, -1);
    let (mut listens, mut unheard) = attached(&harbour, &["--no-stdin", "talks"]);
    unheard.write_all(b"end\n").unwrap();
    let audit = || harbour.home.run(&["audit", "ls"]).ok().stdout;
    eventually("it listens", || audit().contains("attach talks to listen"));
    input.write_all(b"three\n").unwrap();
    second.until(|line| line == "got three");
    listens.until(|line| line == "got three");
    assert_eq!(harbour.run_of("talks-1"), before);
    // With its end all end, by its status.
    input.write_all(b"end\n").unwrap();
    for client in [second, listens] {
        let ran = client.end();
        assert_eq!((ran.stdout.as_str(), ran.code), ("got end\n", 4), "{}", ran.stderr);
    }
    let ended = harbour.home.run(&["attach", "talks"]).code(4);
    assert!(ended.stderr.contains("`talks-1` does not run"), "{}", ended.stderr);
    let process = harbour.home.run(&["attach", "plain"]).code(2);
    assert!(process.stderr.contains("only containers are attached to"), "{}", process.stderr);
    assert!(process.stderr.contains("`upbeat logs -f plain`"), "{}", process.stderr);
    let proxy = harbour.home.run(&["attach", "--sig-proxy", "shell"]).code(2);
    assert!(proxy.stderr.contains("is not passed on"), "{}", proxy.stderr);
}

fn terminal() {
    let harbour = up();
    let before = harbour.run_of("shell-1");
    let size = Winsize { ws_col: 101, ws_row: 33, ws_xpixel: 0, ws_ypixel: 0 };
    let mut client = OnTerminal::with_input(&harbour.home, &["attach", "shell"], size);
    let was = tcgetattr(client.master()).unwrap();
    client.types("word=ke''pt; until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done; echo la''rge\n");
    client.until("large");
    // Ctrl-C is the container's, and one of the two keys alone, too.
    client.types("\x03\x10echo st''ands\n");
    client.until("stands");
    let after = client.master().try_clone().unwrap();
    client.types("\x10\x11");
    let (_, code) = client.end();
    assert_eq!(code, 0);
    assert_eq!(format!("{:?}", tcgetattr(after).unwrap()), format!("{was:?}"), "as it was");
    // Killed, it leaves the container, too; and who comes back finds the same shell.
    let mut client = OnTerminal::with_input(&harbour.home, &["attach", "--sig-proxy=false", "shell"], size);
    client.types("echo \"$word\"!\n");
    client.until("kept!");
    kill(client.pid(), 15);
    assert_eq!(client.end().1, 128 + 15);
    assert_eq!(harbour.run_of("shell-1"), before);
    assert!(harbour.is_running("shell-1"));
}

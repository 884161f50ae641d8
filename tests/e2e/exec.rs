//! Commands beside services of both kinds: bytes both ways, a terminal, and nothing left of them.

use std::process::Stdio;

use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::containers::Harbour;
use crate::home::{Home, Ran, Running, eventually, kill, processes};
use crate::readme::blocks;
use crate::terminal::OnTerminal;
use crate::{Journey, Need};

pub(crate) fn journeys() -> Vec<Journey> {
    const DOCKER: &[Need] = &[Need::DOCKER];
    vec![
        Journey {
            name: "a command beside a process is given bytes as they are, and its status comes back",
            needs: &[],
            run: || {
                let home = process();
                bytes(&home);
                surroundings_of_process(&home);
            },
        },
        Journey {
            name: "a command in a container is given bytes as they are, and its status comes back",
            needs: DOCKER,
            run: || {
                let harbour = container();
                bytes(&harbour.home);
                refusals_of_container(&harbour.home);
            },
        },
        Journey {
            name: "a command beside a process has a terminal as one's own",
            needs: &[],
            run: || at_terminal(&process()),
        },
        Journey {
            name: "a command in a container has a terminal as one's own",
            needs: DOCKER,
            run: || at_terminal(&container().home),
        },
        Journey {
            name: "of a command beside a process nothing is left when client, service or daemon goes",
            needs: &[],
            run: || nothing_left(&process()),
        },
        Journey {
            name: "of a command in a container nothing is left when client, service or daemon goes",
            needs: DOCKER,
            run: || nothing_left(&container().home),
        },
        Journey { name: "what the docs say of commands beside services, typed", needs: &[], run: documented },
        Journey {
            name: "no command is run beside what runs on, and is not what the file says any more",
            needs: DOCKER,
            run: not_as_the_file_says,
        },
        Journey {
            name: "a command beside what does not run is refused with the reason",
            needs: &[],
            run: refusals,
        },
    ]
}

fn process() -> Home {
    let home = Home::with(
        "services:
  web:
    command: [sh, -c, \"trap 'exit 0' TERM; while :; do sleep 0.1; done\"]
    environment: { COLOUR: blue }
",
    );
    home.run(&["up", "-d", "--wait"]).ok();
    home
}

fn container() -> Harbour {
    let harbour = Harbour::new();
    harbour.file("  web: { image: IMAGE, command: STAYS, environment: { COLOUR: blue } }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    harbour
}

/// Not the same twice in a row, and every byte is in it.
fn many_bytes() -> Vec<u8> {
    (0..1_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn bytes(home: &Home) {
    let (sent, file) = (many_bytes(), home.outside("sent"));
    std::fs::write(&file, &sent).unwrap();
    let input = || Stdio::from(std::fs::File::open(&file).unwrap());
    let back = home.command(&["exec", "-T", "web", "cat"]).stdin(input()).output().unwrap();
    assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
    assert!(back.stdout == sent, "{} of {} bytes", back.stdout.len(), sent.len());
    // To either stream, and from a command that reads no more than it likes.
    let script = "head -c 3 > /dev/null; echo out; echo err >&2; exit 3";
    let both = home.command(&["exec", "-T", "web", "sh", "-c", script]).stdin(input()).output().unwrap();
    assert_eq!((&both.stdout[..], &both.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(both.status.code(), Some(3));
    // The end of input is one, and output goes on after it.
    let said = home.run(&["exec", "-T", "web", "sh", "-c", "cat; echo end"]).ok();
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("end\n", ""));
    home.run(&["exec", "-T", "web", "sh", "-c", "kill -9 $$"]).code(137);
    let missing = home.run(&["exec", "-T", "web", "no-such-program"]).code(127);
    assert!(
        missing.stderr.starts_with("error: Cannot run `no-such-program`: no such "),
        "{}",
        missing.stderr
    );
    assert_eq!(missing.stdout, "");
    let directory = home.run(&["exec", "-T", "web", "/tmp"]).code(126);
    assert!(directory.stderr.starts_with("error: Cannot run `/tmp`: "), "{}", directory.stderr);
    let printed = "echo $COLOUR $SIZE $PWD";
    let asked = ["exec", "-T", "-e", "SIZE=big", "-w", "/tmp", "web", "sh", "-c", printed];
    assert_eq!(home.run(&asked).ok().stdout, "blue big /tmp\n");
    // Who reads no more ends it.
    let script = "\"$UPBEAT\" exec -T web sh -c 'while :; do echo y; done' | head -n 1";
    let ran = home.shell(script).env("UPBEAT", env!("CARGO_BIN_EXE_upbeat")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "y\n");
    let audit = home.run(&["audit", "ls"]).ok().stdout;
    assert!(audit.contains("exec web: cat"), "{audit}");
    assert!(!audit.contains("big"), "{audit}");
}

/// As the service itself has them.
fn surroundings_of_process(home: &Home) {
    let place = home.run(&["exec", "-T", "web", "sh", "-c", "pwd; ulimit -n; id -u"]).ok().stdout;
    let own = home.pid("web-1");
    let cwd = std::fs::read_link(format!("/proc/{own}/cwd")).unwrap();
    assert_eq!(place.lines().next().unwrap(), cwd.display().to_string());
    let unknown = home.run(&["exec", "-T", "-u", "no-such-user", "web", "true"]).code(126);
    assert!(
        unknown.stderr.contains("there is no user or group `no-such-user`")
            || unknown.stderr.contains("There is no user or group `no-such-user`"),
        "{}",
        unknown.stderr
    );
}

fn refusals_of_container(home: &Home) {
    let unknown = home.run(&["exec", "-T", "-u", "no-such-user", "web", "true"]).code(126);
    assert!(unknown.stderr.contains("no user `no-such-user` in the image"), "{}", unknown.stderr);
    let nowhere = home.run(&["exec", "-T", "-w", "/no/such/place", "web", "true"]).code(126);
    assert!(nowhere.stderr.contains("cannot be entered"), "{}", nowhere.stderr);
    // Words of an engine in the mouth of a command are the command's.
    let words = "OCI runtime exec failed: so my log says";
    for code in [0, 3] {
        let script = format!("echo '{words}'; exit {code}");
        let ran = home.run(&["exec", "-T", "web", "sh", "-c", &script]).code(code);
        assert_eq!(ran.stdout, format!("{words}\n"));
    }
}

fn at_terminal(home: &Home) {
    let size = |columns, rows| Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    let mut shell = OnTerminal::with_input(home, &["exec", "web", "sh"], size(101, 33));
    let before = tcgetattr(shell.master()).unwrap();
    shell.types("tty; echo st''ands\n");
    assert!(shell.until("stands").contains("/dev/pts/"));
    // A size is told as soon as there is somebody to be told it.
    shell.types("until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done; echo fi''rst\n");
    shell.until("first");
    tcsetwinsize(shell.master(), size(120, 40)).unwrap();
    kill(shell.pid(), 28);
    shell.types("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.1; done; echo se''cond\n");
    shell.until("second");
    // What ends a command here ends nothing but a command there.
    shell.types("sh -c 'trap \"echo cau\"\"ght; exit 9\" INT; echo rea\"\"dy; while :; do sleep 0.1; done'; echo with $?\n");
    shell.until("ready");
    shell.types("\x03");
    shell.until("caught");
    shell.until("with 9");
    // No key is held back until the next one, not even that by which an engine would let go.
    shell.types("stty raw; echo ra''w; dd bs=1 count=1 >/dev/null 2>&1; stty sane; echo he''re\n");
    shell.until("raw");
    shell.types("\x10");
    shell.until("here");
    shell.types("exit 5\n");
    let after = shell.master().try_clone().unwrap();
    let (_, code) = shell.end();
    assert_eq!(code, 5);
    let after = tcgetattr(after).unwrap();
    assert_eq!(format!("{after:?}"), format!("{before:?}"), "the terminal is as it was");
    // Killed, it leaves the terminal as it was, too.
    let mut shell = OnTerminal::with_input(home, &["exec", "web", "sh"], size(80, 24));
    shell.types("echo st''ands\n");
    shell.until("stands");
    assert_ne!(format!("{:?}", tcgetattr(shell.master()).unwrap()), format!("{before:?}"));
    kill(shell.pid(), 15);
    let after = shell.master().try_clone().unwrap();
    let (_, code) = shell.end();
    assert_eq!(code, 128 + 15);
    assert_eq!(format!("{:?}", tcgetattr(after).unwrap()), format!("{before:?}"));
}

/// A command that stays, known by this word, and with a child that stays as well; begun.
fn staying(home: &Home, word: &str) -> Running {
    let script = "(trap '' HUP TERM INT; while :; do sleep 1; done) & echo here; while :; do sleep 1; done";
    let mut client = home.spawn(&["exec", "-T", "web", "sh", "-c", script, word]);
    client.until(|line| line == "here");
    client
}

/// Who was given this word, but for clients.
fn of(word: &str) -> Vec<i32> {
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        words.contains(&word.as_bytes()) && !words.contains(&&b"exec"[..])
    };
    processes().filter(has).collect()
}

fn nothing_left(home: &Home) {
    let word = |what: &str| format!("{what}-of-{}", home.project().display());
    let client = staying(home, &word("client"));
    eventually("both run", || of(&word("client")).len() == 2);
    client.signal(9);
    client.end();
    eventually("nothing is left without the client", || of(&word("client")).is_empty());
    let client = staying(home, &word("service"));
    home.run(&["stop", "web"]).ok();
    let Ran { code, stderr, .. } = client.end();
    assert!(code == 1 && stderr.contains("ended"), "{code} {stderr}");
    eventually("nothing is left without the service", || of(&word("service")).is_empty());
    home.run(&["start", "web"]).ok();
    let client = staying(home, &word("daemon"));
    home.kill_daemon();
    let Ran { code, stderr, .. } = client.end();
    assert!(code == 1 && stderr.contains("its daemon is gone"), "{code} {stderr}");
    home.run(&["up", "-d"]).ok();
    eventually("nothing is left of a daemon that was killed", || of(&word("daemon")).is_empty());
    // Whoever ends it in order, too.
    let client = staying(home, &word("order"));
    home.run(&["serve", "--stop"]).ok();
    let Ran { code, stderr, .. } = client.end();
    assert!(code == 1 && stderr.contains("ended"), "{code} {stderr}");
    home.run(&["up", "-d"]).ok();
    eventually("nothing is left of a daemon that ended", || of(&word("order")).is_empty());
    home.run(&["down"]).ok();
}

fn refusals() {
    let home = Home::with(
        "services:
  web: { command: [sleep, \"600\"], scale: 2 }
  once: { command: [\"true\"] }
  waits: { command: [sleep, \"600\"], depends_on: { bad: { condition: service_started } } }
  bad: { command: [./missing] }
",
    );
    home.run(&["up", "-d"]);
    eventually("it has ended", || home.phase("once-1") == "completed");
    eventually("it cannot start", || home.phase("waits-1") == "dependency_failed");
    for (arguments, code, words) in [
        (&["exec", "-T", "wbe", "true"][..], 3, "did you mean `web`?"),
        (&["exec", "-T", "once", "true"], 4, "`once-1` does not run: it is completed"),
        (&["exec", "-T", "waits", "true"], 4, "`waits-1` does not run: it is dependency failed"),
        (&["exec", "-T", "--index", "3", "web", "true"], 3, "`web` has no copy 3\nhint: there is 1, 2"),
        (&["exec", "-d", "web", "true"], 2, "leave out `-d`"),
        (&["exec", "-t", "web", "true"], 2, "leave out `-t`"),
        (&["-o", "json", "exec", "web", "true"], 2, "leave out `-o json`"),
        (&["exec", "web"], 2, "<COMMAND>..."),
    ] {
        let refused = home.run(arguments).code(code);
        assert!(refused.stderr.contains(words), "{arguments:?}: {}", refused.stderr);
    }
    for index in ["1", "2"] {
        let asked = ["exec", "-T", "--index", index, "web", "sh", "-c", "echo $PPID"];
        home.run(&asked).ok();
    }
}

fn not_as_the_file_says() {
    let harbour = Harbour::new();
    let file = |value: &str, image: &str| {
        let web = format!("  web: {{ command: [sleep, \"600\"], environment: {{ V: {value} }} }}\n");
        harbour.file(&format!("{web}  other: {{ image: {image}, command: STAYS }}\n"));
    };
    let asked = ["exec", "-T", "web", "sh", "-c", "echo $V"];
    file("one", "IMAGE");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(harbour.home.run(&asked).ok().stdout, "one\n");
    // Nothing is touched, as not everything new can be made.
    file("two", "\"127.0.0.1:9/none:1\"");
    harbour.home.run(&["up", "-d"]).code(1);
    let refused = harbour.home.run(&asked).code(4);
    assert!(refused.stderr.contains("is about to be replaced"), "{}", refused.stderr);
}

/// The example of the page, as it is typed there.
fn documented() {
    let home = process();
    std::fs::write(home.project().join("dump.sql"), "select 1;\n").unwrap();
    let typed = blocks("docs/services.md", "sh");
    let [typed] = typed.iter().filter(|block| block.contains("upbeat exec")).collect::<Vec<_>>()[..] else {
        panic!("one example of `exec` in docs/services.md")
    };
    let script = format!("set -eu\nupbeat() {{ \"$UPBEAT\" \"$@\"; }}\n{typed}");
    let ran = home.shell(&script).env("UPBEAT", env!("CARGO_BIN_EXE_upbeat")).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(home.read("copy.sql"), "select 1;\n");
    assert!(said.contains("blue"), "{said}");
}

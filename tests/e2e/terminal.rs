//! What a person at a terminal sees, what a pipe gets, and what `NO_COLOR` changes.

use std::fs::{File, OpenOptions};
use std::io::Read;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::Journey;
use crate::home::Home;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![Journey {
        name: "colours are for terminals, and not where NO_COLOR is set",
        needs: &[],
        run: colours,
    }]
}

/// What a command prints on a terminal of its own, and its status.
fn on_a_terminal(home: &Home, arguments: &[&str]) -> (String, i32) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = OpenOptions::new().read(true).write(true).open(name).unwrap();
    let mut command = home.command(arguments);
    let mut child = command.stdout(terminal.try_clone().unwrap()).stderr(terminal).spawn().unwrap();
    // The last copy of the terminal in this process, or reading would not end.
    drop(command);
    let mut text = Vec::new();
    // It ends by an error when nobody has the terminal any more.
    let _ = File::from(master).read_to_end(&mut text);
    let code = child.wait().unwrap().code().unwrap();
    (String::from_utf8(text).unwrap().replace("\r\n", "\n"), code)
}

fn colours() {
    let mut home = Home::with(
        "services:\n  web: { command: [sh, -c, \"echo hello; sleep 600\"], healthcheck: { log: hello } }\n  bad: { command: [./missing] }\n",
    );
    let commands: [(&[&str], i32); 9] = [
        (&["up", "-d", "--wait"], 1),
        (&["ps", "-a"], 0),
        (&["why", "bad"], 0),
        (&["plan"], 0),
        (&["graph"], 0),
        (&["events"], 0),
        (&["logs"], 0),
        (&["why", "nobody"], 3),
        (&["down"], 0),
    ];
    for (command, code) in commands {
        if command[0] == "down" {
            home.run(&["start", "web"]).ok();
        }
        let (coloured, ended) = on_a_terminal(&home, command);
        assert_eq!(ended, code, "{command:?}: {coloured}");
        assert!(
            coloured.contains('\u{1b}') || command[0] == "down",
            "{command:?} without colour: {coloured}"
        );
        home.set("NO_COLOR", "1");
        if command[0] == "down" {
            home.run(&["up", "-d"]);
        }
        let (plain, ended) = on_a_terminal(&home, command);
        assert_eq!(ended, code, "{command:?}: {plain}");
        assert!(!plain.contains('\u{1b}'), "{command:?} with NO_COLOR: {plain:?}");
        home.unset("NO_COLOR");
        let piped = home.run(command);
        assert!(!(piped.stdout + &piped.stderr).contains('\u{1b}'), "{command:?} into a pipe");
    }
}

//! What a person at a terminal sees, what a pipe gets, and what `NO_COLOR` changes.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::Child;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::Journey;
use crate::home::Home;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![Journey {
        name: "colours are for terminals, and not where NO_COLOR is set",
        needs: &[],
        run: colours,
    }]
}

/// A command on a terminal of its own.
pub(crate) struct OnTerminal {
    child: Child,
    master: File,
    text: Vec<u8>,
}

impl OnTerminal {
    pub(crate) fn spawn(home: &Home, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = OpenOptions::new().read(true).write(true).open(name).unwrap();
        // The command is dropped, and with it the last copy of the terminal in this process: reading would not end.
        let child =
            home.command(arguments).stdout(terminal.try_clone().unwrap()).stderr(terminal).spawn().unwrap();
        Self { child, master: File::from(master), text: Vec::new() }
    }

    /// The same, where it is typed at the terminal, too, which is so large.
    pub(crate) fn with_input(home: &Home, arguments: &[&str], size: Winsize) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let [input, output] = [(); 2].map(|()| terminal.try_clone().unwrap());
        let child = home.command(arguments).stdin(input).stdout(output).stderr(terminal).spawn().unwrap();
        Self { child, master: File::from(master), text: Vec::new() }
    }

    /// Types it.
    pub(crate) fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// The person's end.
    pub(crate) fn master(&self) -> &File {
        &self.master
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// All it has printed by the time that these words are there.
    #[track_caller]
    pub(crate) fn until(&mut self, words: &str) -> String {
        let mut some = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&self.text).into_owned();
            if text.contains(words) {
                return text;
            }
            let read =
                self.master.read(&mut some).unwrap_or_else(|error| panic!("{error} before {words}: {text}"));
            self.text.extend_from_slice(&some[..read]);
        }
    }

    /// What it printed, and its status.
    pub(crate) fn end(mut self) -> (String, i32) {
        // It ends by an error when nobody has the terminal any more.
        let _ = self.master.read_to_end(&mut self.text);
        let code = self.child.wait().unwrap().code().unwrap();
        (String::from_utf8(self.text).unwrap().replace("\r\n", "\n"), code)
    }
}

fn on_a_terminal(home: &Home, arguments: &[&str]) -> (String, i32) {
    OnTerminal::spawn(home, arguments).end()
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

//! What the kernel says of a process in one line, `/proc/PID/stat`.

use std::fs;
use std::io;

use rustix::io::Errno;

/// A process. Numbers of processes are 0 where the kernel has no number to give: whoever is meant lives
/// outside of our PID namespace, as the leader of a container's session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// One letter: `R`, `S`, `T`, `Z` ...
    pub state: u8,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// On a CPU, in ticks.
    pub time: u64,
    /// The same of its children that it has reaped.
    pub time_of_children: u64,
    /// When it was forked, in ticks since boot: with its number, its identity.
    pub begun: u64,
    /// Of memory.
    pub resident_pages: u64,
    /// How a zombie ended, as `waitpid` has it. 0 for whoever may not know.
    pub end: i32,
}

impl Stat {
    /// `None`: it has ended, and was reaped. Errors: it cannot be looked at.
    pub fn of(pid: i32) -> io::Result<Option<Self>> {
        Ok(of_process(fs::read(format!("/proc/{pid}/stat")))?.and_then(|line| Self::parse(&line)))
    }

    /// The same of whoever asks.
    pub fn own() -> io::Result<Option<Self>> {
        Ok(of_process(fs::read("/proc/self/stat"))?.and_then(|line| Self::parse(&line)))
    }

    /// It does nothing any more.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    fn parse(line: &[u8]) -> Option<Self> {
        // The name before may hold anything: brackets, and bytes that are no text.
        let rest = &line[line.iter().rposition(|byte| *byte == b')')? + 1..];
        let mut fields = std::str::from_utf8(rest).ok()?.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let mut pid = || fields.next()?.parse::<i32>().ok();
        let (parent, group, session) = (pid()?, pid()?, pid()?);
        // Fields 14 to 17, 22, 24 and 52 of the line; the one after the session is 7.
        let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        let (user, system) = (number(7)?, number(0)?);
        let (user_below, system_below) = (number(0)?, number(0)?);
        let (begun, resident_pages) = (number(4)?, number(1)?);
        let end = fields.nth(27)?.parse().ok()?;
        let (time, time_of_children) = (user + system, user_below + system_below);
        Some(Self { state, parent, group, session, time, time_of_children, begun, resident_pages, end })
    }
}

/// What the kernel says of a process. `None`: it has ended.
pub fn of_process<T>(said: io::Result<T>) -> io::Result<Option<T>> {
    match said {
        Ok(said) => Ok(Some(said)),
        // It is not there, or is not any more when it is read.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::SRCH)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_name() {
        // Each field but the state has its number for its value.
        let numbers = (4..=52).map(|field| format!(" {field}")).collect::<String>();
        let line = |name: &[u8]| [b"7 (", name, b") S", numbers.as_bytes(), b"\n"].concat();
        let stat = Stat::parse(&line(b"a b")).unwrap();
        assert_eq!((stat.state, stat.parent, stat.group, stat.session), (b'S', 4, 5, 6));
        assert_eq!((stat.time, stat.time_of_children, stat.begun), (14 + 15, 16 + 17, 22));
        assert_eq!((stat.resident_pages, stat.end, stat.is_dead()), (24, 52, false));
        for name in [&b") S 1 ("[..], b"\xff\xfe", b"", b"a\nb", b"))"] {
            assert_eq!(Stat::parse(&line(name)), Some(stat), "{name:?}");
        }
        for short in [&b"7 (a"[..], b"7 (a) ", b"7 (a) S 1 2", b""] {
            assert_eq!(Stat::parse(short), None, "{short:?}");
        }
    }

    #[test]
    fn whoever_is_there_is_found() {
        let own = Stat::own().unwrap().unwrap();
        assert_eq!(Stat::of(std::process::id() as i32).unwrap().unwrap().begun, own.begun);
        let mut child = std::process::Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let pid = child.id() as i32;
        let stat = Stat::of(pid).unwrap().unwrap();
        assert_eq!((stat.parent, stat.group, stat.session), (std::process::id() as i32, pid, own.session));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Stat::of(pid).unwrap(), None);
    }
}

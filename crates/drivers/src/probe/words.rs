//! How an answer is said to people: the same in the same words, short, and on one line.

use std::io;

use rustix::io::Errno;

/// A message is shown in tables and kept in events.
const MESSAGE_MAX: usize = 200;

/// At most so many characters; what would move the cursor or the eye is escaped.
pub(crate) fn shown(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() && !is_hidden(c);
    if text.len() <= MESSAGE_MAX && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut count = 0;
    for c in text.chars() {
        let piece = if is_plain(c) { c.to_string() } else { c.escape_default().to_string() };
        count += piece.chars().count();
        // One place is kept for the sign that something is missing.
        if count >= MESSAGE_MAX {
            shown.push('…');
            break;
        }
        shown.push_str(&piece);
    }
    shown
}

/// Marks of direction, joiners and ends of lines that are no control characters.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Why an answer is not yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum No {
    /// It is no, and this is what was said.
    Said(String),
    /// It could not be asked, for this want of ours: no word about the service.
    Unasked(String),
}

impl From<String> for No {
    fn from(said: String) -> Self {
        Self::Said(said)
    }
}

impl From<&str> for No {
    fn from(said: &str) -> Self {
        Self::Said(said.to_owned())
    }
}

impl No {
    /// In words, where it does not matter whose want it is.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Said(words) | Self::Unasked(words) => words,
        }
    }

    /// What was tried, before what came of it.
    pub(crate) fn of(self, what: &str) -> Self {
        match self {
            Self::Said(said) => Self::Said(format!("{what}: {said}")),
            Self::Unasked(why) => Self::Unasked(why),
        }
    }
}

/// What was not asked for want of files comes to.
const OUT_OF_FILES: &str = "could not be asked: the daemon has no open files left";

/// What the system said to a question: of the service, or that there is something missing here.
pub(crate) fn error(error: &io::Error) -> No {
    match is_out_of_files(error) {
        true => No::Unasked(OUT_OF_FILES.into()),
        false => No::Said(said(error)),
    }
}

/// The same where it can say nothing of the service, as when it is the kernel that is asked.
pub(crate) fn unasked(error: &io::Error) -> No {
    match is_out_of_files(error) {
        true => No::Unasked(OUT_OF_FILES.into()),
        false => No::Unasked(format!("could not be asked: {}", said(error))),
    }
}

pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// `connection refused`: as people say it.
pub(crate) fn said(error: &io::Error) -> String {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection reset".into(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "not reachable".into(),
        ErrorKind::TimedOut => "it does not answer".into(),
        ErrorKind::NotFound => "it is not there".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        _ => match error.raw_os_error() {
            // What the system says ends with its number, which helps nobody.
            Some(_) => error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase(),
            None => error.to_string(),
        },
    }
}

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("bytes", 1)];

/// A limit: exact where it is a round number.
pub(crate) fn bytes(count: u64) -> String {
    let whole = UNITS.iter().find(|(_, unit)| count >= *unit && count.is_multiple_of(*unit));
    let (name, unit) = whole.copied().unwrap_or(("bytes", 1));
    match count {
        1 => "1 byte".to_owned(),
        _ => format!("{} {name}", count / unit),
    }
}

/// Something measured, to two digits: it does not change its words with every measurement.
pub(crate) fn about_bytes(count: u64) -> String {
    let (name, unit) = UNITS.iter().find(|(_, unit)| count >= *unit).copied().unwrap_or(("bytes", 1));
    // Below ten, tenths are the second digit.
    match count / unit {
        0..10 if unit > 1 => {
            let tenths = count / (unit / 10).max(1);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        1 if unit == 1 => "1 byte".to_owned(),
        whole => format!("{} {name}", about(whole)),
    }
}

/// So many of them.
pub(crate) fn open_files(count: u64) -> String {
    format!("{count} open file{}", if count == 1 { "" } else { "s" })
}

/// Two digits of a number.
pub(crate) fn about(count: u64) -> u64 {
    let mut scale = 1;
    while count / scale >= 100 {
        scale *= 10;
    }
    count / scale * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_short_line() {
        assert_eq!(shown("HTTP 200"), "HTTP 200");
        assert_eq!(shown("a\x1b[31m\nb\u{202e}c"), "a\\u{1b}[31m\\nb\\u{202e}c");
        for long in ["x".repeat(500), "\n".repeat(500), "ä".repeat(500)] {
            let shown = shown(&long);
            assert!(shown.chars().count() <= MESSAGE_MAX && shown.ends_with('…'), "{shown}");
        }
    }

    #[test]
    fn numbers_are_said_as_limits_or_as_measured() {
        assert_eq!(bytes(100 << 20), "100 MiB");
        assert_eq!(bytes(1_000_000), "1000000 bytes");
        assert_eq!(
            (bytes(0), bytes(1), about_bytes(1)),
            ("0 bytes".into(), "1 byte".into(), "1 byte".into())
        );
        assert_eq!(open_files(1), "1 open file");
        assert_eq!(about_bytes(137 << 20), "130 MiB");
        assert_eq!(about_bytes((3 << 30) + (700 << 20)), "3.6 GiB");
        assert_eq!(about_bytes(7), "7 bytes");
        assert_eq!(about_bytes(u64::MAX), "17000000000 GiB");
        assert_eq!((about(0), about(99), about(1_234)), (0, 99, 1_200));
    }

    #[test]
    fn errors_of_the_system_come_without_their_number() {
        let of = |errno: Errno| error(&io::Error::from(errno));
        assert_eq!(of(Errno::CONNREFUSED), No::from("connection refused"));
        assert_eq!(of(Errno::NOBUFS), No::from("no buffer space available"));
        let kernel = unasked(&Errno::IO.into());
        assert_eq!(kernel, No::Unasked("could not be asked: input/output error".into()));
        for want in [Errno::MFILE, Errno::NFILE].map(io::Error::from) {
            let unheard = No::Unasked(OUT_OF_FILES.into());
            assert_eq!(
                [error(&want), error(&want).of("its log"), unasked(&want)],
                [unheard.clone(), unheard.clone(), unheard]
            );
        }
        assert_eq!(of(Errno::IO).of("its log"), No::from("its log: input/output error"));
    }
}

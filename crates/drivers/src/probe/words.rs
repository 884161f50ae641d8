//! How an answer is said to people: the same in the same words, short, and on one line.

use std::io;

use rustix::io::Errno;

/// A message is shown in tables and kept in events.
const MESSAGE_MAX: usize = 200;

/// At most so many characters; what would move the cursor or the eye is escaped.
pub(super) fn shown(text: &str) -> String {
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

/// `connection refused`: as people say it.
pub(super) fn error(error: &io::Error) -> String {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection reset".into(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "not reachable".into(),
        ErrorKind::TimedOut => "it does not answer".into(),
        ErrorKind::NotFound => "it is not there".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        _ => match error.raw_os_error().map(Errno::from_raw_os_error) {
            // What the system says ends with its number, which helps nobody.
            Some(_) => error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase(),
            None => error.to_string(),
        },
    }
}

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("bytes", 1)];

/// A limit: exact where it is a round number.
pub(super) fn bytes(count: u64) -> String {
    let whole = UNITS.iter().find(|(_, unit)| count >= *unit && count.is_multiple_of(*unit));
    let (name, unit) = whole.copied().unwrap_or(("bytes", 1));
    format!("{} {name}", count / unit)
}

/// Something measured, to two digits: it does not change its words with every measurement.
pub(super) fn about_bytes(count: u64) -> String {
    let (name, unit) = UNITS.iter().find(|(_, unit)| count >= *unit).copied().unwrap_or(("bytes", 1));
    // Below ten, tenths are the second digit.
    match count / unit {
        0..10 if unit > 1 => {
            let tenths = count / (unit / 10).max(1);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        whole => format!("{} {name}", about(whole)),
    }
}

/// Two digits of a number.
pub(super) fn about(count: u64) -> u64 {
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
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(about_bytes(137 << 20), "130 MiB");
        assert_eq!(about_bytes((3 << 30) + (700 << 20)), "3.6 GiB");
        assert_eq!(about_bytes(7), "7 bytes");
        assert_eq!(about_bytes(u64::MAX), "17000000000 GiB");
        assert_eq!((about(0), about(99), about(1_234)), (0, 99, 1_200));
    }

    #[test]
    fn errors_of_the_system_come_without_their_number() {
        let of = |errno: Errno| error(&io::Error::from(errno));
        assert_eq!(of(Errno::CONNREFUSED), "connection refused");
        assert_eq!(of(Errno::MFILE), "too many open files");
    }
}

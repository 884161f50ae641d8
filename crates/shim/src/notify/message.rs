//! What one datagram says, read as `sd_notify(3)` describes it.
//!
//! Assignments that are not known, or whose values make no sense, are passed over, as the protocol
//! says; the others in the same datagram count. They stand in no order.

/// No datagram is longer; one that is says nothing. As much as systemd reads of one.
pub const DATAGRAM_MAX: usize = 4096;

/// A status is cut off after so many bytes: it is one line, to be read by people.
pub const STATUS_MAX: usize = 1024;

/// The kernel's last error number.
const ERRNO_MAX: i32 = 4095;

/// What a datagram says of the watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watchdog {
    /// `1`: all is well.
    Ping,
    /// `trigger`: it is not, and whoever watches shall act as if nothing had been heard for too long.
    Trigger,
}

/// What one datagram says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) ready: bool,
    pub(crate) reloading: bool,
    /// When it began to reload, in microseconds on the clock `CLOCK_MONOTONIC`.
    pub(crate) monotonic_usec: Option<u64>,
    pub(crate) stopping: bool,
    /// For people. May be empty: then there is none any more.
    pub(crate) status: Option<String>,
    /// 0: none any more.
    pub(crate) errno: Option<i32>,
    /// Above 1.
    pub(crate) main_pid: Option<i32>,
    pub(crate) extend_usec: Option<u64>,
    pub(crate) watchdog: Option<Watchdog>,
    /// 0: none any more.
    pub(crate) watchdog_usec: Option<u64>,
}

impl Message {
    /// Of a whole datagram. One that holds a zero byte, other than as its last, says nothing.
    ///
    /// `BARRIER=1` is not looked for: whoever reads a datagram gets none of the descriptors that came
    /// with it, so the one it waits for is closed when it is read, which is after all before it.
    pub(crate) fn parse(datagram: &[u8]) -> Self {
        let mut message = Self::default();
        let datagram = datagram.strip_suffix(b"\0").unwrap_or(datagram);
        if datagram.len() > DATAGRAM_MAX || datagram.contains(&0) {
            return message;
        }
        for line in datagram.split(|byte| *byte == b'\n') {
            if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
                message.assign(&line[..equals], &line[equals + 1..]);
            }
        }
        message
    }

    fn assign(&mut self, name: &[u8], value: &[u8]) {
        match (name, value) {
            (b"READY", b"1") => self.ready = true,
            (b"RELOADING", b"1") => self.reloading = true,
            (b"STOPPING", b"1") => self.stopping = true,
            // The graver of the two, in whatever order they come.
            (b"WATCHDOG", b"trigger") => self.watchdog = Some(Watchdog::Trigger),
            (b"WATCHDOG", b"1") => self.watchdog = self.watchdog.or(Some(Watchdog::Ping)),
            (b"STATUS", text) => self.status = self.status.take().or_else(|| Some(plain(text))),
            (b"MONOTONIC_USEC", _) => first(&mut self.monotonic_usec, number(value)),
            (b"EXTEND_TIMEOUT_USEC", _) => first(&mut self.extend_usec, number(value)),
            (b"WATCHDOG_USEC", _) => first(&mut self.watchdog_usec, number(value)),
            (b"ERRNO", _) => first(&mut self.errno, number(value).filter(|n| (0..=ERRNO_MAX).contains(n))),
            (b"MAINPID", _) => first(&mut self.main_pid, number(value).filter(|pid| *pid > 1)),
            _ => {}
        }
    }
}

/// Where something is said twice, the first counts.
fn first<T>(field: &mut Option<T>, value: Option<T>) {
    if field.is_none() {
        *field = value;
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    // `parse` would take a sign too.
    let is_plain = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}

/// Stands where a text is cut.
const CUT: char = '…';

/// What can be shown: no control characters, which a terminal obeys, nor those that turn the order of
/// letters around.
fn plain(text: &[u8]) -> String {
    let mut plain = String::new();
    for letter in String::from_utf8_lossy(text).chars() {
        let is_harmful = letter.is_control()
            || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
        let letter = if is_harmful { char::REPLACEMENT_CHARACTER } else { letter };
        if plain.len() + letter.len_utf8() > STATUS_MAX {
            // Whoever looks for secrets has to see where it is cut.
            while plain.len() + CUT.len_utf8() > STATUS_MAX {
                plain.pop();
            }
            plain.push(CUT);
            break;
        }
        plain.push(letter);
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Message {
        Message::parse(text.as_bytes())
    }

    #[test]
    fn a_datagram_may_say_much_at_once() {
        let all = "READY=1\nRELOADING=1\nMONOTONIC_USEC=5\nSTOPPING=1\nSTATUS=a=b c\nERRNO=2\nMAINPID=77\n\
                   EXTEND_TIMEOUT_USEC=9\nWATCHDOG=1\nWATCHDOG_USEC=8\nBARRIER=1\nFDSTORE=1\nX_MINE=1\n";
        let expected = Message {
            ready: true,
            reloading: true,
            monotonic_usec: Some(5),
            stopping: true,
            status: Some("a=b c".into()),
            errno: Some(2),
            main_pid: Some(77),
            extend_usec: Some(9),
            watchdog: Some(Watchdog::Ping),
            watchdog_usec: Some(8),
        };
        assert_eq!(parse(all), expected);
        let mut reversed: Vec<&str> = all.lines().collect();
        reversed.reverse();
        assert_eq!(parse(&reversed.join("\n")), expected);
        assert_eq!(parse("WATCHDOG=trigger\nWATCHDOG=1"), parse("WATCHDOG=1\nWATCHDOG=trigger"));
        assert_eq!(parse("READY=1\0"), parse("READY=1"));
    }

    #[test]
    fn what_makes_no_sense_is_passed_over() {
        for text in [
            "",
            "\n\n",
            "READY",
            "READY=",
            "READY=0",
            "READY=1 ",
            " READY=1",
            "ready=1",
            "=1",
            "STOPPING=yes",
            "WATCHDOG=2",
            "MAINPID=0",
            "MAINPID=1",
            "MAINPID=-5",
            "MAINPID=+5",
            "MAINPID=99999999999",
            "ERRNO=-1",
            "ERRNO=4096",
            "ERRNO=",
            "WATCHDOG_USEC=18446744073709551616",
            "WATCHDOG_USEC=1s",
            "READY=1\0STATUS=x",
            "\0READY=1",
        ] {
            assert_eq!(parse(text), Message::default(), "{text:?}");
        }
        assert!(parse("NONSENSE\nREADY=1\n\u{1}\u{2}").ready);
        let long = format!("READY=1\nSTATUS={}", "x".repeat(DATAGRAM_MAX));
        assert_eq!(parse(&long), Message::default());
    }

    #[test]
    fn a_status_is_short_and_plain() {
        let status = |text: &[u8]| Message::parse(&[b"STATUS=", text].concat()).status.unwrap();
        assert_eq!(status(b"a\x1b[31m\tb\x7f\xff"), "a\u{fffd}[31m\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(status("\u{202e}evil".as_bytes()), "\u{fffd}evil");
        assert_eq!(status(b""), "");
        for before in [&b""[..], b"x"] {
            let cut = status(&[before, "\u{e9}".repeat(1000).as_bytes()].concat());
            assert_eq!((cut.len(), cut.ends_with("é…")), (STATUS_MAX - 1 + before.len(), true));
        }
        let whole = "x".repeat(STATUS_MAX);
        assert_eq!(status(whole.as_bytes()), whole);
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(datagram: Vec<u8>) {
            let message = Message::parse(&datagram);
            prop_assert!(message.status.is_none_or(|text| text.len() <= STATUS_MAX));
        }

        #[test]
        fn hostile_values_stay_in_their_fields(
            name in "(READY|STATUS|ERRNO|MAINPID|WATCHDOG|WATCHDOG_USEC|EXTEND_TIMEOUT_USEC|[A-Z]{1,9})",
            value in proptest::collection::vec(any::<u8>().prop_filter("ends it", |b| ![0, b'\n'].contains(b)), 0..64),
        ) {
            let message = Message::parse(&[name.as_bytes(), b"=", &value, b"\nSTOPPING=1"].concat());
            prop_assert!(message.stopping);
            prop_assert!(message.status.as_ref().is_none_or(|text| !text.chars().any(char::is_control)));
            prop_assert_eq!(message.status.is_some(), name == "STATUS");
            prop_assert!(message.errno.is_none_or(|errno| (0..=ERRNO_MAX).contains(&errno)));
            prop_assert!(message.main_pid.is_none_or(|pid| pid > 1));
        }

        #[test]
        fn what_is_said_is_read(
            ready: bool, stopping: bool, extend: Option<u64>, usec: Option<u64>, pid in proptest::option::of(2..i32::MAX),
            status in proptest::option::of("[a-z\u{e4}= ]{0,40}"),
        ) {
            let mut lines = Vec::new();
            lines.extend(ready.then(|| "READY=1".to_owned()));
            lines.extend(extend.map(|n| format!("EXTEND_TIMEOUT_USEC={n}")));
            lines.extend(status.as_ref().map(|text| format!("STATUS={text}")));
            lines.extend(usec.map(|n| format!("WATCHDOG_USEC={n}")));
            lines.extend(pid.map(|n| format!("MAINPID={n}")));
            lines.extend(stopping.then(|| "STOPPING=1".to_owned()));
            let expected = Message {
                ready, stopping, extend_usec: extend, watchdog_usec: usec, main_pid: pid, status,
                ..Message::default()
            };
            prop_assert_eq!(parse(&lines.join("\n")), expected);
        }
    }
}

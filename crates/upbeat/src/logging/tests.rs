//! Records in every form, and readers that hang, reset, refuse, come back or take only little.

use std::io::{BufRead, BufReader, IoSliceMut, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

use super::encode::{Encoding, Framing, Wire};
use super::line::{Line, Patience};
use super::queue::{BYTES_MAX, Next, Queue};
use super::record::{Record, TEXT_MAX, Value};
use super::settings::{LogFormat, LogSettings, Place};
use super::{Logging, Sayer};
use crate::face::Paint;

/// A reader that is away is asked again at once.
const EAGER: Patience = Patience {
    hang: Duration::from_millis(50),
    pause: Duration::from_millis(1),
    pause_most: Duration::from_millis(5),
};

const NASTY: &str = "two\nlines\r\u{1b}[31m \"quoted\" ] \\ ü";

fn record(message: &str) -> Record {
    Record {
        at: "2026-01-02T03:04:05.678901Z".parse().unwrap(),
        level: Level::WARN,
        target: "upbeat_agent::run".into(),
        message: message.into(),
        fields: vec![
            ("slot", Value::Text("shop/web/1".into())),
            ("why", Value::Text(NASTY.into())),
            ("tries", Value::Number(3.into())),
            ("again", Value::Bool(true)),
        ],
    }
}

fn wire(encoding: Encoding, framing: Framing) -> Wire {
    Wire { encoding, framing, limit: 8 * TEXT_MAX }
}

fn syslog() -> Encoding {
    Encoding::Syslog { host: "box".into(), pid: 7 }
}

fn logstash() -> Encoding {
    Encoding::Logstash { host: "box".into() }
}

fn shown(encoding: Encoding) -> String {
    let text = String::from_utf8(wire(encoding, Framing::Line).frame(&record(NASTY))).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "{text:?}");
    text.trim_end_matches('\n').to_owned()
}

#[test]
fn a_record_is_one_line_whatever_it_says() {
    insta::assert_snapshot!(shown(Encoding::Text(Paint::Plain)), @r#"2026-01-02T03:04:05.678901Z  WARN upbeat_agent::run: two\nlines\r\u{1b}[31m "quoted" ] \ ü slot=shop/web/1 why="two\nlines\r\u{1b}[31m \"quoted\" ] \ ü" tries=3 again=true"#);
    insta::assert_snapshot!(shown(Encoding::Json), @r#"{"fields":{"again":true,"slot":"shop/web/1","tries":3,"why":"two\nlines\r\u001b[31m \"quoted\" ] \\ ü"},"level":"WARN","message":"two\nlines\r\u001b[31m \"quoted\" ] \\ ü","target":"upbeat_agent::run","timestamp":"2026-01-02T03:04:05.678901Z"}"#);
    insta::assert_snapshot!(shown(logstash()), @r#"{"@timestamp":"2026-01-02T03:04:05.678901Z","@version":"1","fields":{"again":true,"slot":"shop/web/1","tries":3,"why":"two\nlines\r\u001b[31m \"quoted\" ] \\ ü"},"host":"box","level":"WARN","logger_name":"upbeat_agent::run","message":"two\nlines\r\u001b[31m \"quoted\" ] \\ ü"}"#);
    insta::assert_snapshot!(shown(syslog()), @r#"<28>1 2026-01-02T03:04:05.678901Z box upbeat 7 upbeat_agent::run [upbeat@32473 slot="shop/web/1" why="two\\nlines\\r\\u{1b}[31m \"quoted\" \] \\ ü" tries="3" again="true"] two\nlines\r\u{1b}[31m "quoted" ] \ ü"#);
    let bare = Record { fields: Vec::new(), level: Level::ERROR, ..record("lost") };
    let bytes = wire(syslog(), Framing::Counted).frame(&bare);
    insta::assert_snapshot!(String::from_utf8(bytes).unwrap(), @"71 <27>1 2026-01-02T03:04:05.678901Z box upbeat 7 upbeat_agent::run - lost");
}

#[test]
fn colours_are_ours_and_nobody_elses() {
    let text = wire(Encoding::Text(Paint::Coloured), Framing::Line).frame(&record("\u{1b}[31mred"));
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("\u{1b}[33m WARN\u{1b}[0m"), "{text:?}");
    assert!(text.contains("\\u{1b}[31mred") && !text.contains("\u{1b}[31mred"), "{text:?}");
}

/// The fields of a record in the journal's protocol, read independently of how they are written.
fn fields(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| matches!(byte, b'=' | b'\n')).unwrap();
        let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let (value, rest) = if bytes[end] == b'=' {
            let length = bytes[end + 1..].iter().position(|byte| *byte == b'\n').unwrap();
            (&bytes[end + 1..end + 1 + length], &bytes[end + 1 + length..])
        } else {
            let length = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap()) as usize;
            (&bytes[end + 9..end + 9 + length], &bytes[end + 9 + length..])
        };
        assert_eq!(rest[0], b'\n');
        found.push((name, String::from_utf8(value.to_vec()).unwrap()));
        bytes = &rest[1..];
    }
    found
}

#[test]
fn the_journal_gets_fields_that_cannot_make_others() {
    let hostile = Record { message: "a\nPRIORITY=0\nMESSAGE=b".into(), ..record("") };
    let found = fields(&wire(Encoding::Journald, Framing::Datagram).frame(&hostile));
    let found: Vec<(&str, &str)> =
        found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        found,
        [
            ("MESSAGE", "a\nPRIORITY=0\nMESSAGE=b"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "upbeat"),
            ("UPBEAT_TARGET", "upbeat_agent::run"),
            ("UPBEAT_SLOT", "shop/web/1"),
            ("UPBEAT_WHY", NASTY),
            ("UPBEAT_TRIES", "3"),
            ("UPBEAT_AGAIN", "true"),
        ]
    );
}

#[test]
fn a_record_is_as_long_as_its_reader_takes_and_says_that_it_was_cut() {
    for text in ["x".repeat(TEXT_MAX), "\u{1}".repeat(TEXT_MAX), "ü\"\\]\n".repeat(TEXT_MAX / 8)] {
        for (encoding, framing) in [
            (logstash(), Framing::Datagram),
            (logstash(), Framing::Line),
            (syslog(), Framing::Counted),
            (syslog(), Framing::Datagram),
            (Encoding::Journald, Framing::Datagram),
        ] {
            for limit in [512, 1024, 2048, 8192] {
                let is_json = matches!(encoding, Encoding::Logstash { .. });
                let frame = Wire { encoding: encoding.clone(), framing, limit }.frame(&record(&text));
                assert!(frame.len() <= limit && frame.len() > limit / 16, "{encoding:?} {}", frame.len());
                let frame = String::from_utf8(frame).unwrap();
                assert!(frame.contains(" [cut]"), "{frame}");
                if is_json {
                    let json: serde_json::Value = serde_json::from_str(&frame).unwrap();
                    assert_eq!(json["logger_name"], "upbeat_agent::run");
                }
            }
        }
    }
}

#[test]
fn what_tracing_says_is_kept_with_its_types_and_bounded() {
    let wire = Arc::new(wire(Encoding::Json, Framing::Datagram));
    let queue = Arc::new(Queue::new());
    let sayer = Sayer { wire, queue: queue.clone() };
    let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(sayer);
    tracing::subscriber::with_default(subscriber, || {
        let error = std::io::Error::other("no luck");
        tracing::warn!(%error, n = 3, small = -1, part = 0.5, yes = true, shown = ?Some(1), text = "t", "{} said", "a");
        tracing::debug!("nobody asked");
        tracing::info!(more = "y".repeat(TEXT_MAX), "{}", "x".repeat(2 * TEXT_MAX));
    });
    let next = || match queue.next() {
        Next::Frame(frame) => serde_json::from_slice::<serde_json::Value>(&frame).unwrap(),
        Next::Dropped(_) | Next::End => panic!("there is more"),
    };
    let first = next();
    assert_eq!((&first["level"], &first["message"]), (&"WARN".into(), &"a said".into()));
    let wanted = serde_json::json!({
        "error": "no luck", "n": 3, "small": -1, "part": 0.5, "yes": true, "shown": "Some(1)", "text": "t",
    });
    assert_eq!(first["fields"], wanted);
    let second = next();
    let length = |value: &serde_json::Value| value.as_str().unwrap().len();
    assert_eq!(length(&second["message"]) + length(&second["fields"]["more"]), TEXT_MAX + 2 * " [cut]".len());
}

#[test]
fn what_finds_no_room_is_counted_and_told_in_its_place() {
    let queue = Queue::new();
    let large = vec![b'x'; BYTES_MAX / 2];
    for _ in 0..5 {
        queue.put(large.clone());
    }
    queue.put(b"after".to_vec());
    let frames = |next| matches!(next, Next::Frame(_));
    assert!(frames(queue.next()) && frames(queue.next()));
    // It would stand before the news of what is missing.
    queue.put(b"later".to_vec());
    assert!(matches!(queue.next(), Next::Dropped(5)));
    queue.put(b"again".to_vec());
    assert!(matches!(queue.next(), Next::Frame(frame) if frame == b"again"));
    queue.close(Duration::ZERO);
    assert!(matches!(queue.next(), Next::End));
}

/// As the daemon has it, without its place in the process.
fn open(wire: &Wire, line: Line) -> Logging {
    Logging::to(Arc::new(wire.clone()), line, EAGER).unwrap()
}

fn tcp(listener: &TcpListener) -> Line {
    Line::Tcp { to: listener.local_addr().unwrap().to_string(), stream: None }
}

#[test]
fn a_server_of_syslog_gets_counted_records_and_one_that_resets_is_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let wire = wire(syslog(), Framing::Counted);
    let logging = open(&wire, tcp(&listener));
    let one = |stream: &mut BufReader<std::net::TcpStream>| {
        let mut length = Vec::new();
        stream.read_until(b' ', &mut length).unwrap();
        let length: usize = std::str::from_utf8(&length).unwrap().trim().parse().unwrap();
        let mut message = vec![0; length];
        stream.read_exact(&mut message).unwrap();
        String::from_utf8(message).unwrap()
    };
    for n in 0..3 {
        logging.queue.put(wire.frame(&record(&format!("first {n}"))));
    }
    let mut server = BufReader::new(listener.accept().unwrap().0);
    for n in 0..3 {
        assert!(one(&mut server).ends_with(&format!(" first {n}")));
    }
    // It has more to say than anybody listens to, and goes.
    server.get_mut().write_all(&[b'?'; 100]).unwrap();
    drop(server);
    logging.queue.put(wire.frame(&record("second")));
    let mut server = BufReader::new(listener.accept().unwrap().0);
    assert!(one(&mut server).ends_with(" second"));
    drop(logging);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0, "the end of the daemon is an end in order");
}

#[test]
fn a_server_that_does_not_read_holds_up_nobody_and_hears_what_it_missed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let wire = wire(logstash(), Framing::Line);
    let logging = open(&wire, tcp(&listener));
    let hanging = || listener.accept().unwrap().0;
    let long = "x".repeat(TEXT_MAX);
    // More than the system's buffers and the queue together take: each is put all the same.
    let before = super::dropped();
    for _ in 0..1_000 {
        logging.queue.put(wire.frame(&record(&long)));
    }
    assert!(super::dropped() > before);
    // Connections that hang are given up, and others are tried.
    let first = hanging();
    let second = hanging();
    drop((first, second));
    let stop = std::thread::spawn(move || {
        for stream in listener.incoming() {
            for line in BufReader::new(stream.unwrap()).lines().map_while(Result::ok) {
                // The rest of a line that was cut off with its connection.
                let Ok(json) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
                let message = json["message"].as_str().unwrap().to_owned();
                if message.ends_with("found no room and were dropped") {
                    return message;
                }
            }
        }
        String::new()
    });
    let told = stop.join().unwrap();
    let count: u64 = told.split(' ').next().unwrap().parse().unwrap();
    assert!(count > 0, "{told}");
}

#[test]
fn a_server_that_is_away_gets_what_was_said_meanwhile() {
    let (address, wire) = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        (gone.local_addr().unwrap(), wire(logstash(), Framing::Line))
    };
    let logging = open(&wire, Line::Tcp { to: address.to_string(), stream: None });
    for n in 0..10 {
        logging.queue.put(wire.frame(&record(&n.to_string())));
    }
    let back = TcpListener::bind(address).unwrap();
    let lines = BufReader::new(back.accept().unwrap().0).lines();
    for (n, line) in lines.take(10).enumerate() {
        let json: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(json["message"], n.to_string());
    }
}

#[test]
fn the_end_waits_for_nobody_who_is_not_there() {
    let wire = wire(logstash(), Framing::Line);
    let nobody = Line::Tcp { to: "127.0.0.1:1".into(), stream: None };
    let logging = Logging::to(Arc::new(wire.clone()), nobody, Patience::USUAL).unwrap();
    logging.queue.put(wire.frame(&record("x")));
    let queue = logging.queue.clone();
    drop(logging);
    let before = super::dropped();
    queue.put(b"too late".to_vec());
    assert!(super::dropped() > before);
}

fn unix(path: &Path, takes_files: bool) -> Line {
    Line::Unix { path: path.to_owned(), takes_files, socket: None }
}

/// What the journal would read: a datagram, or the sealed file that came with an empty one.
fn datagram(socket: &UnixDatagram) -> Vec<u8> {
    use rustix::fs::SealFlags;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let mut bytes = vec![0; 1 << 20];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty());
    let length = read.unwrap().bytes;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if let Some(fd) = received {
        let seals = rustix::fs::fcntl_get_seals(&fd).unwrap();
        assert!(seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW), "{seals:?}");
        assert_eq!(length, 0);
        let mut file = std::fs::File::from(fd);
        std::io::Seek::rewind(&mut file).unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        return text;
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn a_journal_gets_datagrams_and_large_ones_as_sealed_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let wire = wire(Encoding::Journald, Framing::Datagram);
    let mut line = unix(&path, true);
    let journal = UnixDatagram::bind(&path).unwrap();
    line.send(&wire.frame(&record("small")), EAGER.hang).unwrap();
    assert_eq!(fields(&datagram(&journal))[0].1, "small");
    // Where the system takes none but small ones.
    let Line::Unix { socket: Some(socket), .. } = &line else { panic!("it is open") };
    rustix::net::sockopt::set_socket_send_buffer_size(socket, 4096).unwrap();
    let large = "x".repeat(TEXT_MAX);
    line.send(&wire.frame(&record(&large)), EAGER.hang).unwrap();
    let found = fields(&datagram(&journal));
    assert_eq!((found[0].1.len(), found[1].1.as_str()), (TEXT_MAX, "4"));
}

#[test]
fn a_journal_that_is_restarted_or_full_is_waited_for_by_nobody_but_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let wire = wire(Encoding::Journald, Framing::Datagram);
    let logging = open(&wire, unix(&path, true));
    // Not there yet; then full, as nobody reads; and each record is put at once.
    let put = |n: usize| logging.queue.put(wire.frame(&record(&n.to_string())));
    (0..10).for_each(put);
    let first = UnixDatagram::bind(&path).unwrap();
    (10..2_000).for_each(put);
    for n in 0..1_000 {
        assert_eq!(fields(&datagram(&first))[0].1, n.to_string());
    }
    // What it had not read is lost with it; the log is not.
    std::fs::remove_file(&path).unwrap();
    let second = UnixDatagram::bind(&path).unwrap();
    drop(first);
    let next: usize = fields(&datagram(&second))[0].1.parse().unwrap();
    for n in next + 1..2_000 {
        assert_eq!(fields(&datagram(&second))[0].1, n.to_string());
    }
}

#[test]
fn datagrams_to_a_server_are_whole_and_short() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("udp://{}", server.local_addr().unwrap());
    let settings = LogSettings { format: LogFormat::Syslog, target: Some(to) };
    let (wire, line) = settings.open(Paint::Plain, false).unwrap();
    let logging = open(&wire, line);
    logging.queue.put(wire.frame(&record(&"x".repeat(TEXT_MAX))));
    let mut bytes = vec![0; 1 << 16];
    let length = server.recv(&mut bytes).unwrap();
    assert!((512..=2048).contains(&length), "{length}");
    assert!(String::from_utf8_lossy(&bytes[..length]).starts_with("<28>1 2026-"));
}

/// More than there is room for is put, and nobody reads. Then somebody does, line by line.
fn hangs(wire: &Wire, line: Line, mut next: impl FnMut() -> String) {
    let logging = open(wire, line);
    let before = super::dropped();
    let long = "x".repeat(4_000);
    let records = 2 * BYTES_MAX / long.len();
    for n in 0..records {
        logging.queue.put(wire.frame(&record(&format!("{n}: {long}"))));
    }
    assert!(super::dropped() > before, "nobody waited, and nothing more is kept than there is room for");
    let mut expected = 0;
    let told = loop {
        let line = next();
        if line.contains("found no room and were dropped") {
            break line;
        }
        assert!(line.contains(&format!("{expected}: xxx")), "{expected}: {line}");
        expected += 1;
    };
    assert!(expected > 100 && expected < records, "{expected}: {told}");
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_nobody_but_the_log() {
    for encoding in [Encoding::Text(Paint::Plain), Encoding::Json] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut lines = BufReader::new(reader).lines();
        let line = Line::Stderr { to: writer.into(), is_ours: false };
        hangs(&wire(encoding, Framing::Line), line, || lines.next().unwrap().unwrap());
    }
}

#[test]
fn a_log_that_nobody_reads_does_not_hold_up_the_end() {
    let (_reader, writer) = std::io::pipe().unwrap();
    let wire = wire(Encoding::Json, Framing::Line);
    let logging = open(&wire, Line::Stderr { to: writer.into(), is_ours: false });
    for _ in 0..100 {
        logging.queue.put(wire.frame(&record(&"x".repeat(4_000))));
    }
    drop(logging);
}

#[test]
fn a_syslog_that_hangs_holds_up_nobody_but_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let hung = UnixDatagram::bind(&path).unwrap();
    let settings = LogSettings { format: LogFormat::Syslog, target: Some(path.display().to_string()) };
    let (wire, line) = settings.open(Paint::Plain, false).unwrap();
    hangs(&wire, line, || String::from_utf8(datagram(&hung)).unwrap());
}

#[test]
fn logstash_by_datagrams_gets_an_object_each() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("udp://{}", server.local_addr().unwrap());
    let settings = LogSettings { format: LogFormat::Logstash, target: Some(to) };
    let (wire, line) = settings.open(Paint::Plain, false).unwrap();
    let logging = open(&wire, line);
    for (message, is_cut) in [("short".to_owned(), false), ("x".repeat(TEXT_MAX), true)] {
        logging.queue.put(wire.frame(&record(&message)));
        let mut bytes = vec![0; 1 << 16];
        let length = server.recv(&mut bytes).unwrap();
        assert!(length <= 8 << 10, "{length}");
        let json: serde_json::Value = serde_json::from_slice(&bytes[..length]).unwrap();
        assert_eq!((&json["@version"], &json["level"]), (&"1".into(), &"WARN".into()));
        let told = json["message"].as_str().unwrap();
        assert_eq!((told.ends_with(" [cut]"), told.starts_with(&message[..5])), (is_cut, true));
    }
}

#[test]
fn places_are_read_and_what_cannot_go_there_is_refused() {
    let unix = |path: &str| Place::Unix(path.into());
    for (text, place) in [
        ("stderr", Place::Stderr),
        ("/dev/log", unix("/dev/log")),
        ("unix:///run/x", unix("/run/x")),
        ("udp://logs:514", Place::Udp("logs:514".into())),
        ("tcp://[::1]:514", Place::Tcp("[::1]:514".into())),
    ] {
        assert_eq!(Place::read(text).unwrap(), place);
    }
    for text in [
        "",
        "logs",
        "tcp://logs",
        "tcp://:5",
        "tcp://logs:0",
        "tcp://a b:5",
        "http://logs:80",
        "unix://x",
        "tcp://u@h:5",
    ] {
        assert!(Place::read(text).is_err(), "{text}");
    }
    let told = |format, target: Option<&str>| {
        let settings = LogSettings { format, target: target.map(str::to_owned) };
        let error = settings.check().unwrap_err();
        format!("{error}; {}", error.hint())
    };
    insta::assert_snapshot!(told(LogFormat::Logstash, None), @"a log for logstash needs a place to go to; say where: `--log-target tcp://HOST:PORT`, or `udp://HOST:PORT`");
    insta::assert_snapshot!(told(LogFormat::Text, Some("tcp://logs:5")), @"a log in the format `text` cannot go to `tcp://logs:5`; it can go to `stderr`");
    insta::assert_snapshot!(told(LogFormat::Journald, Some("udp://logs:5")), @"a log in the format `journald` cannot go to `udp://logs:5`; it can go to the path of a socket");
    insta::assert_snapshot!(told(LogFormat::Syslog, Some("logs")), @"`logs` is not a place for a log; a place is `stderr`, the path of a socket, `unix://PATH`, `udp://HOST:PORT` or `tcp://HOST:PORT`");
    let journald = LogSettings { format: LogFormat::Journald, target: None };
    assert!(journald.check().is_ok() && LogSettings::default().check().is_ok());
}

//! A service that says of itself how it is: what the tests have it do, one thing after the other.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType,
};
use rustix::process::Signal;

/// The largest number of descriptors the kernel sends at once.
const DESCRIPTORS_MAX: usize = 253;

/// * `say TEXT`: a message; `\n` in it is a new line, `PID` the number of this process
/// * `barrier`: waits until all before was heard
/// * `flood COUNT TEXT`: many messages
/// * `descriptors COUNT TEXT`: a message with so many descriptors
/// * `linger TEXT`: a message with a socket that takes ten minutes to close; only for a child of the shim
/// * `huge`: a message that is too long
/// * `become UID`: is another user from then on
/// * `print TEXT`
/// * `forever`: does nothing more, and does not end
pub(crate) fn run(words: &mut dyn Iterator<Item = String>) {
    while let Some(what) = words.next() {
        let mut word = || words.next().unwrap();
        match what.as_str() {
            "say" => send(&text(&word()), &[]),
            "barrier" => barrier(),
            "flood" => {
                let (count, said) = (word().parse().unwrap(), text(&word()));
                (0..count).for_each(|_: u32| send(&said, &[]));
            }
            "descriptors" => {
                let (count, null) = (word().parse().unwrap(), std::fs::File::open("/dev/null").unwrap());
                send(&text(&word()), &vec![null.as_fd(); count]);
            }
            "linger" => linger(&text(&word())),
            "huge" => send(&format!("READY=1\nX={}", "x".repeat(100_000)), &[]),
            "become" => {
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(word().parse().unwrap()))
                    .unwrap();
            }
            "print" => {
                println!("{}", word());
                std::io::stdout().flush().unwrap();
            }
            "forever" => loop {
                std::thread::park();
            },
            other => panic!("{other}"),
        }
    }
}

fn text(word: &str) -> String {
    word.replace("\\n", "\n").replace("PID#", &std::process::id().to_string())
}

/// To whoever is named by the environment.
fn send(text: &str, fds: &[BorrowedFd<'_>]) {
    send_to(&std::env::var("NOTIFY_SOCKET").unwrap(), text, fds);
}

/// `@` and a name.
pub(crate) fn send_to(address: &str, text: &str, fds: &[BorrowedFd<'_>]) {
    let name = address.strip_prefix('@').unwrap();
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    let text = [IoSlice::new(text.as_bytes())];
    rustix::net::sendmsg_addr(&socket, &address, &text, &mut control, SendFlags::NOSIGNAL).unwrap();
}

fn barrier() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    send("BARRIER=1", &[writer.as_fd()]);
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

/// What was written to it is not read, so its last owner waits for that when it closes it.
fn linger(text: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (reader, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[0; 65_536]).is_ok() {}
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::from_secs(600))).unwrap();
    // Whoever is sent it shall be its last owner, and not this process.
    let shim = rustix::process::getppid().unwrap().as_raw_pid();
    crate::rig::signal(shim, Signal::STOP);
    while !crate::rig::is_stopped(shim) {
        std::thread::yield_now();
    }
    send(text, &[socket.as_fd()]);
    drop(socket);
    crate::rig::signal(shim, Signal::CONT);
    // The other end stays.
    std::mem::forget(reader);
}

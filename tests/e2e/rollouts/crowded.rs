//! Where rollouts are open to this machine, and some who come there take nothing of what they asked for.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::fleet::{Fleet, at_once, ok};
use super::wire::Wire;
use crate::Journey;
use crate::access::Served;
use crate::home::{Home, PATIENCE, eventually};

pub(super) fn journeys() -> Vec<Journey> {
    vec![Journey::new("readers that stall keep no controller from hearing what to run", stalled)]
}

/// So many that answers about them fill no more than a few places, and do not fit into what a machine keeps of a
/// connection.
const MANY: usize = 12_000;

/// More than there is room for.
const READERS: usize = 8;

/// Asks for all targets of the large entity, and then takes nothing.
fn asks(address: &str, method: &str, what: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let asked = format!(
        "{method} /v1/orchestrate/prod/large{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(asked.as_bytes()).unwrap();
    stream
}

/// As many as fill the room, of which the first are being answered.
fn readers(address: &str, method: &str, what: &str, body: &str) -> Vec<TcpStream> {
    let mut readers: Vec<TcpStream> = (0..READERS).map(|_| asks(address, method, what, body)).collect();
    let mut status = [0; 12];
    for first in &mut readers[..2] {
        first.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    readers
}

/// Two hundred targets run v1, which is good, and v2 was asked for: all at once, and within so long that it would be
/// held to be bad if their controller did not hear of it soon.
fn established(address: &str, entity: &str) -> Fleet {
    let mut fleet = Fleet::over(Wire::to(address).unwrap(), entity).with(200, "", "v1");
    fleet.established(&at_once());
    fleet.done("/options", &json!({"batchpercent": 100, "successpercent": 100, "durationtimeoutsecs": 50}));
    fleet
}

fn is_good(fleet: &mut Fleet) -> bool {
    let state = fleet.rollout();
    assert_eq!(state.get("lastknownbadversion"), None, "{state}");
    state["lastknowngoodversion"] == "v2"
}

fn stalled() {
    let mut home = Home::new();
    home.set("UPBEAT_ROLLOUTS_LISTEN", "127.0.0.1:0");
    let served = Served::start(&home, &[]);
    let address = served.address_behind("rollouts are served without tokens to this machine");
    let mut large = Fleet::over(Wire::to(&address).unwrap(), "prod/large");
    let (group, name) = ("g".repeat(250), "n".repeat(240));
    let targets: Vec<Value> =
        (0..MANY).map(|n| json!({"group": group, "name": format!("{name}{n}"), "version": "v1"})).collect();
    large.done("/version", &json!({"version": "v1"}));
    assert_eq!(large.post("/status", &Value::Array(targets)), ok());
    let mut first = established(&address, "prod/first");

    // Who only looks has a room apart.
    let lookers = readers(&address, "GET", "/targets", "");
    eventually("v2 is good", || {
        first.call();
        is_good(&mut first)
    });
    drop(lookers);
    let mut second = established(&address, "prod/second");

    // Who reports has the same, and loses the place in time. Until then nothing is decided that is not told.
    let reporters = readers(&address, "POST", "", "[]");
    let assigned = || Fleet::of(&home, "prod/second").get("/targets");
    eventually("v2 is good", || {
        let before = assigned();
        let (status, told) = second.post("", &Value::Array(second.targets.clone()));
        match status {
            200 => second.obey(told.as_array().unwrap()),
            503 => assert_eq!(assigned(), before, "{told}"),
            other => panic!("{other}: {told}"),
        }
        is_good(&mut second)
    });
    // Which the first of them has by now.
    let mut came = Vec::new();
    if let Err(error) = reporters.into_iter().next().unwrap().read_to_end(&mut came) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert!(came.len() < MANY * (group.len() + name.len()), "{}", came.len());
}

//! A receiver of webhooks: a program of this machine that looks at every signature itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use serde_json::Value;

/// What was sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Heard {
    pub(super) id: String,
    pub(super) timestamp: String,
    pub(super) signature: String,
    pub(super) body: String,
    /// One of its signatures is right by the secret that is known.
    pub(super) is_right: bool,
}

impl Heard {
    pub(super) fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

struct Knows {
    secret: String,
    /// It hangs up on everybody.
    is_down: bool,
    status: u16,
}

/// One that listens until the journeys end.
pub(super) struct Receiver {
    pub(super) address: String,
    knows: Arc<Mutex<Knows>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Receiver {
    pub(super) fn new(secret: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let knows = Arc::new(Mutex::new(Knows { secret: secret.into(), is_down: false, status: 204 }));
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let (known, all) = (knows.clone(), heard.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let knows = known.lock().unwrap();
                if knows.is_down {
                    continue;
                }
                // Whoever tells may have been killed meanwhile.
                let Some(heard) = hear(&stream, &knows.secret) else { continue };
                // Before it is answered: who is killed then has told it all the same.
                all.lock().unwrap().push(heard);
                drop(write!(stream, "HTTP/1.1 {} x\r\nContent-Length: 0\r\n\r\n", knows.status));
            }
        });
        Self { address, knows, heard }
    }

    /// What it was sent so far.
    pub(super) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// The numbers of the events it was sent, but for tests, which are none.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let all = self.heard().into_iter().filter_map(|heard| heard.event()["sequence"].as_u64());
        all.filter(|number| *number > 0).collect()
    }

    pub(super) fn is_down(&self, is_down: bool) {
        self.knows.lock().unwrap().is_down = is_down;
    }

    pub(super) fn answers(&self, status: u16) {
        self.knows.lock().unwrap().status = status;
    }

    pub(super) fn learns(&self, secret: &str) {
        self.knows.lock().unwrap().secret = secret.into();
    }
}

fn hear(stream: &TcpStream, secret: &str) -> Option<Heard> {
    let mut reader = BufReader::new(stream);
    let (mut id, mut timestamp, mut signature, mut length) = Default::default();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            match line.trim_end() {
                "" => break,
                _ => continue,
            }
        };
        let value = value.to_owned();
        match name.to_ascii_lowercase().as_str() {
            "webhook-id" => id = value,
            "webhook-timestamp" => timestamp = value,
            "webhook-signature" => signature = value,
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = format!("{id}.{timestamp}.{body}");
    let is_right = signature.split(' ').any(|one: &str| {
        let given = one.strip_prefix("v1,").and_then(|given| BASE64_STANDARD.decode(given).ok());
        given.is_some_and(|given| hmac::verify(&key, signed.as_bytes(), &given).is_ok())
    });
    Some(Heard { id, timestamp, signature, body, is_right })
}

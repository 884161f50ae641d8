//! A controller that is asked over HTTP: a program of this machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// What it does about a question.
pub(super) enum Does {
    /// Answers with status 200 and this body.
    Says(String),
    /// Answers with status 307: ask there.
    Redirects(String),
    /// Nothing, and holds the connection.
    Waits,
}

/// One that listens until the journeys end.
pub(super) struct Callback {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Callback {
    pub(super) fn new(does: impl Fn(&Value) -> Does + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/ask", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<Value>>>::default();
        let heard = asked.clone();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // Whoever asks may have gone away.
                let Some(question) = question(&stream) else { continue };
                heard.lock().unwrap().push(question.clone());
                let answer = match does(&question) {
                    Does::Says(body) => {
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                    }
                    Does::Redirects(to) => {
                        format!("HTTP/1.1 307 There\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
                    }
                    Does::Waits => {
                        held.push(stream);
                        continue;
                    }
                };
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { url, asked }
    }

    /// What it was asked so far.
    pub(super) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

fn question(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

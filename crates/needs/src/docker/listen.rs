//! What an engine tells as it happens.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::{Docker, START_PATIENCE, VERSION, escaped};

/// All that an engine has told of some containers since this was made.
///
/// It is heard as it happens, as an engine keeps but its last 256 events, and other tests make those.
#[derive(Debug)]
pub struct Listener {
    told: Arc<Mutex<Vec<Value>>>,
    stream: UnixStream,
}

impl Docker {
    /// Listens to what becomes of containers that have this label.
    pub fn listen(&self, label: &str) -> Listener {
        let filters = json!({ "type": ["container"], "label": [label] }).to_string();
        let ask =
            format!("GET {VERSION}/events?filters={} HTTP/1.0\r\nHost: docker\r\n\r\n", escaped(&filters));
        let begun = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(START_PATIENCE))?;
            stream.write_all(ask.as_bytes())?;
            let mut events = BufReader::new(stream.try_clone()?);
            // It is heard from the moment on at which the head of the answer is here.
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && events.read_line(&mut head)? > 0 {}
            stream.set_read_timeout(None)?;
            std::io::Result::Ok((stream, events, head))
        };
        let (stream, events, head) = begun().unwrap_or_else(|error| panic!("its events: {error}"));
        assert!(head.split(' ').nth(1) == Some("200"), "its events: {head}");
        let told = Arc::<Mutex<Vec<Value>>>::default();
        let heard = told.clone();
        std::thread::spawn(move || {
            for event in serde_json::Deserializer::from_reader(events).into_iter().map_while(Result::ok) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
        });
        Listener { told, stream }
    }
}

impl Listener {
    /// What was told so far, in the engine's order. The last of it may be on its way still.
    pub fn told(&self) -> Vec<Value> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // So its thread ends. An engine that is gone has closed it.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

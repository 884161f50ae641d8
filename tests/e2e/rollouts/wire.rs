//! One connection to the daemon, kept alive, as a controller holds it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::home::{Home, PATIENCE};

/// The daemon's socket.
pub(super) fn socket(home: &Home) -> PathBuf {
    home.outside("run").join("upbeat.sock")
}

/// What a connection goes over.
trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// A connection.
pub(super) struct Wire(BufReader<Box<dyn Stream>>);

/// Nobody is there, or went away in the midst of it.
#[derive(Debug)]
pub(super) struct Lost;

impl From<std::io::Error> for Lost {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

impl Wire {
    pub(super) fn open(socket: &Path) -> Result<Self, Lost> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(Box::new(stream))))
    }

    /// Over TCP, to where rollouts are open.
    pub(super) fn to(address: &str) -> Result<Self, Lost> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(Box::new(stream))))
    }

    /// Asks, and reads the status and the JSON of the answer.
    pub(super) fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), Lost> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        self.0.get_mut().write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        let status = self.line()?.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(Lost)?;
        let mut length = None;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse::<usize>().ok();
            }
        }
        let mut bytes = vec![0; length.expect("answers say how long they are")];
        self.0.read_exact(&mut bytes)?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    fn line(&mut self) -> Result<String, Lost> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(Lost),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

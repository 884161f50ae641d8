//! One probe, one answer: is it ready, and what did it say.
//!
//! An HTTP probe speaks the little of HTTP/1.1 it needs over a plain connection: it sends one `GET`,
//! reads the status line, and hangs up. So no body, redirect or endless header can hold it, and a
//! daemon with a thousand probes keeps no client's buffers.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use upbeat_model::Millis;

/// A status line is some 20 bytes; what has none in so many speaks another protocol.
const STATUS_LINE_MAX: usize = 1024;

/// The answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Ready.
    pub healthy: bool,
    /// What it said, for people. The same answer has the same words.
    pub message: String,
}

impl Verdict {
    fn no(message: impl Into<String>) -> Self {
        Self { healthy: false, message: message.into() }
    }
}

/// `GET url`: ready when the status is from 200 to 399.
pub async fn http(url: &str, timeout: Millis) -> Verdict {
    within(timeout, ask(url)).await
}

/// `host:port` accepts a connection.
pub async fn tcp(address: &str, timeout: Millis) -> Verdict {
    within(timeout, async {
        match connect(address).await {
            Ok(_) => Verdict { healthy: true, message: "connection accepted".into() },
            Err(error) => Verdict::no(words(&error)),
        }
    })
    .await
}

/// Errors: nobody listens there.
async fn connect(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A port that nobody listens on can be given to the very socket that asks for it, which then
    // speaks to itself.
    match stream.local_addr()? == stream.peer_addr()? {
        true => Err(std::io::ErrorKind::ConnectionRefused.into()),
        false => Ok(stream),
    }
}

async fn within(timeout: Millis, probe: impl Future<Output = Verdict>) -> Verdict {
    match tokio::time::timeout(Duration::from_millis(timeout.0), probe).await {
        Ok(verdict) => verdict,
        Err(_) => Verdict::no(format!("timed out after {timeout}")),
    }
}

async fn ask(url: &str) -> Verdict {
    let Some(rest) = url.strip_prefix("http://") else {
        return Verdict::no(format!("`{url}` does not begin with `http://`"));
    };
    let rest = rest.split('#').next().unwrap_or(rest);
    let split = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(split);
    let slash = if path.starts_with('/') { "" } else { "/" };
    // Whatever stands before `@` is for a login we do not do.
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut stream = match connect(&address).await {
        Ok(stream) => stream,
        Err(error) => return Verdict::no(words(&error)),
    };
    let request = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: upbeat\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    if let Err(error) = stream.write_all(request.as_bytes()).await {
        return Verdict::no(words(&error));
    }
    status(&mut stream).await
}

async fn status(stream: &mut TcpStream) -> Verdict {
    let mut line = Vec::with_capacity(128);
    while !line.contains(&b'\n') && line.len() < STATUS_LINE_MAX {
        match stream.read_buf(&mut line).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Verdict::no(words(&error)),
        }
    }
    let text = String::from_utf8_lossy(&line);
    let mut fields = text.lines().next().unwrap_or_default().split(' ');
    let version = fields.next().unwrap_or_default();
    let code = fields.next().and_then(|code| code.parse::<u16>().ok());
    match code {
        Some(code) if version.starts_with("HTTP/1.") => {
            Verdict { healthy: (200..400).contains(&code), message: format!("HTTP {code}") }
        }
        _ if line.is_empty() => Verdict::no("it closed the connection without an answer"),
        _ => Verdict::no("its answer is not HTTP"),
    }
}

/// `connection refused`: as people say it.
fn words(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset => "connection reset".into(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "not reachable".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that answers each connection with these bytes, and then holds it open.
    async fn server(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(answer).await;
                held.push(stream);
            }
        });
        address
    }

    async fn probe(answer: &'static [u8]) -> (bool, String) {
        let address = server(answer).await;
        let verdict = http(&format!("http://{address}/health?x=1"), Millis(300)).await;
        (verdict.healthy, verdict.message)
    }

    #[tokio::test]
    async fn the_status_decides_and_nothing_after_it_is_waited_for() {
        assert_eq!(probe(b"HTTP/1.1 204 No Content\r\n").await, (true, "HTTP 204".into()));
        assert_eq!(probe(b"HTTP/1.1 302 Found\r\nLocation: /\r\n").await, (true, "HTTP 302".into()));
        assert_eq!(probe(b"HTTP/1.0 500 Oops\r\n").await, (false, "HTTP 500".into()));
        assert_eq!(probe(b"SSH-2.0-x\r\n").await, (false, "its answer is not HTTP".into()));
        assert_eq!(probe(b"").await, (false, "timed out after 300ms".into()));
        assert_eq!(probe(&[b'x'; 5000]).await, (false, "its answer is not HTTP".into()));
    }

    #[tokio::test]
    async fn a_port_is_open_or_refused() {
        let address = server(b"").await;
        assert!(tcp(&address, Millis(500)).await.healthy);
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        assert_eq!(tcp(&address, Millis(500)).await, Verdict::no("connection refused"));
        assert_eq!(http(&format!("http://{address}"), Millis(500)).await, Verdict::no("connection refused"));
    }
}

//! The health service of gRPC: one call of `grpc.health.v1.Health/Check`.
//!
//! Both messages of it have one field, so they are written and read by hand. Each question has a
//! connection of its own: a call is made of a dozen frames, and what a connection of HTTP/2 keeps
//! between two of them costs more than to open it.

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use upbeat_model::Millis;
use upbeat_model::project::Grpc;

use super::stream::{Metered, READ_MAX};
use super::{Answered, Asked, Inner, address, words};

/// The answer is two bytes, with five before them. More is not looked at.
const ANSWER_MAX: usize = 1024;

/// Headers of one answer, with what HPACK adds.
const HEADERS_MAX: u32 = 16 * 1024;

/// What the other end may send before we read it, for all streams and for the one.
const WINDOW: u32 = 64 * 1024;

/// What is agreed upon in TLS.
const PROTOCOL: &[u8] = b"h2";

/// A status of a call (`grpc-status`) that says something about health.
mod status {
    pub(super) const OK: &str = "0";
    pub(super) const NOT_FOUND: &str = "5";
    pub(super) const UNIMPLEMENTED: &str = "12";
}

impl Inner {
    pub(super) async fn grpc(&self, asked: &Asked<'_>, grpc: &Grpc) -> Answered {
        let (host, port) = address::parsed(&grpc.address)?;
        let addresses = self.names.addresses(host, port).await?;
        let config = match &grpc.tls {
            Some(tls) => Some(self.trust.config(tls, Some(PROTOCOL)).await?),
            None => None,
        };
        let socket = address::connect(&addresses, asked.timeout.as_duration()).await?;
        socket.set_nodelay(true).map_err(|error| words::error(&error))?;
        let socket = Metered::new(socket, READ_MAX);
        let request = request(grpc, asked.timeout)?;
        let message = message(&grpc.service);
        match config {
            None => Ok(check(socket, request, message).await?),
            Some(config) => {
                let name = grpc.tls.as_ref().and_then(|tls| tls.server_name.as_deref()).unwrap_or(host);
                Ok(check(self.trust.connect(config, name, socket).await?, request, message).await?)
            }
        }
    }
}

fn request(grpc: &Grpc, timeout: Millis) -> Result<Request<()>, String> {
    /// What `grpc-timeout` may say: eight digits.
    const LONGEST: u64 = 99_999_999;
    let scheme = if grpc.tls.is_some() { "https" } else { "http" };
    Request::post(format!("{scheme}://{}/grpc.health.v1.Health/Check", grpc.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "upbeat")
        .header("grpc-timeout", format!("{}m", timeout.0.min(LONGEST)))
        .body(())
        .map_err(|_| format!("`{}` is not `host:port`", grpc.address))
}

/// `HealthCheckRequest { string service = 1; }`, with the five bytes before each message: that it is
/// not packed, and its length.
fn message(service: &str) -> Bytes {
    let mut field = Vec::new();
    if !service.is_empty() {
        field.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            field.push(length as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend_from_slice(service.as_bytes());
    }
    let mut message = vec![0];
    message.extend_from_slice(&(field.len() as u32).to_be_bytes());
    message.extend_from_slice(&field);
    message.into()
}

/// `HealthCheckResponse { ServingStatus status = 1; }` with what stands before it. `None`: it is none.
fn serving(message: &[u8]) -> Option<u64> {
    let (head, body) = message.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || body.len() != length as usize {
        return None;
    }
    let mut rest = body;
    // A field that is not there has the value 0. What later versions add is passed over.
    let mut status = 0;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut rest)?,
            (_, 0) => drop(varint(&mut rest)?),
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

async fn check<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    request: Request<()>,
    message: Bytes,
) -> Result<String, String> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(HEADERS_MAX)
        .max_concurrent_reset_streams(1);
    let (calls, connection) = builder.handshake(stream).await.map_err(|error| failed(&error))?;
    let driven = async {
        // What it ends with, the call is told.
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        answered = call(calls, request, message) => answered,
        never = driven => never,
    }
}

async fn call(calls: SendRequest<Bytes>, request: Request<()>, message: Bytes) -> Result<String, String> {
    let told = |error| failed(&error);
    let mut calls = calls.ready().await.map_err(told)?;
    let (response, mut body) = calls.send_request(request, false).map_err(told)?;
    body.send_data(message, true).map_err(told)?;
    let (head, mut body) = response.await.map_err(told)?.into_parts();
    if head.status != 200 {
        return Err(format!("HTTP {}: it does not speak gRPC there", head.status.as_u16()));
    }
    if let Some(ended) = status_of(&head.headers) {
        return judge(ended, &[]);
    }
    let kind = head.headers.get("content-type").map_or(&b""[..], |kind| kind.as_bytes());
    if !kind.starts_with(b"application/grpc") {
        return Err("it does not speak gRPC there".into());
    }
    let answer = read(&mut body).await?;
    match body.trailers().await.map_err(told)? {
        Some(trailers) => judge(status_of(&trailers).unwrap_or_default(), &answer),
        None => Err("its answer has no end".into()),
    }
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, String> {
    let mut answer = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| failed(&error))?;
        if answer.len() + data.len() > ANSWER_MAX {
            return Err("its answer is too long for one about health".into());
        }
        answer.extend_from_slice(&data);
        // Of a stream that has ended nothing can be given back.
        let _ = body.flow_control().release_capacity(data.len());
    }
    Ok(answer)
}

fn status_of(headers: &HeaderMap) -> Option<&str> {
    Some(headers.get("grpc-status")?.to_str().unwrap_or_default())
}

fn judge(ended: &str, answer: &[u8]) -> Result<String, String> {
    match ended {
        status::OK => {}
        status::NOT_FOUND => return Err("it knows no service of this name".into()),
        status::UNIMPLEMENTED => return Err("it has no health service (`grpc.health.v1.Health`)".into()),
        other if !other.is_empty() && other.len() <= 2 && other.bytes().all(|b| b.is_ascii_digit()) => {
            return Err(format!("gRPC status {other}"));
        }
        _ => return Err("its answer is not gRPC".into()),
    }
    match serving(answer) {
        Some(1) => Ok("SERVING".into()),
        Some(0) => Err("UNKNOWN".into()),
        Some(2) => Err("NOT_SERVING".into()),
        Some(3) => Err("SERVICE_UNKNOWN".into()),
        Some(_) | None => Err("its answer is not one about health".into()),
    }
}

fn failed(error: &h2::Error) -> String {
    if let Some(error) = error.get_io() {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "it closed the connection without an answer".into(),
            _ => words::said(error),
        };
    }
    match error.reason() {
        Some(Reason::FRAME_SIZE_ERROR | Reason::PROTOCOL_ERROR) if !error.is_remote() => {
            "it does not speak HTTP/2 there".into()
        }
        Some(Reason::NO_ERROR) => "it closed the connection without an answer".into(),
        Some(reason) => format!("HTTP/2 failed: {}", reason.description()),
        None => "it does not speak HTTP/2 there".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_protocol_has_them() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = message(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 0x01, 0x2f, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn only_a_whole_message_is_one() {
        let of = |bytes: &[u8]| {
            let mut message = vec![0, 0, 0, 0, bytes.len() as u8];
            message.extend_from_slice(bytes);
            serving(&message)
        };
        assert_eq!(of(&[0x08, 1]), Some(1));
        assert_eq!(of(&[]), Some(0));
        // With fields of later versions, of each kind.
        assert_eq!(of(&[0x10, 0x85, 1, 0x1a, 1, b'x', 0x25, 0, 0, 0, 0, 0x08, 2]), Some(2));
        assert_eq!(of(&[0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 3]), Some(3));
        for bad in [&[0x08][..], &[0x08, 0x80], &[0x0b], &[0x1a, 9, 0], &[0x80; 12]] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        for bad in [&[][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 1], &[0, 0, 0, 0, 0, 0]] {
            assert_eq!(serving(bad), None, "{bad:?}");
        }
    }
}

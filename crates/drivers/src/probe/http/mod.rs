//! A request over HTTP/1.1, and whether its answer is what it should be.
//!
//! No redirect is followed: its status is an answer. No more of a body is read than is looked at, and
//! where nothing is looked at, no more than it takes to use the connection again. The dialect is
//! HTTP/1.1 alone: every server of HTTP speaks it.

pub(crate) mod exchange;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use upbeat_model::Millis;
use upbeat_model::project::Http;

use self::exchange::{Answer, Failure};
use self::pool::{Destination, Kept, Pool, Settings};
use super::stream::{READ_MAX, Stream};
use super::words::No;
use super::{Answered, Asked, Inner, address};

/// A body that nobody looks at is read up to so many bytes, so that the connection can be used again:
/// what health checks answer has some hundred.
const UNREAD_MAX: usize = 16 * 1024;

/// And for so long after the answer was given. What takes longer is not worth it.
const UNREAD_TIME: Duration = Duration::from_secs(1);

/// Bodies that are read after the answer was given, at once. Beyond this, connections are closed.
const UNREAD_AT_ONCE: usize = 64;

/// Requests that do the same when they are sent twice, as RFC 9110 has it. Others get a connection of
/// their own: of one that was kept nobody knows, when it ends, whether they have arrived.
const MAY_BE_REPEATED: [&str; 7] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"];

/// Requests without a body that servers expect to have one.
const HAS_BODY: [&str; 3] = ["POST", "PUT", "PATCH"];

/// What is kept from one question to the next.
pub(super) struct Client {
    pool: Pool,
    unread: Arc<Semaphore>,
}

impl Client {
    /// `idle`: so many connections may wait for the next question.
    pub(super) fn new(idle: usize) -> Self {
        Self { pool: Pool::new(idle), unread: Arc::new(Semaphore::new(UNREAD_AT_ONCE)) }
    }

    /// Gives a connection back when the body of its last answer is over. Nobody waits for that.
    fn give_back(&self, to: Destination, mut kept: Kept, answer: Answer) {
        if answer.is_over() {
            return self.pool.put(to, kept);
        }
        let turn = match answer.may_stay(UNREAD_MAX) {
            true => self.unread.clone().try_acquire_owned(),
            false => return,
        };
        let Ok(turn) = turn else { return };
        let pool = self.pool.clone();
        tokio::spawn(async move {
            let body = tokio::time::timeout(UNREAD_TIME, answer.body(&mut kept.stream, UNREAD_MAX)).await;
            // Otherwise it is closed.
            if matches!(body, Ok(Ok(body)) if body.is_over) {
                pool.put(to, kept);
            }
            drop(turn);
        });
    }
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub(crate) is_tls: bool,
    /// As it is sent: with its port, where one is written.
    pub(crate) authority: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// Path and query; may be empty, or begin with `?`.
    path: &'a str,
}

impl<'a> Url<'a> {
    pub(crate) fn parse(url: &'a str) -> Option<Self> {
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let (is_tls, rest) = match url.strip_prefix("http://") {
            Some(rest) => (false, rest),
            None => (true, url.strip_prefix("https://")?),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // Whatever stands before `@` is for a login we do not do.
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let (host, port) = match (has_port, is_tls) {
            (true, _) => address::split(authority)?,
            (false, true) => (authority, 443),
            (false, false) => (authority, 80),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (!host.is_empty()).then_some(Self { is_tls, authority, host, port, path })
    }
}

/// As bytes. Errors: a method or a header that would be something else on the way.
pub(crate) fn request(
    method: &str,
    url: &Url<'_>,
    headers: &BTreeMap<String, String>,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    let is_token = |text: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        !text.is_empty() && text.bytes().all(good)
    };
    if !is_token(method) {
        return Err("its method cannot be sent".into());
    }
    let slash = if url.path.starts_with('/') { "" } else { "/" };
    let mut request = format!("{} {slash}{} HTTP/1.1\r\n", method, url.path);
    let mut add = |name: &str, value: &str| {
        request.push_str(name);
        request.push_str(": ");
        request.push_str(value);
        request.push_str("\r\n");
    };
    let length = body.len().to_string();
    let length = HAS_BODY.contains(&method).then_some(("Content-Length", length.as_str()));
    let ours = [
        ("Host", url.authority),
        ("User-Agent", "upbeat"),
        ("Accept", "*/*"),
        // Packed, nobody could look into it.
        ("Accept-Encoding", "identity"),
    ];
    for (name, value) in ours.into_iter().chain(length) {
        if headers.is_empty() || !headers.keys().any(|given| given.eq_ignore_ascii_case(name)) {
            add(name, value);
        }
    }
    for (name, value) in headers {
        if !is_token(name) || value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err("one of its headers cannot be sent".into());
        }
        add(name, value);
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    Ok(request)
}

/// The person wants a new connection each time.
fn is_closed_after(http: &Http) -> bool {
    let is_close = |(name, value): (&String, &String)| {
        name.eq_ignore_ascii_case("connection") && value.to_ascii_lowercase().contains("close")
    };
    http.headers.iter().any(is_close)
}

impl Inner {
    /// Asks, and judges the answer.
    pub(super) async fn http(&self, asked: &Asked<'_>, http: &Http) -> Answered {
        let Some(url) = Url::parse(&http.url) else {
            return Err(format!("`{}` is not a URL that can be asked", http.url).into());
        };
        let request = request(&http.method, &url, &http.headers, &[])?;
        let config = match url.is_tls {
            true => Some(self.trust.config(&http.tls, None).await?),
            false => None,
        };
        let name = http.tls.server_name.as_deref().unwrap_or(url.host);
        let to = Destination {
            slot: asked.slot.clone(),
            attempt: asked.attempt,
            host: url.host.to_owned(),
            port: url.port,
            tls: config.clone().map(|config| (Settings(config), name.to_owned())),
        };
        let may_stay = MAY_BE_REPEATED.contains(&http.method.as_str()) && !is_closed_after(http);
        if may_stay && let Some(mut kept) = self.http.pool.take(&to) {
            match exchange::ask(&mut kept.stream, &request, &http.method).await {
                // It had ended before it was asked: asked anew, once, over a new one.
                Err(Failure::Unanswered(_)) => {}
                Err(failure) => return Err(failure.words().into()),
                Ok(answer) => return Ok(self.judge(http, to, kept, answer, may_stay).await?),
            }
        }
        let stream = self.open(&url, config, name, asked.timeout).await?;
        let mut kept = Kept { stream, made: Instant::now() };
        let answer = exchange::ask(&mut kept.stream, &request, &http.method).await;
        Ok(self.judge(http, to, kept, answer.map_err(Failure::words)?, may_stay).await?)
    }

    async fn open(
        &self,
        url: &Url<'_>,
        config: Option<Arc<rustls::ClientConfig>>,
        name: &str,
        patience: Millis,
    ) -> Result<Stream, No> {
        let addresses = self.names.addresses(url.host, url.port).await?;
        let socket = address::connect(&addresses, patience.as_duration()).await?;
        Stream::over(socket, READ_MAX, config.map(|config| (&self.trust, config, name))).await
    }

    async fn judge(
        &self,
        http: &Http,
        to: Destination,
        mut kept: Kept,
        answer: Answer,
        may_stay: bool,
    ) -> Result<String, String> {
        let status = answer.head.status;
        let said = format!("HTTP {status}");
        let (Some(pattern), true) = (&http.body, http.accepts(status)) else {
            if may_stay {
                self.http.give_back(to, kept, answer);
            }
            return if http.accepts(status) { Ok(said) } else { Err(said) };
        };
        if let Some(coding) = &answer.head.coding {
            return Err(format!("{said}, but its body is packed as `{coding}`, which was not asked for"));
        }
        let pattern = self.patterns.get(pattern)?;
        let body = answer.body(&mut kept.stream, Http::BODY_MAX).await;
        let body = body.map_err(|failure| format!("{said}, but {}", failure.words()))?;
        if body.is_over && may_stay {
            self.http.pool.put(to, kept);
        }
        match pattern.is_match(&String::from_utf8_lossy(&body.bytes)) {
            true => Ok(format!("{said}, and its body matches")),
            false => Err(format!("{said}, but its body does not match")),
        }
    }
}

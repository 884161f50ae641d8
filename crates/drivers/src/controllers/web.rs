//! One question over HTTP, and the hosts it goes to.
//!
//! A name is looked up once for each hop; what it stands for is judged, and what was judged is what is
//! connected to. So a name that leads elsewhere when it is looked up again gains nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use upbeat_model::project::Tls;
use upbeat_model::rollout::check_address;

use super::{ANSWER_MAX, Policy, QUESTION_TIME};
use crate::probe::address::{self, Names};
use crate::probe::http::exchange::{self, Answer, Failure};
use crate::probe::http::{Url, request};
use crate::probe::stream::Stream;
use crate::probe::tls::Trust;
use crate::probe::words::{self, No};

/// So many redirects are followed: from one name to another, and to its path.
const REDIRECTS_MAX: usize = 3;

/// What is read for one answer, with all that protects it on the way: also of a chunked one of the longest.
const READ_MAX: usize = 2 * ANSWER_MAX;

type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Names and connections, as they are or as a test says.
pub(crate) trait Network: Send + Sync {
    /// What a host and port stand for now.
    fn look_up<'a>(&'a self, host: &'a str, port: u16) -> Pending<'a, Result<Vec<SocketAddr>, No>>;

    /// A connection to one of these.
    fn connect<'a>(&'a self, to: &'a [SocketAddr], patience: Duration) -> Pending<'a, Result<TcpStream, No>>;
}

/// As they are.
impl Network for Names {
    fn look_up<'a>(&'a self, host: &'a str, port: u16) -> Pending<'a, Result<Vec<SocketAddr>, No>> {
        Box::pin(self.addresses(host, port))
    }

    fn connect<'a>(&'a self, to: &'a [SocketAddr], patience: Duration) -> Pending<'a, Result<TcpStream, No>> {
        Box::pin(address::connect(to, patience))
    }
}

/// How a question is put.
pub(crate) struct Asked<'a> {
    /// `GET`, `POST`.
    pub(crate) method: &'static str,
    /// Besides those of every question.
    pub(crate) headers: &'a BTreeMap<String, String>,
    /// What is sent.
    pub(crate) body: &'a [u8],
}

/// Who asks over HTTP.
pub(crate) struct Web {
    pub(crate) policy: Policy,
    /// Whose certificates are believed, as PEM; none: whom this machine believes.
    pub(crate) ca: Option<String>,
    pub(crate) trust: Trust,
    pub(crate) network: Arc<dyn Network>,
}

impl Web {
    /// The body of the answer, which has the status 200.
    ///
    /// Errors, in words: there is no such answer.
    pub(super) async fn ask(&self, address: &str, asked: &Asked<'_>) -> Result<Vec<u8>, String> {
        let mut address = address.to_owned();
        let mut asked = Asked { ..*asked };
        let none = BTreeMap::new();
        for hops_left in (0..=REDIRECTS_MAX).rev() {
            check_address(&address).map_err(|problem| format!("its address {problem}"))?;
            let url = Url::parse(&address).ok_or("its address cannot be asked")?;
            let (answer, mut stream) = self.hop(&url, &asked).await?;
            let status = answer.head.status;
            match (status, &answer.head.location) {
                (200, _) => return body(answer, &mut stream).await,
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    if hops_left == 0 {
                        return Err(format!("HTTP {status}: it redirects more than {REDIRECTS_MAX} times"));
                    }
                    let next = redirected(&url, status, location, asked.method)?;
                    // What is in a header may be a secret between us and who was named.
                    if !is_same_origin(&url, &next) {
                        asked.headers = &none;
                    }
                    address = next;
                }
                _ => return Err(format!("HTTP {status}")),
            }
        }
        // The last of the hops has returned.
        Err("it redirects too often".into())
    }

    /// The status of the answer, whatever it is: what it says besides is not read, and no redirect is followed.
    ///
    /// Errors, in words: there is no answer.
    pub(crate) async fn status(&self, address: &str, asked: &Asked<'_>) -> Result<u16, String> {
        check_address(address).map_err(|problem| format!("its address {problem}"))?;
        let url = Url::parse(address).ok_or("its address cannot be asked")?;
        self.hop(&url, asked).await.map(|(answer, _)| answer.head.status)
    }

    async fn hop(&self, url: &Url<'_>, asked: &Asked<'_>) -> Result<(Answer, Stream), String> {
        let found = self.network.look_up(url.host, url.port).await.map_err(No::words)?;
        let mut refused = None;
        let mut allowed = found;
        allowed.retain(|address| match self.policy.judge(url.host, *address) {
            Ok(()) => true,
            Err(why) => {
                refused.get_or_insert(why);
                false
            }
        });
        if let (true, Some(why)) = (allowed.is_empty(), refused) {
            return Err(why);
        }
        let mut headers = asked.headers.clone();
        headers.insert("Connection".into(), "close".into());
        if !asked.body.is_empty() {
            headers.insert("Content-Type".into(), "application/json".into());
        }
        let request = request(asked.method, url, &headers, asked.body)?;
        let tls = Tls { ca: self.ca.clone(), ..Tls::default() };
        let config = match url.is_tls {
            true => Some(self.trust.config(&tls, None).await.map_err(No::words)?),
            false => None,
        };
        let socket = self.network.connect(&allowed, QUESTION_TIME).await.map_err(No::words)?;
        let tls = config.map(|config| (&self.trust, config, url.host));
        let mut stream = Stream::over(socket, READ_MAX, tls).await.map_err(No::words)?;
        let answer = exchange::ask(&mut stream, &request, asked.method).await.map_err(Failure::words)?;
        Ok((answer, stream))
    }
}

async fn body(answer: Answer, stream: &mut Stream) -> Result<Vec<u8>, String> {
    if let Some(coding) = &answer.head.coding {
        return Err(format!("its answer is packed as `{coding}`, which was not asked for"));
    }
    let too_long = || format!("its answer is longer than {}", words::bytes(ANSWER_MAX as u64));
    if answer.is_longer_than(ANSWER_MAX) {
        return Err(too_long());
    }
    let body = answer.body(stream, ANSWER_MAX + 1).await.map_err(Failure::words)?;
    match body.bytes.len() <= ANSWER_MAX {
        true => Ok(body.bytes),
        false => Err(too_long()),
    }
}

/// Where a redirect leads.
///
/// Errors, in words: it is not followed.
fn redirected(from: &Url<'_>, status: u16, location: &str, method: &str) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("HTTP {status}: {why}"));
    // By these a `POST` becomes a `GET` for most clients: it would ask nothing, and learn nothing.
    if method != "GET" && !matches!(status, 307 | 308) {
        return refuse("it redirects so that the question would be lost; 307 and 308 keep it");
    }
    let scheme = if from.is_tls { "https" } else { "http" };
    // What is behind `#` is never sent.
    let location = location.split('#').next().unwrap_or(location);
    let to = match location {
        to if to.starts_with("//") => format!("{scheme}:{to}"),
        to if to.starts_with('/') => format!("{scheme}://{}{to}", from.authority),
        to if to.starts_with("http://") || to.starts_with("https://") => to.to_owned(),
        _ => return refuse("it redirects neither to an address nor to a path that begins with `/`"),
    };
    if from.is_tls && to.starts_with("http://") {
        return refuse("it redirects from `https` to `http`, which is not followed");
    }
    match check_address(&to) {
        Ok(()) => Ok(to),
        Err(problem) => refuse(&format!("it redirects to an address that {problem}")),
    }
}

fn is_same_origin(from: &Url<'_>, to: &str) -> bool {
    Url::parse(to).is_some_and(|to| (to.is_tls, to.host, to.port) == (from.is_tls, from.host, from.port))
}

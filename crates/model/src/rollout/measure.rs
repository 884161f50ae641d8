//! What is measured of a version, how often, and how much of it may go wrong.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Controller, Expression, check_address};
use crate::Millis;
use crate::withheld::url_to_look_at;

/// The longest query, in bytes.
pub const QUERY_MAX: usize = 4096;

/// What is kept and shown of a value that was measured has so many characters at most, on one line.
pub const VALUE_MAX: usize = 200;

/// So many headers at most go with a question.
pub const HEADERS_MAX: usize = 32;

/// And so many bytes in all of them.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Measured so often at most: a week, once a minute, and a little.
pub const COUNT_MAX: u32 = 10_100;

/// The longest path of a file with a header in it, in bytes: no system takes a longer one.
const PATH_MAX: usize = 4096;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "a header is a text, or `{\"file\": \"/path/of/a/secret\"}`")]
pub enum HeaderValue {
    /// This. It is kept and shown with the strategy, and so no place for a secret.
    Text(String),
    /// What a file of the daemon's machine says, each time it is sent.
    File(HeaderFile),
}

/// A file with a header in it, and nothing else but a line feed at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HeaderFile {
    /// Its path, from the root.
    pub file: String,
}

/// What goes with a question besides, by name.
pub type Headers = BTreeMap<String, HeaderValue>;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// `GET` of this address; `result` is the JSON it answers with.
    Http {
        /// The address.
        url: String,
        /// What goes with it besides, as to say who asks. Sent to no other server, should it redirect.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: Headers,
    },
    /// A query to Prometheus, or what speaks its API; `result` is a number, or a list of numbers.
    Prometheus {
        /// Where its API is, without `/api/v1/query`.
        address: String,
        /// In its language.
        query: String,
        /// What goes with it besides, as to say who asks. Sent to no other server, should it redirect.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: Headers,
    },
    /// A command; `result` is the JSON it prints. It fails to measure where it ends with another status than 0.
    Exec(Vec<String>),
}

/// A value that is measured, and what it must be like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// What is measured.
    pub source: Source,
    /// It is as it should be where this is true of it; see [`Expression`].
    pub success: String,
    /// It is not, where this is true of it, whatever else is. Where neither is true it is inconclusive; without
    /// this, what is no success is a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How often.
    #[serde(default)]
    pub cadence: Cadence,
}

/// What cannot be measured, by its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct MeasureError {
    /// Which: `source`, `success`, `failure`, `cadence.count` and so on.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Source {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Http { url, headers } => {
                check_shown_address(url)?;
                check_headers(headers)
            }
            Self::Prometheus { address, query, headers } => {
                check_address(address)?;
                check_headers(headers)?;
                match () {
                    () if address.contains('?') => Err("must have no `?` in its address".into()),
                    () if query.trim().is_empty() => Err("must have a query".into()),
                    () if query.len() > QUERY_MAX => {
                        Err(format!("must have a query of {QUERY_MAX} bytes at most"))
                    }
                    () => Ok(()),
                }
            }
            Self::Exec(words) => Controller::Exec(words.clone()).check(),
        }
    }
}

/// Whether a character would end a header, or change what stands before it on a terminal.
pub fn is_in_header(c: char) -> bool {
    c == '\t' || !c.is_control()
}

/// It is kept and shown with the strategy.
fn check_shown_address(url: &str) -> Result<(), String> {
    check_address(url)?;
    match url_to_look_at(url) == url {
        true => Ok(()),
        false => Err("must have no secret in its address, which is kept and shown: send it as a header, \
             `{\"file\": \"/run/secrets/token\"}`"
            .into()),
    }
}

fn check_headers(headers: &Headers) -> Result<(), String> {
    /// What says how a question is sent is ours to say.
    const OURS: [&str; 7] = [
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "te",
        "transfer-encoding",
    ];
    /// What says who asks is a secret, whoever writes it down.
    const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
    let length = |value: &HeaderValue| match value {
        HeaderValue::Text(text) => text.len(),
        HeaderValue::File(_) => 0,
    };
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + length(value)).sum();
    if headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(format!("may have {HEADERS_MAX} headers of {HEADER_BYTES_MAX} bytes in all"));
    }
    for (name, value) in headers {
        let is_in_name = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let shown = name.escape_default();
        if name.is_empty() || !name.bytes().all(is_in_name) {
            return Err(format!("has a header that cannot be sent: `{shown}`"));
        }
        let name = name.to_ascii_lowercase();
        if OURS.contains(&name.as_str()) {
            return Err(format!("must not have the header `{shown}`"));
        }
        match value {
            HeaderValue::Text(text) if !text.chars().all(is_in_header) => {
                return Err(format!("has a header that cannot be sent: `{shown}`"));
            }
            HeaderValue::Text(_) if SECRET.contains(&name.as_str()) => {
                return Err(format!(
                    "must not have the header `{shown}` as text, which is kept and shown: \
                     name a file with it, `{{\"file\": \"/run/secrets/token\"}}`"
                ));
            }
            HeaderValue::Text(_) => {}
            HeaderValue::File(HeaderFile { file }) => {
                let is_path = file.starts_with('/') && !file.contains(char::is_control);
                if !is_path || file.len() > PATH_MAX {
                    return Err(format!(
                        "must name the file of the header `{shown}` by its path from the root, \
                         of {PATH_MAX} bytes at most"
                    ));
                }
            }
        }
    }
    Ok(())
}

impl Measure {
    /// Errors: the first field that cannot be; of an expression, where.
    pub fn check(&self) -> Result<(), MeasureError> {
        let refuse = |field: &str, problem: String| MeasureError { field: field.to_owned(), problem };
        self.source.check().map_err(|problem| refuse("source", problem))?;
        let expressions = [("success", Some(&self.success)), ("failure", self.failure.as_ref())];
        for (field, text) in expressions {
            if let Some(text) = text {
                Expression::new(text).map_err(|error| refuse(field, format!("is no expression: {error}")))?;
            }
        }
        self.cadence
            .check()
            .map_err(|error| refuse(&format!("cadence.{}", error.field), error.problem.to_owned()))
    }

    /// What a value says.
    pub fn judge(&self, result: &serde_json::Value) -> Outcome {
        let is_so = |field: &str, text: &str| {
            let said = Expression::new(text).map_err(|error| error.to_string());
            said.and_then(|expression| expression.is_so(result)).map_err(|why| format!("`{field}`: {why}"))
        };
        let fails = self.failure.as_deref().map(|text| is_so("failure", text)).transpose();
        match (fails, is_so("success", &self.success)) {
            (Err(why), _) | (_, Err(why)) => Outcome::Error(why),
            (Ok(Some(true)), _) | (Ok(None), Ok(false)) => Outcome::Failure,
            (_, Ok(true)) => Outcome::Success,
            (Ok(Some(false)), Ok(false)) => Outcome::Inconclusive,
        }
    }
}

/// What a sample says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "SampleOutcome"))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is as it should be.
    Success,
    /// It is not.
    Failure,
    /// It is neither as it should be nor as it should not.
    Inconclusive,
    /// It could not be measured, and why.
    Error(String),
}

/// Something was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sample {
    /// What that says.
    pub outcome: Outcome,
    /// What was found, in short: one line of 200 characters at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// How often something is measured, and how much of it may go wrong. The words and their meaning are those of
/// Argo Rollouts' analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Cadence {
    /// So long after the beginning it is measured first.
    pub initial_delay: Millis,
    /// So long after one sample follows the next. None: there is one, and what could not be measured is
    /// tried again after ten seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Millis>,
    /// So many samples, those that could not be taken not counted. None: one without an interval; with one,
    /// until something else ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// So many may be failures.
    pub failure_limit: u32,
    /// So many may be inconclusive.
    pub inconclusive_limit: u32,
    /// So many in a row may be errors.
    pub consecutive_error_limit: u32,
    /// So many successes in a row are enough; 0: none are.
    pub consecutive_success_limit: u32,
}

impl Default for Cadence {
    fn default() -> Self {
        Self {
            initial_delay: Millis(0),
            interval: None,
            count: None,
            failure_limit: 0,
            inconclusive_limit: 0,
            consecutive_error_limit: 4,
            consecutive_success_limit: 0,
        }
    }
}

/// What cannot be, by its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct CadenceError {
    /// Which, by its name in the file and in requests.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Cadence {
    /// What could not be measured is tried again after so long, where nothing says otherwise.
    pub const RETRY: Millis = Millis::seconds(10);

    /// Nothing is measured more often.
    pub const INTERVAL_MIN: Millis = Millis::seconds(1);

    /// How many samples there are, if that is known.
    pub fn effective_count(&self) -> Option<u32> {
        self.count.or(self.interval.is_none().then_some(1))
    }

    /// Whether it can become successful: without a number of samples or of successes it only ever fails.
    pub fn can_succeed(&self) -> bool {
        self.effective_count().is_some() || self.consecutive_success_limit > 0
    }

    /// So long after one sample follows the next.
    pub fn effective_interval(&self) -> Millis {
        self.interval.unwrap_or(Self::RETRY)
    }

    /// Errors: the first field that cannot be.
    pub fn check(&self) -> Result<(), CadenceError> {
        let refuse = |field, problem| Err(CadenceError { field, problem });
        match (self.interval, self.count) {
            (Some(interval), _) if interval < Self::INTERVAL_MIN => {
                return refuse("interval", "must be one second at least");
            }
            (_, Some(0)) => return refuse("count", "must be 1 at least"),
            (_, Some(count)) if count > COUNT_MAX => return refuse("count", "must be 10100 at most"),
            (None, Some(2..)) => return refuse("interval", "must be given where `count` is more than 1"),
            _ => {}
        }
        let Some(count) = self.effective_count() else { return Ok(()) };
        // Each would never be reached: whoever wrote it meant something else.
        match () {
            () if self.failure_limit >= count => {
                refuse("failure_limit", "must be less than `count`, or nothing can fail")
            }
            () if self.inconclusive_limit >= count && self.inconclusive_limit > 0 => {
                refuse("inconclusive_limit", "must be less than `count`")
            }
            () if self.consecutive_success_limit > count => {
                refuse("consecutive_success_limit", "must be `count` at most, or nothing can succeed")
            }
            () => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let of = |change: fn(&mut Cadence)| {
            let mut cadence =
                Cadence { interval: Some(Millis::seconds(5)), count: Some(3), ..Cadence::default() };
            change(&mut cadence);
            cadence.check().map_err(|error| error.field)
        };
        assert_eq!(of(|_| {}), Ok(()));
        assert_eq!(Cadence::default().check(), Ok(()));
        assert_eq!(of(|it| it.interval = Some(Millis(999))), Err("interval"));
        assert_eq!(of(|it| it.interval = None), Err("interval"));
        assert_eq!(of(|it| it.count = Some(0)), Err("count"));
        assert_eq!(of(|it| it.count = Some(COUNT_MAX + 1)), Err("count"));
        assert_eq!(of(|it| it.count = None), Ok(()), "without end");
        assert_eq!(of(|it| it.failure_limit = 3), Err("failure_limit"));
        assert_eq!(of(|it| it.failure_limit = 2), Ok(()));
        assert_eq!(of(|it| it.inconclusive_limit = 3), Err("inconclusive_limit"));
        assert_eq!(of(|it| it.consecutive_success_limit = 4), Err("consecutive_success_limit"));
        assert_eq!(of(|it| (it.count, it.failure_limit) = (None, 1_000)), Ok(()));
    }

    fn measure(success: &str, failure: Option<&str>) -> Measure {
        Measure {
            source: Source::Prometheus {
                address: "http://prometheus:9090".into(),
                query: "up".into(),
                headers: Headers::new(),
            },
            success: success.into(),
            failure: failure.map(Into::into),
            cadence: Cadence::default(),
        }
    }

    #[test]
    fn failure_counts_before_success_and_what_is_neither_is_inconclusive() {
        let value = serde_json::json!(5);
        for (success, failure, expected) in [
            ("result < 6", None, Outcome::Success),
            ("result < 5", None, Outcome::Failure),
            ("result < 6", Some("result > 9"), Outcome::Success),
            ("result < 6", Some("result > 4"), Outcome::Failure),
            ("result < 5", Some("result > 4"), Outcome::Failure),
            ("result < 5", Some("result > 9"), Outcome::Inconclusive),
            ("result", None, Outcome::Error("`success`: it is neither true nor false".into())),
            ("true", Some("result"), Outcome::Error("`failure`: it is neither true nor false".into())),
        ] {
            assert_eq!(measure(success, failure).judge(&value), expected, "{success} {failure:?}");
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused_by_its_field_and_place() {
        let good = measure("result < 1", Some("result > 2"));
        assert_eq!(good.check(), Ok(()));
        let of = |measure: Measure| measure.check().unwrap_err().to_string();
        assert!(of(measure("result <", None)).starts_with("`success` is no expression: line 1, column "));
        assert_eq!(
            of(measure("true", Some("other"))),
            "`failure` is no expression: line 1, column 1: `other` is not known: there is `result`"
        );
        let often = Cadence { count: Some(0), ..Cadence::default() };
        assert_eq!(of(Measure { cadence: often, ..good.clone() }), "`cadence.count` must be 1 at least");
        let with = |url: &str, name: &str, value: HeaderValue| {
            let headers = [(name.to_owned(), value)].into();
            Measure { source: Source::Http { url: url.into(), headers }, ..good.clone() }
        };
        let http = |url: &str, name: &str, value: &str| with(url, name, HeaderValue::Text(value.into()));
        assert_eq!(http("https://a/", "X-Tenant", "b").check(), Ok(()));
        let file = |path: &str| HeaderValue::File(HeaderFile { file: path.into() });
        assert_eq!(with("https://a/", "Authorization", file("/run/token")).check(), Ok(()));
        for name in ["Authorization", "COOKIE", "proxy-authorization"] {
            let refused = of(http("https://a/", name, "Bearer x"));
            assert!(refused.contains(name) && refused.contains("name a file"), "{refused}");
            assert!(!refused.contains("Bearer"), "{refused}");
        }
        for path in ["run/token", "", "/a\nb"] {
            assert!(of(with("https://a/", "X", file(path))).contains("by its path from the root"), "{path}");
        }
        assert!(of(http("https://ann:secret@a/", "X", "")).contains("must have no login"));
        assert!(of(http("https://a/?api_key=secret", "X", "")).contains("must have no secret"));
        assert_eq!(http("https://a/?window=5m", "X", "").check(), Ok(()));
        assert!(of(http("a", "X", "")).starts_with("`source` must begin with"));
        assert_eq!(of(http("http://a/", "X\n", "")), "`source` has a header that cannot be sent: `X\\n`");
        assert_eq!(of(http("http://a/", "X", "a\r\nb")), "`source` has a header that cannot be sent: `X`");
        assert_eq!(of(http("http://a/", "HOST", "b")), "`source` must not have the header `HOST`");
        let query = |address: &str, query: &str| {
            let headers = Headers::new();
            let source = Source::Prometheus { address: address.into(), query: query.into(), headers };
            of(Measure { source, ..good.clone() })
        };
        assert_eq!(query("http://a/?x", "up"), "`source` must have no `?` in its address");
        assert_eq!(query("http://a/", " "), "`source` must have a query");
        assert_eq!(of(Measure { source: Source::Exec(vec![]), ..good }), "`source` must name a program");
    }
}

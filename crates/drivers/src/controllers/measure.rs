//! Something is measured, once.

use serde_json::Value;
use upbeat_model::Millis;
use upbeat_model::rollout::{Measure, Sample, SampleOutcome as Outcome, Source};
use upbeat_model::withheld::Secrets;

use super::web::Asked;
use super::{Caller, Inner, QUESTION_TIME, headers, shown, words};

/// What is measured is a number, or some: of more, each byte may cost a hundred where it is read and looked at.
const MEASURED_MAX: usize = 64 << 10;

impl Caller {
    /// Measures once, and judges. Ends within [`QUESTION_TIME`], and a little for the judgement.
    pub async fn measure(&self, measure: &Measure) -> Sample {
        let mut secrets = Secrets::default();
        let sample = self.sample(measure, &mut secrets).await;
        // Whoever was told a secret may say it again.
        let outcome = match sample.outcome {
            Outcome::Error(why) => Outcome::Error(shown(&secrets.hide(why))),
            outcome => outcome,
        };
        Sample { outcome, value: shown(&secrets.hide(sample.value)) }
    }

    async fn sample(&self, measure: &Measure, secrets: &mut Secrets) -> Sample {
        let failed = |why: String| Sample { outcome: Outcome::Error(why), value: String::new() };
        let value = self.inner.value(&measure.source, secrets);
        let measured = tokio::time::timeout(QUESTION_TIME, value).await;
        let answer = match measured {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return failed(why),
            Err(_) => {
                let after = Millis(u64::try_from(QUESTION_TIME.as_millis()).unwrap_or(u64::MAX));
                return failed(format!("timed out after {after}"));
            }
        };
        if answer.len() > MEASURED_MAX {
            return failed(format!("its answer is longer than {}", words::bytes(MEASURED_MAX as u64)));
        }
        // One at a time: what it costs is bounded for all of them.
        let _turn = self.inner.judging.acquire().await;
        let measure = measure.clone();
        // It may take as long as an expression may: not where others wait to be asked.
        let judged = tokio::task::spawn_blocking(move || {
            let result = read(&measure.source, &answer)?;
            Ok(Sample { outcome: measure.judge(&result), value: brief(&result) })
        });
        match judged.await {
            Ok(Ok(sample)) => sample,
            Ok(Err(why)) => failed(why),
            Err(_) => failed("the daemon ends".into()),
        }
    }
}

impl Inner {
    /// What is answered. `secrets`: what was told to whoever answers, and is not to be shown.
    async fn value(&self, source: &Source, secrets: &mut Secrets) -> Result<Vec<u8>, String> {
        let (url, headers) = match source {
            Source::Http { url, headers } => (url.clone(), headers),
            Source::Prometheus { address, query, headers } => {
                let query = encoded(query);
                (format!("{}/api/v1/query?query={query}", address.trim_end_matches('/')), headers)
            }
            Source::Exec(words) => return self.commands.ask(words, Vec::new()).await,
        };
        let headers = headers::read(&self.headers, headers).await?;
        *secrets = headers.secrets;
        self.web.ask(&url, &Asked { method: "GET", headers: &headers.all, body: &[] }).await
    }
}

/// As a part of an address: whatever may not stand in one as `%20`.
fn encoded(query: &str) -> String {
    let mut encoded = String::new();
    for byte in query.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn read(source: &Source, answer: &[u8]) -> Result<Value, String> {
    let read = serde_json::from_slice::<Value>(answer);
    let value = read.map_err(|error| format!("its answer is not JSON: {error}"))?;
    match source {
        Source::Prometheus { .. } => prometheus(&value),
        Source::Http { .. } | Source::Exec(_) => Ok(value),
    }
}

/// The numbers of an instant query, as its API has them.
fn prometheus(answer: &Value) -> Result<Value, String> {
    if answer["status"] != "success" {
        let why = answer["error"].as_str().unwrap_or("it does not say why");
        return Err(format!("the query failed: {why}"));
    }
    let (data, number) = (&answer["data"], |sample: &Value| {
        let text = sample[1].as_str().ok_or("a sample has no value")?;
        let number: f64 = text.parse().map_err(|_| format!("a sample has the value `{text}`"))?;
        // JSON has no word for these, and no comparison with them means anything.
        serde_json::Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| format!("a sample has the value `{text}`, which is no number to compare"))
    });
    match (data["resultType"].as_str(), &data["result"]) {
        (Some("scalar"), sample) => number(sample),
        (Some("vector"), Value::Array(samples)) => samples
            .iter()
            .map(|sample| number(&sample["value"]))
            .collect::<Result<_, String>>()
            .map(Value::Array),
        (Some(other), _) => Err(format!("the query gives a `{other}`, and must give a scalar or a vector")),
        (None, _) => Err("its answer has no `resultType`".into()),
    }
}

/// The beginning of a value, for people: the whole may have megabytes.
fn brief(value: &Value) -> String {
    match value {
        Value::Array(list) if list.len() > 20 => format!("a list of {}", list.len()),
        Value::Object(fields) if fields.len() > 20 => format!("an object of {} fields", fields.len()),
        value => value.to_string(),
    }
}

//! What is measured of a version decides about it: over HTTP, from Prometheus, under a daemon that dies meanwhile.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::home::{Home, eventually};
use crate::seeing::scraper;
use crate::{Journey, Need};

pub(super) fn journeys() -> Vec<Journey> {
    vec![
        Journey::new("a version is good or bad by what is measured, while a daemon dies", measured),
        Journey::needing(&[Need::PROMETHEUS], "a real Prometheus is asked about a version", real),
    ]
}

const TOKEN: &str = "Bearer 0123456789abcdef";

/// What a server of numbers says, and was asked.
#[derive(Default)]
struct Said {
    /// None: it cannot answer.
    rate: Option<f64>,
    queries: usize,
    health: usize,
    /// Who asked for a rate was not known.
    strangers: usize,
}

/// Plays Prometheus under `/api/v1/query`, and says under `/health` how it is.
struct Numbers {
    address: String,
    said: Arc<Mutex<Said>>,
}

impl Numbers {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let said = Arc::new(Mutex::new(Said { rate: Some(0.01), ..Said::default() }));
        let telling = said.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                // Whoever asked may have died.
                let Some(first) = lines.next() else { continue };
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let answer = Self::answer(&mut telling.lock().unwrap(), &first, &head);
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { address, said }
    }

    fn answer(said: &mut Said, first: &str, head: &[String]) -> String {
        let is_health = first.starts_with("GET /health ");
        match is_health {
            true => said.health += 1,
            false => said.queries += 1,
        }
        if !is_health && !head.iter().any(|line| *line == format!("Authorization: {TOKEN}")) {
            said.strangers += 1;
        }
        let Some(rate) = said.rate.filter(|_| is_health || first.starts_with("GET /api/v1/query?query="))
        else {
            return "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".into();
        };
        let body = match is_health {
            true => json!({"status": "ok"}),
            false => {
                let sample = json!({"metric": {}, "value": [1.5, rate.to_string()]});
                json!({"status": "success", "data": {"resultType": "vector", "result": [sample]}})
            }
        };
        let body = body.to_string();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn say(&self, rate: Option<f64>) {
        self.said.lock().unwrap().rate = rate;
    }

    fn queries(&self) -> usize {
        self.said.lock().unwrap().queries
    }

    /// A canary, and what is measured after it and throughout.
    fn strategy(&self, token: &str) -> Value {
        let rate = json!({"prometheus": {
            "address": self.address, "query": "error_rate", "headers": {"Authorization": {"file": token}},
        }});
        let often = json!({"interval": 1000, "count": 3, "consecutive_error_limit": 1});
        json!({
            "stages": [{"name": "canary", "who": {"amount": {"count": 1}}}],
            "analyses": [
                {
                    "name": "rate",
                    "after": "canary",
                    "measure": {"source": rate, "success": "result[0] < 0.05", "cadence": often},
                },
                {
                    "name": "health",
                    "measure": {
                        "source": {"http": {"url": format!("{}/health", self.address)}},
                        "success": r#"result.status == "ok""#,
                        "cadence": {"interval": 1000, "consecutive_error_limit": 1000},
                    },
                },
            ],
        })
    }
}

/// Three targets that do what they are told.
struct Site {
    home: Home,
    runs: BTreeMap<String, String>,
}

impl Site {
    fn new() -> Self {
        let runs = ["a", "b", "c"].map(|name| (name.to_owned(), "v1".to_owned())).into();
        let mut site = Self { home: Home::new(), runs };
        site.start("v1", &["--success", "0", "--batch", "100%"]);
        site.until("v1 is good", |_, state| state["good"] == "v1");
        site.home
            .run(&["rollout", "options", "prod/web", "--success", "100", "--success-timeout", "0s"])
            .ok();
        site
    }

    fn start(&self, version: &str, more: &[&str]) {
        self.home.run(&[&["rollout", "start", "prod/web", version], more].concat()).ok();
    }

    fn state(&self) -> Option<Value> {
        let shown = self.home.run(&["rollout", "show", "prod/web", "-o", "json"]);
        (shown.code == 0).then(|| serde_json::from_str(&shown.stdout).unwrap())
    }

    /// All are reported, and do what they are told.
    fn report(&mut self) {
        let said: Vec<String> = self.runs.iter().map(|(name, version)| format!("{name}={version}")).collect();
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        let typed = [&["rollout", "report", "prod/web"], &said[..], &["-o", "json"]].concat();
        let ran = self.home.run(&typed);
        if ran.code != 0 {
            return;
        }
        let told: Value = serde_json::from_str(&ran.stdout).unwrap();
        for target in told["targets"].as_array().unwrap() {
            if let Some(version) = target["assigned"]["version"].as_str() {
                self.runs.insert(target["name"].as_str().unwrap().to_owned(), version.to_owned());
            }
        }
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self, &Value) -> bool) {
        eventually(what, || {
            self.report();
            self.state().is_some_and(|state| is_so(self, &state))
        });
    }

    fn on(&self, version: &str) -> usize {
        self.runs.values().filter(|runs| *runs == version).count()
    }
}

fn rate(state: &Value) -> &Value {
    &state["analyses"][0]
}

fn measured() {
    let numbers = Numbers::new();
    let mut site = Site::new();
    let token = site.home.outside("token");
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    site.home.write("strategy.json", &numbers.strategy(token.to_str().unwrap()).to_string());
    let as_text = numbers.strategy("x").to_string().replace(r#"{"file":"x"}"#, &format!("\"{TOKEN}\""));
    site.home.write("secret.json", &as_text);
    let refused = site.home.run(&["rollout", "start", "prod/web", "v2", "--strategy", "secret.json"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("`analyses[0].measure.source` must not have the header `Authorization`"));
    assert!(!refused.stderr.contains("0123456789"), "{}", refused.stderr);

    // With reports alone, it is good when what is measured is.
    site.start("v2", &["--strategy", "strategy.json"]);
    site.until("v2 is good", |site, state| {
        assert!(site.on("v2") <= 1 || numbers.queries() >= 3, "{} are moved too early", site.on("v2"));
        state["good"] == "v2" && state["course"] == "steady"
    });
    assert!(numbers.said.lock().unwrap().health > 0);
    assert_eq!(numbers.said.lock().unwrap().strangers, 0);

    // A daemon dies in the midst of it, and the next goes on.
    site.start("v3", &[]);
    let before = numbers.queries();
    site.until("one sample is taken", |_, state| rate(state)["successes"].as_u64() >= Some(1));
    let taken = rate(&site.state().unwrap())["successes"].as_u64();
    site.home.kill_daemon();
    site.until("v3 is good", |site, state| {
        let known = rate(state)["successes"].as_u64();
        assert!(known.is_none_or(|known| Some(known) >= taken), "{known:?} of {taken:?}");
        assert!(site.on("v3") <= 1 || numbers.queries() >= before + 3);
        state["good"] == "v3"
    });
    let asked = numbers.queries() - before;
    assert!((3..=4).contains(&asked), "{asked}: one may be lost with the daemon");

    // One that is not as it should be goes back, and says why.
    numbers.say(Some(0.2));
    site.start("v4", &[]);
    site.until("all are back", |site, state| state["course"] == "back" && site.on("v3") == 3);
    let why = site.home.run(&["rollout", "why", "prod/web"]).ok().stdout;
    assert!(why.contains("analysis `rate` failed: 1 failed, and 0 may; last: [0.2]"), "{why}");
    let shown = site.home.run(&["rollout", "show", "prod/web"]).ok().stdout;
    assert!(shown.contains("✗ analysis rate  failed, 1 of 3 samples, 1 failed, last: [0.2]"), "{shown}");

    // Where nobody can say, somebody has to.
    numbers.say(None);
    site.start("v5", &[]);
    site.until("it is unclear", |_, state| rate(state)["verdict"] == "error");
    let why = site.home.run(&["rollout", "why", "prod/web"]).ok().stdout;
    assert!(why.contains("analysis `rate` is unclear") && why.contains("HTTP 503"), "{why}");
    assert_eq!(site.on("v5"), 1);
    site.home.run(&["rollout", "approve", "prod/web"]).ok();
    site.until("v5 is good", |_, state| state["good"] == "v5");
    let told = [site.state().unwrap().to_string(), site.home.run(&["events"]).stdout].concat();
    assert!(!told.contains("0123456789"), "{told}");
}

fn real() {
    let mut site = Site::new();
    let (_server, port) = scraper(&site.home, "static_configs: []");
    let of = |query: &str| {
        let source = json!({"prometheus": {"address": format!("http://127.0.0.1:{port}"), "query": query}});
        let measure = json!({
            "source": source,
            "success": "size(result) == 1 && result[0] < 0.05",
            "cadence": {"interval": 1000, "count": 2, "consecutive_error_limit": 0},
        });
        json!({"analyses": [{"name": "rate", "measure": measure}]}).to_string()
    };
    site.home.write("good.json", &of("sum(vector(0.01)) * 2"));
    site.start("v2", &["--strategy", "good.json"]);
    site.until("v2 is good", |_, state| state["good"] == "v2");
    site.home.write("wrong.json", &of("sum("));
    site.start("v3", &["--strategy", "wrong.json"]);
    site.until("it is unclear", |_, state| rate(state)["verdict"] == "error");
    site.home.run(&["rollout", "abort", "prod/web"]).ok();
    site.home.write("bad.json", &of("vector(0.5)"));
    site.start("v4", &["--strategy", "bad.json"]);
    site.until("v4 is bad", |_, state| state["bad"] == "v4");
    let why = site.home.run(&["rollout", "why", "prod/web"]).ok().stdout;
    assert!(why.contains("analysis `rate` failed: 1 failed, and 0 may; last: [0.5]"), "{why}");
}

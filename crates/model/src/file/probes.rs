//! Reads what is asked of a service: its probes, and Compose's health check, which is one of them.

use super::place::Span;
use super::questions;
use super::read::{At, broken};
use super::report::{Problem, Report, shown};
use super::rules::Broken;
use super::service::{Draft, Reader, words};
use super::tree::{Entry, Node, Value};
use super::{Context, Unread, scalar};
use crate::ids::ProbeName;
use crate::project::{FileCheck, Grpc, Http, Probe, Question, Reaction, Remedy, Role, Signal, Tls, Udp};

/// The keys that ask a question, of which there is one.
const QUESTIONS: [&str; 14] = [
    "http",
    "tcp",
    "udp",
    "grpc",
    "unix",
    "exec",
    "file",
    "log",
    "notify",
    "watchdog",
    "prints_within",
    "memory",
    "descriptors",
    "cpu",
];

/// Compose's own.
const TEST: &str = "test";

/// What a key says about the question asked.
enum Asked {
    Question(Question),
    /// `test: ["NONE"]`, `notify: false`.
    Nothing,
    /// It was refused, and that was said.
    Bad,
}

/// A file of certificates that a probe believes.
pub(super) struct Authority {
    probe: ProbeName,
    path: String,
    span: Span,
}

impl<'a> Reader<'_, '_, 'a> {
    /// All that stand under `probes`.
    pub(super) fn probes(&mut self, node: &Node<'a>, at: &At<'_>, draft: &mut Draft) {
        let Value::Map(entries) = node.value else { return };
        if entries.len() > Probe::COUNT_MAX {
            broken(node, at, questions::too_many(entries.len()), self.report);
            return;
        }
        for Entry { key, value } in entries {
            let Ok(name) = ProbeName::new(key.text) else { continue };
            let at = at.key(key);
            if let Some(role) = nearly_a_role(key.text) {
                self.report.note(key.span, || {
                    Problem::new(format!("`{at}` is a probe of a name of its own, and none of the three"))
                        .hint(format!("did you mean `{role}`?"))
                });
            }
            draft.probe_spans.insert(name.clone(), key.span);
            // Refused: as if it were there, so that nobody who waits for it is refused too.
            let mut found = Probe::asking(Question::Exec(Vec::new()));
            if let Value::Map(entries) = value.value {
                let (word, ask) = self.ask(entries, &at);
                match ask {
                    Asked::Question(ask) => found = Probe::asking(ask),
                    Asked::Nothing => self.asks_nothing(value, &at, &QUESTIONS),
                    Asked::Bad => {}
                }
                self.rhythm(entries, &mut found, &at);
                self.authority(&name, word.and_then(|word| value.get(word)), draft);
            }
            draft.spec.probes.insert(name, found);
        }
    }

    /// Compose's `healthcheck`: the probe called `readiness`. What an image says of its health is not asked here.
    pub(super) fn healthcheck(&mut self, node: &Node<'a>, at: &At<'_>, draft: &mut Draft) {
        let Value::Map(entries) = node.value else { return };
        let Ok(name) = ProbeName::new(ProbeName::READINESS) else { return };
        let (word, ask) = self.ask(entries, at);
        let is_disabled = node.get("disable").and_then(|node| node.as_text()).is_some_and(is_true);
        let mut found = match ask {
            _ if is_disabled => return,
            Asked::Question(ask) => Probe::new(ask),
            Asked::Bad => Probe::new(Question::Exec(Vec::new())),
            Asked::Nothing if word.is_some() => return,
            Asked::Nothing => {
                match draft.container {
                    None => self.asks_nothing(node, at, &[&QUESTIONS[..], &[TEST]].concat()),
                    Some(_) => {
                        let rule = Broken::new("asks nothing")
                            .hint("give it a `test`: that of the image is asked as often as the image says");
                        broken(node, at, rule, self.report);
                    }
                }
                Probe::new(Question::Exec(Vec::new()))
            }
        };
        self.rhythm(entries, &mut found, at);
        self.authority(&name, word.and_then(|word| node.get(word)), draft);
        draft.probe_spans.insert(name.clone(), at.span_of_key());
        draft.spec.probes.insert(name, found);
    }

    fn asks_nothing(&mut self, node: &Node<'a>, at: &At<'_>, known: &[&str]) {
        let hint = format!("give it one of {}", super::words::quoted(known));
        broken(node, at, Broken::new("asks nothing").hint(hint), self.report);
    }

    /// The one question there is, and the key that asks it.
    fn ask(&mut self, entries: &[Entry<'a>], at: &At<'_>) -> (Option<&'a str>, Asked) {
        let mut found: Option<(&'a str, Asked)> = None;
        for Entry { key, value } in entries {
            if key.text != TEST && !QUESTIONS.contains(&key.text) {
                continue;
            }
            match &found {
                None => found = Some((key.text, self.question(key.text, value, &at.key(key)))),
                Some((first, _)) => self.report.error(key.span, || {
                    Problem::new(format!("`{at}` asks twice: `{first}` and `{}`", key.text))
                        .label("the second one")
                        .hint("keep one of the two".to_owned())
                }),
            }
        }
        found.map_or((None, Asked::Nothing), |(word, asked)| (Some(word), asked))
    }

    fn question(&mut self, word: &str, node: &Node<'a>, at: &At<'_>) -> Asked {
        let text = || node.as_text().map(str::to_owned);
        let length = || scalar::length(node.as_text()?).ok();
        let ask = match word {
            TEST => return words(node).map_or(Asked::Bad, test),
            "notify" if node.as_text().is_some_and(|text| scalar::flag(text).is_ok_and(|flag| !flag)) => {
                return Asked::Nothing;
            }
            "notify" => Some(Question::Notify),
            "http" => self.http(node, at).map(Question::Http),
            "tcp" => text().map(Question::Tcp),
            "udp" => udp(node).map(Question::Udp),
            "grpc" => grpc(node).map(Question::Grpc),
            "unix" => self.socket(node, at).map(Question::Unix),
            "exec" => words(node).map(Question::Exec),
            "file" => self.file(node).map(Question::File),
            "log" => text().map(Question::Log),
            "watchdog" => length().map(Question::Watchdog),
            "prints_within" => length().map(Question::Prints),
            "memory" => node.as_text().and_then(|text| scalar::bytes(text).ok()).map(Question::Memory),
            "descriptors" => text().and_then(|text| text.parse().ok()).map(Question::Descriptors),
            _ => text().and_then(|text| text.parse().ok()).map(Question::Cpu),
        };
        let Some(ask) = ask else { return Asked::Bad };
        self.judge_together(&ask, node, at);
        Asked::Question(ask)
    }

    /// What its fields say together; what is wrong with one alone was said.
    fn judge_together(&mut self, ask: &Question, node: &Node<'a>, at: &At<'_>) {
        let field = |path: &str| path.split('.').try_fold(node, |node, name| node.get(name));
        let is_written = |path: &str| field(path).is_some();
        let tls = ask.tls().filter(|_| is_written("tls"));
        let broken_rule = match (ask, tls) {
            (Question::Http(http), Some(_)) if http.url.starts_with("http://") => {
                Err(("tls", questions::is_plain()))
            }
            // Its certificates are read later.
            (_, Some(tls)) if tls.insecure && is_written("tls.ca_file") => {
                Err(("tls.ca_file", questions::believes_all()))
            }
            _ => questions::together(ask),
        };
        if let Err((path, rule)) = broken_rule {
            let place = field(path).unwrap_or(node);
            self.report
                .error(place.span, || Problem::new(format!("`{at}.{path}` {}", rule.what)).hint(rule.hint));
        }
    }

    fn http(&mut self, node: &Node<'a>, at: &At<'_>) -> Option<Http> {
        // As text, where its variables were not filled in.
        let url = node.as_text().or_else(|| node.get("url")?.as_text())?;
        let text = |name: &str| node.get(name).and_then(|node| node.as_text()).map(str::to_owned);
        let headers = node.get("headers").map(|node| node.entries()).unwrap_or_default();
        let header = |entry: &Entry<'a>| Some((entry.key.text.to_owned(), entry.value.as_text()?.to_owned()));
        let statuses = match node.get("status").map(|node| node.value) {
            Some(Value::List(items)) => items,
            _ => &[],
        };
        if let Some(node) = node.get("status").filter(|node| matches!(node.value, Value::List([]))) {
            let rule = Broken::new("is empty").hint("without the key it is `200-399`");
            self.report
                .error(node.span, || Problem::new(format!("`{at}.status` {}", rule.what)).hint(rule.hint));
        }
        let status = |item: &&Node<'a>| questions::status(item.as_text()?).ok();
        Some(Http {
            method: text("method").unwrap_or_else(Http::default_method),
            headers: headers.iter().filter_map(header).collect(),
            status: statuses.iter().filter_map(status).collect(),
            body: text("body"),
            tls: node.get("tls").map(|node| tls(node)).unwrap_or_default(),
            ..Http::get(url)
        })
    }

    fn socket(&mut self, node: &Node<'a>, at: &At<'_>) -> Option<String> {
        let path = self.place(node)?;
        match questions::socket(&path) {
            // Where variables are not filled in, it may be another one.
            Err(rule) if self.context.interpolate => {
                broken(node, at, rule, self.report);
                None
            }
            _ => Some(path),
        }
    }

    fn file(&mut self, node: &Node<'a>) -> Option<FileCheck> {
        let max_age = node.get("max_age").and_then(|node| scalar::length(node.as_text()?).ok());
        let path = if node.as_text().is_some() { Some(node) } else { node.get("path") };
        Some(FileCheck { path: self.place(path?)?, max_age })
    }

    /// An absolute path, also of a text that differs from copy to copy.
    fn place(&self, node: &Node<'a>) -> Option<String> {
        Some(super::project::joined(self.dir_of(node.span), node.as_text()?))
    }

    /// When it is asked, and what follows from a no.
    fn rhythm(&mut self, entries: &[Entry<'a>], found: &mut Probe, at: &At<'_>) {
        for Entry { key, value } in entries {
            let idle = questions::OF_WHO_ASKS.iter().find(|(idle, _)| *idle == key.text);
            if let Some((_, why)) = idle.filter(|_| found.ask.is_told()) {
                let rule = questions::is_told(&found.ask, why);
                self.report.error(key.span, || {
                    Problem::new(format!("`{at}.{}` {}", key.text, rule.what)).hint(rule.hint)
                });
                continue;
            }
            let length = || value.as_text().and_then(|text| scalar::length(text).ok());
            let count = || value.as_text().and_then(|text| text.parse().ok());
            match key.text {
                "initial_delay" => found.initial_delay = length().unwrap_or_default(),
                "start_period" => found.start_period = length().unwrap_or_default(),
                "interval" => found.interval = length().unwrap_or(found.interval),
                "timeout" => found.timeout = length().unwrap_or(found.timeout),
                "start_interval" => found.start_interval = length().unwrap_or(found.start_interval),
                "retries" | "failure_threshold" => {
                    found.failure_threshold = count().unwrap_or(found.failure_threshold);
                }
                "success_threshold" => {
                    found.success_threshold = count().unwrap_or(found.success_threshold);
                }
                "on_failure" => found.on_failure = self.remedy(value, &at.key(key)),
                _ => {}
            }
        }
    }

    fn remedy(&mut self, node: &Node<'a>, at: &At<'_>) -> Option<Remedy> {
        let word = node.get("action")?.as_text()?;
        let action = match word {
            "ignore" => Some(Reaction::Ignore),
            "restart" => Some(Reaction::Restart),
            "stop" => Some(Reaction::Stop),
            "exec" => match node.get("command") {
                Some(command) => words(command).map(Reaction::Exec),
                None => self.lacks(node, at, "runs a command, and does not say which", "command"),
            },
            "signal" => match node.get("signal") {
                Some(signal) => signal.as_text().and_then(Signal::parse).map(Reaction::Signal),
                None => self.lacks(node, at, "sends a signal, and does not say which", "signal"),
            },
            // It is not known before its variables are.
            _ => return None,
        };
        for (name, of) in [("command", "exec"), ("signal", "signal")] {
            let given = node.entries().iter().find(|entry| entry.key.text == name);
            if let Some(entry) = given.filter(|_| word != of) {
                self.report.error(entry.key.span, || {
                    Problem::new(format!("`{at}.{name}` is for `action: {of}`"))
                        .hint("take it out, or do that".to_owned())
                });
            }
        }
        let text = |name: &str| node.get(name).and_then(|node| node.as_text());
        let attempts = text("max_attempts").and_then(|text| text.parse().ok());
        Some(Remedy {
            action: action?,
            max_attempts: attempts.unwrap_or(Remedy::default_max_attempts()),
            window: text("window")
                .and_then(|text| scalar::length(text).ok())
                .unwrap_or(Remedy::default_window()),
        })
    }

    fn lacks(&mut self, node: &Node<'a>, at: &At<'_>, what: &str, key: &str) -> Option<Reaction> {
        broken(node, at, Broken::new(what).hint(format!("give it a `{key}`")), self.report);
        None
    }

    /// Keeps where the certificates of a question are.
    fn authority(&mut self, probe: &ProbeName, question: Option<&'a Node<'a>>, draft: &mut Draft) {
        let file = question.and_then(|question| question.get("tls")?.get("ca_file"));
        if let Some((path, span)) = file.and_then(|file| Some((file.as_text()?.to_owned(), file.span))) {
            draft.authorities.push(Authority { probe: probe.clone(), path, span });
        }
    }

    /// What the probes of a service say together.
    pub(super) fn judge_probes(&mut self, node: &Node<'a>, at: &At<'_>, draft: &Draft) {
        let entry = |name: &str| node.entries().iter().find(|entry| entry.key.text == name);
        let own = entry("probes").and_then(|probes| {
            probes.value.entries().iter().find(|entry| entry.key.text == ProbeName::READINESS)
        });
        if let (Some(check), Some(own)) = (entry("healthcheck"), own) {
            self.report.error(own.key.span, || {
                Problem::new(format!("`{at}` has `healthcheck` and `probes.readiness`, which are one thing"))
                    .label("the one under `probes`")
                    .hint("keep one of the two".to_owned())
                    .also(check.key.span, "the health check")
            });
        }
        for (place, rule) in questions::of_service(&draft.spec) {
            let span = place.as_ref().and_then(|place| span_of(place, node, draft));
            let path = questions::path(place.as_ref());
            self.report.error(span.unwrap_or(draft.name_span), || {
                Problem::new(format!("`{at}.{path}` {}", rule.what)).hint(rule.hint)
            });
        }
        self.note_one_question(at, draft);
    }

    /// One probe could do what two that ask the same do.
    fn note_one_question(&mut self, at: &At<'_>, draft: &Draft) {
        let probe = |name: &str| draft.spec.probes.get(name);
        let (Some(readiness), Some(liveness)) = (probe(ProbeName::READINESS), probe(ProbeName::LIVENESS))
        else {
            return;
        };
        let span = |(name, _): (&ProbeName, _)| draft.probe_spans.get(name).copied();
        let Some(span) = draft.spec.probes.get_key_value(ProbeName::LIVENESS).and_then(span) else { return };
        let action = liveness.remedy(Role::Liveness).action;
        if readiness.ask == liveness.ask && readiness.on_failure.is_none() && action != Reaction::Ignore {
            self.report.note(span, || {
                Problem::new(format!("`{at}.probes.liveness` asks what the readiness of the service asks"))
                    .hint("give that an `on_failure` of its own, and take this one out".to_owned())
            });
        }
    }
}

/// The probe that has a meaning of its own, where a name is no other than by mistake: in two letters, or in
/// their case.
fn nearly_a_role(name: &str) -> Option<&'static str> {
    const DIFFERENT_MAX: usize = 2;
    // What is longer than the longest and as many letters is none of them, and costs time to compare.
    if name.len() > ProbeName::READINESS.len() + 4 * DIFFERENT_MAX {
        return None;
    }
    let lower = name.to_lowercase();
    let roles = [ProbeName::STARTUP, ProbeName::READINESS, ProbeName::LIVENESS];
    let is_near = |role: &&str| strsim::damerau_levenshtein(&lower, role) <= DIFFERENT_MAX;
    roles.into_iter().find(is_near).filter(|role| *role != name)
}

/// Where a probe stands, or a key of it.
fn span_of((probe, key): &questions::Place, service: &Node<'_>, draft: &Draft) -> Option<Span> {
    let entry = |node: &Node<'_>, name: &str| {
        node.entries().iter().find(|entry| entry.key.text == name).map(|entry| entry.key.span)
    };
    let of_key = key.and_then(|key| entry(service.get("probes")?.get(probe.as_str())?, key));
    of_key.or_else(|| draft.probe_spans.get(probe).copied())
}

fn is_true(text: &str) -> bool {
    scalar::flag(text).unwrap_or(false)
}

fn udp(node: &Node<'_>) -> Option<Udp> {
    let text = |name: &str| node.get(name).and_then(|node| node.as_text()).map(str::to_owned);
    Some(Udp { address: text("address")?, send: text("send").unwrap_or_default(), expect: text("expect") })
}

fn grpc(node: &Node<'_>) -> Option<Grpc> {
    let text = |name: &str| node.get(name).and_then(|node| node.as_text()).map(str::to_owned);
    Some(Grpc {
        address: node.as_text().map(str::to_owned).or_else(|| text("address"))?,
        service: text("service").unwrap_or_default(),
        tls: node.get("tls").map(|node| tls(node)),
    })
}

/// Without the certificates, which are in a file.
fn tls(node: &Node<'_>) -> Tls {
    let text = |name: &str| node.get(name).and_then(|node| node.as_text());
    Tls {
        ca: None,
        server_name: text("server_name").map(str::to_owned),
        insecure: text("insecure").is_some_and(is_true),
    }
}

/// Compose's form: the first word says what the rest is.
fn test(mut words: Vec<String>) -> Asked {
    let first = if words.is_empty() { String::new() } else { words.remove(0) };
    match (first.as_str(), words.pop()) {
        ("NONE", _) => Asked::Nothing,
        // The person wrote a shell form, so a shell it is.
        ("CMD-SHELL", Some(line)) => {
            Asked::Question(Question::Exec(vec!["/bin/sh".to_owned(), "-c".to_owned(), line]))
        }
        (_, Some(last)) => {
            words.push(last);
            Asked::Question(Question::Exec(words))
        }
        (_, None) => Asked::Bad,
    }
}

/// Reads the certificates that the probes of a service believe: how long they are together, in bytes.
/// What is wrong is in the report.
pub(super) fn believe(draft: &mut Draft, context: &Context<'_>, report: &mut Report<'_>) -> usize {
    let mut sum = 0;
    for Authority { probe, path, span } in std::mem::take(&mut draft.authorities) {
        let read = context.resolver.read_bytes(&path).map_err(|unread| match unread {
            Unread::Missing => "is not there".to_owned(),
            Unread::Unreadable(why) => format!("cannot be read: {}", shown(&why)),
        });
        let text = read.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not text".to_owned()));
        let good = text.and_then(|text| match questions::certificates(&text) {
            Ok(()) => Ok(text),
            Err(rule) => Err(rule.to_string()),
        });
        let tls = draft.spec.probes.get_mut(&probe).and_then(|probe| probe.ask.tls_mut());
        match (good, tls) {
            (Ok(text), Some(tls)) => {
                sum += text.len();
                tls.ca = Some(text);
            }
            (Ok(_), None) => {}
            (Err(why), _) => report.error(span, || {
                let (name, path) = (shown(&draft.name), shown(&context.resolver.shown(&path)));
                Problem::new(format!("Service `{name}` believes the file `{path}`, which {why}"))
            }),
        }
        // No more than what may be is held, whatever is wrong with it.
        if sum > questions::AUTHORITIES_MAX {
            break;
        }
    }
    sum
}

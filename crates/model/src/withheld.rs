//! What is not shown to whoever only looks, and how it is kept out of what is told.
//!
//! A variable is a secret when its name says so. Of what a service is given besides, its configs and
//! secrets, the values of most headers of its probes, what these send by a datagram, and passwords in
//! addresses are. Where one of them comes up in a line that somebody else wrote, [`WITHHELD`] stands in
//! its place.

mod addresses;

use std::collections::BTreeMap;

use crate::project::container::{Container, MountKind, NetworkMode};
use crate::project::{Hook, Http, PrivateFile, Probe, Project, Question, Service};

pub(crate) use addresses::secrets_of_url;
pub use addresses::{receiver_to_look_at, url_to_look_at, without_secrets_of};

/// In place of what is not shown.
pub const WITHHELD: &str = "***";

/// Shorter ones are not looked for in what is told: `secret` and `1234` are in many lines that give
/// nothing away.
pub const SECRET_MIN: usize = 8;

/// Of one file so many lines are looked for in what is told. A key of 4096 bits is 52 lines; of a longer
/// file none is worth more than the rest.
const LINES_MAX: usize = 64;

/// Somewhere in the name of a variable, or of a parameter of an address, that is a secret.
const IN_NAMES: [&str; 8] =
    ["password", "passwd", "passphrase", "secret", "token", "key", "credential", "signature"];

/// One of the words of such a name, between `_` or `-`. Within others they mean nothing: `AUTHOR`, `BYPASS`.
const WORDS: [&str; 5] = ["pass", "pw", "pwd", "auth", "sig"];

/// Headers that say nothing of who asks.
const PLAIN_HEADERS: [&str; 9] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "content-type",
    "host",
    "user-agent",
];

/// Whether what is called so is a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // That alone is where a shell is.
    let mut words = name.split(['_', '-', '.']).filter(|word| *word != "pwd" || name != "pwd");
    IN_NAMES.iter().any(|part| name.contains(part)) || words.any(|word| WORDS.contains(&word))
}

fn is_plain(header: &str) -> bool {
    PLAIN_HEADERS.iter().any(|plain| plain.eq_ignore_ascii_case(header))
}

impl Project {
    /// The same for whoever only looks. Variables, headers that may be secret, configs and secrets are
    /// there by name alone; what differs from copy to copy, which may hold any of these, is left out.
    #[must_use]
    pub fn to_look_at(&self) -> Self {
        let mut project = self.clone();
        withhold_all(&mut project.base_environment);
        project.services.values_mut().for_each(Service::withhold);
        project
    }
}

impl Service {
    fn withhold(&mut self) {
        withhold_all(&mut self.environment);
        self.per_copy = None;
        if let Some(container) = &mut self.container {
            container.withhold();
        }
        for file in &mut self.files {
            file.content = crate::project::Secret::withheld();
        }
        let hooks = [&mut self.pre_start, &mut self.post_start, &mut self.pre_stop, &mut self.post_stop];
        hooks.into_iter().flatten().for_each(|hook| withhold_all(&mut hook.environment));
        self.probes.values_mut().for_each(|probe| probe.ask.withhold());
    }

    fn hooks(&self) -> impl Iterator<Item = &Hook> {
        [&self.pre_start, &self.post_start, &self.pre_stop, &self.post_stop].into_iter().flatten()
    }
}

impl Container {
    /// Drivers are given passwords of shares, and tokens of those who take logs.
    fn withhold(&mut self) {
        if let Some(build) = &mut self.build {
            withhold_all(&mut build.args);
            build.context = url_to_look_at(&build.context);
        }
        if let Some(logging) = &mut self.logging {
            withhold_all(&mut logging.options);
        }
        for mount in &mut self.mounts {
            if let MountKind::Volume { volume: Some(volume), .. } = &mut mount.kind {
                withhold_all(&mut volume.driver_opts);
            }
        }
        let NetworkMode::Networks(attachments) = &mut self.network else { return };
        for attachment in attachments {
            withhold_all(&mut attachment.driver_opts);
            withhold_all(&mut attachment.network.driver_opts);
            withhold_all(&mut attachment.network.ipam_options);
        }
    }
}

fn withhold_all(values: &mut BTreeMap<String, String>) {
    values.values_mut().for_each(|value| *value = WITHHELD.to_owned());
}

impl Question {
    /// Takes out what headers, parameters of an address and datagrams say that may be secret.
    pub(crate) fn withhold(&mut self) {
        let http = match self {
            Self::Http(http) => http,
            // As in SNMP: who asks is known by a word in it.
            Self::Udp(udp) if !udp.send.is_empty() => {
                udp.send = WITHHELD.to_owned();
                return;
            }
            _ => return,
        };
        for (name, value) in &mut http.headers {
            if !is_plain(name) {
                *value = WITHHELD.to_owned();
            }
        }
        http.url = url_to_look_at(&http.url);
    }
}

/// Texts that must not come up in what is told. Not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The longest first: one that is part of another leaves nothing of that.
    texts: Vec<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.texts.len())
    }
}

impl Secrets {
    /// All that a service is given, and its hooks and probes.
    pub fn of(spec: &Service, base_environment: &BTreeMap<String, String>) -> Self {
        let mut texts = Vec::new();
        let of_hooks = spec.hooks().map(|hook| &hook.environment);
        for environment in [base_environment, &spec.environment].into_iter().chain(of_hooks) {
            add_variables(&mut texts, environment);
        }
        spec.files.iter().for_each(|file| add_file(&mut texts, file));
        spec.probes.values().for_each(|probe| add_probe(&mut texts, probe));
        Self::from(texts)
    }

    /// Those of these variables.
    pub fn of_variables(environment: &BTreeMap<String, String>) -> Self {
        let mut texts = Vec::new();
        add_variables(&mut texts, environment);
        Self::from(texts)
    }

    /// These, and more.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        Self::from([self.texts, more.texts].concat())
    }

    fn from(mut texts: Vec<String>) -> Self {
        // What a line of an answer cannot show as it is, it shows escaped.
        let escaped = |text: &String| -> String {
            text.chars()
                .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
                .collect()
        };
        // Or by the sign that stands for what cannot be shown.
        let replaced = |text: &String| -> String {
            text.replace(char::is_control, &char::REPLACEMENT_CHARACTER.to_string())
        };
        let controlled = texts.iter().filter(|text| text.contains(char::is_control));
        let more: Vec<String> = controlled.flat_map(|text| [escaped(text), replaced(text)]).collect();
        texts.extend(more);
        texts.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        texts.dedup();
        Self { texts }
    }

    /// The text without them.
    #[must_use]
    pub fn hide(&self, text: String) -> String {
        let mut text = text;
        for secret in &self.texts {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), WITHHELD);
            }
        }
        for secret in &self.texts {
            text = hide_cut(text, secret);
        }
        text
    }
}

/// The secrets of variables, for whoever asks whether a text is the same but for them.
pub struct Rotating {
    secrets: Secrets,
    short: Vec<String>,
}

impl Rotating {
    /// Those of these variables.
    pub fn of(environment: &BTreeMap<String, String>) -> Self {
        let mut short = Vec::new();
        for (name, value) in environment {
            match is_secret(name) {
                true => short.push(value.trim().to_owned()),
                false => short.extend(passwords_of(value).map(str::to_owned)),
            }
        }
        short.retain(|text| !text.is_empty() && text.chars().count() < SECRET_MIN);
        short.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        Self { secrets: Secrets::of_variables(environment), short }
    }

    /// The text without them. Of short ones, which come up anywhere, those that stand alone are meant:
    /// `--pin=1234`, and not a part of a longer word or number.
    pub fn without(&self, text: &str) -> String {
        let hidden = self.secrets.hide(text.to_owned());
        self.short.iter().fold(hidden, |text, secret| without_word(&text, secret))
    }
}

fn without_word(text: &str, word: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in text.match_indices(word) {
        let (before, behind) = (&text[..at], &text[at + word.len()..]);
        if !before.ends_with(char::is_alphanumeric) && !behind.starts_with(char::is_alphanumeric) {
            left.push_str(&text[from..at]);
            left.push_str(WITHHELD);
            from = at + word.len();
        }
    }
    left + &text[from..]
}

/// What we put before somebody's words has no more of them: `` `sh`: exit 1: ``, and a few to spare.
const COLONS_MAX: usize = 8;

/// Long lines are cut at their ends, and so is what is there: `SECRE…`, `exit 1: CRET`. Looked for is
/// the longest part; no part is longer than the line, however long the secret is.
fn hide_cut(text: String, secret: &str) -> String {
    let mut text = text;
    if let Some(shown) = text.strip_suffix('…') {
        let ends = (SECRET_MIN..secret.len().min(shown.len() + 1)).rev();
        let mut beginnings = ends.filter_map(|end| secret.get(..end));
        if let Some(rest) = beginnings.find_map(|part| shown.strip_suffix(part)) {
            text = format!("{rest}{WITHHELD}…");
        }
    }
    // Behind who says it, and how a command ended, stands its last line.
    let behind = text.match_indices(": ").map(|(at, colon)| at + colon.len()).take(COLONS_MAX);
    for from in std::iter::once(0).chain(behind) {
        let first = secret.len().saturating_sub(text.len() - from).max(1);
        let starts = first..=secret.len().saturating_sub(SECRET_MIN);
        let mut ends = starts.filter_map(|start| secret.get(start..));
        if let Some(rest) = ends.find_map(|part| text[from..].strip_prefix(part)) {
            return format!("{}{WITHHELD}{rest}", &text[..from]);
        }
    }
    text
}

fn add_variables(texts: &mut Vec<String>, environment: &BTreeMap<String, String>) {
    for (name, value) in environment {
        match is_secret(name) {
            true => add_lines(texts, value),
            false => passwords_of(value).for_each(|password| add_lines(texts, password)),
        }
    }
}

/// `postgres://user:PASSWORD@host/` and `jdbc:mysql://host/?password=PASSWORD`, as in `DATABASE_URL`.
fn passwords_of(value: &str) -> impl Iterator<Item = &str> {
    value.contains("://").then(|| secrets_of_url(value)).into_iter().flatten()
}

fn add_file(texts: &mut Vec<String>, file: &PrivateFile) {
    if let Ok(text) = std::str::from_utf8(file.content.reveal()) {
        add_lines(texts, text);
    }
}

fn add_probe(texts: &mut Vec<String>, probe: &Probe) {
    let Http { url, headers, .. } = match &probe.ask {
        Question::Http(http) => http,
        Question::Udp(udp) => return add_lines(texts, &udp.send),
        _ => return,
    };
    for value in headers.iter().filter(|(name, _)| !is_plain(name)).map(|(_, value)| value) {
        add_lines(texts, value);
        // `Bearer …`: what follows is as good without the word.
        value.split_once(' ').into_iter().for_each(|(_, rest)| add_lines(texts, rest));
    }
    secrets_of_url(url).for_each(|value| add_lines(texts, value));
}

/// What is told is one line.
fn add_lines(texts: &mut Vec<String>, text: &str) {
    let lines = text.lines().take(LINES_MAX).map(str::trim);
    texts.extend(lines.filter(|line| line.chars().count() >= SECRET_MIN).map(str::to_owned));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Secret;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// With these variables, told so.
    fn told(pairs: &[(&str, &str)], text: &str) -> String {
        Secrets::of_variables(&variables(pairs)).hide(text.to_owned())
    }

    #[test]
    fn texts_that_differ_by_secrets_alone_are_the_same_without_them() {
        let without = |secret: &str, text: &str| {
            Rotating::of(&variables(&[("PIN", "4711"), ("DB_PASS", secret)])).without(text)
        };
        for (secret, text, expected) in [
            ("12", "--pass=12 12 x12 120 12.", "--pass=*** *** x12 120 ***."),
            ("long-enough", "xlong-enoughx", "x***x"),
            ("", "nothing", "nothing"),
            ("12", "4711", "4711"),
        ] {
            assert_eq!(without(secret, text), expected, "{secret}");
        }
    }

    #[test]
    fn a_variable_is_a_secret_by_its_name() {
        for name in [
            "DB_PASSWORD",
            "api_token",
            "AWS_SECRET_ACCESS_KEY",
            "PGPASSWD",
            "DB_PASS",
            "X-Auth",
            "DB_PWD",
            "sig",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["PATH", "AUTHOR", "BYPASS", "PWD", "HOME", "PORT", ""] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn secrets_do_not_come_up_in_what_is_told() {
        let given = [("DB_PASSWORD", "hunter2-hunter2"), ("WHO", "somebody-else"), ("TOKEN", "short")];
        assert_eq!(
            told(&given, "exit 1: no hunter2-hunter2 for somebody-else, short"),
            "exit 1: no *** for somebody-else, short"
        );
        let url = [("DATABASE_URL", "postgres://me:pass-of-the-db@db:5432/x")];
        assert_eq!(told(&url, "pass-of-the-db is wrong for me"), "*** is wrong for me");
        let url =
            [("URL", "jdbc:postgresql://db/x?user=somebody-else&password=of-the-query&sig=a-signature#end")];
        assert_eq!(told(&url, "of-the-query of somebody-else: a-signature"), "*** of somebody-else: ***");
        // One within another leaves nothing of that; of several lines each is one.
        let nested =
            [("A_KEY", "abcdefgh"), ("B_KEY", "abcdefgh-ijkl"), ("C_KEY", "first-line\nsecond-line")];
        assert_eq!(told(&nested, "abcdefgh-ijkl abcdefgh second-line"), "*** *** ***");
        assert_eq!(told(&[("A_KEY", "with\ta-tab")], "exit 1: with\\ta-tab"), "exit 1: ***");
    }

    #[test]
    fn what_was_cut_off_of_a_secret_is_one_still() {
        let key = [("A_KEY", "0123456789abcdef")];
        assert_eq!(told(&key, "it says 0123456789ab…"), "it says ***…");
        assert_eq!(told(&key, "exit 1: 456789abcdef is wrong"), "exit 1: *** is wrong");
        assert_eq!(told(&key, "6789abcdef is wrong"), "*** is wrong");
        let wide = [("A_KEY", "ääääääää-öööööööö")];
        assert_eq!(told(&wide, "it says ääääääää-ö…"), "it says ***…");
        assert_eq!(told(&wide, "exit 1: ä-öööööööö"), "exit 1: ***");
        assert_eq!(told(&key, "…"), "…");
        assert_eq!(told(&key, "exit 1: "), "exit 1: ");
        // Too little to be of use, and all of what is not cut.
        assert_eq!(told(&key, "it says 0123…"), "it says 0123…");
        assert_eq!(told(&key, "it says 0123456789ab"), "it says 0123456789ab");
    }

    const GIVEN: &str = r#"{"name":"shop","base_environment":{"HOME":"canary-1"},"services":{"web":{
        "command":["./web"],"working_dir":"/","environment":{"A":"canary-2"},
        "files":[{"name":"key","content":"Y2FuYXJ5LTM="}],
        "pre_start":[{"command":["a"],"environment":{"B":"canary-4"}}],
        "post_start":[{"command":["a"],"environment":{"B":"canary-5"}}],
        "pre_stop":[{"command":["a"],"environment":{"B":"canary-6"}}],
        "post_stop":[{"command":["a"],"environment":{"B":"canary-7"}}],
        "per_copy":{"environment":{"C":"canary-8"}},
        "probes":{"said":{"ask":{"udp":{"address":"h:1","send":"canary-a"}}},
            "quiet":{"ask":{"udp":{"address":"h:1","send":""}}},"readiness":{"ask":{"http":{"url":"http://h/?a=1&token=canary-9",
            "headers":{"Authorization":"Bearer canary-0","Accept":"text/plain"}}}}}}}}"#;

    #[test]
    fn who_looks_at_a_project_sees_names_and_no_values() {
        let project: Project = serde_json::from_str(GIVEN).unwrap();
        let shown = serde_json::to_string(&project.to_look_at()).unwrap();
        assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5"), "{shown}");
        for seen in [
            r#""A":"***""#,
            r#""B":"***""#,
            r#""HOME":"***""#,
            "http://h/?a=1&token=***",
            "text/plain",
            r#""send":"***""#,
            r#""send":"""#,
        ] {
            assert!(shown.contains(seen), "{seen} in {shown}");
        }
        // What is shown is not taken for what was meant.
        let wrong = crate::file::validate(&project.to_look_at()).unwrap_err().join("\n");
        assert!(
            ["`***`", "environment", "headers", "send"].iter().all(|word| wrong.contains(word)),
            "{wrong}"
        );
    }

    #[test]
    fn who_looks_at_a_container_sees_no_options_of_drivers() {
        let text = "services:\n  a:\n    image: a\n    logging: {driver: splunk, options: {splunk-token: canary}}\n    \
            volumes: ['v:/v']\n    networks: {n: {driver_opts: {o: canary}}}\nvolumes:\n  v: {driver_opts: {o: password=canary}}\n\
            networks:\n  n: {driver_opts: {p: canary}, ipam: {driver: default, options: {q: canary}}}\n";
        struct Nothing;
        impl crate::file::Resolver for Nothing {
            fn read(&self, _: &str) -> Result<String, crate::file::Unread> {
                Err(crate::file::Unread::Missing)
            }
            fn variable(&self, _: &str) -> Option<String> {
                None
            }
        }
        let context = crate::file::Context::new("/p", "p", &Nothing);
        let read = crate::file::parse(&[crate::file::Source { name: "f", text }], &context);
        let shown = read.unwrap().project.to_look_at();
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("canary") && text.contains(r#""splunk-token":"***""#), "{text}");
        let wrong = crate::file::validate(&shown).unwrap_err().join("\n");
        assert!(["logging", "volumes", "networks"].iter().all(|word| wrong.contains(word)), "{wrong}");
    }

    #[test]
    fn a_reason_names_a_program_and_not_what_it_is_given() {
        use crate::project::{Reaction, Udp};
        let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let exec = Question::Exec(command(&["psql", "--password", "canary"]));
        let (udp, http) = ("canary".to_owned(), Http::get("http://h/"));
        for question in [
            exec.clone(),
            Question::Udp(Udp { address: "h:1".to_owned(), send: udp.clone(), expect: Some(udp) }),
            Question::Http(Http { body: Some("canary".to_owned()), ..http }),
        ] {
            let shown = question.to_look_at();
            let text = format!("{shown} {question} {}", serde_json::to_string(&shown).unwrap());
            assert!(!text.contains("canary"), "{text}");
        }
        assert_eq!(
            (exec.to_string(), exec.to_look_at().to_string()),
            ("exec psql …".into(), exec.to_string())
        );
        let remedy = Reaction::Exec(command(&["mend", "canary"]));
        assert_eq!(remedy.to_look_at(), Reaction::Exec(command(&["mend", "…"])));
        assert_eq!(Question::Exec(command(&["pg_isready"])).to_look_at().to_string(), "exec pg_isready");
    }

    #[test]
    fn all_that_a_service_is_given_is_kept_out_of_what_is_told() {
        let mut project: Project = serde_json::from_str(&GIVEN.replace(r#"{"B""#, r#"{"B_KEY""#)).unwrap();
        let mut web = project.services.pop_first().unwrap().1;
        web.files[0].content = Secret::new(*b"canary-3");
        let secrets = Secrets::of(&web, &BTreeMap::from([("A_TOKEN".to_owned(), "canary-1".to_owned())]));
        for n in ['0', '1', '3', '4', '5', '6', '7', '9', 'a'] {
            assert_eq!(secrets.hide(format!("it is canary-{n}!")), "it is ***!", "{n}");
        }
        assert_eq!(format!("{secrets:?}"), "Secrets(10)");
    }

    #[test]
    fn a_part_of_a_secret_is_found_where_its_line_was_cut_whoever_is_named_before_it() {
        let pairs = [("TOKEN", "0123456789abcdefCANARY"), ("OTHER_TOKEN", "tab\there and there")];
        for (said, shown) in [
            ("line matched: key=0123456789abcdefCA…", "line matched: key=***…"),
            ("`sh`: exit 1: 89abcdefCANARY and more", "`sh`: exit 1: *** and more"),
            ("a: b: c: d: 89abcdefCANARY", "a: b: c: d: ***"),
            ("it says tab\u{fffd}here and there", "it says ***"),
        ] {
            assert_eq!(told(&pairs, said), shown);
        }
    }
}

//! Whom an entity asks: what has a say in which targets are moved, and in how well they are.

use core::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

/// The longest address, in bytes.
pub const URL_MAX: usize = 2048;

/// A command has so many words at most.
pub const WORDS_MAX: usize = 100;

/// And so many bytes in all of them: far below what any system takes.
pub const COMMAND_MAX: usize = 32 * 1024;

const OF_A_PROGRAM: &str = "cannot be `program`, which only a program that embeds the engine can answer for: \
    name an address, `{\"web\": \"https://…\"}`, or a command, `{\"exec\": [\"check\"]}`";

/// Whom an entity asks, for each question (`spec/nixmade.md` 2.E). Who is not named is not asked: all may go,
/// none is removed, all are well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Controllers {
    /// Which targets are next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selection: Option<Controller>,
    /// Which of those may go now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Controller>,
    /// Which old targets go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removal: Option<Controller>,
    /// Whether a target is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Controller>,
    /// Whether the whole is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_monitoring: Option<Controller>,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    /// `POST` to this address, in the first such engine's protocol.
    Web(String),
    /// A command: the same request on its standard input, the same answer on its standard output.
    Exec(Vec<String>),
    /// The program in which the engine runs. Only that can say so: it is no part of any request or answer.
    #[cfg_attr(feature = "schema", schemars(skip))]
    Program,
}

/// Nobody can be asked so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct ControllerError {
    /// Which controller: `selection`, `approval`, `removal`, `monitoring`, `external_monitoring`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// An address that can be asked: `http://host/…` or `https://host:port/…`, up to [`URL_MAX`] bytes, as it is
/// sent. Without a login, which would be kept and shown with it, and without what only a browser looks at.
///
/// Errors: what is wrong with it, to follow its name.
pub fn check_address(address: &str) -> Result<(), String> {
    if address.len() > URL_MAX {
        return Err(format!("must have {URL_MAX} bytes at most"));
    }
    if !address.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must have no spaces, control characters or letters beyond ASCII: write them as `%20`, and a host as `xn--…`".into());
    }
    let rest = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
    let rest = rest.ok_or("must begin with `http://` or `https://`")?;
    if rest.contains('#') {
        return Err("must have no `#`: what follows it is never sent".into());
    }
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    if authority.contains('@') {
        return Err("must have no login before `@`".into());
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => {
            host.parse::<Ipv6Addr>().map_err(|_| format!("has `[{host}]`, which is no IPv6 address"))?;
            (host, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_in_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if host.is_empty() || !host.chars().all(is_in_host) {
        return Err("must name a host: `https://example.com/path`".into());
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) && port.parse().is_ok_and(|n: u16| n > 0) => {
            Ok(())
        }
        _ => Err("must have a port between 1 and 65535".into()),
    }
}

fn check_command(words: &[String]) -> Result<(), String> {
    let Some(program) = words.first().filter(|program| !program.is_empty()) else {
        return Err("must name a program".into());
    };
    if words.iter().any(|word| word.contains('\0')) {
        return Err("must have no zero byte".into());
    }
    if words.len() > WORDS_MAX || words.iter().map(String::len).sum::<usize>() > COMMAND_MAX {
        return Err(format!("may have {WORDS_MAX} words of {COMMAND_MAX} bytes in all"));
    }
    // A path may have spaces; a program that is looked for by its name has none.
    if words.len() == 1 && !program.contains('/') && program.contains(char::is_whitespace)
        || program.contains(['|', ';', '<', '>', '`', '$', '\n'])
    {
        return Err("must be a program and its arguments, each for itself, as no shell reads it: `[\"check\", \"--now\"]`, or `[\"sh\", \"-c\", …]`".into());
    }
    Ok(())
}

impl Controller {
    /// Errors: what is wrong with it, to follow its name.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Web(address) => check_address(address),
            Self::Exec(words) => check_command(words),
            Self::Program => Err(OF_A_PROGRAM.into()),
        }
    }
}

impl Controllers {
    /// Errors: the first that nobody could be asked by.
    pub fn check(&self) -> Result<(), ControllerError> {
        for (field, controller) in self.each() {
            controller.check().map_err(|problem| ControllerError { field, problem })?;
        }
        Ok(())
    }

    /// Each that is asked, by the name of its field.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Controller)> {
        let all = [
            ("selection", &self.selection),
            ("approval", &self.approval),
            ("removal", &self.removal),
            ("monitoring", &self.monitoring),
            ("external_monitoring", &self.external_monitoring),
        ];
        all.into_iter().filter_map(|(field, controller)| Some((field, controller.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_with_a_host_and_nothing_that_would_not_be_sent() {
        for good in [
            "http://a",
            "https://a.example:8443/x?y=http://b/@",
            "http://127.0.0.1:1/",
            "http://[::1]:65535/x",
            "http://[::1]",
            "http://under_score.example?x",
        ] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        let long = format!("http://a/{}", "x".repeat(URL_MAX));
        for (bad, words) in [
            ("", "must begin with"),
            ("ftp://a/", "must begin with"),
            ("//a/", "must begin with"),
            ("http://", "must name a host"),
            ("http:///x", "must name a host"),
            ("http://:80/", "must name a host"),
            ("http://a\\b/", "must name a host"),
            ("http://fe80::1%25eth0/", "a port between"),
            ("http://u:p@a/", "login"),
            ("http://a@b", "login"),
            ("http://a/#b", "`#`"),
            ("http://a b/", "spaces"),
            ("http://a/\r\nX: y", "control"),
            ("http://é/", "ASCII"),
            ("http://a:0/", "a port between"),
            ("http://a:/", "a port between"),
            ("http://a:+1/", "a port between"),
            ("http://a:65536/", "a port between"),
            ("http://[::1]x/", "a port between"),
            ("http://[fe80::1%eth0]/", "no IPv6 address"),
            ("http://[a]/", "no IPv6 address"),
            (&long, "2048 bytes"),
        ] {
            let problem = check_address(bad).unwrap_err();
            assert!(problem.contains(words), "{bad}: {problem}");
        }
        assert_eq!(check_address(&long[..URL_MAX]), Ok(()));
    }

    #[test]
    fn a_command_is_a_program_and_its_arguments_and_no_line_for_a_shell() {
        let of = |words: &[&str]| Controller::Exec(words.iter().map(ToString::to_string).collect()).check();
        for good in [&["check"][..], &["/opt/my tools/check"], &["check", "a b; $c"], &["sh", "-c", "a | b"]]
        {
            assert_eq!(of(good), Ok(()), "{good:?}");
        }
        for (bad, words) in [
            (&[][..], "must name a program"),
            (&["", "x"], "must name a program"),
            (&["check --now"], "no shell"),
            (&["check;true"], "no shell"),
            (&["a", "b\0"], "zero byte"),
            (&["a"; WORDS_MAX + 1], "100 words"),
            (&["a", &"x".repeat(COMMAND_MAX)], "100 words"),
        ] {
            let problem = of(bad).unwrap_err();
            assert!(problem.contains(words), "{bad:?}: {problem}");
        }
    }

    #[test]
    fn the_first_that_cannot_be_asked_is_named() {
        let web = |address: &str| Some(Controller::Web(address.into()));
        let good = Controllers { selection: web("http://a/"), ..Controllers::default() };
        assert_eq!(good.check(), Ok(()));
        let bad = Controllers { removal: Some(Controller::Exec(vec![])), monitoring: web(""), ..good };
        assert_eq!(bad.check().unwrap_err().to_string(), "`removal` must name a program");
        let bad = Controllers { removal: None, ..bad };
        assert_eq!(bad.check().unwrap_err().field, "monitoring");
        let bad = Controllers { approval: Some(Controller::Program), ..bad };
        assert!(bad.check().unwrap_err().to_string().starts_with("`approval` cannot be `program`"));
    }
}

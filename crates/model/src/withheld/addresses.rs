//! What an address says that may be secret.

use super::{SECRET_MIN, Secrets, WITHHELD, is_secret};

/// An address for whoever only looks: without passwords and tokens before its host, and without what its
/// parameters say that may be secret.
pub fn url_to_look_at(url: &str) -> String {
    let shown = passphrase_of(url).map(|(begin, end)| format!("{}{WITHHELD}{}", &url[..begin], &url[end..]));
    let url = shown.unwrap_or_else(|| url.to_owned());
    let Some((address, query)) = url.split_once('?') else { return url };
    let shown = |part: &str| match part.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={WITHHELD}"),
        _ => part.to_owned(),
    };
    let query: Vec<String> = query.split('&').map(shown).collect();
    format!("{address}?{}", query.join("&"))
}

/// Where the password stands in `scheme://user:PASSWORD@host`; in `https://TOKEN@host` that is all before the
/// host, and in `ssh://git@host` there is none.
fn passphrase_of(url: &str) -> Option<(usize, usize)> {
    let begin = url.find("://")? + 3;
    let host_ends = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    let end = begin + url[begin..host_ends].rfind('@')?;
    let begin = match url[begin..end].find(':') {
        Some(colon) => begin + colon + 1,
        None if url.starts_with("http://") || url.starts_with("https://") => begin,
        None => return None,
    };
    (begin < end).then_some((begin, end))
}

/// What an address says that may be secret, as it stands there.
pub(crate) fn secrets_of_url(url: &str) -> impl Iterator<Item = &str> {
    passphrase_of(url).map(|(begin, end)| &url[begin..end]).into_iter().chain(secret_parameters(url))
}

/// A text in which somebody may have said an address: without its passwords and tokens, however short they are.
#[must_use]
pub fn without_secrets_of(url: &str, text: String) -> String {
    if !url.contains("://") || !text.contains("://") {
        return text;
    }
    let shown = text.replace(url, &url_to_look_at(url));
    let host_and_before = secrets_of_url(url).map(|secret| (format!("{secret}@"), format!("{WITHHELD}@")));
    let shown = host_and_before.fold(shown, |text, (said, hidden)| text.replace(&said, &hidden));
    Secrets::from(
        secrets_of_url(url).filter(|secret| secret.len() >= SECRET_MIN).map(str::to_owned).collect(),
    )
    .hide(shown)
}

/// An address that only a receiver gave away, for whoever only looks: whom it names, and that there is more.
/// Many a receiver knows who may write to it by the path alone.
pub fn receiver_to_look_at(url: &str) -> String {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let end = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    // What a person may have put before `@` is a password.
    let host = url[begin..end].rsplit('@').next().unwrap_or_default();
    let more = if matches!(&url[end..], "" | "/") { "" } else { "/…" };
    format!("{}{host}{more}", &url[..begin])
}

/// The values of an address' parameters that may be secret, as they stand there.
fn secret_parameters(url: &str) -> impl Iterator<Item = &str> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let parameters = query.split('&').filter_map(|part| part.split_once('='));
    parameters.filter(|(name, _)| is_secret(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_receiver_only_the_host_is_shown() {
        for (url, shown) in [
            ("https://hooks.example/services/T0/hush", "https://hooks.example/…"),
            ("https://hooks.example:8443?hush", "https://hooks.example:8443/…"),
            ("http://[::1]:80/", "http://[::1]:80"),
            ("http://a.example", "http://a.example"),
            ("https://ann:hush@a.example/x", "https://a.example/…"),
        ] {
            assert_eq!(receiver_to_look_at(url), shown);
        }
    }

    #[test]
    fn of_an_address_passwords_and_tokens_are_not_shown() {
        for (url, shown) in [
            ("https://ann:hush@a.example/x#main", "https://ann:***@a.example/x#main"),
            (
                "https://ghp_hush@git.example/team/web.git#v1:dir",
                "https://***@git.example/team/web.git#v1:dir",
            ),
            ("https://git.example/a@b.git?token=hush", "https://git.example/a@b.git?token=***"),
            ("ssh://git@git.example/web.git", "ssh://git@git.example/web.git"),
            ("postgres://me:p@ss:word@db/x", "postgres://me:***@db/x"),
            ("http://@a.example", "http://@a.example"),
            ("git@git.example:web.git", "git@git.example:web.git"),
            ("/srv/a@b", "/srv/a@b"),
        ] {
            assert_eq!(url_to_look_at(url), shown);
        }
    }

    #[test]
    fn who_says_an_address_again_says_no_password_of_it() {
        let url = "http://me:pw@h/x.tar?token=long-enough#main:dir";
        for (text, shown) in [
            ("get http://me:pw@h/x.tar: refused", "get http://me:***@h/x.tar: refused"),
            ("http://me:pw@h/x.tar?token=long-enough#main:dir", "http://me:***@h/x.tar?token=***"),
            ("http://h: token long-enough is over", "http://h: token *** is over"),
            ("Step 1/2 : RUN pw", "Step 1/2 : RUN pw"),
        ] {
            assert!(without_secrets_of(url, text.to_owned()).starts_with(shown), "{text}");
        }
    }
}

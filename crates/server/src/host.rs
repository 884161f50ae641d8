//! The name a request is addressed to.
//!
//! A browser that was led here by somebody else's name tells that name. So it is read strictly: what
//! is not a name or an address, and at most a port behind it, is not ours.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

/// The names every door answers to.
const OURS: &[&str] = &["", "localhost", "upbeat"];

/// As the standard of names has it.
const NAME_MAX: usize = 253;

/// Of one part of a name.
const LABEL_MAX: usize = 63;

/// Whether a text names a host: a name, or an address without brackets; without a port.
pub fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.parse::<IpAddr>().is_ok() || text.len() <= NAME_MAX && text.split('.').all(is_label)
}

/// Whether all that a request says of whom it is addressed to is us: one of `names`, or the address it
/// came to.
pub(crate) fn is_ours(uri: &Uri, headers: &HeaderMap, names: &[String], to: Option<IpAddr>) -> bool {
    let is_ours = |text: &str| match host(text) {
        None => false,
        Some(host) => {
            let address = address(host);
            let is_it = |ours: &str| {
                host.eq_ignore_ascii_case(ours) || address.is_some() && address == self::address(ours)
            };
            // An address is no name that leads somebody here who meant another; and it may listen on all.
            OURS.iter().copied().chain(names.iter().map(String::as_str)).any(is_it)
                || address.is_some() && address == to.map(|to| to.to_canonical())
        }
    };
    let mut said = headers.get_all(header::HOST).iter();
    let in_header = match (said.next(), said.next()) {
        (None, _) => true,
        (Some(host), None) => host.to_str().is_ok_and(is_ours),
        (Some(_), Some(_)) => false,
    };
    // `GET http://host/path`, as it is sent to a proxy.
    in_header && uri.authority().is_none_or(|authority| is_ours(authority.as_str()))
}

fn address(host: &str) -> Option<IpAddr> {
    host.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// `localhost:80` → `localhost`, `[::1]:80` → `::1`. `None`: it is more, or something else.
fn host(text: &str) -> Option<&str> {
    if text.is_empty() {
        return Some(text);
    }
    let authority: Authority = text.parse().ok()?;
    // A user is no part of a host, and is read by some as one.
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host)?;
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    let host = text.get(..host.len())?;
    match host.strip_prefix('[') {
        None => Some(host),
        Some(address) => address.strip_suffix(']').filter(|address| address.contains(':')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_at_most_a_port() {
        for (text, expected) in [
            ("localhost", "localhost"),
            ("localhost:80", "localhost"),
            ("LOCALHOST:65535", "LOCALHOST"),
            ("127.0.0.1:7000", "127.0.0.1"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("", ""),
        ] {
            assert_eq!(host(text), Some(expected), "{text}");
        }
        for text in [
            "localhost:evil.example",
            "localhost:80:evil.example",
            "localhost:",
            "localhost:+80",
            "localhost:65536",
            "localhost:8o",
            "evil.example@localhost",
            "localhost@evil.example:80",
            "localhost/evil",
            "localhost evil",
            "localhost,evil.example",
            "[localhost",
            "[localhost]",
            "localhost]",
            "[::1]evil",
            "::1",
        ] {
            assert!(host(text).is_none_or(|host| !OURS.contains(&host) && host != "::1"), "{text}");
        }
    }

    #[test]
    fn names_and_addresses_name_hosts_and_nothing_else_does() {
        let long = format!("{}.example", "a".repeat(63));
        for name in ["upbeat.example", "a", "my_host", "x-1.lan", "192.0.2.1", "::1", "2001:db8::1", &long] {
            assert!(is_host(name), "{name}");
        }
        let longer = format!("{}.example", "a".repeat(64));
        let longest = vec!["abcdefghi"; 26].join(".");
        for text in [
            "", ".", "a..b", "a.", "-a", "a-", "a:80", "[::1]", "http://a", "a/b", "*.a", "a b", "größe",
            "a,b", &longer, &longest,
        ] {
            assert!(!is_host(text), "{text}");
        }
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        let asked = |host: &str, names: &[&str], to: Option<&str>| {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            is_ours(&Uri::from_static("/"), &headers, &names, to.map(|to| to.parse().unwrap()))
        };
        assert!(asked("[2001:DB8:0::1]:7000", &["2001:db8::1"], None));
        assert!(asked("[2001:DB8:0::1]:7000", &[], Some("2001:db8::1")));
        assert!(asked("192.0.2.1", &[], Some("::ffff:192.0.2.1")));
        assert!(!asked("192.0.2.1", &["a.example"], Some("192.0.2.2")));
        assert!(!asked("192.0.2.1", &[], None));
    }
}

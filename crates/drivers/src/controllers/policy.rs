//! Whom a callback may reach: decided about the address that is then connected to, never about a name alone.
//!
//! Whoever may name an address may make the daemon speak to it: to a service that only this machine reaches,
//! or to the one by which clouds hand out keys. So nobody is asked but this machine itself, where that is
//! allowed, and whom the allow-list names. A name says little, as whoever owns it says where it leads; what
//! it leads to is looked at too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::probe::http::Url;

/// Whom callbacks may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// This machine itself: as long as only this machine can say whom to ask.
    pub loopback: bool,
    /// Who else; see [`Allowed`].
    pub allow: Vec<Allowed>,
}

/// An entry of the allow-list: `example.com`, `*.example.com` (any name below it, not itself), `10.0.0.0/8`,
/// `10.1.2.3`, `[2001:db8::]/32`, `[::1]`; each with `:port` behind it for that port alone. IPv6 without a port
/// needs no brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    who: Who,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    /// In lower case.
    Name(String),
    /// Any name that ends with this: `.example.com`.
    Below(String),
    Block(Block),
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    first: IpAddr,
    bits: u8,
}

/// No entry of an allow-list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{entry}` {problem}")]
pub struct NotAllowed {
    /// As it was written.
    pub entry: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// What no name leads to by right, and no block means that is wider than these: who allows `0.0.0.0/0` means
/// everybody out there.
const SPECIAL: [(&str, Block); 10] = [
    ("a loopback address", v4([127, 0, 0, 0], 8)),
    ("a loopback address", v6([0, 0, 0, 0, 0, 0, 0, 1], 128)),
    // Clouds give out keys here.
    ("a link-local address", v4([169, 254, 0, 0], 16)),
    ("a link-local address", v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10)),
    ("a multicast address", v4([224, 0, 0, 0], 4)),
    ("a multicast address", v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8)),
    // Linux takes it for itself.
    ("no address of anybody", v4([0, 0, 0, 0], 8)),
    ("no address of anybody", v6([0, 0, 0, 0, 0, 0, 0, 0], 128)),
    // Reserved, up to the broadcast.
    ("no address of anybody", v4([240, 0, 0, 0], 4)),
    // They had site-local addresses before there were others.
    ("a site-local address", v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10)),
];

const fn v4([a, b, c, d]: [u8; 4], bits: u8) -> Block {
    Block { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], bits: u8) -> Block {
    Block { first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), bits }
}

impl Block {
    fn contains(self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                first.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                first.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: as the kernel (`::ffff:0:0/96`) or a translator on the
/// way (`64:ff9b::/96`) takes it, or as it once was written (`::/96`).
fn meant(address: IpAddr) -> IpAddr {
    const TRANSLATED: Block = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
    const COMPATIBLE: Block = v6([0, 0, 0, 0, 0, 0, 0, 0], 96);
    let IpAddr::V6(six) = address.to_canonical() else { return address.to_canonical() };
    let is_other = six == Ipv6Addr::LOCALHOST || six == Ipv6Addr::UNSPECIFIED;
    match !is_other && (TRANSLATED.contains(address) || COMPATIBLE.contains(address)) {
        #[expect(clippy::cast_possible_truncation, reason = "the last 32 bits are what is meant")]
        true => IpAddr::V4(Ipv4Addr::from_bits(six.to_bits() as u32)),
        false => address,
    }
}

impl Allowed {
    fn is_for(&self, port: u16) -> bool {
        self.port.is_none_or(|only| only == port)
    }

    fn is_named(&self, host: &str) -> bool {
        match &self.who {
            Who::Name(name) => *name == host,
            Who::Below(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
            Who::Block(_) => false,
        }
    }

    fn block(&self) -> Option<Block> {
        match self.who {
            Who::Block(block) => Some(block),
            _ => None,
        }
    }
}

impl Policy {
    /// Nobody but this machine, and these.
    ///
    /// Errors: the first entry that is none.
    pub fn new<'a>(loopback: bool, entries: impl IntoIterator<Item = &'a str>) -> Result<Self, NotAllowed> {
        let allow = entries.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { loopback, allow })
    }

    /// Whether this address may be connected to, which is what that host stands for now.
    ///
    /// Errors: why not, in words.
    pub fn judge(&self, host: &str, address: SocketAddr) -> Result<(), String> {
        let (ip, port) = (meant(address.ip()), address.port());
        if self.loopback && ip.is_loopback() {
            return Ok(());
        }
        let special = SPECIAL.iter().find(|(_, block)| block.contains(ip));
        let mut blocks = self.allow.iter().filter(|entry| entry.is_for(port)).filter_map(Allowed::block);
        let least_bits = special.map_or(0, |(_, block)| block.bits);
        if blocks.any(|block| block.bits >= least_bits && block.contains(ip)) {
            return Ok(());
        }
        let shown = if host == ip.to_string() { host.to_owned() } else { format!("{host} ({ip})") };
        if let Some((what, _)) = special {
            return Err(format!(
                "`{shown}` may not be asked: it is {what}, which no block of the allow-list means"
            ));
        }
        // The dot at its end is how a name says that it is whole.
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        match self.allow.iter().any(|entry| entry.is_for(port) && entry.is_named(&host)) {
            true => Ok(()),
            false => Err(format!(
                "`{shown}` may not be asked: no entry of the allow-list is for it and port {port}"
            )),
        }
    }
}

impl Policy {
    /// Whether whoever this URL names may be asked, as far as that can be told of the URL: a name is judged when it
    /// is looked up.
    ///
    /// Errors: why not, in words.
    pub fn judge_url(&self, url: &str) -> Result<(), String> {
        let Some(Url { host, port, .. }) = Url::parse(url) else { return Ok(()) };
        match host.parse() {
            Ok(address) => self.judge(host, SocketAddr::new(address, port)),
            Err(_) => Ok(()),
        }
    }
}

impl FromStr for Allowed {
    type Err = NotAllowed;

    fn from_str(entry: &str) -> Result<Self, NotAllowed> {
        parse(entry).map_err(|problem| NotAllowed { entry: entry.to_owned(), problem })
    }
}

fn parse(entry: &str) -> Result<Allowed, &'static str> {
    const PORT: &str = "has a port that is not between 1 and 65535";
    if entry.contains("://") {
        return Err(
            "must be a host, not an address with `://`: `example.com`, `*.example.com`, `10.0.0.0/8`",
        );
    }
    // Two colons outside of brackets: an address of IPv6, which has no port then.
    let is_bare_v6 = !entry.starts_with('[') && entry.matches(':').count() > 1;
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !is_bare_v6 && !port.contains(']') => {
            let is_number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let port = port.parse().ok().filter(|port: &u16| is_number && *port > 0);
            (host, Some(port.ok_or(PORT)?))
        }
        _ => (entry, None),
    };
    let who = match host.strip_prefix('[') {
        Some(rest) => {
            let (inside, behind) = rest.split_once(']').ok_or("has no `]`")?;
            let first: Ipv6Addr = inside.parse().map_err(|_| "has no IPv6 address in its brackets")?;
            let bits = match behind {
                "" => None,
                _ => Some(behind.strip_prefix('/').ok_or("must have `/` and a number behind `]`")?),
            };
            block(first.into(), bits)?
        }
        None => match host.split_once('/') {
            Some((first, bits)) => {
                block(first.parse().map_err(|_| "has no IP address before `/`")?, Some(bits))?
            }
            None => match host.parse() {
                Ok(first) => block(first, None)?,
                Err(_) => name(host)?,
            },
        },
    };
    Ok(Allowed { who, port })
}

fn block(first: IpAddr, bits: Option<&str>) -> Result<Who, &'static str> {
    let most: u8 = if first.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(bits) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => {
            let bits = bits.parse().ok().filter(|bits| *bits <= most);
            bits.ok_or("has more bits behind `/` than an address")?
        }
        Some(_) => return Err("must have a number of bits behind `/`"),
    };
    if meant(first) != first {
        return Err("must name the IPv4 address it stands for, as that is what is looked at");
    }
    let block = Block { first, bits };
    let is_first = match first {
        IpAddr::V4(first) => first.to_bits().checked_shl(bits.into()).unwrap_or(0) == 0,
        IpAddr::V6(first) => first.to_bits().checked_shl(bits.into()).unwrap_or(0) == 0,
    };
    match is_first {
        true => Ok(Who::Block(block)),
        false => Err("must begin with the first address of its block: `10.1.0.0/16`"),
    }
}

fn name(host: &str) -> Result<Who, &'static str> {
    let below = host.strip_prefix("*.");
    let name = below.unwrap_or(host);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !name.split('.').all(is_part) {
        return Err("must be a host name, `*.` and a host name, an IP address or a block of them");
    }
    // As the resolver would: `127.1`, `0x7f000001`. No top-level domain begins with a digit.
    if name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit())) {
        return Err("must be a whole IP address, if it is one: `127.0.0.1`");
    }
    Ok(match below {
        Some(_) => Who::Below(format!(".{name}")),
        None => Who::Name(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(loopback: bool, entries: &[&str], host: &str, address: &str) -> bool {
        let policy = Policy::new(loopback, entries.iter().copied()).unwrap();
        policy.judge(host, address.parse().unwrap()).is_ok()
    }

    #[test]
    fn of_a_url_an_address_is_judged_and_a_name_is_not_yet() {
        let policy = Policy::new(true, ["10.0.0.0/8:443"]).unwrap();
        let judged = |url: &str| policy.judge_url(url).is_ok();
        for url in ["http://a.example/", "http://127.0.0.1:1/x", "http://[::1]", "https://10.1.2.3/x"] {
            assert!(judged(url), "{url}");
        }
        for url in [
            "http://169.254.169.254/latest",
            "http://[fe80::1]:80/",
            "http://[::ffff:169.254.1.1]/",
            "http://10.1.2.3/x",
            "https://192.0.2.1/",
        ] {
            assert!(!judged(url), "{url}");
        }
    }

    #[test]
    fn nobody_is_allowed_but_this_machine_and_whom_the_list_names() {
        for (loopback, entries, host, address, expected) in [
            (true, &[][..], "localhost", "127.0.0.1:80", true),
            (true, &[], "any.example", "127.9.9.9:80", true),
            (true, &[], "any.example", "[::1]:80", true),
            (true, &[], "any.example", "[::ffff:127.0.0.1]:80", true),
            (false, &[], "localhost", "127.0.0.1:80", false),
            (true, &[], "10.0.0.1", "10.0.0.1:80", false),
            (true, &[], "a.example", "93.184.216.34:80", false),
            (false, &["a.example"], "A.example.", "93.184.216.34:80", true),
            (false, &["a.example"], "b.a.example", "93.184.216.34:80", false),
            (false, &["a.example"], "xa.example", "93.184.216.34:80", false),
            (false, &["*.a.example"], "b.a.example", "93.184.216.34:80", true),
            (false, &["*.a.example"], "c.B.a.example", "93.184.216.34:80", true),
            (false, &["*.a.example"], "a.example", "93.184.216.34:80", false),
            (false, &["*.a.example"], "b.xa.example", "93.184.216.34:80", false),
            (false, &["a.example:443"], "a.example", "93.184.216.34:443", true),
            (false, &["a.example:443"], "a.example", "93.184.216.34:80", false),
            // Who allows a name means where it is, also inside.
            (false, &["a.example"], "a.example", "10.0.0.1:80", true),
            (false, &["10.0.0.0/8"], "a.example", "10.255.0.1:80", true),
            (false, &["10.0.0.0/8"], "a.example", "11.0.0.1:80", false),
            (false, &["10.0.0.0/8:443"], "a.example", "10.0.0.1:80", false),
            (false, &["10.0.0.1"], "a.example", "10.0.0.1:80", true),
            (false, &["10.0.0.1"], "a.example", "10.0.0.2:80", false),
            (false, &["10.0.0.1"], "a.example", "[::ffff:10.0.0.1]:80", true),
            (false, &["0.0.0.0/0"], "a.example", "8.8.8.8:80", true),
            (false, &["0.0.0.0/0"], "a.example", "[2001:db8::1]:80", false),
            (false, &["2001:db8::/32"], "a.example", "[2001:db8:9::1]:80", true),
            (false, &["[2001:db8::]/32:443"], "a.example", "[2001:db8:9::1]:443", true),
            (false, &["[2001:db8::1]:443"], "a.example", "[2001:db8::1]:80", false),
        ] {
            assert_eq!(
                allows(loopback, entries, host, address),
                expected,
                "{entries:?}: {host} at {address}"
            );
        }
    }

    #[test]
    fn a_name_never_leads_to_special_addresses_and_only_a_block_within_means_them() {
        let special = [
            ("169.254.169.254:80", "169.254.0.0/16"),
            ("169.254.0.1:80", "169.254.0.1"),
            ("[fe80::1]:80", "fe80::/10"),
            ("[febf::1]:80", "fe80::/10"),
            ("224.0.0.1:80", "224.0.0.0/4"),
            ("255.255.255.255:80", "240.0.0.0/4"),
            ("[ff02::1]:80", "ff02::/16"),
            ("0.0.0.0:80", "0.0.0.0/8"),
            ("0.1.2.3:80", "0.0.0.0/8"),
            ("[::]:80", "::"),
            ("127.0.0.1:80", "127.0.0.0/8"),
            ("[::1]:80", "::1"),
            ("[::ffff:169.254.169.254]:80", "169.254.169.254"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1"),
            ("[64:ff9b::a9fe:a9fe]:80", "169.254.169.254"),
            ("[::a9fe:a9fe]:80", "169.254.169.254"),
            ("[fec0::1]:80", "fec0::/10"),
        ];
        for (address, block) in special {
            assert!(!allows(false, &["a.example", "*.example"], "a.example", address), "{address} by a name");
            let wide = ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "8000::/1"];
            assert!(!allows(false, &wide, "a.example", address), "{address} by a wide block");
            assert!(allows(false, &[block], "a.example", address), "{address} by {block}");
            let is_loopback = ["127.0.0.0/8", "127.0.0.1", "::1"].contains(&block);
            assert_eq!(allows(true, &["a.example"], "a.example", address), is_loopback, "{address}");
        }
    }

    #[test]
    fn why_not_is_said_with_the_host_and_its_address() {
        let policy = Policy::new(true, ["a.example"]).unwrap();
        let of = |host: &str, address: &str| policy.judge(host, address.parse().unwrap()).unwrap_err();
        assert_eq!(
            of("a.example", "169.254.169.254:80"),
            "`a.example (169.254.169.254)` may not be asked: it is a link-local address, which no block of the allow-list means"
        );
        assert_eq!(
            of("10.0.0.1", "10.0.0.1:80"),
            "`10.0.0.1` may not be asked: no entry of the allow-list is for it and port 80"
        );
    }

    #[test]
    fn an_entry_that_is_none_is_refused_with_what_it_should_be() {
        for (entry, words) in [
            ("", "must be a host name"),
            ("http://a/", "`://`"),
            ("a b", "must be a host name"),
            ("*", "must be a host name"),
            ("*.", "must be a host name"),
            ("*a.example", "must be a host name"),
            ("a.*.example", "must be a host name"),
            ("a..b", "must be a host name"),
            ("é.example", "must be a host name"),
            ("a:0", "a port"),
            ("a:65536", "a port"),
            ("a:+1", "a port"),
            ("a:", "a port"),
            ("127.1", "whole IP address"),
            ("10.0.0.256", "whole IP address"),
            ("10.0.0.1/8", "first address"),
            ("10.0.0.0/33", "more bits"),
            ("10.0.0.0/", "a number of bits"),
            ("10.0.0.0/+8", "a number of bits"),
            ("10.0.0/8", "no IP address"),
            ("a.example/8", "no IP address"),
            ("[::1", "no `]`"),
            ("[a]", "no IPv6"),
            ("[::1]8", "behind `]`"),
            ("2001:db8::1/32", "first address"),
            ("::ffff:10.0.0.1", "IPv4 address it stands for"),
        ] {
            let error = entry.parse::<Allowed>().unwrap_err();
            assert!(error.problem.contains(words), "{error}");
            assert!(error.to_string().starts_with(&format!("`{entry}` ")));
        }
        for good in ["a", "A.example.", "*.a_b.example:1", "10.0.0.0/8", "0.0.0.0/0", "::/0", "[::]/0:443"] {
            assert!(good.parse::<Allowed>().is_ok(), "{good}");
        }
    }
}

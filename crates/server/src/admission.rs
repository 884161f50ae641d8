//! Who gets a place at a door that has only so many: a pure decision, for all doors the same.
//!
//! Laws: nobody holds more places than a share of one. Some places are kept for the house (the
//! daemon's own user and root), so that guests, however many, never keep it out. Who holds a place and
//! makes no use of it loses it to a newcomer when there is no other: first those who have not yet
//! proved who they are, then those who ask for nothing just now, of each the one who came first.
//! Whoever is being answered is never interrupted for a newcomer; until when that is, [`crate::place`]
//! says. Streams are answers without an end, so at most half of the places are given to them, of one as
//! of all: the other half is for whoever asks something and goes again.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who shares places with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The daemon's own user, or root.
    House(u32),
    /// Another user of this machine.
    Guest(u32),
    /// Whoever comes from this machine over TCP: its users, and a proxy that speaks for many.
    Loopback,
    /// One address.
    V4(Ipv4Addr),
    /// What one customer of a network is given at least, 2^64 addresses: the first half of one.
    V6([u16; 4]),
}

impl Peer {
    /// Who is at an address.
    pub(crate) fn at(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self::Loopback,
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }

    fn is_house(self) -> bool {
        matches!(self, Self::House(_))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::House(uid) | Self::Guest(uid) => write!(f, "uid {uid}"),
            Self::Loopback => f.write_str("this machine"),
            Self::V4(address) => address.fmt(f),
            Self::V6([a, b, c, d]) => {
                write!(f, "{}/64", Ipv6Addr::new(*a, *b, *c, *d, 0, 0, 0, 0))
            }
        }
    }
}

/// What somebody does with a place, those who lose it most easily first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Who it is has to be proved yet.
    Unproven,
    /// Nothing is asked just now.
    Idle,
    /// Something is being answered.
    Busy,
    /// The same, without an end.
    Streaming,
}

/// How many places there are, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// All of them.
    pub(crate) size: usize,
    /// Of these no guest gets the last.
    pub(crate) reserved: usize,
    /// Of one guest.
    pub(crate) share: usize,
    /// Of all who come over TCP from this machine.
    pub(crate) loopback_share: usize,
}

impl Rules {
    /// `None`: as many as there are.
    fn share(&self, peer: Peer) -> Option<usize> {
        match peer {
            Peer::House(_) => None,
            Peer::Loopback => Some(self.loopback_share),
            Peer::Guest(_) | Peer::V4(_) | Peer::V6(_) => Some(self.share),
        }
    }

    /// Of all guests.
    fn for_guests(&self) -> usize {
        self.size.saturating_sub(self.reserved)
    }
}

/// What becomes of a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is a place.
    Admit,
    /// There is one once this one is gone.
    Drop(u64),
    /// There is none.
    Refuse(Full),
}

/// Of what there is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Of the places of this one.
    Share(Peer, usize),
    /// Of all places for such as this one.
    All(usize),
    /// Of the streams of this one.
    StreamsOf(Peer, usize),
    /// Of all streams for such as this one.
    Streams(usize),
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(peer, share) => {
                write!(f, "{share} connections of {peer} are in use, which is as many as there may be")
            }
            Self::All(size) => write!(f, "{size} connections are in use, which is as many as there may be"),
            Self::StreamsOf(peer, most) => {
                write!(f, "{peer} has {most} streams open, which is as many as there may be")
            }
            Self::Streams(most) => write!(f, "{most} streams are open, which is as many as there may be"),
        }
    }
}

struct Member<H> {
    peer: Peer,
    standing: Standing,
    /// Dropped when this one loses the place, which tells them.
    _hold: H,
}

/// Those who have a place, by number; a newcomer has a higher one than all before.
pub(crate) struct Crowd<H> {
    rules: Rules,
    members: BTreeMap<u64, Member<H>>,
    next: u64,
}

impl<H> Crowd<H> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, members: BTreeMap::new(), next: 0 }
    }

    fn count(&self, is: impl Fn(&Member<H>) -> bool) -> usize {
        self.members.values().filter(|member| is(member)).count()
    }

    /// Whether there is a place for one more like this.
    pub(crate) fn admit(&self, peer: Peer) -> Verdict {
        let count = |is: &dyn Fn(Peer) -> bool| self.count(|member| is(member.peer));
        if let Some(share) = self.rules.share(peer)
            && count(&|other| other == peer) >= share
        {
            return self.instead(|other| other == peer).unwrap_or(Verdict::Refuse(Full::Share(peer, share)));
        }
        let for_guests = self.rules.for_guests();
        if !peer.is_house() && count(&|other| !other.is_house()) >= for_guests {
            return self.instead(|other| !other.is_house()).unwrap_or(Verdict::Refuse(Full::All(for_guests)));
        }
        if self.members.len() >= self.rules.size {
            let gives_way = |other: Peer| peer.is_house() || !other.is_house();
            return self.instead(gives_way).unwrap_or(Verdict::Refuse(Full::All(self.rules.size)));
        }
        Verdict::Admit
    }

    /// The one of these who loses the place most easily.
    fn instead(&self, of: impl Fn(Peer) -> bool) -> Option<Verdict> {
        let idle = self.members.iter().filter(|(_, m)| of(m.peer) && m.standing < Standing::Busy);
        idle.min_by_key(|(number, member)| (member.standing, **number))
            .map(|(number, _)| Verdict::Drop(*number))
    }

    /// Gives a place, if there is one or somebody loses theirs. Returns its number.
    pub(crate) fn enter(&mut self, peer: Peer, standing: Standing, hold: H) -> Result<u64, Full> {
        match self.admit(peer) {
            Verdict::Admit => {}
            Verdict::Drop(number) => self.leave(number),
            Verdict::Refuse(full) => return Err(full),
        }
        let number = self.next;
        self.next += 1;
        self.members.insert(number, Member { peer, standing, _hold: hold });
        Ok(number)
    }

    /// Gives a place back.
    pub(crate) fn leave(&mut self, number: u64) {
        self.members.remove(&number);
    }

    /// Says what a place is used for. `false`: it was lost meanwhile, and may not be used.
    pub(crate) fn is_now(&mut self, number: u64, standing: Standing) -> bool {
        let Some(member) = self.members.get_mut(&number) else { return false };
        member.standing = standing;
        true
    }

    /// What is answered on a place has no end, if there may be one more such. Not asked of the house,
    /// for which places are kept.
    pub(crate) fn streams(&mut self, number: u64) -> Result<(), Full> {
        let Some(peer) = self.members.get(&number).map(|member| member.peer) else { return Ok(()) };
        let count = |of: &dyn Fn(Peer) -> bool| {
            self.count(|member| member.standing == Standing::Streaming && of(member.peer))
        };
        if let Some(share) = self.rules.share(peer) {
            let (of_one, of_all) = (share / 2, self.rules.for_guests() / 2);
            if count(&|other| other == peer) >= of_one {
                return Err(Full::StreamsOf(peer, of_one));
            }
            if count(&|other| !other.is_house()) >= of_all {
                return Err(Full::Streams(of_all));
            }
        }
        self.is_now(number, Standing::Streaming);
        Ok(())
    }

    pub(crate) fn standing(&self, number: u64) -> Option<Standing> {
        self.members.get(&number).map(|member| member.standing)
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{Busy, Idle, Unproven};
    use super::*;

    const RULES: Rules = Rules { size: 10, reserved: 2, share: 3, loopback_share: 6 };

    fn crowd() -> Crowd<()> {
        Crowd::new(RULES)
    }

    fn at(address: &str) -> Peer {
        Peer::at(address.parse().unwrap())
    }

    #[test]
    fn one_guest_gets_a_share_and_loses_only_places_of_their_own() {
        let mut crowd = crowd();
        let mine = [Idle, Busy, Busy].map(|standing| crowd.enter(Peer::Guest(7), standing, ()).unwrap());
        assert_eq!(crowd.admit(Peer::Guest(7)), Verdict::Drop(mine[0]));
        assert!(crowd.is_now(mine[0], Busy));
        assert_eq!(crowd.admit(Peer::Guest(7)), Verdict::Refuse(Full::Share(Peer::Guest(7), 3)));
        assert_eq!(crowd.admit(Peer::Guest(8)), Verdict::Admit);
        crowd.leave(mine[1]);
        assert_eq!(crowd.admit(Peer::Guest(7)), Verdict::Admit);
    }

    #[test]
    fn guests_however_many_and_busy_leave_places_for_the_house() {
        let mut crowd = crowd();
        let entered = (0..100).filter(|uid| crowd.enter(Peer::Guest(*uid), Busy, ()).is_ok()).count();
        assert_eq!(entered, 8);
        assert_eq!(crowd.admit(Peer::Guest(200)), Verdict::Refuse(Full::All(8)));
        for _ in 0..2 {
            crowd.enter(Peer::House(0), Busy, ()).unwrap();
        }
        assert_eq!(crowd.admit(Peer::House(0)), Verdict::Refuse(Full::All(10)), "nobody is interrupted");
        assert!(crowd.is_now(5, Idle));
        assert_eq!(crowd.admit(Peer::House(0)), Verdict::Drop(5));
        assert_eq!(crowd.enter(Peer::House(1000), Busy, ()), Ok(10));
        assert!(!crowd.is_now(5, Busy), "the place is lost");
        assert_eq!(crowd.standing(10), Some(Busy));
    }

    #[test]
    fn the_house_may_use_all_places_and_gives_none_to_guests() {
        let mut crowd = crowd();
        for _ in 0..10 {
            crowd.enter(Peer::House(0), Idle, ()).unwrap();
        }
        assert_eq!(crowd.admit(Peer::Guest(7)), Verdict::Refuse(Full::All(10)));
        assert_eq!(crowd.admit(Peer::House(0)), Verdict::Drop(0));
    }

    #[test]
    fn who_has_proved_nothing_goes_before_who_has_and_the_oldest_first() {
        let mut crowd: Crowd<()> = Crowd::new(Rules { reserved: 0, ..RULES });
        for n in 0..10 {
            let standing = [Busy, Idle, Unproven, Unproven][n % 4];
            crowd.enter(Peer::V4(Ipv4Addr::new(192, 0, 2, n as u8)), standing, ()).unwrap();
        }
        let newcomer = at("198.51.100.1");
        for expected in [2, 3, 6, 7, 1, 5, 9] {
            assert_eq!(crowd.admit(newcomer), Verdict::Drop(expected));
            crowd.leave(expected);
            crowd.enter(Peer::House(0), Busy, ()).unwrap();
        }
        assert_eq!(crowd.admit(newcomer), Verdict::Refuse(Full::All(10)));
    }

    #[test]
    fn whoever_says_nothing_keeps_nobody_out() {
        let mut crowd: Crowd<()> = Crowd::new(Rules { reserved: 0, ..RULES });
        let stranger = |n: u16| Peer::V6([0x2001, 0xdb8, n, 0]);
        let proven = crowd.enter(at("192.0.2.1"), Idle, ()).unwrap();
        for n in 0..10_000 {
            crowd.enter(stranger(n), Unproven, ()).unwrap();
        }
        assert!(crowd.is_now(proven, Busy));
        assert_eq!(crowd.members.len(), 10);
    }

    #[test]
    fn streams_leave_half_of_the_places_to_whoever_asks_and_goes() {
        // Of one.
        let mut crowd = crowd();
        let here: Vec<u64> = (0..6).map(|_| crowd.enter(Peer::Loopback, Unproven, ()).unwrap()).collect();
        for number in &here {
            assert!(crowd.is_now(*number, Busy));
        }
        let outcomes = here.iter().map(|number| crowd.streams(*number)).filter(Result::is_ok).count();
        assert_eq!(outcomes, 3);
        let told = crowd.streams(here[3]).unwrap_err();
        assert_eq!(told.to_string(), "this machine has 3 streams open, which is as many as there may be");
        assert_eq!(crowd.admit(Peer::Loopback), Verdict::Refuse(Full::Share(Peer::Loopback, 6)));
        assert_eq!(crowd.standing(here[3]), Some(Busy), "it is told so");
        assert!(crowd.is_now(here[3], Idle));
        assert_eq!(crowd.admit(Peer::Loopback), Verdict::Drop(here[3]), "and gives way again");
        // One ends, and another may begin.
        assert!(crowd.is_now(here[0], Idle));
        assert_eq!(crowd.streams(here[4]), Ok(()));
        // Of all guests: of eight places four.
        for (uid, expected) in [(7, Ok(())), (8, Err(Full::Streams(4)))] {
            let number = crowd.enter(Peer::Guest(uid), Busy, ()).unwrap();
            assert_eq!(crowd.streams(number), expected);
        }
    }

    #[test]
    fn no_streams_however_many_keep_a_newcomer_out() {
        let mut crowd: Crowd<()> = Crowd::new(Rules { reserved: 0, ..RULES });
        for n in 0..200 {
            let stranger = Peer::V4(Ipv4Addr::new(192, 0, 2, n % 5));
            if let Ok(number) = crowd.enter(stranger, Busy, ())
                && crowd.streams(number).is_err()
            {
                // Told so, and idle until it asks for something else.
                assert!(crowd.is_now(number, Idle));
            }
        }
        for address in ["192.0.2.0", "198.51.100.1", "::1"] {
            assert!(matches!(crowd.admit(at(address)), Verdict::Admit | Verdict::Drop(_)), "{address}");
        }
    }

    #[test]
    fn the_house_streams_on_all_its_places() {
        let mut crowd = crowd();
        for _ in 0..10 {
            let number = crowd.enter(Peer::House(0), Busy, ()).unwrap();
            assert_eq!(crowd.streams(number), Ok(()));
        }
    }

    #[test]
    fn addresses_that_are_one_machine_share() {
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(at(here), Peer::Loopback);
        }
        assert_eq!(at("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
        let mut crowd = crowd();
        for _ in 0..6 {
            crowd.enter(at("::1"), Busy, ()).unwrap();
        }
        let told = crowd.enter(at("127.0.0.1"), Busy, ()).unwrap_err();
        assert_eq!(
            told.to_string(),
            "6 connections of this machine are in use, which is as many as there may be"
        );
    }
}

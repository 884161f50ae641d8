//! What is known, with a clock that is a number.

use proptest::prelude::*;

use super::*;

/// A process whose clock both run together, the one 1000 ahead.
struct Story {
    notify: Notify,
    awake_ms: u64,
}

impl Story {
    fn new(watchdog_ms: impl Into<Option<u64>>) -> Self {
        Self::ordered(spec::Notify { watchdog_ms: watchdog_ms.into(), first_ms: None })
    }

    /// Executed at 0.
    fn ordered(order: spec::Notify) -> Self {
        let mut story = Self { notify: Notify::new(order), awake_ms: 0 };
        story.notify.begin(story.now());
        story
    }

    fn now(&self) -> Now {
        Now { boot_ms: 1000 + self.awake_ms, awake_ms: self.awake_ms }
    }

    fn at(&mut self, awake_ms: u64) -> &mut Self {
        self.awake_ms = awake_ms;
        self
    }

    /// Whether it is news.
    fn says(&mut self, text: &str) -> bool {
        let now = self.now();
        self.notify.take(text.as_bytes(), |pid| pid < 100, now).is_news
    }

    fn is_due(&mut self) -> bool {
        let now = self.now();
        self.notify.due(now)
    }

    fn state(&self) -> &NotifyState {
        self.notify.state()
    }
}

#[test]
fn news_is_what_has_changed() {
    let mut story = Story::new(None);
    assert!(story.says("READY=1\nSTATUS=up\nERRNO=2\nMAINPID=7"));
    assert!(!story.says("READY=1\nSTATUS=up\nERRNO=2\nMAINPID=7\nX=1"));
    let known = NotifyState {
        ready: true,
        status: Some("up".into()),
        errno: Some(2),
        main_pid: Some(7),
        ..NotifyState::default()
    };
    assert_eq!(*story.state(), known);
    assert!(story.says("STATUS=\nERRNO=0"));
    assert_eq!(*story.state(), NotifyState { status: None, errno: None, ..known });
    assert!(!story.says("MAINPID=100"), "one that may not be");
    assert_eq!(story.state().main_pid, Some(7));
    assert!(story.says("WATCHDOG=1"), "that it is heard of at all");
    assert!(!story.says("WATCHDOG=1"));
}

#[test]
fn a_reload_ends_when_it_is_ready_again() {
    let mut story = Story::new(None);
    story.says("READY=1");
    assert!(story.says("MONOTONIC_USEC=77\nRELOADING=1"));
    let state = story.state();
    assert_eq!((state.ready, state.reloading, state.reloads, state.reload_usec), (true, true, 1, Some(77)));
    assert!(story.says("READY=1"));
    assert_eq!((story.state().reloading, story.state().reloads), (false, 1));
    assert!(story.says("READY=1\nRELOADING=1"), "begun and done");
    let state = story.state();
    assert_eq!((state.reloading, state.reloads, state.reload_usec), (false, 2, None));
    assert!(story.says("STOPPING=1\nRELOADING=1"));
    assert_eq!((story.state().stopping, story.state().reloading, story.state().reloads), (true, false, 2));
}

#[test]
fn time_is_granted_within_bounds_and_not_taken_back() {
    let mut story = Story::new(None);
    let mut grant = |usec: u64| {
        let now = story.now();
        story.notify.take(format!("EXTEND_TIMEOUT_USEC={usec}").as_bytes(), |_| false, now).extended_until_ms
    };
    assert_eq!(grant(5_000_001), Some(1000 + 5001));
    assert_eq!(grant(1), Some(1000 + 5001));
    assert_eq!(grant(u64::MAX), Some(1000 + EXTENSION_MAX_MS));
    assert_eq!(story.state().extended_until_ms, Some(1000 + EXTENSION_MAX_MS));
}

#[test]
fn the_watchdog_runs_from_ready_on_and_expires_once() {
    let mut story = Story::new(100);
    assert!(!story.at(1000).is_due(), "it may take long to start");
    story.says("STATUS=starting");
    assert_eq!(story.notify.expires_ms(), None);
    story.says("READY=1");
    assert_eq!(story.notify.expires_ms(), Some(1100));
    assert!(!story.at(1099).is_due());
    assert!(story.says("WATCHDOG=1"), "for the first time");
    assert!(!story.says("WATCHDOG=1"));
    assert!(!story.at(1198).is_due());
    assert!(!story.says("READY=1"), "which is no ping");
    assert!(story.at(1199).is_due());
    assert!(!story.at(5000).is_due());
    let expired = WatchdogState {
        interval_ms: Some(100),
        last_ping_ms: Some(1000 + 1099),
        expired: true,
        triggered: false,
        expiries: 1,
    };
    assert_eq!(story.state().watchdog, expired);
    assert!(!story.says("READY=1\nWATCHDOG_USEC=100000"), "neither is a ping");
    assert!(!story.at(6000).is_due());
    assert!(story.says("WATCHDOG=1"), "it lives");
    assert_eq!((story.state().watchdog.expired, story.state().watchdog.expiries), (false, 1));
    assert!(story.at(6100).is_due());
    assert_eq!(story.state().watchdog.expiries, 2);
}

#[test]
fn who_never_says_that_it_is_ready_is_watched_from_its_first_ping_on() {
    let mut story = Story::new(100);
    assert!(story.at(50).says("WATCHDOG=1"));
    assert!(story.at(150).is_due());
}

/// Where nobody waits for it to be ready.
fn watched_from_the_start() -> Story {
    Story::ordered(spec::Notify { watchdog_ms: Some(100), first_ms: Some(300) })
}

#[test]
fn who_hangs_before_its_first_word_is_found_out_where_nobody_waits_for_it() {
    let mut story = watched_from_the_start();
    assert_eq!(story.notify.expires_ms(), Some(300));
    story.at(200).says("STATUS=starting");
    assert!(!story.at(299).is_due());
    assert!(story.at(300).is_due());
    let expired = WatchdogState { interval_ms: Some(100), expired: true, expiries: 1, ..Default::default() };
    assert_eq!(story.state().watchdog, expired);
    assert!(!story.at(5000).is_due());
    story.says("WATCHDOG=1");
    assert_eq!((story.state().watchdog.expired, story.notify.expires_ms()), (false, Some(5100)));
    let mut unwatched = Story::ordered(spec::Notify { watchdog_ms: None, first_ms: Some(300) });
    assert!(!unwatched.at(u64::MAX / 2).is_due());
}

#[test]
fn from_its_first_word_on_it_has_the_time_it_always_has() {
    for word in ["WATCHDOG=1", "READY=1"] {
        let mut story = watched_from_the_start();
        story.at(50).says(word);
        assert_eq!(story.notify.expires_ms(), Some(150), "{word}");
        story.at(60).says("READY=1");
        assert_eq!(story.notify.expires_ms(), Some(150), "which is no ping");
        assert!(story.at(150).is_due());
    }
    let mut story = watched_from_the_start();
    story.notify.ask_to_stop();
    assert!(!story.at(u64::MAX / 2).is_due());
}

#[test]
fn a_trigger_counts_at_once_and_whenever() {
    let mut story = Story::new(None);
    assert!(story.says("WATCHDOG=trigger"));
    let watchdog = story.state().watchdog;
    assert_eq!((watchdog.expired, watchdog.triggered, watchdog.expiries), (true, true, 1));
    assert!(story.says("WATCHDOG=trigger"), "again");
    assert!(story.says("WATCHDOG=1"));
    let watchdog = story.state().watchdog;
    assert_eq!((watchdog.expired, watchdog.triggered, watchdog.expiries), (false, false, 2));
}

#[test]
fn the_interval_can_be_set_anew() {
    let mut story = Story::new(100);
    story.says("READY=1");
    assert!(story.at(50).says("WATCHDOG_USEC=200000"));
    assert_eq!(story.notify.expires_ms(), Some(250));
    assert!(!story.at(60).says("WATCHDOG_USEC=200000"), "the same, but from now on");
    assert_eq!(story.notify.expires_ms(), Some(260));
    assert!(story.says("WATCHDOG_USEC=0"), "that is not its own to say");
    assert_eq!((story.notify.expires_ms(), story.state().watchdog.interval_ms), (Some(160), Some(100)));
    assert!(story.at(160).is_due());
    let mut unwatched = Story::new(None);
    unwatched.says("READY=1\nWATCHDOG_USEC=1");
    assert_eq!(unwatched.notify.expires_ms(), Some(1), "rounded up: 0 would be none");
    assert!(unwatched.says("WATCHDOG_USEC=0"), "what it asked for itself");
    assert_eq!((unwatched.notify.expires_ms(), unwatched.state().watchdog.interval_ms), (None, None));
    unwatched.says("WATCHDOG=1");
    assert!(!unwatched.at(u64::MAX / 2).is_due());
}

#[test]
fn who_is_about_to_end_is_not_watched() {
    for by_itself in [true, false] {
        let mut story = Story::new(100);
        story.says("READY=1");
        if by_itself {
            assert!(story.says("STOPPING=1\nWATCHDOG=1"));
        } else {
            story.notify.ask_to_stop();
        }
        assert_eq!(story.notify.expires_ms(), None);
        for text in ["WATCHDOG=1", "READY=1", "WATCHDOG_USEC=5", "WATCHDOG=trigger"] {
            story.says(text);
            assert_eq!(story.notify.expires_ms(), None, "{text}");
        }
        assert_eq!(story.state().watchdog.expiries, 0);
    }
}

proptest! {
    #[test]
    fn nothing_breaks_it(datagrams: Vec<(Vec<u8>, u64, bool)>) {
        let mut notify = Notify::new(spec::Notify { watchdog_ms: Some(1), first_ms: Some(2) });
        for (datagram, time, may) in datagrams {
            let now = Now { boot_ms: time, awake_ms: time / 2 };
            notify.take(&datagram, |_| may, now);
            notify.due(now);
            let status = notify.state().status.as_ref();
            prop_assert!(status.is_none_or(|text| (1..=STATUS_MAX).contains(&text.len())));
        }
    }

    /// Whatever is said in whatever order: told is what differs, apart from pings but the first.
    #[test]
    fn news_is_told_and_nothing_else(said in proptest::collection::vec((0..12_usize, 0..300_u64), 0..60)) {
        const WORDS: [&str; 12] = [
            "READY=1", "RELOADING=1", "STOPPING=1", "STATUS=a", "STATUS=b", "ERRNO=3", "MAINPID=5",
            "EXTEND_TIMEOUT_USEC=1000", "WATCHDOG=1", "WATCHDOG=trigger", "WATCHDOG_USEC=5000", "X=1",
        ];
        let mut story = Story::new(20);
        let but_pings = |state: &NotifyState| {
            let mut state = state.clone();
            state.watchdog.last_ping_ms = state.watchdog.last_ping_ms.map(|_| 0);
            state
        };
        for (word, later) in said {
            story.awake_ms += later;
            let before = but_pings(story.state());
            let due = story.is_due();
            let news = story.says(WORDS[word]);
            let after = but_pings(story.state());
            prop_assert!(due || news || before == after);
            prop_assert!(!(due || news) || before != after);
            prop_assert!(story.notify.expires_ms().is_none() || !after.watchdog.expired);
            prop_assert!(story.notify.expires_ms().is_none() || !after.stopping);
        }
    }
}

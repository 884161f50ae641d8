//! Probes: every kind of question, every role, thresholds, delays, and what follows from a no.

use upbeat_model::project::{
    FileCheck, Grpc, Http, Probe, Question, Reaction, Reload, Remedy, RestartPolicy, Service, Signal, Udp,
};
use upbeat_model::target::{Ask, Goal};
use upbeat_model::{Exit, Millis, Mono, ProbeName, Wall};

use super::NONE;
use super::story::{Story, id};
use crate::instance::{Input, Moment, Observation, Said, Watchdog};

fn service(probes: &[(&str, Probe)]) -> Service {
    let named = |(name, probe): &(&str, Probe)| (ProbeName::new(name).unwrap(), probe.clone());
    let probes = probes.iter().map(named).collect();
    Service { probes, ..Service::new(vec!["s".into()], "/") }
}

/// Asked each second, and a no each time.
fn probe(ask: Question) -> Probe {
    Probe { interval: Millis::seconds(1), timeout: Millis(500), failure_threshold: 1, ..Probe::new(ask) }
}

fn tcp() -> Probe {
    probe(Question::Tcp("127.0.0.1:1".into()))
}

fn with(probe: Probe, action: Reaction) -> Probe {
    Probe { on_failure: Some(Remedy::of(action)), ..probe }
}

/// All that are asked.
fn asked() -> Vec<Question> {
    vec![
        Question::Http(Http::get("http://127.0.0.1:1/")),
        Question::Tcp("127.0.0.1:1".into()),
        Question::Udp(Udp { address: "127.0.0.1:1".into(), send: "x".into(), expect: None }),
        Question::Grpc(Grpc { address: "127.0.0.1:1".into(), service: String::new(), tls: None }),
        Question::Unix("/run/s".into()),
        Question::Exec(vec!["x".into()]),
        Question::File(FileCheck { path: "/run/s".into(), max_age: None }),
        Question::Prints(Millis::seconds(5)),
        Question::Memory(1 << 20),
        Question::Descriptors(10),
        Question::Cpu(90),
    ]
}

/// Answers each question as soon as it is asked, with the next of these answers, until they are used
/// up. Says when each was asked, counted from now.
fn answer(story: &mut Story, probe: &str, answers: &str) -> Vec<u64> {
    let (begun, mut at) = (story.now, Vec::new());
    let question = match probe {
        "readiness" => "probe s".to_owned(),
        name => format!("probe s {name}"),
    };
    for yes in answers.chars() {
        while !story.ordered().contains(&question) {
            story.pass(Millis(10));
            assert!(story.now < begun + 10_000_000, "it is not asked any more");
        }
        at.push(story.now - begun);
        story.said("s", probe, yes == '+');
    }
    at
}

#[test]
fn every_kind_that_is_asked_passes_fails_flaps_and_hangs_by_its_thresholds() {
    for ask in asked() {
        for threshold in [1_u32, 3] {
            let probe =
                Probe { failure_threshold: threshold, success_threshold: threshold, ..probe(ask.clone()) };
            let mut story = Story::of(service(&[("readiness", probe)]));
            story.started("s");
            let threshold = threshold as usize;
            // The first that is asked may be an eager one, whose no does not count.
            answer(&mut story, "readiness", "-");
            answer(&mut story, "readiness", &"+".repeat(threshold - 1));
            assert_eq!(story.phase("s"), "starting", "{ask}");
            answer(&mut story, "readiness", "+");
            assert_eq!(story.phase("s"), "healthy", "{ask}");
            // It flaps: never so many in a row.
            answer(&mut story, "readiness", &("-".repeat(threshold - 1) + "+").repeat(5));
            assert_eq!(story.phase("s"), "healthy", "{ask} flaps");
            answer(&mut story, "readiness", &"-".repeat(threshold));
            assert_eq!(story.phase("s"), "unhealthy", "{ask}");
            answer(&mut story, "readiness", &("+".repeat(threshold - 1) + "-").repeat(5));
            assert_eq!(story.phase("s"), "unhealthy", "{ask} flaps");
            answer(&mut story, "readiness", &"+".repeat(threshold));
            assert_eq!(story.phase("s"), "healthy", "{ask}");
            // It hangs: the driver says no after its time; an answer that never comes says nothing.
            story.pass(Millis(60_000));
            assert_eq!(story.phase("s"), "healthy", "{ask} hangs");
            assert!(story.reacted.is_empty(), "readiness is only said");
        }
    }
}

#[test]
fn nothing_is_asked_before_the_initial_delay_and_then_by_the_interval() {
    let probe =
        Probe { initial_delay: Millis::seconds(5), interval: Millis(300), failure_threshold: 9, ..tcp() };
    for (role, eager) in [("readiness", true), ("liveness", false), ("own", true)] {
        let mut story = Story::of(service(&[(role, probe.clone())]));
        story.started("s");
        let at = answer(&mut story, role, "-----+---");
        assert_eq!(at[0], 5_000, "{role}");
        match eager {
            true => assert!(at[1] < 5_300, "{role}: somebody may wait for the first yes: {at:?}"),
            false => assert_eq!(at[1], 5_300, "{role}"),
        }
        let gaps: Vec<u64> = at[5..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps, [300, 300, 300], "{role}: {at:?}");
    }
}

#[test]
fn a_startup_probe_holds_the_others_back_and_is_not_asked_again() {
    let patient = Probe { failure_threshold: 30, ..tcp() };
    let mut story = Story::of(service(&[
        ("startup", patient),
        ("readiness", tcp()),
        ("liveness", tcp()),
        ("own", tcp()),
    ]));
    story.started("s");
    answer(&mut story, "startup", &"-".repeat(29));
    assert!(story.ordered().iter().all(|order| order == "probe s startup"));
    assert_eq!(story.phase("s"), "starting");
    assert_eq!(story.why("s"), "its probe `startup` (tcp 127.0.0.1:1) has not passed yet: said false");
    answer(&mut story, "startup", "+");
    let orders = story.ordered();
    for other in ["probe s", "probe s liveness", "probe s own"] {
        assert!(orders.iter().any(|order| order == other), "{orders:?}");
    }
    story.said("s", "readiness", true);
    assert_eq!(story.phase("s"), "healthy");
    story.pass(Millis(60_000));
    assert!(!story.ordered().iter().any(|order| order == "probe s startup"));
}

#[test]
fn a_start_that_never_succeeds_is_begun_anew_whatever_the_restart_policy_says() {
    let mut story = Story::of(service(&[("startup", Probe { failure_threshold: 2, ..tcp() })]));
    story.started("s");
    answer(&mut story, "startup", "-");
    // Eager ones may come between; two that count are one interval apart.
    while story.reacted.is_empty() {
        answer(&mut story, "startup", "-");
    }
    assert_eq!(story.reacted, ["startup restart 1: said false"]);
    assert_eq!(story.ordered(), ["stop s SIGTERM 10s"]);
    assert_eq!(story.why("s"), "is being stopped because a probe of it has failed (SIGTERM)");
    story.exits("s", Exit::Code(0));
    assert_eq!(story.ordered(), ["start s #2"], "the first time at once");
}

#[test]
fn a_failing_liveness_probe_restarts_until_its_budget_is_spent_and_then_asks_for_a_person() {
    let remedy = Remedy { max_attempts: 2, window: Millis::seconds(600), action: Reaction::Restart };
    let mut story = Story::of(service(&[("liveness", Probe { on_failure: Some(remedy), ..tcp() })]));
    for attempt in 1..=2 {
        story.started("s");
        answer(&mut story, "liveness", "+");
        assert_eq!(story.phase("s"), "running");
        answer(&mut story, "liveness", "-");
        assert_eq!(story.phase("s"), "stopping");
        // A daemon that dies here forgets neither the verdict nor what was done.
        story.daemon_dies();
        let attempt_now = story.attempt("s");
        assert_eq!(attempt_now.0, attempt);
        story.seen("s", crate::instance::Observation::Ended { attempt: attempt_now, exit: Exit::Signal(15) });
        story.pass(Millis::seconds(10));
        assert_eq!(story.ordered().last().unwrap(), &format!("start s #{}", attempt + 1));
    }
    story.started("s");
    answer(&mut story, "liveness", "+-");
    assert_eq!(story.phase("s"), "needs attention");
    assert_eq!(
        story.why("s"),
        "its probe `liveness` still fails after restart 2 times within 10m: a person has to look; `upbeat \
         restart` begins anew; its probe `liveness` (tcp 127.0.0.1:1) failed: said false"
    );
    answer(&mut story, "liveness", "---");
    assert_eq!(story.phase("s"), "needs attention", "it is left as it is");
    answer(&mut story, "liveness", "+");
    assert_eq!(story.phase("s"), "running", "it came back by itself");
    answer(&mut story, "liveness", "-");
    assert_eq!(story.phase("s"), "needs attention", "and is no better than it was");
    // Somebody looked, and says so.
    story.command(Goal::Running, Ask::Ensure, &["s"]);
    assert_eq!(story.phase("s"), "unhealthy");
    answer(&mut story, "liveness", "-");
    assert_eq!(story.phase("s"), "stopping");
}

#[test]
fn whoever_starts_it_anew_gives_it_its_budget_back() {
    let remedy = Remedy { max_attempts: 1, window: Millis::seconds(600), action: Reaction::Restart };
    let commands: [fn(&mut Story); 3] = [
        |story| {
            story.command(Goal::Running, Ask::Restart, &["s"]);
            story.exits("s", Exit::Signal(15));
        },
        |story| {
            story.command(Goal::Stopped, Ask::Ensure, &["s"]);
            story.exits("s", Exit::Signal(15));
            story.command(Goal::Running, Ask::Start, &["s"]);
        },
        // While it is about to be restarted for a no.
        |story| {
            story.command(Goal::Running, Ask::Ensure, &["s"]);
            answer(story, "liveness", "-");
            story.exits("s", Exit::Signal(15));
            story.command(Goal::Stopped, Ask::Ensure, &["s"]);
            story.command(Goal::Running, Ask::Start, &["s"]);
        },
    ];
    for begin_anew in commands {
        let remedy = Some(remedy.clone());
        let mut story = Story::of(service(&[("liveness", Probe { on_failure: remedy, ..tcp() })]));
        story.started("s");
        answer(&mut story, "liveness", "+-");
        story.exits("s", Exit::Signal(15));
        story.pass(Millis::seconds(10));
        story.started("s");
        answer(&mut story, "liveness", "+-");
        assert_eq!(story.phase("s"), "needs attention");
        begin_anew(&mut story);
        story.started("s");
        answer(&mut story, "liveness", "+-");
        assert_eq!(story.phase("s"), "stopping", "it is restarted once more");
        story.exits("s", Exit::Signal(15));
        story.pass(Millis::seconds(10));
        story.started("s");
        answer(&mut story, "liveness", "+-");
        assert_eq!(story.phase("s"), "needs attention");
    }
}

/// What is shown is what is so, a change at a time: no sooner than its thresholds say, and nothing is done
/// about it nor kept of it any more.
#[test]
fn what_flaps_when_its_budget_is_spent_is_shown_as_it_is_and_nothing_else_comes_of_it() {
    let action = Reaction::Signal(Signal::parse("HUP").unwrap());
    let remedy = Remedy { max_attempts: 1, window: Millis::seconds(3600), action };
    let (failure_threshold, success_threshold) = (2, 3);
    let own = Probe { on_failure: Some(remedy), failure_threshold, success_threshold, ..tcp() };
    let mut story = Story::of(service(&[("own", own)]));
    story.started("s");
    answer(&mut story, "own", "+++--");
    assert_eq!(story.ordered(), ["signal s SIGHUP"]);
    answer(&mut story, "own", "--");
    let (mut phases, mut answers) = (vec![story.phase("s")], 0);
    let kept = story.disk[&id("s")].done.clone();
    for flap in ["+-", "++-", "+++", "-", "--"].iter().cycle().take(50) {
        for one in flap.chars() {
            answer(&mut story, "own", &one.to_string());
            answers += 1;
            if phases.last() != Some(&story.phase("s")) {
                phases.push(story.phase("s"));
            }
        }
    }
    assert_eq!(
        phases.len(),
        21,
        "{answers} answers, each third yes in a row, and each second no: {phases:?}"
    );
    assert!(phases.iter().skip(1).step_by(2).all(|phase| phase == "running"), "{phases:?}");
    assert!(phases.iter().step_by(2).all(|phase| phase == "needs attention"), "{phases:?}");
    assert_eq!((story.reacted.len(), story.ordered(), &story.disk[&id("s")].done), (1, vec![], &kept));
}

#[test]
fn a_budget_is_a_window_that_moves_on() {
    let remedy = Remedy {
        max_attempts: 2,
        window: Millis::seconds(60),
        action: Reaction::Signal(Signal::parse("HUP").unwrap()),
    };
    let mut story = Story::of(service(&[("own", Probe { on_failure: Some(remedy), ..tcp() })]));
    story.started("s");
    answer(&mut story, "own", "+-");
    assert_eq!(story.ordered(), ["signal s SIGHUP"]);
    answer(&mut story, "own", "-");
    assert_eq!(story.ordered(), ["signal s SIGHUP"], "it goes on failing");
    answer(&mut story, "own", "-");
    assert_eq!(story.phase("s"), "needs attention");
    answer(&mut story, "own", "+");
    story.pass(Millis::seconds(61));
    answer(&mut story, "own", "+-");
    assert_eq!(story.ordered(), ["signal s SIGHUP"]);
    assert_eq!(story.phase("s"), "running");
}

#[test]
fn stop_leaves_it_down_until_somebody_starts_it() {
    let mut spec = service(&[("liveness", with(tcp(), Reaction::Stop))]);
    spec.restart = RestartPolicy::Always;
    let mut story = Story::of(spec);
    story.started("s");
    answer(&mut story, "liveness", "+-");
    story.exits("s", Exit::Code(0));
    assert_eq!(story.phase("s"), "failed");
    assert_eq!(
        story.why("s"),
        "was stopped: its probe `liveness` failed: said false; it stays so until somebody starts it"
    );
    story.ordered();
    story.pass(Millis::seconds(3_600));
    assert_eq!(story.ordered(), NONE);
    story.command(Goal::Running, Ask::Ensure, &["s"]);
    assert_eq!(story.ordered(), ["start s #2"]);
}

#[test]
fn a_command_is_run_about_it_and_whoever_only_wants_to_know_is_told() {
    let heal = with(tcp(), Reaction::Exec(vec!["./heal".into()]));
    let mut story = Story::of(service(&[("a", heal), ("b", with(tcp(), Reaction::Ignore))]));
    story.started("s");
    answer(&mut story, "a", "+-");
    assert!(story.ordered().contains(&"remedy s ./heal".to_owned()));
    answer(&mut story, "b", "+---");
    assert_eq!(story.phase("s"), "running");
    assert!(story.why("s").ends_with("its probe `b` (tcp 127.0.0.1:1) failed 3 times in a row: said false"));
    let b = &story.node.status(&id("s")).unwrap().probes["b"];
    assert_eq!((b.passing, b.failures, b.last.as_deref()), (Some(false), 3, Some("said false")));
}

#[test]
fn who_reads_its_configuration_anew_says_so_until_it_is_ready_again() {
    let mut story = Story::of(service(&[("readiness", probe(Question::Notify))]));
    story.started("s");
    let says = |reloading| Said { ready: true, reloading, ..Said::default() };
    for times in 0..2 {
        story.notified("s", says(false));
        assert_eq!((story.phase("s").as_str(), story.why("s").as_str()), ("healthy", ""), "{times}");
        story.notified("s", says(true));
        let why = "has said that it reads its configuration anew";
        assert_eq!((story.phase("s").as_str(), story.why("s").as_str()), ("healthy", why), "it may be used");
        let reasons = &story.node.status(&id("s")).unwrap().reasons;
        assert_eq!(*reasons, [upbeat_model::Reason::SaysReloading]);
    }
    // Another attempt has said nothing of the kind.
    story.exits("s", Exit::Code(1));
    story.command(Goal::Running, Ask::Start, &["s"]);
    story.started("s");
    story.notified("s", says(false));
    assert_eq!((story.phase("s").as_str(), story.why("s").as_str()), ("healthy", ""));
}

#[test]
fn ready_is_when_it_says_so_and_also_when_that_overtakes_its_start() {
    for early in [true, false] {
        let notify = Probe { failure_threshold: 3, ..probe(Question::Notify) };
        let mut story = Story::of(service(&[("readiness", notify)]));
        let ready = Said { ready: true, status: Some("warm".into()), ..Said::default() };
        if early {
            story.notified("s", ready);
            story.started("s");
        } else {
            story.started("s");
            assert_eq!(story.phase("s"), "starting");
            story.pass(Millis(3_500));
            assert_eq!(story.phase("s"), "unhealthy");
            let why = "its health check (READY=1) failed 3 times in a row: it has not said READY=1 yet";
            assert_eq!(story.why("s"), why);
            story.notified("s", ready);
        }
        assert_eq!(story.phase("s"), "healthy");
        assert_eq!(story.node.status(&id("s")).unwrap().says.as_deref(), Some("warm"));
        story.pass(Millis(60_000));
        assert_eq!(story.phase("s"), "healthy", "once said it stays true");
        assert!(story.ordered().iter().all(|order| !order.starts_with("probe")));
        // Said to a daemon that died: the shim says it again to the next, before it looks or after.
        story.daemon_dies();
        story.notified("s", Said { ready: true, ..Said::default() });
        let attempt = story.attempt("s");
        story.seen(
            "s",
            crate::instance::Observation::Running {
                attempt,
                pid: 7,
                started_at: upbeat_model::Wall(0),
                log_start: 1,
                held: None,
            },
        );
        assert_eq!(story.phase("s"), "healthy");
    }
}

#[test]
fn who_asks_for_more_time_is_given_it() {
    let notify = Probe { failure_threshold: 1, ..probe(Question::Notify) };
    let mut story = Story::of(service(&[("startup", notify)]));
    story.started("s");
    story.notified("s", Said { extended: Some(Mono(story.now + 20_000)), ..Said::default() });
    story.pass(Millis(19_500));
    assert_eq!(story.phase("s"), "starting");
    assert!(story.reacted.is_empty());
    story.pass(Millis(2_000));
    assert_eq!(story.phase("s"), "stopping", "and no more than that");
    let asked = story.now;
    story.notified("s", Said { extended: Some(Mono(asked + 60_000)), ..Said::default() });
    story.ordered();
    story.pass(Millis(60_000));
    assert_eq!(story.ordered(), NONE, "its stop is not pressed before that");
}

#[test]
fn a_watchdog_that_expires_is_a_no_at_once_and_each_further_interval_one_more() {
    let remedy = Remedy { max_attempts: 2, ..Remedy::of(Reaction::Signal(Signal::parse("ABRT").unwrap())) };
    let dog = Probe {
        interval: Millis::seconds(30),
        on_failure: Some(remedy),
        ..probe(Question::Watchdog(Millis::seconds(30)))
    };
    let mut story = Story::of(service(&[("alive", dog)]));
    story.started("s");
    let said = |watchdog, expiries| Said { watchdog, expiries, ..Said::default() };
    story.ordered();
    story.pass(Millis(300_000));
    assert_eq!(story.ordered(), NONE, "it is not asked before it has begun");
    story.notified("s", said(Watchdog::Alive, 0));
    let passing = |story: &Story| story.node.status(&id("s")).unwrap().probes["alive"].passing;
    assert_eq!(passing(&story), Some(true));
    story.notified("s", said(Watchdog::Expired, 1));
    assert_eq!(passing(&story), Some(false));
    assert_eq!(story.ordered(), ["signal s SIGABRT"]);
    story.pass(Millis(29_000));
    assert_eq!(story.ordered(), NONE);
    story.pass(Millis(1_500));
    assert_eq!(story.ordered(), ["signal s SIGABRT"]);
    story.pass(Millis(30_000));
    assert_eq!(story.phase("s"), "needs attention");
    story.notified("s", said(Watchdog::Alive, 1));
    assert_eq!(story.phase("s"), "running");
    story.notified("s", said(Watchdog::Triggered, 2));
    let last = story.node.status(&id("s")).unwrap().probes["alive"].last.clone();
    assert_eq!(last.as_deref(), Some("it said WATCHDOG=trigger"));
}

#[test]
fn a_command_about_it_is_run_to_its_end_by_the_next_daemon_and_its_failure_is_told() {
    let heal = with(tcp(), Reaction::Exec(vec!["./heal".into()]));
    let mut story = Story::of(service(&[("a", heal.clone()), ("b", heal)]));
    story.started("s");
    answer(&mut story, "a", "+-");
    let of = |story: &mut Story| -> Vec<String> {
        story.ordered().into_iter().filter(|order| order.starts_with("remedy")).collect()
    };
    assert_eq!(of(&mut story), ["remedy s ./heal"]);
    story.daemon_dies();
    let attempt = story.attempt("s");
    let running = Observation::Running { attempt, pid: 7, started_at: Wall(0), log_start: 1, held: None };
    story.seen("s", running);
    assert_eq!(of(&mut story), ["remedy s ./heal"], "nobody knows how far it came");
    story.pass(Millis(900));
    story.said("s", "b", false);
    answer(&mut story, "b", "-");
    assert_eq!(story.reacted, ["a `./heal` 1: said false"], "one at a time");
    story.hooks_end("s", Moment::Remedy, Err("exit 3: disk full"));
    assert!(
        story
            .why("s")
            .contains("what was run because its probe `a` failed has failed, too: exit 3: disk full"),
        "{}",
        story.why("s")
    );
    assert_eq!(story.came_to, ["a: exit 3: disk full"]);
    answer(&mut story, "a", "+");
    assert!(!story.why("s").contains("disk full"), "{}", story.why("s"));
    answer(&mut story, "b", "-");
    assert_eq!(of(&mut story), ["remedy s ./heal"], "the other's turn");
}

#[test]
fn more_time_is_for_whoever_is_not_ready_yet() {
    let said = |now: u64, ready| Said { ready, extended: Some(Mono(now + 60_000)), ..Said::default() };
    let mut story = Story::of(service(&[("readiness", tcp())]));
    story.started("s");
    let now = story.now;
    story.notified("s", said(now, false));
    answer(&mut story, "readiness", "-----");
    assert_eq!(story.phase("s"), "starting");
    story.notified("s", said(now, true));
    answer(&mut story, "readiness", "-----");
    assert_eq!(story.phase("s"), "unhealthy");
}

#[test]
fn who_says_that_it_is_about_to_end_is_given_the_time_to() {
    let mut story = Story::of(service(&[("liveness", with(tcp(), Reaction::Restart))]));
    story.started("s");
    answer(&mut story, "liveness", "+");
    story.notified("s", Said { stopping: true, ..Said::default() });
    assert_eq!(story.why("s"), "has said that it is about to end");
    answer(&mut story, "liveness", "---");
    assert_eq!(story.reacted, NONE, "it does not answer any more, and that is as it should be");
    story.exits("s", Exit::Code(0));
    assert_eq!(story.phase("s"), "completed", "and is no end for which it would be started again");
    story.command(Goal::Running, Ask::Start, &["s"]);
    story.started("s");
    answer(&mut story, "liveness", "+");
    story.notified("s", Said { stopping: true, ..Said::default() });
    answer(&mut story, "liveness", &"-".repeat(8));
    assert_eq!((story.phase("s").as_str(), story.reacted.len()), ("unhealthy", 0));
    story.ordered();
    story.pass(Millis::seconds(3));
    assert_eq!(story.why("s"), "is being stopped because it said that it would end and has not (SIGTERM)");
    assert!(story.ordered().contains(&"stop s SIGTERM 10s".to_owned()));
}

#[test]
fn what_is_left_to_a_person_stays_so_when_the_window_has_moved_on() {
    let remedy =
        Remedy { max_attempts: 1, window: Millis::seconds(5), ..Remedy::of(Reaction::Signal(Signal(10))) };
    let mut story = Story::of(service(&[("liveness", Probe { on_failure: Some(remedy), ..tcp() })]));
    story.started("s");
    answer(&mut story, "liveness", "+--");
    assert_eq!((story.phase("s").as_str(), story.reacted.len()), ("needs attention", 1));
    answer(&mut story, "liveness", &"-".repeat(20));
    assert_eq!((story.phase("s").as_str(), story.reacted.len()), ("needs attention", 1));
    answer(&mut story, "liveness", "+-");
    assert_eq!(story.reacted.len(), 2, "it was well, and its budget has room again");
}

#[test]
fn what_cannot_be_asked_is_told_asked_again_soon_and_counts_for_nothing() {
    let mut story = Story::of(service(&[("readiness", Probe { interval: Millis::seconds(30), ..tcp() })]));
    story.started("s");
    answer(&mut story, "readiness", "+");
    let mut waited = 0;
    while story.ordered().is_empty() {
        story.pass(Millis(100));
        waited += 100;
    }
    assert!((15_000..=30_100).contains(&waited), "{waited}");
    for again in 0..5 {
        assert!(again == 0 || story.ordered() == ["probe s"], "a second later");
        let (attempt, check) = (story.attempt("s"), story.check("s"));
        story.take("s", Input::Unasked { attempt, check, why: "too many open files".into() });
        assert_eq!(story.phase("s"), "healthy");
        assert!(story.why("s").contains("cannot be asked: too many open files"), "{}", story.why("s"));
        story.pass(Millis::seconds(1));
    }
    story.probed("s", true);
    assert!(!story.why("s").contains("cannot be asked"), "{}", story.why("s"));
}

/// A signal that it does not handle yet would end it.
#[test]
fn who_was_never_ready_is_not_asked_to_reload_because_it_fails_otherwise() {
    let readiness = Probe { failure_threshold: 60, ..tcp() };
    let probes = [("readiness", readiness), ("liveness", with(tcp(), Reaction::Ignore))];
    let mut story = Story::of(Service { reload: Some(Reload::Signal(Signal(1))), ..service(&probes) });
    story.started("s");
    answer(&mut story, "liveness", "--");
    assert_eq!(story.phase("s"), "unhealthy");
    story.command(Goal::Running, Ask::Reload, &["s"]);
    assert_eq!(story.reloads, [], "its readiness is awaited");
    answer(&mut story, "readiness", "+");
    assert_eq!(story.reloads.len(), 1);
}

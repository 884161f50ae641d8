//! Every kind of question, by the millisecond: a node in virtual time, and an endpoint that answers at once,
//! or exactly when its time is over, as `drivers::probe` does with one that hangs.
//!
//! | kinds | passes | fails | flaps | hangs | says something else |
//! |---|---|---|---|---|---|
//! | http, https, tcp, udp, grpc, unix, exec, file, prints, memory, descriptors, cpu | [`what_passes_is_healthy_at_the_yes_that_fills_its_threshold`] | [`what_fails_is_unhealthy_at_the_no_that_fills_its_threshold`] | [`what_flaps_changes_at_each_answer_or_at_none`] | [`what_hangs_is_unhealthy_when_the_last_of_its_times_is_over`] | as what fails, and what flaps |
//! | log | [`a_line_is_a_yes_when_it_comes_and_its_absence_a_no_by_the_interval`] | the same | [`what_was_told_is_not_taken_back`] | no line comes: as what fails | the same: lines that do not match |
//! | notify | [`ready_is_a_yes_when_it_is_said_and_silence_a_no_by_the_interval`] | the same | [`what_was_told_is_not_taken_back`] | nothing is said: as what fails | the same: another word |
//! | watchdog | [`a_watchdog_is_a_no_when_it_expires_and_once_more_by_the_interval`] | the same | the same | it stops saying so: as what fails | [`another_word_is_no_sign_of_life`] |
//!
//! Each with thresholds of 1 and 3; what is told has a threshold for noes alone. What of its kind is a wrong
//! answer, and that who hangs has said no when its time is over, the tests of `drivers::probe` show of real
//! sockets and processes; from yes to no (told: from no to yes) each kind goes in `tests/e2e/health.rs`.

use upbeat_decide::instance::{Input, Said, Watchdog};
use upbeat_decide::rules::Rules;
use upbeat_decide::{Bundle, Effect, Node};
use upbeat_model::project::{FileCheck, Grpc, Http, Probe, Question, Service, Udp};
use upbeat_model::{Attempt, Millis, Mono, ProbeName, SlotId, Wall};

use crate::fake;

/// Below a second, so that nothing is spread by chance.
const INTERVAL: Millis = Millis(900);
const TIMEOUT: Millis = Millis(500);

/// When the process of a story is started.
const STARTED: Mono = Mono(7_000);

/// What an endpoint does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Yes,
    No,
    /// Something that is no answer to the question.
    Wrong,
    /// Nothing.
    Hangs,
}

/// One copy with one probe. What it looks like is kept with the millisecond after its start.
struct World {
    node: Node,
    now: Mono,
    question: Question,
    /// What the endpoint does, each time it is asked; the last of them for ever.
    says: Vec<Says>,
    asked: usize,
    /// What it will have said, and when.
    coming: Option<(Mono, Input)>,
    seen: Vec<(u64, String)>,
    /// The lines of the log are watched, by this check.
    watch: Option<u64>,
}

fn slot() -> SlotId {
    "app/s/1".parse().unwrap()
}

impl World {
    /// Started just now.
    fn new(question: Question, threshold: u32, says: &[Says]) -> Self {
        let probe = Probe {
            interval: INTERVAL,
            timeout: TIMEOUT,
            failure_threshold: threshold,
            success_threshold: if question.is_told() { 1 } else { threshold },
            ..Probe::asking(question.clone())
        };
        let mut spec = Service::new(vec!["s".into()], "/");
        spec.probes.insert(ProbeName::new(ProbeName::READINESS).unwrap(), probe);
        let target = fake::target(slot(), spec);
        let mut world = Self {
            node: Node::recover([], Rules::default()),
            now: STARTED,
            question,
            says: says.to_vec(),
            asked: 0,
            coming: None,
            seen: Vec::new(),
            watch: None,
        };
        let bundle = world.node.aim(&target, world.now, Wall(0));
        world.perform(bundle);
        world.take(Input::Started { attempt: Attempt(1), pid: 7, at: Wall(0), log_start: 1 });
        world
    }

    fn take(&mut self, input: Input) {
        let bundle = self.node.take([(slot(), input)], self.now, Wall(0));
        self.perform(bundle);
    }

    fn perform(&mut self, bundle: Bundle) {
        for effect in bundle.effects {
            match effect {
                Effect::Probe { attempt, check, ask, timeout, .. } => {
                    assert_eq!((&ask, timeout), (&self.question, TIMEOUT));
                    assert!(self.coming.is_none(), "{ask} is asked twice at once");
                    let says = self.says[self.asked.min(self.says.len() - 1)];
                    self.asked += 1;
                    let (after, message) = match says {
                        Says::Yes => (Millis(0), "fine".to_owned()),
                        Says::No => (Millis(0), "refused".to_owned()),
                        Says::Wrong => (Millis(0), "its answer is something else".to_owned()),
                        Says::Hangs => (timeout, format!("timed out after {timeout}")),
                    };
                    let healthy = says == Says::Yes;
                    self.coming =
                        Some((self.now + after, Input::Probed { attempt, check, healthy, message }));
                }
                Effect::WatchLog { check, .. } => self.watch = Some(check),
                _ => {}
            }
        }
        let phase = self.node.status(&slot()).unwrap().phase.to_string();
        if self.seen.last().is_none_or(|(_, last)| *last != phase) {
            self.seen.push((self.now.since(STARTED).0, phase));
        }
    }

    /// Time passes to this millisecond after the start, moment by moment.
    fn until(&mut self, end: u64) {
        let end = STARTED + Millis(end);
        for _ in 0..100_000 {
            if let Some((_, input)) = self.coming.take_if(|(at, _)| *at <= self.now) {
                self.take(input);
                continue;
            }
            let answered = self.coming.as_ref().map(|(at, _)| *at);
            let next = [answered, self.node.deadline()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if answered != Some(self.now) {
                let bundle = self.node.take([], self.now, Wall(0));
                self.perform(bundle);
            }
        }
        panic!("it never comes to rest: {:?}", self.seen);
    }

    fn says_of_itself(&mut self, at: u64, said: Said) {
        self.until(at);
        self.take(Input::Notified { attempt: Attempt(1), said });
    }

    fn line(&mut self, at: u64, outcome: Result<(), &str>) {
        self.until(at);
        let (healthy, message) = (outcome.is_ok(), outcome.err().unwrap_or("ready").to_owned());
        let check = self.watch.take().expect("its log is watched");
        self.take(Input::Probed { attempt: Attempt(1), check, healthy, message });
    }

    /// What it was from when on, after its start.
    #[track_caller]
    fn was(&self, expected: &[(u64, &str)]) {
        let seen: Vec<(u64, &str)> = self.seen.iter().map(|(at, phase)| (*at, &phase[..])).collect();
        let begun = seen.iter().position(|(_, phase)| *phase == "starting").unwrap_or(0);
        assert_eq!(seen[begun..], *expected, "{}", self.question);
    }
}

/// Every kind that is asked.
fn asked() -> Vec<Question> {
    let grpc = |tls| Grpc { address: "127.0.0.1:1".into(), service: String::new(), tls };
    let udp = |expect| Udp { address: "127.0.0.1:1".into(), send: "x".into(), expect };
    let file = |max_age| FileCheck { path: "/run/s".into(), max_age };
    vec![
        Question::Http(Http::get("http://127.0.0.1:1/")),
        Question::Http(Http::get("https://127.0.0.1:1/")),
        Question::Tcp("127.0.0.1:1".into()),
        Question::Udp(udp(None)),
        Question::Udp(udp(Some("x".into()))),
        Question::Grpc(grpc(None)),
        Question::Grpc(grpc(Some(upbeat_model::project::Tls::default()))),
        Question::Unix("/run/s".into()),
        Question::Exec(vec!["x".into()]),
        Question::File(file(None)),
        Question::File(file(Some(Millis::seconds(5)))),
        Question::Prints(Millis::seconds(5)),
        Question::Memory(1 << 20),
        Question::Descriptors(10),
        Question::Cpu(90),
        Question::Image,
    ]
}

/// Runs each kind with these answers for a minute.
#[track_caller]
fn every_kind(threshold: u32, says: &[Says], expected: &[(u64, &str)]) {
    for question in asked() {
        let mut world = World::new(question, threshold, says);
        world.until(60_000);
        world.was(expected);
    }
}

const Y: Says = Says::Yes;
const N: Says = Says::No;
const W: Says = Says::Wrong;
const H: Says = Says::Hangs;

/// The first question is asked with the start: it is one of those between, whose noes do not count and
/// whose yeses do.
#[test]
fn what_passes_is_healthy_at_the_yes_that_fills_its_threshold() {
    every_kind(1, &[Y], &[(0, "starting"), (0, "healthy")]);
    every_kind(3, &[Y], &[(0, "starting"), (1_800, "healthy")]);
}

#[test]
fn what_fails_is_unhealthy_at_the_no_that_fills_its_threshold() {
    for no in [N, W] {
        every_kind(1, &[no], &[(0, "starting"), (900, "unhealthy")]);
        every_kind(3, &[no], &[(0, "starting"), (2_700, "unhealthy")]);
        every_kind(1, &[Y, Y, no], &[(0, "starting"), (0, "healthy"), (1_800, "unhealthy")]);
        let expected = [(0, "starting"), (1_800, "healthy"), (4_500, "unhealthy")];
        every_kind(3, &[Y, Y, Y, no], &expected);
        let expected = [(0, "starting"), (900, "unhealthy"), (1_800, "healthy")];
        // Those between are asked after 0, 10, 30, 70, 150, 310 and 630 ms.
        every_kind(1, &[no, no, no, no, no, no, no, no, Y], &expected);
        let expected = [(0, "starting"), (2_700, "unhealthy"), (5_400, "healthy")];
        every_kind(3, &[no, no, no, no, Y], &expected);
    }
}

/// Each no comes when the time is over, and the next question an interval after it.
#[test]
fn what_hangs_is_unhealthy_when_the_last_of_its_times_is_over() {
    // Asked at 0 and 510 ms, which does not count, and at 1,010 ms, which does.
    every_kind(1, &[H], &[(0, "starting"), (1_510, "unhealthy")]);
    // Asked at 0 ms, and at 900, 2,300 and 3,700 ms.
    every_kind(3, &[H], &[(0, "starting"), (4_200, "unhealthy")]);
    every_kind(1, &[Y, H], &[(0, "starting"), (0, "healthy"), (1_400, "unhealthy")]);
    // Asked at 2,700, 4,100 and 5,500 ms.
    every_kind(3, &[Y, Y, Y, H], &[(0, "starting"), (1_800, "healthy"), (6_000, "unhealthy")]);
}

#[test]
fn what_flaps_changes_at_each_answer_or_at_none() {
    for no in [N, W] {
        let says: Vec<Says> = [Y, no].repeat(2);
        let expected =
            [(0, "starting"), (0, "healthy"), (900, "unhealthy"), (1_800, "healthy"), (2_700, "unhealthy")];
        every_kind(1, &says, &expected);
        // Never three of a kind in a row.
        every_kind(3, &[Y, no].repeat(100), &[(0, "starting")]);
        every_kind(3, &[Y, Y, no].repeat(100), &[(0, "starting")]);
        let says = [&[Y, Y, Y][..], &[no, no, Y].repeat(100)].concat();
        every_kind(3, &says, &[(0, "starting"), (1_800, "healthy")]);
    }
    let expected = [(0, "starting"), (0, "healthy"), (1_400, "unhealthy"), (2_300, "healthy")];
    every_kind(1, &[Y, H, Y], &expected);
    every_kind(3, &[&[Y, Y, Y][..], &[H, H, Y].repeat(100)].concat(), &[(0, "starting"), (1_800, "healthy")]);
}

#[test]
fn a_line_is_a_yes_when_it_comes_and_its_absence_a_no_by_the_interval() {
    for (threshold, unhealthy) in [(1, 900), (3, 2_700)] {
        let of = || World::new(Question::Log("ready".into()), threshold, &[N]);
        let mut passes = of();
        passes.line(123, Ok(()));
        passes.until(60_000);
        passes.was(&[(0, "starting"), (123, "healthy")]);
        let mut fails = of();
        fails.until(60_000);
        fails.was(&[(0, "starting"), (unhealthy, "unhealthy")]);
        fails.line(61_234, Ok(()));
        fails.until(120_000);
        fails.was(&[(0, "starting"), (unhealthy, "unhealthy"), (61_234, "healthy")]);
        // That it cannot be watched says nothing of the service; it is watched again after a second.
        let mut lost = of();
        lost.line(100, Err("too many watches"));
        lost.until(1_099);
        assert_eq!(lost.watch, None);
        lost.until(1_100);
        lost.line(1_150, Ok(()));
        lost.until(60_000);
        let before: &[_] = if threshold == 1 { &[(900, "unhealthy")] } else { &[] };
        lost.was(&[&[(0, "starting")], before, &[(1_150, "healthy")]].concat());
    }
}

#[test]
fn ready_is_a_yes_when_it_is_said_and_silence_a_no_by_the_interval() {
    for (threshold, unhealthy) in [(1, 900), (3, 2_700)] {
        let ready = Said { ready: true, ..Said::default() };
        let of = || World::new(Question::Notify, threshold, &[N]);
        let mut passes = of();
        passes.says_of_itself(321, ready.clone());
        // It says other things, and does not take it back.
        for at in [1_000, 5_000, 9_000] {
            passes.says_of_itself(at, Said { status: Some(format!("at {at}")), ..ready.clone() });
        }
        passes.until(60_000);
        passes.was(&[(0, "starting"), (321, "healthy")]);
        let mut fails = of();
        fails.says_of_itself(200, Said { status: Some("soon".into()), ..Said::default() });
        fails.until(60_000);
        fails.was(&[(0, "starting"), (unhealthy, "unhealthy")]);
        fails.says_of_itself(61_234, ready);
        fails.was(&[(0, "starting"), (unhealthy, "unhealthy"), (61_234, "healthy")]);
    }
}

#[test]
fn a_watchdog_is_a_no_when_it_expires_and_once_more_by_the_interval() {
    let said = |watchdog, expiries| Said { watchdog, expiries, ..Said::default() };
    for expired in [Watchdog::Expired, Watchdog::Triggered] {
        for (threshold, unhealthy) in [(1, 5_000), (3, 6_800)] {
            let of = || World::new(Question::Watchdog(Millis::seconds(2)), threshold, &[N]);
            let mut never = of();
            never.until(60_000);
            never.was(&[(0, "starting")]);
            let mut fails = of();
            fails.says_of_itself(111, said(Watchdog::Alive, 0));
            fails.says_of_itself(5_000, said(expired, 1));
            fails.until(60_000);
            fails.was(&[(0, "starting"), (111, "healthy"), (unhealthy, "unhealthy")]);
            fails.says_of_itself(61_234, said(Watchdog::Alive, 1));
            fails.was(&[(0, "starting"), (111, "healthy"), (unhealthy, "unhealthy"), (61_234, "healthy")]);
            // It flaps: back before the second no of silence.
            let mut flaps = of();
            flaps.says_of_itself(111, said(Watchdog::Alive, 0));
            for (n, at) in (1..).zip([5_000, 8_000, 11_000]) {
                flaps.says_of_itself(at, said(expired, n));
                flaps.says_of_itself(at + 899, said(Watchdog::Alive, n));
            }
            flaps.until(60_000);
            let changes = [5_000, 8_000, 11_000].map(|at| [(at, "unhealthy"), (at + 899, "healthy")]);
            let changes = if threshold == 1 { changes.concat() } else { Vec::new() };
            flaps.was(&[vec![(0, "starting"), (111, "healthy")], changes].concat());
        }
    }
}

/// A line that was printed was printed, and ready is ready: also for who reloads, or says the opposite.
#[test]
fn what_was_told_is_not_taken_back() {
    for threshold in [1, 3] {
        let mut log = World::new(Question::Log("ready".into()), threshold, &[N]);
        log.line(123, Ok(()));
        log.until(60_000);
        assert_eq!(log.watch, None, "it is not looked for again");
        log.was(&[(0, "starting"), (123, "healthy")]);
        let mut notify = World::new(Question::Notify, threshold, &[N]);
        let ready = Said { ready: true, ..Said::default() };
        for at in [400, 10_000, 20_000] {
            notify.says_of_itself(at, ready.clone());
            notify.says_of_itself(at + 100, Said { reloading: true, ..ready.clone() });
            notify.says_of_itself(at + 5_000, Said { status: Some("not well".into()), ..ready.clone() });
        }
        notify.until(60_000);
        notify.was(&[(0, "starting"), (400, "healthy")]);
    }
}

#[test]
fn another_word_is_no_sign_of_life() {
    for (threshold, unhealthy) in [(1, 5_000), (3, 6_800)] {
        let mut world = World::new(Question::Watchdog(Millis::seconds(2)), threshold, &[N]);
        let said = |watchdog, expiries, status: &str| Said {
            watchdog,
            expiries,
            ready: true,
            status: Some(status.to_owned()),
            ..Said::default()
        };
        world.says_of_itself(111, said(Watchdog::Alive, 0, ""));
        world.says_of_itself(5_000, said(Watchdog::Expired, 1, "late"));
        // It talks on, and about everything else.
        for at in (5_100..60_000).step_by(100) {
            world.says_of_itself(at, said(Watchdog::Expired, 1, &format!("all is well at {at}")));
        }
        world.until(60_000);
        world.was(&[(0, "starting"), (111, "healthy"), (unhealthy, "unhealthy")]);
    }
}

//! Effects and what comes of them, where nothing can be started.

use super::*;
use crate::keep::Seal;
use tokio::net::TcpListener;
use upbeat_model::ProbeName;
use upbeat_model::project::{Http, Question as Ask, Service, Signal, Udp};

fn service() -> Arc<Service> {
    Arc::new(serde_json::from_str(r#"{"command":["x"],"working_dir":"/"}"#).unwrap())
}

fn probe(slot: &str, probe: Ask) -> Effect {
    Effect::Probe {
        slot: slot.parse().unwrap(),
        attempt: Attempt(1),
        check: 1,
        name: ProbeName::new("readiness").unwrap(),
        ask: probe,
        spec: service(),
        base_environment: Arc::default(),
        timeout: Millis::seconds(3_600),
    }
}

/// No process is started here.
fn performer() -> (Performer, mpsc::Receiver<(SlotId, Input)>) {
    let (machine, _events) = crate::fake::machine();
    let (inputs, outcomes) = mpsc::channel(16);
    (Performer::new(machine, Watches::new().unwrap(), inputs, Arc::default(), Seal::of([7; 32])), outcomes)
}

/// There is no shim, as there is none for a machine that is out of processes.
#[tokio::test]
async fn what_cannot_be_run_beside_a_copy_is_no_failure_of_it() {
    let (mut performer, mut outcomes) = performer();
    let slot: SlotId = "a/s/1".parse().unwrap();
    let (attempt, begun, timeout) = (Attempt(1), 7, Millis::seconds(60));
    let hook = r#"{"command":["x"],"environment":{"TOKEN":"canary-of-the-hook"},"base_environment":{},"working_dir":"/","user":null}"#;
    let hook: Arc<HookCommand> = Arc::new(serde_json::from_str(hook).unwrap());
    let commands = vec![hook.clone(), hook];
    for moment in [Moment::PreStart, Moment::PostStart, Moment::PreStop, Moment::PostStop, Moment::Remedy] {
        let (slot, commands, exit) = (slot.clone(), commands.clone(), None);
        let hooks = Effect::RunHooks { slot, attempt, moment, begun, serial: 7, commands, timeout, exit };
        performer.perform(hooks);
        let (_, input) = outcomes.recv().await.unwrap();
        let Input::HooksUnable { attempt: Attempt(1), moment: of, serial: 7, why } = input else {
            panic!("{moment:?}: {input:?}");
        };
        assert_eq!(of, moment);
        // Of one, as the second is not begun after that.
        assert!(why.starts_with("`x`: ") && !why.contains("; ") && !why.contains("canary"), "{why}");
    }
    performer.perform(Effect::Reload { slot, attempt, begun, serial: 3, signal: None, commands, timeout });
    let (_, input) = outcomes.recv().await.unwrap();
    assert!(matches!(input, Input::ReloadUnable { serial: 3, .. }), "{input:?}");
}

#[tokio::test]
async fn a_signal_that_cannot_be_sent_is_told() {
    let (mut performer, mut outcomes) = performer();
    let (slot, attempt) = ("a/s/1".parse().unwrap(), Attempt(1));
    let (probe, signal) = (ProbeName::new("liveness").unwrap(), Signal::TERM);
    performer.perform(Effect::Signal { slot, attempt, probe: probe.clone(), signal });
    let (_, input) = outcomes.recv().await.unwrap();
    let Input::SignalFailed { attempt: Attempt(1), probe: of, why } = input else { panic!("{input:?}") };
    assert!(of == probe && why.starts_with("SIGTERM could not be sent: "), "{why}");
}

#[tokio::test]
async fn probes_that_hang_hold_up_no_other_app() {
    let (mut performer, mut outcomes) = performer();
    // Connections are accepted by the system, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    for n in 1..=600 {
        performer.perform(probe(&format!("hangs/s/{n}"), Ask::Http(Http::get(url.clone()))));
    }
    let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = there.local_addr().unwrap().to_string();
    performer.perform(probe("web/s/1", Ask::Tcp(address)));
    let (slot, answer) = outcomes.recv().await.unwrap();
    assert_eq!(slot.app.to_string(), "web");
    assert!(matches!(answer, Input::Probed { healthy: true, check: 1, .. }), "{answer:?}");
}

#[tokio::test]
async fn a_probe_that_is_out_is_not_asked_twice_and_another_check_takes_its_place() {
    let (mut performer, mut outcomes) = performer();
    let slot: SlotId = "a/s/1".parse().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    performer.perform(probe("a/s/1", Ask::Http(Http::get(url.clone()))));
    let first = performer.asked[&slot].questions["readiness"].task.0.clone();
    performer.perform(probe("a/s/1", Ask::Http(Http::get(url))));
    assert!(!first.is_finished());
    let mut other = probe("a/s/1", Ask::Log("x".into()));
    if let Effect::Probe { check, .. } = &mut other {
        *check = 2;
    }
    performer.perform(other);
    let (_, answer) = outcomes.recv().await.unwrap();
    assert!(matches!(answer, Input::Probed { check: 2, .. }), "{answer:?}");
    assert!(first.is_finished());
}

/// Ten seconds, of somebody who never answers.
const HANGS: Millis = Millis::seconds(10);

/// Datagrams are taken for it by the system, and it reads none.
fn deaf() -> (std::net::UdpSocket, Ask) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let question = Ask::Udp(Udp { address, send: "x".into(), expect: None });
    (socket, question)
}

fn hanging(slot: &str, ask: &Ask) -> Effect {
    let mut effect = probe(slot, ask.clone());
    if let Effect::Probe { timeout, .. } = &mut effect {
        *timeout = HANGS;
    }
    effect
}

/// In virtual time, as all of the following: nothing happens there but the end of a time. A question
/// about a line is answered at once by whoever was not told of one.
#[tokio::test(start_paused = true)]
async fn as_many_probes_of_an_app_as_may_be_out_delay_no_other_of_it_and_one_more_until_the_first_ends() {
    let (_socket, ask) = deaf();
    for more in [0, 1] {
        let (mut performer, mut outcomes) = performer();
        let begun = Instant::now();
        let share = performer.probes.of_one_app();
        for n in 1..share + more {
            performer.perform(hanging(&format!("a/hangs/{n}"), &ask));
        }
        performer.perform(probe("a/web/1", Ask::Log("x".into())));
        let (slot, at) = loop {
            let (slot, _) = outcomes.recv().await.unwrap();
            if slot.service.as_str() == "web" {
                break (slot, begun.elapsed());
            }
        };
        let expected = if more == 0 { Millis(0) } else { HANGS };
        assert_eq!((slot.to_string(), at), ("a/web/1".to_owned(), expected.as_duration()), "{share}");
    }
}

/// Of eight apps, none of which has more than may be out of one.
#[tokio::test(start_paused = true)]
async fn two_thousand_probes_that_hang_are_each_asked_within_the_time_of_those_before_them() {
    const COUNT: usize = 2_000;
    let (_socket, ask) = deaf();
    let (mut performer, mut outcomes) = performer();
    let (begun, places) = (Instant::now(), performer.prober.places());
    for n in 0..COUNT {
        performer.perform(hanging(&format!("a{}/hangs/{}", n % 8, n / 8 + 1), &ask));
    }
    for answered in 0..COUNT {
        let (slot, answer) = outcomes.recv().await.unwrap();
        assert!(matches!(answer, Input::Probed { healthy: false, .. }), "{answer:?}");
        // So many at a time, each for its own time.
        let rounds = u32::try_from(answered / places + 1).unwrap();
        assert_eq!(begun.elapsed(), HANGS.as_duration() * rounds, "{slot} was number {answered}");
    }
    let waited = performer.meter.probe_turns.counted();
    let late: usize = (0..COUNT).map(|n| n / places).sum();
    assert_eq!(waited.count, COUNT as u64);
    assert!((waited.sum - late as f64 * 10.0).abs() < 1e-3, "{waited:?}");
    let at_once = waited.up_to.last().unwrap().1;
    assert_eq!(at_once, places.min(COUNT) as u64, "whoever was late is counted as such");
}

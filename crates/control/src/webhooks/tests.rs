//! Webhooks over a journal and a store, and a receiver that looks at every signature itself.

mod again;
mod story;

use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use upbeat_model::event::{EventKind, EventWord};
use upbeat_model::rollout::Happened;
use upbeat_model::{OperationId, WebhookWord};
use upbeat_store::faults::{Faults, open_faulty};
use upbeat_store::{Journal, Op, open_memory};

use super::*;

const SECRET: &str = "the first secret, quite long";
const NEXT: &str = "the second secret, as long as it";

/// What a receiver does about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Answers(u16),
    /// Nobody is there.
    Refuses,
    /// It takes it, and its answer comes too late.
    TooLate,
    /// It takes it and never answers.
    Hangs,
}

/// A request that came, of which the signature was right.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Heard {
    pub(super) to: String,
    pub(super) id: String,
    pub(super) body: Value,
    pub(super) signatures: usize,
    pub(super) taken: bool,
}

impl Heard {
    /// The number of an event of ours; none of another.
    pub(super) fn number(&self) -> Option<u64> {
        (self.body["event"] == "rollout").then(|| self.body["sequence"].as_u64().unwrap())
    }
}

/// One for all addresses.
pub(super) struct Receiver {
    /// What each secret file holds now; or why it cannot be read.
    pub(super) file: Mutex<Result<String, String>>,
    /// What it knows.
    pub(super) knows: Mutex<Vec<String>>,
    pub(super) does: Mutex<BTreeMap<String, Does>>,
    pub(super) always: Mutex<Does>,
    pub(super) heard: watch::Sender<Vec<Heard>>,
}

impl Receiver {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            file: Mutex::new(Ok(SECRET.into())),
            knows: Mutex::new(vec![SECRET.into()]),
            does: Mutex::default(),
            always: Mutex::new(Does::Answers(204)),
            heard: watch::Sender::new(Vec::new()),
        })
    }

    pub(super) fn will(&self, does: Does) {
        *self.always.lock().unwrap() = does;
    }

    pub(super) fn all(&self) -> Vec<Heard> {
        self.heard.borrow().clone()
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.heard.borrow().iter().filter_map(Heard::number).collect()
    }

    /// Until it has heard what is looked for.
    pub(super) async fn until(&self, is_so: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
        eventually(async || Some(self.all()).filter(|all| is_so(all))).await
    }

    fn hears(&self, url: &str, headers: &BTreeMap<String, String>, body: &[u8]) -> Does {
        let does = *self.does.lock().unwrap().get(url).unwrap_or(&self.always.lock().unwrap());
        if does == Does::Refuses {
            return does;
        }
        let signed = format!("{}.{}.", headers["webhook-id"], headers["webhook-timestamp"]);
        let signed = [signed.as_bytes(), body].concat();
        let signatures: Vec<&str> = headers["webhook-signature"].split(' ').collect();
        let is_right = |secret: &String, signature: &&str| {
            let given = BASE64_STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
            hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), &signed, &given).is_ok()
        };
        let knows = self.knows.lock().unwrap();
        assert!(
            knows.iter().any(|secret| signatures.iter().any(|signature| is_right(secret, signature))),
            "no signature is right: {headers:?}"
        );
        let heard = Heard {
            to: url.to_owned(),
            id: headers["webhook-id"].clone(),
            body: serde_json::from_slice(body).unwrap(),
            signatures: signatures.len(),
            taken: matches!(does, Does::Answers(200..=299)),
        };
        self.heard.send_modify(|all| all.push(heard));
        does
    }
}

impl Courier for Receiver {
    fn secrets<'a>(&'a self, _: &'a Path) -> Pending<'a, Result<String, String>> {
        Box::pin(async { self.file.lock().unwrap().clone() })
    }

    fn post<'a>(
        &'a self,
        url: &'a str,
        headers: BTreeMap<String, String>,
        body: Vec<u8>,
    ) -> Pending<'a, Result<u16, String>> {
        Box::pin(async move {
            match self.hears(url, &headers, &body) {
                Does::Answers(status) => Ok(status),
                Does::Refuses => Err("connection refused".into()),
                Does::TooLate => Err("timed out after 10s".into()),
                Does::Hangs => std::future::pending().await,
            }
        })
    }
}

pub(super) fn webhook(name: &str, kinds: &[EventWord]) -> Webhook {
    let words = kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
    Webhook {
        name: name.parse().unwrap(),
        url: format!("https://{name}.example/hush"),
        secret_file: "/run/secret".into(),
        wanted: Wanted { words, kinds: kinds.to_vec(), apps: Vec::new(), namespaces: Vec::new() },
    }
}

pub(super) fn chance() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(7);
    NEXT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
}

/// A daemon's journal and store, and one webhook after the other over them.
pub(super) struct House {
    pub(super) store: Store,
    pub(super) journal: Journal,
    pub(super) events: EventLog,
    pub(super) receiver: Arc<Receiver>,
}

impl House {
    pub(super) async fn new() -> Self {
        let (store, _) = open_memory().unwrap();
        Self::on(store).await
    }

    async fn on(store: Store) -> Self {
        let (_, journal) = open_memory().unwrap();
        let events = EventLog::open(journal.clone()).await.unwrap();
        Self { store, journal, events, receiver: Receiver::new() }
    }

    fn settings(&self) -> Settings {
        let courier = self.receiver.clone();
        Settings { wall: || Wall(1_700_000_000_123), chance, courier, failpoint: |_| {} }
    }

    pub(super) async fn open(&self, webhooks: Vec<Webhook>) -> Webhooks {
        let (store, events) = (self.store.clone(), self.events.clone());
        Webhooks::open(store, events, webhooks, self.settings()).await.unwrap()
    }

    /// One that tells when a test polls it.
    async fn alone(&self, webhook: Webhook) -> One {
        One::open(self.store.clone(), self.events.clone(), webhook, self.settings()).await.unwrap()
    }

    async fn one(&self) -> Webhooks {
        self.open(vec![webhook("ci", &[EventWord::Rollout])]).await
    }

    /// So many events, until they have numbers.
    pub(super) async fn happen(&self, count: u64) {
        for n in 0..count {
            let what = Happened::Paused { by: format!("ann {n}") };
            let (namespace, entity, number) = ("prod".to_owned(), "web".to_owned(), self.events.last() + 1);
            self.happens(EventKind::Rollout { namespace, entity, number, what }).await;
        }
    }

    async fn happens(&self, kind: EventKind) {
        let last = self.events.last();
        self.events.add(Wall(5), None, kind);
        eventually(async || (*self.events.changes().borrow() > last).then_some(())).await;
    }

    async fn happens_besides(&self, count: u64) {
        let last = self.events.last();
        for n in 0..count {
            let ended = EventKind::OperationEnded { operation: OperationId(n), outcome: "reached".into() };
            self.events.add(Wall(5), None, ended);
        }
        eventually(async || (*self.events.changes().borrow() == last + count).then_some(())).await;
    }
}

/// Looks again and again until it is so. The paused clock goes meanwhile: also while the store's own thread
/// writes, so nothing here may wait by that clock for long. Fails instead of hanging.
pub(super) async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let (begun, mut pause) = (std::time::Instant::now(), Duration::from_millis(10));
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it is still not so");
        tokio::time::sleep(pause).await;
        // Waits of minutes are looked through in some steps.
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Until its state is so.
async fn until(webhooks: &Webhooks, is_so: impl Fn(&WebhookState) -> bool) -> WebhookState {
    eventually(async || Some(webhooks.list().await.unwrap().remove(0)).filter(|state| is_so(state))).await
}

/// Until all is told, and that is kept.
async fn idle(webhooks: &Webhooks) -> WebhookState {
    let state = until(webhooks, is_idle).await;
    eventually(async || webhooks.inner.all.iter().all(|one| one.is_kept()).then_some(())).await;
    state
}

fn is_idle(state: &WebhookState) -> bool {
    state.state == WebhookWord::Idle && state.pending == 0
}

#[tokio::test(start_paused = true)]
async fn a_new_one_is_told_what_happens_from_then_on_and_so_is_one_that_comes_again() {
    let house = House::new().await;
    house.happen(2).await;
    let webhooks = house.one().await;
    house.happen(2).await;
    house.receiver.until(|heard| heard.len() == 2).await;
    let state = idle(&webhooks).await;
    assert_eq!((state.last_delivered, state.pending, state.failures), (Some(4), 0, 0));
    assert_eq!(state.address, "https://ci.example/…");
    drop(webhooks);
    // Another daemon, with other settings, and then one with these again.
    drop(house.open(vec![webhook("other", &[EventWord::Rollout])]).await);
    house.happen(1).await;
    let webhooks = house.one().await;
    house.happen(1).await;
    house.receiver.until(|heard| heard.len() == 3).await;
    assert_eq!(house.receiver.numbers(), [3, 4, 6]);
    idle(&webhooks).await;
    let ids: Vec<String> = house.receiver.all().into_iter().map(|heard| heard.id).collect();
    assert_ne!(ids[1].split('_').next(), ids[2].split('_').next(), "it is another webhook");
    assert!(ids[0].ends_with("_3_5"), "{ids:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_told_is_the_event_as_the_api_has_it() {
    let house = House::new().await;
    let _webhooks = house.one().await;
    house.happen(1).await;
    let heard = house.receiver.until(|heard| heard.len() == 1).await;
    let (events, _) = house.events.read(&Default::default(), 0, 10).await.unwrap();
    assert_eq!(heard[0].body, serde_json::to_value(&events[0]).unwrap());
    assert_eq!(heard[0].body["sequence"], 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_daemon_goes_on_and_what_was_told_and_not_kept_comes_again_as_the_same() {
    let house = House::new().await;
    let webhooks = house.one().await;
    house.happen(2).await;
    until(&webhooks, |state| state.last_delivered == Some(2) && is_idle(state)).await;
    house.receiver.will(Does::Hangs);
    house.happen(2).await;
    house.receiver.until(|heard| heard.len() == 3).await;
    assert_eq!(until(&webhooks, |_| true).await.state, WebhookWord::Delivering);
    // Killed before it knew that 3 was taken.
    drop(webhooks);
    house.happen(1).await;
    house.receiver.will(Does::Answers(200));
    let webhooks = house.one().await;
    let heard = house.receiver.until(|heard| heard.len() == 6).await;
    assert_eq!(house.receiver.numbers(), [1, 2, 3, 3, 4, 5]);
    assert_eq!((&heard[2].id, &heard[2].body), (&heard[3].id, &heard[3].body));
    idle(&webhooks).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_taken_is_told_again_and_again_until_it_is() {
    let house = House::new().await;
    let webhooks = house.one().await;
    for does in [Does::Refuses, Does::TooLate, Does::Answers(500), Does::Answers(404), Does::Answers(302)] {
        house.receiver.will(does);
        house.happen(1).await;
        let state = until(&webhooks, |state| state.failures >= 5).await;
        let error = state.last_error.unwrap();
        match does {
            Does::Refuses => assert_eq!(error.why, "connection refused"),
            Does::TooLate => assert_eq!(error.why, "timed out after 10s"),
            Does::Answers(302) => assert_eq!(error.why, "HTTP 302: it redirects, which is not followed"),
            _ => assert!(error.why.starts_with("HTTP "), "{error:?}"),
        }
        assert_eq!((state.state, state.pending), (WebhookWord::Retrying, 1));
        let wait = state.next_try.unwrap().0 - error.at.0;
        assert!((16_000..=300_000).contains(&wait), "the fifth wait is {wait} ms");
        house.receiver.will(Does::Answers(202));
        let state = idle(&webhooks).await;
        assert_eq!((state.failures, state.next_try), (0, None));
    }
    let taken: Vec<u64> =
        house.receiver.all().iter().filter(|heard| heard.taken).filter_map(Heard::number).collect();
    assert_eq!(taken, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_gone_is_off_until_the_next_daemon() {
    let house = House::new().await;
    let webhooks = house.one().await;
    house.receiver.will(Does::Answers(410));
    house.happen(2).await;
    let state = until(&webhooks, |state| state.state == WebhookWord::Off).await;
    assert_eq!(state.last_error.unwrap().why, "HTTP 410");
    house.receiver.will(Does::Answers(200));
    house.happen(1).await;
    // It is not asked any more, but by a test.
    let tested = webhooks.test(&"ci".parse().unwrap()).await.unwrap();
    assert!(tested.delivered);
    assert_eq!(house.receiver.numbers(), [1]);
    assert_eq!(until(&webhooks, |state| state.pending == 3).await.state, WebhookWord::Off);
    drop(webhooks);
    let webhooks = house.one().await;
    idle(&webhooks).await;
    assert_eq!(house.receiver.numbers(), [1, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_delays_no_other() {
    let house = House::new().await;
    let slow = webhook("a-slow", &[EventWord::Rollout]);
    house.receiver.does.lock().unwrap().insert(slow.url.clone(), Does::Hangs);
    let webhooks = house.open(vec![webhook("quick", &[EventWord::Rollout]), slow.clone()]).await;
    house.happen(20).await;
    let quick = |heard: &[Heard]| heard.iter().filter(|one| one.to != slow.url).count();
    house.receiver.until(|heard| quick(heard) == 20).await;
    let states = webhooks.list().await.unwrap();
    assert_eq!((states[0].name.as_str(), states[0].state), ("a-slow", WebhookWord::Delivering));
    assert_eq!(states[0].pending, 20);
    assert_eq!(states[1].last_delivered, Some(20));
}

#[tokio::test(start_paused = true)]
async fn what_the_journal_dropped_meanwhile_is_told_to_be_lost() {
    let house = House::new().await;
    let webhooks = house.one().await;
    house.happen(1).await;
    idle(&webhooks).await;
    house.receiver.will(Does::Refuses);
    house.happen(5).await;
    until(&webhooks, |state| state.failures > 0).await;
    house.journal.truncate_before(5).await.unwrap();
    assert_eq!(until(&webhooks, |_| true).await.pending, 3, "that some are lost, and two events");
    house.receiver.will(Does::Answers(200));
    let state = idle(&webhooks).await;
    let lost = state.lost.unwrap();
    assert_eq!((lost.count, lost.first, lost.last), (3, 2, 4));
    assert_eq!(state.last_delivered, Some(6));
    let heard = house.receiver.all();
    let words: Vec<String> = heard.iter().map(|one| one.body["event"].as_str().unwrap().into()).collect();
    assert_eq!(words, ["rollout", "events_lost", "rollout", "rollout"]);
    let notice = &heard[1];
    assert!(notice.id.ends_with("_lost_2_4"), "{}", notice.id);
    assert_eq!((&notice.body["first"], &notice.body["last"]), (&2.into(), &4.into()));
    assert_eq!(notice.body["sequence"], 4);
    drop(webhooks);
    let lost = until(&house.one().await, |_| true).await.lost.unwrap();
    assert_eq!(lost.count, 3, "the next daemon knows it, too");
}

#[tokio::test(start_paused = true)]
async fn a_record_nobody_can_read_is_told_to_be_lost() {
    let house = House::new().await;
    let _webhooks = house.one().await;
    house.journal.append(vec![b"{".to_vec()]).await.unwrap();
    house.happen(1).await;
    let heard = house.receiver.until(|heard| heard.len() == 2).await;
    assert_eq!((&heard[0].body["first"], &heard[0].body["last"]), (&1.into(), &1.into()));
    assert_eq!(house.receiver.numbers(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_begins_anew_is_told_of_from_its_beginning() {
    let house = House::new().await;
    let webhooks = house.one().await;
    house.happen(9).await;
    idle(&webhooks).await;
    drop(webhooks);
    let anew = House { receiver: house.receiver.clone(), ..House::on(house.store.clone()).await };
    let webhooks = anew.one().await;
    anew.happen(2).await;
    idle(&webhooks).await;
    assert_eq!(anew.receiver.numbers()[9..], [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn on_a_full_disk_it_goes_on_and_the_next_daemon_tells_again_what_was_not_kept() {
    let faults = Faults::default();
    let (store, _) = open_faulty(&faults).unwrap();
    let house = House::on(store).await;
    let webhooks = house.one().await;
    house.happen(1).await;
    idle(&webhooks).await;
    faults.full.store(true, Ordering::SeqCst);
    house.happen(2).await;
    until(&webhooks, is_idle).await;
    assert_eq!(house.receiver.numbers(), [1, 2, 3]);
    drop(webhooks);
    faults.full.store(false, Ordering::SeqCst);
    let webhooks = house.one().await;
    idle(&webhooks).await;
    house.happen(1).await;
    idle(&webhooks).await;
    assert_eq!(house.receiver.numbers(), [1, 2, 3, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_read_how_far_it_came_tells_all_there_is() {
    let house = House::new().await;
    house.happen(3).await;
    house.store.write(vec![Op::put("webhook/ci", b"?".to_vec())]).await.unwrap();
    let webhooks = house.one().await;
    idle(&webhooks).await;
    assert_eq!(house.receiver.numbers(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_is_passed_over_is_written_seldom_and_is_no_gap_later() {
    let house = House::new().await;
    let webhooks = house.one().await;
    let before = house.store.revision();
    house.happens_besides(900).await;
    idle(&webhooks).await;
    assert_eq!(house.store.revision(), before, "nothing is written for what nobody wants");
    house.happens_besides(300).await;
    eventually(async || (house.store.revision() > before).then_some(())).await;
    drop(webhooks);
    // The journal forgets what was passed over while no daemon was there.
    house.happen(1).await;
    house.journal.truncate_before(1_100).await.unwrap();
    let webhooks = house.one().await;
    let state = idle(&webhooks).await;
    assert_eq!((house.receiver.numbers(), state.lost), (vec![1_201], None));
    assert_eq!(house.receiver.all().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_read_each_time_and_both_sign_while_it_is_rotated() {
    let house = House::new().await;
    let webhooks = house.one().await;
    let set = |file: Result<&str, &str>, knows: &str| {
        *house.receiver.file.lock().unwrap() = file.map(str::to_owned).map_err(str::to_owned);
        *house.receiver.knows.lock().unwrap() = vec![knows.to_owned()];
    };
    house.happen(1).await;
    idle(&webhooks).await;
    let both = format!("{NEXT}\n{SECRET}\n");
    // The receiver learns it in the midst.
    for knows in [SECRET, NEXT] {
        set(Ok(&both), knows);
        house.happen(1).await;
        idle(&webhooks).await;
    }
    set(Ok(NEXT), NEXT);
    house.happen(1).await;
    idle(&webhooks).await;
    let signatures: Vec<usize> = house.receiver.all().iter().map(|heard| heard.signatures).collect();
    assert_eq!(signatures, [1, 2, 2, 1]);
    // While it is of no use, nothing is told and nothing lost.
    for (file, words) in [(Err("others can read it"), "others can read it"), (Ok("short"), "of 5 bytes")] {
        set(file, NEXT);
        house.happen(1).await;
        let state = until(&webhooks, |state| state.failures > 1).await;
        let why = state.last_error.unwrap().why;
        assert!(
            why.starts_with("the secret cannot be used: `/run/secret`: ") && why.contains(words),
            "{why}"
        );
        assert!(!why.contains("short"), "{why}");
        set(Ok(NEXT), NEXT);
        idle(&webhooks).await;
    }
    assert_eq!(house.receiver.numbers(), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_test_says_what_came_back_and_moves_nothing() {
    let house = House::new().await;
    let webhooks = house.one().await;
    let name = "ci".parse().unwrap();
    let tested = webhooks.test(&name).await.unwrap();
    assert_eq!((tested.delivered, tested.status, tested.error), (true, Some(204), None));
    let heard = house.receiver.all();
    assert_eq!((&heard[0].body["event"], &heard[0].id), (&"webhook_test".into(), &tested.id));
    assert_eq!((&heard[0].body["webhook"], &heard[0].body["sequence"]), (&"ci".into(), &0.into()));
    house.receiver.will(Does::Answers(500));
    let tested = webhooks.test(&name).await.unwrap();
    assert_eq!((tested.delivered, tested.status), (false, Some(500)));
    assert_eq!(tested.error.as_deref(), Some("HTTP 500"));
    house.receiver.will(Does::Refuses);
    let tested = webhooks.test(&name).await.unwrap();
    assert_eq!((tested.status, tested.error.as_deref()), (None, Some("connection refused")));
    let state = until(&webhooks, |_| true).await;
    assert_eq!((state.failures, state.last_delivered, state.state), (0, None, WebhookWord::Idle));
    let unknown = webhooks.test(&"cd".parse().unwrap()).await.unwrap_err();
    assert_eq!(unknown.to_string(), "there is no webhook `cd`");
    // One at a time.
    house.receiver.will(Does::Hangs);
    let (waits, begun) = (webhooks.clone(), Arc::new(Notify::new()));
    let (first, told) = (name.clone(), begun.clone());
    let hanging = tokio::spawn(async move {
        told.notify_one();
        waits.test(&first).await
    });
    begun.notified().await;
    house.receiver.until(|heard| heard.len() == 3).await;
    assert_eq!(webhooks.test(&name).await, Err(TestError::UnderWay(name)));
    hanging.abort();
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_one_is_woken_by_an_event_and_never_by_time() {
    let house = House::new().await;
    let one = Arc::new(house.alone(webhook("ci", &[EventWord::Rollout])).await);
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(woken.clone());
    let mut telling = pin!(one.clone().tell());
    let mut goes_on = async |until: u64| {
        eventually(async || {
            assert!(telling.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let state = one.state().await.unwrap();
            (is_idle(&state) && one.is_kept() && state.last_delivered == Some(until)).then_some(())
        })
        .await;
    };
    house.happen(1).await;
    goes_on(1).await;
    let (times, revision) = (woken.0.load(Ordering::SeqCst), house.store.revision());
    tokio::time::advance(Duration::from_secs(30 * 86_400)).await;
    assert_eq!((woken.0.load(Ordering::SeqCst), house.store.revision()), (times, revision));
    house.happen(1).await;
    assert!(woken.0.load(Ordering::SeqCst) > times);
    goes_on(2).await;
}

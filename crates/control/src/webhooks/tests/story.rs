//! Random stories of a receiver that fails, answers late or hangs, of a journal that forgets, and of daemons
//! that are killed: each event comes at least once, in order, and signed.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, prop_oneof, proptest};
use proptest::strategy::Strategy;

use super::*;

#[derive(Clone, Debug)]
enum Move {
    Happen(u64),
    Receiver(Does),
    /// As many more are heard, or the daemon has nothing more to tell.
    Hear(usize),
    Kill,
    /// The journal keeps so many.
    Forget(u64),
    Rotate,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let does = prop_oneof![
        4 => Just(Does::Answers(200)),
        1 => Just(Does::Answers(503)),
        1 => Just(Does::Refuses),
        2 => Just(Does::TooLate),
        2 => Just(Does::Hangs),
    ];
    let one = prop_oneof![
        6 => (1..4_u64).prop_map(Move::Happen),
        4 => does.prop_map(Move::Receiver),
        4 => (1..4_usize).prop_map(Move::Hear),
        3 => Just(Move::Kill),
        1 => (1..6_u64).prop_map(Move::Forget),
        1 => Just(Move::Rotate),
    ];
    vec(one, 1..40)
}

/// What is heard may be of no use to wait for: it hangs, or nobody is there.
fn is_heard(does: Does) -> bool {
    !matches!(does, Does::Hangs | Does::Refuses)
}

struct Story {
    house: House,
    webhooks: Option<Webhooks>,
}

impl Story {
    async fn does(&mut self, one: &Move) {
        let receiver = self.house.receiver.clone();
        match one {
            Move::Happen(count) => self.house.happen(*count).await,
            Move::Receiver(does) => receiver.will(*does),
            Move::Hear(more) if is_heard(*receiver.always.lock().unwrap()) => {
                let heard = receiver.all().len();
                let webhooks = self.webhooks.as_ref().unwrap();
                eventually(async || {
                    let state = webhooks.list().await.unwrap().remove(0);
                    // What waits for an answer that does not come any more is for the next daemon.
                    let is_over = is_idle(&state) || state.state == WebhookWord::Delivering;
                    (is_over || receiver.all().len() >= heard + more).then_some(())
                })
                .await;
            }
            Move::Hear(_) => {}
            Move::Kill => {
                drop(self.webhooks.take());
                self.webhooks = Some(self.house.one().await);
            }
            Move::Forget(keeps) => {
                let first = (self.house.events.last() + 1).saturating_sub(*keeps);
                self.house.journal.truncate_before(first).await.unwrap();
            }
            Move::Rotate => {
                let mut knows = receiver.knows.lock().unwrap();
                let old = knows[0].clone();
                let new = if old == SECRET { NEXT } else { SECRET };
                *receiver.file.lock().unwrap() = Ok(format!("{old}\n{new}"));
                knows[0] = new.to_owned();
            }
        }
    }

    fn is_right(&self) {
        let all = self.house.receiver.all();
        let (mut heard, mut newest) = (BTreeSet::new(), 0);
        let mut ids: BTreeMap<String, Value> = BTreeMap::new();
        for one in &all {
            let last = one.body["sequence"].as_u64().unwrap();
            match one.number() {
                Some(number) => {
                    assert!(number > newest || heard.contains(&number), "{number} after {newest}");
                    heard.insert(number);
                    let before = ids.insert(one.id.clone(), one.body.clone());
                    assert!(before.is_none_or(|before| before == one.body), "{} is two events", one.id);
                }
                None => heard.extend(one.body["first"].as_u64().unwrap()..=last),
            }
            newest = newest.max(last);
        }
        let last = self.house.events.last();
        let missing: Vec<u64> = (1..=last).filter(|number| !heard.contains(number)).collect();
        assert_eq!(missing, [0; 0], "of {last}: {:?}", self.house.receiver.numbers());
    }
}

async fn told(moves: &[Move]) {
    let house = House::new().await;
    let webhooks = Some(house.one().await);
    let mut story = Story { house, webhooks };
    for one in moves {
        story.does(one).await;
    }
    story.house.receiver.will(Does::Answers(200));
    // Whoever hung hangs no more.
    story.does(&Move::Kill).await;
    until(story.webhooks.as_ref().unwrap(), is_idle).await;
    story.is_right();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_event_comes_at_least_once_in_order_and_signed(moves in moves()) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(told(&moves));
    }
}

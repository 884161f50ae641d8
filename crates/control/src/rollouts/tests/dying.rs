//! A daemon that dies in the midst of a write that is too large for one transaction.

use std::collections::BTreeSet;
use std::sync::Mutex as Locked;

use super::*;

/// Where the daemon dies. Whatever thread writes, it looks here; only the one test of this file does.
static DIES_AT: Locked<&str> = Locked::new("");

fn die(point: &str) {
    let dies = *DIES_AT.lock().unwrap_or_else(PoisonError::into_inner);
    assert_ne!(dies, point, "killed");
}

async fn keys(store: &Store) -> BTreeSet<String> {
    store.all("rollouts/").await.unwrap().into_iter().map(|kv| kv.key).collect()
}

const COUNT: usize = 6_000;

/// The leaves are there and the head is not, or both are: the next daemon finds the old state or the new one, whole,
/// and nothing else.
#[tokio::test]
async fn between_leaves_and_head_is_nothing() {
    let (store, _journal) = open_memory().unwrap();
    let open_dying = async || {
        let settings = Settings { wall, asker: Arc::new(Nobody), events: None, failpoint: die };
        Rollouts::open(store.clone(), settings).await.unwrap()
    };
    let rollouts = open_dying().await;
    let reports = established(&rollouts, COUNT, 100).await;
    // The version begins with this call, and nobody is moved by it.
    rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    let before = (keys(&store).await, rollouts.targets(&web(), None).await.unwrap());
    assert_eq!(on(&before.1, "v1"), COUNT);

    *DIES_AT.lock().unwrap() = "rollout_leaves_kept";
    let died = rollouts.orchestrate(web(), reports.clone()).await;
    assert!(matches!(died, Err(RolloutError::Failed(_))), "{died:?}");
    drop(rollouts);
    let left = keys(&store).await;
    assert!(left.is_superset(&before.0) && left.len() > before.0.len(), "some leaves are written ahead");
    *DIES_AT.lock().unwrap() = "";
    let rollouts = open_dying().await;
    assert_eq!(keys(&store).await, before.0, "what no head names is removed");
    let targets = rollouts.targets(&web(), None).await.unwrap();
    assert_eq!((targets.len(), on(&targets, "v1")), (COUNT, COUNT));

    *DIES_AT.lock().unwrap() = "rollout_kept";
    let died = rollouts.orchestrate(web(), reports.clone()).await;
    assert!(matches!(died, Err(RolloutError::Failed(_))), "{died:?}");
    drop(rollouts);
    *DIES_AT.lock().unwrap() = "";
    let rollouts = open_dying().await;
    let targets = rollouts.targets(&web(), None).await.unwrap();
    assert_eq!((targets.len(), on(&targets, "v2")), (COUNT, COUNT));
    assert_eq!(keys(&store).await.len(), before.0.len(), "the leaves of before are gone");
    let (state, targets) = rollouts.orchestrate(web(), obey(&targets)).await.unwrap();
    assert_eq!((state.counts.total, on(&targets, "v2")), (COUNT, COUNT));
}

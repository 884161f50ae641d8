//! Entities that say much.

use std::collections::BTreeSet;

use super::*;

fn key(n: usize) -> String {
    format!("{n:03}").repeat(80)
}

/// So many bytes in labels, half of which JSON writes as two.
fn loud(n: usize, bytes: usize) -> Report {
    let labels = (0..bytes / 480).map(|n| (key(n), "\"".repeat(240))).collect();
    Report { labels, ..report(n, Some(&v("v1"))) }
}

async fn sizes(store: &Store) -> Vec<usize> {
    let leaves = store.all("rollouts/").await.unwrap();
    leaves.into_iter().filter(|kv| kv.key.contains("/leaf/")).map(|kv| kv.value.len()).collect()
}

#[tokio::test(start_paused = true)]
async fn targets_that_say_much_are_in_more_leaves_and_a_change_of_one_writes_little() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    rollouts.change(web(), Change::SetVersion(v("v1")), None).await.unwrap();
    let reports: Vec<Report> = (0..200).map(|n| loud(n, 25_000)).collect();
    let (_, targets) = rollouts.orchestrate(web(), reports).await.unwrap();
    assert!(sizes(&store).await.iter().all(|size| *size <= leaves::LEAF_BYTES_MAX));
    let before: BTreeSet<String> =
        store.all("rollouts/").await.unwrap().into_iter().map(|kv| kv.key).collect();
    rollouts.orchestrate(web(), vec![Report { is_error: true, ..loud(7, 25_000) }]).await.unwrap();
    let after: BTreeSet<String> =
        store.all("rollouts/").await.unwrap().into_iter().map(|kv| kv.key).collect();
    assert_eq!(after.difference(&before).count(), 1, "one leaf is written anew");
    let read = open(&store).await.targets(&web(), None).await.unwrap();
    assert_eq!((read.len(), &read[8].labels), (200, &targets[8].labels));
    // Those who say little again are in few.
    let reports: Vec<Report> = (0..200).map(|n| report(n, Some(&v("v1")))).collect();
    rollouts.orchestrate(web(), reports.clone()).await.unwrap();
    rollouts.orchestrate(web(), vec![report(7, Some(&v("v2")))]).await.unwrap();
    assert!(sizes(&store).await.len() <= 8, "{:?}", sizes(&store).await);
    assert_eq!(open(&store).await.targets(&web(), None).await.unwrap().len(), 200);
}

/// The list of the leaves names no targets: their names would not fit.
#[tokio::test(start_paused = true)]
async fn many_targets_with_long_names_fit() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    rollouts.change(web(), Change::SetVersion(v("v1")), None).await.unwrap();
    let long = |n: usize| {
        let target = TargetId::new(&"\"".repeat(256), &format!("{n:06}{}", "\"".repeat(250))).unwrap();
        Report { target, ..report(n, Some(&v("v1"))) }
    };
    let (_, targets) = rollouts.orchestrate(web(), (0..40_000).map(long).collect()).await.unwrap();
    assert_eq!(targets.len(), 40_000);
    let head = store.get("rollouts/0000000000/head").await.unwrap().unwrap();
    assert!(head.value.len() < 100_000, "{}", head.value.len());
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_fit_is_refused_and_nothing_has_changed() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    established(&rollouts, 3, 50).await;
    let before = rollouts.targets(&web(), None).await.unwrap();
    let refused = rollouts.orchestrate(web(), vec![loud(9, 1_000_000)]).await.unwrap_err();
    assert!(matches!(&refused, RolloutError::TooLarge { .. }), "{refused}");
    assert!(refused.to_string().ends_with("most of them are one of its targets"), "{refused}");
    assert_eq!(rollouts.targets(&web(), None).await.unwrap(), before);
    rollouts.orchestrate(web(), vec![report(1, Some(&v("v1")))]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_versions_fits_however_much_is_said_of_them() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    for n in 0..120 {
        let version = v(&format!("{n:03}{}", "\"".repeat(500)));
        rollouts.change(web(), Change::ForceVersion(version), None).await.unwrap();
        rollouts.orchestrate(web(), vec![report(1, None)]).await.unwrap();
        let abort = Change::Abort { by: "a".repeat(200), why: "\"".repeat(1_024) };
        rollouts.change(web(), abort, Some("b".repeat(200))).await.unwrap();
    }
    let head = store.get("rollouts/0000000000/head").await.unwrap().unwrap();
    assert!(head.value.len() < upbeat_store::VALUE_MAX / 4, "{}", head.value.len());
    let state = rollouts.rollout(&web()).await.unwrap().unwrap();
    assert!(state.known_bad.len() >= 20 && rollouts.history(&web()).await.unwrap().unwrap().len() >= 10);
    assert!(
        state.known_bad.iter().any(|bad| Some(&bad.version) == state.target.as_ref()),
        "the last is known"
    );
}

#[tokio::test(start_paused = true)]
async fn what_people_ask_for_is_refused_where_it_is_too_much() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    established(&rollouts, 3, 50).await;
    let before = rollouts.rollout(&web()).await.unwrap().unwrap();
    let asks = |controllers: &mut Controllers| {
        let words = || Some(Controller::Exec(vec!["check".into(), "\u{1}".repeat(32_000)]));
        (controllers.selection, controllers.approval) = (words(), words());
        Ok(())
    };
    let refused = rollouts.edit_controllers(web(), asks).await.unwrap_err();
    assert!(refused.to_string().contains("`controllers` of rollout `prod/web` would have 384"), "{refused}");
    let stages = (0..32).map(|n| {
        let labels = (0..8).map(|k| (key(k), "\"".repeat(240)));
        upbeat_model::rollout::Stage::wave(&format!("w{n}"), labels)
    });
    let strategy = upbeat_model::rollout::Strategy { stages: stages.collect(), ..Default::default() };
    let refused =
        rollouts.change(web(), Change::SetStrategy(Some(Box::new(strategy))), None).await.unwrap_err();
    assert_eq!(refused.to_string(), "`stages` must have 32768 bytes of labels at most, all together");
    assert_eq!(rollouts.rollout(&web()).await.unwrap().unwrap(), before);
}

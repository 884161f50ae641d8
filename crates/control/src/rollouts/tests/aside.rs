//! Entities with many targets, which are thought about aside.

use super::super::aside::LARGE;
use super::*;

fn other() -> EntityId {
    EntityId::new("prod", "other").unwrap()
}

/// One with more targets than are thought about at once, which run v1 and shall.
async fn large(rollouts: &Rollouts) -> Vec<Report> {
    established(rollouts, LARGE + 1, 100).await
}

/// Nobody may think aside while this is held.
fn all_places(rollouts: &Rollouts) -> Vec<tokio::sync::OwnedSemaphorePermit> {
    let places = &rollouts.inner.aside.0;
    std::iter::from_fn(|| places.clone().try_acquire_owned().ok()).collect()
}

/// Others are answered again and again, far more often than what does not wait for its place would need.
async fn others_go_on<T>(rollouts: &Rollouts, waits: impl Future<Output = T>) {
    let mut waits = std::pin::pin!(waits);
    for _ in 0..100 {
        tokio::select! {
            biased;
            _ = &mut waits => panic!("it is done on the thread that answers requests"),
            answered = rollouts.orchestrate(other(), vec![report(0, Some(&v("v1")))]) => {
                assert_eq!(answered.unwrap().1.len(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_large_entity_waits_for_its_place_and_others_go_on_meanwhile() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    large(&rollouts).await;
    rollouts.change(other(), Change::SetVersion(v("v1")), None).await.unwrap();
    let places = all_places(&rollouts);
    assert_eq!(places.len(), 2);
    let id = web();
    let mut looking = std::pin::pin!(rollouts.assigned(&id));
    others_go_on(&rollouts, looking.as_mut()).await;
    drop(places);
    assert_eq!(looking.await.unwrap().1.len(), LARGE + 1);
    let places = all_places(&rollouts);
    assert_eq!(places.len(), 2, "they are free again");
    let mut deciding = std::pin::pin!(rollouts.decide(web(), vec![report(0, Some(&v("v2")))]));
    others_go_on(&rollouts, deciding.as_mut()).await;
    drop(places);
    deciding.await.unwrap();
}

#[tokio::test]
async fn a_large_report_counts_also_where_nobody_waits_for_the_answer() {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    let reports = large(&rollouts).await;
    let places = all_places(&rollouts);
    let fail = |report: Report| Report { is_error: true, ..report };
    {
        let reports: Vec<Report> = reports.into_iter().map(fail).collect();
        let mut deciding = std::pin::pin!(rollouts.decide(web(), reports));
        tokio::select! {
            biased;
            decided = &mut deciding => panic!("{decided:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(places);
    rollouts.idle().await;
    // It is also kept.
    let targets = open(&store).await.targets(&web(), None).await.unwrap();
    assert!(targets.iter().all(|target| target.current.is_error) && targets.len() == LARGE + 1);
}

#[tokio::test]
async fn what_does_not_come_back_is_read_again() {
    for count in [3, LARGE + 1] {
        breaks_off(count).await;
    }
}

async fn breaks_off(count: usize) {
    let (store, _journal) = open_memory().unwrap();
    let rollouts = open(&store).await;
    established(&rollouts, count, 100).await;
    let before = rollouts.targets(&web(), None).await.unwrap();
    let entity = rollouts.inner.entities().all[&web()].clone();
    let inner = rollouts.inner.clone();
    let thinking = tokio::spawn(async move {
        let mut held = inner.hold(&entity).await.unwrap().unwrap();
        inner
            .think(&mut held, 0, |rollout| {
                rollout.report([report(0, Some(&v("v7")))], Mono(0));
                panic!("a bug");
            })
            .await
    });
    let failed = thinking.await;
    assert!(matches!(failed, Err(_) | Ok(Err::<(), _>(RolloutError::Failed(_)))));
    assert_eq!(rollouts.targets(&web(), None).await.unwrap(), before);
    rollouts.decide(web(), vec![report(0, Some(&v("v1")))]).await.unwrap();
}

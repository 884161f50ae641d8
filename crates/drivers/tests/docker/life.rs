//! From nothing to a container that runs, and to its end.

use upbeat_drivers::docker::{EngineEvent, Seen, StartError, labels};
use upbeat_model::project::Signal;
use upbeat_model::{Attempt, Exit, Millis};
use upbeat_needs::{Need, Test};

use crate::rig::{self, Rig, dies_at, of, run};

pub(crate) const CASES: &[Test] = &[
    Test::needing(&[Need::DOCKER], "a_container_is_made_started_and_told_when_it_ends", runs),
    Test::needing(&[Need::DOCKER], "what_is_prepared_is_taken_as_it_is", again),
    Test::needing(
        &[Need::DOCKER],
        "a_new_one_is_made_beside_the_old_and_takes_its_name_at_its_start",
        beside,
    ),
    Test::needing(&[Need::DOCKER], "never_two_containers_of_a_slot_run_and_no_attempt_runs_twice", once),
    Test::needing(&[Need::DOCKER], "a_stop_gives_time_and_a_kill_gives_none", stops),
    Test::needing(&[Need::DOCKER], "another_daemon_finds_what_runs_and_how_the_rest_ended", adopts),
    Test::needing(&[Need::DOCKER], "all_is_found_again_from_the_engine_alone", from_labels),
    Test::needing(
        &[Need::DOCKER],
        "a_daemon_that_is_killed_at_any_step_is_followed_by_one_that_goes_on",
        killed,
    ),
    Test::needing(&[Need::DOCKER], "a_start_that_fails_says_why_and_counts_as_an_attempt", fails),
    Test::needing(&[Need::DOCKER], "of_a_slot_that_is_removed_nothing_stays", removed),
];

async fn exited(rig: &mut Rig, service: &str, attempt: u64, code: i32) {
    match rig.event().await {
        EngineEvent::Exited { slot, attempt: which, exit, at } => {
            assert_eq!((slot, which, exit), (rig.slot(service), Attempt(attempt), Exit::Code(code)));
            assert!(at.0 > 1_700_000_000_000, "{at:?}");
        }
        event => panic!("{event:?}"),
    }
}

fn runs() {
    run(async |rig| {
        let slot = rig.slot("web");
        assert_eq!(rig.seen(&slot).await, Seen::Never);
        let mut spec = rig.shell("sleep 1; exit 3");
        rig::of(&mut spec).image_check = false;
        let prepared = rig.prepare(&slot, &spec).await.unwrap();
        assert_eq!(prepared.image, rig::image().id());
        assert_eq!(rig.seen(&slot).await, Seen::Never, "prepared is not started");
        let started = rig.engine.start(&slot, Attempt(1), &prepared.container).await.unwrap();
        assert!(started.pid > 0);
        let there = rig.docker.inspect(&prepared.container).unwrap();
        let labels = &there["Config"]["Labels"];
        assert_eq!(there["Name"], format!("/{}-web-1", rig.name));
        assert_eq!(there["HostConfig"]["RestartPolicy"]["Name"], "no");
        assert_eq!(labels[labels::OWNER], rig.name.as_str());
        assert_eq!(labels[labels::APP], rig.name.as_str());
        assert_eq!((&labels[labels::SERVICE], &labels[labels::SLOT]), (&"web".into(), &"1".into()));
        assert_eq!((&labels[labels::RELEASE], &labels[labels::DIGEST]), (&"7".into(), &spec.digest().into()));
        assert_eq!(labels[labels::IMAGE], prepared.image.as_str());
        exited(rig, "web", 1, 3).await;
        let Seen::Ended { attempt, exit, container, .. } = rig.seen(&slot).await else { panic!() };
        assert_eq!((attempt, exit), (Attempt(1), Exit::Code(3)));
        assert_eq!(container, Some(prepared.container.clone()));
        // The same container again.
        rig.engine.start(&slot, Attempt(2), &prepared.container).await.unwrap();
        exited(rig, "web", 2, 3).await;
        rig.hears_nothing();
    });
}

fn again() {
    run(async |rig| {
        let slot = rig.slot("web");
        let spec = rig.lasting();
        let first = rig.prepare(&slot, &spec).await.unwrap();
        assert_eq!(rig.prepare(&slot, &spec).await.unwrap(), first);
        rig.engine.start(&slot, Attempt(1), &first.container).await.unwrap();
        assert_eq!(rig.prepare(&slot, &spec).await.unwrap(), first, "also while it runs");
        let mut other = spec.clone();
        other.environment.insert("A".to_owned(), "b".to_owned());
        let second = rig.prepare(&slot, &other).await.unwrap();
        let mut third = other.clone();
        third.environment.insert("A".to_owned(), "c".to_owned());
        let third = rig.prepare(&slot, &third).await.unwrap();
        assert_eq!(rig.docker.inspect(&second.container), None, "nobody wants it any more");
        assert!(rig.docker.inspect(&third.container).is_some());
        assert!(matches!(rig.seen(&slot).await, Seen::Running { .. }), "what runs is left alone");
        rig.hears_nothing();
    });
}

fn beside() {
    run(async |rig| {
        let slot = rig.slot("web");
        let old = rig.lasting();
        let old_id = rig.up(&slot, 1, &old).await;
        let mut new = old.clone();
        new.environment.insert("A".to_owned(), "b".to_owned());
        let made = rig.prepare(&slot, &new).await.unwrap();
        let docker = rig.docker.clone();
        let name = |id: &str| docker.inspect(id).unwrap()["Name"].as_str().unwrap().to_owned();
        let proper = format!("/{}-web-1", rig.name);
        assert_eq!(name(&old_id), proper);
        assert_eq!(name(&made.container), format!("{proper}.{}", new.digest()));
        let busy = rig.engine.start(&slot, Attempt(2), &made.container).await;
        assert!(matches!(busy, Err(StartError::Busy(_))), "{busy:?}");
        rig.engine.stop(&slot, Attempt(1), Signal::TERM, Millis(10_000)).await.unwrap();
        exited(rig, "web", 1, 0).await;
        rig.engine.start(&slot, Attempt(2), &made.container).await.unwrap();
        assert_eq!(name(&made.container), proper);
        assert_eq!(rig.docker.inspect(&old_id), None);
        let Seen::Running { attempt, digest, drift, .. } = rig.seen(&slot).await else { panic!() };
        assert_eq!((attempt, digest, drift), (Attempt(2), new.digest(), vec![]));
    });
}

fn once() {
    run(async |rig| {
        let slot = rig.slot("web");
        let id = rig.up(&slot, 3, &rig.lasting()).await;
        for attempt in [1, 3] {
            let refused = rig.engine.start(&slot, Attempt(attempt), &id).await;
            assert_eq!(refused, Err(StartError::Superseded { seen: Attempt(3) }));
        }
        let refused = rig.engine.start(&slot, Attempt(4), &id).await;
        assert!(matches!(refused, Err(StartError::Busy(_))), "{refused:?}");
        rig.engine.stop(&slot, Attempt(3), Signal::KILL, Millis(0)).await.unwrap();
        rig.event().await;
        let refused = rig.engine.start(&slot, Attempt(3), &id).await;
        assert_eq!(refused, Err(StartError::Superseded { seen: Attempt(3) }));
        let gone = rig.engine.start(&slot, Attempt(4), &"f".repeat(64)).await;
        assert_eq!(gone, Err(StartError::Gone));
        assert!(rig.docker.inspect(&id).is_some(), "nothing was removed for one that is not there");
    });
}

fn stops() {
    run(async |rig| {
        let (well, deaf) = (rig.slot("well"), rig.slot("deaf"));
        rig.up(&well, 1, &rig.lasting()).await;
        rig.up(&deaf, 1, &rig.shell("trap '' TERM; while :; do sleep 1; done")).await;
        rig.engine.stop(&well, Attempt(1), Signal::TERM, Millis(30_000)).await.unwrap();
        exited(rig, "well", 1, 0).await;
        rig.engine.stop(&deaf, Attempt(1), Signal::TERM, Millis(300)).await.unwrap();
        exited(rig, "deaf", 1, 137).await;
        let gone = rig.engine.stop(&deaf, Attempt(1), Signal::TERM, Millis(300)).await;
        assert!(gone.is_err(), "it is not listened to any more");
        rig.hears_nothing();
    });
}

fn adopts() {
    run(async |rig| {
        let (runs, ends) = (rig.slot("runs"), rig.slot("ends"));
        let id = rig.up(&runs, 5, &rig.lasting()).await;
        rig.up(&ends, 2, &rig.shell("exit 9")).await;
        exited(rig, "ends", 2, 9).await;
        rig.be_another();
        let Seen::Running { attempt, container, digest, release, .. } = rig.seen(&runs).await else {
            panic!()
        };
        assert_eq!((attempt, container), (Attempt(5), id.clone()));
        assert_eq!((digest, release), (rig.lasting().digest(), "7".to_owned()));
        let Seen::Ended { attempt, exit, .. } = rig.seen(&ends).await else { panic!() };
        assert_eq!((attempt, exit), (Attempt(2), Exit::Code(9)));
        assert_eq!(rig.engine.slots().await.unwrap(), [ends, runs.clone()]);
        // What was found is listened to.
        rig.engine.stop(&runs, Attempt(5), Signal::KILL, Millis(0)).await.unwrap();
        exited(rig, "runs", 5, 137).await;
        // And what nobody has seen end ended all the same.
        rig.up(&runs, 6, &rig.lasting()).await;
        rig.be_another();
        rig.by_hand(&id, "kill");
        rig.by_hand(&id, "wait");
        let Seen::Ended { attempt, exit, .. } = rig.seen(&runs).await else { panic!() };
        assert_eq!((attempt, exit), (Attempt(6), Exit::Code(137)));
    });
}

fn from_labels() {
    run(async |rig| {
        let (runs, ends) = (rig.slot("runs"), rig.slot("ends"));
        let id = rig.up(&runs, 5, &rig.lasting()).await;
        rig.up(&ends, 2, &rig.shell("exit 9")).await;
        rig.event().await;
        rig.lose_all();
        assert_eq!(rig.engine.slots().await.unwrap(), [ends.clone(), runs.clone()]);
        let Seen::Running { attempt, container, digest, .. } = rig.seen(&runs).await else { panic!() };
        assert_eq!((attempt, container, digest), (Attempt(1), id, rig.lasting().digest()));
        let Seen::Ended { attempt, exit, .. } = rig.seen(&ends).await else { panic!() };
        assert_eq!((attempt, exit), (Attempt(1), Exit::Code(9)));
    });
}

/// All steps of a first start and of one that replaces another.
const STEPS: [&str; 7] = [
    "container_creating",
    "container_created",
    "container_connected",
    "container_discarded",
    "container_renamed",
    "container_recorded",
    "container_started",
];

fn killed() {
    run(async |rig| {
        let slot = rig.slot("web");
        let mut attempt = 0;
        for (n, step) in STEPS.into_iter().enumerate() {
            let mut spec = rig.lasting();
            spec.environment.insert("N".to_owned(), n.to_string());
            attempt += 1;
            dies_at(Some(step));
            let (engine, wanted) = (rig.engine.clone(), rig::wish(&slot, &spec));
            let of = slot.clone();
            let task = tokio::spawn(async move {
                let prepared = engine.prepare(wanted, |_| {}).await.unwrap();
                engine.start(&of, Attempt(attempt), &prepared.container).await.unwrap();
            });
            assert!(task.await.unwrap_err().is_panic(), "{step}");
            rig.be_another();
            let seen = rig.seen(&slot).await;
            let runs = matches!(&seen, Seen::Running { attempt: of, .. } if of.0 == attempt);
            assert_eq!(runs, step == "container_started", "{step}: {seen:?}");
            let prepared = rig.prepare(&slot, &spec).await.unwrap();
            let again = rig.engine.start(&slot, Attempt(attempt), &prepared.container).await;
            match runs {
                true => assert_eq!(again, Err(StartError::Superseded { seen: Attempt(attempt) })),
                false => assert!(again.is_ok(), "{step}: {again:?}"),
            }
            let all = rig.docker.labelled(&format!("{}={}", labels::OWNER, rig.name));
            assert_eq!(all, [prepared.container], "{step}");
            rig.engine.stop(&slot, Attempt(attempt), Signal::KILL, Millis(0)).await.unwrap();
            exited(rig, "web", attempt, 137).await;
        }
        rig.hears_nothing();
    });
}

fn fails() {
    run(async |rig| {
        let slot = rig.slot("web");
        let mut spec = rig.lasting();
        of(&mut spec).command = Some(vec!["no-such-program".to_owned()]);
        let prepared = rig.prepare(&slot, &spec).await.unwrap();
        let failed = rig.engine.start(&slot, Attempt(1), &prepared.container).await;
        let Err(StartError::NotStarted(why)) = failed else { panic!("{failed:?}") };
        assert_eq!(why, "cannot run `no-such-program`: no such program in the PATH of the image");
        for _ in 0..2 {
            let Seen::Ended { attempt, exit, .. } = rig.seen(&slot).await else { panic!() };
            assert_eq!((attempt, exit), (Attempt(1), Exit::NotStarted(why.clone())));
            let again = rig.engine.start(&slot, Attempt(1), &prepared.container).await;
            assert_eq!(again, Err(StartError::Superseded { seen: Attempt(1) }));
            rig.be_another();
        }
        rig.hears_nothing();
    });
}

fn removed() {
    run(async |rig| {
        let slot = rig.slot("web");
        let id = rig.up(&slot, 1, &rig.lasting()).await;
        assert!(rig.engine.remove(&slot, &[]).await.is_err(), "it runs");
        assert!(rig.docker.inspect(&id).is_some());
        rig.engine.stop(&slot, Attempt(1), Signal::KILL, Millis(0)).await.unwrap();
        rig.engine.remove(&slot, &[]).await.unwrap();
        assert_eq!(rig.docker.inspect(&id), None);
        assert!(!rig.engine.slot_dir(&slot).exists());
        exited(rig, "web", 1, 137).await;
        rig.hears_nothing();
        assert_eq!(rig.seen(&slot).await, Seen::Never);
        rig.engine.remove(&slot, &[]).await.unwrap();
    });
}

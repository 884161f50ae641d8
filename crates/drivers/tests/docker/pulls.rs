//! Images and registries.

use std::sync::Mutex;

use upbeat_drivers::docker::{PrepareError, Progress};
use upbeat_model::Millis;
use upbeat_model::project::Service;
use upbeat_model::project::container::{ImageRef, PullPolicy};
use upbeat_needs::docker::{Image, Registry};
use upbeat_needs::{Need, Test};

use crate::rig::{Rig, image, of, run, wish};

pub(crate) const CASES: &[Test] = &[
    Test::needing(&[Need::DOCKER, Need::REGISTRY], "an_image_is_pulled_by_its_policy", policies),
    Test::needing(&[Need::DOCKER, Need::REGISTRY], "what_is_fetched_again_is_the_same_image", again),
    Test::needing(&[Need::DOCKER, Need::REGISTRY], "who_wants_the_same_image_waits_for_one_pull", shared),
    Test::needing(
        &[Need::DOCKER, Need::REGISTRY],
        "a_registry_is_told_the_person_s_credentials",
        credentials,
    ),
    Test::needing(&[Need::DOCKER, Need::REGISTRY], "what_cannot_be_pulled_says_why", refused),
];

fn of_image(rig: &Rig, name: &str, policy: PullPolicy) -> Service {
    let mut spec = rig.lasting();
    of(&mut spec).image = ImageRef::parse(name).unwrap();
    of(&mut spec).pull_policy = policy;
    spec
}

fn push(rig: &Rig, registry: &Registry, tag: &str) -> Image {
    rig.docker.push(image(), registry, "team/web", tag)
}

/// Prepares, and how often it was pulled for that.
async fn pulls(rig: &Rig, spec: &Service, generation: u64) -> Result<usize, PrepareError> {
    let said = Mutex::new(Vec::new());
    let mut wanted = wish(&rig.slot("web"), spec);
    wanted.generation = generation;
    rig.engine.prepare(wanted, |progress| said.lock().unwrap().push(progress)).await?;
    let said = said.into_inner().unwrap();
    Ok(said.iter().filter(|progress| matches!(progress, Progress::Pulled { .. })).count())
}

fn policies() {
    run(async |rig| {
        let registry = Registry::open();
        let pushed = push(rig, &registry, "v1");
        let spec = |policy| of_image(rig, pushed.name(), policy);
        assert_eq!(pulls(rig, &spec(PullPolicy::Missing), 1).await, Ok(0));
        assert_eq!(pulls(rig, &spec(PullPolicy::Never), 1).await, Ok(0));
        assert_eq!(pulls(rig, &spec(PullPolicy::Always), 1).await, Ok(1));
        assert_eq!(pulls(rig, &spec(PullPolicy::Always), 1).await, Ok(0), "once for one wish");
        assert_eq!(pulls(rig, &spec(PullPolicy::Always), 2).await, Ok(1));
        let every = PullPolicy::Every(Millis::seconds(3600));
        assert_eq!(pulls(rig, &spec(every), 3).await, Ok(1), "nobody knows when it was");
        assert_eq!(pulls(rig, &spec(every), 4).await, Ok(0));
        assert_eq!(pulls(rig, &spec(PullPolicy::Every(Millis(0))), 5).await, Ok(1));
        pushed.remove();
        let Err(PrepareError::Image(why)) = pulls(rig, &spec(PullPolicy::Never), 6).await else { panic!() };
        assert!(why.contains("pull_policy: never"), "{why}");
        assert_eq!(pulls(rig, &spec(PullPolicy::Missing), 6).await, Ok(1));
    });
}

fn again() {
    run(async |rig| {
        let registry = Registry::open();
        let pushed = push(rig, &registry, "v1");
        pushed.remove();
        let spec = of_image(rig, pushed.name(), PullPolicy::Always);
        let mut wanted = wish(&rig.slot("web"), &spec);
        let first = rig.engine.prepare(wanted.clone(), |_| {}).await.unwrap();
        let asked = registry.manifests_asked();
        wanted.generation += 1;
        let second = rig.engine.prepare(wanted, |_| {}).await.unwrap();
        assert!(registry.manifests_asked() > asked, "it was fetched");
        assert_eq!(second, first, "the same image, and so the same container");
        assert_eq!(second.image, pushed.id());
    });
}

fn shared() {
    run(async |rig| {
        let registry = Registry::open();
        let pushed = push(rig, &registry, "v1");
        pushed.remove();
        let spec = of_image(rig, pushed.name(), PullPolicy::Missing);
        rig.prepare(&rig.slot("alone"), &spec).await.unwrap();
        let alone = registry.manifests_asked();
        assert!(alone > 0);
        pushed.remove();
        let slots: Vec<_> = (1..=5).map(|n| rig.slot(&format!("s{n}"))).collect();
        let prepares = slots.iter().map(|slot| rig.prepare(slot, &spec));
        let all = futures_util::future::join_all(prepares).await;
        let ids: std::collections::BTreeSet<_> = all.into_iter().map(|one| one.unwrap().image).collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(registry.manifests_asked(), 2 * alone);
    });
}

fn credentials() {
    run(async |rig| {
        let registry = Registry::with_password();
        let pushed = push(rig, &registry, "v1");
        pushed.remove();
        let spec = of_image(rig, pushed.name(), PullPolicy::Missing);
        let Err(PrepareError::Image(why)) = rig.prepare(&rig.slot("web"), &spec).await else { panic!() };
        assert!(why.contains(&format!("docker login {}", registry.address)), "{why}");
        rig.log_in(&registry, "wrong");
        let Err(PrepareError::Image(why)) = rig.prepare(&rig.slot("web"), &spec).await else { panic!() };
        assert!(why.contains("refuses the credentials") && !why.contains("wrong"), "{why}");
        rig.log_in(&registry, Registry::PASSWORD);
        rig.prepare(&rig.slot("web"), &spec).await.unwrap();
    });
}

fn refused() {
    run(async |rig| {
        let registry = Registry::open();
        let pushed = push(rig, &registry, "v1");
        let other = pushed.name().replace(":v1", ":v2");
        let nowhere = "127.0.0.1:1/web:v1";
        let unknown = pushed.name().replace("team/web", "team/other");
        for (name, words) in
            [(other.as_str(), "no such tag"), (nowhere, "cannot be reached"), (unknown.as_str(), "has no")]
        {
            let said = rig.prepare(&rig.slot("web"), &of_image(rig, name, PullPolicy::Missing)).await;
            let Err(PrepareError::Image(why)) = said else { panic!("{said:?}") };
            assert!(why.contains(words) && why.contains(name), "{why}");
        }
        let mut built = of_image(rig, &other, PullPolicy::Missing);
        of(&mut built).build = Some(Default::default());
        let Err(PrepareError::Image(why)) = rig.prepare(&rig.slot("web"), &built).await else { panic!() };
        assert!(why.contains("to be built first"), "{why}");
    });
}

//! What other hands do to what runs.

use std::fs::File;
use std::path::Path;

use upbeat_drivers::docker::{Drift, EngineEvent, PrepareError, Seen, Taken};
use upbeat_model::Attempt;
use upbeat_model::project::Signal;
use upbeat_needs::{Need, Test};

use crate::rig::{Rig, run};

pub(crate) const CASES: &[Test] = &[
    Test::needing(&[Need::DOCKER], "who_removes_stops_or_restarts_a_container_is_told_of", taken),
    Test::needing(&[Need::DOCKER], "a_signal_is_no_end_and_neither_is_ours_by_hand", signals),
    Test::needing(&[Need::DOCKER], "what_was_paused_renamed_or_put_out_of_its_network_is_mended", drifts),
    Test::needing(&[Need::DOCKER], "what_is_not_ours_is_not_touched", others),
    Test::needing(
        &[Need::ROOT, Need::DOCKER],
        "what_the_engine_once_failed_to_remove_is_removed_and_not_waited_for",
        dead,
    ),
];

async fn is_taken(rig: &mut Rig, service: &str, attempt: u64, how: &[Taken]) {
    match rig.event().await {
        EngineEvent::Taken { slot, attempt: which, how: told } => {
            assert_eq!((slot, which), (rig.slot(service), Attempt(attempt)));
            assert!(how.contains(&told), "{told:?}");
        }
        event => panic!("{event:?}"),
    }
}

fn taken() {
    run(async |rig| {
        rig.hears().await;
        let slot = rig.slot("web");
        let id = rig.up(&slot, 1, &rig.lasting()).await;
        rig.by_hand(&id, "stop");
        is_taken(rig, "web", 1, &[Taken::StoppedByHand]).await;
        rig.up(&slot, 2, &rig.lasting()).await;
        rig.by_hand(&id, "kill");
        is_taken(rig, "web", 2, &[Taken::StoppedByHand]).await;
        rig.up(&slot, 3, &rig.lasting()).await;
        rig.by_hand(&id, "restart");
        // What is heard of it first is that it was stopped, if the engine is asked before it runs again.
        is_taken(rig, "web", 3, &[Taken::Restarted, Taken::StoppedByHand]).await;
        let Seen::Running { attempt, .. } = rig.seen(&slot).await else { panic!() };
        assert_eq!(attempt, Attempt(3));
        let gone = rig.docker.call("DELETE", &format!("/containers/{id}?force=1"), &serde_json::Value::Null);
        assert_eq!(gone.0, 204);
        is_taken(rig, "web", 3, &[Taken::Removed, Taken::StoppedByHand]).await;
        let Seen::Ended { attempt, container, .. } = rig.seen(&slot).await else { panic!() };
        assert_eq!((attempt, container), (Attempt(3), None));
        rig.hears_nothing();
    });
}

fn signals() {
    run(async |rig| {
        rig.hears().await;
        let slot = rig.slot("web");
        let script = "trap 'exit 4' TERM; trap : HUP; while :; do sleep 0.1; done";
        let id = rig.up(&slot, 1, &rig.shell(script)).await;
        rig.by_hand(&id, "kill?signal=HUP");
        // Ours is no other hand's, though it ends it.
        rig.engine.signal(&slot, Attempt(1), Signal::TERM).await.unwrap();
        let EngineEvent::Exited { exit, .. } = rig.event().await else { panic!() };
        assert_eq!(exit.to_string(), "exit 4");
        rig.hears_nothing();
    });
}

async fn drifted(rig: &mut Rig, wanted: &[Drift]) {
    let EngineEvent::Drifted { attempt, drift, .. } = rig.event().await else { panic!() };
    assert_eq!((attempt, drift.as_slice()), (Attempt(1), wanted));
}

fn drifts() {
    run(async |rig| {
        rig.hears().await;
        let slot = rig.slot("web");
        let mut spec = rig.lasting();
        let network = rig.network("front");
        rig.in_networks(&mut spec, &[&network]);
        let id = rig.up(&slot, 1, &spec).await;
        let at = rig.docker.inspect(&id).unwrap()["State"]["StartedAt"].clone();

        rig.by_hand(&id, "pause");
        drifted(rig, &[Drift::Paused]).await;
        rig.engine.mend(&slot, Attempt(1)).await.unwrap();
        drifted(rig, &[]).await;

        let odd = format!("{}-odd", rig.name);
        rig.by_hand(&id, &format!("rename?name={odd}"));
        drifted(rig, &[Drift::Renamed(odd)]).await;
        rig.engine.mend(&slot, Attempt(1)).await.unwrap();
        drifted(rig, &[]).await;

        let leave = serde_json::json!({ "Container": id, "Force": true });
        rig.docker.post(&format!("/networks/{}/disconnect", network.name), &leave);
        let gone =
            rig.docker.call("DELETE", &format!("/networks/{}", network.name), &serde_json::Value::Null);
        assert_eq!(gone.0, 204);
        drifted(rig, &[Drift::Disconnected(network.name.clone())]).await;
        let Seen::Running { drift, .. } = rig.seen(&slot).await else { panic!() };
        assert_eq!(drift, [Drift::Disconnected(network.name.clone())]);
        rig.engine.mend(&slot, Attempt(1)).await.unwrap();
        drifted(rig, &[]).await;
        let now = rig.docker.inspect(&id).unwrap();
        let aliases = &now["NetworkSettings"]["Networks"][&network.name]["Aliases"];
        assert!(aliases.as_array().unwrap().contains(&"web".into()), "{aliases}");
        assert_eq!(now["State"]["StartedAt"], at, "it ran all the time");
        rig.hears_nothing();
    });
}

/// An engine that finds something in the way in the directory of a container leaves it half removed.
fn dead() {
    run(async |rig| {
        let slot = rig.slot("web");
        let old = rig.up(&slot, 1, &rig.shell("exit 0")).await;
        assert!(matches!(rig.event().await, EngineEvent::Exited { .. }));
        let info = rig.docker.get("/info");
        let dir = Path::new(info["DockerRootDir"].as_str().unwrap()).join("containers").join(&old);
        let held = Unmovable::file(&dir.join("held"));
        let removed = rig.docker.call("DELETE", &format!("/containers/{old}"), &serde_json::Value::Null);
        drop(held);
        assert_eq!(removed.0, 500, "{removed:?}");
        assert_eq!(rig.docker.inspect(&old).unwrap()["State"]["Status"], "dead");
        let new = rig.up(&slot, 2, &rig.lasting()).await;
        assert!(new != old && rig.docker.inspect(&old).is_none());
    });
}

/// A file that nobody can delete while this is held.
struct Unmovable(File);

impl Unmovable {
    fn file(path: &Path) -> Self {
        let file = File::create(path).unwrap();
        rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::IMMUTABLE).unwrap();
        Self(file)
    }
}

impl Drop for Unmovable {
    fn drop(&mut self) {
        rustix::fs::ioctl_setflags(&self.0, rustix::fs::IFlags::empty()).unwrap();
    }
}

fn others() {
    run(async |rig| {
        let slot = rig.slot("web");
        let name = format!("{}-web-1", rig.name);
        let body = serde_json::json!({
            "Image": crate::rig::image().name(), "Cmd": ["true"], "Labels": {
                "test": rig.name, "io.upbeat.owner": "somebody", "io.upbeat.app": rig.name,
                "io.upbeat.service": "web", "io.upbeat.slot": "1",
            },
        });
        let made = rig.docker.post(&format!("/containers/create?name={name}"), &body);
        let refused = rig.prepare(&slot, &rig.lasting()).await;
        let Err(PrepareError::Refused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains(&name) && why.contains("container_name"), "{why}");
        assert_eq!(rig.seen(&slot).await, Seen::Never);
        rig.engine.remove(&slot, &[]).await.unwrap();
        assert_eq!(rig.engine.slots().await.unwrap(), []);
        assert!(rig.docker.inspect(made["Id"].as_str().unwrap()).is_some());
    });
}

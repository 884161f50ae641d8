//! The rules of `docs/plans.md`, each by hand.

use upbeat_model::plan::{ContainerState, HostPort, Kept, Lock, Strategy, Task};
use upbeat_model::project::container::{Network, Protocol, PullPolicy, Volume};

use super::scene::{Scene, at, in_network, needing, of, of_image, probed, publishing, writing};
use super::*;

/// Running with one command, wanted with another; images are there.
fn updated(names: &[&str], make: impl Fn(&str, &str) -> Service) -> Scene {
    names.iter().fold(Scene::default().image("alpine:latest"), |scene, name| {
        scene.runs(name, make(name, "old"), 1).wants(name, make(name, "new"), 2)
    })
}

#[test]
fn all_that_is_new_is_there_before_anything_stops_with_few_edges() {
    let lines = updated(&["a", "b", "c"], |_, command| of(command)).lines();
    assert_eq!(
        lines[..7],
        [
            "1. create container for service 'a' of app 'a0'",
            "2. create container for service 'b' of app 'a0'",
            "3. create container for service 'c' of app 'a0'",
            "4. have everything new of app 'a0' [after 1, 2, 3]",
            "5. stop container for service 'a' of app 'a0' [after 4]",
            "6. stop container for service 'b' of app 'a0' [after 4]",
            "7. stop container for service 'c' of app 'a0' [after 4]",
        ]
    );
}

#[test]
fn one_image_is_pulled_once() {
    let scene = Scene::default().wants("a", of_image("nginx"), 1).wants("b", of_image("nginx:latest"), 1);
    let scene = scene.wants("c", of_image("redis"), 1);
    assert_eq!(scene.lines()[..2], ["1. pull image 'nginx:latest'", "2. pull image 'redis:latest'"]);
    assert_eq!(scene.plan().steps.len(), 8);
}

#[test]
fn dependents_start_after_and_stop_before() {
    let make = |name: &str, command: &str| match name {
        "web" => needing(of(command), &["db:healthy", "job:completed"]),
        "db" => probed(of(command)),
        _ => of(command),
    };
    let lines = updated(&["db", "job", "web"], make).lines();
    assert_eq!(
        lines[4..],
        [
            "5. stop container for service 'web' of app 'a0' [after 4]",
            "6. stop container for service 'db' of app 'a0' [after 4, 5]",
            "7. stop container for service 'job' of app 'a0' [after 4, 5]",
            "8. remove container for service 'web' of app 'a0' [after 5]",
            "9. remove container for service 'db' of app 'a0' [after 6]",
            "10. remove container for service 'job' of app 'a0' [after 7]",
            "11. start container for service 'db' of app 'a0' [after 9]",
            "12. start container for service 'job' of app 'a0' [after 10]",
            "13. wait until service 'db' of app 'a0' is healthy [after 11]",
            "14. wait until service 'job' of app 'a0' is completed [after 12]",
            "15. start container for service 'web' of app 'a0' [after 8, 13 healthy, 14 completed]",
            "Interrupted: db-1 from step 6 to step 11; job-1 from step 7 to step 12; web-1 from step 5 to step 15.",
        ]
    );
}

#[test]
fn start_first_runs_both_for_a_while() {
    let scene = updated(&["web"], |_, command| probed(of(command))).by("web", Strategy::StartFirst);
    assert_eq!(
        scene.lines(),
        [
            "1. create container for service 'web' of app 'a0'",
            "2. start container beside the old one for service 'web' of app 'a0' [after 1]",
            "3. wait until service 'web' of app 'a0' is healthy [after 2]",
            "4. stop container for service 'web' of app 'a0' [after 1, 3 healthy]",
            "5. remove container for service 'web' of app 'a0' [after 4]",
            "Nothing that runs is interrupted.",
        ]
    );
}

#[test]
fn two_that_cannot_run_side_by_side_are_replaced_stop_first_and_the_plan_says_so() {
    let data = Volume::new("data", "a0_data");
    let note = |scene: Scene| {
        let plan = scene.volume(&data).by("web", Strategy::StartFirst).plan();
        (plan.steps.len(), plan.notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    };
    let says = |why: &str| (4, format!("`web` is replaced stop-first, not start-first: {why}"));
    let published = updated(&["web"], |_, command| publishing(of(command), 8080));
    assert_eq!(note(published), says("both copies would publish port 8080/tcp"));
    let shared = updated(&["web"], |_, command| writing(of(command), &data));
    assert_eq!(note(shared), says("both copies would write to `a0_data`"));
    let several = updated(&["web", "web-2"], |_, command| writing(of(command), &data));
    assert_eq!(note(several).1, "");
    let resting = updated(&["db", "web"], |name, command| match name {
        "web" => needing(of(command), &["db"]),
        _ => of(command),
    });
    assert_eq!(note(resting).1, says("`db`, which it rests on, stops too").1);
}

#[test]
fn recreate_makes_nothing_beside_what_runs() {
    let scene = updated(&["web"], |_, command| of(command)).by("web", Strategy::Recreate);
    assert_eq!(
        scene.lines()[..4],
        [
            "1. stop container for service 'web' of app 'a0'",
            "2. remove container for service 'web' of app 'a0' [after 1]",
            "3. create container for service 'web' of app 'a0' [after 2]",
            "4. start container for service 'web' of app 'a0' [after 3]",
        ]
    );
}

#[test]
fn a_network_of_other_settings_is_made_anew_when_nobody_is_in_it() {
    let before = Network::new("net", "a0_net");
    let after = Network { internal: true, ..before.clone() };
    let mut scene = Scene::default().image("alpine:latest").network(&before);
    scene = scene.runs("a", in_network(of("run"), &before), 1).runs("old", in_network(of("run"), &before), 1);
    scene = scene.runs("other", of("run"), 1).wants("other", of("run"), 2);
    scene = scene.wants("a", in_network(of("run"), &after), 2);
    assert_eq!(
        scene.lines(),
        [
            "1. stop container for service 'a' of app 'a0'",
            "2. stop container for service 'old' of app 'a0'",
            "3. remove container for service 'a' of app 'a0' [after 1]",
            "4. remove container for service 'old' of app 'a0' [after 2]",
            "5. remove network 'a0_net' [after 3, 4]",
            "6. create network 'a0_net' [after 5]",
            "7. create container for service 'a' of app 'a0' [after 3, 6]",
            "8. start container for service 'a' of app 'a0' [after 7]",
            "Interrupted: a-1 from step 1 to step 8; old-1 from step 2, for good.",
        ]
    );
    assert_eq!(scene.plan().unchanged, 1);
}

#[test]
fn networks_go_with_the_last_that_used_them_and_volumes_only_when_asked() {
    let (net, data) = (Network::new("net", "a0_net"), Volume::new("data", "a0_data"));
    let used = || writing(in_network(of("run"), &net), &data);
    let mut scene = Scene::default().network(&net).volume(&data).runs("a", used(), 1).runs("b", used(), 1);
    let gone = |scene: &Scene| scene.lines()[4..].to_vec();
    assert_eq!(
        gone(&scene),
        [
            "5. remove network 'a0_net' [after 3, 4]",
            "Interrupted: a-1 from step 1, for good; b-1 from step 2, for good.",
        ]
    );
    scene.how.volumes = Volumes::Remove;
    assert_eq!(gone(&scene)[1], "6. remove volume 'a0_data' and what is in it [after 3, 4]");
    let kept = scene.wants("b", used(), 1);
    assert_eq!(kept.plan().steps.len(), 2);
}

#[test]
fn a_volume_that_was_made_otherwise_is_used_as_it_is_and_noted() {
    let (data, other) =
        (Volume::new("data", "v"), Volume { driver: Some("x".into()), ..Volume::new("data", "v") });
    let scene = Scene::default().image("alpine:latest").volume(&data).wants("a", writing(of("x"), &other), 1);
    assert_eq!(
        scene.lines()[3..],
        [
            "Note: `a` uses the volume `v` as it is, though it was made otherwise than the file says now: it may hold data \
          (remove it to have it made anew)."
        ]
    );
    let mut another = scene;
    another.world.volumes.get_mut("v").unwrap().app = Some(AppName::new("b0").unwrap());
    assert!(another.lines()[3].contains("is not of this app"), "{:?}", another.lines());
}

#[test]
fn a_network_that_others_are_in_is_neither_made_anew_nor_removed() {
    let before = Network::new("net", "a0_net");
    let after = Network { internal: true, ..before.clone() };
    let there = || {
        let mut scene = Scene::default().image("alpine:latest").network(&before);
        scene.world.strangers.insert("a0_net".into(), ["guest".to_owned(), "visitor".to_owned()].into());
        scene.runs("a", in_network(of("run"), &before), 1)
    };
    assert_eq!(
        there().wants("a", in_network(of("run"), &after), 2).refusal(),
        "`a-1` needs network `a0_net` with other settings than it was made with, so it has to be made anew; but \
         `guest`, `visitor` is in it and is not of this app (take that out: `docker network disconnect a0_net \
         guest`, or leave the network as it was)"
    );
    assert_eq!(there().wants("a", in_network(of("run"), &before), 1).plan().steps, []);
    assert_eq!(
        there().lines()[2..],
        [
            "Interrupted: a-1 from step 1, for good.",
            "Note: the network `a0_net` is needed no more and stays, as `guest`, `visitor` is in it, which is not of \
             this app.",
        ]
    );
    let mut empty = there();
    empty.world.strangers.clear();
    let plan = empty.plan();
    assert_eq!(plan.steps[2].task, Task::RemoveNetwork { network: "a0_net".into() });
    assert_eq!(plan.steps[2].reason, StepReason::NotNeeded);
    let mut of_another = there().wants("a", in_network(of("run"), &before), 1);
    of_another.world.networks.get_mut("a0_net").unwrap().app = Some(AppName::new("b0").unwrap());
    assert!(of_another.refusal().contains("one of that name is there and is not this app's"));
}

#[test]
fn a_port_is_taken_over_when_it_is_free() {
    let scene = Scene::default().image("alpine:latest").runs("old", publishing(of("run"), 80), 1);
    let scene = scene.wants("new", publishing(of("run"), 80), 2);
    assert_eq!(
        scene.lines()[..4],
        [
            "1. create container for service 'new' of app 'a0'",
            "2. stop container for service 'old' of app 'a0' [after 1]",
            "3. remove container for service 'old' of app 'a0' [after 2]",
            "4. start container for service 'new' of app 'a0' [after 1, 3]",
        ]
    );
}

#[test]
fn a_lock_refuses_and_force_is_noted() {
    let mut scene = updated(&["web"], |_, command| of(command));
    let lock = Lock { holder: "backup (pid 12)".into(), since: Some("2026-03-01 10:00".into()) };
    scene.world.locks.insert((AppName::new("a0").unwrap(), ServiceName::new("web").unwrap()), lock);
    assert_eq!(
        scene.refusal(),
        "`web` of `a0` shall be interrupted, but it holds its update lock, held by backup (pid 12) since \
         2026-03-01 10:00 (wait until it lets go, or use `--force`)"
    );
    scene.how.locks = Locks::Forced;
    let last = scene.lines().pop().unwrap();
    assert_eq!(
        last,
        "Note: `web` is interrupted though it holds its update lock (held by backup (pid 12) since 2026-03-01 \
         10:00)."
    );
    let unlocked = Scene { wanted: scene.current.clone(), how: How::default(), ..scene };
    assert_eq!(unlocked.plan().steps, []);
}

#[test]
fn two_wishes_that_contradict_each_other_are_named() {
    let refuse = |scene: Scene, says: &str| assert_eq!(scene.refusal(), says);
    let fresh = || Scene::default().image("alpine:latest");
    let twice = fresh().wants("a", publishing(of("x"), 80), 1).wants("b", publishing(of("x"), 80), 1);
    refuse(twice, "`b-1` shall publish port 80/tcp, but `a-1` shall publish it too");
    let stays = fresh().runs("z", publishing(of("x"), 80), 1).wants("a", publishing(of("x"), 80), 2);
    let stays = Scene {
        wanted: [stays.wanted.clone(), stays.current.clone()].into_iter().flatten().collect(),
        ..stays
    };
    refuse(stays, "`z-1` shall publish port 80/tcp, but `a-1` shall publish it too");
    let stopped = fresh().wants("web", needing(of("x"), &["db:healthy"]), 1).wants_stopped("db", of("x"), 1);
    refuse(stopped, "`web-1` shall run, for which `db` has to be healthy; but that shall be stopped");
    let missing = fresh().wants("web", needing(of("x"), &["db"]), 1);
    refuse(missing, "`web-1` shall run, for which `db` has to be started; but it is not declared");
    let mut never = of("x");
    never.container.as_mut().unwrap().pull_policy = PullPolicy::Never;
    refuse(
        Scene::default().wants("web", never, 1),
        "`web-1` shall run image `alpine:latest`, but that is not there and its `pull_policy` is `never` (pull it, \
         or use another policy)",
    );
    let (data, other) =
        (Volume::new("data", "v"), Volume { driver: Some("x".into()), ..Volume::new("data", "v") });
    let two = fresh().wants("a", writing(of("x"), &data), 1).wants("b", writing(of("x"), &other), 1);
    refuse(two, "`a-1` and `b-1` both want volume `v`, but with different settings");
    let mut foreign = fresh().wants("a", of("x"), 1);
    foreign.world.foreign.insert("a0-a-1".into(), Vec::new());
    assert!(foreign.refusal().contains("`a0-a-1`, but one of that name is there and is not this app's"));
    let mut held = fresh().wants("a", publishing(of("x"), 80), 1);
    let port = HostPort { port: 80, protocol: Protocol::Tcp, ip: Some("10.0.0.1".into()) };
    held.world.foreign.insert("other".into(), vec![HostPort { port: 81, ..port.clone() }]);
    assert_eq!(held.plan().steps.len(), 2);
    held.world.foreign.insert("proxy".into(), vec![port]);
    assert!(held.refusal().contains("`a-1` shall publish port 80/tcp, but container `proxy`"));
    let external = Network { external: true, ..Network::new("net", "shared") };
    let nowhere = fresh().wants("a", in_network(of("x"), &external), 1);
    assert!(nowhere.refusal().contains("network `shared`, which is declared `external` and is not there"));
}

#[test]
fn processes_and_containers_wait_for_each_other() {
    let mut scene = Scene::default().image("alpine:latest");
    scene.wanted.insert(at("job"), wish(Goal::Running, service("job", &[])));
    let web = service("web", &[("db", Condition::Healthy, false)]);
    scene.wanted.insert(at("web"), wish(Goal::Running, web));
    let scene = scene.wants("db", probed(needing(of("db"), &["job:completed"])), 1);
    assert_eq!(
        scene.lines(),
        [
            "1. create container for service 'db' of app 'a0'",
            "2. start process of service 'job' of app 'a0'",
            "3. start container for service 'db' of app 'a0' [after 1, 2 completed]",
            "4. wait until service 'db' of app 'a0' is healthy [after 3]",
            "5. start process of service 'web' of app 'a0' [after 4 healthy]",
            "Nothing that runs is interrupted.",
        ]
    );
}

#[test]
fn a_service_may_become_a_container_and_a_process_again() {
    let process = wish(Goal::Running, service("web", &[]));
    let mut scene = Scene::default().image("alpine:latest").wants("web", of("web"), 2);
    scene.current.insert(at("web"), process.clone());
    scene.world.observed.insert(at("web"), seen(Phase::Healthy, &process));
    assert_eq!(
        scene.lines()[..3],
        [
            "1. create container for service 'web' of app 'a0'",
            "2. stop process of service 'web' of app 'a0' [after 1]",
            "3. start container for service 'web' of app 'a0' [after 1, 2]",
        ]
    );
    let mut back = Scene::default().runs("web", of("web"), 1);
    back.wanted.insert(at("web"), process);
    assert_eq!(
        back.lines()[..3],
        [
            "1. stop container for service 'web' of app 'a0'",
            "2. remove container for service 'web' of app 'a0' [after 1]",
            "3. start process of service 'web' of app 'a0' [after 2]",
        ]
    );
}

#[test]
fn a_restart_keeps_the_container_and_what_ended_well_stays_so() {
    let mut scene = Scene::default().runs("web", of("run"), 1).wants("web", of("run"), 1);
    assert_eq!(scene.plan().steps, []);
    let again = scene.wanted.get_mut(&at("web")).unwrap();
    (again.generation, again.ask) = (2, Ask::Restart);
    assert_eq!(
        scene.lines()[..2],
        [
            "1. stop container for service 'web' of app 'a0'",
            "2. start container for service 'web' of app 'a0' [after 1]",
        ]
    );
    let job = Scene::default().has("job", of("run"), 1, ContainerState::Completed).wants("job", of("run"), 1);
    assert_eq!(job.plan().steps, []);
    let mut removed = job.clone();
    removed.world.containers.clear();
    assert_eq!(removed.plan().steps, []);
}

/// A container somebody removed by hand comes back; one that is left over goes.
#[test]
fn drift_is_mended() {
    let mut gone =
        Scene::default().image("alpine:latest").runs("web", of("run"), 1).wants("web", of("run"), 1);
    gone.world.containers.clear();
    assert_eq!(gone.plan().steps.len(), 2);
    let left = Scene::default().has("web", of("other"), 0, ContainerState::Created).runs("web", of("run"), 1);
    let left = left.wants("web", of("run"), 1);
    assert_eq!(left.lines()[0], "1. remove container for service 'web' of app 'a0'");
    assert_eq!(left.plan().steps.len(), 1);
    let mut moved =
        Scene::default().image("alpine:latest").runs("web", of("run"), 1).wants("web", of("run"), 1);
    moved.world.images.insert("alpine:latest".into(), "id of another".into());
    assert_eq!(moved.plan().steps[0].reason, StepReason::Changed { fields: vec!["image".into()] });
}

#[test]
fn a_plan_is_drawn_and_reads_back() {
    let plan = Scene::tracked(&[], Some(1)).wants("web", of("run"), 1).plan();
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["steps"][1]["action"], "pull");
    assert_eq!(json["steps"][4]["goal"], "running");
    assert_eq!(serde_json::from_value::<Plan>(json).unwrap(), plan);
    assert!(plan.dot().contains("  s1 -> s3;\n"), "{}", plan.dot());
    assert!(plan.mermaid().contains("  s5[\"5. start container for service 'web'"), "{}", plan.mermaid());
}

#[test]
fn a_volume_that_somebody_else_made_is_used_as_it_is_and_that_is_said() {
    let data = Volume::new("data", "v");
    let mut scene = Scene::default().image("alpine:latest").wants("a", writing(of("x"), &data), 1);
    scene.world.volumes.insert("v".into(), Kept::default());
    let plan = scene.plan();
    let notes: Vec<String> = plan.notes.iter().map(ToString::to_string).collect();
    let wanted = "`a` uses the volume `v` as it is: it was there, and is not of this app (`external: true` says that this is meant)";
    assert_eq!(notes, [wanted]);
    assert!(!plan.steps.iter().any(|step| format!("{step:?}").contains("CreateVolume")), "{plan:?}");
}

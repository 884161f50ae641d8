//! An engine in a program: one script on both stores, and what controllers of the program may do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use upbeat_model::rollout::Reason;

use super::*;

type Targets = BTreeMap<String, ClientState>;

const WEB: (&str, &str) = ("prod", "web");

/// A target is well when it has been for longer than no second at all.
fn options(batch: u32, duration: u64) -> Options {
    Options {
        batch: Amount::Percent(batch),
        success_timeout: Millis(0),
        duration_timeout: Millis::seconds(duration),
        ..Options::default()
    }
}

fn fleet(count: usize) -> Targets {
    (0..count).map(|n| (format!("t{n}"), ClientState::new(format!("t{n}"), "v1"))).collect()
}

fn count(told: &[ClientState], version: &str) -> usize {
    told.iter().filter(|told| told.version == version).count()
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

/// The reports of a fleet, and what it is told.
async fn call(engine: &RolloutEngine, (ns, entity): (&str, &str), targets: &Targets) -> Vec<ClientState> {
    engine.orchestrate(ns, entity, targets.values().cloned().collect()).await.unwrap()
}

/// Everybody does what they are told; who is not among them is not there any more.
fn obey(targets: &mut Targets, told: &[ClientState]) {
    let obeyed = told.iter().map(|told| {
        let was = targets.get(&told.name).filter(|was| was.version == told.version);
        let now = ClientState { group: told.group.clone(), ..ClientState::new(&told.name, &told.version) };
        (told.name.clone(), was.cloned().unwrap_or(now))
    });
    *targets = obeyed.collect();
}

/// `v1` is good, and `v2` was asked for, and is what is rolled out next.
async fn establish(engine: &RolloutEngine, id: (&str, &str), targets: &Targets, next: Options) {
    let (ns, entity) = id;
    let declared = Options { success_percent: 0, duration_timeout: Millis(0), ..options(100, 0) };
    let cautions = engine.set_rollout_options(ns, entity, Some(declared)).await.unwrap();
    assert_eq!(cautions, [Caution::NothingHasToSucceed]);
    engine.set_target_version(ns, entity, "v1").await.unwrap();
    call(engine, id, targets).await;
    assert_eq!(good(engine, id).await, "v1");
    engine.set_rollout_options(ns, entity, Some(next)).await.unwrap();
    engine.set_target_version(ns, entity, "v2").await.unwrap();
    pass(1).await;
    assert_eq!(count(&call(engine, id, targets).await, "v2"), 0);
}

async fn good(engine: &RolloutEngine, (ns, entity): (&str, &str)) -> String {
    let info = engine.get_rollout_info(ns, entity).await.unwrap();
    info.good.map(String::from).unwrap_or_default()
}

/// On a store in memory, and on one in a directory.
macro_rules! on_both {
    ($($script:ident)*) => { $(mod $script {
        #[tokio::test(start_paused = true)]
        async fn in_memory() {
            super::$script(super::RolloutEngine::in_memory().await.unwrap()).await;
        }

        #[tokio::test(start_paused = true)]
        async fn in_a_directory() {
            let directory = tempfile::tempdir().unwrap();
            let engine = super::RolloutEngine::open(directory.path().join("made")).await.unwrap();
            super::$script(engine).await;
        }
    })* };
}

on_both! { moves_and_goes_back groups_and_names people_have_a_say blue_green_goes_forward blue_green_goes_back }

/// Rows "Rollout", "Rollback" and "Several namespaces × entities" of `spec/nixmade.md` 2.(b).
async fn moves_and_goes_back(engine: RolloutEngine) {
    let (mut targets, mut others) = (fleet(3), fleet(3));
    let other = ("test", "web");
    establish(&engine, WEB, &targets, options(5, 10)).await;
    establish(&engine, other, &others, options(5, 2)).await;
    for moved in 1..=3 {
        let told = call(&engine, WEB, &targets).await;
        assert_eq!(count(&told, "v2"), moved);
        obey(&mut targets, &told);
        pass(1).await;
        call(&engine, WEB, &targets).await;
        pass(1).await;
    }
    call(&engine, WEB, &targets).await;
    assert_eq!(good(&engine, WEB).await, "v2");
    let told = call(&engine, other, &others).await;
    assert_eq!(count(&told, "v2"), 1);
    obey(&mut others, &told);
    for state in others.values_mut().filter(|state| state.version == "v2") {
        (state.is_error, state.message) = (true, "down".into());
    }
    call(&engine, other, &others).await;
    pass(3).await;
    assert_eq!(count(&call(&engine, other, &others).await, "v1"), 2, "it is only found to be bad");
    let info = engine.get_rollout_info(other.0, other.1).await.unwrap();
    assert_eq!((info.bad, info.course), (Some(Version::new("v2").unwrap()), CourseWord::Back));
    assert_eq!(count(&call(&engine, other, &others).await, "v1"), 3);
    assert_eq!((good(&engine, other).await, good(&engine, WEB).await), ("v1".into(), "v2".into()));
    let refused = engine.set_target_version("test", "web", "v3").await;
    refused.unwrap();
    let refused = engine.set_target_version("test", "web", "v2").await.unwrap_err();
    assert!(matches!(refused, EngineError::Rollout(_)), "{refused}");
    engine.forgive("test", "web", "v2", None).await.unwrap();
    engine.set_target_version("test", "web", "v2").await.unwrap();
}

async fn groups_and_names(engine: RolloutEngine) {
    let mut targets = fleet(10);
    establish(&engine, WEB, &targets, options(5, 60)).await;
    let told = call(&engine, WEB, &targets).await;
    assert_eq!((count(&told, "v1"), count(&told, "v2")), (9, 1));
    let more = (0..10).map(|n| {
        let state = ClientState::new(format!("u{n}"), "v1").in_group("Group2").with_tag("ring", "2");
        (state.name.clone(), state)
    });
    targets.extend(more);
    engine.orchestrate_async("prod", "web", targets.values().cloned().collect()).await.unwrap();
    engine.set_rollout_options("prod", "api", None).await.unwrap();
    engine.set_target_version("test", "web", "v1").await.unwrap();
    let told = call(&engine, WEB, &targets).await;
    assert_eq!((count(&told, "v1"), count(&told, "v2")), (19, 1));
    assert_eq!(engine.get_client_state("prod", "web").await.unwrap(), told);
    let group = engine.get_client_group_state("prod", "web", "Group2").await.unwrap();
    assert_eq!((group.len(), count(&group, "v1"), group[0].tags["ring"].as_str()), (10, 10, "2"));
    assert!(engine.get_client_group_state("prod", "web", "Group").await.unwrap().is_empty());
    assert_eq!(engine.get_namespaces().await.unwrap(), ["prod", "test"]);
    assert_eq!(engine.get_entities("prod").await.unwrap(), ["api", "web"]);
    assert!(engine.get_entities("pro").await.unwrap().is_empty());
    engine.forget("prod", "api").await.unwrap();
    assert_eq!(engine.get_entities("prod").await.unwrap(), ["web"]);
    // What cannot be changes nothing.
    let unknown = engine.get_client_state("prod", "api").await.unwrap_err();
    assert!(unknown.to_string().starts_with("there is no entity `prod/api`"), "{unknown}");
    for (states, words) in [
        (vec![ClientState::new("", "v1")], "`name` must not be empty"),
        (vec![ClientState::new("a", "v\n1")], "a version must not have control characters"),
        (vec![ClientState::new("a", "v1"), ClientState::new("a", "v2")], "target `a` is reported twice"),
        (
            vec![ClientState::new("a", "v1").with_tag("", "x")],
            "the tags of target `a` must have no empty key",
        ),
    ] {
        let refused = engine.orchestrate("prod", "api", states).await.unwrap_err();
        assert!(refused.to_string().starts_with(words), "{refused}");
    }
    assert!(engine.set_target_version("", "web", "v1").await.is_err());
    assert!(engine.set_target_version("prod", "web", "").await.is_err());
    let wrong = Options { success_percent: 101, ..Options::default() };
    assert!(engine.set_rollout_options("prod", "api", Some(wrong)).await.is_err());
    let none = engine.orchestrate("prod", "x", vec![]).await.unwrap_err();
    assert!(none.to_string().starts_with("empty target version"), "{none}");
    assert_eq!(engine.get_entities("prod").await.unwrap(), ["web"]);
    engine.shutdown().await.unwrap();
    assert_eq!(
        engine.shutdown().await.unwrap_err().to_string(),
        "this engine was shut down: open another one"
    );
    assert!(matches!(engine.clone().get_namespaces().await, Err(EngineError::ShutDown)));
    assert!(matches!(engine.orchestrate("prod", "web", vec![]).await, Err(EngineError::ShutDown)));
}

async fn people_have_a_say(engine: RolloutEngine) {
    let mut targets = fleet(4);
    establish(&engine, WEB, &targets, options(5, 60)).await;
    let (ns, entity) = WEB;
    engine.pause(ns, entity, "ann").await.unwrap();
    assert_eq!(count(&call(&engine, WEB, &targets).await, "v2"), 0);
    let info = engine.get_rollout_info(ns, entity).await.unwrap();
    assert_eq!(info.paused_by.as_deref(), Some("ann"));
    engine.resume(ns, entity, "ann").await.unwrap();
    assert!(engine.resume(ns, entity, "ann").await.is_err());
    assert!(engine.approve(ns, entity, "ann").await.is_err(), "it waits at no gate");
    let told = call(&engine, WEB, &targets).await;
    assert_eq!(count(&told, "v2"), 1);
    obey(&mut targets, &told);
    engine.abort(ns, entity, "bob", "too slow").await.unwrap();
    let history = engine.get_history(ns, entity).await.unwrap();
    assert_eq!(history[0].reason, Reason::Aborted { by: "bob".into(), why: "too slow".into() });
    engine.retry(ns, entity, "bob").await.unwrap();
    engine.promote_all(ns, entity, "bob").await.unwrap();
    assert_eq!(good(&engine, WEB).await, "v2");
    engine.undo(ns, entity, "ann").await.unwrap();
    engine.force_target_version(ns, entity, "v4").await.unwrap();
    call(&engine, WEB, &targets).await;
    let info = engine.get_rollout_info(ns, entity).await.unwrap();
    assert_eq!(info.target, Some(Version::new("v4").unwrap()));
    // A canary, and a gate behind it.
    let stages = vec![Stage::canary(Amount::Count(1), Gate::Approval), Stage::rest()];
    let id = ("prod", "canaries");
    let mut targets = fleet(4);
    establish(&engine, id, &targets, options(100, 60)).await;
    let strategy = Strategy { stages, ..Strategy::default() };
    engine.set_strategy(id.0, id.1, Some(strategy)).await.unwrap();
    engine.force_target_version(id.0, id.1, "v3").await.unwrap();
    for _ in 0..4 {
        let told = call(&engine, id, &targets).await;
        obey(&mut targets, &told);
        pass(1).await;
    }
    assert_eq!(count(&call(&engine, id, &targets).await, "v3"), 1);
    engine.approve(id.0, id.1, "ann").await.unwrap();
    let told = call(&engine, id, &targets).await;
    assert_eq!(count(&told, "v3"), 4);
    let next = told.iter().find(|told| targets[&told.name].version != "v3").unwrap();
    engine.fail_target(id, ("", &next.name), "ann", "it burns").await.unwrap();
    call(&engine, id, &targets).await;
    assert_eq!(engine.get_rollout_info(id.0, id.1).await.unwrap().course, CourseWord::Back);
}

/// Not on the paused clock: a real process answers.
#[tokio::test]
async fn what_is_measured_decides_in_a_program_too() {
    let engine = RolloutEngine::in_memory().await.unwrap();
    let id = ("prod", "measured");
    let mut targets = fleet(2);
    let declared = Options { success_percent: 0, ..options(100, 60) };
    engine.set_rollout_options(id.0, id.1, Some(declared)).await.unwrap();
    engine.set_target_version(id.0, id.1, "v1").await.unwrap();
    call(&engine, id, &targets).await;
    let measured = |rate: &str| -> Strategy {
        let source = Source::Exec(["sh", "-c", &format!("echo {rate}")].map(Into::into).into());
        let cadence = Cadence::default();
        let measure = Measure { source, success: "result < 0.05".into(), failure: None, cadence };
        let analyses = vec![AnalysisSpec { name: "rate".into(), measure, after: None }];
        Strategy { analyses, ..Strategy::default() }
    };
    for (version, rate, course) in [("v3", "0.01", CourseWord::Steady), ("v4", "0.2", CourseWord::Back)] {
        engine.set_strategy(id.0, id.1, Some(measured(rate))).await.unwrap();
        engine.force_target_version(id.0, id.1, version).await.unwrap();
        let info = loop {
            let told = call(&engine, id, &targets).await;
            obey(&mut targets, &told);
            let info = engine.get_rollout_info(id.0, id.1).await.unwrap();
            let is_of_it = info.rolling == Some(Version::new(version).unwrap());
            if is_of_it && info.course != CourseWord::Forward {
                break info;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(info.course, course, "{:?}", info.reasons);
    }
    let past = engine.get_history(id.0, id.1).await.unwrap();
    assert_eq!(past[0].reason.to_string(), "analysis `rate` failed: 1 failed, and 0 may; last: 0.2");
    engine.shutdown().await.unwrap();
}

/// Makes new targets, and removes old ones.
struct BlueGreen {
    next: AtomicUsize,
}

impl TargetController for BlueGreen {
    async fn selection(
        &self,
        _: Vec<ClientState>,
        count: usize,
    ) -> Result<Vec<ClientState>, ControllerFailure> {
        let first = self.next.fetch_add(count, Ordering::SeqCst);
        Ok((first..first + count).map(|n| ClientState::new(format!("n{n}"), "")).collect())
    }

    async fn removal(
        &self,
        old: Vec<ClientState>,
        count: usize,
    ) -> Result<Vec<ClientState>, ControllerFailure> {
        Ok(old.into_iter().take(count).collect())
    }
}

/// Row "Blue-green rollout".
async fn blue_green_goes_forward(engine: RolloutEngine) {
    let mut targets = fleet(3);
    establish(&engine, WEB, &targets, options(5, 10)).await;
    let blue_green = BlueGreen { next: AtomicUsize::new(0) };
    engine.set_entity_target_controller("prod", "web", blue_green).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..12 {
        let told = call(&engine, WEB, &targets).await;
        seen.push((count(&told, "v2"), told.len()));
        obey(&mut targets, &told);
        pass(1).await;
    }
    seen.dedup();
    let moved: Vec<usize> = seen.iter().map(|(moved, _)| *moved).collect();
    assert!(moved.starts_with(&[1]) && moved.is_sorted() && moved.contains(&2), "{seen:?}");
    assert!(seen.iter().all(|(_, total)| (3..=4).contains(total)), "{seen:?}");
    assert_eq!(seen.last(), Some(&(3, 3)), "{seen:?}");
    assert_eq!(targets.keys().collect::<Vec<_>>(), ["n0", "n1", "n2"]);
    assert_eq!(good(&engine, WEB).await, "v2");
}

/// Row "Blue-green rollback".
async fn blue_green_goes_back(engine: RolloutEngine) {
    let mut targets = fleet(3);
    establish(&engine, WEB, &targets, options(5, 2)).await;
    let blue_green = BlueGreen { next: AtomicUsize::new(0) };
    engine.set_entity_target_controller("prod", "web", blue_green).await.unwrap();
    while !targets.contains_key("n1") {
        let told = call(&engine, WEB, &targets).await;
        obey(&mut targets, &told);
        pass(1).await;
    }
    for state in targets.values_mut().filter(|state| state.version == "v2") {
        state.is_error = true;
    }
    let told = call(&engine, WEB, &targets).await;
    obey(&mut targets, &told);
    pass(3).await;
    let told = call(&engine, WEB, &targets).await;
    obey(&mut targets, &told);
    let info = engine.get_rollout_info("prod", "web").await.unwrap();
    assert_eq!(info.bad, Some(Version::new("v2").unwrap()));
    for _ in 0..12 {
        let told = call(&engine, WEB, &targets).await;
        obey(&mut targets, &told);
        pass(1).await;
    }
    let told = call(&engine, WEB, &targets).await;
    assert_eq!((count(&told, "v1"), told.len()), (3, 3));
    let left: Vec<&str> = told.iter().map(|state| state.name.as_str()).collect();
    assert_eq!(left, ["n2", "t1", "t2"], "two that were there before, and one that was made");
    assert_eq!(good(&engine, WEB).await, "v1");
}

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Answers,
    Fails,
    Hangs,
    Panics,
}

/// To one question it does as it likes.
#[derive(Clone)]
struct Wayward(Arc<Mutex<(&'static str, Does)>>);

impl Wayward {
    fn does(&self, asked: &'static str, does: Does) {
        *self.0.lock().unwrap() = (asked, does);
    }

    async fn say<T>(&self, asked: &str, answer: T) -> Result<T, ControllerFailure> {
        let (about, does) = *self.0.lock().unwrap();
        match does {
            _ if about != asked => Ok(answer),
            Does::Answers => Ok(answer),
            Does::Fails => Err("not\ntoday".into()),
            Does::Hangs => std::future::pending().await,
            Does::Panics => panic!("a bug in {asked}"),
        }
    }
}

impl TargetController for Wayward {
    async fn selection(
        &self,
        all: Vec<ClientState>,
        _: usize,
    ) -> Result<Vec<ClientState>, ControllerFailure> {
        self.say("selection", all).await
    }

    async fn approval(&self, all: Vec<ClientState>) -> Result<Vec<ClientState>, ControllerFailure> {
        self.say("approval", all).await
    }

    async fn removal(&self, _: Vec<ClientState>, _: usize) -> Result<Vec<ClientState>, ControllerFailure> {
        self.say("removal", Vec::new()).await
    }

    async fn monitoring(&self, target: ClientState) -> Result<(), ControllerFailure> {
        assert_eq!((target.version.as_str(), target.tags.len()), ("v2", 0), "as it was reported");
        self.say("monitoring", ()).await
    }
}

impl MonitoringController for Wayward {
    async fn external_monitoring(&self, _: Vec<ClientState>) -> Result<(), ControllerFailure> {
        self.say("external monitoring", ()).await
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_controller_does_the_engine_goes_on() {
    let settings = EngineSettings { controller_time: Duration::from_secs(3), ..EngineSettings::default() };
    let engine = RolloutEngine::in_memory_with(settings).await.unwrap();
    let mut targets = fleet(3);
    establish(&engine, WEB, &targets, options(5, 600)).await;
    let wayward = Wayward(Arc::new(Mutex::new(("", Does::Answers))));
    engine.set_entity_target_controller("prod", "web", wayward.clone()).await.unwrap();
    engine.set_entity_monitoring_controller("prod", "web", wayward.clone()).await.unwrap();
    let ask = async |targets: &Targets| {
        let told = engine.orchestrate("prod", "web", targets.values().cloned().collect()).await;
        told.map_err(|error| error.to_string())
    };
    let all = [(Does::Fails, "not today"), (Does::Hangs, "timed out after 3s")];
    for asked in ["selection", "approval"] {
        for (does, words) in all {
            wayward.does(asked, does);
            assert_eq!(count(&ask(&targets).await.unwrap(), "v2"), 0);
            let reasons = engine.get_rollout_info("prod", "web").await.unwrap().reasons;
            let why = Reason::NotChosen { asked: asked.to_owned(), detail: words.to_owned() };
            assert!(reasons.contains(&why), "{reasons:?}");
        }
    }
    for asked in ["selection", "approval", "external monitoring"] {
        wayward.does(asked, Does::Panics);
        assert_eq!(
            ask(&targets).await.unwrap_err(),
            format!(
                "nothing was decided about rollout `prod/web`: its {asked} controller panicked: a bug in {asked}"
            )
        );
    }
    wayward.does("", Does::Answers);
    let told = ask(&targets).await.unwrap();
    assert_eq!(count(&told, "v2"), 1);
    obey(&mut targets, &told);
    ask(&targets).await.unwrap();
    pass(1).await;
    for (asked, failed) in [("removal", "target removal"), ("external monitoring", "external monitoring")] {
        for (does, words) in all {
            wayward.does(asked, does);
            assert_eq!(ask(&targets).await.unwrap_err(), format!("{failed} failed: {words}"));
        }
    }
    for asked in ["monitoring", "removal"] {
        wayward.does(asked, Does::Panics);
        assert!(ask(&targets).await.unwrap_err().ends_with(&format!("a bug in {asked}")));
    }
    let info = engine.get_rollout_info("prod", "web").await.unwrap();
    assert_eq!((info.course, info.bad), (CourseWord::Forward, None), "that is held against nobody");
    wayward.does("", Does::Answers);
    let told = ask(&targets).await.unwrap();
    assert_eq!(count(&told, "v2"), 2, "all is as if it had never been so");
    obey(&mut targets, &told);
    wayward.does("monitoring", Does::Fails);
    ask(&targets).await.unwrap();
    let info = engine.get_rollout_info("prod", "web").await.unwrap();
    assert_eq!(info.bad, Some(Version::new("v2").unwrap()));
}

/// Row "Save/load"; and nobody is moved without being asked about.
#[tokio::test(start_paused = true)]
async fn what_was_kept_goes_on_when_all_who_are_to_be_asked_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let engine = RolloutEngine::open(directory.path()).await.unwrap();
    let locked = RolloutEngine::open(directory.path()).await.err().unwrap();
    assert!(matches!(locked, EngineError::Open { .. }), "{locked}");
    let mut targets = fleet(3);
    establish(&engine, WEB, &targets, options(5, 600)).await;
    let wayward = Wayward(Arc::new(Mutex::new(("", Does::Answers))));
    engine.set_entity_target_controller("prod", "web", wayward.clone()).await.unwrap();
    engine.set_entity_monitoring_controller("prod", "web", wayward.clone()).await.unwrap();
    let told = call(&engine, WEB, &targets).await;
    obey(&mut targets, &told);
    engine.shutdown().await.unwrap();
    let engine = RolloutEngine::open(directory.path()).await.unwrap();
    assert_eq!(engine.get_client_state("prod", "web").await.unwrap(), told);
    let reports: Vec<ClientState> = targets.values().cloned().collect();
    for role in ["target", "monitoring"] {
        let refused = engine.orchestrate("prod", "web", reports.clone()).await.unwrap_err().to_string();
        let words = format!(
            "entity `prod/web` asks a {role} controller of this program, and none is registered: call \
             `set_entity_{role}_controller` for it"
        );
        assert!(refused.starts_with(&words), "{refused}");
        let refused = engine.orchestrate_async("prod", "web", reports.clone()).await.unwrap_err();
        assert!(matches!(refused, EngineError::NotRegistered { .. }), "{refused}");
        assert_eq!(engine.get_client_state("prod", "web").await.unwrap(), told, "nobody was moved");
        match role {
            "target" => {
                engine.set_entity_target_controller("prod", "web", wayward.clone()).await.unwrap();
            }
            _ => engine.set_entity_monitoring_controller("prod", "web", wayward.clone()).await.unwrap(),
        }
    }
    // Who is told by whom it decides about all others.
    engine.set_target_version("prod", "api", "v1").await.unwrap();
    engine.orchestrate("prod", "api", vec![]).await.unwrap();
    for _ in 0..8 {
        let told = call(&engine, WEB, &targets).await;
        obey(&mut targets, &told);
        pass(1).await;
    }
    assert_eq!(good(&engine, WEB).await, "v2");
}

/// Says that it is asked, and answers when it is told to.
#[derive(Clone, Default)]
struct Slow {
    asked: Arc<Notify>,
    answers: Arc<Notify>,
}

impl MonitoringController for Slow {
    async fn external_monitoring(&self, _: Vec<ClientState>) -> Result<(), ControllerFailure> {
        self.asked.notify_one();
        self.answers.notified().await;
        Ok(())
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_no_controller_keeps_what_was_reported_and_frees_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    // However slow this machine is: it answers, and is not taken for one that does not.
    let settings =
        EngineSettings { controller_time: Duration::from_secs(3_600), ..EngineSettings::default() };
    let engine = RolloutEngine::open_with(directory.path(), settings).await.unwrap();
    let targets: Vec<ClientState> = fleet(3).into_values().collect();
    engine.set_target_version("prod", "web", "v2").await.unwrap();
    engine.orchestrate("prod", "web", vec![]).await.unwrap();
    let slow = Slow::default();
    engine.set_entity_monitoring_controller("prod", "web", slow.clone()).await.unwrap();
    engine.orchestrate_async("prod", "web", targets).await.unwrap();
    slow.asked.notified().await;
    let told = engine.get_client_state("prod", "web").await.unwrap();
    assert_eq!((told.len(), count(&told, "v2")), (3, 0), "kept, and not decided yet");
    let other = engine.clone();
    let waits =
        tokio::spawn(
            async move { other.orchestrate("prod", "web", vec![ClientState::new("late", "v1")]).await },
        );
    while engine.get_client_state("prod", "web").await.unwrap().len() < 4 {
        tokio::task::yield_now().await;
    }
    // It never answers.
    engine.shutdown().await.unwrap();
    let given_up = waits.await.unwrap().unwrap_err().to_string();
    assert!(given_up.ends_with("is being shut down, and what was reported is kept"), "{given_up}");
    let engine = RolloutEngine::open(directory.path()).await.unwrap();
    let told = engine.get_client_state("prod", "web").await.unwrap();
    assert_eq!((told.len(), count(&told, "v2")), (4, 0), "kept, and not decided");
}

#[tokio::test]
async fn addresses_are_asked_in_the_place_of_the_program_where_they_may_be() {
    let engine = RolloutEngine::in_memory().await.unwrap();
    engine.set_target_version("prod", "web", "v1").await.unwrap();
    engine
        .set_entity_target_controller("prod", "web", BlueGreen { next: AtomicUsize::new(0) })
        .await
        .unwrap();
    let web = |address: &str| WebControllers {
        external_monitoring: Some(address.to_owned()),
        ..WebControllers::default()
    };
    let refused = engine.set_web_controllers("prod", "web", web("ftp://a/")).await.unwrap_err();
    assert!(refused.to_string().starts_with("`external_monitoring` must begin with"), "{refused}");
    let info = engine.get_rollout_info("prod", "web").await.unwrap();
    assert_eq!(info.controllers.selection, Some(Controller::Program), "nothing has changed");
    engine.set_web_controllers("prod", "web", web("http://192.0.2.1/well")).await.unwrap();
    let info = engine.get_rollout_info("prod", "web").await.unwrap();
    assert_eq!(info.controllers, web("http://192.0.2.1/well").into());
    let states = || vec![ClientState::new("a", "v0")];
    let refused = engine.orchestrate("prod", "web", states()).await.unwrap_err().to_string();
    assert!(refused.starts_with("external monitoring failed: `192.0.2.1` may not be asked"), "{refused}");
    engine.set_web_controllers("prod", "web", WebControllers::default()).await.unwrap();
    let told = engine.orchestrate("prod", "web", states()).await.unwrap();
    assert_eq!(count(&told, "v1"), 1);
}

//! Turns of the loop, of which the test says what they hear; nothing is started.

use super::*;
use std::sync::atomic::Ordering;
use upbeat_model::project::{Probe, Question, RestartPolicy, Service};
use upbeat_model::target::Goal;
use upbeat_model::{Exit, ProbeName, Wall};
use upbeat_store::faults::{Faults, open_faulty};

use crate::fake;

fn slot() -> SlotId {
    "shop/web/1".parse().unwrap()
}

struct World {
    agent: Agent,
    faults: Faults,
    wishes: watch::Sender<Arc<Target>>,
    target: Target,
    _reports: mpsc::Receiver<Report>,
}

impl World {
    /// It is up, and its watchdog hears of it.
    async fn new() -> Self {
        let ask = Question::Watchdog(Millis::seconds(1));
        let asks = Probe { failure_threshold: 1, ..Probe::new(ask) };
        let probes = [(ProbeName::new("liveness").unwrap(), asks)].into();
        let mut world = Self::of(Service { probes, ..Service::new(vec!["x".into()], "/") }).await;
        world.started().await;
        world.is_alive(Watchdog::Alive, 0).await;
        world
    }

    /// It is to be started. No process is started here.
    async fn of(spec: Service) -> Self {
        let target = fake::target(slot(), spec);
        let (wishes, source) = watch::channel(Arc::new(target.clone()));
        let faults = Faults::default();
        let (store, _) = open_faulty(&faults).unwrap();
        let (machine, events) = fake::machine();
        let (reports, told) = mpsc::channel(64);
        let onlookers = Onlookers { meter: Arc::default(), failpoint: |_| {} };
        let (keep, watches) = (Keep::new(store, "boot".into(), [7; 32]), Watches::new().unwrap());
        let agent = Agent::new(keep, machine, watches, events, source, reports, onlookers).await.unwrap();
        let mut world = Self { agent, faults, wishes, target, _reports: told };
        world.agent.target.mark_changed();
        world.turn([]).await;
        world
    }

    /// Somebody asks for this.
    fn wish(&mut self, goal: Goal) {
        let wish = self.target.slots.get_mut(&slot()).unwrap();
        (wish.goal, wish.generation) = (goal, wish.generation + 1);
        self.wishes.send(Arc::new(self.target.clone())).unwrap();
    }

    fn attempt(&self) -> Attempt {
        self.agent.node.durable(&slot()).unwrap().attempt
    }

    /// Its last attempt is there.
    async fn started(&mut self) {
        let (attempt, at) = (self.attempt(), Wall(1));
        self.turn([Input::Started { attempt, pid: 7, at, log_start: 0 }]).await;
    }

    async fn turn<const N: usize>(&mut self, inputs: [Input; N]) {
        let mut batch = inputs.map(|input| (slot(), input)).into();
        assert!(self.agent.turn(&mut batch, &mut Vec::new()).await.is_ok());
    }

    /// Its watchdog says so.
    async fn is_alive(&mut self, watchdog: Watchdog, expiries: u32) {
        let said = Said { watchdog, expiries, ..Said::default() };
        self.turn([Input::Notified { attempt: Attempt(1), said }]).await;
    }

    fn why(&self) -> String {
        let reasons = &self.agent.node.status(&slot()).unwrap().reasons;
        reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    fn is_being_stopped(&self) -> bool {
        matches!(&self.agent.node.durable(&slot()).unwrap().stage, Stage::Up(up) if up.stopping.is_some())
    }
}

/// Of an end that is forgiven at once nothing is shown but the next start.
#[tokio::test]
async fn a_start_that_fails_is_counted_though_the_next_one_follows_in_the_same_turn() {
    let asks = Probe::new(Question::Notify);
    let probes = [(ProbeName::new("readiness").unwrap(), asks)].into();
    let restart = RestartPolicy::Always;
    let mut world = World::of(Service { probes, restart, ..Service::new(vec!["x".into()], "/") }).await;
    world.started().await;
    world.turn([Input::Exited { attempt: Attempt(1), exit: Exit::Code(1) }]).await;
    assert_eq!((world.attempt(), world.why().as_str()), (Attempt(2), "its process is being started"));
    let meter = world.agent.reading.meter().slot(&slot());
    assert_eq!([&meter.starts, &meter.failed_starts].map(|count| count.load(Ordering::SeqCst)), [2, 1]);
}

/// An hour on one clock, of which the other knows nothing.
#[tokio::test(start_paused = true)]
async fn the_clock_is_looked_at_twice_a_minute_whatever_is_due() {
    for (due, waits) in [(3_600, 30), (30, 30), (2, 2), (0, 0)] {
        let begun = Instant::now();
        wait(Some(Duration::from_secs(due))).await;
        assert_eq!(begun.elapsed().as_secs(), waits, "{due}");
    }
}

#[tokio::test]
async fn what_could_not_be_started_again_is_not_stopped_by_ourselves() {
    let mut world = World::new().await;
    world.faults.full.store(true, Ordering::SeqCst);
    world.is_alive(Watchdog::Expired, 1).await;
    assert_eq!(world.agent.unsaved.withheld, [(slot(), Input::StopWithheld { attempt: Attempt(1) })]);
    for _ in 0..2 {
        // And the node tries nothing that would have to be withheld.
        world.turn([]).await;
        assert!(!world.is_being_stopped() && !world.agent.unsaved.has_news());
        assert!(
            world.why().contains("it is not stopped before it could be started again"),
            "{}",
            world.why()
        );
    }
    world.faults.full.store(false, Ordering::SeqCst);
    world.agent.unsaved.again_at = Some(Instant::now());
    world.turn([]).await;
    world.turn([]).await;
    assert!(world.is_being_stopped() && !world.agent.unsaved.has_news(), "{}", world.why());
    assert_eq!(world.agent.keep.load().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_somebody_wants_to_be_down_is_stopped_on_a_full_disk_too() {
    let mut world = World::new().await;
    world.faults.full.store(true, Ordering::SeqCst);
    world.is_alive(Watchdog::Expired, 1).await;
    world.wish(Goal::Stopped);
    world.turn([]).await;
    assert!(world.is_being_stopped() && !world.agent.unsaved.has_news(), "{}", world.why());
}

/// It crashes as the disk is full, and is to be started again.
#[tokio::test]
async fn what_waits_for_its_commit_is_stopped_without_waiting_for_what_was_never_ordered() {
    let restart = RestartPolicy::Always;
    for goal in [Goal::Stopped, Goal::Absent] {
        let mut world = World::of(Service { restart, ..Service::new(vec!["x".into()], "/") }).await;
        world.started().await;
        world.faults.full.store(true, Ordering::SeqCst);
        world.turn([Input::Exited { attempt: Attempt(1), exit: Exit::Code(28) }]).await;
        assert_eq!(world.agent.unsaved.starts.len(), 1);
        world.wish(goal);
        world.turn([]).await;
        assert!(world.agent.unsaved.starts.is_empty() && !world.agent.unsaved.has_news());
        let phase = world.agent.node.status(&slot()).unwrap().phase;
        assert_eq!(phase, upbeat_model::Phase::Stopped, "{}", world.why());
    }
}

/// Of what it is to be now nothing is known to have failed, and that is what is started when it can be.
#[tokio::test]
async fn what_waits_for_its_commit_and_is_replaced_is_started_as_the_newest_file_says() {
    let mut world = World::of(Service::new(vec!["x".into()], "/")).await;
    world.faults.full.store(true, Ordering::SeqCst);
    world.turn([Input::Exited { attempt: Attempt(1), exit: Exit::Code(1) }]).await;
    for command in ["y", "z"] {
        let newest = fake::target(slot(), Service::new(vec![command.into()], "/"));
        world.target.slots = newest.slots;
        world.wish(Goal::Running);
        world.turn([]).await;
        assert!(!world.agent.unsaved.has_news());
        let held: Vec<&Effect> = world.agent.unsaved.starts.values().collect();
        assert!(
            matches!(held[..], [Effect::Start { spec, attempt, .. }] if spec.command == [command] && *attempt == world.attempt()),
            "{held:?}"
        );
    }
}

/// It can be kept, and in the turn in which the node is to hear of that it cannot.
#[tokio::test]
async fn a_store_that_flaps_keeps_nobody_busy() {
    let mut world = World::new().await;
    world.faults.full.store(true, Ordering::SeqCst);
    world.is_alive(Watchdog::Expired, 1).await;
    world.turn([]).await;
    world.faults.full.store(false, Ordering::SeqCst);
    world.agent.unsaved.again_at = Some(Instant::now());
    assert!(world.agent.commit().await.is_ok());
    assert!(world.agent.unsaved.is_well_again);
    world.faults.full.store(true, Ordering::SeqCst);
    // Something is to be kept of what somebody has changed.
    let wish = world.target.slots.get_mut(&slot()).unwrap();
    Arc::make_mut(&mut wish.spec).stop_grace_period = Millis::seconds(3);
    world.wish(Goal::Running);
    for _ in 0..2 {
        world.turn([]).await;
        assert!(!world.agent.unsaved.has_news() && !world.is_being_stopped(), "{}", world.why());
    }
}

//! Stories of commands and news, told in a few words: `a-1` is the first copy of service `a`.

use upbeat_model::project::{Dependency, Service};
use upbeat_model::{Action, Project, Reason, ServiceName};

use super::*;
use crate::wishes;

struct Desk {
    state: State,
    saved: BTreeMap<OperationId, OperationRecord>,
}

fn app() -> AppName {
    AppName::new("app").unwrap()
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn slot(text: &str) -> SlotId {
    let (service, index) = text.split_once('-').unwrap();
    format!("app/{service}/{index}").parse().unwrap()
}

fn project(services: &[&str]) -> Project {
    let service = |text: &&str| {
        let (service, scale) = text.split_once('=').unwrap_or((text, "1"));
        let scale = scale.parse().unwrap();
        let spec = Service { scale, ..Service::new(vec!["sleep".to_owned()], "/") };
        (name(service), spec)
    };
    Project {
        name: app(),
        services: services.iter().map(service).collect(),
        base_environment: BTreeMap::new(),
    }
}

impl Desk {
    fn open() -> Self {
        let (state, news) = State::new([], [], OperationId(1));
        assert_eq!(news, News::default());
        Self { state, saved: BTreeMap::new() }
    }

    /// The daemon dies and comes back; what it had to say of operations since the last save is lost.
    fn dies(&mut self) -> News {
        let records: Vec<AppRecord> = self.state.apps.values().map(|app| (*app.record).clone()).collect();
        let (state, news) = State::new(records, self.saved.clone(), self.state.next_operation);
        self.state = state;
        news
    }

    fn command(&mut self, decide: impl FnOnce(Option<&AppRecord>, OperationId) -> wishes::Change) -> News {
        let id = self.state.next_operation();
        let change = decide(self.state.app(&app()).as_deref(), id);
        let operation = OperationRecord {
            app: app(),
            what: String::new(),
            who: String::new(),
            key: None,
            digest: String::new(),
            is_outline: false,
            at: Wall(0),
            slots: change.slots.into_iter().map(|slot| (slot, Wish::Pending)).collect(),
        };
        self.saved.insert(id, operation.clone());
        self.state.begin(id, change.record, operation)
    }

    fn up(&mut self, services: &[&str]) -> News {
        self.command(|old, id| wishes::up(old, project(services), &[], id).unwrap())
    }

    fn scale(&mut self, service: &str, count: u32) -> News {
        let action = Action::Scale { services: BTreeMap::from([(name(service), count)]) };
        self.command(|old, id| wishes::act(old.unwrap(), &action, id).unwrap())
    }

    fn down(&mut self) -> News {
        self.command(|old, id| wishes::down(old.unwrap(), false, id))
    }

    /// An agent reports slots, under an operation, in a phase.
    fn hear(&mut self, slots: &[&str], operation: u64, phase: Phase, is_seen: bool) -> News {
        let mut news = News::default();
        for text in slots {
            let goal = match phase {
                Phase::Absent | Phase::Stopping => Goal::Absent,
                Phase::Stopped => Goal::Stopped,
                _ => Goal::Running,
            };
            let record = SlotRecord {
                goal,
                generation: 1,
                ask: upbeat_model::target::Ask::Ensure,
                kill: false,
                heeds_locks: false,
                operation: OperationId(operation),
                release: 1,
                spec: None,
            };
            let status = SlotStatus { phase, ..unseen(&slot(text), &record) };
            self.state.take(
                SlotChange {
                    from: Phase::Waiting,
                    status,
                    mark: None,
                    timeline: None,
                    up_since: None,
                    is_looked_at: is_seen,
                    is_seen,
                },
                &mut news,
            );
        }
        news
    }

    /// What runs elsewhere could not be stopped.
    fn gives_up(&mut self, text: &str, operation: u64) -> News {
        let mut news = self.hear(&[], operation, Phase::Stopping, true);
        let mut status = self.state.statuses[&slot(text)].clone();
        (status.goal, status.phase) = (Goal::Absent, Phase::NeedsAttention);
        status.operation = OperationId(operation);
        status.reasons = vec![Reason::StopFailed { detail: "busy".to_owned() }];
        let (from, mark, timeline, up_since) = (Phase::Stopping, None, None, None);
        self.state.take(
            SlotChange { from, status, mark, timeline, up_since, is_looked_at: true, is_seen: true },
            &mut news,
        );
        news
    }

    fn sees(&mut self, slots: &[&str], operation: u64, phase: Phase) -> News {
        self.hear(slots, operation, phase, true)
    }

    /// Declared, and it is to end with its `job`.
    fn up_with_job(&mut self, only: &[&str]) {
        let mut project = project(&["job", "web"]);
        project.services.get_mut(&name("job")).unwrap().exit_on_end = true;
        let only: Vec<_> = only.iter().copied().map(name).collect();
        self.command(|old, id| wishes::up(old, project, &only, id).unwrap());
    }

    fn act(&mut self, action: Action) {
        self.command(|old, id| wishes::act(old.unwrap(), &action, id).unwrap());
    }

    /// The copy the app is to end with, and under which operation it ran.
    fn end(&self) -> Option<(String, u64)> {
        self.state.end_of(&app()).map(|end| (end.slot.short(), end.under.0))
    }

    fn forget(&mut self) -> Vec<OperationId> {
        let rest = self.state.rest(&app()).expect("something is parting");
        self.state.forget(&app(), rest)
    }

    fn slots(&self) -> Vec<String> {
        let record = self.state.app(&app());
        record.map(|app| app.slots.keys().map(SlotId::short).collect()).unwrap_or_default()
    }

    fn outcome(&self, operation: u64) -> Vec<String> {
        let record = self.state.operation(OperationId(operation)).unwrap();
        let shown = |(slot, wish): (&SlotId, &Wish)| match wish {
            Wish::Pending => format!("{} pending", slot.short()),
            Wish::Reached => format!("{} reached", slot.short()),
            Wish::Superseded { by } => format!("{} by {by}", slot.short()),
            Wish::Failed { .. } => format!("{} failed", slot.short()),
        };
        record.slots.iter().map(shown).collect()
    }
}

fn ended(ids: &[u64]) -> News {
    News { ended: ids.iter().copied().map(OperationId).collect(), parting: BTreeSet::new() }
}

fn parting() -> News {
    News { ended: Vec::new(), parting: BTreeSet::from([app()]) }
}

#[test]
fn an_operation_ends_with_its_last_slot() {
    let mut desk = Desk::open();
    assert_eq!(desk.up(&["a", "b"]), News::default());
    assert_eq!(desk.sees(&["a-1"], 1, Phase::Running), News::default());
    assert_eq!(desk.sees(&["a-1"], 1, Phase::Running), News::default(), "said twice, it counts once");
    assert_eq!(desk.sees(&["b-1"], 1, Phase::Failed), ended(&[1]));
    assert_eq!(desk.outcome(1), ["a-1 reached", "b-1 failed"]);
    assert_eq!(desk.sees(&["b-1"], 1, Phase::Running), News::default(), "what has ended stays as it was");
}

#[test]
fn what_is_only_remembered_ends_nothing() {
    let mut desk = Desk::open();
    desk.up(&["a"]);
    assert_eq!(desk.hear(&["a-1"], 1, Phase::Running, false), News::default());
    assert_eq!(desk.outcome(1), ["a-1 pending"]);
    desk.down();
    assert_eq!(desk.hear(&["a-1"], 2, Phase::Absent, false), News::default());
    assert!(desk.state.rest(&app()).is_none(), "nobody has looked yet whether it is gone");
}

#[test]
fn an_app_is_written_once_on_its_way_out_and_its_operation_ends_when_it_is_gone() {
    let mut desk = Desk::open();
    desk.up(&["a=3"]);
    desk.down();
    assert_eq!(desk.sees(&["a-1", "a-2"], 2, Phase::Absent), News::default());
    assert!(desk.state.rest(&app()).is_none());
    assert_eq!(desk.sees(&["a-3"], 2, Phase::Absent), parting());
    assert_eq!(desk.outcome(2), ["a-1 pending", "a-2 pending", "a-3 pending"]);
    assert_eq!(desk.forget(), [OperationId(2)]);
    assert_eq!(desk.outcome(2), ["a-1 reached", "a-2 reached", "a-3 reached"]);
    assert!(desk.state.app(&app()).is_none() && desk.state.target(1).slots.is_empty());
}

#[test]
fn an_absence_that_was_asked_for_earlier_takes_nothing_from_a_later_wish() {
    let mut desk = Desk::open();
    desk.up(&["a=2"]);
    desk.scale("a", 1);
    assert_eq!(desk.scale("a", 2), ended(&[2]));
    assert_eq!(desk.outcome(2), ["a-2 by 3"]);
    assert_eq!(desk.sees(&["a-2"], 2, Phase::Absent), News::default());
    assert!(desk.state.rest(&app()).is_none());
    desk.down();
    assert_eq!(desk.sees(&["a-1", "a-2"], 2, Phase::Absent), News::default(), "asked for by operation 2");
    assert_eq!(desk.sees(&["a-1", "a-2"], 4, Phase::Absent), parting());
}

#[test]
fn operations_on_the_same_app_do_not_wait_for_each_others_slots() {
    let mut desk = Desk::open();
    desk.up(&["a=2", "b=2"]);
    desk.scale("a", 1);
    desk.scale("b", 1);
    assert_eq!(desk.sees(&["b-2"], 3, Phase::Absent), parting());
    assert_eq!(desk.forget(), [OperationId(3)], "though a-2 does not go");
    assert_eq!(desk.slots(), ["a-1", "a-2", "b-1"]);
    assert_eq!(desk.sees(&["a-2"], 2, Phase::Absent), parting());
    assert_eq!(desk.forget(), [OperationId(2)]);
    assert_eq!(desk.slots(), ["a-1", "b-1"]);
}

#[test]
fn what_was_seen_absent_is_not_asked_for_again_by_a_command_on_others() {
    let mut desk = Desk::open();
    desk.up(&["a=3", "b"]);
    desk.scale("a", 1);
    desk.sees(&["a-2"], 2, Phase::Absent);
    assert_eq!(desk.scale("b", 2), News::default());
    assert_eq!(desk.sees(&["a-3"], 2, Phase::Absent), parting());
    assert_eq!(desk.forget(), [OperationId(2)]);
    // The last one that was waited for may also be taken over.
    desk.scale("a", 3);
    desk.scale("a", 1);
    desk.sees(&["a-2"], 5, Phase::Absent);
    let news = desk.command(|old, id| {
        let mut change = wishes::act(old.unwrap(), &Action::Start { services: vec![name("a")] }, id).unwrap();
        let taken = change.record.slots.get_mut(&slot("a-3")).unwrap();
        (taken.goal, taken.operation) = (Goal::Running, id);
        change
    });
    assert_eq!(news, parting());
    assert_eq!(desk.forget(), [OperationId(5)]);
}

#[test]
fn after_a_restart_operations_that_were_overtaken_have_ended() {
    let mut desk = Desk::open();
    desk.up(&["a", "b"]);
    desk.scale("a", 2);
    desk.up(&["a", "b"]);
    assert!(desk.state.all_seen());
    assert_eq!(desk.dies(), ended(&[1, 2]));
    desk.hear(&["a-1", "a-2", "b-1"], 3, Phase::Running, false);
    assert!(!desk.state.all_seen(), "what is remembered was not seen");
    assert_eq!(desk.outcome(1), ["a-1 by 3", "b-1 by 3"]);
    assert_eq!(desk.outcome(2), ["a-2 by 3"]);
    assert_eq!(desk.outcome(3), ["a-1 pending", "a-2 pending", "b-1 pending"]);
    desk.sees(&["a-1", "a-2", "b-1"], 3, Phase::Running);
    assert!(desk.state.all_seen());
}

#[test]
fn after_a_restart_a_slot_that_is_forgotten_had_gone_as_it_should() {
    let mut desk = Desk::open();
    desk.up(&["a=2"]);
    desk.scale("a", 1);
    desk.sees(&["a-2"], 2, Phase::Absent);
    assert_eq!(desk.forget(), [OperationId(2)]);
    assert_eq!(desk.dies(), ended(&[2]));
    assert_eq!(desk.outcome(2), ["a-2 reached"]);
    desk.down();
    assert_eq!(desk.dies(), ended(&[1, 2]), "they were not saved as ended");
    assert_eq!(desk.sees(&["a-1"], 3, Phase::Absent), parting(), "seen anew");
    assert_eq!(desk.forget(), [OperationId(3)]);
    assert_eq!(desk.dies(), ended(&[1, 2, 3]));
    assert_eq!(desk.outcome(3), ["a-1 reached"]);
}

#[test]
fn an_app_of_nothing_goes_at_once() {
    let mut desk = Desk::open();
    assert_eq!(desk.up(&[]), ended(&[1]));
    let news = desk.down();
    assert_eq!(news, News { ended: vec![OperationId(2)], ..parting() });
    assert_eq!(desk.dies().parting, BTreeSet::from([app()]), "it is tried again after a restart");
    assert_eq!(desk.forget(), []);
    assert!(desk.state.app(&app()).is_none());
}

#[test]
fn what_cannot_be_forgotten_keeps_its_operation_pending() {
    let mut desk = Desk::open();
    desk.up(&["a"]);
    desk.down();
    desk.sees(&["a-1"], 2, Phase::Absent);
    assert!(desk.state.cannot_forget(&app()), "somebody shall try again");
    assert!(!desk.state.cannot_forget(&app()), "somebody does already");
    assert_eq!(desk.outcome(2), ["a-1 pending"]);
    assert_eq!(desk.forget(), [OperationId(2)]);
}

#[test]
fn up_and_start_take_an_app_back_that_is_being_taken_down() {
    let mut desk = Desk::open();
    desk.up(&["a", "b"]);
    desk.down();
    assert_eq!(desk.up(&["a", "b"]), ended(&[2]));
    assert_eq!(desk.outcome(2), ["a-1 by 3", "b-1 by 3"]);
    desk.down();
    desk.command(|old, id| {
        wishes::act(old.unwrap(), &Action::Start { services: vec![name("a")] }, id).unwrap()
    });
    assert_eq!(desk.outcome(4), ["a-1 by 5", "b-1 pending"]);
    assert_eq!(desk.sees(&["b-1"], 4, Phase::Absent), parting());
    assert_eq!(desk.forget(), [OperationId(4)]);
    assert_eq!(desk.slots(), ["a-1"]);
    assert_eq!(desk.sees(&["a-1"], 5, Phase::Running), ended(&[5]));
}

#[test]
fn old_operations_are_forgotten_but_never_one_that_somebody_may_wait_for() {
    let mut desk = Desk::open();
    desk.up(&["a", "b"]);
    desk.sees(&["a-1"], 1, Phase::Running);
    for _ in 0..2 * OPERATIONS_KEPT {
        desk.scale("a", 1);
    }
    let forgotten = desk.state.forget_old_operations();
    assert!(!forgotten.whole.contains(&OperationId(1)), "b-1 is pending");
    assert_eq!(desk.state.operations.len(), OPERATIONS_KEPT);
    assert_eq!(forgotten.whole.first(), Some(&OperationId(2)));
    let mut outlines = 0;
    for _ in 0..30 {
        desk.up(&["a=1000"]);
        outlines += desk.state.forget_old_operations().slots.len();
    }
    assert!(outlines > 5, "a request that comes again is still known: {outlines}");
    assert_eq!(desk.state.operations.len(), OPERATIONS_KEPT);
    let wishes: usize = desk.state.operations.values().map(|operation| operation.record.slots.len()).sum();
    assert!(wishes <= WISHES_KEPT, "{wishes}");
}

#[test]
fn a_service_this_up_leaves_out_goes_on_by_its_old_file_even_when_it_is_dragged_along() {
    let with = |command: &str| {
        let mut project = project(&["a", "b"]);
        let restart = Dependency { restart: true, ..Dependency::default() };
        let b = project.services.get_mut(&name("b")).unwrap();
        b.depends_on.insert(name("a"), restart);
        for service in project.services.values_mut() {
            service.command = vec![command.to_owned()];
        }
        project
    };
    let mut desk = Desk::open();
    desk.command(|old, id| wishes::up(old, with("old"), &[], id).unwrap());
    let spec = |desk: &Desk, slot: &str| {
        let target = desk.state.target(1).slots;
        let wish = &target[&self::slot(slot)];
        format!("{} {}", wish.spec.command[0], wish.generation)
    };
    desk.command(|old, id| wishes::up(old, with("new"), &[name("a")], id).unwrap());
    assert_eq!((spec(&desk, "a-1"), spec(&desk, "b-1")), ("new 2".into(), "old 2".into()));
    // Only b changes now, and nothing rests on it.
    desk.command(|old, id| wishes::up(old, with("new"), &[], id).unwrap());
    assert_eq!((spec(&desk, "a-1"), spec(&desk, "b-1")), ("new 3".into(), "new 3".into()));
    // What runs by the old file is replaced by the same new one: its dependents are dragged along.
    desk.command(|old, id| wishes::up(old, with("newer"), &[name("b")], id).unwrap());
    desk.command(|old, id| wishes::up(old, with("newest"), &[name("b")], id).unwrap());
    let before = spec(&desk, "a-1");
    assert_eq!(before, "newest 5", "b needs a, so a is selected too");
}

#[test]
fn after_a_boot_always_comes_back_and_unless_stopped_stays_as_it_was_left() {
    for (policy, comes_back) in [
        (RestartPolicy::Always, true),
        (RestartPolicy::UnlessStopped, false),
        (RestartPolicy::OnFailure { max: None }, false),
        (RestartPolicy::No, false),
    ] {
        let mut project = project(&["a"]);
        project.services.get_mut(&name("a")).unwrap().restart = policy;
        let change = wishes::up(None, project, &[], OperationId(1)).unwrap();
        let stop = Action::Stop { services: vec![], kill: false };
        let mut stopped = wishes::act(&change.record, &stop, OperationId(2)).unwrap().record;
        assert_eq!(revive(&mut stopped), comes_back, "{policy:?}");
        let goal = if comes_back { Goal::Running } else { Goal::Stopped };
        assert_eq!(stopped.slots[&slot("a-1")].goal, goal);
        let mut running = change.record;
        assert!(!revive(&mut running), "what was not stopped runs again as it is");
    }
}

#[test]
fn all_copies_together_are_bounded() {
    let mut desk = Desk::open();
    let names: Vec<String> = (0..17).map(|n| format!("s{n}")).collect();
    desk.up(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let all = names.iter().map(|service| (name(service), 1000)).collect();
    let old = desk.state.app(&app()).unwrap();
    let refused = wishes::act(&old, &Action::Scale { services: all }, OperationId(2)).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "`app` would have 17000 copies of services, and 16384 are the most on one machine"
    );
}

fn services(of: &[&str]) -> Vec<ServiceName> {
    of.iter().copied().map(name).collect()
}

#[test]
fn an_app_ends_with_its_service_until_it_is_stopped() {
    let job = Some(("job-1".to_owned(), 1));
    for phase in [Phase::Completed, Phase::Failed] {
        let mut desk = Desk::open();
        desk.up_with_job(&[]);
        desk.sees(&["web-1"], 1, phase);
        desk.sees(&["job-1"], 1, Phase::Running);
        assert_eq!(desk.end(), None, "it runs");
        desk.act(Action::Restart { services: services(&["web"]) });
        desk.sees(&["job-1"], 1, phase);
        assert_eq!(desk.end(), job, "whatever was asked of others meanwhile");
        desk.dies();
        assert_eq!(desk.end(), None, "nobody has looked yet");
        desk.hear(&["job-1"], 1, phase, false);
        assert_eq!(desk.end(), None, "that is of before");
        desk.sees(&["job-1"], 1, phase);
        assert_eq!(desk.end(), job);
        let end = desk.state.end_of(&app()).unwrap();
        desk.command(|old, id| wishes::end(old.unwrap(), &end, id).unwrap());
        assert_eq!(desk.end(), None, "it is done");
        let record = desk.state.app(&app()).unwrap();
        assert!(record.slots.values().all(|slot| slot.goal == Goal::Stopped));
        let twice = wishes::end(&record, &end, OperationId(9)).err().map(|error| error.to_string());
        assert_eq!(twice.as_deref(), Some("`app` does not end with job-1: it was asked for anew"));
        desk.act(Action::Start { services: services(&["web"]) });
        assert_eq!(desk.end(), None, "web may run alone");
    }
}

#[test]
fn what_has_ended_as_it_should_is_there() {
    let mut desk = Desk::open();
    desk.up(&["job", "web", "db"]);
    desk.sees(&["job-1"], 1, Phase::Completed);
    desk.sees(&["web-1"], 1, Phase::Healthy);
    let ready =
        |desk: &Desk| desk.state.summaries().iter().map(|app| (app.ready, app.wanted)).collect::<Vec<_>>();
    desk.sees(&["db-1"], 1, Phase::Failed);
    assert_eq!(ready(&desk), [(2, 3)]);
    desk.sees(&["db-1"], 1, Phase::Running);
    assert_eq!(ready(&desk), [(3, 3)]);
}

#[test]
fn an_app_does_not_end_with_a_copy_that_was_asked_for_anew() {
    let ended = || {
        let mut desk = Desk::open();
        desk.up_with_job(&[]);
        desk.sees(&["job-1", "web-1"], 1, Phase::Completed);
        desk
    };
    for again in ["up", "start", "restart", "down", "stop", "scale"] {
        let mut desk = ended();
        let end = desk.state.end_of(&app()).unwrap();
        match again {
            "up" => desk.up_with_job(&[]),
            "start" => desk.act(Action::Start { services: services(&["job"]) }),
            "restart" => desk.act(Action::Restart { services: services(&["job"]) }),
            "stop" => desk.act(Action::Stop { services: services(&["job"]), kill: false }),
            "scale" => drop(desk.scale("job", 0)),
            _ => drop(desk.down()),
        }
        assert_eq!(desk.end(), None, "{again}");
        let record = desk.state.app(&app()).unwrap();
        assert!(wishes::end(&record, &end, OperationId(9)).is_err(), "{again}: it came too late");
        // What is told late is of before.
        desk.sees(&["job-1"], 1, Phase::Completed);
        assert_eq!(desk.end(), None, "{again}");
    }
    // Of another file it may be no end at all; this copy runs by the old one.
    let mut desk = ended();
    let other = project(&["job", "web"]);
    desk.command(|old, id| wishes::up(old, other, &[name("web")], id).unwrap());
    assert_eq!(desk.end(), Some(("job-1".to_owned(), 1)));
}

#[test]
fn what_cannot_be_stopped_holds_up_the_end_of_no_command() {
    for order in [["a-1", "b-1"], ["b-1", "a-1"]] {
        let mut desk = Desk::open();
        desk.up(&["a", "b"]);
        desk.sees(&["a-1", "b-1"], 1, Phase::Running);
        desk.down();
        let mut ended = Vec::new();
        for text in order {
            let news = match text {
                "a-1" => desk.sees(&["a-1"], 2, Phase::Absent),
                _ => desk.gives_up("b-1", 2),
            };
            assert_eq!(news.parting, [].into(), "nothing is forgotten before all of it has gone");
            ended.extend(news.ended);
        }
        assert_eq!(ended, [OperationId(2)], "{order:?}");
        assert_eq!(desk.slots(), ["a-1", "b-1"]);
        let wishes = &desk.state.operation(OperationId(2)).unwrap().slots;
        assert!(matches!(wishes[&slot("b-1")], Wish::Failed { .. }));
        assert_eq!(wishes[&slot("a-1")], Wish::Reached);
    }
}

#[test]
fn what_cannot_be_stopped_says_nothing_of_what_shall_run() {
    let mut desk = Desk::open();
    desk.up(&["a", "b"]);
    desk.sees(&["a-1", "b-1"], 1, Phase::Running);
    desk.up(&["a", "c"]);
    assert_eq!(desk.gives_up("b-1", 2), ended(&[]));
    let pending = ["a-1 pending", "c-1 pending"];
    assert!(
        pending.iter().all(|wish| desk.outcome(2).iter().any(|seen| seen == wish)),
        "{:?}",
        desk.outcome(2)
    );
    desk.sees(&["a-1"], 2, Phase::Running);
    assert_eq!(desk.sees(&["c-1"], 2, Phase::Running), ended(&[2]));
}

/// It runs elsewhere, is out of the file, and could not be stopped.
#[test]
fn each_up_tries_again_what_shall_go_and_has_not_gone() {
    let mut desk = Desk::open();
    desk.up(&["a", "b"]);
    desk.sees(&["a-1", "b-1"], 1, Phase::Running);
    desk.up(&["a"]);
    desk.sees(&["a-1"], 2, Phase::Running);
    assert_eq!(desk.gives_up("b-1", 2), ended(&[2]));
    desk.up(&["a"]);
    let operation = desk.state.app(&app()).unwrap().slots[&slot("b-1")].operation;
    assert_eq!(operation, OperationId(3), "its stop is begun anew for whoever asks anew");
    assert_eq!(desk.outcome(3), ["a-1 pending", "b-1 pending"]);
    desk.sees(&["a-1"], 3, Phase::Running);
    assert_eq!(desk.sees(&["b-1"], 3, Phase::Absent), parting());
    assert_eq!(desk.forget(), [OperationId(3)]);
}

/// Who stays in it as it was would keep out who has stopped for it.
#[test]
fn a_network_changes_for_all_that_are_in_it_or_for_none() {
    use upbeat_model::project::container::{Attachment, Container, Network, NetworkMode};
    let with = |internal: bool| {
        let mut project = project(&["a", "b"]);
        for service in project.services.values_mut() {
            let mut container = Container::new("image".parse().unwrap());
            let network = Network { internal, ..Network::new("front", "app_front") };
            container.network = NetworkMode::Networks(vec![Attachment::to(network)]);
            service.container = Some(Box::new(container));
        }
        project
    };
    let mut desk = Desk::open();
    desk.command(|old, id| wishes::up(old, with(false), &[], id).unwrap());
    desk.command(|old, id| {
        let refused = wishes::up(old, with(true), &[name("a")], id).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("network `front` of `a` has changed, and `b`"), "{refused}");
        wishes::up(old, with(true), &[], id).unwrap()
    });
}

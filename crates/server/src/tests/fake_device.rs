//! A device in memory, on which everything that is asked for is reached when the test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::watch;
use upbeat_api::{App, Operation, OperationId, Problem, ProblemKind, Project};
use upbeat_model::device::{Change, Changes, Declared, Held, Queued, Request, Runs, Seek, Standing, State};
use upbeat_model::project::container::ImageRef;
use upbeat_model::{AppName, Goal, Service, ServiceName, SlotId, Wall};

use super::fake::{name, operation};
use crate::backend::{Answer, BoxStream};

#[derive(Clone)]
pub(crate) struct FakeDevice {
    state: watch::Sender<State>,
    /// Who watches is told of changes, and not only how it is.
    pub(crate) goes_on: Arc<AtomicBool>,
    /// What the next change is refused with.
    pub(crate) refuses: Arc<Mutex<Option<Problem>>>,
}

/// With the app `shop` of a project file.
impl Default for FakeDevice {
    fn default() -> Self {
        let image: ImageRef = "web:1".parse().unwrap();
        let services = [(name("web"), Service::of_image(image))].into();
        let project = Project { name: name("shop"), services, base_environment: BTreeMap::new() };
        let apps = [(name("shop"), held(project, 3, Declared::default(), &[]))].into();
        let (state, _) = watch::channel(State {
            name: "d0".into(),
            uuid: "u0".into(),
            keys: BTreeMap::new(),
            apps,
            queued: None,
        });
        Self { state, goes_on: Arc::default(), refuses: Arc::default() }
    }
}

fn held(project: Project, release: u64, declared: Declared, stopped: &[ServiceName]) -> Held {
    let goal = |service: &ServiceName| if stopped.contains(service) { Goal::Stopped } else { Goal::Running };
    let goals = project.services.keys().map(|service| {
        let slot = SlotId { app: project.name.clone(), service: service.clone(), index: 1 };
        (slot, (goal(service), release))
    });
    Held {
        goals: goals.collect(),
        app: App { name: project.name.clone(), release, slots: vec![], project: project.to_look_at() },
        declared,
        is_leaving: false,
        stamp: format!("s{release}"),
        standing: Standing::Done,
    }
}

impl FakeDevice {
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// As it was in the beginning.
    pub(crate) fn begin_again(&self) {
        self.state.send_replace(Self::default().state());
    }

    pub(crate) fn states(&self) -> BoxStream<State> {
        let mut changes = self.state.subscribe();
        changes.mark_changed();
        let next = |mut changes: watch::Receiver<State>| async move {
            changes.changed().await.ok()?;
            let state = changes.borrow_and_update().clone();
            Some((state, changes))
        };
        let most = if self.goes_on.load(Ordering::Relaxed) { usize::MAX } else { 1 };
        stream::unfold(changes, next).take(most).boxed()
    }

    /// All apps are so far.
    pub(crate) fn stands(&self, standing: Standing) {
        self.state.send_modify(|state| state.apps.values_mut().for_each(|app| app.standing = standing));
    }

    pub(crate) fn words(changes: &Changes) -> impl Iterator<Item = String> + '_ {
        let keys = changes.keys.iter().flat_map(|change| change.registries());
        let keys = keys.map(|host| format!("another key for {host}"));
        changes.apps.iter().map(Self::words_of).chain(keys)
    }

    fn words_of(change: &Change) -> String {
        let app = &change.app;
        match &change.seek {
            Seek::Gone => format!("{app} goes"),
            Seek::Goals(goals) => format!("{app} {goals:?}"),
            Seek::Again(services) => format!("{app} tries again {services:?}"),
            Seek::Declared { release, stopped, .. } => format!("{app} is {release}, stopped {stopped:?}"),
        }
    }

    pub(crate) fn queue(&self, request: &Request, who: &str) -> Answer<()> {
        if let Some(problem) = self.refuses.lock().unwrap().take() {
            return Err(problem);
        }
        let queued = Queued { what: request.what(), who: who.to_owned(), at: Wall(0), problem: None };
        self.state.send_modify(|state| state.queued = Some(queued));
        Ok(())
    }

    /// The app `shop` is called off where it is under way; others go on.
    pub(crate) fn stop_seeking(&self) -> Answer<(Vec<Operation>, Vec<AppName>)> {
        let (mut operations, mut goes_on) = (Vec::new(), Vec::new());
        self.state.send_modify(|state| {
            state.queued = None;
            for (app, held) in &mut state.apps {
                match held.standing {
                    Standing::Done => {}
                    _ if app.as_str() == "shop" => {
                        held.standing = Standing::Done;
                        operations.push(Operation { app: app.clone(), ..operation(false) });
                    }
                    _ => goes_on.push(app.clone()),
                }
            }
        });
        Ok((operations, goes_on))
    }

    pub(crate) fn reach(&self, changes: Changes) -> Answer<Vec<Operation>> {
        if let Some(problem) = self.refuses.lock().unwrap().take() {
            return Err(problem);
        }
        let mut operations = Vec::new();
        self.state.send_modify(|state| {
            state.queued = None;
            if let Some(change) = changes.keys {
                assert_eq!(state.keys, change.from);
                state.keys = change.to;
            }
            for change in changes.apps {
                operations.push(Operation {
                    id: OperationId(7),
                    app: change.app.clone(),
                    ..operation(false)
                });
                let before = state.apps.get(&change.app);
                assert_eq!(before.map(|held| &held.stamp), change.stamp.as_ref());
                let number = before.map_or(1, |held| held.app.release + 1);
                match change.seek {
                    Seek::Gone => drop(state.apps.remove(&change.app)),
                    Seek::Again(_) => {}
                    Seek::Goals(goals) => {
                        let held = state.apps.get_mut(&change.app).unwrap();
                        for (slot, (goal, _)) in &mut held.goals {
                            match goals.get(&slot.service) {
                                Some(Runs::Yes) => *goal = Goal::Running,
                                Some(Runs::No) => *goal = Goal::Stopped,
                                None => {}
                            }
                        }
                    }
                    Seek::Declared { project, release, name, text, stopped } => {
                        let declared =
                            Declared { name, aliases: [(number, release)].into(), text: Some(text) };
                        state.apps.insert(change.app, held(project, number, declared, &stopped));
                    }
                }
            }
        });
        Ok(operations)
    }
}

/// What somebody else was first with.
pub(crate) fn meanwhile() -> Problem {
    Problem::new(ProblemKind::Conflict, "app `a0` was changed meanwhile")
}

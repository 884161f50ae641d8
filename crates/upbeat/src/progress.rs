//! How far an operation is, judged from what the daemon tells: pure, so that every verdict of
//! `up`, `start` and the rest can be tested without a daemon.
//!
//! Laws: a slot's state counts only once the slot has taken this operation's wish (its status
//! names the operation); until then what is seen is the past. What can only change by itself
//! (a process that starts, a back-off that ends) is waited for; what needs a person is trouble.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_model::{
    App, Goal, Operation, OperationId, Phase, Reason, ServiceName, SlotId, SlotStatus, Wish,
    project::{Condition, RestartPolicy, Service},
};

use crate::exit::ExitCode;

/// How far every slot shall get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Its process was started.
    Started,
    /// It is healthy, or runs where there is no health check, or has completed.
    Ready,
    /// The daemon says that the operation has ended.
    Ended,
}

/// What keeps a slot from its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It failed by itself.
    Failed,
    /// It runs, but its health check fails; or it needs one of which this is so.
    Unhealthy,
    /// It needs something that failed.
    DependencyFailed,
}

/// Where one slot stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// On its way.
    Pending,
    /// As far as asked.
    Good,
    /// It waits for an end that nobody expects, and all it waits for is as it should be.
    Waits(Vec<Reason>),
    /// Somebody else wants something else of it now.
    Superseded(OperationId),
    /// It will not get there unless a person does something.
    Bad(Trouble, Vec<Reason>),
}

/// An operation and the slots it is about, as last seen.
#[derive(Clone, Debug)]
pub struct Progress {
    operation: Operation,
    release: u64,
    slots: BTreeMap<SlotId, SlotStatus>,
    /// What the file says of each service.
    declared: BTreeMap<ServiceName, Service>,
    /// Whether the app was seen at all: before that, that it has no slots means nothing.
    is_seen: bool,
}

impl Progress {
    /// As the daemon answered.
    pub fn new(operation: Operation) -> Self {
        let (slots, declared) = (BTreeMap::new(), BTreeMap::new());
        Self { operation, release: 0, slots, declared, is_seen: false }
    }

    /// The operation, as last seen.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The slot, as last seen.
    pub fn status(&self, slot: &SlotId) -> Option<&SlotStatus> {
        self.slots.get(slot)
    }

    /// Every slot of the app, as last seen.
    pub fn statuses(&self) -> impl Iterator<Item = &SlotStatus> {
        self.slots.values()
    }

    /// The app is gone.
    pub fn see_gone(&mut self) {
        self.is_seen = true;
        self.slots.clear();
    }

    /// The operation got further, or another one is followed from here on.
    pub fn see_operation(&mut self, operation: Operation) {
        self.operation = operation;
    }

    /// The app changed. Returns the slots that entered another phase, or that are new in one.
    pub fn see_app(&mut self, app: App) -> Vec<SlotStatus> {
        self.release = app.release;
        self.declared = app.project.services;
        self.is_seen = true;
        let now: BTreeMap<SlotId, SlotStatus> = app.slots.into_iter().map(|s| (s.slot.clone(), s)).collect();
        let before = std::mem::replace(&mut self.slots, now);
        let moved = |s: &&SlotStatus| {
            before.get(&s.slot).is_none_or(|b| (b.phase, b.attempt) != (s.phase, s.attempt))
        };
        self.slots.values().filter(moved).cloned().collect()
    }

    /// The app was seen, or seen to be gone.
    pub fn is_seen(&self) -> bool {
        self.is_seen
    }

    /// Every slot of the operation and where it stands.
    pub fn standings(&self, until: Until) -> impl Iterator<Item = (&SlotId, Standing)> {
        self.operation.slots.iter().map(move |(slot, wish)| (slot, self.standing(slot, wish, until)))
    }

    /// Whether there is nothing more to wait for.
    pub fn is_settled(&self, until: Until) -> bool {
        self.operation.ended || self.standings(until).all(|(_, standing)| standing != Standing::Pending)
    }

    /// Whether nothing of these services runs, or is on its way to. An app without slots rests.
    pub fn is_at_rest(&self, services: &BTreeSet<ServiceName>) -> bool {
        // The app and the operation are told apart: the one may be behind the other.
        let untaken = |(slot, wish): (&SlotId, &Wish)| match (self.slots.get(slot), wish) {
            (_, Wish::Superseded { .. }) => false,
            (Some(status), _) => status.operation < self.operation.id,
            (None, wish) => *wish == Wish::Pending,
        };
        let rests = |phase| {
            matches!(
                phase,
                Phase::Completed | Phase::Failed | Phase::DependencyFailed | Phase::Stopped | Phase::Absent
            )
        };
        self.is_seen
            && !self.operation.slots.iter().any(untaken)
            && self.slots.values().filter(|s| services.contains(&s.slot.service)).all(|s| rests(s.phase))
    }

    fn standing(&self, slot: &SlotId, wish: &Wish, until: Until) -> Standing {
        match wish {
            Wish::Reached => match self.slots.get(slot) {
                Some(status) if status.operation == self.operation.id && status.goal == Goal::Running => {
                    since(status, until)
                }
                _ => Standing::Good,
            },
            Wish::Superseded { by } => Standing::Superseded(*by),
            Wish::Failed { reasons } => {
                let phase = self.slots.get(slot).map(|s| s.phase);
                let trouble = match phase {
                    Some(Phase::DependencyFailed) => Trouble::DependencyFailed,
                    _ if reasons.iter().any(|r| matches!(r, Reason::DependencyFailed { .. })) => {
                        Trouble::DependencyFailed
                    }
                    _ => Trouble::Failed,
                };
                Standing::Bad(trouble, reasons.clone())
            }
            Wish::Pending if until == Until::Ended => Standing::Pending,
            Wish::Pending => match self.slots.get(slot) {
                Some(status) if status.operation == self.operation.id && status.goal == Goal::Running => {
                    self.on_its_way(status, until)
                }
                _ => Standing::Pending,
            },
        }
    }

    /// A slot that has taken the wish to run, and of which the daemon has not said how it ended.
    fn on_its_way(&self, status: &SlotStatus, until: Until) -> Standing {
        let bad = |trouble| Standing::Bad(trouble, status.reasons.clone());
        if status.phase.is_alive() && status.reasons.contains(&Reason::Reloads) {
            // What fails by now may be what it is to mend.
            return Standing::Pending;
        }
        if status.reasons.iter().any(|reason| matches!(reason, Reason::ReloadFailed { .. })) {
            // The operation has failed, and is told so a moment later.
            return bad(Trouble::Failed);
        }
        match status.phase {
            Phase::Unhealthy | Phase::NeedsAttention if until == Until::Ready => bad(Trouble::Unhealthy),
            // The release tells the new copy from one that is still to be replaced.
            Phase::Starting | Phase::Unhealthy | Phase::NeedsAttention
                if until == Until::Started
                    && status.started_at.is_some()
                    && status.release == self.release =>
            {
                Standing::Good
            }
            Phase::Waiting => match self.blocked_by(status) {
                Some(trouble) => bad(trouble),
                None if self.waits_in_vain(status, until) => Standing::Waits(status.reasons.clone()),
                None => Standing::Pending,
            },
            _ => Standing::Pending,
        }
    }

    /// What stands at the end of the chain of reasons runs as it should, and it is its end that is waited
    /// for. A job may take its time: only what is not expected to end is not waited for.
    fn waits_in_vain(&self, status: &SlotStatus, until: Until) -> bool {
        let mut seen = BTreeSet::new();
        let mut current = status;
        while seen.insert(&current.slot) {
            let waits = current.reasons.iter().find_map(|reason| match reason {
                Reason::WaitsFor { service, condition, blocking: Some((slot, _)) } => {
                    Some((service, condition, slot))
                }
                _ => None,
            });
            let Some((service, condition, slot)) = waits else { return false };
            let edge = self.declared.get(&current.slot.service).and_then(|s| s.depends_on.get(service));
            let next = self.slots.get(slot).filter(|next| next.goal == Goal::Running);
            match next {
                // With a time-out it goes on by itself.
                _ if edge.is_some_and(|edge| edge.timeout.is_some()) => return false,
                Some(next) if next.phase == Phase::Waiting => current = next,
                Some(next) => return self.goes_on(next, condition, until),
                None => return false,
            }
        }
        false
    }

    /// It is there, and nobody expects it to end as this condition says.
    fn goes_on(&self, status: &SlotStatus, condition: &Condition, until: Until) -> bool {
        let is_there = match status.phase {
            Phase::Running | Phase::Healthy | Phase::Unhealthy | Phase::NeedsAttention => true,
            Phase::Starting => until == Until::Started && status.started_at.is_some(),
            _ => false,
        };
        let restart = self.declared.get(&status.slot.service).map(|service| service.restart);
        let is_endless = matches!(restart, Some(RestartPolicy::Always | RestartPolicy::UnlessStopped));
        is_there
            && match condition {
                Condition::Failed => true,
                // Who asks whether it may be used takes it for no job.
                Condition::Completed => is_endless || status.phase == Phase::Healthy,
                Condition::CompletedSuccessfully => is_endless,
                _ => false,
            }
    }

    /// What stands at the end of the chain of reasons, where only a person can remove it.
    fn blocked_by(&self, status: &SlotStatus) -> Option<Trouble> {
        let mut seen = BTreeSet::new();
        let mut current = status;
        while seen.insert(&current.slot) {
            let reason = current.reasons.iter().find(|r| r.cause().is_some())?;
            let next = self.slots.get(reason.cause()?)?;
            let waits_for = match reason {
                Reason::WaitsFor { condition, .. } => Some(condition),
                _ => None,
            };
            match next.phase {
                Phase::Unhealthy | Phase::NeedsAttention if waits_for == Some(&Condition::Healthy) => {
                    return Some(Trouble::Unhealthy);
                }
                Phase::Failed | Phase::DependencyFailed | Phase::CrashLooping => {
                    return Some(Trouble::DependencyFailed);
                }
                // Somebody stopped it, and nobody is about to start it.
                Phase::Stopped if next.goal == Goal::Stopped => return Some(Trouble::DependencyFailed),
                _ => current = next,
            }
        }
        None
    }

    /// The number the command ends with once it is settled, or when the time is over.
    ///
    /// Judged by the services that were named (empty: all): whoever asked for `web`, which runs,
    /// need not care that a dependency it can do without failed.
    pub fn exit(&self, until: Until, named: &[ServiceName]) -> ExitCode {
        let mut worst = ExitCode::Ok;
        for (slot, standing) in self.standings(until) {
            if !named.is_empty() && !named.contains(&slot.service) {
                continue;
            }
            let code = code_of(&standing);
            if rank(code) > rank(worst) {
                worst = code;
            }
        }
        worst
    }

    /// Of which service to ask why the command ends with this number: the first of those judged where
    /// that is so.
    pub fn to_blame(&self, until: Until, code: ExitCode, named: &[ServiceName]) -> Option<ServiceName> {
        let is_judged = |slot: &SlotId| named.is_empty() || named.contains(&slot.service);
        let mut standings = self.standings(until).filter(|(slot, _)| is_judged(slot));
        let asked =
            standings.find(|(_, standing)| code != ExitCode::Conflict && code_of(standing) == code)?;
        Some(asked.0.service.clone())
    }
}

fn code_of(standing: &Standing) -> ExitCode {
    match standing {
        Standing::Good | Standing::Waits(_) => ExitCode::Ok,
        Standing::Pending => ExitCode::Timeout,
        Standing::Superseded(_) => ExitCode::Conflict,
        Standing::Bad(Trouble::Failed, _) => ExitCode::Failed,
        Standing::Bad(Trouble::Unhealthy, _) => ExitCode::Unhealthy,
        Standing::Bad(Trouble::DependencyFailed, _) => ExitCode::DependencyFailed,
    }
}

/// The widest harm first: that a failure dragged others along says more than that there was one.
fn rank(code: ExitCode) -> u8 {
    match code {
        ExitCode::DependencyFailed => 5,
        ExitCode::Failed => 4,
        ExitCode::Unhealthy => 3,
        ExitCode::Timeout => 2,
        ExitCode::Conflict => 1,
        _ => 0,
    }
}

/// It was there, and may have ended since: who is told that all is well must not find it failed.
fn since(status: &SlotStatus, until: Until) -> Standing {
    let bad = |trouble| Standing::Bad(trouble, status.reasons.clone());
    match status.phase {
        Phase::Failed => bad(Trouble::Failed),
        Phase::DependencyFailed => bad(Trouble::DependencyFailed),
        Phase::BackingOff | Phase::CrashLooping if until == Until::Ready => bad(Trouble::Failed),
        Phase::Unhealthy | Phase::NeedsAttention if until == Until::Ready => bad(Trouble::Unhealthy),
        _ => Standing::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{
        NOW, dependency_failed, not_restarted, probe_fails, project, service, slot, status, waits_for_db,
    };
    use upbeat_model::{AppName, Project};

    /// Operation 4 over these slots, all pending.
    fn progress(slots: Vec<SlotStatus>) -> Progress {
        let operation = Operation {
            id: OperationId(4),
            app: AppName::new("shop").unwrap(),
            what: "up".into(),
            who: "uid 1000".into(),
            at: NOW,
            slots: slots.iter().map(|s| (s.slot.clone(), Wish::Pending)).collect(),
            ended: false,
        };
        let mut progress = Progress::new(operation);
        progress.see_app(app(slots));
        progress
    }

    fn app(slots: Vec<SlotStatus>) -> App {
        App { name: AppName::new("shop").unwrap(), release: 1, project: project(), slots }
    }

    fn with(short: &str, phase: Phase, reason: Reason) -> SlotStatus {
        SlotStatus { reasons: vec![reason], ..status(short, phase) }
    }

    fn check(progress: &Progress, until: Until, settled: bool, exit: ExitCode) {
        assert_eq!((progress.is_settled(until), progress.exit(until, &[])), (settled, exit), "{progress:#?}");
    }

    #[test]
    fn a_started_process_is_enough_for_detach_but_not_for_wait() {
        let progress = progress(vec![status("db-1", Phase::Starting)]);
        check(&progress, Until::Started, true, ExitCode::Ok);
        check(&progress, Until::Ready, false, ExitCode::Timeout);
    }

    #[test]
    fn what_was_started_elsewhere_was_started_though_no_process_of_it_is_known() {
        let elsewhere = SlotStatus { pid: None, ..status("db-1", Phase::Starting) };
        check(&progress(vec![elsewhere.clone()]), Until::Started, true, ExitCode::Ok);
        let not_yet = SlotStatus { started_at: None, ..elsewhere };
        check(&progress(vec![not_yet]), Until::Started, false, ExitCode::Timeout);
    }

    #[test]
    fn what_was_reached_and_has_failed_since_is_no_good_end() {
        let mut seen = progress(vec![with("db-1", Phase::Failed, not_restarted())]);
        seen.operation.slots.values_mut().for_each(|wish| *wish = Wish::Reached);
        check(&seen, Until::Ready, true, ExitCode::Failed);
        check(&seen, Until::Started, true, ExitCode::Failed);
        seen.see_app(app(vec![with("db-1", Phase::BackingOff, not_restarted())]));
        check(&seen, Until::Ready, true, ExitCode::Failed);
        check(&seen, Until::Started, true, ExitCode::Ok);
        let later = SlotStatus { operation: OperationId(5), ..with("db-1", Phase::Failed, not_restarted()) };
        seen.see_app(app(vec![later]));
        check(&seen, Until::Ready, true, ExitCode::Ok);
    }

    #[test]
    fn what_was_before_the_wish_arrived_does_not_count() {
        let old = OperationId(3);
        let progress =
            progress(vec![SlotStatus { operation: old, ..with("db-1", Phase::Failed, not_restarted()) }]);
        check(&progress, Until::Started, false, ExitCode::Timeout);
        assert!(!progress.is_at_rest(&BTreeSet::from([service("db")])));
    }

    #[test]
    fn nothing_rests_that_was_not_seen() {
        let db = BTreeSet::from([service("db")]);
        let seen = progress(vec![status("db-1", Phase::Completed)]);
        assert!(seen.is_at_rest(&db));
        let mut operation = seen.operation().clone();
        operation.slots.values_mut().for_each(|wish| *wish = Wish::Reached);
        let mut unseen = Progress::new(operation);
        assert!(!unseen.is_at_rest(&db), "the operation was told, the app was not");
        let old = SlotStatus { operation: OperationId(3), ..status("db-1", Phase::Stopped) };
        unseen.see_app(app(vec![old]));
        assert!(!unseen.is_at_rest(&db), "the app is behind");
        unseen.see_app(app(vec![status("db-1", Phase::Running)]));
        assert!(!unseen.is_at_rest(&db));
        unseen.see_app(app(vec![status("db-1", Phase::Stopped)]));
        assert!(unseen.is_at_rest(&db));
    }

    #[test]
    fn the_copy_that_is_still_to_be_replaced_is_not_the_started_one() {
        let progress = progress(vec![SlotStatus { release: 0, ..status("db-1", Phase::Starting) }]);
        check(&progress, Until::Started, false, ExitCode::Timeout);
    }

    #[test]
    fn waiting_for_something_that_may_still_come_is_waited_for() {
        let db = status("db-1", Phase::BackingOff);
        let progress = progress(vec![db, with("web-1", Phase::Waiting, waits_for_db())]);
        check(&progress, Until::Started, false, ExitCode::Timeout);
    }

    /// `web` waits for `db` in this way, and `db` is so.
    fn waiting(condition: Condition, phase: Phase, edit: impl FnOnce(&mut Project)) -> Progress {
        let blocking = Some((slot("db-1"), phase));
        let reason = Reason::WaitsFor { service: service("db"), condition, blocking };
        let mut progress = progress(Vec::new());
        let mut app = app(vec![status("db-1", phase), with("web-1", Phase::Waiting, reason)]);
        edit(&mut app.project);
        progress.operation.slots = app.slots.iter().map(|s| (s.slot.clone(), Wish::Pending)).collect();
        let db = progress.operation.slots.get_mut(&slot("db-1")).unwrap();
        *db = if phase.is_ready() { Wish::Reached } else { Wish::Pending };
        progress.see_app(app);
        progress
    }

    #[test]
    fn an_end_that_nobody_expects_is_not_waited_for() {
        use Condition::{Completed, CompletedSuccessfully, Failed};
        let plain = |_: &mut Project| {};
        let endless = |project: &mut Project| {
            project.services.get_mut("db").unwrap().restart = RestartPolicy::Always;
        };
        let timed = |project: &mut Project| {
            let edge = project.services.get_mut("web").unwrap().depends_on.get_mut("db").unwrap();
            edge.timeout = Some(upbeat_model::Millis::seconds(10));
        };
        for until in [Until::Started, Until::Ready] {
            for (condition, phase) in
                [(Failed, Phase::Running), (Failed, Phase::Healthy), (Completed, Phase::Healthy)]
            {
                check(&waiting(condition.clone(), phase, plain), until, true, ExitCode::Ok);
                check(&waiting(condition, phase, timed), until, false, ExitCode::Timeout);
            }
            for condition in [Completed, CompletedSuccessfully] {
                // A job, for all anybody knows.
                check(&waiting(condition.clone(), Phase::Running, plain), until, false, ExitCode::Timeout);
                check(&waiting(condition, Phase::Running, endless), until, true, ExitCode::Ok);
            }
            check(&waiting(Failed, Phase::BackingOff, plain), until, false, ExitCode::Timeout);
        }
        check(&waiting(Failed, Phase::Starting, plain), Until::Started, true, ExitCode::Ok);
        check(&waiting(Failed, Phase::Starting, plain), Until::Ready, false, ExitCode::Timeout);
        check(&waiting(Failed, Phase::Unhealthy, plain), Until::Ready, true, ExitCode::Unhealthy);
    }

    #[test]
    fn who_waits_for_one_that_waits_so_is_not_waited_for_either() {
        let mut seen = waiting(Condition::Failed, Phase::Running, |_| {});
        let mut slots: Vec<SlotStatus> = seen.statuses().cloned().collect();
        let blocking = Some((slot("web-1"), Phase::Waiting));
        let (service, condition) = (service("web"), Condition::Healthy);
        slots.push(with("cache-1", Phase::Waiting, Reason::WaitsFor { service, condition, blocking }));
        seen.operation.slots.insert(slot("cache-1"), Wish::Pending);
        seen.see_app(app(slots));
        check(&seen, Until::Ready, true, ExitCode::Ok);
    }

    #[test]
    fn waiting_for_something_that_needs_a_person_is_trouble() {
        for (db, exit) in [
            (with("db-1", Phase::Unhealthy, probe_fails()), ExitCode::Unhealthy),
            (status("db-1", Phase::CrashLooping), ExitCode::DependencyFailed),
            (
                SlotStatus { goal: Goal::Stopped, ..status("db-1", Phase::Stopped) },
                ExitCode::DependencyFailed,
            ),
        ] {
            let mut progress = progress(vec![db, with("web-1", Phase::Waiting, waits_for_db())]);
            // The database belongs to somebody else's operation.
            progress.operation.slots.retain(|slot, _| slot.service == service("web"));
            check(&progress, Until::Started, true, exit);
        }
    }

    #[test]
    fn a_failure_that_drags_others_along_is_told_from_one_that_does_not() {
        let mut progress = progress(vec![
            with("db-1", Phase::Failed, not_restarted()),
            with("web-1", Phase::DependencyFailed, dependency_failed()),
        ]);
        let mut operation = progress.operation().clone();
        for (slot, wish) in &mut operation.slots {
            let reason = if slot.service == service("db") { not_restarted() } else { dependency_failed() };
            *wish = Wish::Failed { reasons: vec![reason] };
        }
        progress.see_operation(Operation { ended: true, ..operation });
        assert_eq!(progress.exit(Until::Started, &[]), ExitCode::DependencyFailed);
        assert_eq!(progress.exit(Until::Started, &[service("db")]), ExitCode::Failed);
        assert_eq!(progress.exit(Until::Started, &[service("web")]), ExitCode::DependencyFailed);
        assert!(progress.is_at_rest(&BTreeSet::from([service("db"), service("web")])));
    }

    #[test]
    fn somebody_elses_later_wish_is_a_conflict() {
        let mut progress = progress(vec![status("db-1", Phase::Stopping)]);
        let mut operation = progress.operation().clone();
        operation.slots.values_mut().for_each(|w| *w = Wish::Superseded { by: OperationId(7) });
        progress.see_operation(Operation { ended: true, ..operation });
        check(&progress, Until::Ended, true, ExitCode::Conflict);
    }

    #[test]
    fn an_unhealthy_copy_ends_the_wait() {
        // That a reload has failed is known a moment before its operation has.
        let mut status = with("db-1", Phase::Unhealthy, probe_fails());
        status.reasons.insert(0, Reason::ReloadFailed { detail: "exit 4".to_owned() });
        check(&progress(vec![status]), Until::Ready, true, ExitCode::Failed);
        let progress = progress(vec![with("db-1", Phase::Unhealthy, probe_fails())]);
        check(&progress, Until::Ready, true, ExitCode::Unhealthy);
        check(&progress, Until::Started, true, ExitCode::Ok);
        check(&progress, Until::Ended, false, ExitCode::Timeout);
    }

    #[test]
    fn only_changes_of_phase_are_told() {
        let mut progress = progress(vec![status("db-1", Phase::Starting)]);
        assert!(progress.see_app(app(vec![status("db-1", Phase::Starting)])).is_empty());
        let moved = progress.see_app(app(vec![status("db-1", Phase::Healthy)]));
        assert_eq!(moved.len(), 1);
    }
}

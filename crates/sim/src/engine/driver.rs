//! The driver, as its contract says: what it asks of an engine for each order, and the little that it keeps.
//!
//! An order is a few requests, one after the other. Each of them may be the last that the engine answers: then
//! it carries it out later, or never, whoever is there by then.

use std::collections::BTreeMap;

use upbeat_decide::Effect;
use upbeat_decide::instance::{Held, Input, Observation, Unprepared};
use upbeat_model::project::container::PullPolicy;
use upbeat_model::project::{Service, Signal};
use upbeat_model::{Attempt, Exit, SlotId, Wall};

use super::Slip;
use super::docker::{Container, Docker, Refusal, Request, State};
use super::people::Nature;

/// What is on disk of the last start of a slot.
#[derive(Clone, Debug)]
pub(super) struct Record {
    container: String,
    pub(super) attempt: Attempt,
    /// The container's last start before this one: another one there now is this attempt.
    run_before: u64,
    ran: bool,
    failed: bool,
}

/// An attempt whose end is told, once.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) attempt: Attempt,
    pub(super) container: String,
    pub(super) run: u64,
    /// We asked it to end.
    pub(super) asked: bool,
    /// As it was told last.
    pub(super) drift: Option<String>,
}

pub(super) type Records = BTreeMap<SlotId, Record>;

/// Attempts of containers that nobody remembers.
const UNRECORDED: Attempt = Attempt(1);

/// Why an order is not carried out.
#[derive(Debug)]
enum Failure {
    /// The engine does not answer, or not any more.
    Gone,
    Refused(Refusal),
}

/// One order on its way.
pub(super) struct Order<'a> {
    pub(super) docker: &'a mut Docker,
    pub(super) records: &'a mut Records,
    pub(super) heard: &'a mut BTreeMap<SlotId, Heard>,
    /// The newest wish that something was made for.
    pub(super) newest: &'a mut BTreeMap<SlotId, u64>,
    /// So many requests are answered.
    pub(super) left: u32,
    /// The one that was not.
    pub(super) cut: Option<Request>,
    pub(super) slip: Option<Slip>,
    pub(super) now: u64,
}

/// What a prepare is for.
struct Wanted<'a> {
    slot: &'a SlotId,
    spec: &'a Service,
    digest: &'a str,
    release: u64,
    generation: u64,
}

impl Order<'_> {
    fn send(&mut self, request: Request) -> Result<(), Failure> {
        if !self.docker.is_there || self.cut.is_some() {
            return Err(Failure::Gone);
        }
        if self.left == 0 {
            self.cut = Some(request);
            return Err(Failure::Gone);
        }
        self.left -= 1;
        self.docker.apply(request).map_err(Failure::Refused)
    }

    fn reach(&self) -> Result<(), Failure> {
        if self.docker.is_there { Ok(()) } else { Err(Failure::Gone) }
    }

    /// What it comes to, and what is told of it.
    pub(super) fn carry_out(&mut self, effect: &Effect) -> Vec<Input> {
        match effect {
            Effect::Prepare { slot, generation, digest, release, spec } => {
                let (generation, release) = (*generation, *release);
                vec![self.prepare(&Wanted { slot, spec, digest, release, generation })]
            }
            Effect::Start { slot, attempt, container: Some(container), .. } => {
                vec![self.start(slot, *attempt, container)]
            }
            Effect::Mend { slot, attempt } => vec![self.mend(slot, *attempt)],
            Effect::Stop { slot, attempt, signal, grace } => {
                let grace = if *signal == Signal::KILL { 0 } else { grace.0 };
                self.stop(slot, *attempt, grace).into_iter().collect()
            }
            Effect::Remove { slot, networks, .. } => vec![self.remove(slot, networks)],
            Effect::Observe { slot, attempt, .. } => self.look(slot, *attempt),
            _ => Vec::new(),
        }
    }

    fn look(&mut self, slot: &SlotId, asked: Attempt) -> Vec<Input> {
        let Some((seen, drift)) = self.observe(slot) else {
            return vec![Input::ObserveFailed { why: "the engine does not answer".into() }];
        };
        let drifted = match (&seen, drift) {
            (Observation::Running { attempt, .. }, Some(what)) => {
                Some(Input::Drifted { attempt: *attempt, what })
            }
            _ => None,
        };
        [Input::Observed { asked, seen }].into_iter().chain(drifted).collect()
    }

    fn prepare(&mut self, wanted: &Wanted<'_>) -> Input {
        let (generation, digest) = (wanted.generation, wanted.digest.to_owned());
        let newest = self.newest.entry(wanted.slot.clone()).or_default();
        if *newest > generation {
            let why = Unprepared::Failed("a newer wish has overtaken it".into());
            return Input::PrepareFailed { generation, digest, why };
        }
        *newest = generation;
        if self.reach().is_err() {
            let why = Unprepared::Unreachable("the engine does not answer".into());
            return Input::PrepareFailed { generation, digest, why };
        }
        let why = match self.make(wanted) {
            Ok(Ok(container)) => return Input::Prepared { generation, digest, container },
            Ok(Err(network)) => Unprepared::HeldUp(format!("network {network} is in use")),
            Err(Failure::Gone) => Unprepared::BrokenOff("the engine does not answer any more".into()),
            Err(Failure::Refused(why)) => Unprepared::Failed(format!("{why:?}")),
        };
        Input::PrepareFailed { generation, digest, why }
    }

    /// The container; or the network that has to be made anew, and is in use.
    fn make(&mut self, wanted: &Wanted<'_>) -> Result<Result<String, String>, Failure> {
        let Some(spec) = wanted.spec.container.as_deref() else {
            return Err(Failure::Refused(Refusal::Absent));
        };
        let reference = spec.image.as_str();
        if spec.pull_policy == PullPolicy::Always || !self.docker.local.contains_key(reference) {
            self.send(Request::Pull { reference: reference.to_owned() })?;
        }
        let Some(image) = self.docker.local.get(reference).cloned() else {
            return Err(Failure::Refused(Refusal::Absent));
        };
        let wants: BTreeMap<String, String> =
            spec.networks().iter().map(|at| (at.network.name.clone(), at.network.digest())).collect();
        if let Err(network) = self.networks(&wants)? {
            return Ok(Err(network));
        }
        let is_it = |(_, one): &(&String, &Container)| one.digest == wanted.digest && one.image == image;
        let there = self.docker.of(wanted.slot).find(is_it).map(|(id, _)| id.clone());
        self.tidy(wanted.slot, there.as_deref())?;
        let id = match there {
            Some(id) => id,
            None => self.create(wanted, image, wants)?,
        };
        self.join(&id)?;
        Ok(Ok(id))
    }

    /// They are there; or the one that has to be made anew, and is in use.
    fn networks(&mut self, wants: &BTreeMap<String, String>) -> Result<Result<(), String>, Failure> {
        for (name, digest) in wants {
            match self.docker.networks.get(name).map(|there| there.digest.clone()) {
                Some(there) if there == *digest => continue,
                Some(_) => match self.send(Request::RemoveNetwork { name: name.clone() }) {
                    Err(Failure::Refused(Refusal::Conflict)) => return Ok(Err(name.clone())),
                    done => done?,
                },
                None => {}
            }
            self.send(Request::MakeNetwork { name: name.clone(), digest: digest.clone() })?;
        }
        Ok(Ok(()))
    }

    /// Older ones go, but for the one that was started last.
    fn tidy(&mut self, slot: &SlotId, keep: Option<&str>) -> Result<(), Failure> {
        let last = self.records.get(slot).map(|record| record.container.clone());
        let goes = |(id, one): &(&String, &Container)| {
            !one.is_alive() && Some(id.as_str()) != keep && Some(*id) != last.as_ref()
        };
        let old: Vec<String> = self.docker.of(slot).filter(goes).map(|(id, _)| id.clone()).collect();
        for id in old {
            self.send(Request::Remove { id })?;
        }
        Ok(())
    }

    fn create(
        &mut self,
        wanted: &Wanted<'_>,
        image: String,
        wants: BTreeMap<String, String>,
    ) -> Result<String, Failure> {
        let born = self.docker.next();
        let id = format!("c{born}");
        let proper = wanted.slot.to_string();
        let name = match self.docker.is_named(&proper) {
            true => format!("{proper}.{id}"),
            false => proper.clone(),
        };
        let container = Container {
            slot: wanted.slot.clone(),
            born,
            name,
            digest: wanted.digest.to_owned(),
            release: wanted.release,
            proper,
            wants,
            image,
            joined: BTreeMap::new(),
            state: State::Created,
            run: 0,
            end: None,
            nature: Nature::of(wanted.spec),
        };
        self.send(Request::Create { id: id.clone(), container: Box::new(container) })?;
        Ok(id)
    }

    /// It is in its networks.
    fn join(&mut self, id: &str) -> Result<(), Failure> {
        let Some(container) = self.docker.containers.get(id) else { return Ok(()) };
        let current = |name: &String| self.docker.networks.get(name).map(|there| there.id);
        let missing: Vec<String> = (container.wants.keys())
            .filter(|name| container.joined.get(*name).copied() != current(name) || current(name).is_none())
            .cloned()
            .collect();
        for network in missing {
            self.send(Request::Connect { id: id.to_owned(), network })?;
        }
        Ok(())
    }

    fn start(&mut self, slot: &SlotId, attempt: Attempt, container: &str) -> Input {
        match self.run(slot, attempt, container) {
            Ok(input) => input,
            Err(Failure::Gone) => Input::StartUnable { attempt, why: "the engine does not answer".into() },
            Err(Failure::Refused(Refusal::NoProgram)) => {
                Input::StartFailed { attempt, why: "there is no such program".into() }
            }
            Err(Failure::Refused(Refusal::Absent | Refusal::NoNetwork)) => Input::StartGone { attempt },
            Err(Failure::Refused(Refusal::Conflict)) => {
                Input::StartUnable { attempt, why: "conflict".into() }
            }
        }
    }

    fn run(&mut self, slot: &SlotId, attempt: Attempt, id: &str) -> Result<Input, Failure> {
        self.reach()?;
        if let Some(record) = self.records.get(slot) {
            let seen = record.attempt;
            if seen > attempt || (seen == attempt && self.has_happened(record)) {
                return Ok(Input::StartRefused { attempt, seen });
            }
        }
        if self.docker.alive(slot).is_some() && self.slip != Some(Slip::IgnoreOthers) {
            return Ok(Input::StartRefused { attempt, seen: attempt });
        }
        if !self.docker.containers.contains_key(id) {
            return Err(Failure::Refused(Refusal::Absent));
        }
        let others: Vec<String> = (self.docker.of(slot))
            .filter(|(other, _)| {
                *other != id && !matches!(self.slip, Some(Slip::LeaveOthers | Slip::IgnoreOthers))
            })
            .map(|(other, _)| other.clone())
            .collect();
        for other in others {
            self.send(Request::Remove { id: other })?;
        }
        let Some(found) = self.docker.containers.get(id) else {
            return Err(Failure::Refused(Refusal::Absent));
        };
        let (run_before, name, proper) = (found.run, found.name.clone(), found.proper.clone());
        if name != proper {
            match self.send(Request::Rename { id: id.to_owned(), name: proper }) {
                Err(Failure::Refused(Refusal::Conflict)) if self.slip.is_some() => {}
                done => done?,
            }
        }
        let record = Record { container: id.to_owned(), attempt, run_before, ran: false, failed: false };
        self.records.insert(slot.clone(), record);
        let started = self.send(Request::Start { id: id.to_owned() });
        if let Some(record) = self.records.get_mut(slot) {
            record.ran = started.is_ok();
            record.failed = matches!(started, Err(Failure::Refused(Refusal::NoProgram)));
        }
        started?;
        self.listen(slot, attempt, id);
        Ok(Input::Started { attempt, pid: 1, at: Wall(self.now as i64), log_start: 1 })
    }

    fn has_happened(&self, record: &Record) -> bool {
        let is_of = |one: &Container| one.run != record.run_before;
        record.ran || record.failed || self.docker.containers.get(&record.container).is_some_and(is_of)
    }

    fn listen(&mut self, slot: &SlotId, attempt: Attempt, id: &str) {
        let Some(found) = self.docker.containers.get(id) else { return };
        let is_known =
            |heard: &Heard| heard.attempt == attempt && heard.container == id && heard.run == found.run;
        if !self.heard.get(slot).is_some_and(is_known) {
            let (container, run) = (id.to_owned(), found.run);
            self.heard.insert(slot.clone(), Heard { attempt, container, run, asked: false, drift: None });
        }
    }

    /// What is in the slot, and how it is not as it should be.
    fn observe(&mut self, slot: &SlotId) -> Option<(Observation, Option<String>)> {
        self.reach().ok()?;
        let record = self.records.get(slot).cloned();
        let alive = self.docker.alive(slot).map(|(id, found)| (id.clone(), found.clone()));
        if let Some((id, found)) = alive {
            let attempt = record.map_or(UNRECORDED, |record| record.attempt.max(UNRECORDED));
            self.listen(slot, attempt, &id);
            let drift = found.drift(&self.docker.networks);
            let held = Held { container: id, digest: found.digest, release: found.release };
            let (pid, started_at) = (1, Wall(self.now as i64));
            let seen = Observation::Running { attempt, pid, started_at, log_start: 1, held: Some(held) };
            return Some((seen, drift));
        }
        let seen = match record {
            Some(record) => self.ended(&record),
            None => {
                let last = self.docker.of(slot).filter(|(_, one)| one.run > 0).max_by_key(|(_, one)| one.run);
                last.map_or(Observation::Never, |(_, one)| end_of(one, UNRECORDED))
            }
        };
        Some((seen, None))
    }

    fn ended(&self, record: &Record) -> Observation {
        let attempt = record.attempt;
        if record.failed {
            return Observation::Ended { attempt, exit: Exit::NotStarted("there is no such program".into()) };
        }
        match self.docker.containers.get(&record.container) {
            Some(found) if found.run != record.run_before => end_of(found, attempt),
            Some(found) if found.run > 0 => end_of(found, Attempt(attempt.0.saturating_sub(1))),
            None if record.ran => {
                Observation::Ended { attempt, exit: Exit::Unknown("its container was removed".into()) }
            }
            _ => Observation::Never,
        }
    }

    fn stop(&mut self, slot: &SlotId, attempt: Attempt, grace: u64) -> Option<Input> {
        let failed = |why: &str| Some(Input::StopFailed { attempt, why: why.to_owned() });
        let Some(heard) = self.heard.get_mut(slot).filter(|heard| heard.attempt == attempt) else {
            return failed("it is not listened to");
        };
        heard.asked = true;
        let id = heard.container.clone();
        let paused = State::Running { paused: true };
        if self.docker.containers.get(&id).is_some_and(|found| found.state == paused)
            && self.send(Request::Unpause { id: id.clone() }).is_err()
        {
            return failed("the engine does not answer");
        }
        match self.send(Request::Stop { id, grace }) {
            Ok(()) | Err(Failure::Refused(_)) => None,
            Err(Failure::Gone) => failed("the engine does not answer"),
        }
    }

    fn mend(&mut self, slot: &SlotId, attempt: Attempt) -> Input {
        let outcome = self.put_right(slot, attempt).map_err(|why| format!("{why:?}"));
        if let Some(heard) = self.heard.get_mut(slot).filter(|_| outcome.is_ok()) {
            // The same once more is told again.
            heard.drift = None;
        }
        Input::Mended { attempt, outcome }
    }

    fn put_right(&mut self, slot: &SlotId, attempt: Attempt) -> Result<(), Failure> {
        let heard = self.heard.get(slot).filter(|heard| heard.attempt == attempt);
        let id = heard.map(|heard| heard.container.clone()).ok_or(Failure::Refused(Refusal::Absent))?;
        let Some(found) = self.docker.containers.get(&id).cloned() else { return Ok(()) };
        self.send(Request::Unpause { id: id.clone() })?;
        if found.name != found.proper {
            // One of the slot that does not run may have it.
            let has_it = |(_, one): &(&String, &Container)| one.name == found.proper && !one.is_alive();
            let other = self.docker.of(slot).find(has_it).map(|(other, _)| other.clone());
            if let Some(other) = other {
                self.send(Request::Remove { id: other })?;
            }
            self.send(Request::Rename { id: id.clone(), name: found.proper })?;
        }
        if self.networks(&found.wants)?.is_err() {
            return Err(Failure::Refused(Refusal::Conflict));
        }
        self.join(&id)
    }

    fn remove(&mut self, slot: &SlotId, networks: &[String]) -> Input {
        match self.take_down(slot, networks) {
            Ok(()) => Input::Removed,
            Err(why) => Input::RemoveFailed { why: format!("{why:?}") },
        }
    }

    fn take_down(&mut self, slot: &SlotId, networks: &[String]) -> Result<(), Failure> {
        self.reach()?;
        let all: Vec<String> = self.docker.of(slot).map(|(id, _)| id.clone()).collect();
        for id in all {
            self.send(Request::Remove { id })?;
        }
        for name in networks {
            match self.send(Request::RemoveNetwork { name: name.clone() }) {
                // Somebody else uses it, or it is gone.
                Err(Failure::Refused(_)) => {}
                done => done?,
            }
        }
        self.records.remove(slot);
        self.newest.remove(slot);
        Ok(())
    }
}

fn end_of(found: &Container, attempt: Attempt) -> Observation {
    let code = match found.state {
        State::Exited(code) => code,
        _ => -1,
    };
    Observation::Ended { attempt, exit: Exit::Code(code) }
}

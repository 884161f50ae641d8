//! What was heard, without the secrets that the services were given: before it is decided on, kept or
//! told.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use upbeat_decide::instance::{Input, Mark, Moment, Unprepared};
use upbeat_model::project::Service;
use upbeat_model::target::surroundings;
use upbeat_model::withheld::Secrets;
use upbeat_model::{SlotId, Target, TargetSlot};

/// Of so many files that a slot was of, its own included: what a copy says that is about to be replaced,
/// or a probe of it that was asked before, may still be on its way.
const SPECS: usize = 4;

/// In place of what a copy says, or a command beside it, while it is not known what that copy was given: its
/// file, or what surrounded it, is an older one than this daemon has seen. Whatever it says may be a secret
/// of those, which are kept nowhere.
const UNSHOWN: &str = "withheld: it runs as an earlier `up` said, whose secrets this daemon does not know";

/// The secrets that slots were given.
#[derive(Default)]
pub(crate) struct Discretion {
    known: HashMap<SlotId, Known>,
}

/// What a slot was given by one file.
struct Given {
    spec: Arc<Service>,
    digest: String,
    base_environment: Arc<BTreeMap<String, String>>,
}

/// What one slot was given: by the newest file last.
#[derive(Default)]
struct Known {
    specs: Vec<Given>,
    /// Looked for only when there is something to be told, and then once.
    secrets: Option<Secrets>,
}

impl Known {
    fn aim(&mut self, wish: &TargetSlot) {
        let last = self.specs.last();
        let has_same = |given: &Given| {
            Arc::ptr_eq(&given.base_environment, &wish.base_environment)
                || given.base_environment == wish.base_environment
        };
        if last.is_some_and(|given| Arc::ptr_eq(&given.spec, &wish.spec) && has_same(given)) {
            return;
        }
        // Hooks of a copy bring their own. What surrounds it is no part of its digest: it runs on with what
        // it was started in.
        let is_same = |given: &Given| {
            given.digest == wish.digest && given.spec.probes == wish.spec.probes && has_same(given)
        };
        if last.is_some_and(is_same) {
            self.specs.pop();
        }
        let (spec, digest) = (wish.spec.clone(), wish.digest.clone());
        self.specs.push(Given { spec, digest, base_environment: wish.base_environment.clone() });
        if self.specs.len() > SPECS {
            self.specs.remove(0);
        }
        self.secrets = None;
    }

    /// What a copy was given by the file of this digest, and in those surroundings. Of a copy that an older
    /// version has started it is not known in which: there were none where there are none.
    fn knows(&self, copy: &Mark) -> bool {
        self.specs.iter().filter(|given| given.digest == copy.digest).any(|given| match &copy.surroundings {
            // It is given nothing but what its file says.
            _ if copy.container.is_some() => true,
            Some(started_in) => *started_in == surroundings(&given.base_environment),
            None => given.base_environment.is_empty(),
        })
    }

    fn secrets(&mut self) -> &Secrets {
        let specs = &self.specs;
        self.secrets.get_or_insert_with(|| {
            let each = specs.iter().map(|given| Secrets::of(&given.spec, &given.base_environment));
            each.fold(Secrets::default(), Secrets::and)
        })
    }
}

impl Discretion {
    /// The wishes are others: what is no slot any more has no secrets.
    pub(crate) fn aim(&mut self, target: &Target) {
        self.known.retain(|slot, _| target.slots.contains_key(slot));
        for (slot, wish) in &target.slots {
            match self.known.get_mut(slot) {
                Some(known) => known.aim(wish),
                None => self.known.entry(slot.clone()).or_default().aim(wish),
            }
        }
    }

    /// Takes them out of what somebody else wrote. `copy`: what stands in the slot, where something does.
    pub(crate) fn hide(&mut self, slot: &SlotId, copy: Option<&Mark>, input: &mut Input) {
        let is_of_copy = is_of_copy(input);
        // Its files are gone with what has ended, and it brings its variables.
        let is_parting = matches!(input, Input::HooksEnded { moment: Moment::PostStop, .. });
        let Some(text) = text_of(input).filter(|text| !text.is_empty()) else { return };
        let known = self.known.get_mut(slot);
        let is_known = known.as_ref().is_some_and(|known| copy.map_or(is_parting, |copy| known.knows(copy)));
        match known {
            _ if is_of_copy && !is_known => UNSHOWN.clone_into(text),
            Some(known) => *text = known.secrets().hide(std::mem::take(text)),
            // What Upbeat itself says of a slot that nobody wishes for any more.
            None => {}
        }
    }
}

/// Where an input quotes a service, a command beside it, or whoever answers a probe.
fn text_of(input: &mut Input) -> Option<&mut String> {
    match input {
        Input::Probed { message, .. } | Input::Unasked { why: message, .. } => Some(message),
        Input::Notified { said, .. } => said.status.as_mut(),
        Input::HooksEnded { outcome: Err(why), .. } | Input::Reloaded { outcome: Err(why), .. } => Some(why),
        Input::StartFailed { why, .. } | Input::StartUnable { why, .. } => Some(why),
        Input::HooksUnable { why, .. } | Input::ReloadUnable { why, .. } => Some(why),
        Input::StopFailed { why, .. } | Input::SignalFailed { why, .. } => Some(why),
        Input::Preparing { step: text, .. } => Some(text),
        Input::PrepareFailed { why, .. } => match why {
            Unprepared::Failed(text)
            | Unprepared::Unreachable(text)
            | Unprepared::BrokenOff(text)
            | Unprepared::HeldUp(text) => Some(text),
        },
        Input::Mended { outcome: Err(why), .. } => Some(why),
        _ => None,
    }
}

/// It quotes what runs there, not Upbeat itself, which knows of its own failures to tell.
fn is_of_copy(input: &Input) -> bool {
    let is_own = matches!(
        input,
        Input::Unasked { .. }
            | Input::StartUnable { .. }
            | Input::HooksUnable { .. }
            | Input::ReloadUnable { .. }
            | Input::StopFailed { .. }
            | Input::SignalFailed { .. }
            | Input::Preparing { .. }
            | Input::PrepareFailed { .. }
            | Input::Mended { .. }
    );
    !is_own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;
    use upbeat_decide::instance::Said;
    use upbeat_model::Attempt;

    fn slot() -> SlotId {
        "shop/web/1".parse().unwrap()
    }

    fn target(password: &str) -> Target {
        let environment = BTreeMap::from([("DB_PASSWORD".to_owned(), password.to_owned())]);
        let spec = Service { environment, ..Service::new(vec!["./web".to_owned()], "/") };
        fake::target(slot(), spec)
    }

    /// A copy that was started so.
    fn started(target: &Target) -> Mark {
        let wish = &target.slots[&slot()];
        Mark {
            generation: wish.generation,
            digest: wish.digest.clone(),
            release: wish.release,
            needs: Default::default(),
            update_lock: false,
            external: false,
            surroundings: Some(surroundings(&wish.base_environment)),
            container: None,
            holds: Default::default(),
        }
    }

    /// The same service, in these surroundings.
    fn surrounded(token: &str) -> Target {
        let mut target = target("canary-0");
        let wish = target.slots.get_mut(&slot()).unwrap();
        wish.base_environment = Arc::new([("A_TOKEN".to_owned(), token.to_owned())].into());
        target
    }

    fn inputs(text: &str) -> Vec<Input> {
        let (attempt, why) = (Attempt(1), text.to_owned());
        vec![
            Input::Probed { attempt, check: 1, healthy: false, message: why.clone() },
            Input::Notified { attempt, said: Said { status: Some(why.clone()), ..Said::default() } },
            Input::HooksEnded { attempt, moment: Moment::PreStart, serial: 1, outcome: Err(why.clone()) },
            Input::Reloaded { attempt, serial: 1, outcome: Err(why.clone()) },
            Input::StartFailed { attempt, why: why.clone() },
            Input::HooksUnable { attempt, moment: Moment::PreStart, serial: 1, why: why.clone() },
            Input::ReloadUnable { attempt, serial: 1, why: why.clone() },
            Input::StopFailed { attempt, why },
        ]
    }

    #[test]
    fn nothing_that_is_heard_holds_a_secret_of_its_service() {
        let mut discretion = Discretion::default();
        let passwords: Vec<String> = (0..=SPECS).map(|n| format!("canary-{n}")).collect();
        for (n, password) in passwords.iter().enumerate() {
            let copy = started(&target(password));
            discretion.aim(&target(password));
            // The same again, as another command would have it.
            discretion.aim(&target(password));
            // What was on its way when the file changed, too.
            for password in &passwords[(n + 1).saturating_sub(SPECS)..=n] {
                for mut input in inputs(&format!("no {password}")) {
                    discretion.hide(&slot(), Some(&copy), &mut input);
                    let told = format!("{input:?}");
                    assert!(!told.contains("canary") && told.contains("no ***"), "{told}");
                }
            }
        }
        assert_eq!(discretion.known[&slot()].specs.len(), SPECS);
        discretion.aim(&Target::default());
        assert!(discretion.known.is_empty());
    }

    /// What surrounds a service is no part of its digest: a copy runs on with what it was started in.
    #[test]
    fn what_surrounded_a_copy_when_it_was_started_is_kept_out_too() {
        let mut discretion = Discretion::default();
        discretion.aim(&surrounded("canary-old"));
        discretion.aim(&surrounded("canary-new"));
        let copy = started(&surrounded("canary-old"));
        for mut input in inputs("no canary-old canary-new canary-0") {
            discretion.hide(&slot(), Some(&copy), &mut input);
            let told = format!("{input:?}");
            assert!(told.contains("no *** *** ***"), "{told}");
        }
    }

    /// As after a restart of the daemon: what it was started in is known to nobody any more.
    #[test]
    fn what_a_copy_says_whose_surroundings_are_not_known_is_withheld() {
        let mut discretion = Discretion::default();
        discretion.aim(&surrounded("canary-new"));
        let [old, new] = ["canary-old", "canary-new"].map(|token| started(&surrounded(token)));
        let of_older_version = Mark { surroundings: None, ..new.clone() };
        for (copy, is_known) in [(&old, false), (&new, true), (&of_older_version, false)] {
            for mut input in inputs("no canary-new").into_iter().filter(is_of_copy) {
                discretion.hide(&slot(), Some(copy), &mut input);
                let told = format!("{input:?}");
                assert_eq!(
                    (told.contains("no ***"), told.contains(UNSHOWN)),
                    (is_known, !is_known),
                    "{told}"
                );
            }
        }
        // Where there are no surroundings, none are missed.
        discretion.aim(&target("canary-0"));
        let of_older_version = Mark { surroundings: None, ..started(&target("canary-0")) };
        let mut input = inputs("no canary-0").swap_remove(0);
        discretion.hide(&slot(), Some(&of_older_version), &mut input);
        assert!(format!("{input:?}").contains("no ***"), "{input:?}");
    }

    /// As after a restart of the daemon: the wish is the newest, and the copy is of the one before.
    #[test]
    fn what_a_copy_says_whose_file_is_not_known_is_withheld() {
        let mut discretion = Discretion::default();
        discretion.aim(&target("canary-new"));
        let [old, new] = ["canary-old", "canary-new"].map(|password| started(&target(password)));
        for copy in [Some(&old), None] {
            for mut input in inputs("no canary-old") {
                let is_own = !is_of_copy(&input);
                discretion.hide(&slot(), copy, &mut input);
                let told = format!("{input:?}");
                assert_eq!(told.contains("canary"), is_own, "{told}");
                assert_eq!(told.contains(UNSHOWN), !is_own, "{told}");
            }
        }
        let (attempt, moment, why) = (Attempt(1), Moment::PostStop, "no canary-new".to_owned());
        let mut parting = Input::HooksEnded { attempt, moment, serial: 1, outcome: Err(why) };
        discretion.hide(&slot(), None, &mut parting);
        assert!(format!("{parting:?}").contains("no ***"), "{parting:?}");
        // What says nothing goes on saying nothing.
        let mut silent = Input::Notified { attempt: Attempt(1), said: Said::default() };
        let before = format!("{silent:?}");
        discretion.hide(&slot(), Some(&old), &mut silent);
        assert_eq!(format!("{silent:?}"), before);
        // The copy is replaced, or the file is as it was.
        for (password, copy) in [("canary-new", &new), ("canary-old", &old)] {
            discretion.aim(&target(password));
            for mut input in inputs(&format!("no {password}")) {
                discretion.hide(&slot(), Some(copy), &mut input);
                let told = format!("{input:?}");
                assert!(told.contains("no ***") && !told.contains("canary"), "{told}");
            }
        }
        // A slot that nobody wishes for, and which is not gone yet.
        discretion.aim(&Target::default());
        for mut input in inputs("no canary-old").into_iter().filter(is_of_copy) {
            discretion.hide(&slot(), Some(&old), &mut input);
            assert!(!format!("{input:?}").contains("canary"), "{input:?}");
        }
    }
}

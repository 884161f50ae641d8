//! One decision about an entity after the other: whoever has to know something for it is asked, and what was decided is
//! kept.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::sync::MutexGuard;
use upbeat_decide::rollout::{Answer, Decision, NewTarget, Question, Rollout, Step, Told, decide};
use upbeat_model::rollout::{EntityId, Reason, Report, TargetId};

use super::entity::{Entity, Growth, Held, Holding};
use super::{Inner, RolloutError, Share, ask, leaves, room};

/// So many calls wait for one entity's turn. Each holds a connection, and those of slow controllers would hold
/// all.
const WAITING_MAX: usize = 256;

impl Inner {
    /// It is decided when its turn has come, and what was decided is kept. All who wait for the same decision, which
    /// is the next for each, share what that comes to: so many callers make two decisions, and ask controllers twice.
    pub(super) async fn decide(&self, entity: &Arc<Entity>, decision: u64) -> Result<(), RolloutError> {
        let waiting = Waiting::new(&entity.id, &entity.waiting, WAITING_MAX)?;
        let turn = entity.turn.lock().await;
        drop(waiting);
        match entity.came_to(decision) {
            Some(came_to) => came_to,
            None => self.decide_in_turn(entity, turn, None).await,
        }
    }

    /// The same of what is wanted by those who do not wait for it. Whoever wants another from the moment on that its
    /// turn has come has it decided again.
    pub(super) async fn decide_wanted(&self, entity: &Arc<Entity>) -> Result<(), RolloutError> {
        let turn = entity.turn.lock().await;
        let wanted = entity.due.swap(0, Ordering::AcqRel);
        match entity.came_to(wanted) {
            Some(came_to) => came_to,
            None => self.decide_in_turn(entity, turn, None).await,
        }
    }

    /// With what is held already, where something is: that is kept in any case.
    pub(super) async fn decide_in_turn(
        &self,
        entity: &Arc<Entity>,
        _turn: MutexGuard<'_, ()>,
        begun: Option<Holding>,
    ) -> Result<(), RolloutError> {
        let held = match begun {
            Some(held) => held,
            None => self.hold_known(entity).await?,
        };
        let number = entity.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let came_to = self.decide_about(entity, held).await;
        *entity.ended.lock().unwrap_or_else(PoisonError::into_inner) = (number, came_to.clone());
        came_to
    }

    pub(super) async fn hold_known(&self, entity: &Arc<Entity>) -> Result<Holding, RolloutError> {
        self.hold(entity).await?.ok_or_else(|| RolloutError::NoSuchEntity(entity.id.clone()))
    }

    async fn decide_about(&self, entity: &Arc<Entity>, begun: Holding) -> Result<(), RolloutError> {
        let (mut said, mut about) = (Said::default(), None);
        let mut begun = Some(begun);
        loop {
            let mut held = match begun.take() {
                Some(held) => held,
                None => self.hold_known(entity).await?,
            };
            let now = self.clock.now();
            let asks = self.asker.asks(&entity.id, &held.rest.controllers);
            // What was said of one version is no answer about another that took its place meanwhile.
            let now_about = (held.rollout.in_force(), held.rollout.number);
            if about.replace(now_about.clone()).is_some_and(|before| before != now_about) {
                (said.told, said.selected) = (Told::default(), Vec::new());
                self.keep_gone(entity, &mut held, &mut said.gone).await?;
            }
            // Hours go by while controllers answer.
            let told = std::mem::take(&mut said.told);
            let told = told.opening(held.rollout.strategy.windows.at((self.wall)()));
            let deciding = move |rollout: &mut Rollout| (decide(rollout, asks, &told, now), told);
            let (decided, told) = self.think(&mut held, 0, deciding).await?;
            said.told = told;
            match decided {
                Err(nothing) => {
                    if held.rollout.targets.is_empty() {
                        // Nobody said anything of it yet.
                        self.drop_unkept(entity, &mut held);
                        return Err(nothing.into());
                    }
                    self.keep(entity, &mut held).await?;
                    return Err(nothing.into());
                }
                Ok(Step::Ask(question)) => self.ask(entity, held, question, &mut said).await?,
                Ok(Step::Settle(mut decision)) => {
                    self.grow_by_created(&mut held, &mut decision);
                    // Also where that is no part of what was decided: it may have become bad meanwhile, or fewer were
                    // to go. Who was removed and made anew is there.
                    let mut gone = said.gone;
                    gone.retain(|id| !decision.created.iter().any(|new| new.id == *id));
                    let taking = move |rollout: &mut Rollout| {
                        rollout.take_on(*decision, now);
                        rollout.take_gone(&gone);
                    };
                    self.think(&mut held, 0, taking).await?;
                    return self.keep(entity, &mut held).await;
                }
            }
        }
    }

    /// Somebody is asked, while others look and change.
    async fn ask(
        &self,
        entity: &Arc<Entity>,
        mut held: Holding,
        question: Question,
        said: &mut Said,
    ) -> Result<(), RolloutError> {
        self.keep(entity, &mut held).await?;
        let removal = match &question {
            Question::Removal(old, count) => Some((old.clone(), *count)),
            _ => None,
        };
        let selected = std::mem::take(&mut said.selected);
        let asking = move |rollout: &mut Rollout| (ask::asked(question, rollout, &selected), selected);
        let (asked, selected) = self.think(&mut held, 0, asking).await?;
        said.selected = selected;
        let controllers = held.rest.controllers.clone();
        // Whoever looks, pauses or reports meanwhile does not wait for the answer.
        drop(held);
        let answer = match self.answer(&entity.id, &controllers, asked).await {
            Ok(answer) => answer,
            Err(unanswered) => {
                let mut held = self.hold_known(entity).await?;
                self.keep_gone(entity, &mut held, &mut said.gone).await?;
                return Err(unanswered);
            }
        };
        if let Answer::Selection(Ok(new)) = &answer {
            said.selected.clone_from(new);
        }
        said.told.take(answer);
        if let Some((old, count)) = removal {
            said.gone = said.told.gone(&old, count);
        }
        Ok(())
    }

    /// Whoever selects wants some to be there. Where there is no room for them, they are not, and that is said: a
    /// rollback must not stand still for them.
    fn grow_by_created(&self, held: &mut Held, decision: &mut Decision) {
        if decision.created.is_empty() {
            return;
        }
        let report = |NewTarget { id, labels }: &NewTarget| {
            let (target, labels) = (id.clone(), labels.clone());
            let version = held.rollout.in_force();
            leaves::growth(
                &Report { target, version, is_error: false, message: String::new(), labels, failed: false },
                None,
            )
        };
        let bytes = decision.created.iter().map(report).sum();
        let share = if held.rest.is_listeners { Share::Listener } else { Share::Whole };
        if let Err(refused) = self.grow(held, decision.created.len(), Growth { share, bytes }) {
            let why = refused.to_string();
            let is_known = held.rollout.reasons.iter().any(|reason| matches!(reason, Reason::NoRoom { .. }));
            if !is_known {
                tracing::warn!(entity = %held.rest.id, why, "targets that were selected could not be made");
            }
            room::without_created(decision, why);
        }
    }
}

/// What was said so far for one decision.
#[derive(Default)]
struct Said {
    told: Told,
    /// Whom whoever selects wants to be next.
    selected: Vec<NewTarget>,
    /// Whom whoever removes has removed, in doing what it was asked.
    gone: Vec<TargetId>,
}

/// A call that waits, among so many.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// Errors: there are as many as there may be.
    pub(super) fn new(id: &EntityId, among: &'a AtomicUsize, max: usize) -> Result<Self, RolloutError> {
        let waiting = among.fetch_add(1, Ordering::AcqRel);
        let this = Self(among);
        match waiting >= max {
            true => Err(RolloutError::Busy { id: id.clone(), waiting }),
            false => Ok(this),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

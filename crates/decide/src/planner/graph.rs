//! Steps under construction: tasks by number, and what each waits for.

use upbeat_model::SlotId;
use upbeat_model::dag::{Dag, DagError};
use upbeat_model::plan::{After, Plan, Step, StepReason, Task};
use upbeat_model::project::Condition;

use super::{Budget, NoPlan, counted};

/// A step by the order in which it was thought of.
pub(super) type Node = u32;

struct Draft {
    task: Task,
    reason: StepReason,
    interrupts: bool,
    /// One may be said several times, until they are numbered.
    after: Vec<(Node, Option<Condition>)>,
}

impl Draft {
    /// Each other step once, in order; of several conditions the first that was said.
    fn tidy(&mut self) {
        self.after.sort_by_key(|(on, _)| *on);
        self.after.dedup_by(|again, first| {
            let is_same = again.0 == first.0;
            if is_same && first.1.is_none() {
                first.1 = again.1.take();
            }
            is_same
        });
    }
}

/// The steps.
pub(super) struct Graph<'a> {
    drafts: Vec<Draft>,
    budget: &'a Budget<'a>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(budget: &'a Budget<'a>) -> Self {
        Self { drafts: Vec::new(), budget }
    }

    pub(super) fn add(&mut self, task: Task, reason: StepReason) -> Result<Node, NoPlan> {
        self.budget.spend()?;
        self.drafts.push(Draft { task, reason, interrupts: false, after: Vec::new() });
        Ok(counted(self.drafts.len() - 1))
    }

    /// The step stops something that runs.
    pub(super) fn interrupts(&mut self, node: Node) {
        self.drafts[node as usize].interrupts = true;
    }

    pub(super) fn wait(&mut self, node: Node, on: Node) -> Result<(), NoPlan> {
        self.wait_for(node, on, None)
    }

    /// With what has to hold of the other's slot.
    pub(super) fn wait_for(
        &mut self,
        node: Node,
        on: Node,
        condition: Option<Condition>,
    ) -> Result<(), NoPlan> {
        self.budget.spend()?;
        self.drafts[node as usize].after.push((on, condition));
        Ok(())
    }

    /// All of the first wait for all of the others; by a step between, where that saves edges. So their
    /// number grows with the steps, not with the square of them.
    pub(super) fn wait_all(&mut self, nodes: &[Node], on: &[Node], between: Task) -> Result<(), NoPlan> {
        if nodes.len() * on.len() <= nodes.len() + on.len() {
            for (node, on) in nodes.iter().flat_map(|node| on.iter().map(move |on| (*node, *on))) {
                self.wait(node, on)?;
            }
            return Ok(());
        }
        let between = self.add(between, StepReason::Order)?;
        on.iter().try_for_each(|on| self.wait(between, *on))?;
        nodes.iter().try_for_each(|node| self.wait(*node, between))
    }

    /// Steps in topological order by (level, slot, kind of task), each numbered by its place.
    pub(super) fn number(mut self) -> Plan {
        self.drafts.iter_mut().for_each(Draft::tidy);
        let (levels, places) = (self.levels(), self.places());
        let key = |node: &Node| -> (u32, u32, u8, Node) {
            let at = *node as usize;
            (levels[at], places[at], self.drafts[at].task.rank(), *node)
        };
        let mut order: Vec<Node> = (0..counted(self.drafts.len())).collect();
        order.sort_by_cached_key(key);
        let mut numbers = vec![0; self.drafts.len()];
        for (place, node) in order.iter().enumerate() {
            numbers[*node as usize] = counted(place + 1);
        }
        let mut steps: Vec<Step> = Vec::with_capacity(order.len());
        let mut drafts: Vec<Option<Draft>> = self.drafts.into_iter().map(Some).collect();
        for node in order.into_iter().map(|node| node as usize) {
            let Some(draft) = drafts[node].take() else { continue };
            let after = draft.after.into_iter();
            let mut after: Vec<After> =
                after.map(|(on, condition)| After { step: numbers[on as usize], condition }).collect();
            after.sort_by_key(|after| after.step);
            steps.push(Step {
                number: numbers[node],
                level: levels[node],
                goal: draft.task.goal(),
                undo: draft.task.undo(),
                task: draft.task,
                reason: draft.reason,
                after,
                interrupts: draft.interrupts,
            });
        }
        Plan { steps, ..Plan::default() }
    }

    /// The place of each step's slot among all, from 1, and 0 for one that is of none: so that steps are
    /// sorted by numbers, and names are compared once a step.
    fn places(&self) -> Vec<u32> {
        let of_slots = self.drafts.iter().enumerate();
        let of_slots = of_slots.filter_map(|(node, draft)| Some((draft.task.slot()?, node)));
        let mut of_slots: Vec<(&SlotId, usize)> = of_slots.collect();
        // Most were thought of slot by slot, which this sort makes use of.
        of_slots.sort_by_key(|(slot, _)| *slot);
        let mut places = vec![0; self.drafts.len()];
        for (place, steps) in of_slots.chunk_by(|(one, _), (other, _)| one == other).enumerate() {
            for (_, node) in steps {
                places[*node] = counted(place + 1);
            }
        }
        places
    }

    /// How deep each step is.
    ///
    /// A cycle can only be where the specs in one of the two maps do not fit together: leftovers of an
    /// older release beside the current one, which declare each other as dependencies. Then one edge
    /// of it goes: the plan loses an order nobody can keep, and no step.
    fn levels(&mut self) -> Vec<u32> {
        loop {
            let nodes = self.drafts.iter().enumerate();
            let nodes = nodes.map(|(node, draft)| (counted(node), draft.after.iter().map(|(on, _)| *on)));
            let (node, on) = match Dag::new(nodes) {
                Ok(dag) => {
                    let mut levels = vec![0; self.drafts.len()];
                    for (level, nodes) in dag.levels().into_iter().enumerate() {
                        for node in nodes {
                            levels[node as usize] = counted(level);
                        }
                    }
                    return levels;
                }
                Err(DagError::Cycle(path)) if path.len() > 1 => (path[0], path[1]),
                Err(DagError::SelfDependency(node)) => (node, node),
                // Edges are made between steps only, so nothing is missing or unknown.
                Err(_) => return vec![0; self.drafts.len()],
            };
            self.drafts[node as usize].after.retain(|(other, _)| *other != on);
        }
    }
}

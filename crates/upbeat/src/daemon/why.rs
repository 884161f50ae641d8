//! Why the copies of a service are as they are: a chain from each to its cause, folded.
//!
//! Laws: a slot is told once, however many chains lead to it; copies of which the same is to be said
//! are one; and the answer is bounded, whatever the graph and however many copies there are.

use std::collections::{BTreeMap, BTreeSet};

use upbeat_drivers::process::ProcessDriver;
use upbeat_model::{Phase, Reason, ServiceName, SlotId, SlotStatus, Why, WhyLink};

use super::logs;

/// Lines of output that help to understand a failure.
const LAST_LINES: u64 = 10;

/// Links of a chain of causes. A graph is acyclic; a chain that is longer helps nobody, and who asks
/// is told where it goes on.
const CHAIN_MAX: usize = 100;

/// Chains of an answer: nobody reads more paragraphs, and the statuses of all copies are to be had
/// elsewhere.
const CHAINS_MAX: usize = 20;

/// Copies named as alike; the others are counted.
const ALIKE_MAX: usize = 10;

/// The answer for one service of an app that has these slots.
pub(super) async fn explain(service: &ServiceName, slots: &[SlotStatus], driver: &ProcessDriver) -> Why {
    let mut why = fold(service, slots);
    for link in why.chains.iter_mut().flatten().filter(|link| needs_lines(&link.status)) {
        link.last_lines = logs::last_lines(&driver.log_dir(&link.status.slot), LAST_LINES).await;
    }
    why
}

/// The chains, without any output.
fn fold(service: &ServiceName, slots: &[SlotStatus]) -> Why {
    let by_id: BTreeMap<&SlotId, &SlotStatus> = slots.iter().map(|status| (&status.slot, status)).collect();
    let mut why = Why::default();
    let mut told = BTreeSet::new();
    for (_, status) in by_id.iter().filter(|(slot, _)| slot.service == *service) {
        let heads = why.chains.iter_mut().filter_map(|chain| chain.first_mut());
        if let Some(head) = heads.into_iter().find(|head| are_alike(&head.status, status)) {
            match head.alike.len() < ALIKE_MAX {
                true => head.alike.push(status.slot.clone()),
                false => head.alike_more += 1,
            }
        } else if why.chains.len() < CHAINS_MAX {
            why.chains.push(chain(status, &by_id, &mut told));
        } else {
            why.more += 1;
        }
    }
    why
}

/// Every slot that leads to the cause, this one first; it ends where it meets one that was told.
fn chain<'a>(
    head: &'a SlotStatus,
    slots: &BTreeMap<&'a SlotId, &'a SlotStatus>,
    told: &mut BTreeSet<&'a SlotId>,
) -> Vec<WhyLink> {
    let mut links: Vec<WhyLink> = Vec::new();
    let mut next = Some(head);
    while let Some(status) = next
        && links.len() < CHAIN_MAX
    {
        told.insert(&status.slot);
        let cause = status.reasons.iter().find_map(Reason::cause).and_then(|id| slots.get(id)).copied();
        let is_link = |cause: &SlotStatus| {
            cause.slot == status.slot || links.iter().any(|link| link.status.slot == cause.slot)
        };
        // A circle is no chain that was told before.
        next = cause.filter(|cause| !is_link(cause));
        let is_told = next.is_some_and(|next| told.contains(&next.slot));
        links.push(WhyLink { told: is_told, ..WhyLink::from(status.clone()) });
        next = next.filter(|_| !is_told);
    }
    links
}

/// The same is to be said of both. What a copy printed is its own, so where that is shown there are
/// no two alike.
fn are_alike(one: &SlotStatus, other: &SlotStatus) -> bool {
    let said = |s: &SlotStatus| (s.goal, s.phase, s.restarts);
    !needs_lines(other) && said(one) == said(other) && one.exit == other.exit && one.reasons == other.reasons
}

/// Its output helps to understand why it is not as it should be.
fn needs_lines(status: &SlotStatus) -> bool {
    if status.ran_nothing() {
        return false;
    }
    let by_itself =
        |reason: &Reason| matches!(reason, Reason::EndedWith { slot, .. } if *slot == status.slot);
    if status.reasons.iter().any(by_itself) {
        return true;
    }
    match status.phase {
        Phase::Failed
        | Phase::BackingOff
        | Phase::CrashLooping
        | Phase::Unhealthy
        | Phase::NeedsAttention
        | Phase::Starting => true,
        Phase::Absent
        | Phase::Stopped
        | Phase::Waiting
        | Phase::DependencyFailed
        | Phase::Running
        | Phase::Healthy
        | Phase::Stopping
        | Phase::Completed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{backs_off, face, not_restarted, service, slot, status};
    use crate::face::why::text;
    use upbeat_model::Exit;
    use upbeat_model::project::Condition;

    fn waits(short: &str, on: &str) -> SlotStatus {
        let blocking = slot(on);
        let reason = Reason::WaitsFor {
            service: blocking.service.clone(),
            condition: Condition::Healthy,
            blocking: Some((blocking, Phase::Waiting)),
        };
        SlotStatus { reasons: vec![reason], ..status(short, Phase::Waiting) }
    }

    fn fails(short: &str) -> SlotStatus {
        SlotStatus { reasons: vec![backs_off()], ..status(short, Phase::BackingOff) }
    }

    fn told(slots: &[SlotStatus]) -> String {
        text(&fold(&service("web"), slots), &face())
    }

    #[test]
    fn a_thousand_copies_behind_a_long_chain_are_one_paragraph() {
        let link = |n: u32| waits(&format!("s{n:02}-1"), &format!("s{:02}-1", n - 1));
        let mut slots: Vec<SlotStatus> = (1..98).map(link).collect();
        slots.push(fails("s00-1"));
        slots.extend((1..=1_000).map(|n| waits(&format!("web-{n}"), "s97-1")));
        let why = fold(&service("web"), &slots);
        assert_eq!(why.chains.iter().map(Vec::len).collect::<Vec<_>>(), [99]);
        let head = &why.chains[0][0];
        assert_eq!((head.alike.len(), head.alike_more, why.more), (ALIKE_MAX, 989, 0));
        let size = serde_json::to_vec(&why).unwrap().len();
        assert!(size < 100_000, "{size} bytes");
    }

    #[test]
    fn a_chain_ends_where_an_earlier_one_went() {
        let (db, cache) = (waits("db-1", "disk-1"), waits("cache-1", "db-1"));
        let slots = [waits("web-1", "db-1"), waits("web-2", "cache-1"), waits("web-3", "db-1"), db, cache];
        insta::assert_snapshot!(told(&[&slots[..], &[fails("disk-1")]].concat()), @"
        web-1 waits for db to be healthy (db-1 is waiting)
          the same holds for web-3
          └ db-1 waits for disk to be healthy (disk-1 is waiting)
            └ disk-1 backs off 4s after its 3rd exit (exit 1); it starts again in 2s

        web-2 waits for cache to be healthy (cache-1 is waiting)
          └ cache-1 waits for db to be healthy (db-1 is waiting)
            └ db-1, as told above
        ");
    }

    #[test]
    fn copies_that_fail_are_told_each_and_what_is_too_many_is_counted() {
        let mut slots: Vec<SlotStatus> =
            (1..=3).map(|n| status(&format!("web-{n}"), Phase::Running)).collect();
        slots.push(SlotStatus { restarts: 2, ..status("web-4", Phase::Running) });
        slots.extend((5..=50).map(|n| fails(&format!("web-{n}"))));
        let why = fold(&service("web"), &slots);
        assert_eq!((why.chains.len(), why.more), (CHAINS_MAX, 28));
        let shown = text(&why, &face());
        insta::assert_snapshot!(shown.lines().take(6).collect::<Vec<_>>().join("\n"), @"
        web-1 is running for 3m; all is as wished
          also running: web-2, web-3

        web-4 is running for 3m, after 2 restarts; all is as wished

        web-5 backs off 4s after its 3rd exit (exit 1); it starts again in 2s
        ");
        insta::assert_snapshot!(shown.lines().last().unwrap(), @"… and 28 more copies; `upbeat ps` lists all");
    }

    #[test]
    fn of_what_ran_nothing_no_earlier_output_is_told() {
        let failed = |exit: Exit| SlotStatus { exit: Some(exit), ..status("web-1", Phase::Failed) };
        assert!(needs_lines(&failed(Exit::Code(1))));
        assert!(!needs_lines(&failed(Exit::NotStarted("there is no user `nobody-here`".to_owned()))));
        assert!(needs_lines(&failed(Exit::NotStarted("pre_start: `sh`: exit 1".to_owned()))));
        let unmade = Reason::CannotPrepare { detail: "there is no such image".to_owned() };
        assert!(!needs_lines(&SlotStatus { reasons: vec![unmade], ..failed(Exit::Code(1)) }));
        // An attempt that runs has its own.
        let before = Exit::NotStarted("there is no user `nobody-here`".to_owned());
        assert!(needs_lines(&SlotStatus { exit: Some(before), ..status("web-1", Phase::Unhealthy) }));
    }

    #[test]
    fn a_circle_ends_and_a_long_chain_is_cut() {
        let circle = [waits("web-1", "db-1"), waits("db-1", "web-1")];
        let why = fold(&service("web"), &circle);
        assert_eq!(why.chains[0].len(), 2);
        assert!(!why.chains[0][1].told, "that it comes back is no earlier chain");
        let long: Vec<SlotStatus> =
            (1..=150).map(|n| waits(&format!("web-{n}"), &format!("web-{}", n + 1))).collect();
        let why = fold(&service("web"), &long);
        assert_eq!((why.chains[0].len(), why.chains[0][CHAIN_MAX - 1].told), (CHAIN_MAX, false));
        assert!(why.chains.iter().flatten().count() <= long.len());
    }

    #[test]
    fn a_daemon_that_does_not_fold_yet_is_understood() {
        let why = fold(&service("web"), &[status("web-1", Phase::Running)]);
        let mut told = serde_json::to_value(&why).unwrap();
        told.as_object_mut().unwrap().remove("more");
        told["chains"][0][0].as_object_mut().unwrap().retain(|key, _| key == "status" || key == "last_lines");
        assert_eq!(serde_json::from_value::<Why>(told).unwrap(), why);
    }

    #[test]
    fn what_a_copy_printed_is_its_own() {
        let failed = |n| SlotStatus { reasons: vec![not_restarted()], ..status(n, Phase::Failed) };
        let why = fold(&service("web"), &[failed("web-1"), failed("web-2")]);
        assert_eq!(why.chains.len(), 2);
    }
}

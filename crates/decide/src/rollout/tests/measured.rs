//! What is measured of a version, and what follows from it.

use upbeat_model::rollout::{
    AnalysisSpec, AnalysisWord, Cadence, Gate, Happened, Measure, Outcome, Sample, SampleOutcome, Source,
    VALUE_MAX,
};

use super::*;

fn by() -> String {
    "ann".to_owned()
}

/// So many samples, a second apart; without a number, for ever.
pub(super) fn spec(name: &str, after: Option<&str>, count: Option<u32>) -> AnalysisSpec {
    let cadence = Cadence {
        interval: Some(Millis::seconds(1)),
        count,
        consecutive_error_limit: 1,
        ..Cadence::default()
    };
    let source = Source::Exec(vec!["check".into()]);
    let measure = Measure { source, success: "result < 1".into(), failure: None, cadence };
    AnalysisSpec { name: name.into(), measure, after: after.map(Into::into) }
}

/// Four targets on `v1`, and `v2` begins: one first, with this gate, then the rest.
fn story(gate: Gate, analyses: Vec<AnalysisSpec>) -> Story {
    let mut story = Story::established(4);
    story.options(options(100, 100, 0, 60));
    let stages = vec![Stage::canary(Amount::Count(1), gate)];
    let strategy = Strategy { stages, analyses, ..Strategy::default() };
    story.ask(Change::SetStrategy(Some(Box::new(strategy))));
    story.ask(Change::ForceVersion(v("v3")));
    story.call();
    story.rollout.take_happened();
    story
}

impl Story {
    fn take(&mut self, name: &str, outcome: SampleOutcome) -> bool {
        let number = self.rollout.number;
        self.rollout.take_sample(number, name, Sample { outcome, value: "0.5".into() }, self.now)
    }

    fn due(&self) -> Vec<String> {
        self.rollout.due(self.now).now.into_iter().map(|(name, _)| name).collect()
    }

    /// Everybody does what they shall, and says so.
    fn run(&mut self) {
        self.call();
        self.obey();
        self.call();
    }

    /// Everybody does what they shall and is well on it, and it is decided.
    fn turn(&mut self) -> usize {
        self.run();
        self.pass(1);
        self.call();
        self.on_v3()
    }

    fn on_v3(&self) -> usize {
        self.assigned().get("v3").copied().unwrap_or_default()
    }

    fn words(&self) -> Vec<(String, AnalysisWord)> {
        let progress = self.rollout.progress(self.now);
        progress.analyses.into_iter().map(|analysis| (analysis.name, analysis.verdict)).collect()
    }

    fn happened(&mut self) -> String {
        let happened = self.rollout.take_happened();
        happened.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

const SUCCESS: SampleOutcome = SampleOutcome::Success;

fn error() -> SampleOutcome {
    SampleOutcome::Error("silent".into())
}

#[test]
fn nothing_follows_a_stage_before_what_is_measured_after_it_is_successful() {
    let mut story = story(Gate::None, vec![spec("load", Some("canary"), Some(2))]);
    assert_eq!(story.due(), [""; 0], "its stage is not done");
    assert_eq!(story.words(), [("load".to_owned(), AnalysisWord::Waits)]);
    assert_eq!(story.turn(), 1);
    assert_eq!(story.why(), "analysis `load` is measured: 0 of 2 samples are taken");
    assert_eq!(story.due(), ["load"]);
    assert!(story.take("load", SUCCESS));
    assert_eq!(story.due(), [""; 0], "the next comes a second later");
    assert_eq!(story.rollout.due(story.now).next, Some(story.now + Millis::seconds(1)));
    assert!(!story.take("load", SUCCESS), "one that was not asked for counts for nothing");
    story.pass(1);
    assert_eq!(story.turn(), 1);
    assert_eq!(story.why(), "analysis `load` is measured: 1 of 2 samples are taken");
    assert!(story.take("load", SUCCESS));
    assert!(story.happened().ends_with("analysis `load` of `v3`: successful"));
    assert_eq!(story.turn(), 4);
    story.turn();
    assert_eq!(story.rollout.course(), Course::Steady(v("v3")));
    assert_eq!(story.words(), []);
}

#[test]
fn what_has_been_due_for_longest_is_measured_first() {
    let specs = ["a", "b", "c"].map(|name| spec(name, None, Some(3)));
    let mut story = story(Gate::None, specs.into());
    story.turn();
    assert_eq!(story.due(), ["a", "b", "c"], "all at once: as they are written");
    assert!(story.take("a", SUCCESS));
    story.pass(2);
    assert_eq!(story.due(), ["b", "c", "a"]);
    assert!(story.take("b", SUCCESS));
    story.pass(1);
    assert_eq!(story.due(), ["c", "a", "b"]);
}

#[test]
fn an_analysis_that_fails_makes_the_version_bad_at_once() {
    let mut story =
        story(Gate::None, vec![spec("load", Some("canary"), Some(3)), spec("errors", None, None)]);
    story.turn();
    assert_eq!(story.due(), ["errors", "load"], "which has been due for longer");
    assert!(story.take("load", SUCCESS));
    assert!(story.take("errors", SampleOutcome::Failure));
    assert!(matches!(story.rollout.course(), Course::Back { .. }));
    let why = "analysis `errors` failed: 1 failed, and 0 may; last: 0.5";
    assert_eq!(story.rollout.known_bad[&v("v3")].reason.to_string(), why);
    assert_eq!(story.rollout.history.last().unwrap().outcome, Outcome::Bad);
    let happened = story.happened();
    assert!(happened.contains(&format!("`v3` is bad: {why}")), "{happened}");
    let words = [("load".to_owned(), AnalysisWord::Ended), ("errors".to_owned(), AnalysisWord::Failed)];
    assert_eq!(story.words(), words);
    // Going back measures nothing, and what comes late changes nothing.
    story.pass(5);
    let before = story.rollout.clone();
    assert_eq!((story.due(), story.rollout.next_measure()), (Vec::new(), None));
    assert!(!story.take("load", SampleOutcome::Failure));
    assert!(story.rollout == before);
    story.turn();
    assert_eq!(story.on_v3(), 0);
}

#[test]
fn throughout_a_rollout_targets_go_on_and_the_version_is_not_good() {
    let mut story = story(Gate::None, vec![spec("errors", None, Some(2)), spec("watch", None, None)]);
    story.call();
    assert_eq!(
        (story.on_v3(), story.due()),
        (1, Vec::new()),
        "nobody runs it: what is measured is another's"
    );
    story.run();
    assert_eq!(story.due(), ["errors", "watch"], "they begin with the first that does");
    story.turn();
    assert_eq!(story.turn(), 4);
    story.turn();
    assert_eq!(story.rollout.course(), Course::Forward(v("v3")));
    assert_eq!(story.why(), "analysis `errors` is measured: 0 of 2 samples are taken");
    for _ in 0..2 {
        assert!(story.take("errors", SUCCESS) && story.take("watch", SUCCESS));
        story.pass(1);
    }
    story.call();
    assert_eq!(story.rollout.course(), Course::Steady(v("v3")), "one without an end is not waited for");
    assert_eq!(story.due(), [""; 0]);
}

#[test]
fn what_nobody_can_say_holds_up_everybody_until_somebody_does() {
    let unclear = || {
        let mut story = story(Gate::None, vec![spec("errors", None, Some(9))]);
        story.run();
        assert!(story.take("errors", error()));
        story.pass(1);
        assert!(story.take("errors", error()));
        assert_eq!(story.turn(), 1, "nobody else is moved");
        let why = "2 errors in a row, and 1 may be: silent";
        let why = format!("analysis `errors` is unclear, and somebody has to approve or abort: {why}");
        assert!(story.why().ends_with(&why), "{}", story.why());
        assert_eq!(story.rollout.course(), Course::Forward(v("v3")), "that is no evidence");
        assert_eq!(story.words(), [("errors".to_owned(), AnalysisWord::Error)]);
        assert_eq!(story.due(), [""; 0]);
        story.rollout.take_happened();
        story
    };
    let mut it = unclear();
    it.ask(Change::Approve { by: by() });
    assert_eq!(it.happened(), "ann passed over analysis `errors` of `v3`");
    assert_eq!(it.words(), [("errors".to_owned(), AnalysisWord::PassedOver)]);
    assert_eq!(it.turn(), 4);
    it.turn();
    assert_eq!(it.rollout.course(), Course::Steady(v("v3")));

    let mut it = unclear();
    it.ask(Change::Retry);
    assert_eq!((it.due(), it.turn()), (vec!["errors".to_owned()], 4), "it is measured anew");

    let mut it = unclear();
    it.ask(Change::Promote { by: by() });
    assert_eq!(it.turn(), 4, "the canary is taken for done");

    let mut it = unclear();
    it.ask(Change::Abort { by: by(), why: String::new() });
    assert!(matches!(it.rollout.course(), Course::Back { .. }));

    let mut it = unclear();
    it.ask(Change::PromoteAll { by: by() });
    assert_eq!(it.rollout.course(), Course::Steady(v("v3")));
}

#[test]
fn an_inconclusive_one_is_unclear_too() {
    let mut story = story(Gate::None, vec![spec("load", Some("canary"), Some(2))]);
    story.turn();
    assert!(story.take("load", SampleOutcome::Inconclusive));
    assert_eq!(story.words(), [("load".to_owned(), AnalysisWord::Inconclusive)]);
    assert_eq!(story.turn(), 1);
    story.ask(Change::Approve { by: by() });
    assert_eq!(story.turn(), 4);
}

#[test]
fn a_gate_opens_when_what_is_measured_before_it_is_successful() {
    let mut it = story(Gate::Approval, vec![spec("load", Some("canary"), Some(1))]);
    it.turn();
    let refused = it.rollout.change(Change::Approve { by: by() }, it.now).unwrap_err().to_string();
    assert_eq!(
        refused,
        "there is nothing to approve: analysis `load` is measured: 0 of 1 samples are taken; \
         `promote` goes on without it"
    );
    assert!(it.take("load", SUCCESS));
    assert_eq!(it.turn(), 1);
    assert_eq!(it.why(), "waits for approval after stage `canary`");
    it.ask(Change::Approve { by: by() });
    assert_eq!(it.turn(), 4);

    // One that is unclear is passed over, and the gate is opened, by the same person at once.
    let mut it = story(Gate::Approval, vec![spec("load", Some("canary"), Some(1))]);
    it.turn();
    assert!(it.take("load", SampleOutcome::Inconclusive));
    it.ask(Change::Approve { by: by() });
    let happened = it.happened();
    assert!(happened.contains("ann passed over analysis `load` of `v3`; "), "{happened}");
    assert!(happened.contains("after stage `canary`"), "{happened}");
    assert_eq!(it.turn(), 4);

    // A pause is over or not, whatever was measured meanwhile.
    let mut it = story(Gate::Pause(Millis::seconds(10)), vec![spec("load", Some("canary"), Some(1))]);
    it.turn();
    it.pass(20);
    assert_eq!(it.turn(), 1, "it is measured first");
    assert!(it.take("load", SUCCESS));
    assert_eq!(it.turn(), 4);
}

#[test]
fn a_step_forward_begins_what_is_measured_and_the_next_passes_over_it() {
    let mut story = story(Gate::None, vec![spec("load", Some("canary"), Some(5))]);
    story.call();
    story.ask(Change::Promote { by: by() });
    assert_eq!(story.due(), ["load"], "the stage is taken for done");
    story.turn();
    assert_eq!(story.on_v3(), 1);
    story.ask(Change::Promote { by: by() });
    assert_eq!(story.words(), [("load".to_owned(), AnalysisWord::PassedOver)]);
    assert_eq!(story.turn(), 4);
    story.turn();
    assert_eq!(story.rollout.course(), Course::Steady(v("v3")));
}

#[test]
fn what_is_measured_of_one_rollout_says_nothing_of_the_next() {
    let mut story = story(Gate::None, vec![spec("errors", None, Some(2))]);
    story.run();
    let number = story.rollout.number;
    story.ask(Change::ForceVersion(v("v4")));
    story.call();
    let failure = Sample { outcome: SampleOutcome::Failure, value: String::new() };
    let before = story.rollout.clone();
    assert!(!story.rollout.take_sample(number, "errors", failure.clone(), story.now));
    assert!(!story.rollout.take_sample(number + 1, "other", failure, story.now));
    assert!(story.rollout == before);
    // What the strategy says later is for later.
    story.ask(Change::SetStrategy(None));
    story.run();
    assert_eq!(story.due(), ["errors"]);
}

#[test]
fn it_is_measured_while_it_is_paused_and_after_a_restart() {
    let mut story = story(Gate::None, vec![spec("errors", None, Some(3))]);
    story.run();
    story.ask(Change::Pause { by: by() });
    assert!(story.take("errors", SUCCESS));
    story.pass(1);
    story.restart();
    assert_eq!(story.due(), ["errors"], "a sample that was not taken is taken again");
    assert!(story.take("errors", SUCCESS));
    story.restart();
    assert!(!story.take("errors", SUCCESS), "one that was is not");
    let analysis = &story.rollout.progress(story.now).analyses[0];
    assert_eq!((analysis.successes, analysis.of, &*analysis.value), (2, Some(3), "0.5"));
    assert_eq!(analysis.next, Some(story.now + Millis::seconds(1)));
}

#[test]
fn nobody_is_late_while_what_is_measured_is_waited_for() {
    let mut story = story(Gate::None, vec![spec("errors", None, Some(3))]);
    let strategy = Strategy { progress_deadline: Some(Millis::seconds(30)), ..Strategy::default() };
    story.ask(Change::SetStrategy(Some(Box::new(strategy))));
    for _ in 0..3 {
        story.turn();
    }
    story.pass(100);
    story.call();
    assert_eq!(story.rollout.course(), Course::Forward(v("v3")), "{}", story.why());
}

#[test]
fn what_is_found_is_kept_on_one_short_line() {
    let mut story = story(Gate::None, vec![spec("errors", None, Some(3))]);
    story.run();
    let value = format!("a\n\u{1b}[2J{}", "é".repeat(2_000));
    let sample = Sample { outcome: SampleOutcome::Success, value };
    assert!(story.rollout.take_sample(story.rollout.number, "errors", sample, story.now));
    let value = story.rollout.progress(story.now).analyses[0].value.clone();
    assert!(value.starts_with("a  [2Jé") && value.ends_with('…'), "{value}");
    assert_eq!(value.chars().count(), VALUE_MAX);
}

#[test]
fn what_is_measured_takes_its_time_in_a_simulation() {
    use crate::rollout::simulate::{Crowd, End, Scenario, simulate};
    let scenario = |analyses| Scenario {
        crowds: vec![Crowd { targets: 4, labels: BTreeMap::new(), failure_rate: 0.0 }],
        options: options(100, 100, 0, 60),
        strategy: Strategy {
            stages: vec![Stage::canary(Amount::Count(1), Gate::Approval)],
            analyses,
            ..Strategy::default()
        },
        switch: (Millis(0), Millis(0)),
        every: Millis::seconds(1),
        approves_after: Some(Millis(0)),
        begins: upbeat_model::Wall(0),
    };
    let mut slow = spec("load", Some("canary"), Some(10));
    slow.measure.cadence.interval = Some(Millis::seconds(60));
    slow.measure.cadence.initial_delay = Millis::seconds(30);
    let (without, with) = (scenario(vec![]), scenario(vec![slow]));
    let (without, with) = (simulate(&without, 1).unwrap(), simulate(&with, 1).unwrap());
    assert_eq!((without.end, with.end), (End::Good, End::Good));
    // Whoever approves does so with the last sample, and without one a report later.
    assert_eq!(with.lasted.0 - without.lasted.0, 30_000 + 9 * 60_000 - 1_000);
    assert!(with.timeline.iter().any(|moment| {
        moment.happened.iter().any(|happened| matches!(happened, Happened::AnalysisDone { .. }))
    }));
}

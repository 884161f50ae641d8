//! The numbers of rollouts.

use upbeat_control::rollouts::RolloutNumbers;
use upbeat_model::rollout::CourseWord;

use super::page::Page;
use super::table as t;

/// Where an entity can be, and how that is called.
const COURSES: [(CourseWord, &str); 5] = [
    (CourseWord::None, "none"),
    (CourseWord::Steady, "steady"),
    (CourseWord::Forward, "forward"),
    (CourseWord::Back, "back"),
    (CourseWord::Halted, "halted"),
];

/// As a label may be: people name these as they like.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(super) fn write(page: &mut Page, rollouts: &[RolloutNumbers]) {
    let labels = |state: &RolloutNumbers| {
        format!("namespace=\"{}\",entity=\"{}\"", escaped(&state.namespace), escaped(&state.entity))
    };
    let rows: Vec<(String, &RolloutNumbers)> = rollouts.iter().map(|state| (labels(state), state)).collect();
    page.family(t::ROLLOUT_STATE);
    for (labels, state) in &rows {
        for (course, word) in COURSES {
            let labels = format!("{labels},state=\"{word}\"");
            page.number(t::ROLLOUT_STATE, &labels, u8::from(course == state.course));
        }
    }
    page.family(t::ROLLOUT_PAUSED);
    for (labels, state) in &rows {
        page.number(t::ROLLOUT_PAUSED, labels, u8::from(state.is_paused));
    }
    page.family(t::ROLLOUT_TARGETS);
    for (labels, state) in &rows {
        for (standing, count) in standings(state) {
            page.number(t::ROLLOUT_TARGETS, &format!("{labels},standing=\"{standing}\""), count);
        }
    }
    page.family(t::ROLLOUT_VERSION);
    for (labels, state) in &rows {
        let versions = [
            ("target", &state.target),
            ("rolling", &state.rolling),
            ("good", &state.good),
            ("bad", &state.bad),
        ];
        for (is, version) in versions {
            if let Some(version) = version {
                let labels = format!("{labels},is=\"{is}\",version=\"{}\"", escaped(version.as_str()));
                page.number(t::ROLLOUT_VERSION, &labels, 1);
            }
        }
    }
    page.family(t::ROLLOUT_BEGAN);
    for (labels, state) in &rows {
        if let Some(since) = state.since {
            page.number(t::ROLLOUT_BEGAN, labels, since.0 as f64 / 1e3);
        }
    }
    page.family(t::ROLLOUTS);
    for (labels, state) in &rows {
        page.number(t::ROLLOUTS, labels, state.number);
    }
}

/// How many there are of each kind. Where no version is in force, nobody stands to it in any way.
fn standings(state: &RolloutNumbers) -> Vec<(&'static str, usize)> {
    let counts = &state.counts;
    match state.course {
        CourseWord::None | CourseWord::Halted => vec![("none", counts.total)],
        CourseWord::Steady | CourseWord::Forward | CourseWord::Back => vec![
            ("available", counts.available),
            ("on_the_way", counts.on_the_way),
            ("well", counts.well),
            ("failed", counts.failed),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use upbeat_control::rollouts::{Answering, Asked, Asker, Change, Rollouts, Settings};
    use upbeat_model::Wall;
    use upbeat_model::rollout::{Amount, Controllers, EntityId, Options, Report, TargetId, Version};

    use super::*;

    struct Nobody;

    impl Asker for Nobody {
        fn ask<'a>(&'a self, _: &'a EntityId, _: &'a Controllers, asked: Asked) -> Answering<'a> {
            panic!("nobody answers {asked:?}")
        }
    }

    #[tokio::test]
    async fn each_entity_tells_where_it_is_and_how_its_targets_stand() {
        let (store, _journal) = upbeat_store::open_memory().unwrap();
        let settings =
            Settings { wall: || Wall(5_000), asker: Arc::new(Nobody), events: None, failpoint: |_| {} };
        let kept = Rollouts::open(store, settings).await.unwrap();
        let (web, odd) = (EntityId::new("prod", "web").unwrap(), EntityId::new("a\"b", "c\\d").unwrap());
        let change = |id: &EntityId, change| kept.change(id.clone(), change, None);
        let careless = Options { batch: Amount::Percent(100), success_percent: 0, ..Options::default() };
        let v = |text| Version::new(text).unwrap();
        change(&web, Change::SetOptions(Some(careless))).await.unwrap();
        change(&web, Change::SetVersion(v("v1"))).await.unwrap();
        let report = |name, version| Report {
            target: TargetId::new("", name).unwrap(),
            version: Some(v(version)),
            is_error: false,
            message: String::new(),
            labels: Default::default(),
            failed: false,
        };
        let all = || vec![report("a", "v1"), report("b", "v1"), report("c", "v1")];
        kept.orchestrate(web.clone(), all()).await.unwrap();
        change(&web, Change::SetOptions(Some(Options { batch: Amount::Count(1), ..Options::default() })))
            .await
            .unwrap();
        change(&web, Change::SetVersion(v("v2"))).await.unwrap();
        for _ in 0..2 {
            kept.orchestrate(web.clone(), all()).await.unwrap();
        }
        change(&web, Change::Pause { by: "ann".into() }).await.unwrap();
        change(&odd, Change::SetVersion(v("v\"1"))).await.unwrap();
        let mut page = Page::default();
        write(&mut page, &kept.numbers().await.0);
        let page = page.text();
        let of_web = "namespace=\"prod\",entity=\"web\"";
        for line in [
            format!("upbeat_rollout_state{{{of_web},state=\"forward\"}} 1"),
            format!("upbeat_rollout_state{{{of_web},state=\"steady\"}} 0"),
            format!("upbeat_rollout_paused{{{of_web}}} 1"),
            format!("upbeat_rollout_targets{{{of_web},standing=\"available\"}} 2"),
            format!("upbeat_rollout_targets{{{of_web},standing=\"on_the_way\"}} 1"),
            format!("upbeat_rollout_version_info{{{of_web},is=\"rolling\",version=\"v2\"}} 1"),
            format!("upbeat_rollout_version_info{{{of_web},is=\"good\",version=\"v1\"}} 1"),
            format!("upbeat_rollouts_total{{{of_web}}} 2"),
            r#"upbeat_rollout_version_info{namespace="a\"b",entity="c\\d",is="target",version="v\"1"} 1"#
                .into(),
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        }
        let began = format!("upbeat_rollout_began_timestamp_seconds{{{of_web}}} 5");
        assert!(page.lines().any(|line| line.starts_with(&began)), "{page}");
        assert!(!page.contains("is=\"bad\""), "{page}");
    }
}

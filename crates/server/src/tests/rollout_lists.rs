//! Lists of rollouts and units, a page at a time; and what is watched of a unit.

use futures_util::TryStreamExt;
use insta::assert_snapshot;
use upbeat_api::rollouts::{RolloutAction, RolloutsQuery};
use upbeat_api::{ClientError, ProblemKind};
use upbeat_model::rollout::{EntityId, RolloutsPage};

use super::House;

fn id(namespace: &str, entity: &str) -> EntityId {
    EntityId::new(namespace, entity).unwrap()
}

fn names(page: &RolloutsPage) -> Vec<&str> {
    page.rollouts.iter().map(|state| state.entity.as_str()).collect()
}

#[tokio::test]
async fn a_list_is_asked_for_page_by_page_and_names_who_cannot_be_read() {
    let house = House::open();
    let client = house.client();
    for entity in ["a", "b ?&", "c", "lost"] {
        client.act_on_rollout(&id("x/y", entity), &RolloutAction::Pause).await.unwrap();
    }
    let mut query = RolloutsQuery { limit: Some(2), ..RolloutsQuery::default() };
    let first = client.rollouts(&query).await.unwrap();
    assert_eq!((names(&first), first.next.as_deref()), (vec!["a", "b ?&"], Some("x%2Fy/b ?&")));
    query.after = first.next;
    let rest = client.rollouts(&query).await.unwrap();
    assert_eq!((names(&rest), &rest.next), (vec!["c"], &None));
    assert_eq!(
        (rest.unreadable[0].name.as_str(), rest.unreadable[0].why.as_str()),
        ("lost", "the disk is away")
    );
    let whole = client.rollouts(&RolloutsQuery::default()).await.unwrap();
    assert_eq!((whole.rollouts.len(), whole.unreadable.len(), whole.next), (3, 1, None));
    let refused = async |after: Option<&str>, limit| {
        let query = RolloutsQuery { namespace: None, after: after.map(str::to_owned), limit };
        let errors =
            [client.rollouts(&query).await.unwrap_err(), client.rollout_units(&query).await.unwrap_err()];
        assert_eq!(errors[0].to_string(), errors[1].to_string());
        errors[0].to_string()
    };
    assert_snapshot!(refused(Some("web"), None).await, @"in the query: `after` must be what `next` of the page before says");
    assert_snapshot!(refused(None, Some(1_001)).await, @"in the query: limit: 1001 is more than 1000");
    assert_snapshot!(refused(None, Some(0)).await, @"in the query: limit: it must be 1 at least");
}

#[tokio::test]
async fn a_unit_is_watched_and_units_are_listed() {
    let house = House::open();
    let (client, release) = (house.client(), id("prod", "release"));
    let state = client.rollout_unit(&release).await.unwrap();
    let watched: Vec<_> = client.watch_rollout_unit(&release).await.unwrap().try_collect().await.unwrap();
    assert_eq!(watched, std::slice::from_ref(&state));
    let none = client.watch_rollout_unit(&id("prod", "none")).await.err().unwrap();
    assert!(
        matches!(&none, ClientError::Problem(problem) if problem.kind == ProblemKind::NotFound),
        "{none}"
    );
    house.fake.rollouts.asked();
    let query =
        RolloutsQuery { namespace: Some("prod".into()), after: Some("a%2Fb/c".into()), limit: Some(7) };
    assert_eq!(client.rollout_units(&query).await.unwrap().units, [state]);
    let asked = house.fake.rollouts.asked().remove(0);
    assert_snapshot!(asked, @r#"units Wanted { namespace: Some("prod"), after: Some(EntityId { namespace: "a/b", entity: "c" }), limit: 7 }"#);
}

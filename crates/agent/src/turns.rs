//! Whose turn it is to probe: the probes of one app do not hold up those of another.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use upbeat_drivers::probe::{Place, Prober};
use upbeat_model::AppName;

/// Probes of one app under way at once. Up to so many that hang delay no other of the app; who comes then
/// waits until the first of them has ended, which it does when its time is over.
const OF_ONE_APP: usize = 256;

/// It takes so many apps that hang to use up what is there for all.
const APPS: usize = 4;

/// The turns to probe.
pub(crate) struct Turns {
    prober: Prober,
    of_one_app: usize,
    apps: HashMap<AppName, Weak<Semaphore>>,
    /// When there are so many apps, those that ask nothing any more are forgotten.
    tidy_at: usize,
}

/// The place of one app in the queue.
pub(crate) struct Queue {
    name: AppName,
    app: Arc<Semaphore>,
    prober: Prober,
}

/// Leave to probe, until it is dropped.
pub(crate) struct Turn {
    /// There are the means to.
    pub(crate) place: Place,
    _of_app: Option<OwnedSemaphorePermit>,
}

/// Fewer apps than this are not worth being looked through.
const TIDY_FROM: usize = 64;

impl Turns {
    /// To ask this one.
    pub(crate) fn new(prober: Prober) -> Self {
        let of_one_app = (prober.places() / APPS).clamp(1, OF_ONE_APP);
        Self { prober, of_one_app, apps: HashMap::new(), tidy_at: TIDY_FROM }
    }

    /// Probes of one app under way at once.
    #[cfg(test)]
    pub(crate) fn of_one_app(&self) -> usize {
        self.of_one_app
    }

    /// Where an app's probes queue.
    pub(crate) fn of(&mut self, app: &AppName) -> Queue {
        let (name, prober) = (app.clone(), self.prober.clone());
        if let Some(app) = self.apps.get(app).and_then(Weak::upgrade) {
            return Queue { name, app, prober };
        }
        if self.apps.len() >= self.tidy_at {
            self.apps.retain(|_, turns| turns.strong_count() > 0);
            self.tidy_at = TIDY_FROM.max(self.apps.len() * 2);
        }
        let turns = Arc::new(Semaphore::new(self.of_one_app));
        self.apps.insert(app.clone(), Arc::downgrade(&turns));
        Queue { name, app: turns, prober }
    }
}

impl Queue {
    /// Waits for its turn: first among its own, so that an app that hangs is before the others with no
    /// more than its share; then for the means to ask, which the app is given that has the fewest out.
    pub(crate) async fn turn(self) -> Turn {
        // The semaphore is never closed, so there is no error to tell.
        let of_app = self.app.acquire_owned().await.ok();
        Turn { place: self.prober.place(&self.name).await, _of_app: of_app }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};
    use upbeat_drivers::process::{Places, ProcessDriver, ShimProgram};

    /// What is there at once. So many are asked for that the runtime would have them wait for others.
    fn now(turn: impl Future<Output = Turn>) -> Option<Turn> {
        match std::pin::pin!(tokio::task::unconstrained(turn)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    fn app(name: &str) -> AppName {
        AppName::new(name).unwrap()
    }

    /// No process is started here.
    fn turns() -> Turns {
        let program = ShimProgram { path: "/nonexistent".into(), args: Vec::new() };
        let [slots, private, process] = ["/nonexistent"; 3].map(Into::into);
        let (driver, _events) = ProcessDriver::new(program, Places { slots, private, process }).unwrap();
        Turns::new(Prober::new(driver))
    }

    #[tokio::test]
    async fn an_app_whose_probes_all_hang_holds_up_no_other() {
        let mut turns = turns();
        let hanging: Vec<Turn> = (0..).map_while(|_| now(turns.of(&app("hangs")).turn())).collect();
        assert_eq!(hanging.len(), turns.of_one_app());
        let other = now(turns.of(&app("web")).turn());
        assert!(other.is_some());
        drop(hanging);
        assert!(now(turns.of(&app("hangs")).turn()).is_some());
    }

    #[tokio::test]
    async fn where_all_is_in_use_the_next_is_of_the_app_that_has_the_fewest_out() {
        let mut turns = turns();
        let mut hanging = Vec::new();
        for n in 0..=APPS {
            let app = app(&format!("hangs{n}"));
            hanging.extend((0..).map_while(|_| now(turns.of(&app).turn())));
        }
        assert_eq!(hanging.len(), turns.prober.places());
        // Behind one of an app that has its share out but for one.
        hanging.remove(0);
        let mut another = Box::pin(tokio::task::unconstrained(turns.of(&app("hangs1")).turn()));
        let mut other = Box::pin(tokio::task::unconstrained(turns.of(&app("web")).turn()));
        let mut context = Context::from_waker(Waker::noop());
        let taken = now(turns.of(&app("hangs2")).turn());
        assert!(taken.is_none(), "it has its share");
        hanging.extend(now(turns.of(&app("hangs0")).turn()));
        assert!(another.as_mut().poll(&mut context).is_pending());
        assert!(other.as_mut().poll(&mut context).is_pending());
        hanging.remove(0);
        assert!(another.as_mut().poll(&mut context).is_pending());
        assert!(other.as_mut().poll(&mut context).is_ready());
    }

    #[tokio::test]
    async fn apps_that_ask_nothing_are_forgotten() {
        let mut turns = turns();
        for n in 0..10 * TIDY_FROM {
            assert!(now(turns.of(&app(&format!("app{n}"))).turn()).is_some());
        }
        assert!(turns.apps.len() <= TIDY_FROM);
    }
}

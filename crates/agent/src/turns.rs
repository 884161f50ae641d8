//! Whose turn it is to probe: the probes of one app do not hold up those of another.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use upbeat_model::AppName;

/// Probes of one app under way at once. Enough that some hundred hanging ones delay no other of the
/// app; few enough that it takes many such apps to use up what is there for all.
const OF_ONE_APP: usize = 256;

/// Probes under way at once. Each has a socket or two, and many systems allow a daemon no more than
/// 4,096 open files. Who waits for a turn waits in order, one app behind the other.
const OF_ALL: usize = 1024;

/// The turns to probe.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    apps: HashMap<AppName, Weak<Semaphore>>,
    /// When there are so many apps, those that ask nothing any more are forgotten.
    tidy_at: usize,
}

/// The place of one app in the queue.
pub(crate) struct Queue {
    app: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// Leave to probe, until it is dropped.
pub(crate) struct Turn {
    _of_app: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

/// Fewer apps than this are not worth being looked through.
const TIDY_FROM: usize = 64;

impl Turns {
    pub(crate) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(OF_ALL)), apps: HashMap::new(), tidy_at: TIDY_FROM }
    }

    /// Where an app's probes queue.
    pub(crate) fn of(&mut self, app: &AppName) -> Queue {
        let all = self.all.clone();
        if let Some(app) = self.apps.get(app).and_then(Weak::upgrade) {
            return Queue { app, all };
        }
        if self.apps.len() >= self.tidy_at {
            self.apps.retain(|_, turns| turns.strong_count() > 0);
            self.tidy_at = TIDY_FROM.max(self.apps.len() * 2);
        }
        let turns = Arc::new(Semaphore::new(OF_ONE_APP));
        self.apps.insert(app.clone(), Arc::downgrade(&turns));
        Queue { app: turns, all }
    }
}

impl Queue {
    /// Waits for its turn. First among its own, so that an app that hangs is before the others with
    /// no more than its share.
    pub(crate) async fn turn(self) -> Turn {
        // The semaphores are never closed, so there is no error to tell.
        let of_app = self.app.acquire_owned().await.ok();
        Turn { _of_app: of_app, _of_all: self.all.acquire_owned().await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    /// What is there at once.
    fn now(turn: impl Future<Output = Turn>) -> Option<Turn> {
        match std::pin::pin!(turn).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    fn app(name: &str) -> AppName {
        AppName::new(name).unwrap()
    }

    #[test]
    fn an_app_whose_probes_all_hang_holds_up_no_other() {
        let mut turns = Turns::new();
        let hanging: Vec<Turn> = (0..).map_while(|_| now(turns.of(&app("hangs")).turn())).collect();
        assert_eq!(hanging.len(), OF_ONE_APP);
        let other = now(turns.of(&app("web")).turn());
        assert!(other.is_some());
        drop(hanging);
        assert!(now(turns.of(&app("hangs")).turn()).is_some());
    }

    #[test]
    fn all_apps_together_have_a_bound_too_and_are_forgotten_when_they_ask_nothing() {
        let mut turns = Turns::new();
        let mut hanging = Vec::new();
        for n in 0..OF_ALL / OF_ONE_APP {
            let app = app(&format!("hangs{n}"));
            hanging.extend((0..).map_while(|_| now(turns.of(&app).turn())));
        }
        assert_eq!(hanging.len(), OF_ALL);
        assert!(now(turns.of(&app("web")).turn()).is_none());
        drop(hanging);
        for n in 0..10 * TIDY_FROM {
            assert!(now(turns.of(&app(&format!("app{n}"))).turn()).is_some());
        }
        assert!(turns.apps.len() <= TIDY_FROM);
    }
}

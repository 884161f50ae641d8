//! Streams that outlive the daemon: when it is killed its services go on, and so does whoever
//! follows them.
//!
//! A killed daemon is looked for again and, if nobody else starts it, started. One that was shut
//! down on purpose is waited for, but not started: somebody wanted it so.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;
use upbeat_api::{Client, ClientError, ProblemKind, Updates};

use super::session::Session;
use crate::daemon;
use crate::exit::ExitCode;
use crate::failure::Failure;

/// How long a service manager, where there is a unit for one, is given to start a successor of a
/// killed daemon before this client does: the unit says one second.
const SUCCESSOR_OF_KILLED: Duration = Duration::from_secs(3);

/// How long a daemon that was shut down may take to come back: an update of the package.
const SUCCESSOR_OF_SHUT_DOWN: Duration = Duration::from_secs(15);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A daemon that is lost so often within [`LOSSES_WITHIN`] is no accident: something is wrong with it,
/// or with what we ask, and starting it again mends neither.
const LOSSES_MAX: usize = 20;

/// As long as a person may watch a daemon die and come back before being told that it is no use.
const LOSSES_WITHIN: Duration = Duration::from_secs(60);

/// After the first loss a successor is looked for at once, as most daemons are lost once; after the
/// second within [`LOSSES_WITHIN`] so much later, and after each further one twice as late.
const BACK_OFF: Duration = Duration::from_millis(10);

/// Many daemons in a row are to leave the machine its time, and to reach [`LOSSES_MAX`] within
/// [`LOSSES_WITHIN`] all the same.
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

type Opening<T> = Pin<Box<dyn Future<Output = Result<Updates<T>, ClientError>>>>;

/// A stream that is opened again when the daemon is lost. [`Steady::next`] may be cancelled.
pub(super) struct Steady<'a, T> {
    session: &'a Session,
    client: Client,
    open: Box<dyn Fn() -> Opening<T> + 'a>,
    state: State<T>,
    /// A daemon was there a moment ago, and what is followed was there.
    expected: bool,
    losses: Losses,
}

enum State<T> {
    /// Not opened yet, or lost for this reason.
    Closed(Option<Lost>),
    Open(Updates<T>),
    Done,
}

#[derive(Clone, Copy)]
struct Lost {
    loss: Loss,
    /// When it is looked for a successor; a moment, so that who is cancelled does not wait anew.
    look_at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Killed,
    ShutDown,
}

impl<'a, T> Steady<'a, T> {
    pub(super) fn new<F, Fut>(session: &'a Session, client: &Client, open: F) -> Self
    where
        F: Fn() -> Fut + 'a,
        Fut: Future<Output = Result<Updates<T>, ClientError>> + 'static,
    {
        let open = move || -> Opening<T> { Box::pin(open()) };
        let (client, state) = (client.clone(), State::Closed(None));
        Self { session, client, open: Box::new(open), state, expected: false, losses: Losses::default() }
    }

    /// Where no daemon is there at first, it died a moment ago; where there is nothing to be followed,
    /// it was forgotten a moment ago.
    pub(super) fn expected(self) -> Self {
        Self { expected: true, ..self }
    }

    /// Opens it, so that nothing that happens from here on is missed.
    pub(super) async fn opened(mut self) -> Result<Self, Failure> {
        self.state = State::Open((self.open)().await?);
        self.expected = true;
        Ok(self)
    }

    /// The next item; `None` when there is nothing more to say.
    pub(super) async fn next(&mut self) -> Result<Option<T>, Failure> {
        loop {
            match &mut self.state {
                State::Done => return Ok(None),
                State::Open(stream) => match stream.next().await {
                    Some(Ok(item)) => return Ok(Some(item)),
                    Some(Err(error)) => self.lose(error)?,
                    None => self.state = State::Done,
                },
                State::Closed(lost) => {
                    if let Some(Lost { loss, look_at }) = *lost {
                        tokio::time::sleep_until(look_at).await;
                        back(self.session, &self.client, loss).await?;
                    }
                    match (self.open)().await {
                        Ok(stream) => self.state = State::Open(stream),
                        // What was followed was forgotten in the meantime.
                        Err(ClientError::Problem(p)) if self.expected && p.kind == ProblemKind::NotFound => {
                            self.state = State::Done;
                        }
                        Err(error) => self.lose(error)?,
                    }
                }
            }
        }
    }

    fn lose(&mut self, error: ClientError) -> Result<(), Failure> {
        let loss = match error {
            ClientError::Interrupted { .. } => Loss::Killed,
            ClientError::ShuttingDown { .. } => Loss::ShutDown,
            ClientError::NotRunning { .. } if self.expected => Loss::Killed,
            error => return Err(error.into()),
        };
        self.expected = true;
        let now = Instant::now();
        let Some(wait) = self.losses.add(now) else { return Err(too_often(self.session, &error)?) };
        self.state = State::Closed(Some(Lost { loss, look_at: now + wait }));
        Ok(())
    }
}

fn too_often(session: &Session, error: &ClientError) -> Result<Failure, Failure> {
    let message = format!("the daemon was lost {LOSSES_MAX} times within {} s", LOSSES_WITHIN.as_secs());
    Ok(Failure::new(ExitCode::Failed, message)
        .because(error)
        .hint(format!("what it runs goes on; its log is `{}`", session.dirs()?.log().display())))
}

/// When daemons were lost, as far back as it counts.
#[derive(Default)]
struct Losses(VecDeque<Instant>);

impl Losses {
    /// One more. Returns how long to wait before the next one is looked for; `None`: there were too
    /// many.
    fn add(&mut self, now: Instant) -> Option<Duration> {
        while self.0.front().is_some_and(|first| now.duration_since(*first) >= LOSSES_WITHIN) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let before = u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX);
        if self.0.len() >= LOSSES_MAX {
            return None;
        }
        let doubled = before.checked_sub(1).map(|times| BACK_OFF.saturating_mul(2_u32.saturating_pow(times)));
        Some(doubled.unwrap_or_default().min(BACK_OFF_MAX))
    }
}

/// Waits until a daemon answers again.
async fn back(session: &Session, client: &Client, loss: Loss) -> Result<(), Failure> {
    let patience = match loss {
        // Nobody here starts it; whoever does needs as long as for one that was shut down.
        Loss::Killed if session.is_elsewhere() => SUCCESSOR_OF_SHUT_DOWN,
        Loss::Killed if daemon::is_installed() => SUCCESSOR_OF_KILLED,
        Loss::Killed => Duration::ZERO,
        Loss::ShutDown => SUCCESSOR_OF_SHUT_DOWN,
    };
    let until = Instant::now() + patience;
    loop {
        match client.version().await {
            Ok(_) => {
                session.is_back();
                return Ok(());
            }
            Err(ClientError::NotRunning { .. } | ClientError::Interrupted { .. }) => {}
            Err(error @ ClientError::Connect { .. }) if session.is_elsewhere() => {
                if Instant::now() >= until {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        session.tell_gone("looking for its successor");
        if Instant::now() >= until {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    match loss {
        Loss::Killed => session.ensured().await.map(drop),
        Loss::ShutDown => Err(Failure::new(ExitCode::Failed, "the daemon was shut down")
            .hint("what it ran goes on; `upbeat up` starts the daemon again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_that_die_in_a_row_are_looked_for_ever_later_and_then_given_up() {
        let mut losses = Losses::default();
        let begun = Instant::now();
        let mut now = begun;
        let mut waits = Vec::new();
        while let Some(wait) = losses.add(now) {
            waits.push(wait);
            now += wait;
        }
        assert_eq!(waits.len() + 1, LOSSES_MAX);
        let first: Vec<u128> = waits.iter().take(11).map(Duration::as_millis).collect();
        assert_eq!(first, [0, 10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
        assert!(now - begun < LOSSES_WITHIN, "or they would never be too many");
    }

    #[test]
    fn one_that_is_lost_now_and_then_is_looked_for_for_ever() {
        let mut losses = Losses::default();
        let mut now = Instant::now();
        for _ in 0..1_000 {
            assert!(losses.add(now).is_some());
            now += LOSSES_WITHIN / 10;
        }
        now += LOSSES_WITHIN;
        assert_eq!(losses.add(now), Some(Duration::ZERO), "what was long ago does not count");
    }
}

//! Streams that outlive the daemon: when it is killed its services go on, and so does whoever
//! follows them.
//!
//! A killed daemon is looked for again and, if nobody else starts it, started. One that was shut
//! down on purpose is waited for, but not started: somebody wanted it so.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
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

/// A daemon that dies so often without having told anything dies because of us, or at once.
const LOSSES_MAX: u32 = 10;

type Opening<T> = Pin<Box<dyn Future<Output = Result<Updates<T>, ClientError>>>>;

/// A stream that is opened again when the daemon is lost. [`Steady::next`] may be cancelled.
pub(super) struct Steady<'a, T> {
    session: &'a Session,
    client: Client,
    open: Box<dyn Fn() -> Opening<T> + 'a>,
    state: State<T>,
    /// A daemon was there a moment ago, and what is followed was there.
    expected: bool,
    losses: u32,
}

enum State<T> {
    /// Not opened yet, or lost for this reason.
    Closed(Option<Loss>),
    Open(Updates<T>),
    Done,
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
        Self { session, client, open: Box::new(open), state, expected: false, losses: 0 }
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
                    Some(Ok(item)) => {
                        self.losses = 0;
                        return Ok(Some(item));
                    }
                    Some(Err(error)) => self.lose(error)?,
                    None => self.state = State::Done,
                },
                State::Closed(loss) => {
                    if let Some(loss) = *loss {
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
        self.losses += 1;
        if self.losses > LOSSES_MAX {
            return Err(Failure::from(error));
        }
        self.state = State::Closed(Some(loss));
        Ok(())
    }
}

/// Waits until a daemon answers again.
async fn back(session: &Session, client: &Client, loss: Loss) -> Result<(), Failure> {
    let patience = match loss {
        Loss::Killed if daemon::is_installed() => SUCCESSOR_OF_KILLED,
        Loss::Killed => Duration::ZERO,
        Loss::ShutDown => SUCCESSOR_OF_SHUT_DOWN,
    };
    let until = tokio::time::Instant::now() + patience;
    let mut told = false;
    loop {
        match client.version().await {
            Ok(_) => return Ok(()),
            Err(ClientError::NotRunning { .. } | ClientError::Interrupted { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if !told {
            session.note("the daemon is gone; what it runs goes on; looking for its successor");
            told = true;
        }
        if tokio::time::Instant::now() >= until {
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

//! The agent on a thread of its own, so that nothing a client asks for delays a service.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::sync::{mpsc, oneshot};
use upbeat_agent::{Agent, Events, Keep, Meter, Onlookers, Report, TargetSource};
use upbeat_drivers::machine::Machine;
use upbeat_drivers::watch::Watches;

use super::failpoint;
use super::serve::{ServeError, system};

/// What the agent is given.
pub(super) struct Hand {
    pub(super) keep: Keep,
    pub(super) machine: Machine,
    pub(super) events: Events,
    pub(super) target: TargetSource,
    pub(super) report: mpsc::Sender<Report>,
    pub(super) meter: Arc<Meter>,
}

/// The running agent. Dropped: it has ended, and every service is as it was.
pub(super) struct AgentThread {
    thread: Option<JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<()>,
}

impl AgentThread {
    /// Returns when it has read what it kept; with what tells of changed log files.
    pub(super) async fn start(hand: Hand) -> Result<(Self, Watches), ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("a thread for its agent"))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (ending, ended) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let run = async move {
            let opened = open(hand).await;
            let agent = match opened {
                Ok((agent, watches)) => {
                    // Nobody there: the daemon is ending already.
                    let _ = answer.send(Ok(watches));
                    agent
                }
                Err(error) => return drop(answer.send(Err(error))),
            };
            tokio::select! {
                () = agent.run() => {}
                _ = stopped => {}
            }
        };
        let thread = Builder::new()
            .name("agent".into())
            .spawn(move || {
                // Dropped, also by a panic, when the thread ends.
                let _ending: oneshot::Sender<()> = ending;
                runtime.block_on(run);
            })
            .map_err(system("a thread for its agent"))?;
        let watches = answered.await.map_err(|_| ServeError::AgentEnded)??;
        Ok((Self { thread: Some(thread), stop: Some(stop), ended }, watches))
    }

    /// Returns when it has ended by itself, which it never should.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }
}

async fn open(hand: Hand) -> Result<(Agent, Watches), ServeError> {
    let Hand { keep, machine, events, target, report, meter } = hand;
    let watches = Watches::new().map_err(system("inotify"))?;
    let onlookers = Onlookers { meter, failpoint: failpoint::reach };
    let seen = watches.clone();
    let agent = Agent::new(keep, machine, seen, events, target, report, onlookers).await?;
    Ok((agent, watches))
}

impl Drop for AgentThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic was printed when it happened.
            let _ = thread.join();
        }
    }
}

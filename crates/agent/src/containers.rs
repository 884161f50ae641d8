//! Effects on containers, done by an engine: what comes of them, as inputs of the loop.

use std::sync::Arc;

use tokio::sync::mpsc;
use upbeat_decide::instance::{Held, Input, Observation, Unprepared};
use upbeat_drivers::docker::{Engine, EngineError, Prepare, PrepareError, Progress, Seen, StartError};
use upbeat_drivers::process::chain;
use upbeat_model::{Attempt, Service, SlotId};

use crate::guarded::attempted;

/// One that is to be made.
pub(crate) struct Order {
    pub(crate) slot: SlotId,
    pub(crate) generation: u64,
    pub(crate) digest: String,
    pub(crate) release: u64,
    pub(crate) spec: Arc<Service>,
}

/// Has everything there that it is started from.
pub(crate) async fn prepare(engine: &Engine, order: &Order, inputs: mpsc::Sender<(SlotId, Input)>) -> Input {
    let Order { slot, generation, digest, release, spec } = order;
    let (generation, digest) = (*generation, digest.clone());
    let told = slot.clone();
    let progress = move |progress: Progress| {
        // Where the loop has more to do than to hear how far a pull is, it is not told.
        let _ = inputs.try_send((told.clone(), Input::Preparing { generation, step: words(&progress) }));
    };
    let wanted = Prepare {
        slot: slot.clone(),
        spec: spec.clone(),
        digest: digest.clone(),
        release: release.to_string(),
        generation,
    };
    let prepare = async {
        match engine.prepare(wanted, progress).await {
            Ok(prepared) => Ok(Ok(prepared.container)),
            Err(PrepareError::Engine(error)) if error.is_unreachable() => {
                Ok(Err(Unprepared::Unreachable(chain(&error))))
            }
            Err(PrepareError::BrokenOff(error)) => Ok(Err(Unprepared::BrokenOff(chain(&error)))),
            // What it needs comes when others are replaced.
            Err(error @ (PrepareError::HeldUp { .. } | PrepareError::Lacks { .. })) => {
                Ok(Err(Unprepared::HeldUp(chain(&error))))
            }
            Err(error) => Ok(Err(Unprepared::Failed(chain(&error)))),
        }
    };
    match attempted(prepare).await {
        Ok(Ok(container)) => Input::Prepared { generation, digest, container },
        Ok(Err(why)) => Input::PrepareFailed { generation, digest, why },
        Err(why) => Input::PrepareFailed { generation, digest, why: Unprepared::Failed(why) },
    }
}

/// `pulling nginx:1.27: 3 of 40 MB`.
fn words(progress: &Progress) -> String {
    /// Of an image nobody wants to read the bytes.
    const MB: u64 = 1_000_000;
    match progress {
        Progress::Waiting { image, at_once } => {
            format!("waits for its turn to pull {image} ({at_once} at once)")
        }
        Progress::Asked { image } => format!("is to be pulled ({image}); the engine has not answered yet"),
        Progress::Engaged => "waits until the engine has answered an earlier request for it".to_owned(),
        Progress::Begun => "is being made by the engine".to_owned(),
        Progress::Pulling { image, of: 0, .. } => format!("is being pulled ({image})"),
        Progress::Pulling { image, bytes, of, .. } => {
            format!("is being pulled ({image}: {} of {} MB)", bytes / MB, of.div_ceil(MB))
        }
        Progress::Pulled { image } => format!("was pulled ({image})"),
        Progress::Note(note) => note.clone(),
    }
}

/// Starts one that was made.
pub(crate) async fn start(engine: &Engine, slot: &SlotId, attempt: Attempt, container: &str) -> Input {
    match engine.start(slot, attempt, container).await {
        Ok(started) => {
            Input::Started { attempt, pid: started.pid, at: started.at, log_start: started.log_start }
        }
        Err(StartError::NotStarted(why)) => Input::StartFailed { attempt, why },
        Err(StartError::Gone) => Input::StartGone { attempt },
        Err(StartError::Superseded { seen }) => Input::StartRefused { attempt, seen },
        // Whatever runs in the slot, or did not answer: it is looked at before anything else is done.
        Err(StartError::Busy(_) | StartError::Unanswered(_)) => {
            Input::StartRefused { attempt, seen: attempt }
        }
        Err(error @ StartError::Engine(_)) => Input::StartUnable { attempt, why: chain(&error) },
    }
}

/// What is in the slot.
pub(crate) async fn observe(
    engine: &Engine,
    slot: &SlotId,
) -> Result<(Observation, Option<Input>), EngineError> {
    Ok(match engine.observe(slot).await? {
        Seen::Never => (Observation::Never, None),
        Seen::Ended { attempt, exit, .. } => (Observation::Ended { attempt, exit }, None),
        Seen::Running { attempt, pid, started_at, log_start, container, digest, release, drift } => {
            let what = drift.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let drifted = (!drift.is_empty()).then_some(Input::Drifted { attempt, what });
            // One of another version, or of none: it is some release's, whichever.
            let release = release.parse().unwrap_or_default();
            let held = Some(Held { container, digest, release });
            (Observation::Running { attempt, pid, started_at, log_start, held }, drifted)
        }
    })
}

/// What is seen of both kinds: what runs, or what ended last.
pub(crate) fn latest(process: Observation, container: Observation) -> Observation {
    let attempt = |seen: &Observation| match seen {
        Observation::Never => None,
        Observation::Running { attempt, .. } => Some((true, *attempt)),
        Observation::Ended { attempt, .. } => Some((false, *attempt)),
    };
    if attempt(&container) > attempt(&process) { container } else { process }
}

#[cfg(test)]
mod tests {
    use super::*;
    use upbeat_model::{Exit, Wall};

    fn ended(attempt: u64) -> Observation {
        Observation::Ended { attempt: Attempt(attempt), exit: Exit::Code(0) }
    }

    fn running(attempt: u64) -> Observation {
        let attempt = Attempt(attempt);
        Observation::Running { attempt, pid: 1, started_at: Wall(0), log_start: 1, held: None }
    }

    #[test]
    fn what_runs_is_seen_and_else_what_ended_last() {
        for (process, container, seen) in [
            (Observation::Never, Observation::Never, Observation::Never),
            (Observation::Never, ended(1), ended(1)),
            (ended(2), ended(1), ended(2)),
            (ended(2), ended(3), ended(3)),
            (ended(2), running(1), running(1)),
            (running(1), ended(2), running(1)),
            (running(1), running(2), running(2)),
        ] {
            assert_eq!(latest(process, container), seen);
        }
    }

    #[test]
    fn how_far_a_pull_is_is_said_in_megabytes() {
        let pulling =
            |bytes, of| words(&Progress::Pulling { image: "web:1".into(), done: 0, layers: 1, bytes, of });
        assert_eq!(pulling(0, 0), "is being pulled (web:1)");
        let waiting = Progress::Waiting { image: "web:1".into(), at_once: 3 };
        assert_eq!(words(&waiting), "waits for its turn to pull web:1 (3 at once)");
        assert_eq!(pulling(3_900_000, 39_100_000), "is being pulled (web:1: 3 of 40 MB)");
    }
}

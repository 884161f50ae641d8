//! What is asked of one attempt of a slot.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle};
use upbeat_decide::instance::HookCommand;
use upbeat_model::{Attempt, ProbeName};

/// What is asked of one attempt. Dropped: nobody wants to know any more.
pub(crate) struct Asked {
    pub(crate) attempt: Attempt,
    /// What its probes ask now, be it a question or a wait for a line. Another check of a probe takes
    /// the place of this one.
    pub(crate) questions: HashMap<ProbeName, Question>,
    /// The hooks around its start, and what they are.
    pub(crate) preparation: Option<(Vec<Arc<HookCommand>>, Task)>,
    /// What is run before its stop. It may go on when the copy is gone: only who kills ends it.
    pub(crate) farewell: Option<AbortHandle>,
    /// The command that starts it elsewhere.
    pub(crate) start: Option<StartCommand>,
    /// What makes it read its configuration anew.
    pub(crate) reload: Option<Task>,
    /// What is done about a failing probe, and which time that is.
    pub(crate) remedy: Option<(u64, Task)>,
    pub(crate) over: Arc<AtomicBool>,
}

/// One question of one check.
pub(crate) struct Question {
    pub(crate) check: u64,
    /// The answer is on its way to the loop: the next one may be asked.
    pub(crate) answered: Arc<AtomicBool>,
    pub(crate) task: Task,
}

impl Question {
    fn is_over(&self) -> bool {
        self.answered.load(Ordering::Relaxed) || self.task.0.is_finished()
    }
}

impl Asked {
    pub(crate) fn of(attempt: Attempt) -> Self {
        Self {
            attempt,
            questions: HashMap::new(),
            preparation: None,
            farewell: None,
            start: None,
            reload: None,
            remedy: None,
            over: Arc::default(),
        }
    }

    /// This check waits for its turn or its answer.
    pub(crate) fn is_out(&self, name: &ProbeName, check: u64) -> bool {
        self.questions.get(name).is_some_and(|question| question.check == check && !question.is_over())
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A command that starts something elsewhere. Ends when dropped, though nobody knows when.
pub(crate) struct StartCommand {
    /// Told to a command that is to end before its time.
    pub(crate) called_off: Arc<Notify>,
    pub(crate) task: JoinHandle<()>,
}

impl StartCommand {
    /// Calls it off, and waits until nothing of it runs any more.
    pub(crate) async fn end(mut self) {
        self.called_off.notify_one();
        // Whatever has become of it, it is over.
        let _ = (&mut self.task).await;
    }
}

impl Drop for StartCommand {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends when dropped.
pub(crate) struct Task(pub(crate) AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

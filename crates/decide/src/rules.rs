//! Deliberate bugs, for tests that prove that the checkers of the simulation can see.

/// A bug a test can plant. In a build without the feature `sabotage` none can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Start without asking the gate.
    IgnoreGate,
    /// Interrupt what holds its update lock.
    IgnoreLocks,
    /// Take locks that are held for some to be held for who comes later.
    LockOnce,
    /// Go on with a stop that a dead daemon had begun, whose locks died with it.
    BelieveOldLocks,
    /// Take locks before it is known of all that go how they are.
    LockUnseen,
    /// Start beside one that goes and has what both need.
    IgnoreClaims,
    /// Order every start twice.
    StartTwice,
    /// Start under the number of the attempt before.
    ReuseAttempts,
    /// Believe the exit of an older attempt.
    TakeStaleExits,
    /// Believe an observation that was asked for before the last start.
    TakeStaleLooks,
    /// Stop without waiting for dependents.
    StopInAnyOrder,
    /// After a crash, start without looking what runs.
    SkipObservation,
    /// Count quick ends for ever.
    NeverResetFailures,
    /// One failed probe is enough.
    IgnoreRetries,
    /// Ready as soon as started, whatever the health check says.
    ReadyWhenStarted,
    /// Perform before committing.
    PerformBeforeCommit,
    /// Never look again at a deadline.
    LoseTimers,
    /// After a crash, go on with a stop as if it had been begun.
    KeepDeadlines,
    /// Say of what is only remembered that it was seen.
    BelieveMemory,
    /// Stop a copy by the rules of the one that replaces it.
    StopByNewFile,
    /// Take the answer to one health check for that to another.
    TakeAnyAnswer,
    /// Forget what a running copy rests on when the file no longer says so.
    ForgetNeeds,
    /// A copy counts as started before its hooks have run.
    SkipHooks,
    /// Do something about a failing probe, however often that was done.
    ForgetBudget,
    /// A copy does not notice that what it rests on has ended.
    ForgetEdges,
    /// Ask all probes before the startup probe has passed.
    AskBeforeStartup,
    /// Count the noes of probes that are asked between the counted ones.
    CountEagerNoes,
    /// Count noes within the start period.
    ForgiveNothing,
    /// One passed probe is enough, whatever the file says.
    BelieveFirstYes,
    /// After a crash, forget the hooks of what has ended.
    ForgetPostStop,
    /// After a crash, forget that a copy is to be reloaded.
    LoseReloads,
    /// Forget a reload that is due when somebody asks for something else.
    ReplaceReloads,
    /// Reload a copy before what it rests on is back.
    ReloadTooSoon,
    /// Wait for a dependency for ever.
    IgnoreTimeouts,
    /// Count the time before somebody asked anew as waited.
    WaitSinceEver,
    /// Take what an attempt before has said for what this one says.
    SayReadyOfDeadAttempt,
    /// What is to be restarted as its probe fails is restarted only if its policy says so.
    RestartByPolicy,
    /// What is to be stopped as its probe fails is restarted if its policy says so.
    StopForNow,
    /// Somebody who asks anew is given no new budget of remedies.
    KeepBudget,
    /// A copy rests on what ran when its first hooks did.
    RestOnThePast,
    /// After a crash, look for what runs elsewhere.
    LookOutside,
    /// What runs elsewhere is stopped when its stop command has failed.
    SkipStopCommand,
    /// After a crash, believe what probes were answered before it.
    BelieveOldYes,
    /// After a crash, forget what is to be run about a failing probe.
    LoseRemedies,
    /// Give up what runs elsewhere when its stop command has failed once.
    GiveUpAtOnce,
    /// Hear nothing of a watchdog.
    IgnoreWatchdogs,
    /// A condition that cannot hold any more is a failure, whatever its edge says.
    IgnoreOnFailure,
    /// What is to be stopped with what it rests on is restarted.
    RestartInsteadOfStop,
    /// Believe the clock on the wall.
    TrustTheWall,
    /// What says `restart: true` of something follows its crashes too.
    FollowCrashes,
    /// Give nobody more time to end.
    IgnoreExtensions,
    /// The process that was started is the main one, whatever it says.
    IgnoreMainPid,
    /// Take it for a failure of hooks that Upbeat itself could not run them.
    SpendOnUnable,
    /// Start what could not be kept.
    StartUnkept,
    /// Withhold an order to stop though one was carried out before.
    WithholdRepeated,
    /// Withhold what somebody wants to be stopped.
    WithholdWished,
    /// Forget what was withheld.
    LoseWithheld,
    /// Decide anew what was withheld, though nothing has changed.
    RetryWithheld,
    /// Touch what runs before everything new is there.
    TouchUnprepared,
    /// Take what was made for an older wish.
    BelieveOldPrepared,
    /// What another hand stopped has ended by itself.
    TakenIsEnded,
    /// Start what is not there any more again and again.
    IgnoreGone,
    /// Leave what another hand has changed.
    ForgetDrift,
    /// Leave networks that nobody needs.
    LeaveNetworks,
    /// Take networks that others need.
    TakeNetworks,
    /// Do not believe what a container says of itself.
    IgnoreLabels,
    /// Wait for ever for what is held up.
    IgnoreHeldUp,
    /// Never try again what could not be made.
    PrepareOnce,
    /// Pass over a container that appears.
    IgnoreFound,
    /// Those that wait to be touched order no stop.
    ForgetWaiting,
    /// Start what is new on what is about to be another.
    BelieveTheOld,
}

impl Bug {
    /// Those about containers.
    pub const OF_CONTAINERS: &[Self] = &[
        Self::TouchUnprepared,
        Self::BelieveOldPrepared,
        Self::TakenIsEnded,
        Self::IgnoreGone,
        Self::ForgetDrift,
        Self::LeaveNetworks,
        Self::TakeNetworks,
        Self::IgnoreLabels,
        Self::IgnoreHeldUp,
        Self::PrepareOnce,
        Self::IgnoreFound,
        Self::ForgetWaiting,
        Self::BelieveTheOld,
        Self::IgnoreClaims,
    ];

    /// Those about processes, or both.
    pub const ALL: &[Self] = &[
        Self::IgnoreGate,
        Self::IgnoreLocks,
        Self::LockOnce,
        Self::BelieveOldLocks,
        Self::LockUnseen,
        Self::StartTwice,
        Self::ReuseAttempts,
        Self::TakeStaleExits,
        Self::TakeStaleLooks,
        Self::StopInAnyOrder,
        Self::SkipObservation,
        Self::NeverResetFailures,
        Self::IgnoreRetries,
        Self::ReadyWhenStarted,
        Self::PerformBeforeCommit,
        Self::LoseTimers,
        Self::KeepDeadlines,
        Self::BelieveMemory,
        Self::StopByNewFile,
        Self::TakeAnyAnswer,
        Self::ForgetNeeds,
        Self::SkipHooks,
        Self::ForgetBudget,
        Self::ForgetEdges,
        Self::AskBeforeStartup,
        Self::CountEagerNoes,
        Self::ForgiveNothing,
        Self::BelieveFirstYes,
        Self::ForgetPostStop,
        Self::LoseReloads,
        Self::ReplaceReloads,
        Self::ReloadTooSoon,
        Self::IgnoreTimeouts,
        Self::WaitSinceEver,
        Self::SayReadyOfDeadAttempt,
        Self::RestartByPolicy,
        Self::StopForNow,
        Self::KeepBudget,
        Self::RestOnThePast,
        Self::LookOutside,
        Self::SkipStopCommand,
        Self::BelieveOldYes,
        Self::LoseRemedies,
        Self::GiveUpAtOnce,
        Self::IgnoreWatchdogs,
        Self::IgnoreOnFailure,
        Self::RestartInsteadOfStop,
        Self::TrustTheWall,
        Self::FollowCrashes,
        Self::IgnoreExtensions,
        Self::IgnoreMainPid,
        Self::SpendOnUnable,
        Self::StartUnkept,
        Self::WithholdRepeated,
        Self::WithholdWished,
        Self::LoseWithheld,
        Self::RetryWithheld,
    ];
}

/// The rules a machine is run by: the true ones, unless a test planted a bug.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    #[cfg(feature = "sabotage")]
    bug: Option<Bug>,
}

impl Rules {
    /// With one bug.
    #[cfg(feature = "sabotage")]
    pub fn with(bug: Bug) -> Self {
        Self { bug: Some(bug) }
    }

    /// Whether this bug is planted.
    #[cfg(feature = "sabotage")]
    pub fn has(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether this bug is planted: never.
    #[cfg(not(feature = "sabotage"))]
    pub const fn has(self, _bug: Bug) -> bool {
        false
    }
}

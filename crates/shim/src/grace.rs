//! How long what was asked to stop may take, on the clock that stands still while the machine sleeps: who
//! sleeps with it has had none of the time.

/// The time there is. All moments are in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Grace {
    /// Of what it was ordered, the earliest.
    deadline: Option<u64>,
    /// It has asked for time until then, when it had been asked to stop.
    extended: Option<u64>,
    /// It is not to be asked any more, but killed.
    is_condemned: bool,
    /// The last signal it was asked to stop by.
    asked_by: Option<i32>,
}

impl Grace {
    /// It is asked to stop by this signal, within so long. The earliest deadline holds, but for the time it
    /// asks for itself; where it shall be killed, it has none to ask for.
    pub(crate) fn ask(&mut self, signal: i32, grace: u64, now: u64) {
        // A daemon counts the hours that the machine slept, and asks again when it should be over: of that
        // there is word here already.
        let is_reminder = grace == 0 && signal != libc::SIGKILL && self.asked_by == Some(signal);
        if !is_reminder {
            self.is_condemned |= signal == libc::SIGKILL || grace == 0;
            let deadline = now.saturating_add(grace);
            self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        }
        self.asked_by = Some(signal);
    }

    /// It asks for time until then.
    pub(crate) fn extend(&mut self, until: u64) {
        self.extended = self.extended.max(Some(until));
    }

    /// The last signal it was asked to stop by.
    pub(crate) fn asked_by(&self) -> Option<i32> {
        self.asked_by
    }

    /// When what is left is killed.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let extended = self.extended.filter(|_| !self.is_condemned);
        self.deadline.map(|deadline| extended.map_or(deadline, |extended| extended.max(deadline)))
    }

    /// What is left is to be killed by now.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: i32 = libc::SIGTERM;

    fn asked(orders: &[(i32, u64, u64)]) -> Grace {
        let mut grace = Grace::default();
        for (signal, time, now) in orders {
            grace.ask(*signal, *time, *now);
        }
        grace
    }

    #[test]
    fn the_earliest_deadline_holds() {
        for (orders, expected) in [
            (&[][..], None),
            (&[(TERM, 10, 5)], Some(15)),
            (&[(TERM, 10, 5), (TERM, 100, 6)], Some(15)),
            (&[(TERM, 100, 5), (TERM, 10, 6)], Some(16)),
            (&[(TERM, 100, 5), (libc::SIGKILL, 0, 6)], Some(6)),
            (&[(TERM, 100, 5), (libc::SIGINT, 0, 6)], Some(6)),
            (&[(TERM, 0, 5)], Some(5)),
        ] {
            let grace = asked(orders);
            assert_eq!(grace.deadline(), expected, "{orders:?}");
            assert!(!grace.is_over(4));
            assert_eq!(grace.is_over(16), expected.is_some());
        }
    }

    /// A machine sleeps for an hour, four seconds into a grace of ten. Its daemon finds the deadline long
    /// past, and says so.
    #[test]
    fn who_is_asked_again_keeps_what_is_left_of_its_time() {
        let grace = asked(&[(TERM, 10_000, 1_000), (TERM, 0, 5_000)]);
        assert!(!grace.is_over(10_999));
        assert!(grace.is_over(11_000));
        assert!(asked(&[(TERM, 10_000, 1_000), (libc::SIGKILL, 0, 5_000)]).is_over(5_000));
    }

    #[test]
    fn it_may_ask_for_more_unless_it_shall_be_killed() {
        let mut grace = asked(&[(TERM, 10, 5)]);
        grace.extend(40);
        grace.extend(30);
        assert_eq!(grace.deadline(), Some(40));
        grace.ask(TERM, 0, 20);
        assert_eq!(grace.deadline(), Some(40));
        grace.ask(libc::SIGKILL, 0, 21);
        assert_eq!(grace.deadline(), Some(15));
        assert!(grace.is_over(21));
    }
}

//! Output of services as it comes: each line once, also across a loss of the daemon.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{FutureExt, TryStreamExt};
use upbeat_api::{App, Client, LogLine, LogQuery, ServiceName, SlotId};
use upbeat_model::{AppName, LogStream, SlotStatus};

use super::session::{Session, is_absent};
use super::watch::Steady;
use crate::face::data;
use crate::face::logs::LogView;
use crate::failure::Failure;

/// Lines that are there already are written in one go up to this size, so that a flood of output
/// costs few system calls and a slow trickle is still shown at once.
const BATCH_BYTES: usize = 64 * 1024;

/// How far back the last look goes that finds lines the stream had not delivered yet; where it is
/// not far enough, everything is read.
const LAST_LOOK_TAIL: u64 = 200;

/// Lines of an app's output, in order, none twice.
pub(super) struct LogFollow<'a> {
    session: &'a Session,
    client: Client,
    app: AppName,
    services: Vec<ServiceName>,
    lines: Steady<'a, LogLine>,
    seen: Seen,
}

impl<'a> LogFollow<'a> {
    /// From there on. `tail`: see [`LogQuery`].
    pub(super) async fn open(
        session: &'a Session,
        client: &Client,
        app: &AppName,
        query: LogQuery,
    ) -> Result<Self, Failure> {
        let new = Self::new(session, client, app, query);
        Ok(Self { lines: new.lines.opened().await?, ..new })
    }

    /// Of an app that is there, and to which a change is about to be made: of each copy that runs the last
    /// `tail` lines of this run of it, and of the others nothing that they have printed before.
    pub(super) async fn of_runs(
        session: &'a Session,
        client: &Client,
        app: &App,
        query: LogQuery,
    ) -> Result<Self, Failure> {
        let mut seen = Seen::default();
        let is_running = |status: &&SlotStatus| status.pid.is_some();
        for status in app.slots.iter().filter(is_running) {
            seen.begin(status);
        }
        let resting: BTreeSet<&SlotId> =
            app.slots.iter().filter(|status| !is_running(status)).map(|status| &status.slot).collect();
        if !resting.is_empty() {
            let last = LogQuery { services: query.services.clone(), tail: Some(1), follow: false };
            let look = || async { client.logs(&app.name, &last).await?.try_collect::<Vec<LogLine>>().await };
            for line in session.insist(look).await?? {
                if resting.contains(&line.slot) {
                    seen.pass(&line);
                }
            }
        }
        Ok(Self { seen, ..Self::open(session, client, &app.name, query).await? })
    }

    /// Of an app that is about to be: everything, from its beginning on.
    pub(super) fn of_new(session: &'a Session, client: &Client, app: &AppName, query: LogQuery) -> Self {
        let new = Self::new(session, client, app, query);
        Self { lines: new.lines.expected(), ..new }
    }

    fn new(session: &'a Session, client: &Client, app: &AppName, query: LogQuery) -> Self {
        let services = query.services.clone();
        let opened = std::cell::Cell::new(false);
        let (opening, name) = (client.clone(), app.clone());
        let lines = Steady::new(session, client, move || {
            // After a loss all is read again, and what was seen is left out: nothing in between
            // is missed.
            let tail = if opened.replace(true) { None } else { query.tail };
            let query = LogQuery { tail, ..query.clone() };
            let (client, app) = (opening.clone(), name.clone());
            async move { client.logs(&app, &query).await }
        });
        let (client, app) = (client.clone(), app.clone());
        Self { session, client, app, services, lines, seen: Seen::default() }
    }

    /// The next line. May be cancelled.
    async fn next(&mut self) -> Result<Option<LogLine>, Failure> {
        while let Some(line) = self.lines.next().await? {
            if self.seen.is_new(&line) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Waits for a line and returns it with those that are there already, as text to print.
    /// May be cancelled.
    pub(super) async fn next_text(&mut self, view: &mut LogView) -> Result<Option<String>, Failure> {
        let Some(line) = self.next().await? else { return Ok(None) };
        let mut text = draw(self.session, view, &line)?;
        while text.len() < BATCH_BYTES {
            match self.next().now_or_never() {
                Some(Ok(Some(line))) => text.push_str(&draw(self.session, view, &line)?),
                // The end, or an error, comes again with the next call.
                Some(Ok(None) | Err(_)) | None => break,
            }
        }
        Ok(Some(text))
    }

    /// Prints the lines that were written before this call and have not been delivered yet: what
    /// a service said just before it ended.
    pub(super) async fn finish(mut self, view: &mut LogView) -> Result<(), Failure> {
        let query = |tail| LogQuery { services: self.services.clone(), tail, follow: false };
        let look = || async {
            let lines = self.client.logs(&self.app, &query(Some(LAST_LOOK_TAIL))).await?;
            lines.try_collect::<Vec<LogLine>>().await
        };
        let mut late = match self.session.insist(look).await? {
            Ok(lines) => lines,
            // Somebody else has taken the app down; its lines are gone with it.
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if self.seen.may_miss(&late) {
            late.clear();
            let mut lines = self.client.logs(&self.app, &query(None)).await?;
            while let Some(line) = futures_util::StreamExt::next(&mut lines).await {
                let line = line?;
                if self.seen.is_new(&line) {
                    self.session.print(&draw(self.session, view, &line)?)?;
                }
            }
        }
        for line in &late {
            if self.seen.is_new(line) {
                self.session.print(&draw(self.session, view, line)?)?;
            }
        }
        Ok(())
    }
}

fn draw(session: &Session, view: &mut LogView, line: &LogLine) -> Result<String, Failure> {
    if view.hides(line) {
        return Ok(String::new());
    }
    if !session.is_json() {
        return Ok(view.line(line));
    }
    let json = serde_json::to_string(line)
        .map_err(|e| Failure::new(crate::exit::ExitCode::Failed, "a line cannot be written").because(&e))?;
    Ok(data::json(json) + "\n")
}

/// How far each slot's output was shown, so that what is told again is left out.
#[derive(Debug, Default)]
struct Seen {
    marks: BTreeMap<(SlotId, LogStream), Mark>,
    /// Where the runs that are under way began: what was printed before is of an earlier one.
    begun: BTreeMap<SlotId, Mark>,
}

const STREAMS: [LogStream; 3] = [LogStream::Stdout, LogStream::Stderr, LogStream::Upbeat];

#[derive(Clone, Copy, Debug)]
struct Mark {
    sequence: u64,
    at_ns: i64,
}

impl Seen {
    /// The run that is under way began so. An older daemon does not say with which line.
    fn begin(&mut self, status: &SlotStatus) {
        let Some(at) = status.started_at else { return };
        let (sequence, at_ns) = (status.log_start.unwrap_or(u64::MAX), at.0.saturating_mul(1_000_000));
        self.begun.insert(status.slot.clone(), Mark { sequence, at_ns });
    }

    /// As if all of its slot up to this line had been shown.
    fn pass(&mut self, line: &LogLine) {
        for stream in STREAMS {
            let mark = Mark { sequence: line.sequence, at_ns: line.at_ns };
            self.marks.insert((line.slot.clone(), stream), mark);
        }
    }

    /// Whether this line was not shown before; it is from now on.
    ///
    /// Within a stream of a slot lines come by their numbers; a line that has no end yet may be told
    /// after later ones of another. Where the slot was deleted and made again they begin anew, later.
    fn is_new(&mut self, line: &LogLine) -> bool {
        let now = Mark { sequence: line.sequence, at_ns: line.at_ns };
        // By its number: the clock may have stepped back since. By the moment too, as a slot that was deleted
        // and made again begins with the first number, later.
        let is_before = |begun: &Mark| now.sequence < begun.sequence && now.at_ns < begun.at_ns;
        if self.begun.get(&line.slot).is_some_and(is_before) {
            return false;
        }
        match self.marks.get_mut(&(line.slot.clone(), line.stream)) {
            Some(mark) if now.sequence <= mark.sequence && now.at_ns <= mark.at_ns => false,
            Some(mark) => {
                *mark = Mark { at_ns: now.at_ns.max(mark.at_ns), ..now };
                true
            }
            None => {
                self.marks.insert((line.slot.clone(), line.stream), now);
                true
            }
        }
    }

    /// Whether between what was shown and the first of these lines of a slot there may be others:
    /// the look did not reach back far enough.
    fn may_miss(&self, late: &[LogLine]) -> bool {
        let mut looks: BTreeMap<&SlotId, (u64, u64)> = BTreeMap::new();
        for line in late {
            looks.entry(&line.slot).or_insert((0, line.sequence)).0 += 1;
        }
        looks.iter().any(|(slot, (lines, first))| {
            let marks = STREAMS.iter().filter_map(|stream| self.marks.get(&((*slot).clone(), *stream)));
            let shown = marks.map(|mark| mark.sequence).max().unwrap_or(0);
            // Fewer than asked for: these are all.
            *lines >= LAST_LOOK_TAIL && *first > shown + 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{slot, status};
    use upbeat_model::{Phase, Wall};

    fn line(short: &str, sequence: u64, text: &str) -> LogLine {
        // A clock that steps back is nothing to a slot whose lines are numbered.
        let at_ns = 10 - i64::try_from(sequence).unwrap() % 3;
        LogLine { slot: slot(short), sequence, at_ns, stream: LogStream::Stdout, text: text.into() }
    }

    /// It runs, since a millisecond after the epoch, and from this line on.
    fn begun(short: &str, log_start: Option<u64>) -> SlotStatus {
        SlotStatus { started_at: Some(Wall(1)), log_start, ..status(short, Phase::Running) }
    }

    fn shown(seen: &mut Seen, lines: &[LogLine]) -> String {
        let new: Vec<&str> = lines.iter().filter(|l| seen.is_new(l)).map(|l| l.text.as_str()).collect();
        new.join("")
    }

    #[test]
    fn what_is_told_again_is_left_out_exactly() {
        let all = [
            line("a-1", 1, "A"),
            line("a-1", 2, "B"),
            line("b-1", 2, "x"),
            line("a-1", 4, "C"),
            line("b-1", 3, "y"),
            line("a-1", 9, "E"),
            line("c-1", 1, "!"),
        ];
        for cut in 0..=all.len() {
            let mut seen = Seen::default();
            let before = shown(&mut seen, &all[..cut]);
            let after = shown(&mut seen, &all);
            assert_eq!(before + &after, "ABxCyE!", "cut at {cut}");
        }
    }

    #[test]
    fn a_line_that_ends_late_is_shown_though_later_ones_of_the_other_stream_were() {
        let mut seen = Seen::default();
        let late = LogLine { stream: LogStream::Stderr, ..line("a-1", 1, "E") };
        let lines = [line("a-1", 2, "A"), line("a-1", 3, "B"), late.clone(), late];
        assert_eq!(shown(&mut seen, &lines), "ABE");
    }

    #[test]
    fn of_earlier_runs_nothing_is_shown() {
        let mut seen = Seen::default();
        seen.pass(&line("a-1", 3, "last"));
        seen.begin(&begun("b-1", None));
        let at = |ns: i64, line: LogLine| LogLine { at_ns: ns, ..line };
        let late = LogLine { stream: LogStream::Stderr, ..line("a-1", 2, "E") };
        let lines = [
            line("a-1", 1, "A"),
            late,
            line("a-1", 4, "new "),
            at(999_999, line("b-1", 7, "B")),
            at(1_000_000, line("b-1", 8, "this")),
            line("c-1", 1, "!"),
        ];
        assert_eq!(shown(&mut seen, &lines), "new this!");
    }

    #[test]
    fn a_run_that_is_joined_is_shown_though_the_clock_stepped_back_since_it_began() {
        let mut seen = Seen::default();
        seen.begin(&begun("a-1", Some(7)));
        // Half a millisecond before the run began, by the clock; and one later, of a slot that was made again.
        let at = |ns: i64, sequence, text| LogLine { at_ns: ns, ..line("a-1", sequence, text) };
        let lines = [
            at(900_000, 6, "earlier"),
            at(500_000, 7, "A"),
            at(500_001, 8, "B"),
            at(2_000_000, 1, "made again"),
        ];
        assert_eq!(shown(&mut seen, &lines), "ABmade again");
    }

    #[test]
    fn a_slot_that_was_made_again_is_shown_from_its_beginning() {
        let mut seen = Seen::default();
        let again = LogLine { at_ns: 99, ..line("a-1", 1, "new") };
        assert_eq!(shown(&mut seen, &[line("a-1", 1, "A"), line("a-1", 2, "B"), again]), "ABnew");
    }

    #[test]
    fn a_look_that_does_not_reach_back_is_known_to_be_short() {
        let mut seen = Seen::default();
        assert!(seen.is_new(&line("a-1", 10, "A")));
        let many = |from: u64| (from..from + LAST_LOOK_TAIL).map(|n| line("a-1", n, "")).collect::<Vec<_>>();
        assert!(seen.may_miss(&many(12)));
        assert!(!seen.may_miss(&many(11)));
        assert!(!seen.may_miss(&many(12)[1..]), "fewer than asked for are all there are");
        assert!(!seen.may_miss(&[]));
    }
}

//! Output of services as it comes: each line once, also across a loss of the daemon.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use upbeat_api::{Client, LogLine, LogQuery, ServiceName, SlotId};
use upbeat_model::AppName;

use super::session::Session;
use super::watch::{Fresh, Steady};
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
        let lines = lines.opened().await?;
        let (client, app) = (client.clone(), app.clone());
        Ok(Self { session, client, app, services, lines, seen: Seen::default() })
    }

    /// The next line. May be cancelled.
    async fn next(&mut self) -> Result<Option<LogLine>, Failure> {
        while let Some((line, fresh)) = self.lines.next().await? {
            if fresh == Fresh::Yes {
                self.seen.start_over();
            }
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
        let lines = self.client.logs(&self.app, &query(Some(LAST_LOOK_TAIL))).await;
        let mut late = Vec::new();
        let mut lines = match lines {
            Ok(lines) => lines,
            // Somebody else has taken the app down; its lines are gone with it.
            Err(error) if super::session::is_absent(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        while let Some(line) = futures_util::StreamExt::next(&mut lines).await {
            late.push(line?);
        }
        if self.seen.may_miss(&late) {
            late.clear();
            self.seen.start_over();
            let mut lines = self.client.logs(&self.app, &query(None)).await?;
            while let Some(line) = futures_util::StreamExt::next(&mut lines).await {
                let line = line?;
                if self.seen.is_new(&line) {
                    self.session.print(&draw(self.session, view, &line)?)?;
                }
            }
        }
        self.seen.start_over();
        for line in &late {
            if self.seen.is_new(line) {
                self.session.print(&draw(self.session, view, line)?)?;
            }
        }
        Ok(())
    }
}

fn draw(session: &Session, view: &mut LogView, line: &LogLine) -> Result<String, Failure> {
    if !session.is_json() {
        return Ok(view.line(line));
    }
    let json = serde_json::to_string(line)
        .map_err(|e| Failure::new(crate::exit::ExitCode::Failed, "a line cannot be written").because(&e))?;
    Ok(json + "\n")
}

/// How far each slot's output was shown, so that what is told again is left out.
///
/// Lines have no number, only the moment they were read, and several may share one: the last
/// moment and how many lines of it were shown say exactly where to go on.
#[derive(Debug, Default)]
struct Seen {
    shown: BTreeMap<SlotId, Mark>,
    /// What is still to be left out since the stream began again.
    skip: BTreeMap<SlotId, Mark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    at_ns: i64,
    lines: u32,
}

impl Seen {
    /// A stream begins that may tell what was told.
    fn start_over(&mut self) {
        self.skip = self.shown.clone();
    }

    /// Whether this line was not shown before; it is from now on.
    fn is_new(&mut self, line: &LogLine) -> bool {
        if let Some(skip) = self.skip.get_mut(&line.slot) {
            if line.at_ns < skip.at_ns {
                return false;
            }
            if line.at_ns == skip.at_ns && skip.lines > 0 {
                skip.lines -= 1;
                return false;
            }
            self.skip.remove(&line.slot);
        }
        let mark = self.shown.entry(line.slot.clone()).or_insert(Mark { at_ns: line.at_ns, lines: 0 });
        if mark.at_ns == line.at_ns {
            mark.lines += 1;
        } else {
            *mark = Mark { at_ns: line.at_ns, lines: 1 };
        }
        true
    }

    /// Whether between what was shown and the first of these lines of a slot there may be others:
    /// the look did not reach back far enough.
    fn may_miss(&self, late: &[LogLine]) -> bool {
        let mut lines: BTreeMap<&SlotId, (u64, i64)> = BTreeMap::new();
        for line in late {
            lines.entry(&line.slot).or_insert((0, line.at_ns)).0 += 1;
        }
        lines.iter().any(|(slot, (count, first))| {
            // Fewer than asked for: these are all.
            *count >= LAST_LOOK_TAIL && self.shown.get(*slot).is_none_or(|mark| *first >= mark.at_ns)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::slot;
    use upbeat_model::LogStream;

    fn line(short: &str, at_ns: i64, text: &str) -> LogLine {
        LogLine { slot: slot(short), at_ns, stream: LogStream::Stdout, text: text.into() }
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
            line("a-1", 2, "C"),
            line("a-1", 2, "D"),
            line("b-1", 3, "y"),
            line("a-1", 3, "E"),
            line("c-1", 1, "!"),
        ];
        for cut in 0..=all.len() {
            let mut seen = Seen::default();
            let before = shown(&mut seen, &all[..cut]);
            seen.start_over();
            let after = shown(&mut seen, &all);
            assert_eq!(before + &after, "ABxCDyE!", "cut at {cut}");
        }
    }

    #[test]
    fn lines_of_one_moment_are_all_shown() {
        let mut seen = Seen::default();
        assert_eq!(shown(&mut seen, &[line("a-1", 5, "A"), line("a-1", 5, "B")]), "AB");
    }

    #[test]
    fn a_look_that_does_not_reach_back_is_known_to_be_short() {
        let mut seen = Seen::default();
        assert!(seen.is_new(&line("a-1", 10, "A")));
        let n = i64::try_from(LAST_LOOK_TAIL).unwrap();
        let many = |from: i64| (from..from + n).map(|at| line("a-1", at, "")).collect::<Vec<_>>();
        assert!(seen.may_miss(&many(10)));
        assert!(seen.may_miss(&many(11)));
        assert!(!seen.may_miss(&many(9)));
        assert!(!seen.may_miss(&many(11)[1..]), "fewer than asked for are all there are");
        assert!(!seen.may_miss(&[]));
    }
}

//! `attach`: the streams of a service that runs, as of one that was started here.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use upbeat_api::Attach;

use super::args::AttachArgs;
use super::change::{For, named};
use super::exec::{Typed, at_terminal, talk};
use super::session::Session;
use super::terminal;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};

pub(super) async fn run(session: &Session, args: AttachArgs) -> Outcome {
    if args.sig_proxy {
        let message = "a signal to this command is not passed on to the service";
        return Err(Failure::new(ExitCode::Usage, message)
            .hint("leave out `--sig-proxy`; `upbeat stop` stops a service, `upbeat reload` signals it"));
    }
    let (client, app, services) = named(session, For::Change, std::slice::from_ref(&args.service)).await?;
    let Some(service) = services.first() else { return Err(Failure::silent(ExitCode::Failed)) };
    let spec = app.project.services.get(service);
    let takes = |says: fn(&upbeat_model::Service) -> bool| spec.is_some_and(says) && !args.no_stdin;
    let input = takes(|spec| spec.stdin_open);
    let on_terminal = takes(|spec| spec.tty && spec.stdin_open) && terminal::is_there();
    // One that is only shown here has the size of the terminal all the same.
    let shows = on_terminal || (spec.is_some_and(|spec| spec.tty) && terminal::is_shown());
    let asked = Attach { index: args.index, input, terminal: shows.then(terminal::window) };
    let (saying, hearing) = client.attach(&app.name, service, &asked).await?;
    let over = match on_terminal {
        true => {
            let (input, left) = until_left(terminal::input());
            at_terminal(saying, hearing, Typed::new(Some(input)).until(left)).await
        }
        false => talk(saying, hearing, Typed::new(input.then(terminal::input))).await,
    };
    over?.outcome()
}

/// Passes on what is typed, until somebody types that they leave.
fn until_left(mut typed: mpsc::Receiver<Bytes>) -> (mpsc::Receiver<Bytes>, oneshot::Receiver<()>) {
    let (give, pieces) = mpsc::channel(1);
    let (leave, left) = oneshot::channel();
    tokio::spawn(async move {
        let mut keys = Keys::default();
        while let Some(piece) = typed.recv().await {
            let passed = keys.pass(&piece);
            if !passed.is_empty() && give.send(passed.into()).await.is_err() {
                return;
            }
            if keys.are_typed {
                // Nobody waits for it where it is over already.
                let _ = leave.send(());
                return;
            }
        }
    });
    (pieces, left)
}

/// Ctrl-P, and right after it Ctrl-Q.
#[derive(Default)]
struct Keys {
    /// The first of them is kept back: the next key says whether it is one of these.
    is_begun: bool,
    are_typed: bool,
}

impl Keys {
    const FIRST: u8 = 0x10;
    const SECOND: u8 = 0x11;

    /// What is the service's of what was typed.
    fn pass(&mut self, typed: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(typed.len() + 1);
        for &key in typed {
            match (std::mem::take(&mut self.is_begun), key) {
                (true, Self::SECOND) => {
                    self.are_typed = true;
                    return passed;
                }
                (was_begun, key) => {
                    passed.extend(was_begun.then_some(Self::FIRST));
                    self.is_begun = key == Self::FIRST;
                    passed.extend((!self.is_begun).then_some(key));
                }
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_both_keys_in_a_row_leave_and_all_others_are_the_services() {
        for (pieces, passed, are_typed) in [
            (&[&b"ls\n"[..]][..], &b"ls\n"[..], false),
            (&[b"a\x10\x11b"], b"a", true),
            (&[b"a\x10", b"\x11"], b"a", true),
            (&[b"a\x10", b"b\x11"], b"a\x10b\x11", false),
            (&[b"\x10\x10", b"\x11"], b"\x10", true),
            (&[b"\x11\x10"], b"\x11", false),
        ] {
            let mut keys = Keys::default();
            let all: Vec<u8> = pieces.iter().flat_map(|piece| keys.pass(piece)).collect();
            assert_eq!((&all[..], keys.are_typed), (passed, are_typed), "{pieces:?}");
        }
    }
}

//! `ps`: what there is of the app. As JSON it is the app as the API has it, whole, or `null`.

use upbeat_model::SlotStatus;

use super::args::{Format, PsArgs};
use super::load;
use super::session::{Session, is_absent};
use crate::exit::ExitCode;
use crate::face::ps::{Detail, is_at_rest, left_out, table};
use crate::failure::Outcome;

pub(super) async fn run(session: &Session, args: PsArgs) -> Outcome {
    let name = load::app_name(session)?;
    let client = session.to_ask().await?;
    let app = match session.ask(|| client.app(&name)).await? {
        Ok(app) => Some(app),
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(error.into()),
    };
    if session.is_json() {
        session.print_json(&app)?;
        return Ok(ExitCode::Ok);
    }
    let slots = app.map(|app| app.slots).unwrap_or_default();
    let all = slots.len();
    let shown: Vec<SlotStatus> = slots.into_iter().filter(|s| args.all || !is_at_rest(s)).collect();
    match session.global.output {
        _ if session.global.quiet => {
            let names: String = shown.iter().map(|s| s.slot.short() + "\n").collect();
            session.print(&names)?;
        }
        _ if all == 0 => session.print(&format!("Nothing of `{name}` is there; `upbeat up` starts it.\n"))?,
        format => {
            let detail = if format == Format::Wide { Detail::Wide } else { Detail::Usual };
            if !shown.is_empty() {
                session.print(&table(&shown, detail, &session.face()))?;
            }
            if let Some(note) = left_out(all - shown.len()) {
                session.note(&note);
            }
        }
    }
    Ok(ExitCode::Ok)
}

//! `apps` and `version`: what there is, and who answers.

use std::path::Path;

use upbeat_api::{AppSummary, Version};

use super::{
    Face, Tone,
    table::{Cell, Table},
    time::age,
};

/// One line an app.
pub fn table(apps: &[AppSummary], face: &Face) -> String {
    if apps.is_empty() {
        return "No app is there; `upbeat up` starts the project of this directory.\n".into();
    }
    let mut table = Table::new(["APP", "READY", "RELEASE"]);
    for app in apps {
        let tone = if app.ready == app.wanted { Tone::Good } else { Tone::Caution };
        table.row([
            Cell::from(&app.name),
            Cell::toned(tone, format!("{}/{}", app.ready, app.wanted)),
            app.release.into(),
        ]);
    }
    table.render(face)
}

/// Both versions: the daemon may be older than the command line after an update. And where it is asked, for
/// whoever wants to ask it without this program.
pub fn version(own: &str, daemon: Option<&Version>, socket: &Path, face: &Face) -> String {
    let mut text = format!("upbeat {own}\nsocket {}\n", super::visible(&socket.display().to_string()));
    match daemon {
        None => text.push_str("no daemon runs\n"),
        Some(daemon) => {
            text.push_str(&format!(
                "daemon {} (pid {}, for {})\n",
                super::visible(&daemon.version),
                daemon.pid,
                age(daemon.started_at, face.now)
            ));
            if daemon.version != own {
                let note = "the daemon is of another version: `upbeat serve --stop`, then `upbeat up`; services stay up";
                text.push_str(&face.paint.tone(Tone::Caution, note));
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{ago, face};
    use upbeat_api::AppName;

    #[test]
    fn apps_say_how_many_of_their_slots_are_ready() {
        let apps = [("shop", 3, 3), ("blog", 2, 1)].map(|(name, wanted, ready)| AppSummary {
            name: AppName::new(name).unwrap(),
            release: 2,
            wanted,
            ready,
        });
        insta::assert_snapshot!(table(&apps, &face()), @"
        APP   READY  RELEASE
        shop  3/3    2
        blog  1/2    2
        ");
        insta::assert_snapshot!(table(&[], &face()), @"No app is there; `upbeat up` starts the project of this directory.");
    }

    #[test]
    fn a_daemon_of_another_version_is_pointed_out() {
        let socket = Path::new("/run/upbeat/upbeat.sock");
        let daemon = Version { version: "0.0.9".into(), pid: 77, started_at: ago(7_200) };
        insta::assert_snapshot!(version("0.1.0", Some(&daemon), socket, &face()), @"
        upbeat 0.1.0
        socket /run/upbeat/upbeat.sock
        daemon 0.0.9 (pid 77, for 2h)
        the daemon is of another version: `upbeat serve --stop`, then `upbeat up`; services stay up
        ");
        insta::assert_snapshot!(version("0.1.0", None, socket, &face()), @"
        upbeat 0.1.0
        socket /run/upbeat/upbeat.sock
        no daemon runs
        ");
    }
}

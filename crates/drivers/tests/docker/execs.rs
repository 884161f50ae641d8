//! Commands inside of containers, and their files.

use upbeat_drivers::docker::{ContainerExec, EngineEvent};
use upbeat_drivers::process::ExecOutcome;
use upbeat_model::project::PrivateFile;
use upbeat_model::{Attempt, Exit, Millis};
use upbeat_needs::{Need, Test};

use crate::rig::{Rig, eventually, run};

pub(crate) const CASES: &[Test] = &[
    Test::needing(
        &[Need::DOCKER],
        "a_command_in_a_container_says_how_it_ended_and_what_it_printed",
        commands,
    ),
    Test::needing(
        &[Need::DOCKER, Need::ROOT],
        "a_command_whose_time_is_over_is_killed_with_all_it_started",
        late,
    ),
    Test::needing(
        &[Need::DOCKER, Need::ROOT],
        "commands_that_nobody_wants_any_more_are_ended_though_they_begin_late_or_hide",
        unwanted,
    ),
    Test::needing(&[Need::DOCKER], "a_command_of_a_container_that_ends_says_nothing", ended),
    Test::needing(&[Need::DOCKER], "configs_and_secrets_are_files_of_the_container", files),
];

fn ask(rig: &Rig, script: &str) -> ContainerExec {
    ContainerExec {
        slot: rig.slot("web"),
        attempt: Attempt(1),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        environment: [("A".to_owned(), "b c".to_owned())].into(),
        working_dir: Some("/tmp".to_owned()),
        user: Some("nobody".to_owned()),
        privileged: false,
        timeout: Millis(30_000),
    }
}

fn commands() {
    run(async |rig| {
        rig.up(&rig.slot("web"), 1, &rig.lasting()).await;
        let said =
            rig.engine.exec(ask(rig, "echo $A $(pwd) $(id -un); sleep 0.3; echo no >&2; exit 3")).await;
        let output = "b c /tmp nobody\nno\n".to_owned();
        assert_eq!(said, ExecOutcome::Ended { exit: Exit::Code(3), output });
        let mut missing = ask(rig, "");
        missing.command = vec!["no-such-check".to_owned()];
        let ExecOutcome::Failed(why) = rig.engine.exec(missing).await else { panic!() };
        assert_eq!(why, "cannot run `no-such-check`: no such program in the PATH of the image");
        let mut elsewhere = ask(rig, "true");
        elsewhere.attempt = Attempt(2);
        assert!(matches!(rig.engine.exec(elsewhere).await, ExecOutcome::Unable(_)));
        let mut nobody = ask(rig, "true");
        nobody.user = Some("no-such-user".to_owned());
        let said = rig.engine.exec(nobody).await;
        assert!(matches!(&said, ExecOutcome::Failed(why) if why.contains("no-such-user")), "{said:?}");
    });
}

/// Processes in the container whose command line has this.
fn count(rig: &Rig, container: &str, text: &str) -> usize {
    let top = rig.docker.get(&format!("/containers/{container}/top?ps_args=-eo%20pid,args"));
    let all = top["Processes"].as_array().unwrap();
    all.iter().filter(|row| row.to_string().contains(text)).count()
}

fn late() {
    run(async |rig| {
        let id = rig.up(&rig.slot("web"), 1, &rig.lasting()).await;
        let mut long = ask(rig, "echo begun; sleep 4321 & sleep 4321");
        long.timeout = Millis(1500);
        let said = rig.engine.exec(long).await;
        let output = "begun\n".to_owned();
        assert_eq!(said, ExecOutcome::TimedOut { after: Millis(1500), output });
        assert_eq!(count(rig, &id, "sleep 4321"), 0);
        // And one that nobody waits for any more.
        let (engine, asked) = (rig.engine.clone(), ask(rig, "sleep 4322"));
        let dropped = tokio::spawn(async move { engine.exec(asked).await });
        eventually("runs it", || count(rig, &id, "sleep 4322") > 0).await;
        dropped.abort();
        eventually("is it killed", || count(rig, &id, "sleep 4322") == 0).await;
        rig.hears_nothing();
    });
}

/// So many at once that the engine begins some of them long after it was asked to.
const MANY: usize = 20;

fn unwanted() {
    run(async |rig| {
        let id = rig.up(&rig.slot("web"), 1, &rig.lasting()).await;
        let begun: Vec<_> = (0..MANY)
            .map(|_| {
                let (engine, mut asked) = (rig.engine.clone(), ask(rig, ""));
                asked.command = ["sleep", "4324"].map(str::to_owned).to_vec();
                tokio::spawn(async move { engine.exec(asked).await })
            })
            .collect();
        eventually("one is begun", || count(rig, &id, "sleep 4324") > 0).await;
        begun.iter().for_each(tokio::task::JoinHandle::abort);
        let made =
            || rig.docker.get(&format!("/containers/{id}/json"))["ExecIDs"].as_array().map_or(0, Vec::len);
        eventually("the engine has ended all", || made() == 0).await;
        assert_eq!(count(rig, &id, "sleep 4324"), 0);
        // It carries no mark.
        let (engine, asked) = (rig.engine.clone(), ask(rig, "exec env -i /bin/busybox sleep 4325"));
        let hidden = tokio::spawn(async move { engine.exec(asked).await });
        eventually("runs it", || count(rig, &id, "sleep 4325") > 0).await;
        hidden.abort();
        eventually("is it killed", || count(rig, &id, "sleep 4325") == 0).await;
    });
}

fn ended() {
    run(async |rig| {
        let id = rig.up(&rig.slot("web"), 1, &rig.lasting()).await;
        let engine = rig.engine.clone();
        let task = {
            let asked = ask(rig, "sleep 4323");
            tokio::spawn(async move { engine.exec(asked).await })
        };
        eventually("runs it", || count(rig, &id, "sleep 4323") > 0).await;
        rig.by_hand(&id, "kill");
        let said = task.await.unwrap();
        assert!(matches!(said, ExecOutcome::Unable(_)), "{said:?}");
        assert!(matches!(rig.event().await, EngineEvent::Taken { .. } | EngineEvent::Exited { .. }));
    });
}

fn files() {
    run(async |rig| {
        let slot = rig.slot("web");
        let mut spec = rig.shell("cat /etc/conf /run/secrets/key; stat -c '%a %u' /run/secrets/key");
        let file = |name: &str, target: &str, mode, content: &str| PrivateFile {
            name: name.to_owned(),
            target: Some(target.to_owned()),
            uid: None,
            gid: None,
            mode,
            content: upbeat_model::project::Secret::new(content.as_bytes()),
        };
        spec.files =
            vec![file("conf", "/etc/conf", 0o444, "one\n"), file("key", "/run/secrets/key", 0o400, "two\n")];
        rig.up(&slot, 1, &spec).await;
        rig.event().await;
        let log = rig.engine.log_dir(&slot);
        let lines = crate::output::log(&log);
        let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["one", "two", "400 0"]);
        // Those of the service before go when nobody needs them.
        let dirs = || std::fs::read_dir(rig.engine.slot_dir(&slot).join("files")).unwrap().count();
        assert_eq!(dirs(), 1);
        let mut other = rig.lasting();
        rig.prepare(&slot, &other).await.unwrap();
        other.environment.insert("A".to_owned(), "b".to_owned());
        rig.prepare(&slot, &other).await.unwrap();
        assert_eq!(dirs(), 0);
    });
}

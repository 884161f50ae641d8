//! The files only a process can read: there while it runs, and for nobody else.

use upbeat_drivers::process::{
    ExecOutcome, ExecRequest, Launch, Leftovers, Observation, ProcessEvent, Rights, StartError,
};
use upbeat_model::project::{PrivateFile, Secret};
use upbeat_model::{Attempt, Exit};

use crate::rig::{Disk, FOREVER, Place, Rig, eventually, id, is_alive, kill, parent};
use crate::{Case, Need};

pub(crate) const CASES: &[Case] = &[
    Case::new("a process finds its files, and they are gone with it", there),
    Case::new("what runs beside a process finds its files too", beside),
    Case::new("the files of a process that was not started are gone", not_started),
    Case::new("the files of a killed shim are gone when its end is told", lost),
    Case::new("the files of a shim that was killed while no daemon lived go with the next look", lost_unseen),
    Case::new("wherever a shim dies its files are gone before the next attempt", any_point),
    Case::new("removing a slot removes what is left of its files", removed),
    Case::needing(&[Need::ROOT], "the files of a user are that user's and nobody else's", of_user),
    Case::needing(&[Need::ROOT], "a user that cannot reach its files is told where they are", unreachable),
    Case::needing(
        &[Need::ROOT],
        "a full memory is Upbeat's trouble, and nothing is left of what was there",
        full,
    ),
];

const SLOT: &str = "app/web/1";

fn with_files(rig: &Rig<'_>, script: &str) -> Launch {
    let file = |name: &str, mode, content: &[u8]| PrivateFile {
        mode,
        ..PrivateFile::new(name, Secret::new(content))
    };
    let files = vec![
        file("key", 0o400, b"hush\n"),
        file("site.conf", 0o444, b"x\n"),
        file("bytes", 0o440, b"\0\xff"),
    ];
    Launch { files, ..rig.script(script) }
}

fn there() {
    let place = Place::new();
    place.daemon(async |mut rig| {
        let script = r#"
            cd "$CREDENTIALS_DIRECTORY" && ls -A && cat key site.conf && wc -c < bytes
            stat -c '%a %n' . key site.conf bytes
            touch ours 2> /dev/null || chmod u+w . && touch ours
            umask; kill -KILL $$
        "#;
        let mut launch = with_files(&rig, script);
        launch.environment.insert("CREDENTIALS_DIRECTORY".into(), "/somewhere/else".into());
        rig.try_start(SLOT, 1, &launch).await.unwrap();
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Signal(9));
        assert_eq!(place.private(), Vec::<std::path::PathBuf>::new());
        let said = [
            "bytes",
            "key",
            "site.conf",
            "hush",
            "x",
            "2",
            "500 .",
            "400 key",
            "444 site.conf",
            "440 bytes",
            "0022",
        ];
        assert_eq!(rig.lines(SLOT), said);
        // Without files nothing is said of them.
        let launch = Launch { files: Vec::new(), ..launch };
        let launch = Launch { command: vec!["printenv".into(), "CREDENTIALS_DIRECTORY".into()], ..launch };
        rig.try_start(SLOT, 2, &launch).await.unwrap();
        assert_eq!(rig.exit(SLOT, 2).await, Exit::Code(0));
        assert_eq!(rig.lines(SLOT).last().unwrap(), "/somewhere/else");
    });
}

fn request(rig: &Rig<'_>, script: &str, user: Option<&str>) -> ExecRequest {
    let Launch { command, environment, .. } = rig.script(script);
    ExecRequest {
        command,
        environment,
        working_dir: "/".into(),
        user: user.map(str::to_owned),
        rights: Rights::default(),
        beside: Some(id(SLOT)),
        timeout: FOREVER,
        leftovers: Leftovers::Killed,
    }
}

fn beside() {
    Place::new().daemon(async |mut rig| {
        let launch = with_files(&rig, "echo up; exec sleep 600");
        let before = rig.driver.exec(request(&rig, "echo \"${CREDENTIALS_DIRECTORY-none}\"", None)).await;
        assert_eq!(before, ExecOutcome::Ended { exit: Exit::Code(0), output: "none\n".into() });
        rig.try_start(SLOT, 1, &launch).await.unwrap();
        rig.says(SLOT, "up").await;
        let outcome = rig.driver.exec(request(&rig, "cat $CREDENTIALS_DIRECTORY/key", None)).await;
        assert_eq!(outcome, ExecOutcome::Ended { exit: Exit::Code(0), output: "hush\n".into() });
        rig.stop(SLOT, 1, 15, FOREVER).await;
        rig.exit(SLOT, 1).await;
        assert!(rig.place.private().is_empty());
    });
}

fn not_started() {
    Place::new().daemon(async |rig| {
        let mut launch = with_files(&rig, "");
        launch.command = vec!["no-such-program".into()];
        let started = rig.try_start(SLOT, 1, &launch).await;
        assert!(matches!(started, Err(StartError::NotExecuted(_))), "{started:?}");
        assert!(rig.place.private().is_empty());
        launch.user = Some("nobody-of-that-name".into());
        let started = rig.try_start(SLOT, 2, &launch).await;
        assert!(matches!(started, Err(StartError::NotExecuted(_))), "{started:?}");
        assert!(rig.place.private().is_empty());
    });
}

fn lost() {
    Place::new().daemon(async |mut rig| {
        let launch = with_files(&rig, "exec sleep 600");
        let started = rig.try_start(SLOT, 1, &launch).await.unwrap();
        assert_eq!(rig.place.private().len(), 1);
        kill(parent(started.pid));
        let event = rig.event().await;
        assert!(matches!(event, ProcessEvent::Lost { attempt: Attempt(1), .. }), "{event:?}");
        assert!(rig.place.private().is_empty());
    });
}

fn lost_unseen() {
    let place = Place::new();
    let started = place.daemon(async |rig| {
        let launch = with_files(&rig, "exec sleep 600");
        rig.try_start("app/other/1", 1, &launch).await.unwrap();
        rig.try_start(SLOT, 1, &launch).await.unwrap()
    });
    kill(parent(started.pid));
    place.daemon(async |mut rig| {
        eventually("the main process died with its shim", || !is_alive(started.pid)).await;
        assert_eq!(place.private().len(), 2);
        assert!(matches!(rig.observe(SLOT).await, Observation::Lost { .. }));
        assert!(matches!(rig.observe("app/other/1").await, Observation::Running { .. }));
        assert_eq!(place.private(), [place.file("private").join("app@other@1")], "of one that runs");
        rig.stop("app/other/1", 1, 9, FOREVER).await;
        rig.exit("app/other/1", 1).await;
        assert!(place.private().is_empty());
    });
}

fn any_point() {
    for point in
        ["after_lock", "before_fork", "after_fork", "after_exec", "before_exit_record", "after_exit_record"]
    {
        let place = Place::new();
        let variable = format!("UPBEAT_SHIM_FAILPOINT=self:{point}:{}", place.file("marker").display());
        place.daemon_with(&[variable], async |mut rig| {
            let launch = with_files(&rig, "cat $CREDENTIALS_DIRECTORY/key");
            if rig.try_start(SLOT, 1, &launch).await.is_ok() {
                rig.event().await;
            } else {
                rig.observe(SLOT).await;
            }
            assert!(place.file("marker").exists(), "{point} was never reached");
            assert!(place.private().is_empty(), "{point}");
            rig.try_start(SLOT, 2, &launch).await.unwrap();
            assert_eq!(rig.exit(SLOT, 2).await, Exit::Code(0), "{point}");
            assert_eq!(rig.lines(SLOT).last().unwrap(), "hush");
        });
    }
}

fn removed() {
    let place = Place::new();
    place.daemon(async |mut rig| {
        rig.try_start(SLOT, 1, &with_files(&rig, "exit 0")).await.unwrap();
        rig.exit(SLOT, 1).await;
        let left = place.file("private").join("app@web@1");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("key"), "hush").unwrap();
        rig.driver.remove(&id(SLOT)).await.unwrap();
        assert!(place.private().is_empty());
    });
}

fn of_user() {
    let place = Place::new();
    place.let_through(true);
    place.daemon(async |mut rig| {
        let script = "cat $CREDENTIALS_DIRECTORY/key; stat -c '%a %u %g' $CREDENTIALS_DIRECTORY $CREDENTIALS_DIRECTORY/*; exec sleep 600";
        let mut launch = with_files(&rig, script);
        (launch.user, launch.working_dir) = (Some("nobody".into()), "/".into());
        rig.try_start(SLOT, 1, &launch).await.unwrap();
        rig.says(SLOT, "^444").await;
        let said = ["hush", "500 65534 65534", "440 65534 65534", "400 65534 65534", "444 65534 65534"];
        assert_eq!(rig.lines(SLOT), said);
        for (user, code, output) in [
            ("nobody", 0, "hush\n"),
            // Neither another user, nor one in its group; not even a file of mode 0444.
            ("12345", 1, ""),
            ("12345:65534", 1, ""),
        ] {
            let script = "cd /; ls $CREDENTIALS_DIRECTORY/.. 2>&-; cat $CREDENTIALS_DIRECTORY/site.conf 2>&- >&- ; cat $CREDENTIALS_DIRECTORY/key 2>&-";
            let outcome = rig.driver.exec(request(&rig, script, Some(user))).await;
            let ended = ExecOutcome::Ended { exit: Exit::Code(code), output: output.into() };
            assert_eq!(outcome, ended, "{user}");
            let script = "cat $CREDENTIALS_DIRECTORY/site.conf 2>&-";
            let outcome = rig.driver.exec(request(&rig, script, Some(user))).await;
            assert_eq!(outcome.is_success(), user == "nobody", "{user}: {outcome:?}");
        }
        rig.stop(SLOT, 1, 15, FOREVER).await;
        rig.exit(SLOT, 1).await;
        assert!(place.private().is_empty());
    });
}

fn unreachable() {
    let place = Place::new();
    place.let_through(false);
    place.daemon(async |rig| {
        let mut launch = with_files(&rig, "exit 0");
        (launch.user, launch.working_dir) = (Some("nobody".into()), "/".into());
        let dir = place.file("private").join("app@web@1");
        let expected = format!(
            "user `nobody` cannot reach its configs and secrets in {}: permission denied",
            dir.display()
        );
        match rig.try_start(SLOT, 1, &launch).await {
            Err(StartError::NotExecuted(why)) => assert_eq!(why, expected),
            other => panic!("{other:?}"),
        }
        assert!(place.private().is_empty());
    });
}

fn full() {
    let place = Place::new();
    let disk = Disk::mount(&place, 64);
    std::fs::write(disk.0.join("ballast"), vec![0; 48 * 1024]).unwrap();
    let place = place.with_private_in(disk.0.join("private"));
    place.daemon(async |mut rig| {
        let mut launch = with_files(&rig, "wc -c < $CREDENTIALS_DIRECTORY/large");
        let content = Secret::new(vec![b'x'; 32 * 1024]);
        launch.files.push(PrivateFile::new("large", content));
        let started = rig.try_start(SLOT, 1, &launch).await;
        let Err(StartError::Driver(error)) = started else { panic!("{started:?}") };
        let dir = disk.0.join("private/app@web@1");
        let expected =
            format!("the service's files in {}: No space left on device (os error 28)", dir.display());
        assert_eq!(error.to_string(), expected);
        assert!(place.private().is_empty());
        // The attempt was never there: it is begun anew when there is room.
        assert_eq!(rig.observe(SLOT).await, Observation::Never);
        std::fs::remove_file(disk.0.join("ballast")).unwrap();
        rig.try_start(SLOT, 1, &launch).await.unwrap();
        assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(0));
        assert_eq!(rig.lines(SLOT), ["32768"]);
    });
}

//! What surrounds a process: its limits, its groups.

use upbeat_drivers::process::{ExecOutcome, ExecRequest, Launch, Rights, StartError};
use upbeat_model::Exit;
use upbeat_model::project::Ulimit;

use crate::rig::{FOREVER, Place, Rig};
use crate::{Case, Need};

pub(crate) const CASES: &[Case] = &[
    Case::new("a process and the commands beside it have the limits it was given", limits),
    Case::new("a limit that may not be set says which, to what, and why", limit_refused),
    Case::new("a process says how soon it is killed when memory is out", oom_score),
    Case::needing(Need::SysResource, "what protects the daemon does not protect its services", unprotected),
    Case::needing(
        Need::Root,
        "without rights no score is lowered, no limit raised, no group joined",
        no_rights,
    ),
    Case::needing(Need::Root, "groups are added to those of the user, or of the daemon", groups),
    Case::new("a group that does not exist is named", unknown_group),
];

const SLOT: &str = "app/web/1";

/// Runs an attempt to its good end; what it printed.
async fn said(rig: &mut Rig<'_>, attempt: u64, launch: &Launch) -> Vec<String> {
    let started = rig.try_start(SLOT, attempt, launch).await.unwrap();
    assert_eq!(rig.exit(SLOT, attempt).await, Exit::Code(0), "{:?}", rig.lines(SLOT));
    let mut lines = rig.lines(SLOT);
    lines.split_off(usize::try_from(started.log_start - 1).unwrap())
}

/// What an attempt says that is not started.
async fn refused(rig: &Rig<'_>, attempt: u64, launch: &Launch) -> String {
    match rig.try_start(SLOT, attempt, launch).await {
        Err(StartError::NotExecuted(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn ulimit(name: &str, soft: i64, hard: i64) -> (String, Ulimit) {
    (name.to_owned(), Ulimit { soft, hard })
}

/// What becomes another user, as `nobody` and in no group.
const AS_NOBODY: &str = "65534:65534";

fn limits() {
    Place::new().daemon(async |mut rig| {
        let script = "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hs";
        let mut launch = rig.script(script);
        let ulimits = [ulimit("nofile", 100, 200), ulimit("core", 0, 0), ulimit("stack", 1 << 20, -1)];
        launch.rights.ulimits = ulimits.into();
        assert_eq!(said(&mut rig, 1, &launch).await, ["100", "200", "0", "unlimited"]);
        let request = ExecRequest {
            command: launch.command,
            environment: launch.environment,
            working_dir: launch.working_dir,
            user: None,
            rights: launch.rights,
            timeout: FOREVER,
        };
        let output = "100\n200\n0\nunlimited\n".to_owned();
        let ended = ExecOutcome::Ended { exit: Exit::Code(0), output };
        assert_eq!(rig.driver.exec(request).await, ended);
    });
}

/// More files than the kernel lets anybody open, root included.
fn limit_refused() {
    Place::new().daemon(async |rig| {
        let mut launch = rig.script("exit 0");
        let why = "operation not permitted (it is more than the daemon may give)";
        launch.rights.ulimits = [ulimit("core", 0, 0), ulimit("nofile", 1 << 40, 1 << 40)].into();
        let text = format!("cannot set the limit `nofile` to 1099511627776: {why}");
        assert_eq!(refused(&rig, 1, &launch).await, text);
        launch.rights.ulimits = [ulimit("nofile", 100, -1)].into();
        let text = format!("cannot set the limit `nofile` to 100 (hard: unlimited): {why}");
        assert_eq!(refused(&rig, 2, &launch).await, text);
    });
}

fn oom_score() {
    Place::new().daemon(async |mut rig| {
        let mut launch = rig.script("cat /proc/self/oom_score_adj");
        for (attempt, score) in [(1, 1000), (2, 700)] {
            launch.rights.oom_score_adj = Some(score);
            assert_eq!(said(&mut rig, attempt, &launch).await, [score.to_string()]);
        }
    });
}

/// Becomes the zygote, `"$@"`, by a script.
fn zygote_by(script: &str) -> [String; 4] {
    ["sh", "-c", script, "sh"].map(str::to_owned)
}

fn unprotected() {
    // As under a systemd that protects the daemon.
    let protected = zygote_by(r#"echo -900 > /proc/self/oom_score_adj && exec "$@""#);
    Place::new().daemon_with(&protected, async |mut rig| {
        let mut launch = rig.script("cat /proc/self/oom_score_adj /proc/$PPID/oom_score_adj");
        assert_eq!(said(&mut rig, 1, &launch).await, ["0", "-900"]);
        launch.rights.oom_score_adj = Some(-500);
        assert_eq!(said(&mut rig, 2, &launch).await, ["-500", "-900"]);
    });
}

fn no_rights() {
    let without = "-sys_resource,-setgid";
    let script = format!(r#"exec setpriv --bounding-set {without} --inh-caps {without} "$@""#);
    let without = zygote_by(&script);
    Place::new().daemon_with(&without, async |mut rig| {
        let script = |rights| Launch { rights, ..rig.script("id -G; cat /proc/self/oom_score_adj") };
        let launch = script(Rights { oom_score_adj: Some(-5), ..Rights::default() });
        let refused_score =
            "cannot set `oom_score_adj` to -5: permission denied (it is more than the daemon may give)";
        assert_eq!(refused(&rig, 1, &launch).await, refused_score);
        let hard = i64::try_from(rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap());
        let hard = hard.unwrap() + 1;
        let launch = script(Rights { ulimits: [ulimit("nofile", 9, hard)].into(), ..Rights::default() });
        let refused_limit = format!(
            "cannot set the limit `nofile` to 9 (hard: {hard}): operation not permitted (it is more than the daemon may give)"
        );
        assert_eq!(refused(&rig, 2, &launch).await, refused_limit);
        let launch = script(Rights { groups: vec!["1".into(), "7".into()], ..Rights::default() });
        let refused_group =
            "cannot join the group `7`: operation not permitted (it is more than the daemon may give)";
        assert_eq!(refused(&rig, 3, &launch).await, refused_group);
        // In these it is already; and whoever runs lower may go up.
        let groups = vec!["1".into(), "2".into()];
        let launch = script(Rights { groups, oom_score_adj: Some(5), ..Rights::default() });
        assert_eq!(said(&mut rig, 4, &launch).await, ["0 1 2", "5"]);
    });
}

fn groups() {
    Place::new().daemon(async |mut rig| {
        let mut launch = rig.script("id -G");
        launch.working_dir = "/".into();
        for (attempt, user, added, expected) in [
            (1, None, &["12345", "sys"][..], "0 1 2 3 12345"),
            (2, Some(AS_NOBODY), &["audio", "54321"], "65534 29 54321"),
            (3, Some(AS_NOBODY), &["65534"], "65534"),
        ] {
            launch.user = user.map(str::to_owned);
            launch.rights.groups = added.iter().map(|group| (*group).to_owned()).collect();
            let said = said(&mut rig, attempt, &launch).await;
            let mut found: Vec<&str> = said[0].split(' ').collect();
            let mut expected: Vec<&str> = expected.split(' ').collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{added:?}");
        }
    });
}

fn unknown_group() {
    Place::new().daemon(async |rig| {
        let mut launch = rig.script("exit 0");
        launch.rights.groups = vec!["0".into(), "no-such-group".into()];
        assert_eq!(refused(&rig, 1, &launch).await, "there is no group `no-such-group` in /etc/group");
        let mut many = vec!["0".to_owned(); 300];
        many.push("no-such-group".into());
        launch.rights.groups = many;
        assert_eq!(refused(&rig, 2, &launch).await, "there is no group in /etc/group");
    });
}

//! What is left of the daemon's rights in a process that becomes an ordinary user: nothing.

use upbeat_drivers::process::{ExecOutcome, ExecRequest, Launch, Leftovers};
use upbeat_model::Exit;

use crate::rig::{FOREVER, Place, Rig, zygote_by};
use crate::{Case, Need};

pub(crate) const CASES: &[Case] = &[
    Case::needing(&[Need::ROOT], "a user has no right of a root daemon, and comes to none", of_root),
    Case::needing(&[Need::ROOT], "a user has no right of an ambient daemon, and comes to none", of_ambient),
    Case::needing(&[Need::ROOT], "without a right to the bounding set, the rest is given up", unbound),
    Case::needing(&[Need::ROOT], "who stays the daemon's user keeps what that has", kept),
];

const SLOT: &str = "app/web/1";
const NOBODY: &str = "65534:65534";

/// What a daemon could be given, and have its services inherit by mistake. Those a container has too.
const GIVEN: &str = "+setuid,+setgid,+setpcap,+chown,+kill,+dac_override,+sys_chroot";

/// All that a process says of its rights, and who it is; every process it starts has the same.
const STATUS: &str = "grep -hE '^(Uid|Gid|Cap|NoNewPrivs)' /proc/self/status | tr '\\t' ' '; id -G";

/// `nobody`, and nothing else.
fn nothing(bounding: &str) -> Vec<String> {
    let mut lines = vec!["Uid: 65534 65534 65534 65534".into(), "Gid: 65534 65534 65534 65534".into()];
    for set in ["Inh", "Prm", "Eff"] {
        lines.push(format!("Cap{set}: 0000000000000000"));
    }
    lines.push(format!("CapBnd: {bounding}"));
    lines.extend(["CapAmb: 0000000000000000", "NoNewPrivs: 1", "65534"].map(str::to_owned));
    lines
}

/// What a process says of itself, and what a command beside it does: those are health checks, hooks and
/// the rest.
async fn said(rig: &mut Rig<'_>, user: Option<&str>) -> [Vec<String>; 2] {
    let launch = Launch { working_dir: "/".into(), user: user.map(str::to_owned), ..rig.script(STATUS) };
    rig.try_start(SLOT, 1, &launch).await.unwrap();
    assert_eq!(rig.exit(SLOT, 1).await, Exit::Code(0), "{:?}", rig.lines(SLOT));
    let request = ExecRequest {
        command: launch.command,
        environment: launch.environment,
        working_dir: launch.working_dir,
        user: launch.user,
        rights: launch.rights,
        beside: None,
        timeout: FOREVER,
        leftovers: Leftovers::Killed,
    };
    let outcome = rig.driver.exec(request).await;
    let ExecOutcome::Ended { exit: Exit::Code(0), output } = outcome else { panic!("{outcome:?}") };
    [rig.lines(SLOT), output.lines().map(str::to_owned).collect()]
}

const NONE: &str = "0000000000000000";

/// The kernel leaves the inheritable set to whoever stops being root, and the bounding set.
fn of_root() {
    let script = format!(r#"exec setpriv --inh-caps {GIVEN} --ambient-caps {GIVEN} "$@""#);
    Place::new().daemon_with(&zygote_by(&script), async |mut rig| {
        assert_eq!(said(&mut rig, Some(NOBODY)).await, [nothing(NONE), nothing(NONE)]);
    });
}

/// As under a unit of systemd with `User=` and `AmbientCapabilities=`: nobody stops being root there, and
/// the kernel leaves everything.
fn of_ambient() {
    let user = "--reuid 12345 --regid 12345 --clear-groups";
    let script = format!(r#"exec setpriv {user} --inh-caps {GIVEN} --ambient-caps {GIVEN} "$@""#);
    Place::new().daemon_with(&zygote_by(&script), async |mut rig| {
        assert_eq!(said(&mut rig, Some(NOBODY)).await, [nothing(NONE), nothing(NONE)]);
    });
}

fn unbound() {
    let script = format!(
        r#"exec setpriv --bounding-set -all,{} --inh-caps -all "$@""#,
        "+setuid,+setgid,+chown,+dac_override"
    );
    Place::new().daemon_with(&zygote_by(&script), async |mut rig| {
        // chown, dac_override, setgid, setuid.
        let expected = nothing("00000000000000c3");
        assert_eq!(said(&mut rig, Some(NOBODY)).await, [expected.clone(), expected]);
    });
}

/// Nobody has asked for another user, or for root.
fn kept() {
    for user in [None, Some("0:0")] {
        Place::new().daemon(async |mut rig| {
            let own = std::fs::read_to_string("/proc/self/status").unwrap().replace('\t', " ");
            for lines in said(&mut rig, user).await {
                for line in lines.iter().filter(|line| line.starts_with("Cap") || line.starts_with("No")) {
                    assert!(own.lines().any(|it| it == line), "{line} is not in {own}");
                }
            }
        });
    }
}

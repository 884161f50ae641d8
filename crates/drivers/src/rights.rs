//! What this daemon can give to what it starts, as the kernel tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use upbeat_model::project::Ulimit;
use upbeat_model::rights::{Accounts, DaemonRights};
use upbeat_shim::user;

/// Capabilities by their bits.
const SETGID: u64 = 1 << 6;
const SETUID: u64 = 1 << 7;
const SYS_RESOURCE: u64 = 1 << 24;

/// The users and groups of `/etc/passwd` and `/etc/group`.
pub struct OfThisMachine;

impl Accounts for OfThisMachine {
    fn user(&self, text: &str) -> Option<(u32, u32)> {
        user::user(text)
    }
    fn group(&self, text: &str) -> Option<u32> {
        user::group(text)
    }
}

/// Looks at a process. `process`: [`crate::cgroups::OF_THIS_PROCESS`]. What cannot be read is taken to be
/// allowed: then it is the start that fails.
pub fn look(process: &Path) -> DaemonRights {
    let read = |name: &str| std::fs::read_to_string(process.join(name)).unwrap_or_default();
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().split_whitespace()
    };
    let effective = |name: &str| field(name).nth(1).and_then(|id| id.parse().ok()).unwrap_or_default();
    let (uid, gid) = (effective("Uid"), effective("Gid"));
    // A shim is another program: root has its capabilities again after `exec`, others the ambient ones.
    let capabilities = field(if uid == 0 { "CapEff" } else { "CapAmb" }).next();
    let capabilities = capabilities.map_or(Ok(u64::MAX), |bits| u64::from_str_radix(bits, 16));
    let has = |bits: u64| capabilities.as_ref().is_ok_and(|all| all & bits == bits);
    let score = read("oom_score_adj").trim().parse().ok();
    // Beside the directories of processes.
    let open_files = read("../sys/fs/nr_open").trim().parse().ok();
    let mut ulimits = if has(SYS_RESOURCE) { BTreeMap::new() } else { hard_limits(&read("limits")) };
    if let Some(most) = open_files {
        let own = ulimits.entry(OPEN_FILES.to_owned()).or_insert(most);
        *own = if *own < 0 { most } else { most.min(*own) };
    }
    DaemonRights {
        uid,
        gid,
        groups: field("Groups").filter_map(|gid| gid.parse().ok()).collect::<BTreeSet<_>>(),
        becomes_others: has(SETUID | SETGID),
        joins_groups: has(SETGID),
        score: score.filter(|_| !has(SYS_RESOURCE)),
        ulimits,
    }
}

/// What the kernel gives nobody without a bound, root included.
const OPEN_FILES: &str = "nofile";

/// The kernel lists limits in the order of their numbers, below a line of headings: a name of three words
/// at most, then the soft and the hard limit.
fn hard_limits(text: &str) -> BTreeMap<String, i64> {
    let lines = text.lines().skip(1).zip(0..);
    let limits = lines.filter_map(|(line, number)| {
        let is_limit = |word: &&str| *word == "unlimited" || word.parse::<u64>().is_ok();
        let hard = line.split_whitespace().filter(is_limit).nth(1)?;
        // No number that is one is higher than the kernel's highest.
        let hard = if hard == "unlimited" { -1 } else { hard.parse().unwrap_or(i64::MAX) };
        Some((Ulimit::name(number)?.to_owned(), hard))
    });
    limits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             unlimited            unlimited            bytes     
Max data size             unlimited            unlimited            bytes     
Max stack size            8388608              unlimited            bytes     
Max core file size        0                    unlimited            bytes     
Max resident set          unlimited            unlimited            bytes     
Max processes             7659                 7660                 processes 
Max open files            1024                 524288               files     
Max locked memory         8388608              8388608              bytes     
";

    /// Whose process has these.
    fn look_at(uid: u32, effective: &str, ambient: &str) -> DaemonRights {
        let dir = tempfile::tempdir().unwrap();
        let process = dir.path().join("7");
        let sys = dir.path().join("sys/fs");
        std::fs::create_dir(&process).unwrap();
        std::fs::create_dir_all(&sys).unwrap();
        let status = format!(
            "Name:\tupbeat\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t5\t100\t100\t100\nGroups:\t29 44 \nCapInh:\t0000000000000000\nCapEff:\t{effective}\nCapAmb:\t{ambient}\n"
        );
        for (name, text) in [("status", &status[..]), ("limits", LIMITS), ("oom_score_adj", "200\n")] {
            std::fs::write(process.join(name), text).unwrap();
        }
        std::fs::write(sys.join("nr_open"), "1048576\n").unwrap();
        look(&process)
    }

    const NONE: &str = "0000000000000000";
    const ALL: &str = "000001ffffffffff";

    #[test]
    fn a_user_has_what_it_has() {
        // What its own file gave it, its shims do not have.
        let rights = look_at(1000, ALL, NONE);
        assert_eq!((rights.uid, rights.gid, rights.score), (1000, 100, Some(200)));
        assert_eq!(rights.groups, [29, 44].into());
        assert!(!rights.becomes_others && !rights.joins_groups);
        let limit = |name: &str| rights.ulimits.get(name).copied();
        assert_eq!([limit("nofile"), limit("nproc"), limit("core")], [Some(524_288), Some(7660), Some(-1)]);
        assert_eq!([limit("memlock"), limit("rttime")], [Some(8_388_608), None]);
    }

    #[test]
    fn ambient_capabilities_are_those_of_a_shim() {
        let rights = look_at(1000, ALL, "00000000000000c0");
        assert!(rights.becomes_others && rights.joins_groups && rights.score.is_some());
        assert!(!look_at(1000, ALL, "0000000000000080").becomes_others);
    }

    #[test]
    fn root_may_open_as_many_files_as_the_kernel_lets_anybody() {
        let rights = look_at(0, ALL, NONE);
        assert_eq!((rights.score, rights.ulimits), (None, [("nofile".to_owned(), 1_048_576)].into()));
        let in_container = look_at(0, "00000000a80425fb", NONE);
        assert!(in_container.becomes_others);
        assert_eq!((in_container.score, in_container.ulimits["nofile"]), (Some(200), 524_288));
    }

    #[test]
    fn this_process_is_what_it_is() {
        let rights = look(Path::new(crate::cgroups::OF_THIS_PROCESS));
        assert_eq!(rights.uid, rustix::process::geteuid().as_raw());
        assert_eq!(rights.gid, rustix::process::getegid().as_raw());
        assert!(rights.ulimits["nofile"] > 0);
    }
}

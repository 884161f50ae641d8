//! What this machine can limit, by cgroups of version 2, and where.
//!
//! Cgroups are made in the topmost one of the daemon's own and those above that the daemon may divide:
//! for root that is the root of all, as Docker without systemd and Nomad have it; for a user of systemd
//! it is that of the user's manager. Not in the daemon's own: what runs there goes on when the daemon
//! ends, and systemd cannot start a unit again in a cgroup that is divided and not empty (it fails with
//! `219/CGROUP`), be it delegated or not.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, access};
use upbeat_model::SlotId;
use upbeat_model::project::Resources;
use upbeat_shim::spec;

/// What the kernel tells a process of itself.
pub const OF_THIS_PROCESS: &str = "/proc/self";

/// A limit that cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Compose's name of it: `mem_limit`.
    pub key: &'static str,
    /// Why, for people: `this machine has no cgroups of version 2`.
    pub why: String,
}

/// What can be limited now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// In which cgroup others are made; otherwise, why in none.
    top: Result<PathBuf, Nowhere>,
    /// What that one can lend to those in it.
    controllers: BTreeSet<String>,
    /// What the root of all can lend.
    of_root: BTreeSet<String>,
    /// What cgroups of version 1 have taken.
    old: BTreeSet<String>,
    /// The root of all, to be left out where one is named.
    mount: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Nowhere {
    /// No cgroups of version 2.
    Missing,
    /// This one and those above belong to somebody else.
    NotOurs(PathBuf),
    /// The kernel divides none that has processes of its own, but for the root of all.
    Occupied(PathBuf),
}

impl Capabilities {
    /// Looks at the machine. `process`: [`OF_THIS_PROCESS`].
    pub fn look(process: &Path) -> Self {
        let read = |name: &str| std::fs::read_to_string(process.join(name)).unwrap_or_default();
        let (mounts, own) = (Mounts::parse(&read("mountinfo")), read("cgroup"));
        let own = own_path(&own);
        let found = mounts.new.iter().find_map(|mount| Some((&mount.at, mount.place(own?)?)));
        let (mount, top) = match found {
            Some((mount, own)) => (mount.clone(), find_top(mount, &own)),
            None => (PathBuf::new(), Err(Nowhere::Missing)),
        };
        let controllers = top.as_deref().map(controllers_of).unwrap_or_default();
        Self { controllers, of_root: controllers_of(&mount), old: mounts.old, top, mount }
    }

    /// Which of these limits cannot be kept.
    pub fn lacks(&self, resources: &Resources) -> Vec<Lack> {
        let lack = |(controller, key)| Some(Lack { key, why: self.why_not(controller)? });
        resources.controllers().filter_map(lack).collect()
    }

    fn why_not(&self, controller: &str) -> Option<String> {
        let shown = |dir: &Path| {
            let path = dir.strip_prefix(&self.mount).unwrap_or(dir);
            format!("`/{}`", path.display())
        };
        if self.top.is_ok() && self.controllers.contains(controller) {
            return None;
        }
        if !self.of_root.contains(controller) && self.old.contains(controller) {
            return Some(format!(
                "cgroups of version 1 have the controller `{controller}` on this machine, and Upbeat needs version 2"
            ));
        }
        Some(match &self.top {
            Err(Nowhere::Missing) => "this machine has no cgroups of version 2".to_owned(),
            Err(Nowhere::NotOurs(own)) => format!(
                "the daemon may not divide its cgroup {}; as a service of systemd (`upbeat serve --install`) it may",
                shown(own)
            ),
            Err(Nowhere::Occupied(dir)) => {
                format!("the cgroup {} has processes of its own and cannot be divided", shown(dir))
            }
            Ok(top) if self.of_root.contains(controller) => {
                format!("the controller `{controller}` is not delegated to the cgroup {}", shown(top))
            }
            Ok(_) => format!("the kernel of this machine has no controller `{controller}`"),
        })
    }

    /// The order for a slot's cgroup: that of the daemon, whose slots are in this directory, that of the
    /// app, and its own. `None`: there is no place for it.
    pub(crate) fn order(&self, slots: &Path, slot: &SlotId, resources: &Resources) -> Option<spec::Cgroup> {
        let top = self.top.as_ref().ok()?;
        let SlotId { app, service, index } = slot;
        let path = [name_of(slots), app.to_string(), format!("{service}-{index}")];
        let controllers: BTreeSet<&str> = resources.controllers().map(|(controller, _)| controller).collect();
        let bytes = |text: &str| text.as_bytes().to_vec();
        Some(spec::Cgroup {
            top: top.as_os_str().as_bytes().to_vec(),
            path: path.iter().map(|name| bytes(name)).collect(),
            controllers: controllers.into_iter().map(bytes).collect(),
            settings: settings(resources).iter().map(|(file, value)| (bytes(file), bytes(value))).collect(),
        })
    }
}

/// Daemons that may divide the same cgroup, and their apps of one name, are told apart. One name for each
/// is enough while it runs: what another version has left is found by the link in the slot.
fn name_of(slots: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    slots.hash(&mut hasher);
    format!("upbeat-{:08x}", hasher.finish() as u32)
}

/// What is written into which file of a cgroup that is new.
fn settings(resources: &Resources) -> Vec<(&'static str, String)> {
    let Resources { cpus, memory, memory_reservation, pids } = resources;
    let number = |limit: &Option<u64>| limit.map(|limit| limit.to_string());
    let all = [
        ("cpu.max", cpus.map(cpu_max)),
        ("memory.max", number(memory)),
        // As Docker does: what is reserved is taken from it last.
        ("memory.low", number(memory_reservation)),
        ("pids.max", number(pids)),
    ];
    all.into_iter().filter_map(|(file, value)| Some((file, value?))).collect()
}

/// Microseconds of processor time, and in how many microseconds. In a tenth of a second, as everywhere;
/// the kernel gives no less than a millisecond, so of less than a hundredth of a processor, in a second.
fn cpu_max(thousandths: u64) -> String {
    const LEAST: u64 = 10;
    let period_us: u64 = if thousandths < LEAST { 1_000_000 } else { 100_000 };
    format!("{} {period_us}", thousandths.saturating_mul(period_us / 1000))
}

/// Where hierarchies of cgroups are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mounts {
    new: Vec<Mount>,
    /// The controllers of all of version 1.
    old: BTreeSet<String>,
}

/// A part of the one hierarchy of version 2, and where it is to be seen.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    root: PathBuf,
    at: PathBuf,
}

impl Mounts {
    /// From `mountinfo` (proc_pid_mountinfo(5)).
    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let (before, after): (Vec<&str>, Vec<&str>) =
                (before.split(' ').collect(), after.split(' ').collect());
            match (&before[..], &after[..]) {
                ([_, _, _, root, at, ..], ["cgroup2", ..]) => {
                    found.new.push(Mount { root: unescaped(root), at: unescaped(at) });
                }
                (_, ["cgroup", _, options, ..]) => {
                    found.old.extend(options.split(',').map(str::to_owned));
                }
                _ => {}
            }
        }
        found
    }
}

impl Mount {
    /// Where a cgroup is to be seen. `None`: not here. One outside of this process' namespace begins
    /// with `/..`.
    fn place(&self, cgroup: &Path) -> Option<PathBuf> {
        let inside = cgroup.strip_prefix(&self.root).ok()?;
        let is_plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
        is_plain.then(|| self.at.join(inside))
    }
}

/// `mountinfo` writes white space and `\` as three octal digits.
fn unescaped(field: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, octal.and_then(|digits| u8::from_str_radix(digits, 8).ok())) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

/// Of version 2, from `/proc/self/cgroup`: the line of the hierarchy without a number.
fn own_path(text: &str) -> Option<&Path> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new)
}

fn find_top(mount: &Path, own: &Path) -> Result<PathBuf, Nowhere> {
    let ours = |dir: &&Path| {
        let may = |name: &str, how: Access| access(dir.join(name), how).is_ok();
        let files = ["cgroup.procs", "cgroup.subtree_control"];
        may("", Access::WRITE_OK | Access::EXEC_OK) && files.iter().all(|file| may(file, Access::WRITE_OK))
    };
    let mut above: Vec<&Path> = own.ancestors().take_while(|dir| dir.starts_with(mount)).collect();
    above.reverse();
    let ours: Vec<&Path> = above.into_iter().filter(ours).collect();
    let Some(first) = ours.first() else { return Err(Nowhere::NotOurs(own.to_owned())) };
    let divisible = ours.iter().find(|dir| is_root(dir) || is_without_processes(dir));
    divisible.map(|dir| dir.to_path_buf()).ok_or_else(|| Nowhere::Occupied(first.to_path_buf()))
}

/// Only the root of all has nothing that could be asked of a cgroup. In a namespace of cgroups the root
/// is one like others.
fn is_root(dir: &Path) -> bool {
    !dir.join("cgroup.type").exists()
}

fn is_without_processes(dir: &Path) -> bool {
    std::fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|processes| processes.trim().is_empty())
}

fn controllers_of(dir: &Path) -> BTreeSet<String> {
    let listed = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    listed.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Resources =
        Resources { cpus: Some(1500), memory: Some(64 << 20), memory_reservation: Some(1), pids: Some(9) };

    /// What a kernel shows: mounts, the own cgroup, and below `cgroup` its files.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(mounts: &str, own: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let here = dir.path().join("cgroup").display().to_string();
            std::fs::create_dir(&here).unwrap();
            let process = dir.path().join("process");
            std::fs::create_dir(&process).unwrap();
            std::fs::write(process.join("mountinfo"), mounts.replace("HERE", &here)).unwrap();
            std::fs::write(process.join("cgroup"), own).unwrap();
            Self(dir)
        }

        /// A cgroup below the root, which is `""`, with these controllers and processes.
        fn with(self, path: &str, controllers: &str, processes: &str) -> Self {
            let dir = self.0.path().join("cgroup").join(path);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("cgroup.controllers"), controllers).unwrap();
            std::fs::write(dir.join("cgroup.procs"), processes).unwrap();
            std::fs::write(dir.join("cgroup.subtree_control"), "").unwrap();
            if !path.is_empty() {
                std::fs::write(dir.join("cgroup.type"), "domain\n").unwrap();
            }
            self
        }

        fn look(&self) -> Capabilities {
            Capabilities::look(&self.0.path().join("process"))
        }

        fn lacks(&self) -> Vec<String> {
            let lacks = self.look().lacks(&LIMITS);
            lacks.into_iter().map(|Lack { key, why }| format!("{key}: {why}")).collect()
        }
    }

    const UNIFIED: &str = "30 23 0:26 / HERE rw,nosuid shared:9 master:1 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn root_divides_the_root_of_all_though_it_has_processes() {
        let machine = Machine::new(UNIFIED, "0::/system.slice/upbeat.service\n")
            .with("", "cpuset cpu io memory pids", "1\n2\n")
            .with("system.slice", "cpu memory pids", "")
            .with("system.slice/upbeat.service", "memory pids", "7\n");
        assert_eq!(machine.lacks(), Vec::<String>::new());
        let slot = "shop/web/2".parse().unwrap();
        let order = machine.look().order(Path::new("/slots"), &slot, &LIMITS).unwrap();
        assert_eq!(order.top, machine.0.path().join("cgroup").as_os_str().as_encoded_bytes());
        let texts = |list: &[Vec<u8>]| list.iter().map(|t| String::from_utf8_lossy(t).into_owned()).collect();
        let (names, controllers): (Vec<String>, Vec<String>) =
            (texts(&order.path), texts(&order.controllers));
        assert_eq!(controllers.join(" "), "cpu memory pids");
        assert!(names[0].starts_with("upbeat-") && names[1..] == ["shop", "web-2"], "{names:?}");
        assert_ne!(name_of(Path::new("/slots")), name_of(Path::new("/slots2")));
    }

    #[test]
    fn a_namespace_of_cgroups_is_divided_where_it_is_empty() {
        let container = Machine::new(UNIFIED, "0::/a/daemon\n");
        std::fs::write(container.0.path().join("cgroup/cgroup.type"), "domain\n").unwrap();
        let container = container
            .with("", "cpu memory pids", "1\n")
            .with("a", "memory pids", "")
            .with("a/daemon", "", "7\n");
        assert_eq!(
            container.lacks(),
            ["cpus: the controller `cpu` is not delegated to the cgroup `/a`"],
            "of what is above, only the root of all may have processes"
        );
        let own = Machine::new(UNIFIED, "0::/\n");
        std::fs::write(own.0.path().join("cgroup/cgroup.type"), "domain\n").unwrap();
        let own = own.with("", "cpu memory pids", "1\n7\n");
        assert_eq!(own.lacks().len(), 4);
        assert_eq!(own.lacks()[0], "cpus: the cgroup `/` has processes of its own and cannot be divided");
    }

    #[test]
    fn controllers_of_version_1_and_missing_ones_are_told_apart() {
        let hybrid = "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / HERE rw,relatime - cgroup2 cgroup2 rw\n";
        let machine = Machine::new(hybrid, "5:memory:/x\n0::/\n").with("", "hugetlb", "1\n");
        let old = |controller: &str| {
            format!(
                "cgroups of version 1 have the controller `{controller}` on this machine, and Upbeat needs version 2"
            )
        };
        let expected = [
            format!("cpus: {}", old("cpu")),
            format!("mem_limit: {}", old("memory")),
            format!("mem_reservation: {}", old("memory")),
            "pids_limit: the kernel of this machine has no controller `pids`".to_owned(),
        ];
        assert_eq!(machine.lacks(), expected);
    }

    #[test]
    fn without_version_2_nothing_is_limited() {
        for (mounts, own) in
            [("", "0::/\n"), (UNIFIED, ""), (UNIFIED, "1:memory:/\n"), (UNIFIED, "0::/../x\n")]
        {
            let machine = Machine::new(mounts, own).with("", "cpu memory pids", "");
            assert_eq!(machine.lacks().len(), 4);
            assert_eq!(machine.lacks()[3], "pids_limit: this machine has no cgroups of version 2");
        }
    }

    #[test]
    fn what_belongs_to_somebody_else_is_named_as_the_kernel_names_it() {
        let own = "0::/user.slice/user-1000.slice/session-3.scope\n";
        let nowhere = Err(Nowhere::NotOurs("/cg/user.slice/user-1000.slice/session-3.scope".into()));
        let all = ["cpu", "memory", "pids"].map(str::to_owned);
        let capabilities = Capabilities {
            top: nowhere,
            controllers: BTreeSet::new(),
            of_root: all.into(),
            old: BTreeSet::new(),
            mount: "/cg".into(),
        };
        assert_eq!(
            capabilities.lacks(&LIMITS)[0].why,
            "the daemon may not divide its cgroup `/user.slice/user-1000.slice/session-3.scope`; as a service of systemd (`upbeat serve --install`) it may"
        );
        assert_eq!(own_path(own), Some(Path::new("/user.slice/user-1000.slice/session-3.scope")));
    }

    #[test]
    fn a_mount_shows_a_part_of_the_hierarchy_under_any_name() {
        let text = r"30 23 0:26 /a\040b /mnt/c\134g rw - cgroup2 none rw";
        let mounts = Mounts::parse(text);
        let mount = Mount { root: "/a b".into(), at: r"/mnt/c\g".into() };
        assert_eq!(mounts, Mounts { new: vec![mount], old: BTreeSet::new() });
        assert_eq!(mounts.new[0].place(Path::new("/a b/x")), Some(PathBuf::from(r"/mnt/c\g/x")));
        assert_eq!(mounts.new[0].place(Path::new("/x")), None);
        for odd in ["", "-", " - ", "1 2 3 - cgroup2", r"1 2 3 / \0 - cgroup2 x", " - cgroup", "a - cgroup b"]
        {
            assert!(Mounts::parse(odd).old.is_empty(), "{odd}");
        }
    }

    #[test]
    fn each_limit_has_its_file() {
        let said = settings(&LIMITS);
        let said: Vec<String> = said.iter().map(|(file, value)| format!("{file} {value}")).collect();
        assert_eq!(said, ["cpu.max 150000 100000", "memory.max 67108864", "memory.low 1", "pids.max 9"]);
        assert_eq!(settings(&Resources::default()), []);
        assert_eq!(cpu_max(10), "1000 100000");
        assert_eq!(cpu_max(9), "9000 1000000");
        assert_eq!(cpu_max(1), "1000 1000000");
    }
}

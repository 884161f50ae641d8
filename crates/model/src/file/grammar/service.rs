//! A service.

use super::super::container::rules as containers;
use super::super::shape::{
    Check, Default, Items, Key, Keys, Kind, Leaf, Merge, Named, Same, Shape, Short, Verdict, any_name, leaf,
};
use super::super::{rules, short};
use super::{
    BOTH, BYTES, FLAG, LABELS, LENGTH, OPTIONS, PAIRS, PATH_ITEMS, TEXT, TEXT_OR_TEXTS, TEXTS, VARIABLES,
    WHOLE, build, container, deploy, engine, key, probe, process, sub, template,
};

const SHARES_NETWORK: &str = "a process shares this machine's network; take it out";
const SEES_FILES: &str = "a process sees this machine's files; take it out";
const IS_PROCESS: &str = "it is for containers; take it out";
const RIGHTS: &str = "a process has the rights of its `user`; take it out";
const WINDOWS: Verdict = Verdict::Refused("it is for Windows; take it out");

static RESTART: Leaf = Leaf::rule("text", rules::restart);
static SCALE: Leaf = Leaf::number("a whole number", rules::scale_text);
static HOOKS: Items = Items { wanted: "a list of hooks", each: Shape::Map(&HOOK), same: Same::Never };
static GROUPS: Items = Items {
    wanted: "a list of groups",
    each: Shape::Leaf(&Leaf::rule("a group", rules::group)),
    same: Same::Whole,
};
static CODES: Items =
    Items { wanted: "a list of statuses", each: Shape::Leaf(&Leaf::whole(0, 255)), same: Same::Whole };
pub(super) const CPUS: Shape = Shape::Leaf(&Leaf::number("a number", rules::cpus_text));
static MOUNTS: Items = Items {
    wanted: "a list of mounts",
    each: Shape::Short(&Short { wanted: "text or a mapping", read: short::volume, long: &MOUNT }),
    same: Same::Fields(&[&["target"]]),
};
static PORTS: Items = Items {
    wanted: "a list of ports",
    each: Shape::Short(&Short { wanted: "a port, text or a mapping", read: short::port, long: &PORT }),
    same: Same::Fields(&[&["host_ip"], &["published"], &["target"], &["protocol"]]),
};
static DEVICES: Items = Items {
    wanted: "a list of devices",
    each: Shape::Short(&Short { wanted: "text or a mapping", read: short::device, long: &DEVICE }),
    same: Same::Fields(&[&["target", "source"]]),
};
pub(super) static GRANTS: Items = Items {
    wanted: "a list of names",
    each: Shape::Short(&Short { wanted: "a name or a mapping", read: short::grant, long: &GRANT }),
    same: Same::Fields(&[&["target", "source"]]),
};
static ENV_FILES: Items = Items {
    wanted: "a list of files",
    each: Shape::Short(&Short { wanted: "a path or a mapping", read: short::path, long: &ENV_FILE }),
    same: Same::Fields(&[&["path"]]),
};
static EXPOSED: Items = Items {
    wanted: "a list of ports",
    each: Shape::Leaf(&Leaf::rule("a port such as `80` or `80-90/udp`", rules::exposed)),
    same: Same::Whole,
};
static GPUS: Items = Items {
    wanted: "a list of requests for devices",
    each: Shape::Short(&Short {
        wanted: "`all` or a mapping",
        read: short::gpus,
        long: &deploy::DEVICE_REQUEST,
    }),
    same: Same::Never,
};
pub(super) static ULIMITS: Named = Named {
    wanted: "a mapping of limits",
    each: Shape::Short(&Short { wanted: "a whole number or a mapping", read: short::ulimit, long: &ULIMIT }),
    name: rules::ulimit_name,
    alone: None,
};
static DEPENDENCIES: Named = Named {
    wanted: "a list of services, or a mapping",
    each: Shape::Map(&probe::DEPENDENCY),
    name: any_name,
    alone: None,
};
static SERVICE_NETWORKS: Named = Named {
    wanted: "a list of networks, or a mapping",
    each: Shape::Optional(&Shape::Map(&SERVICE_NETWORK)),
    name: rules::resource_name,
    alone: None,
};
static ADDRESSES: Items = Items {
    wanted: "an address, or a list of them",
    each: Shape::Leaf(&Leaf::new("an address", Kind::Address, Check::Rule(rules::host_address))),
    same: Same::Whole,
};
static HOSTS: Named = Named {
    wanted: "a mapping of hosts, or a list of `host=address`",
    each: Shape::Items(&ADDRESSES),
    name: rules::host_name,
    alone: None,
};
static NAME_SERVERS: Items = Items {
    wanted: "an address, or a list of them",
    each: Shape::Leaf(&Leaf::rule("an address", rules::address)),
    same: Same::Whole,
};
static VOLUMES_FROM: Items = Items {
    wanted: "a list of services and containers",
    each: Shape::Leaf(&Leaf::rule("a service, or a container", containers::volumes_from)),
    same: Same::Whole,
};
const MAC: Shape = Shape::Leaf(&Leaf::rule("six bytes", containers::mac_address));
pub(super) const EXTRA_HOSTS: Shape = Shape::Hosts(&HOSTS);

pub(in super::super) static SERVICE: Keys = Keys { owner: "a service", keys: KEYS };

const fn blkio(name: &'static str) -> Key {
    sub(name, Shape::List(&BLKIO_LIMITS))
}

#[rustfmt::skip]
static KEYS: &[Key] = &[
    key("annotations", PAIRS, engine("1.43", "use `labels`")),
    key("attach", FLAG, BOTH),
    key("blkio_config", Shape::Map(&BLKIO), container(IS_PROCESS)),
    key("build", Shape::Short(&build::SHORT), container("a process is built before: give it a `command`")),
    key("cap_add", TEXTS, container(RIGHTS)),
    key("cap_drop", TEXTS, container(RIGHTS)),
    key("cgroup", Shape::Leaf(&Leaf::words("a cgroup namespace", &["host", "private"])), container(IS_PROCESS)),
    key("cgroup_parent", TEXT, container(IS_PROCESS)),
    key("command", Shape::Command, BOTH).merged(Merge::Replace),
    key("configs", Shape::List(&GRANTS), BOTH),
    key("container_name", Shape::Leaf(&Leaf::rule("a name", containers::engine_name)), container("a process is found by the name of its service; take it out")),
    key("cpu_count", WHOLE, WINDOWS),
    key("cpu_percent", WHOLE, WINDOWS),
    key("cpu_period", LENGTH_OR_MICROS, container("use `cpus`")),
    key("cpu_quota", LENGTH_OR_MICROS, container("use `cpus`")),
    key("cpu_rt_period", LENGTH_OR_MICROS, container(IS_PROCESS)),
    key("cpu_rt_runtime", LENGTH_OR_MICROS, container(IS_PROCESS)),
    key("cpu_shares", WHOLE, container("use `cpus`")),
    key("cpus", CPUS, BOTH),
    key("cpuset", Shape::Leaf(&Leaf::rule("numbers of processors", containers::cpuset)), container(IS_PROCESS)),
    key("credential_spec", Shape::Free, WINDOWS),
    key("depends_on", Shape::Names(&DEPENDENCIES), BOTH),
    key("deploy", Shape::Optional(&Shape::Map(&deploy::DEPLOY)), BOTH),
    key("develop", Shape::Free, Verdict::Inert("Upbeat does not watch sources")),
    key("device_cgroup_rules", TEXTS, container(RIGHTS)),
    key("devices", Shape::List(&DEVICES), container(RIGHTS)),
    key("dns", Shape::Items(&NAME_SERVERS), container(SHARES_NETWORK)),
    key("dns_opt", TEXTS, container(SHARES_NETWORK)),
    key("dns_search", TEXT_OR_TEXTS, container(SHARES_NETWORK)),
    key("domainname", Shape::Leaf(&Leaf::rule("the name of a domain", containers::own_host_name)), container(SHARES_NETWORK)),
    key("entrypoint", Shape::Command, BOTH).merged(Merge::Replace),
    key("env_file", Shape::Items(&ENV_FILES), BOTH),
    key("environment", VARIABLES, BOTH),
    key("exit_on_end", FLAG, BOTH).ours(),
    key("expose", Shape::List(&EXPOSED), container(SHARES_NETWORK)),
    key("extends", Shape::Short(&EXTENDS_SHORT), BOTH).merged(Merge::Replace),
    key("external", FLAG, process("a container is started where it runs; take it out")).ours(),
    key("external_links", TEXTS, container(SHARES_NETWORK)),
    key("extra_hosts", EXTRA_HOSTS, container(SHARES_NETWORK)),
    key("gpus", Shape::Items(&GPUS), container(RIGHTS)),
    key("group_add", Shape::List(&GROUPS), BOTH),
    key("healthcheck", Shape::Map(&probe::HEALTHCHECK), BOTH),
    key("hostname", Shape::Leaf(&Leaf::rule("the name of a host", containers::own_host_name)), container(SHARES_NETWORK)),
    key("image", Shape::Leaf(&Leaf::rule("the name of an image", containers::image)), container("")),
    key("init", FLAG, BOTH),
    key("ipc", Shape::Leaf(&Leaf::rule("a namespace", containers::ipc)), container(IS_PROCESS)),
    key("isolation", TEXT, WINDOWS),
    key("label_file", Shape::Items(&PATH_ITEMS), BOTH),
    key("labels", LABELS, BOTH),
    key("links", TEXTS, container("use `depends_on`")),
    key("log", Shape::Map(&LOG), process("use `logging`")).ours(),
    key("logging", Shape::Map(&LOGGING), container("what a process prints is kept, and rotated; take it out")).merged(Merge::SameDriver),
    key("mac_address", MAC, container(SHARES_NETWORK)),
    key("mem_limit", BYTES, BOTH),
    key("mem_reservation", BYTES, BOTH),
    key("mem_swappiness", Shape::Leaf(&Leaf::whole(0, 100)), container(IS_PROCESS)),
    key("memswap_limit", Shape::Leaf(&Leaf::rule("a size such as `64m`, or -1", rules::swap)), container(IS_PROCESS)),
    key("models", Shape::Free, Verdict::Refused("run the model as a service of its own, and depend on it")),
    key("network_mode", TEXT, container(SHARES_NETWORK)),
    key("networks", Shape::Names(&SERVICE_NETWORKS), container(SHARES_NETWORK)),
    key("oom_kill_disable", FLAG, container(IS_PROCESS)),
    key("oom_score_adj", Shape::Leaf(&Leaf::whole(-1000, 1000)), BOTH),
    key("pid", Shape::Leaf(&Leaf::rule("a namespace", containers::pid)), container(IS_PROCESS)),
    key("pids_limit", Shape::Leaf(&Leaf::whole(-1, i64::MAX)), BOTH),
    key("platform", Shape::Leaf(&Leaf::rule("a platform such as `linux/arm64`", containers::platform)), container(IS_PROCESS)),
    key("ports", Shape::List(&PORTS), container("a process listens on this machine itself; take it out")),
    key("post_start", Shape::List(&HOOKS), BOTH),
    key("post_stop", Shape::List(&HOOKS), process("run it in a service that waits with `service_completed`")).ours(),
    key("pre_start", Shape::List(&HOOKS), process("run it in a service of its own, and wait for that with `service_completed_successfully`")).ours(),
    key("pre_stop", Shape::List(&HOOKS), BOTH),
    key("privileged", FLAG, container(RIGHTS)),
    key("probes", Shape::Named(&probe::PROBES), BOTH).ours(),
    key("profiles", TEXTS, BOTH),
    key("provider", Shape::Free, Verdict::Refused("run what it provides as a service, or outside of this project")),
    key("pull_policy", Shape::Leaf(&Leaf::rule("text", rules::pull_policy)), container(IS_PROCESS)),
    key("read_only", FLAG, container(SEES_FILES)),
    key("reload", Shape::Short(&probe::RELOAD_SHORT), BOTH).merged(Merge::Replace).ours(),
    key("restart", Shape::Leaf(&RESTART), BOTH),
    key("runtime", TEXT, container(IS_PROCESS)),
    key("scale", Shape::Leaf(&SCALE), BOTH),
    key("secrets", Shape::List(&GRANTS), BOTH),
    key("security_opt", TEXTS, container(RIGHTS)),
    key("shell", Shape::Leaf(&Leaf::rule("`true`, or the command of a shell", rules::not_empty)), process("write the shell into `command`")).ours(),
    key("shm_size", BYTES, container(SEES_FILES)),
    key("stdin_open", FLAG, BOTH),
    key("stop_command", Shape::Argv, process("use `pre_stop`")).merged(Merge::Replace).ours(),
    key("stop_grace_period", LENGTH, BOTH),
    key("stop_signal", Shape::Leaf(&leaf::SIGNAL), BOTH),
    key("success_exit_codes", Shape::Items(&CODES), BOTH).ours(),
    key("storage_opt", OPTIONS, container(SEES_FILES)),
    key("sysctls", PAIRS, container("set it for the whole machine, with `sysctl`")),
    key("template", Shape::Short(&template::USE_SHORT), BOTH).merged(Merge::Replace).ours(),
    key("tmpfs", TEXT_OR_TEXTS, container(SEES_FILES)),
    key("tty", FLAG, BOTH),
    key("ulimits", Shape::Named(&ULIMITS), BOTH),
    key("update_lock", FLAG, BOTH).ours(),
    key("use_api_socket", FLAG, Verdict::Refused("mount the engine's socket yourself, where that is meant")),
    key("user", Shape::Leaf(&leaf::USER), BOTH),
    key("userns_mode", Shape::Leaf(&Leaf::rule("a namespace", containers::only_host)), container(RIGHTS)),
    key("uts", Shape::Leaf(&Leaf::rule("a namespace", containers::only_host)), container(IS_PROCESS)),
    key("volumes", Shape::List(&MOUNTS), container(SEES_FILES)),
    key("volumes_from", Shape::List(&VOLUMES_FROM), container(SEES_FILES)),
    key("working_dir", TEXT, BOTH),
];

/// Microseconds, or a length of time.
const LENGTH_OR_MICROS: Shape = Shape::Leaf(&Leaf::rule("microseconds, or a length of time", rules::micros));

static EXTENDS: Keys =
    Keys { owner: "an extension", keys: &[sub("file", TEXT), sub("service", TEXT).needed()] };
static EXTENDS_SHORT: Short =
    Short { wanted: "the name of a service, or a mapping", read: short::extends, long: &EXTENDS };

static ENV_FILE: Keys = Keys {
    owner: "a file of variables",
    keys: &[
        sub("format", Shape::Leaf(&Leaf::words("a format", &["raw"]))),
        sub("path", Shape::Leaf(&leaf::PATH)).needed(),
        sub("required", FLAG),
    ],
};

static HOOK: Keys = Keys {
    owner: "a hook",
    keys: &[
        sub("command", Shape::Argv).needed().merged(Merge::Replace),
        sub("environment", VARIABLES),
        key("privileged", FLAG, container(RIGHTS)),
        sub("timeout", probe::RHYTHM).ours(),
        sub("user", Shape::Leaf(&leaf::USER)),
        sub("working_dir", TEXT),
    ],
};

static PORT: Keys = Keys {
    owner: "a port",
    keys: &[
        key("app_protocol", TEXT, Verdict::Inert("nothing here looks into what goes through a port")),
        sub("host_ip", Shape::Leaf(&Leaf::rule("an address", rules::address))),
        sub("mode", Shape::Leaf(&Leaf::words("a mode", &["host", "ingress"])))
            .default(Default::Text("ingress")),
        sub("name", TEXT),
        sub("protocol", Shape::Leaf(&Leaf::words("a protocol", &["tcp", "udp", "sctp"])))
            .default(Default::Text("tcp")),
        sub("published", Shape::Leaf(&Leaf::rule("a port, or a range of them", rules::port_range))),
        sub("target", Shape::Leaf(&leaf::PORT)).needed(),
    ],
};

static MOUNT: Keys = Keys {
    owner: "a mount",
    keys: &[
        sub(
            "bind",
            Shape::Map(&Keys {
                owner: "a bind mount",
                keys: &[
                    sub("create_host_path", FLAG),
                    sub(
                        "propagation",
                        Shape::Leaf(&Leaf::words(
                            "a propagation",
                            &["private", "rprivate", "shared", "rshared", "slave", "rslave"],
                        )),
                    ),
                    sub(
                        "recursive",
                        Shape::Leaf(&Leaf::words(
                            "a recursion",
                            &["enabled", "disabled", "writable", "readonly"],
                        )),
                    ),
                    sub("selinux", Shape::Leaf(&Leaf::words("an SELinux label", &["z", "Z"]))),
                ],
            }),
        ),
        key("consistency", TEXT, Verdict::Inert("files are the same on both sides on Linux")),
        key(
            "image",
            Shape::Map(&Keys { owner: "an image mount", keys: &[sub("subpath", TEXT)] }),
            engine("1.48", ""),
        ),
        sub("read_only", FLAG),
        sub("source", TEXT),
        sub("target", Shape::Leaf(&Leaf::new("a path", Kind::Target, Check::Rule(rules::not_empty))))
            .needed(),
        sub(
            "tmpfs",
            Shape::Map(&Keys {
                owner: "a tmpfs mount",
                keys: &[sub("mode", Shape::Leaf(&leaf::MODE)), sub("size", BYTES)],
            }),
        ),
        sub("type", Shape::Leaf(&Leaf::words("a type of mount", &["bind", "volume", "tmpfs", "image"])))
            .needed(),
        sub(
            "volume",
            Shape::Map(&Keys {
                owner: "a volume mount",
                keys: &[sub("labels", LABELS), sub("nocopy", FLAG), key("subpath", TEXT, engine("1.45", ""))],
            }),
        ),
    ],
};

static DEVICE: Keys = Keys {
    owner: "a device",
    keys: &[sub("permissions", TEXT), sub("source", TEXT).needed(), sub("target", TEXT)],
};

static GRANT: Keys = Keys {
    owner: "a config or a secret of a service",
    keys: &[
        sub("gid", TEXT),
        sub("mode", Shape::Leaf(&leaf::MODE)),
        sub("source", TEXT).needed(),
        sub("target", TEXT),
        sub("uid", TEXT),
    ],
};

static ULIMIT: Keys = Keys {
    owner: "a limit",
    keys: &[
        sub("hard", Shape::Leaf(&Leaf::whole(-1, i64::MAX))),
        sub("soft", Shape::Leaf(&Leaf::whole(-1, i64::MAX))),
    ],
};

static SERVICE_NETWORK: Keys = Keys {
    owner: "a service's network",
    keys: &[
        sub("aliases", TEXTS),
        sub("driver_opts", OPTIONS),
        key("gw_priority", Shape::Leaf(&Leaf::whole(i64::MIN, i64::MAX)), engine("1.48", SHARES_NETWORK)),
        key("interface_name", TEXT, engine("1.49", SHARES_NETWORK)),
        sub("ipv4_address", Shape::Leaf(&Leaf::rule("an address", rules::address))),
        sub("ipv6_address", Shape::Leaf(&Leaf::rule("an address", rules::address))),
        sub("link_local_ips", TEXTS),
        key("mac_address", MAC, engine("1.44", SHARES_NETWORK)),
        sub("priority", Shape::Leaf(&Leaf::whole(i64::MIN, i64::MAX))),
    ],
};

static LOG: Keys = Keys {
    owner: "the log of a process",
    keys: &[
        sub("max_files", Shape::Leaf(&Leaf::whole(1, rules::LOG_FILES_MAX as i64))).ours(),
        sub("max_size", Shape::Leaf(&Leaf::rule("a size such as `64m`", rules::log_size))).ours(),
    ],
};

static LOGGING: Keys = Keys { owner: "a log", keys: &[sub("driver", TEXT), sub("options", OPTIONS)] };

static BLKIO_LIMITS: Items = Items {
    wanted: "a list of limits",
    each: Shape::Map(&Keys {
        owner: "a limit of a device",
        keys: &[sub("path", TEXT).needed(), sub("rate", BYTES).needed()],
    }),
    same: Same::Fields(&[&["path"]]),
};
static BLKIO_WEIGHTS: Items = Items {
    wanted: "a list of weights",
    each: Shape::Map(&Keys {
        owner: "a weight of a device",
        keys: &[sub("path", TEXT).needed(), sub("weight", Shape::Leaf(&Leaf::whole(10, 1000))).needed()],
    }),
    same: Same::Fields(&[&["path"]]),
};
static BLKIO: Keys = Keys {
    owner: "limits of block devices",
    keys: &[
        blkio("device_read_bps"),
        blkio("device_read_iops"),
        blkio("device_write_bps"),
        blkio("device_write_iops"),
        sub("weight", Shape::Leaf(&Leaf::whole(10, 1000))),
        sub("weight_device", Shape::List(&BLKIO_WEIGHTS)),
    ],
};

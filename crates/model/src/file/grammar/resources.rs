//! What services share: networks, volumes, configs, secrets, and other files.

use super::super::container::rules as containers;
use super::super::shape::{Items, Keys, Leaf, Same, Shape, Short, Verdict};
use super::super::{rules, short};
use super::{FLAG, LABELS, OPTIONS, PATH, PATH_ITEMS, TEXT, TEXT_PAIRS, engine, key, sub};

const ADDRESS: Shape = Shape::Leaf(&Leaf::rule("an address", rules::address));
const SUBNET: Shape = Shape::Leaf(&Leaf::rule("a subnet such as `10.0.0.0/24`", containers::subnet));

static SUBNETS: Items = Items {
    wanted: "a list of subnets",
    each: Shape::Map(&Keys {
        owner: "a subnet",
        keys: &[
            sub("aux_addresses", Shape::Pairs(&TEXT_PAIRS)),
            sub("gateway", ADDRESS),
            sub("ip_range", SUBNET),
            sub("subnet", SUBNET),
        ],
    }),
    same: Same::Never,
};

pub(super) static NETWORK: Keys = Keys {
    owner: "a network",
    keys: &[
        sub("attachable", FLAG),
        sub("driver", TEXT),
        sub("driver_opts", OPTIONS),
        key("enable_ipv4", FLAG, engine("1.48", "")),
        sub("enable_ipv6", FLAG),
        sub("external", Shape::External),
        sub("internal", FLAG),
        sub(
            "ipam",
            Shape::Map(&Keys {
                owner: "an address plan",
                keys: &[sub("config", Shape::List(&SUBNETS)), sub("driver", TEXT), sub("options", OPTIONS)],
            }),
        ),
        sub("labels", LABELS),
        sub("name", TEXT),
    ],
};

pub(super) static VOLUME: Keys = Keys {
    owner: "a volume",
    keys: &[
        sub("driver", TEXT),
        sub("driver_opts", OPTIONS),
        sub("external", Shape::External),
        sub("labels", LABELS),
        sub("name", TEXT),
    ],
};

const SWARM: Verdict = Verdict::Refused("it is for a swarm; give it a `file`, or take it out");

pub(super) static CONFIG: Keys = Keys {
    owner: "a config",
    keys: &[
        sub("content", TEXT),
        sub("environment", TEXT),
        key("external", Shape::Free, SWARM),
        sub("file", PATH),
        sub("labels", LABELS),
        sub("name", TEXT),
        key("template_driver", TEXT, SWARM),
    ],
};

pub(super) static SECRET: Keys = Keys {
    owner: "a secret",
    keys: &[
        sub("content", TEXT).ours(),
        key("driver", TEXT, SWARM),
        key("driver_opts", OPTIONS, SWARM),
        sub("environment", TEXT),
        key("external", Shape::Free, SWARM),
        sub("file", PATH),
        sub("labels", LABELS),
        sub("name", TEXT),
        key("template_driver", TEXT, SWARM),
    ],
};

static INCLUDE: Keys = Keys {
    owner: "an inclusion",
    keys: &[
        sub("env_file", Shape::Items(&PATH_ITEMS)),
        sub("path", Shape::Items(&PATH_ITEMS)).needed(),
        sub("project_directory", PATH),
    ],
};
pub(super) static INCLUDE_SHORT: Short =
    Short { wanted: "a path or a mapping", read: short::path, long: &INCLUDE };

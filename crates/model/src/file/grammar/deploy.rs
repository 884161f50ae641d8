//! `deploy`: how many, how strong, how replaced.

use super::super::rules;
use super::super::shape::{Items, Keys, Leaf, Same, Shape, Verdict};
use super::{BYTES, LABELS, LENGTH, NUMBER, PAIRS, TEXT, TEXTS, WHOLE, container, key, service, sub};

/// Nobody is left to believe that a copy is replaced in a way it is not.
const UPDATES: Verdict = Verdict::Refused(
    "`up` replaces a copy when its successor is made, the old one first, all that changed at once; for steps with a watch on each use `upbeat rollout`, and take it out here",
);
const ROLLBACKS: Verdict = Verdict::Refused(
    "`up` never goes back by itself; `upbeat rollout` does, and `upbeat up` with the older file; take it out here",
);
const PLACES: Verdict = Verdict::Refused(
    "a project runs on the machine it is started on, and nothing chooses between several; take it out",
);
const RESERVED: Verdict = Verdict::Refused(
    "no processor is set aside for one service; bound the others by `cpus`, and take it out",
);
const NO_DEVICES: &str = "a process has the devices its `user` may open; take it out";
const SWARM: Verdict = Verdict::Inert("it is for a swarm");

static SCALE: Leaf = Leaf::number("a whole number", rules::scale_text);

pub(super) static DEPLOY: Keys = Keys {
    owner: "`deploy`",
    keys: &[
        key("endpoint_mode", TEXT, SWARM),
        key("labels", LABELS, SWARM),
        sub("mode", Shape::Leaf(&Leaf::rule("a mode", rules::deploy_mode))),
        key("placement", Shape::Map(&PLACEMENT), PLACES),
        sub("replicas", Shape::Leaf(&SCALE)),
        sub("resources", Shape::Map(&RESOURCES)),
        sub("restart_policy", Shape::Map(&RESTART_POLICY)),
        key("rollback_config", Shape::Map(&UPDATE), ROLLBACKS),
        key("update_config", Shape::Map(&UPDATE), UPDATES),
    ],
};

static UPDATE: Keys = Keys {
    owner: "an update",
    keys: &[
        sub("delay", LENGTH),
        sub("failure_action", Shape::Leaf(&Leaf::words("an action", &["continue", "pause", "rollback"]))),
        sub("max_failure_ratio", NUMBER),
        sub("monitor", LENGTH),
        sub("order", Shape::Leaf(&Leaf::words("an order", &["start-first", "stop-first"]))),
        sub("parallelism", WHOLE),
    ],
};

static RESTART_POLICY: Keys = Keys {
    owner: "a restart policy",
    keys: &[
        sub("condition", Shape::Leaf(&Leaf::words("a condition", &["none", "on-failure", "any"]))),
        sub("delay", LENGTH),
        sub("max_attempts", Shape::Leaf(&Leaf::whole(0, u32::MAX as i64))),
        sub("window", LENGTH),
    ],
};

static PREFERENCES: Items = Items {
    wanted: "a list of preferences",
    each: Shape::Map(&Keys { owner: "a preference", keys: &[sub("spread", TEXT)] }),
    same: Same::Never,
};
static PLACEMENT: Keys = Keys {
    owner: "a placement",
    keys: &[
        sub("constraints", TEXTS),
        sub("max_replicas_per_node", WHOLE),
        sub("preferences", Shape::List(&PREFERENCES)),
    ],
};

pub(super) static DEVICE_REQUEST: Keys = Keys {
    owner: "a request for devices",
    keys: &[
        sub("capabilities", TEXTS),
        sub("count", Shape::Leaf(&Leaf::rule("a whole number, or `all`", rules::count_or_all))),
        sub("device_ids", TEXTS),
        sub("driver", TEXT),
        sub("options", PAIRS),
    ],
};
static DEVICE_REQUESTS: Items =
    Items { wanted: "a list of requests for devices", each: Shape::Map(&DEVICE_REQUEST), same: Same::Never };
static GENERIC: Items = Items {
    wanted: "a list of resources",
    each: Shape::Map(&Keys {
        owner: "a resource",
        keys: &[sub(
            "discrete_resource_spec",
            Shape::Map(&Keys {
                owner: "a countable resource",
                keys: &[sub("kind", TEXT), sub("value", WHOLE)],
            }),
        )],
    }),
    same: Same::Never,
};
static RESOURCES: Keys = Keys {
    owner: "resources",
    keys: &[
        sub(
            "limits",
            Shape::Map(&Keys {
                owner: "limits",
                keys: &[
                    sub("cpus", service::CPUS),
                    sub("memory", BYTES),
                    sub("pids", Shape::Leaf(&Leaf::whole(-1, i64::MAX))),
                ],
            }),
        ),
        sub(
            "reservations",
            Shape::Map(&Keys {
                owner: "reservations",
                keys: &[
                    key("cpus", NUMBER, RESERVED),
                    key("devices", Shape::List(&DEVICE_REQUESTS), container(NO_DEVICES)),
                    key("generic_resources", Shape::List(&GENERIC), SWARM),
                    sub("memory", BYTES),
                ],
            }),
        ),
    ],
};

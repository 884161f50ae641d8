//! How an image is built.

use super::super::container::rules as containers;
use super::super::shape::{Items, Keys, Leaf, Same, Shape, Short, Verdict};
use super::super::{rules, short};
use super::{BYTES, FLAG, LABELS, PAIRS, TEXT, TEXTS, VARIABLES, key, service, sub};

pub(super) static SHORT: Short =
    Short { wanted: "a directory or a mapping", read: short::build, long: &BUILD };

/// The classic builder of the engine has no word for it.
const BUILDKIT: Verdict =
    Verdict::Refused("it needs BuildKit: build the image before, and name it under `image`");

static IMAGES: Items = Items {
    wanted: "a list of images",
    each: Shape::Leaf(&Leaf::rule("the name of an image", containers::image)),
    same: Same::Whole,
};
static PLATFORMS: Items = Items {
    wanted: "a list of platforms",
    each: Shape::Leaf(&Leaf::rule("a platform such as `linux/arm64`", containers::platform)),
    same: Same::Whole,
};

static BUILD: Keys = Keys {
    owner: "a build",
    keys: &[
        key("additional_contexts", PAIRS, BUILDKIT),
        sub("args", VARIABLES),
        sub("cache_from", Shape::List(&IMAGES)),
        key("cache_to", TEXTS, BUILDKIT),
        sub("context", Shape::Leaf(&Leaf::rule("text", rules::not_empty))),
        sub("dockerfile", TEXT),
        sub("dockerfile_inline", TEXT),
        key("entitlements", TEXTS, BUILDKIT),
        sub("extra_hosts", service::EXTRA_HOSTS),
        key("isolation", TEXT, Verdict::Refused("it is for Windows; take it out")),
        sub("labels", LABELS),
        sub("network", TEXT),
        sub("no_cache", FLAG),
        sub("platforms", Shape::List(&PLATFORMS)),
        key("privileged", FLAG, BUILDKIT),
        key("provenance", TEXT, BUILDKIT),
        sub("pull", FLAG),
        key("sbom", TEXT, BUILDKIT),
        key("secrets", Shape::List(&service::GRANTS), BUILDKIT),
        sub("shm_size", BYTES),
        key("ssh", PAIRS, BUILDKIT),
        sub("tags", Shape::List(&IMAGES)),
        sub("target", TEXT),
        sub("ulimits", Shape::Named(&service::ULIMITS)),
    ],
};

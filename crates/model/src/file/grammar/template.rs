//! Templates of services, and how a service uses one.

use super::super::shape::{Items, Keys, Leaf, Named, Same, Shape, Short};
use super::super::{rules, short};
use super::{TEXT, sub};

static PARAMETER: Keys = Keys {
    owner: "a parameter",
    keys: &[
        sub("default", Shape::Free).ours(),
        sub("description", TEXT).ours(),
        sub("enum", Shape::List(&VALUES)).ours(),
        sub("type", Shape::Leaf(&Leaf::words("a type", &["string", "integer", "number", "boolean", "list"])))
            .ours(),
    ],
};
static VALUES: Items = Items { wanted: "a list of values", each: TEXT, same: Same::Whole };
static PARAMETERS: Named = Named {
    wanted: "a mapping of parameters",
    each: Shape::Optional(&Shape::Map(&PARAMETER)),
    name: rules::parameter_name,
    alone: None,
};

pub(super) static TEMPLATE: Keys = Keys {
    owner: "a template",
    keys: &[
        sub("description", TEXT).ours(),
        sub("parameters", Shape::Named(&PARAMETERS)).ours(),
        sub("service", Shape::Later).ours(),
    ],
};

static USE: Keys = Keys {
    owner: "the use of a template",
    keys: &[sub("use", TEXT).ours(), sub("with", Shape::Named(&WITH)).ours()],
};
static WITH: Named =
    Named { wanted: "a mapping of values", each: Shape::Free, name: rules::parameter_name, alone: None };
pub(super) static USE_SHORT: Short =
    Short { wanted: "the name of a template, or a mapping", read: short::template, long: &USE };

//! The JSON Schema of a project file, for editors: it accepts what the reader accepts, as far as a
//! schema can tell. What services say of each other it cannot.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::grammar;
use super::shape::{Check, Default, Keys, Kind, Leaf, Shape, Verdict, leaf};

/// The schema (draft 2020-12).
pub fn schema() -> Json {
    let mut defined = BTreeMap::new();
    let file = keys(&grammar::FILE, &mut defined);
    let mut schema = match file {
        Json::Object(file) => file,
        _ => Map::new(),
    };
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("An Upbeat project file"));
    schema.insert("$defs".to_owned(), defined.into_iter().collect::<Map<String, Json>>().into());
    Json::Object(schema)
}

/// Shapes that are defined once, by name.
type Defined = BTreeMap<String, Json>;

/// A mapping with known keys, in place.
fn keys(keys: &'static Keys, defined: &mut Defined) -> Json {
    let mut properties = Map::new();
    for key in keys.keys {
        let value = match key.verdict {
            Verdict::Refused(_) => json!(false),
            Verdict::Inert(_) => json!(true),
            Verdict::Honoured { .. } | Verdict::AsAbove => or_null(shape(&key.shape, defined)),
        };
        properties.insert(key.name.to_owned(), value);
    }
    // Our keys may stand there too, and nothing is known of the rest.
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "patternProperties": { "^x-": true },
        "additionalProperties": false,
    });
    let needed = keys.keys.iter().filter(|key| key.default == Default::Needed);
    let needed: Vec<&str> = needed.map(|key| key.name).collect();
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    schema
}

/// The same by its name, so that it stands once in the schema.
fn named_keys(of: &'static Keys, defined: &mut Defined) -> Json {
    let name = of.owner.trim_start_matches("a ").trim_start_matches("an ").replace([' ', '`', '\''], "_");
    if !defined.contains_key(&name) {
        // A placeholder first: a shape may hold itself.
        defined.insert(name.clone(), json!(true));
        let schema = keys(of, defined);
        defined.insert(name.clone(), schema);
    }
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn shape(of: &'static Shape, defined: &mut Defined) -> Json {
    match of {
        Shape::Leaf(leaf) => self::leaf(leaf, defined),
        Shape::Map(keys) => named_keys(keys, defined),
        Shape::Named(named) => {
            let each = shape(&named.each, defined);
            let mut schema = mapping(each.clone());
            if let Some(sign) = named.alone {
                schema["patternProperties"][sign.to_string()] =
                    json!({ "anyOf": [each, { "type": "null" }] });
            }
            schema
        }
        Shape::Names(named) | Shape::Hosts(named) => {
            let each = mapping(shape(&named.each, defined));
            json!({ "anyOf": [each, { "type": "array", "items": text() }] })
        }
        Shape::List(items) => json!({ "type": "array", "items": shape(&items.each, defined) }),
        Shape::Items(items) => {
            let each = shape(&items.each, defined);
            json!({ "anyOf": [each, { "type": "array", "items": each }] })
        }
        Shape::Pairs(_) => {
            json!({ "anyOf": [mapping(text()), { "type": "array", "items": text() }] })
        }
        Shape::Command => {
            json!({ "anyOf": [line(), { "type": "array", "items": text() }, { "type": "null" }] })
        }
        Shape::Argv => {
            json!({ "anyOf": [line(), { "type": "array", "items": text(), "minItems": 1 }] })
        }
        Shape::Test => {
            json!({ "anyOf": [text(), { "type": "array", "items": text(), "minItems": 1 }] })
        }
        // A container may be told to run nothing of its own.
        Shape::Optional(Shape::Argv) => {
            json!({ "anyOf": [line(), { "type": "array", "items": text() }, { "type": "null" }] })
        }
        Shape::Short(short) => json!({ "anyOf": [text(), named_keys(short.long, defined)] }),
        Shape::Optional(inner) => json!({ "anyOf": [shape(inner, defined), { "type": "null" }] }),
        Shape::External => {
            let old = json!({ "type": "object", "properties": { "name": or_null(text()) }, "additionalProperties": false });
            json!({ "anyOf": [self::leaf(&leaf::FLAG, defined), old] })
        }
        Shape::Free => json!(true),
        Shape::Later => json!({ "type": "object" }),
    }
}

/// Free names, and so those that start with `x-`.
fn mapping(each: Json) -> Json {
    json!({ "type": "object", "additionalProperties": or_null(each) })
}

/// The value of a key. Behind `!reset` any may be null, and a schema sees no tags.
fn or_null(schema: Json) -> Json {
    let Json::Object(mut fields) = schema else { return schema };
    let nothing = json!({ "type": "null" });
    match (fields.remove("type"), fields.remove("anyOf")) {
        (Some(kinds), None) => {
            let mut kinds = match kinds {
                Json::Array(kinds) => kinds,
                kind => vec![kind],
            };
            kinds.push(json!("null"));
            fields.insert("type".to_owned(), kinds.into());
            fields.into()
        }
        (None, Some(Json::Array(mut choices))) => {
            choices.extend((!choices.contains(&nothing)).then_some(nothing));
            fields.insert("anyOf".to_owned(), choices.into());
            fields.into()
        }
        _ => json!({ "anyOf": [fields, nothing] }),
    }
}

/// Every scalar that is there is text, however it is written.
fn text() -> Json {
    json!({ "type": ["string", "number", "boolean"] })
}

/// A command in one piece: a number is a slip for something else.
fn line() -> Json {
    json!({ "type": ["string", "boolean"] })
}

/// Text with a variable in it, of which nothing can be said before that is filled in.
fn variable() -> Json {
    json!({ "type": "string", "pattern": "\\$" })
}

fn leaf(of: &Leaf, defined: &mut Defined) -> Json {
    match &of.check {
        Check::Words(words) => json!({ "anyOf": [{ "enum": words }, variable()] }),
        Check::Signed(signed) => {
            let named = json!({ "type": "string", "pattern": format!("^{}", signed.sign) });
            json!({ "anyOf": [{ "enum": signed.words }, named, variable()] })
        }
        Check::Whole(least, most) => {
            let mut whole = json!({ "type": "integer", "minimum": least });
            if *most < i64::MAX {
                whole["maximum"] = json!(most);
            }
            let quoted = json!({ "type": "string", "pattern": "^-?[0-9]+$|\\$" });
            json!({ "anyOf": [whole, quoted] })
        }
        Check::Flag => {
            let words = json!({ "enum": ["true", "True", "TRUE", "false", "False", "FALSE"] });
            let flag = json!({ "anyOf": [{ "type": "boolean" }, words, variable()] });
            defined.insert("true_or_false".to_owned(), flag);
            json!({ "$ref": "#/$defs/true_or_false" })
        }
        Check::Any | Check::Rule(_) | Check::Pattern => match of.kind {
            Kind::Text | Kind::Path | Kind::Place | Kind::Target | Kind::Address | Kind::Bare => text(),
        },
    }
}

//! A document as it was said: JSON in which no key is said twice.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Any JSON. Errors: an object has a key twice, so that one of its values would be passed over.
#[derive(Clone, Debug, PartialEq)]
pub struct Said(pub Value);

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Strict).map(Self)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut said = Vec::new();
        while let Some(Said(item)) = items.next_element()? {
            said.push(item);
        }
        Ok(Value::Array(said))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut said = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Said(value) = entries.next_value()?;
            if said.insert(key.clone(), value).is_some() {
                let shown = crate::diagnostic::printable(&key);
                return Err(de::Error::custom(format!("the key `{shown}` is there twice")));
            }
        }
        Ok(Value::Object(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_it_is_and_a_key_that_is_there_twice_is_refused() {
        let text = r#"{"a":[1,-2,0.5,true,null,"x\n"],"b":{"a":{}}}"#;
        let Said(said) = serde_json::from_str(text).unwrap();
        assert_eq!(said, serde_json::from_str::<Value>(text).unwrap());
        let twice = serde_json::from_str::<Said>(r#"{"apps":{"a0":1,"a0":2}}"#).unwrap_err().to_string();
        assert!(twice.starts_with("the key `a0` is there twice"), "{twice}");
    }
}

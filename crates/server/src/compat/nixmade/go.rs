//! JSON as programs write it that use Go's encoder, and read as its decoder would, as far as that is safe.
//!
//! A field is known by its name in any case, and one that is not known is passed over. `null` says nothing. What
//! Go would guess at is refused: a field that is said twice, of which it would take the last.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::bounds::LABELS_MAX;

/// Declares an object: each field with its name on the wire. What is not said is the type's default.
macro_rules! object {
    ($(#[doc = $doc:literal])* $name:ident {
        $($(#[doc = $of_field:literal])* $field:ident: $type:ty = $key:literal,)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name {
            $($(#[doc = $of_field])* pub(super) $field: $type,)*
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Object;

                impl<'de> serde::de::Visitor<'de> for Object {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        $(let mut $field: Option<Option<$type>> = None;)*
                        while let Some(key) = map.next_key::<String>()? {
                            $(if key.eq_ignore_ascii_case($key) {
                                if $field.replace(map.next_value()?).is_some() {
                                    return Err(serde::de::Error::duplicate_field($key));
                                }
                                continue;
                            })*
                            map.next_value::<serde::de::IgnoredAny>()?;
                        }
                        Ok($name { $($field: $field.flatten().unwrap_or_default(),)* })
                    }
                }

                from.deserialize_map(Object)
            }
        }
    };
}

pub(super) use object;

/// A whole number of at most `MAX`, and not a negative one. As Go reads it: `5.0` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UpTo<const MAX: u64>(pub(super) u64);

impl<'de, const MAX: u64> Deserialize<'de> for UpTo<MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Number<const MAX: u64>;

        fn beyond<E: Error>(max: u64) -> E {
            E::custom(format!("must be between 0 and {max}"))
        }

        impl<const MAX: u64> Visitor<'_> for Number<MAX> {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number between 0 and {MAX}")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
                if number <= MAX { Ok(number) } else { Err(beyond(MAX)) }
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
                u64::try_from(number).map_or_else(|_| Err(beyond(MAX)), |number| self.visit_u64(number))
            }

            /// Also one that is larger than any there is for whole numbers.
            fn visit_f64<E: Error>(self, _: f64) -> Result<u64, E> {
                Err(E::custom(format!("must be a whole number between 0 and {MAX}, without `.` and `e`")))
            }
        }

        from.deserialize_any(Number::<MAX>).map(Self)
    }
}

/// `tags`: by their names, or as a list of names that say nothing else.
#[derive(Debug, Default)]
pub(super) struct Tags(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        /// Read no further: a body may name millions.
        fn put<E: Error>(tags: &mut BTreeMap<String, String>, name: String, value: String) -> Result<(), E> {
            tags.insert(name, value);
            if tags.len() > LABELS_MAX {
                return Err(E::custom(format!("must be {LABELS_MAX} at most")));
            }
            Ok(())
        }

        impl<'de> Visitor<'de> for Either {
            type Value = BTreeMap<String, String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or a list of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tags = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Option<String>>()? {
                    put(&mut tags, name, value.unwrap_or_default())?;
                }
                Ok(tags)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Self::Value, A::Error> {
                let mut tags = BTreeMap::new();
                while let Some(name) = names.next_element()? {
                    put(&mut tags, name, String::new())?;
                }
                Ok(tags)
            }
        }

        from.deserialize_any(Either).map(Self)
    }
}

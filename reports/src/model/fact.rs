//! A value, or the reason why there is none.

use super::first_key::FirstKey;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// A value that was learnt, or why it could not be.
///
/// In JSON: the value itself, or `{"unavailable": "reason"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Fact<T> {
    /// Why the value is not known.
    Unavailable {
        /// What was tried and what happened.
        unavailable: String,
    },
    /// The value.
    Known(T),
}

impl<T> Fact<T> {
    /// A value that could not be learnt.
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Self::Unavailable {
            unavailable: reason.to_string(),
        }
    }

    /// The value of a successful look-up, or its error as the reason.
    pub fn of<E: fmt::Display>(result: Result<T, E>) -> Self {
        result.map_or_else(Self::unavailable, Self::Known)
    }

    /// The value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unavailable { .. } => None,
        }
    }

    /// The reason, if the value is not known.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unavailable { unavailable } => Some(unavailable),
        }
    }

    /// Applies `f` to a known value and keeps a reason as it is.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known(value) => Fact::Known(f(value)),
            Self::Unavailable { unavailable } => Fact::Unavailable { unavailable },
        }
    }
}

impl<T> From<T> for Fact<T> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

impl<T: fmt::Display> fmt::Display for Fact<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => value.fmt(f),
            Self::Unavailable { unavailable } => write!(f, "unavailable: {unavailable}"),
        }
    }
}

/// Reads straight from the input. What serde derives for untagged enums reads into a buffer first
/// and then tries each shape, which loses the path of a fault, hides unknown fields and takes
/// twice the time.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Fact<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FactVisitor(PhantomData))
    }
}

struct FactVisitor<T>(PhantomData<T>);

/// A scalar goes to the value's own reader.
macro_rules! scalar {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E: Error>(self, value: $type) -> Result<Self::Value, E> {
            T::deserialize(value.into_deserializer()).map(Fact::Known)
        })*
    };
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for FactVisitor<T> {
    type Value = Fact<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, or {\"unavailable\": \"reason\"}")
    }

    scalar!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        T::deserialize(().into_deserializer()).map(Fact::Known)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        T::deserialize(SeqAccessDeserializer::new(items)).map(Fact::Known)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let first: Option<String> = map.next_key()?;
        if first.as_deref() == Some("unavailable") {
            let unavailable = map.next_value()?;
            return match map.next_key::<String>()? {
                None => Ok(Fact::Unavailable { unavailable }),
                Some(key) => Err(A::Error::custom(format_args!(
                    "{key:?} beside \"unavailable\": a value is known or it is not"
                ))),
            };
        }
        T::deserialize(MapAccessDeserializer::new(FirstKey::new(first, map))).map(Fact::Known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<Fact<T>, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn values_and_reasons_are_told_apart() {
        assert_eq!(read("3"), Ok(Fact::Known(3u64)));
        assert_eq!(read("3"), Ok(Fact::Known(3.0)));
        assert_eq!(read("\"x\""), Ok(Fact::Known("x".to_owned())));
        assert_eq!(read("[1, 2]"), Ok(Fact::Known(vec![1u8, 2])));
        let mixed = read("[{\"unavailable\": \"why\"}, 2]");
        let expected = vec![Fact::unavailable("why"), Fact::Known(2u8)];
        assert_eq!(mixed, Ok(Fact::Known(expected)));
        let map = BTreeMap::from([("a".to_owned(), 1u8), ("b".to_owned(), 2)]);
        assert_eq!(read("{\"a\": 1, \"b\": 2}"), Ok(Fact::Known(map)));
        let reason = read::<u64>("{\"unavailable\": \"no file\"}");
        assert_eq!(reason, Ok(Fact::unavailable("no file")));
    }

    #[test]
    fn faults_are_in_the_words_of_the_value() {
        let fault = read::<u64>("\"three\"").expect_err("no number");
        assert!(fault.contains("expected u64"), "{fault}");
        let fault = read::<u64>("{\"unavailable\": \"x\", \"value\": 3}").expect_err("both");
        assert!(fault.contains("beside"), "{fault}");
        assert!(read::<bool>("null").is_err());
    }
}

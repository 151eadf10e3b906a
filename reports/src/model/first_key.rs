//! A map whose first key was already read: looking at it tells shapes apart without buffering the
//! rest.

use serde::de::value::StringDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess};

/// Hands out the key that was read ahead, then the map's own keys.
pub(super) struct FirstKey<A> {
    first: Option<String>,
    map: A,
}

impl<A> FirstKey<A> {
    /// `None` is the key of an empty map.
    pub(super) fn new(first: Option<String>, map: A) -> Self {
        Self { first, map }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for FirstKey<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        match self.first.take() {
            Some(key) => {
                let key: StringDeserializer<A::Error> = key.into_deserializer();
                seed.deserialize(key).map(Some)
            }
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

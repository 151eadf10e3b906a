//! Numbers in JSON that somebody else wrote: each is taken by type, and what is missing is said.

use crate::model::Fact;
use serde_json::Value;

/// The number at a path of keys, or why there is none.
pub(super) fn number(value: &Value, path: &[&str]) -> Fact<f64> {
    match find(value, path) {
        None => Fact::unavailable(format!("the output has no {}", path.join("."))),
        Some(found) => match found.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Fact::Known(number),
            None => Fact::unavailable(format!(
                "{} is {}, not a number",
                path.join("."),
                kind(found)
            )),
        },
    }
}

/// The number at a path, which cannot be below zero.
pub(super) fn positive(value: &Value, path: &[&str]) -> Fact<f64> {
    match number(value, path) {
        Fact::Known(number) if number < 0.0 => {
            Fact::unavailable(format!("{} is {number}, below zero", path.join(".")))
        }
        number => number,
    }
}

/// The count at a path, or why there is none.
pub(super) fn count(value: &Value, path: &[&str]) -> Fact<u64> {
    match find(value, path) {
        None => Fact::unavailable(format!("the output has no {}", path.join("."))),
        Some(found) => match found.as_u64() {
            Some(number) => Fact::Known(number),
            None => Fact::unavailable(format!(
                "{} is {}, not a count",
                path.join("."),
                kind(found)
            )),
        },
    }
}

/// The text at a path.
pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    find(value, path)?.as_str()
}

/// The elements of the list at a path; none if there is no list.
pub(super) fn list<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    find(value, path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The value at a path of keys.
pub(super) fn find<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number of another kind",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Why a text is not JSON, in words that tell a truncated file from a broken one.
pub(super) fn fault(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Eof => format!("it is truncated: {error}"),
        _ => format!("it is not JSON: {error}"),
    }
}

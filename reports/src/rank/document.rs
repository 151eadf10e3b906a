//! Files that a person or another program wrote: read whole, within a limit, and refused with the
//! file, the path in it and the reason.

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The largest file that is read. `describe-instance-types` of every type is below 4 MiB.
const MAX_BYTES: u64 = 64 << 20;

/// Why a file of prices or instance types cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentError {
    /// The file.
    pub file: String,
    /// The place in it: `price[2].per_hour`; empty where the whole file is meant.
    pub at: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.as_str() {
            "" => write!(f, "{}: {}", self.file, self.reason),
            at => write!(f, "{}: {at}: {}", self.file, self.reason),
        }
    }
}

/// Reads a file and parses its text, which is told the file's name.
pub(super) fn load<T>(
    path: &Path,
    parse: fn(&str, &str) -> Result<T, DocumentError>,
) -> Result<T, DocumentError> {
    let file = path.display().to_string();
    match read(path) {
        Ok(text) => parse(&text, &file),
        Err(reason) => Err(DocumentError {
            file,
            at: String::new(),
            reason,
        }),
    }
}

/// The text of a file.
fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| {
        let mut limited = file.take(MAX_BYTES + 1);
        limited.read_to_string(&mut text)
    });
    match read {
        Ok(bytes) if bytes as u64 > MAX_BYTES => {
            Err(format!("it is larger than {MAX_BYTES} bytes, the limit"))
        }
        Ok(_) if text.trim().is_empty() => Err("it is empty".to_owned()),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err("it is not UTF-8 text".to_owned())
        }
        Err(error) => Err(format!("cannot read it: {error}")),
    }
}

/// A place in a document and what is wrong there.
pub(super) type Fault = (String, String);

/// JSON as a value.
pub(super) fn json(text: &str) -> Result<Value, Fault> {
    serde_json::from_str(text).map_err(|error| (String::new(), format!("it is not JSON: {error}")))
}

/// TOML as the same kind of value, so that both formats are checked by the same code. Dates become
/// text; what JSON cannot hold, NaN and infinity, is refused.
pub(super) fn toml(text: &str) -> Result<Value, Fault> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let reason = error.to_string().trim_end().to_owned();
        (String::new(), format!("it is not TOML: {reason}"))
    })?;
    plain("", toml::Value::Table(table))
}

fn plain(path: &str, value: toml::Value) -> Result<Value, Fault> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Float(number) => match serde_json::Number::from_f64(number) {
            Some(number) => Value::Number(number),
            None => return Err((path.to_owned(), format!("{number} is not a number"))),
        },
        toml::Value::Array(items) => {
            let items = items.into_iter().enumerate();
            let items = items.map(|(index, item)| plain(&format!("{path}[{index}]"), item));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let below = |name: &str| match path {
                "" => name.to_owned(),
                path => format!("{path}.{name}"),
            };
            let fields = table.into_iter().map(|(name, value)| {
                let value = plain(&below(&name), value)?;
                Ok((name, value))
            });
            Value::Object(fields.collect::<Result<_, Fault>>()?)
        }
    })
}

/// The value as what it should be, or the path at which it is not.
pub(super) fn decode<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        (path, error.into_inner().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_becomes_json_and_says_where_it_cannot() {
        let value = toml("a = 2026-11-01\nb = [1, 2.5, {c = true}]").expect("it is well-formed");
        assert_eq!(
            value,
            serde_json::json!({"a": "2026-11-01", "b": [1, 2.5, {"c": true}]})
        );
        let (at, reason) = toml("b = [1, {c = nan}]").expect_err("NaN");
        assert_eq!(
            (at.as_str(), reason.as_str()),
            ("b[1].c", "NaN is not a number")
        );
        let (_, reason) = toml("b = [").expect_err("truncated");
        assert!(reason.starts_with("it is not TOML: "), "{reason}");
    }
}

//! What came of a case, and how it is read.

use super::Measurement;
use super::first_key::FirstKey;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// What came of a case. There is no fourth way, and none of them is silent.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// It ran, was verified, and these are the numbers.
    Measured(Box<Measurement>),
    /// It cannot run here.
    Skipped {
        /// Why, and what would make it run.
        reason: String,
    },
    /// It should have run and did not.
    Failed {
        /// What was tried, on what, what happened and what to do.
        error: String,
    },
}

impl Outcome {
    /// The outcome of trying: an error that carries [`Unavailable`] is a skip, any other a failure.
    #[must_use]
    pub fn of(result: anyhow::Result<Measurement>) -> Self {
        match result {
            Ok(measurement) => Self::Measured(Box::new(measurement)),
            Err(error) => match error.downcast_ref::<Unavailable>() {
                Some(_) => Self::Skipped {
                    reason: format!("{error:#}"),
                },
                None => Self::Failed {
                    error: format!("{error:#}"),
                },
            },
        }
    }

    /// The measurement, if there is one.
    #[must_use]
    pub fn measurement(&self) -> Option<&Measurement> {
        match self {
            Self::Measured(measurement) => Some(measurement),
            Self::Skipped { .. } | Self::Failed { .. } => None,
        }
    }
}

/// The error that means "this cannot run here": it turns a case into [`Outcome::Skipped`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unavailable: {0}")]
pub struct Unavailable(
    /// Why, and what would make it run.
    pub String,
);

/// Reads straight from the input where the status stands first, as every writer of the suite puts
/// it. What serde derives reads into a buffer, which loses the path of a fault and hides unknown
/// fields.
impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OutcomeVisitor)
    }
}

struct OutcomeVisitor;

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Measured,
    Skipped,
    Failed,
}

#[derive(Deserialize)]
struct Skipped {
    reason: String,
}

#[derive(Deserialize)]
struct Failed {
    error: String,
}

impl<'de> Visitor<'de> for OutcomeVisitor {
    type Value = Outcome;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an outcome: an object with \"status\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outcome, A::Error> {
        let first: Option<String> = map.next_key()?;
        if first.as_deref() == Some("status") {
            let status = map.next_value()?;
            return outcome(&status, MapAccessDeserializer::new(map));
        }
        // Others may sort their keys: then the rest is buffered until the status is known.
        let mut fields = Map::<String, Value>::deserialize(MapAccessDeserializer::new(
            FirstKey::new(first, map),
        ))?;
        let status = fields
            .remove("status")
            .ok_or_else(|| A::Error::missing_field("status"))?;
        let status = Status::deserialize(status).map_err(A::Error::custom)?;
        outcome(&status, Value::Object(fields)).map_err(A::Error::custom)
    }
}

/// The outcome of this status from the fields beside it.
fn outcome<'de, D: Deserializer<'de>>(status: &Status, rest: D) -> Result<Outcome, D::Error> {
    Ok(match status {
        Status::Measured => Outcome::Measured(Box::deserialize(rest)?),
        Status::Skipped => {
            let Skipped { reason } = Skipped::deserialize(rest)?;
            Outcome::Skipped { reason }
        }
        Status::Failed => {
            let Failed { error } = Failed::deserialize(rest)?;
            Outcome::Failed { error }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_may_stand_anywhere() {
        let read = |text: &str| serde_json::from_str::<Outcome>(text).map_err(|e| e.to_string());
        let skipped = Outcome::Skipped {
            reason: "no device".to_owned(),
        };
        for text in [
            r#"{"status": "skipped", "reason": "no device"}"#,
            r#"{"reason": "no device", "status": "skipped"}"#,
        ] {
            assert_eq!(read(text), Ok(skipped.clone()));
        }
        let fault = read(r#"{"status": "passed"}"#).expect_err("no such status");
        assert!(fault.contains("`measured`, `skipped`, `failed`"), "{fault}");
        let fault = read("{}").expect_err("no status");
        assert!(fault.contains("status"), "{fault}");
        let fault = read(r#"{"status": "failed"}"#).expect_err("no error");
        assert!(fault.contains("`error`"), "{fault}");
    }
}

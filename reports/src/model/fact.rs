//! A value, or the reason why there is none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A value that was learnt, or why it could not be.
///
/// In JSON: the value itself, or `{"unavailable": "reason"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Fact<T> {
    /// Why the value is not known. First, so that a reader tries it before any looser shape.
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

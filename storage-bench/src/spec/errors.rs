//! What becomes of a run in which operations fail.

use clap::Args;
use serde::{Serialize, Serializer};

/// The options as users type them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Errors")]
pub struct ErrorArgs {
    /// Go on after failed operations: after N of them over all jobs, or after all. They are counted
    /// by errno and are in no rate and no latency [default: the first one ends the window]
    #[arg(long, value_name = "N|all", value_parser = tolerance)]
    pub continue_on_error: Option<Tolerance>,
}

/// How many operations may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// So many.
    UpTo(u64),
    /// Any number.
    All,
}

impl Serialize for Tolerance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::UpTo(count) => serializer.serialize_u64(*count),
            Self::All => serializer.serialize_str("all"),
        }
    }
}

fn tolerance(text: &str) -> Result<Tolerance, String> {
    match text {
        "all" => Ok(Tolerance::All),
        number => number
            .parse()
            .map(Tolerance::UpTo)
            .map_err(|_| "it is a number of failed operations, or all".to_owned()),
    }
}

/// What they come to: a parameter, left out of reports where the first error ends the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ErrorSpec {
    /// How many operations may fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continue_on_error: Option<Tolerance>,
}

impl ErrorArgs {
    /// What they come to.
    #[must_use]
    pub fn spec(&self) -> ErrorSpec {
        ErrorSpec {
            continue_on_error: self.continue_on_error,
        }
    }
}

impl ErrorSpec {
    /// The most failed operations that do not end the window.
    #[must_use]
    pub fn allowed(&self) -> u64 {
        match self.continue_on_error {
            None => 0,
            Some(Tolerance::UpTo(count)) => count,
            Some(Tolerance::All) => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_all() {
        let spec = |text| {
            let continue_on_error = Some(tolerance(text).expect(text));
            ErrorSpec { continue_on_error }
        };
        assert_eq!((spec("0").allowed(), spec("7").allowed()), (0, 7));
        assert_eq!(spec("all").allowed(), u64::MAX);
        assert_eq!(ErrorSpec::default().allowed(), 0);
        assert!(
            ["", "-1", "some", "1.5"]
                .iter()
                .all(|text| tolerance(text).is_err())
        );
        let shown = |spec: ErrorSpec| {
            serde_json::to_value(spec)
                .expect("plain values")
                .to_string()
        };
        assert_eq!(shown(spec("all")), r#"{"continue_on_error":"all"}"#);
        assert_eq!(shown(spec("3")), r#"{"continue_on_error":3}"#);
        assert_eq!(shown(ErrorSpec::default()), "{}");
    }
}

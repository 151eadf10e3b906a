//! `--random-distribution`: how often which block is drawn, in fio's words.

use serde::{Serialize, Serializer};
use std::fmt;

/// How random offsets are spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// All blocks alike.
    Uniform,
    /// The block of rank k in proportion to k^-theta.
    Zipf(f64),
    /// Pareto's rule: a share of h of the blocks gets 1 - h of the operations, and so on within it.
    Pareto(f64),
}

/// fio's values where none is given.
const ZIPF: f64 = 1.1;
const PARETO: f64 = 0.2;
/// Steeper than this, one block gets everything.
const MAX_THETA: f64 = 10.0;

impl Distribution {
    /// Whether all blocks are alike.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        *self == Self::Uniform
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("random"),
            Self::Zipf(theta) => write!(f, "zipf:{theta}"),
            Self::Pareto(h) => write!(f, "pareto:{h}"),
        }
    }
}

impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads `random`, `zipf:1.2`, `pareto:0.2`.
pub(super) fn parse(text: &str) -> Result<Distribution, String> {
    let (law, number) = match text.split_once(':') {
        Some((law, number)) => (law, Some(number)),
        None => (text, None),
    };
    let number = |default: f64| match number {
        None => Ok(default),
        Some(number) => number
            .parse::<f64>()
            .map_err(|_| format!("{number:?} is no number; as in zipf:1.2 or pareto:0.2")),
    };
    match law {
        "random" | "uniform" if !text.contains(':') => Ok(Distribution::Uniform),
        "zipf" => match number(ZIPF)? {
            theta if theta > 0.0 && theta <= MAX_THETA => Ok(Distribution::Zipf(theta)),
            theta => Err(format!(
                "zipf:{theta}: theta is above 0 and at most {MAX_THETA}"
            )),
        },
        "pareto" => match number(PARETO)? {
            h if h > 0.0 && h < 1.0 => Ok(Distribution::Pareto(h)),
            h => Err(format!("pareto:{h}: h is between 0 and 1")),
        },
        _ => Err("it is random, zipf:THETA or pareto:H".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laws_are_read_and_their_ranges_kept() {
        let good = [
            ("random", Distribution::Uniform),
            ("uniform", Distribution::Uniform),
            ("zipf", Distribution::Zipf(1.1)),
            ("zipf:1", Distribution::Zipf(1.0)),
            ("pareto:0.1", Distribution::Pareto(0.1)),
        ];
        for (text, law) in good {
            assert_eq!(parse(text), Ok(law), "{text}");
        }
        for text in [
            "zipf:0", "zipf:-1", "zipf:NaN", "zipf:inf", "zipf:x", "zipf:", "pareto:0", "pareto:1",
            "random:1", "gauss", "",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

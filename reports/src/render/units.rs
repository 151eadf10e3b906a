//! SI base units made readable.

use crate::model::{Fact, Unit};

/// A value with a unit a person reads at a glance, at three significant digits or more:
/// `12.4 µs`, `3.41 GB/s`. Prefixes are decimal.
#[must_use]
pub fn human(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Nanoseconds => time(value),
        Unit::Seconds => time(value * 1e9),
        Unit::Bytes => scaled(value, "B"),
        Unit::BytesPerSecond => scaled(value, "B/s"),
        Unit::PerSecond => scaled(value, "/s"),
        Unit::Count if value.fract() == 0.0 && value.abs() < 1e6 => format!("{value}"),
        Unit::Count => scaled(value, ""),
        Unit::Ratio => format!("{value:.4}"),
    }
}

/// As [`human`], with `n/a` for what is unavailable.
#[must_use]
pub fn human_fact(value: &Fact<f64>, unit: Unit) -> String {
    value
        .known()
        .map_or_else(|| "n/a".to_owned(), |value| human(*value, unit))
}

fn time(ns: f64) -> String {
    let (value, unit) = match ns.abs() {
        magnitude if magnitude < 1e3 => (ns, "ns"),
        magnitude if magnitude < 1e6 => (ns / 1e3, "µs"),
        magnitude if magnitude < 1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    format!("{} {unit}", digits(value))
}

fn scaled(value: f64, unit: &str) -> String {
    let (value, prefix) = match value.abs() {
        magnitude if magnitude < 1e3 => (value, ""),
        magnitude if magnitude < 1e6 => (value / 1e3, "k"),
        magnitude if magnitude < 1e9 => (value / 1e6, "M"),
        magnitude if magnitude < 1e12 => (value / 1e9, "G"),
        _ => (value / 1e12, "T"),
    };
    format!("{} {prefix}{unit}", digits(value))
        .trim_end()
        .to_owned()
}

/// Three significant digits or more: `1.23`, `12.3`, `123`, `999`.
fn digits(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude < 9.995 => format!("{value:.2}"),
        magnitude if magnitude < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_people_write_them() {
        assert_eq!(human(12_400.0, Unit::Nanoseconds), "12.4 µs");
        assert_eq!(human(3_410_000_000.0, Unit::BytesPerSecond), "3.41 GB/s");
        assert_eq!(human(81_234.0, Unit::PerSecond), "81.2 k/s");
        assert_eq!(human(17.0, Unit::Count), "17");
        assert_eq!(human(0.25, Unit::Seconds), "250 ms");
        assert_eq!(human(0.0, Unit::Nanoseconds), "0.00 ns");
        assert_eq!(
            human_fact(&Fact::unavailable("too few"), Unit::Bytes),
            "n/a"
        );
    }
}

//! Numbers and lines in text that was written for people.

use crate::model::Fact;

/// A printed decimal times 10^`exponent`, rounded once. What is no finite number (`inf`, `nan`,
/// `-`) is unavailable with what was printed.
pub(super) fn decimal(printed: &str, exponent: i32) -> Fact<f64> {
    let refused = || Fact::unavailable(format!("printed as {printed:?}, which is no number"));
    // An exponent of its own would make the text ambiguous; no peer prints one.
    let digits = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+');
    if printed.is_empty() || printed.len() > 40 || !printed.chars().all(digits) {
        return refused();
    }
    match format!("{printed}e{exponent}").parse::<f64>() {
        Ok(value) if value.is_finite() => Fact::Known(value),
        _ => refused(),
    }
}

/// A printed duration or rate that cannot be negative, in nanoseconds, from microseconds.
pub(super) fn microseconds(printed: &str) -> Fact<f64> {
    positive(decimal(printed, 3), printed)
}

/// Refuses a number below zero.
pub(super) fn positive(value: Fact<f64>, printed: &str) -> Fact<f64> {
    match value {
        Fact::Known(value) if value < 0.0 => {
            Fact::unavailable(format!("printed as {printed:?}, which is below zero"))
        }
        value => value,
    }
}

/// Whether a cell of a table is a number, finite or not.
pub(super) fn is_numeric(cell: &str) -> bool {
    cell.parse::<f64>().is_ok()
}

/// The text between two marks.
pub(super) fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    let rest = &text[start..];
    let end = if after.is_empty() {
        rest.len()
    } else {
        rest.find(after)?
    };
    Some(rest[..end].trim())
}

/// The last line that is not blank, cut to a readable length.
pub(super) fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or_default().trim();
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Text without the escape sequences that colour terminals.
pub(super) fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        let sequence = &rest[at + 2..];
        let end = sequence.find(|c: char| c.is_ascii_alphabetic());
        rest = end.map_or("", |end| &sequence[end + 1..]);
    }
    plain.push_str(rest);
    plain
}

/// A name as parameters are spelled: `CQ Moderation` becomes `cq_moderation`.
pub(super) fn snake_case(name: &str) -> String {
    let mut spelled = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            spelled.push(c.to_ascii_lowercase());
        } else if !spelled.is_empty() && !spelled.ends_with('_') {
            spelled.push('_');
        }
    }
    spelled.trim_end_matches('_').to_owned()
}

/// Seconds since 1970 as RFC 3339 in UTC, to the millisecond.
pub(super) fn rfc3339(seconds: f64) -> Option<String> {
    // The cast saturates, and what is out of the calendar's range is refused.
    let time = jiff::Timestamp::from_millisecond((seconds * 1e3).round() as i64).ok()?;
    Some(format!("{time:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_rounded_once() {
        assert_eq!(decimal("12.482", 3), Fact::Known(12_482.0));
        assert_eq!(decimal("0.049", 3), Fact::Known(49.0));
        assert_eq!(decimal("754.33", 6), Fact::Known(754_330_000.0));
        for refused in ["inf", "-nan", "", "1e5", "0x10", "1.2.3", "-"] {
            assert!(decimal(refused, 3).reason().is_some(), "{refused}");
        }
        assert!(microseconds("-0.5").reason().is_some());
    }

    #[test]
    fn colours_and_names_are_plain() {
        assert_eq!(without_colours("\u{1b}[2;35m== 3.7\u{1b}[0m"), "== 3.7");
        assert_eq!(without_colours("cut \u{1b}[2;"), "cut ");
        assert_eq!(snake_case("ibv_wr* API"), "ibv_wr_api");
    }
}

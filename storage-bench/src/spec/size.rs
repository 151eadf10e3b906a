//! Sizes as fio reads them: `4k`, `1m`, `256g`, always powers of 1024.

const UNITS: [(char, u32); 4] = [('k', 10), ('m', 20), ('g', 30), ('t', 40)];

/// Reads a size in bytes.
///
/// # Errors
/// What a size looks like.
pub fn bytes(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = &lower[number.len()..];
    let letter = suffix
        .strip_suffix("ib")
        .or_else(|| suffix.strip_suffix('b'))
        .unwrap_or(suffix);
    let shift = match letter.chars().next() {
        None => Some(0),
        Some(letter) => UNITS
            .iter()
            .find(|(unit, _)| *unit == letter)
            .map(|(_, shift)| *shift),
    };
    let value = number.parse::<u64>().ok().filter(|_| letter.len() <= 1);
    let (Some(value), Some(shift)) = (value, shift) else {
        return Err("a size is a whole number with k, m, g or t (powers of 1024): 4k, 256m".into());
    };
    value
        .checked_mul(1 << shift)
        .ok_or_else(|| "larger than 16 EiB".into())
}

/// A size in the largest unit that divides it.
#[must_use]
pub fn human(bytes: u64) -> String {
    let unit = UNITS
        .iter()
        .rev()
        .find(|(_, shift)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    match unit {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_fio_reads_them() {
        let good = [
            ("0", 0),
            ("512", 512),
            ("4k", 4096),
            ("4K", 4096),
            ("4KiB", 4096),
            ("1m", 1 << 20),
            ("2gb", 2 << 30),
            ("1t", 1 << 40),
        ];
        for (text, expected) in good {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "k",
            "4x",
            "4kk",
            "-1",
            "1.5m",
            "4 k",
            "99999999999t",
            "4ib4",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_as_users_type_them() {
        let texts = [0, 1000, 4096, 1 << 20, 3 << 30].map(human);
        assert_eq!(texts, ["0", "1000", "4k", "1m", "3g"]);
    }
}

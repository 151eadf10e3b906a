//! Sizes and rates on the command line, as in iperf3: of bytes K, M and G are powers of 1024, of
//! bits per second powers of 1000.

/// Reads a size in bytes.
///
/// # Errors
/// What a size looks like.
pub fn parse(text: &str) -> Result<u64, String> {
    let fault =
        || "a size is a whole number of bytes, or one with K, M or G (1K = 1024)".to_owned();
    let (digits, power) = split(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault());
    }
    let number: u64 = digits.parse().map_err(|_| fault())?;
    number
        .checked_mul(1024_u64.pow(power))
        .ok_or_else(|| format!("{text} is more bytes than a 64-bit number holds"))
}

/// Reads a number that may have a fraction, and K, M or G for powers of 1000, as rates in bits per
/// second have it.
///
/// # Errors
/// What a rate looks like.
pub fn parse_decimal(text: &str) -> Result<f64, String> {
    let (digits, power) = split(text);
    let plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let number = digits
        .bytes()
        .all(plain)
        .then(|| digits.parse::<f64>().ok());
    let fault = "a rate is a number, or one with K, M or G (1K = 1000)";
    number
        .flatten()
        .map(|number| number * 1000_f64.powi(power as i32))
        .ok_or_else(|| fault.to_owned())
}

/// A number and the power that its suffix stands for.
fn split(text: &str) -> (&str, u32) {
    let power = match text.as_bytes().last() {
        Some(b'k' | b'K') => 1,
        Some(b'm' | b'M') => 2,
        Some(b'g' | b'G') => 3,
        _ => return (text, 0),
    };
    (&text[..text.len() - 1], power)
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_decimal};

    #[test]
    fn rates_are_numbers_or_powers_of_1000() {
        for (text, rate) in [("0", 0.0), ("50M", 5e7), ("2.5g", 2.5e9), ("10k", 1e4)] {
            assert_eq!(parse_decimal(text), Ok(rate), "{text}");
        }
        for text in [
            "", "M", "-1", "+1", "1e6", "nan", "inf", "1Mbit", "1 M", "1.2.3",
        ] {
            assert!(parse_decimal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        let sizes = [
            ("0", 0),
            ("1", 1),
            ("128K", 131_072),
            ("1m", 1 << 20),
            ("3G", 3 << 30),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "K",
            "1.5K",
            "-1",
            "+1",
            "1KB",
            "1 K",
            "99999999999G",
            "١",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

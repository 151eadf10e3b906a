//! Sizes and rates on the command line, as in iperf3: bytes, with K, M and G for powers of 1024;
//! bits per second, with K, M and G for powers of 1000.

/// Reads a size in bytes.
///
/// # Errors
/// What a size looks like.
pub fn parse(text: &str) -> Result<u64, String> {
    number(
        text,
        1024,
        "a size is a whole number of bytes, or one with K, M or G (1K = 1024)",
    )
}

/// Reads a rate in bits per second.
///
/// # Errors
/// What a rate looks like.
pub fn parse_bits(text: &str) -> Result<u64, String> {
    number(
        text,
        1000,
        "a rate is a whole number of bits per second, or one with K, M or G (1K = 1000)",
    )
}

fn number(text: &str, kilo: u64, fault: &str) -> Result<u64, String> {
    let (digits, power) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 2),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 3),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault.to_owned());
    }
    let number: u64 = digits.parse().map_err(|_| fault.to_owned())?;
    number
        .checked_mul(kilo.pow(power))
        .ok_or_else(|| format!("{text} is more than a 64-bit number holds"))
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_bits};

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
            assert!(parse_bits(text).is_err(), "{text}");
        }
        assert_eq!(parse_bits("50M"), Ok(50_000_000));
    }
}

//! What is asked for: the sweep over message sizes and how often each is repeated, in the manner
//! of the OSU micro-benchmarks.
//!
//! Parsing is strict and its messages name the option's form; nothing here knows MPI or clap.

use serde::Serialize;
use std::str::FromStr;

/// Messages larger than this take the second number of `N:LARGE`, as in OSU (LARGE_MESSAGE_SIZE).
pub const LARGE_MESSAGE_BYTES: usize = 8192;

/// The largest message: MPI counts elements in a C `int`.
pub const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;

/// The most iterations: at 100 ns each they take ten seconds, and no percentile needs more.
pub const MAX_ITERATIONS: u64 = 100_000_000;

/// The most messages in a window: each holds a request of the MPI library.
pub const MAX_WINDOW: usize = 65_536;

/// Message sizes from `min` to `max` bytes, doubling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The smallest, if it was given; the kernel's default otherwise.
    pub min: Option<usize>,
    /// No size is larger.
    pub max: usize,
}

impl Sizes {
    /// The sizes of a sweep that begins at `min`: each is twice the one before, and 0 is followed
    /// by 1.
    #[must_use]
    pub fn doubling(min: usize, max: usize) -> Vec<usize> {
        let next = |size: &usize| Some((size * 2).max(1));
        std::iter::successors(Some(min), next)
            .take_while(|size| *size <= max)
            .collect()
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = match text.split_once(':') {
            None => Self {
                min: None,
                max: bytes(text)?,
            },
            Some((min, max)) => Self {
                min: Some(bytes(min)?),
                max: bytes(max)?,
            },
        };
        match sizes.min {
            Some(min) if min > sizes.max => Err(format!(
                "the smallest size, {min} bytes, is larger than the largest, {} bytes",
                sizes.max
            )),
            _ => Ok(sizes),
        }
    }
}

/// A size in bytes, with an optional suffix K, M or G (powers of 1024).
fn bytes(text: &str) -> Result<usize, String> {
    let malformed = || format!("{text:?} is no size: give bytes, as in 4096, 64K or 1M");
    let (digits, shift) = match text.char_indices().next_back() {
        Some((end, 'k' | 'K')) => (&text[..end], 10),
        Some((end, 'm' | 'M')) => (&text[..end], 20),
        Some((end, 'g' | 'G')) => (&text[..end], 30),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    // Digits alone fail to parse only by being too many.
    digits
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|&size| size <= MAX_MESSAGE_BYTES)
        .ok_or_else(|| {
            format!("{text} is too large: MPI messages hold at most {MAX_MESSAGE_BYTES} bytes")
        })
}

/// How often something is repeated: for small messages and for large ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    /// Up to [`LARGE_MESSAGE_BYTES`].
    pub small: u64,
    /// Above.
    pub large: u64,
}

impl Repeats {
    /// How often a message of this size is repeated.
    #[must_use]
    pub fn of(self, size_bytes: usize) -> u64 {
        if size_bytes > LARGE_MESSAGE_BYTES {
            self.large
        } else {
            self.small
        }
    }
}

impl FromStr for Repeats {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| match text.parse::<u64>() {
            Ok(number) if number <= MAX_ITERATIONS => Ok(number),
            Ok(_) => Err(format!("{text} is more than {MAX_ITERATIONS}, the most")),
            Err(_) => Err(format!("{text:?} is no number: give N or N:LARGE")),
        };
        match text.split_once(':') {
            Some((small, large)) => Ok(Self {
                small: number(small)?,
                large: number(large)?,
            }),
            None => number(text).map(|small| Self {
                small,
                large: small,
            }),
        }
    }
}

/// Repeats of which each is at least one: a measurement needs an iteration.
///
/// # Errors
/// What is wrong with the text.
pub fn iterations(text: &str) -> Result<Repeats, String> {
    let repeats: Repeats = text.parse()?;
    if repeats.small == 0 || repeats.large == 0 {
        return Err("at least 1 iteration is needed".to_owned());
    }
    Ok(repeats)
}

/// The number of messages in a window.
///
/// # Errors
/// What is wrong with the text.
pub fn window(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(window) if (1..=MAX_WINDOW).contains(&window) => Ok(window),
        _ => Err(format!(
            "{text:?} is no window: give 1 to {MAX_WINDOW} messages"
        )),
    }
}

/// All points of one command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// Message sizes in bytes; `None` for a kernel without messages.
    pub sizes: Option<Vec<usize>>,
    /// Timed iterations.
    pub iterations: Repeats,
    /// Iterations before them.
    pub warmup: Repeats,
    /// Messages in flight; `None` for a kernel without a window.
    pub window: Option<usize>,
}

/// One point of a sweep: the parameters of one case of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The message's length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<usize>,
    /// The type of the elements, for reductions.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub element_type: Option<&'static str>,
    /// Timed iterations.
    pub iterations: u64,
    /// Iterations before them.
    pub warmup: u64,
    /// Messages in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// What makes the ranks begin an iteration together, for collectives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronisation: Option<&'static str>,
    /// Ranks in the world.
    pub ranks: usize,
    /// Nodes they are on.
    pub nodes: usize,
}

impl Point {
    /// The message's length in bytes, 0 for a kernel without messages.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size_bytes.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_double_from_the_smallest_size() {
        assert_eq!(Sizes::doubling(0, 9), [0, 1, 2, 4, 8]);
        assert_eq!(Sizes::doubling(3, 24), [3, 6, 12, 24]);
        assert_eq!(Sizes::doubling(8, 8), [8]);
        assert_eq!(Sizes::doubling(1, 4 << 20).len(), 23, "OSU's default");
        assert_eq!(Sizes::doubling(1 << 30, MAX_MESSAGE_BYTES), [1 << 30]);
    }

    #[test]
    fn sizes_are_read_with_suffixes() {
        let sizes = |min, max| Ok(Sizes { min, max });
        assert_eq!("4096".parse(), sizes(None, 4096));
        assert_eq!("0:64k".parse(), sizes(Some(0), 64 << 10));
        assert_eq!("1K:1M".parse(), sizes(Some(1024), 1 << 20));
        assert_eq!("1G".parse(), sizes(None, 1 << 30));
    }

    #[test]
    fn bad_sizes_are_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<Sizes>().expect_err(text);
        assert!(refused("5:1").contains("larger than the largest"));
        for text in [
            "", ":", "1:", ":8", "-1", "1:2:3", "K", "4KiB", "1.5M", "٣", "8 ",
        ] {
            assert!(refused(text).contains("is no size"), "{text}");
        }
        for text in [
            "2G",
            "2147483648",
            "99999999999999999999999",
            "17179869184G",
        ] {
            assert!(refused(text).contains("too large"), "{text}");
        }
    }

    #[test]
    fn large_messages_take_the_second_number() {
        let repeats: Repeats = "1000:10".parse().expect("it is well-formed");
        assert_eq!((repeats.of(8192), repeats.of(8193)), (1000, 10));
        let repeats: Repeats = "7".parse().expect("it is well-formed");
        assert_eq!((repeats.of(1), repeats.of(1 << 20)), (7, 7));
        assert!("0".parse::<Repeats>().is_ok(), "no warm-up is allowed");
    }

    #[test]
    fn bad_repeats_and_windows_are_refused() {
        for text in ["0", "5:0", "-1", "ten", "", ":", "1:2:3", "100000001"] {
            assert!(iterations(text).is_err(), "{text}");
        }
        for text in ["0", "65537", "-4", "many", ""] {
            assert!(window(text).is_err(), "{text}");
        }
        assert_eq!(window("64"), Ok(64));
    }
}

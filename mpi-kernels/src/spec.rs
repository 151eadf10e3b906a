//! What is asked for: the sweep over message sizes and how often each is repeated, in the manner
//! of the OSU micro-benchmarks.
//!
//! Parsing is strict and its messages name the option's form; nothing here knows MPI.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

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

/// The bytes of an element, by the name of its type: `f64` has 8; 1 of none.
#[must_use]
pub fn element_bytes(name: &str) -> usize {
    let bits = name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    bits.parse::<usize>().map_or(1, |bits| bits / 8)
}

/// The word for roots that rotate: in each iteration the next rank is the root.
pub const ROTATE: &str = "rotate";

/// Says what is wrong with the root of a collective.
///
/// # Errors
/// Neither a rank nor [`ROTATE`].
pub fn root(text: &str) -> Result<(), String> {
    let is_rank = text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u32>().is_ok();
    if is_rank || text == ROTATE {
        return Ok(());
    }
    Err(format!(
        "{text:?} is no root: give a rank, or {ROTATE} for all in turn"
    ))
}

/// What makes the ranks begin an iteration together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// MPI_Barrier, as in OSU and IMB: ranks leave it when the library lets them.
    #[default]
    Barrier,
    /// A dissemination barrier of our own: the same on every MPI library.
    Dissemination,
    /// A moment that rank 0 names on a clock shared by all; needs `--clock hca3`.
    RoundTime,
}

/// Whether the ranks share a clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClockKind {
    /// Each rank has its own.
    #[default]
    None,
    /// HCA3 (Hunold and Carpen-Amarie 2018): linear models of each node's clock against rank 0's.
    Hca3,
}

/// Which clock the timed loops read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ClockSource {
    /// The cycle counter where it can be trusted, else the kernel's clock.
    #[default]
    Best,
    /// The kernel's clock, which time namespaces shift.
    Monotonic,
}

/// Makes one rank late in some iterations, in order to see that the report says so.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(into = "String")]
pub struct Delay {
    /// The rank.
    pub rank: usize,
    /// By how much, in microseconds.
    pub microseconds: u64,
    /// In one iteration of so many.
    pub every: u64,
}

impl From<Delay> for String {
    fn from(delay: Delay) -> Self {
        let share = 1.0 / delay.every as f64;
        format!("{}:{}:{share}", delay.rank, delay.microseconds)
    }
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let mut parts = text.split(':');
            let rank = parts.next()?.parse().ok()?;
            let microseconds = parts.next()?.parse().ok()?;
            let share: f64 = parts.next()?.parse().ok()?;
            let sound = parts.next().is_none() && share > 0.0 && share <= 1.0;
            sound.then(|| Self {
                rank,
                microseconds,
                every: (1.0 / share).round() as u64,
            })
        };
        parsed().ok_or_else(|| {
            format!("{text:?} is no delay: give RANK:MICROSECONDS:SHARE, as in 1:200:0.02")
        })
    }
}

/// How a kernel is measured, whatever it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// What makes the ranks begin together.
    pub sync: Sync,
    /// Whether they share a clock.
    pub clock: ClockKind,
    /// The longest that the timed iterations of a point may last.
    pub time_budget: Option<Duration>,
    /// Stop when the 95 % interval of the median is no wider than this share of it.
    pub ci_width: Option<f64>,
    /// Where each rank's time of every iteration goes.
    pub raw: Option<PathBuf>,
    /// A delay on purpose.
    pub delay: Option<Delay>,
    /// Which clock the timed loops read.
    pub clock_source: ClockSource,
    /// What `aws ec2 describe-instance-topology` printed.
    pub topology: Option<PathBuf>,
    /// How long a run may make no progress before it is ended.
    pub deadline: Duration,
    /// Whether what arrives is damaged before it is compared, as tests of the checks want.
    pub spoil: bool,
}

/// A parameter of some kernels beyond sizes and repeats: an option of the command line and a
/// parameter of the report's case.
#[derive(Debug, Clone, Copy)]
pub enum Choice {
    /// A switch: `--in-place`.
    Flag {
        /// As typed, and the parameter's name with `_` for `-`.
        name: &'static str,
        /// For `--help`.
        help: &'static str,
    },
    /// One or several of some words, each of which makes cases of its own: `--type i32,f64`.
    Words {
        /// As typed, and the parameter's name with `_` for `-`.
        name: &'static str,
        /// For `--help`.
        help: &'static str,
        /// The words it takes.
        values: &'static [&'static str],
        /// A word, or several with commas.
        default: &'static str,
    },
    /// A number.
    Count {
        /// As typed, and the parameter's name with `_` for `-`.
        name: &'static str,
        /// For `--help`.
        help: &'static str,
        /// The least it may be.
        least: u64,
        /// The most it may be.
        most: u64,
        /// The usual.
        default: &'static str,
    },
    /// A text with a form of its own.
    Text {
        /// As typed, and the parameter's name with `_` for `-`.
        name: &'static str,
        /// For `--help`.
        help: &'static str,
        /// The usual.
        default: &'static str,
        /// Says what is wrong with a text.
        check: fn(&str) -> Result<(), String>,
    },
}

impl Choice {
    /// As typed after `--`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flag { name, .. }
            | Self::Words { name, .. }
            | Self::Count { name, .. }
            | Self::Text { name, .. } => name,
        }
    }

    /// The name of the parameter in reports.
    #[must_use]
    pub fn param(&self) -> String {
        self.name().replace('-', "_")
    }
}

/// All points of one command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// Message sizes in bytes, for kernels with messages.
    pub sizes: Option<Sizes>,
    /// Timed iterations.
    pub iterations: Repeats,
    /// Iterations before them.
    pub warmup: Repeats,
    /// Messages in flight; `None` for a kernel without a window.
    pub window: Option<usize>,
    /// The values of each [`Choice`] by its parameter's name, in the order of the row.
    pub choices: Vec<(String, Vec<Value>)>,
    /// How all of them are measured.
    pub method: Method,
}

impl Sweep {
    /// Every combination of choices.
    #[must_use]
    pub fn combinations(&self) -> Vec<Map<String, Value>> {
        let start = vec![Map::new()];
        self.choices.iter().fold(start, |all, (name, values)| {
            let with = |map: &Map<String, Value>| {
                let extended = values.iter().map(|value| {
                    let mut map = map.clone();
                    map.insert(name.clone(), value.clone());
                    map
                });
                extended.collect::<Vec<_>>()
            };
            all.iter().flat_map(with).collect()
        })
    }
}

/// One point of a sweep: the parameters of one case of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The message's length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<usize>,
    /// The values of the kernel's own choices: `type`, `in_place`.
    #[serde(flatten)]
    pub choices: Map<String, Value>,
    /// Timed iterations.
    pub iterations: u64,
    /// Iterations before them.
    pub warmup: u64,
    /// Messages in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// What makes the ranks begin an iteration together, for kernels of all ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronisation: Option<Sync>,
    /// Whether they share a clock, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockKind>,
    /// The longest that the timed iterations may last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_budget_s: Option<f64>,
    /// The share of the median at which its interval is narrow enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ci_width: Option<f64>,
    /// A delay on purpose, for kernels of all ranks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Ranks in the world.
    pub ranks: usize,
    /// Nodes they are on.
    pub nodes: usize,
    /// Whether what arrives is damaged before it is compared: no such point is measured.
    #[serde(skip)]
    pub spoil: bool,
}

impl Point {
    /// The message's length in bytes, 0 for a kernel without messages.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size_bytes.unwrap_or(0)
    }

    /// The word of a choice, empty if the kernel has no such choice.
    #[must_use]
    pub fn word(&self, param: &str) -> &str {
        self.choices
            .get(param)
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn flag(&self, param: &str) -> bool {
        self.choices.get(param) == Some(&Value::Bool(true))
    }

    /// The number of a choice, 0 if the kernel has no such choice.
    #[must_use]
    pub fn count(&self, param: &str) -> u64 {
        self.choices.get(param).and_then(Value::as_u64).unwrap_or(0)
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
    fn delays_have_a_rank_a_length_and_a_share() {
        let delay: Delay = "1:200:0.02".parse().expect("it is well-formed");
        assert_eq!((delay.rank, delay.microseconds, delay.every), (1, 200, 50));
        assert_eq!(String::from(delay), "1:200:0.02");
        for text in [
            "",
            "1:200",
            "1:200:0",
            "1:200:2",
            "1:200:nan",
            "1:200:0.1:4",
        ] {
            assert!(text.parse::<Delay>().is_err(), "{text}");
        }
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

    #[test]
    fn roots_are_ranks_or_rotate() {
        assert!(root("0").is_ok() && root("17").is_ok() && root(ROTATE).is_ok());
        for text in ["", "-1", "+1", "all", "4294967296", "1.5", "Rotate"] {
            assert!(root(text).expect_err(text).contains("is no root"));
        }
    }
}

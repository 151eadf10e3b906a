//! CPUs and NUMA nodes as users type them.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The highest CPU number that can be named; the C library's sets end there.
const MAX_CPU: u32 = 1023;

/// CPUs in the order in which they are named: `0,2,4-7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(Vec<u32>);

impl CpuList {
    /// The CPU of a job: one each in turn.
    #[must_use]
    pub fn of_job(&self, index: usize) -> u32 {
        self.0[index % self.0.len()]
    }

    /// All of them, as named.
    #[must_use]
    pub fn all(&self) -> &[u32] {
        &self.0
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let said = || format!("{text:?} is no list of CPUs from 0 to {MAX_CPU} such as 0,2,4-7");
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let both = number(first).zip(number(last));
            let (first, last) = both
                .filter(|(first, last)| first <= last && cpus.len() <= MAX_CPU as usize)
                .ok_or_else(said)?;
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

/// A plain number without a sign, up to [`MAX_CPU`].
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| plain)?;
    (number <= MAX_CPU).then_some(number)
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            [one] => one.to_string(),
            [] => String::new(),
        });
        f.write_str(&runs.collect::<Vec<_>>().join(","))
    }
}

impl Serialize for CpuList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a job's memory is to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeChoice {
    /// On the node of the device.
    Auto,
    /// On this one.
    Node(u32),
}

impl FromStr for NodeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let node = number(text).map(Self::Node);
        node.ok_or_else(|| format!("{text:?} is neither auto nor the number of a NUMA node"))
    }
}

impl Serialize for NodeChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Node(node) => serializer.serialize_u32(*node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_shared_out_in_turn() {
        let list: CpuList = "4-6,0".parse().expect("a list");
        assert_eq!(list.all(), [4, 5, 6, 0]);
        assert_eq!((list.of_job(3), list.of_job(4)), (0, 4));
        assert_eq!(list.to_string(), "4-6,0");
        for text in [
            "",
            "a",
            "1-",
            "2-1",
            "-1",
            "+1",
            "1,,2",
            "1024",
            "0-1023,0-1023,0-1023",
        ] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_node_is_a_number_or_the_device_s() {
        assert_eq!("auto".parse(), Ok(NodeChoice::Auto));
        assert_eq!("1".parse(), Ok(NodeChoice::Node(1)));
        for text in ["", "any", "-1", "99999"] {
            assert!(text.parse::<NodeChoice>().is_err(), "{text}");
        }
    }
}

//! What EC2 documents of its instance types: the output of `aws ec2 describe-instance-types`.
//!
//! Only what limits a benchmark is read, and every number of it may be missing: the command leaves
//! out what it does not know (old versions of it the network's baseline and peak), and Outposts and
//! old types have words in place of numbers.

use super::document::{self, DocumentError, Fault};
use crate::model::Fact;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// A documented limit: what is sustained, and what is reached for a time on credits.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// The sustained limit.
    pub baseline: Fact<f64>,
    /// The limit of bursts; the same where there are none.
    pub peak: Fact<f64>,
}

/// What is documented of one type.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeLimits {
    /// The network bandwidth in bytes per second and direction of one network card, the fastest.
    pub network_card: Limit,
    /// The same over all cards.
    pub network: Limit,
    /// How many network cards it has; 1 where that is not said.
    pub network_cards: usize,
    /// The EBS bandwidth in bytes per second.
    pub ebs_bandwidth: Limit,
    /// The EBS operations per second, of 16 KiB.
    pub ebs_iops: Limit,
    /// The local disks in words, such as `2 × 1900 GB ssd`.
    pub instance_store: Fact<String>,
}

/// The limits of some types.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceTypes {
    /// The file they were read from.
    pub file: String,
    by_type: BTreeMap<String, TypeLimits>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    instance_types: Vec<Type>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Type {
    instance_type: String,
    network_info: Option<Network>,
    ebs_info: Option<Ebs>,
    instance_storage_info: Option<Storage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    network_performance: Option<String>,
    network_cards: Option<Vec<Card>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Card {
    network_performance: Option<String>,
    baseline_bandwidth_in_gbps: Option<f64>,
    peak_bandwidth_in_gbps: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ebs {
    ebs_optimized_info: Option<EbsOptimized>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EbsOptimized {
    baseline_bandwidth_in_mbps: Option<f64>,
    #[serde(rename = "BaselineThroughputInMBps")]
    baseline_throughput: Option<f64>,
    baseline_iops: Option<f64>,
    maximum_bandwidth_in_mbps: Option<f64>,
    #[serde(rename = "MaximumThroughputInMBps")]
    maximum_throughput: Option<f64>,
    maximum_iops: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Storage {
    disks: Option<Vec<Disk>>,
}

#[derive(Deserialize)]
struct Disk {
    #[serde(rename = "SizeInGB")]
    size: Option<u64>,
    #[serde(rename = "Count")]
    count: Option<u32>,
    #[serde(rename = "Type")]
    kind: Option<String>,
}

impl InstanceTypes {
    /// Reads the output of `aws ec2 describe-instance-types`.
    ///
    /// # Errors
    /// [`DocumentError`]: the file, the path in it and the reason.
    pub fn load(path: &Path) -> Result<Self, DocumentError> {
        document::load(path, Self::parse)
    }

    /// Reads text; `file` is used in messages only.
    ///
    /// # Errors
    /// As [`InstanceTypes::load`].
    pub fn parse(text: &str, file: &str) -> Result<Self, DocumentError> {
        let read = document::json(text).and_then(|value| {
            if value.get("InstanceTypes").is_none() {
                let reason = "it has no InstanceTypes: give what `aws ec2 describe-instance-types \
                              --instance-types TYPE… --output json` prints";
                return Err((String::new(), reason.to_owned()));
            }
            document::decode(value).and_then(|file: File| by_type(file.instance_types))
        });
        match read {
            Ok(by_type) => Ok(Self {
                file: file.to_owned(),
                by_type,
            }),
            Err((at, reason)) => Err(DocumentError {
                file: file.to_owned(),
                at,
                reason,
            }),
        }
    }

    /// The limits of a type, if the file has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TypeLimits> {
        self.by_type.get(name)
    }
}

fn by_type(types: Vec<Type>) -> Result<BTreeMap<String, TypeLimits>, Fault> {
    let mut by_type = BTreeMap::new();
    for (index, found) in types.into_iter().enumerate() {
        let at = format!("InstanceTypes[{index}]");
        let name = found.instance_type.clone();
        if by_type.contains_key(&name) {
            return Err((at, format!("{name:?} is in the file twice")));
        }
        let limits = limits(&at, found)?;
        by_type.insert(name, limits);
    }
    Ok(by_type)
}

fn limits(at: &str, found: Type) -> Result<TypeLimits, Fault> {
    let (network_card, network, network_cards) = network(at, found.network_info.as_ref())?;
    let ebs = found.ebs_info.and_then(|info| info.ebs_optimized_info);
    let disks = found
        .instance_storage_info
        .and_then(|storage| storage.disks);
    Ok(TypeLimits {
        network_card,
        network,
        network_cards,
        ebs_bandwidth: ebs_bandwidth(at, ebs.as_ref())?,
        ebs_iops: ebs_iops(at, ebs.as_ref())?,
        instance_store: disks.map_or_else(
            || Fact::unavailable("the type has no instance store"),
            |disks| Fact::Known(disks.iter().map(words).collect::<Vec<_>>().join(", ")),
        ),
    })
}

fn words(disk: &Disk) -> String {
    let size = disk.size.map_or("?".to_owned(), |size| size.to_string());
    let kind = disk.kind.as_deref().unwrap_or("disk");
    format!("{} × {size} GB {kind}", disk.count.unwrap_or(1))
}

/// A number of the file in the unit of reports. None of the limits can be zero or less.
fn number(at: &str, field: &str, value: Option<f64>, unit: f64) -> Result<Fact<f64>, Fault> {
    match value {
        None => {
            let name = field.rsplit('.').next().unwrap_or(field);
            Ok(Fact::unavailable(format!("{name} is missing")))
        }
        Some(value) if value > 0.0 && value < 1e12 => Ok(Fact::Known(value * unit)),
        Some(value) => Err((
            format!("{at}.{field}"),
            format!("{value:?} is no limit: it takes a number above 0"),
        )),
    }
}

const GIGABIT: f64 = 1e9 / 8.0;
const MEGABIT: f64 = 1e6 / 8.0;
const MEGABYTE: f64 = 1e6;

/// The fastest card, all cards, and their number.
fn network(at: &str, info: Option<&Network>) -> Result<(Limit, Limit, usize), Fault> {
    let Some(info) = info else {
        let limit = missing("NetworkInfo is missing");
        return Ok((limit.clone(), limit, 1));
    };
    let cards = info.network_cards.as_deref().unwrap_or_default();
    let mut limits = Vec::new();
    for (index, card) in cards.iter().enumerate() {
        let field = |name: &str| format!("NetworkInfo.NetworkCards[{index}].{name}");
        let (baseline, peak) = (
            field("BaselineBandwidthInGbps"),
            field("PeakBandwidthInGbps"),
        );
        let stated = Limit {
            baseline: number(at, &baseline, card.baseline_bandwidth_in_gbps, GIGABIT)?,
            peak: number(at, &peak, card.peak_bandwidth_in_gbps, GIGABIT)?,
        };
        limits.push(or_words(stated, card.network_performance.as_deref()));
    }
    if limits.is_empty() {
        // Without cards the words for the whole instance are all there is.
        let stated = missing("NetworkCards is missing");
        let limit = or_words(stated, info.network_performance.as_deref());
        return Ok((limit.clone(), limit, 1));
    }
    let over = |pick: fn(&Limit) -> &Fact<f64>, fold: fn(f64, f64) -> f64| {
        let known: Option<Vec<f64>> = limits.iter().map(|l| pick(l).known().copied()).collect();
        match known.and_then(|known| known.into_iter().reduce(fold)) {
            Some(value) => Fact::Known(value),
            None => limits
                .iter()
                .map(pick)
                .find(|fact| fact.known().is_none())
                .cloned()
                .unwrap_or_else(|| Fact::unavailable("NetworkCards is missing")),
        }
    };
    let all = |fold: fn(f64, f64) -> f64| Limit {
        baseline: over(|limit| &limit.baseline, fold),
        peak: over(|limit| &limit.peak, fold),
    };
    Ok((all(f64::max), all(|a, b| a + b), cards.len()))
}

fn missing(reason: &str) -> Limit {
    Limit {
        baseline: Fact::unavailable(reason),
        peak: Fact::unavailable(reason),
    }
}

/// What the words of NetworkPerformance say where the numbers are missing: `25 Gigabit` is both
/// limits, `Up to 25 Gigabit` the peak, `Moderate` is no number.
fn or_words(stated: Limit, words: Option<&str>) -> Limit {
    let Some(words) = words else {
        return stated;
    };
    let (burst, text) = match words.strip_prefix("Up to ") {
        Some(text) => (true, text),
        None => (false, words),
    };
    let value = text
        .strip_suffix(" Gigabit")
        .map(|number| (number, GIGABIT))
        .or_else(|| {
            text.strip_suffix(" Megabit")
                .map(|number| (number, MEGABIT))
        })
        .and_then(|(number, unit)| Some(number.parse::<f64>().ok()? * unit))
        .filter(|value| *value > 0.0 && value.is_finite());
    let vague = || Fact::unavailable(format!("the file says {words:?} and no number"));
    let peak = value.map_or_else(vague, Fact::Known);
    let baseline = if burst { vague() } else { peak.clone() };
    let first = |stated: Fact<f64>, words: Fact<f64>| match stated {
        Fact::Known(value) => Fact::Known(value),
        Fact::Unavailable { .. } => words,
    };
    Limit {
        baseline: first(stated.baseline, baseline),
        peak: first(stated.peak, peak),
    }
}

fn ebs_bandwidth(at: &str, info: Option<&EbsOptimized>) -> Result<Limit, Fault> {
    let Some(info) = info else {
        return Ok(missing("EbsOptimizedInfo is missing"));
    };
    let either = |which: &str, bytes: Option<f64>, bits: Option<f64>| -> Result<_, Fault> {
        let field = |name: &str| format!("EbsInfo.EbsOptimizedInfo.{which}{name}");
        let bits = number(at, &field("BandwidthInMbps"), bits, MEGABIT)?;
        let bytes = number(at, &field("ThroughputInMBps"), bytes, MEGABYTE)?;
        Ok(if bytes.known().is_some() { bytes } else { bits })
    };
    Ok(Limit {
        baseline: either(
            "Baseline",
            info.baseline_throughput,
            info.baseline_bandwidth_in_mbps,
        )?,
        peak: either(
            "Maximum",
            info.maximum_throughput,
            info.maximum_bandwidth_in_mbps,
        )?,
    })
}

fn ebs_iops(at: &str, info: Option<&EbsOptimized>) -> Result<Limit, Fault> {
    let Some(info) = info else {
        return Ok(missing("EbsOptimizedInfo is missing"));
    };
    let field = |which: &str| format!("EbsInfo.EbsOptimizedInfo.{which}Iops");
    Ok(Limit {
        baseline: number(at, &field("Baseline"), info.baseline_iops, 1.0)?,
        peak: number(at, &field("Maximum"), info.maximum_iops, 1.0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::fixtures::instance_types;

    fn of(limit: &Limit) -> (Option<f64>, Option<f64>) {
        (limit.baseline.known().copied(), limit.peak.known().copied())
    }

    #[test]
    fn limits_are_read_in_the_units_of_reports() {
        let types = instance_types();
        let get = |name: &str| types.get(name).expect(name);
        let large = get("m5.large");
        assert_eq!(of(&large.network_card), (Some(0.09375e9), Some(1.25e9)));
        assert_eq!(of(&large.ebs_bandwidth), (Some(81.25e6), Some(593.75e6)));
        assert_eq!(of(&large.ebs_iops), (Some(3600.0), Some(18_750.0)));
        assert!(large.instance_store.reason().is_some());
        let many = get("p4d.24xlarge");
        assert_eq!(of(&many.network_card), (Some(12.5e9), Some(12.5e9)));
        assert_eq!(of(&many.network), (Some(50e9), Some(50e9)));
        assert_eq!(many.network_cards, 4);
        assert_eq!(
            many.instance_store,
            Fact::Known("8 × 1000 GB ssd".to_owned())
        );
        assert!(types.get("x1.32xlarge").is_none());
    }

    #[test]
    fn words_serve_where_numbers_are_missing() {
        let types = instance_types();
        let old = &types.get("c5.large").expect("it is there").network_card;
        assert_eq!(of(old), (None, Some(1.25e9)), "up to 10 Gigabit");
        let why = old.baseline.reason().expect("no baseline");
        assert!(why.contains("\"Up to 10 Gigabit\""), "{why}");
        let vague = &types.get("m4.large").expect("it is there").network;
        assert_eq!(of(vague), (None, None));
        let stated = or_words(missing("x"), Some("100 Gigabit"));
        assert_eq!(of(&stated), (Some(12.5e9), Some(12.5e9)));
        assert_eq!(
            of(&or_words(missing("x"), Some("-1 Gigabit"))),
            (None, None)
        );
    }

    #[test]
    fn every_fault_is_named_with_its_path() {
        let one = |rest: &str| format!(r#"{{"InstanceTypes": [{{"InstanceType": "a"{rest}}}]}}"#);
        let card = |number: &str| {
            one(&format!(
                r#", "NetworkInfo": {{"NetworkCards": [{{"PeakBandwidthInGbps": {number}}}]}}"#
            ))
        };
        let twice = r#"{"InstanceTypes": [{"InstanceType": "a"}, {"InstanceType": "a"}]}"#;
        let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for (text, words) in [
            (
                card("\"10\""),
                "InstanceTypes[0].NetworkInfo.NetworkCards[0].PeakBandwidthInGbps: invalid type",
            ),
            (
                card("0"),
                "NetworkCards[0].PeakBandwidthInGbps: 0.0 is no limit",
            ),
            (
                card("-3"),
                "NetworkCards[0].PeakBandwidthInGbps: -3.0 is no limit",
            ),
            (card("NaN"), "it is not JSON"),
            (
                twice.to_owned(),
                "InstanceTypes[1]: \"a\" is in the file twice",
            ),
            (
                r#"{"InstanceTypes": [{}]}"#.to_owned(),
                "InstanceTypes[0]: missing field `InstanceType`",
            ),
            (
                r#"{"InstanceTypes": 3}"#.to_owned(),
                "InstanceTypes: invalid type",
            ),
            (
                r#"{"schema": {"name": "x"}}"#.to_owned(),
                "it has no InstanceTypes: give what `aws",
            ),
            ("[]".to_owned(), "it has no InstanceTypes"),
            (nested, "it is not JSON"),
        ] {
            let fault = InstanceTypes::parse(&text, "t.json")
                .expect_err(words)
                .to_string();
            assert!(
                fault.starts_with("t.json: ") && fault.contains(words),
                "{words}: {fault}"
            );
        }
        let bare = InstanceTypes::parse(&one(""), "t.json").expect("nothing but a name");
        let bare = bare.get("a").expect("it is there");
        assert_eq!(
            (of(&bare.network), of(&bare.ebs_iops)),
            ((None, None), (None, None))
        );
    }
}

//! What an hour of each instance type costs, as the user says: no price is built in, because
//! prices change and differ by region, contract and day. Each file says where its prices come from
//! and of which day they are, and both are shown with every figure made of them.

use super::document::{self, DocumentError, Fault};
use crate::host::Host;
use crate::model::Fact;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// An example of the file, for `--help`.
pub const EXAMPLE: &str = r#"currency = "USD"                # ISO 4217, one for all prices
source = "https://aws.amazon.com/ec2/pricing/on-demand/"
as_of = 2026-11-01              # the day of the prices
region = "us-east-1"            # optional: of all prices that name no other

[[price]]
instance_type = "c7gn.16xlarge"
per_hour = 3.99                 # for one instance

[[price]]
instance_type = "c7gn.16xlarge"
per_hour = 1.52
capacity = "spot"               # optional: on-demand, spot, scheduled, capacity-block
region = "eu-west-1"            # optional
"#;

/// How an instance is paid, in the words of EC2's metadata service.
const CAPACITIES: [&str; 4] = ["on-demand", "spot", "scheduled", "capacity-block"];

/// The prices that make sense, per hour in any currency.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 1e-9..=1e9;

/// Prices by instance type.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    /// The file they were read from.
    pub file: String,
    /// The currency's code.
    pub currency: String,
    /// Where they come from.
    pub source: String,
    /// The day of which they are.
    pub as_of: String,
    by_type: BTreeMap<String, Vec<Price>>,
}

/// A price and for which runs it holds.
#[derive(Debug, Clone, PartialEq)]
struct Price {
    per_hour: f64,
    region: Option<String>,
    capacity: Option<String>,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    currency: String,
    source: String,
    as_of: String,
    region: Option<String>,
    price: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    instance_type: String,
    per_hour: f64,
    region: Option<String>,
    capacity: Option<String>,
    /// Only so that a second currency is refused as such.
    currency: Option<String>,
}

impl Prices {
    /// Reads a file in TOML or JSON.
    ///
    /// # Errors
    /// [`DocumentError`]: the file, the path in it and the reason.
    pub fn load(path: &Path) -> Result<Self, DocumentError> {
        document::load(path, Self::parse)
    }

    /// Reads text; `file` is used in messages only.
    ///
    /// # Errors
    /// As [`Prices::load`].
    pub fn parse(text: &str, file: &str) -> Result<Self, DocumentError> {
        // No TOML begins with a brace, and nothing else in JSON could be a file of prices.
        let value = if text.trim_start().starts_with('{') {
            document::json(text)
        } else {
            document::toml(text)
        };
        let read = value.and_then(document::decode).and_then(checked);
        match read {
            Ok(prices) => Ok(Self {
                file: file.to_owned(),
                ..prices
            }),
            Err((at, reason)) => Err(DocumentError {
                file: file.to_owned(),
                at,
                reason,
            }),
        }
    }

    /// What an hour of this host costs, or why that is not known.
    pub fn of(&self, host: &Host) -> Fact<f64> {
        let cloud = match &host.cloud {
            Fact::Known(cloud) => cloud,
            Fact::Unavailable { unavailable } => return unknown_type(unavailable),
        };
        let name = match &cloud.instance_type {
            Fact::Known(name) => name,
            Fact::Unavailable { unavailable } => return unknown_type(unavailable),
        };
        let Some(all) = self.by_type.get(name) else {
            return Fact::unavailable(format!("no price of {name} in {}", self.file));
        };
        let (region, capacity) = (cloud.region.known(), cloud.life_cycle.known());
        let mut best: Vec<(i32, f64)> = Vec::new();
        for price in all {
            let fit =
                fit(price.region.as_ref(), region).zip(fit(price.capacity.as_ref(), capacity));
            let Some(fit) = fit.map(|(region, capacity)| region + capacity) else {
                continue;
            };
            if best.first().is_none_or(|(known, _)| *known <= fit) {
                best.retain(|(known, _)| *known == fit);
                best.push((fit, price.per_hour));
            }
        }
        let said = |what: Option<&String>| what.map_or("unknown", String::as_str).to_owned();
        let run = format!("region {}, capacity {}", said(region), said(capacity));
        match best.as_slice() {
            [] => Fact::unavailable(format!(
                "no price of {name} in {} is for its runs ({run})",
                self.file
            )),
            [(_, first), others @ ..] if others.iter().all(|(_, price)| price == first) => {
                Fact::Known(*first)
            }
            _ => Fact::unavailable(format!(
                "{} has several prices of {name} that may be meant ({run})",
                self.file
            )),
        }
    }
}

fn unknown_type(reason: &str) -> Fact<f64> {
    Fact::unavailable(format!("its instance type is unknown ({reason})"))
}

/// How well what a price is for fits a run: named and equal is best, then not named, then named
/// where the run does not know. `None` if they differ.
fn fit(price: Option<&String>, run: Option<&String>) -> Option<i32> {
    match (price, run) {
        (Some(price), Some(run)) => (price == run).then_some(1),
        (None, _) => Some(0),
        (Some(_), None) => Some(-1),
    }
}

/// Checks what the types cannot say.
fn checked(file: File) -> Result<Prices, Fault> {
    let fault = |at: &str, reason: String| Err((at.to_owned(), reason));
    if file.currency.len() != 3 || !file.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        let reason = "is no currency: give its three letters, such as USD";
        return fault("currency", format!("{:?} {reason}", file.currency));
    }
    if file.source.trim().is_empty() {
        let reason = "it is empty: say where the prices come from";
        return fault("source", reason.to_owned());
    }
    if file.as_of.parse::<jiff::civil::Date>().is_err() || file.as_of.len() != 10 {
        let reason = "is no day: give it as 2026-11-01";
        return fault("as_of", format!("{:?} {reason}", file.as_of));
    }
    if file.price.is_empty() {
        return fault("price", "it is empty: there is no price to use".to_owned());
    }
    let mut prices = Prices {
        file: String::new(),
        currency: file.currency,
        source: file.source,
        as_of: file.as_of,
        by_type: BTreeMap::new(),
    };
    let mut seen = BTreeMap::new();
    for (index, entry) in file.price.into_iter().enumerate() {
        let at = format!("price[{index}]");
        check_entry(&at, &entry, &prices.currency)?;
        let price = Price {
            per_hour: entry.per_hour,
            region: entry.region.or_else(|| file.region.clone()),
            capacity: entry.capacity,
        };
        let meant = (
            entry.instance_type.clone(),
            price.region.clone(),
            price.capacity.clone(),
        );
        if let Some(first) = seen.insert(meant, index) {
            let what = &entry.instance_type;
            let reason = format!(
                "{what:?} has a price already, in price[{first}]: several of one type need \
                 different regions or capacities"
            );
            return Err((at, reason));
        }
        let of_type = prices.by_type.entry(entry.instance_type).or_default();
        of_type.push(price);
    }
    Ok(prices)
}

fn check_entry(at: &str, entry: &Entry, currency: &str) -> Result<(), Fault> {
    let fault = |field: &str, reason: String| Err((format!("{at}.{field}"), reason));
    if entry.instance_type.trim().is_empty() {
        return fault("instance_type", "it is empty".to_owned());
    }
    if !PLAUSIBLE.contains(&entry.per_hour) {
        let reason = format!(
            "{:?} is no price per hour: it takes a number from {:e} to {:e}",
            entry.per_hour,
            PLAUSIBLE.start(),
            PLAUSIBLE.end()
        );
        return fault("per_hour", reason);
    }
    if let Some(capacity) = &entry.capacity
        && !CAPACITIES.contains(&capacity.as_str())
    {
        let known = CAPACITIES.join(", ");
        return fault("capacity", format!("{capacity:?} is none of {known}"));
    }
    match &entry.currency {
        Some(other) if other != currency => fault(
            "currency",
            format!("{other:?} beside {currency}: prices of two currencies cannot be compared"),
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::fixtures::host_of;

    #[test]
    fn the_example_of_the_help_is_a_file_of_prices() {
        let prices = Prices::parse(EXAMPLE, "prices.toml").expect("it is well-formed");
        assert_eq!(
            (prices.currency.as_str(), prices.as_of.as_str()),
            ("USD", "2026-11-01")
        );
        let price = |kind: &str, region: &str, capacity: &str| {
            prices.of(&host_of("n", kind, region, capacity))
        };
        let known = price("c7gn.16xlarge", "us-east-1", "on-demand");
        assert_eq!(known, Fact::Known(3.99), "no capacity named means any");
        let known = price("c7gn.16xlarge", "eu-west-1", "spot");
        assert_eq!(known, Fact::Known(1.52));
        for (host, words) in [
            (
                price("c6gn.16xlarge", "us-east-1", "spot"),
                "no price of c6gn.16xlarge in prices.toml",
            ),
            (
                price("c7gn.16xlarge", "eu-west-1", "on-demand"),
                "is for its runs (region eu-west-1",
            ),
            (
                prices.of(&Host::unknown("n", "imported")),
                "unknown (imported)",
            ),
        ] {
            assert!(
                host.reason().is_some_and(|why| why.contains(words)),
                "{host:?}"
            );
        }
    }

    #[test]
    fn an_unknown_region_takes_a_price_only_if_there_is_one() {
        let text = |second: &str| {
            format!(
                r#"{{"currency": "EUR", "source": "a contract", "as_of": "2026-11-01", "price": [
                {{"instance_type": "a", "per_hour": 2, "region": "eu-west-1"}}{second}]}}"#
            )
        };
        let mut host = host_of("n", "a", "r", "spot");
        if let Fact::Known(cloud) = &mut host.cloud {
            cloud.region = Fact::unavailable("not asked");
        }
        let parse = |text: &str| Prices::parse(text, "p.json").expect("it is well-formed");
        assert_eq!(parse(&text("")).of(&host), Fact::Known(2.0));
        let second = r#", {"instance_type": "a", "per_hour": 3, "region": "eu-west-2"}"#;
        let several = parse(&text(second)).of(&host);
        assert!(
            several
                .reason()
                .is_some_and(|why| why.contains("several prices"))
        );
    }

    #[test]
    fn every_fault_is_named_with_its_path() {
        let head = "currency = \"USD\"\nsource = \"s\"\nas_of = 2026-11-01\n";
        let entry = |rest: &str| format!("{head}[[price]]\ninstance_type = \"a\"\n{rest}\n");
        let twice = format!(
            "{}{}",
            entry("per_hour = 1"),
            &entry("per_hour = 2")[head.len()..]
        );
        for (text, words) in [
            (entry("per_hour = nan"), "price[0].per_hour: NaN"),
            (
                entry("per_hour = -1"),
                "price[0].per_hour: -1.0 is no price",
            ),
            (entry("per_hour = 0"), "price[0].per_hour: 0.0 is no price"),
            (entry("per_hour = inf"), "price[0].per_hour: inf"),
            (entry("per_hour = 1e300"), "price[0].per_hour: 1e300"),
            (
                entry("per_hour = \"3.99\""),
                "price[0].per_hour: invalid type: string",
            ),
            (entry("price = 3"), "price[0].price: unknown field"),
            (
                entry("per_hour = 1\ncurrency = \"EUR\""),
                "price[0].currency: \"EUR\" beside USD",
            ),
            (
                entry("per_hour = 1\ncapacity = \"free\""),
                "price[0].capacity: \"free\" is none of",
            ),
            (twice, "price[1]: \"a\" has a price already, in price[0]"),
            (head.to_owned(), "missing field `price`"),
            (format!("{head}price = []"), "price: it is empty"),
            (
                entry("per_hour = 1").replace("USD", "dollars"),
                "currency: \"dollars\" is no currency",
            ),
            (
                entry("per_hour = 1").replace("\"s\"", "\" \""),
                "source: it is empty",
            ),
            (
                entry("per_hour = 1").replace("source = \"s\"\n", ""),
                "missing field `source`",
            ),
            (
                entry("per_hour = 1").replace("as_of = 2026-11-01\n", ""),
                "missing field `as_of`",
            ),
            (
                entry("per_hour = 1").replace("2026-11-01", "\"yesterday\""),
                "as_of: \"yesterday\"",
            ),
            ("{\"currency\": 1".to_owned(), "it is not JSON"),
            ("[[price]".to_owned(), "it is not TOML"),
            (
                r#"{"schema": {"name": "hpc-bench-report"}}"#.to_owned(),
                "schema: unknown field",
            ),
        ] {
            let fault = Prices::parse(&text, "p.toml").expect_err(&text).to_string();
            assert!(
                fault.starts_with("p.toml: ") && fault.contains(words),
                "{words}: {fault}"
            );
        }
    }
}

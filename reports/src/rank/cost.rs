//! What runs cost, what money buys of a rate, and which groups no other beats in both cost and
//! performance.

use super::contest::Order;
use super::groups::machines;
use super::judge::Valid;
use super::prices::Prices;
use crate::model::{Direction, Fact, Metric, Unit};
use serde::Serialize;

/// Prices are per hour, rates per second.
pub(super) const SECONDS_PER_HOUR: f64 = 3600.0;

/// Where a group stands to the front of cost and performance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Front {
    /// Whether no group has at least as good a median for at most the price, by the medians alone.
    pub by_median: bool,
    /// What the runs show.
    pub shown: Standpoint,
    /// The groups at most as expensive that are shown to be better, or, where it is open, that
    /// cannot be told apart from it.
    pub rivals: Vec<String>,
}

/// What the runs show of a group and the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standpoint {
    /// It is shown to be better than every group that costs at most as much.
    OnFront,
    /// A group that costs at most as much is shown to be better.
    Beaten,
    /// A group that costs at most as much cannot be told apart from it: more runs would tell.
    Open,
}

/// What an hour of all machines of the runs costs, if all runs cost the same.
pub(super) fn of(prices: &Prices, runs: &[Valid<'_>]) -> Fact<f64> {
    let mut known: Option<f64> = None;
    for run in runs {
        let mut sum = 0.0;
        for host in machines(run.found.report) {
            match prices.of(host) {
                Fact::Known(price) => sum += price,
                unknown @ Fact::Unavailable { .. } => return unknown,
            }
        }
        match known {
            None => known = Some(sum),
            Some(other) if is_same(other, sum) => {}
            Some(other) => {
                return Fact::unavailable(format!(
                    "its runs cost {other} and {sum} an hour: rank runs of one region and capacity"
                ));
            }
        }
    }
    known.map_or_else(|| Fact::unavailable("it has no valid run"), Fact::Known)
}

/// Sums of the same prices in another order may differ in their last bits.
fn is_same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// The unit of what one unit of money buys of a metric, or why it buys none.
pub(super) fn unit_per_price(metric: &Metric, currency: &str) -> Result<String, String> {
    match (metric.unit, metric.direction) {
        (Unit::BytesPerSecond, Direction::HigherIsBetter) => Ok(format!("bytes/{currency}")),
        (Unit::PerSecond, Direction::HigherIsBetter) => Ok(format!("operations/{currency}")),
        (Unit::Nanoseconds | Unit::Seconds, _) => Err(
            "a time is not divided by a price: its cost stands beside it, and the front says what \
             both come to"
                .to_owned(),
        ),
        _ => Err("only what is made per second is divided by a price per hour".to_owned()),
    }
}

/// What an entrant costs, where that is known.
pub(super) type Cost = Option<f64>;

/// Where each entrant stands to the front; `costs` in the order of the entrants. Groups without a
/// price take no part.
pub(super) fn fronts(order: &Order, costs: &[Cost], names: &[String]) -> Vec<Fact<Front>> {
    let indices = 0..order.entrants.len();
    indices
        .clone()
        .map(|i| {
            let Some(own) = costs[i] else {
                return Fact::unavailable("its price is unknown");
            };
            let rivals = indices.clone().filter(|&j| {
                let affordable = costs[j].is_some_and(|cost| cost <= own);
                j != i && affordable
            });
            Fact::Known(front(order, costs, i, &rivals.collect::<Vec<_>>(), names))
        })
        .collect()
}

/// Where entrant `i` stands, given those that cost at most as much.
fn front(order: &Order, costs: &[Cost], i: usize, rivals: &[usize], names: &[String]) -> Front {
    let name = |&j: &usize| names[order.entrants[j].group].clone();
    let beating: Vec<usize> = rivals
        .iter()
        .copied()
        .filter(|&j| order.is_better(j, i))
        .collect();
    let level: Vec<usize> = rivals
        .iter()
        .copied()
        .filter(|&j| !order.is_better(i, j))
        .collect();
    // Equal in both, two groups do not beat each other.
    let dominates = |&j: &usize| {
        let cheaper = costs[j] < costs[i];
        order.median_is_no_worse(j, i) && (cheaper || !order.median_is_no_worse(i, j))
    };
    let by_median = !rivals.iter().any(dominates);
    let (shown, rivals) = if !beating.is_empty() {
        (Standpoint::Beaten, beating)
    } else if !level.is_empty() {
        (Standpoint::Open, level)
    } else {
        (Standpoint::OnFront, Vec::new())
    };
    Front {
        by_median,
        shown,
        rivals: rivals.iter().map(name).collect(),
    }
}

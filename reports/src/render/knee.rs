//! The knee of a curve over queue depth: where more operations in flight buy waiting and no longer
//! throughput.

/// What a doubling of the depth must add to the throughput to be worth its latency.
pub(super) const LEAST_GAIN: f64 = 0.10;

/// One point of a curve over depth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// Operations in flight.
    pub(super) depth: f64,
    /// The throughput, in whatever unit.
    pub(super) rate: f64,
    /// The median latency, likewise, where it is known.
    pub(super) latency: Option<f64>,
}

/// The rule in words.
pub(super) fn rule() -> String {
    format!(
        "the least depth after which no deeper one gains {:.0} % throughput per doubling, while the \
         median latency grows",
        LEAST_GAIN * 100.0
    )
}

/// The index of the knee among points in the order of their depths; `None` where throughput still
/// grows at the deepest, or latency does not.
pub(super) fn knee(points: &[Point]) -> Option<usize> {
    let worth_it = |from: &Point, to: &Point| {
        let doublings = (to.depth / from.depth).log2();
        to.rate >= from.rate * (1.0 + LEAST_GAIN).powf(doublings)
    };
    let grows = |from: &Point, to: &Point| match (from.latency, to.latency) {
        (Some(from), Some(to)) => to > from,
        _ => true,
    };
    (0..points.len().saturating_sub(1)).find(|&at| {
        let (point, deeper) = (&points[at], &points[at + 1..]);
        grows(point, &deeper[0]) && !deeper.iter().any(|other| worth_it(point, other))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(rates: &[(f64, f64, f64)]) -> Vec<Point> {
        let point = |&(depth, rate, latency)| Point {
            depth,
            rate,
            latency: Some(latency),
        };
        rates.iter().map(point).collect()
    }

    #[test]
    fn the_knee_is_where_the_device_is_full() {
        // A device that does 8 at a time, 1 ms each.
        let device = |depth: f64| (depth, depth.min(8.0) * 1000.0, (depth / 8.0).max(1.0));
        let curve: Vec<_> = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0].map(device).to_vec();
        assert_eq!(knee(&points(&curve)), Some(3));
        // It does not depend on how fine the depths are.
        let coarse: Vec<_> = [1.0, 4.0, 16.0, 64.0].map(device).to_vec();
        assert_eq!(knee(&points(&coarse)), Some(2));
    }

    #[test]
    fn there_is_none_where_throughput_still_grows_or_nothing_waits() {
        assert_eq!(knee(&points(&[(1.0, 10.0, 1.0), (2.0, 20.0, 1.0)])), None);
        assert_eq!(knee(&points(&[(1.0, 10.0, 2.0), (2.0, 10.0, 1.0)])), None);
        assert_eq!(knee(&points(&[(1.0, 10.0, 1.0)])), None);
        assert_eq!(knee(&[]), None);
        // A dip is no knee if what is deeper makes up for it.
        let dip = [(1.0, 10.0, 1.0), (2.0, 9.0, 2.0), (4.0, 40.0, 3.0)];
        assert_eq!(knee(&points(&dip)), None);
    }
}

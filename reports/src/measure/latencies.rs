//! The histogram of the timed loop.
//!
//! It has HdrHistogram's bucket layout and a fifth of its recording cost: one leading-zero count,
//! one shift, two increments. Minimum, maximum and total are left to the reader, who turns it into
//! a real [`Histogram`] when the loop is over.

use super::recorder::MAX_LATENCY_NS;
use hdrhistogram::Histogram;

/// Three significant digits take 2 × 10³ sub-buckets, which is 2¹¹ as a power of two.
const SUB_BUCKET_BITS: u32 = 11;
const BUCKETS: usize = index_of(MAX_LATENCY_NS) + 1;

/// Counts per bucket, from 1 ns to one hour at three significant digits.
#[derive(Debug, Clone)]
pub struct Latencies {
    counts: Box<[u64; BUCKETS]>,
    recorded: u64,
}

/// The bucket of a value: values below 2¹¹ have one each; above, a bucket holds 2^shift values.
const fn index_of(value: u64) -> usize {
    let bits = u64::BITS - (value | ((1 << SUB_BUCKET_BITS) - 1)).leading_zeros();
    let shift = bits - SUB_BUCKET_BITS;
    ((shift as usize) << (SUB_BUCKET_BITS - 1)) + (value >> shift) as usize
}

/// The smallest value of a bucket.
const fn lowest_of(index: usize) -> u64 {
    let half = 1usize << (SUB_BUCKET_BITS - 1);
    if index < 2 * half {
        return index as u64;
    }
    let shift = index / half - 1;
    ((index - shift * half) as u64) << shift
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            recorded: 0,
        }
    }
}

impl Latencies {
    /// Counts one value; more than [`MAX_LATENCY_NS`] counts as that.
    #[inline(always)]
    pub fn record(&mut self, ns: u64) {
        self.record_n(ns, 1);
    }

    /// Counts one value so many times.
    #[inline(always)]
    pub fn record_n(&mut self, ns: u64, times: u64) {
        self.counts[index_of(ns.min(MAX_LATENCY_NS))] += times;
        self.recorded += times;
    }

    /// How many values were counted.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.recorded
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.recorded == 0
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        if self.recorded > 0 {
            self.counts.fill(0);
            self.recorded = 0;
        }
    }

    /// Adds everything to a histogram made by [`super::new_histogram`].
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        for (index, &count) in self.counts.iter().enumerate() {
            if count > 0 {
                // Every bucket's values are inside that histogram's bounds.
                histogram
                    .record_n(lowest_of(index), count)
                    .expect("in bounds");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::new_histogram;

    #[test]
    fn it_counts_as_hdrhistogram_does() {
        let mut ours = Latencies::default();
        let mut theirs = new_histogram();
        // Every power of two and its neighbours, the ends, and a spread over all magnitudes.
        let edges = (0..42).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let spread =
            (0..200_000u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (22 + i % 42));
        for value in edges.chain(spread).chain([MAX_LATENCY_NS]) {
            let value = value.min(MAX_LATENCY_NS);
            ours.record(value);
            theirs.record(value).expect("in bounds");
        }
        let mut converted = new_histogram();
        ours.add_to(&mut converted);
        assert_eq!(ours.len(), theirs.len());
        assert_eq!(converted, theirs);
    }

    #[test]
    fn every_bucket_begins_where_it_says() {
        assert!((0..BUCKETS).all(|index| index_of(lowest_of(index)) == index));
    }

    #[test]
    fn reset_forgets_and_overflow_saturates() {
        let mut latencies = Latencies::default();
        latencies.record(u64::MAX);
        assert_eq!(latencies.counts[BUCKETS - 1], 1);
        latencies.reset();
        assert!(latencies.is_empty() && latencies.counts.iter().all(|&count| count == 0));
    }
}

//! Runs that measured something else than the device for good: the first touch of a volume made
//! from a snapshot, credits that outlasted the run, writes that never left memory.

use super::ebs::{Difference, Kind};
use reports::model::Interval;
use reports::stats::median;

/// How much longer the first reads take than the last ones, on a volume that is being loaded.
const FASTER: f64 = 1.5;
/// Mean latency of reads, in microseconds, that no volume type has of itself: below their limits
/// all answer within a millisecond or two.
const SLOW_US: f64 = 5000.0;
/// Share of the time for which a limit was exceeded that explains waiting.
const EXCEEDED: f64 = 0.01;

/// gp2's bucket of I/O credits, and what they buy.
const GP2_CREDITS: f64 = 5.4e6;
const GP2_BURST_IOPS: f64 = 3000.0;
const GP2_IOPS_PER_GIB: f64 = 3.0;
const GP2_LEAST_IOPS: f64 = 100.0;

/// Whether reads of a volume look as if its blocks came from a snapshot for the first time.
#[must_use]
pub fn first_touch(ebs: &Difference, slices: &[Interval]) -> Option<String> {
    let exceeded = ebs.volume_exceeded_s.iter().chain(&ebs.instance_exceeded_s);
    let held_back = exceeded.fold(0.0, |sum, s| sum + s) > EXCEEDED * ebs.seconds;
    if ebs.kind != Kind::Ebs || ebs.ops[0] == 0 || held_back {
        return None;
    }
    const REMEDY: &str = "blocks of a volume made from a snapshot are slow until each was read \
                          once; read the whole device first (dd, or fio --rw=read)";
    let medians: Vec<f64> = slices.iter().filter_map(|slice| slice.p50_ns).collect();
    let third = medians.len() / 3;
    let ends = (
        median(&medians[..third]),
        median(&medians[medians.len() - third..]),
    );
    if let (Some(first), Some(last)) = ends
        && first >= FASTER * last
    {
        return Some(format!(
            "the median latency fell from {:.0} us to {:.0} us within the run, and no limit of the \
             volume or the instance was exceeded: {REMEDY}",
            first / 1e3,
            last / 1e3
        ));
    }
    let mean_us = ebs.mean_us[0].filter(|us| *us >= SLOW_US)?;
    Some(format!(
        "reads took {:.1} ms on average in the volume, and no limit of the volume or the instance \
         was exceeded: {REMEDY}",
        mean_us / 1e3
    ))
}

/// Whether a run was over before the credits of a gp2 volume of this size would have been. The
/// volume's type is not to be seen from the instance.
#[must_use]
pub fn credits_left(volume_bytes: u64, iops: f64, run_s: f64) -> Option<String> {
    let gib = volume_bytes as f64 / f64::from(1 << 30);
    let baseline = (GP2_IOPS_PER_GIB * gib).max(GP2_LEAST_IOPS);
    let spent_per_s = iops.min(GP2_BURST_IOPS) - baseline;
    if baseline >= GP2_BURST_IOPS || spent_per_s <= 0.0 {
        return None;
    }
    let lasts_s = GP2_CREDITS / spent_per_s;
    (run_s < lasts_s).then(|| {
        format!(
            "if this is a gp2 volume its full credits last {lasts_s:.0} s at this rate, and it \
             then falls to {baseline:.0} IOPS; the run took {run_s:.0} s and cannot show that"
        )
    })
}

/// Whether buffered writes were few enough for the kernel to keep all of them in memory.
#[must_use]
pub fn kept_in_memory(written_bytes: f64, background_bytes: f64) -> Option<String> {
    (written_bytes > 0.0 && written_bytes < background_bytes).then(|| {
        format!(
            "--direct false: {:.0} MB were written, and the kernel begins to write back at {:.0} MB \
             of changed memory (vm.dirty_background_*): the device need not have done anything",
            written_bytes / 1e6,
            background_bytes / 1e6
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis;

    fn ebs(exceeded: f64, mean_us: f64) -> Difference {
        Difference {
            kind: Kind::Ebs,
            seconds: 10.0,
            ops: [1000, 0],
            bytes: [4_096_000, 0],
            mean_us: [Some(mean_us), None],
            volume_exceeded_s: [exceeded, 0.0],
            instance_exceeded_s: [0.0, 0.0],
            histograms: Default::default(),
            by_size: Vec::new(),
        }
    }

    fn slices(first_us: f64, last_us: f64) -> Vec<Interval> {
        let mut slices = analysis::seconds(&[100.0; 9]);
        for (index, slice) in slices.iter_mut().enumerate() {
            slice.p50_ns = Some(if index < 4 { first_us } else { last_us } * 1e3);
        }
        slices
    }

    #[test]
    fn a_first_touch_is_slow_without_a_limit() {
        let falling = first_touch(&ebs(0.0, 2000.0), &slices(9000.0, 600.0));
        assert!(falling.is_some_and(|text| text.contains("from 9000 us to 600 us")));
        let slow = first_touch(&ebs(0.0, 8000.0), &slices(8000.0, 8000.0));
        assert!(slow.is_some_and(|text| text.contains("8.0 ms") && text.contains("dd")));
        assert_eq!(first_touch(&ebs(5.0, 8000.0), &slices(9000.0, 600.0)), None);
        assert_eq!(first_touch(&ebs(0.0, 700.0), &slices(700.0, 650.0)), None);
        assert_eq!(first_touch(&ebs(0.0, 700.0), &[]), None);
        let local = Difference {
            kind: Kind::InstanceStore,
            ..ebs(0.0, 8000.0)
        };
        assert_eq!(first_touch(&local, &[]), None);
    }

    #[test]
    fn credits_are_gp2_s_arithmetic() {
        // AWS's own example: 100 GiB, 300 IOPS of baseline, 2000 s at 3000 IOPS.
        let text = credits_left(100 << 30, 3000.0, 60.0).expect("a short run");
        assert!(
            text.contains("last 2000 s") && text.contains("300 IOPS"),
            "{text}"
        );
        assert_eq!(credits_left(100 << 30, 3000.0, 2001.0), None);
        assert_eq!(credits_left(100 << 30, 299.0, 60.0), None);
        assert_eq!(credits_left(2000 << 30, 9000.0, 60.0), None);
        assert!(
            credits_left(8 << 30, 200.0, 60.0).is_some_and(|text| text.contains("to 100 IOPS"))
        );
    }

    #[test]
    fn few_buffered_writes_never_leave_memory() {
        assert!(kept_in_memory(1e6, 1e9).is_some());
        assert_eq!(kept_in_memory(2e9, 1e9), None);
        assert_eq!(kept_in_memory(0.0, 1e9), None);
    }
}

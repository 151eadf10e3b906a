//! What the devices did against what the jobs did. Direct reads that no device did came from the
//! memory of a layer below; what a device did beyond the jobs is somebody else's.

use super::counters::Usage;
use reports::model::{Severity, Validity};

/// Share of the bytes that may be missing or too many before anything is said.
const TOLERANCE: f64 = 0.25;
/// What a quiet machine's own logs and journals may write or read besides, in bytes per second.
const BACKGROUND: f64 = 2e6;
/// In a shorter window the moments of reading weigh too much, in seconds.
const SHORTEST: f64 = 0.5;

/// What the jobs did in the window.
#[derive(Debug, Clone, Copy)]
pub struct Jobs {
    /// Its length in seconds.
    pub seconds: f64,
    /// Bytes read and written.
    pub bytes: [f64; 2],
    /// Whether the page cache was bypassed.
    pub direct: bool,
}

const WORDS: [(&str, &str); 2] = [("read", "reads"), ("wrote", "writes")];

/// Bytes that a device moved in the window: the least and the most that its counters can mean.
/// They are read a moment late under load: at the beginning, when the jobs are at work already,
/// the rate is right; at the end, when they are done, the sum is.
fn moved(usage: &Usage, direction: usize, seconds: f64) -> (f64, f64) {
    let sum = usage.bytes[direction] as f64;
    let by_rate = if usage.seconds > 0.0 {
        sum / usage.seconds * seconds
    } else {
        sum
    };
    (sum.min(by_rate), sum.max(by_rate))
}

/// Share of the bytes read that no device read; `None` where that cannot be told. `lowest` are the
/// devices below which nothing is.
#[must_use]
pub fn from_memory(jobs: &Jobs, lowest: &[&Usage]) -> Option<f64> {
    let known = jobs.bytes[0] > 0.0 && jobs.seconds >= SHORTEST && !lowest.is_empty();
    known.then(|| 1.0 - share_done(jobs, lowest, 0))
}

fn share_done(jobs: &Jobs, lowest: &[&Usage], direction: usize) -> f64 {
    let most = lowest
        .iter()
        .map(|usage| moved(usage, direction, jobs.seconds).1);
    (most.sum::<f64>() / jobs.bytes[direction]).min(1.0)
}

/// Flags what does not add up. `own` is the target's device and, of a partition, its disk.
pub fn flag(jobs: &Jobs, lowest: &[&Usage], own: &[(&str, &Usage)], validity: &mut Validity) {
    if jobs.seconds < SHORTEST {
        return;
    }
    if let Some(share) = from_memory(jobs, lowest).filter(|share| *share > TOLERANCE) {
        let from = if jobs.direct {
            "although the page cache of the target was bypassed, the memory of a layer below gave \
             the rest (a loop device's file, a RAID's cache), or there is nothing to read (holes)"
        } else {
            "the rest came from the page cache"
        };
        let read = (1.0 - share) * 100.0;
        let evidence = format!("the devices read {read:.0} % of what the jobs read: {from}");
        validity.flag(Severity::Degraded, "page_cache", evidence);
    }
    if jobs.direct && jobs.bytes[1] > 0.0 && !lowest.is_empty() {
        let share = share_done(jobs, lowest, 1);
        if share < 1.0 - TOLERANCE {
            let evidence = format!(
                "the devices wrote {:.0} % of what the jobs wrote: the rest is still in the memory \
                 of a layer below, or was the same as before",
                share * 100.0
            );
            validity.flag(Severity::Degraded, "page_cache", evidence);
        }
    }
    if jobs.direct {
        flag_others(jobs, own, validity);
    }
}

fn flag_others(jobs: &Jobs, own: &[(&str, &Usage)], validity: &mut Validity) {
    for (direction, (did, what)) in WORDS.into_iter().enumerate() {
        let expected = jobs.bytes[direction];
        let allowed = expected * (1.0 + TOLERANCE) + BACKGROUND * jobs.seconds;
        let other = own
            .iter()
            .map(|(name, usage)| (name, moved(usage, direction, jobs.seconds).0));
        let other = other.max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((name, least)) = other.filter(|(_, least)| *least > allowed) {
            let evidence = format!(
                "{name} {did} {:.1} MB/s besides this run's {what} of {:.1} MB/s: somebody else \
                 uses the disk",
                (least - expected) / jobs.seconds / 1e6,
                expected / jobs.seconds / 1e6
            );
            validity.flag(Severity::Degraded, "other_io", evidence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(read: u64, written: u64) -> Usage {
        Usage {
            seconds: 10.0,
            bytes: [read, written],
            ..Usage::default()
        }
    }

    fn flags(jobs: &Jobs, lowest: &Usage, own: &Usage) -> Vec<String> {
        let mut validity = Validity::default();
        flag(jobs, &[lowest], &[("sda", own)], &mut validity);
        let flags = validity.flags.into_iter();
        flags
            .map(|flag| format!("{}: {}", flag.code, flag.evidence))
            .collect()
    }

    const READS: Jobs = Jobs {
        seconds: 10.0,
        bytes: [1e9, 0.0],
        direct: true,
    };

    #[test]
    fn what_adds_up_is_not_mentioned() {
        let exact = usage(1_000_000_000, 1_000_000);
        assert!(flags(&READS, &exact, &exact).is_empty());
        // Read late: eight of ten seconds were seen, or twelve, two of them idle.
        let late = Usage {
            seconds: 8.0,
            ..usage(800_000_000, 0)
        };
        let long = Usage {
            seconds: 12.0,
            ..usage(1_000_000_000, 0)
        };
        assert!(flags(&READS, &late, &late).is_empty() && flags(&READS, &long, &long).is_empty());
        let short = Jobs {
            seconds: 0.01,
            ..READS
        };
        assert!(flags(&short, &usage(0, 0), &usage(0, 0)).is_empty());
        assert_eq!(from_memory(&READS, &[]), None);
        assert_eq!(from_memory(&READS, &[&exact]), Some(0.0));
    }

    #[test]
    fn reads_that_no_device_did_came_from_memory() {
        let found = flags(&READS, &usage(100_000_000, 0), &usage(1_000_000_000, 0));
        assert!(
            found.len() == 1 && found[0].contains("page_cache: the devices read 10 %"),
            "{found:?}"
        );
        let buffered = Jobs {
            direct: false,
            ..READS
        };
        let found = flags(&buffered, &usage(0, 0), &usage(0, 0));
        assert!(
            found.len() == 1 && found[0].contains("page cache"),
            "{found:?}"
        );
        let writes = Jobs {
            bytes: [0.0, 1e9],
            ..READS
        };
        let found = flags(&writes, &usage(0, 1_000_000), &usage(0, 1_000_000_000));
        assert!(
            found.len() == 1 && found[0].contains("wrote 0 %"),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_beyond_the_jobs_is_somebody_else_s() {
        let busy = usage(1_000_000_000, 900_000_000);
        let found = flags(&READS, &busy, &busy);
        assert!(found.len() == 1, "{found:?}");
        assert!(
            found[0].contains("sda wrote 90.0 MB/s besides this run's writes of 0.0"),
            "{found:?}"
        );
        let buffered = Jobs {
            direct: false,
            ..READS
        };
        assert!(
            flags(&buffered, &busy, &busy).is_empty(),
            "read-ahead and write-back blur it"
        );
    }
}

//! Amazon's log page 0xD0: what an EBS volume or an instance store counts of itself, and for how
//! long its own limit or that of the instance was exceeded.
//!
//! The layout is that of AWS's nvme-cli plug-in, little-endian. The latency histograms are read of
//! EBS volumes; those of an instance store are laid out otherwise and are left out.

use crate::sys::nvme;
use serde::Serialize;
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};

const PAGE: u8 = 0xd0;
const EBS_MAGIC: u32 = 0x3c23_b510;
const LOCAL_MAGIC: u32 = 0xec2c_0d7e;
const READ_HISTOGRAM: usize = 512;
const WRITE_HISTOGRAM: usize = 2056;
const BINS: usize = 64;
const BIN_BYTES: usize = 24;

/// Which of Amazon's two kinds of NVMe device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A volume.
    Ebs,
    /// A disk of the instance.
    InstanceStore,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Self::Ebs => 4096,
            Self::InstanceStore => 8192,
        }
    }
}

/// One reading. Times are in microseconds since the device was attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    kind: Kind,
    /// Reads and writes completed.
    pub ops: [u64; 2],
    /// Bytes read and written.
    pub bytes: [u64; 2],
    /// Time that reads and writes took.
    pub busy_us: [u64; 2],
    /// How long the volume's limits were exceeded: of IOPS, of throughput.
    pub volume_exceeded_us: [u64; 2],
    /// How long the instance's limits were exceeded, likewise.
    pub instance_exceeded_us: [u64; 2],
    /// Requests waiting at this moment.
    pub queue_length: u64,
    /// Latencies of reads and of writes.
    pub histograms: Option<[Vec<Bin>; 2]>,
}

/// One bin of a latency histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// From this many microseconds.
    pub lower_us: u64,
    /// Up to this many.
    pub upper_us: u64,
    /// How many I/Os.
    pub count: u64,
}

impl Page {
    /// Reads a page's bytes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(page: &[u8]) -> Result<Self, String> {
        let magic = page.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let kind = match magic {
            Some(EBS_MAGIC) => Kind::Ebs,
            Some(LOCAL_MAGIC) => Kind::InstanceStore,
            Some(other) => {
                return Err(format!(
                    "log page 0xD0 begins with {other:#x}: not Amazon's"
                ));
            }
            None => return Err("log page 0xD0 is empty".to_owned()),
        };
        if page.len() < kind.bytes() {
            let (bytes, whole) = (page.len(), kind.bytes());
            return Err(format!("log page 0xD0 has {bytes} of {whole} bytes"));
        }
        // In bounds: every offset lies within the shorter of both lengths, checked above.
        let pair = |at: usize| [number(page, at), number(page, at + 8)];
        let histograms = match kind {
            Kind::Ebs => Some([bins(page, READ_HISTOGRAM)?, bins(page, WRITE_HISTOGRAM)?]),
            Kind::InstanceStore => None,
        };
        Ok(Self {
            kind,
            ops: pair(8),
            bytes: pair(24),
            busy_us: pair(40),
            volume_exceeded_us: pair(56),
            instance_exceeded_us: pair(72),
            queue_length: number(page, 88),
            histograms,
        })
    }
}

fn number(page: &[u8], at: usize) -> u64 {
    let bytes = page[at..].first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(bytes)
}

fn bins(page: &[u8], at: usize) -> Result<Vec<Bin>, String> {
    let count = number(page, at);
    let count = usize::try_from(count).ok().filter(|&count| count <= BINS);
    let count = count.ok_or("log page 0xD0 counts more bins than it has room for")?;
    let bin = |index: usize| {
        let at = at + 8 + index * BIN_BYTES;
        Bin {
            lower_us: number(page, at),
            upper_us: number(page, at + 8),
            count: number(page, at + 16) & u64::from(u32::MAX),
        }
    };
    Ok((0..count).map(bin).collect())
}

/// What happened between two readings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Which kind of device.
    pub kind: Kind,
    /// Length of the time between, in seconds.
    pub seconds: f64,
    /// Reads and writes completed.
    pub ops: [u64; 2],
    /// Bytes read and written.
    pub bytes: [u64; 2],
    /// Mean latency of reads and of writes as the device counts it, in microseconds.
    pub mean_us: [Option<f64>; 2],
    /// Seconds for which the volume's limits were exceeded: of IOPS, of throughput.
    pub volume_exceeded_s: [f64; 2],
    /// Those of the instance.
    pub instance_exceeded_s: [f64; 2],
    /// Latencies of reads and of writes; bins without any are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histograms: Option<[Vec<Bin>; 2]>,
}

impl Difference {
    /// From an earlier reading to a later one, `seconds` apart.
    #[must_use]
    pub fn between(before: &Page, after: &Page, seconds: f64) -> Self {
        let less = |after: [u64; 2], before: [u64; 2]| {
            [0, 1].map(|at| u64::saturating_sub(after[at], before[at]))
        };
        let exceeded = |after, before| less(after, before).map(|us| us as f64 / 1e6);
        let ops = less(after.ops, before.ops);
        let busy = less(after.busy_us, before.busy_us);
        let mean = |at: usize| (ops[at] > 0).then(|| busy[at] as f64 / ops[at] as f64);
        let histograms = before.histograms.as_ref().zip(after.histograms.as_ref());
        Self {
            kind: after.kind,
            seconds,
            ops,
            bytes: less(after.bytes, before.bytes),
            mean_us: [mean(0), mean(1)],
            volume_exceeded_s: exceeded(after.volume_exceeded_us, before.volume_exceeded_us),
            instance_exceeded_s: exceeded(after.instance_exceeded_us, before.instance_exceeded_us),
            histograms: histograms.map(|(b, a)| [grown(&b[0], &a[0]), grown(&b[1], &a[1])]),
        }
    }
}

fn grown(before: &[Bin], after: &[Bin]) -> Vec<Bin> {
    let earlier = |bin: &Bin| {
        let mut same = before.iter().filter(|old| old.lower_us == bin.lower_us);
        // The device counts in 32 bits.
        same.next().map_or(0, |old| old.count)
    };
    let grown = after.iter().map(|bin| Bin {
        count: (bin.count as u32).wrapping_sub(earlier(bin) as u32).into(),
        ..*bin
    });
    grown.filter(|bin| bin.count > 0).collect()
}

/// A device that has the page.
pub struct Log {
    device: File,
    path: PathBuf,
    kind: Kind,
}

impl Log {
    /// Opens the device, read-only and beside whoever uses it.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open(path: &Path, kind: Kind) -> Result<Self, String> {
        let device = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self {
            device,
            path: path.to_owned(),
            kind,
        })
    }

    /// Reads the page.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn read(&self) -> Result<Page, String> {
        let mut page = vec![0; self.kind.bytes()];
        nvme::log_page(&self.device, PAGE, 1, &mut page).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => "; it takes root (CAP_SYS_ADMIN)",
                Some(libc::ENOTTY) => "; this is no NVMe device",
                _ => "",
            };
            format!("log page 0xD0 of {}: {error}{hint}", self.path.display())
        })?;
        Page::parse(&page)
    }
}

/// One second of the series in the report.
#[must_use]
pub fn second(at_s: f64, difference: &Difference, queue_length: u64) -> Value {
    json!({
        "t_s": at_s,
        "queue_length": queue_length,
        "volume_exceeded_s": difference.volume_exceeded_s,
        "instance_exceeded_s": difference.instance_exceeded_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of an EBS volume, as long and laid out as the device gives it.
    fn page(magic: u32, bytes: usize, numbers: &[u64]) -> Vec<u8> {
        let mut page = vec![0; bytes];
        page[..4].copy_from_slice(&magic.to_le_bytes());
        page[4..8].copy_from_slice(&1u32.to_le_bytes());
        for (index, number) in numbers.iter().enumerate() {
            put(&mut page, 8 + index * 8, *number);
        }
        page
    }

    fn put(page: &mut [u8], at: usize, number: u64) {
        page[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }

    fn ebs(numbers: &[u64], fast: u64, slow: u64) -> Vec<u8> {
        let mut page = page(EBS_MAGIC, 4096, numbers);
        put(&mut page, READ_HISTOGRAM, 2);
        for (index, (lower, upper, count)) in
            [(0, 1024, fast), (1024, 2048, slow)].iter().enumerate()
        {
            let at = READ_HISTOGRAM + 8 + index * BIN_BYTES;
            put(&mut page, at, *lower);
            put(&mut page, at + 8, *upper);
            put(&mut page, at + 16, *count);
        }
        page
    }

    #[test]
    fn a_volume_tells_what_it_did_and_what_held_it_back() {
        let before = ebs(
            &[10, 20, 40_960, 81_920, 5000, 9000, 1_000_000, 0, 7, 8, 3],
            10,
            u64::from(u32::MAX),
        );
        let after = ebs(
            &[
                1010, 20, 4_136_960, 81_920, 805_000, 9000, 9_200_000, 500_000, 7, 8, 32,
            ],
            1000,
            9,
        );
        let (before, after) = (Page::parse(&before), Page::parse(&after));
        let (before, after) = (before.expect("well-formed"), after.expect("well-formed"));
        assert_eq!((before.queue_length, after.queue_length), (3, 32));
        let difference = Difference::between(&before, &after, 10.0);
        assert_eq!(
            (difference.ops, difference.bytes),
            ([1000, 0], [4_096_000, 0])
        );
        assert_eq!(difference.mean_us, [Some(800.0), None]);
        assert_eq!(difference.volume_exceeded_s, [8.2, 0.5]);
        assert_eq!(difference.instance_exceeded_s, [0.0, 0.0]);
        let [reads, writes] = difference.histograms.expect("of a volume");
        let counts: Vec<u64> = reads.iter().map(|bin| bin.count).collect();
        assert_eq!((counts, writes.len()), (vec![990, 10], 0), "32 bits wrap");
        assert_eq!((reads[1].lower_us, reads[1].upper_us), (1024, 2048));
    }

    #[test]
    fn an_instance_store_has_a_longer_page_without_these_histograms() {
        let page = Page::parse(&page(
            LOCAL_MAGIC,
            8192,
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        ));
        let page = page.expect("well-formed");
        assert_eq!(
            (page.kind, page.ops, page.queue_length),
            (Kind::InstanceStore, [1, 2], 11)
        );
        assert_eq!(page.histograms, None);
    }

    #[test]
    fn what_is_not_the_page_is_refused_with_the_reason() {
        let mut greedy = ebs(&[], 0, 0);
        put(&mut greedy, WRITE_HISTOGRAM, 65);
        for (bytes, reason) in [
            (page(0x1234, 4096, &[]), "0x1234: not Amazon's"),
            (page(EBS_MAGIC, 2048, &[]), "2048 of 4096 bytes"),
            (page(LOCAL_MAGIC, 4096, &[]), "4096 of 8192 bytes"),
            (greedy, "more bins"),
            (vec![0x10, 0xb5], "is empty"),
        ] {
            let error = Page::parse(&bytes).expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
        let log = Log::open(Path::new("/dev/null"), Kind::Ebs).expect("it is there");
        let error = log.read().expect_err("no NVMe device");
        assert!(error.contains("no NVMe device"), "{error}");
        assert!(Log::open(Path::new("/dev/absent"), Kind::Ebs).is_err());
    }
}

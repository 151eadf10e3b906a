//! Amazon's log page 0xD0: what an EBS volume or an instance store counts of itself, and for how
//! long its own limit or that of the instance was exceeded.
//!
//! The layout is that of AWS's nvme-cli plug-in, little-endian. An instance store's page is that of a
//! volume with the latencies by size of the I/O behind it.

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
/// How many ranges of sizes an instance store tells apart, and where each ends.
const RANGES: usize = 3600;
const RANGE_ENDS: usize = 3604;
const MOST_RANGES: usize = 8;
/// Counts by range, direction and bin; the bins are those of the writes' histogram.
const DETAIL: usize = 4096;
const DETAIL_BINS: usize = 32;
/// The version of a page whose detail is laid out so.
const DETAIL_VERSION: u32 = 1;

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
    pub histograms: [Vec<Bin>; 2],
    /// The same by size of the I/O, of an instance store.
    pub by_size: Vec<SizeRange>,
}

/// The latencies of the I/Os of a range of sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SizeRange {
    /// Longer than this many bytes.
    pub above_bytes: u32,
    /// Up to this many; none if there is no limit.
    pub up_to_bytes: Option<u32>,
    /// Of reads and of writes.
    pub histograms: [Vec<Bin>; 2],
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
        let histograms = [bins(page, READ_HISTOGRAM)?, bins(page, WRITE_HISTOGRAM)?];
        let by_size = match (kind, number_32(page, 4)) {
            (Kind::InstanceStore, DETAIL_VERSION) => by_size(page, &histograms[1])?,
            _ => Vec::new(),
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
            by_size,
        })
    }
}

fn number_32(page: &[u8], at: usize) -> u32 {
    let bytes = page[at..].first_chunk().copied().unwrap_or_default();
    u32::from_le_bytes(bytes)
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
            count: number_32(page, at + 16).into(),
        }
    };
    Ok((0..count).map(bin).collect())
}

/// The ranges of sizes of an instance store's page, in bins like these.
fn by_size(page: &[u8], like: &[Bin]) -> Result<Vec<SizeRange>, String> {
    let ranges = number_32(page, RANGES) as usize;
    if ranges > MOST_RANGES || (ranges > 0 && like.len() > DETAIL_BINS) {
        return Err(format!(
            "log page 0xD0 counts {ranges} ranges of sizes in {} bins, more than it has room for",
            like.len()
        ));
    }
    let end = |range: usize| number_32(page, RANGE_ENDS + range * 4);
    let counts = |range: usize, direction: usize| {
        let first = DETAIL + (range * 2 + direction) * DETAIL_BINS * 8;
        let counted = |(index, bin): (usize, &Bin)| Bin {
            count: number(page, first + index * 8),
            ..*bin
        };
        like.iter().enumerate().map(counted).collect()
    };
    let range = |range: usize| SizeRange {
        above_bytes: if range == 0 { 0 } else { end(range - 1) },
        up_to_bytes: Some(end(range)).filter(|&end| end != u32::MAX),
        histograms: [counts(range, 0), counts(range, 1)],
    };
    Ok((0..ranges).map(range).collect())
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
    pub histograms: [Vec<Bin>; 2],
    /// The same by size of the I/O, of an instance store; ranges without any are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_size: Vec<SizeRange>,
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
        // The histograms of a whole page count in 32 bits, those by size in 64.
        let whole = |now: u64, then: u64| (now as u32).wrapping_sub(then as u32).into();
        let histograms =
            [0, 1].map(|at| grown(&before.histograms[at], &after.histograms[at], whole));
        Self {
            kind: after.kind,
            seconds,
            ops,
            bytes: less(after.bytes, before.bytes),
            mean_us: [mean(0), mean(1)],
            volume_exceeded_s: exceeded(after.volume_exceeded_us, before.volume_exceeded_us),
            instance_exceeded_s: exceeded(after.instance_exceeded_us, before.instance_exceeded_us),
            histograms,
            by_size: grown_by_size(&before.by_size, &after.by_size),
        }
    }

    /// Of this device and of another at the same time, as of the members of a RAID: sums, and of the
    /// limits the one that was exceeded for longer, because the slowest member is what is waited for.
    #[must_use]
    pub fn beside(self, other: Self) -> Self {
        let sum = |a: [u64; 2], b: [u64; 2]| [0, 1].map(|at| a[at] + b[at]);
        let longer = |a: [f64; 2], b: [f64; 2]| [0, 1].map(|at| f64::max(a[at], b[at]));
        let ops = sum(self.ops, other.ops);
        let mean_us = [0, 1].map(|at| {
            let busy = |of: &Self| of.mean_us[at].unwrap_or(0.0) * of.ops[at] as f64;
            (ops[at] > 0).then(|| (busy(&self) + busy(&other)) / ops[at] as f64)
        });
        let mut by_size = self.by_size;
        for range in other.by_size {
            let same = by_size.iter_mut();
            match same
                .into_iter()
                .find(|one| one.above_bytes == range.above_bytes)
            {
                Some(one) => one.histograms = together(&one.histograms, &range.histograms),
                None => by_size.push(range),
            }
        }
        by_size.sort_by_key(|range| range.above_bytes);
        Self {
            ops,
            bytes: sum(self.bytes, other.bytes),
            mean_us,
            volume_exceeded_s: longer(self.volume_exceeded_s, other.volume_exceeded_s),
            instance_exceeded_s: longer(self.instance_exceeded_s, other.instance_exceeded_s),
            histograms: together(&self.histograms, &other.histograms),
            by_size,
            ..self
        }
    }
}

/// Histograms of reads and of writes, each with the other's.
fn together(one: &[Vec<Bin>; 2], other: &[Vec<Bin>; 2]) -> [Vec<Bin>; 2] {
    [0, 1].map(|at| {
        let mut bins: Vec<Bin> = one[at].iter().chain(&other[at]).copied().collect();
        bins.sort_by_key(|bin| (bin.lower_us, bin.upper_us));
        bins.dedup_by(|bin, kept| {
            let same = (bin.lower_us, bin.upper_us) == (kept.lower_us, kept.upper_us);
            if same {
                kept.count += bin.count;
            }
            same
        });
        bins
    })
}

/// The bins in which there are more now than before, `less` being the difference of two counts.
fn grown(before: &[Bin], after: &[Bin], less: impl Fn(u64, u64) -> u64) -> Vec<Bin> {
    let earlier = |bin: &Bin| {
        let mut same = before.iter().filter(|old| old.lower_us == bin.lower_us);
        same.next().map_or(0, |old| old.count)
    };
    let grown = after.iter().map(|bin| Bin {
        count: less(bin.count, earlier(bin)),
        ..*bin
    });
    grown.filter(|bin| bin.count > 0).collect()
}

fn grown_by_size(before: &[SizeRange], after: &[SizeRange]) -> Vec<SizeRange> {
    let grown = after.iter().map(|now| {
        let mut same = before
            .iter()
            .filter(|old| old.above_bytes == now.above_bytes);
        let then = same.next().map(|old| &old.histograms);
        let of = |at: usize| {
            let then = then.map_or(&[][..], |histograms| &histograms[at]);
            grown(then, &now.histograms[at], u64::saturating_sub)
        };
        SizeRange {
            histograms: [of(0), of(1)],
            ..*now
        }
    });
    let some = |range: &SizeRange| range.histograms.iter().any(|bins| !bins.is_empty());
    grown.filter(some).collect()
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

    /// The device's name, without the folder.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
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

    /// Puts a histogram of two bins into a page.
    fn put_bins(page: &mut [u8], at: usize, fast: u64, slow: u64) {
        put(page, at, 2);
        for (index, (lower, upper, count)) in
            [(0, 1024, fast), (1024, 2048, slow)].iter().enumerate()
        {
            let at = at + 8 + index * BIN_BYTES;
            put(page, at, *lower);
            put(page, at + 8, *upper);
            put(page, at + 16, *count);
        }
    }

    fn ebs(numbers: &[u64], fast: u64, slow: u64) -> Vec<u8> {
        let mut page = page(EBS_MAGIC, 4096, numbers);
        put_bins(&mut page, READ_HISTOGRAM, fast, slow);
        page
    }

    /// The page of an instance store whose I/Os are of up to 4 KiB or longer; `counts` are of the
    /// second bin of the reads and of the first of the writes, by size.
    fn local(numbers: &[u64], counts: [[u64; 2]; 2]) -> Vec<u8> {
        let mut page = page(LOCAL_MAGIC, 8192, numbers);
        let total = |of: usize| counts[0][of] + counts[1][of];
        put_bins(&mut page, READ_HISTOGRAM, 0, total(0));
        put_bins(&mut page, WRITE_HISTOGRAM, total(1), 0);
        page[RANGES..RANGES + 4].copy_from_slice(&2u32.to_le_bytes());
        for (range, end) in [4096, u32::MAX].into_iter().enumerate() {
            let at = RANGE_ENDS + range * 4;
            page[at..at + 4].copy_from_slice(&u32::to_le_bytes(end));
            let first = DETAIL + range * 2 * DETAIL_BINS * 8;
            put(&mut page, first + 8, counts[range][0]);
            put(&mut page, first + DETAIL_BINS * 8, counts[range][1]);
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
        let [reads, writes] = difference.histograms;
        let counts: Vec<u64> = reads.iter().map(|bin| bin.count).collect();
        assert_eq!((counts, writes.len()), (vec![990, 10], 0), "32 bits wrap");
        assert_eq!((reads[1].lower_us, reads[1].upper_us), (1024, 2048));
        assert_eq!(difference.by_size, [], "a volume does not tell sizes apart");
    }

    #[test]
    fn an_instance_store_tells_latencies_by_size_as_well() {
        let parse = |counts| {
            let bytes = local(&[1, 2, 3, 4, 5, 6, 0, 0, 9, 10, 11], counts);
            Page::parse(&bytes).expect("well-formed")
        };
        let more = u64::from(u32::MAX) + 5;
        let (before, after) = (parse([[7, 0], [1, 2]]), parse([[7, 0], [more + 1, 5]]));
        assert_eq!(
            (after.kind, after.ops, after.queue_length),
            (Kind::InstanceStore, [1, 2], 11)
        );
        let ends: Vec<_> = after
            .by_size
            .iter()
            .map(|range| (range.above_bytes, range.up_to_bytes))
            .collect();
        assert_eq!(ends, [(0, Some(4096)), (4096, None)]);
        let difference = Difference::between(&before, &after, 1.0);
        let [long] = &difference.by_size[..] else {
            panic!("nothing of up to 4 KiB came: {difference:?}");
        };
        let bin = |lower_us, upper_us, count| Bin {
            lower_us,
            upper_us,
            count,
        };
        assert_eq!(long.above_bytes, 4096);
        let (slow, fast) = (bin(1024, 2048, more), bin(0, 1024, 3));
        assert_eq!(long.histograms, [vec![slow], vec![fast]]);
        assert_eq!(difference.histograms[1], [fast]);
        // Of another version nothing but the length is known.
        let mut newer = local(&[], [[1, 1], [1, 1]]);
        newer[4] = 2;
        assert_eq!(Page::parse(&newer).expect("well-formed").by_size, []);
    }

    #[test]
    fn the_members_of_a_raid_are_one_device() {
        let page = |numbers: &[u64], fast, slow| {
            Page::parse(&ebs(numbers, fast, slow)).expect("well-formed")
        };
        let before = page(&[0; 11], 0, 0);
        let free = page(&[300, 0, 4096, 0, 30_000, 0, 0, 0, 0, 0, 2], 300, 0);
        let held = page(&[100, 0, 4096, 0, 90_000, 0, 5_000_000, 0, 0, 7, 9], 40, 60);
        let members = [&free, &held].map(|page| Difference::between(&before, page, 10.0));
        let [free, held] = members;
        let raid = free.beside(held);
        assert_eq!((raid.ops, raid.bytes), ([400, 0], [8192, 0]));
        assert_eq!(raid.mean_us, [Some(300.0), None]);
        assert_eq!(raid.volume_exceeded_s, [5.0, 0.0]);
        let counts: Vec<u64> = raid.histograms[0].iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [340, 60]);
        let of = |counts| {
            let page = |counts| Page::parse(&local(&[], counts)).expect("well-formed");
            Difference::between(&page([[0; 2]; 2]), &page(counts), 1.0)
        };
        let raid = of([[5, 0], [0, 0]]).beside(of([[1, 0], [0, 2]]));
        let ends: Vec<_> = raid.by_size.iter().map(|range| range.above_bytes).collect();
        assert_eq!(ends, [0, 4096]);
        assert_eq!(raid.by_size[0].histograms[0][0].count, 6);
    }

    #[test]
    fn what_is_not_the_page_is_refused_with_the_reason() {
        let mut greedy = ebs(&[], 0, 0);
        put(&mut greedy, WRITE_HISTOGRAM, 65);
        let mut ranges = local(&[], [[0; 2]; 2]);
        ranges[RANGES] = 9;
        for (bytes, reason) in [
            (page(0x1234, 4096, &[]), "0x1234: not Amazon's"),
            (page(EBS_MAGIC, 2048, &[]), "2048 of 4096 bytes"),
            (page(LOCAL_MAGIC, 4096, &[]), "4096 of 8192 bytes"),
            (greedy, "more bins"),
            (ranges, "9 ranges of sizes in 2 bins"),
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

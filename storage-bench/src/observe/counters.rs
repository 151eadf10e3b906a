//! What a device or a mount has counted: one reading, and the difference of two.
//!
//! Block devices count in /sys/block/X/stat (Documentation/admin-guide/iostats.rst), NFS mounts in
//! /proc/self/mountstats, Lustre clients in their `stats`. All end in the same numbers.

use serde::Serialize;
use std::path::PathBuf;

/// Where counters are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A block device's folder in sysfs.
    Block(PathBuf),
    /// A mount of NFS: the file of all mounts' statistics, and where this one is mounted.
    Nfs(PathBuf, PathBuf),
    /// A Lustre client's `stats`.
    Lustre(PathBuf),
}

/// One reading. Reads first, writes second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests completed.
    pub ops: [u64; 2],
    /// Bytes moved.
    pub bytes: [u64; 2],
    /// Requests merged into others before the device saw them.
    pub merges: [u64; 2],
    /// Sum of all requests' times in milliseconds.
    pub queue_ms: u64,
    /// How long there was at least one request, in milliseconds.
    pub busy_ms: Option<u64>,
    /// Requests at this moment.
    pub in_flight: Option<u64>,
}

/// What happened between two readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Length of the time between, in seconds.
    pub seconds: f64,
    /// Reads and writes completed.
    pub ops: [u64; 2],
    /// Bytes read and written.
    pub bytes: [u64; 2],
    /// Requests merged into others.
    pub merges: [u64; 2],
    /// Requests that the device had at a time, on average over the time.
    pub mean_queue: f64,
    /// Mean time of a request in nanoseconds; `None` without requests.
    pub mean_ns: Option<f64>,
    /// Share of the time with at least one request, where that is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilisation: Option<f64>,
}

impl Source {
    /// Reads the counters.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn read(&self) -> Result<Counters, String> {
        match self {
            Self::Block(folder) => {
                let file = folder.join("stat");
                let text = super::text(&file)?;
                block(&text).ok_or_else(|| format!("{}: {text:?} is no stat", file.display()))
            }
            Self::Nfs(file, mount_point) => {
                let text = super::text(file)?;
                nfs(&text, &mount_point.to_string_lossy()).ok_or_else(|| {
                    let (file, point) = (file.display(), mount_point.display());
                    format!("{file} has no counters of the NFS mount {point}")
                })
            }
            Self::Lustre(file) => Ok(lustre(&super::text(file)?)),
        }
    }
}

/// sysfs counts sectors of 512 bytes, whatever the device's own unit is.
const SECTOR: u64 = 512;

fn block(text: &str) -> Option<Counters> {
    let fields = text.split_ascii_whitespace().map(str::parse);
    let fields: Vec<u64> = fields.collect::<Result<_, _>>().ok()?;
    let [
        reads,
        reads_merged,
        sectors_read,
        _,
        writes,
        writes_merged,
        sectors_written,
        _,
        in_flight,
        busy_ms,
        queue_ms,
        ..,
    ] = fields[..]
    else {
        return None;
    };
    Some(Counters {
        ops: [reads, writes],
        bytes: [sectors_read, sectors_written].map(|sectors| sectors.saturating_mul(SECTOR)),
        merges: [reads_merged, writes_merged],
        queue_ms,
        busy_ms: Some(busy_ms),
        in_flight: Some(in_flight),
    })
}

/// The section of one mount: `bytes:` has eight numbers, of which the fifth and sixth went over
/// the network; `READ:` and `WRITE:` begin with the requests and end with their times.
fn nfs(text: &str, mount_point: &str) -> Option<Counters> {
    let begin = format!(" mounted on {mount_point} with fstype nfs");
    let mut lines = text.lines().skip_while(|line| !line.contains(&begin));
    lines.next()?;
    let section = lines.take_while(|line| !line.starts_with("device "));
    let mut counters = Counters::default();
    let mut bytes_seen = false;
    for line in section {
        let Some((name, rest)) = line.trim().split_once(':') else {
            continue;
        };
        let numbers = rest.split_ascii_whitespace();
        let numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
        let number = |at: usize| numbers.get(at).copied();
        let direction = match name {
            "bytes" => {
                counters.bytes = [number(4)?, number(5)?];
                bytes_seen = true;
                continue;
            }
            "READ" => 0,
            "WRITE" => 1,
            _ => continue,
        };
        counters.ops[direction] = number(0)?;
        counters.queue_ms += number(7)?;
    }
    bytes_seen.then_some(counters)
}

/// `read_bytes  12 samples [bytes] 4096 4096 49152 ...`: count, unit, least, most, sum.
fn lustre(text: &str) -> Counters {
    let mut counters = Counters::default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|text| text.parse().ok());
        let direction = match fields.first() {
            Some(&"read_bytes") => 0,
            Some(&"write_bytes") => 1,
            _ => continue,
        };
        counters.ops[direction] = number(1).unwrap_or(0);
        counters.bytes[direction] = number(6).unwrap_or(0);
    }
    counters
}

impl Usage {
    /// From an earlier reading to a later one, `seconds` apart.
    #[must_use]
    pub fn between(before: &Counters, after: &Counters, seconds: f64) -> Self {
        let less = |after: [u64; 2], before: [u64; 2]| {
            [0, 1].map(|at| u64::saturating_sub(after[at], before[at]))
        };
        let ops = less(after.ops, before.ops);
        let queue_s = after.queue_ms.saturating_sub(before.queue_ms) as f64 / 1e3;
        let share = |part: f64| if seconds > 0.0 { part / seconds } else { 0.0 };
        let busy = after.busy_ms.zip(before.busy_ms);
        let all = ops[0] + ops[1];
        Self {
            seconds,
            ops,
            bytes: less(after.bytes, before.bytes),
            merges: less(after.merges, before.merges),
            mean_queue: share(queue_s),
            mean_ns: (all > 0).then(|| queue_s * 1e9 / all as f64),
            // The kernel counts in ticks, and may count the tick under way.
            utilisation: busy
                .map(|(after, before)| share(after.saturating_sub(before) as f64 / 1e3).min(1.0)),
        }
    }

    /// Requests per second in both directions.
    #[must_use]
    pub fn iops(&self) -> f64 {
        if self.seconds > 0.0 {
            (self.ops[0] + self.ops[1]) as f64 / self.seconds
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_device_s_line_is_read_and_two_are_compared() {
        let before = block("10 1 80 5 20 2 160 9 0 14 14").expect("a short stat of old kernels");
        let after = "1010 1 8080 2005 20 2 160 9 4 1014 2014 0 0 0 0 3 1";
        let after = block(after).expect("a stat");
        assert_eq!((after.ops, after.in_flight), ([1010, 20], Some(4)));
        let usage = Usage::between(&before, &after, 2.0);
        assert_eq!((usage.ops, usage.bytes), ([1000, 0], [4_096_000, 0]));
        assert_eq!((usage.mean_queue, usage.utilisation), (1.0, Some(0.5)));
        assert_eq!((usage.mean_ns, usage.iops()), (Some(2e6), 500.0));
        assert_eq!(block("1 2 3"), None);
        assert_eq!(block("a b c d e f g h i j k"), None);
        let idle = Usage::between(&after, &after, 0.0);
        assert_eq!(
            (idle.mean_ns, idle.iops(), idle.mean_queue),
            (None, 0.0, 0.0)
        );
    }

    const MOUNTSTATS: &str = "\
device proc mounted on /proc with fstype proc
device host:/other mounted on /mnt/other with fstype nfs4 statvers=1.1
\tbytes:\t9 9 9 9 9 9 9 9
device host:/export mounted on /mnt/nfs with fstype nfs4 statvers=1.1
\topts:\trw,vers=4.2,rsize=1048576
\tage:\t6
\tbytes:\t100 200 300 400 5000 6000 7 8
\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)
\tper-op statistics
\t        READ: 12 12 0 2000 5100 3 40 50 0
\t       WRITE: 4 4 0 6100 500 1 9 10 0
\t      COMMIT: 1 1 0 200 100 0 5 6 0
device tmpfs mounted on /tmp with fstype tmpfs
\tbytes:\t1 1 1 1 1 1 1 1
";

    #[test]
    fn an_nfs_mount_is_found_among_others() {
        let counters = nfs(MOUNTSTATS, "/mnt/nfs").expect("it is there");
        assert_eq!((counters.ops, counters.bytes), ([12, 4], [5000, 6000]));
        assert_eq!((counters.queue_ms, counters.busy_ms), (60, None));
        assert_eq!(nfs(MOUNTSTATS, "/tmp"), None, "no NFS");
        assert_eq!(nfs(MOUNTSTATS, "/mnt"), None, "a prefix is another mount");
        let missing = Source::Nfs("/nonexistent".into(), "/mnt/nfs".into());
        assert!(missing.read().is_err());
    }

    #[test]
    fn a_lustre_client_counts_bytes() {
        let counters = lustre(
            "snapshot_time 1 secs.nsecs\nread_bytes 12 samples [bytes] 4096 8192 65536 1\n\
             write_bytes 3 samples [bytes] 1 9 20\nopen 4 samples [usecs]\n",
        );
        assert_eq!((counters.ops, counters.bytes), ([12, 3], [65_536, 20]));
    }
}

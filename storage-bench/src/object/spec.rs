//! What the options of object stores come to, and whether it makes sense.

use super::place::{Bucket, Endpoint};
use crate::spec::MOST_HISTOGRAMS;
use crate::spec::{human, usage};
use clap::ValueEnum;
use reports::measure::{Limit, Plan};
use serde::Serialize;
use std::time::Duration;

mod args;
mod mix;

pub use args::{CleanArgs, MixArgs, ObjectArgs, PartArgs, RangeArgs};
pub use mix::{Action, Mix};

const RUNTIME_S: f64 = 10.0;
const MAX_SECONDS: f64 = 30.0 * 86_400.0;
/// The header by which an object is known must fit.
const MIN_SIZE: u64 = 32;
/// S3's largest single put, and its smallest part but for the last.
const MAX_PUT: u64 = 5 << 30;
const MIN_PART: u64 = 5 << 20;
const MAX_PARTS: u64 = 10_000;
const MAX_OBJECTS: u64 = 10_000_000;

/// Which case it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Whole objects are put.
    Put,
    /// Whole objects are read.
    Get,
    /// Parts of objects are read.
    GetRange,
    /// Objects are put in parts.
    Multipart,
    /// The job's objects are listed.
    List,
    /// Each object is deleted once.
    Delete,
    /// All of it, by shares.
    Mixed,
}

/// What the server is given to check puts with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// Nothing beyond what the connection has.
    #[default]
    None,
    /// CRC-64/NVME in x-amz-checksum-crc64nvme.
    Crc64nvme,
    /// SHA-256 in x-amz-checksum-sha256.
    Sha256,
}

/// How a store is reached: what the report keeps of it stands in its facts.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// The bucket and the prefix.
    pub bucket: Bucket,
    /// The server, if it is not AWS's.
    pub endpoint: Option<Endpoint>,
    /// Its region.
    pub region: String,
    /// Whether the bucket stands in the path.
    pub path_style: bool,
    /// Whether nothing is signed.
    pub anonymous: bool,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest time for one try.
    pub timeout: Duration,
    /// Further tries.
    pub retries: u32,
    /// What the server checks puts with.
    pub checksum: Checksum,
    /// Whether the hash of the data is signed.
    pub sign_payload: bool,
}

/// Everything that shapes a run. What serialises are the report's parameters; the place is not
/// among them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ObjectSpec {
    /// Which case it is.
    #[serde(skip)]
    pub op: Op,
    /// Bytes of an object.
    pub object_size: u64,
    /// Objects over all jobs.
    pub objects: u64,
    /// Operations under way per job.
    pub concurrency: usize,
    /// Jobs, each a thread.
    pub numjobs: usize,
    /// Bytes of a ranged read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<u64>,
    /// Bytes of a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part_size: Option<u64>,
    /// Parts under way per object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts_in_flight: Option<usize>,
    /// Shares of operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mix: Option<Mix>,
    /// What the server checks puts with.
    pub checksum: Checksum,
    /// Whether the hash of the data is signed.
    pub sign_payload: bool,
    /// Further tries of a request.
    pub retries: u32,
    /// Longest time for one try in seconds.
    pub timeout_s: f64,
    /// Failures that do not end the run.
    pub max_errors: u64,
    /// Unmeasured time before the window, in seconds.
    pub ramp_time_s: f64,
    /// Length of the window in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_s: Option<f64>,
    /// Length of the window in operations per job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_ios: Option<u64>,
    /// Length of the reported slices in seconds.
    #[serde(skip)]
    pub interval_s: f64,
    /// Where random choices begin.
    #[serde(skip)]
    pub seed: u64,
    /// Where the store is.
    #[serde(skip)]
    pub store: Store,
}

impl Store {
    /// The server that is asked, without the bucket.
    #[must_use]
    pub fn server(&self) -> Endpoint {
        self.endpoint.clone().unwrap_or_else(|| Endpoint {
            tls: true,
            authority: format!("s3.{}.amazonaws.com", self.region),
        })
    }

    /// Where the bucket is: the address that keys are appended to.
    #[must_use]
    pub fn bucket_address(&self) -> String {
        let server = self.server();
        if self.path_style {
            return format!("{server}/{}", self.bucket.name);
        }
        let tls = server.tls;
        let authority = format!("{}.{}", self.bucket.name, server.authority);
        Endpoint { tls, authority }.to_string()
    }
}

impl ObjectSpec {
    /// How the harness drives this.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let seconds = Duration::from_secs_f64;
        Plan {
            threads: self.numjobs,
            ramp: Duration::ZERO,
            warmup: Limit::Duration(seconds(self.ramp_time_s)),
            run: match (self.number_ios, self.runtime_s) {
                (Some(count), _) => Limit::Ops(count),
                (None, length) => Limit::Duration(seconds(length.unwrap_or(RUNTIME_S))),
            },
            interval: seconds(self.interval_s),
            slice_histograms: self.runtime_s.unwrap_or(0.0) / self.interval_s <= MOST_HISTOGRAMS,
        }
    }

    /// Objects of one job.
    #[must_use]
    pub fn objects_per_job(&self) -> u64 {
        self.objects / self.numjobs as u64
    }

    /// Whether objects are put before the run.
    #[must_use]
    pub fn prepared(&self) -> bool {
        !matches!(self.op, Op::Put | Op::Multipart)
    }

    /// Checks everything that can be checked without asking the store.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn check(&self) -> anyhow::Result<()> {
        self.check_counts()?;
        self.check_sizes()?;
        let times = [
            ("--runtime", self.runtime_s.unwrap_or(1.0), 0.001),
            ("--ramp-time", self.ramp_time_s, 0.0),
            ("--interval", self.interval_s, 0.01),
        ];
        for (option, seconds, least) in times {
            if !(least..=MAX_SECONDS).contains(&seconds) {
                return Err(usage(format!(
                    "{option} {seconds}: it takes seconds from {least} to {MAX_SECONDS} (30 days)"
                )));
            }
        }
        if self.op == Op::Delete && self.ramp_time_s > 0.0 {
            return Err(usage(
                "--ramp-time: it would delete what the window is to delete; leave it out",
            ));
        }
        Ok(())
    }

    fn check_counts(&self) -> anyhow::Result<()> {
        let counts = [
            ("--concurrency", self.concurrency as u64, 4096),
            ("--numjobs", self.numjobs as u64, 1024),
            ("--objects", self.objects, MAX_OBJECTS),
            ("--number-ios", self.number_ios.unwrap_or(1), u64::MAX),
            (
                "--parts-in-flight",
                self.parts_in_flight.unwrap_or(1) as u64,
                MAX_PARTS,
            ),
        ];
        for (option, value, most) in counts {
            if !(1..=most).contains(&value) {
                return Err(usage(format!("{option} {value}: from 1 to {most}")));
            }
        }
        let writes = matches!(self.op, Op::Put | Op::Multipart | Op::Mixed);
        let (least, why) = match writes {
            true => (
                self.numjobs as u64 * self.concurrency as u64,
                "no two writes to one object are under way: --numjobs x --concurrency",
            ),
            false => (self.numjobs as u64, "each job has its own: --numjobs"),
        };
        if self.objects < least {
            return Err(usage(format!(
                "--objects {}: it takes at least {least} ({why})",
                self.objects
            )));
        }
        Ok(())
    }

    fn check_sizes(&self) -> anyhow::Result<()> {
        let size = self.object_size;
        if size < MIN_SIZE {
            return Err(usage(format!(
                "--object-size {size}: at least {MIN_SIZE} bytes, by which an object is known"
            )));
        }
        match (self.range, self.part_size) {
            (Some(range), _) if range == 0 || range > size => Err(usage(format!(
                "--range {}: from 1 byte to the --object-size, {}",
                human(range),
                human(size)
            ))),
            (_, Some(part)) => self.check_parts(part),
            _ if size > MAX_PUT => Err(usage(format!(
                "--object-size {}: a single put takes at most 5g; only object_multipart writes \
                 larger ones",
                human(size)
            ))),
            _ => Ok(()),
        }
    }

    fn check_parts(&self, part: u64) -> anyhow::Result<()> {
        let size = self.object_size;
        if part == 0 || part > MAX_PUT {
            return Err(usage(format!("--part-size {}: up to 5g", human(part))));
        }
        if size.div_ceil(part) > MAX_PARTS {
            return Err(usage(format!(
                "--part-size {}: S3 takes at most {MAX_PARTS} parts; --object-size {} needs parts \
                 of {} bytes or more",
                human(part),
                human(size),
                size.div_ceil(MAX_PARTS)
            )));
        }
        // A compatible server may take them; AWS answers EntityTooSmall at the end of each upload.
        if part < MIN_PART && size > part && self.store.endpoint.is_none() {
            return Err(usage(format!(
                "--part-size {}: AWS takes no part below 5m but the last",
                human(part)
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! The options of object stores as users type them.

use super::{Checksum, Mix, ObjectSpec, Op, RUNTIME_S, Store};
use crate::object::place::{self, Bucket};
use crate::spec::{bytes, usage};
use clap::{ArgAction, Args};
use std::time::Duration;

/// Where the store is, and how it is talked to.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Store")]
pub struct StoreArgs {
    /// Bucket and prefix: s3://bucket/prefix. Nothing may be below the prefix yet. Credentials
    /// come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, from a web
    /// identity, a container's or an instance's role (not from profiles: `eval "$(aws configure
    /// export-credentials --format env)"`)
    #[arg(long, value_name = "S3_URL", value_parser = place::bucket)]
    pub bucket: Bucket,
    /// Server to use instead of AWS: http://127.0.0.1:9000. Certificates are checked against the
    /// system's roots, or those in $SSL_CERT_FILE
    #[arg(
        long,
        value_name = "URL",
        env = "AWS_ENDPOINT_URL",
        hide_env_values = true
    )]
    pub endpoint: Option<String>,
    /// Region of the bucket [default: $AWS_DEFAULT_REGION, or us-east-1]
    #[arg(long, value_name = "NAME", env = "AWS_REGION")]
    pub region: Option<String>,
    /// Name the bucket in the path and not in the host [default: true with --endpoint,
    /// and for names with dots]
    #[arg(long, action = ArgAction::Set, value_name = "BOOL")]
    pub path_style: Option<bool>,
    /// Sign nothing, for public buckets
    #[arg(long)]
    pub anonymous: bool,
    /// Sign the hash of what is put too, for servers that demand it (costs a SHA-256 per put)
    #[arg(long)]
    pub sign_payload: bool,
    /// What the server is given to check puts with
    #[arg(long, value_enum, default_value_t)]
    pub checksum: Checksum,
    /// Longest wait for a connection in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub connect_timeout: f64,
    /// Longest time for one try of a request, its data included, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub timeout: f64,
    /// Further tries after 5xx, 429, lost connections and time-outs, 0.1 s apart at first, doubling
    /// up to 5 s; their time counts as the operation's
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub retries: u32,
}

/// How much is done.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct LoadArgs {
    /// Size of an object [default: 8m; 1k for object_list and object_delete]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub object_size: Option<u64>,
    /// Objects over all jobs [default: 64; 1000 for object_list and object_delete]
    #[arg(long, value_name = "N")]
    pub objects: Option<u64>,
    /// Operations under way per job
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub concurrency: usize,
    /// Jobs, each a thread with connections of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub numjobs: usize,
    /// Length of the measured window in seconds [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        conflicts_with = "number_ios",
        allow_negative_numbers = true
    )]
    pub runtime: Option<f64>,
    /// End each job's window after N operations instead
    #[arg(long, value_name = "N")]
    pub number_ios: Option<u64>,
    /// Unmeasured time before the window in seconds [default: 1; 0 with --number-ios, and for
    /// object_delete]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub ramp_time: Option<f64>,
    /// Failed operations that are counted instead of ending the run
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_errors: u64,
    /// Length of the reported slices in seconds; given explicitly, each is also shown [default: 1]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub interval: Option<f64>,
    /// Where random choices begin [default: drawn, and recorded]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// What all cases take.
#[derive(Debug, Clone, Args)]
pub struct ObjectArgs {
    /// Where.
    #[command(flatten)]
    pub store: StoreArgs,
    /// How much.
    #[command(flatten)]
    pub load: LoadArgs,
}

/// What `object_get_range` takes besides.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct RangeArgs {
    /// Size of what is read of an object, at random multiples of it
    #[arg(long, value_name = "SIZE", default_value = "1m", value_parser = bytes)]
    pub range: u64,
}

/// What `object_multipart` takes besides.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct PartArgs {
    /// Size of a part; AWS takes none below 5m but the last
    #[arg(long, value_name = "SIZE", default_value = "8m", value_parser = bytes)]
    pub part_size: u64,
    /// Parts under way per object
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub parts_in_flight: usize,
}

/// What `object_mixed` takes besides.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub struct MixArgs {
    /// Shares of the operations in percent
    #[arg(
        long,
        value_name = "SHARES",
        default_value = "get=45,head=30,put=15,delete=10"
    )]
    pub mix: Mix,
}

/// Options of `object_clean`.
#[derive(Debug, Clone, Args)]
pub struct CleanArgs {
    /// Where.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Run whose objects are removed; without it, the runs that left something are listed
    #[arg(long, value_name = "NONCE")]
    pub run: Option<String>,
}

impl StoreArgs {
    /// Checks them.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn store(&self) -> anyhow::Result<Store> {
        let seconds = |option: &str, value: f64| {
            if (0.01..=86_400.0).contains(&value) {
                return Ok(Duration::from_secs_f64(value));
            }
            Err(usage(format!(
                "{option} {value}: it takes seconds from 0.01 to 86400 (a day)"
            )))
        };
        let region = self.region.clone();
        let region = region
            .or_else(|| std::env::var("AWS_DEFAULT_REGION").ok())
            .unwrap_or_else(|| "us-east-1".to_owned());
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if region.is_empty() || !region.chars().all(plain) {
            return Err(usage(format!(
                "--region {region:?}: a region has letters, digits and hyphens: us-east-1"
            )));
        }
        // Not by clap, which would repeat the text: it may hold a secret.
        let endpoint = self.endpoint.as_deref().map(place::endpoint).transpose();
        let endpoint = endpoint.map_err(|fault| usage(format!("--endpoint: {fault}")))?;
        if self.retries > 100 {
            return Err(usage(format!("--retries {}: from 0 to 100", self.retries)));
        }
        Ok(Store {
            bucket: self.bucket.clone(),
            // A dot in the name would need a certificate of its own.
            path_style: self
                .path_style
                .unwrap_or(endpoint.is_some() || self.bucket.name.contains('.')),
            endpoint,
            region,
            anonymous: self.anonymous,
            connect_timeout: seconds("--connect-timeout", self.connect_timeout)?,
            timeout: seconds("--timeout", self.timeout)?,
            retries: self.retries,
            checksum: self.checksum,
            sign_payload: self.sign_payload,
        })
    }
}

impl ObjectArgs {
    /// What the options of one case come to, still without those that only it has.
    ///
    /// # Errors
    /// [`reports::program::Usage`]: which option is wrong, why, and what to do.
    pub fn spec(&self, op: Op) -> anyhow::Result<ObjectSpec> {
        let (load, small) = (&self.load, matches!(op, Op::List | Op::Delete));
        let store = self.store.store()?;
        let ramp = match (op, load.number_ios) {
            (Op::Delete, _) | (_, Some(_)) => 0.0,
            _ => 1.0,
        };
        Ok(ObjectSpec {
            op,
            object_size: load
                .object_size
                .unwrap_or(if small { 1 << 10 } else { 8 << 20 }),
            objects: load.objects.unwrap_or(if small { 1000 } else { 64 }),
            concurrency: load.concurrency,
            numjobs: load.numjobs,
            range: None,
            part_size: None,
            parts_in_flight: None,
            mix: None,
            checksum: store.checksum,
            sign_payload: store.sign_payload,
            retries: store.retries,
            timeout_s: store.timeout.as_secs_f64(),
            max_errors: load.max_errors,
            ramp_time_s: load.ramp_time.unwrap_or(ramp),
            runtime_s: match load.number_ios {
                None => Some(load.runtime.unwrap_or(RUNTIME_S)),
                Some(_) => None,
            },
            number_ios: load.number_ios,
            interval_s: load.interval.unwrap_or(1.0),
            // Half of the bits, so that every reader of JSON keeps them exactly.
            seed: load.seed.unwrap_or_else(|| u64::from(fastrand::u32(..))),
            store,
        })
    }
}

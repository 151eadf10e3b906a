//! One job's client of a store: the library with its own retries off, and ours around each
//! request, where they are counted.

use super::spec::{Checksum, Store};
use super::wire::{Fault, Wire};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum as Algorithm};
use object_store::path::Path;
use object_store::{BackoffConfig, RetryConfig};
use reports::measure::stop_requested;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The library, for the report; a test holds it to Cargo.lock.
pub const LIBRARY: &str = "object_store 0.14.2";

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What of the environment gives credentials. Everything else of AWS's variables is an option.
const CREDENTIALS: [&str; 11] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
];

/// Why a try failed.
#[derive(Debug)]
pub enum Trouble {
    /// The request came to nothing.
    Fault(Fault),
    /// The answer makes no sense.
    Malformed(String),
    /// The store returned something else than what was put there.
    Wrong(String),
}

/// Why an operation failed for good.
#[derive(Debug)]
pub struct Failure {
    /// What happened at the last try.
    pub trouble: Trouble,
    /// How many tries there were.
    pub tries: u32,
}

impl From<object_store::Error> for Trouble {
    fn from(error: object_store::Error) -> Self {
        match Fault::of(&error) {
            Some(fault) => Self::Fault(fault),
            None => Self::Malformed(error.to_string()),
        }
    }
}

impl Trouble {
    fn cause(&self) -> String {
        match self {
            Self::Fault(fault) => fault.cause(),
            Self::Malformed(_) => "malformed answer".to_owned(),
            Self::Wrong(_) => "wrong content".to_owned(),
        }
    }
}

impl Failure {
    /// Whether the store's data is wrong, which no number of tolerated errors covers.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        matches!(self.trouble, Trouble::Wrong(_))
    }

    /// The status of the answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match &self.trouble {
            Trouble::Fault(Fault::Status { status, .. }) => Some(*status),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trouble {
            Trouble::Fault(fault) => write!(f, "{fault}{}", advice(fault))?,
            Trouble::Malformed(text) | Trouble::Wrong(text) => f.write_str(text)?,
        }
        match self.tries {
            1 => Ok(()),
            tries => write!(f, " (the last of {tries} tries)"),
        }
    }
}

impl std::error::Error for Failure {}

/// What to do, where S3's code says it.
fn advice(fault: &Fault) -> &'static str {
    let Fault::Status { code, .. } = fault else {
        return "";
    };
    match code.as_str() {
        "NoSuchBucket" => "; create the bucket first, this program makes none",
        "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" => {
            "; name the bucket's own with --region"
        }
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" => {
            "; look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
        }
        _ => "",
    }
}

/// See the module.
pub struct Client {
    /// The library.
    pub store: AmazonS3,
    /// What it sends its requests through.
    pub wire: Wire,
    /// Uploads in parts that are neither complete nor aborted, by their ids.
    uploads: Mutex<BTreeMap<String, Path>>,
    timeout: Duration,
    retries: u32,
    /// Whether it goes on trying when the program was asked to stop: who cleans up does.
    patient: bool,
}

impl Client {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// What the library says of the options.
    pub fn new(options: &Store, patient: bool) -> anyhow::Result<Self> {
        let wire = Wire::new(&options.server(), options.connect_timeout)?;
        let mut builder = AmazonS3Builder::new();
        for name in CREDENTIALS {
            let key = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>();
            if let (Ok(value), Ok(key)) = (std::env::var(name), key) {
                builder = builder.with_config(key, value);
            }
        }
        match options.checksum {
            Checksum::None => {}
            Checksum::Crc64nvme => {
                builder = builder.with_checksum_algorithm(Algorithm::CRC64NVME);
            }
            Checksum::Sha256 => builder = builder.with_checksum_algorithm(Algorithm::SHA256),
        }
        let once = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 0,
            retry_timeout: options.timeout,
        };
        let store = builder
            .with_bucket_name(&options.bucket.name)
            .with_region(&options.region)
            // The library's word for "the address has the bucket in it already".
            .with_virtual_hosted_style_request(true)
            .with_endpoint(options.bucket_address())
            .with_skip_signature(options.anonymous)
            .with_unsigned_payload(!options.sign_payload)
            .with_disable_tagging(true)
            .with_disable_bulk_delete(true)
            .with_retry(once)
            .with_http_connector(wire.clone())
            .build()?;
        Ok(Self {
            store,
            wire,
            uploads: Mutex::default(),
            timeout: options.timeout,
            retries: options.retries,
            patient,
        })
    }

    /// Does something, and again where another try may succeed.
    ///
    /// # Errors
    /// What happened at the last try.
    pub async fn tried<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        self.tried_where(Fault::passing, attempt).await
    }

    /// As [`Client::tried`], but again only after faults that are `worth` it.
    ///
    /// # Errors
    /// As for [`Client::tried`].
    pub async fn tried_where<T, F>(
        &self,
        worth: fn(&Fault) -> bool,
        attempt: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            let trouble = match tokio::time::timeout(self.timeout, attempt()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(trouble)) => trouble,
                Err(_) => {
                    let fault = Fault::TimedOut(self.timeout);
                    add(&mut self.wire.counts().requests, fault.cause());
                    Trouble::Fault(fault)
                }
            };
            let again = tries <= self.retries && (self.patient || !stop_requested());
            let passing = matches!(&trouble, Trouble::Fault(fault) if worth(fault));
            if !(again && passing) {
                return Err(Failure { trouble, tries });
            }
            add(&mut self.wire.counts().retries, trouble.cause());
            tokio::time::sleep(pause(tries)).await;
        }
    }

    /// Counts an operation that failed for good.
    pub fn failed(&self, failure: &Failure) {
        add(&mut self.wire.counts().failures, failure.trouble.cause());
    }

    /// Remembers an upload that has begun.
    pub fn begun(&self, id: &str, path: &Path) {
        self.open_uploads().insert(id.to_owned(), path.clone());
    }

    /// Forgets an upload that has ended.
    pub fn ended(&self, id: &str) {
        self.open_uploads().remove(id);
    }

    /// Uploads that are neither complete nor aborted.
    pub fn open_uploads(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Path>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(counts: &mut BTreeMap<String, u64>, cause: String) {
    *counts.entry(cause).or_default() += 1;
}

/// How long to wait before the next try: doubling, and drawn, so that those who were refused
/// together do not return together.
fn pause(tries: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << (tries - 1).min(16));
    doubled
        .min(LONGEST_PAUSE)
        .mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_the_one_that_is_built() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let lock = std::fs::read_to_string(lock).expect("the workspace's");
        let (name, version) = LIBRARY.split_once(' ').expect("name and version");
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")));
    }

    #[test]
    fn every_variable_of_credentials_is_known_to_the_library() {
        for name in CREDENTIALS {
            let key = name.to_ascii_lowercase();
            assert!(key.parse::<AmazonS3ConfigKey>().is_ok(), "{name}");
        }
    }

    #[test]
    fn pauses_grow_and_end() {
        for tries in 1..200 {
            let pause = pause(tries);
            assert!(
                (FIRST_PAUSE / 2..=LONGEST_PAUSE).contains(&pause),
                "{tries}"
            );
        }
        assert!(pause(100) >= LONGEST_PAUSE / 2);
    }
}

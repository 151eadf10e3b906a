//! What may be touched of a store: a prefix that is empty, and of that one folder.
//!
//! A run draws a number, refuses a prefix that holds anything, puts a marker into a folder named by
//! its number, and looks again: of two runs that came together, both see each other and step back.
//! All keys of the run are in that folder, so that what it overwrites or deletes it has made.

use super::client::{Client, Failure, Trouble};
use super::job;
use super::operation::{abort, delete, list};
use super::place::Bucket;
use super::spec::Store;
use super::uploads;
use super::wire::Fault;
use anyhow::Context;
use futures_util::TryStreamExt;
use futures_util::stream::{self, StreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;

/// How the folder of a run begins.
pub const FOLDER: &str = "storage-bench-";
/// The name of the marker in it.
pub const MARKER: &str = "marker";
/// Deletes under way when a run cleans up.
const DELETES: usize = 32;
/// How often a run looks whether a late put has arrived after it was deleted.
const PASSES: usize = 4;
/// Keys that a refusal shows.
const SHOWN: usize = 3;

/// A run's hold on a prefix.
pub struct Claim {
    store: Store,
    runtime: Runtime,
    client: Client,
    nonce: u64,
    held: bool,
}

/// The prefix of a bucket as the library wants it.
fn prefix(bucket: &Bucket) -> Path {
    Path::from(bucket.prefix.as_str())
}

/// The number of a run as users read and type it.
#[must_use]
pub fn nonce_text(nonce: u64) -> String {
    format!("{nonce:016x}")
}

/// The folder of a run.
#[must_use]
pub fn folder(bucket: &Bucket, nonce: u64) -> Path {
    prefix(bucket).join(format!("{FOLDER}{}", nonce_text(nonce)))
}

/// The run that a key belongs to, if its folder is one.
#[must_use]
pub fn run_of(bucket: &Bucket, key: &Path) -> Option<u64> {
    let mut parts = key.prefix_match(&prefix(bucket))?;
    let folder = parts.next()?;
    let text = folder.as_ref().strip_prefix(FOLDER)?;
    let nonce = u64::from_str_radix(text, 16).ok()?;
    (nonce_text(nonce) == text).then_some(nonce)
}

/// What a marker says.
#[must_use]
pub fn marker_text(nonce: u64) -> String {
    format!("{FOLDER}{}\n", nonce_text(nonce))
}

impl Claim {
    /// Looks at the prefix and takes it.
    ///
    /// # Errors
    /// The store cannot be reached or refuses, or the prefix is not empty.
    pub fn take(store: &Store, nonce: u64) -> anyhow::Result<Self> {
        let mut claim = Self {
            runtime: job::runtime()?,
            client: Client::new(store, true)?,
            store: store.clone(),
            nonce,
            held: false,
        };
        let found = claim.first_keys()?;
        if !found.is_empty() {
            anyhow::bail!("{}", claim.refusal(&found));
        }
        claim.put_marker()?;
        let others = claim.first_keys()?;
        let own = claim.folder();
        if !others.iter().all(|key| key.prefix_matches(&own)) {
            let refusal = claim.refusal(&others);
            claim.remove(&[])?;
            anyhow::bail!("{refusal}");
        }
        Ok(claim)
    }

    /// The run's folder.
    #[must_use]
    pub fn folder(&self) -> Path {
        folder(&self.store.bucket, self.nonce)
    }

    /// The first keys below the prefix.
    fn first_keys(&self) -> anyhow::Result<Vec<Path>> {
        let bucket = &self.store.bucket;
        let prefix = prefix(bucket);
        let look = || async {
            let below = (!bucket.prefix.is_empty()).then_some(&prefix);
            let keys = self.client.store.list(below).take(SHOWN + 1);
            Ok(keys.map_ok(|meta| meta.location).try_collect().await?)
        };
        let found = self.client.tried_where(reached, look);
        self.runtime.block_on(found).with_context(|| {
            let server = self.store.server();
            format!("cannot list {bucket} at {server}")
        })
    }

    fn refusal(&self, found: &[Path]) -> String {
        let bucket = &self.store.bucket;
        let own = self.folder();
        let others: Vec<_> = found
            .iter()
            .filter(|key| !key.prefix_matches(&own))
            .collect();
        let mut shown: Vec<_> = others.iter().take(SHOWN).map(|key| key.as_ref()).collect();
        if others.len() > SHOWN {
            shown.push("and more");
        }
        let what = format!("{bucket} is not empty: it holds {}", shown.join(", "));
        match others.iter().find_map(|key| run_of(bucket, key)) {
            Some(run) => {
                let run = nonce_text(run);
                format!(
                    "{what}. That is of another run: if it is no longer going on, `storage-bench \
                     object_clean --bucket {bucket} --run {run}` (with the --endpoint it had) \
                     removes what it left"
                )
            }
            None => format!(
                "{what}. Nothing is put beside what this program did not make; name a prefix that \
                 is empty"
            ),
        }
    }

    fn put_marker(&mut self) -> anyhow::Result<()> {
        // From here on there may be something to remove, whatever the answer.
        self.held = true;
        let path = self.folder().join(MARKER);
        let payload = PutPayload::from(marker_text(self.nonce));
        let put = || async { Ok(self.client.store.put(&path, payload.clone()).await?) };
        let put = self.runtime.block_on(self.client.tried(put));
        if let Err(failure) = put {
            let refused = failure.status().is_some();
            let error = anyhow::Error::new(failure).context(format!("cannot put {path}"));
            // What the server refused is not there.
            self.held = !refused;
            return Err(error);
        }
        Ok(())
    }

    /// Removes everything that the run has made, the marker last, and aborts uploads.
    ///
    /// # Errors
    /// What is left, and how it can be removed.
    pub fn remove(&mut self, open_uploads: &[(String, Path)]) -> anyhow::Result<()> {
        self.held = false;
        let folder = self.folder();
        let removed = self.runtime.block_on(async {
            for (id, path) in open_uploads {
                abort(&self.client, path, id).await?;
            }
            remove_folder(&self.client, &folder).await
        });
        removed.map(drop).map_err(|failure| {
            let bucket = &self.store.bucket;
            let endpoint = match &self.store.endpoint {
                Some(endpoint) => format!(" --endpoint {endpoint}"),
                None => String::new(),
            };
            anyhow::anyhow!(
                "not everything that this run made could be removed ({failure}); \
                 `storage-bench object_clean --bucket {bucket}{endpoint} --run {}` tries again",
                nonce_text(self.nonce)
            )
        })
    }
}

impl Drop for Claim {
    /// For errors and panics between; what cannot be removed then shows at the next run.
    fn drop(&mut self) {
        if self.held {
            let _ = self.remove(&[]);
        }
    }
}

/// At first contact, a server that is not there is not waited for.
fn reached(fault: &Fault) -> bool {
    fault.passing() && !matches!(fault, Fault::Connect(_))
}

/// Deletes all keys below a folder, its marker last. Returns how many there were.
///
/// # Errors
/// The first key that cannot be deleted.
pub async fn remove_folder(client: &Client, folder: &Path) -> Result<u64, Failure> {
    let marker = folder.clone().join(MARKER);
    let mut removed = 0;
    for _ in 0..PASSES {
        let found = list(client, folder).await?;
        let keys = found.into_iter().map(|meta| meta.location);
        let (markers, others): (Vec<_>, Vec<_>) = keys.partition(|key| *key == marker);
        removed += others.len() as u64;
        let mut deletes = stream::iter(&others)
            .map(|key| delete(client, key))
            .buffer_unordered(DELETES);
        while let Some(deleted) = deletes.next().await {
            deleted?;
        }
        if others.is_empty() {
            for key in &markers {
                delete(client, key).await?;
            }
            return Ok(removed + markers.len() as u64);
        }
    }
    Err(Failure {
        trouble: Trouble::Wrong(format!("objects keep appearing below {folder}")),
        tries: 1,
    })
}

/// Removes what a killed run left: its keys, and its uploads.
///
/// # Errors
/// As for [`remove_folder`].
pub async fn remove_killed(
    client: &Client,
    store: &Store,
    folder: &Path,
) -> Result<(u64, Result<u64, Failure>), Failure> {
    // Before the marker goes, which shows that something is left.
    let uploads = uploads::abort_all(client, store, folder).await;
    Ok((remove_folder(client, folder).await?, uploads))
}

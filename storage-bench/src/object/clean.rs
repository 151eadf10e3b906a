//! Removing what a killed run left: `object_clean`.

use super::claim::{self, MARKER, marker_text, nonce_text, run_of};
use super::client::{Client, Failure};
use super::job;
use super::operation;
use super::spec::{CleanArgs, Store};
use crate::spec::usage;
use anyhow::Context;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Lists the runs that left something, or removes one of them. Returns what it did, in words.
///
/// # Errors
/// The store refuses, or there is no such run.
pub fn clean(args: &CleanArgs) -> anyhow::Result<String> {
    let store = args.store.store()?;
    let run = args.run.as_deref().map(nonce).transpose()?;
    let runtime = job::runtime()?;
    let client = Client::new(&store, true)?;
    runtime.block_on(async {
        match run {
            Some(nonce) => remove(&client, &store, nonce).await,
            None => runs(&client, &store).await,
        }
    })
}

fn nonce(text: &str) -> anyhow::Result<u64> {
    let nonce = u64::from_str_radix(text, 16).ok();
    let nonce = nonce.filter(|nonce| nonce_text(*nonce) == text);
    nonce.ok_or_else(|| {
        usage(format!(
            "--run {text:?}: a run's number has 16 digits from 0 to f; without --run the runs \
             that left something are listed"
        ))
    })
}

async fn runs(client: &Client, store: &Store) -> anyhow::Result<String> {
    let bucket = &store.bucket;
    let prefix = Path::from(bucket.prefix.as_str());
    let found = operation::list(client, &prefix).await;
    let found = found.with_context(|| format!("cannot list {bucket}"))?;
    let mut runs: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for meta in found {
        if let Some(run) = run_of(bucket, &meta.location) {
            let (count, bytes) = runs.entry(run).or_default();
            *count += 1;
            *bytes += meta.size;
        }
    }
    if runs.is_empty() {
        return Ok(format!("no run has left anything in {bucket}\n"));
    }
    let mut text = format!("runs that left something in {bucket}, or still go on:\n");
    for (run, (count, bytes)) in runs {
        let _ = writeln!(
            text,
            "  {}  {count} objects, {bytes} bytes",
            nonce_text(run)
        );
    }
    text.push_str("--run NUMBER removes one\n");
    Ok(text)
}

async fn remove(client: &Client, store: &Store, nonce: u64) -> anyhow::Result<String> {
    let bucket = &store.bucket;
    let folder = claim::folder(bucket, nonce);
    let run = nonce_text(nonce);
    match marker(client, &folder).await {
        Ok(text) if text == marker_text(nonce) => {}
        Ok(_) => anyhow::bail!(
            "{folder}/{MARKER} is not what run {run} has put there; nothing was removed"
        ),
        Err(failure) if failure.status() == Some(404) => anyhow::bail!(
            "there is no marker of run {run} in {bucket}, so that nothing below {folder} was \
             removed; without --run the runs that left something are listed"
        ),
        Err(failure) => {
            return Err(
                anyhow::Error::new(failure).context(format!("cannot read {folder}/{MARKER}"))
            );
        }
    }
    let (objects, uploads) = claim::remove_killed(client, store, &folder).await?;
    let uploads = match uploads {
        Ok(count) => format!("aborted {count} uploads"),
        Err(failure) => format!(
            "could not look for uploads in parts, which a killed object_multipart may have left \
             ({failure})"
        ),
    };
    Ok(format!(
        "removed {objects} objects of run {run} from {bucket}, and {uploads}\n"
    ))
}

async fn marker(client: &Client, folder: &Path) -> Result<String, Failure> {
    let path = folder.clone().join(MARKER);
    let read = || async { Ok(client.store.get(&path).await?.bytes().await?) };
    let bytes = client.tried(read).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

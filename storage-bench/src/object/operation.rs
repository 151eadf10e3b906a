//! What is measured: single operations on a store, each verified before it counts as done.

use super::client::{Client, Failure, Trouble};
use super::content::{Content, Version};
use super::wire::Fault;
use futures_util::{StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use reports::measure::{Clock, Ticks};
use std::ops::Range;

/// What an object must be.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Where it is.
    pub path: Path,
    /// What stands in it.
    pub version: Version,
    /// Its length in bytes.
    pub size: u64,
    /// The ETag that its put returned.
    pub e_tag: Option<String>,
}

impl Expected {
    /// Compares what the store says of the object.
    fn check(&self, meta: &ObjectMeta) -> Result<(), Trouble> {
        if meta.size != self.size {
            return Err(Trouble::Wrong(format!(
                "it has {} bytes instead of {}",
                meta.size, self.size
            )));
        }
        match (&self.e_tag, &meta.e_tag) {
            // Some servers quote it in one answer and not in another.
            (Some(put), Some(found)) if put.trim_matches('"') != found.trim_matches('"') => Err(
                Trouble::Wrong(format!("its ETag is {found}, and its put returned {put}")),
            ),
            _ => Ok(()),
        }
    }
}

/// Puts an object with one request. Returns its ETag, if the store gives one.
///
/// # Errors
/// What happened at the last try.
pub async fn put(
    client: &Client,
    path: &Path,
    payload: PutPayload,
) -> Result<Option<String>, Failure> {
    let put = || async { Ok(client.store.put(path, payload.clone()).await?.e_tag) };
    client.tried(put).await
}

/// Reads a part of an object and compares every byte. Returns when the first one came.
///
/// # Errors
/// What happened at the last try, or what was found instead.
pub async fn get(
    client: &Client,
    content: &Content,
    expected: &Expected,
    part: Range<u64>,
    clock: Clock,
) -> Result<Ticks, Failure> {
    let whole = part == (0..expected.size);
    let get = || async {
        let options = GetOptions {
            range: (!whole).then(|| GetRange::Bounded(part.clone())),
            ..GetOptions::default()
        };
        let found = client.store.get_opts(&expected.path, options).await?;
        expected.check(&found.meta)?;
        let (mut at, mut first) = (part.start, None);
        let mut body = found.into_stream();
        while let Some(bytes) = body.try_next().await? {
            first.get_or_insert_with(|| clock.now());
            if at + bytes.len() as u64 > part.end {
                let text = format!("more than the {} bytes asked for", part.end - part.start);
                return Err(Trouble::Wrong(text));
            }
            let compared = content.check(expected.version, at, &bytes);
            compared.map_err(Trouble::Wrong)?;
            at += bytes.len() as u64;
        }
        if at != part.end {
            return Err(Trouble::Fault(Fault::CutOff(format!(
                "after {} of {} bytes",
                at - part.start,
                part.end - part.start
            ))));
        }
        Ok(first.unwrap_or_else(|| clock.now()))
    };
    client.tried(get).await
}

/// Asks for an object's size and ETag, and compares them.
///
/// # Errors
/// As for [`get`].
pub async fn head(client: &Client, expected: &Expected) -> Result<(), Failure> {
    let head = || async {
        let meta = client.store.head(&expected.path).await?;
        expected.check(&meta)
    };
    client.tried(head).await
}

/// Deletes an object with one request.
///
/// # Errors
/// What happened at the last try.
pub async fn delete(client: &Client, path: &Path) -> Result<(), Failure> {
    let delete = || async { Ok(client.store.delete(path).await?) };
    client.tried(delete).await
}

/// Lists everything below a folder, page by page.
///
/// # Errors
/// What happened at the last try.
pub async fn list(client: &Client, folder: &Path) -> Result<Vec<ObjectMeta>, Failure> {
    let list = || async { Ok(client.store.list(Some(folder)).try_collect().await?) };
    client.tried(list).await
}

/// Puts an object in parts of `part_size` bytes, several at a time. Returns its ETag.
///
/// # Errors
/// What happened at the last try; the upload is then aborted.
pub async fn multipart(
    client: &Client,
    content: &Content,
    object: &Expected,
    (part_size, in_flight): (u64, usize),
) -> Result<Option<String>, Failure> {
    let path = &object.path;
    let create = || async { Ok(client.store.create_multipart(path).await?) };
    let id = client.tried(create).await?;
    client.begun(&id, path);
    let done = fill(client, content, object, &id, (part_size, in_flight)).await;
    match done {
        Ok(e_tag) => {
            client.ended(&id);
            Ok(e_tag)
        }
        Err(failure) => {
            // One that cannot be aborted now stays among the open ones, and is tried at the end.
            let _ = abort(client, path, &id).await;
            Err(failure)
        }
    }
}

/// Puts the parts of an upload and completes it.
async fn fill(
    client: &Client,
    content: &Content,
    object: &Expected,
    id: &String,
    (part_size, in_flight): (u64, usize),
) -> Result<Option<String>, Failure> {
    let parts = object.size.div_ceil(part_size);
    let put = |index: u64| async move {
        let part = index * part_size..((index + 1) * part_size).min(object.size);
        let payload = content.payload(object.version, part);
        let put = || {
            let payload = payload.clone();
            async {
                let store = &client.store;
                Ok(store
                    .put_part(&object.path, id, index as usize, payload)
                    .await?)
            }
        };
        client.tried(put).await
    };
    let ids: Vec<PartId> = futures_util::stream::iter(0..parts)
        .map(put)
        .buffered(in_flight)
        .try_collect()
        .await?;
    let complete = || {
        let ids = ids.clone();
        async {
            let completed = client.store.complete_multipart(&object.path, id, ids);
            Ok(completed.await?.e_tag)
        }
    };
    client.tried(complete).await
}

/// Aborts an upload, which frees its parts.
///
/// # Errors
/// What happened at the last try.
pub async fn abort(client: &Client, path: &Path, id: &String) -> Result<(), Failure> {
    let abort = || async { Ok(client.store.abort_multipart(path, id).await?) };
    let aborted = client.tried(abort).await;
    match &aborted {
        // It had ended all the same: an answer was lost.
        Err(failure) if failure.status() == Some(404) => {}
        Err(_) => return aborted,
        Ok(()) => {}
    }
    client.ended(id);
    Ok(())
}

//! What a job does once: a task, and what came of it.

use crate::object::client::{Client, Failure, Trouble};
use crate::object::content::Content;
use crate::object::keys;
use crate::object::operation::{self, Expected};
use object_store::path::Path;
use reports::measure::{Clock, Recorder, Ticks};
use std::sync::Arc;

/// Histograms beside that of all operations.
pub const EXTRAS: &[&str] = &[
    "first_byte_ns",
    "get_lat_ns",
    "head_lat_ns",
    "put_lat_ns",
    "delete_lat_ns",
];

/// The index of `first_byte_ns` among them.
const FIRST_BYTE: usize = 0;

/// What one operation does.
pub enum Task {
    Get(usize, Expected, std::ops::Range<u64>),
    Head(usize, Expected),
    Put(usize, Expected),
    Multipart(usize, Expected, (u64, usize)),
    Delete(usize, Expected),
    List,
}

impl Task {
    /// A failed one in words.
    pub fn told(&self, failure: &Failure) -> String {
        match self {
            Task::Get(_, object, part) => format!(
                "get of bytes {} to {} of {}: {failure}",
                part.start, part.end, object.path
            ),
            Task::Head(_, object) => format!("head of {}: {failure}", object.path),
            Task::Put(_, object) => format!("put of {}: {failure}", object.path),
            Task::Multipart(_, object, _) => {
                format!("upload in parts of {}: {failure}", object.path)
            }
            Task::Delete(_, object) => format!("delete of {}: {failure}", object.path),
            Task::List => format!("list: {failure}"),
        }
    }
}

/// One operation that has ended.
pub struct Done {
    pub task: Task,
    pub start: Ticks,
    pub end: Ticks,
    pub first_byte: Option<Ticks>,
    /// Which histogram beside the main one it belongs to.
    pub extra: Option<usize>,
    pub bytes: u64,
    pub e_tag: Option<String>,
    pub listed: u64,
    pub failure: Option<Failure>,
}

impl Done {
    /// Records its latencies.
    pub fn record(&self, rec: &mut Recorder) {
        let clock = rec.clock();
        let since = |end: Ticks| clock.ns(end.saturating_sub(self.start));
        rec.record_ns(since(self.end));
        if let Some(first) = self.first_byte {
            rec.record_extra(FIRST_BYTE, since(first));
        }
        if let Some(extra) = self.extra {
            rec.record_extra(extra, since(self.end));
        }
    }
}

/// What all operations of a job share.
pub struct Shared {
    pub client: Arc<Client>,
    pub content: Arc<Content>,
    pub folder: Path,
    pub objects: usize,
    pub size: u64,
    pub clock: Clock,
    pub mixed: bool,
}

/// Does one operation and stamps it.
pub async fn perform(shared: Arc<Shared>, task: Task) -> Done {
    let (client, content, clock) = (&*shared.client, &*shared.content, shared.clock);
    let mut done = Done {
        start: clock.now(),
        end: 0,
        first_byte: None,
        extra: extra(shared.mixed, &task),
        bytes: 0,
        e_tag: None,
        listed: 0,
        failure: None,
        task,
    };
    let outcome = match &done.task {
        Task::Get(_, object, part) => {
            done.bytes = part.end - part.start;
            let read = operation::get(client, content, object, part.clone(), clock).await;
            read.map(|first| done.first_byte = Some(first))
        }
        Task::Head(_, object) => operation::head(client, object).await,
        Task::Put(_, object) => {
            done.bytes = object.size;
            let payload = content.payload(object.version, 0..object.size);
            let put = operation::put(client, &object.path, payload).await;
            put.map(|e_tag| done.e_tag = e_tag)
        }
        Task::Multipart(_, object, parts) => {
            done.bytes = object.size;
            let put = operation::multipart(client, content, object, *parts).await;
            put.map(|e_tag| done.e_tag = e_tag)
        }
        Task::Delete(_, object) => operation::delete(client, &object.path).await,
        Task::List => {
            let listed = list(&shared).await;
            listed.map(|count| done.listed = count)
        }
    };
    done.end = clock.now();
    done.failure = outcome.err();
    done
}

/// The index in [`EXTRAS`] of an operation of a mix.
fn extra(mixed: bool, task: &Task) -> Option<usize> {
    let index = match task {
        Task::Get(..) => 1,
        Task::Head(..) => 2,
        Task::Put(..) | Task::Multipart(..) => 3,
        Task::Delete(..) => 4,
        Task::List => return None,
    };
    mixed.then_some(index)
}

/// Lists the job's objects and compares names, order and sizes.
async fn list(shared: &Shared) -> Result<u64, Failure> {
    let found = operation::list(&shared.client, &shared.folder).await?;
    let wrong = |text: String| Failure {
        trouble: Trouble::Wrong(text),
        tries: 1,
    };
    if found.len() != shared.objects {
        return Err(wrong(format!(
            "{} objects were listed instead of {}",
            found.len(),
            shared.objects
        )));
    }
    for (index, meta) in found.iter().enumerate() {
        let name = meta.location.filename().unwrap_or_default();
        if name != keys::name(index) || meta.size != shared.size {
            return Err(wrong(format!(
                "{} of {} bytes was listed where {} of {} bytes was expected",
                meta.location,
                meta.size,
                keys::name(index),
                shared.size
            )));
        }
    }
    Ok(found.len() as u64)
}

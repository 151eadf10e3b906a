//! One rank's part of a phase, from the opening of its file to the closing, each step timed apart.
//!
//! Times count from the barrier at the beginning of the phase. Nothing in here communicates, so a
//! rank that fails comes to the end of the phase as all others do, and is heard there.

use super::mover::{self, Data, Work};
use super::spec::SharedSpec;
use crate::engine::{Engine, Kind, Opening};
use crate::sys::Buffers;
use anyhow::Context;
use reports::measure::{Latencies, histogram_record, new_histogram};
use reports::model::Unavailable;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one rank's phase came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Times {
    /// The opening of the file.
    pub open_ns: u64,
    /// The transfers.
    pub transfer_ns: u64,
    /// The flushing.
    pub fsync_ns: u64,
    /// The closing.
    pub close_ns: u64,
    /// From the barrier to the end of the closing.
    pub total_ns: u64,
    /// How many transfers there were.
    pub transfers: u64,
    /// How many until the stonewall, and when its last one ended.
    pub stonewall: Option<(u64, u64)>,
    /// Bytes that the storage layer fetched for this process.
    pub fetched_bytes: Option<u64>,
    /// Latencies of transfers, as a report carries them.
    pub latencies: String,
}

/// A file that is open for a phase, and the engine on it.
pub struct Opened<'a, E> {
    spec: &'a SharedSpec,
    engine: E,
    file: Arc<File>,
    kind: Kind,
    began: Instant,
    latencies: Latencies,
    times: Times,
}

/// Buffers of a rank's phase, filled if it is to write.
///
/// # Errors
/// There is no memory for them.
pub fn buffers(spec: &SharedSpec, writes: Option<&Data>) -> anyhow::Result<Buffers> {
    // Bounded by 1 GiB when the options were checked.
    let mut buffers = Buffers::new(spec.iodepth, spec.transfer as usize)?;
    if let Some(data) = writes {
        mover::prefill(&mut buffers, data);
    }
    Ok(buffers)
}

impl<'a, E: Engine> Opened<'a, E> {
    /// Opens a file; `began` is when the barrier ended.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open(
        spec: &'a SharedSpec,
        path: &Path,
        kind: Kind,
        buffers: Buffers,
        began: Instant,
    ) -> anyhow::Result<Self> {
        let file = Arc::new(open(path, kind, spec.direct)?);
        let open_ns = nanoseconds(began.elapsed());
        let engine = E::open(Opening {
            file: Arc::clone(&file),
            buffers,
            options: spec.options.clone(),
        })?;
        Ok(Self {
            spec,
            engine,
            file,
            kind,
            began,
            latencies: Latencies::default(),
            times: Times {
                open_ns,
                ..Times::default()
            },
        })
    }

    /// Moves transfers, until the stonewall if there is one.
    ///
    /// # Errors
    /// The first transfer that failed.
    pub fn transfer(
        &mut self,
        data: &Data,
        indexes: &[u64],
        stonewall: Option<Duration>,
        say: &dyn Fn(u64),
    ) -> anyhow::Result<()> {
        let since = Instant::now();
        let work = Work {
            kind: self.kind,
            data,
            indexes,
            until: stonewall.map(|stonewall| self.began + stonewall),
            check: self.spec.check_read,
            say,
        };
        let depth = self.spec.iodepth;
        let moved = mover::run(&mut self.engine, depth, &work, &mut self.latencies)?;
        self.times.transfers += moved;
        self.times.transfer_ns += nanoseconds(since.elapsed());
        if stonewall.is_some() {
            self.times.stonewall = Some((moved, nanoseconds(self.began.elapsed())));
        }
        Ok(())
    }

    /// How many transfers were moved so far.
    pub fn transfers(&self) -> u64 {
        self.times.transfers
    }

    /// What the engine is.
    pub fn engine(&self) -> serde_json::Value {
        self.engine.facts()
    }

    /// Flushes, if it was asked for, and closes.
    ///
    /// # Errors
    /// What the kernel says of it: network file systems tell of failed writes here.
    pub fn close(mut self) -> anyhow::Result<Times> {
        if self.kind == Kind::Write && self.spec.fsync {
            let since = Instant::now();
            self.file
                .sync_all()
                .context("cannot flush what was written")?;
            self.times.fsync_ns = nanoseconds(since.elapsed());
        }
        let since = Instant::now();
        // The engine first: it has the file too, and only the last one to go closes it.
        drop(self.engine);
        close(self.file)?;
        self.times.close_ns = nanoseconds(since.elapsed());
        self.times.total_ns = nanoseconds(self.began.elapsed());
        let mut histogram = new_histogram();
        self.latencies.add_to(&mut histogram);
        self.times.latencies = histogram_record("lat_ns", &histogram).hdr_v2_base64;
        Ok(self.times)
    }
}

fn close(file: Arc<File>) -> anyhow::Result<()> {
    match Arc::into_inner(file) {
        Some(file) => nix::unistd::close(file).context("cannot close the file"),
        None => anyhow::bail!("the engine still holds the file that is to be closed"),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The name of a file.
#[must_use]
pub fn path_of(folder: &Path, file: usize) -> PathBuf {
    folder.join(format!("data.{file:08}"))
}

/// Opens a file of a run for reading or for writing.
///
/// # Errors
/// What the kernel says; [`Unavailable`] where direct I/O is not to be had.
pub fn open(path: &Path, kind: Kind, direct: bool) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    match kind {
        Kind::Read => options.read(true),
        // All ranks open a shared file, and the first one makes it.
        _ => options.write(true).create(true).truncate(false).mode(0o600),
    };
    let mut flags = libc::O_NOFOLLOW;
    if direct {
        flags |= libc::O_DIRECT;
    }
    options.custom_flags(flags).open(path).map_err(|error| {
        if direct && error.raw_os_error() == Some(libc::EINVAL) {
            return Unavailable(format!(
                "direct I/O on {}: the file system does not support O_DIRECT; use --direct false",
                path.display()
            ))
            .into();
        }
        anyhow::anyhow!("cannot open {} to {}: {error}", path.display(), kind.verb())
    })
}

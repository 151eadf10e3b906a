//! The guard: what may be touched, and how it is opened.
//!
//! Three rules. Nothing is written that this process did not create. Nothing is created under
//! /dev, where a mistyped device name would otherwise become a file in memory. A block device is
//! opened read-only and exclusively, and held, so that a device that is mounted, swapped to or
//! part of another is refused by the kernel and not by our guesses about names.

mod busy;
mod machine;
mod scratch;

pub use machine::{BlockDevice, Machine};

use crate::spec::{Place, Rw, SECTOR, Spec, human, usage};
use crate::workload::job::Expected;
use anyhow::Context;
use nix::fcntl::{FcntlArg, OFlag, PosixFadviseAdvice, fcntl, posix_fadvise};
use reports::model::{Severity, Unavailable, Validity};
use serde_json::{Value, json};
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An opened target.
#[derive(Debug)]
pub struct Target {
    /// What the jobs read and write.
    pub file: Arc<File>,
    /// What to call it in errors.
    pub name: String,
    /// What is to be found in it.
    pub expected: Expected,
    /// What it is, for the report.
    pub facts: Value,
    /// What its nature means for the numbers.
    pub validity: Validity,
}

/// Looks at what `file` is to work on, and touches nothing. Returns the size of a file that is
/// already there.
///
/// # Errors
/// [`reports::program::Usage`]: why this cannot be a target, and what to do.
pub fn inspect_file(place: &Place, rw: Rw) -> anyhow::Result<Option<u64>> {
    match place {
        Place::Scratch(dir) => {
            check_folder("--dir", dir)?;
            Ok(None)
        }
        Place::File(path) => match fs::metadata(path) {
            Ok(found) => check_existing(path, &found, rw).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check_new(path)?;
                Ok(None)
            }
            Err(error) => Err(usage(format!("--filename {}: {error}", path.display()))),
        },
        Place::Nowhere | Place::Device(_) => Ok(None),
    }
}

fn check_existing(path: &Path, found: &Metadata, rw: Rw) -> anyhow::Result<u64> {
    let refused = |why: &str| Err(usage(format!("--filename {}: {why}", path.display())));
    let kind = found.file_type();
    if kind.is_block_device() {
        return refused("it is a block device; read it with `storage-bench block --device`");
    }
    if kind.is_dir() {
        return refused("it is a folder; for a scratch file in it use --dir");
    }
    if !kind.is_file() {
        let what = format!("it is {}, not a regular file", kind_name(kind));
        return refused(&what);
    }
    if rw.writes() {
        return refused(
            "it exists, and files that this program did not create are only read; name a file \
             that does not exist yet, or leave --filename out for a scratch file",
        );
    }
    if found.len() == 0 {
        return refused("it is empty; there is nothing to read");
    }
    Ok(found.len())
}

fn check_new(path: &Path) -> anyhow::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        let text = "it is a symbolic link that leads nowhere; name the file itself";
        return Err(usage(format!("--filename {}: {text}", path.display())));
    }
    if path.file_name().is_none() {
        return Err(usage(format!(
            "--filename {}: this names no file",
            path.display()
        )));
    }
    check_folder("--filename", folder_of(path))
}

fn check_folder(option: &str, dir: &Path) -> anyhow::Result<()> {
    let refused = |why: String| usage(format!("{option}: folder {}: {why}", dir.display()));
    let real = dir
        .canonicalize()
        .map_err(|error| refused(error.to_string()))?;
    if !real.is_dir() {
        return Err(refused("it is not a folder".to_owned()));
    }
    if real.starts_with("/dev") {
        return Err(refused(
            "nothing is ever created under /dev; to read a device use `storage-bench block \
             --device`"
                .to_owned(),
        ));
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn kind_name(kind: FileType) -> &'static str {
    if kind.is_char_device() {
        "a character device"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_file() {
        "a regular file"
    } else {
        "of a kind unknown to this program"
    }
}

/// Looks at a block device without opening it. Returns its size.
///
/// # Errors
/// [`reports::program::Usage`]: why this cannot be a target, and what to do.
pub fn inspect_device(path: &Path, rw: Rw) -> anyhow::Result<u64> {
    let refused = |why: &str| usage(format!("--device {}: {why}", path.display()));
    if rw.writes() {
        return Err(refused(
            "block devices are only read; use --rw read or randread",
        ));
    }
    let found = fs::metadata(path).map_err(|error| refused(&error.to_string()))?;
    let kind = found.file_type();
    if !kind.is_block_device() {
        let what = format!(
            "it is {}, not a block device; `lsblk` lists those",
            kind_name(kind)
        );
        return Err(refused(&what));
    }
    let device = Machine::default()
        .block_device(found.rdev())
        .map_err(|error| refused(&error))?;
    match device.bytes {
        0 => Err(refused("its size is 0: it is not set up, or has no medium")),
        bytes => Ok(bytes),
    }
}

/// The size in use: what was asked for, all of what exists, or the default for what is created.
///
/// # Errors
/// [`reports::program::Usage`] if more is asked for than exists.
pub fn choose_size(
    asked: Option<u64>,
    existing: Option<u64>,
    default: u64,
    place: &Place,
) -> anyhow::Result<u64> {
    match (asked, existing) {
        (Some(asked), Some(existing)) if asked > existing => Err(usage(format!(
            "--size {}: larger than {}, which has {existing} bytes",
            human(asked),
            name_of(place)
        ))),
        (Some(asked), _) => Ok(asked),
        (None, existing) => Ok(existing.unwrap_or(default)),
    }
}

/// Checks direct I/O's block size against the device's, as far as the device is known.
///
/// # Errors
/// [`reports::program::Usage`] with the size that the device wants.
pub fn check_alignment(spec: &Spec) -> anyhow::Result<()> {
    let device = match &spec.place {
        Place::Nowhere => return Ok(()),
        Place::Device(path) => fs::metadata(path).map(|found| found.rdev()),
        Place::Scratch(dir) => fs::metadata(dir).map(|found| found.dev()),
        Place::File(path) => fs::metadata(path)
            .or_else(|_| fs::metadata(folder_of(path)))
            .map(|found| found.dev()),
    };
    // Where the device is not known, the kernel refuses what it must when I/O begins.
    let known = device
        .ok()
        .and_then(|device| Machine::default().block_device(device).ok());
    let unit = known
        .and_then(|device| device.logical_block)
        .unwrap_or(SECTOR);
    if spec.direct && !spec.bs.is_multiple_of(unit) {
        return Err(usage(format!(
            "--bs {}: direct I/O takes multiples of the logical block size, which is {unit} bytes \
             here; use --bs {} or --direct false",
            human(spec.bs),
            human(spec.bs.next_multiple_of(unit))
        )));
    }
    Ok(())
}

fn name_of(place: &Place) -> String {
    match place {
        Place::Nowhere => "nothing".to_owned(),
        Place::Scratch(dir) => format!("the scratch file in {}", dir.display()),
        Place::File(path) | Place::Device(path) => path.display().to_string(),
    }
}

/// Opens the target, creating and laying out what is to be created.
///
/// # Errors
/// What the guard or the kernel refuses; [`Unavailable`] where this machine cannot do it.
pub fn open(spec: &Spec, nonce: u64) -> anyhow::Result<Target> {
    let name = name_of(&spec.place);
    let (file, expected, kind) = match &spec.place {
        Place::Nowhere => (open_nowhere()?, Expected::Echo, "none"),
        Place::Device(path) => (open_device(path, spec)?, Expected::Unknown, "block device"),
        Place::File(path) if path.exists() => (
            open_existing(path, spec)?,
            Expected::Unknown,
            "existing file",
        ),
        Place::File(path) => {
            let file = scratch::named(path)?;
            let content = lay_out(&file, &name, spec, nonce)?;
            (file, Expected::Known(content), "scratch file")
        }
        Place::Scratch(dir) => {
            let file = scratch::nameless(dir)?;
            let content = lay_out(&file, &name, spec, nonce)?;
            (file, Expected::Known(content), "scratch file")
        }
    };
    if spec.invalidate && spec.place != Place::Nowhere {
        // Advice: where it is not taken (tmpfs), the flags below say what that means.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
    let mut target = Target {
        file: Arc::new(file),
        name,
        expected,
        facts: json!({"kind": kind}),
        validity: Validity::default(),
    };
    if spec.place != Place::Nowhere {
        target.describe(spec)?;
    }
    Ok(target)
}

fn lay_out(
    file: &File,
    name: &str,
    spec: &Spec,
    nonce: u64,
) -> anyhow::Result<crate::workload::content::Content> {
    // Asked first, so that a refusal does not cost the time of a layout.
    if spec.direct {
        set_direct(file, true).map_err(|error| direct_refused(name, error))?;
        set_direct(file, false).with_context(|| format!("cannot prepare {name}"))?;
    }
    let content = scratch::lay_out(file, name, spec.size, spec.bs, nonce)?;
    if spec.direct {
        set_direct(file, true).map_err(|error| direct_refused(name, error))?;
    }
    Ok(content)
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_DIRECT, direct);
    fcntl(file, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

fn direct_refused(name: &str, error: io::Error) -> anyhow::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::EOPNOTSUPP) => Unavailable(format!(
            "direct I/O on {name}: the file system does not support O_DIRECT ({error}); use \
             --direct false, or a place on another file system"
        ))
        .into(),
        _ => anyhow::anyhow!("cannot open {name} with O_DIRECT: {error}"),
    }
}

/// A file that nothing reads: the null engine wants one like every other.
fn open_nowhere() -> anyhow::Result<File> {
    File::open("/dev/null").context("cannot open /dev/null")
}

fn open_existing(path: &Path, spec: &Spec) -> anyhow::Result<File> {
    // O_NONBLOCK: should the file have become a FIFO meanwhile, opening it must not hang.
    let mut flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    if spec.direct {
        flags |= libc::O_DIRECT;
    }
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL) if spec.direct => direct_refused(&path.display().to_string(), error),
        _ => anyhow::anyhow!("cannot open {}: {error}", path.display()),
    })?;
    let found = file
        .metadata()
        .with_context(|| format!("cannot examine {}", path.display()))?;
    check_existing(path, &found, spec.rw)?;
    Ok(file)
}

/// How long a device may still be held by a process that has just ended: the kernel tears an
/// io_uring down some time after its last descriptor was closed.
const LINGERING: Duration = Duration::from_secs(1);

fn open_device(path: &Path, spec: &Spec) -> anyhow::Result<File> {
    let mut flags = libc::O_EXCL | libc::O_NONBLOCK;
    if spec.direct {
        flags |= libc::O_DIRECT;
    }
    let started = Instant::now();
    loop {
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let error = match opened {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        return Err(match error.raw_os_error() {
            Some(libc::EBUSY) => match busy::explain(&Machine::default(), path) {
                None if started.elapsed() < LINGERING => {
                    std::thread::sleep(LINGERING / 20);
                    continue;
                }
                reason => anyhow::anyhow!(
                    "cannot read {} for itself alone: it is in use ({})",
                    path.display(),
                    reason.as_deref().unwrap_or(
                        "by another process that opened it exclusively, or in another mount \
                         namespace"
                    )
                ),
            },
            Some(libc::EACCES | libc::EPERM) => Unavailable(format!(
                "reading {}: {error}; it takes root, or membership in the device's group",
                path.display()
            ))
            .into(),
            _ => anyhow::anyhow!("cannot open {}: {error}", path.display()),
        });
    }
}

impl Target {
    /// Notes what the target is, and what that means for the numbers.
    fn describe(&mut self, spec: &Spec) -> anyhow::Result<()> {
        let found = self
            .file
            .metadata()
            .with_context(|| format!("cannot examine {}", self.name))?;
        let machine = Machine::default();
        let is_device = found.file_type().is_block_device();
        let number = if is_device { found.rdev() } else { found.dev() };
        let device = match machine.block_device(number) {
            Ok(device) => device.facts(),
            Err(reason) => json!({"unavailable": reason}),
        };
        let access = if spec.direct { "direct" } else { "buffered" };
        let mut facts = json!({"kind": self.facts["kind"], "access": access, "bytes": spec.size});
        facts["device"] = device;
        if !is_device {
            let place = self.folder(spec);
            let kind = machine.file_system(&place);
            if let Ok(kind) = &kind
                && matches!(kind.as_str(), "tmpfs" | "ramfs" | "devtmpfs")
            {
                let evidence = format!("the file lies in {kind}, which is memory");
                self.validity
                    .flag(Severity::Degraded, "memory_file_system", evidence);
            }
            facts["file_system"] = kind.map_or_else(|why| json!({"unavailable": why}), Value::from);
            self.flag_holes(spec, &found);
        }
        if !spec.direct {
            self.flag_page_cache(spec, &machine);
        }
        self.facts = facts;
        Ok(())
    }

    fn folder(&self, spec: &Spec) -> PathBuf {
        match &spec.place {
            Place::Scratch(dir) => dir.clone(),
            Place::File(path) if path.exists() => path.clone(),
            Place::File(path) => folder_of(path).to_owned(),
            Place::Nowhere | Place::Device(_) => PathBuf::from("/"),
        }
    }

    fn flag_holes(&mut self, spec: &Spec, found: &Metadata) {
        let stored = found.blocks() * SECTOR;
        if matches!(self.expected, Expected::Unknown) && stored < found.len() / 10 * 9 {
            let evidence = format!(
                "only {stored} of the file's {} bytes are stored: it has holes or is compressed, \
                 and reading those parts asks nothing of the device",
                found.len()
            );
            self.validity
                .flag(Severity::Degraded, "sparse_file", evidence);
        }
        if spec.size < found.len() && matches!(self.expected, Expected::Unknown) {
            let evidence = format!("the first {} of {} bytes are used", spec.size, found.len());
            self.validity
                .flag(Severity::Info, "part_of_the_file", evidence);
        }
    }

    fn flag_page_cache(&mut self, spec: &Spec, machine: &Machine) {
        let Ok(memory) = machine.memory_bytes() else {
            return;
        };
        let evidence = if spec.rw.writes() {
            "--direct false: writes end in memory, and flushing them is not timed".to_owned()
        } else if spec.size < memory {
            format!(
                "--direct false: {} fit into the machine's {:.0} GiB of memory, so that reads are \
                 answered from there",
                human(spec.size),
                memory as f64 / f64::from(1 << 30)
            )
        } else {
            return;
        };
        self.validity
            .flag(Severity::Degraded, "page_cache", evidence);
    }
}

#[cfg(test)]
mod tests;

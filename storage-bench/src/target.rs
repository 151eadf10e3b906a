//! The guard: what may be touched, and how it is opened.
//!
//! Three rules. Of files only those are written that this process created; of devices only those
//! that the user has named by their serial number, with everything that is recognised on them.
//! Nothing is created under /dev, where a mistyped device name would otherwise become a file in
//! memory. A block device is opened exclusively and held, so that a device that is mounted, swapped
//! to or part of another is refused by the kernel and not by our guesses about names.

mod busy;
mod device;
mod file;
mod folder;
mod identity;
mod kept;
mod machine;
mod scratch;
mod shared;
mod signature;

pub use device::{Wish, changes};
pub use file::inspect as inspect_file;
pub use folder::Folder;
pub use kept::{Kept, check_journal, open_for_proof, remove_kept, sync_folder_of};
pub use machine::{BlockDevice, Machine, unescape};
pub use shared::SharedScratch;

use crate::spec::{Place, SECTOR, Spec, human, usage};
use crate::sys::direct_alignment;
use crate::workload::content::Content;
use crate::workload::job::Expected;
use crate::workload::journal::Journal;
use anyhow::Context;
use file::folder_of;
use nix::fcntl::{FcntlArg, OFlag, PosixFadviseAdvice, fcntl, posix_fadvise};
use reports::model::{Severity, Unavailable, Validity};
use serde_json::{Value, json};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;

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
    /// Where writes to it are written down.
    pub journal: Option<Arc<Journal>>,
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

/// Checks direct I/O's block size against what the target is known to demand.
///
/// # Errors
/// [`reports::program::Usage`] with the size that it wants.
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
    match spec.direct && !spec.pattern.unit().is_multiple_of(unit) {
        true => Err(usage(misaligned(spec, unit))),
        false => Ok(()),
    }
}

fn misaligned(spec: &Spec, unit: u64) -> String {
    format!(
        "--bs {}: direct I/O takes multiples of the logical block size, which is {unit} bytes \
         here; use --bs {} or --direct false",
        human(spec.pattern.unit()),
        human(spec.pattern.unit().next_multiple_of(unit))
    )
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
    let mut destroyed = None;
    let scratch = |made: &dyn Fn() -> anyhow::Result<File>| {
        let laid = || lay_out(made()?, &name, spec, nonce);
        let (file, content) = spec.shared.get_or(laid)?;
        anyhow::Ok((file, Expected::Known(content), "scratch file"))
    };
    let (file, expected, kind) = match &spec.place {
        Place::Nowhere => (Arc::new(open_nowhere()?), Expected::Echo, "none"),
        Place::Device(path) => {
            let wish = Wish {
                path,
                rw: spec.pattern.rw,
                destroy: spec.destroy.as_deref(),
                flags: spec.pattern.sync.flags(),
            };
            let held = wish.hold()?;
            destroyed = held.destroyed;
            let content = Content::over_foreign(nonce).sealed(spec.verify.sealed());
            let expected = match destroyed {
                Some(_) => Expected::Known(content),
                None => Expected::Unknown,
            };
            (Arc::new(held.file), expected, "block device")
        }
        Place::File(path) => match file::existing(path, spec.pattern.rw)? {
            Some(file) => (Arc::new(file), Expected::Unknown, "existing file"),
            None if spec.verify.journal.is_some() => {
                let (file, content) = lay_out(kept::create(path)?, &name, spec, nonce)
                    .and_then(|made| sync_folder_of(path).map(|()| made))
                    .inspect_err(|_| remove_kept(spec))?;
                (Arc::new(file), Expected::Known(content), "kept file")
            }
            None => scratch(&|| file::create(path))?,
        },
        Place::Scratch(dir) => scratch(&|| Folder::open("--dir", dir)?.nameless())?,
    };
    if spec.place != Place::Nowhere {
        set_direct(&file, spec.direct).map_err(|error| direct_refused(&name, error))?;
        check_opened(&file, &name, spec)?;
    }
    if spec.invalidate && spec.place != Place::Nowhere {
        // Advice: where it is not taken (tmpfs), the flags below say what that means.
        let _ = posix_fadvise(&*file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
    let mut target = Target {
        file,
        name,
        expected,
        facts: json!({"kind": kind}),
        validity: Validity::default(),
        journal: None,
    };
    if spec.place != Place::Nowhere {
        target.describe(spec)?;
    }
    if let Some(mut destroyed) = destroyed {
        destroyed["bytes"] = json!(spec.size);
        target.facts["destroyed"] = destroyed;
    }
    Ok(target)
}

/// Fills a file that was just created.
fn lay_out(file: File, name: &str, spec: &Spec, nonce: u64) -> anyhow::Result<(File, Content)> {
    // Asked first, so that a refusal does not cost the time of a layout.
    set_direct(&file, spec.direct).map_err(|error| direct_refused(name, error))?;
    check_opened(&file, name, spec)?;
    set_direct(&file, false).with_context(|| format!("cannot prepare {name}"))?;
    let range = spec.offset..spec.offset + spec.size;
    let content = Content::new(nonce).sealed(spec.verify.sealed());
    scratch::lay_out(&file, name, range, spec.pattern.unit(), content)?;
    let file = scratch::synchronous(file, name, spec.pattern.sync)?;
    Ok((file, content))
}

/// Whether an opened file takes direct I/O at all, and at this block size.
fn check_opened(file: &File, name: &str, spec: &Spec) -> anyhow::Result<()> {
    if !spec.direct {
        return Ok(());
    }
    match direct_alignment(file) {
        Ok(Some(0)) => Err(direct_refused(
            name,
            io::Error::from_raw_os_error(libc::EOPNOTSUPP),
        )),
        Ok(Some(unit)) if !spec.pattern.unit().is_multiple_of(unit) => {
            Err(anyhow::anyhow!("{name}: {}", misaligned(spec, unit)))
        }
        // What the kernel does not tell, it refuses when I/O begins.
        _ => Ok(()),
    }
}

/// Sets or clears O_DIRECT. O_NONBLOCK, with which devices are opened so that none is waited for, is
/// cleared: io_uring would hand its EAGAIN to us instead of waiting.
fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_DIRECT, direct);
    flags.remove(OFlag::O_NONBLOCK);
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
            let evidence = format!(
                "{} of {} bytes are used, from byte {} on",
                spec.size,
                found.len(),
                spec.offset
            );
            self.validity
                .flag(Severity::Info, "part_of_the_file", evidence);
        }
    }

    fn flag_page_cache(&mut self, spec: &Spec, machine: &Machine) {
        let Ok(memory) = machine.memory_bytes() else {
            return;
        };
        let pattern = &spec.pattern;
        let evidence = if pattern.rw.writes() && !pattern.flushes() {
            "--direct false: writes end in memory, and flushing them is not timed".to_owned()
        } else if pattern.rw.reads() && spec.size < memory {
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

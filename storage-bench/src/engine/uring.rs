//! The io_uring engine: everything queued goes to the kernel in one call that also waits, and
//! everything that has ended comes back together.

use super::passthrough::Namespace;
use super::{Completion, Engine, Kind, Op, Opening, Wait, trim};
use crate::spec::EngineOptions;
use crate::sys::{Features, Form, Nothing, Passthrough, ReadWrite, Ring, Setup};
use crate::target::Machine;
use io_uring::IoUring;
use reports::case::Availability;
use reports::model::{Flag, Severity, Unavailable};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::Arc;

/// What goes through a ring.
pub trait Requests: Sized + Send {
    /// How it is written down.
    type Form: Form;

    /// The form, and the file that takes it.
    ///
    /// # Errors
    /// Why the opened file takes none.
    fn prepare(opening: &Opening) -> anyhow::Result<(Self::Form, Arc<File>)>;
}

/// Reads and writes of files and block devices.
pub struct Files;

impl Requests for Files {
    type Form = ReadWrite;

    fn prepare(opening: &Opening) -> anyhow::Result<(ReadWrite, Arc<File>)> {
        Ok((ReadWrite::default(), Arc::clone(&opening.file)))
    }
}

/// Requests to do nothing.
pub struct Nops;

impl Requests for Nops {
    type Form = Nothing;

    fn prepare(opening: &Opening) -> anyhow::Result<(Nothing, Arc<File>)> {
        Ok((Nothing, Arc::clone(&opening.file)))
    }
}

/// Commands of the NVMe namespace whose block device was opened.
pub struct Commands;

impl Requests for Commands {
    type Form = Passthrough;

    fn prepare(opening: &Opening) -> anyhow::Result<(Passthrough, Arc<File>)> {
        let namespace = Namespace::of(&Machine::default(), &opening.file)?;
        let file = namespace.open(&opening.file, opening.buffers.bytes())?;
        Ok((namespace.form(&file)?, Arc::new(file)))
    }
}

/// How trims reach the kernel, and whether there were any.
struct Trims {
    file: Arc<File>,
    /// Why a device's blocks cannot be discarded through the ring, where they cannot.
    by_ioctl: Option<String>,
    /// Those that wait for the ioctl.
    waiting: Vec<Op>,
    seen: bool,
}

impl Trims {
    /// Asks the kernel whether it takes discards through the ring (Linux 6.12), by one of no blocks:
    /// who knows the command calls that invalid.
    fn new<M: Form>(file: Arc<File>, ring: Option<&mut Ring<File, M>>) -> anyhow::Result<Self> {
        let mut by_ioctl = None;
        if let Some(ring) = ring.filter(|_| trim::discards(&file)) {
            let mut done = Vec::with_capacity(1);
            ring.discard_blocks();
            ring.queue(Op {
                kind: Kind::Trim,
                offset: 0,
                len: 0,
                buffer: 0,
            });
            ring.exchange(&mut done, Wait::One)?;
            let result = done.first().map_or(0, |completion| completion.result);
            by_ioctl = (result != -libc::EINVAL)
                .then(|| io::Error::from_raw_os_error(-result).to_string());
        }
        Ok(Self {
            file,
            by_ioctl,
            waiting: Vec::new(),
            seen: false,
        })
    }

    /// Whether the ring is to take it.
    #[cold]
    fn passes(&mut self, op: Op) -> bool {
        self.seen = true;
        if self.by_ioctl.is_some() {
            self.waiting.push(op);
        }
        self.by_ioctl.is_none()
    }

    fn facts(&self) -> Value {
        match (&self.by_ioctl, trim::discards(&self.file)) {
            (Some(why), _) => json!(format!("ioctl(BLKDISCARD), through the ring: {why}")),
            (None, true) => json!("BLOCK_URING_CMD_DISCARD"),
            (None, false) => json!("IORING_OP_FALLOCATE, FALLOC_FL_PUNCH_HOLE"),
        }
    }
}

/// See the module.
pub struct Uring<R: Requests> {
    ring: Ring<File, R::Form>,
    features: Features,
    options: EngineOptions,
    /// Whether completions are really polled for, if they are to be.
    polling: Result<Value, String>,
    trims: Trims,
}

impl<R: Requests> Engine for Uring<R> {
    const MOVES: bool = <R::Form as Form>::MOVES;
    const HELPED: bool = true;

    fn open(opening: Opening) -> anyhow::Result<Self> {
        let (form, file) = R::prepare(&opening)?;
        let polling = polling(&Machine::default(), &opening.file);
        let Opening {
            file: target,
            buffers,
            options,
        } = opening;
        let setup = Setup {
            polled: options.hipri,
            kernel_thread: options.sqthread_poll.then_some(options.sqthread_poll_cpu),
            register_file: options.registerfiles,
            register_buffers: options.fixedbufs && R::Form::MOVES,
            complete_min: options.iodepth_batch_complete_min,
            complete_max: options.iodepth_batch_complete_max.unwrap_or(usize::MAX),
            force_async: options.force_async,
        };
        let made = Ring::new(file, buffers, form, &setup);
        let (mut ring, features) = made.map_err(|error| refusal(&error, &options))?;
        // Commands of a device and polled rings have no trims.
        let asked = !options.uring_cmd && !options.hipri;
        let trims = Trims::new(target, asked.then_some(&mut ring))?;
        Ok(Self {
            ring,
            features,
            options,
            polling,
            trims,
        })
    }

    #[inline(always)]
    fn queue(&mut self, op: Op) {
        if op.kind != Kind::Trim || self.trims.passes(op) {
            self.ring.queue(op);
        }
    }

    #[inline]
    fn submit(&mut self) -> io::Result<()> {
        self.ring.submit()
    }

    #[inline]
    fn exchange(&mut self, done: &mut Vec<Completion>, mut wait: Wait) -> io::Result<()> {
        while let Some(op) = self.trims.waiting.pop() {
            done.push(Completion {
                buffer: op.buffer,
                result: trim::perform(&self.trims.file, op),
            });
            wait = Wait::No;
        }
        self.ring.exchange(done, wait)
    }

    #[inline]
    fn buffer(&self, index: usize) -> &[u8] {
        self.ring.buffer(index)
    }

    #[inline]
    fn buffer_mut(&mut self, index: usize) -> &mut [u8] {
        self.ring.buffer_mut(index)
    }

    fn facts(&self) -> Value {
        let granted = |result: &Result<(), String>| match result {
            Ok(()) => json!(true),
            Err(reason) => json!({"unavailable": reason}),
        };
        let wanted = |result: &Option<Result<(), String>>| match result {
            Some(result) => granted(result),
            None => json!(false),
        };
        let mut facts = json!({
            "name": "uring",
            "setup_flags": self.features.setup_flags,
            "registered_ring": granted(&self.features.registered_ring),
            "registered_file": wanted(&self.features.registered_file),
            "registered_buffers": wanted(&self.features.registered_buffers),
        });
        if self.trims.seen {
            facts["trims"] = self.trims.facts();
        }
        if !self.features.refused.is_empty() {
            facts["refused_flags"] = json!(self.features.refused);
        }
        if self.options.uring_cmd {
            facts["requests"] = json!("NVMe commands");
        }
        if self.options.hipri {
            facts["polling"] = match &self.polling {
                Ok(queues) => queues.clone(),
                Err(reason) => json!({"unavailable": reason}),
            };
        }
        facts
    }

    fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        let mut flag = |code: &str, evidence: String| {
            flags.push(Flag {
                code: code.to_owned(),
                severity: Severity::Degraded,
                evidence,
            });
        };
        if let Some(Err(reason)) = &self.features.registered_buffers {
            flag(
                "buffers_not_registered",
                format!("each I/O maps its buffer anew, which costs CPU time: {reason}"),
            );
        }
        if let Some(Err(reason)) = &self.features.registered_file {
            flag("file_not_registered", reason.clone());
        }
        if let (true, Err(reason)) = (self.options.hipri, &self.polling) {
            flag("not_polled", format!("--hipri: {reason}"));
        }
        flags
    }
}

/// The poll queues of a block device or of the one below a file, or why completions come by
/// interrupts although a ring polls for them.
fn polling(machine: &Machine, file: &File) -> Result<Value, String> {
    let found = file.metadata().map_err(|error| error.to_string())?;
    let number = if found.file_type().is_block_device() {
        found.rdev()
    } else {
        found.dev()
    };
    let device = machine.block_device(number)?;
    let queues = if device.name.starts_with("nvme") {
        let count = machine.sys_value("module/nvme/parameters/poll_queues");
        count.map_or_else(|why| json!({"unavailable": why}), Value::from)
    } else {
        Value::Null
    };
    match device.queue_value("io_poll").as_deref() {
        Some("1") if queues.is_null() => Ok(json!({"device": device.name})),
        Some("1") => Ok(json!({"device": device.name, "nvme_poll_queues": queues})),
        _ => Err(format!(
            "completions came by interrupts, because {} has no poll queues (queue/io_poll is not \
             1); for NVMe, load the driver with nvme.poll_queues=N",
            device.name
        )),
    }
}

/// Whether the kernel lets this process have an io_uring.
#[must_use]
pub fn probe() -> Availability {
    match IoUring::new(1) {
        Ok(_) => Availability::Available,
        Err(error) => Availability::Unavailable {
            reason: reason(&error, &sysctl(), &EngineOptions::default()),
        },
    }
}

/// The error for a ring that could not be had: unavailable where the kernel or a container refuses
/// io_uring as such, or what was asked of it.
fn refusal(error: &io::Error, options: &EngineOptions) -> anyhow::Error {
    let reason = format!(
        "{}. Or use --engine psync",
        reason(error, &sysctl(), options)
    );
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EINVAL) => {
            Unavailable(reason).into()
        }
        _ => anyhow::anyhow!("{reason}"),
    }
}

fn sysctl() -> String {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn reason(error: &io::Error, disabled: &str, options: &EngineOptions) -> String {
    let cause = match (error.raw_os_error(), disabled) {
        (Some(libc::ENOSYS), _) => {
            "the kernel is older than 5.1, was built without io_uring, or a seccomp profile hides it"
                .to_owned()
        }
        (Some(libc::EPERM | libc::EACCES), "1" | "2") => format!(
            "the sysctl kernel.io_uring_disabled is {disabled}; `sysctl -w \
             kernel.io_uring_disabled=0` allows it"
        ),
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a seccomp profile or a security module forbids it, as container runtimes do by \
             default; allow io_uring_setup, io_uring_enter and io_uring_register there"
                .to_owned()
        }
        (Some(libc::EINVAL), _) if options.sqthread_poll_cpu.is_some() => {
            "the CPU of --sqthread-poll-cpu is not online, or not in the cpuset of this process"
                .to_owned()
        }
        (Some(libc::EINVAL), _) if options.uring_cmd => {
            "--uring-cmd takes a kernel of 5.19 or newer, and with --hipri of 6.1".to_owned()
        }
        (Some(libc::EINVAL), _) => {
            "the kernel knows no such ring; leave --hipri and --sqthread-poll out".to_owned()
        }
        (Some(libc::ENOMEM), _) => {
            "the ring does not fit into the limit of locked memory: raise `ulimit -l` or lower \
             --iodepth"
                .to_owned()
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => {
            "there is no file descriptor left: raise `ulimit -n` or lower --numjobs".to_owned()
        }
        _ => "the kernel gives no further reason".to_owned(),
    };
    format!("io_uring_setup: {error}: {cause}")
}

#[cfg(test)]
mod tests;

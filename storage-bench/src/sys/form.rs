//! What an operation looks like in a ring's queues: a read or write of a file, an NVMe command, or a
//! request to do nothing.

use super::control::control_entry;
use crate::engine::{Kind, Op};
use io_uring::{cqueue, opcode, squeue, types};

/// The file and the memory of one request, as the kernel knows them.
#[derive(Debug, Clone, Copy)]
pub struct Spot {
    pub(super) file: Handle,
    pub(super) address: *mut u8,
    /// Which registered buffer the memory lies in.
    pub(super) registered: Option<u16>,
    /// Whether a thread of the kernel is to do it at once.
    pub(super) force_async: bool,
}

impl Spot {
    /// The flags of a request, without those that name a file.
    #[inline(always)]
    fn flags(&self) -> squeue::Flags {
        match self.force_async {
            true => squeue::Flags::ASYNC,
            false => squeue::Flags::empty(),
        }
    }
}

/// A file as a request names it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handle {
    /// The first of the registered ones.
    Registered,
    /// By its descriptor.
    Descriptor(i32),
}

/// A kind of requests.
///
/// # Safety
/// An entry makes the kernel touch no memory but the operation's length from the spot's address on.
pub unsafe trait Form: Send {
    /// What is put into the submission queue.
    type Sqe: squeue::EntryMarker + 'static;
    /// What comes back in the completion queue.
    type Cqe: cqueue::EntryMarker + 'static;
    /// Whether bytes are moved; else every length is zero.
    const MOVES: bool;
    /// Whether a part of a large registered buffer will do: before 6.4 the kernel's passthrough
    /// refuses a command whose registered buffer has more pages than the device takes.
    const PARTS: bool = true;

    /// Says that trims are discards of a device's blocks; else they are holes in a file.
    fn discard_blocks(&mut self) {}

    /// The entry for an operation.
    fn entry(&self, op: Op, spot: Spot) -> Self::Sqe;

    /// The result code and what it means, for an operation of this length: bytes moved, or a
    /// negated errno.
    fn result(completion: &Self::Cqe, len: u32) -> i32;
}

macro_rules! with_file {
    ($file:expr, $name:ident => $build:expr) => {
        match $file {
            Handle::Registered => {
                let $name = types::Fixed(0);
                $build
            }
            Handle::Descriptor(number) => {
                let $name = types::Fd(number);
                $build
            }
        }
    };
}

/// Reads, writes, trims and flushes of a file or block device.
#[derive(Debug, Default)]
pub struct ReadWrite {
    discards: bool,
}

// SAFETY: every entry that moves bytes names the spot's address and the operation's length; the
// others name no memory.
unsafe impl Form for ReadWrite {
    type Sqe = squeue::Entry;
    type Cqe = cqueue::Entry;
    const MOVES: bool = true;

    fn discard_blocks(&mut self) {
        self.discards = true;
    }

    #[inline(always)]
    fn entry(&self, op: Op, spot: Spot) -> squeue::Entry {
        if !op.kind.moves_bytes() {
            return self.control(op, spot);
        }
        let write = op.kind == Kind::Write;
        let (opcode, index) = match (spot.registered, write) {
            (Some(index), false) => (opcode::ReadFixed::CODE, index),
            (Some(index), true) => (opcode::WriteFixed::CODE, index),
            (None, false) => (opcode::Read::CODE, 0),
            (None, true) => (opcode::Write::CODE, 0),
        };
        let (flags, file) = match spot.file {
            Handle::Registered => (squeue::Flags::FIXED_FILE.bits(), 0),
            Handle::Descriptor(number) => (0, number as u32),
        };
        let flags = flags | spot.flags().bits();
        let first = u64::from(opcode) | u64::from(flags) << 8 | u64::from(file) << 32;
        let address = spot.address as u64;
        entry_of([
            first,
            op.offset,
            address,
            u64::from(op.len),
            0,
            u64::from(index),
            0,
            0,
        ])
    }

    #[inline(always)]
    fn result(completion: &cqueue::Entry, _: u32) -> i32 {
        completion.result()
    }
}

impl ReadWrite {
    #[cold]
    fn control(&self, op: Op, spot: Spot) -> squeue::Entry {
        let entry = with_file!(spot.file, file => control_entry!(file, op, self.discards));
        entry.flags(spot.flags())
    }
}

/// An entry of the words that it consists of (`struct io_uring_sqe` of linux/io_uring.h): opcode,
/// flags, priority and file; offset; address; length and flags of the operation; what the
/// completion is known by; registered buffer. The crate's own builders decide and copy more, field by
/// field.
#[inline(always)]
fn entry_of(words: [u64; 8]) -> squeue::Entry {
    // SAFETY: an entry is plain numbers, and as long as these.
    unsafe { std::mem::transmute::<[u64; 8], squeue::Entry>(words) }
}

/// Requests to do nothing.
#[derive(Debug)]
pub struct Nothing;

// SAFETY: the entries name no memory.
unsafe impl Form for Nothing {
    type Sqe = squeue::Entry;
    type Cqe = cqueue::Entry;
    const MOVES: bool = false;

    #[inline(always)]
    fn entry(&self, _: Op, spot: Spot) -> squeue::Entry {
        let first = u64::from(opcode::Nop::CODE) | u64::from(spot.flags().bits()) << 8;
        entry_of([first, 0, 0, 0, 0, 0, 0, 0])
    }

    #[inline(always)]
    fn result(completion: &cqueue::Entry, _: u32) -> i32 {
        completion.result()
    }
}

/// Reads and writes of an NVMe namespace as commands of the device, past the block layer.
#[derive(Debug)]
pub struct Passthrough {
    /// The number of the namespace.
    pub namespace: u32,
    /// The log2 of the size of its logical blocks.
    pub block_shift: u32,
}

/// `struct nvme_uring_cmd` of linux/nvme_ioctl.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Command {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    words_2_3: [u32; 2],
    metadata: u64,
    address: u64,
    metadata_bytes: u32,
    data_bytes: u32,
    /// Command words 10 to 15.
    words: [u32; 6],
    timeout_ms: u32,
    reserved_2: u32,
}

const COMMAND_BYTES: usize = size_of::<Command>();
/// `NVME_URING_CMD_IO`, which is `_IOWR('N', 0x80, struct nvme_uring_cmd)`.
const COMMAND_IO: u32 = 0xc000_4e80 | (COMMAND_BYTES as u32) << 16;
const NVME_FLUSH: u8 = 0;
const NVME_WRITE: u8 = 1;
const NVME_READ: u8 = 2;

impl Passthrough {
    #[inline(always)]
    fn command(&self, op: Op, spot: Spot) -> Command {
        let opcode = match op.kind {
            Kind::Read => NVME_READ,
            Kind::Write => NVME_WRITE,
            Kind::Fsync | Kind::Fdatasync => {
                return Command {
                    opcode: NVME_FLUSH,
                    namespace: self.namespace,
                    ..Command::default()
                };
            }
            Kind::Trim => unreachable!("refused when the options were checked"),
        };
        let block = op.offset >> self.block_shift;
        Command {
            opcode,
            namespace: self.namespace,
            address: spot.address as u64,
            data_bytes: op.len,
            // The number of blocks is counted from zero.
            words: [
                block as u32,
                (block >> 32) as u32,
                (op.len >> self.block_shift) - 1,
                0,
                0,
                0,
            ],
            ..Command::default()
        }
    }
}

// SAFETY: every command names the spot's address and the operation's length, and no metadata.
unsafe impl Form for Passthrough {
    type Sqe = squeue::Entry128;
    type Cqe = cqueue::Entry32;
    const MOVES: bool = true;
    const PARTS: bool = false;

    #[inline(always)]
    fn entry(&self, op: Op, spot: Spot) -> squeue::Entry128 {
        let mut bytes = [0; 80];
        let command = self.command(op, spot);
        // SAFETY: a command is plain numbers without gaps, and shorter than its place.
        let words =
            unsafe { std::slice::from_raw_parts((&raw const command).cast::<u8>(), COMMAND_BYTES) };
        bytes[..COMMAND_BYTES].copy_from_slice(words);
        with_file!(spot.file, file => opcode::UringCmd80::new(file, COMMAND_IO)
            .cmd(bytes)
            .buf_index(spot.registered)
            .build())
        .flags(spot.flags())
    }

    /// Zero is success; above it stands the status of the device.
    #[inline(always)]
    fn result(completion: &cqueue::Entry32, len: u32) -> i32 {
        match completion.result() {
            // Bounded by 1 GiB when the options were checked.
            0 => len as i32,
            status if status > 0 => -errno_of(status),
            failed => failed,
        }
    }
}

/// What the block layer would say of a status of the device. Statuses are those of the NVMe base
/// specification, type and code.
#[cold]
fn errno_of(status: i32) -> i32 {
    match status & 0x7ff {
        0x001 => libc::EOPNOTSUPP,
        0x002 => libc::EINVAL,
        0x080 => libc::ENOSPC,
        0x281 => libc::ENODATA,
        _ => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot() -> Spot {
        Spot {
            file: Handle::Registered,
            address: 0x1000 as *mut u8,
            registered: None,
            force_async: false,
        }
    }

    #[test]
    fn entries_are_those_of_the_crate() {
        let op = |kind| Op {
            kind,
            offset: 0x1234_5678_9000,
            len: 8192,
            buffer: 3,
        };
        let form = ReadWrite::default();
        // SAFETY: as for `entry_of`.
        let words = |entry| unsafe { std::mem::transmute::<squeue::Entry, [u64; 8]>(entry) };
        for file in [Handle::Registered, Handle::Descriptor(7)] {
            for (registered, force_async) in [(None, true), (Some(5), false)] {
                let spot = Spot {
                    file,
                    registered,
                    force_async,
                    ..spot()
                };
                macro_rules! theirs {
                    ($with_buffers:ident, $without:ident) => {
                        with_file!(file, file => match registered {
                            Some(index) => opcode::$with_buffers::new(file, spot.address, 8192, index)
                                .offset(0x1234_5678_9000)
                                .build(),
                            None => opcode::$without::new(file, spot.address, 8192)
                                .offset(0x1234_5678_9000)
                                .build()
                                .flags(squeue::Flags::ASYNC),
                        })
                    };
                }
                let read = theirs!(ReadFixed, Read);
                let write = theirs!(WriteFixed, Write);
                assert_eq!(words(form.entry(op(Kind::Read), spot)), words(read));
                assert_eq!(words(form.entry(op(Kind::Write), spot)), words(write));
            }
        }
    }

    #[test]
    fn an_nvme_command_names_its_blocks() {
        assert_eq!((COMMAND_BYTES, COMMAND_IO), (72, 0xc048_4e80));
        let form = Passthrough {
            namespace: 3,
            block_shift: 12,
        };
        let op = Op {
            kind: Kind::Read,
            offset: (5 << 44) + 8192,
            len: 16384,
            buffer: 0,
        };
        let command = form.command(op, spot());
        assert_eq!((command.opcode, command.namespace), (2, 3));
        assert_eq!(command.words, [2, 5, 3, 0, 0, 0]);
        assert_eq!((command.address, command.data_bytes), (0x1000, 16384));
        let write = Op {
            kind: Kind::Write,
            ..op
        };
        assert_eq!(form.command(write, spot()).opcode, 1);
    }

    #[test]
    fn a_status_of_the_device_is_an_error() {
        assert_eq!(errno_of(0x2), libc::EINVAL);
        assert_eq!(
            errno_of(0x4080),
            libc::ENOSPC,
            "with the bit `do not retry`"
        );
        assert_eq!(errno_of(0x281), libc::ENODATA, "an unrecovered read error");
        assert_eq!(errno_of(0x6), libc::EIO);
    }
}

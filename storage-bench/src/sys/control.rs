//! Operations that move no bytes: trims and flushes, by ioctl or as entries of a ring. None of them
//! refers to memory of this process beyond the call that makes it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

mod ioctl {
    // BLKDISCARD of linux/fs.h, whose number says neither direction nor size.
    nix::ioctl_write_ptr_bad!(discard, nix::request_code_none!(0x12, 119), [u64; 2]);
}

/// BLOCK_URING_CMD_DISCARD of linux/blkdev.h, since Linux 6.12: `_IO(0x12, 0)`.
pub(super) const URING_CMD_DISCARD: u32 = nix::request_code_none!(0x12, 0) as u32;

/// The mode of a trim of a file, for fallocate.
pub const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;

/// Discards a range of a block device, in bytes.
///
/// # Errors
/// What the kernel says.
pub fn discard(device: &File, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed, and the ioctl reads the two numbers.
    unsafe { ioctl::discard(device.as_raw_fd(), &[offset, len]) }?;
    Ok(())
}

/// The entry of a trim or flush of a file, however that is named. A trim discards a device's blocks,
/// or punches a hole.
macro_rules! control_entry {
    ($file:expr, $op:expr, $discards:expr) => {{
        use crate::engine::Kind;
        use crate::sys::control::{PUNCH_HOLE, URING_CMD_DISCARD};
        use io_uring::{opcode, types::FsyncFlags};
        let (file, op, len) = ($file, $op, u64::from($op.len));
        match op.kind {
            Kind::Trim if $discards => {
                let mut command = [0; 16];
                command[..8].copy_from_slice(&len.to_ne_bytes());
                opcode::UringCmd16::new(file, URING_CMD_DISCARD)
                    .addr(Some(op.offset))
                    .cmd(command)
                    .build()
            }
            Kind::Trim => opcode::Fallocate::new(file, len)
                .offset(op.offset)
                .mode(PUNCH_HOLE)
                .build(),
            Kind::Fdatasync => opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build(),
            _ => opcode::Fsync::new(file).build(),
        }
    }};
}
pub(super) use control_entry;

//! How a range of the target is given back: holes in files, discards of devices.

use super::Op;
use crate::sys;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;

/// Whether trims are discards: the file is a block device.
#[must_use]
pub fn discards(file: &File) -> bool {
    let found = file.metadata();
    found.is_ok_and(|found| found.file_type().is_block_device())
}

/// Trims by a system call of its own. Zero, or a negated errno.
pub fn perform(file: &File, op: Op) -> i32 {
    let (offset, len) = (op.offset, u64::from(op.len));
    let hole = FallocateFlags::from_bits_retain(sys::PUNCH_HOLE);
    let trimmed = match discards(file) {
        true => sys::discard(file, offset, len),
        // Offsets and lengths were bounded by the file's size, which fits 63 bits.
        false => fallocate(file, hole, offset as i64, len as i64).map_err(io::Error::from),
    };
    match trimmed {
        Ok(()) => 0,
        Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Completion, Engine, Files, Kind, Opening, Psync, Uring, Wait};
    use crate::spec::EngineOptions;
    use crate::sys::Buffers;
    use reports::case::Availability;
    use std::os::unix::fs::FileExt;
    use std::process::Command;
    use std::sync::Arc;

    const BLOCK: u32 = 4096;

    /// Trims the second of four blocks, flushes, and returns what each said.
    fn trim<E: Engine>(file: &Arc<File>) -> (Vec<i32>, serde_json::Value) {
        let mut engine = E::open(Opening {
            file: Arc::clone(file),
            buffers: Buffers::new(2, BLOCK as usize).expect("memory"),
            options: EngineOptions::default(),
        })
        .expect("an engine");
        let mut results = Vec::new();
        for kind in [Kind::Trim, Kind::Fsync, Kind::Fdatasync] {
            let len = if kind == Kind::Trim { BLOCK } else { 0 };
            let mut done: Vec<Completion> = Vec::new();
            engine.queue(Op {
                kind,
                offset: u64::from(BLOCK),
                len,
                buffer: 1,
            });
            engine.exchange(&mut done, Wait::One).expect("it ends");
            assert_eq!((done.len(), done[0].buffer), (1, 1), "{kind:?}");
            results.push(done[0].result);
        }
        (results, engine.facts())
    }

    fn blocks(file: &File) -> [bool; 4] {
        std::array::from_fn(|at| {
            let mut block = [0; BLOCK as usize];
            let offset = at as u64 * u64::from(BLOCK);
            file.read_exact_at(&mut block, offset).expect("readable");
            block.iter().any(|byte| *byte != 0)
        })
    }

    fn uring_is_here() -> bool {
        if let Availability::Unavailable { reason } = crate::engine::probe_uring() {
            println!("SKIPPED: {reason}");
            return false;
        }
        true
    }

    #[test]
    fn a_trim_of_a_file_leaves_a_hole_and_nothing_else() {
        let check = |trim: &dyn Fn(&Arc<File>) -> Vec<i32>| {
            let file = Arc::new(tempfile::tempfile().expect("a file"));
            file.write_all_at(&[7; 4 * BLOCK as usize], 0)
                .expect("room");
            assert_eq!(trim(&file), [0, 0, 0]);
            assert_eq!(blocks(&file), [true, false, true, true]);
            assert_eq!(file.metadata().expect("open").len(), u64::from(4 * BLOCK));
        };
        check(&|file| trim::<Psync>(file).0);
        if uring_is_here() {
            check(&|file| trim::<Uring<Files>>(file).0);
        }
    }

    /// A disk in compressed memory, taken away again when dropped.
    struct Zram(u32);

    impl Zram {
        fn new() -> Option<Self> {
            let added = std::fs::read_to_string("/sys/class/zram-control/hot_add");
            let number = added.map_err(|error| error.to_string());
            let number = number.and_then(|text| text.trim().parse().map_err(|_| text));
            let zram = match number {
                Ok(number) => Self(number),
                Err(why) => {
                    println!("SKIPPED: no zram device: {why}");
                    return None;
                }
            };
            let size = format!("/sys/block/zram{}/disksize", zram.0);
            std::fs::write(size, "1M").expect("a new device takes its size");
            Some(zram)
        }

        fn open(&self) -> Arc<File> {
            let mut options = std::fs::OpenOptions::new();
            let opened = options
                .read(true)
                .write(true)
                .open(format!("/dev/zram{}", self.0));
            Arc::new(opened.expect("a new device"))
        }
    }

    impl Drop for Zram {
        fn drop(&mut self) {
            let remove = "/sys/class/zram-control/hot_remove";
            // A ring lets go of the device some time after it was closed.
            for _ in 0..100 {
                if std::fs::write(remove, self.0.to_string()).is_ok() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            println!("zram{} could not be removed", self.0);
        }
    }

    #[test]
    fn a_trim_of_a_device_discards_its_blocks() {
        let Some(zram) = Zram::new() else {
            return;
        };
        let check = |trim: &dyn Fn(&Arc<File>) -> Vec<i32>| {
            let device = zram.open();
            device
                .write_all_at(&[7; 4 * BLOCK as usize], 0)
                .expect("room");
            device.sync_all().expect("a flush");
            assert_eq!(trim(&device), [0, 0, 0]);
            drop(device);
            let dropped = Command::new("blockdev")
                .args(["--flushbufs", &format!("/dev/zram{}", zram.0)])
                .status();
            assert!(dropped.is_ok_and(|status| status.success()), "blockdev");
            assert_eq!(blocks(&zram.open()), [true, false, true, true]);
        };
        check(&|device| trim::<Psync>(device).0);
        if uring_is_here() {
            check(&|device| {
                let (results, facts) = trim::<Uring<Files>>(device);
                let how = facts["trims"].as_str().expect("it says how");
                assert!(how.contains("DISCARD"), "{how}");
                println!("{how}");
                results
            });
        }
    }
}

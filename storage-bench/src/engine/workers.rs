//! Threads of the kernel that work for the rings of this process.
//!
//! An operation that could block its submitter is handed to a worker (`iou-wrk-N`), and with SQPOLL
//! a thread submits in the program's place (`iou-sqp-N`). What they use is this program's CPU time,
//! although no thread of the program has used it; and that an operation took this way explains a
//! latency and a rate that the device alone does not. The kernel accounts for both by thread, at no
//! cost to anybody: time in `schedstat`, bytes of bios submitted in `io`.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Sub;
use std::path::{Path, PathBuf};

/// What threads of the kernel did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Helpers {
    /// Workers.
    pub workers: u64,
    /// CPU time of them and of submitting threads, in seconds.
    pub cpu_s: f64,
    /// Bytes that workers read from or wrote to devices; `None` where the kernel does not count.
    pub bytes: Option<u64>,
}

impl Sub for Helpers {
    type Output = Self;

    /// What was done since an earlier look. Workers are counted as they are.
    fn sub(self, earlier: Self) -> Self {
        let bytes = self.bytes.zip(earlier.bytes);
        Self {
            workers: self.workers,
            cpu_s: (self.cpu_s - earlier.cpu_s).max(0.0),
            bytes: bytes.map(|(now, before)| now.saturating_sub(before)),
        }
    }
}

/// The kernel's threads of this process.
#[derive(Debug)]
pub struct Workers {
    tasks: PathBuf,
    /// Everything seen so far: workers end when they have nothing to do.
    seen: BTreeMap<u32, Helpers>,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            tasks: "/proc/self/task".into(),
            seen: BTreeMap::new(),
        }
    }
}

impl Workers {
    /// What all of them have done since they started.
    pub fn look(&mut self) -> Helpers {
        let entries = fs::read_dir(&self.tasks).into_iter().flatten().flatten();
        for entry in entries {
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let (Some(id), Some(helper)) = (id, helper(&entry.path())) {
                self.seen.insert(id, helper);
            }
        }
        self.seen.values().copied().fold(
            Helpers {
                bytes: Some(0),
                ..Helpers::default()
            },
            |all, one| Helpers {
                workers: all.workers + one.workers,
                cpu_s: all.cpu_s + one.cpu_s,
                bytes: all.bytes.zip(one.bytes).map(|(all, one)| all + one),
            },
        )
    }
}

/// One thread, if it is one of the kernel's.
fn helper(task: &Path) -> Option<Helpers> {
    let read = |file: &str| fs::read_to_string(task.join(file)).ok();
    let name = read("comm")?;
    let worker = name.starts_with("iou-wrk-");
    if !worker && !name.starts_with("iou-sqp-") {
        return None;
    }
    // On the CPU, waiting for it, and how often, in nanoseconds.
    let ns: u64 = read("schedstat")?.split(' ').next()?.parse().ok()?;
    let bytes = if worker {
        read("io").and_then(|text| device_bytes(&text))
    } else {
        Some(0)
    };
    Some(Helpers {
        workers: worker.into(),
        cpu_s: ns as f64 / 1e9,
        bytes,
    })
}

fn device_bytes(text: &str) -> Option<u64> {
    let field = |name: &str| -> Option<u64> {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    Some(field("read_bytes:")? + field("write_bytes:")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_threads_count_and_those_that_ended_are_remembered() {
        let root = tempfile::tempdir().expect("a folder");
        let thread = |id: &str, name: &str, ns: u64, bytes: u64| {
            let folder = root.path().join(id);
            fs::create_dir_all(&folder).expect("a folder");
            let io = format!("rchar: 9\nread_bytes: {bytes}\nwrite_bytes: 4096\n");
            let stat = format!("{ns} 7 1\n");
            for (file, text) in [
                ("comm", name),
                ("schedstat", stat.as_str()),
                ("io", io.as_str()),
            ] {
                fs::write(folder.join(file), text).expect("a file");
            }
        };
        thread("10", "storage-bench\n", 5_000_000_000, 1 << 30);
        thread("11", "iou-wrk-10\n", 1_000_000_000, 8192);
        thread("12", "iou-sqp-10\n", 500_000_000, 1 << 30);
        let mut workers = Workers {
            tasks: root.path().to_owned(),
            seen: BTreeMap::new(),
        };
        let first = Helpers {
            workers: 1,
            cpu_s: 1.5,
            bytes: Some(12288),
        };
        assert_eq!(workers.look(), first);
        fs::remove_dir_all(root.path().join("11")).expect("there");
        thread("13", "iou-wrk-10\n", 250_000_000, 0);
        let second = workers.look();
        assert_eq!((second.workers, second.bytes), (2, Some(16384)));
        assert!((second.cpu_s - 1.75).abs() < 1e-9);
        fs::remove_file(root.path().join("13/io")).expect("there");
        assert_eq!(workers.look().bytes, None);
    }
}

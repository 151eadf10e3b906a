//! What libfabric has to find in the environment before it is first asked for anything.

use std::path::Path;
use std::sync::OnceLock;

/// The variable that says with how many peers libfabric reckons.
pub const UNIVERSE: &str = "FI_UNIVERSE_SIZE";

/// Peers that a host with RDMA devices is told to reckon with. ofi_rxm opens a completion queue of
/// (128 + 128) entries for each, of 256 unless told otherwise: 65536 entries, where Linux's software
/// RoCE and older cards have 32767. With 16 there are 4096, which all have. More peers than that
/// still work; only what is sized ahead for them is smaller.
const SMALL: &str = "16";

/// What became of [`UNIVERSE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Universe {
    /// It has this value, which the user gave.
    Given(String),
    /// It was set to this value.
    Set(&'static str),
    /// Nobody needs it: the host has no RDMA device.
    Unneeded,
    /// It could not be set: other threads run already.
    TooLate,
}

/// Sets [`UNIVERSE`], unless the user did, where the host has an RDMA device; what became of it.
///
/// libfabric reads it once, so this belongs at the beginning of `main`, before any thread and before
/// anything else here.
pub fn small_universe() -> &'static Universe {
    MADE.get_or_init(make)
}

/// What became of [`UNIVERSE`], if [`small_universe`] was called.
#[must_use]
pub fn universe() -> Option<&'static Universe> {
    MADE.get()
}

static MADE: OnceLock<Universe> = OnceLock::new();

fn make() -> Universe {
    if let Some(given) = std::env::var_os(UNIVERSE) {
        return Universe::Given(given.to_string_lossy().into_owned());
    }
    if !any_entry(Path::new("/sys/class/infiniband")) {
        return Universe::Unneeded;
    }
    if !alone(Path::new("/proc/self/task")) {
        return Universe::TooLate;
    }
    // SAFETY: this thread is the only one of the process, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var(UNIVERSE, SMALL) };
    Universe::Set(SMALL)
}

fn any_entry(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Whether the process has one thread; not if that cannot be told.
fn alone(tasks: &Path) -> bool {
    std::fs::read_dir(tasks).is_ok_and(|entries| entries.count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_several_threads_is_known() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!alone(folder.path()));
        assert!(!any_entry(folder.path()));
        for (task, alone_then) in [("1", true), ("2", false)] {
            std::fs::create_dir(folder.path().join(task)).expect("a task");
            assert_eq!(alone(folder.path()), alone_then);
            assert!(any_entry(folder.path()));
        }
        assert!(!alone(Path::new("/nonexistent")));
        // The harness of tests runs this in a thread of its own.
        assert!(!alone(Path::new("/proc/self/task")));
    }
}

//! Making a second process of this one, which is sound only as long as there is one thread.

use nix::unistd::ForkResult;
use std::{fs, io};

/// Makes a second process that goes on from here as this one does.
///
/// # Errors
/// More threads than this one run: the child would lack them, with whatever they had locked. Or
/// what the kernel says.
pub fn fork() -> io::Result<ForkResult> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!(
            "{threads} threads run where there must be only one"
        )));
    }
    // SAFETY: this thread was just counted as the only one, and no other could have started one
    // since. So the child lacks no thread that might have left a lock taken or memory half changed,
    // and may do whatever this process may.
    Ok(unsafe { nix::unistd::fork() }?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        let (end, until) = mpsc::channel::<()>();
        let other = thread::spawn(move || until.recv());
        let error = fork().expect_err("there are two threads at least");
        assert!(error.to_string().contains("threads run"), "{error}");
        drop(end);
        assert!(other.join().expect("no panic").is_err());
    }
}

//! A process as others of its node can recognise it, and end it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;

/// A process id and when it was started: ids are given again, moments are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, in ticks since the machine did.
    pub started: u64,
}

impl Process {
    /// This one.
    pub fn this() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            started: started(pid).unwrap_or(0),
        }
    }

    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.pid.to_le_bytes());
        bytes[4..].copy_from_slice(&self.started.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        let [a, b, c, d, rest @ ..] = bytes;
        Self {
            pid: u32::from_le_bytes([a, b, c, d]),
            started: u64::from_le_bytes(rest),
        }
    }

    /// Kills it if it is there and the same: in a container of its own the id is somebody else's.
    pub fn kill(self) {
        if started(self.pid) == Some(self.started)
            && let Ok(pid) = i32::try_from(self.pid)
        {
            // It may have gone by itself, which is as well.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Field 22 of `/proc/PID/stat` (proc(5)).
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, a name in parentheses, may hold spaces and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn only_the_same_process_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let process = Process {
            pid: child.id(),
            started: started(child.id()).expect("it runs"),
        };
        assert_eq!(Process::from_bytes(process.to_bytes()), process);
        Process {
            started: process.started + 1,
            ..process
        }
        .kill();
        assert_eq!(child.try_wait().expect("it is ours"), None, "it lives");
        process.kill();
        let status = child.wait().expect("it is ours");
        assert_eq!(status.signal(), Some(9));
    }
}

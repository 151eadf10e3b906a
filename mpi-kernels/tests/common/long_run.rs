//! A run that takes minutes, to be disturbed meanwhile.

use super::common::{PROGRAM, mpirun};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Starts it; its ranks write their process ids into `folder`, and rank 0 its report. After a
/// signal or a failure mpirun kills what is left of it in so many seconds.
pub fn long_run(folder: &Path, ranks: usize, more: &[&str], kill_after_s: u32) -> Child {
    let words = ["latency", "-m", "8:16", "-i", "100000000"];
    start(folder, ranks, &[&words[..], more].concat(), kill_after_s)
}

/// The same of other words of the command line.
pub fn start(folder: &Path, ranks: usize, words: &[&str], kill_after_s: u32) -> Child {
    let script = r#"echo $$ > "$PIDS/$OMPI_COMM_WORLD_RANK.part"; \
        mv "$PIDS/$OMPI_COMM_WORLD_RANK.part" "$PIDS/$OMPI_COMM_WORLD_RANK"; exec "$0" "$@""#;
    mpirun(ranks)
        .args(["--mca", "odls_base_sigkill_timeout"])
        .arg(kill_after_s.to_string())
        .args(["-x", "PIDS", "sh", "-c", script, PROGRAM])
        .args(words)
        .arg("-o")
        .arg(folder.join("report.json"))
        .env("PIDS", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mpirun starts: install openmpi-bin (scripts/setup does)")
}

/// Polls until `found` says something.
pub fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(50);
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes of the ranks, as soon as all of them measure.
pub fn pids(folder: &Path, ranks: usize) -> Vec<Pid> {
    let pid_of_rank = |rank: usize| {
        wait_for("the start of a rank", || {
            let text = fs::read_to_string(folder.join(rank.to_string())).ok()?;
            text.trim().parse().ok().map(Pid::from_raw)
        })
    };
    let pids: Vec<Pid> = (0..ranks).map(pid_of_rank).collect();
    pids.iter().copied().for_each(wait_until_measuring);
    pids
}

/// Waits until a rank catches SIGTERM and has its watchdog, which is so from just before the first
/// iteration.
fn wait_until_measuring(pid: Pid) {
    const SIGTERM_BIT: u64 = 1 << (Signal::SIGTERM as u64 - 1);
    wait_for("the measurement", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))?;
        let mask = u64::from_str_radix(caught.trim(), 16).ok()?;
        let mut threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        let watched = threads.any(|thread| {
            let name = fs::read_to_string(thread.path().join("comm"));
            name.is_ok_and(|name| name.trim() == "watchdog")
        });
        (mask & SIGTERM_BIT != 0 && watched).then_some(())
    });
}

/// Waits until a process is gone.
pub fn wait_until_gone(pid: Pid) {
    wait_for("the end of a rank", || {
        kill(pid, None).is_err().then_some(())
    });
}

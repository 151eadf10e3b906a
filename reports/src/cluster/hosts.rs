//! Host files of MPI launchers, and when a host in one is the host of a report.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Why a host file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostfileError {
    /// It cannot be read.
    #[error("cannot read the host file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It names nobody.
    #[error("the host file {path} names no host: one a line, as mpirun takes it")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line that cannot be used.
    #[error("{path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// The hosts of a file as mpirun takes it: `n1`, `n1 slots=2`, `n1:2`, and comments after `#`; an
/// address may stand for a name. Each host once, in the file's order.
///
/// # Errors
/// [`HostfileError`], which names the file and the line.
pub fn read_hostfile(path: &Path) -> Result<Vec<String>, HostfileError> {
    let text = std::fs::read_to_string(path).map_err(|source| HostfileError::Io {
        path: path.to_owned(),
        source,
    })?;
    let mut hosts: Vec<String> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let Some(word) = line.split_whitespace().next() else {
            continue;
        };
        let host = host(word).map_err(|reason| HostfileError::Line {
            path: path.to_owned(),
            line: index + 1,
            reason,
        })?;
        if !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
    match hosts.is_empty() {
        true => Err(HostfileError::Empty {
            path: path.to_owned(),
        }),
        false => Ok(hosts),
    }
}

/// The lines of a host file that are of these hosts.
///
/// # Errors
/// What the kernel says.
pub fn lines_of(path: &Path, hosts: &[String]) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    let kept = text.lines().filter(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let word = line.split_whitespace().next().unwrap_or_default();
        host(word).is_ok_and(|host| hosts.iter().any(|known| known == host))
    });
    Ok(kept.map(|line| format!("{line}\n")).collect())
}

fn host(word: &str) -> Result<&str, String> {
    let address = |text: &str| text.parse::<IpAddr>().is_ok();
    let host = match word.rsplit_once(':') {
        Some((host, slots)) if !address(word) && slots.chars().all(|c| c.is_ascii_digit()) => host,
        _ => word,
    };
    if address(host) {
        return Ok(host);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    // What starts with a dash would be an option of the program that gets it.
    if host.is_empty() || host.starts_with('-') || !host.chars().all(plain) {
        return Err(format!("{host:?} is no host name"));
    }
    Ok(host)
}

/// Whether two names are one host's: with and without its domain, in whatever case. The parts of an
/// address are no domains.
pub(crate) fn same_host(a: &str, b: &str) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    let address = |name: &str| name.parse::<IpAddr>().is_ok();
    match address(a) || address(b) || a.contains('.') && b.contains('.') {
        true => a.eq_ignore_ascii_case(b),
        false => short(a) == short(b),
    }
}

//! Which hosts answer, before a launcher is asked to use them: one that does not makes it fail on all.

use crate::cluster::is_this_host;
use crate::suite::attempt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The command that finds out, a word each.
pub const DEFAULT_PROBE: &str =
    "ssh -o BatchMode=yes -o ConnectTimeout=8 -o StrictHostKeyChecking=accept-new {host} true";

/// How long a host has to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// How many are asked at a time.
const AT_A_TIME: usize = 32;

/// A command with a place for the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe(Vec<String>);

impl std::str::FromStr for Probe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        match words.iter().any(|word| word.contains("{host}")) {
            true => Ok(Self(words)),
            false => Err("give a command with {host} in it, such as `ssh {host} true`".to_owned()),
        }
    }
}

impl Probe {
    /// The hosts that do not answer, in the order of the list, each with what was tried and what
    /// happened. The host that asks is there.
    #[must_use]
    pub fn unreachable(&self, hosts: &[String]) -> Vec<(String, String)> {
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_A_TIME.min(hosts.len()) {
                scope.spawn(|| {
                    while let Some(host) = hosts.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if is_this_host(host) {
                            continue;
                        }
                        if let Err(reason) = attempt(&self.of(host), LIMIT) {
                            // Nobody panics while holding it.
                            let mut found = found.lock().unwrap_or_else(|held| held.into_inner());
                            found.push((host.clone(), reason));
                        }
                    }
                });
            }
        });
        let mut found = found.into_inner().unwrap_or_else(|held| held.into_inner());
        found.sort_by_key(|(host, _)| hosts.iter().position(|known| known == host));
        found
    }

    fn of(&self, host: &str) -> Vec<String> {
        let words = self.0.iter();
        words.map(|word| word.replace("{host}", host)).collect()
    }
}

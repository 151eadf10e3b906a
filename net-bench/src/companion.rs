//! A server of its own process, for tests that two ends in one process would spoil: providers of
//! libfabric share state within a process, and peers are measured between two.

use crate::control::{HANDSHAKE_TIMEOUT, KEY_VARIABLE, Key};
use anyhow::Context;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// `net-bench serve --once`, which ends with this.
#[derive(Debug)]
pub struct Companion {
    child: Child,
    address: SocketAddr,
    /// The key that it shares with us.
    pub key: Key,
}

impl Companion {
    /// Starts it on a free port of this loopback address.
    ///
    /// # Errors
    /// This program cannot be started a second time, or does not say where it listens.
    pub fn start(ip: IpAddr) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("random numbers: {error}"))?;
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut child = Command::new(&program)
            .args(["serve", "--once", "--port", "0", "--bind"])
            .arg(ip.to_string())
            .env(KEY_VARIABLE, &secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {} serve", program.display()))?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("its output is a pipe")?;
        let read = BufReader::new(stdout).read_line(&mut line);
        let address = line.trim().strip_prefix("listening on ");
        let address = read.ok().and(address).and_then(|text| text.parse().ok());
        let mut companion = Self {
            child,
            address: SocketAddr::new(ip, 0),
            key: Key::of_text(&secret)?,
        };
        let said = || format!("{} serve said {line:?} at its start", program.display());
        companion.address = address.with_context(said)?;
        Ok(companion)
    }

    /// A connection to it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn connect(&self) -> anyhow::Result<TcpStream> {
        TcpStream::connect_timeout(&self.address, HANDSHAKE_TIMEOUT)
            .with_context(|| format!("cannot connect to the server at {}", self.address))
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // It has served its one client and ends by itself, which gives back what its device lent.
        let begun = Instant::now();
        while begun.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

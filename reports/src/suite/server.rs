//! A server beside a run: started before it, ended after it, and waited for by its port.

use super::Server;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server has to open its port, and to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// A running server; dropping it ends it with all it started.
pub(super) struct Running {
    child: Child,
}

/// Starts a server and waits until its port is there.
///
/// # Errors
/// The port is taken already, the program cannot be started, or the port does not appear.
pub(super) fn start(server: &Server, mut command: Command, log: &File) -> io::Result<Running> {
    let name = &server.command[0];
    let port = server.port;
    if listens(port)? {
        let message = format!("port {port} for {name} is taken by another process");
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .process_group(0);
    let mut running = Running {
        child: command.spawn()?,
    };
    let started = Instant::now();
    while !listens(port)? {
        if let Some(status) = running.child.try_wait()? {
            return Err(io::Error::other(format!(
                "the server {name} ended with {status}"
            )));
        }
        if started.elapsed() > PATIENCE {
            let message = format!("the server {name} did not open port {port}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        std::thread::sleep(POLL);
    }
    Ok(running)
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not reaped yet, so the number still belongs to this child and its group.
        let group = Pid::from_raw(self.child.id() as i32);
        let _ = killpg(group, Signal::SIGTERM);
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(POLL);
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(group, Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// Whether some socket of this network namespace listens on the TCP port or is bound to the UDP
/// port. Read from /proc, because a connection would use up a server that takes a single client.
fn listens(port: u16) -> io::Result<bool> {
    const LISTEN: &str = "0A";
    const UDP_BOUND: &str = "07";
    let tables = [
        ("tcp", LISTEN),
        ("tcp6", LISTEN),
        ("udp", UDP_BOUND),
        ("udp6", UDP_BOUND),
    ];
    let mut found = false;
    for (table, state) in tables {
        match fs::read_to_string(format!("/proc/self/net/{table}")) {
            Ok(text) => found |= has_socket(&text, port, state),
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn has_socket(table: &str, port: u16, state: &str) -> bool {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next();
        local.is_some_and(|address| address.ends_with(&suffix)) && fields.nth(1) == Some(state)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn bound_ports_are_seen_and_connections_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("bound").port();
        assert!(listens(port).expect("readable"));
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        assert!(!listens(client.local_addr().expect("connected").port()).expect("readable"));
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        assert!(listens(udp.local_addr().expect("bound").port()).expect("readable"));
    }
}

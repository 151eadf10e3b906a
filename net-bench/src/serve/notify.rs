//! Telling a service manager how the server fares, in systemd's protocol (sd_notify(3)): lines
//! `NAME=VALUE` in a datagram to the Unix socket that `$NOTIFY_SOCKET` names.

use super::log::Log;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::{Duration, Instant};

/// How long the manager may take to accept a datagram.
const PATIENCE: Duration = Duration::from_secs(1);

/// The line to the manager; a server without a manager says nothing.
pub struct Notify<'a> {
    manager: Option<(UnixDatagram, SocketAddr)>,
    log: &'a Log,
    address: std::net::SocketAddr,
    clients: usize,
    /// How often the manager wants to hear from us.
    watchdog: Option<Duration>,
    pinged: Instant,
    stopping: bool,
    warned: bool,
}

impl<'a> Notify<'a> {
    /// Tells the manager, if there is one, that a server listens on this address.
    pub fn ready(address: std::net::SocketAddr, log: &'a Log) -> Self {
        let mut notify = Self {
            manager: None,
            log,
            address,
            clients: 0,
            watchdog: None,
            pinged: Instant::now(),
            stopping: false,
            warned: false,
        };
        let Ok(socket) = std::env::var("NOTIFY_SOCKET") else {
            return notify;
        };
        match manager(&socket) {
            Ok(manager) => notify.manager = Some(manager),
            Err(error) => notify.warn(&error),
        }
        match watchdog(|name| std::env::var(name).ok()) {
            Ok(watchdog) => notify.watchdog = watchdog,
            Err(fault) => log.line(&fault),
        }
        notify.send(&format!("READY=1\n{}", notify.status()));
        notify
    }

    /// What has to be said now and then: how many clients there are, if that changed, and that the
    /// server is well.
    pub fn look_around(&mut self, clients: usize) {
        if clients != self.clients {
            self.clients = clients;
            self.send(&self.status());
        }
        if let Some(period) = self.watchdog
            && self.pinged.elapsed() >= period
        {
            self.pinged = Instant::now();
            self.send("WATCHDOG=1");
        }
    }

    /// Says that the server ends.
    pub fn stopping(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.send("STOPPING=1\nSTATUS=ending the tests that run");
        }
    }

    fn status(&self) -> String {
        format!(
            "STATUS=listening on {}, clients: {}",
            self.address, self.clients
        )
    }

    fn send(&mut self, lines: &str) {
        if let Some((socket, address)) = &self.manager
            && let Err(error) = socket.send_to_addr(lines.as_bytes(), address)
        {
            self.warn(&error);
        }
    }

    /// Says once that the manager does not hear us.
    fn warn(&mut self, error: &io::Error) {
        if !self.warned {
            self.warned = true;
            let socket = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
            self.log.line(&format!(
                "warning: NOTIFY_SOCKET={socket}: the service manager cannot be told how the \
                 server fares; it serves all the same: {error}"
            ));
        }
    }
}

/// A socket, and the manager's address: a path, or `@` and an abstract name.
fn manager(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match (name.strip_prefix('@'), name.starts_with('/')) {
        (Some(name), _) => SocketAddr::from_abstract_name(name)?,
        (None, true) => SocketAddr::from_pathname(name)?,
        (None, false) => return Err(io::Error::other("neither a path nor @ and a name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok((socket, address))
}

/// How often the manager is to hear from us: twice as often as it asks for.
fn watchdog(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Duration>, String> {
    let Some(text) = variable("WATCHDOG_USEC") else {
        return Ok(None);
    };
    let ours = process::id().to_string();
    if variable("WATCHDOG_PID").is_some_and(|pid| pid != ours) {
        return Ok(None);
    }
    match text.parse() {
        Ok(microseconds @ 1..) => Ok(Some(Duration::from_micros(microseconds) / 2)),
        _ => Err(format!(
            "warning: WATCHDOG_USEC={text}: no number of microseconds, so no WATCHDOG=1 is sent; \
             set WatchdogSec= in the unit"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_asks() {
        let asked = |usec: &'static str, pid: Option<String>| {
            watchdog(move |name| match name {
                "WATCHDOG_USEC" => Some(usec.to_owned()),
                _ => pid.clone(),
            })
        };
        let second = Ok(Some(Duration::from_millis(500)));
        assert_eq!(asked("1000000", None), second);
        assert_eq!(asked("1000000", Some(process::id().to_string())), second);
        assert_eq!(asked("1000000", Some("1".to_owned())), Ok(None));
        assert_eq!(watchdog(|_| None), Ok(None));
        for wrong in ["0", "-5", "soon"] {
            let fault = asked(wrong, None).expect_err(wrong);
            assert!(
                fault.contains(wrong) && fault.contains("WatchdogSec"),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_manager_has_a_path_or_an_abstract_name() {
        for name in ["/run/notify", "@notify"] {
            assert!(manager(name).is_ok(), "{name}");
        }
        for name in ["", "vsock:2:1234", "relative"] {
            assert!(manager(name).is_err(), "{name}");
        }
    }
}

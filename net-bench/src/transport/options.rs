//! What a test's sockets are told, and what the kernel made of it.
//!
//! An option that the kernel refuses, or grants only in part, is an error that names the option,
//! the kernel's word and the remedy: a measurement with other options than those asked for would
//! be a measurement of something else.

use crate::test::{SocketOptions, Transport};
use anyhow::Context;
use bench_sys::calls;
use socket2::{Domain, Socket};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

/// Where the kernel lists the congestion controls that it has loaded.
const CONGESTION_CONTROLS: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";

/// Sets a socket's options. For TCP this comes before `connect` and `listen`, because the window
/// is agreed upon in the handshake; what is accepted inherits them.
///
/// # Errors
/// The option that the kernel refused, its word, and the remedy.
pub fn apply(socket: &Socket, transport: Transport, options: &SocketOptions) -> anyhow::Result<()> {
    if transport == Transport::Tcp {
        calls::count(1);
        // No case gains from a small message that waits for the acknowledgement of another.
        socket.set_tcp_nodelay(!options.nagle)?;
        if let Some(bytes) = options.segment_bytes {
            calls::count(1);
            socket
                .set_tcp_mss(bytes)
                .with_context(|| format!("--mss {bytes}: the kernel refused"))?;
        }
        if let Some(name) = &options.congestion {
            calls::count(1);
            let refused = |error| congestion_refused(name, &error);
            socket
                .set_tcp_congestion(name.as_bytes())
                .map_err(refused)?;
        }
    }
    if let Some(bytes) = options.window_bytes {
        set_window(socket, bytes)?;
    }
    if let Some(us) = options.device_poll_us {
        calls::count(1);
        socket.set_busy_poll(us).with_context(|| {
            format!(
                "--so-busy-poll {us}: the kernel refused; more than net.core.busy_read takes \
                 CAP_NET_ADMIN: run as root, or raise it with `sysctl -w net.core.busy_read={us}`"
            )
        })?;
    }
    if let Some(dscp) = options.dscp {
        set_dscp(socket, dscp).with_context(|| format!("--dscp {dscp}: the kernel refused"))?;
    }
    if let Some(rate) = options.pacing_bytes_per_s {
        calls::count(1);
        bench_sys::sockopt::set_max_pacing_rate(socket.as_fd(), rate)
            .with_context(|| format!("--fq-rate {rate}: the kernel refused"))?;
    }
    Ok(())
}

/// Asks for both buffers. The kernel doubles what it is asked for, to have room for its own
/// records, and silently stops at a limit.
fn set_window(socket: &Socket, bytes: u64) -> anyhow::Result<()> {
    let refused = || format!("--window {bytes}: the kernel refused");
    // Two are set and two are read.
    calls::count(4);
    // Test::check keeps the size within 31 bits.
    let asked = bytes as usize;
    socket.set_send_buffer_size(asked).with_context(refused)?;
    socket.set_recv_buffer_size(asked).with_context(refused)?;
    let granted = [
        ("send", "wmem_max", socket.send_buffer_size()?),
        ("receive", "rmem_max", socket.recv_buffer_size()?),
    ];
    for (direction, limit, size) in granted {
        anyhow::ensure!(
            size / 2 >= asked,
            "--window {bytes}: the kernel granted a {direction} buffer of {} bytes only; raise its \
             limit with `sysctl -w net.core.{limit}={bytes}`, or ask for less",
            size / 2
        );
    }
    Ok(())
}

/// The code point is the upper six bits of the header's field; the lower two are the network's.
fn set_dscp(socket: &Socket, dscp: u8) -> io::Result<()> {
    calls::count(2);
    let field = u32::from(dscp) << 2;
    if socket.domain()? == Domain::IPV6 {
        socket.set_tclass_v6(field)
    } else {
        socket.set_tos_v4(field)
    }
}

fn congestion_refused(name: &str, error: &io::Error) -> anyhow::Error {
    let known = fs::read_to_string(CONGESTION_CONTROLS).unwrap_or_default();
    let known = known.trim();
    if error.kind() == ErrorKind::PermissionDenied {
        return anyhow::anyhow!(
            "--congestion {name}: {error}; without privileges only those in \
             net.ipv4.tcp_allowed_congestion_control may be used: add it there, or run as root"
        );
    }
    anyhow::anyhow!(
        "--congestion {name}: {error}; this kernel has loaded: {known}; load its module with \
         `modprobe tcp_{name}`, on both hosts"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::Type;

    fn tcp(domain: Domain) -> Socket {
        Socket::new(domain, Type::STREAM, None).expect("a socket")
    }

    #[test]
    fn what_was_asked_for_is_what_the_kernel_has() {
        let options = SocketOptions {
            nagle: false,
            window_bytes: Some(65_536),
            congestion: Some("reno".to_owned()),
            dscp: Some(46),
            segment_bytes: Some(1000),
            pacing_bytes_per_s: Some(1_000_000),
            device_poll_us: None,
        };
        let socket = tcp(Domain::IPV4);
        apply(&socket, Transport::Tcp, &options).expect("reno is in every kernel");
        assert!(socket.tcp_nodelay().expect("known"));
        assert_eq!(socket.send_buffer_size().expect("known"), 2 * 65_536);
        assert_eq!(socket.tos_v4().expect("known"), 46 << 2);
        assert!(
            socket
                .tcp_congestion()
                .expect("known")
                .starts_with(b"reno\0")
        );
        let rate = bench_sys::sockopt::max_pacing_rate(socket.as_fd()).expect("known");
        assert_eq!(rate, 1_000_000);
    }

    #[test]
    fn what_the_kernel_has_not_is_named_with_the_remedy() {
        let mut options = SocketOptions {
            congestion: Some("no_such_one".to_owned()),
            ..SocketOptions::default()
        };
        let error = apply(&tcp(Domain::IPV4), Transport::Tcp, &options).expect_err("unknown");
        let text = error.to_string();
        for word in ["--congestion no_such_one", "reno", "modprobe"] {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
        options.congestion = None;
        options.window_bytes = Some(1 << 29);
        let error = apply(&tcp(Domain::IPV4), Transport::Tcp, &options).expect_err("too much");
        assert!(error.to_string().contains("sysctl"), "{error}");
    }
}

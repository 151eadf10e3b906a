//! Servers inside this process, for a mesh without a list of hosts: over loopback, with a key that
//! nobody else holds.

use super::hosts::Peer;
use crate::control::Key;
use crate::server::{Limits, Options, Server};
use reports::host::Host;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What a server of a mesh is told. A node has one conversation with the coordinator and one with
/// each that sends to it at once.
pub(super) fn options(key: Key, host: Host) -> Options {
    Options {
        key,
        host: Some(host),
        max_clients: 1024,
        once: false,
        data_ip: None,
        limits: Limits::default(),
    }
}

/// Runs so many servers beside `coordinate`, which gets to know where they are.
///
/// # Errors
/// A server cannot listen; whatever `coordinate` says.
pub(super) fn among<T>(
    count: usize,
    key: &Key,
    host: &Host,
    coordinate: impl FnOnce(Vec<Peer>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let bind = |_| Server::bind(SocketAddr::new(ip, 0), options(key.clone(), host.clone()));
    let servers: Vec<Server> = (0..count).map(bind).collect::<Result<_, _>>()?;
    let peers: Vec<Peer> = servers
        .iter()
        .map(|server| {
            let port = server.address()?.port();
            Ok(Peer {
                label: format!("{ip}:{port}"),
                host: ip.to_string(),
                port,
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for server in &servers {
            let over = &over;
            scope.spawn(move || server.serve(|| over.load(Ordering::Relaxed), &|_| ()));
        }
        // However the coordinator ends: the servers are waited for.
        let _end = End(&over);
        coordinate(peers)
    })
}

/// Ends the servers when it goes.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

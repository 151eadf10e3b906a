//! `net-bench serve`: the server as a process of its own.

use anyhow::Context;
use clap::Args;
use net_bench::control::Key;
use net_bench::server::{Options, Server};
use net_bench::spec::DEFAULT_PORT;
use reports::host;
use reports::measure::{install_signal_handlers, stop_requested};
use reports::program::{self, Usage};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on; one beyond loopback needs a key
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Port of the control channel; 0 takes a free one. Data uses free ports of its own
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    port: u16,
    /// File with the key that clients must hold [default: $NET_BENCH_KEY, else no key]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// End after the first test
    #[arg(long)]
    once: bool,
    /// Most clients at the same time; more are turned away
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_clients: u32,
}

/// Serves until SIGINT or SIGTERM, or until the first test is over if that was asked.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let key = Key::find(args.key_file.as_deref())?;
    if key.is_empty() && !args.bind.is_loopback() {
        return Err(Usage(format!(
            "--bind {}: beyond loopback a server needs a key, or every host that reaches it could \
             use this machine to send traffic; make one with `head -c 32 /dev/urandom | base64 > \
             key`, copy it to the client, and give both --key-file key",
            args.bind
        ))
        .into());
    }
    install_signal_handlers().context("cannot set handlers for SIGINT, SIGTERM")?;
    let options = Options {
        key,
        host: Some(host::fingerprint()),
        max_clients: args.max_clients as usize,
        once: args.once,
    };
    let server = Server::bind(SocketAddr::new(args.bind, args.port), options)
        .context("choose another --bind or --port")?;
    program::print(&format!("listening on {}\n", server.address()?))?;
    server.serve(stop_requested, &|line| {
        // A closed terminal must not end the server.
        let _ = writeln!(io::stderr(), "{line}");
    })?;
    Ok(ExitCode::SUCCESS)
}

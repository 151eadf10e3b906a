//! `net-bench serve`: the server as a process of its own, in a terminal, as a [`daemon`], or under a
//! service manager.

mod daemon;
mod log;
mod notify;
mod pid_file;

use anyhow::Context;
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use log::Log;
use net_bench::control::Key;
use net_bench::server::{Limits, Options, Server};
use net_bench::size;
use net_bench::spec::DEFAULT_PORT;
use notify::Notify;
use pid_file::PidFile;
use reports::host;
use reports::measure::{install_signal_handlers, stop_requested};
use reports::program::{self, Usage};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// The heading of the options for servers that nobody watches.
const SERVICE: &str = "Service";

/// What is said of service managers below the options.
pub const AFTER_HELP: &str = "A service manager that sets NOTIFY_SOCKET, like systemd for a unit of \
    Type=notify, is told when the server listens, how many clients it has, that it is well (if \
    WatchdogSec= is set), and when it ends. SIGINT and SIGTERM end the server in good order; a \
    second one ends it at once.";

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address to listen on; one beyond loopback needs a key
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Address of the control channel, where data is to go over another network: --bind is that of
    /// the data then [default: --bind]
    #[arg(long, value_name = "ADDR")]
    control_addr: Option<IpAddr>,
    /// Port of the control channel; 0 takes a free one. Data uses free ports of its own
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    port: u16,
    /// File with the key that clients must hold [default: $NET_BENCH_KEY, else no key]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// End after the first client
    #[arg(long)]
    once: bool,
    /// Most clients at the same time; more are turned away
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_clients: u32,
    /// Longest test in seconds, warm-up included; longer ones are refused or cut off
    #[arg(long, value_name = "SECONDS")]
    max_time: Option<f64>,
    /// Most payload bytes per second of a test, both ways together: only tests are taken that keep to
    /// it by --fq-rate, --bitrate or --rate; K, M, G are powers of 1024
    #[arg(long, value_name = "RATE", value_parser = size::parse)]
    max_rate: Option<u64>,
    /// Most memory for the buffers of all tests together; K, M, G are powers of 1024
    /// [default: 1G for each]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    max_memory: Option<u64>,
    /// Run in the background: return once the server listens, or say why it cannot. Without
    /// --log-file the lines about its clients are lost
    #[arg(short = 'D', long, help_heading = SERVICE)]
    daemon: bool,
    /// Write the number of the server's process to FILE, and remove it at the end. A server that
    /// lives keeps others from using the same FILE
    #[arg(long, value_name = "FILE", help_heading = SERVICE, value_parser = absolute_path())]
    pid_file: Option<PathBuf>,
    /// Add the lines about clients to FILE, with the time in UTC, rather than to standard error.
    /// SIGHUP has it opened anew, for whoever rotates logs
    #[arg(long, value_name = "FILE", help_heading = SERVICE, value_parser = absolute_path())]
    log_file: Option<PathBuf>,
}

/// A path that still leads to the same file after a daemon has changed its folder.
fn absolute_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

impl ServeArgs {
    /// Refuses what would open this machine to strangers, or cannot be reached.
    fn check(&self, key: &Key) -> Result<(), Usage> {
        let outside = [Some(self.bind), self.control_addr]
            .into_iter()
            .flatten()
            .find(|address| !address.is_loopback());
        if let (true, Some(address)) = (key.is_empty(), outside) {
            return Err(Usage(format!(
                "--bind, --control-addr {address}: beyond loopback a server needs a key, or every \
                 host that reaches it could use this machine to send traffic; make one with `head \
                 -c 32 /dev/urandom | base64 > key`, copy it to the client, and give both \
                 --key-file key"
            )));
        }
        if self.control_addr.is_some() && self.bind.is_unspecified() {
            return Err(Usage(format!(
                "--bind {}: with --control-addr, clients have to be told where the data goes: give \
                 --bind the address that they reach",
                self.bind
            )));
        }
        let no_time = self.max_time.is_some_and(|s| s <= 0.0 || s.is_nan());
        if no_time || self.max_rate == Some(0) {
            return Err(Usage(
                "--max-time, --max-rate: more than 0, or no test would be taken".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Serves in this process or in a daemon, until SIGINT or SIGTERM, or until the first test is over
/// if that was asked.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let key = Key::find(args.key_file.as_deref())?;
    args.check(&key)?;
    if args.daemon {
        return daemon::start(|parent| {
            serve(args, key, |line, log| {
                log.detach()?;
                parent.listening(line)
            })
        });
    }
    serve(args, key, |line, _| program::print(line))?;
    Ok(ExitCode::SUCCESS)
}

/// Serves to the end. `announce` is called once the server listens.
fn serve(
    args: &ServeArgs,
    key: Key,
    announce: impl FnOnce(&str, &Log) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    install_signal_handlers().context("cannot set handlers for SIGINT, SIGTERM")?;
    let log = Log::open(args.log_file.as_deref())?;
    // Before the port: of a server that runs already, its process says more than its port.
    let pid_file = args.pid_file.as_deref().map(PidFile::claim).transpose()?;
    let options = Options {
        key,
        host: Some(host::fingerprint()),
        max_clients: args.max_clients as usize,
        once: args.once,
        data_ip: args.control_addr.map(|_| args.bind),
        limits: Limits {
            seconds: args.max_time,
            memory_bytes: args.max_memory,
            bytes_per_s: args.max_rate,
        },
    };
    let control = args.control_addr.unwrap_or(args.bind);
    let server = Server::bind(SocketAddr::new(control, args.port), options)
        .context("choose another --bind, --control-addr or --port")?;
    let address = server.address()?;
    if let Some(pid_file) = &pid_file {
        pid_file.write()?;
    }
    announce(&format!("listening on {address}\n"), &log)?;
    let mut notify = Notify::ready(address, &log);
    let end = || {
        log.reopen_if_asked();
        notify.look_around(server.client_count());
        if stop_requested() {
            notify.stopping();
        }
        stop_requested()
    };
    let served = server.serve(end, &|line| log.line(line));
    notify.stopping();
    if let (Err(error), true) = (&served, log.is_file()) {
        log.line(&format!("{error:#}"));
    }
    served
}

//! Two hosts on one machine: network namespaces joined by a multi-queue veth pair.
//!
//! The namespaces have no names. Each belongs to a holder, a `cat` that reads from a pipe of this
//! process, so it ends when this process does, in whatever way, and with it goes the namespace and
//! its end of the pair: nothing is left to clean up, not even after SIGKILL. What runs inside is
//! killed with the thread that started it. A caller without privileges gets a user namespace in
//! which it has them.

use super::{KEY, Server};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

/// The first host's address.
pub const A: &str = "10.77.0.1";
/// The second host's address.
pub const B: &str = "10.77.0.2";
/// The first host's end of the pair.
pub const VETH_A: &str = "va";
/// The second host's end of the pair.
pub const VETH_B: &str = "vb";

/// Both hosts.
pub struct TwoHosts {
    pub a: Host,
    pub b: Host,
}

/// One host, up to the end of this value.
pub struct Host {
    holder: Child,
    /// Closed when dropped, which ends the holder.
    _rope: ChildStdin,
    user: bool,
}

impl TwoHosts {
    /// Makes both hosts and a link of `queues` queues each way between them.
    ///
    /// # Errors
    /// Why there cannot be two hosts here; a test says SKIPPED and this.
    pub fn new(queues: u32) -> Result<Self, String> {
        for tool in ["unshare", "nsenter", "setpriv", "ip", "tc"] {
            let found = Command::new(tool).arg("-V").output();
            found.map_err(|error| format!("no {tool} (util-linux, iproute2): {error}"))?;
        }
        let user = !nix::unistd::geteuid().is_root();
        let mut unshare = Command::new("unshare");
        unshare.args(if user {
            &["-r", "-n", "-m"][..]
        } else {
            &["-n", "-m"]
        });
        let a = Host::hold(unshare, user)?;
        // The second lives in the first one's user namespace, so that a link can join them.
        let mut unshare = a.enter(&["-U"]);
        unshare.args(["unshare", "-n", "-m"]);
        let b = Host::hold(unshare, user)?;
        let hosts = Self { a, b };
        hosts.join(queues)?;
        Ok(hosts)
    }

    fn join(&self, queues: u32) -> Result<(), String> {
        let count = queues.to_string();
        let queues = ["numtxqueues", &count, "numrxqueues", &count];
        let peer = self.b.holder.id().to_string();
        let mut link = self.a.command("ip");
        link.args(["link", "add", VETH_A]).args(queues);
        link.args(["type", "veth", "peer", "name", VETH_B, "netns", &peer])
            .args(queues);
        succeed(link)?;
        for (host, device, address) in [(&self.a, VETH_A, A), (&self.b, VETH_B, B)] {
            let ip = |arguments: &[&str]| {
                let mut ip = host.command("ip");
                ip.args(arguments);
                succeed(ip)
            };
            ip(&["address", "add", &format!("{address}/24"), "dev", device])?;
            ip(&["link", "set", device, "up"])?;
            ip(&["link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    /// `net-bench serve` on the second host.
    pub fn server(&self) -> Server {
        let mut server = self.b.net_bench(&["serve", "--bind", B, "-p", "0"]);
        Server::spawn(&mut server)
    }
}

impl Host {
    /// Starts the process whose namespaces are the host.
    fn hold(mut unshare: Command, user: bool) -> Result<Self, String> {
        // Without a /sys of its own the host would see this machine's devices there.
        let script = "mount -t sysfs sysfs /sys 2>/dev/null; echo ready; exec cat";
        let mut holder = unshare
            .args(["sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let rope = holder.stdin.take().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(holder.stdout.take().unwrap());
        if out.read_line(&mut line).is_err() || line != "ready\n" {
            drop(rope);
            let output = holder
                .wait_with_output()
                .map_err(|error| error.to_string())?;
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("no network namespace: {}", why.trim()));
        }
        Ok(Self {
            holder,
            _rope: rope,
            user,
        })
    }

    /// The holder's process.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    fn enter(&self, namespaces: &[&str]) -> Command {
        let pid = self.pid().to_string();
        if !self.user && namespaces == ["-U"] {
            // Without a user namespace there is nothing to enter.
            return Command::new("env");
        }
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid]).args(namespaces);
        if self.user {
            command.arg("--preserve-credentials");
        }
        command
    }

    /// A program inside, which is killed when the thread that starts it ends.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let namespaces = if self.user {
            &["-U", "-n", "-m"][..]
        } else {
            &["-n", "-m"]
        };
        let mut command = self.enter(namespaces);
        command
            .args(["setpriv", "--pdeathsig", "KILL"])
            .arg(program);
        command.env_remove("NET_BENCH_KEY");
        command
    }

    /// `net-bench` inside, with the key of the tests.
    pub fn net_bench(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_net-bench"));
        command.args(arguments).env("NET_BENCH_KEY", KEY);
        command
    }

    /// A shell's line inside, which must succeed; its output.
    pub fn sh(&self, line: &str) -> String {
        self.try_sh(line)
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// A shell's line inside: its output, or what it said when it failed.
    pub fn try_sh(&self, line: &str) -> Result<String, String> {
        let mut shell = self.command("sh");
        shell.args(["-c", line]);
        succeed(shell)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn succeed(mut command: Command) -> Result<String, String> {
    let output: Output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

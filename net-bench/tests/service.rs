//! The server that nobody watches: as a daemon, with a pid file and a log, under a service manager.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Server, net_bench, stderr};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getsid};
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far longer than anything here takes; only what never comes takes as long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until something is so.
fn wait_until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < DEADLINE, "never {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder for a test's files. Processes whose command line names it are the test's, and are killed
/// at its end, however it ends.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        // Daemons become children of this process, so that it can wait for their ends.
        set_child_subreaper(true).unwrap();
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `net-bench serve` on a free port, with a pid file and a log here.
    fn serve(&self, arguments: &[&str]) -> Command {
        let mut command = net_bench(&["serve", "-p", "0", "--pid-file"]);
        command.arg(self.path("pid")).arg("--log-file");
        command.arg(self.path("log")).args(arguments);
        command
    }

    /// Starts a daemon: its process, and the port it listens on.
    fn daemon(&self) -> (Pid, String) {
        let output = self.serve(&["-D"]).output().unwrap();
        let (address, pid) = (listening(&output), self.pid());
        (pid, address.rsplit(':').next().unwrap().to_owned())
    }

    /// The process that the pid file names.
    fn pid(&self) -> Pid {
        let text = self.read("pid");
        Pid::from_raw(text.trim().parse().expect("a number"))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The processes whose command line names the folder.
    fn processes(&self) -> Vec<Pid> {
        let ours = self.0.path().as_os_str().as_encoded_bytes();
        let names_us = |line: &[u8]| line.windows(ours.len()).any(|part| part == ours);
        let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            names_us(&line).then_some(Pid::from_raw(pid))
        });
        numbers.collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

/// The address that a server printed when it began to listen, and nothing else.
fn listening(output: &Output) -> String {
    assert!(output.status.success(), "{}", common::said(output));
    assert_eq!(stderr(output), "");
    let line = String::from_utf8_lossy(&output.stdout);
    let address = line.strip_prefix("listening on ").expect("one line");
    assert_eq!(address.lines().count(), 1, "{line}");
    address.trim().to_owned()
}

/// A short test against a server, which must succeed.
fn assert_serves(port: &str) {
    let output = net_bench(&["tcp_rr", "-n", "20", "-c", "127.0.0.1", "-p", port])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", common::said(&output));
}

/// Ends a daemon in good order.
fn end(pid: Pid) {
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
}

#[test]
fn a_daemon_serves_until_it_is_told_to_end() {
    let folder = Folder::new();
    let mut command = net_bench(&["serve", "-p", "0", "--daemon", "--pid-file", "here.pid"]);
    command.arg("--log-file").arg(folder.path("log"));
    let output = command.current_dir(folder.0.path()).output().unwrap();
    let address = listening(&output);
    let text = folder.read("here.pid");
    let pid = Pid::from_raw(text.trim().parse().unwrap());
    assert_eq!(folder.processes(), [pid]);

    let proc = PathBuf::from(format!("/proc/{pid}"));
    assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/"));
    let log = folder.path("log");
    for (descriptor, file) in [("0", Path::new("/dev/null")), ("1", &log), ("2", &log)] {
        let link = proc.join("fd").join(descriptor);
        assert_eq!(fs::read_link(link).unwrap(), file, "{descriptor}");
    }
    let session = getsid(Some(pid)).unwrap();
    assert!(session != pid && session != getsid(None).unwrap());

    assert_serves(address.rsplit(':').next().unwrap());
    wait_until("logged", || folder.read("log").contains("served tcp_rr"));
    end(pid);
    assert!(!folder.path("here.pid").exists());
    let log = folder.read("log");
    let (time, line) = log.split_once(' ').unwrap();
    let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let form: String = time.chars().map(digits).collect();
    assert_eq!(form, "0000-00-00T00:00:00.000Z", "{log}");
    assert!(line.starts_with("127.0.0.1:"), "{log}");
}

#[test]
fn a_daemon_needs_neither_files_nor_a_terminal() {
    let folder = Folder::new();
    // The path is there for the command line to name, by which the daemon is found.
    let key = folder.path("key");
    fs::write(&key, common::KEY).unwrap();
    let output = net_bench(&["serve", "-p", "0", "-D", "--once", "--key-file"])
        .arg(&key)
        .output()
        .unwrap();
    let address = listening(&output);
    let [pid] = folder.processes()[..] else {
        panic!("{:?}", folder.processes());
    };
    // There is no file to open anew.
    kill(pid, Signal::SIGHUP).unwrap();
    let client = net_bench(&["tcp_rr", "-n", "20", "-c", "127.0.0.1", "--key-file"])
        .arg(&key)
        .args(["-p", address.rsplit(':').next().unwrap()])
        .output()
        .unwrap();
    assert!(client.status.success(), "{}", common::said(&client));
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
}

#[test]
fn a_daemon_that_cannot_start_says_why_and_leaves_nothing() {
    let folder = Folder::new();
    let taken = Server::start(&[]);
    let other = folder.path("other");
    fs::write(&other, "Dear Sir or Madam").unwrap();
    let (port, there) = (taken.port(), other.to_str().unwrap().to_owned());
    let absent = folder.path("no/such").to_str().unwrap().to_owned();
    let log = folder.path("log").to_str().unwrap().to_owned();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["-p", &port, "--log-file", &log], 1, &port),
        (&["-p", "0", "--key-file", &absent], 2, "--key-file"),
        (&["-p", "0", "--pid-file", &absent], 1, "--pid-file"),
        (&["-p", "0", "--log-file", &absent], 1, "--log-file"),
        (&["-p", "0", "--pid-file", &there], 1, "is no pid file"),
        (&["-p", "0", "--pid-file", "/dev/null"], 1, "no regular"),
        (
            &["-p", "0", "--bind", "192.0.2.1", "--log-file", &log],
            2,
            "key",
        ),
    ];
    for (arguments, code, what) in cases {
        let output = net_bench(&["serve", "-D"])
            .args(arguments)
            .output()
            .unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(what), "{arguments:?}: {said}");
        assert_eq!(
            (said.lines().count(), output.stdout.len()),
            (1, 0),
            "{said}"
        );
        assert_eq!(folder.processes(), [], "{arguments:?}");
    }
    let pid_file = folder.path("pid");
    let output = net_bench(&["serve", "-D", "-p", &port, "--pid-file"])
        .arg(&pid_file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!pid_file.exists());
    assert_eq!(folder.read("other"), "Dear Sir or Madam");
    assert!(Path::new("/dev/null").exists());
    taken.assert_serves();
}

#[test]
fn two_servers_do_not_share_a_pid_file() {
    let folder = Folder::new();
    let (pid, port) = folder.daemon();
    for mode in [&["-D"][..], &[]] {
        let output = folder.serve(mode).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("--pid-file") && said.contains(&format!("kill {pid}")),
            "{said}"
        );
    }
    assert_eq!(folder.pid(), pid);
    assert_serves(&port);
    end(pid);
    // A process that lives and is no server keeps its file, too.
    let ours = std::process::id().to_string();
    fs::write(folder.path("pid"), &ours).unwrap();
    let output = folder.serve(&["-D"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("process {ours} lives")));
    assert_eq!(folder.read("pid"), ours);
}

#[test]
fn what_a_killed_server_left_is_replaced() {
    let folder = Folder::new();
    let (pid, _) = folder.daemon();
    kill(pid, Signal::SIGKILL).unwrap();
    waitpid(pid, None).unwrap();
    assert_eq!(folder.pid(), pid, "left behind");
    assert_eq!(kill(pid, None), Err(Errno::ESRCH));
    let (next, port) = folder.daemon();
    assert_ne!(next, pid);
    assert_serves(&port);
    end(next);

    fs::write(folder.path("pid"), "").unwrap();
    let mut server = Server::spawn(&mut folder.serve(&[]));
    assert_eq!(folder.pid().as_raw(), server.child.id() as i32);
    server.assert_serves();
    kill(folder.pid(), Signal::SIGINT).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(!folder.path("pid").exists());
    assert_eq!(server.log(), "", "it is in the file");
}

#[test]
fn a_log_that_was_renamed_is_opened_anew() {
    for daemon in [true, false] {
        let folder = Folder::new();
        let mut server = None;
        let (pid, port) = match daemon {
            true => folder.daemon(),
            false => {
                let server = server.insert(Server::spawn(&mut folder.serve(&[])));
                (folder.pid(), server.port())
            }
        };
        let lines = |name: &str| folder.read(name).lines().count();
        assert_serves(&port);
        wait_until("logged", || lines("log") == 1);
        fs::rename(folder.path("log"), folder.path("log.1")).unwrap();
        assert_serves(&port);
        wait_until("logged", || lines("log.1") == 2);
        kill(pid, Signal::SIGHUP).unwrap();
        wait_until("opened anew", || folder.path("log").exists());
        assert_serves(&port);
        wait_until("logged", || lines("log") == 1);
        assert_eq!(lines("log.1"), 2);
        if daemon {
            let link = fs::read_link(format!("/proc/{pid}/fd/2")).unwrap();
            assert_eq!(link, folder.path("log"));
            end(pid);
        }
    }
}

/// Receives until a message has this in it; all messages so far.
fn receive_until(socket: &UnixDatagram, what: &str) -> Vec<String> {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut messages = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = socket
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("no {what}: {error}: {messages:?}"));
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let found = message.contains(what);
        messages.push(message);
        if found {
            return messages;
        }
    }
}

#[test]
fn a_service_manager_is_told_how_the_server_fares() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let name = format!("net-bench-test-{}", std::process::id());
    let managers = [
        (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap()),
        (
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            &format!("@{name}"),
        ),
    ];
    for (manager, name) in managers {
        let mut command = folder.serve(&[]);
        let mut server = Server::spawn(command.env("NOTIFY_SOCKET", name));
        let ready = receive_until(&manager, "READY=1");
        assert_eq!(ready.len(), 1, "{ready:?}");
        let status = format!("STATUS=listening on {}, clients: 0", server.address);
        assert!(ready[0].lines().any(|line| line == status), "{ready:?}");
        let busy = net_bench(&["tcp_rr", "-t", "60", "-c", "127.0.0.1", "--json"])
            .args(["-p", &server.port()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn();
        let mut busy = busy.unwrap();
        receive_until(&manager, "clients: 1");
        kill(Pid::from_raw(busy.id() as i32), Signal::SIGTERM).unwrap();
        busy.wait().unwrap();
        receive_until(&manager, "clients: 0");
        kill(folder.pid(), Signal::SIGTERM).unwrap();
        receive_until(&manager, "STOPPING=1");
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_watchdog_hears_from_the_server() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let serve = |variables: &[(&str, &str)]| {
        let mut command = folder.serve(&[]);
        command.env("NOTIFY_SOCKET", &path);
        Server::spawn(command.envs(variables.iter().copied()))
    };
    let server = serve(&[("WATCHDOG_USEC", "400000")]);
    receive_until(&manager, "WATCHDOG=1");
    receive_until(&manager, "WATCHDOG=1");
    drop(server);
    // It watches another process, so nothing is sent before the end.
    let server = serve(&[("WATCHDOG_USEC", "1"), ("WATCHDOG_PID", "1")]);
    receive_until(&manager, "READY=1");
    server.assert_serves();
    kill(folder.pid(), Signal::SIGTERM).unwrap();
    let rest = receive_until(&manager, "STOPPING=1");
    assert!(
        !rest.iter().any(|message| message.contains("WATCHDOG")),
        "{rest:?}"
    );
}

#[test]
fn a_manager_that_is_not_there_is_a_warning() {
    let folder = Folder::new();
    let absent = folder.path("absent");
    for name in [absent.to_str().unwrap(), "@net-bench-nobody", "vsock:2:1"] {
        let mut command = net_bench(&["serve", "-p", "0"]);
        let mut server = Server::spawn(command.env("NOTIFY_SOCKET", name));
        server.wait_for_log(&format!("warning: NOTIFY_SOCKET={name}"));
        server.assert_serves();
        server.wait_for_log("served");
        kill(Pid::from_raw(server.child.id() as i32), Signal::SIGTERM).unwrap();
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
        assert_eq!(
            server.log().matches("warning").count(),
            1,
            "{}",
            server.log()
        );
    }
}

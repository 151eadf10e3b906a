//! `scripts/lab` and `scripts/rxe`: commands in virtual machines whose kernel has software RDMA, and
//! that nothing is left of them, however they end.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/lab");
const RXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/rxe");

/// Machines are emulated: one run at a time is fastest.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `scripts/lab` with its temporary files in `folder`.
fn lab(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(LAB);
    command
        .args(arguments)
        .env("TMPDIR", folder.path())
        .current_dir(folder.path());
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Says why a test cannot run here, if that is what the exit code says.
fn skipped(test: &str, code: Option<i32>, stderr: &[u8]) -> bool {
    let unavailable = code == Some(3);
    if unavailable {
        println!("SKIPPED {test}: {}", text(stderr).trim());
    }
    unavailable
}

/// The output of a bash script in the lab, or `None` where there is none.
fn run(test: &str, folder: &TempDir, options: &[&str], script: &str) -> Option<Output> {
    let arguments = [&["run"], options, &["--", "bash", "-c", script]].concat();
    let output = lab(folder, &arguments).output().expect("bash starts");
    if skipped(test, output.status.code(), &output.stderr) {
        return None;
    }
    assert_eq!(entries(folder.path()), Vec::<PathBuf>::new());
    Some(output)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("readable").path())
        .collect()
}

/// Asserts the exit code, and shows all that was said where it is another.
fn assert_code(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn a_command_runs_as_on_the_host_on_a_kernel_with_rdma() {
    let _turn = alone();
    let (folder, results, kept) = (folder(), folder(), folder());
    let kept = kept.path().join("kept");
    fs::write(&kept, "as it was").expect("writable");
    let options = ["--out", results.path().to_str().expect("UTF-8")];
    let script = format!(
        "echo to stderr >/dev/stderr
        pwd
        head -c 100000 /dev/zero | tee \"$LAB_OUT/zeros\"
        {RXE} down && {RXE} status && exit 1
        {RXE} up eth0
        ibv_rc_pingpong -d rxe0 -g 1 -n 100 >/dev/null &
        for try in {{1..100}}; do
            sleep 0.2
            ibv_rc_pingpong -d rxe0 -g 1 -n 100 localhost 2>/dev/null && break
        done
        wait
        cat {kept} && echo changed >{kept}
        sleep 1000 & exit 7",
        kept = kept.display()
    );
    let Some(output) = run("a lab of one", &folder, &options, &script) else {
        return;
    };
    assert_code(&output, 7);
    assert_eq!(text(&output.stderr), "to stderr\n");

    let zeros = vec![0; 100_000];
    let head = [folder.path().to_str().expect("UTF-8").as_bytes(), b"\n"].concat();
    assert!(output.stdout.starts_with(&[&head[..], &zeros].concat()));
    assert_eq!(fs::read(results.path().join("zeros")).ok(), Some(zeros));

    let rest = text(&output.stdout[head.len() + 100_000..]);
    for wanted in [
        "no RDMA device; scripts/rxe up adds one",
        "rxe0: ACTIVE, netdev eth0, MTU 1500, RDMA MTU 1024",
        "GID 1 0000:0000:0000:0000:0000:ffff:0a4d:0001",
        // 100 messages of 4096 bytes there and back.
        "819200 bytes in",
        "as it was",
    ] {
        assert!(rest.contains(wanted), "no {wanted} in {rest}");
    }
    // What it changed elsewhere stayed in its memory.
    assert_eq!(fs::read_to_string(&kept).ok().as_deref(), Some("as it was"));
}

#[test]
fn disks_are_empty_or_images_of_the_host() {
    let _turn = alone();
    let (folder, images) = (folder(), folder());
    let image = images.path().join("image");
    fs::write(&image, vec![b'x'; 1 << 20]).expect("writable");
    let disks = ["--disk", "64M,throttling.iops-total=1000", "--disk"];
    let options = [&disks[..], &[image.to_str().expect("UTF-8")]].concat();
    let script = "
        for disk in nvme0n1 nvme1n1; do cat /sys/block/$disk/queue/io_poll; done
        for controller in /sys/class/nvme/*; do
            disk=$(echo $controller/nvme*n1)
            serial=$(cat $controller/serial)
            echo $serial $(cat $disk/size) $(head -c 4 /dev/${disk##*/} | tr '\\0' 0)
            if [ $serial = lab-disk-2 ]; then
                echo changed | dd of=/dev/${disk##*/} conv=notrunc,fsync status=none
            fi
        done | sort";
    let Some(output) = run("a lab with disks", &folder, &options, script) else {
        return;
    };
    assert_code(&output, 0);
    let expected = "1\n1\nlab-disk-1 131072 0000\nlab-disk-2 2048 xxxx\n";
    assert_eq!(text(&output.stdout), expected);
    let image = fs::read(&image).expect("still there");
    assert!(image.starts_with(b"changed\nxxx"));
}

#[test]
fn two_machines_are_two_rdma_hosts() {
    let _turn = alone();
    let folder = folder();
    let script = "
        lab-on 2 bash -c 'echo out of $(uname -n); echo err >&2; exit 9'; echo code $?
        lab-on 2 bash -c 'trap \"echo told; exit 5\" TERM; echo up; while :; do sleep 0.1; done' \
            >served & server=$!
        until grep -q up served; do sleep 0.1; done
        kill $server; wait $server; echo code $? after $(tail -n 1 served)
        lab-on 2 ib_send_bw -d rxe0 -x 1 -s 4096 -n 100 >/dev/null & server=$!
        for try in {1..100}; do
            sleep 0.2
            ib_send_bw -d rxe0 -x 1 -s 4096 -n 100 node2 2>/dev/null && break
        done
        wait $server; echo code $?
        cat /sys/class/infiniband/rxe0/ports/1/hw_counters/sent_pkts";
    let Some(output) = run("a lab of two", &folder, &["--nodes", "2"], script) else {
        return;
    };
    let out = text(&output.stdout);
    assert!(
        out.starts_with("out of node2\ncode 9\ncode 5 after told\n"),
        "{out}{}",
        text(&output.stderr)
    );
    // The bash that was told to end says so there, too.
    assert!(text(&output.stderr).starts_with("err\n"));
    let mut lines = out.lines().map(|line| line.split_whitespace());
    let row = lines.find(|words| words.clone().take(2).eq(["4096", "100"]));
    assert!(row.is_some(), "no row of ib_send_bw: {out}");
    assert!(out.contains("code 0"), "{out}");
    // A message of 4096 bytes takes four packets of the RDMA MTU.
    let packets = out.lines().last().and_then(|line| line.parse::<u64>().ok());
    assert!(
        packets >= Some(400),
        "{packets:?} packets left node 1: {out}"
    );
}

#[test]
fn a_command_that_hangs_is_ended_at_the_deadline() {
    let _turn = alone();
    let folder = folder();
    // The first run ever downloads the kernel, before the time counts.
    let (started, limit) = (Instant::now(), Duration::from_secs(240));
    let options = ["--timeout", "15"];
    let script = "echo hanging; sleep 1000";
    let Some(output) = run("a deadline", &folder, &options, script) else {
        return;
    };
    assert_code(&output, 124);
    let errors = text(&output.stderr);
    assert!(errors.contains("at the deadline of 15 s"), "{errors}");
    assert!(started.elapsed() < limit, "{:?}", started.elapsed());
}

/// Whoever ends the lab, and however: machines and files go with it.
#[test]
fn nothing_is_left_of_a_lab_that_is_killed() {
    let _turn = alone();
    for (signal, code) in [
        (Signal::SIGINT, Some(130)),
        (Signal::SIGTERM, Some(143)),
        (Signal::SIGKILL, None),
    ] {
        let folder = folder();
        let mut child = lab(&folder, &["run", "--nodes", "2", "--", "sleep", "1000"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bash starts");
        let deadline = Instant::now() + Duration::from_secs(120);
        while machines(folder.path()).len() < 2 {
            if child.try_wait().expect("a child").is_some() {
                let output = child.wait_with_output().expect("a child");
                assert!(
                    skipped("a killed lab", output.status.code(), &output.stderr),
                    "{}",
                    text(&output.stderr)
                );
                return;
            }
            assert!(Instant::now() < deadline, "no machine was started");
            std::thread::sleep(Duration::from_millis(50));
        }
        let machines = machines(folder.path());
        let pid = i32::try_from(child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("a process of ours");
        let status = child.wait().expect("a child");
        assert_eq!(status.code(), code);
        assert_eq!(status.signal(), code.is_none().then_some(signal as i32));

        let deadline = Instant::now() + Duration::from_secs(60);
        let left = || {
            let mut left = entries(folder.path());
            left.extend(machines.iter().filter(|pid| runs(pid)).map(PathBuf::from));
            left
        };
        while !left().is_empty() {
            assert!(Instant::now() < deadline, "left by {signal}: {:?}", left());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The pids of the machines whose temporary files are in a folder.
fn machines(folder: &Path) -> Vec<String> {
    let pids = entries(folder).into_iter().flat_map(|lab| {
        let pid = |node| fs::read_to_string(lab.join(format!("pid-{node}")));
        [pid(1), pid(2)]
    });
    let pids = pids.filter_map(Result::ok).map(|pid| pid.trim().to_owned());
    pids.filter(|pid| !pid.is_empty()).collect()
}

/// Whether a process is there; one that ended and that nobody asked about is not.
fn runs(pid: &str) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[test]
fn what_is_missing_or_wrong_is_said() {
    let folder = folder();
    // Only what it takes to get to the check.
    let tools = tempfile::tempdir().expect("a temporary folder");
    for tool in ["bash", "dirname", "uname"] {
        let path = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
        if let Some(path) = path.iter().find(|path| path.exists()) {
            std::os::unix::fs::symlink(path, tools.path().join(tool)).expect("a link");
        }
    }
    let output = lab(&folder, &["run", "--", "true"])
        .env("PATH", tools.path())
        .output()
        .expect("bash starts");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
    let wanted: &[&str] = if cfg!(target_arch = "x86_64") {
        &["qemu-system-x86_64", "scripts/setup --lab"]
    } else {
        &["only x86-64"]
    };
    assert!(wanted.iter().all(|part| errors.contains(part)), "{errors}");

    for arguments in [
        &["run"][..],
        &["run", "true"],
        &["run", "--nodes", "0", "--", "true"],
        &["run", "--timeout", "soon", "--", "true"],
        &["run", "--disk", "/absent", "--", "true"],
        &["stop"],
        &[],
    ] {
        let output = lab(&folder, arguments).output().expect("bash starts");
        assert_code(&output, 2);
        assert!(text(&output.stderr).contains("Usage: scripts/lab run"));
    }
    assert_eq!(entries(folder.path()), Vec::<PathBuf>::new());
}

//! A thousand command lines that nobody thought of. Cases and options come from the program's own
//! help, so that what is added later is tried without a change here; values come from good, bad
//! and hostile pools. None may change a byte outside of its folder, none may hang, every exit code
//! is a documented one, and nothing stays behind.
//!
//! All of it happens in a mount namespace in which everything but one small file system in memory
//! is read-only and /dev holds nothing but bait: a mistake would harm nobody.

mod grammar;

use crate::common::folder;
use crate::devices::{Loop, or_skip};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const WORKERS: usize = 4;
/// Lines between two looks at everything that must not change.
const BATCH: usize = 50;
/// After this a run is asked to end, as by Ctrl-C, and after thrice this it hangs.
const PATIENCE: Duration = Duration::from_secs(8);

/// Set in the process inside the namespace, to the folder that it owns.
const INSIDE: &str = "STORAGE_BENCH_RANDOM_LINES_IN";

#[test]
fn no_command_line_destroys_anything() {
    if let Ok(dir) = std::env::var(INSIDE) {
        return inside(Path::new(&dir));
    }
    let dir = folder();
    // What the loop device lies over is made outside, where loop devices can be set up.
    let Some(device) = Loop::new(dir.path(), "image") else {
        return;
    };
    if or_skip(&["mkfs.ext4", "-q", &device.name]).is_none() {
        return;
    }
    let before = device.content();
    let script = "set -e; cd \"$1\"; cp -a \"$2\" bait; \
         mount -t tmpfs -o size=48m,mode=755 tmpfs arena; mount -t tmpfs -o size=64k tmpfs /dev; \
         for node in 'null c 1 3' 'zero c 1 5' 'full c 1 7' 'urandom c 1 9' 'absent b 259 99999'; \
         do mknod /dev/$node; done; cp -a bait /dev/loop; mkdir /dev/shm; \
         ln -s /proc/self/fd/1 /dev/stdout; mount -o remount,bind,ro /; exec \"$0\" --exact \
         random::no_command_line_destroys_anything --nocapture";
    fs::create_dir(dir.path().join("arena")).expect("a folder");
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", script])
        .arg(std::env::current_exe().expect("this test"))
        .arg(dir.path())
        .arg(&device.name)
        .env(INSIDE, dir.path().join("arena"))
        .stdin(Stdio::null())
        .output();
    let output = status.expect("unshare starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    if !text.contains("seed") {
        println!("SKIPPED: no mount namespace here: {errors}");
        return;
    }
    print!("{text}");
    assert!(output.status.success(), "{text}{errors}");
    assert!(device.content() == before, "the device has changed");
}

/// The test proper, in the namespace.
fn inside(arena: &Path) {
    let seed = std::env::var("STORAGE_BENCH_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or(20_261_127);
    println!("seed {seed}");
    let started = Instant::now();
    let bait = Bait::lay(arena);
    let lines = grammar::lines(&bait.paths, &mut Rng::with_seed(seed));
    let before = bait.state();
    let codes = Mutex::new(BTreeMap::new());
    for (batch, lines) in lines.chunks(BATCH).enumerate() {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while let Some(line) = lines.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let code = try_line(arena, line);
                        *codes.lock().expect("no panic").entry(code).or_insert(0) += 1;
                    }
                });
            }
        });
        let after = bait.state();
        assert!(
            before == after,
            "batch {batch} changed {:?}:\n{lines:#?}",
            differing(&before, &after)
        );
    }
    let codes = codes.into_inner().expect("no panic");
    println!("exit codes {codes:?} in {:.0?}", started.elapsed());
    // A generator that only makes nonsense, or none, would prove nothing.
    for code in [0, 2] {
        let share = codes.get(&code).copied().unwrap_or(0);
        assert!(
            share > lines.len() / 20,
            "exit code {code} came {share} times: {codes:?}"
        );
    }
}

/// What is kept of a file: inode, mode and content.
type Entry = (u64, u32, Vec<u8>);

/// What must not change, and the names that lead to it.
struct Bait {
    arena: PathBuf,
    paths: Vec<String>,
}

impl Bait {
    fn lay(arena: &Path) -> Self {
        let sentinel = arena.join("sentinel");
        let locked = arena.join("locked");
        for dir in [&sentinel, &locked, &arena.join("work")] {
            fs::create_dir(dir).expect("a folder");
        }
        fs::write(sentinel.join("document"), vec![1; 100_000]).expect("a file");
        fs::write(sentinel.join("empty"), "").expect("a file");
        fs::write(
            sentinel.join("report.json"),
            "{\"schema\": \"somebody else's\"}",
        )
        .expect("a file");
        fs::write(locked.join("data"), vec![2; 8192]).expect("a file");
        symlink("document", sentinel.join("link")).expect("a link");
        symlink("/dev/loop", sentinel.join("device")).expect("a link");
        symlink("/dev/nvme9n9", sentinel.join("dangling")).expect("a link");
        symlink("/dev", sentinel.join("dev")).expect("a link");
        let locked_text = locked.to_str().expect("text").to_owned();
        crate::devices::system(&["mount", "--bind", &locked_text, &locked_text]).expect("root");
        crate::devices::system(&["mount", "-o", "remount,bind,ro", &locked_text]).expect("root");
        let inside = |name: &str| sentinel.join(name).display().to_string();
        let mut paths: Vec<String> = [
            ".",
            "new",
            "sub/new",
            "../new/",
            "/dev/loop",
            "/dev/./loop",
            "/dev/absent",
            "/dev/null",
            "/dev/zero",
            "/dev/full",
            "/dev/nvme9n9",
            "/dev",
            "/dev/stdout",
            "/",
            "",
            " ",
            "..",
            "/proc/self/fd/0",
            "/proc/self/mem",
            "/proc/kcore",
            "/proc/self/cwd",
            "/sys",
            "/etc/passwd",
            "-",
            "--",
            "\u{1b}[31m",
            "new\nline",
            "../../sentinel/document",
        ]
        .map(str::to_owned)
        .into();
        let names = [
            "document",
            "report.json",
            "link",
            "device",
            "dangling",
            "dev/nvme9n9",
            "new",
            ".",
            "absent/new",
        ];
        paths.extend(names.map(inside));
        paths.extend([
            locked_text.clone(),
            format!("{locked_text}/data"),
            format!("{locked_text}/new"),
        ]);
        let arena = arena.to_owned();
        Self { arena, paths }
    }

    /// Everything outside of the folders in which the lines run.
    fn state(&self) -> BTreeMap<PathBuf, Entry> {
        let mut found = BTreeMap::new();
        let mut wanted = vec![self.arena.clone(), PathBuf::from("/dev")];
        while let Some(path) = wanted.pop() {
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let content = match metadata.is_file() {
                true => fs::read(&path).expect("readable"),
                false => Vec::new(),
            };
            if metadata.is_dir() && path != self.arena.join("work") {
                let entries = fs::read_dir(&path).expect("readable");
                wanted.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
            found.insert(path, (metadata.ino(), metadata.mode(), content));
        }
        let device = fs::read("/dev/loop").expect("the bait is readable");
        found.insert("/dev/loop (content)".into(), (0, 0, device));
        found
    }
}

fn differing<V: PartialEq>(
    one: &BTreeMap<PathBuf, V>,
    other: &BTreeMap<PathBuf, V>,
) -> Vec<PathBuf> {
    let keys = one.keys().chain(other.keys());
    keys.filter(|key| one.get(*key) != other.get(*key))
        .cloned()
        .collect()
}

/// Runs one line in a new folder, and looks at how it ended and what it left there.
fn try_line(arena: &Path, line: &[String]) -> i32 {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let work = arena.join("work").join(number.to_string()).join("here");
    fs::create_dir_all(&work).expect("a folder");
    let child = Command::new(env!("CARGO_BIN_EXE_storage-bench"))
        .args(line)
        .current_dir(&work)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let code = end_of(child, line);
    assert!((0..=4).contains(&code), "exit code {code}: {line:?}");
    // Reports and sessions may stay, where they were asked for.
    let writes = |word: &String| {
        word.starts_with("-o") || word.starts_with("--output") || word.starts_with("--sweep")
    };
    if !line.iter().any(writes) {
        let left: Vec<_> = fs::read_dir(&work)
            .expect("there")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(left.is_empty(), "{line:?} left {left:?}");
    }
    fs::remove_dir_all(work.parent().expect("its own")).expect("ours");
    code
}

fn end_of(mut child: Child, line: &[String]) -> i32 {
    let started = Instant::now();
    let mut asked = false;
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return status
                .code()
                .unwrap_or_else(|| panic!("{line:?} ended with {status}"));
        }
        if started.elapsed() > 3 * PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{line:?} hangs");
        }
        if started.elapsed() > PATIENCE && !asked {
            asked = true;
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

use super::*;
use crate::engine::Psync;
use crate::spec::{self, EngineOptions, PatternSpec, Rw};
use crate::workload::readback;
use crate::workload::scan::Scan;
use nix::sys::stat::Mode;
use reports::program::Usage;
use std::os::unix::net::UnixListener;
use std::path::Path;

const NONCE: u64 = 11;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn spec(place: Place, rw: Rw) -> Spec {
    Spec {
        pattern: PatternSpec {
            rw,
            rwmixread: rw.mixed().then_some(50),
            ..PatternSpec::default()
        },
        place,
        ..spec::example()
    }
}

fn refusal(path: &Path, rw: Rw) -> String {
    let error = inspect_file(&Place::File(path.to_owned()), rw).expect_err("refused");
    assert!(error.downcast_ref::<Usage>().is_some(), "{error:#}");
    error.to_string()
}

#[test]
fn only_regular_files_are_targets() {
    let dir = folder();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
    assert!(refusal(&fifo, Rw::Read).contains("a FIFO"));
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    assert!(refusal(&socket, Rw::Read).contains("a socket"));
    assert!(refusal(dir.path(), Rw::Read).contains("use --dir"));
    assert!(refusal(Path::new("/dev/null"), Rw::Read).contains("character device"));
    let empty = dir.path().join("empty");
    fs::write(&empty, "").expect("a file");
    assert!(refusal(&empty, Rw::Read).contains("empty"));
    assert_eq!(fs::metadata(&empty).expect("still there").len(), 0);
}

#[test]
fn existing_files_are_never_written() {
    let dir = folder();
    let path = dir.path().join("data");
    fs::write(&path, [7; 8192]).expect("a file");
    for rw in [Rw::Write, Rw::Randwrite, Rw::Rw, Rw::Randrw] {
        assert!(refusal(&path, rw).contains("only read"), "{rw:?}");
    }
    let place = Place::File(path.clone());
    assert_eq!(
        inspect_file(&place, Rw::Randread).expect("may be read"),
        Some(8192)
    );
    // Even if it appears between the look and the opening.
    assert!(open(&spec(place, Rw::Randwrite), NONCE).is_err());
    assert_eq!(fs::read(&path).expect("still there"), [7; 8192]);
}

#[test]
fn nothing_is_created_under_dev_or_through_a_dangling_link() {
    assert!(refusal(Path::new("/dev/nvme9n9"), Rw::Read).contains("under /dev"));
    let dir = folder();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("/dev/nvme9n9", &link).expect("a link");
    assert!(refusal(&link, Rw::Read).contains("leads nowhere"));
    let to_dev = dir.path().join("dev");
    std::os::unix::fs::symlink("/dev", &to_dev).expect("a link");
    assert!(refusal(&to_dev.join("nvme9n9"), Rw::Read).contains("under /dev"));
    let scratch = Place::Scratch("/dev".into());
    assert!(inspect_file(&scratch, Rw::Read).is_err());
    assert!(!Path::new("/dev/nvme9n9").exists());
    assert!(refusal(&dir.path().join("absent/file"), Rw::Read).contains("absent"));
}

#[test]
fn devices_are_told_from_everything_else() {
    let said = |path: &str, rw| {
        let wish = Wish {
            path: Path::new(path),
            rw,
            flags: 0,
            destroy: None,
        };
        wish.inspect().expect_err(path).to_string()
    };
    assert!(said("/dev/nvme9n9", Rw::Read).contains("No such file"));
    assert!(said("/dev/null", Rw::Read).contains("character device"));
    assert!(said("/", Rw::Read).contains("a folder"));
    assert!(said("/dev/nvme9n9", Rw::Randwrite).contains("No such file"));
    assert!(!Path::new("/dev/nvme9n9").exists());
}

#[test]
fn a_size_is_at_most_what_exists() {
    let place = Place::File("some.data".into());
    let error = choose_size(Some(8192), Some(4096), 1, &place).expect_err("too large");
    assert!(
        error
            .to_string()
            .contains("some.data, which has 4096 bytes"),
        "{error}"
    );
    assert_eq!(
        choose_size(None, Some(4096), 1, &place).expect("all of it"),
        4096
    );
    assert_eq!(choose_size(None, None, 1, &place).expect("the default"), 1);
    assert_eq!(choose_size(Some(5), None, 1, &place).expect("as asked"), 5);
}

#[test]
fn scratch_files_leave_no_name_and_hold_what_was_laid_out() {
    let dir = folder();
    let places = [
        Place::Scratch(dir.path().to_owned()),
        Place::File(dir.path().join("named")),
    ];
    for place in places {
        let target = open(&spec(place, Rw::Randwrite), NONCE).expect("a scratch file");
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 0);
        let Expected::Known(content) = target.expected else {
            panic!("the content of a scratch file is known");
        };
        let untouched = readback::Written {
            record: readback::Record::new(0..256, 256),
            last: Vec::new(),
        };
        let scan = Scan {
            file: &target.file,
            target: "it",
            unit_bytes: 4096,
            options: &EngineOptions::default(),
            interruptible: false,
        };
        let found = readback::check::<Psync>(scan, content, &[untouched]);
        assert_eq!(found.expect("as laid out").untouched, 256);
    }
}

#[test]
fn what_lies_in_a_window_into_the_kernel_is_no_target() {
    assert!(refusal(Path::new("/proc/kcore"), Rw::Read).contains("no storage"));
    let proc = inspect_file(&Place::Scratch("/proc".into()), Rw::Read).expect_err("no folder");
    assert!(
        proc.to_string().contains("window into the kernel"),
        "{proc}"
    );
    // Under another name, too.
    let dev = inspect_file(&Place::Scratch("/proc/self/root/dev".into()), Rw::Read);
    let dev = dev.expect_err("no folder for files").to_string();
    assert!(
        dev.contains("under /dev") || dev.contains("devtmpfs"),
        "{dev}"
    );
}

#[test]
fn a_name_that_changes_its_meaning_changes_nothing() {
    let dir = folder();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    fs::create_dir(&here).expect("a folder");
    fs::create_dir(&there).expect("a folder");
    let pinned = Folder::open("--dir", &here).expect("a good folder");
    fs::rename(&here, dir.path().join("moved")).expect("renamed");
    std::os::unix::fs::symlink(&there, &here).expect("a link");
    let file = pinned.nameless().expect("a scratch file");
    let found = fs::read_link(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&file)
    ));
    let found = found.expect("it is open");
    assert!(
        found.starts_with(dir.path().join("moved")),
        "{}",
        found.display()
    );
}

#[test]
fn too_little_space_is_said_before_anything_is_written() {
    let dir = folder();
    let mut spec = spec(Place::Scratch(dir.path().to_owned()), Rw::Randread);
    spec.size = 1 << 60;
    let error = open(&spec, NONCE).expect_err("no disk is that large");
    assert!(
        error.to_string().contains("bytes, and the file system has"),
        "{error}"
    );
}

#[test]
fn holes_are_flagged() {
    let dir = folder();
    let path = dir.path().join("holes");
    let file = File::create(&path).expect("a file");
    file.set_len(1 << 20).expect("a hole");
    let target = open(&spec(Place::File(path), Rw::Randread), NONCE).expect("readable");
    let codes: Vec<_> = target
        .validity
        .flags
        .iter()
        .map(|flag| flag.code.as_str())
        .collect();
    assert!(
        codes.contains(&"sparse_file") && codes.contains(&"page_cache"),
        "{codes:?}"
    );
}

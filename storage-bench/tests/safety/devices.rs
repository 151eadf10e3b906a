//! Devices and mounts for the tests, taken away when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs a program of the system's; its output, or why there is none.
pub fn system(words: &[&str]) -> Result<String, String> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .env(
            "PATH",
            "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
        )
        .stdin(Stdio::null())
        .output();
    let said = |output: Output| {
        let text = if output.status.success() {
            &output.stdout
        } else {
            &output.stderr
        };
        let text = String::from_utf8_lossy(text).trim().to_owned();
        if output.status.success() {
            Ok(text)
        } else {
            Err(format!("{words:?}: {text}"))
        }
    };
    output
        .map_err(|error| format!("{words:?}: {error}"))
        .and_then(said)
}

/// As [`system`]; `None`, and a line saying why, where that is not to be had here.
pub fn or_skip(words: &[&str]) -> Option<String> {
    system(words).map_err(|why| println!("SKIPPED: {why}")).ok()
}

/// A loop device.
pub struct Loop {
    pub name: String,
    pub image: PathBuf,
}

impl Loop {
    /// Over a new file of 8 MiB, all sevens.
    pub fn new(dir: &Path, image: &str) -> Option<Self> {
        let image = dir.join(image);
        fs::write(&image, vec![7; 8 << 20]).expect("a file");
        Self::over(&image)
    }

    /// Over something that is there.
    pub fn over(image: &Path) -> Option<Self> {
        let path = image.to_str().expect("text");
        let name = or_skip(&["losetup", "--find", "--show", "--partscan", path])?;
        let image = image.to_owned();
        Some(Self { name, image })
    }

    /// What `--destroy` must name.
    pub fn identity(&self) -> String {
        self.image.display().to_string()
    }

    pub fn content(&self) -> Vec<u8> {
        let _ = system(&["blockdev", "--flushbufs", &self.name]);
        fs::read(&self.image).expect("the image is there")
    }

    pub fn is_untouched(&self) -> bool {
        self.content().iter().all(|&byte| byte == 7)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = system(&["losetup", "--detach", &self.name]);
    }
}

/// A mount.
pub struct Mount(PathBuf);

impl Mount {
    /// With `mount`'s words before the folder, which is created.
    pub fn new(words: &[&str], point: &Path) -> Option<Self> {
        fs::create_dir_all(point).expect("a folder");
        let point_text = point.to_str().expect("text");
        or_skip(&[&["mount"], words, &[point_text]].concat())?;
        Some(Self(point.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = system(&["umount", self.0.to_str().expect("text")]);
    }
}

/// A zram device of 8 MiB, which has no serial number.
pub struct Zram(String);

impl Zram {
    pub fn new() -> Option<Self> {
        let added = fs::read_to_string("/sys/class/zram-control/hot_add");
        let number = match added {
            Ok(number) => number.trim().to_owned(),
            Err(error) => {
                println!("SKIPPED: no zram device: {error}");
                return None;
            }
        };
        let zram = Self(number);
        let size = format!("/sys/block/zram{}/disksize", zram.0);
        fs::write(size, "8M").expect("a new zram takes a size");
        Some(zram)
    }

    pub fn name(&self) -> String {
        format!("/dev/zram{}", self.0)
    }

    pub fn identity(&self) -> String {
        format!("zram{}:{}", self.0, 8 << 20)
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        let _ = fs::write(format!("/sys/block/zram{}/reset", self.0), "1");
        let _ = fs::write("/sys/class/zram-control/hot_remove", &self.0);
    }
}

/// A device mapper over all of a device.
pub struct Mapped(String);

impl Mapped {
    pub fn new(name: &str, below: &str) -> Option<Self> {
        let sectors = or_skip(&["blockdev", "--getsz", below])?;
        let table = format!("0 {sectors} linear {below} 0");
        or_skip(&["dmsetup", "create", name, "--table", &table])?;
        Some(Self(name.to_owned()))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let _ = system(&["dmsetup", "remove", &self.0]);
    }
}

//! Where a report goes, and what is never overwritten on the way: `-o` takes a name that the user
//! types, and a disk or a document that stands there by mistake must survive it.

use super::Usage;
use crate::model::SCHEMA_NAME;
use clap::Args;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Where the report goes.
#[derive(Debug, Clone, Default, Args)]
pub struct OutputArgs {
    /// Print the JSON report on standard output, and nothing else there
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// Also write the JSON report to FILE, or into DIR under a name of its own. Of what exists only
    /// reports and empty files are replaced
    #[arg(short, long, value_name = "FILE|DIR", help_heading = "Output")]
    pub output: Option<PathBuf>,
}

/// How much of a file is looked at to tell a report: it begins with its schema.
const HEAD_BYTES: u64 = 512;

impl OutputArgs {
    /// Looks at what stands where the report is to go. Programs ask before they measure, so that
    /// no run is lost to a typing error; [`super::emit`] asks again.
    ///
    /// # Errors
    /// [`Usage`] where writing would destroy something: a block device, a file that is neither a
    /// report nor empty, or a new file under /dev, which would be no file but memory.
    pub fn check(&self) -> Result<(), Usage> {
        let Some(path) = &self.output else {
            return Ok(());
        };
        match refusal(path) {
            Some(why) => Err(Usage(format!("-o {}: {why}", path.display()))),
            None => Ok(()),
        }
    }

    /// Whether `-o` names a folder: one that is there, or one that is to be made.
    #[must_use]
    pub fn names_folder(path: &Path) -> bool {
        path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
    }
}

fn refusal(path: &Path) -> Option<&'static str> {
    match fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() => {
            Some("it is a block device, which the report would overwrite; name a file")
        }
        Ok(found) if found.is_file() && found.len() > 0 && !is_report(path) => Some(
            "it exists and is no report of this suite, and only those are replaced; name another \
             file",
        ),
        Ok(found) if found.is_file() || found.is_dir() => in_dev(path),
        // FIFOs, /dev/stdout and /dev/null are written to and stay what they are.
        Ok(_) => None,
        Err(_) => in_dev(path),
    }
}

/// Whether the nearest folder that exists lies under /dev; only /dev/shm holds files.
fn in_dev(path: &Path) -> Option<&'static str> {
    let real = path
        .ancestors()
        .map(|part| {
            if part.as_os_str().is_empty() {
                Path::new(".")
            } else {
                part
            }
        })
        .find_map(|part| part.canonicalize().ok())?;
    let devices = real.starts_with("/dev") && !real.starts_with("/dev/shm");
    devices.then_some("nothing is created under /dev; name a file elsewhere")
}

/// Whether a file begins as reports do. What cannot be read is none.
fn is_report(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    let head = String::from_utf8_lossy(&head);
    read.is_ok()
        && head.trim_start().starts_with('{')
        && head.contains("\"schema\"")
        && head.contains(SCHEMA_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &Path) -> Result<(), String> {
        let output = OutputArgs {
            json: false,
            output: Some(path.to_owned()),
        };
        output.check().map_err(|usage| usage.to_string())
    }

    #[test]
    fn only_reports_and_empty_files_are_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            fs::write(dir.path().join(name), text).expect("a file");
            dir.path().join(name)
        };
        let report = crate::model::to_json(&crate::fixtures::report(&[("rr", 1.0)]));
        assert_eq!(said(&file("report.json", &report)), Ok(()));
        assert_eq!(said(&file("empty", "")), Ok(()));
        assert_eq!(said(&dir.path().join("new/report.json")), Ok(()));
        assert_eq!(said(dir.path()), Ok(()));
        for text in ["my thesis", "{\"schema\": 1}", "\"schema\" reports"] {
            let why = said(&file("document", text)).expect_err("kept");
            assert!(why.contains("no report of this suite"), "{why}");
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("document"), &link).expect("a link");
        assert!(said(&link).is_err());
    }

    #[test]
    fn nothing_is_created_under_dev() {
        for name in ["/dev/nvme9n9", "/dev/new/report.json", "/dev", "/dev/new/"] {
            let why = said(Path::new(name)).expect_err(name);
            assert!(why.contains("under /dev"), "{why}");
        }
        for name in ["/dev/null", "/dev/stdout", "/dev/shm/report.json"] {
            assert_eq!(said(Path::new(name)), Ok(()), "{name}");
        }
        let disks = fs::read_dir("/dev").expect("it is there").flatten();
        let mut disks = disks.filter(|entry| {
            let kind = entry.file_type();
            kind.is_ok_and(|kind| kind.is_block_device())
        });
        match disks.next() {
            Some(disk) => {
                let why = said(&disk.path()).expect_err("a disk");
                assert!(why.contains("a block device"), "{why}");
            }
            None => println!("SKIPPED: there is no block device in /dev"),
        }
    }
}

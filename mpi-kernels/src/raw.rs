//! Every rank's time of every iteration, as CSV, while the iterations go on: rank 0 writes each
//! batch as it comes, outside of what is timed, so that memory does not grow.
//!
//! As with a report, the file appears whole or not at all: lines go to a nameless neighbour that
//! takes the file's place at the end. What is there and is no regular file (`/dev/stdout`, a FIFO)
//! is written to directly.

use crate::kernels::Row;
use crate::spec::Point;
use anyhow::Context;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const HEADER: &str = "case,size_bytes,iteration,rank,host,ns";

/// What stands in the place of a time where a rank was late for the beginning of the iteration,
/// which makes it invalid for all.
const INVALID: &str = "invalid";

const BUFFER_BYTES: usize = 1 << 20;

/// The file of one run.
pub struct Raw {
    path: PathBuf,
    out: BufWriter<Target>,
    /// Whether lines are missing, so that the file must not appear.
    broken: bool,
}

enum Target {
    /// Takes the path's place at the end.
    New(NamedTempFile),
    /// Is at the path already, and stays.
    Special(File),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::New(file) => file.write(bytes),
            Self::Special(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::New(file) => file.flush(),
            Self::Special(file) => file.flush(),
        }
    }
}

/// A batch of iterations of one point.
pub struct Batch<'a> {
    /// The kernel with its choices, as [`case`] names them.
    pub case: &'a str,
    /// The message's length; `None` for a kernel without messages.
    pub size_bytes: Option<usize>,
    /// The number of the first iteration within the point.
    pub first: u64,
    /// How many there are.
    pub iterations: usize,
    /// Times in nanoseconds, all of rank 0 first, then of rank 1 and so on; [`u64::MAX`] where a
    /// rank was late.
    pub ns: &'a [u64],
}

impl Raw {
    /// Begins a file, with its folder if need be.
    ///
    /// # Errors
    /// What the kernel says of the folder, the file or the disk, and the path.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let told = || told(path);
        let (path, target) = match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                anyhow::bail!("{}: it is a folder: name a file", told())
            }
            Ok(found) if !found.is_file() => {
                let file = OpenOptions::new().write(true).open(path);
                (path.to_owned(), Target::Special(file.with_context(told)?))
            }
            // A link keeps leading where it led.
            Ok(_) => {
                let path = path.canonicalize().with_context(told)?;
                let new = neighbour(&path).with_context(told)?;
                (path, Target::New(new))
            }
            Err(_) => (
                path.to_owned(),
                Target::New(neighbour(path).with_context(told)?),
            ),
        };
        let mut raw = Self {
            path,
            out: BufWriter::with_capacity(BUFFER_BYTES, target),
            broken: false,
        };
        writeln!(raw.out, "{HEADER}").with_context(|| raw.told())?;
        // A full disk is better found before than after the measurement.
        raw.out.flush().with_context(|| raw.told())?;
        Ok(raw)
    }

    /// Adds a batch, iteration by iteration. `host` names a rank's node.
    ///
    /// # Errors
    /// What the kernel says of the disk, and the path.
    pub fn add<'h>(
        &mut self,
        batch: &Batch<'_>,
        host: impl Fn(usize) -> &'h str,
    ) -> anyhow::Result<()> {
        anyhow::ensure!(!self.broken, "{}: it failed before", self.told());
        let written = lines(&mut self.out, batch, host);
        self.broken = written.is_err();
        written.with_context(|| self.told())
    }

    /// Ends the file, and puts it in its place.
    ///
    /// # Errors
    /// What the kernel says of the disk, and the path.
    pub fn finish(self) -> anyhow::Result<()> {
        let told = self.told();
        anyhow::ensure!(!self.broken, "{told}: samples are missing");
        let target = self
            .out
            .into_inner()
            .map_err(|error| error.into_error())
            .with_context(|| told.clone())?;
        if let Target::New(file) = target {
            file.as_file().sync_all().with_context(|| told.clone())?;
            file.persist(&self.path)
                .map_err(|error| error.error)
                .with_context(|| told.clone())?;
        }
        Ok(())
    }

    fn told(&self) -> String {
        told(&self.path)
    }
}

fn told(path: &Path) -> String {
    format!("cannot write the raw samples to {}", path.display())
}

/// A new file beside the path, which will take its place.
fn neighbour(path: &Path) -> std::io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    tempfile::Builder::new()
        .prefix(".raw-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)
}

fn lines<'h>(
    out: &mut impl Write,
    batch: &Batch<'_>,
    host: impl Fn(usize) -> &'h str,
) -> std::io::Result<()> {
    let case = field(batch.case);
    let size = batch.size_bytes.map(|size| size.to_string());
    let size = size.unwrap_or_default();
    let ranks = batch.ns.len() / batch.iterations.max(1);
    let hosts: Vec<String> = (0..ranks).map(|rank| field(host(rank))).collect();
    for index in 0..batch.iterations {
        let iteration = batch.first + index as u64;
        let times = || batch.ns.iter().skip(index).step_by(batch.iterations);
        let is_valid = times().all(|&ns| ns != u64::MAX);
        for ((rank, host), ns) in hosts.iter().enumerate().zip(times()) {
            write!(out, "{case},{size},{iteration},{rank},{host},")?;
            if is_valid {
                writeln!(out, "{ns}")?;
            } else {
                writeln!(out, "{INVALID}")?;
            }
        }
    }
    Ok(())
}

/// A text as a field of CSV (RFC 4180): quoted where it must be.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// The kernel of a point with its choices: `allreduce type=f32`.
#[must_use]
pub fn case(row: &Row, point: &Point) -> String {
    let mut text = row.name.to_owned();
    for (name, value) in &point.choices {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        text += &format!(" {name}={value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Batch<'static> = Batch {
        case: "allreduce type=f32",
        size_bytes: Some(8),
        first: 10,
        iterations: 2,
        ns: &[100, 200, 110, u64::MAX],
    };

    #[test]
    fn lines_go_by_iteration_and_a_late_rank_makes_it_invalid_for_all() {
        let mut out = Vec::new();
        lines(&mut out, &BATCH, |rank| ["a", "b,c"][rank]).expect("memory is enough");
        let expected = "\
            allreduce type=f32,8,10,0,a,100\n\
            allreduce type=f32,8,10,1,\"b,c\",110\n\
            allreduce type=f32,8,11,0,a,invalid\n\
            allreduce type=f32,8,11,1,\"b,c\",invalid\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn a_file_is_replaced_at_the_end_and_not_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/raw.csv");
        let mut raw = Raw::create(&path).expect("the folder is made");
        raw.add(&BATCH, |_| "host").expect("the disk has room");
        assert!(!path.exists());
        raw.finish().expect("it takes its place");
        let text = fs::read_to_string(&path).expect("it is there");
        assert_eq!(
            (text.lines().next(), text.lines().count()),
            (Some(HEADER), 5)
        );
        drop(Raw::create(&path).expect("it begins"));
        assert_eq!(fs::read_to_string(&path).expect("there"), text);
        assert_eq!(
            fs::read_dir(folder.path().join("new"))
                .expect("there")
                .count(),
            1
        );
    }

    #[test]
    fn full_disks_and_folders_are_refused_at_the_start() {
        let refused = |path: &str| match Raw::create(Path::new(path)) {
            Err(error) => format!("{error:#}"),
            Ok(_) => panic!("{path} cannot be written"),
        };
        assert!(refused("/dev/full").contains("No space left"));
        assert!(refused("/").contains("it is a folder"));
        assert!(refused("/proc/nowhere/raw.csv").contains("/proc/nowhere/raw.csv"));
    }
}
